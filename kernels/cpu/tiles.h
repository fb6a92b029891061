/* kernels/cpu/tiles.h - the two register tiles that do all multiplying on widened numbers.
 * Rows: dots of n_m vectors with 4 others, lanes along the sum. Columns: sums of rows times numbers, lanes
 * along the result. n_m and n_v are constants at every call, so that loops over them unroll and acc lives in
 * registers: PHX_TILE_ROWS by PHX_TILE_OUTS accumulators fill the register file. Each accumulator is one
 * chain, whatever tile it is part of. */
#ifndef PHX_KERNELS_CPU_TILES_H
#define PHX_KERNELS_CPU_TILES_H

#include "kernels/cpu/vec.h"

#if PHX_CPU_FORM == 2
#define PHX_TILE_ROWS 3
#else
#define PHX_TILE_ROWS 6
#endif
#define PHX_TILE_OUTS 4
#define PHX_TILE_ACCS (PHX_TILE_ROWS * PHX_TILE_OUTS)

PHX_ALWAYS void phx_tile_zero(phx_vf *acc, int n)
{
    PHX_UNROLL(24)
    for (int i = 0; i < n; i++)
        acc[i] = phx_vf_zero();
}

/* acc[m][n] += x[m][k] * w[n][k], k < n_k (a multiple of PHX_LANES). */
PHX_ALWAYS void phx_tile_rows(int n_m, const float *x, int64_t x_stride, const float *w, int64_t w_stride,
                              int64_t n_k, phx_vf *acc)
{
    for (int64_t k = 0; k < n_k; k += PHX_LANES) {
        phx_vf xv[PHX_TILE_ROWS];
        PHX_UNROLL(6)
        for (int m = 0; m < n_m; m++)
            xv[m] = phx_vf_load(x + m * x_stride + k);
        PHX_UNROLL(4)
        for (int n = 0; n < PHX_TILE_OUTS; n++) {
            const phx_vf wv = phx_vf_load(w + n * w_stride + k);
            PHX_UNROLL(6)
            for (int m = 0; m < n_m; m++)
                acc[m * PHX_TILE_OUTS + n] = phx_vf_fma(wv, xv[m], acc[m * PHX_TILE_OUTS + n]);
        }
    }
}

/* acc[m][v] += x[m][i] * w[i][v], i < n_i ascending; row i of w starts i * w_bytes in and is stored as
 * format. n_v is even. */
PHX_ALWAYS void phx_tile_columns(phx_format format, int n_m, int n_v, const float *x, int64_t x_stride,
                                 const uint8_t *w, int64_t w_bytes, int64_t n_i, phx_vf *acc)
{
    const int64_t bytes = phx_format_bytes(format) * PHX_LANES;
    for (int64_t i = 0; i < n_i; i++) {
        phx_vf xv[PHX_TILE_ROWS];
        PHX_UNROLL(6)
        for (int m = 0; m < n_m; m++)
            xv[m] = phx_vf_set(x[m * x_stride + i]);
        PHX_UNROLL(4)
        for (int v = 0; v < n_v; v += 2) {
            phx_vf wv[2];
            phx_vf_load2_format(format, w + i * w_bytes + v * bytes, wv);
            PHX_UNROLL(6)
            for (int m = 0; m < n_m; m++)
                acc[m * n_v + v] = phx_vf_fma(wv[0], xv[m], acc[m * n_v + v]);
            PHX_UNROLL(6)
            for (int m = 0; m < n_m; m++)
                acc[m * n_v + v + 1] = phx_vf_fma(wv[1], xv[m], acc[m * n_v + v + 1]);
        }
    }
}

/* Calls tile(n_m, ...) with n_m as a constant, 1 <= n <= PHX_TILE_ROWS. */
#if PHX_TILE_ROWS == 3
#define PHX_TILE_SWITCH(n, tile, ...) \
    do {                              \
        if ((n) == 1)                 \
            tile(1, __VA_ARGS__);     \
        else if ((n) == 2)            \
            tile(2, __VA_ARGS__);     \
        else                          \
            tile(3, __VA_ARGS__);     \
    } while (0)
#else
#define PHX_TILE_SWITCH(n, tile, ...) \
    do {                              \
        if ((n) == 1)                 \
            tile(1, __VA_ARGS__);     \
        else if ((n) == 2)            \
            tile(2, __VA_ARGS__);     \
        else if ((n) == 3)            \
            tile(3, __VA_ARGS__);     \
        else if ((n) == 4)            \
            tile(4, __VA_ARGS__);     \
        else if ((n) == 5)            \
            tile(5, __VA_ARGS__);     \
        else                          \
            tile(6, __VA_ARGS__);     \
    } while (0)
#endif

#endif
