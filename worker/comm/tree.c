/* worker/comm/tree.c - the one order in which partial sums of ranks are added. */
#include "worker/comm/tree.h"

#include <assert.h>
#include <string.h>

/* A block is summed into a local array: it cannot alias a part, and its fixed length lets the compiler use
 * vectors. The sums of an element are the same operations in block and rest. */
#define BLOCK 64u

static inline void add_range(float *block, const float *const *parts, uint32_t n_parts, size_t n)
{
    const float *const a = parts[0];
    if (n_parts == 1) {
        memcpy(block, a, n * sizeof(*block));
        return;
    }
    const float *const b = parts[1];
    if (n_parts == 2) {
        for (size_t i = 0; i < n; i++)
            block[i] = a[i] + b[i];
        return;
    }
    const float *const c = parts[2], *const d = parts[3];
    if (n_parts == 4) {
        for (size_t i = 0; i < n; i++)
            block[i] = (a[i] + b[i]) + (c[i] + d[i]);
        return;
    }
    const float *const e = parts[4], *const f = parts[5], *const g = parts[6], *const h = parts[7];
    for (size_t i = 0; i < n; i++)
        block[i] = ((a[i] + b[i]) + (c[i] + d[i])) + ((e[i] + f[i]) + (g[i] + h[i]));
}

void phx_tree_add(float *sum, const float *const *parts, uint32_t n_parts, size_t n)
{
    assert(n_parts == 1 || n_parts == 2 || n_parts == 4 || n_parts == PHX_TREE_PARTS_MAX);
    float block[BLOCK];
    for (size_t at = 0; at < n; at += BLOCK) {
        const float *from[PHX_TREE_PARTS_MAX] = {0};
        for (uint32_t r = 0; r < n_parts; r++)
            from[r] = parts[r] + at;
        const size_t n_here = n - at < BLOCK ? n - at : BLOCK;
        if (n_here == BLOCK)
            add_range(block, from, n_parts, BLOCK);
        else
            add_range(block, from, n_parts, n_here);
        memcpy(sum + at, block, n_here * sizeof(*block));
    }
}
