/* kernels/cuda/leaf_tile.cuh - leaf_sum of many tokens: a block of threads owns PHX_TILE_W outputs of a run
 * of tokens, and walks over the leaves, in each over the experts, ascending, and last over the fixed matrix.
 * The entries of an expert pass in tiles (tile.cuh), so its weights are read once for all tokens of the run;
 * a dot is added to the sum of its token in memory at once. Blocks of columns, sources and leaves come in the
 * order of leaf.cu, so the bits are the same. Owns: that walk, sums that wait for their neighbours in the
 * tree, and when it pays. */
#ifndef PHX_KERNELS_CUDA_LEAF_TILE_CUH
#define PHX_KERNELS_CUDA_LEAF_TILE_CUH

#include "kernels/cuda/tile.cuh"

#define LEAF_MANY_TOKENS  64
#define LEAF_MANY_ENTRIES 8   /* of a matrix, on average */
#define LEAF_RUN          128 /* tokens of a block, at least where there are so many */
#define LEAF_BATCH        128 /* experts whose entries are looked up at a time */
#define LEAF_TILE_WARPS   (PHX_TILE_THREADS / PHX_WARP)

/* Tokens of a launch, and how many of them a block takes. */
typedef struct leaf_run {
    int64_t first;
    int64_t end;
    int64_t step;
} leaf_run;

/* Sums of a block's tokens and outputs on one level of the tree. */
typedef struct leaf_sums {
    float *data; /* of the first token: [n_tokens][n_out] */
    int64_t first;
    int64_t n_tokens;
    int64_t n; /* first output */
    int64_t n_out;
} leaf_sums;

/* Columns [col, col_end) of a source, and its entries for the block. */
typedef struct leaf_source {
    const phx_matrix *w;
    const phx_activation *h;
    const int32_t *token; /* of each entry, or NULL: its own number */
    const float *weight;  /* or NULL: 1 */
    int64_t first;
    int64_t end;
    int64_t col;
    int64_t col_end;
} leaf_source;

typedef struct leaf_tile_shared {
    phx_shared<uint8_t> stages;
    phx_shared<int32_t> first; /* [LEAF_BATCH] entries of an expert */
    phx_shared<int32_t> end;
    phx_shared<int32_t> token; /* [PHX_TILE_X] of each entry of a tile, counted from the block's first */
    phx_shared<float> weight;  /* [PHX_TILE_X] */
} leaf_tile_shared;

/* The first entry of [first, end) whose token is at least t; end if there is none. */
PHX_DEVICE int64_t find_token(const phx_expert_rows &rows, int64_t first, int64_t end, int64_t t)
{
    while (first < end) {
        const int64_t middle = (first + end) / 2;
        const int64_t token = rows.token ? rows.token[middle] : middle;
        if (token < t + (PHX_PLANT(10) ? 1 : 0))
            first = middle + 1;
        else
            end = middle;
    }
    return first;
}

/* ---- when it pays ---- */

PHX_DEVICE bool leaf_cuts_fit(const int64_t *bounds, int64_t n_leaves)
{
    int64_t bits = 0;
    for (int64_t i = 0; i <= n_leaves; i++)
        bits |= bounds[i];
    return bits % PHX_K_BLOCK == 0;
}

/* Whether tiles compute the call, which is the host's question too (leaf_may_tile): the same answer in every
 * block of PHX_TILE_THREADS threads of both kernels. votes: a number per warp. */
