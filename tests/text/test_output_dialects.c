/* tests/text/test_output_dialects.c - what GLM and Kimi write: reasoning, content and calls out of the
 * assistant turns of the chat goldens and out of texts of our own, the same for every way of cutting them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/text/chat_cases.h"
#include "coordinator/text/chat_template.h"
#include "coordinator/text/output_parser.h"
#include "coordinator/text/pyjson.h"

/* Everything that came out, with runs of one kind joined, so that two ways of cutting compare equal. */
typedef struct record {
    phx_buf log;
    int last_kind;
    phx_output_summary summary;
} record;

static void on_event(void *ctx, const phx_output_event *event)
{
    static const char *const marks[] = {"[R]", "[C]", "[CALL]", "", "[END]"};
    record *r = ctx;
    const bool is_text = event->kind == PHX_OUTPUT_REASONING || event->kind == PHX_OUTPUT_CONTENT;
    if ((int)event->kind != r->last_kind || !is_text)
        (void)phx_buf_str(&r->log, marks[event->kind]);
    if (event->kind == PHX_OUTPUT_CALL_BEGIN)
        (void)phx_buf_printf(&r->log, "%.*s", PHX_STR_ARG(event->name));
    r->last_kind = (int)event->kind;
    if (event->kind != PHX_OUTPUT_CALL_BEGIN && event->kind != PHX_OUTPUT_CALL_END)
        (void)phx_buf_append(&r->log, event->text.ptr, event->text.n);
}

typedef struct speaker {
    const char *format;
    const phx_output_types *types;
    bool in_reasoning;
    bool no_calls;
} speaker;

static void run(const speaker *who, phx_str text, size_t n_first, size_t n_piece, record *r)
{
    phx_error err = {0};
    phx_output_parser *parser = NULL;
    const phx_output_options options = {.syntax = phx_chat_format_named(phx_str_of(who->format))->syntax,
                                        .in_reasoning = who->in_reasoning,
                                        .types = who->types,
                                        .parse_calls = !who->no_calls,
                                        .sink = on_event,
                                        .ctx = r};
    *r = (record){.last_kind = -1};
    phx_buf_init(&r->log, 64u << 20);
    (void)phx_buf_str(&r->log, "");
    assert_int_equal(phx_output_parser_create(&options, &parser, &err), PHX_OK);
    size_t n = n_first;
    for (size_t at = 0; at < text.n; n = n_piece) {
        n = n < text.n - at ? n : text.n - at;
        assert_int_equal(phx_output_parser_feed(parser, (phx_str){text.ptr + at, n}, &err), PHX_OK);
        at += n;
    }
    r->summary = phx_output_parser_finish(parser);
    phx_output_parser_destroy(parser);
}

static void same(const record *got, const record *expected)
{
    chat_case_equal("cut differently", phx_buf_view(&got->log), phx_buf_view(&expected->log));
    assert_int_equal(got->summary.n_calls, expected->summary.n_calls);
    assert_int_equal(got->summary.malformed, expected->summary.malformed);
    assert_int_equal(got->summary.in_reasoning, expected->summary.in_reasoning);
}

/* Whole, in two at every byte, and in pieces of 1 to 7 bytes: always the same. The caller frees the log. */
static void run_all(const speaker *who, phx_str text, record *ret_record)
{
    record other;
    run(who, text, text.n, 1, ret_record);
    for (size_t cut = 1; cut < text.n; cut++) {
        run(who, text, cut, text.n, &other);
        same(&other, ret_record);
        phx_buf_done(&other.log);
    }
    for (size_t n = 1; n < 8; n++) {
        run(who, text, n, n, &other);
        same(&other, ret_record);
        phx_buf_done(&other.log);
    }
}

static void check(const speaker *who, const char *text, const char *expected, bool malformed)
{
    record r;
    run_all(who, phx_str_of(text), &r);
    chat_case_equal(text, phx_buf_view(&r.log), phx_str_of(expected));
    assert_int_equal(r.summary.malformed, malformed);
    phx_buf_done(&r.log);
}

