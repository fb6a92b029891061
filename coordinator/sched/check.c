/* coordinator/sched/check.c - every invariant of the scheduler, walked. */
#include <string.h>

#include "coordinator/sched/state.h"

static phx_code check_queue(const phx_sched *sched, phx_error *err);
static phx_code check_slot(const phx_sched *sched, uint32_t slot_idx, phx_error *err);
static phx_code check_positions(const phx_sched *sched, uint32_t slot_idx, phx_error *err);
static phx_code check_running(const phx_sched *sched, phx_error *err);
static phx_code check_flight(const phx_sched *sched, phx_error *err);
static phx_code check_sharing(const phx_sched *sched, phx_error *err);

phx_code phx_sched_check(const phx_sched *sched, phx_error *err)
{
    const uint32_t n_slots = sched->config.limits.n_slots;
    phx_code rc = check_queue(sched, err);
    for (uint32_t i = 0; i < n_slots && rc == PHX_OK; i++)
        rc = check_slot(sched, i, err);
    if (rc == PHX_OK)
        rc = check_running(sched, err);
    if (rc == PHX_OK)
        rc = check_flight(sched, err);
    if (rc == PHX_OK)
        rc = check_sharing(sched, err);
    if (rc != PHX_OK)
        return rc;
    memset(sched->refs, 0, sched->config.limits.n_blocks * sizeof(*sched->refs));
    for (uint32_t i = 0; i < n_slots; i++)
        for (uint32_t k = 0; k < sched->slots[i].n_blocks; k++)
            sched->refs[sched->slots[i].blocks[k]]++;
    return phx_kv_blocks_check(sched->kv, sched->refs, err);
}

static phx_code check_queue(const phx_sched *sched, phx_error *err)
{
    uint32_t n = 0, n_living = 0, prev = PHX_SCHED_NONE;
    uint64_t n_tokens = 0;
    for (uint32_t at = sched->queue_first; at != PHX_SCHED_NONE; at = sched->requests[at].next) {
        const phx_sched_req *req = &sched->requests[at];
        if (n++ == sched->n_queued || req->life != PHX_SCHED_QUEUED || req->prev != prev)
            return PHX_FAIL(err, PHX_ERR_INTERNAL, "queue is broken at place %u", at);
        n_tokens += req->n_prompt;
        prev = at;
    }
    for (uint32_t i = 0; i < sched->n_requests; i++)
        n_living += sched->requests[i].life != PHX_SCHED_ABSENT;
    if (n != sched->n_queued || n_tokens != sched->n_queued_tokens || sched->queue_last != prev)
        return PHX_FAIL(err, PHX_ERR_INTERNAL, "queue counts %u requests, holds %u", sched->n_queued, n);
    if (n_living != sched->n_living || n_living != sched->n_queued + sched->n_running)
        return PHX_FAIL(err, PHX_ERR_INTERNAL, "%u living requests, %u counted, %u queued, %u running",
                        n_living, sched->n_living, sched->n_queued, sched->n_running);
    if ((uint64_t)sched->n_living + sched->n_results_flight + sched->n_events > sched->n_events_max)
        return PHX_FAIL(err, PHX_ERR_INTERNAL, "no room for the events of %u requests and %u tokens",
                        sched->n_living, sched->n_results_flight);
    return PHX_OK;
}

static phx_code check_slot(const phx_sched *sched, uint32_t slot_idx, phx_error *err)
{
    const phx_sched_slot *slot = &sched->slots[slot_idx];
    switch (slot->use) {
    case PHX_SCHED_FREE:
        if (slot->n_blocks != 0 || slot->n_in_flight != 0 || slot->request != PHX_SCHED_NONE || slot->is_open)
            return PHX_FAIL(err, PHX_ERR_INTERNAL, "free slot %u holds something", slot_idx);
        return PHX_OK;
    case PHX_SCHED_DYING:
        if (slot->n_in_flight == 0 || slot->request != PHX_SCHED_NONE)
            return PHX_FAIL(err, PHX_ERR_INTERNAL, "slot %u waits for no step", slot_idx);
        return PHX_OK;
    case PHX_SCHED_HELD:
        break;
    }
    if (slot->request >= sched->n_requests || sched->requests[slot->request].life != PHX_SCHED_RUNNING ||
        sched->requests[slot->request].slot != slot_idx)
        return PHX_FAIL(err, PHX_ERR_INTERNAL, "slot %u and its request disagree", slot_idx);
    if (slot->is_preempting && (slot->n_in_flight == 0 || slot->wants_block))
        return PHX_FAIL(err, PHX_ERR_INTERNAL, "slot %u is preempted but still there", slot_idx);
    return check_positions(sched, slot_idx, err);
}

