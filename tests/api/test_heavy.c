/* tests/api/test_heavy.c - large bodies, which are read beside the loop: everybody else goes on, and the
 * answer is what a small body gets. A gate holds the text thread, so nothing here depends on how long
 * something takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "coordinator/api/work.h"
#include "tests/api/api_rig.h"
#include "tests/api/gate.h"

#define CHAT "/v1/chat/completions"
#define TEXT "/v1/completions"
#define ASK  "\"messages\":[{\"role\":\"user\",\"content\":\"What is the capital of France?\"}]"

enum { N_LIVEZ = 5, PATIENCE_US = 10 * 1000 * 1000 };

static const char livez[] = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";

static void send_body(client *c, const char *path, const char *body, bool closes)
{
    char head[256];
    (void)snprintf(head, sizeof(head),
                   "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n%s"
                   "Content-Length: %zu\r\n\r\n",
                   path, closes ? "Connection: close\r\n" : "", strlen(body));
    client_send(c, head);
    client_send(c, body);
}

static client *send_heavy(api_rig *r, const char *path, const char *fields)
{
    char *body = gate_padded(fields);
    client *c = client_open(&r->web);
    send_body(c, path, body, false);
    phx_free(body);
    return c;
}

static api_reply post_heavy(api_rig *r, const char *path, const char *fields)
{
    char *body = gate_padded(fields);
    api_reply reply = api_post(r, path, body);
    phx_free(body);
    return reply;
}

/* ---------------------------------------------------------------- others */

static void test_others_go_on(void **state)
{
    static const char *const heavy[][2] = {{CHAT, ASK},
                                           {TEXT, "\"prompt\":\"x\""},
                                           {"/tokenize", "\"prompt\":\"The capital\""},
                                           {"/detokenize", "\"tokens\":[276,292]"}};
    client *waiting[4];
    api_rig r;
    gate g;
    (void)state;
    api_rig_open(&r);
    gate_close(&g, &r, 1);
    for (int i = 0; i < 4; i++)
        waiting[i] = send_heavy(&r, heavy[i][0], heavy[i][1]);
    client *asker = client_open(&r.web);
    for (int i = 0; i < N_LIVEZ; i++)
        assert_int_equal(client_ask(asker, livez), 200);
    client_close(asker);
    api_reply reply = api_post(&r, CHAT, "{" ASK ",\"stream\":true}");
    assert_non_null(strstr(reply.body, "[DONE]"));
    api_reply_done(&reply);
    reply = api_get(&r, "/metrics");
    assert_non_null(strstr(reply.body, "phalanx_requests_open{face=\"chat\"} 1\n"));
    assert_non_null(strstr(reply.body, "phalanx_requests_open{face=\"completions\"} 1\n"));
    api_reply_done(&reply);
    for (int i = 0; i < 4; i++)
        assert_int_equal(waiting[i]->n_in, 0);
    assert_int_equal(r.engine->n_submitted, 1);
    gate_open(&g);
    client_wait(waiting[0], "The capital of France is Paris.");
    client_wait(waiting[1], "The capital of France is Paris.");
    client_wait(waiting[2], "\"tokens\":[0,276,292]");
    client_wait(waiting[3], "\"prompt\":\"The capital\"");
    for (int i = 0; i < 4; i++)
        client_close(waiting[i]);
    assert_true(g.is_done);
    api_rig_close(&r);
}

/* A second request of the same connection is answered behind the first. */
static void test_pipelined(void **state)
{
    api_rig r;
    gate g;
    (void)state;
    api_rig_open(&r);
    gate_close(&g, &r, 1);
    client *c = send_heavy(&r, "/tokenize", "\"prompt\":\"The capital\"");
    client_send(c, livez);
    client *asker = client_open(&r.web);
    for (int i = 0; i < N_LIVEZ; i++)
        assert_int_equal(client_ask(asker, livez), 200);
    client_close(asker);
    assert_int_equal(c->n_in, 0);
    gate_open(&g);
    client_wait(c, "\"status\":\"ready\"");
    const char *first = strstr(c->in, "\"tokens\":");
    assert_non_null(first);
    assert_true(first < strstr(c->in, "\"status\":\"ready\""));
    client_close(c);
    api_rig_close(&r);
}

