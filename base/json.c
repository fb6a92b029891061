/* base/json.c - bounded JSON reading over jansson. Writing is base/json_write.c. */
#include "base/json.h"

#include <assert.h>
#include <jansson.h>
#include <stdio.h>

#include "base/file.h"

static const json_t *jansson_of(const phx_json *node)
{
    return (const json_t *)(const void *)node;
}

static const phx_json *node_of(const json_t *value)
{
    return (const phx_json *)(const void *)value;
}

/* Depth, values, and keys of each object, by a scan that knows only strings and brackets. Counting errs on
 * the high side. */
static phx_code check_limits(phx_bytes text, phx_json_limits limits, phx_error *err)
{
    if (text.n > limits.n_bytes_max)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "JSON of %zu bytes, limit %zu", text.n, limits.n_bytes_max);
    size_t n_keys[PHX_JSON_DEPTH_ANY + 1]; /* of the arrays and objects that are open */
    size_t n_nodes = 1;
    uint32_t depth = 0;
    bool in_string = false;
    assert(limits.depth_max <= PHX_JSON_DEPTH_ANY);
    n_keys[0] = 0;
    for (size_t i = 0; i < text.n; i++) {
        const uint8_t c = text.ptr[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
            continue;
        }
        if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > limits.depth_max)
                return PHX_FAIL(err, PHX_ERR_TOO_LONG, "JSON nested deeper than %u at byte %zu",
                                limits.depth_max, i);
            n_keys[depth] = 0;
            n_nodes++;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        } else if (c == ',' || c == ':') {
            n_nodes++;
            if (c == ':' && ++n_keys[depth] > limits.n_keys_max)
                return PHX_FAIL(err, PHX_ERR_TOO_LONG, "JSON object with more than %zu keys",
                                limits.n_keys_max);
        }
        if (n_nodes > limits.n_nodes_max)
            return PHX_FAIL(err, PHX_ERR_TOO_LONG, "JSON with more than %zu values", limits.n_nodes_max);
    }
    return PHX_OK;
}

/* Rewrites whole numbers of more than INT_DIGITS digits with an exponent, in as many bytes: the last five
 * digits make room for the point and the exponent, which no double can tell. */
static void spell_big_ints(char *text, size_t n)
{
    enum { INT_DIGITS = 18, DIGITS_MAX = 300 };
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        if (in_string || text[i] < '0' || text[i] > '9') {
            if (in_string && text[i] == '\\')
                i++;
            else if (text[i] == '"')
                in_string = !in_string;
            continue;
        }
        size_t end = i;
        while (end < n && text[end] >= '0' && text[end] <= '9')
            end++;
        const size_t n_digits = end - i;
        const char before = i ? text[i - 1] : ' ';
        const char after = end < n ? text[end] : ' ';
        if (n_digits > INT_DIGITS && n_digits <= DIGITS_MAX && text[i] != '0' && !strchr(".eE+", before) &&
            !strchr(".eE", after)) {
            char exponent[8];
            memmove(text + i + 2, text + i + 1, n_digits - 6);
            text[i + 1] = '.';
            (void)snprintf(exponent, sizeof(exponent), "e%03zu", n_digits - 1);
            memcpy(text + end - 4, exponent, 4);
        }
        i = end - 1;
    }
}

/* *ret_root stays NULL when the text is wrong in another way too. */
static phx_code load_spelled(phx_bytes text, size_t flags, json_t **ret_root, json_error_t *where,
                             phx_error *err)
{
    phx_buf copy;
    phx_buf_init(&copy, text.n + 1);
    phx_code rc = phx_buf_append(&copy, text.ptr, text.n);
    if (rc == PHX_OK) {
        spell_big_ints(copy.ptr, copy.n);
        *ret_root = json_loadb(copy.ptr, copy.n, flags, where);
    } else {
        rc = PHX_FAIL(err, rc, "JSON of %zu bytes", text.n);
    }
    phx_buf_done(&copy);
    return rc;
}

static phx_code parse(phx_bytes text, phx_json_limits limits, bool lax, phx_json **ret_root, phx_error *err)
{
    const size_t flags = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY;
    phx_code rc = check_limits(text, limits, err);
    if (rc != PHX_OK)
        return rc;
    json_error_t where;
    json_t *root = json_loadb((const char *)text.ptr, text.n, flags, &where);
    if (!root && lax && json_error_code(&where) == json_error_numeric_overflow)
        rc = load_spelled(text, flags, &root, &where, err);
    if (rc != PHX_OK)
        return rc;
    if (!root)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "JSON line %d column %d: %s", where.line, where.column,
                        where.text);
    *ret_root = (phx_json *)(void *)root;
    return PHX_OK;
}

