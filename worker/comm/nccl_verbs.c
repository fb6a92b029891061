/* worker/comm/nccl_verbs.c - what each verb queues on the device.
 * Owns: NCCL's two ways of an exchange. One shot: everyone gets all vectors and adds them. Two shots:
 * everyone gets its share of all vectors, adds it, and sends the sum to the others. Not here: the two ways
 * without NCCL (nccl_peers.c), the choice (nccl_choice.c). */
#include "worker/comm/nccl_state.h"

#include <assert.h>
#include <inttypes.h>

#include "base/clock.h"

static phx_code begin(phx_nccl *c, phx_verb_kind kind, size_t payload_bytes, phx_error *err)
{
    const phx_code rc = c->under->ops->under->begin(c->under, kind, payload_bytes, err);
    if (rc != PHX_OK)
        phx_nccl_give_up(c);
    return rc;
}

static phx_code done(phx_nccl *c, phx_code rc)
{
    if (rc == PHX_OK)
        c->under->ops->under->end(c->under);
    return rc;
}

/* A call of the device that failed ends the communicator: what was queued is no longer known. */
static phx_code checked(phx_nccl *c, phx_code rc, const phx_error *cause, phx_error *err)
{
    return rc == PHX_OK ? PHX_OK : phx_nccl_fail_as(c, cause, err);
}

static phx_code record(phx_nccl *c, void *event, void *stream, phx_error *err)
{
    phx_error cause = {0};
    return checked(c, c->device->record(c->device->user, event, stream, &cause), &cause, err);
}

static phx_code follow(phx_nccl *c, void *stream, void *event, phx_error *err)
{
    phx_error cause = {0};
    return checked(c, c->device->follow(c->device->user, stream, event, &cause), &cause, err);
}

static phx_code copy(phx_nccl *c, void *to, const void *from, size_t n_bytes, phx_error *err)
{
    phx_error cause = {0};
    const phx_device_copy what = {to, from, n_bytes};
    return n_bytes == 0 ? PHX_OK
                        : checked(c, c->device->copy(c->device->user, c->stream, &what, &cause), &cause, err);
}

static phx_code tree_add(phx_nccl *c, const phx_device_tree *tree, phx_error *err)
{
    phx_error cause = {0};
    return tree->n == 0
               ? PHX_OK
               : checked(c, c->device->tree_add(c->device->user, c->stream, tree, &cause), &cause, err);
}

/* The end of a verb: waits until the device has done it, unless the caller wants to wait later. */
static phx_code finish(phx_nccl *c, phx_nccl_link link, phx_code rc, phx_error *err)
{
    if (rc == PHX_OK && !c->queue_only)
        rc = record(c, c->done, c->stream, err);
    if (rc == PHX_OK && !c->queue_only)
        rc = phx_nccl_await(c, link, c->done, err);
    return done(c, rc);
}

/* ---- exchange ---- */

static phx_code one_shot(phx_nccl *c, float *values, size_t n, phx_error *err)
{
    const phx_nccl_result result =
        c->api.all_gather(values, c->parts, n, PHX_NCCL_FLOAT32, c->links[PHX_NCCL_STAGE], c->stream);
    const phx_code rc = phx_nccl_settle(c, PHX_NCCL_STAGE, result, "all-gather of partials", err);
    const phx_device_tree tree = {
        .sum = values, .parts = c->parts, .stride = n, .n = n, .n_parts = c->base.shape.tp};
    return rc == PHX_OK ? tree_add(c, &tree, err) : rc;
}

static void keep_first(phx_nccl_result *first, phx_nccl_result result)
{
    if (*first == PHX_NCCL_SUCCESS && result != PHX_NCCL_IN_PROGRESS)
        *first = result;
}

/* Share r of every vector goes to rank r; the own one too, so that all parts lie alike. */
static phx_code spread_shares(phx_nccl *c, const float *values, size_t n, phx_error *err)
{
    const phx_comm_shape *shape = &c->base.shape;
    const phx_nccl_comm comm = c->links[PHX_NCCL_STAGE];
    const uint32_t tp_rank = shape->rank - c->first;
    const size_t n_own = phx_comm_cut(n, tp_rank + 1, shape->tp) - phx_comm_cut(n, tp_rank, shape->tp);
    phx_nccl_result first = c->api.group_start();
    for (uint32_t r = 0; r < shape->tp; r++) {
        const size_t at = phx_comm_cut(n, r, shape->tp), to = phx_comm_cut(n, r + 1, shape->tp);
        if (to > at)
            keep_first(&first, c->api.send(values + at, to - at, PHX_NCCL_FLOAT32, (int)r, comm, c->stream));
        if (n_own > 0)
            keep_first(&first,
                       c->api.recv(c->parts + r * n_own, n_own, PHX_NCCL_FLOAT32, (int)r, comm, c->stream));
    }
    const phx_nccl_result result = c->api.group_end();
    return phx_nccl_settle(c, PHX_NCCL_STAGE, first == PHX_NCCL_SUCCESS ? result : first,
                           "exchange of shares", err);
}

