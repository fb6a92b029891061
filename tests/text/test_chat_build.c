/* Requests of every wrong shape: an error that names the path, never a crash. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "tests/text/chat_cases.h"

static phx_code build(const phx_json *request, phx_chat **ret_chat, phx_error *err)
{
    const phx_chat_request nodes = {
        .messages = phx_json_get(request, "messages"),
        .tools = phx_json_get(request, "tools"),
        .tool_choice = phx_json_get(request, "tool_choice"),
    };
    return phx_chat_build(&nodes, ret_chat, err);
}

static void refuse(const char *text, phx_code code, const char *expected)
{
    phx_error err = {0};
    phx_chat *chat = NULL;
    phx_json *root = chat_case_json(phx_str_of(text));
    const phx_code rc = build(root, &chat, &err);
    if (rc != code || !phx_str_starts(phx_str_of(err.text), phx_str_of(expected)))
        fail_msg("%s: %s '%s', expected %s '%s'", text, phx_code_name(rc), err.text, phx_code_name(code),
                 expected);
    assert_null(chat);
    phx_json_destroy(root);
}

/* One message, written between the brackets of messages. */
static void refuse_message(const char *message, phx_code code, const char *expected)
{
    char text[2048];
    (void)snprintf(text, sizeof(text), "{\"messages\":[%s]}", message);
    refuse(text, code, expected);
}

static void refuse_tool(const char *tool, phx_code code, const char *expected)
{
    char text[2048];
    (void)snprintf(text, sizeof(text), "{\"messages\":[{\"role\":\"user\",\"content\":\"\"}],\"tools\":[%s]}",
                   tool);
    refuse(text, code, expected);
}

static void refuse_call(const char *call, phx_code code, const char *expected)
{
    char text[2048];
    (void)snprintf(text, sizeof(text), "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[%s]}]}", call);
    refuse(text, code, expected);
}

static void test_messages(void **state)
{
    (void)state;
    const phx_code bad = PHX_ERR_INVALID, no = PHX_ERR_UNSUPPORTED;
    refuse("{}", bad, "messages: expected a non-empty array, got missing");
    refuse("{\"messages\":\"x\"}", bad, "messages: expected a non-empty array, got string");
    refuse("{\"messages\":[]}", bad, "messages: expected a non-empty array, got array of none");
    refuse_message("3", bad, "messages[0]: expected object, got integer");
    refuse_message("{}", bad, "messages[0].role: expected string, got missing");
    refuse_message("{\"role\":[]}", bad, "messages[0].role: expected string, got array");
    refuse_message("{\"role\":\"robot\",\"content\":\"\"}", bad, "messages[0].role: 'robot' is none of");
    refuse_message("{\"role\":\"user\"}", bad,
                   "messages[0].content: expected string or array of text parts, got missing");
    refuse_message("{\"role\":\"user\",\"content\":null}", bad,
                   "messages[0].content: expected string or array");
    refuse_message("{\"role\":\"user\",\"content\":{}}", bad,
                   "messages[0].content: expected string or array");
    refuse_message("{\"role\":\"user\",\"content\":[\"x\"]}", bad,
                   "messages[0].content[0]: expected object, got string");
    refuse_message("{\"role\":\"user\",\"content\":[{\"text\":\"x\"}]}", bad,
                   "messages[0].content[0].type: expected string, got missing");
    refuse_message("{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"\"},{\"type\":\"text\"}]}",
                   bad, "messages[0].content[1].text: expected string, got missing");
    refuse_message("{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"\",\"x\":1}]}", bad,
                   "messages[0].content[0].x: unknown field");
    refuse_message("{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":\"x\"}}]}",
                   no, "messages[0].content[0].type: 'image_url' is not supported");
    refuse_message("{\"role\":\"user\",\"content\":\"\"},{\"role\":\"user\",\"content\":\"\",\"mood\":1}",
                   bad, "messages[1].mood: unknown field");
    refuse_message("{\"role\":\"user\",\"content\":\"\",\"name\":1}", bad,
                   "messages[0].name: expected string, got integer");
    refuse_message("{\"role\":\"user\",\"content\":\"\",\"tool_calls\":[1]}", bad,
                   "messages[0].tool_calls: not allowed in a message of role user");
    refuse_message("{\"role\":\"user\",\"content\":\"\",\"tool_call_id\":\"x\"}", bad,
                   "messages[0].tool_call_id: not allowed");
    refuse_message("{\"role\":\"assistant\",\"content\":\"\",\"reasoning_content\":3}", bad,
                   "messages[0].reasoning_content: expected string, got integer");
    refuse_message("{\"role\":\"assistant\",\"content\":\"\",\"audio\":{\"id\":\"x\"}}", no,
                   "messages[0].audio: not supported");
    refuse_message("{\"role\":\"assistant\",\"content\":\"\",\"parsed\":{\"x\":1}}", no,
                   "messages[0].parsed: not supported");
    refuse_message("{\"role\":\"system\",\"content\":\"\",\"response_format\":3}", bad,
                   "messages[0].response_format: expected object, got integer");
    refuse_message("{\"role\":\"system\",\"content\":\"\",\"tools\":3}", bad,
                   "messages[0].tools: expected array, got integer");
    refuse_message("{\"role\":\"system\",\"content\":\"\",\"tools\":[3]}", bad,
                   "messages[0].tools[0]: expected object");
    refuse_message("{\"role\":\"tool\",\"content\":\"\",\"tool_call_id\":null}", bad,
                   "messages[0].tool_call_id: expected string, got null");
    refuse_message("{\"role\":\"tool\",\"content\":\"\",\"tool_call_id\":\"x\"}", bad,
                   "messages[0]: a message of role tool must follow an assistant message");
}

