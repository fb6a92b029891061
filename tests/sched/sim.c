/* tests/sched/sim.c - the scheduler with a fake group under a virtual clock. */
#include "tests/sched/sim.h"

#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "coordinator/sched/state.h"

#define N_REQUESTS_MAX 48u
#define N_TEXTS        3u
#define N_STEPS_MAX    200000u

typedef struct flight {
    uint64_t done_us;
    const phx_step_result *result;
} flight;

typedef struct sim {
    phx_rng rng;
    phx_sched_config config;
    phx_sched *sched;
    group *group;
    known_requests requests;
    known_request all[N_REQUESTS_MAX];
    uint64_t arrive_us[N_REQUESTS_MAX];
    bool was_submitted[N_REQUESTS_MAX];
    bool was_cancelled[N_REQUESTS_MAX];
    uint32_t n_arrived;
    uint32_t *texts[N_TEXTS]; /* [n_context + 64] prompts share their starts */
    flight flight[16];
    uint32_t flight_first, n_flight;
    uint64_t stage_free_us[16];
    uint64_t now_us, group_back_us, next_fault_us;
    uint32_t n_faults_left;
    bool group_ended; /* some loss ended everything */
    uint64_t n_steps;
    bool mutated;
    bool is_rehearsing;
    uint64_t n_uncounted; /* tokens of the rehearsal */
    /* room for the mutated copy of a plan */
    phx_step_row rows[PHX_SLOTS_MAX];
    phx_slot_open opens[PHX_SLOTS_MAX];
    uint32_t *tokens;
    uint32_t *blocks;
    sim_report *report;
    sim_mutate_fn *mutate;
} sim;

static void set_up(sim *s);
static void begin_rehearsal(sim *s);
static void make_request(sim *s, uint32_t at);
static void tear_down(sim *s);
static phx_code advance(sim *s, phx_error *err);
static phx_code submit(sim *s, uint32_t at, phx_error *err);
static phx_code finish_step(sim *s, phx_error *err);
static phx_code fault(sim *s, phx_error *err);
static phx_code tick_all(sim *s, phx_error *err);
static phx_code issue(sim *s, const phx_step_plan *plan, phx_error *err);
static phx_code drain_events(sim *s, phx_error *err);
static phx_code take_end(sim *s, const phx_sched_event *event, phx_error *err);
static phx_code check_quiet(sim *s, phx_error *err);

#define FAILED(err, ...) PHX_FAIL((err), PHX_ERR_INTERNAL, __VA_ARGS__)

phx_code sim_run(const sim_options *options, sim_report *report, phx_error *err)
{
    const uint64_t n_live = phx_alloc_count().n_live;
    sim *s = phx_alloc(1, sizeof(*s));
    assert(s);
    s->rng.seed = options->seed;
    s->mutate = options->mutate;
    s->report = report;
    set_up(s);
    phx_code rc = phx_sched_create(&s->config, &s->sched, err);
    if (rc != PHX_OK)
        goto out;
    s->group = group_create(&s->config, &s->requests);
    begin_rehearsal(s);
    bool is_alive = true;
    while (is_alive) {
        rc = advance(s, err);
        if (rc != PHX_OK)
            goto out;
        is_alive = s->n_arrived < s->requests.n || s->n_flight != 0;
        for (uint32_t i = 0; i < s->requests.n; i++)
            is_alive |= s->all[i].is_alive;
    }
    rc = check_quiet(s, err);
    if (rc == PHX_OK && s->mutate)
        rc = s->mutated ? FAILED(err, "a planted bug went unnoticed")
                        : PHX_FAIL(err, PHX_ERR_NOT_FOUND, "no occasion");
out:
    tear_down(s);
    if (rc == PHX_OK && phx_alloc_count().n_live != n_live)
        rc = FAILED(err, "memory leaked");
    return rc;
}

static uint32_t below(sim *s, uint32_t n)
{
    return phx_rng_below(&s->rng, n);
}

