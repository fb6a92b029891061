/* tests/api/test_control_heavy.c - large prompts of the control service, which are read beside the loop as
 * HTTP's are: everybody else goes on, and what comes for the call meanwhile is not lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "tests/api/control_scene.h"
#include "tests/api/gate.h"

#define ASK "\"messages\":[{\"role\":\"user\",\"content\":\"What is the capital of France?\"}]"

static void send_chat(scene *s, uint64_t call_id, char *chat_json, uint32_t deadline_ms)
{
    Phalanx__GenerateRequest request = PHALANX__GENERATE_REQUEST__INIT;
    request.prompt_case = PHALANX__GENERATE_REQUEST__PROMPT_CHAT_JSON;
    request.chat_json = chat_json;
    scene_generate(s, call_id, &request, deadline_ms);
}

static void send_heavy(scene *s, uint64_t call_id, const char *fields, uint32_t deadline_ms)
{
    char *chat = gate_padded(fields);
    send_chat(s, call_id, chat, deadline_ms);
    phx_free(chat);
}

static void await_bodies(scene *s, uint32_t n)
{
    const uint64_t start_us = phx_clock_us();
    while (s->r.api->n_bodies < n)
        scene_step(s, start_us);
}

/* The end of this call; every frame before it is of the same call. text: what it told, if wanted. */
static Phalanx__ServerFrame *await_end(scene *s, uint64_t call_id, phx_buf *text)
{
    for (;;) {
        Phalanx__ServerFrame *frame = scene_await(s);
        assert_int_equal(frame->call_id, call_id);
        if (frame->end)
            return frame;
        if (text && frame->event)
            assert_int_equal(phx_buf_str(text, frame->event->text), PHX_OK);
        phx_server_frame_free(frame);
    }
}

static void expect_end(scene *s, uint64_t call_id, int status, const char *answer)
{
    phx_buf text;
    phx_buf_init(&text, 4096);
    Phalanx__ServerFrame *frame = await_end(s, call_id, &text);
    assert_int_equal(frame->status, status);
    assert_string_equal(text.n > 0 ? text.ptr : "", answer);
    phx_server_frame_free(frame);
    phx_buf_done(&text);
}

#define PARIS "The capital of France is Paris."

static void test_others_go_on(void **state)
{
    char small[] = "{" ASK "}";
    scene s;
    gate g;
    (void)state;
    scene_open(&s);
    scene_connect(&s);
    gate_close(&g, &s.r, 1);
    send_heavy(&s, 1, ASK, 0);
    send_chat(&s, 2, small, 0);
    expect_end(&s, 2, PHALANX__GRPC_STATUS__GRPC_OK, PARIS);
    send_chat(&s, 1, small, 0); /* an id that runs already */
    expect_end(&s, 1, PHALANX__GRPC_STATUS__GRPC_INVALID_ARGUMENT, "");
    assert_int_equal(s.r.engine->n_submitted, 1);
    assert_int_equal(s.r.api->n_bodies, 1);
    gate_open(&g);
    expect_end(&s, 1, PHALANX__GRPC_STATUS__GRPC_OK, PARIS);
    scene_close(&s);
}

/* What is wrong with it is told alike, whoever read it. */
static void test_same(void **state)
{
    static char cases[][128] = {"{\"messages\":7}", "{" ASK ",\"unknown\":1}", "{\"messages\":[]}"};
    scene s;
    (void)state;
    scene_open(&s);
    scene_connect(&s);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char fields[128] = {0};
        memcpy(fields, cases[i] + 1, strlen(cases[i]) - 2);
        send_chat(&s, 1, cases[i], 0);
        Phalanx__ServerFrame *direct = await_end(&s, 1, NULL);
        send_heavy(&s, 1, fields, 0);
        Phalanx__ServerFrame *beside = await_end(&s, 1, NULL);
        assert_int_equal(direct->status, PHALANX__GRPC_STATUS__GRPC_INVALID_ARGUMENT);
        assert_int_equal(direct->status, beside->status);
        assert_string_equal(direct->message, beside->message);
        phx_server_frame_free(direct);
        phx_server_frame_free(beside);
    }
    scene_close(&s);
}

/* Credit that comes before the generation counts; a deadline counts from the arrival. */
static void test_kept(void **state)
{
    static char text[PHX_API_BODY_DIRECT_MAX + 2]; /* not two tokens for each byte */
    Phalanx__GenerateRequest request = PHALANX__GENERATE_REQUEST__INIT;
    Phalanx__ServerFrame *frame = NULL;
    scene s;
    gate g;
    (void)state;
    scene_open(&s);
    scene_connect(&s);
    gate_close(&g, &s.r, 1);
    memset(text, 'a', PHX_API_BODY_DIRECT_MAX + 1);
    request.prompt_case = PHALANX__GENERATE_REQUEST__PROMPT_TEXT;
    request.text = text;
    request.capture = PHX_CAPTURE_LOGITS;
    scene_generate(&s, 9, &request, 0);
    scene_credit(&s, 9, 2);
    scene_credit(&s, 9, 3);
    send_heavy(&s, 10, ASK, 60 * 1000);
    await_bodies(&s, 2);
    const uint64_t arrived_us = phx_clock_us();
    gate_open(&g);
    for (int i = 0; i < 5; i++) {
        frame = scene_await(&s);
        if (frame->call_id == 9)
            assert_non_null(frame->event->capture);
        else
            i--;
        phx_server_frame_free(frame);
    }
    const uint64_t start_us = phx_clock_us();
    while (s.r.engine->n_submitted < 2)
        scene_step(&s, start_us);
    assert_true(s.r.engine->last.deadline_us <= arrived_us + 60 * 1000 * 1000);
    scene_close(&s);
}

