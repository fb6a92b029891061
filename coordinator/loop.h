/* coordinator/loop.h - the one thread that waits: timers, descriptors, signals, calls posted by other
 * threads. Owns: the event base and the eventfd behind phx_loop_post; one of the two homes of libevent (the
 * other is coordinator/http/). Everything here is for the loop's own thread, except phx_loop_post and
 * phx_loop_stop. */
#ifndef PHX_COORDINATOR_LOOP_H
#define PHX_COORDINATOR_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

struct event_base;

typedef struct phx_loop phx_loop;
typedef struct phx_loop_timer phx_loop_timer;
typedef struct phx_loop_watch phx_loop_watch;
typedef struct phx_loop_signal phx_loop_signal;

typedef struct phx_loop_call {
    void (*fn)(void *user);
    void *user;
} phx_loop_call;

/* Also ignores SIGPIPE for the process: a client that leaves must not end it. */
phx_code phx_loop_create(phx_loop **ret_loop, phx_error *err);

/* Accepts NULL. Timers, watches and signals are destroyed before; posted calls not yet run are dropped. */
void phx_loop_destroy(phx_loop *loop);

/* Runs until phx_loop_stop, which may also have come before. PHX_ERR_IO when the kernel's poll fails. */
phx_code phx_loop_run(phx_loop *loop, phx_error *err);

/* One round: waits at most wait_us for something to happen and runs what is due. For tests and short waits.
 */
phx_code phx_loop_step(phx_loop *loop, uint64_t wait_us, phx_error *err);

/* From any thread; phx_loop_run returns after the callback now running. */
void phx_loop_stop(phx_loop *loop);

/* From any thread: call runs on the loop's thread, in the order of posting. PHX_ERR_BUSY when
 * PHX_LOOP_POSTS_MAX calls already wait, PHX_ERR_NOMEM. */
#define PHX_LOOP_POSTS_MAX 65536u
phx_code phx_loop_post(phx_loop *loop, phx_loop_call call);

/* One-shot timer, created idle. start moves a running one; delay 0 fires in the next round, after the
 * descriptors that are ready (never in the round that starts it, so a chain of them starves nobody). */
phx_code phx_loop_timer_create(phx_loop *loop, phx_loop_call call, phx_loop_timer **ret_timer,
                               phx_error *err);
void phx_loop_timer_start(phx_loop_timer *timer, uint64_t delay_us);
void phx_loop_timer_cancel(phx_loop_timer *timer);
void phx_loop_timer_destroy(phx_loop_timer *timer); /* accepts NULL; allowed inside its own callback */

/* Calls fn when fd is readable. fn returns true when it stopped with work left: it is called again in the
 * next round, readable or not. That makes edge-triggered descriptors (ZMQ_FD) safe: fn handles a bounded
 * number of messages and answers whether the socket still has some; after sending on such a socket, the
 * owner calls phx_loop_watch_kick, because the send may have swallowed the edge. fd stays the caller's. */
typedef struct phx_loop_watch_spec {
    int fd;
    bool (*fn)(void *user);
    void *user;
} phx_loop_watch_spec;
phx_code phx_loop_watch_create(phx_loop *loop, const phx_loop_watch_spec *spec, phx_loop_watch **ret_watch,
                               phx_error *err);
void phx_loop_watch_kick(phx_loop_watch *watch);    /* fn runs once in the next round */
void phx_loop_watch_destroy(phx_loop_watch *watch); /* accepts NULL; allowed inside its own callback */

/* SIGTERM, SIGINT, SIGCHLD ...: fn runs on the loop, not in the signal handler; several signals of a kind may
 * arrive as one. Only one loop of the process may hold signals at a time. */
typedef struct phx_loop_signal_spec {
    int number;
    void (*fn)(void *user);
    void *user;
} phx_loop_signal_spec;
phx_code phx_loop_signal_create(phx_loop *loop, const phx_loop_signal_spec *spec,
                                phx_loop_signal **ret_signal, phx_error *err);
void phx_loop_signal_destroy(phx_loop_signal *signal); /* accepts NULL */

struct event_base *phx_loop_base(phx_loop *loop); /* for coordinator/http/ alone */

#endif
