/* model/quantisation.c - reading and writing quantization_config. */
#include "model/quantisation.h"

#define FP8_BLOCK  128
#define GROUPS_MAX 64
#define IGNORE_MAX 100000

/* Absent, null, or an object without members. */
static bool is_empty(const phx_json *node)
{
    return phx_json_is_null(node) || (phx_json_kind_of(node) == PHX_JSON_OBJECT && phx_json_count(node) == 0);
}

static phx_str short_text(const phx_json *node)
{
    phx_str text = {"", 0};
    if (!phx_json_as_str(node, &text))
        return phx_str_of(phx_json_kind_name(node));
    return (phx_str){text.ptr, text.n < 80 ? text.n : 80};
}

/* Absent, null, or the given text. */
static bool is_text_or_null(const phx_json *node, const char *expected)
{
    phx_str text = {"", 0};
    return phx_json_is_null(node) || (phx_json_as_str(node, &text) && phx_str_is(text, expected));
}

static phx_code parse_fp8(const phx_json *object, phx_quantisation *quantisation, phx_error *err)
{
    const phx_json *block = phx_json_get(object, "weight_block_size");
    for (size_t i = 0; !phx_json_is_null(block) && i < 2; i++) {
        int64_t size = 0;
        if (phx_json_count(block) != 2 || !phx_json_as_whole(phx_json_at(block, i), &size) ||
            size != FP8_BLOCK)
            return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "weight_block_size: supported is [128, 128]");
    }
    const phx_json *fmt = phx_json_get(object, "fmt");
    if (!is_text_or_null(fmt, "e4m3") && !is_text_or_null(fmt, "float8_e4m3fn"))
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "fp8 fmt '%.*s': supported is e4m3",
                        PHX_STR_ARG(short_text(fmt)));
    const phx_json *scale_fmt = phx_json_get(object, "scale_fmt");
    if (!is_text_or_null(scale_fmt, "ue8m0"))
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "fp8 scale_fmt '%.*s': supported is ue8m0",
                        PHX_STR_ARG(short_text(scale_fmt)));
    /* We leave activations in bf16, which stands for scales made on the fly; scales of the checkpoint's own
     * would go unread. */
    const phx_json *scheme = phx_json_get(object, "activation_scheme");
    if (!is_text_or_null(scheme, "dynamic"))
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED,
                        "fp8 activation_scheme '%.*s': supported is dynamic; scales of activations in the "
                        "checkpoint would be left unread",
                        PHX_STR_ARG(short_text(scheme)));
    quantisation->format = PHX_FORMAT_FP8_BLOCK;
    quantisation->fp8_scale_ue8m0 = !phx_json_is_null(scale_fmt);
    return PHX_OK;
}

/* One group's `weights`: 4-bit integers, symmetric, 32 columns to a scale, columns in their own order. */
static phx_code check_weights(const phx_json *weights, phx_error *err)
{
    int64_t n_bits = 0;
    int64_t group_size = 0;
    bool flag = false;
    const phx_json *dynamic = phx_json_get(weights, "dynamic");
    const phx_json *order = phx_json_get(weights, "actorder");
    const bool no_order = phx_json_is_null(order) || (phx_json_as_bool(order, &flag) && !flag);
    if (phx_json_is_null(weights))
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "compressed-tensors: a group says nothing about weights");
    if (!phx_json_as_whole(phx_json_get(weights, "num_bits"), &n_bits) || n_bits != 4)
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "compressed-tensors num_bits %lld: supported is 4",
                        (long long)n_bits);
    if (!is_text_or_null(phx_json_get(weights, "type"), "int"))
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "compressed-tensors type '%.*s': supported is int",
                        PHX_STR_ARG(short_text(phx_json_get(weights, "type"))));
    const phx_json *symmetric = phx_json_get(weights, "symmetric"); /* absent: true */
    if (!phx_json_is_null(symmetric) && (!phx_json_as_bool(symmetric, &flag) || !flag))
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED,
                        "compressed-tensors symmetric false: zero points are not supported");
    if (!is_text_or_null(phx_json_get(weights, "strategy"), "group"))
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "compressed-tensors strategy '%.*s': supported is group",
                        PHX_STR_ARG(short_text(phx_json_get(weights, "strategy"))));
    if (!phx_json_as_whole(phx_json_get(weights, "group_size"), &group_size) || group_size != PHX_INT4_GROUP)
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "compressed-tensors group_size %lld: supported is 32",
                        (long long)group_size);
    if (!no_order)
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED,
                        "compressed-tensors actorder '%.*s': permuted columns are not supported",
                        PHX_STR_ARG(short_text(order)));
    if (!phx_json_is_null(dynamic) && (!phx_json_as_bool(dynamic, &flag) || flag))
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "compressed-tensors dynamic: weights have to be static");
    return PHX_OK;
}

