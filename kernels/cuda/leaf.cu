/* kernels/cuda/leaf.cu - leaf_sum: a block of threads per 16 outputs of NT tiles of tokens, which walks over
 * the experts of its tokens, ascending, and last over the fixed matrix. Each of these sources is read from
 * memory once; a leaf's sum over sources lies in shared memory until the tree at the end. Many tokens:
 * leaf_tile.cuh. */
#include "kernels/cuda/leaf_tile.cuh"
#include "kernels/cuda/stream.cuh"

#define LEAVES_MAX   8
#define LEAF_WAITING 4096 /* sums that wait: 32 parts of one tile */
#define LEAF_SLOTS   (LEAF_WAITING / PHX_PART_SUMS)

/* Of a block of threads, in shared memory. A source is an expert, or n_experts for the fixed matrix. */
typedef struct leaf_shared {
    phx_shared<int32_t> source;    /* [n_sources] experts that have entries here */
    phx_shared<int32_t> item;      /* [n_sources + 1] its first item */
    phx_shared<int32_t> slot_leaf; /* [LEAF_SLOTS] the leaf whose last block waits there, or -1 */
    phx_shared<float> slot_weight; /* [LEAF_SLOTS][PHX_TILE_ROW] per tile: of each token, NaN: has no entry */
    phx_shared<float> leaves;      /* [n_leaves][sums] */
} leaf_shared;

PHX_DEVICE const phx_matrix &source_matrix(const phx_leaf_sum_args &a, const phx_matrix &fixed,
                                           int64_t source)
{
    return source < a.routed.n_experts ? *a.down[source] : fixed;
}

/* The blocks of one leaf of a source. */
PHX_DEVICE phx_blocks source_blocks(const phx_leaf_sum_args &a, const phx_matrix &w, int64_t source,
                                    int64_t leaf)
{
    if (source >= a.routed.n_experts)
        return phx_blocks_of(w, a.fixed_bounds[leaf], a.fixed_bounds[leaf + 1]);
    if (!a.expert_leaf)
        return phx_blocks_of(w, a.routed_bounds[leaf], a.routed_bounds[leaf + 1]);
    return phx_blocks_of(w, 0, a.expert_leaf[source] == leaf ? w.n_cols : 0);
}

PHX_DEVICE int32_t count_items(const phx_leaf_sum_args &a, const phx_matrix &fixed, int64_t source)
{
    const phx_matrix &w = source_matrix(a, fixed, source);
    int64_t n = 0;
    for (int64_t leaf = 0; leaf < a.n_leaves; leaf++)
        n += source_blocks(a, w, source, leaf).n;
    return (int32_t)n;
}

/* The entry of token t with an expert, or -1. */
PHX_DEVICE int64_t entry_of(const phx_expert_rows &rows, int64_t expert, int64_t t)
{
    const int64_t end = rows.first[expert + 1];
    const int64_t j = find_token(rows, rows.first[expert], end, t);
    return j < end && (rows.token ? rows.token[j] : j) == t ? j : -1;
}

/* Lists the sources of tokens [first, end), ascending; returns their number. The counting is one warp's. */
PHX_DEVICE int64_t list_sources(const phx_leaf_sum_args &a, const phx_matrix &fixed, const leaf_shared &s,
                                phx_shared<int32_t> items_of, int64_t first, int64_t end)
{
    const int64_t n_all = a.routed.n_experts + (a.fixed ? 1 : 0);
    for (int64_t source = threadIdx.x; source < n_all; source += PHX_STREAM_THREADS) {
        bool is_used = true;
        if (source < a.routed.n_experts) {
            const int64_t last = a.routed.first[source + 1];
            const int64_t j = find_token(a.routed, a.routed.first[source], last, first);
            is_used = j < last && (a.routed.token ? a.routed.token[j] : j) < end;
        }
        items_of[source] = is_used ? count_items(a, fixed, source) : 0;
    }
    __syncthreads();
    if (phx_warp() == 0) {
        int32_t n_sources = 0;
        int32_t n_items = 0;
        for (int64_t begin = 0; begin < n_all; begin += PHX_WARP) {
            const int64_t source = begin + phx_lane();
            const int32_t mine = source < n_all ? items_of[source] : 0;
            const uint32_t used = phx_ballot(mine > 0);
            int32_t before = mine; /* items of this lane and of those below */
            for (int step = 1; step < PHX_WARP; step *= 2) {
                const int32_t other = phx_shfl_up(before, step);
                before += phx_lane() >= step ? other : 0;
            }
            if (mine > 0) {
                const int64_t at = n_sources + phx_votes_below(used);
                s.source[at] = (int32_t)source;
                s.item[at] = n_items + before - mine;
            }
            n_sources += (int32_t)phx_count_bits(used);
            n_items += phx_shfl(before, PHX_WARP - 1);
        }
        if (phx_lane() == 0) {
            s.item[n_sources] = n_items;
            items_of[0] = n_sources;
        }
    }
    __syncthreads();
    return items_of[0];
}

