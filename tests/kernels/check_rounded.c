/* tests/kernels/check_rounded.c - products whose rows may be rounded to e4m3 (phx_product_args, rounded):
 * where the device's library computes them, against the product of rows that are rounded here; else as any
 * product. */
#include "tests/kernels/check.h"

#include <math.h>

#include "kernels/cache.h"

#define GROUP 128

typedef struct shape {
    check_fill fill;
    int64_t n_out;
    int64_t n_cols;
    int64_t first_row; /* of W */
    int64_t n_most;    /* rows that the choice is made for */
    int64_t n_rows;
    bool refused; /* the stand-in has no kernel for it */
} shape;

/* What a case owns. */
typedef struct rounded_case {
    phx_product_args args;
    int64_t rows_least; /* 0: the library does not compute it */
    int64_t out_rows;
} rounded_case;

static void run_shapes(check *c, void (*run)(check *c, const shape *s))
{
    static const int64_t rows[] = {4, 15, 16, 17, 66, 255, 256, 257, 300};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) /* with scales that have to be copied */
        run(c, &(shape){(check_fill)(i % CHECK_FILL_COUNT), 144, 384, 0, 300, rows[i], false});
    for (int fill = 0; fill < CHECK_FILL_COUNT; fill++) /* as they lie, or not: strides are drawn */
        run(c, &(shape){(check_fill)fill, 64, 512, 128, 64, 21, false});
    run(c, &(shape){CHECK_RANDOM, 96, 128, 0, 40, 40, false});
    run(c, &(shape){CHECK_RANDOM, 16, 128, 0, 40, 40, true});
}

/* Random numbers in whole blocks, row major. */
static phx_matrix *draw_matrix(check *c, const shape *s)
{
    phx_matrix *w = check_matrix(c, PHX_FORMAT_FP8_BLOCK, s->first_row + s->n_out, s->n_cols, s->fill);
    const int64_t n_scale_rows = (w->n_rows + 127) / 128;
    float *scales = check_mem(c, n_scale_rows * w->scale_stride, sizeof(float));
    memcpy(scales, w->scales, (size_t)(n_scale_rows * w->scale_stride) * sizeof(float));
    w->scales = scales;
    w->row_shift = w->col_shift = 0;
    return w;
}

/* Asks the variant; what it must say is known for the emulator alone. */
static void choose(check *c, const shape *s, rounded_case *k)
{
    phx_error err = {0};
    phx_product_args example = k->args;
    example.n_rows = s->n_most;
    if (!c->of->choose)
        return;
    const phx_product_choice choice = {.examples = &example, .n = 1, .rows_least = &k->rows_least};
    if (c->of->choose(c->of->queue, &choice, &err) != PHX_OK)
        check_fail(c, "the choice fails: %s", err.text);
    if (strcmp(c->variant, "emu") == 0 && (k->rows_least == 0) != s->refused)
        check_fail(c, "the library %s it", s->refused ? "takes" : "refuses");
}

static rounded_case make_case(check *c, const shape *s)
{
    rounded_case k = {.out_rows = phx_rounded_rows(s->n_most)};
    const int64_t room = phx_rounded_room_of(s->n_most, s->n_out, s->n_cols).n_bytes;
    check_case(c, "rounded %lld x %lld from row %lld fill %d n_rows %lld of %lld", (long long)s->n_out,
               (long long)s->n_cols, (long long)s->first_row, (int)s->fill, (long long)s->n_rows,
               (long long)s->n_most);
    phx_activation x = check_activation(c, 1, s->n_most * (s->n_cols + 4), PHX_BF16, s->fill);
    x.stride = s->n_cols + 4; /* as rows: they begin on multiples of 8 bytes */
    k.args = (phx_product_args){.x = x,
                                .w = draw_matrix(c, s),
                                .first_row = s->first_row,
                                .n_groups = 1,
                                .n_out = s->n_out,
                                .n_rows = s->n_rows,
                                .out = check_out(c, k.out_rows * s->n_out, sizeof(float)),
                                .out_stride = s->n_out,
                                .rounded = true,
                                .out_rows = k.out_rows,
                                .parts = check_mem(c, room / (int64_t)sizeof(float) + 1, sizeof(float)),
                                .n_parts = room / (int64_t)sizeof(float) + 1};
    choose(c, s, &k);
    return k;
}

