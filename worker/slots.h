/* worker/slots.h - what a rank remembers of each running sequence.
 * Owns: block tables, lengths, sampling parameters, token counts; applying a step plan's changes to them,
 * with every length checked here because only the rank knows it. Not here: deciding (coordinator/sched), the
 * plan's own shape (proto/step_plan.c). */
#ifndef PHX_WORKER_SLOTS_H
#define PHX_WORKER_SLOTS_H

#include "model/step_buf.h"
#include "proto/step_plan.h"

typedef struct phx_slot_state {
    bool open;
    uint64_t request_id;
    uint32_t n_tokens; /* entries in the cache, this step's included once applied */
    uint32_t n_prompt;
    uint32_t n_blocks;
    uint32_t n_sampled; /* sampling rows so far */
    int32_t last_token; /* result of the last sampling step, -1 before it is known here */
    uint64_t last_step; /* step of the last sampling row, 0 before the first */
    int32_t *blocks;    /* [n_context / 64] in the step buffers */
    phx_sampling sampling;
    uint32_t bias_ids[PHX_LOGIT_BIAS_MAX];
    float bias[PHX_LOGIT_BIAS_MAX];
    bool counting; /* penalties need counts */
} phx_slot_state;

typedef struct phx_slots phx_slots;

typedef struct phx_slots_shape {
    uint32_t n_slots;
    uint32_t n_context;
    uint32_t n_blocks; /* pool size */
    bool last_stage;
    phx_range vocab; /* local slice, for counts */
} phx_slots_shape;

/* Borrows the block tables and counts of buf. */
phx_code phx_slots_create(const phx_slots_shape *shape, const phx_step_buf *buf, phx_slots **ret_slots,
                          phx_error *err);
void phx_slots_destroy(phx_slots *slots); /* accepts NULL */

/* Applies closes, opens and block changes and advances lengths; fails (the group is then lost: ranks would
 * disagree) when a row names a closed slot, runs past its blocks or past the context. */
phx_code phx_slots_apply(phx_slots *slots, const phx_step_plan *plan, phx_error *err);

/* Drops the slots of rows with PHX_ROW_CLOSE, once the step has run. */
void phx_slots_finish(phx_slots *slots, const phx_step_plan *plan);

phx_slot_state *phx_slots_at(phx_slots *slots, uint32_t slot);

/* Counts token ids that a row fed into a slot, from position first_position on (last stage; no-op without
 * penalties). */
void phx_slots_count(phx_slots *slots, uint32_t slot, const int32_t *ids, uint32_t n_ids,
                     uint32_t first_position);

/* Whether the next function would change anything. */
bool phx_slots_penalises(const phx_slots *slots, uint32_t slot);

/* logits [vocab slice of this rank]: adds bias, then penalties (repetition, frequency, presence). */
void phx_slots_penalise(const phx_slots *slots, uint32_t slot, float *logits);

#endif
