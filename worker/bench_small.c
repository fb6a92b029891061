/* worker/bench_small.c - the ops of `--bench kernels` that move, rotate or list small rows: no products, and
 * nothing that the limit of memory says much about. On a device they cost their launch; a step has many. */
#include <string.h>

#include "worker/bench_kernels.h"

enum { EXPANDED_KEYS = 64 };

typedef struct small_case {
    phx_matrix table;
    phx_cache cache;
    phx_embed_args embed;
    phx_layer_norm_args layer_norm;
    phx_rope_args rope;
    phx_list_experts_args list_experts;
    phx_index_round_args index_round;
    phx_cache_write_args cache_write;
    phx_latent_write_args latent_write;
    phx_cache_read_args cache_read;
    phx_attention_expanded_args attention_expanded;
    phx_pick_rows_args pick_rows;
    phx_noisy_top_args noisy_top;
} small_case;

#define RUN(op)                                                       \
    static void run_##op(phx_kernels_bench *bench, void *user)        \
    {                                                                 \
        bench->ops.op(bench->queue, &((const small_case *)user)->op); \
    }
RUN(embed)
RUN(layer_norm)
RUN(rope)
RUN(list_experts)
RUN(index_round)
RUN(cache_write)
RUN(latent_write)
RUN(cache_read)
RUN(attention_expanded)
RUN(pick_rows)
RUN(noisy_top)
#undef RUN

/* n_rows numbers first, first + step, ... below n, over and over. */
static int32_t *numbers(phx_kernels_bench *bench, int64_t n_rows, int64_t step, int64_t n)
{
    int32_t *list = phx_bench_rows(bench, n_rows, 1, PHX_I32);
    int32_t *here = phx_bench_host(bench, list);
    for (int64_t i = 0; i < n_rows; i++)
        here[i] = (int32_t)(i * step % n);
    return list;
}

static void show(phx_kernels_bench *bench, const char *op, const char *what, int64_t n_rows, double n_numbers,
                 double bytes, void (*run)(phx_kernels_bench *bench, void *user), small_case *c)
{
    char shape[PHX_BENCH_SHAPE_BYTES];
    (void)snprintf(shape, sizeof(shape), "%s %.0f", what, n_numbers / (double)n_rows);
    phx_bench_case(bench, &(phx_kernel_case){op, shape, n_rows, bytes, 0.0, run, c});
}

static void copy_cases(phx_kernels_bench *bench, small_case *c, int64_t n_rows)
{
    const int64_t width = bench->dims->d_hidden;
    const int64_t n_vocab = bench->dims->n_vocab / bench->tp;
    const double n = (double)(n_rows * width);
    c->table = phx_bench_matrix(bench, PHX_FORMAT_BF16, n_vocab, width);
    float *x = phx_bench_rows(bench, n_rows, width, PHX_F32);
    c->embed = (phx_embed_args){&c->table, numbers(bench, n_rows, 37, n_vocab), n_rows, x};
    show(bench, "embed", "width", n_rows, n, n * 6.0, run_embed, c);
    c->pick_rows =
        (phx_pick_rows_args){.x = {phx_bench_rows(bench, n_rows, width, PHX_BF16), width, PHX_BF16},
                             .rows = numbers(bench, n_rows, 1, n_rows),
                             .n_rows = n_rows,
                             .n_cols = width,
                             .out = phx_bench_rows(bench, n_rows, width, PHX_BF16)};
    show(bench, "pick_rows", "width", n_rows, n, n * 4.0, run_pick_rows, c);
}

static void index_cases(phx_kernels_bench *bench, small_case *c, int64_t n_rows)
{
    const phx_dims *d = bench->dims;
    const double n = (double)(n_rows * d->index_d);
    if (d->index_n_heads == 0)
        return;
    float *x = phx_bench_rows(bench, n_rows * d->index_n_heads, d->index_d, PHX_F32);
    c->layer_norm = (phx_layer_norm_args){x,
                                          phx_bench_rows(bench, 1, d->index_d, PHX_F32),
                                          phx_bench_rows(bench, 1, d->index_d, PHX_F32),
                                          1e-6f,
                                          n_rows,
                                          d->index_d};
    show(bench, "layer_norm", "width", n_rows, n, n * 8.0, run_layer_norm, c);
    c->index_round = (phx_index_round_args){x, n_rows * d->index_n_heads, d->index_d, true, true};
    show(bench, "index_round", "heads x width", n_rows, n * (double)d->index_n_heads,
         n * 8.0 * (double)d->index_n_heads, run_index_round, c);
}