/* ---- types of a tool ---- */

static const char tools_json[] = "[{\"role\":\"user\",\"content\":\"x\"}]|[{\"type\":\"function\","
                                 "\"function\":{\"name\":\"f\",\"parameters\":{"
                                 "\"type\":\"object\",\"$defs\":{\"Point\":{\"type\":\"object\"}},"
                                 "\"properties\":{\"s\":{\"type\":\"string\"},"
                                 "\"i\":{\"type\":\"integer\"},\"x\":{\"type\":\"number\"},\"b\":{\"type\":"
                                 "\"boolean\"},\"o\":{\"type\":\"object\"},"
                                 "\"a\":{\"type\":\"array\"},\"n\":{\"type\":[\"string\",\"null\"]},\"u\":{"
                                 "\"anyOf\":[{\"type\":\"integer\"},"
                                 "{\"type\":\"string\"}]},\"e\":{\"enum\":[\"1\",\"2\"]},\"ei\":{\"enum\":[1,"
                                 "2]},\"p\":{\"$ref\":\"#/$defs/Point\"},"
                                 "\"none\":{}}}}}]";

static phx_output_types *make_types(void)
{
    const char *bar = strchr(tools_json, '|');
    phx_json *messages = chat_case_json((phx_str){tools_json, (size_t)(bar - tools_json)});
    phx_json *tools = chat_case_json(phx_str_of(bar + 1));
    const phx_chat_request request = {.messages = messages, .tools = tools};
    phx_chat *chat = NULL;
    phx_output_types *types = NULL;
    phx_output_types *copy = NULL;
    assert_int_equal(phx_chat_build(&request, &chat, NULL), PHX_OK);
    assert_int_equal(phx_output_types_create(chat, &types, NULL), PHX_OK);
    assert_int_equal(phx_output_types_copy(types, &copy, NULL), PHX_OK);
    phx_output_types_destroy(types);
    phx_chat_destroy(chat);
    phx_json_destroy(messages);
    phx_json_destroy(tools);
    return copy;
}

#define PAIR(k, v) "<arg_key>" k "</arg_key><arg_value>" v "</arg_value>"