template <int NT> struct leaf_work {
    const phx_leaf_sum_args &a;
    const phx_matrix &fixed;
    const leaf_shared &s;
    int64_t n_sources;
    int64_t n;     /* first output */
    int64_t token; /* first token */
    float dots[phx_stream<NT>::owned];

    __device__ int64_t n_items() const
    {
        return s.item[n_sources];
    }
    __device__ int64_t find_source(int64_t i) const
    {
        int64_t low = 0;
        int64_t high = n_sources;
        while (high - low > 1) {
            const int64_t middle = (low + high) / 2;
            if (s.item[middle] <= i)
                low = middle;
            else
                high = middle;
        }
        return low;
    }
    __device__ phx_item<NT> item(int64_t i, int64_t slot) const
    {
        const int64_t at = find_source(i);
        const int64_t source = s.source[at];
        const phx_matrix &w = source_matrix(a, fixed, source);
        int64_t block = i - s.item[at];
        int64_t leaf = 0;
        phx_blocks blocks = source_blocks(a, w, source, 0);
        while (block >= blocks.n) {
            block -= blocks.n;
            blocks = source_blocks(a, w, source, ++leaf);
        }
        const bool is_routed = source < a.routed.n_experts;
        const phx_activation &h = is_routed ? a.h_routed : a.h_fixed;
        phx_item<NT> item = {
            &w,     n,  a.n_out, phx_block_first(blocks, block), phx_block_end(blocks, block),
            h.data, {}, h.stride};
        for (int t = 0; t < NT; t++) {
            const int64_t mine = token + t * PHX_TILE_ROW + phx_lane() / 4;
            float weight = 1.0f;
            int64_t row = mine < a.n_tokens ? mine : a.n_tokens - 1;
            if (is_routed) {
                const int64_t j = entry_of(a.routed, source, row);
                weight = j < 0 ? NAN : a.routed.weight ? a.routed.weight[j] : 1.0f;
                row = j < 0 ? a.routed.first[source] : j;
            }
            item.x_rows[t] = row;
            if (phx_lane() % 4 == 0)
                s.slot_weight[(slot * NT + t) * PHX_TILE_ROW + phx_lane() / 4] = weight;
        }
        if (phx_lane() == 0)
            s.slot_leaf[slot] = block + 1 == blocks.n ? (PHX_PLANT(13) ? 0 : (int32_t)leaf) : -1;
        return item;
    }
    __device__ void add(int64_t slot, int owned, float part, float scale)
    {
        dots[owned] = fmaf(part, scale, dots[owned]);
        const int32_t leaf = s.slot_leaf[slot];
        if (leaf < 0)
            return;
        const int64_t sum = threadIdx.x + owned * PHX_STREAM_THREADS;
        const float weight = s.slot_weight[slot * NT * PHX_TILE_ROW + phx_sum_row(sum)];
        const int64_t at = leaf * phx_stream<NT>::sums + sum;
        if (!isnan(weight))
            s.leaves[at] = fmaf(weight, dots[owned], s.leaves[at]);
        dots[owned] = 0.0f;
    }
};

/* Neighbours first, in place. */
template <int NT>
PHX_DEVICE float leaf_tree(const phx_leaf_sum_args &a, phx_shared<float> leaves, int64_t sum)
{
    for (int64_t step = 1; step < a.n_leaves; step *= 2) {
        for (int64_t leaf = 0; leaf + (PHX_PLANT(11) ? 2 * step : 0) < a.n_leaves;
             leaf += (PHX_PLANT(12) ? 1 : 2) * step)
            leaves[leaf * phx_stream<NT>::sums + sum] += leaves[(leaf + step) * phx_stream<NT>::sums + sum];
    }
    return leaves[sum];
}

/* Grid: outputs by PHX_TILE_OUT, tokens by NT tiles. Dynamic: 3 numbers per source. may_tile: leaf_sum_tile
 * has been asked, and may have done it. */
