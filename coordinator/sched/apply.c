/* coordinator/sched/apply.c - what the results of a step change. */
#include "coordinator/sched/state.h"

#include <assert.h>
#include <string.h>

static phx_code check_result(const phx_sched *sched, const phx_step_result *result, phx_error *err);
static phx_code check_tokens(const phx_sched *sched, const phx_sched_row *asked, const phx_row_result *rows,
                             uint32_t n, phx_error *err);
static void apply_row(phx_sched *sched, const phx_sched_row *row, const phx_row_result *results,
                      uint32_t n_results);
static uint32_t n_results_of(const phx_step_result *result, uint32_t first);
static uint32_t take_tokens(const phx_sched *sched, phx_sched_req *req, const phx_row_result *results,
                            uint32_t n_results);
static void publish(phx_sched *sched, phx_sched_slot *slot, uint32_t n_before);
static void deliver(phx_sched *sched, const phx_sched_req *req, const phx_row_result *result);
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
    sched->n_results_flight -= step->n_results_max;
    /* A step had the ranks for itself from the result before it, or from when it was issued. */
    const uint64_t start_us = step->issued_us > sched->applied_us ? step->issued_us : sched->applied_us;
    const uint64_t step_us = now_us > start_us ? now_us - start_us : 0;
    if (step->is_decode) {
        sched->totals.n_decode_steps++;
        sched->totals.decode_us += step_us;
        if (result->compute_us)
            phx_drafter_note_gap(&sched->drafter, (double)step_us, result->compute_us);
    }
    sched->applied_us = now_us;
    uint32_t first = 0;
    /* Results that arrive together say nothing of single steps: lengths are compared by the ranks' time. */
    phx_drafter_step drafted = {
        .n_fed = step->n_fed,
        .n_asked = step->n_drafts,
        .is_steady = step->is_steady,
        .us = step->is_decode ? result->compute_us : 0,
    };
    for (uint32_t i = 0; i < step->n_rows; i++) {
        const uint32_t n = step->rows[i].samples ? n_results_of(result, first) : 0;
        apply_row(sched, &step->rows[i], n ? &result->rows[first] : NULL, n);
        first += n;
        drafted.n_rows += step->rows[i].is_decode;
        drafted.n_held += step->rows[i].is_decode ? n - 1 : 0;
    }
    if (drafted.n_rows)
        phx_drafter_note_step(&sched->drafter, &drafted);
    phx_sched_expire(sched, now_us);
    return PHX_OK;
}

/* Before anything changes, so that a result is taken whole or not at all. */
static phx_code check_result(const phx_sched *sched, const phx_step_result *result, phx_error *err)
{
    if (sched->n_flight == 0)
        return PHX_FAIL(err, PHX_ERR_MISMATCH, "result of step %llu, but no step is in flight",
                        (unsigned long long)result->step);
    const phx_sched_step *step = &sched->flight[sched->flight_first];
    if (result->step != step->step || result->n_rows < step->n_samples ||
        result->n_rows > step->n_results_max)
        return PHX_FAIL(err, PHX_ERR_MISMATCH,
                        "result of step %llu with %u rows, expected step %llu with %u to %u",
                        (unsigned long long)result->step, result->n_rows, (unsigned long long)step->step,
                        step->n_samples, step->n_results_max);
    uint32_t first = 0;
    for (uint32_t i = 0; i < step->n_rows; i++) {
        const phx_sched_row *asked = &step->rows[i];
        if (!asked->samples)
            continue;
        const uint32_t n = first < result->n_rows ? n_results_of(result, first) : 0;
        const phx_row_result *row = n ? &result->rows[first] : NULL;
        if (!row || row->slot != asked->slot || n > 1 + asked->n_fed)
            return PHX_FAIL(err, PHX_ERR_MISMATCH,
                            "step %llu has %u results for slot %u where 1 to %u of slot %u are due",
                            (unsigned long long)step->step, n, row ? row->slot : 0, 1 + asked->n_fed,
                            asked->slot);
        const phx_code rc = check_tokens(sched, asked, row, n, err);
        if (rc != PHX_OK)
            return rc;
        first += n;
    }
    if (first != result->n_rows)
        return PHX_FAIL(err, PHX_ERR_MISMATCH, "step %llu answers for slot %u, which it did not ask",
                        (unsigned long long)step->step, result->rows[first].slot);
    return PHX_OK;
}

