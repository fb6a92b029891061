/* model/families/mla.c - the models with latent attention as data (models.md 3.2): DeepSeek V3 and V3.2, Kimi
 * K2 and K2.5, GLM-5, GLM-4.7-Flash. One table of tensors serves all: rules of the indexer are present where
 * the dims have one. What differs is a row of phx_families_mla. */
#include "model/families/mla.h"

#define DIM(name, expression)                 \
    static int64_t name(const phx_dims *dims) \
    {                                         \
        return expression;                    \
    }

static int64_t one(const phx_dims *dims)
{
    (void)dims;
    return 1;
}

DIM(vocab, dims->n_vocab)
DIM(hidden, dims->d_hidden)
DIM(hidden_twice, 2 * dims->d_hidden)
DIM(q_lora, dims->q_lora)
DIM(kv_lora, dims->kv_lora)
DIM(kv_lora_rope, dims->kv_lora + dims->d_rope)
DIM(heads_qk, dims->n_heads *(dims->d_nope + dims->d_rope))
DIM(heads_kv, dims->n_heads *(dims->d_nope + dims->d_v))
DIM(heads_v, dims->n_heads * dims->d_v)
DIM(index_heads, dims->index_n_heads)
DIM(index_heads_d, dims->index_n_heads * dims->index_d)
DIM(index_d, dims->index_d)
DIM(ff_dense, dims->d_ff_dense)
DIM(ff_expert, dims->d_ff_expert)
DIM(ff_shared, dims->d_ff_expert * dims->n_experts_shared)
DIM(experts, dims->n_experts)

static bool has_q_lora(const phx_dims *dims)
{
    return dims->q_lora > 0;
}

static bool has_no_q_lora(const phx_dims *dims)
{
    return dims->q_lora == 0;
}

static bool has_shared(const phx_dims *dims)
{
    return dims->n_experts_shared > 0;
}

static bool has_own_head(const phx_dims *dims)
{
    return !dims->tie_embeddings;
}

#define L "model.layers.{l}."
#define A L "self_attn."
#define M L "mlp."

/* A matrix that may be quantised, a plain matrix, and a vector that is widened to f32 at load. */
#define QUANTISED(r, w, s, text, rows, cols, when)                                               \
    {                                                                                            \
        .role = PHX_ROLE_##r, .where = PHX_WHERE_##w, .split = PHX_SPLIT_##s, .quantised = true, \
        .name = text, .n_rows = rows, .n_cols = cols, .present = when                            \
    }
#define PLAIN(r, w, s, text, rows, cols, when, may_lack)                                            \
    {                                                                                               \
        .role = PHX_ROLE_##r, .where = PHX_WHERE_##w, .split = PHX_SPLIT_##s, .optional = may_lack, \
        .name = text, .n_rows = rows, .n_cols = cols, .present = when                               \
    }
#define VECTOR(r, w, text, cols, when)                                                           \
    {                                                                                            \
        .role = PHX_ROLE_##r, .where = PHX_WHERE_##w, .split = PHX_SPLIT_NONE, .keep_f32 = true, \
        .name = text, .n_rows = one, .n_cols = cols, .is_vector = true, .present = when          \
    }

