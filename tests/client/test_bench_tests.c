/* tests/client/test_bench_tests.c - names of bench tests, and sums of a checkpoint. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/bench_tests.h"

static void names_become_tests(void **state)
{
    (void)state;
    phx_bench_test tests[PHX_BENCH_TESTS_MAX];
    size_t n = 0;
    phx_error err = {0};
    assert_int_equal(
        phx_bench_tests_parse(phx_str_of("pp512,tg64,tg32@4096,tg8x4,tg64@128x16"), tests, &n, &err), PHX_OK);
    assert_int_equal(n, 5);
    assert_int_equal(tests[0].n_prompt, 512);
    assert_int_equal(phx_bench_test_context(&tests[0]), 513);
    assert_int_equal(tests[1].n_gen, 64);
    assert_int_equal(tests[1].batch, 1);
    assert_int_equal(tests[2].depth, 4096);
    assert_int_equal(tests[3].batch, 4);
    assert_int_equal(tests[4].depth, 128);
    assert_int_equal(tests[4].batch, 16);
    assert_string_equal(tests[4].name, "tg64@128x16");
    assert_true(phx_bench_test_context(&tests[4]) > 128 + 64);
}

static void other_names_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",      "pp",     "tg",         "pp0",        "tg0",  "pp5x2",
                                      "pp5@2", "tg5x",   "tg5x0",      "tg5x65",     "tg5@", "tgx4",
                                      "qq5",   "pp512,", "pp512,,tg6", "pp99999999", "tg5 "};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        phx_bench_test tests[PHX_BENCH_TESTS_MAX];
        size_t n = 0;
        phx_error err = {0};
        const phx_code rc = phx_bench_tests_parse(phx_str_of(bad[i]), tests, &n, &err);
        if (strcmp(bad[i], "pp512,") == 0)
            assert_int_equal(rc, PHX_OK); /* a comma at the end means nothing */
        else if (rc == PHX_OK)
            fail_msg("'%s' was taken", bad[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(names_become_tests),
                                       cmocka_unit_test(other_names_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
