/* base/alloc.c - the only door to the heap. */
#include "base/alloc.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static _Atomic uint64_t n_allocs, n_live, fail_countdown;

static bool fails_now(void)
{
    uint64_t left = atomic_load_explicit(&fail_countdown, memory_order_relaxed);
    if (left == 0)
        return false;
    return atomic_fetch_sub(&fail_countdown, 1) == 1;
}

void *phx_alloc(size_t n, size_t bytes)
{
    size_t total;
    if (fails_now() || __builtin_mul_overflow(n, bytes, &total) || total > PTRDIFF_MAX)
        return NULL;
    void *ptr;
    if (total >= 4096) {
        ptr = aligned_alloc(64, (total + 63) & ~(size_t)63);
        if (ptr)
            memset(ptr, 0, total);
    } else {
        ptr = calloc(1, total ? total : 1);
    }
    if (!ptr)
        return NULL;
    atomic_fetch_add_explicit(&n_allocs, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&n_live, 1, memory_order_relaxed);
    return ptr;
}

void *phx_realloc(void *old, size_t n, size_t bytes)
{
    size_t total;
    if (fails_now() || __builtin_mul_overflow(n, bytes, &total) || total > PTRDIFF_MAX)
        return NULL;
    void *ptr = realloc(old, total ? total : 1);
    if (!ptr)
        return NULL;
    atomic_fetch_add_explicit(&n_allocs, 1, memory_order_relaxed);
    if (!old)
        atomic_fetch_add_explicit(&n_live, 1, memory_order_relaxed);
    return ptr;
}

void phx_free(void *ptr)
{
    if (!ptr)
        return;
    atomic_fetch_sub_explicit(&n_live, 1, memory_order_relaxed);
    free(ptr);
}

char *phx_strdup_n(const char *ptr, size_t n)
{
    char *copy = phx_alloc(n + 1, 1);
    if (copy && n)
        memcpy(copy, ptr, n);
    return copy;
}

phx_alloc_stats phx_alloc_count(void)
{
    return (phx_alloc_stats){atomic_load(&n_allocs), atomic_load(&n_live)};
}

void phx_alloc_fail_nth(uint64_t n)
{
    atomic_store(&fail_countdown, n);
}
