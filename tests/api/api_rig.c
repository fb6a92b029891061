/* tests/api/api_rig.c - see api_rig.h. */
#include "tests/api/api_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/file.h"
#include "coordinator/api/prompt.h"

const char *api_rig_demo(void)
{
    static char path[4096];
    const char *places[] = {getenv("PHX_SOURCE"), "launch/demo", getenv("PHX_SHARED"), "demo"};
    for (int i = 0; i < 4; i += 2) {
        char file[4200];
        if (!places[i])
            continue;
        (void)snprintf(path, sizeof(path), "%s/%s", places[i], places[i + 1]);
        (void)snprintf(file, sizeof(file), "%s/expected_greedy.json", path);
        if (phx_file_exists(file))
            return path;
    }
    printf("SKIP: the demo model is neither in launch/demo nor in the shared data\n");
    exit(77);
}

static void on_drain(void *user, uint32_t timeout_ms)
{
    const api_rig *r = user;
    r->drain(r->drain_user, timeout_ms);
}

void api_rig_open(api_rig *r)
{
    char file[4200];
    phx_error err = {0};
    size_t n_routes = 0;
    const char *demo = api_rig_demo();
    *r = (api_rig){.n_live_before = phx_alloc_count().n_live};
    (void)snprintf(file, sizeof(file), "%s/expected_greedy.json", demo);
    phx_plan_request request;
    phx_plan_request_default(&request);
    request.memory_bytes = 1u << 30;
    request.n_threads = 1;
    if (phx_loop_create(&r->web.loop, &err) != PHX_OK ||
        phx_json_parse_file(file, PHX_JSON_LIMITS_FILE, &r->greedy, &err) != PHX_OK ||
        phx_checkpoint_open(demo, &r->checkpoint, &err) != PHX_OK ||
        phx_plan_build(r->checkpoint, &request, &r->plan, &err) != PHX_OK ||
        phx_model_text_load(&(phx_model_text_from){.model_dir = demo,
                                                   .name = "demo",
                                                   .dims = phx_checkpoint_dims(r->checkpoint),
                                                   .n_context = 512},
                            &r->text, &err) != PHX_OK)
        fail_msg("%s", err.text);
    r->engine = fake_engine_create(r->web.loop);
    r->engine->plan = r->plan;
    const phx_api_options options = {
        .loop = r->web.loop, .engine = r->engine, .text = &r->text, .drain = on_drain, .drain_user = r};
    assert_int_equal(phx_api_create(&options, &r->api, &err), PHX_OK);
    const phx_http_route *routes = phx_api_routes(r->api, &n_routes);
    const phx_http_options http = {
        .loop = r->web.loop, .host = "127.0.0.1", .routes = routes, .n_routes = n_routes};
    if (phx_http_create(&http, &r->web.http, &err) != PHX_OK)
        fail_msg("%s", err.text);
    phx_api_set_http(r->api, r->web.http);
    api_rig_script(r, 0, "capital of France");
}

void api_rig_close(api_rig *r)
{
    rig_spin(&r->web);
    phx_http_destroy(r->web.http);
    phx_api_destroy(r->api);
    assert_int_equal(fake_engine_n_living(r->engine), 0);
    fake_engine_destroy(r->engine);
    phx_model_text_done(&r->text);
    phx_plan_destroy(r->plan);
    phx_checkpoint_close(r->checkpoint);
    phx_json_destroy(r->greedy);
    phx_loop_destroy(r->web.loop);
    assert_int_equal(phx_alloc_count().n_live, r->n_live_before);
}

void api_rig_script(api_rig *r, uint32_t i, const char *case_name)
{
    const phx_json *cases = phx_json_get(r->greedy, "cases");
    for (size_t c = 0; c < phx_json_count(cases); c++) {
        phx_str name;
        const phx_json *one = phx_json_at(cases, c);
        if (!phx_json_as_str(phx_json_get(one, "name"), &name) || !phx_str_is(name, case_name))
            continue;
        const phx_json *ids = phx_json_get(one, "answer_ids");
        r->engine->scripts[i].n = (uint32_t)phx_json_count(ids);
        for (uint32_t k = 0; k < r->engine->scripts[i].n; k++) {
            int64_t id = 0;
            assert_true(phx_json_as_i64(phx_json_at(ids, k), &id));
            r->engine->scripts[i].ids[k] = (uint32_t)id;
        }
        if (r->engine->n_scripts <= i)
            r->engine->n_scripts = i + 1;
        return;
    }
    fail_msg("no case '%s'", case_name);
}

