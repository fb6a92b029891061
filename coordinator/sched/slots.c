/* coordinator/sched/slots.c - who gets a slot and blocks, and who gives them back. */
#include <assert.h>

#include "coordinator/sched/state.h"

/* Of the pool, kept free for the running when another request comes in, so that it does not have to leave
 * again at once. Not a promise: requests may still be preempted. */
#define RESERVE_SHARE 64u

static bool admit_first(phx_sched *sched);
static bool hold_blocks(phx_sched *sched, phx_sched_req *req, phx_sched_slot *slot);
static uint32_t hold_prefix(phx_sched *sched, phx_sched_req *req, phx_sched_slot *slot, uint32_t n_max);
static void drop_blocks(phx_sched *sched, phx_sched_slot *slot);
static bool make_room(phx_sched *sched, uint32_t wanting);
static bool blocks_will_return(const phx_sched *sched);
static uint32_t newest_victim(const phx_sched *sched);
static void set_wanting(phx_sched *sched, phx_sched_slot *slot, bool wants_block);

void phx_sched_admit(phx_sched *sched)
{
    while (sched->queue_first != PHX_SCHED_NONE && sched->n_wanting == 0 && admit_first(sched))
        ;
}

/* First come, first served: when the first does not fit, nobody overtakes it. */
static bool admit_first(phx_sched *sched)
{
    const uint32_t n_slots = sched->config.limits.n_slots;
    uint32_t at = 0;
    while (at < n_slots && sched->slots[at].use != PHX_SCHED_FREE)
        at++;
    if (at == n_slots)
        return false;
    const uint32_t request = sched->queue_first;
    phx_sched_req *req = &sched->requests[request];
    phx_sched_slot *slot = &sched->slots[at];
    if (!hold_blocks(sched, req, slot))
        return false;
    uint32_t lane = 0;
    for (uint32_t i = 1; i < sched->config.n_lanes; i++)
        if (sched->lanes[i].n_running < sched->lanes[lane].n_running)
            lane = i;
    slot->use = PHX_SCHED_HELD;
    slot->request = request;
    slot->lane = lane;
    slot->order = ++sched->n_admissions;
    slot->n_issued = slot->n_applied = slot->n_reused;
    sched->lanes[lane].n_running++;
    sched->running[sched->n_running++] = at;
    phx_sched_queue_remove(sched, request);
    req->life = PHX_SCHED_RUNNING;
    req->slot = at;
    if (!req->was_admitted && !slot->is_warming) {
        req->was_admitted = true;
        req->n_cached = slot->n_reused;
        sched->totals.n_prompt_tokens += req->n_prompt;
        sched->totals.n_cached_tokens += req->n_cached;
    }
    return true;
}

/* Takes the blocks of all tokens known so far, or none. Sets is_warming, n_reused, n_target and the table. */
static bool hold_blocks(phx_sched *sched, phx_sched_req *req, phx_sched_slot *slot)
{
    const uint32_t n_warm = req->n_warm / PHX_BLOCK_TOKENS;
    uint32_t n_reused = 0;
    slot->is_warming = false;
    slot->n_target = req->n_known;
    if (n_warm != 0) {
        n_reused = hold_prefix(sched, req, slot, n_warm);
        slot->is_warming = n_reused < n_warm;
        if (slot->is_warming)
            slot->n_target = req->n_warm;
    } else if (!req->no_reuse) {
        /* The last known token runs in any case: its result is the next token. */
        n_reused = hold_prefix(sched, req, slot, (req->n_known - 1) / PHX_BLOCK_TOKENS);
    }
    const uint32_t n_more = phx_sched_blocks_of(slot->n_target) - n_reused;
    const uint32_t n_left = phx_kv_blocks_n_free(sched->kv) + phx_kv_blocks_n_cached(sched->kv);
    const uint32_t share = sched->config.limits.n_blocks / RESERVE_SHARE;
    const uint32_t reserve = sched->n_running == 0 ? 0 : share == 0 ? 1 : share;
    if (n_more > n_left || reserve > n_left - n_more) {
        drop_blocks(sched, slot);
        return false;
    }
    for (uint32_t i = 0; i < n_more; i++) {
        const bool ok = phx_kv_blocks_take(sched->kv, &slot->blocks[slot->n_blocks]);
        assert(ok);
        slot->n_blocks++;
    }
    slot->n_reused = n_reused * PHX_BLOCK_TOKENS;
    return true;
}

static uint32_t hold_prefix(phx_sched *sched, phx_sched_req *req, phx_sched_slot *slot, uint32_t n_max)
{
    uint32_t block;
    for (uint32_t i = 0; i < n_max; i++) {
        phx_sched_req_keys(req, i + 1);
        if (!phx_kv_blocks_find(sched->kv, &req->keys[i], &block))
            break;
        phx_kv_blocks_hold(sched->kv, block);
        slot->blocks[slot->n_blocks++] = block;
    }
    return slot->n_blocks;
}

