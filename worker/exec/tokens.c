/* worker/exec/tokens.c - how a sampled token reaches the next step: each slot's last token lies on the
 * device, where sampling has put it and the next row takes it from. With several stages the last one sends
 * what it sampled to the first (DESIGN 3), in notes on the data plane, so decoding needs no round trip to the
 * coordinator. With drafts each stage passes the message on to the next, because all must know how long a
 * sequence has become; all receive it before the same step. */
#include "worker/exec/state.h"

#include <assert.h>

/* A slot's words in the message: its token; with drafts how many of them did not hold, the token, and the
 * drafts that come next. */
static uint32_t n_words(const phx_exec *exec)
{
    return exec->n_places > 1 ? 1 + exec->n_places : 1;
}

static bool receives(const phx_exec *exec)
{
    return !exec->last_stage && (exec->first_stage || exec->n_places > 1);
}

/* A ring of steps whose samples this stage still has to receive, oldest first. */
static uint32_t ring_at(const phx_exec *exec, uint32_t i)
{
    return (exec->first_pending + i) % (PHX_PP_MAX + 2);
}

/* Lengths are the host's, so with drafts it waits for the message. */
static phx_code take_drafts(phx_exec *exec, const int32_t *slots, uint32_t n_rows, size_t first,
                            phx_error *err)
{
    const uint32_t words = n_words(exec);
    const int32_t *message = exec->host.sampled + first * words;
    phx_code rc = PHX_OK;
    if (!exec->first_stage)
        rc = phx_exec_download(exec, exec->host.sampled + first * words, exec->buf.sampled + first * words,
                               (size_t)n_rows * words * sizeof(int32_t), err);
    for (uint32_t i = 0; i < n_rows && rc == PHX_OK; i++, message += words) {
        if (slots[i] < 0)
            continue;
        const int32_t place = phx_exec_place(exec, (uint32_t)slots[i], 0);
        phx_slots_at(exec->slots, (uint32_t)slots[i])->n_tokens -= (uint32_t)message[0];
        rc = phx_upload(exec->parts.backend, exec->buf.last_tokens + place, message + 1,
                        exec->n_places * sizeof(int32_t), err);
    }
    return rc;
}

static phx_code take_note(phx_exec *exec, int32_t *message, int32_t *host_message, size_t n_bytes,
                          phx_error *err)
{
    const phx_code rc = phx_note_recv(exec->parts.comm, host_message, n_bytes, err);
    return rc == PHX_OK ? phx_upload(exec->parts.backend, message, host_message, n_bytes, err) : rc;
}

static phx_code receive_one(phx_exec *exec, phx_error *err)
{
    const uint32_t at = ring_at(exec, 0);
    const size_t first = (size_t)at * exec->parts.plan->request.n_batch;
    const phx_pending_step *step = &exec->pending[at];
    int32_t *slots = exec->host.sampled_slots + first, *message = exec->buf.sampled + first * n_words(exec);
    for (uint32_t i = 0; i < step->n_rows; i++)
        if (phx_slots_at(exec->slots, (uint32_t)slots[i])->last_step != step->step)
            slots[i] = -1; /* the slot has been given to another sequence */
    const uint32_t stage = exec->rank->stage, n_stages = exec->parts.plan->request.layout.pp;
    const size_t n_bytes = (size_t)step->n_rows * n_words(exec) * sizeof(*message);
    phx_code rc = phx_upload(exec->parts.backend, exec->buf.sampled_slots + first, slots,
                             step->n_rows * sizeof(*slots), err);
    if (rc == PHX_OK)
        rc = exec->first_stage
                 ? take_note(exec, message, exec->host.sampled + first * n_words(exec), n_bytes, err)
                 : phx_stage_recv(exec->parts.comm, stage - 1, message, n_bytes, err);
    if (rc == PHX_OK && exec->n_places > 1 && stage + 2 < n_stages)
        rc = phx_stage_send(exec->parts.comm, stage + 1, message, n_bytes, err);
    if (rc != PHX_OK)
        return rc;
    if (exec->n_places > 1)
        rc = take_drafts(exec, slots, step->n_rows, first, err);
    else
        exec->parts.ops->put_tokens(exec->pool,
                                    &(phx_put_tokens_args){exec->buf.sampled_slots + first, message,
                                                           step->n_rows, exec->buf.last_tokens});
    exec->first_pending = ring_at(exec, 1);
    exec->n_pending--;
    return rc;
}

