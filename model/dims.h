/* model/dims.h - the dimensions and constants of a model as config.json states them.
 * Owns: phx_dims and its parser (old and new spellings, models.md 1). Not here: tensor names
 * (model/family.h). */
#ifndef PHX_MODEL_DIMS_H
#define PHX_MODEL_DIMS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"
#include "base/status.h"
#include "model/dtype.h"

#define PHX_EOS_MAX    8
#define PHX_LAYERS_MAX 512

typedef enum phx_rope_kind { PHX_ROPE_PLAIN, PHX_ROPE_YARN } phx_rope_kind;

typedef struct phx_rope {
    phx_rope_kind kind;
    double theta;
    double factor;         /* YaRN */
    double beta_fast;      /* YaRN */
    double beta_slow;      /* YaRN */
    double mscale;         /* YaRN */
    double mscale_all_dim; /* YaRN */
    int64_t n_original;    /* YaRN: original_max_position_embeddings */
} phx_rope;

typedef enum phx_router_score { PHX_ROUTER_SIGMOID, PHX_ROUTER_SOFTMAX } phx_router_score;

/* All counts are global (whole model). Zero means "the model has none". */
typedef struct phx_dims {
    char model_type[48];
    char architecture[64];
    int64_t n_layers;       /* without MTP layers */
    int64_t n_layers_dense; /* the first layers, with a dense MLP */
    int64_t n_layers_mtp;
    int64_t n_vocab;
    int64_t n_positions; /* max_position_embeddings */
    int64_t d_hidden;
    int64_t d_ff_dense;
    int64_t d_ff_expert;
    int64_t n_heads;
    int64_t d_nope;
    int64_t d_rope;
    int64_t d_v;
    int64_t q_lora; /* 0: q_proj straight from the hidden state */
    int64_t kv_lora;
    int64_t n_experts;
    int64_t n_experts_used;
    int64_t n_experts_shared;
    int64_t n_expert_groups;
    int64_t n_expert_groups_used;
    bool norm_topk;
    double routed_scale;
    phx_router_score router_score;
    int64_t index_n_heads; /* 0: no indexer */
    int64_t index_d;
    int64_t index_topk;
    bool index_rope_interleaved;
    uint64_t
        index_shared[PHX_LAYERS_MAX / 64]; /* bit l: layer l attends to what the last layer before it with
                                              an indexer has chosen; MTP layers always have their own */
    double rms_eps;
    bool tie_embeddings;
    bool fp8_scale_ue8m0; /* quantization_config.scale_fmt == "ue8m0" */
    phx_rope rope;
    int64_t bos_id; /* -1: none */
    int64_t eos_ids[PHX_EOS_MAX];
    int64_t n_eos;
} phx_dims;

/* Parses MODEL_DIR/config.json (and eos ids of generation_config.json when present). Every number is
 * range-checked; an unknown model_type, activation, router or rope kind is PHX_ERR_UNSUPPORTED naming key and
 * value; so is any key that changes the arithmetic and has another value than the one computed. Booleans are
 * true or false, nothing else. */
phx_code phx_dims_load(const char *model_dir, phx_dims *ret_dims, phx_error *err);
phx_code phx_dims_parse(const phx_json *config, phx_dims *ret_dims, phx_error *err);

/* index_shared of one layer. */
static inline bool phx_dims_index_shared(const phx_dims *dims, int64_t layer)
{
    return layer >= 0 && layer < dims->n_layers && (dims->index_shared[layer / 64] >> (layer % 64) & 1) != 0;
}

/* Writes the config.json that phx_dims_parse reads back equal (synth). */
void phx_dims_write_json(const phx_dims *dims, phx_format format, phx_buf *buf);

/* (d_nope + d_rope)^-0.5 times YaRN's mscale squared (models.md 2.3). */
double phx_dims_softmax_scale(const phx_dims *dims);

/* What cos and sin are multiplied by: mscale(factor, mscale) / mscale(factor, mscale_all_dim); 1 without
 * YaRN. */
double phx_dims_rope_scale(const phx_dims *dims);

/* Rotary frequencies f_i, i < d_rope / 2, YaRN applied (models.md 2.4). */
void phx_dims_rope_freqs(const phx_dims *dims, double *ret_freqs);

#endif
