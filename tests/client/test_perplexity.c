/* tests/client/test_perplexity.c - the sum behind a perplexity, on numbers that can be done by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/perplexity.h"

static void each_token_but_the_first(void **state)
{
    (void)state;
    const uint32_t ids[3] = {3, 1, 0};
    /* an even row; then 3 : 1 for the token that comes; the last row foretells nothing that is known */
    const float logits[3 * 4] = {7, 7, 7, 7, logf(3), -INFINITY, 0, -INFINITY, 9, 0, 0, 0};
    phx_error err = {0};
    double sum = 0;
    assert_int_equal(phx_perplexity_sum(logits, 4, ids, 3, &sum, &err), PHX_OK);
    assert_true(fabs(sum - (log(4.0) + log(4.0 / 3.0))) < 1e-6);
    assert_int_equal(phx_perplexity_sum(logits, 4, ids, 1, &sum, &err), PHX_OK);
    assert_true(sum == 0);
}

static void what_cannot_be(void **state)
{
    (void)state;
    const uint32_t past[2] = {0, 4};
    const uint32_t ids[2] = {0, 1};
    const float even[4] = {0, 0, 0, 0};
    const float broken[4] = {0, NAN, 0, 0};
    const float never[4] = {0, -INFINITY, 0, 0};
    double sum = 5;
    phx_error err = {0};
    assert_int_equal(phx_perplexity_sum(even, 4, past, 2, &sum, &err), PHX_ERR_CORRUPT);
    assert_int_equal(phx_perplexity_sum(broken, 4, ids, 2, &sum, &err), PHX_ERR_CORRUPT);
    assert_int_equal(phx_perplexity_sum(never, 4, ids, 2, &sum, &err), PHX_ERR_CORRUPT);
    assert_true(sum == 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_token_but_the_first),
                                       cmocka_unit_test(what_cannot_be)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
