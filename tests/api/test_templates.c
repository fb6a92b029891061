/* tests/api/test_templates.c - chat over HTTP with a checkpoint that brings a template: the formats of GLM
 * and Kimi with the demo model's vocabulary, whole and streamed, a second turn, switches, what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "tests/api/gate.h"
#include "tests/api/template_rig.h"

#define CHAT "/v1/chat/completions"
#define TOOLS                                                                                              \
    ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\"," \
    "\"properties\":{\"x\":{\"type\":\"integer\"},\"s\":{\"type\":\"string\"}}}}}]"

static size_t count_token(const api_rig *r, const char *name)
{
    uint32_t id = 0;
    size_t n = 0;
    assert_true(phx_tokenizer_id_of(r->text.tokenizer, phx_str_of(name), &id));
    for (uint32_t i = 0; i < r->engine->last.n_prompt; i++)
        n += r->engine->last_prompt[i] == id;
    return n;
}

static void test_glm(void **state)
{
    (void)state;
    api_rig r;
    api_stream s;
    template_rig_open(&r, template_rig_glm, "glm");
    api_rig_script_text(&r, 0,
                        "why</think>Look.\n<tool_call>f<arg_key>x</arg_key><arg_value>12</arg_value>"
                        "<arg_key>s</arg_key><arg_value>12</arg_value></tool_call>");
    api_reply reply =
        api_post(&r, CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":\"a <think> b\"}]" TOOLS "}");
    assert_int_equal(reply.status, 200);
    assert_api_str(reply.json, "choices.0.message.reasoning_content", "why");
    assert_api_str(reply.json, "choices.0.message.content", "Look.");
    assert_api_str(reply.json, "choices.0.message.tool_calls.0.function.name", "f");
    assert_api_str(reply.json, "choices.0.message.tool_calls.0.function.arguments",
                   "{\"x\": 12, \"s\": \"12\"}");
    assert_true(
        phx_str_starts(api_str(reply.json, "choices.0.message.tool_calls.0.id"), phx_str_of("call_")));
    assert_api_str(reply.json, "choices.0.finish_reason", "tool_calls");
    assert_int_equal(count_token(&r, "<think>"), 1); /* the template's; the user's is text */
    api_reply_done(&reply);
    reply = api_post(
        &r, CHAT,
        "{\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"q\"}]},"
        "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"1\",\"type\":\"function\","
        "\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\": 12}\"}}]},"
        "{\"role\":\"tool\",\"tool_call_id\":\"1\",\"content\":\"13\"}]" TOOLS "}");
    api_join(&reply, true, &s);
    assert_true(phx_str_is(phx_buf_view(&s.choices[0].reasoning), "why"));
    assert_true(phx_str_is(phx_buf_view(&s.choices[0].content), "Look."));
    assert_true(phx_str_is(phx_buf_view(&s.choices[0].arguments), "{\"x\": 12, \"s\": \"12\"}"));
    assert_string_equal(s.choices[0].finish, "tool_calls");
    phx_buf prompt;
    template_rig_prompt(&r, &prompt);
    assert_non_null(strstr(prompt.ptr,
                           "[user]q[assistant]<tool_call>f<arg_key>x</arg_key><arg_value>12</arg_value>"
                           "</tool_call>[tool]13[assistant]<think>"));
    assert_non_null(strstr(prompt.ptr, "[tools]{\"type\": \"function\", \"function\": {\"name\": \"f\""));
    phx_buf_done(&prompt);
    api_stream_done(&s);
    api_reply_done(&reply);
    api_rig_close(&r);
}

#define SECTION                                                                                          \
    "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:7<|tool_call_argument_begin|>{\"x\": 1}" \
    "<|tool_call_end|><|tool_calls_section_end|>"

