/* coordinator/api/fields.c - the table, and reading a body by it. */
#include "coordinator/api/fields.h"

#include <stdio.h>

#define CHAT PHX_API_CHAT
#define TEXT PHX_API_COMPLETIONS
#define BOTH (PHX_API_CHAT | PHX_API_COMPLETIONS)
#define ANY  (PHX_API_CHAT | PHX_API_COMPLETIONS | PHX_API_PROMPT)

#define HONOURED(name, where)                                           \
    {                                                                   \
#name, where, PHX_API_HONOURED, phx_api_read_##name, NULL, NULL \
    }
#define HARMLESS(name, where)                            \
    {                                                    \
#name, where, PHX_API_HARMLESS, NULL, NULL, NULL \
    }
#define REFUSED(name, where, neutral, why)                \
    {                                                     \
#name, where, PHX_API_REFUSED, NULL, neutral, why \
    }

#define NO_GRAMMAR        "constrained output is not supported"
#define NEUTRAL_BYTES_MAX 64u
#define NO_MEDIA          "this model reads and writes text only"

/* clang-format off */
static const phx_api_field fields[] = {
    /* what is asked */
    HONOURED(model, ANY),
    HONOURED(messages, CHAT | PHX_API_PROMPT),
    HONOURED(tools, CHAT | PHX_API_PROMPT),
    HONOURED(tool_choice, CHAT | PHX_API_PROMPT),
    HONOURED(chat_template_kwargs, CHAT | PHX_API_PROMPT),
    HONOURED(thinking, CHAT | PHX_API_PROMPT),
    HONOURED(reasoning_effort, CHAT | PHX_API_PROMPT),
    HONOURED(prompt, TEXT),
    HONOURED(add_special_tokens, TEXT),
    HONOURED(echo, TEXT),
    /* how tokens are drawn */
    HONOURED(temperature, BOTH),
    HONOURED(top_p, BOTH),
    HONOURED(top_k, BOTH),
    HONOURED(min_p, BOTH),
    HONOURED(seed, BOTH),
    HONOURED(n, BOTH),
    HONOURED(presence_penalty, BOTH),
    HONOURED(frequency_penalty, BOTH),
    HONOURED(repetition_penalty, BOTH),
    HONOURED(logit_bias, BOTH),
    /* where the answer ends */
    HONOURED(max_tokens, BOTH),
    HONOURED(max_completion_tokens, CHAT),
    HONOURED(stop, BOTH),
    HONOURED(stop_token_ids, BOTH),
    HONOURED(ignore_eos, BOTH),
    /* how it is told */
    HONOURED(stream, BOTH),
    HONOURED(stream_options, BOTH),
    HONOURED(logprobs, BOTH),
    HONOURED(top_logprobs, CHAT),
    HONOURED(return_token_ids, BOTH),

    HARMLESS(user, ANY),
    HARMLESS(metadata, ANY),
    HARMLESS(store, ANY),
    HARMLESS(safety_identifier, ANY),
    HARMLESS(prompt_cache_key, ANY),
    HARMLESS(prompt_cache_retention, ANY),
    HARMLESS(request_id, ANY),

    /* OpenAI's */
    REFUSED(audio, CHAT, "", NO_MEDIA),
    REFUSED(modalities, CHAT, "[\"text\"]", NO_MEDIA),
    REFUSED(functions, CHAT, "[]", "use tools"),
    REFUSED(function_call, CHAT, "\"none\" \"auto\"", "use tool_choice"),
    REFUSED(parallel_tool_calls, CHAT | PHX_API_PROMPT, "true", "the model decides how many tools it calls"),
    REFUSED(prediction, CHAT, "", "predicted outputs are not supported"),
    REFUSED(response_format, CHAT, "{\"type\":\"text\"}", NO_GRAMMAR),
    REFUSED(service_tier, BOTH, "\"auto\" \"default\"", "there is one tier"),
    REFUSED(verbosity, CHAT, "\"medium\"", "say it in the prompt"),
    REFUSED(web_search_options, CHAT, "", "there is no web search"),
    REFUSED(suffix, TEXT, "\"\"", "text behind the answer cannot be given"),
    REFUSED(best_of, TEXT, "1", "use n"),
    /* of other engines, sent by their users */
    REFUSED(add_generation_prompt, CHAT | PHX_API_PROMPT, "true", NULL),
    REFUSED(allowed_token_ids, BOTH, "", NO_GRAMMAR),
    REFUSED(bad_words, BOTH, "[]", "use logit_bias"),
    REFUSED(cache_salt, BOTH, "", "prefix blocks are never shared between API keys"),
    REFUSED(chat_template, CHAT | PHX_API_PROMPT, "", "the format of the model's makers is used"),
    REFUSED(continue_final_message, CHAT | PHX_API_PROMPT, "false", "use /v1/completions"),
    REFUSED(documents, CHAT | PHX_API_PROMPT, "[]", "put them into a message"),
    REFUSED(guided_choice, BOTH, "", NO_GRAMMAR),
    REFUSED(guided_grammar, BOTH, "", NO_GRAMMAR),
    REFUSED(guided_json, BOTH, "", NO_GRAMMAR),
    REFUSED(guided_regex, BOTH, "", NO_GRAMMAR),
    REFUSED(structured_outputs, BOTH, "", NO_GRAMMAR),
    REFUSED(include_reasoning, CHAT, "true", "reasoning is always given out apart from the content"),
    REFUSED(separate_reasoning, CHAT, "true", "reasoning is always given out apart from the content"),
    REFUSED(stream_reasoning, CHAT, "true", NULL),
    REFUSED(include_stop_str_in_output, BOTH, "false", NULL),
    REFUSED(length_penalty, BOTH, "1 1.0", "there is no beam search"),
    REFUSED(use_beam_search, BOTH, "false", "there is no beam search"),
    REFUSED(min_tokens, BOTH, "0", "use ignore_eos or logit_bias"),
    REFUSED(priority, BOTH, "0", "requests are served in the order of their arrival"),
    REFUSED(prompt_logprobs, BOTH, "", "use 'phalanx logits'"),
    REFUSED(return_tokens_as_token_ids, BOTH, "false", "use return_token_ids"),
    REFUSED(skip_special_tokens, BOTH, "true", NULL),
    REFUSED(spaces_between_special_tokens, BOTH, "true", NULL),
    REFUSED(truncate_prompt_tokens, BOTH, "", "shorten the prompt"),
};
/* clang-format on */

