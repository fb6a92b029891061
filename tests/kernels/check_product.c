/* tests/kernels/check_product.c - product and product_t: every format, activation, remainder of K, cut. */
#include "tests/kernels/check.h"

#include <math.h>

typedef struct shape { /* of one case, for both products */
    phx_format format;
    phx_dtype dtype;
    check_fill fill;
    int64_t n_rows;
    int64_t n_groups;
    int64_t n_per_group; /* rows of W per group */
    int64_t n_cols;
} shape;

static const int64_t row_counts[] = {0, 1, 2, 3, 7, 64};
#define N_ROW_COUNTS ((int64_t)(sizeof(row_counts) / sizeof(row_counts[0])))

/* Rows of x as in docs/kernels.md, where tiles end. */
static const int64_t batches[] = {4, 8, 16, 32, 33, 128, 256};

static void product_case(check *c, const shape *drawn);
static void product_t_case(check *c, const shape *drawn);

static void all_shapes(check *c, void (*run)(check *c, const shape *s))
{
    for (int f = PHX_FORMAT_COUNT - 1; f >= 0; f--) {
        const phx_format format = (phx_format)f;
        for (int64_t blocks = 1; blocks <= 3; blocks++) /* whole blocks of columns, and rows past a tile */
            run(c, &(shape){format, (blocks & 1) != 0 ? PHX_BF16 : PHX_F32, CHECK_RANDOM, 8 * blocks + 1, 1,
                            20, 128 * blocks});
        for (int64_t i = 0; i < 2; i++) /* many rows, also of groups */
            run(c, &(shape){format, PHX_BF16, CHECK_RANDOM, 65 + 65 * i, 2 - i, 20 + 120 * i, 256 + 128 * i});
        for (size_t i = 0; i < sizeof(batches) / sizeof(batches[0]); i++)
            run(c, &(shape){format, PHX_BF16, CHECK_RANDOM, batches[i], 1, 20, 128});
        run(c, &(shape){format, PHX_BF16, CHECK_RANDOM, 2, 3, 192, 128}); /* heads end within a scale block */
        for (int fill = 0; fill < CHECK_FILL_COUNT; fill += c->brief ? 2 : 1) {
            for (int64_t i = 0; i < N_ROW_COUNTS; i++) {
                const phx_dtype dtype = ((fill + i) & 1) != 0 ? PHX_F32 : PHX_BF16;
                run(c, &(shape){format, dtype, (check_fill)fill, check_rows(c, row_counts[i]), 1, 37, 300});
            }
            run(c, &(shape){format, PHX_BF16, (check_fill)fill, 3, 3, 9, 140});
            run(c, &(shape){format, PHX_F32, (check_fill)fill, 5, 1, 140, 5});
        }
        for (int64_t k = 1; k <= check_most(c, 130); k += check_step(c, 1))
            run(c, &(shape){format, (k & 1) != 0 ? PHX_BF16 : PHX_F32, CHECK_RANDOM, 1 + k % 5, 1, 1 + k % 11,
                            k});
        run(c, &(shape){format, PHX_BF16, CHECK_RANDOM, 2, 1, 7, 2048});
        run(c, &(shape){format, PHX_BF16, CHECK_RANDOM, 1, 1, 5, 10240});
        run(c, &(shape){format, PHX_F32, CHECK_RANDOM, 1, 2, 130, 515});
        for (int64_t i = 0; format == PHX_FORMAT_FP8_BLOCK && i < (c->brief ? 8 : 32); i++) /* to be packed */
            run(c, &(shape){format, (i & 1) != 0 ? PHX_BF16 : PHX_F32, (check_fill)(i % CHECK_FILL_COUNT),
                            1 + i % 8, i % 3 == 2 ? 2 : 1, i % 3 == 2 ? 144 : 24 + 16 * (i % 4),
                            64 * (1 + i % 9)});
    }
}

/* Rows of each group of W that stay out of the product, half of them before it; bands where groups are some.
 */
static int64_t unused_rows(const shape *s)
{
    return s->n_groups == 1 ? 0 : s->n_per_group % 16 == 0 ? 16 : 2;
}

static void name_case(check *c, const shape *s)
{
    check_case(c, "%s x %s fill %d n_rows %lld groups %lld of %lld K %lld", phx_format_name(s->format),
               phx_dtype_name(s->dtype), (int)s->fill, (long long)s->n_rows, (long long)s->n_groups,
               (long long)s->n_per_group, (long long)s->n_cols);
}

void check_product(check *c)
{
    check_rounded_product(c);
    all_shapes(c, product_case);
}

void check_product_t(check *c)
{
    all_shapes(c, product_t_case);
}

