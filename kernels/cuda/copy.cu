/* kernels/cuda/copy.cu - the ops that move or add single numbers: embed, cache_write, cache_read, round,
 * add, scale, pick_rows. One thread per number. */
#include "kernels/cuda/number.cuh"

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

/* phx_f32_to_f16: below 2^-14 the step is 2^-24, that of numbers from a half on. */
PHX_DEVICE uint16_t f16_code(float x)
{
    const uint32_t bits = phx_bits_of_f32(x);
    const uint32_t sign = bits >> 16 & 0x8000u;
    const uint32_t magnitude = bits & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u)
        return (uint16_t)(sign | 0x7E00u | (magnitude >> 13 & 0x3FFu));
    if (magnitude >= 0x477FF000u) /* 65520 */
        return (uint16_t)(sign | 0x7C00u);
    if (magnitude < 113u << 23)
        return (uint16_t)(sign | (phx_bits_of_f32(fabsf(x) + 0.5f) - phx_bits_of_f32(0.5f)));
    const uint32_t moved = magnitude - (112u << 23);
    return (uint16_t)(sign | (moved + 0xFFFu + (moved >> 13 & 1u)) >> 13);
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
    if (cache.dtype == PHX_F16)
        ((uint16_t *)cache.data)[entry * cache.width + col] = f16_code(a.x[r * a.x_stride + col]);
    else
        phx_store(cache.data, cache.dtype, entry * cache.width + col, a.x[r * a.x_stride + col]);
}

/* A block of threads per row, a group of numbers at a time: each thread has one of them. */
static __global__ void __launch_bounds__(PHX_BLOCK)
    cache_write_fp8(const phx_cache_write_args a, const phx_cache cache)
{
    PHX_SHARED(float, maxima, PHX_BLOCK_WARPS);
    const int64_t r = blockIdx.x;
    const float *x = a.x + r * a.x_stride;
    if (a.entries[r] < 0)
        return; /* all threads of the block */
    uint8_t *to = (uint8_t *)cache.data + a.entries[r] * phx_cache_entry_bytes(&cache);
    for (int64_t first = 0; first < cache.d_latent; first += PHX_CACHE_GROUP) {
        const int64_t c = first + threadIdx.x;
        const bool is_there = c < cache.d_latent;
        const float max = phx_block_max(is_there ? fabsf(x[c]) : 0.0f, maxima);
        const float scale = phx_cache_scale(PHX_PLANT(60) ? max * 2.0f : max);
        if (is_there)
            to[c] = phx_e4m3_code(phx_round_e4m3(x[c] / scale));
        if (threadIdx.x == 0)
            ((float *)(to + phx_cache_scales_at(&cache)))[first / PHX_CACHE_GROUP] = scale;
    }
    for (int64_t c = cache.d_latent + threadIdx.x; c < cache.width; c += PHX_BLOCK)
        phx_store(to + phx_cache_rest_at(&cache), PHX_BF16, c - cache.d_latent, x[c]);
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

static __global__ void scale(const phx_scale_args a)
{
    const int64_t i = phx_thread_of_grid();
    if (i < a.n)
        a.y[i] *= a.factor;
}

cudaError_t phx_scale_cuda(cudaStream_t stream, const phx_scale_args *args)
{
    if (args->n == 0)
        return cudaSuccess;
    return PHX_LAUNCH(scale, phx_grid(args->n, THREADS), THREADS, 0, stream, *args);
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