/* The sum of the own share goes to all others. */
static phx_code spread_sums(phx_nccl *c, float *values, size_t n, phx_error *err)
{
    const phx_comm_shape *shape = &c->base.shape;
    const phx_nccl_comm comm = c->links[PHX_NCCL_STAGE];
    const uint32_t tp_rank = shape->rank - c->first;
    const size_t own_at = phx_comm_cut(n, tp_rank, shape->tp);
    const size_t n_own = phx_comm_cut(n, tp_rank + 1, shape->tp) - own_at;
    phx_nccl_result first = c->api.group_start();
    for (uint32_t r = 0; r < shape->tp; r++) {
        const size_t at = phx_comm_cut(n, r, shape->tp), to = phx_comm_cut(n, r + 1, shape->tp);
        if (r == tp_rank)
            continue;
        if (n_own > 0)
            keep_first(&first,
                       c->api.send(values + own_at, n_own, PHX_NCCL_FLOAT32, (int)r, comm, c->stream));
        if (to > at)
            keep_first(&first, c->api.recv(values + at, to - at, PHX_NCCL_FLOAT32, (int)r, comm, c->stream));
    }
    const phx_nccl_result result = c->api.group_end();
    return phx_nccl_settle(c, PHX_NCCL_STAGE, first == PHX_NCCL_SUCCESS ? result : first, "exchange of sums",
                           err);
}

static phx_code two_shot(phx_nccl *c, float *values, size_t n, phx_error *err)
{
    const uint32_t tp = c->base.shape.tp, tp_rank = c->base.shape.rank - c->first;
    const size_t own_at = phx_comm_cut(n, tp_rank, tp), n_own = phx_comm_cut(n, tp_rank + 1, tp) - own_at;
    const phx_device_tree tree = {
        .sum = values + own_at, .parts = c->parts, .stride = n_own, .n = n_own, .n_parts = tp};
    phx_code rc = spread_shares(c, values, n, err);
    if (rc == PHX_OK)
        rc = tree_add(c, &tree, err);
    return rc == PHX_OK ? spread_sums(c, values, n, err) : rc;
}

static phx_code peers(phx_nccl *c, float *values, size_t n, bool in_two_shots, phx_error *err)
{
    phx_error cause = {0};
    return checked(c, phx_nccl_peers_exchange(c, values, n, in_two_shots, &cause), &cause, err);
}

static phx_code go(phx_nccl *c, phx_nccl_way way, float *values, size_t n, phx_error *err)
{
    if (way == PHX_NCCL_PEERS_ONE_SHOT || way == PHX_NCCL_PEERS_TWO_SHOTS)
        return peers(c, values, n, way == PHX_NCCL_PEERS_TWO_SHOTS, err);
    return way == PHX_NCCL_ONE_SHOT ? one_shot(c, values, n, err) : two_shot(c, values, n, err);
}

static phx_code all_reduce(phx_nccl *c, float *values, size_t n, phx_error *err)
{
    const phx_nccl_result result = c->api.all_reduce(values, values, n, PHX_NCCL_FLOAT32, PHX_NCCL_SUM,
                                                     c->links[PHX_NCCL_STAGE], c->stream);
    return phx_nccl_settle(c, PHX_NCCL_STAGE, result, "all-reduce", err);
}

phx_code phx_nccl_exchange(phx_comm *comm, float *values, size_t n, phx_error *err)
{
    phx_nccl *c = phx_nccl_of(comm);
    const size_t n_bytes = n * sizeof(*values);
    phx_code rc = begin(c, PHX_VERB_EXCHANGE, n_bytes, err);
    if (rc != PHX_OK)
        return rc;
    if (n == 0 || comm->shape.tp == 1)
        return done(c, PHX_OK);
    assert(n_bytes <= comm->shape.exchange_bytes);
    rc = c->any_order ? all_reduce(c, values, n, err) : go(c, phx_nccl_way_of(c, n_bytes), values, n, err);
    return finish(c, PHX_NCCL_STAGE, rc, err);
}

/* ---- gather, stages, barrier ---- */

phx_code phx_nccl_gather(phx_comm *comm, const void *mine, size_t n_bytes, void *all, phx_error *err)
{
    phx_nccl *c = phx_nccl_of(comm);
    phx_code rc = begin(c, PHX_VERB_GATHER, n_bytes, err);
    if (rc != PHX_OK)
        return rc;
    if (n_bytes == 0)
        return done(c, PHX_OK);
    if (comm->shape.tp == 1) {
        rc = mine == all ? PHX_OK : copy(c, all, mine, n_bytes, err);
        return finish(c, PHX_NCCL_STAGE, rc, err);
    }
    const phx_nccl_result result =
        c->api.all_gather(mine, all, n_bytes, PHX_NCCL_UINT8, c->links[PHX_NCCL_STAGE], c->stream);
    rc = phx_nccl_settle(c, PHX_NCCL_STAGE, result, "all-gather", err);
    return finish(c, PHX_NCCL_STAGE, rc, err);
}

