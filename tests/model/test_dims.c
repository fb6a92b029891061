/* tests/model/test_dims.c - config.json in its spellings; ranges; YaRN against known values. */
#include "tests/model/parse_dims.h"

#include <math.h>
#include <string.h>

#include "model/dims.h"
#include "model/family.h"
#include "model/synth.h"

/* A small V3.2 config with one change: the line for `key` becomes `line` ("" removes it). */
static const char *config_with(const char *key, const char *line)
{
    static const char *const lines[][2] = {
        {"architectures", "\"architectures\": [\"DeepseekV32ForCausalLM\"]"},
        {"model_type", "\"model_type\": \"deepseek_v32\""},
        {"vocab_size", "\"vocab_size\": 129280"},
        {"hidden_size", "\"hidden_size\": 7168"},
        {"num_hidden_layers", "\"num_hidden_layers\": 61"},
        {"first_k_dense_replace", "\"first_k_dense_replace\": 3"},
        {"intermediate_size", "\"intermediate_size\": 18432"},
        {"moe_intermediate_size", "\"moe_intermediate_size\": 2048"},
        {"num_attention_heads", "\"num_attention_heads\": 128"},
        {"q_lora_rank", "\"q_lora_rank\": 1536"},
        {"kv_lora_rank", "\"kv_lora_rank\": 512"},
        {"qk_nope_head_dim", "\"qk_nope_head_dim\": 128"},
        {"qk_rope_head_dim", "\"qk_rope_head_dim\": 64"},
        {"v_head_dim", "\"v_head_dim\": 128"},
        {"n_routed_experts", "\"n_routed_experts\": 256"},
        {"n_shared_experts", "\"n_shared_experts\": 1"},
        {"num_experts_per_tok", "\"num_experts_per_tok\": 8"},
        {"n_group", "\"n_group\": 8"},
        {"topk_group", "\"topk_group\": 4"},
        {"index", "\"index_n_heads\": 64, \"index_head_dim\": 128, \"index_topk\": 2048"},
        {"max_position_embeddings", "\"max_position_embeddings\": 163840"},
        {"routed_scaling_factor", "\"routed_scaling_factor\": 2.5"},
        {"eos_token_id", "\"eos_token_id\": 1"},
        {"bos_token_id", "\"bos_token_id\": 0"},
        {"rope_theta", "\"rope_theta\": 10000"},
        {"rope",
         "\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 40, \"beta_fast\": 32, \"beta_slow\": 1, "
         "\"mscale\": 1.0, \"mscale_all_dim\": 1.0, \"original_max_position_embeddings\": 4096}"},
        {"more", ""},
    };
    static char text[4096];
    size_t at = 0;
    bool replaced = !key;
    at += (size_t)snprintf(text, sizeof(text), "{\"num_nextn_predict_layers\": 1");
    for (size_t i = 0; i < N_OF(lines); i++) {
        const bool is_it = key && strcmp(key, lines[i][0]) == 0;
        const char *now = is_it ? line : lines[i][1];
        replaced = replaced || is_it;
        if (now[0])
            at += (size_t)snprintf(text + at, sizeof(text) - at, ", %s", now);
    }
    assert_true(replaced);
    (void)snprintf(text + at, sizeof(text) - at, "}");
    return text;
}

static void refused(const char *key, const char *line, phx_code code, const char *named)
{
    phx_error err = {0};
    phx_dims dims;
    const phx_code rc = parse(config_with(key, line), &dims, &err);
    if (rc != code || !strstr(err.text, named))
        fail_msg("%s with %s: %s '%s'", key, line, phx_code_name(rc), err.text);
}

static void test_v32(void **state)
{
    (void)state;
    const phx_dims d = parse_ok(config_with(NULL, NULL));
    assert_int_equal(d.n_layers, 61);
    assert_int_equal(d.n_layers_dense, 3);
    assert_int_equal(d.n_layers_mtp, 1);
    assert_int_equal(d.index_topk, 2048);
    assert_false(d.index_rope_interleaved);
    assert_true(d.norm_topk);
    assert_int_equal(d.n_eos, 1);
    assert_int_equal(d.eos_ids[0], 1);
    assert_int_equal(d.bos_id, 0);
    assert_true(fabs(phx_dims_softmax_scale(&d) - 0.1352337789) < 1e-9);
}

