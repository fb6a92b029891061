/* tests/http/test_limits.c - every limit of a connection (base/limits.list), at the limit and one past it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/file.h"
#include "tests/http/rig.h"

#define H "Host: localhost\r\n"
#define J "Content-Type: application/json\r\n"

static void fill(phx_buf *buf, char c, size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_int_equal(phx_buf_char(buf, c), PHX_OK);
}

static void open_limited(rig *r, const phx_http_limits *limits)
{
    rig_open(r, &(phx_http_options){.limits = limits});
}

/* A request whose request line has n bytes. */
static void line_of(phx_buf *buf, size_t n)
{
    phx_buf_clear(buf);
    (void)phx_buf_str(buf, "GET /hello?");
    fill(buf, 'a', n - 11 - 9);
    (void)phx_buf_str(buf, " HTTP/1.1\r\n" H "\r\n");
}

static void test_head_lengths(void **state)
{
    const phx_http_limits limits = phx_http_limits_default();
    rig r;
    phx_buf buf;
    (void)state;
    phx_buf_init(&buf, 1 << 20);
    open_limited(&r, &limits);
    line_of(&buf, (size_t)limits.request_line_bytes);
    assert_int_equal(ask_n(&r, buf.ptr, buf.n), 200);
    line_of(&buf, (size_t)limits.request_line_bytes + 1);
    check_refused(&r, buf.ptr, buf.n, PHX_HTTP_FAULT_URI_LENGTH);
    /* A line without an end is refused as soon as it is too long. */
    phx_buf_clear(&buf);
    fill(&buf, 'G', (size_t)limits.request_line_bytes + 2);
    check_refused(&r, buf.ptr, buf.n, PHX_HTTP_FAULT_URI_LENGTH);

    for (size_t extra = 0; extra < 2; extra++) {
        phx_buf_clear(&buf);
        (void)phx_buf_str(&buf, "GET /hello HTTP/1.1\r\n" H "A: ");
        fill(&buf, 'b', (size_t)limits.header_bytes - 3 + extra);
        (void)phx_buf_str(&buf, "\r\n\r\n");
        if (extra == 0)
            assert_int_equal(ask_n(&r, buf.ptr, buf.n), 200);
        else
            check_refused(&r, buf.ptr, buf.n, PHX_HTTP_FAULT_HEADER_LENGTH);
    }

    /* Lines of 1024 bytes with their ends; Host's own line is made up for in the last. */
    for (size_t extra = 0; extra < 2; extra++) {
        phx_buf_clear(&buf);
        (void)phx_buf_str(&buf, "GET /hello HTTP/1.1\r\n");
        const size_t n_start = buf.n;
        (void)phx_buf_str(&buf, H);
        while (buf.n - n_start + 2048 <= limits.headers_bytes) {
            (void)phx_buf_str(&buf, "A: ");
            fill(&buf, 'b', 1019);
            (void)phx_buf_str(&buf, "\r\n");
        }
        (void)phx_buf_str(&buf, "A: ");
        fill(&buf, 'b', (size_t)limits.headers_bytes - (buf.n - n_start) - 2 + extra);
        (void)phx_buf_str(&buf, "\r\n\r\n");
        if (extra == 0)
            assert_int_equal(ask_n(&r, buf.ptr, buf.n), 200);
        else
            check_refused(&r, buf.ptr, buf.n, PHX_HTTP_FAULT_HEADERS_LENGTH);
    }

    for (size_t extra = 0; extra < 2; extra++) {
        phx_buf_clear(&buf);
        (void)phx_buf_str(&buf, "GET /hello HTTP/1.1\r\n" H);
        for (size_t i = 1; i < limits.n_headers + extra; i++)
            (void)phx_buf_str(&buf, "A: b\r\n");
        (void)phx_buf_str(&buf, "\r\n");
        if (extra == 0)
            assert_int_equal(ask_n(&r, buf.ptr, buf.n), 200);
        else
            check_refused(&r, buf.ptr, buf.n, PHX_HTTP_FAULT_N_HEADERS);
    }
    phx_buf_done(&buf);
    rig_close(&r);
}

