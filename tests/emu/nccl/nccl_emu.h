/* tests/emu/nccl/nccl_emu.h - the stand-in for NCCL: what its files share.
 * libnccl_emu.so has the names and types of NCCL's C interface, for streams of the emulator
 * (tests/emu/stream.h) and host memory, between threads and processes of one host. It behaves as NCCL does
 * where callers go wrong: nothing is queued before ncclCommGetAsyncError has been asked; a collective that a
 * peer does not reach spins until the communicator is aborted; a sender waits for its receiver; what is
 * queued on one communicator runs in order; one that ends frees memory of the device, so it waits until all
 * that the communicators of the thread that made it (which has one device) have queued is over; and it waits
 * until the recordings that name it have gone. It is stricter where NCCL would hang or compute garbage: other
 * sizes or another order of calls on a peer is ncclInvalidUsage. ncclAllReduce adds from the last rank to the
 * first, which is no tree. Not here: more than 8 ranks, groups of calls other than sends and receives, both
 * directions between two ranks outside of a group. */
#ifndef PHX_TESTS_NCCL_EMU_H
#define PHX_TESTS_NCCL_EMU_H

#include <pthread.h>

#include "tests/emu/stream.h"
#include "worker/comm/nccl_api.h"
#include "worker/comm/segment.h"

#define PHX_NCCL_EMU_RANKS_MAX 8u

/* What an id says: whose memory to open. */
typedef struct nccl_emu_id {
    uint64_t magic;
    uint64_t nonce; /* also in the memory: the number of a file may have been given again */
    int32_t pid, fd;
} nccl_emu_id;

struct ncclComm {
    _Atomic uint32_t n_users; /* the owner, and what is queued */
    _Atomic uint32_t result;  /* phx_nccl_result; in progress until all are there */
    _Atomic uint32_t aborted;
    _Atomic uint32_t n_queued;
    _Atomic uint32_t n_recorded; /* ops of recordings */
    struct ncclComm *next;       /* of the process */
    pthread_t maker;
    uint32_t n_ranks, rank;
    nccl_emu_id id;
    pthread_t starter;
    bool starter_runs; /* until joined */
    uint8_t *memory;
    size_t memory_bytes;
    phx_seg all;  /* tp n_ranks: collectives */
    phx_seg pair; /* pp 2, when there are two ranks: single messages */
    uint64_t sequence;
    uint32_t direction;          /* of single messages: 0 none yet, 1 sends, 2 receives */
    struct nccl_emu_op *waiting; /* called, not yet queued */
    bool finalizing;
    uint32_t n_asked; /* times that the state has been asked for since */
    char text[512];
};

typedef enum nccl_emu_kind { ALL_GATHER = 1, ALL_REDUCE, SEND, RECV, EACH_TO_EACH } nccl_emu_kind;

typedef struct nccl_emu_part { /* one send or receive of a group */
    const void *from;
    void *to;
    size_t n_bytes;
} nccl_emu_part;

typedef struct nccl_emu_op {
    struct nccl_emu_op *next;
    struct ncclComm *comm;
    phx_emu_stream *stream;
    nccl_emu_kind kind;
    const void *from;
    void *to;
    size_t n_bytes; /* of one rank */
    nccl_emu_part sends[PHX_NCCL_EMU_RANKS_MAX], recvs[PHX_NCCL_EMU_RANKS_MAX];
} nccl_emu_op;

/* nccl_emu_ops.c: runs an op on its stream's thread, then frees it. */
void phx_nccl_emu_run(void *op);

/* The same for an op of a recording, which stays, and its end. */
void phx_nccl_emu_run_again(void *op);
void phx_nccl_emu_drop(void *op);

/* nccl_emu.c */
void phx_nccl_emu_release(struct ncclComm *comm);

#endif
