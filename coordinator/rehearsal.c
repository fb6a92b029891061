/* coordinator/rehearsal.c - before the server is ready: what steps with drafts cost here, of one sequence and
 * of a few. Its requests are ordinary ones, of random tokens; they say nothing of how many drafts hold. So
 * drafts that pay are used from the first tokens on, and those that cannot are not tried at the cost of an
 * answer. */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "coordinator/engine_private.h"
#include "coordinator/sched/drafter.h"

enum { PROMPT = 8, ROWS_MAX = 8, STEPS_OF_LENGTH = PHX_DRAFTER_REHEARSED * 4 };

#define LIMIT_US 10000000u /* of each batch size; what is not known by then stays unknown */

static void on_event(void *user, const phx_sched_event *event, const phx_error *why);

/* Tokens that a sequence needs to go through all lengths if every draft holds, or as many as fit. */
static uint32_t n_outputs(const phx_engine *engine)
{
    const uint32_t n_max = engine->plan->request.n_drafts, n_context = engine->plan->n_context;
    uint32_t n = 0;
    for (uint32_t length = 0; length <= n_max; length++)
        n += STEPS_OF_LENGTH * (1 + length);
    return PROMPT + n < n_context ? n : n_context - PROMPT;
}

static phx_code submit(phx_engine *engine, uint32_t nth, phx_error *err)
{
    uint32_t prompt[PROMPT];
    const uint32_t n_vocab = (uint32_t)phx_checkpoint_dims(engine->plan->checkpoint)->n_vocab;
    for (uint32_t i = 0; i < PROMPT; i++)
        prompt[i] = (uint32_t)(phx_rng_key(2, nth, i, 0) % n_vocab);
    const phx_sched_request request = {
        .prompt = prompt,
        .n_prompt = PROMPT,
        .n_output_max = n_outputs(engine),
        .sampling = {.top_p = 1, .repetition_penalty = 1},
        .ignore_eos = true,
        .cache_salt = UINT64_MAX, /* shared with nobody */
        .no_reuse = true,
        .deadline_us = phx_clock_us() + LIMIT_US,
    };
    const phx_engine_sink sink = {.event = on_event, .user = engine};
    return phx_engine_submit_now(engine, &request, &sink, &engine->rehearsal.ids[nth], err);
}

/* Of one sequence, then of ROWS_MAX, or as many as are answered at once, in every lane; 0: that was all. */
static uint32_t next_size(const phx_engine *engine)
{
    const uint32_t n_here = engine->plan->request.n_batch / engine->plan->request.layout.pp;
    const uint32_t n = engine->rehearsal.n_rows, most = n_here < ROWS_MAX ? n_here : ROWS_MAX;
    return n == 0 ? 1 : n < most ? most : 0;
}

/* Times of the emulator say nothing. */
static bool is_needed(const phx_engine *engine)
{
    const phx_plan_request *request = &engine->plan->request;
    return request->n_drafts && !engine->options.drafts_fixed && engine->plan->n_context > PROMPT &&
           strcmp(request->numerics.level, "emu") != 0;
}

/* With too small a queue or pool for all of them the size stays unknown. */
void phx_rehearsal_next(phx_engine *engine)
{
    phx_error ignored = {0};
    const uint32_t n = next_size(engine);
    if (n == 0 || !is_needed(engine)) {
        phx_engine_now_ready(engine);
        return;
    }
    static_assert(ROWS_MAX * PHX_PP_MAX <= PHX_REHEARSED_MAX, "sequences of all lanes");
    engine->rehearsal = (phx_rehearsal){.n_rows = n};
    phx_sched_rehearse(engine->sched, n);
    const uint32_t n_all = n == 1 ? 1 : n * engine->plan->request.layout.pp;
    while (engine->rehearsal.n < n_all && submit(engine, engine->rehearsal.n, &ignored) == PHX_OK)
        engine->rehearsal.n++;
    engine->rehearsal.n_left = engine->rehearsal.n;
    if (engine->rehearsal.n_left)
        return;
    phx_sched_end_rehearsal(engine->sched);
    phx_engine_now_ready(engine);
}

static void say(const phx_engine *engine)
{
    const phx_drafter *drafter = phx_sched_drafter(engine->sched);
    const uint32_t n_rows = engine->rehearsal.n_rows;
    const double plain_us = phx_drafter_cost_us(drafter, n_rows, 0);
    phx_buf text;
    phx_buf_init(&text, 1024);
    phx_buf_printf(&text, "rehearsal: a step of batch %u takes %.2f ms", n_rows, plain_us * 1e-3);
    for (uint32_t n = 1; n <= drafter->n_max; n++)
        phx_buf_printf(&text, "%s%.2f", n == 1 ? ", with drafts " : ", ",
                       phx_drafter_cost_us(drafter, n_rows, n) / plain_us);
    if (plain_us > 0 && text.code == PHX_OK)
        phx_log(PHX_LOG_INFO, "%s times as long", text.ptr);
    phx_buf_done(&text);
}

/* Sequences end together: at their last token, at the deadline, or when nothing is missing. */
static void on_event(void *user, const phx_sched_event *event, const phx_error *why)
{
    phx_engine *engine = user;
    const bool is_whole = phx_sched_has_rehearsed(engine->sched);
    if (event->kind == PHX_EVENT_TOKEN) {
        for (uint32_t i = 0; i < engine->rehearsal.n && is_whole; i++)
            phx_engine_cancel(engine, engine->rehearsal.ids[i], PHX_END_CANCELLED);
        return;
    }
    if (--engine->rehearsal.n_left)
        return;
    phx_sched_end_rehearsal(engine->sched);
    if (why || !phx_engine_is_starting(engine))
        return;
    say(engine);
    if (is_whole)
        phx_rehearsal_next(engine);
    else
        phx_engine_now_ready(engine); /* too slow, or too little room */
}
