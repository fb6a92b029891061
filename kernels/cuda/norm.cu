/* kernels/cuda/norm.cu - rms_norm, layer_norm and latent_write (a block per row), rope (a thread per pair),
 * index_round (a block per vector). Thread t of a row takes columns t, t + PHX_BLOCK, ..., so in place is
 * safe.
 */
#include "kernels/cuda/entry.cuh"

/* What a row is divided by; all threads of the block. */
PHX_DEVICE float norm_root(const float *x, int64_t n, float eps, phx_shared<float> sums)
{
    float part = 0.0f;
    for (int64_t i = threadIdx.x; i < n; i += PHX_BLOCK)
        part = fmaf(x[i], x[i], part);
    const float sum = phx_block_sum(part, sums);
    return sqrtf(sum / (float)n + eps);
}

/* The pair (p, q) by the angle of cos_sin. */
PHX_DEVICE float rotated_first(float p, float q, const float *cos_sin)
{
    return fmaf(p, cos_sin[0], -(q * cos_sin[1]));
}

PHX_DEVICE float rotated_second(float p, float q, const float *cos_sin)
{
    return fmaf(p, cos_sin[1], q * cos_sin[0]);
}

static __global__ void rms_norm(const phx_rms_norm_args a)
{
    PHX_SHARED(float, sums, PHX_BLOCK_WARPS);
    const int64_t r = blockIdx.x;
    const float *x = a.x + r * a.x_stride;
    if (a.add) {
        float *to = a.sum + r * a.x_stride;
        for (int64_t i = threadIdx.x; i < a.n_cols; i += PHX_BLOCK)
            to[i] = x[i] + a.add[(PHX_PLANT(90) ? 0 : r) * a.n_cols + i];
        x = to; /* a thread reads what it wrote */
    }
    const float root = norm_root(x, a.n_cols, a.eps, sums);
    for (int64_t i = threadIdx.x; i < a.n_cols; i += PHX_BLOCK) {
        const float y = x[i] / root * a.weight[i];
        if (a.out_f32)
            a.out_f32[r * a.out_f32_stride + i] = y;
        if (a.out_act.data)
            phx_store(a.out_act.data, a.out_act.dtype, r * a.out_act.stride + i, y);
    }
}

cudaError_t phx_rms_norm_cuda(cudaStream_t stream, const phx_rms_norm_args *args)
{
    if (args->n_rows == 0)
        return cudaSuccess;
    return PHX_LAUNCH(rms_norm, phx_grid(args->n_rows, 1), PHX_BLOCK, 0, stream, *args);
}

static __global__ void layer_norm(const phx_layer_norm_args a)
{
    PHX_SHARED(float, sums, PHX_BLOCK_WARPS);
    float *x = a.x + (int64_t)blockIdx.x * a.n_cols;
    float part = 0.0f;
    for (int64_t i = threadIdx.x; i < a.n_cols; i += PHX_BLOCK)
        part += x[i];
    const float mean = phx_block_sum(part, sums) / (float)a.n_cols;
    part = 0.0f;
    for (int64_t i = threadIdx.x; i < a.n_cols; i += PHX_BLOCK)
        part = fmaf(x[i] - mean, x[i] - mean, part);
    const float root = sqrtf(phx_block_sum(part, sums) / (float)a.n_cols + a.eps);
    for (int64_t i = threadIdx.x; i < a.n_cols; i += PHX_BLOCK)
        x[i] = fmaf((x[i] - mean) / root, a.weight[i], a.bias[i]);
}

cudaError_t phx_layer_norm_cuda(cudaStream_t stream, const phx_layer_norm_args *args)
{
    if (args->n_rows == 0)
        return cudaSuccess;
    return PHX_LAUNCH(layer_norm, phx_grid(args->n_rows, 1), PHX_BLOCK, 0, stream, *args);
}

static __global__ void rope(const phx_rope_args a)
{
    const int64_t n_pairs = a.d_rope / 2;
    const int64_t i = phx_thread_of_grid();
    if (i >= a.n_rows * a.n_heads * n_pairs)
        return;
    const int64_t r = i / (a.n_heads * n_pairs);
    const int64_t h = i / n_pairs % a.n_heads;
    const int64_t pair = i % n_pairs;
    const float *cos_sin = a.table + ((int64_t)a.positions[r] * n_pairs + pair) * 2;
    float *x = a.x + r * a.row_stride + h * a.head_stride;
    float *first = a.interleaved ? x + 2 * pair : x + pair;
    float *second = a.interleaved ? first + 1 : first + n_pairs;
    const float p = *first;
    const float q = *second;
    *first = rotated_first(p, q, cos_sin);
    *second = rotated_second(p, q, cos_sin);
    if (!a.copy)
        return;
    float *copy = a.copy + r * a.copy_row_stride + h * (PHX_PLANT(91) ? a.head_stride : a.copy_head_stride);
    copy[first - x] = *first;
    copy[second - x] = *second;
}

