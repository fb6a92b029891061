/* kernels/cpu/product_t.c - the product with the transpose: rows of W, times numbers, added in ascending
 * order. An item is a tile of columns (one scale block) of one group by a tile of rows of x; or, for few rows
 * of x with fp8 weights, the columns of a few scale blocks, whose rows pass by as they are stored.
 * Arithmetic: one chain of fused multiply-adds per result; fp8: one within each 128-row scale block, of the
 * numbers that phx_vf_load_fp8_row gives, times the scale into the result (fused); int4-g32: weights times
 * their scale, which is exact, before the chain. */
#include "kernels/cpu/int4.h"
#include "kernels/cpu/level.h"
#include "kernels/cpu/tiles.h"

#include <assert.h>

#define phx_product_t PHX_CPU(phx_product_t)

#define TILE_COLS  128
#define TILE_ROWS  96
#define BLOCK_ROWS 128 /* rows of W at a time */

/* Up to so many rows of x read W in its stored format. */
#define FEW PHX_TILE_ROWS

/* The stream of stored fp8: columns of an item, and how many bytes ahead they are asked for. */
#define STREAM_COLS  512
#define STREAM_AHEAD 3072

/* Vectors of columns for one row of x: enough chains to hide the latency of each. */
#define VECS_ONE 8

typedef struct work {
    phx_product_t_args a;
    int64_t n_tiles_cols;
    int64_t n_tiles_rows;
    int64_t stream_cols; /* of an item of few rows with fp8 weights; else 0 */
    int64_t n_threads;
} work;

typedef struct tile {
    const phx_product_t_args *a;
    int64_t first_w; /* row of W that i = 0 means */
    int64_t first_col;
    int64_t n_cols;
    const uint8_t *x; /* row 0 of the tile, group offset included */
    int64_t n_rows;
    float *sums;  /* [TILE_ROWS][TILE_COLS] */
    float *x_f32; /* [TILE_ROWS][BLOCK_ROWS] of the block */
    float *w_f32; /* [BLOCK_ROWS][TILE_COLS] of the block, padded with zeros */
} tile;

typedef struct block { /* rows [i, i + n_i) of W as they stand in memory */
    const tile *t;
    const uint8_t *w;
    int64_t w_bytes; /* between rows */
    int64_t n_i;
    bool scaled;
    float scale;
} block;

PHX_ALWAYS void columns(int n_m, phx_format format, int n_v, const block *b, int64_t m, int64_t col)
{
    phx_vf acc[PHX_TILE_ACCS];
    float *sums = b->t->sums + m * TILE_COLS + col;
    if (b->scaled) {
        phx_tile_zero(acc, n_m * n_v);
    } else {
        PHX_UNROLL(24)
        for (int i = 0; i < n_m * n_v; i++)
            acc[i] = phx_vf_load(sums + i / n_v * TILE_COLS + i % n_v * PHX_LANES);
    }
    const float *x = b->t->x_f32 + m * BLOCK_ROWS;
    phx_tile_columns(format, n_m, n_v, x, BLOCK_ROWS, b->w + col * phx_format_bytes(format), b->w_bytes,
                     b->n_i, acc);
    PHX_UNROLL(24)
    for (int i = 0; i < n_m * n_v; i++) {
        float *sum = sums + i / n_v * TILE_COLS + i % n_v * PHX_LANES;
        if (b->scaled)
            acc[i] = phx_vf_fma(acc[i], phx_vf_set(b->scale), phx_vf_load(sum));
        phx_vf_store(sum, acc[i]);
    }
}

/* All rows and columns of the tile; format is a constant. */
PHX_ALWAYS void columns_as(phx_format format, const block *b)
{
    const tile *t = b->t;
    if (t->n_rows == 1 && format != PHX_FORMAT_F32) {
        for (int64_t col = 0; col < t->n_cols; col += VECS_ONE * PHX_LANES)
            columns(1, format, VECS_ONE, b, 0, col);
        return;
    }
    for (int64_t col = 0; col < t->n_cols; col += PHX_TILE_OUTS * PHX_LANES) {
        for (int64_t m = 0; m < t->n_rows; m += PHX_TILE_ROWS)
            PHX_TILE_SWITCH(t->n_rows - m, columns, format, PHX_TILE_OUTS, b, m, col);
    }
}

