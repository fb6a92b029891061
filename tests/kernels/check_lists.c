/* tests/kernels/check_lists.c - small ops around the large ones, all exact: list_experts, cache_read, scale,
 * pick_rows, noisy_top. */
#include "kernels/cache.h"
#include "tests/kernels/check.h"

#include <string.h>

static const int64_t row_counts[] = {0, 1, 3, 17, 200};
#define N_ROW_COUNTS ((int64_t)(sizeof(row_counts) / sizeof(row_counts[0])))

/* n_used different ids below n_experts, ascending. */
static void pick_ids(check *c, int64_t n_experts, int64_t n_used, int32_t *ids)
{
    int64_t n = 0;
    for (int64_t e = 0; e < n_experts && n < n_used; e++) {
        const uint32_t left = (uint32_t)(n_experts - e);
        if (phx_rng_below(&c->rng, left) < (uint32_t)(n_used - n))
            ids[n++] = (int32_t)e;
    }
}

static void list_experts_case(check *c, phx_list_experts_args a)
{
    check_case(c, "n_tokens %lld %lld of %lld held %lld-%lld", (long long)a.n_tokens, (long long)a.n_used,
               (long long)a.n_experts, (long long)a.held_first, (long long)a.held_end);
    const int64_t n_pairs = a.n_tokens * a.n_used;
    int64_t *n_listed = check_mem(c, 1, sizeof(*n_listed));
    *n_listed = a.held_first ? a.n_tokens : a.n_tokens * 3 / 4;
    a.n_listed = a.held_first ? NULL : n_listed;
    int32_t *ids = check_mem(c, n_pairs, sizeof(*ids));
    for (int64_t t = 0; t < a.n_tokens; t++)
        pick_ids(c, a.n_experts, a.n_used, ids + t * a.n_used);
    a.ids = ids;
    a.weights = check_floats(c, n_pairs, CHECK_RANDOM);
    phx_list_experts_args both[2] = {a, a};
    for (int i = 0; i < 2; i++) {
        both[i].first = check_out(c, a.n_experts + 1, sizeof(int64_t));
        both[i].token = check_out(c, n_pairs, sizeof(int32_t));
        both[i].weight = check_out(c, n_pairs, sizeof(float));
        both[i].token_first = check_out(c, a.n_tokens + 1, sizeof(int64_t));
        both[i].token_entries = check_out(c, n_pairs, sizeof(int32_t));
        (i == 0 ? c->ref : c->ops)->list_experts(i == 0 ? c->ref_pool : c->pools[0], &both[i]);
    }
    check_same(c, "first", both[0].first, both[1].first, a.n_experts + 1, sizeof(int64_t));
    check_same(c, "token", both[0].token, both[1].token, n_pairs, sizeof(int32_t));
    check_same(c, "weight", both[0].weight, both[1].weight, n_pairs, sizeof(float));
    check_same(c, "token_first", both[0].token_first, both[1].token_first, a.n_tokens + 1, sizeof(int64_t));
    check_same(c, "token_entries", both[0].token_entries, both[1].token_entries, n_pairs, sizeof(int32_t));
    /* The lists as their contract says them: sorted, and every pair is found again. */
    int64_t n = 0;
    for (int64_t t = 0; t < *n_listed; t++) {
        for (int64_t i = t * a.n_used; i < (t + 1) * a.n_used; i++) {
            const int64_t e = ids[i];
            if (e < a.held_first || e >= a.held_end)
                continue;
            const int64_t j = both[1].token_entries[n++];
            if (j < both[1].first[e] || j >= both[1].first[e + 1] || both[1].token[j] != t ||
                both[1].weight[j] != a.weights[i])
                check_fail(c, "pair of token %lld and expert %lld is not at entry %lld", (long long)t,
                           (long long)e, (long long)j);
        }
    }
    check_end(c);
}

