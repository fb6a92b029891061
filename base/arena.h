/* base/arena.h - one allocation cut into named arrays.
 * Owns: the memory and the table of slots that describes it. Used for every buffer of the step path, so that
 * the plan's byte account and the real allocation come from one table (STYLE 21, 22). */
#ifndef PHX_BASE_ARENA_H
#define PHX_BASE_ARENA_H

#include "base/status.h"

#include <stddef.h>

#define PHX_ARENA_ALIGN 64u

typedef struct phx_slot {
    void **ret_ptr;   /* set by phx_arena_create; may be NULL when only the size is asked */
    size_t n;         /* elements; 0 gives a NULL pointer */
    size_t bytes;     /* per element */
    const char *name; /* for the memory report */
} phx_slot;

/* PHX_SLOT(buf, hidden, n) takes the element size from the pointer's type. */
#define PHX_SLOT(object, field, count)                                       \
    {                                                                        \
        (void **)&(object)->field, (count), sizeof(*(object)->field), #field \
    }

typedef struct phx_arena phx_arena;

/* Where an arena takes its bytes from, when not from pages of the host: device or pinned memory
 * (kernels/backend.h). take: zeroed, aligned to PHX_ARENA_ALIGN. */
typedef struct phx_memory {
    void *user;
    phx_code (*take)(void *user, size_t bytes, void **ret_memory, phx_error *err);
    void (*give_back)(void *user, void *memory, size_t bytes);
} phx_memory;

/* Bytes that a table needs, padding included: what the plan announces and what create takes. */
size_t phx_arena_bytes(const phx_slot *slots, size_t n_slots);

/* Zeroed pages; every slot is 64-byte aligned. */
phx_code phx_arena_create(const phx_slot *slots, size_t n_slots, phx_arena **ret_arena, phx_error *err);

/* The same in other memory, which outlives the arena. NULL: pages of the host. */
phx_code phx_arena_create_in(const phx_memory *memory, const phx_slot *slots, size_t n_slots,
                             phx_arena **ret_arena, phx_error *err);
void phx_arena_destroy(phx_arena *arena); /* accepts NULL */
size_t phx_arena_size(const phx_arena *arena);

#endif
