/* worker/comm/comm_mpi.c - ranks over MPI_COMM_WORLD, for groups of several hosts.
 * Owns: a duplicate of MPI_COMM_WORLD and the buffers that messages land in.
 * Only point-to-point messages carry sums: a library reduction does not fix its order of addition.
 *
 * MPI moves data while somebody is inside an MPI call, and a rank between two steps is not. So a verb returns
 * only when its data has been matched on the other side (synchronous sends; measured: 13 us more per exchange
 * of two ranks over TCP, against the risk that a rank sleeps on data its peer needs). The exceptions are the
 * notes from the last stage to the first: those are received in a later step, in which this rank calls MPI
 * again, so they wait in own buffers instead of keeping the rank.
 *
 * After a failure requests are still open: nothing of MPI is called again and the buffers stay, also at
 * destroy. The owner of such a process ends it, best without MPI_Finalize. */
#include "worker/comm/comm.h"

#include <inttypes.h>
#include <mpi.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "worker/comm/shape.h"
#include "worker/comm/tree.h"
#include "worker/comm/under.h"

#define N_REQUESTS_MAX (2 * (PHX_TREE_PARTS_MAX - 1))

/* Up to here every rank gets all vectors and adds the tree itself: one message delay instead of two. For two
 * ranks that moves no more bytes than the cut does, so there it has no limit. */
#define DIRECT_BYTES 16384u

/* A wait spins (giving way to others) about as long as a decode step's ranks drift apart, then sleeps. */
#define SPIN_US           200u
#define NAP_US            50u
#define LONG_NAP_AFTER_US 5000u
#define LONG_NAP_US       200u

#define CREATE_MS_DEFAULT 120000u /* when the shape names no timeout: creation must end some time */

enum tag { TAG_EXCHANGE = 1, TAG_GATHER, TAG_STAGE, TAG_NOTE };

typedef struct mpi_comm {
    phx_comm base;
    MPI_Comm world; /* our duplicate; MPI_COMM_NULL until made */
    uint32_t first; /* rank of tp_rank 0 of this stage */
    phx_steady clock;
    uint64_t deadline_us; /* of the running verb, on that clock; 0: none */
    _Atomic uint32_t aborted;
    phx_error dead; /* code PHX_OK: alive */
    phx_verb_ring verbs;
    uint8_t *parts; /* 2 * exchange_bytes: vectors of the others */
    uint8_t *mail;  /* stage_bytes, not in the first stage: the next message of the one before, asked for */
    MPI_Request mail_request;
    uint8_t *notes; /* last stage: [phx_comm_n_notes][note_bytes] on their way */
    MPI_Request *note_requests;
    uint64_t n_noted;
} mpi_comm;

typedef struct mpi_batch { /* requests that are waited for together */
    MPI_Request requests[N_REQUESTS_MAX];
    uint32_t peers[N_REQUESTS_MAX];
    uint32_t n;
} mpi_batch;

static phx_code mpi_exchange(phx_comm *comm, float *values, size_t n, phx_error *err);
static phx_code mpi_gather(phx_comm *comm, const void *mine, size_t n_bytes, void *all, phx_error *err);
static phx_code mpi_send(phx_comm *comm, uint32_t to_stage, const void *data, size_t n_bytes, phx_error *err);
static phx_code mpi_recv(phx_comm *comm, uint32_t from_stage, void *data, size_t n_bytes, phx_error *err);
static phx_code mpi_note_send(phx_comm *comm, const void *data, size_t n_bytes, phx_error *err);
static phx_code mpi_note_recv(phx_comm *comm, void *data, size_t n_bytes, phx_error *err);
static phx_code mpi_barrier(phx_comm *comm, phx_error *err);
static phx_code mpi_verbs(const phx_comm *comm, uint32_t n_last, phx_buf *buf);
static void mpi_abort(phx_comm *comm);
static void mpi_destroy(phx_comm *comm);

static phx_code mpi_begin(phx_comm *comm, phx_verb_kind kind, size_t payload_bytes, phx_error *err);
static void mpi_end(phx_comm *comm);
static phx_code mpi_watch(phx_comm *comm, const phx_comm_watch *watch, phx_error *err);
static phx_code mpi_fail(phx_comm *comm, const phx_error *cause, phx_error *err);
static void mpi_reset(phx_comm *comm);

