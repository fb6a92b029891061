/* worker/kv/kv_pool.c - the KV memory of one rank. */
#include "worker/kv/kv_pool.h"

#include <assert.h>

#include "base/alloc.h"
#include "base/arena.h"
#include "kernels/cache.h"

struct phx_kv_pool {
    int64_t n_layers;
    phx_cache *latent; /* [n_layers] */
    phx_cache *index;  /* [n_layers] */
    phx_cache hidden;  /* data NULL without drafts */
    phx_arena *arena;
};

phx_code phx_kv_pool_create(const phx_plan *plan, uint32_t rank, const phx_memory *memory,
                            phx_kv_pool **ret_pool, phx_error *err)
{
    phx_code rc = PHX_OK;
    const phx_dims *dims = phx_checkpoint_dims(plan->checkpoint);
    const size_t n_layers = (size_t)phx_range_n(plan->ranks[rank].layers);
    const size_t n_entries = (size_t)plan->n_blocks * PHX_BLOCK_TOKENS;
    const phx_dtype dtype = plan->request.numerics.cache;
    const phx_dtype index_dtype = phx_numerics_index_keys(&plan->request.numerics);
    phx_slot *slots = NULL;
    phx_kv_pool *pool = phx_alloc(1, sizeof(*pool));
    if (!pool) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "kv pool");
        goto out;
    }
    pool->n_layers = (int64_t)n_layers;
    pool->latent = phx_alloc(n_layers, sizeof(*pool->latent));
    pool->index = phx_alloc(n_layers, sizeof(*pool->index));
    slots = phx_alloc(2 * n_layers + 1, sizeof(*slots));
    if (!pool->latent || !pool->index || !slots) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "kv pool of %zu layers", n_layers);
        goto out;
    }
    for (size_t l = 0; l < n_layers; l++) {
        const int64_t layer = plan->ranks[rank].layers.first + (int64_t)l;
        const int64_t index_width = phx_layer_has_indexer(dims, layer) ? dims->index_d : 0;
        const bool drafts = layer >= dims->n_layers;
        pool->latent[l] = (phx_cache){.width = dims->kv_lora + dims->d_rope,
                                      .dtype = dtype,
                                      .n_before = drafts,
                                      .d_latent = dims->kv_lora};
        pool->index[l] = (phx_cache){.width = index_width, .dtype = index_dtype, .n_before = drafts};
        slots[2 * l] = (phx_slot){&pool->latent[l].data, n_entries,
                                  (size_t)phx_cache_entry_bytes(&pool->latent[l]), "latent"};
        slots[2 * l + 1] = (phx_slot){&pool->index[l].data, n_entries * (size_t)index_width,
                                      phx_dtype_bytes(index_dtype), "index keys"};
    }
    pool->hidden = (phx_cache){.width = dims->d_hidden, .dtype = PHX_F32};
    slots[2 * n_layers] =
        (phx_slot){&pool->hidden.data, phx_plan_kept_states(plan, rank) * (size_t)dims->d_hidden,
                   sizeof(float), "hidden states"};
    rc = phx_arena_create_in(memory, slots, 2 * n_layers + 1, &pool->arena, err);
    if (rc != PHX_OK)
        goto out;
    *ret_pool = pool;
    pool = NULL;
out:
    phx_free(slots);
    phx_kv_pool_destroy(pool);
    return rc;
}

void phx_kv_pool_destroy(phx_kv_pool *pool)
{
    if (!pool)
        return;
    phx_arena_destroy(pool->arena);
    phx_free(pool->latent);
    phx_free(pool->index);
    phx_free(pool);
}

const phx_cache *phx_kv_pool_latent(const phx_kv_pool *pool, int64_t layer)
{
    assert(layer >= 0);
    assert(layer < pool->n_layers);
    return &pool->latent[layer];
}

const phx_cache *phx_kv_pool_index(const phx_kv_pool *pool, int64_t layer)
{
    assert(layer >= 0);
    assert(layer < pool->n_layers);
    return &pool->index[layer];
}

const phx_cache *phx_kv_pool_hidden(const phx_kv_pool *pool)
{
    return pool->hidden.data ? &pool->hidden : NULL;
}

uint64_t phx_kv_pool_bytes(const phx_kv_pool *pool)
{
    return phx_arena_size(pool->arena);
}
