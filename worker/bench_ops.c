/* worker/bench_ops.c - the products that `--bench kernels` runs, with the shapes that one rank of a model
 * sees (performance.md 6.3). Each case goes through the op table, as a step does. Not here: ops on the cache
 * and on rows alone (worker/bench_rows.c). */
#include <assert.h>
#include <string.h>

#include "base/rng.h"
#include "model/layout.h"
#include "worker/bench_kernels.h"

enum { EXPERTS_MAX = 512 };

static const int64_t rows_of_linear[] = {1, 4, 16, 64, 512};
static const int64_t rows_of_head[] = {1, 4, 16};

#define ROWS_ROUNDED     4096 /* a chunk of a prompt, for the products that the device's library computes */
#define ROWS_ROUNDED_EMU 20

typedef struct linear_shape {
    const char *name;
    phx_format format;
    int64_t n_out;
    int64_t n_in;
    int64_t n_groups;
    bool f32_rows; /* the router's and the indexer's rows are f32 */
} linear_shape;

static int64_t at_most(const phx_kernels_bench *bench, int64_t n_rows);
static void linear_cases(phx_kernels_bench *bench);
static void rounded_cases(phx_kernels_bench *bench);
static void expert_cases(phx_kernels_bench *bench, int64_t n_experts, int64_t width, int64_t n_rows);
static void fixed_sum_case(phx_kernels_bench *bench, int64_t n_in, int64_t n_rows);

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

phx_code phx_bench_ops(phx_kernels_bench *bench, phx_error *err)
{
    const phx_dims *d = bench->dims;
    if (d->n_experts > EXPERTS_MAX || d->kv_lora == 0)
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "shapes of %s: %lld experts, latent %lld",
                        bench->options->shape, (long long)d->n_experts, (long long)d->kv_lora);
    linear_cases(bench);
    if (bench->backend->fns->choose_products && bench->options->format == PHX_FORMAT_FP8_BLOCK)
        rounded_cases(bench);
    for (size_t i = 0; i < N_OF(rows_of_linear); i++) {
        const int64_t n_rows = at_most(bench, rows_of_linear[i]);
        fixed_sum_case(bench, d->n_heads / bench->tp * d->d_v, n_rows);
        fixed_sum_case(bench, d->d_ff_dense / bench->tp, n_rows);
        expert_cases(bench, 1, d->d_ff_dense / bench->tp, n_rows);
        expert_cases(bench, d->n_experts, d->d_ff_expert / bench->tp, n_rows);
        phx_bench_cache_ops(bench, n_rows);
        phx_bench_row_ops(bench, n_rows);
        phx_bench_small_ops(bench, n_rows);
        if (n_rows < rows_of_linear[i])
            break;
    }
    return bench->rc;
}

static int64_t at_most(const phx_kernels_bench *bench, int64_t n_rows)
{
    return n_rows < bench->n_rows_max ? n_rows : bench->n_rows_max;
}

typedef struct product_case {
    phx_matrix w;
    phx_product_args args;
} product_case;

static void run_product(phx_kernels_bench *bench, void *user)
{
    product_case *c = user;
    phx_bench_window(bench, &c->w);
    bench->ops.product(bench->queue, &c->args);
}

static void product_of(phx_kernels_bench *bench, const linear_shape *s, int64_t n_rows)
{
    char shape[PHX_BENCH_SHAPE_BYTES];
    const size_t mark = bench->memory_used;
    const phx_dtype dtype = s->f32_rows ? PHX_F32 : PHX_BF16;
    const int64_t width_out = s->n_out * s->n_groups;
    product_case c = {.w = phx_bench_matrix(bench, s->format, width_out, s->n_in)};
    c.args = (phx_product_args){
        .x = {phx_bench_rows(bench, n_rows, s->n_in * s->n_groups, dtype), s->n_in * s->n_groups, dtype},
        .x_group_stride = s->n_in,
        .w = &c.w,
        .group_rows = s->n_out,
        .n_groups = s->n_groups,
        .n_out = s->n_out,
        .n_rows = n_rows,
        .out = phx_bench_rows(bench, n_rows, width_out, PHX_F32),
        .out_stride = width_out,
        .out_group_stride = s->n_out};
    (void)snprintf(shape, sizeof(shape), "%s %lld x %lld", s->name, (long long)width_out, (long long)s->n_in);
    const double ops = 2.0 * (double)n_rows * (double)width_out * (double)s->n_in;
    phx_bench_case(bench, &(phx_kernel_case){"product", shape, n_rows, phx_bench_matrix_bytes(&c.w), ops,
                                             run_product, &c});
    bench->memory_used = mark;
}

