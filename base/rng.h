/* base/rng.h - random numbers as a pure function of a key: no state, so a draw does not depend on order.
 * Method: the finaliser of SplitMix64 (Steele, Lea, Flood 2014) chained over the words of the key. */
#ifndef PHX_BASE_RNG_H
#define PHX_BASE_RNG_H

#include <stdint.h>

#if defined(__CUDACC__) /* mix, key and unit serve kernels too */
#define PHX_RNG_PLACE __host__ __device__ static inline
#else
#define PHX_RNG_PLACE static inline
#endif

PHX_RNG_PLACE uint64_t phx_rng_mix(uint64_t x)
{
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

/* 64 random bits for the key (seed, a, b, c). */
PHX_RNG_PLACE uint64_t phx_rng_key(uint64_t seed, uint64_t a, uint64_t b, uint64_t c)
{
    return phx_rng_mix(phx_rng_mix(phx_rng_mix(phx_rng_mix(seed) ^ a) ^ b) ^ c);
}

/* Sequential generator for tests, synth and simulation. */
typedef struct phx_rng {
    uint64_t seed;
    uint64_t n;
} phx_rng;

static inline uint64_t phx_rng_u64(phx_rng *rng)
{
    return phx_rng_key(rng->seed, rng->n++, 0, 0);
}

/* Uniform in [0, n); n > 0. The bias of the multiply is below 2^-32 for the small n used here. */
static inline uint32_t phx_rng_below(phx_rng *rng, uint32_t n)
{
    return (uint32_t)(((phx_rng_u64(rng) >> 32) * n) >> 32);
}

/* Uniform in (0, 1): 24 bits plus a half, never 0 or 1. */
PHX_RNG_PLACE float phx_rng_unit(uint64_t bits)
{
    return ((float)(bits >> 41) + 0.5f) * 0x1p-23f;
}

#endif
