/* model/dims.c - config.json in old and new spellings to phx_dims; YaRN.
 * Owns: the ranges of every number, so that no later product can overflow 63 bits. What differs from layer to
 * layer is dims_layers.c, writing is dims_write.c. */
#include "model/dims.h"

#include <math.h>
#include <stdio.h>

#include "base/file.h"
#include "model/dims_layers.h"
#include "model/family.h"
#include "model/quantisation.h"

/* reliability.md 3.4 */
#define CONFIG_LIMITS ((phx_json_limits){PHX_CONFIG_BYTES_MAX, PHX_CONFIG_DEPTH_MAX, 200000, 200000})

#define EXPERT_SLOTS_MAX (1 << 18) /* layers x experts: bounds the expected tensors */
#define PATH_BYTES       4096

/* An integer key of config.json with its range. */
typedef struct int_key {
    const char *key;
    size_t offset;
    int64_t min;
    int64_t max;
    int64_t otherwise; /* when absent or null; REQUIRED: then an error */
} int_key;

#define REQUIRED INT64_MIN
#define KEY(key, field, min, max, other)                      \
    {                                                         \
        key, offsetof(phx_dims, field), (min), (max), (other) \
    }

/* With these ranges the largest model has 2^58 elements, and any one matrix fewer than 2^40. */
static const int_key int_keys[] = {
    KEY("num_hidden_layers", n_layers, 1, PHX_LAYERS_MAX, REQUIRED),
    KEY("first_k_dense_replace", n_layers_dense, 0, PHX_LAYERS_MAX, 0),
    KEY("num_nextn_predict_layers", n_layers_mtp, 0, 8, 0),
    KEY("vocab_size", n_vocab, 1, 1 << 22, REQUIRED),
    KEY("max_position_embeddings", n_positions, 1, 1 << 24, REQUIRED),
    KEY("hidden_size", d_hidden, 1, 1 << 16, REQUIRED),
    KEY("intermediate_size", d_ff_dense, 1, 1 << 20, REQUIRED),
    KEY("moe_intermediate_size", d_ff_expert, 1, 1 << 18, REQUIRED),
    KEY("num_attention_heads", n_heads, 1, 1024, REQUIRED),
    KEY("qk_nope_head_dim", d_nope, 1, 1024, REQUIRED),
    KEY("qk_rope_head_dim", d_rope, 2, 1024, REQUIRED),
    KEY("v_head_dim", d_v, 1, 1024, REQUIRED),
    KEY("q_lora_rank", q_lora, 0, 1 << 16, 0),
    KEY("kv_lora_rank", kv_lora, 1, 1 << 16, REQUIRED),
    KEY("n_routed_experts", n_experts, 1, 4096, REQUIRED),
    KEY("num_experts_per_tok", n_experts_used, 1, 256, REQUIRED),
    KEY("n_shared_experts", n_experts_shared, 0, 16, 0),
    KEY("n_group", n_expert_groups, 1, 4096, 1),
    KEY("topk_group", n_expert_groups_used, 1, 4096, 1),
    KEY("bos_token_id", bos_id, 0, (1 << 22) - 1, -1),
};

static const int_key index_keys[] = {
    KEY("index_n_heads", index_n_heads, 1, 1024, REQUIRED),
    KEY("index_head_dim", index_d, 2, 1024, REQUIRED),
    KEY("index_topk", index_topk, 1, 1 << 20, REQUIRED),
};

static phx_code parse_types(const phx_json *config, phx_dims *dims, const phx_family **ret_family,
                            phx_error *err);
static phx_code parse_ints(const phx_json *config, const int_key *keys, size_t n_keys, phx_dims *dims,
                           phx_error *err);
static phx_code parse_reals(const phx_json *config, phx_dims *dims, phx_error *err);
static phx_code bool_key(const phx_json *object, const char *key, bool otherwise, bool *ret_value,
                         phx_error *err);
static phx_code parse_rope(const phx_json *config, phx_rope *rope, phx_error *err);
static phx_code text_config(const phx_json *config, const phx_family *family, const phx_json **ret_text,
                            phx_error *err);
