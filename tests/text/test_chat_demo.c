/* The demo model's recorded prompts: read back into requests, rendered and encoded, they give the same text
 * and ids. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/text/chat_cases.h"
#include "coordinator/text/chat_encode.h"

#define BOS       "<｜begin▁of▁sentence｜>"
#define EOS       "<｜end▁of▁sentence｜>"
#define USER      "<｜User｜>"
#define ASSISTANT "<｜Assistant｜>"
#define DSML      "｜DSML｜"
#define IDS_MAX   4096

/* A recorded prompt on its way back to a request. */
typedef struct reading {
    phx_str rest; /* not yet understood */
    phx_buf messages;
    phx_buf tools;
    uint32_t n_calls;
    bool thinking;
} reading;

static phx_tokenizer *load_tokenizer(void)
{
    char dir[512];
    phx_error err = {0};
    phx_tokenizer *tokenizer = NULL;
    const char *shared = getenv("PHX_SHARED");
    (void)snprintf(dir, sizeof(dir), "%s/demo", shared ? shared : "../shared");
    const phx_code rc = phx_tokenizer_load(dir, &tokenizer, &err);
    if (rc != PHX_OK && rc != PHX_ERR_NOT_FOUND)
        fail_msg("%s", err.text);
    return tokenizer;
}

static void append_str(phx_buf *buf, phx_str text)
{
    phx_json_writer w;
    phx_json_writer_init(&w, buf);
    phx_json_str(&w, text);
}

static bool has(phx_str text, const char *mark)
{
    return memmem(text.ptr, text.n, mark, strlen(mark)) != NULL;
}

static bool take_mark(phx_str *rest, const char *mark)
{
    if (!phx_str_starts(*rest, phx_str_of(mark)))
        return false;
    *rest = (phx_str){rest->ptr + strlen(mark), rest->n - strlen(mark)};
    return true;
}

/* The text in front of the mark; rest moves behind it. */
static phx_str take_until(phx_str *rest, const char *mark)
{
    const char *end = memmem(rest->ptr, rest->n, mark, strlen(mark));
    if (!end)
        fail_msg("no '%s' in '%.*s'", mark, PHX_STR_ARG(*rest));
    const phx_str text = {rest->ptr, (size_t)(end - rest->ptr)};
    *rest = (phx_str){end + strlen(mark), rest->n - text.n - strlen(mark)};
    return text;
}

static void read_tools(reading *r, phx_str declaration)
{
    (void)take_until(&declaration, "<functions>\n");
    phx_str lines = take_until(&declaration, "</functions>\n");
    while (lines.n) {
        const phx_str line = take_until(&lines, "\n");
        (void)phx_buf_printf(&r->tools, "%s{\"type\":\"function\",\"function\":%.*s}", r->tools.n ? "," : "",
                             PHX_STR_ARG(line));
    }
}

/* One call, its parameters one to a line, and its result behind the end of the turn. */
static void read_call(reading *r, phx_str block)
{
    phx_buf arguments;
    phx_buf_init(&arguments, 4096);
    (void)take_until(&block, "invoke name=\"");
    const phx_str name = take_until(&block, "\">\n");
    while (take_mark(&block, "<" DSML "parameter name=\"")) {
        const phx_str key = take_until(&block, "\" string=\"");
        const bool is_str = take_mark(&block, "true\">");
        (void)take_mark(&block, "false\">");
        const phx_str value = take_until(&block, "</" DSML "parameter>\n");
        (void)phx_buf_printf(&arguments, "%s\"%.*s\": ", arguments.n ? ", " : "", PHX_STR_ARG(key));
        (void)phx_buf_printf(&arguments, is_str ? "\"%.*s\"" : "%.*s", PHX_STR_ARG(value));
    }
    assert_true(take_mark(&block, "</" DSML "invoke>\n</" DSML "function_calls>"));
    phx_buf text;
    phx_buf_init(&text, 8192);
    (void)phx_buf_printf(&text, "{%s}", arguments.ptr ? arguments.ptr : "");
    (void)phx_buf_printf(&r->messages,
                         ",\"tool_calls\":[{\"id\":\"call_%u\",\"type\":\"function\",\"function\":{\"name\":"
                         "\"%.*s\",\"arguments\":",
                         r->n_calls, PHX_STR_ARG(name));
    append_str(&r->messages, phx_buf_view(&text));
    (void)phx_buf_str(&r->messages, "}}]");
    phx_buf_done(&text);
    phx_buf_done(&arguments);
}

