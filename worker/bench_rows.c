/* worker/bench_rows.c - the ops of `--bench kernels` that read the cache or work on rows alone. Up to 16 rows
 * are sequences of their own, as in decoding; more are one chunk of one prompt. */
#include <string.h>

#include "worker/bench_kernels.h"

enum { BLOCK = 64, TOP = 64, SEQUENCES_MAX = 16, PARTS_MAX = 1024 };

/* Block tables of n_rows rows over a cache that starts at the bench's next window. */
typedef struct cache_case {
    phx_matrix entries; /* the cache seen as a matrix, so that it has a window like weights */
    phx_cache cache;
    const int32_t **blocks; /* [n_rows] */
    int32_t *n_keys;        /* [n_rows], all the depth */
    phx_attention_args attention;
    phx_index_scores_args scores;
    phx_top_positions_args top;
} cache_case;

static void make_cache(phx_kernels_bench *bench, cache_case *c, int64_t width, int64_t n_rows)
{
    const int64_t n_sequences = n_rows <= SEQUENCES_MAX ? n_rows : 1;
    const int64_t n_blocks = bench->depth / BLOCK;
    c->entries = phx_bench_matrix(bench, PHX_FORMAT_BF16, n_sequences * bench->depth, width);
    c->cache = (phx_cache){.width = width, .dtype = PHX_BF16};
    c->blocks = phx_bench_memory(bench, n_rows, sizeof(*c->blocks));
    c->n_keys = phx_bench_memory(bench, n_rows, sizeof(*c->n_keys));
    int32_t *table = phx_bench_memory(bench, n_sequences * n_blocks, sizeof(*table));
    int32_t *table_here = phx_bench_host(bench, table);
    const int32_t **blocks = phx_bench_host(bench, c->blocks);
    int32_t *n_keys = phx_bench_host(bench, c->n_keys);
    for (int32_t i = 0; i < (int32_t)(n_sequences * n_blocks); i++)
        table_here[i] = i;
    for (int64_t r = 0; r < n_rows; r++) {
        blocks[r] = table + r % n_sequences * n_blocks;
        n_keys[r] = (int32_t)bench->depth;
    }
}

static void next_cache(phx_kernels_bench *bench, cache_case *c)
{
    phx_bench_window(bench, &c->entries);
    c->cache.data = bench->weights.data + ((const uint8_t *)c->entries.data - bench->weights.data);
}

static void run_attention(phx_kernels_bench *bench, void *user)
{
    cache_case *c = user;
    next_cache(bench, c);
    bench->ops.attention(bench->queue, &c->attention);
}

static void run_scores(phx_kernels_bench *bench, void *user)
{
    cache_case *c = user;
    next_cache(bench, c);
    bench->ops.index_scores(bench->queue, &c->scores);
}

static void run_top(phx_kernels_bench *bench, void *user)
{
    const cache_case *c = user;
    bench->ops.top_positions(bench->queue, &c->top);
}

/* The same over a list of index_topk positions, evenly spread. */
static void choose_keys(phx_kernels_bench *bench, cache_case *c, int64_t n_rows)
{
    char shape[PHX_BENCH_SHAPE_BYTES];
    const phx_attention_args *a = &c->attention;
    const int64_t n_kept = bench->dims->index_topk < bench->depth ? bench->dims->index_topk : bench->depth;
    int32_t *positions = phx_bench_rows(bench, n_rows, n_kept, PHX_I32);
    int32_t *positions_here = phx_bench_host(bench, positions);
    int32_t *n_keys_here = phx_bench_host(bench, c->n_keys);
    for (int64_t i = 0; i < n_rows * n_kept; i++)
        positions_here[i] = (int32_t)(i % n_kept * bench->depth / n_kept);
    for (int64_t r = 0; r < n_rows; r++)
        n_keys_here[r] = (int32_t)n_kept;
    c->attention.positions = positions;
    c->attention.positions_stride = n_kept;
    (void)snprintf(shape, sizeof(shape), "%lld heads, %lld of %lld keys", (long long)a->n_heads,
                   (long long)n_kept, (long long)bench->depth);
    const double share = (double)n_kept / (double)bench->depth;
    const double ops = 2.0 * (double)(n_rows * a->n_heads * (c->cache.width + a->d_latent) * n_kept);
    phx_bench_case(bench,
                   &(phx_kernel_case){"attention", shape, n_rows, share * phx_bench_matrix_bytes(&c->entries),
                                      ops, run_attention, c});
}

