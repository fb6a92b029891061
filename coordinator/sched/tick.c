/* coordinator/sched/tick.c - builds the next step plan.
 * A step serves one lane: first a token of every sequence that decodes, then chunks of prompts in order of
 * admission. Decoding leaves prompts a share of the rows, prompts get what decoding leaves: neither starves.
 */
#include <assert.h>
#include <string.h>

#include "coordinator/sched/state.h"

#define PREFILL_SHARE 4u /* of the rows of a step are kept for prompts, when there are any */

/* What a row brings besides its slot. */
typedef struct row_shape {
    uint32_t flags;
    uint32_t n_tokens;
    uint32_t n_fed;    /* of them, drafts */
    uint32_t n_drafts; /* to keep afterwards */
} row_shape;

static bool build(phx_sched *sched, uint32_t lane_idx, uint64_t now_us);
static bool may_run(const phx_sched *sched, uint32_t lane_idx, bool *ret_decodes);
static uint64_t n_prefill_left(const phx_sched *sched, uint32_t lane_idx);
static uint32_t n_decoding(const phx_sched *sched, uint32_t lane_idx);
static uint32_t n_drafting(const phx_sched *sched);
static uint32_t add_decodes(phx_sched *sched, uint32_t lane_idx, uint32_t n_max, uint32_t n_spare);
static void add_prefills(phx_sched *sched, uint32_t lane_idx, uint32_t n_max);
static bool is_decoding(const phx_sched *sched, const phx_sched_slot *slot);
static uint32_t n_drafts_after(const phx_sched *sched, const phx_sched_slot *slot, uint32_t n_tokens);
static uint32_t n_room(const phx_sched *sched, const phx_sched_slot *slot);
static row_shape decode_row(const phx_sched *sched, const phx_sched_slot *slot, uint32_t n_spare);
static uint32_t n_blocks_to_send(const phx_sched_slot *slot, uint32_t n_tokens);
static uint32_t n_blocks_with_drafts(const phx_sched *sched, phx_sched_slot *slot, const row_shape *shape);
static bool has_room(const phx_sched *sched, const phx_sched_slot *slot, uint32_t n_tokens);
static void add_row(phx_sched *sched, uint32_t slot_idx, const row_shape *shape);
static void add_open(phx_sched *sched, uint32_t slot_idx);
static void add_closes(phx_sched *sched);

const phx_step_plan *phx_sched_tick(phx_sched *sched, uint64_t now_us)
{
    phx_sched_expire(sched, now_us);
    const uint32_t n_places = sched->n_events_max - sched->n_living - sched->n_results_flight;
    if (sched->n_flight == sched->config.n_in_flight_max ||
        n_places - sched->n_events < sched->config.limits.n_slots * (1 + sched->config.limits.n_drafts))
        return NULL; /* the latter only when the caller does not fetch its events */
    phx_sched_admit(sched);
    for (uint32_t i = 0; i < sched->config.n_lanes; i++) {
        const uint32_t lane = (sched->lane_next + i) % sched->config.n_lanes;
        if (build(sched, lane, now_us)) {
            sched->lane_next = (lane + 1) % sched->config.n_lanes;
            return &sched->plan;
        }
    }
    return NULL;
}

