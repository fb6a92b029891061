/* model/plan_slices.c - which rows and columns of which tensor each rank holds. */
#include "model/plan_impl.h"

#include <assert.h>

#include "base/alloc.h"

#define PAD 64u

static uint64_t padded(uint64_t n_bytes)
{
    return (n_bytes + PAD - 1) / PAD * PAD;
}

/* Does the rank's stage (and, for experts in ep mode, the rank) hold the tensor? */
static bool is_held(const phx_plan *plan, const phx_rank_plan *rank, const phx_ck_tensor *tensor)
{
    const phx_layout *layout = &plan->request.layout;
    const phx_tensor_id *id = &tensor->id;
    const bool is_last = rank->stage == layout->pp - 1;
    switch (id->rule->role) {
    case PHX_ROLE_MTP_EMBED: /* copies of embedding and head, which are held anyway */
    case PHX_ROLE_MTP_HEAD:
        return false;
    case PHX_ROLE_EMBED: /* MTP layers embed the drafted token on the last stage */
        return rank->stage == 0 || (is_last && plan->request.n_drafts);
    default:
        break;
    }
    if (id->rule->where == PHX_WHERE_FIRST)
        return rank->stage == 0;
    if (id->rule->where == PHX_WHERE_LAST)
        return is_last;
    if (id->layer < rank->layers.first || id->layer >= rank->layers.end)
        return false;
    return id->expert < 0 || (id->expert >= rank->experts.first && id->expert < rank->experts.end);
}

/* The down projection whose leaves cut a gate or up projection. */
static const phx_ck_tensor *down_of(const phx_plan *plan, const phx_ck_tensor *tensor)
{
    const phx_tensor_id *id = &tensor->id;
    phx_role role = PHX_ROLE_DOWN;
    if (id->expert >= 0)
        role = PHX_ROLE_EXPERT_DOWN;
    else if (id->rule->role == PHX_ROLE_SHARED_GATE || id->rule->role == PHX_ROLE_SHARED_UP)
        role = PHX_ROLE_SHARED_DOWN;
    const phx_ck_tensor *down = phx_checkpoint_find(plan->checkpoint, role, id->layer, id->expert);
    assert(down); /* the checkpoint is complete, and every family pairs gate, up and down */
    return down;
}

static phx_range times(phx_range range, int64_t n)
{
    return (phx_range){range.first * n, range.end * n};
}

static void cut_tensor(const phx_plan *plan, const phx_rank_plan *rank, const phx_ck_tensor *tensor,
                       phx_plan_slice *ret_slice)
{
    const phx_dims *dims = phx_checkpoint_dims(plan->checkpoint);
    const phx_layout *layout = &plan->request.layout;
    phx_range rows = {0, tensor->n_rows};
    phx_range cols = {0, tensor->n_cols};
    phx_split split = tensor->id.rule->split;
    if (tensor->id.expert >= 0 && layout->experts == PHX_EXPERTS_EP)
        split = PHX_SPLIT_NONE;
    switch (split) {
    case PHX_SPLIT_NONE:
        break;
    case PHX_SPLIT_ROWS_HEADS:
        rows = times(rank->heads, tensor->n_rows / dims->n_heads);
        break;
    case PHX_SPLIT_COLS_HEADS:
        cols = times(rank->heads, tensor->n_cols / dims->n_heads);
        break;
    case PHX_SPLIT_ROWS_FF:
        rows = phx_ff_range(tensor->n_rows, down_of(plan, tensor)->format, layout->tp, rank->tp_rank);
        break;
    case PHX_SPLIT_COLS_FF:
        cols = phx_ff_range(tensor->n_cols, tensor->format, layout->tp, rank->tp_rank);
        break;
    case PHX_SPLIT_ROWS_VOCAB:
        rows = rank->vocab;
        break;
    }
    *ret_slice = (phx_plan_slice){.tensor = tensor, .rows = rows, .cols = cols};
}

static void size_slice(phx_plan_slice *slice)
{
    const phx_ck_tensor *tensor = slice->tensor;
    const int64_t block = phx_format_block(tensor->format);
    const int64_t block_rows = phx_format_block_rows(tensor->format);
    const uint64_t n = (uint64_t)phx_range_n(slice->rows) * (uint64_t)phx_range_n(slice->cols);
    const uint64_t stored =
        (uint64_t)phx_range_n(slice->rows) * phx_format_row_bytes(tensor->format, phx_range_n(slice->cols));
    slice->data_bytes = padded(tensor->id.rule->keep_f32 ? n * sizeof(float) : stored);
    slice->file_bytes = stored;
    if (block == 0 || n == 0)
        return;
    const int64_t scale_rows =
        (slice->rows.end + block_rows - 1) / block_rows - slice->rows.first / block_rows;
    const int64_t scale_cols = (slice->cols.end + block - 1) / block - slice->cols.first / block;
    const uint64_t n_scales = (uint64_t)(scale_rows * scale_cols);
    slice->scale_bytes = padded(n_scales * phx_format_scale_bytes(tensor->format));
    slice->file_bytes += n_scales * phx_dtype_bytes(tensor->scales->dtype);
}

