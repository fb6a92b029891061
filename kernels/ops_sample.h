/* kernels/ops_sample.h - the ops between one step's logits and the next step's tokens: contracts and types.
 * They follow the common rules of ops.h, which includes this header. Owns: what a row's token depends on, how
 * a choice is told. Not here: the candidates' ops (vocab_top and noisy_top in ops.h), the walk that chooses
 * (choose.h). All are exact: every implementation gives the same bits. */
#ifndef PHX_KERNELS_OPS_SAMPLE_H
#define PHX_KERNELS_OPS_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "kernels/pool.h"
#include "model/dtype.h"

/* The token of each row: ids[r], or where that is negative the last token of slot slots[r]; a row with
 * neither (slots[r] < 0) has token -1. local[r] = tokens[r] - first_id where it lies in [first_id, end_id),
 * else -1. */
typedef struct phx_feed_tokens_args {
    const int32_t *ids;   /* [n_rows] */
    const int32_t *slots; /* [n_rows] */
    const int32_t *last;  /* [n_slots] */
    int64_t n_rows;
    int64_t first_id;
    int64_t end_id;
    int32_t *tokens; /* [n_rows] */
    int32_t *local;  /* [n_rows] */
} phx_feed_tokens_args;
typedef void phx_feed_tokens_fn(phx_pool *pool, const phx_feed_tokens_args *args);

/* last[slots[i]] = tokens[i] where slots[i] >= 0; no slot is named twice. */
typedef struct phx_put_tokens_args {
    const int32_t *slots;  /* [n] */
    const int32_t *tokens; /* [n] */
    int64_t n;
    int32_t *last; /* [n_slots] */
} phx_put_tokens_args;
typedef void phx_put_tokens_fn(phx_pool *pool, const phx_put_tokens_args *args);

/* A count of one token in one slot: bit 0, whether it was in prompt or output; above it, how often in the
 * output. */
#define PHX_COUNT_SEEN   1u
#define PHX_COUNT_OUTPUT 2u

/* Row r counts tokens[r] for slot counted[r] >> 1, as output when bit 0 of counted[r] is set; not at all when
 * counted[r] < 0 or the token is not in [first_id, first_id + n_cols). */
typedef struct phx_count_tokens_args {
    const int32_t *tokens;  /* [n_rows] */
    const int32_t *counted; /* [n_rows] */
    int64_t n_rows;
    int64_t first_id;
    int64_t n_cols;
    uint32_t *counts; /* [n_slots][n_cols] */
} phx_count_tokens_args;
typedef void phx_count_tokens_fn(phx_pool *pool, const phx_count_tokens_args *args);

/* counts[i] = 0, i < n. */
typedef struct phx_clear_counts_args {
    uint32_t *counts;
    int64_t n;
} phx_clear_counts_args;
typedef void phx_clear_counts_fn(phx_pool *pool, const phx_clear_counts_args *args);

typedef struct phx_sample_row { /* how the token of a row is chosen; said anew in every step */
    int32_t slot;               /* -1: none is chosen */
    float temperature;          /* 0: the largest logit */
    float top_p;                /* 1: off */
    float min_p;                /* 0: off */
    uint32_t top_k;             /* 0: off */
    float presence_penalty;     /* over output tokens */
    float frequency_penalty;
    float repetition_penalty; /* over prompt and output; 1: off */
    uint32_t counting;        /* 1: some penalty is on */
    uint32_t n_bias;
    uint32_t n_top; /* largest logits that are told */
    int32_t place;  /* in `last`, that takes the token; -1: none does */
} phx_sample_row;

/* Per row with a slot: logits[bias_ids[i]] += bias[i], i < n_bias, ascending; then, when counting, for every
 * column: seen tokens are divided by repetition_penalty when positive, else multiplied by it; then minus
 * count * frequency_penalty + presence_penalty where the count (at most 65535) is not 0. */
typedef struct phx_penalise_args {
    float *logits; /* [n_rows][n_cols] local columns */
    int64_t n_rows;
    int64_t n_cols;
    int64_t first_id;           /* of column 0; bias of other columns is another rank's */
    const phx_sample_row *rows; /* [n_rows] */
    const uint32_t *counts;     /* [n_slots][n_cols] */
    const int32_t *bias_ids;    /* [n_slots][bias_stride] */
    const float *bias;          /* [n_slots][bias_stride] */
    int64_t bias_stride;
} phx_penalise_args;
typedef void phx_penalise_fn(phx_pool *pool, const phx_penalise_args *args);

