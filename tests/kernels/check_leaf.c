/* tests/kernels/check_leaf.c - leaf_sum: values, and the promise of the tree: 8 leaves in one call equal 2
 * calls of 4, 4 of 2 and 8 of 1, each on its own packed slice, added up neighbours first. Bit for bit. */
#include "tests/kernels/check.h"

#include <math.h>

#include "tests/kernels/routing.h"

#define LEAVES 8

typedef struct shape {
    phx_format format;
    phx_dtype dtype;
    check_fill fill;
    check_routing_kind kind;
    bool has_routed;
    bool has_fixed;
    bool ep;
    int64_t n_tokens;
    int64_t n_out;
    int64_t k_routed;
    int64_t k_fixed;
    bool exact; /* bf16, one column per leaf: exact dots, so all levels have equal bits */
    bool tiles; /* whole aligned blocks of columns, and memory for sums of n_room tokens that wait */
    int64_t n_room;
} shape;

/* What a case owns beside the arguments; bounds are those of the 8 leaves. */
typedef struct leaf_case {
    phx_leaf_sum_args args;
    check_routing routing;
    int64_t *routed_bounds; /* [LEAVES + 1] */
    int64_t *fixed_bounds;  /* [LEAVES + 1] */
    int32_t *expert_leaf;   /* [LEAVES] */
} leaf_case;

static void leaf_sum_case(check *c, const shape *drawn);
static void check_many_tokens(check *c);

void check_leaf_sum(check *c)
{
    static const int64_t tokens[] = {0, 1, 2, 3, 7, 64};
    for (int f = 0; f < PHX_FORMAT_COUNT; f++) {
        for (int i = 0; i < 6 * 2 * 3; i += c->brief ? 4 : 1) {
            shape s = {.format = (phx_format)f,
                       .dtype = (i & 1) != 0 ? PHX_F32 : PHX_BF16,
                       .fill = (check_fill)(i % CHECK_FILL_COUNT),
                       .kind = (check_routing_kind)(i / 2 % CHECK_ROUTING_COUNT),
                       .has_routed = i % 7 != 3,
                       .has_fixed = i % 5 != 2,
                       .ep = i / 6 % 2 != 0,
                       .n_tokens = check_rows(c, tokens[i % 6]),
                       .n_out = 13,
                       .k_routed = 131,
                       .k_fixed = 300};
            if (i == 20) { /* leaves of whole scale blocks */
                s.k_routed = 1024;
                s.k_fixed = 2048;
            }
            leaf_sum_case(c, &s);
        }
        for (int64_t k = 1; k <= check_most(c, 130); k += c->brief ? check_step(c, 1) : 2)
            leaf_sum_case(c, &(shape){(phx_format)f, (k & 2) != 0 ? PHX_F32 : PHX_BF16, CHECK_RANDOM,
                                      (check_routing_kind)(k % CHECK_ROUTING_COUNT), true, true, k % 4 == 1,
                                      3, 1 + k % 9, k, k > 130 ? k : 131 - k, false, false, 0});
    }
    static const phx_format formats[] = {PHX_FORMAT_FP8_BLOCK, PHX_FORMAT_BF16,     PHX_FORMAT_FP8_BLOCK,
                                         PHX_FORMAT_BF16,      PHX_FORMAT_INT4_G32, PHX_FORMAT_INT4_G32};
    for (int i = 0; i < 6; i++) /* more than one tile of tokens, leaves of whole blocks */
        leaf_sum_case(c, &(shape){.format = formats[i],
                                  .dtype = i == 0 ? PHX_F32 : PHX_BF16,
                                  .fill = CHECK_RANDOM,
                                  .kind = CHECK_ROUTING_MIXED,
                                  .has_routed = true,
                                  .has_fixed = i != 3,
                                  .ep = i == 1,
                                  .n_tokens = 1 + 16 * i,
                                  .n_out = 18,
                                  .k_routed = i < 2 ? 256 : 1024,
                                  .k_fixed = 384});
    for (int i = 0; i < 6; i++) /* tiles of tokens end, and a block of columns is eight leaves */
        leaf_sum_case(c, &(shape){.format = formats[i],
                                  .dtype = PHX_BF16,
                                  .fill = CHECK_RANDOM,
                                  .kind = CHECK_ROUTING_MIXED,
                                  .has_routed = true,
                                  .has_fixed = true,
                                  .n_tokens = 8 << i % 3,
                                  .n_out = 16,
                                  .k_routed = 128,
                                  .k_fixed = 128});
    for (int i = 0; i < (c->brief ? 4 : 12); i++) /* to be packed */
        leaf_sum_case(c, &(shape){.format = PHX_FORMAT_FP8_BLOCK,
                                  .dtype = (i & 1) != 0 ? PHX_F32 : PHX_BF16,
                                  .fill = CHECK_RANDOM,
                                  .kind = CHECK_ROUTING_MIXED,
                                  .has_routed = true,
                                  .has_fixed = i % 3 != 2,
                                  .ep = i % 4 == 3,
                                  .n_tokens = 1 + i % 7,
                                  .n_out = 24 + 32 * (i % 2),
                                  .k_routed = 512 << i % 2,
                                  .k_fixed = 1024});
    for (int i = 0; i < (c->brief ? 2 : 6); i++)
        leaf_sum_case(c, &(shape){.format = PHX_FORMAT_BF16,
                                  .dtype = PHX_BF16,
                                  .fill = CHECK_RANDOM,
                                  .kind = CHECK_ROUTING_MIXED,
                                  .has_routed = true,
                                  .has_fixed = i != 2,
                                  .ep = (i & 1) != 0,
                                  .exact = true,
                                  .n_tokens = 1 + 3 * i,
                                  .n_out = 20,
                                  .k_routed = (i & 1) != 0 ? 1 : LEAVES,
                                  .k_fixed = LEAVES});
    check_many_tokens(c);
    check_rounded_leaf_sum(c);
}

