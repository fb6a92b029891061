/* model/step_buf.c - every buffer of a step as one table. */
#include "model/step_buf.h"

#include <assert.h>

enum { SLOTS_MAX = 64 };
enum { ATTENTION_SPLIT = 256, ATTENTION_HEADS = 16 }; /* of a part: kernels/ops.h */

/* Where ops run on a device: which side has the buffer. */
typedef enum side { DEVICE = 1, HOST = 2, BOTH = 3 } side;

typedef struct sided_slot {
    phx_slot slot;
    side side;
} sided_slot;

#define ON(side_, field, count)                              \
    {                                                        \
        .slot = PHX_SLOT(buf, field, count), .side = (side_) \
    }

typedef struct sizes {
    size_t n_tokens, n_slots, n_context, act_bytes;
    size_t n_heads, n_vocab, n_expanded, n_leaves;
    size_t routed_width, fixed_width;
    size_t attention_floats;
    bool last;
} sizes;

static size_t divide_up(size_t n, size_t by)
{
    return (n + by - 1) / by;
}

/* Floats in which the largest product of a rank is rounded (model/dtype.h); 0 where none may be. */
static size_t rounded_floats(const phx_dims *d, const phx_plan_request *request, const phx_rank_plan *rank)
{
    const int64_t n_heads = phx_range_n(rank->heads), q_out = n_heads * (d->d_nope + d->d_rope);
    const int64_t shapes[][2] = {/* outputs, columns: worker/exec/products.c */
                                 {d->q_lora, d->d_hidden},
                                 {q_out, d->q_lora ? d->q_lora : d->d_hidden},
                                 {d->kv_lora + d->d_rope, d->d_hidden},
                                 {d->d_hidden, n_heads * d->d_v},
                                 {d->d_hidden, d->d_ff_dense / (int64_t)request->layout.tp}};
    int64_t most = 0;
    if (!phx_numerics_may_round(&request->numerics))
        return 0;
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        const phx_rounded_room room =
            phx_rounded_room_of((int64_t)request->n_step_tokens, shapes[i][0], shapes[i][1]);
        most = room.n_bytes > most ? room.n_bytes : most;
    }
    return ((size_t)most + sizeof(float) - 1) / sizeof(float);
}

/* Attention and products take turns. */
size_t phx_step_attention_floats(const phx_dims *dims, const phx_plan_request *request,
                                 const phx_rank_plan *rank_plan)
{
    if (!phx_numerics_on_device(&request->numerics))
        return 0;
    const size_t rows =
        request->n_step_tokens * divide_up((size_t)phx_range_n(rank_plan->heads), ATTENTION_HEADS);
    size_t n_positions = request->n_context;
    if (dims->index_n_heads && (size_t)dims->index_topk < n_positions)
        n_positions = (size_t)dims->index_topk;
    const size_t wanted = rows * divide_up(n_positions, ATTENTION_SPLIT);
    const size_t n = wanted < PHX_ATTENTION_PARTS_MAX ? wanted : PHX_ATTENTION_PARTS_MAX;
    const size_t attention = n * ATTENTION_HEADS * ((size_t)dims->kv_lora + 2) + 2 * rows;
    const size_t rounded = rounded_floats(dims, request, rank_plan);
    return rounded > attention ? rounded : attention;
}

static sizes sizes_of(const phx_dims *dims, const phx_plan_request *request, const phx_rank_plan *rank,
                      int64_t routed_width_rank, int64_t fixed_width_rank)
{
    const bool expanded = !request->numerics.deterministic;
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
        .attention_floats = phx_step_attention_floats(dims, request, rank),
        .last = rank->stage == request->layout.pp - 1,
    };
}

/* Of a slot whose token goes to the first stage: the token; with drafts to all stages, how many did not hold,
 * the token, and the next drafts. */
static size_t sent_words(const phx_plan_request *request)
{
    return request->n_drafts ? 2 + request->n_drafts : 1;
}

