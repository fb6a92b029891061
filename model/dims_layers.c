/* model/dims_layers.c - lists and rules of config.json about single layers: which are dense, which have an
 * indexer and which share one (models.md 1). */
#include "model/dims_layers.h"

#include <assert.h>

/* The word of a layer in a list of words; {NULL, 0}: the config has no such list. */
static phx_code word_of(const phx_json *config, const char *key, const phx_dims *dims, int64_t layer,
                        phx_str *ret_word, phx_error *err)
{
    const phx_json *list = phx_json_get(config, key);
    *ret_word = (phx_str){NULL, 0};
    if (phx_json_is_null(list))
        return PHX_OK;
    if (phx_json_kind_of(list) != PHX_JSON_ARRAY || phx_json_count(list) < (size_t)dims->n_layers)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "key '%s' is no list of %lld layers", key,
                        (long long)dims->n_layers);
    if (!phx_json_as_str(phx_json_at(list, (size_t)layer), ret_word))
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "%s of layer %lld is no string", key, (long long)layer);
    return PHX_OK;
}

static phx_code other_word(const char *key, int64_t layer, phx_str word, const char *supported,
                           phx_error *err)
{
    return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "%s of layer %lld is '%.*s': supported is %s", key,
                    (long long)layer, (int)(word.n < 80 ? word.n : 80), word.ptr, supported);
}

/* The list repeats what first_k_dense_replace says. */
static phx_code check_mlp(const phx_json *config, const phx_dims *dims, phx_error *err)
{
    static const char key[] = "mlp_layer_types";
    for (int64_t l = 0; l < dims->n_layers; l++) {
        const char *want = phx_layer_is_moe(dims, l) ? "sparse" : "dense";
        phx_str word;
        const phx_code rc = word_of(config, key, dims, l, &word, err);
        if (rc != PHX_OK)
            return rc;
        if (word.ptr && !phx_str_is(word, want))
            return other_word(key, l, word, want, err);
    }
    return PHX_OK;
}

typedef struct sharing {
    int64_t freq;
    int64_t offset;
    phx_str pattern; /* a letter per layer; {NULL, 0}: none */
} sharing;

static phx_code rule_number(const phx_json *config, const char *key, int64_t min, int64_t *number,
                            phx_error *err)
{
    const phx_json *node = phx_json_get(config, key);
    if (!phx_json_is_null(node) &&
        (!phx_json_as_i64(node, number) || *number < min || *number > PHX_LAYERS_MAX))
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "key '%s' must be a whole number from %lld to %d", key,
                        (long long)min, PHX_LAYERS_MAX);
    return PHX_OK;
}

static phx_code parse_sharing(const phx_json *config, const phx_dims *dims, sharing *ret_sharing,
                              phx_error *err)
{
    sharing s = {.freq = 1, .offset = 2};
    const phx_json *pattern = phx_json_get(config, "index_topk_pattern");
    phx_code rc = rule_number(config, "index_topk_freq", 1, &s.freq, err);
    if (rc == PHX_OK)
        rc = rule_number(config, "index_skip_topk_offset", 0, &s.offset, err);
    if (rc == PHX_OK && !phx_json_is_null(pattern) &&
        (!phx_json_as_str(pattern, &s.pattern) || s.pattern.n < (size_t)dims->n_layers))
        rc = PHX_FAIL(err, PHX_ERR_CORRUPT, "key 'index_topk_pattern' is no string of %lld letters",
                      (long long)dims->n_layers);
    if (rc == PHX_OK)
        *ret_sharing = s;
    return rc;
}

/* Does the layer share? The list says so, else the pattern, else the two numbers. */
static phx_code layer_shares(const phx_json *config, const phx_dims *dims, const sharing *s, int64_t layer,
                             bool *ret_shares, phx_error *err)
{
    phx_str word;
    const phx_code rc = word_of(config, "indexer_types", dims, layer, &word, err);
    if (rc != PHX_OK)
        return rc;
    if (word.ptr) {
        *ret_shares = phx_str_is(word, "shared");
        if (!*ret_shares && !phx_str_is(word, "full"))
            return other_word("indexer_types", layer, word, "full or shared", err);
    } else if (s->pattern.ptr) {
        word = (phx_str){s->pattern.ptr + layer, 1};
        *ret_shares = word.ptr[0] == 'S';
        if (!*ret_shares && word.ptr[0] != 'F')
            return other_word("index_topk_pattern", layer, word, "F or S", err);
    } else {
        const int64_t since = layer - s->offset + 1;
        *ret_shares = (since > 0 ? since : 0) % s->freq != 0;
    }
    return PHX_OK;
}

phx_code phx_dims_parse_layers(const phx_json *config, const phx_family *family, phx_dims *dims,
                               phx_error *err)
{
    sharing s;
    phx_code rc = check_mlp(config, dims, err);
    if (rc == PHX_OK)
        rc = parse_sharing(config, dims, &s, err);
    assert(dims->n_layers <= PHX_LAYERS_MAX);
    for (int64_t l = 0; l < dims->n_layers && rc == PHX_OK; l++) {
        bool shares = false;
        rc = layer_shares(config, dims, &s, l, &shares, err);
        if (rc != PHX_OK || !shares)
            continue;
        if (!family->has_indexer)
            return PHX_FAIL(
                err, PHX_ERR_UNSUPPORTED,
                "layer %lld shares the selection of an indexer, and a model of family %s has none",
                (long long)l, family->name);
        if (l == 0)
            return PHX_FAIL(err, PHX_ERR_CORRUPT,
                            "layer 0 shares an indexer's selection: there is none before it");
        dims->index_shared[l / 64] |= (uint64_t)1 << (l % 64);
    }
    return rc;
}
