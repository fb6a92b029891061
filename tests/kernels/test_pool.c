/* tests/kernels/test_pool.c - the thread pool: every item once, scratch private, sleep and wake, refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "kernels/pool.h"

#define N_MAX 20000

typedef struct count {
    uint32_t n[N_MAX]; /* plain: an item belongs to one thread, so a race would show under thread sanitizer */
} count;

static void count_item(void *user, int64_t item, void *scratch)
{
    count *c = user;
    c->n[item]++;
    memset(scratch, (int)item, 64); /* private: no other thread writes here meanwhile */
    for (int i = 0; i < 64; i++) {
        if (((const uint8_t *)scratch)[i] != (uint8_t)item)
            c->n[item] += 1000;
    }
}

static phx_pool *create(uint32_t n_threads)
{
    phx_pool *pool = NULL;
    phx_error err = {0};
    assert_int_equal(phx_pool_create(n_threads, NULL, &pool, &err), PHX_OK);
    assert_int_equal(phx_pool_n_threads(pool), n_threads);
    return pool;
}

static void every_item_is_done_once(void **state)
{
    (void)state;
    static const uint32_t threads[] = {1, 2, 3, 7}; /* more than there are cpus: no spinning */
    static const int64_t items[] = {0, 1, 2, 3, 64, 1000, N_MAX};
    count *c = phx_alloc(1, sizeof(*c));
    assert_non_null(c);
    for (size_t t = 0; t < sizeof(threads) / sizeof(threads[0]); t++) {
        phx_pool *pool = create(threads[t]);
        for (size_t i = 0; i < sizeof(items) / sizeof(items[0]); i++) {
            memset(c, 0, sizeof(*c));
            phx_pool_run(pool, items[i], count_item, c);
            for (int64_t k = 0; k < N_MAX; k++)
                assert_int_equal(c->n[k], k < items[i] ? 1 : 0);
        }
        phx_pool_destroy(pool);
    }
    phx_free(c);
}

static void short_runs_in_close_order(void **state)
{
    (void)state;
    count *c = phx_alloc(1, sizeof(*c));
    assert_non_null(c);
    phx_pool *pool = create(3);
    for (int run = 0; run < 3000; run++)
        phx_pool_run(pool, 1 + run % 5, count_item, c);
    for (int64_t k = 0; k < 5; k++)
        assert_int_equal(c->n[k], 600 * (5 - k));
    phx_pool_destroy(pool);
    phx_free(c);
}

static void sleepers_wake_again(void **state)
{
    (void)state;
    count *c = phx_alloc(1, sizeof(*c));
    assert_non_null(c);
    phx_pool *pool = create(2);
    for (int run = 0; run < 5; run++) {
        const struct timespec pause = {0, 5000000};
        nanosleep(&pause, NULL);
        phx_pool_run(pool, 100, count_item, c);
    }
    for (int64_t k = 0; k < 100; k++)
        assert_int_equal(c->n[k], 5);
    phx_pool_destroy(pool);
    phx_free(c);
}

static void an_idle_pool_costs_nothing(void **state)
{
    (void)state;
    count *c = phx_alloc(1, sizeof(*c));
    assert_non_null(c);
    phx_pool *pool = create(2);
    phx_pool_run(pool, 100, count_item, c);
    const struct timespec settle = {0, 50000000};
    nanosleep(&settle, NULL);
    struct timespec before;
    struct timespec after;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    const struct timespec idle = {0, 200000000};
    nanosleep(&idle, NULL);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    /* processor time, which a busy machine only lowers; a spinning thread would take all 200 ms of it */
    const int64_t ns = (after.tv_sec - before.tv_sec) * 1000000000 + (after.tv_nsec - before.tv_nsec);
    assert_true(ns < 100000000);
    phx_pool_destroy(pool);
    phx_free(c);
}

static void scratch_is_whole_and_aligned_item(void *user, int64_t item, void *scratch)
{
    (void)item;
    memset(scratch, 1, PHX_SCRATCH_BYTES);
    if ((uintptr_t)scratch % 64 == 0)
        *(int *)user = 1;
}

static void scratch_is_whole_and_aligned(void **state)
{
    (void)state;
    phx_pool *pool = create(1);
    int aligned = 0;
    phx_pool_run(pool, 1, scratch_is_whole_and_aligned_item, &aligned);
    assert_int_equal(aligned, 1);
    phx_pool_destroy(pool);
}

static void bad_requests_are_refused(void **state)
{
    (void)state;
    phx_pool *pool = NULL;
    phx_error err = {0};
    assert_int_equal(phx_pool_create(0, NULL, &pool, &err), PHX_ERR_INVALID);
    err = (phx_error){0};
    assert_int_equal(phx_pool_create(PHX_THREADS_MAX + 1, NULL, &pool, &err), PHX_ERR_INVALID);
    err = (phx_error){0};
    const int no_such_cpu[2] = {-1, 0};
    assert_int_equal(phx_pool_create(2, no_such_cpu, &pool, &err), PHX_ERR_INVALID);
    assert_non_null(strstr(err.text, "cpu -1"));
    phx_alloc_fail_nth(1);
    err = (phx_error){0};
    assert_int_equal(phx_pool_create(2, NULL, &pool, &err), PHX_ERR_NOMEM);
    phx_alloc_fail_nth(0);
    assert_null(pool);
    phx_pool_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_item_is_done_once),      cmocka_unit_test(short_runs_in_close_order),
        cmocka_unit_test(sleepers_wake_again),          cmocka_unit_test(an_idle_pool_costs_nothing),
        cmocka_unit_test(scratch_is_whole_and_aligned), cmocka_unit_test(bad_requests_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
