/* worker/exec/step.c - one forward pass of one batch through this rank's layers. */
#include "worker/exec/state.h"

#include <assert.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"

static phx_code run_layers(phx_exec *exec, phx_error *err);
static phx_code enter_stage(phx_exec *exec, phx_error *err);
static phx_code leave_stage(phx_exec *exec, phx_error *err);
static phx_code receive_samples(phx_exec *exec, phx_error *err);
static void prepare_rows(phx_exec *exec);
static phx_code make_rope(phx_exec *exec, phx_error *err);
static phx_code note_samples(phx_exec *exec, phx_error *err);

phx_code phx_exec_create(const phx_exec_parts *parts, phx_exec **ret_exec, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_exec *exec = phx_alloc(1, sizeof(*exec));
    if (!exec) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "executor");
        goto out;
    }
    const phx_plan *plan = parts->plan;
    const phx_plan_request *request = &plan->request;
    exec->parts = *parts;
    exec->pool = parts->backend->queue;
    exec->dims = phx_checkpoint_dims(plan->checkpoint);
    exec->rank = &plan->ranks[parts->rank];
    exec->numerics = request->numerics;
    exec->first_stage = exec->rank->stage == 0;
    exec->last_stage = exec->rank->stage == request->layout.pp - 1;
    exec->softmax_scale = (float)phx_dims_softmax_scale(exec->dims);
    exec->latent_eps = exec->numerics.latent_eps == PHX_LATENT_EPS_1E6 ? 1e-6f : (float)exec->dims->rms_eps;
    exec->act_bytes = phx_dtype_bytes(exec->numerics.act);
    exec->n_leaves = PHX_LEAVES / request->layout.tp;
    const phx_step_memory memory = {parts->backend->device, parts->backend->pinned};
    rc = phx_step_bufs_init(exec->dims, request, exec->rank, parts->weights->routed_width_max,
                            parts->weights->fixed_width_max, &memory, &exec->bufs, err);
    if (rc != PHX_OK)
        goto out;
    exec->buf = exec->bufs.device;
    exec->host = exec->bufs.host;
    exec->blocks_max = (plan->n_context + PHX_BLOCK_TOKENS - 1) / PHX_BLOCK_TOKENS;
    rc = make_rope(exec, err);
    if (rc != PHX_OK)
        goto out;
    const phx_slots_shape shape = {
        .n_slots = request->n_batch,
        .n_context = plan->n_context,
        .n_blocks = plan->n_blocks,
        .last_stage = exec->last_stage,
        .vocab = exec->rank->vocab,
    };
    rc = phx_slots_create(&shape, &exec->host, &exec->slots, err);
    if (rc != PHX_OK)
        goto out;
    exec->results = phx_alloc(shape.n_slots, sizeof(*exec->results));
    exec->sample_rows = phx_alloc(shape.n_slots, sizeof(*exec->sample_rows));
    exec->pending_slots = phx_alloc((size_t)shape.n_slots * (PHX_PP_MAX + 2), sizeof(*exec->pending_slots));
    if (!exec->results || !exec->sample_rows || !exec->pending_slots) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "results of %u slots", shape.n_slots);
        goto out;
    }
    *ret_exec = exec;
    exec = NULL;
out:
    phx_exec_destroy(exec);
    return rc;
}