/* Limits, and for the reference itself the values, by the formula of kernels/ops.h. */
static void product_limits(const phx_product_args *a, double *limit, float *want)
{
    const int64_t k_all = a->w->n_cols;
    for (int64_t g = 0; g < a->n_groups; g++) {
        for (int64_t n = 0; n < a->n_out; n++) {
            for (int64_t r = 0; r < a->n_rows; r++) {
                double sum = 0.0;
                double size = 0.0;
                for (int64_t k = 0; k < k_all; k++) {
                    const double x =
                        check_load(a->x.data, a->x.dtype, r * a->x.stride + g * a->x_group_stride + k);
                    const double w = (double)phx_matrix_at(a->w, a->first_row + g * a->group_rows + n, k);
                    sum += x * w;
                    size += fabs(x * w);
                }
                const int64_t at = r * a->n_groups * a->n_out + g * a->n_out + n;
                limit[at] = ((double)k_all / 16.0 + 8.0) * (double)FLT_EPSILON * size;
                if (want)
                    want[at] = (float)sum;
            }
        }
    }
}

/* out_act holds the very f32 values rounded, at a stride of its own. */
static void rounded_too(check *c, const phx_product_args *args, phx_pool *pool, int64_t n_cols)
{
    phx_product_args a = *args;
    const phx_dtype dtype = args->n_out % 2 != 0 ? PHX_BF16 : PHX_F32;
    const int64_t stride = n_cols + 2, n = a.n_rows * stride;
    a.out_act = (phx_activation_out){check_out(c, n, phx_dtype_bytes(dtype)), stride, dtype};
    void *want = check_copy(c, a.out_act.data, n, phx_dtype_bytes(dtype));
    c->ops->product(pool, &a);
    for (int64_t i = 0; i < a.n_rows * n_cols; i++) {
        const int64_t at = i / n_cols * stride + i % n_cols;
        const float y = a.out[i / n_cols * a.out_stride + i % n_cols];
        if (dtype == PHX_BF16)
            ((uint16_t *)want)[at] = phx_f32_to_bf16(y);
        else
            ((float *)want)[at] = y;
    }
    check_same(c, "the rounded results", want, a.out_act.data, n, phx_dtype_bytes(dtype));
}

/* Results of groups lie side by side, so one matrix of [n_rows][n_groups * n_out] holds them all. */
static void product_promises(check *c, const phx_product_args *args, const float *got, int64_t n_cols)
{
    const int64_t n = args->n_rows * args->out_stride;
    for (int i = 1; i < CHECK_POOLS; i++) {
        phx_product_args a = *args;
        a.out = check_out(c, n, sizeof(float));
        if (i == 1)
            rounded_too(c, &a, c->pools[i], n_cols);
        else
            c->ops->product(c->pools[i], &a);
        check_same(c, "the number of threads or outputs", got, a.out, n, sizeof(float));
    }
    phx_product_args row = *args;
    row.out = check_out(c, n, sizeof(float));
    const int64_t step = c->brief && args->n_rows > 32 ? 13 : 1;
    for (int64_t r = 0; r < args->n_rows; r += step) {
        phx_product_args a = row;
        a.x.data = (const char *)a.x.data + (size_t)(r * a.x.stride) * phx_dtype_bytes(a.x.dtype);
        a.out += r * a.out_stride;
        a.n_rows = 1;
        c->ops->product(c->pools[0], &a);
        check_same(c, "neighbouring rows", got + r * a.out_stride, a.out, n_cols, sizeof(float));
    }
    if (args->n_groups > 1)
        return;
    phx_product_args cut = *args;
    cut.out = check_out(c, n, sizeof(float));
    const int64_t at = args->n_out / 3;
    for (int64_t part = 0; part < 2; part++) {
        const int64_t first = part == 0 ? 0 : at;
        const int64_t end = part == 0 ? at : args->n_out;
        phx_product_args a = cut;
        a.w = check_slice_rows(c, args->w, args->first_row + first, args->first_row + end);
        a.first_row = 0;
        a.n_out = end - first;
        a.out += first;
        c->ops->product(c->pools[0], &a);
    }
    for (int64_t r = 0; r < args->n_rows; r++)
        check_same(c, "the cut of W by rows", got + r * cut.out_stride, cut.out + r * cut.out_stride, n_cols,
                   sizeof(float));
}

static void product_case(check *c, const shape *drawn)
{
    shape even = *drawn;
    const shape *s = &even;
    even.n_cols = check_cols(s->format, s->n_cols);
    name_case(c, s);
    const int64_t unused = unused_rows(s);
    const int64_t n_out = s->n_per_group - unused;
    const int64_t n_all = s->n_groups * n_out;
    phx_product_args a = {.x_group_stride = s->n_cols,
                          .first_row = unused / 2,
                          .group_rows = s->n_per_group,
                          .n_groups = s->n_groups,
                          .n_out = n_out,
                          .n_rows = s->n_rows,
                          .out_stride = n_all + 3,
                          .out_group_stride = n_out};
    a.x = check_activation(c, s->n_rows, s->n_groups * s->n_cols, s->dtype, s->fill);
    a.w = check_packed(
        c, check_matrix(c, s->format, s->n_groups * s->n_per_group + a.first_row, s->n_cols, s->fill));
    float *got = check_out(c, s->n_rows * a.out_stride, sizeof(float));
    float *want = check_out(c, s->n_rows * a.out_stride, sizeof(float));
    double *limit = check_mem(c, s->n_rows * n_all, sizeof(double));
    a.out = got;
    c->ops->product(c->pools[0], &a);
    float *formula = c->is_ref ? check_mem(c, s->n_rows * n_all, sizeof(float)) : NULL;
    product_limits(&a, limit, formula);
    for (int64_t r = 0; formula && r < s->n_rows; r++)
        memcpy(want + r * a.out_stride, formula + r * n_all, (size_t)n_all * sizeof(float));
    if (!formula) {
        a.out = want;
        c->ref->product(c->ref_pool, &a);
    }
    check_compare(c, &(check_result){want, got, PHX_F32, s->n_rows, n_all, a.out_stride, limit});
    product_promises(c, &a, got, n_all);
    check_end(c);
}

