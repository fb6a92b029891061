/* tests/api/test_routes.c - completions, failures and their statuses, clients that leave, tokens, health and
 * metrics. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "tests/api/api_rig.h"

#define CHAT "/v1/chat/completions"
#define ASK  "\"messages\":[{\"role\":\"user\",\"content\":\"What is the capital of France?\"}]"

enum { PATIENCE_US = 10 * 1000 * 1000 };

static bool is(const phx_buf *buf, const char *text)
{
    return phx_str_is(phx_buf_view(buf), text);
}

/* ---------------------------------------------------------------- completions */

static void test_completions(void **state)
{
    (void)state;
    api_rig r;
    api_stream s;
    api_rig_open(&r);
    api_reply reply = api_post(&r, "/v1/completions", "{\"prompt\":[[0,1908,329]],\"logprobs\":2}");
    assert_int_equal(reply.status, 200);
    assert_api_str(reply.json, "choices.0.text", "The capital of France is Paris.");
    assert_int_equal(r.engine->last.n_prompt, 3);
    assert_int_equal(r.engine->last.n_output_max, 16); /* OpenAI's default */
    assert_int_equal(phx_json_count(api_node(reply.json, "choices.0.logprobs.tokens")), 10);
    assert_int_equal(api_int(reply.json, "choices.0.logprobs.text_offset.2"), 11);
    assert_int_equal(phx_json_count(api_node(reply.json, "choices.0.logprobs.token_logprobs")), 10);
    assert_int_equal(phx_json_count(api_node(reply.json, "choices.0.logprobs.top_logprobs.0")), 2);
    api_reply_done(&reply);

    reply = api_post(&r, "/v1/completions", "{\"prompt\":\"Say: \",\"echo\":true,\"n\":2}");
    assert_api_str(reply.json, "choices.0.text", "Say: The capital of France is Paris.");
    assert_api_str(reply.json, "choices.1.text", "Say: The capital of France is Paris.");
    api_reply_done(&reply);
    reply = api_post(&r, "/v1/completions", "{\"prompt\":[\"Say: \"],\"echo\":true,\"stream\":true}");
    api_join(&reply, false, &s);
    assert_true(is(&s.choices[0].content, "Say: The capital of France is Paris."));
    api_stream_done(&s);
    api_reply_done(&reply);
    reply = api_post(&r, "/v1/completions", "{\"prompt\":[276,292],\"echo\":true}");
    assert_api_str(reply.json, "choices.0.text", "The capitalThe capital of France is Paris.");
    api_reply_done(&reply);
    reply = api_post(&r, "/v1/completions", "{\"prompt\":\"x\",\"add_special_tokens\":false}");
    assert_int_equal(r.engine->last.n_prompt, 1);
    api_reply_done(&reply);
    reply = api_post(&r, "/v1/completions", "{\"prompt\":[1920]}");
    assert_int_equal(reply.status, 400);
    assert_api_str(reply.json, "error.param", "prompt");
    api_reply_done(&reply);
    reply = api_post(&r, "/v1/completions", "{\"prompt\":[[]]}");
    assert_int_equal(reply.status, 400);
    api_reply_done(&reply);
    reply = api_post(&r, "/v1/completions", "{\"prompt\":[\"a\",[1920]]}");
    assert_int_equal(reply.status, 400);
    api_reply_done(&reply);
    reply = api_post(&r, "/v1/completions", "{\"prompt\":[\"a\",7]}");
    assert_int_equal(reply.status, 400);
    api_reply_done(&reply);
    reply = api_post(&r, "/v1/completions",
                     "{\"prompt\":[\"a: \",[276],\"c: \"],\"n\":2,\"echo\":true,\"stream\":true}");
    api_join(&reply, false, &s);
    assert_true(is(&s.choices[1].content, "a: The capital of France is Paris."));
    assert_true(is(&s.choices[2].content, "TheThe capital of France is Paris."));
    assert_true(is(&s.choices[5].content, "c: The capital of France is Paris."));
    assert_true(s.has_done);
    api_stream_done(&s);
    api_reply_done(&reply);
    api_rig_close(&r);
}

/* Completions give raw text: marks of reasoning and calls are text like any. */
static void test_plain(void **state)
{
    (void)state;
    api_rig r;
    api_rig_open(&r);
    api_rig_script_text(&r, 0, "a</think>b");
    api_reply reply = api_post(&r, "/v1/completions", "{\"prompt\":\"x\"}");
    assert_api_str(reply.json, "choices.0.text", "a</think>b");
    api_reply_done(&reply);
    api_rig_close(&r);
}

