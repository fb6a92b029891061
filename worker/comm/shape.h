/* worker/comm/shape.h - what all backends derive from a shape: checks, and the cut of a vector over ranks.
 * Internal to worker/comm. */
#ifndef PHX_WORKER_COMM_SHAPE_H
#define PHX_WORKER_COMM_SHAPE_H

#include "worker/comm/comm.h"

#include <stdbool.h>

#define PHX_COMM_RANKS_MAX 512u
#define PHX_COMM_BYTES_MAX ((size_t)1 << 30) /* of one payload: an int can count it */

/* Messages from one stage to the next that may wait for their receiver. */
#define PHX_COMM_STAGE_DEPTH 2u

/* Notes that may wait for their receiver. */
static inline uint32_t phx_comm_n_notes(const phx_comm_shape *shape)
{
    return shape->pp > 1 && shape->note_bytes > 0 ? shape->pp + 1 : 0;
}

/* PHX_ERR_INVALID, naming the field, unless every backend can serve the shape. */
phx_code phx_comm_shape_check(const phx_comm_shape *shape, phx_error *err);

/* True when two ranks of one group may hold these shapes: all but the rank and the timeout agree. */
bool phx_comm_shape_same(const phx_comm_shape *a, const phx_comm_shape *b);

static inline uint32_t phx_comm_n_ranks(const phx_comm_shape *shape)
{
    return shape->tp * shape->pp;
}

/* Rank r of tp reduces the values [cut(n, r), cut(n, r + 1)) of n. */
static inline size_t phx_comm_cut(size_t n, uint32_t r, uint32_t tp)
{
    return (n / tp) * r + ((n % tp) * r) / tp;
}

#endif
