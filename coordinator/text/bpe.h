/* coordinator/text/bpe.h - byte-pair merging of one piece.
 * Owns: the merge table, the order in which merges happen.
 * Not here: cutting text into pieces (scanner.h), the vocabulary's bytes (bpe_vocab.h). */
#ifndef PHX_COORDINATOR_TEXT_BPE_H
#define PHX_COORDINATOR_TEXT_BPE_H

#include "base/status.h"
#include "base/str.h"
#include "coordinator/text/bpe_vocab.h"

typedef struct phx_bpe phx_bpe;

/* vocab is borrowed and must live longer; it must hold all 256 single bytes (PHX_ERR_CORRUPT names the first
 * that is missing). whole_first: a piece that is one token becomes that token without merging (the files call
 * this ignore_merges). Destroy with phx_bpe_destroy. */
phx_code phx_bpe_create(const phx_vocab *vocab, size_t n_merges, bool whole_first, phx_bpe **ret_bpe,
                        phx_error *err);

/* The same for a vocabulary without a merge list (tiktoken): neighbours merge when the vocabulary has their
 * joined bytes, those of the lowest id first; a whole piece that is a token stays whole. n_longest: bytes of
 * the longest piece of vocab, at least 1. No phx_bpe_add_merge. */
phx_code phx_bpe_create_ranks(const phx_vocab *vocab, size_t n_longest, phx_bpe **ret_bpe, phx_error *err);
void phx_bpe_destroy(phx_bpe *bpe); /* accepts NULL */

typedef struct phx_bpe_merge {
    uint32_t left;
    uint32_t right;
    uint32_t rank; /* lower merges first */
    uint32_t id;   /* of the joined piece */
} phx_bpe_merge;

/* At most n_merges times. The same pair again replaces its rank, as the reference does. */
void phx_bpe_add_merge(phx_bpe *bpe, phx_bpe_merge merge);

/* Memory of an encoding, grown to the longest piece; one per thread. Start with {0}. */
typedef struct phx_bpe_work {
    struct phx_bpe_symbol *symbols; /* [cap] */
    struct phx_bpe_entry *heap;     /* [2 cap] */
    size_t n_heap;
    size_t cap;     /* bytes of a piece that fit */
    uint64_t n_ops; /* heap moves and merge look-ups so far: the tests' guard against quadratic time */
} phx_bpe_work;

void phx_bpe_work_done(phx_bpe_work *work);

/* Where ids go: fails with PHX_ERR_TOO_LONG when n would pass n_max. */
typedef struct phx_id_list {
    uint32_t *ids;
    size_t n;
    size_t n_max;
} phx_id_list;

phx_code phx_id_list_add(phx_id_list *list, uint32_t id, phx_error *err);

/* Appends the ids of the piece's bytes (any bytes, fewer than 2^31). Time n log n; at once when even the
 * longest tokens would not fit the list. */
phx_code phx_bpe_encode(const phx_bpe *bpe, phx_str piece, phx_bpe_work *work, phx_id_list *list,
                        phx_error *err);

#endif
