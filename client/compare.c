/* client/compare.c - how far values are from what they should be, and where. */
#include "client/compare.h"

#include <math.h>
#include <stdlib.h>

#include "base/alloc.h"

static double largest(const float *values, int64_t n)
{
    double most = 0;
    for (int64_t i = 0; i < n; i++) {
        const double magnitude = fabs((double)values[i]);
        if (magnitude > most)
            most = magnitude;
    }
    return most;
}

/* The error in the rule's unit. A scale of zero leaves no room for any difference. */
static double error_of(double got, double expected, double scale)
{
    const double difference = fabs(got - expected);
    if (!isfinite(got) || !isfinite(expected))
        return INFINITY;
    if (difference == 0)
        return 0;
    return scale > 0 ? difference / scale : INFINITY;
}

phx_verdict phx_compare_f32(const phx_compare_f32_args *args)
{
    phx_verdict verdict = {.ok = true, .error = -1};
    const double tensor_max =
        args->rule == PHX_COMPARE_TENSOR_MAX ? largest(args->expected, args->n_rows * args->n_cols) : 0;
    for (int64_t row = 0; row < args->n_rows; row++) {
        const float *got = args->got + row * args->n_cols;
        const float *expected = args->expected + row * args->n_cols;
        const double scale = args->rule == PHX_COMPARE_ABS          ? 1
                             : args->rule == PHX_COMPARE_TENSOR_MAX ? tensor_max
                                                                    : largest(expected, args->n_cols);
        for (int64_t col = 0; col < args->n_cols; col++) {
            const double error = error_of((double)got[col], (double)expected[col], scale);
            verdict.n_bad += error > args->bound;
            if (error > verdict.error) {
                verdict.error = error;
                verdict.row = row;
                verdict.col = col;
                verdict.got = (double)got[col];
                verdict.expected = (double)expected[col];
            }
        }
    }
    verdict.error = verdict.error < 0 ? 0 : verdict.error;
    verdict.ok = verdict.n_bad == 0;
    return verdict;
}

phx_verdict phx_compare_i32(const phx_compare_i32_args *args)
{
    phx_verdict verdict = {.ok = true};
    for (int64_t row = 0; row < args->n_rows; row++) {
        bool differs = false;
        for (int64_t col = 0; col < args->n_cols; col++) {
            const int64_t i = row * args->n_cols + col;
            if (args->got[i] == args->expected[i])
                continue;
            if (verdict.n_bad == 0) {
                verdict.row = row;
                verdict.col = col;
                verdict.got = args->got[i];
                verdict.expected = args->expected[i];
            }
            verdict.n_bad++;
            differs = true;
        }
        verdict.error += differs;
    }
    verdict.ok = verdict.n_bad == 0;
    return verdict;
}

/* ---- divergence ---- */

/* log(sum(exp(x))), and the place of the largest (the first of equals). */
static double log_sum_exp(const float *x, int64_t n, int64_t *ret_best)
{
    int64_t best = 0;
    double sum = 0;
    for (int64_t i = 1; i < n; i++)
        best = x[i] > x[best] ? i : best;
    for (int64_t i = 0; i < n; i++)
        sum += exp((double)x[i] - (double)x[best]);
    *ret_best = best;
    return (double)x[best] + log(sum);
}

static double row_kl(const float *got, const float *expected, int64_t n, bool *ret_same_top)
{
    int64_t best_got;
    int64_t best_expected;
    double kl = 0;
    const double lse_got = log_sum_exp(got, n, &best_got);
    const double lse_expected = log_sum_exp(expected, n, &best_expected);
    for (int64_t i = 0; i < n; i++) {
        const double log_p = (double)expected[i] - lse_expected;
        const double log_q = (double)got[i] - lse_got;
        kl += exp(log_p) * (log_p - log_q);
    }
    *ret_same_top = best_got == best_expected;
    if (!isfinite(kl)) {
        *ret_same_top = false;
        return INFINITY;
    }
    return kl > 0 ? kl : 0; /* rounding may leave a trifle below zero */
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

phx_code phx_compare_kl(const float *got, const float *expected, int64_t n_rows, int64_t n_cols,
                        phx_divergence *ret_divergence, phx_error *err)
{
    phx_divergence d = {.kl_worst = -1};
    int64_t n_same = 0;
    double *rows = phx_alloc((size_t)n_rows + 1, sizeof(*rows));
    if (!rows)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "divergence of %lld rows", (long long)n_rows);
    for (int64_t r = 0; r < n_rows; r++) {
        bool same = false;
        rows[r] = row_kl(got + r * n_cols, expected + r * n_cols, n_cols, &same);
        n_same += same;
        d.kl_mean += rows[r] / (double)n_rows;
        if (rows[r] > d.kl_worst) {
            d.kl_worst = rows[r];
            d.worst_row = r;
        }
    }
    qsort(rows, (size_t)n_rows, sizeof(*rows), ascending);
    if (n_rows > 0) {
        d.kl_median = (rows[(n_rows - 1) / 2] + rows[n_rows / 2]) / 2;
        d.kl_p90 = rows[(n_rows - 1) * 9 / 10];
        d.top1 = (double)n_same / (double)n_rows;
    }
    phx_free(rows);
    *ret_divergence = d;
    return PHX_OK;
}

phx_kl_bounds phx_kl_bounds_golden(const phx_kl_bounds *measured)
{
    return (phx_kl_bounds){1.5 * measured->kl_mean + 0.005, 2 * measured->kl_median + 0.0005,
                           measured->top1 - 0.06};
}

phx_kl_bounds phx_kl_together(const phx_kl_bounds *a, const phx_kl_bounds *b)
{
    return (phx_kl_bounds){a->kl_mean + b->kl_mean, a->kl_median + b->kl_median, a->top1 + b->top1 - 1};
}

