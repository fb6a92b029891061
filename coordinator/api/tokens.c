/* coordinator/api/tokens.c - /tokenize, /detokenize, /v1/models. */
#include <stdio.h>

#include "coordinator/api/api_private.h"
#include "coordinator/api/prompt.h"

#define REPLY_BYTES_MAX (64u << 20)

static void write_model(const phx_api *api, phx_json_writer *w)
{
    phx_json_begin_object(w);
    phx_json_key(w, "id");
    phx_json_text(w, api->text->name);
    phx_json_key(w, "object");
    phx_json_text(w, "model");
    phx_json_key(w, "created");
    phx_json_i64(w, api->text->created_s);
    phx_json_key(w, "owned_by");
    phx_json_text(w, "phalanx");
    phx_json_key(w, "root");
    phx_json_text(w, api->text->name);
    phx_json_key(w, "parent");
    phx_json_null(w);
    phx_json_key(w, "max_model_len");
    phx_json_u64(w, api->text->n_context);
    phx_json_end_object(w);
}

/* The model's name is known before the group is ready, which clients may ask for meanwhile. */
static bool has_text(const phx_api *api, phx_http_reply *reply)
{
    phx_api_fault fault = {.status = 503,
                           .code = "not_ready",
                           .message = "the model is being loaded",
                           .retry_after_s = 5,
                           .cause = PHX_ERR_UNAVAILABLE};
    if (!api->text)
        phx_api_send_fault(reply, &fault);
    return api->text != NULL;
}

void phx_api_models(void *user, const phx_http_request *request, phx_http_reply *reply)
{
    phx_api *api = user;
    phx_buf body;
    phx_json_writer w;
    (void)request;
    if (!has_text(api, reply))
        return;
    phx_buf_init(&body, REPLY_BYTES_MAX);
    phx_json_writer_init(&w, &body);
    phx_json_begin_object(&w);
    phx_json_key(&w, "object");
    phx_json_text(&w, "list");
    phx_json_key(&w, "data");
    phx_json_begin_array(&w);
    write_model(api, &w);
    phx_json_end_array(&w);
    phx_json_end_object(&w);
    phx_api_send_json(reply, &body);
    phx_buf_done(&body);
}

void phx_api_model(void *user, const phx_http_request *request, phx_http_reply *reply)
{
    phx_api *api = user;
    phx_buf body;
    phx_json_writer w;
    (void)request;
    if (!has_text(api, reply))
        return;
    phx_buf_init(&body, REPLY_BYTES_MAX);
    phx_json_writer_init(&w, &body);
    write_model(api, &w);
    phx_api_send_json(reply, &body);
    phx_buf_done(&body);
}

/* ---------------------------------------------------------------- /tokenize */

/* The flat form: prompt, add_special_tokens, model. */
static bool read_flat(const phx_api *api, const phx_json *root, phx_api_prompt *ret_prompt,
                      phx_api_fault *fault)
{
    phx_str text = {0};
    bool add_special = true;
    for (phx_json_member it = phx_json_first(root); it.value; it = phx_json_next(root, it)) {
        if (phx_str_is(it.key, "prompt")) {
            if (!phx_json_as_str(it.value, &text))
                return phx_api_refuse(fault, "prompt", "'prompt' must be a string, not %s",
                                      phx_json_kind_name(it.value));
        } else if (phx_str_is(it.key, "add_special_tokens")) {
            if (!phx_json_as_bool(it.value, &add_special))
                return phx_api_refuse(fault, "add_special_tokens",
                                      "'add_special_tokens' must be true or false");
        } else if (phx_str_is(it.key, "model")) {
            phx_api_request unused = {0};
            if (!phx_api_read_model(it.value, api->text, &unused, fault))
                return false;
        } else {
            char name[64];
            (void)phx_str_copy(name, sizeof(name), it.key);
            return phx_api_refuse(fault, name, "unknown field '%s'", name);
        }
    }
    if (!text.ptr)
        return phx_api_refuse(fault, "prompt", "'prompt' or 'messages' is required");
    return phx_api_prompt_text(api->text, text, add_special, PHX_REQUEST_TOKENS_MAX, ret_prompt, fault);
}

