/* kernels/cpu/ffn.c - the feed-forward blocks: gate and up with silu, and the sum over leaves. An item is a
 * tile of outputs by a tile of one expert's entries (ffn_in) or by a tile of tokens (leaf_sum). */
#include "kernels/cpu/dots.h"

#include <assert.h>

#define phx_ffn_in   PHX_CPU(phx_ffn_in)
#define phx_leaf_sum PHX_CPU(phx_leaf_sum)

#define LEAVES_MAX 8
#define LEAF_ROWS  512 /* tokens per item of leaf_sum */

/* ---- ffn_in ---- */

typedef struct ffn_tile {
    int64_t expert;
    int64_t first_entry;
    int64_t n_entries;
    int64_t first_out;
    int64_t n_out;
} ffn_tile;

typedef struct ffn_work {
    phx_ffn_in_args a;
    int64_t n_all; /* outputs of all experts that have entries */
    int64_t n_items;
    int64_t n_threads;
    int64_t tiles_few; /* items of an expert with up to PHX_DOTS_FEW entries */
    /* the one row of activations is widened once for all matrices like this; or NULL */
    const phx_matrix *wide;
} ffn_work;

static int64_t ffn_tile_out(const ffn_work *p, int64_t n_rows)
{
    return phx_dots_tile_out(p->a.n_out, n_rows, p->n_all, p->n_threads);
}

static int64_t ffn_tiles_of(const ffn_work *p, int64_t e)
{
    const phx_ffn_in_args *a = &p->a;
    const int64_t n = a->rows.first[e + 1] - a->rows.first[e];
    if (n <= PHX_DOTS_FEW)
        return n == 0 ? 0 : p->tiles_few;
    const int64_t tile_rows = phx_dots_tile_rows(n);
    const int64_t tile_out = ffn_tile_out(p, n);
    return (n + tile_rows - 1) / tile_rows * ((a->n_out + tile_out - 1) / tile_out);
}

static ffn_tile ffn_tile_of(const ffn_work *p, int64_t item)
{
    const phx_ffn_in_args *a = &p->a;
    int64_t e = 0;
    for (int64_t n = ffn_tiles_of(p, e); item >= n; n = ffn_tiles_of(p, e)) {
        item -= n;
        e++;
    }
    const int64_t n_rows = a->rows.first[e + 1] - a->rows.first[e];
    const int64_t tile_rows = phx_dots_tile_rows(n_rows);
    const int64_t tile_out = ffn_tile_out(p, n_rows);
    const int64_t n_tiles_rows = (n_rows + tile_rows - 1) / tile_rows;
    const int64_t row = item % n_tiles_rows * tile_rows;
    const int64_t out = item / n_tiles_rows * tile_out;
    return (ffn_tile){.expert = e,
                      .first_entry = a->rows.first[e] + row,
                      .n_entries = phx_i64_min(tile_rows, n_rows - row),
                      .first_out = out,
                      .n_out = phx_i64_min(tile_out, a->n_out - out)};
}

/* gate becomes silu(gate) * up; n is rounded up to whole vectors, the rows have room. */
static void silu_times(float *gate, const float *up, int64_t n)
{
    for (int64_t i = 0; i < n; i += PHX_LANES) {
        const phx_vf g = phx_vf_load(gate + i);
        const phx_vf one = phx_vf_set(1.0f);
        const phx_vf e = phx_vf_exp(phx_vf_sub(phx_vf_set(-0.0f), g));
        const phx_vf silu = phx_vf_div(g, phx_vf_add(one, e));
        phx_vf_store(gate + i, phx_vf_mul(silu, phx_vf_load(up + i)));
    }
}

static bool same_chains(const phx_matrix *a, const phx_matrix *b)
{
    return a->format == b->format && a->pack == b->pack && a->n_cols == b->n_cols &&
           a->col_shift == b->col_shift;
}

static void ffn_in_begin(void *user, void *scratch)
{
    const ffn_work *p = user;
    if (!p->wide)
        return;
    const int64_t bounds[2] = {0, p->wide->n_cols};
    const phx_dots job = {.w = p->wide,
                          .x = p->a.x.data,
                          .x_stride = p->a.x.stride,
                          .x_dtype = p->a.x.dtype,
                          .n_rows = 1,
                          .bounds = bounds,
                          .n_ranges = 1};
    phx_dots_widen(&job, (float *)(void *)((uint8_t *)scratch + PHX_DOTS_WIDE_AT));
}

