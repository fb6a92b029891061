/* coordinator/text/unicode.c - looks up the class of a code point in the generated table.
 * Owns: the meaning of the table's letters.
 * Not here: the table (unicode_table.c, written by launch/gen-unicode). */
#include "coordinator/text/unicode.h"
#include "coordinator/text/unicode_table.h"

#include <assert.h>

/* Small letters of M, N, P, S and h: the same class within Script=Han. */
static const uint16_t letter_flags[128] = {
    ['-'] = 0,
    ['w'] = PHX_CHAR_SPACE,
    ['U'] = PHX_CHAR_UPPER,
    ['l'] = PHX_CHAR_LOWER,
    ['o'] = PHX_CHAR_OTHER_LETTER,
    ['h'] = PHX_CHAR_OTHER_LETTER | PHX_CHAR_HAN,
    ['M'] = PHX_CHAR_MARK,
    ['m'] = PHX_CHAR_MARK | PHX_CHAR_HAN,
    ['N'] = PHX_CHAR_NUMBER,
    ['n'] = PHX_CHAR_NUMBER | PHX_CHAR_HAN,
    ['P'] = PHX_CHAR_PUNCTUATION,
    ['p'] = PHX_CHAR_PUNCTUATION | PHX_CHAR_HAN,
    ['S'] = PHX_CHAR_SYMBOL,
    ['s'] = PHX_CHAR_SYMBOL | PHX_CHAR_HAN,
};

uint32_t phx_char_flags(uint32_t code_point)
{
    if (code_point >= phx_unicode_end)
        return code_point >= phx_unicode_far_first && code_point <= phx_unicode_far_last ? PHX_CHAR_MARK : 0;
    const uint8_t block = phx_unicode_index[code_point / PHX_UNICODE_BLOCK];
    return letter_flags[(uint8_t)phx_unicode_blocks[block][code_point % PHX_UNICODE_BLOCK] & 127u];
}

size_t phx_utf8_decode(const char *ptr, size_t n, uint32_t *ret_code_point)
{
    const uint8_t *b = (const uint8_t *)ptr;
    assert(n > 0);
    if (b[0] < 0x80) {
        *ret_code_point = b[0];
        return 1;
    }
    const size_t n_char = b[0] < 0xE0 ? 2 : b[0] < 0xF0 ? 3 : 4;
    assert(n_char <= n);
    uint32_t value = b[0] & (0x7Fu >> n_char);
    for (size_t i = 1; i < n_char; i++)
        value = value << 6 | (b[i] & 0x3Fu);
    *ret_code_point = value;
    return n_char;
}
