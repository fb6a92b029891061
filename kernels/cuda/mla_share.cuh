/* kernels/cuda/mla_share.cuh - which block of threads computes which splits of absorbed attention (mla.cuh),
 * and their partial results. Owns: the schedule, parts in memory, their merge. Not here: a split.
 *
 * Items are splits in the order (row, group of 16 heads, split); each block takes an equal run of them, so a
 * grid that fills the chip serves one long row and many short ones. Lengths are read on the device: the grid
 * does not depend on them. What a block has of a row from split 0 on it merges into one part; later splits
 * are parts of their own, because splits are merged from left to right (kernels/ops.h). Where there are more
 * items than parts rows are not cut, and each block has one part. */
#ifndef PHX_KERNELS_CUDA_MLA_SHARE_CUH
#define PHX_KERNELS_CUDA_MLA_SHARE_CUH

#include "kernels/cuda/mla.cuh"

#define MLA_MERGE_THREADS 128
#define MLA_MERGE_COLS    (MLA_LATENT_MAX / MLA_MERGE_THREADS) /* of a thread */

/* Parts in memory: where rows are cut item i has part i, else block i. */
typedef struct mla_parts {
    float *o;      /* [n][MLA_HEADS][d_latent] not divided */
    float *state;  /* [n][MLA_HEADS][max, sum] */
    int32_t *rows; /* [n_rows][groups][part of split 0, splits merged into it] */
    int64_t n;
} mla_parts;

PHX_HOST_DEVICE static inline int64_t mla_groups(const phx_attention_args &a)
{
    return (a.n_heads + MLA_HEADS - 1) / MLA_HEADS;
}

/* n 0: too few for anything. */
static inline mla_parts mla_parts_of(const phx_attention_args &a)
{
    const int64_t n_rows = 2 * a.n_rows * mla_groups(a);
    const int64_t n = (a.n_parts - n_rows) / PHX_ATTENTION_PART_FLOATS(a.d_latent);
    mla_parts parts = {};
    if (!a.parts || (uintptr_t)a.parts % 16 != 0 || n <= 0)
        return parts;
    parts.o = a.parts;
    parts.state = parts.o + n * MLA_HEADS * a.d_latent;
    parts.rows = (int32_t *)(parts.state + n * MLA_HEADS * 2);
    parts.n = n;
    return parts;
}

/* Items, rows and parts are counted in 32 bits, because registers are short here. */
PHX_DEVICE int32_t mla_splits(const phx_attention_args &a, int32_t r)
{
    return (a.n_positions[r] + PHX_ATTENTION_SPLIT - 1) / PHX_ATTENTION_SPLIT;
}

/* Where a block stands. In cut rows item and end count items; else rows times groups. */
typedef struct mla_walk {
    bool is_cut;
    int32_t n_groups;
    int32_t item;
    int32_t end;
    int32_t row;
    int32_t row_first; /* item of the row's first split */
} mla_walk;

/* Splits [first, end) of n of a group of heads of a row. */
typedef struct mla_segment {
    int32_t row;
    int32_t group;
    int32_t first;
    int32_t end;
    int32_t n;
    int32_t part; /* of split 0 */
} mla_segment;

/* The items of each thread's rows, added up over the block: sums has MLA_WARPS + 2 elements. */
PHX_DEVICE mla_walk mla_begin(const phx_attention_args &a, int64_t n_parts, phx_shared<int32_t> sums)
{
    const int32_t n_groups = (int32_t)mla_groups(a);
    const int32_t n_rows = (int32_t)a.n_rows;
    const int32_t block = (int32_t)blockIdx.x;
    const int32_t n_blocks = (int32_t)gridDim.x;
    mla_walk walk = {false, n_groups, block, n_rows * n_groups, 0, 0};
    const int32_t rows = (n_rows + MLA_THREADS - 1) / MLA_THREADS;
    const int32_t first = (int32_t)threadIdx.x * rows;
    const int32_t last = first + rows < n_rows ? first + rows : n_rows;
    int32_t mine = 0;
    for (int32_t r = first; r < last; r++)
        mine += mla_splits(a, r) * n_groups;
    int32_t before = mine; /* of the warp's threads up to this one */
    for (int step = 1; step < PHX_WARP; step *= 2) {
        const int32_t other = phx_shfl_up(before, step);
        before += phx_lane() >= step ? other : 0;
    }
    if (phx_lane() == PHX_WARP - 1)
        sums[phx_warp()] = before;
    before -= mine;
    __syncthreads();
    int32_t n_items = 0;
    for (int warp = 0; warp < MLA_WARPS; warp++) {
        before += warp < phx_warp() ? sums[warp] : 0;
        n_items += sums[warp];
    }
    if (n_items > n_parts)
        return walk;
    walk.is_cut = true;
    walk.item = (int32_t)((int64_t)n_items * block / n_blocks);
    walk.end = (int32_t)((int64_t)n_items * (block + 1) / n_blocks);
    if (before <= walk.item && walk.item < before + mine) {
        int32_t r = first;
        for (int32_t n = mla_splits(a, r) * n_groups; before + n <= walk.item;
             n = mla_splits(a, r) * n_groups) {
            before += n;
            r++;
        }
        sums[MLA_WARPS] = r;
        sums[MLA_WARPS + 1] = before;
    }
    __syncthreads();
    if (walk.item < walk.end) {
        walk.row = sums[MLA_WARPS];
        walk.row_first = sums[MLA_WARPS + 1];
    }
    return walk;
}

