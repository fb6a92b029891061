/* tests/kernels/check_select.c - the ops that choose: route, index_scores, top_positions, vocab_top. Logits
 * and scores are multiples of a coarse step, so that two of them are equal or clearly apart: choices are
 * exact. */
#include "tests/kernels/check.h"

#include <math.h>

static const int64_t row_counts[] = {0, 1, 2, 3, 7, 64};
#define N_ROW_COUNTS ((int64_t)(sizeof(row_counts) / sizeof(row_counts[0])))

/* Multiples of 1/64 in (-range, range); few different values make many ties. */
static float *coarse(check *c, int64_t n, uint32_t range)
{
    float *x = check_mem(c, n, sizeof(float));
    for (int64_t i = 0; i < n; i++)
        x[i] = ((float)phx_rng_below(&c->rng, 128 * range + 1) - 64.0f * (float)range) / 64.0f;
    return x;
}

typedef struct route_shape {
    int64_t n_rows;
    int64_t n_experts;
    int64_t n_used;
    int64_t n_groups;
    int64_t n_groups_used;
    bool softmax;
    bool norm;
    bool bias;
    uint32_t range; /* of the logits; 0: all equal */
} route_shape;

static void route_case(check *c, const route_shape *s)
{
    check_case(c, "n_rows %lld experts %lld used %lld groups %lld of %lld%s%s%s range %u",
               (long long)s->n_rows, (long long)s->n_experts, (long long)s->n_used,
               (long long)s->n_groups_used, (long long)s->n_groups, s->softmax ? " softmax" : "",
               s->norm ? " norm" : "", s->bias ? " bias" : "", s->range);
    const int64_t n = s->n_rows * s->n_used;
    float *bias = NULL;
    if (s->bias) { /* steps of 1 / 1024 away from any difference of two scores */
        bias = coarse(c, s->n_experts, 1);
        for (int64_t e = 0; e < s->n_experts; e++)
            bias[e] /= 16.0f;
    }
    phx_route_args a = {.logits = coarse(c, s->n_rows * s->n_experts, s->range),
                        .bias = bias,
                        .n_rows = s->n_rows,
                        .n_experts = s->n_experts,
                        .n_used = s->n_used,
                        .n_groups = s->n_groups,
                        .n_groups_used = s->n_groups_used,
                        .softmax = s->softmax,
                        .norm = s->norm,
                        .scale = 2.5f};
    int32_t *want_ids = check_out(c, n, sizeof(int32_t));
    float *want = check_out(c, n, sizeof(float));
    a.ids = want_ids;
    a.weights = want;
    c->ref->route(c->ref_pool, &a);
    int32_t *got_ids = check_out(c, n, sizeof(int32_t));
    float *got = check_out(c, n, sizeof(float));
    a.ids = got_ids;
    a.weights = got;
    c->ops->route(c->pools[0], &a);
    double *limit = check_mem(c, n, sizeof(double));
    for (int64_t i = 0; i < n; i++) {
        limit[i] = 16.0 * (double)FLT_EPSILON * fabs((double)want[i]);
        if (want_ids[i] != got_ids[i])
            check_fail(c, "row %lld: expert %d, expected %d", (long long)(i / s->n_used), got_ids[i],
                       want_ids[i]);
    }
    check_compare(c, &(check_result){want, got, PHX_F32, s->n_rows, s->n_used, s->n_used, limit});
    for (int i = 1; i < CHECK_POOLS; i++) {
        phx_route_args b = a;
        b.ids = check_out(c, n, sizeof(int32_t));
        b.weights = check_out(c, n, sizeof(float));
        c->ops->route(c->pools[i], &b);
        check_same(c, "the number of threads", got_ids, b.ids, n, sizeof(int32_t));
        check_same(c, "the number of threads", got, b.weights, n, sizeof(float));
    }
    for (int64_t r = 0; r < s->n_rows; r++) {
        phx_route_args b = a;
        b.logits += r * s->n_experts;
        b.n_rows = 1;
        b.ids = check_out(c, s->n_used, sizeof(int32_t));
        b.weights = check_out(c, s->n_used, sizeof(float));
        c->ops->route(c->pools[0], &b);
        check_same(c, "neighbouring rows", got_ids + r * s->n_used, b.ids, s->n_used, sizeof(int32_t));
        check_same(c, "neighbouring rows", got + r * s->n_used, b.weights, s->n_used, sizeof(float));
    }
    check_end(c);
}

