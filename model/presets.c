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

static const phx_preset presets[] = {
    {"deepseek-v3",
     "DeepSeek V3 and R1: 671 B parameters, 61 layers",
     {.model_type = "deepseek_v3", .architecture = "DeepseekV3ForCausalLM", V3_COMMON},
     PHX_SYNTH_FP8,
     163},
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
     163},
    {"ds-3b",
     "3.4 B parameters in the shape of DeepSeek V3, for measuring",
     {.model_type = "deepseek_v3", .architecture = "DeepseekV3ForCausalLM", DS3B_COMMON},
     PHX_SYNTH_BF16,
     0},
    {"ds32-3b",
     "ds-3b with an indexer of 16 heads, top 2048",
     {.model_type = "deepseek_v32",
      .architecture = "DeepseekV32ForCausalLM",
      DS3B_COMMON,
      .index_n_heads = 16,
      .index_d = 128,
      .index_topk = 2048},
     PHX_SYNTH_BF16,
     0},
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
