/* kernels/cpu/peak.h - what this machine can do at best: the rate of each unit that multiplies, and the rate
 * at which memory is read. The denominators of every "fraction of the limit" that Phalanx prints.
 * Owns: the table of units, the loops that exercise them. Not here: real kernels and their shapes. */
#ifndef PHX_KERNELS_CPU_PEAK_H
#define PHX_KERNELS_CPU_PEAK_H

#include "kernels/ops.h"

/* unit, name, operations per round of its loop (a multiplication and an addition count as two) */
#define PHX_PEAKS(X)                                        \
    X(PHX_PEAK_SCALAR, "scalar f64", 12 * 2)                \
    X(PHX_PEAK_AVX2, "avx2 f32 fma", 12 * 8 * 2)            \
    X(PHX_PEAK_AVX512, "avx512 f32 fma", 24 * 16 * 2)       \
    X(PHX_PEAK_AVX512_BF16, "avx512_bf16 dot", 24 * 32 * 2) \
    X(PHX_PEAK_AVX512_VNNI, "avx512_vnni int8 dot", 24 * 64 * 2)

typedef enum phx_peak {
#define X(unit, name, ops) unit,
    PHX_PEAKS(X)
#undef X
        PHX_PEAK_COUNT
} phx_peak;

const char *phx_peak_name(phx_peak unit);

/* By cpuid; a unit that is absent must not be measured. */
bool phx_peak_present(phx_peak unit);

/* The unit whose rate bounds the products of a level. */
phx_peak phx_peak_of_level(phx_level level);

/* Operations per second of all threads of the pool together, in registers only: the best of many short
 * rounds, under a second in all. */
double phx_peak_measure(phx_pool *pool, phx_peak unit);

typedef struct phx_peak_reading { /* bytes per second */
    double best;                  /* of the best window */
    double sustained;             /* of all passes together: what other programs leave */
} phx_peak_reading;

/* How fast all threads of the pool together read n_bytes (a multiple of 1 MiB, 64-byte aligned, already
 * touched), n_rounds times. The buffer must be larger than the last cache, so that no window is still there
 * when its turn comes again. */
phx_peak_reading phx_peak_read(phx_pool *pool, const void *buffer, size_t n_bytes, uint32_t n_rounds);

/* Bytes of a buffer for phx_peak_read: 4 times the last cache, at least 256 MiB. */
size_t phx_peak_read_bytes(void);

/* The loops of each unit: n_rounds rounds. They live in files with the unit's own flags. The returned number
 * depends on every accumulator, so that none can be left out. */
typedef double phx_peak_loop(int64_t n_rounds);
phx_peak_loop phx_peak_loop_scalar;
phx_peak_loop phx_peak_loop_avx2;
phx_peak_loop phx_peak_loop_avx512;
phx_peak_loop phx_peak_loop_avx512_bf16;
phx_peak_loop phx_peak_loop_avx512_vnni;

/* Sum of n_bytes (a multiple of 1 KiB) as words. */
typedef uint64_t phx_peak_sum(const void *data, size_t n_bytes);
phx_peak_sum phx_peak_sum_scalar;
phx_peak_sum phx_peak_sum_avx2;

#endif
