/* kernels/cuda/expanded.cuh - expanded attention of many rows by mma, where its operands may be rounded to
 * bf16. A block of threads owns EXP_ROWS rows of a head, a warp 16 of them, and walks over tiles of EXP_KEYS
 * keys: scores by mma, weights relative to the largest score so far, values by mma; the scores stay in
 * registers, as they are operand a of the second product. Keys and values are rounded once, before; copies of
 * the values run under the scores, those of the next keys under weights and values. A row looks at keys from
 * the first on, so its bits do not depend on its neighbours. Owns: these kernels and their launch. Not here:
 * other shapes, f32 (attention.cu). */
#ifndef PHX_KERNELS_CUDA_EXPANDED_CUH
#define PHX_KERNELS_CUDA_EXPANDED_CUH

#include "kernels/cuda/blockdot.cuh"

#define EXP_ROWS    64
#define EXP_KEYS    64
#define EXP_THREADS 128
#define EXP_MAX     256 /* columns of a key, and of a value */
#define EXP_UNIT    64  /* both are filled up with zeros to a multiple of it */

/* Keys and values of heads [head, head + n_heads), rounded. */
typedef struct exp_operands {
    uint16_t *keys;   /* [n_keys_max][n_heads][width] */
    uint16_t *values; /* [n_keys_max][n_heads][d] */
    int64_t head;
    int64_t n_heads;
    int width; /* of keys and queries, in units */
    int d;
} exp_operands;

typedef struct exp_shared {
    phx_shared<uint8_t> q;      /* [EXP_ROWS][width] */
    phx_shared<uint8_t> keys;   /* [EXP_KEYS][width] */
    phx_shared<uint8_t> values; /* [EXP_KEYS][d] */
} exp_shared;

/* Of the two rows of a thread, equal in the four threads that share them. */
typedef struct exp_state {
    int n_keys[2];
    float max[2];
    float sum[2];
} exp_state;

static inline int exp_units(int64_t n)
{
    return (int)((n + EXP_UNIT - 1) / EXP_UNIT * EXP_UNIT);
}

/* Byte offset of a chunk of 8 columns in rows of `width`: any eight neighbouring rows lie in other banks. */
PHX_DEVICE int exp_at(int row, int chunk, int width)
{
    return row * width * 2 + (chunk ^ row % 8) * 16;
}

/* Columns [c, c + 8) of a query or key as bf16: first what each head has, then what is rotary, then zeros. */
PHX_DEVICE phx_16 exp_chunk(const float *own, const float *rotary, int64_t c, int64_t n_own, int64_t n)
{
    phx_16 chunk = {{0, 0, 0, 0}};
    const float *from = c < n_own ? own + c : rotary + (c - n_own);
    for (int i = 0; i < 4 && c < n; i++)
        chunk.word[i] = phx_round_bf16x2(from[2 * i], from[2 * i + 1]);
    return chunk;
}

/* A thread per chunk of 8 columns of a key or value. */
static __global__ void expanded_round(const phx_attention_expanded_args a, const exp_operands o)
{
    const int64_t chunks = (o.width + o.d) / 8;
    const int64_t i = phx_thread_of_grid();
    const int64_t row = i / chunks; /* of keys, by key and head */
    const int64_t key = row / o.n_heads;
    const int64_t c = i % chunks * 8;
    if (key >= a.n_keys_max)
        return;
    const float *kv = a.kv + (key * a.n_heads + o.head + row % o.n_heads) * (a.d_nope + a.d_v);
    if (c < o.width)
        *(phx_16 *)(o.keys + row * o.width + c) =
            exp_chunk(kv, a.k_rope + key * a.d_rope, c, a.d_nope, a.d_nope + a.d_rope);
    else
        *(phx_16 *)(o.values + row * o.d + c - o.width) =
            exp_chunk(kv + a.d_nope, NULL, c - o.width, a.d_v, a.d_v);
}