static uint32_t between(sim *s, uint32_t min, uint32_t max)
{
    return min + below(s, max - min + 1);
}

static bool one_in(sim *s, uint32_t n)
{
    return below(s, n) == 0;
}

static void set_up(sim *s)
{
    phx_sched_config *config = &s->config;
    config->limits.n_slots = between(s, 1, 8);
    config->limits.n_step_tokens = one_in(s, 4) ? between(s, 2, 6) : between(s, 8, 160);
    config->limits.n_context = between(s, 66, 420);
    config->limits.n_blocks = one_in(s, 3) ? between(s, 2, 7) : between(s, 6, 32);
    config->limits.n_vocab = between(s, 8, 300);
    config->limits.n_drafts = one_in(s, 2) ? between(s, 1, PHX_DRAFTS_MAX) : 0;
    config->drafts_fixed = one_in(s, 2);
    config->n_lanes = between(s, 1, 4);
    config->n_in_flight_max = one_in(s, 5) ? between(s, 1, 6) : config->n_lanes + 1;
    config->n_chunk_tokens = one_in(s, 3) ? between(s, 1, 8) : between(s, 16, 128);
    config->n_queue_max = one_in(s, 3) ? between(s, 1, 10) : N_REQUESTS_MAX;
    config->n_queue_tokens_max = one_in(s, 3) ? 500 : 100000;
    config->n_eos = between(s, 0, 2);
    for (uint32_t i = 0; i < config->n_eos; i++)
        config->eos_ids[i] = i;
    for (uint32_t i = 0; i < N_TEXTS; i++) {
        s->texts[i] = phx_alloc(config->limits.n_context, sizeof(uint32_t));
        assert(s->texts[i]);
        for (uint32_t k = 0; k < config->limits.n_context; k++)
            s->texts[i][k] = below(s, config->limits.n_vocab);
    }
    const size_t n_ids = (size_t)config->limits.n_slots * config->limits.n_context + 1024;
    s->tokens = phx_alloc(n_ids, sizeof(uint32_t));
    s->blocks = phx_alloc(n_ids, sizeof(uint32_t));
    assert(s->tokens && s->blocks);
    s->requests.all = s->all;
    s->requests.n = between(s, 4, N_REQUESTS_MAX);
    const uint32_t pace_us = one_in(s, 3) ? 1 : between(s, 100, 20000);
    for (uint32_t i = 0; i < s->requests.n; i++) {
        s->arrive_us[i] = (i ? s->arrive_us[i - 1] : 1) + below(s, pace_us);
        make_request(s, i);
    }
    s->n_faults_left = one_in(s, 3) ? 0 : between(s, 1, 12);
    s->next_fault_us = s->n_faults_left ? 1 + below(s, 20000) : UINT64_MAX;
}

static void make_prompt(sim *s, known_request *known, uint32_t n_max)
{
    const uint32_t n_vocab = s->config.limits.n_vocab;
    uint32_t n_prompt = one_in(s, 8) ? n_max : between(s, 1, n_max);
    if (one_in(s, 2) && n_prompt > 80) /* many short ones, so that growing fills the pool */
        n_prompt = between(s, 1, 80);
    if (one_in(s, 4) && n_prompt >= PHX_BLOCK_TOKENS)
        n_prompt -= n_prompt % PHX_BLOCK_TOKENS; /* the edges are where the bugs are */
    const uint32_t n_shared = one_in(s, 3) ? n_prompt : below(s, n_prompt + 1);
    const uint32_t *text = s->texts[below(s, N_TEXTS)];
    for (uint32_t i = 0; i < n_prompt; i++)
        known->tokens[i] = i < n_shared ? text[i] : below(s, n_vocab);
    if (one_in(s, 4)) /* equal blocks after different starts */
        known->tokens[below(s, n_prompt < 20 ? n_prompt : 20)] = below(s, n_vocab);
    known->request.n_prompt = n_prompt;
    known->request.prompt = known->tokens;
}

