/* tests/kernels/check_norm.c - rms_norm, layer_norm, rope, latent_write, index_round. */
#include <math.h>

#include "kernels/cache.h"
#include "tests/kernels/check.h"

static const int64_t row_counts[] = {0, 1, 2, 3, 7, 64};
#define N_ROW_COUNTS ((int64_t)(sizeof(row_counts) / sizeof(row_counts[0])))

static void rms_norm_case(check *c, int64_t n_rows, int64_t n_cols, check_fill fill, phx_dtype out_dtype);
static void layer_norm_case(check *c, int64_t n_rows, int64_t n_cols, check_fill fill);
static void rope_case(check *c, int64_t n_rows, int64_t n_heads, int64_t d_rope, bool interleaved);
static void latent_write_case(check *c, phx_dtype dtype, int64_t n_rows, int64_t d_latent, int64_t d_rope);
static void index_round_case(check *c, int64_t n_vectors, int64_t d, check_fill fill, int mode);

void check_rms_norm(check *c)
{
    for (int fill = 0; fill < CHECK_FILL_COUNT; fill++) {
        for (int64_t i = 0; i < N_ROW_COUNTS; i++)
            rms_norm_case(c, row_counts[i], 331, (check_fill)fill, (i & 1) != 0 ? PHX_F32 : PHX_BF16);
        rms_norm_case(c, 2, 7168, (check_fill)fill, PHX_BF16);
    }
    for (int64_t n_cols = 1; n_cols <= 130; n_cols++)
        rms_norm_case(c, 2, n_cols, CHECK_RANDOM, PHX_BF16);
}

static void rms_norm_limits(const phx_rms_norm_args *a, double *limit, float *want)
{
    for (int64_t r = 0; r < a->n_rows; r++) {
        const float *x = a->x + r * a->x_stride;
        double sum = 0.0;
        for (int64_t i = 0; i < a->n_cols; i++)
            sum += (double)x[i] * (double)x[i];
        const double root = sqrt(sum / (double)a->n_cols + (double)a->eps);
        for (int64_t i = 0; i < a->n_cols; i++) {
            const double y = (double)x[i] / root * (double)a->weight[i];
            limit[r * a->n_cols + i] = ((double)a->n_cols / 32.0 + 4.0) * (double)FLT_EPSILON * fabs(y);
            want[r * a->n_cols + i] = (float)y;
        }
    }
}

/* x + add is added, kept and normalised as it would be one op after the other; in place too. */
static void sum_on_the_way(check *c, const phx_rms_norm_args *args, const float *x)
{
    const int64_t n = args->n_rows * args->x_stride, n_out = args->n_rows * args->out_f32_stride;
    const float *add = check_floats(c, args->n_rows * args->n_cols, CHECK_RANDOM);
    float *sum = check_copy(c, x, n, sizeof(float));
    for (int64_t i = 0; i < args->n_rows * args->n_cols; i++)
        sum[i / args->n_cols * args->x_stride + i % args->n_cols] += add[i];
    phx_rms_norm_args a = *args;
    float *want = check_out(c, n_out, sizeof(float));
    a.out_act.data = NULL;
    a.x = sum;
    a.out_f32 = want;
    c->ops->rms_norm(c->pools[0], &a);
    for (int in_place = 0; in_place < 2; in_place++) {
        float *own = check_copy(c, x, n, sizeof(float));
        a.x = in_place ? own : x;
        a.add = add;
        a.sum = own;
        a.out_f32 = check_out(c, n_out, sizeof(float));
        c->ops->rms_norm(c->pools[in_place], &a);
        check_same(c, "a sum made before", sum, own, n, sizeof(float));
        check_same(c, "the norm of that sum", want, a.out_f32, n_out, sizeof(float));
    }
}

