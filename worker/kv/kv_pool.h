/* worker/kv/kv_pool.h - the KV memory of one rank: latent entries and index keys of every layer of its stage,
 * in blocks. Owns: the memory. Not here: who holds which block (coordinator/sched), block tables
 * (worker/slots.h). */
#ifndef PHX_WORKER_KV_POOL_H
#define PHX_WORKER_KV_POOL_H

#include "base/arena.h"
#include "kernels/ops.h"
#include "model/plan.h"

typedef struct phx_kv_pool phx_kv_pool;

/* memory: of the backend, NULL on the CPU. */
phx_code phx_kv_pool_create(const phx_plan *plan, uint32_t rank, const phx_memory *memory,
                            phx_kv_pool **ret_pool, phx_error *err);
void phx_kv_pool_destroy(phx_kv_pool *pool); /* accepts NULL */

/* layer: local to the stage. The index cache has width 0 without an indexer. */
const phx_cache *phx_kv_pool_latent(const phx_kv_pool *pool, int64_t layer);
const phx_cache *phx_kv_pool_index(const phx_kv_pool *pool, int64_t layer);
/* Final hidden states for the draft layer, one to an entry: of each slot, then of each block's last position.
 * NULL without drafts. */
const phx_cache *phx_kv_pool_hidden(const phx_kv_pool *pool);
uint64_t phx_kv_pool_bytes(const phx_kv_pool *pool);

#endif