static const phx_comm_under mpi_under = {
    .begin = mpi_begin, .end = mpi_end, .watch = mpi_watch, .fail = mpi_fail, .reset = mpi_reset};

static const phx_comm_ops mpi_ops = {
    .name = "mpi",
    .under = &mpi_under,
    .exchange = mpi_exchange,
    .gather = mpi_gather,
    .send = mpi_send,
    .recv = mpi_recv,
    .note_send = mpi_note_send,
    .note_recv = mpi_note_recv,
    .barrier = mpi_barrier,
    .verbs = mpi_verbs,
    .abort = mpi_abort,
    .destroy = mpi_destroy,
};

static mpi_comm *mpi_of(phx_comm *comm)
{
    return (mpi_comm *)(void *)comm;
}

/* ---- failing and waiting ---- */

/* The text must already be in err; it becomes the reason that later verbs give. */
static phx_code die(mpi_comm *m, const phx_error *cause, phx_error *err)
{
    if (m->dead.code == PHX_OK)
        m->dead = *cause;
    return PHX_FAIL(err, cause->code, "%s", cause->text);
}

/* Translates a return value of MPI; what: the call or verb. */
static phx_code check(mpi_comm *m, int mpi_rc, const char *what, phx_error *err)
{
    if (mpi_rc == MPI_SUCCESS)
        return PHX_OK;
    char text[MPI_MAX_ERROR_STRING] = "";
    int n = 0;
    if (MPI_Error_string(mpi_rc, text, &n) != MPI_SUCCESS)
        (void)snprintf(text, sizeof(text), "MPI error %d", mpi_rc);
    phx_error cause = {0};
    (void)PHX_FAIL(&cause, PHX_ERR_COMM, "rank %" PRIu32 ", %s: %s", m->base.shape.rank, what, text);
    return die(m, &cause, err);
}

static const char *verb_text(const mpi_comm *m, char *text, size_t text_bytes)
{
    const uint64_t n = atomic_load(&m->verbs.n_verbs);
    if (n == 0)
        (void)snprintf(text, text_bytes, "start-up");
    else
        (void)snprintf(text, text_bytes, "%s (verb %" PRIu64 ")",
                       phx_verb_name(phx_verb_last_kind(&m->verbs)), n);
    return text;
}

/* "1, 3": peers with an open request, each once. */
static void list_open(const mpi_batch *batch, char *text, size_t text_bytes)
{
    bool open[PHX_COMM_RANKS_MAX] = {false};
    for (uint32_t i = 0; i < batch->n; i++) {
        int is_complete = 0;
        if (batch->requests[i] != MPI_REQUEST_NULL &&
            MPI_Request_get_status(batch->requests[i], &is_complete, MPI_STATUS_IGNORE) == MPI_SUCCESS &&
            !is_complete && batch->peers[i] < PHX_COMM_RANKS_MAX)
            open[batch->peers[i]] = true;
    }
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t rank = 0; rank < PHX_COMM_RANKS_MAX && used + 16 < text_bytes; rank++)
        if (open[rank]) {
            const int n = snprintf(text + used, text_bytes - used, "%s%" PRIu32, used ? ", " : "", rank);
            used += n > 0 ? (size_t)n : 0;
        }
}

static phx_code fail_timeout(mpi_comm *m, const mpi_batch *batch, phx_error *err)
{
    char verb[64], ranks[160];
    list_open(batch, ranks, sizeof(ranks));
    phx_error cause = {0};
    (void)PHX_FAIL(&cause, PHX_ERR_COMM, "rank %" PRIu32 ", %s: rank %s had not arrived after %" PRIu32 " ms",
                   m->base.shape.rank, verb_text(m, verb, sizeof(verb)), ranks[0] ? ranks : "?",
                   m->base.shape.timeout_ms);
    return die(m, &cause, err);
}

static phx_code fail_aborted(mpi_comm *m, phx_error *err)
{
    phx_error cause = {0};
    (void)PHX_FAIL(&cause, PHX_ERR_COMM, "rank %" PRIu32 " was aborted", m->base.shape.rank);
    return die(m, &cause, err);
}

static void give_way(uint64_t waited_us)
{
    if (waited_us < SPIN_US)
        (void)sched_yield();
    else
        (void)usleep(waited_us < LONG_NAP_AFTER_US ? NAP_US : LONG_NAP_US);
}

