/* worker/comm/segment_under.c - ranks that share memory, as the ground of another backend (under.h).
 * Owns: one look at the group while that backend waits. The rules are those of phx_seg_await. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "worker/comm/segment.h"

#define CHECK_US 200000u /* between two looks at the processes of the others */

static phx_code seg_begin(phx_comm *comm, phx_verb_kind kind, size_t payload_bytes, phx_error *err);
static void seg_end(phx_comm *comm);
static phx_code seg_watch(phx_comm *comm, const phx_comm_watch *watch, phx_error *err);
static phx_code seg_fail(phx_comm *comm, const phx_error *cause, phx_error *err);
static void seg_reset(phx_comm *comm);

const phx_comm_under phx_seg_under = {
    .begin = seg_begin, .end = seg_end, .watch = seg_watch, .fail = seg_fail, .reset = seg_reset};

static phx_seg *seg_of(phx_comm *comm)
{
    return (phx_seg *)(void *)comm;
}

static phx_verb_ring *own_ring(const phx_seg *seg)
{
    return &phx_seg_rank_of(seg, seg->base.shape.rank)->verbs;
}

static phx_code seg_begin(phx_comm *comm, phx_verb_kind kind, size_t payload_bytes, phx_error *err)
{
    return phx_seg_begin(seg_of(comm), kind, payload_bytes, err);
}

static void seg_end(phx_comm *comm)
{
    phx_verb_end(own_ring(seg_of(comm)));
}

static void seg_reset(phx_comm *comm)
{
    phx_verb_reset(own_ring(seg_of(comm)));
}

/* "1, 3": those whose last verb is an earlier one. Ranks of one stage have the same verbs; of another stage
 * only the one that this rank waits for is in question. */
static void list_late(const phx_seg *seg, const phx_comm_watch *watch, char *text, size_t text_bytes)
{
    const uint32_t own = seg->base.shape.rank, tp = seg->base.shape.tp;
    const uint64_t n_own = atomic_load(&own_ring(seg)->n_verbs);
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t rank = watch->first; rank - watch->first < watch->n && used + 16 < text_bytes; rank++) {
        const bool same_stage = rank / tp == own / tp;
        if (rank == own || (same_stage && atomic_load(&phx_seg_rank_of(seg, rank)->verbs.n_verbs) >= n_own))
            continue;
        const int n = snprintf(text + used, text_bytes - used, "%s%" PRIu32, used ? ", " : "", rank);
        used += n > 0 ? (size_t)n : 0;
    }
}

static phx_code check_departed(phx_seg *seg, const phx_comm_watch *watch, phx_error *err)
{
    for (uint32_t i = 0; i < watch->n; i++) {
        const uint32_t rank = watch->first + i;
        if (rank != seg->base.shape.rank && atomic_load(&phx_seg_rank_of(seg, rank)->state) == PHX_SEG_LEFT)
            return phx_seg_fail(seg, PHX_ERR_COMM, rank, err,
                                "rank %" PRIu32 " has left the group while rank %" PRIu32 " waits for it",
                                rank, seg->base.shape.rank);
    }
    return PHX_OK;
}

static phx_code seg_watch(phx_comm *comm, const phx_comm_watch *watch, phx_error *err)
{
    phx_seg *seg = seg_of(comm);
    const phx_comm_shape *shape = &comm->shape;
    if (seg->dead.code != PHX_OK)
        return PHX_FAIL(err, seg->dead.code, "the communicator is dead: %s", seg->dead.text);
    if (atomic_load(&seg->aborted))
        return phx_seg_fail(seg, PHX_ERR_COMM, shape->rank, err, "rank %" PRIu32 " was aborted", shape->rank);
    const uint64_t now_us = phx_steady_us(&seg->clock, phx_clock_us());
    const bool check_processes = watch->urgent || now_us >= seg->next_check_us;
    if (check_processes)
        seg->next_check_us = now_us + CHECK_US;
    phx_code rc = phx_seg_check_group(seg, NULL, check_processes, err);
    if (rc == PHX_OK && watch->departed)
        rc = check_departed(seg, watch, err);
    if (rc != PHX_OK || !watch->timed || !seg->deadline_us || now_us < seg->deadline_us)
        return rc;
    const phx_verb_ring *verbs = own_ring(seg);
    char ranks[160];
    list_late(seg, watch, ranks, sizeof(ranks));
    return phx_seg_fail(seg, PHX_ERR_COMM, watch->first, err,
                        "rank %" PRIu32 ", %s (verb %" PRIu64 "): rank %s had not arrived after %" PRIu32
                        " ms",
                        shape->rank, phx_verb_name(phx_verb_last_kind(verbs)), phx_verb_last_sequence(verbs),
                        ranks[0] ? ranks : "?", shape->timeout_ms);
}

static phx_code seg_fail(phx_comm *comm, const phx_error *cause, phx_error *err)
{
    return phx_seg_fail(seg_of(comm), cause->code, comm->shape.rank, err, "%s", cause->text);
}
