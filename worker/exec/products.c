/* worker/exec/products.c - which products of a step may round their rows to fp8 (`--deterministic off`, where
 * the device's library has such a product), settled before the first step. Those that make queries and cache
 * entries, o_proj and dense down: rows of W in whole blocks, all tokens of the step. Not the indexer and the
 * router, which choose; not kv_b, whose rows are cache entries, read as they are by every later step; not
 * experts, whose rows are few each. */
#include "worker/exec/state.h"

#define EXAMPLES_MAX 16u

typedef struct examples {
    phx_product_args list[EXAMPLES_MAX];
    int64_t rows_least[EXAMPLES_MAX];
    size_t n;
} examples;

/* A shape that no earlier layer has. */
static void add(phx_exec *exec, examples *all, const phx_matrix *w, const void *x, float *out)
{
    for (size_t i = 0; i < all->n; i++) {
        const phx_matrix *other = all->list[i].w;
        if (other->n_rows == w->n_rows && other->n_cols == w->n_cols)
            return;
    }
    if (!w->data || w->format != PHX_FORMAT_FP8_BLOCK || all->n == EXAMPLES_MAX)
        return;
    const int64_t n_rows = exec->parts.plan->request.n_step_tokens;
    all->list[all->n++] = (phx_product_args){
        .x = phx_exec_act(exec, x, w->n_cols),
        .w = w,
        .n_groups = 1,
        .n_out = w->n_rows,
        .n_rows = n_rows / 4 * 4, /* rows come by fours, and out has no more */
        .out = out,
        .out_stride = w->n_rows,
        .rounded = true,
        .out_rows = n_rows,
        .parts = exec->buf.attention_parts,
        .n_parts = phx_exec_parts_floats(exec),
    };
}

static void add_layer(phx_exec *exec, examples *all, const phx_layer_weights *w)
{
    const phx_step_buf *buf = &exec->buf;
    if (exec->dims->q_lora) {
        add(exec, all, &w->q_a, buf->norm_act, buf->q_a);
        add(exec, all, &w->q_b, buf->q_a_act, buf->q);
    } else {
        add(exec, all, &w->q, buf->norm_act, buf->q);
    }
    add(exec, all, &w->kv_a, buf->norm_act, buf->latent);
    add(exec, all, &w->o, buf->heads_act, buf->partial);
    if (!w->moe)
        add(exec, all, &w->down, buf->fixed_act, buf->partial);
}

phx_code phx_exec_choose_products(phx_exec *exec, bool warm, phx_buf *text, phx_error *err)
{
    phx_backend *backend = exec->parts.backend;
    examples all = {.n = 0};
    if (!phx_numerics_may_round(&exec->numerics) || !backend->fns->choose_products)
        return PHX_OK;
    for (int64_t l = 0; l < exec->parts.weights->n_layers; l++)
        add_layer(exec, &all, &exec->parts.weights->layers[l]);
    if (all.n == 0)
        return PHX_OK;
    const phx_product_choice choice = {
        .examples = all.list, .n = all.n, .warm = warm, .rows_least = all.rows_least, .text = text};
    const phx_code rc = backend->fns->choose_products(backend, &choice, err);
    for (size_t i = 0; rc == PHX_OK && i < all.n; i++)
        exec->rounds = exec->rounds || all.rows_least[i] > 0;
    return rc;
}

bool phx_exec_rounds(const phx_exec *exec)
{
    return exec->rounds;
}