static uint64_t now_of(mpi_comm *m)
{
    return phx_steady_us(&m->clock, phx_clock_us());
}

/* Until all requests of the batch are complete. ret_statuses: [batch->n] or MPI_STATUSES_IGNORE. */
static phx_code await(mpi_comm *m, mpi_batch *batch, MPI_Status *ret_statuses, phx_error *err)
{
    const uint64_t start_us = now_of(m);
    for (;;) {
        int all_complete = 0;
        char verb[64];
        const int mpi_rc = MPI_Testall((int)batch->n, batch->requests, &all_complete, ret_statuses);
        if (mpi_rc != MPI_SUCCESS)
            return check(m, mpi_rc, verb_text(m, verb, sizeof(verb)), err);
        if (all_complete)
            return PHX_OK;
        if (atomic_load(&m->aborted))
            return fail_aborted(m, err);
        const uint64_t now_us = now_of(m);
        if (m->deadline_us && now_us >= m->deadline_us)
            return fail_timeout(m, batch, err);
        give_way(now_us - start_us);
    }
}

static phx_code begin(mpi_comm *m, phx_verb_kind kind, size_t payload_bytes, phx_error *err)
{
    if (m->dead.code != PHX_OK)
        return PHX_FAIL(err, m->dead.code, "the communicator is dead: %s", m->dead.text);
    if (atomic_load(&m->aborted))
        return fail_aborted(m, err);
    phx_verb_begin(&m->verbs, kind, payload_bytes);
    const uint32_t timeout_ms = m->base.shape.timeout_ms;
    m->deadline_us = timeout_ms ? now_of(m) + timeout_ms * UINT64_C(1000) : 0;
    return PHX_OK;
}

static phx_code done(mpi_comm *m, phx_code rc)
{
    if (rc == PHX_OK)
        phx_verb_end(&m->verbs);
    return rc;
}

/* ---- requests: each adds itself to the batch; the first failure is kept in *rc ---- */

typedef enum send_mode { UNTIL_COPIED, UNTIL_MATCHED } send_mode;

typedef struct message {
    uint32_t peer;
    enum tag tag;
    size_t n_bytes; /* <= PHX_COMM_BYTES_MAX */
} message;

static phx_code post_send(mpi_comm *m, mpi_batch *batch, message msg, const void *data, send_mode mode,
                          phx_error *err)
{
    MPI_Request *request = &batch->requests[batch->n];
    batch->peers[batch->n++] = msg.peer;
    const int n = (int)msg.n_bytes, peer = (int)msg.peer;
    if (mode == UNTIL_MATCHED)
        return check(m, MPI_Issend(data, n, MPI_BYTE, peer, (int)msg.tag, m->world, request), "MPI_Issend",
                     err);
    return check(m, MPI_Isend(data, n, MPI_BYTE, peer, (int)msg.tag, m->world, request), "MPI_Isend", err);
}

static phx_code post_recv(mpi_comm *m, mpi_batch *batch, message msg, void *data, phx_error *err)
{
    MPI_Request *request = &batch->requests[batch->n];
    batch->peers[batch->n++] = msg.peer;
    return check(m,
                 MPI_Irecv(data, (int)msg.n_bytes, MPI_BYTE, (int)msg.peer, (int)msg.tag, m->world, request),
                 "MPI_Irecv", err);
}

/* ---- exchange ---- */

/* Every rank sends its vector to all others. */
static phx_code exchange_direct(mpi_comm *m, float *values, size_t n, phx_error *err)
{
    const phx_comm_shape *shape = &m->base.shape;
    mpi_batch batch = {.n = 0};
    const float *parts[PHX_TREE_PARTS_MAX] = {0};
    float *next = (float *)(void *)m->parts;
    phx_code rc = PHX_OK;
    for (uint32_t r = 0; r < shape->tp && rc == PHX_OK; r++) {
        const message msg = {.peer = m->first + r, .tag = TAG_EXCHANGE, .n_bytes = n * sizeof(float)};
        parts[r] = values;
        if (msg.peer == shape->rank)
            continue;
        parts[r] = next;
        rc = post_recv(m, &batch, msg, next, err);
        if (rc == PHX_OK)
            rc = post_send(m, &batch, msg, values, UNTIL_MATCHED, err);
        next += n;
    }
    if (rc == PHX_OK)
        rc = await(m, &batch, MPI_STATUSES_IGNORE, err);
    if (rc == PHX_OK)
        phx_tree_add(values, parts, shape->tp, n);
    return rc;
}