cudaError_t phx_rope_cuda(cudaStream_t stream, const phx_rope_args *args)
{
    const int64_t n = args->n_rows * args->n_heads * (args->d_rope / 2);
    if (n == 0)
        return cudaSuccess;
    return PHX_LAUNCH(rope, phx_grid(n, PHX_BLOCK), PHX_BLOCK, 0, stream, *args);
}

/* The whole entry waits in shared memory: an fp8 cache needs the largest number of a group. */
static __global__ void __launch_bounds__(PHX_BLOCK)
    latent_write(const phx_latent_write_args a, const phx_cache cache)
{
    PHX_SHARED_DYNAMIC(float, row, cache.width);
    PHX_SHARED(float, sums, PHX_BLOCK_WARPS);
    const int64_t r = blockIdx.x;
    const int64_t entry = a.entries[r];
    const float *x = a.x + r * a.x_stride;
    const int64_t n_pairs = (cache.width - a.d_latent) / 2;
    if (entry < 0)
        return; /* all threads of the block */
    const float root = norm_root(x, a.d_latent, a.eps, sums);
    for (int64_t i = threadIdx.x; i < a.d_latent; i += PHX_BLOCK)
        row[i] = x[i] / root * a.weight[i];
    for (int64_t pair = threadIdx.x; pair < n_pairs; pair += PHX_BLOCK) {
        const int64_t at = a.d_latent + 2 * pair;
        const int64_t position = PHX_PLANT(92) ? r : a.positions[r];
        const float *cos_sin = a.table + (position * n_pairs + pair) * 2;
        row[at] = rotated_first(x[at], x[at + 1], cos_sin);
        row[at + 1] = rotated_second(x[at], x[at + 1], cos_sin);
    }
    if (!PHX_PLANT(93))
        __syncthreads();
    if (cache.dtype == PHX_F8_E4M3) {
        phx_put_fp8(cache, entry, row, sums);
        return;
    }
    for (int64_t i = threadIdx.x; i < cache.width; i += PHX_BLOCK)
        phx_put_number(cache, entry, i, row[i]);
}

cudaError_t phx_latent_write_cuda(cudaStream_t stream, const phx_latent_write_args *args)
{
    if (args->n_rows == 0)
        return cudaSuccess;
    return PHX_LAUNCH(latent_write, phx_grid(args->n_rows, 1), PHX_BLOCK,
                      (size_t)args->cache->width * sizeof(float), stream, *args, *args->cache);
}

/* The vector lies in shared memory, because every stride of the transform mixes the threads' elements. */
static __global__ void index_round(const phx_index_round_args a)
{
    PHX_SHARED_DYNAMIC(float, x, a.d);
    PHX_SHARED(float, maxima, PHX_BLOCK_WARPS);
    float *data = a.x + (int64_t)blockIdx.x * a.d;
    for (int64_t i = threadIdx.x; i < a.d; i += PHX_BLOCK)
        x[i] = data[i];
    __syncthreads();
    for (int64_t h = 1; a.hadamard && h < a.d; h *= 2) {
        for (int64_t pair = threadIdx.x; pair < a.d / 2; pair += PHX_BLOCK) {
            const int64_t i = pair / h * (2 * h) + pair % h;
            const float p = x[i];
            const float q = x[i + h];
            x[i] = p + q;
            x[i + h] = p - q;
        }
        __syncthreads();
    }
    const float factor = a.hadamard ? phx_hadamard_scale(a.d) : 1.0f;
    float max = 1e-4f;
    for (int64_t i = threadIdx.x; i < a.d; i += PHX_BLOCK) {
        const float size = fabsf(x[i] * factor);
        max = size > max ? size : max;
    }
    max = phx_block_max(max, maxima);
    const uint32_t bits = phx_bits_of_f32(max / 448.0f);
    const uint32_t up = (bits & 0x7FFFFFu) != 0 && !PHX_PLANT(25) ? 1 : 0;
    const float scale = phx_f32_of_bits(((bits >> 23) + up) << 23);
    for (int64_t i = threadIdx.x; i < a.d; i += PHX_BLOCK) {
        const float y = x[i] * factor;
        data[i] = a.fp8 ? phx_round_e4m3(y / scale) * scale : y;
    }
}

cudaError_t phx_index_round_cuda(cudaStream_t stream, const phx_index_round_args *args)
{
    if (args->n_vectors == 0)
        return cudaSuccess;
    return PHX_LAUNCH(index_round, phx_grid(args->n_vectors, 1), PHX_BLOCK, (size_t)args->d * sizeof(float),
                      stream, *args);
}
