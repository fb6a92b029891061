/* kernels/cuda/launch.cuh - what differs between nvcc and the emulator: launches and shared memory.
 * Owns: PHX_LAUNCH, shared arrays with bounds, grid sizes, the names of the launchers. Every .cu includes it
 * and none names <<<>>> or __shared__ itself. Built with PHX_EMU the runtime comes from tests/emu/emu.hpp.
 *
 * Launchers: phx_<op>_cuda(stream, args) queues the op of kernels/ops.h and returns the error of the launch.
 * The structs args, args->w, table, cache, keys and fixed are read on the host before the call returns;
 * everything else that they point at is device memory, pointers inside arrays (gate, up, down, blocks)
 * included. */
#ifndef PHX_KERNELS_CUDA_LAUNCH_CUH
#define PHX_KERNELS_CUDA_LAUNCH_CUH

#if defined(PHX_EMU)
#include "runtime.hpp"
#else
#include <cuda_runtime.h>
#endif

#include <math.h>
#include <stdint.h>

#include "kernels/ops.h"

#define PHX_DEVICE static inline __device__
/* The same, called and not inlined: what lives around the call then takes no registers inside. */
#define PHX_CALLED static __device__ __attribute__((noinline))

#if defined(PHX_EMU)

#define PHX_UNROLL
#define PHX_NO_UNROLL
#define PHX_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)          \
    emu::launch(                                                            \
        #kernel, (const void *)(kernel), grid, block, shared_bytes, stream, \
        [](const auto &...copies) { kernel(copies...); }, __VA_ARGS__)
#define PHX_LAUNCH_WAITING(kernel, grid, block, shared_bytes, stream, ...)  \
    emu::launch<true>(                                                      \
        #kernel, (const void *)(kernel), grid, block, shared_bytes, stream, \
        [](const auto &...copies) { kernel(copies...); }, __VA_ARGS__)
template <class T> using phx_shared = emu::shared<T>;
#define PHX_SHARED(type, name, n)      \
    static const char name##_site = 0; \
    const phx_shared<type> name = emu::shared_static<type>(&name##_site, #name, n)
#define PHX_SHARED_DYNAMIC(type, name, n) const phx_shared<type> name = emu::shared_dynamic<type>(#name, n)

#else

#define PHX_UNROLL    _Pragma("unroll")
#define PHX_NO_UNROLL _Pragma("unroll 1")
#define PHX_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    (kernel<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__), cudaGetLastError())
/* Of a kernel that waits for a kernel of another device. Its block n may wait for blocks n elsewhere, for no
 * other: the emulator runs them one after the other. */
#define PHX_LAUNCH_WAITING        PHX_LAUNCH
/* A view of a shared array. n is its length, which the emulator checks. */
template <class T> using phx_shared = T *;
#define PHX_SHARED(type, name, n) __shared__ type name[n]
/* The whole dynamic part, as n elements; once per kernel. */
#define PHX_SHARED_DYNAMIC(type, name, n)                                     \
    extern __shared__ __align__(16) unsigned char phx_shared_bytes[];         \
    const phx_shared<type> name = reinterpret_cast<type *>(phx_shared_bytes); \
    (void)(n)

#endif

/* Lets kernel have that much dynamic shared memory, above the 48 KiB that every kernel may have. */
#if defined(PHX_EMU)
#define PHX_ALLOW_SHARED(kernel, bytes) emu::allow_shared((const void *)(kernel), bytes)
#else
#define PHX_ALLOW_SHARED(kernel, bytes) \
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)(bytes))
#endif

/* How many blocks of a kernel a device runs at a time. */
#if defined(PHX_EMU)
#define PHX_BLOCKS_AT_ONCE(kernel, threads, bytes, ret) (*(ret) = 6, cudaSuccess)
#else
#define PHX_BLOCKS_AT_ONCE(kernel, threads, bytes, ret) \
    phx_blocks_at_once((const void *)kernel, threads, bytes, ret)
static inline cudaError_t phx_blocks_at_once(const void *kernel, int threads, size_t bytes, int *ret_blocks)
{
    int device = 0;
    int processors = 0;
    int each = 0;
    cudaError_t err = cudaGetDevice(&device);
    if (err == cudaSuccess)
        err = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    if (err == cudaSuccess)
        err = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, kernel, threads, bytes);
    *ret_blocks = processors * each;
    return err;
}
#endif

/* Fault n of tests/emu/test_planted.sh, which a build of the kernels for that test can switch on. */
#if defined(PHX_PLANTS)
extern "C" int phx_plant;
#define PHX_PLANT(n) (phx_plant == (n))
#else
#define PHX_PLANT(n) false
#endif

/* Blocks for n items; more than a grid holds becomes a launch error. */
static inline unsigned phx_grid(int64_t n, int64_t per_block)
{
    const int64_t blocks = (n + per_block - 1) / per_block;
    return blocks < (int64_t)UINT32_MAX ? (unsigned)blocks : UINT32_MAX;
}

extern "C" {
#define X(op) cudaError_t phx_##op##_cuda(cudaStream_t stream, const phx_##op##_args *args);
PHX_OPS(X)
#undef X
}

#endif
