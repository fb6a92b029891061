/* kernels/pool.c - the compute threads of one rank.
 * Owns: threads, their scratch memory, the loop protocol.
 *
 * Protocol. A run publishes its fields, then n_unclaimed = n_items. A thread claims an item by subtracting
 * one; a positive old value is a claim, and a claim keeps the run open until the thread reports it in
 * n_undone. So fields are read only after a claim, and a late thread that finds nothing touches nothing: the
 * caller never waits for sleepers. Dekker pairs (sequentially consistent) guard both sleeps: workers on
 * `generation`, the caller on `caller_sleeps`. */
#include "kernels/pool.h"

#include <assert.h>
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"

#define SPIN_ROUNDS                                                                        \
    2000 /* about 20 to 80 microseconds of pause instructions: longer than a gap in a step \
          */

typedef struct worker {
    phx_pool *pool;
    pthread_t thread;
    void *scratch; /* PHX_SCRATCH_BYTES from mmap */
} worker;

struct phx_pool {
    uint32_t n_threads;
    uint32_t n_started; /* threads to join: workers[1 .. n_started] */
    uint32_t spin_rounds;
    worker *workers; /* [n_threads]; [0] is the caller */

    /* the run: written by the caller while no claim is open */
    phx_pool_begin *begin; /* or NULL */
    phx_pool_work *work;
    void *user;
    int64_t n_items;

    _Alignas(64) _Atomic int64_t n_unclaimed; /* may go below 0 */
    _Alignas(64) _Atomic int64_t n_undone;
    _Atomic uint32_t caller_sleeps;
    _Alignas(64) _Atomic uint32_t generation; /* counts runs; workers sleep on it */
    _Atomic uint32_t n_sleeping;
    _Atomic bool stop;
};

static void *worker_main(void *arg);
static void work_off(phx_pool *pool, void *scratch);
static phx_code pool_start(phx_pool *pool, const int *cpus, phx_error *err);

static void futex_wait(_Atomic uint32_t *word, uint32_t expected)
{
    (void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int64_t n)
{
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n > INT32_MAX ? INT32_MAX : (int)n, NULL, NULL, 0);
}

static void pause_once(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    sched_yield();
#endif
}

phx_code phx_pool_create(uint32_t n_threads, const int *cpus, phx_pool **ret_pool, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_pool *pool = NULL;
    if (n_threads < 1 || n_threads > PHX_THREADS_MAX) {
        rc = PHX_FAIL(err, PHX_ERR_INVALID, "%u compute threads: use 1 to %u", n_threads, PHX_THREADS_MAX);
        goto out;
    }
    pool = mmap(NULL, sizeof(*pool), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pool == MAP_FAILED) {
        pool = NULL;
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "memory of the thread pool");
        goto out;
    }
    pool->n_threads = n_threads;
    pool->workers = phx_alloc(n_threads, sizeof(*pool->workers));
    if (!pool->workers) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "table of %u threads", n_threads);
        goto out;
    }
    const long n_cpus = sysconf(_SC_NPROCESSORS_ONLN);
    pool->spin_rounds = (long)n_threads <= n_cpus ? SPIN_ROUNDS : 0;
    rc = pool_start(pool, cpus, err);
    if (rc != PHX_OK)
        goto out;
    *ret_pool = pool;
    pool = NULL;
out:
    phx_pool_destroy(pool);
    return rc;
}

void phx_pool_destroy(phx_pool *pool)
{
    if (!pool)
        return;
    atomic_store(&pool->stop, true);
    atomic_fetch_add(&pool->generation, 1);
    futex_wake(&pool->generation, INT32_MAX);
    for (uint32_t i = 1; i <= pool->n_started; i++)
        pthread_join(pool->workers[i].thread, NULL);
    for (uint32_t i = 0; pool->workers && i < pool->n_threads; i++) {
        if (pool->workers[i].scratch)
            munmap(pool->workers[i].scratch, PHX_SCRATCH_BYTES);
    }
    phx_free(pool->workers);
    munmap(pool, sizeof(*pool));
}

uint32_t phx_pool_n_threads(const phx_pool *pool)
{
    return pool->n_threads;
}

void phx_pool_run(phx_pool *pool, int64_t n_items, phx_pool_work *work, void *user)
{
    phx_pool_run_begun(pool, n_items, NULL, work, user);
}