PHX_DEVICE bool leaf_takes_tiles(const phx_leaf_sum_args &a, const phx_matrix &fixed,
                                 phx_shared<int32_t> votes)
{
    const int64_t n_experts = a.routed.n_experts;
    bool fits = true;
    if (a.fixed)
        fits = leaf_cuts_fit(a.fixed_bounds, a.n_leaves) &&
               phx_tile_fits(&fixed, a.h_fixed.data, a.h_fixed.stride, a.h_fixed.dtype);
    if (n_experts > 0) {
        const int64_t n_entries = a.routed.first[n_experts] + (a.fixed ? a.n_tokens : 0);
        fits = fits && n_entries >= LEAF_MANY_ENTRIES * (n_experts + (a.fixed ? 1 : 0)) &&
               (a.expert_leaf || leaf_cuts_fit(a.routed_bounds, a.n_leaves));
    }
    for (int64_t e = threadIdx.x; fits && e < n_experts; e += PHX_TILE_THREADS)
        fits = a.routed.first[e] == a.routed.first[e + 1] ||
               phx_tile_fits(a.down[e], a.h_routed.data, a.h_routed.stride, a.h_routed.dtype);
    const bool warp_fits = phx_ballot(fits) == PHX_ALL_LANES;
    if (phx_lane() == 0)
        votes[phx_warp()] = warp_fits ? 1 : 0;
    __syncthreads();
    for (int64_t i = 0; i < LEAF_TILE_WARPS; i++)
        fits = fits && votes[i] != 0;
    __syncthreads();
    return fits;
}

/* ---- sums ---- */

PHX_DEVICE leaf_sums leaf_level(const phx_leaf_sum_args &a, const leaf_run &run, int level)
{
    const int64_t first = run.first + (int64_t)blockIdx.y * run.step;
    const int64_t end = first + run.step < run.end ? first + run.step : run.end;
    const int64_t from = level == 0 ? first : (level - 1) * (run.end - run.first) + first - run.first;
    return {(level == 0 ? a.out : a.parts) + from * a.n_out, first, end - first,
            (int64_t)blockIdx.x * PHX_TILE_W, a.n_out};
}

/* sums = 0, or sums += of another level. A thread has the same sums in both. */
PHX_DEVICE void leaf_begin(const leaf_sums &sums, const float *more)
{
    for (int64_t i = threadIdx.x; i < sums.n_tokens * PHX_TILE_W; i += PHX_TILE_THREADS) {
        const int64_t out = sums.n + i % PHX_TILE_W;
        const int64_t at = i / PHX_TILE_W * sums.n_out + out;
        if (out < sums.n_out)
            sums.data[at] = more ? sums.data[at] + more[at] : 0.0f;
    }
}

/* ---- products ---- */

/* Adds the dots of entries [first, first + n_rows) of a source, at most PHX_TILE_X, to their sums. A call:
 * the walk around it needs registers of its own. */
template <int FORMAT>
PHX_CALLED void leaf_tile(const leaf_source &from, int64_t first, int64_t n_rows, const leaf_sums &to,
                          const leaf_tile_shared &s)
{
    typedef phx_tile<FORMAT> tile;
    const phx_matrix &w = *from.w;
    phx_tile_rows<FORMAT> rows;
    const int64_t last_out = to.n_out - to.n - 1; /* of this tile that is there */
    for (int i = 0; i < tile::w_copies; i++) {
        const int64_t row = phx_copy_row<tile::w_chunks>(i);
        rows.w[i] = phx_tile_w_chunk<FORMAT>(w, to.n + (row < last_out ? row : last_out)) +
                    phx_columns_bytes<FORMAT>(from.col);
    }
    for (int i = 0; i < tile::x_copies; i++) {
        const int64_t row = phx_copy_row<tile::x_chunks>(i);
        rows.x[i] = phx_tile_x_chunk<FORMAT>(from.h->data, from.h->stride,
                                             first + (row < n_rows ? row : n_rows - 1)) +
                    from.col * 2;
    }
    for (int i = 0; i < 4; i++) {
        const int64_t row = phx_tile_w_row(i / 2, i % 2 * 2);
        phx_tile_set_scales<FORMAT>(rows, i, w, to.n + (row < last_out ? row : last_out), from.col);
    }
    float sums[2][PHX_WARP_X][4];
    phx_tile_run<FORMAT>(rows, from.col_end - from.col, s.stages, sums);
    PHX_UNROLL
    for (int half = 0; half < 2; half++) {
        float old[PHX_WARP_X][4]; /* all read before any is written: one wait for memory */
        PHX_UNROLL
        for (int i = 0; i < PHX_WARP_X * 4; i++) {
            const int64_t row = phx_tile_x_row(i / 4, i % 4);
            const int64_t out = phx_tile_w_row(half, i % 4);
            if (row < n_rows && out <= last_out)
                old[i / 4][i % 4] = to.data[s.token[row] * to.n_out + to.n + out];
        }
        PHX_UNROLL
        for (int i = 0; i < PHX_WARP_X * 4; i++) {
            const int64_t row = phx_tile_x_row(i / 4, i % 4);
            const int64_t out = phx_tile_w_row(half, i % 4);
            if (row < n_rows && out <= last_out)
                to.data[s.token[row] * to.n_out + to.n + out] =
                    fmaf(s.weight[row], sums[half][i / 4][i % 4], old[i / 4][i % 4]);
        }
    }
}

