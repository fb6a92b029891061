/* tests/text/test_detokenize.c - streams of ids into text, and stop strings, at every cut. */
#include "tests/text/tokenizer_fixture.h"
#include "base/alloc.h"
#include "base/rng.h"
#include "coordinator/text/detokenize.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

typedef struct fixture {
    phx_tokenizer *demo;
    uint32_t byte_ids[256]; /* the ids of the single bytes: any bytes can be fed */
} fixture;

/* Feeds the bytes one id each; every chunk must be whole characters. */
static void detokenize(const fixture *f, phx_bytes bytes, phx_buf *text)
{
    phx_detokenizer d;
    phx_detokenizer_init(&d, f->demo, true);
    phx_buf_init(text, 1u << 20);
    for (size_t i = 0; i < bytes.n; i++) {
        const size_t n_before = text->n;
        assert_int_equal(phx_detokenizer_feed(&d, f->byte_ids[bytes.ptr[i]], text), PHX_OK);
        assert_true(text->n == n_before || phx_utf8_valid(text->ptr + n_before, text->n - n_before));
    }
    assert_int_equal(phx_detokenizer_flush(&d, text), PHX_OK);
    assert_int_equal(phx_detokenizer_flush(&d, text), PHX_OK);
    assert_true(text->n == 0 || phx_utf8_valid(text->ptr, text->n));
}

