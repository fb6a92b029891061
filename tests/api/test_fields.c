/* tests/api/test_fields.c - the table of fields: each honoured one at its limits and one past them, each
 * refused one, unknown ones, and what several fields say together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/file.h"
#include "coordinator/api/fields.h"

static const phx_model_text text = {
    .name = "demo", .n_context = 512, .n_vocab = 1920, .temperature = 0.6f, .top_p = 0.95f};

#define MESSAGES "\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]"

static bool read(uint32_t where, const char *fields, phx_api_request *request, phx_api_fault *fault)
{
    char body[8192];
    const char *base = where == PHX_API_COMPLETIONS ? "\"prompt\":\"x\"" : MESSAGES;
    (void)snprintf(body, sizeof(body), "{%s%s%s}", base, fields[0] ? "," : "", fields);
    return phx_api_request_read((phx_bytes){(const uint8_t *)body, strlen(body)}, where, &text, request,
                                fault);
}

static void check_taken(uint32_t where, const char *fields)
{
    phx_api_request request;
    phx_api_fault fault = {0};
    if (!read(where, fields, &request, &fault))
        fail_msg("%s: %s", fields, fault.message);
    phx_api_request_done(&request);
}

static void check_refused(uint32_t where, const char *fields, const char *param)
{
    phx_api_request request;
    phx_api_fault fault = {0};
    if (read(where, fields, &request, &fault))
        fail_msg("taken: %s", fields);
    if (strcmp(fault.param, param) != 0)
        fail_msg("%s: param '%s', message '%s'", fields, fault.param, fault.message);
    assert_int_equal(fault.status, 400);
    assert_true(strlen(fault.message) > 10);
}

static void test_limits(void **state)
{
    (void)state;
    static const struct {
        const char *param, *lowest, *highest, *below, *above;
    } cases[] = {
        {"temperature", "0", "2", "-0.01", "2.01"},
        {"top_p", "0.000001", "1", "0", "1.01"},
        {"min_p", "0", "1.0", "-0.1", "1.1"},
        {"top_k", "-1", "2147483647", "-2", "2147483648"},
        {"n", "1", "8", "0", "9"},
        {"presence_penalty", "-2", "2", "-2.1", "2.1"},
        {"frequency_penalty", "-2.0", "2.0", "-3", "3"},
        {"repetition_penalty", "0.01", "100", "0", "101"},
        {"max_tokens", "1", "512", "0", "513"},
        {"max_tokens", "1", "512", "-18446744073709551616", "18446744073709551616"},
        {"temperature", "0", "2", "-1e400", "1e400"},
        {"seed", "-9223372036854775808", "9223372036854775807", "1.5", "\"1\""},
        {"seed", "9223372036854775808", "18446744073709551615", "-9223372036854775809",
         "18446744073709551616"},
        {"stop", "\"a\"",
         "[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"10\",\"11\",\"12\",\"13\",\"14\","
         "\"15\",\"16\"]",
         "\"\"",
         "[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"10\",\"11\",\"12\",\"13\",\"14\",\"15\","
         "\"16\",\"17\"]"},
        {"stop_token_ids", "[0]", "[1919]", "[-1]", "[1920]"},
        {"stop_token_ids", "[]", "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]", "7",
         "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]"},
        {"logit_bias", "{\"0\":-100}", "{\"1919\":100}", "{\"5\":-100.5}", "{\"5\":101}"},
        {"logit_bias", "{}", "{\"7\":1,\"8\":1}", "{\"7\":1,\"07\":1}", "{\"1920\":1}"},
        {"logit_bias", "{\"3\":0.5}", "{\"3\":0}", "{\"x\":1}", "[1]"},
        {"ignore_eos", "true", "false", "1", "\"true\""},
        {"stream", "true", "false", "0", "\"yes\""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *values[] = {cases[i].lowest, cases[i].highest, cases[i].below, cases[i].above};
        for (size_t v = 0; v < 4; v++) {
            char field[512];
            (void)snprintf(field, sizeof(field), "\"%s\":%s", cases[i].param, values[v]);
            if (v < 2)
                check_taken(PHX_API_CHAT, field);
            else
                check_refused(PHX_API_CHAT, field, cases[i].param);
            if (v < 2)
                check_taken(PHX_API_COMPLETIONS, field);
            else
                check_refused(PHX_API_COMPLETIONS, field, cases[i].param);
        }
    }
}

static void test_stop_bytes(void **state)
{
    (void)state;
    char field[512];
    (void)snprintf(field, sizeof(field), "\"stop\":\"%0256d\"", 7);
    check_taken(PHX_API_CHAT, field);
    (void)snprintf(field, sizeof(field), "\"stop\":\"%0257d\"", 7);
    check_refused(PHX_API_CHAT, field, "stop");
    check_refused(PHX_API_CHAT, "\"stop\":[\"a\",7]", "stop");
}

static void test_logit_bias_count(void **state)
{
    (void)state;
    phx_model_text wide = text;
    wide.n_vocab = 2000;
    for (uint32_t n = PHX_LOGIT_BIAS_MAX; n <= PHX_LOGIT_BIAS_MAX + 1; n++) {
        phx_buf body;
        phx_api_request request;
        phx_api_fault fault = {0};
        phx_buf_init(&body, 1u << 20);
        (void)phx_buf_str(&body, "{" MESSAGES ",\"logit_bias\":{");
        for (uint32_t i = 0; i < n; i++)
            (void)phx_buf_printf(&body, "%s\"%u\":%u", i ? "," : "", i, i % 100);
        (void)phx_buf_str(&body, "}}");
        const bool ok = phx_api_request_read((phx_bytes){(const uint8_t *)body.ptr, body.n}, PHX_API_CHAT,
                                             &wide, &request, &fault);
        assert_int_equal(ok, n == PHX_LOGIT_BIAS_MAX);
        if (ok) {
            assert_int_equal(request.sampling.n_bias, n);
            assert_int_equal(request.sampling.bias_ids[1023], 1023);
            assert_true(request.sampling.bias[1023] == 23);
            phx_api_request_done(&request);
        }
        phx_buf_done(&body);
    }
}

static void test_per_face(void **state)
{
    (void)state;
    check_taken(PHX_API_CHAT, "\"logprobs\":true,\"top_logprobs\":20");
    check_taken(PHX_API_CHAT, "\"logprobs\":false,\"top_logprobs\":0");
    check_refused(PHX_API_CHAT, "\"logprobs\":true,\"top_logprobs\":21", "top_logprobs");
    check_refused(PHX_API_CHAT, "\"top_logprobs\":1", "top_logprobs");
    check_refused(PHX_API_CHAT, "\"logprobs\":1", "logprobs");
    check_taken(PHX_API_COMPLETIONS, "\"logprobs\":0");
    check_taken(PHX_API_COMPLETIONS, "\"logprobs\":20");
    check_refused(PHX_API_COMPLETIONS, "\"logprobs\":21", "logprobs");
    check_refused(PHX_API_COMPLETIONS, "\"logprobs\":true", "logprobs");
    check_refused(PHX_API_COMPLETIONS, "\"logprobs\":1,\"echo\":true", "echo");
    check_refused(PHX_API_COMPLETIONS, "\"messages\":[]", "messages");
    check_refused(PHX_API_COMPLETIONS, "\"max_completion_tokens\":5", "max_completion_tokens");
    check_refused(PHX_API_CHAT, "\"prompt\":\"x\"", "prompt");
    check_refused(PHX_API_CHAT, "\"echo\":true", "echo");
    check_refused(PHX_API_PROMPT, "\"temperature\":1", "temperature");
    check_taken(PHX_API_PROMPT, "\"tools\":[],\"thinking\":{\"type\":\"enabled\"}");
}

static void test_together(void **state)
{
    (void)state;
    check_taken(PHX_API_CHAT, "\"max_tokens\":7,\"max_completion_tokens\":7");
    check_refused(PHX_API_CHAT, "\"max_tokens\":7,\"max_completion_tokens\":8", "max_tokens");
    check_refused(PHX_API_CHAT, "\"stream_options\":{\"include_usage\":true}", "stream_options");
    check_taken(PHX_API_CHAT, "\"stream\":true,\"stream_options\":{\"include_usage\":true,"
                              "\"include_obfuscation\":false,\"continuous_usage_stats\":false}");
    check_refused(PHX_API_CHAT, "\"stream\":true,\"stream_options\":{\"continuous_usage_stats\":true}",
                  "stream_options");
    check_refused(PHX_API_CHAT, "\"stream\":true,\"stream_options\":{\"x\":false}", "stream_options");
    check_taken(PHX_API_CHAT, "\"thinking\":{\"type\":\"enabled\"},\"reasoning_effort\":\"low\"");
    check_refused(PHX_API_CHAT, "\"thinking\":{\"type\":\"enabled\"},\"reasoning_effort\":\"none\"",
                  "reasoning_effort");
    check_refused(PHX_API_CHAT, "\"thinking\":{\"type\":\"maybe\"}", "thinking");
    check_refused(PHX_API_CHAT, "\"reasoning_effort\":\"huge\"", "reasoning_effort");
    check_refused(PHX_API_CHAT, "\"chat_template_kwargs\":{\"thinking\":1}", "chat_template_kwargs.thinking");
    check_refused(PHX_API_CHAT, "\"chat_template_kwargs\":{\"other\":true}", "chat_template_kwargs");
}

static void test_thinking(void **state)
{
    (void)state;
    static const struct {
        const char *fields;
        bool on;
    } cases[] = {{"", false},
                 {"\"chat_template_kwargs\":{\"thinking\":true}", true},
                 {"\"chat_template_kwargs\":{\"enable_thinking\":true}", true},
                 {"\"chat_template_kwargs\":{}", false},
                 {"\"thinking\":{\"type\":\"enabled\"}", true},
                 {"\"thinking\":{\"type\":\"disabled\"}", false},
                 {"\"reasoning_effort\":\"none\"", false},
                 {"\"reasoning_effort\":\"high\"", true}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        phx_api_request request;
        phx_api_fault fault;
        assert_true(read(PHX_API_CHAT, cases[i].fields, &request, &fault));
        assert_int_equal(request.thinking, cases[i].on);
        phx_api_request_done(&request);
    }
}

static void test_defaults(void **state)
{
    (void)state;
    phx_api_request r;
    phx_api_fault fault;
    assert_true(read(PHX_API_CHAT, "", &r, &fault));
    assert_true(r.sampling.temperature == 0.6f); /* of generation_config.json */
    assert_true(r.sampling.top_p == 0.95f);
    assert_true(r.sampling.repetition_penalty == 1);
    assert_int_equal(r.n, 1);
    assert_false(r.stream || r.has_seed || r.has_max_tokens || r.sampling.logprobs || r.thinking);
    phx_api_request_done(&r);
    assert_true(read(PHX_API_CHAT, "\"temperature\":0.000001,\"top_k\":-1,\"model\":\"demo\"", &r, &fault));
    assert_true(r.sampling.temperature == 0);
    assert_int_equal(r.sampling.top_k, 0);
    phx_api_request_done(&r);
}