static void near(double got, double expected)
{
    if (!(fabs(got - expected) <= 1e-6 * fabs(expected)))
        fail_msg("%.12g, expected %.12g", got, expected);
}

static void test_yarn(void **state)
{
    (void)state;
    static const struct {
        phx_rope rope;
        double f10, f16, f31;
    } cases[] = {
        {{PHX_ROPE_YARN, 1e4, 40, 32, 1, 1, 1, 4096}, 5.623413252e-2, 5.500000000e-3, 3.333803580e-6},
        {{PHX_ROPE_YARN, 5e4, 64, 32, 1, 1, 1, 4096}, 2.842795908e-2, 1.537296735e-3, 4.382206456e-7},
        {{PHX_ROPE_YARN, 5e4, 32, 1, 1, 1, 1, 4096}, 3.400727816e-2, 4.472135955e-3, 8.764412912e-7},
        {{PHX_ROPE_PLAIN, 1e6, 0, 0, 0, 0, 0, 0}, 0, 0, 1.539926526e-6},
        {{PHX_ROPE_PLAIN, 8e6, 0, 0, 0, 0, 0, 0}, 0, 0, 2.054147263e-7},
    };
    for (size_t i = 0; i < N_OF(cases); i++) {
        double freqs[32];
        const phx_dims dims = {.d_rope = 64, .d_nope = 128, .rope = cases[i].rope};
        phx_dims_rope_freqs(&dims, freqs);
        near(freqs[31], cases[i].f31);
        if (cases[i].f10 > 0)
            near(freqs[10], cases[i].f10);
        if (cases[i].f16 > 0)
            near(freqs[16], cases[i].f16);
    }
    const phx_dims k25 = {.d_rope = 64, .d_nope = 128, .rope = cases[1].rope};
    near(phx_dims_softmax_scale(&k25), 0.1446796258);
    const phx_dims glm = {.d_rope = 64, .d_nope = 192, .rope = cases[3].rope};
    near(phx_dims_softmax_scale(&glm), 0.0625);
    near(phx_dims_rope_scale(&k25), 1.0);
    near(phx_dims_rope_scale(&glm), 1.0);
    const phx_dims other = {.d_rope = 64, .rope = {PHX_ROPE_YARN, 1e4, 40, 32, 1, 1, 0, 4096}};
    near(phx_dims_rope_scale(&other), 1.3688879454);
}

static void test_spellings(void **state)
{
    (void)state;
    const phx_dims old = parse_ok(config_with(NULL, NULL));
    phx_dims d = parse_ok(config_with(
        "rope", "\"rope_parameters\": {\"rope_type\": \"yarn\", \"rope_theta\": 10000.0, \"factor\": 40.0, "
                "\"mscale\": 1, \"mscale_all_dim\": 1, \"original_max_position_embeddings\": 4096.0}"));
    assert_memory_equal(&d.rope, &old.rope, sizeof(d.rope));
    d = parse_ok(config_with("rope", "\"rope_scaling\": null"));
    assert_int_equal(d.rope.kind, PHX_ROPE_PLAIN);
    d = parse_ok(
        config_with("rope", "\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 10000.0}"));
    assert_int_equal(d.rope.kind, PHX_ROPE_PLAIN);
    assert_true(d.rope.theta == 10000);
    d = parse_ok(config_with("eos_token_id", "\"eos_token_id\": [7, 9, 7]"));
    assert_int_equal(d.n_eos, 2);
    assert_int_equal(d.eos_ids[1], 9);
    d = parse_ok(config_with("eos_token_id", ""));
    assert_int_equal(d.n_eos, 0);
    d = parse_ok(config_with("bos_token_id", "\"bos_token_id\": null"));
    assert_int_equal(d.bos_id, -1);
    d = parse_ok(config_with("vocab_size", "\"vocab_size\": 129280.0"));
    assert_int_equal(d.n_vocab, 129280);
    d = parse_ok(config_with("more",
                             "\"quantization_config\": {\"quant_method\": \"fp8\", \"fmt\": \"e4m3\", "
                             "\"weight_block_size\": [128, 128], \"scale_fmt\": \"ue8m0\"}"));
    assert_true(d.fp8_scale_ue8m0);
}