/* More tokens than one tile takes: of all leaves at once, of room for fewer, of one part of the work. */
static void check_many_tokens(check *c)
{
    static const phx_format formats[] = {PHX_FORMAT_FP8_BLOCK, PHX_FORMAT_BF16, PHX_FORMAT_INT4_G32};
    for (int i = 0; i < (c->brief ? 6 : 18); i++)
        leaf_sum_case(c, &(shape){.format = formats[i % 3],
                                  .dtype = PHX_BF16,
                                  .fill = (check_fill)(i / 2 % CHECK_FILL_COUNT),
                                  .kind = i % 4 == 2 ? CHECK_ROUTING_ONE : CHECK_ROUTING_MIXED,
                                  .has_routed = i != 3,
                                  .has_fixed = i != 1,
                                  .ep = i % 6 == 5,
                                  .tiles = true,
                                  .n_room = i % 3 == 1 ? 128 : 131,
                                  .n_tokens = 131,
                                  .n_out = i % 5 == 3 ? 135 : 11,
                                  .k_routed = i % 2 == 0 ? 640 : 256,
                                  .k_fixed = i % 3 == 1 ? 1024 : 512});
}

/* Even shares, or random cuts with empty leaves. */
static void draw_bounds(check *c, const shape *s, int64_t n, int64_t *bounds)
{
    if (s->tiles) {
        for (int64_t i = 0; i <= LEAVES; i++)
            bounds[i] = i * n / LEAVES / 128 * 128;
        return;
    }
    if (s->exact || phx_rng_below(&c->rng, 2) == 0) {
        for (int64_t i = 0; i <= LEAVES; i++)
            bounds[i] = check_cols(s->format, i * n / LEAVES);
        return;
    }
    bounds[0] = 0;
    bounds[LEAVES] = n;
    for (int64_t i = 1; i < LEAVES; i++) {
        const int64_t left = n - bounds[i - 1];
        const int64_t step =
            phx_rng_below(&c->rng, 3) == 0 ? 0 : phx_rng_below(&c->rng, (uint32_t)(left / 3 + 1));
        bounds[i] = bounds[i - 1] + check_cols(s->format, step);
    }
}

static phx_matrix *draw_matrix(check *c, const shape *s, int64_t n_cols)
{
    phx_matrix *w = check_matrix(c, s->format, s->n_out, n_cols, s->fill);
    if (s->tiles)
        w->col_shift = 0;
    return check_packed(c, w);
}