static void ffn_in_tile(void *user, int64_t item, void *scratch)
{
    const ffn_work *p = user;
    const phx_ffn_in_args *a = &p->a;
    const ffn_tile t = ffn_tile_of(p, item);
    const ffn_tile next = ffn_tile_of(p, phx_i64_min(item + p->n_threads, p->n_items - 1));
    const int64_t x_bytes = a->x.dtype == PHX_BF16 ? 2 : 4;
    const int64_t out_bytes = a->out.dtype == PHX_BF16 ? 2 : 4;
    float *gate = (float *)(void *)((uint8_t *)scratch + PHX_DOTS_SCRATCH_BYTES);
    float *up = gate + PHX_DOTS_RESULT(PHX_DOTS_ROWS);
    const float *wide = (const float *)(const void *)((uint8_t *)scratch + PHX_DOTS_WIDE_AT);
    const int64_t bounds[2] = {0, a->gate[t.expert]->n_cols};
    const int64_t first_x = a->rows.token ? 0 : t.first_entry;
    phx_dots job = {.w = a->gate[t.expert],
                    .first_row = t.first_out,
                    .n_out = t.n_out,
                    .x = (const uint8_t *)a->x.data + first_x * a->x.stride * x_bytes,
                    .x_stride = a->x.stride,
                    .x_dtype = a->x.dtype,
                    .x_rows = a->rows.token ? a->rows.token + t.first_entry : NULL,
                    .n_rows = t.n_entries,
                    .bounds = bounds,
                    .n_ranges = 1,
                    .wide_x = p->wide && same_chains(p->wide, a->gate[t.expert]) ? wide : NULL,
                    .next = phx_dots_next(a->up[t.expert], t.first_out),
                    .dots = gate,
                    .scratch = scratch};
    phx_dots_run(&job);
    job.w = a->up[t.expert];
    job.next = phx_dots_next(a->gate[next.expert], next.first_out);
    job.wide_x = p->wide && same_chains(p->wide, a->up[t.expert]) ? wide : NULL;
    job.same_x = !job.wide_x && same_chains(a->up[t.expert], a->gate[t.expert]);
    job.dots = up;
    phx_dots_run(&job);
    for (int64_t r = 0; r < t.n_entries; r++) {
        float *row = gate + r * PHX_DOTS_OUT;
        for (int64_t i = t.n_out; i < phx_i64_up(t.n_out, PHX_LANES); i++)
            row[i] = 0.0f;
        silu_times(row, up + r * PHX_DOTS_OUT, t.n_out);
        const int64_t at = (t.first_entry + r) * a->out.stride + t.first_out;
        phx_vf_narrow(row, t.n_out, a->out.dtype, (uint8_t *)a->out.data + at * out_bytes);
    }
}

void phx_ffn_in(phx_pool *pool, const phx_ffn_in_args *args)
{
    static_assert(PHX_DOTS_SCRATCH_BYTES + 2 * PHX_DOTS_RESULT(PHX_DOTS_ROWS) * 4 <= PHX_DOTS_WIDE_AT, "");
    ffn_work p = {.a = *args, .n_threads = phx_pool_n_threads(pool)};
    for (int64_t e = 0; e < args->rows.n_experts; e++)
        p.n_all += args->rows.first[e] < args->rows.first[e + 1] ? args->n_out : 0;
    const int64_t tile_few = ffn_tile_out(&p, 1);
    p.tiles_few = (args->n_out + tile_few - 1) / tile_few;
    for (int64_t e = 0; e < args->rows.n_experts && args->n_tokens == 1 && !p.wide; e++)
        p.wide = args->rows.first[e] < args->rows.first[e + 1] ? args->gate[e] : NULL;
    if (p.wide && (p.wide->n_cols * 4 > (int64_t)PHX_DOTS_X_BYTES || p.wide->format == PHX_FORMAT_INT4_G32))
        p.wide = NULL; /* int4 keeps an order of its own (dots_int4.c) */
    for (int64_t e = 0; e < args->rows.n_experts; e++)
        p.n_items += ffn_tiles_of(&p, e);
    phx_pool_run_begun(pool, p.n_items, ffn_in_begin, ffn_in_tile, &p);
}

