/* tests/proto/test_step_plan.c - step plans: every rule at its limit and past it, there and back, the fullest
 * one. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "proto/codec.h"
#include "proto/limits.h"

static const phx_step_limits limits = {
    .n_slots = 8, .n_step_tokens = 32, .n_blocks = 100, .n_context = 64, .n_vocab = 1000};

/* A small plan that passes; each case spoils or stretches one thing. */
typedef struct sample {
    phx_step_plan plan;
    phx_slot_open opens[9];
    phx_step_row rows[9];
    uint32_t closes[9], tokens[80], blocks[8], bias_ids[2];
    float bias[2];
} sample;

static void sample_init(sample *s)
{
    *s = (sample){0};
    s->bias_ids[0] = 999;
    s->bias[0] = -100;
    s->bias[1] = 2.5f;
    for (uint32_t i = 0; i < 9; i++)
        s->opens[i] = (phx_slot_open){.slot = i,
                                      .request_id = 1000 + i,
                                      .n_reused = 4,
                                      .n_prompt = 20,
                                      .sampling = {.temperature = 0.7f,
                                                   .top_p = 0.9f,
                                                   .min_p = 0.1f,
                                                   .top_k = 40,
                                                   .presence_penalty = -1,
                                                   .frequency_penalty = 1,
                                                   .repetition_penalty = 1.1f,
                                                   .seed = UINT64_MAX,
                                                   .choice = 7,
                                                   .logprobs = true,
                                                   .n_top_logprobs = 20,
                                                   .n_bias = 2,
                                                   .bias_ids = s->bias_ids,
                                                   .bias = s->bias}};
    s->opens[1].reused_first = 10;
    s->opens[1].n_reused_ids = 4;
    s->rows[0] = (phx_step_row){.slot = 0, .flags = PHX_ROW_CAPTURE, .n_tokens = 10, .n_blocks = 2};
    s->rows[1] = (phx_step_row){.slot = 1,
                                .flags = PHX_ROW_SAMPLE | PHX_ROW_CLOSE,
                                .token_first = 14,
                                .n_tokens = 6,
                                .block_first = 2,
                                .n_blocks = 1};
    s->rows[2] = (phx_step_row){.slot = 7, .flags = PHX_ROW_FROM_SLOT | PHX_ROW_SAMPLE, .n_tokens = 1};
    s->closes[0] = 5;
    s->closes[1] = 1;
    for (uint32_t i = 0; i < 80; i++)
        s->tokens[i] = 999 - i;
    s->blocks[0] = 99;
    s->plan = (phx_step_plan){.epoch = 3,
                              .step = 17,
                              .capture = PHX_CAPTURE_LOGITS | PHX_CAPTURE_EXPERTS,
                              .n_opens = 2,
                              .opens = s->opens,
                              .n_closes = 2,
                              .closes = s->closes,
                              .n_rows = 3,
                              .rows = s->rows,
                              .n_tokens = 20,
                              .tokens = s->tokens,
                              .n_blocks = 3,
                              .blocks = s->blocks};
}

