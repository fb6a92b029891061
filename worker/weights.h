/* worker/weights.h - the tensors of one rank in memory, addressed by layer.
 * Owns: the memory of every slice of the plan. Not here: what slices exist (model/plan.h), computing
 * (worker/exec). */
#ifndef PHX_WORKER_WEIGHTS_H
#define PHX_WORKER_WEIGHTS_H

#include <stdatomic.h>

#include "kernels/backend.h"
#include "model/plan.h"

/* Matrices are local slices in their stored format; vectors are f32. Absent ones have data NULL. */
typedef struct phx_layer_weights {
    const float *attn_norm;
    phx_matrix q; /* without q_lora */
    phx_matrix q_a;
    const float *q_a_norm;
    phx_matrix q_b;
    phx_matrix kv_a;
    const float *kv_a_norm;
    phx_matrix kv_b; /* [n_heads_rank * (d_nope + d_v)][kv_lora] */
    phx_matrix o;    /* [d_hidden][n_heads_rank * d_v] */
    phx_matrix index_q_b;
    phx_matrix index_k;
    const float *index_k_norm;
    const float *index_k_norm_bias;
    phx_matrix index_weights;
    const float *draft_embed_norm; /* of MTP layers: what turns embedding and hidden state into their input */
    const float *draft_hidden_norm;
    phx_matrix draft_proj; /* [d_hidden][2 * d_hidden], embedding first */
    const float *draft_head_norm;
    const float *ffn_norm;
    phx_matrix gate; /* dense MLP, or the shared expert of a mixture layer */
    phx_matrix up;
    phx_matrix down;
    phx_matrix router;
    const float *router_bias;
    bool moe;
    int64_t routed_width; /* columns of an expert's down projection on this rank */
    /* Tables that kernels read: device memory. */
    const phx_matrix *const *expert_gate; /* [n_experts] pointers to matrices; NULL where not held */
    const phx_matrix *const *expert_up;
    const phx_matrix *const *expert_down;
    const phx_matrix *const *fixed_gate; /* [1] gate and up as one expert that takes every token */
    const phx_matrix *const *fixed_up;
    const int64_t *fixed_bounds;  /* leaves of `down`, local columns; [n_leaves + 1] used */
    const int64_t *routed_bounds; /* leaves of expert down projections (tp mode) */
    const int64_t *o_bounds;      /* leaves of `o` */
} phx_layer_weights;

typedef struct phx_weights {
    const phx_plan *plan;
    const phx_rank_plan *rank;
    phx_matrix embed;
    phx_matrix head;
    const float *final_norm;
    phx_layer_weights *layers;   /* [n layers of the stage] */
    int64_t n_layers;            /* held, MTP layers included */
    int64_t n_draft_layers;      /* of them, MTP layers: the last ones */
    const int32_t *expert_leaf;  /* [n_experts] local leaf of each expert in ep mode, else NULL; device */
    const int64_t *vocab_bounds; /* leaves of the head, local rows; device */
    int64_t routed_width_max;    /* the widest expert down projection on this rank */
    int64_t fixed_width_max;     /* the widest dense or shared down projection on this rank */
    uint64_t resident_bytes;     /* taken for slices: equals the plan's weights line */
    uint64_t file_bytes;         /* read: equals the sum of the slices' file_bytes */
    void *memory;                /* one piece of device memory */
    size_t memory_bytes;
    phx_backend *backend;
    struct phx_weight_tables *tables; /* behind the tables above (weight_tables.c) */
} phx_weights;

/* Progress that another thread reads while loading runs; stop asked for by setting stop. */
typedef struct phx_load_progress {
    _Atomic uint64_t done_bytes;
    _Atomic uint64_t total_bytes;
    _Atomic bool stop;
} phx_load_progress;

/* Reads every slice of the rank, and no byte more, in parallel over the pool: on the CPU to its place, else
 * through pinned staging memory to the device. fp8 codes that are not numbers
 * and scales that are not finite are refused naming the tensor. The plan stays borrowed. Free with
 * phx_weights_destroy. */
typedef struct phx_weights_source {
    const phx_plan *plan;
    uint32_t rank;
    phx_pool *pool;                         /* loading threads */
    phx_backend *backend;                   /* outlives the weights */
    const struct phx_synth_request *random; /* NULL: read the files. Else make what they would hold if
                                               phx_synth_write had filled them; for measuring */
} phx_weights_source;
phx_code phx_weights_load(const phx_weights_source *from, phx_load_progress *progress,
                          phx_weights **ret_weights, phx_error *err);
void phx_weights_destroy(phx_weights *weights); /* accepts NULL */

#endif
