/* coordinator/engine.c - scheduler and rank group behind one door of token ids.
 * Reading order: phx_engine_submit, pump (tick and send), on_result, deliver. */
#include "coordinator/engine_private.h"

#include <assert.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "coordinator/sched/drafter.h"

#define CAPTURE_CREDIT 8u /* captured parts that a rank may have under way */
#define CAPTURE_STALL_US \
    10000000u /* a client that takes no part for so long loses its capture, not the group */
#define STALL_PERIOD_US 1000000u
#define RATE_WINDOW_US  2000000u

static void on_ready(void *user, const phx_plan *plan);
static void on_result(void *user, const phx_step_result *result);
static void on_capture(void *user, uint32_t rank, const Phalanx__CapturePart *part);
static void on_lost(void *user, const phx_error *cause);
static void on_ended(void *user);
static void pump(void *user);
static void deliver(phx_engine *engine);
static phx_living *find(phx_engine *engine, uint64_t id);
static void check_drained(phx_engine *engine);
static void check_stalls(void *user);

phx_code phx_engine_create(const phx_engine_options *options, phx_engine **ret_engine, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_engine *engine = phx_alloc(1, sizeof(*engine));
    if (!engine)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "engine");
    engine->options = *options;
    engine->state = PHX_ENGINE_STARTING;
    engine->started_us = engine->rate_us = phx_clock_us();
    engine->next_id = 1;
    engine->options.fleet.epoch = 1;
    rc = phx_loop_timer_create(options->fleet.loop, (phx_loop_call){pump, engine}, &engine->pump_timer, err);
    if (rc == PHX_OK)
        rc = phx_loop_timer_create(options->fleet.loop, (phx_loop_call){check_stalls, engine},
                                   &engine->stall_timer, err);
    if (rc != PHX_OK)
        goto out;
    *ret_engine = engine;
    engine = NULL;
out:
    phx_engine_destroy(engine);
    return rc;
}

phx_code phx_engine_start(phx_engine *engine, phx_error *err)
{
    const phx_fleet_sink sink = {on_ready, on_result, on_capture, on_lost, on_ended, engine};
    return phx_fleet_create(&engine->options.fleet, &sink, &engine->fleet, err);
}

const char *phx_engine_ranks_address(const phx_engine *engine)
{
    return phx_fleet_address(engine->fleet);
}

const char *phx_engine_ranks_key_file(const phx_engine *engine)
{
    return phx_fleet_key_file(engine->fleet);
}

void phx_engine_destroy(phx_engine *engine)
{
    if (!engine)
        return;
    phx_fleet_destroy(engine->fleet);
    phx_loop_timer_destroy(engine->pump_timer);
    phx_loop_timer_destroy(engine->stall_timer);
    phx_sched_destroy(engine->sched);
    phx_free(engine->living);
    phx_free(engine);
}

static void on_ready(void *user, const phx_plan *plan)
{
    phx_engine *engine = user;
    phx_error err = {0};
    const phx_dims *dims = phx_checkpoint_dims(plan->checkpoint);
    phx_sched_config config = {
        .limits = {.n_slots = plan->request.n_batch,
                   .n_step_tokens = plan->request.n_step_tokens,
                   .n_blocks = plan->n_blocks,
                   .n_context = plan->n_context,
                   .n_vocab = (uint32_t)dims->n_vocab,
                   .n_drafts = plan->request.n_drafts},
        .drafts_fixed = engine->options.drafts_fixed,
        .n_lanes = plan->request.layout.pp,
        .n_in_flight_max = plan->request.layout.pp + 1,
        .n_chunk_tokens = plan->request.n_step_tokens,
        .n_queue_max = engine->options.n_queue_max,
        .n_queue_tokens_max = engine->options.n_queue_tokens_max,
    };
    for (int64_t i = 0; i < dims->n_eos && config.n_eos < PHX_STOP_IDS_MAX; i++)
        config.eos_ids[config.n_eos++] = (uint32_t)dims->eos_ids[i];
    engine->plan = plan;
    engine->options.fleet.request = plan->request; /* a later group must come to the same plan */
    for (uint32_t r = 0; r < plan->n_ranks; r++)
        phx_fleet_grant(engine->fleet, r, CAPTURE_CREDIT);
    if (engine->relaunching) {
        engine->relaunching = engine->group_lost = false;
        phx_loop_timer_start(engine->pump_timer, 0);
        if (engine->canary.is_done)
            phx_engine_now_ready(engine);
        else if (phx_canary_start(engine, &err) != PHX_OK)
            phx_fleet_fail(engine->fleet, &err);
        return;
    }
    engine->n_living_max = config.n_queue_max + plan->request.n_batch;
    engine->living = phx_alloc(engine->n_living_max, sizeof(*engine->living));
    if (!engine->living)
        (void)PHX_FAIL(&err, PHX_ERR_NOMEM, "table of %u generations", engine->n_living_max);
    if (err.code == PHX_OK && phx_sched_create(&config, &engine->sched, &err) == PHX_OK &&
        phx_canary_start(engine, &err) == PHX_OK)
        return;
    phx_fleet_fail(engine->fleet, &err);
}

