/* kernels/cuda/attention.cu - absorbed and expanded attention: a block per head of a row, which walks the
 * splits from left to right (DESIGN 7e). Scores: a warp per position; values: a thread per column. */
#include "kernels/cuda/number.cuh"

typedef struct absorbed { /* where the i-th position of row r lies, and its elements */
    phx_attention_args a;
    phx_cache cache;

    __device__ int64_t find(int64_t r, int64_t i) const
    {
        const int64_t position = a.positions ? a.positions[r * a.positions_stride + i] : i;
        return ((int64_t)a.blocks[r][position / 64] * 64 + position % 64) * cache.width;
    }
    __device__ float key(int64_t at, int64_t, int64_t c) const
    {
        return phx_load(cache.data, cache.dtype, at + c);
    }
    __device__ float value(int64_t at, int64_t, int64_t c) const
    {
        return phx_load(cache.data, cache.dtype, at + c);
    }
} absorbed;

typedef struct expanded {
    phx_attention_expanded_args a;

    __device__ int64_t find(int64_t, int64_t i) const
    {
        return i;
    }
    __device__ float key(int64_t at, int64_t h, int64_t c) const
    {
        if (c >= a.d_nope)
            return a.k_rope[at * a.d_rope + c - a.d_nope];
        return a.kv[(at * a.n_heads + h) * (a.d_nope + a.d_v) + c];
    }
    __device__ float value(int64_t at, int64_t h, int64_t c) const
    {
        return a.kv[(at * a.n_heads + h) * (a.d_nope + a.d_v) + a.d_nope + c];
    }
} expanded;

typedef struct sizes {
    int64_t n_heads;
    int64_t d_key;
    int64_t d_value;
    const float *q;             /* [n_rows][n_heads][d_key] */
    const int32_t *n_positions; /* [n_rows] */
    float scale;
    phx_activation_out out;
} sizes;

/* One split's weights exp(score - max) into p, unnormalised. */
template <class Entries>
PHX_DEVICE float split_scores(const Entries &from, const sizes &s, int64_t first, int64_t n,
                              phx_shared<float> p, phx_shared<float> parts)
{
    const int64_t r = blockIdx.x / s.n_heads;
    const int64_t h = blockIdx.x % s.n_heads;
    const float *q = s.q + (int64_t)blockIdx.x * s.d_key;
    float max = -INFINITY;
    for (int64_t i = phx_warp(); i < n; i += PHX_BLOCK_WARPS) {
        const int64_t at = from.find(r, first + i);
        float dot = 0.0f;
        for (int64_t c = phx_lane(); c < s.d_key; c += PHX_WARP)
            dot = fmaf(q[c], from.key(at, h, c), dot);
        dot = phx_warp_sum(dot) * s.scale;
        max = dot > max ? dot : max;
        if (phx_lane() == 0)
            p[i] = dot;
    }
    max = phx_block_max(max, parts);
    for (int64_t i = threadIdx.x; i < n; i += PHX_BLOCK)
        p[i] = phx_expf(p[i] - max);
    return max;
}

/* No position at all: zeros. Thread t owns columns t, t + PHX_BLOCK, ... of the result in shared memory. */
template <class Entries> PHX_DEVICE void attend(const Entries &from, const sizes &s, phx_shared<float> shared)
{
    PHX_SHARED(float, p, PHX_ATTENTION_SPLIT);
    PHX_SHARED(float, parts, PHX_BLOCK_WARPS);
    const int64_t r = blockIdx.x / s.n_heads;
    const int64_t h = blockIdx.x % s.n_heads;
    float all_max = -INFINITY;
    float all_sum = 1.0f;
    for (int64_t c = threadIdx.x; c < s.d_value; c += PHX_BLOCK)
        shared[c] = 0.0f;
    for (int64_t first = 0; first < s.n_positions[r]; first += PHX_ATTENTION_SPLIT) {
        const int64_t left = s.n_positions[r] - first;
        const int64_t n = left < PHX_ATTENTION_SPLIT ? left : PHX_ATTENTION_SPLIT;
        const float max = split_scores(from, s, first, n, p, parts);
        float part = 0.0f;
        for (int64_t i = threadIdx.x; i < n; i += PHX_BLOCK)
            part += p[i];
        const float sum = phx_block_sum(part, parts); /* its barriers also end the writing of p */
        const float new_max = all_max > max ? all_max : max;
        const float keep = first == 0 ? 0.0f : PHX_PLANT(21) ? 1.0f : phx_expf(all_max - new_max);
        const float take = phx_expf(max - new_max);
        for (int64_t c = threadIdx.x; c < s.d_value; c += PHX_BLOCK) {
            float o = 0.0f;
            for (int64_t i = 0; i < n; i++)
                o = fmaf(p[i], from.value(from.find(r, first + i), h, c), o);
            shared[c] = fmaf(o, take, shared[c] * keep);
        }
        all_sum = fmaf(sum, take, all_sum * keep);
        all_max = new_max;
        if (!PHX_PLANT(22))
            __syncthreads(); /* p is written again */
    }
    for (int64_t c = threadIdx.x; c < s.d_value; c += PHX_BLOCK)
        phx_store(s.out.data, s.out.dtype, r * s.out.stride + h * s.d_value + c, shared[c] / all_sum);
}

static __global__ void attention(const absorbed from, const sizes s)
{
    PHX_SHARED_DYNAMIC(float, shared, s.d_value);
    attend(from, s, shared);
}

static __global__ void attention_expanded(const expanded from, const sizes s)
{
    PHX_SHARED_DYNAMIC(float, shared, s.d_value);
    attend(from, s, shared);
}

cudaError_t phx_attention_cuda(cudaStream_t stream, const phx_attention_args *args)
{
    const int64_t n = args->n_rows * args->n_heads;
    if (n == 0)
        return cudaSuccess;
    const absorbed from = {*args, *args->cache};
    const sizes s = {args->n_heads,     args->cache->width, args->d_latent, args->q,
                     args->n_positions, args->scale,        args->out};
    return PHX_LAUNCH(attention, phx_grid(n, 1), PHX_BLOCK, (size_t)s.d_value * sizeof(float), stream, from,
                      s);
}

cudaError_t phx_attention_expanded_cuda(cudaStream_t stream, const phx_attention_expanded_args *args)
{
    const int64_t n = args->n_rows * args->n_heads;
    if (n == 0)
        return cudaSuccess;
    const expanded from = {*args};
    const sizes s = {
        args->n_heads, args->d_nope + args->d_rope, args->d_v, args->q, args->n_keys, args->scale, args->out};
    return PHX_LAUNCH(attention_expanded, phx_grid(n, 1), PHX_BLOCK, (size_t)s.d_value * sizeof(float),
                      stream, from, s);
}