static void test_kimi(void **state)
{
    (void)state;
    api_rig r;
    template_rig_open(&r, template_rig_kimi, "kimi");
    api_rig_script_text(&r, 0, "<think>why</think>Now." SECTION);
    api_reply reply = api_post(&r, CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]" TOOLS "}");
    assert_int_equal(reply.status, 200);
    assert_api_str(reply.json, "choices.0.message.reasoning_content", "why");
    assert_api_str(reply.json, "choices.0.message.content", "Now.");
    assert_api_str(reply.json, "choices.0.message.tool_calls.0.id", "functions.f:0");
    assert_api_str(reply.json, "choices.0.message.tool_calls.0.function.arguments", "{\"x\": 1}");
    assert_true(api_int(reply.json, "usage.completion_tokens_details.reasoning_tokens") > 0);
    phx_buf prompt;
    template_rig_prompt(&r, &prompt);
    assert_non_null(
        strstr(prompt.ptr, "namespace functions {\ntype f = (_: {\n  s?: string,\n  x?: number\n}) => any;"));
    phx_buf_done(&prompt);
    api_reply_done(&reply);
    reply = api_post(
        &r, CHAT,
        "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},"
        "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":\"call_x\",\"type\":\"function\","
        "\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\": 1}\"}}]},"
        "{\"role\":\"tool\",\"tool_call_id\":\"call_x\",\"content\":\"2\"}]" TOOLS "}");
    assert_api_str(reply.json, "choices.0.message.tool_calls.0.id", "functions.f:1");
    template_rig_prompt(&r, &prompt);
    assert_non_null(strstr(prompt.ptr, "[functions.f:0]{\"x\": 1}[tool]2functions.f:0"));
    phx_buf_done(&prompt);
    api_reply_done(&reply);
    api_rig_close(&r);
}

static void test_switches(void **state)
{
    (void)state;
    static const struct {
        const char *fields;
        int status;
        const char *prompt; /* its end */
    } cases[] = {
        {"", 200, "[user]q[assistant]<think>"},
        {",\"thinking\":{\"type\":\"disabled\"}", 200, "[assistant]</think>"},
        {",\"chat_template_kwargs\":{\"enable_thinking\":false}", 200, "[assistant]</think>"},
        {",\"chat_template_kwargs\":{\"effort\":\"low\"}", 200, "[effort low][assistant]<think>"},
        {",\"chat_template_kwargs\":{\"effort\":[1]}", 400, NULL},
        {",\"chat_template_kwargs\":{\"clear_thinking\":true}", 400, NULL},
        {",\"chat_template_kwargs\":{\"messages\":\"x\"}", 400, NULL},
        {",\"chat_template_kwargs\":{\"tools\":true}", 400, NULL},
    };
    api_rig r;
    template_rig_open(&r, template_rig_glm, "glm");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char body[512];
        phx_buf prompt;
        (void)snprintf(body, sizeof(body), "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]%s}",
                       cases[i].fields);
        api_reply reply = api_post(&r, CHAT, body);
        assert_int_equal(reply.status, cases[i].status);
        if (cases[i].prompt) {
            template_rig_prompt(&r, &prompt);
            if (!phx_str_ends(phx_buf_view(&prompt), phx_str_of(cases[i].prompt)))
                fail_msg("%s: '%s'", cases[i].fields, prompt.ptr);
            phx_buf_done(&prompt);
        }
        api_reply_done(&reply);
    }
    api_reply image =
        api_post(&r, CHAT,
                 "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":"
                 "{\"url\":\"data:\"}}]}]}");
    assert_int_equal(image.status, 400);
    assert_non_null(strstr(image.body, "text parts only"));
    api_reply_done(&image);
    api_rig_close(&r);
}

/* Without a row of its own a template serves, with reasoning but no calls. */
static void test_unknown_format(void **state)
{
    (void)state;
    api_rig r;
    template_rig_open(&r, "{% for m in messages %}{{ m.content }}{% endfor %}{{ bos_token }}", "template");
    api_rig_script_text(&r, 0, "<think>a</think>b <tool_call>");
    api_reply reply = api_post(&r, CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}");
    assert_int_equal(reply.status, 200);
    assert_api_str(reply.json, "choices.0.message.reasoning_content", "a");
    assert_api_str(reply.json, "choices.0.message.content", "b <tool_call>");
    api_reply_done(&reply);
    api_rig_close(&r);
}

#define SMALL "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}"

