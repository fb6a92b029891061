/* model/step_buf.c - every buffer of a step as one table. */
#include "model/step_buf.h"

#include <assert.h>

enum { SLOTS_MAX = 64 };

typedef struct sizes {
    size_t n_tokens, n_slots, n_context, act_bytes;
    size_t n_heads, n_vocab, n_expanded, n_leaves;
    size_t routed_width, fixed_width;
    bool last;
} sizes;

static sizes sizes_of(const phx_dims *dims, const phx_plan_request *request, const phx_rank_plan *rank,
                      int64_t routed_width_rank, int64_t fixed_width_rank)
{
    const bool expanded = !request->numerics.deterministic;
    (void)dims;
    return (sizes){
        .n_tokens = request->n_step_tokens,
        .n_slots = request->n_batch,
        .n_context = (request->n_context + PHX_BLOCK_TOKENS - 1) / PHX_BLOCK_TOKENS * PHX_BLOCK_TOKENS,
        .act_bytes = phx_dtype_bytes(request->numerics.act),
        .n_heads = (size_t)phx_range_n(rank->heads),
        .n_vocab = (size_t)phx_range_n(rank->vocab),
        .n_expanded = expanded ? request->n_step_tokens : PHX_EXPANDED_ROWS,
        .n_leaves = PHX_LEAVES / request->layout.tp,
        .routed_width = (size_t)routed_width_rank,
        .fixed_width = (size_t)fixed_width_rank,
        .last = rank->stage == request->layout.pp - 1,
    };
}

/* Fills the table; the entries from *ret_first_logit on are the "logits and sampling" part. */
static size_t make_table(const phx_dims *d, const phx_plan_request *request, sizes s, phx_step_buf *buf,
                         phx_slot *table, size_t *ret_first_logit)
{
    const size_t n = s.n_tokens;
    const size_t hidden = (size_t)d->d_hidden, q_lora = (size_t)d->q_lora;
    const size_t entry = (size_t)(d->kv_lora + d->d_rope), head_q = (size_t)(d->d_nope + d->d_rope);
    const size_t index_heads = (size_t)d->index_n_heads, index_d = (size_t)d->index_d;
    const size_t n_entries = n * (size_t)d->n_experts_used;
    const size_t index_n = index_heads ? n : 0;
    const size_t moe_n = d->n_experts ? n : 0;
    const size_t rows = s.last ? PHX_LOGIT_ROWS : 0, last = s.last ? 1 : 0;
    const size_t offers = rows * s.n_leaves * PHX_OFFER_WORDS;
    const size_t vocab_share = ((size_t)d->n_vocab + PHX_LEAVES - 1) / PHX_LEAVES * s.n_leaves + s.n_leaves;
    const phx_slot activations[] = {
        PHX_SLOT(buf, token_ids, n),
        PHX_SLOT(buf, positions, n),
        PHX_SLOT(buf, entries, n),
        PHX_SLOT(buf, n_keys, n),
        PHX_SLOT(buf, blocks, n),
        PHX_SLOT(buf, hidden, n * hidden),
        PHX_SLOT(buf, partial, n * hidden),
        PHX_SLOT(buf, norm, n * hidden),
        PHX_SLOT(buf, norm_act, n * hidden * s.act_bytes),
        PHX_SLOT(buf, q_a, n * q_lora),
        PHX_SLOT(buf, q_a_act, n * q_lora * s.act_bytes),
        PHX_SLOT(buf, latent, n * entry),
        PHX_SLOT(buf, q, n * s.n_heads * head_q),
        PHX_SLOT(buf, q_act, n * s.n_heads * head_q * s.act_bytes),
        PHX_SLOT(buf, q_latent, n * s.n_heads * entry),
        PHX_SLOT(buf, o_latent, n * s.n_heads * (size_t)d->kv_lora * s.act_bytes),
        PHX_SLOT(buf, heads, n * s.n_heads * (size_t)d->d_v),
        PHX_SLOT(buf, heads_act, n * s.n_heads * (size_t)d->d_v * s.act_bytes),
        PHX_SLOT(buf, expanded, s.n_expanded * s.n_heads * (size_t)(d->d_nope + d->d_v)),
        PHX_SLOT(buf, expanded_key, s.n_expanded * entry),
        PHX_SLOT(buf, index_q, index_n * index_heads * index_d),
        PHX_SLOT(buf, index_k, index_n * index_d),
        PHX_SLOT(buf, index_w, index_n * index_heads),
        PHX_SLOT(buf, index_scores, index_heads ? PHX_SCORE_ROWS * s.n_context : 0),
        PHX_SLOT(buf, selected, index_n * (size_t)d->index_topk),
        PHX_SLOT(buf, n_selected, index_n),
        PHX_SLOT(buf, router, moe_n * (size_t)d->n_experts),
        PHX_SLOT(buf, expert_ids, n_entries),
        PHX_SLOT(buf, expert_weights, n_entries),
        PHX_SLOT(buf, expert_first, (size_t)d->n_experts + 1),
        PHX_SLOT(buf, entry_token, n_entries),
        PHX_SLOT(buf, entry_weight, n_entries),
        PHX_SLOT(buf, token_first, n + 1),
        PHX_SLOT(buf, token_entries, n_entries),
        PHX_SLOT(buf, routed_act, n_entries * s.routed_width * s.act_bytes),
        PHX_SLOT(buf, fixed_act, n * s.fixed_width * s.act_bytes),
        PHX_SLOT(buf, block_tables, s.n_slots * (s.n_context / PHX_BLOCK_TOKENS)),
    };
    const phx_slot logits[] = {
        PHX_SLOT(buf, logit_rows, rows),
        PHX_SLOT(buf, logit_x, rows * hidden * s.act_bytes),
        PHX_SLOT(buf, logits, rows * s.n_vocab),
        PHX_SLOT(buf, inv_temperature, rows),
        PHX_SLOT(buf, offers, offers),
        PHX_SLOT(buf, all_offers, offers * request->layout.tp),
        PHX_SLOT(buf, full_logits, last * vocab_share * (request->layout.tp + 1)),
        PHX_SLOT(buf, order, last * (size_t)d->n_vocab),
        PHX_SLOT(buf, sampled, s.n_slots),
        PHX_SLOT(buf, counts, last * s.n_slots * s.n_vocab),
        PHX_SLOT(buf, seen, last * s.n_slots * s.n_vocab),
    };
    const size_t n_activations = sizeof(activations) / sizeof(activations[0]);
    const size_t n_logits = sizeof(logits) / sizeof(logits[0]);
    static_assert(sizeof(activations) / sizeof(activations[0]) + sizeof(logits) / sizeof(logits[0]) <=
                      SLOTS_MAX,
                  "step buffer table");
    memcpy(table, activations, sizeof(activations));
    memcpy(table + n_activations, logits, sizeof(logits));
    *ret_first_logit = n_activations;
    return n_activations + n_logits;
}