/* Fills the table; the entries from *ret_first_logit on are the "logits and sampling" part. */
static size_t make_table(const phx_dims *d, const phx_plan_request *request, sizes s, phx_step_buf *buf,
                         sided_slot *table, size_t *ret_first_logit)
{
    const size_t n = s.n_tokens;
    const size_t hidden = (size_t)d->d_hidden, q_lora = (size_t)d->q_lora;
    const size_t entry = (size_t)(d->kv_lora + d->d_rope), head_q = (size_t)(d->d_nope + d->d_rope);
    const size_t index_heads = (size_t)d->index_n_heads, index_d = (size_t)d->index_d;
    const size_t n_entries = n * (size_t)d->n_experts_used;
    const size_t index_n = index_heads ? n : 0;
    const size_t moe_n = d->n_experts ? n : 0;
    const size_t rows = s.last ? PHX_LOGIT_ROWS : 0, last = s.last ? 1 : 0;
    const size_t n_drafts = s.last && request->n_drafts ? n : 0; /* rows of a draft pass */
    const size_t n_sampled = request->layout.pp > 1 ? (PHX_PP_MAX + 2) * s.n_slots : 0;
    const size_t offers = rows * s.n_leaves * PHX_OFFER_WORDS;
    const size_t vocab_share = ((size_t)d->n_vocab + PHX_LEAVES - 1) / PHX_LEAVES * s.n_leaves + s.n_leaves;
    const sided_slot activations[] = {
        ON(BOTH, ids, n),
        ON(BOTH, id_slots, n),
        ON(n_drafts ? BOTH : DEVICE, tokens, n),
        ON(DEVICE, token_ids, n),
        ON(BOTH, positions, n),
        ON(BOTH, entries, n),
        ON(BOTH, n_keys, n),
        ON(BOTH, blocks, n),
        ON(DEVICE, hidden, n * hidden),
        ON(DEVICE, partial, n * hidden),
        ON(DEVICE, norm, n * hidden),
        ON(DEVICE, norm_act, n * hidden * s.act_bytes),
        ON(DEVICE, q_a, n * q_lora),
        ON(DEVICE, q_a_act, n * q_lora * s.act_bytes),
        ON(DEVICE, latent, n * entry),
        ON(DEVICE, q, n * s.n_heads * head_q),
        ON(DEVICE, q_act, n * s.n_heads * head_q * s.act_bytes),
        ON(DEVICE, q_latent, n * s.n_heads * entry),
        ON(DEVICE, attention_parts, s.attention_floats),
        ON(DEVICE, o_latent, n * s.n_heads * (size_t)d->kv_lora * s.act_bytes),
        ON(DEVICE, heads, n * s.n_heads * (size_t)d->d_v),
        ON(DEVICE, heads_act, n * s.n_heads * (size_t)d->d_v * s.act_bytes),
        ON(DEVICE, expanded, s.n_expanded * s.n_heads * (size_t)(d->d_nope + d->d_v)),
        ON(DEVICE, expanded_key, s.n_expanded * entry),
        ON(DEVICE, index_q, index_n * index_heads * index_d),
        ON(DEVICE, index_k, index_n * index_d),
        ON(DEVICE, index_w, index_n * index_heads),
        ON(DEVICE, index_scores, index_heads ? PHX_SCORE_ROWS * s.n_context : 0),
        ON(DEVICE, selected, index_n * (size_t)d->index_topk),
        ON(DEVICE, n_selected, index_n),
        ON(DEVICE, router, moe_n * (size_t)d->n_experts),
        ON(DEVICE, expert_ids, n_entries),
        ON(DEVICE, expert_weights, n_entries),
        ON(DEVICE, expert_first, (size_t)d->n_experts + 1),
        ON(DEVICE, entry_token, n_entries),
        ON(DEVICE, entry_weight, n_entries),
        ON(DEVICE, token_first, n + 1),
        ON(DEVICE, token_entries, n_entries),
        ON(DEVICE, routed_act, n_entries * s.routed_width * s.act_bytes),
        ON(BOTH, fixed_first, 2),
        ON(DEVICE, fixed_act, n * s.fixed_width * s.act_bytes),
        ON(BOTH, block_tables, s.n_slots * (s.n_context / PHX_BLOCK_TOKENS)),
        ON(n_drafts ? BOTH : DEVICE, last_tokens, s.n_slots * (1 + request->n_drafts)),
        ON(DEVICE, final_hidden, n_drafts * hidden),
        ON(DEVICE, draft_input, n_drafts * 2 * hidden * s.act_bytes),
        ON(BOTH, draft_from, n_drafts),
        ON(BOTH, sampled, n_sampled * sent_words(request)),
        ON(BOTH, sampled_slots, n_sampled),
    };
    const sided_slot logits[] = {
        ON(BOTH, logit_rows, rows),
        ON(DEVICE, logit_x, rows * hidden * s.act_bytes),
        ON(BOTH, counted, last * n),
        ON(DEVICE, logits, rows * s.n_vocab),
        ON(BOTH, inv_temperature, rows),
        ON(BOTH, noise, rows * PHX_NOISE_WORDS),
        ON(BOTH, sample_rows, rows * PHX_SAMPLE_ROW_WORDS),
        ON(DEVICE, offers, offers * request->layout.tp),
        ON(BOTH, choices, rows * PHX_CHOICE_WORDS),
        ON(BOTH, full_logits, last * vocab_share * (request->layout.tp + 1)),
        ON(HOST, order, last * (size_t)d->n_vocab),
        ON(DEVICE, counts, last * s.n_slots * s.n_vocab),
        ON(BOTH, bias_ids, last * s.n_slots * PHX_LOGIT_BIAS_MAX),
        ON(BOTH, bias, last * s.n_slots * PHX_LOGIT_BIAS_MAX),
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

/* The slots of one side; pointers to the fields of `from` become pointers to those of `to`. */
static size_t slots_of(const sided_slot *table, size_t n, side which, const phx_step_buf *from,
                       phx_step_buf *to, phx_slot *slots)
{
    size_t n_slots = 0;
    for (size_t i = 0; i < n; i++) {
        if (!(table[i].side & which))
            continue;
        const ptrdiff_t field = (const char *)table[i].slot.ret_ptr - (const char *)from;
        slots[n_slots] = table[i].slot;
        slots[n_slots++].ret_ptr = (void **)(void *)((char *)to + field);
    }
    return n_slots;
}

phx_step_bytes phx_step_buf_bytes(const phx_dims *dims, const phx_plan_request *request,
                                  const phx_rank_plan *rank_plan, int64_t routed_width_rank,
                                  int64_t fixed_width_rank)
{
    phx_step_buf unused;
    sided_slot table[SLOTS_MAX];
    phx_slot slots[SLOTS_MAX];
    size_t first_logit, n_slots;
    const sizes s = sizes_of(dims, request, rank_plan, routed_width_rank, fixed_width_rank);
    const bool on_device = phx_numerics_on_device(&request->numerics);
    const side main_side = on_device ? DEVICE : BOTH;
    const size_t n = make_table(dims, request, s, &unused, table, &first_logit);
    const uint64_t row_bytes = (uint64_t)request->n_step_tokens * (uint64_t)dims->d_hidden * sizeof(float);
    phx_step_bytes bytes = {
        .exchange = request->layout.tp > 1 ? row_bytes : 0,
        .stage = request->layout.pp > 1 ? row_bytes : 0,
        .note = request->layout.pp > 1 ? s.n_slots * sent_words(request) * sizeof(int32_t) : 0,
    };
    const uint64_t selection =
        (uint64_t)request->n_step_tokens * (uint64_t)dims->index_topk * sizeof(int32_t);
    for (uint32_t stage = 1; stage < request->layout.pp; stage++) {
        if (phx_stage_shares_index(&request->layout, dims, stage) && bytes.stage < selection)
            bytes.stage = selection; /* of every rank: the two ends of a message have one size */
    }
    n_slots = slots_of(table, first_logit, main_side, &unused, &unused, slots);
    bytes.activations = phx_arena_bytes(slots, n_slots);
    n_slots = slots_of(table + first_logit, n - first_logit, main_side, &unused, &unused, slots);
    bytes.logits = phx_arena_bytes(slots, n_slots);
    n_slots = slots_of(table, n, HOST, &unused, &unused, slots);
    bytes.host = on_device ? phx_arena_bytes(slots, n_slots) : 0;
    return bytes;
}

phx_code phx_step_bufs_init(const phx_dims *dims, const phx_plan_request *request,
                            const phx_rank_plan *rank_plan, int64_t routed_width_rank,
                            int64_t fixed_width_rank, const phx_step_memory *memory, phx_step_bufs *ret_bufs,
                            phx_error *err)
{
    sided_slot table[SLOTS_MAX];
    phx_slot slots[SLOTS_MAX];
    size_t first_logit;
    phx_step_bufs bufs = {0};
    const bool on_device = memory->device != NULL;
    const sizes s = sizes_of(dims, request, rank_plan, routed_width_rank, fixed_width_rank);
    const size_t n = make_table(dims, request, s, &bufs.device, table, &first_logit);
    size_t n_slots = slots_of(table, n, on_device ? DEVICE : BOTH, &bufs.device, &bufs.device, slots);
    phx_code rc = phx_arena_create_in(memory->device, slots, n_slots, &bufs.device_arena, err);
    bufs.host = bufs.device;
    if (rc == PHX_OK && on_device) {
        bufs.host = (phx_step_buf){0};
        n_slots = slots_of(table, n, HOST, &bufs.device, &bufs.host, slots);
        rc = phx_arena_create_in(memory->pinned, slots, n_slots, &bufs.host_arena, err);
    }
    if (rc == PHX_OK)
        *ret_bufs = bufs;
    else
        phx_step_bufs_done(&bufs);
    return rc;
}

void phx_step_bufs_done(phx_step_bufs *bufs)
{
    phx_arena_destroy(bufs->device_arena);
    phx_arena_destroy(bufs->host_arena);
    *bufs = (phx_step_bufs){0};
}