void phx_engine_now_ready(phx_engine *engine)
{
    engine->state = engine->drained.fn ? PHX_ENGINE_DRAINING : PHX_ENGINE_READY;
    engine->options.on_state(engine->options.user, NULL);
}

bool phx_engine_is_starting(const phx_engine *engine)
{
    return engine->state == PHX_ENGINE_STARTING && !engine->group_lost && !engine->drained.fn &&
           !engine->ending;
}

/* Canary and rehearsal are of one start: they neither wait for another group nor keep a server that is to
 * end. */
static void cancel_start(phx_engine *engine)
{
    phx_engine_cancel(engine, engine->canary.id, PHX_END_CANCELLED);
    for (uint32_t i = 0; i < engine->rehearsal.n; i++)
        phx_engine_cancel(engine, engine->rehearsal.ids[i], PHX_END_CANCELLED);
}

/* ---- generations ---- */

phx_code phx_engine_submit_now(phx_engine *engine, const phx_sched_request *request,
                               const phx_engine_sink *sink, uint64_t *ret_id, phx_error *err)
{
    if (engine->n_living == engine->n_living_max)
        return PHX_FAIL(err, PHX_ERR_BUSY, "%u generations are waiting or running", engine->n_living);
    phx_sched_request mine = *request;
    mine.id = engine->next_id;
    const phx_code rc = phx_sched_submit(engine->sched, &mine, phx_clock_us(), err);
    if (rc != PHX_OK)
        return rc;
    engine->living[engine->n_living++] = (phx_living){.id = mine.id, .sink = *sink, .has_sink = true};
    *ret_id = engine->next_id++;
    phx_loop_timer_start(engine->pump_timer, 0);
    return PHX_OK;
}

phx_code phx_engine_submit(phx_engine *engine, const phx_sched_request *request, const phx_engine_sink *sink,
                           uint64_t *ret_id, phx_error *err)
{
    if (engine->state != PHX_ENGINE_READY)
        return PHX_FAIL(err, PHX_ERR_UNAVAILABLE, "the server is %s", phx_engine_state_name(engine->state));
    return phx_engine_submit_now(engine, request, sink, ret_id, err);
}

void phx_engine_cancel(phx_engine *engine, uint64_t id, phx_end_reason reason)
{
    if (engine->sched && phx_sched_cancel(engine->sched, id, reason))
        phx_loop_timer_start(engine->pump_timer, 0);
}

void phx_engine_abandon(phx_engine *engine, uint64_t id)
{
    phx_living *living = find(engine, id);
    if (!living)
        return;
    living->has_sink = false;
    phx_engine_grant(engine, id,
                     living->n_owed); /* ranks that wait for credit go on; parts are dropped on arrival */
    phx_engine_cancel(engine, id, PHX_END_CANCELLED);
}

void phx_engine_grant(phx_engine *engine, uint64_t id, uint32_t n_parts)
{
    phx_living *living = find(engine, id);
    if (living)
        living->granted_us = phx_clock_us();
    while (living && living->n_owed && n_parts--) {
        phx_fleet_grant(engine->fleet, living->owed[living->owed_first], 1);
        living->owed_first = (living->owed_first + 1) % PHX_OWED_MAX;
        living->n_owed--;
    }
}

