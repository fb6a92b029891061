/* proto/step_plan.h - what the coordinator tells the ranks to compute, and what they answer.
 * Owns: the structs of a step, their limits and their validation. Encoded by proto/codec.h.
 * Not here: choosing what to run (coordinator/sched), running it (worker/exec).
 *
 * Ranks keep a table of slots. A slot holds one running sequence: its block table, its length (tokens whose
 * KV entries exist), its sampling parameters, its output-token counts. A step lists rows; a row names a slot
 * and brings its new tokens. The position of a row's first token is the slot's length on the rank. Plans
 * carry changes of block tables, never whole tables (DESIGN 3).
 *
 * Drafts (multi-token prediction). A row may ask the ranks to keep drafts with its slot: guesses of the
 * tokens after the sampled one. A later row of that slot feeds them behind the slot's last result and samples
 * after each; the guesses that equal what was sampled before them hold, the others and all behind them are as
 * if they had never run. So such a row brings one result per token that holds, and the slot's length grows by
 * as many. */
#ifndef PHX_PROTO_STEP_PLAN_H
#define PHX_PROTO_STEP_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/status.h"

#define PHX_STEP_TOKENS_MAX 16384u /* rows of one forward pass */
#define PHX_STEP_BLOCKS_MAX 65536u

/* How the next token of a slot is chosen. temperature 0 is greedy. */
typedef struct phx_sampling {
    float temperature;
    float top_p;            /* 1: off */
    float min_p;            /* 0: off */
    uint32_t top_k;         /* 0: off */
    float presence_penalty; /* over output tokens, OpenAI's rule */
    float frequency_penalty;
    float repetition_penalty; /* over prompt and output, 1: off */
    uint64_t seed;
    uint32_t choice; /* index of n > 1, part of the noise key */
    bool logprobs;   /* of the chosen token, at temperature 1, after penalties and bias */
    uint32_t n_top_logprobs;
    uint32_t n_bias;
    const uint32_t *bias_ids; /* [n_bias] */
    const float *bias;        /* [n_bias] */
} phx_sampling;

/* Opens a slot before the step's rows run; an open slot of that number is dropped first. */
typedef struct phx_slot_open {
    uint32_t slot;
    uint64_t request_id;   /* for logs and results */
    uint32_t n_reused;     /* length at the start: tokens whose entries the prefix cache already holds */
    uint32_t n_prompt;     /* tokens from this position on count as output for the penalties */
    uint32_t reused_first; /* index into plan tokens of the n_reused token ids, when n_reused_ids is not 0 */
    uint32_t n_reused_ids; /* n_reused when the sampler must count them (repetition penalty), else 0 */
    phx_sampling sampling;
} phx_slot_open;

enum {                        /* bits of phx_step_row.flags */
       PHX_ROW_FROM_SLOT = 1, /* its tokens: the result of the slot's last sampling step, then drafts */
       PHX_ROW_SAMPLE = 2,    /* sample after the last token, and after each one from the slot */
       PHX_ROW_CAPTURE = 4,   /* return the tensors of the plan's capture mask for all its tokens */
       PHX_ROW_CLOSE = 8      /* drop the slot after this row */
};

typedef struct phx_step_row {
    uint32_t slot;
    uint32_t flags;
    uint32_t token_first; /* into plan tokens; unused with PHX_ROW_FROM_SLOT */
    uint32_t n_tokens;    /* with PHX_ROW_FROM_SLOT 1 + drafts, no more than the slot keeps */
    uint32_t n_drafts;    /* with PHX_ROW_SAMPLE: how many the slot keeps afterwards */
    uint32_t block_first; /* into plan blocks: appended to the slot's table before the row runs */
    uint32_t n_blocks;
} phx_step_row;

enum { /* capture mask */
       PHX_CAPTURE_LOGITS = 1,
       PHX_CAPTURE_HIDDEN = 2,       /* hidden.embed, hidden.{l}, hidden.final */
       PHX_CAPTURE_TOPK = 4,         /* topk.{l} */
       PHX_CAPTURE_INDEX_SCORES = 8, /* index_scores.{l} */
       PHX_CAPTURE_EXPERTS = 16      /* experts.{l}, experts_weight.{l} */
};

typedef struct phx_step_plan {
    uint64_t epoch;
    uint64_t step;    /* ascending within an epoch, from 1 */
    uint32_t capture; /* mask for rows with PHX_ROW_CAPTURE */
    uint32_t n_opens;
    const phx_slot_open *opens;
    uint32_t n_closes; /* slots dropped before the rows run (cancelled, finished) */
    const uint32_t *closes;
    uint32_t n_rows;
    const phx_step_row *rows;
    uint32_t n_tokens;
    const uint32_t *tokens;
    uint32_t n_blocks;
    const uint32_t *blocks;
} phx_step_plan;

/* Sizes against which a plan is checked, from the group's plan. */
typedef struct phx_step_limits {
    uint32_t n_slots;
    uint32_t n_step_tokens;
    uint32_t n_blocks; /* pool */
    uint32_t n_context;
    uint32_t n_vocab;
    uint32_t n_drafts; /* of one sequence; 0 without multi-token prediction */
} phx_step_limits;

/* Numbers finite and in range: temperature 0..100, top_p (0, 1], min_p 0..1, penalties -100..100, repetition
 * (0, 100], choice below 8, counts within the limits above; bias entries too unless their arrays are NULL.
 * PHX_ERR_INVALID, PHX_ERR_TOO_LONG. */
phx_code phx_sampling_check(const phx_sampling *sampling, phx_error *err);

/* Both sides check (STYLE 20): ranges of every index, sums of tokens, flags, finite sampling numbers, one row
 * per slot. Lengths of slots are checked by the rank, which knows them. A slot may be closed, opened and used
 * by a row in one step: closes come first, then opens, then rows. PHX_ERR_INVALID, PHX_ERR_TOO_LONG. */
phx_code phx_step_plan_check(const phx_step_plan *plan, const phx_step_limits *limits, phx_error *err);

typedef struct phx_token_logprob {
    uint32_t id;
    float logprob;
} phx_token_logprob;

typedef struct phx_row_result {
    uint32_t slot;
    uint64_t request_id;
    uint32_t token; /* sampled id */
    float logprob;  /* when asked */
    uint32_t n_top;
    phx_token_logprob top[PHX_TOP_LOGPROBS_MAX];
} phx_row_result;

/* Sent by tp rank 0 of the last stage: the results of each row with PHX_ROW_SAMPLE, in row order: one, or
 * with drafts one per token that holds, one after the other. After a step that captures the other ranks send
 * one without rows: their captured parts are out. */
typedef struct phx_step_result {
    uint64_t epoch;
    uint64_t step;
    uint32_t n_rows; /* results */
    const phx_row_result *rows;
    uint32_t compute_us; /* of this rank, from receiving the plan to the result */
} phx_step_result;

#endif