static void send_cancel(scene *s, uint64_t call_id, uint64_t cancelled_id)
{
    Phalanx__CancelRequest cancel = PHALANX__CANCEL_REQUEST__INIT;
    Phalanx__ClientFrame frame = PHALANX__CLIENT_FRAME__INIT;
    cancel.call_id = cancelled_id;
    frame.call_id = call_id;
    frame.body_case = PHALANX__CLIENT_FRAME__BODY_CANCEL;
    frame.cancel = &cancel;
    scene_send(s, &frame);
}

static void test_cancel(void **state)
{
    scene s;
    gate g;
    (void)state;
    scene_open(&s);
    scene_connect(&s);
    gate_close(&g, &s.r, 1);
    send_heavy(&s, 1, ASK, 0);
    send_cancel(&s, 2, 1);
    expect_end(&s, 1, PHALANX__GRPC_STATUS__GRPC_CANCELLED, "");
    Phalanx__ServerFrame *frame = await_end(&s, 2, NULL);
    assert_true(frame->cancel->found);
    phx_server_frame_free(frame);
    assert_int_equal(s.r.api->n_bodies, 0); /* taken back, it had not begun */
    gate_open(&g);
    /* Before, while or after it runs: the call ends once, and nothing is left of it. */
    for (uint64_t i = 0; i < 20; i++) {
        send_heavy(&s, 10 + i, ASK, 0);
        for (uint64_t k = 0; k < i; k++)
            scene_step(&s, phx_clock_us());
        send_cancel(&s, 100 + i, 10 + i);
        uint32_t n_ends = 0;
        while (n_ends < 2) {
            frame = scene_await(&s);
            assert_true(frame->call_id == 10 + i || frame->call_id == 100 + i);
            n_ends += frame->end != 0;
            phx_server_frame_free(frame);
        }
    }
    scene_close(&s);
}

static void test_bound_and_drain(void **state)
{
    scene s;
    gate g;
    (void)state;
    scene_open(&s);
    scene_connect(&s);
    gate_close(&g, &s.r, PHX_TEXT_WAITING_BYTES_MAX - GATE_PAD_BYTES / 2);
    send_heavy(&s, 1, ASK, 0);
    expect_end(&s, 1, PHALANX__GRPC_STATUS__GRPC_RESOURCE_EXHAUSTED, "");
    gate_open(&g);
    const uint64_t start_us = phx_clock_us();
    while (!g.is_done)
        scene_step(&s, start_us);
    gate_close(&g, &s.r, 1);
    send_heavy(&s, 2, ASK, 0);
    await_bodies(&s, 1);
    s.r.engine->state = PHX_ENGINE_DRAINING;
    gate_open(&g);
    expect_end(&s, 2, PHALANX__GRPC_STATUS__GRPC_UNAVAILABLE, "");
    assert_int_equal(s.r.engine->n_submitted, 0);
    s.r.engine->state = PHX_ENGINE_READY;
    scene_close(&s);
}

/* The client vanishes, or the server ends, while prompts wait. */
static void test_ends(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        scene s;
        gate g;
        scene_open(&s);
        scene_connect(&s);
        gate_close(&g, &s.r, 1);
        send_heavy(&s, 1, ASK, 0);
        send_heavy(&s, 2, ASK, 0);
        await_bodies(&s, 2);
        if (i == 0) {
            const uint64_t start_us = phx_clock_us();
            phx_link_close(s.client);
            s.client = NULL;
            while (s.r.api->n_bodies > 0) /* the next probe finds out */
                scene_step(&s, start_us);
            assert_int_equal(s.r.engine->n_submitted, 0);
        }
        gate_open(&g);
        scene_close(&s);
    }
}

/* Memory runs out at each allocation in turn, here or on the thread: every call has its end. */
static void test_no_memory(void **state)
{
    scene s;
    (void)state;
    scene_open(&s);
    scene_connect(&s);
    for (uint64_t n = 1; n <= 60; n++) {
        send_heavy(&s, n, ASK, 0);
        phx_alloc_fail_nth(n);
        scene_receive(&s);
        phx_alloc_fail_nth(0);
        Phalanx__ServerFrame *frame = scene_decode(&s);
        while (!frame->end) {
            phx_server_frame_free(frame);
            frame = scene_await(&s);
        }
        assert_true(frame->call_id == n || frame->call_id == 0); /* 0: it was not even read */
        phx_server_frame_free(frame);
        assert_int_equal(fake_engine_n_living(s.r.engine), 0);
    }
    scene_close(&s);
}

int main(void)
{
    (void)api_rig_demo();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_others_go_on),
        cmocka_unit_test(test_same),
        cmocka_unit_test(test_kept),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_bound_and_drain),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
