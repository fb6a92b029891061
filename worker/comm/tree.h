/* worker/comm/tree.h - the one order in which partial sums of ranks are added (DESIGN 7c, 7g).
 * Owns: the balanced binary tree over ranks, shared by every backend. Not here: the tree over the leaves of
 * one rank (kernels/). */
#ifndef PHX_WORKER_TREE_H
#define PHX_WORKER_TREE_H

#include <stddef.h>
#include <stdint.h>

#define PHX_TREE_PARTS_MAX 8u

/* sum[i] = ((p0+p1)+(p2+p3))+((p4+p5)+(p6+p7)) of p_r = parts[r][i], each addition rounded to f32; the tree
 * of fewer parts is its left subtree. No zero is added, so -0.0 stays. parts: n_parts (1, 2, 4 or 8) vectors
 * of n values. sum may equal a part; no other overlap. */
void phx_tree_add(float *sum, const float *const *parts, uint32_t n_parts, size_t n);

#endif