static void product_t_limits(const phx_product_t_args *a, double *limit, float *want)
{
    const int64_t n_cols = a->w->n_cols;
    for (int64_t r = 0; r < a->n_rows; r++) {
        for (int64_t g = 0; g < a->n_groups; g++) {
            for (int64_t col = 0; col < n_cols; col++) {
                double sum = 0.0;
                double size = 0.0;
                for (int64_t i = 0; i < a->n_in; i++) {
                    const double x =
                        check_load(a->x.data, a->x.dtype, r * a->x.stride + g * a->x_group_stride + i);
                    const double w = (double)phx_matrix_at(a->w, a->first_row + g * a->group_rows + i, col);
                    sum += x * w;
                    size += fabs(x * w);
                }
                const int64_t at = (r * a->n_groups + g) * n_cols + col;
                limit[at] = ((double)a->n_in / 4.0 + 8.0) * (double)FLT_EPSILON * size;
                if (want)
                    want[at] = (float)sum;
            }
        }
    }
}

static void product_t_promises(check *c, const phx_product_t_args *args, const float *got)
{
    const int64_t n = args->n_rows * args->out_stride;
    const int64_t n_cols = args->n_groups * args->w->n_cols;
    for (int i = 1; i < CHECK_POOLS; i++) {
        phx_product_t_args a = *args;
        a.out = check_out(c, n, sizeof(float));
        c->ops->product_t(c->pools[i], &a);
        check_same(c, "the number of threads", got, a.out, n, sizeof(float));
    }
    float *rows = check_out(c, n, sizeof(float));
    for (int64_t r = 0; r < args->n_rows; r++) {
        phx_product_t_args a = *args;
        a.x.data = (const char *)a.x.data + (size_t)(r * a.x.stride) * phx_dtype_bytes(a.x.dtype);
        a.out = rows + r * a.out_stride;
        a.n_rows = 1;
        c->ops->product_t(c->pools[0], &a);
        check_same(c, "neighbouring rows", got + r * a.out_stride, a.out, n_cols, sizeof(float));
    }
}

/* The same shapes, the other way round: K columns come out, the rows of a group go in. */
static void product_t_case(check *c, const shape *drawn)
{
    shape even = *drawn;
    const shape *s = &even;
    even.n_cols = check_cols(s->format, s->n_cols);
    name_case(c, s);
    const int64_t unused = unused_rows(s);
    const int64_t n_in = s->n_per_group - unused;
    const int64_t n_all = s->n_groups * s->n_cols;
    phx_product_t_args a = {.x_group_stride = n_in,
                            .first_row = unused / 2,
                            .group_rows = s->n_per_group,
                            .n_groups = s->n_groups,
                            .n_in = n_in,
                            .n_rows = s->n_rows,
                            .out_stride = n_all + 3,
                            .out_group_stride = s->n_cols};
    a.x = check_activation(c, s->n_rows, s->n_groups * n_in, s->dtype, s->fill);
    a.w = check_packed(
        c, check_matrix(c, s->format, s->n_groups * s->n_per_group + a.first_row, s->n_cols, s->fill));
    float *got = check_out(c, s->n_rows * a.out_stride, sizeof(float));
    float *want = check_out(c, s->n_rows * a.out_stride, sizeof(float));
    double *limit = check_mem(c, s->n_rows * n_all, sizeof(double));
    a.out = got;
    c->ops->product_t(c->pools[0], &a);
    float *formula = c->is_ref ? check_mem(c, s->n_rows * n_all, sizeof(float)) : NULL;
    product_t_limits(&a, limit, formula);
    for (int64_t r = 0; formula && r < s->n_rows; r++)
        memcpy(want + r * a.out_stride, formula + r * n_all, (size_t)n_all * sizeof(float));
    if (!formula) {
        a.out = want;
        c->ref->product_t(c->ref_pool, &a);
    }
    check_compare(c, &(check_result){want, got, PHX_F32, s->n_rows, n_all, a.out_stride, limit});
    product_t_promises(c, &a, got);
    check_end(c);
}
