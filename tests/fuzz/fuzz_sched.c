/* tests/fuzz/fuzz_sched.c - the scheduler driven by bytes: each reads as an operation and its arguments, and
 * every invariant is walked after each. tests/sched holds the simulator, which knows what a group would do;
 * here the order of events is the fuzzer's. */
#include "tests/fuzz/fuzz.h"

#include "base/alloc.h"
#include "coordinator/sched/sched.h"

#define IN_FLIGHT_MAX 8u
#define PROMPT_MAX    512u
#define REQUESTS_MAX  256u
#define N_OPS_MAX     400

/* What a step in flight will answer: copied, for the plan lives until the next call only. */
typedef struct flight {
    uint64_t step;
    uint32_t n_rows;
    phx_row_result *rows; /* [n_slots] */
} flight;

typedef struct driver {
    phx_sched_config config;
    phx_sched *sched;
    fuzz_tape tape;
    uint64_t now_us;
    uint64_t n_submitted;
    uint64_t request_of_slot[8];
    bool is_alive[REQUESTS_MAX]; /* by id */
    flight flights[IN_FLIGHT_MAX];
    uint32_t n_flights;
    phx_row_result rows[IN_FLIGHT_MAX][8];
} driver;

static void set_up(driver *d)
{
    phx_error err = {0};
    phx_sched_config *c = &d->config;
    c->limits.n_slots = 1 + fuzz_u8(&d->tape) % 8u;
    c->limits.n_step_tokens = 2 + fuzz_u8(&d->tape);
    c->limits.n_blocks = 2 + fuzz_u8(&d->tape) % 16u;
    c->limits.n_context = 66 + fuzz_u8(&d->tape);
    c->limits.n_vocab = 16;
    c->n_lanes = 1 + fuzz_u8(&d->tape) % 4u;
    c->n_in_flight_max = 1 + fuzz_u8(&d->tape) % (c->n_lanes + 2);
    c->n_chunk_tokens = 1 + fuzz_u8(&d->tape) % 128u;
    c->n_queue_max = 8;
    c->n_queue_tokens_max = 1024;
    c->n_eos = 1;
    c->eos_ids[0] = 1;
    fuzz_must(phx_sched_create(c, &d->sched, &err), &err);
}

/* Tokens from a few texts, so that prompts share their starts. */
static void submit(driver *d)
{
    uint32_t prompt[PROMPT_MAX];
    phx_error err = {0};
    const uint8_t bits = fuzz_u8(&d->tape);
    phx_sched_request request = {
        .id = d->n_submitted + 1,
        .prompt = prompt,
        .n_prompt = 1 + fuzz_u8(&d->tape) * (bits & 1 ? 2u : 1u),
        .n_output_max = 1 + fuzz_u8(&d->tape) % 100u,
        .sampling = {.top_p = 1, .repetition_penalty = bits & 2 ? 1.5f : 1},
        .ignore_eos = bits & 4,
        .cache_salt = bits & 8,
        .n_chunk = bits & 16 ? 3 : 0,
        .deadline_us = bits & 32 ? d->now_us + fuzz_u8(&d->tape) : 0,
    };
    const uint8_t text = fuzz_u8(&d->tape) % 3;
    if (d->n_submitted == REQUESTS_MAX)
        return;
    if (bits & 64) {
        request.capture = PHX_CAPTURE_LOGITS;
        request.n_output_max = 0;
        request.no_reuse = !(bits & 128);
        request.n_warm = bits & 128 ? request.n_prompt / 2 : 0;
    }
    for (uint32_t i = 0; i < request.n_prompt; i++)
        prompt[i] = 2 + (i * (text + 1u) + i / 7) % 14;
    const phx_code rc = phx_sched_submit(d->sched, &request, d->now_us, &err);
    if (rc == PHX_OK)
        d->is_alive[d->n_submitted++] = true;
    else
        fuzz_check_refusal(rc, &err);
}

static void tick(driver *d)
{
    phx_error err = {0};
    const phx_step_plan *plan = phx_sched_tick(d->sched, d->now_us);
    if (!plan)
        return;
    FUZZ_CHECK(d->n_flights < d->config.n_in_flight_max);
    fuzz_must(phx_step_plan_check(plan, &d->config.limits, &err), &err);
    for (uint32_t i = 0; i < plan->n_opens; i++)
        d->request_of_slot[plan->opens[i].slot] = plan->opens[i].request_id;
    flight *f = &d->flights[d->n_flights];
    *f = (flight){.step = plan->step, .rows = d->rows[d->n_flights]};
    d->n_flights++;
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        const phx_step_row *row = &plan->rows[i];
        if (row->flags & PHX_ROW_SAMPLE)
            f->rows[f->n_rows++] =
                (phx_row_result){.slot = row->slot, .request_id = d->request_of_slot[row->slot]};
    }
}

