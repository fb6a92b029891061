/* tests/text/test_tokenizer_tiktoken.c - tiktoken.model as written by strangers: what is refused and by what
 * name, limits at their value and one past, every cut, every allocation failing; where long texts are cut. */
#include "tests/text/tokenizer_fixture.h"
#include "base/alloc.h"
#include "base/rng.h"
#include "coordinator/text/tokenizer_cut.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define CLASS "\"tokenizer_class\":\"TikTokenTokenizer\""
#define CONFIG                                                                                               \
    "{" CLASS ",\"model_max_length\":1000000000000000019884624838656,\"bos_token\":\"<b>\","                 \
    "\"added_tokens_decoder\":{\"258\":{\"content\":\"<b>\",\"special\":true},\"300\":{\"content\":\"<t>\"}" \
    "}}"

static void put_line(phx_buf *buf, const uint8_t *bytes, size_t n, size_t rank)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t at = 0; at < n; at += 3) {
        const size_t left = n - at < 3 ? n - at : 3;
        uint32_t bits = (uint32_t)bytes[at] << 16;
        if (left > 1)
            bits |= (uint32_t)bytes[at + 1] << 8;
        if (left > 2)
            bits |= bytes[at + 2];
        for (size_t i = 0; i < 4; i++)
            (void)phx_buf_char(buf, i <= left ? digits[bits >> (18 - 6 * i) & 63] : '=');
    }
    (void)phx_buf_printf(buf, " %zu\n", rank);
}

/* 256 bytes (id = byte), ab = 256, abc = 257. */
static void small_ranks(phx_buf *ranks)
{
    phx_buf_init(ranks, 128u << 20);
    for (size_t i = 0; i < 256; i++)
        put_line(ranks, &(uint8_t){(uint8_t)i}, 1, i);
    put_line(ranks, (const uint8_t *)"ab", 2, 256);
    put_line(ranks, (const uint8_t *)"abc", 3, 257);
}

static phx_code parse(const phx_buf *ranks, const char *config, phx_tokenizer **ret_t, phx_error *err)
{
    return phx_tokenizer_parse_tiktoken(fixture_bytes(ranks),
                                        (phx_bytes){(const uint8_t *)config, strlen(config)}, ret_t, err);
}

static void test_small(void **state)
{
    (void)state;
    phx_buf ranks;
    phx_tokenizer *t = NULL;
    phx_error err = {0};
    uint32_t id = 0;
    size_t n = 0;
    small_ranks(&ranks);
    if (parse(&ranks, CONFIG, &t, &err) != PHX_OK)
        fail_msg("%s", err.text);
    assert_int_equal(phx_tokenizer_n_vocab(t), 258 + 256);
    assert_int_equal(phx_tokenizer_bos(t), 258);
    assert_int_equal(phx_tokenizer_eos(t), PHX_TOKEN_NONE);
    assert_false(phx_tokenizer_is_special(t, 300));
    assert_true(phx_tokenizer_id_of(t, phx_str_of("<|reserved_token_513|>"), &id));
    assert_int_equal(id, 513);
    uint32_t *ids = fixture_encode(t, phx_str_of("abc<t>abca<b>"), true, &n);
    const uint32_t want[] = {257, 300, 257, 'a', 258};
    assert_int_equal(n, 5);
    assert_memory_equal(ids, want, sizeof(want));
    phx_free(ids);
    phx_tokenizer_destroy(t);
    phx_buf_done(&ranks);
}

