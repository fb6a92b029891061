/* tests/sched/test_sched.c - the scheduler's rules, one by one, on plans small enough to read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "coordinator/sched/sched.h"
#include "model/plan.h"

#define N_VOCAB 1000u
#define EOS     7u

#define TEN(n) (n), (n) + 1, (n) + 2, (n) + 3, (n) + 4, (n) + 5, (n) + 6, (n) + 7, (n) + 8, (n) + 9
#define HUNDRED(n)                                                                                     \
    TEN(n), TEN(n + 10), TEN(n + 20), TEN(n + 30), TEN(n + 40), TEN(n + 50), TEN(n + 60), TEN(n + 70), \
        TEN(n + 80), TEN(n + 90)
static const uint32_t ids[] = {HUNDRED(100), HUNDRED(200)};

static const phx_sched_config small = {
    .limits = {.n_slots = 4, .n_step_tokens = 64, .n_blocks = 16, .n_context = 512, .n_vocab = N_VOCAB},
    .n_lanes = 1,
    .n_in_flight_max = 2,
    .n_chunk_tokens = 48,
    .n_queue_max = 8,
    .n_queue_tokens_max = 2000,
    .n_eos = 1,
    .eos_ids = {EOS},
};

static phx_sched *create(const phx_sched_config *config)
{
    phx_sched *sched = NULL;
    phx_error err = {0};
    if (phx_sched_create(config, &sched, &err) != PHX_OK)
        fail_msg("%s", err.text);
    return sched;
}

static phx_sched_request request_of(uint64_t id, uint32_t n_prompt, uint32_t n_output_max)
{
    return (phx_sched_request){.id = id,
                               .prompt = ids,
                               .n_prompt = n_prompt,
                               .n_output_max = n_output_max,
                               .sampling = {.top_p = 1, .repetition_penalty = 1}};
}

static phx_code submit(phx_sched *sched, const phx_sched_request *request)
{
    return phx_sched_submit(sched, request, 0, &(phx_error){0});
}

/* Answers the step: token for every sampling row. */
typedef struct reply {
    phx_row_result rows[8];
    phx_step_result result;
} reply;

static reply reply_to(const phx_step_plan *plan, const uint64_t *id_of_slot, uint32_t token)
{
    reply r = {.result = {.step = plan->step}};
    for (uint32_t i = 0; i < plan->n_rows; i++)
        if (plan->rows[i].flags & PHX_ROW_SAMPLE)
            r.rows[r.result.n_rows++] = (phx_row_result){
                .slot = plan->rows[i].slot, .request_id = id_of_slot[plan->rows[i].slot], .token = token};
    return r;
}

static phx_code apply(phx_sched *sched, reply *r)
{
    r->result.rows = r->rows;
    phx_error err = {0};
    const phx_code rc = phx_sched_apply(sched, &r->result, 0, &err);
    assert_int_equal(phx_sched_check(sched, &err), PHX_OK);
    return rc;
}

static void expect_end(phx_sched *sched, uint64_t id, phx_end_reason reason, uint32_t n_tokens)
{
    phx_sched_event event;
    for (uint32_t i = 0; i < n_tokens; i++) {
        assert_true(phx_sched_next_event(sched, &event));
        assert_int_equal(event.kind, PHX_EVENT_TOKEN);
    }
    assert_true(phx_sched_next_event(sched, &event));
    assert_int_equal(event.kind, PHX_EVENT_END);
    assert_int_equal(event.id, id);
    assert_int_equal(event.reason, reason);
    assert_false(phx_sched_next_event(sched, &event));
}

/* Chunks, the sample flag on the last one, then two steps ahead by results that stay in the slot; what an end
 * token overtook is discarded, its blocks wait for the step, its slot is closed by the next plan. */