PHX_DEVICE void exp_put_queries(const phx_attention_expanded_args &a, const exp_operands &o, int64_t first,
                                int64_t h, const exp_shared &s)
{
    const int64_t d = a.d_nope + a.d_rope;
    for (int i = (int)threadIdx.x; i < EXP_ROWS * o.width / 8; i += EXP_THREADS) {
        const int row = i / (o.width / 8);
        const int chunk = i % (o.width / 8);
        const int64_t r = first + row < a.n_rows ? first + row : a.n_rows - 1;
        const float *q = a.q + (r * a.n_heads + h) * d;
        *(phx_16 *)&s.q[exp_at(row, chunk, o.width)] = exp_chunk(q, q + a.d_nope, chunk * 8, a.d_nope, d);
    }
}

/* Starts the copy of a tile; rows past the last are that one, and count nothing. */
PHX_DEVICE void exp_copy(const uint16_t *from, int64_t stride, int width, int first, int n,
                         phx_shared<uint8_t> to)
{
    for (int i = (int)threadIdx.x; i < EXP_KEYS * width / 8; i += EXP_THREADS) {
        const int row = i / (width / 8);
        const int chunk = i % (width / 8);
        const int64_t key = first + row < n ? first + row : n - 1;
        phx_copy16_async(to, exp_at(row, chunk, width), from + key * stride + chunk * 8);
    }
    phx_copy_commit();
}

/* Scores of 16 rows of the warp with the tile's keys, in tiles of 8 keys. */
PHX_DEVICE void exp_scores(int width, const exp_shared &s, float d[EXP_KEYS / 8][4])
{
    const int row = (int)phx_warp() * 16 + (int)phx_lane() / 4;
    for (int i = 0; i < EXP_KEYS / 8 * 4; i++)
        d[i / 4][i % 4] = 0.0f;
    for (int g = 0; g < width / 32; g++) {
        const int chunk = g * 4 + (int)phx_lane() % 4;
        const phx_16 low = phx_load16_shared(s.q, exp_at(row, chunk, width));
        const phx_16 high = phx_load16_shared(s.q, exp_at(row + 8, chunk, width));
        PHX_UNROLL
        for (int t = 0; t < EXP_KEYS / 8; t++) {
            const phx_16 k = phx_load16_shared(s.keys, exp_at(t * 8 + (int)phx_lane() / 4, chunk, width));
            PHX_UNROLL
            for (int step = 0; step < 2; step++) {
                const uint32_t a[4] = {low.word[2 * step], high.word[2 * step], low.word[2 * step + 1],
                                       high.word[2 * step + 1]};
                phx_mma_bf16(d[t], a, &k.word[2 * step]);
            }
        }
    }
}

/* Scores of keys from `first` on become weights, as bf16 pairs; returns in keep what earlier sums are worth.
 */
PHX_DEVICE void exp_weights(int first, float scale, exp_state &state, float d[EXP_KEYS / 8][4],
                            uint32_t pairs[EXP_KEYS / 8][2], float keep[2])
{
    float max[2] = {state.max[0], state.max[1]};
    PHX_UNROLL
    for (int i = 0; i < EXP_KEYS / 8 * 4; i++) {
        const int key = first + i / 4 * 8 + (int)phx_lane() % 4 * 2 + i % 2;
        const int half = i % 4 / 2;
        const bool is_there = key < state.n_keys[half] + (PHX_PLANT(83) ? 1 : 0);
        d[i / 4][i % 4] = is_there ? d[i / 4][i % 4] * scale : -INFINITY;
        max[half] = d[i / 4][i % 4] > max[half] ? d[i / 4][i % 4] : max[half];
    }
    PHX_UNROLL
    for (int half = 0; half < 2; half++) {
        for (int mask = 1; mask <= 2; mask *= 2) {
            const float other = phx_shfl_xor(max[half], mask);
            max[half] = other > max[half] ? other : max[half];
        }
        const float base = max[half] > -INFINITY ? max[half] : 0.0f; /* no key yet: all weights are 0 */
        keep[half] = PHX_PLANT(84) ? 1.0f : phx_exp2_near(state.max[half] - base);
        float sum = 0.0f;
        PHX_UNROLL
        for (int t = 0; t < EXP_KEYS / 8; t++) {
            const float low = phx_exp2_near(d[t][2 * half] - base);
            const float high = phx_exp2_near(d[t][2 * half + 1] - base);
            sum += low + high;
            pairs[t][half] = phx_round_bf16x2(low, high);
        }
        for (int mask = 1; mask <= 2; mask *= 2)
            sum += phx_shfl_xor(sum, mask);
        state.sum[half] = fmaf(state.sum[half], keep[half], sum);
        state.max[half] = max[half];
    }
}