static void columns_any(const block *b, phx_format format)
{
    switch (format) {
    case PHX_FORMAT_F32:
        columns_as(PHX_FORMAT_F32, b);
        break;
    case PHX_FORMAT_BF16:
        columns_as(PHX_FORMAT_BF16, b);
        break;
    case PHX_FORMAT_F16:
        columns_as(PHX_FORMAT_F16, b);
        break;
    case PHX_FORMAT_FP8_BLOCK:
        columns_as(PHX_FORMAT_FP8_BLOCK, b);
        break;
    case PHX_FORMAT_INT4_G32: /* always widened */
    case PHX_FORMAT_COUNT:
        break;
    }
}

/* The activations of the block, n_i of each row; fp8: times PHX_FP8_ROW_X. */
static void widen_x(const phx_product_t_args *a, const uint8_t *data, int64_t n_rows, int64_t i, int64_t n_i,
                    float *x_f32)
{
    const phx_format format = phx_format_of_activation(a->x.dtype);
    for (int64_t m = 0; m < n_rows; m++) {
        float *x = x_f32 + m * BLOCK_ROWS;
        phx_vf_widen(format, data + (m * a->x.stride + i) * phx_format_bytes(format), n_i, x);
        for (int64_t k = n_i; k % PHX_LANES != 0; k++)
            x[k] = 0.0f;
        for (int64_t k = 0; a->w->format == PHX_FORMAT_FP8_BLOCK && k < n_i; k += PHX_LANES)
            phx_vf_store(x + k, phx_vf_mul(phx_vf_load(x + k), phx_vf_set(PHX_FP8_ROW_X)));
    }
}

/* Row `row` of W, the columns of the tile, then zeros. */
static void widen_w(const tile *t, int64_t row, float *wide)
{
    const phx_matrix *w = t->a->w;
    const uint8_t *data = w->data;
    if (w->format == PHX_FORMAT_INT4_G32) {
        phx_int4_widen(w, row, t->first_col, t->n_cols, wide);
    } else if (w->format != PHX_FORMAT_FP8_BLOCK) {
        phx_vf_widen(w->format, data + (row * w->n_cols + t->first_col) * phx_format_bytes(w->format),
                     t->n_cols, wide);
    } else {
        uint8_t codes[TILE_COLS] = {0};
        int64_t run = t->n_cols; /* columns that lie side by side */
        for (int64_t k = 0; k < t->n_cols; k += run) {
            const int64_t col = t->first_col + k;
            run = phx_i64_min(w->pack > 0 ? w->pack - col % w->pack : run, t->n_cols - k);
            memcpy(codes + k, data + phx_matrix_place(w, row, col), (size_t)run);
        }
        for (int64_t k = 0; k < t->n_cols; k += PHX_LANES)
            phx_vf_store(wide + k, phx_vf_load_fp8_row(codes + k));
    }
    memset(wide + t->n_cols, 0, (size_t)(TILE_COLS - t->n_cols) * sizeof(float));
}

/* The scale of the block of (row, col) of W, and what phx_vf_load_fp8_row leaves out. */
static float scale_of(const phx_matrix *w, int64_t row, int64_t col)
{
    return w->scales[(row + w->row_shift) / 128 * w->scale_stride + (col + w->col_shift) / 128] *
           PHX_FP8_ROW_FACTOR;
}

