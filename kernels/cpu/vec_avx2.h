/* kernels/cpu/vec_avx2.h - the AVX2 form of vec.h: 8 lanes, AVX2 + FMA + F16C. Included by vec.h alone. */
#ifndef PHX_KERNELS_CPU_VEC_AVX2_H
#define PHX_KERNELS_CPU_VEC_AVX2_H

#include <immintrin.h>

#define PHX_LANES 8

typedef __m256 phx_vf;

PHX_ALWAYS phx_vf phx_vf_zero(void)
{
    return _mm256_setzero_ps();
}

PHX_ALWAYS phx_vf phx_vf_set(float value)
{
    return _mm256_set1_ps(value);
}

PHX_ALWAYS phx_vf phx_vf_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

PHX_ALWAYS void phx_vf_store(float *p, phx_vf v)
{
    _mm256_storeu_ps(p, v);
}

PHX_ALWAYS phx_vf phx_vf_fma(phx_vf a, phx_vf b, phx_vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}

PHX_ALWAYS phx_vf phx_vf_add(phx_vf a, phx_vf b)
{
    return _mm256_add_ps(a, b);
}

PHX_ALWAYS phx_vf phx_vf_sub(phx_vf a, phx_vf b)
{
    return _mm256_sub_ps(a, b);
}

PHX_ALWAYS phx_vf phx_vf_mul(phx_vf a, phx_vf b)
{
    return _mm256_mul_ps(a, b);
}

PHX_ALWAYS phx_vf phx_vf_div(phx_vf a, phx_vf b)
{
    return _mm256_div_ps(a, b);
}

/* a > b ? a : b */
PHX_ALWAYS phx_vf phx_vf_max(phx_vf a, phx_vf b)
{
    return _mm256_max_ps(a, b);
}

/* a < b ? a : b */
PHX_ALWAYS phx_vf phx_vf_min(phx_vf a, phx_vf b)
{
    return _mm256_min_ps(a, b);
}

/* p * 2^n in two exact factors; n holds whole numbers in -127..128. */
PHX_ALWAYS phx_vf phx_vf_scale_exp2(phx_vf p, phx_vf n)
{
    const __m256i i = _mm256_cvttps_epi32(n);
    const __m256i half = _mm256_srai_epi32(i, 1);
    const __m256i bias = _mm256_set1_epi32(127);
    const __m256i a = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    const __m256i b = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(i, half), bias), 23);
    return _mm256_mul_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(a)), _mm256_castsi256_ps(b));
}

/* x >= limit ? v : +0 */
PHX_ALWAYS phx_vf phx_vf_zero_below(phx_vf v, phx_vf x, float limit)
{
    return _mm256_and_ps(v, _mm256_cmp_ps(x, _mm256_set1_ps(limit), _CMP_GE_OQ));
}

/* Whether any lane of a is greater than b's. */
PHX_ALWAYS int phx_vf_any_greater(phx_vf a, phx_vf b)
{
    return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ));
}

PHX_ALWAYS phx_vf phx_vf_load_bf16(const uint16_t *p)
{
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i_u *)(const void *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

PHX_ALWAYS phx_vf phx_vf_load_f16(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i_u *)(const void *)p));
}

/* Sign extension leaves the sign in bits 7 and up; shifted by 7, bit 14 alone is too much. */
PHX_ALWAYS phx_vf phx_vf_load_fp8(const uint8_t *p)
{
    const __m128i wide = _mm_cvtepi8_epi16(_mm_loadu_si64(p));
    return _mm256_cvtph_ps(_mm_and_si128(_mm_slli_epi16(wide, 7), _mm_set1_epi16((short)0xBF80)));
}

PHX_ALWAYS void phx_vf_load2_fp8(const uint8_t *p, phx_vf ret_v[2])
{
    const __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i_u *)(const void *)p));
    const __m256i half = _mm256_and_si256(_mm256_slli_epi16(wide, 7), _mm256_set1_epi16((short)0xBF80));
    ret_v[0] = _mm256_cvtph_ps(_mm256_castsi256_si128(half));
    ret_v[1] = _mm256_cvtph_ps(_mm256_extracti128_si256(half, 1));
}

/* A code's bits alone, moved to where f32 has them, are the value times 2^-120; its exponent bias and the
 * small ones fall out of the format. That would leave products near the end of f32, so the activations come
 * times 2^88. Only multiplied by fma. Byte j of each 32-bit word goes to vector j: then no byte crosses lanes
 * and four vectors cost one load, five shifts and four masks (measured on Zen 3 at 1.5 times the speed of
 * sign extension, which was 1.5 times the speed of going through f16). */
#define PHX_FP8_ROW_X      0x1p88f
#define PHX_FP8_ROW_FACTOR 0x1p32f

PHX_ALWAYS void phx_vf_load4_fp8_row(const uint8_t *p, phx_vf ret_v[4])
{
    const __m256i mask = _mm256_set1_epi32((int)0x87F00000);
    const __m256i codes = _mm256_loadu_si256((const __m256i_u *)(const void *)p);
    const __m256i odd = _mm256_srai_epi16(codes, 4);
    const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(codes, 8), 4);
    ret_v[0] = _mm256_castsi256_ps(_mm256_and_si256(_mm256_slli_epi32(even, 16), mask));
    ret_v[1] = _mm256_castsi256_ps(_mm256_and_si256(_mm256_slli_epi32(odd, 16), mask));
    ret_v[2] = _mm256_castsi256_ps(_mm256_and_si256(even, mask));
    ret_v[3] = _mm256_castsi256_ps(_mm256_and_si256(odd, mask));
}

