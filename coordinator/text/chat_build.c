/* coordinator/text/chat_build.c - a conversation out of an OpenAI chat request, every field checked.
 * Owns: which fields a message may have, the JSON paths in errors, joining text parts.
 * Not here: matching tool results to calls (chat_link.c), the request's other fields (coordinator/api). */
#include "coordinator/text/chat_build.h"

#include <stdio.h>

#include "base/alloc.h"

#define PATH_BYTES 96

typedef struct builder {
    phx_chat *chat;
    phx_error *err;
    char path[PATH_BYTES]; /* of the object being read, "messages[3]" */
} builder;

static phx_code build_tools(builder *b, const phx_json *node, phx_chat_tool **tools, size_t *n_tools);
static phx_code build_tool_choice(builder *b, const phx_json *node);
static phx_code build_message(builder *b, const phx_json *node, phx_chat_message *message);
static phx_code build_content(builder *b, const phx_json *node, phx_chat_message *message);
static phx_code build_calls(builder *b, const phx_json *node, phx_chat_message *message);
static phx_code check_message_tools(builder *b);

phx_code phx_chat_build(const phx_chat_request *request, phx_chat **ret_chat, phx_error *err)
{
    phx_code rc = PHX_OK;
    builder b = {.err = err};
    const size_t n = phx_json_count(request->messages);
    phx_chat *chat = phx_alloc(1, sizeof(*chat));
    if (!chat) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "a conversation");
        goto out;
    }
    b.chat = chat;
    if (!request->messages || phx_json_kind_of(request->messages) != PHX_JSON_ARRAY || n == 0) {
        rc = PHX_FAIL(err, PHX_ERR_INVALID, "messages: expected a non-empty array, got %s%s",
                      phx_json_kind_name(request->messages),
                      request->messages && phx_json_kind_of(request->messages) == PHX_JSON_ARRAY ? " of none"
                                                                                                 : "");
        goto out;
    }
    if (n > PHX_CHAT_MESSAGES_MAX) {
        rc = PHX_FAIL(err, PHX_ERR_TOO_LONG, "messages: %zu of them, limit %u", n, PHX_CHAT_MESSAGES_MAX);
        goto out;
    }
    chat->messages = phx_alloc(n, sizeof(*chat->messages));
    if (!chat->messages) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "%zu messages", n);
        goto out;
    }
    rc = build_tools(&b, request->tools, &chat->tools, &chat->n_tools);
    for (size_t i = 0; rc == PHX_OK && i < n; i++) {
        (void)snprintf(b.path, sizeof(b.path), "messages[%zu]", i);
        chat->n_messages = i + 1; /* a half-built message is still destroyed */
        rc = build_message(&b, phx_json_at(request->messages, i), &chat->messages[i]);
    }
    if (rc == PHX_OK)
        rc = check_message_tools(&b);
    if (rc == PHX_OK)
        rc = build_tool_choice(&b, request->tool_choice);
    if (rc == PHX_OK)
        rc = phx_chat_link_results(chat, err);
    if (rc != PHX_OK)
        goto out;
    *ret_chat = chat;
    chat = NULL;
out:
    phx_chat_destroy(chat);
    return rc;
}

void phx_chat_destroy(phx_chat *chat)
{
    if (!chat)
        return;
    for (size_t i = 0; i < chat->n_messages; i++) {
        phx_chat_message *message = &chat->messages[i];
        for (size_t j = 0; j < message->n_calls; j++)
            phx_json_destroy(message->calls[j].parsed);
        phx_free(message->calls);
        phx_free(message->tools);
        phx_free(message->joined);
    }
    phx_free(chat->messages);
    phx_free(chat->tools);
    phx_free(chat);
}

/* ---- small readers
 * ----------------------------------------------------------------------------------------- */

static phx_code wrong(builder *b, const char *field, const char *expected, const phx_json *node)
{
    return PHX_FAIL(b->err, PHX_ERR_INVALID, "%s%s: expected %s, got %s", b->path, field, expected,
                    phx_json_kind_name(node));
}

