/* kernels/cuda/copy.cu - the ops that move or add single numbers: embed, cache_write, cache_read, round,
 * add, pick_rows. One thread per number. */
#include "kernels/cuda/entry.cuh"

#define THREADS 256

static __global__ void embed(const phx_embed_args a, const phx_matrix table)
{
    const int64_t i = phx_thread_of_grid();
    if (i >= a.n_rows * table.n_cols)
        return;
    const int64_t row = a.ids[i / table.n_cols];
    const int64_t col = i % table.n_cols;
    float value = -0.0f;
    if (row >= 0)
        value = phx_code_value(table, row * table.n_cols + col);
    if (row >= 0 && table.scales)
        value *= phx_scale_at(table, row, col);
    if (row >= 0 && table.group_scales)
        value *= phx_group_scale_at(table, row, col);
    a.out[i] = value;
}

cudaError_t phx_embed_cuda(cudaStream_t stream, const phx_embed_args *args)
{
    const int64_t n = args->n_rows * args->table->n_cols;
    if (n == 0)
        return cudaSuccess;
    return PHX_LAUNCH(embed, phx_grid(n, THREADS), THREADS, 0, stream, *args, *args->table);
}

static __global__ void cache_write(const phx_cache_write_args a, const phx_cache cache)
{
    const int64_t i = phx_thread_of_grid();
    if (i >= a.n_rows * cache.width)
        return;
    const int64_t r = i / cache.width;
    const int64_t col = i % cache.width;
    const int64_t entry = PHX_PLANT(35) && a.entries[r] < 0 ? 0 : a.entries[r];
    if (entry < 0)
        return;
    phx_put_number(cache, entry, col, a.x[r * a.x_stride + col]);
}

static __global__ void __launch_bounds__(PHX_BLOCK)
    cache_write_fp8(const phx_cache_write_args a, const phx_cache cache)
{
    PHX_SHARED(float, maxima, PHX_BLOCK_WARPS);
    const int64_t r = blockIdx.x;
    if (a.entries[r] < 0)
        return; /* all threads of the block */
    phx_put_fp8(cache, a.entries[r], a.x + r * a.x_stride, maxima);
}

cudaError_t phx_cache_write_cuda(cudaStream_t stream, const phx_cache_write_args *args)
{
    const int64_t n = args->n_rows * args->cache->width;
    if (n == 0)
        return cudaSuccess;
    if (args->cache->dtype == PHX_F8_E4M3)
        return PHX_LAUNCH(cache_write_fp8, phx_grid(args->n_rows, 1), PHX_BLOCK, 0, stream, *args,
                          *args->cache);
    return PHX_LAUNCH(cache_write, phx_grid(n, THREADS), THREADS, 0, stream, *args, *args->cache);
}

static __global__ void round_rows(const phx_round_args a)
{
    const int64_t i = phx_thread_of_grid();
    if (i >= a.n_rows * a.n_cols)
        return;
    const int64_t r = i / a.n_cols;
    const int64_t col = i % a.n_cols;
    phx_store(a.out.data, a.out.dtype, r * a.out.stride + col, a.x[r * a.x_stride + col]);
}

cudaError_t phx_round_cuda(cudaStream_t stream, const phx_round_args *args)
{
    const int64_t n = args->n_rows * args->n_cols;
    if (n == 0)
        return cudaSuccess;
    return PHX_LAUNCH(round_rows, phx_grid(n, THREADS), THREADS, 0, stream, *args);
}

static __global__ void add(const phx_add_args a)
{
    const int64_t i = phx_thread_of_grid();
    if (i < a.n)
        a.y[i] += a.x[i];
}

cudaError_t phx_add_cuda(cudaStream_t stream, const phx_add_args *args)
{
    if (args->n == 0)
        return cudaSuccess;
    return PHX_LAUNCH(add, phx_grid(args->n, THREADS), THREADS, 0, stream, *args);
}

static __global__ void cache_read(const phx_cache_read_args a, const phx_cache cache)
{
    const int64_t i = phx_thread_of_grid();
    if (i >= a.n_positions * a.n_cols)
        return;
    const int64_t position = i / a.n_cols;
    const int64_t entry = phx_cache_entry(&cache, a.blocks, position);
    a.out[i] = phx_load_cached(cache, entry, a.first_col + i % a.n_cols);
}

cudaError_t phx_cache_read_cuda(cudaStream_t stream, const phx_cache_read_args *args)
{
    const int64_t n = args->n_positions * args->n_cols;
    if (n == 0)
        return cudaSuccess;
    return PHX_LAUNCH(cache_read, phx_grid(n, THREADS), THREADS, 0, stream, *args, *args->cache);
}

static __global__ void pick_rows(const phx_pick_rows_args a)
{
    const int64_t i = phx_thread_of_grid();
    if (i >= a.n_rows * a.n_cols)
        return;
    const int64_t from = a.rows[i / a.n_cols] * a.x.stride + i % a.n_cols;
    if (a.x.dtype == PHX_BF16)
        ((uint16_t *)a.out)[i] = ((const uint16_t *)a.x.data)[from];
    else
        ((float *)a.out)[i] = ((const float *)a.x.data)[from];
}

cudaError_t phx_pick_rows_cuda(cudaStream_t stream, const phx_pick_rows_args *args)
{
    const int64_t n = args->n_rows * args->n_cols;
    if (n == 0)
        return cudaSuccess;
    return PHX_LAUNCH(pick_rows, phx_grid(n, THREADS), THREADS, 0, stream, *args);
}