phx_code phx_json_parse(phx_bytes text, phx_json_limits limits, phx_json **ret_root, phx_error *err)
{
    return parse(text, limits, false, ret_root, err);
}

phx_code phx_json_parse_lax(phx_bytes text, phx_json_limits limits, phx_json **ret_root, phx_error *err)
{
    return parse(text, limits, true, ret_root, err);
}

phx_code phx_json_parse_file(const char *path, phx_json_limits limits, phx_json **ret_root, phx_error *err)
{
    phx_buf buf;
    phx_error inner = {0};
    phx_buf_init(&buf, limits.n_bytes_max);
    phx_code rc = phx_file_read(path, &buf, err);
    if (rc != PHX_OK)
        goto out;
    rc = phx_json_parse((phx_bytes){(const uint8_t *)buf.ptr, buf.n}, limits, ret_root, &inner);
    if (rc != PHX_OK)
        rc = PHX_FAIL(err, rc, "'%s': %s", path, inner.text);
out:
    phx_buf_done(&buf);
    return rc;
}

void phx_json_destroy(phx_json *root)
{
    if (root)
        json_decref((json_t *)(void *)root);
}

phx_json_kind phx_json_kind_of(const phx_json *node)
{
    switch (json_typeof(jansson_of(node))) {
    case JSON_OBJECT:
        return PHX_JSON_OBJECT;
    case JSON_ARRAY:
        return PHX_JSON_ARRAY;
    case JSON_STRING:
        return PHX_JSON_STRING;
    case JSON_INTEGER:
        return PHX_JSON_INT;
    case JSON_REAL:
        return PHX_JSON_REAL;
    case JSON_TRUE:
    case JSON_FALSE:
        return PHX_JSON_BOOL;
    case JSON_NULL:
        break;
    }
    return PHX_JSON_NULL;
}

const char *phx_json_kind_name(const phx_json *node)
{
    static const char *const names[] = {"null", "boolean", "integer", "number", "string", "array", "object"};
    return node ? names[phx_json_kind_of(node)] : "missing";
}

const phx_json *phx_json_get(const phx_json *node, const char *key)
{
    return node_of(json_object_get(jansson_of(node), key));
}

size_t phx_json_count(const phx_json *node)
{
    const json_t *value = jansson_of(node);
    return json_is_array(value)    ? json_array_size(value)
           : json_is_object(value) ? json_object_size(value)
                                   : 0;
}

const phx_json *phx_json_at(const phx_json *array, size_t idx)
{
    return node_of(json_array_get(jansson_of(array), idx));
}

static phx_json_member member_at(void *at)
{
    if (!at)
        return (phx_json_member){0};
    return (phx_json_member){phx_str_of(json_object_iter_key(at)), node_of(json_object_iter_value(at)), at};
}

phx_json_member phx_json_first(const phx_json *object)
{
    return member_at(json_object_iter((json_t *)(uintptr_t)jansson_of(object)));
}

phx_json_member phx_json_next(const phx_json *object, phx_json_member it)
{
    return member_at(json_object_iter_next((json_t *)(uintptr_t)jansson_of(object), it.at));
}

bool phx_json_as_str(const phx_json *node, phx_str *ret_value)
{
    const json_t *value = jansson_of(node);
    if (!json_is_string(value))
        return false;
    *ret_value = (phx_str){json_string_value(value), json_string_length(value)};
    return true;
}

bool phx_json_as_bool(const phx_json *node, bool *ret_value)
{
    const json_t *value = jansson_of(node);
    if (!json_is_boolean(value))
        return false;
    *ret_value = json_is_true(value);
    return true;
}

bool phx_json_as_i64(const phx_json *node, int64_t *ret_value)
{
    const json_t *value = jansson_of(node);
    if (!json_is_integer(value))
        return false;
    *ret_value = json_integer_value(value);
    return true;
}

bool phx_json_as_f64(const phx_json *node, double *ret_value)
{
    const json_t *value = jansson_of(node);
    if (!json_is_number(value))
        return false;
    *ret_value = json_number_value(value);
    return true;
}