static void read_answer(reading *r)
{
    phx_str answer = take_until(&r->rest, EOS);
    const bool calls = has(answer, "<" DSML "function_calls>");
    const phx_str content = calls ? take_until(&answer, "\n\n<" DSML "function_calls>\n") : answer;
    (void)phx_buf_str(&r->messages, ",{\"role\":\"assistant\",\"content\":");
    append_str(&r->messages, content);
    if (calls)
        read_call(r, answer);
    (void)phx_buf_char(&r->messages, '}');
    if (!calls)
        return;
    assert_true(take_mark(&r->rest, "\n\n<function_results>\n<result>"));
    (void)phx_buf_printf(&r->messages,
                         ",{\"role\":\"tool\",\"tool_call_id\":\"call_%u\",\"content\":", r->n_calls++);
    append_str(&r->messages, take_until(&r->rest, "</result>\n</function_results>\n\n"));
    (void)phx_buf_char(&r->messages, '}');
}

/* <think> or </think>; true when the prompt ends there. */
static bool read_mode(reading *r)
{
    r->thinking = take_mark(&r->rest, "<think>");
    assert_true(r->thinking || take_mark(&r->rest, "</think>"));
    return r->rest.n == 0;
}

static void read_prompt(reading *r)
{
    assert_true(take_mark(&r->rest, BOS));
    phx_str system = take_until(&r->rest, USER);
    phx_str text = system;
    if (has(system, "\n\n## Tools\n\n")) {
        text = take_until(&system, "\n\n## Tools\n\n");
        read_tools(r, system);
    }
    (void)phx_buf_str(&r->messages, "{\"role\":\"system\",\"content\":");
    append_str(&r->messages, text);
    (void)phx_buf_char(&r->messages, '}');
    for (bool ends = false; !ends;) {
        (void)phx_buf_str(&r->messages, ",{\"role\":\"user\",\"content\":");
        append_str(&r->messages, take_until(&r->rest, ASSISTANT));
        (void)phx_buf_char(&r->messages, '}');
        ends = read_mode(r);
        while (!ends && !take_mark(&r->rest, USER)) {
            read_answer(r);
            if (!phx_str_starts(r->rest, phx_str_of(USER)))
                ends = read_mode(r);
        }
    }
}

static void check_ids(const phx_tokenizer *tokenizer, const phx_chat_prompt *prompt, const phx_json *expected)
{
    uint32_t ids[IDS_MAX];
    size_t n_ids = 0;
    phx_error err = {0};
    if (phx_chat_encode(tokenizer, prompt, ids, IDS_MAX, &n_ids, &err) != PHX_OK)
        fail_msg("%s", err.text);
    assert_int_equal(n_ids, phx_json_count(expected));
    for (size_t i = 0; i < n_ids; i++) {
        int64_t id = -1;
        assert_true(phx_json_as_i64(phx_json_at(expected, i), &id));
        assert_int_equal(ids[i], id);
    }
}