void phx_pool_run_begun(phx_pool *pool, int64_t n_items, phx_pool_begin *begin, phx_pool_work *work,
                        void *user)
{
    if (n_items <= 0)
        return;
    if (pool->n_threads == 1 || n_items == 1) {
        if (begin)
            begin(user, pool->workers[0].scratch);
        for (int64_t item = 0; item < n_items; item++)
            work(user, item, pool->workers[0].scratch);
        return;
    }
    assert(atomic_load(&pool->n_undone) == 0); /* not reentrant */
    pool->begin = begin;
    pool->work = work;
    pool->user = user;
    pool->n_items = n_items;
    atomic_store(&pool->n_undone, n_items);
    atomic_store(&pool->n_unclaimed, n_items);
    atomic_fetch_add(&pool->generation, 1);
    if (atomic_load(&pool->n_sleeping) > 0)
        futex_wake(&pool->generation, n_items - 1);
    work_off(pool, pool->workers[0].scratch);
    for (uint32_t i = 0; i < pool->spin_rounds && atomic_load(&pool->n_undone) > 0; i++)
        pause_once();
    while (atomic_load(&pool->n_undone) > 0) {
        atomic_store(&pool->caller_sleeps, 1);
        if (atomic_load(&pool->n_undone) > 0)
            futex_wait(&pool->caller_sleeps, 1);
    }
    atomic_store(&pool->caller_sleeps, 0);
}

/* Claims and does items until none is left, then reports them in one subtraction. */
static void work_off(phx_pool *pool, void *scratch)
{
    int64_t n_done = 0;
    for (;;) {
        const int64_t left = atomic_fetch_sub(&pool->n_unclaimed, 1);
        if (left <= 0)
            break;
        if (n_done == 0 && pool->begin)
            pool->begin(pool->user, scratch);
        pool->work(pool->user, pool->n_items - left, scratch);
        n_done++;
    }
    if (n_done > 0 && atomic_fetch_sub(&pool->n_undone, n_done) == n_done) {
        if (atomic_exchange(&pool->caller_sleeps, 0) == 1)
            futex_wake(&pool->caller_sleeps, 1);
    }
}

static void *worker_main(void *arg)
{
    const worker *self = arg;
    phx_pool *pool = self->pool;
    while (!atomic_load(&pool->stop)) {
        const uint32_t generation = atomic_load(&pool->generation);
        bool found = atomic_load(&pool->n_unclaimed) > 0;
        for (uint32_t i = 0; i < pool->spin_rounds && !found && !atomic_load(&pool->stop); i++) {
            pause_once();
            found = atomic_load_explicit(&pool->n_unclaimed, memory_order_relaxed) > 0;
        }
        if (found) {
            work_off(pool, self->scratch);
            continue;
        }
        atomic_fetch_add(&pool->n_sleeping, 1);
        if (atomic_load(&pool->n_unclaimed) <= 0 && !atomic_load(&pool->stop))
            futex_wait(&pool->generation, generation);
        atomic_fetch_sub(&pool->n_sleeping, 1);
    }
    return NULL;
}

static phx_code pin(pthread_t thread, int cpu, phx_error *err)
{
    if (cpu < 0 || cpu >= CPU_SETSIZE)
        return PHX_FAIL(err, PHX_ERR_INVALID, "cpu %d: use 0 to %d", cpu, CPU_SETSIZE - 1);
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    const int rc = pthread_setaffinity_np(thread, sizeof(set), &set);
    if (rc != 0)
        return PHX_FAIL(err, PHX_ERR_INVALID,
                        "cannot pin a compute thread to cpu %d (%s): is it online and allowed?", cpu,
                        strerror(rc));
    return PHX_OK;
}

static phx_code pool_start(phx_pool *pool, const int *cpus, phx_error *err)
{
    for (uint32_t i = 0; i < pool->n_threads; i++) {
        worker *self = &pool->workers[i];
        self->pool = pool;
        void *scratch =
            mmap(NULL, PHX_SCRATCH_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (scratch == MAP_FAILED)
            return PHX_FAIL(err, PHX_ERR_NOMEM, "scratch of compute thread %u (%u bytes)", i,
                            PHX_SCRATCH_BYTES);
        self->scratch = scratch;
        if (i > 0) {
            const int rc = pthread_create(&self->thread, NULL, worker_main, self);
            if (rc != 0)
                return PHX_FAIL(err, PHX_ERR_NOMEM, "compute thread %u of %u does not start (%s)", i,
                                pool->n_threads, strerror(rc));
            pool->n_started = i;
        }
        const phx_code rc = cpus ? pin(i > 0 ? self->thread : pthread_self(), cpus[i], err) : PHX_OK;
        if (rc != PHX_OK)
            return rc;
    }
    return PHX_OK;
}
