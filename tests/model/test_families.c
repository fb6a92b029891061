/* tests/model/test_families.c - one row of the family table makes a model: its spelling of config.json. */
#include "tests/model/parse_dims.h"

#include <string.h>

#include "model/dims.h"
#include "model/family.h"

#define TEXT                                                                                             \
    "\"vocab_size\": 512, \"hidden_size\": 64, \"num_hidden_layers\": 4, \"first_k_dense_replace\": 1, " \
    "\"intermediate_size\": 128, \"moe_intermediate_size\": 32, \"num_attention_heads\": 4, "            \
    "\"kv_lora_rank\": 32, \"q_lora_rank\": 32, \"qk_nope_head_dim\": 16, \"qk_rope_head_dim\": 16, "    \
    "\"v_head_dim\": 16, \"n_routed_experts\": 8, \"num_experts_per_tok\": 2, \"rope_theta\": 50000, "   \
    "\"max_position_embeddings\": 2048, \"n_shared_experts\": 1"
#define INDEX "\"index_n_heads\": 4, \"index_head_dim\": 32, \"index_topk\": 16"

static void refused(const char *text, phx_code code, const char *named)
{
    phx_error err = {0};
    phx_dims dims;
    const phx_code rc = parse(text, &dims, &err);
    if (rc != code || !strstr(err.text, named))
        fail_msg("%s: %s '%s'", text, phx_code_name(rc), err.text);
}

/* What is written reads back equal, whatever the nesting. */
static void round_trip(const phx_dims *dims)
{
    phx_buf buf;
    phx_buf_init(&buf, 1 << 16);
    phx_dims_write_json(dims, PHX_FORMAT_BF16, &buf);
    assert_int_equal(buf.code, PHX_OK);
    const phx_dims got = parse_ok(buf.ptr);
    assert_memory_equal(&got, dims, sizeof(got));
    phx_buf_done(&buf);
}

#define NESTED(outer, inner) "{\"model_type\": \"kimi_k25\"" outer ", \"text_config\": {" inner "}}"

static void test_nested_config(void **state)
{
    (void)state;
    const phx_dims d = parse_ok(NESTED(", \"eos_token_id\": 7, \"hidden_size\": 9, \"vision_config\": {}",
                                       "\"model_type\": \"kimi_k2\", \"eos_token_id\": 5, " TEXT));
    assert_string_equal(d.model_type, "kimi_k25");
    assert_int_equal(d.d_hidden, 64); /* the outer keys are not the text model's */
    assert_int_equal(d.n_eos, 2);
    assert_int_equal(d.eos_ids[0], 5);
    assert_int_equal(d.eos_ids[1], 7);
    assert_int_equal(d.index_n_heads, 0);
    round_trip(&d);
    phx_dims same = parse_ok(NESTED("", "\"model_type\": \"deepseek_v3\", \"eos_token_id\": [5, 7], " TEXT));
    assert_memory_equal(&same, &d, sizeof(d));
    for (int outside = 0; outside < 2; outside++) { /* wherever it stands */
#define FP8 ", \"quantization_config\": {\"quant_method\": \"fp8\", \"scale_fmt\": \"ue8m0\"}"
        const phx_dims q = parse_ok(outside ? NESTED(FP8, "\"model_type\": \"kimi_k2\", " TEXT)
                                            : NESTED("", "\"model_type\": \"kimi_k2\", " TEXT FP8));
        assert_true(q.fp8_scale_ue8m0);
    }
    refused("{\"model_type\": \"kimi_k25\", " TEXT "}", PHX_ERR_CORRUPT, "text_config");
    refused("{\"model_type\": \"kimi_k25\", \"text_config\": [], " TEXT "}", PHX_ERR_CORRUPT, "text_config");
    refused(NESTED("", TEXT), PHX_ERR_CORRUPT, "model_type");
    refused(NESTED("", "\"model_type\": \"llama\", " TEXT), PHX_ERR_UNSUPPORTED, "'llama' of text_config");
    refused(NESTED(", \"tie_word_embeddings\": true", "\"model_type\": \"kimi_k2\", " TEXT),
            PHX_ERR_UNSUPPORTED, "tie_word_embeddings");
    refused(NESTED(", \"eos_token_id\": 512", "\"model_type\": \"kimi_k2\", " TEXT), PHX_ERR_CORRUPT,
            "eos_token_id");
    refused(NESTED(", \"quantization_config\": {\"quant_method\": \"awq\"}",
                   "\"model_type\": \"kimi_k2\", " TEXT),
            PHX_ERR_UNSUPPORTED, "awq");
}