void check_route(check *c)
{
    for (int flags = 0; flags < 8; flags++) {
        const bool softmax = (flags & 1) != 0;
        const bool norm = (flags & 2) != 0;
        const bool bias = (flags & 4) != 0;
        for (int64_t i = 0; i < N_ROW_COUNTS; i++) {
            route_case(c, &(route_shape){row_counts[i], 256, 8, 8, 4, softmax, norm, bias, 4});
            route_case(c, &(route_shape){row_counts[i], 256, 8, 1, 1, softmax, norm, bias, 4});
        }
        route_case(c, &(route_shape){3, 256, 8, 8, 4, softmax, norm, bias, 0});
        route_case(c, &(route_shape){3, 384, 8, 1, 1, softmax, norm, bias, 8});
        route_case(c, &(route_shape){3, 8, 2, 8, 4, softmax, norm, bias, 4});
        route_case(c, &(route_shape){2, 5, 5, 1, 1, softmax, norm, bias, 40});
        for (int64_t n = 1; n <= 70; n += 3)
            route_case(c, &(route_shape){2, n, n < 6 ? n : 6, 1, 1, softmax, norm, bias, 4});
    }
}

/* A block table that visits the cache's blocks in a scattered order. */
static const int32_t **scattered_blocks(check *c, int64_t n_rows, int64_t n_blocks)
{
    const int32_t **tables = check_mem(c, n_rows, sizeof(*tables));
    for (int64_t r = 0; r < n_rows; r++) {
        int32_t *table = check_mem(c, n_blocks, sizeof(*table));
        for (int64_t b = 0; b < n_blocks; b++)
            table[b] = (int32_t)((b * 5 + r * 3 + 1) % n_blocks);
        tables[r] = table;
    }
    return tables;
}

/* Finite ones: larger numbers become the largest. */
static uint16_t *as_f16(check *c, const float *values, int64_t n)
{
    uint16_t *codes = check_mem(c, n, sizeof(*codes));
    for (int64_t i = 0; i < n; i++)
        codes[i] = phx_f32_to_f16(fminf(fmaxf(values[i], -65504.0f), 65504.0f));
    return codes;
}

