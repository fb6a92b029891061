/* tests/http/rig.c - a server with a few routes and raw clients, all in one thread. */
#include "tests/http/rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"

enum { PATIENCE_US = 10 * 1000 * 1000 };

static const phx_http_response plain = {.status = 200, .content_type = "text/plain", .body = {"hello", 5}};

static void on_closed(void *user, phx_http_closed why)
{
    rig *r = user;
    r->n_closed++;
    r->why = why;
}

static void note(rig *r, const phx_http_request *request)
{
    r->n_requests++;
    r->key_id = request->key_id;
    r->key_hash = request->key_hash;
    (void)phx_str_copy(r->remote, sizeof(r->remote), request->remote);
    (void)phx_str_copy(r->query, sizeof(r->query), request->query);
}

static void on_hello(void *user, const phx_http_request *request, phx_http_reply *reply)
{
    note(user, request);
    phx_http_reply_send(reply, &plain);
}

static void on_echo(void *user, const phx_http_request *request, phx_http_reply *reply)
{
    note(user, request);
    phx_http_reply_send(reply,
                        &(phx_http_response){.status = 200,
                                             .content_type = "application/json",
                                             .body = {(const char *)request->body.ptr, request->body.n}});
}

static void on_hold(void *user, const phx_http_request *request, phx_http_reply *reply)
{
    rig *r = user;
    note(r, request);
    assert_true(r->n_held < RIG_HELD_MAX);
    r->held[r->n_held++] = reply;
    phx_http_reply_on_closed(reply, on_closed, r);
}

static void on_stream(void *user, const phx_http_request *request, phx_http_reply *reply)
{
    on_hold(user, request, reply);
    assert_int_equal(phx_http_reply_stream_begin(
                         reply, &(phx_http_response){.status = 200, .content_type = "text/event-stream"}),
                     PHX_OK);
}

static size_t count_fds(void)
{
    size_t n = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

void rig_open(rig *r, const phx_http_options *options)
{
    phx_error err = {0};
    phx_http_options filled = *options;
    *r = (rig){.n_fds_before = count_fds(), .n_live_before = phx_alloc_count().n_live};
    const phx_http_route routes[] = {
        {"GET", "/livez", false, on_hello, r}, {"GET", "/hello", true, on_hello, r},
        {"POST", "/echo", true, on_echo, r},   {"GET", "/hold", true, on_hold, r},
        {"POST", "/hold", true, on_hold, r},   {"GET", "/stream", true, on_stream, r},
    };
    memcpy(r->routes, routes, sizeof(routes));
    assert_int_equal(phx_loop_create(&r->loop, &err), PHX_OK);
    filled.loop = r->loop;
    filled.routes = r->routes;
    filled.n_routes = sizeof(routes) / sizeof(routes[0]);
    if (!filled.host)
        filled.host = "127.0.0.1";
    if (phx_http_create(&filled, &r->http, &err) != PHX_OK)
        fail_msg("%s", err.text);
}

void rig_close(rig *r)
{
    for (size_t i = 0; i < r->n_held; i++) {
        if (r->held[i])
            phx_http_reply_abort(r->held[i]);
    }
    rig_spin(r);
    phx_http_destroy(r->http);
    phx_loop_destroy(r->loop);
    assert_int_equal(count_fds(), r->n_fds_before);
    assert_int_equal(phx_alloc_count().n_live, r->n_live_before);
}

void rig_spin(rig *r)
{
    for (int i = 0; i < 20; i++)
        assert_int_equal(phx_loop_step(r->loop, 100, NULL), PHX_OK);
}

void rig_until(rig *r, const size_t *value, size_t target)
{
    const uint64_t start_us = phx_clock_us();
    while (*value < target) {
        assert_int_equal(phx_loop_step(r->loop, 1000, NULL), PHX_OK);
        assert_true(phx_clock_us() - start_us < PATIENCE_US);
    }
}

static client *open_with(rig *r, int receive_bytes)
{
    client *c = calloc(1, sizeof(*c));
    assert_non_null(c);
    c->owner = r;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(c->fd >= 0);
    if (receive_bytes)
        (void)setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof(receive_bytes));
    const struct sockaddr_in to = {.sin_family = AF_INET,
                                   .sin_port = htons(phx_http_port(r->http)),
                                   .sin_addr = {htonl(INADDR_LOOPBACK)}};
    assert_int_equal(connect(c->fd, (const struct sockaddr *)&to, sizeof(to)), 0);
    return c;
}

client *client_open(rig *r)
{
    return open_with(r, 0);
}

client *client_open_small(rig *r)
{
    return open_with(r, 2048);
}

void client_close(client *c)
{
    if (!c)
        return;
    close(c->fd);
    free(c->in);
    free(c);
}

