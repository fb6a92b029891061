/* worker/exec/indexer.c - the DSA lightning indexer: index keys of new tokens, scores, chosen positions
 * (models.md 2.5). */
#include "worker/exec/state.h"

#include <math.h>

#define PHX_INDEX_NORM_EPS 1e-6f /* independent of rms_norm_eps in every family (models.md 2.5) */

static void write_keys(phx_exec *exec, const phx_layer_weights *w, int64_t layer);
static void make_queries(phx_exec *exec, const phx_layer_weights *w);
static phx_code choose(phx_exec *exec, int64_t layer, phx_error *err);

/* When no row has more than index_topk keys the selection is all of them, so scoring is skipped. */
bool phx_exec_must_select(const phx_exec *exec)
{
    const uint32_t asked = PHX_CAPTURE_INDEX_SCORES | PHX_CAPTURE_TOPK;
    const bool must = (exec->plan->capture & asked) != 0 || exec->n_keys_max > exec->dims->index_topk;
    return must && exec->dims->index_n_heads > 0;
}

phx_code phx_exec_select(phx_exec *exec, int64_t layer, phx_error *err)
{
    const phx_layer_weights *w = &exec->parts.weights->layers[layer];
    const phx_dims *d = exec->dims;
    const int64_t global = exec->rank->layers.first + layer;
    phx_code rc = PHX_OK;
    if (phx_layer_has_indexer(d, global)) {
        write_keys(exec, w, layer);
        if (exec->selecting) {
            make_queries(exec, w);
            rc = choose(exec, layer, err);
        }
    }
    if (rc != PHX_OK || !exec->selecting)
        return rc;
    const phx_capture_view view = {PHX_CAPTURE_TOPK,   "topk",        global,       PHX_I32,
                                   exec->buf.selected, d->index_topk, d->index_topk};
    return phx_exec_capture(exec, &view, err);
}

static void rotate_and_round(phx_exec *exec, float *x, int64_t n_heads)
{
    const phx_dims *d = exec->dims;
    exec->parts.ops->rope(exec->pool,
                          &(phx_rope_args){
                              .x = x, /* rotary channels come first here, unlike in the main heads */
                              .row_stride = n_heads * d->index_d,
                              .head_stride = d->index_d,
                              .n_rows = exec->n_tokens,
                              .n_heads = n_heads,
                              .d_rope = d->d_rope,
                              .interleaved = d->index_rope_interleaved,
                              .positions = exec->buf.positions,
                              .table = exec->rope,
                          });
    if (exec->numerics.index_hadamard || exec->numerics.index_fp8)
        exec->parts.ops->index_round(exec->pool, &(phx_index_round_args){
                                                     .x = x,
                                                     .n_vectors = exec->n_tokens * n_heads,
                                                     .d = d->index_d,
                                                     .hadamard = exec->numerics.index_hadamard,
                                                     .fp8 = exec->numerics.index_fp8,
                                                 });
}

/* A rounded input moves scores by more than what lies between two keys: a selection turns. */
static phx_activation input_of(const phx_exec *exec, const float *exact, const void *rounded, int64_t width)
{
    const phx_activation wide = {exact, width, PHX_F32};
    return exec->numerics.index_wide ? wide : phx_exec_act(exec, rounded, width);
}

static void write_keys(phx_exec *exec, const phx_layer_weights *w, int64_t layer)
{
    const phx_dims *d = exec->dims;
    exec->parts.ops->product(exec->pool,
                             &(phx_product_args){
                                 .x = input_of(exec, exec->buf.norm, exec->buf.norm_act, d->d_hidden),
                                 .w = &w->index_k,
                                 .n_groups = 1,
                                 .n_out = d->index_d,
                                 .n_rows = exec->n_tokens,
                                 .out = exec->buf.index_k,
                                 .out_stride = d->index_d,
                             });
    exec->parts.ops->layer_norm(exec->pool, &(phx_layer_norm_args){
                                                .x = exec->buf.index_k,
                                                .weight = w->index_k_norm,
                                                .bias = w->index_k_norm_bias,
                                                .eps = PHX_INDEX_NORM_EPS,
                                                .n_rows = exec->n_tokens,
                                                .n_cols = d->index_d,
                                            });
    rotate_and_round(exec, exec->buf.index_k, 1);
    exec->parts.ops->cache_write(exec->pool, &(phx_cache_write_args){
                                                 .x = exec->buf.index_k,
                                                 .x_stride = d->index_d,
                                                 .n_rows = exec->n_tokens,
                                                 .entries = exec->buf.entries,
                                                 .cache = phx_kv_pool_index(exec->parts.kv, layer),
                                             });
}