static void test_glm_types(void **state)
{
    (void)state;
    phx_output_types *types = make_types();
    const speaker glm = {.format = "glm", .types = types};
    static const char *const pairs[][3] = {
        {"s", "12", "\"12\""},
        {"s", " a\n", "\" a\\n\""},
        {"i", "12", "12"},
        {"i", "1.5", "\"1.5\""},
        {"i", "twelve", "\"twelve\""},
        {"x", "12", "12"},
        {"x", " -1.5e3 ", "-1.5e3"},
        {"b", "true", "true"},
        {"b", "yes", "\"yes\""},
        {"o", "{\"k\": [1]}", "{\"k\": [1]}"},
        {"o", "[1]", "\"[1]\""},
        {"a", "[1, {}]", "[1, {}]"},
        {"n", "null", "null"},
        {"n", "12", "\"12\""},
        {"s", "null", "\"null\""},
        {"u", "12", "12"},
        {"u", "x", "\"x\""},
        {"e", "1", "\"1\""},
        {"ei", "1", "1"},
        {"p", "{}", "{}"},
        {"none", "1", "\"1\""},
        {"unknown", "1", "\"1\""},
        {"s", "", "\"\""},
        {"o", "{\"a\":", "\"{\\\"a\\\":\""},
        {"i", "18446744073709551616", "18446744073709551616"},
        {"i", "-99999999999999999999", "-99999999999999999999"},
        {"x", "1e400", "1e400"},
        {"i", "1e400", "\"1e400\""},
        {"b", "True", "true"},
        {"b", " False\n", "false"},
        {"b", "None", "\"None\""},
        {"b", "TRUE", "\"TRUE\""},
        {"s", "True", "\"True\""},
        {"i", "True", "\"True\""},
        {"n", "None", "null"},
        {"a", "['x', \"y's\", 1, -2.5, True, None]", "[\"x\", \"y's\", 1, -2.5, true, null]"},
        {"a", "['it\\'s', 'a\\n\\\\', '\"q\"', '\xC3\xA9']",
         "[\"it's\", \"a\\n\\\\\", \"\\\"q\\\"\", \"\xC3\xA9\"]"},
        {"a", "['\\x41']", "\"['\\\\x41']\""},
        {"a", "['x',]", "\"['x',]\""},
        {"a", "('x',)", "\"('x',)\""},
        {"a", "['x' 'y']", "\"['x' 'y']\""},
        {"a", "['x", "\"['x\""},
        {"a", "[x]", "\"[x]\""},
        {"a", "{'k': 1}", "\"{'k': 1}\""},
        {"o", "{'k': {'v': [False]}}", "{\"k\": {\"v\": [false]}}"},
        {"o", "{1: 2}", "\"{1: 2}\""},
        {"s", "<tool_call> </tool_call>", "\"<tool_call> </tool_call>\""},
    };
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        char text[256];
        char want[256];
        (void)snprintf(text, sizeof(text), "<tool_call>f" PAIR("%s", "%s") "</tool_call>", pairs[i][0],
                       pairs[i][1]);
        (void)snprintf(want, sizeof(want), "[CALL]f{\"%s\": %s}[END]", pairs[i][0], pairs[i][2]);
        check(&glm, text, want, false);
    }
    phx_output_types_destroy(types);
}

static void test_glm(void **state)
{
    (void)state;
    const speaker glm = {.format = "glm"};
    const speaker thinks = {.format = "glm", .in_reasoning = true};
    const speaker plain = {.format = "glm", .no_calls = true};
    check(&glm, "Hello", "[C]Hello", false);
    check(&glm, "\n<think>a\nb</think>\nHello\n", "[R]a\nb[C]Hello\n", false);
    check(&glm, "<think></think>Hello", "[C]Hello", false);
    check(&glm, "<thin", "[C]<thin", false);
    check(&glm, "\n\n", "", false);
    check(&glm, "a <think>b</think>", "[C]a <think>b</think>", false);
    check(&thinks, "why</think>\n\nyes", "[R]why[C]yes", false);
    check(&thinks, "never ends <tool_call>", "[R]never ends <tool_call>", false);
    check(&glm, "\n<tool_call>f\n<arg_key>k</arg_key>\n<arg_value>v</arg_value>\n</tool_call>\n",
          "[CALL]f{\"k\": \"v\"}[END]", false);
    check(&glm, "Look.\n\n<tool_call>f</tool_call>\n<tool_call>g" PAIR("a b", "\xC3\xA9\"") "</tool_call>Bye",
          "[C]Look.[CALL]f{}[END][CALL]g{\"a b\": \"\xC3\xA9\\\"\"}[END][C]Bye", false);
    check(&plain, "<tool_call>f</tool_call>", "[C]<tool_call>f</tool_call>", false);
    check(&glm, "<tool_call>a b</tool_call>", "[C]<tool_call>a b</tool_call>", true);
    check(&glm, "x <tool_call></tool_call>", "[C]x <tool_call></tool_call>", true);
    check(&glm, "<tool_call>f<arg_key>k</arg_key>v</tool_call>",
          "[C]<tool_call>f<arg_key>k</arg_key>v</tool_call>", true);
    check(&glm, "<tool_call>f" PAIR("k", "1") PAIR("k", "2") "</tool_call>",
          "[C]<tool_call>f" PAIR("k", "1") PAIR("k", "2") "</tool_call>", true);
    check(&glm, "<tool_call>f" PAIR("k", "1") "</tool_call><tool_call>g",
          "[CALL]f{\"k\": \"1\"}[END][C]<tool_call>g", true);
}

