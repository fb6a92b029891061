/* tests/api/fake_engine.c - see fake_engine.h. */
#include "tests/api/fake_engine.h"

#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"

static void play(void *user);

phx_engine *fake_engine_create(phx_loop *loop)
{
    phx_engine *e = phx_alloc(1, sizeof(*e));
    assert(e);
    e->loop = loop;
    e->state = PHX_ENGINE_READY;
    e->n_scripts = 1;
    e->eos = 1;
    e->next_id = 100;
    const phx_code rc = phx_loop_timer_create(loop, (phx_loop_call){play, e}, &e->timer, NULL);
    assert(rc == PHX_OK);
    phx_loop_timer_start(e->timer, 0);
    return e;
}

void fake_engine_destroy(phx_engine *engine)
{
    phx_loop_timer_destroy(engine->timer);
    phx_free(engine);
}

uint32_t fake_engine_n_living(const phx_engine *engine)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < FAKE_LIVING_MAX; i++)
        n += engine->living[i].id != 0 && engine->living[i].has_sink;
    return n;
}

phx_code phx_engine_submit(phx_engine *engine, const phx_sched_request *request, const phx_engine_sink *sink,
                           uint64_t *ret_id, phx_error *err)
{
    if (engine->state != PHX_ENGINE_READY)
        return PHX_FAIL(err, PHX_ERR_UNAVAILABLE, "not ready");
    if (engine->refuse != PHX_OK && engine->n_free == 0)
        return PHX_FAIL(err, engine->refuse, "refused by the test");
    engine->n_free -= engine->n_free > 0;
    assert(request->n_prompt <= FAKE_TOKENS_MAX);
    fake_living *l = engine->living;
    while (l->id != 0)
        l++;
    assert(l < engine->living + FAKE_LIVING_MAX);
    *l = (fake_living){
        .id = engine->next_id++,
        .sink = *sink,
        .has_sink = true,
        .script = &engine->scripts[(engine->plays_in_turn ? engine->n_submitted : request->sampling.choice) %
                                   engine->n_scripts],
        .n_prompt = request->n_prompt,
        .n_output_max = request->n_output_max,
        .ignore_eos = request->ignore_eos,
        .capture = request->capture,
        .n_parts = request->capture ? 5 : 0,
        .n_stop_ids = request->n_stop_ids,
        .logprobs = request->sampling.logprobs,
        .n_top = request->sampling.n_top_logprobs,
        .deadline_us = request->deadline_us};
    memcpy(l->stop_ids, request->stop_ids, sizeof(l->stop_ids));
    engine->n_submitted++;
    engine->last = *request;
    memcpy(engine->last_prompt, request->prompt, request->n_prompt * sizeof(uint32_t));
    engine->last.prompt = engine->last_prompt;
    for (uint32_t i = 0; i < request->sampling.n_bias; i++) {
        engine->last_bias_ids[i] = request->sampling.bias_ids[i];
        engine->last_bias[i] = request->sampling.bias[i];
    }
    engine->last.sampling.bias_ids = engine->last_bias_ids;
    engine->last.sampling.bias = engine->last_bias;
    *ret_id = l->id;
    return PHX_OK;
}

static fake_living *find(phx_engine *engine, uint64_t id)
{
    for (uint32_t i = 0; i < FAKE_LIVING_MAX; i++) {
        if (engine->living[i].id == id)
            return &engine->living[i];
    }
    return NULL;
}

void phx_engine_cancel(phx_engine *engine, uint64_t id, phx_end_reason reason)
{
    fake_living *l = find(engine, id);
    engine->n_cancelled++;
    if (!l || l->is_ended)
        return;
    l->is_ended = true;
    l->reason = reason;
}

void phx_engine_abandon(phx_engine *engine, uint64_t id)
{
    fake_living *l = find(engine, id);
    engine->n_abandoned++;
    if (l)
        l->id = 0;
}

void phx_engine_grant(phx_engine *engine, uint64_t id, uint32_t n_parts)
{
    fake_living *l = find(engine, id);
    if (l)
        l->n_credit += n_parts;
}