static void test_chunks_then_run_ahead(void **state)
{
    (void)state;
    phx_sched *sched = create(&small);
    const phx_sched_request request = request_of(1, 100, 50);
    const uint64_t id_of_slot[4] = {1};
    assert_int_equal(submit(sched, &request), PHX_OK);
    const phx_step_plan *plan = phx_sched_tick(sched, 0);
    assert_int_equal(plan->n_opens, 1);
    assert_int_equal(plan->rows[0].n_tokens, 48);
    assert_int_equal(plan->rows[0].n_blocks, 1);
    assert_int_equal(plan->rows[0].flags, 0);
    reply first = reply_to(plan, id_of_slot, 9);
    plan = phx_sched_tick(sched, 0);
    assert_int_equal(plan->n_opens, 0);
    assert_int_equal(plan->tokens[plan->rows[0].token_first], ids[48]);
    reply second = reply_to(plan, id_of_slot, 9);
    assert_null(phx_sched_tick(sched, 0)); /* two steps in flight */
    assert_int_equal(apply(sched, &first), PHX_OK);
    plan = phx_sched_tick(sched, 0);
    assert_int_equal(plan->rows[0].n_tokens, 4);
    assert_int_equal(plan->rows[0].flags, PHX_ROW_SAMPLE);
    reply third = reply_to(plan, id_of_slot, EOS);
    assert_int_equal(apply(sched, &second), PHX_OK);
    plan = phx_sched_tick(sched, 0);
    assert_int_equal(plan->rows[0].flags, PHX_ROW_SAMPLE | PHX_ROW_FROM_SLOT);
    reply ahead = reply_to(plan, id_of_slot, 9);
    assert_int_equal(apply(sched, &third), PHX_OK);
    expect_end(sched, 1, PHX_END_STOP, 1);
    assert_int_equal(phx_sched_count(sched).n_running, 0);
    assert_int_equal(phx_sched_count(sched).n_blocks_used, 2);
    assert_int_equal(apply(sched, &ahead), PHX_OK);
    assert_int_equal(phx_sched_count(sched).n_blocks_used, 0);
    assert_int_equal(phx_sched_count(sched).n_blocks_cached, 1);
    assert_null(phx_sched_tick(sched, 0)); /* nothing to close for */
    const phx_sched_request next = request_of(2, 10, 1);
    assert_int_equal(submit(sched, &next), PHX_OK);
    plan = phx_sched_tick(sched, 0);
    assert_int_equal(plan->n_closes, 1);
    assert_int_equal(plan->closes[0], 0);
    assert_int_equal(plan->n_opens, 1);
    phx_sched_destroy(sched);
}

/* The last output is never fed, and nothing runs past n_output_max. */
static void test_never_past_the_last_output(void **state)
{
    (void)state;
    phx_sched *sched = create(&small);
    const phx_sched_request request = request_of(1, 10, 2);
    const uint64_t id_of_slot[4] = {1};
    assert_int_equal(submit(sched, &request), PHX_OK);
    reply first = reply_to(phx_sched_tick(sched, 0), id_of_slot, 9);
    assert_int_equal(apply(sched, &first), PHX_OK);
    reply second = reply_to(phx_sched_tick(sched, 0), id_of_slot, 9);
    assert_null(phx_sched_tick(sched, 0));
    assert_int_equal(apply(sched, &second), PHX_OK);
    expect_end(sched, 1, PHX_END_LENGTH, 2);
    phx_sched_destroy(sched);
}

/* A decoding request has a row in every step while a long prompt runs beside it, and the prompt goes on. */
static void test_prefill_and_decode_share_steps(void **state)
{
    (void)state;
    phx_sched_config config = small;
    config.limits.n_step_tokens = 4;
    phx_sched *sched = create(&config);
    const uint64_t id_of_slot[4] = {1, 2, 3, 4};
    for (uint64_t id = 1; id <= 3; id++) {
        const phx_sched_request request = request_of(id, 1, 400);
        assert_int_equal(submit(sched, &request), PHX_OK);
    }
    reply first = reply_to(phx_sched_tick(sched, 0), id_of_slot, 9);
    const phx_sched_request request = request_of(4, 40, 5);
    assert_int_equal(submit(sched, &request), PHX_OK);
    assert_int_equal(apply(sched, &first), PHX_OK);
    for (uint32_t i = 0; i < 39; i++) {
        const phx_step_plan *plan = phx_sched_tick(sched, 0);
        assert_int_equal(plan->n_rows, 4); /* three decode, one token of the prompt */
        assert_int_equal(plan->rows[3].slot, 3);
        reply r = reply_to(plan, id_of_slot, 9);
        assert_int_equal(apply(sched, &r), PHX_OK);
        phx_sched_event event;
        while (phx_sched_next_event(sched, &event))
            ;
    }
    phx_sched_destroy(sched);
}