#define EXPECT(expected, change)                                                                       \
    do {                                                                                               \
        sample s;                                                                                      \
        sample_init(&s);                                                                               \
        change;                                                                                        \
        phx_error err = {0};                                                                           \
        const phx_code got = phx_step_plan_check(&s.plan, &limits, &err);                              \
        if (got != (expected))                                                                         \
            fail_msg("%s: expected %s, got %s: %s", #change, #expected, phx_code_name(got), err.text); \
        assert_int_equal(err.code, got);                                                               \
    } while (0)
#define GOOD(change) EXPECT(PHX_OK, change)
#define BAD(change)  EXPECT(PHX_ERR_INVALID, change)
#define LONG(change) EXPECT(PHX_ERR_TOO_LONG, change)

static void test_rules_of_lists(void **state)
{
    (void)state;
    GOOD((void)0);
    BAD(s.plan.step = 0);
    GOOD(s.plan.capture = PHX_CAPTURE_ALL);
    BAD(s.plan.capture = 32);
    GOOD(s.closes[0] = 7);
    BAD(s.closes[0] = 8);
    BAD(s.closes[0] = 1); /* twice */
    GOOD(s.opens[0].slot = 7);
    BAD(s.opens[0].slot = 8);
    BAD(s.opens[0].slot = UINT32_MAX);
    BAD(s.opens[0].slot = 1);
    BAD(s.rows[2].slot = 8);
    BAD(s.rows[2].slot = 1);
    GOOD(s.plan.n_opens = 8);
    BAD(s.plan.n_opens = 9);
    GOOD(s.tokens[19] = 0);
    BAD(s.tokens[19] = 1000);
    BAD(s.blocks[2] = 100);
    GOOD((s.plan.n_rows = 0, s.plan.n_opens = 0, s.plan.n_closes = 0, s.plan.n_tokens = 0,
          s.plan.n_blocks = 0));
    LONG(s.plan.n_tokens = PHX_STEP_IDS_MAX + 1);
    LONG(s.plan.n_blocks = PHX_STEP_BLOCKS_MAX + 1);
}

static void test_rules_of_rows(void **state)
{
    (void)state;
    BAD(s.rows[0].flags = 16);
    BAD(s.plan.capture = 0);
    BAD(s.rows[0].n_tokens = 0);
    GOOD(s.rows[1].token_first = 0);
    BAD(s.rows[1].token_first = 15);
    BAD(s.rows[1].token_first = UINT32_MAX);
    BAD(s.rows[1].n_tokens = UINT32_MAX);
    BAD(s.rows[2].n_tokens = 2); /* from its slot */
    GOOD(s.rows[2].token_first = 12345);
    GOOD(s.rows[1].block_first = 0);
    BAD(s.rows[1].block_first = 3);
    BAD(s.rows[1].block_first = UINT32_MAX);
    BAD(s.rows[1].n_blocks = 4);
    GOOD((s.rows[1].n_blocks = 0, s.rows[1].block_first = 12345));
    GOOD((s.plan.n_tokens = 80, s.rows[0].n_tokens = 25)); /* 25 + 6 + 1 = 32 */
    LONG((s.plan.n_tokens = 80, s.rows[0].n_tokens = 26)); /* one more than a step takes */
    BAD((s.plan.n_tokens = 80, s.rows[0].n_tokens = 65));  /* past the context */
}

static void test_rules_of_opens(void **state)
{
    (void)state;
    GOOD(s.opens[0].n_reused = 64);
    LONG(s.opens[0].n_reused = 65);
    GOOD(s.opens[0].n_prompt = 64);
    LONG(s.opens[0].n_prompt = 65);
    BAD(s.opens[1].n_reused_ids = 3);
    GOOD(s.opens[1].reused_first = 16);
    BAD(s.opens[1].reused_first = 17);
    BAD(s.opens[1].reused_first = UINT32_MAX);
    BAD((s.opens[1].n_reused_ids = s.opens[1].n_reused = 21));
    GOOD((s.opens[1].n_reused_ids = 0, s.opens[1].reused_first = 12345));
    GOOD(s.opens[0].sampling.temperature = 0);
    BAD(s.opens[0].sampling.temperature = -0.01f);
    GOOD(s.opens[0].sampling.temperature = PHX_TEMPERATURE_MAX);
    BAD(s.opens[0].sampling.temperature = 100.01f);
    BAD(s.opens[0].sampling.temperature = NAN);
    BAD(s.opens[0].sampling.temperature = INFINITY);
    GOOD(s.opens[0].sampling.top_p = 1);
    BAD(s.opens[0].sampling.top_p = 1.001f);
    BAD(s.opens[0].sampling.top_p = 0);
    GOOD(s.opens[0].sampling.min_p = 1);
    BAD(s.opens[0].sampling.min_p = -0.001f);
    BAD(s.opens[0].sampling.presence_penalty = NAN);
    BAD(s.opens[0].sampling.presence_penalty = -100.01f);
    BAD(s.opens[0].sampling.frequency_penalty = 100.01f);
    BAD(s.opens[0].sampling.repetition_penalty = 0);
    GOOD(s.opens[0].sampling.repetition_penalty = 0.5f);
    BAD(s.opens[0].sampling.repetition_penalty = -INFINITY);
    LONG(s.opens[0].sampling.choice = 8);
    LONG(s.opens[0].sampling.n_top_logprobs = 21);
    LONG(s.opens[0].sampling.n_bias = PHX_LOGIT_BIAS_MAX + 1);
    BAD(s.opens[0].sampling.bias = NULL);
    BAD(s.bias[1] = NAN);
    BAD(s.bias[1] = 1.1e4f);
    GOOD(s.bias[1] = -1e4f);
    BAD(s.bias_ids[1] = 1000);
}

static void test_limits_of_the_group(void **state)
{
    (void)state;
    sample s;
    sample_init(&s);
    phx_step_limits wide = limits;
    wide.n_slots = PHX_SLOTS_MAX;
    s.rows[2].slot = PHX_SLOTS_MAX - 1;
    assert_int_equal(phx_step_plan_check(&s.plan, &wide, NULL), PHX_OK);
    wide.n_slots++;
    assert_int_equal(phx_step_plan_check(&s.plan, &wide, NULL), PHX_ERR_INVALID);
    phx_step_storage *storage = NULL;
    assert_int_equal(phx_step_storage_create(&wide, &storage, NULL), PHX_ERR_INVALID);
    assert_null(storage);
}

static Phalanx__RankFrame *decode(const phx_buf *wire)
{
    Phalanx__RankFrame *frame = NULL;
    phx_error err = {0};
    if (phx_rank_frame_decode((phx_bytes){(const uint8_t *)wire->ptr, wire->n}, &frame, &err) != PHX_OK)
        fail_msg("%s", err.text);
    return frame;
}

static void expect_same_plan(const phx_step_plan *a, const phx_step_plan *b)
{
    assert_int_equal(a->epoch, b->epoch);
    assert_int_equal(a->step, b->step);
    assert_int_equal(a->capture, b->capture);
    assert_int_equal(a->n_opens, b->n_opens);
    assert_int_equal(a->n_closes, b->n_closes);
    assert_int_equal(a->n_rows, b->n_rows);
    assert_int_equal(a->n_tokens, b->n_tokens);
    assert_int_equal(a->n_blocks, b->n_blocks);
    for (uint32_t i = 0; i < a->n_opens; i++) {
        const phx_sampling *p = &a->opens[i].sampling, *q = &b->opens[i].sampling;
        assert_memory_equal(p->bias_ids, q->bias_ids, p->n_bias * sizeof(uint32_t));
        assert_memory_equal(p->bias, q->bias, p->n_bias * sizeof(float));
        assert_memory_equal(p, q, offsetof(phx_sampling, choice) + sizeof(p->choice));
        assert_int_equal(p->logprobs, q->logprobs);
        assert_int_equal(p->n_top_logprobs, q->n_top_logprobs);
        assert_int_equal(p->n_bias, q->n_bias);
        assert_memory_equal(&a->opens[i], &b->opens[i], offsetof(phx_slot_open, sampling));
    }
    assert_memory_equal(a->closes, b->closes, a->n_closes * sizeof(uint32_t));
    assert_memory_equal(a->rows, b->rows, a->n_rows * sizeof(a->rows[0]));
    assert_memory_equal(a->tokens, b->tokens, a->n_tokens * sizeof(uint32_t));
    assert_memory_equal(a->blocks, b->blocks, a->n_blocks * sizeof(uint32_t));
}

static void there_and_back(const phx_step_plan *plan, const phx_step_limits *group)
{
    phx_error err = {0};
    phx_buf wire;
    phx_buf_init(&wire, PHX_MESSAGE_MAX);
    if (phx_step_plan_encode(plan, &wire, &err) != PHX_OK)
        fail_msg("%s", err.text);
    Phalanx__RankFrame *frame = decode(&wire);
    phx_step_storage *storage = NULL;
    assert_int_equal(phx_step_storage_create(group, &storage, &err), PHX_OK);
    phx_step_plan got = {0};
    const uint64_t n_allocs = phx_alloc_count().n_allocs;
    for (int i = 0; i < 2; i++) { /* into the same storage twice */
        if (phx_step_plan_from_frame(frame, group, storage, &got, &err) != PHX_OK)
            fail_msg("%s", err.text);
        expect_same_plan(plan, &got);
    }
    assert_int_equal(phx_alloc_count().n_allocs, n_allocs);
    phx_rank_frame_free(frame);
    expect_same_plan(plan, &got); /* the arrays are the storage's */
    phx_step_storage_destroy(storage);
    phx_buf_done(&wire);
}

static void test_there_and_back(void **state)
{
    (void)state;
    sample s;
    sample_init(&s);
    there_and_back(&s.plan, &limits);
    s.plan.n_rows = s.plan.n_opens = s.plan.n_closes = s.plan.n_tokens = s.plan.n_blocks = 0;
    there_and_back(&s.plan, &limits);
}

/* A plan that breaks a rule reaches no rank. */
static void test_bad_plan_from_frame(void **state)
{
    (void)state;
    sample s;
    sample_init(&s);
    s.blocks[1] = 100;
    phx_buf wire;
    phx_buf_init(&wire, 65536);
    assert_int_equal(phx_step_plan_encode(&s.plan, &wire, NULL), PHX_OK);
    Phalanx__RankFrame *frame = decode(&wire);
    phx_step_storage *storage = NULL;
    assert_int_equal(phx_step_storage_create(&limits, &storage, NULL), PHX_OK);
    phx_step_plan got = {.step = 42};
    assert_int_equal(phx_step_plan_from_frame(frame, &limits, storage, &got, NULL), PHX_ERR_INVALID);
    assert_int_equal(got.step, 42);
    phx_step_result result;
    phx_row_result rows[1];
    assert_int_equal(phx_step_result_from_frame(frame, rows, 1, &result, NULL), PHX_ERR_INVALID);
    phx_rank_frame_free(frame);

    sample_init(&s); /* more opens than slots, in a well-formed frame */
    s.plan.n_opens = 9;
    phx_buf_clear(&wire);
    assert_int_equal(phx_step_plan_encode(&s.plan, &wire, NULL), PHX_OK);
    frame = decode(&wire);
    assert_int_equal(phx_step_plan_from_frame(frame, &limits, storage, &got, NULL), PHX_ERR_TOO_LONG);
    phx_rank_frame_free(frame);
    phx_step_storage_destroy(storage);
    phx_buf_done(&wire);
}

/* Everything at its limit, with the shortest numbers, which need the most heap for a byte of wire. */
static void test_fullest_plan(void **state)
{
    (void)state;
    const phx_step_limits group = {.n_slots = PHX_SLOTS_MAX,
                                   .n_step_tokens = PHX_STEP_TOKENS_MAX,
                                   .n_blocks = 1000000,
                                   .n_context = 200000,
                                   .n_vocab = 200000};
    phx_slot_open *opens = phx_alloc(PHX_SLOTS_MAX, sizeof(*opens));
    phx_step_row *rows = phx_alloc(PHX_SLOTS_MAX, sizeof(*rows));
    uint32_t *closes = phx_alloc(PHX_SLOTS_MAX, sizeof(*closes));
    uint32_t *tokens = phx_alloc(PHX_STEP_IDS_MAX, sizeof(*tokens));
    uint32_t *blocks = phx_alloc(PHX_STEP_BLOCKS_MAX, sizeof(*blocks));
    uint32_t *bias_ids = phx_alloc(PHX_LOGIT_BIAS_MAX, sizeof(*bias_ids));
    float *bias = phx_alloc(PHX_LOGIT_BIAS_MAX, sizeof(*bias));
    for (uint32_t i = 0; i < PHX_LOGIT_BIAS_MAX; i++) {
        bias_ids[i] = i % 127 + 1;
        bias[i] = 1;
    }
    for (uint32_t with_bias = 0; with_bias < 2; with_bias++) {
        for (uint32_t i = 0; i < PHX_SLOTS_MAX; i++) {
            opens[i] = (phx_slot_open){.slot = i, .sampling = {.top_p = 1, .repetition_penalty = 1}};
            if (with_bias)
                opens[i].sampling = (phx_sampling){.top_p = 1,
                                                   .repetition_penalty = 1,
                                                   .n_bias = PHX_LOGIT_BIAS_MAX,
                                                   .bias_ids = bias_ids,
                                                   .bias = bias};
            rows[i] = (phx_step_row){.slot = i, .flags = PHX_ROW_FROM_SLOT, .n_tokens = 1};
            closes[i] = i;
        }
        phx_step_plan plan = {.epoch = 1,
                              .step = 1,
                              .n_opens = PHX_SLOTS_MAX,
                              .opens = opens,
                              .n_rows = PHX_SLOTS_MAX,
                              .rows = rows};
        there_and_back(&plan, &group); /* rows and opens alone: the densest */
        plan.n_opens = 0;
        there_and_back(&plan, &group);
        plan.n_opens = PHX_SLOTS_MAX;
        plan.n_closes = PHX_SLOTS_MAX;
        plan.closes = closes;
        plan.n_tokens = PHX_STEP_IDS_MAX;
        plan.tokens = tokens;
        plan.n_blocks = PHX_STEP_BLOCKS_MAX;
        plan.blocks = blocks;
        there_and_back(&plan, &group);
    }
    phx_free(opens);
    phx_free(rows);
    phx_free(closes);
    phx_free(tokens);
    phx_free(blocks);
    phx_free(bias_ids);
    phx_free(bias);
}

static void test_results(void **state)
{
    (void)state;
    phx_row_result *rows = phx_alloc(PHX_SLOTS_MAX, sizeof(*rows)),
                   *got_rows = phx_alloc(PHX_SLOTS_MAX, sizeof(*rows));
    for (uint32_t i = 0; i < PHX_SLOTS_MAX; i++) {
        rows[i] = (phx_row_result){.slot = i, .request_id = i, .token = i, .logprob = -INFINITY, .n_top = 20};
        for (uint32_t j = 0; j < 20; j++)
            rows[i].top[j] = (phx_token_logprob){.id = j, .logprob = -1.5f};
    }
    const phx_step_result result = {
        .epoch = 2, .step = 9, .n_rows = PHX_SLOTS_MAX, .rows = rows, .compute_us = 77};
    phx_buf wire;
    phx_buf_init(&wire, PHX_MESSAGE_MAX);
    assert_int_equal(phx_step_result_encode(&result, &wire, NULL), PHX_OK);
    Phalanx__RankFrame *frame = decode(&wire);
    phx_step_result got = {0};
    assert_int_equal(phx_step_result_from_frame(frame, got_rows, PHX_SLOTS_MAX - 1, &got, NULL),
                     PHX_ERR_TOO_LONG);
    assert_int_equal(got.step, 0);
    assert_int_equal(phx_step_result_from_frame(frame, got_rows, PHX_SLOTS_MAX, &got, NULL), PHX_OK);
    assert_int_equal(got.epoch, 2);
    assert_int_equal(got.step, 9);
    assert_int_equal(got.compute_us, 77);
    assert_int_equal(got.n_rows, PHX_SLOTS_MAX);
    assert_memory_equal(got.rows, rows, PHX_SLOTS_MAX * sizeof(*rows));
    phx_rank_frame_free(frame);
    phx_buf_clear(&wire);
    rows[3].top[2].logprob = NAN;
    assert_int_equal(phx_step_result_encode(&result, &wire, NULL), PHX_ERR_INVALID);
    phx_buf_done(&wire);
    phx_free(rows);
    phx_free(got_rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules_of_lists), cmocka_unit_test(test_rules_of_rows),
        cmocka_unit_test(test_rules_of_opens), cmocka_unit_test(test_limits_of_the_group),
        cmocka_unit_test(test_there_and_back), cmocka_unit_test(test_bad_plan_from_frame),
        cmocka_unit_test(test_fullest_plan),   cmocka_unit_test(test_results),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