/* The table is made by the host: in its place, or in memory of its own when that place is on a device. */
static phx_code make_rope(phx_exec *exec, phx_error *err)
{
    double freqs[PHX_TENSOR_NAME_MAX];
    const uint32_t n_context = exec->parts.plan->n_context;
    const size_t n_freqs = (size_t)exec->dims->d_rope / 2, n = n_context * n_freqs * 2;
    const phx_memory *device = exec->parts.backend->device;
    const phx_slot slot = PHX_SLOT(exec, rope, n);
    phx_code rc = phx_arena_create_in(device, &slot, 1, &exec->rope_arena, err);
    if (rc != PHX_OK)
        return rc;
    assert(n_freqs <= sizeof(freqs) / sizeof(freqs[0]));
    float *table = device ? phx_alloc(n, sizeof(*table)) : exec->rope;
    if (!table)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "rotary table of %u positions", n_context);
    phx_dims_rope_freqs(exec->dims, freqs);
    phx_rope_table(freqs, (int64_t)n_freqs, n_context, phx_dims_rope_scale(exec->dims), table);
    rc = phx_upload(exec->parts.backend, exec->rope, table, n * sizeof(*table), err);
    if (rc == PHX_OK)
        rc = phx_sync(exec->parts.backend, err);
    if (device)
        phx_free(table);
    return rc;
}

void phx_exec_destroy(phx_exec *exec)
{
    if (!exec)
        return;
    phx_slots_destroy(exec->slots);
    phx_step_bufs_done(&exec->bufs);
    phx_arena_destroy(exec->rope_arena);
    phx_exec_drop_view(exec);
    phx_free(exec->results);
    phx_free(exec->sample_rows);
    phx_free(exec->pending_slots);
    phx_free(exec);
}

uint64_t phx_exec_bytes(const phx_exec *exec)
{
    return phx_arena_size(exec->bufs.device_arena) + phx_arena_size(exec->rope_arena);
}

phx_code phx_exec_step(phx_exec *exec, const phx_step_plan *plan, phx_step_result *ret_result, phx_error *err)
{
    const uint64_t start_us = phx_clock_us();
    exec->plan = plan;
    exec->n_tokens = 0;
    for (uint32_t i = 0; i < plan->n_rows; i++)
        exec->n_tokens += plan->rows[i].n_tokens;
    phx_code rc = phx_exec_wait(exec, err); /* the last step may still read what is written here */
    if (rc == PHX_OK)
        rc = phx_slots_apply(exec->slots, plan, err);
    if (rc == PHX_OK)
        rc = receive_samples(exec, err);
    if (rc != PHX_OK)
        return rc;
    prepare_rows(exec);
    exec->selecting = phx_exec_must_select(exec);
    rc = phx_exec_upload_rows(exec, err);
    if (rc == PHX_OK)
        rc = enter_stage(exec, err);
    if (rc == PHX_OK)
        rc = run_layers(exec, err);
    if (rc == PHX_OK)
        rc = leave_stage(exec, err);
    if (rc != PHX_OK)
        return rc;
    uint32_t n_results = 0;
    for (uint32_t i = 0; i < plan->n_rows; i++)
        n_results += (plan->rows[i].flags & PHX_ROW_SAMPLE) != 0;
    phx_slots_finish(exec->slots, plan);
    *ret_result = (phx_step_result){
        .epoch = plan->epoch,
        .step = plan->step,
        .n_rows = exec->last_stage ? n_results : 0,
        .rows = exec->results,
        .compute_us = (uint32_t)(phx_clock_us() - start_us),
    };
    return PHX_OK;
}

phx_code phx_exec_wait(phx_exec *exec, phx_error *err)
{
    const phx_code rc = phx_comm_wait(exec->parts.comm, err);
    return rc == PHX_OK ? phx_sync(exec->parts.backend, err) : rc;
}

phx_code phx_exec_download(phx_exec *exec, void *to, const void *from, size_t n_bytes, phx_error *err)
{
    const phx_code rc = phx_fetch(exec->parts.backend, to, from, n_bytes, err);
    return rc == PHX_OK ? phx_exec_wait(exec, err) : rc;
}

