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

/* The value of one lane, and of the lane `distance` below (mine where there is none). */
PHX_DEVICE int32_t phx_shfl(int32_t value, int lane)
{
    return __shfl_sync(PHX_ALL_LANES, value, lane);
}

PHX_DEVICE int32_t phx_shfl_up(int32_t value, int distance)
{
    const int lane = (int)phx_lane() - distance;
    return __shfl_sync(PHX_ALL_LANES, value, lane < 0 ? (int)phx_lane() : lane);
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

/* How many lanes below mine voted. */
PHX_DEVICE int64_t phx_votes_below(uint32_t votes)
{
    return phx_count_bits(votes & ((1u << phx_lane()) - 1u));
}

/* Sixteen bytes in registers. */
typedef struct alignas(16) phx_16 {
    uint32_t word[4];
} phx_16;

typedef struct alignas(8) phx_8 {
    uint32_t word[2];
} phx_8;

/* From an aligned address in global memory that nothing writes during the launch: read once, so that it takes
 * no room in L1. */
PHX_DEVICE phx_16 phx_load16_stream(const void *p)
{
    phx_16 x;
#if defined(PHX_EMU)
    x = *(const phx_16 *)p;
#else
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x.word[0]), "=r"(x.word[1]), "=r"(x.word[2]), "=r"(x.word[3])
                 : "l"(p));
#endif
    return x;
}

/* From offset bytes into shared memory, a multiple of 16. */
PHX_DEVICE phx_16 phx_load16_shared(phx_shared<uint8_t> from, int64_t offset)
{
#if defined(PHX_EMU)
    (void)from[offset + 15];
#endif
    return *(const phx_16 *)&from[offset];
}

/* From offset bytes into shared memory, a multiple of 4. */
PHX_DEVICE uint32_t phx_load4_shared(phx_shared<uint8_t> from, int64_t offset)
{
#if defined(PHX_EMU)
    (void)from[offset + 3];
#endif
    return *(const uint32_t *)&from[offset];
}

/* Starts a copy of 16 aligned bytes from global memory to offset bytes into shared memory, past L1. Copies
 * belong to the group that the next phx_copy_commit of this thread closes. C: the copy happens as late as the
 * waiting allows. */
PHX_DEVICE void phx_copy16_async(phx_shared<uint8_t> to, int64_t offset, const void *from)
{
#if defined(PHX_EMU)
    (void)to[offset + 15];
    emu::copy_later(&to[offset], from);
#else
    const unsigned at = (unsigned)__cvta_generic_to_shared(to + offset);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" : : "r"(at), "l"(from) : "memory");
#endif
}

PHX_DEVICE void phx_copy_commit(void)
{
#if defined(PHX_EMU)
    emu::copy_commit();
#else
    asm volatile("cp.async.commit_group;" : : : "memory");
#endif
}

/* Until at most N_PENDING groups of this thread are under way. Other threads see the bytes after a barrier.
 */
template <int N_PENDING> PHX_DEVICE void phx_copy_wait(void)
{
#if defined(PHX_EMU)
    emu::copy_wait(N_PENDING);
#else
    asm volatile("cp.async.wait_group %0;" : : "n"(N_PENDING) : "memory");
#endif
}

#if defined(PHX_EMU)
typedef struct phx_matrix_lane {
    phx_16 row;
    uint32_t *d;
} phx_matrix_lane;

void phx_load_matrices_trans_c(void *const *lanes); /* tests/emu/mma.cpp */
#endif

/* Four matrices [8][8] of 16-bit numbers, transposed: lane 8 i + r gives row r of matrix i, as
 * phx_load16_shared does; d[i] holds rows 2 at and 2 at + 1 of column group of matrix i (at and group:
 * phx_mma_bf16). */
PHX_DEVICE void phx_load_matrices_trans(phx_shared<uint8_t> from, int64_t offset, uint32_t *d)
{
#if defined(PHX_EMU)
    phx_matrix_lane mine = {phx_load16_shared(from, offset), d};
    EMU_TOGETHER(phx_load_matrices_trans_c, &mine);
#else
    const unsigned at = (unsigned)__cvta_generic_to_shared(from + offset);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"(at)
                 : "memory");
#endif
}

/* Two finite numbers rounded to the nearest bf16, ties to even; low is the first in memory. */
PHX_DEVICE uint32_t phx_round_bf16x2(float low, float high)
{
#if defined(PHX_EMU)
    return (uint32_t)phx_f32_to_bf16(high) << 16 | phx_f32_to_bf16(low);
#else
    uint32_t d;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(high), "f"(low));
    return d;
#endif
}

/* Two bf16 numbers times two, rounded to the nearest. C: the product of two bf16 is exact in f32. */
PHX_DEVICE uint32_t phx_mul_bf16x2(uint32_t a, uint32_t b)
{
#if defined(PHX_EMU)
    const float low = phx_bf16_to_f32((uint16_t)a) * phx_bf16_to_f32((uint16_t)b);
    const float high = phx_bf16_to_f32((uint16_t)(a >> 16)) * phx_bf16_to_f32((uint16_t)(b >> 16));
    return (uint32_t)phx_f32_to_bf16(high) << 16 | phx_f32_to_bf16(low);
#else
    uint32_t d;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(0x80008000u)); /* + -0: exact */
    return d;
