/* worker/comm/nccl_wait.c - waiting for NCCL without being lost in it.
 * Owns: the one loop that looks at NCCL, at the device and at the group, and how a communicator ends. NCCL
 * does not notice a process of its own host that has died: its kernel spins until somebody aborts it. So
 * every wait here is a poll, and the group underneath says when to give up. */
#include "worker/comm/nccl_state.h"

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"

#define SPIN_US 200u
#define NAP_US  50u

/* After this long a rank that has left in good order will not come: what it queued before has long run. */
#define DEPARTED_AFTER_US 250000u

/* How long the group may take to name the rank behind an error of NCCL: it looks after processes that often.
 */
#define CAUSE_US 500000u

/* NCCL's own abort has been seen to hang when a peer is gone: then the thread inside is left behind, and the
 * process ends soon. */
#define END_US 5000000u

/* For a failure to be told: what NCCL's kernels do is over when abort has begun, the rest goes on beside, and
 * may last until the graphs have gone. phx_nccl_end_links waits for it. */
#define ABORT_US 500000u

/* At the end, for messages that nobody has received yet. */
#define LINGER_US 1000000u

static void give_way(uint64_t waited_us)
{
    if (waited_us < SPIN_US)
        (void)sched_yield();
    else
        (void)usleep(NAP_US);
}

static phx_comm_watch watch_of(const phx_nccl *c, phx_nccl_link link)
{
    const phx_comm_shape *shape = &c->base.shape;
    if (link == PHX_NCCL_OUT && phx_nccl_sends(shape))
        return (phx_comm_watch){.first = shape->rank + shape->tp, .n = 1};
    if (link == PHX_NCCL_IN)
        return (phx_comm_watch){.first = shape->rank - shape->tp, .n = 1};
    return (phx_comm_watch){.first = c->first, .n = shape->tp};
}

/* ---- failing ---- */

phx_code phx_nccl_fail_as(phx_nccl *c, const phx_error *cause, phx_error *err)
{
    const phx_code rc = c->under->ops->under->fail(c->under, cause, err);
    phx_nccl_give_up(c);
    return rc;
}

phx_code phx_nccl_fail(phx_nccl *c, phx_code code, phx_error *err, const char *format, ...)
{
    phx_error cause = {0};
    char text[sizeof(cause.text)];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    (void)PHX_FAIL(&cause, code, "%s", text);
    return phx_nccl_fail_as(c, &cause, err);
}

/* One look at the group. */
static phx_code look(phx_nccl *c, const phx_comm_watch *watch, phx_error *err)
{
    const phx_code rc = c->under->ops->under->watch(c->under, watch, err);
    if (rc != PHX_OK)
        phx_nccl_give_up(c);
    return rc;
}

/* NCCL has reported an error. What the group knows is better: it names the rank. */
static phx_code fail_for(phx_nccl *c, phx_nccl_link link, phx_nccl_result result, const char *what,
                         phx_error *err)
{
    phx_comm_watch watch = watch_of(c, link);
    watch.departed = watch.urgent = true;
    const bool remote = result == PHX_NCCL_REMOTE_ERROR || result == PHX_NCCL_SYSTEM_ERROR;
    for (const uint64_t end_us = phx_clock_us() + CAUSE_US; remote && phx_clock_us() < end_us;) {
        const phx_code rc = look(c, &watch, err);
        if (rc != PHX_OK)
            return rc;
        (void)usleep(10000);
    }
    const char *detail = c->links[link] ? c->api.last_error(c->links[link]) : NULL;
    return phx_nccl_fail(c, PHX_ERR_COMM, err, "rank %" PRIu32 ", NCCL, %s: %s%s%s", c->base.shape.rank, what,
                         c->api.error_string(result), detail && detail[0] ? ": " : "", detail ? detail : "");
}

/* ---- waiting ---- */

/* PHX_OK with *ret_busy while NCCL still works on what was asked of it. */
static phx_code ask(phx_nccl *c, phx_nccl_link link, const char *what, bool *ret_busy, phx_error *err)
{
    phx_nccl_result state = PHX_NCCL_SUCCESS;
    phx_nccl_result result = c->api.comm_async_error(c->links[link], &state);
    if (result == PHX_NCCL_SUCCESS)
        result = state;
    if (result != PHX_NCCL_SUCCESS && result != PHX_NCCL_IN_PROGRESS)
        return fail_for(c, link, result, what, err);
    *ret_busy = result == PHX_NCCL_IN_PROGRESS;
    return PHX_OK;
}

