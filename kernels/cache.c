/* kernels/cache.c - rows of the fp8 KV memory in plain C, for the reference and the CPU's rare paths. */
#include "kernels/cache.h"

#include <math.h>
#include <string.h>

void phx_cache_put_row(const phx_cache *cache, int64_t entry, const float *x)
{
    uint8_t *to = (uint8_t *)cache->data + entry * phx_cache_entry_bytes(cache);
    float *scales = (float *)(void *)(to + phx_cache_scales_at(cache));
    uint16_t *rest = (uint16_t *)(void *)(to + phx_cache_rest_at(cache));
    for (int64_t first = 0; first < cache->d_latent; first += PHX_CACHE_GROUP) {
        const int64_t n = cache->d_latent - first;
        const int64_t end = first + (n < PHX_CACHE_GROUP ? n : PHX_CACHE_GROUP);
        float max = 0.0f;
        for (int64_t c = first; c < end; c++)
            max = fabsf(x[c]) > max ? fabsf(x[c]) : max;
        const float scale = phx_cache_scale(max);
        scales[first / PHX_CACHE_GROUP] = scale;
        for (int64_t c = first; c < end; c++)
            to[c] = phx_f32_to_e4m3(x[c] / scale);
    }
    for (int64_t c = cache->d_latent; c < cache->width; c++)
        rest[c - cache->d_latent] = phx_f32_to_bf16(x[c]);
}

float phx_cache_number(const phx_cache *cache, int64_t entry, int64_t i)
{
    const uint8_t *from = (const uint8_t *)cache->data + entry * phx_cache_entry_bytes(cache);
    const float *scales = (const float *)(const void *)(from + phx_cache_scales_at(cache));
    if (i < cache->d_latent)
        return phx_e4m3_to_f32(from[i]) * scales[i / PHX_CACHE_GROUP];
    return phx_bf16_to_f32(
        ((const uint16_t *)(const void *)(from + phx_cache_rest_at(cache)))[i - cache->d_latent]);
}