/* ---------------------------------------------------------------- failures */

static void test_context(void **state)
{
    (void)state;
    api_rig r;
    phx_buf body;
    api_rig_open(&r);
    phx_buf_init(&body, 1u << 20);
    for (int n = 511; n <= 512; n++) { /* of a context of 512: one token must remain */
        phx_buf_clear(&body);
        (void)phx_buf_str(&body, "{\"prompt\":[0");
        for (int i = 1; i < n; i++)
            (void)phx_buf_str(&body, ",7");
        (void)phx_buf_str(&body, "]}");
        api_reply reply = api_post(&r, "/v1/completions", body.ptr);
        assert_int_equal(reply.status, n == 511 ? 200 : 400);
        if (n == 512) {
            assert_api_str(reply.json, "error.code", "context_length_exceeded");
            assert_non_null(strstr(reply.body, "512 tokens"));
        }
        api_reply_done(&reply);
    }
    phx_buf_done(&body);
    api_rig_close(&r);
}

/* A text past the context is not counted to its end. */
static void test_context_of_text(void **state)
{
    static const char *const bodies[][3] = {
        {"/v1/completions", "{\"prompt\":\"", "\"}"},
        {CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":\"", "\"}]}"}};
    static const int n_units[] = {513, 300000};
    (void)state;
    api_rig r;
    phx_buf body;
    api_rig_open(&r);
    phx_buf_init(&body, 4u << 20);
    for (size_t i = 0; i < 4; i++) {
        const char *const *parts = bodies[i / 2];
        phx_buf_clear(&body);
        (void)phx_buf_str(&body, parts[1]);
        for (int k = 0; k < n_units[i % 2]; k++)
            (void)phx_buf_str(&body, "7 ");
        (void)phx_buf_str(&body, parts[2]);
        api_reply reply = api_post(&r, parts[0], body.ptr);
        assert_int_equal(reply.status, 400);
        assert_api_str(reply.json, "error.code", "context_length_exceeded");
        assert_non_null(strstr(reply.body, "more than 512 tokens"));
        api_reply_done(&reply);
    }
    assert_int_equal(r.engine->n_submitted, 0);
    phx_buf_done(&body);
    api_rig_close(&r);
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        phx_code code;
        int status;
        const char *error;
        bool retries;
    } cases[] = {{PHX_ERR_BUSY, 429, "queue_full", true},
                 {PHX_ERR_UNAVAILABLE, 503, "not_ready", true},
                 {PHX_ERR_TOO_LONG, 400, "context_length_exceeded", false},
                 {PHX_ERR_PEER_LOST, 503, "group_failed", true},
                 {PHX_ERR_NOMEM, 500, "out_of_memory", false}};
    api_rig r;
    api_rig_open(&r);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (int stream = 0; stream < 2; stream++) {
            r.engine->refuse = cases[i].code;
            r.engine->n_free = stream ? 1 : 0; /* then the second choice fails, and the first must go */
            const uint32_t n_before = r.engine->n_abandoned;
            api_reply reply = api_post(&r, CHAT, stream ? "{" ASK ",\"stream\":true,\"n\":2}" : "{" ASK "}");
            assert_int_equal(reply.status, cases[i].status);
            assert_api_str(reply.json, "error.code", cases[i].error);
            assert_int_equal(strstr(reply.head, "Retry-After: ") != NULL, cases[i].retries);
            assert_int_equal(r.engine->n_abandoned - n_before, (uint32_t)stream);
            assert_int_equal(fake_engine_n_living(r.engine), 0);
            api_reply_done(&reply);
        }
    }
    api_rig_close(&r);
}

static void test_not_ready(void **state)
{
    (void)state;
    static const phx_engine_state states[] = {PHX_ENGINE_STARTING, PHX_ENGINE_DRAINING, PHX_ENGINE_FAILED};
    api_rig r;
    api_rig_open(&r);
    for (size_t i = 0; i < 3; i++) {
        r.engine->state = states[i];
        api_reply reply = api_post(&r, CHAT, "{" ASK "}");
        assert_int_equal(reply.status, 503);
        assert_non_null(strstr(reply.head, "Retry-After: "));
        api_reply_done(&reply);
        reply = api_get(&r, "/readyz");
        assert_int_equal(reply.status, 503);
        assert_api_str(reply.json, "status", phx_engine_state_name(states[i]));
        api_reply_done(&reply);
        reply = api_get(&r, "/livez");
        assert_int_equal(reply.status, 200);
        api_reply_done(&reply);
    }
    r.engine->state = PHX_ENGINE_READY;
    api_reply reply = api_get(&r, "/readyz");
    assert_int_equal(reply.status, 200);
    api_reply_done(&reply);
    api_rig_close(&r);
}

