/* tests/kernels/check_rounded.c - products whose rows may be rounded to e4m3 (phx_product_args, rounded):
 * where the device's library computes them, against the product of rows that are rounded here; else as any
 * product. */
#include "tests/kernels/check.h"

#include <math.h>

#include "kernels/cache.h"

#define GROUP  128
#define SPAN   256 /* rows that have one algorithm of the library (kernels/cuda/lt.cu) */
#define N_ROWS 8   /* of a real shape */
#define SAMPLE 61  /* of a large result one element in so many: every row and every column has some */

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
    int64_t rows_least;        /* 0: the library does not compute it */
    phx_activation_out as_act; /* for out_act, where it is wanted */
    float *x;                  /* [n_most][n_cols] as the product may see them */
    int64_t n_ready;           /* rows of x so far */
    bool sampled;              /* too large to compare every element */
} rounded_case;

typedef void run_fn(check *c, rounded_case *k);
typedef void case_fn(check *c, const shape *s, run_fn *run);

/* What ranks of the models multiply (docs/kernels.md), through product and through leaf_sum. */
typedef struct real_shape {
    int64_t n_out, n_cols, n_most;
} real_shape;

static void run_shapes(check *c, run_fn *run, case_fn *run_case)
{
    static const int64_t rows[] = {4, 15, 16, 17, 66, 255, 256, 257, 300};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) /* with scales that have to be copied */
        run_case(c, &(shape){(check_fill)(i % CHECK_FILL_COUNT), 144, 384, 0, 300, rows[i], false}, run);
    for (int fill = 0; fill < CHECK_FILL_COUNT; fill++) /* as they lie, or not: strides are drawn */
        run_case(c, &(shape){(check_fill)fill, 64, 512, 128, 64, 21, false}, run);
    run_case(c, &(shape){CHECK_RANDOM, 96, 128, 0, 40, 40, false}, run);
    run_case(c, &(shape){CHECK_RANDOM, 16, 128, 0, 40, 40, true}, run);
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

static void name_case(check *c, const shape *s)
{
    check_case(c, "rounded %lld x %lld from row %lld fill %d n_rows %lld of %lld", (long long)s->n_out,
               (long long)s->n_cols, (long long)s->first_row, (int)s->fill, (long long)s->n_rows,
               (long long)s->n_most);
}

static rounded_case make_case(check *c, const shape *s)
{
    const int64_t out_rows = phx_rounded_rows(s->n_most);
    const int64_t room = phx_rounded_room_of(s->n_most, s->n_out, s->n_cols).n_bytes;
    rounded_case k = {.n_ready = 0};
    name_case(c, s);
    phx_activation x = check_activation(c, 1, s->n_most * (s->n_cols + 4), PHX_BF16, s->fill);
    x.stride = s->n_cols + 4; /* as rows: they begin on multiples of 8 bytes */
    k.args = (phx_product_args){.x = x,
                                .w = draw_matrix(c, s),
                                .first_row = s->first_row,
                                .n_groups = 1,
                                .n_out = s->n_out,
                                .n_rows = s->n_rows,
                                .out = check_out(c, out_rows * s->n_out, sizeof(float)),
                                .out_stride = s->n_out,
                                .rounded = true,
                                .out_rows = out_rows,
                                .parts = check_mem(c, room / (int64_t)sizeof(float) + 1, sizeof(float)),
                                .n_parts = room / (int64_t)sizeof(float) + 1};
    k.as_act = (phx_activation_out){check_out(c, s->n_most * s->n_out, sizeof(uint16_t)), s->n_out, PHX_BF16};
    k.x = check_mem(c, s->n_most * s->n_cols, sizeof(float));
    choose(c, s, &k);
    return k;
}