static phx_code make_slices(const phx_plan *plan, phx_rank_plan *rank, phx_error *err)
{
    const size_t n_tensors = phx_checkpoint_count(plan->checkpoint);
    size_t n = 0;
    for (size_t i = 0; i < n_tensors; i++) {
        const phx_ck_tensor *tensor = phx_checkpoint_at(plan->checkpoint, i);
        n += tensor->data && is_held(plan, rank, tensor);
    }
    rank->slices = phx_alloc(n, sizeof(*rank->slices));
    if (!rank->slices)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "%zu slices of rank %u", n, rank->rank);
    for (size_t i = 0; i < n_tensors; i++) {
        const phx_ck_tensor *tensor = phx_checkpoint_at(plan->checkpoint, i);
        if (!tensor->data || !is_held(plan, rank, tensor))
            continue;
        phx_plan_slice *slice = &rank->slices[rank->n_slices++];
        cut_tensor(plan, rank, tensor, slice);
        size_slice(slice);
    }
    return PHX_OK;
}

/* The leaves of a layer's experts are cut alike, so their down projections must be stored alike. */
static phx_code check_expert_formats(const phx_plan *plan, phx_error *err)
{
    const phx_dims *dims = phx_checkpoint_dims(plan->checkpoint);
    for (int64_t l = dims->n_layers_dense; l < dims->n_layers + dims->n_layers_mtp; l++) {
        const phx_ck_tensor *first =
            phx_checkpoint_find(plan->checkpoint, PHX_ROLE_EXPERT_DOWN, (int32_t)l, 0);
        for (int64_t e = 1; first && e < dims->n_experts; e++) {
            const phx_ck_tensor *other =
                phx_checkpoint_find(plan->checkpoint, PHX_ROLE_EXPERT_DOWN, (int32_t)l, (int32_t)e);
            if (other && other->format != first->format)
                return PHX_FAIL(err, PHX_ERR_UNSUPPORTED,
                                "experts 0 and %lld of layer %lld are stored as %s and %s", (long long)e,
                                (long long)l, phx_format_name(first->format), phx_format_name(other->format));
        }
    }
    return PHX_OK;
}

phx_code phx_plan_make_ranks(phx_plan *plan, phx_error *err)
{
    const phx_dims *dims = phx_checkpoint_dims(plan->checkpoint);
    const phx_layout *layout = &plan->request.layout;
    phx_code rc = check_expert_formats(plan, err);
    if (rc != PHX_OK)
        return rc;
    plan->n_ranks = phx_layout_n_ranks(layout);
    plan->ranks = phx_alloc(plan->n_ranks, sizeof(*plan->ranks));
    if (!plan->ranks)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "plans of %u ranks", plan->n_ranks);
    for (uint32_t r = 0; r < plan->n_ranks; r++) {
        phx_rank_plan *rank = &plan->ranks[r];
        rank->rank = r;
        rank->stage = phx_layout_stage(layout, r);
        rank->tp_rank = phx_layout_tp_rank(layout, r);
        rank->layers = (phx_range){layout->layer_first[rank->stage], layout->layer_first[rank->stage + 1]};
        if (plan->request.n_drafts && rank->stage == layout->pp - 1)
            rank->layers.end += dims->n_layers_mtp;
        rank->heads = phx_tp_range(dims->n_heads, layout->tp, rank->tp_rank);
        rank->vocab = phx_tp_range(dims->n_vocab, layout->tp, rank->tp_rank);
        rank->experts = (phx_range){0, dims->n_experts};
        if (layout->experts == PHX_EXPERTS_EP)
            rank->experts = phx_tp_range(dims->n_experts, layout->tp, rank->tp_rank);
        rc = make_slices(plan, rank, err);
        if (rc != PHX_OK)
            return rc;
    }
    return PHX_OK;
}

void phx_plan_free_ranks(phx_plan *plan)
{
    for (uint32_t r = 0; plan->ranks && r < plan->n_ranks; r++)
        phx_free(plan->ranks[r].slices);
    phx_free(plan->ranks);
    plan->ranks = NULL;
}
