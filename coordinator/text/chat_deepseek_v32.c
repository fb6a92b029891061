/* coordinator/text/chat_deepseek_v32.c - prompts as DeepSeek's own encoder writes them, byte for byte.
 * Not here: checking the request (chat_build.c), reading the answer (output_parser.c). */
#include "coordinator/text/chat_deepseek_v32.h"

#define DSML      "｜DSML｜"
#define BOS       "<｜begin▁of▁sentence｜>"
#define EOS       "<｜end▁of▁sentence｜>"
#define USER      "<｜User｜>"
#define ASSISTANT "<｜Assistant｜>"
#define THINK     "<think>"
#define END_THINK "</think>"

const phx_output_syntax phx_deepseek_v32_syntax = {
    .think_end = END_THINK,
    .block_open = "<" DSML "function_calls>",
    .block_close = "</" DSML "function_calls>",
    .invoke_open = "<" DSML "invoke name=\"",
    .invoke_close = "</" DSML "invoke>",
    .param_open = "<" DSML "parameter name=\"",
    .param_close = "</" DSML "parameter>",
};

/* What the rendering of one message needs to know of the whole conversation. */
typedef struct scene {
    const phx_chat *chat;
    const phx_chat_options *options;
    phx_chat_prompt *prompt;
    ptrdiff_t last_user; /* index of the last user or developer message, -1: none */
    bool has_user;       /* there is a message of role user */
} scene;

static phx_chat_role role_of(const scene *s, const phx_chat_message *message);
static phx_code check_end(const scene *s, phx_error *err);
static phx_code render_message(const scene *s, size_t idx, phx_error *err);
static void render_tools(const scene *s, const phx_chat_tool *tools, size_t n_tools);
static void render_response_format(const scene *s, const phx_chat_message *message);
static void render_calls(const scene *s, const phx_chat_message *message);
static void render_result(const scene *s, size_t idx);

const char *phx_deepseek_v32_lacks(const phx_chat_probe *probe)
{
    static const char *const tokens[] = {BOS, EOS, USER, ASSISTANT, THINK, END_THINK};
    const bool is_v32 = phx_str_is(probe->family, "deepseek_v32");
    if (!is_v32 && !phx_str_is(probe->family, "deepseek_v3"))
        return "the model is not of a DeepSeek V3 family";
    for (size_t i = 0; i < sizeof(tokens) / sizeof(tokens[0]); i++)
        if (!probe->has_token(probe->tokenizer, phx_str_of(tokens[i])))
            return "the tokenizer lacks DeepSeek's turn and think tokens";
    if (probe->has_token(probe->tokenizer, phx_str_of(DSML)))
        return NULL;
    /* V3, V3.1 and V3.2-Exp bring a template and write tool calls another way; V3.2 brings none. */
    return is_v32 && !probe->has_template ? NULL : "the tokenizer lacks the token " DSML;
}

phx_code phx_deepseek_v32_render(const phx_chat *chat, const phx_chat_options *options,
                                 phx_chat_prompt *prompt, phx_error *err)
{
    scene s = {.chat = chat, .options = options, .prompt = prompt, .last_user = -1};
    for (size_t i = 0; i < chat->n_messages; i++)
        s.has_user = s.has_user || chat->messages[i].role == PHX_CHAT_USER;
    for (size_t i = 0; i < chat->n_messages; i++) {
        const phx_chat_role role = role_of(&s, &chat->messages[i]);
        if (role == PHX_CHAT_USER || role == PHX_CHAT_DEVELOPER)
            s.last_user = (ptrdiff_t)i;
    }
    phx_code rc = check_end(&s, err);
    phx_chat_prompt_control(prompt, BOS);
    if (chat->n_messages > 0 && role_of(&s, &chat->messages[0]) != PHX_CHAT_SYSTEM)
        render_tools(&s, chat->tools, chat->n_tools);
    for (size_t i = 0; rc == PHX_OK && i < chat->n_messages; i++)
        rc = render_message(&s, i, err);
    prompt->in_reasoning = options->thinking && options->add_generation_prompt;
    return rc;
}

static phx_chat_role role_of(const scene *s, const phx_chat_message *message)
{
    const bool as_system =
        message->role == PHX_CHAT_DEVELOPER && s->options->developer_as_system && s->has_user;
    return as_system ? PHX_CHAT_SYSTEM : message->role;
}

