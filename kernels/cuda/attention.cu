/* kernels/cuda/attention.cu - absorbed and expanded attention. A bf16 cache of the usual widths: 16 heads of
 * a row by mma (mla.cuh). Expanded, rounded to bf16: expanded.cuh. Else a block per head of a row, which
 * walks the splits from left to right (DESIGN 7e); scores: a warp per position; values: a thread per column.
 */
#include "kernels/cuda/expanded.cuh"
#include "kernels/cuda/mla_share.cuh"

typedef struct absorbed { /* the entry of the i-th position of row r, and its numbers */
    phx_attention_args a;
    phx_cache cache;

    __device__ int64_t find(int64_t r, int64_t i) const
    {
        const int64_t position = a.positions ? a.positions[r * a.positions_stride + i] : i;
        return phx_cache_entry(&cache, a.blocks[r], position);
    }
    __device__ float key(int64_t at, int64_t, int64_t c) const
    {
        return phx_load_cached(cache, at, c);
    }
    __device__ float value(int64_t at, int64_t, int64_t c) const
    {
        return phx_load_cached(cache, at, c);
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
    float *lse; /* [n_rows][n_heads] or NULL */
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
        const float keep = first == 0 ? 0.0f : PHX_PLANT(28) ? 1.0f : phx_expf(all_max - new_max);
        const float take = phx_expf(max - new_max);
        for (int64_t c = threadIdx.x; c < s.d_value; c += PHX_BLOCK) {
            float o = 0.0f;
            for (int64_t i = 0; i < n; i++)
                o = fmaf(p[i], from.value(from.find(r, first + i), h, c), o);
            shared[c] = fmaf(o, take, shared[c] * keep);
        }
        all_sum = fmaf(sum, take, all_sum * keep);
        all_max = new_max;
        if (!PHX_PLANT(29))
            __syncthreads(); /* p is written again */
    }
    for (int64_t c = threadIdx.x; c < s.d_value; c += PHX_BLOCK)
        phx_store(s.out.data, s.out.dtype, r * s.out.stride + h * s.d_value + c, shared[c] / all_sum);
    if (s.lse && threadIdx.x == 0)
        s.lse[blockIdx.x] = all_max + phx_logf(all_sum);
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

/* A split: tiles of positions from first on, n of them. */
template <bool FP8>
PHX_DEVICE void mla_split(const absorbed &from, int r, int first, int n, const mla_shared &s,
                          mla_state &state, float o[MLA_COLS][4])
{
    const int width = (int)from.cache.width;
    const int entry_bytes = (int)phx_cache_entry_bytes(&from.cache);
    const int n_cols = (int)(from.a.d_latent / MLA_WARPS / 8);
    for (int tile = 0; tile < n; tile += MLA_KEYS) {
        const int left = n - tile < MLA_KEYS ? n - tile : MLA_KEYS;
        if (threadIdx.x < MLA_KEYS) {
            const int i = (int)threadIdx.x < left ? (int)threadIdx.x : left - 1; /* any that is there */
            s.entry[threadIdx.x] = from.find(r, first + tile + i) * entry_bytes;
        }
        __syncthreads(); /* also: the tile before this one is read */
        if (FP8)
            mla_widen_keys(from.cache, s);
        else
            mla_copy_keys((const uint8_t *)from.cache.data, width, s);
        __syncthreads();
        mla_scores(width, s);
        __syncthreads();
        mla_weights(left, from.a.scale, state, s);
        __syncthreads();
        mla_values(width, n_cols, s, o);
    }
}

/* Results of 16 heads, divided; the factors' last part holds the sums. */
PHX_DEVICE void mla_store_out(const absorbed &from, const mla_segment &g, const mla_shared &s,
                              const float o[MLA_COLS][4])
{
    const phx_attention_args &a = from.a;
    const int n_cols = (int)(a.d_latent / MLA_WARPS / 8);
    PHX_UNROLL
    for (int i = 0; i < MLA_COLS * 4; i++) {
        const int head = (int)phx_lane() / 4 + i % 4 / 2 * 8;
        const int h = g.group * MLA_HEADS + head;
        const int64_t c = (phx_warp() * n_cols + i / 4) * 8 + phx_lane() % 4 * 2 + i % 2;
        if (i / 4 < n_cols && h < a.n_heads)
            phx_store(a.out.data, a.out.dtype, (int64_t)g.row * a.out.stride + h * a.d_latent + c,
                      o[i / 4][i % 4] / s.factors[2 * MLA_HEADS + head]);
    }
}

/* The splits of a segment: from split 0 on merged into one part, which becomes the result after the last
 * split of the row; else each a part of its own. */
template <bool FP8>
PHX_DEVICE void mla_run_segment(const absorbed &from, const mla_parts &parts, const mla_segment &g,
                                const mla_shared &s)
{
    const phx_attention_args &a = from.a;
    const int h = g.group * MLA_HEADS;
    const int n_cols = (int)(a.d_latent / MLA_WARPS / 8);
    mla_put_queries(a.q + ((int64_t)g.row * a.n_heads + h) * from.cache.width, a.n_heads - h,
                    (int)from.cache.width, s);
    mla_state all = {-INFINITY, 0.0f};
    for (int split = g.first; split < g.end; split++) {
        const int first = split * PHX_ATTENTION_SPLIT;
        const int left = a.n_positions[g.row] - first;
        float o[MLA_COLS][4] = {};
        mla_state state = {-INFINITY, 0.0f};
        mla_split<FP8>(from, g.row, first, left < PHX_ATTENTION_SPLIT ? left : PHX_ATTENTION_SPLIT, s, state,
                       o);
        if (g.first > 0) {
            mla_store_sums(parts, g.part + split, n_cols, o);
            mla_store_state(parts, g.part + split, state);
            continue;
        }
        if (!PHX_PLANT(22))
            __syncthreads(); /* the factors of the last tile are read */
        mla_merge_state(state, all, s);
        __syncthreads();
        mla_merge(parts, g.part, split == 0, n_cols, s, o);
        if (split + 1 == g.n)
            mla_store_out(from, g, s, o);
        else
            mla_store_sums(parts, g.part, n_cols, o);
        __syncthreads();
    }
    if (g.first > 0)
        return;
    if (threadIdx.x == 0) {
        int32_t *row = parts.rows + ((int64_t)g.row * mla_groups(a) + g.group) * 2;
        row[0] = g.part;
        row[1] = g.end - (PHX_PLANT(41) && g.end > 1 ? 1 : 0);
    }
    if (g.end < g.n)
        mla_store_state(parts, g.part, all);
    else if (threadIdx.x % 16 == 0 && h + threadIdx.x / 16 < a.n_heads)
        mla_store_lse(a, g.row, h + threadIdx.x / 16, all);
}

/* Grid: any number of blocks; all of them share the items (mla_share.cuh). Dynamic: pieces of queries, and
 * keys. Two blocks of a multiprocessor hide each other's waiting, where its shared memory has room. */
template <bool FP8>
static __global__ void __launch_bounds__(MLA_THREADS, 2)
    attention_mla(const absorbed from, const mla_parts parts)
{
    const int64_t row_bytes = from.cache.width * 2;
    PHX_SHARED_DYNAMIC(uint8_t, shared, (MLA_PIECES * MLA_HEADS + MLA_KEYS) * row_bytes);
    PHX_SHARED(float, scores, 2 * MLA_HEADS * MLA_KEYS);
    PHX_SHARED(float, weights, MLA_HEADS *MLA_KEYS);
    PHX_SHARED(float, factors, 3 * MLA_HEADS);
    PHX_SHARED(int64_t, entry, MLA_KEYS);
    PHX_SHARED(int32_t, sums, MLA_WARPS + 2);
    const mla_shared s = {shared, shared + MLA_PIECES * MLA_HEADS * row_bytes, scores, weights, factors,
                          entry};
    mla_walk walk = mla_begin(from.a, parts.n, sums);
    mla_segment segment;
    while (mla_next(from.a, walk, segment)) {
        mla_run_segment<FP8>(from, parts, segment, s);
        __syncthreads(); /* shared memory is written again */
    }
}

/* Grid: rows, heads. The parts of a row that was cut, from left to right; rows without positions get zeros. A
 * thread owns columns threadIdx.x, threadIdx.x + MLA_MERGE_THREADS, ... */
static __global__ void __launch_bounds__(MLA_MERGE_THREADS)
    attention_merge(const phx_attention_args a, const mla_parts parts)
{
    PHX_SHARED(float, factors, 3 * MLA_MERGE_THREADS); /* keep, take, sum of each part of a batch */
    PHX_SHARED(float, maxima, MLA_MERGE_THREADS);
    const int64_t r = blockIdx.x;
    const int64_t h = blockIdx.y;
    const int32_t n = mla_splits(a, (int32_t)r);
    const int32_t *row = parts.rows + (r * mla_groups(a) + h / MLA_HEADS) * 2;
    const int64_t merged = n > 0 ? row[1] : 0;
    if (n > 0 && merged == n)
        return;
    float all[MLA_MERGE_COLS] = {};
    mla_state state = {-INFINITY, 0.0f};
    const int64_t head = (n > 0 ? row[0] : 0) * MLA_HEADS + h % MLA_HEADS; /* of the part of split 0 */
    for (int i = 0; i < MLA_MERGE_COLS && n > 0; i++) {
        const int64_t c = threadIdx.x + i * MLA_MERGE_THREADS;
        all[i] = c < a.d_latent ? parts.o[head * a.d_latent + c] : 0.0f;
    }
    if (n > 0) {
        state.max = parts.state[2 * head];
        state.sum = parts.state[2 * head + 1];
    }
    for (int64_t first = merged; first < n; first += MLA_MERGE_THREADS) {
        const int64_t n_batch = n - first < MLA_MERGE_THREADS ? n - first : MLA_MERGE_THREADS;
        mla_merge_factors(parts, head + first * MLA_HEADS, n_batch, state, factors, maxima);
        for (int64_t k = 0; k < n_batch; k++) {
            const float keep = factors[k];
            const float take = factors[MLA_MERGE_THREADS + k];
            const float *o = parts.o + (head + (first + k) * MLA_HEADS) * a.d_latent;
            state.sum = fmaf(factors[2 * MLA_MERGE_THREADS + k], take, state.sum * keep);
            for (int i = 0; i < MLA_MERGE_COLS; i++) {
                const int64_t c = threadIdx.x + i * MLA_MERGE_THREADS;
                if (c < a.d_latent)
                    all[i] = fmaf(o[c], take, all[i] * (PHX_PLANT(40) ? 1.0f : keep));
            }
        }
        __syncthreads();
    }
    for (int i = 0; i < MLA_MERGE_COLS; i++) {
        const int64_t c = threadIdx.x + i * MLA_MERGE_THREADS;
        if (c < a.d_latent)
            phx_store(a.out.data, a.out.dtype, r * a.out.stride + h * a.d_latent + c,
                      all[i] / (state.sum > 0.0f ? state.sum : 1.0f));
    }
    if (threadIdx.x == 0)
        mla_store_lse(a, r, h, state);
}

/* Depends on the shape of an entry alone, so rows and heads have the same bits in any company. */
static bool mla_fits(const phx_attention_args *a)
{
    const bool is_fp8 = a->cache->dtype == PHX_F8_E4M3 && a->cache->d_latent == a->d_latent;
    return (is_fp8 || a->cache->dtype == PHX_BF16) && (uintptr_t)a->cache->data % 16 == 0 &&
           a->cache->width % 64 == 0 && a->cache->width <= MLA_WIDTH_MAX && a->d_latent % 128 == 0 &&
           a->d_latent <= MLA_LATENT_MAX;
}

/* One part for each block that runs at a time is the least that the grid needs. */
template <bool FP8> static cudaError_t mla_launch(cudaStream_t stream, const absorbed &from)
{
    const size_t bytes = (size_t)((MLA_PIECES * MLA_HEADS + MLA_KEYS) * from.cache.width) * 2;
    const mla_parts parts = mla_parts_of(from.a);
    int blocks = 0;
    if (parts.n == 0)
        return cudaErrorInvalidValue;
    cudaError_t err = PHX_ALLOW_SHARED(attention_mla<FP8>, bytes);
    if (err == cudaSuccess)
        err = PHX_BLOCKS_AT_ONCE(attention_mla<FP8>, MLA_THREADS, bytes, &blocks);
    if (err != cudaSuccess)
        return err;
    if (blocks > parts.n)
        blocks = (int)parts.n;
    err = PHX_LAUNCH(attention_mla<FP8>, (unsigned)blocks, MLA_THREADS, bytes, stream, from, parts);
    const dim3 grid((unsigned)from.a.n_rows, (unsigned)from.a.n_heads);
    if (err != cudaSuccess)
        return err;
    return PHX_LAUNCH(attention_merge, grid, MLA_MERGE_THREADS, 0, stream, from.a, parts);
}

cudaError_t phx_attention_cuda(cudaStream_t stream, const phx_attention_args *args)
{
    const int64_t n = args->n_rows * args->n_heads;
    if (n == 0)
        return cudaSuccess;
    const absorbed from = {*args, *args->cache};
    if (mla_fits(args))
        return from.cache.dtype == PHX_F8_E4M3 ? mla_launch<true>(stream, from)
                                               : mla_launch<false>(stream, from);
    const sizes s = {args->n_heads,     args->cache->width, args->d_latent, args->q,
                     args->n_positions, args->scale,        args->out,      args->lse};
    return PHX_LAUNCH(attention, phx_grid(n, 1), PHX_BLOCK, (size_t)s.d_value * sizeof(float), stream, from,
                      s);
}

cudaError_t phx_attention_expanded_cuda(cudaStream_t stream, const phx_attention_expanded_args *args)
{
    const int64_t n = args->n_rows * args->n_heads;
    if (n == 0)
        return cudaSuccess;
    const int64_t n_heads = expanded_heads(args);
    if (n_heads > 0)
        return expanded_launch(stream, *args, n_heads);
    const expanded from = {*args};
    const sizes s = {
        args->n_heads, args->d_nope + args->d_rope, args->d_v, args->q, args->n_keys, args->scale, args->out,
        NULL};
    return PHX_LAUNCH(attention_expanded, phx_grid(n, 1), PHX_BLOCK, (size_t)s.d_value * sizeof(float),
                      stream, from, s);
}