/* ---------------------------------------------------------------- the same answers */

static void check_same(api_rig *r, const char *path, const char *fields)
{
    char small[1024];
    phx_sched_request was;
    (void)snprintf(small, sizeof(small), "{%s}", fields);
    api_reply a = api_post(r, path, small);
    was = r->engine->last;
    api_reply b = post_heavy(r, path, fields);
    assert_int_equal(a.status, b.status);
    assert_int_equal(was.n_prompt, r->engine->last.n_prompt);
    assert_int_equal(was.n_output_max, r->engine->last.n_output_max);
    const char *from_a = strstr(a.body, a.status == 200 && strstr(a.body, "choices") ? "\"choices\"" : "{");
    const char *from_b = strstr(b.body, b.status == 200 && strstr(b.body, "choices") ? "\"choices\"" : "{");
    assert_string_equal(from_a, from_b); /* ids and times stand before */
    api_reply_done(&a);
    api_reply_done(&b);
}

static void test_same(void **state)
{
    static const char *const cases[][2] = {
        {CHAT, ASK},
        {CHAT, ASK ",\"stop\":[\"nowhere\",\" is\"],\"max_tokens\":9,\"logprobs\":true"},
        {CHAT, ASK ",\"n\":2"},
        {CHAT, ASK ",\"unknown\":1"},
        {CHAT, "\"messages\":[{\"role\":\"nobody\",\"content\":\"x\"}]"},
        {TEXT, "\"prompt\":[\"a: \",[276],\"c: \"],\"n\":2,\"echo\":true"},
        {TEXT, "\"prompt\":[276,292],\"echo\":true,\"stop\":\" of\""},
        {TEXT, "\"prompt\":[1920]"},
        {TEXT, "\"prompt\":x"},
        {"/tokenize", "\"prompt\":\"The capital of France\""},
        {"/tokenize", ASK},
        {"/tokenize", "\"prompt\":7"},
        {"/detokenize", "\"tokens\":[276,292]"},
        {"/detokenize", "\"tokens\":[-1]"}};
    api_rig r;
    (void)state;
    api_rig_open(&r);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        check_same(&r, cases[i][0], cases[i][1]);
    api_rig_close(&r);
}

/* ---------------------------------------------------------------- ends */

static void test_clients_leave(void **state)
{
    api_rig r;
    gate g;
    (void)state;
    api_rig_open(&r);
    gate_close(&g, &r, 1);
    client *chat = send_heavy(&r, CHAT, ASK);
    client *tokens = send_heavy(&r, "/tokenize", "\"prompt\":\"x\"");
    rig_spin(&r.web);
    client_close(chat);
    client_close(tokens);
    rig_spin(&r.web);
    api_reply reply = api_get(&r, "/metrics");
    assert_non_null(strstr(reply.body, "phalanx_requests_total{face=\"chat\",outcome=\"client_left\"} 1\n"));
    assert_non_null(strstr(reply.body, "phalanx_requests_open{face=\"chat\"} 0\n"));
    api_reply_done(&reply);
    gate_open(&g);
    reply = post_heavy(&r, CHAT, ASK); /* comes behind whatever is left of them */
    assert_int_equal(reply.status, 200);
    api_reply_done(&reply);
    assert_int_equal(r.engine->n_submitted, 1);
    /* Before, while or after it runs: whichever it is, nothing is left of it. */
    for (int i = 0; i < 20; i++) {
        client *c = send_heavy(&r, i % 2 ? CHAT : "/tokenize", ASK);
        for (int k = 0; k < i; k++)
            assert_int_equal(phx_loop_step(r.web.loop, 0, NULL), PHX_OK);
        client_close(c);
    }
    api_rig_close(&r);
}