phx_kl_bounds phx_kl_bounds_levels(const phx_kl_bounds *golden)
{
    return (phx_kl_bounds){golden->kl_mean / 10, golden->kl_median / 10, golden->top1};
}

bool phx_kl_within(const phx_divergence *divergence, const phx_kl_bounds *bounds)
{
    return divergence->kl_mean <= bounds->kl_mean && divergence->kl_median <= bounds->kl_median &&
           divergence->top1 >= bounds->top1;
}

/* ---- selections ---- */

static bool holds(const int32_t *ids, int64_t n, int32_t id)
{
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] == id)
            return true;
    }
    return false;
}

/* How far the swapped keys of a row lie from the lowest score that was kept, in standard deviations. Keys of
 * rows that have strayed before have other scores, whatever is told here. */
static double widest_swap(const phx_compare_topk_args *args, int64_t row)
{
    const int32_t *sets[2] = {args->got + row * args->n_keep, args->expected + row * args->n_keep};
    const float *scores = args->scores + row * args->n_rows;
    const int64_t n_keys = row + 1;
    double mean = 0;
    double square = 0;
    double boundary = INFINITY;
    double widest = 0;
    for (int64_t i = 0; i < n_keys; i++)
        mean += (double)scores[i] / (double)n_keys;
    for (int64_t i = 0; i < n_keys; i++)
        square += ((double)scores[i] - mean) * ((double)scores[i] - mean) / (double)n_keys;
    for (int64_t k = 0; k < args->n_keep; k++) {
        const int32_t key = sets[1][k];
        if (key >= 0 && key < n_keys && (double)scores[key] < boundary)
            boundary = (double)scores[key];
    }
    for (int which = 0; which < 2; which++) {
        for (int64_t k = 0; k < args->n_keep; k++) {
            const int32_t key = sets[which][k];
            if (holds(sets[1 - which], args->n_keep, key))
                continue;
            if (key < 0 || key >= n_keys || !(square > 0))
                return INFINITY;
            if (args->strayed[key])
                continue;
            const double gap = fabs((double)scores[key] - boundary) / sqrt(square);
            widest = gap > widest ? gap : widest;
        }
    }
    return widest;
}

/* Whether the row attends to one that has strayed before: then what it computes has changed a little, too. */
static bool keeps_strayed(const phx_compare_topk_args *args, int64_t row)
{
    for (int64_t k = 0; k < args->n_keep; k++) {
        const int32_t key = args->expected[row * args->n_keep + k];
        if (key >= 0 && key < row && args->strayed[key])
            return true;
    }
    return false;
}

static void count_row(phx_selection *s, int64_t row, bool wrong, bool *strayed)
{
    wrong = wrong && !strayed[row];
    strayed[row] = true;
    if (s->n_rows_wrong > 0 ? wrong && row < s->first_row : wrong || s->first_row < 0 || row < s->first_row)
        s->first_row = row;
    s->n_rows_differ++;
    s->n_rows_wrong += wrong;
}

phx_selection phx_compare_topk(const phx_compare_topk_args *args)
{
    phx_selection s = {.first_row = -1};
    for (int64_t row = args->n_rows - 1; row >= 0; row--) { /* what strays here is no excuse for later rows */
        const int32_t *got = args->got + row * args->n_keep;
        const int32_t *expected = args->expected + row * args->n_keep;
        bool same = true;
        for (int64_t k = 0; k < args->n_keep; k++)
            same = same && holds(expected, args->n_keep, got[k]) && holds(got, args->n_keep, expected[k]);
        if (same)
            continue;
        const double gap = args->scores ? widest_swap(args, row) : INFINITY;
        if (!args->strayed[row])
            s.widest_gap = gap > s.widest_gap ? gap : s.widest_gap;
        const bool wrong = gap > args->gap_max;
        const bool unclear = wrong && isfinite(gap) && !args->strayed[row] && keeps_strayed(args, row);
        s.n_rows_unclear += unclear;
        count_row(&s, row, wrong && !unclear, args->strayed);
    }
    return s;
}

typedef enum likeness { LIKE, UNLIKE, UNCLEAR } likeness;

/* Do the weights of experts chosen by both, as a proportion of their sum, agree? */
static likeness same_proportions(const phx_compare_experts_args *args, int64_t row)
{
    const int64_t n = args->n_used;
    double sums[2] = {0};
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t i = 0; i < n; i++) {
            for (int64_t j = 0; j < n; j++) {
                if (args->got[row * n + i] != args->expected[row * n + j])
                    continue;
                const double a = (double)args->got_weights[row * n + i];
                const double b = (double)args->expected_weights[row * n + j];
                if (pass == 0) {
                    sums[0] += a;
                    sums[1] += b;
                } else if (!(fabs(a / sums[0] - b / sums[1]) <= args->tolerance * fabs(b / sums[1]))) {
                    return UNLIKE;
                }
            }
        }
    }
    return sums[1] > 0 ? LIKE : UNCLEAR;
}

phx_selection phx_compare_experts(const phx_compare_experts_args *args)
{
    phx_selection s = {.first_row = -1};
    for (int64_t row = 0; row < args->n_rows; row++) {
        bool same = true;
        for (int64_t k = 0; k < args->n_used; k++)
            same = same && args->got[row * args->n_used + k] == args->expected[row * args->n_used + k];
        if (same)
            continue;
        const likeness found = same_proportions(args, row);
        s.n_rows_unclear += found == UNCLEAR && !args->strayed[row];
        count_row(&s, row, found == UNLIKE, args->strayed);
    }
    return s;
}
