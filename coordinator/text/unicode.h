/* coordinator/text/unicode.h - what kind of character a code point is, and UTF-8 decoding.
 * Owns: the class bits of Unicode 16.0.0, the version the reference tokenizers behave as.
 * Not here: normalisation, case mapping; whether bytes are valid UTF-8 (base/str.h). */
#ifndef PHX_COORDINATOR_TEXT_UNICODE_H
#define PHX_COORDINATOR_TEXT_UNICODE_H

#include <stddef.h>
#include <stdint.h>

enum {
    PHX_CHAR_UPPER = 1 << 0,        /* Lu, Lt */
    PHX_CHAR_LOWER = 1 << 1,        /* Ll */
    PHX_CHAR_OTHER_LETTER = 1 << 2, /* Lm, Lo */
    PHX_CHAR_MARK = 1 << 3,         /* M */
    PHX_CHAR_NUMBER = 1 << 4,       /* N */
    PHX_CHAR_PUNCTUATION = 1 << 5,  /* P */
    PHX_CHAR_SYMBOL = 1 << 6,       /* S */
    PHX_CHAR_SPACE = 1 << 7,        /* the White_Space property: \s of the reference's regex engine */
    PHX_CHAR_HAN = 1 << 8,          /* Script=Han */
    PHX_CHAR_LETTER = PHX_CHAR_UPPER | PHX_CHAR_LOWER | PHX_CHAR_OTHER_LETTER
};

/* PHX_CHAR_ bits; 0 for controls, unassigned code points and anything past U+10FFFF. */
uint32_t phx_char_flags(uint32_t code_point);

/* Decodes the character at ptr; the n > 0 bytes there must be valid UTF-8. Returns its bytes, 1 to 4. */
size_t phx_utf8_decode(const char *ptr, size_t n, uint32_t *ret_code_point);

#endif
