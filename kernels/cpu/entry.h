/* kernels/cpu/entry.h - a row of numbers as an entry of the KV memory, for the ops that write one (copy.c,
 * norm.c). */
#ifndef PHX_KERNELS_CPU_ENTRY_H
#define PHX_KERNELS_CPU_ENTRY_H

#include "kernels/cpu/level.h"

#define phx_put_entry PHX_CPU(phx_put_entry)

/* x [cache->width], rounded to the cache's dtype; nothing where entry < 0. */
void phx_put_entry(const phx_cache *cache, int64_t entry, const float *x);

#endif