void api_rig_script_text(api_rig *r, uint32_t i, const char *text)
{
    phx_api_fault fault;
    phx_api_prompt prompt = {0};
    if (!phx_api_prompt_text(&r->text, phx_str_of(text), false, FAKE_TOKENS_MAX, &prompt, &fault))
        fail_msg("%s", fault.message);
    assert_true(prompt.n < FAKE_TOKENS_MAX);
    memcpy(r->engine->scripts[i].ids, prompt.ids, prompt.n * sizeof(uint32_t));
    r->engine->scripts[i].ids[prompt.n] = r->engine->eos;
    r->engine->scripts[i].n = prompt.n + 1;
    if (r->engine->n_scripts <= i)
        r->engine->n_scripts = i + 1;
    phx_api_prompt_done(&prompt);
}

/* ---------------------------------------------------------------- asking */

static char *dechunk(char *body)
{
    char *out = calloc(1, strlen(body) + 1);
    size_t n = 0;
    assert_non_null(out);
    for (char *at = body;;) {
        char *end = NULL;
        const unsigned long n_chunk = strtoul(at, &end, 16);
        assert_true(end != at && end[0] == '\r');
        if (n_chunk == 0)
            break;
        memcpy(out + n, end + 2, n_chunk);
        n += n_chunk;
        at = end + 2 + n_chunk + 2;
    }
    return out;
}

static api_reply take_reply(client *c)
{
    api_reply reply = {0};
    client_wait(c, "\r\n\r\n");
    client_wait_closed(c);
    assert_int_equal(sscanf(c->in, "HTTP/1.1 %d ", &reply.status), 1);
    char *body = strstr(c->in, "\r\n\r\n") + 4;
    reply.head = calloc(1, (size_t)(body - c->in) + 1);
    memcpy(reply.head, c->in, (size_t)(body - c->in));
    const bool chunked = strstr(reply.head, "Transfer-Encoding: chunked") != NULL;
    reply.body = chunked ? dechunk(body) : strdup(body);
    client_close(c);
    if (strstr(reply.head, "Content-Type: application/json")) {
        phx_error err = {0};
        const phx_bytes bytes = {(const uint8_t *)reply.body, strlen(reply.body)};
        if (phx_json_parse(bytes, PHX_JSON_LIMITS_FILE, &reply.json, &err) != PHX_OK)
            fail_msg("%s in '%s'", err.text, reply.body);
    }
    return reply;
}

api_reply api_raw(api_rig *r, const char *bytes, size_t n)
{
    client *c = client_open(&r->web);
    client_send_n(c, bytes, n);
    return take_reply(c);
}

api_reply api_ask(api_rig *r, const char *method, const char *path, const char *body)
{
    const size_t n = strlen(body);
    char *text = calloc(1, n + 512);
    assert_non_null(text);
    int n_text = 0;
    if (strcmp(method, "GET") == 0)
        n_text =
            snprintf(text, n + 512, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path);
    else
        n_text = snprintf(text, n + 512,
                          "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: "
                          "application/json\r\nContent-Length: %zu\r\n\r\n%s",
                          method, path, n, body);
    api_reply reply = api_raw(r, text, (size_t)n_text);
    free(text);
    return reply;
}

api_reply api_post(api_rig *r, const char *path, const char *body)
{
    return api_ask(r, "POST", path, body);
}

api_reply api_get(api_rig *r, const char *path)
{
    return api_ask(r, "GET", path, "");
}

void api_reply_done(api_reply *reply)
{
    free(reply->head);
    free(reply->body);
    phx_json_destroy(reply->json);
    *reply = (api_reply){0};
}

/* ---------------------------------------------------------------- looking */

const phx_json *api_node(const phx_json *root, const char *path)
{
    const phx_json *node = root;
    while (*path && node) {
        char key[64];
        const size_t n = strcspn(path, ".");
        assert_true(n < sizeof(key));
        memcpy(key, path, n);
        key[n] = 0;
        if (phx_json_kind_of(node) == PHX_JSON_ARRAY)
            node = phx_json_at(node, (size_t)strtoul(key, NULL, 10));
        else
            node = phx_json_get(node, key);
        path += n + (path[n] == '.');
    }
    return node;
}

phx_str api_str(const phx_json *root, const char *path)
{
    phx_str text = {0};
    if (!phx_json_as_str(api_node(root, path), &text))
        fail_msg("no string at %s", path);
    return text;
}

int64_t api_int(const phx_json *root, const char *path)
{
    int64_t value = 0;
    if (!phx_json_as_i64(api_node(root, path), &value))
        fail_msg("no number at %s", path);
    return value;
}

/* ---------------------------------------------------------------- streams */

static void append(phx_buf *to, const phx_json *node)
{
    phx_str text;
    if (phx_json_as_str(node, &text))
        (void)phx_buf_append(to, text.ptr, text.n);
}

