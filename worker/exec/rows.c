/* worker/exec/rows.c - what the device is told of a step: its rows, how they are sampled, which slots open.
 * Everything that varies from step to step lies in these buffers, at the same places in every step; a row
 * past those of the plan is padding, which reads its own row and writes nowhere else. */
#include "worker/exec/state.h"

#include <assert.h>

#include "kernels/choose.h"

typedef struct copied { /* a buffer that lies on both sides */
    void *to;
    const void *from;
    size_t n_bytes;
} copied;

static phx_code upload_all(phx_exec *exec, const copied *arrays, size_t n, phx_error *err)
{
    phx_code rc = PHX_OK;
    for (size_t i = 0; i < n && rc == PHX_OK; i++)
        rc = phx_upload(exec->parts.backend, arrays[i].to, arrays[i].from, arrays[i].n_bytes, err);
    return rc;
}

/* ---- rows ---- */

/* What the count of a token goes to: phx_count_tokens_fn. */
static int32_t counted_as(const phx_slot_state *state, uint32_t slot, uint32_t position)
{
    return state->counting ? (int32_t)(2 * slot + (position >= state->n_prompt)) : -1;
}

static void pad_row(phx_exec *exec, int64_t t)
{
    exec->host.ids[t] = exec->host.id_slots[t] = -1;
    exec->host.positions[t] = exec->host.n_keys[t] = 0;
    exec->host.blocks[t] = exec->buf.block_tables;
    exec->host.entries[t] = -1;
    if (exec->last_stage)
        exec->host.counted[t] = -1;
}

static void prepare_rows(phx_exec *exec)
{
    int64_t t = 0;
    for (uint32_t i = 0; i < exec->plan->n_rows; i++) {
        const phx_step_row *row = &exec->plan->rows[i];
        const phx_slot_state *slot = phx_slots_at(exec->slots, row->slot);
        const uint32_t first = slot->n_tokens - row->n_tokens; /* lengths already include this step */
        const bool from_slot = (row->flags & PHX_ROW_FROM_SLOT) != 0;
        const int32_t *blocks = exec->buf.block_tables + row->slot * exec->blocks_max; /* of the device */
        for (uint32_t j = 0; j < row->n_tokens; j++, t++) {
            const uint32_t position = first + j;
            const int64_t block = slot->blocks[position / PHX_BLOCK_TOKENS];
            exec->host.ids[t] = from_slot ? -1 : (int32_t)exec->plan->tokens[row->token_first + j];
            exec->host.id_slots[t] = from_slot ? phx_exec_place(exec, row->slot, j) : -1;
            exec->host.positions[t] = (int32_t)position;
            exec->host.n_keys[t] = (int32_t)position + 1;
            exec->host.blocks[t] = blocks;
            exec->host.entries[t] = block * PHX_BLOCK_TOKENS + position % PHX_BLOCK_TOKENS;
            if (exec->last_stage)
                exec->host.counted[t] = counted_as(slot, row->slot, position);
        }
    }
    assert(t == exec->n_own);
    for (; t < exec->n_tokens; t++)
        pad_row(exec, t);
}

phx_code phx_exec_upload_rows(phx_exec *exec, phx_error *err)
{
    const phx_step_buf *to = &exec->buf, *from = &exec->host;
    const size_t n = (size_t)exec->n_tokens;
    from->fixed_first[0] = 0;
    from->fixed_first[1] = exec->n_own;
    const copied arrays[] = {
        {to->ids, from->ids, n * sizeof(*to->ids)},
        {to->id_slots, from->id_slots, n * sizeof(*to->id_slots)},
        {to->positions, from->positions, n * sizeof(*to->positions)},
        {to->n_keys, from->n_keys, n * sizeof(*to->n_keys)},
        {to->entries, from->entries, n * sizeof(*to->entries)},
        {to->blocks, from->blocks, n * sizeof(*to->blocks)},
        {to->fixed_first, from->fixed_first, 2 * sizeof(*to->fixed_first)},
        {to->counted, from->counted, exec->last_stage ? n * sizeof(*to->counted) : 0},
    };
    return upload_all(exec, arrays, sizeof(arrays) / sizeof(arrays[0]), err);
}

phx_code phx_exec_tell_rows(phx_exec *exec, phx_error *err)
{
    prepare_rows(exec);
    phx_code rc = phx_exec_upload_rows(exec, err);
    for (uint32_t i = 0; i < exec->plan->n_rows && rc == PHX_OK; i++) {
        const phx_step_row *row = &exec->plan->rows[i];
        const phx_slot_state *slot = phx_slots_at(exec->slots, row->slot);
        if (row->n_blocks) /* the table has changed */
            rc = phx_upload(exec->parts.backend, exec->buf.block_tables + row->slot * exec->blocks_max,
                            slot->blocks, slot->n_blocks * sizeof(*slot->blocks), err);
    }
    return rc;
}

/* ---- sampling ---- */

