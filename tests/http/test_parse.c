/* tests/http/test_parse.c - the parser by itself: the same request however it is cut, and random damage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "coordinator/http/guard.h"
#include "coordinator/http/parse.h"

static const char two[] =
    "POST /v1/x?q=1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nX: \t y z \r\n\r\n"
    "5\r\n01234\r\n00A\r\n56789abcde\r\n0\r\n\r\n"
    "GET /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

static bool is_text(const phx_http_parser *p, phx_http_span span, const char *text)
{
    return phx_str_is(phx_http_parser_view(p, span), text);
}

static void check_first(const phx_http_parser *p)
{
    assert_true(is_text(p, p->method, "POST"));
    assert_true(is_text(p, p->path, "/v1/x"));
    assert_true(is_text(p, p->query, "q=1"));
    assert_true(phx_str_is(phx_http_parser_header(p, "x"), "y z"));
    assert_null(phx_http_parser_header(p, "y").ptr);
    assert_true(phx_str_is(phx_buf_view(&p->body), "0123456789abcde"));
    assert_true(p->keep_alive);
}

static void check_second(const phx_http_parser *p)
{
    assert_true(is_text(p, p->method, "GET"));
    assert_true(is_text(p, p->path, "/b"));
    assert_int_equal(p->query.n, 0);
    assert_int_equal(p->body.n, 0);
    assert_false(p->keep_alive);
}

/* Feeds text in pieces cut at the n_cuts places; returns how many requests came out. */
static int feed_pieces(phx_http_parser *p, const size_t *cuts, size_t n_cuts)
{
    int n_done = 0;
    size_t from = 0;
    for (size_t i = 0; i <= n_cuts; i++) {
        const size_t to = i < n_cuts ? cuts[i] : sizeof(two) - 1;
        size_t n_used = 0;
        for (;;) {
            const phx_http_event event =
                phx_http_parser_feed(p, (phx_bytes){(const uint8_t *)two + from, to - from}, &n_used);
            from += n_used;
            assert_int_not_equal(event, PHX_HTTP_FAILED);
            if (event == PHX_HTTP_MORE)
                break;
            if (event != PHX_HTTP_DONE)
                continue;
            if (n_done++ == 0)
                check_first(p);
            else
                check_second(p);
            phx_http_parser_reset(p);
        }
        assert_int_equal(from, to);
    }
    return n_done;
}

static void test_every_cut(void **state)
{
    const phx_http_limits limits = phx_http_limits_default();
    phx_http_parser p;
    size_t every[sizeof(two)];
    (void)state;
    assert_int_equal(phx_http_parser_init(&p, &limits), PHX_OK);
    for (size_t a = 0; a < sizeof(two); a++) {
        for (size_t b = a; b < sizeof(two); b++)
            assert_int_equal(feed_pieces(&p, (const size_t[]){a, b}, 2), 2);
        every[a] = a;
    }
    assert_int_equal(feed_pieces(&p, every, sizeof(two) - 1), 2);
    phx_http_parser_done(&p);
}

/* Feeds whole texts, returns the first fault or NONE after everything was used. */
static phx_http_fault fault_of(phx_http_parser *p, const uint8_t *ptr, size_t n, size_t n_piece,
                               int *ret_n_done)
{
    size_t at = 0;
    phx_http_parser_reset(p);
    *ret_n_done = 0;
    phx_http_event event = PHX_HTTP_MORE;
    while (at < n || event == PHX_HTTP_HEAD) {
        size_t n_used = 0;
        const size_t n_now = n - at < n_piece ? n - at : n_piece;
        event = phx_http_parser_feed(p, (phx_bytes){ptr + at, n_now}, &n_used);
        at += n_used;
        if (event == PHX_HTTP_FAILED) {
            assert_int_not_equal(p->fault, PHX_HTTP_FAULT_NONE);
            assert_int_equal(phx_http_parser_feed(p, (phx_bytes){ptr, 1}, &n_used), PHX_HTTP_FAILED);
            assert_int_equal(n_used, 0);
            return p->fault;
        }
        if (event == PHX_HTTP_DONE) {
            (*ret_n_done)++;
            phx_http_parser_reset(p);
        } else {
            assert_true(event == PHX_HTTP_HEAD || n_used == n_now);
        }
    }
    return PHX_HTTP_FAULT_NONE;
}

