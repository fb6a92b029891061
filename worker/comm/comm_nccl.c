/* worker/comm/comm_nccl.c - ranks with device memory: NCCL moves the data, another backend carries the group.
 * Owns: making the communicators without blocking, their buffers, and their end. The verbs are in
 * nccl_verbs.c, waiting and failing in nccl_wait.c; comm_nccl.h says how the two backends share the work. */
#include "worker/comm/comm_nccl.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "worker/comm/nccl_state.h"

#define SHARE_PADDING_BYTES 64u     /* shares differ by one value at most, in 8 parts */
#define ONE_SHOT_BYTES_MAX  262144u /* nccl_choice.c */

#define UNDER_EXCHANGE_BYTES 65536u
#define UNDER_STAGE_BYTES    4096u
#define CREATE_MS_DEFAULT    120000u /* when the shape names no timeout */

typedef struct invitation { /* what the first rank of a link sends to the others */
    uint64_t fingerprint;   /* of what both must have been given alike */
    phx_nccl_id id;
} invitation;

static phx_code nccl_verbs(const phx_comm *comm, uint32_t n_last, phx_buf *buf);
static phx_code nccl_describe(const phx_comm *comm, phx_buf *buf);
static void nccl_abort(phx_comm *comm);
static void nccl_destroy(phx_comm *comm);

static const phx_comm_ops nccl_ops = {
    .name = "nccl",
    .exchange = phx_nccl_exchange,
    .gather = phx_nccl_gather,
    .send = phx_nccl_send,
    .recv = phx_nccl_recv,
    .note_send = phx_nccl_note_send,
    .note_recv = phx_nccl_note_recv,
    .barrier = phx_nccl_barrier,
    .wait = phx_nccl_wait,
    .describe = nccl_describe,
    .verbs = nccl_verbs,
    .abort = nccl_abort,
    .destroy = nccl_destroy,
};

phx_comm_shape phx_comm_nccl_under_shape(const phx_comm_shape *shape)
{
    phx_comm_shape under = *shape;
    under.exchange_bytes = UNDER_EXCHANGE_BYTES;
    under.stage_bytes = UNDER_STAGE_BYTES;
    return under;
}

/* Shares of all ranks of the longest exchange, or whole vectors of one that goes in one shot. */
static size_t parts_bytes(const phx_comm_shape *shape)
{
    const size_t shares = shape->exchange_bytes + SHARE_PADDING_BYTES;
    const size_t one =
        shape->exchange_bytes < ONE_SHOT_BYTES_MAX ? shape->exchange_bytes : ONE_SHOT_BYTES_MAX;
    if (shape->tp == 1)
        return 0;
    return shape->tp * one > shares ? shape->tp * one : shares;
}

size_t phx_comm_nccl_bytes(const phx_comm_shape *shape)
{
    const size_t room = shape->tp > 1 ? phx_device_room_bytes(phx_nccl_slot_bytes(shape)) : 0;
    return room + parts_bytes(shape) +
           (phx_nccl_sends(shape) ? PHX_COMM_STAGE_DEPTH * (shape->stage_bytes + 1) : 0) +
           (phx_nccl_receives(shape) ? 1 : 0);
}

/* ---- making ---- */

static phx_code check_arguments(const phx_comm *under, const phx_comm_shape *shape, phx_error *err)
{
    const phx_code rc = phx_comm_shape_check(shape, err);
    if (rc != PHX_OK)
        return rc;
    if (!under->ops->under)
        return PHX_FAIL(err, PHX_ERR_INVALID, "NCCL cannot stand on the data plane '%s'", under->ops->name);
    if (under->shape.rank != shape->rank || under->shape.tp != shape->tp || under->shape.pp != shape->pp ||
        under->shape.timeout_ms != shape->timeout_ms || under->shape.stage_bytes < sizeof(invitation))
        return PHX_FAIL(err, PHX_ERR_INVALID,
                        "NCCL for rank %" PRIu32 " of tp %" PRIu32 " x pp %" PRIu32
                        " over a group of another shape",
                        shape->rank, shape->tp, shape->pp);
    return PHX_OK;
}

static phx_code take_memory(phx_nccl *c, phx_error *err)
{
    const phx_device *d = c->device;
    const phx_comm_shape *shape = &c->base.shape;
    void *memory = NULL;
    phx_code rc = d->event_create(d->user, &c->done, err);
    c->parts_bytes = parts_bytes(shape);
    if (rc == PHX_OK && c->parts_bytes) {
        rc = d->alloc(d->user, c->parts_bytes, &memory, err);
        c->parts = memory;
    }
    if (rc == PHX_OK && phx_nccl_receives(shape))
        rc = d->alloc(d->user, 1, &c->nothing, err);
    if (rc != PHX_OK || !phx_nccl_sends(shape))
        return rc;
    rc = d->stream_create(d->user, &c->mail_stream, err);
    if (rc == PHX_OK)
        rc = d->event_create(d->user, &c->ready, err);
    for (uint32_t slot = 0; slot < PHX_COMM_STAGE_DEPTH && rc == PHX_OK; slot++) {
        rc = d->event_create(d->user, &c->left[slot], err);
        if (rc == PHX_OK)
            rc = d->alloc(d->user, shape->stage_bytes + 1, &memory, err);
        if (rc == PHX_OK)
            c->mail[slot] = memory;
    }
    return rc;
}

