/* tests/base/test_json.c - numbers of any size through the reader and the writer; the loose reader. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <math.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/json.h"

#define PAST_63 "9223372036854775808"
#define LOWEST  "-9223372036854775808"
#define PAST_64 "18446744073709551616"
#define LONG    "-1234567890123456789012345678901234567890"

typedef phx_code reader(phx_bytes text, phx_json_limits limits, phx_json **ret_root, phx_error *err);

static phx_json *parse(reader *read, const char *text)
{
    phx_json *root = NULL;
    phx_error err = {0};
    if (read((phx_bytes){(const uint8_t *)text, strlen(text)}, PHX_JSON_LIMITS_REQUEST, &root, &err) !=
        PHX_OK)
        fail_msg("%s: %s", text, err.text);
    return root;
}

static void check_written(reader *read, const char *text, const char *expected)
{
    phx_json *root = parse(read, text);
    phx_buf out;
    phx_json_writer w;
    phx_buf_init(&out, 1u << 16);
    phx_json_writer_init(&w, &out);
    phx_json_node(&w, root);
    assert_string_equal(out.ptr, expected);
    phx_buf_done(&out);
    phx_json_destroy(root);
}

static void check_refused(reader *read, const char *text, const char *expected)
{
    phx_json *root = NULL;
    phx_error err = {0};
    const phx_code rc =
        read((phx_bytes){(const uint8_t *)text, strlen(text)}, PHX_JSON_LIMITS_REQUEST, &root, &err);
    if (rc != PHX_ERR_CORRUPT || !strstr(err.text, expected))
        fail_msg("%s: %s '%s', expected '%s'", text, phx_code_name(rc), err.text, expected);
    assert_null(root);
}

static void test_verbatim(void **state)
{
    (void)state;
    static const char *const texts[] = {
        PAST_63,
        LOWEST,
        LONG,
        "1e400",
        "-1.5E+999",
        "[" PAST_63 "," PAST_64 "," LONG ",0,7]",
        "{\"a\":" PAST_64 ",\"" PAST_64 "\":\"" PAST_64 "\",\"b\":[1e999,\"\\\"" LONG "\",{}]}",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        check_written(phx_json_parse, texts[i], texts[i]);
        check_written(phx_json_parse_loose, texts[i], texts[i]);
    }
    check_written(phx_json_parse, "[ " PAST_64 " , -0, 1.10, -0.0,\n1e2 ]", "[" PAST_64 ",0,1.1,-0.0,100]");
}

static void test_values(void **state)
{
    (void)state;
    phx_json *root = parse(phx_json_parse, "[" PAST_63 "," PAST_64 ",1e400," LOWEST ",-1,\"" PAST_63 "\"]");
    int64_t i64 = 7;
    uint64_t u64 = 7;
    double f64 = 7;
    phx_str text = {"", 0};
    const phx_json *big = phx_json_at(root, 0);
    assert_int_equal(phx_json_kind_of(big), PHX_JSON_INT);
    assert_false(phx_json_as_i64(big, &i64) || phx_json_as_str(big, &text));
    assert_true(phx_json_as_literal(big, &text) && phx_str_is(text, PAST_63));
    assert_true(phx_json_as_u64(big, &u64) && u64 == (uint64_t)1 << 63);
    assert_true(phx_json_as_f64(big, &f64) && f64 == 0x1p63);
    assert_false(phx_json_as_u64(phx_json_at(root, 1), &u64));
    assert_true(phx_json_as_f64(phx_json_at(root, 1), &f64) && f64 == 0x1p64);
    assert_int_equal(phx_json_kind_of(phx_json_at(root, 2)), PHX_JSON_REAL);
    assert_true(phx_json_as_f64(phx_json_at(root, 2), &f64) && isinf(f64));
    assert_true(phx_json_as_i64(phx_json_at(root, 3), &i64) && i64 == INT64_MIN);
    assert_false(phx_json_as_literal(phx_json_at(root, 3), &text));
    assert_false(phx_json_as_u64(phx_json_at(root, 4), &u64));
    assert_int_equal(phx_json_kind_of(phx_json_at(root, 5)), PHX_JSON_STRING);
    assert_false(phx_json_as_f64(phx_json_at(root, 5), &f64) || phx_json_as_u64(phx_json_at(root, 5), &u64));
    phx_json_destroy(root);
}

static void test_whole(void **state)
{
    (void)state;
    phx_json *root = parse(phx_json_parse, "[32.0, -7, 32.5, " PAST_63 ", 1e400, \"32\"]");
    int64_t i64 = 0;
    assert_true(phx_json_as_whole(phx_json_at(root, 0), &i64) && i64 == 32);
    assert_true(phx_json_as_whole(phx_json_at(root, 1), &i64) && i64 == -7);
    for (size_t i = 2; i < 6; i++)
        assert_false(phx_json_as_whole(phx_json_at(root, i), &i64));
    assert_false(phx_json_as_whole(NULL, &i64));
    phx_json_destroy(root);
}

/* A big number makes nothing else pass, and errors keep their place. */
static void test_refused(void **state)
{
    (void)state;
    check_refused(phx_json_parse, "[" PAST_63 ",\"\\u0000\"]", "\\u0000");
    check_refused(phx_json_parse, "[" PAST_63 ",\"\\u00001\"]", "\\u0000");
    check_refused(phx_json_parse, "[1,\"\\u00001\"]", "\\u0000");
    check_refused(phx_json_parse, "{\"a\":" PAST_63 ",\"b\":1,\"b\":2}", "line 1 column 34: duplicate");
    check_refused(phx_json_parse, "{" PAST_63 ":1}", "line 1 column 2");
    check_refused(phx_json_parse_loose, "{" PAST_63 ":1}", "line 1 column 2");
    check_refused(phx_json_parse, "[" PAST_63 "\n,]", "line 2 column 2");
    check_refused(phx_json_parse, "[" PAST_63 "x]", "line 1");
    check_refused(phx_json_parse, "[0" PAST_63 "]", "line 1");
    check_refused(phx_json_parse, "[" PAST_63 ".]", "line 1");
    check_refused(phx_json_parse, "[" PAST_63 "," PAST_63 "e]", "line 1");
    check_refused(phx_json_parse, "[-" LONG "]", "line 1");
    check_refused(phx_json_parse, PAST_63 " " PAST_63, "line 1");
    check_refused(phx_json_parse, "[" PAST_63, "line 1");
}