/* The next segment of this block; false when there is none. All threads agree. */
PHX_DEVICE bool mla_next(const phx_attention_args &a, mla_walk &walk, mla_segment &ret_segment)
{
    if (walk.item >= walk.end)
        return false;
    if (!walk.is_cut) {
        const int32_t row = walk.item / walk.n_groups;
        const int32_t n = mla_splits(a, row);
        ret_segment = {row, walk.item % walk.n_groups, 0, n, n, (int32_t)blockIdx.x};
        walk.item += (int32_t)gridDim.x;
        return true;
    }
    int32_t n = mla_splits(a, walk.row);
    while (walk.row_first + n * walk.n_groups <= walk.item) {
        walk.row_first += n * walk.n_groups;
        n = mla_splits(a, ++walk.row);
    }
    const int32_t group = (walk.item - walk.row_first) / n;
    const int32_t zero = walk.row_first + group * n;
    const int32_t end = zero + n < walk.end ? zero + n : walk.end;
    ret_segment = {walk.row, group, walk.item - zero, end - zero, n, zero};
    walk.item = end;
    return true;
}

/* Where this thread's two sums of row half i % 2 and tile of columns i / 2 lie. */
PHX_DEVICE phx_8 *mla_part_at(const mla_parts &parts, int64_t part, int n_cols, int i)
{
    const int64_t d = n_cols * MLA_WARPS * 8;
    const int64_t head = part * MLA_HEADS + phx_lane() / 4 + i % 2 * 8;
    return (phx_8 *)(parts.o + head * d + (phx_warp() * n_cols + i / 2) * 8 + phx_lane() % 4 * 2);
}

PHX_DEVICE void mla_store_sums(const mla_parts &parts, int64_t part, int n_cols, const float o[MLA_COLS][4])
{
    PHX_UNROLL
    for (int i = 0; i < MLA_COLS * 2; i++) {
        const phx_8 two = {{phx_bits_of_f32(o[i / 2][i % 2 * 2]), phx_bits_of_f32(o[i / 2][i % 2 * 2 + 1])}};
        if (i / 2 < n_cols)
            *mla_part_at(parts, part, n_cols, i) = two;
    }
}

/* By the sixteen threads of each head. */
PHX_DEVICE void mla_store_state(const mla_parts &parts, int64_t part, const mla_state &state)
{
    if (threadIdx.x % 16 == 0) {
        float *mine = parts.state + (part * MLA_HEADS + threadIdx.x / 16) * 2;
        mine[0] = state.max;
        mine[1] = state.sum;
    }
}

/* o = part * keep + o * take; each thread has written what it reads. The first split meets zeros. */
PHX_DEVICE void mla_merge(const mla_parts &parts, int64_t part, bool is_first, int n_cols,
                          const mla_shared &s, float o[MLA_COLS][4])
{
    PHX_UNROLL
    for (int i = 0; i < MLA_COLS * 2; i++) {
        const int64_t h = phx_lane() / 4 + i % 2 * 8;
        phx_8 two = {{0, 0}};
        if (!is_first && i / 2 < n_cols)
            two = *mla_part_at(parts, part, n_cols, i);
        for (int k = 0; k < 2; k++) {
            float &mine = o[i / 2][i % 2 * 2 + k];
            mine = fmaf(mine, s.factors[MLA_HEADS + h], phx_f32_of_bits(two.word[k]) * s.factors[h]);
        }
    }
}

/* The factors of n parts of one head, the next at distance MLA_HEADS, that come after `state`, whose maximum
 * becomes that of all; the caller adds the sums. n <= MLA_MERGE_THREADS. */
PHX_DEVICE void mla_merge_factors(const mla_parts &parts, int64_t head, int64_t n, mla_state &state,
                                  phx_shared<float> factors, phx_shared<float> maxima)
{
    const float *mine = parts.state + (head + (int64_t)threadIdx.x * MLA_HEADS) * 2;
    if (threadIdx.x < n) {
        maxima[threadIdx.x] = mine[0];
        factors[2 * MLA_MERGE_THREADS + threadIdx.x] = mine[1];
    }
    if (!PHX_PLANT(42))
        __syncthreads();
    mla_state before = state; /* of what comes before my part */
    float max = state.max;
    for (int64_t k = 0; k < n; k++) {
        max = maxima[k] > max ? maxima[k] : max;
        if (k + 1 == (int64_t)threadIdx.x)
            before.max = max;
    }
    if (threadIdx.x < n) {
        const float own = maxima[threadIdx.x];
        const float both = own > before.max ? own : before.max;
        factors[threadIdx.x] = mla_keep(before, both);
        factors[MLA_MERGE_THREADS + threadIdx.x] = phx_expf(own - both);
    }
    state.max = max;
    __syncthreads();
}

/* Head h of row r. */
PHX_DEVICE void mla_store_lse(const phx_attention_args &a, int64_t r, int64_t h, const mla_state &state)
{
    if (a.lse)
        a.lse[r * a.n_heads + h] =
            state.sum > 0.0f ? state.max + (PHX_PLANT(43) ? state.sum : phx_logf(state.sum)) : -INFINITY;
}

#endif
