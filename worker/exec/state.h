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

typedef struct phx_sampled { /* one token that is chosen */
    uint32_t plan_row;
    int32_t row;       /* of the walk: whose logits */
    uint32_t position; /* of the chosen token */
    int32_t place;     /* of last_tokens that takes it; -1: the host decides */
} phx_sampled;

typedef struct phx_draft phx_draft; /* draft.c */

#define PHX_GRAPH_DEPTHS_MAX 3u
#define PHX_GRAPHS_MAX       24u

typedef struct phx_step_graph { /* graphs.c: a decode step of up to so many rows, none of more keys */
    int64_t n_tokens;
    int64_t n_keys_max;
    phx_graph *recorded;
    size_t n_nodes;
    phx_comm_traffic traffic; /* of one replay */
} phx_step_graph;

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
    uint32_t n_places;       /* of a slot in last_tokens: its last token, then its drafts */
    phx_row_result *results; /* [n_slots][n_places] */
    phx_sampled *sampling;   /* [n_slots][n_places] in plan order */
    uint32_t *n_taken;       /* [n_slots] of plan rows: tokens that hold; all but drafts do */
    phx_draft *draft;        /* NULL: nothing is drafted here */
    phx_pending_step
        pending[PHX_PP_MAX + 2]; /* tokens.c: a ring, of the first stage when there are several */
    uint32_t first_pending, n_pending;
    bool first_stage;
    bool last_stage;
    float softmax_scale;
    float latent_eps;
    size_t act_bytes;
    uint32_t n_leaves;
    bool rounds;                           /* products may round their rows: products.c */
    phx_step_graph graphs[PHX_GRAPHS_MAX]; /* [n_graphs] by rows, then by depths */
    uint32_t n_graphs;
    uint64_t graphs_us, graphs_bytes; /* what recording took */
    uint64_t left_bytes;              /* of the device when all was recorded */
    uint64_t n_replays;
    /* this step */
    const phx_step_plan *plan;
    const phx_step_graph *graph; /* NULL: the step is walked */
    int64_t n_own;               /* the plan's tokens */
    int64_t n_tokens;            /* rows that are walked: those, and padding */
    int64_t n_keys_max;          /* no row has more */
    uint32_t n_sampling;         /* tokens of the plan that are chosen */
    uint32_t n_results;          /* of them, that hold */
    uint32_t n_samples;          /* rows that are sampled at once: some of those, and padding */
    bool unadded;                /* buf.hidden lacks the last block's output, which stands in buf.partial */
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

/* Floats of buf.attention_parts. */
static inline int64_t phx_exec_parts_floats(const phx_exec *exec)
{
    return (int64_t)phx_step_attention_floats(exec->dims, &exec->parts.plan->request, exec->rank);
}

/* Fields of phx_product_args for a product that products.c names. */
#define PHX_EXEC_ROUNDED(exec_)                                                                  \
    .rounded = (exec_)->rounds, .out_rows = (int64_t)(exec_)->parts.plan->request.n_step_tokens, \
    .parts = (exec_)->buf.attention_parts, .n_parts = (exec_)->rounds ? phx_exec_parts_floats(exec_) : 0

/* Until the device has done all that this rank has asked for; a lost peer ends the wait. The only place where
 * worker/exec waits: steps and checks queue, then come here. */
phx_code phx_exec_wait(phx_exec *exec, phx_error *err);

/* A copy from device memory to pinned memory, and the wait for it. */
phx_code phx_exec_download(phx_exec *exec, void *to, const void *from, size_t n_bytes, phx_error *err);

/* Queues a step: the tokens, the layers, on the last stage the choice. Of the host it reads nothing that
 * changes between steps of one shape, so that it can be recorded. */
phx_code phx_exec_walk(phx_exec *exec, phx_error *err);

/* graphs.c: finds the recording that holds the step, if any, and pads the step to it; queues it. */
void phx_exec_choose_graph(phx_exec *exec);
phx_code phx_exec_replay(phx_exec *exec, phx_error *err);

/* Place nth of a slot in last_tokens. */
static inline int32_t phx_exec_place(const phx_exec *exec, uint32_t slot, uint32_t nth)
{
    return (int32_t)(slot * exec->n_places + nth);
}

/* rows.c: what slots that open in this step have from before; the step's rows; how the n_samples tokens of a
 * list of n_list are chosen, the rest being padding. Written and sent to the device. The last sends rows that
 * the caller has written. */