static void cache_cases(phx_kernels_bench *bench, small_case *c, int64_t n_rows)
{
    const phx_dims *d = bench->dims;
    const int64_t width = d->kv_lora + d->d_rope;
    const int64_t n_heads = d->n_heads / bench->tp;
    const int64_t q_width = n_heads * (d->d_nope + d->d_rope);
    const double n = (double)(n_rows * width);
    const phx_matrix entries = phx_bench_matrix(bench, PHX_FORMAT_BF16, bench->depth, width);
    c->cache = (phx_cache){
        .data = bench->weights.data + ((const uint8_t *)entries.data - bench->weights.data),
        .width = width,
        .dtype = PHX_BF16,
    };
    int64_t *places = phx_bench_memory(bench, n_rows, sizeof(*places));
    int64_t *places_here = phx_bench_host(bench, places);
    for (int64_t r = 0; r < n_rows; r++)
        places_here[r] = r * 5 % bench->depth; /* no two the same */
    c->cache_write = (phx_cache_write_args){phx_bench_rows(bench, n_rows, width, PHX_F32), width, n_rows,
                                            places, &c->cache};
    show(bench, "cache_write", "width", n_rows, n, n * 6.0, run_cache_write, c);
    c->cache_read = (phx_cache_read_args){.cache = &c->cache,
                                          .blocks = numbers(bench, bench->depth / 64, 1, bench->depth),
                                          .n_positions = n_rows < bench->depth ? n_rows : bench->depth,
                                          .n_cols = d->kv_lora,
                                          .out = phx_bench_rows(bench, n_rows, d->kv_lora, PHX_F32)};
    show(bench, "cache_read", "width", n_rows, (double)(n_rows * d->kv_lora), n * 6.0, run_cache_read, c);
    const int64_t n_freqs = d->d_rope / 2;
    c->rope = (phx_rope_args){.x = phx_bench_rows(bench, n_rows, q_width, PHX_F32),
                              .row_stride = q_width,
                              .head_stride = d->d_nope + d->d_rope,
                              .n_rows = n_rows,
                              .n_heads = n_heads,
                              .d_rope = d->d_rope,
                              .interleaved = true,
                              .positions = numbers(bench, n_rows, 3, bench->depth),
                              .table = phx_bench_rows(bench, bench->depth, n_freqs * 2, PHX_F32)};
    c->latent_write = (phx_latent_write_args){.x = c->cache_write.x,
                                              .x_stride = width,
                                              .weight = phx_bench_rows(bench, 1, d->kv_lora, PHX_F32),
                                              .eps = 1e-6f,
                                              .n_rows = n_rows,
                                              .d_latent = d->kv_lora,
                                              .positions = c->rope.positions,
                                              .table = c->rope.table,
                                              .entries = places,
                                              .cache = &c->cache};
    show(bench, "latent_write", "width", n_rows, n, n * 6.0, run_latent_write, c);
    const double n_turned = (double)(n_rows * n_heads * d->d_rope);
    show(bench, "rope", "heads x width", n_rows, n_turned, n_turned * 8.0, run_rope, c);
    c->attention_expanded = (phx_attention_expanded_args){
        .q = phx_bench_rows(bench, n_rows, q_width, PHX_F32),
        .kv = phx_bench_rows(bench, EXPANDED_KEYS, n_heads * (d->d_nope + d->d_v), PHX_F32),
        .k_rope = phx_bench_rows(bench, EXPANDED_KEYS, d->d_rope, PHX_F32),
        .n_keys = numbers(bench, n_rows, 1, EXPANDED_KEYS),
        .n_rows = n_rows,
        .n_heads = n_heads,
        .d_nope = d->d_nope,
        .d_rope = d->d_rope,
        .d_v = d->d_v,
        .scale = 1e-3f,
        .out = {phx_bench_rows(bench, n_rows, n_heads * d->d_v, PHX_BF16), n_heads * d->d_v, PHX_BF16}};
    int32_t *n_keys = phx_bench_host(bench, c->attention_expanded.n_keys);
    for (int64_t r = 0; r < n_rows; r++)
        n_keys[r] = EXPANDED_KEYS;
    const double kv_bytes = (double)(EXPANDED_KEYS * n_heads * (d->d_nope + d->d_v)) * 4.0;
    show(bench, "attention_expanded", "64 keys, heads", n_rows, (double)(n_rows * n_heads), kv_bytes,
         run_attention_expanded, c);
}