static void drop_blocks(phx_sched *sched, phx_sched_slot *slot)
{
    while (slot->n_blocks != 0)
        phx_kv_blocks_drop(sched->kv, slot->blocks[--slot->n_blocks]);
    slot->n_blocks_sent = 0;
}

bool phx_sched_slot_grow(phx_sched *sched, uint32_t slot_idx, uint32_t n_blocks)
{
    phx_sched_slot *slot = &sched->slots[slot_idx];
    while (slot->n_blocks < n_blocks) {
        if (phx_kv_blocks_take(sched->kv, &slot->blocks[slot->n_blocks])) {
            slot->n_blocks++;
            continue;
        }
        set_wanting(sched, slot, true);
        if (!make_room(sched, slot_idx))
            return false;
    }
    set_wanting(sched, slot, false);
    return true;
}

/* True when a block may be free now. The newest request gives way to older ones, so the oldest always goes on
 * and ends; when it is alone, the whole pool is its own, and submit has seen to it that this is enough. */
static bool make_room(phx_sched *sched, uint32_t wanting)
{
    if (blocks_will_return(sched))
        return false;
    const uint32_t victim = newest_victim(sched);
    assert(victim != PHX_SCHED_NONE);
    phx_sched_slot *slot = &sched->slots[victim];
    if (victim == wanting) {
        /* Captures that need no more blocks end soon; they are not preempted, but waited for. */
        for (uint32_t i = 0; i < sched->n_running; i++)
            if (phx_sched_is_prefill_only(sched, &sched->slots[sched->running[i]]))
                return false;
    }
    if (slot->n_in_flight != 0) {
        slot->is_preempting = true;
        set_wanting(sched, slot, false);
        return false;
    }
    sched->totals.n_preempted++;
    phx_sched_slot_requeue(sched, victim);
    return victim != wanting;
}

static bool blocks_will_return(const phx_sched *sched)
{
    for (uint32_t i = 0; i < sched->config.limits.n_slots; i++)
        if (sched->slots[i].use == PHX_SCHED_DYING || sched->slots[i].is_preempting)
            return true;
    return false;
}

static uint32_t newest_victim(const phx_sched *sched)
{
    for (uint32_t i = sched->n_running; i-- > 0;)
        if (!phx_sched_is_prefill_only(sched, &sched->slots[sched->running[i]]))
            return sched->running[i];
    return PHX_SCHED_NONE;
}

static void set_wanting(phx_sched *sched, phx_sched_slot *slot, bool wants_block)
{
    if (slot->wants_block == wants_block)
        return;
    slot->wants_block = wants_block;
    sched->n_wanting = wants_block ? sched->n_wanting + 1 : sched->n_wanting - 1;
}

void phx_sched_slot_leave(phx_sched *sched, uint32_t slot_idx)
{
    phx_sched_slot *slot = &sched->slots[slot_idx];
    assert(slot->use == PHX_SCHED_HELD);
    uint32_t at = 0;
    while (sched->running[at] != slot_idx)
        at++;
    sched->n_running--;
    for (; at < sched->n_running; at++)
        sched->running[at] = sched->running[at + 1];
    sched->lanes[slot->lane].n_running--;
    set_wanting(sched, slot, false);
    slot->is_preempting = false;
    slot->request = PHX_SCHED_NONE;
    slot->use = PHX_SCHED_DYING;
    phx_sched_slot_settle(sched, slot_idx);
}

void phx_sched_slot_requeue(phx_sched *sched, uint32_t slot_idx)
{
    const uint32_t request = sched->slots[slot_idx].request;
    assert(sched->slots[slot_idx].n_in_flight == 0);
    phx_sched_slot_leave(sched, slot_idx);
    sched->requests[request].slot = PHX_SCHED_NONE;
    phx_sched_queue_prepend(sched, request);
}

void phx_sched_slot_settle(phx_sched *sched, uint32_t slot_idx)
{
    phx_sched_slot *slot = &sched->slots[slot_idx];
    if (slot->n_in_flight != 0)
        return;
    if (slot->use == PHX_SCHED_HELD && slot->is_preempting) {
        sched->totals.n_preempted++;
        phx_sched_slot_requeue(sched, slot_idx);
    } else if (slot->use == PHX_SCHED_DYING) {
        drop_blocks(sched, slot);
        const bool needs_close = slot->needs_close || slot->is_open;
        *slot =
            (phx_sched_slot){.needs_close = needs_close, .request = PHX_SCHED_NONE, .blocks = slot->blocks};
    }
}

bool phx_sched_is_prefill_only(const phx_sched *sched, const phx_sched_slot *slot)
{
    const phx_sched_req *req = &sched->requests[slot->request];
    return req->n_output_max == 0 || slot->is_warming;
}

bool phx_sched_may_publish(const phx_sched *sched, const phx_sched_slot *slot)
{
    const phx_sched_req *req = &sched->requests[slot->request];
    return slot->is_warming || (req->n_warm == 0 && !req->no_reuse);
}
