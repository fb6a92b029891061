/* coordinator/text/pyjson.h - JSON text exactly as Python's json.dumps(value, ensure_ascii=False) prints it.
 * Owns: the separators ", " and ": ", Python's float repr and its string escapes. Prompts embed JSON, and a
 * model saw this form in training, so every byte counts. Not here: reading JSON, and the compact writer of
 * answers (base/json.h). */
#ifndef PHX_COORDINATOR_TEXT_PYJSON_H
#define PHX_COORDINATOR_TEXT_PYJSON_H

#include "base/json.h"

#define PHX_PYJSON_DEPTH_MAX 128u

/* Appends one value, members in the order of the text. PHX_ERR_TOO_LONG when nested deeper than
 * PHX_PYJSON_DEPTH_MAX or when the buffer's ceiling is reached, PHX_ERR_NOMEM; the buffer latches the
 * failure. */
phx_code phx_pyjson_node(phx_buf *buf, const phx_json *node);

/* A quoted string: escapes ", \ and control characters, keeps the rest; invalid UTF-8 becomes U+FFFD. */
phx_code phx_pyjson_str(phx_buf *buf, phx_str value);

/* The same without the quotes, for a string that is written in pieces (each a run of whole characters). */
phx_code phx_pyjson_str_body(phx_buf *buf, phx_str value);

/* repr(float): the shortest digits that read back equal; 1.0, 1e-05, 1e+16, inf and nan as Infinity and NaN.
 */
phx_code phx_pyjson_f64(phx_buf *buf, double value);

#endif
