/* coordinator/api/api.c - the api as an object: routes, health, and the small things that all routes use. */
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "coordinator/api/api_private.h"

static void make_routes(phx_api *api);
static void make_fingerprint(phx_api *api);

phx_code phx_api_create(const phx_api_options *options, phx_api **ret_api, phx_error *err)
{
    phx_api *api = phx_alloc(1, sizeof(*api));
    if (!api)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "the api");
    phx_code rc = phx_text_thread_create(options->loop, &api->text_thread, err);
    if (rc == PHX_OK)
        rc = phx_text_thread_create(options->loop, &api->chat_thread, err);
    if (rc != PHX_OK) {
        phx_text_thread_destroy(api->text_thread);
        phx_free(api);
        return rc;
    }
    api->options = *options;
    api->start_us = phx_clock_us();
    make_routes(api);
    if (options->text)
        phx_api_set_text(api, options->text);
    *ret_api = api;
    return PHX_OK;
}

void phx_api_destroy(phx_api *api)
{
    if (!api)
        return;
    api->bodies_done = (phx_loop_call){NULL, NULL};
    phx_text_thread_destroy(api->chat_thread);
    phx_text_thread_destroy(api->text_thread);
    phx_control_destroy(api->control);
    phx_answer_drop_all(api);
    phx_free(api);
}

void phx_api_set_text(phx_api *api, const phx_model_text *text)
{
    api->text = text;
    make_fingerprint(api);
}

void phx_api_set_http(phx_api *api, const phx_http *http)
{
    api->http = http;
}

const phx_http_route *phx_api_routes(const phx_api *api, size_t *ret_n)
{
    *ret_n = api->n_routes;
    return api->routes;
}

/* What can change an answer: the checkpoint and the numerics, not the layout. */
static void make_fingerprint(phx_api *api)
{
    char hex[17];
    phx_hasher hasher;
    const phx_plan *plan = phx_engine_plan(api->options.engine);
    phx_hasher_init(&hasher);
    if (plan) {
        const phx_hash numerics = phx_numerics_hash(&plan->request.numerics);
        phx_hasher_add(&hasher, numerics.bytes, sizeof(numerics.bytes));
    }
    if (plan && plan->checkpoint) {
        const phx_hash checkpoint = phx_checkpoint_hash(plan->checkpoint);
        phx_hasher_add(&hasher, checkpoint.bytes, sizeof(checkpoint.bytes));
    }
    const phx_hash hash = phx_hasher_final(&hasher);
    phx_hash_hex(&hash, 16, hex);
    (void)snprintf(api->fingerprint, sizeof(api->fingerprint), "fp_%s", hex);
}

/* ---------------------------------------------------------------- health */

static void send_state(const phx_api *api, int status, phx_http_reply *reply)
{
    char body[64];
    static const phx_http_header retry = {"Retry-After", "5"};
    (void)snprintf(body, sizeof(body), "{\"status\":\"%s\"}",
                   phx_engine_state_name(phx_engine_state_of(api->options.engine)));
    phx_http_reply_send(reply, &(phx_http_response){.status = status,
                                                    .content_type = "application/json",
                                                    .headers = &retry,
                                                    .n_headers = status == 503 ? 1 : 0,
                                                    .body = phx_str_of(body)});
}

/* The process lives; true also while a group is being relaunched. */
static void on_livez(void *user, const phx_http_request *request, phx_http_reply *reply)
{
    (void)request;
    send_state(user, 200, reply);
}

static void on_readyz(void *user, const phx_http_request *request, phx_http_reply *reply)
{
    const phx_api *api = user;
    (void)request;
    const bool ready = api->text && phx_engine_state_of(api->options.engine) == PHX_ENGINE_READY;
    send_state(api, ready ? 200 : 503, reply);
}

static void make_routes(phx_api *api)
{
    const phx_http_route routes[] = {
        {"GET", "/livez", false, on_livez, api},
        {"GET", "/readyz", true, on_readyz, api},
        {"GET", "/metrics", true, phx_api_metrics, api},
        {"GET", "/v1/models", true, phx_api_models, api},
        {"GET", PHX_API_MODEL_PATH, true, phx_api_model, api},
        {"POST", "/v1/chat/completions", true, phx_api_chat, api},
        {"POST", "/v1/completions", true, phx_api_completions, api},
        {"POST", "/tokenize", true, phx_api_tokenize, api},
        {"POST", "/detokenize", true, phx_api_detokenize, api},
    };
    _Static_assert(sizeof(routes) / sizeof(routes[0]) <= PHX_API_ROUTES_MAX, "room for the routes");
    memcpy(api->routes, routes, sizeof(routes));
    api->n_routes = sizeof(routes) / sizeof(routes[0]);
}

/* ---------------------------------------------------------------- for all routes */

bool phx_api_is_ready(const phx_api *api, phx_api_fault *fault)
{
    const phx_engine_state state = phx_engine_state_of(api->options.engine);
    phx_error err = {0};
    if (state == PHX_ENGINE_READY && api->text)
        return true;
    (void)PHX_FAIL(&err, PHX_ERR_UNAVAILABLE, "the server is %s",
                   state == PHX_ENGINE_READY ? "starting" : phx_engine_state_name(state));
    phx_api_fault_of(&err, fault);
    return false;
}

void phx_api_send_fault(phx_http_reply *reply, const phx_api_fault *fault)
{
    const phx_http_error error = phx_api_http_error(fault);
    phx_http_reply_error(reply, &error);
}

void phx_api_send_json(phx_http_reply *reply, phx_buf *body)
{
    if (body->code == PHX_OK)
        phx_http_reply_send(reply, &(phx_http_response){.status = 200,
                                                        .content_type = "application/json",
                                                        .body = phx_buf_view(body)});
    else
        phx_http_reply_error(reply, &(phx_http_error){.status = 500, .message = "the reply is too large"});
}
