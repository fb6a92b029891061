/* proto/codec_step.c - step plans and results between their structs and messages. */
#include "proto/codec.h"

#include <assert.h>

#include "base/alloc.h"
#include "base/arena.h"
#include "proto/codec_sampling.h"
#include "proto/limits.h"

/* ---------------------------------------------------------------- sampling */

phx_sampling phx_sampling_of_message(const Phalanx__Sampling *message)
{
    return (phx_sampling){
        .temperature = message->temperature,
        .top_p = message->top_p,
        .min_p = message->min_p,
        .top_k = message->top_k,
        .presence_penalty = message->presence_penalty,
        .frequency_penalty = message->frequency_penalty,
        .repetition_penalty = message->repetition_penalty,
        .seed = message->seed,
        .choice = message->choice,
        .logprobs = message->logprobs != 0,
        .n_top_logprobs = message->n_top_logprobs,
        .n_bias = (uint32_t)message->n_bias,
    };
}

static Phalanx__Sampling message_of_sampling(const phx_sampling *sampling)
{
    Phalanx__Sampling message = PHALANX__SAMPLING__INIT;
    message.temperature = sampling->temperature;
    message.top_p = sampling->top_p;
    message.min_p = sampling->min_p;
    message.top_k = sampling->top_k;
    message.presence_penalty = sampling->presence_penalty;
    message.frequency_penalty = sampling->frequency_penalty;
    message.repetition_penalty = sampling->repetition_penalty;
    message.seed = sampling->seed;
    message.choice = sampling->choice;
    message.logprobs = sampling->logprobs;
    message.n_top_logprobs = sampling->n_top_logprobs;
    return message;
}

/* ---------------------------------------------------------------- plan to bytes */

/* The generated structs of one plan; a single arena holds them while it is encoded. */
typedef struct plan_message {
    Phalanx__SlotOpen *opens;
    Phalanx__SlotOpen **open_ptrs;
    Phalanx__Sampling *samplings;
    Phalanx__StepRow *rows;
    Phalanx__StepRow **row_ptrs;
    Phalanx__LogitBias *biases;
    Phalanx__LogitBias **bias_ptrs;
} plan_message;

static void fill_opens(const phx_step_plan *plan, plan_message *m)
{
    size_t n_bias = 0;
    for (uint32_t i = 0; i < plan->n_opens; i++) {
        const phx_slot_open *from = &plan->opens[i];
        m->samplings[i] = message_of_sampling(&from->sampling);
        m->samplings[i].n_bias = from->sampling.n_bias;
        m->samplings[i].bias = from->sampling.n_bias ? m->bias_ptrs + n_bias : NULL;
        for (uint32_t j = 0; j < from->sampling.n_bias; j++, n_bias++) {
            phalanx__logit_bias__init(&m->biases[n_bias]);
            m->biases[n_bias].id = from->sampling.bias_ids[j];
            m->biases[n_bias].bias = from->sampling.bias[j];
            m->bias_ptrs[n_bias] = &m->biases[n_bias];
        }
        phalanx__slot_open__init(&m->opens[i]);
        m->opens[i].slot = from->slot;
        m->opens[i].request_id = from->request_id;
        m->opens[i].n_reused = from->n_reused;
        m->opens[i].n_prompt = from->n_prompt;
        m->opens[i].reused_first = from->reused_first;
        m->opens[i].n_reused_ids = from->n_reused_ids;
        m->opens[i].sampling = &m->samplings[i];
        m->open_ptrs[i] = &m->opens[i];
    }
}

static void fill_rows(const phx_step_plan *plan, plan_message *m)
{
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        const phx_step_row *from = &plan->rows[i];
        phalanx__step_row__init(&m->rows[i]);
        m->rows[i].slot = from->slot;
        m->rows[i].flags = from->flags;
        m->rows[i].token_first = from->token_first;
        m->rows[i].n_tokens = from->n_tokens;
        m->rows[i].n_drafts = from->n_drafts;
        m->rows[i].block_first = from->block_first;
        m->rows[i].n_blocks = from->n_blocks;
        m->row_ptrs[i] = &m->rows[i];
    }
}

