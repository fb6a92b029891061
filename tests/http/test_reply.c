/* tests/http/test_reply.c - replies that outlive their handler: streams, clients that leave, do not read or
 * come in crowds, and the end of the server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/rng.h"
#include "tests/http/rig.h"

#define H "Host: localhost\r\n"

static client *hold(rig *r, const char *path)
{
    char text[128];
    client *c = client_open(r);
    const size_t n_held = r->n_held;
    (void)snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\n" H "\r\n", path);
    client_send(c, text);
    rig_until(r, &r->n_held, n_held + 1);
    return c;
}

static void test_stream(void **state)
{
    rig r;
    (void)state;
    rig_open(&r, &(phx_http_options){0});
    client *c = hold(&r, "/stream");
    client_wait(c, "Transfer-Encoding: chunked\r\n");
    client_wait(c, "Content-Type: text/event-stream\r\n");
    client_wait(c, "\r\n\r\n");
    client_forget(c);
    /* Each write leaves at once, by itself. */
    assert_int_equal(phx_http_reply_stream_write(r.held[0], phx_str_of("data: a\n\n")), PHX_OK);
    assert_true(phx_http_reply_queued_bytes(r.held[0]) > 0);
    client_wait(c, "9\r\ndata: a\n\n\r\n");
    assert_int_equal(phx_http_reply_queued_bytes(r.held[0]), 0);
    assert_int_equal(phx_http_reply_stream_write(r.held[0], phx_str_of("")), PHX_OK);
    assert_int_equal(phx_http_reply_stream_write(r.held[0], phx_str_of("data: bcdefghij\n\n")), PHX_OK);
    client_wait(c, "11\r\ndata: bcdefghij\n\n\r\n");
    client_forget(c);
    phx_http_reply_stream_end(r.held[0]);
    r.held[0] = NULL;
    client_wait(c, "0\r\n\r\n");
    client_forget(c);
    /* Keep-alive holds after a stream too. */
    assert_int_equal(client_ask(c, "GET /hello HTTP/1.1\r\n" H "\r\n"), 200);
    client_close(c);
    assert_int_equal(r.n_closed, 0);
    assert_int_equal(phx_http_stats_of(r.http)->n_replies_open, 0);
    rig_close(&r);
}