#define SECTION "<|tool_calls_section_begin|>"
#define BEGIN   "<|tool_call_begin|>"
#define ARGS    "<|tool_call_argument_begin|>"
#define END     "<|tool_call_end|>"
#define CLOSE   "<|tool_calls_section_end|>"

static void test_kimi(void **state)
{
    (void)state;
    const speaker kimi = {.format = "kimi"};
    const speaker thinks = {.format = "kimi", .in_reasoning = true};
    const speaker plain = {.format = "kimi", .no_calls = true};
    check(&thinks, "why</think>yes", "[R]why[C]yes", false);
    check(&thinks, "why" SECTION BEGIN "functions.f:0" ARGS "{\"a\": 1}" END CLOSE,
          "[R]why[CALL]f{\"a\": 1}[END]", false);
    check(&kimi,
          "Now.\n" SECTION BEGIN "functions.f:0" ARGS "{\"a\":1}" END "\n" BEGIN " functions.g.h:11 " ARGS
          " {} " END CLOSE " done",
          "[C]Now.[CALL]f{\"a\":1}[END][CALL]g.h{}[END][C]done", false);
    check(&kimi, SECTION BEGIN "f" ARGS END CLOSE, "[CALL]f{}[END]", false);
    static const char *const taken[] = {"{\"a\":99999999999999999999}", "{\"a\":\"\\u0000\"}",
                                        "{\"a\":1,\"a\":2}", "{\"a\":\"\\ud800\"}", "{\"a\":-1e400}"};
    for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++) {
        char text[256];
        char want[256];
        (void)snprintf(text, sizeof(text), SECTION BEGIN "f:0" ARGS "%s" END CLOSE, taken[i]);
        (void)snprintf(want, sizeof(want), "[CALL]f%s[END]", taken[i]);
        check(&kimi, text, want, false);
    }
    check(&kimi, SECTION BEGIN "f:3" ARGS "{}" END, "[CALL]f{}[END]", false); /* the section is not closed */
    check(&kimi, SECTION BEGIN "f:3" ARGS "{\"a\": \"" END, "[C]" SECTION BEGIN "f:3" ARGS "{\"a\": \"" END,
          true);
    check(&kimi, SECTION BEGIN "f:3" ARGS "[]" END CLOSE, "[C]" SECTION BEGIN "f:3" ARGS "[]" END CLOSE,
          true);
    check(&kimi, SECTION CLOSE, "[C]" SECTION CLOSE, true);
    check(&kimi, SECTION BEGIN "functions.:1" ARGS "{}" END CLOSE,
          "[C]" SECTION BEGIN "functions.:1" ARGS "{}" END CLOSE, true);
    check(&kimi, SECTION BEGIN "f:0" ARGS "{\"a", "[C]" SECTION BEGIN "f:0" ARGS "{\"a", true);
    check(&plain, SECTION BEGIN "f:0", "[C]" SECTION BEGIN "f:0", false);
    check(&kimi, "<|tool_calls_sec", "[C]<|tool_calls_sec", false);
}

static void test_plain(void **state)
{
    (void)state;
    const speaker plain = {.format = "template"};
    check(&plain, "<think>a</think>b <tool_call>", "[R]a[C]b <tool_call>", false);
    check(&plain, "just text", "[C]just text", false);
}

/* ---- the goldens ---- */

static phx_jinja *load_template(const char *folder, phx_str name)
{
    char path[256];
    phx_buf text;
    phx_jinja *template = NULL;
    (void)snprintf(path, sizeof(path), "chat/%s/templates/%.*s.jinja", folder, PHX_STR_ARG(name));
    assert_true(chat_case_read(path, true, &text));
    assert_int_equal(phx_jinja_parse(phx_buf_view(&text), &template, NULL), PHX_OK);
    phx_buf_done(&text);
    return template;
}

