/* coordinator/api/fields_read.c - type and range of each honoured field. */
#include "coordinator/api/fields.h"

static bool wrong_type(phx_api_fault *fault, const char *param, const char *wanted, const phx_json *value)
{
    return phx_api_refuse(fault, param, "'%s' must be %s, not %s", param, wanted, phx_json_kind_name(value));
}

static bool read_bool(const phx_json *value, const char *param, bool *to, phx_api_fault *fault)
{
    return phx_json_as_bool(value, to) || wrong_type(fault, param, "true or false", value);
}

static bool past_64_bits(phx_api_fault *fault, const char *param, const phx_json *value)
{
    phx_str digits = {"", 0};
    (void)phx_json_as_literal(value, &digits);
    return phx_api_refuse(fault, param, "'%s' is %.*s%s, but must fit into 64 bits", param,
                          (int)(digits.n > 32 ? 32 : digits.n), digits.ptr, digits.n > 32 ? "..." : "");
}

static bool read_u32(const phx_json *value, const char *param, int64_t min, int64_t max, uint32_t *to,
                     phx_api_fault *fault)
{
    int64_t number = 0;
    if (phx_json_kind_of(value) != PHX_JSON_INT)
        return wrong_type(fault, param, "a whole number", value);
    if (!phx_json_as_i64(value, &number))
        return past_64_bits(fault, param, value);
    if (number < min || number > max)
        return phx_api_refuse(fault, param, "'%s' is %lld, but must be between %lld and %lld", param,
                              (long long)number, (long long)min, (long long)max);
    *to = (uint32_t)number;
    return true;
}

static bool read_number(const phx_json *value, const char *param, double min, double max, float *to,
                        phx_api_fault *fault)
{
    double number = 0;
    if (!phx_json_as_f64(value, &number))
        return wrong_type(fault, param, "a number", value);
    if (!(number >= min && number <= max))
        return phx_api_refuse(fault, param, "'%s' is %g, but must be between %g and %g", param, number, min,
                              max);
    *to = (float)number;
    return true;
}

/* Above zero, also after rounding to a float. */
static bool read_positive(const phx_json *value, const char *param, double max, float *to,
                          phx_api_fault *fault)
{
    float number = 0;
    if (!read_number(value, param, 0, max, &number, fault))
        return false;
    if (!(number > 0))
        return phx_api_refuse(fault, param, "'%s' must be greater than 0", param);
    *to = number;
    return true;
}

/* ---------------------------------------------------------------- what is asked */

bool phx_api_refuse_model(phx_str name, const phx_model_text *text, phx_api_fault *fault)
{
    (void)phx_api_refuse(fault, "model", "the model '%.*s' is not served here; this server has '%s'",
                         (int)(name.n > 128 ? 128 : name.n), name.ptr, text->name);
    fault->status = 404;
    fault->code = "model_not_found";
    fault->cause = PHX_ERR_NOT_FOUND;
    return false;
}

bool phx_api_read_model(const phx_json *value, const phx_model_text *text, phx_api_request *request,
                        phx_api_fault *fault)
{
    phx_str name;
    (void)request;
    if (!phx_json_as_str(value, &name))
        return wrong_type(fault, "model", "a string", value);
    return phx_str_is(name, text->name) || phx_api_refuse_model(name, text, fault);
}

bool phx_api_read_messages(const phx_json *value, const phx_model_text *text, phx_api_request *request,
                           phx_api_fault *fault)
{
    (void)text; /* chat.h checks the rest, with paths such as messages[3].content */
    (void)fault;
    request->messages = value;
    return true;
}

bool phx_api_read_tools(const phx_json *value, const phx_model_text *text, phx_api_request *request,
                        phx_api_fault *fault)
{
    (void)text;
    (void)fault;
    request->tools = value;
    return true;
}

bool phx_api_read_tool_choice(const phx_json *value, const phx_model_text *text, phx_api_request *request,
                              phx_api_fault *fault)
{
    (void)text;
    (void)fault;
    request->tool_choice = value;
    return true;
}

