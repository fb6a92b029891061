/* coordinator/loop.c - libevent behind a small door. */
#include "coordinator/loop.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/alloc.h"

struct phx_loop {
    struct event_base *base;
    struct event *wake;
    struct event *round; /* bounds phx_loop_step */
    int wake_fd;
    atomic_bool stop;
    pthread_mutex_t lock;
    bool has_lock;
    phx_loop_call *posts; /* [n_posts_cap], guarded by lock */
    size_t n_posts;
    size_t n_posts_cap;
};

struct phx_loop_timer {
    phx_loop_call call;
    struct event *event;
};

struct phx_loop_watch {
    phx_loop_watch_spec spec;
    struct event *io;
    struct event *again;
    bool *gone; /* set when the callback destroys its own watch */
};

struct phx_loop_signal {
    phx_loop_signal_spec spec;
    struct event *event;
};

static void loop_on_wake(evutil_socket_t fd, short what, void *user);
static void loop_on_round(evutil_socket_t fd, short what, void *user);
static void loop_wake(const phx_loop *loop);
static struct timeval loop_timeval(uint64_t us);

phx_code phx_loop_create(phx_loop **ret_loop, phx_error *err)
{
    phx_code rc = PHX_OK;
    struct event_config *config = NULL;
    phx_loop *loop = phx_alloc(1, sizeof(*loop));
    if (!loop) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "event loop");
        goto out;
    }
    loop->wake_fd = -1;
    atomic_init(&loop->stop, false);
    loop->has_lock = pthread_mutex_init(&loop->lock, NULL) == 0;
    config = event_config_new();
    if (!loop->has_lock || !config) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "event loop");
        goto out;
    }
    /* No cached time: a long callback must not make the timers that it starts fire early. */
    (void)event_config_set_flag(config, EVENT_BASE_FLAG_NO_CACHE_TIME | EVENT_BASE_FLAG_PRECISE_TIMER |
                                            EVENT_BASE_FLAG_IGNORE_ENV);
    loop->base = event_base_new_with_config(config);
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!loop->base || loop->wake_fd < 0) {
        rc = PHX_FAIL(err, PHX_ERR_IO, "cannot create the event loop: %s", strerror(errno));
        goto out;
    }
    loop->wake = event_new(loop->base, loop->wake_fd, EV_READ | EV_PERSIST, loop_on_wake, loop);
    loop->round = event_new(loop->base, -1, 0, loop_on_round, loop);
    if (!loop->wake || !loop->round || event_add(loop->wake, NULL) != 0) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "event loop");
        goto out;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    *ret_loop = loop;
    loop = NULL;
out:
    if (config)
        event_config_free(config);
    phx_loop_destroy(loop);
    return rc;
}

void phx_loop_destroy(phx_loop *loop)
{
    if (!loop)
        return;
    if (loop->wake)
        event_free(loop->wake);
    if (loop->round)
        event_free(loop->round);
    if (loop->base)
        event_base_free(loop->base);
    if (loop->wake_fd >= 0)
        (void)close(loop->wake_fd);
    if (loop->has_lock)
        (void)pthread_mutex_destroy(&loop->lock);
    phx_free(loop->posts);
    phx_free(loop);
}

phx_code phx_loop_run(phx_loop *loop, phx_error *err)
{
    phx_code rc = PHX_OK;
    while (rc == PHX_OK && !atomic_load(&loop->stop)) {
        if (event_base_loop(loop->base, EVLOOP_NO_EXIT_ON_EMPTY) < 0)
            rc = PHX_FAIL(err, PHX_ERR_IO, "event loop: %s", strerror(errno));
    }
    atomic_store(&loop->stop, false);
    return rc;
}

phx_code phx_loop_step(phx_loop *loop, uint64_t wait_us, phx_error *err)
{
    const struct timeval wait = loop_timeval(wait_us);
    if (event_add(loop->round, &wait) != 0)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "event loop");
    const int rc = event_base_loop(loop->base, EVLOOP_ONCE);
    (void)event_del(loop->round);
    return rc < 0 ? PHX_FAIL(err, PHX_ERR_IO, "event loop: %s", strerror(errno)) : PHX_OK;
}