static void test_refusals(void **state)
{
    (void)state;
    refused("model_type", "\"model_type\": \"llama\"", PHX_ERR_UNSUPPORTED,
            "deepseek_v3, deepseek_v32, kimi_k2");
    refused("model_type", "", PHX_ERR_CORRUPT, "model_type");
    refused("hidden_size", "", PHX_ERR_CORRUPT, "hidden_size");
    refused("hidden_size", "\"hidden_size\": 7168.5", PHX_ERR_CORRUPT, "hidden_size");
    refused("hidden_size", "\"hidden_size\": \"7168\"", PHX_ERR_CORRUPT, "hidden_size");
    refused("hidden_size", "\"hidden_size\": 4611686018427387904", PHX_ERR_CORRUPT, "hidden_size");
    refused("hidden_size", "\"hidden_size\": 1e300", PHX_ERR_CORRUPT, "hidden_size");
    refused("hidden_size", "\"hidden_size\": 0", PHX_ERR_CORRUPT, "hidden_size");
    refused("num_hidden_layers", "\"num_hidden_layers\": -1", PHX_ERR_CORRUPT, "num_hidden_layers");
    refused("num_hidden_layers", "\"num_hidden_layers\": 2", PHX_ERR_CORRUPT, "first_k_dense_replace");
    refused("n_routed_experts", "\"n_routed_experts\": 250", PHX_ERR_CORRUPT, "groups");
    refused("num_experts_per_tok", "\"num_experts_per_tok\": 200", PHX_ERR_CORRUPT, "num_experts_per_tok");
    refused("qk_rope_head_dim", "\"qk_rope_head_dim\": 63", PHX_ERR_CORRUPT, "odd");
    refused("index", "\"index_n_heads\": 64, \"index_head_dim\": 32, \"index_topk\": 8", PHX_ERR_CORRUPT,
            "index_head_dim");
    refused("index", "", PHX_ERR_CORRUPT, "index_n_heads");
    refused("q_lora_rank", "\"q_lora_rank\": null", PHX_ERR_UNSUPPORTED, "q_lora_rank");
    refused("eos_token_id", "\"eos_token_id\": 129280", PHX_ERR_CORRUPT, "eos_token_id");
    refused("eos_token_id", "\"eos_token_id\": [1,2,3,4,5,6,7,8,9]", PHX_ERR_TOO_LONG, "end-of-sequence");
    refused("more", "\"hidden_act\": \"gelu\"", PHX_ERR_UNSUPPORTED, "hidden_act 'gelu'");
    refused("more", "\"scoring_func\": \"tanh\"", PHX_ERR_UNSUPPORTED, "scoring_func 'tanh'");
    refused("more", "\"topk_method\": \"greedy\"", PHX_ERR_UNSUPPORTED, "topk_method 'greedy'");
    refused("more", "\"attention_bias\": true", PHX_ERR_UNSUPPORTED, "attention_bias");
    refused("more", "\"tie_word_embeddings\": true", PHX_ERR_UNSUPPORTED, "tie_word_embeddings");
    refused("more", "\"moe_layer_freq\": 2", PHX_ERR_UNSUPPORTED, "moe_layer_freq");
    refused("more", "\"num_key_value_heads\": 8", PHX_ERR_UNSUPPORTED, "num_key_value_heads");
    refused("more", "\"quantization_config\": {\"quant_method\": \"awq\"}", PHX_ERR_UNSUPPORTED, "'awq'");
    refused("rope", "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 4}", PHX_ERR_UNSUPPORTED,
            "'linear'");
    refused("rope", "\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4}", PHX_ERR_CORRUPT, "original_max");
    refused("rope_theta", "", PHX_ERR_CORRUPT, "rope_theta");
}

/* Keys that change what is computed: another value is refused, never ignored; the neutral one is let through.
 */