phx_code phx_step_plan_encode(const phx_step_plan *plan, phx_buf *wire, phx_error *err)
{
    phx_code rc = PHX_OK;
    plan_message m = {0};
    phx_arena *arena = NULL;
    size_t n_bias = 0;
    for (uint32_t i = 0; i < plan->n_opens; i++)
        n_bias += plan->opens[i].sampling.n_bias;
    const phx_slot slots[] = {
        PHX_SLOT(&m, opens, plan->n_opens),     PHX_SLOT(&m, open_ptrs, plan->n_opens),
        PHX_SLOT(&m, samplings, plan->n_opens), PHX_SLOT(&m, rows, plan->n_rows),
        PHX_SLOT(&m, row_ptrs, plan->n_rows),   PHX_SLOT(&m, biases, n_bias),
        PHX_SLOT(&m, bias_ptrs, n_bias),
    };
    rc = phx_arena_create(slots, sizeof(slots) / sizeof(slots[0]), &arena, err);
    if (rc != PHX_OK)
        goto out;
    fill_opens(plan, &m);
    fill_rows(plan, &m);

    Phalanx__StepPlan message = PHALANX__STEP_PLAN__INIT;
    message.step = plan->step;
    message.capture = plan->capture;
    message.n_opens = plan->n_opens;
    message.opens = m.open_ptrs;
    message.n_rows = plan->n_rows;
    message.rows = m.row_ptrs;
    message.n_closes = plan->n_closes;
    message.closes = (uint32_t *)(uintptr_t)plan->closes; /* protobuf-c has no const; it only reads */
    message.n_tokens = plan->n_tokens;
    message.tokens = (uint32_t *)(uintptr_t)plan->tokens;
    message.n_blocks = plan->n_blocks;
    message.blocks = (uint32_t *)(uintptr_t)plan->blocks;
    Phalanx__RankFrame frame = PHALANX__RANK_FRAME__INIT;
    frame.epoch = plan->epoch;
    frame.body_case = PHALANX__RANK_FRAME__BODY_STEP;
    frame.step = &message;
    rc = phx_message_encode(&frame.base, wire, err);
out:
    phx_arena_destroy(arena);
    return rc;
}

/* ---------------------------------------------------------------- plan from a frame */

/* Room for the largest plan that the limits allow; pages are resident only once used. */
struct phx_step_storage {
    phx_arena *arena;
    uint32_t n_slots;
    phx_slot_open *opens; /* [n_slots] */
    phx_step_row *rows;   /* [n_slots] */
    uint32_t *closes;     /* [n_slots] */
    uint32_t *tokens;     /* [PHX_STEP_IDS_MAX] */
    uint32_t *blocks;     /* [PHX_STEP_BLOCKS_MAX] */
    uint32_t *bias_ids;   /* [n_slots][PHX_LOGIT_BIAS_MAX] */
    float *bias;          /* the same */
};

phx_code phx_step_storage_create(const phx_step_limits *limits, phx_step_storage **ret_storage,
                                 phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_step_storage *storage = NULL;
    if (limits->n_slots == 0 || limits->n_slots > PHX_SLOTS_MAX) {
        rc = PHX_FAIL(err, PHX_ERR_INVALID, "%u slots, 1 to %u can run together", limits->n_slots,
                      PHX_SLOTS_MAX);
        goto out;
    }
    storage = phx_alloc(1, sizeof(*storage));
    if (!storage) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "step storage");
        goto out;
    }
    storage->n_slots = limits->n_slots;
    const size_t n_bias = (size_t)limits->n_slots * PHX_LOGIT_BIAS_MAX;
    const phx_slot slots[] = {
        PHX_SLOT(storage, opens, limits->n_slots),
        PHX_SLOT(storage, rows, limits->n_slots),
        PHX_SLOT(storage, closes, limits->n_slots),
        PHX_SLOT(storage, tokens, PHX_STEP_IDS_MAX),
        PHX_SLOT(storage, blocks, PHX_STEP_BLOCKS_MAX),
        PHX_SLOT(storage, bias_ids, n_bias),
        PHX_SLOT(storage, bias, n_bias),
    };
    rc = phx_arena_create(slots, sizeof(slots) / sizeof(slots[0]), &storage->arena, err);
    if (rc != PHX_OK)
        goto out;
    *ret_storage = storage;
    storage = NULL;