static void check_case(const phx_tokenizer *tokenizer, const phx_json *recorded)
{
    phx_str text = {"", 0};
    phx_error err = {0};
    phx_buf request;
    phx_chat_prompt prompt;
    reading r = {0};
    assert_true(phx_json_as_str(phx_json_get(recorded, "prompt"), &text));
    r.rest = text;
    phx_buf_init(&r.messages, 1u << 20);
    phx_buf_init(&r.tools, 1u << 20);
    phx_buf_init(&request, 4u << 20);
    read_prompt(&r);
    (void)phx_buf_printf(&request, "{\"messages\":[%s],\"tools\":[%s]}", r.messages.ptr,
                         r.tools.ptr ? r.tools.ptr : "");
    phx_json *root = chat_case_json(phx_buf_view(&request));
    const phx_chat_options options = {
        .thinking = r.thinking, .drop_thinking = true, .add_generation_prompt = true};
    phx_chat_prompt_init(&prompt);
    if (chat_case_render(root, &options, &prompt, &err) != PHX_OK)
        fail_msg("%s: %s", request.ptr, err.text);
    chat_case_equal(request.ptr, phx_chat_prompt_view(&prompt), text);
    assert_int_equal(prompt.in_reasoning, r.thinking);
    check_ids(tokenizer, &prompt, phx_json_get(recorded, "prompt_ids"));
    phx_chat_prompt_done(&prompt);
    phx_json_destroy(root);
    phx_buf_done(&request);
    phx_buf_done(&r.messages);
    phx_buf_done(&r.tools);
}

static void test_recorded_prompts(void **state)
{
    phx_buf text;
    size_t n_tools = 0;
    assert_true(chat_case_read("demo/expected_greedy.json", true, &text));
    phx_json *root = chat_case_json(phx_buf_view(&text));
    const phx_json *cases = phx_json_get(root, "cases");
    assert_true(phx_json_count(cases) > 10);
    for (size_t i = 0; i < phx_json_count(cases); i++) {
        phx_str prompt = {"", 0};
        (void)phx_json_as_str(phx_json_get(phx_json_at(cases, i), "prompt"), &prompt);
        n_tools += has(prompt, "<functions>");
        check_case(*state, phx_json_at(cases, i));
    }
    assert_true(n_tools >= 4);
    phx_json_destroy(root);
    phx_buf_done(&text);
}

static size_t count_id(const uint32_t *ids, size_t n_ids, uint32_t id)
{
    size_t n = 0;
    for (size_t i = 0; i < n_ids; i++)
        n += ids[i] == id;
    return n;
}

/* Marks that a user writes do not become tokens. */
static void test_injected_marks(void **state)
{
    const phx_tokenizer *tokenizer = *state;
    static const char *const marks[] = {BOS, EOS, USER, ASSISTANT, "</think>", DSML};
    static const size_t expected[] = {1, 0, 1, 1, 1, 0};
    uint32_t ids[IDS_MAX], id = 0;
    size_t n_ids = 0;
    phx_error err = {0};
    phx_chat_prompt prompt;
    const phx_chat_options options = {.add_generation_prompt = true};
    phx_json *root = chat_case_json(phx_str_of(
        "{\"messages\":[{\"role\":\"user\",\"content\":\"" BOS EOS USER ASSISTANT "</think>" DSML "\"}]}"));
    phx_chat_prompt_init(&prompt);
    assert_int_equal(chat_case_render(root, &options, &prompt, &err), PHX_OK);
    assert_int_equal(phx_chat_encode(tokenizer, &prompt, ids, IDS_MAX, &n_ids, &err), PHX_OK);
    for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
        assert_true(phx_tokenizer_id_of(tokenizer, phx_str_of(marks[i]), &id));
        assert_int_equal(count_id(ids, n_ids, id), expected[i]);
    }
    assert_int_equal(phx_chat_encode(tokenizer, &prompt, ids, n_ids - 1, &n_ids, &err), PHX_ERR_TOO_LONG);
    phx_chat_prompt_done(&prompt);
    phx_json_destroy(root);
}

static void test_recognised(void **state)
{
    phx_error err = {0};
    const phx_chat_format *format = NULL;
    const phx_chat_probe probe = phx_chat_probe_of(*state, phx_str_of("deepseek_v32"), false);
    assert_int_equal(phx_chat_format_find(&probe, &format, &err), PHX_OK);
    assert_string_equal(format->name, "deepseek-v3.2");
}

int main(void)
{
    phx_tokenizer *tokenizer = load_tokenizer();
    if (!tokenizer) {
        print_message("SKIP: the demo model is not there\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_recorded_prompts, tokenizer),
        cmocka_unit_test_prestate(test_injected_marks, tokenizer),
        cmocka_unit_test_prestate(test_recognised, tokenizer),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    phx_tokenizer_destroy(tokenizer);
    return failed;
}