/* Expected texts are those of Python 3.11: bytes.decode("utf-8", "replace"). */
static void test_replacement(void **state)
{
    static const struct {
        const char *bytes;
        const char *text;
    } cases[] = {
        {"abc", "abc"},
        {"\xE2\x82\xAC", "\xE2\x82\xAC"},
        {"\xE2\x82", "\xEF\xBF\xBD"},
        {"\xE2\x82\x41", "\xEF\xBF\xBD\x41"},
        {"\xF0\x9F\x98\x80", "\xF0\x9F\x98\x80"},
        {"\xF0\x9F\x98", "\xEF\xBF\xBD"},
        {"\xF0\x9F\x41", "\xEF\xBF\xBD\x41"},
        {"\xF0\x80\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xC0\xAF", "\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xFF\xFE", "\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xF4\x90\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xE2\x82\xE2\x82\xAC", "\xEF\xBF\xBD\xE2\x82\xAC"},
        {"\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64",
         "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\x62\xEF\xBF\xBD\x63\xEF\xBF\xBD\xEF\xBF\xBD\x64"},
        {"\xE0\x80\xAF", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xC2\xC2\xA9", "\xEF\xBF\xBD\xC2\xA9"},
        {"\xF8\x88\x80\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\x61\xC3", "\x61\xEF\xBF\xBD"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        phx_buf text;
        detokenize(*state, (phx_bytes){(const uint8_t *)cases[i].bytes, strlen(cases[i].bytes)}, &text);
        assert_string_equal(text.ptr, cases[i].text);
        phx_buf_done(&text);
    }
}

/* True when the bytes begin some character, by trying to complete them. */
static bool begins_character(const uint8_t *bytes, size_t n)
{
    static const uint8_t fill[] = {0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF};
    const size_t n_fill = sizeof(fill);
    for (size_t try = 0; try < n_fill * n_fill * n_fill; try++) {
        uint8_t whole[7];
        memcpy(whole, bytes, n);
        whole[n] = fill[try % n_fill];
        whole[n + 1] = fill[try / n_fill % n_fill];
        whole[n + 2] = fill[try / n_fill / n_fill];
        for (size_t n_whole = n + 1; n_whole <= 4; n_whole++) {
            /* One character: no shorter beginning of it is valid by itself. */
            if (phx_utf8_valid((const char *)whole, n_whole) && bytes[0] >= 0xC0)
                return true;
        }
    }
    return false;
}

/* The same replacement over the whole text at once, with another method. */
static void replace_whole(phx_bytes bytes, phx_buf *text)
{
    phx_buf_init(text, 1u << 20);
    for (size_t at = 0; at < bytes.n;) {
        const size_t n_left = bytes.n - at;
        const uint8_t *p = bytes.ptr + at;
        size_t n = 1;
        while (n <= 4 && n <= n_left && !phx_utf8_valid((const char *)p, n))
            n++;
        if (n <= 4 && n <= n_left) {
            (void)phx_buf_append(text, p, n);
            at += n;
            continue;
        }
        n = 1;
        while (n < 3 && n < n_left && begins_character(p, n + 1))
            n++;
        (void)phx_buf_str(text, "\xEF\xBF\xBD");
        at += n;
    }
    (void)phx_buf_str(text, "");
}

static void test_random_bytes(void **state)
{
    static const uint8_t likely[] = {0x41, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC1, 0xC2,
                                     0xE0, 0xE2, 0xED, 0xEF, 0xF0, 0xF3, 0xF4, 0xF5};
    phx_rng rng = {7, 0};
    for (int round = 0; round < 4000; round++) {
        uint8_t bytes[24];
        const uint32_t n = phx_rng_below(&rng, sizeof(bytes) + 1);
        for (uint32_t i = 0; i < n; i++)
            bytes[i] = likely[phx_rng_below(&rng, sizeof(likely))];
        phx_buf got;
        phx_buf want;
        detokenize(*state, (phx_bytes){bytes, n}, &got);
        replace_whole((phx_bytes){bytes, n}, &want);
        assert_true(phx_str_eq(phx_buf_view(&got), phx_buf_view(&want)));
        phx_buf_done(&got);
        phx_buf_done(&want);
    }
}

static void test_special(void **state)
{
    const fixture *f = *state;
    uint32_t think = 0;
    assert_true(phx_tokenizer_id_of(f->demo, phx_str_of("<think>"), &think));
    for (int skip = 0; skip <= 1; skip++) {
        phx_detokenizer d;
        phx_buf text;
        phx_buf_init(&text, 1000);
        phx_detokenizer_init(&d, f->demo, skip);
        (void)phx_detokenizer_feed(&d, f->byte_ids[0xC3], &text);
        (void)phx_detokenizer_feed(&d, phx_tokenizer_eos(f->demo), &text);
        (void)phx_detokenizer_feed(&d, phx_tokenizer_n_vocab(f->demo), &text); /* padding of the vocabulary */
        (void)phx_detokenizer_feed(&d, UINT32_MAX, &text);
        (void)phx_detokenizer_feed(&d, f->byte_ids[0xA9], &text);
        (void)phx_detokenizer_feed(&d, think, &text);
        (void)phx_detokenizer_flush(&d, &text);
        assert_string_equal(text.ptr, skip ? "\u00E9<think>"
                                           : "\uFFFD<\uFF5Cend\u2581of\u2581sentence\uFF5C>\uFFFD<think>");
        phx_buf_done(&text);
    }
}

static void test_buffer_ceiling(void **state)
{
    const fixture *f = *state;
    phx_detokenizer d;
    phx_buf text;
    phx_buf_init(&text, 2);
    phx_detokenizer_init(&d, f->demo, false);
    assert_int_equal(phx_detokenizer_feed(&d, f->byte_ids['a'], &text), PHX_OK);
    assert_int_equal(phx_detokenizer_feed(&d, f->byte_ids['b'], &text), PHX_OK);
    assert_int_equal(phx_detokenizer_feed(&d, f->byte_ids['c'], &text), PHX_ERR_TOO_LONG);
    phx_buf_done(&text);
}

/* ---- stop strings */

typedef struct stop_case {
    phx_str stops[PHX_STOP_STRINGS_MAX];
    size_t n_stops;
    phx_str text;
    bool include_stop;
} stop_case;

/* First end, then longest, by looking at every end. Returns the number of bytes that come out at the end of
 * the stream. */
static size_t expected_match(const stop_case *c, uint32_t *ret_match)
{
    *ret_match = PHX_STOP_NONE;
    for (size_t end = 1; end <= c->text.n; end++) {
        size_t n_longest = 0;
        for (size_t i = 0; i < c->n_stops; i++) {
            if (c->stops[i].n > n_longest && phx_str_ends((phx_str){c->text.ptr, end}, c->stops[i])) {
                n_longest = c->stops[i].n;
                *ret_match = (uint32_t)i;
            }
        }
        if (n_longest > 0)
            return c->include_stop ? end : end - n_longest;
    }
    return c->text.n;
}

/* The longest end of the text that begins a stop string: must be held back, and no more than that. */
static size_t expected_held(const stop_case *c, size_t n_fed)
{
    size_t n_held = 0;
    for (size_t i = 0; i < c->n_stops; i++) {
        for (size_t n = 1; n <= c->stops[i].n && n <= n_fed; n++) {
            if (n > n_held && memcmp(c->text.ptr + n_fed - n, c->stops[i].ptr, n) == 0)
                n_held = n;
        }
    }
    return n_held;
}

/* Feeds chunks of the sizes that rng draws (NULL: one byte each). */
static void check_stop(const stop_case *c, phx_rng *rng)
{
    phx_stop_matcher *m = NULL;
    phx_error err = {0};
    phx_buf out;
    uint32_t want_match = 0;
    phx_buf_init(&out, 4096);
    (void)phx_buf_str(&out, "");
    assert_int_equal(phx_stop_matcher_create(c->stops, c->n_stops, c->include_stop, &m, &err), PHX_OK);
    const size_t n_want = expected_match(c, &want_match);
    for (size_t at = 0; at < c->text.n;) {
        size_t n = rng ? phx_rng_below(rng, 5) : 1;
        n = n < c->text.n - at ? n : c->text.n - at;
        assert_int_equal(phx_stop_matcher_feed(m, (phx_str){c->text.ptr + at, n}, &out), PHX_OK);
        at += n;
        if (phx_stop_matcher_match(m) == PHX_STOP_NONE)
            assert_int_equal(out.n, at - expected_held(c, at));
        else
            assert_int_equal(out.n, n_want);
    }
    assert_int_equal(phx_stop_matcher_flush(m, &out), PHX_OK);
    assert_int_equal(phx_stop_matcher_match(m), want_match);
    assert_true(phx_str_eq(phx_buf_view(&out), (phx_str){c->text.ptr, n_want}));
    phx_buf_done(&out);
    phx_stop_matcher_destroy(m);
}

static void test_stop_cases(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *stops[4];
    } cases[] = {
        {"hello world", {"wor"}},
        {"hello world", {"xyz"}},
        {"aab", {"ab"}},
        {"aaab", {"aab", "b"}},
        {"abcd", {"abce", "bc"}},
        {"abcabd", {"abd"}},
        {"\u20AC\u20AD", {"\u20AD"}},
        {"\u00E9\u00E8", {"\u00E8"}},
        {"end\n\nUser:", {"\n\nUser:", "\n\nUs"}},
        {"abab", {"abab", "bab", "ab"}},
        {"stop", {"stop"}},
        {"text", {NULL}},
        {"aXbYc", {"Yc", "Xb", "bY"}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        stop_case c = {.text = phx_str_of(cases[i].text)};
        while (c.n_stops < 4 && cases[i].stops[c.n_stops]) {
            c.stops[c.n_stops] = phx_str_of(cases[i].stops[c.n_stops]);
            c.n_stops++;
        }
        for (int include = 0; include <= 1; include++) {
            c.include_stop = include;
            check_stop(&c, NULL);
        }
    }
}

static void test_stop_random(void **state)
{
    (void)state;
    phx_rng rng = {11, 0};
    for (int round = 0; round < 20000; round++) {
        char text[40];
        char stops[PHX_STOP_STRINGS_MAX][8];
        stop_case c = {.include_stop = phx_rng_below(&rng, 2)};
        c.n_stops = phx_rng_below(&rng, PHX_STOP_STRINGS_MAX + 1);
        const uint32_t n_letters = 1 + phx_rng_below(&rng, 3);
        for (size_t i = 0; i < c.n_stops; i++) {
            const uint32_t n = 1 + phx_rng_below(&rng, sizeof(stops[i]));
            for (uint32_t k = 0; k < n; k++)
                stops[i][k] = (char)('a' + phx_rng_below(&rng, n_letters));
            c.stops[i] = (phx_str){stops[i], n};
        }
        c.text = (phx_str){text, phx_rng_below(&rng, sizeof(text) + 1)};
        for (size_t k = 0; k < c.text.n; k++)
            text[k] = (char)('a' + phx_rng_below(&rng, n_letters));
        check_stop(&c, &rng);
    }
}

static void test_stop_limits(void **state)
{
    (void)state;
    char longest[PHX_STOP_BYTES_MAX + 1];
    char text[2 * PHX_STOP_BYTES_MAX];
    phx_str stops[PHX_STOP_STRINGS_MAX + 1];
    phx_stop_matcher *m = NULL;
    memset(longest, 'a', sizeof(longest));
    memset(text, 'a', sizeof(text));
    text[PHX_STOP_BYTES_MAX - 1] = 'b';
    for (size_t i = 0; i <= PHX_STOP_STRINGS_MAX; i++)
        stops[i] = (phx_str){longest, PHX_STOP_BYTES_MAX};
    assert_int_equal(phx_stop_matcher_create(stops, PHX_STOP_STRINGS_MAX + 1, false, &m, NULL),
                     PHX_ERR_TOO_LONG);
    stops[0].n++;
    assert_int_equal(phx_stop_matcher_create(stops, 1, false, &m, NULL), PHX_ERR_TOO_LONG);
    stops[0].n = 0;
    assert_int_equal(phx_stop_matcher_create(stops, 1, false, &m, NULL), PHX_ERR_INVALID);
    stops[0] = (phx_str){"\xC3", 1};
    assert_int_equal(phx_stop_matcher_create(stops, 1, false, &m, NULL), PHX_ERR_INVALID);
    assert_null(m);
    stop_case c = {.n_stops = PHX_STOP_STRINGS_MAX, .text = {text, sizeof(text)}};
    for (size_t i = 0; i < PHX_STOP_STRINGS_MAX; i++)
        c.stops[i] = stops[PHX_STOP_STRINGS_MAX];
    check_stop(&c, NULL);
}

int main(void)
{
    if (!fixture_present())
        return 77;
    fixture f = {.demo = fixture_tokenizer("demo/tokenizer.json", "demo/tokenizer_config.json")};
    for (uint32_t id = 0; id < phx_tokenizer_n_vocab(f.demo); id++) {
        phx_str piece;
        if (phx_tokenizer_piece(f.demo, id, &piece) && piece.n == 1)
            f.byte_ids[(uint8_t)piece.ptr[0]] = id;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_replacement, &f),
        cmocka_unit_test_prestate(test_random_bytes, &f),
        cmocka_unit_test_prestate(test_special, &f),
        cmocka_unit_test_prestate(test_buffer_ceiling, &f),
        cmocka_unit_test(test_stop_cases),
        cmocka_unit_test(test_stop_random),
        cmocka_unit_test(test_stop_limits),
    };
    const int rc = cmocka_run_group_tests(tests, NULL, NULL);
    phx_tokenizer_destroy(f.demo);
    return rc;
}