/* However small the request, its template never runs on the loop, nor behind large bodies. */
static void test_beside_the_loop(void **state)
{
    static const char *const paths[] = {CHAT, "/tokenize"};
    (void)state;
    api_rig r;
    gate small;
    gate large;
    template_rig_open(&r, template_rig_glm, "glm");
    for (size_t i = 0; i < 2; i++) {
        char text[512];
        gate_close_chat(&small, &r);
        gate_close(&large, &r, 1);
        (void)snprintf(text, sizeof(text),
                       "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                       "Content-Length: %zu\r\n\r\n" SMALL,
                       paths[i], strlen(SMALL));
        client *waiting = client_open(&r.web);
        client_send(waiting, text);
        client *asker = client_open(&r.web);
        for (int k = 0; k < 5; k++)
            assert_int_equal(client_ask(asker, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"), 200);
        client_close(asker);
        assert_int_equal(waiting->n_in, 0);
        gate_open(&small);
        client_wait(waiting, "HTTP/1.1 200 ");
        client_close(waiting);
        assert_false(large.is_done);
        gate_open(&large);
        for (int k = 0; k < 10000 && !large.is_done; k++)
            assert_int_equal(phx_loop_step(r.web.loop, 1000, NULL), PHX_OK);
        assert_true(large.is_done && small.is_done);
    }
    api_rig_close(&r);
}

static void on_none(void *user)
{
    *(bool *)user = true;
}

/* A server that ends does not wait for a template: its answer would be refused. */
static void test_server_drains(void **state)
{
    (void)state;
    bool is_none = false;
    char text[512];
    api_rig r;
    gate g;
    template_rig_open(&r, template_rig_glm, "glm");
    gate_close_chat(&g, &r);
    (void)snprintf(text, sizeof(text),
                   "POST " CHAT " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                   "Content-Length: %zu\r\n\r\n" SMALL,
                   strlen(SMALL));
    client *c = client_open(&r.web);
    client_send(c, text);
    for (int k = 0; k < 10000 && r.api->n_bodies == 0; k++)
        assert_int_equal(phx_loop_step(r.web.loop, 1000, NULL), PHX_OK);
    phx_api_await_bodies(r.api, (phx_loop_call){on_none, &is_none});
    assert_false(is_none);
    gate_open(&g);
    client_wait(c, "ended this request early");
    assert_non_null(strstr(c->in, "HTTP/1.1 503 "));
    assert_true(is_none);
    client_close(c);
    api_rig_close(&r);
}

/* A template past its bounds is the server's fault, a prompt that it makes too long is the request's. */
static void test_template_at_fault(void **state)
{
    (void)state;
    api_rig r;
    template_rig_open(&r,
                      "{% for a in range(1000) %}{% for b in range(1000) %}{% if b == 1 or b == 2 or b == 3 "
                      "or b == 4 or b == "
                      "5 %}{% endif %}{% endfor %}{% endfor %}",
                      "template");
    api_reply reply = api_post(&r, CHAT, SMALL);
    assert_int_equal(reply.status, 500);
    assert_api_str(reply.json, "error.code", "chat_template_failed");
    assert_non_null(strstr(reply.body, "template is at fault"));
    assert_non_null(strstr(reply.body, "line 1: it takes more than 4000000 steps"));
    api_reply_done(&reply);
    api_rig_close(&r);
    template_rig_open(
        &r, "{% for a in range(100000) %}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}",
        "template");
    reply = api_post(&r, CHAT, SMALL);
    assert_int_equal(reply.status, 400);
    assert_api_str(reply.json, "error.code", "request_too_long");
    api_reply_done(&reply);
    api_rig_close(&r);
}

static void check_load(const char *template, const char *format, const phx_dims *dims, phx_code want,
                       const char *word)
{
    phx_model_text text = {0};
    phx_error err = {0};
    const phx_code rc = template_rig_load(template, format, dims, &text, &err);
    const char *said = rc == PHX_OK ? text.chat_error.text : err.text;
    if (rc != want || (word && !strstr(said, word)) || (rc == PHX_OK && !word != !!text.chat))
        fail_msg("%s: %d '%s'", format, rc, said);
    phx_model_text_done(&text);
}

static void test_choice(void **state)
{
    (void)state;
    api_rig r;
    api_rig_open(&r);
    const phx_dims *dims = phx_checkpoint_dims(r.checkpoint);
    check_load(NULL, "auto", dims, PHX_OK, NULL);
    check_load(NULL, "deepseek-v3.2", dims, PHX_OK, NULL);
    check_load(NULL, "glm", dims, PHX_ERR_INVALID, "has no chat template");
    check_load(NULL, "other", dims, PHX_ERR_INVALID, "'other'");
    check_load("{{ x | nosuch }}", "template", dims, PHX_OK, "line 1: filter 'nosuch'");
    check_load("ok", "template", dims, PHX_OK, NULL);
    check_load("", "template", dims, PHX_OK, "chat_template.jinja' is empty");
    check_load("", "auto", dims, PHX_OK, NULL); /* the native encoder reads none */
    char *large = phx_alloc(PHX_JINJA_TEMPLATE_BYTES_MAX + 2, 1);
    assert_non_null(large);
    memset(large, 'x', PHX_JINJA_TEMPLATE_BYTES_MAX + 1);
    check_load(large, "template", dims, PHX_OK, "limit of 1048576 bytes");
    phx_free(large);
    api_rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_glm),
        cmocka_unit_test(test_kimi),
        cmocka_unit_test(test_switches),
        cmocka_unit_test(test_unknown_format),
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_beside_the_loop),
        cmocka_unit_test(test_template_at_fault),
        cmocka_unit_test(test_server_drains),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