static bool build(phx_sched *sched, uint32_t lane_idx, uint64_t now_us)
{
    phx_sched_lane *lane = &sched->lanes[lane_idx];
    bool decodes;
    if (!may_run(sched, lane_idx, &decodes))
        return false;
    const uint32_t n_flight_at = (sched->flight_first + sched->n_flight) % sched->config.n_in_flight_max;
    phx_sched_step *step = &sched->flight[n_flight_at];
    *step = (phx_sched_step){.lane = lane_idx, .issued_us = now_us, .rows = step->rows};
    sched->plan = (phx_step_plan){
        .opens = sched->opens,
        .closes = sched->closes,
        .rows = sched->rows,
        .tokens = sched->plan_tokens,
        .blocks = sched->plan_blocks,
    };
    const uint32_t n_max = sched->config.limits.n_step_tokens;
    const uint64_t n_left = n_prefill_left(sched, lane_idx);
    const uint32_t share = n_max < PREFILL_SHARE ? 1 : n_max / PREFILL_SHARE;
    const uint32_t n_kept = n_left < share ? (uint32_t)n_left : share;
    const uint32_t n_sequences = decodes ? n_decoding(sched, lane_idx) : 0;
    if (n_sequences) {
        sched->totals.n_drafts = phx_drafter_choose(&sched->drafter, n_sequences, n_drafting(sched));
        sched->totals.n_decoding = n_sequences;
    }
    step->n_drafts = sched->totals.n_drafts;
    step->is_decode = step->is_steady = n_sequences != 0 && n_left == 0;
    const uint32_t n_spare = n_max - n_kept > n_sequences ? n_max - n_kept - n_sequences : 0;
    const uint32_t n_decoded = n_sequences ? add_decodes(sched, lane_idx, n_max - n_kept, n_spare) : 0;
    add_prefills(sched, lane_idx, n_max - n_decoded);
    if (sched->plan.n_rows == 0)
        return false;
    add_closes(sched);
    step->step = sched->plan.step = ++sched->step;
    lane->n_in_flight++;
    sched->n_flight++;
    sched->totals.n_steps++;
    return true;
}

/* Decoding runs ahead by the steps that one lane can have in flight when all lanes are busy (two with pp + 1
 * steps): what runs further is only thrown away more often. A lane that has nothing but prompts may fill the
 * pipeline, because chunks do not wait for results. */
static bool may_run(const phx_sched *sched, uint32_t lane_idx, bool *ret_decodes)
{
    const phx_sched_lane *lane = &sched->lanes[lane_idx];
    const uint32_t n_lanes = sched->config.n_lanes, n_flight = sched->config.n_in_flight_max;
    const uint32_t n_ahead = n_flight > n_lanes ? n_flight - n_lanes + 1 : 1;
    *ret_decodes = lane->n_in_flight < n_ahead;
    if (lane->n_running == 0)
        return false;
    for (uint32_t i = 0; i < sched->n_running && !*ret_decodes; i++) {
        const phx_sched_slot *slot = &sched->slots[sched->running[i]];
        if (slot->lane == lane_idx && slot->n_issued >= slot->n_target)
            return false;
    }
    return true;
}

static uint64_t n_prefill_left(const phx_sched *sched, uint32_t lane_idx)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < sched->n_running; i++) {
        const phx_sched_slot *slot = &sched->slots[sched->running[i]];
        if (slot->lane == lane_idx && !slot->is_preempting && slot->n_issued < slot->n_target)
            n += slot->n_target - slot->n_issued;
    }
    return n;
}

static bool decodes_in(const phx_sched *sched, const phx_sched_slot *slot, uint32_t lane_idx)
{
    return slot->use == PHX_SCHED_HELD && slot->lane == lane_idx && is_decoding(sched, slot);
}

static uint32_t n_decoding(const phx_sched *sched, uint32_t lane_idx)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < sched->n_running; i++)
        n += decodes_in(sched, &sched->slots[sched->running[i]], lane_idx);
    return n;
}

/* Steps in flight that were fed or asked for drafts. */
static uint32_t n_drafting(const phx_sched *sched)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < sched->n_flight; i++) {
        const phx_sched_step *step =
            &sched->flight[(sched->flight_first + i) % sched->config.n_in_flight_max];
        n += step->n_fed != 0 || step->n_drafts != 0;
    }
    return n;
}

/* By slot number, from where the last step had to stop, so that all get their turn. Growing may take slots
 * away from requests that have no row in this plan. n_max: tokens; n_spare: of them, for drafts. Returns the
 * tokens of all rows. */
