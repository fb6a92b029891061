/* kernels/pool.h - the compute threads of one rank.
 * Owns: threads, their scratch memory, the parallel loop. Results never depend on the number of threads:
 * every item is computed whole by one thread, and no two items add into one number. */
#ifndef PHX_KERNELS_POOL_H
#define PHX_KERNELS_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Scratch of each thread; kernels cut their tiles to it. Part of the plan's workspace line. */
#define PHX_SCRATCH_BYTES (4u << 20)
#define PHX_THREADS_MAX   256u

typedef struct phx_pool phx_pool;

/* n_threads >= 1, the caller of phx_pool_run counts as one. cpus: n_threads cpu numbers to pin to, or NULL;
 * cpus[0] pins the calling thread, which should be the one that runs the pool. Destroy with phx_pool_destroy.
 * Waiting threads spin shortly, then sleep in a futex, so an idle rank costs nothing. */
phx_code phx_pool_create(uint32_t n_threads, const int *cpus, phx_pool **ret_pool, phx_error *err);
void phx_pool_destroy(phx_pool *pool); /* accepts NULL */
uint32_t phx_pool_n_threads(const phx_pool *pool);

/* Calls work(user, item, scratch) for every item in [0, n_items), in any order, and returns when all are
 * done. scratch: PHX_SCRATCH_BYTES, 64-byte aligned, private to the thread. Not reentrant. */
typedef void phx_pool_work(void *user, int64_t item, void *scratch);
void phx_pool_run(phx_pool *pool, int64_t n_items, phx_pool_work *work, void *user);

/* The same; a thread calls begin(user, scratch) before its first item: for what its items have in common. */
typedef void phx_pool_begin(void *user, void *scratch);
void phx_pool_run_begun(phx_pool *pool, int64_t n_items, phx_pool_begin *begin, phx_pool_work *work,
                        void *user);

#endif
