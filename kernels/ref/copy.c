/* kernels/ref/copy.c - reference of the ops that move or change single numbers: embed, cache_write,
 * cache_read, round, add, pick_rows. The last, and cache_read, are the CPU's only form: small or rare. */
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

void phx_ref_put_entry(const phx_cache *cache, int64_t entry, const float *x)
{
    if (entry < 0)
        return;
    if (cache->dtype == PHX_F8_E4M3) {
        phx_cache_put_row(cache, entry, x);
        return;
    }
    for (int64_t c = 0; c < cache->width; c++)
        phx_ref_store(cache->data, cache->dtype, entry * cache->width + c, x[c]);
}

static void cache_write_row(void *user, int64_t r, void *scratch)
{
    (void)scratch;
    const phx_cache_write_args *a = user;
    phx_ref_put_entry(a->cache, a->entries[r], a->x + r * a->x_stride);
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

static void cache_read_row(void *user, int64_t p, void *scratch)
{
    (void)scratch;
    const phx_cache_read_args *a = user;
    const int64_t entry = phx_cache_entry(a->cache, a->blocks, p);
    for (int64_t c = 0; c < a->n_cols; c++)
        a->out[p * a->n_cols + c] = phx_ref_cache_load(a->cache, entry, a->first_col + c);
}

void phx_cache_read_ref(phx_pool *pool, const phx_cache_read_args *args)
{
    phx_cache_read_args a = *args;
    phx_pool_run(pool, a.n_positions, cache_read_row, &a);
}

void phx_pick_rows_ref(phx_pool *pool, const phx_pick_rows_args *args)
{
    (void)pool;
    const int64_t bytes = args->x.dtype == PHX_BF16 ? 2 : 4;
    for (int64_t i = 0; i < args->n_rows; i++)
        memcpy((uint8_t *)args->out + i * args->n_cols * bytes,
               (const uint8_t *)args->x.data + args->rows[i] * args->x.stride * bytes,
               (size_t)(args->n_cols * bytes));
}