static void build(check *c, const shape *s, leaf_case *k)
{
    phx_leaf_sum_args *a = &k->args;
    *a = (phx_leaf_sum_args){.n_tokens = s->n_tokens, .n_out = s->n_out, .n_leaves = LEAVES};
    k->routed_bounds = check_mem(c, LEAVES + 1, sizeof(*k->routed_bounds));
    k->fixed_bounds = check_mem(c, LEAVES + 1, sizeof(*k->fixed_bounds));
    k->expert_leaf = check_mem(c, LEAVES, sizeof(*k->expert_leaf));
    draw_bounds(c, s, s->k_routed, k->routed_bounds);
    draw_bounds(c, s, s->k_fixed, k->fixed_bounds);
    static const int32_t skewed[LEAVES] = {0, 0, 1, 2, 2, 5, 7, 7};
    for (int32_t e = 0; e < LEAVES; e++)
        k->expert_leaf[e] = phx_rng_below(&c->rng, 2) == 0 ? e : skewed[e];
    for (int32_t e = 1; e < LEAVES; e++) /* experts of a leaf are neighbours */
        k->expert_leaf[e] =
            k->expert_leaf[e] < k->expert_leaf[e - 1] ? k->expert_leaf[e - 1] : k->expert_leaf[e];
    if (s->has_routed) {
        k->routing = check_routing_make(c, s->kind, s->n_tokens);
        a->routed = k->routing.rows;
        a->token_first = k->routing.token_first;
        a->token_entries = k->routing.token_entries;
        const phx_matrix **down = check_mem(c, a->routed.n_experts, sizeof(*down));
        for (int64_t e = 0; e < a->routed.n_experts; e++) {
            if (a->routed.first[e] < a->routed.first[e + 1])
                down[e] = draw_matrix(c, s, s->k_routed);
        }
        a->down = down;
        a->h_routed =
            check_activation(c, a->routed.first[a->routed.n_experts], s->k_routed, s->dtype, s->fill);
        a->routed_bounds = s->ep ? NULL : k->routed_bounds;
        a->expert_leaf = s->ep ? k->expert_leaf : NULL;
    }
    if (s->has_fixed) {
        a->fixed = draw_matrix(c, s, s->k_fixed);
        a->h_fixed = check_activation(c, s->n_tokens, s->k_fixed, s->dtype, s->fill);
        a->fixed_bounds = k->fixed_bounds;
    }
    if (s->n_room > 0) {
        a->n_parts = s->n_room * s->n_out * 3;
        a->parts = check_out(c, a->n_parts, sizeof(float));
    }
}

/* Adds |weight * h * w| and the value of one dot over all columns. */
static void add_dot(const phx_activation *h, int64_t row, const phx_matrix *w, int64_t n, double weight,
                    double *sums)
{
    for (int64_t k = 0; k < w->n_cols; k++) {
        const double term =
            weight * check_load(h->data, h->dtype, row * h->stride + k) * (double)phx_matrix_at(w, n, k);
        sums[0] += term;
        sums[1] += fabs(term);
    }
}

static int64_t widest(const int64_t *bounds)
{
    int64_t width = 0;
    for (int64_t i = 0; i < LEAVES; i++)
        width = bounds[i + 1] - bounds[i] > width ? bounds[i + 1] - bounds[i] : width;
    return width;
}

/* sums: [n_tokens][n_out][value, size] by the formula without leaves, limit from the size. */
static void formula(check *c, const leaf_case *k, double *limit, float *want)
{
    const phx_leaf_sum_args *a = &k->args;
    double *sums = check_mem(c, 2 * a->n_tokens * a->n_out, sizeof(double));
    int64_t width = a->fixed ? widest(k->fixed_bounds) : 0;
    for (int64_t e = 0; e < a->routed.n_experts; e++) {
        for (int64_t j = a->routed.first[e]; j < a->routed.first[e + 1]; j++) {
            const int64_t t = a->routed.token ? a->routed.token[j] : j;
            const double weight = a->routed.weight ? (double)a->routed.weight[j] : 1.0;
            for (int64_t n = 0; n < a->n_out; n++)
                add_dot(&a->h_routed, j, a->down[e], n, weight, sums + 2 * (t * a->n_out + n));
            const int64_t leaf = a->expert_leaf ? a->down[e]->n_cols : widest(k->routed_bounds);
            width = leaf > width ? leaf : width;
        }
    }
    for (int64_t t = 0; a->fixed && t < a->n_tokens; t++) {
        for (int64_t n = 0; n < a->n_out; n++)
            add_dot(&a->h_fixed, t, a->fixed, n, 1.0, sums + 2 * (t * a->n_out + n));
    }
    for (int64_t i = 0; i < a->n_tokens * a->n_out; i++) {
        limit[i] = ((double)width / 16.0 + 16.0) * (double)FLT_EPSILON * sums[2 * i + 1];
        if (c->is_ref)
            want[i] = (float)sums[2 * i];
    }
}