static void make_request(sim *s, uint32_t at)
{
    const phx_step_limits *limits = &s->config.limits;
    const uint32_t n_pool = limits->n_blocks * PHX_BLOCK_TOKENS;
    const uint32_t n_fit = n_pool < limits->n_context ? n_pool : limits->n_context;
    known_request *known = &s->all[at];
    phx_sched_request *request = &known->request;
    request->id = at + 1;
    request->sampling = (phx_sampling){.top_p = 1, .repetition_penalty = 1, .seed = phx_rng_u64(&s->rng)};
    if (one_in(s, 3))
        request->sampling.repetition_penalty = 1.5f;
    if (one_in(s, 4))
        request->sampling.presence_penalty = 0.5f;
    request->n_output_max = one_in(s, 4) ? 1000 : between(s, 1, 90);
    request->cache_salt = below(s, 2);
    request->n_stop_ids = below(s, 2);
    request->stop_ids[0] = below(s, limits->n_vocab);
    request->ignore_eos = one_in(s, 3);
    request->n_chunk = one_in(s, 5) ? between(s, 1, 80) : 0;
    if (one_in(s, 8))
        request->deadline_us = s->arrive_us[at] + between(s, 1, 40000);
    if (one_in(s, 6)) {
        request->capture = between(s, 1, 3);
        request->no_reuse = !one_in(s, 3);
        request->n_warm = one_in(s, 2) ? below(s, n_fit) : 0;
        request->n_output_max = one_in(s, 3) ? between(s, 1, 5) : 0;
    }
    known->tokens = phx_alloc(n_fit + 1, sizeof(uint32_t));
    known->digests = phx_alloc(n_fit + 1, sizeof(uint64_t));
    assert(known->tokens && known->digests);
    make_prompt(s, known, request->n_output_max ? n_fit - 1 : n_fit);
    const uint32_t n_room = n_fit - request->n_prompt;
    known->n_output_max = request->n_output_max < n_room ? request->n_output_max : n_room;
    known->n_warm = request->n_warm < request->n_prompt ? request->n_warm : request->n_prompt - 1;
    known->n_warm -= known->n_warm % PHX_BLOCK_TOKENS;
    known->n_tokens = request->n_prompt + known->n_output_max;
    known->n_captured_to = known->n_warm;
    for (uint32_t i = request->n_prompt; i < known->n_tokens; i++)
        known->tokens[i] = model_next(known->tokens, i, limits->n_vocab);
    for (uint32_t i = 0; i < known->n_tokens; i++)
        known->digests[i] = entry_digest(known, i, i ? known->digests[i - 1] : 0, known->tokens[i]);
}

static void tear_down(sim *s)
{
    phx_sched_destroy(s->sched);
    group_destroy(s->group);
    for (uint32_t i = 0; i < N_TEXTS; i++)
        phx_free(s->texts[i]);
    for (uint32_t i = 0; i < s->requests.n; i++) {
        phx_free(s->all[i].tokens);
        phx_free(s->all[i].digests);
    }
    phx_free(s->tokens);
    phx_free(s->blocks);
    phx_free(s);
}

/* To the next thing that happens, and through all that follows at once. */
static phx_code advance(sim *s, phx_error *err)
{
    const uint64_t arrival = s->n_arrived < s->requests.n ? s->arrive_us[s->n_arrived] : UINT64_MAX;
    const uint64_t done = s->n_flight ? s->flight[s->flight_first].done_us : UINT64_MAX;
    const uint64_t back = s->group_back_us > s->now_us ? s->group_back_us : UINT64_MAX;
    /* Ticks end what is overdue, and there are none while the group is away. */
    const uint64_t deadline = back == UINT64_MAX ? phx_sched_next_deadline(s->sched) : UINT64_MAX;
    const uint64_t times[] = {arrival, done, back, deadline, s->next_fault_us};
    uint64_t next = UINT64_MAX;
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
        next = times[i] < next ? times[i] : next;
    if (next == UINT64_MAX)
        return FAILED(err, "nothing will ever happen, but requests are alive");
    s->now_us = next > s->now_us ? next : s->now_us;
    phx_code rc = PHX_OK;
    if (next == arrival)
        rc = submit(s, s->n_arrived++, err);
    else if (next == done)
        rc = finish_step(s, err);
    else if (next == s->next_fault_us)
        rc = fault(s, err);
    if (rc == PHX_OK)
        rc = phx_sched_check(s->sched, err);
    if (rc == PHX_OK)
        rc = drain_events(s, err);
    return rc == PHX_OK && s->now_us >= s->group_back_us ? tick_all(s, err) : rc;
}

