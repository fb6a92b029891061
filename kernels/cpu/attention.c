/* kernels/cpu/attention.c - absorbed and expanded attention: which queries share the entries they look at,
 * and where those lie. An item is a group of heads of one row, or, where neighbouring rows walk through the
 * same blocks from position 0 on, all heads of several rows: so an entry is loaded once for many queries. */
#include "kernels/cpu/attend.h"

#include <assert.h>

#include "kernels/cache.h"

#define phx_attention          PHX_CPU(phx_attention)
#define phx_attention_expanded PHX_CPU(phx_attention_expanded)

/* Fewer queries per item than this waste the loads; more threads than items are worse. */
#define QUERIES_MIN 4

static int64_t divide_up(int64_t n, int64_t by)
{
    return (n + by - 1) / by;
}

/* ---- absorbed ---- */

typedef struct absorbed_work {
    phx_attention_args a;
    int64_t item_rows;
    int64_t item_heads;
    int64_t n_items_heads;
} absorbed_work;

typedef struct absorbed_list { /* the positions of one row, or of several rows with the same blocks */
    const phx_cache *cache;
    const int32_t *blocks;
    const int32_t *positions; /* NULL: 0, 1, 2, ... */
    int64_t d_latent;
} absorbed_list;

/* A code times its scale, a power of two, is exact. */
static void load_fp8_entries(const absorbed_list *l, int64_t first, int64_t n, int64_t width, float *rows,
                             int64_t stride)
{
    const phx_cache *cache = l->cache;
    const int64_t entry_bytes = phx_cache_entry_bytes(cache);
    for (int64_t i = 0; i < n; i++) {
        const int64_t position = l->positions ? l->positions[first + i] : first + i;
        const uint8_t *from =
            (const uint8_t *)cache->data + phx_cache_entry(cache, l->blocks, position) * entry_bytes;
        const float *scales = (const float *)(const void *)(from + phx_cache_scales_at(cache));
        float *row = rows + i * stride;
        phx_vf_widen(PHX_FORMAT_FP8_BLOCK, from, cache->d_latent, row);
        for (int64_t c = 0; c < cache->d_latent; c++)
            row[c] *= scales[c / PHX_CACHE_GROUP] * PHX_FP8_FACTOR;
        if (width > cache->d_latent)
            phx_vf_widen(PHX_FORMAT_BF16, from + phx_cache_rest_at(cache), width - cache->d_latent,
                         row + cache->d_latent);
    }
}

static void load_entries(const absorbed_list *l, int64_t first, int64_t n, int64_t width, float *rows,
                         int64_t stride)
{
    if (l->cache->dtype == PHX_F8_E4M3) {
        load_fp8_entries(l, first, n, width, rows, stride);
        return;
    }
    const phx_format format = phx_format_of_activation(l->cache->dtype);
    const int64_t entry_bytes = l->cache->width * phx_format_bytes(format);
    for (int64_t i = 0; i < n; i++) {
        const int64_t position = l->positions ? l->positions[first + i] : first + i;
        const int64_t entry = phx_cache_entry(l->cache, l->blocks, position);
        phx_vf_widen(format, (const uint8_t *)l->cache->data + entry * entry_bytes, width, rows + i * stride);
    }
}

static void load_absorbed_keys(const void *user, int64_t first, int64_t n, float *ret_rows, int64_t stride)
{
    const absorbed_list *l = user;
    load_entries(l, first, n, l->cache->width, ret_rows, stride);
}

static void load_absorbed_values(const void *user, int64_t first, int64_t n, float *ret_rows, int64_t stride)
{
    const absorbed_list *l = user;
    load_entries(l, first, n, l->d_latent, ret_rows, stride);
}

/* Rows [row, end) share one list; heads [head, head_end). */
static void absorbed_run(const absorbed_work *p, int64_t row, int64_t end, int64_t head, int64_t head_end,
                         void *scratch)
{
    const phx_attention_args *a = &p->a;
    const absorbed_list list = {.cache = a->cache,
                                .blocks = a->blocks[row],
                                .positions = a->positions ? a->positions + row * a->positions_stride : NULL,
                                .d_latent = a->d_latent};
    const int64_t out_bytes = a->out.dtype == PHX_BF16 ? 2 : 4;
    phx_attend job = {.d_key = a->cache->width,
                      .d_value = a->d_latent,
                      .scale = a->scale,
                      .load_keys = load_absorbed_keys,
                      .load_values = load_absorbed_values,
                      .user = &list,
                      .out_dtype = a->out.dtype,
                      .scratch = scratch};
    for (; row < end; row++) {
        for (int64_t h = head; h < head_end; h++) {
            const int64_t at = row * a->out.stride + h * a->d_latent;
            job.q[job.n_queries] = a->q + (row * a->n_heads + h) * a->cache->width;
            job.n[job.n_queries] = a->n_positions[row];
            job.lse[job.n_queries] = a->lse ? a->lse + row * a->n_heads + h : NULL;
            job.out[job.n_queries++] = (uint8_t *)a->out.data + at * out_bytes;
        }
    }
    phx_attend_run(&job);
}

