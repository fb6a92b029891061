/* coordinator/text/chat_template.c - a conversation as the values of a template, and its text as a prompt. */
#include "coordinator/text/chat_template.h"

#include <stdio.h>

#include "coordinator/text/kimi_tools.h"

#define THINK        "<think>"
#define END_THINK    "</think>"
#define ID_BYTES     (PHX_CHAT_NAME_BYTES_MAX + 32)
#define KIMI_ID      "functions."
#define CALL_IDX_MAX 1000000u

const phx_output_syntax phx_glm_syntax = {
    .dialect = PHX_DIALECT_GLM,
    .trims = true,
    .think_open = THINK,
    .think_end = END_THINK,
    .block_open = "<tool_call>",
    .block_close = "</tool_call>",
    .param_open = "<arg_key>",
    .param_close = "</arg_value>",
};

const phx_output_syntax phx_kimi_syntax = {
    .dialect = PHX_DIALECT_KIMI,
    .trims = true,
    .calls_end_reasoning = true,
    .think_open = THINK,
    .think_end = END_THINK,
    .block_open = "<|tool_calls_section_begin|>",
    .block_close = "<|tool_calls_section_end|>",
    .invoke_open = "<|tool_call_begin|>",
    .invoke_close = "<|tool_call_end|>",
    .param_open = "<|tool_call_argument_begin|>",
};

const phx_output_syntax phx_plain_syntax = {.trims = true, .think_open = THINK, .think_end = END_THINK};

/* What differs between the makers of templates. */
typedef struct style {
    bool arguments_as_text; /* of calls: JSON text; else an object */
    bool numbers_calls;     /* ids of calls are "functions.NAME:NUMBER", counted over the conversation */
    bool declares_tools;    /* tools_ts_str is given */
} style;

typedef struct scene {
    const phx_chat *chat;
    const phx_chat_options *options;
    style style;
    phx_jpool pool;
    uint32_t next_call; /* number of the next call */
} scene;

static phx_jv data(phx_str text)
{
    return phx_jv_str(text, true);
}

/* ---- ids of calls ---- */

/* The number of an id that the model would have written for a call of this name. */
static bool is_numbered(phx_str id, phx_str name, uint64_t *ret_number)
{
    const size_t n_head = sizeof(KIMI_ID) - 1;
    if (!phx_str_starts(id, phx_str_of(KIMI_ID)) || id.n < n_head + name.n + 2)
        return false;
    const phx_str rest = {id.ptr + n_head + name.n, id.n - n_head - name.n};
    return memcmp(id.ptr + n_head, name.ptr, name.n) == 0 && rest.ptr[0] == ':' &&
           phx_str_to_u64((phx_str){rest.ptr + 1, rest.n - 1}, 0, CALL_IDX_MAX, ret_number);
}

/* Ids from elsewhere confuse the model, so they are replaced; its own stay. */
static phx_jv call_id(scene *s, const phx_chat_call *call)
{
    uint64_t number = 0;
    char text[ID_BYTES];
    if (!s->style.numbers_calls)
        return data(call->id);
    if (is_numbered(call->id, call->name, &number)) {
        s->next_call = number >= s->next_call ? (uint32_t)number + 1 : s->next_call;
        return data(call->id);
    }
    (void)snprintf(text, sizeof(text), KIMI_ID "%.*s:%u", PHX_STR_ARG(call->name), s->next_call++);
    const phx_jv borrowed = data(phx_str_of(text));
    return phx_jv_concat(&s->pool, &borrowed, 1);
}

/* ---- messages ---- */

static phx_jv call_value(scene *s, const phx_chat_call *call)
{
    phx_jpool *pool = &s->pool;
    const phx_jv value = phx_jv_dict(pool, 3);
    const phx_jv function = phx_jv_dict(pool, 2);
    phx_jv arguments = call->parsed ? phx_jv_of_json(pool, call->parsed) : phx_jv_dict(pool, 0);
    if (s->style.arguments_as_text)
        arguments = data(call->arguments.n ? call->arguments : phx_str_of("{}"));
    phx_jv_put(pool, value, "id", call_id(s, call));
    phx_jv_put(pool, value, "type", phx_jv_str(phx_str_of("function"), false));
    phx_jv_put(pool, function, "name", data(call->name));
    phx_jv_put(pool, function, "arguments", arguments);
    phx_jv_put(pool, value, "function", function);
    return value;
}