/* Takes what is there. */
static void client_poll(client *c)
{
    char chunk[65536];
    for (;;) {
        const ssize_t n = recv(c->fd, chunk, sizeof(chunk), MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            c->is_closed = true;
            return;
        }
        c->in = realloc(c->in, c->n_in + (size_t)n + 1);
        assert_non_null(c->in);
        memcpy(c->in + c->n_in, chunk, (size_t)n);
        c->n_in += (size_t)n;
        c->in[c->n_in] = 0;
    }
}

void client_send_n(client *c, const void *ptr, size_t n)
{
    const uint64_t start_us = phx_clock_us();
    const char *at = ptr;
    while (n > 0 && !c->is_closed) {
        const ssize_t n_sent = send(c->fd, at, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n_sent > 0) {
            at += n_sent;
            n -= (size_t)n_sent;
            continue;
        }
        if (errno != EAGAIN && errno != EINTR)
            return; /* the server closed: the answer tells */
        assert_int_equal(phx_loop_step(c->owner->loop, 1000, NULL), PHX_OK);
        assert_true(phx_clock_us() - start_us < PATIENCE_US);
    }
}

void client_send(client *c, const char *text)
{
    client_send_n(c, text, strlen(text));
}

void client_wait(client *c, const char *text)
{
    const uint64_t start_us = phx_clock_us();
    for (;;) {
        client_poll(c);
        if (c->in && strstr(c->in, text))
            return;
        if (c->is_closed || phx_clock_us() - start_us > PATIENCE_US)
            fail_msg("wanted '%s', got '%s'%s", text, c->in ? c->in : "", c->is_closed ? ", closed" : "");
        assert_int_equal(phx_loop_step(c->owner->loop, 1000, NULL), PHX_OK);
    }
}

void client_wait_closed(client *c)
{
    const uint64_t start_us = phx_clock_us();
    for (client_poll(c); !c->is_closed; client_poll(c)) {
        if (phx_clock_us() - start_us > PATIENCE_US)
            fail_msg("still open after '%s'", c->in ? c->in : "");
        assert_int_equal(phx_loop_step(c->owner->loop, 1000, NULL), PHX_OK);
    }
}

void client_forget(client *c)
{
    c->n_in = 0;
    if (c->in)
        c->in[0] = 0;
}

/* Waits for the head and Content-Length bytes, takes them off. */
static int client_answer(client *c)
{
    int status = 0;
    size_t n_body = 0;
    client_wait(c, "\r\n\r\n");
    assert_int_equal(sscanf(c->in, "HTTP/1.1 %d ", &status), 1);
    const char *length = strstr(c->in, "Content-Length: ");
    const size_t n_head = (size_t)(strstr(c->in, "\r\n\r\n") - c->in) + 4;
    if (length && length < c->in + n_head)
        n_body = (size_t)strtoull(length + 16, NULL, 10);
    const uint64_t start_us = phx_clock_us();
    while (c->n_in < n_head + n_body) {
        assert_false(c->is_closed);
        assert_true(phx_clock_us() - start_us < PATIENCE_US);
        assert_int_equal(phx_loop_step(c->owner->loop, 1000, NULL), PHX_OK);
        client_poll(c);
    }
    memmove(c->in, c->in + n_head + n_body, c->n_in - n_head - n_body + 1);
    c->n_in -= n_head + n_body;
    return status;
}

int client_ask(client *c, const char *text)
{
    client_send(c, text);
    return client_answer(c);
}

int ask_n(rig *r, const void *ptr, size_t n)
{
    client *c = client_open(r);
    client_send_n(c, ptr, n);
    const int status = client_answer(c);
    client_close(c);
    rig_spin(r);
    return status;
}

int ask(rig *r, const char *text)
{
    return ask_n(r, text, strlen(text));
}

void check_refused(rig *r, const char *text, size_t n, phx_http_fault fault)
{
    char code[96];
    const phx_http_stats *stats = phx_http_stats_of(r->http);
    const uint64_t n_before = stats->by_fault[fault];
    const size_t n_requests = r->n_requests;
    (void)snprintf(code, sizeof(code), "\"code\":\"%s\"}}", phx_http_fault_code(fault));
    client *c = client_open(r);
    client_send_n(c, text, n);
    client_wait(c, "\r\n\r\n");
    client_wait(c, code);
    int status = 0;
    assert_int_equal(sscanf(c->in, "HTTP/1.1 %d ", &status), 1);
    if (status != phx_http_fault_status(fault))
        fail_msg("%d, wanted %d for %.60s", status, phx_http_fault_status(fault), text);
    assert_non_null(strstr(c->in, "{\"error\":{\"message\":\""));
    client_wait_closed(c);
    client_close(c);
    rig_spin(r);
    assert_int_equal(stats->by_fault[fault], n_before + 1);
    assert_int_equal(r->n_requests, n_requests);
}
