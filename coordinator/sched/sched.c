/* coordinator/sched/sched.c - life of a scheduler, its requests coming in, its numbers going out. */
#include "coordinator/sched/sched.h"

#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "coordinator/sched/state.h"
#include "proto/limits.h"

static phx_code check_config(const phx_sched_config *config, phx_error *err);
static phx_code allocate(phx_sched *sched, phx_error *err);
static phx_code check_request(const phx_sched *sched, const phx_sched_request *request, phx_error *err);
static phx_code check_room(const phx_sched *sched, const phx_sched_request *request, phx_error *err);
static phx_code copy_request(const phx_sched *sched, const phx_sched_request *request,
                             phx_sched_req *ret_copy, phx_error *err);
static uint32_t find(const phx_sched *sched, uint64_t id);

phx_code phx_sched_create(const phx_sched_config *config, phx_sched **ret_sched, phx_error *err)
{
    phx_sched *sched = NULL;
    phx_code rc = check_config(config, err);
    if (rc != PHX_OK)
        goto out;
    sched = phx_alloc(1, sizeof(*sched));
    if (!sched) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "scheduler");
        goto out;
    }
    const phx_step_limits *limits = &config->limits;
    sched->config = *config;
    sched->n_table = phx_sched_blocks_of(limits->n_context);
    sched->n_fit =
        limits->n_blocks < sched->n_table ? limits->n_blocks * PHX_BLOCK_TOKENS : limits->n_context;
    sched->n_requests = config->n_queue_max + limits->n_slots;
    sched->queue_first = sched->queue_last = PHX_SCHED_NONE;
    phx_drafter_init(&sched->drafter, limits->n_drafts, !config->drafts_fixed);
    rc = allocate(sched, err);
    if (rc != PHX_OK)
        goto out;
    rc = phx_kv_blocks_create(limits->n_blocks, &sched->kv, err);
    if (rc != PHX_OK)
        goto out;
    for (uint32_t i = 0; i < limits->n_slots; i++)
        sched->slots[i] =
            (phx_sched_slot){.request = PHX_SCHED_NONE, .blocks = sched->tables + (size_t)i * sched->n_table};
    for (uint32_t i = 0; i < config->n_in_flight_max; i++)
        sched->flight[i].rows = sched->flight_rows + (size_t)i * limits->n_slots;
    *ret_sched = sched;
    sched = NULL;
out:
    phx_sched_destroy(sched);
    return rc;
}

void phx_sched_destroy(phx_sched *sched)
{
    if (!sched)
        return;
    for (uint32_t i = 0; sched->requests && i < sched->n_requests; i++)
        phx_free(sched->requests[i].memory);
    phx_kv_blocks_destroy(sched->kv);
    phx_free(sched->requests);
    phx_free(sched->slots);
    phx_free(sched->tables);
    phx_free(sched->running);
    phx_free(sched->lanes);
    phx_free(sched->flight);
    phx_free(sched->flight_rows);
    phx_free(sched->events);
    phx_free(sched->opens);
    phx_free(sched->closes);
    phx_free(sched->rows);
    phx_free(sched->plan_tokens);
    phx_free(sched->plan_blocks);
    phx_free(sched->refs);
    phx_free(sched);
}

static phx_code check_config(const phx_sched_config *config, phx_error *err)
{
    const phx_step_limits *limits = &config->limits;
    const struct {
        const char *name;
        uint32_t value, min, max;
    } numbers[] = {
        {"n_slots", limits->n_slots, 1, PHX_SLOTS_MAX},
        /* Two, so that decoding and prefill can always share a step. */
        {"n_step_tokens", limits->n_step_tokens, 2, PHX_STEP_TOKENS_MAX},
        {"n_blocks", limits->n_blocks, 1, 1u << 26},
        {"n_context", limits->n_context, 2, PHX_STEP_IDS_MAX - PHX_STEP_TOKENS_MAX},
        {"n_vocab", limits->n_vocab, 1, 1u << 30},
        {"n_lanes", config->n_lanes, 1, 256},
        {"n_in_flight_max", config->n_in_flight_max, 1, 257},
        {"n_chunk_tokens", config->n_chunk_tokens, 1, PHX_STEP_TOKENS_MAX},
        {"n_queue_max", config->n_queue_max, 1, 1u << 20},
        {"n_eos", config->n_eos, 0, PHX_STOP_IDS_MAX},
        {"n_drafts", limits->n_drafts, 0, PHX_DRAFTS_MAX},
    };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if (numbers[i].value < numbers[i].min || numbers[i].value > numbers[i].max)
            return PHX_FAIL(err, PHX_ERR_INVALID, "scheduler: %s is %u, it must be %u to %u", numbers[i].name,
                            numbers[i].value, numbers[i].min, numbers[i].max);
    return PHX_OK;
}