out:
    phx_step_storage_destroy(storage);
    return rc;
}

void phx_step_storage_destroy(phx_step_storage *storage)
{
    if (!storage)
        return;
    phx_arena_destroy(storage->arena);
    phx_free(storage);
}

static void take_opens(const Phalanx__StepPlan *message, phx_step_storage *storage)
{
    size_t n_bias = 0;
    for (size_t i = 0; i < message->n_opens; i++) {
        const Phalanx__SlotOpen *from = message->opens[i];
        storage->opens[i] = (phx_slot_open){
            .slot = from->slot,
            .request_id = from->request_id,
            .n_reused = from->n_reused,
            .n_prompt = from->n_prompt,
            .reused_first = from->reused_first,
            .n_reused_ids = from->n_reused_ids,
            .sampling = phx_sampling_of_message(from->sampling),
        };
        storage->opens[i].sampling.bias_ids = storage->bias_ids + n_bias;
        storage->opens[i].sampling.bias = storage->bias + n_bias;
        for (size_t j = 0; j < from->sampling->n_bias; j++, n_bias++) {
            storage->bias_ids[n_bias] = from->sampling->bias[j]->id;
            storage->bias[n_bias] = from->sampling->bias[j]->bias;
        }
    }
}

static void take_rows(const Phalanx__StepPlan *message, phx_step_storage *storage)
{
    for (size_t i = 0; i < message->n_rows; i++) {
        const Phalanx__StepRow *from = message->rows[i];
        storage->rows[i] = (phx_step_row){
            .slot = from->slot,
            .flags = from->flags,
            .token_first = from->token_first,
            .n_tokens = from->n_tokens,
            .n_drafts = from->n_drafts,
            .block_first = from->block_first,
            .n_blocks = from->n_blocks,
        };
    }
}

static void take_ids(uint32_t *to, const uint32_t *from, size_t n)
{
    if (n)
        memcpy(to, from, n * sizeof(*to));
}

phx_code phx_step_plan_from_frame(const Phalanx__RankFrame *frame, const phx_step_limits *limits,
                                  phx_step_storage *storage, phx_step_plan *ret_plan, phx_error *err)
{
    assert(limits->n_slots == storage->n_slots);
    if (frame->body_case != PHALANX__RANK_FRAME__BODY_STEP)
        return PHX_FAIL(err, PHX_ERR_INVALID, "the frame holds no step plan");
    const Phalanx__StepPlan *message = frame->step;
    if (message->n_opens > limits->n_slots || message->n_rows > limits->n_slots ||
        message->n_closes > limits->n_slots)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "step plan with %zu opens, %zu rows, %zu closes for %u slots",
                        message->n_opens, message->n_rows, message->n_closes, limits->n_slots);
    take_opens(message, storage); /* array lengths: the decoder has checked proto/limits.h */
    take_rows(message, storage);
    take_ids(storage->closes, message->closes, message->n_closes);
    take_ids(storage->tokens, message->tokens, message->n_tokens);
    take_ids(storage->blocks, message->blocks, message->n_blocks);
    const phx_step_plan plan = {
        .epoch = frame->epoch,
        .step = message->step,
        .capture = message->capture,
        .n_opens = (uint32_t)message->n_opens,
        .opens = storage->opens,
        .n_closes = (uint32_t)message->n_closes,
        .closes = storage->closes,
        .n_rows = (uint32_t)message->n_rows,
        .rows = storage->rows,
        .n_tokens = (uint32_t)message->n_tokens,
        .tokens = storage->tokens,
        .n_blocks = (uint32_t)message->n_blocks,
        .blocks = storage->blocks,
    };
    const phx_code rc = phx_step_plan_check(&plan, limits, err);
    if (rc == PHX_OK)
        *ret_plan = plan;
    return rc;
}

/* ---------------------------------------------------------------- results */

typedef struct result_message {
    Phalanx__RowResult *rows;
    Phalanx__RowResult **row_ptrs;
    Phalanx__TopLogprob *tops;
    Phalanx__TopLogprob **top_ptrs;
} result_message;

