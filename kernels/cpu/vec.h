/* kernels/cpu/vec.h - the vector of f32 lanes that every kernel here is written in, and how stored numbers
 * enter and leave it. Owns: the choice of the form, loads and stores of fewer numbers than lanes, exp.
 *
 * PHX_CPU_FORM: 2 is AVX2 (8 lanes), 512 is AVX-512 (16 lanes), 0 is plain C with the 16 lanes of AVX-512,
 * bit for bit: the checker runs it on machines that lack AVX-512. Each source file is compiled once per form
 * (level.h has the names).
 *
 * The lanes of a sum are added in one fixed order: with 16 lanes first lane i + 8 to lane i, then
 * ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)). */
#ifndef PHX_KERNELS_CPU_VEC_H
#define PHX_KERNELS_CPU_VEC_H

#include <stdint.h>
#include <string.h>

#include "kernels/math.h"
#include "model/dtype.h"

/* PHX_ALWAYS: functions whose constant arguments must reach their loops. PHX_UNROLL before such a loop keeps
 * its array of vectors in registers. The C form gains nothing from either but minutes of compilation. */
#if PHX_CPU_FORM == 0
#define PHX_ALWAYS static inline
#define PHX_UNROLL(n)
#else
#define PHX_ALWAYS    static inline __attribute__((always_inline))
#define PHX_PRAGMA(x) _Pragma(#x)
#define PHX_UNROLL(n) PHX_PRAGMA(GCC unroll n)
#endif

/* What p points to is in memory here and not in registers, whatever the compiler prefers. */
#define PHX_IN_MEMORY(p) __asm__ volatile("" : "+r"(p) : : "memory")

/* e4m3 comes out of phx_vf_load_fp8 times 2^-8, exactly (the bits are shifted into an f16); the scale of its
 * block is multiplied by this instead, exactly too. Codes that mean NaN come out as +-480. */
#define PHX_FP8_FACTOR 256.0f

#if PHX_CPU_FORM == 2
#include "kernels/cpu/vec_avx2.h"
#elif PHX_CPU_FORM == 512
#include "kernels/cpu/vec_avx512.h"
#else
#include "kernels/cpu/vec_c.h"
#endif

/* e4m3 weights along a row, met by activations along theirs: a level may take blocks of 4 * PHX_LANES numbers
 * in an order of its own, the same for both, and the activations times PHX_FP8_ROW_X; the sum is multiplied
 * by PHX_FP8_ROW_FACTOR. All exact. Levels without a faster way widen as everywhere. */
#ifndef PHX_FP8_ROW_X
#define PHX_FP8_ROW_X       1.0f
#define PHX_FP8_ROW_FACTOR  PHX_FP8_FACTOR
#define phx_vf_load_fp8_row phx_vf_load_fp8

PHX_ALWAYS void phx_vf_load4_fp8_row(const uint8_t *p, phx_vf ret_v[4])
{
    phx_vf_load2_fp8(p, ret_v);
    phx_vf_load2_fp8(p + 2 * PHX_LANES, ret_v + 2);
}

PHX_ALWAYS void phx_vf_row_order(const phx_vf v[4], phx_vf ret_v[4])
{
    for (int i = 0; i < 4; i++)
        ret_v[i] = v[i];
}

#define phx_vf_row_unorder phx_vf_row_order
#endif

#if PHX_CPU_FORM != 2
/* phx_vf_sum4 for v[0..7]. */
PHX_ALWAYS void phx_vf_sum8(const phx_vf v[8], float ret_sums[8])
{
    phx_vf_sum4(v, ret_sums);
    phx_vf_sum4(v + 4, ret_sums + 4);
}
#endif

/* The first n (0 < n < PHX_LANES) elements, then zeros. */
PHX_ALWAYS phx_vf phx_vf_load_n(const float *p, int64_t n)
{
    float t[PHX_LANES] = {0};
    memcpy(t, p, (size_t)n * sizeof(float));
    return phx_vf_load(t);
}

PHX_ALWAYS void phx_vf_store_n(float *p, phx_vf v, int64_t n)
{
    float t[PHX_LANES];
    phx_vf_store(t, v);
    memcpy(p, t, (size_t)n * sizeof(float));
}

PHX_ALWAYS void phx_vf_store_bf16_n(uint16_t *p, phx_vf v, int64_t n)
{
    uint16_t t[PHX_LANES];
    phx_vf_store_bf16(t, v);
    memcpy(p, t, (size_t)n * sizeof(uint16_t));
}

/* Of formats whose weights are whole bytes. */
PHX_ALWAYS int64_t phx_format_bytes(phx_format format)
{
    return format == PHX_FORMAT_F32 ? 4 : format == PHX_FORMAT_FP8_BLOCK ? 1 : 2;
}

/* PHX_LANES weights from p; fp8 times 2^-8. */
PHX_ALWAYS phx_vf phx_vf_load_format(phx_format format, const uint8_t *p)
{
    if (format == PHX_FORMAT_BF16)
        return phx_vf_load_bf16((const void *)p);
    if (format == PHX_FORMAT_F16)
        return phx_vf_load_f16((const void *)p);
    if (format == PHX_FORMAT_FP8_BLOCK)
        return phx_vf_load_fp8(p);
    return phx_vf_load((const void *)p);
}

