/* kernels/cuda/ptx.cuh - the only home of intrinsics and inline PTX: one named function each.
 * The emulator (tests/emu) supplies the same intrinsics for all lanes of a warp; an instruction that it lacks
 * comes with its equivalent in C here. All warp functions need all 32 lanes. */
#ifndef PHX_KERNELS_CUDA_PTX_CUH
#define PHX_KERNELS_CUDA_PTX_CUH

#include "kernels/cuda/launch.cuh"

#define PHX_WARP      32
#define PHX_ALL_LANES 0xFFFFFFFFu

/* Blocks are one-dimensional. */
PHX_DEVICE int64_t phx_lane(void)
{
    return threadIdx.x % PHX_WARP;
}

PHX_DEVICE int64_t phx_warp(void)
{
    return threadIdx.x / PHX_WARP;
}

/* This thread's number in the grid, and this warp's. */
PHX_DEVICE int64_t phx_thread_of_grid(void)
{
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

PHX_DEVICE int64_t phx_warp_of_grid(void)
{
    return phx_thread_of_grid() / PHX_WARP;
}

/* The value of lane (mine ^ mask). */
PHX_DEVICE float phx_shfl_xor(float value, int mask)
{
    return __shfl_xor_sync(PHX_ALL_LANES, value, mask);
}

PHX_DEVICE int32_t phx_shfl_xor(int32_t value, int mask)
{
    return __shfl_xor_sync(PHX_ALL_LANES, value, mask);
}

/* Bit i: what lane i said. */
PHX_DEVICE uint32_t phx_ballot(bool yes)
{
    return __ballot_sync(PHX_ALL_LANES, yes ? 1 : 0);
}

PHX_DEVICE int64_t phx_count_bits(uint32_t bits)
{
    return __popc(bits);
}

/* Orders the memory of the warp's lanes. */
PHX_DEVICE void phx_warp_sync(void)
{
    __syncwarp(PHX_ALL_LANES);
}

#endif