/* On a device a part for every split, as far as the bench's memory goes. */
static void give_parts(phx_kernels_bench *bench, phx_attention_args *a)
{
    const int64_t n_groups = (a->n_heads + PHX_ATTENTION_GROUP - 1) / PHX_ATTENTION_GROUP;
    const int64_t n_splits = (bench->depth + PHX_ATTENTION_SPLIT - 1) / PHX_ATTENTION_SPLIT;
    const int64_t n_wanted = a->n_rows * n_groups * n_splits, n_max = bench->is_emu ? 64 : PARTS_MAX;
    if (!bench->backend->device)
        return;
    a->n_parts = (n_wanted < n_max ? n_wanted : n_max) * PHX_ATTENTION_PART_FLOATS(a->d_latent) +
                 2 * a->n_rows * n_groups;
    a->parts = phx_bench_rows(bench, 1, a->n_parts, PHX_F32);
}

static void attention_case(phx_kernels_bench *bench, int64_t n_rows)
{
    const phx_dims *d = bench->dims;
    const size_t mark = bench->memory_used;
    const int64_t n_heads = d->n_heads / bench->tp;
    const int64_t width = d->kv_lora + d->d_rope;
    char shape[PHX_BENCH_SHAPE_BYTES];
    cache_case c;
    make_cache(bench, &c, width, n_rows);
    c.attention = (phx_attention_args){.q = phx_bench_rows(bench, n_rows, n_heads * width, PHX_F32),
                                       .n_rows = n_rows,
                                       .n_heads = n_heads,
                                       .cache = &c.cache,
                                       .d_latent = d->kv_lora,
                                       .blocks = c.blocks,
                                       .n_positions = c.n_keys,
                                       .scale = 1e-3f,
                                       .out = {phx_bench_rows(bench, n_rows, n_heads * d->kv_lora, PHX_BF16),
                                               n_heads * d->kv_lora, PHX_BF16}};
    give_parts(bench, &c.attention);
    (void)snprintf(shape, sizeof(shape), "%lld heads, %lld keys of %lld", (long long)n_heads,
                   (long long)bench->depth, (long long)width);
    const double ops = 2.0 * (double)(n_rows * n_heads * (width + d->kv_lora)) * (double)bench->depth;
    phx_bench_case(bench, &(phx_kernel_case){"attention", shape, n_rows, phx_bench_matrix_bytes(&c.entries),
                                             ops, run_attention, &c});
    if (d->index_n_heads)
        choose_keys(bench, &c, n_rows);
    bench->memory_used = mark;
}

static void indexer_case(phx_kernels_bench *bench, int64_t n_rows)
{
    const phx_dims *d = bench->dims;
    const size_t mark = bench->memory_used;
    char shape[PHX_BENCH_SHAPE_BYTES];
    cache_case c;
    make_cache(bench, &c, d->index_d, n_rows);
    float *scores = phx_bench_rows(bench, n_rows, bench->depth, PHX_F32);
    c.scores =
        (phx_index_scores_args){.q = phx_bench_rows(bench, n_rows, d->index_n_heads * d->index_d, PHX_F32),
                                .w = phx_bench_rows(bench, n_rows, d->index_n_heads, PHX_F32),
                                .w_scale = 1.0f,
                                .keys = &c.cache,
                                .blocks = c.blocks,
                                .n_keys = c.n_keys,
                                .n_keys_max = bench->depth,
                                .n_rows = n_rows,
                                .n_heads = d->index_n_heads,
                                .scores = scores,
                                .scores_stride = bench->depth};
    (void)snprintf(shape, sizeof(shape), "%lld heads, %lld keys of %lld", (long long)d->index_n_heads,
                   (long long)bench->depth, (long long)d->index_d);
    const double ops = 2.0 * (double)(n_rows * d->index_n_heads * d->index_d) * (double)bench->depth;
    phx_bench_case(bench, &(phx_kernel_case){"index_scores", shape, n_rows,
                                             phx_bench_matrix_bytes(&c.entries), ops, run_scores, &c});
    c.top = (phx_top_positions_args){.scores = scores,
                                     .scores_stride = bench->depth,
                                     .n_keys = c.n_keys,
                                     .n_rows = n_rows,
                                     .n_keep = d->index_topk,
                                     .positions = phx_bench_rows(bench, n_rows, d->index_topk, PHX_I32),
                                     .n_positions = phx_bench_rows(bench, n_rows, 1, PHX_I32)};
    (void)snprintf(shape, sizeof(shape), "%lld of %lld", (long long)d->index_topk, (long long)bench->depth);
    phx_bench_case(bench, &(phx_kernel_case){"top_positions", shape, n_rows,
                                             (double)(n_rows * bench->depth) * 4.0, 0.0, run_top, &c});
    bench->memory_used = mark;
}

void phx_bench_cache_ops(phx_kernels_bench *bench, int64_t n_rows)
{
    attention_case(bench, n_rows);
    if (bench->dims->index_n_heads)
        indexer_case(bench, n_rows);
}

/* Rows in a cache as they are in a step: the buffers are small and were just written. */
typedef struct row_case {
    phx_rms_norm_args rms_norm;
    phx_round_args round;
    phx_add_args add;
    phx_route_args route;
    phx_vocab_top_args vocab_top;
} row_case;

