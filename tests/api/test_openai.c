/* tests/api/test_openai.c - requests of the official openai client as it sent them (tests/data/openai,
 * recorded by record_openai.py), answered as that client wants them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/file.h"
#include "tests/api/template_rig.h"

static api_reply replay(api_rig *r, const char *name)
{
    char path[4096];
    phx_buf bytes;
    const char *source = getenv("PHX_SOURCE");
    (void)snprintf(path, sizeof(path), "%s/tests/data/openai/%s.http", source ? source : ".", name);
    phx_buf_init(&bytes, 1u << 20);
    assert_int_equal(phx_file_read(path, &bytes, NULL), PHX_OK);
    assert_non_null(strstr(bytes.ptr, "user-agent: OpenAI/Python"));
    api_reply reply = api_raw(r, bytes.ptr, bytes.n);
    phx_buf_done(&bytes);
    return reply;
}

static bool is(const phx_buf *buf, const char *text)
{
    return phx_str_is(phx_buf_view(buf), text);
}

static void test_chat(void **state)
{
    (void)state;
    api_rig r;
    api_stream s;
    api_rig_open(&r);
    api_reply reply = replay(&r, "chat");
    assert_int_equal(reply.status, 200);
    assert_api_str(reply.json, "choices.0.message.content", "The capital of France is Paris.");
    api_reply_done(&reply);
    reply = replay(&r, "chat_stream");
    api_join(&reply, true, &s);
    assert_true(is(&s.choices[0].content, "The capital of France is Paris."));
    assert_true(s.choices[0].logprobs.n > 0);
    assert_int_equal(s.n_prompt, 13);
    assert_int_equal(r.engine->last.sampling.n_top_logprobs, 2);
    assert_true(s.has_done);
    api_stream_done(&s);
    api_reply_done(&reply);
    api_rig_close(&r);
}

static void test_reasoning(void **state)
{
    (void)state;
    api_rig r;
    api_stream s;
    api_rig_open(&r);
    api_rig_script(&r, 0, "thinking sum");
    api_reply reply = replay(&r, "reasoning");
    assert_api_str(reply.json, "choices.0.message.content", "345 + 278 = 623.");
    assert_api_str(reply.json, "choices.0.message.reasoning_content",
                   "5+8=13, 3 carry 1; 4+7+1=12, 2 carry 1; 3+2+1=6; 623.");
    assert_api_str(reply.json, "choices.0.message.reasoning",
                   "5+8=13, 3 carry 1; 4+7+1=12, 2 carry 1; 3+2+1=6; 623.");
    assert_int_equal(r.engine->last_prompt[r.engine->last.n_prompt - 1], 1903); /* <think> */
    const int64_t n_reasoning = api_int(reply.json, "usage.completion_tokens_details.reasoning_tokens");
    assert_true(n_reasoning > 20 && n_reasoning < api_int(reply.json, "usage.completion_tokens"));
    api_reply_done(&reply);
    reply = replay(&r, "reasoning_stream");
    api_join(&reply, true, &s);
    assert_true(is(&s.choices[0].content, "345 + 278 = 623."));
    assert_true(is(&s.choices[0].reasoning, "5+8=13, 3 carry 1; 4+7+1=12, 2 carry 1; 3+2+1=6; 623."));
    api_stream_done(&s);
    api_reply_done(&reply);
    api_rig_close(&r);
}

static void test_tools(void **state)
{
    (void)state;
    api_rig r;
    api_stream s;
    api_rig_open(&r);
    api_rig_script(&r, 0, "tool call");
    api_reply reply = replay(&r, "tools");
    assert_api_str(reply.json, "choices.0.finish_reason", "tool_calls");
    assert_api_str(reply.json, "choices.0.message.tool_calls.0.type", "function");
    assert_api_str(reply.json, "choices.0.message.tool_calls.0.function.name", "get_price");
    assert_api_str(reply.json, "choices.0.message.tool_calls.0.function.arguments", "{\"item\": \"cake\"}");
    assert_int_equal(phx_json_kind_of(api_node(reply.json, "choices.0.message.content")), PHX_JSON_NULL);
    api_reply_done(&reply);
    reply = replay(&r, "tools_stream");
    api_join(&reply, true, &s);
    assert_true(is(&s.choices[0].names, "get_price "));
    assert_true(is(&s.choices[0].arguments, "{\"item\": \"cake\"}"));
    assert_true(is(&s.choices[0].content, ""));
    assert_string_equal(s.choices[0].finish, "tool_calls");
    api_stream_done(&s);
    api_reply_done(&reply);
    api_rig_close(&r);
}

/* The call and its result come back; what the client made of a streamed call has more fields. */
static void test_tool_result(void **state)
{
    static const char *const names[] = {"tool_result", "tool_result_stream"};
    (void)state;
    for (uint32_t i = 0; i < 2; i++) {
        api_rig r;
        phx_buf prompt;
        api_rig_open(&r);
        api_rig_script(&r, 0, "answer from tool result");
        api_reply reply = replay(&r, names[i]);
        assert_int_equal(reply.status, 200);
        template_rig_prompt(&r, &prompt);
        assert_non_null(strstr(prompt.ptr, "invoke name=\"get_price\""));
        assert_non_null(strstr(prompt.ptr, "12 dollars"));
        phx_buf_done(&prompt);
        api_reply_done(&reply);
        api_rig_close(&r);
    }
}