#define CALL(id) \
    "{\"id\":\"" id "\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}"
#define RESULT(id) "{\"role\":\"tool\",\"content\":\"\",\"tool_call_id\":\"" id "\"}"

static void test_calls(void **state)
{
    (void)state;
    const phx_code bad = PHX_ERR_INVALID, no = PHX_ERR_UNSUPPORTED;
#define AT "messages[0].tool_calls[0]"
    refuse_message("{\"role\":\"assistant\",\"tool_calls\":\"x\"}", bad,
                   "messages[0].tool_calls: expected array, got string");
    refuse_call("1", bad, AT ": expected object, got integer");
    refuse_call("{\"type\":\"function\"}", bad, AT ".id: expected string, got missing");
    refuse_call("{\"id\":\"a\",\"extra\":1}", bad, AT ".extra: unknown field");
    refuse_call("{\"id\":\"a\"}", bad, AT ".type: expected \"function\", got missing");
    refuse_call("{\"id\":\"a\",\"type\":\"custom\"}", no, AT ".type: 'custom' is not supported");
    refuse_call("{\"id\":\"a\",\"type\":\"function\"}", bad, AT ".function: expected object, got missing");
    refuse_call("{\"id\":\"a\",\"type\":\"function\",\"function\":{}}", bad,
                AT ".function.name: expected string, got missing");
    refuse_call("{\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"a b\"}}", bad,
                AT ".function.name: expected 1 to");
    refuse_call("{\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"\"}}", bad,
                AT ".function.name: expected 1 to");
    refuse_call("{\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"f\"}}", bad,
                AT ".function.arguments: expected string that holds a JSON object, got missing");
    refuse_call("{\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":{}}}", bad,
                AT ".function.arguments: expected string that holds a JSON object, got object");
    refuse_call("{\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"[]\"}}",
                bad, AT ".function.arguments: expected string that holds a JSON object, got array");
    refuse_call(
        "{\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":\"}}",
        bad, AT ".function.arguments: expected a JSON object: JSON line 1");
    refuse_call(
        "{\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\",\"x\":1}}",
        bad, AT ".function.x: unknown field");
    const char *answered = "{\"role\":\"assistant\",\"tool_calls\":[" CALL("a") "," CALL("b") "]},";
    char text[1024];
    (void)snprintf(text, sizeof(text), "%s%s", answered, RESULT("a"));
    refuse_message(text, bad, "messages[0].tool_calls: 2 calls, but 1 results");
    (void)snprintf(text, sizeof(text), "%s%s,%s", answered, RESULT("a"), RESULT("c"));
    refuse_message(text, bad, "messages[2].tool_call_id: 'c' is no unanswered call of messages[0]");
    (void)snprintf(text, sizeof(text), "%s%s,%s,%s", answered, RESULT("b"), RESULT("a"), RESULT("a"));
    refuse_message(text, bad, "messages[3].tool_call_id: 'a' is no unanswered call of messages[0]");
}

