/* worker/exec/logits.c - final norm, vocabulary head, and which rows need it. */
#include "worker/exec/state.h"

/* Logits of the n rows of the step that host.logit_rows names, into buf.logits. */
static phx_code head_rows(phx_exec *exec, uint32_t n, phx_error *err)
{
    const int64_t n_vocab = phx_range_n(exec->rank->vocab), width = exec->dims->d_hidden;
    const phx_code rc = phx_upload(exec->parts.backend, exec->buf.logit_rows, exec->host.logit_rows,
                                   n * sizeof(int32_t), err);
    if (rc != PHX_OK)
        return rc;
    exec->parts.ops->pick_rows(exec->pool, &(phx_pick_rows_args){
                                               .x = phx_exec_act(exec, exec->buf.norm_act, width),
                                               .rows = exec->buf.logit_rows,
                                               .n_rows = n,
                                               .n_cols = width,
                                               .out = exec->buf.logit_x,
                                           });
    exec->parts.ops->product(exec->pool, &(phx_product_args){
                                             .x = phx_exec_act(exec, exec->buf.logit_x, width),
                                             .w = &exec->parts.weights->head,
                                             .n_groups = 1,
                                             .n_out = n_vocab,
                                             .n_rows = n,
                                             .out = exec->buf.logits,
                                             .out_stride = n_vocab,
                                         });
    return PHX_OK;
}

/* Every rank of the stage hands out its own slice of the vocabulary, so nothing is gathered. */
static phx_code capture_logits(phx_exec *exec, uint32_t plan_row, phx_error *err)
{
    const phx_step_row *row = &exec->plan->rows[plan_row];
    const int64_t start = phx_exec_row_start(exec, plan_row), n_vocab = phx_range_n(exec->rank->vocab);
    for (uint32_t t = 0; t < row->n_tokens; t += PHX_LOGIT_ROWS) {
        const uint32_t n = row->n_tokens - t < PHX_LOGIT_ROWS ? row->n_tokens - t : PHX_LOGIT_ROWS;
        for (uint32_t i = 0; i < n; i++)
            exec->host.logit_rows[i] = (int32_t)(start + t + i);
        phx_code rc = head_rows(exec, n, err);
        if (rc == PHX_OK) /* and waits, so that the rows may be written again */
            rc = phx_exec_download(exec, exec->host.logits, exec->buf.logits,
                                   (size_t)(n * n_vocab) * sizeof(float), err);
        if (rc != PHX_OK)
            return rc;
        const phx_capture_piece piece = {
            .name = "logits",
            .dtype = PHX_F32,
            .request_id = phx_slots_at(exec->slots, row->slot)->request_id,
            .row_first = (uint32_t)exec->host.positions[start + t],
            .n_rows = n,
            .n_cols = (uint32_t)n_vocab,
            .col_first = (uint32_t)exec->rank->vocab.first,
            .stride = n_vocab,
            .data = exec->host.logits,
        };
        rc = exec->parts.sink(exec->parts.sink_user, &piece, err);
        if (rc != PHX_OK)
            return rc;
    }
    return PHX_OK;
}

phx_code phx_exec_logits(phx_exec *exec, phx_error *err)
{
    const phx_dims *d = exec->dims;
    phx_code rc = PHX_OK;
    phx_exec_norm(exec, exec->parts.weights->final_norm);
    const phx_capture_view final = {PHX_CAPTURE_HIDDEN, "hidden.final", -1,         PHX_F32,
                                    exec->buf.norm,     d->d_hidden,    d->d_hidden};
    rc = phx_exec_capture(exec, &final, err);
    const bool captures = (exec->plan->capture & PHX_CAPTURE_LOGITS) && exec->parts.sink;
    uint32_t n_sample = 0;
    for (uint32_t i = 0; i < exec->plan->n_rows && rc == PHX_OK; i++) {
        if (captures && (exec->plan->rows[i].flags & PHX_ROW_CAPTURE))
            rc = capture_logits(exec, i, err);
        if (exec->plan->rows[i].flags & PHX_ROW_SAMPLE)
            exec->sample_rows[n_sample++] = i;
    }
    for (uint32_t first = 0; first < n_sample && rc == PHX_OK; first += PHX_LOGIT_ROWS) {
        const uint32_t n = n_sample - first < PHX_LOGIT_ROWS ? n_sample - first : PHX_LOGIT_ROWS;
        for (uint32_t i = 0; i < n; i++) {
            const uint32_t r = exec->sample_rows[first + i];
            exec->host.logit_rows[i] =
                (int32_t)(phx_exec_row_start(exec, r) + exec->plan->rows[r].n_tokens - 1);
        }
        rc = head_rows(exec, n, err);
        if (rc == PHX_OK)
            rc = phx_exec_sample(exec, exec->sample_rows + first, n, first, err);
    }
    return rc;
}
