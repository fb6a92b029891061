/* worker/comm/comm.c - the verbs as callers see them: checks of arguments, cuts, and traffic counters.
 * Owns: what is the same for every backend. Not here: moving bytes (comm_loop.c, comm_shm.c, comm_mpi.c). */
#include "worker/comm/comm.h"

#include <assert.h>
#include <inttypes.h>

#include "worker/comm/shape.h"

/* Only the owner writes; the control thread reads. */
static void add(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}

/* What this rank sends when each of tp ranks reduces its share of n values: the shares of the others once,
 * its own sum tp - 1 times. What it receives is the same number. A backend may move a small payload in one
 * step instead; the count stays that of the plan. */
static uint64_t exchange_traffic(const phx_comm_shape *shape, size_t n)
{
    const uint32_t tp_rank = shape->rank % shape->tp;
    const size_t n_own = phx_comm_cut(n, tp_rank + 1, shape->tp) - phx_comm_cut(n, tp_rank, shape->tp);
    return sizeof(float) * ((uint64_t)(n - n_own) + (uint64_t)n_own * (shape->tp - 1));
}

phx_code phx_exchange(phx_comm *comm, float *values, size_t n, phx_error *err)
{
    const size_t n_max = comm->shape.tp > 1 ? comm->shape.exchange_bytes / sizeof(float) : n;
    phx_code rc = PHX_OK;
    size_t at = 0;
    do { /* once even for n = 0 and tp = 1, because a dead communicator refuses every verb */
        const size_t n_here = n - at < n_max ? n - at : n_max;
        rc = comm->ops->exchange(comm, values + at, n_here, err);
        if (rc == PHX_OK && comm->shape.tp > 1)
            add(&comm->traffic.exchange_bytes, exchange_traffic(&comm->shape, n_here));
        at += n_here;
    } while (rc == PHX_OK && at < n);
    add(&comm->traffic.n_verbs, 1);
    return rc;
}

phx_code phx_gather(phx_comm *comm, const void *mine, size_t n_bytes, void *all, phx_error *err)
{
    const phx_code rc = comm->ops->gather(comm, mine, n_bytes, all, err);
    if (rc == PHX_OK)
        add(&comm->traffic.gather_bytes, (uint64_t)n_bytes * (comm->shape.tp - 1));
    add(&comm->traffic.n_verbs, 1);
    return rc;
}

phx_code phx_stage_send(phx_comm *comm, uint32_t to_stage, const void *data, size_t n_bytes, phx_error *err)
{
    const phx_comm_shape *shape = &comm->shape;
    const uint32_t stage = shape->rank / shape->tp;
    if (stage + 1 >= shape->pp || to_stage != stage + 1)
        return PHX_FAIL(err, PHX_ERR_INVALID,
                        "stage %" PRIu32 " of %" PRIu32 " cannot send to stage %" PRIu32
                        ": only to the next one",
                        stage, shape->pp, to_stage);
    if (n_bytes > shape->stage_bytes)
        return PHX_FAIL(err, PHX_ERR_INVALID, "message of %zu bytes to stage %" PRIu32 ": the limit is %zu",
                        n_bytes, to_stage, shape->stage_bytes);
    const phx_code rc = comm->ops->send(comm, to_stage, data, n_bytes, err);
    if (rc == PHX_OK)
        add(&comm->traffic.stage_bytes, n_bytes);
    add(&comm->traffic.n_verbs, 1);
    return rc;
}