PHX_ALWAYS phx_vf phx_vf_load_fp8_row(const uint8_t *p)
{
    const __m256i wide = _mm256_slli_epi32(_mm256_cvtepi8_epi32(_mm_loadu_si64(p)), 20);
    return _mm256_castsi256_ps(_mm256_and_si256(wide, _mm256_set1_epi32((int)0x87F00000)));
}

/* 4 * PHX_LANES activations, v[0] first, in the order in which phx_vf_load4_fp8_row gives codes: lane i of
 * ret_v[j] is number 4 * i + j. */
PHX_ALWAYS void phx_vf_row_order(const phx_vf v[4], phx_vf ret_v[4])
{
    const __m256 a = _mm256_permute2f128_ps(v[0], v[2], 0x20), b = _mm256_permute2f128_ps(v[0], v[2], 0x31);
    const __m256 c = _mm256_permute2f128_ps(v[1], v[3], 0x20), d = _mm256_permute2f128_ps(v[1], v[3], 0x31);
    const __m256 ab_01 = _mm256_unpacklo_ps(a, b), ab_23 = _mm256_unpackhi_ps(a, b);
    const __m256 cd_01 = _mm256_unpacklo_ps(c, d), cd_23 = _mm256_unpackhi_ps(c, d);
    ret_v[0] = _mm256_shuffle_ps(ab_01, cd_01, 0x44);
    ret_v[1] = _mm256_shuffle_ps(ab_01, cd_01, 0xEE);
    ret_v[2] = _mm256_shuffle_ps(ab_23, cd_23, 0x44);
    ret_v[3] = _mm256_shuffle_ps(ab_23, cd_23, 0xEE);
}

/* The way back. */
PHX_ALWAYS void phx_vf_row_unorder(const phx_vf v[4], phx_vf ret_v[4])
{
    const __m256 ab_lo = _mm256_unpacklo_ps(v[0], v[1]), ab_hi = _mm256_unpackhi_ps(v[0], v[1]);
    const __m256 cd_lo = _mm256_unpacklo_ps(v[2], v[3]), cd_hi = _mm256_unpackhi_ps(v[2], v[3]);
    const __m256 fours_04 = _mm256_shuffle_ps(ab_lo, cd_lo, 0x44);
    const __m256 fours_15 = _mm256_shuffle_ps(ab_lo, cd_lo, 0xEE);
    const __m256 fours_26 = _mm256_shuffle_ps(ab_hi, cd_hi, 0x44);
    const __m256 fours_37 = _mm256_shuffle_ps(ab_hi, cd_hi, 0xEE);
    ret_v[0] = _mm256_permute2f128_ps(fours_04, fours_15, 0x20);
    ret_v[1] = _mm256_permute2f128_ps(fours_26, fours_37, 0x20);
    ret_v[2] = _mm256_permute2f128_ps(fours_04, fours_15, 0x31);
    ret_v[3] = _mm256_permute2f128_ps(fours_26, fours_37, 0x31);
}

/* phx_f32_to_bf16 in every lane. */
PHX_ALWAYS void phx_vf_store_bf16(uint16_t *p, phx_vf v)
{
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i near = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd);
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256i code = _mm256_srli_epi32(_mm256_blendv_epi8(near, quiet, is_nan), 16);
    const __m128i packed = _mm_packus_epi32(_mm256_castsi256_si128(code), _mm256_extracti128_si256(code, 1));
    _mm_storeu_si128((__m128i_u *)(void *)p, packed);
}

PHX_ALWAYS float phx_vf_max_across(phx_vf v)
{
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    m = _mm_max_ss(m, _mm_shuffle_ps(m, m, 1));
    return _mm_cvtss_f32(m);
}

/* hadd; what the instruction does takes a third fewer steps when written out (measured on Zen 3). */
PHX_ALWAYS phx_vf phx_vf_add_pairs(phx_vf a, phx_vf b)
{
    return _mm256_add_ps(_mm256_shuffle_ps(a, b, 0x88), _mm256_shuffle_ps(a, b, 0xDD));
}

/* The sums over lanes of v[0..3], in the order named in vec.h. */
PHX_ALWAYS void phx_vf_sum4(const phx_vf v[4], float ret_sums[4])
{
    const __m256 pairs_01 = phx_vf_add_pairs(v[0], v[1]);
    const __m256 pairs_23 = phx_vf_add_pairs(v[2], v[3]);
    const __m256 fours = phx_vf_add_pairs(pairs_01, pairs_23);
    _mm_storeu_ps(ret_sums, _mm_add_ps(_mm256_castps256_ps128(fours), _mm256_extractf128_ps(fours, 1)));
}

/* The same for v[0..7]. */
PHX_ALWAYS void phx_vf_sum8(const phx_vf v[8], float ret_sums[8])
{
    const __m256 a = phx_vf_add_pairs(phx_vf_add_pairs(v[0], v[1]), phx_vf_add_pairs(v[2], v[3]));
    const __m256 b = phx_vf_add_pairs(phx_vf_add_pairs(v[4], v[5]), phx_vf_add_pairs(v[6], v[7]));
    const __m256 low = _mm256_permute2f128_ps(a, b, 0x20);
    const __m256 high = _mm256_permute2f128_ps(a, b, 0x31);
    _mm256_storeu_ps(ret_sums, _mm256_add_ps(low, high));
}

PHX_ALWAYS float phx_vf_sum(phx_vf v)
{
    const __m256 pairs = _mm256_hadd_ps(v, v);
    const __m256 fours = _mm256_hadd_ps(pairs, pairs);
    return _mm_cvtss_f32(_mm_add_ss(_mm256_castps256_ps128(fours), _mm256_extractf128_ps(fours, 1)));
}

#endif
