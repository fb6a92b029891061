/* tests/kernels/check_attention.c - absorbed and expanded attention. */
#include "kernels/cache.h"
#include "tests/kernels/check.h"

#include <math.h>

#define N_BLOCKS 14
#define N_MAX    (N_BLOCKS * 64)

typedef struct shape {
    phx_dtype dtype; /* of the cache */
    phx_dtype out_dtype;
    check_fill fill;
    int64_t n_rows;
    int64_t n_heads;
    int64_t d_latent;
    int64_t d_rope;
    int32_t n_positions; /* of row 0; the others draw below it */
    bool sparse;         /* a list of positions, every second or so */
    bool peaked;         /* a later split has scores so large that the earlier ones vanish, or the reverse */
} shape;

static void attention_case(check *c, const shape *s);

void check_attention(check *c)
{
    static const bool is_sparse[] = {false, true};
    for (int i = 0; i < 2; i++) {
        const phx_dtype fp8 = PHX_F8_E4M3;
        attention_case(c, &(shape){fp8, PHX_BF16, CHECK_RANDOM, 1, 3, 512, 64, 300, is_sparse[i], false});
        attention_case(c, &(shape){fp8, PHX_F32, CHECK_RANDOM, 2, 17, 128, 64, 70, is_sparse[i], false});
        attention_case(c, &(shape){fp8, PHX_F32, CHECK_ZERO, 2, 2, 200, 17, 20, is_sparse[i], false});
    }
    for (int d = 0; d < 2; d++) {
        const phx_dtype dtype = d == 0 ? PHX_BF16 : PHX_F32;
        const phx_dtype out = d == 0 ? PHX_BF16 : PHX_F32;
        for (int fill = 0; fill < CHECK_FILL_COUNT; fill += c->brief ? 2 : 1) {
            if (fill == CHECK_BIG) /* scores of 2^40 say nothing about a softmax */
                continue;
            attention_case(c, &(shape){dtype, PHX_F32, (check_fill)fill, 2, 3, 64, 16, 600, false, false});
            attention_case(c, &(shape){dtype, out, (check_fill)fill, 3, 2, 32, 8, 300, true, false});
        }
        static const int32_t lengths[] = {1, 2, 15, 16, 17, 63, 64, 65, 255, 256, 257, 511, 512, 513, 800};
        for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i += c->brief ? 3 : 1)
            attention_case(c, &(shape){dtype, PHX_F32, CHECK_RANDOM, 2, 1 + (int64_t)i % 4, 32, 16,
                                       lengths[i], (i & 1) != 0, false});
        attention_case(c, &(shape){dtype, PHX_F32, CHECK_RANDOM, 4, 3, 64, 16, 600, false, true});
        attention_case(c, &(shape){dtype, PHX_F32, CHECK_RANDOM, 0, 2, 32, 16, 5, false, false});
        attention_case(c, &(shape){dtype, PHX_F32, CHECK_RANDOM, 7, 2, 32, 16, 40, false, false});
        attention_case(c,
                       &(shape){dtype, PHX_BF16, CHECK_RANDOM, check_rows(c, 64), 1, 16, 8, 40, true, false});
        attention_case(c, &(shape){dtype, PHX_BF16, CHECK_RANDOM, 1, 9, 512, 64, 300, false, false});
        attention_case(c, &(shape){dtype, PHX_F32, CHECK_RANDOM, 1, 17, 512, 64, 33, true, false});
        attention_case(c, &(shape){dtype, PHX_F32, CHECK_RANDOM, 2, 3, 128, 64, 600, false, true});
        attention_case(c, &(shape){dtype, PHX_BF16, CHECK_RANDOM, 2, 1, 256, 64, 257, true, false});
        attention_case(c, &(shape){dtype, PHX_F32, CHECK_RANDOM, 3, 18, 128, 64, 800, d == 0, true});
        for (int64_t heads = 4; heads <= (c->brief ? 32 : 128); heads *= 2) /* of a rank at tp 16 to 1 */
            attention_case(
                c, &(shape){dtype, PHX_BF16, CHECK_RANDOM, 1, heads, 512, 64, 33, heads % 16 == 8, false});
        for (int64_t latent = 1; latent <= 70; latent += check_step(c, 3))
            attention_case(
                c, &(shape){dtype, PHX_F32, CHECK_RANDOM, 2, 3, latent, 2 * (latent % 5), 20, false, false});
    }
}

