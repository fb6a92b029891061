/* tests/emu/stream.c - streams and events of the emulator. */
#include "tests/emu/stream.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "base/alloc.h"

typedef struct item {
    struct item *next;
    phx_emu_work *work;
    phx_emu_work *drop; /* of a recording; may be NULL */
    _Alignas(16) unsigned char arg[PHX_EMU_ARG_BYTES];
} item;

struct phx_emu_recording {
    item *first, **last;
    bool spoilt;
};

typedef struct stream {
    phx_emu_stream head;
    phx_emu_stream_fns fns;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    pthread_t thread;
    item *first, **last;
    bool running; /* an item is being run */
    bool stop;
    phx_emu_recording *recording; /* of the thread that asks; NULL: what is asked for runs */
} stream;

struct phx_emu_event {
    _Atomic uint32_t n_users; /* the owner, and items that still name it */
    pthread_mutex_t mutex;
    pthread_cond_t passed;
    uint64_t n_recorded; /* under the mutex, as the next */
    uint64_t n_done;     /* the latest recording that has passed */
};

typedef struct mark { /* of one recording */
    phx_emu_event *event;
    uint64_t number;
} mark;

static void *run(void *arg);

static void copy_here(phx_emu_stream *s, void *to, const void *from, size_t n_bytes)
{
    (void)s;
    memmove(to, from, n_bytes);
}

static stream *of(phx_emu_stream *s)
{
    return (stream *)(void *)s;
}

phx_emu_stream *phx_emu_stream_create(void (*copy)(phx_emu_stream *stream, void *to, const void *from,
                                                   size_t n_bytes))
{
    stream *s = phx_alloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->fns = (phx_emu_stream_fns){.queue = phx_emu_stream_queue,
                                  .copy = copy ? copy : copy_here,
                                  .is_recording = phx_emu_stream_is_recording,
                                  .keep = phx_emu_stream_keep};
    s->head.fns = &s->fns;
    s->last = &s->first;
    (void)pthread_mutex_init(&s->mutex, NULL);
    (void)pthread_cond_init(&s->changed, NULL);
    if (pthread_create(&s->thread, NULL, run, s) != 0) {
        phx_free(s);
        return NULL;
    }
    return &s->head;
}

static void *run(void *arg)
{
    stream *s = arg;
    (void)pthread_mutex_lock(&s->mutex);
    for (;;) {
        while (!s->first && !s->stop)
            (void)pthread_cond_wait(&s->changed, &s->mutex);
        item *now = s->first;
        if (!now)
            break;
        s->first = now->next;
        if (!s->first)
            s->last = &s->first;
        s->running = true;
        (void)pthread_mutex_unlock(&s->mutex);
        now->work(now->arg);
        phx_free(now);
        (void)pthread_mutex_lock(&s->mutex);
        s->running = false;
        (void)pthread_cond_broadcast(&s->changed);
    }
    (void)pthread_mutex_unlock(&s->mutex);
    return NULL;
}

bool phx_emu_stream_queue(phx_emu_stream *to, phx_emu_work *work, const void *arg, size_t n_bytes)
{
    stream *s = of(to);
    assert(n_bytes <= PHX_EMU_ARG_BYTES);
    if (s->recording) {
        s->recording->spoilt = true;
        return false;
    }
    item *next = phx_alloc(1, sizeof(*next));
    if (!next)
        return false;
    next->work = work;
    memcpy(next->arg, arg, n_bytes);
    (void)pthread_mutex_lock(&s->mutex);
    *s->last = next;
    s->last = &next->next;
    (void)pthread_cond_broadcast(&s->changed);
    (void)pthread_mutex_unlock(&s->mutex);
    return true;
}

void phx_emu_stream_sync(phx_emu_stream *which)
{
    stream *s = of(which);
    (void)pthread_mutex_lock(&s->mutex);
    while (s->first || s->running)
        (void)pthread_cond_wait(&s->changed, &s->mutex);
    (void)pthread_mutex_unlock(&s->mutex);
}

bool phx_emu_stream_is_idle(phx_emu_stream *which)
{
    stream *s = of(which);
    (void)pthread_mutex_lock(&s->mutex);
    const bool is_idle = (!s->first && !s->running) || pthread_equal(s->thread, pthread_self());
    (void)pthread_mutex_unlock(&s->mutex);
    return is_idle;
}

/* ---- recordings ---- */

void phx_emu_stream_record(phx_emu_stream *which)
{
    stream *s = of(which);
    assert(!s->recording);
    s->recording = phx_alloc(1, sizeof(*s->recording));
    assert(s->recording);
    s->recording->last = &s->recording->first;
}

phx_emu_recording *phx_emu_stream_recorded(phx_emu_stream *which)
{
    stream *s = of(which);
    phx_emu_recording *recording = s->recording;
    s->recording = NULL;
    if (!recording || !recording->spoilt)
        return recording;
    phx_emu_recording_destroy(recording);
    return NULL;
}

