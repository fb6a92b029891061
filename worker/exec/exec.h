/* worker/exec/exec.h - one rank's share of a forward pass: the only engine there is (DESIGN 5.6).
 * Owns: the walk over the layers, the step buffers, the slots. verify, logits, bench and serve all come
 * through phx_exec_step. Reading order: step.c, rows.c, attention.c, indexer.c, ffn.c, sample.c, tokens.c,
 * graphs.c. Not here: the
 * arithmetic (kernels/ops.h), moving bytes (worker/comm), weights and cache memory. */
#ifndef PHX_WORKER_EXEC_EXEC_H
#define PHX_WORKER_EXEC_EXEC_H

#include "kernels/backend.h"
#include "proto/step_plan.h"
#include "worker/comm/comm.h"
#include "worker/kv/kv_pool.h"
#include "worker/weights.h"

typedef struct phx_exec phx_exec;

/* A captured piece of a tensor: n_rows rows of n_cols numbers, stride elements apart, at prompt position
 * row_first. */
typedef struct phx_capture_piece {
    const char *name; /* as in golden files: "logits", "hidden.3", ... */
    phx_dtype dtype;  /* PHX_F32 or PHX_I32 */
    uint64_t request_id;
    uint32_t row_first;
    uint32_t n_rows;
    uint32_t n_cols;
    uint32_t col_first;
    int64_t stride;
    const void *data; /* valid during the call */
} phx_capture_piece;

/* Takes a piece; may wait for credit. */
typedef phx_code phx_capture_sink(void *user, const phx_capture_piece *piece, phx_error *err);

typedef struct phx_exec_parts { /* all borrowed, outliving the exec */
    const phx_plan *plan;
    uint32_t rank;
    const phx_weights *weights;
    const phx_kv_pool *kv;
    phx_comm *comm; /* its verbs move device memory (kernels/backend.h) */
    phx_backend *backend;
    const phx_ops *ops;     /* of the backend */
    phx_capture_sink *sink; /* may be NULL when nothing captures */
    void *sink_user;
} phx_exec_parts;

phx_code phx_exec_create(const phx_exec_parts *parts, phx_exec **ret_exec, phx_error *err);
void phx_exec_destroy(phx_exec *exec); /* accepts NULL */
/* Step buffers and rotary table, as accounted by the plan: of the device, where there is one. */
uint64_t phx_exec_bytes(const phx_exec *exec);

/* Runs one step. ret_result->rows point into the exec until the next step; n_rows is 0 except on the last
 * stage. Any failure means the group is lost. */
phx_code phx_exec_step(phx_exec *exec, const phx_step_plan *plan, phx_step_result *ret_result,
                       phx_error *err);

/* Before ready (DESIGN 1.1): collectives on known patterns, the first layer's sharded o_proj against the same
 * product on one rank bit for bit, absorbed attention against expanded. Every rank of the group calls it. */
phx_code phx_exec_self_check(phx_exec *exec, phx_error *err);

/* Before ready, before recording: settles which products round their rows to fp8 (products.c), as a line of
 * text says that is appended without its end; nothing where none may. warm: as below. */
phx_code phx_exec_choose_products(phx_exec *exec, bool warm, phx_buf *text, phx_error *err);
bool phx_exec_rounds(const phx_exec *exec); /* whether any does */

/* Before ready, by every rank of the group: records decode steps where the backend can, and from then on
 * replays them; the bits are the same. Nothing is recorded on the CPU. warm: each runs once before, of
 * padding alone, so that what a kernel's first use needs is there. */
phx_code phx_exec_record(phx_exec *exec, bool warm, phx_error *err);
/* Appends what was recorded, in one line without its end. */
phx_code phx_exec_describe_graphs(const phx_exec *exec, phx_buf *buf);
/* Where less than an eighth of the device's reserve is left after recording: true, and a line without its end
 * that says so and what to do is appended. Nothing recorded: false. */
bool phx_exec_is_short(const phx_exec *exec, phx_buf *buf);
bool phx_exec_memory_is_short(uint64_t graphs_bytes, uint64_t left_bytes, phx_buf *buf); /* of such figures */
/* The end of the recordings, which name the communicator: it ends after them, and before the exec's memory
 * goes, for which a device waits until nothing runs. No step after this; phx_exec_destroy does it where
 * nobody has. */
void phx_exec_drop_graphs(phx_exec *exec);         /* accepts NULL */
uint64_t phx_exec_n_replays(const phx_exec *exec); /* steps that were replayed */

#endif