static void test_decodes_take_turns(void **state)
{
    (void)state;
    phx_sched_config config = small;
    config.limits.n_step_tokens = 2;
    phx_sched *sched = create(&config);
    const uint64_t id_of_slot[4] = {1, 2, 3, 4};
    uint32_t n_rows[4] = {0};
    for (uint64_t id = 1; id <= 4; id++) {
        const phx_sched_request request = request_of(id, 1, 400);
        assert_int_equal(submit(sched, &request), PHX_OK);
    }
    for (uint32_t i = 0; i < 103; i++) {
        const phx_step_plan *plan = phx_sched_tick(sched, 0);
        for (uint32_t k = 0; k < plan->n_rows; k++)
            n_rows[plan->rows[k].slot]++;
        reply r = reply_to(plan, id_of_slot, 9);
        assert_int_equal(apply(sched, &r), PHX_OK);
        phx_sched_event event;
        while (phx_sched_next_event(sched, &event))
            ;
    }
    for (uint32_t i = 0; i < 4; i++)
        assert_in_range(n_rows[i], 45, 60);
    phx_sched_destroy(sched);
}

/* Full blocks only, up to n_prompt - 1, only when the step that filled them has been applied, only for the
 * same salt; ids come along when a penalty counts them. */
static void test_prefix_reuse(void **state)
{
    (void)state;
    phx_sched_config config = small;
    config.n_chunk_tokens = config.limits.n_step_tokens = 256;
    phx_sched *sched = create(&config);
    const uint64_t id_of_slot[4] = {1, 2, 3, 4};
    phx_sched_request request = request_of(1, 128, 5);
    assert_int_equal(submit(sched, &request), PHX_OK);
    reply first = reply_to(phx_sched_tick(sched, 0), id_of_slot, 9);
    request = request_of(2, 128, 5);
    assert_int_equal(submit(sched, &request), PHX_OK);
    const phx_step_plan *plan = phx_sched_tick(sched, 0); /* the first one's blocks are not filled yet */
    assert_int_equal(plan->opens[0].n_reused, 0);
    reply second = reply_to(plan, id_of_slot, 9);
    assert_int_equal(apply(sched, &first), PHX_OK);
    request = request_of(3, 128, 5);
    request.sampling.repetition_penalty = 1.5f;
    assert_int_equal(submit(sched, &request), PHX_OK);
    plan = phx_sched_tick(sched, 0);
    assert_int_equal(plan->n_opens, 1);
    assert_int_equal(plan->opens[0].n_reused, 64); /* not 128: the last token has to run */
    assert_int_equal(plan->opens[0].n_reused_ids, 64);
    assert_memory_equal(plan->tokens + plan->opens[0].reused_first, ids, 64 * sizeof(uint32_t));
    reply third = reply_to(plan, id_of_slot, 9);
    assert_int_equal(apply(sched, &second), PHX_OK);
    request = request_of(4, 128, 5);
    request.cache_salt = 1;
    assert_int_equal(submit(sched, &request), PHX_OK);
    plan = phx_sched_tick(sched, 0);
    assert_int_equal(plan->n_opens, 1);
    assert_int_equal(plan->opens[0].n_reused, 0);
    assert_int_equal(apply(sched, &third), PHX_OK);
    phx_sched_destroy(sched);
}