/* Everything that ticks and results will ever need. */
static phx_code allocate(phx_sched *sched, phx_error *err)
{
    const phx_step_limits *limits = &sched->config.limits;
    const size_t n_slots = limits->n_slots, n_flight = sched->config.n_in_flight_max;
    const size_t n_ids = n_slots * limits->n_context + limits->n_step_tokens;
    const size_t n_blocks = n_slots * sched->n_table;
    sched->n_plan_tokens_max = n_ids < PHX_STEP_IDS_MAX ? (uint32_t)n_ids : PHX_STEP_IDS_MAX;
    sched->n_plan_blocks_max = n_blocks < PHX_STEP_BLOCKS_MAX ? (uint32_t)n_blocks : PHX_STEP_BLOCKS_MAX;
    sched->n_events_max = (uint32_t)(sched->n_requests + n_slots * (n_flight + 1) * (1 + limits->n_drafts));
    sched->requests = phx_alloc(sched->n_requests, sizeof(*sched->requests));
    sched->slots = phx_alloc(n_slots, sizeof(*sched->slots));
    sched->tables = phx_alloc(n_slots * sched->n_table, sizeof(*sched->tables));
    sched->running = phx_alloc(n_slots, sizeof(*sched->running));
    sched->lanes = phx_alloc(sched->config.n_lanes, sizeof(*sched->lanes));
    sched->flight = phx_alloc(n_flight, sizeof(*sched->flight));
    sched->flight_rows = phx_alloc(n_flight * n_slots, sizeof(*sched->flight_rows));
    sched->events = phx_alloc(sched->n_events_max, sizeof(*sched->events));
    sched->opens = phx_alloc(n_slots, sizeof(*sched->opens));
    sched->closes = phx_alloc(n_slots, sizeof(*sched->closes));
    sched->rows = phx_alloc(n_slots, sizeof(*sched->rows));
    sched->plan_tokens = phx_alloc(sched->n_plan_tokens_max, sizeof(*sched->plan_tokens));
    sched->plan_blocks = phx_alloc(sched->n_plan_blocks_max, sizeof(*sched->plan_blocks));
    sched->refs = phx_alloc(limits->n_blocks, sizeof(*sched->refs));
    if (!sched->requests || !sched->slots || !sched->tables || !sched->running || !sched->lanes ||
        !sched->flight || !sched->flight_rows || !sched->events || !sched->opens || !sched->closes ||
        !sched->rows || !sched->plan_tokens || !sched->plan_blocks || !sched->refs)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "scheduler of %u slots and %u waiting requests", limits->n_slots,
                        sched->config.n_queue_max);
    return PHX_OK;
}

phx_code phx_sched_submit(phx_sched *sched, const phx_sched_request *request, uint64_t now_us, phx_error *err)
{
    phx_sched_req copy;
    phx_code rc = check_request(sched, request, err);
    if (rc == PHX_OK)
        rc = check_room(sched, request, err);
    if (rc == PHX_OK && request->deadline_us != 0 && request->deadline_us <= now_us)
        rc = PHX_FAIL(err, PHX_ERR_DEADLINE, "the deadline of request %llu has passed",
                      (unsigned long long)request->id);
    if (rc == PHX_OK)
        rc = copy_request(sched, request, &copy, err);
    if (rc != PHX_OK) {
        sched->totals.n_refused++;
        return rc;
    }
    uint32_t at = 0;
    while (sched->requests[at].life != PHX_SCHED_ABSENT)
        at++;
    assert(at < sched->n_requests);
    sched->requests[at] = copy;
    sched->n_living++;
    phx_sched_queue_append(sched, at);
    return PHX_OK;
}