static phx_code refuse_bools(const phx_json *config, phx_error *err);
static phx_code refuse_unknown(const phx_json *config, const phx_dims *dims, phx_error *err);
static double yarn_mscale(double factor, double m);
static phx_code parse_quantisation(const phx_json *config, phx_dims *dims, phx_error *err);
static phx_code add_eos(const phx_json *config, const char *where, phx_dims *dims, phx_error *err);
static phx_code check_together(const phx_dims *dims, phx_error *err);

phx_code phx_dims_load(const char *model_dir, phx_dims *ret_dims, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_json *config = NULL;
    phx_json *generation = NULL;
    phx_dims dims = {0};
    phx_error inner = {0};
    char path[PATH_BYTES];
    if ((size_t)snprintf(path, sizeof(path), "%s/config.json", model_dir) >= sizeof(path) - 32) {
        rc = PHX_FAIL(err, PHX_ERR_TOO_LONG, "the model folder's path is longer than %d bytes", PATH_BYTES);
        goto out;
    }
    rc = phx_json_parse_file(path, CONFIG_LIMITS, &config, err);
    if (rc != PHX_OK)
        goto out;
    rc = phx_dims_parse(config, &dims, &inner);
    if (rc != PHX_OK) {
        rc = PHX_FAIL(err, rc, "'%s': %s", path, inner.text);
        goto out;
    }
    (void)snprintf(path, sizeof(path), "%s/generation_config.json", model_dir);
    if (phx_file_exists(path)) {
        rc = phx_json_parse_file(path, CONFIG_LIMITS, &generation, err);
        if (rc == PHX_OK)
            rc = add_eos(generation, path, &dims, err);
        if (rc != PHX_OK)
            goto out;
    }
    *ret_dims = dims;
out:
    phx_json_destroy(config);
    phx_json_destroy(generation);
    return rc;
}

phx_code phx_dims_parse(const phx_json *config, phx_dims *ret_dims, phx_error *err)
{
    phx_dims dims = {0};
    const phx_family *family = NULL;
    const phx_json *whole = config;
    if (!config || phx_json_kind_of(config) != PHX_JSON_OBJECT)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "the config is not a JSON object");
    phx_code rc = parse_types(whole, &dims, &family, err);
    if (rc == PHX_OK && family->text_key)
        rc = text_config(whole, family, &config, err);
    if (rc == PHX_OK)
        rc = parse_ints(config, int_keys, sizeof(int_keys) / sizeof(int_keys[0]), &dims, err);
    if (rc == PHX_OK && family->has_indexer)
        rc = parse_ints(config, index_keys, sizeof(index_keys) / sizeof(index_keys[0]), &dims, err);
    if (rc == PHX_OK)
        rc = parse_reals(config, &dims, err);
    if (rc == PHX_OK)
        rc = bool_key(config, "norm_topk_prob", true, &dims.norm_topk, err);
    if (rc == PHX_OK && family->has_indexer)
        rc = bool_key(config, "indexer_rope_interleave", family->index_rope_interleaved,
                      &dims.index_rope_interleaved, err);
    if (rc == PHX_OK)
        rc = parse_rope(config, &dims.rope, err);
    if (rc == PHX_OK)
        rc = refuse_unknown(config, &dims, err);
    if (rc == PHX_OK)
        rc = phx_dims_parse_layers(config, family, &dims, err);
    if (rc == PHX_OK)
        rc = parse_quantisation(
            phx_json_is_null(phx_json_get(config, "quantization_config")) ? whole : config, &dims, err);
    if (rc == PHX_OK)
        rc = add_eos(config, "config.json", &dims, err);
    if (rc == PHX_OK && whole != config) {
        rc = refuse_bools(whole, err);
        if (rc == PHX_OK)
            rc = add_eos(whole, "config.json", &dims, err);
    }
    if (rc == PHX_OK)
        rc = check_together(&dims, err);
    if (rc != PHX_OK)
        return rc;
    *ret_dims = dims;
    return PHX_OK;
}

/* ---- values ---- */