static void rms_norm_case(check *c, int64_t n_rows, int64_t n_cols, check_fill fill, phx_dtype out_dtype)
{
    check_case(c, "n_rows %lld n_cols %lld fill %d out %s", (long long)n_rows, (long long)n_cols, (int)fill,
               phx_dtype_name(out_dtype));
    phx_rms_norm_args a = {.x_stride = n_cols + 5,
                           .weight = check_floats(c, n_cols, CHECK_RANDOM),
                           .eps = 1e-6f,
                           .n_rows = n_rows,
                           .n_cols = n_cols,
                           .out_f32_stride = n_cols + 1};
    float *x = check_floats(c, n_rows * a.x_stride, fill);
    a.x = x;
    a.out_act.stride = n_cols + 2;
    a.out_act.dtype = out_dtype;
    const size_t bytes = phx_dtype_bytes(out_dtype);
    float *formula = check_mem(c, n_rows * n_cols, sizeof(float));
    double *limit = check_mem(c, n_rows * n_cols, sizeof(double));
    rms_norm_limits(&a, limit, formula);
    float *want = check_out(c, n_rows * a.out_f32_stride, sizeof(float));
    a.out_f32 = want;
    c->ref->rms_norm(c->ref_pool, &a);
    for (int64_t i = 0; c->is_ref && i < n_rows * n_cols; i++)
        want[i / n_cols * a.out_f32_stride + i % n_cols] = formula[i];
    float *got = check_out(c, n_rows * a.out_f32_stride, sizeof(float));
    void *got_act = check_out(c, n_rows * a.out_act.stride, bytes);
    a.out_f32 = got;
    a.out_act.data = got_act;
    c->ops->rms_norm(c->pools[0], &a);
    check_compare(c, &(check_result){want, got, PHX_F32, n_rows, n_cols, a.out_f32_stride, limit});
    /* the activation is the very f32 value rounded */
    void *act = check_out(c, n_rows * a.out_act.stride, bytes);
    for (int64_t i = 0; i < n_rows * n_cols; i++) {
        const int64_t at = i / n_cols * a.out_act.stride + i % n_cols;
        const float y = got[i / n_cols * a.out_f32_stride + i % n_cols];
        if (out_dtype == PHX_BF16)
            ((uint16_t *)act)[at] = phx_f32_to_bf16(y);
        else
            ((float *)act)[at] = y;
    }
    check_compare(c, &(check_result){act, got_act, out_dtype, n_rows, n_cols, a.out_act.stride, NULL});
    /* only the activation, on more threads */
    for (int i = 1; i < CHECK_POOLS; i++) {
        phx_rms_norm_args b = a;
        b.out_f32 = NULL;
        b.out_act.data = check_out(c, n_rows * a.out_act.stride, bytes);
        c->ops->rms_norm(c->pools[i], &b);
        check_same(c, "the number of threads or outputs", got_act, b.out_act.data, n_rows * a.out_act.stride,
                   bytes);
    }
    sum_on_the_way(c, &a, x);
    /* in place, one row at a time */
    for (int64_t r = 0; r < n_rows; r++) {
        phx_rms_norm_args b = a;
        b.x = b.out_f32 = check_copy(c, x + r * a.x_stride, n_cols, sizeof(float));
        b.out_act.data = NULL;
        b.n_rows = 1;
        c->ops->rms_norm(c->pools[0], &b);
        check_same(c, "neighbouring rows or the place", got + r * a.out_f32_stride, b.out_f32, n_cols,
                   sizeof(float));
    }
    check_end(c);
}

void check_layer_norm(check *c)
{
    for (int fill = 0; fill < CHECK_FILL_COUNT; fill++) {
        for (int64_t i = 0; i < N_ROW_COUNTS; i++)
            layer_norm_case(c, row_counts[i], 128, (check_fill)fill);
    }
    for (int64_t n_cols = 1; n_cols <= 130; n_cols++)
        layer_norm_case(c, 2, n_cols, CHECK_RANDOM);
}