static void test_client_leaves(void **state)
{
    static const char *const paths[] = {"/hold", "/stream"};
    rig r;
    (void)state;
    rig_open(&r, &(phx_http_options){0});
    for (size_t i = 0; i < 6; i++) {
        client *c = hold(&r, paths[i % 2]);
        phx_http_reply *reply = r.held[i];
        if (i / 2 == 1) { /* reset */
            const struct linger now = {.l_onoff = 1, .l_linger = 0};
            (void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        }
        if (i / 2 == 2)
            (void)shutdown(c->fd, SHUT_WR); /* half a close counts as gone */
        else
            client_close(c);
        assert_true(phx_http_reply_is_open(reply));
        rig_until(&r, &r.n_closed, i + 1);
        assert_int_equal(r.why, PHX_HTTP_CLOSED_CLIENT);
        if (i / 2 == 2)
            client_close(c);
        /* The handle is harmless from here on, and completed like any other. */
        assert_false(phx_http_reply_is_open(reply));
        assert_int_equal(phx_http_reply_queued_bytes(reply), 0);
        if (i % 2 == 0) {
            phx_http_reply_send(reply, &(phx_http_response){.status = 200});
        } else {
            assert_int_equal(phx_http_reply_stream_write(reply, phx_str_of("x")), PHX_ERR_CANCELLED);
            phx_http_reply_stream_end(reply);
        }
        r.held[i] = NULL;
    }
    assert_int_equal(phx_http_stats_of(r.http)->n_cancelled, 6);
    rig_close(&r);
}

/* The client leaves, but the loop has not run since: nobody knows yet. */
static void test_completed_before_the_close_is_seen(void **state)
{
    rig r;
    (void)state;
    rig_open(&r, &(phx_http_options){0});
    client *c = hold(&r, "/hold");
    client_close(c);
    phx_http_reply_send(r.held[0], &(phx_http_response){.status = 200, .body = {"x", 1}});
    r.held[0] = NULL;
    rig_spin(&r);
    assert_int_equal(r.n_closed, 0); /* completed is completed */
    assert_int_equal(phx_http_stats_of(r.http)->n_conns_open, 0);
    rig_close(&r);
}

static void abort_on_closed(void *user, phx_http_closed why)
{
    rig *r = user;
    r->n_closed++;
    r->why = why;
    phx_http_reply_abort(r->held[0]);
    r->held[0] = NULL;
}

static void test_completed_inside_on_closed(void **state)
{
    rig r;
    (void)state;
    rig_open(&r, &(phx_http_options){0});
    client *c = hold(&r, "/stream");
    phx_http_reply_on_closed(r.held[0], abort_on_closed, &r);
    client_close(c);
    rig_until(&r, &r.n_closed, 1);
    assert_null(r.held[0]);
    rig_close(&r);
}

static void test_error_form(void **state)
{
    rig r;
    phx_error err = {0};
    phx_json *root = NULL;
    phx_str text;
    (void)state;
    rig_open(&r, &(phx_http_options){0});
    client *c = hold(&r, "/hold");
    phx_http_reply_error(r.held[0], &(phx_http_error){.status = 429,
                                                      .code = "queue_full",
                                                      .param = "messages",
                                                      .message = "say \"again\"",
                                                      .retry_after_s = 7});
    r.held[0] = NULL;
    client_wait(c, "}}");
    assert_non_null(strstr(c->in, "HTTP/1.1 429 Too Many Requests\r\n"));
    assert_non_null(strstr(c->in, "Retry-After: 7\r\n"));
    const char *body = strstr(c->in, "\r\n\r\n") + 4;
    assert_int_equal(phx_json_parse((phx_bytes){(const uint8_t *)body, strlen(body)}, PHX_JSON_LIMITS_REQUEST,
                                    &root, &err),
                     PHX_OK);
    const phx_json *error = phx_json_get(root, "error");
    assert_true(phx_json_as_str(phx_json_get(error, "message"), &text));
    assert_true(phx_str_is(text, "say \"again\""));
    assert_true(phx_json_as_str(phx_json_get(error, "type"), &text));
    assert_true(phx_str_is(text, "rate_limit_error"));
    assert_true(phx_json_as_str(phx_json_get(error, "param"), &text));
    assert_true(phx_str_is(text, "messages"));
    assert_true(phx_json_as_str(phx_json_get(error, "code"), &text));
    assert_true(phx_str_is(text, "queue_full"));
    phx_json_destroy(root);
    client_close(c);
    rig_close(&r);
}

static void test_abort_cuts(void **state)
{
    rig r;
    (void)state;
    rig_open(&r, &(phx_http_options){0});
    client *c = hold(&r, "/stream");
    client_wait(c, "\r\n\r\n");
    phx_http_reply_error(r.held[0], &(phx_http_error){.status = 500, .message = "too late for a status"});
    r.held[0] = NULL;
    client_wait_closed(c);
    assert_null(strstr(c->in, "0\r\n\r\n"));
    client_close(c);
    rig_close(&r);
}

/* A long answer that nobody reads ends too, although its handle was completed long ago. */
static void test_slow_reader_of_a_whole_answer(void **state)
{
    phx_http_limits limits = phx_http_limits_default();
    rig r;
    phx_buf body;
    (void)state;
    limits.unsent_soft_ms = 50;
    phx_buf_init(&body, 8 << 20);
    for (size_t i = 0; i < 1 << 16; i++)
        (void)phx_buf_str(&body, "0123456789012345678901234567890123456789012345678901234567890123");
    rig_open(&r, &(phx_http_options){.limits = &limits});
    for (size_t i = 0; i < 2; i++) {
        client *c = i == 0 ? client_open_small(&r) : client_open(&r);
        client_send(c, "GET /hold HTTP/1.1\r\n" H "\r\n");
        rig_until(&r, &r.n_held, i + 1);
        phx_http_reply_send(r.held[i], &(phx_http_response){.status = 200, .body = phx_buf_view(&body)});
        r.held[i] = NULL;
        if (i == 0) {
            while (phx_http_stats_of(r.http)->n_conns_open > 0)
                assert_int_equal(phx_loop_step(r.loop, 1000, NULL), PHX_OK);
        } else { /* who reads gets all of it, far beyond the bounds of a stream */
            assert_int_equal(client_ask(c, ""), 200);
        }
        client_close(c);
    }
    assert_int_equal(phx_http_stats_of(r.http)->by_fault[PHX_HTTP_FAULT_SLOW_READER], 1);
    assert_int_equal(phx_http_stats_of(r.http)->n_cancelled, 0);
    rig_close(&r);
    phx_buf_done(&body);
}

static void test_crowd(void **state)
{
    phx_http_limits limits = phx_http_limits_default();
    rig r;
    (void)state;
    limits.n_conns = 2000;
    limits.n_conns_address = 2000;
    rig_open(&r, &(phx_http_options){.limits = &limits});
    static client *c[1000];
    for (size_t i = 0; i < 1000; i++) { /* all in the backlog at once: nobody is stepping the loop */
        c[i] = client_open(&r);
        client_send(c[i], "GET /hello HTTP/1.1\r\n" H "\r\n");
    }
    for (size_t i = 0; i < 1000; i++) {
        if (i % 3 != 0)
            client_wait(c[i], "hello");
        client_close(c[i]);
    }
    while (phx_http_stats_of(r.http)->n_conns < 1000 || phx_http_stats_of(r.http)->n_conns_open > 0)
        assert_int_equal(phx_loop_step(r.loop, 1000, NULL), PHX_OK);
    rig_close(&r);
}

/* Clients that vanish at any byte of their request or of the answer leave nothing behind. */
static void test_random_resets(void **state)
{
    static const char text[] =
        "GET /stream HTTP/1.1\r\n" H "\r\nPOST /echo HTTP/1.1\r\n" H
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    phx_rng rng = {.seed = 42};
    rig r;
    (void)state;
    rig_open(&r, &(phx_http_options){0});
    for (size_t i = 0; i < 500; i++) {
        const struct linger now = {.l_onoff = 1, .l_linger = 0};
        client *c = client_open(&r);
        client_send_n(c, text, phx_rng_below(&rng, sizeof(text)));
        rig_spin(&r);
        for (size_t n = phx_rng_below(&rng, 4); r.n_held > 0 && n > 0; n--)
            (void)phx_http_reply_stream_write(r.held[0], phx_str_of("data: x\n\n"));
        if (r.n_held > 0 && phx_rng_below(&rng, 2)) {
            phx_http_reply_stream_end(r.held[0]);
            r.held[0] = NULL;
        }
        if (phx_rng_below(&rng, 2))
            (void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        client_close(c);
        while (phx_http_stats_of(r.http)->n_conns_open > 0)
            assert_int_equal(phx_loop_step(r.loop, 1000, NULL), PHX_OK);
        if (r.n_held > 0 && r.held[0])
            phx_http_reply_abort(r.held[0]);
        r.n_held = 0;
        r.held[0] = NULL;
        assert_int_equal(phx_http_stats_of(r.http)->n_replies_open, 0);
    }
    rig_close(&r);
}

static void on_stopped(void *user)
{
    rig *r = user;
    r->is_stopped = true;
}

static void test_stop(void **state)
{
    rig r;
    (void)state;
    rig_open(&r, &(phx_http_options){0});
    client *idle = client_open(&r);
    assert_int_equal(client_ask(idle, "GET /hello HTTP/1.1\r\n" H "\r\n"), 200);
    client *busy = hold(&r, "/hold");
    client *streaming = hold(&r, "/stream");
    phx_http_stop(r.http, (phx_loop_call){on_stopped, &r});
    client_wait_closed(idle);
    rig_spin(&r);
    assert_false(r.is_stopped);
    assert_int_equal(r.n_closed, 0);
    phx_http_reply_send(r.held[0], &(phx_http_response){.status = 200, .body = {"done", 4}});
    assert_int_equal(phx_http_reply_stream_write(r.held[1], phx_str_of("last")), PHX_OK);
    phx_http_reply_stream_end(r.held[1]);
    r.held[0] = NULL;
    r.held[1] = NULL;
    client_wait(busy, "Connection: close\r\n");
    client_wait(busy, "done");
    client_wait(streaming, "4\r\nlast\r\n0\r\n\r\n");
    client_wait_closed(busy);
    client_wait_closed(streaming);
    client_close(idle);
    client_close(busy);
    client_close(streaming);
    while (!r.is_stopped)
        assert_int_equal(phx_loop_step(r.loop, 1000, NULL), PHX_OK);
    rig_close(&r);
    /* Nobody there: it still answers. */
    rig_open(&r, &(phx_http_options){0});
    phx_http_stop(r.http, (phx_loop_call){on_stopped, &r});
    assert_false(r.is_stopped);
    while (!r.is_stopped)
        assert_int_equal(phx_loop_step(r.loop, 1000, NULL), PHX_OK);
    rig_close(&r);
}

static void test_destroy_with_open_replies(void **state)
{
    rig r;
    (void)state;
    rig_open(&r, &(phx_http_options){0});
    client *c = hold(&r, "/hold");
    client *d = hold(&r, "/stream");
    phx_http_destroy(r.http);
    r.http = NULL;
    assert_int_equal(r.n_closed, 2);
    assert_int_equal(r.why, PHX_HTTP_CLOSED_SERVER);
    assert_int_equal(phx_http_reply_stream_write(r.held[1], phx_str_of("x")), PHX_ERR_CANCELLED);
    client_wait_closed(c);
    client_wait_closed(d);
    client_close(c);
    client_close(d);
    rig_close(&r);
}

/* The n-th allocation of a connection's life fails, for every n: no crash, no leak, and the server lives on.
 */
static void test_no_memory(void **state)
{
    rig r;
    bool is_whole = false;
    (void)state;
    rig_open(&r, &(phx_http_options){0});
    for (uint64_t nth = 1; !is_whole; nth++) {
        assert_true(nth < 200);
        phx_alloc_fail_nth(nth);
        client *c = client_open(&r);
        client_send(c, "POST /echo HTTP/1.1\r\n" H "Content-Type: application/json\r\n"
                       "Content-Length: 2\r\nConnection: close\r\n\r\n{}");
        client_wait_closed(c);
        phx_alloc_fail_nth(0);
        is_whole = c->in && strstr(c->in, " 200 OK") && strstr(c->in, "{}");
        client_close(c);
        rig_spin(&r);
        assert_int_equal(phx_http_stats_of(r.http)->n_conns_open, 0);
        assert_int_equal(phx_http_stats_of(r.http)->n_body_bytes, 0);
    }
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_client_leaves),
        cmocka_unit_test(test_completed_before_the_close_is_seen),
        cmocka_unit_test(test_completed_inside_on_closed),
        cmocka_unit_test(test_error_form),
        cmocka_unit_test(test_abort_cuts),
        cmocka_unit_test(test_slow_reader_of_a_whole_answer),
        cmocka_unit_test(test_crowd),
        cmocka_unit_test(test_random_resets),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_destroy_with_open_replies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