typedef struct head { /* what the formula and the limit need of one head of one row */
    int64_t n;
    double score_max; /* of |score| */
    double entry_max; /* of |entry| */
    double *scores;   /* [n] */
    double lse_limit;
} head;

/* Floats of parts: n of them and the rows' words. */
static int64_t parts_floats(const phx_attention_args *a, int64_t n)
{
    const int64_t groups = (a->n_heads + PHX_ATTENTION_GROUP - 1) / PHX_ATTENTION_GROUP;
    return n * PHX_ATTENTION_PART_FLOATS(a->d_latent) + 2 * a->n_rows * groups;
}

static void give_parts(check *c, phx_attention_args *a, int64_t n)
{
    a->n_parts = parts_floats(a, n);
    a->parts = check_out(c, a->n_parts, sizeof(float));
}

static int64_t entry_of(const phx_attention_args *a, int64_t r, int64_t i)
{
    const int64_t position = a->positions ? a->positions[r * a->positions_stride + i] : i;
    const int64_t at = position + a->cache->n_before;
    return ((int64_t)a->blocks[r][at / 64] * 64 + at % 64) * a->cache->width;
}

/* Makes the entries of block 7 large: of the second split for row 0, of the first for others. */
static void make_peak(phx_activation *entries, int64_t width)
{
    for (int64_t i = 7 * 64 * width; i < 8 * 64 * width; i++) {
        const float x = 100.0f * (float)check_load(entries->data, entries->dtype, i);
        if (entries->dtype == PHX_BF16)
            ((uint16_t *)(uintptr_t)entries->data)[i] = phx_f32_to_bf16(x);
        else
            ((float *)(uintptr_t)entries->data)[i] = x;
    }
}

typedef struct answers { /* [n_rows][n_heads] and [n_rows][n_heads][d_latent] */
    float *value;
    float *lse;
    double *limit;
    double *lse_limit;
} answers;

/* Softmax in double with libm, without splits. */
static void formula(check *c, const phx_attention_args *a, double *scores, const answers *want)
{
    const int64_t width = a->cache->width;
    for (int64_t i = 0; i < a->n_rows * a->n_heads; i++) {
        const int64_t r = i / a->n_heads;
        head h = {.n = a->n_positions[r], .scores = scores};
        double max = -INFINITY;
        for (int64_t p = 0; p < h.n; p++) {
            double dot = 0.0;
            double size = 0.0;
            for (int64_t k = 0; k < width; k++) {
                const double entry = check_load(a->cache->data, a->cache->dtype, entry_of(a, r, p) + k);
                dot += (double)a->q[i * width + k] * entry;
                size += fabs((double)a->q[i * width + k] * entry) * (double)a->scale;
                h.entry_max = fmax(h.entry_max, fabs(entry));
            }
            h.scores[p] = dot * (double)a->scale;
            h.lse_limit = fmax(h.lse_limit, size);
            h.score_max = fmax(h.score_max, fabs(h.scores[p]));
            max = fmax(max, h.scores[p]);
        }
        double sum = 0.0;
        for (int64_t p = 0; p < h.n; p++)
            sum += exp(h.scores[p] - max);
        const double part = ((double)h.n / 64.0 + (double)width / 16.0 + 16.0) * (double)FLT_EPSILON;
        want->lse[i] = (float)(max + log(sum));
        want->lse_limit[i] = part * (1.0 + h.lse_limit);
        for (int64_t k = 0; k < a->d_latent; k++) {
            double out = 0.0;
            for (int64_t p = 0; c->is_ref && p < h.n; p++)
                out += exp(h.scores[p] - max) / sum *
                       check_load(a->cache->data, a->cache->dtype, entry_of(a, r, p) + k);
            want->limit[i * a->d_latent + k] = part * (1.0 + h.score_max) * h.entry_max;
            if (c->is_ref)
                want->value[i * a->d_latent + k] = (float)out;
        }
    }
}

