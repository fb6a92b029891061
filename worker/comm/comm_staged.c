/* worker/comm/comm_staged.c - verbs on device memory over a communicator that moves host memory.
 * Owns: pinned staging memory; the wait for the device before, and for the copy after, each piece. The bits
 * are those of the communicator behind it. Used where NCCL is not: for a rank that is alone with its device.
 */
#include "worker/comm/comm.h"

#include <assert.h>

#include "base/alloc.h"

typedef struct staged {
    phx_comm base;
    phx_comm *inner;
    phx_backend *backend;
    uint8_t *stage; /* tp pieces of piece_bytes, or one message */
    size_t stage_bytes;
    size_t piece_bytes;
} staged;

static phx_code stage_exchange(phx_comm *comm, float *values, size_t n, phx_error *err)
{
    staged *s = (staged *)(void *)comm;
    float *here = (float *)(void *)s->stage;
    const size_t n_bytes = comm->shape.tp > 1 ? n * sizeof(float) : 0; /* alone, nothing changes */
    assert(n_bytes <= s->stage_bytes);
    phx_code rc = n_bytes ? phx_download(s->backend, here, values, n_bytes, err) : PHX_OK;
    if (rc == PHX_OK)
        rc = s->inner->ops->exchange(s->inner, here, n_bytes / sizeof(float), err);
    if (rc == PHX_OK)
        rc = phx_upload(s->backend, values, here, n_bytes, err);
    return rc;
}

static phx_code stage_gather(phx_comm *comm, const void *mine, size_t n_bytes, void *all, phx_error *err)
{
    staged *s = (staged *)(void *)comm;
    const uint32_t tp = comm->shape.tp, tp_rank = comm->shape.rank % tp;
    phx_code rc = PHX_OK;
    for (size_t at = 0; at < n_bytes && rc == PHX_OK; at += s->piece_bytes) {
        const size_t n = n_bytes - at < s->piece_bytes ? n_bytes - at : s->piece_bytes;
        uint8_t *own = s->stage + tp_rank * n;
        rc = phx_download(s->backend, own, (const uint8_t *)mine + at, n, err);
        if (rc == PHX_OK)
            rc = s->inner->ops->gather(s->inner, own, n, s->stage, err);
        for (uint32_t r = 0; r < tp && rc == PHX_OK; r++)
            rc = phx_upload(s->backend, (uint8_t *)all + r * n_bytes + at, s->stage + r * n, n, err);
        if (rc == PHX_OK)
            rc = phx_sync(s->backend, err); /* before the stage is written again */
    }
    return rc;
}

static phx_code stage_send(phx_comm *comm, uint32_t to_stage, const void *data, size_t n_bytes,
                           phx_error *err)
{
    staged *s = (staged *)(void *)comm;
    assert(n_bytes <= s->stage_bytes);
    const phx_code rc = phx_download(s->backend, s->stage, data, n_bytes, err);
    return rc == PHX_OK ? s->inner->ops->send(s->inner, to_stage, s->stage, n_bytes, err) : rc;
}

static phx_code stage_recv(phx_comm *comm, uint32_t from_stage, void *data, size_t n_bytes, phx_error *err)
{
    staged *s = (staged *)(void *)comm;
    assert(n_bytes <= s->stage_bytes);
    phx_code rc = phx_sync(s->backend, err); /* an upload may still read the stage */
    if (rc == PHX_OK)
        rc = s->inner->ops->recv(s->inner, from_stage, s->stage, n_bytes, err);
    return rc == PHX_OK ? phx_upload(s->backend, data, s->stage, n_bytes, err) : rc;
}

static phx_code stage_barrier(phx_comm *comm, phx_error *err)
{
    staged *s = (staged *)(void *)comm;
    const phx_code rc = phx_sync(s->backend, err);
    return rc == PHX_OK ? s->inner->ops->barrier(s->inner, err) : rc;
}

static phx_code stage_verbs(const phx_comm *comm, uint32_t n_last, phx_buf *buf)
{
    const staged *s = (const staged *)(const void *)comm;
    return s->inner->ops->verbs(s->inner, n_last, buf);
}

static void stage_abort(phx_comm *comm)
{
    staged *s = (staged *)(void *)comm;
    s->inner->ops->abort(s->inner);
}

static void stage_destroy(phx_comm *comm)
{
    staged *s = (staged *)(void *)comm;
    phx_comm_destroy(s->inner);
    if (s->stage)
        s->backend->pinned->give_back(s->backend->pinned->user, s->stage, s->stage_bytes);
    phx_free(s);
}

static const phx_comm_ops staged_ops = {
    .name = "staged",
    .exchange = stage_exchange,
    .gather = stage_gather,
    .send = stage_send,
    .recv = stage_recv,
    .barrier = stage_barrier,
    .verbs = stage_verbs,
    .abort = stage_abort,
    .destroy = stage_destroy,
};

phx_code phx_comm_staged_create(phx_comm *inner, phx_backend *backend, phx_comm **ret_comm, phx_error *err)
{
    enum { PIECE_MIN = 64 << 10 };
    const phx_comm_shape *shape = &inner->shape;
    void *stage = NULL;
    staged *s = phx_alloc(1, sizeof(*s));
    if (!s)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "staged communicator");
    s->base.ops = &staged_ops;
    s->base.shape = *shape;
    s->backend = backend;
    s->stage_bytes = shape->exchange_bytes > shape->stage_bytes ? shape->exchange_bytes : shape->stage_bytes;
    if (s->stage_bytes < (size_t)shape->tp * PIECE_MIN)
        s->stage_bytes = (size_t)shape->tp * PIECE_MIN;
    s->piece_bytes = s->stage_bytes / shape->tp / 64 * 64;
    const phx_code rc = backend->pinned->take(backend->pinned->user, s->stage_bytes, &stage, err);
    if (rc != PHX_OK) {
        phx_free(s);
        return rc;
    }
    s->stage = stage;
    s->inner = inner;
    *ret_comm = &s->base;
    return PHX_OK;
}