/* Every row: null and each neutral value are taken; refused rows refuse something else, by name. */
static void test_every_row(void **state)
{
    (void)state;
    size_t n = 0;
    const phx_api_field *fields = phx_api_fields(&n);
    assert_true(n > 50);
    for (size_t i = 0; i < n; i++) {
        const phx_api_field *f = &fields[i];
        char field[256];
        const uint32_t faces[] = {PHX_API_CHAT, PHX_API_COMPLETIONS, PHX_API_PROMPT};
        for (size_t w = 0; w < 3; w++) {
            const bool is_base = strcmp(f->name, "messages") == 0 || strcmp(f->name, "prompt") == 0;
            (void)snprintf(field, sizeof(field), "\"%s\":null", f->name);
            if (!(f->where & faces[w]))
                check_refused(faces[w], field, f->name);
            else if (!is_base)
                check_taken(faces[w], field);
            if (!(f->where & faces[w]) || f->use == PHX_API_HONOURED)
                continue;
            (void)snprintf(field, sizeof(field), "\"%s\":{\"strange\":[1,2]}", f->name);
            if (f->use == PHX_API_HARMLESS) {
                check_taken(faces[w], field);
                continue;
            }
            check_refused(faces[w], field, f->name);
            for (const char *at = f->neutral; *at;) {
                const size_t n_word = strcspn(at, " ");
                (void)snprintf(field, sizeof(field), "\"%s\":%.*s", f->name, (int)n_word, at);
                check_taken(faces[w], field);
                at += n_word + (at[n_word] == ' ');
            }
        }
    }
}

