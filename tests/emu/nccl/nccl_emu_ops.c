/* tests/emu/nccl/nccl_emu_ops.c - what the stand-in's collectives do, on the thread of a stream. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "tests/emu/nccl/nccl_emu.h"

typedef struct head { /* what ranks compare before data moves */
    uint64_t sequence, kind, n_bytes;
    uint64_t to[PHX_NCCL_EMU_RANKS_MAX]; /* bytes for each rank, of a group */
} head;

static phx_code disagree(struct ncclComm *c, uint32_t peer, const char *what, phx_error *err)
{
    (void)snprintf(c->text, sizeof(c->text), "rank %" PRIu32 " and rank %" PRIu32 " of the communicator: %s",
                   c->rank, peer, what);
    return PHX_FAIL(err, PHX_ERR_INVALID, "%s", c->text);
}

/* Everyone's heads; all must be of one call. */
static phx_code meet(struct ncclComm *c, const nccl_emu_op *op, head *all, phx_error *err)
{
    head mine = {.sequence = ++c->sequence, .kind = op->kind, .n_bytes = op->n_bytes};
    for (uint32_t r = 0; r < c->n_ranks; r++)
        mine.to[r] = op->sends[r].n_bytes;
    const phx_code rc = phx_seg_gather(&c->all.base, &mine, sizeof(mine), all, err);
    for (uint32_t r = 0; r < c->n_ranks && rc == PHX_OK; r++)
        if (all[r].sequence != mine.sequence || all[r].kind != mine.kind || all[r].n_bytes != mine.n_bytes)
            return disagree(c, r, "other calls or sizes", err);
    return rc;
}

/* The caller's memory is the device's: it is copied to the host before ranks meet, and back after. */
static void fetch(const nccl_emu_op *op, void *to, const void *from, size_t n_bytes)
{
    if (n_bytes)
        op->stream->fns->copy(op->stream, to, from, n_bytes);
}

static phx_code gather(struct ncclComm *c, const nccl_emu_op *op, phx_error *err)
{
    uint8_t *mine = phx_alloc(1, op->n_bytes + 1), *all = phx_alloc(c->n_ranks, op->n_bytes + 1);
    phx_code rc = mine && all ? PHX_OK : PHX_FAIL(err, PHX_ERR_NOMEM, "gather");
    if (rc == PHX_OK) {
        fetch(op, mine, op->from, op->n_bytes);
        rc = phx_seg_gather(&c->all.base, mine, op->n_bytes, all, err);
    }
    if (rc == PHX_OK)
        fetch(op, op->to, all, c->n_ranks * op->n_bytes);
    phx_free(mine);
    phx_free(all);
    return rc;
}

static phx_code all_reduce(struct ncclComm *c, const nccl_emu_op *op, phx_error *err)
{
    const size_t n = op->n_bytes / sizeof(float);
    float *mine = phx_alloc(1, op->n_bytes + 1), *all = phx_alloc(c->n_ranks, op->n_bytes + 1);
    phx_code rc = mine && all ? PHX_OK : PHX_FAIL(err, PHX_ERR_NOMEM, "all-reduce");
    if (rc == PHX_OK) {
        fetch(op, mine, op->from, op->n_bytes);
        rc = phx_seg_gather(&c->all.base, mine, op->n_bytes, all, err);
    }
    for (size_t i = 0; i < n && rc == PHX_OK; i++) {
        mine[i] = all[(c->n_ranks - 1) * n + i];
        for (uint32_t r = c->n_ranks - 1; r-- > 0;)
            mine[i] += all[r * n + i];
    }
    if (rc == PHX_OK)
        fetch(op, op->to, mine, op->n_bytes);
    phx_free(mine);
    phx_free(all);
    return rc;
}

/* All messages of a rank lie one after the other, in the order of receivers; everyone sees everyone's. */
static phx_code each_to_each(struct ncclComm *c, const nccl_emu_op *op, const head *heads, phx_error *err)
{
    size_t longest = 0, at = 0;
    for (uint32_t r = 0; r < c->n_ranks; r++) {
        size_t n = 0;
        for (uint32_t to = 0; to < c->n_ranks; to++)
            n += heads[r].to[to];
        longest = n > longest ? n : longest;
        if (heads[r].to[c->rank] != op->recvs[r].n_bytes)
            return disagree(c, r, "a message of another size than is received", err);
    }
    uint8_t *mine = phx_alloc(1, longest + 1), *all = phx_alloc(c->n_ranks, longest + 1);
    phx_code rc = mine && all ? PHX_OK : PHX_FAIL(err, PHX_ERR_NOMEM, "group of messages");
    for (uint32_t r = 0; r < c->n_ranks && rc == PHX_OK; r++) {
        fetch(op, mine + at, op->sends[r].from, op->sends[r].n_bytes);
        at += op->sends[r].n_bytes;
    }
    if (rc == PHX_OK)
        rc = phx_seg_gather(&c->all.base, mine, longest, all, err);
    for (uint32_t r = 0; r < c->n_ranks && rc == PHX_OK; r++) {
        const uint8_t *from = all + r * longest;
        for (uint32_t to = 0; to < c->rank; to++)
            from += heads[r].to[to];
        fetch(op, op->recvs[r].to, from, op->recvs[r].n_bytes);
    }
    phx_free(mine);
    phx_free(all);
    return rc;
}

