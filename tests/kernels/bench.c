/* tests/kernels/bench.c - how fast each op of each level runs: time per call, GB/s of what must be read, and
 * the ratio to the reference. Sizes of one rank of a large model at tp 8, cut down to a fraction of a second.
 */
#include "tests/kernels/check.h"

#include <string.h>

#include "base/clock.h"
#include "tests/kernels/routing.h"

#define ROUND_US 60000 /* of one measurement */

/* One measurable call: a closure over its arguments. */
typedef struct bench_call {
    phx_pool *pool;
    const phx_ops *ops;
    const void *args;
} bench_call;

#define X(op)                                  \
    static void call_##op(const bench_call *b) \
    {                                          \
        b->ops->op(b->pool, b->args);          \
    }
PHX_OPS(X)
#undef X

typedef struct bench {
    check c; /* memory and random numbers */
    const check_variant *variants;
    int n_variants;
} bench;

/* Best microseconds per call of a few rounds. */
static double measure(const bench_call *b, void (*call)(const bench_call *b))
{
    call(b);
    double best = 0.0;
    for (int round = 0; round < 3; round++) {
        const uint64_t start = phx_clock_us();
        uint64_t n = 0;
        uint64_t now = start;
        for (; now - start < ROUND_US / 3; n++, now = phx_clock_us())
            call(b);
        const double us = (double)(now - start) / (double)n;
        best = round == 0 || us < best ? us : best;
    }
    return best;
}

/* Lines of one op: all variants that have it. has: offset of its flag in check_variant. */
static void report(bench *b, const char *op, size_t has, void (*call)(const bench_call *b), const void *args,
                   double bytes)
{
    double ref_us = 0.0;
    for (int i = 0; i < b->n_variants; i++) {
        const check_variant *v = &b->variants[i];
        bool present;
        memcpy(&present, (const char *)v + has, sizeof(present));
        if (!present)
            continue;
        const double us = measure(&(bench_call){b->c.pools[0], &v->ops, args}, call);
        ref_us = ref_us > 0.0 ? ref_us : us;
        printf("%-18s %-28s %-11s %10.1f us %7.2f GB/s %8.2f x ref\n", op, b->c.what, v->name, us,
               bytes / us * 1e-3, ref_us / us);
        fflush(stdout);
    }
}