static phx_code parse_ints(const phx_json *config, const int_key *keys, size_t n_keys, phx_dims *dims,
                           phx_error *err)
{
    for (size_t i = 0; i < n_keys; i++) {
        const int_key *k = &keys[i];
        const phx_json *node = phx_json_get(config, k->key);
        int64_t value = k->otherwise;
        if (phx_json_is_null(node)) {
            if (k->otherwise == REQUIRED)
                return PHX_FAIL(err, PHX_ERR_CORRUPT, "key '%s' is missing", k->key);
        } else if (!phx_json_as_whole(node, &value)) {
            return PHX_FAIL(err, PHX_ERR_CORRUPT,
                            "key '%s' is a %s that is no whole number from %lld to %lld", k->key,
                            phx_json_kind_name(node), (long long)k->min, (long long)k->max);
        } else if (value < k->min || value > k->max) {
            return PHX_FAIL(err, PHX_ERR_CORRUPT, "key '%s' is %lld, outside %lld .. %lld", k->key,
                            (long long)value, (long long)k->min, (long long)k->max);
        }
        memcpy((char *)dims + k->offset, &value, sizeof(value));
    }
    return PHX_OK;
}

static phx_code real_key(const phx_json *object, const char *key, double min, double max, double otherwise,
                         double *ret_value, phx_error *err)
{
    const phx_json *node = phx_json_get(object, key);
    double value = otherwise;
    if (!phx_json_is_null(node) && !phx_json_as_f64(node, &value))
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "key '%s' is a %s, not a number", key,
                        phx_json_kind_name(node));
    if (!(value >= min && value <= max)) /* catches NaN, which stands for "required" */
        return PHX_FAIL(err, PHX_ERR_CORRUPT,
                        phx_json_is_null(node) ? "key '%s' is missing" : "key '%s' is out of range", key);
    *ret_value = value;
    return PHX_OK;
}

/* 0, 1 and "no" are no booleans: guessing what a maker meant by them would change the arithmetic unseen. */
static phx_code bool_key(const phx_json *object, const char *key, bool otherwise, bool *ret_value,
                         phx_error *err)
{
    const phx_json *node = phx_json_get(object, key);
    bool value = otherwise;
    if (!phx_json_is_null(node) && !phx_json_as_bool(node, &value))
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "key '%s' must be true or false, not of kind %s", key,
                        phx_json_kind_name(node));
    *ret_value = value;
    return PHX_OK;
}

static phx_code parse_reals(const phx_json *config, phx_dims *dims, phx_error *err)
{
    phx_code rc = real_key(config, "rms_norm_eps", 1e-12, 1.0, 1e-6, &dims->rms_eps, err);
    if (rc == PHX_OK)
        rc = real_key(config, "routed_scaling_factor", 1e-6, 1e6, 1.0, &dims->routed_scale, err);
    return rc;
}

/* The kind that a rope dictionary names, in its new or its old spelling. */
static phx_code rope_kind(const phx_json *dict, const char *where, phx_rope_kind *ret_kind, phx_error *err)
{
    static const char *const spellings[] = {"rope_type", "type"};
    phx_str kind = {NULL, 0};
    for (size_t i = 0; i < sizeof(spellings) / sizeof(spellings[0]); i++) {
        const phx_json *node = phx_json_get(dict, spellings[i]);
        phx_str text;
        if (phx_json_is_null(node))
            continue;
        if (!phx_json_as_str(node, &text))
            return PHX_FAIL(err, PHX_ERR_CORRUPT, "key '%s' of %s is a %s, not a string", spellings[i], where,
                            phx_json_kind_name(node));
        if (kind.ptr && !phx_str_eq(kind, text))
            return PHX_FAIL(err, PHX_ERR_CORRUPT, "keys 'rope_type' and 'type' of %s contradict each other",
                            where);
        kind = text;
    }
    if (!kind.ptr || phx_str_is(kind, "default"))
        *ret_kind = PHX_ROPE_PLAIN;
    else if (phx_str_is(kind, "yarn"))
        *ret_kind = PHX_ROPE_YARN;
    else
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "rope type '%.*s' of %s: supported are default and yarn",
                        (int)(kind.n < 80 ? kind.n : 80), kind.ptr, where);
    return PHX_OK;
}

