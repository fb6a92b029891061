/* base/alloc.h - the only door to the heap: zeroed, overflow-checked, counted, able to fail on demand.
 * Owns: the process-wide counters and the fault countdown (used by tests, habit 38). */
#ifndef PHX_BASE_ALLOC_H
#define PHX_BASE_ALLOC_H

#include <stddef.h>
#include <stdint.h>

/* n objects of bytes each, zeroed, 64-byte aligned when the whole is 4 KiB or more; NULL when out of memory
 * or on overflow. Free with phx_free. */
void *phx_alloc(size_t n, size_t bytes);

/* Grows (or first allocates) an array to n objects; the new part is not zeroed. The old pointer stays valid
 * on NULL. */
void *phx_realloc(void *old, size_t n, size_t bytes);

void phx_free(void *ptr); /* accepts NULL */

char *phx_strdup_n(const char *ptr, size_t n); /* terminated copy; free with phx_free */

typedef struct phx_alloc_stats {
    uint64_t n_allocs; /* calls of phx_alloc and phx_realloc since start */
    uint64_t n_live;   /* not yet freed */
} phx_alloc_stats;

phx_alloc_stats phx_alloc_count(void);

/* The n-th allocation from now fails once (1 = the next); 0 switches off. Test builds and tests only. */
void phx_alloc_fail_nth(uint64_t n);

#endif