/* The results of one row of the plan stand together, and a slot has one row. */
static uint32_t n_results_of(const phx_step_result *result, uint32_t first)
{
    uint32_t n = 1;
    while (first + n < result->n_rows && result->rows[first + n].slot == result->rows[first].slot)
        n++;
    return n;
}

/* The n results of a row of the plan. */
static phx_code check_tokens(const phx_sched *sched, const phx_sched_row *asked, const phx_row_result *rows,
                             uint32_t n, phx_error *err)
{
    const uint32_t n_vocab = sched->config.limits.n_vocab;
    for (const phx_row_result *row = rows; row < rows + n; row++) {
        if (row->request_id != asked->request_id)
            return PHX_FAIL(err, PHX_ERR_MISMATCH, "slot %u answers for request %llu, expected %llu",
                            asked->slot, (unsigned long long)row->request_id,
                            (unsigned long long)asked->request_id);
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
static void apply_row(phx_sched *sched, const phx_sched_row *row, const phx_row_result *results,
                      uint32_t n_results)
{
    phx_sched_slot *slot = &sched->slots[row->slot];
    assert(slot->n_in_flight > 0);
    slot->n_in_flight--;
    if (slot->use == PHX_SCHED_HELD) {
        phx_sched_req *req = &sched->requests[slot->request];
        const uint32_t request = slot->request, n_before = slot->n_applied;
        const uint32_t n_taken = take_tokens(sched, req, results, n_results);
        slot->n_maybe -= row->n_fed;
        slot->n_issued += n_taken ? n_taken - 1 : 0;
        slot->n_applied += row->n_tokens - row->n_fed + (n_taken ? n_taken - 1 : 0);
        slot->n_pending -= row->samples;
        if (phx_sched_may_publish(sched, slot))
            publish(sched, slot, n_before);
        if (row->n_fed)
            phx_drafter_note_row(&sched->drafter, row->n_fed, n_results - 1);
        sched->totals.n_drafts_fed += row->n_fed;
        sched->totals.n_drafts_held += n_results ? n_results - 1 : 0;
        sched->totals.n_decoded += row->is_decode;
        for (uint32_t i = 0; i < n_taken; i++)
            deliver(sched, req, &results[i]);
        if (n_taken) {
            if (is_end_token(sched, req, results[n_taken - 1].token))
                phx_sched_req_end(sched, request, PHX_END_STOP);
            else if (req->n_known - req->n_prompt == req->n_output_max)
                phx_sched_req_end(sched, request, PHX_END_LENGTH);
        } else if (slot->n_applied == slot->n_target && slot->is_warming) {
            phx_sched_slot_requeue(sched, row->slot);
        } else if (slot->n_applied == slot->n_target) {
            phx_sched_req_end(sched, slot->request, PHX_END_CAPTURED);
        }
    }
    phx_sched_slot_settle(sched, row->slot);
}

/* Appends what was sampled, up to the end of the request. Returns how many. */
static uint32_t take_tokens(const phx_sched *sched, phx_sched_req *req, const phx_row_result *results,
                            uint32_t n_results)
{
    for (uint32_t i = 0; i < n_results; i++) {
        req->tokens[req->n_known++] = results[i].token;
        if (is_end_token(sched, req, results[i].token) || req->n_known - req->n_prompt == req->n_output_max)
            return i + 1;
    }
    return n_results;
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

static void deliver(phx_sched *sched, const phx_sched_req *req, const phx_row_result *result)
{
    sched->totals.n_output_tokens++;
    phx_sched_event *event = phx_sched_event_push(sched);
    *event = (phx_sched_event){
        .kind = PHX_EVENT_TOKEN,
        .id = req->id,
        .token = result->token,
        .is_end_token = is_end_token(sched, req, result->token),
        .logprob = result->logprob,
        .n_top = result->n_top,
    };
    memcpy(event->top, result->top, result->n_top * sizeof(result->top[0]));
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
