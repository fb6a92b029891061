/* worker/comm/comm.h - the data plane between ranks: three verbs, one interface, several backends.
 * Owns: the meaning of the verbs and their fixed order of addition (DESIGN 7c, 7g).
 * Not here: control messages (proto/link.h). Backends: comm_loop.c (ranks are threads of one process, for
 * tests and thread sanitizer), comm_shm.c (one host: shared memory with futex), comm_mpi.c (several hosts),
 * comm_nccl.c (device memory; made with comm_nccl.h). Buffers of verbs are memory that the rank's ops work
 * on: device memory where there is a device (kernels/backend.h).
 *
 * Every verb is called by all members of its scope in the same order with the same sizes; one thread per rank
 * calls. A verb fails with PHX_ERR_COMM or PHX_ERR_PEER_LOST in bounded time after phx_comm_abort or when a
 * deadline passes; then the communicator is dead and every later verb fails at once. */
#ifndef PHX_WORKER_COMM_H
#define PHX_WORKER_COMM_H

#include "base/buf.h"
#include "base/status.h"
#include "kernels/backend.h"

#include <stddef.h>
#include <stdint.h>

typedef struct phx_comm phx_comm;
typedef struct phx_comm_under phx_comm_under;

typedef struct phx_comm_shape {
    uint32_t rank; /* stage * tp + tp_rank */
    uint32_t tp;   /* 1, 2, 4, 8 */
    uint32_t pp;
    size_t exchange_bytes; /* largest payload of one exchange or of one rank's share of a gather; longer ones
                              are cut */
    size_t stage_bytes;    /* largest payload of one send to a neighbouring stage */
    size_t note_bytes;     /* largest note; 0: none are sent */
    uint32_t timeout_ms;   /* longest wait inside one verb; 0: none */
} phx_comm_shape;

/* Backends implement this table; callers use the functions below. */
typedef struct phx_comm_ops {
    const char *name;            /* "loop", "shm", "mpi", "nccl" */
    const phx_comm_under *under; /* for a backend that stands on this one (under.h); NULL: none can */
    phx_code (*exchange)(phx_comm *comm, float *values, size_t n, phx_error *err);
    phx_code (*gather)(phx_comm *comm, const void *mine, size_t n_bytes, void *all, phx_error *err);
    phx_code (*send)(phx_comm *comm, uint32_t to_stage, const void *data, size_t n_bytes, phx_error *err);
    phx_code (*recv)(phx_comm *comm, uint32_t from_stage, void *data, size_t n_bytes, phx_error *err);
    phx_code (*note_send)(phx_comm *comm, const void *data, size_t n_bytes, phx_error *err);
    phx_code (*note_recv)(phx_comm *comm, void *data, size_t n_bytes, phx_error *err);
    phx_code (*barrier)(phx_comm *comm, phx_error *err);
    phx_code (*wait)(phx_comm *comm, phx_error *err);         /* NULL: verbs never return before */
    phx_code (*describe)(const phx_comm *comm, phx_buf *buf); /* NULL: the name says it all */
    phx_code (*verbs)(const phx_comm *comm, uint32_t n_last, phx_buf *buf);
    void (*abort)(phx_comm *comm);
    void (*destroy)(phx_comm *comm);
} phx_comm_ops;

/* Bytes that left this rank, and as many entered it; compared with the plan. Another thread reads the fields
 * with __atomic_load_n. */
typedef struct phx_comm_traffic {
    uint64_t exchange_bytes; /* 2 * 4 * n * (tp - 1) / tp per exchange of n values (rounded as the cut is),
                                each way summed */
    uint64_t gather_bytes;   /* n_bytes * (tp - 1) per gather */
    uint64_t stage_bytes;    /* sent to the next stage, notes too */
    uint64_t n_verbs;        /* progress counter: read by the control thread */
} phx_comm_traffic;

struct phx_comm { /* first member of every backend's own struct */
    const phx_comm_ops *ops;
    phx_comm_shape shape;
    phx_comm_traffic traffic;
};

/* values[i] becomes the sum over the tp ranks of this stage, added as a balanced binary tree in tp-rank order
 * ((0+1)+(2+3))+((4+5)+(6+7)); the same bits on every rank. In place. tp 1: no-op. */
phx_code phx_exchange(phx_comm *comm, float *values, size_t n, phx_error *err);

/* all[r * n_bytes ...] = rank r's mine, for the tp ranks of this stage. all may not overlap mine except at
 * its own place. */