static phx_code submit(sim *s, uint32_t at, phx_error *err)
{
    phx_error refusal = {0};
    const phx_code rc = phx_sched_submit(s->sched, &s->all[at].request, s->now_us, &refusal);
    s->report->n_requests++;
    if (rc == PHX_OK) {
        s->was_submitted[at] = s->all[at].is_alive = true;
        return PHX_OK;
    }
    s->report->n_refused++;
    return rc == PHX_ERR_BUSY || rc == PHX_ERR_UNAVAILABLE
               ? PHX_OK
               : FAILED(err, "request refused with %s: %s", phx_code_name(rc), refusal.text);
}

static void begin_rehearsal(sim *s)
{
    s->is_rehearsing = s->config.limits.n_drafts && !s->config.drafts_fixed && one_in(s, 2);
    if (s->is_rehearsing)
        phx_sched_rehearse(s->sched, between(s, 1, 2));
}

/* Whether all lengths were seen or not; steps may be in flight. */
static void end_rehearsal(sim *s)
{
    const uint64_t n_shown = phx_sched_count(s->sched).n_output_tokens;
    s->n_uncounted = s->sched->totals.n_output_tokens - n_shown;
    s->report->n_rehearsals += phx_sched_has_rehearsed(s->sched);
    s->is_rehearsing = false;
    phx_sched_end_rehearsal(s->sched);
    assert(phx_sched_count(s->sched).n_output_tokens == n_shown); /* no reader sees a counter go back */
}

static phx_code finish_step(sim *s, phx_error *err)
{
    const phx_step_result *result = s->flight[s->flight_first].result;
    if (one_in(s, 100)) {
        phx_step_result wrong = *result;
        const phx_row_result stray = {.slot = s->config.limits.n_slots, .request_id = 1};
        wrong.step += one_in(s, 2);
        if (wrong.step == result->step) {
            wrong.rows = &stray;
            wrong.n_rows = 1;
        }
        phx_error mismatch = {0};
        if (phx_sched_apply(s->sched, &wrong, s->now_us, &mismatch) != PHX_ERR_MISMATCH)
            return FAILED(err, "a wrong result was taken");
        s->report->n_mismatches++;
    }
    for (uint32_t i = 0; i < result->n_rows; i++)
        s->report->n_discarded += !s->all[result->rows[i].request_id - 1].is_alive;
    const uint64_t n_allocs = phx_alloc_count().n_allocs;
    const phx_code rc = phx_sched_apply(s->sched, result, s->now_us, err);
    if (rc == PHX_OK && phx_alloc_count().n_allocs != n_allocs)
        return FAILED(err, "apply allocates");
    s->flight_first = (s->flight_first + 1) % 16;
    s->n_flight--;
    group_applied(s->group);
    if (s->is_rehearsing && (phx_sched_has_rehearsed(s->sched) || one_in(s, 500)))
        end_rehearsal(s);
    return rc;
}

