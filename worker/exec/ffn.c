/* worker/exec/ffn.c - one layer's dense MLP or mixture of experts with its shared expert (models.md 2.7). */
#include "worker/exec/state.h"

static phx_code route(phx_exec *exec, int64_t layer, phx_error *err);
static void list_experts(phx_exec *exec);
static void run_routed(phx_exec *exec, const phx_layer_weights *w);
static void run_fixed(phx_exec *exec, const phx_layer_weights *w);

phx_code phx_exec_ffn(phx_exec *exec, int64_t layer, phx_error *err)
{
    const phx_layer_weights *w = &exec->parts.weights->layers[layer];
    const phx_dims *d = exec->dims;
    const bool moe = w->moe;
    const bool fixed = w->down.data != NULL;
    phx_exec_norm(exec, w->ffn_norm);
    phx_leaf_sum_args sum = {
        .n_tokens = exec->n_tokens,
        .n_out = d->d_hidden,
        .n_leaves = exec->n_leaves,
        .out = exec->buf.partial,
        .parts = exec->buf.attention_parts, /* free between two layers' attention */
        .n_parts = phx_exec_parts_floats(exec),
        .rounded = exec->rounds && !moe,
        .out_rows = exec->parts.plan->request.n_step_tokens,
    };
    if (moe) {
        const phx_code rc = route(exec, layer, err);
        if (rc != PHX_OK)
            return rc;
        list_experts(exec);
        run_routed(exec, w);
        const bool ep = exec->parts.weights->expert_leaf != NULL;
        sum.routed = (phx_expert_rows){d->n_experts, exec->buf.expert_first, exec->buf.entry_token,
                                       exec->buf.entry_weight};
        sum.h_routed = phx_exec_act(exec, exec->buf.routed_act, w->routed_width);
        sum.down = w->expert_down;
        sum.routed_bounds = ep ? NULL : w->routed_bounds;
        sum.expert_leaf = exec->parts.weights->expert_leaf;
        sum.token_first = exec->buf.token_first;
        sum.token_entries = exec->buf.token_entries;
    }
    if (fixed) {
        run_fixed(exec, w);
        sum.fixed = &w->down;
        sum.h_fixed = phx_exec_act(exec, exec->buf.fixed_act, w->down.n_cols);
        sum.fixed_bounds = w->fixed_bounds;
    }
    exec->parts.ops->leaf_sum(exec->pool, &sum);
    const int64_t n = exec->n_tokens * d->d_hidden;
    const phx_code rc = phx_exchange(exec->parts.comm, exec->buf.partial, (size_t)n, err);
    exec->unadded = rc == PHX_OK;
    return rc;
}

/* Replicated on every rank: the same inputs and arithmetic choose the same experts everywhere. */
static phx_code route(phx_exec *exec, int64_t layer, phx_error *err)
{
    const phx_layer_weights *w = &exec->parts.weights->layers[layer];
    const phx_dims *d = exec->dims;
    exec->parts.ops->product(exec->pool, &(phx_product_args){
                                             .x = {exec->buf.norm, d->d_hidden, PHX_F32},
                                             .w = &w->router,
                                             .n_groups = 1,
                                             .n_out = d->n_experts,
                                             .n_rows = exec->n_tokens,
                                             .out = exec->buf.router,
                                             .out_stride = d->n_experts,
                                         });
    exec->parts.ops->route(exec->pool, &(phx_route_args){
                                           .logits = exec->buf.router,
                                           .bias = w->router_bias,
                                           .n_rows = exec->n_tokens,
                                           .n_experts = d->n_experts,
                                           .n_used = d->n_experts_used,
                                           .n_groups = d->n_expert_groups,
                                           .n_groups_used = d->n_expert_groups_used,
                                           .softmax = d->router_score == PHX_ROUTER_SOFTMAX,
                                           .norm = d->norm_topk,
                                           .scale = (float)d->routed_scale,
                                           .ids = exec->buf.expert_ids,
                                           .weights = exec->buf.expert_weights,
                                       });
    const int64_t global = exec->rank->layers.first + layer, k = d->n_experts_used;
    const phx_capture_view ids = {PHX_CAPTURE_EXPERTS,  "experts", global, PHX_I32,
                                  exec->buf.expert_ids, k,         k};
    const phx_capture_view weights = {
        PHX_CAPTURE_EXPERTS, "experts_weight", global, PHX_F32, exec->buf.expert_weights, k, k};
    const phx_code rc = phx_exec_capture(exec, &ids, err);
    return rc == PHX_OK ? phx_exec_capture(exec, &weights, err) : rc;
}

/* The pairs of this step whose expert this rank holds. */
static void list_experts(phx_exec *exec)
{
    const phx_range held = exec->rank->experts;
    exec->parts.ops->list_experts(exec->pool, &(phx_list_experts_args){
                                                  .ids = exec->buf.expert_ids,
                                                  .weights = exec->buf.expert_weights,
                                                  .n_tokens = exec->n_tokens,
                                                  .n_used = exec->dims->n_experts_used,
                                                  .n_experts = exec->dims->n_experts,
                                                  .held_first = held.first,
                                                  .held_end = held.end,
                                                  .n_listed = exec->buf.fixed_first + 1, /* no padding */
                                                  .first = exec->buf.expert_first,
                                                  .token = exec->buf.entry_token,
                                                  .weight = exec->buf.entry_weight,
                                                  .token_first = exec->buf.token_first,
                                                  .token_entries = exec->buf.token_entries,
                                              });
}

static void run_routed(phx_exec *exec, const phx_layer_weights *w)
{
    const int64_t width = w->routed_width;
    exec->parts.ops->ffn_in(
        exec->pool, &(phx_ffn_in_args){
                        .x = phx_exec_act(exec, exec->buf.norm_act, exec->dims->d_hidden),
                        .gate = w->expert_gate,
                        .up = w->expert_up,
                        .rows = {exec->dims->n_experts, exec->buf.expert_first, exec->buf.entry_token, NULL},
                        .n_tokens = exec->n_tokens,
                        .n_out = width,
                        .out = phx_exec_act_out(exec, exec->buf.routed_act, width),
                    });
}

/* The dense MLP, or the shared expert: one expert that takes every token. */
static void run_fixed(phx_exec *exec, const phx_layer_weights *w)
{
    exec->parts.ops->ffn_in(exec->pool,
                            &(phx_ffn_in_args){
                                .x = phx_exec_act(exec, exec->buf.norm_act, exec->dims->d_hidden),
                                .gate = w->fixed_gate,
                                .up = w->fixed_up,
                                .rows = {1, exec->buf.fixed_first, NULL, NULL},
                                .n_tokens = exec->n_tokens,
                                .n_out = w->down.n_cols,
                                .out = phx_exec_act_out(exec, exec->buf.fixed_act, w->down.n_cols),
                            });
}
