/* kernels/cuda/mla.cuh - absorbed attention over a bf16 cache by mma: a block of threads owns 16 heads of a
 * row, whatever the number of heads, and reads each cache entry once for all of them. Owns: that kernel's
 * parts. Not here: other shapes and dtypes, the launch (attention.cu).
 *
 * Splits of PHX_ATTENTION_SPLIT positions, each from its own start, merged from left to right. Inside a split
 * tiles of MLA_KEYS positions: scores by mma in two halves of the width, added; weights relative to the
 * largest score so far; values by mma. Queries and weights are f32 as three bf16 pieces. Rows of shared
 * memory are in chunks of 16 bytes, moved so that any eight neighbouring rows lie in different banks. */
#ifndef PHX_KERNELS_CUDA_MLA_CUH
#define PHX_KERNELS_CUDA_MLA_CUH

#include "kernels/cuda/blockdot.cuh"

#define MLA_HEADS      16
#define MLA_KEYS       32 /* positions of a tile */
#define MLA_THREADS    256
#define MLA_WARPS      8
#define MLA_PIECES     3
#define MLA_LATENT_MAX 512
#define MLA_WIDTH_MAX  576
#define MLA_COLS       (MLA_LATENT_MAX / MLA_WARPS / 8) /* tiles of 8 columns of a warp, at most */

typedef struct mla_shared {
    phx_shared<uint8_t> q;     /* [MLA_PIECES][MLA_HEADS][width] bf16 */
    phx_shared<uint8_t> keys;  /* [MLA_KEYS][width] bf16 */
    phx_shared<float> scores;  /* [2][MLA_HEADS][MLA_KEYS] */
    phx_shared<float> weights; /* [MLA_HEADS][MLA_KEYS] */
    phx_shared<float> factors; /* [3][MLA_HEADS]: of what was summed before, of what comes; sum of both */
    phx_shared<int64_t> entry; /* [MLA_KEYS] first byte in the cache */
} mla_shared;

/* Of one head, equal in the 16 threads that share it. */
typedef struct mla_state {
    float max;
    float sum;
} mla_state;

/* Byte offset of chunk `chunk` of row `row`. */
PHX_DEVICE int mla_at(int row, int chunk, int width)
{
    const int moved = chunk ^ (row % 2 * 4 + row / 2 % 4);
    return row * width * 2 + moved * 16;
}

/* The pieces of 16 heads; those past the last are zeros. */
PHX_DEVICE void mla_put_queries(const float *q, int64_t n_heads, int width, const mla_shared &s)
{
    for (int i = (int)threadIdx.x; i < MLA_HEADS * width / 2; i += MLA_THREADS) {
        const int h = i / (width / 2);
        const int c = i % (width / 2) * 2;
        uint32_t pairs[MLA_PIECES] = {0, 0, 0};
        if (h < n_heads)
            phx_cut_pair<MLA_PIECES>(q[h * width + c], q[h * width + c + 1], pairs);
        for (int p = 0; p < MLA_PIECES; p++) {
            const int at = p * MLA_HEADS * width * 2 + mla_at(h, c / 8, width) + c % 8 * 2;
            *(uint32_t *)&s.q[at] = pairs[p];
        }
    }
}

/* Copies the tile's entries; s.entry is set. */
PHX_DEVICE void mla_copy_keys(const uint8_t *cache, int width, const mla_shared &s)
{
    const int chunks = width / 8;
    for (int i = (int)threadIdx.x; i < MLA_KEYS * chunks; i += MLA_THREADS) {
        const int row = i / chunks;
        phx_copy16_async(s.keys, mla_at(row, i % chunks, width), cache + s.entry[row] + i % chunks * 16);
    }
    phx_copy_commit();
    phx_copy_wait<0>();
}

/* The same from the fp8 form (kernels/cache.h): sixteen codes become two chunks; a code times its scale is
 * exactly a bf16 number. */
PHX_DEVICE void mla_widen_keys(const phx_cache &cache, const mla_shared &s)
{
    const int width = (int)cache.width;
    const int runs = (int)cache.d_latent / 16;
    const int rest = (width - (int)cache.d_latent) / 8;
    for (int i = (int)threadIdx.x; i < MLA_KEYS * rest; i += MLA_THREADS) {
        const uint8_t *from = (const uint8_t *)cache.data + s.entry[i / rest] + phx_cache_rest_at(&cache);
        phx_copy16_async(s.keys, mla_at(i / rest, runs * 2 + i % rest, width), from + i % rest * 16);
    }
    phx_copy_commit();
    for (int i = (int)threadIdx.x; i < MLA_KEYS * runs; i += MLA_THREADS) {
        const int row = i / runs;
        const int run = i % runs;
        const uint8_t *from = (const uint8_t *)cache.data + s.entry[row];
        const phx_16 raw = phx_load16_stream(from + run * 16);
        const float *scales = (const float *)(from + phx_cache_scales_at(&cache));
        const int group = run * 16 / PHX_CACHE_GROUP;
        const uint16_t scale = phx_f32_to_bf16(scales[PHX_PLANT(61) ? 0 : group]);
        for (int four = 0; four < 4; four++) {
            uint32_t pairs[2][1];
            phx_weights<PHX_FORMAT_FP8_BLOCK>::step(raw, four, pairs);
            const int at = mla_at(row, run * 2 + four / 2, width) + four % 2 * 8;
            for (int k = 0; k < 2; k++)
                *(uint32_t *)&s.keys[at + 4 * k] = phx_mul_bf16x2(pairs[k][0], phx_pair(scale, scale));
        }
    }
    phx_copy_wait<0>();
}

