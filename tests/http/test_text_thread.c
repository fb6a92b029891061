/* tests/http/test_text_thread.c - jobs beside the loop: order, the bound, taking back, the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <pthread.h>
#include <sched.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "coordinator/text_thread.h"

enum { N_JOBS = 2000, ROUNDS_MAX = 100000, ROUND_US = 1000 * 1000 };

/* A door that the thread stands before until the test opens it. */
typedef struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_reached;
    bool is_open;
} gate;

typedef struct seen {
    pthread_t loop_thread;
    size_t n_done;
    int last; /* of the numbers */
    bool in_order;
} seen;

typedef struct numbered {
    phx_text_job job; /* first */
    seen *seen;
    gate *gate; /* NULL: none */
    int number;
    bool has_run;
    bool ran_aside;
    bool is_done;
} numbered;

static void run_numbered(phx_text_job *job)
{
    numbered *n = (numbered *)job;
    n->has_run = true;
    n->ran_aside = !pthread_equal(pthread_self(), n->seen->loop_thread);
    if (!n->gate)
        return;
    (void)pthread_mutex_lock(&n->gate->lock);
    n->gate->is_reached = true;
    (void)pthread_cond_broadcast(&n->gate->changed);
    while (!n->gate->is_open)
        (void)pthread_cond_wait(&n->gate->changed, &n->gate->lock);
    (void)pthread_mutex_unlock(&n->gate->lock);
}

static void done_numbered(phx_text_job *job)
{
    numbered *n = (numbered *)job;
    assert_true(pthread_equal(pthread_self(), n->seen->loop_thread));
    assert_false(n->is_done);
    n->is_done = true;
    n->seen->n_done++;
    n->seen->in_order = n->seen->in_order && n->number > n->seen->last;
    n->seen->last = n->number;
}

static numbered make(seen *s, int number, gate *g)
{
    return (numbered){.job = {.run = run_numbered, .done = done_numbered, .n_bytes = 1},
                      .seen = s,
                      .gate = g,
                      .number = number};
}

static void wait_reached(gate *g)
{
    (void)pthread_mutex_lock(&g->lock);
    while (!g->is_reached)
        (void)pthread_cond_wait(&g->changed, &g->lock);
    (void)pthread_mutex_unlock(&g->lock);
}

static void open_gate(gate *g)
{
    (void)pthread_mutex_lock(&g->lock);
    g->is_open = true;
    (void)pthread_cond_broadcast(&g->changed);
    (void)pthread_mutex_unlock(&g->lock);
}

static void open_both(phx_loop **loop, phx_text_thread **thread)
{
    assert_int_equal(phx_loop_create(loop, NULL), PHX_OK);
    assert_int_equal(phx_text_thread_create(*loop, thread, NULL), PHX_OK);
}

static void step_until(phx_loop *loop, const seen *s, size_t n_done)
{
    for (int i = 0; s->n_done < n_done && i < ROUNDS_MAX; i++)
        assert_int_equal(phx_loop_step(loop, ROUND_US, NULL), PHX_OK);
    assert_int_equal(s->n_done, n_done);
}

static void test_order(void **state)
{
    phx_loop *loop = NULL;
    phx_text_thread *thread = NULL;
    seen s = {.loop_thread = pthread_self(), .last = -1, .in_order = true};
    numbered *jobs = phx_alloc(N_JOBS, sizeof(*jobs));
    (void)state;
    assert_non_null(jobs);
    open_both(&loop, &thread);
    for (int i = 0; i < N_JOBS; i++) {
        jobs[i] = make(&s, i, NULL);
        assert_int_equal(phx_text_thread_submit(thread, &jobs[i].job, NULL), PHX_OK);
    }
    step_until(loop, &s, N_JOBS);
    assert_true(s.in_order);
    for (int i = 0; i < N_JOBS; i++)
        assert_true(jobs[i].has_run && jobs[i].ran_aside);
    phx_text_thread_destroy(thread);
    phx_loop_destroy(loop);
    phx_free(jobs);
}

static void test_bound_and_cancel(void **state)
{
    phx_loop *loop = NULL;
    phx_text_thread *thread = NULL;
    phx_error err = {0};
    gate g = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    seen s = {.loop_thread = pthread_self(), .last = -1, .in_order = true};
    numbered first = make(&s, 0, &g), second = make(&s, 1, NULL), third = make(&s, 2, NULL);
    (void)state;
    open_both(&loop, &thread);
    second.job.n_bytes = PHX_TEXT_WAITING_BYTES_MAX - 1;
    assert_int_equal(phx_text_thread_submit(thread, &first.job, NULL), PHX_OK);
    assert_int_equal(phx_text_thread_submit(thread, &second.job, NULL), PHX_OK);
    assert_int_equal(phx_text_thread_submit(thread, &third.job, &err), PHX_ERR_BUSY);
    wait_reached(&g);
    assert_false(phx_text_thread_cancel(thread, &first.job)); /* it runs */
    assert_true(phx_text_thread_cancel(thread, &second.job));
    assert_false(phx_text_thread_cancel(thread, &second.job));
    assert_int_equal(phx_text_thread_submit(thread, &third.job, NULL), PHX_OK);
    open_gate(&g);
    step_until(loop, &s, 2);
    assert_true(first.is_done && third.is_done && third.has_run);
    assert_false(second.has_run || second.is_done);
    phx_text_thread_destroy(thread);
    phx_loop_destroy(loop);
}

/* Somebody else opens it while the test waits for the end. */
static void *open_later(void *user)
{
    open_gate(user);
    return NULL;
}

/* While one runs and another waits: each is told once. */
static void test_end(void **state)
{
    phx_loop *loop = NULL;
    phx_text_thread *thread = NULL;
    pthread_t opener;
    gate g = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    seen s = {.loop_thread = pthread_self(), .last = -1, .in_order = true};
    numbered first = make(&s, 0, &g), second = make(&s, 1, NULL);
    (void)state;
    open_both(&loop, &thread);
    assert_int_equal(phx_text_thread_submit(thread, &first.job, NULL), PHX_OK);
    assert_int_equal(phx_text_thread_submit(thread, &second.job, NULL), PHX_OK);
    wait_reached(&g);
    assert_int_equal(pthread_create(&opener, NULL, open_later, &g), 0);
    phx_text_thread_destroy(thread);
    assert_int_equal(pthread_join(opener, NULL), 0);
    assert_int_equal(s.n_done, 2);
    assert_true(first.has_run && s.in_order);
    phx_loop_destroy(loop);
    phx_text_thread_destroy(NULL);
}

static void run_until_stopped(phx_text_job *job)
{
    while (!atomic_load(job->stop))
        (void)sched_yield();
}

/* A job that looks at stop ends with the thread, however much it has to do. */
static void test_stop(void **state)
{
    phx_loop *loop = NULL;
    phx_text_thread *thread = NULL;
    seen s = {.loop_thread = pthread_self(), .last = -1, .in_order = true};
    numbered long_one = make(&s, 0, NULL);
    (void)state;
    long_one.job.run = run_until_stopped;
    open_both(&loop, &thread);
    assert_int_equal(phx_text_thread_submit(thread, &long_one.job, NULL), PHX_OK);
    assert_false(atomic_load(long_one.job.stop));
    phx_text_thread_destroy(thread);
    assert_int_equal(s.n_done, 1);
    phx_loop_destroy(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_bound_and_cancel),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