static phx_code count_text(builder *b, phx_str text)
{
    b->chat->text_bytes += text.n;
    if (b->chat->text_bytes > PHX_CHAT_TEXT_BYTES_MAX)
        return PHX_FAIL(b->err, PHX_ERR_TOO_LONG, "%s: the texts of the conversation exceed %u bytes",
                        b->path, PHX_CHAT_TEXT_BYTES_MAX);
    return PHX_OK;
}

static phx_code unknown_field(builder *b, const char *where, phx_str key)
{
    return PHX_FAIL(b->err, PHX_ERR_INVALID, "%s%s.%.*s: unknown field", b->path, where,
                    (int)(key.n > 64 ? 64 : key.n), key.ptr);
}

/* allowed ends with NULL. */
static phx_code only_fields(builder *b, const char *where, const phx_json *object, const char *const *allowed)
{
    for (phx_json_member it = phx_json_first(object); it.value; it = phx_json_next(object, it)) {
        const char *const *name = allowed;
        while (*name && !phx_str_is(it.key, *name))
            name++;
        if (!*name)
            return unknown_field(b, where, it.key);
    }
    return PHX_OK;
}

/* A string, or null or absent for empty. field starts with a dot, for the path. */
static phx_code read_text(builder *b, const phx_json *object, const char *field, phx_str *text)
{
    const phx_json *node = phx_json_get(object, field + 1);
    if (phx_json_is_null(node))
        return PHX_OK;
    if (!phx_json_as_str(node, text))
        return wrong(b, field, "string", node);
    return count_text(b, *text);
}

static phx_code read_name(builder *b, const phx_json *object, phx_str *name)
{
    const phx_json *node = phx_json_get(object, "name");
    if (!phx_json_as_str(node, name))
        return wrong(b, ".name", "string", node);
    if (!phx_chat_name_valid(*name))
        return PHX_FAIL(b->err, PHX_ERR_INVALID, "%s.name: expected 1 to %u letters, digits or _ - . : /",
                        b->path, PHX_CHAT_NAME_BYTES_MAX);
    return count_text(b, *name);
}

/* ---- fields of a message
 * ----------------------------------------------------------------------------------- */

#define ROLE(role) (1u << (role))
#define ANY_ROLE   0x1Fu
#define HAS_TOOLS  (ROLE(PHX_CHAT_SYSTEM) | ROLE(PHX_CHAT_DEVELOPER))

/* Fields that a message may have, by role. null_only: clients echo them from answers, we never fill them. */
typedef struct field_rule {
    const char *name;
    unsigned roles;
    bool null_only;
} field_rule;

static const field_rule field_rules[] = {
    {"role", ANY_ROLE, false},
    {"content", ANY_ROLE, false},
    {"name", ANY_ROLE, false},
    {"reasoning_content", ROLE(PHX_CHAT_ASSISTANT), false},
    {"reasoning", ROLE(PHX_CHAT_ASSISTANT), false},
    {"tool_calls", ROLE(PHX_CHAT_ASSISTANT), false},
    {"tool_call_id", ROLE(PHX_CHAT_TOOL), false},
    {"tools", HAS_TOOLS, false},
    {"response_format", HAS_TOOLS, false},
    {"refusal", ROLE(PHX_CHAT_ASSISTANT), true},
    {"annotations", ROLE(PHX_CHAT_ASSISTANT), true},
    {"audio", ROLE(PHX_CHAT_ASSISTANT), true},
    {"function_call", ROLE(PHX_CHAT_ASSISTANT), true},
    {"parsed", ROLE(PHX_CHAT_ASSISTANT), true},
};

static const char *const role_names[] = {"system", "developer", "user", "assistant", "tool"};

