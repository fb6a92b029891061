/* base/arena.c - one allocation cut into named arrays. */
#include "base/arena.h"

#include <stdint.h>
#include <sys/mman.h>

#include "base/alloc.h"

struct phx_arena {
    uint8_t *base;
    size_t bytes;
    phx_memory memory; /* take NULL: pages of the host */
};

static size_t slot_bytes(const phx_slot *slot)
{
    return (slot->n * slot->bytes + PHX_ARENA_ALIGN - 1) & ~(size_t)(PHX_ARENA_ALIGN - 1);
}

size_t phx_arena_bytes(const phx_slot *slots, size_t n_slots)
{
    size_t total = 0;
    for (size_t i = 0; i < n_slots; i++)
        total += slot_bytes(&slots[i]);
    return total;
}

static phx_code take_pages(size_t bytes, void **ret_memory, phx_error *err)
{
    /* Pages from mmap are zero and are only resident once touched; the account counts them all. */
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "cannot allocate %zu bytes; lower --context or --max-batch",
                        bytes);
    *ret_memory = base;
    return PHX_OK;
}

phx_code phx_arena_create(const phx_slot *slots, size_t n_slots, phx_arena **ret_arena, phx_error *err)
{
    return phx_arena_create_in(NULL, slots, n_slots, ret_arena, err);
}

phx_code phx_arena_create_in(const phx_memory *memory, const phx_slot *slots, size_t n_slots,
                             phx_arena **ret_arena, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_arena *arena = phx_alloc(1, sizeof(*arena));
    if (!arena) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "arena handle");
        goto out;
    }
    if (memory)
        arena->memory = *memory;
    arena->bytes = phx_arena_bytes(slots, n_slots);
    if (arena->bytes) {
        void *base = NULL;
        rc = memory ? memory->take(memory->user, arena->bytes, &base, err)
                    : take_pages(arena->bytes, &base, err);
        if (rc != PHX_OK)
            goto out;
        arena->base = base;
    }
    size_t offset = 0;
    for (size_t i = 0; i < n_slots; i++) {
        if (slots[i].ret_ptr)
            *slots[i].ret_ptr = slots[i].n ? arena->base + offset : NULL;
        offset += slot_bytes(&slots[i]);
    }
    *ret_arena = arena;
    arena = NULL;
out:
    phx_arena_destroy(arena);
    return rc;
}

void phx_arena_destroy(phx_arena *arena)
{
    if (!arena)
        return;
    if (arena->base && arena->memory.take)
        arena->memory.give_back(arena->memory.user, arena->base, arena->bytes);
    else if (arena->base)
        (void)munmap(arena->base, arena->bytes);
    phx_free(arena);
}

size_t phx_arena_size(const phx_arena *arena)
{
    return arena->bytes;
}
