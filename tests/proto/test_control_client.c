/* tests/proto/test_control_client.c - the client library, and the Python client, against a fake coordinator.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "client/control_client.h"
#include "tests/proto/fake_server.h"

#define LONG_MS 20000 /* a deadline that is never met in a good run */

typedef struct fixture {
    char directory[64];
    char ipc[96];
    char address[256];
    pid_t server;
    phx_client *client;
    uint64_t n_live;
} fixture;

static void start_server(fixture *f)
{
    f->server = fake_server_start(f->ipc, NULL, f->address);
}

static int setup(void **state)
{
    fixture *f = calloc(1, sizeof(*f));
    f->n_live = phx_alloc_count().n_live;
    (void)snprintf(f->directory, sizeof(f->directory), "/tmp/phx_test_client.XXXXXX");
    assert_non_null(mkdtemp(f->directory));
    (void)snprintf(f->ipc, sizeof(f->ipc), "ipc://%s/control", f->directory);
    start_server(f);
    phx_error err = {0};
    if (phx_client_connect(f->address, NULL, &f->client, &err) != PHX_OK)
        fail_msg("%s", err.text);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    char path[128];
    phx_client_close(f->client);
    fake_server_kill(f->server);
    (void)snprintf(path, sizeof(path), "%s/control", f->directory);
    (void)unlink(path);
    (void)snprintf(path, sizeof(path), "%s/key", f->directory);
    (void)unlink(path);
    assert_int_equal(rmdir(f->directory), 0);
    assert_int_equal(phx_alloc_count().n_live, f->n_live);
    free(f);
    return 0;
}

static phx_code call_status(phx_client *client, uint32_t deadline_ms, phx_error *err)
{
    Phalanx__StatusRequest body = PHALANX__STATUS_REQUEST__INIT;
    Phalanx__ClientFrame frame = PHALANX__CLIENT_FRAME__INIT;
    frame.body_case = PHALANX__CLIENT_FRAME__BODY_STATUS;
    frame.status = &body;
    Phalanx__ServerFrame *reply = NULL;
    const phx_code rc = phx_client_call(client, &frame, deadline_ms, &reply, err);
    if (rc == PHX_OK) {
        assert_string_equal(reply->status_reply->model, "fake");
        assert_int_equal(reply->status_reply->n_ranks, 1);
        assert_int_equal(reply->status_reply->n_context, deadline_ms);
    }
    phx_server_frame_free(reply);
    return rc;
}

static uint64_t generate(phx_client *client, const char *text, uint32_t capture, uint32_t deadline_ms)
{
    Phalanx__GenerateRequest request = PHALANX__GENERATE_REQUEST__INIT;
    request.prompt_case = PHALANX__GENERATE_REQUEST__PROMPT_TEXT;
    request.text = (char *)(uintptr_t)text;
    request.capture = capture;
    uint64_t id = 0;
    phx_error err = {0};
    if (phx_client_generate(client, &request, deadline_ms, &id, &err) != PHX_OK)
        fail_msg("%s", err.text);
    assert_null(request.sampling);
    return id;
}

/* Reads n events with tokens 1..n in order. */
static void expect_events(phx_client *client, uint64_t id, uint32_t n_first, uint32_t n)
{
    for (uint32_t i = n_first; i < n_first + n; i++) {
        const Phalanx__GenerateEvent *event = NULL;
        phx_error err = {0};
        if (phx_client_next(client, id, NULL, NULL, &event, &err) != PHX_OK)
            fail_msg("event %u: %s", i, err.text);
        assert_non_null(event);
        assert_int_equal(event->n_token_ids, 1);
        assert_int_equal(event->token_ids[0], i + 1);
    }
}

static void expect_end(phx_client *client, uint64_t id, phx_code code, const char *text)
{
    const Phalanx__GenerateEvent *event = NULL;
    phx_error err = {0};
    assert_int_equal(phx_client_next(client, id, NULL, NULL, &event, &err), code);
    assert_null(event);
    if (text && !strstr(err.text, text))
        fail_msg("'%s' does not hold '%s'", err.text, text);
    assert_int_equal(phx_client_next(client, id, NULL, NULL, &event, NULL), PHX_ERR_NOT_FOUND);
}