static void test_body_length(void **state)
{
    const phx_http_limits limits = phx_http_limits_default();
    rig r;
    phx_buf buf;
    (void)state;
    phx_buf_init(&buf, 16 << 20);
    open_limited(&r, &limits);
    (void)phx_buf_printf(&buf, "POST /hold HTTP/1.1\r\n" H J "Content-Length: %llu\r\n\r\n",
                         (unsigned long long)limits.body_bytes);
    fill(&buf, 'x', (size_t)limits.body_bytes);
    client *c = client_open(&r);
    client_send_n(c, buf.ptr, buf.n);
    rig_until(&r, &r.n_requests, 1);
    client_close(c);
    rig_until(&r, &r.n_closed, 1);
    /* Announced too long: refused before a byte of it. */
    phx_buf_clear(&buf);
    (void)phx_buf_printf(&buf, "POST /hold HTTP/1.1\r\n" H J "Content-Length: %llu\r\n\r\n",
                         (unsigned long long)limits.body_bytes + 1);
    check_refused(&r, buf.ptr, buf.n, PHX_HTTP_FAULT_BODY_LENGTH);
    phx_buf_done(&buf);
    rig_close(&r);
}

/* The same bound when nothing is announced, and the bounds of chunks; small numbers, same code. */
static void test_chunks(void **state)
{
    phx_http_limits limits = phx_http_limits_default();
    rig r;
    phx_buf buf;
    (void)state;
    limits.body_bytes = 1000;
    limits.n_chunks = 20;
    limits.n_chunks_any = 10;
    limits.chunk_avg_bytes = 8;
    phx_buf_init(&buf, 1 << 20);
    open_limited(&r, &limits);
#define CHUNKED "POST /echo HTTP/1.1\r\n" H J "Transfer-Encoding: chunked\r\n\r\n"
    for (size_t extra = 0; extra < 2; extra++) {
        phx_buf_clear(&buf);
        (void)phx_buf_printf(&buf, CHUNKED "1f4\r\n");
        fill(&buf, 'x', 500);
        (void)phx_buf_printf(&buf, "\r\n%zX\r\n", 500 + extra);
        fill(&buf, 'x', 500 + extra);
        (void)phx_buf_str(&buf, "\r\n0\r\n\r\n");
        if (extra == 0)
            assert_int_equal(ask_n(&r, buf.ptr, buf.n), 200);
        else
            check_refused(&r, buf.ptr, buf.n, PHX_HTTP_FAULT_BODY_LENGTH);
    }
    check_refused(&r, CHUNKED "ffffffff\r\n", strlen(CHUNKED) + 10, PHX_HTTP_FAULT_BODY_LENGTH);

    for (size_t n = limits.n_chunks; n <= limits.n_chunks + 1; n++) {
        phx_buf_clear(&buf);
        (void)phx_buf_str(&buf, CHUNKED);
        for (size_t i = 0; i < n; i++)
            (void)phx_buf_str(&buf, "8\r\n12345678\r\n");
        (void)phx_buf_str(&buf, "0\r\n\r\n");
        if (n == limits.n_chunks)
            assert_int_equal(ask_n(&r, buf.ptr, buf.n), 200);
        else
            check_refused(&r, buf.ptr, buf.n, PHX_HTTP_FAULT_N_CHUNKS);
    }
    for (size_t n = limits.n_chunks_any; n <= limits.n_chunks_any + 1; n++) {
        phx_buf_clear(&buf);
        (void)phx_buf_str(&buf, CHUNKED);
        for (size_t i = 0; i < n; i++)
            (void)phx_buf_str(&buf, "1\r\nx\r\n");
        (void)phx_buf_str(&buf, "0\r\n\r\n");
        if (n == limits.n_chunks_any)
            assert_int_equal(ask_n(&r, buf.ptr, buf.n), 200);
        else
            check_refused(&r, buf.ptr, buf.n, PHX_HTTP_FAULT_CHUNK_SIZE);
    }
    phx_buf_done(&buf);
    rig_close(&r);
}