static void test_unknown(void **state)
{
    (void)state;
    phx_api_request request;
    phx_api_fault fault = {0};
    check_refused(PHX_API_CHAT, "\"temprature\":1", "temprature");
    check_refused(PHX_API_COMPLETIONS, "\"Temperature\":1", "Temperature");
    assert_false(read(PHX_API_CHAT, "\"zzz\":null", &request, &fault));
    assert_string_equal(fault.code, "unknown_parameter");
    assert_false(read(PHX_API_CHAT, "\"model\":\"gpt-4\"", &request, &fault));
    assert_int_equal(fault.status, 404);
    assert_string_equal(fault.code, "model_not_found");
    assert_false(read(PHX_API_CHAT, "\"model\":7", &request, &fault));
    assert_int_equal(fault.status, 400);
}

static void test_bodies(void **state)
{
    (void)state;
    static const char *const bodies[] = {"",
                                         "[]",
                                         "{",
                                         "{\"messages\":[]}x",
                                         "7",
                                         "{}",
                                         "{\"model\":\"demo\"}",
                                         "{\"messages\":null}",
                                         "\xff",
                                         "{\"n\":1,\"n\":1," MESSAGES "}"};
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        phx_api_request request;
        phx_api_fault fault = {0};
        assert_false(phx_api_request_read((phx_bytes){(const uint8_t *)bodies[i], strlen(bodies[i])},
                                          PHX_API_CHAT, &text, &request, &fault));
        assert_int_equal(fault.status, 400);
        assert_null(fault.code);
    }
}