/* It would stand in place of the ratio of the two mscales. */
static phx_code refuse_attention_factor(const phx_json *dict, const phx_rope *rope, const char *where,
                                        phx_error *err)
{
    const double computed =
        yarn_mscale(rope->factor, rope->mscale) / yarn_mscale(rope->factor, rope->mscale_all_dim);
    double value = 0;
    const phx_code rc = real_key(dict, "attention_factor", -1e300, 1e300, computed, &value, err);
    if (rc == PHX_OK && fabs(value - computed) > 1e-6 * computed)
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED,
                        "attention_factor %g of %s: supported is what mscale gives, %g", value, where,
                        computed);
    return rc;
}

/* One dictionary without its theta; NULL: none is given. */
static phx_code parse_rope_dict(const phx_json *dict, const char *where, phx_rope *ret_rope, phx_error *err)
{
    phx_rope rope = {.kind = PHX_ROPE_PLAIN};
    double original = 0;
    double partial = 1;
    bool truncate = true;
    if (dict && phx_json_kind_of(dict) != PHX_JSON_OBJECT)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "key '%s' is a %s, not an object", where,
                        phx_json_kind_name(dict));
    phx_code rc = rope_kind(dict, where, &rope.kind, err);
    if (rc == PHX_OK)
        rc = real_key(dict, "partial_rotary_factor", 0.0, 1.0, 1.0, &partial, err);
    if (rc == PHX_OK && partial != 1)
        rc = PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "partial_rotary_factor %g of %s: supported is 1", partial,
                      where);
    if (rc == PHX_OK && rope.kind == PHX_ROPE_YARN) {
        rc = real_key(dict, "factor", 1.0, 1e4, (double)NAN, &rope.factor, err);
        if (rc == PHX_OK)
            rc = real_key(dict, "beta_fast", 1e-6, 1e6, 32.0, &rope.beta_fast, err);
        if (rc == PHX_OK)
            rc = real_key(dict, "beta_slow", 1e-6, 1e6, 1.0, &rope.beta_slow, err);
        if (rc == PHX_OK)
            rc = real_key(dict, "mscale", 0.0, 100.0, 1.0, &rope.mscale, err);
        if (rc == PHX_OK)
            rc = real_key(dict, "mscale_all_dim", 0.0, 100.0, 0.0, &rope.mscale_all_dim, err);
        if (rc == PHX_OK)
            rc =
                real_key(dict, "original_max_position_embeddings", 1.0, 1 << 24, (double)NAN, &original, err);
        if (rc == PHX_OK)
            rc = bool_key(dict, "truncate", true, &truncate, err);
        if (rc == PHX_OK && !truncate)
            rc = PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "rope scaling with truncate false is not supported");
        if (rc == PHX_OK)
            rc = refuse_attention_factor(dict, &rope, where, err);
        if (rc != PHX_OK)
            return rc;
        rope.n_original = (int64_t)original;
    }
    if (rc == PHX_OK)
        *ret_rope = rope;
    return rc;
}

static bool same_rope(const phx_rope *a, const phx_rope *b)
{
    return a->kind == b->kind && a->factor == b->factor && a->beta_fast == b->beta_fast &&
           a->beta_slow == b->beta_slow && a->mscale == b->mscale && a->mscale_all_dim == b->mscale_all_dim &&
           a->n_original == b->n_original;
}

/* theta stands in the new dictionary, in the old one, or beside them; wherever it is given it is the same. */
static phx_code parse_theta(const phx_json *const *homes, const char *const *names, size_t n,
                            double *ret_theta, phx_error *err)
{
    double theta = 0;
    size_t first = n;
    for (size_t i = 0; i < n; i++) {
        double value = 0;
        if (phx_json_is_null(phx_json_get(homes[i], "rope_theta")))
            continue;
        const phx_code rc = real_key(homes[i], "rope_theta", 1.0, 1e12, (double)NAN, &value, err);
        if (rc != PHX_OK)
            return rc;
        if (first < n && value != theta)
            return PHX_FAIL(err, PHX_ERR_CORRUPT,
                            "rope_theta is %g in %s but %g in %s: remove the one that does not hold", theta,
                            names[first], value, names[i]);
        first = first < n ? first : i;
        theta = value;
    }
    if (first == n)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "key 'rope_theta' is missing");
    *ret_theta = theta;
    return PHX_OK;
}

