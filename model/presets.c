/* model/presets.c - shapes that synth knows by name (models.md 1; ds-3b is the common measuring model). */
#include "model/synth.h"

#define V3_COMMON                                                                                            \
    .n_layers = 61, .n_layers_dense = 3, .n_layers_mtp = 1, .n_vocab = 129280, .n_positions = 163840,        \
    .d_hidden = 7168, .d_ff_dense = 18432, .d_ff_expert = 2048, .n_heads = 128, .d_nope = 128, .d_rope = 64, \
    .d_v = 128, .q_lora = 1536, .kv_lora = 512, .n_experts = 256, .n_experts_used = 8,                       \
    .n_experts_shared = 1, .n_expert_groups = 8, .n_expert_groups_used = 4, .norm_topk = true,               \
    .routed_scale = 2.5, .rms_eps = 1e-6, .rope = {PHX_ROPE_YARN, 10000, 40, 32, 1, 1, 1, 4096},             \
    .bos_id = 0, .eos_ids = {1}, .n_eos = 1

#define DS3B_COMMON                                                                                      \
    .n_layers = 16, .n_layers_dense = 1, .n_vocab = 32256, .n_positions = 163840, .d_hidden = 2048,      \
    .d_ff_dense = 4608, .d_ff_expert = 512, .n_heads = 16, .d_nope = 128, .d_rope = 64, .d_v = 128,      \
    .q_lora = 768, .kv_lora = 512, .n_experts = 64, .n_experts_used = 8, .n_experts_shared = 1,          \
    .n_expert_groups = 8, .n_expert_groups_used = 4, .norm_topk = true, .routed_scale = 2.5,             \
    .rms_eps = 1e-6, .rope = {PHX_ROPE_YARN, 10000, 40, 32, 1, 1, 1, 4096}, .bos_id = 0, .eos_ids = {1}, \
    .n_eos = 1

#define KIMI_COMMON                                                                                     \
    .n_layers = 61, .n_layers_dense = 1, .n_vocab = 163840, .d_hidden = 7168, .d_ff_dense = 18432,      \
    .d_ff_expert = 2048, .n_heads = 64, .d_nope = 128, .d_rope = 64, .d_v = 128, .q_lora = 1536,        \
    .kv_lora = 512, .n_experts = 384, .n_experts_used = 8, .n_experts_shared = 1, .n_expert_groups = 1, \
    .n_expert_groups_used = 1, .norm_topk = true, .routed_scale = 2.827, .bos_id = 163584,              \
    .eos_ids = {163585}, .n_eos = 1

/* 192 + 64 and 256 wide heads, one expert group, no YaRN. */
#define GLM_COMMON                                                                                 \
    .n_layers_mtp = 1, .n_vocab = 154880, .d_nope = 192, .d_rope = 64, .d_v = 256, .kv_lora = 512, \
    .n_experts_shared = 1, .n_expert_groups = 1, .n_expert_groups_used = 1, .norm_topk = true,     \
    .rms_eps = 1e-5, .bos_id = -1, .eos_ids = {154820, 154827, 154829}, .n_eos = 3

#define GLM5_COMMON                                                                                        \
    GLM_COMMON, .n_layers = 78, .n_layers_dense = 3, .d_hidden = 6144, .d_ff_dense = 12288,                \
                .d_ff_expert = 2048, .n_heads = 64, .q_lora = 2048, .n_experts = 256, .n_experts_used = 8, \
                .routed_scale = 2.5, .index_n_heads = 32, .index_d = 128, .index_topk = 2048,              \
                .index_rope_interleaved = true

#define GLM5                                                                              \
    {                                                                                     \
        .model_type = "glm_moe_dsa", .architecture = "GlmMoeDsaForCausalLM", GLM5_COMMON, \
        .n_positions = 202752, .rope = {                                                  \
            .kind = PHX_ROPE_PLAIN,                                                       \
            .theta = 1e6                                                                  \
        }                                                                                 \
    }

/* Layers 0, 1, 2, 6, 10 ... 74 have an indexer; the others share. */
#define GLM52                                                                                     \
    {                                                                                             \
        .model_type = "glm_moe_dsa", .architecture = "GlmMoeDsaForCausalLM", GLM5_COMMON,         \
        .n_positions = 1048576, .rope = {.kind = PHX_ROPE_PLAIN, .theta = 8e6}, .index_shared = { \
            0xbbbbbbbbbbbbbbb8,                                                                   \
            0x3bbb                                                                                \
        }                                                                                         \
    }

/* What sees in Kimi K2.5 (models.md 3.6): a tower of 27 blocks, 1152 wide, and a projector. */
#define TOWER "vision_tower."
#define BLOCK TOWER "encoder.blocks.{b}."
static const phx_synth_extra moonvit[] = {
    {TOWER "patch_embed.proj", 1, true, 4, {1152, 3, 14, 14}},
    {TOWER "patch_embed.pos_emb", 1, false, 3, {64, 64, 1152}},
    {BLOCK "norm0", 27, true, 1, {1152}},
    {BLOCK "norm1", 27, true, 1, {1152}},
    {BLOCK "wqkv", 27, true, 2, {3456, 1152}},
    {BLOCK "wo", 27, true, 2, {1152, 1152}},
    {BLOCK "mlp.fc0", 27, true, 2, {4304, 1152}},
    {BLOCK "mlp.fc1", 27, true, 2, {1152, 4304}},
    {TOWER "encoder.final_layernorm", 1, true, 1, {1152}},
    {"mm_projector.pre_norm", 1, true, 1, {1152}},
    {"mm_projector.proj.0", 1, true, 2, {4608, 4608}},
    {"mm_projector.proj.2", 1, true, 2, {7168, 4608}},
    {0},
};