#define REPORT(b, op, args, bytes) \
    report((b), #op, offsetof(check_variant, has_##op), call_##op, (args), (bytes))

static double matrix_bytes(const phx_matrix *m)
{
    return (double)m->n_rows * (double)phx_format_row_bytes(m->format, m->n_cols);
}

static void bench_products(bench *b, phx_format format, int64_t n_rows)
{
    check *c = &b->c;
    check_case(c, "%s 512 x 2048, %lld rows", phx_format_name(format), (long long)n_rows);
    const phx_matrix *w = check_matrix(c, format, 512, 2048, CHECK_RANDOM);
    phx_product_args p = {.x = check_activation(c, n_rows, 2048, PHX_BF16, CHECK_RANDOM),
                          .w = w,
                          .n_groups = 1,
                          .n_out = 512,
                          .n_rows = n_rows,
                          .out_stride = 512};
    p.out = check_out(c, n_rows * 512, sizeof(float));
    REPORT(b, product, &p, matrix_bytes(w));
    phx_product_t_args t = {.x = check_activation(c, n_rows, 512, PHX_BF16, CHECK_RANDOM),
                            .w = w,
                            .n_groups = 1,
                            .n_in = 512,
                            .n_rows = n_rows,
                            .out_stride = 2048};
    t.out = check_out(c, n_rows * 2048, sizeof(float));
    REPORT(b, product_t, &t, matrix_bytes(w));
    check_end(c);
}

static void bench_ffn(bench *b, phx_format format, int64_t n_tokens)
{
    enum { D_HIDDEN = 2048, D_FF = 256, N_LEAVES = 4 };
    check *c = &b->c;
    check_case(c, "%s 3 of 8 x %d x %d, %lld rows", phx_format_name(format), D_FF, D_HIDDEN,
               (long long)n_tokens);
    check_routing routing = check_routing_make(c, CHECK_ROUTING_MIXED, n_tokens);
    const int64_t n_entries = routing.rows.first[routing.rows.n_experts];
    const phx_matrix **gate = check_mem(c, routing.rows.n_experts, sizeof(*gate));
    const phx_matrix **up = check_mem(c, routing.rows.n_experts, sizeof(*up));
    const phx_matrix **down = check_mem(c, routing.rows.n_experts, sizeof(*down));
    double bytes = 0.0;
    for (int64_t e = 0; e < routing.rows.n_experts; e++) {
        if (routing.rows.first[e] == routing.rows.first[e + 1])
            continue;
        gate[e] = check_matrix(c, format, D_FF, D_HIDDEN, CHECK_RANDOM);
        up[e] = check_matrix(c, format, D_FF, D_HIDDEN, CHECK_RANDOM);
        down[e] = check_matrix(c, format, D_HIDDEN, D_FF, CHECK_RANDOM);
        bytes += matrix_bytes(down[e]);
    }
    phx_ffn_in_args in = {.x = check_activation(c, n_tokens, D_HIDDEN, PHX_BF16, CHECK_RANDOM),
                          .gate = gate,
                          .up = up,
                          .rows = routing.rows,
                          .n_out = D_FF,
                          .out = {NULL, D_FF, PHX_BF16}};
    in.out.data = check_out(c, n_entries * D_FF, 2);
    REPORT(b, ffn_in, &in, 2.0 * bytes);
    int64_t bounds[N_LEAVES + 1];
    for (int64_t i = 0; i <= N_LEAVES; i++)
        bounds[i] = i * D_FF / N_LEAVES;
    phx_leaf_sum_args sum = {.n_tokens = n_tokens,
                             .n_out = D_HIDDEN,
                             .n_leaves = N_LEAVES,
                             .routed = routing.rows,
                             .h_routed = {in.out.data, D_FF, PHX_BF16},
                             .down = down,
                             .routed_bounds = bounds,
                             .fixed = check_matrix(c, format, D_HIDDEN, D_FF, CHECK_RANDOM),
                             .h_fixed = check_activation(c, n_tokens, D_FF, PHX_BF16, CHECK_RANDOM),
                             .fixed_bounds = bounds,
                             .token_first = routing.token_first,
                             .token_entries = routing.token_entries};
    sum.out = check_out(c, n_tokens * D_HIDDEN, sizeof(float));
    REPORT(b, leaf_sum, &sum, bytes + matrix_bytes(sum.fixed));
    check_end(c);
}

static void bench_attention(bench *b)
{
    enum { N_HEADS = 16, WIDTH = 576, LATENT = 512, N_BLOCKS = 32, D_INDEX = 128 };
    check *c = &b->c;
    check_case(c, "16 heads, 2048 positions");
    int32_t blocks[N_BLOCKS];
    for (int32_t i = 0; i < N_BLOCKS; i++)
        blocks[i] = i;
    const int32_t *table = blocks;
    const int32_t n = N_BLOCKS * 64;
    const phx_activation entries = check_activation(c, n, WIDTH, PHX_BF16, CHECK_RANDOM);
    uint16_t *packed = check_mem(c, (int64_t)n * WIDTH, 2);
    for (int64_t i = 0; i < n; i++)
        memcpy(packed + i * WIDTH, (const uint16_t *)entries.data + i * entries.stride, WIDTH * 2);
    const phx_cache cache = {packed, WIDTH, PHX_BF16, 0, 0};
    phx_attention_args a = {.q = check_floats(c, N_HEADS * WIDTH, CHECK_RANDOM),
                            .n_rows = 1,
                            .n_heads = N_HEADS,
                            .cache = &cache,
                            .d_latent = LATENT,
                            .blocks = &table,
                            .n_positions = &n,
                            .scale = 0.1f,
                            .out = {NULL, N_HEADS * LATENT, PHX_BF16}};
    a.out.data = check_out(c, N_HEADS * LATENT, 2);
    const int64_t n_splits = (n + PHX_ATTENTION_SPLIT - 1) / PHX_ATTENTION_SPLIT;
    a.n_parts =
        (n_splits + 1) * PHX_ATTENTION_PART_FLOATS(LATENT) + 2; /* and the words of a row of 16 heads */
    a.parts = check_out(c, a.n_parts, sizeof(float));
    REPORT(b, attention, &a, (double)n * WIDTH * 2);
    check_end(c);
    check_case(c, "64 heads, 2048 keys, keep 512");
    const phx_cache keys = {packed, D_INDEX, PHX_BF16, 0, 0};
    packed = check_mem(c, (int64_t)n * D_INDEX, 2);
    phx_cache own = keys;
    own.data = packed;
    phx_index_scores_args s = {.q = check_floats(c, 64 * D_INDEX, CHECK_RANDOM),
                               .w = check_floats(c, 64, CHECK_RANDOM),
                               .w_scale = 0.0883f,
                               .keys = &own,
                               .blocks = &table,
                               .n_keys = &n,
                               .n_keys_max = n,
                               .n_rows = 1,
                               .n_heads = 64,
                               .scores_stride = n};
    for (int64_t i = 0; i < (int64_t)n * D_INDEX; i++)
        packed[i] = phx_f32_to_bf16(phx_rng_unit(phx_rng_u64(&c->rng)) - 0.5f);
    s.scores = check_out(c, n, sizeof(float));
    REPORT(b, index_scores, &s, (double)n * D_INDEX * 2);
    int32_t n_positions;
    phx_top_positions_args t = {.scores = s.scores,
                                .scores_stride = n,
                                .n_keys = &n,
                                .n_rows = 1,
                                .n_keep = 512,
                                .n_positions = &n_positions};
    t.positions = check_out(c, 512, sizeof(int32_t));
    REPORT(b, top_positions, &t, (double)n * 4);
    check_end(c);
}

static void bench_rows(bench *b)
{
    enum { N_ROWS = 16, N_COLS = 7168, N_EXPERTS = 256, N_USED = 8, N_VOCAB = 16160, N_TOP = 64 };
    check *c = &b->c;
    check_case(c, "16 rows of 7168");
    phx_rms_norm_args norm = {.x = check_floats(c, N_ROWS * N_COLS, CHECK_RANDOM),
                              .x_stride = N_COLS,
                              .weight = check_floats(c, N_COLS, CHECK_RANDOM),
                              .eps = 1e-6f,
                              .n_rows = N_ROWS,
                              .n_cols = N_COLS,
                              .out_act = {NULL, N_COLS, PHX_BF16}};
    norm.out_act.data = check_out(c, N_ROWS * N_COLS, 2);
    REPORT(b, rms_norm, &norm, N_ROWS * N_COLS * 6.0);
    phx_round_args round = {
        .x = norm.x, .x_stride = N_COLS, .n_rows = N_ROWS, .n_cols = N_COLS, .out = norm.out_act};
    REPORT(b, round, &round, N_ROWS * N_COLS * 6.0);
    phx_add_args add = {.y = check_floats(c, N_ROWS * N_COLS, CHECK_ZERO), .x = norm.x, .n = N_ROWS * N_COLS};
    REPORT(b, add, &add, N_ROWS * N_COLS * 12.0);
    check_end(c);
    check_case(c, "16 rows of 256, 4 of 8 groups");
    phx_route_args route = {.logits = check_floats(c, N_ROWS * N_EXPERTS, CHECK_RANDOM),
                            .bias = check_floats(c, N_EXPERTS, CHECK_RANDOM),
                            .n_rows = N_ROWS,
                            .n_experts = N_EXPERTS,
                            .n_used = N_USED,
                            .n_groups = 8,
                            .n_groups_used = 4,
                            .norm = true,
                            .scale = 2.5f};
    route.ids = check_out(c, N_ROWS * N_USED, sizeof(int32_t));
    route.weights = check_out(c, N_ROWS * N_USED, sizeof(float));
    REPORT(b, route, &route, N_ROWS * N_EXPERTS * 4.0);
    check_end(c);
    check_case(c, "1 row of 16160, top 64");
    const int64_t bounds[2] = {0, N_VOCAB};
    const float one = 1.0f;
    phx_vocab_top_args top = {.logits = check_floats(c, N_VOCAB, CHECK_RANDOM),
                              .stride = N_VOCAB,
                              .n_rows = 1,
                              .n_leaves = 1,
                              .bounds = bounds,
                              .inv_temperature = &one,
                              .n_top = N_TOP};
    top.lse = check_out(c, 2, sizeof(float));
    top.ids = check_out(c, N_TOP, sizeof(int32_t));
    top.values = check_out(c, N_TOP, sizeof(float));
    REPORT(b, vocab_top, &top, N_VOCAB * 4.0);
    check_end(c);
}

static void bench_expanded(bench *b)
{
    enum { N_HEADS = 4, D_NOPE = 128, D_ROPE = 64, D_V = 128, N_KEYS = 512 };
    check *c = &b->c;
    check_case(c, "4 heads, 512 keys, 1 row");
    const int32_t n = N_KEYS;
    phx_attention_expanded_args a = {.q = check_floats(c, N_HEADS * (D_NOPE + D_ROPE), CHECK_RANDOM),
                                     .kv = check_floats(c, N_KEYS * N_HEADS * (D_NOPE + D_V), CHECK_RANDOM),
                                     .k_rope = check_floats(c, N_KEYS * D_ROPE, CHECK_RANDOM),
                                     .n_keys = &n,
                                     .n_rows = 1,
                                     .n_heads = N_HEADS,
                                     .d_nope = D_NOPE,
                                     .d_rope = D_ROPE,
                                     .d_v = D_V,
                                     .scale = 0.1f,
                                     .out = {NULL, N_HEADS * D_V, PHX_BF16}};
    a.out.data = check_out(c, N_HEADS * D_V, 2);
    REPORT(b, attention_expanded, &a, N_KEYS * (N_HEADS * (D_NOPE + D_V) + D_ROPE) * 4.0);
    check_end(c);
}

static void bench_small(bench *b)
{
    enum { N_ROWS = 16, N_COLS = 2048, N_HEADS = 16, D_ROPE = 64, D_INDEX = 128 };
    check *c = &b->c;
    check_case(c, "16 rows of 2048");
    int32_t ids[N_ROWS];
    int64_t entries[N_ROWS];
    for (int32_t r = 0; r < N_ROWS; r++) {
        ids[r] = r;
        entries[r] = r;
    }
    float *x = check_floats(c, N_ROWS * N_COLS, CHECK_RANDOM);
    phx_embed_args embed = {.table = check_matrix(c, PHX_FORMAT_BF16, N_ROWS, N_COLS, CHECK_RANDOM),
                            .ids = ids,
                            .n_rows = N_ROWS};
    embed.out = check_out(c, N_ROWS * N_COLS, sizeof(float));
    REPORT(b, embed, &embed, N_ROWS * N_COLS * 6.0);
    const phx_cache cache = {check_out(c, N_ROWS * N_COLS, 2), N_COLS, PHX_BF16, 0, 0};
    phx_cache_write_args write = {
        .x = x, .x_stride = N_COLS, .n_rows = N_ROWS, .entries = entries, .cache = &cache};
    REPORT(b, cache_write, &write, N_ROWS * N_COLS * 6.0);
    phx_latent_write_args latent = {.x = x,
                                    .x_stride = N_COLS,
                                    .weight = x,
                                    .eps = 1e-6f,
                                    .n_rows = N_ROWS,
                                    .d_latent = N_COLS - 64,
                                    .positions = check_mem(c, N_ROWS, sizeof(int32_t)),
                                    .table = x,
                                    .entries = entries,
                                    .cache = &cache};
    REPORT(b, latent_write, &latent, N_ROWS * N_COLS * 6.0);
    check_end(c);
    check_case(c, "256 vectors of 128");
    phx_layer_norm_args norm = {.x = check_floats(c, N_ROWS * N_COLS, CHECK_RANDOM),
                                .weight = check_floats(c, D_INDEX, CHECK_RANDOM),
                                .bias = check_floats(c, D_INDEX, CHECK_RANDOM),
                                .eps = 1e-6f,
                                .n_rows = N_ROWS * N_COLS / D_INDEX,
                                .n_cols = D_INDEX};
    REPORT(b, layer_norm, &norm, N_ROWS * N_COLS * 8.0);
    phx_index_round_args rounding = {
        .x = norm.x, .n_vectors = norm.n_rows, .d = D_INDEX, .hadamard = true, .fp8 = true};
    REPORT(b, index_round, &rounding, N_ROWS * N_COLS * 8.0);
    check_end(c);
    check_case(c, "16 rows of 16 heads");
    const double freqs[D_ROPE / 2] = {1.0, 0.5};
    float *table = check_mem(c, N_ROWS * D_ROPE, sizeof(float));
    phx_rope_table(freqs, D_ROPE / 2, N_ROWS, 1.0, table);
    phx_rope_args rope = {.x = check_floats(c, N_ROWS * N_HEADS * D_ROPE, CHECK_RANDOM),
                          .row_stride = N_HEADS * D_ROPE,
                          .head_stride = D_ROPE,
                          .n_rows = N_ROWS,
                          .n_heads = N_HEADS,
                          .d_rope = D_ROPE,
                          .interleaved = true,
                          .positions = ids,
                          .table = table};
    REPORT(b, rope, &rope, N_ROWS * N_HEADS * D_ROPE * 8.0);
    check_end(c);
}

static void bench_lists(bench *b)
{
    enum { N_ROWS = 16, N_COLS = 7168, N_USED = 8, N_EXPERTS = 256, N_VOCAB = 16160 };
    check *c = &b->c;
    check_case(c, "16 rows of 8 of 256");
    int32_t ids[N_ROWS * N_USED];
    for (int32_t i = 0; i < N_ROWS * N_USED; i++)
        ids[i] = i % N_USED * 31;
    phx_list_experts_args lists = {.ids = ids,
                                   .weights = check_floats(c, N_ROWS * N_USED, CHECK_RANDOM),
                                   .n_tokens = N_ROWS,
                                   .n_used = N_USED,
                                   .n_experts = N_EXPERTS,
                                   .held_end = N_EXPERTS};
    lists.first = check_out(c, N_EXPERTS + 1, sizeof(int64_t));
    lists.token = check_out(c, N_ROWS * N_USED, sizeof(int32_t));
    lists.weight = check_out(c, N_ROWS * N_USED, sizeof(float));
    lists.token_first = check_out(c, N_ROWS + 1, sizeof(int64_t));
    lists.token_entries = check_out(c, N_ROWS * N_USED, sizeof(int32_t));
    REPORT(b, list_experts, &lists, N_ROWS * N_USED * 8.0);
    check_end(c);
    check_case(c, "16 rows of 7168");
    phx_pick_rows_args pick = {.x = check_activation(c, N_ROWS, N_COLS, PHX_BF16, CHECK_RANDOM),
                               .rows = ids,
                               .n_rows = N_ROWS,
                               .n_cols = N_COLS};
    for (int32_t i = 0; i < N_ROWS; i++)
        ids[i] = i;
    pick.out = check_out(c, N_ROWS * N_COLS, 2);
    REPORT(b, pick_rows, &pick, N_ROWS * N_COLS * 4.0);
    const phx_cache cache = {check_out(c, N_ROWS * N_COLS, 2), N_COLS, PHX_BF16, 0, 0};
    const int32_t block = 0;
    phx_cache_read_args read = {.cache = &cache,
                                .blocks = &block,
                                .n_positions = N_ROWS,
                                .n_cols = N_COLS,
                                .out = check_out(c, N_ROWS * N_COLS, sizeof(float))};
    REPORT(b, cache_read, &read, N_ROWS * N_COLS * 6.0);
    check_end(c);
    check_case(c, "1 row of 16160");
    const int64_t bounds[2] = {0, N_VOCAB};
    const float one = 1.0f;
    const uint64_t noise[4] = {1, 0, 0, 1};
    int32_t id;
    float value, logit;
    phx_noisy_top_args noisy = {.logits = check_floats(c, N_VOCAB, CHECK_RANDOM),
                                .stride = N_VOCAB,
                                .n_rows = 1,
                                .n_leaves = 1,
                                .bounds = bounds,
                                .inv_temperature = &one,
                                .noise = noise,
                                .values = &value,
                                .ids = &id,
                                .chosen_logits = &logit};
    REPORT(b, noisy_top, &noisy, N_VOCAB * 4.0);
    check_end(c);
}

/* What a step of 32 rows does between its logits and the next step's tokens. */
static void bench_sample(bench *b)
{
    enum { N = 32, N_COLS = 16160, N_TOP = 64 };
    check *c = &b->c;
    check_case(c, "%d rows of %d", N, N_COLS);
    int32_t *ids = check_mem(c, N, sizeof(*ids)), *slots = check_mem(c, N, sizeof(*slots));
    int32_t *out = check_mem(c, 2 * N, sizeof(*out)), *last = check_mem(c, N, sizeof(*last));
    for (int32_t i = 0; i < N; i++) {
        ids[i] = 2 * i;
        slots[i] = i;
    }
    phx_sample_row *rows = check_mem(c, N, sizeof(*rows));
    float *inverse = check_mem(c, N, sizeof(*inverse));
    for (int32_t i = 0; i < N; i++) {
        rows[i] = (phx_sample_row){
            .slot = i, .place = i, .temperature = 1, .top_p = 0.9f, .repetition_penalty = 1.1f};
        rows[i].counting = 1;
        inverse[i] = 1;
    }
    uint32_t *counts = check_mem(c, (int64_t)N * N_COLS, sizeof(*counts));
    const phx_feed_tokens_args feed = {ids, slots, last, N, 0, N_COLS, out, out + N};
    const phx_put_tokens_args put = {slots, ids, N, last};
    const phx_count_tokens_args count = {ids, slots, N, 0, N_COLS, counts};
    const phx_clear_counts_args clear = {counts, N_COLS};
    const phx_penalise_args penalise = {.logits = check_floats(c, (int64_t)N * N_COLS, CHECK_RANDOM),
                                        .n_rows = N,
                                        .n_cols = N_COLS,
                                        .rows = rows,
                                        .counts = counts,
                                        .bias_ids = ids,
                                        .bias = inverse};
    phx_choose_args choose = {.shape = {N, PHX_OFFERING_MAX, N_TOP},
                              .n_shares = 1,
                              .n_vocab = (int64_t)N_COLS * PHX_OFFERING_MAX,
                              .rows = rows,
                              .inv_temperature = inverse,
                              .noise = check_mem(c, (int64_t)N * 4, sizeof(uint64_t)),
                              .choices = check_mem(c, N, sizeof(phx_choice)),
                              .last = last};
    uint32_t *offers = check_mem(c, phx_offers_words(choose.shape), sizeof(*offers));
    const phx_offers o = phx_offers_in(offers, choose.shape);
    for (int32_t i = 0; i < N * PHX_OFFERING_MAX * N_TOP; i++) {
        o.ids[i] = i % (PHX_OFFERING_MAX * N_TOP) * 7;
        o.values[i] = (float)(N_TOP - i % N_TOP) / 16.0f;
    }
    choose.offers = offers;
    REPORT(b, feed_tokens, &feed, N * 12.0);
    REPORT(b, put_tokens, &put, N * 8.0);
    REPORT(b, count_tokens, &count, N * 8.0);
    REPORT(b, clear_counts, &clear, N_COLS * 4.0);
    REPORT(b, penalise, &penalise, N * N_COLS * 8.0);
    REPORT(b, choose, &choose, N * PHX_OFFERING_MAX * N_TOP * 8.0);
    check_end(c);
}

void check_bench(const check_variant *variants, int n_variants, phx_pool *pool, uint64_t seed)
{
    bench b = {.c = {.seed = seed, .op = "bench", .variant = "", .pools = {pool}},
               .variants = variants,
               .n_variants = n_variants};
    for (int f = 0; f < PHX_FORMAT_COUNT; f++) {
        for (int64_t n_rows = 1; n_rows <= 16; n_rows *= 16) {
            bench_products(&b, (phx_format)f, n_rows);
            bench_ffn(&b, (phx_format)f, n_rows);
        }
    }
    bench_attention(&b);
    bench_rows(&b);
    bench_expanded(&b);
    bench_small(&b);
    bench_lists(&b);
    bench_sample(&b);
}