typedef struct product_t_case {
    phx_matrix w;
    phx_product_t_args args;
} product_t_case;

static void run_product_t(phx_kernels_bench *bench, void *user)
{
    product_t_case *c = user;
    phx_bench_window(bench, &c->w);
    bench->ops.product_t(bench->queue, &c->args);
}

/* Queries into the latent space: rows of W_UK, per head. */
static void absorb_case(phx_kernels_bench *bench, int64_t n_rows)
{
    const phx_dims *d = bench->dims;
    const size_t mark = bench->memory_used;
    const int64_t n_heads = d->n_heads / bench->tp;
    char shape[PHX_BENCH_SHAPE_BYTES];
    product_t_case c = {.w =
                            phx_bench_matrix(bench, bench->options->format, n_heads * d->d_nope, d->kv_lora)};
    c.args = (phx_product_t_args){
        .x = {phx_bench_rows(bench, n_rows, n_heads * d->d_nope, PHX_BF16), n_heads * d->d_nope, PHX_BF16},
        .x_group_stride = d->d_nope,
        .w = &c.w,
        .group_rows = d->d_nope,
        .n_groups = n_heads,
        .n_in = d->d_nope,
        .n_rows = n_rows,
        .out = phx_bench_rows(bench, n_rows, n_heads * d->kv_lora, PHX_F32),
        .out_stride = n_heads * d->kv_lora,
        .out_group_stride = d->kv_lora};
    (void)snprintf(shape, sizeof(shape), "W_UK %lld of %lld x %lld", (long long)n_heads,
                   (long long)d->kv_lora, (long long)d->d_nope);
    const double ops = 2.0 * (double)n_rows * (double)(n_heads * d->d_nope * d->kv_lora);
    phx_bench_case(bench, &(phx_kernel_case){"product_t", shape, n_rows, phx_bench_matrix_bytes(&c.w), ops,
                                             run_product_t, &c});
    bench->memory_used = mark;
}

static void linear_cases(phx_kernels_bench *bench)
{
    const phx_dims *d = bench->dims;
    const phx_format f = bench->options->format;
    const int64_t n_heads = d->n_heads / bench->tp;
    const linear_shape shapes[] = {
        {"q_a", f, d->q_lora, d->d_hidden, 1, false},
        {"q_b", f, n_heads * (d->d_nope + d->d_rope), d->q_lora, 1, false},
        {"kv_a", f, d->kv_lora + d->d_rope, d->d_hidden, 1, false},
        {"W_UV", f, d->d_v, d->kv_lora, n_heads, false},
        {"router", PHX_FORMAT_BF16, d->n_experts, d->d_hidden, 1, true},
        {"index q_b", f, d->index_n_heads * d->index_d, d->q_lora, 1, false},
        {"index k", f, d->index_n_heads ? d->index_d : 0, d->d_hidden, 1, false},
    };
    const linear_shape head = {"head", PHX_FORMAT_BF16, d->n_vocab / bench->tp, d->d_hidden, 1, false};
    for (size_t i = 0; i < N_OF(rows_of_linear); i++) {
        const int64_t n_rows = at_most(bench, rows_of_linear[i]);
        for (size_t s = 0; s < N_OF(shapes); s++) {
            if (shapes[s].n_out > 0)
                product_of(bench, &shapes[s], n_rows);
        }
        absorb_case(bench, n_rows);
        if (n_rows < rows_of_linear[i])
            break;
    }
    for (size_t i = 0; i < N_OF(rows_of_head); i++)
        product_of(bench, &head, rows_of_head[i]);
}

/* A product of rows that the device's library rounds to fp8; no line where it does not. Its ops are held
 * against the same limit as all others, that of mma in bf16: it may pass 100 %. */