phx_step_bytes phx_step_buf_bytes(const phx_dims *dims, const phx_plan_request *request,
                                  const phx_rank_plan *rank_plan, int64_t routed_width_rank,
                                  int64_t fixed_width_rank)
{
    phx_step_buf unused;
    phx_slot table[SLOTS_MAX];
    size_t first_logit;
    const sizes s = sizes_of(dims, request, rank_plan, routed_width_rank, fixed_width_rank);
    const size_t n = make_table(dims, request, s, &unused, table, &first_logit);
    const uint64_t row_bytes = (uint64_t)request->n_step_tokens * (uint64_t)dims->d_hidden * sizeof(float);
    return (phx_step_bytes){
        .activations = phx_arena_bytes(table, first_logit),
        .logits = phx_arena_bytes(table + first_logit, n - first_logit),
        .exchange = request->layout.tp > 1 ? row_bytes : 0,
        .stage = request->layout.pp > 1 ? row_bytes : 0,
    };
}

phx_code phx_step_buf_create(const phx_dims *dims, const phx_plan_request *request,
                             const phx_rank_plan *rank_plan, int64_t routed_width_rank,
                             int64_t fixed_width_rank, phx_step_buf *ret_buf, phx_arena **ret_arena,
                             phx_error *err)
{
    phx_slot table[SLOTS_MAX];
    size_t first_logit;
    const sizes s = sizes_of(dims, request, rank_plan, routed_width_rank, fixed_width_rank);
    const size_t n = make_table(dims, request, s, ret_buf, table, &first_logit);
    return phx_arena_create(table, n, ret_arena, err);
}