static phx_code parse_compressed(const phx_json *object, phx_quantisation *quantisation, phx_error *err)
{
    const phx_json *groups = phx_json_get(object, "config_groups");
    const phx_json *format = phx_json_get(object, "format");
    const phx_json *ignore = phx_json_get(object, "ignore");
    if (!is_text_or_null(format, "pack-quantized") || phx_json_is_null(format))
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED,
                        "compressed-tensors format '%.*s': supported is pack-quantized",
                        PHX_STR_ARG(short_text(format)));
    if (!phx_json_is_null(phx_json_get(object, "kv_cache_scheme")))
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "compressed-tensors kv_cache_scheme is not supported");
    if (!is_empty(phx_json_get(object, "transform_config")))
        return PHX_FAIL(
            err, PHX_ERR_UNSUPPORTED,
            "compressed-tensors transform_config is not supported: weights that were rotated need "
            "inputs that are");
    const phx_json *sparsity = phx_json_get(object, "sparsity_config");
    if (!is_empty(sparsity) && !is_text_or_null(phx_json_get(sparsity, "format"), "dense"))
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED,
                        "compressed-tensors sparsity_config '%.*s': supported is dense",
                        PHX_STR_ARG(short_text(phx_json_get(sparsity, "format"))));
    const bool is_object = groups && phx_json_kind_of(groups) == PHX_JSON_OBJECT;
    const size_t n_groups = is_object ? phx_json_count(groups) : 0;
    if (n_groups == 0 || n_groups > GROUPS_MAX)
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "compressed-tensors config_groups: 1 to %d groups",
                        GROUPS_MAX);
    for (phx_json_member it = phx_json_first(groups); it.value; it = phx_json_next(groups, it)) {
        if (!phx_json_is_null(phx_json_get(it.value, "input_activations")) ||
            !phx_json_is_null(phx_json_get(it.value, "output_activations")))
            return PHX_FAIL(err, PHX_ERR_UNSUPPORTED,
                            "compressed-tensors: quantised activations are not supported");
        if (!is_text_or_null(phx_json_get(it.value, "format"), "pack-quantized"))
            return PHX_FAIL(err, PHX_ERR_UNSUPPORTED,
                            "compressed-tensors format '%.*s': supported is pack-quantized",
                            PHX_STR_ARG(short_text(phx_json_get(it.value, "format"))));
        const phx_code rc = check_weights(phx_json_get(it.value, "weights"), err);
        if (rc != PHX_OK)
            return rc;
    }
    if (!phx_json_is_null(ignore) && phx_json_kind_of(ignore) != PHX_JSON_ARRAY)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "compressed-tensors ignore is a %s, not an array",
                        phx_json_kind_name(ignore));
    if (phx_json_count(ignore) > IGNORE_MAX)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "compressed-tensors ignore: more than %d names", IGNORE_MAX);
    for (size_t i = 0; i < phx_json_count(ignore); i++) {
        if (phx_json_kind_of(phx_json_at(ignore, i)) != PHX_JSON_STRING)
            return PHX_FAIL(err, PHX_ERR_CORRUPT, "compressed-tensors ignore: entry %zu is no text", i);
    }
    quantisation->format = PHX_FORMAT_INT4_G32;
    return PHX_OK;
}

