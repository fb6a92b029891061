/* kernels/ref/ref.h - what the reference kernels share: exact decoding into double, and the plain dot.
 * The reference is the specification: loops in the order of the formula, each dot or leaf summed in double
 * and rounded once to f32 (DESIGN 7i). Rows run through the pool, one item whole on one thread. */
#ifndef PHX_KERNELS_REF_REF_H
#define PHX_KERNELS_REF_REF_H

#include <assert.h>

#include "kernels/cache.h"
#include "kernels/math.h"
#include "kernels/ops.h"

static inline float phx_ref_load(const void *data, phx_dtype dtype, int64_t i)
{
    if (dtype == PHX_BF16)
        return phx_bf16_to_f32(((const uint16_t *)data)[i]);
    if (dtype == PHX_F16)
        return phx_f16_to_f32(((const uint16_t *)data)[i]);
    return ((const float *)data)[i];
}

static inline float phx_ref_cache_load(const phx_cache *cache, int64_t entry, int64_t i)
{
    if (cache->dtype == PHX_F8_E4M3)
        return phx_cache_number(cache, entry, i);
    return phx_ref_load(cache->data, cache->dtype, entry * cache->width + i);
}

static inline void phx_ref_store(void *data, phx_dtype dtype, int64_t i, float value)
{
    if (dtype == PHX_BF16)
        ((uint16_t *)data)[i] = phx_f32_to_bf16(value);
    else if (dtype == PHX_F16)
        ((uint16_t *)data)[i] = phx_f32_to_f16(value);
    else
        ((float *)data)[i] = value;
}

/* Elements [0, n) of a row or column of w as exact doubles (code * scale is exact in double). */
void phx_ref_weight_row(const phx_matrix *w, int64_t row, double *ret_values);
void phx_ref_weight_col(const phx_matrix *w, int64_t first_row, int64_t n_rows, int64_t col,
                        double *ret_values);

/* sum_k x[k] * w[k], k in [first, end), ascending, in double; x_offset: element of x that k = 0 means. */
double phx_ref_dot(const phx_activation *x, int64_t x_offset, const double *w, int64_t first, int64_t end);

/* x [cache->width] to an entry, rounded to the cache's dtype; nothing where entry < 0. */
void phx_ref_put_entry(const phx_cache *cache, int64_t entry, const float *x);

/* Doubles that fit the thread's scratch. */
#define PHX_REF_DOUBLES ((int64_t)(PHX_SCRATCH_BYTES / sizeof(double)))

#endif