static phx_code check_fields(builder *b, const phx_json *node, phx_chat_role role)
{
    for (phx_json_member it = phx_json_first(node); it.value; it = phx_json_next(node, it)) {
        const field_rule *rule = NULL;
        for (size_t i = 0; i < sizeof(field_rules) / sizeof(field_rules[0]); i++)
            if (phx_str_is(it.key, field_rules[i].name))
                rule = &field_rules[i];
        if (!rule)
            return unknown_field(b, "", it.key);
        const bool empty = phx_json_is_null(it.value) ||
                           (phx_json_kind_of(it.value) == PHX_JSON_ARRAY && phx_json_count(it.value) == 0);
        if (!empty && !(rule->roles & ROLE(role)))
            return PHX_FAIL(b->err, PHX_ERR_INVALID, "%s.%s: not allowed in a message of role %s", b->path,
                            rule->name, role_names[role]);
        if (!empty && rule->null_only)
            return PHX_FAIL(b->err, PHX_ERR_UNSUPPORTED, "%s.%s: not supported, send null or leave it out",
                            b->path, rule->name);
    }
    return PHX_OK;
}

static phx_code read_role(builder *b, const phx_json *node, phx_chat_role *role)
{
    phx_str text;
    const phx_json *value = phx_json_get(node, "role");
    if (!phx_json_as_str(value, &text))
        return wrong(b, ".role", "string", value);
    for (size_t i = 0; i < sizeof(role_names) / sizeof(role_names[0]); i++) {
        if (phx_str_is(text, role_names[i])) {
            *role = (phx_chat_role)i;
            return PHX_OK;
        }
    }
    return PHX_FAIL(b->err, PHX_ERR_INVALID,
                    "%s.role: '%.*s' is none of system, developer, user, assistant, tool", b->path,
                    (int)(text.n > 64 ? 64 : text.n), text.ptr);
}

static phx_code build_message(builder *b, const phx_json *node, phx_chat_message *message)
{
    if (phx_json_kind_of(node) != PHX_JSON_OBJECT)
        return wrong(b, "", "object", node);
    phx_code rc = read_role(b, node, &message->role);
    if (rc == PHX_OK)
        rc = check_fields(b, node, message->role);
    if (rc == PHX_OK)
        rc = build_content(b, phx_json_get(node, "content"), message);
    if (rc == PHX_OK)
        rc = read_text(b, node, ".name", &message->name);
    if (rc == PHX_OK)
        rc = read_text(b, node, ".reasoning", &message->reasoning);
    if (rc == PHX_OK)
        rc = read_text(b, node, ".reasoning_content", &message->reasoning);
    if (rc == PHX_OK)
        rc = read_text(b, node, ".tool_call_id", &message->tool_call_id);
    if (rc == PHX_OK)
        rc = build_calls(b, phx_json_get(node, "tool_calls"), message);
    if (rc != PHX_OK)
        return rc;
    const phx_json *format = phx_json_get(node, "response_format");
    if (!phx_json_is_null(format) && phx_json_kind_of(format) != PHX_JSON_OBJECT)
        return wrong(b, ".response_format", "object", format);
    message->response_format = phx_json_is_null(format) ? NULL : format;
    message->has_reasoning = !phx_json_is_null(phx_json_get(node, "reasoning_content")) ||
                             !phx_json_is_null(phx_json_get(node, "reasoning"));
    if (message->role == PHX_CHAT_TOOL && phx_json_is_null(phx_json_get(node, "tool_call_id")))
        return wrong(b, ".tool_call_id", "string", phx_json_get(node, "tool_call_id"));
    return build_tools(b, phx_json_get(node, "tools"), &message->tools, &message->n_tools);
}

/* ---- content
 * ----------------------------------------------------------------------------------------------- */