static void run_block(const tile *t, int64_t i, int64_t n_i)
{
    const phx_matrix *w = t->a->w;
    const bool int4 = w->format == PHX_FORMAT_INT4_G32;
    const int64_t bytes = phx_format_bytes(w->format);
    const int64_t at = int4 ? 0 : ((t->first_w + i) * w->n_cols + t->first_col) * bytes;
    block b = {.t = t,
               .w = (const uint8_t *)w->data + at,
               .w_bytes = w->n_cols * bytes,
               .n_i = n_i,
               .scaled = w->format == PHX_FORMAT_FP8_BLOCK};
    widen_x(t->a, t->x, t->n_rows, i, n_i, t->x_f32);
    if (b.scaled)
        b.scale = scale_of(w, t->first_w + i, t->first_col);
    if (t->n_rows <= FEW && t->n_cols == TILE_COLS && !b.scaled && !int4) {
        columns_any(&b, w->format);
        return;
    }
    for (int64_t row = 0; row < n_i; row++)
        widen_w(t, t->first_w + i + row, t->w_f32 + row * TILE_COLS);
    b.w = (const uint8_t *)t->w_f32;
    b.w_bytes = TILE_COLS * (int64_t)sizeof(float);
    columns_any(&b, PHX_FORMAT_F32);
}

/* Where the scale block that holds row i of a group ends, as a row of the group. */
static int64_t block_end(const phx_product_t_args *a, int64_t first_w, int64_t i)
{
    const int64_t shift = a->w->row_shift;
    return phx_i64_min((first_w + i + shift) / 128 * 128 + 128 - shift - first_w, a->n_in);
}

static void product_t_tile(void *user, int64_t item, void *scratch)
{
    const work *p = user;
    const phx_product_t_args *a = &p->a;
    const phx_matrix *w = a->w;
    const int64_t row = item % p->n_tiles_rows * TILE_ROWS;
    const int64_t col_block = item / p->n_tiles_rows % p->n_tiles_cols * TILE_COLS - w->col_shift;
    const int64_t g = item / p->n_tiles_rows / p->n_tiles_cols;
    const int64_t x_bytes = a->x.dtype == PHX_BF16 ? 2 : 4;
    tile t = {.a = a,
              .first_w = a->first_row + g * a->group_rows,
              .first_col = col_block > 0 ? col_block : 0,
              .x = (const uint8_t *)a->x.data + (row * a->x.stride + g * a->x_group_stride) * x_bytes,
              .n_rows = phx_i64_min(TILE_ROWS, a->n_rows - row),
              .sums = scratch};
    t.n_cols = phx_i64_min(col_block + TILE_COLS, w->n_cols) - t.first_col;
    t.x_f32 = t.sums + TILE_ROWS * TILE_COLS;
    t.w_f32 = t.x_f32 + TILE_ROWS * BLOCK_ROWS;
    memset(t.sums, 0, (size_t)(t.n_rows * TILE_COLS) * sizeof(float));
    for (int64_t i = 0; i < a->n_in;) {
        const int64_t end = block_end(a, t.first_w, i);
        run_block(&t, i, end - i);
        i = end;
    }
    for (int64_t m = 0; m < t.n_rows; m++)
        memcpy(a->out + (row + m) * a->out_stride + g * a->out_group_stride + t.first_col,
               t.sums + m * TILE_COLS, (size_t)t.n_cols * sizeof(float));
}

/* ---- few rows of x, fp8 weights as stored ---- */

typedef struct stream {
    const phx_product_t_args *a;
    int64_t first_w;
    int64_t first_col;
    int64_t n_cols;
    int64_t row_bytes;  /* between rows of a band */
    int64_t unit_bytes; /* between blocks of 4 * PHX_LANES columns of a row */
    int64_t ahead;      /* from a weight to one that is wanted soon */
    float *x_f32;       /* [FEW][BLOCK_ROWS] of the block */
    float *acc;         /* [FEW][STREAM_COLS] of the block; columns as phx_vf_load4_fp8_row orders them */
    float *sums;        /* the same, of all blocks */
} stream;

/* acc += rows [i, i + n_r) of the block, which are of one band, over the 4 * n_u blocks of columns from col
 * on.
 */