/* What the parser should make of an assistant message. GLM's arguments come back as Python writes JSON. */
static void expected_log(const phx_json *message, bool keeps_reasoning, bool is_glm, phx_buf *log)
{
    phx_str text = {"", 0};
    const phx_json *calls = phx_json_get(message, "tool_calls");
    phx_buf_init(log, 1u << 20);
    (void)phx_buf_str(log, "");
    if (keeps_reasoning && phx_json_as_str(phx_json_get(message, "reasoning_content"), &text) && text.n)
        (void)phx_buf_printf(log, "[R]%.*s", PHX_STR_ARG(text));
    if (phx_json_as_str(phx_json_get(message, "content"), &text) && text.n)
        (void)phx_buf_printf(log, "[C]%.*s", PHX_STR_ARG(text));
    for (size_t i = 0; i < phx_json_count(calls); i++) {
        const phx_json *function = phx_json_get(phx_json_at(calls, i), "function");
        phx_str name = {"", 0};
        (void)phx_json_as_str(phx_json_get(function, "name"), &name);
        (void)phx_json_as_str(phx_json_get(function, "arguments"), &text);
        phx_json *parsed = chat_case_json(text);
        (void)phx_buf_printf(log, "[CALL]%.*s", PHX_STR_ARG(name));
        if (is_glm)
            (void)phx_pyjson_node(log, parsed);
        else
            (void)phx_buf_append(log, text.ptr, text.n);
        (void)phx_buf_str(log, "[END]");
        phx_json_destroy(parsed);
    }
}

typedef struct family {
    const char *folder;
    const char *format;
    const char *open;    /* of an assistant turn */
    const char *ends[4]; /* of it */
    const char *template;
    phx_jinja *parsed;
    phx_output_types *types;
} family;

/* The text of the last assistant turn in a prompt. */
static phx_str last_turn(const family *f, phx_str prompt)
{
    const char *found = NULL;
    const char *const prompt_end = prompt.ptr + prompt.n;
    const char *at = prompt.ptr;
    while ((at = memmem(at, (size_t)(prompt_end - at), f->open, strlen(f->open)))) {
        at += strlen(f->open);
        found = at;
    }
    assert_non_null(found);
    size_t n = (size_t)(prompt_end - found);
    for (size_t i = 0; f->ends[i]; i++) {
        const char *end = memmem(found, n, f->ends[i], strlen(f->ends[i]));
        n = end ? (size_t)(end - found) : n;
    }
    return (phx_str){found, n};
}

/* What the template writes for a turn is what the model would have written: the message comes back. */
static void check_turn(const family *f, phx_str turn, const phx_json *message)
{
    const bool is_glm = phx_str_is(phx_str_of(f->format), "glm");
    const bool opened = phx_str_starts(turn, phx_str_of("<think>"));
    const bool closed = phx_str_starts(turn, phx_str_of("</think>"));
    const bool dropped = closed || memmem(turn.ptr, turn.n, "<think></think>", 15);
    speaker who = {.format = f->format, .types = f->types, .in_reasoning = closed};
    phx_buf expected;
    record r;
    expected_log(message, !dropped, is_glm, &expected);
    run_all(&who, turn, &r);
    chat_case_equal("turn", phx_buf_view(&r.log), phx_buf_view(&expected));
    assert_false(r.summary.malformed);
    phx_buf_done(&r.log);
    if (opened) { /* the same when the prompt ended with the mark */
        who.in_reasoning = true;
        run_all(&who, (phx_str){turn.ptr + 7, turn.n - 7}, &r);
        chat_case_equal("turn in reasoning", phx_buf_view(&r.log), phx_buf_view(&expected));
        phx_buf_done(&r.log);
    }
    phx_buf_done(&expected);
}

