/* model/plan.h - layout + which slice of which tensor each rank holds + the size of every buffer, in bytes.
 * Owns: the slice list and the memory account per rank. Computed by the coordinator, recomputed and hashed by
 * every rank (DESIGN 3, 8). Pure: reads headers only. Not here: taking the memory (worker/). */
#ifndef PHX_MODEL_PLAN_H
#define PHX_MODEL_PLAN_H

#include "base/buf.h"
#include "model/checkpoint.h"
#include "model/layout.h"

#define PHX_BLOCK_TOKENS       64u
#define PHX_DRAFTS_DEFAULT     3u
#define PHX_PLAN_SCRATCH_BYTES (4u << 20) /* per compute thread: PHX_SCRATCH_BYTES of kernels/pool.h */
#define PHX_PLAN_COMM_WORDS_BYTES                                             \
    10496u /* words of one rank in the shared segment (worker/comm/segment.h) \
            */
/* Collectives where there is a device: worker/comm/comm_nccl.c. */
#define PHX_PLAN_ONE_SHOT_BYTES         262144u
#define PHX_PLAN_SHARE_PADDING_BYTES    64u
#define PHX_PLAN_PEER_BYTES             8388608u /* of one slot, of which a room has two */
#define PHX_PLAN_ROOM_HEAD_BYTES        8192u
#define PHX_PLAN_ROOM_UNIT_BYTES        2097152u
#define PHX_PLAN_MEETING_EXCHANGE_BYTES 65536u
#define PHX_PLAN_MEETING_STAGE_BYTES    4096u

/* What the person asked for. */
typedef struct phx_plan_request {
    phx_layout layout;
    phx_numerics numerics;
    uint64_t memory_bytes;  /* per rank; 0: what the machine reports free less a reserve, divided by all ranks
                               of  the group: give a number when they run on several hosts */
    uint32_t n_threads;     /* compute threads per rank; 0: the cores of the machine, divided likewise */
    uint32_t n_context;     /* longest request in tokens; 0: the largest that fits, at most the model's */
    uint32_t n_batch;       /* --max-batch: requests (slots) that run together, default 32 */
    uint32_t n_step_tokens; /* rows of one step, default 512 */
    uint32_t n_cache_tokens; /* tokens of KV cache in all; 0: fill the memory, at most n_batch * n_context */
    uint32_t n_drafts; /* tokens drafted ahead of a sequence at most; 0: the MTP layers are not loaded */
} phx_plan_request;

/* The slice of one tensor on one rank: rows [rows.first, rows.end) x columns [cols.first, cols.end) of the
 * global. */
typedef struct phx_plan_slice {
    const phx_ck_tensor *tensor;
    phx_range rows;
    phx_range cols;
    uint64_t data_bytes;  /* resident: elements (f32 when keep_f32), padded to 64 */
    uint64_t scale_bytes; /* resident: scales of every block touched (f32; int4-g32: bf16), padded to 64 */
    uint64_t file_bytes;  /* bytes read from files: elements + scales of the slice, no more */
} phx_plan_slice;

/* Bytes of one rank, each a line of the account. */
#define PHX_ACCOUNT(X)                                                             \
    X(weights, "weights")       /* slices, scales */                               \
    X(cache_latent, "kv cache") /* latent + rotary key, all layers of the stage */ \
    X(cache_index, "index keys")                                                   \
    X(cache_hidden, "hidden states") /* that drafts go on from */                  \
    X(activations, "activations")    /* step buffers (worker/exec/step_buf.h) */   \
    X(logits, "logits and sampling")                                               \
    X(rope, "rotary table")                                                        \
    X(workspace, "kernel workspace") /* scratch per compute thread */              \
    X(collectives, "collectives")    /* shared-memory slots, staging */

typedef struct phx_rank_plan {
    uint32_t rank;
    uint32_t stage;
    uint32_t tp_rank;
    /* of this stage; with request.n_drafts the last one's range ends after the MTP layers */
    phx_range layers;
    phx_range heads;   /* of this rank */
    phx_range vocab;   /* rows of embed and head */
    phx_range experts; /* ep mode: whole experts of this rank; tp mode: all */
    /* [n_slices] in phx_family_each order; the embedding on the first stage and, for MTP, on the last; the
     * MTP layers' own copies of embedding and head are not held */
    phx_plan_slice *slices;
    size_t n_slices;
#define X(field, text) uint64_t field##_bytes;
    PHX_ACCOUNT(X)
#undef X
    uint64_t total_bytes;              /* where ops run on a device: of the device */
    uint64_t host_bytes;               /* where ops run on a device: host memory besides; else 0 */
    uint64_t exchange_bytes_per_token; /* per step row, as comm.h counts traffic: two exchanges of d_hidden
                                          floats a layer, one per embedding */
    uint64_t stage_bytes_per_token;    /* sent to the next stage per step row, at most */
} phx_rank_plan;

typedef struct phx_plan {
    phx_plan_request request; /* with the zeros filled in */
    const phx_checkpoint *checkpoint;
    uint32_t n_ranks;
    uint32_t n_blocks;    /* KV blocks in the pool, the same on every rank */
    uint32_t n_context;   /* longest request */
    phx_rank_plan *ranks; /* [n_ranks] */
    phx_hash hash; /* layout, numerics, slices, buffers, context, blocks, checkpoint; not memory_bytes */
} phx_plan;

/* Refuses with the reason and what would fit (smaller context, more ranks). Destroy with phx_plan_destroy.
 * The plan borrows the checkpoint. */
phx_code phx_plan_build(const phx_checkpoint *checkpoint, const phx_plan_request *request,
                        phx_plan **ret_plan, phx_error *err);
void phx_plan_destroy(phx_plan *plan); /* accepts NULL */

/* Hidden states that a rank keeps for its draft layer: one per slot, then one per block; 0 without. */
uint64_t phx_plan_kept_states(const phx_plan *plan, uint32_t rank);

void phx_plan_request_default(phx_plan_request *ret_request);

/* Table for people; JSON for scripts. */
void phx_plan_print(const phx_plan *plan, phx_buf *buf);
void phx_plan_json(const phx_plan *plan, phx_buf *buf);

#endif