static void choice_cases(phx_kernels_bench *bench, small_case *c, int64_t n_rows)
{
    const phx_dims *d = bench->dims;
    const int64_t n_pairs = n_rows * d->n_experts_used;
    const int64_t n_vocab = d->n_vocab / bench->tp;
    int32_t *ids = phx_bench_rows(bench, n_pairs, 1, PHX_I32);
    int32_t *ids_here = phx_bench_host(bench, ids);
    const int64_t apart = d->n_experts / d->n_experts_used;
    for (int64_t i = 0; i < n_pairs; i++)
        ids_here[i] = (int32_t)(i % d->n_experts_used * apart + i / d->n_experts_used % apart);
    c->list_experts =
        (phx_list_experts_args){.ids = ids,
                                .weights = phx_bench_rows(bench, n_pairs, 1, PHX_F32),
                                .n_tokens = n_rows,
                                .n_used = d->n_experts_used,
                                .n_experts = d->n_experts,
                                .held_end = d->n_experts,
                                .first = phx_bench_memory(bench, d->n_experts + 1, sizeof(int64_t)),
                                .token = phx_bench_rows(bench, n_pairs, 1, PHX_I32),
                                .weight = phx_bench_rows(bench, n_pairs, 1, PHX_F32),
                                .token_first = phx_bench_memory(bench, n_rows + 1, sizeof(int64_t)),
                                .token_entries = phx_bench_rows(bench, n_pairs, 1, PHX_I32)};
    show(bench, "list_experts", "used", n_rows, (double)n_pairs, (double)n_pairs * 8.0, run_list_experts, c);
    if (n_rows > 16) /* only rows that sample */
        return;
    int64_t *bounds = phx_bench_memory(bench, 2, sizeof(*bounds));
    int64_t *bounds_here = phx_bench_host(bench, bounds);
    uint64_t *noise = phx_bench_memory(bench, n_rows * 4, sizeof(*noise));
    uint64_t *noise_here = phx_bench_host(bench, noise);
    float *inv = phx_bench_rows(bench, n_rows, 1, PHX_F32);
    float *inv_here = phx_bench_host(bench, inv);
    bounds_here[0] = 0;
    bounds_here[1] = n_vocab;
    for (int64_t r = 0; r < n_rows; r++) {
        inv_here[r] = 1.0f;
        memcpy(noise_here + 4 * r, (const uint64_t[]){7, 0, (uint64_t)r, 1}, 4 * sizeof(*noise));
    }
    c->noisy_top = (phx_noisy_top_args){.logits = phx_bench_rows(bench, n_rows, n_vocab, PHX_F32),
                                        .stride = n_vocab,
                                        .n_rows = n_rows,
                                        .n_leaves = 1,
                                        .bounds = bounds,
                                        .inv_temperature = inv,
                                        .noise = noise,
                                        .values = phx_bench_rows(bench, n_rows, 1, PHX_F32),
                                        .ids = phx_bench_rows(bench, n_rows, 1, PHX_I32),
                                        .chosen_logits = phx_bench_rows(bench, n_rows, 1, PHX_F32)};
    show(bench, "noisy_top", "of", n_rows, (double)(n_rows * n_vocab), (double)(n_rows * n_vocab) * 4.0,
         run_noisy_top, c);
}

void phx_bench_small_ops(phx_kernels_bench *bench, int64_t n_rows)
{
    const size_t mark = bench->memory_used;
    small_case c = {0};
    copy_cases(bench, &c, n_rows);
    index_cases(bench, &c, n_rows);
    cache_cases(bench, &c, n_rows);
    bench->memory_used = mark;
    choice_cases(bench, &c, n_rows);
    bench->memory_used = mark;
}