static phx_code check_request(const phx_sched *sched, const phx_sched_request *request, phx_error *err)
{
    const uint32_t n_vocab = sched->config.limits.n_vocab;
    const unsigned long long id = request->id;
    const phx_sampling *sampling = &request->sampling;
    if (!request->prompt || request->n_prompt == 0)
        return PHX_FAIL(err, PHX_ERR_INVALID, "request %llu has an empty prompt", id);
    if ((request->capture & ~(uint32_t)PHX_CAPTURE_ALL) != 0)
        return PHX_FAIL(err, PHX_ERR_INVALID, "request %llu: capture mask 0x%x has unknown bits", id,
                        request->capture);
    if (request->n_output_max == 0 && request->capture == 0)
        return PHX_FAIL(err, PHX_ERR_INVALID, "request %llu asks for no tokens; at least one", id);
    if (request->n_stop_ids > PHX_STOP_IDS_MAX)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "request %llu has %u stop ids, the limit is %u", id,
                        request->n_stop_ids, PHX_STOP_IDS_MAX);
    const uint32_t n_needed = request->n_output_max == 0 ? 0 : 1;
    if (request->n_prompt > sched->n_fit || n_needed > sched->n_fit - request->n_prompt)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG,
                        "prompt of %u tokens: the limit is %u (context %u, cache %u blocks of %u)",
                        request->n_prompt, sched->n_fit - n_needed, sched->config.limits.n_context,
                        sched->config.limits.n_blocks, PHX_BLOCK_TOKENS);
    for (uint32_t i = 0; i < request->n_prompt; i++)
        if (request->prompt[i] >= n_vocab)
            return PHX_FAIL(err, PHX_ERR_INVALID, "prompt token id %u, the vocabulary has %u",
                            request->prompt[i], n_vocab);
    if (sampling->n_bias != 0 && (!sampling->bias_ids || !sampling->bias))
        return PHX_FAIL(err, PHX_ERR_INVALID, "request %llu: bias without its arrays", id);
    const phx_code rc = phx_sampling_check(sampling, err);
    if (rc != PHX_OK)
        return rc;
    for (uint32_t i = 0; i < sampling->n_bias; i++)
        if (sampling->bias_ids[i] >= n_vocab)
            return PHX_FAIL(err, PHX_ERR_INVALID, "bias of token id %u, the vocabulary has %u",
                            sampling->bias_ids[i], n_vocab);
    if (find(sched, request->id) != PHX_SCHED_NONE)
        return PHX_FAIL(err, PHX_ERR_INVALID, "a request with id %llu is running already", id);
    return PHX_OK;
}

static phx_code check_room(const phx_sched *sched, const phx_sched_request *request, phx_error *err)
{
    if (sched->is_draining)
        return PHX_FAIL(err, PHX_ERR_UNAVAILABLE, "draining: no new requests");
    if (sched->n_queued >= sched->config.n_queue_max)
        return PHX_FAIL(err, PHX_ERR_BUSY, "%u requests are waiting; try again later", sched->n_queued);
    /* An empty queue takes any prompt that fits, else a long one could never come in. */
    if (sched->n_queued != 0 &&
        (sched->n_queued_tokens >= sched->config.n_queue_tokens_max ||
         request->n_prompt > sched->config.n_queue_tokens_max - sched->n_queued_tokens))
        return PHX_FAIL(err, PHX_ERR_BUSY, "%llu prompt tokens are waiting; try again later",
                        (unsigned long long)sched->n_queued_tokens);
    /* Only a caller that does not fetch its events gets here. */
    if (sched->n_living + sched->n_results_flight + sched->n_events >= sched->n_events_max)
        return PHX_FAIL(err, PHX_ERR_BUSY, "%u events are waiting to be fetched", sched->n_events);
    return PHX_OK;
}

static phx_code copy_request(const phx_sched *sched, const phx_sched_request *request,
                             phx_sched_req *ret_copy, phx_error *err)
{
    const uint32_t n_output_room = sched->n_fit - request->n_prompt;
    const uint32_t n_output = request->n_output_max < n_output_room ? request->n_output_max : n_output_room;
    const uint32_t n_tokens = request->n_prompt + n_output;
    const uint32_t n_keys = n_tokens / PHX_BLOCK_TOKENS;
    const uint32_t n_bias = request->sampling.n_bias;
    const size_t words = n_tokens + 2 * (size_t)n_bias;
    uint32_t *memory = phx_alloc(words * sizeof(uint32_t) + n_keys * sizeof(phx_hash), 1);
    if (!memory)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "request of %u tokens", n_tokens);
    const uint32_t n_warm = request->n_warm < request->n_prompt ? request->n_warm : request->n_prompt - 1;
    phx_sched_req copy = {
        .prev = PHX_SCHED_NONE,
        .next = PHX_SCHED_NONE,
        .slot = PHX_SCHED_NONE,
        .id = request->id,
        .memory = memory,
        .tokens = memory,
        .keys = (phx_hash *)(void *)(memory + words), /* bytes: no alignment to keep */
        .n_prompt = request->n_prompt,
        .n_known = request->n_prompt,
        .n_output_max = n_output,
        .n_warm = n_warm / PHX_BLOCK_TOKENS * PHX_BLOCK_TOKENS,
        .n_chunk = request->n_chunk ? request->n_chunk : sched->config.n_chunk_tokens,
        .capture = request->capture,
        .no_reuse = request->no_reuse,
        .ignore_eos = request->ignore_eos,
        .cache_salt = request->cache_salt,
        .deadline_us = request->deadline_us,
        .sampling = request->sampling,
        .n_stop_ids = request->n_stop_ids,
    };
    memcpy(copy.tokens, request->prompt, request->n_prompt * sizeof(uint32_t));
    memcpy(copy.stop_ids, request->stop_ids, request->n_stop_ids * sizeof(uint32_t));
    copy.sampling.bias_ids = NULL;
    copy.sampling.bias = NULL;
    if (n_bias != 0) {
        uint32_t *ids = memory + n_tokens;
        float *bias = (float *)(void *)(ids + n_bias);
        memcpy(ids, request->sampling.bias_ids, n_bias * sizeof(*ids));
        memcpy(bias, request->sampling.bias, n_bias * sizeof(*bias));
        copy.sampling.bias_ids = ids;
        copy.sampling.bias = bias;
    }
    *ret_copy = copy;
    return PHX_OK;
}

