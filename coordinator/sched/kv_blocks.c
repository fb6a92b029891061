/* coordinator/sched/kv_blocks.c - who holds which KV block, by number. */
#include "coordinator/sched/kv_blocks.h"

#include <assert.h>
#include <string.h>

#include "base/alloc.h"

#define NONE UINT32_MAX

typedef struct kv_block {
    uint32_t n_refs;
    uint32_t prev, next;  /* in the free or the cached list; used blocks are in none */
    uint32_t bucket_next; /* published blocks of one bucket */
    bool is_published;
    phx_hash key; /* when published */
} kv_block;

typedef struct kv_list {
    uint32_t first, last, n;
} kv_list;

struct phx_kv_blocks {
    uint32_t n_blocks;
    uint32_t bucket_mask;
    kv_block *blocks;  /* [n_blocks] */
    uint32_t *buckets; /* [bucket_mask + 1] first published block of each */
    kv_list free;
    kv_list cached; /* first: used least recently */
};

static void list_append(phx_kv_blocks *kv, kv_list *list, uint32_t block);
static void list_remove(phx_kv_blocks *kv, kv_list *list, uint32_t block);
static uint32_t *bucket_of(const phx_kv_blocks *kv, const phx_hash *key);
static void forget(phx_kv_blocks *kv, uint32_t block);
static phx_code check_list(const phx_kv_blocks *kv, const kv_list *list, bool is_published, phx_error *err);
static phx_code check_keys(const phx_kv_blocks *kv, phx_error *err);

phx_code phx_kv_blocks_create(uint32_t n_blocks, phx_kv_blocks **ret_kv, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_kv_blocks *kv = NULL;
    if (n_blocks == 0 || n_blocks == NONE) {
        rc = PHX_FAIL(err, PHX_ERR_INVALID, "pool of %u blocks", n_blocks);
        goto out;
    }
    kv = phx_alloc(1, sizeof(*kv));
    if (!kv) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "block table");
        goto out;
    }
    kv->n_blocks = n_blocks;
    size_t n_buckets = 16;
    while (n_buckets < n_blocks)
        n_buckets *= 2;
    kv->bucket_mask = (uint32_t)(n_buckets - 1);
    kv->blocks = phx_alloc(n_blocks, sizeof(*kv->blocks));
    kv->buckets = phx_alloc(n_buckets, sizeof(*kv->buckets));
    if (!kv->blocks || !kv->buckets) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "table of %u blocks", n_blocks);
        goto out;
    }
    phx_kv_blocks_reset(kv);
    *ret_kv = kv;
    kv = NULL;
out:
    phx_kv_blocks_destroy(kv);
    return rc;
}

void phx_kv_blocks_destroy(phx_kv_blocks *kv)
{
    if (!kv)
        return;
    phx_free(kv->blocks);
    phx_free(kv->buckets);
    phx_free(kv);
}

void phx_kv_blocks_reset(phx_kv_blocks *kv)
{
    memset(kv->buckets, 0xFF, ((size_t)kv->bucket_mask + 1) * sizeof(*kv->buckets));
    kv->free = kv->cached = (kv_list){NONE, NONE, 0};
    for (uint32_t i = 0; i < kv->n_blocks; i++) {
        kv->blocks[i] = (kv_block){.prev = NONE, .next = NONE, .bucket_next = NONE};
        list_append(kv, &kv->free, i);
    }
}

bool phx_kv_blocks_take(phx_kv_blocks *kv, uint32_t *ret_block)
{
    uint32_t block = kv->free.first;
    if (block != NONE) {
        list_remove(kv, &kv->free, block);
    } else {
        block = kv->cached.first;
        if (block == NONE)
            return false;
        list_remove(kv, &kv->cached, block);
        forget(kv, block);
    }
    kv->blocks[block].n_refs = 1;
    *ret_block = block;
    return true;
}

void phx_kv_blocks_hold(phx_kv_blocks *kv, uint32_t block)
{
    assert(block < kv->n_blocks);
    kv_block *b = &kv->blocks[block];
    if (b->n_refs == 0) {
        assert(b->is_published);
        list_remove(kv, &kv->cached, block);
    }
    b->n_refs++;
}

void phx_kv_blocks_drop(phx_kv_blocks *kv, uint32_t block)
{
    assert(block < kv->n_blocks);
    kv_block *b = &kv->blocks[block];
    assert(b->n_refs > 0);
    if (--b->n_refs == 0)
        list_append(kv, b->is_published ? &kv->cached : &kv->free, block);
}

bool phx_kv_blocks_publish(phx_kv_blocks *kv, uint32_t block, const phx_hash *key)
{
    assert(block < kv->n_blocks);
    kv_block *b = &kv->blocks[block];
    uint32_t other;
    assert(b->n_refs > 0);
    assert(!b->is_published);
    if (phx_kv_blocks_find(kv, key, &other))
        return false;
    uint32_t *bucket = bucket_of(kv, key);
    b->is_published = true;
    b->key = *key;
    b->bucket_next = *bucket;
    *bucket = block;
    return true;
}

bool phx_kv_blocks_find(const phx_kv_blocks *kv, const phx_hash *key, uint32_t *ret_block)
{
    for (uint32_t at = *bucket_of(kv, key); at != NONE; at = kv->blocks[at].bucket_next) {
        if (phx_hash_eq(&kv->blocks[at].key, key)) {
            *ret_block = at;
            return true;
        }
    }
    return false;
}

