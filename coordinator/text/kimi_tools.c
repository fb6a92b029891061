/* coordinator/text/kimi_tools.c - JSON schemas as TypeScript types; see kimi_tools.h.
 * Recursion is bounded by the depth of a request's JSON (PHX_JSON_DEPTH_MAX). */
#include "coordinator/text/kimi_tools.h"

#include "coordinator/text/pyjson.h"

typedef struct ts_writer {
    phx_buf *buf;
    const phx_json *definitions; /* $defs of the function, or NULL */
    bool refers_to_itself;       /* "$ref": "#" */
    bool failed;
} ts_writer;

static void write_type(ts_writer *w, const phx_json *schema, unsigned indent);

static void put(ts_writer *w, phx_str text)
{
    (void)phx_buf_append(w->buf, text.ptr, text.n);
}

static void put_text(ts_writer *w, const char *text)
{
    (void)phx_buf_str(w->buf, text);
}

static void put_indent(ts_writer *w, unsigned indent)
{
    for (unsigned i = 0; i < indent; i++)
        put_text(w, "  ");
}

static bool is_object(const phx_json *node)
{
    return node && phx_json_kind_of(node) == PHX_JSON_OBJECT;
}

static bool is_array(const phx_json *node)
{
    return node && phx_json_kind_of(node) == PHX_JSON_ARRAY;
}

static phx_str text_of(const phx_json *object, const char *key)
{
    phx_str text = {"", 0};
    (void)phx_json_as_str(phx_json_get(object, key), &text);
    return text;
}

/* str(value) of Python for a scalar; anything else has no place in the form. */
static void put_scalar(ts_writer *w, const phx_json *node)
{
    phx_str text;
    bool flag = false;
    if (phx_json_as_str(node, &text))
        put(w, text);
    else if (phx_json_as_bool(node, &flag))
        put_text(w, flag ? "True" : "False");
    else if (node && phx_json_is_null(node))
        put_text(w, "None");
    else if (is_array(node) || is_object(node) || !node)
        w->failed = true;
    else
        (void)phx_pyjson_node(w->buf, node);
}

/* ---- comments ---- */

static void put_description(ts_writer *w, phx_str text, unsigned indent)
{
    while (text.n > 0) {
        const char *end = memchr(text.ptr, '\n', text.n);
        const size_t n = end ? (size_t)(end - text.ptr) : text.n;
        if (n > 0) {
            put_indent(w, indent);
            put_text(w, "// ");
            put(w, (phx_str){text.ptr, n});
        }
        put_text(w, "\n");
        text = (phx_str){text.ptr + n + (end ? 1 : 0), text.n - n - (end ? 1 : 0)};
        if (end && text.n == 0) /* a line end at the end makes one more, empty line */
            put_text(w, "\n");
    }
}

/* Constraints that the form shows, of each type, sorted. */
static const char *const *constraints_of(const phx_json *schema)
{
    static const char *const of_strings[] = {"maxLength", "minLength", "pattern", NULL};
    static const char *const of_numbers[] = {"maximum", "minimum", NULL};
    static const char *const of_arrays[] = {"maxItems", "minItems", NULL};
    const phx_str type = text_of(schema, "type");
    if (phx_json_get(schema, "$ref") || phx_json_get(schema, "anyOf") || phx_json_get(schema, "enum"))
        return NULL;
    if (phx_str_is(type, "string"))
        return of_strings;
    if (phx_str_is(type, "number") || phx_str_is(type, "integer"))
        return of_numbers;
    return phx_str_is(type, "array") ? of_arrays : NULL;
}

static void put_docstring(ts_writer *w, const phx_json *schema, unsigned indent)
{
    const char *const *names = constraints_of(schema);
    bool first = true;
    put_description(w, text_of(schema, "description"), indent);
    for (; names && *names; names++) {
        const phx_json *value = phx_json_get(schema, *names);
        if (!value)
            continue;
        if (first)
            put_indent(w, indent);
        put_text(w, first ? "// " : ", ");
        put_text(w, *names);
        put_text(w, ": ");
        put_scalar(w, value);
        first = false;
    }
    if (!first)
        put_text(w, "\n");
}

