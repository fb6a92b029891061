/* model/family.h - a model architecture as a table: tensor names, shapes, how they split, which layers have
 * them. Owns: roles, rules, the list of families. Loader, planner, memory account, inspect and synth all read
 * this table. Not here: dimensions (model/dims.h), files (model/checkpoint.h). */
#ifndef PHX_MODEL_FAMILY_H
#define PHX_MODEL_FAMILY_H

#include "model/dims.h"

/* What a tensor is for. The executor finds tensors by role, layer and expert, never by name. */
#define PHX_ROLES(X)                                                   \
    X(PHX_ROLE_EMBED, "embed")                                         \
    X(PHX_ROLE_ATTN_NORM, "attn_norm")                                 \
    X(PHX_ROLE_Q, "q") /* q_proj, when q_lora is 0 */                  \
    X(PHX_ROLE_Q_A, "q_a")                                             \
    X(PHX_ROLE_Q_A_NORM, "q_a_norm")                                   \
    X(PHX_ROLE_Q_B, "q_b")                                             \
    X(PHX_ROLE_KV_A, "kv_a")                                           \
    X(PHX_ROLE_KV_A_NORM, "kv_a_norm")                                 \
    X(PHX_ROLE_KV_B, "kv_b")                                           \
    X(PHX_ROLE_O, "o")                                                 \
    X(PHX_ROLE_INDEX_Q_B, "index_q_b")                                 \
    X(PHX_ROLE_INDEX_K, "index_k")                                     \
    X(PHX_ROLE_INDEX_K_NORM, "index_k_norm")                           \
    X(PHX_ROLE_INDEX_K_NORM_BIAS, "index_k_norm_bias")                 \
    X(PHX_ROLE_INDEX_WEIGHTS, "index_weights")                         \
    X(PHX_ROLE_FFN_NORM, "ffn_norm")                                   \
    X(PHX_ROLE_GATE, "gate") /* dense MLP */                           \
    X(PHX_ROLE_UP, "up")                                               \
    X(PHX_ROLE_DOWN, "down")                                           \
    X(PHX_ROLE_ROUTER, "router")                                       \
    X(PHX_ROLE_ROUTER_BIAS, "router_bias")                             \
    X(PHX_ROLE_EXPERT_GATE, "expert_gate")                             \
    X(PHX_ROLE_EXPERT_UP, "expert_up")                                 \
    X(PHX_ROLE_EXPERT_DOWN, "expert_down")                             \
    X(PHX_ROLE_SHARED_GATE, "shared_gate")                             \
    X(PHX_ROLE_SHARED_UP, "shared_up")                                 \
    X(PHX_ROLE_SHARED_DOWN, "shared_down")                             \
    X(PHX_ROLE_FINAL_NORM, "final_norm")                               \
    X(PHX_ROLE_HEAD, "head")                                           \
    X(PHX_ROLE_MTP_EMBED_NORM, "mtp_embed_norm")                       \
    X(PHX_ROLE_MTP_HIDDEN_NORM, "mtp_hidden_norm")                     \
    X(PHX_ROLE_MTP_PROJ, "mtp_proj")                                   \
    X(PHX_ROLE_MTP_HEAD_NORM, "mtp_head_norm")                         \
    X(PHX_ROLE_MTP_EMBED, "mtp_embed") /* copies some makers repeat */ \
    X(PHX_ROLE_MTP_HEAD, "mtp_head")

typedef enum phx_role {
#define X(role, name) role,
    PHX_ROLES(X)
#undef X
        PHX_ROLE_COUNT
} phx_role;

const char *phx_role_name(phx_role role);

/* How a tensor divides over the tensor-parallel ranks of a stage. Ranges come from phx_leaf_bounds
 * (model/layout.h). */
typedef enum phx_split {
    PHX_SPLIT_NONE,       /* every rank holds all of it */
    PHX_SPLIT_ROWS_HEADS, /* rows, whole heads (q_b, kv_b, q) */
    PHX_SPLIT_COLS_HEADS, /* columns, whole heads (o) */
    PHX_SPLIT_ROWS_FF,    /* rows, by the leaves of the matching down projection (gate, up) */
    PHX_SPLIT_COLS_FF,    /* columns, by leaves (down) */
    PHX_SPLIT_ROWS_VOCAB  /* rows, by the leaves of the vocabulary (embed, head) */
} phx_split; /* routed experts: tp mode as ROWS_FF/COLS_FF, ep mode whole experts by expert leaves */