/* Lines added to the small file. */
static void check_refused(const char *lines, const char *config, phx_code code, const char *word)
{
    phx_buf ranks;
    phx_tokenizer *t = NULL;
    phx_error err = {0};
    small_ranks(&ranks);
    (void)phx_buf_str(&ranks, lines);
    const phx_code rc = parse(&ranks, config, &t, &err);
    if (rc != code || !strstr(err.text, word))
        fail_msg("'%s' '%s': got %d '%s', want %d with '%s'", lines, config, rc, err.text, code, word);
    assert_null(t);
    phx_buf_done(&ranks);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *lines;
        phx_code code;
        const char *word;
    } lines[] = {
        {"YWJjZA==\n", PHX_ERR_CORRUPT, "line 259 has no rank"},
        {"YWJjZA== \n", PHX_ERR_CORRUPT, "line 259 has no rank"},
        {"YWJjZA== 2x\n", PHX_ERR_CORRUPT, "line 259 has no rank"},
        {"YWJjZA== -1\n", PHX_ERR_CORRUPT, "line 259 has no rank"},
        {"YWJjZA== 258\r\n", PHX_ERR_CORRUPT, "line 259 has no rank"},
        {"YWJjZA== 257\n", PHX_ERR_CORRUPT, "259 lines, but ranks end at 258"},
        {"YWJjZA== 259\n", PHX_ERR_CORRUPT, "259 lines, but ranks end at 260"},
        {"YWJjZA== 99999999999999999999\n", PHX_ERR_TOO_LONG, "ids end at"},
        {"YWJj 258\n", PHX_ERR_CORRUPT, "line 259: its token is there twice"},
        {"YWJjZA== 300\nYWJjZQ== 300\n", PHX_ERR_CORRUPT, "260 lines"},
        {"YWJjZA== 259\nYWJjZQ== 259\n", PHX_ERR_CORRUPT, "rank 259 is there twice"},
        {" 258\n", PHX_ERR_CORRUPT, "base64"},
        {"YWJjZA= 258\n", PHX_ERR_CORRUPT, "base64"},
        {"YWJjZB== 258\n", PHX_ERR_CORRUPT, "base64"},
        {"YW=jZA== 258\n", PHX_ERR_CORRUPT, "base64"},
        {"==== 258\n", PHX_ERR_CORRUPT, "base64"},
        {"YW Jj 258\n", PHX_ERR_CORRUPT, "rank"},
        {"\n", PHX_ERR_CORRUPT, "rank"},
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        check_refused(lines[i].lines, CONFIG, lines[i].code, lines[i].word);
    static const struct {
        const char *config;
        phx_code code;
        const char *word;
    } configs[] = {
        {"", PHX_ERR_CORRUPT, "tokenizer_config.json: empty"},
        {"[]", PHX_ERR_CORRUPT, "not an object"},
        {"{}", PHX_ERR_UNSUPPORTED, "tokenizer_class ''"},
        {"{\"tokenizer_class\":\"QWenTokenizer\"}", PHX_ERR_UNSUPPORTED, "QWenTokenizer"},
        {"{" CLASS ",\"auto_map\":{\"AutoTokenizer\":[\"tokenization_internlm.X\",null]}}",
         PHX_ERR_UNSUPPORTED, "tokenization_internlm.X"},
        {"{" CLASS "}", PHX_ERR_CORRUPT, "added_tokens_decoder"},
        {"{" CLASS ",\"added_tokens_decoder\":{\"257\":{\"content\":\"x\"}}}", PHX_ERR_CORRUPT, "'257'"},
        {"{" CLASS ",\"added_tokens_decoder\":{\"514\":{\"content\":\"x\"}}}", PHX_ERR_CORRUPT, "'514'"},
        {"{" CLASS ",\"added_tokens_decoder\":{\"0258\":{\"content\":\"x\"}}}", PHX_ERR_CORRUPT, "'0258'"},
        {"{" CLASS ",\"added_tokens_decoder\":{\"258\":{\"content\":\"\"}}}", PHX_ERR_CORRUPT, "no content"},
        {"{" CLASS ",\"added_tokens_decoder\":{\"258\":3}}", PHX_ERR_CORRUPT, "no content"},
        {"{" CLASS ",\"added_tokens_decoder\":{\"258\":{\"content\":\"x\",\"lstrip\":true}}}",
         PHX_ERR_UNSUPPORTED, "lstrip"},
        {"{" CLASS ",\"added_tokens_decoder\":{\"258\":{\"content\":\"x\"},\"259\":{\"content\":\"x\"}}}",
         PHX_ERR_CORRUPT, "listed twice"},
        {"{" CLASS ",\"bos_token\":\"nowhere\",\"added_tokens_decoder\":{}}", PHX_ERR_CORRUPT, "nowhere"},
    };
    for (size_t i = 0; i < sizeof(configs) / sizeof(configs[0]); i++)
        check_refused("", configs[i].config, configs[i].code, configs[i].word);
}

static phx_code parse_with_piece(size_t n_bytes)
{
    phx_buf ranks;
    phx_tokenizer *t = NULL;
    uint8_t *bytes = phx_alloc(n_bytes, 1);
    assert_non_null(bytes);
    small_ranks(&ranks);
    put_line(&ranks, bytes, n_bytes, 258);
    const phx_code rc = parse(&ranks, "{" CLASS ",\"added_tokens_decoder\":{}}", &t, NULL);
    phx_tokenizer_destroy(t);
    phx_free(bytes);
    phx_buf_done(&ranks);
    return rc;
}