static void put_default(ts_writer *w, const phx_json *value, unsigned indent)
{
    if (phx_json_is_null(value))
        return;
    put_indent(w, indent);
    put_text(w, "// Default: ");
    if (phx_json_kind_of(value) == PHX_JSON_BOOL)
        put_scalar(w, value);
    else
        (void)phx_pyjson_node(w->buf, value);
    put_text(w, "\n");
}

/* ---- types ---- */

static bool is_required(const phx_json *schema, phx_str name)
{
    const phx_json *required = phx_json_get(schema, "required");
    bool found = false;
    for (size_t i = 0; i < phx_json_count(required) && is_array(required) && !found; i++) {
        phx_str one;
        found = phx_json_as_str(phx_json_at(required, i), &one) && phx_str_eq(one, name);
    }
    return found;
}

static int compare(phx_str a, phx_str b)
{
    const int order = memcmp(a.ptr, b.ptr, a.n < b.n ? a.n : b.n);
    return order ? order : (a.n > b.n) - (a.n < b.n);
}

static void put_property(ts_writer *w, phx_json_member property, bool required, unsigned indent)
{
    put_docstring(w, property.value, indent);
    put_default(w, phx_json_get(property.value, "default"), indent);
    put_indent(w, indent);
    put(w, property.key);
    put_text(w, required ? ": " : "?: ");
    write_type(w, property.value, indent);
}

/* The property that comes next by name among the required or the other ones; value NULL: none. */
static phx_json_member next_property(const phx_json *schema, const phx_json_member *last, bool required)
{
    const phx_json *properties = phx_json_get(schema, "properties");
    phx_json_member found = {{"", 0}, NULL, NULL};
    for (phx_json_member it = phx_json_first(properties); it.value; it = phx_json_next(properties, it)) {
        if (is_required(schema, it.key) != required || (last && compare(it.key, last->key) <= 0))
            continue;
        if (!found.value || compare(it.key, found.key) < 0)
            found = it;
    }
    return found;
}

static size_t put_properties(ts_writer *w, const phx_json *schema, unsigned indent)
{
    size_t n = 0;
    for (int group = 0; group < 2; group++) {
        phx_json_member it = next_property(schema, NULL, group == 0);
        for (; it.value && !w->failed && w->buf->code == PHX_OK; n++) {
            const phx_json_member last = it;
            put_text(w, n ? ",\n" : "\n");
            put_property(w, it, group == 0, indent + 1);
            it = next_property(schema, &last, group == 0);
        }
    }
    return n;
}

static void write_object(ts_writer *w, const phx_json *schema, unsigned indent)
{
    const phx_json *others = phx_json_get(schema, "additionalProperties");
    bool any = false;
    put_text(w, "{");
    size_t n = put_properties(w, schema, indent);
    if (others && phx_json_kind_of(others) != PHX_JSON_NULL) {
        put_text(w, n ? ",\n" : "\n");
        put_indent(w, indent + 1);
        put_text(w, "[k: string]: ");
        if (phx_json_as_bool(others, &any))
            put_text(w, any ? "any" : "never");
        else
            write_type(w, others, indent + 1);
        n++;
    }
    if (n) {
        put_text(w, "\n");
        put_indent(w, indent);
    }
    put_text(w, "}");
}

static bool has_docstring(const phx_json *schema)
{
    const char *const *names = constraints_of(schema);
    bool found = text_of(schema, "description").n > 0;
    for (; names && *names; names++)
        found = found || phx_json_get(schema, *names);
    return found;
}

static void write_array(ts_writer *w, const phx_json *schema, unsigned indent)
{
    const phx_json *items = phx_json_get(schema, "items");
    bool any = false;
    const bool is_empty = !items || (is_object(items) && phx_json_count(items) == 0) ||
                          phx_json_kind_of(items) == PHX_JSON_NULL || (phx_json_as_bool(items, &any) && !any);
    if (is_empty) {
        put_text(w, "Array<any>");
    } else if (has_docstring(items)) {
        put_text(w, "Array<\n");
        put_docstring(w, items, indent + 1);
        put_indent(w, indent + 1);
        write_type(w, items, indent + 1);
        put_text(w, "\n");
        put_indent(w, indent);
        put_text(w, ">");
    } else {
        put_text(w, "Array<");
        write_type(w, items, indent);
        put_text(w, ">");
    }
}