/* Row r of x as the product may see it: codes times powers of two, so f32 holds them. */
static void round_row(const phx_product_args *a, int64_t r, bool rounded, float *x)
{
    for (int64_t first = 0; first < a->w->n_cols; first += GROUP) {
        float max = 0.0f;
        for (int64_t i = first; i < first + GROUP; i++) {
            x[i] = (float)check_load(a->x.data, a->x.dtype, r * a->x.stride + i);
            max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
        }
        const float scale = phx_cache_scale(max);
        for (int64_t i = first; rounded && i < first + GROUP; i++)
            x[i] = phx_e4m3_to_f32(phx_f32_to_e4m3(x[i] / scale)) * scale;
    }
}

/* Whether an element is compared. Of a sampled result: rows at both ends of each span and the last one whole,
 * and of the others a diagonal in each 61 x 61. */
static bool is_compared(const rounded_case *k, int64_t row, int64_t col)
{
    const int64_t in_span = row % SPAN;
    return !k->sampled || in_span == 0 || in_span == SPAN - 1 || row == k->args.n_rows - 1 ||
           (row + col) % SAMPLE == 0;
}

/* In four chains, as a large result needs many; n is a multiple of four. */
static void dot(const float *x, const float *w, int64_t n, double *ret_sum, double *ret_size)
{
    double sum[4] = {0.0};
    double size[4] = {0.0};
    for (int64_t i = 0; i < n; i += 4) {
        for (int64_t k = 0; k < 4; k++) {
            const double term = (double)x[i + k] * (double)w[i + k];
            sum[k] += term;
            size[k] += fabs(term);
        }
    }
    *ret_sum = sum[0] + sum[1] + sum[2] + sum[3];
    *ret_size = size[0] + size[1] + size[2] + size[3];
}

static void compare(check *c, rounded_case *k)
{
    const phx_product_args *a = &k->args;
    const bool rounded = k->rows_least > 0 && a->n_rows >= k->rows_least;
    const int64_t n_cols = a->w->n_cols;
    const double most = ((double)n_cols / 16.0 + 8.0) * (double)FLT_EPSILON + (rounded ? 0x1p-10 : 0.0);
    float *w = check_mem(c, n_cols, sizeof(float));
    for (; k->n_ready < a->n_rows; k->n_ready++)
        round_row(a, k->n_ready, rounded, k->x + k->n_ready * n_cols);
    for (int64_t n = 0; n < a->n_out; n++) {
        for (int64_t i = 0; i < n_cols; i++)
            w[i] = phx_matrix_at(a->w, a->first_row + n, i);
        for (int64_t r = 0; r < a->n_rows; r++) {
            double sum = 0.0;
            double size = 0.0;
            if (!is_compared(k, r, n))
                continue;
            dot(k->x + r * n_cols, w, n_cols, &sum, &size);
            check_value(c, (double)(float)sum, (double)a->out[r * a->out_stride + n], most * size, r, n);
        }
    }
}

static void run_product(check *c, rounded_case *k)
{
    const int64_t n = k->args.n_rows * k->args.n_out;
    const bool wants_act = k->args.n_rows % 2 != 0; /* also as activations */
    k->args.out_act = wants_act ? k->as_act : (phx_activation_out){0};
    c->ops->product(c->pools[0], &k->args);
    compare(c, k);
    for (int64_t i = 0; wants_act && i < n; i++) {
        const uint16_t want = phx_f32_to_bf16(k->args.out[i]);
        const uint16_t got = ((const uint16_t *)k->as_act.data)[i];
        if (got != want) {
            check_fail(c, "element %lld: rounded to %#x, expected %#x", (long long)i, got, want);
            return;
        }
    }
}