/* A text or a list of token ids, or an array of such. */
bool phx_api_read_prompt(const phx_json *value, const phx_model_text *text, phx_api_request *request,
                         phx_api_fault *fault)
{
    const phx_json_kind kind = phx_json_kind_of(value);
    (void)text;
    if (kind != PHX_JSON_STRING && kind != PHX_JSON_ARRAY)
        return wrong_type(fault, "prompt", "a string or an array", value);
    const phx_json *first = phx_json_at(value, 0);
    const bool nests =
        first && (phx_json_kind_of(first) == PHX_JSON_STRING || phx_json_kind_of(first) == PHX_JSON_ARRAY);
    if (kind == PHX_JSON_ARRAY && !first)
        return phx_api_refuse(fault, "prompt", "'prompt' must not be an empty array");
    if (nests && phx_json_count(value) > PHX_PROMPTS_MAX)
        return phx_api_refuse(fault, "prompt", "'prompt' holds %zu prompts, but at most %u are taken",
                              phx_json_count(value), PHX_PROMPTS_MAX);
    request->prompt = nests ? first : value;
    request->prompts = nests ? value : NULL;
    request->n_prompts = nests ? (uint32_t)phx_json_count(value) : 1;
    return true;
}

bool phx_api_read_add_special_tokens(const phx_json *value, const phx_model_text *text,
                                     phx_api_request *request, phx_api_fault *fault)
{
    (void)text;
    return read_bool(value, "add_special_tokens", &request->add_special_tokens, fault);
}

bool phx_api_read_echo(const phx_json *value, const phx_model_text *text, phx_api_request *request,
                       phx_api_fault *fault)
{
    (void)text;
    return read_bool(value, "echo", &request->echo, fault);
}

static bool set_thinking(phx_api_request *request, const char *param, bool on, phx_api_fault *fault)
{
    if (request->has_thinking && request->thinking != on)
        return phx_api_refuse(fault, param, "'%s' contradicts another switch of thinking in this request",
                              param);
    request->thinking = on;
    request->has_thinking = true;
    return true;
}

/* A name that the checkpoint's template looks at, and none that the prompt itself is made of. */
static bool is_template_switch(const phx_model_text *text, phx_str key)
{
    static const char *const taken[] = {"messages",  "tools",     "tools_ts_str", "add_generation_prompt",
                                        "bos_token", "eos_token", "documents",    "loop"};
    char name[64];
    bool known = text->template && phx_str_copy(name, sizeof(name), key) && key.n > 0;
    for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
        known = known && !phx_str_is(key, taken[i]);
    return known && phx_jinja_mentions(text->template, name);
}

bool phx_api_read_chat_template_kwargs(const phx_json *value, const phx_model_text *text,
                                       phx_api_request *request, phx_api_fault *fault)
{
    if (phx_json_kind_of(value) != PHX_JSON_OBJECT)
        return wrong_type(fault, "chat_template_kwargs", "an object", value);
    for (phx_json_member it = phx_json_first(value); it.value; it = phx_json_next(value, it)) {
        bool on = false;
        const bool is_thinking = phx_str_is(it.key, "thinking") || phx_str_is(it.key, "enable_thinking");
        const phx_json_kind kind = phx_json_kind_of(it.value);
        if (!is_thinking && !is_template_switch(text, it.key))
            return phx_api_refuse(fault, "chat_template_kwargs",
                                  "'chat_template_kwargs' knows thinking, enable_thinking%s, not '%.*s'",
                                  text->template ? " and the switches of the model's template" : "",
                                  (int)(it.key.n > 64 ? 64 : it.key.n), it.key.ptr);
        if (is_thinking && (!read_bool(it.value, "chat_template_kwargs.thinking", &on, fault) ||
                            !set_thinking(request, "chat_template_kwargs.thinking", on, fault)))
            return false;
        if (kind == PHX_JSON_ARRAY || kind == PHX_JSON_OBJECT)
            return wrong_type(fault, "chat_template_kwargs", "an object of plain values", it.value);
    }
    request->template_kwargs = value;
    return true;
}