/* o = o * keep + weights * values, in tiles of 8 columns. */
template <int COLS>
PHX_DEVICE void exp_values(int d, const exp_shared &s, const uint32_t pairs[EXP_KEYS / 8][2],
                           const float keep[2], float o[COLS][4])
{
    PHX_UNROLL
    for (int i = 0; i < COLS * 4; i++)
        o[i / 4][i % 4] *= keep[i % 4 / 2];
    PHX_UNROLL
    for (int step = 0; step < EXP_KEYS / 16; step++) {
        const uint32_t a[4] = {pairs[2 * step][0], pairs[2 * step][1], pairs[2 * step + 1][0],
                               pairs[2 * step + 1][1]};
        const int row = step * 16 + (int)phx_lane() % 16;
        PHX_UNROLL
        for (int two = 0; two < COLS; two += 2) {
            if (two * 8 >= d)
                continue;
            uint32_t b[4];
            phx_load_matrices_trans(s.values, exp_at(row, two + (int)phx_lane() / 16, d), b);
            phx_mma_bf16(o[two], a, b);
            phx_mma_bf16(o[two + 1], a, b + 2);
        }
    }
}

template <int COLS>
PHX_DEVICE void exp_store(const phx_attention_expanded_args &a, int64_t first, int64_t h,
                          const exp_state &state, const float o[COLS][4])
{
    PHX_UNROLL
    for (int i = 0; i < COLS * 4; i++) {
        const int half = i % 4 / 2;
        const int64_t r = first + phx_warp() * 16 + phx_lane() / 4 + half * 8;
        const int64_t c = i / 4 * 8 + phx_lane() % 4 * 2 + i % 2;
        if (r < a.n_rows && c < a.d_v)
            phx_store(a.out.data, a.out.dtype, r * a.out.stride + h * a.d_v + c,
                      state.sum[half] > 0.0f ? o[i / 4][i % 4] / state.sum[half] : 0.0f);
    }
}

/* Of the row that has most; every thread gets it. */
PHX_DEVICE int exp_most_keys(const phx_attention_expanded_args &a, int64_t first)
{
    int32_t n = 0;
    for (int64_t r = first + phx_lane(); r < first + EXP_ROWS && r < a.n_rows; r += PHX_WARP)
        n = a.n_keys[r] > n ? a.n_keys[r] : n;
    for (int mask = PHX_WARP / 2; mask > 0; mask /= 2) {
        const int32_t other = phx_shfl_xor(n, mask);
        n = other > n ? other : n;
    }
    return n;
}