/* The same of models that write calls as GLM and as Kimi: what the client makes of a call comes back as
 * theirs. */
typedef struct family {
    const char *format;
    const char *template;
    const char *asks;     /* the script of the first turn */
    const char *answers;  /* of the second */
    const char *call_id;  /* how it begins */
    const char *returned; /* in the prompt of the second turn */
} family;

#define CAKE "{\"item\": \"cake\"}"

static void check_turns(const family *f)
{
    api_rig r;
    api_stream s;
    phx_buf prompt;
    template_rig_open(&r, f->template, f->format);
    api_rig_script_text(&r, 0, f->asks);
    api_reply reply = replay(&r, "tools");
    assert_api_str(reply.json, "choices.0.finish_reason", "tool_calls");
    assert_api_str(reply.json, "choices.0.message.reasoning_content", "Look it up.");
    assert_true(
        phx_str_starts(api_str(reply.json, "choices.0.message.tool_calls.0.id"), phx_str_of(f->call_id)));
    assert_api_str(reply.json, "choices.0.message.tool_calls.0.function.name", "get_price");
    assert_api_str(reply.json, "choices.0.message.tool_calls.0.function.arguments", CAKE);
    assert_int_equal(phx_json_kind_of(api_node(reply.json, "choices.0.message.content")), PHX_JSON_NULL);
    api_reply_done(&reply);
    reply = replay(&r, "tools_stream");
    api_join(&reply, true, &s);
    assert_true(is(&s.choices[0].reasoning, "Look it up."));
    assert_true(is(&s.choices[0].names, "get_price "));
    assert_true(is(&s.choices[0].arguments, CAKE));
    assert_true(is(&s.choices[0].content, ""));
    assert_string_equal(s.choices[0].finish, "tool_calls");
    api_stream_done(&s);
    api_reply_done(&reply);
    api_rig_script_text(&r, 0, f->answers);
    for (uint32_t i = 0; i < 2; i++) {
        char name[64];
        (void)snprintf(name, sizeof(name), "%s_tool_result%s", f->format, i == 0 ? "" : "_stream");
        reply = replay(&r, name);
        if (i == 0) {
            assert_api_str(reply.json, "choices.0.message.content", "12 dollars.");
        } else {
            api_join(&reply, true, &s);
            assert_true(is(&s.choices[0].content, "12 dollars."));
            api_stream_done(&s);
        }
        template_rig_prompt(&r, &prompt);
        if (!strstr(prompt.ptr, f->returned))
            fail_msg("%s: '%s'", name, prompt.ptr);
        phx_buf_done(&prompt);
        api_reply_done(&reply);
    }
    api_rig_close(&r);
}

static void test_families(void **state)
{
    static const family families[] = {
        {"glm", template_rig_glm,
         "Look it "
         "up.</think>\n<tool_call>get_price<arg_key>item</arg_key><arg_value>cake</arg_value></tool_call>",
         "12.</think>12 dollars.", "call_",
         "<tool_call>get_price<arg_key>item</arg_key><arg_value>cake</arg_value></tool_call>[tool]12 "
         "dollars"},
        {"kimi", template_rig_kimi,
         "<think>Look it up.</think><|tool_calls_section_begin|><|tool_call_begin|>functions.get_price:0"
         "<|tool_call_argument_begin|>" CAKE "<|tool_call_end|><|tool_calls_section_end|>",
         "<think>12.</think>12 dollars.", "functions.get_price:0",
         "[functions.get_price:0]" CAKE "[tool]12 dollarsfunctions.get_price:0"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
        check_turns(&families[i]);
}

static void test_others(void **state)
{
    (void)state;
    api_rig r;
    api_rig_open(&r);
    api_rig_script(&r, 1, "capital of Japan");
    api_reply reply = replay(&r, "completion");
    assert_api_str(reply.json, "choices.0.text", "The capital of F");
    assert_api_str(reply.json, "choices.1.text", "The capital of Japan");
    assert_api_str(reply.json, "object", "text_completion");
    assert_int_equal(r.engine->last.sampling.seed, 7);
    assert_int_equal(r.engine->last_prompt[0], 0); /* bos */
    api_reply_done(&reply);
    reply = replay(&r, "models");
    assert_api_str(reply.json, "data.0.id", "demo");
    assert_int_equal(api_int(reply.json, "data.0.max_model_len"), 512);
    api_reply_done(&reply);
    reply = replay(&r, "refused");
    assert_int_equal(reply.status, 400);
    assert_api_str(reply.json, "error.param", "n");
    assert_api_str(reply.json, "error.type", "invalid_request_error");
    api_reply_done(&reply);
    api_rig_close(&r);
}

int main(void)
{
    (void)api_rig_demo();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chat),        cmocka_unit_test(test_reasoning), cmocka_unit_test(test_tools),
        cmocka_unit_test(test_tool_result), cmocka_unit_test(test_families),  cmocka_unit_test(test_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
