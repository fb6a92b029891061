/* worker/comm/segment.h - ranks that share memory: layout, waiting, failing. Internal to worker/comm.
 * Owns: what lies in the memory and the rules of who writes which word. The memory itself belongs to
 * comm_loop.c (heap of one process) or comm_shm.c (mapping); the verbs are in segment_verbs.c.
 *
 * One section per rank, in rank order, each a whole number of pages:
 *   group words (used in section 0) | rank words and verb ring | 2 exchange slots | stage mailbox | notes
 * Every word is written by its rank alone, but `bell` and `sleeping` (anyone) and `cause` (first failure). */
#ifndef PHX_WORKER_COMM_SEGMENT_H
#define PHX_WORKER_COMM_SEGMENT_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/clock.h"
#include "worker/comm/comm.h"
#include "worker/comm/peer.h"
#include "worker/comm/under.h"
#include "worker/comm/verbs.h"

/* Each counts up by one and never back. A wait is always: these ranks' counter has reached a target. */
typedef enum phx_seg_counter {
    PHX_SEG_ARRIVED_STAGE, /* barriers of the tp ranks of a stage */
    PHX_SEG_ARRIVED_GROUP, /* barriers of all ranks */
    PHX_SEG_SENT,          /* messages put into the own mailbox */
    PHX_SEG_TAKEN,         /* messages taken from the mailbox of the stage before */
    PHX_SEG_NOTED,         /* notes written, on the last stage */
    PHX_SEG_READ,          /* notes read, on the first */
    PHX_SEG_COUNTER_COUNT
} phx_seg_counter;

typedef enum phx_seg_state {
    PHX_SEG_ABSENT, /* has not joined yet */
    PHX_SEG_ALIVE,
    PHX_SEG_FAILED,  /* a verb of it failed; the cause is in the group words */
    PHX_SEG_ABORTED, /* its owner called phx_comm_abort */
    PHX_SEG_LEFT     /* destroyed in good order */
} phx_seg_state;

typedef struct phx_seg_rank {
    _Alignas(64) _Atomic uint64_t counters[PHX_SEG_COUNTER_COUNT];
    _Alignas(64) _Atomic uint32_t bell; /* futex: changes when the sleeper should look again */
    _Atomic uint32_t sleeping;
    _Alignas(64) _Atomic uint32_t state; /* phx_seg_state */
    phx_peer process;                    /* valid once state is not ABSENT */
    phx_verb_ring verbs;
} phx_seg_rank;

typedef struct phx_seg_group {
    _Alignas(64) _Atomic uint64_t magic; /* set last by rank 0 */
    uint64_t fingerprint;                /* layout and shape; all ranks must compute the same */
    _Atomic uint32_t complete;           /* all ranks have joined, the name is gone */
    _Atomic uint64_t cause;              /* 0, or code << 32 | rank + 1 that the first failure was about */
} phx_seg_group;

typedef struct phx_seg_message { /* head of a mailbox entry, payload follows */
    _Alignas(64) uint64_t n_bytes;
} phx_seg_message;

typedef struct phx_seg { /* one rank's view */
    phx_comm base;
    uint8_t *memory;
    size_t section_bytes;
    uint32_t n_ranks;
    uint32_t n_looks; /* at the counters between two yields of a wait */
    phx_peer self;
    uint64_t n_arrived_stage, n_arrived_group, n_slot_uses, n_sent, n_taken, n_noted, n_read;
    _Atomic uint32_t aborted;
    phx_steady clock;
    uint64_t deadline_us;   /* of the running verb, on that clock; 0: none */
    uint64_t next_check_us; /* when to look after the processes of the others again */
    phx_error dead;         /* code PHX_OK: alive */
} phx_seg;

typedef struct phx_seg_wait { /* until counter of each of the ranks first .. first + n - 1 >= target */
    phx_seg_counter counter;
    uint64_t target;
    uint32_t first, n;
} phx_seg_wait;

/* Bytes of one rank's section; the shape must be checked. */
size_t phx_seg_bytes(const phx_comm_shape *shape);
uint64_t phx_seg_fingerprint(const phx_comm_shape *shape);

/* Fills a view of zeroed or joined memory of n_ranks sections. */
void phx_seg_init(phx_seg *seg, const phx_comm_ops *ops, const phx_comm_shape *shape, uint8_t *memory);
void phx_seg_join(phx_seg *seg);  /* state ALIVE, process named */
void phx_seg_leave(phx_seg *seg); /* state LEFT unless it failed; wakes who waits for this rank */
void phx_seg_abort(phx_seg *seg); /* from any thread */

phx_seg_group *phx_seg_group_of(const phx_seg *seg);
phx_seg_rank *phx_seg_rank_of(const phx_seg *seg, uint32_t rank);
float *phx_seg_slot(const phx_seg *seg, uint32_t rank, uint64_t use);               /* exchange_bytes */
phx_seg_message *phx_seg_mail(const phx_seg *seg, uint32_t rank, uint64_t n_sent);  /* + stage_bytes */
phx_seg_message *phx_seg_note(const phx_seg *seg, uint32_t rank, uint64_t n_noted); /* + note_bytes */

/* Starts a verb: refuses when the communicator is dead or aborted. */
phx_code phx_seg_begin(phx_seg *seg, phx_verb_kind kind, size_t payload_bytes, phx_error *err);

/* Publishes an own counter. What was written before is visible to those who see the count. */
void phx_seg_publish(phx_seg *seg, phx_seg_counter counter, uint64_t value);
bool phx_seg_reached(const phx_seg *seg, const phx_seg_wait *wait);
void phx_seg_ring(phx_seg *seg, uint32_t rank); /* wakes it if it sleeps */

/* Spins, yields, then sleeps until reached; fails on abort, timeout, a failed or lost rank. */
phx_code phx_seg_await(phx_seg *seg, const phx_seg_wait *wait, phx_error *err);

/* Makes the communicator dead, tells the others, and returns code. culprit: the rank it is about. */
phx_code phx_seg_fail(phx_seg *seg, phx_code code, uint32_t culprit, phx_error *err, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* First failure that another rank has published, or a process that is gone (looked up when check_processes):
 * PHX_OK when there is none. wait: whom a clean departure matters to; may be NULL. */
phx_code phx_seg_check_group(phx_seg *seg, const phx_seg_wait *wait, bool check_processes, phx_error *err);

/* ---- segment_under.c: for a backend that stands on this one ---- */
extern const phx_comm_under phx_seg_under;

/* ---- segment_verbs.c: entries of both backends' tables ---- */
phx_code phx_seg_exchange(phx_comm *comm, float *values, size_t n, phx_error *err);
phx_code phx_seg_gather(phx_comm *comm, const void *mine, size_t n_bytes, void *all, phx_error *err);
phx_code phx_seg_send(phx_comm *comm, uint32_t to_stage, const void *data, size_t n_bytes, phx_error *err);
phx_code phx_seg_recv(phx_comm *comm, uint32_t from_stage, void *data, size_t n_bytes, phx_error *err);
phx_code phx_seg_note_send(phx_comm *comm, const void *data, size_t n_bytes, phx_error *err);
phx_code phx_seg_note_recv(phx_comm *comm, void *data, size_t n_bytes, phx_error *err);
phx_code phx_seg_barrier(phx_comm *comm, phx_error *err);
phx_code phx_seg_verbs(const phx_comm *comm, uint32_t n_last, phx_buf *buf);

#endif
