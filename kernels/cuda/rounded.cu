/* kernels/cuda/rounded.cu - rows of activations as e4m3 codes with a scale for each 128 columns, and a
 * matrix's scales, both as cuBLASLt wants them (lt.cu). Not here: the product. */
#include "kernels/cuda/lt.cuh"
#include "kernels/cuda/number.cuh"

#define THREADS 256
#define GROUP   128                /* columns under one scale */
#define MINE    (GROUP / PHX_WARP) /* columns of a lane */

/* NaN has a code too; a sum that meets it is NaN. */
PHX_DEVICE uint32_t code_of(float x, float to_code)
{
    return isnan(x) ? 0x7Fu : phx_e4m3_code(phx_round_e4m3(x * to_code));
}

/* A warp per row and group. Scales are powers of two, and so are their inverses. Rows from n_rows on are
 * padding: zeros. */
static __global__ void round_codes(const phx_rounded_rows_args a)
{
    const int64_t item = phx_warp_of_grid();
    const int64_t n_groups = a.n_cols / GROUP;
    if (item >= a.n_padded * n_groups)
        return; /* the whole warp */
    const int64_t row = item / n_groups;
    const int64_t group = item % n_groups;
    const int64_t col = group * GROUP + phx_lane() * MINE;
    float x[MINE] = {0.0f};
    if (row < a.n_rows) {
        const phx_8 raw = *(const phx_8 *)((const uint16_t *)a.x.data + row * a.x.stride + col);
        for (int i = 0; i < MINE; i++)
            x[i] = phx_bf16_to_f32((uint16_t)(raw.word[i / 2] >> 16 * (i % 2)));
    }
    float max = 0.0f;
    for (int i = 0; i < MINE; i++)
        max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
    const float scale = phx_cache_scale(phx_warp_max(max));
    const float to_code = 1.0f / (PHX_PLANT(70) ? scale * 2.0f : scale);
    uint32_t codes = 0;
    for (int i = 0; i < MINE; i++)
        codes |= code_of(x[i], to_code) << 8 * i;
    *(uint32_t *)(a.codes + row * a.n_cols + col) = codes;
    if (phx_lane() == 0)
        a.scales[PHX_PLANT(71) ? row * n_groups + group : group * a.n_padded + row] = scale;
}

/* A thread per scale; `columns` is a multiple of four. */
static __global__ void copy_scales(const phx_matrix w, int64_t n_rows, int64_t n_cols, int64_t columns,
                                   float *to)
{
    const int64_t i = phx_thread_of_grid();
    if (i >= n_rows * columns)
        return;
    const int64_t col = i % columns;
    to[i] = w.scales[i / columns * w.scale_stride + (col < n_cols ? col : n_cols - 1)];
}

cudaError_t phx_round_codes_cuda(cudaStream_t stream, const phx_rounded_rows_args *args)
{
    const int64_t n_warps = args->n_padded * (args->n_cols / GROUP);
    return PHX_LAUNCH(round_codes, phx_grid(n_warps, THREADS / PHX_WARP), THREADS, 0, stream, *args);
}

cudaError_t phx_copy_scales_cuda(cudaStream_t stream, const phx_matrix *w, int64_t n_rows, float *to)
{
    const int64_t n_cols = (w->n_cols + GROUP - 1) / GROUP;
    const int64_t columns = phx_rounded_rows(n_cols);
    return PHX_LAUNCH(copy_scales, phx_grid(n_rows * columns, THREADS), THREADS, 0, stream, *w, n_rows,
                      n_cols, PHX_PLANT(72) ? n_cols : columns, to);
}