static void give_memory(phx_nccl *c)
{
    const phx_device *d = c->device;
    if (c->stuck || !phx_nccl_drain(c)) /* something may still touch it; the process ends soon */
        return;
    d->stream_destroy(d->user, c->mail_stream);
    for (uint32_t slot = 0; slot < PHX_COMM_STAGE_DEPTH; slot++) {
        d->event_destroy(d->user, c->left[slot]);
        d->release(d->user, c->mail[slot]);
    }
    d->event_destroy(d->user, c->ready);
    d->event_destroy(d->user, c->done);
    d->release(d->user, c->nothing);
    d->release(d->user, c->parts);
    if (c->peers.closed)
        phx_nccl_release_peers(c);
}

static uint64_t fingerprint_of(const phx_nccl *c)
{
    const phx_comm_shape *shape = &c->base.shape;
    const uint64_t sizes =
        phx_rng_key((uint64_t)c->api.version, shape->exchange_bytes, shape->stage_bytes, c->any_order);
    return phx_rng_key(sizes, shape->tp, shape->pp, sizeof(invitation));
}

static phx_code invite(const phx_nccl *c, invitation *ret_invitation, phx_error *err)
{
    memset(ret_invitation, 0, sizeof(*ret_invitation));
    ret_invitation->fingerprint = fingerprint_of(c);
    const phx_nccl_result result = c->api.get_unique_id(&ret_invitation->id);
    if (result != PHX_NCCL_SUCCESS)
        return PHX_FAIL(err, PHX_ERR_COMM,
                        "rank %" PRIu32 ", NCCL makes no id: %s; see NCCL_DEBUG=INFO, and NCCL_SOCKET_IFNAME "
                        "for the interface that it uses",
                        c->base.shape.rank, c->api.error_string(result));
    return PHX_OK;
}

static phx_code join(phx_nccl *c, phx_nccl_link link, int rank, const invitation *from, phx_error *err)
{
    const int n = link == PHX_NCCL_STAGE ? (int)c->base.shape.tp : 2;
    phx_nccl_config config = {.bytes = sizeof(config),
                              .magic = PHX_NCCL_CONFIG_MAGIC,
                              .version = PHX_NCCL_VERSION_LEAST,
                              .blocking = 0};
    if (from->fingerprint != fingerprint_of(c))
        return PHX_FAIL(err, PHX_ERR_MISMATCH,
                        "rank %" PRIu32
                        " has other sizes, another mode of addition or another NCCL (%d) than a rank that "
                        "it talks to",
                        c->base.shape.rank, c->api.version);
    const phx_nccl_result result = c->api.comm_init(&c->links[link], n, from->id, rank, &config);
    if (result != PHX_NCCL_SUCCESS && result != PHX_NCCL_IN_PROGRESS)
        return PHX_FAIL(err, PHX_ERR_COMM, "rank %" PRIu32 ", NCCL cannot start: %s: %s", c->base.shape.rank,
                        c->api.error_string(result), c->api.last_error(NULL));
    return PHX_OK;
}

static phx_code join_stage(phx_nccl *c, phx_error *err)
{
    const uint32_t tp_rank = c->base.shape.rank - c->first;
    invitation mine = {.fingerprint = 0}, all[PHX_COMM_RANKS_MAX / 8];
    phx_code rc = PHX_OK;
    static_assert(sizeof(all) / sizeof(all[0]) >= 8, "tp is at most 8");
    if (tp_rank == 0)
        rc = invite(c, &mine, err);
    if (rc == PHX_OK)
        rc = phx_gather(c->under, &mine, sizeof(mine), all, err);
    return rc == PHX_OK ? join(c, PHX_NCCL_STAGE, (int)tp_rank, &all[0], err) : rc;
}

/* Each rank invites its neighbour of the next stage and is invited by that of the stage before. */
static phx_code join_edges(phx_nccl *c, phx_error *err)
{
    const phx_comm_shape *shape = &c->base.shape;
    const uint32_t stage = shape->rank / shape->tp;
    invitation out, in;
    phx_code rc = PHX_OK;
    if (phx_nccl_sends(shape)) {
        rc = invite(c, &out, err);
        if (rc == PHX_OK)
            rc = phx_stage_send(c->under, stage + 1, &out, sizeof(out), err);
    }
    if (rc == PHX_OK && phx_nccl_receives(shape))
        rc = phx_stage_recv(c->under, stage - 1, &in, sizeof(in), err);
    if (rc == PHX_OK && phx_nccl_sends(shape))
        rc = join(c, PHX_NCCL_OUT, 0, &out, err);
    if (rc == PHX_OK && phx_nccl_receives(shape))
        rc = join(c, PHX_NCCL_IN, 1, &in, err);
    return rc;
}