static void promises(check *c, const phx_attention_args *args, const void *got, int64_t n, bool sparse)
{
    const size_t bytes = phx_dtype_bytes(args->out.dtype);
    for (int i = 1; i < CHECK_POOLS; i++) {
        phx_attention_args a = *args;
        a.lse = NULL;
        a.out.data = check_out(c, n, bytes);
        c->ops->attention(c->pools[i], &a);
        check_same(c, "the number of threads", got, a.out.data, n, bytes);
    }
    for (int64_t r = 0; r < args->n_rows; r++) {
        phx_attention_args a = *args;
        a.q += r * a.n_heads * a.cache->width;
        a.blocks += r;
        a.n_positions += r;
        a.positions = a.positions ? a.positions + r * a.positions_stride : NULL;
        a.n_rows = 1;
        a.lse = check_out(c, a.n_heads, sizeof(float));
        a.out.data = check_out(c, a.out.stride, bytes);
        c->ops->attention(c->pools[0], &a);
        check_same(c, "neighbouring rows", (const char *)got + (size_t)(r * a.out.stride) * bytes, a.out.data,
                   a.out.stride, bytes);
        check_same(c, "neighbouring rows, log-sum-exp", args->lse + r * a.n_heads, a.lse, a.n_heads,
                   sizeof(float));
    }
    for (int64_t h = 0; args->n_rows == 1 && h < args->n_heads; h++) { /* a head alone: another tp */
        phx_attention_args a = *args;
        a.q += h * a.cache->width;
        a.n_heads = 1;
        a.lse = NULL;
        a.out.data = check_out(c, a.out.stride, bytes);
        c->ops->attention(c->pools[0], &a);
        check_same(c, "neighbouring heads", (const char *)got + (size_t)(h * a.d_latent) * bytes, a.out.data,
                   a.d_latent, bytes);
    }
    static const int64_t n_parts[] = {2, 7}; /* most cases have more splits: rows are not cut */
    for (size_t i = 0; args->n_rows > 0 && i < sizeof(n_parts) / sizeof(n_parts[0]); i++) {
        phx_attention_args a = *args;
        give_parts(c, &a, n_parts[i]);
        a.lse = check_out(c, a.n_rows * a.n_heads, sizeof(float));
        a.out.data = check_out(c, n, bytes);
        c->ops->attention(c->pools[0], &a);
        check_same(c, "how many parts there are", got, a.out.data, n, bytes);
        check_same(c, "how many parts there are, log-sum-exp", args->lse, a.lse, a.n_rows * a.n_heads,
                   sizeof(float));
    }
    if (sparse)
        return;
    phx_attention_args a = *args;
    a.lse = NULL;
    int32_t *positions = check_mem(c, a.n_rows * N_MAX, sizeof(*positions));
    for (int64_t i = 0; i < a.n_rows * N_MAX; i++)
        positions[i] = (int32_t)(i % N_MAX);
    a.positions = positions;
    a.positions_stride = N_MAX;
    a.out.data = check_out(c, n, bytes);
    c->ops->attention(c->pools[0], &a);
    check_same(c, "dense or listed positions", got, a.out.data, n, bytes);
}

/* An fp8 cache of the plain one's numbers, spread so that groups have scales of their own; they become what
 * the fp8 one holds. */
static phx_cache make_fp8(check *c, const phx_cache *plain, int64_t d_latent)
{
    phx_cache cache = {NULL, plain->width, PHX_F8_E4M3, plain->n_before, d_latent};
    uint16_t *numbers = plain->data;
    float *row = check_mem(c, plain->width, sizeof(float));
    cache.data = check_out(c, N_MAX * phx_cache_entry_bytes(&cache), 1);
    for (int64_t e = 0; e < N_MAX; e++) {
        for (int64_t k = 0; k < plain->width; k++)
            row[k] = ldexpf(phx_bf16_to_f32(numbers[e * plain->width + k]),
                            (int)(k / PHX_CACHE_GROUP % 3 - e % 2));
        phx_cache_put_row(&cache, e, row);
        for (int64_t k = 0; k < plain->width; k++)
            numbers[e * plain->width + k] = phx_f32_to_bf16(phx_cache_number(&cache, e, k));
    }
    return cache;
}

/* args have the plain cache; got is what an fp8 one of the same numbers gave. */
static void same_as_plain(check *c, const phx_attention_args *args, const void *got, int64_t n)
{
    const size_t bytes = phx_dtype_bytes(args->out.dtype);
    phx_attention_args a = *args;
    a.lse = NULL;
    a.out.data = check_out(c, n, bytes);
    c->ops->attention(c->pools[0], &a);
    check_same(c, "fp8, or bf16 that holds the same", got, a.out.data, n, bytes);
}