typedef enum phx_where {                   /* which layers have the tensor */
                         PHX_WHERE_FIRST,  /* once, on the first stage */
                         PHX_WHERE_LAST,   /* once, on the last stage */
                         PHX_WHERE_LAYERS, /* every layer, MTP included */
                         PHX_WHERE_INDEX,  /* layers with an indexer of their own, MTP included */
                         PHX_WHERE_DENSE,  /* dense layers */
                         PHX_WHERE_MOE,    /* mixture layers, MTP included */
                         PHX_WHERE_EXPERT, /* every routed expert of every mixture layer, MTP included */
                         PHX_WHERE_MTP     /* MTP layers only */
} phx_where;

typedef struct phx_tensor_rule {
    phx_role role;
    phx_where where;
    phx_split split;
    bool quantised;   /* may be stored in a block format; otherwise plain */
    bool keep_f32;    /* vectors that kernels take as f32: widened at load */
    bool optional;    /* absent in some releases (MTP copies) */
    const char *name; /* with {l} and {e} */
    int64_t (*n_rows)(
        const phx_dims *dims); /* global shape; n_rows 1 for vectors is written [n_cols] in the file */
    int64_t (*n_cols)(const phx_dims *dims);
    bool is_vector;
    bool (*present)(const phx_dims *dims); /* NULL: always (where `where` holds) */
} phx_tensor_rule;

typedef struct phx_family {
    const char *name;               /* "deepseek_v32" */
    const char *const *model_types; /* NULL-terminated: values of model_type that mean this family */
    const char *text_key; /* the object of config.json with the text model's keys; NULL: config.json */
    const char *const *text_types; /* NULL-terminated: its model_type; the first is what synth writes */
    const char *prefix;            /* before every tensor name; NULL: none */
    bool mtp_copies;               /* published MTP layers repeat embedding and head */
    const char *const *skipped; /* NULL-terminated prefixes of tensors that are known and not loaded (vision
                                   towers), or NULL */
    bool has_indexer;
    bool index_rope_interleaved; /* default when config.json has no key */
    const phx_tensor_rule *rules;
    size_t n_rules;
    const char *const *ignored; /* NULL-terminated name suffixes that may be present and are skipped */
} phx_family;

/* By model_type; NULL when unknown. */
const phx_family *phx_family_find(const char *model_type);
/* All of them in a fixed order: NULL past the last. */
const phx_family *phx_family_at(size_t idx);

/* One expected tensor of a model: a rule at a layer and an expert. */
typedef struct phx_tensor_id {
    const phx_family *family;
    const phx_tensor_rule *rule;
    int32_t layer;  /* -1 when the tensor belongs to no layer; n_layers.. for MTP layers */
    int32_t expert; /* -1 when not a routed expert */
} phx_tensor_id;

/* Calls visit for every tensor the family expects, in a fixed order: the first stage's own, then layers
 * ascending (MTP layers last) with rules in table order and experts ascending within a rule, then the last
 * stage's own. Stops at the first code other than PHX_OK and returns it. */
typedef phx_code phx_tensor_visit(void *user, const phx_tensor_id *id, phx_error *err);
phx_code phx_family_each(const phx_family *family, const phx_dims *dims, phx_tensor_visit *visit, void *user,
                         phx_error *err);

/* Writes the checkpoint name of a tensor into ret_name (terminated); false when it does not fit. */
bool phx_tensor_name(const phx_tensor_id *id, char *ret_name, size_t n_bytes);

/* Also MTP layers, which come behind the others. */
static inline bool phx_layer_has_indexer(const phx_dims *dims, int64_t layer)
{
    return dims->index_n_heads > 0 && !phx_dims_index_shared(dims, layer);
}

static inline bool phx_layer_is_moe(const phx_dims *dims, int64_t layer)
{
    return dims->n_experts > 0 && layer >= dims->n_layers_dense;
}

#endif