static void test_body_total(void **state)
{
    phx_http_limits limits = phx_http_limits_default();
    rig r;
    (void)state;
    limits.body_total_bytes = 1000;
    open_limited(&r, &limits);
    client *c[2] = {client_open(&r), client_open(&r)};
    char half[501];
    memset(half, 'x', 500);
    for (size_t i = 0; i < 2; i++) {
        client_send(c[i], "POST /echo HTTP/1.1\r\n" H J "Content-Length: 600\r\n\r\n");
        client_send_n(c[i], half, 500);
    }
    size_t n_body = 0;
    while (n_body < 1000) { /* at the limit: both go on */
        rig_spin(&r);
        n_body = (size_t)phx_http_stats_of(r.http)->n_body_bytes;
    }
    client_send(c[0], "x");
    client_wait(c[0], "HTTP/1.1 503 ");
    client_wait(c[0], "\"body_memory\"");
    client_wait_closed(c[0]);
    client_send_n(c[1], half, 100);
    client_wait(c[1], "HTTP/1.1 200 ");
    client_close(c[0]);
    client_close(c[1]);
    rig_spin(&r);
    assert_int_equal(phx_http_stats_of(r.http)->n_body_bytes, 0);
    rig_close(&r);
}

/* The last client allowed is served, the next is told why not, and a place that becomes free is used. */
static void check_places(rig *r, const char *request, size_t n_places, phx_http_fault fault)
{
    client *c[8];
    char code[64];
    assert_true(n_places < 8);
    for (size_t i = 0; i < n_places; i++) {
        c[i] = client_open(r);
        assert_int_equal(client_ask(c[i], request), 200);
    }
    client *late = client_open(r);
    client_send(late, request);
    (void)snprintf(code, sizeof(code), "\"%s\"", phx_http_fault_code(fault));
    client_wait(late, code);
    client_wait(late, "Retry-After: 1\r\n");
    client_wait_closed(late);
    client_close(late);
    client_close(c[0]);
    rig_spin(r);
    assert_int_equal(ask(r, request), 200);
    for (size_t i = 1; i < n_places; i++)
        client_close(c[i]);
    rig_spin(r);
    assert_int_equal(phx_http_stats_of(r->http)->n_conns_open, 0);
    assert_int_equal(phx_http_stats_of(r->http)->by_fault[fault], 1);
}

static void test_connections(void **state)
{
    rig r;
    (void)state;
    phx_http_limits limits = phx_http_limits_default();
    limits.n_conns = 3;
    open_limited(&r, &limits);
    check_places(&r, "GET /hello HTTP/1.1\r\n" H "\r\n", 3, PHX_HTTP_FAULT_N_CONNS);
    rig_close(&r);

    limits = phx_http_limits_default();
    limits.n_conns_address = 3;
    open_limited(&r, &limits);
    check_places(&r, "GET /hello HTTP/1.1\r\n" H "\r\n", 3, PHX_HTTP_FAULT_N_CONNS_ADDRESS);
    rig_close(&r);

    limits = phx_http_limits_default();
    limits.n_conns_key = 2;
    const char *path = "/tmp/phx_test_limits_keys";
    phx_error err = {0};
    assert_int_equal(
        phx_file_write(path, (phx_bytes){(const uint8_t *)"alpha-key-1\nbeta-key-22\n", 24}, 0600, &err),
        PHX_OK);
    rig_open(&r, &(phx_http_options){.limits = &limits, .key_file = path});
    (void)unlink(path);
    check_places(&r, "GET /hello HTTP/1.1\r\n" H "X-Api-Key: beta-key-22\r\n\r\n", 2,
                 PHX_HTTP_FAULT_N_CONNS_KEY);
    rig_close(&r);
}