static phx_living *find(phx_engine *engine, uint64_t id)
{
    for (uint32_t i = 0; i < engine->n_living; i++) {
        if (engine->living[i].id == id)
            return &engine->living[i];
    }
    return NULL;
}

/* ---- steps ---- */

/* Sends every step that can run now, hands out events, and sleeps until the next deadline. */
static void pump(void *user)
{
    phx_engine *engine = user;
    phx_error err = {0};
    if (!engine->sched || engine->group_lost) {
        if (engine->sched)
            deliver(engine);
        return;
    }
    for (const phx_step_plan *plan; (plan = phx_sched_tick(engine->sched, phx_clock_us()));) {
        if (phx_fleet_send_step(engine->fleet, plan, &err) != PHX_OK) {
            phx_fleet_fail(engine->fleet, &err);
            return;
        }
    }
    const uint64_t deadline = phx_sched_next_deadline(engine->sched), now = phx_clock_us();
    if (deadline != UINT64_MAX)
        phx_loop_timer_start(engine->pump_timer, deadline > now ? deadline - now : 0);
    deliver(engine); /* last: who submits from there wakes this at once */
}

static void on_result(void *user, const phx_step_result *result)
{
    phx_engine *engine = user;
    phx_error err = {0};
    if (phx_sched_apply(engine->sched, result, phx_clock_us(), &err) != PHX_OK) {
        phx_fleet_fail(engine->fleet, &err);
        return;
    }
    pump(engine);
}

/* Hands events to their sinks. A sink may submit, cancel or abandon; the list is looked up anew for each
 * event. */
static void deliver(phx_engine *engine)
{
    phx_sched_event event;
    while (phx_sched_next_event(engine->sched, &event)) {
        phx_living *living = find(engine, event.id);
        if (!living)
            continue;
        const phx_living mine = *living;
        const phx_error *why =
            event.kind == PHX_EVENT_END && event.reason == PHX_END_ERROR ? &engine->cause : NULL;
        if (event.kind == PHX_EVENT_END) {
            phx_engine_grant(engine, event.id, living->n_owed);
            *living = engine->living[--engine->n_living];
        }
        if (mine.has_sink)
            mine.sink.event(mine.sink.user, &event, why);
    }
    check_drained(engine);
}

static void on_capture(void *user, uint32_t rank, const Phalanx__CapturePart *part)
{
    phx_engine *engine = user;
    phx_living *living = find(engine, part->request_id);
    if (!living || !living->has_sink || !living->sink.capture || living->n_owed == PHX_OWED_MAX) {
        phx_fleet_grant(engine->fleet, rank, 1);
        return;
    }
    if (living->n_owed == 0)
        living->granted_us = phx_clock_us();
    living->owed[(living->owed_first + living->n_owed++) % PHX_OWED_MAX] = (uint8_t)rank;
    phx_loop_timer_start(engine->stall_timer, STALL_PERIOD_US);
    living->sink.capture(living->sink.user, part);
}

/* Ranks wait for credit inside a step, so a client that stops taking its parts would stop everyone. */
static void check_stalls(void *user)
{
    phx_engine *engine = user;
    bool waiting = false;
    for (uint32_t i = 0; i < engine->n_living; i++) {
        phx_living *living = &engine->living[i];
        const bool stalled = living->n_owed && phx_clock_us() - living->granted_us > CAPTURE_STALL_US;
        waiting = waiting || (living->n_owed && !stalled);
        if (!stalled)
            continue;
        living->sink.capture = NULL; /* later parts are dropped on arrival */
        phx_engine_grant(engine, living->id, living->n_owed);
        phx_engine_cancel(engine, living->id, PHX_END_DEADLINE);
    }
    if (waiting)
        phx_loop_timer_start(engine->stall_timer, STALL_PERIOD_US);
}

/* ---- endings ---- */