#endif
}

/* Two bf16 numbers plus two, rounded to the nearest. C: of whole numbers below 256, so exact. */
PHX_DEVICE uint32_t phx_add_bf16x2(uint32_t a, uint32_t b)
{
#if defined(PHX_EMU)
    const float low = phx_bf16_to_f32((uint16_t)a) + phx_bf16_to_f32((uint16_t)b);
    const float high = phx_bf16_to_f32((uint16_t)(a >> 16)) + phx_bf16_to_f32((uint16_t)(b >> 16));
    return (uint32_t)phx_f32_to_bf16(high) << 16 | phx_f32_to_bf16(low);
#else
    uint32_t d;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(0x3F803F80u), "r"(b)); /* a * 1 + b */
    return d;
#endif
}

/* Bytes of (b, a), b the higher: byte i of the result is the one that nibble i of selector numbers. */
PHX_DEVICE uint32_t phx_choose_bytes(uint32_t a, uint32_t b, uint32_t selector)
{
#if defined(PHX_EMU)
    const uint64_t bytes = (uint64_t)b << 32 | a;
    uint32_t d = 0;
    for (uint32_t i = 0; i < 4; i++)
        d |= (uint32_t)(bytes >> 8 * (selector >> 4 * i & 7u) & 0xFFu) << 8 * i;
    return d;
#else
    return __byte_perm(a, b, selector);
#endif
}

/* About 2^x, to 2^-22 of it; 0 where that would be subnormal. Only where bits need not agree between levels.
 * C: of libm. */
PHX_DEVICE float phx_exp2_near(float x)
{
#if defined(PHX_EMU)
    return x < -126.0f ? 0.0f : exp2f(x);
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

#if defined(PHX_EMU)
typedef struct phx_mma_lane {
    const uint32_t *a;
    const uint32_t *b;
    float *d;
} phx_mma_lane;

void phx_mma_bf16_c(void *const *lanes); /* tests/emu/mma.cpp */
#endif

/* d += a * b for a [16][16] and b [16][8] of bf16, d [16][8] of f32. With group = lane / 4, at = lane % 4:
 * a[0], a[2]: row group, columns 2 at, 2 at + 1 and 8 more; a[1], a[3]: row group + 8;
 * b[0], b[1]: column group, rows 2 at, 2 at + 1 and 8 more; d[0], d[1]: row group, columns 2 at and 2 at + 1;
 * d[2], d[3]: row group + 8.
 * How a chip adds is not documented. C: products exact, all 17 terms cut to 25 bits below the largest, added,
 * cut to f32: what measurements of Hopper are reported to show, and no better than older chips. */
PHX_DEVICE void phx_mma_bf16(float *d, const uint32_t *a, const uint32_t *b)
{
#if defined(PHX_EMU)
    phx_mma_lane mine = {a, b, d};
    EMU_TOGETHER(phx_mma_bf16_c, &mine);
#else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

/* *p += value as one step, for counts; sums of integers do not depend on the order. */
PHX_DEVICE void phx_atomic_add(int32_t *p, int32_t value)
{
    atomicAdd(p, value);
}

/* *p |= value as one step. */
PHX_DEVICE void phx_atomic_or(uint32_t *p, uint32_t value)
{
    atomicOr(p, value);
}

/* One more, and how many there were before: for counts of blocks in global memory. */
PHX_DEVICE int32_t phx_atomic_count(int32_t *p)
{
    return atomicAdd(p, 1);
}

/* ---- between devices ---- */

/* A flag goes up, in the memory of whatever device. Who sees it by phx_load_acquire also sees what this
 * thread wrote before, and what other threads of its block wrote before a barrier. */
PHX_DEVICE void phx_store_release(uint64_t *flag, uint64_t value)
{
#if defined(PHX_EMU)
    emu::store_release(flag, value);
#else
    asm volatile("st.release.sys.global.u64 [%0], %1;" : : "l"(flag), "l"(value) : "memory");
#endif
}

PHX_DEVICE uint64_t phx_load_acquire(const uint64_t *flag)
{
#if defined(PHX_EMU)
    return emu::load_acquire(flag);
#else
    uint64_t value;
    asm volatile("ld.acquire.sys.global.u64 %0, [%1];" : "=l"(value) : "l"(flag) : "memory");
    return value;
#endif
}

/* A word that the host may change meanwhile. Orders nothing. */
PHX_DEVICE uint32_t phx_load_host(const uint32_t *word)
{
#if defined(PHX_EMU)
    return emu::load_host(word);
#else
    uint32_t value;
    asm volatile("ld.relaxed.sys.u32 %0, [%1];" : "=r"(value) : "l"(word) : "memory");
    return value;
#endif
}

/* Between two looks at a flag. A chip needs nothing; the emulator lets other threads and processes go on. */
PHX_DEVICE void phx_pause(void)
{
#if defined(PHX_EMU)
    emu::pause();
#endif
}

/* Orders the memory of the warp's lanes. */
PHX_DEVICE void phx_warp_sync(void)
{
    __syncwarp(PHX_ALL_LANES);
}

#if !defined(PHX_EMU)
/* The device's clock; it goes on in steps of up to a microsecond. */
PHX_DEVICE uint64_t phx_clock_ns(void)
{
    uint64_t ns;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(ns));
    return ns;
}
#endif

#endif