static void test_tools(void **state)
{
    (void)state;
    const phx_code bad = PHX_ERR_INVALID, no = PHX_ERR_UNSUPPORTED;
    static const char user[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"\"}],";
    char text[512];
    refuse("{\"messages\":[{\"role\":\"user\",\"content\":\"\"}],\"tools\":{}}", bad,
           "tools: expected array, got object");
    refuse_tool("\"x\"", bad, "tools[0]: expected object, got string");
    refuse_tool("{}", bad, "tools[0].type: expected \"function\", got missing");
    refuse_tool("{\"type\":\"web_search\"}", no, "tools[0].type: 'web_search' is not supported");
    refuse_tool("{\"type\":\"function\",\"x\":1}", bad, "tools[0].x: unknown field");
    refuse_tool("{\"type\":\"function\"}", bad, "tools[0].function: expected object, got missing");
    refuse_tool("{\"type\":\"function\",\"function\":{}}", bad,
                "tools[0].function.name: expected string, got missing");
    refuse_tool("{\"type\":\"function\",\"function\":{\"name\":\"f\\\"\"}}", bad,
                "tools[0].function.name: expected 1 to");
    refuse_tool("{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":1}}", bad,
                "tools[0].function.description: expected string, got integer");
    refuse_tool("{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":\"x\"}}", bad,
                "tools[0].function.parameters: expected object, got string");
    refuse_tool("{\"type\":\"function\",\"function\":{\"name\":\"f\",\"strict\":1}}", bad,
                "tools[0].function.strict: expected boolean, got integer");
    static const char *const choices[][2] = {
        {"3", "tool_choice: expected string, got integer"},
        {"\"any\"", "tool_choice: 'any' is not supported"},
    };
    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(text, sizeof(text), "%s\"tool_choice\":%s}", user, choices[i][0]);
        refuse(text, bad, choices[i][1]);
    }
    (void)snprintf(text, sizeof(text), "%s\"tool_choice\":\"required\"}", user);
    refuse(text, no, "tool_choice: 'required' is not supported");
    (void)snprintf(text, sizeof(text), "%s\"tool_choice\":{\"type\":\"function\"}}", user);
    refuse(text, no, "tool_choice: a forced function");
    refuse(
        "{\"messages\":[{\"role\":\"system\",\"content\":\"\",\"tools\":[{\"type\":\"function\",\"function\":"
        "{\"name\":\"f\"}}]}],\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"g\"}}]}",
        bad, "messages[0].tools: the request has tools as well");
}

/* Repeats one item n times between head and tail; the request must be accepted or refused as too long. */
static void check_count(const char *head, const char *item, const char *tail, size_t n, bool fits)
{
    phx_buf text;
    phx_error err = {0};
    phx_chat *chat = NULL;
    phx_buf_init(&text, 16u << 20);
    (void)phx_buf_str(&text, head);
    for (size_t i = 0; i < n; i++)
        (void)phx_buf_printf(&text, "%s%s", i ? "," : "", item);
    (void)phx_buf_str(&text, tail);
    phx_json *root = chat_case_json(phx_buf_view(&text));
    const phx_code rc = build(root, &chat, &err);
    if (rc != (fits ? PHX_OK : PHX_ERR_TOO_LONG))
        fail_msg("%zu of %s: %s", n, item, err.text);
    phx_chat_destroy(chat);
    phx_json_destroy(root);
    phx_buf_done(&text);
}

static void test_limits(void **state)
{
    (void)state;
    for (unsigned past = 0; past < 2; past++) {
        check_count("{\"messages\":[", "{\"role\":\"user\",\"content\":\"x\"}", "]}",
                    PHX_CHAT_MESSAGES_MAX + past, !past);
        check_count("{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"tools\":[",
                    "{\"type\":\"function\",\"function\":{\"name\":\"f\"}}", "]}", PHX_CHAT_TOOLS_MAX + past,
                    !past);
        check_count("{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[", CALL("a"), "]}]}",
                    PHX_CHAT_CALLS_MAX + past, !past);
    }
}