PHX_ALWAYS phx_vf phx_vf_load_format_n(phx_format format, const uint8_t *p, int64_t n)
{
    _Alignas(64) uint8_t t[PHX_LANES * 4] = {0};
    memcpy(t, p, (size_t)(n * phx_format_bytes(format)));
    return phx_vf_load_format(format, t);
}

/* 2 * PHX_LANES weights: the first half in ret_v[0]. */
PHX_ALWAYS void phx_vf_load2_format(phx_format format, const uint8_t *p, phx_vf ret_v[2])
{
    if (format == PHX_FORMAT_FP8_BLOCK) {
        phx_vf_load2_fp8(p, ret_v);
    } else {
        ret_v[0] = phx_vf_load_format(format, p);
        ret_v[1] = phx_vf_load_format(format, p + PHX_LANES * phx_format_bytes(format));
    }
}

/* n numbers of a stored row as f32, fp8 times 2^-8. */
PHX_ALWAYS void phx_vf_widen_as(phx_format format, const uint8_t *p, int64_t n, float *ret_values)
{
    const int64_t bytes = phx_format_bytes(format);
    int64_t k = 0;
    for (; k + 2 * PHX_LANES <= n; k += 2 * PHX_LANES) {
        phx_vf v[2];
        phx_vf_load2_format(format, p + k * bytes, v);
        phx_vf_store(ret_values + k, v[0]);
        phx_vf_store(ret_values + k + PHX_LANES, v[1]);
    }
    if (k + PHX_LANES <= n) {
        phx_vf_store(ret_values + k, phx_vf_load_format(format, p + k * bytes));
        k += PHX_LANES;
    }
    if (k < n)
        phx_vf_store_n(ret_values + k, phx_vf_load_format_n(format, p + k * bytes, n - k), n - k);
}

static inline void phx_vf_widen(phx_format format, const void *p, int64_t n, float *ret_values)
{
    switch (format) {
    case PHX_FORMAT_F32:
        memcpy(ret_values, p, (size_t)n * sizeof(float));
        break;
    case PHX_FORMAT_BF16:
        phx_vf_widen_as(PHX_FORMAT_BF16, p, n, ret_values);
        break;
    case PHX_FORMAT_F16:
        phx_vf_widen_as(PHX_FORMAT_F16, p, n, ret_values);
        break;
    case PHX_FORMAT_FP8_BLOCK:
        phx_vf_widen_as(PHX_FORMAT_FP8_BLOCK, p, n, ret_values);
        break;
    case PHX_FORMAT_INT4_G32: /* kernels/cpu/int4.h */
    case PHX_FORMAT_COUNT:
        break;
    }
}

static inline phx_format phx_format_of_activation(phx_dtype dtype)
{
    return dtype == PHX_BF16 ? PHX_FORMAT_BF16 : PHX_FORMAT_F32;
}

/* n f32 values into a row of dtype (PHX_BF16 or PHX_F32). */
static inline void phx_vf_narrow(const float *values, int64_t n, phx_dtype dtype, void *out)
{
    if (dtype == PHX_F32) {
        memcpy(out, values, (size_t)n * sizeof(float));
        return;
    }
    uint16_t *codes = out;
    int64_t k = 0;
    for (; k + PHX_LANES <= n; k += PHX_LANES)
        phx_vf_store_bf16(codes + k, phx_vf_load(values + k));
    if (k < n)
        phx_vf_store_bf16_n(codes + k, phx_vf_load_n(values + k, n - k), n - k);
}

static inline int64_t phx_i64_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t phx_i64_up(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/* phx_expf in every lane, operation by operation. */
PHX_ALWAYS phx_vf phx_vf_exp(phx_vf x)
{
    const phx_vf high = phx_vf_min(x, phx_vf_set(PHX_EXP_CUT_HIGH));
    const phx_vf cut = phx_vf_max(high, phx_vf_set(PHX_EXP_CUT_LOW));
    const phx_vf round = phx_vf_set(PHX_EXP_ROUND);
    const phx_vf n = phx_vf_sub(phx_vf_fma(cut, phx_vf_set(PHX_EXP_LOG2E), round), round);
    phx_vf r = phx_vf_fma(n, phx_vf_set(-PHX_EXP_LN2_HI), cut);
    r = phx_vf_fma(n, phx_vf_set(-PHX_EXP_LN2_LO), r);
    phx_vf p = phx_vf_set(PHX_EXP_P0);
    p = phx_vf_fma(p, r, phx_vf_set(PHX_EXP_P1));
    p = phx_vf_fma(p, r, phx_vf_set(PHX_EXP_P2));
    p = phx_vf_fma(p, r, phx_vf_set(PHX_EXP_P3));
    p = phx_vf_fma(p, r, phx_vf_set(PHX_EXP_P4));
    p = phx_vf_fma(p, r, phx_vf_set(PHX_EXP_P5));
    p = phx_vf_fma(p, phx_vf_mul(r, r), r);
    p = phx_vf_add(p, phx_vf_set(1.0f));
    return phx_vf_zero_below(phx_vf_scale_exp2(p, n), x, PHX_EXP_MIN);
}

#endif
