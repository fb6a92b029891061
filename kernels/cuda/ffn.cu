/* kernels/cuda/ffn.cu - ffn_in (a warp per output column of an expert) and leaf_sum (a warp per output). */
#include "kernels/cuda/number.cuh"

#define LEAVES_MAX 8

PHX_DEVICE int64_t token_of(const phx_expert_rows &rows, int64_t entry)
{
    return rows.token ? rows.token[entry] : entry;
}

/* The host does not know how many entries an expert has, so the grid is over its columns. */
static __global__ void ffn_in(const phx_ffn_in_args a)
{
    const int64_t i = phx_warp_of_grid();
    if (i >= a.rows.n_experts * a.n_out)
        return;
    const int64_t e = i / a.n_out;
    const int64_t n = i % a.n_out;
    for (int64_t j = a.rows.first[e]; j < a.rows.first[e + 1]; j++) {
        const int64_t x_offset = token_of(a.rows, j) * a.x.stride;
        const float g = phx_warp_dot(a.x, x_offset, *a.gate[e], n, 0, a.gate[e]->n_cols);
        const float u = phx_warp_dot(a.x, x_offset, *a.up[e], n, 0, a.up[e]->n_cols);
        if (phx_lane() == 0)
            phx_store(a.out.data, a.out.dtype, j * a.out.stride + n, phx_siluf(g) * u);
    }
}

cudaError_t phx_ffn_in_cuda(cudaStream_t stream, const phx_ffn_in_args *args)
{
    const int64_t n = args->rows.n_experts * args->n_out;
    if (n == 0)
        return cudaSuccess;
    return PHX_LAUNCH(ffn_in, phx_grid(n, PHX_BLOCK_WARPS), PHX_BLOCK, 0, stream, *args);
}

/* The expert of entry j: the last one that starts at or before it and is not empty. */
PHX_DEVICE int64_t expert_of(const phx_expert_rows &rows, int64_t j)
{
    int64_t low = 0;
    int64_t high = rows.n_experts;
    while (high - low > 1) {
        const int64_t middle = (low + high) / 2;
        if (rows.first[middle] <= j)
            low = middle;
        else
            high = middle;
    }
    return low;
}

PHX_DEVICE float routed_leaf(const phx_leaf_sum_args &a, int64_t t, int64_t n, int64_t leaf)
{
    float sum = 0.0f;
    for (int64_t i = a.token_first[t]; i < a.token_first[t + 1]; i++) { /* experts ascending */
        const int64_t j = a.token_entries[i];
        const int64_t e = expert_of(a.routed, j);
        if (a.expert_leaf && a.expert_leaf[e] != leaf)
            continue;
        const int64_t first = a.expert_leaf ? 0 : a.routed_bounds[leaf];
        const int64_t end = a.expert_leaf ? a.down[e]->n_cols : a.routed_bounds[leaf + 1];
        const float dot = phx_warp_dot(a.h_routed, j * a.h_routed.stride, *a.down[e], n, first, end);
        sum = fmaf(a.routed.weight ? a.routed.weight[j] : 1.0f, dot, sum);
    }
    return sum;
}

static __global__ void leaf_sum(const phx_leaf_sum_args a, const phx_matrix fixed)
{
    const int64_t i = phx_warp_of_grid();
    if (i >= a.n_tokens * a.n_out)
        return;
    const int64_t t = i / a.n_out;
    const int64_t n = i % a.n_out;
    /* finished subtrees, as the digits of a binary counter: leaf 2k + 1 closes a pair, and so on */
    float stack[LEAVES_MAX];
    int depth = 0;
    for (int64_t leaf = 0; leaf < a.n_leaves; leaf++) {
        float sum = a.routed.n_experts > 0 ? routed_leaf(a, t, n, leaf) : 0.0f;
        if (a.fixed)
            sum += phx_warp_dot(a.h_fixed, t * a.h_fixed.stride, fixed, n, a.fixed_bounds[leaf],
                                a.fixed_bounds[leaf + 1]);
        for (int64_t done = leaf; done % 2 == 1; done /= 2)
            sum = stack[--depth] + sum;
        stack[depth++] = sum;
    }
    if (phx_lane() == 0)
        a.out[i] = stack[0];
}

cudaError_t phx_leaf_sum_cuda(cudaStream_t stream, const phx_leaf_sum_args *args)
{
    const int64_t n = args->n_tokens * args->n_out;
    if (n == 0)
        return cudaSuccess;
    const uint32_t leaves = args->n_leaves;
    if (leaves == 0 || leaves > LEAVES_MAX || (leaves & (leaves - 1)) != 0)
        return cudaErrorInvalidValue;
    const phx_matrix none = {};
    return PHX_LAUNCH(leaf_sum, phx_grid(n, PHX_BLOCK_WARPS), PHX_BLOCK, 0, stream, *args,
                      args->fixed ? *args->fixed : none);
}
