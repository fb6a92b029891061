/* kernels/cpu/peak_avx512_vnni.c - the loop of AVX512_VNNI's dot products. */
#include <immintrin.h>

#include "kernels/cpu/peak.h"

enum { CHAINS = 24 };

double phx_peak_loop_avx512_vnni(int64_t n_rounds)
{
    const __m512i a = _mm512_set1_epi8(1);
    const __m512i b = a;
    __m512i acc[CHAINS];
#pragma GCC unroll 24
    for (int i = 0; i < CHAINS; i++)
        acc[i] = _mm512_set1_epi32(i);
    for (int64_t round = 0; round < n_rounds; round++) {
#pragma GCC unroll 24
        for (int i = 0; i < CHAINS; i++)
            acc[i] = _mm512_dpbusd_epi32(acc[i], a, b);
    }
    for (int i = 1; i < CHAINS; i++)
        acc[0] = _mm512_add_epi32(acc[0], acc[i]);
    return (double)_mm_cvtsi128_si32(_mm512_castsi512_si128(acc[0]));
}