static void check_loose(const char *json, const char *expected, size_t n)
{
    phx_json *root = parse(phx_json_parse_loose, json);
    phx_str text = {"", 0};
    assert_true(phx_json_as_str(phx_json_at(root, 0), &text));
    assert_int_equal(text.n, n);
    assert_memory_equal(text.ptr, expected, n);
    phx_json_destroy(root);
}

static void test_loose(void **state)
{
    (void)state;
    check_loose("[\"\\u0000\"]", "\0", 1);
    check_loose("[\"\\u0000\\u0000\"]", "\0\0", 2);
    check_loose("[\"\\u00001\"," PAST_63 "]", "\0001", 2);
    check_loose("[\"a\\u0000\"," PAST_63 "]", "a\0", 2);
    check_loose("[\"\\\\u0000\"," PAST_63 "]", "\\u0000", 6);
    check_loose("[\"\\ud83d\\ude00\"," PAST_63 "]", "\xF0\x9F\x98\x80", 4);
    check_loose("[\"\\ud83d\"]", "\xEF\xBF\xBD", 3);
    check_loose("[\"\\ude00\\ud83d\\u0041\"]",
                "\xEF\xBF\xBD\xEF\xBF\xBD"
                "A",
                7);
    check_written(phx_json_parse_loose, "{\"a\":1,\"b\":2,\"a\":" PAST_64 "}", "{\"a\":" PAST_64 ",\"b\":2}");
    check_refused(phx_json_parse_loose, "{\"a\":\"\\u0000\"", "line 1 column 13");
    check_refused(phx_json_parse_loose, "{\"\\u0000\":1}", "NUL");
    check_refused(phx_json_parse_loose, "[\"\\u00\"]", "line 1");
    check_refused(phx_json_parse_loose, "[\"\\", "line 1");
    check_refused(phx_json_parse_loose, "", "line 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verbatim), cmocka_unit_test(test_values), cmocka_unit_test(test_whole),
        cmocka_unit_test(test_refused),  cmocka_unit_test(test_loose),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
