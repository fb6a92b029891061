/* worker/comm/segment_verbs.c - the verbs of ranks that share memory.
 * Owns: the order of copies and barriers. Why two buffers are enough: a rank that has passed the barrier of
 * slot use k knows that all others have finished reading use k - 1, so it may write use k + 1 there. */
#include "worker/comm/segment.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "worker/comm/shape.h"
#include "worker/comm/tree.h"

/* Up to this many bytes of all ranks together every rank adds the whole tree itself: more additions, but one
 * barrier instead of two. Measured: the two ways break even at 64 KiB each for two ranks, 32 KiB for four. */
#define ONE_SHOT_BYTES 131072u

static phx_seg *seg_of(phx_comm *comm)
{
    return (phx_seg *)(void *)comm;
}

static phx_code done(phx_seg *seg, phx_code rc)
{
    if (rc == PHX_OK)
        phx_verb_end(&phx_seg_rank_of(seg, seg->base.shape.rank)->verbs);
    return rc;
}

/* Publishes the own arrival; the one who completes the barrier wakes all who sleep in it. */
static phx_code arrive(phx_seg *seg, const phx_seg_wait *wait, phx_error *err)
{
    phx_seg_publish(seg, wait->counter, wait->target);
    if (!phx_seg_reached(seg, wait))
        return phx_seg_await(seg, wait, err);
    for (uint32_t i = 0; i < wait->n; i++)
        if (wait->first + i != seg->base.shape.rank)
            phx_seg_ring(seg, wait->first + i);
    return PHX_OK;
}

static phx_code stage_barrier(phx_seg *seg, phx_error *err)
{
    const phx_comm_shape *shape = &seg->base.shape;
    seg->n_arrived_stage++;
    return arrive(seg,
                  &(phx_seg_wait){.counter = PHX_SEG_ARRIVED_STAGE,
                                  .target = seg->n_arrived_stage,
                                  .first = shape->rank / shape->tp * shape->tp,
                                  .n = shape->tp},
                  err);
}

phx_code phx_seg_barrier(phx_comm *comm, phx_error *err)
{
    phx_seg *seg = seg_of(comm);
    const phx_code rc = phx_seg_begin(seg, PHX_VERB_BARRIER, 0, err);
    if (rc != PHX_OK)
        return rc;
    seg->n_arrived_group++;
    const phx_seg_wait wait = {
        .counter = PHX_SEG_ARRIVED_GROUP, .target = seg->n_arrived_group, .first = 0, .n = seg->n_ranks};
    return done(seg, arrive(seg, &wait, err));
}

/* All ranks read all slots. */
static phx_code exchange_one_shot(phx_seg *seg, float *values, size_t n, phx_error *err)
{
    const phx_comm_shape *shape = &seg->base.shape;
    const uint32_t first = shape->rank / shape->tp * shape->tp;
    const uint64_t use = seg->n_slot_uses++;
    memcpy(phx_seg_slot(seg, shape->rank, use), values, n * sizeof(*values));
    const phx_code rc = stage_barrier(seg, err);
    if (rc != PHX_OK)
        return rc;
    const float *parts[PHX_TREE_PARTS_MAX] = {0};
    for (uint32_t r = 0; r < shape->tp; r++)
        parts[r] = phx_seg_slot(seg, first + r, use);
    phx_tree_add(values, parts, shape->tp, n);
    return PHX_OK;
}

/* Each rank sums its share. The sum replaces the share in the own slot, which nobody else reads there before
 * the second barrier. */
static phx_code exchange_two_phase(phx_seg *seg, float *values, size_t n, phx_error *err)
{
    const phx_comm_shape *shape = &seg->base.shape;
    const uint32_t tp_rank = shape->rank % shape->tp, first = shape->rank - tp_rank;
    const uint64_t use = seg->n_slot_uses++;
    float *own = phx_seg_slot(seg, shape->rank, use);
    memcpy(own, values, n * sizeof(*values));
    phx_code rc = stage_barrier(seg, err);
    if (rc != PHX_OK)
        return rc;
    const size_t at = phx_comm_cut(n, tp_rank, shape->tp);
    const float *parts[PHX_TREE_PARTS_MAX] = {0};
    for (uint32_t r = 0; r < shape->tp; r++)
        parts[r] = phx_seg_slot(seg, first + r, use) + at;
    phx_tree_add(own + at, parts, shape->tp, phx_comm_cut(n, tp_rank + 1, shape->tp) - at);
    rc = stage_barrier(seg, err);
    if (rc != PHX_OK)
        return rc;
    for (uint32_t r = 0; r < shape->tp; r++) {
        const size_t from = phx_comm_cut(n, r, shape->tp), to = phx_comm_cut(n, r + 1, shape->tp);
        memcpy(values + from, phx_seg_slot(seg, first + r, use) + from, (to - from) * sizeof(*values));
    }
    return PHX_OK;
}