static void layer_norm_case(check *c, int64_t n_rows, int64_t n_cols, check_fill fill)
{
    check_case(c, "n_rows %lld n_cols %lld fill %d", (long long)n_rows, (long long)n_cols, (int)fill);
    const int64_t n = n_rows * n_cols;
    const float *x = check_floats(c, n, fill);
    phx_layer_norm_args a = {.weight = check_floats(c, n_cols, CHECK_RANDOM),
                             .bias = check_floats(c, n_cols, CHECK_RANDOM),
                             .eps = 1e-6f,
                             .n_rows = n_rows,
                             .n_cols = n_cols};
    float *want = check_copy(c, x, n, sizeof(float));
    a.x = want;
    c->ref->layer_norm(c->ref_pool, &a);
    float *got = check_copy(c, x, n, sizeof(float));
    a.x = got;
    c->ops->layer_norm(c->pools[0], &a);
    double *limit = check_mem(c, n, sizeof(double));
    for (int64_t i = 0; i < n; i++)
        limit[i] =
            ((double)n_cols / 16.0 + 8.0) * (double)FLT_EPSILON *
            (fabs((double)want[i]) + fabs((double)a.bias[i % n_cols]) + fabs((double)a.weight[i % n_cols]));
    check_compare(c, &(check_result){want, got, PHX_F32, n_rows, n_cols, n_cols, limit});
    for (int i = 1; i < CHECK_POOLS; i++) {
        a.x = check_copy(c, x, n, sizeof(float));
        c->ops->layer_norm(c->pools[i], &a);
        check_same(c, "the number of threads", got, a.x, n, sizeof(float));
    }
    a.n_rows = 1;
    for (int64_t r = 0; r < n_rows; r++) {
        a.x = check_copy(c, x + r * n_cols, n_cols, sizeof(float));
        c->ops->layer_norm(c->pools[0], &a);
        check_same(c, "neighbouring rows", got + r * n_cols, a.x, n_cols, sizeof(float));
    }
    check_end(c);
}

void check_rope(check *c)
{
    for (int64_t i = 0; i < N_ROW_COUNTS; i++) {
        for (int64_t d_rope = 2; d_rope <= 66; d_rope += i < 4 ? 2 : 32) {
            rope_case(c, row_counts[i], 1 + d_rope % 5, d_rope, true);
            rope_case(c, row_counts[i], 1 + d_rope % 5, d_rope, false);
        }
    }
}