static const phx_tensor_rule rules[] = {
    PLAIN(EMBED, FIRST, ROWS_VOCAB, "model.embed_tokens.weight", vocab, hidden, NULL, false),
    VECTOR(MTP_EMBED_NORM, MTP, L "enorm.weight", hidden, NULL),
    VECTOR(MTP_HIDDEN_NORM, MTP, L "hnorm.weight", hidden, NULL),
    PLAIN(MTP_PROJ, MTP, NONE, L "eh_proj.weight", hidden, hidden_twice, NULL, false),
    PLAIN(MTP_EMBED, MTP, ROWS_VOCAB, L "embed_tokens.weight", vocab, hidden, NULL, true),
    VECTOR(ATTN_NORM, LAYERS, L "input_layernorm.weight", hidden, NULL),
    QUANTISED(Q, LAYERS, ROWS_HEADS, A "q_proj.weight", heads_qk, hidden, has_no_q_lora),
    QUANTISED(Q_A, LAYERS, NONE, A "q_a_proj.weight", q_lora, hidden, has_q_lora),
    VECTOR(Q_A_NORM, LAYERS, A "q_a_layernorm.weight", q_lora, has_q_lora),
    QUANTISED(Q_B, LAYERS, ROWS_HEADS, A "q_b_proj.weight", heads_qk, q_lora, has_q_lora),
    QUANTISED(KV_A, LAYERS, NONE, A "kv_a_proj_with_mqa.weight", kv_lora_rope, hidden, NULL),
    VECTOR(KV_A_NORM, LAYERS, A "kv_a_layernorm.weight", kv_lora, NULL),
    QUANTISED(KV_B, LAYERS, ROWS_HEADS, A "kv_b_proj.weight", heads_kv, kv_lora, NULL),
    QUANTISED(O, LAYERS, COLS_HEADS, A "o_proj.weight", hidden, heads_v, NULL),
    QUANTISED(INDEX_Q_B, INDEX, NONE, A "indexer.wq_b.weight", index_heads_d, q_lora, NULL),
    QUANTISED(INDEX_K, INDEX, NONE, A "indexer.wk.weight", index_d, hidden, NULL),
    VECTOR(INDEX_K_NORM, INDEX, A "indexer.k_norm.weight", index_d, NULL),
    VECTOR(INDEX_K_NORM_BIAS, INDEX, A "indexer.k_norm.bias", index_d, NULL),
    PLAIN(INDEX_WEIGHTS, INDEX, NONE, A "indexer.weights_proj.weight", index_heads, hidden, NULL, false),
    VECTOR(FFN_NORM, LAYERS, L "post_attention_layernorm.weight", hidden, NULL),
    QUANTISED(GATE, DENSE, ROWS_FF, M "gate_proj.weight", ff_dense, hidden, NULL),
    QUANTISED(UP, DENSE, ROWS_FF, M "up_proj.weight", ff_dense, hidden, NULL),
    QUANTISED(DOWN, DENSE, COLS_FF, M "down_proj.weight", hidden, ff_dense, NULL),
    PLAIN(ROUTER, MOE, NONE, M "gate.weight", experts, hidden, NULL, false),
    VECTOR(ROUTER_BIAS, MOE, M "gate.e_score_correction_bias", experts, NULL),
    QUANTISED(EXPERT_GATE, EXPERT, ROWS_FF, M "experts.{e}.gate_proj.weight", ff_expert, hidden, NULL),
    QUANTISED(EXPERT_UP, EXPERT, ROWS_FF, M "experts.{e}.up_proj.weight", ff_expert, hidden, NULL),
    QUANTISED(EXPERT_DOWN, EXPERT, COLS_FF, M "experts.{e}.down_proj.weight", hidden, ff_expert, NULL),
    QUANTISED(SHARED_GATE, MOE, ROWS_FF, M "shared_experts.gate_proj.weight", ff_shared, hidden, has_shared),
    QUANTISED(SHARED_UP, MOE, ROWS_FF, M "shared_experts.up_proj.weight", ff_shared, hidden, has_shared),
    QUANTISED(SHARED_DOWN, MOE, COLS_FF, M "shared_experts.down_proj.weight", hidden, ff_shared, has_shared),
    VECTOR(MTP_HEAD_NORM, MTP, L "shared_head.norm.weight", hidden, NULL),
    PLAIN(MTP_HEAD, MTP, ROWS_VOCAB, L "shared_head.head.weight", vocab, hidden, NULL, true),
    VECTOR(FINAL_NORM, LAST, "model.norm.weight", hidden, NULL),
    PLAIN(HEAD, LAST, ROWS_VOCAB, "lm_head.weight", vocab, hidden, has_own_head, false),
};

static const char *const ignored[] = {"rotary_emb.inv_freq", "._extra_state", ".k_scale", ".v_scale", NULL};

/* Beside the text model, in files of models that also see: named, and not loaded. */
static const char *const vision[] = {"vision_tower.", "mm_projector.", NULL};

#define TYPES(...)        \
    (const char *const[]) \
    {                     \
        __VA_ARGS__, NULL \
    }
#define COMMON .rules = rules, .n_rules = sizeof(rules) / sizeof(rules[0]), .ignored = ignored

/* A model of this kind is one row. */
const phx_family phx_families_mla[] = {
    {COMMON, .name = "deepseek_v3", .model_types = TYPES("deepseek_v3"), .mtp_copies = true},
    {COMMON, .name = "deepseek_v32", .model_types = TYPES("deepseek_v32"), .has_indexer = true,
     .mtp_copies = true},
    {COMMON, .name = "kimi_k2", .model_types = TYPES("kimi_k2")},
    {COMMON, .name = "kimi_k25", .model_types = TYPES("kimi_k25"), .text_key = "text_config",
     .text_types = TYPES("kimi_k2", "deepseek_v3"), .prefix = "language_model.", .skipped = vision},
    {COMMON, .name = "glm_moe_dsa", .model_types = TYPES("glm_moe_dsa"), .has_indexer = true,
     .index_rope_interleaved = true},
    {COMMON, .name = "glm4_moe_lite", .model_types = TYPES("glm4_moe_lite")},
};
const size_t phx_n_families_mla = sizeof(phx_families_mla) / sizeof(phx_families_mla[0]);