/* Row r of x as the product may see it. */
static void round_row(const phx_product_args *a, int64_t r, bool rounded, double *x)
{
    for (int64_t first = 0; first < a->w->n_cols; first += GROUP) {
        double max = 0.0;
        for (int64_t i = first; i < first + GROUP; i++) {
            x[i] = check_load(a->x.data, a->x.dtype, r * a->x.stride + i);
            max = fabs(x[i]) > max ? fabs(x[i]) : max;
        }
        const double scale = (double)phx_cache_scale((float)max);
        for (int64_t i = first; rounded && i < first + GROUP; i++)
            x[i] = (double)phx_e4m3_to_f32(phx_f32_to_e4m3((float)(x[i] / scale))) * scale;
    }
}

static void compare(check *c, const rounded_case *k)
{
    const phx_product_args *a = &k->args;
    const bool rounded = k->rows_least > 0 && a->n_rows >= k->rows_least;
    const int64_t n_cols = a->w->n_cols;
    const double most = ((double)n_cols / 16.0 + 8.0) * (double)FLT_EPSILON + (rounded ? 0x1p-10 : 0.0);
    double *x = check_mem(c, n_cols, sizeof(double));
    double *w = check_mem(c, a->n_out * n_cols, sizeof(double));
    float *want = check_out(c, a->n_rows * a->n_out, sizeof(float));
    double *limit = check_mem(c, a->n_rows * a->n_out, sizeof(double));
    for (int64_t i = 0; i < a->n_out * n_cols; i++)
        w[i] = (double)phx_matrix_at(a->w, a->first_row + i / n_cols, i % n_cols);
    for (int64_t r = 0; r < a->n_rows; r++) {
        round_row(a, r, rounded, x);
        for (int64_t n = 0; n < a->n_out; n++) {
            double sum = 0.0;
            double size = 0.0;
            for (int64_t i = 0; i < n_cols; i++) {
                sum += x[i] * w[n * n_cols + i];
                size += fabs(x[i] * w[n * n_cols + i]);
            }
            want[r * a->n_out + n] = (float)sum;
            limit[r * a->n_out + n] = most * size;
        }
    }
    check_compare(c, &(check_result){want, a->out, PHX_F32, a->n_rows, a->n_out, a->n_out, limit});
}

static void product_case(check *c, const shape *s)
{
    rounded_case k = make_case(c, s);
    const int64_t n = s->n_rows * s->n_out;
    uint16_t *want = check_out(c, n, sizeof(*want));
    if (s->n_rows % 2 != 0) /* also as activations */
        k.args.out_act = (phx_activation_out){check_out(c, n, sizeof(*want)), s->n_out, PHX_BF16};
    c->ops->product(c->pools[0], &k.args);
    compare(c, &k);
    for (int64_t i = 0; k.args.out_act.data && i < n; i++)
        want[i] = phx_f32_to_bf16(k.args.out[i]);
    if (k.args.out_act.data)
        check_same(c, "results and their rounded form", want, k.args.out_act.data, n, sizeof(*want));
    check_end(c);
}

static void leaf_sum_case(check *c, const shape *s)
{
    shape whole = *s;
    whole.first_row = 0;
    const rounded_case k = make_case(c, &whole);
    int64_t *bounds = check_mem(c, 5, sizeof(*bounds));
    for (int64_t i = 0; i <= 4; i++)
        bounds[i] = i * s->n_cols / 4;
    c->ops->leaf_sum(c->pools[0], &(phx_leaf_sum_args){.n_tokens = s->n_rows,
                                                       .n_out = s->n_out,
                                                       .n_leaves = 4,
                                                       .fixed = k.args.w,
                                                       .h_fixed = k.args.x,
                                                       .fixed_bounds = bounds,
                                                       .out = k.args.out,
                                                       .parts = k.args.parts,
                                                       .n_parts = k.args.n_parts,
                                                       .rounded = true,
                                                       .out_rows = k.args.out_rows});
    compare(c, &k);
    check_end(c);
}

void check_rounded_product(check *c)
{
    run_shapes(c, product_case);
}

void check_rounded_leaf_sum(check *c)
{
    run_shapes(c, leaf_sum_case);
}