static void rounded_case(phx_kernels_bench *bench, const char *name, int64_t n_out, int64_t n_in)
{
    char shape[PHX_BENCH_SHAPE_BYTES];
    const size_t mark = bench->memory_used;
    const int64_t n_rows = bench->is_emu ? ROWS_ROUNDED_EMU : ROWS_ROUNDED;
    const int64_t n_parts = phx_rounded_room_of(n_rows, n_out, n_in).n_bytes / (int64_t)sizeof(float) + 1;
    int64_t rows_least = 0;
    product_case c = {.w = phx_bench_matrix(bench, PHX_FORMAT_FP8_BLOCK, n_out, n_in)};
    c.args = (phx_product_args){.x = {phx_bench_rows(bench, n_rows, n_in, PHX_BF16), n_in, PHX_BF16},
                                .w = &c.w,
                                .n_groups = 1,
                                .n_out = n_out,
                                .n_rows = n_rows,
                                .out = phx_bench_rows(bench, n_rows, n_out, PHX_F32),
                                .out_stride = n_out,
                                .rounded = true,
                                .out_rows = n_rows,
                                .parts = phx_bench_memory(bench, n_parts, sizeof(float)),
                                .n_parts = n_parts};
    const phx_product_choice choice = {
        .examples = &c.args, .n = 1, .warm = !bench->is_emu, .rows_least = &rows_least};
    if (bench->rc == PHX_OK)
        bench->rc = bench->backend->fns->choose_products(bench->backend, &choice, bench->err);
    (void)snprintf(shape, sizeof(shape), "%s e4m3 %lld x %lld", name, (long long)n_out, (long long)n_in);
    const double ops = 2.0 * (double)n_rows * (double)n_out * (double)n_in;
    if (rows_least > 0)
        phx_bench_case(bench, &(phx_kernel_case){"product", shape, n_rows, phx_bench_matrix_bytes(&c.w), ops,
                                                 run_product, &c});
    bench->memory_used = mark;
}

static void rounded_cases(phx_kernels_bench *bench)
{
    const phx_dims *d = bench->dims;
    const int64_t n_heads = d->n_heads / bench->tp;
    rounded_case(bench, "q_a", d->q_lora, d->d_hidden);
    rounded_case(bench, "q_b", n_heads * (d->d_nope + d->d_rope), d->q_lora);
    rounded_case(bench, "kv_a", d->kv_lora + d->d_rope, d->d_hidden);
    rounded_case(bench, "o", d->d_hidden, n_heads * d->d_v);
}

/* What ops find at ffn_in's gate and up and leaf_sum's down. */
typedef struct expert_tables {
    phx_matrix gate[EXPERTS_MAX];
    phx_matrix up[EXPERTS_MAX];
    phx_matrix down[EXPERTS_MAX];
    const phx_matrix *gates[EXPERTS_MAX];
    const phx_matrix *ups[EXPERTS_MAX];
    const phx_matrix *downs[EXPERTS_MAX];
} expert_tables;

/* Experts of n_rows tokens, each token with n_used different ones, drawn evenly; or one expert for all. The
 * tables stand several times, each with its own weights; runs take them in turn. */
typedef struct expert_case {
    expert_tables *tables; /* [n_tables] of the bench's memory */
    int n_tables;
    int next;
    int64_t n_experts;
    int64_t n_touched;
    int64_t n_entries;
    int64_t *first;         /* [n_experts + 1] */
    int32_t *token;         /* [n_entries] */
    float *weight;          /* [n_entries] */
    int64_t *token_first;   /* [n_rows + 1] */
    int32_t *token_entries; /* [n_entries] */
    phx_ffn_in_args in;
    phx_leaf_sum_args sum;
} expert_case;