/* DeepSeek's own switch: {"type": "enabled"}. */
bool phx_api_read_thinking(const phx_json *value, const phx_model_text *text, phx_api_request *request,
                           phx_api_fault *fault)
{
    phx_str type;
    bool on = false;
    (void)text;
    if (phx_json_as_bool(value, &on))
        return set_thinking(request, "thinking", on, fault);
    if (!phx_json_as_str(phx_json_get(value, "type"), &type) || phx_json_count(value) != 1 ||
        (!phx_str_is(type, "enabled") && !phx_str_is(type, "disabled")))
        return phx_api_refuse(fault, "thinking",
                              "'thinking' must be {\"type\": \"enabled\"} or {\"type\": \"disabled\"}");
    return set_thinking(request, "thinking", phx_str_is(type, "enabled"), fault);
}

/* Every effort but none switches thinking on; a template may know degrees. */
bool phx_api_read_reasoning_effort(const phx_json *value, const phx_model_text *text,
                                   phx_api_request *request, phx_api_fault *fault)
{
    static const char *const efforts[] = {"none", "minimal", "low", "medium", "high", "xhigh"};
    phx_str effort;
    (void)text;
    if (!phx_json_as_str(value, &effort))
        return wrong_type(fault, "reasoning_effort", "a string", value);
    for (size_t i = 0; i < sizeof(efforts) / sizeof(efforts[0]); i++) {
        if (!phx_str_is(effort, efforts[i]))
            continue;
        request->reasoning_effort = effort;
        return set_thinking(request, "reasoning_effort", i > 0, fault);
    }
    return phx_api_refuse(fault, "reasoning_effort",
                          "'reasoning_effort' must be none, minimal, low, medium, high or xhigh");
}

/* ---------------------------------------------------------------- how tokens are drawn */

bool phx_api_read_temperature(const phx_json *value, const phx_model_text *text, phx_api_request *request,
                              phx_api_fault *fault)
{
    (void)text;
    if (!read_number(value, "temperature", 0, PHX_API_TEMPERATURE_MAX, &request->sampling.temperature, fault))
        return false;
    if (request->sampling.temperature < 1e-5f) /* logits divided by less would overflow */
        request->sampling.temperature = 0;
    return true;
}

bool phx_api_read_top_p(const phx_json *value, const phx_model_text *text, phx_api_request *request,
                        phx_api_fault *fault)
{
    (void)text;
    return read_positive(value, "top_p", 1, &request->sampling.top_p, fault);
}

bool phx_api_read_min_p(const phx_json *value, const phx_model_text *text, phx_api_request *request,
                        phx_api_fault *fault)
{
    (void)text;
    return read_number(value, "min_p", 0, 1, &request->sampling.min_p, fault);
}

/* 0 and, as other engines have it, -1 are off. */
bool phx_api_read_top_k(const phx_json *value, const phx_model_text *text, phx_api_request *request,
                        phx_api_fault *fault)
{
    int64_t number = 0;
    (void)text;
    if (phx_json_as_i64(value, &number) && number == -1) {
        request->sampling.top_k = 0;
        return true;
    }
    return read_u32(value, "top_k", 0, INT32_MAX, &request->sampling.top_k, fault);
}

bool phx_api_read_seed(const phx_json *value, const phx_model_text *text, phx_api_request *request,
                       phx_api_fault *fault)
{
    int64_t number = 0;
    uint64_t seed = 0;
    (void)text;
    if (phx_json_kind_of(value) != PHX_JSON_INT)
        return wrong_type(fault, "seed", "a whole number", value);
    if (phx_json_as_i64(value, &number))
        seed = (uint64_t)number;
    else if (!phx_json_as_u64(value, &seed))
        return past_64_bits(fault, "seed", value);
    request->sampling.seed = seed;
    request->has_seed = true;
    return true;
}

bool phx_api_read_n(const phx_json *value, const phx_model_text *text, phx_api_request *request,
                    phx_api_fault *fault)
{
    (void)text;
    return read_u32(value, "n", 1, PHX_CHOICES_MAX, &request->n, fault);
}

bool phx_api_read_presence_penalty(const phx_json *value, const phx_model_text *text,
                                   phx_api_request *request, phx_api_fault *fault)
{
    (void)text;
    return read_number(value, "presence_penalty", -PHX_API_PENALTY_ABS_MAX, PHX_API_PENALTY_ABS_MAX,
                       &request->sampling.presence_penalty, fault);
}

