/* tests/api/api_rig.h - the api over HTTP on the fake engine and the demo model's tokenizer, and a client,
 * all in one thread. */
#ifndef PHX_TESTS_API_RIG_H
#define PHX_TESTS_API_RIG_H

#include "coordinator/api/api.h"
#include "model/checkpoint.h"
#include "tests/api/fake_engine.h"
#include "tests/http/rig.h"

typedef struct api_rig {
    rig web; /* loop and server, for the client functions of tests/http/rig.h */
    phx_engine *engine;
    phx_checkpoint *checkpoint;
    phx_plan *plan;
    phx_model_text text;
    phx_api *api;
    phx_json *greedy;                               /* expected_greedy.json */
    void (*drain)(void *user, uint32_t timeout_ms); /* the Drain method comes here, when set */
    void *drain_user;
    uint64_t n_live_before;
} api_rig;

typedef struct api_reply {
    int status;
    char *head;     /* terminated */
    char *body;     /* terminated, out of its chunks */
    phx_json *json; /* of the body, when it is JSON */
} api_reply;

/* Exits with 77 when the demo model is nowhere. */
const char *api_rig_demo(void);
void api_rig_open(api_rig *r);
void api_rig_close(api_rig *r); /* checks that nothing is left */

/* The answer of the case whose name is this becomes script i; returns its user message's text. */
void api_rig_script(api_rig *r, uint32_t i, const char *case_name);
/* Any text becomes script i, with the end token behind it. */
void api_rig_script_text(api_rig *r, uint32_t i, const char *text);

api_reply api_ask(api_rig *r, const char *method, const char *path, const char *body);
api_reply api_post(api_rig *r, const char *path, const char *body);
api_reply api_get(api_rig *r, const char *path);
/* Sends bytes as they are, reads until the server closes. */
api_reply api_raw(api_rig *r, const char *bytes, size_t n);
void api_reply_done(api_reply *reply);

/* A string at a path such as "choices.0.message.content"; fails when there is none. */
phx_str api_str(const phx_json *root, const char *path);
int64_t api_int(const phx_json *root, const char *path);
const phx_json *api_node(const phx_json *root, const char *path); /* NULL when absent */
#define assert_api_str(root, path, text) assert_true(phx_str_is(api_str((root), (path)), (text)))

/* What a client that reads a stream has in the end, for each choice. */
typedef struct api_joined {
    phx_buf content;
    phx_buf reasoning;
    phx_buf arguments; /* of all calls, with a line end between */
    phx_buf names;
    phx_buf logprobs; /* raw items, joined by commas */
    char finish[32];
    size_t n_roles;
} api_joined;
typedef struct api_stream {
    api_joined choices[8];
    size_t n_events;
    bool has_done;
    int64_t n_prompt; /* usage, -1 when none came */
    int64_t n_output;
    char error[256];
} api_stream;
void api_join(const api_reply *reply, bool is_chat, api_stream *ret_stream);
void api_stream_done(api_stream *stream);

#endif