/* The group dies: before the first token a status, after it an event in the stream. Texts of ranks stay in
 * the house. */
static void test_group_fails(void **state)
{
    (void)state;
    api_rig r;
    api_stream s;
    api_rig_open(&r);
    r.engine->fail_after = 2;
    api_reply reply = api_post(&r, CHAT, "{" ASK "}");
    assert_int_equal(reply.status, 503);
    assert_api_str(reply.json, "error.code", "group_failed");
    assert_null(strstr(reply.body, "secret"));
    api_reply_done(&reply);
    reply = api_post(&r, CHAT, "{" ASK ",\"stream\":true,\"n\":2}");
    assert_int_equal(reply.status, 200);
    api_join(&reply, true, &s);
    assert_true(is(&s.choices[0].content, "The capital"));
    assert_true(s.error[0] != 0);
    assert_false(s.has_done);
    assert_null(strstr(reply.body, "secret"));
    assert_int_equal(fake_engine_n_living(r.engine), 0);
    api_stream_done(&s);
    api_reply_done(&reply);
    api_rig_close(&r);
}

static void test_chat_errors(void **state)
{
    (void)state;
    static const struct {
        const char *body, *param;
    } cases[] = {{"{\"messages\":7}", "messages"},
                 {"{\"messages\":[]}", "messages"},
                 {"{\"messages\":[{\"role\":\"user\",\"content\":7}]}", "messages[0].content"},
                 {"{" ASK ",\"tools\":7}", "tools"},
                 {"{" ASK ",\"tool_choice\":\"required\"}", "tool_choice"}};
    api_rig r;
    api_rig_open(&r);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        api_reply reply = api_post(&r, CHAT, cases[i].body);
        assert_int_equal(reply.status, 400);
        const phx_str param = api_str(reply.json, "error.param");
        if (!phx_str_is(param, cases[i].param))
            fail_msg("%s: %s", cases[i].body, reply.body);
        api_reply_done(&reply);
    }
    api_rig_close(&r);
}

/* A checkpoint without chat format: completions work, chat is refused with the reason. */
static void test_no_chat(void **state)
{
    (void)state;
    api_rig r;
    api_rig_open(&r);
    r.text.chat = NULL;
    (void)PHX_FAIL(&r.text.chat_error, PHX_ERR_UNSUPPORTED, "no format for it");
    api_reply reply = api_post(&r, CHAT, "{" ASK "}");
    assert_int_equal(reply.status, 400);
    assert_non_null(strstr(reply.body, "no format for it"));
    api_reply_done(&reply);
    reply = api_post(&r, "/v1/completions", "{\"prompt\":\"x\"}");
    assert_int_equal(reply.status, 200);
    api_reply_done(&reply);
    api_rig_close(&r);
}

/* ---------------------------------------------------------------- clients that leave */

static client *ask_and_hold(api_rig *r, const char *body)
{
    char text[1024];
    const uint32_t target = r->engine->n_submitted + 1;
    const uint64_t start_us = phx_clock_us();
    client *c = client_open(&r->web);
    (void)snprintf(text, sizeof(text),
                   "POST " CHAT " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                   "Content-Length: %zu\r\n\r\n%s",
                   strlen(body), body);
    client_send(c, text);
    while (r->engine->n_submitted < target) {
        assert_int_equal(phx_loop_step(r->web.loop, 1000, NULL), PHX_OK);
        assert_true(phx_clock_us() - start_us < PATIENCE_US);
    }
    return c;
}

static void await_none(api_rig *r)
{
    const uint64_t start_us = phx_clock_us();
    while (fake_engine_n_living(r->engine) > 0) {
        assert_int_equal(phx_loop_step(r->web.loop, 1000, NULL), PHX_OK);
        assert_true(phx_clock_us() - start_us < PATIENCE_US);
    }
}

