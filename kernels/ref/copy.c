/* kernels/ref/copy.c - reference of the ops that move or add single numbers: embed, cache_write, round, add.
 */
#include "kernels/ref/ref.h"

#define ADD_RUN 4096

static void embed_row(void *user, int64_t r, void *scratch)
{
    (void)scratch;
    const phx_embed_args *a = user;
    const int64_t n_cols = a->table->n_cols;
    for (int64_t c = 0; c < n_cols; c++)
        a->out[r * n_cols + c] = a->ids[r] < 0 ? -0.0f : phx_matrix_at(a->table, a->ids[r], c);
}

void phx_embed_ref(phx_pool *pool, const phx_embed_args *args)
{
    phx_embed_args a = *args;
    phx_pool_run(pool, a.n_rows, embed_row, &a);
}

static void cache_write_row(void *user, int64_t r, void *scratch)
{
    (void)scratch;
    const phx_cache_write_args *a = user;
    const phx_cache *cache = a->cache;
    for (int64_t c = 0; c < cache->width; c++)
        phx_ref_store(cache->data, cache->dtype, a->entries[r] * cache->width + c, a->x[r * a->x_stride + c]);
}

void phx_cache_write_ref(phx_pool *pool, const phx_cache_write_args *args)
{
    phx_cache_write_args a = *args;
    phx_pool_run(pool, a.n_rows, cache_write_row, &a);
}

static void round_row(void *user, int64_t r, void *scratch)
{
    (void)scratch;
    const phx_round_args *a = user;
    for (int64_t c = 0; c < a->n_cols; c++)
        phx_ref_store(a->out.data, a->out.dtype, r * a->out.stride + c, a->x[r * a->x_stride + c]);
}

void phx_round_ref(phx_pool *pool, const phx_round_args *args)
{
    phx_round_args a = *args;
    phx_pool_run(pool, a.n_rows, round_row, &a);
}

static void add_run(void *user, int64_t run, void *scratch)
{
    (void)scratch;
    const phx_add_args *a = user;
    for (int64_t i = run * ADD_RUN; i < a->n && i < (run + 1) * ADD_RUN; i++)
        a->y[i] += a->x[i];
}

void phx_add_ref(phx_pool *pool, const phx_add_args *args)
{
    phx_add_args a = *args;
    phx_pool_run(pool, (a.n + ADD_RUN - 1) / ADD_RUN, add_run, &a);
}