static phx_code read_part(builder *b, const phx_json *part, size_t idx, phx_str *text)
{
    phx_str type;
    char field[48];
    (void)snprintf(field, sizeof(field), ".content[%zu]", idx);
    if (phx_json_kind_of(part) != PHX_JSON_OBJECT)
        return wrong(b, field, "object", part);
    if (!phx_json_as_str(phx_json_get(part, "type"), &type))
        return PHX_FAIL(b->err, PHX_ERR_INVALID, "%s%s.type: expected string, got %s", b->path, field,
                        phx_json_kind_name(phx_json_get(part, "type")));
    if (!phx_str_is(type, "text"))
        return PHX_FAIL(b->err, PHX_ERR_UNSUPPORTED,
                        "%s%s.type: '%.*s' is not supported, this model reads text parts only", b->path,
                        field, (int)(type.n > 64 ? 64 : type.n), type.ptr);
    if (!phx_json_as_str(phx_json_get(part, "text"), text))
        return PHX_FAIL(b->err, PHX_ERR_INVALID, "%s%s.text: expected string, got %s", b->path, field,
                        phx_json_kind_name(phx_json_get(part, "text")));
    return only_fields(b, field, part, (const char *const[]){"type", "text", NULL});
}

static phx_code join_parts(builder *b, const phx_json *parts, phx_chat_message *message)
{
    phx_code rc = PHX_OK;
    phx_buf buf;
    phx_buf_init(&buf, PHX_CHAT_TEXT_BYTES_MAX);
    for (size_t i = 0; i < phx_json_count(parts); i++) {
        phx_str text = {"", 0};
        rc = read_part(b, phx_json_at(parts, i), i, &text);
        if (rc != PHX_OK)
            goto out;
        if (i)
            (void)phx_buf_char(&buf, '\n');
        (void)phx_buf_append(&buf, text.ptr, text.n);
    }
    if (buf.code != PHX_OK) {
        rc = PHX_FAIL(b->err, buf.code, "%s.content: text parts of more than %u bytes", b->path,
                      PHX_CHAT_TEXT_BYTES_MAX);
        goto out;
    }
    message->content = phx_buf_view(&buf);
    message->parts = parts;
    message->joined = buf.ptr;
    buf.ptr = NULL;
    rc = count_text(b, message->content);
out:
    phx_buf_done(&buf);
    return rc;
}

static phx_code build_content(builder *b, const phx_json *node, phx_chat_message *message)
{
    message->content = message->reasoning = message->name = message->tool_call_id = (phx_str){"", 0};
    if (phx_json_is_null(node) && message->role == PHX_CHAT_ASSISTANT)
        return PHX_OK;
    if (node && phx_json_kind_of(node) == PHX_JSON_ARRAY)
        return join_parts(b, node, message);
    if (!phx_json_as_str(node, &message->content))
        return wrong(b, ".content", "string or array of text parts", node);
    return count_text(b, message->content);
}

/* ---- tool calls of an assistant
 * ---------------------------------------------------------------------------- */

static phx_code check_function_type(builder *b, const phx_json *node)
{
    phx_str type;
    const phx_json *value = phx_json_get(node, "type");
    if (!phx_json_as_str(value, &type))
        return wrong(b, ".type", "\"function\"", value);
    if (!phx_str_is(type, "function"))
        return PHX_FAIL(b->err, PHX_ERR_UNSUPPORTED, "%s.type: '%.*s' is not supported, only \"function\"",
                        b->path, (int)(type.n > 64 ? 64 : type.n), type.ptr);
    return PHX_OK;
}

static phx_code read_arguments(builder *b, const phx_json *node, phx_chat_call *call)
{
    phx_error inner = {0};
    if (!phx_json_as_str(node, &call->arguments))
        return wrong(b, ".arguments", "string that holds a JSON object", node);
    if (call->arguments.n == 0)
        return PHX_OK;
    const phx_json_limits limits = {PHX_CHAT_TEXT_BYTES_MAX, PHX_CHAT_ARGUMENTS_DEPTH, PHX_JSON_NODES_MAX,
                                    PHX_JSON_KEYS_MAX};
    const phx_bytes text = {(const uint8_t *)call->arguments.ptr, call->arguments.n};
    const phx_code rc = phx_json_parse_loose(text, limits, &call->parsed, &inner);
    if (rc == PHX_ERR_CORRUPT)
        return PHX_FAIL(b->err, PHX_ERR_INVALID, "%s.arguments: expected a JSON object: %s", b->path,
                        inner.text);
    if (rc != PHX_OK)
        return PHX_FAIL(b->err, rc, "%s.arguments: %s", b->path, inner.text);
    if (phx_json_kind_of(call->parsed) != PHX_JSON_OBJECT)
        return wrong(b, ".arguments", "string that holds a JSON object", call->parsed);
    return count_text(b, call->arguments);
}