/* All entries of a source, tile by tile. */
PHX_DEVICE void leaf_add_source(const leaf_source &from, const leaf_sums &to, const leaf_tile_shared &s)
{
    if (from.col == from.col_end)
        return;
    for (int64_t first = from.first; first < from.end; first += PHX_TILE_X) {
        const int64_t left = from.end - first;
        const int64_t n_rows = left < PHX_TILE_X ? left : PHX_TILE_X;
        if (!PHX_PLANT(80))
            __syncthreads(); /* the tile before this one is added */
        if (threadIdx.x < n_rows) {
            const int64_t j = first + threadIdx.x;
            s.token[threadIdx.x] = (int32_t)((from.token ? from.token[j] : j) - to.first);
            s.weight[threadIdx.x] = from.weight ? from.weight[PHX_PLANT(81) ? first : j] : 1.0f;
        }
        if (from.w->format == PHX_FORMAT_BF16)
            leaf_tile<PHX_FORMAT_BF16>(from, first, n_rows, to, s);
        else if (from.w->format == PHX_FORMAT_INT4_G32)
            leaf_tile<PHX_FORMAT_INT4_G32>(from, first, n_rows, to, s);
        else
            leaf_tile<PHX_FORMAT_FP8_BLOCK>(from, first, n_rows, to, s);
    }
}

/* What the experts add to a leaf, ascending. */
PHX_DEVICE void leaf_add_experts(const phx_leaf_sum_args &a, int64_t leaf, const leaf_sums &to,
                                 const leaf_tile_shared &s)
{
    const phx_expert_rows &rows = a.routed;
    for (int64_t batch = 0; batch < rows.n_experts; batch += LEAF_BATCH) {
        const int64_t left = rows.n_experts - batch;
        const int64_t n = left < LEAF_BATCH ? left : LEAF_BATCH;
        __syncthreads(); /* the batch before this one is read */
        if (threadIdx.x < n) {
            const int64_t e = batch + threadIdx.x;
            const int64_t last = rows.first[e + 1];
            const int64_t first = find_token(rows, rows.first[e], last, to.first);
            const bool is_here = !a.expert_leaf || a.expert_leaf[e] == leaf;
            s.first[threadIdx.x] = (int32_t)first;
            s.end[threadIdx.x] =
                (int32_t)(is_here ? find_token(rows, first, last, to.first + to.n_tokens) : first);
        }
        __syncthreads();
        for (int64_t i = 0; i < n; i++) {
            if (s.first[i] == s.end[i])
                continue;
            const phx_matrix *w = a.down[batch + i];
            const int64_t col = a.expert_leaf ? 0 : a.routed_bounds[leaf];
            const int64_t col_end = a.expert_leaf ? w->n_cols : a.routed_bounds[leaf + 1];
            leaf_add_source({w, &a.h_routed, rows.token, rows.weight, s.first[i], s.end[i], col, col_end}, to,
                            s);
        }
    }
}

/* Grid: outputs by PHX_TILE_W, runs of tokens. A leaf's sums stand on the level that is free when its turn
 * comes; where two neighbours are complete, the right one is added to the left one, a level below. */