static void test_capture_with_warm_prefix(void **state)
{
    (void)state;
    phx_sched *sched = create(&small);
    const uint64_t id_of_slot[4] = {1};
    phx_sched_request request = request_of(1, 100, 0);
    request.capture = PHX_CAPTURE_LOGITS;
    request.no_reuse = true;
    request.n_warm = 70; /* one block */
    request.n_chunk = 36;
    assert_int_equal(submit(sched, &request), PHX_OK);
    for (uint32_t i = 0; i < 2; i++) { /* warms without capturing */
        const phx_step_plan *plan = phx_sched_tick(sched, 0);
        assert_int_equal(plan->capture, 0);
        assert_int_equal(plan->rows[0].flags, 0);
        assert_int_equal(plan->rows[0].n_tokens, i == 0 ? 36 : 28);
        reply r = reply_to(plan, id_of_slot, 9);
        assert_int_equal(apply(sched, &r), PHX_OK);
    }
    const phx_step_plan *plan = phx_sched_tick(sched, 0);
    assert_int_equal(plan->n_closes, 1);
    assert_int_equal(plan->opens[0].n_reused, 64);
    assert_int_equal(plan->capture, PHX_CAPTURE_LOGITS);
    assert_int_equal(plan->rows[0].flags, PHX_ROW_CAPTURE);
    assert_int_equal(plan->rows[0].n_tokens, 36);
    reply r = reply_to(plan, id_of_slot, 9);
    assert_int_equal(r.result.n_rows, 0);
    assert_int_equal(apply(sched, &r), PHX_OK);
    expect_end(sched, 1, PHX_END_CAPTURED, 0);
    assert_int_equal(phx_sched_count(sched).n_blocks_cached, 1);
    phx_sched_destroy(sched);
}

static void test_lanes_alternate(void **state)
{
    (void)state;
    phx_sched_config config = small;
    config.n_lanes = 2;
    config.n_in_flight_max = 3;
    phx_sched *sched = create(&config);
    for (uint64_t id = 1; id <= 2; id++) {
        const phx_sched_request request = request_of(id, 4, 9);
        assert_int_equal(submit(sched, &request), PHX_OK);
    }
    for (uint32_t i = 0; i < 3; i++) {
        const phx_step_plan *plan = phx_sched_tick(sched, 0);
        assert_int_equal(plan->step, i + 1);
        assert_int_equal(plan->n_rows, 1);
        assert_int_equal(plan->rows[0].slot, i % 2);
    }
    assert_null(phx_sched_tick(sched, 0));
    phx_sched_destroy(sched);
}

static void test_refusals(void **state)
{
    (void)state;
    phx_sched_config config = small;
    config.n_queue_max = 2;
    config.limits.n_blocks = 3;
    phx_sched *sched = create(&config);
    phx_sched_request request = request_of(1, 192, 1); /* 192 entries, but no room for one more token */
    assert_int_equal(submit(sched, &request), PHX_ERR_TOO_LONG);
    request.n_prompt = 191;
    assert_int_equal(submit(sched, &request), PHX_OK);
    assert_int_equal(submit(sched, &request), PHX_ERR_INVALID); /* the id is taken */
    request = request_of(2, 0, 1);
    assert_int_equal(submit(sched, &request), PHX_ERR_INVALID);
    request = request_of(2, 1, 0);
    assert_int_equal(submit(sched, &request), PHX_ERR_INVALID);
    request = request_of(2, 1, 1);
    request.sampling.top_p = 0;
    assert_int_equal(submit(sched, &request), PHX_ERR_INVALID);
    const uint32_t unknown = N_VOCAB;
    request = request_of(2, 1, 1);
    request.prompt = &unknown;
    assert_int_equal(submit(sched, &request), PHX_ERR_INVALID);
    request = request_of(2, 1, 1);
    request.deadline_us = 5;
    assert_int_equal(phx_sched_submit(sched, &request, 5, &(phx_error){0}), PHX_ERR_DEADLINE);
    assert_int_equal(submit(sched, &request), PHX_OK);
    request.id = 3;
    assert_int_equal(submit(sched, &request), PHX_ERR_BUSY);
    assert_int_equal(phx_sched_count(sched).n_queued, 2);
    assert_int_equal(phx_sched_count(sched).n_refused, 8);
    assert_true(phx_sched_cancel(sched, 1, PHX_END_CANCELLED));
    assert_false(phx_sched_cancel(sched, 1, PHX_END_CANCELLED));
    expect_end(sched, 1, PHX_END_CANCELLED, 0);
    assert_int_equal(phx_sched_next_deadline(sched), 5);
    assert_null(phx_sched_tick(sched, 5));
    expect_end(sched, 2, PHX_END_DEADLINE, 0);
    assert_int_equal(phx_sched_next_deadline(sched), UINT64_MAX);
    phx_sched_drain(sched);
    assert_int_equal(submit(sched, &request), PHX_ERR_UNAVAILABLE);
    phx_sched_destroy(sched);
}