/* The text that makes the assistant speak is part of a user message and of the last tool result. */
static phx_code check_end(const scene *s, phx_error *err)
{
    if (!s->options->add_generation_prompt)
        return PHX_OK;
    const size_t last = s->chat->n_messages - 1;
    const phx_chat_role role = s->chat->n_messages ? role_of(s, &s->chat->messages[last]) : PHX_CHAT_SYSTEM;
    if (role == PHX_CHAT_SYSTEM || role == PHX_CHAT_ASSISTANT)
        return PHX_FAIL(err, PHX_ERR_INVALID,
                        "messages: the last message must be of role user or tool to be answered");
    return PHX_OK;
}

static void begin_answer(const scene *s, size_t idx)
{
    const bool think = s->options->thinking && (ptrdiff_t)idx >= s->last_user;
    phx_chat_prompt_control(s->prompt, think ? THINK : END_THINK);
}

static bool asks_for_answer(const scene *s, size_t idx)
{
    return s->options->add_generation_prompt || idx + 1 < s->chat->n_messages;
}

static void render_user(const scene *s, size_t idx)
{
    const phx_chat_message *message = &s->chat->messages[idx];
    phx_chat_prompt_control(s->prompt, USER);
    if (message->role == PHX_CHAT_DEVELOPER) {
        render_tools(s, message->tools, message->n_tools);
        render_response_format(s, message);
        phx_chat_prompt_control(s->prompt, "\n\n# The user's message is: ");
    }
    phx_chat_prompt_data(s->prompt, message->content);
    if (!asks_for_answer(s, idx))
        return;
    phx_chat_prompt_control(s->prompt, ASSISTANT);
    begin_answer(s, idx);
}

static phx_code render_assistant(const scene *s, size_t idx, phx_error *err)
{
    const phx_chat_message *message = &s->chat->messages[idx];
    if (s->options->thinking && (ptrdiff_t)idx > s->last_user) {
        if (message->reasoning.n == 0 && message->n_calls == 0)
            return PHX_FAIL(
                err, PHX_ERR_INVALID,
                "messages[%zu]: with thinking on, an assistant message after the last user message needs "
                "reasoning_content or tool_calls",
                idx);
        phx_chat_prompt_data(s->prompt, message->reasoning);
        phx_chat_prompt_control(s->prompt, END_THINK);
    }
    phx_chat_prompt_data(s->prompt, message->content);
    if (message->n_calls > 0)
        render_calls(s, message);
    phx_chat_prompt_control(s->prompt, EOS);
    return PHX_OK;
}

static phx_code render_message(const scene *s, size_t idx, phx_error *err)
{
    const phx_chat_message *message = &s->chat->messages[idx];
    switch (role_of(s, message)) {
    case PHX_CHAT_SYSTEM:
        phx_chat_prompt_data(s->prompt, message->content);
        if (idx == 0)
            render_tools(s, s->chat->tools, s->chat->n_tools);
        render_tools(s, message->tools, message->n_tools);
        render_response_format(s, message);
        return PHX_OK;
    case PHX_CHAT_DEVELOPER:
        if (s->options->thinking && s->options->drop_thinking && (ptrdiff_t)idx < s->last_user)
            return PHX_OK;
        if (message->content.n == 0)
            return PHX_FAIL(err, PHX_ERR_INVALID,
                            "messages[%zu].content: a developer message must not be empty", idx);
        render_user(s, idx);
        return PHX_OK;
    case PHX_CHAT_USER:
        render_user(s, idx);
        return PHX_OK;
    case PHX_CHAT_ASSISTANT:
        return render_assistant(s, idx, err);
    case PHX_CHAT_TOOL:
        render_result(s, idx);
        return PHX_OK;
    }
    return PHX_OK;
}