/* Whether the crash-loop guard still allows a relaunch; counts it when so. */
static bool may_relaunch(phx_engine *engine)
{
    const uint64_t now = phx_clock_us();
    uint64_t *oldest = &engine->relaunch_us[engine->n_relaunched % PHX_RELAUNCH_MAX];
    if (!engine->options.relaunch || !engine->sched || engine->ending ||
        (engine->n_relaunched >= PHX_RELAUNCH_MAX && now - *oldest < PHX_RELAUNCH_US))
        return false;
    *oldest = now;
    engine->n_relaunched++;
    return true;
}

static void on_lost(void *user, const phx_error *cause)
{
    phx_engine *engine = user;
    engine->cause = *cause;
    engine->group_lost = true;
    engine->relaunching = may_relaunch(engine);
    engine->state = engine->relaunching ? PHX_ENGINE_STARTING : PHX_ENGINE_FAILED;
    phx_log_error(engine->relaunching ? "the rank group is lost and will be relaunched"
                                      : "the rank group is lost",
                  cause);
    if (engine->sched) {
        cancel_start(engine);
        phx_sched_group_lost(engine->sched, engine->relaunching);
        phx_loop_timer_start(engine->pump_timer, 0);
    }
    engine->options.on_state(engine->options.user, cause);
}

/* The old group is gone to its last process: fence by a new epoch, then start the next one. */
static void relaunch(void *user)
{
    phx_engine *engine = user;
    phx_error err = {0};
    phx_fleet_destroy(engine->fleet);
    engine->fleet = NULL;
    engine->plan = NULL;
    engine->options.fleet.epoch++;
    if (phx_engine_start(engine, &err) != PHX_OK) {
        engine->relaunching = false;
        on_lost(engine, &err);
        engine->options.on_ended(engine->options.user);
    }
}

static void on_ended(void *user)
{
    phx_engine *engine = user;
    engine->group_lost = true;
    if (engine->relaunching && !engine->ending &&
        phx_loop_post(engine->options.fleet.loop, (phx_loop_call){relaunch, engine}) == PHX_OK)
        return;
    engine->options.on_ended(engine->options.user);
}

void phx_engine_drain(phx_engine *engine, phx_loop_call done)
{
    engine->drained = done;
    if (engine->state == PHX_ENGINE_READY) {
        engine->state = PHX_ENGINE_DRAINING;
        phx_sched_drain(engine->sched);
    }
    cancel_start(engine);
    phx_loop_timer_start(engine->pump_timer, 0);
    if (!engine->sched)
        check_drained(engine);
}

static void check_drained(phx_engine *engine)
{
    if (!engine->drained.fn || engine->n_living)
        return;
    const phx_loop_call done = engine->drained;
    engine->drained = (phx_loop_call){0};
    done.fn(done.user);
}

void phx_engine_shutdown(phx_engine *engine, uint32_t grace_ms)
{
    engine->ending = true;
    engine->group_lost = true; /* no step is sent any more */
    /* Who still waits is told now: the loop ends as soon as the ranks have. */
    for (uint32_t i = 0; engine->sched && i < engine->n_living; i++)
        (void)phx_sched_cancel(engine->sched, engine->living[i].id, PHX_END_CANCELLED);
    phx_loop_timer_start(engine->pump_timer, 0);
    if (!engine->fleet) {
        engine->options.on_ended(engine->options.user);
        return;
    }
    phx_fleet_shutdown(engine->fleet, grace_ms);
}

/* ---- questions ---- */

phx_engine_state phx_engine_state_of(const phx_engine *engine)
{
    return engine->state;
}

const char *phx_engine_state_name(phx_engine_state state)
{
    static const char *const names[] = {"starting", "ready", "draining", "failed"};
    return names[state];
}

const phx_plan *phx_engine_plan(const phx_engine *engine)
{
    return engine->plan;
}

const phx_error *phx_engine_cause(const phx_engine *engine)
{
    return engine->cause.code == PHX_OK ? NULL : &engine->cause;
}

phx_sched_stats phx_engine_stats(const phx_engine *engine)
{
    return engine->sched ? phx_sched_count(engine->sched) : (phx_sched_stats){0};
}