/* Grid: rows by EXP_ROWS, the last first, as they have most keys; heads. Dynamic: exp_shared. */
template <int COLS>
static __global__ void __launch_bounds__(EXP_THREADS)
    expanded_tile(const phx_attention_expanded_args a, const exp_operands operands)
{
    const int width = operands.width;
    const int d = operands.d;
    PHX_SHARED_DYNAMIC(uint8_t, shared, (2 * EXP_ROWS * width + EXP_KEYS * d) * 2);
    const exp_shared s = {shared, shared + EXP_ROWS * width * 2, shared + (EXP_ROWS + EXP_KEYS) * width * 2};
    const int64_t first = (int64_t)(gridDim.x - 1 - blockIdx.x) * EXP_ROWS;
    const int64_t h = operands.head + blockIdx.y;
    const uint16_t *keys = operands.keys + (int64_t)blockIdx.y * width;
    const uint16_t *values = operands.values + (int64_t)blockIdx.y * d;
    const int64_t key_stride = operands.n_heads * width;
    const int64_t value_stride = operands.n_heads * d;
    exp_state state = {{0, 0}, {-INFINITY, -INFINITY}, {0.0f, 0.0f}};
    const int n = exp_most_keys(a, first);
    for (int half = 0; half < 2; half++) {
        const int64_t r = first + phx_warp() * 16 + phx_lane() / 4 + half * 8;
        state.n_keys[half] = r < a.n_rows ? a.n_keys[r] : 0;
    }
    const float scale = a.scale * 1.44269504f; /* powers of 2 instead of e */
    float o[COLS][4] = {};
    if (n > 0)
        exp_copy(keys, key_stride, width, 0, n, s.keys);
    exp_put_queries(a, operands, first, h, s);
    for (int tile = 0; tile < n; tile += EXP_KEYS) {
        float scores[EXP_KEYS / 8][4];
        uint32_t pairs[EXP_KEYS / 8][2];
        float keep[2];
        phx_copy_wait<0>();
        __syncthreads(); /* the keys are there; the values before these are read */
        exp_copy(values, value_stride, d, tile, n, s.values);
        exp_scores(width, s, scores);
        phx_copy_wait<0>();
        if (!PHX_PLANT(85))
            __syncthreads(); /* the values are there; the keys are read */
        if (tile + EXP_KEYS < n)
            exp_copy(keys, key_stride, width, tile + EXP_KEYS, n, s.keys);
        exp_weights(tile, scale, state, scores, pairs, keep);
        exp_values<COLS>(d, s, pairs, keep, o);
    }
    exp_store<COLS>(a, first, h, state, o);
}

/* ---- the host ---- */

/* Heads for which args->parts has room; 0 where the kernel does not fit the call. */
static inline int64_t expanded_heads(const phx_attention_expanded_args *args)
{
    const int64_t width = exp_units(args->d_nope + args->d_rope);
    const int64_t d = exp_units(args->d_v);
    if (!args->rounded || !args->parts || (uintptr_t)args->parts % 16 != 0 || args->n_keys_max <= 0 ||
        (args->d_nope | args->d_rope | args->d_v) % 8 != 0 || width > EXP_MAX || d > EXP_MAX)
        return 0;
    const int64_t n = args->n_parts * 2 / (args->n_keys_max * (width + d));
    return n < args->n_heads ? n : args->n_heads;
}

template <int COLS>
static cudaError_t expanded_tile_launch(cudaStream_t stream, const phx_attention_expanded_args &args,
                                        const exp_operands &o)
{
    const size_t bytes = (size_t)(2 * EXP_ROWS * o.width + EXP_KEYS * o.d) * 2;
    const dim3 grid(phx_grid(args.n_rows, EXP_ROWS), (unsigned)o.n_heads);
    const cudaError_t err = PHX_ALLOW_SHARED(expanded_tile<COLS>, bytes);
    if (err != cudaSuccess)
        return err;
    return PHX_LAUNCH(expanded_tile<COLS>, grid, EXP_THREADS, bytes, stream, args, o);
}

/* n_heads heads at a time, as expanded_heads says. */
static inline cudaError_t expanded_launch(cudaStream_t stream, const phx_attention_expanded_args &args,
                                          int64_t n_heads)
{
    const int width = exp_units(args.d_nope + args.d_rope);
    const int d = exp_units(args.d_v);
    cudaError_t err = cudaSuccess;
    for (int64_t h = 0; err == cudaSuccess && h < args.n_heads; h += n_heads) {
        exp_operands o = {(uint16_t *)args.parts, NULL, h, args.n_heads - h, width, d};
        if (o.n_heads > n_heads)
            o.n_heads = n_heads;
        o.values = o.keys + args.n_keys_max * o.n_heads * width;
        const int64_t n_chunks = args.n_keys_max * o.n_heads * ((width + d) / 8);
        err = PHX_LAUNCH(expanded_round, phx_grid(n_chunks, EXP_THREADS), EXP_THREADS, 0, stream, args, o);
        if (err == cudaSuccess)
            err = d <= 128 ? expanded_tile_launch<16>(stream, args, o)
                           : expanded_tile_launch<32>(stream, args, o);
    }
    return err;
}

#endif