static phx_code fault(sim *s, phx_error *err)
{
    s->next_fault_us = --s->n_faults_left ? s->now_us + below(s, 30000) : UINT64_MAX;
    const uint32_t at = below(s, s->requests.n);
    if (one_in(s, 4)) {
        const bool keep = !one_in(s, 4);
        phx_sched_group_lost(s->sched, keep);
        group_lose(s->group);
        s->n_flight = 0;
        s->group_back_us = s->now_us + below(s, 5000);
        memset(s->stage_free_us, 0, sizeof(s->stage_free_us));
        s->group_ended |= !keep;
        s->report->n_lost_kept += keep;
        s->report->n_lost_ended += !keep;
        return phx_sched_count(s->sched).n_blocks_cached == 0 ? PHX_OK
                                                              : FAILED(err, "the cache outlived its group");
    }
    if (one_in(s, 40))
        phx_sched_drain(s->sched);
    const bool was_alive = s->all[at].is_alive;
    s->was_cancelled[at] |= was_alive;
    s->report->n_cancelled += was_alive;
    return phx_sched_cancel(s->sched, at + 1, PHX_END_CANCELLED) == was_alive
               ? PHX_OK
               : FAILED(err, "cancel of request %u", at + 1);
}

static phx_code tick_all(sim *s, phx_error *err)
{
    for (;;) {
        const uint64_t n_allocs = phx_alloc_count().n_allocs;
        const phx_step_plan *plan = phx_sched_tick(s->sched, s->now_us);
        if (phx_alloc_count().n_allocs != n_allocs)
            return FAILED(err, "tick allocates");
        phx_code rc = plan ? issue(s, plan, err) : PHX_OK;
        if (rc == PHX_OK)
            rc = phx_sched_check(s->sched, err);
        if (rc == PHX_OK)
            rc = drain_events(s, err);
        if (rc != PHX_OK)
            return rc;
        const phx_sched_stats stats = phx_sched_count(s->sched);
        s->report->n_full_pools += stats.n_blocks_used == stats.n_blocks;
        if (plan)
            continue;
        if (s->n_flight == 0 && stats.n_queued + stats.n_running != 0)
            return FAILED(err, "stalled with %u queued and %u running", stats.n_queued, stats.n_running);
        return PHX_OK;
    }
}

static phx_code issue(sim *s, const phx_step_plan *plan, phx_error *err)
{
    phx_step_plan copy = *plan;
    if (s->mutate && !s->mutated) {
        memcpy(s->rows, plan->rows, plan->n_rows * sizeof(*plan->rows));
        memcpy(s->opens, plan->opens, plan->n_opens * sizeof(*plan->opens));
        memcpy(s->tokens, plan->tokens, plan->n_tokens * sizeof(uint32_t));
        memcpy(s->blocks, plan->blocks, plan->n_blocks * sizeof(uint32_t));
        copy.rows = s->rows;
        copy.opens = s->opens;
        copy.tokens = s->tokens;
        copy.blocks = s->blocks;
        s->mutated = s->mutate(&copy, s->rows, s->tokens, s->blocks, s->opens);
    }
    flight *f = &s->flight[(s->flight_first + s->n_flight) % 16];
    const phx_code rc = group_accept(s->group, &copy, &f->result, err);
    if (rc != PHX_OK)
        return rc;
    if (s->n_steps++ == N_STEPS_MAX)
        return FAILED(err, "%u steps and no end", N_STEPS_MAX);
    for (uint32_t i = 0; i < plan->n_opens; i++) /* first pass of a request that wants a warm cache */
        s->report->n_warmed += s->all[plan->opens[i].request_id - 1].n_warm > plan->opens[i].n_reused;
    uint64_t at = s->now_us;
    for (uint32_t stage = 0; stage < s->config.n_lanes; stage++) {
        at = at > s->stage_free_us[stage] ? at : s->stage_free_us[stage];
        at += 50 + below(s, 200);
        s->stage_free_us[stage] = at;
    }
    f->done_us = at;
    s->n_flight++;
    return PHX_OK;
}