/* Ranks 0 to n - 1 in a file; the file of none but bytes when n is 256. */
static phx_code parse_n_ranks(size_t n)
{
    phx_buf ranks;
    phx_tokenizer *t = NULL;
    phx_buf_init(&ranks, 128u << 20);
    for (size_t i = 0; i < n; i++) {
        const uint8_t bytes[4] = {(uint8_t)(i - 256), (uint8_t)((i - 256) >> 8), (uint8_t)((i - 256) >> 16),
                                  0};
        if (i < 256)
            put_line(&ranks, &(uint8_t){(uint8_t)i}, 1, i);
        else
            put_line(&ranks, bytes, 4, i);
    }
    assert_int_equal(ranks.code, PHX_OK);
    const phx_code rc = parse(&ranks, "{" CLASS ",\"added_tokens_decoder\":{}}", &t, NULL);
    phx_tokenizer_destroy(t);
    phx_buf_done(&ranks);
    return rc;
}

static phx_code parse_with_name(size_t n_bytes)
{
    phx_buf ranks;
    phx_buf config;
    phx_tokenizer *t = NULL;
    phx_buf_init(&config, 1u << 16);
    (void)phx_buf_str(&config, "{" CLASS ",\"added_tokens_decoder\":{\"258\":{\"content\":\"");
    for (size_t i = 0; i < n_bytes; i++)
        (void)phx_buf_char(&config, 'x');
    (void)phx_buf_str(&config, "\"}}}");
    (void)phx_buf_char(&config, 0);
    small_ranks(&ranks);
    const phx_code rc = parse(&ranks, config.ptr, &t, NULL);
    phx_tokenizer_destroy(t);
    phx_buf_done(&config);
    phx_buf_done(&ranks);
    return rc;
}

static void test_limits(void **state)
{
    (void)state;
    assert_int_equal(parse_with_piece(PHX_TOKENIZER_PIECE_BYTES_MAX), PHX_OK);
    assert_int_equal(parse_with_piece(PHX_TOKENIZER_PIECE_BYTES_MAX + 1), PHX_ERR_TOO_LONG);
    assert_int_equal(parse_with_name(PHX_TOKENIZER_ADDED_BYTES_MAX), PHX_OK);
    assert_int_equal(parse_with_name(PHX_TOKENIZER_ADDED_BYTES_MAX + 1), PHX_ERR_TOO_LONG);
    assert_int_equal(parse_n_ranks(PHX_TOKENIZER_IDS_MAX - 256), PHX_OK);
    assert_int_equal(parse_n_ranks(PHX_TOKENIZER_IDS_MAX - 255), PHX_ERR_TOO_LONG);
}

static void test_file_limit(void **state)
{
    (void)state;
    phx_tokenizer *t = NULL;
    phx_error err = {0};
    uint8_t *file = phx_alloc(PHX_TOKENIZER_FILE_BYTES_MAX + 1, 1);
    assert_non_null(file);
    const phx_bytes config = {(const uint8_t *)CONFIG, sizeof(CONFIG) - 1};
    for (size_t past = 0; past < 2; past++) {
        const phx_bytes ranks = {file, PHX_TOKENIZER_FILE_BYTES_MAX + past};
        assert_int_equal(phx_tokenizer_parse_tiktoken(ranks, config, &t, &err),
                         past ? PHX_ERR_TOO_LONG : PHX_ERR_CORRUPT);
    }
    phx_free(file);
}

/* Until all single bytes are there no cut may pass, and behind them only one at a line's end. */
static void test_cuts(void **state)
{
    (void)state;
    phx_buf ranks;
    small_ranks(&ranks);
    const size_t n_bytes = (size_t)(strstr(ranks.ptr, "YWI= 256") - ranks.ptr);
    for (size_t n = 0; n <= ranks.n; n++) {
        phx_tokenizer *t = NULL;
        phx_error err = {0};
        const phx_bytes cut = {(const uint8_t *)ranks.ptr, n};
        const phx_code rc = phx_tokenizer_parse_tiktoken(
            cut, (phx_bytes){(const uint8_t *)CONFIG, sizeof(CONFIG) - 1}, &t, &err);
        const bool at_end = n == ranks.n || ranks.ptr[n] == '\n' || (n > 0 && ranks.ptr[n - 1] == '\n');
        assert_int_equal(rc == PHX_OK, n + 1 >= n_bytes && at_end);
        assert_int_equal(rc == PHX_OK, err.text[0] == 0);
        phx_tokenizer_destroy(t);
    }
    phx_buf_done(&ranks);
}