/* ---- leaf_sum ---- */

typedef struct leaf_work {
    const phx_leaf_sum_args *a;
    int64_t tile_out;
    int64_t tile_tokens;
    int64_t n_tiles_tokens;
    int64_t n_threads;
    int64_t wide_stride; /* of leaf_tile.wide; 0: jobs widen activations themselves */
} leaf_work;

typedef struct leaf_tile { /* partial sums of a tile of outputs for a tile of tokens */
    const phx_leaf_sum_args *a;
    int64_t first_out;
    int64_t n_out;
    int64_t first_token;
    int64_t n_tokens;
    float *partial;   /* [n_leaves][n_tokens][PHX_DOTS_OUT] */
    float *dots;      /* [n_leaves][PHX_DOTS_ROWS][PHX_DOTS_OUT] */
    int64_t next_out; /* first_out of this thread's next tile, likely */
    float *wide; /* [entries + 1][wide_stride]: of one token, the fixed ones last; NULL: jobs widen them */
    int64_t wide_stride;
    void *scratch;
} leaf_tile;

/* First entry j in [first, end) whose token is not below token. */
static int64_t entry_at(const phx_expert_rows *rows, int64_t first, int64_t end, int64_t token)
{
    if (!rows->token)
        return phx_i64_min(end, token > first ? token : first);
    while (first < end) {
        const int64_t middle = first + (end - first) / 2;
        if (rows->token[middle] < token)
            first = middle + 1;
        else
            end = middle;
    }
    return first;
}

/* sum[i] = fma(weight, dot[i], sum[i]) over the width of a tile */
static void add_times(float *sum, const float *dot, float weight)
{
    const phx_vf w = phx_vf_set(weight);
    for (int64_t i = 0; i < PHX_DOTS_OUT; i += PHX_LANES)
        phx_vf_store(sum + i, phx_vf_fma(w, phx_vf_load(dot + i), phx_vf_load(sum + i)));
}

/* For phx_dots.next: `row` of the first down projection that has entries, from expert e on, or of the fixed
 * one. */
static const void *next_weights(const phx_leaf_sum_args *a, int64_t e, int64_t row)
{
    for (; e < a->routed.n_experts; e++) {
        if (a->routed.first[e] < a->routed.first[e + 1])
            return phx_dots_next(a->down[e], row);
    }
    return a->fixed ? phx_dots_next(a->fixed, row) : NULL;
}

/* The n_rows entries of expert e from `first` on. whole: room for bounds. */
static phx_dots expert_job(const leaf_tile *t, int64_t e, int64_t first, int64_t n_rows, int64_t whole[2])
{
    const phx_leaf_sum_args *a = t->a;
    const int64_t h_bytes = a->h_routed.dtype == PHX_BF16 ? 2 : 4;
    whole[0] = 0;
    whole[1] = a->down[e]->n_cols;
    return (phx_dots){.w = a->down[e],
                      .first_row = t->first_out,
                      .n_out = t->n_out,
                      .x = (const uint8_t *)a->h_routed.data + first * a->h_routed.stride * h_bytes,
                      .x_stride = a->h_routed.stride,
                      .x_dtype = a->h_routed.dtype,
                      .n_rows = n_rows,
                      .bounds = a->expert_leaf ? whole : a->routed_bounds,
                      .n_ranges = a->expert_leaf ? 1 : (int64_t)a->n_leaves,
                      .wide_x = t->wide ? t->wide + first * t->wide_stride : NULL,
                      .dots = t->dots,
                      .scratch = t->scratch};
}

/* The row of leaf_tile.wide after those of all entries. */
static float *fixed_wide(const leaf_tile *t)
{
    const phx_expert_rows *routed = &t->a->routed;
    return t->wide ? t->wide + (routed->n_experts > 0 ? routed->first[routed->n_experts] : 0) * t->wide_stride
                   : NULL;
}

