/* tests/text/test_tokenizer_parse.c - tokenizer.json as written by strangers: what is refused and by what
 * name, every cut and flipped bytes, every allocation failing. */
#include "tests/text/tokenizer_fixture.h"
#include "base/alloc.h"
#include "base/rng.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define PATTERN_1 "\\\\p{N}{1,3}"
#define PATTERN_2 "[\\u4e00-\\u9fa5\\u3040-\\u309f\\u30a0-\\u30ff]+"
#define PATTERN_3                                                                                          \
    "[!\\\"#$%&'()*+,\\\\-./:;<=>?@\\\\[\\\\\\\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\\\p{L}\\\\p{P}\\\\p{S}]?" \
    "[\\\\p{L}\\\\p{M}]+| ?[\\\\p{P}\\\\p{S}]+[\\r\\n]*|\\\\s*[\\r\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define SPLIT(pattern)                                                                                  \
    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" pattern "\"},\"behavior\":\"Isolated\",\"invert\":" \
    "false}"

#define CONFIG \
    "{\"add_bos_token\":true,\"bos_token\":{\"content\":\"<b>\"},\"eos_token\":\"<e>\",\"pad_token\":null}"

/* A whole tokenizer: 256 bytes (id = byte), ab = 256, abc = 257, <b> = 258, <e> = 259, <t> = 300. */
static void small_json(phx_buf *json)
{
    phx_buf_init(json, 1u << 16);
    (void)phx_buf_str(
        json, "{\"added_tokens\":["
              "{\"id\":258,\"content\":\"<b>\",\"normalized\":false,\"special\":true},"
              "{\"id\":259,\"content\":\"<e>\",\"lstrip\":false,\"special\":true},"
              "{\"id\":300,\"content\":\"<t>\",\"normalized\":true,\"special\":false}],"
              "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[]},"
              "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[" SPLIT(PATTERN_1) "," SPLIT(
                  PATTERN_2) "," SPLIT(PATTERN_3) ","
                                                  "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_"
                                                  "regex\":false}]},"
                                                  "\"post_processor\":{\"type\":\"ByteLevel\"},\"decoder\":{"
                                                  "\"type\":\"ByteLevel\"},"
                                                  "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"ignore_"
                                                  "merges\":false,\"vocab\":{");
    for (unsigned byte = 0, next = 256; byte < 256; byte++) {
        const bool prints = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
        (void)phx_buf_printf(json, "\"\\u%04x\":%u,", prints ? byte : next, byte);
        next += !prints;
    }
    (void)phx_buf_str(json, "\"ab\":256,\"abc\":257},\"merges\":[\"a b\",[\"ab\",\"c\"]]}}");
    assert_int_equal(json->code, PHX_OK);
}

static phx_code parse(phx_str json, const char *config, phx_tokenizer **ret_tokenizer, phx_error *err)
{
    return phx_tokenizer_parse((phx_bytes){(const uint8_t *)json.ptr, json.n},
                               (phx_bytes){(const uint8_t *)config, strlen(config)}, ret_tokenizer, err);
}

static void check_ids(const phx_tokenizer *t, const char *text, const uint32_t *want, size_t n_want)
{
    size_t n = 0;
    uint32_t *ids = fixture_encode(t, phx_str_of(text), true, &n);
    assert_int_equal(n, n_want);
    assert_memory_equal(ids, want, n * sizeof(*ids));
    phx_free(ids);
}

static void test_small(void **state)
{
    (void)state;
    phx_buf json;
    phx_tokenizer *t = NULL;
    phx_error err = {0};
    phx_str piece;
    small_json(&json);
    assert_int_equal(parse(phx_buf_view(&json), CONFIG, &t, &err), PHX_OK);
    check_ids(t, "<b>abcab <t>\xC3\xA9", (const uint32_t[]){258, 257, 256, ' ', 300, 0xC3, 0xA9}, 7);
    assert_int_equal(phx_tokenizer_n_vocab(t), 301);
    assert_int_equal(phx_tokenizer_bos(t), 258);
    assert_int_equal(phx_tokenizer_eos(t), 259);
    assert_true(phx_tokenizer_is_special(t, 259));
    assert_false(phx_tokenizer_is_special(t, 300));
    assert_false(phx_tokenizer_piece(t, 270, &piece)); /* a hole */
    assert_true(phx_tokenizer_piece(t, 257, &piece));
    assert_true(phx_str_is(piece, "abc"));
    phx_tokenizer_destroy(t);
    t = NULL;
    assert_int_equal(parse(phx_buf_view(&json), "", &t, &err), PHX_OK);
    assert_int_equal(phx_tokenizer_bos(t), PHX_TOKEN_NONE);
    assert_false(phx_tokenizer_adds_bos(t));
    size_t n = 0;
    uint32_t ids[4];
    const phx_encode_args args = {.text = {"a", 1}, .add_bos = true, .ids = ids, .n_ids_max = 4};
    assert_int_equal(phx_tokenizer_encode(t, &args, &n, &err), PHX_ERR_INVALID);
    phx_tokenizer_destroy(t);
    phx_buf_done(&json);
}