/* Of "type" next to "enum": a name, or a pair of one with null. */
static bool enum_type(const phx_json *type, phx_str *ret_name)
{
    *ret_name = (phx_str){"", 0};
    if (!type || phx_json_as_str(type, ret_name))
        return true;
    const size_t n = phx_json_count(type);
    phx_str names[2] = {{"", 0}, {"", 0}};
    for (size_t i = 0; i < n && n <= 2; i++) {
        if (!phx_json_as_str(phx_json_at(type, i), &names[i]))
            return false;
    }
    *ret_name = n == 2 && phx_str_is(names[0], "null") ? names[1] : names[0];
    return is_array(type) &&
           (n == 1 || (n == 2 && (phx_str_is(names[0], "null") || phx_str_is(names[1], "null"))));
}

static bool fits_type(const phx_json *value, phx_str type)
{
    const phx_json_kind kind = phx_json_kind_of(value);
    if (kind == PHX_JSON_NULL)
        return true;
    if (phx_str_is(type, "string"))
        return kind == PHX_JSON_STRING;
    if (phx_str_is(type, "boolean"))
        return kind == PHX_JSON_BOOL;
    if (phx_str_is(type, "integer"))
        return kind == PHX_JSON_INT || kind == PHX_JSON_BOOL;
    if (phx_str_is(type, "number"))
        return kind == PHX_JSON_INT || kind == PHX_JSON_REAL || kind == PHX_JSON_BOOL;
    return true;
}

static void write_enum(ts_writer *w, const phx_json *schema)
{
    const phx_json *values = phx_json_get(schema, "enum");
    phx_str type;
    w->failed = w->failed || !is_array(values) || !enum_type(phx_json_get(schema, "type"), &type);
    for (size_t i = 0; i < phx_json_count(values) && !w->failed; i++) {
        const phx_json *value = phx_json_at(values, i);
        const char *quote = phx_json_kind_of(value) == PHX_JSON_STRING ? "\"" : "";
        put_text(w, i ? " | " : "");
        put_text(w, quote);
        put_scalar(w, value);
        put_text(w, quote);
        w->failed = w->failed || !fits_type(value, type);
    }
}

static void write_union(ts_writer *w, const phx_json *types)
{
    static const char *const names[][2] = {
        {"string", "string"}, {"number", "number"}, {"integer", "number"},  {"boolean", "boolean"},
        {"null", "null"},     {"object", "{}"},     {"array", "Array<any>"}};
    for (size_t i = 0; i < phx_json_count(types) && !w->failed; i++) {
        phx_str name = {"", 0};
        const char *found = NULL;
        (void)phx_json_as_str(phx_json_at(types, i), &name);
        for (size_t k = 0; k < sizeof(names) / sizeof(names[0]); k++)
            found = phx_str_is(name, names[k][0]) ? names[k][1] : found;
        put_text(w, i ? " | " : "");
        put_text(w, found ? found : "");
        w->failed = w->failed || !found;
    }
}

/* "#" is the function's own parameters; "#/$defs/NAME" must be there. */
static void write_ref(ts_writer *w, phx_str ref)
{
    static const char defs[] = "#/$defs/";
    if (phx_str_is(ref, "#")) {
        w->refers_to_itself = true;
        put_text(w, "parameters");
        return;
    }
    const bool known_form = phx_str_starts(ref, phx_str_of(defs));
    phx_str name = known_form ? (phx_str){ref.ptr + sizeof(defs) - 1, ref.n - (sizeof(defs) - 1)} : ref;
    for (size_t i = 0; i < name.n; i++) {
        if (name.ptr[i] == '/') {
            name = (phx_str){name.ptr + i + 1, name.n - i - 1};
            i = (size_t)-1;
        }
    }
    bool found = false;
    for (phx_json_member it = phx_json_first(w->definitions); it.value;
         it = phx_json_next(w->definitions, it))
        found = found || phx_str_eq(it.key, name);
    w->failed = w->failed || !known_form || !found;
    put(w, name);
}

