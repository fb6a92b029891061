/* tests/api/test_chat.c - /v1/chat/completions: streams and whole answers say the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/api/api_rig.h"

#define CHAT "/v1/chat/completions"
#define ASK  "\"messages\":[{\"role\":\"user\",\"content\":\"What is the capital of France?\"}]"

static void test_whole(void **state)
{
    (void)state;
    api_rig r;
    static const uint32_t prompt[] = {0, 1908, 329, 267, 271, 292, 280, 639, 930, 556, 33, 1909, 1904};
    api_rig_open(&r);
    api_reply reply = api_post(&r, CHAT, "{\"model\":\"demo\"," ASK ",\"temperature\":0}");
    assert_int_equal(reply.status, 200);
    assert_api_str(reply.json, "choices.0.message.content", "The capital of France is Paris.");
    assert_api_str(reply.json, "choices.0.message.role", "assistant");
    assert_api_str(reply.json, "choices.0.finish_reason", "stop");
    assert_api_str(reply.json, "object", "chat.completion");
    assert_api_str(reply.json, "model", "demo");
    assert_true(phx_str_starts(api_str(reply.json, "id"), phx_str_of("chatcmpl-")));
    assert_true(phx_str_starts(api_str(reply.json, "system_fingerprint"), phx_str_of("fp_")));
    assert_int_equal(api_int(reply.json, "usage.prompt_tokens"), 13);
    assert_int_equal(api_int(reply.json, "usage.completion_tokens"), 11);
    assert_int_equal(api_int(reply.json, "usage.total_tokens"), 24);
    assert_int_equal(api_int(reply.json, "usage.prompt_tokens_details.cached_tokens"), 64);
    assert_null(api_node(reply.json, "choices.0.message.reasoning_content"));
    assert_int_equal(r.engine->last.n_prompt, 13);
    assert_memory_equal(r.engine->last_prompt, prompt, sizeof(prompt));
    assert_true(r.engine->last.sampling.temperature == 0);
    assert_int_equal(r.engine->last.n_output_max, 512 - 13);
    api_reply_done(&reply);
    api_rig_close(&r);
}

static void test_stream(void **state)
{
    (void)state;
    api_rig r;
    api_stream s;
    api_rig_open(&r);
    api_reply reply =
        api_post(&r, CHAT, "{" ASK ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
    assert_int_equal(reply.status, 200);
    api_join(&reply, true, &s);
    assert_true(phx_str_is(phx_buf_view(&s.choices[0].content), "The capital of France is Paris."));
    assert_string_equal(s.choices[0].finish, "stop");
    assert_true(s.has_done);
    assert_int_equal(s.n_prompt, 13);
    assert_int_equal(s.n_output, 11);
    api_stream_done(&s);
    api_reply_done(&reply);
    api_rig_close(&r);
}

int main(void)
{
    (void)api_rig_demo();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