static void draw_routing(phx_kernels_bench *bench, expert_case *c, int64_t n_rows)
{
    const int64_t n_used = c->n_experts > 1 ? bench->dims->n_experts_used : 1;
    phx_rng rng = {.seed = (uint64_t)n_rows};
    c->n_entries = n_rows * n_used;
    c->first = phx_bench_memory(bench, c->n_experts + 1, sizeof(*c->first));
    c->token = phx_bench_memory(bench, c->n_entries, sizeof(*c->token));
    c->weight = phx_bench_memory(bench, c->n_entries, sizeof(*c->weight));
    c->token_first = phx_bench_memory(bench, n_rows + 1, sizeof(*c->token_first));
    c->token_entries = phx_bench_memory(bench, c->n_entries, sizeof(*c->token_entries));
    int64_t *first = phx_bench_host(bench, c->first);
    int32_t *token = phx_bench_host(bench, c->token);
    int64_t *token_first = phx_bench_host(bench, c->token_first);
    int32_t *token_entries = phx_bench_host(bench, c->token_entries);
    const size_t mark = bench->memory_used; /* what follows is for the host alone */
    uint8_t *chosen = phx_bench_host(bench, phx_bench_memory(bench, n_rows * c->n_experts, 1));
    memset(chosen, 0, (size_t)(n_rows * c->n_experts));
    for (int64_t i = 0; i < c->n_entries;) {
        uint8_t *cell = &chosen[i / n_used * c->n_experts + phx_rng_below(&rng, (uint32_t)c->n_experts)];
        i += *cell == 0;
        *cell = 1;
    }
    int64_t n = 0;
    for (int64_t e = 0; e < c->n_experts; e++) {
        first[e] = n;
        for (int64_t t = 0; t < n_rows; t++) {
            if (chosen[t * c->n_experts + e])
                token[n++] = (int32_t)t;
        }
        c->n_touched += n > first[e];
    }
    first[c->n_experts] = n;
    for (int64_t t = 0; t <= n_rows; t++)
        token_first[t] = t * n_used;
    int64_t *used = phx_bench_host(bench, phx_bench_memory(bench, n_rows, sizeof(*used)));
    memset(used, 0, (size_t)n_rows * sizeof(*used));
    for (int64_t j = 0; j < n; j++)
        token_entries[token[j] * n_used + used[token[j]]++] = (int32_t)j;
    bench->memory_used = mark;
}

static const expert_tables *next_tables(expert_case *c)
{
    c->next = (c->next + 1) % c->n_tables;
    return &c->tables[c->next];
}

static void run_ffn_in(phx_kernels_bench *bench, void *user)
{
    expert_case *c = user;
    const expert_tables *t = next_tables(c);
    c->in.gate = t->gates;
    c->in.up = t->ups;
    bench->ops.ffn_in(bench->queue, &c->in);
}

static void run_leaf_sum(phx_kernels_bench *bench, void *user)
{
    expert_case *c = user;
    c->sum.down = next_tables(c)->downs;
    bench->ops.leaf_sum(bench->queue, &c->sum);
}

/* As many tables as it takes to walk through the weights' buffer, each with the windows of its experts that
 * have rows; the scales are shared. */
static void make_tables(phx_kernels_bench *bench, expert_case *c, int64_t width)
{
    const phx_format f = bench->options->format;
    const int64_t d_hidden = bench->dims->d_hidden;
    const phx_matrix in = phx_bench_matrix(bench, f, width, d_hidden);
    const phx_matrix down = phx_bench_matrix(bench, f, d_hidden, width);
    const int64_t *first = phx_bench_host(bench, c->first);
    const double n =
        (double)bench->weights.n_bytes / ((double)c->n_touched * 2.0 * phx_bench_matrix_bytes(&in));
    c->n_tables = n < 1.0 ? 1 : n > PHX_BENCH_WINDOWS_MAX ? PHX_BENCH_WINDOWS_MAX : (int)n;
    c->tables = phx_bench_memory(bench, c->n_tables, sizeof(*c->tables));
    for (int i = 0; i < c->n_tables; i++) {
        expert_tables *there = &c->tables[i];
        expert_tables *here = phx_bench_host(bench, there);
        for (int64_t e = 0; e < c->n_experts; e++) {
            here->gate[e] = here->up[e] = in;
            here->down[e] = down;
            here->gates[e] = &there->gate[e];
            here->ups[e] = &there->up[e];
            here->downs[e] = &there->down[e];
            if (first[e] == first[e + 1])
                continue;
            phx_bench_window(bench, &here->gate[e]);
            phx_bench_window(bench, &here->up[e]);
            phx_bench_window(bench, &here->down[e]);
        }
    }
}

/* Equal leaves of n columns. */
static int64_t *leaf_bounds(phx_kernels_bench *bench, uint32_t n_leaves, int64_t n)
{
    int64_t *bounds = phx_bench_memory(bench, PHX_LEAVES + 1, sizeof(*bounds));
    int64_t *here = phx_bench_host(bench, bounds);
    for (uint32_t i = 0; i <= n_leaves; i++)
        here[i] = (int64_t)i * n / n_leaves;
    return bounds;
}

