/* kernels/cache.h - how an entry of the KV memory lies in memory, for kernels of every backend. Owns: offsets
 * and scales of the fp8 form, its rows in plain C. Not here: where entries lie (phx_cache_entry, ops.h).
 *
 * The fp8 form (phx_cache with dtype PHX_F8_E4M3): d_latent e4m3 codes; from the next multiple of 16 on one
 * f32 scale per PHX_CACHE_GROUP of them; from the next multiple of 16 on the other numbers in bf16; entries
 * are multiples of 16 bytes. 512 + 64 numbers take 656 bytes, as in FlashMLA. Scales are powers of two
 * (phx_index_round_fn, models.md 2.5), so a code times its scale is exactly a bf16 number: an fp8 cache gives
 * the bits of a bf16 cache that holds the same numbers. */
#ifndef PHX_KERNELS_CACHE_H
#define PHX_KERNELS_CACHE_H

#include "kernels/ops.h"

#define PHX_CACHE_GROUP 128 /* numbers under one scale */

PHX_OPS_PLACE int64_t phx_cache_scales_at(const phx_cache *cache)
{
    return (cache->d_latent + 15) / 16 * 16;
}

PHX_OPS_PLACE int64_t phx_cache_rest_at(const phx_cache *cache)
{
    const int64_t n_groups = (cache->d_latent + PHX_CACHE_GROUP - 1) / PHX_CACHE_GROUP;
    return phx_cache_scales_at(cache) + (n_groups * 4 + 15) / 16 * 16;
}

PHX_OPS_PLACE int64_t phx_cache_entry_bytes(const phx_cache *cache)
{
    if (cache->dtype != PHX_F8_E4M3)
        return cache->width * (cache->dtype == PHX_BF16 ? 2 : 4);
    return (phx_cache_rest_at(cache) + (cache->width - cache->d_latent) * 2 + 15) / 16 * 16;
}

/* The scale of numbers up to max_abs: 2^ceil(log2(max / 448)), at least 2^-22. */
PHX_OPS_PLACE float phx_cache_scale(float max_abs)
{
    const uint32_t bits = phx_bits_of_f32((max_abs > 1e-4f ? max_abs : 1e-4f) / 448.0f);
    return phx_f32_of_bits(((bits >> 23) + ((bits & 0x7FFFFFu) != 0 ? 1u : 0u)) << 23);
}

/* Writes x [width] to an entry of an fp8 cache. */
void phx_cache_put_row(const phx_cache *cache, int64_t entry, const float *x);

/* Number i of an entry of an fp8 cache. */
float phx_cache_number(const phx_cache *cache, int64_t entry, int64_t i);

#endif
