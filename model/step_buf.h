/* model/step_buf.h - every buffer of a step, its shape and size, as one table.
 * Owns: the shapes that planner (bytes) and executor (pointers) share, so that the plan's account is the
 * allocation. Not here: weights and cache (model/plan.h), what the numbers mean (worker/exec). */
#ifndef PHX_MODEL_STEP_BUF_H
#define PHX_MODEL_STEP_BUF_H

#include "base/arena.h"
#include "base/limits.h"
#include "model/plan.h"

#define PHX_SCORE_ROWS    32u /* query rows whose index scores are held at once */
#define PHX_LOGIT_ROWS    64u /* rows whose logits are held at once; a step with more works in pieces */
#define PHX_VOCAB_TOP     64u /* candidates each vocabulary leaf offers (DESIGN 3) */
#define PHX_EXPANDED_ROWS 64u /* keys of the expanded form held for the self-check in deterministic mode */

/* Splits of 256 positions that a device computes apart at most, for 16 heads: 135 MB for 512 latent numbers.
 * Steps with more do not cut rows. */
#define PHX_ATTENTION_PARTS_MAX 4096u

/* n_tokens = rows of a step; _rank = local to this rank. Activations ("act") hold numerics.act numbers.
 * Where ops run on a device there are two of these: one of device memory, one of what the host reads or
 * writes; step_buf.c says which buffers lie where. On the CPU both hold the same pointers. */
typedef struct phx_step_buf {
    int32_t *ids;           /* [n_tokens] token id, or -1: that of id_slots */
    int32_t *id_slots;      /* [n_tokens] slot whose last token is taken, or -1 */
    int32_t *tokens;        /* [n_tokens] token id, from either */
    int32_t *token_ids;     /* [n_tokens] local embedding row or -1 */
    int32_t *counted;       /* [n_tokens] last stage: phx_count_tokens_fn */
    int32_t *positions;     /* [n_tokens] */
    int64_t *entries;       /* [n_tokens] cache entry of each token */
    int32_t *n_keys;        /* [n_tokens] position + 1 */
    const int32_t **blocks; /* [n_tokens] block table of the token's slot */
    float *hidden;          /* [n_tokens][d_hidden] residual stream, f32 */
    float *partial;         /* [n_tokens][d_hidden] leaf sums before and after the exchange */
    float *norm;            /* [n_tokens][d_hidden] f32: router, index weights */
    uint8_t *norm_act;      /* [n_tokens][d_hidden] act */
    float *q_a;             /* [n_tokens][q_lora] */
    uint8_t *q_a_act;       /* [n_tokens][q_lora] act, normalised: feeds q_b and the indexer */
    float *latent;          /* [n_tokens][kv_lora + d_rope] */
    float *q;               /* [n_tokens][n_heads_rank][d_nope + d_rope] */
    uint8_t *q_act;         /* [n_tokens][n_heads_rank][d_nope + d_rope] act */
    float *q_latent;        /* [n_tokens][n_heads_rank][kv_lora + d_rope] */
    float *attention_parts; /* on a device: partial results of attention, then rows that a product rounds */
    uint8_t *o_latent;      /* [n_tokens][n_heads_rank][kv_lora] act */
    float *heads;           /* [n_tokens][n_heads_rank][d_v] */
    uint8_t *heads_act;     /* [n_tokens][n_heads_rank][d_v] act */
    float *expanded;        /* [expanded rows][n_heads_rank][d_nope + d_v] */
    float *expanded_key;    /* [expanded rows][kv_lora], then [expanded rows][d_rope]: entries widened */
    float *index_q;         /* [n_tokens][index_n_heads][index_d] */
    float *index_k;         /* [n_tokens][index_d] */
    float *index_w;         /* [n_tokens][index_n_heads] */
    float *index_scores;    /* [PHX_SCORE_ROWS][n_context] */
    int32_t *selected;      /* [n_tokens][index_topk] */
    int32_t *n_selected;    /* [n_tokens] */
    float *router;          /* [n_tokens][n_experts] */
    int32_t *expert_ids;    /* [n_tokens][n_experts_used] ascending */
    float *expert_weights;  /* [n_tokens][n_experts_used] */
    int64_t *expert_first;  /* [n_experts + 1] */
    int32_t *entry_token;   /* [n_tokens * n_experts_used] */
    float *entry_weight;    /* [n_tokens * n_experts_used] */
    int64_t *token_first;   /* [n_tokens + 1] */
    int32_t *token_entries; /* [n_tokens * n_experts_used] */
    uint8_t *routed_act;    /* [n_tokens * n_experts_used][routed width_rank] act */
    int64_t *fixed_first;   /* [2] 0, n_tokens: the one expert that takes every token */
    uint8_t *fixed_act;     /* [n_tokens][dense or shared width_rank] act */
    /* logits and sampling, last stage only */
    int32_t *logit_rows;    /* [PHX_LOGIT_ROWS] rows of the step that need logits */
    uint8_t *logit_x;       /* [PHX_LOGIT_ROWS][d_hidden] act */
    float *logits;          /* [PHX_LOGIT_ROWS][n_vocab_rank] */
    float *inv_temperature; /* [PHX_LOGIT_ROWS] */
    uint64_t *noise;        /* [PHX_LOGIT_ROWS][PHX_NOISE_WORDS]: phx_noisy_top_fn */
    uint32_t *sample_rows;  /* [PHX_LOGIT_ROWS][PHX_SAMPLE_ROW_WORDS]: phx_sample_row */
    uint32_t *offers;       /* [tp] candidates, [PHX_LOGIT_ROWS][leaves_rank][PHX_OFFER_WORDS] each */
    uint32_t *choices;      /* [PHX_LOGIT_ROWS][PHX_CHOICE_WORDS]: phx_choice */
    float *full_logits;     /* [n_vocab padded to tp equal shares] one row gathered when the candidates do not
                               reach */
    int32_t *order;         /* [n_vocab] heap of ids, when candidates do not reach */
    uint32_t *counts;       /* [n_slots][n_vocab_rank] of each slot, local ids: phx_count_tokens_fn */
    int32_t *bias_ids;      /* [n_slots][PHX_LOGIT_BIAS_MAX] */
    float *bias;            /* [n_slots][PHX_LOGIT_BIAS_MAX] */
    /* slots */
    int32_t *block_tables;  /* [n_slots][n_context / 64] */
    int32_t *last_tokens;   /* [n_slots][1 + drafts] result of the slot's last sampling step, drafts */
    float *final_hidden;    /* [n_tokens][d_hidden] of the step, for its draft passes */
    uint8_t *draft_input;   /* [n_tokens][2 * d_hidden] act: embedding, hidden state */
    int32_t *draft_from;    /* [n_tokens] which hidden state each row of a pass takes */
    int32_t *sampled;       /* [PHX_PP_MAX + 2][n_slots][words of tokens.c] on their way to other stages */
    int32_t *sampled_slots; /* [PHX_PP_MAX + 2][n_slots] and whose they are, -1: nobody's any more */
} phx_step_buf;