/* Each rank gets its share of all vectors and sums it. */
static phx_code reduce_share(mpi_comm *m, float *values, size_t n, phx_error *err)
{
    const phx_comm_shape *shape = &m->base.shape;
    const uint32_t tp_rank = shape->rank - m->first;
    const size_t own_at = phx_comm_cut(n, tp_rank, shape->tp);
    const size_t n_own = phx_comm_cut(n, tp_rank + 1, shape->tp) - own_at;
    mpi_batch batch = {.n = 0};
    const float *parts[PHX_TREE_PARTS_MAX] = {0};
    float *next = (float *)(void *)m->parts;
    phx_code rc = PHX_OK;
    for (uint32_t r = 0; r < shape->tp && rc == PHX_OK; r++) {
        const size_t at = phx_comm_cut(n, r, shape->tp);
        const size_t n_theirs = phx_comm_cut(n, r + 1, shape->tp) - at;
        parts[r] = values + own_at;
        if (r == tp_rank)
            continue;
        parts[r] = next;
        message msg = {.peer = m->first + r, .tag = TAG_EXCHANGE, .n_bytes = n_own * sizeof(float)};
        rc = post_recv(m, &batch, msg, next, err);
        msg.n_bytes = n_theirs * sizeof(float);
        if (rc == PHX_OK) /* the second phase keeps this rank inside MPI until the data is out */
            rc = post_send(m, &batch, msg, values + at, UNTIL_COPIED, err);
        next += n_own;
    }
    if (rc == PHX_OK)
        rc = await(m, &batch, MPI_STATUSES_IGNORE, err);
    if (rc == PHX_OK)
        phx_tree_add(values + own_at, parts, shape->tp, n_own);
    return rc;
}

/* Each rank sends the sum of its share to all others. */
static phx_code spread_share(mpi_comm *m, float *values, size_t n, phx_error *err)
{
    const phx_comm_shape *shape = &m->base.shape;
    const uint32_t tp_rank = shape->rank - m->first;
    const size_t own_at = phx_comm_cut(n, tp_rank, shape->tp);
    const size_t n_own = phx_comm_cut(n, tp_rank + 1, shape->tp) - own_at;
    mpi_batch batch = {.n = 0};
    phx_code rc = PHX_OK;
    for (uint32_t r = 0; r < shape->tp && rc == PHX_OK; r++) {
        if (r == tp_rank)
            continue;
        const size_t at = phx_comm_cut(n, r, shape->tp);
        message msg = {.peer = m->first + r, .tag = TAG_EXCHANGE};
        msg.n_bytes = (phx_comm_cut(n, r + 1, shape->tp) - at) * sizeof(float);
        rc = post_recv(m, &batch, msg, values + at, err);
        msg.n_bytes = n_own * sizeof(float);
        if (rc == PHX_OK)
            rc = post_send(m, &batch, msg, values + own_at, UNTIL_MATCHED, err);
    }
    return rc == PHX_OK ? await(m, &batch, MPI_STATUSES_IGNORE, err) : rc;
}

static phx_code mpi_exchange(phx_comm *comm, float *values, size_t n, phx_error *err)
{
    mpi_comm *m = mpi_of(comm);
    const uint32_t tp = comm->shape.tp;
    const size_t n_bytes = n * sizeof(*values);
    phx_code rc = begin(m, PHX_VERB_EXCHANGE, n_bytes, err);
    if (rc != PHX_OK)
        return rc;
    if (n == 0 || tp == 1)
        return done(m, PHX_OK);
    const bool fits = n_bytes * (tp - 1) <= 2 * comm->shape.exchange_bytes;
    if (fits && (tp == 2 || n_bytes <= DIRECT_BYTES))
        return done(m, exchange_direct(m, values, n, err));
    rc = reduce_share(m, values, n, err);
    if (rc == PHX_OK)
        rc = spread_share(m, values, n, err);
    return done(m, rc);
}

/* ---- gather ---- */

