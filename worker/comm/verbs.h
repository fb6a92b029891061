/* worker/comm/verbs.h - the last verbs of one rank, for the question "who did not reach verb N".
 * Owns: the ring and how it is printed. It may lie in shared memory: one rank writes, any rank prints, so
 * that a survivor can show what a killed rank did last. */
#ifndef PHX_WORKER_COMM_VERBS_H
#define PHX_WORKER_COMM_VERBS_H

#include "base/buf.h"

#include <stdatomic.h>
#include <stdint.h>

#define PHX_VERB_RING 256u

typedef enum phx_verb_kind {
    PHX_VERB_EXCHANGE,
    PHX_VERB_GATHER,
    PHX_VERB_SEND,
    PHX_VERB_RECV,
    PHX_VERB_NOTE_SEND,
    PHX_VERB_NOTE_RECV,
    PHX_VERB_BARRIER,
    PHX_VERB_WAIT, /* for verbs that were only queued */
    PHX_VERB_KIND_COUNT
} phx_verb_kind;

/* Fields are atomic because others may print while the owner writes; a record seen half written has a
 * sequence that does not fit its place and is left out, or shows the older times. */
typedef struct phx_verb_record {
    _Atomic uint64_t sequence; /* from 1; 0: never used */
    _Atomic uint64_t kind;
    _Atomic uint64_t payload_bytes;
    _Atomic uint64_t start_us; /* monotonic clock */
    _Atomic uint64_t end_us;   /* 0 while it runs */
} phx_verb_record;

typedef struct phx_verb_ring { /* starts all zero */
    _Atomic uint64_t n_verbs;
    phx_verb_record records[PHX_VERB_RING];
} phx_verb_ring;

void phx_verb_begin(phx_verb_ring *ring, phx_verb_kind kind, uint64_t payload_bytes);
void phx_verb_end(phx_verb_ring *ring);
void phx_verb_reset(phx_verb_ring *ring); /* as at the start; by the owner */

const char *phx_verb_name(phx_verb_kind kind); /* "exchange" */

/* Kind and sequence of the last verb begun; the ring must hold one. */
phx_verb_kind phx_verb_last_kind(const phx_verb_ring *ring);
uint64_t phx_verb_last_sequence(const phx_verb_ring *ring);

/* Appends one line per verb, oldest first, at most n_last of them:
 * "rank 3  verb 1207  exchange  16384 bytes  start 12.345678 s  took 0.000021 s" (or "running"). */
phx_code phx_verb_print(const phx_verb_ring *ring, uint32_t rank, uint32_t n_last, phx_buf *buf);

#endif