/* The words are DeepSeek's: the model was trained on exactly these. */
static void render_tools(const scene *s, const phx_chat_tool *tools, size_t n_tools)
{
    static const char before[] =
        "\n\n## Tools\n\n"
        "You have access to a set of tools you can use to answer the user's question.\n"
        "You can invoke functions by writing a \"<" DSML
        "function_calls>\" block like the following as part of your "
        "reply to the user:\n"
        "<" DSML "function_calls>\n"
        "<" DSML "invoke name=\"$FUNCTION_NAME\">\n"
        "<" DSML "parameter name=\"$PARAMETER_NAME\" string=\"true|false\">$PARAMETER_VALUE</" DSML
        "parameter>\n"
        "...\n"
        "</" DSML "invoke>\n"
        "<" DSML "invoke name=\"$FUNCTION_NAME2\">\n"
        "...\n"
        "</" DSML "invoke>\n"
        "</" DSML "function_calls>\n\n"
        "String and scalar parameters should be specified as is without any escaping or quotes, while lists "
        "and objects "
        "should use JSON format. The \"string\" attribute should be set to \"true\" for string type "
        "parameters and "
        "\"false\" for other types (numbers, booleans, arrays, objects).\n\n"
        "If the thinking_mode is enabled, then after function results you should strongly consider "
        "outputting a "
        "thinking block. Here is an example:\n\n"
        "<" DSML "function_calls>\n...\n</" DSML "function_calls>\n\n"
        "<function_results>\n...\n</function_results>\n\n"
        "<think>...thinking about results</think>\n\n"
        "Here are the functions available in JSONSchema format:\n"
        "<functions>\n";
    if (n_tools == 0 || s->chat->tool_choice == PHX_CHAT_TOOLS_NONE)
        return;
    phx_chat_prompt_control(s->prompt, before);
    for (size_t i = 0; i < n_tools; i++) {
        phx_chat_prompt_json(s->prompt, tools[i].function);
        phx_chat_prompt_control(s->prompt, "\n");
    }
    phx_chat_prompt_control(s->prompt, "</functions>\n");
}

static void render_response_format(const scene *s, const phx_chat_message *message)
{
    if (!message->response_format)
        return;
    phx_chat_prompt_control(s->prompt, "\n\n## Response Format:\n\n"
                                       "You MUST strictly adhere to the following schema to reply:\n");
    phx_chat_prompt_json(s->prompt, message->response_format);
}

static void render_call(const scene *s, const phx_chat_call *call)
{
    phx_chat_prompt_control(s->prompt, "<" DSML "invoke name=\"");
    phx_chat_prompt_data(s->prompt, call->name);
    phx_chat_prompt_control(s->prompt, "\">\n");
    bool first = true;
    for (phx_json_member it = phx_json_first(call->parsed); it.value; it = phx_json_next(call->parsed, it)) {
        phx_str text;
        const bool is_str = phx_json_as_str(it.value, &text);
        phx_chat_prompt_control(s->prompt,
                                first ? "<" DSML "parameter name=\"" : "\n<" DSML "parameter name=\"");
        first = false;
        phx_chat_prompt_data(s->prompt, it.key);
        phx_chat_prompt_control(s->prompt, is_str ? "\" string=\"true\">" : "\" string=\"false\">");
        if (is_str)
            phx_chat_prompt_data(s->prompt, text);
        else
            phx_chat_prompt_json(s->prompt, it.value);
        phx_chat_prompt_control(s->prompt, "</" DSML "parameter>");
    }
    phx_chat_prompt_control(s->prompt, "\n</" DSML "invoke>\n");
}

static void render_calls(const scene *s, const phx_chat_message *message)
{
    phx_chat_prompt_control(s->prompt, "\n\n<" DSML "function_calls>\n");
    for (size_t i = 0; i < message->n_calls; i++)
        render_call(s, &message->calls[i]);
    phx_chat_prompt_control(s->prompt, "</" DSML "function_calls>");
}

static void render_result(const scene *s, size_t idx)
{
    const phx_chat_message *message = &s->chat->messages[idx];
    phx_chat_prompt_control(s->prompt,
                            message->call_idx == 0 ? "\n\n<function_results>\n<result>" : "\n<result>");
    phx_chat_prompt_data(s->prompt, message->content);
    phx_chat_prompt_control(s->prompt, "</result>");
    if (message->call_idx + 1 < message->n_turn_calls)
        return;
    phx_chat_prompt_control(s->prompt, "\n</function_results>");
    if (!asks_for_answer(s, idx))
        return;
    phx_chat_prompt_control(s->prompt, "\n\n");
    begin_answer(s, idx);
}
