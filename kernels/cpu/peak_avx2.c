/* kernels/cpu/peak_avx2.c - the loops of the AVX2 unit: twelve chains hide the latency of any chip. */
#include <immintrin.h>

#include "kernels/cpu/peak.h"

enum { CHAINS = 12, LANES = 8 };

double phx_peak_loop_avx2(int64_t n_rounds)
{
    const __m256 factor = _mm256_set1_ps(0.5f);
    const __m256 term = _mm256_set1_ps(1.0f);
    __m256 acc[CHAINS];
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++)
        acc[i] = _mm256_set1_ps((float)i);
    for (int64_t round = 0; round < n_rounds; round++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++)
            acc[i] = _mm256_fmadd_ps(acc[i], factor, term);
    }
    float lanes[LANES];
    for (int i = 1; i < CHAINS; i++)
        acc[0] = _mm256_add_ps(acc[0], acc[i]);
    _mm256_storeu_ps(lanes, acc[0]);
    return (double)lanes[0];
}

uint64_t phx_peak_sum_avx2(const void *data, size_t n_bytes)
{
    enum { STEP = 8 };
    const __m256i *words = data;
    const size_t n = n_bytes / sizeof(*words);
    __m256i acc[STEP];
#pragma GCC unroll 8
    for (int i = 0; i < STEP; i++)
        acc[i] = _mm256_setzero_si256();
    for (size_t at = 0; at < n; at += STEP) {
#pragma GCC unroll 8
        for (size_t i = 0; i < STEP; i++)
            acc[i] = _mm256_add_epi64(acc[i], _mm256_loadu_si256(words + at + i));
    }
    uint64_t lanes[4];
    for (int i = 1; i < STEP; i++)
        acc[0] = _mm256_add_epi64(acc[0], acc[i]);
    _mm256_storeu_si256((__m256i *)(void *)lanes, acc[0]);
    return lanes[0] + lanes[1] + lanes[2] + lanes[3];
}