PHX_ALWAYS void stream_columns(int n_m, int n_u, const stream *s, const uint8_t *w, int64_t i, int64_t n_r,
                               int64_t col)
{
    const int64_t unit = 4 * PHX_LANES;
    const int64_t step = s->unit_bytes == unit ? s->row_bytes : n_u * unit; /* a line or two for each row */
    float *sums = s->acc + col;
    phx_vf acc[PHX_TILE_ACCS];
    PHX_UNROLL(24)
    for (int j = 0; j < n_m * n_u * 4; j++)
        acc[j] = phx_vf_load(sums + j / (n_u * 4) * STREAM_COLS + j % (n_u * 4) * PHX_LANES);
    w += col / unit * s->unit_bytes;
    for (int64_t r = 0; r < n_r; r++) {
        const float *x = s->x_f32 + i + r;
        __builtin_prefetch(w + r * step + s->ahead);
        PHX_UNROLL(2)
        for (int u = 0; u < n_u; u++) {
            phx_vf v[4];
            phx_vf_load4_fp8_row(w + r * s->row_bytes + u * s->unit_bytes, v);
            PHX_UNROLL(6)
            for (int m = 0; m < n_m; m++) {
                PHX_UNROLL(4)
                for (int j = 0; j < 4; j++)
                    acc[(m * n_u + u) * 4 + j] =
                        phx_vf_fma(v[j], phx_vf_set(x[m * BLOCK_ROWS]), acc[(m * n_u + u) * 4 + j]);
            }
        }
    }
    PHX_UNROLL(24)
    for (int j = 0; j < n_m * n_u * 4; j++)
        phx_vf_store(sums + j / (n_u * 4) * STREAM_COLS + j % (n_u * 4) * PHX_LANES, acc[j]);
}

PHX_ALWAYS void stream_rows(int n_m, const stream *s, const uint8_t *w, int64_t i, int64_t n_r)
{
    const int64_t unit = 4 * PHX_LANES;
    if (n_m == 1) {
        for (int64_t col = 0; col < s->n_cols; col += 2 * unit)
            stream_columns(1, 2, s, w, i, n_r, col);
        return;
    }
    for (int64_t col = 0; col < s->n_cols; col += unit)
        stream_columns(n_m, 1, s, w, i, n_r, col);
}

static void stream_block(const stream *s, int64_t i, int64_t n_i)
{
    const phx_product_t_args *a = s->a;
    const int64_t band_bytes = PHX_PACK_ROWS * a->w->n_cols;
    const uint8_t *w = (const uint8_t *)a->w->data + phx_matrix_place(a->w, s->first_w + i, s->first_col);
    memset(s->acc, 0, FEW * STREAM_COLS * sizeof(float));
    for (int64_t r = 0; r < n_i; r += PHX_PACK_ROWS, w += band_bytes)
        PHX_TILE_SWITCH(a->n_rows, stream_rows, s, w, r, phx_i64_min(PHX_PACK_ROWS, n_i - r));
    for (int64_t m = 0; m < a->n_rows; m++) {
        for (int64_t col = 0; col < s->n_cols; col += PHX_LANES) {
            const phx_vf scale = phx_vf_set(scale_of(a->w, s->first_w + i, s->first_col + col));
            float *sum = s->sums + m * STREAM_COLS + col;
            phx_vf_store(sum,
                         phx_vf_fma(phx_vf_load(s->acc + m * STREAM_COLS + col), scale, phx_vf_load(sum)));
        }
    }
}