/* json with its first `from` replaced by `to`. */
static void replaced(const phx_buf *json, const char *from, const char *to, phx_buf *ret_json)
{
    const char *at = strstr(json->ptr, from);
    assert_non_null(at);
    phx_buf_init(ret_json, 1u << 20);
    (void)phx_buf_append(ret_json, json->ptr, (size_t)(at - json->ptr));
    (void)phx_buf_str(ret_json, to);
    assert_int_equal(phx_buf_str(ret_json, at + strlen(from)), PHX_OK);
}

typedef struct edit {
    const char *from;
    const char *to;
    phx_code code;
    const char *named; /* part of the error's text */
} edit;

static const edit edits[] = {
    {"\"type\":\"BPE\"", "\"type\":\"Unigram\"", PHX_ERR_UNSUPPORTED, "'Unigram'"},
    {"\"dropout\":null", "\"dropout\":0.1", PHX_ERR_UNSUPPORTED, "'dropout'"},
    {"\"dropout\":null", "\"byte_fallback\":true", PHX_ERR_UNSUPPORTED, "'byte_fallback'"},
    {"\"dropout\":null", "\"continuing_subword_prefix\":\"##\"", PHX_ERR_UNSUPPORTED,
     "continuing_subword_prefix"},
    {"\"normalizers\":[]", "\"normalizers\":[{\"type\":\"NFC\"}]", PHX_ERR_UNSUPPORTED, "normalizer"},
    {"{\"type\":\"Sequence\",\"normalizers\":[]}", "{\"type\":\"NFC\"}", PHX_ERR_UNSUPPORTED, "'NFC'"},
    {"{\"type\":\"Sequence\",\"normalizers\":[]}", "{}", PHX_ERR_UNSUPPORTED, "normalizer"},
    {"\"post_processor\":{\"type\":\"ByteLevel\"}", "\"post_processor\":{\"type\":\"TemplateProcessing\"}",
     PHX_ERR_UNSUPPORTED, "'TemplateProcessing'"},
    {"\"decoder\":{\"type\":\"ByteLevel\"}", "\"decoder\":null", PHX_ERR_UNSUPPORTED, "decoder"},
    {"p{N}{1,3}", "p{N}{1,2}", PHX_ERR_UNSUPPORTED, "\\p{N}{1,2}"},
    {"|\\\\s+(?!\\\\S)", "", PHX_ERR_UNSUPPORTED, "[A-Za-z]+|"},
    {SPLIT(PATTERN_1) ",", "", PHX_ERR_UNSUPPORTED, "2 Splits"},
    {SPLIT(PATTERN_1), "{\"type\":\"Digits\"}", PHX_ERR_UNSUPPORTED, "'Digits'"},
    {"\"behavior\":\"Isolated\"", "\"behavior\":\"Removed\"", PHX_ERR_UNSUPPORTED, "'Removed'"},
    {"\"invert\":false", "\"invert\":true", PHX_ERR_UNSUPPORTED, "inverted"},
    {"\"use_regex\":false", "\"use_regex\":true", PHX_ERR_UNSUPPORTED, "use_regex"},
    {"\"pretokenizers\":[", "\"pretokenizers\":[], \"other\":[", PHX_ERR_UNSUPPORTED, "pre_tokenizer"},
    {"\"id\":258", "\"id\":2097152", PHX_ERR_TOO_LONG, "2097152"},
    {"\"id\":258", "\"id\":-1", PHX_ERR_CORRUPT, "'<b>'"},
    {"\"id\":258", "\"id\":257", PHX_ERR_CORRUPT, "id 257"},
    {"\"id\":258", "\"id\":\"258\"", PHX_ERR_CORRUPT, "'<b>'"},
    {"\"content\":\"<e>\"", "\"content\":\"<b>\"", PHX_ERR_CORRUPT, "twice"},
    {"\"content\":\"<e>\"", "\"content\":\"\"", PHX_ERR_CORRUPT, "no content"},
    {"\"content\":\"<t>\"", "\"content\":\"abc\"", PHX_ERR_CORRUPT, "'abc'"},
    {"\"lstrip\":false", "\"lstrip\":true", PHX_ERR_UNSUPPORTED, "lstrip"},
    {"\"\\u0021\":33,", "", PHX_ERR_CORRUPT, "0x21"},
    {"\"ab\":256", "\"ab\":255", PHX_ERR_CORRUPT, "id 255"},
    {"\"ab\":256", "\"ab\":1.5", PHX_ERR_CORRUPT, "'ab'"},
    {"\"a b\"", "\"ab\"", PHX_ERR_CORRUPT, "merge 0"},
    {"\"a b\"", "\"a b c\"", PHX_ERR_CORRUPT, "merge 0"},
    {"\"a b\"", "[\"a\"]", PHX_ERR_CORRUPT, "merge 0"},
    {"[\"ab\",\"c\"]", "[\"ab\",\"d\"]", PHX_ERR_CORRUPT, "merge 1"},
    {"[\"ab\",\"c\"]", "7", PHX_ERR_CORRUPT, "merge 1"},
    {"\"merges\"", "\"merge\"", PHX_ERR_CORRUPT, "merges"},
    {"\"vocab\"", "\"vocabulary\"", PHX_ERR_CORRUPT, "vocab"},
    {"\"added_tokens\":[", "\"added_tokens\":7,\"other\":[", PHX_ERR_CORRUPT, "added_tokens"},
};

