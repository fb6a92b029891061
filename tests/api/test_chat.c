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

static bool is(const phx_buf *buf, const char *text)
{
    return phx_str_is(phx_buf_view(buf), text);
}

/* The same request whole and as a stream, for one script: same text, reasoning, calls and finish. */
static void check_same(const char *script, const char *fields, const char *content, const char *reasoning,
                       const char *finish)
{
    api_rig r;
    api_stream s;
    char body[2048];
    api_rig_open(&r);
    api_rig_script_text(&r, 0, script);
    (void)snprintf(body, sizeof(body), "{" ASK "%s}", fields);
    api_reply whole = api_post(&r, CHAT, body);
    (void)snprintf(body, sizeof(body), "{" ASK "%s,\"stream\":true}", fields);
    api_reply stream = api_post(&r, CHAT, body);
    assert_int_equal(whole.status, 200);
    assert_int_equal(stream.status, 200);
    api_join(&stream, true, &s);
    if (content)
        assert_api_str(whole.json, "choices.0.message.content", content);
    if (reasoning)
        assert_api_str(whole.json, "choices.0.message.reasoning_content", reasoning);
    else
        assert_null(api_node(whole.json, "choices.0.message.reasoning_content"));
    assert_api_str(whole.json, "choices.0.finish_reason", finish);
    assert_true(is(&s.choices[0].content, content ? content : ""));
    assert_true(is(&s.choices[0].reasoning, reasoning ? reasoning : ""));
    assert_string_equal(s.choices[0].finish, finish);
    const phx_json *calls = api_node(whole.json, "choices.0.message.tool_calls");
    phx_buf names;
    phx_buf arguments;
    phx_buf_init(&names, 4096);
    phx_buf_init(&arguments, 4096);
    for (size_t i = 0; i < phx_json_count(calls); i++) {
        const phx_json *call = phx_json_at(calls, i);
        const phx_str name = api_str(call, "function.name"), text = api_str(call, "function.arguments");
        (void)phx_buf_printf(&names, "%.*s ", PHX_STR_ARG(name));
        (void)phx_buf_printf(&arguments, "%s%.*s", i ? "\n" : "", PHX_STR_ARG(text));
    }
    assert_true(phx_str_eq(phx_buf_view(&names), phx_buf_view(&s.choices[0].names)));
    assert_true(phx_str_eq(phx_buf_view(&arguments), phx_buf_view(&s.choices[0].arguments)));
    phx_buf_done(&names);
    phx_buf_done(&arguments);
    assert_true(s.has_done);
    api_stream_done(&s);
    api_reply_done(&whole);
    api_reply_done(&stream);
    api_rig_close(&r);
}

#define TOOLS                                                                                                \
    ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\"}}}" \
    ","                                                                                                      \
    "{\"type\":\"function\",\"function\":{\"name\":\"g\"}}]"
#define CALLS                                                                             \
    "\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"f\">\n"                     \
    "<｜DSML｜parameter name=\"x\" string=\"true\">caf\xc3\xa9</｜DSML｜parameter>\n" \
    "</｜DSML｜invoke>\n<｜DSML｜invoke name=\"g\">\n</｜DSML｜invoke>\n</｜DSML｜function_calls>"

static void test_same(void **state)
{
    (void)state;
    check_same("Gr\xc3\xbc\xc3\x9f dich \xe4\xbd\xa0\xe5\xa5\xbd \xf0\x9f\x9a\x80!", "",
               "Gr\xc3\xbc\xc3\x9f dich \xe4\xbd\xa0\xe5\xa5\xbd \xf0\x9f\x9a\x80!", NULL, "stop");
    check_same("one two three STOP four", ",\"stop\":\"STOP\"", "one two three ", NULL, "stop");
    check_same("one two three STOP four", ",\"stop\":[\"\xf0\x9f\x9a\x80\",\"e ST\",\"zzz\"]", "one two thre",
               NULL, "stop");
    check_same("ends with ST", ",\"stop\":[\"STOP\"]", "ends with ST", NULL, "stop");
    check_same("I think</think>I say", ",\"thinking\":{\"type\":\"enabled\"}", "I say", "I think", "stop");
    check_same("I never end", ",\"reasoning_effort\":\"high\"", "", "I never end", "stop");
    check_same("Let me see." CALLS, TOOLS, "Let me see.", NULL, "tool_calls");
    check_same("why</think>" CALLS, TOOLS ",\"thinking\":{\"type\":\"enabled\"}", NULL, "why", "tool_calls");
    check_same("x" CALLS, TOOLS ",\"tool_choice\":\"none\"", "x" CALLS, NULL, "stop");
    check_same("x\n\n<｜DSML｜function_calls>\nbroken", TOOLS, "x\n\n<｜DSML｜function_calls>\nbroken", NULL,
               "stop");
}