/* Each assistant message that has no markup of its own, rendered as the last one. */
static size_t check_conversation(const family *f, const phx_json *messages)
{
    size_t n_turns = 0;
    phx_chat *chat = NULL;
    phx_error err = {0};
    const size_t n = phx_json_count(messages);
    const phx_chat_request request = {.messages = messages};
    if (phx_chat_build(&request, &chat, &err) != PHX_OK)
        fail_msg("%s", err.text);
    for (size_t k = 0; k < n; k++) {
        const phx_chat_message *m = &chat->messages[k];
        if (m->role != PHX_CHAT_ASSISTANT || memmem(m->content.ptr, m->content.n, "<think>", 7))
            continue;
        phx_chat_prompt prompt;
        phx_chat_prompt_init(&prompt);
        chat->n_messages = k + 1;
        const phx_chat_options options = {.template = f->parsed};
        if (phx_chat_render(phx_chat_format_named(phx_str_of(f->format)), chat, &options, &prompt, &err) !=
            PHX_OK)
            fail_msg("%s", err.text);
        check_turn(f, last_turn(f, phx_chat_prompt_view(&prompt)), phx_json_at(messages, k));
        phx_chat_prompt_done(&prompt);
        n_turns++;
    }
    chat->n_messages = n;
    phx_chat_destroy(chat);
    return n_turns;
}

static phx_output_types *types_of(const phx_json *tools)
{
    phx_json *messages = chat_case_json(phx_str_of("[{\"role\":\"user\",\"content\":\"x\"}]"));
    const phx_chat_request request = {.messages = messages, .tools = tools};
    phx_chat *chat = NULL;
    phx_output_types *types = NULL;
    assert_int_equal(phx_chat_build(&request, &chat, NULL), PHX_OK);
    assert_int_equal(phx_output_types_create(chat, &types, NULL), PHX_OK);
    phx_chat_destroy(chat);
    phx_json_destroy(messages);
    return types;
}

static void check_family(family f)
{
    char path[256];
    phx_buf text;
    size_t n_turns = 0;
    (void)snprintf(path, sizeof(path), "chat/%s/derived_goldens.json", f.folder);
    assert_true(chat_case_read(path, true, &text));
    phx_json *root = chat_case_json(phx_buf_view(&text));
    const phx_json *all = phx_json_get(root, "conversations");
    f.parsed = load_template(f.folder, phx_str_of(f.template));
    f.types = types_of(phx_json_get(root, "tools"));
    for (phx_json_member it = phx_json_first(all); it.value; it = phx_json_next(all, it))
        n_turns += check_conversation(&f, it.value);
    assert_int_equal(n_turns, 7);
    phx_output_types_destroy(f.types);
    phx_jinja_destroy(f.parsed);
    phx_json_destroy(root);
    phx_buf_done(&text);
}

static void test_goldens(void **state)
{
    static const char *const templates[] = {"GLM-4.5", "GLM-4.6", "GLM-4.7-Flash", "GLM-5.2"};
    (void)state;
    for (size_t i = 0; i < 4; i++)
        check_family((family){.folder = "glm-5",
                              .format = "glm",
                              .open = "<|assistant|>",
                              .ends = {"<|user|>", "<|observation|>"},
                              .template = templates[i]});
    check_family((family){.folder = "kimi-k2.5",
                          .format = "kimi",
                          .open = "<|im_assistant|>assistant<|im_middle|>",
                          .ends = {"<|im_end|>"},
                          .template = "Kimi-K2.5"});
}

int main(void)
{
    phx_buf text;
    if (!chat_case_read("chat/SOURCES.md", true, &text)) {
        (void)printf("SKIP: no shared test data (PHX_SHARED)\n");
        return 77;
    }
    phx_buf_done(&text);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_glm),   cmocka_unit_test(test_glm_types), cmocka_unit_test(test_kimi),
        cmocka_unit_test(test_plain), cmocka_unit_test(test_goldens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