/* What a rank with leaves [leaf, leaf + n_leaves) would call: its own slices and experts. */
static phx_leaf_sum_args part_of(check *c, const leaf_case *k, int64_t leaf, int64_t n_leaves)
{
    phx_leaf_sum_args a = k->args;
    const int64_t end = leaf + n_leaves;
    a.n_leaves = (uint32_t)n_leaves;
    a.out = check_out(c, a.n_tokens * a.n_out, sizeof(float));
    if (a.fixed) {
        int64_t *bounds = check_mem(c, n_leaves + 1, sizeof(*bounds));
        for (int64_t i = 0; i <= n_leaves; i++)
            bounds[i] = k->fixed_bounds[leaf + i] - k->fixed_bounds[leaf];
        a.fixed = check_slice_cols(c, a.fixed, k->fixed_bounds[leaf], k->fixed_bounds[end]);
        a.h_fixed.data =
            (const char *)a.h_fixed.data + (size_t)k->fixed_bounds[leaf] * phx_dtype_bytes(a.h_fixed.dtype);
        a.fixed_bounds = bounds;
    }
    if (a.routed.n_experts > 0 && !a.expert_leaf) {
        int64_t *bounds = check_mem(c, n_leaves + 1, sizeof(*bounds));
        for (int64_t i = 0; i <= n_leaves; i++)
            bounds[i] = k->routed_bounds[leaf + i] - k->routed_bounds[leaf];
        const phx_matrix **down = check_mem(c, a.routed.n_experts, sizeof(*down));
        for (int64_t e = 0; e < a.routed.n_experts; e++) {
            if (a.down[e])
                down[e] = check_slice_cols(c, a.down[e], k->routed_bounds[leaf], k->routed_bounds[end]);
        }
        a.down = down;
        a.h_routed.data = (const char *)a.h_routed.data +
                          (size_t)k->routed_bounds[leaf] * phx_dtype_bytes(a.h_routed.dtype);
        a.routed_bounds = bounds;
    } else if (a.routed.n_experts > 0) {
        int64_t first = 0;
        while (first < a.routed.n_experts && k->expert_leaf[first] < leaf)
            first++;
        int64_t last = first;
        while (last < a.routed.n_experts && k->expert_leaf[last] < end)
            last++;
        const int64_t skipped = k->args.routed.first[first];
        const check_routing part = check_routing_part(c, &k->routing, a.n_tokens, first, last);
        int32_t *expert_leaf = check_mem(c, last - first, sizeof(*expert_leaf));
        for (int64_t e = first; e < last; e++)
            expert_leaf[e - first] = k->expert_leaf[e] - (int32_t)leaf;
        a.routed = part.rows;
        a.token_first = part.token_first;
        a.token_entries = part.token_entries;
        a.down += first;
        a.h_routed.data = (const char *)a.h_routed.data +
                          (size_t)(skipped * a.h_routed.stride) * phx_dtype_bytes(a.h_routed.dtype);
        a.expert_leaf = expert_leaf;
    }
    return a;
}

static void tree_promise(check *c, const leaf_case *k, const float *got)
{
    const int64_t n = k->args.n_tokens * k->args.n_out;
    for (int64_t n_parts = 2; n_parts <= LEAVES; n_parts *= 2) {
        float *sums[LEAVES];
        for (int64_t p = 0; p < n_parts; p++) {
            const phx_leaf_sum_args a = part_of(c, k, p * LEAVES / n_parts, LEAVES / n_parts);
            c->ops->leaf_sum(c->pools[0], &a);
            sums[p] = a.out;
        }
        for (int64_t width = n_parts; width > 1; width /= 2) {
            for (int64_t p = 0; p < width / 2; p++) {
                for (int64_t i = 0; i < n; i++)
                    sums[p][i] = sums[2 * p][i] + sums[2 * p + 1][i];
            }
        }
        char why[64];
        snprintf(why, sizeof(why), "the tensor-parallel degree (%d calls)", (int)n_parts);
        check_same(c, why, got, sums[0], n, sizeof(float));
    }
}

