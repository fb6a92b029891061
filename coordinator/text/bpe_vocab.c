/* coordinator/text/bpe_vocab.c - pieces in one block of bytes, found by an open-addressing table of ids. */
#include "coordinator/text/bpe_vocab.h"
#include "coordinator/text/unicode.h"
#include "base/alloc.h"

#include <assert.h>

typedef struct piece_entry {
    uint32_t at; /* first byte */
    uint32_t n;  /* bytes */
    uint8_t flags;
} piece_entry;

struct phx_vocab {
    uint32_t n_ids;
    uint32_t slot_mask;
    size_t n_bytes; /* used */
    size_t n_bytes_max;
    char *bytes;         /* [n_bytes_max] */
    piece_entry *pieces; /* [n_ids] */
    uint32_t *slots;     /* [slot_mask + 1], id + 1 or 0 */
};

phx_code phx_vocab_create(uint32_t n_ids, size_t n_bytes, phx_vocab **ret_vocab, phx_error *err)
{
    phx_code rc = PHX_OK;
    size_t n_slots = 2;
    assert(n_ids < UINT32_MAX / 4);
    assert(n_bytes <= UINT32_MAX);
    while (n_slots < (size_t)n_ids * 2)
        n_slots *= 2;
    phx_vocab *v = phx_alloc(1, sizeof(*v));
    if (!v) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "vocabulary");
        goto out;
    }
    v->n_ids = n_ids;
    v->slot_mask = (uint32_t)(n_slots - 1);
    v->n_bytes_max = n_bytes;
    v->bytes = phx_alloc(n_bytes + 1, 1);
    v->pieces = phx_alloc((size_t)n_ids + 1, sizeof(*v->pieces));
    v->slots = phx_alloc(n_slots, sizeof(*v->slots));
    if (!v->bytes || !v->pieces || !v->slots) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "vocabulary of %u ids, %zu bytes", n_ids, n_bytes);
        goto out;
    }
    *ret_vocab = v;
    v = NULL;
out:
    phx_vocab_destroy(v);
    return rc;
}

void phx_vocab_destroy(phx_vocab *vocab)
{
    if (!vocab)
        return;
    phx_free(vocab->bytes);
    phx_free(vocab->pieces);
    phx_free(vocab->slots);
    phx_free(vocab);
}

static phx_str piece_of(const phx_vocab *v, uint32_t id)
{
    return (phx_str){v->bytes + v->pieces[id].at, v->pieces[id].n};
}

/* The slot that holds the piece, or the free one where it belongs. */
static uint32_t slot_of(const phx_vocab *v, phx_str piece)
{
    uint32_t slot = phx_str_hash(piece) & v->slot_mask;
    while (v->slots[slot] && !phx_str_eq(piece_of(v, v->slots[slot] - 1), piece))
        slot = (slot + 1) & v->slot_mask;
    return slot;
}

bool phx_vocab_put(phx_vocab *v, uint32_t id, phx_str piece, bool findable)
{
    assert(id < v->n_ids);
    assert(!v->pieces[id].flags);
    assert(piece.n <= v->n_bytes_max - v->n_bytes);
    if (findable) {
        const uint32_t slot = slot_of(v, piece);
        if (v->slots[slot])
            return false;
        v->slots[slot] = id + 1;
    }
    memcpy(v->bytes + v->n_bytes, piece.ptr, piece.n);
    v->pieces[id] = (piece_entry){(uint32_t)v->n_bytes, (uint32_t)piece.n, PHX_PIECE_PRESENT};
    v->n_bytes += piece.n;
    return true;
}

void phx_vocab_mark(phx_vocab *v, uint32_t id, uint8_t flags)
{
    assert(id < v->n_ids);
    assert(v->pieces[id].flags);
    v->pieces[id].flags |= flags;
}

uint32_t phx_vocab_n_ids(const phx_vocab *v)
{
    return v->n_ids;
}

phx_str phx_vocab_piece(const phx_vocab *v, uint32_t id)
{
    return id < v->n_ids ? piece_of(v, id) : (phx_str){v->bytes, 0};
}

uint8_t phx_vocab_flags(const phx_vocab *v, uint32_t id)
{
    return id < v->n_ids ? v->pieces[id].flags : 0;
}

bool phx_vocab_find(const phx_vocab *v, phx_str piece, uint32_t *ret_id)
{
    const uint32_t slot = slot_of(v, piece);
    if (!v->slots[slot])
        return false;
    *ret_id = v->slots[slot] - 1;
    return true;
}

/* Bytes that print stand for themselves; the other 68, in order, for U+0100 and up. */
static int byte_of(uint32_t c)
{
    if ((c >= 33 && c <= 126) || (c >= 161 && c <= 255 && c != 173))
        return (int)c;
    if (c >= 256 && c < 256 + 33)
        return (int)(c - 256);
    if (c >= 256 + 33 && c < 256 + 67)
        return (int)(c - (256 + 33) + 127);
    return c == 256 + 67 ? 173 : -1;
}

bool phx_byte_alphabet_decode(phx_str text, char *to, size_t *ret_n)
{
    size_t n = 0;
    for (size_t at = 0; at < text.n;) {
        uint32_t c = 0;
        at += phx_utf8_decode(text.ptr + at, text.n - at, &c);
        const int byte = byte_of(c);
        if (byte < 0)
            return false;
        to[n++] = (char)byte;
    }
    *ret_n = n;
    return true;
}
