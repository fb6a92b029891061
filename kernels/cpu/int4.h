/* kernels/cpu/int4.h - how int4-g32 weights meet activations: blocks of PHX_INT4_COLS columns, in which lane
 * l of vector i (0..7) is column 8 * l + i. So a 32-bit word of the stored row is one lane, and four lanes
 * are a group with one scale. Owns: widening such a block, its scales, and the same order for activations.
 * Not here: sums (dots_int4.c). */
#ifndef PHX_KERNELS_CPU_INT4_H
#define PHX_KERNELS_CPU_INT4_H

#include "kernels/cpu/vec.h"

#define PHX_INT4_COLS   (8 * PHX_LANES)
#define PHX_INT4_BYTES  (PHX_INT4_COLS / 2) /* of a block's weights */
#define PHX_INT4_GROUPS (PHX_INT4_COLS / PHX_INT4_GROUP)

#if PHX_CPU_FORM == 2

/* Numbers stay where they lie in their word, under the exponent of 2^23: a mask and a subtraction make
 * (number - 8) * 16^i of them. The activations come times 16^-i. Bits 20 and up are moved down first. */
typedef struct phx_int4 {
    __m256i words[2];
} phx_int4;

#define PHX_INT4_PLACE(i) ((i) < 5 ? (i) : (i)-5)

PHX_ALWAYS float phx_int4_factor(int i)
{
    return 1.0f / (float)(1 << 4 * PHX_INT4_PLACE(i));
}

PHX_ALWAYS phx_int4 phx_int4_load(const uint8_t *p)
{
    const __m256i words = _mm256_loadu_si256((const __m256i_u *)(const void *)p);
    const __m256i exponent = _mm256_set1_epi32(0x4B000000);
    const __m256i low = _mm256_and_si256(words, _mm256_set1_epi32(0xFFFFF));
    return (phx_int4){
        {_mm256_or_si256(low, exponent), _mm256_or_si256(_mm256_srli_epi32(words, 20), exponent)}};
}

PHX_ALWAYS phx_vf phx_int4_vector(phx_int4 block, int i)
{
    const int shift = 4 * PHX_INT4_PLACE(i);
    const __m256i mask = _mm256_set1_epi32((int)(0x7F800000u | 0xFu << shift));
    const __m256i number = _mm256_and_si256(block.words[i / 5], mask);
    return _mm256_sub_ps(_mm256_castsi256_ps(number), _mm256_set1_ps(0x1p23f + (float)(8 << shift)));
}

/* The scale of each lane's group. */
PHX_ALWAYS phx_vf phx_int4_scales(const uint16_t *scales)
{
    int32_t two;
    memcpy(&two, scales, sizeof(two));
    const __m256i shifts = _mm256_setr_epi32(16, 16, 16, 16, 0, 0, 0, 0);
    const __m256i moved = _mm256_sllv_epi32(_mm256_set1_epi32(two), shifts);
    return _mm256_castsi256_ps(_mm256_and_si256(moved, _mm256_set1_epi32((int)0xFFFF0000)));
}

#elif PHX_CPU_FORM == 512

typedef __m512i phx_int4;

PHX_ALWAYS float phx_int4_factor(int i)
{
    (void)i;
    return 1.0f;
}

PHX_ALWAYS phx_int4 phx_int4_load(const uint8_t *p)
{
    return _mm512_loadu_si512((const void *)p);
}

PHX_ALWAYS phx_vf phx_int4_vector(phx_int4 block, int i)
{
    const __m512 numbers = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    return _mm512_permutexvar_ps(_mm512_srli_epi32(block, (unsigned)(4 * i)), numbers);
}

PHX_ALWAYS phx_vf phx_int4_scales(const uint16_t *scales)
{
    const __m128i four = _mm_slli_epi32(_mm_cvtepu16_epi32(_mm_loadu_si64(scales)), 16);
    const __m512i lanes = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    return _mm512_castsi512_ps(_mm512_permutexvar_epi32(lanes, _mm512_castsi128_si512(four)));
}

#else

typedef struct phx_int4 {
    uint32_t word[PHX_LANES];
} phx_int4;

PHX_ALWAYS float phx_int4_factor(int i)
{
    (void)i;
    return 1.0f;
}

PHX_ALWAYS phx_int4 phx_int4_load(const uint8_t *p)
{
    phx_int4 block;
    memcpy(&block, p, sizeof(block));
    return block;
}

PHX_ALWAYS phx_vf phx_int4_vector(phx_int4 block, int i)
{
    phx_vf v;
    for (int l = 0; l < PHX_LANES; l++)
        v.lane[l] = (float)((int32_t)(block.word[l] >> 4 * i & 0xFu) - 8);
    return v;
}

PHX_ALWAYS phx_vf phx_int4_scales(const uint16_t *scales)
{
    phx_vf v;
    for (int l = 0; l < PHX_LANES; l++)
        v.lane[l] = phx_bf16_to_f32(scales[l / 4]);
    return v;
}

#endif

#if PHX_CPU_FORM == 0
/* PHX_INT4_COLS activations into the order of the weights. */
static inline void phx_int4_order(const float *x, float *ret_ordered)
{
    for (int i = 0; i < 8; i++) {
        for (int l = 0; l < PHX_LANES; l++)
            ret_ordered[i * PHX_LANES + l] = x[8 * l + i] * phx_int4_factor(i);
    }
}
#else
/* PHX_INT4_COLS activations into the order of the weights: transposed, eight rows of eight at a time. */
static inline void phx_int4_order(const float *x, float *ret_ordered)
{
    for (int half = 0; half < PHX_LANES / 8; half++) {
        __m256 a[8];
        __m256 b[8];
        for (int i = 0; i < 8; i++)
            a[i] = _mm256_loadu_ps(x + 64 * half + 8 * i);
        for (int i = 0; i < 8; i += 2) { /* pairs of rows: columns 0, 1 and 2, 3 of each half */
            b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
            b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
        }
        for (int i = 0; i < 8; i += 4) { /* fours of rows: one column of each half */
            a[i] = _mm256_shuffle_ps(b[i], b[i + 2], 0x44);
            a[i + 1] = _mm256_shuffle_ps(b[i], b[i + 2], 0xEE);
            a[i + 2] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0x44);
            a[i + 3] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0xEE);
        }
        for (int i = 0; i < 4; i++) {
            b[i] = _mm256_permute2f128_ps(a[i], a[i + 4], 0x20);
            b[i + 4] = _mm256_permute2f128_ps(a[i], a[i + 4], 0x31);
        }
        for (int i = 0; i < 8; i++)
            _mm256_storeu_ps(ret_ordered + i * PHX_LANES + 8 * half,
                             _mm256_mul_ps(b[i], _mm256_set1_ps(phx_int4_factor(i))));
    }
}
#endif

/* n weights of one row from column col on as f32, exactly: number * scale. */
static inline void phx_int4_widen(const phx_matrix *w, int64_t row, int64_t col, int64_t n, float *ret_values)
{
    for (int64_t i = 0; i < n; i++)
        ret_values[i] = phx_matrix_at(w, row, col + i);
}

#endif
