/* worker/comm/shape.c - what all backends derive from a shape. */
#include "worker/comm/shape.h"

#include <inttypes.h>

phx_code phx_comm_shape_check(const phx_comm_shape *shape, phx_error *err)
{
    const uint32_t tp = shape->tp, pp = shape->pp;
    if (tp != 1 && tp != 2 && tp != 4 && tp != 8)
        return PHX_FAIL(err, PHX_ERR_INVALID, "tp %" PRIu32 ": the tree of sums fits 1, 2, 4 and 8", tp);
    if (pp < 1 || pp > PHX_COMM_RANKS_MAX / tp)
        return PHX_FAIL(err, PHX_ERR_INVALID,
                        "pp %" PRIu32 " with tp %" PRIu32 ": at least 1, at most %u ranks", pp, tp,
                        PHX_COMM_RANKS_MAX);
    if (shape->rank >= tp * pp)
        return PHX_FAIL(err, PHX_ERR_INVALID, "rank %" PRIu32 " of a group of %" PRIu32, shape->rank,
                        tp * pp);
    if (shape->exchange_bytes > PHX_COMM_BYTES_MAX || shape->stage_bytes > PHX_COMM_BYTES_MAX ||
        shape->note_bytes > PHX_COMM_BYTES_MAX)
        return PHX_FAIL(err, PHX_ERR_INVALID,
                        "exchange of %zu bytes, stage message of %zu, note of %zu: the limit is %zu; lower "
                        "--max-batch",
                        shape->exchange_bytes, shape->stage_bytes, shape->note_bytes, PHX_COMM_BYTES_MAX);
    if (tp > 1 && shape->exchange_bytes < sizeof(float))
        return PHX_FAIL(err, PHX_ERR_INVALID, "exchange of %zu bytes holds no value", shape->exchange_bytes);
    return PHX_OK;
}

bool phx_comm_shape_same(const phx_comm_shape *a, const phx_comm_shape *b)
{
    return a->tp == b->tp && a->pp == b->pp && a->exchange_bytes == b->exchange_bytes &&
           a->stage_bytes == b->stage_bytes && a->note_bytes == b->note_bytes;
}
