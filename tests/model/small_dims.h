/* tests/model/small_dims.h - dimensions of a checkpoint of a few kilobytes. */
#ifndef PHX_TESTS_MODEL_SMALL_DIMS_H
#define PHX_TESTS_MODEL_SMALL_DIMS_H

#include "model/synth.h"

static inline phx_dims small_dims(uint32_t d_hidden, uint32_t d_ff_expert, uint32_t n_experts)
{
    phx_dims dims = phx_preset_find(phx_str_of("ds-3b"))->dims;
    dims.n_layers = 2;
    dims.n_vocab = 64;
    dims.d_hidden = d_hidden;
    dims.d_ff_dense = 64;
    dims.d_ff_expert = d_ff_expert;
    dims.n_heads = 8;
    dims.d_nope = dims.d_rope = dims.d_v = 8;
    dims.q_lora = dims.kv_lora = 32;
    dims.n_experts = n_experts;
    dims.n_experts_used = 2;
    dims.n_expert_groups = dims.n_expert_groups_used = 1;
    return dims;
}

#endif
