/* coordinator/api/prompt.c - see prompt.h. */
#include "coordinator/api/prompt.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "coordinator/text/chat_encode.h"
#include "coordinator/text/detokenize.h"

static bool fail_with(const phx_error *err, const char *param, phx_api_fault *fault);
static bool fail_template(const phx_error *err, phx_api_fault *fault);
static bool fail_length(const phx_model_text *text, const char *has, uint32_t n, phx_api_fault *fault);
static bool take_ids(size_t n_ids_max, phx_api_prompt *prompt, phx_api_fault *fault);
static bool chat_ids(const phx_model_text *text, const phx_chat_prompt *rendered, uint32_t n_ids_max,
                     phx_api_prompt *prompt, phx_api_fault *fault);
static bool takes_calls(const phx_chat *chat);

/* Ids cannot be more than bytes, but for bos. */
static size_t ids_max(size_t n_bytes, uint32_t n_ids_max)
{
    const size_t n = n_bytes + 1;
    return n < n_ids_max ? n : n_ids_max;
}

/* The text of the tokenizer's begin or end token, for templates that write it; empty: it has none. */
static phx_str token_text(const phx_model_text *text, bool is_bos)
{
    phx_str piece = {"", 0};
    if (text->tokenizer)
        (void)phx_tokenizer_piece(
            text->tokenizer, is_bos ? phx_tokenizer_bos(text->tokenizer) : phx_tokenizer_eos(text->tokenizer),
            &piece);
    return piece;
}

bool phx_api_prompt_chat(const phx_model_text *text, const phx_api_request *request, uint32_t n_ids_max,
                         phx_api_prompt *ret_prompt, phx_api_fault *fault)
{
    phx_error err = {0};
    phx_chat *chat = NULL;
    phx_chat_prompt rendered;
    phx_api_prompt prompt = {0};
    const phx_chat_options options = {.thinking = request->thinking,
                                      .drop_thinking = true,
                                      .developer_as_system = true,
                                      .add_generation_prompt = true,
                                      .template = text->template,
                                      .template_kwargs = request->template_kwargs,
                                      .thinking_given = request->has_thinking,
                                      .reasoning_effort = request->reasoning_effort,
                                      .bos_token = token_text(text, true),
                                      .eos_token = token_text(text, false),
                                      .now_s = phx_clock_wall_s(),
                                      .stop = request->stop};
    if (!text->chat)
        return phx_api_refuse(fault, NULL, "this checkpoint cannot chat, use /v1/completions: %s",
                              text->chat_error.text);
    const phx_chat_request nodes = {
        .messages = request->messages, .tools = request->tools, .tool_choice = request->tool_choice};
    phx_chat_prompt_init(&rendered);
    phx_code rc = phx_chat_build(&nodes, &chat, &err);
    if (rc == PHX_OK)
        rc = phx_chat_render(text->chat, chat, &options, &rendered, &err);
    if (rc == PHX_OK)
        rc = phx_output_types_create(chat, &prompt.types, &err);
    const bool ok = rc == PHX_OK           ? chat_ids(text, &rendered, n_ids_max, &prompt, fault)
                    : rendered.over_bounds ? fail_template(&err, fault)
                                           : fail_with(&err, "messages", fault);
    if (ok) {
        prompt.in_reasoning = rendered.in_reasoning;
        prompt.parse_calls = takes_calls(chat);
        prompt.next_call = rendered.next_call;
        *ret_prompt = prompt;
    } else {
        phx_api_prompt_done(&prompt);
    }
    phx_chat_prompt_done(&rendered);
    phx_chat_destroy(chat);
    return ok;
}

static bool takes_calls(const phx_chat *chat)
{
    bool has_tools = chat->n_tools > 0;
    for (size_t i = 0; i < chat->n_messages; i++) /* DeepSeek's own place for tools */
        has_tools = has_tools || chat->messages[i].n_tools > 0;
    return has_tools && chat->tool_choice == PHX_CHAT_TOOLS_AUTO;
}