bool phx_api_read_frequency_penalty(const phx_json *value, const phx_model_text *text,
                                    phx_api_request *request, phx_api_fault *fault)
{
    (void)text;
    return read_number(value, "frequency_penalty", -PHX_API_PENALTY_ABS_MAX, PHX_API_PENALTY_ABS_MAX,
                       &request->sampling.frequency_penalty, fault);
}

bool phx_api_read_repetition_penalty(const phx_json *value, const phx_model_text *text,
                                     phx_api_request *request, phx_api_fault *fault)
{
    (void)text;
    return read_positive(value, "repetition_penalty", (double)PHX_REPETITION_MAX,
                         &request->sampling.repetition_penalty, fault);
}

bool phx_api_read_logit_bias(const phx_json *value, const phx_model_text *text, phx_api_request *request,
                             phx_api_fault *fault)
{
    if (phx_json_kind_of(value) != PHX_JSON_OBJECT)
        return wrong_type(fault, "logit_bias", "an object", value);
    if (phx_json_count(value) > PHX_LOGIT_BIAS_MAX)
        return phx_api_refuse(fault, "logit_bias", "'logit_bias' has %zu entries, but at most %u are taken",
                              phx_json_count(value), PHX_LOGIT_BIAS_MAX);
    uint32_t n = 0;
    for (phx_json_member it = phx_json_first(value); it.value; it = phx_json_next(value, it), n++) {
        uint64_t id = 0;
        if (!phx_str_to_u64(it.key, 0, (uint64_t)text->n_vocab - 1, &id))
            return phx_api_refuse(fault, "logit_bias",
                                  "'logit_bias' has the key '%.*s', which is no token id below %u",
                                  (int)(it.key.n > 32 ? 32 : it.key.n), it.key.ptr, text->n_vocab);
        for (uint32_t i = 0; i < n; i++) {
            if (request->bias_ids[i] == (uint32_t)id) /* "7" and "07" */
                return phx_api_refuse(fault, "logit_bias", "'logit_bias' names token %u twice", (uint32_t)id);
        }
        request->bias_ids[n] = (uint32_t)id;
        if (!read_number(it.value, "logit_bias", -PHX_API_BIAS_ABS_MAX, PHX_API_BIAS_ABS_MAX,
                         &request->bias[n], fault))
            return false;
    }
    request->sampling.n_bias = n;
    request->sampling.bias_ids = request->bias_ids;
    request->sampling.bias = request->bias;
    return true;
}

/* ---------------------------------------------------------------- where the answer ends */

bool phx_api_read_max_tokens(const phx_json *value, const phx_model_text *text, phx_api_request *request,
                             phx_api_fault *fault)
{
    request->has_max_tokens = true;
    return read_u32(value, "max_tokens", 1, text->n_context, &request->max_tokens, fault);
}

bool phx_api_read_max_completion_tokens(const phx_json *value, const phx_model_text *text,
                                        phx_api_request *request, phx_api_fault *fault)
{
    request->has_max_completion_tokens = true;
    return read_u32(value, "max_completion_tokens", 1, text->n_context, &request->max_completion_tokens,
                    fault);
}

static bool add_stop(const phx_json *value, phx_api_request *request, phx_api_fault *fault)
{
    phx_str stop;
    if (!phx_json_as_str(value, &stop))
        return wrong_type(fault, "stop", "a string or an array of strings", value);
    if (stop.n == 0 || stop.n > PHX_STOP_BYTES_MAX)
        return phx_api_refuse(fault, "stop", "'stop' holds a string of %zu bytes, but 1 to %u are taken",
                              stop.n, PHX_STOP_BYTES_MAX);
    request->stops[request->n_stops++] = stop;
    return true;
}

bool phx_api_read_stop(const phx_json *value, const phx_model_text *text, phx_api_request *request,
                       phx_api_fault *fault)
{
    (void)text;
    if (phx_json_kind_of(value) != PHX_JSON_ARRAY)
        return add_stop(value, request, fault);
    const size_t n = phx_json_count(value);
    if (n > PHX_STOP_STRINGS_MAX)
        return phx_api_refuse(fault, "stop", "'stop' holds %zu strings, but at most %u are taken", n,
                              PHX_STOP_STRINGS_MAX);
    for (size_t i = 0; i < n; i++) {
        if (!add_stop(phx_json_at(value, i), request, fault))
            return false;
    }
    return true;
}

