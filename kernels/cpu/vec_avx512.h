/* kernels/cpu/vec_avx512.h - the AVX-512 form of vec.h: 16 lanes, AVX-512 F, BW, DQ and VL. Included by vec.h
 * alone; vec_c.h is its copy in plain C. */
#ifndef PHX_KERNELS_CPU_VEC_AVX512_H
#define PHX_KERNELS_CPU_VEC_AVX512_H

#include <immintrin.h>

#define PHX_LANES 16

typedef __m512 phx_vf;

PHX_ALWAYS phx_vf phx_vf_zero(void)
{
    return _mm512_setzero_ps();
}

PHX_ALWAYS phx_vf phx_vf_set(float value)
{
    return _mm512_set1_ps(value);
}

PHX_ALWAYS phx_vf phx_vf_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

PHX_ALWAYS void phx_vf_store(float *p, phx_vf v)
{
    _mm512_storeu_ps(p, v);
}

PHX_ALWAYS phx_vf phx_vf_fma(phx_vf a, phx_vf b, phx_vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}

PHX_ALWAYS phx_vf phx_vf_add(phx_vf a, phx_vf b)
{
    return _mm512_add_ps(a, b);
}

PHX_ALWAYS phx_vf phx_vf_sub(phx_vf a, phx_vf b)
{
    return _mm512_sub_ps(a, b);
}

PHX_ALWAYS phx_vf phx_vf_mul(phx_vf a, phx_vf b)
{
    return _mm512_mul_ps(a, b);
}

PHX_ALWAYS phx_vf phx_vf_div(phx_vf a, phx_vf b)
{
    return _mm512_div_ps(a, b);
}

/* a > b ? a : b */
PHX_ALWAYS phx_vf phx_vf_max(phx_vf a, phx_vf b)
{
    return _mm512_max_ps(a, b);
}

/* a < b ? a : b */
PHX_ALWAYS phx_vf phx_vf_min(phx_vf a, phx_vf b)
{
    return _mm512_min_ps(a, b);
}

/* p * 2^n in two exact factors; n holds whole numbers in -127..128. */
PHX_ALWAYS phx_vf phx_vf_scale_exp2(phx_vf p, phx_vf n)
{
    const __m512i i = _mm512_cvttps_epi32(n);
    const __m512i half = _mm512_srai_epi32(i, 1);
    const __m512i bias = _mm512_set1_epi32(127);
    const __m512i a = _mm512_slli_epi32(_mm512_add_epi32(half, bias), 23);
    const __m512i b = _mm512_slli_epi32(_mm512_add_epi32(_mm512_sub_epi32(i, half), bias), 23);
    return _mm512_mul_ps(_mm512_mul_ps(p, _mm512_castsi512_ps(a)), _mm512_castsi512_ps(b));
}

/* x >= limit ? v : +0 */
PHX_ALWAYS phx_vf phx_vf_zero_below(phx_vf v, phx_vf x, float limit)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, _mm512_set1_ps(limit), _CMP_GE_OQ), v);
}

/* Whether any lane of a is greater than b's. */
PHX_ALWAYS int phx_vf_any_greater(phx_vf a, phx_vf b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ) != 0;
}

PHX_ALWAYS phx_vf phx_vf_load_bf16(const uint16_t *p)
{
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i_u *)(const void *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

PHX_ALWAYS phx_vf phx_vf_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i_u *)(const void *)p));
}

/* Sign extension leaves the sign in bits 7 and up; shifted by 7, bit 14 alone is too much. */
PHX_ALWAYS phx_vf phx_vf_load_fp8(const uint8_t *p)
{
    const __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i_u *)(const void *)p));
    return _mm512_cvtph_ps(_mm256_and_si256(_mm256_slli_epi16(wide, 7), _mm256_set1_epi16((short)0xBF80)));
}

PHX_ALWAYS void phx_vf_load2_fp8(const uint8_t *p, phx_vf ret_v[2])
{
    const __m512i wide = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i_u *)(const void *)p));
    const __m512i half = _mm512_and_si512(_mm512_slli_epi16(wide, 7), _mm512_set1_epi16((short)0xBF80));
    ret_v[0] = _mm512_cvtph_ps(_mm512_castsi512_si256(half));
    ret_v[1] = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(half, 1));
}

/* phx_f32_to_bf16 in every lane. */
PHX_ALWAYS void phx_vf_store_bf16(uint16_t *p, phx_vf v)
{
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i near = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd);
    const __mmask16 is_nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    const __m512i code = _mm512_mask_or_epi32(near, is_nan, bits, _mm512_set1_epi32(0x400000));
    _mm256_storeu_si256((__m256i_u *)(void *)p, _mm512_cvtepi32_epi16(_mm512_srli_epi32(code, 16)));
}

/* Lane i + lane i + 8. */
PHX_ALWAYS __m256 phx_vf_fold(phx_vf v)
{
    return _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
}

PHX_ALWAYS float phx_vf_max_across(phx_vf v)
{
    const __m256 half = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    m = _mm_max_ss(m, _mm_shuffle_ps(m, m, 1));
    return _mm_cvtss_f32(m);
}

/* The sums over lanes of v[0..3], in the order named in vec.h. */
PHX_ALWAYS void phx_vf_sum4(const phx_vf v[4], float ret_sums[4])
{
    const __m256 pairs_01 = _mm256_hadd_ps(phx_vf_fold(v[0]), phx_vf_fold(v[1]));
    const __m256 pairs_23 = _mm256_hadd_ps(phx_vf_fold(v[2]), phx_vf_fold(v[3]));
    const __m256 fours = _mm256_hadd_ps(pairs_01, pairs_23);
    _mm_storeu_ps(ret_sums, _mm_add_ps(_mm256_castps256_ps128(fours), _mm256_extractf128_ps(fours, 1)));
}

PHX_ALWAYS float phx_vf_sum(phx_vf v)
{
    const __m256 half = phx_vf_fold(v);
    const __m256 pairs = _mm256_hadd_ps(half, half);
    const __m256 fours = _mm256_hadd_ps(pairs, pairs);
    return _mm_cvtss_f32(_mm_add_ss(_mm256_castps256_ps128(fours), _mm256_extractf128_ps(fours, 1)));
}

#endif
