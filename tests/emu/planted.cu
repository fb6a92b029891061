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

/* out = in, by loads, copies and stores of 16 bytes; shared memory above what a block has unasked. */
static __global__ void wide(const float *in, float *out, phx_fault fault)
{
    PHX_SHARED(float, fixed, fault == PHX_FAULT_TOO_MUCH_SHARED ? 1024 : 4);
    PHX_SHARED_DYNAMIC(uint8_t, copied, PHX_PLANTED_THREADS * sizeof(float));
    const int64_t i = threadIdx.x;
    if (i < PHX_PLANTED_THREADS / 4) {
        const int64_t copy_shift = fault == PHX_FAULT_UNALIGNED_COPY && i == 7 ? -1 : 0;
        const int64_t load_shift = fault == PHX_FAULT_UNALIGNED_LOAD && i == 7 ? -2 : 0;
        const int64_t store_shift = fault == PHX_FAULT_UNALIGNED_STORE && i == 7 ? -2 : 0;
        phx_copy16_async(copied, i * 16, in + 4 * i + copy_shift);
        phx_copy_commit();
        phx_copy_wait<0>();
        const phx_16 first = phx_load16_shared(copied, i * 16);
        const phx_16 second = phx_load16_stream(in + 4 * i + load_shift);
        phx_16 *to = (phx_16 *)(void *)(out + 4 * i + store_shift);
        *to = first.word[0] == second.word[0] ? first : second;
    }
    if (i < 4)
        fixed[i] = 0.0f;
}

static cudaError_t planted_wide(phx_fault fault, const float *in, float *out)
{
    const size_t bytes = 97u << 10;
    const cudaError_t err =
        fault == PHX_FAULT_NOT_ALLOWED ? PHX_ALLOW_SHARED(wide, bytes - 1) : PHX_ALLOW_SHARED(wide, bytes);
    if (err != cudaSuccess)
        return err;
    const dim3 grid(fault == PHX_FAULT_NO_BLOCKS ? 0 : 1, fault == PHX_FAULT_TALL_GRID ? 65536 : 1);
    return PHX_LAUNCH(wide, grid, PHX_PLANTED_THREADS, bytes, nullptr, in, out, fault);
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
    case PHX_PLANTED_WIDE:
        return (int)planted_wide(fault, in, out);
    }
    return -1;
}