phx_code phx_seg_exchange(phx_comm *comm, float *values, size_t n, phx_error *err)
{
    phx_seg *seg = seg_of(comm);
    const size_t n_bytes = n * sizeof(*values);
    const phx_code rc = phx_seg_begin(seg, PHX_VERB_EXCHANGE, n_bytes, err);
    if (rc != PHX_OK)
        return rc;
    if (n == 0 || comm->shape.tp == 1)
        return done(seg, PHX_OK);
    assert(n_bytes <= comm->shape.exchange_bytes);
    return done(seg, n_bytes * comm->shape.tp <= ONE_SHOT_BYTES ? exchange_one_shot(seg, values, n, err)
                                                                : exchange_two_phase(seg, values, n, err));
}

/* One cut of a gather: bytes at .. at + n_cut of every rank's part of n_bytes. */
static phx_code gather_cut(phx_seg *seg, const uint8_t *mine, size_t n_bytes, size_t at, uint8_t *all,
                           phx_error *err)
{
    const phx_comm_shape *shape = &seg->base.shape;
    const uint32_t tp_rank = shape->rank % shape->tp, first = shape->rank - tp_rank;
    const size_t n_cut = n_bytes - at < shape->exchange_bytes ? n_bytes - at : shape->exchange_bytes;
    const uint64_t use = seg->n_slot_uses++;
    memcpy(phx_seg_slot(seg, shape->rank, use), mine + at, n_cut);
    const phx_code rc = stage_barrier(seg, err);
    if (rc != PHX_OK)
        return rc;
    for (uint32_t r = 0; r < shape->tp; r++)
        if (r != tp_rank)
            memcpy(all + r * n_bytes + at, phx_seg_slot(seg, first + r, use), n_cut);
    return PHX_OK;
}

phx_code phx_seg_gather(phx_comm *comm, const void *mine, size_t n_bytes, void *all, phx_error *err)
{
    phx_seg *seg = seg_of(comm);
    const phx_comm_shape *shape = &comm->shape;
    phx_code rc = phx_seg_begin(seg, PHX_VERB_GATHER, n_bytes, err);
    if (rc != PHX_OK)
        return rc;
    uint8_t *own_place = (uint8_t *)all + (shape->rank % shape->tp) * n_bytes;
    if (n_bytes && mine != own_place)
        memcpy(own_place, mine, n_bytes);
    if (shape->tp > 1)
        for (size_t at = 0; at < n_bytes && rc == PHX_OK; at += shape->exchange_bytes)
            rc = gather_cut(seg, mine, n_bytes, at, all, err);
    return done(seg, rc);
}

/* ---- messages: a ring of slots at the sender, a counter at each end ---- */

typedef struct letterbox {
    phx_seg_counter put, taken;
    phx_seg_message *(*slot)(const phx_seg *seg, uint32_t rank, uint64_t n);
    uint32_t depth;
} letterbox;

static const letterbox mail = {PHX_SEG_SENT, PHX_SEG_TAKEN, phx_seg_mail, PHX_COMM_STAGE_DEPTH};

static letterbox notes_of(const phx_seg *seg)
{
    return (letterbox){PHX_SEG_NOTED, PHX_SEG_READ, phx_seg_note, phx_comm_n_notes(&seg->base.shape)};
}

static uint32_t same_tp_rank(const phx_seg *seg, uint32_t stage)
{
    const phx_comm_shape *shape = &seg->base.shape;
    return stage * shape->tp + shape->rank % shape->tp;
}

