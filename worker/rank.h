/* worker/rank.h - one rank: the state that its two threads share.
 * Owns: the mailboxes between them and the few numbers that both read. The control thread (control.c) owns
 * the socket; the compute thread (rank_loop.c) owns everything that computes. */
#ifndef PHX_WORKER_RANK_H
#define PHX_WORKER_RANK_H

#include <stdatomic.h>

#include "worker/comm/comm.h"
#include "worker/mailbox.h"
#include "worker/weights.h"

typedef enum phx_rank_phase {
    PHX_RANK_STARTING,
    PHX_RANK_LOADING,
    PHX_RANK_CHECKING,
    PHX_RANK_READY
} phx_rank_phase;

typedef struct phx_rank_options {
    const char *coordinator; /* address of the coordinator's rank link */
    const char *key_file;    /* NULL on a Unix socket */
    uint64_t epoch;
    uint32_t rank;
    uint32_t n_ranks;
    uint32_t n_ranks_on_host;
    uint32_t host_rank;                    /* among the ranks of this host */
    const char *backend;                   /* "auto", "cpu", "cuda", "emu" */
    bool allow_unproven;                   /* kernels on architectures where they have never run */
    bool no_peers;                         /* devices shall not reach each other's memory */
    phx_code (*enter_mpi)(phx_error *err); /* called by the compute thread when ranks span hosts */
} phx_rank_options;

typedef struct phx_rank {
    phx_rank_options options;
    phx_mailbox *inbox;  /* frames for the compute thread: Assign, StepPlan */
    phx_mailbox *outbox; /* frames of the compute thread: Ready, StepResult, CapturePart, Failure */
    phx_load_progress load;
    phx_backend *device;      /* opened before the threads start; NULL: none */
    phx_error no_device;      /* why there is none */
    _Atomic int phase;        /* phx_rank_phase */
    _Atomic uint64_t n_steps; /* finished: the liveness counter */
    _Atomic uint64_t step;    /* in work, 0 when idle */
    _Atomic uint64_t resident_bytes;
    _Atomic uint64_t exchange_bytes;
    _Atomic uint64_t n_verbs;
    _Atomic uint64_t n_replays;     /* of the steps, those replayed as graphs */
    _Atomic int32_t capture_credit; /* parts that may still be sent */
    _Atomic(phx_comm *) comm;       /* for the control thread's abort; NULL before it exists */
    _Atomic bool stop;              /* asked to end, or the coordinator is gone */
    phx_error control_error;        /* why the control thread ended by itself; read it after joining */
} phx_rank;

/* Processors this process may use (cgroups and launchers narrow them): writes the first n_max numbers when
 * ret_cpus is not NULL, returns how many there are, at least 1. */
uint32_t phx_rank_cpus(int *ret_cpus, uint32_t n_max);

/* Opens the device that the options ask for; rank->device or rank->no_device says what came of it. */
void phx_rank_open_device(phx_rank *rank);

/* Body of the control thread; returns when the rank stops. user is the phx_rank. */
void *phx_rank_control(void *user);

/* Body of the compute thread (the process's first): serves until told to stop. The engine outlives it,
 * because the control thread may still abort its collectives; destroy it once that thread has ended. */
typedef struct phx_rank_engine phx_rank_engine;
phx_code phx_rank_serve(phx_rank *rank, phx_rank_engine **ret_engine, phx_error *err);
void phx_rank_engine_destroy(phx_rank_engine *engine); /* accepts NULL */

#endif