static void index_scores_case(check *c, phx_dtype dtype, int64_t n_rows, int64_t n_heads, int64_t d,
                              check_fill fill)
{
    check_case(c, "%s n_rows %lld n_heads %lld d %lld fill %d", phx_dtype_name(dtype), (long long)n_rows,
               (long long)n_heads, (long long)d, (int)fill);
    enum { N_BLOCKS = 3, N_KEYS_MAX = 190 };
    phx_activation all = check_activation(c, 1, N_BLOCKS * 64 * d, dtype == PHX_F16 ? PHX_F32 : dtype, fill);
    if (dtype == PHX_F16)
        all.data = as_f16(c, all.data, N_BLOCKS * 64 * d);
    const phx_cache keys = {(void *)(uintptr_t)all.data, d, dtype, n_rows % 2, 0};
    int32_t *n_keys = check_mem(c, n_rows, sizeof(*n_keys));
    for (int64_t r = 0; r < n_rows; r++)
        n_keys[r] = r == 0 ? N_KEYS_MAX : (int32_t)phx_rng_below(&c->rng, N_KEYS_MAX);
    phx_index_scores_args a = {.q = check_floats(c, n_rows * n_heads * d, fill),
                               .w = check_floats(c, n_rows * n_heads, CHECK_RANDOM),
                               .w_scale = 0.0883f,
                               .keys = &keys,
                               .blocks = scattered_blocks(c, n_rows, N_BLOCKS),
                               .n_keys = n_keys,
                               .n_keys_max = N_KEYS_MAX,
                               .n_rows = n_rows,
                               .n_heads = n_heads,
                               .scores_stride = N_KEYS_MAX + 2};
    const int64_t n = n_rows * a.scores_stride;
    float *want = check_out(c, n, sizeof(float));
    a.scores = want;
    c->ref->index_scores(c->ref_pool, &a);
    float *got = check_out(c, n, sizeof(float));
    a.scores = got;
    c->ops->index_scores(c->pools[0], &a);
    for (int64_t r = 0; r < n_rows; r++) {
        for (int64_t s = 0; s < n_keys[r]; s++) {
            const int64_t at = s + keys.n_before;
            const int64_t entry = (int64_t)a.blocks[r][at / 64] * 64 + at % 64;
            double score = 0.0;
            double size = 0.0;
            for (int64_t h = 0; h < n_heads; h++) {
                double dot = 0.0;
                double dot_size = 0.0;
                for (int64_t i = 0; i < d; i++) {
                    const double term =
                        (double)a.q[(r * n_heads + h) * d + i] * check_load(keys.data, dtype, entry * d + i);
                    dot += term;
                    dot_size += fabs(term);
                }
                const double w = (double)(a.w[r * n_heads + h] * a.w_scale);
                score += w * fmax(0.0, dot);
                size += fabs(w) * dot_size;
            }
            const double limit = ((double)d / 8.0 + (double)n_heads + 8.0) * (double)FLT_EPSILON * size;
            const int64_t first = r * a.scores_stride + s;
            check_value(c, c->is_ref ? score : (double)want[first], (double)got[first], limit, r, s);
        }
        /* beyond n_keys nothing is written; want has the pattern there too */
        const int64_t end = r * a.scores_stride + n_keys[r];
        check_same(c, "what lies beyond the keys", want + end, got + end, a.scores_stride - n_keys[r],
                   sizeof(float));
    }
    for (int i = 1; i < CHECK_POOLS; i++) {
        a.scores = check_out(c, n, sizeof(float));
        c->ops->index_scores(c->pools[i], &a);
        check_same(c, "the number of threads", got, a.scores, n, sizeof(float));
    }
    /* rows alone, with fewer keys: a score depends on its own key only */
    for (int64_t r = 0; r < n_rows; r++) {
        phx_index_scores_args b = a;
        int32_t *fewer = check_mem(c, 1, sizeof(*fewer));
        *fewer = n_keys[r] * 2 / 3;
        b.q += r * n_heads * d;
        b.w += r * n_heads;
        b.blocks += r;
        b.n_keys = fewer;
        b.n_keys_max = *fewer;
        b.n_rows = 1;
        b.scores = check_out(c, a.scores_stride, sizeof(float));
        c->ops->index_scores(c->pools[0], &b);
        check_same(c, "neighbouring rows or keys", got + r * a.scores_stride, b.scores, *fewer,
                   sizeof(float));
    }
    check_end(c);
}

void check_index_scores(check *c)
{
    static const phx_dtype dtypes[] = {PHX_BF16, PHX_F16, PHX_F32};
    for (size_t dt = 0; dt < sizeof(dtypes) / sizeof(dtypes[0]); dt++) {
        const phx_dtype dtype = dtypes[dt];
        for (int fill = 0; fill < CHECK_FILL_COUNT; fill++)
            index_scores_case(c, dtype, check_rows(c, 3), c->brief ? 2 : 5, 128, (check_fill)fill);
        for (int64_t i = 0; i < 5; i++)
            index_scores_case(c, dtype, row_counts[i], 4, 128, CHECK_RANDOM);
        index_scores_case(c, dtype, 2, 64, 128, CHECK_RANDOM);
        index_scores_case(c, dtype, 2, 32, 128, CHECK_RANDOM);
        index_scores_case(c, dtype, 1, 70, 128, CHECK_RANDOM);
        index_scores_case(c, dtype, check_rows(c, 13), 2, 64, CHECK_RANDOM);
        for (int64_t d = 1; d <= 130; d += check_step(c, 4))
            index_scores_case(c, dtype, 2, 3, d, CHECK_RANDOM);
    }
}

