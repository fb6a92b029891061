/* worker/exec/attention.c - one layer's multi-head latent attention in absorbed form (models.md 2.3). */
#include "worker/exec/state.h"

static void make_queries(phx_exec *exec, const phx_layer_weights *w);
static void make_entries(phx_exec *exec, int64_t layer);
static void absorb_queries(phx_exec *exec, const phx_layer_weights *w);
static void attend(phx_exec *exec, int64_t layer, bool selected);
static phx_code project_out(phx_exec *exec, const phx_layer_weights *w, phx_error *err);
static bool may_expand(const phx_exec *exec, bool selected);
static void attend_expanded(phx_exec *exec, int64_t layer);

phx_code phx_exec_attention(phx_exec *exec, int64_t layer, phx_error *err)
{
    const phx_layer_weights *w = &exec->parts.weights->layers[layer];
    phx_exec_norm(exec, w->attn_norm);
    make_queries(exec, w);
    make_entries(exec, layer);
    if (exec->dims->index_n_heads) {
        const phx_code rc = phx_exec_select(exec, layer, err);
        if (rc != PHX_OK)
            return rc;
    }
    if (may_expand(exec, exec->selecting)) {
        attend_expanded(exec, layer);
    } else {
        absorb_queries(exec, w);
        attend(exec, layer, exec->selecting);
    }
    return project_out(exec, w, err);
}

/* q = rotated heads, from the normalised query latent (or straight from the hidden state). */
static void make_queries(phx_exec *exec, const phx_layer_weights *w)
{
    const phx_ops *ops = exec->parts.ops;
    phx_pool *pool = exec->pool;
    const phx_dims *d = exec->dims;
    const int64_t head = d->d_nope + d->d_rope, n_heads = phx_range_n(exec->rank->heads);
    const phx_activation x = phx_exec_act(exec, exec->buf.norm_act, d->d_hidden);
    phx_product_args args = {
        .x = x, .w = &w->q, .n_groups = 1, .n_rows = exec->n_tokens, PHX_EXEC_ROUNDED(exec)};
    if (d->q_lora) {
        args.w = &w->q_a;
        args.n_out = args.out_stride = d->q_lora;
        args.out = exec->buf.q_a;
        ops->product(pool, &args);
        ops->rms_norm(pool, &(phx_rms_norm_args){
                                .x = exec->buf.q_a,
                                .x_stride = d->q_lora,
                                .weight = w->q_a_norm,
                                .eps = exec->latent_eps,
                                .n_rows = exec->n_tokens,
                                .n_cols = d->q_lora,
                                .out_f32 = d->index_n_heads && exec->numerics.index_wide
                                               ? exec->buf.q_a
                                               : NULL, /* for the indexer */
                                .out_f32_stride = d->q_lora,
                                .out_act = phx_exec_act_out(exec, exec->buf.q_a_act, d->q_lora),
                            });
        args.x = phx_exec_act(exec, exec->buf.q_a_act, d->q_lora);
        args.w = &w->q_b;
    }
    args.n_out = args.out_stride = n_heads * head;
    args.out = exec->buf.q;
    args.out_act = phx_exec_act_out(exec, exec->buf.q_act, n_heads * head);
    ops->product(pool, &args);
    ops->rope(pool, &(phx_rope_args){
                        .x = exec->buf.q + d->d_nope,
                        .row_stride = n_heads * head,
                        .head_stride = head,
                        .n_rows = exec->n_tokens,
                        .n_heads = n_heads,
                        .d_rope = d->d_rope,
                        .interleaved = true,
                        .positions = exec->buf.positions,
                        .table = exec->rope,
                        .copy = exec->buf.q_latent + d->kv_lora, /* of absorbed queries */
                        .copy_row_stride = n_heads * (d->kv_lora + d->d_rope),
                        .copy_head_stride = d->kv_lora + d->d_rope,
                    });
}