/* The new spelling (rope_parameters) and the old one (rope_scaling): makers write either; where both stand
 * they have to agree, for nothing says which of them was meant. */
static phx_code parse_rope(const phx_json *config, phx_rope *ret_rope, phx_error *err)
{
    static const char *const names[] = {"rope_parameters", "rope_scaling", "the config itself"};
    const phx_json *dicts[3] = {phx_json_get(config, names[0]), phx_json_get(config, names[1]), config};
    phx_rope ropes[2];
    for (size_t i = 0; i < 2; i++) {
        if (phx_json_is_null(dicts[i]))
            dicts[i] = NULL;
        const phx_code rc = parse_rope_dict(dicts[i], names[i], &ropes[i], err);
        if (rc != PHX_OK)
            return rc;
    }
    if (dicts[0] && dicts[1] && !same_rope(&ropes[0], &ropes[1]))
        return PHX_FAIL(
            err, PHX_ERR_CORRUPT,
            "rope_parameters and rope_scaling contradict each other: remove the one that does not "
            "hold");
    phx_rope rope = ropes[dicts[0] ? 0 : 1];
    const phx_code rc = parse_theta(dicts, names, 3, &rope.theta, err);
    if (rc == PHX_OK)
        *ret_rope = rope;
    return rc;
}

static phx_code parse_types(const phx_json *config, phx_dims *dims, const phx_family **ret_family,
                            phx_error *err)
{
    phx_str type = {NULL, 0};
    phx_str architecture = {"", 0};
    if (!phx_json_as_str(phx_json_get(config, "model_type"), &type))
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "key 'model_type' is missing or no string");
    (void)phx_json_as_str(phx_json_at(phx_json_get(config, "architectures"), 0), &architecture);
    const bool fits = phx_str_copy(dims->model_type, sizeof(dims->model_type), type);
    const phx_family *family = fits ? phx_family_find(dims->model_type) : NULL;
    if (!family) {
        char names[256] = "";
        for (size_t i = 0, at = 0; phx_family_at(i) && at < sizeof(names); i++)
            at += (size_t)snprintf(names + at, sizeof(names) - at, "%s%s", i ? ", " : "",
                                   phx_family_at(i)->name);
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "model_type '%.*s' is not supported; supported: %s",
                        (int)(type.n < 80 ? type.n : 80), type.ptr, names);
    }
    if (!phx_str_copy(dims->architecture, sizeof(dims->architecture), architecture))
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "architectures[0] is longer than %zu bytes",
                        sizeof(dims->architecture) - 1);
    *ret_family = family;
    return PHX_OK;
}

/* The text model's own object, where a config also describes other parts (vision). */
static phx_code text_config(const phx_json *config, const phx_family *family, const phx_json **ret_text,
                            phx_error *err)
{
    const phx_json *text = phx_json_get(config, family->text_key);
    phx_str type = {"", 0};
    if (!text || phx_json_kind_of(text) != PHX_JSON_OBJECT)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "key '%s' is missing or no object", family->text_key);
    if (!phx_json_as_str(phx_json_get(text, "model_type"), &type))
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "key 'model_type' of %s is missing or no string",
                        family->text_key);
    for (const char *const *known = family->text_types; *known; known++) {
        if (phx_str_is(type, *known)) {
            *ret_text = text;
            return PHX_OK;
        }
    }
    return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "model_type '%.*s' of %s is not supported with %s",
                    (int)(type.n < 80 ? type.n : 80), type.ptr, family->text_key, family->name);
}

/* Keys whose other values would change the arithmetic: only the value that the code computes is let through,
 * and null, which means absent. */
static phx_code refuse_texts(const phx_json *config, phx_error *err)
{
    static const struct {
        const char *key;
        const char *value;
    } texts[] = {{"hidden_act", "silu"},
                 {"scoring_func", "sigmoid"},
                 {"topk_method", "noaux_tc"},
                 {"moe_router_dtype", "float32"}};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        const phx_json *node = phx_json_get(config, texts[i].key);
        phx_str value = {"", 0};
        if (phx_json_is_null(node))
            continue;
        if (!phx_json_as_str(node, &value) || !phx_str_is(value, texts[i].value))
            return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "%s '%.*s': supported is %s", texts[i].key,
                            (int)(value.n < 80 ? value.n : 80), value.ptr, texts[i].value);
    }
    return PHX_OK;
}

