/* worker/exec/tokens.c - how a sampled token reaches the next step: each slot's last token lies on the
 * device, where sampling has put it and the next row takes it from. With several stages the last one sends
 * what it sampled to the first (DESIGN 3), on the data plane, so decoding needs no round trip to the
 * coordinator. */
#include "worker/exec/state.h"

#include <assert.h>

/* A ring of steps whose samples the first stage still has to receive, oldest first. */
static uint32_t ring_at(const phx_exec *exec, uint32_t i)
{
    return (exec->first_pending + i) % (PHX_PP_MAX + 2);
}

static phx_code receive_one(phx_exec *exec, phx_error *err)
{
    const uint32_t at = ring_at(exec, 0);
    const size_t first = (size_t)at * exec->parts.plan->request.n_batch;
    const phx_pending_step *step = &exec->pending[at];
    int32_t *slots = exec->host.sampled_slots + first, *tokens = exec->buf.sampled + first;
    for (uint32_t i = 0; i < step->n_rows; i++)
        if (phx_slots_at(exec->slots, (uint32_t)slots[i])->last_step != step->step)
            slots[i] = -1; /* the slot has been given to another sequence */
    phx_code rc = phx_upload(exec->parts.backend, exec->buf.sampled_slots + first, slots,
                             step->n_rows * sizeof(*slots), err);
    if (rc == PHX_OK)
        rc = phx_stage_recv(exec->parts.comm, exec->parts.plan->request.layout.pp - 1, tokens,
                            step->n_rows * sizeof(*tokens), err);
    if (rc != PHX_OK)
        return rc;
    exec->parts.ops->put_tokens(exec->pool, &(phx_put_tokens_args){exec->buf.sampled_slots + first, tokens,
                                                                   step->n_rows, exec->buf.last_tokens});
    exec->first_pending = ring_at(exec, 1);
    exec->n_pending--;
    return PHX_OK;
}

/* Before a row continues from its slot's result, and at the latest pp + 1 steps later, when the coordinator
 * has seen the result and the message is certain to be waiting. */
phx_code phx_exec_receive_tokens(phx_exec *exec, phx_error *err)
{
    const uint32_t pp = exec->parts.plan->request.layout.pp;
    if (!exec->first_stage || pp == 1)
        return PHX_OK;
    uint64_t needed = exec->plan->step > pp + 1 ? exec->plan->step - (pp + 1) : 0;
    for (uint32_t i = 0; i < exec->plan->n_rows; i++) {
        const phx_step_row *row = &exec->plan->rows[i];
        const uint64_t last = phx_slots_at(exec->slots, row->slot)->last_step;
        if ((row->flags & PHX_ROW_FROM_SLOT) && last > needed)
            needed = last;
    }
    phx_code rc = PHX_OK;
    while (rc == PHX_OK && exec->n_pending && exec->pending[ring_at(exec, 0)].step <= needed)
        rc = receive_one(exec, err);
    return rc;
}

/* The tokens leave once the host has seen that every row has one. */
static phx_code send_tokens(phx_exec *exec, phx_error *err)
{
    const size_t n_bytes = exec->n_sampling * sizeof(int32_t);
    for (uint32_t i = 0; i < exec->n_sampling; i++)
        exec->host.sampled[i] = (int32_t)exec->results[i].token;
    const phx_code rc = phx_upload(exec->parts.backend, exec->buf.sampled, exec->host.sampled, n_bytes, err);
    return rc == PHX_OK ? phx_stage_send(exec->parts.comm, 0, exec->buf.sampled, n_bytes, err) : rc;
}

phx_code phx_exec_pass_tokens(phx_exec *exec, phx_error *err)
{
    const uint32_t n_batch = exec->parts.plan->request.n_batch;
    const uint32_t at = ring_at(exec, exec->n_pending);
    const bool several = exec->parts.plan->request.layout.pp > 1;
    for (uint32_t i = 0; i < exec->n_sampling; i++) {
        const uint32_t slot = exec->plan->rows[exec->sampling[i]].slot;
        phx_slots_at(exec->slots, slot)->last_step = exec->plan->step;
        if (several && exec->first_stage)
            exec->host.sampled_slots[(size_t)at * n_batch + i] = (int32_t)slot;
    }
    if (!several || exec->n_sampling == 0)
        return PHX_OK;
    if (exec->first_stage) {
        assert(exec->n_pending < PHX_PP_MAX + 2);
        exec->pending[at] = (phx_pending_step){exec->plan->step, exec->n_sampling};
        exec->n_pending++;
    }
    return exec->last_stage ? send_tokens(exec, err) : PHX_OK;
}