static void on_none(void *user)
{
    *(bool *)user = true;
}

static void test_drain_and_bound(void **state)
{
    bool is_none = false;
    api_rig r;
    gate g;
    (void)state;
    api_rig_open(&r);
    gate_close(&g, &r, PHX_TEXT_WAITING_BYTES_MAX - GATE_PAD_BYTES / 2);
    api_reply reply = post_heavy(&r, CHAT, ASK);
    assert_int_equal(reply.status, 429);
    assert_api_str(reply.json, "error.code", "queue_full");
    assert_non_null(strstr(reply.head, "Retry-After: "));
    api_reply_done(&reply);
    gate_open(&g);
    const uint64_t start_us = phx_clock_us();
    while (!g.is_done) {
        assert_int_equal(phx_loop_step(r.web.loop, 1000, NULL), PHX_OK);
        assert_true(phx_clock_us() - start_us < PATIENCE_US);
    }
    gate_close(&g, &r, 1);
    client *c = send_heavy(&r, CHAT, ASK);
    while (r.api->n_bodies == 0) {
        assert_int_equal(phx_loop_step(r.web.loop, 1000, NULL), PHX_OK);
        assert_true(phx_clock_us() - start_us < 2 * PATIENCE_US);
    }
    r.engine->state = PHX_ENGINE_DRAINING;
    phx_api_await_bodies(r.api, (phx_loop_call){on_none, &is_none});
    assert_false(is_none);
    gate_open(&g);
    client_wait(c, "the server is draining");
    assert_non_null(strstr(c->in, "HTTP/1.1 503 "));
    client_close(c);
    assert_true(is_none);
    assert_int_equal(r.engine->n_submitted, 0);
    r.engine->state = PHX_ENGINE_READY;
    api_rig_close(&r);
}

/* The server goes while bodies wait. */
static void test_server_ends(void **state)
{
    api_rig r;
    gate g;
    client *c[3];
    (void)state;
    api_rig_open(&r);
    gate_close(&g, &r, 1);
    for (int i = 0; i < 3; i++)
        c[i] = send_heavy(&r, i == 1 ? "/tokenize" : CHAT, ASK);
    rig_spin(&r.web);
    gate_open(&g);
    api_rig_close(&r); /* checks that nothing is left */
    for (int i = 0; i < 3; i++)
        client_close(c[i]);
}

/* Memory runs out at each allocation in turn, here or on the thread: some answer or a closed connection. */
static void test_no_memory(void **state)
{
    static const char *const cases[][2] = {
        {CHAT, ASK ",\"stop\":\"zz\""}, {"/tokenize", ASK}, {"/detokenize", "\"tokens\":[276,292]"}};
    api_rig r;
    (void)state;
    api_rig_open(&r);
    for (uint64_t n = 0; n < 300; n++) {
        char *body = gate_padded(cases[n % 3][1]);
        client *c = client_open(&r.web);
        rig_spin(&r.web);
        phx_alloc_fail_nth(n / 3 + 1);
        send_body(c, cases[n % 3][0], body, true);
        client_wait_closed(c);
        phx_alloc_fail_nth(0);
        phx_free(body);
        client_close(c);
        rig_spin(&r.web);
        assert_int_equal(fake_engine_n_living(r.engine), 0);
    }
    api_reply reply = post_heavy(&r, CHAT, ASK);
    assert_int_equal(reply.status, 200);
    api_reply_done(&reply);
    api_rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_others_go_on),
        cmocka_unit_test(test_pipelined),
        cmocka_unit_test(test_same),
        cmocka_unit_test(test_clients_leave),
        cmocka_unit_test(test_drain_and_bound),
        cmocka_unit_test(test_server_ends),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
