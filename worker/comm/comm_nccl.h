/* worker/comm/comm_nccl.h - how the backend for device memory is made, and what it needs of the device.
 * Owns: the options. The verbs are those of comm.h, with pointers to device memory. */
#ifndef PHX_WORKER_COMM_NCCL_H
#define PHX_WORKER_COMM_NCCL_H

#include "kernels/device.h"
#include "worker/comm/comm.h"

#include <stdbool.h>

typedef struct phx_comm_nccl_options {
    const char *library;      /* NULL: libnccl.so.2 */
    const phx_device *device; /* outlives the communicator */
    void *stream;             /* on which the rank computes; outlives it too */
    bool any_order;  /* sums in NCCL's order (`--deterministic off`): faster, bits depend on the layout */
    bool queue_only; /* verbs return once queued; their failures show in phx_comm_wait */
    bool measure;    /* choose the way of an exchange by timing; else by a default */
    bool no_peers;   /* devices shall not reach each other's memory: NCCL alone */
} phx_comm_nccl_options;

/* Shape of the group that meets and watches (see below): as shape, with small buffers. */
phx_comm_shape phx_comm_nccl_under_shape(const phx_comm_shape *shape);

/* Device bytes that the backend takes, for the plan; NCCL's own buffers come on top. */
size_t phx_comm_nccl_bytes(const phx_comm_shape *shape);

/* Data moves through NCCL, and exchanges through the memory of peers where all devices of a stage reach each
 * other's (kernels/device.h) and that is faster. A group of one rank needs no NCCL. The ranks meet, watch
 * each other and fail through `under`: a loop or shm communicator on one host, MPI between hosts, of the same
 * ranks and timeout. Owned from success on; after a failure the caller destroys it. Makes one NCCL
 * communicator for the stage and one per edge to a neighbouring stage. Blocks until all are connected or the
 * deadline; phx_comm_abort(under) ends it. One thread per rank calls everything but phx_comm_abort, which
 * NCCL itself demands. */
phx_code phx_comm_nccl_create(phx_comm *under, const phx_comm_shape *shape,
                              const phx_comm_nccl_options *options, phx_comm **ret_comm, phx_error *err);

/* Known patterns over every link and size class in use, before ready: each way of an exchange, gathers,
 * messages to the next stage, cut and uncut. PHX_ERR_NUMERIC names rank, verb, size and place. */
phx_code phx_comm_nccl_check(phx_comm *comm, phx_error *err);

#endif