/* A result is taken whole or not at all. */
static void test_wrong_results(void **state)
{
    (void)state;
    phx_sched *sched = create(&small);
    const uint64_t id_of_slot[4] = {1};
    const phx_sched_request request = request_of(1, 4, 5);
    reply none = {.result = {.step = 1}};
    assert_int_equal(apply(sched, &none), PHX_ERR_MISMATCH);
    assert_int_equal(submit(sched, &request), PHX_OK);
    const reply right = reply_to(phx_sched_tick(sched, 0), id_of_slot, 9);
    for (uint32_t i = 0; i < 6; i++) {
        reply wrong = right;
        wrong.result.step += i == 0;
        wrong.result.n_rows -= i == 1;
        wrong.rows[0].slot += i == 2;
        wrong.rows[0].request_id += i == 3;
        wrong.rows[0].token = i == 4 ? N_VOCAB : 9;
        wrong.rows[0].n_top = i == 5 ? PHX_TOP_LOGPROBS_MAX + 1 : 0;
        assert_int_equal(apply(sched, &wrong), PHX_ERR_MISMATCH);
    }
    reply taken = right;
    assert_int_equal(apply(sched, &taken), PHX_OK);
    phx_sched_event event;
    assert_true(phx_sched_next_event(sched, &event));
    assert_int_equal(event.token, 9);
    phx_sched_destroy(sched);
}

/* The newest gives way to the oldest, comes back first, from prompt + outputs, and nothing is said
 * twice. */
static void test_preemption_and_loss(void **state)
{
    (void)state;
    phx_sched_config config = small;
    config.limits.n_blocks = 3;
    config.limits.n_slots = 2;
    config.n_in_flight_max = 1;
    phx_sched *sched = create(&config);
    uint64_t id_of_slot[2] = {0};
    phx_sched_event event;
    uint32_t n_tokens[4] = {0}, n_opens[4] = {0};
    for (uint64_t id = 1; id <= 3; id++) {
        const phx_sched_request request = request_of(id, (uint32_t)(id == 1 ? 30 : 4), 100);
        assert_int_equal(submit(sched, &request), PHX_OK);
    }
    bool lost = false;
    const phx_step_plan *plan;
    while ((plan = phx_sched_tick(sched, 0)) != NULL) {
        for (uint32_t i = 0; i < plan->n_opens; i++) {
            const uint64_t id = plan->opens[i].request_id;
            n_opens[id]++;
            if (id == 3) /* the last to come: nobody may be left behind */
                assert_int_equal(phx_sched_count(sched).n_queued, 0);
            assert_int_equal(plan->opens[i].n_prompt, id == 1 ? 30 : 4);
            id_of_slot[plan->opens[i].slot] = id;
        }
        reply r = reply_to(plan, id_of_slot, 9);
        assert_int_equal(apply(sched, &r), PHX_OK);
        while (phx_sched_next_event(sched, &event))
            n_tokens[event.id] += event.kind == PHX_EVENT_TOKEN;
        if (!lost && n_tokens[1] == 20) {
            lost = true;
            phx_sched_group_lost(sched, true);
            assert_int_equal(phx_sched_count(sched).n_queued, 3);
            assert_int_equal(phx_sched_count(sched).n_blocks_used, 0);
        }
    }
    assert_int_equal(n_tokens[1], 100);
    assert_int_equal(n_tokens[2], 100);
    assert_int_equal(n_tokens[3], 100);
    assert_int_equal(n_opens[1], 2); /* at first and after the loss, never preempted */
    assert_true(n_opens[2] >= 3);
    assert_true(phx_sched_count(sched).n_preempted >= 1);
    phx_sched_destroy(sched);
}