/* What a family assumes when config.json is silent; the key decides when it is there. */
static void test_defaults(void **state)
{
    (void)state;
    phx_dims d = parse_ok("{\"model_type\": \"glm_moe_dsa\", " INDEX ", " TEXT "}");
    assert_true(d.index_rope_interleaved);
    round_trip(&d);
    d = parse_ok("{\"model_type\": \"glm_moe_dsa\", \"indexer_rope_interleave\": false, " INDEX ", " TEXT
                 "}");
    assert_false(d.index_rope_interleaved);
    d = parse_ok("{\"model_type\": \"deepseek_v32\", " INDEX ", " TEXT "}");
    assert_false(d.index_rope_interleaved);
    d = parse_ok("{\"model_type\": \"glm4_moe_lite\", \"rope_interleave\": true, " TEXT "}");
    assert_int_equal(d.index_n_heads, 0);
    round_trip(&d);
    d = parse_ok("{\"model_type\": \"kimi_k2\", " TEXT "}");
    round_trip(&d);
    refused("{\"model_type\": \"glm_moe_dsa\", " TEXT "}", PHX_ERR_CORRUPT, "index_n_heads");
    refused("{\"model_type\": \"glm4_moe_lite\", \"rope_interleave\": false, " TEXT "}", PHX_ERR_UNSUPPORTED,
            "rope_interleave");
}

static void same_sharing(const phx_dims *d, const char *pattern)
{
    char got[PHX_LAYERS_MAX + 1] = "";
    for (int64_t l = 0; l < d->n_layers; l++)
        got[l] = phx_layer_has_indexer(d, l) ? 'F' : 'S';
    assert_string_equal(got, pattern);
    assert_true(phx_layer_has_indexer(d, d->n_layers)); /* an MTP layer always has its own */
}

#define GLM(more) "{\"model_type\": \"glm_moe_dsa\", " INDEX ", " TEXT more "}"

/* Which layers have an indexer: a list, else a pattern, else two numbers. */
static void test_shared_indexers(void **state)
{
    (void)state;
    static const struct {
        const char *config, *pattern;
    } cases[] = {
        {GLM(""), "FFFF"},
        {GLM(", \"index_topk_freq\": 1, \"index_skip_topk_offset\": 3"), "FFFF"},
        {GLM(", \"index_topk_freq\": 2"), "FFSF"},
        {GLM(", \"index_topk_freq\": 4, \"index_skip_topk_offset\": 3"), "FFFS"},
        {GLM(", \"index_topk_freq\": 4, \"index_topk_pattern\": \"FSFS\""), "FSFS"},
        {GLM(", \"index_topk_freq\": 4, \"index_topk_pattern\": \"FSFS\", \"indexer_types\": [\"full\", "
             "\"shared\", \"shared\", \"full\", \"full\"]"),
         "FSSF"},
        {GLM(", \"index_topk_pattern\": null, \"indexer_types\": null, \"index_topk_freq\": null"), "FFFF"},
    };
    for (size_t i = 0; i < N_OF(cases); i++) {
        const phx_dims d = parse_ok(cases[i].config);
        same_sharing(&d, cases[i].pattern);
        round_trip(&d);
    }
    refused(GLM(", \"index_topk_pattern\": \"SFFF\""), PHX_ERR_CORRUPT, "layer 0");
    refused(GLM(", \"index_topk_pattern\": \"FXFF\""), PHX_ERR_UNSUPPORTED, "layer 1 is 'X'");
    refused(GLM(", \"indexer_types\": [\"full\", \"half\", \"full\", \"full\"]"), PHX_ERR_UNSUPPORTED,
            "layer 1 is 'half'");
    refused(GLM(", \"indexer_types\": [\"full\", 1, \"full\", \"full\"]"), PHX_ERR_CORRUPT, "layer 1");
    refused("{\"model_type\": \"deepseek_v3\", \"index_topk_freq\": 4, " TEXT "}", PHX_ERR_UNSUPPORTED,
            "deepseek_v3 has none");
}

/* Every row is whole: found by its types, unlike the others, with a text type to write where it nests. */
static void test_rows(void **state)
{
    (void)state;
    const phx_family *family;
    size_t n = 0;
    for (; (family = phx_family_at(n)); n++) {
        assert_ptr_equal(phx_family_find(family->model_types[0]), family);
        assert_true(family->n_rules > 0 && family->rules && family->ignored);
        assert_int_equal(family->text_key != NULL, family->text_types != NULL);
        for (size_t i = 0; i < n; i++)
            assert_string_not_equal(phx_family_at(i)->name, family->name);
    }
    assert_true(n >= 6);
    assert_null(phx_family_find("llama"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nested_config),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_shared_indexers),
        cmocka_unit_test(test_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
