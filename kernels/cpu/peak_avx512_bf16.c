/* kernels/cpu/peak_avx512_bf16.c - the loop of AVX512_BF16's dot products. */
#include <immintrin.h>

#include "kernels/cpu/peak.h"

enum { CHAINS = 24 };

double phx_peak_loop_avx512_bf16(int64_t n_rounds)
{
    const __m512bh a = (__m512bh)_mm512_set1_epi16(0x3F80); /* ones */
    const __m512bh b = a;
    __m512 acc[CHAINS];
#pragma GCC unroll 24
    for (int i = 0; i < CHAINS; i++)
        acc[i] = _mm512_set1_ps((float)i);
    for (int64_t round = 0; round < n_rounds; round++) {
#pragma GCC unroll 24
        for (int i = 0; i < CHAINS; i++)
            acc[i] = _mm512_dpbf16_ps(acc[i], a, b);
    }
    for (int i = 1; i < CHAINS; i++)
        acc[0] = _mm512_add_ps(acc[0], acc[i]);
    return (double)_mm512_cvtss_f32(acc[0]);
}
