/* coordinator/sched/kv_blocks.h - who holds which KV block, by number, and what the unheld ones still know.
 * Owns: reference counts, the free list, the prefix cache (key of a full block -> block) and its least
 * recently used order. Not here: KV memory (worker/kv), block tables and when to take or give up blocks (the
 * rest of this folder).
 *
 * A block is free (holds nothing), used (referenced), or cached (unreferenced, but published under a key, so
 * that a later request may take it over). Free + used + cached = all, always. */
#ifndef PHX_COORDINATOR_SCHED_KV_BLOCKS_H
#define PHX_COORDINATOR_SCHED_KV_BLOCKS_H

#include "base/hash.h"
#include "base/status.h"

typedef struct phx_kv_blocks phx_kv_blocks;

/* n_blocks: 1 .. UINT32_MAX - 1. Everything is allocated here. PHX_ERR_NOMEM, PHX_ERR_INVALID. */
phx_code phx_kv_blocks_create(uint32_t n_blocks, phx_kv_blocks **ret_kv, phx_error *err);
void phx_kv_blocks_destroy(phx_kv_blocks *kv); /* accepts NULL */

/* All blocks free, nothing published: the memory behind them is gone. */
void phx_kv_blocks_reset(phx_kv_blocks *kv);

/* A block with one reference: a free one, else the cached one that was used least recently, which is
 * forgotten. False when all are used. */
bool phx_kv_blocks_take(phx_kv_blocks *kv, uint32_t *ret_block);

/* One more reference to a used or cached block. */
void phx_kv_blocks_hold(phx_kv_blocks *kv, uint32_t block);

/* One reference less; the last one makes the block cached (as most recently used) when it is published, else
 * free. Drop a table from its end, so that the start of a prefix outlives its continuation. */
void phx_kv_blocks_drop(phx_kv_blocks *kv, uint32_t block);

/* Makes a used block findable. False, without effect, when another block has that key already. */
bool phx_kv_blocks_publish(phx_kv_blocks *kv, uint32_t block, const phx_hash *key);
bool phx_kv_blocks_find(const phx_kv_blocks *kv, const phx_hash *key, uint32_t *ret_block);

/* Key of a full block: covers the salt, all tokens before the block (through the parent's key, NULL for the
 * first block) and its own ids [n_ids]. */
phx_hash phx_kv_blocks_key(const phx_hash *parent, uint64_t salt, const uint32_t *ids, uint32_t n_ids);

uint32_t phx_kv_blocks_n_free(const phx_kv_blocks *kv);
uint32_t phx_kv_blocks_n_cached(const phx_kv_blocks *kv);
uint32_t phx_kv_blocks_n_used(const phx_kv_blocks *kv);
bool phx_kv_blocks_is_published(const phx_kv_blocks *kv, uint32_t block);

/* Walks the lists and the table of keys. n_refs [n_blocks]: the references that the caller knows of.
 * PHX_ERR_INTERNAL names the first block that is wrong. */
phx_code phx_kv_blocks_check(const phx_kv_blocks *kv, const uint32_t *n_refs, phx_error *err);

#endif