/* The tokenizer ran out of room: is it the context that is too small? */
static bool is_past_context(const phx_model_text *text, const phx_error *err, uint32_t n_ids_max)
{
    return err->code == PHX_ERR_TOO_LONG && n_ids_max <= text->n_context;
}

static bool chat_ids(const phx_model_text *text, const phx_chat_prompt *rendered, uint32_t n_ids_max,
                     phx_api_prompt *prompt, phx_api_fault *fault)
{
    phx_error err = {0};
    size_t n = 0;
    const size_t n_max = ids_max(rendered->text.n, n_ids_max);
    if (!take_ids(n_max, prompt, fault))
        return false;
    if (phx_chat_encode(text->tokenizer, rendered, prompt->ids, n_max, &n, &err) != PHX_OK) {
        phx_api_prompt_done(prompt);
        return is_past_context(text, &err, n_ids_max) ? fail_length(text, "more than ", n_ids_max, fault)
                                                      : fail_with(&err, "messages", fault);
    }
    prompt->n = (uint32_t)n;
    return true;
}

bool phx_api_prompt_text(const phx_model_text *text, phx_str from, bool add_special, uint32_t n_ids_max,
                         phx_api_prompt *ret_prompt, phx_api_fault *fault)
{
    phx_error err = {0};
    size_t n = 0;
    phx_api_prompt prompt = {0};
    if (!text->tokenizer)
        return phx_api_refuse(fault, "prompt", "this checkpoint takes token ids only: %s",
                              text->tokenizer_error.text);
    const size_t n_max = ids_max(from.n, n_ids_max);
    if (!take_ids(n_max, &prompt, fault))
        return false;
    const phx_encode_args args = {.text = from,
                                  .parse_added = true,
                                  .add_bos = add_special && phx_tokenizer_adds_bos(text->tokenizer),
                                  .ids = prompt.ids,
                                  .n_ids_max = n_max};
    if (phx_tokenizer_encode(text->tokenizer, &args, &n, &err) != PHX_OK) {
        phx_api_prompt_done(&prompt);
        return is_past_context(text, &err, n_ids_max) ? fail_length(text, "more than ", n_ids_max, fault)
                                                      : fail_with(&err, "prompt", fault);
    }
    prompt.n = (uint32_t)n;
    *ret_prompt = prompt;
    return true;
}

bool phx_api_prompt_ids(const phx_model_text *text, const uint32_t *ids, size_t n, phx_api_prompt *ret_prompt,
                        phx_api_fault *fault)
{
    phx_api_prompt prompt = {.n = (uint32_t)n};
    if (n > PHX_REQUEST_TOKENS_MAX)
        return phx_api_refuse(fault, "prompt", "%zu token ids, but at most %u are taken", n,
                              PHX_REQUEST_TOKENS_MAX);
    for (size_t i = 0; i < n; i++) {
        if (ids[i] >= text->n_vocab)
            return phx_api_refuse(fault, "prompt", "token id %u is not below %u, the size of the vocabulary",
                                  ids[i], text->n_vocab);
    }
    if (!take_ids(n, &prompt, fault))
        return false;
    memcpy(prompt.ids, ids, n * sizeof(*ids));
    *ret_prompt = prompt;
    return true;
}

bool phx_api_prompt_node(const phx_model_text *text, const phx_json *list, const char *param,
                         phx_api_prompt *ret_prompt, phx_api_fault *fault)
{
    const size_t n = phx_json_count(list);
    phx_api_prompt prompt = {0};
    if (!list || phx_json_kind_of(list) != PHX_JSON_ARRAY)
        return phx_api_refuse(fault, param, "'%s' must be an array of token ids, not %s", param,
                              phx_json_kind_name(list));
    if (n > PHX_REQUEST_TOKENS_MAX)
        return phx_api_refuse(fault, param, "'%s' holds %zu token ids, but at most %u are taken", param, n,
                              PHX_REQUEST_TOKENS_MAX);
    if (!take_ids(n, &prompt, fault))
        return false;
    for (size_t i = 0; i < n; i++) {
        int64_t id = 0;
        if (!phx_json_as_i64(phx_json_at(list, i), &id) || id < 0 || id >= (int64_t)text->n_vocab) {
            phx_api_prompt_done(&prompt);
            return phx_api_refuse(fault, param, "'%s[%zu]' must be a token id below %u", param, i,
                                  text->n_vocab);
        }
        prompt.ids[i] = (uint32_t)id;
    }
    prompt.n = (uint32_t)n;
    *ret_prompt = prompt;
    return true;
}