static phx_code connect_all(phx_nccl *c, bool measure, phx_error *err)
{
    const phx_comm_shape *shape = &c->base.shape;
    const uint64_t timeout_ms = shape->timeout_ms ? shape->timeout_ms : CREATE_MS_DEFAULT;
    phx_code rc = PHX_OK;
    if (shape->tp > 1)
        rc = join_stage(c, err);
    if (rc == PHX_OK && shape->pp > 1)
        rc = join_edges(c, err);
    if (rc == PHX_OK)
        rc = phx_nccl_await_links(c, timeout_ms * 1000, err);
    if (rc == PHX_OK && shape->tp > 1 && !c->any_order)
        rc = phx_nccl_meet_peers(c, err);
    if (rc == PHX_OK && shape->tp > 1)
        phx_nccl_choose_default(c);
    if (rc == PHX_OK && measure && shape->tp > 1 && !c->any_order)
        rc = phx_nccl_measure(c, err);
    if (rc == PHX_OK)
        rc = phx_comm_barrier(c->under, err);
    return rc;
}

phx_code phx_comm_nccl_create(phx_comm *under, const phx_comm_shape *shape,
                              const phx_comm_nccl_options *options, phx_comm **ret_comm, phx_error *err)
{
    phx_error cause = {0};
    phx_nccl *c = NULL;
    phx_code rc = check_arguments(under, shape, err);
    if (rc != PHX_OK)
        goto out;
    c = phx_alloc(1, sizeof(*c));
    if (!c) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "communicator of rank %" PRIu32, shape->rank);
        goto out;
    }
    c->base.ops = &nccl_ops;
    c->base.shape = *shape;
    c->under = under;
    c->device = options->device;
    c->stream = options->stream;
    c->any_order = options->any_order;
    c->queue_only = options->queue_only;
    c->first = shape->rank / shape->tp * shape->tp;
    c->peers.forbidden = options->no_peers;
    c->peers.slot_bytes = phx_nccl_slot_bytes(shape);
    if (phx_comm_n_ranks(shape) > 1)
        rc = phx_nccl_open(options->library, &c->api, &cause);
    if (rc == PHX_OK)
        rc = take_memory(c, &cause);
    if (rc == PHX_OK)
        rc = connect_all(c, options->measure, &cause);
    if (rc != PHX_OK)
        goto out;
    under->ops->under->reset(under);
    *ret_comm = &c->base;
    c = NULL;
out:
    if (c) { /* the others shall not wait for this rank */
        (void)under->ops->under->fail(under, &cause, err);
        phx_nccl_alarm(c);
        phx_nccl_end_links(c, false);
        give_memory(c);
        phx_free(c);
    }
    return rc;
}

/* ---- ending, telling ---- */

/* From any thread. The rank's own thread sees it in its next look at the group and aborts NCCL, because NCCL
 * allows no second thread inside. */
static void nccl_abort(phx_comm *comm)
{
    phx_comm_abort(phx_nccl_of(comm)->under);
    phx_nccl_alarm(phx_nccl_of(comm));
}

/* Messages on their way lie in this rank's memory: their receivers get a little time to take them. */
static void nccl_destroy(phx_comm *comm)
{
    phx_nccl *c = phx_nccl_of(comm);
    phx_nccl_leave_peers(c);
    phx_nccl_end_links(c, phx_nccl_linger(c));
    give_memory(c);
    phx_comm_destroy(c->under);
    if (!c->stuck)
        phx_free(c);
}

static phx_code nccl_verbs(const phx_comm *comm, uint32_t n_last, phx_buf *buf)
{
    const phx_nccl *c = (const phx_nccl *)(const void *)comm;
    return phx_comm_verbs(c->under, n_last, buf);
}

static phx_code nccl_describe(const phx_comm *comm, phx_buf *buf)
{
    const phx_nccl *c = (const phx_nccl *)(const void *)comm;
    const int v = c->api.version;
    if (phx_comm_n_ranks(&comm->shape) == 1)
        return phx_buf_str(buf, "collectives: none, one rank");
    (void)phx_buf_printf(buf, "collectives: NCCL %d.%d.%d over %s", v / 10000, v / 100 % 100, v % 100,
                         c->under->ops->name);
    if (comm->shape.tp > 1 && c->any_order)
        (void)phx_buf_str(buf, "; sums in NCCL's order");
    else if (comm->shape.tp > 1)
        (void)phx_nccl_describe_choice(c, buf);
    return buf->code;
}