phx_code phx_stage_recv(phx_comm *comm, uint32_t from_stage, void *data, size_t n_bytes, phx_error *err)
{
    const phx_comm_shape *shape = &comm->shape;
    const uint32_t stage = shape->rank / shape->tp;
    if (stage == 0 || from_stage != stage - 1)
        return PHX_FAIL(err, PHX_ERR_INVALID,
                        "stage %" PRIu32 " of %" PRIu32 " cannot receive from stage %" PRIu32
                        ": only from the one before",
                        stage, shape->pp, from_stage);
    if (n_bytes > shape->stage_bytes)
        return PHX_FAIL(err, PHX_ERR_INVALID, "message of %zu bytes from stage %" PRIu32 ": the limit is %zu",
                        n_bytes, from_stage, shape->stage_bytes);
    const phx_code rc = comm->ops->recv(comm, from_stage, data, n_bytes, err);
    add(&comm->traffic.n_verbs, 1);
    return rc;
}

static phx_code check_note(const phx_comm *comm, uint32_t stage, size_t n_bytes, phx_error *err)
{
    const phx_comm_shape *shape = &comm->shape;
    if (shape->pp < 2 || shape->rank / shape->tp != stage)
        return PHX_FAIL(err, PHX_ERR_INVALID,
                        "rank %" PRIu32 ": notes go from the last of several stages to the first",
                        shape->rank);
    if (n_bytes > shape->note_bytes)
        return PHX_FAIL(err, PHX_ERR_INVALID, "note of %zu bytes: the limit is %zu", n_bytes,
                        shape->note_bytes);
    return PHX_OK;
}

phx_code phx_note_send(phx_comm *comm, const void *data, size_t n_bytes, phx_error *err)
{
    phx_code rc = check_note(comm, comm->shape.pp - 1, n_bytes, err);
    if (rc == PHX_OK)
        rc = comm->ops->note_send(comm, data, n_bytes, err);
    if (rc == PHX_OK)
        add(&comm->traffic.stage_bytes, n_bytes);
    add(&comm->traffic.n_verbs, 1);
    return rc;
}

phx_code phx_note_recv(phx_comm *comm, void *ret_data, size_t n_bytes, phx_error *err)
{
    phx_code rc = check_note(comm, 0, n_bytes, err);
    if (rc == PHX_OK)
        rc = comm->ops->note_recv(comm, ret_data, n_bytes, err);
    add(&comm->traffic.n_verbs, 1);
    return rc;
}

phx_comm_traffic phx_comm_traffic_since(const phx_comm *comm, const phx_comm_traffic *before)
{
    const phx_comm_traffic *now = &comm->traffic;
    return (phx_comm_traffic){.exchange_bytes = now->exchange_bytes - before->exchange_bytes,
                              .gather_bytes = now->gather_bytes - before->gather_bytes,
                              .stage_bytes = now->stage_bytes - before->stage_bytes,
                              .n_verbs = now->n_verbs - before->n_verbs};
}

void phx_comm_count(phx_comm *comm, const phx_comm_traffic *traffic)
{
    add(&comm->traffic.exchange_bytes, traffic->exchange_bytes);
    add(&comm->traffic.gather_bytes, traffic->gather_bytes);
    add(&comm->traffic.stage_bytes, traffic->stage_bytes);
    add(&comm->traffic.n_verbs, traffic->n_verbs);
}

phx_code phx_comm_barrier(phx_comm *comm, phx_error *err)
{
    const phx_code rc = comm->ops->barrier(comm, err);
    add(&comm->traffic.n_verbs, 1);
    return rc;
}

phx_code phx_comm_wait(phx_comm *comm, phx_error *err)
{
    return comm->ops->wait ? comm->ops->wait(comm, err) : PHX_OK;
}

phx_code phx_comm_describe(const phx_comm *comm, phx_buf *buf)
{
    return comm->ops->describe ? comm->ops->describe(comm, buf)
                               : phx_buf_printf(buf, "collectives: %s", comm->ops->name);
}

phx_code phx_comm_verbs(const phx_comm *comm, uint32_t n_last, phx_buf *buf)
{
    return comm->ops->verbs(comm, n_last, buf);
}

void phx_comm_abort(phx_comm *comm)
{
    comm->ops->abort(comm);
}

void phx_comm_destroy(phx_comm *comm)
{
    if (comm)
        comm->ops->destroy(comm);
}