static uint32_t add_decodes(phx_sched *sched, uint32_t lane_idx, uint32_t n_max, uint32_t n_spare)
{
    const uint32_t n_slots = sched->config.limits.n_slots;
    const uint32_t first = sched->lanes[lane_idx].decode_cursor;
    uint32_t n = 0;
    for (uint32_t i = 0; i < n_slots; i++) {
        const uint32_t at = (first + i) % n_slots;
        const phx_sched_slot *slot = &sched->slots[at];
        if (!decodes_in(sched, slot, lane_idx))
            continue;
        if (n == n_max) {
            sched->lanes[lane_idx].decode_cursor = at;
            break;
        }
        const row_shape shape = decode_row(sched, slot, n_spare);
        const uint32_t n_tokens = slot->n_issued + slot->n_maybe + shape.n_tokens;
        if (!has_room(sched, slot, shape.n_tokens) ||
            !phx_sched_slot_grow(sched, at, phx_sched_blocks_of(n_tokens)))
            continue;
        add_row(sched, at, &shape);
        n += shape.n_tokens;
        n_spare -= shape.n_fed;
    }
    return n;
}

/* As many drafts as the ranks keep and the output may still take: those that are made are cheap to check.
 * They never make another sequence give way: where no block is at hand for them, none are fed. */
static row_shape decode_row(const phx_sched *sched, const phx_sched_slot *slot, uint32_t n_spare)
{
    const uint32_t n_at_hand = phx_kv_blocks_n_free(sched->kv) + phx_kv_blocks_n_cached(sched->kv);
    const uint32_t n_least = slot->n_issued + slot->n_maybe + 1;
    uint32_t n_fed = slot->n_drafts < n_spare ? slot->n_drafts : n_spare;
    n_fed = n_fed < n_room(sched, slot) ? n_fed : n_room(sched, slot) - 1;
    if (phx_sched_blocks_of(n_least + n_fed) > slot->n_blocks + n_at_hand)
        n_fed = 0;
    return (row_shape){
        .flags = PHX_ROW_FROM_SLOT | PHX_ROW_SAMPLE,
        .n_tokens = 1 + n_fed,
        .n_fed = n_fed,
        .n_drafts = n_drafts_after(sched, slot, 1),
    };
}

static bool counts_tokens(const phx_sampling *sampling)
{
    return sampling->repetition_penalty != 1 || sampling->presence_penalty != 0 ||
           sampling->frequency_penalty != 0;
}

/* Drafts that a row of at least n_tokens should leave with its slot. */
static uint32_t n_drafts_after(const phx_sched *sched, const phx_sched_slot *slot, uint32_t n_tokens)
{
    const phx_sched_req *req = &sched->requests[slot->request];
    const phx_sched_step *step =
        &sched->flight[(sched->flight_first + sched->n_flight) % sched->config.n_in_flight_max];
    const uint32_t n_all = req->n_prompt + req->n_output_max, n_after = slot->n_issued + n_tokens;
    /* The next row feeds its own token too, and the last output is never fed. */
    const uint32_t n_useful = n_all > n_after + 2 ? n_all - n_after - 2 : 0;
    /* A draft that does not hold must leave nothing: neither captured rows nor counts. */
    if (req->capture != 0 || counts_tokens(&req->sampling))
        return 0;
    return step->n_drafts < n_useful ? step->n_drafts : n_useful;
}

/* Tokens that the slot can still be fed: all but the last output, less those that may be on their way. */
static uint32_t n_room(const phx_sched *sched, const phx_sched_slot *slot)
{
    const phx_sched_req *req = &sched->requests[slot->request];
    const uint32_t n_max = req->n_prompt + req->n_output_max - 1, n_may_be = slot->n_issued + slot->n_maybe;
    return n_max > n_may_be ? n_max - n_may_be : 0;
}

/* May feed the token of its last sample, arrived or not, and sample another one. With drafts in flight that
 * may reach the last output it waits for their result. */