/* The n_rows tokens from `first` of the tile on, for the fixed matrix. */
static phx_dots fixed_job(const leaf_tile *t, int64_t first, int64_t n_rows)
{
    const phx_leaf_sum_args *a = t->a;
    const int64_t h_bytes = a->h_fixed.dtype == PHX_BF16 ? 2 : 4;
    return (phx_dots){.w = a->fixed,
                      .first_row = t->first_out,
                      .n_out = t->n_out,
                      .x = (const uint8_t *)a->h_fixed.data +
                           (t->first_token + first) * a->h_fixed.stride * h_bytes,
                      .x_stride = a->h_fixed.stride,
                      .x_dtype = a->h_fixed.dtype,
                      .n_rows = n_rows,
                      .bounds = a->fixed_bounds,
                      .n_ranges = (int64_t)a->n_leaves,
                      .wide_x = fixed_wide(t),
                      .next = next_weights(a, 0, t->next_out),
                      .dots = t->dots,
                      .scratch = t->scratch};
}

/* The entries [first, end) of one expert, all of the tile's tokens. */
static void add_expert(const leaf_tile *t, int64_t e, int64_t first, int64_t end)
{
    const phx_leaf_sum_args *a = t->a;
    const int64_t first_leaf = a->expert_leaf ? a->expert_leaf[e] : 0;
    int64_t whole[2];
    for (; first < end; first += PHX_DOTS_ROWS) {
        phx_dots job = expert_job(t, e, first, phx_i64_min(end - first, PHX_DOTS_ROWS), whole);
        job.next = next_weights(a, e + 1, t->first_out);
        phx_dots_run(&job);
        for (int64_t range = 0; range < job.n_ranges; range++) {
            const float *dots = t->dots + range * PHX_DOTS_RESULT(job.n_rows);
            float *partial = t->partial + (first_leaf + range) * t->n_tokens * PHX_DOTS_OUT;
            for (int64_t i = 0; i < job.n_rows; i++) {
                const int64_t j = first + i;
                const int64_t token = (a->routed.token ? a->routed.token[j] : j) - t->first_token;
                const float weight = a->routed.weight ? a->routed.weight[j] : 1.0f;
                add_times(partial + token * PHX_DOTS_OUT, dots + i * PHX_DOTS_OUT, weight);
            }
        }
    }
}

static void add_fixed(const leaf_tile *t)
{
    for (int64_t first = 0; first < t->n_tokens; first += PHX_DOTS_ROWS) {
        const phx_dots job = fixed_job(t, first, phx_i64_min(t->n_tokens - first, PHX_DOTS_ROWS));
        phx_dots_run(&job);
        for (int64_t leaf = 0; leaf < job.n_ranges; leaf++) {
            const float *dots = t->dots + leaf * PHX_DOTS_RESULT(job.n_rows);
            float *partial = t->partial + (leaf * t->n_tokens + first) * PHX_DOTS_OUT;
            for (int64_t i = 0; i < PHX_DOTS_RESULT(job.n_rows); i += PHX_LANES)
                phx_vf_store(partial + i, phx_vf_add(phx_vf_load(partial + i), phx_vf_load(dots + i)));
        }
    }
}

/* Floats between the rows of leaf_tile.wide; 0: more than there is room for. */
static int64_t wide_stride_of(const phx_leaf_sum_args *a)
{
    int64_t n_cols = a->fixed ? a->fixed->n_cols : 0;
    int64_t n = 1;
    for (int64_t e = 0; e < a->routed.n_experts; e++) {
        if (a->routed.first[e] == a->routed.first[e + 1])
            continue;
        n++;
        n_cols = a->down[e]->n_cols > n_cols ? a->down[e]->n_cols : n_cols;
    }
    const int64_t stride = phx_i64_up(n_cols, PHX_LANES);
    return n * stride * (int64_t)sizeof(float) <= (int64_t)PHX_DOTS_WIDE_BYTES ? stride : 0;
}

static void leaf_sum_begin(void *user, void *scratch)
{
    const leaf_work *p = user;
    const leaf_tile t = {.a = p->a,
                         .n_out = p->tile_out,
                         .wide = (float *)(void *)((uint8_t *)scratch + PHX_DOTS_WIDE_AT),
                         .wide_stride = p->wide_stride};
    int64_t whole[2];
    for (int64_t e = 0; e < p->a->routed.n_experts && p->wide_stride > 0; e++) {
        const int64_t j = p->a->routed.first[e];
        const phx_dots job = j < p->a->routed.first[e + 1] ? expert_job(&t, e, j, 1, whole) : (phx_dots){0};
        if (job.n_rows > 0)
            phx_dots_widen(&job, t.wide + j * t.wide_stride);
    }
    if (p->a->fixed && p->wide_stride > 0) {
        const phx_dots job = fixed_job(&t, 0, 1);
        phx_dots_widen(&job, fixed_wide(&t));
    }
}