static void make_queries(phx_exec *exec, const phx_layer_weights *w)
{
    const phx_dims *d = exec->dims;
    exec->parts.ops->product(exec->pool, &(phx_product_args){
                                             .x = input_of(exec, exec->buf.q_a, exec->buf.q_a_act, d->q_lora),
                                             .w = &w->index_q_b,
                                             .n_groups = 1,
                                             .n_out = d->index_n_heads * d->index_d,
                                             .n_rows = exec->n_tokens,
                                             .out = exec->buf.index_q,
                                             .out_stride = d->index_n_heads * d->index_d,
                                         });
    rotate_and_round(exec, exec->buf.index_q, d->index_n_heads);
    exec->parts.ops->product(exec->pool, &(phx_product_args){
                                             .x = {exec->buf.norm, d->d_hidden, PHX_F32},
                                             .w = &w->index_weights,
                                             .n_groups = 1,
                                             .n_out = d->index_n_heads,
                                             .n_rows = exec->n_tokens,
                                             .out = exec->buf.index_w,
                                             .out_stride = d->index_n_heads,
                                         });
}

static phx_code capture_scores(phx_exec *exec, int64_t layer, int64_t first, int64_t n, phx_error *err)
{
    const int64_t stride = exec->parts.plan->n_context;
    for (int64_t t = first; t < first + n; t++) {
        const phx_capture_view view = {PHX_CAPTURE_INDEX_SCORES,
                                       "index_scores",
                                       exec->rank->layers.first + layer,
                                       PHX_F32,
                                       exec->buf.index_scores + (t - first) * stride,
                                       stride,
                                       exec->host.n_keys[t]};
        const phx_code rc = phx_exec_capture_row(exec, &view, t, err);
        if (rc != PHX_OK)
            return rc;
    }
    return PHX_OK;
}

/* Scores are held for PHX_SCORE_ROWS query rows at a time. */
static phx_code choose(phx_exec *exec, int64_t layer, phx_error *err)
{
    const phx_dims *d = exec->dims;
    const int64_t stride = exec->parts.plan->n_context;
    const float w_scale = (float)(1.0 / sqrt((double)d->index_n_heads * (double)d->index_d));
    for (int64_t t = 0; t < exec->n_tokens; t += PHX_SCORE_ROWS) {
        const int64_t n = exec->n_tokens - t < PHX_SCORE_ROWS ? exec->n_tokens - t : PHX_SCORE_ROWS;
        exec->parts.ops->index_scores(exec->pool,
                                      &(phx_index_scores_args){
                                          .q = exec->buf.index_q + t * d->index_n_heads * d->index_d,
                                          .w = exec->buf.index_w + t * d->index_n_heads,
                                          .w_scale = w_scale,
                                          .keys = phx_kv_pool_index(exec->parts.kv, layer),
                                          .blocks = (const int32_t *const *)exec->buf.blocks + t,
                                          .n_keys = exec->buf.n_keys + t,
                                          .n_keys_max = exec->n_keys_max,
                                          .n_rows = n,
                                          .n_heads = d->index_n_heads,
                                          .scores = exec->buf.index_scores,
                                          .scores_stride = stride,
                                      });
        exec->parts.ops->top_positions(exec->pool, &(phx_top_positions_args){
                                                       .scores = exec->buf.index_scores,
                                                       .scores_stride = stride,
                                                       .n_keys = exec->buf.n_keys + t,
                                                       .n_rows = n,
                                                       .n_keep = d->index_topk,
                                                       .positions = exec->buf.selected + t * d->index_topk,
                                                       .n_positions = exec->buf.n_selected + t,
                                                   });
        const phx_code rc = capture_scores(exec, layer, t, n, err);
        if (rc != PHX_OK)
            return rc;
    }
    return PHX_OK;
}