static bool is_decoding(const phx_sched *sched, const phx_sched_slot *slot)
{
    const phx_sched_req *req = &sched->requests[slot->request];
    if (slot->is_preempting || slot->n_issued < slot->n_target || phx_sched_is_prefill_only(sched, slot))
        return false;
    assert(req->n_known + slot->n_pending == slot->n_issued + 1);
    return n_room(sched, slot) != 0;
}

static void add_prefills(phx_sched *sched, uint32_t lane_idx, uint32_t n_max)
{
    for (uint32_t i = 0; i < sched->n_running && n_max != 0; i++) {
        const uint32_t at = sched->running[i];
        const phx_sched_slot *slot = &sched->slots[at];
        if (slot->lane != lane_idx || slot->is_preempting || slot->n_issued >= slot->n_target)
            continue;
        const phx_sched_req *req = &sched->requests[slot->request];
        uint32_t n = slot->n_target - slot->n_issued;
        n = n < n_max ? n : n_max;
        n = n < req->n_chunk ? n : req->n_chunk;
        if (!has_room(sched, slot, n))
            continue;
        const bool samples = slot->n_issued + n == slot->n_target && !phx_sched_is_prefill_only(sched, slot);
        add_row(sched, at,
                &(row_shape){.flags = samples ? PHX_ROW_SAMPLE : 0,
                             .n_tokens = n,
                             .n_drafts = samples ? n_drafts_after(sched, slot, n) : 0});
        n_max -= n;
    }
}

/* Drafts that did not hold leave blocks in the ranks' tables that the next tokens use. */
static uint32_t n_blocks_to_send(const phx_sched_slot *slot, uint32_t n_tokens)
{
    const uint32_t n_blocks = phx_sched_blocks_of(slot->n_issued + slot->n_maybe + n_tokens);
    return n_blocks > slot->n_blocks_sent ? n_blocks - slot->n_blocks_sent : 0;
}

/* And those in which the drafts to keep get their entries, where they are at hand and the plan has room: else
 * the ranks make fewer drafts. They will be needed soon, but not at the cost of another sequence. */
static uint32_t n_blocks_with_drafts(const phx_sched *sched, phx_sched_slot *slot, const row_shape *shape)
{
    const phx_sched_req *req = &sched->requests[slot->request];
    const uint32_t n_least = n_blocks_to_send(slot, shape->n_tokens);
    const uint32_t n_room = sched->n_plan_blocks_max - sched->plan.n_blocks;
    const uint32_t n_all = phx_sched_blocks_of(req->n_prompt + req->n_output_max);
    uint32_t n = shape->n_drafts ? n_blocks_to_send(slot, shape->n_tokens + shape->n_drafts) : 0;
    n = n < n_room ? n : n_room;
    n = slot->n_blocks_sent + n < n_all ? n : n_all - slot->n_blocks_sent;
    while (slot->n_blocks < slot->n_blocks_sent + n &&
           phx_kv_blocks_take(sched->kv, &slot->blocks[slot->n_blocks]))
        slot->n_blocks++;
    const uint32_t n_held = slot->n_blocks - slot->n_blocks_sent;
    n = n < n_held ? n : n_held;
    return n > n_least ? n : n_least;
}

/* A plan has one capture mask and bounded arrays; who does not fit comes with a later step of the lane. */
static bool has_room(const phx_sched *sched, const phx_sched_slot *slot, uint32_t n_tokens)
{
    const phx_step_plan *plan = &sched->plan;
    const phx_sched_req *req = &sched->requests[slot->request];
    if (req->capture != 0 && !slot->is_warming && plan->capture != 0 && plan->capture != req->capture)
        return false;
    const uint32_t n_ids = slot->is_open || !counts_tokens(&req->sampling) ? 0 : slot->n_reused;
    const uint32_t n_blocks = n_blocks_to_send(slot, n_tokens);
    return n_ids + n_tokens <= sched->n_plan_tokens_max - plan->n_tokens &&
           n_blocks <= sched->n_plan_blocks_max - plan->n_blocks;
}