static uint32_t find(const phx_sched *sched, uint64_t id)
{
    for (uint32_t i = 0; i < sched->n_requests; i++)
        if (sched->requests[i].life != PHX_SCHED_ABSENT && sched->requests[i].id == id)
            return i;
    return PHX_SCHED_NONE;
}

bool phx_sched_cancel(phx_sched *sched, uint64_t id, phx_end_reason reason)
{
    const uint32_t request = find(sched, id);
    if (request == PHX_SCHED_NONE)
        return false;
    phx_sched_req_end(sched, request, reason);
    return true;
}

bool phx_sched_next_event(phx_sched *sched, phx_sched_event *ret_event)
{
    if (sched->n_events == 0)
        return false;
    *ret_event = sched->events[sched->event_first];
    sched->event_first = (sched->event_first + 1) % sched->n_events_max;
    sched->n_events--;
    return true;
}

uint64_t phx_sched_next_deadline(const phx_sched *sched)
{
    uint64_t earliest = UINT64_MAX;
    for (uint32_t i = 0; i < sched->n_requests; i++) {
        const phx_sched_req *req = &sched->requests[i];
        if (req->life != PHX_SCHED_ABSENT && req->deadline_us != 0 && req->deadline_us < earliest)
            earliest = req->deadline_us;
    }
    return earliest;
}

void phx_sched_group_lost(phx_sched *sched, bool keep)
{
    /* Without steps in flight every leave returns its blocks at once. */
    for (uint32_t i = 0; i < sched->config.limits.n_slots; i++)
        sched->slots[i].n_in_flight = sched->slots[i].n_pending = sched->slots[i].n_maybe = 0;
    for (uint32_t i = 0; i < sched->config.n_lanes; i++)
        sched->lanes[i].n_in_flight = 0;
    sched->n_flight = 0;
    sched->n_results_flight = 0;
    sched->step = 0;
    while (keep && sched->n_running != 0) /* newest first, so that the oldest ends at the head */
        phx_sched_slot_requeue(sched, sched->running[sched->n_running - 1]);
    for (uint32_t i = 0; !keep && i < sched->n_requests; i++)
        if (sched->requests[i].life != PHX_SCHED_ABSENT)
            phx_sched_req_end(sched, i, PHX_END_ERROR);
    for (uint32_t i = 0; i < sched->config.limits.n_slots; i++) {
        phx_sched_slot_settle(sched, i);
        sched->slots[i].needs_close = false;
    }
    phx_kv_blocks_reset(sched->kv);
}

void phx_sched_drain(phx_sched *sched)
{
    sched->is_draining = true;
}

phx_sched_stats phx_sched_count(const phx_sched *sched)
{
    phx_sched_stats stats = sched->drafter.rehearsal.is_on ? sched->totals_before : sched->totals;
    stats.n_queued = sched->n_queued;
    stats.n_queued_tokens = sched->n_queued_tokens;
    stats.n_running = sched->n_running;
    stats.n_in_flight = sched->n_flight;
    stats.n_blocks = sched->config.limits.n_blocks;
    stats.n_blocks_used = phx_kv_blocks_n_used(sched->kv);
    stats.n_blocks_cached = phx_kv_blocks_n_cached(sched->kv);
    return stats;
}

const phx_drafter *phx_sched_drafter(const phx_sched *sched)
{
    return &sched->drafter;
}

void phx_sched_rehearse(phx_sched *sched, uint32_t n_rows)
{
    sched->totals_before = sched->totals;
    phx_drafter_rehearse(&sched->drafter, n_rows);
}

bool phx_sched_has_rehearsed(const phx_sched *sched)
{
    return phx_drafter_has_rehearsed(&sched->drafter);
}

void phx_sched_end_rehearsal(phx_sched *sched)
{
    sched->totals = sched->totals_before;
    phx_drafter_end_rehearsal(&sched->drafter, sched->n_flight);
}