enum { N_FIELDS = sizeof(fields) / sizeof(fields[0]) };

static bool read_fields(const phx_json *root, const phx_model_text *text, phx_api_request *request,
                        phx_api_fault *fault);
static bool read_field(const phx_json_member *member, const phx_model_text *text, phx_api_request *request,
                       phx_api_fault *fault);
static bool check_whole(const phx_api_request *request, phx_api_fault *fault);

const phx_api_field *phx_api_fields(size_t *ret_n)
{
    *ret_n = N_FIELDS;
    return fields;
}

bool phx_api_request_read(phx_bytes body, uint32_t where, const phx_model_text *text,
                          phx_api_request *ret_request, phx_api_fault *fault)
{
    phx_error err = {0};
    phx_json *root = NULL;
    *ret_request = (phx_api_request){
        .where = where,
        .sampling = {.temperature = text->temperature, .top_p = text->top_p, .repetition_penalty = 1},
        .add_special_tokens = true,
        .n_prompts = 1,
        .n = 1};
    if (phx_json_parse(body, PHX_JSON_LIMITS_REQUEST, &root, &err) != PHX_OK) {
        phx_api_fault_of(&err, fault);
        if (err.code == PHX_ERR_TOO_LONG || phx_code_scope(err.code) != PHX_SCOPE_REQUEST)
            *fault = (phx_api_fault){.status = err.code == PHX_ERR_NOMEM ? 500 : 400, .cause = err.code};
        (void)snprintf(fault->message, sizeof(fault->message), "the body is not acceptable JSON: %s",
                       err.text);
        return false;
    }
    ret_request->root = root;
    if (phx_json_kind_of(root) != PHX_JSON_OBJECT)
        (void)phx_api_refuse(fault, NULL, "the body must be a JSON object, not %s", phx_json_kind_name(root));
    else if (read_fields(root, text, ret_request, fault) && check_whole(ret_request, fault))
        return true;
    phx_api_request_done(ret_request);
    return false;
}