static void test_prompts(void **state)
{
    (void)state;
    static const struct {
        const char *prompt;
        bool ok;
    } cases[] = {{"\"text\"", true},      {"[\"text\"]", true}, {"[1,2,3]", true}, {"[[1,2,3]]", true},
                 {"[\"a\",\"b\"]", true}, {"[[1],[2]]", true},  {"[]", false},     {"7", false},
                 {"{}", false},           {"true", false}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char body[128];
        phx_api_request request;
        phx_api_fault fault = {0};
        (void)snprintf(body, sizeof(body), "{\"prompt\":%s}", cases[i].prompt);
        const bool ok = phx_api_request_read((phx_bytes){(const uint8_t *)body, strlen(body)},
                                             PHX_API_COMPLETIONS, &text, &request, &fault);
        assert_int_equal(ok, cases[i].ok);
        if (ok)
            phx_api_request_done(&request);
        else
            assert_string_equal(fault.param, "prompt");
    }
}

/* The page for users names every field. */
static void test_docs(void **state)
{
    (void)state;
    char path[4096], name[80];
    phx_buf page;
    size_t n = 0;
    const char *source = getenv("PHX_SOURCE");
    const phx_api_field *fields = phx_api_fields(&n);
    (void)snprintf(path, sizeof(path), "%s/docs/api.md", source ? source : ".");
    phx_buf_init(&page, 1u << 20);
    assert_int_equal(phx_file_read(path, &page, NULL), PHX_OK);
    for (size_t i = 0; i < n; i++) {
        (void)snprintf(name, sizeof(name), "`%s`", fields[i].name);
        if (!strstr(page.ptr, name))
            fail_msg("docs/api.md does not name %s", name);
    }
    phx_buf_done(&page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits),           cmocka_unit_test(test_stop_bytes),
        cmocka_unit_test(test_logit_bias_count), cmocka_unit_test(test_per_face),
        cmocka_unit_test(test_together),         cmocka_unit_test(test_thinking),
        cmocka_unit_test(test_defaults),         cmocka_unit_test(test_every_row),
        cmocka_unit_test(test_unknown),          cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_prompts),          cmocka_unit_test(test_docs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