static void add_row(phx_sched *sched, uint32_t slot_idx, const row_shape *shape)
{
    uint32_t flags = shape->flags;
    const uint32_t n_tokens = shape->n_tokens;
    phx_step_plan *plan = &sched->plan;
    phx_sched_slot *slot = &sched->slots[slot_idx];
    const phx_sched_req *req = &sched->requests[slot->request];
    if (!slot->is_open)
        add_open(sched, slot_idx);
    if (req->capture != 0 && !slot->is_warming) {
        flags |= PHX_ROW_CAPTURE;
        plan->capture = req->capture;
    }
    phx_step_row *row = &sched->rows[plan->n_rows++];
    *row =
        (phx_step_row){.slot = slot_idx, .flags = flags, .n_tokens = n_tokens, .n_drafts = shape->n_drafts};
    if (!(flags & PHX_ROW_FROM_SLOT)) {
        row->token_first = plan->n_tokens;
        memcpy(sched->plan_tokens + plan->n_tokens, req->tokens + slot->n_issued,
               n_tokens * sizeof(uint32_t));
        plan->n_tokens += n_tokens;
    }
    row->block_first = plan->n_blocks;
    row->n_blocks = n_blocks_with_drafts(sched, slot, shape);
    assert(slot->n_blocks_sent + row->n_blocks <= slot->n_blocks);
    memcpy(sched->plan_blocks + plan->n_blocks, slot->blocks + slot->n_blocks_sent,
           row->n_blocks * sizeof(uint32_t));
    plan->n_blocks += row->n_blocks;
    slot->n_blocks_sent += row->n_blocks;
    slot->n_issued += n_tokens - shape->n_fed;
    slot->n_maybe += shape->n_fed;
    slot->n_drafts = shape->n_drafts;
    slot->n_in_flight++;
    phx_sched_step *step =
        &sched->flight[(sched->flight_first + sched->n_flight) % sched->config.n_in_flight_max];
    const bool samples = (flags & PHX_ROW_SAMPLE) != 0, is_decode = (flags & PHX_ROW_FROM_SLOT) != 0;
    step->rows[step->n_rows++] =
        (phx_sched_row){slot_idx, n_tokens, shape->n_fed, req->id, samples, is_decode};
    step->n_fed = shape->n_fed > step->n_fed ? shape->n_fed : step->n_fed;
    step->is_steady &= is_decode && shape->n_fed == step->n_drafts && shape->n_drafts == step->n_drafts;
    if (samples) {
        slot->n_pending++;
        step->n_samples++;
        step->n_results_max += 1 + shape->n_fed;
        sched->n_results_flight += 1 + shape->n_fed;
    }
}

static void add_open(phx_sched *sched, uint32_t slot_idx)
{
    phx_step_plan *plan = &sched->plan;
    phx_sched_slot *slot = &sched->slots[slot_idx];
    const phx_sched_req *req = &sched->requests[slot->request];
    phx_slot_open *open = &sched->opens[plan->n_opens++];
    *open = (phx_slot_open){
        .slot = slot_idx,
        .request_id = req->id,
        .n_reused = slot->n_reused,
        .n_prompt = req->n_prompt, /* also after a preemption: what came out is counted as output */
        .sampling = req->sampling,
    };
    if (counts_tokens(&req->sampling) && slot->n_reused != 0) {
        open->reused_first = plan->n_tokens;
        open->n_reused_ids = slot->n_reused;
        memcpy(sched->plan_tokens + plan->n_tokens, req->tokens, slot->n_reused * sizeof(uint32_t));
        plan->n_tokens += slot->n_reused;
    }
    slot->is_open = true;
}

static void add_closes(phx_sched *sched)
{
    for (uint32_t i = 0; i < sched->config.limits.n_slots; i++) {
        if (!sched->slots[i].needs_close)
            continue;
        sched->slots[i].needs_close = false;
        sched->closes[sched->plan.n_closes++] = i;
    }
}