static phx_code drain_events(sim *s, phx_error *err)
{
    phx_sched_event event;
    while (phx_sched_next_event(s->sched, &event)) {
        if (event.id == 0 || event.id > s->requests.n || !s->all[event.id - 1].is_alive)
            return FAILED(err, "event of request %llu, which is not alive", (unsigned long long)event.id);
        known_request *known = &s->all[event.id - 1];
        const uint32_t at = known->request.n_prompt + known->n_delivered;
        if (event.kind == PHX_EVENT_END) {
            known->is_alive = false;
            const phx_code rc = take_end(s, &event, err);
            if (rc != PHX_OK)
                return rc;
            continue;
        }
        if (at >= known->n_tokens || event.token != known->tokens[at] || event.logprob != -(float)at)
            return FAILED(err, "request %llu: output %u is wrong", (unsigned long long)event.id,
                          known->n_delivered);
        known->n_delivered++;
        s->report->n_tokens++;
    }
    return PHX_OK;
}

static bool ends(const sim *s, const known_request *known, uint32_t token)
{
    if (known->request.n_stop_ids && known->request.stop_ids[0] == token)
        return true;
    return !known->request.ignore_eos && token < s->config.n_eos;
}

static phx_code take_end(sim *s, const phx_sched_event *event, phx_error *err)
{
    const known_request *known = &s->all[event->id - 1];
    const phx_sched_request *request = &known->request;
    uint32_t n_until = 0; /* outputs up to the first end token */
    while (n_until < known->n_output_max && !ends(s, known, known->tokens[request->n_prompt + n_until++]))
        ;
    const bool stopped =
        known->n_delivered != 0 && ends(s, known, known->tokens[request->n_prompt + known->n_delivered - 1]);
    bool ok = known->n_delivered <= n_until && event->n_prompt == request->n_prompt &&
              event->n_cached < request->n_prompt && event->n_cached % PHX_BLOCK_TOKENS == 0 &&
              (!request->no_reuse || event->n_cached <= known->n_warm);
    switch (event->reason) {
    case PHX_END_STOP:
        ok &= stopped;
        break;
    case PHX_END_LENGTH:
        ok &= known->n_delivered == known->n_output_max && !stopped;
        break;
    case PHX_END_CANCELLED:
        ok &= s->was_cancelled[event->id - 1];
        break;
    case PHX_END_DEADLINE:
        ok &= request->deadline_us != 0 && request->deadline_us <= s->now_us;
        s->report->n_expired++;
        break;
    case PHX_END_CAPTURED:
        ok &= known->n_output_max == 0 && known->n_captured_to == request->n_prompt;
        s->report->n_captured++;
        break;
    case PHX_END_ERROR:
        ok &= s->group_ended;
        break;
    }
    return ok ? PHX_OK
              : FAILED(err, "request %llu ended with reason %d after %u of %u outputs, captured to %u",
                       (unsigned long long)event->id, (int)event->reason, known->n_delivered,
                       known->n_output_max, known->n_captured_to);
}

static phx_code check_quiet(sim *s, phx_error *err)
{
    if (s->is_rehearsing)
        end_rehearsal(s);
    const phx_sched_stats stats = phx_sched_count(s->sched);
    if (stats.n_queued || stats.n_running || stats.n_in_flight || stats.n_blocks_used ||
        stats.n_queued_tokens)
        return FAILED(err, "quiet, but %u queued, %u running, %u steps, %u blocks used", stats.n_queued,
                      stats.n_running, stats.n_in_flight, stats.n_blocks_used);
    uint64_t n_delivered = 0;
    for (uint32_t i = 0; i < s->requests.n; i++)
        n_delivered += s->all[i].n_delivered;
    if (stats.n_output_tokens + s->n_uncounted != n_delivered)
        return FAILED(err, "%llu tokens counted, %llu delivered", (unsigned long long)stats.n_output_tokens,
                      (unsigned long long)n_delivered);
    s->report->n_steps += s->n_steps;
    s->report->n_preempted += stats.n_preempted;
    s->report->n_drafts_held += stats.n_drafts_held;
    s->report->n_drafts_lost += stats.n_drafts_fed - stats.n_drafts_held;
    s->report->n_cached += stats.n_cached_tokens;
    return PHX_OK;
}
