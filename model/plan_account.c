/* model/plan_account.c - the bytes of one rank, line by line. */
#include "model/plan_impl.h"

#include "model/step_buf.h"

/* Widest local down projections: routed experts, and dense or shared. */
static void widths_of(const phx_rank_plan *rank, int64_t *ret_routed, int64_t *ret_fixed)
{
    *ret_routed = 0;
    *ret_fixed = 0;
    for (size_t i = 0; i < rank->n_slices; i++) {
        const phx_role role = rank->slices[i].tensor->id.rule->role;
        const int64_t n = phx_range_n(rank->slices[i].cols);
        if (role == PHX_ROLE_EXPERT_DOWN && n > *ret_routed)
            *ret_routed = n;
        if ((role == PHX_ROLE_DOWN || role == PHX_ROLE_SHARED_DOWN) && n > *ret_fixed)
            *ret_fixed = n;
    }
}

static uint64_t round_up(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}

/* The section of one rank in the shared segment: words, two exchange slots, a mailbox two messages deep,
 * a note for each step in flight (worker/comm/segment.h); nothing for a group of one. */
static uint64_t collective_bytes(const phx_layout *layout, phx_step_bytes step)
{
    const uint64_t slots = layout->tp > 1 ? 2 * round_up(step.exchange, 64) : 0;
    const uint64_t mail = layout->pp > 1 ? 2 * round_up(step.stage + 64, 64) : 0;
    const uint64_t notes = layout->pp > 1 ? (layout->pp + 1) * round_up(step.note + 64, 64) : 0;
    if (layout->tp == 1 && layout->pp == 1)
        return 0;
    return round_up(PHX_PLAN_COMM_WORDS_BYTES + slots + mail + notes, 4096);
}

/* The same where there is a device: of its memory (worker/comm/comm_nccl.c, with the room that a rank offers
 * to its peers; what NCCL takes itself comes out
 * of the device's reserve) ... */
static uint64_t device_collective_bytes(const phx_layout *layout, uint32_t stage, phx_step_bytes step)
{
    const uint64_t one_shot =
        step.exchange < PHX_PLAN_ONE_SHOT_BYTES ? step.exchange : PHX_PLAN_ONE_SHOT_BYTES;
    const uint64_t shares = step.exchange + PHX_PLAN_SHARE_PADDING_BYTES;
    uint64_t bytes = (stage + 1 < layout->pp ? 2 * (step.stage + 1) : 0) + (stage > 0);
    const uint64_t slot =
        round_up(step.exchange < PHX_PLAN_PEER_BYTES ? step.exchange : PHX_PLAN_PEER_BYTES, 16);
    if (layout->tp > 1)
        bytes += (layout->tp * one_shot > shares ? layout->tp * one_shot : shares) +
                 round_up(PHX_PLAN_ROOM_HEAD_BYTES + 2 * slot, PHX_PLAN_ROOM_UNIT_BYTES);
    return bytes;
}

/* ... and of the host, for the group that meets. */
static uint64_t meeting_bytes(const phx_layout *layout, uint64_t note_bytes)
{
    return collective_bytes(layout, (phx_step_bytes){.exchange = PHX_PLAN_MEETING_EXCHANGE_BYTES,
                                                     .stage = PHX_PLAN_MEETING_STAGE_BYTES,
                                                     .note = note_bytes});
}

/* Sent and received per step row: two exchanges of the hidden state in every layer, one more for the
 * embedding on the stages that embed. comm.h: an exchange of n values moves 2 * 4 * n * (tp - 1) / tp bytes.
 */
static uint64_t exchange_bytes(const phx_plan *plan, const phx_rank_plan *rank)
{
    const phx_layout *layout = &plan->request.layout;
    const phx_dims *dims = phx_checkpoint_dims(plan->checkpoint);
    const bool is_last = rank->stage == layout->pp - 1;
    uint64_t n_exchanges = 2 * (uint64_t)phx_range_n(rank->layers) + (rank->stage == 0);
    if (is_last && plan->request.n_drafts)
        n_exchanges += (uint64_t)dims->n_layers_mtp;
    return n_exchanges * (2 * 4 * (uint64_t)dims->d_hidden * (layout->tp - 1) / layout->tp);
}