static void test_length(void **state)
{
    (void)state;
    check_same("a b c d e f g h", ",\"max_tokens\":3", "a b c", NULL, "length");
    check_same("a b c d e f g h", ",\"max_completion_tokens\":3", "a b c", NULL, "length");
}

/* A token that is part of a character when the answer is cut: one replacement, the same on both ways. */
static void test_cut_character(void **state)
{
    (void)state;
    api_rig r;
    api_rig_open(&r);
    api_rig_script_text(&r, 0, "\xf0\x9f\x9a\x80");
    const uint32_t n = r.engine->scripts[0].n - 1;
    api_rig_close(&r);
    assert_true(n > 1); /* the demo's vocabulary spells it in bytes */
    check_same("\xf0\x9f\x9a\x80", ",\"max_tokens\":1", "\xef\xbf\xbd", NULL, "length");
}

static void test_choices(void **state)
{
    (void)state;
    api_rig r;
    api_stream s;
    api_rig_open(&r);
    api_rig_script(&r, 1, "capital of Japan");
    api_reply reply = api_post(&r, CHAT, "{" ASK ",\"n\":2}");
    assert_int_equal(phx_json_count(api_node(reply.json, "choices")), 2);
    assert_int_equal(api_int(reply.json, "choices.1.index"), 1);
    assert_api_str(reply.json, "choices.0.message.content", "The capital of France is Paris.");
    assert_api_str(reply.json, "choices.1.message.content", "The capital of Japan is Tokyo.");
    assert_int_equal(api_int(reply.json, "usage.prompt_tokens"), 13); /* once */
    assert_int_equal(api_int(reply.json, "usage.completion_tokens"), 21);
    api_reply_done(&reply);
    reply = api_post(&r, CHAT, "{" ASK ",\"n\":2,\"stream\":true}");
    api_join(&reply, true, &s);
    assert_true(is(&s.choices[0].content, "The capital of France is Paris."));
    assert_true(is(&s.choices[1].content, "The capital of Japan is Tokyo."));
    assert_int_equal(s.n_prompt, -1); /* not asked for */
    api_stream_done(&s);
    api_reply_done(&reply);
    api_rig_close(&r);
}

static void test_logprobs(void **state)
{
    (void)state;
    api_rig r;
    api_stream s;
    api_rig_open(&r);
    api_reply reply = api_post(&r, CHAT, "{" ASK ",\"logprobs\":true,\"top_logprobs\":3}");
    assert_int_equal(phx_json_count(api_node(reply.json, "choices.0.logprobs.content")), 10);
    assert_api_str(reply.json, "choices.0.logprobs.content.1.token", " capital");
    assert_int_equal(api_int(reply.json, "choices.0.logprobs.content.1.bytes.0"), ' ');
    assert_int_equal(phx_json_count(api_node(reply.json, "choices.0.logprobs.content.1.bytes")), 8);
    double value = 0;
    assert_true(phx_json_as_f64(api_node(reply.json, "choices.0.logprobs.content.1.logprob"), &value));
    assert_true(value == -0.375);
    assert_int_equal(phx_json_count(api_node(reply.json, "choices.0.logprobs.content.1.top_logprobs")), 3);
    assert_api_str(reply.json, "choices.0.logprobs.content.1.top_logprobs.0.token", " capital");
    phx_buf items;
    phx_json_writer w;
    phx_buf_init(&items, 1u << 20);
    phx_json_writer_init(&w, &items);
    phx_json_node(&w, api_node(reply.json, "choices.0.logprobs.content"));
    api_reply_done(&reply);
    reply = api_post(&r, CHAT, "{" ASK ",\"logprobs\":true,\"top_logprobs\":3,\"stream\":true}");
    api_join(&reply, true, &s);
    assert_true(phx_str_eq(phx_buf_view(&s.choices[0].logprobs), (phx_str){items.ptr + 1, items.n - 2}));
    phx_buf_done(&items);
    api_stream_done(&s);
    api_reply_done(&reply);
    reply = api_post(&r, CHAT, "{" ASK ",\"logprobs\":true}");
    assert_int_equal(phx_json_count(api_node(reply.json, "choices.0.logprobs.content.1.top_logprobs")), 0);
    api_reply_done(&reply);
    api_rig_close(&r);
}