static void test_refused(void **state)
{
    (void)state;
    phx_buf json;
    small_json(&json);
    for (size_t i = 0; i < sizeof(edits) / sizeof(edits[0]); i++) {
        phx_buf bad;
        phx_tokenizer *t = NULL;
        phx_error err = {0};
        replaced(&json, edits[i].from, edits[i].to, &bad);
        assert_int_equal(parse(phx_buf_view(&bad), "", &t, &err), edits[i].code);
        assert_null(t);
        if (!strstr(err.text, edits[i].named))
            fail_msg("'%s' does not name %s", err.text, edits[i].named);
        phx_buf_done(&bad);
    }
    phx_buf_done(&json);
}

static void test_config_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"{", "[]", "{\"bos_token\":\"<x>\"}", "{\"eos_token\":{}}",
                                      "{\"bos_token\":7}"};
    phx_buf json;
    small_json(&json);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        phx_tokenizer *t = NULL;
        phx_error err = {0};
        assert_int_equal(parse(phx_buf_view(&json), bad[i], &t, &err), PHX_ERR_CORRUPT);
        assert_non_null(strstr(err.text, "tokenizer_config.json"));
    }
    phx_buf_done(&json);
}

/* A vocabulary with one key of n_bytes letters. */
static phx_code parse_with_key(const phx_buf *json, const char *from, size_t n_bytes)
{
    char *text = phx_alloc(n_bytes + 64, 1);
    phx_buf edited;
    phx_tokenizer *t = NULL;
    assert_non_null(text);
    memset(text + 1, 'x', n_bytes);
    text[0] = '"';
    (void)snprintf(text + 1 + n_bytes, 32, "\"%s", strchr(from, ':') ? ":400,\"ab\":" : "");
    replaced(json, from, text, &edited);
    const phx_code rc = parse(phx_buf_view(&edited), "", &t, NULL);
    phx_tokenizer_destroy(t);
    phx_buf_done(&edited);
    phx_free(text);
    return rc;
}

static void test_limits(void **state)
{
    (void)state;
    phx_buf json;
    small_json(&json);
    assert_int_equal(parse_with_key(&json, "\"ab\":", PHX_TOKENIZER_PIECE_BYTES_MAX), PHX_OK);
    assert_int_equal(parse_with_key(&json, "\"ab\":", PHX_TOKENIZER_PIECE_BYTES_MAX + 1), PHX_ERR_TOO_LONG);
    assert_int_equal(parse_with_key(&json, "\"<t>\"", PHX_TOKENIZER_ADDED_BYTES_MAX), PHX_OK);
    assert_int_equal(parse_with_key(&json, "\"<t>\"", PHX_TOKENIZER_ADDED_BYTES_MAX + 1), PHX_ERR_TOO_LONG);
    phx_buf_done(&json);
}