static phx_code gather_cut(mpi_comm *m, const uint8_t *mine, size_t n_bytes, size_t at, uint8_t *all,
                           phx_error *err)
{
    const size_t n_cut = n_bytes - at < PHX_COMM_BYTES_MAX ? n_bytes - at : PHX_COMM_BYTES_MAX;
    mpi_batch batch = {.n = 0};
    phx_code rc = PHX_OK;
    for (uint32_t r = 0; r < m->base.shape.tp && rc == PHX_OK; r++) {
        const message msg = {.peer = m->first + r, .tag = TAG_GATHER, .n_bytes = n_cut};
        if (msg.peer == m->base.shape.rank)
            continue;
        rc = post_recv(m, &batch, msg, all + r * n_bytes + at, err);
        if (rc == PHX_OK)
            rc = post_send(m, &batch, msg, mine + at, UNTIL_MATCHED, err);
    }
    return rc == PHX_OK ? await(m, &batch, MPI_STATUSES_IGNORE, err) : rc;
}

static phx_code mpi_gather(phx_comm *comm, const void *mine, size_t n_bytes, void *all, phx_error *err)
{
    mpi_comm *m = mpi_of(comm);
    phx_code rc = begin(m, PHX_VERB_GATHER, n_bytes, err);
    if (rc != PHX_OK)
        return rc;
    uint8_t *own_place = (uint8_t *)all + (comm->shape.rank - m->first) * n_bytes;
    if (n_bytes && mine != own_place)
        memcpy(own_place, mine, n_bytes);
    if (comm->shape.tp > 1)
        for (size_t at = 0; at < n_bytes && rc == PHX_OK; at += PHX_COMM_BYTES_MAX)
            rc = gather_cut(m, mine, n_bytes, at, all, err);
    return done(m, rc);
}

/* ---- stages ---- */

static uint32_t same_tp_rank(const mpi_comm *m, uint32_t stage)
{
    return stage * m->base.shape.tp + (m->base.shape.rank - m->first);
}

/* Waits for one request that is kept in the communicator. */
static phx_code await_kept(mpi_comm *m, MPI_Request *request, uint32_t peer, MPI_Status *ret_status,
                           phx_error *err)
{
    mpi_batch batch = {.requests = {*request}, .peers = {peer}, .n = 1};
    const phx_code rc = await(m, &batch, ret_status, err);
    *request = batch.requests[0];
    return rc;
}

/* Asks for the next message of the stage before, so that its sender never waits for us to ask. */
static phx_code ask_for_mail(mpi_comm *m, phx_error *err)
{
    const phx_comm_shape *shape = &m->base.shape;
    const uint32_t stage = shape->rank / shape->tp;
    const message msg = {.peer = same_tp_rank(m, stage - 1), .tag = TAG_STAGE, .n_bytes = shape->stage_bytes};
    mpi_batch batch = {.n = 0};
    const phx_code rc = post_recv(m, &batch, msg, m->mail, err);
    m->mail_request = batch.requests[0];
    return rc;
}

static phx_code mpi_send(phx_comm *comm, uint32_t to_stage, const void *data, size_t n_bytes, phx_error *err)
{
    mpi_comm *m = mpi_of(comm);
    const message msg = {.peer = same_tp_rank(m, to_stage), .tag = TAG_STAGE, .n_bytes = n_bytes};
    mpi_batch batch = {.n = 0};
    phx_code rc = begin(m, PHX_VERB_SEND, n_bytes, err);
    if (rc == PHX_OK)
        rc = post_send(m, &batch, msg, data, UNTIL_MATCHED, err);
    return rc == PHX_OK ? done(m, await(m, &batch, MPI_STATUSES_IGNORE, err)) : rc;
}

/* Fails unless the message that has come is as long as it should be. */
static phx_code check_length(mpi_comm *m, const MPI_Status *status, uint32_t from, size_t n_bytes,
                             phx_error *err)
{
    int n_sent = 0;
    const phx_code rc = check(m, MPI_Get_count(status, MPI_BYTE, &n_sent), "MPI_Get_count", err);
    if (rc != PHX_OK || (n_sent >= 0 && (size_t)n_sent == n_bytes))
        return rc;
    phx_error cause = {0};
    (void)PHX_FAIL(&cause, PHX_ERR_COMM, "rank %" PRIu32 " sent %d bytes where rank %" PRIu32 " expects %zu",
                   from, n_sent, m->base.shape.rank, n_bytes);
    return die(m, &cause, err);
}

