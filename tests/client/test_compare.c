/* tests/client/test_compare.c - the comparing functions on numbers small enough to check by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/compare.h"

static void worst_element_and_its_place(void **state)
{
    (void)state;
    const float expected[6] = {1, -2, 4, 0.5f, 0.25f, 0};
    float got[6] = {1, -2, 4.5f, 0.5f, 0.375f, 0};
    phx_compare_f32_args args = {got, expected, 2, 3, PHX_COMPARE_ABS, 0.2};
    phx_verdict v = phx_compare_f32(&args);
    assert_false(v.ok);
    assert_true(v.error == 0.5);
    assert_int_equal(v.row, 0);
    assert_int_equal(v.col, 2);
    assert_int_equal(v.n_bad, 1);
    args.rule = PHX_COMPARE_TENSOR_MAX; /* 0.5 of 4 */
    v = phx_compare_f32(&args);
    assert_true(v.ok);
    assert_true(v.error == 0.125);
    args.rule = PHX_COMPARE_ROW_MAX; /* row 1: 0.125 of 0.5 */
    v = phx_compare_f32(&args);
    assert_false(v.ok);
    assert_true(v.error == 0.25);
    assert_int_equal(v.row, 1);
    assert_int_equal(v.col, 1);
    args.bound = 0.25; /* at the bound is within it */
    assert_true(phx_compare_f32(&args).ok);
    got[5] = 1e-30f; /* equality is needed where a tensor is zero throughout */
    const float zeros[1] = {0};
    const phx_compare_f32_args none = {got + 5, zeros, 1, 1, PHX_COMPARE_ROW_MAX, 1};
    assert_false(phx_compare_f32(&none).ok);
}

static void values_that_are_not_finite_fail(void **state)
{
    (void)state;
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        for (int side = 0; side < 2; side++) {
            float a[2] = {1, 1};
            const float b[2] = {1, 1};
            a[1] = bad[i];
            const phx_compare_f32_args args = {side ? b : a, side ? a : b, 1, 2, PHX_COMPARE_ABS, 1e30};
            const phx_verdict v = phx_compare_f32(&args);
            assert_false(v.ok);
            assert_int_equal(v.col, 1);
            phx_divergence d;
            assert_int_equal(phx_compare_kl(args.got, args.expected, 1, 2, &d, NULL), PHX_OK);
            const phx_kl_bounds loose = {1e300, 1e300, -1};
            assert_false(phx_kl_within(&d, &loose));
        }
    }
}

static void selections_are_exact(void **state)
{
    (void)state;
    const int32_t expected[6] = {0, 1, -1, 0, 2, 3};
    int32_t got[6] = {0, 1, -1, 0, 2, 3};
    const phx_compare_i32_args args = {got, expected, 2, 3};
    assert_true(phx_compare_i32(&args).ok);
    got[4] = 1;
    got[5] = 2;
    const phx_verdict v = phx_compare_i32(&args);
    assert_false(v.ok);
    assert_int_equal(v.row, 1);
    assert_int_equal(v.col, 1);
    assert_int_equal(v.n_bad, 2);
    assert_true(v.error == 1); /* one row */
}

static void divergence_of_known_distributions(void **state)
{
    (void)state;
    /* p = (3/4, 1/4), q = (1/4, 3/4) in row 0: KL = ln(3) / 2, another top. Row 1: q is p shifted: KL 0. */
    const float expected[4] = {logf(3), 0, 1, 2};
    const float got[4] = {0, logf(3), 11, 12};
    phx_divergence d;
    assert_int_equal(phx_compare_kl(got, expected, 2, 2, &d, NULL), PHX_OK);
    assert_true(fabs(d.kl_worst - log(3) / 2) < 1e-6);
    assert_true(fabs(d.kl_mean - log(3) / 4) < 1e-6);
    assert_true(fabs(d.kl_median - log(3) / 4) < 1e-6);
    assert_true(d.top1 == 0.5);
    assert_int_equal(d.worst_row, 0);
}

static void bounds_as_the_readme_says(void **state)
{
    (void)state;
    const phx_kl_bounds measured = {0.02, 0.001, 0.9};
    const phx_kl_bounds golden = phx_kl_bounds_golden(&measured);
    assert_true(fabs(golden.kl_mean - 0.035) < 1e-12);
    assert_true(fabs(golden.kl_median - 0.0025) < 1e-12);
    assert_true(fabs(golden.top1 - 0.84) < 1e-12);
    const phx_kl_bounds levels = phx_kl_bounds_levels(&golden);
    assert_true(fabs(levels.kl_mean - 0.0035) < 1e-12);
    const phx_kl_bounds both = phx_kl_together(&measured, &(phx_kl_bounds){0.01, 0.004, 0.95});
    assert_true(fabs(both.kl_mean - 0.03) < 1e-12 && fabs(both.kl_median - 0.005) < 1e-12);
    assert_true(fabs(both.top1 - 0.85) < 1e-12);
    phx_divergence d = {.kl_mean = 0.0349, .kl_median = 0.001, .top1 = 0.85};
    assert_true(phx_kl_within(&d, &golden));
    d.kl_median = 0.0026;
    assert_false(phx_kl_within(&d, &golden));
    d.kl_median = 0;
    d.top1 = 0.83;
    assert_false(phx_kl_within(&d, &golden));
}