static void fill_results(const phx_step_result *result, result_message *m)
{
    size_t n_top = 0;
    for (uint32_t i = 0; i < result->n_rows; i++) {
        const phx_row_result *from = &result->rows[i];
        phalanx__row_result__init(&m->rows[i]);
        m->rows[i].slot = from->slot;
        m->rows[i].request_id = from->request_id;
        m->rows[i].token = from->token;
        m->rows[i].logprob = from->logprob;
        m->rows[i].n_top = from->n_top;
        m->rows[i].top = from->n_top ? m->top_ptrs + n_top : NULL;
        for (uint32_t j = 0; j < from->n_top; j++, n_top++) {
            phalanx__top_logprob__init(&m->tops[n_top]);
            m->tops[n_top].id = from->top[j].id;
            m->tops[n_top].logprob = from->top[j].logprob;
            m->top_ptrs[n_top] = &m->tops[n_top];
        }
        m->row_ptrs[i] = &m->rows[i];
    }
}

phx_code phx_step_result_encode(const phx_step_result *result, phx_buf *wire, phx_error *err)
{
    phx_code rc = PHX_OK;
    result_message m = {0};
    phx_arena *arena = NULL;
    size_t n_top = 0;
    for (uint32_t i = 0; i < result->n_rows; i++) {
        assert(result->rows[i].n_top <= PHX_TOP_LOGPROBS_MAX);
        n_top += result->rows[i].n_top;
    }
    const phx_slot slots[] = {
        PHX_SLOT(&m, rows, result->n_rows),
        PHX_SLOT(&m, row_ptrs, result->n_rows),
        PHX_SLOT(&m, tops, n_top),
        PHX_SLOT(&m, top_ptrs, n_top),
    };
    rc = phx_arena_create(slots, sizeof(slots) / sizeof(slots[0]), &arena, err);
    if (rc != PHX_OK)
        goto out;
    fill_results(result, &m);
    Phalanx__StepResult message = PHALANX__STEP_RESULT__INIT;
    message.step = result->step;
    message.n_rows = result->n_rows;
    message.rows = m.row_ptrs;
    message.compute_us = result->compute_us;
    Phalanx__RankFrame frame = PHALANX__RANK_FRAME__INIT;
    frame.epoch = result->epoch;
    frame.body_case = PHALANX__RANK_FRAME__BODY_RESULT;
    frame.result = &message;
    rc = phx_message_encode(&frame.base, wire, err);
out:
    phx_arena_destroy(arena);
    return rc;
}

phx_code phx_step_result_from_frame(const Phalanx__RankFrame *frame, phx_row_result *rows,
                                    uint32_t n_rows_max, phx_step_result *ret_result, phx_error *err)
{
    if (frame->body_case != PHALANX__RANK_FRAME__BODY_RESULT)
        return PHX_FAIL(err, PHX_ERR_INVALID, "the frame holds no step result");
    const Phalanx__StepResult *message = frame->result;
    if (message->step == 0)
        return PHX_FAIL(err, PHX_ERR_INVALID, "result of step 0: steps count from 1");
    if (message->n_rows > n_rows_max)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "result of step %llu has %zu rows, at most %u were asked",
                        (unsigned long long)message->step, message->n_rows, n_rows_max);
    for (size_t i = 0; i < message->n_rows; i++) {
        const Phalanx__RowResult *from = message->rows[i];
        rows[i] = (phx_row_result){
            .slot = from->slot,
            .request_id = from->request_id,
            .token = from->token,
            .logprob = from->logprob,
            .n_top = (uint32_t)from->n_top,
        };
        for (size_t j = 0; j < from->n_top; j++) /* at most PHX_TOP_LOGPROBS_MAX: the decoder has checked */
            rows[i].top[j] = (phx_token_logprob){from->top[j]->id, from->top[j]->logprob};
    }
    *ret_result = (phx_step_result){
        .epoch = frame->epoch,
        .step = message->step,
        .n_rows = (uint32_t)message->n_rows,
        .rows = rows,
        .compute_us = message->compute_us,
    };
    return PHX_OK;
}
