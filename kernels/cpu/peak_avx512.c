/* kernels/cpu/peak_avx512.c - the loop of the AVX-512 unit. */
#include <immintrin.h>

#include "kernels/cpu/peak.h"

enum { CHAINS = 24 };

double phx_peak_loop_avx512(int64_t n_rounds)
{
    const __m512 factor = _mm512_set1_ps(0.5f);
    const __m512 term = _mm512_set1_ps(1.0f);
    __m512 acc[CHAINS];
#pragma GCC unroll 24
    for (int i = 0; i < CHAINS; i++)
        acc[i] = _mm512_set1_ps((float)i);
    for (int64_t round = 0; round < n_rounds; round++) {
#pragma GCC unroll 24
        for (int i = 0; i < CHAINS; i++)
            acc[i] = _mm512_fmadd_ps(acc[i], factor, term);
    }
    for (int i = 1; i < CHAINS; i++)
        acc[0] = _mm512_add_ps(acc[0], acc[i]);
    return (double)_mm512_cvtss_f32(acc[0]);
}