bool phx_emu_stream_is_recording(phx_emu_stream *which)
{
    return of(which)->recording != NULL;
}

void phx_emu_stream_spoil(phx_emu_stream *which)
{
    if (of(which)->recording)
        of(which)->recording->spoilt = true;
}

bool phx_emu_stream_keep(phx_emu_stream *which, phx_emu_work *work, phx_emu_work *drop, const void *arg,
                         size_t n_bytes)
{
    phx_emu_recording *recording = of(which)->recording;
    assert(recording);
    assert(n_bytes <= PHX_EMU_ARG_BYTES);
    item *next = phx_alloc(1, sizeof(*next));
    if (!next)
        return false;
    next->work = work;
    next->drop = drop;
    memcpy(next->arg, arg, n_bytes);
    *recording->last = next;
    recording->last = &next->next;
    return true;
}

bool phx_emu_stream_replay(phx_emu_stream *which, const phx_emu_recording *recording)
{
    bool good = true;
    for (const item *i = recording->first; i && good; i = i->next)
        good = phx_emu_stream_queue(which, i->work, i->arg, sizeof(i->arg));
    return good;
}

size_t phx_emu_recording_length(const phx_emu_recording *recording)
{
    size_t n = 0;
    for (const item *i = recording->first; i; i = i->next)
        n++;
    return n;
}

void phx_emu_recording_destroy(phx_emu_recording *recording)
{
    while (recording && recording->first) {
        item *first = recording->first;
        recording->first = first->next;
        if (first->drop)
            first->drop(first->arg);
        phx_free(first);
    }
    phx_free(recording);
}

void phx_emu_stream_destroy(phx_emu_stream *which)
{
    if (!which)
        return;
    stream *s = of(which);
    (void)pthread_mutex_lock(&s->mutex);
    s->stop = true;
    (void)pthread_cond_broadcast(&s->changed);
    (void)pthread_mutex_unlock(&s->mutex);
    (void)pthread_join(s->thread, NULL);
    (void)pthread_cond_destroy(&s->changed);
    (void)pthread_mutex_destroy(&s->mutex);
    phx_free(s);
}

/* ---- events ---- */

phx_emu_event *phx_emu_event_create(void)
{
    phx_emu_event *event = phx_alloc(1, sizeof(*event));
    if (!event)
        return NULL;
    atomic_store(&event->n_users, 1);
    (void)pthread_mutex_init(&event->mutex, NULL);
    (void)pthread_cond_init(&event->passed, NULL);
    return event;
}

void phx_emu_event_destroy(phx_emu_event *event)
{
    if (!event || atomic_fetch_sub(&event->n_users, 1) != 1)
        return;
    (void)pthread_cond_destroy(&event->passed);
    (void)pthread_mutex_destroy(&event->mutex);
    phx_free(event);
}

static void pass(void *arg)
{
    const mark *m = arg;
    (void)pthread_mutex_lock(&m->event->mutex);
    if (m->event->n_done < m->number)
        m->event->n_done = m->number;
    (void)pthread_cond_broadcast(&m->event->passed);
    (void)pthread_mutex_unlock(&m->event->mutex);
    phx_emu_event_destroy(m->event);
}

static void wait_for(void *arg)
{
    const mark *m = arg;
    (void)pthread_mutex_lock(&m->event->mutex);
    while (m->event->n_done < m->number)
        (void)pthread_cond_wait(&m->event->passed, &m->event->mutex);
    (void)pthread_mutex_unlock(&m->event->mutex);
    phx_emu_event_destroy(m->event);
}

static bool queue_mark(phx_emu_stream *s, phx_emu_work *work, const mark *m)
{
    (void)atomic_fetch_add(&m->event->n_users, 1);
    if (phx_emu_stream_queue(s, work, m, sizeof(*m)))
        return true;
    (void)atomic_fetch_sub(&m->event->n_users, 1);
    return false;
}

bool phx_emu_event_record(phx_emu_event *event, phx_emu_stream *s)
{
    (void)pthread_mutex_lock(&event->mutex);
    const mark m = {.event = event, .number = ++event->n_recorded};
    (void)pthread_mutex_unlock(&event->mutex);
    return queue_mark(s, pass, &m);
}

bool phx_emu_event_follow(phx_emu_stream *s, phx_emu_event *event)
{
    (void)pthread_mutex_lock(&event->mutex);
    const mark m = {.event = event, .number = event->n_recorded};
    (void)pthread_mutex_unlock(&event->mutex);
    return queue_mark(s, wait_for, &m);
}

bool phx_emu_event_is_done(const phx_emu_event *event)
{
    phx_emu_event *e = (phx_emu_event *)(uintptr_t)event;
    (void)pthread_mutex_lock(&e->mutex);
    const bool is_done = e->n_done >= e->n_recorded;
    (void)pthread_mutex_unlock(&e->mutex);
    return is_done;
}
