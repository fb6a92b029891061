/* base/json.c - bounded JSON reading over jansson. Writing is base/json_write.c. */
#include "base/json.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>

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

/* ---- numbers past what jansson holds
 *
 * They pass through it as strings: a NUL, then the number as written. No string of a document is stored like
 * that: a NUL in it is refused, and where phx_json_parse_loose takes one at the front it is doubled. */

#define NUL_ESCAPE "\\u0000"

static bool is_carried(const json_t *value)
{
    const char *text = json_string_value(value); /* NULL for other kinds */
    return text && text[0] == 0 && json_string_length(value) > 1 && text[1] != 0;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Bytes of the number at the front of a terminated text, by JSON's grammar; 0: it is none. */
static size_t number_bytes(const char *text, bool *ret_is_whole)
{
    static const char digits[] = "0123456789";
    const size_t first = text[0] == '-';
    size_t n = first + strspn(text + first, digits);
    if (n == first || (text[first] == '0' && n > first + 1))
        return 0;
    *ret_is_whole = text[n] != '.' && text[n] != 'e' && text[n] != 'E';
    if (text[n] == '.') {
        const size_t n_fraction = strspn(text + n + 1, digits);
        if (n_fraction == 0)
            return 0;
        n += 1 + n_fraction;
    }
    if (text[n] == 'e' || text[n] == 'E') {
        const size_t n_mark = text[n + 1] == '-' || text[n + 1] == '+' ? 2 : 1;
        const size_t n_exponent = strspn(text + n + n_mark, digits);
        if (n_exponent == 0)
            return 0;
        n += n_mark + n_exponent;
    }
    return n;
}

/* Bytes of the run of number characters at the front of a terminated text; *ret_is_past: it is a number that
 * int64_t or double cannot hold. */
static size_t read_number(const char *text, bool *ret_is_past)
{
    bool is_whole = false;
    const size_t n_run = strspn(text, "-+.eE0123456789");
    *ret_is_past = false;
    if (number_bytes(text, &is_whole) != n_run)
        return n_run;
    if (is_whole) {
        errno = 0;
        (void)strtoll(text, NULL, 10);
        *ret_is_past = errno == ERANGE;
    } else {
        *ret_is_past = isinf(strtod(text, NULL));
    }
    return n_run;
}

/* In place: 0 and spaces for each such number, so that jansson checks the rest and names true columns. */
static void blank_numbers(char *text, size_t n)
{
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        bool is_past = false;
        if (text[i] == '"')
            in_string = !in_string;
        else if (in_string && text[i] == '\\')
            i++;
        if (in_string || (text[i] != '-' && !is_digit(text[i])))
            continue;
        const size_t n_run = read_number(text + i, &is_past);
        if (is_past) {
            memset(text + i, ' ', n_run);
            text[i] = '0';
        }
        i += n_run - 1;
    }
}

/* Of the escape \uXXXX at the front of a terminated text; 0 when there is none. */
static unsigned escape_unit(const char *text)
{
    char hex[5] = {0};
    if (text[0] != '\\' || text[1] != 'u' || strspn(text + 2, "0123456789abcdefABCDEF") < 4)
        return 0;
    memcpy(hex, text + 2, 4);
    return (unsigned)strtoul(hex, NULL, 16);
}

/* Bytes of the escape at the front; *ret_is_half: half of a surrogate pair alone. */
static size_t escape_bytes(const char *text, bool *ret_is_half)
{
    const unsigned unit = escape_unit(text);
    *ret_is_half = false;
    if (unit < 0xD800 || unit > 0xDFFF)
        return 2;
    const unsigned next = escape_unit(text + 6);
    *ret_is_half = unit > 0xDBFF || next < 0xDC00 || next > 0xDFFF;
    return *ret_is_half ? 6 : 12;
}

/* The text as jansson can take it. Failure is latched in the buffer. */
static void write_carried(phx_buf *to, const char *text, size_t n, bool is_loose)
{
    bool in_string = false;
    size_t kept = 0; /* all before is written */
    size_t n_read = 1;
    for (size_t i = 0; i < n; i += n_read) {
        bool is_odd = false; /* a number past the limits, or half of a pair */
        n_read = 1;
        if (text[i] == '"') {
            in_string = !in_string;
            if (!is_loose || !in_string || strncmp(text + i + 1, NUL_ESCAPE, 6) != 0)
                continue;
            (void)phx_buf_append(to, text + kept, i + 1 - kept);
            (void)phx_buf_str(to, NUL_ESCAPE);
            kept = i + 1;
        } else if (in_string && text[i] == '\\') {
            n_read = escape_bytes(text + i, &is_odd);
            if (!is_loose || !is_odd)
                continue;
            (void)phx_buf_append(to, text + kept, i - kept);
            (void)phx_buf_str(to, "\\ufffd");
            kept = i + n_read;
        } else if (!in_string && (text[i] == '-' || is_digit(text[i]))) {
            n_read = read_number(text + i, &is_odd);
            if (!is_odd)
                continue;
            (void)phx_buf_append(to, text + kept, i - kept);
            (void)phx_buf_str(to, "\"" NUL_ESCAPE);
            (void)phx_buf_append(to, text + i, n_read);
            (void)phx_buf_char(to, '"');
            kept = i + n_read;
        }
    }
    (void)phx_buf_append(to, text + kept, n - kept);
}

