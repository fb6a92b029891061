/* kernels/cuda/number.cuh - reading and writing numbers of every format.
 * Conversions work on bits, as those of model/dtype.c, so the chip and the emulator agree. */
#ifndef PHX_KERNELS_CUDA_NUMBER_CUH
#define PHX_KERNELS_CUDA_NUMBER_CUH

#include "kernels/cache.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/math.h"

PHX_DEVICE float phx_load(const void *data, phx_dtype dtype, int64_t i)
{
    return dtype == PHX_BF16 ? phx_bf16_to_f32(((const uint16_t *)data)[i]) : ((const float *)data)[i];
}

PHX_DEVICE void phx_store(void *data, phx_dtype dtype, int64_t i, float value)
{
    if (dtype == PHX_BF16)
        ((uint16_t *)data)[i] = phx_f32_to_bf16(value);
    else
        ((float *)data)[i] = value;
}

/* Magnitude codes become f32 by moving the fields and multiplying by the difference of the biases, which is
 * exact for subnormal codes too. No infinities or NaN: weights are finite. */
PHX_DEVICE float phx_f16_value(uint16_t code)
{
    const uint32_t sign = (uint32_t)(code & 0x8000u) << 16;
    const float magnitude = phx_f32_of_bits((uint32_t)(code & 0x7FFFu) << 13) * 0x1p112f;
    return phx_f32_of_bits(sign | phx_bits_of_f32(magnitude));
}

PHX_DEVICE float phx_e4m3_value(uint8_t code)
{
    const uint32_t sign = (uint32_t)(code & 0x80u) << 24;
    const float magnitude = phx_f32_of_bits((uint32_t)(code & 0x7Fu) << 20) * 0x1p120f;
    return phx_f32_of_bits(sign | phx_bits_of_f32(magnitude));
}

/* The nearest e4m3 value, ties to even, saturating at 448. Adding 2^(e+20) to a magnitude of exponent e
 * leaves three fraction bits; below 2^-6 the step is 2^-9. */
PHX_DEVICE float phx_round_e4m3(float x)
{
    const float magnitude = fabsf(x);
    const uint32_t exponent = phx_bits_of_f32(magnitude) >> 23;
    const float shift = phx_f32_of_bits(((exponent > 121u ? exponent : 121u) + 20u) << 23);
    const float rounded = magnitude >= 448.0f ? 448.0f : (magnitude + shift) - shift;
    return copysignf(rounded, x);
}

/* The code of a value that phx_round_e4m3 gave: fields moved back. */
PHX_DEVICE uint8_t phx_e4m3_code(float value)
{
    const uint32_t bits = phx_bits_of_f32(value);
    const uint32_t magnitude = phx_bits_of_f32(phx_f32_of_bits(bits & 0x7FFFFFFFu) * 0x1p-120f) >> 20;
    return (uint8_t)((bits >> 24 & 0x80u) | magnitude);
}

/* Number i of an entry, of any dtype. */
PHX_DEVICE float phx_load_cached(const phx_cache &cache, int64_t entry, int64_t i)
{
    if (cache.dtype != PHX_F8_E4M3)
        return phx_load(cache.data, cache.dtype, entry * cache.width + i);
    const uint8_t *from = (const uint8_t *)cache.data + entry * phx_cache_entry_bytes(&cache);
    if (i >= cache.d_latent)
        return phx_load(from + phx_cache_rest_at(&cache), PHX_BF16, i - cache.d_latent);
    return phx_e4m3_value(from[i]) *
           ((const float *)(from + phx_cache_scales_at(&cache)))[i / PHX_CACHE_GROUP];
}

/* An element of w without its scale; rows of int4-g32 have an even number of columns. */
PHX_DEVICE float phx_code_value(const phx_matrix &w, int64_t i)
{
    switch (w.format) {
    case PHX_FORMAT_F32:
        return ((const float *)w.data)[i];
    case PHX_FORMAT_BF16:
        return phx_bf16_to_f32(((const uint16_t *)w.data)[i]);
    case PHX_FORMAT_F16:
        return phx_f16_value(((const uint16_t *)w.data)[i]);
    case PHX_FORMAT_FP8_BLOCK:
        return phx_e4m3_value(((const uint8_t *)w.data)[i]);
    case PHX_FORMAT_INT4_G32:
        return (float)((int32_t)(((const uint8_t *)w.data)[i / 2] >> i % 2 * 4 & 0xF) - 8);
    case PHX_FORMAT_COUNT:
        break;
    }
    return 0.0f;
}

PHX_DEVICE float phx_scale_at(const phx_matrix &w, int64_t row, int64_t col)
{
    return w.scales[(row + w.row_shift) / 128 * w.scale_stride + (col + w.col_shift) / 128];
}

PHX_DEVICE float phx_group_scale_at(const phx_matrix &w, int64_t row, int64_t col)
{
    const int64_t group = (col + w.col_shift) / PHX_INT4_GROUP;
    return phx_bf16_to_f32(w.group_scales[row * w.scale_stride + group]);
}

#endif