static void rope_case(check *c, int64_t n_rows, int64_t n_heads, int64_t d_rope, bool interleaved)
{
    check_case(c, "n_rows %lld n_heads %lld d_rope %lld %s", (long long)n_rows, (long long)n_heads,
               (long long)d_rope, interleaved ? "pairs" : "halves");
    enum { N_POSITIONS = 300 };
    const int64_t n_freqs = d_rope / 2;
    double *freqs = check_mem(c, n_freqs, sizeof(*freqs));
    for (int64_t i = 0; i < n_freqs; i++)
        freqs[i] = pow(1e4, -(double)i / (double)n_freqs);
    float *table = check_mem(c, N_POSITIONS * d_rope, sizeof(*table));
    phx_rope_table(freqs, n_freqs, N_POSITIONS, 1.0, table);
    int32_t *positions = check_mem(c, n_rows, sizeof(*positions));
    for (int64_t r = 0; r < n_rows; r++)
        positions[r] = (int32_t)phx_rng_below(&c->rng, N_POSITIONS);
    const int64_t head_stride = d_rope + 3;
    phx_rope_args a = {.row_stride = n_heads * head_stride + 1,
                       .head_stride = head_stride,
                       .n_rows = n_rows,
                       .n_heads = n_heads,
                       .d_rope = d_rope,
                       .interleaved = interleaved,
                       .positions = positions,
                       .table = table};
    const int64_t n = n_rows * a.row_stride;
    const float *x = check_floats(c, n, CHECK_RANDOM);
    float *want = check_copy(c, x, n, sizeof(float));
    a.x = want;
    c->ref->rope(c->ref_pool, &a);
    float *got = check_copy(c, x, n, sizeof(float));
    a.x = got;
    c->ops->rope(c->pools[0], &a);
    double *limit = check_mem(c, n, sizeof(double)); /* 0 outside of heads: untouched */
    for (int64_t r = 0; r < n_rows; r++) {
        for (int64_t h = 0; h < n_heads; h++) {
            const int64_t at = r * a.row_stride + h * head_stride;
            for (int64_t i = 0; i < n_freqs; i++) {
                const int64_t p = interleaved ? at + 2 * i : at + i;
                const int64_t q = interleaved ? p + 1 : p + n_freqs;
                limit[p] = limit[q] = 2.0 * (double)FLT_EPSILON * (fabs((double)x[p]) + fabs((double)x[q]));
            }
        }
    }
    check_compare(c, &(check_result){want, got, PHX_F32, n_rows, a.row_stride, a.row_stride, limit});
    for (int i = 1; i < CHECK_POOLS; i++) {
        a.x = check_copy(c, x, n, sizeof(float));
        c->ops->rope(c->pools[i], &a);
        check_same(c, "the number of threads", got, a.x, n, sizeof(float));
    }
    a.copy_head_stride = d_rope + 2;
    a.copy_row_stride = n_heads * a.copy_head_stride;
    const int64_t n_copy = n_rows * a.copy_row_stride;
    float *copied = check_out(c, n_copy, sizeof(float)),
          *want_copied = check_copy(c, copied, n_copy, sizeof(float));
    for (int64_t i = 0; i < n_rows * n_heads * d_rope; i++) {
        const int64_t r = i / d_rope / n_heads, h = i / d_rope % n_heads, k = i % d_rope;
        want_copied[r * a.copy_row_stride + h * a.copy_head_stride + k] =
            got[r * a.row_stride + h * head_stride + k];
    }
    a.x = check_copy(c, x, n, sizeof(float));
    a.copy = copied;
    c->ops->rope(c->pools[0], &a);
    check_same(c, "rope without a copy", got, a.x, n, sizeof(float));
    check_same(c, "what was rotated", want_copied, copied, n_copy, sizeof(float));
    a.copy = NULL;
    a.n_rows = 1;
    for (int64_t r = 0; r < n_rows; r++) {
        a.x = check_copy(c, x + r * a.row_stride, a.row_stride, sizeof(float));
        a.positions = positions + r;
        c->ops->rope(c->pools[0], &a);
        check_same(c, "neighbouring rows", got + r * a.row_stride, a.x, a.row_stride, sizeof(float));
    }
    check_end(c);
}

void check_latent_write(check *c)
{
    static const phx_dtype dtypes[] = {PHX_BF16, PHX_F32, PHX_F8_E4M3};
    static const int64_t widths[][2] = {{512, 64}, {200, 18}, {33, 4}};
    for (int i = 0; i < 9; i++) {
        for (int64_t k = 0; k < N_ROW_COUNTS; k++)
            latent_write_case(c, dtypes[i / 3], check_rows(c, row_counts[k]), widths[i % 3][0],
                              widths[i % 3][1]);
    }
}