/* What one vocabulary leaf offers for one row, in 4-byte words: log-sum-exp at temperature 1 and at the
 * row's; the winner with noise (logit / T + noise, id, logit); PHX_VOCAB_TOP ids and their logits:
 * phx_offers. The words of the structs of kernels/ops_sample.h, which this folder cannot name. */
#define PHX_OFFER_WORDS (2u + 3u + 2u * PHX_VOCAB_TOP)

#define PHX_SAMPLE_ROW_WORDS 12u
#define PHX_CHOICE_WORDS     (6u + 2u * PHX_TOP_LOGPROBS_MAX)

#define PHX_NOISE_WORDS 4u /* of a row: seed, choice, position, 1 when it draws */

typedef struct phx_step_bytes {
    uint64_t activations;
    uint64_t logits;   /* the "logits and sampling" part */
    uint64_t host;     /* where ops run on a device: pinned host memory besides */
    uint64_t exchange; /* largest payload of one exchange, of a gather's share and of a stage send */
    uint64_t stage;
    uint64_t note; /* largest message of sampled tokens from the last stage to the first */
} phx_step_bytes;

/* Sizes for a rank whose ranges (layers, heads, vocab, experts) are already in rank_plan; request with its
 * zeros filled. */
phx_step_bytes phx_step_buf_bytes(const phx_dims *dims, const phx_plan_request *request,
                                  const phx_rank_plan *rank_plan, int64_t routed_width_rank,
                                  int64_t fixed_width_rank);

/* Floats of attention_parts: a part for each split of a step's rows, as far as PHX_ATTENTION_PARTS_MAX goes
 * (kernels/ops.h); 0 where ops run on the CPU. Two for each row and group of heads besides. Where products
 * may be rounded, at least what the largest of them needs. */
size_t phx_step_attention_floats(const phx_dims *dims, const phx_plan_request *request,
                                 const phx_rank_plan *rank_plan);

/* Where the memory of device and host lies; both NULL on the CPU. */
typedef struct phx_step_memory {
    const phx_memory *device;
    const phx_memory *pinned;
} phx_step_memory;

typedef struct phx_step_bufs {
    phx_step_buf device; /* what ops work on */
    phx_step_buf host;   /* what the host reads and writes; the same pointers on the CPU */
    phx_arena *device_arena;
    phx_arena *host_arena; /* NULL on the CPU */
} phx_step_bufs;

/* Allocates and sets every pointer. Free with phx_step_bufs_done. */
phx_code phx_step_bufs_init(const phx_dims *dims, const phx_plan_request *request,
                            const phx_rank_plan *rank_plan, int64_t routed_width_rank,
                            int64_t fixed_width_rank, const phx_step_memory *memory, phx_step_bufs *ret_bufs,
                            phx_error *err);
void phx_step_bufs_done(phx_step_bufs *bufs); /* accepts zeros */

#endif