static const phx_preset presets[] = {
    {"deepseek-v3",
     "DeepSeek V3 and R1: 671 B parameters, 61 layers",
     {.model_type = "deepseek_v3", .architecture = "DeepseekV3ForCausalLM", V3_COMMON},
     PHX_SYNTH_FP8,
     163,
     NULL},
    {"deepseek-v3.2",
     "DeepSeek V3.2: V3 with a sparse-attention indexer",
     {.model_type = "deepseek_v32",
      .architecture = "DeepseekV32ForCausalLM",
      V3_COMMON,
      .index_n_heads = 64,
      .index_d = 128,
      .index_topk = 2048,
      .fp8_scale_ue8m0 = true},
     PHX_SYNTH_FP8_UE8M0,
     163,
     NULL},
    {"glm-4.7-flash",
     "GLM-4.7-Flash: 30 B parameters, 47 layers, no indexer",
     {.model_type = "glm4_moe_lite",
      .architecture = "Glm4MoeLiteForCausalLM",
      GLM_COMMON,
      .n_layers = 47,
      .n_layers_dense = 1,
      .n_positions = 202752,
      .d_hidden = 2048,
      .d_ff_dense = 10240,
      .d_ff_expert = 1536,
      .n_heads = 20,
      .q_lora = 768,
      .n_experts = 64,
      .n_experts_used = 4,
      .routed_scale = 1.8,
      .rope = {.kind = PHX_ROPE_PLAIN, .theta = 1e6}},
     PHX_SYNTH_BF16,
     0,
     NULL},
    {"glm-5", "GLM-5 and 5.1: 744 B parameters, 78 layers, an indexer in each", GLM5, PHX_SYNTH_BF16, 0,
     NULL},
    {"glm-5-fp8", "the same in FP8", GLM5, PHX_SYNTH_FP8, 0, NULL},
    {"glm-5.2", "GLM-5.2: an indexer in 21 of 78 layers, context of a million", GLM52, PHX_SYNTH_BF16, 0,
     NULL},
    {"glm-5.2-fp8", "the same in FP8", GLM52, PHX_SYNTH_FP8, 141, NULL},
    {"kimi-k2",
     "Kimi K2: 1.03 T parameters, 61 layers, 384 experts",
     {.model_type = "kimi_k2",
      .architecture = "DeepseekV3ForCausalLM",
      KIMI_COMMON,
      .n_positions = 131072,
      .rms_eps = 1e-6,
      .rope = {PHX_ROPE_YARN, 50000, 32, 1, 1, 1, 1, 4096}},
     PHX_SYNTH_FP8,
     61,
     NULL},
    {"kimi-k2.5",
     "Kimi K2.5 and K2.6: K2 with experts in int4, a longer context, and a part that sees",
     {.model_type = "kimi_k25",
      .architecture = "KimiK25ForConditionalGeneration",
      KIMI_COMMON,
      .n_positions = 262144,
      .rms_eps = 1e-5,
      .rope = {PHX_ROPE_YARN, 50000, 64, 32, 1, 1, 1, 4096}},
     PHX_SYNTH_INT4,
     64,
     moonvit},
    {"ds-3b",
     "3.4 B parameters in the shape of DeepSeek V3, for measuring",
     {.model_type = "deepseek_v3", .architecture = "DeepseekV3ForCausalLM", DS3B_COMMON},
     PHX_SYNTH_BF16,
     0,
     NULL},
    {"ds-3b-mtp",
     "ds-3b with an MTP layer: what drafts cost",
     {.model_type = "deepseek_v3", .architecture = "DeepseekV3ForCausalLM", DS3B_COMMON, .n_layers_mtp = 1},
     PHX_SYNTH_BF16,
     0,
     NULL},
    {"ds32-3b",
     "ds-3b with an indexer of 16 heads, top 2048",
     {.model_type = "deepseek_v32",
      .architecture = "DeepseekV32ForCausalLM",
      DS3B_COMMON,
      .index_n_heads = 16,
      .index_d = 128,
      .index_topk = 2048},
     PHX_SYNTH_BF16,
     0,
     NULL},
};

const phx_preset *phx_preset_list(size_t *ret_n)
{
    *ret_n = sizeof(presets) / sizeof(presets[0]);
    return presets;
}

const phx_preset *phx_preset_find(phx_str name)
{
    for (size_t i = 0; i < sizeof(presets) / sizeof(presets[0]); i++) {
        if (phx_str_is(name, presets[i].name))
            return &presets[i];
    }
    return NULL;
}