/* Warp: 8 positions, half of the width. */
PHX_DEVICE void mla_scores(int width, const mla_shared &s)
{
    const int lane = (int)phx_lane();
    const int lane_row = lane / 4;
    const int key = (int)phx_warp() % 4 * 8;
    const int half = (int)phx_warp() / 4;
    float d[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int g = half * (width / 64); g < (half + 1) * (width / 64); g++) {
        const int chunk = g * 4 + lane % 4;
        phx_16 q[MLA_PIECES][2];
        for (int i = 0; i < 2 * MLA_PIECES; i++)
            q[i / 2][i % 2] = phx_load16_shared(s.q, i / 2 * MLA_HEADS * width * 2 +
                                                         mla_at(lane_row + i % 2 * 8, chunk, width));
        const phx_16 k = phx_load16_shared(s.keys, mla_at(key + lane_row, chunk, width));
        PHX_UNROLL
        for (int step = 0; step < 2; step++) {
            const uint32_t b[2] = {k.word[2 * step], k.word[2 * step + 1]};
            PHX_UNROLL
            for (int p = MLA_PIECES - 1; p >= 0; p--) {
                const uint32_t a[4] = {q[p][0].word[2 * step], q[p][1].word[2 * step],
                                       q[p][0].word[2 * step + 1], q[p][1].word[2 * step + 1]};
                phx_mma_bf16(d, a, b);
            }
        }
    }
    for (int i = 0; i < 4; i++) {
        const int h = half * MLA_HEADS + lane_row + i / 2 * 8;
        s.scores[h * MLA_KEYS + key + lane % 4 * 2 + i % 2] = d[i];
    }
}

/* Sixteen threads per head, two positions each: scores to weights, of n positions that are there. */
PHX_DEVICE void mla_weights(int n, float scale, mla_state &state, const mla_shared &s)
{
    const int h = (int)threadIdx.x / 16;
    float x[2];
    float max = state.max;
    for (int i = 0; i < 2; i++) {
        const int key = (int)threadIdx.x % 16 + 16 * i;
        const int at = h * MLA_KEYS + key;
        x[i] = key < n ? (s.scores[at] + s.scores[MLA_HEADS * MLA_KEYS + at]) * scale : -INFINITY;
        max = x[i] > max ? x[i] : max;
    }
    for (int mask = 8; mask > 0; mask /= 2) {
        const float other = phx_shfl_xor(max, mask);
        max = other > max ? other : max;
    }
    float sum = 0.0f;
    for (int i = 0; i < 2; i++) {
        x[i] = phx_expf(x[i] - max);
        s.weights[h * MLA_KEYS + threadIdx.x % 16 + 16 * i] = x[i];
        sum += x[i];
    }
    for (int mask = 8; mask > 0; mask /= 2)
        sum += phx_shfl_xor(sum, mask);
    const float keep = state.sum > 0.0f ? phx_expf(state.max - max) : 0.0f;
    if (threadIdx.x % 16 == 0)
        s.factors[h] = keep;
    state.sum = fmaf(state.sum, keep, sum);
    state.max = max;
}

/* Warp: an eighth of the latent columns, `n_cols` tiles of 8: o = o * keep + weights * values. */
PHX_DEVICE void mla_values(int width, int n_cols, const mla_shared &s, float o[MLA_COLS][4])
{
    const int lane = (int)phx_lane();
    for (int i = 0; i < MLA_COLS * 4; i++)
        o[i / 4][i % 4] *= s.factors[lane / 4 + i % 4 / 2 * 8];
    PHX_UNROLL
    for (int step = 0; step < MLA_KEYS / 16; step++) {
        uint32_t pairs[4][MLA_PIECES]; /* by fragment of operand a */
        for (int i = 0; i < 4; i++) {
            const int at = (lane / 4 + i % 2 * 8) * MLA_KEYS + step * 16 + i / 2 * 8 + lane % 4 * 2;
            phx_cut_pair<MLA_PIECES>(s.weights[at], s.weights[at + 1], pairs[i]);
        }
        PHX_UNROLL
        for (int two = 0; two < MLA_COLS; two += 2) {
            if (two >= n_cols)
                continue;
            const int row = step * 16 + lane % 16;
            const int chunk = (int)phx_warp() * n_cols + two + lane / 16;
            uint32_t b[4];
            phx_load_matrices_trans(s.keys, mla_at(row, chunk, width), b);
            PHX_UNROLL
            for (int p = MLA_PIECES - 1; p >= 0; p--) {
                const uint32_t a[4] = {pairs[0][p], pairs[1][p], pairs[2][p], pairs[3][p]};
                phx_mma_bf16(o[two], a, b);
                phx_mma_bf16(o[two + 1], a, b + 2);
            }
        }
    }
}

/* The factors of a merge of what came before with one more split. */
PHX_DEVICE float mla_keep(const mla_state &all, float max)
{
    return all.sum > 0.0f ? phx_expf(all.max - max) : 0.0f;
}

PHX_DEVICE void mla_merge_state(const mla_state &split, mla_state &all, const mla_shared &s)
{
    const float max = all.max > split.max ? all.max : split.max;
    const float keep = mla_keep(all, max);
    const float take = phx_expf(split.max - max);
    if (threadIdx.x % 16 == 0) {
        s.factors[threadIdx.x / 16] = PHX_PLANT(21) ? 1.0f : keep;
        s.factors[MLA_HEADS + threadIdx.x / 16] = take;
    }
    all.sum = fmaf(split.sum, take, all.sum * keep);
    all.max = max;
    if (threadIdx.x % 16 == 0)
        s.factors[2 * MLA_HEADS + threadIdx.x / 16] = all.sum;
}

#endif
