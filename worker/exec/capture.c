/* worker/exec/capture.c - hands captured rows of step buffers to the sink (verify and logits). */
#include "worker/exec/state.h"

#include <stdio.h>

#include "base/alloc.h"

static bool wanted(const phx_exec *exec, const phx_capture_view *view)
{
    return (exec->plan->capture & view->mask_bit) && exec->rank->tp_rank == 0 && exec->parts.sink;
}

static void name_of(const phx_capture_view *view, char *name, size_t n_bytes)
{
    if (view->layer < 0)
        (void)snprintf(name, n_bytes, "%s", view->name);
    else
        (void)snprintf(name, n_bytes, "%s.%lld", view->name, (long long)view->layer);
}

void phx_exec_drop_view(phx_exec *exec)
{
    const phx_memory *pinned = exec->parts.backend->pinned;
    if (exec->view)
        pinned->give_back(pinned->user, exec->view, exec->view_bytes);
    exec->view = NULL;
    exec->view_bytes = 0;
}

phx_code phx_exec_view(phx_exec *exec, const void *from, size_t n_bytes, const void **ret_view,
                       phx_error *err)
{
    if (!exec->parts.backend->device) {
        *ret_view = from;
        return PHX_OK;
    }
    if (n_bytes > exec->view_bytes) { /* captures and checks are no part of serving, so they may allocate */
        const phx_memory *pinned = exec->parts.backend->pinned;
        phx_exec_drop_view(exec);
        const phx_code taken = pinned->take(pinned->user, n_bytes, &exec->view, err);
        if (taken != PHX_OK)
            return taken;
        exec->view_bytes = n_bytes;
    }
    const phx_code rc = phx_exec_download(exec, exec->view, from, n_bytes, err);
    if (rc == PHX_OK)
        *ret_view = exec->view;
    return rc;
}

phx_code phx_exec_capture(phx_exec *exec, const phx_capture_view *view, phx_error *err)
{
    char name[48];
    if (!wanted(exec, view))
        return PHX_OK;
    name_of(view, name, sizeof(name));
    int64_t t = 0;
    const void *data = NULL;
    phx_code rc = phx_exec_view(
        exec, view->data, (size_t)(exec->n_tokens * view->stride) * phx_dtype_bytes(view->dtype), &data, err);
    for (uint32_t i = 0; i < exec->plan->n_rows && rc == PHX_OK; i++) {
        const phx_step_row *row = &exec->plan->rows[i];
        const phx_capture_piece piece = {
            .name = name,
            .dtype = view->dtype,
            .request_id = phx_slots_at(exec->slots, row->slot)->request_id,
            .row_first = (uint32_t)exec->host.positions[t],
            .n_rows = row->n_tokens,
            .n_cols = (uint32_t)view->n_cols,
            .stride = view->stride,
            .data = (const uint8_t *)data + (size_t)(t * view->stride) * phx_dtype_bytes(view->dtype),
        };
        t += row->n_tokens;
        if (row->flags & PHX_ROW_CAPTURE)
            rc = exec->parts.sink(exec->parts.sink_user, &piece, err);
    }
    return rc;
}

phx_code phx_exec_hand_out(phx_exec *exec, const phx_exec_rows *rows, const phx_capture_view *view,
                           phx_error *err)
{
    const size_t row_bytes = (size_t)view->stride * phx_dtype_bytes(view->dtype);
    const void *data = NULL;
    if (exec->rank->tp_rank != 0)
        return PHX_OK;
    const phx_code rc = phx_exec_view(exec, (const uint8_t *)view->data + rows->first * row_bytes,
                                      rows->n * row_bytes, &data, err);
    if (rc != PHX_OK)
        return rc;
    const phx_capture_piece piece = {
        .name = view->name,
        .dtype = view->dtype,
        .request_id = rows->request_id,
        .row_first = rows->position,
        .n_rows = rows->n,
        .n_cols = (uint32_t)view->n_cols,
        .stride = view->stride,
        .data = data,
    };
    return exec->parts.sink(exec->parts.sink_user, &piece, err);
}

phx_code phx_exec_capture_row(phx_exec *exec, const phx_capture_view *view, int64_t token, phx_error *err)
{
    char name[48];
    if (!wanted(exec, view))
        return PHX_OK;
    int64_t t = 0;
    uint32_t i = 0;
    while (t + exec->plan->rows[i].n_tokens <= token)
        t += exec->plan->rows[i++].n_tokens;
    if (!(exec->plan->rows[i].flags & PHX_ROW_CAPTURE))
        return PHX_OK;
    name_of(view, name, sizeof(name));
    const void *data = NULL;
    const phx_code rc =
        phx_exec_view(exec, view->data, (size_t)view->n_cols * phx_dtype_bytes(view->dtype), &data, err);
    if (rc != PHX_OK)
        return rc;
    const phx_capture_piece piece = {
        .name = name,
        .dtype = view->dtype,
        .request_id = phx_slots_at(exec->slots, exec->plan->rows[i].slot)->request_id,
        .row_first = (uint32_t)exec->host.positions[token],
        .n_rows = 1,
        .n_cols = (uint32_t)view->n_cols,
        .stride = view->stride,
        .data = data,
    };
    return exec->parts.sink(exec->parts.sink_user, &piece, err);
}