/* The cache entry of each token: normalised latent, then the rotary key that all heads share, rotated. */
static void make_entries(phx_exec *exec, int64_t layer)
{
    const phx_ops *ops = exec->parts.ops;
    phx_pool *pool = exec->pool;
    const phx_dims *d = exec->dims;
    const phx_layer_weights *w = &exec->parts.weights->layers[layer];
    const int64_t width = d->kv_lora + d->d_rope;
    ops->product(pool, &(phx_product_args){
                           .x = phx_exec_act(exec, exec->buf.norm_act, d->d_hidden),
                           .w = &w->kv_a,
                           .n_groups = 1,
                           .n_out = width,
                           .n_rows = exec->n_tokens,
                           .out = exec->buf.latent,
                           .out_stride = width,
                           PHX_EXEC_ROUNDED(exec),
                       });
    ops->latent_write(pool, &(phx_latent_write_args){
                                .x = exec->buf.latent,
                                .x_stride = width,
                                .weight = w->kv_a_norm,
                                .eps = exec->latent_eps,
                                .n_rows = exec->n_tokens,
                                .d_latent = d->kv_lora,
                                .positions = exec->buf.positions,
                                .table = exec->rope,
                                .entries = exec->buf.entries,
                                .cache = phx_kv_pool_latent(exec->parts.kv, layer),
                            });
}

/* q_latent = [q_nope . W_UK | q_rope] per head; the rotation has written its part. */
static void absorb_queries(phx_exec *exec, const phx_layer_weights *w)
{
    const phx_ops *ops = exec->parts.ops;
    phx_pool *pool = exec->pool;
    const phx_dims *d = exec->dims;
    const int64_t head = d->d_nope + d->d_rope, n_heads = phx_range_n(exec->rank->heads);
    const int64_t width = d->kv_lora + d->d_rope;
    ops->product_t(pool, &(phx_product_t_args){
                             .x = phx_exec_act(exec, exec->buf.q_act, n_heads * head),
                             .x_group_stride = head,
                             .w = &w->kv_b,
                             .group_rows = d->d_nope + d->d_v,
                             .n_groups = n_heads,
                             .n_in = d->d_nope,
                             .n_rows = exec->n_tokens,
                             .out = exec->buf.q_latent,
                             .out_stride = n_heads * width,
                             .out_group_stride = width,
                         });
}

/* heads = W_UV . (softmax over the row's positions of the latent entries) */
static void attend(phx_exec *exec, int64_t layer, bool selected)
{
    const phx_ops *ops = exec->parts.ops;
    phx_pool *pool = exec->pool;
    const phx_dims *d = exec->dims;
    const int64_t n_heads = phx_range_n(exec->rank->heads);
    ops->attention(pool, &(phx_attention_args){
                             .q = exec->buf.q_latent,
                             .n_rows = exec->n_tokens,
                             .n_heads = n_heads,
                             .cache = phx_kv_pool_latent(exec->parts.kv, layer),
                             .d_latent = d->kv_lora,
                             .blocks = (const int32_t *const *)exec->buf.blocks,
                             .positions = selected ? exec->buf.selected : NULL,
                             .positions_stride = d->index_topk,
                             .n_positions = selected ? exec->buf.n_selected : exec->buf.n_keys,
                             .scale = exec->softmax_scale,
                             .out = phx_exec_act_out(exec, exec->buf.o_latent, n_heads * d->kv_lora),
                             .parts = exec->buf.attention_parts,
                             .n_parts = phx_exec_parts_floats(exec),
                         });
    ops->product(pool, &(phx_product_args){
                           .x = phx_exec_act(exec, exec->buf.o_latent, n_heads * d->kv_lora),
                           .x_group_stride = d->kv_lora,
                           .w = &exec->parts.weights->layers[layer].kv_b,
                           .first_row = d->d_nope,
                           .group_rows = d->d_nope + d->d_v,
                           .n_groups = n_heads,
                           .n_out = d->d_v,
                           .n_rows = exec->n_tokens,
                           .out = exec->buf.heads,
                           .out_stride = n_heads * d->d_v,
                           .out_group_stride = d->d_v,
                           .out_act = phx_exec_act_out(exec, exec->buf.heads_act, n_heads * d->d_v),
                       });
}

static phx_code project_out(phx_exec *exec, const phx_layer_weights *w, phx_error *err)
{
    const phx_dims *d = exec->dims;
    const int64_t width = phx_range_n(exec->rank->heads) * d->d_v;
    exec->parts.ops->leaf_sum(exec->pool, &(phx_leaf_sum_args){
                                              .n_tokens = exec->n_tokens,
                                              .n_out = d->d_hidden,
                                              .n_leaves = exec->n_leaves,
                                              .fixed = &w->o,
                                              .h_fixed = phx_exec_act(exec, exec->buf.heads_act, width),
                                              .fixed_bounds = w->o_bounds,
                                              .out = exec->buf.partial,
                                              .parts = exec->buf.attention_parts,
                                              .n_parts = phx_exec_parts_floats(exec),
                                              .rounded = exec->rounds,
                                              .out_rows = exec->parts.plan->request.n_step_tokens,
                                          });
    const int64_t n = exec->n_tokens * d->d_hidden;
    const phx_code rc = phx_exchange(exec->parts.comm, exec->buf.partial, (size_t)n, err);
    exec->unadded = rc == PHX_OK;
    return rc;
}