static void near_ties_of_positions(void **state)
{
    (void)state;
    /* Row 3 has four keys, keeps two: 10 and 5 with 4.99 close behind. */
    const float scores[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 5, 4.99f, 0};
    const int32_t expected[8] = {0, -1, 0, 1, 0, 1, 0, 1};
    int32_t got[8] = {0, -1, 0, 1, 0, 1, 0, 2};
    bool strayed[4] = {false};
    phx_compare_topk_args args = {got, expected, scores, 4, 2, 0.05, strayed};
    phx_selection s = phx_compare_topk(&args);
    assert_true(strayed[3] && !strayed[2]);
    assert_int_equal(s.n_rows_differ, 1);
    assert_int_equal(s.n_rows_wrong, 0);
    assert_int_equal(s.first_row, 3);
    assert_true(s.widest_gap > 0 && s.widest_gap < 0.01);
    got[7] = 3; /* far below the boundary, but the row has strayed already */
    assert_int_equal(phx_compare_topk(&args).n_rows_wrong, 0);
    strayed[3] = false;
    assert_int_equal(phx_compare_topk(&args).n_rows_wrong, 1);
    got[7] = 4; /* the future */
    strayed[3] = false;
    assert_int_equal(phx_compare_topk(&args).n_rows_wrong, 1);
    got[7] = -1; /* one too few */
    strayed[3] = false;
    assert_int_equal(phx_compare_topk(&args).n_rows_wrong, 1);
    got[7] = 2;
    args.scores = NULL;
    strayed[3] = false;
    assert_int_equal(phx_compare_topk(&args).n_rows_wrong, 1);
    const float far[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 5, 1, 0};
    args.scores = far;
    strayed[3] = false;
    assert_int_equal(phx_compare_topk(&args).n_rows_wrong, 1);
    strayed[3] = false;
    strayed[2] = true; /* an earlier layer gave key 2 another score */
    s = phx_compare_topk(&args);
    assert_int_equal(s.n_rows_wrong, 0);
    assert_int_equal(s.first_row, 3);
    strayed[2] = strayed[3] = false;
    strayed[0] = true; /* row 3 attends to it */
    s = phx_compare_topk(&args);
    assert_int_equal(s.n_rows_wrong, 0);
    assert_int_equal(s.n_rows_unclear, 1);
    strayed[3] = false;
    got[6] = 1; /* the same set in another order is equal */
    got[7] = 0;
    assert_int_equal(phx_compare_topk(&args).n_rows_differ, 0);
}

static void near_ties_of_experts(void **state)
{
    (void)state;
    const int32_t expected[3] = {1, 4, 7};
    int32_t got[3] = {1, 4, 6};
    const float expected_weights[3] = {0.5f, 0.25f, 0.25f};
    float got_weights[3] = {0.51f, 0.255f, 0.235f}; /* the common two in the same proportion */
    bool strayed[1] = {false};
    const phx_compare_experts_args args = {got, expected, got_weights, expected_weights, 1, 3, 0.01, strayed};
    phx_selection s = phx_compare_experts(&args);
    assert_int_equal(s.n_rows_differ, 1);
    assert_int_equal(s.n_rows_wrong, 0);
    assert_true(strayed[0]);
    strayed[0] = false;
    got_weights[0] = 0.3f; /* another router */
    assert_int_equal(phx_compare_experts(&args).n_rows_wrong, 1);
    strayed[0] = false;
    got[0] = 2; /* nothing in common */
    got[1] = 3;
    got[2] = 5;
    s = phx_compare_experts(&args);
    assert_int_equal(s.n_rows_wrong, 0);
    assert_int_equal(s.n_rows_unclear, 1);
    got[0] = 1;
    got[1] = 4;
    got[2] = 7;
    assert_int_equal(phx_compare_experts(&args).n_rows_differ, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worst_element_and_its_place), cmocka_unit_test(values_that_are_not_finite_fail),
        cmocka_unit_test(selections_are_exact),        cmocka_unit_test(divergence_of_known_distributions),
        cmocka_unit_test(bounds_as_the_readme_says),   cmocka_unit_test(near_ties_of_positions),
        cmocka_unit_test(near_ties_of_experts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