static phx_jv calls_value(scene *s, const phx_chat_message *message)
{
    const phx_jv list = phx_jv_list(&s->pool, message->n_calls);
    for (size_t i = 0; i < message->n_calls && list.kind == PHX_JV_LIST; i++)
        list.u.list->items[i] = call_value(s, &message->calls[i]);
    return list;
}

/* The id of the call that a result answers, as the template was given it. calls: of that turn. */
static phx_jv answered_id(const phx_chat_message *message, phx_jv calls)
{
    if (calls.kind == PHX_JV_LIST && message->call_idx < calls.u.list->n) {
        const phx_jv *id = phx_jv_get(calls.u.list->items[message->call_idx], phx_str_of("id"));
        if (id)
            return *id;
    }
    return data(message->tool_call_id);
}

/* ---- content ---- */

/* The texts of all parts one behind the other. */
static phx_jv parts_text(scene *s, const phx_json *parts)
{
    const size_t n = phx_json_count(parts);
    phx_jv *texts = phx_jpool_take(&s->pool, n, sizeof(*texts));
    for (size_t i = 0; texts && i < n; i++) {
        phx_str text = {"", 0};
        (void)phx_json_as_str(phx_json_get(phx_json_at(parts, i), "text"), &text);
        texts[i] = data(text);
    }
    return texts ? phx_jv_concat(&s->pool, texts, n) : phx_jv_none();
}

/* Several parts reach a template that goes over them as they were sent. What a tool gave is one text: GLM
 * reads a list there as something else, and the others put its texts one behind the other. One part is its
 * text: not every place of a template that knows lists expects one. */
static phx_jv content_value(scene *s, const phx_chat_message *message)
{
    if (phx_json_count(message->parts) < 2 || !phx_jinja_takes_parts(s->options->template))
        return data(message->content);
    if (message->role == PHX_CHAT_TOOL)
        return parts_text(s, message->parts);
    return phx_jv_of_json(&s->pool, message->parts);
}

static phx_jv message_value(scene *s, const phx_chat_message *message, phx_jv *calls)
{
    static const char *const roles[] = {"system", "system", "user", "assistant", "tool"};
    phx_jpool *pool = &s->pool;
    const phx_jv value = phx_jv_dict(pool, 6);
    phx_jv_put(pool, value, "role", phx_jv_str(phx_str_of(roles[message->role]), false));
    phx_jv_put(pool, value, "content", content_value(s, message));
    if (message->name.n)
        phx_jv_put(pool, value, "name", data(message->name));
    if (message->has_reasoning)
        phx_jv_put(pool, value, "reasoning_content", data(message->reasoning));
    if (message->n_calls) {
        *calls = calls_value(s, message);
        phx_jv_put(pool, value, "tool_calls", *calls);
    }
    if (message->role == PHX_CHAT_TOOL)
        phx_jv_put(pool, value, "tool_call_id", answered_id(message, *calls));
    return value;
}

static phx_jv messages_value(scene *s)
{
    const phx_jv list = phx_jv_list(&s->pool, s->chat->n_messages);
    phx_jv calls = phx_jv_none();
    for (size_t i = 0; i < s->chat->n_messages && list.kind == PHX_JV_LIST; i++)
        list.u.list->items[i] = message_value(s, &s->chat->messages[i], &calls);
    return list;
}

/* ---- the other names ---- */