phx_code phx_nccl_settle(phx_nccl *c, phx_nccl_link link, phx_nccl_result result, const char *what,
                         phx_error *err)
{
    if (result == PHX_NCCL_SUCCESS)
        return PHX_OK;
    if (result != PHX_NCCL_IN_PROGRESS)
        return fail_for(c, link, result, what, err);
    phx_comm_watch watch = watch_of(c, link);
    watch.timed = true;
    const uint64_t start_us = phx_clock_us();
    for (;;) {
        bool busy = false;
        phx_code rc = ask(c, link, what, &busy, err);
        if (rc != PHX_OK || !busy)
            return rc;
        rc = look(c, &watch, err);
        if (rc != PHX_OK)
            return rc;
        give_way(phx_clock_us() - start_us);
    }
}

phx_code phx_nccl_await(phx_nccl *c, phx_nccl_link link, void *event, phx_error *err)
{
    phx_comm_watch watch = watch_of(c, link);
    watch.timed = true;
    const uint64_t start_us = phx_clock_us();
    for (;;) {
        bool is_done = false, busy = false;
        phx_error cause = {0};
        phx_code rc = c->device->is_done(c->device->user, event, &is_done, &cause);
        if (rc != PHX_OK)
            return phx_nccl_fail_as(c, &cause, err);
        /* An aborted communicator lets its stream run on: only then is "done" not enough. */
        if (c->links[link])
            rc = ask(c, link, "data", &busy, err);
        if (rc != PHX_OK || is_done)
            return rc;
        const uint64_t waited_us = phx_clock_us() - start_us;
        watch.departed = waited_us >= DEPARTED_AFTER_US;
        rc = look(c, &watch, err);
        if (rc != PHX_OK)
            return rc;
        give_way(waited_us);
    }
}

/* Without a look at the group: at the end nothing of it counts any more. */
static bool await_a_little(phx_nccl *c, void *event)
{
    const uint64_t start_us = phx_clock_us();
    for (;;) {
        bool is_done = false;
        if (c->device->is_done(c->device->user, event, &is_done, NULL) != PHX_OK)
            return false;
        const uint64_t waited_us = phx_clock_us() - start_us;
        if (is_done || waited_us >= LINGER_US)
            return is_done;
        give_way(waited_us);
    }
}

bool phx_nccl_linger(phx_nccl *c)
{
    bool all_left = true;
    for (uint32_t slot = 0; slot < PHX_COMM_STAGE_DEPTH && c->links[PHX_NCCL_OUT]; slot++)
        all_left = all_left && await_a_little(c, c->left[slot]);
    return all_left;
}

static bool drained(phx_nccl *c, void *event, void *stream)
{
    return !event || !stream ||
           (c->device->record(c->device->user, event, stream, NULL) == PHX_OK && await_a_little(c, event));
}

bool phx_nccl_drain(phx_nccl *c)
{
    if (!drained(c, c->done, c->stream) || !drained(c, c->ready, c->mail_stream))
        c->stuck = true;
    return !c->stuck;
}

phx_code phx_nccl_await_links(phx_nccl *c, uint64_t limit_us, phx_error *err)
{
    const phx_comm_watch watch = {.first = 0, .n = phx_comm_n_ranks(&c->base.shape), .departed = true};
    phx_steady clock = {0};
    const uint64_t start_us = phx_steady_us(&clock, phx_clock_us());
    for (;;) {
        bool any_busy = false;
        phx_code rc = PHX_OK;
        for (phx_nccl_link link = 0; link < PHX_NCCL_LINK_COUNT; link++) {
            bool busy = false;
            if (c->links[link])
                rc = ask(c, link, "start", &busy, err);
            if (rc != PHX_OK)
                return rc;
            any_busy = any_busy || busy;
        }
        if (!any_busy)
            return PHX_OK;
        rc = look(c, &watch, err);
        if (rc != PHX_OK)
            return rc;
        const uint64_t waited_us = phx_steady_us(&clock, phx_clock_us()) - start_us;
        if (waited_us >= limit_us)
            return phx_nccl_fail(c, PHX_ERR_COMM, err,
                                 "rank %" PRIu32
                                 ": NCCL did not connect the ranks in time; see NCCL_DEBUG=INFO, "
                                 "and NCCL_SOCKET_IFNAME for the interface that it uses",
                                 c->base.shape.rank);
        give_way(waited_us);
    }
}