void check_list_experts(check *c)
{
    for (int64_t i = 0; i < N_ROW_COUNTS; i++) {
        phx_list_experts_args a = {.n_tokens = row_counts[i], .n_used = 8, .n_experts = 300, .held_end = 300};
        list_experts_case(c, a);
        a.held_first = 75;
        a.held_end = 150;
        list_experts_case(c, a);
        a.held_first = a.held_end;
        list_experts_case(c, a);
        list_experts_case(
            c, (phx_list_experts_args){
                   .n_tokens = row_counts[i], .n_used = 2, .n_experts = 3, .held_first = 1, .held_end = 3});
    }
    /* a prompt's chunk: every warp of a block walks far */
    list_experts_case(
        c, (phx_list_experts_args){.n_tokens = 1111, .n_used = 8, .n_experts = 64, .held_end = 64});
}

void check_cache_read(check *c)
{
    enum { WIDTH = 83, N_BLOCKS = 5 };
    static const int32_t table[] = {3, 0, 4}; /* of blocks */
    for (int d = 0; d < 2; d++) {
        const phx_dtype dtype = d == 0 ? PHX_BF16 : PHX_F32;
        for (int64_t n = 0; n <= 3 * 64; n = n * 2 + 1) {
            check_case(c, "%s n_positions %lld", phx_dtype_name(dtype), (long long)n);
            const phx_activation memory = check_activation(c, N_BLOCKS * 64, WIDTH, dtype, CHECK_BIG);
            const phx_cache cache = {(void *)(uintptr_t)memory.data, WIDTH, dtype, n % 2, 0};
            const int32_t *blocks = check_copy(c, table, 3, sizeof(*blocks));
            phx_cache_read_args a = {
                .cache = &cache, .blocks = blocks, .n_positions = n, .first_col = 50, .n_cols = 33};
            float *want = check_out(c, n * a.n_cols, sizeof(float));
            a.out = want;
            c->ref->cache_read(c->ref_pool, &a);
            for (int i = 0; i < CHECK_POOLS; i++) {
                a.out = check_out(c, n * a.n_cols, sizeof(float));
                c->ops->cache_read(c->pools[i], &a);
                check_compare(c, &(check_result){want, a.out, PHX_F32, n, a.n_cols, a.n_cols, NULL});
            }
            check_end(c);
        }
    }
    check_case(c, "fp8");
    phx_cache cache = {.width = WIDTH, .dtype = PHX_F8_E4M3, .d_latent = 70};
    const int64_t n = 3 * 64;
    int64_t *entries = check_mem(c, n, sizeof(*entries));
    for (int64_t p = 0; p < n; p++)
        entries[p] = (int64_t)table[p / 64] * 64 + p % 64;
    cache.data = check_out(c, N_BLOCKS * 64 * phx_cache_entry_bytes(&cache), 1);
    const float *x = check_floats(c, n * WIDTH, CHECK_BIG);
    c->ref->cache_write(c->ref_pool, &(phx_cache_write_args){x, WIDTH, n, entries, &cache});
    phx_cache_read_args a = {.cache = &cache, .n_positions = n, .first_col = 50, .n_cols = 33};
    a.blocks = check_copy(c, table, 3, sizeof(*a.blocks));
    float *want = check_out(c, n * a.n_cols, sizeof(float));
    for (int64_t i = 0; i < n * a.n_cols; i++)
        want[i] = phx_cache_number(&cache, entries[i / a.n_cols], a.first_col + i % a.n_cols);
    a.out = check_out(c, n * a.n_cols, sizeof(float));
    c->ops->cache_read(c->pools[0], &a);
    check_compare(c, &(check_result){want, a.out, PHX_F32, n, a.n_cols, a.n_cols, NULL});
    check_end(c);
}

