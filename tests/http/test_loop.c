/* tests/http/test_loop.c - timers, edge-triggered descriptors, signals, calls from other threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "coordinator/loop.h"

enum { N_THREADS = 4, N_POSTS = 5000 };

typedef struct counter {
    phx_loop *loop;
    phx_loop_timer *timer;
    phx_loop_watch *watch;
    int fd;
    int n;
    int n_target;
    int n_left;
    int last[N_THREADS];
    bool in_order;
} counter;

static void open_loop(counter *c)
{
    *c = (counter){.fd = -1, .in_order = true};
    assert_int_equal(phx_loop_create(&c->loop, NULL), PHX_OK);
}

static void count(void *user)
{
    counter *c = user;
    if (++c->n == c->n_target)
        phx_loop_stop(c->loop);
}

static void test_timers(void **state)
{
    counter c;
    phx_loop_timer *late = NULL;
    (void)state;
    open_loop(&c);
    assert_int_equal(phx_loop_timer_create(c.loop, (phx_loop_call){count, &c}, &c.timer, NULL), PHX_OK);
    assert_int_equal(phx_loop_timer_create(c.loop, (phx_loop_call){count, &c}, &late, NULL), PHX_OK);
    c.n_target = 1;
    phx_loop_timer_start(late, 3600u * 1000000u);
    phx_loop_timer_start(c.timer, 3600u * 1000000u);
    phx_loop_timer_start(c.timer, 2000); /* moved */
    assert_int_equal(phx_loop_run(c.loop, NULL), PHX_OK);
    assert_int_equal(c.n, 1);
    phx_loop_timer_start(c.timer, 0);
    phx_loop_timer_cancel(c.timer);
    for (int i = 0; i < 5; i++)
        assert_int_equal(phx_loop_step(c.loop, 100, NULL), PHX_OK);
    assert_int_equal(c.n, 1);
    phx_loop_timer_destroy(c.timer);
    phx_loop_timer_destroy(late);
    phx_loop_destroy(c.loop);
}

/* Reads one of several messages per call, as a bounded drain would; the descriptor shows an edge only once.
 */
static bool take_one(void *user)
{
    counter *c = user;
    uint64_t n;
    if (read(c->fd, &n, sizeof(n)) == (ssize_t)sizeof(n))
        c->n_left += (int)n;
    if (c->n_left == 0)
        return false;
    c->n_left--;
    count(c);
    return c->n_left > 0;
}

static bool take_and_leave(void *user)
{
    counter *c = user;
    c->n++;
    phx_loop_watch_destroy(c->watch);
    c->watch = NULL;
    return true;
}

static void test_watch(void **state)
{
    counter c;
    const uint64_t n = 100;
    (void)state;
    open_loop(&c);
    c.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    phx_loop_watch_spec spec = {.fd = c.fd, .fn = take_one, .user = &c};
    assert_int_equal(phx_loop_watch_create(c.loop, &spec, &c.watch, NULL), PHX_OK);
    c.n_target = 100;
    assert_int_equal(write(c.fd, &n, sizeof(n)), sizeof(n));
    assert_int_equal(phx_loop_run(c.loop, NULL), PHX_OK);
    assert_int_equal(c.n, 100);
    /* Work that came without an edge: the kick finds it. */
    c.n_left = 3;
    c.n_target = 103;
    phx_loop_watch_kick(c.watch);
    assert_int_equal(phx_loop_run(c.loop, NULL), PHX_OK);
    assert_int_equal(c.n, 103);
    phx_loop_watch_destroy(c.watch);
    spec.fn = take_and_leave;
    assert_int_equal(phx_loop_watch_create(c.loop, &spec, &c.watch, NULL), PHX_OK);
    while (c.watch)
        assert_int_equal(phx_loop_step(c.loop, 1000, NULL), PHX_OK);
    assert_int_equal(phx_loop_step(c.loop, 100, NULL), PHX_OK);
    assert_int_equal(c.n, 104);
    phx_error err = {0};
    spec.fd = 9999;
    assert_int_equal(phx_loop_watch_create(c.loop, &spec, &c.watch, &err), PHX_ERR_IO);
    close(c.fd);
    phx_loop_destroy(c.loop);
}

static void test_signals(void **state)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGCHLD};
    counter c;
    (void)state;
    open_loop(&c);
    for (size_t i = 0; i < 3; i++) {
        phx_loop_signal *handler = NULL;
        const phx_loop_signal_spec spec = {.number = numbers[i], .fn = count, .user = &c};
        assert_int_equal(phx_loop_signal_create(c.loop, &spec, &handler, NULL), PHX_OK);
        c.n_target = (int)i + 1;
        assert_int_equal(raise(numbers[i]), 0);
        assert_int_equal(phx_loop_run(c.loop, NULL), PHX_OK);
        phx_loop_signal_destroy(handler);
    }
    phx_loop_destroy(c.loop);
}

typedef struct post {
    counter *c;
    int thread_idx;
    int value;
} post;

static void on_post(void *user)
{
    post *p = user;
    counter *c = p->c;
    c->in_order = c->in_order && p->value == c->last[p->thread_idx] + 1;
    c->last[p->thread_idx] = p->value;
    phx_free(p);
    count(c);
}

typedef struct poster {
    counter *c;
    int thread_idx;
} poster;

static void *run_poster(void *user)
{
    const poster *self = user;
    for (int i = 1; i <= N_POSTS; i++) {
        post *p = phx_alloc(1, sizeof(*p));
        *p = (post){self->c, self->thread_idx, i};
        while (phx_loop_post(self->c->loop, (phx_loop_call){on_post, p}) == PHX_ERR_BUSY)
            (void)usleep(100);
    }
    return NULL;
}

static void test_posts(void **state)
{
    counter c;
    pthread_t threads[N_THREADS];
    poster posters[N_THREADS];
    (void)state;
    open_loop(&c);
    c.n_target = N_THREADS * N_POSTS;
    for (int i = 0; i < N_THREADS; i++) {
        posters[i] = (poster){&c, i};
        assert_int_equal(pthread_create(&threads[i], NULL, run_poster, &posters[i]), 0);
    }
    assert_int_equal(phx_loop_run(c.loop, NULL), PHX_OK);
    for (int i = 0; i < N_THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(c.n, N_THREADS * N_POSTS);
    assert_true(c.in_order);
    /* The bound, and a stop that comes first. */
    for (size_t i = 0; i < PHX_LOOP_POSTS_MAX; i++)
        assert_int_equal(phx_loop_post(c.loop, (phx_loop_call){count, &c}), PHX_OK);
    assert_int_equal(phx_loop_post(c.loop, (phx_loop_call){count, &c}), PHX_ERR_BUSY);
    phx_loop_stop(c.loop);
    assert_int_equal(phx_loop_run(c.loop, NULL), PHX_OK);
    phx_loop_destroy(c.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timers),
        cmocka_unit_test(test_watch),
        cmocka_unit_test(test_signals),
        cmocka_unit_test(test_posts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