template <int DTYPE, int NT>
static __global__ void __launch_bounds__(PHX_STREAM_THREADS, 2)
    leaf_sum(const phx_leaf_sum_args a, const phx_matrix fixed, bool may_tile)
{
    typedef phx_stream<NT> sizes;
    const int64_t n_all = a.routed.n_experts + 2;
    PHX_SHARED_DYNAMIC(int32_t, lists, 3 * n_all);
    PHX_SHARED(float, sums, LEAF_WAITING);
    PHX_SHARED(float, scales, LEAF_SLOTS *PHX_TILE_OUT);
    PHX_SHARED(float, leaves, LEAVES_MAX *sizes::sums);
    PHX_SHARED(float, slot_weight, LEAF_SLOTS *PHX_TILE_ROW);
    PHX_SHARED(int32_t, slot_leaf, LEAF_SLOTS);
    const leaf_shared s = {lists, lists + n_all, slot_leaf, slot_weight, leaves};
    if (may_tile && leaf_takes_tiles(a, fixed, slot_leaf))
        return;
    const int64_t n = (int64_t)blockIdx.x * PHX_TILE_OUT;
    const int64_t token = (int64_t)blockIdx.y * NT * PHX_TILE_ROW;
    for (int64_t sum = threadIdx.x; sum < sizes::sums; sum += PHX_STREAM_THREADS) {
        for (int64_t leaf = 0; leaf < a.n_leaves; leaf++)
            leaves[leaf * sizes::sums + sum] = 0.0f;
    }
    const int64_t n_sources = list_sources(a, fixed, s, lists + 2 * n_all, token, token + NT * PHX_TILE_ROW);
    leaf_work<NT> work = {a, fixed, s, n_sources, n, token, {}};
    phx_stream_run<PHX_FORMAT_ANY, DTYPE, NT>(work, {sums, scales, LEAF_WAITING});
    for (int64_t sum = threadIdx.x; sum < sizes::sums; sum += PHX_STREAM_THREADS) {
        const int64_t row = token + phx_sum_row(sum);
        const int64_t out = n + phx_sum_out(sum);
        if (row < a.n_tokens && out < a.n_out)
            a.out[row * a.n_out + out] = leaf_tree<NT>(a, leaves, sum);
    }
}

template <int DTYPE, int NT>
static cudaError_t leaf_launch(cudaStream_t stream, const phx_leaf_sum_args &args, const phx_matrix &fixed,
                               bool may_tile)
{
    const dim3 grid(phx_grid(args.n_out, PHX_TILE_OUT), phx_grid(args.n_tokens, NT * PHX_TILE_ROW));
    const size_t bytes = 3 * (size_t)(args.routed.n_experts + 2) * sizeof(int32_t);
    return PHX_LAUNCH((leaf_sum<DTYPE, NT>), grid, PHX_STREAM_THREADS, bytes, stream, args, fixed, may_tile);
}

/* Both activations have one dtype. */
cudaError_t phx_leaf_sum_cuda(cudaStream_t stream, const phx_leaf_sum_args *args)
{
    if (args->n_tokens * args->n_out == 0)
        return cudaSuccess;
    const uint32_t leaves = args->n_leaves;
    const bool is_routed = args->routed.n_experts > 0;
    const phx_dtype dtype = is_routed ? args->h_routed.dtype : args->h_fixed.dtype;
    if (leaves == 0 || leaves > LEAVES_MAX || (leaves & (leaves - 1)) != 0)
        return cudaErrorInvalidValue;
    if (is_routed && args->fixed && args->h_fixed.dtype != dtype)
        return cudaErrorInvalidValue;
    const phx_matrix none = {};
    const phx_matrix &fixed = args->fixed ? *args->fixed : none;
    const bool may_tile = leaf_may_tile(args, dtype);
    if (may_tile) {
        const cudaError_t err = leaf_tile_launch(stream, *args, fixed);
        if (err != cudaSuccess)
            return err;
    }
    if (args->n_tokens <= PHX_TILE_ROW)
        return dtype == PHX_BF16 ? leaf_launch<PHX_BF16, 1>(stream, *args, fixed, false)
                                 : leaf_launch<PHX_F32, 1>(stream, *args, fixed, false);
    return dtype == PHX_BF16 ? leaf_launch<PHX_BF16, 4>(stream, *args, fixed, may_tile)
                             : leaf_launch<PHX_F32, 4>(stream, *args, fixed, false);
}
