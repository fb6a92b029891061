/* worker/exec/state.h - what the files of worker/exec share. Not for others: use exec.h. */
#ifndef PHX_WORKER_EXEC_STATE_H
#define PHX_WORKER_EXEC_STATE_H

#include "model/step_buf.h"
#include "worker/exec/exec.h"
#include "worker/slots.h"

typedef struct phx_pending_step { /* sampled on the last stage, not yet received on the first */
    uint64_t step;
    uint32_t n_rows;
} phx_pending_step;

struct phx_exec {
    phx_exec_parts parts;
    const phx_dims *dims;
    const phx_rank_plan *rank;
    phx_numerics numerics;
    phx_pool *pool;     /* first argument of every op */
    phx_step_buf buf;   /* what ops and verbs work on */
    phx_step_buf host;  /* what this code reads and writes; the same pointers on the CPU */
    phx_step_bufs bufs; /* owns both */
    void *view;         /* what captures are copied to when device memory is not host memory */
    size_t view_bytes;
    size_t blocks_max; /* of a slot's block table */
    phx_arena *rope_arena;
    float *rope; /* [n_context][d_rope / 2][cos, sin] */
    phx_slots *slots;
    phx_row_result *results; /* [n_slots] */
    uint32_t *sample_rows;   /* [n_slots] plan rows that sample, in order */
    /* steps whose samples the first stage still has to receive, oldest first (pp > 1) */
    phx_pending_step pending[PHX_PP_MAX + 2];
    uint32_t n_pending;
    uint32_t *pending_slots; /* [PHX_PP_MAX + 2][n_slots] */
    bool first_stage;
    bool last_stage;
    float softmax_scale;
    float latent_eps;
    size_t act_bytes;
    uint32_t n_leaves;
    /* this step */
    const phx_step_plan *plan;
    int64_t n_tokens;
    bool selecting; /* some row has more keys than an indexer keeps, or the selection is captured */
};

/* An activation view of a step buffer [n_tokens][width]. */
static inline phx_activation phx_exec_act(const phx_exec *exec, const void *data, int64_t width)
{
    return (phx_activation){data, width, exec->numerics.act};
}

static inline phx_activation_out phx_exec_act_out(const phx_exec *exec, void *data, int64_t width)
{
    return (phx_activation_out){data, width, exec->numerics.act};
}

/* Until the device has done all that this rank has asked for; a lost peer ends the wait. The only place where
 * worker/exec waits: steps and checks queue, then come here. */
phx_code phx_exec_wait(phx_exec *exec, phx_error *err);

/* A copy from device memory to pinned memory, and the wait for it. */
phx_code phx_exec_download(phx_exec *exec, void *to, const void *from, size_t n_bytes, phx_error *err);

/* Sends what the host has written of the step's tokens (positions, entries, block tables, ...) to the device.
 */
phx_code phx_exec_upload_rows(phx_exec *exec, phx_error *err);

/* Normalises the residual stream with rms_norm_eps into buf.norm (f32) and buf.norm_act. */
void phx_exec_norm(phx_exec *exec, const float *weight);

/* layer counts from 0 within the stage. Each adds its output to buf.hidden. */
phx_code phx_exec_attention(phx_exec *exec, int64_t layer, phx_error *err);
phx_code phx_exec_ffn(phx_exec *exec, int64_t layer, phx_error *err);

/* Does any layer of this step choose among keys? The same answer on all ranks. */
bool phx_exec_must_select(const phx_exec *exec);

/* A layer with an indexer writes the index keys of the step and, when exec->selecting, chooses positions into
 * buf.selected; one without leaves there what the layer before it attended to. Not selecting: every row
 * attends to all of its keys. */
phx_code phx_exec_select(phx_exec *exec, int64_t layer, phx_error *err);

/* Logits of the rows that want them: captured, sampled or both. Last stage. */
phx_code phx_exec_logits(phx_exec *exec, phx_error *err);

/* Chooses the next token of n rows whose local logits lie in buf.logits [n][vocab slice], penalties not yet
 * applied. plan_rows[i] is the plan row of logits row i; results go to exec->results[result_first + i]. */
phx_code phx_exec_sample(phx_exec *exec, const uint32_t *plan_rows, uint32_t n, uint32_t result_first,
                         phx_error *err);

/* For the self-check: attention of the stage's first layer over the n_tokens rows in buf.norm_act, absorbed
 * into heads [n_tokens][heads of the rank * d_v] of the host, then expanded into buf.heads_act. */
phx_code phx_exec_attend_both(phx_exec *exec, float *heads, phx_error *err);

/* The n_bytes at device memory `from` as host memory, valid until the next view; on the CPU that very place.
 */
phx_code phx_exec_view(phx_exec *exec, const void *from, size_t n_bytes, const void **ret_view,
                       phx_error *err);

void phx_exec_drop_view(phx_exec *exec); /* gives its memory back */

/* Where a plan row's first token stands among the step's tokens. */
int64_t phx_exec_row_start(const phx_exec *exec, uint32_t plan_row);

typedef struct phx_capture_view {
    uint32_t mask_bit;
    const char *name;
    int64_t layer; /* global, appended to the name; -1: none */
    phx_dtype dtype;
    const void *data; /* [n_tokens][stride] device memory */
    int64_t stride;
    int64_t n_cols;
} phx_capture_view;

/* Hands the capturing rows of a view to the sink; tp rank 0 of the stage only. No-op when nothing captures.
 */
phx_code phx_exec_capture(phx_exec *exec, const phx_capture_view *view, phx_error *err);

/* The same for the single token t, whose row is view->data itself. */
phx_code phx_exec_capture_row(phx_exec *exec, const phx_capture_view *view, int64_t token, phx_error *err);

#endif