static void test_token_ids(void **state)
{
    (void)state;
    api_rig r;
    api_rig_open(&r);
    api_reply reply = api_post(&r, CHAT, "{" ASK ",\"return_token_ids\":true}");
    assert_int_equal(phx_json_count(api_node(reply.json, "choices.0.token_ids")), 10);
    const long long second = api_int(reply.json, "choices.0.token_ids.1");
    api_reply_done(&reply);
    char item[40];
    (void)snprintf(item, sizeof(item), "\"token_ids\":[%lld]", second);
    reply = api_post(&r, CHAT, "{" ASK ",\"return_token_ids\":true,\"stream\":true}");
    assert_non_null(strstr(reply.body, item)); /* in the chunk of its text */
    api_reply_done(&reply);
    reply = api_post(&r, CHAT, "{" ASK "}");
    assert_null(api_node(reply.json, "choices.0.token_ids"));
    api_reply_done(&reply);
    api_rig_close(&r);
}

/* What reaches the engine. */
static void test_passed_on(void **state)
{
    (void)state;
    api_rig r;
    api_rig_open(&r);
    api_reply reply =
        api_post(&r, CHAT,
                 "{" ASK ",\"temperature\":0.5,\"top_p\":0.25,\"top_k\":7,\"min_p\":0.125,\"seed\":-3,"
                 "\"presence_penalty\":1,\"frequency_penalty\":-1,\"repetition_penalty\":1.5,"
                 "\"logit_bias\":{\"276\":5},\"stop_token_ids\":[267],\"ignore_eos\":true,\"max_tokens\":9}");
    const phx_sched_request *q = &r.engine->last;
    assert_int_equal(reply.status, 200);
    assert_api_str(reply.json, "choices.0.message.content", "The capital of France");
    assert_true(q->sampling.temperature == 0.5f && q->sampling.top_p == 0.25f && q->sampling.top_k == 7);
    assert_true(q->sampling.min_p == 0.125f && q->sampling.seed == (uint64_t)-3);
    assert_true(q->sampling.presence_penalty == 1 && q->sampling.frequency_penalty == -1);
    assert_true(q->sampling.repetition_penalty == 1.5f && q->ignore_eos && q->n_output_max == 9);
    assert_true(q->sampling.n_bias == 1 && q->sampling.bias_ids[0] == 276 && q->sampling.bias[0] == 5);
    assert_true(q->n_stop_ids == 1 && q->stop_ids[0] == 267 && q->cache_salt == 0);
    api_reply_done(&reply);
    reply = api_post(&r, CHAT, "{" ASK "}"); /* the demo's generation_config.json, and any seed */
    const uint64_t seed = q->sampling.seed;
    assert_true(q->sampling.temperature == 0.6f && q->sampling.top_p == 0.95f);
    api_reply_done(&reply);
    reply = api_post(&r, CHAT, "{" ASK "}");
    assert_true(q->sampling.seed != seed);
    api_reply_done(&reply);
    api_rig_close(&r);
}

int main(void)
{
    (void)api_rig_demo();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),     cmocka_unit_test(test_stream),
        cmocka_unit_test(test_same),      cmocka_unit_test(test_length),
        cmocka_unit_test(test_choices),   cmocka_unit_test(test_logprobs),
        cmocka_unit_test(test_token_ids), cmocka_unit_test(test_cut_character),
        cmocka_unit_test(test_passed_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