static void test_unary(void **state)
{
    const fixture *f = *state;
    assert_int_equal(call_status(f->client, 0, NULL), PHX_OK);
    assert_int_equal(call_status(f->client, LONG_MS, NULL), PHX_OK);
}

static void test_status_codes(void **state)
{
    const fixture *f = *state;
    Phalanx__PlanRequest body = PHALANX__PLAN_REQUEST__INIT;
    Phalanx__ClientFrame frame = PHALANX__CLIENT_FRAME__INIT;
    frame.body_case = PHALANX__CLIENT_FRAME__BODY_PLAN;
    frame.plan = &body;
    Phalanx__ServerFrame *reply = NULL;
    phx_error err = {0};
    assert_int_equal(phx_client_call(f->client, &frame, LONG_MS, &reply, &err), PHX_ERR_BUSY);
    assert_string_equal(err.text, "queue of 3 is full");
    assert_null(reply);
}

static void test_deadlines(void **state)
{
    const fixture *f = *state;
    Phalanx__DrainRequest body = PHALANX__DRAIN_REQUEST__INIT;
    Phalanx__ClientFrame frame = PHALANX__CLIENT_FRAME__INIT;
    frame.body_case = PHALANX__CLIENT_FRAME__BODY_DRAIN;
    frame.drain = &body;
    Phalanx__ServerFrame *reply = NULL;
    assert_int_equal(phx_client_call(f->client, &frame, 30, &reply, NULL), PHX_ERR_DEADLINE);
    expect_end(f->client, generate(f->client, "silent", 0, 30), PHX_ERR_DEADLINE, "30 ms");
    assert_int_equal(call_status(f->client, LONG_MS, NULL), PHX_OK);
}

static void test_streams(void **state)
{
    const fixture *f = *state;
    uint64_t id = generate(f->client, "count 1000", 0, LONG_MS);
    expect_events(f->client, id, 0, 1000);
    expect_end(f->client, id, PHX_OK, NULL);
    id = generate(f->client, "count 0", 0, 0);
    expect_end(f->client, id, PHX_OK, NULL);
    id = generate(f->client, "together", 0, 0);
    expect_events(f->client, id, 0, 1);
    expect_end(f->client, id, PHX_OK, NULL);
}

static void test_two_streams_and_a_call(void **state)
{
    const fixture *f = *state;
    const uint64_t a = generate(f->client, "pair", 0, 0), b = generate(f->client, "pair", 0, 0);
    assert_int_equal(call_status(f->client, LONG_MS, NULL), PHX_OK);
    expect_events(f->client, b, 0, 2);
    expect_events(f->client, a, 0, 3);
    expect_events(f->client, b, 2, 1);
    expect_end(f->client, b, PHX_OK, NULL);
    expect_end(f->client, a, PHX_ERR_INVALID, "second of a pair");
}

static void test_cancel(void **state)
{
    const fixture *f = *state;
    const uint64_t id = generate(f->client, "forever", 0, 0);
    expect_events(f->client, id, 0, 5);
    assert_int_equal(phx_client_cancel(f->client, id, NULL), PHX_OK);
    const Phalanx__GenerateEvent *event = NULL;
    phx_code rc = PHX_OK;
    do
        rc = phx_client_next(f->client, id, NULL, NULL, &event, NULL);
    while (rc == PHX_OK && event);
    assert_int_equal(rc, PHX_ERR_CANCELLED);
    assert_int_equal(phx_client_cancel(f->client, id, NULL), PHX_ERR_NOT_FOUND);
}

static bool twice(void *user)
{
    int *n_left = user;
    return (*n_left)-- > 0;
}

static void test_keep_waiting(void **state)
{
    const fixture *f = *state;
    const uint64_t id = generate(f->client, "silent", 0, 0);
    const Phalanx__GenerateEvent *event = NULL;
    int n_left = 2;
    assert_int_equal(phx_client_next(f->client, id, twice, &n_left, &event, NULL), PHX_ERR_CANCELLED);
    assert_int_equal(n_left, -1);
    assert_int_equal(phx_client_next(f->client, id, NULL, NULL, &event, NULL), PHX_ERR_NOT_FOUND);

    Phalanx__StatusRequest body = PHALANX__STATUS_REQUEST__INIT; /* the server was told */
    Phalanx__ClientFrame frame = PHALANX__CLIENT_FRAME__INIT;
    frame.body_case = PHALANX__CLIENT_FRAME__BODY_STATUS;
    frame.status = &body;
    Phalanx__ServerFrame *reply = NULL;
    assert_int_equal(phx_client_call(f->client, &frame, LONG_MS, &reply, NULL), PHX_OK);
    assert_int_equal(reply->status_reply->n_running, 0);
    phx_server_frame_free(reply);
}

