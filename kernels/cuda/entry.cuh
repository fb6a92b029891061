/* kernels/cuda/entry.cuh - a row of numbers as an entry of the KV memory, written by a block of threads. */
#ifndef PHX_KERNELS_CUDA_ENTRY_CUH
#define PHX_KERNELS_CUDA_ENTRY_CUH

#include "kernels/cuda/number.cuh"

/* phx_f32_to_f16: below 2^-14 the step is 2^-24, that of numbers from a half on. */
PHX_DEVICE uint16_t phx_f16_code(float x)
{
    const uint32_t bits = phx_bits_of_f32(x);
    const uint32_t sign = bits >> 16 & 0x8000u;
    const uint32_t magnitude = bits & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u)
        return (uint16_t)(sign | 0x7E00u | (magnitude >> 13 & 0x3FFu));
    if (magnitude >= 0x477FF000u) /* 65520 */
        return (uint16_t)(sign | 0x7C00u);
    if (magnitude < 113u << 23)
        return (uint16_t)(sign | (phx_bits_of_f32(fabsf(x) + 0.5f) - phx_bits_of_f32(0.5f)));
    const uint32_t moved = magnitude - (112u << 23);
    return (uint16_t)(sign | (moved + 0xFFFu + (moved >> 13 & 1u)) >> 13);
}

/* Number col of an entry that is not fp8. */
PHX_DEVICE void phx_put_number(const phx_cache &cache, int64_t entry, int64_t col, float value)
{
    if (cache.dtype == PHX_F16)
        ((uint16_t *)cache.data)[entry * cache.width + col] = phx_f16_code(value);
    else
        phx_store(cache.data, cache.dtype, entry * cache.width + col, value);
}

/* An entry of an fp8 cache, from x in memory or shared memory, by all threads of a block of PHX_BLOCK: a
 * group of numbers at a time, of which each thread has one. maxima: a number per warp. */
template <class Row>
PHX_DEVICE void phx_put_fp8(const phx_cache &cache, int64_t entry, const Row &x, phx_shared<float> maxima)
{
    static_assert(PHX_BLOCK == PHX_CACHE_GROUP, "a thread per number of a group");
    uint8_t *to = (uint8_t *)cache.data + entry * phx_cache_entry_bytes(&cache);
    for (int64_t first = 0; first < cache.d_latent; first += PHX_CACHE_GROUP) {
        const int64_t c = first + threadIdx.x;
        const bool is_there = c < cache.d_latent;
        const float max = phx_block_max(is_there ? fabsf(x[c]) : 0.0f, maxima);
        const float scale = phx_cache_scale(PHX_PLANT(60) ? max * 2.0f : max);
        if (is_there)
            to[c] = phx_e4m3_code(phx_round_e4m3(x[c] / scale));
        if (threadIdx.x == 0)
            ((float *)(to + phx_cache_scales_at(&cache)))[first / PHX_CACHE_GROUP] = scale;
    }
    for (int64_t c = cache.d_latent + threadIdx.x; c < cache.width; c += PHX_BLOCK)
        phx_store(to + phx_cache_rest_at(&cache), PHX_BF16, c - cache.d_latent, x[c]);
}

#endif