static void apply(driver *d)
{
    phx_error err = {0};
    const uint8_t bits = fuzz_u8(&d->tape);
    flight wrong = {0};
    if (d->n_flights == 0 || bits >= 250) { /* an answer to nothing, or a wrong one, changes nothing */
        const phx_step_result result = {.step = wrong.step, .rows = d->rows[0]};
        fuzz_check_refusal(phx_sched_apply(d->sched, &result, d->now_us, &err), &err);
        return;
    }
    const flight *f = &d->flights[0];
    for (uint32_t i = 0; i < f->n_rows; i++)
        f->rows[i].token = (bits + i) % d->config.limits.n_vocab;
    const phx_step_result result = {.step = f->step, .n_rows = f->n_rows, .rows = f->rows};
    fuzz_must(phx_sched_apply(d->sched, &result, d->now_us, &err), &err);
    d->n_flights--;
    for (uint32_t i = 0; i < d->n_flights; i++) {
        memcpy(d->rows[i], d->rows[i + 1], sizeof(d->rows[i]));
        d->flights[i] = d->flights[i + 1];
        d->flights[i].rows = d->rows[i];
    }
}

/* Each request ends once, and says nothing afterwards. */
static void take_events(driver *d)
{
    phx_sched_event event;
    while (phx_sched_next_event(d->sched, &event)) {
        FUZZ_CHECK(event.id >= 1 && event.id <= d->n_submitted);
        FUZZ_CHECK(d->is_alive[event.id - 1]);
        if (event.kind == PHX_EVENT_END)
            d->is_alive[event.id - 1] = false;
        else
            FUZZ_CHECK(event.token < d->config.limits.n_vocab);
    }
}

static void operate(driver *d)
{
    switch (fuzz_u8(&d->tape) % 16) {
    case 0:
    case 1:
    case 2:
    case 3:
        submit(d);
        break;
    case 4: {
        const uint64_t id = 1 + fuzz_u8(&d->tape);
        const bool was_alive = id <= d->n_submitted && d->is_alive[id - 1];
        FUZZ_CHECK(phx_sched_cancel(d->sched, id, PHX_END_CANCELLED) == was_alive);
        break;
    }
    case 5:
        d->now_us += fuzz_u8(&d->tape);
        break;
    case 6:
        if (fuzz_u8(&d->tape) % 4 == 0) {
            phx_sched_group_lost(d->sched, fuzz_u8(&d->tape) & 1);
            d->n_flights = 0;
        }
        break;
    case 7:
        if (fuzz_u8(&d->tape) == 0)
            phx_sched_drain(d->sched);
        break;
    case 8:
    case 9:
    case 10:
    case 11:
        tick(d);
        break;
    default:
        apply(d);
        break;
    }
}

/* Ticks and answers until nothing is left to do. */
static void finish(driver *d)
{
    d->tape = (fuzz_tape){0};
    for (int i = 0; i < 20000; i++) {
        tick(d);
        take_events(d); /* a tick may end what is past its deadline */
        if (d->n_flights == 0)
            break;
        apply(d);
        take_events(d);
    }
    const phx_sched_stats stats = phx_sched_count(d->sched);
    FUZZ_CHECK(stats.n_queued == 0 && stats.n_running == 0 && stats.n_in_flight == 0);
    FUZZ_CHECK(stats.n_blocks_used == 0);
    for (uint64_t i = 0; i < d->n_submitted; i++)
        FUZZ_CHECK(!d->is_alive[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    phx_error err = {0};
    driver *d = phx_alloc(1, sizeof(*d));
    FUZZ_CHECK(d != NULL);
    d->tape = (fuzz_tape){data, n_bytes};
    d->now_us = 1000;
    set_up(d);
    for (int i = 0; d->tape.n > 0 && i < N_OPS_MAX; i++) {
        operate(d);
        take_events(d);
        fuzz_must(phx_sched_check(d->sched, &err), &err);
    }
    finish(d);
    fuzz_must(phx_sched_check(d->sched, &err), &err);
    phx_sched_destroy(d->sched);
    phx_free(d);
    return 0;
}