static void test_reserved_descriptors(void **state)
{
    rig r;
    struct rlimit old;
    (void)state;
    phx_http_limits limits = phx_http_limits_default();
    limits.n_fds_reserved = 16;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    /* The next descriptor's number says how many are in use. */
    const int probe = dup(0);
    assert_true(probe >= 0);
    close(probe);
    /* Loop, listener and the clients' own ends count too: room for a handful of connections. */
    const struct rlimit tight = {(rlim_t)probe + 32, old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    open_limited(&r, &limits);
    client *c[16] = {NULL};
    size_t n = 0;
    for (; n < 16; n++) {
        c[n] = client_open(&r);
        client_send(c[n], "GET /hello HTTP/1.1\r\n" H "\r\n");
        client_wait(c[n], "HTTP/1.1 ");
        if (strstr(c[n]->in, "HTTP/1.1 503 "))
            break;
    }
    assert_in_range(n, 1, 15);
    client_wait_closed(c[n]);
    assert_int_equal(phx_http_stats_of(r.http)->by_fault[PHX_HTTP_FAULT_N_FDS], 1);
    for (size_t i = 0; i < 16; i++)
        client_close(c[i]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    rig_close(&r);
}

static void test_clocks(void **state)
{
    rig r;
    (void)state;
    phx_http_limits limits = phx_http_limits_default();
    limits.header_ms = 50;
    open_limited(&r, &limits);
    client *c = client_open(&r); /* says nothing */
    client_wait_closed(c);
    assert_int_equal(c->n_in, 0);
    client_close(c);
    c = client_open(&r); /* half a head */
    client_send(c, "GET /hello HTTP/1.1\r\n");
    client_wait(c, "HTTP/1.1 408 ");
    client_wait(c, "\"header_timeout\"");
    client_wait_closed(c);
    client_close(c);
    c = client_open(&r); /* half a second head: its own time */
    assert_int_equal(client_ask(c, "GET /hello HTTP/1.1\r\n" H "\r\n"), 200);
    client_send(c, "GET");
    client_wait(c, "HTTP/1.1 408 ");
    client_close(c);
    rig_close(&r);

    limits = phx_http_limits_default();
    limits.idle_ms = 50;
    open_limited(&r, &limits);
    c = client_open(&r);
    assert_int_equal(client_ask(c, "GET /hello HTTP/1.1\r\n" H "\r\n"), 200);
    client_wait_closed(c);
    client_close(c);
    assert_int_equal(phx_http_stats_of(r.http)->by_fault[PHX_HTTP_FAULT_IDLE], 1);
    /* A request that waits for its answer is not idle. */
    c = client_open(&r);
    client_send(c, "GET /hold HTTP/1.1\r\n" H "\r\n");
    rig_until(&r, &r.n_held, 1);
    for (int i = 0; i < 300; i++)
        assert_int_equal(phx_loop_step(r.loop, 1000, NULL), PHX_OK);
    assert_true(phx_http_reply_is_open(r.held[0]));
    client_close(c);
    rig_close(&r);

    limits = phx_http_limits_default();
    limits.body_grace_ms = 50;
    limits.body_rate_bytes_s = 1 << 20;
    open_limited(&r, &limits);
    c = client_open(&r);
    client_send(c, "POST /echo HTTP/1.1\r\n" H J "Content-Length: 2\r\n\r\n{");
    client_wait(c, "HTTP/1.1 408 ");
    client_wait(c, "\"body_timeout\"");
    client_wait_closed(c);
    client_close(c);
    rig_close(&r);
}

static void test_pipelined_bytes(void **state)
{
    phx_http_limits limits = phx_http_limits_default();
    rig r;
    char bytes[4097];
    (void)state;
    limits.pipelined_bytes = 4096;
    memset(bytes, 'G', sizeof(bytes));
    open_limited(&r, &limits);
    client *c = client_open(&r);
    client_send(c, "GET /hold HTTP/1.1\r\n" H "\r\n");
    rig_until(&r, &r.n_held, 1);
    client_send_n(c, bytes, 4096);
    rig_spin(&r);
    assert_true(phx_http_reply_is_open(r.held[0]));
    client_send_n(c, bytes, 1);
    rig_until(&r, &r.n_closed, 1);
    assert_int_equal(r.why, PHX_HTTP_CLOSED_REFUSED);
    assert_int_equal(phx_http_stats_of(r.http)->by_fault[PHX_HTTP_FAULT_PIPELINED], 1);
    client_close(c);
    rig_close(&r);
}

static void test_linger(void **state)
{
    phx_http_limits limits = phx_http_limits_default();
    rig r;
    (void)state;
    limits.linger_ms = 50;
    open_limited(&r, &limits);
    /* Refused, and the client stays: we go. */
    client *c = client_open(&r);
    client_send(c, "nonsense\r\n");
    client_wait_closed(c);
    while (phx_http_stats_of(r.http)->n_conns_open > 0)
        assert_int_equal(phx_loop_step(r.loop, 1000, NULL), PHX_OK);
    client_close(c);
    rig_close(&r);

    limits.linger_ms = 60000;
    limits.linger_bytes = 10000;
    open_limited(&r, &limits);
    c = client_open(&r);
    client_send(c, "nonsense\r\n");
    client_wait_closed(c);
    char bytes[10000];
    memset(bytes, 'x', sizeof(bytes));
    c->is_closed = false;
    client_send_n(c, bytes, sizeof(bytes));
    rig_spin(&r);
    assert_int_equal(phx_http_stats_of(r.http)->n_conns_open, 1);
    client_send(c, "x");
    while (phx_http_stats_of(r.http)->n_conns_open > 0)
        assert_int_equal(phx_loop_step(r.loop, 1000, NULL), PHX_OK);
    client_close(c);
    rig_close(&r);
}

static void test_reply_bytes(void **state)
{
    phx_http_limits limits = phx_http_limits_default();
    rig r;
    char body[102];
    (void)state;
    limits.reply_bytes = 100;
    memset(body, '1', sizeof(body));
    open_limited(&r, &limits);
    for (size_t extra = 0; extra < 2; extra++) {
        client *c = client_open(&r);
        client_send(c, "GET /hold HTTP/1.1\r\n" H "\r\n");
        rig_until(&r, &r.n_held, 1 + extra);
        phx_http_reply_send(r.held[extra], &(phx_http_response){.status = 200, .body = {body, 100 + extra}});
        r.held[extra] = NULL;
        client_wait(c, extra ? "HTTP/1.1 500 " : "HTTP/1.1 200 ");
        client_close(c);
    }
    rig_close(&r);
}

/* Writes 1 KiB at a time until the layer has had enough; n_queued_max is the most it ever held. */
static phx_code flood(rig *r, phx_http_reply *reply, size_t *n_queued_max)
{
    char data[1024];
    phx_code rc = PHX_OK;
    memset(data, 'x', sizeof(data));
    for (size_t i = 0; rc == PHX_OK && i < 65536; i++) {
        rc = phx_http_reply_stream_write(reply, (phx_str){data, sizeof(data)});
        const size_t n = phx_http_reply_queued_bytes(reply);
        *n_queued_max = n > *n_queued_max ? n : *n_queued_max;
        if (i % 64 == 0)
            assert_int_equal(phx_loop_step(r->loop, 0, NULL), PHX_OK);
    }
    return rc;
}

static client *stream_to_small(rig *r)
{
    client *c = client_open_small(r);
    client_send(c, "GET /stream HTTP/1.1\r\n" H "\r\n");
    rig_until(r, &r->n_held, 1);
    return c;
}

static void test_slow_reader_hard(void **state)
{
    const phx_http_limits limits = phx_http_limits_default();
    rig r;
    size_t n_queued_max = 0;
    (void)state;
    rig_open(&r, &(phx_http_options){0});
    client *c = stream_to_small(&r);
    assert_int_equal(flood(&r, r.held[0], &n_queued_max), PHX_ERR_TOO_LONG);
    assert_in_range(n_queued_max, limits.unsent_hard_bytes - 2048, limits.unsent_hard_bytes + 64);
    assert_int_equal(phx_http_reply_stream_write(r.held[0], phx_str_of("x")), PHX_ERR_CANCELLED);
    rig_until(&r, &r.n_closed, 1);
    assert_int_equal(r.why, PHX_HTTP_CLOSED_SLOW);
    assert_int_equal(phx_http_stats_of(r.http)->by_fault[PHX_HTTP_FAULT_SLOW_READER], 1);
    /* Others do not notice. */
    assert_int_equal(ask(&r, "GET /hello HTTP/1.1\r\n" H "\r\n"), 200);
    client_close(c);
    rig_close(&r);
}

static void test_slow_reader_soft(void **state)
{
    phx_http_limits limits = phx_http_limits_default();
    rig r;
    char data[4096];
    (void)state;
    limits.unsent_soft_bytes = 65536;
    limits.unsent_soft_ms = 50;
    memset(data, 'x', sizeof(data));
    rig_open(&r, &(phx_http_options){.limits = &limits});
    client *c = stream_to_small(&r);
    /* Past what the kernel takes, then past the soft bound, and no further. */
    while (phx_http_reply_queued_bytes(r.held[0]) <= limits.unsent_soft_bytes) {
        assert_int_equal(phx_http_reply_stream_write(r.held[0], (phx_str){data, sizeof(data)}), PHX_OK);
        assert_int_equal(phx_loop_step(r.loop, 0, NULL), PHX_OK);
    }
    rig_until(&r, &r.n_closed, 1);
    assert_int_equal(r.why, PHX_HTTP_CLOSED_SLOW);
    client_close(c);
    rig_close(&r);
}

/* ---- which test tries which row: a row without one does not compile ---- */

#define TRIES_request_line_bytes test_head_lengths
#define TRIES_header_bytes       test_head_lengths
#define TRIES_headers_bytes      test_head_lengths
#define TRIES_n_headers          test_head_lengths
#define TRIES_body_bytes         test_body_length
#define TRIES_body_total_bytes   test_body_total
#define TRIES_n_chunks           test_chunks
#define TRIES_n_chunks_any       test_chunks
#define TRIES_chunk_avg_bytes    test_chunks
#define TRIES_n_conns            test_connections
#define TRIES_n_conns_key        test_connections
#define TRIES_n_conns_address    test_connections
#define TRIES_n_fds_reserved     test_reserved_descriptors
#define TRIES_header_ms          test_clocks
#define TRIES_body_grace_ms      test_clocks
#define TRIES_body_rate_bytes_s  test_clocks
#define TRIES_idle_ms            test_clocks
#define TRIES_unsent_soft_bytes  test_slow_reader_soft
#define TRIES_unsent_soft_ms     test_slow_reader_soft
#define TRIES_unsent_hard_bytes  test_slow_reader_hard
#define TRIES_reply_bytes        test_reply_bytes
#define TRIES_pipelined_bytes    test_pipelined_bytes
#define TRIES_linger_ms          test_linger
#define TRIES_linger_bytes       test_linger

static const struct {
    const char *limit;
    CMUnitTestFunction test;
} tries[] = {
#define PHX_LIMIT_HTTP(field, value, ceiling, what) {#field, TRIES_##field},
#include "base/limits.list"
};

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head_lengths),     cmocka_unit_test(test_body_length),
        cmocka_unit_test(test_chunks),           cmocka_unit_test(test_body_total),
        cmocka_unit_test(test_connections),      cmocka_unit_test(test_reserved_descriptors),
        cmocka_unit_test(test_clocks),           cmocka_unit_test(test_pipelined_bytes),
        cmocka_unit_test(test_linger),           cmocka_unit_test(test_reply_bytes),
        cmocka_unit_test(test_slow_reader_hard), cmocka_unit_test(test_slow_reader_soft),
    };
    for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
        bool is_run = false;
        for (size_t t = 0; t < sizeof(tests) / sizeof(tests[0]); t++)
            is_run = is_run || tests[t].test_func == tries[i].test;
        if (!is_run) {
            (void)fprintf(stderr, "the test of %s is not in the list\n", tries[i].limit);
            return 1;
        }
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
