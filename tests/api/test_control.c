/* tests/api/test_control.c - the control service over a Unix socket: with the client library in a child
 * process (it waits by itself), and with a bare link where the test must see frames. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "client/control_client.h"
#include "tests/api/control_scene.h"

#define CHAT "{\"messages\":[{\"role\":\"user\",\"content\":\"What is the capital of France?\"}]}"

static void on_drain(void *user, uint32_t timeout_ms)
{
    assert_int_equal(timeout_ms, 77);
    (*(uint64_t *)user)++;
}

/* ---------------------------------------------------------------- the client library, in a child */

typedef struct child {
    pid_t pid;
    int address_fd; /* it waits for the address on the other end */
} child;

/* To be called while this process has no other thread: the child makes some of its own. */
static child spawn(void (*run)(const char *address))
{
    int fds[2];
    char address[sizeof(((scene *)0)->address)];
    assert_int_equal(pipe(fds), 0);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)close(fds[1]);
        if (read(fds[0], address, sizeof(address)) == (ssize_t)sizeof(address))
            run(address);
        _exit(0);
    }
    (void)close(fds[0]);
    return (child){pid, fds[1]};
}

/* Lets it begin, and steps the loop until it has ended; it must have ended with 0. */
static void await_child(scene *s, child c)
{
    int status = 0;
    const uint64_t start_us = phx_clock_us();
    assert_int_equal(write(c.address_fd, s->address, sizeof(s->address)), sizeof(s->address));
    (void)close(c.address_fd);
    while (waitpid(c.pid, &status, WNOHANG) == 0) {
        assert_int_equal(phx_loop_step(s->r.web.loop, 1000, NULL), PHX_OK);
        if (phx_clock_us() - start_us > PATIENCE_US) {
            (void)kill(c.pid, SIGKILL);
            fail_msg("the client does not end");
        }
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("the client failed at line %d", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

/* In the child: the line's number, less than 256, tells what went wrong. */
#define EXPECT(what)                   \
    do {                               \
        if (!(what))                   \
            _exit(__LINE__ % 255 + 1); \
    } while (0)

typedef struct gathered {
    char text[1024];
    char finish[32];
    uint32_t n_ids;
    uint32_t n_parts;
    uint32_t n_completion;
    uint32_t n_top;
} gathered;

static phx_code gather(phx_client *c, uint64_t call, gathered *g)
{
    const Phalanx__GenerateEvent *e = NULL;
    phx_code rc = PHX_OK;
    while ((rc = phx_client_next(c, call, NULL, NULL, &e, NULL)) == PHX_OK && e) {
        g->n_ids += (uint32_t)e->n_token_ids;
        g->n_parts += e->capture != NULL;
        g->n_top += (uint32_t)e->n_top;
        (void)strncat(g->text, e->text, sizeof(g->text) - strlen(g->text) - 1);
        if (e->finish_reason[0]) {
            (void)snprintf(g->finish, sizeof(g->finish), "%s", e->finish_reason);
            g->n_completion = e->n_completion_tokens;
        }
    }
    return rc;
}

static void child_generates(const char *address)
{
    phx_client *c = NULL;
    uint64_t call = 0;
    gathered g = {0};
    char text[] = "Hello", chat[] = CHAT, bad[] = "{\"messages\":7}";
    EXPECT(phx_client_connect(address, NULL, &c, NULL) == PHX_OK);
    Phalanx__GenerateRequest request = PHALANX__GENERATE_REQUEST__INIT;
    request.prompt_case = PHALANX__GENERATE_REQUEST__PROMPT_CHAT_JSON;
    request.chat_json = chat;
    EXPECT(phx_client_generate(c, &request, 5000, &call, NULL) == PHX_OK);
    EXPECT(gather(c, call, &g) == PHX_OK);
    EXPECT(strcmp(g.text, "The capital of France is Paris.") == 0);
    EXPECT(strcmp(g.finish, "stop") == 0 && g.n_ids == 10 && g.n_completion == 11);

    Phalanx__Sampling sampling = PHALANX__SAMPLING__INIT;
    sampling.top_p = sampling.repetition_penalty = 1;
    sampling.logprobs = true;
    sampling.n_top_logprobs = 2;
    g = (gathered){0};
    request.prompt_case = PHALANX__GENERATE_REQUEST__PROMPT_TEXT;
    request.text = text;
    request.sampling = &sampling;
    request.max_tokens = 4;
    EXPECT(phx_client_generate(c, &request, 5000, &call, NULL) == PHX_OK);
    EXPECT(gather(c, call, &g) == PHX_OK);
    EXPECT(strcmp(g.finish, "length") == 0 && g.n_ids == 4 && g.n_top == 8);

    request.prompt_case = PHALANX__GENERATE_REQUEST__PROMPT_CHAT_JSON;
    request.chat_json = bad;
    EXPECT(phx_client_generate(c, &request, 5000, &call, NULL) == PHX_OK);
    EXPECT(gather(c, call, &g) == PHX_ERR_INVALID);

    uint32_t ids[] = {0, 1908, 329};
    Phalanx__TokenIds list = PHALANX__TOKEN_IDS__INIT;
    list.ids = ids;
    list.n_ids = 3;
    g = (gathered){0};
    request.prompt_case = PHALANX__GENERATE_REQUEST__PROMPT_TOKEN_IDS;
    request.token_ids = &list;
    request.sampling = NULL;
    request.max_tokens = 0;
    request.capture = PHX_CAPTURE_LOGITS;
    EXPECT(phx_client_generate(c, &request, 5000, &call, NULL) == PHX_OK);
    EXPECT(gather(c, call, &g) == PHX_OK);
    EXPECT(g.n_parts == 5 && g.n_ids == 0 && strcmp(g.finish, "stop") == 0);
    phx_client_close(c);
}

/* More ids than an event holds, and more than the context. */
static void child_counts(const char *address)
{
    enum { N = 70000 };
    static char text[2 * N + 1];
    phx_client *c = NULL;
    uint64_t call = 0;
    gathered g = {0};
    Phalanx__GenerateRequest request = PHALANX__GENERATE_REQUEST__INIT;
    for (size_t i = 0; i < N; i++)
        memcpy(text + 2 * i, "7\n", 2);
    request.prompt_case = PHALANX__GENERATE_REQUEST__PROMPT_TEXT;
    request.text = text;
    request.only_ids = true;
    EXPECT(phx_client_connect(address, NULL, &c, NULL) == PHX_OK);
    EXPECT(phx_client_generate(c, &request, 5000, &call, NULL) == PHX_OK);
    EXPECT(gather(c, call, &g) == PHX_OK);
    EXPECT(g.n_ids >= N && g.n_ids <= 2 * N + 1 && g.finish[0] == 0 && g.n_completion == 0);
    request.only_ids = false;
    EXPECT(phx_client_generate(c, &request, 5000, &call, NULL) == PHX_OK);
    EXPECT(gather(c, call, &g) == PHX_ERR_TOO_LONG);
    request.only_ids = true;
    request.capture = PHX_CAPTURE_LOGITS;
    EXPECT(phx_client_generate(c, &request, 5000, &call, NULL) == PHX_OK);
    EXPECT(gather(c, call, &g) == PHX_ERR_INVALID);
    phx_client_close(c);
}

static void child_asks(const char *address)
{
    phx_client *c = NULL;
    Phalanx__ServerFrame *reply = NULL;
    EXPECT(phx_client_connect(address, NULL, &c, NULL) == PHX_OK);
    Phalanx__StatusRequest status = PHALANX__STATUS_REQUEST__INIT;
    Phalanx__ClientFrame frame = PHALANX__CLIENT_FRAME__INIT;
    frame.body_case = PHALANX__CLIENT_FRAME__BODY_STATUS;
    frame.status = &status;
    EXPECT(phx_client_call(c, &frame, 5000, &reply, NULL) == PHX_OK);
    EXPECT(strcmp(reply->status_reply->model, "demo") == 0);
    EXPECT(strcmp(reply->status_reply->state, "ready") == 0);
    EXPECT(reply->status_reply->epoch == 3 && reply->status_reply->n_context > 0);
    EXPECT(strncmp(reply->status_reply->numerics, "profile=serving", 15) == 0);
    phx_server_frame_free(reply);

    Phalanx__PlanRequest plan = PHALANX__PLAN_REQUEST__INIT;
    frame = (Phalanx__ClientFrame)PHALANX__CLIENT_FRAME__INIT;
    frame.body_case = PHALANX__CLIENT_FRAME__BODY_PLAN;
    frame.plan = &plan;
    EXPECT(phx_client_call(c, &frame, 5000, &reply, NULL) == PHX_OK);
    EXPECT(strstr(reply->plan->text, "weights") && reply->plan->json[0] == '{');
    phx_server_frame_free(reply);

    Phalanx__DrainRequest drain = PHALANX__DRAIN_REQUEST__INIT;
    drain.timeout_ms = 77;
    frame = (Phalanx__ClientFrame)PHALANX__CLIENT_FRAME__INIT;
    frame.body_case = PHALANX__CLIENT_FRAME__BODY_DRAIN;
    frame.drain = &drain;
    EXPECT(phx_client_call(c, &frame, 5000, &reply, NULL) == PHX_OK);
    phx_server_frame_free(reply);
    phx_client_close(c);
}

static bool refuse_to_wait(void *user)
{
    (void)user;
    return false;
}

/* Cancels while the engine holds, then waits for a deadline. */
static void child_gives_up(const char *address)
{
    phx_client *c = NULL;
    uint64_t call = 0;
    char text[] = "Hello";
    gathered g = {0};
    const Phalanx__GenerateEvent *e = NULL;
    Phalanx__GenerateRequest request = PHALANX__GENERATE_REQUEST__INIT;
    request.prompt_case = PHALANX__GENERATE_REQUEST__PROMPT_TEXT;
    request.text = text;
    EXPECT(phx_client_connect(address, NULL, &c, NULL) == PHX_OK);
    EXPECT(phx_client_generate(c, &request, 0, &call, NULL) == PHX_OK);
    EXPECT(phx_client_cancel(c, call, NULL) == PHX_OK);
    EXPECT(gather(c, call, &g) == PHX_ERR_CANCELLED);
    EXPECT(strcmp(g.finish, "cancelled") == 0);
    EXPECT(phx_client_generate(c, &request, 50, &call, NULL) == PHX_OK);
    EXPECT(gather(c, call, &g) == PHX_ERR_DEADLINE);
    EXPECT(phx_client_generate(c, &request, 0, &call, NULL) == PHX_OK);
    EXPECT(phx_client_next(c, call, refuse_to_wait, NULL, &e, NULL) == PHX_ERR_CANCELLED);
    phx_client_close(c);
}

static void test_generate(void **state)
{
    (void)state;
    scene s;
    const child c = spawn(child_generates);
    scene_open(&s);
    await_child(&s, c);
    scene_close(&s);
}

static void test_counting(void **state)
{
    (void)state;
    scene s;
    const child c = spawn(child_counts);
    scene_open(&s);
    await_child(&s, c);
    assert_int_equal(fake_engine_n_living(s.r.engine), 0);
    scene_close(&s);
}

static void test_unary(void **state)
{
    (void)state;
    uint64_t n_drains = 0;
    scene s;
    const child c = spawn(child_asks);
    scene_open(&s);
    s.r.drain = on_drain;
    s.r.drain_user = &n_drains;
    await_child(&s, c);
    assert_int_equal(n_drains, 1);
    scene_close(&s);
}

static void test_giving_up(void **state)
{
    (void)state;
    scene s;
    const child c = spawn(child_gives_up);
    scene_open(&s);
    s.r.engine->holds = true;
    await_child(&s, c);
    const uint64_t start_us = phx_clock_us();
    while (fake_engine_n_living(s.r.engine) > 0)
        scene_step(&s, start_us);
    scene_close(&s);
}

/* ---------------------------------------------------------------- frames */

static void send_generate(scene *s, uint64_t call_id, uint32_t capture)
{
    char text[] = "Hello";
    Phalanx__GenerateRequest request = PHALANX__GENERATE_REQUEST__INIT;
    request.prompt_case = PHALANX__GENERATE_REQUEST__PROMPT_TEXT;
    request.text = text;
    request.capture = capture;
    scene_generate(s, call_id, &request, 0);
}

/* Parts come as credit is given, never more. */
static void test_credit(void **state)
{
    (void)state;
    scene s;
    scene_open(&s);
    scene_connect(&s);
    send_generate(&s, 9, PHX_CAPTURE_LOGITS);
    scene_credit(&s, 9, 2);
    for (int i = 0; i < 5; i++) {
        Phalanx__ServerFrame *frame = scene_await(&s);
        assert_int_equal(frame->call_id, 9);
        assert_non_null(frame->event);
        assert_non_null(frame->event->capture);
        assert_int_equal(frame->event->capture->row_first, i);
        assert_int_equal(frame->event->capture->request_id, 0);
        phx_server_frame_free(frame);
        if (i == 1) {
            for (int k = 0; k < 50; k++)
                assert_int_equal(phx_loop_step(s.r.web.loop, 1000, NULL), PHX_OK);
            assert_int_equal(s.r.engine->living[0].n_parts, 3); /* out of credit */
            scene_credit(&s, 9, 3);
        }
    }
    Phalanx__ServerFrame *frame = scene_await(&s);
    assert_string_equal(frame->event->finish_reason, "stop");
    phx_server_frame_free(frame);
    frame = scene_await(&s);
    assert_true(frame->end);
    assert_int_equal(frame->status, PHALANX__GRPC_STATUS__GRPC_OK);
    phx_server_frame_free(frame);
    scene_close(&s);
}

/* Each failure has its status. */
static void test_statuses(void **state)
{
    (void)state;
    static const phx_code cases[] = {PHX_ERR_BUSY, PHX_ERR_TOO_LONG, PHX_ERR_UNAVAILABLE, PHX_ERR_NOMEM};
    scene s;
    scene_open(&s);
    scene_connect(&s);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        s.r.engine->refuse = cases[i];
        send_generate(&s, i + 1, 0);
        Phalanx__ServerFrame *frame = scene_await(&s);
        assert_true(frame->end);
        assert_int_equal(frame->call_id, i + 1);
        assert_int_equal(frame->status, phx_grpc_of_code(cases[i]));
        assert_string_equal(frame->message, "refused by the test");
        phx_server_frame_free(frame);
    }
    /* An id that runs already. */
    s.r.engine->refuse = PHX_OK;
    s.r.engine->holds = true;
    send_generate(&s, 50, 0);
    send_generate(&s, 50, 0);
    Phalanx__ServerFrame *frame = scene_await(&s);
    assert_true(frame->end);
    assert_int_equal(frame->status, PHALANX__GRPC_STATUS__GRPC_INVALID_ARGUMENT);
    phx_server_frame_free(frame);
    assert_int_equal(s.r.engine->n_submitted, 1);
    /* A group that fails in the middle. */
    s.r.engine->holds = false;
    s.r.engine->fail_after = 1;
    for (frame = scene_await(&s); !frame->end; frame = scene_await(&s))
        phx_server_frame_free(frame);
    assert_int_equal(frame->status, phx_grpc_of_code(PHX_ERR_PEER_LOST));
    assert_non_null(strstr(frame->message, "rank 1"));
    phx_server_frame_free(frame);
    scene_close(&s);
}

/* A client that vanished while its call waits: the next probe finds out, the engine is told. */
static void test_vanished(void **state)
{
    (void)state;
    scene s;
    scene_open(&s);
    scene_connect(&s);
    s.r.engine->holds = true;
    send_generate(&s, 1, 0);
    send_generate(&s, 2, 0);
    const uint64_t start_us = phx_clock_us();
    while (s.r.engine->n_submitted < 2)
        scene_step(&s, start_us);
    phx_link_close(s.client);
    s.client = NULL;
    while (s.r.engine->n_abandoned < 2)
        scene_step(&s, start_us);
    scene_close(&s);
}

/* Bytes that are no frame end nothing but themselves. */
static void test_garbage(void **state)
{
    (void)state;
    scene s;
    scene_open(&s);
    scene_connect(&s);
    static const uint8_t bytes[] = {0xFF, 0xFE, 0x01, 0x00, 0x77};
    assert_int_equal(phx_link_send(s.client, NULL, (phx_bytes){bytes, sizeof(bytes)}, NULL), PHX_OK);
    Phalanx__ServerFrame *frame = scene_await(&s);
    assert_true(frame->end);
    assert_int_equal(frame->status, PHALANX__GRPC_STATUS__GRPC_INVALID_ARGUMENT);
    phx_server_frame_free(frame);
    send_generate(&s, 4, 0);
    frame = scene_await(&s);
    assert_int_equal(frame->call_id, 4);
    phx_server_frame_free(frame);
    scene_close(&s);
}

int main(void)
{
    (void)api_rig_demo();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_generate),  cmocka_unit_test(test_counting), cmocka_unit_test(test_unary),
        cmocka_unit_test(test_giving_up), cmocka_unit_test(test_credit),   cmocka_unit_test(test_statuses),
        cmocka_unit_test(test_vanished),  cmocka_unit_test(test_garbage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