static phx_code build_call(builder *b, const phx_json *node, phx_chat_call *call)
{
    phx_code rc = PHX_OK;
    call->id = call->name = call->arguments = (phx_str){"", 0};
    if (phx_json_kind_of(node) != PHX_JSON_OBJECT)
        return wrong(b, "", "object", node);
    rc = only_fields(b, "", node, (const char *const[]){"id", "type", "function", "index", NULL});
    if (rc != PHX_OK)
        return rc;
    if (!phx_json_as_str(phx_json_get(node, "id"), &call->id))
        return wrong(b, ".id", "string", phx_json_get(node, "id"));
    rc = check_function_type(b, node);
    if (rc != PHX_OK)
        return rc;
    const phx_json *function = phx_json_get(node, "function");
    if (!function || phx_json_kind_of(function) != PHX_JSON_OBJECT)
        return wrong(b, ".function", "object", function);
    const size_t n_path = strlen(b->path);
    (void)snprintf(b->path + n_path, sizeof(b->path) - n_path, ".function");
    /* parsed_arguments: clients keep their own reading of the arguments there and send it along. */
    rc = only_fields(b, "", function, (const char *const[]){"name", "arguments", "parsed_arguments", NULL});
    if (rc == PHX_OK)
        rc = read_name(b, function, &call->name);
    return rc == PHX_OK ? read_arguments(b, phx_json_get(function, "arguments"), call) : rc;
}

static phx_code build_calls(builder *b, const phx_json *node, phx_chat_message *message)
{
    const size_t n = phx_json_count(node), n_path = strlen(b->path);
    phx_code rc = PHX_OK;
    if (phx_json_is_null(node))
        return PHX_OK;
    if (phx_json_kind_of(node) != PHX_JSON_ARRAY)
        return wrong(b, ".tool_calls", "array", node);
    if (n > PHX_CHAT_CALLS_MAX)
        return PHX_FAIL(b->err, PHX_ERR_TOO_LONG, "%s.tool_calls: %zu of them, limit %u", b->path, n,
                        PHX_CHAT_CALLS_MAX);
    if (n == 0)
        return PHX_OK;
    message->calls = phx_alloc(n, sizeof(*message->calls));
    if (!message->calls)
        return PHX_FAIL(b->err, PHX_ERR_NOMEM, "%zu tool calls", n);
    for (size_t i = 0; rc == PHX_OK && i < n; i++) {
        (void)snprintf(b->path + n_path, sizeof(b->path) - n_path, ".tool_calls[%zu]", i);
        message->n_calls = i + 1;
        rc = build_call(b, phx_json_at(node, i), &message->calls[i]);
    }
    b->path[n_path] = 0;
    return rc;
}

/* ---- tools
 * ------------------------------------------------------------------------------------------------- */

static phx_code build_tool(builder *b, const phx_json *node, phx_chat_tool *tool)
{
    if (phx_json_kind_of(node) != PHX_JSON_OBJECT)
        return wrong(b, "", "object", node);
    phx_code rc = check_function_type(b, node);
    if (rc != PHX_OK)
        return rc;
    rc = only_fields(b, "", node, (const char *const[]){"type", "function", NULL});
    if (rc != PHX_OK)
        return rc;
    tool->whole = node;
    tool->function = phx_json_get(node, "function");
    if (!tool->function || phx_json_kind_of(tool->function) != PHX_JSON_OBJECT)
        return wrong(b, ".function", "object", tool->function);
    const size_t n_path = strlen(b->path);
    (void)snprintf(b->path + n_path, sizeof(b->path) - n_path, ".function");
    rc = read_name(b, tool->function, &tool->name);
    tool->description = (phx_str){"", 0};
    if (rc == PHX_OK)
        rc = read_text(b, tool->function, ".description", &tool->description);
    if (rc != PHX_OK)
        return rc;
    const phx_json *parameters = phx_json_get(tool->function, "parameters");
    if (!phx_json_is_null(parameters) && phx_json_kind_of(parameters) != PHX_JSON_OBJECT)
        return wrong(b, ".parameters", "object", parameters);
    tool->parameters = phx_json_is_null(parameters) ? NULL : parameters;
    const phx_json *strict = phx_json_get(tool->function, "strict");
    if (!phx_json_is_null(strict) && phx_json_kind_of(strict) != PHX_JSON_BOOL)
        return wrong(b, ".strict", "boolean", strict);
    return PHX_OK;
}

