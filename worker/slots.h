/* worker/slots.h - what a rank remembers of each running sequence.
 * Owns: block tables, lengths, sampling parameters; applying a step plan's changes to them, with every length
 * checked here because only the rank knows it. Not here: deciding (coordinator/sched), the plan's own shape
 * (proto/step_plan.c), each slot's last token and token counts, which lie where ops work (worker/exec). */
#ifndef PHX_WORKER_SLOTS_H
#define PHX_WORKER_SLOTS_H

#include "model/step_buf.h"
#include "proto/step_plan.h"

typedef enum phx_slot_kept { /* worker/exec/draft.c: where the hidden state before the next token lies */
                             PHX_KEPT_WITH_BLOCK, /* the last one: so it is when a slot opens */
                             PHX_KEPT_WITH_SLOT,
                             PHX_KEPT_NOWHERE
} phx_slot_kept;

typedef struct phx_slot_state {
    bool open;
    uint64_t request_id;
    uint32_t n_tokens; /* entries in the cache, this step's included once applied */
    uint32_t n_prompt;
    uint32_t n_blocks;
    uint64_t last_step;    /* step of the last sampling row, 0 before the first */
    int32_t *blocks;       /* [n_context / 64] in the step buffers */
    phx_sampling sampling; /* without the bias, which lies in the step buffers; n_bias stays */
    bool counting;         /* penalties need counts */
    uint32_t n_drafts;     /* kept after the last row that sampled */
    uint32_t n_entered;    /* worker/exec/draft.c: tokens before it have draft entries, or never will */
    phx_slot_kept kept;
} phx_slot_state;

typedef struct phx_slots phx_slots;

typedef struct phx_slots_shape {
    uint32_t n_slots;
    uint32_t n_context;
    uint32_t n_blocks; /* pool size */
} phx_slots_shape;

/* Borrows the block tables of buf, and what it has for bias. */
phx_code phx_slots_create(const phx_slots_shape *shape, const phx_step_buf *buf, phx_slots **ret_slots,
                          phx_error *err);
void phx_slots_destroy(phx_slots *slots); /* accepts NULL */

/* Applies closes, opens and block changes and advances lengths; fails (the group is then lost: ranks would
 * disagree) when a row names a closed slot, runs past its blocks or past the context. */
phx_code phx_slots_apply(phx_slots *slots, const phx_step_plan *plan, phx_error *err);

/* Drops the slots of rows with PHX_ROW_CLOSE, once the step has run. */
void phx_slots_finish(phx_slots *slots, const phx_step_plan *plan);

phx_slot_state *phx_slots_at(phx_slots *slots, uint32_t slot);

#endif