static void test_keys_that_change_arithmetic(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        phx_code code;
    } bad[] = {
        {"\"norm_topk_prob\": 0", PHX_ERR_CORRUPT},
        {"\"norm_topk_prob\": \"no\"", PHX_ERR_CORRUPT},
        {"\"indexer_rope_interleave\": \"x\"", PHX_ERR_CORRUPT},
        {"\"attention_bias\": \"no\"", PHX_ERR_CORRUPT},
        {"\"rope_interleave\": false", PHX_ERR_UNSUPPORTED},
        {"\"rope_interleave\": 1", PHX_ERR_CORRUPT},
        {"\"index_topk_freq\": 0", PHX_ERR_CORRUPT},
        {"\"index_skip_topk_offset\": -1", PHX_ERR_CORRUPT},
        {"\"index_topk_freq\": \"2\"", PHX_ERR_CORRUPT},
        {"\"index_topk_pattern\": \"FS\"", PHX_ERR_CORRUPT},
        {"\"index_topk_pattern\": 3", PHX_ERR_CORRUPT},
        {"\"indexer_types\": [\"full\", \"shared\"]", PHX_ERR_CORRUPT},
        {"\"mlp_layer_types\": \"dense\"", PHX_ERR_CORRUPT},
        {"\"moe_router_dtype\": \"bfloat16\"", PHX_ERR_UNSUPPORTED},
        {"\"partial_rotary_factor\": 0.5", PHX_ERR_UNSUPPORTED},
        {"\"sliding_window\": 4096", PHX_ERR_UNSUPPORTED},
        {"\"sliding_window\": \"4096\"", PHX_ERR_CORRUPT},
        {"\"swiglu_limit\": 7.0", PHX_ERR_UNSUPPORTED},
        {"\"attn_logit_softcapping\": 50", PHX_ERR_UNSUPPORTED},
        {"\"final_logit_softcapping\": 30", PHX_ERR_UNSUPPORTED},
    };
    for (size_t i = 0; i < N_OF(bad); i++) {
        char key[64];
        (void)snprintf(key, sizeof(key), "%.*s", (int)strcspn(bad[i].line + 1, "\""), bad[i].line + 1);
        refused("more", bad[i].line, bad[i].code, key);
    }
    refused("rope",
            "\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 40, \"truncate\": 0, "
            "\"original_max_position_embeddings\": 4096}",
            PHX_ERR_CORRUPT, "truncate");
    refused("more", "\"quantization_config\": {\"quant_method\": \"fp8\", \"fmt\": 4}", PHX_ERR_UNSUPPORTED,
            "fmt");
    refused("more", "\"quantization_config\": {\"quant_method\": \"fp8\", \"scale_fmt\": true}",
            PHX_ERR_UNSUPPORTED, "scale_fmt");
    phx_dims d = parse_ok(config_with(
        "more", "\"rope_interleave\": true, \"index_topk_freq\": 1, \"index_topk_pattern\": null, "
                "\"sliding_window\": null, \"swiglu_limit\": 0.0, \"partial_rotary_factor\": 1.0, "
                "\"moe_router_dtype\": \"float32\", \"norm_topk_prob\": null, \"indexer_types\": null"));
    assert_true(d.norm_topk);
    d = parse_ok(config_with("more", "\"sliding_window\": 4096, \"use_sliding_window\": false"));
    assert_false(d.index_rope_interleaved);
    d = parse_ok(config_with("more", "\"norm_topk_prob\": false, \"indexer_rope_interleave\": true"));
    assert_false(d.norm_topk);
    assert_true(d.index_rope_interleaved);
}

#define YARN \
    "\"factor\": 40, \"mscale\": 1, \"mscale_all_dim\": 1, \"original_max_position_embeddings\": 4096"