static phx_code mpi_recv(phx_comm *comm, uint32_t from_stage, void *data, size_t n_bytes, phx_error *err)
{
    mpi_comm *m = mpi_of(comm);
    const uint32_t from = same_tp_rank(m, from_stage);
    MPI_Status status;
    phx_code rc = begin(m, PHX_VERB_RECV, n_bytes, err);
    if (rc == PHX_OK)
        rc = await_kept(m, &m->mail_request, from, &status, err);
    if (rc != PHX_OK)
        return rc;
    rc = check_length(m, &status, from, n_bytes, err);
    if (rc != PHX_OK)
        return rc;
    if (n_bytes)
        memcpy(data, m->mail, n_bytes);
    return done(m, ask_for_mail(m, err));
}

static phx_code mpi_note_send(phx_comm *comm, const void *data, size_t n_bytes, phx_error *err)
{
    mpi_comm *m = mpi_of(comm);
    const message msg = {.peer = same_tp_rank(m, 0), .tag = TAG_NOTE, .n_bytes = n_bytes};
    const uint64_t slot = m->n_noted % phx_comm_n_notes(&comm->shape);
    uint8_t *kept = m->notes + slot * comm->shape.note_bytes;
    mpi_batch batch = {.n = 0};
    phx_code rc = begin(m, PHX_VERB_NOTE_SEND, n_bytes, err);
    if (rc == PHX_OK) /* with as many on their way, the oldest has been received */
        rc = await_kept(m, &m->note_requests[slot], msg.peer, MPI_STATUSES_IGNORE, err);
    if (rc != PHX_OK)
        return rc;
    if (n_bytes)
        memcpy(kept, data, n_bytes);
    rc = post_send(m, &batch, msg, kept, UNTIL_COPIED, err);
    m->note_requests[slot] = batch.requests[0];
    m->n_noted++;
    return done(m, rc);
}

static phx_code mpi_note_recv(phx_comm *comm, void *data, size_t n_bytes, phx_error *err)
{
    mpi_comm *m = mpi_of(comm);
    const message msg = {.peer = same_tp_rank(m, comm->shape.pp - 1), .tag = TAG_NOTE, .n_bytes = n_bytes};
    mpi_batch batch = {.n = 0};
    MPI_Status status;
    phx_code rc = begin(m, PHX_VERB_NOTE_RECV, n_bytes, err);
    if (rc == PHX_OK)
        rc = post_recv(m, &batch, msg, data, err);
    if (rc == PHX_OK)
        rc = await(m, &batch, &status, err);
    return rc == PHX_OK ? done(m, check_length(m, &status, msg.peer, n_bytes, err)) : rc;
}

static phx_code mpi_barrier(phx_comm *comm, phx_error *err)
{
    mpi_comm *m = mpi_of(comm);
    mpi_batch batch = {.peers = {UINT32_MAX}, .n = 1};
    phx_code rc = begin(m, PHX_VERB_BARRIER, 0, err);
    if (rc == PHX_OK)
        rc = check(m, MPI_Ibarrier(m->world, &batch.requests[0]), "MPI_Ibarrier", err);
    return rc == PHX_OK ? done(m, await(m, &batch, MPI_STATUSES_IGNORE, err)) : rc;
}

static phx_code mpi_verbs(const phx_comm *comm, uint32_t n_last, phx_buf *buf)
{
    const mpi_comm *m = (const mpi_comm *)(const void *)comm;
    return phx_verb_print(&m->verbs, comm->shape.rank, n_last, buf);
}

/* ---- for a backend that stands on this one (under.h) ---- */

static phx_code mpi_begin(phx_comm *comm, phx_verb_kind kind, size_t payload_bytes, phx_error *err)
{
    return begin(mpi_of(comm), kind, payload_bytes, err);
}

static void mpi_end(phx_comm *comm)
{
    phx_verb_end(&mpi_of(comm)->verbs);
}

static void mpi_reset(phx_comm *comm)
{
    phx_verb_reset(&mpi_of(comm)->verbs);
}

static phx_code mpi_fail(phx_comm *comm, const phx_error *cause, phx_error *err)
{
    return die(mpi_of(comm), cause, err);
}

