/* kernels/cuda/peak.cu - what a device can do at best, measured: reading its memory, and multiplying with the
 * one instruction that all products here use. The denominators of `phalanx bench kernels` on a device.
 * Not here: real kernels. The same loops run on the emulator, where only their running means something. */
#include "kernels/cuda/queue.cuh"

#include "kernels/cuda/ptx.cuh"

#define READ_BLOCK 256
#define READ_EACH  8 /* 16-byte loads that a thread has under way */
#define MMA_BLOCK  256
#define MMA_CHAINS 8 /* independent sums of a warp */

/* Every 16 bytes once. The sum is kept, so that no load can be left out. */
static __global__ void read_kernel(const uint8_t *data, int64_t n_pieces, uint32_t *sink)
{
    const int64_t block_pieces = (int64_t)READ_BLOCK * READ_EACH;
    uint32_t sum = 0;
    for (int64_t at = (int64_t)blockIdx.x * block_pieces + threadIdx.x; at < n_pieces;
         at += (int64_t)gridDim.x * block_pieces) {
        phx_16 piece[READ_EACH];
        PHX_UNROLL
        for (int i = 0; i < READ_EACH; i++) {
            const int64_t here = at + (int64_t)i * READ_BLOCK;
            piece[i] = phx_load16_stream(data + 16 * (here < n_pieces ? here : at));
        }
        PHX_UNROLL
        for (int i = 0; i < READ_EACH; i++)
            sum += piece[i].word[0] ^ piece[i].word[1] ^ piece[i].word[2] ^ piece[i].word[3];
    }
    if (sum == 1) /* rarely, and then harmless: every thread would write the same */
        phx_atomic_add((int32_t *)sink, 1);
}

/* Operands that the compiler does not know: from the threads' numbers. */
static __global__ void multiply_kernel(int64_t n_rounds, float *sink)
{
    float d[MMA_CHAINS][4] = {};
    const uint32_t one = 0x3F803F80u; /* two bf16 */
    const uint32_t a[4] = {one + (uint32_t)phx_lane(), one, one, one};
    const uint32_t b[2] = {one, one + (uint32_t)phx_warp()};
    for (int64_t round = 0; round < n_rounds; round++) {
        PHX_UNROLL
        for (int i = 0; i < MMA_CHAINS; i++)
            phx_mma_bf16(d[i], a, b);
    }
    float sum = 0.0f;
    for (int i = 0; i < MMA_CHAINS; i++)
        sum += d[i][0] + d[i][1] + d[i][2] + d[i][3];
    if (sum < 0.0f)
        *sink = sum;
}

/* Enough blocks to fill every multiprocessor twice over. */
static unsigned blocks_of(int n_multiprocessors)
{
    return (unsigned)(n_multiprocessors > 0 ? n_multiprocessors : 1) * (2048 / MMA_BLOCK);
}

extern "C" cudaError_t phx_peak_read_cuda(cudaStream_t stream, int n_multiprocessors, const void *data,
                                          size_t n_bytes, uint32_t *sink)
{
    return PHX_LAUNCH(read_kernel, blocks_of(n_multiprocessors), READ_BLOCK, 0, stream, (const uint8_t *)data,
                      (int64_t)(n_bytes / 16), sink);
}

extern "C" cudaError_t phx_peak_multiply_cuda(cudaStream_t stream, int n_multiprocessors, int64_t n_rounds,
                                              float *sink)
{
    return PHX_LAUNCH(multiply_kernel, blocks_of(n_multiprocessors), MMA_BLOCK, 0, stream, n_rounds, sink);
}

extern "C" double phx_peak_ops_per_round(int n_multiprocessors)
{
    return (double)blocks_of(n_multiprocessors) * (MMA_BLOCK / PHX_WARP) * MMA_CHAINS * 2.0 * 16.0 * 8.0 *
           16.0;
}
