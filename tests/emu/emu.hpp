/* tests/emu/emu.hpp - the CUDA emulator: what a .cu file needs of the CUDA language and runtime, for a plain
 * C++17 compiler. kernels/cuda/launch.cuh includes it when built with PHX_EMU. Owns: launches, threads of a
 * block as fibres in random order, barriers, warp shuffles and votes, shared memory with bounds, detection of
 * faults.
 *
 * A launch runs to its end before it returns; blocks run one after the other in an order drawn from the seed.
 * A fault of the kernel (text in phx_emu_fault) ends the launch with cudaErrorLaunchFailure:
 * - a divergent barrier: threads wait at different barriers, or some have exited;
 * - a warp function that not all lanes of its mask reach, or that reads a lane outside of the mask;
 * - an index outside of a shared array;
 * - an access that is not aligned to its type, 16 bytes where they are copied or loaded at once;
 * - a grid, a block or shared memory beyond what every target has; dynamic shared memory that takes a block
 * above 48 KiB and that PHX_ALLOW_SHARED did not allow to this very kernel;
 * - a race, where sources are compiled with -fsanitize=thread (hooks at the end of emu.cpp): a read of what
 * another thread wrote since the last barrier, two writes, or a write over what another thread read; in
 * global memory also between blocks, there without the last of the three;
 * - a flag for another device that is raised without a barrier between it and the writes of other threads of
 * its block, or the reading of another device's memory by a block that has looked at no flag.
 * The one emulator of the process is locked during a launch. One that waits for other processes runs its
 * blocks in their order, and lets others at the device's memory while it waits. Not here: memory and streams
 * (runtime.hpp; without it host pointers do as device memory), inline PTX. */
#ifndef PHX_TESTS_EMU_HPP
#define PHX_TESTS_EMU_HPP

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <tuple>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__ __restrict

enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorInvalidDevice = 101,
    cudaErrorDeviceUninitialized = 201,
    cudaErrorInvalidResourceHandle = 400,
    cudaErrorNotReady = 600,
    cudaErrorLaunchFailure = 719
};
typedef struct phx_emu_stream *cudaStream_t;

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
};

extern "C" {
/* The order of blocks and threads in the launches that follow. */
void phx_emu_seed(uint64_t seed);
/* What went wrong in the last launch; "" when nothing did. */
const char *phx_emu_fault(void);
/* Switches between fibres since the process began; tests use it to see that threads really interleave. */
uint64_t phx_emu_switches(void);
}