static void draw_positions(check *c, const shape *s, phx_attention_args *a)
{
    int32_t *n_positions = check_mem(c, s->n_rows, sizeof(*n_positions));
    int32_t *positions = check_mem(c, s->n_rows * N_MAX, sizeof(*positions));
    const int32_t **blocks = check_mem(c, s->n_rows, sizeof(*blocks));
    for (int64_t r = 0; r < s->n_rows; r++) {
        n_positions[r] =
            r == 0 ? s->n_positions : 1 + (int32_t)phx_rng_below(&c->rng, (uint32_t)s->n_positions);
        int32_t *table = check_mem(c, N_BLOCKS, sizeof(*table));
        for (int64_t b = 0; b < N_BLOCKS; b++)
            table[b] = (int32_t)((b * 5 + r * 3 + 1) % N_BLOCKS);
        blocks[r] = table;
        int32_t position = 0;
        const int32_t spare = (int32_t)(N_MAX - a->cache->n_before) - n_positions[r];
        int32_t skipped = 0;
        for (int32_t i = 0; i < n_positions[r]; i++) {
            const bool skip = skipped < spare && phx_rng_below(&c->rng, 2) == 0;
            skipped += skip ? 1 : 0;
            position += skip ? 1 : 0;
            positions[r * N_MAX + i] = position++;
        }
    }
    a->blocks = blocks;
    a->n_positions = n_positions;
    a->positions = s->sparse ? positions : NULL;
    a->positions_stride = N_MAX;
}

static void attention_case(check *c, const shape *s)
{
    check_case(c, "%s to %s fill %d n_rows %lld n_heads %lld width %lld + %lld positions %d%s%s",
               phx_dtype_name(s->dtype), phx_dtype_name(s->out_dtype), (int)s->fill, (long long)s->n_rows,
               (long long)s->n_heads, (long long)s->d_latent, (long long)s->d_rope, s->n_positions,
               s->sparse ? " listed" : "", s->peaked ? " peaked" : "");
    const int64_t width = s->d_latent + s->d_rope;
    const bool is_fp8 = s->dtype == PHX_F8_E4M3;
    const phx_dtype plain_dtype = is_fp8 ? PHX_BF16 : s->dtype;
    phx_activation entries = check_activation(c, 1, N_MAX * width, plain_dtype, s->fill);
    if (s->peaked)
        make_peak(&entries, width);
    const int64_t n_before = s->n_positions < N_MAX ? s->n_rows % 2 : 0;
    const phx_cache cache = {(void *)(uintptr_t)entries.data, width, plain_dtype, n_before, 0};
    const phx_cache fp8 = is_fp8 ? make_fp8(c, &cache, s->d_latent) : cache;
    phx_attention_args a = {.n_rows = s->n_rows,
                            .n_heads = s->n_heads,
                            .cache = &cache,
                            .d_latent = s->d_latent,
                            .scale = (float)(3.0 / sqrt((double)width))};
    a.q = check_floats(c, s->n_rows * s->n_heads * width, s->fill);
    draw_positions(c, s, &a);
    const int64_t n_cols = s->n_heads * s->d_latent;
    a.out.stride = n_cols + 1;
    a.out.dtype = s->out_dtype;
    const size_t bytes = phx_dtype_bytes(s->out_dtype);
    const int64_t n = s->n_rows * a.out.stride;
    const int64_t n_lse = s->n_rows * s->n_heads;
    const answers limits = {.value = check_mem(c, s->n_rows * n_cols, sizeof(float)),
                            .lse = check_mem(c, n_lse, sizeof(float)),
                            .limit = check_mem(c, s->n_rows * n_cols, sizeof(double)),
                            .lse_limit = check_mem(c, n_lse, sizeof(double))};
    double *limit = limits.limit;
    const float *value = limits.value;
    void *want = check_out(c, n, bytes);
    float *want_lse = check_out(c, n_lse, sizeof(float));
    a.out.data = want;
    a.lse = want_lse;
    c->ref->attention(c->ref_pool, &a);
    void *got = check_out(c, n, bytes);
    a.out.data = got;
    a.lse = check_out(c, n_lse, sizeof(float));
    a.cache = &fp8;
    give_parts(c, &a, s->n_rows * (N_MAX / PHX_ATTENTION_SPLIT + 1) * (s->n_heads / PHX_ATTENTION_GROUP + 1));
    c->ops->attention(c->pools[0], &a);
    if (is_fp8) {
        a.cache = &cache;
        same_as_plain(c, &a, got, n);
    }
    formula(c, &a, check_mem(c, N_MAX, sizeof(double)), &limits);
    for (int64_t i = 0; c->is_ref && s->out_dtype == PHX_F32 && i < s->n_rows * n_cols; i++)
        ((float *)want)[i / n_cols * a.out.stride + i % n_cols] = value[i];
    check_compare(c, &(check_result){want, got, s->out_dtype, s->n_rows, n_cols, a.out.stride, limit});
    check_compare(c, &(check_result){c->is_ref ? limits.lse : want_lse, a.lse, PHX_F32, s->n_rows, s->n_heads,
                                     s->n_heads, limits.lse_limit});
    a.cache = &fp8;
    promises(c, &a, got, n, s->sparse);
    check_end(c);
}