/* Tokens per second over the last window; the window moves on when it is asked after it has passed. */
static void update_rates(phx_engine *engine, const phx_sched_stats *stats)
{
    const uint64_t now = phx_clock_us();
    if (now - engine->rate_us < RATE_WINDOW_US)
        return;
    const double seconds = (double)(now - engine->rate_us) * 1e-6;
    engine->prompt_rate = (double)(stats->n_prompt_tokens - engine->rate_prompt) / seconds;
    engine->output_rate = (double)(stats->n_output_tokens - engine->rate_output) / seconds;
    engine->rate_prompt = stats->n_prompt_tokens;
    engine->rate_output = stats->n_output_tokens;
    engine->rate_us = now;
}

static void tell_drafts(phx_engine *engine, const phx_sched_stats *stats, Phalanx__StatusReply *ret_status)
{
    const uint32_t n_max = engine->plan->request.n_drafts;
    ret_status->n_drafts = stats->n_drafts;
    ret_status->n_drafts_fed = stats->n_drafts_fed;
    ret_status->n_drafts_held = stats->n_drafts_held;
    ret_status->n_decoded = stats->n_decoded;
    ret_status->n_decoding = stats->n_decoding;
    ret_status->n_output_tokens = stats->n_output_tokens;
    ret_status->n_decode_steps = stats->n_decode_steps;
    ret_status->decode_us = stats->decode_us;
    for (uint32_t n = 0; n_max && engine->sched && n <= n_max; n++) {
        Phalanx__DraftLength *length = engine->draft_length_ptrs[n] = &engine->draft_lengths[n];
        phalanx__draft_length__init(length);
        const phx_drafter *drafter = phx_sched_drafter(engine->sched);
        length->tokens = phx_drafter_tokens(drafter, n);
        length->cost_us = phx_drafter_cost_us(drafter, stats->n_decoding ? stats->n_decoding : 1, n);
        length->n_steps = drafter->total[n].n_steps;
        length->sum_us = drafter->total[n].us;
        ret_status->n_drafts_list = n + 1;
    }
    ret_status->drafts_list = engine->draft_length_ptrs;
}

void phx_engine_status(phx_engine *engine, Phalanx__StatusReply *ret_status)
{
    const phx_sched_stats stats = phx_engine_stats(engine);
    update_rates(engine, &stats);
    phalanx__status_reply__init(ret_status);
    ret_status->state = (char *)(uintptr_t)phx_engine_state_name(engine->state);
    ret_status->model_dir = (char *)(uintptr_t)phx_checkpoint_dir(engine->options.fleet.checkpoint);
    ret_status->epoch = engine->options.fleet.epoch;
    if (engine->fleet)
        ret_status->ranks = phx_fleet_status(engine->fleet, &ret_status->n_ranks);
    ret_status->n_running = stats.n_running;
    ret_status->n_queued = stats.n_queued;
    ret_status->n_blocks = stats.n_blocks;
    ret_status->n_blocks_used = stats.n_blocks_used;
    ret_status->n_blocks_cached = stats.n_blocks_cached;
    ret_status->prompt_tokens_per_s = engine->prompt_rate;
    ret_status->output_tokens_per_s = engine->output_rate;
    ret_status->uptime_ms = (phx_clock_us() - engine->started_us) / 1000;
    if (!engine->plan)
        return;
    tell_drafts(engine, &stats, ret_status);
    phx_buf text;
    const phx_layout *layout = &engine->plan->request.layout;
    phx_buf_init(&text, sizeof(engine->numerics_text) - 1);
    phx_numerics_print(&engine->plan->request.numerics, &text);
    (void)phx_str_copy(engine->numerics_text, sizeof(engine->numerics_text), phx_buf_view(&text));
    phx_buf_done(&text);
    (void)snprintf(engine->layout_text, sizeof(engine->layout_text), "tp %u x pp %u, experts %s", layout->tp,
                   layout->pp, layout->experts == PHX_EXPERTS_EP ? "ep" : "tp");
    ret_status->numerics = engine->numerics_text;
    ret_status->layout = engine->layout_text;
    ret_status->n_context = engine->plan->n_context;
}
