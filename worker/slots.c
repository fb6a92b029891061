/* worker/slots.c - what a rank remembers of each running sequence. */
#include "worker/slots.h"

#include <assert.h>

#include "base/alloc.h"

struct phx_slots {
    phx_slots_shape shape;
    phx_slot_state *states; /* [n_slots] */
    int32_t *bias_ids;      /* [n_slots][PHX_LOGIT_BIAS_MAX], last stage */
    float *bias;
};

static phx_code open_slot(phx_slots *slots, const phx_slot_open *open, phx_error *err);
static phx_code apply_row(phx_slots *slots, const phx_step_plan *plan, const phx_step_row *row,
                          phx_error *err);

phx_code phx_slots_create(const phx_slots_shape *shape, const phx_step_buf *buf, phx_slots **ret_slots,
                          phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_slots *slots = phx_alloc(1, sizeof(*slots));
    if (!slots) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "slot table");
        goto out;
    }
    slots->shape = *shape;
    slots->bias_ids = buf->bias_ids;
    slots->bias = buf->bias;
    slots->states = phx_alloc(shape->n_slots, sizeof(*slots->states));
    if (!slots->states) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "slot table of %u", shape->n_slots);
        goto out;
    }
    const size_t table = (shape->n_context + PHX_BLOCK_TOKENS - 1) / PHX_BLOCK_TOKENS;
    for (uint32_t i = 0; i < shape->n_slots; i++)
        slots->states[i].blocks = buf->block_tables + i * table;
    *ret_slots = slots;
    slots = NULL;
out:
    phx_slots_destroy(slots);
    return rc;
}

void phx_slots_destroy(phx_slots *slots)
{
    if (!slots)
        return;
    phx_free(slots->states);
    phx_free(slots);
}

phx_slot_state *phx_slots_at(phx_slots *slots, uint32_t slot)
{
    assert(slot < slots->shape.n_slots);
    return &slots->states[slot];
}

phx_code phx_slots_apply(phx_slots *slots, const phx_step_plan *plan, phx_error *err)
{
    for (uint32_t i = 0; i < plan->n_closes; i++)
        slots->states[plan->closes[i]].open = false;
    for (uint32_t i = 0; i < plan->n_opens; i++) {
        const phx_code rc = open_slot(slots, &plan->opens[i], err);
        if (rc != PHX_OK)
            return rc;
    }
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        const phx_code rc = apply_row(slots, plan, &plan->rows[i], err);
        if (rc != PHX_OK)
            return rc;
    }
    return PHX_OK;
}

static phx_code open_slot(phx_slots *slots, const phx_slot_open *open, phx_error *err)
{
    phx_slot_state *state = phx_slots_at(slots, open->slot);
    if (open->n_reused > slots->shape.n_context)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "slot %u opens at length %u, context is %u", open->slot,
                        open->n_reused, slots->shape.n_context);
    int32_t *blocks = state->blocks;
    *state = (phx_slot_state){
        .open = true,
        .request_id = open->request_id,
        .n_tokens = open->n_reused,
        .n_prompt = open->n_prompt,
        .blocks = blocks,
        .sampling = open->sampling,
    };
    for (uint32_t i = 0; slots->bias && i < open->sampling.n_bias; i++) {
        slots->bias_ids[open->slot * PHX_LOGIT_BIAS_MAX + i] = (int32_t)open->sampling.bias_ids[i];
        slots->bias[open->slot * PHX_LOGIT_BIAS_MAX + i] = open->sampling.bias[i];
    }
    state->sampling.bias_ids = NULL;
    state->sampling.bias = NULL;
    state->counting = open->sampling.presence_penalty != 0 || open->sampling.frequency_penalty != 0 ||
                      open->sampling.repetition_penalty != 1;
    return PHX_OK;
}

static phx_code apply_row(phx_slots *slots, const phx_step_plan *plan, const phx_step_row *row,
                          phx_error *err)
{
    phx_slot_state *state = phx_slots_at(slots, row->slot);
    const uint32_t table = (slots->shape.n_context + PHX_BLOCK_TOKENS - 1) / PHX_BLOCK_TOKENS;
    if (!state->open)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "step %llu names slot %u, which is not open",
                        (unsigned long long)plan->step, row->slot);
    if ((row->flags & PHX_ROW_FROM_SLOT) && state->last_step == 0)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "slot %u has no result to continue from", row->slot);
    if ((row->flags & PHX_ROW_FROM_SLOT) && row->n_tokens > 1 + state->n_drafts)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "slot %u keeps %u drafts, the row feeds %u", row->slot,
                        state->n_drafts, row->n_tokens - 1);
    if (row->n_blocks > table - state->n_blocks)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "slot %u would hold %u blocks, at most %u fit the context",
                        row->slot, state->n_blocks + row->n_blocks, table);
    for (uint32_t i = 0; i < row->n_blocks; i++)
        state->blocks[state->n_blocks + i] = (int32_t)plan->blocks[row->block_first + i];
    state->n_blocks += row->n_blocks;
    if (row->n_tokens > state->n_blocks * PHX_BLOCK_TOKENS - state->n_tokens ||
        row->n_tokens > slots->shape.n_context - state->n_tokens)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "slot %u of %u tokens and %u blocks has no room for %u more",
                        row->slot, state->n_tokens, state->n_blocks, row->n_tokens);
    state->n_tokens += row->n_tokens;
    if (row->flags & PHX_ROW_SAMPLE)
        state->n_drafts = row->n_drafts;
    return PHX_OK;
}

void phx_slots_finish(phx_slots *slots, const phx_step_plan *plan)
{
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        if (plan->rows[i].flags & PHX_ROW_CLOSE)
            slots->states[plan->rows[i].slot].open = false;
    }
}