static phx_code refuse_bools(const phx_json *config, phx_error *err)
{
    static const struct {
        const char *key;
        bool value;
    } bools[] = {{"attention_bias", false},
                 {"mlp_bias", false},
                 {"tie_word_embeddings", false},
                 {"rope_interleave", true}};
    for (size_t i = 0; i < sizeof(bools) / sizeof(bools[0]); i++) {
        bool value = false;
        const phx_code rc = bool_key(config, bools[i].key, bools[i].value, &value, err);
        if (rc != PHX_OK)
            return rc;
        if (value != bools[i].value)
            return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "%s %s is not supported", bools[i].key,
                            value ? "true" : "false");
    }
    return PHX_OK;
}

/* Windows, limits and caps are written 0 for "none". */
static phx_code refuse_numbers(const phx_json *config, const phx_dims *dims, phx_error *err)
{
    const struct {
        const char *key;
        double value;
    } numbers[] = {{"moe_layer_freq", 1},
                   {"partial_rotary_factor", 1},
                   {"num_key_value_heads", (double)dims->n_heads}, /* latent attention has no groups */
                   {"sliding_window", 0},
                   {"swiglu_limit", 0},
                   {"attn_logit_softcapping", 0},
                   {"final_logit_softcapping", 0}};
    bool use_window = true;
    phx_code rc = bool_key(config, "use_sliding_window", true, &use_window, err);
    for (size_t i = 0; rc == PHX_OK && i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        double value = 0;
        if (!use_window && strcmp(numbers[i].key, "sliding_window") == 0)
            continue;
        rc = real_key(config, numbers[i].key, -1e300, 1e300, numbers[i].value, &value, err);
        if (rc == PHX_OK && value != numbers[i].value)
            rc = PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "%s %g: supported is %g", numbers[i].key, value,
                          numbers[i].value);
    }
    return rc;
}

static phx_code refuse_unknown(const phx_json *config, const phx_dims *dims, phx_error *err)
{
    phx_code rc = refuse_texts(config, err);
    if (rc == PHX_OK)
        rc = refuse_bools(config, err);
    if (rc == PHX_OK)
        rc = refuse_numbers(config, dims, err);
    return rc;
}

/* What each tensor really is, its stored dtype says; this only refuses methods that no tensor format covers.
 */
static phx_code parse_quantisation(const phx_json *config, phx_dims *dims, phx_error *err)
{
    phx_quantisation quantisation;
    const phx_code rc =
        phx_quantisation_parse(phx_json_get(config, "quantization_config"), &quantisation, err);
    if (rc == PHX_OK)
        dims->fp8_scale_ue8m0 = quantisation.fp8_scale_ue8m0;
    return rc;
}

/* Adds the ids of eos_token_id (number or list) that are not known yet: models differ between their two
 * files. */
static phx_code add_eos(const phx_json *config, const char *where, phx_dims *dims, phx_error *err)
{
    const phx_json *node = phx_json_get(config, "eos_token_id");
    if (phx_json_is_null(node))
        return PHX_OK;
    const bool is_list = phx_json_kind_of(node) == PHX_JSON_ARRAY;
    const size_t n = is_list ? phx_json_count(node) : 1;
    for (size_t i = 0; i < n; i++) {
        int64_t id = 0;
        int64_t known = 0;
        if (!phx_json_as_whole(is_list ? phx_json_at(node, i) : node, &id) || id < 0 || id >= dims->n_vocab)
            return PHX_FAIL(err, PHX_ERR_CORRUPT, "%s: eos_token_id holds something that is no id below %lld",
                            where, (long long)dims->n_vocab);
        while (known < dims->n_eos && dims->eos_ids[known] != id)
            known++;
        if (known < dims->n_eos)
            continue;
        if (dims->n_eos == PHX_EOS_MAX)
            return PHX_FAIL(err, PHX_ERR_TOO_LONG, "%s: more than %d end-of-sequence ids", where,
                            PHX_EOS_MAX);
        dims->eos_ids[dims->n_eos++] = id;
    }
    return PHX_OK;
}

