/* kernels/cpu/dots.h - the one way a row of weights meets rows of activations: a block of dot products.
 * Owns: the arithmetic of product, ffn_in and leaf_sum at this level. A dot over columns [first, end) is one
 * chain of fused multiply-adds per lane in steps of PHX_LANES from `first` on, the last step filled with
 * zeros, then the fixed sum over lanes. fp8: such a chain within each 128-column scale block, multiplied by
 * the block's scale into a running vector (fused), which is summed at the end; whole blocks of 4 * PHX_LANES
 * columns of an fp8 chain lie over the lanes in the order of phx_vf_load4_fp8_row. int4-g32: blocks of
 * PHX_INT4_COLS columns from the edge of the group that holds `first`, columns outside the range as zeros;
 * within a block eight multiplications per lane in one chain (the order of int4.h), multiplied by the scale
 * of the lane's group into a running vector (fused), which is summed at the end. Nothing of it depends on the
 * number of rows: few rows read the stored weights directly, many rows widen them once to f32 first. Not
 * here: who computes which block (product.c, ffn.c). */
#ifndef PHX_KERNELS_CPU_DOTS_H
#define PHX_KERNELS_CPU_DOTS_H

#include "kernels/cpu/level.h"
#include "kernels/cpu/vec.h"

/* Ceilings of one job. Tiles of work are cut to them. */
#define PHX_DOTS_ROWS   128 /* activations */
#define PHX_DOTS_OUT    48  /* rows of w; also the stride of the result */
#define PHX_DOTS_RANGES 8

/* Up to so many rows a job reads weights directly; above, widening pays. */
#define PHX_DOTS_FEW 6

/* Scratch of one job: widened activations, widened weights, running vectors. */
#define PHX_DOTS_BLOCK         256 /* columns widened at a time */
#define PHX_DOTS_X_BYTES       (512u << 10)
#define PHX_DOTS_W_BYTES       (PHX_DOTS_OUT * PHX_DOTS_BLOCK * 4u)
#define PHX_DOTS_ACC_BYTES     (PHX_DOTS_ROWS * PHX_DOTS_OUT * 64u)
#define PHX_DOTS_SCRATCH_BYTES (PHX_DOTS_X_BYTES + PHX_DOTS_W_BYTES + PHX_DOTS_ACC_BYTES)

/* Beyond every other use of the scratch: activations that phx_dots_widen has widened for all items of a run.
 */
#define PHX_DOTS_WIDE_AT    (2u << 20)
#define PHX_DOTS_WIDE_BYTES (1u << 20)

/* Floats of one range of the result. */
#define PHX_DOTS_RESULT(n_rows) ((n_rows)*PHX_DOTS_OUT)

typedef struct phx_dots {
    const phx_matrix *w;
    int64_t first_row; /* of w */
    int64_t n_out;     /* 1..PHX_DOTS_OUT */
    const void *x;     /* activation row i starts at (x_rows ? x_rows[i] : i) * x_stride */
    int64_t x_stride;
    phx_dtype x_dtype;
    const int32_t *x_rows;
    int64_t n_rows;        /* 1..PHX_DOTS_ROWS */
    const int64_t *bounds; /* [n_ranges + 1] ascending columns; range i is [bounds[i], bounds[i + 1]) */
    int64_t n_ranges;
    const void *next;    /* hint: where this thread will read as many weights after this job; or NULL */
    const float *wide_x; /* what phx_dots_widen made of the same x with the same chains; or NULL */
    bool same_x;         /* the scratch holds the activations of the job before: same x, same chains */
    float *dots;         /* [n_ranges][n_rows][PHX_DOTS_OUT]; columns past n_out are undefined */
    void *scratch;       /* PHX_DOTS_SCRATCH_BYTES, 64-byte aligned */
} phx_dots;

/* Cuts n things into equal tiles of at most n_max, each but the last a multiple of unit. */
static inline int64_t phx_tile_of(int64_t n, int64_t n_max, int64_t unit)
{
    const int64_t n_tiles = (n + n_max - 1) / n_max;
    return n <= 0 ? unit : phx_i64_min(phx_i64_up((n + n_tiles - 1) / n_tiles, unit), n_max);
}

/* Outputs per work item when n_all outputs (of all matrices) are to be shared by n_threads: for few rows so
 * many that every thread finds a few items, but enough to pay for widening the activations. */
static inline int64_t phx_dots_tile_out(int64_t n_out, int64_t n_rows, int64_t n_all, int64_t n_threads)
{
    const int64_t share = phx_i64_min(n_all / (4 * n_threads), PHX_DOTS_OUT);
    return phx_tile_of(n_out, n_rows > PHX_DOTS_FEW ? PHX_DOTS_OUT : share < 16 ? 16 : share, 8);
}

static inline int64_t phx_dots_tile_rows(int64_t n_rows)
{
    return phx_tile_of(n_rows, PHX_DOTS_ROWS, 1);
}

/* For phx_dots.next: row `row` of w, or NULL past its end. */
static inline const void *phx_dots_next(const phx_matrix *w, int64_t row)
{
    if (row >= w->n_rows || w->format == PHX_FORMAT_INT4_G32)
        return NULL;
    return (const uint8_t *)w->data + row * w->n_cols * phx_format_bytes(w->format);
}

void PHX_CPU(phx_dots_run)(const phx_dots *job);
#define phx_dots_run PHX_CPU(phx_dots_run)

/* Bytes of the job's activations, widened. */
static inline int64_t phx_dots_wide_bytes(const phx_dots *job)
{
    return job->n_rows * phx_i64_up(job->w->n_cols, PHX_LANES) * (int64_t)sizeof(float);
}

/* Widens the activations of job, which has at most PHX_DOTS_FEW, so that many jobs can share them. wide_x:
 * phx_dots_wide_bytes. */
void PHX_CPU(phx_dots_widen)(const phx_dots *job, float *wide_x);
#define phx_dots_widen PHX_CPU(phx_dots_widen)

/* What phx_dots_run does for int4-g32 (dots_int4.c). */
void PHX_CPU(phx_dots_int4_run)(const phx_dots *job);
#define phx_dots_int4_run PHX_CPU(phx_dots_int4_run)

#endif