static bool parse(phx_bytes body, phx_json **ret_root, phx_api_fault *fault)
{
    phx_error err = {0};
    if (phx_json_parse(body, PHX_JSON_LIMITS_REQUEST, ret_root, &err) != PHX_OK)
        return phx_api_refuse(fault, NULL, "the body is not acceptable JSON: %s", err.text);
    if (phx_json_kind_of(*ret_root) == PHX_JSON_OBJECT)
        return true;
    return phx_api_refuse(fault, NULL, "the body must be a JSON object, not %s",
                          phx_json_kind_name(*ret_root));
}

static bool tokens_of(const phx_api *api, phx_bytes body, phx_api_prompt *ret_prompt, phx_api_fault *fault)
{
    phx_json *root = NULL;
    phx_api_request request = {0};
    bool ok = parse(body, &root, fault);
    if (ok && phx_json_get(root, "messages")) {
        ok = phx_api_request_read(body, PHX_API_PROMPT, api->text, &request, fault) &&
             phx_api_prompt_chat(api->text, &request, PHX_REQUEST_TOKENS_MAX, ret_prompt, fault);
        phx_api_request_done(&request);
    } else if (ok) {
        ok = read_flat(api, root, ret_prompt, fault);
    }
    phx_json_destroy(root);
    return ok;
}

void phx_api_tokenize(void *user, const phx_http_request *request, phx_http_reply *reply)
{
    phx_api *api = user;
    phx_buf body;
    phx_json_writer w;
    phx_api_fault fault;
    phx_api_prompt prompt = {0};
    if (!has_text(api, reply))
        return;
    if (!tokens_of(api, request->body, &prompt, &fault)) {
        phx_api_send_fault(reply, &fault);
        return;
    }
    phx_buf_init(&body, REPLY_BYTES_MAX);
    phx_json_writer_init(&w, &body);
    phx_json_begin_object(&w);
    phx_json_key(&w, "count");
    phx_json_u64(&w, prompt.n);
    phx_json_key(&w, "max_model_len");
    phx_json_u64(&w, api->text->n_context);
    phx_json_key(&w, "tokens");
    phx_json_begin_array(&w);
    for (uint32_t i = 0; i < prompt.n; i++)
        phx_json_u64(&w, prompt.ids[i]);
    phx_json_end_array(&w);
    phx_json_end_object(&w);
    phx_api_prompt_done(&prompt);
    phx_api_send_json(reply, &body);
    phx_buf_done(&body);
}

/* ---------------------------------------------------------------- /detokenize */

static bool text_of(const phx_api *api, phx_bytes body, phx_buf *text, phx_api_fault *fault)
{
    phx_error err = {0};
    phx_json *root = NULL;
    phx_api_prompt prompt = {0};
    bool ok = parse(body, &root, fault);
    for (phx_json_member it = phx_json_first(root); ok && it.value; it = phx_json_next(root, it)) {
        char name[64];
        (void)phx_str_copy(name, sizeof(name), it.key);
        phx_api_request unused = {0};
        if (phx_str_is(it.key, "model"))
            ok = phx_api_read_model(it.value, api->text, &unused, fault);
        else if (!phx_str_is(it.key, "tokens"))
            ok = phx_api_refuse(fault, name, "unknown field '%s'", name);
    }
    ok = ok && phx_api_prompt_node(api->text, phx_json_get(root, "tokens"), "tokens", &prompt, fault);
    if (ok && phx_api_text_of_ids(api->text, &prompt, false, text, &err) != PHX_OK) {
        phx_api_fault_of(&err, fault);
        ok = false;
    }
    phx_api_prompt_done(&prompt);
    phx_json_destroy(root);
    return ok;
}

void phx_api_detokenize(void *user, const phx_http_request *request, phx_http_reply *reply)
{
    phx_api *api = user;
    phx_buf text;
    phx_buf body;
    phx_json_writer w;
    phx_api_fault fault;
    if (!has_text(api, reply))
        return;
    phx_buf_init(&text, REPLY_BYTES_MAX);
    phx_buf_init(&body, REPLY_BYTES_MAX);
    if (text_of(api, request->body, &text, &fault)) {
        phx_json_writer_init(&w, &body);
        phx_json_begin_object(&w);
        phx_json_key(&w, "prompt");
        phx_json_str(&w, phx_buf_view(&text));
        phx_json_end_object(&w);
        phx_api_send_json(reply, &body);
    } else {
        phx_api_send_fault(reply, &fault);
    }
    phx_buf_done(&text);
    phx_buf_done(&body);
}