static void end(phx_engine *e, fake_living *l, phx_end_reason reason)
{
    phx_error why = {0};
    const fake_living mine = *l;
    const phx_sched_event event = {
        .kind = PHX_EVENT_END, .id = l->id, .reason = reason, .n_prompt = l->n_prompt, .n_cached = 64};
    (void)e;
    l->id = 0;
    if (reason == PHX_END_ERROR)
        (void)PHX_FAIL(&why, PHX_ERR_PEER_LOST, "rank 1 on host 'secret' died");
    mine.sink.event(mine.sink.user, &event, reason == PHX_END_ERROR ? &why : NULL);
}

static void capture(phx_engine *e, fake_living *l)
{
    uint8_t data[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    Phalanx__CapturePart part = PHALANX__CAPTURE_PART__INIT;
    const uint64_t id = l->id;
    char name[] = "logits", dtype[] = "F32";
    part.name = name;
    part.dtype = dtype;
    part.n_rows = 1;
    part.n_cols = 2;
    part.data = (ProtobufCBinaryData){sizeof(data), data};
    part.request_id = id;
    if (l->n_parts == 0) {
        end(e, l, PHX_END_CAPTURED);
    } else if (l->n_credit > 0) {
        part.row_first = 5 - l->n_parts;
        l->n_credit--;
        l->n_parts--;
        l->sink.capture(l->sink.user, &part);
    }
}

static bool is_end(const phx_engine *e, const fake_living *l, uint32_t token)
{
    bool is = token == e->eos && !l->ignore_eos;
    for (uint32_t i = 0; i < l->n_stop_ids; i++)
        is = is || l->stop_ids[i] == token;
    return is;
}

static void token(phx_engine *e, fake_living *l)
{
    const uint32_t id = l->script->ids[l->at];
    const uint64_t mine = l->id;
    phx_sched_event event = {.kind = PHX_EVENT_TOKEN, .id = l->id, .token = id};
    event.is_end_token = is_end(e, l, id);
    if (l->logprobs) {
        event.logprob = -0.25f - (float)l->at / 8;
        event.n_top = l->n_top;
        for (uint32_t i = 0; i < l->n_top; i++)
            event.top[i] = (phx_token_logprob){id + i, event.logprob - (float)i};
    }
    l->at++;
    e->n_output++;
    l->sink.event(l->sink.user, &event, NULL);
    if (l->id != mine || l->is_ended)
        return; /* abandoned or cancelled by the sink */
    if (event.is_end_token || l->at == l->script->n)
        end(e, l, PHX_END_STOP);
    else if (l->at == l->n_output_max)
        end(e, l, PHX_END_LENGTH);
}

static void play(void *user)
{
    phx_engine *e = user;
    for (uint32_t i = 0; i < FAKE_LIVING_MAX; i++) {
        fake_living *l = &e->living[i];
        if (l->id == 0)
            continue;
        if (l->is_ended)
            end(e, l, l->reason);
        else if (l->deadline_us && phx_clock_us() >= l->deadline_us)
            end(e, l, PHX_END_DEADLINE);
        else if (e->holds)
            continue;
        else if (l->capture)
            capture(e, l);
        else if (e->fail_after && l->at >= e->fail_after)
            end(e, l, PHX_END_ERROR);
        else
            token(e, l);
    }
    phx_loop_timer_start(e->timer, 0);
}

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

phx_sched_stats phx_engine_stats(const phx_engine *engine)
{
    return (phx_sched_stats){.n_running = fake_engine_n_living(engine),
                             .n_blocks = 100,
                             .n_blocks_used = 2 * fake_engine_n_living(engine),
                             .n_output_tokens = engine->n_output};
}

void phx_engine_status(phx_engine *engine, Phalanx__StatusReply *ret_status)
{
    ret_status->epoch = 3;
    ret_status->n_running = fake_engine_n_living(engine);
}

void phx_engine_drain(phx_engine *engine, phx_loop_call done)
{
    engine->state = PHX_ENGINE_DRAINING;
    (void)phx_loop_post(engine->loop, done);
}
