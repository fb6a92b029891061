/* worker/control.c - the control thread of a rank: owns the socket, reports progress, obeys aborts.
 * It never computes, so a stuck collective cannot silence the rank (DESIGN 3). */
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "kernels/ops.h"
#include "proto/codec.h"
#include "proto/link.h"
#include "worker/rank.h"

/* How long a rank tries to reach its coordinator: one that was started by hand, and one that the coordinator
 * launched, which is an orphan when nobody answers. */
#define PHX_BY_HAND_US    30000000u
#define PHX_LAUNCHED_US   2000000u
#define PHX_PROGRESS_US   200000u  /* between reports */
#define PHX_STOP_GRACE_US 1000000u /* from being told to stop to aborting a running collective */

typedef struct control {
    phx_rank *rank;
    phx_link *link;
    phx_buf message;
    phx_buf wire;
    uint64_t reported_us;
    uint64_t stopping_us; /* when the coordinator said to stop; 0: it has not */
    uint64_t drained_us;  /* when the compute thread had ended and its last message was sent; 0: not yet */
} control;

static phx_code connect_and_greet(control *c, phx_error *err);
static phx_code take_messages(control *c, phx_error *err);
static phx_code send_messages(control *c, phx_error *err);
static phx_code report_progress(control *c, phx_error *err);
static bool may_leave(const control *c);
static void stop(control *c);

void *phx_rank_control(void *user)
{
    phx_error err = {0};
    control c = {.rank = user};
    phx_buf_init(&c.message, PHX_MESSAGE_MAX);
    phx_buf_init(&c.wire, PHX_MESSAGE_MAX);
    phx_code rc = connect_and_greet(&c, &err);
    while (rc == PHX_OK) {
        (void)phx_link_wait(c.link, phx_mailbox_fd(c.rank->outbox), (int)(PHX_PROGRESS_US / 1000));
        rc = take_messages(&c, &err);
        if (rc == PHX_OK)
            rc = send_messages(&c, &err);
        if (rc == PHX_OK)
            rc = report_progress(&c, &err);
        if (rc == PHX_OK && may_leave(&c))
            break;
    }
    /* After the order to stop, or the compute thread's own failure, the link's end is no news. */
    if (rc != PHX_OK && !c.stopping_us && !c.drained_us)
        (void)PHX_FAIL(&c.rank->control_error, c.link && rc == PHX_ERR_UNAVAILABLE ? PHX_ERR_PEER_LOST : rc,
                       "control link: %s", err.text);
    stop(&c);
    phx_link_close(c.link);
    phx_buf_done(&c.message);
    phx_buf_done(&c.wire);
    return NULL;
}

static phx_code send_frame(control *c, Phalanx__RankFrame *frame, phx_error *err)
{
    frame->epoch = c->rank->options.epoch;
    phx_buf_clear(&c->wire);
    const phx_code rc = phx_message_encode(&frame->base, &c->wire, err);
    if (rc != PHX_OK)
        return rc;
    return phx_link_send(c->link, NULL, (phx_bytes){(const uint8_t *)c->wire.ptr, c->wire.n}, err);
}

