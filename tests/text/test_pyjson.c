/* JSON as Python prints it; the expected texts are Python's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <math.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/rng.h"
#include "tests/text/chat_cases.h"
#include "coordinator/text/pyjson.h"

static void check(const char *json, const char *expected)
{
    phx_buf buf;
    phx_json *root = chat_case_json(phx_str_of(json));
    phx_buf_init(&buf, 1u << 20);
    assert_int_equal(phx_pyjson_node(&buf, root), PHX_OK);
    chat_case_equal(json, phx_buf_view(&buf), phx_str_of(expected));
    phx_buf_done(&buf);
    phx_json_destroy(root);
}

static void test_reals(void **state)
{
    (void)state;
    static const char *const reals[][2] = {
        {"0.0", "0.0"},
        {"-0.0", "-0.0"},
        {"1.0", "1.0"},
        {"1e5", "100000.0"},
        {"1E5", "100000.0"},
        {"100000.0", "100000.0"},
        {"1e15", "1000000000000000.0"},
        {"1e16", "1e+16"},
        {"123456789012345680.0", "1.2345678901234568e+17"},
        {"1e17", "1e+17"},
        {"0.1", "0.1"},
        {"0.0001", "0.0001"},
        {"0.00001", "1e-05"},
        {"1e-5", "1e-05"},
        {"1.5e-7", "1.5e-07"},
        {"3.14159", "3.14159"},
        {"2.5", "2.5"},
        {"1e22", "1e+22"},
        {"1e23", "1e+23"},
        {"5e-324", "5e-324"},
        {"2.2250738585072014e-308", "2.2250738585072014e-308"},
        {"1.7976931348623157e308", "1.7976931348623157e+308"},
        {"9007199254740993.0", "9007199254740992.0"},
        {"5.684341886080802e-14", "5.684341886080802e-14"},
        {"0.30000000000000004", "0.30000000000000004"},
        {"123.456", "123.456"},
        {"-1.25", "-1.25"},
        {"1e300", "1e+300"},
        {"4.35", "4.35"},
        {"0.000123", "0.000123"},
        {"9999999999999998.0", "9999999999999998.0"},
        {"99999999999999990.0", "9.999999999999998e+16"},
        {"1.0E+2", "100.0"},
        {"1.10", "1.1"},
        {"1e400", "Infinity"},
        {"-1e400", "-Infinity"},
        {"-0", "0"},
        {"18446744073709551616", "18446744073709551616"},
        {"[-9223372036854775809, -9223372036854775808]", "[-9223372036854775809, -9223372036854775808]"},
    };
    for (size_t i = 0; i < sizeof(reals) / sizeof(reals[0]); i++)
        check(reals[i][0], reals[i][1]);
}

static void check_value(double value, const char *expected)
{
    phx_buf buf;
    phx_buf_init(&buf, 1u << 10);
    assert_int_equal(phx_pyjson_f64(&buf, value), PHX_OK);
    chat_case_equal("value", phx_buf_view(&buf), phx_str_of(expected));
    phx_buf_done(&buf);
}

/* At a power of two rounding to nearest does not find the shortest digits. */
static void test_powers_of_two(void **state)
{
    (void)state;
    check_value(ldexp(1, -44), "5.684341886080802e-14");
    check_value(ldexp(1, 89), "6.189700196426902e+26");
    check_value(ldexp(1, -1074), "5e-324");
    check_value(ldexp(1, -24), "5.960464477539063e-08");
    check_value(ldexp(1, 1023), "8.98846567431158e+307");
    check_value((double)INFINITY, "Infinity");
    check_value(-(double)INFINITY, "-Infinity");
    check_value((double)NAN, "NaN");
}

/* Whatever the digits, they read back equal and hold a point or an exponent. */
static void test_random_reals(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 20000; i++) {
        char text[64];
        double value, back;
        phx_buf buf;
        const uint64_t bits = phx_rng_key(7, i, 0, 0);
        memcpy(&value, &bits, sizeof(value));
        if (!isfinite(value))
            continue;
        phx_buf_init(&buf, sizeof(text));
        assert_int_equal(phx_pyjson_f64(&buf, value), PHX_OK);
        assert_true(phx_str_to_f64(phx_buf_view(&buf), &back));
        assert_memory_equal(&back, &value, sizeof(value));
        assert_non_null(strpbrk(buf.ptr, ".e"));
        phx_buf_done(&buf);
    }
}

static void test_values(void **state)
{
    (void)state;
    check("{\"b\" : [1,2 , 3],\"a\":{},\"c\":[],\"d\":null,\"e\":true,\"f\":false}",
          "{\"b\": [1, 2, 3], \"a\": {}, \"c\": [], \"d\": null, \"e\": true, \"f\": false}");
    check("\"caf\\u00e9 \\ud83d\\ude00 / \\/ \\u007f \\u2028\"", "\"café 😀 / / \x7f \xE2\x80\xA8\"");
    check("\"\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001f\"", "\"\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001f\"");
    check("[9223372036854775807,-9223372036854775808,0,-0]",
          "[9223372036854775807, -9223372036854775808, 0, 0]");
}

static void test_bounds(void **state)
{
    (void)state;
    phx_buf buf;
    phx_json *root = chat_case_json(phx_str_of("[\"0123456789\"]"));
    phx_buf_init(&buf, 13);
    assert_int_equal(phx_pyjson_node(&buf, root), PHX_ERR_TOO_LONG);
    phx_buf_done(&buf);
    phx_buf_init(&buf, 14);
    assert_int_equal(phx_pyjson_node(&buf, root), PHX_OK);
    phx_buf_done(&buf);
    phx_json_destroy(root);

    char deep[2 * PHX_PYJSON_DEPTH_MAX + 8];
    for (size_t depth = PHX_PYJSON_DEPTH_MAX; depth <= PHX_PYJSON_DEPTH_MAX + 2; depth++) {
        memset(deep, '[', depth);
        memset(deep + depth, ']', depth);
        assert_int_equal(phx_json_parse((phx_bytes){(const uint8_t *)deep, 2 * depth},
                                        (phx_json_limits){1024, 1024, 1024, 1024}, &root, NULL),
                         PHX_OK);
        phx_buf_init(&buf, 1024);
        /* the outermost value is at depth 0 */
        assert_int_equal(phx_pyjson_node(&buf, root),
                         depth <= PHX_PYJSON_DEPTH_MAX + 1 ? PHX_OK : PHX_ERR_TOO_LONG);
        phx_buf_done(&buf);
        phx_json_destroy(root);
    }
}

static void test_invalid_utf8(void **state)
{
    (void)state;
    phx_buf buf;
    phx_buf_init(&buf, 64);
    assert_int_equal(phx_pyjson_str(&buf, (phx_str){"a\xFF\xC3\xA9\xE2\x82", 6}), PHX_OK);
    assert_string_equal(buf.ptr, "\"a\xEF\xBF\xBD\xC3\xA9\xEF\xBF\xBD\xEF\xBF\xBD\"");
    phx_buf_done(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reals),        cmocka_unit_test(test_powers_of_two),
        cmocka_unit_test(test_random_reals), cmocka_unit_test(test_values),
        cmocka_unit_test(test_bounds),       cmocka_unit_test(test_invalid_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