#define PHX_COUNT_MAX 65535u
#define PHX_COUNT_OF(count) \
    ((count) / PHX_COUNT_OUTPUT < PHX_COUNT_MAX ? (count) / PHX_COUNT_OUTPUT : PHX_COUNT_MAX)

/* What the vocabulary leaves of one rank offer for n_rows rows, as sections of one array of 4-byte words, in
 * the order of the fields; each rank of a stage brings such a share. */
typedef struct phx_offers {
    float *lse;          /* [n_rows][n_leaves][2]: phx_vocab_top_fn */
    float *noisy;        /* [n_rows][n_leaves] logit / T + noise: phx_noisy_top_fn */
    int32_t *noisy_ids;  /* [n_rows][n_leaves] */
    float *noisy_logits; /* [n_rows][n_leaves] */
    int32_t *ids;        /* [n_rows][n_leaves][n_top] */
    float *values;       /* [n_rows][n_leaves][n_top] */
} phx_offers;

typedef struct phx_offers_shape {
    int64_t n_rows;
    uint32_t n_leaves; /* of a share */
    uint32_t n_top;
} phx_offers_shape;

PHX_HOST_DEVICE static inline int64_t phx_offers_words(phx_offers_shape shape)
{
    return shape.n_rows * shape.n_leaves * (5 + 2 * (int64_t)shape.n_top);
}

PHX_HOST_DEVICE static inline phx_offers phx_offers_in(uint32_t *words, phx_offers_shape shape)
{
    const int64_t cells = shape.n_rows * shape.n_leaves;
    float *numbers = (float *)(void *)words;
    int32_t *ids = (int32_t *)(void *)words;
    const phx_offers offers = {numbers,         numbers + 2 * cells,
                               ids + 3 * cells, numbers + 4 * cells,
                               ids + 5 * cells, numbers + (5 + (int64_t)shape.n_top) * cells};
    return offers;
}

#define PHX_OFFERED_MAX  512 /* candidates of a row: all leaves' */
#define PHX_OFFERING_MAX 8   /* leaves */

typedef enum phx_choice_state {
    PHX_CHOICE_NONE, /* the row has no slot */
    PHX_CHOICE_MADE,
    PHX_CHOICE_BEYOND, /* a filter reaches further than the candidates: choose from all logits of the row */
    PHX_CHOICE_BAD     /* a log-sum-exp is not finite */
} phx_choice_state;

typedef struct phx_choice_top {
    int32_t id;
    float logprob;
} phx_choice_top;

typedef struct phx_choice {
    int32_t state;
    int32_t id;    /* -1 unless made */
    float logprob; /* at temperature 1 */
    float lse;     /* of the row, at temperature 1 and at its own */
    float lse_tempered;
    uint32_t n_top; /* the largest logits, as many as the row asks for */
    phx_choice_top top[PHX_TOP_LOGPROBS_MAX];
} phx_choice;

/* Chooses the token of each row from the offers of all leaves, by the rules of choose.h, and puts it in the
 * row's place; other places keep what they have. Leaf l of all L = n_shares * n_leaves holds tokens
 * floor(l * n_vocab / L) up to the next leaf's first; log-sum-exps are merged leaf 0 first. L <=
 * PHX_OFFERING_MAX and L * n_top <= PHX_OFFERED_MAX; rows ask for at most n_top largest logits. */
typedef struct phx_choose_args {
    const uint32_t *offers; /* [n_shares][phx_offers_words] */
    phx_offers_shape shape; /* of a share; n_rows: of the step */
    uint32_t n_shares;
    int64_t n_vocab;
    const phx_sample_row *rows;   /* [n_rows] */
    const float *inv_temperature; /* [n_rows] */
    const uint64_t *noise;        /* [n_rows][4]: phx_noisy_top_fn */
    phx_choice *choices;          /* [n_rows] */
    int32_t *last;                /* [n_places] */
} phx_choose_args;
typedef void phx_choose_fn(phx_pool *pool, const phx_choose_args *args);

#endif