/* ---- ending ---- */

/* NCCL frees memory of the device when a communicator ends, and for that the driver waits until every kernel
 * of the device is over: those of other links too, which spin until they are aborted. So each link ends on a
 * thread of its own. A link that a graph names ends only when the graph has gone. */

enum { RUNNING, ENDED, LEFT_ALONE };

struct phx_nccl_ending { /* shared with the thread that is inside NCCL */
    phx_nccl_api api;
    phx_nccl_comm comm;
    pthread_t thread;
    bool in_order;
    _Atomic uint32_t state; /* left alone, the thread frees it */
};

static void end_one(const phx_nccl_ending *e)
{
    phx_nccl_result state = PHX_NCCL_IN_PROGRESS;
    if (!e->in_order || e->api.comm_finalize(e->comm) > PHX_NCCL_IN_PROGRESS) {
        (void)e->api.comm_abort(e->comm);
        return;
    }
    while (e->api.comm_async_error(e->comm, &state) == PHX_NCCL_SUCCESS && state == PHX_NCCL_IN_PROGRESS)
        (void)usleep(NAP_US);
    (void)(state == PHX_NCCL_SUCCESS ? e->api.comm_destroy(e->comm) : e->api.comm_abort(e->comm));
}

static void *run_ending(void *arg)
{
    phx_nccl_ending *e = arg;
    end_one(e);
    uint32_t running = RUNNING;
    if (!atomic_compare_exchange_strong(&e->state, &running, ENDED))
        phx_free(e);
    return NULL;
}

/* Without memory or a thread for it a link stays, as one whose abort hangs does. */
static void start_ending(phx_nccl *c, bool in_order)
{
    for (uint32_t link = 0; link < PHX_NCCL_LINK_COUNT; link++) {
        if (!c->links[link])
            continue;
        phx_nccl_ending *e = phx_alloc(1, sizeof(*e));
        if (e) {
            e->api = c->api;
            e->comm = c->links[link];
            e->in_order = in_order;
        }
        if (e && pthread_create(&e->thread, NULL, run_ending, e) == 0) {
            c->endings[link] = e;
        } else {
            c->stuck = true;
            phx_free(e);
        }
        c->links[link] = NULL;
    }
}

/* True when no link is left that ends. */
static bool await_endings(phx_nccl *c, uint64_t limit_us)
{
    const uint64_t start_us = phx_clock_us();
    for (;;) {
        bool any = false;
        for (uint32_t link = 0; link < PHX_NCCL_LINK_COUNT; link++) {
            phx_nccl_ending *e = c->endings[link];
            if (e && atomic_load(&e->state) == ENDED) {
                (void)pthread_join(e->thread, NULL);
                phx_free(e);
                c->endings[link] = NULL;
            }
            any = any || c->endings[link];
        }
        const uint64_t waited_us = phx_clock_us() - start_us;
        if (!any || waited_us >= limit_us)
            return !any;
        give_way(waited_us);
    }
}

void phx_nccl_end_links(phx_nccl *c, bool in_order)
{
    start_ending(c, in_order);
    if (await_endings(c, END_US))
        return;
    for (uint32_t link = 0; link < PHX_NCCL_LINK_COUNT; link++) {
        phx_nccl_ending *e = c->endings[link];
        uint32_t running = RUNNING;
        if (!e)
            continue;
        c->stuck = true;
        c->endings[link] = NULL;
        const pthread_t thread = e->thread; /* left alone, e may be gone */
        if (atomic_compare_exchange_strong(&e->state, &running, LEFT_ALONE)) {
            (void)pthread_detach(thread);
            continue;
        }
        (void)pthread_join(thread, NULL);
        phx_free(e);
    }
}

void phx_nccl_give_up(phx_nccl *c)
{
    bool any = false;
    c->gave_up = true;
    phx_nccl_alarm(c);
    for (uint32_t link = 0; link < PHX_NCCL_LINK_COUNT; link++)
        any = any || c->links[link];
    if (!any)
        return;
    start_ending(c, false);
    (void)await_endings(c, ABORT_US);
    (void)phx_nccl_drain(c);
}