/* *ret_root stays NULL when the text is wrong in another way too. */
static phx_code load_carried(phx_bytes text, bool is_loose, json_t **ret_root, json_error_t *where,
                             phx_error *err)
{
    const size_t flags = JSON_DECODE_ANY | (is_loose ? JSON_ALLOW_NUL : JSON_REJECT_DUPLICATES);
    json_t *plain = NULL;
    phx_buf copy;
    phx_buf carried;
    phx_buf_init(&copy, text.n + 1);
    phx_buf_init(&carried, 4 * text.n + 16);
    phx_code rc = phx_buf_append(&copy, text.ptr, text.n);
    if (rc == PHX_OK) {
        write_carried(&carried, copy.ptr, copy.n, is_loose);
        rc = carried.code;
    }
    if (rc != PHX_OK) {
        rc = PHX_FAIL(err, rc, "JSON of %zu bytes", text.n);
        goto out;
    }
    json_t *root = json_loadb(carried.ptr, carried.n, flags | JSON_ALLOW_NUL, where);
    if (!root || !is_loose) {
        blank_numbers(copy.ptr, copy.n);
        plain = json_loadb(copy.ptr, copy.n, flags, where);
    }
    if (root && (plain || is_loose))
        *ret_root = root;
    else
        json_decref(root);
out:
    json_decref(plain);
    phx_buf_done(&carried);
    phx_buf_done(&copy);
    return rc;
}

static phx_code parse(phx_bytes text, phx_json_limits limits, bool is_loose, phx_json **ret_root,
                      phx_error *err)
{
    phx_code rc = check_limits(text, limits, err);
    if (rc != PHX_OK)
        return rc;
    json_error_t where;
    json_t *root = NULL;
    const size_t flags = JSON_DECODE_ANY | (is_loose ? 0 : JSON_REJECT_DUPLICATES);
    bool carries = is_loose && text.n && memmem(text.ptr, text.n, "\\u", 2);
    if (!carries) {
        root = json_loadb((const char *)text.ptr, text.n, flags, &where);
        carries = !root && json_error_code(&where) == json_error_numeric_overflow;
    }
    if (carries)
        rc = load_carried(text, is_loose, &root, &where, err);
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

phx_code phx_json_parse_loose(phx_bytes text, phx_json_limits limits, phx_json **ret_root, phx_error *err)
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
    phx_str literal;
    if (phx_json_as_literal(node, &literal))
        return strpbrk(literal.ptr, ".eE") ? PHX_JSON_REAL : PHX_JSON_INT;
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

bool phx_json_is_null(const phx_json *node)
{
    return !node || phx_json_kind_of(node) == PHX_JSON_NULL;
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
    if (!json_is_string(value) || is_carried(value))
        return false;
    const phx_str text = {json_string_value(value), json_string_length(value)};
    const bool is_doubled = text.n > 1 && text.ptr[0] == 0;
    *ret_value = (phx_str){text.ptr + is_doubled, text.n - is_doubled};
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

bool phx_json_as_u64(const phx_json *node, uint64_t *ret_value)
{
    phx_str literal;
    int64_t value = 0;
    if (phx_json_as_literal(node, &literal))
        return phx_str_to_u64(literal, 0, UINT64_MAX, ret_value);
    if (!phx_json_as_i64(node, &value) || value < 0)
        return false;
    *ret_value = (uint64_t)value;
    return true;
}

bool phx_json_as_whole(const phx_json *node, int64_t *ret_value)
{
    double real;
    if (phx_json_as_i64(node, ret_value))
        return true;
    if (!phx_json_as_f64(node, &real) || !(fabs(real) < 0x1p53) || floor(real) != real)
        return false;
    *ret_value = (int64_t)real;
    return true;
}

bool phx_json_as_f64(const phx_json *node, double *ret_value)
{
    const json_t *value = jansson_of(node);
    phx_str literal;
    if (phx_json_as_literal(node, &literal)) {
        *ret_value = strtod(literal.ptr, NULL);
        return true;
    }
    if (!json_is_number(value))
        return false;
    *ret_value = json_number_value(value);
    return true;
}

bool phx_json_as_literal(const phx_json *node, phx_str *ret_literal)
{
    const json_t *value = jansson_of(node);
    if (!value || !is_carried(value))
        return false;
    *ret_literal = (phx_str){json_string_value(value) + 1, json_string_length(value) - 1};
    return true;
}