typedef struct expanded_shape {
    int64_t n_rows;
    int64_t n_heads;
    int64_t d[3]; /* own, rotary, value */
    int32_t n_max;
    check_fill fill;
    int64_t room; /* 0: not rounded; heads for which parts has room */
} expanded_shape;

static void expanded_case(check *c, const expanded_shape *s);

void check_attention_expanded(check *c)
{
    for (int fill = 0; fill < CHECK_FILL_COUNT; fill++) {
        if (fill != CHECK_BIG)
            expanded_case(c, &(expanded_shape){3, 2, {32, 16, 24}, 300, (check_fill)fill, 0});
    }
    expanded_case(c, &(expanded_shape){0, 2, {32, 16, 24}, 3, CHECK_RANDOM, 0});
    expanded_case(c, &(expanded_shape){64, 3, {16, 8, 16}, 64, CHECK_RANDOM, 0});
    expanded_case(c, &(expanded_shape){2, 2, {128, 64, 128}, 530, CHECK_RANDOM, 0});
    for (int64_t i = 1; i <= 40; i++)
        expanded_case(
            c, &(expanded_shape){2, 2, {i, 2 * (i % 7), 1 + 3 * i % 37}, 5 + (int32_t)i, CHECK_RANDOM, 0});
    static const int64_t dims[][3] = {{128, 64, 128}, {192, 64, 256}, {32, 32, 32},
                                      {24, 16, 32},   {16, 16, 16},   {64, 0, 72}};
    for (int i = 0; i < 12; i++)
        expanded_case(c, &(expanded_shape){i % 3 == 1 ? 67 : 5,
                                           3,
                                           {dims[i % 6][0], dims[i % 6][1], dims[i % 6][2]},
                                           i < 6 ? 70 : 300 - 11 * i,
                                           i % 5 == 4 ? CHECK_ALTERNATING : CHECK_RANDOM,
                                           1 + i % 3});
}

static void expanded_limits(check *c, const phx_attention_expanded_args *a, double *limit)
{
    double entry_max = 0.0;
    const int64_t d_kv = a->d_nope + a->d_v;
    const int64_t d_q = a->d_nope + a->d_rope;
    double *score_max = check_mem(c, a->n_rows * a->n_heads, sizeof(double));
    for (int64_t i = 0; i < a->n_rows * a->n_heads; i++) {
        const int64_t r = i / a->n_heads;
        const int64_t h = i % a->n_heads;
        for (int64_t p = 0; p < a->n_keys[r]; p++) {
            const float *kv = a->kv + (p * a->n_heads + h) * d_kv;
            double dot = 0.0;
            for (int64_t k = 0; k < a->d_nope; k++)
                dot += (double)a->q[i * d_q + k] * (double)kv[k];
            for (int64_t k = 0; k < a->d_rope; k++)
                dot += (double)a->q[i * d_q + a->d_nope + k] * (double)a->k_rope[p * a->d_rope + k];
            score_max[i] = fmax(score_max[i], fabs(dot * (double)a->scale));
            for (int64_t k = 0; k < a->d_v; k++)
                entry_max = fmax(entry_max, fabs((double)kv[a->d_nope + k]));
        }
    }
    for (int64_t i = 0; i < a->n_rows * a->n_heads * a->d_v; i++) {
        const int64_t item = i / a->d_v;
        const double n = (double)a->n_keys[item / a->n_heads];
        limit[i] = (n / 64.0 + (double)d_q / 16.0 + 16.0) * (double)FLT_EPSILON * (1.0 + score_max[item]) *
                       entry_max +
                   (a->rounded ? entry_max / 256.0 : 0.0);
    }
}