static void expert_arguments(phx_kernels_bench *bench, expert_case *c, int64_t width, int64_t n_rows)
{
    const int64_t d_hidden = bench->dims->d_hidden;
    const phx_expert_rows rows = {c->n_experts, c->first, c->token, c->weight};
    void *h = phx_bench_rows(bench, c->n_entries, width, PHX_BF16);
    c->in = (phx_ffn_in_args){.x = {phx_bench_rows(bench, n_rows, d_hidden, PHX_BF16), d_hidden, PHX_BF16},
                              .rows = rows,
                              .n_tokens = n_rows,
                              .n_out = width,
                              .out = {h, width, PHX_BF16}};
    c->sum = (phx_leaf_sum_args){
        .n_tokens = n_rows,
        .n_out = d_hidden,
        .n_leaves = (uint32_t)(PHX_LEAVES / bench->tp),
        .routed = rows,
        .h_routed = {phx_bench_rows(bench, c->n_entries, width, PHX_BF16), width, PHX_BF16},
        .token_first = c->token_first,
        .token_entries = c->token_entries,
        .out = phx_bench_rows(bench, n_rows, d_hidden, PHX_F32)};
    c->sum.routed_bounds = leaf_bounds(bench, c->sum.n_leaves, width);
}

static void expert_cases(phx_kernels_bench *bench, int64_t n_experts, int64_t width, int64_t n_rows)
{
    char shape[PHX_BENCH_SHAPE_BYTES];
    const size_t mark = bench->memory_used;
    const int64_t d_hidden = bench->dims->d_hidden;
    expert_case c = {.n_experts = n_experts};
    draw_routing(bench, &c, n_rows);
    make_tables(bench, &c, width);
    expert_arguments(bench, &c, width, n_rows);
    const double bytes =
        (double)c.n_touched * (double)phx_format_row_bytes(bench->options->format, d_hidden) * (double)width;
    const double ops = 2.0 * (double)c.n_entries * (double)width * (double)d_hidden;
    (void)snprintf(shape, sizeof(shape), "%lld of %lld x 2 x %lld x %lld", (long long)c.n_touched,
                   (long long)n_experts, (long long)width, (long long)d_hidden);
    phx_bench_case(bench,
                   &(phx_kernel_case){"ffn_in", shape, n_rows, 2.0 * bytes, 2.0 * ops, run_ffn_in, &c});
    (void)snprintf(shape, sizeof(shape), "%lld of %lld x %lld x %lld", (long long)c.n_touched,
                   (long long)n_experts, (long long)d_hidden, (long long)width);
    if (n_experts > 1) /* a dense one is a fixed matrix */
        phx_bench_case(bench, &(phx_kernel_case){"leaf_sum", shape, n_rows, bytes, ops, run_leaf_sum, &c});
    bench->memory_used = mark;
}

typedef struct fixed_case {
    phx_matrix w;
    phx_leaf_sum_args args;
} fixed_case;

static void run_fixed_sum(phx_kernels_bench *bench, void *user)
{
    fixed_case *c = user;
    phx_bench_window(bench, &c->w);
    bench->ops.leaf_sum(bench->queue, &c->args);
}

/* o_proj, and the down projection of a dense layer. */
static void fixed_sum_case(phx_kernels_bench *bench, int64_t n_in, int64_t n_rows)
{
    char shape[PHX_BENCH_SHAPE_BYTES];
    const size_t mark = bench->memory_used;
    const int64_t d_hidden = bench->dims->d_hidden;
    fixed_case c = {.w = phx_bench_matrix(bench, bench->options->format, d_hidden, n_in)};
    c.args = (phx_leaf_sum_args){.n_tokens = n_rows,
                                 .n_out = d_hidden,
                                 .n_leaves = (uint32_t)(PHX_LEAVES / bench->tp),
                                 .fixed = &c.w,
                                 .h_fixed = {phx_bench_rows(bench, n_rows, n_in, PHX_BF16), n_in, PHX_BF16},
                                 .out = phx_bench_rows(bench, n_rows, d_hidden, PHX_F32)};
    c.args.fixed_bounds = leaf_bounds(bench, c.args.n_leaves, n_in);
    (void)snprintf(shape, sizeof(shape), "%lld x %lld", (long long)d_hidden, (long long)n_in);
    const double ops = 2.0 * (double)n_rows * (double)d_hidden * (double)n_in;
    phx_bench_case(bench, &(phx_kernel_case){"leaf_sum", shape, n_rows, phx_bench_matrix_bytes(&c.w), ops,
                                             run_fixed_sum, &c});
    bench->memory_used = mark;
}