static phx_code check_positions(const phx_sched *sched, uint32_t slot_idx, phx_error *err)
{
    const phx_sched_slot *slot = &sched->slots[slot_idx];
    const phx_sched_req *req = &sched->requests[slot->request];
    uint32_t n_tokens = 0, n_fed = 0, n_steps = 0, n_samples = 0;
    for (uint32_t i = 0; i < sched->n_flight; i++) {
        const phx_sched_step *step =
            &sched->flight[(sched->flight_first + i) % sched->config.n_in_flight_max];
        for (uint32_t k = 0; k < step->n_rows; k++) {
            if (step->rows[k].slot != slot_idx)
                continue;
            n_tokens += step->rows[k].n_tokens - step->rows[k].n_fed;
            n_fed += step->rows[k].n_fed;
            n_samples += step->rows[k].samples;
            n_steps++;
        }
    }
    if (n_steps != slot->n_in_flight || n_samples != slot->n_pending ||
        slot->n_issued - slot->n_applied != n_tokens || slot->n_applied < slot->n_reused)
        return PHX_FAIL(err, PHX_ERR_INTERNAL, "slot %u: issued %u, applied %u, but %u tokens in flight",
                        slot_idx, slot->n_issued, slot->n_applied, n_tokens);
    if (n_fed != slot->n_maybe)
        return PHX_FAIL(err, PHX_ERR_INTERNAL, "slot %u: %u drafts counted, %u in flight", slot_idx,
                        slot->n_maybe, n_fed);
    const uint32_t n_may_be = slot->n_issued + slot->n_maybe;
    if (n_may_be > slot->n_blocks * PHX_BLOCK_TOKENS || slot->n_blocks > sched->n_table ||
        slot->n_blocks_sent > slot->n_blocks || n_may_be > sched->n_fit)
        return PHX_FAIL(err, PHX_ERR_INTERNAL, "slot %u: %u tokens in %u blocks", slot_idx, n_may_be,
                        slot->n_blocks);
    const bool prefill_only = phx_sched_is_prefill_only(sched, slot);
    if (slot->n_issued >= slot->n_target && !prefill_only &&
        req->n_known + slot->n_pending != slot->n_issued + 1)
        return PHX_FAIL(err, PHX_ERR_INTERNAL, "slot %u: %u tokens known, %u pending, %u issued", slot_idx,
                        req->n_known, slot->n_pending, slot->n_issued);
    if (req->n_known - req->n_prompt + slot->n_pending > req->n_output_max)
        return PHX_FAIL(err, PHX_ERR_INTERNAL, "slot %u runs ahead of its last output", slot_idx);
    return PHX_OK;
}

static phx_code check_running(const phx_sched *sched, phx_error *err)
{
    uint32_t n_held = 0, n_wanting = 0;
    for (uint32_t i = 0; i < sched->config.limits.n_slots; i++) {
        n_held += sched->slots[i].use == PHX_SCHED_HELD;
        n_wanting += sched->slots[i].wants_block;
    }
    if (n_held != sched->n_running || n_wanting != sched->n_wanting)
        return PHX_FAIL(err, PHX_ERR_INTERNAL, "%u slots held, %u counted", n_held, sched->n_running);
    for (uint32_t i = 0; i < sched->n_running; i++) {
        const phx_sched_slot *slot = &sched->slots[sched->running[i]];
        if (slot->use != PHX_SCHED_HELD ||
            (i != 0 && slot->order <= sched->slots[sched->running[i - 1]].order))
            return PHX_FAIL(err, PHX_ERR_INTERNAL, "slot %u is out of order", sched->running[i]);
    }
    for (uint32_t lane = 0; lane < sched->config.n_lanes; lane++) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < sched->n_running; i++)
            n += sched->slots[sched->running[i]].lane == lane;
        if (n != sched->lanes[lane].n_running)
            return PHX_FAIL(err, PHX_ERR_INTERNAL, "lane %u counts %u requests, holds %u", lane,
                            sched->lanes[lane].n_running, n);
    }
    return PHX_OK;
}

static phx_code check_flight(const phx_sched *sched, phx_error *err)
{
    uint32_t n_results = 0;
    for (uint32_t i = 0; i < sched->n_flight; i++) {
        const phx_sched_step *step =
            &sched->flight[(sched->flight_first + i) % sched->config.n_in_flight_max];
        if (step->step != sched->step - sched->n_flight + i + 1)
            return PHX_FAIL(err, PHX_ERR_INTERNAL, "step %llu in flight out of order",
                            (unsigned long long)step->step);
        n_results += step->n_results_max;
    }
    if (n_results != sched->n_results_flight)
        return PHX_FAIL(err, PHX_ERR_INTERNAL, "%u tokens in flight, %u counted", n_results,
                        sched->n_results_flight);
    return PHX_OK;
}

/* A block in two tables is a published prefix block, at the same place in both, and nobody writes it. */
static phx_code check_sharing(const phx_sched *sched, phx_error *err)
{
    uint32_t *place = sched->refs; /* place of each block + 1 */
    memset(place, 0, sched->config.limits.n_blocks * sizeof(*place));
    for (uint32_t i = 0; i < sched->config.limits.n_slots; i++) {
        const phx_sched_slot *slot = &sched->slots[i];
        for (uint32_t k = 0; k < slot->n_blocks; k++) {
            const uint32_t block = slot->blocks[k];
            if (block >= sched->config.limits.n_blocks)
                return PHX_FAIL(err, PHX_ERR_INTERNAL, "slot %u names block %u", i, block);
            if (place[block] != 0 && (place[block] != k + 1 || !phx_kv_blocks_is_published(sched->kv, block)))
                return PHX_FAIL(err, PHX_ERR_INTERNAL, "block %u is owned twice, by slot %u too", block, i);
            place[block] = k + 1;
        }
    }
    return PHX_OK;
}
