/* tests/e2e/test_openai.c - requests of the official openai client, as it sent them (tests/data/openai), to a
 * real server with the demo model: it answers, reasons, calls a tool, and goes on from the tool's result. */
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_recorded_requests)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