void phx_api_request_done(phx_api_request *request)
{
    phx_json_destroy(request->root);
    request->root = NULL;
}

const phx_json *phx_api_request_prompt(const phx_api_request *request, uint32_t i)
{
    return request->prompts ? phx_json_at(request->prompts, i) : request->prompt;
}

static bool read_fields(const phx_json *root, const phx_model_text *text, phx_api_request *request,
                        phx_api_fault *fault)
{
    for (phx_json_member it = phx_json_first(root); it.value; it = phx_json_next(root, it)) {
        if (!read_field(&it, text, request, fault))
            return false;
    }
    return true;
}

static const phx_api_field *find_field(phx_str name, uint32_t where, uint32_t *ret_elsewhere)
{
    for (size_t i = 0; i < N_FIELDS; i++) {
        if (!phx_str_is(name, fields[i].name))
            continue;
        if (fields[i].where & where)
            return &fields[i];
        *ret_elsewhere |= fields[i].where;
    }
    return NULL;
}

/* Is the value, written compactly, one of the words of the list? */
static bool is_neutral(const phx_json *value, const char *list)
{
    phx_buf text;
    phx_json_writer w;
    bool found = false;
    phx_buf_init(&text, NEUTRAL_BYTES_MAX); /* a value longer than every neutral one does not fit */
    phx_json_writer_init(&w, &text);
    phx_json_node(&w, value);
    for (const char *at = list; text.code == PHX_OK && !found && *at;) {
        const char *end = strchr(at, ' ');
        const size_t n = end ? (size_t)(end - at) : strlen(at);
        found = phx_str_eq(phx_buf_view(&text), (phx_str){at, n});
        at += n + (end ? 1 : 0);
    }
    phx_buf_done(&text);
    return found;
}

static bool read_field(const phx_json_member *member, const phx_model_text *text, phx_api_request *request,
                       phx_api_fault *fault)
{
    char name[64];
    uint32_t elsewhere = 0;
    (void)phx_str_copy(name, sizeof(name), member->key);
    const phx_api_field *field = find_field(member->key, request->where, &elsewhere);
    if (!field) {
        (void)phx_api_refuse(fault, name, "unknown field '%s'%s", name,
                             elsewhere ? ": it does not belong to this kind of request" : "");
        fault->code = "unknown_parameter";
        return false;
    }
    if (field->use == PHX_API_HARMLESS || phx_json_kind_of(member->value) == PHX_JSON_NULL)
        return true;
    if (field->use == PHX_API_HONOURED)
        return field->read(member->value, text, request, fault);
    if (is_neutral(member->value, field->neutral))
        return true;
    (void)phx_api_refuse(fault, name, "'%s' is not supported with this value%s%s", name,
                         field->why ? ": " : "", field->why ? field->why : "");
    fault->code = "unsupported_parameter";
    return false;
}

/* What no field can say alone. */
static bool check_whole(const phx_api_request *r, phx_api_fault *fault)
{
    if (r->where == PHX_API_COMPLETIONS && !r->prompt)
        return phx_api_refuse(fault, "prompt", "'prompt' is required");
    if (r->where != PHX_API_COMPLETIONS && !r->messages)
        return phx_api_refuse(fault, "messages", "'messages' is required");
    if (r->has_stream_options && !r->stream)
        return phx_api_refuse(fault, "stream_options", "'stream_options' needs stream: true");
    if (r->has_top_logprobs && !r->sampling.logprobs)
        return phx_api_refuse(fault, "top_logprobs", "'top_logprobs' needs logprobs: true");
    if (r->echo && r->sampling.logprobs)
        return phx_api_refuse(fault, "echo",
                              "'echo' together with 'logprobs' is not supported: "
                              "'phalanx logits' gives those of a prompt");
    if (r->has_max_tokens && r->has_max_completion_tokens && r->max_tokens != r->max_completion_tokens)
        return phx_api_refuse(fault, "max_tokens",
                              "'max_tokens' and 'max_completion_tokens' contradict each other: give one");
    return true;
}
