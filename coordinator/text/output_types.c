/* coordinator/text/output_types.c - types of parameters; see output_types.h. */
#include "coordinator/text/output_types.h"

#include "base/alloc.h"
#include "coordinator/text/output_impl.h"

#define TYPES_MAX       8u
#define NESTING_MAX     4u /* anyOf and $ref inside each other */
#define TYPES_BYTES_MAX (16u << 20)

typedef enum json_type {
    TYPE_STRING = 1,
    TYPE_NUMBER,
    TYPE_INTEGER,
    TYPE_BOOLEAN,
    TYPE_NULL,
    TYPE_OBJECT,
    TYPE_ARRAY
} json_type;

/* Followed by the bytes of the tool's name and of the parameter's. */
typedef struct record {
    uint32_t n_tool;
    uint32_t n_parameter;
    uint8_t types[TYPES_MAX]; /* 0: no more */
} record;

struct phx_output_types {
    size_t n_bytes; /* of records */
    char bytes[];
};

/* ---- reading schemas ---- */

typedef struct type_list {
    uint8_t types[TYPES_MAX];
    size_t n;
} type_list;

static void add(type_list *list, json_type type)
{
    if (list->n < TYPES_MAX)
        list->types[list->n++] = (uint8_t)type;
}

static void add_name(type_list *list, phx_str name)
{
    static const struct {
        const char *name;
        json_type type;
    } names[] = {{"string", TYPE_STRING},   {"str", TYPE_STRING},   {"text", TYPE_STRING},
                 {"number", TYPE_NUMBER},   {"float", TYPE_NUMBER}, {"double", TYPE_NUMBER},
                 {"integer", TYPE_INTEGER}, {"int", TYPE_INTEGER},  {"boolean", TYPE_BOOLEAN},
                 {"bool", TYPE_BOOLEAN},    {"null", TYPE_NULL},    {"object", TYPE_OBJECT},
                 {"dict", TYPE_OBJECT},     {"array", TYPE_ARRAY},  {"list", TYPE_ARRAY}};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (phx_str_is(name, names[i].name))
            add(list, names[i].type);
    }
}

static void add_value(type_list *list, const phx_json *value)
{
    static const json_type of_kind[] = {
        [PHX_JSON_NULL] = TYPE_NULL,    [PHX_JSON_BOOL] = TYPE_BOOLEAN,  [PHX_JSON_INT] = TYPE_INTEGER,
        [PHX_JSON_REAL] = TYPE_NUMBER,  [PHX_JSON_STRING] = TYPE_STRING, [PHX_JSON_ARRAY] = TYPE_ARRAY,
        [PHX_JSON_OBJECT] = TYPE_OBJECT};
    const json_type type = of_kind[phx_json_kind_of(value)];
    if (!memchr(list->types, (int)type, list->n))
        add(list, type);
}

static const phx_json *resolve(const phx_json *root, phx_str ref)
{
    static const char *const keys[] = {"$defs", "definitions"};
    for (size_t k = 0; k < 2; k++) {
        const phx_json *definitions = phx_json_get(root, keys[k]);
        for (phx_json_member it = phx_json_first(definitions); it.value;
             it = phx_json_next(definitions, it)) {
            if (ref.n > it.key.n && ref.ptr[ref.n - it.key.n - 1] == '/' && phx_str_ends(ref, it.key))
                return it.value;
        }
    }
    return NULL;
}

static void read_schema(const phx_json *root, const phx_json *schema, unsigned nesting, type_list *list)
{
    static const char *const choices[] = {"anyOf", "oneOf", "allOf", "enum", "type"};
    phx_str text;
    if (nesting > NESTING_MAX || !schema)
        return;
    if (phx_json_as_str(phx_json_get(schema, "$ref"), &text)) {
        read_schema(root, resolve(root, text), nesting + 1, list);
        return;
    }
    if (phx_json_as_str(phx_json_get(schema, "type"), &text)) {
        add_name(list, text);
        return;
    }
    for (size_t c = 0; c < sizeof(choices) / sizeof(choices[0]) && list->n == 0; c++) {
        const phx_json *items = phx_json_get(schema, choices[c]);
        for (size_t i = 0; items && phx_json_kind_of(items) == PHX_JSON_ARRAY && i < phx_json_count(items);
             i++) {
            const phx_json *item = phx_json_at(items, i);
            if (c < 3)
                read_schema(root, item, nesting + 1, list);
            else if (c == 3)
                add_value(list, item);
            else if (phx_json_as_str(item, &text))
                add_name(list, text);
        }
    }
    if (list->n == 0 && phx_json_get(schema, "const"))
        add_value(list, phx_json_get(schema, "const"));
    if (list->n == 0 && (phx_json_get(schema, "properties") || phx_json_get(schema, "items")))
        add(list, phx_json_get(schema, "properties") ? TYPE_OBJECT : TYPE_ARRAY);
}

