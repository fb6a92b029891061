/* tests/e2e/test_openai.c - requests of the official openai client, as it sent them (tests/data/openai), to a
 * real server with the demo model: it answers, reasons, calls a tool, and goes on from the tool's result; and
 * several prompts in one request. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "tests/e2e/site.h"
#include "tests/e2e/web.h"

enum { LIMIT_MS = 60000, TEXT_MAX = 1 << 20 };

#define SUM "5+8=13, 3 carry 1; 4+7+1=12, 2 carry 1; 3+2+1=6; 623.|345 + 278 = 623.||stop"

/* Whole and streamed alike. The models' own words: greedy, and of wide margins. */
static const struct {
    const char *name;
    const char *answer; /* reasoning|content|calls|finish */
} cases[] = {
    {"chat", "|The capital of France is Paris.||stop"},
    {"reasoning", SUM},
    {"reasoning_stream", SUM},
    {"tools", "||get_price:{\"item\": \"cake\"}|tool_calls"},
    {"tools_stream", "||get_price:{\"item\": \"cake\"}|tool_calls"},
    {"tool_result", "|The price of a cake is 12.||stop"},
    {"tool_result_stream", "|The price of a cake is 12.||stop"},
};

static void replay(const site *s, const char *name, web_reply *reply)
{
    const char *source = getenv("PHX_SOURCE");
    char path[4096];
    phx_buf request;
    phx_error err = {0};
    phx_buf_init(&request, TEXT_MAX);
    (void)snprintf(path, sizeof(path), "%s/tests/data/openai/%s.http", source ? source : ".", name);
    if (phx_file_read(path, &request, &err) != PHX_OK)
        fail_msg("%s", err.text);
    const int fd = web_send_raw(s->port, phx_buf_view(&request));
    assert_true(fd >= 0);
    web_receive(fd, reply, 0, LIMIT_MS);
    (void)close(fd);
    phx_buf_done(&request);
}

static void test_recorded_requests(void **state)
{
    static const char *const args[] = {"--tp", "2", "--pp", "2", NULL};
    site s;
    (void)state;
    site_open(&s);
    site_serve(&s, args);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        web_reply reply;
        phx_buf answer;
        web_reply_init(&reply);
        phx_buf_init(&answer, TEXT_MAX);
        replay(&s, cases[i].name, &reply);
        web_answer(&reply, 0, &answer);
        const bool is_stream = reply.body.ptr && strstr(reply.body.ptr, "data: [DONE]");
        if (reply.end != WEB_WHOLE || reply.error || strcmp(answer.ptr, cases[i].answer) != 0 ||
            is_stream != (strstr(cases[i].name, "_stream") != NULL))
            fail_msg("%s: status %d, '%s': %s", cases[i].name, reply.status, answer.ptr,
                     reply.body.ptr ? reply.body.ptr : "");
        phx_buf_done(&answer);
        web_reply_done(&reply);
    }
    /* blocks return when the last steps in flight end */
    assert_true(web_await_metric(s.port, "phalanx_kv_blocks_used", 0, LIMIT_MS));
    assert_int_equal(kill(s.pid, SIGTERM), 0);
    assert_int_equal(site_wait(&s, LIMIT_MS), 0);
    site_close(&s);
}

/* ---- several prompts in one request ---- */

static void send_prompts(const site *s, const char *prompt, bool stream, web_reply *reply)
{
    char body[512];
    (void)snprintf(body, sizeof(body),
                   "{\"prompt\":%s,\"n\":2,\"temperature\":1,\"seed\":3,\"max_tokens\":12,\"echo\":true,"
                   "\"stream\":%s}",
                   prompt, stream ? "true" : "false");
    web_reply_init(reply);
    web_ask(s->port, "/v1/completions", body, LIMIT_MS, reply);
}

static void ask(const site *s, const char *prompt, bool stream, web_reply *reply)
{
    send_prompts(s, prompt, stream, reply);
    if (reply->end != WEB_WHOLE || reply->error)
        fail_msg("%s: status %d, %s", prompt, reply->status, reply->body.ptr ? reply->body.ptr : "");
}

static int64_t usage_of(const web_reply *reply, const char *key)
{
    phx_json *root = NULL;
    int64_t value = -1;
    const phx_bytes body = {(const uint8_t *)reply->body.ptr, reply->body.n};
    assert_int_equal(phx_json_parse(body, PHX_JSON_LIMITS_REQUEST, &root, NULL), PHX_OK);
    (void)phx_json_as_i64(phx_json_get(phx_json_get(root, "usage"), key), &value);
    phx_json_destroy(root);
    return value;
}

/* More than may wait: refused as a whole, and what was queued of it is gone. */
static void check_too_many(const site *s)
{
    web_reply reply;
    send_prompts(s, "[\"a\",\"b\",\"c\",\"d\",\"e\"]", false, &reply);
    assert_int_equal(reply.status, 429);
    web_reply_done(&reply);
    assert_true(web_await_metric(s->port, "phalanx_kv_blocks_used", 0, LIMIT_MS));
}

/* Choice p * 2 + c is choice c of prompt p asked alone; usage is the sum. */
static void test_several_prompts(void **state)
{
    static const char *const args[] = {"--queue", "8", NULL};
    static const char *const prompts[] = {"\"The capital of France is\"", "[300,301,302]",
                                          "\"Count from 1 to 20\""};
    static const char all[] = "[\"The capital of France is\",[300,301,302],\"Count from 1 to 20\"]";
    web_reply together[2];
    phx_buf expected, got;
    int64_t n_prompt = 0, n_output = 0;
    site s;
    (void)state;
    phx_buf_init(&expected, TEXT_MAX);
    phx_buf_init(&got, TEXT_MAX);
    site_open(&s);
    site_serve(&s, args);
    check_too_many(&s);
    ask(&s, all, false, &together[0]);
    ask(&s, all, true, &together[1]);
    for (uint32_t p = 0; p < 3; p++) {
        web_reply alone;
        ask(&s, prompts[p], false, &alone);
        n_prompt += usage_of(&alone, "prompt_tokens");
        n_output += usage_of(&alone, "completion_tokens");
        for (uint32_t c = 0; c < 4; c++) {
            web_answer(&alone, c % 2, &expected);
            web_answer(&together[c / 2], p * 2 + c % 2, &got);
            assert_true(expected.n > strlen("||||length"));
            assert_string_equal(got.ptr, expected.ptr);
        }
        web_reply_done(&alone);
    }
    assert_int_equal(usage_of(&together[0], "prompt_tokens"), n_prompt);
    assert_int_equal(usage_of(&together[0], "completion_tokens"), n_output);
    assert_true(web_await_metric(s.port, "phalanx_kv_blocks_used", 0, LIMIT_MS));
    web_reply_done(&together[0]);
    web_reply_done(&together[1]);
    phx_buf_done(&expected);
    phx_buf_done(&got);
    assert_int_equal(kill(s.pid, SIGTERM), 0);
    assert_int_equal(site_wait(&s, LIMIT_MS), 0);
    site_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recorded_requests),
        cmocka_unit_test(test_several_prompts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