static phx_code run_layers(phx_exec *exec, phx_error *err)
{
    phx_code rc = PHX_OK;
    for (int64_t l = 0; l < exec->parts.weights->n_layers && rc == PHX_OK; l++) {
        const phx_capture_view view = {PHX_CAPTURE_HIDDEN,
                                       "hidden",
                                       exec->rank->layers.first + l,
                                       PHX_F32,
                                       exec->buf.hidden,
                                       exec->dims->d_hidden,
                                       exec->dims->d_hidden};
        rc = phx_exec_attention(exec, l, err);
        if (rc == PHX_OK)
            rc = phx_exec_ffn(exec, l, err);
        if (rc == PHX_OK)
            rc = phx_exec_capture(exec, &view, err);
    }
    return rc;
}

int64_t phx_exec_row_start(const phx_exec *exec, uint32_t plan_row)
{
    int64_t start = 0;
    for (uint32_t i = 0; i < plan_row; i++)
        start += exec->plan->rows[i].n_tokens;
    return start;
}

void phx_exec_norm(phx_exec *exec, const float *weight)
{
    const int64_t width = exec->dims->d_hidden;
    exec->parts.ops->rms_norm(exec->pool, &(phx_rms_norm_args){
                                              .x = exec->buf.hidden,
                                              .x_stride = width,
                                              .weight = weight,
                                              .eps = (float)exec->dims->rms_eps,
                                              .n_rows = exec->n_tokens,
                                              .n_cols = width,
                                              .out_f32 = exec->buf.norm,
                                              .out_f32_stride = width,
                                              .out_act = phx_exec_act_out(exec, exec->buf.norm_act, width),
                                          });
}

/* The first stage learns what the last one sampled (DESIGN 3): before a row continues from its slot's result,
 * and at the latest pp + 1 steps later, when the coordinator has seen the result and the message is certain
 * to be waiting. */
static phx_code receive_samples(phx_exec *exec, phx_error *err)
{
    const uint32_t pp = exec->parts.plan->request.layout.pp;
    const uint32_t n_slots = exec->parts.plan->request.n_batch;
    if (!exec->first_stage || pp == 1)
        return PHX_OK;
    uint64_t needed = exec->plan->step > pp + 1 ? exec->plan->step - (pp + 1) : 0;
    for (uint32_t i = 0; i < exec->plan->n_rows; i++) {
        const phx_step_row *row = &exec->plan->rows[i];
        const uint64_t last = phx_slots_at(exec->slots, row->slot)->last_step;
        if ((row->flags & PHX_ROW_FROM_SLOT) && last > needed)
            needed = last;
    }
    while (exec->n_pending && exec->pending[0].step <= needed) {
        const phx_pending_step *oldest = &exec->pending[0];
        const size_t n_bytes = oldest->n_rows * sizeof(int32_t);
        phx_code rc = phx_stage_recv(exec->parts.comm, pp - 1, exec->buf.sampled, n_bytes, err);
        if (rc == PHX_OK)
            rc = phx_exec_download(exec, exec->host.sampled, exec->buf.sampled, n_bytes, err);
        if (rc != PHX_OK)
            return rc;
        for (uint32_t i = 0; i < oldest->n_rows; i++) {
            phx_slot_state *slot = phx_slots_at(exec->slots, exec->pending_slots[i]);
            if (slot->last_step == oldest->step)
                slot->last_token = exec->host.sampled[i];
        }
        exec->n_pending--;
        memmove(exec->pending, exec->pending + 1, exec->n_pending * sizeof(exec->pending[0]));
        memmove(exec->pending_slots, exec->pending_slots + n_slots,
                (size_t)exec->n_pending * n_slots * sizeof(*exec->pending_slots));
    }
    return PHX_OK;
}

