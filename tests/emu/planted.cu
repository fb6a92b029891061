/* tests/emu/planted.cu - kernels with one fault each, and the sound kernel beside them: what the emulator
 * must catch. Owns: phx_planted, which runs one of them. */
#include "kernels/cuda/reduce.cuh"

#include "tests/emu/planted.h"

/* out[i] = in[n - 1 - i] through shared memory. */
static __global__ void reverse(const float *in, float *out, phx_fault fault)
{
    PHX_SHARED(float, x, PHX_PLANTED_THREADS);
    const int64_t i = threadIdx.x;
    const int64_t last = PHX_PLANTED_THREADS - 1;
    x[fault == PHX_FAULT_OFF_BY_ONE ? i + 1 : i] = in[i];
    if (fault == PHX_FAULT_EARLY_EXIT && i == 5)
        return;
    if (fault == PHX_FAULT_TWO_BARRIERS && i >= 64)
        __syncthreads();
    else if (fault != PHX_FAULT_NO_BARRIER)
        __syncthreads();
    out[i] = x[last - i];
    if (fault == PHX_FAULT_WRITE_AFTER_READ)
        x[i] = 0.0f;
    if (fault == PHX_FAULT_SAME_OUTPUT && i % 2 == 1)
        out[i - 1] = 0.0f;
}

/* out[i] = the sum of the warp's in. */
static __global__ void warp_sums(const float *in, float *out, phx_fault fault)
{
    const int64_t i = threadIdx.x;
    float sum = in[i];
    if (fault == PHX_FAULT_LANE_MISSING && i % PHX_WARP == 3)
        return;
    for (int mask = PHX_WARP / 2; mask > 0; mask /= 2)
        sum += __shfl_xor_sync(fault == PHX_FAULT_MASK ? 0xFFFF0000u : PHX_ALL_LANES, sum, mask);
    if (fault == PHX_FAULT_WRONG_LANE)
        sum += __shfl_sync(PHX_ALL_LANES, sum, 32);
    out[i] = sum;
}

/* Neighbours of one warp through shared memory; __syncwarp is enough. */
static __global__ void neighbours(const float *in, float *out, phx_fault fault)
{
    PHX_SHARED_DYNAMIC(float, x, fault == PHX_FAULT_DYNAMIC ? PHX_PLANTED_THREADS + 1 : PHX_PLANTED_THREADS);
    const int64_t i = threadIdx.x;
    x[i] = in[i];
    if (fault != PHX_FAULT_NO_WARP_SYNC)
        phx_warp_sync();
    out[i] = x[fault == PHX_FAULT_OTHER_WARP ? (i + PHX_WARP) % PHX_PLANTED_THREADS : i ^ 1];
}

/* Blocks that all write one number. */
static __global__ void same_number(float *out, phx_fault fault)
{
    if (threadIdx.x == 0)
        out[fault == PHX_FAULT_BLOCKS ? 0 : blockIdx.x] = (float)blockIdx.x;
}

int phx_planted(phx_planted_kernel kernel, phx_fault fault, const float *in, float *out)
{
    const unsigned threads = PHX_PLANTED_THREADS;
    switch (kernel) {
    case PHX_PLANTED_REVERSE:
        return (int)PHX_LAUNCH(reverse, 1, threads, 0, nullptr, in, out, fault);
    case PHX_PLANTED_WARP_SUMS:
        return (int)PHX_LAUNCH(warp_sums, 1, threads, 0, nullptr, in, out, fault);
    case PHX_PLANTED_NEIGHBOURS:
        return (int)PHX_LAUNCH(neighbours, 1, threads, threads * sizeof(float), nullptr, in, out, fault);
    case PHX_PLANTED_SAME_NUMBER:
        return (int)PHX_LAUNCH(same_number, threads, threads, 0, nullptr, out, fault);
    }
    return -1;
}