static void prepare_sample(phx_exec *exec, uint32_t i, const phx_sampled *sampled)
{
    const phx_step_row *row = &exec->plan->rows[sampled->plan_row];
    const phx_slot_state *slot = phx_slots_at(exec->slots, row->slot);
    const phx_sampling *s = &slot->sampling;
    uint64_t *noise = exec->host.noise + (size_t)i * PHX_NOISE_WORDS;
    phx_sample_row *sample = phx_exec_sample_rows(&exec->host) + i;
    *sample = (phx_sample_row){
        .slot = (int32_t)row->slot,
        .place = sampled->place,
        .temperature = s->temperature,
        .top_p = s->top_p,
        .min_p = s->min_p,
        .top_k = s->top_k,
        .presence_penalty = s->presence_penalty,
        .frequency_penalty = s->frequency_penalty,
        .repetition_penalty = s->repetition_penalty,
        .counting = slot->counting,
        .n_bias = s->n_bias,
        .n_top = s->logprobs ? s->n_top_logprobs : 0,
    };
    exec->host.logit_rows[i] = sampled->row;
    exec->host.inv_temperature[i] = s->temperature > 0 ? 1.0f / s->temperature : 1.0f;
    noise[0] = s->seed;
    noise[1] = s->choice;
    noise[2] = sampled->position;
    noise[3] = phx_is_unfiltered(sample);
}

static void pad_sample(phx_exec *exec, uint32_t i)
{
    phx_exec_sample_rows(&exec->host)[i] = (phx_sample_row){.slot = -1, .place = -1};
    exec->host.logit_rows[i] = 0;
    exec->host.inv_temperature[i] = 1;
    memset(exec->host.noise + (size_t)i * PHX_NOISE_WORDS, 0, PHX_NOISE_WORDS * sizeof(*exec->host.noise));
}

phx_code phx_exec_tell_samples(phx_exec *exec, const phx_sampled *list, uint32_t n_list, phx_error *err)
{
    const phx_step_buf *to = &exec->buf, *from = &exec->host;
    const size_t n = exec->n_samples;
    static_assert(PHX_SAMPLE_ROW_WORDS * sizeof(uint32_t) == sizeof(phx_sample_row), "words of a row");
    for (uint32_t i = 0; i < n; i++) {
        if (i < n_list)
            prepare_sample(exec, i, &list[i]);
        else
            pad_sample(exec, i);
    }
    const copied arrays[] = {
        {to->logit_rows, from->logit_rows, n * sizeof(*to->logit_rows)},
        {to->inv_temperature, from->inv_temperature, n * sizeof(*to->inv_temperature)},
        {to->noise, from->noise, n * PHX_NOISE_WORDS * sizeof(*to->noise)},
        {to->sample_rows, from->sample_rows, n * sizeof(phx_sample_row)},
    };
    return upload_all(exec, arrays, sizeof(arrays) / sizeof(arrays[0]), err);
}

/* ---- opening slots ---- */

void phx_exec_count(phx_exec *exec, int64_t n)
{
    exec->parts.ops->count_tokens(exec->pool, &(phx_count_tokens_args){
                                                  .tokens = exec->buf.tokens,
                                                  .counted = exec->buf.counted,
                                                  .n_rows = n,
                                                  .first_id = exec->rank->vocab.first,
                                                  .n_cols = phx_range_n(exec->rank->vocab),
                                                  .counts = exec->buf.counts,
                                              });
}

/* Tokens that the prefix cache holds are counted as if they had been fed, some at a time: this waits, and
 * happens only when a slot with penalties opens on a cached prefix. */
static phx_code count_reused(phx_exec *exec, const phx_slot_open *open, phx_error *err)
{
    const phx_slot_state *state = phx_slots_at(exec->slots, open->slot);
    const uint32_t n_max = exec->parts.plan->request.n_step_tokens;
    phx_code rc = PHX_OK;
    for (uint32_t first = 0; first < open->n_reused_ids && rc == PHX_OK; first += n_max) {
        const uint32_t n = open->n_reused_ids - first < n_max ? open->n_reused_ids - first : n_max;
        for (uint32_t i = 0; i < n; i++) {
            exec->host.ids[i] = (int32_t)exec->plan->tokens[open->reused_first + first + i];
            exec->host.counted[i] = counted_as(state, open->slot, first + i);
        }
        const copied arrays[] = {{exec->buf.tokens, exec->host.ids, n * sizeof(*exec->host.ids)},
                                 {exec->buf.counted, exec->host.counted, n * sizeof(*exec->host.counted)}};
        rc = upload_all(exec, arrays, sizeof(arrays) / sizeof(arrays[0]), err);
        phx_exec_count(exec, n);
        if (rc == PHX_OK)
            rc = phx_exec_wait(exec, err);
    }
    return rc;
}

static phx_code open_slot(phx_exec *exec, const phx_slot_open *open, phx_error *err)
{
    const size_t n_vocab = (size_t)phx_range_n(exec->rank->vocab);
    const size_t at = (size_t)open->slot * PHX_LOGIT_BIAS_MAX, n_bias = open->sampling.n_bias;
    const copied bias[] = {
        {exec->buf.bias_ids + at, exec->host.bias_ids + at, n_bias * sizeof(*exec->host.bias_ids)},
        {exec->buf.bias + at, exec->host.bias + at, n_bias * sizeof(*exec->host.bias)},
    };
    const phx_code rc = upload_all(exec, bias, sizeof(bias) / sizeof(bias[0]), err);
    if (rc != PHX_OK || !phx_slots_at(exec->slots, open->slot)->counting)
        return rc;
    exec->parts.ops->clear_counts(
        exec->pool, &(phx_clear_counts_args){exec->buf.counts + open->slot * n_vocab, (int64_t)n_vocab});
    return count_reused(exec, open, err);
}

phx_code phx_exec_open_slots(phx_exec *exec, phx_error *err)
{
    phx_code rc = PHX_OK;
    for (uint32_t i = 0; exec->last_stage && i < exec->plan->n_opens && rc == PHX_OK; i++)
        rc = open_slot(exec, &exec->plan->opens[i], err);
    return rc;
}