static phx_code single(struct ncclComm *c, const nccl_emu_op *op, phx_error *err)
{
    const uint32_t peer = 1 - c->rank, direction = op->kind == SEND ? 1 : 2;
    const size_t piece = c->pair.base.shape.stage_bytes;
    uint64_t n_bytes = op->n_bytes;
    uint8_t taken = 0;
    if (c->direction && c->direction != direction)
        return disagree(c, peer, "messages in both directions", err);
    c->direction = direction;
    phx_code rc = direction == 1 ? phx_seg_send(&c->pair.base, peer, &n_bytes, sizeof(n_bytes), err)
                                 : phx_seg_recv(&c->pair.base, peer, &n_bytes, sizeof(n_bytes), err);
    if (rc == PHX_OK && n_bytes != op->n_bytes)
        return disagree(c, peer, "a message of another size than is received", err);
    uint8_t *host = phx_alloc(1, piece);
    if (!host)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "message");
    for (size_t at = 0; at < op->n_bytes && rc == PHX_OK; at += piece) {
        const size_t n = op->n_bytes - at < piece ? op->n_bytes - at : piece;
        if (direction == 1) {
            fetch(op, host, (const uint8_t *)op->from + at, n);
            rc = phx_seg_send(&c->pair.base, peer, host, n, err);
            continue;
        }
        rc = phx_seg_recv(&c->pair.base, peer, host, n, err);
        if (rc == PHX_OK)
            fetch(op, (uint8_t *)op->to + at, host, n);
    }
    phx_free(host);
    if (rc != PHX_OK)
        return rc;
    return direction == 1 ? phx_seg_recv(&c->pair.base, peer, &taken, 1, err)
                          : phx_seg_send(&c->pair.base, peer, &taken, 1, err);
}

static phx_code run(struct ncclComm *c, const nccl_emu_op *op, phx_error *err)
{
    head heads[PHX_NCCL_EMU_RANKS_MAX];
    if (op->kind == SEND || op->kind == RECV)
        return single(c, op, err);
    const phx_code rc = meet(c, op, heads, err);
    if (rc != PHX_OK)
        return rc;
    if (op->kind == ALL_GATHER)
        return gather(c, op, err);
    return op->kind == ALL_REDUCE ? all_reduce(c, op, err) : each_to_each(c, op, heads, err);
}

void phx_nccl_emu_run(void *arg)
{
    nccl_emu_op *op = NULL;
    memcpy(&op, arg, sizeof(op));
    struct ncclComm *c = op->comm;
    phx_error err = {0};
    const phx_code rc = atomic_load(&c->aborted) ? PHX_OK : run(c, op, &err);
    if (rc != PHX_OK) {
        if (rc != PHX_ERR_INVALID)
            (void)snprintf(c->text, sizeof(c->text), "%s", err.text);
        atomic_store(&c->result, rc == PHX_ERR_INVALID     ? PHX_NCCL_INVALID_USAGE
                                 : rc == PHX_ERR_PEER_LOST ? PHX_NCCL_REMOTE_ERROR
                                                           : PHX_NCCL_SYSTEM_ERROR);
        while (!atomic_load(&c->aborted)) /* as a kernel that spins for its peer */
            (void)usleep(1000);
    }
    phx_free(op);
    atomic_fetch_sub(&c->n_queued, 1);
    phx_nccl_emu_release(c);
}

void phx_nccl_emu_run_again(void *arg)
{
    nccl_emu_op *op = NULL, *once = phx_alloc(1, sizeof(*once));
    memcpy(&op, arg, sizeof(op));
    if (!once) {
        atomic_store(&op->comm->result, PHX_NCCL_SYSTEM_ERROR);
        return;
    }
    *once = *op;
    (void)atomic_fetch_add(&op->comm->n_users, 1);
    (void)atomic_fetch_add(&op->comm->n_queued, 1);
    phx_nccl_emu_run(&once);
}

void phx_nccl_emu_drop(void *arg)
{
    nccl_emu_op *op = NULL;
    memcpy(&op, arg, sizeof(op));
    atomic_fetch_sub(&op->comm->n_recorded, 1);
    phx_nccl_emu_release(op->comm);
    phx_free(op);
}
