/* coordinator/text/bpe_vocab.h - which bytes each token id stands for, and back.
 * Owns: the bytes of all pieces, the look-up by bytes, the byte alphabet of tokenizer.json files.
 * Not here: merges (bpe.h), matching of added tokens in text (tokenizer_added.h). */
#ifndef PHX_COORDINATOR_TEXT_BPE_VOCAB_H
#define PHX_COORDINATOR_TEXT_BPE_VOCAB_H

#include "base/status.h"
#include "base/str.h"

enum {
    PHX_PIECE_PRESENT = 1 << 0,
    PHX_PIECE_ADDED = 1 << 1,  /* listed in added_tokens */
    PHX_PIECE_SPECIAL = 1 << 2 /* and marked special there */
};

typedef struct phx_vocab phx_vocab;

/* Room for ids 0 to n_ids - 1 and n_bytes bytes of pieces. Destroy with phx_vocab_destroy. */
phx_code phx_vocab_create(uint32_t n_ids, size_t n_bytes, phx_vocab **ret_vocab, phx_error *err);
void phx_vocab_destroy(phx_vocab *vocab); /* accepts NULL */

/* Copies the bytes. id must be in range and free. findable: phx_vocab_find shall see it; two findable pieces
 * may not be equal: false, nothing stored. */
bool phx_vocab_put(phx_vocab *vocab, uint32_t id, phx_str piece, bool findable);
void phx_vocab_mark(phx_vocab *vocab, uint32_t id, uint8_t flags); /* adds flags to a present piece */

uint32_t phx_vocab_n_ids(const phx_vocab *vocab);
phx_str phx_vocab_piece(const phx_vocab *vocab, uint32_t id); /* empty for a free or out of range id */
uint8_t phx_vocab_flags(const phx_vocab *vocab, uint32_t id); /* 0 for a free or out of range id */
bool phx_vocab_find(const phx_vocab *vocab, phx_str piece, uint32_t *ret_id);

/* Byte-level files write each byte as one character (GPT-2's alphabet). Undoes that into to[text.n] and
 * returns true, or returns false when a character is outside of the alphabet. text must be valid UTF-8. */
bool phx_byte_alphabet_decode(phx_str text, char *to, size_t *ret_n);

#endif