static void write_type(ts_writer *w, const phx_json *schema, unsigned indent)
{
    bool any = false;
    const phx_json *type = phx_json_get(schema, "type");
    const phx_json *types = phx_json_get(schema, "anyOf");
    const phx_str name = text_of(schema, "type");
    if (w->failed || w->buf->code != PHX_OK)
        return;
    if (phx_json_as_bool(schema, &any)) {
        put_text(w, any ? "any" : "null");
    } else if (phx_json_get(schema, "$ref")) {
        write_ref(w, text_of(schema, "$ref"));
    } else if (types) {
        w->failed = !is_array(types);
        for (size_t i = 0; i < phx_json_count(types) && !w->failed; i++) {
            put_text(w, i ? " | " : "");
            write_type(w, phx_json_at(types, i), indent);
        }
    } else if (phx_json_get(schema, "enum")) {
        write_enum(w, schema);
    } else if (is_array(type)) {
        write_union(w, type);
    } else if (phx_str_is(name, "object")) {
        write_object(w, schema, indent);
    } else if (phx_str_is(name, "array")) {
        write_array(w, schema, indent);
    } else if (name.n > 0) {
        put(w, phx_str_is(name, "integer") ? phx_str_of("number") : name);
    } else if (is_object(schema) && phx_json_count(schema) == 0) {
        put_text(w, "any");
    } else {
        w->failed = true;
    }
}

/* ---- functions ---- */

static void write_definitions(ts_writer *w)
{
    for (phx_json_member it = phx_json_first(w->definitions); it.value && !w->failed;
         it = phx_json_next(w->definitions, it)) {
        put_description(w, text_of(it.value, "description"), 0);
        put_text(w, "interface ");
        put(w, it.key);
        put_text(w, " ");
        write_type(w, it.value, 0);
        put_text(w, "\n");
    }
}

/* In the interface of a function that refers to itself, properties keep the order of the schema. */
static void write_self(ts_writer *w, const phx_json *schema)
{
    const phx_json *properties = phx_json_get(schema, "properties");
    bool first = true;
    put_text(w, "interface parameters {");
    for (phx_json_member it = phx_json_first(properties); it.value && !w->failed;
         it = phx_json_next(properties, it)) {
        put_text(w, first ? "\n" : ",\n");
        put_property(w, it, is_required(schema, it.key), 1);
        first = false;
    }
    put_text(w, first ? "}\n" : "\n}\n");
}

static void write_function(ts_writer *w, const phx_chat_tool *tool)
{
    const phx_json *schema = tool->parameters;
    const phx_json *definitions = phx_json_get(schema, "$defs");
    phx_buf parameters;
    w->definitions = is_object(definitions) ? definitions : NULL;
    w->refers_to_itself = false;
    /* The parameters come last in the text, but say whether they refer to themselves. */
    phx_buf *const to = w->buf;
    phx_buf_init(&parameters, to->n_max);
    w->buf = &parameters;
    if (schema && phx_json_count(schema) > 0)
        write_object(w, schema, 0);
    else
        put_text(w, "{}");
    w->buf = to;
    if (w->refers_to_itself)
        write_self(w, schema);
    write_definitions(w);
    put_description(w, tool->description, 0);
    put_text(w, "type ");
    put(w, tool->name);
    put_text(w, " = (_: ");
    put(w, w->refers_to_itself ? phx_str_of("parameters") : phx_buf_view(&parameters));
    put_text(w, ") => any;\n");
    if (parameters.code != PHX_OK && to->code == PHX_OK)
        to->code = parameters.code;
    phx_buf_done(&parameters);
}

bool phx_kimi_tools(const phx_chat_tool *tools, size_t n_tools, phx_buf *buf)
{
    ts_writer w = {.buf = buf};
    put_text(&w, "# Tools\n\n## functions\nnamespace functions {\n");
    for (size_t i = 0; i < n_tools && !w.failed; i++)
        write_function(&w, &tools[i]);
    put_text(&w, "}\n");
    return !w.failed;
}
