/* worker/exec/logits.c - final norm, vocabulary head, and the logits that clients ask for. */
#include "worker/exec/state.h"

void phx_exec_head(phx_exec *exec, uint32_t n)
{
    const int64_t n_vocab = phx_range_n(exec->rank->vocab), width = exec->dims->d_hidden;
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
}

phx_code phx_exec_final(phx_exec *exec, phx_error *err)
{
    const phx_dims *d = exec->dims;
    phx_exec_norm(exec, exec->parts.weights->final_norm);
    const phx_capture_view final = {PHX_CAPTURE_HIDDEN, "hidden.final", -1,         PHX_F32,
                                    exec->buf.norm,     d->d_hidden,    d->d_hidden};
    const phx_code rc = phx_exec_capture(exec, &final, err);
    return rc == PHX_OK && exec->n_samples ? phx_exec_queue_samples(exec, err) : rc;
}

/* Every rank of the stage hands out its own slice of the vocabulary, so nothing is gathered. */
phx_code phx_exec_hand_out_logits(phx_exec *exec, const phx_exec_rows *rows, const char *name, phx_error *err)
{
    const int64_t n_vocab = phx_range_n(exec->rank->vocab);
    phx_code rc = PHX_OK;
    for (uint32_t t = 0; t < rows->n && rc == PHX_OK; t += PHX_LOGIT_ROWS) {
        const uint32_t n = rows->n - t < PHX_LOGIT_ROWS ? rows->n - t : PHX_LOGIT_ROWS;
        const void *view = NULL;
        for (uint32_t i = 0; i < n; i++)
            exec->host.logit_rows[i] = (int32_t)(rows->first + t + i);
        rc = phx_upload(exec->parts.backend, exec->buf.logit_rows, exec->host.logit_rows, n * sizeof(int32_t),
                        err);
        if (rc != PHX_OK)
            return rc;
        phx_exec_head(exec, n);
        rc = phx_exec_view(exec, exec->buf.logits, (size_t)(n * n_vocab) * sizeof(float), &view, err);
        if (rc != PHX_OK) /* it waits, so that the rows may be written again */
            return rc;
        const phx_capture_piece piece = {
            .name = name,
            .dtype = PHX_F32,
            .request_id = rows->request_id,
            .row_first = rows->position + t,
            .n_rows = n,
            .n_cols = (uint32_t)n_vocab,
            .col_first = (uint32_t)exec->rank->vocab.first,
            .stride = n_vocab,
            .data = view,
        };
        rc = exec->parts.sink(exec->parts.sink_user, &piece, err);
    }
    return rc;
}

phx_code phx_exec_capture_logits(phx_exec *exec, phx_error *err)
{
    phx_code rc = PHX_OK;
    if (!(exec->plan->capture & PHX_CAPTURE_LOGITS) || !exec->parts.sink)
        return PHX_OK;
    for (uint32_t i = 0; i < exec->plan->n_rows && rc == PHX_OK; i++) {
        const phx_step_row *row = &exec->plan->rows[i];
        const uint32_t start = (uint32_t)phx_exec_row_start(exec, i);
        if (row->flags & PHX_ROW_CAPTURE)
            rc = phx_exec_hand_out_logits(
                exec,
                &(phx_exec_rows){.request_id = phx_slots_at(exec->slots, row->slot)->request_id,
                                 .first = start,
                                 .n = row->n_tokens,
                                 .position = (uint32_t)exec->host.positions[start]},
                "logits", err);
    }
    return rc;
}