static void join_calls(const phx_json *calls, api_joined *j)
{
    for (size_t i = 0; i < phx_json_count(calls); i++) {
        const phx_json *call = phx_json_at(calls, i);
        if (phx_json_get(call, "id")) {
            const phx_str id = api_str(call, "id"); /* Kimi's are numbered */
            assert_true(phx_str_starts(id, phx_str_of("call_")) ||
                        phx_str_starts(id, phx_str_of("functions.")));
            assert_api_str(call, "type", "function");
            append(&j->names, api_node(call, "function.name"));
            (void)phx_buf_char(&j->names, ' ');
            if (j->arguments.n > 0)
                (void)phx_buf_char(&j->arguments, '\n');
        }
        append(&j->arguments, api_node(call, "function.arguments"));
    }
}

static void join_choice(const phx_json *choice, bool is_chat, api_stream *s)
{
    phx_str finish;
    api_joined *j = &s->choices[api_int(choice, "index")];
    const phx_json *delta = phx_json_get(choice, "delta");
    assert_true(j->finish[0] == 0); /* nothing after the end */
    if (is_chat) {
        assert_non_null(delta);
        j->n_roles += phx_json_get(delta, "role") != NULL;
        assert_int_equal(j->n_roles, 1);
        append(&j->content, phx_json_get(delta, "content"));
        append(&j->reasoning, phx_json_get(delta, "reasoning_content"));
        join_calls(phx_json_get(delta, "tool_calls"), j);
    } else {
        append(&j->content, phx_json_get(choice, "text"));
    }
    const phx_json *items = api_node(choice, is_chat ? "logprobs.content" : "logprobs.tokens");
    if (phx_json_count(items) > 0) {
        phx_buf text;
        phx_json_writer w;
        phx_buf_init(&text, 1u << 20);
        phx_json_writer_init(&w, &text);
        phx_json_node(&w, items);
        if (j->logprobs.n > 0)
            (void)phx_buf_char(&j->logprobs, ',');
        (void)phx_buf_append(&j->logprobs, text.ptr + 1, text.n - 2);
        phx_buf_done(&text);
    }
    if (phx_json_as_str(phx_json_get(choice, "finish_reason"), &finish))
        (void)phx_str_copy(j->finish, sizeof(j->finish), finish);
}

static void join_event(phx_str text, bool is_chat, api_stream *s)
{
    phx_error err = {0};
    phx_json *root = NULL;
    assert_false(s->has_done);
    s->n_events++;
    if (phx_str_is(text, "[DONE]")) {
        s->has_done = true;
        return;
    }
    if (phx_json_parse((phx_bytes){(const uint8_t *)text.ptr, text.n}, PHX_JSON_LIMITS_FILE, &root, &err) !=
        PHX_OK)
        fail_msg("%s in %.*s", err.text, PHX_STR_ARG(text));
    if (phx_json_get(root, "error")) {
        (void)phx_str_copy(s->error, sizeof(s->error), api_str(root, "error.message"));
    } else {
        const phx_json *choices = phx_json_get(root, "choices");
        for (size_t i = 0; i < phx_json_count(choices); i++)
            join_choice(phx_json_at(choices, i), is_chat, s);
        if (phx_json_count(choices) == 0) {
            s->n_prompt = api_int(root, "usage.prompt_tokens");
            s->n_output = api_int(root, "usage.completion_tokens");
        }
    }
    phx_json_destroy(root);
}

void api_join(const api_reply *reply, bool is_chat, api_stream *ret_stream)
{
    *ret_stream = (api_stream){.n_prompt = -1};
    for (int i = 0; i < 8; i++) {
        api_joined *j = &ret_stream->choices[i];
        phx_buf_init(&j->content, 1u << 20);
        phx_buf_init(&j->reasoning, 1u << 20);
        phx_buf_init(&j->arguments, 1u << 20);
        phx_buf_init(&j->names, 1u << 20);
        phx_buf_init(&j->logprobs, 1u << 20);
    }
    assert_non_null(strstr(reply->head, "Content-Type: text/event-stream"));
    for (const char *at = reply->body; *at;) {
        const char *end = strstr(at, "\n\n");
        assert_non_null(end);
        assert_true(strncmp(at, "data: ", 6) == 0);
        join_event((phx_str){at + 6, (size_t)(end - at) - 6}, is_chat, ret_stream);
        at = end + 2;
    }
}

void api_stream_done(api_stream *stream)
{
    for (int i = 0; i < 8; i++) {
        api_joined *j = &stream->choices[i];
        phx_buf_done(&j->content);
        phx_buf_done(&j->reasoning);
        phx_buf_done(&j->arguments);
        phx_buf_done(&j->names);
        phx_buf_done(&j->logprobs);
    }
}
