/* coordinator/text/detokenize.h - a stream of token ids into a stream of text, and stop strings in it.
 * Owns: the bytes of a character that is not complete yet; the text that may be the start of a stop string.
 * Not here: which ids end an answer (the scheduler's stop ids), reasoning and tool calls (output_parser.h).
 */
#ifndef PHX_COORDINATOR_TEXT_DETOKENIZE_H
#define PHX_COORDINATOR_TEXT_DETOKENIZE_H

#include "base/buf.h"
#include "base/limits.h"
#include "coordinator/text/tokenizer.h"

/* One stream; fields are private. Holds at most 3 bytes, no memory of its own: copy it to fork a stream. */
typedef struct phx_detokenizer {
    const phx_tokenizer *tokenizer;
    bool skip_special;
    uint8_t held[4]; /* the valid beginning of a character */
    uint8_t n_held;
    uint8_t n_char; /* bytes that the character will have */
} phx_detokenizer;

/* skip_special: ids that the tokenizer marks special give no text. */
void phx_detokenizer_init(phx_detokenizer *d, const phx_tokenizer *tokenizer, bool skip_special);

/* Appends the whole characters that the id completes; always valid UTF-8. Bytes that can be no character
 * become U+FFFD, one per maximal invalid part (as Python's errors="replace" and Rust's from_utf8_lossy). An
 * id without a token (the padding of a vocabulary) gives no text. Returns the buffer's code. */
phx_code phx_detokenizer_feed(phx_detokenizer *d, uint32_t id, phx_buf *text);

/* The end of the stream: an incomplete character becomes one U+FFFD. The stream may begin anew. */
phx_code phx_detokenizer_flush(phx_detokenizer *d, phx_buf *text);

#define PHX_STOP_NONE UINT32_MAX

/* One stream's search for stop strings. */
typedef struct phx_stop_matcher phx_stop_matcher;

/* Stops are copied: valid UTF-8, not empty (PHX_ERR_INVALID), at most PHX_STOP_STRINGS_MAX of
 * PHX_STOP_BYTES_MAX bytes (PHX_ERR_TOO_LONG). n_stops may be 0: text passes unchanged. include_stop: the
 * text ends behind the stop string, not before it. Destroy with phx_stop_matcher_destroy. */
phx_code phx_stop_matcher_create(const phx_str *stops, size_t n_stops, bool include_stop,
                                 phx_stop_matcher **ret_matcher, phx_error *err);
void phx_stop_matcher_destroy(phx_stop_matcher *matcher); /* accepts NULL */

/* Appends the text that can no longer belong to a stop string; holds back the rest. The match is the one that
 * ends first, of those the longest, however the text is cut into chunks. After a match nothing more is
 * appended. text must be whole characters, then so is what is appended. Returns the buffer's code. */
phx_code phx_stop_matcher_feed(phx_stop_matcher *matcher, phx_str text, phx_buf *out);

/* The end of the stream: appends what was held back, unless a stop string matched. */
phx_code phx_stop_matcher_flush(phx_stop_matcher *matcher, phx_buf *out);

/* Index of the stop string that matched, or PHX_STOP_NONE. */
uint32_t phx_stop_matcher_match(const phx_stop_matcher *matcher);

#endif