/* Two spellings of the rotary embedding agree, or the config is refused with both names. */
static void test_rope_said_twice(void **state)
{
    (void)state;
    const phx_dims once = parse_ok(config_with(NULL, NULL));
    refused("more", "\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 10000}",
            PHX_ERR_CORRUPT, "rope_parameters and rope_scaling");
    refused("more",
            "\"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 4, \"mscale\": 1, "
            "\"mscale_all_dim\": 1, \"original_max_position_embeddings\": 4096}",
            PHX_ERR_CORRUPT, "rope_parameters and rope_scaling");
    refused("more", "\"rope_parameters\": {\"rope_type\": \"yarn\", \"rope_theta\": 5, " YARN "}",
            PHX_ERR_CORRUPT, "rope_theta is 5 in rope_parameters but 10000");
    refused("rope", "\"rope_scaling\": {\"rope_type\": \"default\", \"type\": \"yarn\", " YARN "}",
            PHX_ERR_CORRUPT, "'rope_type' and 'type'");
    refused("rope", "\"rope_scaling\": {\"type\": \"yarn\", \"attention_factor\": 2, " YARN "}",
            PHX_ERR_UNSUPPORTED, "attention_factor");
    refused("rope", "\"rope_parameters\": {\"type\": \"default\", \"partial_rotary_factor\": 0.5}",
            PHX_ERR_UNSUPPORTED, "partial_rotary_factor");
    const phx_dims twice = parse_ok(config_with(
        "more",
        "\"rope_parameters\": {\"rope_type\": \"yarn\", \"attention_factor\": 1.0, \"type\": \"yarn\", "
        "\"rope_theta\": 10000.0, " YARN "}"));
    assert_memory_equal(&twice.rope, &once.rope, sizeof(once.rope));
}

/* The list of dense and sparse layers must say what the counts say. */
static void test_layer_list(void **state)
{
    (void)state;
    char line[2048];
    for (int wrong = 0; wrong < 2; wrong++) {
        size_t at = (size_t)snprintf(line, sizeof(line), "\"mlp_layer_types\": [");
        for (int l = 0; l < 61; l++)
            at += (size_t)snprintf(line + at, sizeof(line) - at, "%s\"%s\"", l ? ", " : "",
                                   l < (wrong ? 2 : 3) ? "dense" : "sparse");
        (void)snprintf(line + at, sizeof(line) - at, "]");
        if (wrong)
            refused("more", line, PHX_ERR_UNSUPPORTED, "layer 2");
        else
            (void)parse_ok(config_with("more", line));
    }
}

static void test_written_config_reads_back(void **state)
{
    (void)state;
    const phx_dims want = parse_ok(config_with("eos_token_id", "\"eos_token_id\": [3, 5]"));
    phx_buf buf;
    phx_buf_init(&buf, 1 << 16);
    for (int format = 0; format < PHX_FORMAT_COUNT; format++) {
        phx_dims with = want;
        with.fp8_scale_ue8m0 = format == PHX_FORMAT_FP8_BLOCK;
        phx_buf_clear(&buf);
        phx_dims_write_json(&with, (phx_format)format, &buf);
        assert_int_equal(buf.code, PHX_OK);
        const phx_dims got = parse_ok(buf.ptr);
        assert_memory_equal(&got, &with, sizeof(got));
    }
    phx_buf_done(&buf);
}

/* What synth writes under each name opens again. */
static void test_presets_read_back(void **state)
{
    (void)state;
    size_t n = 0;
    phx_buf buf;
    const phx_preset *presets = phx_preset_list(&n);
    assert_true(n > 0);
    phx_buf_init(&buf, 1 << 16);
    for (size_t i = 0; i < n; i++) {
        phx_buf_clear(&buf);
        phx_dims_write_json(&presets[i].dims,
                            presets[i].dims.fp8_scale_ue8m0 ? PHX_FORMAT_FP8_BLOCK : PHX_FORMAT_BF16, &buf);
        assert_int_equal(buf.code, PHX_OK);
        const phx_dims got = parse_ok(buf.ptr);
        assert_memory_equal(&got, &presets[i].dims, sizeof(got));
    }
    phx_buf_done(&buf);
}

static void test_load(void **state)
{
    (void)state;
    phx_error err = {0};
    phx_dims dims;
    must(phx_dims_load(source_path("tests/data/golden/deepseek-v3-qdirect"), &dims, &err), &err);
    assert_int_equal(dims.q_lora, 0);
    assert_true(dims.rope.beta_slow == 0.25);
    assert_int_equal(phx_dims_load("/nonexistent", &dims, &err), PHX_ERR_NOT_FOUND);
    assert_non_null(strstr(err.text, "/nonexistent/config.json"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_v32),
        cmocka_unit_test(test_yarn),
        cmocka_unit_test(test_spellings),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_keys_that_change_arithmetic),
        cmocka_unit_test(test_rope_said_twice),
        cmocka_unit_test(test_layer_list),
        cmocka_unit_test(test_written_config_reads_back),
        cmocka_unit_test(test_presets_read_back),
        cmocka_unit_test(test_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