static void product_t_stream(void *user, int64_t item, void *scratch)
{
    const work *p = user;
    const phx_product_t_args *a = &p->a;
    const int64_t unit = 4 * PHX_LANES;
    const int64_t per_group = (a->w->n_cols + p->stream_cols - 1) / p->stream_cols;
    const int64_t g = item / per_group;
    const int64_t first_col = item % per_group * p->stream_cols;
    const bool packed = a->w->pack > 0;
    const stream s = {.a = a,
                      .first_w = a->first_row + g * a->group_rows,
                      .first_col = first_col,
                      .n_cols = phx_i64_min(p->stream_cols, a->w->n_cols - first_col),
                      .row_bytes = packed ? unit : a->w->n_cols,
                      .unit_bytes = packed ? PHX_PACK_ROWS * unit : unit,
                      .ahead = packed && per_group == 1 ? STREAM_AHEAD : PHX_PACK_ROWS * a->w->n_cols,
                      .x_f32 = scratch,
                      .acc = (float *)scratch + FEW * BLOCK_ROWS,
                      .sums = (float *)scratch + FEW * (BLOCK_ROWS + STREAM_COLS)};
    const uint8_t *x = (const uint8_t *)a->x.data + g * a->x_group_stride * (a->x.dtype == PHX_BF16 ? 2 : 4);
    memset(s.sums, 0, FEW * STREAM_COLS * sizeof(float));
    for (int64_t i = 0; i < a->n_in;) {
        const int64_t end = block_end(a, s.first_w, i);
        widen_x(a, x, a->n_rows, i, end - i, s.x_f32);
        stream_block(&s, i, end - i);
        i = end;
    }
    for (int64_t m = 0; m < a->n_rows; m++) {
        float *out = a->out + m * a->out_stride + g * a->out_group_stride + first_col;
        for (int64_t col = 0; col < s.n_cols; col += unit) {
            phx_vf v[4];
            for (int j = 0; j < 4; j++)
                v[j] = phx_vf_load(s.sums + m * STREAM_COLS + col + j * PHX_LANES);
            phx_vf_row_unorder(v, v);
            for (int j = 0; j < 4; j++)
                phx_vf_store(out + col + j * PHX_LANES, v[j]);
        }
    }
}

/* Columns of an item of product_t_stream, or 0: whole scale blocks of columns and, where packed, whole bands.
 */
static int64_t stream_cols(const work *p)
{
    const phx_product_t_args *a = &p->a;
    const phx_matrix *w = a->w;
    const int64_t bands = (a->first_row | a->group_rows | w->row_shift) % PHX_PACK_ROWS;
    if (w->format != PHX_FORMAT_FP8_BLOCK || a->n_rows > FEW || a->n_rows < 1 || w->col_shift != 0 ||
        w->n_cols % TILE_COLS != 0 || (w->pack != 0 && (w->pack != 4 * PHX_LANES || bands != 0)))
        return 0;
    const int64_t n = a->n_groups * (w->n_cols / TILE_COLS) / (4 * p->n_threads);
    return TILE_COLS * (n < 1 ? 1 : phx_i64_min(n, STREAM_COLS / TILE_COLS));
}

void phx_product_t(phx_pool *pool, const phx_product_t_args *args)
{
    static_assert(FEW * (BLOCK_ROWS + 2 * STREAM_COLS) * 4 <= PHX_SCRATCH_BYTES, "scratch");
    static_assert((TILE_ROWS * (TILE_COLS + BLOCK_ROWS) + BLOCK_ROWS * TILE_COLS) * 4 <= PHX_SCRATCH_BYTES,
                  "scratch");
    work p = {.a = *args,
              .n_tiles_cols = (args->w->n_cols + args->w->col_shift + TILE_COLS - 1) / TILE_COLS,
              .n_tiles_rows = (args->n_rows + TILE_ROWS - 1) / TILE_ROWS,
              .n_threads = phx_pool_n_threads(pool)};
    p.stream_cols = stream_cols(&p);
    if (p.stream_cols > 0)
        phx_pool_run(pool, args->n_groups * ((args->w->n_cols + p.stream_cols - 1) / p.stream_cols),
                     product_t_stream, &p);
    else
        phx_pool_run(pool, args->n_groups * p.n_tiles_cols * p.n_tiles_rows, product_t_tile, &p);
}