static __global__ void __launch_bounds__(PHX_TILE_THREADS)
    leaf_sum_tile(const phx_leaf_sum_args a, const phx_matrix fixed, const leaf_run run)
{
    PHX_SHARED_DYNAMIC(uint8_t, stages, phx_tile<PHX_FORMAT_BF16>::shared_bytes);
    PHX_SHARED(int32_t, first, LEAF_BATCH);
    PHX_SHARED(int32_t, end, LEAF_BATCH);
    PHX_SHARED(int32_t, token, PHX_TILE_X);
    PHX_SHARED(float, weight, PHX_TILE_X);
    const leaf_tile_shared s = {stages, first, end, token, weight};
    if (!leaf_takes_tiles(a, fixed, first))
        return;
    int level = 0;
    for (int64_t leaf = 0; leaf < a.n_leaves; leaf++) {
        const leaf_sums to = leaf_level(a, run, level);
        leaf_begin(to, NULL);
        leaf_add_experts(a, leaf, to, s);
        if (a.fixed)
            leaf_add_source({&fixed, &a.h_fixed, NULL, NULL, to.first, to.first + to.n_tokens,
                             a.fixed_bounds[leaf], a.fixed_bounds[leaf + 1]},
                            to, s);
        __syncthreads();
        for (int64_t n = leaf + 1; n % 2 == 0; n /= 2) {
            leaf_begin(leaf_level(a, run, PHX_PLANT(82) ? 0 : level - 1), leaf_level(a, run, level).data);
            level--;
        }
        level++;
    }
}

/* ---- the host ---- */

/* Tokens whose sums have room to wait in args->parts. */
static inline int64_t leaf_room(const phx_leaf_sum_args *args)
{
    int64_t levels = 0;
    for (uint32_t n = args->n_leaves; n > 1; n /= 2)
        levels++;
    if (levels == 0)
        return args->n_tokens;
    return args->parts ? args->n_parts / (levels * args->n_out) : 0;
}

/* Whether leaf_sum_tile is worth asking; what it says decides. */
static inline bool leaf_may_tile(const phx_leaf_sum_args *args, phx_dtype dtype)
{
    const int64_t room = leaf_room(args);
    return dtype == PHX_BF16 && args->n_tokens > LEAF_MANY_TOKENS &&
           (room >= LEAF_RUN || room >= args->n_tokens);
}

/* Runs of tokens are as long as fills the device, so that few blocks read the same weights; without experts a
 * tile of tokens. */
static inline cudaError_t leaf_tile_launch(cudaStream_t stream, const phx_leaf_sum_args &args,
                                           const phx_matrix &fixed)
{
    const size_t bytes = phx_tile<PHX_FORMAT_BF16>::shared_bytes;
    const int64_t n_tiles = phx_grid(args.n_out, PHX_TILE_W);
    const int64_t room = leaf_room(&args);
    int at_once = 0;
    cudaError_t err = PHX_ALLOW_SHARED(leaf_sum_tile, bytes);
    if (err == cudaSuccess)
        err = PHX_BLOCKS_AT_ONCE(leaf_sum_tile, PHX_TILE_THREADS, bytes, &at_once);
    for (int64_t first = 0; err == cudaSuccess && first < args.n_tokens; first += room) {
        const int64_t end = first + room < args.n_tokens ? first + room : args.n_tokens;
        int64_t n_runs = phx_grid(end - first, LEAF_RUN);
        if (args.routed.n_experts > 0 && n_runs > at_once / n_tiles)
            n_runs = at_once / n_tiles > 0 ? at_once / n_tiles : 1;
        const leaf_run run = {first, end, (end - first + n_runs - 1) / n_runs};
        const dim3 grid((unsigned)n_tiles, phx_grid(end - first, run.step));
        err = PHX_LAUNCH(leaf_sum_tile, grid, PHX_TILE_THREADS, bytes, stream, args, fixed, run);
    }
    return err;
}

#endif