/* A caller that fetches no events is slowed down; nothing is lost. */
static void test_events_wait(void **state)
{
    (void)state;
    phx_sched *sched = create(&small);
    const uint64_t id_of_slot[4] = {1, 2, 3, 4};
    phx_sched_event event;
    uint32_t n = 0, n_steps = 0;
    for (uint64_t id = 1; id <= 4; id++) {
        const phx_sched_request request = request_of(id, 1, 60);
        assert_int_equal(submit(sched, &request), PHX_OK);
    }
    for (;;) {
        const phx_step_plan *plan = phx_sched_tick(sched, 0);
        if (plan) {
            reply r = reply_to(plan, id_of_slot, 9);
            assert_int_equal(apply(sched, &r), PHX_OK);
            n_steps++;
        } else if (phx_sched_next_event(sched, &event)) {
            n++;
        } else {
            break;
        }
    }
    assert_int_equal(n, 4 * 61);
    assert_true(n_steps >= 60);
    phx_sched_destroy(sched);
}

/* The ranks have the blocks in which drafts get their entries before the sequence itself needs them, and
 * never more than the request's own length takes. */
static void test_blocks_for_drafts(void **state)
{
    (void)state;
    phx_sched_config config = small;
    config.limits.n_drafts = 3;
    config.drafts_fixed = true;
    phx_sched *sched = create(&config);
    const uint64_t id_of_slot[4] = {1, 2, 3, 4};
    const uint32_t n_all = 128;
    const phx_sched_request request = request_of(1, 40, n_all - 40);
    assert_int_equal(submit(sched, &request), PHX_OK);
    uint32_t n_tokens = 0, n_blocks = 0, n_early = 0;
    phx_sched_event event;
    for (const phx_step_plan *plan; (plan = phx_sched_tick(sched, 0)) != NULL;) {
        const phx_step_row *row = &plan->rows[0];
        assert_int_equal(plan->n_rows, 1);
        n_blocks += row->n_blocks;
        const uint32_t n_end = n_tokens + row->n_tokens;
        n_tokens += row->flags & PHX_ROW_FROM_SLOT ? 1 : row->n_tokens; /* no draft holds */
        n_early += n_blocks * PHX_BLOCK_TOKENS >= n_end + PHX_BLOCK_TOKENS;
        const uint32_t n_drafted = n_end + row->n_drafts;
        assert_true(n_blocks * PHX_BLOCK_TOKENS >= (n_drafted < n_all ? n_drafted : n_all));
        assert_true(n_blocks * PHX_BLOCK_TOKENS <= n_all);
        reply r = reply_to(plan, id_of_slot, 50);
        assert_int_equal(apply(sched, &r), PHX_OK);
        while (phx_sched_next_event(sched, &event))
            ;
    }
    assert_int_equal(n_tokens, n_all - 1);
    assert_true(n_early > 0);
    phx_sched_destroy(sched);
}

static void test_every_failed_allocation(void **state)
{
    (void)state;
    const uint64_t n_live = phx_alloc_count().n_live;
    phx_code rc = PHX_ERR_NOMEM;
    for (uint64_t n = 1; rc != PHX_OK; n++) {
        phx_sched *sched = NULL;
        phx_alloc_fail_nth(n);
        rc = phx_sched_create(&small, &sched, &(phx_error){0});
        phx_alloc_fail_nth(0);
        assert_true(rc == PHX_OK || (rc == PHX_ERR_NOMEM && sched == NULL && n < 40));
        phx_sched_destroy(sched);
        assert_int_equal(phx_alloc_count().n_live, n_live);
    }
    phx_sched *sched = create(&small);
    const phx_sched_request request = request_of(1, 4, 4);
    phx_alloc_fail_nth(1);
    assert_int_equal(submit(sched, &request), PHX_ERR_NOMEM);
    phx_alloc_fail_nth(0);
    assert_int_equal(phx_sched_count(sched).n_queued, 0);
    assert_int_equal(submit(sched, &request), PHX_OK);
    phx_sched_destroy(sched);
    assert_int_equal(phx_alloc_count().n_live, n_live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunks_then_run_ahead),
        cmocka_unit_test(test_never_past_the_last_output),
        cmocka_unit_test(test_prefill_and_decode_share_steps),
        cmocka_unit_test(test_decodes_take_turns),
        cmocka_unit_test(test_prefix_reuse),
        cmocka_unit_test(test_capture_with_warm_prefix),
        cmocka_unit_test(test_lanes_alternate),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_wrong_results),
        cmocka_unit_test(test_preemption_and_loss),
        cmocka_unit_test(test_events_wait),
        cmocka_unit_test(test_blocks_for_drafts),
        cmocka_unit_test(test_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
