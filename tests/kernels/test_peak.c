/* tests/kernels/test_peak.c - the loops at the machine's limits do what they claim: every byte is read, every
 * round is done. Speeds are not judged. */
#include "kernels/cpu/peak.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/rng.h"

static void test_sums(void **state)
{
    (void)state;
    const size_t n = (1u << 20) / 8;
    uint64_t *words = phx_alloc(n, sizeof(*words));
    assert_non_null(words);
    uint64_t expected = 0;
    phx_rng rng = {.seed = 1};
    for (size_t i = 0; i < n; i++)
        expected += words[i] = phx_rng_u64(&rng);
    assert_true(phx_peak_sum_scalar(words, n * 8) == expected);
    assert_true(phx_peak_sum_scalar(words, 1024) != expected);
    if (phx_peak_present(PHX_PEAK_AVX2))
        assert_true(phx_peak_sum_avx2(words, n * 8) == expected);
    phx_free(words);
}

/* After no round the chains hold 0 to n - 1; x/2 + 1 tends to 2; a dot product of ones adds its length. */
static void test_loops(void **state)
{
    (void)state;
    assert_true(phx_peak_loop_scalar(0) == 66.0);
    assert_true(phx_peak_loop_scalar(200) == 24.0);
    if (phx_peak_present(PHX_PEAK_AVX2)) {
        assert_true(phx_peak_loop_avx2(0) == 66.0);
        assert_true(phx_peak_loop_avx2(200) == 24.0);
    }
    if (phx_peak_present(PHX_PEAK_AVX512)) {
        assert_true(phx_peak_loop_avx512(0) == 276.0);
        assert_true(phx_peak_loop_avx512(200) == 48.0);
    }
    if (phx_peak_present(PHX_PEAK_AVX512_BF16))
        assert_true(phx_peak_loop_avx512_bf16(10) == 276.0 + 24 * 10 * 2);
    if (phx_peak_present(PHX_PEAK_AVX512_VNNI))
        assert_true(phx_peak_loop_avx512_vnni(10) == 276.0 + 24 * 10 * 4);
}

static void test_rates(void **state)
{
    (void)state;
    phx_pool *pool = NULL;
    phx_error err = {0};
    assert_int_equal(phx_pool_create(2, NULL, &pool, &err), PHX_OK);
    assert_true(phx_peak_present(PHX_PEAK_SCALAR));
    assert_true(phx_peak_present(phx_peak_of_level(phx_level_of_machine())));
    assert_true(phx_peak_measure(pool, PHX_PEAK_SCALAR) > 0.0);
    const size_t n_bytes = 3u << 20; /* less than a window */
    uint8_t *buffer = phx_alloc(1, n_bytes);
    assert_non_null(buffer);
    const phx_peak_reading reading = phx_peak_read(pool, buffer, n_bytes, 2);
    assert_true(reading.sustained > 0.0 && reading.best >= reading.sustained * 0.5);
    assert_true(phx_peak_read_bytes() >= 256u << 20);
    phx_free(buffer);
    phx_pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sums), cmocka_unit_test(test_loops),
                                       cmocka_unit_test(test_rates)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
