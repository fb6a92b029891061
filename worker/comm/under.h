/* worker/comm/under.h - what a backend offers to another one that stands on it. Internal to worker/comm.
 * comm_nccl.c moves data through NCCL, which neither sees that a process on its own host has died nor ends a
 * wait: the group it stands on (loop, shm or mpi) carries the meeting of the ranks, the deadlines, the
 * failures and the ring of verbs, so that these rules are the same for every backend. */
#ifndef PHX_WORKER_COMM_UNDER_H
#define PHX_WORKER_COMM_UNDER_H

#include <stdbool.h>

#include "worker/comm/comm.h"
#include "worker/comm/verbs.h"

typedef struct phx_comm_watch {
    uint32_t first, n; /* ranks that the caller waits for */
    bool timed;        /* the deadline of the running verb counts */
    bool departed;     /* one of them that has left in good order will not come any more */
    bool urgent;       /* look after the processes now, not only from time to time */
} phx_comm_watch;

struct phx_comm_under {
    /* Begins a verb: refuses when the communicator is dead or aborted. */
    phx_code (*begin)(phx_comm *comm, phx_verb_kind kind, size_t payload_bytes, phx_error *err);
    void (*end)(phx_comm *comm);
    /* One look, to be repeated while waiting: fails on abort, on a failed or lost rank, past the deadline. */
    phx_code (*watch)(phx_comm *comm, const phx_comm_watch *watch, phx_error *err);
    /* Makes the communicator dead for the reason in cause, which peers may see; returns its code. */
    phx_code (*fail)(phx_comm *comm, const phx_error *cause, phx_error *err);
    /* Verbs count from 1 again: what the start needed is not shown. */
    void (*reset)(phx_comm *comm);
};

#endif