/* The bits of one op after the other; rows of a batch and rows alone. */
static void latent_write_case(check *c, phx_dtype dtype, int64_t n_rows, int64_t d_latent, int64_t d_rope)
{
    check_case(c, "%s n_rows %lld of %lld + %lld", phx_dtype_name(dtype), (long long)n_rows,
               (long long)d_latent, (long long)d_rope);
    enum { N_POSITIONS = 300, N_ENTRIES = 192 };
    phx_cache cache = {.width = d_latent + d_rope, .dtype = dtype, .d_latent = d_latent};
    const int64_t n_bytes = N_ENTRIES * phx_cache_entry_bytes(&cache), stride = cache.width + 3;
    int32_t *positions = check_mem(c, n_rows, sizeof(*positions));
    int64_t *entries = check_mem(c, n_rows, sizeof(*entries));
    for (int64_t r = 0; r < n_rows; r++) {
        positions[r] = (int32_t)phx_rng_below(&c->rng, N_POSITIONS);
        entries[r] = r % 3 == 2 ? -1 : (r * 67 + 5) % N_ENTRIES; /* all different; some rows are padding */
    }
    phx_latent_write_args a = {.x = check_floats(c, n_rows * stride, CHECK_RANDOM),
                               .x_stride = stride,
                               .weight = check_floats(c, d_latent, CHECK_RANDOM),
                               .eps = 1e-6f,
                               .n_rows = n_rows,
                               .d_latent = d_latent,
                               .positions = positions,
                               .table = check_floats(c, N_POSITIONS * d_rope, CHECK_RANDOM),
                               .entries = entries,
                               .cache = &cache};
    float *rows = check_copy(c, a.x, n_rows * stride, sizeof(float));
    c->ops->rms_norm(c->pools[0], &(phx_rms_norm_args){.x = rows,
                                                       .x_stride = stride,
                                                       .weight = a.weight,
                                                       .eps = a.eps,
                                                       .n_rows = n_rows,
                                                       .n_cols = d_latent,
                                                       .out_f32 = rows,
                                                       .out_f32_stride = stride});
    c->ops->rope(c->pools[0], &(phx_rope_args){.x = rows + d_latent,
                                               .row_stride = stride,
                                               .head_stride = d_rope,
                                               .n_rows = n_rows,
                                               .n_heads = 1,
                                               .d_rope = d_rope,
                                               .interleaved = true,
                                               .positions = positions,
                                               .table = a.table});
    void *want = check_out(c, n_bytes, 1);
    cache.data = want;
    c->ops->cache_write(c->pools[0], &(phx_cache_write_args){rows, stride, n_rows, entries, &cache});
    for (int i = 0; i < CHECK_POOLS; i++) {
        cache.data = check_out(c, n_bytes, 1);
        c->ops->latent_write(c->pools[i], &a);
        check_same(c, "norm, rotation and writing as three ops", want, cache.data, n_bytes, 1);
    }
    cache.data = check_out(c, n_bytes, 1);
    for (int64_t r = 0; r < n_rows; r++) {
        phx_latent_write_args b = a;
        b.x += r * stride;
        b.positions += r;
        b.entries += r;
        b.n_rows = 1;
        c->ops->latent_write(c->pools[0], &b);
    }
    check_same(c, "neighbouring rows", want, cache.data, n_bytes, 1);
    check_end(c);
}

void check_index_round(check *c)
{
    for (int fill = 0; fill < CHECK_FILL_COUNT; fill++) {
        for (int mode = 0; mode < 4; mode++) {
            for (int64_t i = 0; i < N_ROW_COUNTS; i++)
                index_round_case(c, row_counts[i], 128, (check_fill)fill, mode);
            for (int64_t d = 1; d <= 256; d *= 2)
                index_round_case(c, 5, d, (check_fill)fill, mode);
        }
    }
}

static void index_round_case(check *c, int64_t n_vectors, int64_t d, check_fill fill, int mode)
{
    check_case(c, "n_vectors %lld d %lld fill %d%s%s", (long long)n_vectors, (long long)d, (int)fill,
               (mode & 1) != 0 ? " hadamard" : "", (mode & 2) != 0 ? " fp8" : "");
    const int64_t n = n_vectors * d;
    float *x = check_floats(c, n, fill);
    for (int64_t v = 0; fill == CHECK_EQUAL && d > 1 && v < n_vectors; v++) {
        const int exponent = (int)(v % 5) - 2;
        x[v * d] = ldexpf(448.0f, exponent);       /* the scale is exact: a power of two needs no step up */
        x[v * d + 1] = ldexpf(1.0f, exponent - 9); /* kept at this scale, 0 at the next */
    }
    phx_index_round_args a = {
        .n_vectors = n_vectors, .d = d, .hadamard = (mode & 1) != 0, .fp8 = (mode & 2) != 0};
    float *want = check_copy(c, x, n, sizeof(float));
    a.x = want;
    c->ref->index_round(c->ref_pool, &a);
    float *got = check_copy(c, x, n, sizeof(float));
    a.x = got;
    c->ops->index_round(c->pools[0], &a);
    check_compare(c, &(check_result){want, got, PHX_F32, n_vectors, d, d, NULL});
    for (int i = 1; i < CHECK_POOLS; i++) {
        a.x = check_copy(c, x, n, sizeof(float));
        c->ops->index_round(c->pools[i], &a);
        check_same(c, "the number of threads", got, a.x, n, sizeof(float));
    }
    check_end(c);
}