static void run_leaf_sum(check *c, rounded_case *k)
{
    int64_t *bounds = check_mem(c, 5, sizeof(*bounds));
    for (int64_t i = 0; i <= 4; i++)
        bounds[i] = i * k->args.w->n_cols / 4;
    c->ops->leaf_sum(c->pools[0], &(phx_leaf_sum_args){.n_tokens = k->args.n_rows,
                                                       .n_out = k->args.n_out,
                                                       .n_leaves = 4,
                                                       .fixed = k->args.w,
                                                       .h_fixed = k->args.x,
                                                       .fixed_bounds = bounds,
                                                       .out = k->args.out,
                                                       .parts = k->args.parts,
                                                       .n_parts = k->args.n_parts,
                                                       .rounded = true,
                                                       .out_rows = k->args.out_rows});
    compare(c, k);
}

static void product_case(check *c, const shape *s, run_fn *run)
{
    rounded_case k = make_case(c, s);
    run(c, &k);
    check_end(c);
}

static void leaf_sum_case(check *c, const shape *s, run_fn *run)
{
    shape whole = *s; /* of W */
    whole.first_row = 0;
    product_case(c, &whole, run);
}

/* One choice for many rows, then fewer: both ends of a span, every remainder of four. What is there is spoilt
 * in between. */
static void run_real(check *c, const real_shape *real, run_fn *run)
{
    static const int64_t many[N_ROWS] = {256, 257, 300, 512, 513, 1000, 4094, 4096};
    static const int64_t few[N_ROWS] = {16, 17, 63, 66, 256, 257, 512, 514};
    shape s = {CHECK_RANDOM, real->n_out, real->n_cols, 0, real->n_most, real->n_most, false};
    rounded_case k = make_case(c, &s);
    k.sampled = true;
    const int64_t *rows = c->brief ? few : many;
    for (size_t i = 0; i < N_ROWS && rows[i] <= s.n_most; i++) {
        s.n_rows = k.args.n_rows = rows[i];
        name_case(c, &s);
        memset(k.args.out, 0xFF, (size_t)(k.args.out_rows * s.n_out) * sizeof(float));
        memset(k.as_act.data, 0xFF, (size_t)(s.n_most * s.n_out) * sizeof(uint16_t));
        run(c, &k);
    }
    check_end(c);
}

/* Devices alone: the CPU has nothing of its own for many rounded rows. The emulator has the same remainders
 * of 128 and of four scales, smaller. */
static void run_reals(check *c, const real_shape *real, size_t n, const real_shape *brief, size_t n_brief,
                      run_fn *run)
{
    if (!c->of->choose)
        return;
    for (size_t i = 0; i < (c->brief ? n_brief : n); i++)
        run_real(c, c->brief ? &brief[i] : &real[i], run);
}

void check_rounded_product(check *c)
{
    static const real_shape real[] = {
        {1536, 7168, 4096},                     /* q_a: V3.2, K2 */
        {2048, 6144, 1024},                     /* GLM-5 */
        {576, 7168, 4096},                      /* kv_a */
        {576, 6144, 1024},  {3072, 1536, 4096}, /* q_b, tp 8: V3.2, K2, GLM-5 */
        {1536, 1536, 1024}, {2048, 2048, 1024},
    };
    static const real_shape brief[] = {{192, 512, 516}, {64, 768, 260}};
    run_shapes(c, run_product, product_case);
    run_reals(c, real, sizeof(real) / sizeof(real[0]), brief, sizeof(brief) / sizeof(brief[0]), run_product);
}

void check_rounded_leaf_sum(check *c)
{
    static const real_shape real[] = {
        {7168, 2048, 4096},                                         /* o_proj, tp 8: V3.2, K2, GLM-5 */
        {7168, 1024, 1024}, {6144, 2048, 1024}, {7168, 2304, 4096}, /* dense down, tp 8: V3.2 and K2, GLM-5 */
        {6144, 1536, 1024},
    };
    static const real_shape brief[] = {{256, 512, 516}, {192, 256, 260}};
    run_shapes(c, run_leaf_sum, leaf_sum_case);
    run_reals(c, real, sizeof(real) / sizeof(real[0]), brief, sizeof(brief) / sizeof(brief[0]), run_leaf_sum);
}