/* Error with a text, or a tokenizer that encodes and gives its bytes back. */
static void check_hostile(phx_str json, phx_str config)
{
    static const char text[] = "The abc capital 12345 \xE4\xB8\xAD<t> is\n<think> \xF0\x9F\x98\x80";
    phx_tokenizer *t = NULL;
    phx_error err = {0};
    const phx_code rc = phx_tokenizer_parse((phx_bytes){(const uint8_t *)json.ptr, json.n},
                                            (phx_bytes){(const uint8_t *)config.ptr, config.n}, &t, &err);
    if (rc != PHX_OK) {
        assert_null(t);
        assert_true(err.text[0] != 0);
        assert_int_equal(err.code, rc);
        return;
    }
    size_t n = 0;
    phx_buf back;
    uint32_t *ids = fixture_encode(t, phx_str_of(text), false, &n);
    fixture_decode(t, ids, n, &back);
    assert_string_equal(back.ptr, text);
    phx_buf_done(&back);
    phx_free(ids);
    ids = fixture_encode(t, phx_str_of(text), true, &n);
    phx_free(ids);
    phx_tokenizer_destroy(t);
}

static void test_every_cut_and_flip(void **state)
{
    (void)state;
    const phx_str config = phx_str_of(CONFIG);
    phx_buf json;
    small_json(&json);
    for (size_t n = 0; n < json.n; n++)
        check_hostile((phx_str){json.ptr, n}, config);
    for (size_t at = 0; at < json.n; at++) {
        static const char masks[] = {1, 2, 16};
        for (size_t m = 0; m < sizeof(masks); m++) {
            json.ptr[at] = (char)(json.ptr[at] ^ masks[m]);
            check_hostile(phx_buf_view(&json), config);
            json.ptr[at] = (char)(json.ptr[at] ^ masks[m]);
        }
    }
    char changed[] = CONFIG;
    for (size_t at = 0; at < config.n; at++) {
        check_hostile(phx_buf_view(&json), (phx_str){config.ptr, at});
        for (int bit = 0; bit < 8; bit++) {
            changed[at] = (char)(changed[at] ^ (1 << bit));
            check_hostile(phx_buf_view(&json), (phx_str){changed, config.n});
            changed[at] = (char)(changed[at] ^ (1 << bit));
        }
    }
    phx_buf_done(&json);
}

static void test_demo_cut_and_flipped(void **state)
{
    (void)state;
    phx_rng rng = {21, 0};
    phx_buf json;
    fixture_read("demo/tokenizer.json", &json);
    for (size_t n = 0; n < json.n; n += 1 + phx_rng_below(&rng, 800))
        check_hostile((phx_str){json.ptr, n}, phx_str_of(""));
    for (int round = 0; round < 600; round++) {
        const size_t at = phx_rng_below(&rng, (uint32_t)json.n);
        const char was = json.ptr[at];
        json.ptr[at] = (char)(was ^ (1 << phx_rng_below(&rng, 8)));
        check_hostile(phx_buf_view(&json), phx_str_of(""));
        json.ptr[at] = was;
    }
    phx_buf_done(&json);
}

/* Loading and encoding with the n-th allocation failing, for all n. */
static void test_allocations_fail(void **state)
{
    (void)state;
    phx_buf json;
    bool done = false;
    small_json(&json);
    const uint64_t n_live = phx_alloc_count().n_live;
    for (uint64_t nth = 1; !done; nth++) {
        phx_tokenizer *t = NULL;
        phx_error err = {0};
        size_t n = 0;
        uint32_t ids[16];
        const phx_encode_args args = {.text = {"abcab", 5}, .ids = ids, .n_ids_max = 16};
        assert_true(nth < 100);
        phx_alloc_fail_nth(nth);
        phx_code rc = parse(phx_buf_view(&json), CONFIG, &t, &err);
        if (rc == PHX_OK)
            rc = phx_tokenizer_encode(t, &args, &n, &err);
        phx_alloc_fail_nth(0);
        done = rc == PHX_OK;
        assert_true(done || rc == PHX_ERR_NOMEM);
        assert_true(done || err.text[0]);
        phx_tokenizer_destroy(t);
        assert_int_equal(phx_alloc_count().n_live, n_live);
    }
    phx_buf_done(&json);
}

int main(void)
{
    if (!fixture_present())
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_config_refused),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_every_cut_and_flip),
        cmocka_unit_test(test_demo_cut_and_flipped),
        cmocka_unit_test(test_allocations_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