/* Whatever is damaged, the verdict does not depend on how the bytes are cut. */
static void test_damage(void **state)
{
    static const char spice[] = "\0\r\n :;,\t\x7f\xff"
                                "0aA/?#";
    const phx_http_limits limits = phx_http_limits_default();
    phx_rng rng = {.seed = 7};
    phx_http_parser p;
    size_t n_refused = 0;
    (void)state;
    assert_int_equal(phx_http_parser_init(&p, &limits), PHX_OK);
    for (size_t i = 0; i < 20000; i++) {
        uint8_t text[sizeof(two)];
        memcpy(text, two, sizeof(two));
        for (uint32_t n = 1 + phx_rng_below(&rng, 3); n > 0; n--)
            text[phx_rng_below(&rng, sizeof(two) - 1)] =
                (uint8_t)spice[phx_rng_below(&rng, sizeof(spice) - 1)];
        const size_t n = 1 + phx_rng_below(&rng, sizeof(two) - 1);
        int n_whole = 0;
        int n_pieces = 0;
        const phx_http_fault whole = fault_of(&p, text, n, n, &n_whole);
        const phx_http_fault pieces = fault_of(&p, text, n, 1 + phx_rng_below(&rng, 7), &n_pieces);
        assert_int_equal(whole, pieces);
        assert_int_equal(n_whole, n_pieces);
        n_refused += whole != PHX_HTTP_FAULT_NONE;
    }
    assert_in_range(n_refused, 1000, 19999);
    phx_http_parser_done(&p);
}

static void test_no_memory(void **state)
{
    const phx_http_limits limits = phx_http_limits_default();
    int n_done = 0;
    (void)state;
    for (uint64_t nth = 1;; nth++) {
        phx_http_parser p;
        const uint64_t n_live = phx_alloc_count().n_live;
        phx_alloc_fail_nth(nth);
        phx_code rc = phx_http_parser_init(&p, &limits);
        if (rc == PHX_OK && fault_of(&p, (const uint8_t *)two, sizeof(two) - 1, 1000, &n_done) != 0) {
            assert_int_equal(p.fault, PHX_HTTP_FAULT_NO_MEMORY);
            rc = PHX_ERR_NOMEM;
        }
        phx_alloc_fail_nth(0);
        phx_http_parser_done(&p);
        assert_int_equal(phx_alloc_count().n_live, n_live);
        if (rc == PHX_OK)
            break;
        assert_true(nth < 100);
    }
    assert_int_equal(n_done, 2);
}

static void test_addresses(void **state)
{
    static const struct {
        const char *host;
        const char *text;
        bool is_loopback;
    } cases[] = {
        {"localhost", "127.0.0.1", true},
        {"127.9.9.9", "127.9.9.9", true},
        {"[::1]", "::1", true},
        {"::", "::", false},
        {"0.0.0.0", "0.0.0.0", false},
        {"::ffff:127.0.0.1", "127.0.0.1", true},
        {"128.0.0.1", "128.0.0.1", false},
    };
    phx_http_address a;
    phx_http_address b;
    char text[PHX_HTTP_ADDRESS_TEXT];
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(phx_http_address_parse(cases[i].host, 1, &a, NULL), PHX_OK);
        phx_http_address_text(&a, text);
        assert_string_equal(text, cases[i].text);
        assert_int_equal(phx_http_address_is_loopback(&a), cases[i].is_loopback);
    }
    /* One /64 is one client, and IPv4 inside IPv6 is IPv4. */
    static const struct {
        const char *a;
        const char *b;
        bool same;
    } pairs[] = {
        {"2001:db8:1:2:3::4", "2001:db8:1:2:ffff::1", true},
        {"2001:db8:1:2::1", "2001:db8:1:3::1", false},
        {"10.0.0.1", "::ffff:10.0.0.1", true},
        {"10.0.0.1", "10.0.0.2", false},
        {"::1", "127.0.0.1", false},
    };
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        assert_int_equal(phx_http_address_parse(pairs[i].a, 1, &a, NULL), PHX_OK);
        assert_int_equal(phx_http_address_parse(pairs[i].b, 2, &b, NULL), PHX_OK);
        const phx_http_peer peers[] = {phx_http_peer_of(&a), phx_http_peer_of(&b)};
        assert_int_equal(memcmp(&peers[0], &peers[1], sizeof(peers[0])) == 0, pairs[i].same);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