static void prepare_rows(phx_exec *exec)
{
    int64_t t = 0;
    for (uint32_t i = 0; i < exec->plan->n_rows; i++) {
        const phx_step_row *row = &exec->plan->rows[i];
        const phx_slot_state *slot = phx_slots_at(exec->slots, row->slot);
        const uint32_t first = slot->n_tokens - row->n_tokens; /* lengths already include this step */
        const int32_t *blocks = exec->buf.block_tables + row->slot * exec->blocks_max; /* of the device */
        for (uint32_t j = 0; j < row->n_tokens; j++, t++) {
            const uint32_t position = first + j;
            const int32_t id = row->flags & PHX_ROW_FROM_SLOT
                                   ? slot->last_token
                                   : (int32_t)exec->plan->tokens[row->token_first + j];
            const int64_t block = slot->blocks[position / PHX_BLOCK_TOKENS];
            const bool mine = id >= exec->rank->vocab.first && id < exec->rank->vocab.end;
            exec->host.token_ids[t] = mine ? (int32_t)(id - exec->rank->vocab.first) : -1;
            exec->host.positions[t] = (int32_t)position;
            exec->host.n_keys[t] = (int32_t)position + 1;
            exec->host.blocks[t] = blocks;
            exec->host.entries[t] = block * PHX_BLOCK_TOKENS + position % PHX_BLOCK_TOKENS;
        }
        const uint32_t n_count = row->flags & PHX_ROW_FROM_SLOT ? 1 : row->n_tokens;
        const int32_t *ids = row->flags & PHX_ROW_FROM_SLOT
                                 ? &slot->last_token
                                 : (const int32_t *)(const void *)(exec->plan->tokens + row->token_first);
        phx_slots_count(exec->slots, row->slot, ids, n_count, first);
    }
}

typedef struct copied { /* a buffer that lies on both sides */
    void *to;
    const void *from;
    size_t n_bytes;
} copied;

phx_code phx_exec_upload_rows(phx_exec *exec, phx_error *err)
{
    const phx_step_buf *to = &exec->buf, *from = &exec->host;
    const size_t n = (size_t)exec->n_tokens;
    phx_code rc = PHX_OK;
    from->fixed_first[0] = 0;
    from->fixed_first[1] = exec->n_tokens;
    const copied arrays[] = {
        {to->token_ids, from->token_ids, n * sizeof(*to->token_ids)},
        {to->positions, from->positions, n * sizeof(*to->positions)},
        {to->n_keys, from->n_keys, n * sizeof(*to->n_keys)},
        {to->entries, from->entries, n * sizeof(*to->entries)},
        {to->blocks, from->blocks, n * sizeof(*to->blocks)},
        {to->fixed_first, from->fixed_first, 2 * sizeof(*to->fixed_first)},
    };
    for (size_t i = 0; i < sizeof(arrays) / sizeof(arrays[0]) && rc == PHX_OK; i++)
        rc = phx_upload(exec->parts.backend, arrays[i].to, arrays[i].from, arrays[i].n_bytes, err);
    for (uint32_t i = 0; i < exec->plan->n_rows && rc == PHX_OK; i++) {
        const phx_step_row *row = &exec->plan->rows[i];
        const phx_slot_state *slot = phx_slots_at(exec->slots, row->slot);
        if (row->n_blocks) /* the table has changed */
            rc = phx_upload(exec->parts.backend, to->block_tables + row->slot * exec->blocks_max,
                            slot->blocks, slot->n_blocks * sizeof(*slot->blocks), err);
    }
    return rc;
}

typedef struct passed { /* what goes from a stage to the next */
    void *data;
    size_t n_bytes;
} passed;

/* The residual stream and, where `stage` begins inside a run of layers that share a selection, that
 * selection. Returns how many messages. */
static size_t passed_to(const phx_exec *exec, uint32_t stage, passed *messages)
{
    const size_t n = (size_t)exec->n_tokens;
    const phx_dims *d = exec->dims;
    messages[0] = (passed){exec->buf.hidden, n * (size_t)d->d_hidden * sizeof(float)};
    if (!exec->selecting || !phx_stage_shares_index(&exec->parts.plan->request.layout, d, stage))
        return 1;
    messages[1] = (passed){exec->buf.selected, n * (size_t)d->index_topk * sizeof(int32_t)};
    messages[2] = (passed){exec->buf.n_selected, n * sizeof(int32_t)};
    return 3;
}

