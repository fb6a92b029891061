/* kernels/cpu/product.c - the column-parallel product. An item is a tile of outputs of one group by a tile of
 * rows. */
#include "kernels/cpu/dots.h"

#include <assert.h>

#define phx_product PHX_CPU(phx_product)

typedef struct product_work {
    phx_product_args a;
    int64_t tile_out;
    int64_t tile_rows;
    int64_t n_tiles_out;
    int64_t n_tiles_rows;
    int64_t n_threads;
    bool wide; /* all items share few activations, which each thread widens once */
} product_work;

static const int64_t *whole_row(const phx_matrix *w, int64_t bounds[2])
{
    bounds[0] = 0;
    bounds[1] = w->n_cols;
    return bounds;
}

static void product_begin(void *user, void *scratch)
{
    const product_work *p = user;
    const phx_product_args *a = &p->a;
    int64_t bounds[2];
    const phx_dots job = {.w = a->w,
                          .x = a->x.data,
                          .x_stride = a->x.stride,
                          .x_dtype = a->x.dtype,
                          .n_rows = a->n_rows,
                          .bounds = whole_row(a->w, bounds),
                          .n_ranges = 1};
    if (p->wide)
        phx_dots_widen(&job, (float *)(void *)((uint8_t *)scratch + PHX_DOTS_WIDE_AT));
}

static void product_tile(void *user, int64_t item, void *scratch)
{
    const product_work *p = user;
    const phx_product_args *a = &p->a;
    const int64_t m = item % p->n_tiles_rows * p->tile_rows;
    const int64_t n = item / p->n_tiles_rows % p->n_tiles_out * p->tile_out;
    const int64_t g = item / p->n_tiles_rows / p->n_tiles_out;
    const int64_t x_bytes = a->x.dtype == PHX_BF16 ? 2 : 4;
    int64_t bounds[2];
    const int64_t first_row = a->first_row + g * a->group_rows + n;
    float *dots = (float *)(void *)((uint8_t *)scratch + PHX_DOTS_SCRATCH_BYTES);
    const phx_dots job = {.w = a->w,
                          .first_row = first_row,
                          .n_out = phx_i64_min(p->tile_out, a->n_out - n),
                          .x = (const uint8_t *)a->x.data +
                               (m * a->x.stride + g * a->x_group_stride) * x_bytes,
                          .x_stride = a->x.stride,
                          .x_dtype = a->x.dtype,
                          .n_rows = phx_i64_min(p->tile_rows, a->n_rows - m),
                          .bounds = whole_row(a->w, bounds),
                          .n_ranges = 1,
                          .wide_x = p->wide ? (float *)(void *)((uint8_t *)scratch + PHX_DOTS_WIDE_AT) : NULL,
                          .next = phx_dots_next(a->w, first_row + p->n_threads * p->tile_out),
                          .dots = dots,
                          .scratch = scratch};
    phx_dots_run(&job);
    const int64_t col = g * a->out_group_stride + n, act_bytes = a->out_act.dtype == PHX_BF16 ? 2 : 4;
    for (int64_t r = 0; r < job.n_rows; r++) {
        const float *sums = dots + r * PHX_DOTS_OUT;
        memcpy(a->out + (m + r) * a->out_stride + col, sums, (size_t)job.n_out * sizeof(float));
        if (a->out_act.data)
            phx_vf_narrow(sums, job.n_out, a->out_act.dtype,
                          (uint8_t *)a->out_act.data + ((m + r) * a->out_act.stride + col) * act_bytes);
    }
}

void phx_product(phx_pool *pool, const phx_product_args *args)
{
    static_assert(PHX_DOTS_SCRATCH_BYTES + PHX_DOTS_ROWS * PHX_DOTS_OUT * 4 <= PHX_DOTS_WIDE_AT, "scratch");
    static_assert(PHX_DOTS_WIDE_AT + PHX_DOTS_WIDE_BYTES <= PHX_SCRATCH_BYTES, "scratch");
    product_work p = {.a = *args,
                      .tile_out = phx_dots_tile_out(args->n_out, args->n_rows, args->n_out * args->n_groups,
                                                    phx_pool_n_threads(pool)),
                      .tile_rows = phx_dots_tile_rows(args->n_rows),
                      .n_threads = phx_pool_n_threads(pool)};
    p.n_tiles_out = (args->n_out + p.tile_out - 1) / p.tile_out;
    p.n_tiles_rows = (args->n_rows + p.tile_rows - 1) / p.tile_rows;
    p.wide = args->n_groups == 1 && args->n_rows <= PHX_DOTS_FEW &&
             args->n_rows * phx_i64_up(args->w->n_cols, PHX_LANES) * 4 <= (int64_t)PHX_DOTS_WIDE_BYTES;
    phx_pool_run_begun(pool, args->n_groups * p.n_tiles_out * p.n_tiles_rows, product_begin, product_tile,
                       &p);
}