static void test_clients_leave(void **state)
{
    (void)state;
    api_rig r;
    api_rig_open(&r);
    for (int stream = 0; stream < 2; stream++) { /* while queued: no token has come */
        r.engine->holds = true;
        client *c = ask_and_hold(&r, stream ? "{" ASK ",\"stream\":true}" : "{" ASK "}");
        client_close(c);
        await_none(&r);
    }
    assert_int_equal(r.engine->n_abandoned, 2);
    /* in the middle of a stream */
    client *c = ask_and_hold(&r, "{" ASK ",\"stream\":true,\"ignore_eos\":true}");
    r.engine->scripts[0].n = FAKE_TOKENS_MAX - 1;
    r.engine->holds = false;
    client_wait(c, "capital");
    r.engine->holds = true;
    client_close(c);
    await_none(&r);
    assert_int_equal(r.engine->n_abandoned, 3);
    api_reply reply = api_get(&r, "/metrics");
    assert_non_null(strstr(reply.body, "phalanx_requests_total{face=\"chat\",outcome=\"client_left\"} 3\n"));
    assert_non_null(strstr(reply.body, "phalanx_kv_blocks_used 0\n"));
    assert_non_null(strstr(reply.body, "phalanx_requests_open{face=\"chat\"} 0\n"));
    api_reply_done(&reply);
    api_rig_close(&r);
}

/* The server goes while answers are owed. */
static void test_server_goes(void **state)
{
    (void)state;
    api_rig r;
    api_rig_open(&r);
    r.engine->holds = true;
    client *whole = ask_and_hold(&r, "{" ASK "}");
    client *stream = ask_and_hold(&r, "{" ASK ",\"stream\":true,\"n\":1}");
    api_rig_close(&r); /* checks that nothing lives */
    client_close(whole);
    client_close(stream);
}

/* Memory runs out at each allocation in turn: some answer or a closed connection, and nothing is left. */
static void test_no_memory(void **state)
{
    (void)state;
    static const char *const bodies[] = {"{" ASK ",\"logprobs\":true,\"top_logprobs\":1}",
                                         "{" ASK ",\"stream\":true,\"n\":2,\"stop\":\"zz\"}"};
    api_rig r;
    api_rig_open(&r);
    for (uint64_t n = 1; n <= 160; n++) {
        char text[1024];
        const char *body = bodies[n % 2];
        client *c = client_open(&r.web);
        rig_spin(&r.web);
        (void)snprintf(text, sizeof(text),
                       "POST " CHAT " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: "
                       "application/json\r\nContent-Length: %zu\r\n\r\n%s",
                       strlen(body), body);
        phx_alloc_fail_nth(n / 2 + 1);
        client_send(c, text);
        client_wait_closed(c);
        phx_alloc_fail_nth(0);
        client_close(c);
        rig_spin(&r.web);
        assert_int_equal(fake_engine_n_living(r.engine), 0);
    }
    api_reply reply = api_post(&r, CHAT, "{" ASK "}");
    assert_int_equal(reply.status, 200);
    api_reply_done(&reply);
    api_rig_close(&r);
}

/* ---------------------------------------------------------------- the rest */

static void test_tokens(void **state)
{
    (void)state;
    api_rig r;
    api_rig_open(&r);
    api_reply reply = api_post(&r, "/tokenize", "{\"prompt\":\"The capital\",\"model\":\"demo\"}");
    assert_int_equal(api_int(reply.json, "count"), 3);
    assert_int_equal(api_int(reply.json, "tokens.0"), 0);
    assert_int_equal(api_int(reply.json, "max_model_len"), 512);
    api_reply_done(&reply);
    reply = api_post(&r, "/tokenize", "{\"prompt\":\"The capital\",\"add_special_tokens\":false}");
    assert_int_equal(api_int(reply.json, "count"), 2);
    assert_int_equal(api_int(reply.json, "tokens.0"), 276);
    api_reply_done(&reply);
    reply = api_post(&r, "/tokenize", "{" ASK "}");
    assert_int_equal(api_int(reply.json, "count"), 13);
    api_reply_done(&reply);
    reply = api_post(&r, "/detokenize", "{\"tokens\":[0,276,292]}");
    assert_api_str(reply.json, "prompt", "<｜begin▁of▁sentence｜>The capital");
    api_reply_done(&reply);
    static const char *const bad[][2] = {{"/tokenize", "{}"},
                                         {"/tokenize", "{\"prompt\":7}"},
                                         {"/tokenize", "{\"prompt\":\"x\",\"y\":1}"},
                                         {"/tokenize", "[]"},
                                         {"/detokenize", "{\"tokens\":7}"},
                                         {"/detokenize", "{\"tokens\":[-1]}"},
                                         {"/detokenize", "{}"},
                                         {"/detokenize", "{\"tokens\":[1920]}"},
                                         {"/detokenize", "{\"tokens\":[],\"x\":1}"}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        reply = api_post(&r, bad[i][0], bad[i][1]);
        assert_int_equal(reply.status, 400);
        api_reply_done(&reply);
    }
    api_rig_close(&r);
}

