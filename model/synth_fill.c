/* model/synth_fill.c - random numbers that keep a model finite and take every branch: weights are normal with
 * variance 1 / inputs, norms near 1, the router's bias around -0.5 (biased scores fall on both sides of
 * zero). */
#include "model/synth_fill.h"

#include <math.h>

#include "base/rng.h"

/* Codes spread over +-448 for +-4.3 standard deviations, the extremes of the table. */
#define E4M3_PER_SD 100.0f

/* The largest of 32 normal numbers is about 2.1 standard deviations: it becomes 7. */
#define INT4_PER_SD 3.4f

/* Quantile of the normal distribution: P. Acklam's rational approximation, relative error 1.2e-9. */
static double normal_quantile(double p)
{
    static const double a[] = {-3.969683028665376e+01, 2.209460984245205e+02,  -2.759285104469687e+02,
                               1.383577518672690e+02,  -3.066479806614716e+01, 2.506628277459239e+00};
    static const double b[] = {-5.447609879822406e+01, 1.615858368580409e+02, -1.556989798598866e+02,
                               6.680131188771972e+01, -1.328068155288572e+01};
    static const double c[] = {-7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838e+00,
                               -2.549732539343734e+00, 4.374664141464968e+00,  2.938163982698783e+00};
    static const double d[] = {7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e+00,
                               3.754408661907416e+00};
    if (p > 0.5)
        return -normal_quantile(1.0 - p); /* one step: 1 - p is below a half */
    if (p < 0.02425) {
        const double q = sqrt(-2.0 * log(p));
        return (((((c[0] * q + c[1]) * q + c[2]) * q + c[3]) * q + c[4]) * q + c[5]) /
               ((((d[0] * q + d[1]) * q + d[2]) * q + d[3]) * q + 1.0);
    }
    const double q = p - 0.5;
    const double r = q * q;
    return (((((a[0] * r + a[1]) * r + a[2]) * r + a[3]) * r + a[4]) * r + a[5]) * q /
           (((((b[0] * r + b[1]) * r + b[2]) * r + b[3]) * r + b[4]) * r + 1.0);
}

void phx_synth_tables_init(phx_synth_tables *tables)
{
    const uint32_t n = 1u << PHX_SYNTH_BITS;
    for (uint32_t i = 0; i < n; i++) {
        tables->normal[i] = (float)normal_quantile(((double)i + 0.5) / n);
        tables->e4m3[i] = phx_f32_to_e4m3(tables->normal[i] * E4M3_PER_SD);
        const float number = rintf(tables->normal[i] * INT4_PER_SD);
        tables->int4[i] = (uint8_t)(8 + (int)(number < -8.0f ? -8.0f : number > 7.0f ? 7.0f : number));
    }
}

/* Four draws. */
static uint64_t draws_at(uint64_t key, uint64_t element)
{
    return phx_rng_mix(key + element / 4 * 0x9E3779B97F4A7C15u);
}

static uint32_t draw(uint64_t draws, uint64_t element)
{
    return (uint32_t)(draws >> (16 * (element % 4))) & 0xFFFFu;
}

static void fill_e4m3(const phx_synth_tables *tables, uint64_t key, uint64_t first, size_t n, uint8_t *to)
{
    size_t i = 0;
    for (; i < n && (first + i) % 4 != 0; i++) /* up to the first whole draw */
        to[i] = tables->e4m3[draw(draws_at(key, first + i), first + i)];
    for (; i < n; i += 4) {
        const uint64_t draws = draws_at(key, first + i);
        for (size_t j = 0; j < 4 && i + j < n; j++)
            to[i + j] = tables->e4m3[draw(draws, j)];
    }
}

static void fill_int4(const phx_synth_tables *tables, uint64_t key, uint64_t first, size_t n, uint32_t *to)
{
    for (size_t i = 0; i < n; i++) {
        to[i] = 0;
        for (uint64_t j = 0; j < 8; j++) {
            const uint64_t at = (first + i) * 8 + j;
            to[i] |= (uint32_t)tables->int4[draw(draws_at(key, at), at)] << 4 * j;
        }
    }
}

static void fill_bf16(const phx_synth_tables *tables, const phx_synth_source *source, uint64_t first,
                      size_t n, uint16_t *to)
{
    size_t i = 0;
    for (; i < n && (first + i) % 4 != 0; i++) /* up to the first whole draw */
        to[i] =
            phx_f32_to_bf16(tables->normal[draw(draws_at(source->key, first + i), first + i)] * source->sd);
    for (; i < n; i += 4) {
        const uint64_t draws = draws_at(source->key, first + i);
        for (size_t j = 0; j < 4 && i + j < n; j++)
            to[i + j] = phx_f32_to_bf16(tables->normal[draw(draws, j)] * source->sd);
    }
}

/* The scale that makes a block's values sd wide, moved at random so that every block differs. */
static float scale_at(const phx_synth_source *source, uint32_t random)
{
    const float middle = source->sd / (source->dtype == PHX_BF16 ? INT4_PER_SD : E4M3_PER_SD);
    if (!source->powers_of_two)
        return middle * (0.75f + (float)random * 0x1p-17f);
    int exponent;
    (void)frexpf(middle, &exponent); /* middle in [2^(exponent - 1), 2^exponent) */
    return ldexpf(1.0f, exponent - (int)(random & 1u));
}

static float value_at(const phx_synth_tables *tables, const phx_synth_source *source, uint64_t element)
{
    const uint32_t random = draw(draws_at(source->key, element), element);
    if (source->is_scale)
        return scale_at(source, random);
    switch (source->role) {
    case PHX_ROLE_ATTN_NORM:
    case PHX_ROLE_Q_A_NORM:
    case PHX_ROLE_KV_A_NORM:
    case PHX_ROLE_INDEX_K_NORM:
    case PHX_ROLE_FFN_NORM:
    case PHX_ROLE_FINAL_NORM:
    case PHX_ROLE_MTP_EMBED_NORM:
    case PHX_ROLE_MTP_HIDDEN_NORM:
    case PHX_ROLE_MTP_HEAD_NORM:
        return 1.0f + 0.1f * tables->normal[random];
    case PHX_ROLE_INDEX_K_NORM_BIAS:
        return 0.1f * tables->normal[random];
    case PHX_ROLE_ROUTER_BIAS:
        return -0.6f + (float)random * (0.2f * 0x1p-16f);
    default:
        return tables->normal[random] * source->sd;
    }
}

void phx_synth_fill(const phx_synth_tables *tables, const phx_synth_source *source, uint64_t first, size_t n,
                    void *to)
{
    if (source->dtype == PHX_F8_E4M3) {
        fill_e4m3(tables, source->key, first, n, to);
        return;
    }
    if (source->is_shape) {
        memcpy(to, source->shape + first, n * sizeof(int32_t));
        return;
    }
    if (source->dtype == PHX_I32) {
        fill_int4(tables, source->key, first, n, to);
        return;
    }
    if (source->dtype == PHX_BF16 && source->sd > 0 && !source->is_scale) {
        fill_bf16(tables, source, first, n, to);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const float value = value_at(tables, source, first + i);
        if (source->dtype == PHX_F32)
            ((float *)to)[i] = value;
        else if (source->dtype == PHX_F16)
            ((uint16_t *)to)[i] = phx_f32_to_f16(value);
        else
            ((uint16_t *)to)[i] = phx_f32_to_bf16(value);
    }
}
