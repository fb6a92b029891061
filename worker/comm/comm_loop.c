/* worker/comm/comm_loop.c - ranks as threads of one process, over memory of that process.
 * Owns: the hub. The verbs are those of shared memory (segment_verbs.c), so that the thread sanitizer sees
 * the very code that comm_shm.c runs between processes, where it cannot look. */
#include "worker/comm/comm.h"

#include <inttypes.h>
#include <pthread.h>
#include <string.h>

#include "base/alloc.h"
#include "worker/comm/segment.h"
#include "worker/comm/shape.h"

struct phx_comm_hub {
    pthread_mutex_t mutex;
    uint32_t n_ranks;
    phx_comm_shape shape; /* of the first rank; tp 0 until then */
    uint8_t *memory;      /* n_ranks sections */
    bool taken[PHX_COMM_RANKS_MAX];
};

static void loop_abort(phx_comm *comm);
static void loop_destroy(phx_comm *comm);

static const phx_comm_ops loop_ops = {
    .name = "loop",
    .under = &phx_seg_under,
    .exchange = phx_seg_exchange,
    .gather = phx_seg_gather,
    .send = phx_seg_send,
    .recv = phx_seg_recv,
    .note_send = phx_seg_note_send,
    .note_recv = phx_seg_note_recv,
    .barrier = phx_seg_barrier,
    .verbs = phx_seg_verbs,
    .abort = loop_abort,
    .destroy = loop_destroy,
};

phx_code phx_comm_hub_create(uint32_t n_ranks, phx_comm_hub **ret_hub, phx_error *err)
{
    if (n_ranks < 1 || n_ranks > PHX_COMM_RANKS_MAX)
        return PHX_FAIL(err, PHX_ERR_INVALID, "hub of %" PRIu32 " ranks: 1 to %u", n_ranks,
                        PHX_COMM_RANKS_MAX);
    phx_comm_hub *hub = phx_alloc(1, sizeof(*hub));
    if (!hub)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "hub of %" PRIu32 " ranks", n_ranks);
    if (pthread_mutex_init(&hub->mutex, NULL) != 0) {
        phx_free(hub);
        return PHX_FAIL(err, PHX_ERR_NOMEM, "mutex of the hub");
    }
    hub->n_ranks = n_ranks;
    *ret_hub = hub;
    return PHX_OK;
}

void phx_comm_hub_destroy(phx_comm_hub *hub)
{
    if (!hub)
        return;
    (void)pthread_mutex_destroy(&hub->mutex);
    phx_free(hub->memory);
    phx_free(hub);
}

/* Under the mutex: the first rank brings the shape and the memory, the others must fit. */
static phx_code admit(phx_comm_hub *hub, const phx_comm_shape *shape, phx_error *err)
{
    if (phx_comm_n_ranks(shape) != hub->n_ranks)
        return PHX_FAIL(err, PHX_ERR_MISMATCH,
                        "tp %" PRIu32 " x pp %" PRIu32 " in a hub of %" PRIu32 " ranks", shape->tp, shape->pp,
                        hub->n_ranks);
    if (hub->taken[shape->rank])
        return PHX_FAIL(err, PHX_ERR_IN_USE, "rank %" PRIu32 " joined twice", shape->rank);
    if (hub->memory && !phx_comm_shape_same(&hub->shape, shape))
        return PHX_FAIL(err, PHX_ERR_MISMATCH, "rank %" PRIu32 " has another shape than rank %" PRIu32,
                        shape->rank, hub->shape.rank);
    if (!hub->memory) {
        hub->memory = phx_alloc(hub->n_ranks, phx_seg_bytes(shape));
        if (!hub->memory)
            return PHX_FAIL(err, PHX_ERR_NOMEM, "%" PRIu32 " x %zu bytes for the exchange buffers",
                            hub->n_ranks, phx_seg_bytes(shape));
        hub->shape = *shape;
    }
    hub->taken[shape->rank] = true;
    return PHX_OK;
}

phx_code phx_comm_loop_create(phx_comm_hub *hub, const phx_comm_shape *shape, phx_comm **ret_comm,
                              phx_error *err)
{
    phx_code rc = phx_comm_shape_check(shape, err);
    if (rc != PHX_OK)
        return rc;
    phx_seg *seg = phx_alloc(1, sizeof(*seg));
    if (!seg)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "communicator of rank %" PRIu32, shape->rank);
    (void)pthread_mutex_lock(&hub->mutex);
    rc = admit(hub, shape, err);
    (void)pthread_mutex_unlock(&hub->mutex);
    if (rc != PHX_OK) {
        phx_free(seg);
        return rc;
    }
    phx_seg_init(seg, &loop_ops, shape, hub->memory);
    phx_seg_join(seg);
    *ret_comm = &seg->base;
    return PHX_OK;
}

static void loop_abort(phx_comm *comm)
{
    phx_seg_abort((phx_seg *)(void *)comm);
}

static void loop_destroy(phx_comm *comm)
{
    phx_seg_leave((phx_seg *)(void *)comm);
    phx_free(comm);
}