/* One for each slot and each block, where drafts are made. */
static uint64_t kept_states(const phx_plan_request *request, const phx_rank_plan *rank, uint64_t n_blocks)
{
    const bool drafts = request->n_drafts && rank->stage == request->layout.pp - 1;
    return drafts ? request->n_batch + n_blocks : 0;
}

uint64_t phx_plan_kept_states(const phx_plan *plan, uint32_t rank)
{
    return kept_states(&plan->request, &plan->ranks[rank], plan->n_blocks);
}

/* As kernels/cache.h lays an entry out: codes, a scale for 128 of them, the rotary key in bf16, each part and
 * the whole a multiple of 16 bytes. */
static uint64_t latent_entry_bytes(const phx_dims *dims, phx_dtype cache)
{
    const uint64_t n_latent = (uint64_t)dims->kv_lora, n_rotary = (uint64_t)dims->d_rope;
    if (cache != PHX_F8_E4M3)
        return (n_latent + n_rotary) * phx_dtype_bytes(cache);
    return round_up(n_latent, 16) + round_up((n_latent + 127) / 128 * sizeof(float), 16) +
           round_up(n_rotary * 2, 16);
}

void phx_plan_account(const phx_plan *plan, uint32_t n_context, uint64_t n_blocks, phx_rank_plan *rank)
{
    const phx_dims *dims = phx_checkpoint_dims(plan->checkpoint);
    const phx_layout *layout = &plan->request.layout;
    phx_plan_request request = plan->request;
    request.n_context = n_context;
    int64_t routed;
    int64_t fixed;
    widths_of(rank, &routed, &fixed);
    const phx_step_bytes step = phx_step_buf_bytes(dims, &request, rank, routed, fixed);
    const uint64_t entries = n_blocks * PHX_BLOCK_TOKENS * (uint64_t)phx_range_n(rank->layers);
    const phx_dtype cache = request.numerics.cache;
    rank->weights_bytes = 0;
    for (size_t i = 0; i < rank->n_slices; i++)
        rank->weights_bytes += rank->slices[i].data_bytes + rank->slices[i].scale_bytes;
    rank->cache_latent_bytes = entries * latent_entry_bytes(dims, cache);
    rank->cache_index_bytes = 0;
    for (int64_t l = rank->layers.first; l < rank->layers.end; l++) {
        if (phx_layer_has_indexer(dims, l))
            rank->cache_index_bytes += n_blocks * PHX_BLOCK_TOKENS * (uint64_t)dims->index_d *
                                       phx_dtype_bytes(phx_numerics_index_keys(&request.numerics));
    }
    rank->cache_hidden_bytes =
        kept_states(&request, rank, n_blocks) * (uint64_t)dims->d_hidden * sizeof(float);
    rank->activations_bytes = step.activations;
    rank->logits_bytes = step.logits;
    rank->rope_bytes = round_up((uint64_t)n_context * (uint64_t)dims->d_rope * sizeof(float), 64);
    const uint64_t scratch = (uint64_t)request.n_threads * PHX_PLAN_SCRATCH_BYTES;
    const bool on_device = phx_numerics_on_device(&request.numerics);
    rank->workspace_bytes = on_device ? 0 : scratch;
    rank->collectives_bytes =
        on_device ? device_collective_bytes(layout, rank->stage, step) : collective_bytes(layout, step);
    rank->host_bytes = on_device ? step.host + scratch + meeting_bytes(layout, step.note) : 0;
    rank->total_bytes = 0;
#define X(field, text) rank->total_bytes += rank->field##_bytes;
    PHX_ACCOUNT(X)
#undef X
    rank->exchange_bytes_per_token = exchange_bytes(plan, rank);
    rank->stage_bytes_per_token = rank->stage + 1 < layout->pp ? (uint64_t)dims->d_hidden * sizeof(float) : 0;
    if (rank->stage + 1 < layout->pp && phx_stage_shares_index(layout, dims, rank->stage + 1))
        rank->stage_bytes_per_token += ((uint64_t)dims->index_topk + 1) * sizeof(int32_t);
}
