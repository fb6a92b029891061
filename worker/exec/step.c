/* worker/exec/step.c - one forward pass of one batch through this rank's layers. */
#include "worker/exec/state.h"

#include <assert.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"

static phx_code enter_stage(phx_exec *exec, phx_error *err);
static phx_code leave_stage(phx_exec *exec, phx_error *err);
static phx_code make_rope(phx_exec *exec, phx_error *err);

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
    };
    rc = phx_slots_create(&shape, &exec->host, &exec->slots, err);
    if (rc != PHX_OK)
        goto out;
    exec->n_places = 1 + request->n_drafts;
    exec->results = phx_alloc((size_t)shape.n_slots * exec->n_places, sizeof(*exec->results));
    exec->sampling = phx_alloc((size_t)shape.n_slots * exec->n_places, sizeof(*exec->sampling));
    exec->n_taken = phx_alloc(shape.n_slots, sizeof(*exec->n_taken));
    if (!exec->results || !exec->sampling || !exec->n_taken) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "results of %u slots", shape.n_slots);
        goto out;
    }
    if (exec->last_stage && request->n_drafts)
        rc = phx_draft_create(plan, &exec->draft, err);
    if (rc != PHX_OK)
        goto out;
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
    phx_exec_drop_graphs(exec);
    phx_slots_destroy(exec->slots);
    phx_step_bufs_done(&exec->bufs);
    phx_arena_destroy(exec->rope_arena);
    phx_exec_drop_view(exec);
    phx_free(exec->results);
    phx_free(exec->sampling);
    phx_free(exec->n_taken);
    phx_draft_destroy(exec->draft);
    phx_free(exec);
}

uint64_t phx_exec_bytes(const phx_exec *exec)
{
    return phx_arena_size(exec->bufs.device_arena) + phx_arena_size(exec->rope_arena);
}

/* One token is chosen after the row's last, or, with drafts, after each: then the host says which hold. */
static void list_samples(phx_exec *exec, uint32_t plan_row)
{
    const phx_step_row *row = &exec->plan->rows[plan_row];
    const uint32_t n_tokens = phx_slots_at(exec->slots, row->slot)->n_tokens; /* with this step's */
    const int32_t end = (int32_t)phx_exec_row_start(exec, plan_row) + (int32_t)row->n_tokens;
    const uint32_t n_fed = phx_exec_n_fed(row);
    for (uint32_t i = 0; i <= n_fed; i++)
        exec->sampling[exec->n_sampling++] = (phx_sampled){
            .plan_row = plan_row,
            .row = end - 1 - (int32_t)(n_fed - i),
            .position = n_tokens - (n_fed - i),
            .place = n_fed ? -1 : phx_exec_place(exec, row->slot, 0),
        };
}

/* What the host must know of a step to queue it; everything else the device reads from the step's buffers. */
static void measure(phx_exec *exec, const phx_step_plan *plan)
{
    exec->plan = plan;
    exec->n_own = exec->n_keys_max = 0;
    exec->n_sampling = 0;
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        const int64_t n_keys = phx_slots_at(exec->slots, plan->rows[i].slot)->n_tokens;
        exec->n_own += plan->rows[i].n_tokens;
        exec->n_keys_max = n_keys > exec->n_keys_max ? n_keys : exec->n_keys_max;
        exec->n_taken[i] = plan->rows[i].n_tokens - phx_exec_n_fed(&plan->rows[i]);
        if (plan->rows[i].flags & PHX_ROW_SAMPLE)
            list_samples(exec, i);
    }
    exec->n_tokens = exec->n_own;
    exec->selecting = phx_exec_must_select(exec);
    exec->n_samples = exec->n_sampling < PHX_LOGIT_ROWS ? exec->n_sampling : PHX_LOGIT_ROWS;
}