/* One model by its name, as clients write it in a path. */
static void test_model(void **state)
{
    static const struct {
        const char *path;
        int status;
    } cases[] = {{"org/a model", 400}, /* no request line */
                 {"org/a%20model", 200},
                 {"org%2Fa%20model", 200},
                 {"org%2fa%20mod%65l", 200},
                 {"org/a%20model?x=1", 200},
                 {"other", 404},
                 {"", 404},
                 {"org", 404},
                 {"org%2Fa%20model/", 404},
                 {"org%2Fa%20model%00", 404},
                 {"org%2Fa%20mode%6", 404},
                 {"org%2Fa%20mode%", 404},
                 {"org%252Fa%20model", 404},
                 {"org%2Fa%zzmodel", 404}};
    (void)state;
    api_rig r;
    char path[96];
    api_rig_open(&r);
    (void)snprintf(r.text.name, sizeof(r.text.name), "org/a model");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        (void)snprintf(path, sizeof(path), "/v1/models/%s", cases[i].path);
        api_reply reply = api_get(&r, path);
        assert_int_equal(reply.status, cases[i].status);
        if (cases[i].status == 200) {
            assert_api_str(reply.json, "id", "org/a model");
            assert_api_str(reply.json, "object", "model");
        } else if (cases[i].status == 404) {
            assert_api_str(reply.json, "error.code", "model_not_found");
            assert_api_str(reply.json, "error.param", "model");
        }
        api_reply_done(&reply);
    }
    api_rig_close(&r);
}

/* Every line is a comment with HELP or TYPE, or a sample of a name that had both. */
static void test_metrics(void **state)
{
    (void)state;
    api_rig r;
    api_rig_open(&r);
    api_reply reply = api_post(&r, CHAT, "{" ASK "}");
    api_reply_done(&reply);
    reply = api_get(&r, "/metrics");
    assert_int_equal(reply.status, 200);
    char type[128] = "";
    size_t n_samples = 0;
    for (const char *at = reply.body; *at;) {
        const size_t n = strcspn(at, "\n");
        char line[512], name[128], value[64];
        assert_true(n < sizeof(line) && at[n] == '\n');
        memcpy(line, at, n);
        line[n] = 0;
        at += n + 1;
        if (sscanf(line, "# TYPE %127s %*s", name) == 1) {
            (void)snprintf(type, sizeof(type), "%s", name);
        } else if (sscanf(line, "# HELP %127s", name) == 1) {
            assert_int_equal(strncmp(name, "phalanx_", 8), 0);
        } else {
            assert_int_equal(strncmp(line, type, strlen(type)), 0);
            const char *space = strrchr(line, ' ');
            assert_non_null(space);
            (void)snprintf(value, sizeof(value), "%s", space + 1);
            char *end = NULL;
            (void)strtod(value, &end);
            assert_true(*end == 0 && end != value);
            n_samples++;
        }
    }
    assert_true(n_samples > 40);
    assert_non_null(strstr(reply.body, "phalanx_requests_total{face=\"chat\",outcome=\"stop\"} 1\n"));
    assert_non_null(strstr(reply.body, "phalanx_output_tokens_total 11\n"));
    assert_non_null(strstr(reply.body, "phalanx_state{state=\"ready\"} 1\n"));
    assert_non_null(strstr(reply.body, "phalanx_time_to_first_token_seconds_count 1\n"));
    assert_non_null(strstr(reply.body, "phalanx_http_replies_total{status=\"200\"} "));
    api_reply_done(&reply);
    api_rig_close(&r);
}

int main(void)
{
    (void)api_rig_demo();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_completions), cmocka_unit_test(test_plain),
        cmocka_unit_test(test_context),     cmocka_unit_test(test_context_of_text),
        cmocka_unit_test(test_refusals),    cmocka_unit_test(test_not_ready),
        cmocka_unit_test(test_group_fails), cmocka_unit_test(test_chat_errors),
        cmocka_unit_test(test_no_chat),     cmocka_unit_test(test_clients_leave),
        cmocka_unit_test(test_server_goes), cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_model),       cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
