/* coordinator/api/api_private.h - what the files of this folder share about the api itself.
 * Owns: struct phx_api, its counters. */
#ifndef PHX_COORDINATOR_API_API_PRIVATE_H
#define PHX_COORDINATOR_API_API_PRIVATE_H

#include "coordinator/api/api.h"
#include "coordinator/api/fields.h"
#include "coordinator/text_thread.h"

#define PHX_API_ROUTES_MAX 16u
#define PHX_API_MODEL_PATH "/v1/models/" /* and the name of one */
#define PHX_API_BUCKETS    14u

typedef enum phx_api_face {
    PHX_API_FACE_CHAT,
    PHX_API_FACE_COMPLETIONS,
    PHX_API_FACE_CONTROL,
    PHX_API_FACE_COUNT
} phx_api_face;

/* How a request to generate ended. */
#define PHX_API_OUTCOMES(X)       \
    X(STOP, "stop")               \
    X(LENGTH, "length")           \
    X(TOOL_CALLS, "tool_calls")   \
    X(CLIENT_LEFT, "client_left") \
    X(CANCELLED, "cancelled")     \
    X(ERROR, "error")             \
    X(INVALID, "invalid")         \
    X(BUSY, "busy")               \
    X(UNAVAILABLE, "unavailable")

typedef enum phx_api_outcome {
#define X(name, text) PHX_API_OUTCOME_##name,
    PHX_API_OUTCOMES(X)
#undef X
        PHX_API_OUTCOME_COUNT
} phx_api_outcome;

typedef struct phx_api_histogram {
    uint64_t n[PHX_API_BUCKETS + 1]; /* the last: above every bound */
    uint64_t sum_us;
} phx_api_histogram;

typedef struct phx_api_tally {
    uint64_t n_outcomes[PHX_API_FACE_COUNT][PHX_API_OUTCOME_COUNT];
    uint64_t n_open[PHX_API_FACE_COUNT];
    uint64_t n_malformed_calls;
    phx_api_histogram first_token; /* from the request to its first token */
    phx_api_histogram whole;       /* to its end */
} phx_api_tally;

typedef struct phx_answer phx_answer;
typedef struct phx_control phx_control;

struct phx_api {
    phx_api_options options;
    const phx_model_text *text;   /* NULL until known */
    phx_text_thread *text_thread; /* for large bodies */
    phx_text_thread *chat_thread; /* for small ones that a template reads: they overtake the large */
    uint32_t n_bodies;            /* that both have */
    phx_loop_call bodies_done;    /* runs when there are none; fn NULL: nobody waits */
    const phx_http *http;         /* NULL: none */
    phx_http_route routes[PHX_API_ROUTES_MAX];
    size_t n_routes;
    char fingerprint[24]; /* empty until known */
    uint64_t start_us;
    phx_api_tally tally;
    phx_answer *answers; /* not yet complete */
    phx_control *control;
};

/* metrics.c */
void phx_api_histogram_add(phx_api_histogram *histogram, uint64_t us);
phx_api_outcome phx_api_outcome_of(const phx_api_fault *fault);
phx_api_outcome phx_api_outcome_of_finish(phx_finish finish);
void phx_api_metrics(void *user, const phx_http_request *request, phx_http_reply *reply);

/* answer.c: the two routes that generate, and what destroy does with answers that are left. */
void phx_api_chat(void *user, const phx_http_request *request, phx_http_reply *reply);
void phx_api_completions(void *user, const phx_http_request *request, phx_http_reply *reply);
void phx_answer_drop_all(phx_api *api);

/* tokens.c */
void phx_api_models(void *user, const phx_http_request *request, phx_http_reply *reply);
void phx_api_model(void *user, const phx_http_request *request, phx_http_reply *reply);
void phx_api_tokenize(void *user, const phx_http_request *request, phx_http_reply *reply);
void phx_api_detokenize(void *user, const phx_http_request *request, phx_http_reply *reply);

/* control.c */
void phx_control_destroy(phx_control *control);

/* api.c */
bool phx_api_is_ready(const phx_api *api, phx_api_fault *fault); /* false: 503 in fault */
void phx_api_send_fault(phx_http_reply *reply, const phx_api_fault *fault);
void phx_api_send_json(phx_http_reply *reply, phx_buf *body);

#endif
