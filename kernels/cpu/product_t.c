/* kernels/cpu/product_t.c - the product with the transpose: rows of W, times numbers, added in ascending
 * order. An item is a tile of columns (one scale block) of one group by a tile of rows of x.
 * Arithmetic: one chain of fused multiply-adds per result; fp8: one within each 128-row scale block, times
 * the scale into the result (fused). */
#include "kernels/cpu/level.h"
#include "kernels/cpu/tiles.h"

#include <assert.h>

#define phx_product_t PHX_CPU(phx_product_t)

#define TILE_COLS  128
#define TILE_ROWS  96
#define BLOCK_ROWS 128 /* rows of W at a time */

/* Up to so many rows of x read W in its stored format. */
#define FEW PHX_TILE_ROWS

/* Vectors of columns for one row of x: enough chains to hide the latency of each. */
#define VECS_ONE 8

typedef struct work {
    phx_product_t_args a;
    int64_t n_tiles_cols;
    int64_t n_tiles_rows;
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
    phx_tile_columns(format, n_m, n_v, b->t->x_f32 + m * BLOCK_ROWS, BLOCK_ROWS,
                     b->w + col * phx_format_bytes(format), b->w_bytes, b->n_i, acc);
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
    case PHX_FORMAT_COUNT:
        break;
    }
}

static void run_block(const tile *t, int64_t i, int64_t n_i)
{
    const phx_matrix *w = t->a->w;
    const phx_format x_format = phx_format_of_activation(t->a->x.dtype);
    for (int64_t m = 0; m < t->n_rows; m++)
        phx_vf_widen(x_format, t->x + (m * t->a->x.stride + i) * phx_format_bytes(x_format), n_i,
                     t->x_f32 + m * BLOCK_ROWS);
    const int64_t bytes = phx_format_bytes(w->format);
    block b = {.t = t,
               .w = (const uint8_t *)w->data + ((t->first_w + i) * w->n_cols + t->first_col) * bytes,
               .w_bytes = w->n_cols * bytes,
               .n_i = n_i,
               .scaled = w->format == PHX_FORMAT_FP8_BLOCK};
    if (b.scaled)
        b.scale = w->scales[(t->first_w + i + w->row_shift) / 128 * w->scale_stride +
                            (t->first_col + w->col_shift) / 128] *
                  PHX_FP8_FACTOR;
    if (t->n_rows <= FEW && t->n_cols == TILE_COLS) {
        columns_any(&b, w->format);
        return;
    }
    for (int64_t row = 0; row < n_i; row++) {
        float *wide = t->w_f32 + row * TILE_COLS;
        phx_vf_widen(w->format, b.w + row * b.w_bytes, t->n_cols, wide);
        memset(wide + t->n_cols, 0, (size_t)(TILE_COLS - t->n_cols) * sizeof(float));
    }
    b.w = (const uint8_t *)t->w_f32;
    b.w_bytes = TILE_COLS * (int64_t)sizeof(float);
    columns_any(&b, PHX_FORMAT_F32);
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
        const int64_t next = (t.first_w + i + w->row_shift) / 128 * 128 + 128 - w->row_shift - t.first_w;
        const int64_t end = phx_i64_min(next, a->n_in);
        run_block(&t, i, end - i);
        i = end;
    }
    for (int64_t m = 0; m < t.n_rows; m++)
        memcpy(a->out + (row + m) * a->out_stride + g * a->out_group_stride + t.first_col,
               t.sums + m * TILE_COLS, (size_t)t.n_cols * sizeof(float));
}

void phx_product_t(phx_pool *pool, const phx_product_t_args *args)
{
    static_assert((TILE_ROWS * (TILE_COLS + BLOCK_ROWS) + BLOCK_ROWS * TILE_COLS) * 4 <= PHX_SCRATCH_BYTES,
                  "scratch");
    work p = {.a = *args,
              .n_tiles_cols = (args->w->n_cols + args->w->col_shift + TILE_COLS - 1) / TILE_COLS,
              .n_tiles_rows = (args->n_rows + TILE_ROWS - 1) / TILE_ROWS};
    phx_pool_run(pool, args->n_groups * p.n_tiles_cols * p.n_tiles_rows, product_t_tile, &p);
}
