/* coordinator/api/tokens.c - /tokenize, /detokenize, /v1/models. */
#include <stdio.h>

#include "base/alloc.h"
#include "coordinator/api/api_private.h"
#include "coordinator/api/prompt.h"
#include "coordinator/api/work.h"

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

static void send_model(phx_api *api, bool as_list, phx_http_reply *reply)
{
    phx_buf body;
    phx_json_writer w;
    if (!has_text(api, reply))
        return;
    phx_buf_init(&body, REPLY_BYTES_MAX);
    phx_json_writer_init(&w, &body);
    if (as_list) {
        phx_json_begin_object(&w);
        phx_json_key(&w, "object");
        phx_json_text(&w, "list");
        phx_json_key(&w, "data");
        phx_json_begin_array(&w);
    }
    write_model(api, &w);
    if (as_list) {
        phx_json_end_array(&w);
        phx_json_end_object(&w);
    }
    phx_api_send_json(reply, &body);
    phx_buf_done(&body);
}

void phx_api_models(void *user, const phx_http_request *request, phx_http_reply *reply)
{
    (void)request;
    send_model(user, true, reply);
}

void phx_api_model(void *user, const phx_http_request *request, phx_http_reply *reply)
{
    const phx_api *api = user;
    const phx_str path = request->path;
    const phx_str name = {path.ptr + strlen(PHX_API_MODEL_PATH), path.n - strlen(PHX_API_MODEL_PATH)};
    phx_api_fault fault;
    if (api->text && !phx_http_path_spells(name, api->text->name)) {
        (void)phx_api_refuse_model(name, api->text, &fault);
        phx_api_send_fault(reply, &fault);
        return;
    }
    send_model(user, false, reply);
}

/* ---------------------------------------------------------------- both ways */

typedef struct tokens_work {
    phx_api_work work; /* first */
    phx_buf body;      /* of the answer */
} tokens_work;

static void finish(phx_api_work *work)
{
    tokens_work *t = (tokens_work *)work;
    if (work->reply && work->ok)
        phx_api_send_json(work->reply, &t->body);
    else if (work->reply)
        phx_api_send_fault(work->reply, &work->fault);
    phx_buf_done(&t->body);
    phx_api_work_free(work);
}

static bool make_tokens(phx_api_work *work, phx_api_fault *fault);

static void begin(phx_api *api, bool (*make)(phx_api_work *, phx_api_fault *),
                  const phx_http_request *request, phx_http_reply *reply)
{
    phx_api_fault fault;
    if (!has_text(api, reply))
        return;
    tokens_work *t = phx_alloc(1, sizeof(*t));
    if (!t) {
        phx_api_fault_of(&(phx_error){.code = PHX_ERR_NOMEM}, &fault);
        phx_api_send_fault(reply, &fault);
        return;
    }
    phx_buf_init(&t->body, REPLY_BYTES_MAX);
    t->work.make = make;
    t->work.finish = finish;
    t->work.renders = make == make_tokens;
    phx_api_work_begin_http(api, &t->work, request, reply);
}

/* ---------------------------------------------------------------- /tokenize */

/* The flat form: prompt, add_special_tokens, model. */
static bool read_flat(const phx_model_text *model, const phx_json *root, phx_api_prompt *ret_prompt,
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
            if (!phx_api_read_model(it.value, model, &unused, fault))
                return false;
        } else {
            char name[64];
            (void)phx_str_copy(name, sizeof(name), it.key);
            return phx_api_refuse(fault, name, "unknown field '%s'", name);
        }
    }
    if (!text.ptr)
        return phx_api_refuse(fault, "prompt", "'prompt' or 'messages' is required");
    return phx_api_prompt_text(model, text, add_special, PHX_REQUEST_TOKENS_MAX, ret_prompt, fault);
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

static bool tokens_of(const phx_api_work *work, phx_api_prompt *ret_prompt, phx_api_fault *fault)
{
    const phx_model_text *model = &work->text;
    const phx_bytes body = work->body;
    phx_json *root = NULL;
    phx_api_request request = {0};
    bool ok = parse(body, &root, fault);
    if (ok && phx_json_get(root, "messages")) {
        ok = phx_api_request_read(body, PHX_API_PROMPT, model, &request, fault);
        request.stop = work->job.stop;
        ok = ok && phx_api_prompt_chat(model, &request, PHX_REQUEST_TOKENS_MAX, ret_prompt, fault);
        phx_api_request_done(&request);
    } else if (ok) {
        ok = read_flat(model, root, ret_prompt, fault);
    }
    phx_json_destroy(root);
    return ok;
}

static bool make_tokens(phx_api_work *work, phx_api_fault *fault)
{
    tokens_work *t = (tokens_work *)work;
    phx_json_writer w;
    phx_api_prompt prompt = {0};
    if (!tokens_of(work, &prompt, fault))
        return false;
    phx_json_writer_init(&w, &t->body);
    phx_json_begin_object(&w);
    phx_json_key(&w, "count");
    phx_json_u64(&w, prompt.n);
    phx_json_key(&w, "max_model_len");
    phx_json_u64(&w, work->text.n_context);
    phx_json_key(&w, "tokens");
    phx_json_begin_array(&w);
    for (uint32_t i = 0; i < prompt.n; i++)
        phx_json_u64(&w, prompt.ids[i]);
    phx_json_end_array(&w);
    phx_json_end_object(&w);
    phx_api_prompt_done(&prompt);
    return true;
}

void phx_api_tokenize(void *user, const phx_http_request *request, phx_http_reply *reply)
{
    begin(user, make_tokens, request, reply);
}

/* ---------------------------------------------------------------- /detokenize */

static bool text_of(const phx_model_text *model, phx_bytes body, phx_buf *text, phx_api_fault *fault)
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
            ok = phx_api_read_model(it.value, model, &unused, fault);
        else if (!phx_str_is(it.key, "tokens"))
            ok = phx_api_refuse(fault, name, "unknown field '%s'", name);
    }
    ok = ok && phx_api_prompt_node(model, phx_json_get(root, "tokens"), "tokens", &prompt, fault);
    if (ok && phx_api_text_of_ids(model, &prompt, false, text, &err) != PHX_OK) {
        phx_api_fault_of(&err, fault);
        ok = false;
    }
    phx_api_prompt_done(&prompt);
    phx_json_destroy(root);
    return ok;
}

static bool make_text(phx_api_work *work, phx_api_fault *fault)
{
    tokens_work *t = (tokens_work *)work;
    phx_buf text;
    phx_json_writer w;
    phx_buf_init(&text, REPLY_BYTES_MAX);
    const bool ok = text_of(&work->text, work->body, &text, fault);
    if (ok) {
        phx_json_writer_init(&w, &t->body);
        phx_json_begin_object(&w);
        phx_json_key(&w, "prompt");
        phx_json_str(&w, phx_buf_view(&text));
        phx_json_end_object(&w);
    }
    phx_buf_done(&text);
    return ok;
}

void phx_api_detokenize(void *user, const phx_http_request *request, phx_http_reply *reply)
{
    begin(user, make_text, request, reply);
}