static void put_tool(phx_buf *buf, const phx_chat_tool *tool)
{
    const phx_json *properties = phx_json_get(tool->parameters, "properties");
    for (phx_json_member it = phx_json_first(properties); it.value; it = phx_json_next(properties, it)) {
        type_list list = {{0}, 0};
        read_schema(tool->parameters, it.value, 0, &list);
        if (list.n == 0 || (list.n == 1 && list.types[0] == TYPE_STRING))
            continue; /* the same as not there */
        record r = {.n_tool = (uint32_t)tool->name.n, .n_parameter = (uint32_t)it.key.n};
        memcpy(r.types, list.types, sizeof(r.types));
        (void)phx_buf_append(buf, &r, sizeof(r));
        (void)phx_buf_append(buf, tool->name.ptr, tool->name.n);
        (void)phx_buf_append(buf, it.key.ptr, it.key.n);
    }
}

static phx_code make(phx_str bytes, phx_output_types **ret_types, phx_error *err)
{
    phx_output_types *types = phx_alloc(sizeof(*types) + bytes.n + 1, 1);
    if (!types)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "types of tools, %zu bytes", bytes.n);
    types->n_bytes = bytes.n;
    if (bytes.n)
        memcpy(types->bytes, bytes.ptr, bytes.n);
    *ret_types = types;
    return PHX_OK;
}

phx_code phx_output_types_create(const phx_chat *chat, phx_output_types **ret_types, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_output_types *types = NULL;
    phx_buf buf;
    phx_buf_init(&buf, TYPES_BYTES_MAX);
    for (size_t i = 0; i < chat->n_tools; i++)
        put_tool(&buf, &chat->tools[i]);
    if (buf.code != PHX_OK)
        rc = PHX_FAIL(err, buf.code, "tools: the names of their parameters take more than %u bytes",
                      TYPES_BYTES_MAX);
    else if (chat->n_tools > 0)
        rc = make(phx_buf_view(&buf), &types, err);
    if (rc == PHX_OK)
        *ret_types = types;
    phx_buf_done(&buf);
    return rc;
}

phx_code phx_output_types_copy(const phx_output_types *types, phx_output_types **ret_copy, phx_error *err)
{
    if (types)
        return make((phx_str){types->bytes, types->n_bytes}, ret_copy, err);
    *ret_copy = NULL;
    return PHX_OK;
}

void phx_output_types_destroy(phx_output_types *types)
{
    phx_free(types);
}

/* ---- deciding ---- */

static bool find(const phx_output_types *types, phx_str tool, phx_str parameter, record *ret_record)
{
    for (size_t at = 0; types && at < types->n_bytes;) {
        record r;
        memcpy(&r, types->bytes + at, sizeof(r));
        const phx_str names[2] = {{types->bytes + at + sizeof(r), r.n_tool},
                                  {types->bytes + at + sizeof(r) + r.n_tool, r.n_parameter}};
        if (phx_str_eq(names[0], tool) && phx_str_eq(names[1], parameter)) {
            *ret_record = r;
            return true;
        }
        at += sizeof(r) + r.n_tool + r.n_parameter;
    }
    return false;
}

static bool fits(json_type type, phx_json_kind kind)
{
    switch (type) {
    case TYPE_NUMBER:
        return kind == PHX_JSON_INT || kind == PHX_JSON_REAL;
    case TYPE_INTEGER:
        return kind == PHX_JSON_INT;
    case TYPE_BOOLEAN:
        return kind == PHX_JSON_BOOL;
    case TYPE_NULL:
        return kind == PHX_JSON_NULL;
    case TYPE_OBJECT:
        return kind == PHX_JSON_OBJECT;
    case TYPE_ARRAY:
        return kind == PHX_JSON_ARRAY;
    case TYPE_STRING:
        break;
    }
    return false;
}

/* null is looked for before strings: a schema that allows it lists it last. */
static bool allows(const record *r, phx_str json)
{
    phx_json_kind kind = PHX_JSON_STRING;
    if (!phx_output_is_json(json, &kind))
        return false;
    if (kind == PHX_JSON_NULL)
        return memchr(r->types, TYPE_NULL, TYPES_MAX) != NULL;
    for (size_t i = 0; i < TYPES_MAX && r->types[i] && r->types[i] != TYPE_STRING; i++) {
        if (fits((json_type)r->types[i], kind))
            return true;
    }
    return false;
}

phx_output_form phx_output_types_form(const phx_output_types *types, phx_str tool, phx_str parameter,
                                      phx_str text)
{
    record r = {0};
    phx_buf json;
    const phx_str value = phx_output_trimmed(text);
    if (!find(types, tool, parameter, &r))
        return PHX_OUTPUT_STRING;
    if (allows(&r, value))
        return PHX_OUTPUT_JSON;
    phx_buf_init(&json, 2 * value.n + 1);
    const bool is_python = phx_output_python_json(value, &json) && allows(&r, phx_buf_view(&json));
    phx_buf_done(&json);
    return is_python ? PHX_OUTPUT_PYTHON : PHX_OUTPUT_STRING;
}