static void test_neutral_fields(void **state)
{
    (void)state;
    phx_error err = {0};
    phx_chat *chat = NULL;
    phx_json *root = chat_case_json(phx_str_of(
        "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":"
        "\"text\",\"text\":\"b\"}],"
        "\"name\":\"Eve\"},{\"role\":\"assistant\",\"content\":null,\"refusal\":null,\"annotations\":[],"
        "\"audio\":null,"
        "\"function_call\":null,\"reasoning\":\"r\",\"reasoning_content\":null,\"tool_calls\":[{\"id\":\"1\","
        "\"index\":0,"
        "\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\": 1}\"}}]},"
        "{\"role\":\"tool\",\"tool_call_id\":\"1\",\"content\":\"ok\"}],\"tools\":[{\"type\":\"function\","
        "\"function\":"
        "{\"name\":\"f\",\"description\":\"d\",\"parameters\":{\"type\":\"object\"},\"strict\":true}}],"
        "\"tool_choice\":\"auto\"}"));
    if (build(root, &chat, &err) != PHX_OK)
        fail_msg("%s", err.text);
    assert_int_equal(chat->n_messages, 3);
    assert_true(phx_str_is(chat->messages[0].content, "a\nb") && phx_str_is(chat->messages[0].name, "Eve"));
    assert_true(phx_str_is(chat->messages[1].reasoning, "r") && chat->messages[1].content.n == 0);
    assert_int_equal(chat->messages[1].n_calls, 1);
    assert_true(phx_str_is(chat->messages[1].calls[0].arguments, "{\"x\": 1}"));
    assert_int_equal(chat->messages[2].n_turn_calls, 1);
    assert_true(phx_str_is(chat->tools[0].name, "f") && phx_str_is(chat->tools[0].description, "d"));
    assert_int_equal(phx_json_kind_of(chat->tools[0].parameters), PHX_JSON_OBJECT);
    assert_int_equal(chat->tool_choice, PHX_CHAT_TOOLS_AUTO);
    phx_chat_destroy(chat);
    phx_json_destroy(root);
}

/* ---- a valid request with pieces of it exchanged
 * ------------------------------------------------------------- */

/* Builds and renders; any result is fine but for an error without a path. */
static bool survive(phx_json *root)
{
    phx_error err = {0};
    phx_chat_prompt prompt;
    const phx_chat_options options = {.thinking = true, .add_generation_prompt = true};
    phx_chat_prompt_init(&prompt);
    const phx_code rc = chat_case_render(root, &options, &prompt, &err);
    if (rc == PHX_OK)
        chat_case_check_segments(&prompt);
    else if (phx_json_kind_of(root) == PHX_JSON_OBJECT)
        assert_true(phx_str_starts(phx_str_of(err.text), phx_str_of("messages")) ||
                    phx_str_starts(phx_str_of(err.text), phx_str_of("tool")));
    phx_chat_prompt_done(&prompt);
    phx_json_destroy(root);
    return rc == PHX_OK;
}