static phx_code check_together(const phx_dims *dims, phx_error *err)
{
    const int64_t per_group = dims->n_experts / dims->n_expert_groups;
    if (dims->n_layers_dense > dims->n_layers)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "first_k_dense_replace is larger than num_hidden_layers");
    if ((dims->n_layers + dims->n_layers_mtp) * dims->n_experts > EXPERT_SLOTS_MAX)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "layers times experts exceed %d", EXPERT_SLOTS_MAX);
    if (dims->d_rope % 2 != 0)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "qk_rope_head_dim %lld is odd", (long long)dims->d_rope);
    if (dims->n_experts % dims->n_expert_groups != 0 || dims->n_expert_groups_used > dims->n_expert_groups ||
        (dims->n_expert_groups > 1 && per_group < 2))
        return PHX_FAIL(err, PHX_ERR_CORRUPT,
                        "%lld experts do not form %lld groups, of two or more each, of which %lld are kept",
                        (long long)dims->n_experts, (long long)dims->n_expert_groups,
                        (long long)dims->n_expert_groups_used);
    if (dims->n_experts_used > per_group * dims->n_expert_groups_used)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "num_experts_per_tok %lld exceeds the %lld candidates",
                        (long long)dims->n_experts_used, (long long)(per_group * dims->n_expert_groups_used));
    if (dims->index_n_heads > 0 && dims->index_d < dims->d_rope)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "index_head_dim %lld is less than qk_rope_head_dim %lld",
                        (long long)dims->index_d, (long long)dims->d_rope);
    if (dims->index_n_heads > 0 && dims->q_lora == 0)
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "an indexer needs q_lora_rank, which is null");
    if (dims->bos_id >= dims->n_vocab)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "bos_token_id is outside the vocabulary");
    return PHX_OK;
}

/* ---- rotary embedding, models.md 2.3 and 2.4 ---- */

/* models.md 2.3: mscale(f, m) = 0.1 m ln f + 1 for f > 1, else 1. */
static double yarn_mscale(double factor, double m)
{
    return factor > 1 ? 0.1 * m * log(factor) + 1.0 : 1.0;
}

double phx_dims_softmax_scale(const phx_dims *dims)
{
    const phx_rope *rope = &dims->rope;
    const double base = 1.0 / sqrt((double)(dims->d_nope + dims->d_rope));
    if (rope->kind != PHX_ROPE_YARN)
        return base;
    const double mscale = yarn_mscale(rope->factor, rope->mscale_all_dim);
    return base * mscale * mscale;
}

double phx_dims_rope_scale(const phx_dims *dims)
{
    const phx_rope *rope = &dims->rope;
    if (rope->kind != PHX_ROPE_YARN)
        return 1.0;
    return yarn_mscale(rope->factor, rope->mscale) / yarn_mscale(rope->factor, rope->mscale_all_dim);
}

/* The channel pair whose wavelength makes n_turns over the original context. */
static double yarn_channel(const phx_rope *rope, double d, double n_turns)
{
    const double two_pi = 6.283185307179586476925286766559;
    return d * log((double)rope->n_original / (two_pi * n_turns)) / (2.0 * log(rope->theta));
}

void phx_dims_rope_freqs(const phx_dims *dims, double *ret_freqs)
{
    const phx_rope *rope = &dims->rope;
    const double d = (double)dims->d_rope;
    double low = 0;
    double high = 0;
    if (rope->kind == PHX_ROPE_YARN) {
        low = fmax(floor(yarn_channel(rope, d, rope->beta_fast)), 0.0);
        high = fmin(ceil(yarn_channel(rope, d, rope->beta_slow)), d - 1.0);
        if (low == high)
            high += 0.001;
    }
    for (int64_t i = 0; i < dims->d_rope / 2; i++) {
        const double f = pow(rope->theta, -2.0 * (double)i / d);
        double ramp = 0;
        if (rope->kind == PHX_ROPE_YARN)
            ramp = fmin(fmax(((double)i - low) / (high - low), 0.0), 1.0);
        ret_freqs[i] = rope->kind == PHX_ROPE_YARN ? f / rope->factor * ramp + f * (1.0 - ramp) : f;
    }
}