static void top_positions_case(check *c, int64_t n_rows, int64_t n_max, int64_t n_keep, uint32_t range)
{
    check_case(c, "n_rows %lld n_max %lld n_keep %lld range %u", (long long)n_rows, (long long)n_max,
               (long long)n_keep, range);
    int32_t *n_keys = check_mem(c, n_rows, sizeof(*n_keys));
    for (int64_t r = 0; r < n_rows; r++)
        n_keys[r] = r == 0 ? (int32_t)n_max : (int32_t)phx_rng_below(&c->rng, (uint32_t)n_max + 1);
    phx_top_positions_args a = {
        .scores_stride = n_max + 1, .n_keys = n_keys, .n_rows = n_rows, .n_keep = n_keep};
    float *scores = range == 99 ? check_floats(c, n_rows * a.scores_stride, CHECK_BIG)
                                : coarse(c, n_rows * a.scores_stride, range);
    for (int64_t i = 0; range != 99 && i < n_rows * a.scores_stride; i++) {
        if (scores[i] == 0.0f && (i & 1) != 0)
            scores[i] = -0.0f; /* equal to +0: a tie */
    }
    a.scores = scores;
    int32_t *want = check_out(c, n_rows * n_keep, sizeof(int32_t));
    int32_t *want_n = check_out(c, n_rows, sizeof(int32_t));
    a.positions = want;
    a.n_positions = want_n;
    c->ref->top_positions(c->ref_pool, &a);
    for (int i = 0; i < CHECK_POOLS; i++) {
        a.positions = check_out(c, n_rows * n_keep, sizeof(int32_t));
        a.n_positions = check_out(c, n_rows, sizeof(int32_t));
        c->ops->top_positions(c->pools[i], &a);
        check_same(c, "the level or the number of threads", want, a.positions, n_rows * n_keep,
                   sizeof(int32_t));
        check_same(c, "the level or the number of threads", want_n, a.n_positions, n_rows, sizeof(int32_t));
    }
    for (int64_t r = 0; r < n_rows;
         r++) { /* by the definition: kept exactly when fewer than n_keep come before */
        int64_t n_found = 0;
        for (int64_t s = 0; s < n_keys[r] && n_max <= 300; s++) {
            const float *row = scores + r * a.scores_stride;
            int64_t before = 0;
            for (int64_t k = 0; k < n_keys[r]; k++)
                before += row[k] > row[s] || (row[k] == row[s] && k < s) ? 1 : 0;
            if (before >= n_keep)
                continue;
            if (a.positions[r * n_keep + n_found] != s)
                check_fail(c, "row %lld: position %lld is missing", (long long)r, (long long)s);
            n_found++;
        }
    }
    check_end(c);
}

void check_top_positions(check *c)
{
    for (uint32_t range = 0; range < 3; range++) {
        for (int64_t i = 0; i < N_ROW_COUNTS; i++)
            top_positions_case(c, row_counts[i], 200, 50, range);
        for (int64_t n = 1; n <= 130; n += 3)
            top_positions_case(c, 2, n, 1 + n / 2, range);
    }
    for (int64_t n_keep = 1; n_keep <= 300; n_keep += 37)
        top_positions_case(c, 3, 299, n_keep, 99);
    top_positions_case(c, 2, 5000, 2048, 99);
    top_positions_case(c, 2, 5000, 2048, 1);
}

static double lse_formula(const float *x, int64_t n, double factor)
{
    double max = -INFINITY;
    for (int64_t i = 0; i < n; i++)
        max = fmax(max, (double)x[i] * factor);
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++)
        sum += exp((double)x[i] * factor - max);
    return n > 0 ? max + log(sum) : -INFINITY;
}

static void lse_compare(check *c, const phx_vocab_top_args *a, const float *want, const float *got)
{
    for (int64_t i = 0; i < a->n_rows * a->n_leaves * 2; i++) {
        const int64_t leaf = i / 2 % a->n_leaves;
        const int64_t r = i / 2 / a->n_leaves;
        const int64_t n = a->bounds[leaf + 1] - a->bounds[leaf];
        if (n == 0) {
            if (got[i] != -INFINITY)
                check_fail(c, "empty leaf %lld has a log-sum-exp of %g", (long long)leaf, (double)got[i]);
            continue;
        }
        const double factor = (i & 1) != 0 ? (double)a->inv_temperature[r] : 1.0;
        const double value =
            c->is_ref ? lse_formula(a->logits + r * a->stride + a->bounds[leaf], n, factor) : (double)want[i];
        /* at an inverse temperature the product of logit and factor rounds once more */
        check_value(c, value, (double)got[i], 16.0 * (double)FLT_EPSILON * (1.0 + fabs(value)), r, leaf);
    }
}

