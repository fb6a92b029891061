/* tests/base/test_clock.c - what a pause counts on a steady clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"

#define GAP PHX_STEADY_GAP_US

static void test_looks(void **state)
{
    (void)state;
    phx_steady clock = {0};
    uint64_t now = 987654321;
    const uint64_t start = phx_steady_us(&clock, now);
    for (int i = 0; i < 100; i++) /* looked at often enough it is the clock */
        (void)phx_steady_us(&clock, now += GAP);
    assert_int_equal(phx_steady_us(&clock, now) - start, 100 * (uint64_t)GAP);
    const uint64_t stood = clock.stood_us;
    assert_int_equal(phx_steady_us(&clock, now += GAP + 1) - start, 101 * (uint64_t)GAP);
    assert_int_equal(clock.stood_us, stood + 1);
}

static void test_pauses(void **state)
{
    (void)state;
    phx_steady clock = {0};
    uint64_t now = 5, last = phx_steady_us(&clock, now);
    const uint64_t day = UINT64_C(86400) * 1000000;
    const uint64_t start = last;
    for (int i = 0; i < 10; i++) {
        const uint64_t time = phx_steady_us(&clock, now += day);
        assert_int_equal(time - last, GAP); /* it moves, so that a limit is reached in the end */
        last = time;
    }
    assert_int_equal(phx_steady_us(&clock, now), last);
    assert_int_equal(last - start, 10 * (uint64_t)GAP);
    assert_int_equal(clock.stood_us, 10 * (day - GAP));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_looks), cmocka_unit_test(test_pauses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