static void thread_promise(check *c, const leaf_case *k, const float *got)
{
    const int64_t n = k->args.n_tokens * k->args.n_out;
    for (int i = 1; i < CHECK_POOLS; i++) {
        phx_leaf_sum_args a = k->args;
        a.out = check_out(c, n, sizeof(float));
        c->ops->leaf_sum(c->pools[i], &a);
        check_same(c, "the number of threads", got, a.out, n, sizeof(float));
    }
}

/* Token t alone: every expert keeps its entry of that token only. */
static void token_promise(check *c, const leaf_case *k, int64_t t, const float *got)
{
    phx_leaf_sum_args a = k->args;
    const int64_t n_experts = a.routed.n_experts;
    int64_t *first = check_mem(c, n_experts + 1, sizeof(*first));
    int32_t *token = check_mem(c, n_experts + 1, sizeof(*token));
    float *weight = check_mem(c, n_experts + 1, sizeof(*weight));
    int32_t *entries = check_mem(c, n_experts + 1, sizeof(*entries));
    const size_t row_bytes = (size_t)a.h_routed.stride * phx_dtype_bytes(a.h_routed.dtype);
    char *h = check_mem(c, n_experts, row_bytes > 0 ? row_bytes : 1);
    int64_t found = 0;
    for (int64_t e = 0; e < n_experts; e++) {
        first[e] = found;
        int64_t j = a.routed.first[e];
        while (j < a.routed.first[e + 1] && (a.routed.token ? a.routed.token[j] : j) != t)
            j++;
        if (j == a.routed.first[e + 1])
            continue;
        weight[found] = a.routed.weight ? a.routed.weight[j] : 1.0f;
        entries[found] = (int32_t)found;
        memcpy(h + (size_t)found * row_bytes, (const char *)a.h_routed.data + (size_t)j * row_bytes,
               row_bytes);
        found++;
    }
    first[n_experts] = found;
    int64_t *token_first = check_mem(c, 2, sizeof(*token_first));
    token_first[1] = found;
    if (n_experts > 0) {
        a.routed = (phx_expert_rows){n_experts, first, token, weight};
        a.h_routed.data = h;
        a.token_first = token_first;
        a.token_entries = entries;
    }
    if (a.fixed)
        a.h_fixed.data =
            (const char *)a.h_fixed.data + (size_t)(t * a.h_fixed.stride) * phx_dtype_bytes(a.h_fixed.dtype);
    a.n_tokens = 1;
    a.out = check_out(c, a.n_out, sizeof(float));
    c->ops->leaf_sum(c->pools[0], &a);
    check_same(c, "neighbouring tokens", got + t * a.n_out, a.out, a.n_out, sizeof(float));
}

static void leaf_sum_case(check *c, const shape *drawn)
{
    shape even = *drawn;
    const shape *s = &even;
    even.k_routed = check_cols(s->format, s->k_routed);
    even.k_fixed = check_cols(s->format, s->k_fixed);
    check_case(c, "%s x %s fill %d routing %d%s%s %s tokens %lld n_out %lld K %lld + %lld",
               phx_format_name(s->format), phx_dtype_name(s->dtype), (int)s->fill, (int)s->kind,
               s->has_routed ? " routed" : "", s->has_fixed ? " fixed" : "", s->ep ? "ep" : "tp",
               (long long)s->n_tokens, (long long)s->n_out, (long long)s->k_routed, (long long)s->k_fixed);
    leaf_case k = {0};
    build(c, s, &k);
    const int64_t n = s->n_tokens * s->n_out;
    float *got = check_out(c, n, sizeof(float));
    float *want = check_out(c, n, sizeof(float));
    double *limit = check_mem(c, n, sizeof(double));
    k.args.out = want;
    c->ref->leaf_sum(c->ref_pool, &k.args);
    k.args.out = got;
    c->ops->leaf_sum(c->pools[0], &k.args);
    formula(c, &k, limit, want);
    check_compare(c, &(check_result){want, got, PHX_F32, s->n_tokens, s->n_out, s->n_out,
                                     s->exact && !c->is_ref ? NULL : limit});
    tree_promise(c, &k, got);
    thread_promise(c, &k, got);
    if (s->n_tokens > 1)
        token_promise(c, &k, 0, got);
    if (s->n_tokens > 64) {
        token_promise(c, &k, s->n_tokens / 2, got);
        token_promise(c, &k, s->n_tokens - 1, got);
    }
    check_end(c);
}