phx_hash phx_kv_blocks_key(const phx_hash *parent, uint64_t salt, const uint32_t *ids, uint32_t n_ids)
{
    phx_hasher hasher;
    phx_hasher_init(&hasher);
    phx_hasher_add_u64(&hasher, parent ? 1 : 0);
    if (parent)
        phx_hasher_add(&hasher, parent->bytes, sizeof(parent->bytes));
    phx_hasher_add_u64(&hasher, salt);
    phx_hasher_add(&hasher, ids, n_ids * sizeof(*ids));
    return phx_hasher_final(&hasher);
}

uint32_t phx_kv_blocks_n_free(const phx_kv_blocks *kv)
{
    return kv->free.n;
}

uint32_t phx_kv_blocks_n_cached(const phx_kv_blocks *kv)
{
    return kv->cached.n;
}

uint32_t phx_kv_blocks_n_used(const phx_kv_blocks *kv)
{
    return kv->n_blocks - kv->free.n - kv->cached.n;
}

bool phx_kv_blocks_is_published(const phx_kv_blocks *kv, uint32_t block)
{
    assert(block < kv->n_blocks);
    return kv->blocks[block].is_published;
}

phx_code phx_kv_blocks_check(const phx_kv_blocks *kv, const uint32_t *n_refs, phx_error *err)
{
    uint32_t n_used = 0;
    for (uint32_t i = 0; i < kv->n_blocks; i++) {
        if (kv->blocks[i].n_refs != n_refs[i])
            return PHX_FAIL(err, PHX_ERR_INTERNAL, "block %u counts %u references, %u tables name it", i,
                            kv->blocks[i].n_refs, n_refs[i]);
        n_used += n_refs[i] != 0;
    }
    if (n_used != phx_kv_blocks_n_used(kv))
        return PHX_FAIL(err, PHX_ERR_INTERNAL, "%u blocks used, %u free, %u cached of %u", n_used, kv->free.n,
                        kv->cached.n, kv->n_blocks);
    phx_code rc = check_list(kv, &kv->free, false, err);
    if (rc == PHX_OK)
        rc = check_list(kv, &kv->cached, true, err);
    return rc == PHX_OK ? check_keys(kv, err) : rc;
}

static phx_code check_list(const phx_kv_blocks *kv, const kv_list *list, bool is_published, phx_error *err)
{
    uint32_t n = 0, prev = NONE;
    for (uint32_t at = list->first; at != NONE; at = kv->blocks[at].next) {
        const kv_block *b = &kv->blocks[at];
        if (n++ == list->n || b->prev != prev)
            return PHX_FAIL(err, PHX_ERR_INTERNAL, "list of blocks is broken at block %u", at);
        if (b->n_refs != 0 || b->is_published != is_published)
            return PHX_FAIL(err, PHX_ERR_INTERNAL, "block %u with %u references is in the list of %s blocks",
                            at, b->n_refs, is_published ? "cached" : "free");
        prev = at;
    }
    if (n != list->n || list->last != prev)
        return PHX_FAIL(err, PHX_ERR_INTERNAL, "list of blocks counts %u, holds %u", list->n, n);
    return PHX_OK;
}

static phx_code check_keys(const phx_kv_blocks *kv, phx_error *err)
{
    uint32_t n_published = 0, n_found = 0;
    for (uint32_t i = 0; i < kv->n_blocks; i++)
        n_published += kv->blocks[i].is_published;
    for (uint32_t i = 0; i <= kv->bucket_mask; i++) {
        for (uint32_t at = kv->buckets[i]; at != NONE; at = kv->blocks[at].bucket_next) {
            uint32_t found = NONE;
            if (n_found++ == n_published || !kv->blocks[at].is_published ||
                !phx_kv_blocks_find(kv, &kv->blocks[at].key, &found) || found != at)
                return PHX_FAIL(err, PHX_ERR_INTERNAL, "block %u is not where its key says", at);
        }
    }
    if (n_found != n_published)
        return PHX_FAIL(err, PHX_ERR_INTERNAL, "%u blocks published, %u found", n_published, n_found);
    return PHX_OK;
}

static void list_append(phx_kv_blocks *kv, kv_list *list, uint32_t block)
{
    kv->blocks[block].prev = list->last;
    kv->blocks[block].next = NONE;
    if (list->last != NONE)
        kv->blocks[list->last].next = block;
    else
        list->first = block;
    list->last = block;
    list->n++;
}

static void list_remove(phx_kv_blocks *kv, kv_list *list, uint32_t block)
{
    kv_block *b = &kv->blocks[block];
    if (b->prev != NONE)
        kv->blocks[b->prev].next = b->next;
    else
        list->first = b->next;
    if (b->next != NONE)
        kv->blocks[b->next].prev = b->prev;
    else
        list->last = b->prev;
    b->prev = b->next = NONE;
    list->n--;
}

/* Keys are outputs of a cryptographic hash: any four bytes spread well. */
static uint32_t *bucket_of(const phx_kv_blocks *kv, const phx_hash *key)
{
    uint32_t bits;
    memcpy(&bits, key->bytes, sizeof(bits));
    return &kv->buckets[bits & kv->bucket_mask];
}

static void forget(phx_kv_blocks *kv, uint32_t block)
{
    kv_block *b = &kv->blocks[block];
    uint32_t *link = bucket_of(kv, &b->key);
    while (*link != block)
        link = &kv->blocks[*link].bucket_next;
    *link = b->bucket_next;
    b->bucket_next = NONE;
    b->is_published = false;
}