phx_code phx_exec_open_slots(phx_exec *exec, phx_error *err);
phx_code phx_exec_tell_rows(phx_exec *exec, phx_error *err);
phx_code phx_exec_tell_samples(phx_exec *exec, const phx_sampled *list, uint32_t n_list, phx_error *err);
phx_code phx_exec_upload_rows(phx_exec *exec, phx_error *err);

/* Counts the first n of buf.tokens as buf.counted says. Last stage. */
void phx_exec_count(phx_exec *exec, int64_t n);

/* tokens.c: before the rows, and after the step has run. */
phx_code phx_exec_receive_tokens(phx_exec *exec, const phx_step_plan *plan, phx_error *err);
phx_code phx_exec_pass_tokens(phx_exec *exec, phx_error *err);

/* Drafts among the tokens of a plan row. */
static inline uint32_t phx_exec_n_fed(const phx_step_row *row)
{
    return row->flags & PHX_ROW_FROM_SLOT ? row->n_tokens - 1 : 0;
}

/* buf.hidden = embeddings of the rows' tokens, which are taken from ids or places first. */
phx_code phx_exec_embed(phx_exec *exec, phx_error *err);

/* Adds the last block's output to the residual stream, where no norm has done so. */
void phx_exec_settle(phx_exec *exec);

/* Normalises the residual stream with rms_norm_eps into buf.norm (f32) and buf.norm_act, settled on the way.
 */
void phx_exec_norm(phx_exec *exec, const float *weight);

/* layer counts from 0 within the stage. Each leaves its output in buf.partial: the next norm adds it. */
phx_code phx_exec_attention(phx_exec *exec, int64_t layer, phx_error *err);
phx_code phx_exec_ffn(phx_exec *exec, int64_t layer, phx_error *err);

/* Does any layer of this step choose among keys? The same answer on all ranks. */
bool phx_exec_must_select(const phx_exec *exec);

/* A layer with an indexer writes the index keys of the step and, when exec->selecting, chooses positions into
 * buf.selected; one without leaves there what the layer before it attended to. Not selecting: every row
 * attends to all of its keys. */
phx_code phx_exec_select(phx_exec *exec, int64_t layer, phx_error *err);

/* The rest is of the last stage. Final norm, and the choice of tokens for the first n_samples rows. */
phx_code phx_exec_final(phx_exec *exec, phx_error *err);

/* Logits of the n rows that buf.logit_rows names, into buf.logits. */
void phx_exec_head(phx_exec *exec, uint32_t n);

/* Queues the choice of n_samples rows as they were told; waits for those of all rows of exec->sampling and
 * fills exec->results, with the queueing of those that did not fit the walk. */
phx_code phx_exec_queue_samples(phx_exec *exec, phx_error *err);
phx_code phx_exec_finish_samples(phx_exec *exec, phx_error *err);

/* Hands out the logits of capturing rows, when the step has run. */
phx_code phx_exec_capture_logits(phx_exec *exec, phx_error *err);

static inline phx_sample_row *phx_exec_sample_rows(const phx_step_buf *buf)
{
    return (phx_sample_row *)(void *)buf->sample_rows;
}

static inline phx_choice *phx_exec_choices(const phx_step_buf *buf)
{
    return (phx_choice *)(void *)buf->choices;
}

/* draft.c: entries and drafts behind a step whose tokens are known. */
phx_code phx_draft_create(const phx_plan *plan, phx_draft **ret_draft, phx_error *err);
void phx_draft_destroy(phx_draft *draft); /* accepts NULL */
phx_code phx_exec_draft(phx_exec *exec, phx_error *err);

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

/* Consecutive rows of a walk, to be handed out whatever the plan says of them. */
typedef struct phx_exec_rows {
    uint64_t request_id;
    uint32_t first;
    uint32_t n;
    uint32_t position; /* of the first */
} phx_exec_rows;

/* name, dtype, data, stride and n_cols of the view count; tp rank 0 of the stage only. */
phx_code phx_exec_hand_out(phx_exec *exec, const phx_exec_rows *rows, const phx_capture_view *view,
                           phx_error *err);
/* The head's output for rows of buf.norm_act: every rank its slice. */
phx_code phx_exec_hand_out_logits(phx_exec *exec, const phx_exec_rows *rows, const char *name,
                                  phx_error *err);

#endif