static void put_tools(scene *s, phx_jv inputs)
{
    const phx_chat *chat = s->chat;
    phx_jpool *pool = &s->pool;
    if (chat->n_tools == 0 || chat->tool_choice == PHX_CHAT_TOOLS_NONE) {
        phx_jv_put(pool, inputs, "tools", phx_jv_none());
        return;
    }
    const phx_jv list = phx_jv_list(pool, chat->n_tools);
    for (size_t i = 0; i < chat->n_tools && list.kind == PHX_JV_LIST; i++)
        list.u.list->items[i] = phx_jv_of_json(pool, chat->tools[i].whole);
    phx_jv_put(pool, inputs, "tools", list);
}

/* The TypeScript form, unless a schema has none: then the template writes JSON. */
static void put_declaration(scene *s, phx_jv inputs)
{
    const phx_chat *chat = s->chat;
    phx_jpool *pool = &s->pool;
    phx_buf text;
    if (!s->style.declares_tools || chat->n_tools == 0)
        return;
    phx_buf_init(&text, PHX_CHAT_PROMPT_MAX);
    if (phx_kimi_tools(chat->tools, chat->n_tools, &text) && text.code == PHX_OK) {
        const phx_jv borrowed = data(phx_buf_view(&text));
        phx_jv_put(pool, inputs, "tools_ts_str", phx_jv_concat(pool, &borrowed, 1));
    }
    phx_buf_done(&text);
}

/* Switches that the client did not touch stay undefined: the template has the model's own default. */
static void put_switches(scene *s, phx_jv inputs)
{
    const phx_chat_options *o = s->options;
    phx_jpool *pool = &s->pool;
    phx_jv_put(pool, inputs, "add_generation_prompt", phx_jv_bool(o->add_generation_prompt));
    phx_jv_put(pool, inputs, "bos_token", phx_jv_str(o->bos_token, false));
    phx_jv_put(pool, inputs, "eos_token", phx_jv_str(o->eos_token, false));
    phx_jv_put(pool, inputs, "documents", phx_jv_none());
    if (o->thinking_given) {
        phx_jv_put(pool, inputs, "thinking", phx_jv_bool(o->thinking));
        phx_jv_put(pool, inputs, "enable_thinking", phx_jv_bool(o->thinking));
    }
    if (o->reasoning_effort.n)
        phx_jv_put(pool, inputs, "reasoning_effort", data(o->reasoning_effort));
    for (phx_json_member it = phx_json_first(o->template_kwargs); it.value;
         it = phx_json_next(o->template_kwargs, it))
        phx_jv_set(pool, inputs, data(it.key), phx_jv_of_json(pool, it.value));
}

/* ---- the prompt ---- */

static void put_prompt(const phx_jinja_out *out, phx_chat_prompt *prompt)
{
    const uint8_t *mask = (const uint8_t *)out->mask.ptr;
    for (size_t at = 0; at < out->text.n && prompt->text.code == PHX_OK;) {
        const uint8_t *end = memchr(mask + at, !mask[at], out->text.n - at);
        const size_t n = end ? (size_t)(end - mask) - at : out->text.n - at;
        phx_chat_prompt_put(prompt, (phx_str){out->text.ptr + at, n}, mask[at] == 0);
        at += n;
    }
}

/* Does the answer begin inside reasoning: does the template's own text end with the opening mark? */
static bool ends_in_reasoning(const phx_jinja_out *out)
{
    const size_t n_mark = sizeof(THINK) - 1;
    size_t n = out->text.n;
    while (n > 0 && strchr(" \t\r\n", out->text.ptr[n - 1]) && out->text.ptr[n - 1])
        n--;
    return n >= n_mark && memcmp(out->text.ptr + n - n_mark, THINK, n_mark) == 0 && out->mask.ptr[n - 1] == 0;
}

