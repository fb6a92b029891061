/* coordinator/text/detokenize.c - bytes of tokens into whole characters.
 * Not here: stop strings (detokenize_stop.c). */
#include "coordinator/text/detokenize.h"

#define REPLACEMENT "\xEF\xBF\xBD"

void phx_detokenizer_init(phx_detokenizer *d, const phx_tokenizer *tokenizer, bool skip_special)
{
    *d = (phx_detokenizer){.tokenizer = tokenizer, .skip_special = skip_special};
}

/* Bytes of the character that `first` begins; 0: none begins with it. */
static uint8_t char_bytes(uint8_t first)
{
    if (first < 0x80)
        return 1;
    if (first < 0xC2 || first > 0xF4)
        return 0;
    return first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}

/* Whether byte can follow what is held. The second byte rules out overlong forms, surrogates and values past
 * U+10FFFF (Unicode 16, table 3-7). */
static bool can_follow(const phx_detokenizer *d, uint8_t byte)
{
    uint8_t low = 0x80;
    uint8_t high = 0xBF;
    if (d->n_held == 1) {
        low = d->held[0] == 0xE0 ? 0xA0 : d->held[0] == 0xF0 ? 0x90 : 0x80;
        high = d->held[0] == 0xED ? 0x9F : d->held[0] == 0xF4 ? 0x8F : 0xBF;
    }
    return byte >= low && byte <= high;
}

static void feed_byte(phx_detokenizer *d, uint8_t byte, phx_buf *text)
{
    if (d->n_held > 0 && !can_follow(d, byte))
        (void)phx_detokenizer_flush(d, text); /* the byte begins something else */
    if (d->n_held == 0) {
        d->n_char = char_bytes(byte);
        if (d->n_char == 0) {
            (void)phx_buf_str(text, REPLACEMENT);
            return;
        }
    }
    d->held[d->n_held++] = byte;
    if (d->n_held == d->n_char) {
        (void)phx_buf_append(text, d->held, d->n_held);
        d->n_held = 0;
    }
}

phx_code phx_detokenizer_feed(phx_detokenizer *d, uint32_t id, phx_buf *text)
{
    phx_str piece;
    if (!phx_tokenizer_piece(d->tokenizer, id, &piece))
        return text->code;
    if (d->skip_special && phx_tokenizer_is_special(d->tokenizer, id))
        return text->code;
    for (size_t i = 0; i < piece.n; i++)
        feed_byte(d, (uint8_t)piece.ptr[i], text);
    return text->code;
}

phx_code phx_detokenizer_flush(phx_detokenizer *d, phx_buf *text)
{
    if (d->n_held > 0)
        (void)phx_buf_str(text, REPLACEMENT);
    d->n_held = 0;
    return text->code;
}