static float *expanded_floats(check *c, const expanded_shape *s, int64_t n)
{
    float *x = check_floats(c, n, s->fill);
    for (int64_t i = 0; i < n && s->room > 0; i++)
        x[i] = phx_bf16_to_f32(phx_f32_to_bf16(x[i]));
    return x;
}

static void expanded_case(check *c, const expanded_shape *s)
{
    const int64_t n_rows = s->n_rows;
    const int64_t n_heads = s->n_heads;
    const int64_t *d = s->d;
    check_case(c, "n_rows %lld n_heads %lld d %lld + %lld, %lld keys %d fill %d room %lld", (long long)n_rows,
               (long long)n_heads, (long long)d[0], (long long)d[1], (long long)d[2], s->n_max, (int)s->fill,
               (long long)s->room);
    int32_t *n_keys = check_mem(c, n_rows, sizeof(*n_keys));
    for (int64_t r = 0; r < n_rows; r++)
        n_keys[r] = r == 0 ? s->n_max : 1 + (int32_t)phx_rng_below(&c->rng, (uint32_t)s->n_max);
    if (s->room > 1)
        n_keys[n_rows - 1] = 0;
    const phx_dtype dtype = (d[0] & 1) != 0 ? PHX_F32 : PHX_BF16;
    phx_attention_expanded_args a = {.q = expanded_floats(c, s, n_rows * n_heads * (d[0] + d[1])),
                                     .kv = expanded_floats(c, s, s->n_max * n_heads * (d[0] + d[2])),
                                     .k_rope = expanded_floats(c, s, s->n_max * d[1]),
                                     .n_keys = n_keys,
                                     .n_rows = n_rows,
                                     .n_heads = n_heads,
                                     .d_nope = d[0],
                                     .d_rope = d[1],
                                     .d_v = d[2],
                                     .scale = (float)(1.0 / sqrt((double)(d[0] + d[1]))),
                                     .rounded = s->room > 0,
                                     .n_keys_max = s->n_max};
    if (s->room > 0) {
        a.n_parts = s->room * s->n_max * ((d[0] + d[1] + 63) / 64 + (d[2] + 63) / 64) * 32;
        a.parts = check_out(c, a.n_parts, sizeof(float));
    }
    const int64_t n_cols = n_heads * d[2];
    const size_t bytes = phx_dtype_bytes(dtype);
    a.out.stride = n_cols + 2;
    a.out.dtype = dtype;
    const int64_t n = n_rows * a.out.stride;
    void *want = check_out(c, n, bytes);
    a.out.data = want;
    c->ref->attention_expanded(c->ref_pool, &a);
    void *got = check_out(c, n, bytes);
    a.out.data = got;
    c->ops->attention_expanded(c->pools[0], &a);
    double *limit = check_mem(c, n_rows * n_cols, sizeof(double));
    expanded_limits(c, &a, limit);
    check_compare(c, &(check_result){want, got, dtype, n_rows, n_cols, a.out.stride, limit});
    for (int i = 1; i < CHECK_POOLS; i++) {
        a.out.data = check_out(c, n, bytes);
        c->ops->attention_expanded(c->pools[i], &a);
        check_same(c, "the number of threads", got, a.out.data, n, bytes);
    }
    if (n_rows > 1) { /* the last but one alone */
        const int64_t r = n_rows - 2;
        a.q += r * n_heads * (d[0] + d[1]);
        a.n_keys += r;
        a.n_rows = 1;
        a.out.data = check_out(c, a.out.stride, bytes);
        c->ops->attention_expanded(c->pools[0], &a);
        check_same(c, "neighbouring rows", (const char *)got + (size_t)(r * a.out.stride) * bytes, a.out.data,
                   n_cols, bytes);
    }
    check_end(c);
}