namespace emu
{

struct site { /* where a kernel waits */
    const char *file;
    int line;
};

dim3 thread_index();
dim3 block_index();
dim3 block_size();
dim3 grid_size();

void barrier(site at);
void warp_sync(site at, unsigned mask);
uint64_t shuffle(site at, unsigned mask, uint64_t bits, int lane);
uint64_t shuffle_xor(site at, unsigned mask, uint64_t bits, int lane_mask);
unsigned ballot(site at, unsigned mask, bool yes);
/* An instruction of all 32 lanes: when the last has come, body gets what each lane gave. What it reads and
 * writes there is not seen by the detection of races. */
void warp_together(site at, void (*body)(void *const *lanes), void *mine);
/* Copies of 16 bytes to shared memory in groups, done as late as allowed: when the thread waits until at most
 * n_pending of its groups are left. */
void copy_later(void *to, const void *from);
void copy_commit();
void copy_wait(unsigned n_pending);
int atomic_add(int *p, int value);
unsigned atomic_or(unsigned *p, unsigned value);

/* Words that other processes or the host change meanwhile. */
uint64_t load_acquire(const uint64_t *word);
void store_release(uint64_t *word, uint64_t value);
uint32_t load_host(const uint32_t *word);
/* A thread that waits for such a word: other threads of the block, other users of the device and other
 * processes go on. Only in a launch that says so. */
void pause();

/* Shared memory of the running block. A static array is one per site. */
void *shared_array(const void *site, size_t bytes);
void *shared_rest(const char *name, size_t bytes);
[[noreturn]] void bad_index(const char *name, int64_t i, int64_t n);

template <class T> class shared
{
  public:
    shared(T *base, int64_t n, const char *name) : base_(base), n_(n), name_(name)
    {
    }
    T &operator[](int64_t i) const
    {
        if (i < 0 || i >= n_)
            bad_index(name_, i, n_);
        return base_[i];
    }
    shared operator+(int64_t offset) const /* the rest from there */
    {
        if (offset < 0 || offset > n_)
            bad_index(name_, offset, n_);
        return shared(base_ + offset, n_ - offset, name_);
    }

  private:
    T *base_;
    int64_t n_;
    const char *name_;
};

template <class T> shared<T> shared_static(const void *site, const char *name, int64_t n)
{
    return shared<T>(static_cast<T *>(shared_array(site, (size_t)n * sizeof(T))), n, name);
}

template <class T> shared<T> shared_dynamic(const char *name, int64_t n)
{
    return shared<T>(static_cast<T *>(shared_rest(name, (size_t)n * sizeof(T))), n, name);
}

struct kernel_call {
    const char *name;
    const void *kernel; /* which one, among instances of a template too */
    dim3 grid;
    dim3 block;
    size_t shared_bytes;
    void (*body)(const void *user);
    const void *user;
    size_t user_bytes; /* kernels may touch them */
    bool waits;        /* for other processes */
};
cudaError_t run(const kernel_call &call);
/* What cudaFuncSetAttribute says of dynamic shared memory. */
cudaError_t allow_shared(const void *kernel, size_t bytes);
/* Runs it now; or later on the stream's thread, when something is still queued there or when it waits. */
cudaError_t run_on(cudaStream_t stream, const kernel_call &call);

/* Arguments are evaluated and copied once, by the host, as a launch does; body calls the kernel with them. */
template <bool WAITS = false, class F, class... Args>
cudaError_t launch(const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared_bytes,
                   cudaStream_t stream, F body, const Args &...args)
{
    typedef std::pair<F, std::tuple<Args...>> packed;
    const packed user(body, std::tuple<Args...>(args...));
    const auto call = [](const void *p) {
        const packed &of = *static_cast<const packed *>(p);
        std::apply(of.first, of.second);
    };
    return run_on(stream, {name, kernel, grid, block, shared_bytes, call, &user, sizeof(user), WAITS});
}

template <class T> uint64_t to_bits(T value)
{
    static_assert(sizeof(T) <= 8, "a shuffle moves up to eight bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof(value));
    return bits;
}

template <class T> T from_bits(uint64_t bits)
{
    T value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

} // namespace emu

#define threadIdx (emu::thread_index())
#define blockIdx  (emu::block_index())
#define blockDim  (emu::block_size())
#define gridDim   (emu::grid_size())

#define EMU_SITE         (emu::site{__FILE__, __LINE__})
#define __syncthreads()  emu::barrier(EMU_SITE)
#define __syncwarp(mask) emu::warp_sync(EMU_SITE, mask)
#define __shfl_sync(mask, value, lane) \
    emu::from_bits<decltype(value)>(emu::shuffle(EMU_SITE, mask, emu::to_bits(value), lane))
#define __shfl_xor_sync(mask, value, lane_mask) \
    emu::from_bits<decltype(value)>(emu::shuffle_xor(EMU_SITE, mask, emu::to_bits(value), lane_mask))
#define __ballot_sync(mask, yes) emu::ballot(EMU_SITE, mask, (yes) != 0)
#define __popc(bits)             __builtin_popcount(bits)
#define atomicAdd(p, value)      emu::atomic_add(p, value)
#define atomicOr(p, value)       emu::atomic_or(p, value)
#define EMU_TOGETHER(body, mine) emu::warp_together(EMU_SITE, body, mine)

#endif
