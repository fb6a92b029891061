/* coordinator/text_thread.c - two lists under one lock, a condition for the thread, an eventfd for the loop.
 */
#include "coordinator/text_thread.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"

typedef struct job_list {
    phx_text_job *first;
    phx_text_job *last;
} job_list;

struct phx_text_thread {
    phx_loop_watch *watch;
    int done_fd;
    bool is_running; /* the thread exists */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    size_t n_bytes;   /* of all jobs that are not done; the loop's own */
    job_list waiting; /* guarded by lock, like what follows */
    job_list finished;
    bool stop;
    atomic_bool hurry; /* for the jobs, without the lock */
};

static void *thread_run(void *user);
static bool on_finished(void *user);
static void end_job(phx_text_thread *thread, phx_text_job *job);

static void push(job_list *list, phx_text_job *job)
{
    job->next = NULL;
    if (list->last)
        list->last->next = job;
    else
        list->first = job;
    list->last = job;
}

static phx_text_job *pop(job_list *list)
{
    phx_text_job *job = list->first;
    if (!job)
        return NULL;
    list->first = job->next;
    if (!list->first)
        list->last = NULL;
    return job;
}

phx_code phx_text_thread_create(phx_loop *loop, phx_text_thread **ret_thread, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_text_thread *t = phx_alloc(1, sizeof(*t));
    if (!t) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "the text thread");
        goto out;
    }
    (void)pthread_mutex_init(&t->lock, NULL); /* Linux: neither can fail without attributes */
    (void)pthread_cond_init(&t->wake, NULL);
    t->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (t->done_fd < 0) {
        rc = PHX_FAIL(err, PHX_ERR_IO, "the text thread: %s", strerror(errno));
        goto out;
    }
    rc = phx_loop_watch_create(loop, &(phx_loop_watch_spec){t->done_fd, on_finished, t}, &t->watch, err);
    if (rc != PHX_OK)
        goto out;
    const int failed = pthread_create(&t->thread, NULL, thread_run, t);
    if (failed) {
        rc = PHX_FAIL(err, PHX_ERR_IO, "cannot start the text thread: %s", strerror(failed));
        goto out;
    }
    t->is_running = true;
    *ret_thread = t;
    t = NULL;
out:
    phx_text_thread_destroy(t);
    return rc;
}

void phx_text_thread_destroy(phx_text_thread *t)
{
    phx_text_job *job;
    if (!t)
        return;
    phx_text_thread_hurry(t);
    if (t->is_running) {
        (void)pthread_mutex_lock(&t->lock);
        t->stop = true;
        (void)pthread_cond_signal(&t->wake);
        (void)pthread_mutex_unlock(&t->lock);
        (void)pthread_join(t->thread, NULL);
    }
    while ((job = pop(&t->finished)) || (job = pop(&t->waiting)))
        end_job(t, job);
    phx_loop_watch_destroy(t->watch);
    if (t->done_fd >= 0)
        (void)close(t->done_fd);
    (void)pthread_cond_destroy(&t->wake);
    (void)pthread_mutex_destroy(&t->lock);
    phx_free(t);
}

void phx_text_thread_hurry(phx_text_thread *t)
{
    atomic_store(&t->hurry, true);
}

phx_code phx_text_thread_submit(phx_text_thread *t, phx_text_job *job, phx_error *err)
{
    assert(t->n_bytes <= PHX_TEXT_WAITING_BYTES_MAX);
    if (job->n_bytes > PHX_TEXT_WAITING_BYTES_MAX - t->n_bytes)
        return PHX_FAIL(err, PHX_ERR_BUSY, "too many requests wait to be read; try again later");
    t->n_bytes += job->n_bytes;
    job->stop = &t->hurry;
    (void)pthread_mutex_lock(&t->lock);
    push(&t->waiting, job);
    (void)pthread_cond_signal(&t->wake);
    (void)pthread_mutex_unlock(&t->lock);
    return PHX_OK;
}

bool phx_text_thread_cancel(phx_text_thread *t, phx_text_job *job)
{
    bool found = false;
    job_list kept = {NULL, NULL};
    phx_text_job *each;
    (void)pthread_mutex_lock(&t->lock);
    while ((each = pop(&t->waiting))) {
        if (each == job)
            found = true;
        else
            push(&kept, each);
    }
    t->waiting = kept;
    (void)pthread_mutex_unlock(&t->lock);
    if (found)
        t->n_bytes -= job->n_bytes;
    return found;
}

static void *thread_run(void *user)
{
    phx_text_thread *t = user;
    const uint64_t one = 1;
    (void)pthread_mutex_lock(&t->lock);
    while (!t->stop) {
        phx_text_job *job = pop(&t->waiting);
        if (!job) {
            (void)pthread_cond_wait(&t->wake, &t->lock);
            continue;
        }
        (void)pthread_mutex_unlock(&t->lock);
        job->run(job);
        (void)pthread_mutex_lock(&t->lock);
        push(&t->finished, job);
        const ssize_t n = write(t->done_fd, &one, sizeof(one));
        assert(n == (ssize_t)sizeof(one)); /* a counter of 64 bits, of which the loop takes all */
        (void)n;
    }
    (void)pthread_mutex_unlock(&t->lock);
    return NULL;
}

/* One job each round: what follows on the loop may be long enough by itself. */
static bool on_finished(void *user)
{
    phx_text_thread *t = user;
    uint64_t n_ignored;
    (void)!read(t->done_fd, &n_ignored, sizeof(n_ignored)); /* EAGAIN in the rounds after the first */
    (void)pthread_mutex_lock(&t->lock);
    phx_text_job *job = pop(&t->finished);
    const bool more = t->finished.first != NULL;
    (void)pthread_mutex_unlock(&t->lock);
    if (job)
        end_job(t, job);
    return more;
}

static void end_job(phx_text_thread *t, phx_text_job *job)
{
    t->n_bytes -= job->n_bytes;
    job->done(job);
}