bool phx_api_read_stop_token_ids(const phx_json *value, const phx_model_text *text, phx_api_request *request,
                                 phx_api_fault *fault)
{
    const size_t n = phx_json_count(value);
    if (phx_json_kind_of(value) != PHX_JSON_ARRAY)
        return wrong_type(fault, "stop_token_ids", "an array of token ids", value);
    if (n > PHX_STOP_IDS_MAX)
        return phx_api_refuse(fault, "stop_token_ids",
                              "'stop_token_ids' holds %zu ids, but at most %u are taken", n,
                              PHX_STOP_IDS_MAX);
    for (size_t i = 0; i < n; i++) {
        if (!read_u32(phx_json_at(value, i), "stop_token_ids", 0, (int64_t)text->n_vocab - 1,
                      &request->stop_ids[i], fault))
            return false;
    }
    request->n_stop_ids = (uint32_t)n;
    return true;
}

bool phx_api_read_return_token_ids(const phx_json *value, const phx_model_text *text,
                                   phx_api_request *request, phx_api_fault *fault)
{
    (void)text;
    return read_bool(value, "return_token_ids", &request->return_token_ids, fault);
}

bool phx_api_read_ignore_eos(const phx_json *value, const phx_model_text *text, phx_api_request *request,
                             phx_api_fault *fault)
{
    (void)text;
    return read_bool(value, "ignore_eos", &request->ignore_eos, fault);
}

/* ---------------------------------------------------------------- how it is told */

bool phx_api_read_stream(const phx_json *value, const phx_model_text *text, phx_api_request *request,
                         phx_api_fault *fault)
{
    (void)text;
    return read_bool(value, "stream", &request->stream, fault);
}

bool phx_api_read_stream_options(const phx_json *value, const phx_model_text *text, phx_api_request *request,
                                 phx_api_fault *fault)
{
    (void)text;
    if (phx_json_kind_of(value) != PHX_JSON_OBJECT)
        return wrong_type(fault, "stream_options", "an object", value);
    request->has_stream_options = true;
    for (phx_json_member it = phx_json_first(value); it.value; it = phx_json_next(value, it)) {
        bool on = false;
        if (phx_json_kind_of(it.value) == PHX_JSON_NULL)
            continue;
        if (!read_bool(it.value, "stream_options", &on, fault))
            return false;
        if (phx_str_is(it.key, "include_usage"))
            request->include_usage = on;
        else if (!phx_str_is(it.key, "include_obfuscation") && /* padding against eavesdroppers: not made */
                 (on || !phx_str_is(it.key, "continuous_usage_stats")))
            return phx_api_refuse(fault, "stream_options",
                                  "'stream_options' does not support '%.*s' with this value",
                                  (int)(it.key.n > 64 ? 64 : it.key.n), it.key.ptr);
    }
    return true;
}

/* Chat: a switch. Completions: how many alternatives. */
bool phx_api_read_logprobs(const phx_json *value, const phx_model_text *text, phx_api_request *request,
                           phx_api_fault *fault)
{
    (void)text;
    if (request->where == PHX_API_CHAT)
        return read_bool(value, "logprobs", &request->sampling.logprobs, fault);
    if (!read_u32(value, "logprobs", 0, PHX_TOP_LOGPROBS_MAX, &request->sampling.n_top_logprobs, fault))
        return false;
    request->sampling.logprobs = true;
    return true;
}

bool phx_api_read_top_logprobs(const phx_json *value, const phx_model_text *text, phx_api_request *request,
                               phx_api_fault *fault)
{
    (void)text;
    if (!read_u32(value, "top_logprobs", 0, PHX_TOP_LOGPROBS_MAX, &request->sampling.n_top_logprobs, fault))
        return false;
    request->has_top_logprobs = request->sampling.n_top_logprobs > 0;
    return true;
}