phx_code phx_gather(phx_comm *comm, const void *mine, size_t n_bytes, void *all, phx_error *err);

/* To the rank with the same tp_rank of the next stage, and from that of the stage before; other pairs are
 * PHX_ERR_INVALID, and so is a message longer than stage_bytes. The receiver names the sender's size.
 * Buffered up to stage_bytes: one outstanding message per pair never blocks the sender on the receiver's
 * progress more than one step. */
phx_code phx_stage_send(phx_comm *comm, uint32_t to_stage, const void *data, size_t n_bytes, phx_error *err);
phx_code phx_stage_recv(phx_comm *comm, uint32_t from_stage, void *data, size_t n_bytes, phx_error *err);

/* A note goes from a rank of the last stage to the one with the same tp_rank of the first, in host memory and
 * beside the messages above. The sender never waits for the receiver while at most pp + 1 of its notes, this
 * one among them, have not been received: so many steps are in flight, and a stage that has nothing to do
 * receives nothing. Other ranks and sizes are PHX_ERR_INVALID. */
phx_code phx_note_send(phx_comm *comm, const void *data, size_t n_bytes, phx_error *err);
phx_code phx_note_recv(phx_comm *comm, void *ret_data, size_t n_bytes, phx_error *err);

/* What has moved since, and the counting of what a replayed recording (kernels/backend.h) moves: its verbs
 * were called once, when it was recorded. */
phx_comm_traffic phx_comm_traffic_since(const phx_comm *comm, const phx_comm_traffic *before);
void phx_comm_count(phx_comm *comm, const phx_comm_traffic *traffic);

/* All ranks of the group; start-up and shutdown only. */
phx_code phx_comm_barrier(phx_comm *comm, phx_error *err);

/* Until all verbs of this rank so far are done, for a communicator whose verbs only queue (comm_nccl.h);
 * elsewhere they are. Their buffers may be read and used again after it. */
phx_code phx_comm_wait(phx_comm *comm, phx_error *err);

/* Appends what moves the data and how, in one line without its end; for the log at start. */
phx_code phx_comm_describe(const phx_comm *comm, phx_buf *buf);

/* Appends the last verbs (at most n_last, 256 are kept) of every rank that this one can see, a line each,
 * with sequence number, kind, bytes and times: shows which rank did not reach a verb. Loop and shm see all
 * ranks, also killed ones; MPI sees itself. */
phx_code phx_comm_verbs(const phx_comm *comm, uint32_t n_last, phx_buf *buf);

/* From any thread: makes the verbs of this rank, running and future, fail soon; loop and shm
 * let the waits of its peers fail too. Idempotent. */
void phx_comm_abort(phx_comm *comm);
void phx_comm_destroy(phx_comm *comm); /* accepts NULL */

/* ---- making one ---- */

/* Ranks as threads of one process. Create the hub once, then one comm per rank. */
typedef struct phx_comm_hub phx_comm_hub;
phx_code phx_comm_hub_create(uint32_t n_ranks, phx_comm_hub **ret_hub, phx_error *err);
void phx_comm_hub_destroy(phx_comm_hub *hub);
phx_code phx_comm_loop_create(phx_comm_hub *hub, const phx_comm_shape *shape, phx_comm **ret_comm,
                              phx_error *err);

/* Ranks on one host. dir_name: a group-unique name from the coordinator ("phx-<hex>"); rank 0 makes the
 * segment, all attach, then it is unlinked so that the kernel frees it with the last process. Blocks until
 * all attached or deadline. */
phx_code phx_comm_shm_create(const char *segment_name, const phx_comm_shape *shape, phx_comm **ret_comm,
                             phx_error *err);
/* Bytes of shared memory that one rank accounts for (its slots), for the plan: 2 exchange_bytes, 2
 * stage_bytes, the notes and some pages. The loop backend takes as much per rank, the MPI backend no more. */
size_t phx_comm_shm_bytes(const phx_comm_shape *shape);

/* Ranks over MPI_COMM_WORLD (worker/main.c has called MPI_Init_thread; all verbs, create and destroy from
 * that one thread). MPI does not tell when a peer dies: its verbs then end by timeout_ms or abort. After a
 * failed verb requests stay open: the process must end soon, best without MPI_Finalize. Built with PHX_MPI.
 */
phx_code phx_comm_mpi_create(const phx_comm_shape *shape, phx_comm **ret_comm, phx_error *err);

#endif
