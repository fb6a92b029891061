/* coordinator/sched/apply.c - what the results of a step change. */
#include "coordinator/sched/state.h"

#include <assert.h>
#include <string.h>

static phx_code check_result(const phx_sched *sched, const phx_step_result *result, phx_error *err);
static void apply_row(phx_sched *sched, const phx_sched_row *row, const phx_row_result *result);
static void publish(phx_sched *sched, phx_sched_slot *slot, uint32_t n_before);
static void deliver(phx_sched *sched, uint32_t request, const phx_row_result *result);
static bool is_end_token(const phx_sched *sched, const phx_sched_req *req, uint32_t token);

phx_code phx_sched_apply(phx_sched *sched, const phx_step_result *result, uint64_t now_us, phx_error *err)
{
    const phx_code rc = check_result(sched, result, err);
    if (rc != PHX_OK)
        return rc;
    const phx_sched_step *step = &sched->flight[sched->flight_first];
    sched->flight_first = (sched->flight_first + 1) % sched->config.n_in_flight_max;
    sched->n_flight--;
    sched->lanes[step->lane].n_in_flight--;
    sched->n_samples_flight -= step->n_samples;
    uint32_t n = 0;
    for (uint32_t i = 0; i < step->n_rows; i++) {
        const phx_row_result *sampled = step->rows[i].samples ? &result->rows[n++] : NULL;
        apply_row(sched, &step->rows[i], sampled);
    }
    phx_sched_expire(sched, now_us);
    return PHX_OK;
}

/* Before anything changes, so that a result is taken whole or not at all. */
static phx_code check_result(const phx_sched *sched, const phx_step_result *result, phx_error *err)
{
    const uint32_t n_vocab = sched->config.limits.n_vocab;
    if (sched->n_flight == 0)
        return PHX_FAIL(err, PHX_ERR_MISMATCH, "result of step %llu, but no step is in flight",
                        (unsigned long long)result->step);
    const phx_sched_step *step = &sched->flight[sched->flight_first];
    if (result->step != step->step || result->n_rows != step->n_samples)
        return PHX_FAIL(err, PHX_ERR_MISMATCH, "result of step %llu with %u rows, expected step %llu with %u",
                        (unsigned long long)result->step, result->n_rows, (unsigned long long)step->step,
                        step->n_samples);
    uint32_t n = 0;
    for (uint32_t i = 0; i < step->n_rows; i++) {
        if (!step->rows[i].samples)
            continue;
        const phx_row_result *row = &result->rows[n++];
        if (row->slot != step->rows[i].slot || row->request_id != step->rows[i].request_id)
            return PHX_FAIL(err, PHX_ERR_MISMATCH,
                            "step %llu answers for slot %u of request %llu, expected slot %u of request %llu",
                            (unsigned long long)step->step, row->slot, (unsigned long long)row->request_id,
                            step->rows[i].slot, (unsigned long long)step->rows[i].request_id);
        if (row->token >= n_vocab || row->n_top > PHX_TOP_LOGPROBS_MAX)
            return PHX_FAIL(err, PHX_ERR_MISMATCH, "request %llu: token %u of %u, %u top tokens",
                            (unsigned long long)row->request_id, row->token, n_vocab, row->n_top);
        for (uint32_t k = 0; k < row->n_top; k++)
            if (row->top[k].id >= n_vocab)
                return PHX_FAIL(err, PHX_ERR_MISMATCH, "request %llu: top token %u of %u",
                                (unsigned long long)row->request_id, row->top[k].id, n_vocab);
    }
    return PHX_OK;
}

/* A slot is not given away while steps name it, so it is either still that request's or dying; then what the
 * row brought is discarded. */
static void apply_row(phx_sched *sched, const phx_sched_row *row, const phx_row_result *result)
{
    phx_sched_slot *slot = &sched->slots[row->slot];
    assert(slot->n_in_flight > 0);
    slot->n_in_flight--;
    if (slot->use == PHX_SCHED_HELD) {
        const uint32_t n_before = slot->n_applied;
        slot->n_applied += row->n_tokens;
        if (phx_sched_may_publish(sched, slot))
            publish(sched, slot, n_before);
        if (result) {
            slot->n_pending--;
            deliver(sched, slot->request, result);
        } else if (slot->n_applied == slot->n_target && slot->is_warming) {
            phx_sched_slot_requeue(sched, row->slot);
        } else if (slot->n_applied == slot->n_target) {
            phx_sched_req_end(sched, slot->request, PHX_END_CAPTURED);
        }
    }
    phx_sched_slot_settle(sched, row->slot);
}

/* Blocks that have become full, whose entries exist from now on. */
static void publish(phx_sched *sched, phx_sched_slot *slot, uint32_t n_before)
{
    phx_sched_req *req = &sched->requests[slot->request];
    for (uint32_t i = n_before / PHX_BLOCK_TOKENS; i < slot->n_applied / PHX_BLOCK_TOKENS; i++) {
        phx_sched_req_keys(req, i + 1);
        /* When an equal prefix was computed twice at the same time, the second copy stays private. */
        (void)phx_kv_blocks_publish(sched->kv, slot->blocks[i], &req->keys[i]);
    }
}

static void deliver(phx_sched *sched, uint32_t request, const phx_row_result *result)
{
    phx_sched_req *req = &sched->requests[request];
    const bool is_end = is_end_token(sched, req, result->token);
    req->tokens[req->n_known++] = result->token;
    sched->totals.n_output_tokens++;
    phx_sched_event *event = phx_sched_event_push(sched);
    *event = (phx_sched_event){
        .kind = PHX_EVENT_TOKEN,
        .id = req->id,
        .token = result->token,
        .is_end_token = is_end,
        .logprob = result->logprob,
        .n_top = result->n_top,
    };
    memcpy(event->top, result->top, result->n_top * sizeof(result->top[0]));
    if (is_end)
        phx_sched_req_end(sched, request, PHX_END_STOP);
    else if (req->n_known - req->n_prompt == req->n_output_max)
        phx_sched_req_end(sched, request, PHX_END_LENGTH);
}

static bool is_end_token(const phx_sched *sched, const phx_sched_req *req, uint32_t token)
{
    for (uint32_t i = 0; i < req->n_stop_ids; i++)
        if (req->stop_ids[i] == token)
            return true;
    for (uint32_t i = 0; i < sched->config.n_eos && !req->ignore_eos; i++)
        if (sched->config.eos_ids[i] == token)
            return true;
    return false;
}