#define RUN(op)                                                     \
    static void run_##op(phx_kernels_bench *bench, void *user)      \
    {                                                               \
        bench->ops.op(bench->queue, &((const row_case *)user)->op); \
    }
RUN(rms_norm)
RUN(round)
RUN(add)
RUN(route)
RUN(vocab_top)
#undef RUN

static void wide_cases(phx_kernels_bench *bench, row_case *c, int64_t n_rows)
{
    char shape[PHX_BENCH_SHAPE_BYTES];
    const int64_t width = bench->dims->d_hidden;
    const double n = (double)(n_rows * width);
    float *x = phx_bench_rows(bench, n_rows, width, PHX_F32);
    const phx_activation_out out = {phx_bench_rows(bench, n_rows, width, PHX_BF16), width, PHX_BF16};
    (void)snprintf(shape, sizeof(shape), "%lld", (long long)width);
    c->rms_norm = (phx_rms_norm_args){.x = x,
                                      .x_stride = width,
                                      .weight = phx_bench_rows(bench, 1, width, PHX_F32),
                                      .eps = 1e-6f,
                                      .n_rows = n_rows,
                                      .n_cols = width,
                                      .out_act = out};
    phx_bench_case(bench, &(phx_kernel_case){"rms_norm", shape, n_rows, n * 6.0, 0.0, run_rms_norm, c});
    c->round = (phx_round_args){.x = x, .x_stride = width, .n_rows = n_rows, .n_cols = width, .out = out};
    phx_bench_case(bench, &(phx_kernel_case){"round", shape, n_rows, n * 6.0, 0.0, run_round, c});
    float *y = phx_bench_rows(bench, n_rows, width, PHX_F32);
    memset(phx_bench_host(bench, y), 0, (size_t)(n_rows * width) * sizeof(*y));
    c->add = (phx_add_args){.y = y, .x = x, .n = n_rows * width};
    phx_bench_case(bench, &(phx_kernel_case){"add", shape, n_rows, n * 12.0, 0.0, run_add, c});
}

void phx_bench_row_ops(phx_kernels_bench *bench, int64_t n_rows)
{
    const phx_dims *d = bench->dims;
    const size_t mark = bench->memory_used;
    char shape[PHX_BENCH_SHAPE_BYTES];
    row_case c;
    wide_cases(bench, &c, n_rows);
    c.route = (phx_route_args){.logits = phx_bench_rows(bench, n_rows, d->n_experts, PHX_F32),
                               .bias = phx_bench_rows(bench, 1, d->n_experts, PHX_F32),
                               .n_rows = n_rows,
                               .n_experts = d->n_experts,
                               .n_used = d->n_experts_used,
                               .n_groups = d->n_expert_groups,
                               .n_groups_used = d->n_expert_groups_used,
                               .norm = d->norm_topk,
                               .scale = (float)d->routed_scale,
                               .ids = phx_bench_rows(bench, n_rows, d->n_experts_used, PHX_I32),
                               .weights = phx_bench_rows(bench, n_rows, d->n_experts_used, PHX_F32)};
    (void)snprintf(shape, sizeof(shape), "%lld of %lld", (long long)d->n_experts_used,
                   (long long)d->n_experts);
    phx_bench_case(bench, &(phx_kernel_case){"route", shape, n_rows, (double)(n_rows * d->n_experts) * 4.0,
                                             0.0, run_route, &c});
    if (n_rows <= SEQUENCES_MAX) { /* only rows that sample */
        const int64_t n_vocab = d->n_vocab / bench->tp;
        float *inv = phx_bench_rows(bench, n_rows, 1, PHX_F32);
        float *inv_here = phx_bench_host(bench, inv);
        int64_t *bounds = phx_bench_memory(bench, 2, sizeof(*bounds));
        int64_t *bounds_here = phx_bench_host(bench, bounds);
        bounds_here[0] = 0;
        bounds_here[1] = n_vocab;
        for (int64_t r = 0; r < n_rows; r++)
            inv_here[r] = 1.0f;
        c.vocab_top = (phx_vocab_top_args){.logits = phx_bench_rows(bench, n_rows, n_vocab, PHX_F32),
                                           .stride = n_vocab,
                                           .n_rows = n_rows,
                                           .n_leaves = 1,
                                           .bounds = bounds,
                                           .inv_temperature = inv,
                                           .n_top = TOP,
                                           .lse = phx_bench_rows(bench, n_rows, 2, PHX_F32),
                                           .ids = phx_bench_rows(bench, n_rows, TOP, PHX_I32),
                                           .values = phx_bench_rows(bench, n_rows, TOP, PHX_F32)};
        (void)snprintf(shape, sizeof(shape), "%d of %lld", TOP, (long long)n_vocab);
        phx_bench_case(bench, &(phx_kernel_case){"vocab_top", shape, n_rows, (double)(n_rows * n_vocab) * 4.0,
                                                 0.0, run_vocab_top, &c});
    }
    bench->memory_used = mark;
}
