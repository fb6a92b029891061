/* kernels/cpu/peak.c - what this machine can do at best.
 * Owns: which units the machine has, timing. The loops are in peak_*.c. */
#include "kernels/cpu/peak.h"

#include <assert.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/clock.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

/* Many short timings, the best counts: a core that is shared with others is ours for moments only. */
#define ROUND_US         3000u
#define N_ROUNDS         200
#define ITEMS_PER_THREAD 8 /* items that a faster thread can take over */
#define READ_ITEM_BYTES  ((size_t)1 << 20)
#define READ_BYTES_MIN   ((size_t)256 << 20)
#define READ_WINDOW_MIN  64 /* items of one timing */

static const char *const names[PHX_PEAK_COUNT] = {
#define X(unit, name, ops) [unit] = name,
    PHX_PEAKS(X)
#undef X
};

static const double ops_per_round[PHX_PEAK_COUNT] = {
#define X(unit, name, ops) [unit] = ops,
    PHX_PEAKS(X)
#undef X
};

static phx_peak_loop *const loops[PHX_PEAK_COUNT] = {
    [PHX_PEAK_SCALAR] = phx_peak_loop_scalar,
#if defined(__x86_64__)
    [PHX_PEAK_AVX2] = phx_peak_loop_avx2,
    [PHX_PEAK_AVX512] = phx_peak_loop_avx512,
    [PHX_PEAK_AVX512_BF16] = phx_peak_loop_avx512_bf16,
    [PHX_PEAK_AVX512_VNNI] = phx_peak_loop_avx512_vnni,
#endif
};

const char *phx_peak_name(phx_peak unit)
{
    assert(unit < PHX_PEAK_COUNT);
    return names[unit];
}

phx_peak phx_peak_of_level(phx_level level)
{
    static const phx_peak of_level[PHX_LEVEL_COUNT] = {
        [PHX_LEVEL_REF] = PHX_PEAK_SCALAR,
        [PHX_LEVEL_AVX2] = PHX_PEAK_AVX2,
        [PHX_LEVEL_AVX512] = PHX_PEAK_AVX512,
    };
    assert(level < PHX_LEVEL_COUNT);
    return of_level[level];
}

#if defined(__x86_64__)

/* Bits of leaf 7: subleaf 0 ecx, subleaf 1 eax. */
#define CPUID_7_0_AVX512_VNNI (1u << 11)
#define CPUID_7_1_AVX512_BF16 (1u << 5)

bool phx_peak_present(phx_peak unit)
{
    const phx_level level = phx_level_of_machine();
    uint32_t a;
    uint32_t b;
    uint32_t c;
    uint32_t d;
    switch (unit) {
    case PHX_PEAK_SCALAR:
        return true;
    case PHX_PEAK_AVX2:
        return level >= PHX_LEVEL_AVX2;
    case PHX_PEAK_AVX512:
        return level >= PHX_LEVEL_AVX512;
    case PHX_PEAK_AVX512_BF16:
        return level >= PHX_LEVEL_AVX512 && __get_cpuid_count(7, 1, &a, &b, &c, &d) &&
               (a & CPUID_7_1_AVX512_BF16) != 0;
    case PHX_PEAK_AVX512_VNNI:
        return level >= PHX_LEVEL_AVX512 && __get_cpuid_count(7, 0, &a, &b, &c, &d) &&
               (c & CPUID_7_0_AVX512_VNNI) != 0;
    case PHX_PEAK_COUNT:
        break;
    }
    return false;
}

#else

bool phx_peak_present(phx_peak unit)
{
    return unit == PHX_PEAK_SCALAR;
}

#endif

typedef struct peak_work {
    phx_peak_loop *loop;
    int64_t n_rounds;
    _Atomic uint64_t sink; /* takes every result, so that no loop is idle in the compiler's eyes */
} peak_work;

static void peak_item(void *user, int64_t item, void *scratch)
{
    (void)scratch;
    peak_work *work = user;
    const double result = work->loop(work->n_rounds);
    atomic_fetch_add_explicit(&work->sink, (uint64_t)(result != 0.0) + (uint64_t)item, memory_order_relaxed);
}

double phx_peak_measure(phx_pool *pool, phx_peak unit)
{
    assert(phx_peak_present(unit));
    const int64_t n_items = (int64_t)phx_pool_n_threads(pool) * ITEMS_PER_THREAD;
    peak_work work = {.loop = loops[unit], .n_rounds = 1000};
    double best = 0.0;
    for (int round = 0; round < N_ROUNDS;) {
        const uint64_t start = phx_clock_us();
        phx_pool_run(pool, n_items, peak_item, &work);
        const uint64_t us = phx_clock_us() - start;
        if (us < ROUND_US / 2) { /* too short to time: no result, a longer loop */
            work.n_rounds *= us < ROUND_US / 16 ? 8 : 2;
            continue;
        }
        const double rate = ops_per_round[unit] * (double)work.n_rounds * (double)n_items / (double)us * 1e6;
        best = rate > best ? rate : best;
        round++;
    }
    return best;
}

typedef struct read_work {
    const uint8_t *data;
    phx_peak_sum *sum;
    _Atomic uint64_t sink;
} read_work;

static void read_item(void *user, int64_t item, void *scratch)
{
    (void)scratch;
    read_work *work = user;
    const uint64_t sum = work->sum(work->data + (size_t)item * READ_ITEM_BYTES, READ_ITEM_BYTES);
    atomic_fetch_add_explicit(&work->sink, sum, memory_order_relaxed);
}

phx_peak_reading phx_peak_read(phx_pool *pool, const void *buffer, size_t n_bytes, uint32_t n_rounds)
{
    assert(n_bytes > 0);
    assert(n_bytes % READ_ITEM_BYTES == 0);
    const size_t n_items = n_bytes / READ_ITEM_BYTES;
    const size_t wanted = (size_t)phx_pool_n_threads(pool) * READ_WINDOW_MIN / 2;
    const size_t window = wanted > READ_WINDOW_MIN ? wanted : READ_WINDOW_MIN;
    read_work work = {.sum = phx_peak_sum_scalar};
#if defined(__x86_64__)
    if (phx_peak_present(PHX_PEAK_AVX2))
        work.sum = phx_peak_sum_avx2;
#endif
    double best = 0.0;
    const uint64_t begin = phx_clock_us();
    for (size_t at = 0; at < n_items * n_rounds;) {
        const size_t first = at % n_items;
        const size_t n = n_items - first < window ? n_items - first : window;
        work.data = (const uint8_t *)buffer + first * READ_ITEM_BYTES;
        const uint64_t start = phx_clock_us();
        phx_pool_run(pool, (int64_t)n, read_item, &work);
        const uint64_t us = phx_clock_us() - start;
        const double rate = us > 0 ? (double)(n * READ_ITEM_BYTES) / (double)us * 1e6 : 0.0;
        best = rate > best && (n == window || n == n_items) ? rate : best;
        at += n;
    }
    const double seconds = (double)(phx_clock_us() - begin) * 1e-6;
    const double all = (double)n_bytes * n_rounds;
    return (phx_peak_reading){.best = best, .sustained = seconds > 0 ? all / seconds : best};
}

size_t phx_peak_read_bytes(void)
{
    const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    const size_t wanted = cache > 0 ? (size_t)cache * 4 : 0;
    const size_t bytes = wanted > READ_BYTES_MIN ? wanted : READ_BYTES_MIN;
    return (bytes + READ_ITEM_BYTES - 1) / READ_ITEM_BYTES * READ_ITEM_BYTES;
}