static phx_code receive_rows(phx_exec *exec, phx_error *err)
{
    passed messages[3];
    const size_t n = passed_to(exec, exec->rank->stage, messages);
    phx_code rc = PHX_OK;
    for (size_t i = 0; i < n && rc == PHX_OK; i++)
        rc = phx_stage_recv(exec->parts.comm, exec->rank->stage - 1, messages[i].data, messages[i].n_bytes,
                            err);
    return rc;
}

static phx_code send_rows(phx_exec *exec, phx_error *err)
{
    passed messages[3];
    const size_t n = passed_to(exec, exec->rank->stage + 1, messages);
    phx_code rc = PHX_OK;
    for (size_t i = 0; i < n && rc == PHX_OK; i++)
        rc = phx_stage_send(exec->parts.comm, exec->rank->stage + 1, messages[i].data, messages[i].n_bytes,
                            err);
    return rc;
}

static phx_code enter_stage(phx_exec *exec, phx_error *err)
{
    const size_t n = (size_t)(exec->n_tokens * exec->dims->d_hidden);
    if (!exec->first_stage)
        return receive_rows(exec, err);
    exec->parts.ops->embed(exec->pool, &(phx_embed_args){.table = &exec->parts.weights->embed,
                                                         .ids = exec->buf.token_ids,
                                                         .n_rows = exec->n_tokens,
                                                         .out = exec->buf.hidden});
    /* One rank holds a token's row, the others bring -0, so the sum is a copy of the owner's bits. */
    const phx_code rc = phx_exchange(exec->parts.comm, exec->buf.hidden, n, err);
    if (rc != PHX_OK)
        return rc;
    const phx_capture_view view = {PHX_CAPTURE_HIDDEN,   "hidden.embed",      -1, PHX_F32, exec->buf.hidden,
                                   exec->dims->d_hidden, exec->dims->d_hidden};
    return phx_exec_capture(exec, &view, err);
}

static phx_code leave_stage(phx_exec *exec, phx_error *err)
{
    const phx_code rc = exec->last_stage ? phx_exec_logits(exec, err) : send_rows(exec, err);
    return rc == PHX_OK ? note_samples(exec, err) : rc;
}

/* Every rank notes which slots this step sampled for; the last stage knows the tokens and sends them to the
 * first. */
static phx_code note_samples(phx_exec *exec, phx_error *err)
{
    const uint32_t pp = exec->parts.plan->request.layout.pp;
    uint32_t *slots = exec->pending_slots + (size_t)exec->n_pending * exec->parts.plan->request.n_batch;
    uint32_t n = 0;
    for (uint32_t i = 0; i < exec->plan->n_rows; i++) {
        if (!(exec->plan->rows[i].flags & PHX_ROW_SAMPLE))
            continue;
        phx_slot_state *slot = phx_slots_at(exec->slots, exec->plan->rows[i].slot);
        slot->last_step = exec->plan->step;
        slot->last_token = exec->last_stage ? (int32_t)exec->results[n].token : -1;
        exec->host.sampled[n] = slot->last_token;
        slots[n++] = exec->plan->rows[i].slot;
    }
    if (pp == 1 || n == 0)
        return PHX_OK;
    if (exec->last_stage) {
        const size_t n_bytes = n * sizeof(int32_t);
        const phx_code rc =
            phx_upload(exec->parts.backend, exec->buf.sampled, exec->host.sampled, n_bytes, err);
        return rc == PHX_OK ? phx_stage_send(exec->parts.comm, 0, exec->buf.sampled, n_bytes, err) : rc;
    }
    if (exec->first_stage) {
        assert(exec->n_pending < PHX_PP_MAX + 2);
        exec->pending[exec->n_pending++] = (phx_pending_step){exec->plan->step, n};
    }
    return PHX_OK;
}