/* The host writes what the rows are, queues the walk, and waits once, on the last stage, for its tokens. */
phx_code phx_exec_step(phx_exec *exec, const phx_step_plan *plan, phx_step_result *ret_result, phx_error *err)
{
    const uint64_t start_us = phx_clock_us();
    phx_code rc = phx_exec_wait(exec, err); /* the last step may still read what is written here */
    if (rc == PHX_OK)
        rc = phx_exec_receive_tokens(exec, plan, err); /* and with them the slots' lengths */
    if (rc == PHX_OK)
        rc = phx_slots_apply(exec->slots, plan, err);
    if (rc != PHX_OK)
        return rc;
    measure(exec, plan);
    phx_exec_choose_graph(exec);
    rc = phx_exec_open_slots(exec, err);
    if (rc == PHX_OK)
        rc = phx_exec_tell_rows(exec, err);
    if (rc == PHX_OK && exec->last_stage)
        rc = phx_exec_tell_samples(exec, exec->sampling, exec->n_sampling, err);
    if (rc == PHX_OK)
        rc = enter_stage(exec, err);
    if (rc == PHX_OK)
        rc = exec->graph ? phx_exec_replay(exec, err) : phx_exec_walk(exec, err);
    if (rc == PHX_OK)
        rc = leave_stage(exec, err);
    if (rc == PHX_OK && exec->draft)
        rc = phx_exec_draft(exec, err);
    if (rc == PHX_OK)
        rc = phx_exec_pass_tokens(exec, err);
    if (rc != PHX_OK)
        return rc;
    phx_slots_finish(exec->slots, plan);
    *ret_result = (phx_step_result){
        .epoch = plan->epoch,
        .step = plan->step,
        .n_rows = exec->last_stage ? exec->n_results : 0,
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
    const int64_t n_layers = exec->parts.weights->n_layers - exec->parts.weights->n_draft_layers;
    for (int64_t l = 0; l < n_layers && rc == PHX_OK; l++) {
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
        if (rc == PHX_OK && (exec->plan->capture & PHX_CAPTURE_HIDDEN)) {
            phx_exec_settle(exec);
            rc = phx_exec_capture(exec, &view, err);
        }
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

void phx_exec_settle(phx_exec *exec)
{
    const int64_t n = exec->n_tokens * exec->dims->d_hidden;
    if (exec->unadded)
        exec->parts.ops->add(exec->pool, &(phx_add_args){exec->buf.hidden, exec->buf.partial, n});
    exec->unadded = false;
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
                                              .add = exec->unadded ? exec->buf.partial : NULL,
                                              .sum = exec->buf.hidden,
                                          });
    exec->unadded = false;
}

static void feed_tokens(phx_exec *exec)
{
    exec->parts.ops->feed_tokens(exec->pool, &(phx_feed_tokens_args){
                                                 .ids = exec->buf.ids,
                                                 .slots = exec->buf.id_slots,
                                                 .last = exec->buf.last_tokens,
                                                 .n_rows = exec->n_tokens,
                                                 .first_id = exec->rank->vocab.first,
                                                 .end_id = exec->rank->vocab.end,
                                                 .tokens = exec->buf.tokens,
                                                 .local = exec->buf.token_ids,
                                             });
}

phx_code phx_exec_embed(phx_exec *exec, phx_error *err)
{
    feed_tokens(exec);
    exec->parts.ops->embed(exec->pool, &(phx_embed_args){.table = &exec->parts.weights->embed,
                                                         .ids = exec->buf.token_ids,
                                                         .n_rows = exec->n_tokens,
                                                         .out = exec->buf.hidden});
    /* One rank holds a token's row, the others bring -0, so the sum is a copy of the owner's bits. */
    return phx_exchange(exec->parts.comm, exec->buf.hidden, (size_t)(exec->n_tokens * exec->dims->d_hidden),
                        err);
}

/* The tokens of the step, and on the first stage their embeddings. */
static phx_code take_tokens(phx_exec *exec, phx_error *err)
{
    const int64_t width = exec->dims->d_hidden;
    phx_code rc = PHX_OK;
    if (exec->first_stage)
        rc = phx_exec_embed(exec, err);
    else if (exec->last_stage)
        feed_tokens(exec);
    if (exec->last_stage)
        phx_exec_count(exec, exec->n_tokens);
    if (!exec->first_stage)
        return PHX_OK;
    const phx_capture_view view = {PHX_CAPTURE_HIDDEN, "hidden.embed", -1,   PHX_F32,
                                   exec->buf.hidden,   width,          width};
    return rc == PHX_OK ? phx_exec_capture(exec, &view, err) : rc;
}

phx_code phx_exec_walk(phx_exec *exec, phx_error *err)
{
    exec->unadded = false; /* whatever a step that failed has left */
    phx_code rc = take_tokens(exec, err);
    if (rc == PHX_OK)
        rc = run_layers(exec, err);
    if (rc == PHX_OK && !exec->last_stage)
        phx_exec_settle(exec); /* here, and so in what is recorded: the next stage gets the whole stream */
    return rc == PHX_OK && exec->last_stage ? phx_exec_final(exec, err) : rc;
}

typedef struct passed { /* what goes from a stage to the next */
    void *data;
    size_t n_bytes;
} passed;

/* The residual stream and, where `stage` begins inside a run of layers that share a selection, that
 * selection. Returns how many messages. */
static size_t passed_to(const phx_exec *exec, uint32_t stage, passed *messages)
{
    const size_t n = (size_t)exec->n_own;
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
    return exec->first_stage ? PHX_OK : receive_rows(exec, err);
}

static phx_code leave_stage(phx_exec *exec, phx_error *err)
{
    if (!exec->last_stage)
        return send_rows(exec, err);
    const phx_code rc = phx_exec_finish_samples(exec, err);
    return rc == PHX_OK ? phx_exec_capture_logits(exec, err) : rc;
}