void phx_loop_stop(phx_loop *loop)
{
    atomic_store(&loop->stop, true);
    loop_wake(loop);
}

phx_code phx_loop_post(phx_loop *loop, phx_loop_call call)
{
    phx_code rc = PHX_OK;
    assert(call.fn);
    (void)pthread_mutex_lock(&loop->lock);
    if (loop->n_posts >= PHX_LOOP_POSTS_MAX) {
        rc = PHX_ERR_BUSY;
        goto out;
    }
    if (loop->n_posts == loop->n_posts_cap) {
        const size_t n_cap = loop->n_posts_cap ? 2 * loop->n_posts_cap : 64;
        phx_loop_call *posts = phx_realloc(loop->posts, n_cap, sizeof(*posts));
        if (!posts) {
            rc = PHX_ERR_NOMEM;
            goto out;
        }
        loop->posts = posts;
        loop->n_posts_cap = n_cap;
    }
    loop->posts[loop->n_posts++] = call;
    loop_wake(loop);
out:
    (void)pthread_mutex_unlock(&loop->lock);
    return rc;
}

static void loop_wake(const phx_loop *loop)
{
    const uint64_t one = 1;
    ssize_t n;
    do
        n = write(loop->wake_fd, &one, sizeof(one));
    while (n < 0 && errno == EINTR);
    /* EAGAIN means that the counter is full: the loop will wake anyway. */
    assert(n == (ssize_t)sizeof(one) || errno == EAGAIN);
}

/* Takes the whole list at once, so that a call which posts again waits for the next round. */
static void loop_on_wake(evutil_socket_t fd, short what, void *user)
{
    phx_loop *loop = user;
    uint64_t n_wakes;
    (void)what;
    while (read(fd, &n_wakes, sizeof(n_wakes)) < 0 && errno == EINTR) {
    }
    (void)pthread_mutex_lock(&loop->lock);
    phx_loop_call *posts = loop->posts;
    const size_t n_posts = loop->n_posts;
    loop->posts = NULL;
    loop->n_posts = 0;
    loop->n_posts_cap = 0;
    (void)pthread_mutex_unlock(&loop->lock);
    for (size_t i = 0; i < n_posts; i++)
        posts[i].fn(posts[i].user);
    phx_free(posts);
    if (atomic_load(&loop->stop))
        (void)event_base_loopbreak(loop->base);
}

/* Nothing to do: its firing ends the wait of phx_loop_step. */
static void loop_on_round(evutil_socket_t fd, short what, void *user)
{
    (void)fd;
    (void)what;
    (void)user;
}

static struct timeval loop_timeval(uint64_t us)
{
    return (struct timeval){.tv_sec = (time_t)(us / 1000000u), .tv_usec = (suseconds_t)(us % 1000000u)};
}

/* Timers. */

static void timer_on_fire(evutil_socket_t fd, short what, void *user)
{
    const phx_loop_timer *timer = user;
    (void)fd;
    (void)what;
    timer->call.fn(timer->call.user);
}

phx_code phx_loop_timer_create(phx_loop *loop, phx_loop_call call, phx_loop_timer **ret_timer, phx_error *err)
{
    phx_code rc = PHX_OK;
    assert(call.fn);
    phx_loop_timer *timer = phx_alloc(1, sizeof(*timer));
    if (timer) {
        timer->call = call;
        timer->event = event_new(loop->base, -1, 0, timer_on_fire, timer);
    }
    if (!timer || !timer->event) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "timer");
        goto out;
    }
    *ret_timer = timer;
    timer = NULL;
out:
    phx_loop_timer_destroy(timer);
    return rc;
}

