/* coordinator/text/unicode_table.h - the generated two-stage table of code point classes.
 * Owns: the declarations that unicode.c and the generated unicode_table.c share. Others use unicode.h. */
#ifndef PHX_COORDINATOR_TEXT_UNICODE_TABLE_H
#define PHX_COORDINATOR_TEXT_UNICODE_TABLE_H

#include <stdint.h>

#define PHX_UNICODE_BLOCK 128u

extern const uint32_t phx_unicode_end;       /* first code point past the table; a multiple of the block */
extern const uint32_t phx_unicode_far_first; /* marks beyond the end, so that the index stays short */
extern const uint32_t phx_unicode_far_last;
extern const uint8_t phx_unicode_index[];                      /* [end / block] */
extern const char phx_unicode_blocks[][PHX_UNICODE_BLOCK + 1]; /* one class letter per code point */

#endif
