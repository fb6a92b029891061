/* kernels/cpu/copy.c - the ops that move, round or add single numbers: embed, cache_write, round, add. */
#include "kernels/cache.h"
#include "kernels/cpu/entry.h"
#include "kernels/cpu/int4.h"
#include "kernels/cpu/vec.h"

#include <assert.h>

#define phx_embed       PHX_CPU(phx_embed)
#define phx_cache_write PHX_CPU(phx_cache_write)
#define phx_round       PHX_CPU(phx_round)
#define phx_add         PHX_CPU(phx_add)

#define ADD_RUN 16384

static void embed_row(void *user, int64_t r, void *scratch)
{
    (void)scratch;
    const phx_embed_args *a = user;
    const phx_matrix *t = a->table;
    float *out = a->out + r * t->n_cols;
    const int64_t id = a->ids[r];
    if (id < 0) {
        for (int64_t c = 0; c < t->n_cols; c++)
            out[c] = -0.0f;
        return;
    }
    assert(id < t->n_rows);
    if (t->format == PHX_FORMAT_INT4_G32) {
        phx_int4_widen(t, id, 0, t->n_cols, out);
        return;
    }
    phx_vf_widen(t->format, (const uint8_t *)t->data + id * t->n_cols * phx_format_bytes(t->format),
                 t->n_cols, out);
    if (t->format == PHX_FORMAT_FP8_BLOCK) {
        const float *scales = t->scales + (id + t->row_shift) / 128 * t->scale_stride;
        for (int64_t c = 0; c < t->n_cols; c++)
            out[c] *= scales[(c + t->col_shift) / 128] * PHX_FP8_FACTOR;
    }
}

void phx_embed(phx_pool *pool, const phx_embed_args *args)
{
    phx_embed_args a = *args;
    phx_pool_run(pool, a.n_rows, embed_row, &a);
}

/* Index keys: so few numbers that one after the other will do. */
static void store_f16(const float *x, int64_t n, uint16_t *to)
{
    for (int64_t c = 0; c < n; c++)
        to[c] = phx_f32_to_f16(x[c]);
}

void phx_put_entry(const phx_cache *cache, int64_t entry, const float *x)
{
    const int64_t bytes = cache->dtype == PHX_BF16 ? 2 : 4;
    if (entry < 0)
        return;
    if (cache->dtype == PHX_F8_E4M3)
        phx_cache_put_row(cache, entry, x);
    else if (cache->dtype == PHX_F16)
        store_f16(x, cache->width, (uint16_t *)cache->data + entry * cache->width);
    else
        phx_vf_narrow(x, cache->width, cache->dtype, (uint8_t *)cache->data + entry * cache->width * bytes);
}

static void cache_write_row(void *user, int64_t r, void *scratch)
{
    (void)scratch;
    const phx_cache_write_args *a = user;
    phx_put_entry(a->cache, a->entries[r], a->x + r * a->x_stride);
}

void phx_cache_write(phx_pool *pool, const phx_cache_write_args *args)
{
    phx_cache_write_args a = *args;
    phx_pool_run(pool, a.n_rows, cache_write_row, &a);
}

static void round_row(void *user, int64_t r, void *scratch)
{
    (void)scratch;
    const phx_round_args *a = user;
    const int64_t bytes = a->out.dtype == PHX_BF16 ? 2 : 4;
    phx_vf_narrow(a->x + r * a->x_stride, a->n_cols, a->out.dtype,
                  (uint8_t *)a->out.data + r * a->out.stride * bytes);
}

void phx_round(phx_pool *pool, const phx_round_args *args)
{
    phx_round_args a = *args;
    phx_pool_run(pool, a.n_rows, round_row, &a);
}

static void add_run(void *user, int64_t run, void *scratch)
{
    (void)scratch;
    const phx_add_args *a = user;
    const int64_t end = phx_i64_min(a->n, (run + 1) * ADD_RUN);
    for (int64_t i = run * ADD_RUN; i < end; i++)
        a->y[i] += a->x[i];
}

void phx_add(phx_pool *pool, const phx_add_args *args)
{
    phx_add_args a = *args;
    phx_pool_run(pool, (a.n + ADD_RUN - 1) / ADD_RUN, add_run, &a);
}