static phx_code build_tools(builder *b, const phx_json *node, phx_chat_tool **tools, size_t *n_tools)
{
    const size_t n = phx_json_count(node), n_path = strlen(b->path);
    const char *dot = n_path ? "." : "";
    phx_code rc = PHX_OK;
    if (phx_json_is_null(node))
        return PHX_OK;
    if (phx_json_kind_of(node) != PHX_JSON_ARRAY)
        return wrong(b, n_path ? ".tools" : "tools", "array", node);
    if (n > PHX_CHAT_TOOLS_MAX)
        return PHX_FAIL(b->err, PHX_ERR_TOO_LONG, "%s%stools: %zu of them, limit %u", b->path, dot, n,
                        PHX_CHAT_TOOLS_MAX);
    if (n == 0)
        return PHX_OK;
    *tools = phx_alloc(n, sizeof(**tools));
    if (!*tools)
        return PHX_FAIL(b->err, PHX_ERR_NOMEM, "%zu tools", n);
    for (size_t i = 0; rc == PHX_OK && i < n; i++) {
        (void)snprintf(b->path + n_path, sizeof(b->path) - n_path, "%stools[%zu]", dot, i);
        rc = build_tool(b, phx_json_at(node, i), &(*tools)[i]);
    }
    b->path[n_path] = 0;
    *n_tools = rc == PHX_OK ? n : 0;
    return rc;
}

/* Tools of the request and tools of a message would end in one list whose order nobody chose. */
static phx_code check_message_tools(builder *b)
{
    for (size_t i = 0; b->chat->n_tools && i < b->chat->n_messages; i++)
        if (b->chat->messages[i].n_tools)
            return PHX_FAIL(b->err, PHX_ERR_INVALID,
                            "messages[%zu].tools: the request has tools as well, give them in one place", i);
    return PHX_OK;
}

static phx_code build_tool_choice(builder *b, const phx_json *node)
{
    phx_str text;
    bool any = b->chat->n_tools > 0;
    for (size_t i = 0; i < b->chat->n_messages; i++)
        any = any || b->chat->messages[i].n_tools > 0;
    b->chat->tool_choice = any ? PHX_CHAT_TOOLS_AUTO : PHX_CHAT_TOOLS_NONE;
    if (phx_json_is_null(node))
        return PHX_OK;
    if (phx_json_kind_of(node) == PHX_JSON_OBJECT)
        return PHX_FAIL(b->err, PHX_ERR_UNSUPPORTED,
                        "tool_choice: a forced function is not supported, use auto or none");
    if (!phx_json_as_str(node, &text))
        return PHX_FAIL(b->err, PHX_ERR_INVALID, "tool_choice: expected string, got %s",
                        phx_json_kind_name(node));
    if (phx_str_is(text, "none")) {
        b->chat->tool_choice = PHX_CHAT_TOOLS_NONE;
        return PHX_OK;
    }
    if (phx_str_is(text, "auto"))
        return PHX_OK;
    return PHX_FAIL(b->err, phx_str_is(text, "required") ? PHX_ERR_UNSUPPORTED : PHX_ERR_INVALID,
                    "tool_choice: '%.*s' is not supported, use auto or none",
                    (int)(text.n > 64 ? 64 : text.n), text.ptr);
}