/* Where a value starts in JSON text that has no spaces outside of strings: after [ , or :. */
static size_t value_end(phx_str text, size_t at)
{
    size_t depth = 0;
    bool in_string = false;
    for (; at < text.n; at++) {
        const char c = text.ptr[at];
        if (in_string) {
            at += c == '\\';
            in_string = c != '"';
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if (c == '}' || c == ']' || c == ',' || c == ':') {
            if (depth == 0)
                return at;
            depth -= c == '}' || c == ']';
        }
    }
    return at;
}

/* Every value and every key replaced by every kind of value. */
static void test_wrong_types_everywhere(void **state)
{
    (void)state;
    static const char request[] = "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\","
                                  "\"content\":[{\"type\":\"text\",\"text\":"
                                  "\"a\"}],\"name\":\"Eve\"},{\"role\":\"assistant\",\"content\":null,"
                                  "\"reasoning_content\":\"r\",\"tool_calls\":[{"
                                  "\"id\":\"1\",\"type\":\"function\",\"function\":{\"name\":\"f\","
                                  "\"arguments\":\"{}\"}}]},{\"role\":\"tool\","
                                  "\"tool_call_id\":\"1\",\"content\":\"ok\"}],\"tools\":[{\"type\":"
                                  "\"function\",\"function\":{\"name\":\"f\","
                                  "\"description\":\"d\",\"parameters\":{\"type\":\"object\"},\"strict\":"
                                  "true}}],\"tool_choice\":\"auto\"}";
    static const char *const values[] = {"null",         "true",       "7",   "-1.5", "\"\"", "\"text\"",
                                         "[]",           "{}",         "[1]", "[[]]", "[{}]", "{\"a\":1}",
                                         "\"\\u0001{\"", "[null,\"\"]"};
    size_t n_tried = 0, n_accepted = 0;
    const phx_str whole = phx_str_of(request);
    for (size_t at = 1; at < whole.n; at++) {
        if (!strchr("[{,:", whole.ptr[at - 1]))
            continue;
        const size_t end = value_end(whole, at);
        for (size_t v = 0; v < sizeof(values) / sizeof(values[0]); v++) {
            phx_json *root = NULL;
            phx_buf text;
            phx_buf_init(&text, 65536);
            (void)phx_buf_append(&text, whole.ptr, at);
            (void)phx_buf_str(&text, values[v]);
            (void)phx_buf_append(&text, whole.ptr + end, whole.n - end);
            const phx_bytes bytes = {(const uint8_t *)text.ptr, text.n};
            if (phx_json_parse(bytes, PHX_JSON_LIMITS_REQUEST, &root, NULL) == PHX_OK) {
                n_tried++;
                n_accepted += survive(root);
            }
            phx_buf_done(&text);
        }
    }
    assert_true(n_tried > 500);
    assert_true(n_accepted > 10 && n_accepted < n_tried);
}

static void test_random_bytes(void **state)
{
    (void)state;
    phx_buf file;
    phx_rng rng = {.seed = 11};
    size_t n_parsed = 0;
    assert_true(chat_case_read("deepseek-v3.2/test_input.json", false, &file));
    for (size_t i = 0; i < 3000; i++) {
        phx_json *root = NULL;
        phx_buf text;
        phx_buf_init(&text, 1u << 20);
        (void)phx_buf_append(&text, file.ptr, file.n);
        for (size_t k = 0; k < 1 + i % 3; k++)
            text.ptr[phx_rng_below(&rng, (uint32_t)text.n)] = "x\"{}[],: 0\\"[phx_rng_below(&rng, 11)];
        const phx_bytes bytes = {(const uint8_t *)text.ptr, text.n};
        if (phx_json_parse(bytes, PHX_JSON_LIMITS_REQUEST, &root, NULL) == PHX_OK) {
            n_parsed++;
            (void)survive(root);
        }
        phx_buf_done(&text);
    }
    assert_true(n_parsed > 100);
    phx_buf_done(&file);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    size_t n_failed = 0;
    const phx_alloc_stats before = phx_alloc_count();
    phx_buf file;
    assert_true(chat_case_read("deepseek-v3.2/test_input.json", false, &file));
    phx_json *root = chat_case_json(phx_buf_view(&file));
    for (uint64_t n = 1; n < 60; n++) {
        phx_error err = {0};
        phx_chat_prompt prompt;
        const phx_chat_options options = {.thinking = true};
        phx_chat_prompt_init(&prompt);
        phx_alloc_fail_nth(n);
        const phx_code rc = chat_case_render(root, &options, &prompt, &err);
        phx_alloc_fail_nth(0);
        assert_true(rc == PHX_OK || rc == PHX_ERR_NOMEM);
        n_failed += rc != PHX_OK;
        phx_chat_prompt_done(&prompt);
    }
    assert_true(n_failed > 10);
    phx_json_destroy(root);
    phx_buf_done(&file);
    assert_int_equal(phx_alloc_count().n_live, before.n_live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages),       cmocka_unit_test(test_calls),
        cmocka_unit_test(test_tools),          cmocka_unit_test(test_limits),
        cmocka_unit_test(test_neutral_fields), cmocka_unit_test(test_wrong_types_everywhere),
        cmocka_unit_test(test_random_bytes),   cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