/* The copy into the mail slot waits, on the device, until the message that was there has left; so the rank
 * goes on at once unless two messages are on their way. An empty message is one byte: NCCL would not move
 * it, and the receiver would not wait. */
phx_code phx_nccl_send(phx_comm *comm, uint32_t to_stage, const void *data, size_t n_bytes, phx_error *err)
{
    phx_nccl *c = phx_nccl_of(comm);
    const uint64_t slot = c->n_sent % PHX_COMM_STAGE_DEPTH;
    (void)to_stage; /* comm.c has checked that it is the next one */
    phx_code rc = begin(c, PHX_VERB_SEND, n_bytes, err);
    if (rc == PHX_OK)
        rc = follow(c, c->stream, c->left[slot], err);
    if (rc == PHX_OK)
        rc = copy(c, c->mail[slot], data, n_bytes, err);
    if (rc == PHX_OK)
        rc = record(c, c->ready, c->stream, err);
    if (rc == PHX_OK)
        rc = follow(c, c->mail_stream, c->ready, err);
    if (rc != PHX_OK)
        return rc;
    const phx_nccl_result result = c->api.send(c->mail[slot], n_bytes ? n_bytes : 1, PHX_NCCL_UINT8, 1,
                                               c->links[PHX_NCCL_OUT], c->mail_stream);
    rc = phx_nccl_settle(c, PHX_NCCL_OUT, result, "send", err);
    if (rc == PHX_OK)
        rc = record(c, c->left[slot], c->mail_stream, err);
    c->n_sent++;
    return finish(c, PHX_NCCL_OUT, rc, err);
}

phx_code phx_nccl_recv(phx_comm *comm, uint32_t from_stage, void *data, size_t n_bytes, phx_error *err)
{
    phx_nccl *c = phx_nccl_of(comm);
    (void)from_stage;
    phx_code rc = begin(c, PHX_VERB_RECV, n_bytes, err);
    if (rc != PHX_OK)
        return rc;
    const phx_nccl_result result = c->api.recv(n_bytes ? data : c->nothing, n_bytes ? n_bytes : 1,
                                               PHX_NCCL_UINT8, 0, c->links[PHX_NCCL_IN], c->stream);
    rc = phx_nccl_settle(c, PHX_NCCL_IN, result, "receive", err);
    return finish(c, PHX_NCCL_IN, rc, err);
}

/* Notes are the host's: the group underneath carries them. */
phx_code phx_nccl_note_send(phx_comm *comm, const void *data, size_t n_bytes, phx_error *err)
{
    phx_nccl *c = phx_nccl_of(comm);
    const phx_code rc = c->under->ops->note_send(c->under, data, n_bytes, err);
    if (rc != PHX_OK)
        phx_nccl_give_up(c);
    return rc;
}

phx_code phx_nccl_note_recv(phx_comm *comm, void *data, size_t n_bytes, phx_error *err)
{
    phx_nccl *c = phx_nccl_of(comm);
    const phx_code rc = c->under->ops->note_recv(c->under, data, n_bytes, err);
    if (rc != PHX_OK)
        phx_nccl_give_up(c);
    return rc;
}

phx_code phx_nccl_wait(phx_comm *comm, phx_error *err)
{
    phx_nccl *c = phx_nccl_of(comm);
    return c->queue_only ? phx_nccl_await_stream(c, err) : PHX_OK;
}

phx_code phx_nccl_await_stream(phx_nccl *c, phx_error *err)
{
    phx_code rc = begin(c, PHX_VERB_WAIT, 0, err);
    if (rc == PHX_OK)
        rc = record(c, c->done, c->stream, err);
    const phx_nccl_link last = phx_nccl_receives(&c->base.shape) ? PHX_NCCL_IN : PHX_NCCL_OUT;
    if (rc == PHX_OK)
        rc = phx_nccl_await(c, c->links[PHX_NCCL_STAGE] ? PHX_NCCL_STAGE : last, c->done, err);
    return done(c, rc);
}

phx_code phx_nccl_barrier(phx_comm *comm, phx_error *err)
{
    phx_nccl *c = phx_nccl_of(comm);
    phx_code rc = phx_nccl_wait(comm, err);
    if (rc == PHX_OK)
        rc = c->under->ops->barrier(c->under, err);
    if (rc != PHX_OK)
        phx_nccl_give_up(c);
    return rc;
}

/* ---- timing ---- */

phx_code phx_nccl_time(phx_nccl *c, phx_nccl_way way, float *values, size_t n, uint32_t *ret_us,
                       phx_error *err)
{
    phx_code rc = begin(c, PHX_VERB_EXCHANGE, n * sizeof(*values), err);
    const uint64_t start_us = phx_clock_us();
    if (rc == PHX_OK)
        rc = go(c, way, values, n, err);
    if (rc == PHX_OK)
        rc = record(c, c->done, c->stream, err);
    if (rc == PHX_OK)
        rc = phx_nccl_await(c, PHX_NCCL_STAGE, c->done, err);
    if (rc == PHX_OK)
        *ret_us = (uint32_t)(phx_clock_us() - start_us);
    return done(c, rc);
}