/* Neighbouring leaves first, in place; the result is leaf 0. */
static void add_tree(const leaf_tile *t)
{
    const int64_t n = t->n_tokens * PHX_DOTS_OUT;
    for (int64_t step = 1; step < (int64_t)t->a->n_leaves; step *= 2) {
        for (int64_t leaf = 0; leaf < (int64_t)t->a->n_leaves; leaf += 2 * step) {
            float *left = t->partial + leaf * n;
            const float *right = left + step * n;
            for (int64_t i = 0; i < n; i += PHX_LANES)
                phx_vf_store(left + i, phx_vf_add(phx_vf_load(left + i), phx_vf_load(right + i)));
        }
    }
}

static void leaf_sum_tile(void *user, int64_t item, void *scratch)
{
    const leaf_work *p = user;
    const phx_leaf_sum_args *a = p->a;
    uint8_t *memory = scratch;
    leaf_tile t = {.a = a,
                   .first_out = item / p->n_tiles_tokens * p->tile_out,
                   .first_token = item % p->n_tiles_tokens * p->tile_tokens,
                   .dots = (float *)(void *)(memory + PHX_DOTS_SCRATCH_BYTES),
                   .wide = p->wide_stride > 0 ? (float *)(void *)(memory + PHX_DOTS_WIDE_AT) : NULL,
                   .wide_stride = p->wide_stride,
                   .scratch = scratch};
    t.n_out = phx_i64_min(p->tile_out, a->n_out - t.first_out);
    t.next_out = t.first_out + p->n_threads * p->tile_out;
    t.n_tokens = phx_i64_min(p->tile_tokens, a->n_tokens - t.first_token);
    t.partial = t.dots + LEAVES_MAX * PHX_DOTS_RESULT(PHX_DOTS_ROWS);
    const int64_t n_partial = (int64_t)a->n_leaves * t.n_tokens * PHX_DOTS_OUT;
    memset(t.partial, 0, (size_t)n_partial * sizeof(float));
    for (int64_t e = 0; e < a->routed.n_experts; e++) {
        const int64_t end = a->routed.first[e + 1];
        if (a->routed.first[e] == end)
            continue;
        const int64_t first = entry_at(&a->routed, a->routed.first[e], end, t.first_token);
        const int64_t stop = entry_at(&a->routed, first, end, t.first_token + t.n_tokens);
        if (first < stop)
            add_expert(&t, e, first, stop);
    }
    if (a->fixed)
        add_fixed(&t);
    add_tree(&t);
    for (int64_t r = 0; r < t.n_tokens; r++)
        memcpy(a->out + (t.first_token + r) * a->n_out + t.first_out, t.partial + r * PHX_DOTS_OUT,
               (size_t)t.n_out * sizeof(float));
}

void phx_leaf_sum(phx_pool *pool, const phx_leaf_sum_args *args)
{
    static_assert(PHX_DOTS_SCRATCH_BYTES + LEAVES_MAX * PHX_DOTS_RESULT(PHX_DOTS_ROWS + LEAF_ROWS) * 4 <=
                      PHX_DOTS_WIDE_AT,
                  "scratch");
    assert(args->n_leaves == 1 || args->n_leaves == 2 || args->n_leaves == 4 || args->n_leaves == LEAVES_MAX);
    const leaf_work p = {
        .a = args,
        .tile_out = phx_dots_tile_out(args->n_out, args->n_tokens, args->n_out, phx_pool_n_threads(pool)),
        .tile_tokens = phx_tile_of(args->n_tokens, LEAF_ROWS, 1),
        .n_tiles_tokens = (args->n_tokens + LEAF_ROWS - 1) / LEAF_ROWS,
        .n_threads = phx_pool_n_threads(pool),
        .wide_stride = args->n_tokens == 1 ? wide_stride_of(args) : 0};
    const int64_t n_tiles_out = (args->n_out + p.tile_out - 1) / p.tile_out;
    phx_pool_run_begun(pool, n_tiles_out * p.n_tiles_tokens, leaf_sum_begin, leaf_sum_tile,
                       (void *)(uintptr_t)&p);
}