void check_pick_rows(check *c)
{
    enum { N = 40 };
    for (int d = 0; d < 2; d++) {
        const phx_dtype dtype = d == 0 ? PHX_BF16 : PHX_F32;
        const size_t bytes = phx_dtype_bytes(dtype);
        for (int64_t i = 0; i < N_ROW_COUNTS; i++) {
            const int64_t n = row_counts[i], n_cols = 67;
            check_case(c, "%s n_rows %lld", phx_dtype_name(dtype), (long long)n);
            int32_t *rows = check_mem(c, n, sizeof(*rows));
            for (int64_t r = 0; r < n; r++)
                rows[r] = (int32_t)phx_rng_below(&c->rng, N);
            phx_pick_rows_args a = {.x = check_activation(c, N, n_cols + 5, dtype, CHECK_RANDOM),
                                    .rows = rows,
                                    .n_rows = n,
                                    .n_cols = n_cols};
            void *want = check_out(c, n * n_cols, bytes);
            a.out = want;
            c->ref->pick_rows(c->ref_pool, &a);
            a.out = check_out(c, n * n_cols, bytes);
            c->ops->pick_rows(c->pools[0], &a);
            check_compare(c, &(check_result){want, a.out, dtype, n, n_cols, n_cols, NULL});
            check_end(c);
        }
    }
}

static void noisy_top_case(check *c, int64_t n_rows, uint32_t n_leaves, int64_t n_cols)
{
    check_case(c, "n_rows %lld leaves %u n_cols %lld", (long long)n_rows, n_leaves, (long long)n_cols);
    const int64_t n = n_rows * n_leaves;
    int64_t *bounds = check_mem(c, n_leaves + 1, sizeof(*bounds));
    for (uint32_t i = 0; i <= n_leaves; i++)
        bounds[i] = n_cols * i / n_leaves;
    float *inverse = check_mem(c, n_rows, sizeof(*inverse));
    uint64_t *noise = check_mem(c, 4 * n_rows, sizeof(*noise));
    for (int64_t r = 0; r < n_rows; r++) {
        inverse[r] = 0.5f + (float)r;
        noise[4 * r] = phx_rng_u64(&c->rng);
        noise[4 * r + 1] = (uint64_t)r % 3;
        noise[4 * r + 2] = 17 + (uint64_t)r;
        noise[4 * r + 3] = r % 4 != 3;
    }
    phx_noisy_top_args both[2];
    for (int i = 0; i < 2; i++) {
        both[i] = (phx_noisy_top_args){.logits = i == 0 ? check_floats(c, n_rows * (n_cols + 3), CHECK_RANDOM)
                                                        : both[0].logits,
                                       .stride = n_cols + 3,
                                       .n_rows = n_rows,
                                       .n_leaves = n_leaves,
                                       .bounds = bounds,
                                       .first_id = 1000,
                                       .inv_temperature = inverse,
                                       .noise = noise,
                                       .values = check_out(c, n, sizeof(float)),
                                       .ids = check_out(c, n, sizeof(int32_t)),
                                       .chosen_logits = check_out(c, n, sizeof(float))};
        (i == 0 ? c->ref : c->ops)->noisy_top(i == 0 ? c->ref_pool : c->pools[1], &both[i]);
    }
    check_same(c, "values", both[0].values, both[1].values, n, sizeof(float));
    check_same(c, "ids", both[0].ids, both[1].ids, n, sizeof(int32_t));
    check_same(c, "logits", both[0].chosen_logits, both[1].chosen_logits, n, sizeof(float));
    for (int64_t r = 0; r < n_rows; r++) { /* a draw is one of the ids, none is -1 */
        const int32_t id = both[1].ids[r * n_leaves];
        if (noise[4 * r + 3] == 0 ? id != -1 : bounds[1] > 0 && (id < 1000 || id >= 1000 + bounds[1]))
            check_fail(c, "row %lld draws %d", (long long)r, id);
    }
    check_end(c);
}

void check_noisy_top(check *c)
{
    for (uint32_t n_leaves = 1; n_leaves <= 8; n_leaves *= 2)
        noisy_top_case(c, 5, n_leaves, 700);
    for (int64_t n_cols = 0; n_cols <= 70; n_cols += 7)
        noisy_top_case(c, 2, 8, n_cols);
    noisy_top_case(c, 0, 8, 100);
}