/* n_put: messages so far. */
static phx_code put(phx_seg *seg, const letterbox *box, uint64_t *n_put, uint32_t to, phx_bytes message,
                    phx_error *err)
{
    phx_code rc = PHX_OK;
    if (*n_put >= box->depth)
        rc = phx_seg_await(
            seg,
            &(phx_seg_wait){.counter = box->taken, .target = *n_put + 1 - box->depth, .first = to, .n = 1},
            err);
    if (rc != PHX_OK)
        return rc;
    phx_seg_message *slot = box->slot(seg, seg->base.shape.rank, *n_put);
    slot->n_bytes = message.n;
    if (message.n)
        memcpy(slot + 1, message.ptr, message.n);
    phx_seg_publish(seg, box->put, ++*n_put);
    phx_seg_ring(seg, to);
    return done(seg, PHX_OK);
}

static phx_code take(phx_seg *seg, const letterbox *box, uint64_t *n_taken, uint32_t from, size_t n_bytes,
                     void *data, phx_error *err)
{
    const phx_code rc = phx_seg_await(
        seg, &(phx_seg_wait){.counter = box->put, .target = *n_taken + 1, .first = from, .n = 1}, err);
    if (rc != PHX_OK)
        return rc;
    const phx_seg_message *slot = box->slot(seg, from, *n_taken);
    if (slot->n_bytes != n_bytes)
        return phx_seg_fail(seg, PHX_ERR_COMM, from, err,
                            "rank %" PRIu32 " sent %" PRIu64 " bytes where rank %" PRIu32 " expects %zu",
                            from, slot->n_bytes, seg->base.shape.rank, n_bytes);
    if (n_bytes)
        memcpy(data, slot + 1, n_bytes);
    phx_seg_publish(seg, box->taken, ++*n_taken);
    phx_seg_ring(seg, from);
    return done(seg, PHX_OK);
}

phx_code phx_seg_send(phx_comm *comm, uint32_t to_stage, const void *data, size_t n_bytes, phx_error *err)
{
    phx_seg *seg = seg_of(comm);
    const phx_code rc = phx_seg_begin(seg, PHX_VERB_SEND, n_bytes, err);
    const phx_bytes message = {data, n_bytes};
    return rc == PHX_OK ? put(seg, &mail, &seg->n_sent, same_tp_rank(seg, to_stage), message, err) : rc;
}

phx_code phx_seg_recv(phx_comm *comm, uint32_t from_stage, void *data, size_t n_bytes, phx_error *err)
{
    phx_seg *seg = seg_of(comm);
    const phx_code rc = phx_seg_begin(seg, PHX_VERB_RECV, n_bytes, err);
    const uint32_t from = same_tp_rank(seg, from_stage);
    return rc == PHX_OK ? take(seg, &mail, &seg->n_taken, from, n_bytes, data, err) : rc;
}

phx_code phx_seg_note_send(phx_comm *comm, const void *data, size_t n_bytes, phx_error *err)
{
    phx_seg *seg = seg_of(comm);
    const letterbox notes = notes_of(seg);
    const phx_code rc = phx_seg_begin(seg, PHX_VERB_NOTE_SEND, n_bytes, err);
    const phx_bytes message = {data, n_bytes};
    return rc == PHX_OK ? put(seg, &notes, &seg->n_noted, same_tp_rank(seg, 0), message, err) : rc;
}

phx_code phx_seg_note_recv(phx_comm *comm, void *data, size_t n_bytes, phx_error *err)
{
    phx_seg *seg = seg_of(comm);
    const letterbox notes = notes_of(seg);
    const phx_code rc = phx_seg_begin(seg, PHX_VERB_NOTE_RECV, n_bytes, err);
    const uint32_t from = same_tp_rank(seg, comm->shape.pp - 1);
    return rc == PHX_OK ? take(seg, &notes, &seg->n_read, from, n_bytes, data, err) : rc;
}

phx_code phx_seg_verbs(const phx_comm *comm, uint32_t n_last, phx_buf *buf)
{
    const phx_seg *seg = (const phx_seg *)(const void *)comm;
    for (uint32_t rank = 0; rank < seg->n_ranks; rank++)
        (void)phx_verb_print(&phx_seg_rank_of(seg, rank)->verbs, rank, n_last, buf);
    return buf->code;
}