static phx_code check(const scene *s, phx_error *err)
{
    const phx_chat *chat = s->chat;
    if (!s->options->template)
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "messages: the checkpoint has no chat template");
    for (size_t i = 0; i < chat->n_messages; i++) {
        if (chat->messages[i].n_tools || chat->messages[i].response_format)
            return PHX_FAIL(
                err, PHX_ERR_UNSUPPORTED,
                "messages[%zu]: tools and response_format inside a message are not supported by this "
                "model; give tools beside the messages",
                i);
    }
    if (s->options->add_generation_prompt && chat->n_messages &&
        chat->messages[chat->n_messages - 1].role == PHX_CHAT_ASSISTANT)
        return PHX_FAIL(err, PHX_ERR_INVALID,
                        "messages: the last message must be of role user or tool to be answered");
    return PHX_OK;
}

static phx_code render(const style *how, const phx_chat *chat, const phx_chat_options *options,
                       phx_chat_prompt *prompt, phx_error *err)
{
    scene s = {.chat = chat, .options = options, .style = *how};
    phx_jinja_out out;
    phx_jpool_init(&s.pool, PHX_JINJA_MEMORY_MAX);
    phx_jinja_out_init(&out, PHX_CHAT_PROMPT_MAX);
    phx_code rc = check(&s, err);
    if (rc != PHX_OK)
        goto out;
    const phx_jv inputs = phx_jv_dict(&s.pool, 16);
    put_declaration(&s, inputs);
    put_switches(&s, inputs);
    phx_jv_put(&s.pool, inputs, "messages", messages_value(&s));
    put_tools(&s, inputs);
    if (s.pool.code != PHX_OK) {
        rc = PHX_FAIL(err, s.pool.code, "messages: no memory for the values of the template");
        goto out;
    }
    rc = phx_jinja_render(
        options->template,
        &(phx_jinja_inputs){.pool = &s.pool, .names = inputs, .now_s = options->now_s, .stop = options->stop},
        &out, err);
    prompt->n_steps = out.n_steps;
    prompt->over_bounds = out.over_bounds;
    if (rc != PHX_OK)
        goto out;
    put_prompt(&out, prompt);
    prompt->in_reasoning = options->add_generation_prompt && ends_in_reasoning(&out);
    prompt->next_call = s.next_call;
out:
    phx_jinja_out_done(&out);
    phx_jpool_done(&s.pool);
    return rc;
}

phx_code phx_kimi_render(const phx_chat *chat, const phx_chat_options *options, phx_chat_prompt *prompt,
                         phx_error *err)
{
    static const style kimi = {.arguments_as_text = true, .numbers_calls = true, .declares_tools = true};
    return render(&kimi, chat, options, prompt, err);
}

phx_code phx_template_render(const phx_chat *chat, const phx_chat_options *options, phx_chat_prompt *prompt,
                             phx_error *err)
{
    static const style usual = {.arguments_as_text = false};
    return render(&usual, chat, options, prompt, err);
}

/* ---- which checkpoint speaks what ---- */

static bool has_all(const phx_chat_probe *probe, const char *const *tokens)
{
    bool ok = true;
    for (; *tokens && ok; tokens++)
        ok = probe->has_token(probe->tokenizer, phx_str_of(*tokens));
    return ok;
}

const char *phx_glm_lacks(const phx_chat_probe *probe)
{
    static const char *const tokens[] = {"[gMASK]",         "<sop>",       "<|user|>",  "<|assistant|>",
                                         "<|observation|>", "<tool_call>", "<arg_key>", NULL};
    if (!has_all(probe, tokens))
        return "the tokenizer lacks GLM's turn and call tokens";
    return probe->has_template ? NULL : "the checkpoint has no chat template";
}

const char *phx_kimi_lacks(const phx_chat_probe *probe)
{
    static const char *const tokens[] = {"<|im_user|>",
                                         "<|im_middle|>",
                                         "<|im_end|>",
                                         "<|tool_calls_section_begin|>",
                                         "<|tool_call_argument_begin|>",
                                         NULL};
    if (!has_all(probe, tokens))
        return "the tokenizer lacks Kimi's turn and call tokens";
    return probe->has_template ? NULL : "the checkpoint has no chat template";
}

const char *phx_template_lacks(const phx_chat_probe *probe)
{
    return probe->has_template ? NULL : "the checkpoint has no chat template";
}
