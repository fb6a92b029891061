/* kernels/cuda/reduce.cuh - sums and maxima over a warp or a block, in one fixed order.
 * Every lane (thread) gets the same bits: a butterfly adds the same pairs on both sides. */
#ifndef PHX_KERNELS_CUDA_REDUCE_CUH
#define PHX_KERNELS_CUDA_REDUCE_CUH

#include "kernels/cuda/ptx.cuh"

#define PHX_BLOCK       128 /* threads of a block that works on one row */
#define PHX_BLOCK_WARPS (PHX_BLOCK / PHX_WARP)

PHX_DEVICE float phx_warp_sum(float x)
{
    for (int mask = PHX_WARP / 2; mask > (PHX_PLANT(20) ? 1 : 0); mask /= 2)
        x += phx_shfl_xor(x, mask);
    return x;
}

PHX_DEVICE float phx_warp_max(float x)
{
    for (int mask = PHX_WARP / 2; mask > 0; mask /= 2) {
        const float other = phx_shfl_xor(x, mask);
        x = other > x ? other : x;
    }
    return x;
}

/* Of all lanes the larger value, among equals the lower index; index -1 is no candidate. */
typedef struct phx_best {
    float value;
    int32_t index;
} phx_best;

PHX_DEVICE bool phx_is_better(phx_best a, phx_best b)
{
    if (a.index < 0 || b.index < 0)
        return b.index < 0 && a.index >= 0;
    return a.value > b.value || (a.value == b.value && a.index < b.index);
}

PHX_DEVICE phx_best phx_warp_best(phx_best mine)
{
    for (int mask = PHX_WARP / 2; mask > 0; mask /= 2) {
        const phx_best other = {phx_shfl_xor(mine.value, mask), phx_shfl_xor(mine.index, mask)};
        if (phx_is_better(other, mine))
            mine = other;
    }
    return mine;
}

/* Over a block of PHX_BLOCK threads; shared has PHX_BLOCK_WARPS elements and may be used again at once. */
PHX_DEVICE float phx_block_sum(float x, phx_shared<float> shared)
{
    x = phx_warp_sum(x);
    if (phx_lane() == 0)
        shared[phx_warp()] = x;
    __syncthreads();
    float sum = shared[0];
    for (int i = 1; i < PHX_BLOCK_WARPS; i++)
        sum += shared[i];
    __syncthreads();
    return sum;
}

PHX_DEVICE float phx_block_max(float x, phx_shared<float> shared)
{
    x = phx_warp_max(x);
    if (phx_lane() == 0)
        shared[phx_warp()] = x;
    __syncthreads();
    float max = shared[0];
    for (int i = 1; i < PHX_BLOCK_WARPS; i++)
        max = shared[i] > max ? shared[i] : max;
    __syncthreads();
    return max;
}

#endif