static uint64_t available_memory(void)
{
    const long pages = sysconf(_SC_AVPHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
}

static phx_code connect_and_greet(control *c, phx_error *err)
{
    const phx_rank_options *o = &c->rank->options;
    phx_link_keys keys;
    bool told = false;
    char identity[48], host[256] = "?";
    if (o->key_file) {
        const phx_code rc = phx_link_keys_read(o->key_file, &keys, err);
        if (rc != PHX_OK)
            return rc;
    }
    (void)snprintf(identity, sizeof(identity), "e%llur%u", (unsigned long long)o->epoch, o->rank);
    phx_code rc = PHX_ERR_UNAVAILABLE;
    const uint32_t patience_us = o->epoch ? PHX_LAUNCHED_US : PHX_BY_HAND_US;
    const uint64_t until = phx_clock_us() + patience_us;
    for (phx_error again = {0}; rc == PHX_ERR_UNAVAILABLE; again = (phx_error){0}) {
        rc = phx_link_connect(o->coordinator, o->key_file ? &keys : NULL, identity, &c->link, &again);
        if (rc != PHX_OK && (rc != PHX_ERR_UNAVAILABLE || phx_clock_us() > until))
            return PHX_FAIL(err, rc, "cannot reach the coordinator: %s", again.text);
        if (rc != PHX_OK && !told)
            phx_log(PHX_LOG_WARN, "trying for %u s: %s", patience_us / 1000000, again.text);
        told = told || rc != PHX_OK;
        if (rc != PHX_OK)
            (void)usleep(200000);
    }
    (void)gethostname(host, sizeof(host) - 1);
    Phalanx__RankFrame frame = PHALANX__RANK_FRAME__INIT;
    Phalanx__Hello hello = PHALANX__HELLO__INIT;
    hello.build = (char *)(uintptr_t)phx_build_id();
    hello.rank = o->rank;
    hello.n_ranks = o->n_ranks;
    hello.host = host;
    hello.pid = (uint32_t)getpid();
    hello.level = (char *)(uintptr_t)phx_level_name(phx_level_of_machine());
    hello.n_cpus = phx_rank_cpus(NULL, 0);
    hello.memory_bytes = available_memory();
    hello.n_ranks_on_host = o->n_ranks_on_host;
    const phx_backend *device = c->rank->device;
    hello.device_level = (char *)(uintptr_t)(device ? device->level : "");
    hello.device = (char *)(uintptr_t)(device ? device->description : c->rank->no_device.text);
    hello.device_bytes = device ? device->free_bytes : 0;
    frame.body_case = PHALANX__RANK_FRAME__BODY_HELLO;
    frame.hello = &hello;
    return send_frame(c, &frame, err);
}

/* Only what the control thread itself obeys is decoded here; the rest goes to the compute thread as it came.
 */
static phx_code obey(control *c, const Phalanx__RankFrame *frame, bool *ret_forward)
{
    *ret_forward = false;
    switch (frame->body_case) {
    case PHALANX__RANK_FRAME__BODY_CREDIT:
        atomic_fetch_add(&c->rank->capture_credit, (int32_t)frame->credit->n_parts);
        break;
    case PHALANX__RANK_FRAME__BODY_SHUTDOWN:
        phx_mailbox_close(c->rank->inbox);
        c->stopping_us = phx_clock_us();
        break;
    case PHALANX__RANK_FRAME__BODY_ASSIGN:
    case PHALANX__RANK_FRAME__BODY_STEP:
        *ret_forward = true;
        break;
    default:
        return PHX_ERR_CORRUPT;
    }
    return PHX_OK;
}

static phx_code take_messages(control *c, phx_error *err)
{
    for (;;) {
        phx_code rc = phx_link_receive(c->link, NULL, &c->message, err);
        if (rc == PHX_ERR_NOT_FOUND)
            return PHX_OK;
        if (rc != PHX_OK)
            return rc;
        const phx_bytes wire = {(const uint8_t *)c->message.ptr, c->message.n};
        Phalanx__RankFrame *frame = NULL;
        bool forward = false;
        rc = phx_rank_frame_decode(wire, &frame, err);
        if (rc != PHX_OK)
            return rc;
        if (c->rank->options.epoch == 0) /* started by hand: the assignment says which epoch this is */
            c->rank->options.epoch = frame->epoch;
        const bool mine = frame->epoch == c->rank->options.epoch;
        rc = mine ? obey(c, frame, &forward) : PHX_OK; /* another epoch: dropped */
        phx_rank_frame_free(frame);
        if (rc != PHX_OK)
            return PHX_FAIL(err, rc, "message of a kind that ranks do not receive");
        if (forward)
            rc = phx_mailbox_try_push(c->rank->inbox, wire, err);
        if (rc != PHX_OK)
            return rc;
    }
}

static phx_code send_messages(control *c, phx_error *err)
{
    for (;;) {
        phx_code rc = phx_mailbox_pop(c->rank->outbox, 0, &c->message, err);
        if (rc == PHX_ERR_NOT_FOUND || rc == PHX_ERR_CANCELLED) {
            if (rc == PHX_ERR_CANCELLED && !c->drained_us)
                c->drained_us = phx_clock_us();
            return PHX_OK;
        }
        if (rc == PHX_OK)
            rc =
                phx_link_send(c->link, NULL, (phx_bytes){(const uint8_t *)c->message.ptr, c->message.n}, err);
        if (rc != PHX_OK)
            return rc;
    }
}

static phx_code report_progress(control *c, phx_error *err)
{
    static const char *const phases[] = {"starting", "loading", "checking", "ready"};
    const uint64_t now = phx_clock_us();
    if (now - c->reported_us < PHX_PROGRESS_US)
        return PHX_OK;
    c->reported_us = now;
    const phx_rank *rank = c->rank;
    Phalanx__RankFrame frame = PHALANX__RANK_FRAME__INIT;
    Phalanx__Progress progress = PHALANX__PROGRESS__INIT;
    progress.phase = (char *)(uintptr_t)phases[atomic_load(&rank->phase)];
    progress.done = atomic_load(&rank->load.done_bytes);
    progress.total = atomic_load(&rank->load.total_bytes);
    progress.n_steps = atomic_load(&rank->n_steps);
    progress.n_verbs = atomic_load(&rank->n_verbs);
    progress.step = atomic_load(&rank->step);
    progress.resident_bytes = atomic_load(&rank->resident_bytes);
    progress.exchange_bytes = atomic_load(&rank->exchange_bytes);
    progress.n_replays = atomic_load(&rank->n_replays);
    frame.body_case = PHALANX__RANK_FRAME__BODY_PROGRESS;
    frame.progress = &progress;
    return send_frame(c, &frame, err);
}

/* The link does not linger when it closes, so a rank that failed waits until its last words have been heard:
 * the answer to them is the order to stop, or the coordinator's end. */
static bool may_leave(const control *c)
{
    const uint64_t now = phx_clock_us();
    if (c->drained_us)
        return c->stopping_us || now - c->drained_us > PHX_STOP_GRACE_US;
    return c->stopping_us && now - c->stopping_us > PHX_STOP_GRACE_US;
}

/* Makes the compute thread end wherever it is: waiting for work, loading, waiting for credit or inside a
 * collective. */
static void stop(control *c)
{
    atomic_store(&c->rank->stop, true);
    atomic_store(&c->rank->load.stop, true);
    phx_mailbox_close(c->rank->inbox);
    phx_mailbox_close(c->rank->outbox);
    /* A compute thread that has ended needs no abort, and peers may still be finishing the last step. */
    phx_comm *comm = c->drained_us ? NULL : atomic_load(&c->rank->comm);
    if (comm)
        phx_comm_abort(comm);
}