static void vocab_top_case(check *c, int64_t n_rows, uint32_t n_leaves, int64_t n_cols, int64_t n_top)
{
    check_case(c, "n_rows %lld leaves %u n_cols %lld n_top %lld", (long long)n_rows, n_leaves,
               (long long)n_cols, (long long)n_top);
    int64_t *bounds = check_mem(c, n_leaves + 1, sizeof(*bounds));
    for (uint32_t i = 0; i <= n_leaves; i++)
        bounds[i] = (int64_t)i * n_cols / n_leaves; /* leaves are empty when n_cols < n_leaves */
    float *inv_temperature = check_mem(c, n_rows, sizeof(float));
    for (int64_t r = 0; r < n_rows; r++)
        inv_temperature[r] = 0.25f + 3.0f * phx_rng_unit(phx_rng_u64(&c->rng));
    phx_vocab_top_args a = {.logits = coarse(c, n_rows * (n_cols + 3), 20),
                            .stride = n_cols + 3,
                            .n_rows = n_rows,
                            .n_leaves = n_leaves,
                            .bounds = bounds,
                            .first_id = 1000,
                            .inv_temperature = inv_temperature,
                            .n_top = n_top};
    const int64_t n = n_rows * n_leaves;
    float *want_lse = check_out(c, 2 * n, sizeof(float));
    int32_t *want_ids = check_out(c, n * n_top, sizeof(int32_t));
    float *want_values = check_out(c, n * n_top, sizeof(float));
    a.lse = want_lse;
    a.ids = want_ids;
    a.values = want_values;
    c->ref->vocab_top(c->ref_pool, &a);
    float *first_lse = NULL;
    for (int i = 0; i < CHECK_POOLS; i++) {
        a.lse = check_out(c, 2 * n, sizeof(float));
        a.ids = check_out(c, n * n_top, sizeof(int32_t));
        a.values = check_out(c, n * n_top, sizeof(float));
        c->ops->vocab_top(c->pools[i], &a);
        check_same(c, "the level or the number of threads", want_ids, a.ids, n * n_top, sizeof(int32_t));
        for (int64_t k = 0; k < n * n_top; k++) {
            if (a.ids[k] >= 0 && a.values[k] != want_values[k])
                check_fail(c, "logit %g of id %d, expected %g", (double)a.values[k], a.ids[k],
                           (double)want_values[k]);
        }
        first_lse = first_lse ? first_lse : a.lse;
        check_same(c, "the number of threads", first_lse, a.lse, 2 * n, sizeof(float));
    }
    lse_compare(c, &a, want_lse, first_lse);
    /* each leaf of each row in a call of its own, as at a higher tensor-parallel degree */
    for (int64_t i = 0; i < n; i++) {
        phx_vocab_top_args b = a;
        const int64_t leaf = i % n_leaves;
        int64_t *own = check_mem(c, 2, sizeof(*own));
        own[1] = bounds[leaf + 1] - bounds[leaf];
        b.logits += i / n_leaves * a.stride + bounds[leaf];
        b.n_rows = 1;
        b.n_leaves = 1;
        b.bounds = own;
        b.first_id += (int32_t)bounds[leaf];
        b.inv_temperature += i / n_leaves;
        b.lse = check_out(c, 2, sizeof(float));
        b.ids = check_out(c, n_top, sizeof(int32_t));
        b.values = check_out(c, n_top, sizeof(float));
        c->ops->vocab_top(c->pools[0], &b);
        check_same(c, "the cut of the vocabulary", first_lse + 2 * i, b.lse, 2, sizeof(float));
        check_same(c, "the cut of the vocabulary", want_ids + i * n_top, b.ids, n_top, sizeof(int32_t));
    }
    check_end(c);
}

void check_vocab_top(check *c)
{
    for (int64_t i = 0; i < 5; i++) {
        for (uint32_t n_leaves = 1; n_leaves <= 8; n_leaves *= 2)
            vocab_top_case(c, row_counts[i], n_leaves, 1500, 64);
    }
    for (int64_t n_cols = 1; n_cols <= 130; n_cols += 2)
        vocab_top_case(c, 2, 8, n_cols, 5);
    vocab_top_case(c, 2, 1, 5000, 64);
}
