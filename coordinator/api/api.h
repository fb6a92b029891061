/* coordinator/api/api.h - the two faces of the coordinator: OpenAI's HTTP API and the control service.
 * Owns: routes, JSON of requests and answers, metrics, calls of control clients.
 * Not here: sockets (http/, proto/link.h), text (api/generation.h). */
#ifndef PHX_COORDINATOR_API_API_H
#define PHX_COORDINATOR_API_API_H

#include "coordinator/api/generation.h"
#include "coordinator/http/http.h"
#include "proto/link.h"

typedef struct phx_api phx_api;

typedef struct phx_api_options {
    phx_loop *loop;
    phx_engine *engine;
    /* NULL until phx_api_set_text: only /livez, /readyz, /metrics and Status work */
    const phx_model_text *text;
    const char *http_address;                       /* shown by Status; NULL: no HTTP */
    void (*drain)(void *user, uint32_t timeout_ms); /* the Drain method and SIGTERM share this */
    void *drain_user;
} phx_api_options;

phx_code phx_api_create(const phx_api_options *options, phx_api **ret_api, phx_error *err);
void phx_api_destroy(phx_api *api); /* accepts NULL; after the HTTP server and the control link */
void phx_api_set_text(phx_api *api, const phx_model_text *text);
/* call runs once no large body is being read for an answer: at once when none is. For draining; call again
 * replaces it. */
void phx_api_await_bodies(phx_api *api, phx_loop_call call);
void phx_api_set_http(phx_api *api, const phx_http *http); /* for /metrics */

/* Routes for phx_http_options; live as long as the api. */
const phx_http_route *phx_api_routes(const phx_api *api, size_t *ret_n);

/* Serves control clients on a ROUTER link that the caller has bound; the api watches it on the loop and owns
 * it from here. */
phx_code phx_api_serve_control(phx_api *api, phx_link *link, phx_error *err);

#endif