void phx_loop_timer_start(phx_loop_timer *timer, uint64_t delay_us)
{
    const struct timeval delay = loop_timeval(delay_us);
    /* Fails only when the heap of timer pointers cannot grow; a timer that silently never fires is worse. */
    const int rc = event_add(timer->event, &delay);
    assert(rc == 0);
    (void)rc;
}

void phx_loop_timer_cancel(phx_loop_timer *timer)
{
    (void)event_del(timer->event);
}

void phx_loop_timer_destroy(phx_loop_timer *timer)
{
    if (timer && timer->event)
        event_free(timer->event);
    phx_free(timer);
}

/* Descriptors. */

static void watch_on_event(evutil_socket_t fd, short what, void *user)
{
    phx_loop_watch *watch = user;
    bool gone = false;
    (void)fd;
    (void)what;
    watch->gone = &gone;
    const bool more = watch->spec.fn(watch->spec.user);
    if (gone)
        return;
    watch->gone = NULL;
    if (more)
        phx_loop_watch_kick(watch);
}

phx_code phx_loop_watch_create(phx_loop *loop, const phx_loop_watch_spec *spec, phx_loop_watch **ret_watch,
                               phx_error *err)
{
    phx_code rc = PHX_OK;
    assert(spec->fn);
    phx_loop_watch *watch = phx_alloc(1, sizeof(*watch));
    if (!watch) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "watch");
        goto out;
    }
    watch->spec = *spec;
    watch->io = event_new(loop->base, spec->fd, EV_READ | EV_PERSIST, watch_on_event, watch);
    watch->again = event_new(loop->base, -1, 0, watch_on_event, watch);
    if (!watch->io || !watch->again) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "watch");
        goto out;
    }
    if (event_add(watch->io, NULL) != 0) {
        rc = PHX_FAIL(err, PHX_ERR_IO, "cannot watch descriptor %d: %s", spec->fd, strerror(errno));
        goto out;
    }
    /* What became readable before the watch existed gives no edge any more. */
    phx_loop_watch_kick(watch);
    *ret_watch = watch;
    watch = NULL;
out:
    phx_loop_watch_destroy(watch);
    return rc;
}

void phx_loop_watch_kick(phx_loop_watch *watch)
{
    const struct timeval now = {0};
    const int rc = event_add(watch->again, &now);
    assert(rc == 0);
    (void)rc;
}

void phx_loop_watch_destroy(phx_loop_watch *watch)
{
    if (!watch)
        return;
    if (watch->gone)
        *watch->gone = true;
    if (watch->io)
        event_free(watch->io);
    if (watch->again)
        event_free(watch->again);
    phx_free(watch);
}

/* Signals. */

static void signal_on_fire(evutil_socket_t number, short what, void *user)
{
    const phx_loop_signal *signal = user;
    (void)number;
    (void)what;
    signal->spec.fn(signal->spec.user);
}

phx_code phx_loop_signal_create(phx_loop *loop, const phx_loop_signal_spec *spec,
                                phx_loop_signal **ret_signal, phx_error *err)
{
    phx_code rc = PHX_OK;
    assert(spec->fn);
    phx_loop_signal *signal = phx_alloc(1, sizeof(*signal));
    if (signal) {
        signal->spec = *spec;
        signal->event = evsignal_new(loop->base, spec->number, signal_on_fire, signal);
    }
    if (!signal || !signal->event) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "signal handler");
        goto out;
    }
    if (event_add(signal->event, NULL) != 0) {
        rc = PHX_FAIL(err, PHX_ERR_IO, "cannot handle signal %d: %s", spec->number, strerror(errno));
        goto out;
    }
    *ret_signal = signal;
    signal = NULL;
out:
    phx_loop_signal_destroy(signal);
    return rc;
}

void phx_loop_signal_destroy(phx_loop_signal *signal)
{
    if (signal && signal->event)
        event_free(signal->event);
    phx_free(signal);
}

struct event_base *phx_loop_base(phx_loop *loop)
{
    return loop->base;
}
