/* tests/kernels/test_math.c - the fixed polynomials against libm in double: exp and log over all exponents,
 * sigmoid and silu, and the sines of the rope table up to 1e7 radians. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "kernels/math.h"
#include "kernels/ops.h"

#define STEP 4093u /* prime: visits every exponent with all kinds of mantissas, a million numbers in all */

static double ulps(double got, double want)
{
    int exponent;
    frexp(want, &exponent);
    return fabs(got - want) / ldexp(1.0, exponent - 24);
}

static void exp_is_within_its_bound(void **state)
{
    (void)state;
    double worst = 0.0;
    for (uint64_t bits = 0; bits <= UINT32_MAX; bits += STEP) {
        const float x = phx_f32_of_bits((uint32_t)bits);
        if (!isfinite(x))
            continue;
        const float y = phx_expf(x);
        if (x < PHX_EXP_MIN)
            assert_true(y == 0.0f);
        else if (x > 88.7228317f)
            assert_true(y == INFINITY);
        else
            worst = fmax(worst, ulps((double)y, exp((double)x)));
    }
    worst =
        fmax(worst, ulps((double)phx_expf(-0x1.782f42p+2f), exp(-0x1.782f42p+2))); /* the worst of all f32 */
    print_message("exp: worst %.3f ulp\n", worst);
    assert_true(worst <= 1.02);
}

static void exp_at_its_edges(void **state)
{
    (void)state;
    assert_true(phx_expf(0.0f) == 1.0f);
    assert_true(phx_expf(-0.0f) == 1.0f);
    assert_true(phx_expf(-INFINITY) == 0.0f);
    assert_true(phx_expf(88.7228317f) < INFINITY);
    assert_true(phx_expf(88.72284f) == INFINITY);
    assert_true(phx_expf(FLT_MAX) == INFINITY);
    assert_true(phx_expf(PHX_EXP_MIN) >= FLT_MIN);
    assert_true(phx_expf(nextafterf(PHX_EXP_MIN, -100.0f)) == 0.0f);
}

static void log_is_within_its_bound(void **state)
{
    (void)state;
    double worst = 0.0;
    for (uint64_t bits = 0x00800000u; bits < 0x7F800000u; bits += STEP / 2) {
        const float x = phx_f32_of_bits((uint32_t)bits);
        const double want = log((double)x);
        if (want != 0.0)
            worst = fmax(worst, ulps((double)phx_logf(x), want));
    }
    worst = fmax(worst, ulps((double)phx_logf(0x1.69e472p0f), log(0x1.69e472p0))); /* the worst of all f32 */
    print_message("log: worst %.3f ulp\n", worst);
    assert_true(worst <= 0.84);
    assert_true(phx_logf(1.0f) == 0.0f);
}

static void sigmoid_and_silu_follow_the_formula(void **state)
{
    (void)state;
    for (int i = -80000; i <= 80000; i++) {
        const float x = (float)i * 0.001f;
        const double sigmoid = 1.0 / (1.0 + exp(-(double)x));
        assert_true(fabs((double)phx_sigmoidf(x) - sigmoid) <= 4.0 * (double)FLT_EPSILON * sigmoid);
        assert_true(fabs((double)phx_siluf(x) - (double)x * sigmoid) <=
                    4.0 * (double)FLT_EPSILON * fabs((double)x * sigmoid));
    }
    assert_true(phx_siluf(-1000.0f) == 0.0f);
    assert_true(phx_siluf(1000.0f) == 1000.0f);
}

static void rope_table_is_sine_and_cosine(void **state)
{
    (void)state;
    enum { N_FREQS = 4, N_POSITIONS = 10001 };
    const double freqs[N_FREQS] = {1.0, 0.07498942, 999.9, 1e-7};
    float *table = phx_alloc(N_POSITIONS * N_FREQS * 2, sizeof(float));
    float *twice = phx_alloc(N_POSITIONS * N_FREQS * 2, sizeof(float));
    assert_non_null(table);
    assert_non_null(twice);
    phx_rope_table(freqs, N_FREQS, N_POSITIONS, 1.0, table);
    phx_rope_table(freqs, N_FREQS, N_POSITIONS, 2.0, twice);
    for (int64_t i = 0; i < (int64_t)N_POSITIONS * N_FREQS; i++) {
        const float angle = (float)(i / N_FREQS) * (float)freqs[i % N_FREQS];
        const double want[2] = {cos((double)angle), sin((double)angle)};
        for (int k = 0; k < 2; k++) { /* half an ulp, and a trace for values on the edge between two floats */
            assert_true(fabs((double)table[2 * i + k] - want[k]) <= 0x1.00001p-24 * fabs(want[k]));
            assert_true(twice[2 * i + k] == 2.0f * table[2 * i + k]);
        }
    }
    phx_free(table);
    phx_free(twice);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_is_within_its_bound),
        cmocka_unit_test(exp_at_its_edges),
        cmocka_unit_test(log_is_within_its_bound),
        cmocka_unit_test(sigmoid_and_silu_follow_the_formula),
        cmocka_unit_test(rope_table_is_sine_and_cosine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