phx_code phx_quantisation_parse(const phx_json *object, phx_quantisation *ret_quantisation, phx_error *err)
{
    phx_quantisation quantisation = {.format = PHX_FORMAT_BF16};
    phx_str method = {"", 0};
    phx_code rc = PHX_OK;
    if (!phx_json_is_null(object)) {
        (void)phx_json_as_str(phx_json_get(object, "quant_method"), &method);
        if (phx_str_is(method, "fp8"))
            rc = parse_fp8(object, &quantisation, err);
        else if (phx_str_is(method, "compressed-tensors"))
            rc = parse_compressed(object, &quantisation, err);
        else
            rc = PHX_FAIL(err, PHX_ERR_UNSUPPORTED,
                          "quant_method '%.*s': supported are fp8 with 128x128 blocks and compressed-tensors "
                          "with int4 groups of 32",
                          PHX_STR_ARG(short_text(phx_json_get(object, "quant_method"))));
    }
    if (rc == PHX_OK)
        *ret_quantisation = quantisation;
    return rc;
}

static void write_fp8(const phx_quantisation *quantisation, phx_json_writer *w)
{
    phx_json_begin_object(w);
    phx_json_key(w, "quant_method");
    phx_json_text(w, "fp8");
    phx_json_key(w, "fmt");
    phx_json_text(w, "e4m3");
    phx_json_key(w, "activation_scheme");
    phx_json_text(w, "dynamic");
    phx_json_key(w, "weight_block_size");
    phx_json_begin_array(w);
    phx_json_i64(w, FP8_BLOCK);
    phx_json_i64(w, FP8_BLOCK);
    phx_json_end_array(w);
    if (quantisation->fp8_scale_ue8m0) {
        phx_json_key(w, "scale_fmt");
        phx_json_text(w, "ue8m0");
    }
    phx_json_end_object(w);
}

/* As Kimi publishes it; eh_proj besides, which only models with MTP layers have. */
static void write_compressed(phx_json_writer *w)
{
    static const char *const ignored[] = {"lm_head", "re:.*self_attn.*", "re:.*shared_experts.*",
                                          "re:.*mlp\\.(gate|up|gate_up|down)_proj.*", "re:.*eh_proj.*"};
    phx_json_begin_object(w);
    phx_json_key(w, "quant_method");
    phx_json_text(w, "compressed-tensors");
    phx_json_key(w, "format");
    phx_json_text(w, "pack-quantized");
    phx_json_key(w, "quantization_status");
    phx_json_text(w, "compressed");
    phx_json_key(w, "config_groups");
    phx_json_raw(w, phx_str_of("{\"group_0\":{\"input_activations\":null,\"output_activations\":null,"
                               "\"targets\":[\"Linear\"],\"weights\":{\"actorder\":null,"
                               "\"block_structure\":null,\"dynamic\":false,\"group_size\":32,"
                               "\"num_bits\":4,\"observer\":\"minmax\",\"observer_kwargs\":{},"
                               "\"strategy\":\"group\",\"symmetric\":true,\"type\":\"int\"}}}"));
    phx_json_key(w, "ignore");
    phx_json_begin_array(w);
    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
        phx_json_text(w, ignored[i]);
    phx_json_end_array(w);
    phx_json_key(w, "kv_cache_scheme");
    phx_json_null(w);
    phx_json_end_object(w);
}

void phx_quantisation_write(const phx_quantisation *quantisation, phx_json_writer *w)
{
    if (quantisation->format == PHX_FORMAT_FP8_BLOCK)
        write_fp8(quantisation, w);
    else if (quantisation->format == PHX_FORMAT_INT4_G32)
        write_compressed(w);
    else
        phx_json_null(w);
}