/* Before a row continues from its slot's result, and at the latest pp + 1 steps later, when the coordinator
 * has seen the result and the message is certain to be waiting. */
phx_code phx_exec_receive_tokens(phx_exec *exec, const phx_step_plan *plan, phx_error *err)
{
    const uint32_t pp = exec->parts.plan->request.layout.pp;
    if (!receives(exec))
        return PHX_OK;
    uint64_t needed = plan->step > pp + 1 ? plan->step - (pp + 1) : 0;
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        const phx_step_row *row = &plan->rows[i];
        const uint64_t last = phx_slots_at(exec->slots, row->slot)->last_step;
        if ((row->flags & PHX_ROW_FROM_SLOT) && last > needed)
            needed = last;
    }
    phx_code rc = PHX_OK;
    while (rc == PHX_OK && exec->n_pending && exec->pending[ring_at(exec, 0)].step <= needed)
        rc = receive_one(exec, err);
    return rc;
}

static phx_code write_message(phx_exec *exec, phx_error *err)
{
    int32_t *message = exec->host.sampled;
    phx_code rc = PHX_OK;
    if (exec->n_places > 1) /* the drafts have been put there by the device */
        rc = phx_exec_download(exec, exec->host.last_tokens, exec->buf.last_tokens,
                               (size_t)exec->parts.plan->request.n_batch * exec->n_places * sizeof(int32_t),
                               err);
    for (uint32_t i = 0, r = 0; i < exec->plan->n_rows && rc == PHX_OK; i++) {
        const phx_step_row *row = &exec->plan->rows[i];
        if (!(row->flags & PHX_ROW_SAMPLE))
            continue;
        while (r + 1 < exec->n_results && exec->results[r + 1].slot == row->slot)
            r++; /* the last one of the row */
        if (exec->n_places > 1) {
            *message++ = (int32_t)(row->n_tokens - exec->n_taken[i]);
            memcpy(message, exec->host.last_tokens + phx_exec_place(exec, row->slot, 0),
                   exec->n_places * sizeof(*message));
            message += exec->n_places;
        } else {
            *message++ = (int32_t)exec->results[r].token;
        }
        r++;
    }
    return rc;
}

/* The tokens leave once the host has seen that every row has one. The first stage takes them when a row needs
 * them, and at the latest pp + 1 steps later: so many notes wait without keeping this rank. */
static phx_code send_tokens(phx_exec *exec, uint32_t n_rows, phx_error *err)
{
    const size_t n_bytes = (size_t)n_rows * n_words(exec) * sizeof(int32_t);
    const phx_code rc = write_message(exec, err);
    return rc == PHX_OK ? phx_note_send(exec->parts.comm, exec->host.sampled, n_bytes, err) : rc;
}

phx_code phx_exec_pass_tokens(phx_exec *exec, phx_error *err)
{
    const uint32_t n_batch = exec->parts.plan->request.n_batch;
    const uint32_t at = ring_at(exec, exec->n_pending);
    uint32_t n_rows = 0;
    for (uint32_t i = 0; i < exec->plan->n_rows; i++) {
        const phx_step_row *row = &exec->plan->rows[i];
        if (!(row->flags & PHX_ROW_SAMPLE))
            continue;
        phx_slots_at(exec->slots, row->slot)->last_step = exec->plan->step;
        if (receives(exec))
            exec->host.sampled_slots[(size_t)at * n_batch + n_rows] = (int32_t)row->slot;
        n_rows++;
    }
    if (n_rows == 0 || exec->parts.plan->request.layout.pp == 1)
        return PHX_OK;
    if (receives(exec)) {
        assert(exec->n_pending < PHX_PP_MAX + 2);
        exec->pending[at] = (phx_pending_step){exec->plan->step, n_rows};
        exec->n_pending++;
    }
    return exec->last_stage ? send_tokens(exec, n_rows, err) : PHX_OK;
}