/* More parts than are granted at once; the server counts them. */
static void test_capture_credit(void **state)
{
    const fixture *f = *state;
    const uint64_t id = generate(f->client, "capture 50", 1, LONG_MS);
    for (uint32_t i = 0; i < 50; i++) {
        const Phalanx__GenerateEvent *event = NULL;
        phx_error err = {0};
        if (phx_client_next(f->client, id, NULL, NULL, &event, &err) != PHX_OK)
            fail_msg("part %u: %s", i, err.text);
        assert_non_null(event->capture);
        assert_int_equal(event->capture->row_first, i);
        assert_int_equal(event->capture->data.len, 4);
    }
    expect_end(f->client, id, PHX_OK, NULL);
}

static void test_unread_events_are_bounded(void **state)
{
    const fixture *f = *state;
    char text[32];
    (void)snprintf(text, sizeof(text), "count %u", PHX_CLIENT_EVENTS_MAX + 100);
    const uint64_t id = generate(f->client, text, 0, 0);
    assert_int_equal(call_status(f->client, 0, NULL), PHX_OK); /* all of them arrive before this reply */
    expect_events(f->client, id, 0, PHX_CLIENT_EVENTS_MAX);
    expect_end(f->client, id, PHX_ERR_TOO_LONG, "not read");
}

static void test_calls_are_bounded(void **state)
{
    const fixture *f = *state;
    Phalanx__GenerateRequest request = PHALANX__GENERATE_REQUEST__INIT;
    uint64_t id = 0;
    /* The prompt is missing: refused here, and no call is left behind. */
    assert_int_equal(phx_client_generate(f->client, &request, 0, &id, NULL), PHX_ERR_INVALID);
    for (uint32_t i = 0; i < 2 * PHX_CLIENT_CALLS_MAX; i++) {
        id = generate(f->client, "count 1", 0, 0);
        expect_events(f->client, id, 0, 1);
        expect_end(f->client, id, PHX_OK, NULL);
    }
    for (uint32_t i = 0; i < PHX_CLIENT_CALLS_MAX; i++)
        (void)generate(f->client, "count 1", 0, 0);
    request.prompt_case = PHALANX__GENERATE_REQUEST__PROMPT_TEXT;
    request.text = (char *)(uintptr_t) "count 1";
    assert_int_equal(phx_client_generate(f->client, &request, 0, &id, NULL), PHX_ERR_BUSY);
}

static void test_server_killed(void **state)
{
    fixture *f = *state;
    const uint64_t a = generate(f->client, "silent", 0, 0), b = generate(f->client, "count 3", 0, 0);
    assert_int_equal(call_status(f->client, 0, NULL), PHX_OK); /* b's events are here */
    fake_server_kill(f->server);
    const uint64_t start_us = phx_clock_us();
    expect_end(f->client, a, PHX_ERR_UNAVAILABLE, "lost");
    print_message("loss noticed after %llu us\n", (unsigned long long)(phx_clock_us() - start_us));
    expect_events(f->client, b, 0, 3); /* what had come is not lost */
    expect_end(f->client, b, PHX_OK, NULL);
    assert_int_equal(call_status(f->client, LONG_MS, NULL), PHX_ERR_UNAVAILABLE);
    start_server(f); /* the next coordinator: calls work again */
    assert_int_equal(call_status(f->client, LONG_MS, NULL), PHX_OK);
}

/* The old coordinator goes and a new one is there before the client looks: its call is lost, not left to
 * wait. */
static void test_server_replaced(void **state)
{
    fixture *f = *state;
    const uint64_t id = generate(f->client, "silent", 0, 0);
    assert_int_equal(call_status(f->client, 0, NULL), PHX_OK);
    fake_server_kill(f->server);
    start_server(f);
    const phx_code rc = call_status(f->client, LONG_MS, NULL);
    if (rc != PHX_OK) /* sent before the loss was known; the one after it finds the new coordinator */
        assert_int_equal(rc, PHX_ERR_UNAVAILABLE);
    assert_int_equal(call_status(f->client, LONG_MS, NULL), PHX_OK);
    expect_end(f->client, id, PHX_ERR_UNAVAILABLE, "lost");
}

