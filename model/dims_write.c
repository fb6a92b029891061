/* model/dims_write.c - the config.json that model/dims.c reads back equal (synth). */
#include "model/dims.h"
#include "model/family.h"
#include "model/quantisation.h"

static void write_rope(phx_json_writer *w, const phx_rope *rope)
{
    phx_json_key(w, "rope_theta");
    phx_json_f64(w, rope->theta);
    phx_json_key(w, "rope_scaling");
    if (rope->kind == PHX_ROPE_PLAIN) {
        phx_json_null(w);
        return;
    }
    phx_json_begin_object(w);
    phx_json_key(w, "type");
    phx_json_text(w, "yarn");
    const struct {
        const char *key;
        double value;
    } reals[] = {{"factor", rope->factor},
                 {"beta_fast", rope->beta_fast},
                 {"beta_slow", rope->beta_slow},
                 {"mscale", rope->mscale},
                 {"mscale_all_dim", rope->mscale_all_dim}};
    for (size_t i = 0; i < sizeof(reals) / sizeof(reals[0]); i++) {
        phx_json_key(w, reals[i].key);
        phx_json_f64(w, reals[i].value);
    }
    phx_json_key(w, "original_max_position_embeddings");
    phx_json_i64(w, rope->n_original);
    phx_json_end_object(w);
}

/* Only where layers differ. */
static void write_index_types(phx_json_writer *w, const phx_dims *d)
{
    bool differ = false;
    for (int64_t l = 0; l < d->n_layers; l++)
        differ = differ || phx_dims_index_shared(d, l);
    if (!differ)
        return;
    phx_json_key(w, "indexer_types");
    phx_json_begin_array(w);
    for (int64_t l = 0; l < d->n_layers; l++)
        phx_json_text(w, phx_dims_index_shared(d, l) ? "shared" : "full");
    phx_json_end_array(w);
}

static void write_ints(phx_json_writer *w, const phx_dims *d)
{
    const struct {
        const char *key;
        int64_t value;
    } ints[] = {
        {"vocab_size", d->n_vocab},
        {"hidden_size", d->d_hidden},
        {"num_hidden_layers", d->n_layers},
        {"first_k_dense_replace", d->n_layers_dense},
        {"num_nextn_predict_layers", d->n_layers_mtp},
        {"moe_layer_freq", 1},
        {"intermediate_size", d->d_ff_dense},
        {"moe_intermediate_size", d->d_ff_expert},
        {"num_attention_heads", d->n_heads},
        {"num_key_value_heads", d->n_heads},
        {"qk_nope_head_dim", d->d_nope},
        {"qk_rope_head_dim", d->d_rope},
        {"v_head_dim", d->d_v},
        {"kv_lora_rank", d->kv_lora},
        {"n_routed_experts", d->n_experts},
        {"num_experts_per_tok", d->n_experts_used},
        {"n_shared_experts", d->n_experts_shared},
        {"n_group", d->n_expert_groups},
        {"topk_group", d->n_expert_groups_used},
        {"max_position_embeddings", d->n_positions},
    };
    for (size_t i = 0; i < sizeof(ints) / sizeof(ints[0]); i++) {
        phx_json_key(w, ints[i].key);
        phx_json_i64(w, ints[i].value);
    }
    phx_json_key(w, "q_lora_rank");
    if (d->q_lora > 0)
        phx_json_i64(w, d->q_lora);
    else
        phx_json_null(w);
    if (d->index_n_heads > 0) {
        phx_json_key(w, "index_n_heads");
        phx_json_i64(w, d->index_n_heads);
        phx_json_key(w, "index_head_dim");
        phx_json_i64(w, d->index_d);
        phx_json_key(w, "index_topk");
        phx_json_i64(w, d->index_topk);
        phx_json_key(w, "indexer_rope_interleave");
        phx_json_bool(w, d->index_rope_interleaved);
        write_index_types(w, d);
    }
}

static void write_ids(phx_json_writer *w, const phx_dims *d)
{
    if (d->bos_id >= 0) {
        phx_json_key(w, "bos_token_id");
        phx_json_i64(w, d->bos_id);
    }
    if (d->n_eos == 0)
        return;
    phx_json_key(w, "eos_token_id");
    if (d->n_eos > 1)
        phx_json_begin_array(w);
    for (int64_t i = 0; i < d->n_eos; i++)
        phx_json_i64(w, d->eos_ids[i]);
    if (d->n_eos > 1)
        phx_json_end_array(w);
}

void phx_dims_write_json(const phx_dims *dims, phx_format format, phx_buf *buf)
{
    const phx_family *family = phx_family_find(dims->model_type);
    const bool nested = family && family->text_key;
    phx_json_writer writer;
    phx_json_writer *w = &writer;
    phx_json_writer_init(w, buf);
    phx_json_begin_object(w);
    phx_json_key(w, "architectures");
    phx_json_begin_array(w);
    if (dims->architecture[0])
        phx_json_text(w, dims->architecture);
    phx_json_end_array(w);
    phx_json_key(w, "model_type");
    phx_json_text(w, dims->model_type);
    if (nested) {
        phx_json_key(w, family->text_key);
        phx_json_begin_object(w);
        phx_json_key(w, "model_type");
        phx_json_text(w, family->text_types[0]);
    }
    write_ints(w, dims);
    phx_json_key(w, "hidden_act");
    phx_json_text(w, "silu");
    phx_json_key(w, "scoring_func");
    phx_json_text(w, "sigmoid");
    phx_json_key(w, "topk_method");
    phx_json_text(w, "noaux_tc");
    phx_json_key(w, "norm_topk_prob");
    phx_json_bool(w, dims->norm_topk);
    phx_json_key(w, "routed_scaling_factor");
    phx_json_f64(w, dims->routed_scale);
    phx_json_key(w, "rms_norm_eps");
    phx_json_f64(w, dims->rms_eps);
    write_rope(w, &dims->rope);
    phx_json_key(w, "attention_bias");
    phx_json_bool(w, false);
    phx_json_key(w, "tie_word_embeddings");
    phx_json_bool(w, dims->tie_embeddings);
    write_ids(w, dims);
    phx_json_key(w, "torch_dtype");
    phx_json_text(w, format == PHX_FORMAT_F32   ? "float32"
                     : format == PHX_FORMAT_F16 ? "float16"
                                                : "bfloat16");
    if (phx_format_block(format) > 0) {
        phx_json_key(w, "quantization_config");
        phx_quantisation_write(
            &(phx_quantisation){.format = format, .fp8_scale_ue8m0 = dims->fp8_scale_ue8m0}, w);
    }
    if (nested)
        phx_json_end_object(w);
    phx_json_end_object(w);
}
