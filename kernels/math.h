/* kernels/math.h - exp, log, sigmoid and silu in f32, the same bits on every machine and at every level.
 * Owns: the polynomials, their constants and the order of their operations (DESIGN 7h). Vector levels repeat
 * these functions operation by operation: fmaf is a fused multiply-add, every other line is one rounding.
 * Not here: sine and cosine of the rope table (kernels/ops.c); they are needed at start only. */
#ifndef PHX_KERNELS_MATH_H
#define PHX_KERNELS_MATH_H

#include <math.h>
#include <stdint.h>

#include "model/dtype.h"

/* Below PHX_EXP_MIN (the logarithm of the smallest normal number) exp is +0: no subnormal results. Arguments
 * are first cut to [PHX_EXP_CUT_LOW, PHX_EXP_CUT_HIGH]; from 88.72284 on the result is +infinity. */
#define PHX_EXP_MIN      (-87.33654f)
#define PHX_EXP_CUT_LOW  (-88.0f)
#define PHX_EXP_CUT_HIGH 89.0f

#define PHX_EXP_LOG2E  1.44269504088896341f /* 1 / ln 2 */
#define PHX_EXP_ROUND  12582912.0f          /* 1.5 * 2^23: adding it rounds to an integer, ties to even */
#define PHX_EXP_LN2_HI 0.693359375f         /* nine bits, so its multiples are exact */
#define PHX_EXP_LN2_LO (-2.12194440e-4f)    /* ln 2 - PHX_EXP_LN2_HI */

/* exp(r) = 1 + r + r^2 * P(r) for |r| <= ln 2 / 2; coefficients from the highest power (Cephes expf,
 * Moshier). */
#define PHX_EXP_P0 1.9875691500e-4f
#define PHX_EXP_P1 1.3981999507e-3f
#define PHX_EXP_P2 8.3334519073e-3f
#define PHX_EXP_P3 4.1665795894e-2f
#define PHX_EXP_P4 1.6666665459e-1f
#define PHX_EXP_P5 5.0000001201e-1f

/* e^x. x finite or -infinity. Error: at most 1.02 ulp (measured over all f32; tests/kernels/test_math.c
 * repeats a part). */
PHX_HOST_DEVICE static inline float phx_expf(float x)
{
    const float high = x < PHX_EXP_CUT_HIGH ? x : PHX_EXP_CUT_HIGH;    /* as minps(x, cut) */
    const float cut = high > PHX_EXP_CUT_LOW ? high : PHX_EXP_CUT_LOW; /* as maxps(high, cut) */
    const float n = fmaf(cut, PHX_EXP_LOG2E, PHX_EXP_ROUND) - PHX_EXP_ROUND;
    float r = fmaf(n, -PHX_EXP_LN2_HI, cut);
    r = fmaf(n, -PHX_EXP_LN2_LO, r);
    float p = PHX_EXP_P0;
    p = fmaf(p, r, PHX_EXP_P1);
    p = fmaf(p, r, PHX_EXP_P2);
    p = fmaf(p, r, PHX_EXP_P3);
    p = fmaf(p, r, PHX_EXP_P4);
    p = fmaf(p, r, PHX_EXP_P5);
    const float r2 = r * r;
    p = fmaf(p, r2, r);
    p = p + 1.0f;
    /* times 2^n in two exact factors, because 2^128 is no f32; the same as one scalef */
    const int32_t i = (int32_t)n; /* -127..128 */
    const int32_t half = i >> 1;
    const float a = phx_f32_of_bits((uint32_t)(half + 127) << 23);
    const float b = phx_f32_of_bits((uint32_t)(i - half + 127) << 23);
    const float y = (p * a) * b;
    return x >= PHX_EXP_MIN ? y : 0.0f;
}

/* log(1 + f) = f - f^2 / 2 + f^3 * Q(f) for m in [sqrt(1/2), sqrt(2)); from the highest power (Cephes logf).
 */
#define PHX_LOG_Q0 7.0376836292e-2f
#define PHX_LOG_Q1 (-1.1514610310e-1f)
#define PHX_LOG_Q2 1.1676998740e-1f
#define PHX_LOG_Q3 (-1.2420140846e-1f)
#define PHX_LOG_Q4 1.4249322787e-1f
#define PHX_LOG_Q5 (-1.6668057665e-1f)
#define PHX_LOG_Q6 2.0000714765e-1f
#define PHX_LOG_Q7 (-2.4999993993e-1f)
#define PHX_LOG_Q8 3.3333331174e-1f

/* Natural logarithm of a positive normal number (subnormals and 0: unspecified but finite). Error: at most
 * 0.84 ulp. Used once per run of a log-sum-exp, so levels call this very function. */
PHX_HOST_DEVICE static inline float phx_logf(float x)
{
    /* x = m * 2^e with m in [0x1.6a09e6p-1, 0x1.6a09e6p0) */
    const uint32_t bits = phx_bits_of_f32(x);
    const int32_t e = (int32_t)(bits - 0x3F3504F3u) >> 23;
    const float m = phx_f32_of_bits(bits - ((uint32_t)e << 23));
    const float f = m - 1.0f;
    const float n = (float)e;
    float q = PHX_LOG_Q0;
    q = fmaf(q, f, PHX_LOG_Q1);
    q = fmaf(q, f, PHX_LOG_Q2);
    q = fmaf(q, f, PHX_LOG_Q3);
    q = fmaf(q, f, PHX_LOG_Q4);
    q = fmaf(q, f, PHX_LOG_Q5);
    q = fmaf(q, f, PHX_LOG_Q6);
    q = fmaf(q, f, PHX_LOG_Q7);
    q = fmaf(q, f, PHX_LOG_Q8);
    const float f2 = f * f;
    float y = (q * f) * f2;
    y = fmaf(n, PHX_EXP_LN2_LO, y);
    y = fmaf(f2, -0.5f, y);
    y = f + y;
    return fmaf(n, PHX_EXP_LN2_HI, y);
}

/* 1 / (1 + e^-x). */
PHX_HOST_DEVICE static inline float phx_sigmoidf(float x)
{
    return 1.0f / (1.0f + phx_expf(-x));
}

/* x / (1 + e^-x). */
PHX_HOST_DEVICE static inline float phx_siluf(float x)
{
    return x / (1.0f + phx_expf(-x));
}

/* d^-0.5 rounded once: the factor of the Hadamard transform. */
PHX_HOST_DEVICE static inline float phx_hadamard_scale(int64_t d)
{
    return (float)(1.0 / sqrt((double)d));
}

#endif