static void absorbed_item(void *user, int64_t item, void *scratch)
{
    const absorbed_work *p = user;
    const int64_t head = item % p->n_items_heads * p->item_heads;
    const int64_t head_end = phx_i64_min(head + p->item_heads, p->a.n_heads);
    const int64_t first = item / p->n_items_heads * p->item_rows;
    const int64_t end = phx_i64_min(first + p->item_rows, p->a.n_rows);
    for (int64_t row = first; row < end;) {
        int64_t stop = row + 1;
        while (stop < end && !p->a.positions && p->a.blocks[stop] == p->a.blocks[row])
            stop++;
        absorbed_run(p, row, stop, head, head_end, scratch);
        row = stop;
    }
}

void phx_attention(phx_pool *pool, const phx_attention_args *args)
{
    absorbed_work p = {.a = *args, .item_rows = 1};
    const int64_t n_max = phx_attend_queries(args->cache->width, args->d_latent);
    assert(n_max >= 1);
    if (args->n_rows == 0)
        return;
    const int64_t fair = divide_up(args->n_rows * args->n_heads, phx_pool_n_threads(pool));
    const int64_t wanted = phx_i64_min(fair > QUERIES_MIN ? fair : QUERIES_MIN, n_max);
    p.item_heads = phx_i64_min(wanted, args->n_heads);
    if (p.item_heads == args->n_heads && !args->positions)
        p.item_rows = wanted / args->n_heads;
    p.n_items_heads = divide_up(args->n_heads, p.item_heads);
    p.item_heads = divide_up(args->n_heads, p.n_items_heads);
    phx_pool_run(pool, divide_up(args->n_rows, p.item_rows) * p.n_items_heads, absorbed_item, &p);
}

/* ---- expanded ---- */

typedef struct expanded_work {
    phx_attention_expanded_args a;
    int64_t item_rows;
} expanded_work;

typedef struct expanded_list { /* the keys of one head */
    const phx_attention_expanded_args *a;
    int64_t head;
} expanded_list;

static const float *kv_of(const expanded_list *l, int64_t key)
{
    return l->a->kv + (key * l->a->n_heads + l->head) * (l->a->d_nope + l->a->d_v);
}

static void load_expanded_keys(const void *user, int64_t first, int64_t n, float *ret_rows, int64_t stride)
{
    const expanded_list *l = user;
    for (int64_t i = 0; i < n; i++) {
        float *row = ret_rows + i * stride;
        memcpy(row, kv_of(l, first + i), (size_t)l->a->d_nope * sizeof(float));
        memcpy(row + l->a->d_nope, l->a->k_rope + (first + i) * l->a->d_rope,
               (size_t)l->a->d_rope * sizeof(float));
    }
}

static void load_expanded_values(const void *user, int64_t first, int64_t n, float *ret_rows, int64_t stride)
{
    const expanded_list *l = user;
    for (int64_t i = 0; i < n; i++)
        memcpy(ret_rows + i * stride, kv_of(l, first + i) + l->a->d_nope, (size_t)l->a->d_v * sizeof(float));
}

static void expanded_item(void *user, int64_t item, void *scratch)
{
    const expanded_work *p = user;
    const phx_attention_expanded_args *a = &p->a;
    const expanded_list list = {a, item % a->n_heads};
    const int64_t out_bytes = a->out.dtype == PHX_BF16 ? 2 : 4;
    phx_attend job = {.d_key = a->d_nope + a->d_rope,
                      .d_value = a->d_v,
                      .scale = a->scale,
                      .load_keys = load_expanded_keys,
                      .load_values = load_expanded_values,
                      .user = &list,
                      .out_dtype = a->out.dtype,
                      .scratch = scratch};
    const int64_t first = item / a->n_heads * p->item_rows;
    const int64_t end = phx_i64_min(first + p->item_rows, a->n_rows);
    for (int64_t row = first; row < end; row++) {
        const int64_t at = row * a->out.stride + list.head * a->d_v;
        job.q[job.n_queries] = a->q + (row * a->n_heads + list.head) * job.d_key;
        job.n[job.n_queries] = a->n_keys[row];
        job.out[job.n_queries++] = (uint8_t *)a->out.data + at * out_bytes;
    }
    phx_attend_run(&job);
}

void phx_attention_expanded(phx_pool *pool, const phx_attention_expanded_args *args)
{
    expanded_work p = {.a = *args};
    p.item_rows = phx_attend_queries(args->d_nope + args->d_rope, args->d_v);
    assert(p.item_rows >= 1);
    phx_pool_run(pool, divide_up(args->n_rows, p.item_rows) * args->n_heads, expanded_item, &p);
}
