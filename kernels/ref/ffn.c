/* kernels/ref/ffn.c - reference of the feed-forward blocks: gate/up with silu, and the sum over leaves. */
#include "kernels/ref/ref.h"

#define LEAVES_MAX 8

static int64_t token_of(const phx_expert_rows *rows, int64_t entry)
{
    return rows->token ? rows->token[entry] : entry;
}

static void ffn_in_column(void *user, int64_t item, void *scratch)
{
    const phx_ffn_in_args *a = user;
    const int64_t e = item / a->n_out;
    const int64_t n = item % a->n_out;
    if (a->rows.first[e] == a->rows.first[e + 1])
        return;
    const int64_t n_in = a->gate[e]->n_cols;
    assert(2 * n_in <= PHX_REF_DOUBLES);
    double *gate = scratch;
    double *up = gate + n_in;
    phx_ref_weight_row(a->gate[e], n, gate);
    phx_ref_weight_row(a->up[e], n, up);
    for (int64_t j = a->rows.first[e]; j < a->rows.first[e + 1]; j++) {
        const int64_t x_offset = token_of(&a->rows, j) * a->x.stride;
        const float g = (float)phx_ref_dot(&a->x, x_offset, gate, 0, n_in);
        const float u = (float)phx_ref_dot(&a->x, x_offset, up, 0, n_in);
        phx_ref_store(a->out.data, a->out.dtype, j * a->out.stride + n, phx_siluf(g) * u);
    }
}

void phx_ffn_in_ref(phx_pool *pool, const phx_ffn_in_args *args)
{
    phx_ffn_in_args a = *args;
    phx_pool_run(pool, a.rows.n_experts * a.n_out, ffn_in_column, &a);
}

/* Adds the routed entries of all experts, ascending, into partial[leaf][token]. */
static void add_routed(const phx_leaf_sum_args *a, int64_t n, double *w, float *partial)
{
    for (int64_t e = 0; e < a->routed.n_experts; e++) {
        if (a->routed.first[e] == a->routed.first[e + 1])
            continue;
        phx_ref_weight_row(a->down[e], n, w);
        for (int64_t j = a->routed.first[e]; j < a->routed.first[e + 1]; j++) {
            const float weight = a->routed.weight ? a->routed.weight[j] : 1.0f;
            for (int64_t leaf = 0; leaf < a->n_leaves; leaf++) {
                if (a->expert_leaf && a->expert_leaf[e] != leaf)
                    continue;
                const int64_t first = a->expert_leaf ? 0 : a->routed_bounds[leaf];
                const int64_t end = a->expert_leaf ? a->down[e]->n_cols : a->routed_bounds[leaf + 1];
                const double dot = phx_ref_dot(&a->h_routed, j * a->h_routed.stride, w, first, end);
                float *sum = partial + leaf * a->n_tokens + token_of(&a->routed, j);
                *sum = fmaf(weight, (float)dot, *sum);
            }
        }
    }
}

static void add_fixed(const phx_leaf_sum_args *a, int64_t n, double *w, float *partial)
{
    phx_ref_weight_row(a->fixed, n, w);
    for (int64_t leaf = 0; leaf < a->n_leaves; leaf++) {
        for (int64_t t = 0; t < a->n_tokens; t++) {
            const double dot = phx_ref_dot(&a->h_fixed, t * a->h_fixed.stride, w, a->fixed_bounds[leaf],
                                           a->fixed_bounds[leaf + 1]);
            partial[leaf * a->n_tokens + t] += (float)dot;
        }
    }
}

/* A leaf starts at +0 and the fixed dot is added to it: equal to starting at the fixed dot, but for the sign
 * of a zero, which is always + here. */
static void leaf_sum_column(void *user, int64_t n, void *scratch)
{
    const phx_leaf_sum_args *a = user;
    double *w = scratch;
    float *partial = (float *)((char *)scratch + PHX_SCRATCH_BYTES / 2); /* [n_leaves][n_tokens] */
    for (int64_t i = 0; i < a->n_leaves * a->n_tokens; i++)
        partial[i] = 0.0f;
    add_routed(a, n, w, partial);
    if (a->fixed)
        add_fixed(a, n, w, partial);
    for (int64_t t = 0; t < a->n_tokens; t++) {
        float level[LEAVES_MAX];
        for (int64_t leaf = 0; leaf < a->n_leaves; leaf++)
            level[leaf] = partial[leaf * a->n_tokens + t];
        for (int64_t width = a->n_leaves; width > 1; width /= 2) {
            for (int64_t i = 0; i < width / 2; i++)
                level[i] = level[2 * i] + level[2 * i + 1];
        }
        a->out[t * a->n_out + n] = level[0];
    }
}

void phx_leaf_sum_ref(phx_pool *pool, const phx_leaf_sum_args *args)
{
    phx_leaf_sum_args a = *args;
    assert(a.n_leaves == 1 || a.n_leaves == 2 || a.n_leaves == 4 || a.n_leaves == LEAVES_MAX);
    assert((size_t)(a.n_leaves * a.n_tokens) <= PHX_SCRATCH_BYTES / 2 / sizeof(float));
    assert(!a.fixed || a.fixed->n_cols <= PHX_REF_DOUBLES / 2);
    for (int64_t e = 0; e < a.routed.n_experts; e++)
        assert(!a.down[e] || a.down[e]->n_cols <= PHX_REF_DOUBLES / 2);
    if (a.n_tokens > 0)
        phx_pool_run(pool, a.n_out, leaf_sum_column, &a);
}