/* MPI does not tell who has gone: only the own abort and the deadline end a wait. */
static phx_code mpi_watch(phx_comm *comm, const phx_comm_watch *watch, phx_error *err)
{
    mpi_comm *m = mpi_of(comm);
    if (m->dead.code != PHX_OK)
        return PHX_FAIL(err, m->dead.code, "the communicator is dead: %s", m->dead.text);
    if (atomic_load(&m->aborted))
        return fail_aborted(m, err);
    if (!watch->timed || !m->deadline_us || now_of(m) < m->deadline_us)
        return PHX_OK;
    char verb[64];
    phx_error cause = {0};
    (void)PHX_FAIL(&cause, PHX_ERR_COMM,
                   "rank %" PRIu32 ", %s: rank %" PRIu32 " to %" PRIu32 " had not all arrived after %" PRIu32
                   " ms",
                   comm->shape.rank, verb_text(m, verb, sizeof(verb)), watch->first,
                   watch->first + watch->n - 1, comm->shape.timeout_ms);
    return die(m, &cause, err);
}

/* ---- making and ending ---- */

static phx_code take_buffers(mpi_comm *m, phx_error *err)
{
    const phx_comm_shape *shape = &m->base.shape;
    const uint32_t stage = shape->rank / shape->tp;
    if (shape->tp > 1)
        m->parts = phx_alloc(2, shape->exchange_bytes);
    if (stage > 0)
        m->mail = phx_alloc(1, shape->stage_bytes + 1); /* never 0 */
    const uint32_t n_notes = stage == shape->pp - 1 ? phx_comm_n_notes(shape) : 0;
    if (n_notes) {
        m->notes = phx_alloc(n_notes, shape->note_bytes);
        m->note_requests = phx_alloc(n_notes, sizeof(MPI_Request));
    }
    if (n_notes && (!m->notes || !m->note_requests))
        return PHX_FAIL(err, PHX_ERR_NOMEM, "%" PRIu32 " notes of %zu bytes", n_notes, shape->note_bytes);
    for (uint32_t i = 0; i < n_notes; i++)
        m->note_requests[i] = MPI_REQUEST_NULL;
    if ((shape->tp > 1 && !m->parts) || (stage > 0 && !m->mail))
        return PHX_FAIL(err, PHX_ERR_NOMEM, "message buffers of %zu and %zu bytes; lower --max-batch",
                        shape->exchange_bytes, shape->stage_bytes);
    return PHX_OK;
}

/* Is MPI there, and does it number the ranks as the plan does? */
static phx_code check_world(mpi_comm *m, phx_error *err)
{
    const phx_comm_shape *shape = &m->base.shape;
    int is_initialised = 0, n_ranks = 0, rank = 0;
    if (MPI_Initialized(&is_initialised) != MPI_SUCCESS || !is_initialised)
        return PHX_FAIL(err, PHX_ERR_UNAVAILABLE,
                        "MPI has not been started; run the workers under mpirun or srun");
    phx_code rc = check(m, MPI_Comm_size(MPI_COMM_WORLD, &n_ranks), "MPI_Comm_size", err);
    if (rc == PHX_OK)
        rc = check(m, MPI_Comm_rank(MPI_COMM_WORLD, &rank), "MPI_Comm_rank", err);
    if (rc != PHX_OK)
        return rc;
    if (n_ranks < 0 || (uint32_t)n_ranks != phx_comm_n_ranks(shape) || rank < 0 ||
        (uint32_t)rank != shape->rank)
        return PHX_FAIL(err, PHX_ERR_MISMATCH,
                        "MPI started rank %d of %d, the plan says rank %" PRIu32 " of %" PRIu32
                        " (tp x pp); start as many ranks as the plan has",
                        rank, n_ranks, shape->rank, phx_comm_n_ranks(shape));
    return PHX_OK;
}