/* Expanded attention (models.md 2.2) is cheaper for dense prefill but another arithmetic: only with
 * deterministic off, for a step that is one prompt chunk whose whole context fits the buffer. */
static bool may_expand(const phx_exec *exec, bool selected)
{
    const int64_t last = exec->n_own - 1; /* what follows is padding */
    return !exec->numerics.deterministic && !selected && exec->plan->n_rows == 1 && exec->n_own >= 16 &&
           exec->host.n_keys[last] <= (int64_t)exec->parts.plan->request.n_step_tokens;
}

static void attend_expanded(phx_exec *exec, int64_t layer)
{
    const phx_ops *ops = exec->parts.ops;
    phx_pool *pool = exec->pool;
    const phx_dims *d = exec->dims;
    const phx_layer_weights *w = &exec->parts.weights->layers[layer];
    const phx_cache *cache = phx_kv_pool_latent(exec->parts.kv, layer);
    const int64_t n_heads = phx_range_n(exec->rank->heads), head_kv = d->d_nope + d->d_v;
    const int64_t n_keys = exec->host.n_keys[exec->n_own - 1];
    float *rotary = exec->buf.expanded_key + n_keys * d->kv_lora;
    phx_cache_read_args read = {.cache = cache,
                                .blocks = exec->host.blocks[0],
                                .n_positions = n_keys,
                                .n_cols = d->kv_lora,
                                .out = exec->buf.expanded_key};
    ops->cache_read(pool, &read);
    read.first_col = d->kv_lora;
    read.n_cols = d->d_rope;
    read.out = rotary;
    ops->cache_read(pool, &read);
    ops->round(pool, &(phx_round_args){/* o_latent is free here, and wider */
                                       .x = exec->buf.expanded_key,
                                       .x_stride = d->kv_lora,
                                       .n_rows = n_keys,
                                       .n_cols = d->kv_lora,
                                       .out = phx_exec_act_out(exec, exec->buf.o_latent, d->kv_lora)});
    ops->product(pool, &(phx_product_args){
                           .x = phx_exec_act(exec, exec->buf.o_latent, d->kv_lora),
                           .w = &w->kv_b,
                           .n_groups = 1,
                           .n_out = n_heads * head_kv,
                           .n_rows = n_keys,
                           .out = exec->buf.expanded,
                           .out_stride = n_heads * head_kv,
                       });
    ops->attention_expanded(pool,
                            &(phx_attention_expanded_args){
                                .q = exec->buf.q,
                                .kv = exec->buf.expanded,
                                .k_rope = rotary,
                                .n_keys = exec->buf.n_keys,
                                .n_rows = exec->n_tokens,
                                .n_heads = n_heads,
                                .d_nope = d->d_nope,
                                .d_rope = d->d_rope,
                                .d_v = d->d_v,
                                .scale = exec->softmax_scale,
                                .out = phx_exec_act_out(exec, exec->buf.heads_act, n_heads * d->d_v),
                                .rounded = !exec->numerics.deterministic && exec->numerics.act == PHX_BF16,
                                .n_keys_max = n_keys,
                                .parts = exec->buf.attention_parts,
                                .n_parts = phx_exec_parts_floats(exec),
                            });
}

phx_code phx_exec_attend_both(phx_exec *exec, float *heads, phx_error *err)
{
    const size_t n = (size_t)(exec->n_tokens * phx_range_n(exec->rank->heads) * exec->dims->d_v);
    make_queries(exec, &exec->parts.weights->layers[0]);
    make_entries(exec, 0);
    absorb_queries(exec, &exec->parts.weights->layers[0]);
    attend(exec, 0, false);
    const void *view = NULL;
    const phx_code rc = phx_exec_view(exec, exec->buf.heads, n * sizeof(float), &view, err);
    if (rc != PHX_OK)
        return rc;
    memcpy(heads, view, n * sizeof(float));
    attend_expanded(exec, 0);
    return rc;
}