static void test_allocations_fail(void **state)
{
    (void)state;
    phx_buf ranks;
    bool done = false;
    small_ranks(&ranks);
    const uint64_t n_live = phx_alloc_count().n_live;
    for (uint64_t nth = 1; !done; nth++) {
        phx_tokenizer *t = NULL;
        phx_error err = {0};
        assert_true(nth < 100);
        phx_alloc_fail_nth(nth);
        const phx_code rc = parse(&ranks, CONFIG, &t, &err);
        phx_alloc_fail_nth(0);
        done = rc == PHX_OK;
        assert_true(done || rc == PHX_ERR_NOMEM);
        phx_tokenizer_destroy(t);
        assert_int_equal(phx_alloc_count().n_live, n_live);
    }
    phx_buf_done(&ranks);
}

/* ---- parts of a long text ---- */

/* The walk of Kimi's program, written down again: characters, blocks of 400,000, runs of 25,000. */
static size_t cut_by_hand(const char *text, size_t n, size_t *cuts)
{
    size_t n_cuts = 0;
    for (size_t block = 0; block < n; block += PHX_TEXT_CUT_CHARS) {
        const size_t block_end = n - block < PHX_TEXT_CUT_CHARS ? n : block + PHX_TEXT_CUT_CHARS;
        bool space = text[block] == ' ' || text[block] == '\x1C';
        size_t run = 0;
        for (size_t i = block; i < block_end; i++) {
            const bool now = text[i] == ' ' || text[i] == '\x1C';
            if (now != space) {
                run = 1;
                space = now;
            } else if (++run > PHX_TEXT_CUT_RUN) {
                cuts[n_cuts++] = i;
                run = 1;
            }
        }
        cuts[n_cuts++] = block_end;
    }
    return n_cuts;
}

static void check_parts(const char *text, size_t n)
{
    size_t want[256];
    size_t n_parts = 0;
    const size_t n_want = cut_by_hand(text, n, want);
    for (phx_text_cut cut = {0}; cut.at < n; n_parts++) {
        phx_text_cut_next((phx_str){text, n}, &cut);
        assert_true(n_parts < n_want);
        assert_int_equal(cut.at, want[n_parts]);
    }
    assert_int_equal(n_parts, n_want);
}

static void test_parts(void **state)
{
    (void)state;
    enum { BYTES = 1000000 };
    phx_rng rng = {4, 0};
    char *text = phx_alloc(BYTES, 1);
    assert_non_null(text);
    for (int round = 0; round < 6; round++) {
        for (size_t at = 0; at < BYTES;) {
            size_t run = phx_rng_below(&rng, round % 2 ? 60000 : 40) + 1;
            const char c = "x \x1C"[phx_rng_below(&rng, 3)];
            for (; run > 0 && at < BYTES; run--)
                text[at++] = c;
        }
        check_parts(text, BYTES);
    }
    for (size_t n = PHX_TEXT_CUT_RUN - 1; n <= PHX_TEXT_CUT_RUN + 1; n++) {
        memset(text, 'x', n);
        check_parts(text, n);
    }
    phx_free(text);
}

/* A merge does not cross a cut: 25,001 letters "ab..." are cut so that the last stands alone. */
static void test_parts_in_ids(void **state)
{
    (void)state;
    phx_buf ranks;
    phx_buf text;
    phx_tokenizer *t = NULL;
    size_t n = 0;
    small_ranks(&ranks);
    assert_int_equal(parse(&ranks, CONFIG, &t, NULL), PHX_OK);
    phx_buf_init(&text, 1u << 20);
    (void)phx_buf_char(&text, 'x');
    while (text.n < PHX_TEXT_CUT_RUN + 1)
        (void)phx_buf_str(&text, "ab");
    uint32_t *ids = fixture_encode(t, phx_buf_view(&text), false, &n);
    assert_int_equal(n, 1 + (PHX_TEXT_CUT_RUN - 2) / 2 + 2 + (text.n - PHX_TEXT_CUT_RUN - 1) / 2 + 0);
    assert_int_equal(ids[0], 'x');
    assert_int_equal(ids[1], 256);
    phx_free(ids);
    phx_buf_done(&text);
    phx_buf_done(&ranks);
    phx_tokenizer_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small),        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_limits),       cmocka_unit_test(test_file_limit),
        cmocka_unit_test(test_cuts),         cmocka_unit_test(test_parts),
        cmocka_unit_test(test_parts_in_ids), cmocka_unit_test(test_allocations_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