bool phx_api_prompt_fits(const phx_model_text *text, const phx_api_prompt *prompt, phx_api_fault *fault)
{
    if (prompt->n == 0)
        return phx_api_refuse(fault, "prompt", "the prompt must hold at least one token");
    return prompt->n < text->n_context || fail_length(text, "", prompt->n, fault);
}

/* has: before the number of tokens. */
static bool fail_length(const phx_model_text *text, const char *has, uint32_t n, phx_api_fault *fault)
{
    (void)phx_api_refuse(
        fault, NULL,
        "This model's maximum context length is %u tokens. Your prompt has %s%u tokens, and at "
        "least one more is needed for the answer. Please reduce the length of the prompt.",
        text->n_context, has, n);
    fault->code = "context_length_exceeded";
    fault->cause = PHX_ERR_TOO_LONG;
    return false;
}

void phx_api_prompt_done(phx_api_prompt *prompt)
{
    phx_free(prompt->ids);
    phx_output_types_destroy(prompt->types);
    *prompt = (phx_api_prompt){0};
}

phx_code phx_api_text_of_ids(const phx_model_text *text, const phx_api_prompt *prompt, bool skip_special,
                             phx_buf *to, phx_error *err)
{
    phx_detokenizer detokenizer;
    if (!text->tokenizer)
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "this checkpoint has no tokenizer: %s",
                        text->tokenizer_error.text);
    phx_detokenizer_init(&detokenizer, text->tokenizer, skip_special);
    for (uint32_t i = 0; i < prompt->n && to->code == PHX_OK; i++)
        (void)phx_detokenizer_feed(&detokenizer, prompt->ids[i], to);
    if (phx_detokenizer_flush(&detokenizer, to) != PHX_OK)
        return PHX_FAIL(err, to->code, "text of %u tokens", prompt->n);
    return PHX_OK;
}

static bool take_ids(size_t n_ids_max, phx_api_prompt *prompt, phx_api_fault *fault)
{
    prompt->ids = phx_alloc(n_ids_max + 1, sizeof(*prompt->ids));
    if (prompt->ids)
        return true;
    *fault = (phx_api_fault){
        .status = 500, .code = "out_of_memory", .message = "out of memory", .cause = PHX_ERR_NOMEM};
    return false;
}

/* The checkpoint's template did more work than it may: nothing that the client could mend. */
static bool fail_template(const phx_error *err, phx_api_fault *fault)
{
    *fault = (phx_api_fault){.status = 500, .code = "chat_template_failed", .cause = err->code};
    (void)snprintf(fault->message, sizeof(fault->message),
                   "the model's chat template is at fault, not the request: %.400s", err->text);
    return false;
}

/* Errors of chat.h begin with the JSON path of the field that they mean. */
static bool fail_with(const phx_error *err, const char *param, phx_api_fault *fault)
{
    size_t n = strspn(err->text, "abcdefghijklmnopqrstuvwxyz0123456789_.[]");
    phx_api_fault_of(err, fault);
    if (err->code == PHX_ERR_TOO_LONG) /* a limit of sizes, not of the context */
        fault->code = "request_too_long";
    if (n == 0 || err->text[n] != ':' || n >= sizeof(fault->param))
        (void)snprintf(fault->param, sizeof(fault->param), "%s", param);
    else
        (void)snprintf(fault->param, sizeof(fault->param), "%.*s", (int)n, err->text);
    return false;
}