static void test_server_dies_in_a_call(void **state)
{
    const fixture *f = *state;
    const uint64_t id = generate(f->client, "die", 0, 0);
    expect_end(f->client, id, PHX_ERR_UNAVAILABLE, "lost");
    phx_client *other = NULL;
    assert_int_equal(phx_client_connect(f->address, NULL, &other, NULL), PHX_ERR_UNAVAILABLE);
}

static void test_bad_server(void **state)
{
    const fixture *f = *state;
    expect_end(f->client, generate(f->client, "bad", 0, 0), PHX_ERR_MISMATCH, "ServerFrame");
}

static void test_tcp(void **state)
{
    const fixture *f = *state;
    char key_file[128], address[256];
    phx_link_keys keys;
    (void)snprintf(key_file, sizeof(key_file), "%s/key", f->directory);
    assert_int_equal(phx_link_keys_make(&keys, NULL), PHX_OK);
    assert_int_equal(phx_link_keys_write(&keys, key_file, NULL), PHX_OK);
    const pid_t server = fake_server_start("tcp://127.0.0.1:0", &keys, address);
    phx_client *client = NULL;
    assert_int_equal(phx_client_connect(address, NULL, &client, NULL), PHX_ERR_INVALID);
    assert_int_equal(phx_client_connect(address, "/nonexistent", &client, NULL), PHX_ERR_NOT_FOUND);
    assert_int_equal(phx_client_connect(address, key_file, &client, NULL), PHX_OK);
    assert_int_equal(call_status(client, LONG_MS, NULL), PHX_OK);
    fake_server_kill(server);
    assert_int_equal(call_status(client, LONG_MS, NULL), PHX_ERR_UNAVAILABLE);
    phx_client_close(client);
}

/* ---------------------------------------------------------------- Python */

/* Runs a program with its output in text; its exit code, 127 when it cannot start. */
static int run(const char *const *argv, char *text, size_t text_bytes)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)dup2(fds[1], 1);
        (void)dup2(fds[1], 2);
        (void)execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    (void)close(fds[1]);
    size_t n = 0;
    for (ssize_t got = 1; got > 0 && n + 1 < text_bytes; n += (size_t)(got > 0 ? got : 0))
        got = read(fds[0], text + n, text_bytes - 1 - n);
    text[n] = 0;
    (void)close(fds[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_python_client(void **state)
{
    const fixture *f = *state;
    static const char *const pythons[] = {"python3", "/usr/bin/python3"};
    const char *source = getenv("PHX_SOURCE"), *python = NULL;
    char script[512], text[8192];
    (void)snprintf(script, sizeof(script), "%s/tests/proto/control_client.py", source ? source : ".");
    for (int i = 0; i < 2 && !python; i++) {
        const char *const probe[] = {pythons[i], "-c", "import zmq, google.protobuf", NULL};
        python = run(probe, text, sizeof(text)) == 0 ? pythons[i] : NULL;
    }
    const char *const protoc[] = {"protoc", "--version", NULL};
    if (!python || run(protoc, text, sizeof(text)) != 0) {
        print_message("SKIP: python3 with zmq and protobuf, and protoc, are needed\n");
        skip();
    }
    const char *const good[] = {python, script, f->address, "count 5", NULL};
    const int rc = run(good, text, sizeof(text));
    if (rc != 0 || !strstr(text, "model fake, ready, 1 ranks") || !strstr(text, "tokens: 1 2 3 4 5\n") ||
        !strstr(text, "xxxxx"))
        fail_msg("exit %d: %s", rc, text);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--fake-server") == 0)
        return fake_server_main(argv[2]);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_unary),
        TEST(test_status_codes),
        TEST(test_deadlines),
        TEST(test_streams),
        TEST(test_two_streams_and_a_call),
        TEST(test_cancel),
        TEST(test_keep_waiting),
        TEST(test_capture_credit),
        TEST(test_unread_events_are_bounded),
        TEST(test_calls_are_bounded),
        TEST(test_server_killed),
        TEST(test_server_replaced),
        TEST(test_server_dies_in_a_call),
        TEST(test_bad_server),
        TEST(test_tcp),
        TEST(test_python_client),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