/* All ranks must have been given the same sizes: the smallest and the largest of each are compared. */
static phx_code agree(mpi_comm *m, phx_error *err)
{
    const phx_comm_shape *shape = &m->base.shape;
    enum { N = 5 };
    const uint64_t sizes[N] = {shape->tp, shape->pp, shape->exchange_bytes, shape->stage_bytes,
                               shape->note_bytes};
    uint64_t mine[2 * N], least[2 * N]; /* least of the complement is the largest */
    for (uint32_t i = 0; i < N; i++) {
        mine[i] = sizes[i];
        mine[N + i] = ~sizes[i];
    }
    mpi_batch batch = {.peers = {UINT32_MAX}, .n = 1};
    phx_code rc =
        check(m, MPI_Iallreduce(mine, least, 2 * N, MPI_UINT64_T, MPI_MIN, m->world, &batch.requests[0]),
              "MPI_Iallreduce", err);
    if (rc == PHX_OK)
        rc = await(m, &batch, MPI_STATUSES_IGNORE, err);
    if (rc == PHX_OK && memcmp(mine, least, sizeof(mine)) != 0)
        rc = PHX_FAIL(err, PHX_ERR_MISMATCH,
                      "rank %" PRIu32 " has tp %" PRIu32 ", pp %" PRIu32
                      ", exchange %zu, stage %zu, note %zu; another rank "
                      "has other sizes",
                      shape->rank, shape->tp, shape->pp, shape->exchange_bytes, shape->stage_bytes,
                      shape->note_bytes);
    return rc;
}

phx_code phx_comm_mpi_create(const phx_comm_shape *shape, phx_comm **ret_comm, phx_error *err)
{
    mpi_comm *m = NULL;
    mpi_batch batch = {.peers = {UINT32_MAX}, .n = 1};
    phx_code rc = phx_comm_shape_check(shape, err);
    if (rc != PHX_OK)
        goto out;
    m = phx_alloc(1, sizeof(*m));
    if (!m) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "communicator of rank %" PRIu32, shape->rank);
        goto out;
    }
    m->base.ops = &mpi_ops;
    m->base.shape = *shape;
    m->first = shape->rank / shape->tp * shape->tp;
    m->world = MPI_COMM_NULL;
    m->mail_request = MPI_REQUEST_NULL;
    m->deadline_us = now_of(m) + (shape->timeout_ms ? shape->timeout_ms : CREATE_MS_DEFAULT) * UINT64_C(1000);
    rc = check_world(m, err);
    if (rc == PHX_OK)
        rc = take_buffers(m, err);
    if (rc == PHX_OK) /* not blocking, so that the deadline holds when a rank is missing */
        rc = check(m, MPI_Comm_idup(MPI_COMM_WORLD, &m->world, &batch.requests[0]), "MPI_Comm_idup", err);
    if (rc == PHX_OK)
        rc = await(m, &batch, MPI_STATUSES_IGNORE, err);
    if (rc == PHX_OK)
        rc = check(m, MPI_Comm_set_errhandler(m->world, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler", err);
    if (rc == PHX_OK)
        rc = agree(m, err);
    if (rc == PHX_OK && m->first > 0)
        rc = ask_for_mail(m, err);
    if (rc != PHX_OK)
        goto out;
    *ret_comm = &m->base;
    m = NULL;
out:
    if (m)
        mpi_destroy(&m->base);
    return rc;
}

static void mpi_abort(phx_comm *comm)
{
    atomic_store(&mpi_of(comm)->aborted, 1);
}

static void mpi_destroy(phx_comm *comm)
{
    mpi_comm *m = mpi_of(comm);
    if (m->dead.code != PHX_OK)
        return; /* open requests still point into the buffers */
    if (m->mail_request != MPI_REQUEST_NULL) {
        (void)MPI_Cancel(&m->mail_request);
        (void)MPI_Wait(&m->mail_request, MPI_STATUS_IGNORE);
    }
    bool all_copied = true;
    for (uint32_t i = 0; m->note_requests && i < phx_comm_n_notes(&comm->shape); i++) {
        int is_complete = 1;
        if (m->note_requests[i] != MPI_REQUEST_NULL)
            (void)MPI_Test(&m->note_requests[i], &is_complete, MPI_STATUS_IGNORE);
        if (!is_complete) /* its receiver went without taking it */
            (void)MPI_Request_free(&m->note_requests[i]);
        all_copied = all_copied && is_complete;
    }
    if (all_copied)
        phx_free(m->notes);
    phx_free(m->note_requests);
    if (m->world != MPI_COMM_NULL)
        (void)MPI_Comm_free(&m->world);
    phx_free(m->parts);
    phx_free(m->mail);
    phx_free(m);
}
