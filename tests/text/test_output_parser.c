/* The output parser: what it gives out, the same for every way of cutting the text, and never a lost byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "tests/text/chat_cases.h"
#include "coordinator/text/output_parser.h"
#include "coordinator/text/pyjson.h"

#define OPEN   "<｜DSML｜function_calls>"
#define CLOSE  "</｜DSML｜function_calls>"
#define INVOKE "<｜DSML｜invoke name=\""
#define PARAM  "<｜DSML｜parameter name=\""
#define END_P  "</｜DSML｜parameter>"
#define END_I  "</｜DSML｜invoke>"

/* Everything that came out, with runs of one kind joined, so that two ways of cutting compare equal. */
typedef struct record {
    phx_buf log;
    phx_buf arguments; /* of the call that is open */
    int last_kind;
    uint32_t n_calls;
    bool is_open;
    phx_output_summary summary;
} record;

static void record_init(record *r)
{
    *r = (record){.last_kind = -1};
    phx_buf_init(&r->log, 64u << 20);
    phx_buf_init(&r->arguments, 64u << 20);
}

static void record_done(record *r)
{
    phx_buf_done(&r->log);
    phx_buf_done(&r->arguments);
}

static void on_event(void *ctx, const phx_output_event *event)
{
    static const char *const marks[] = {"[R]", "[C]", "[CALL]", "", "[END]"};
    record *r = ctx;
    const bool is_text = event->kind == PHX_OUTPUT_REASONING || event->kind == PHX_OUTPUT_CONTENT;
    if ((int)event->kind != r->last_kind || !is_text)
        (void)phx_buf_str(&r->log, marks[event->kind]);
    r->last_kind = (int)event->kind;
    (void)phx_buf_append(&r->log, event->text.ptr, event->text.n);
    (void)phx_buf_append(&r->log, event->name.ptr, event->name.n);
    assert_int_equal(r->is_open, event->kind == PHX_OUTPUT_CALL_DELTA || event->kind == PHX_OUTPUT_CALL_END);
    if (event->kind == PHX_OUTPUT_CALL_BEGIN) {
        phx_buf_clear(&r->arguments);
        r->is_open = true;
    } else {
        assert_true(event->text.n > 0 || event->kind == PHX_OUTPUT_CALL_END);
    }
    if (!is_text)
        assert_int_equal(event->call_idx, r->n_calls);
    if (event->kind == PHX_OUTPUT_CALL_DELTA)
        (void)phx_buf_append(&r->arguments, event->text.ptr, event->text.n);
    if (event->kind != PHX_OUTPUT_CALL_END)
        return;
    phx_json *root = NULL;
    const phx_bytes arguments = {(const uint8_t *)r->arguments.ptr, r->arguments.n};
    assert_int_equal(phx_json_parse_loose(arguments, PHX_JSON_LIMITS_REQUEST, &root, NULL), PHX_OK);
    assert_int_equal(phx_json_kind_of(root), PHX_JSON_OBJECT);
    phx_json_destroy(root);
    r->is_open = false;
    r->n_calls++;
}

typedef struct mode {
    bool in_reasoning;
    bool no_calls;
} mode;

static phx_output_parser *start(record *r, mode m)
{
    phx_error err = {0};
    phx_output_parser *parser = NULL;
    const phx_output_options options = {
        .syntax = phx_chat_format_named(phx_str_of("deepseek-v3.2"))->syntax,
        .in_reasoning = m.in_reasoning,
        .parse_calls = !m.no_calls,
        .sink = on_event,
        .ctx = r,
    };
    record_init(r);
    assert_int_equal(phx_output_parser_create(&options, &parser, &err), PHX_OK);
    return parser;
}

static void feed(phx_output_parser *parser, phx_str piece)
{
    phx_error err = {0};
    if (phx_output_parser_feed(parser, piece, &err) != PHX_OK)
        fail_msg("%s", err.text);
}

static void finish(phx_output_parser *parser, record *r)
{
    r->summary = phx_output_parser_finish(parser);
    phx_output_parser_destroy(parser);
    assert_false(r->is_open);
    assert_int_equal(r->summary.n_calls, r->n_calls);
}

/* Pieces of n_piece bytes, the first one of n_first. */
static void run_pieces(record *r, phx_str text, mode m, size_t n_first, size_t n_piece)
{
    phx_output_parser *parser = start(r, m);
    size_t n = n_first;
    for (size_t at = 0; at < text.n; n = n_piece) {
        n = n < text.n - at ? n : text.n - at;
        feed(parser, (phx_str){text.ptr + at, n});
        at += n;
    }
    finish(parser, r);
}

static void same(const record *got, const record *expected)
{
    chat_case_equal("cut differently", phx_buf_view(&got->log), phx_buf_view(&expected->log));
    assert_int_equal(got->summary.malformed, expected->summary.malformed);
    assert_int_equal(got->summary.in_reasoning, expected->summary.in_reasoning);
    assert_int_equal(got->n_calls, expected->n_calls);
}

/* Runs the text whole into ret_record, then cut in two at every byte, and byte by byte. */
static void run_all_splits(phx_str text, mode m, record *ret_record)
{
    record other;
    run_pieces(ret_record, text, m, text.n, 1);
    for (size_t cut = 1; cut < text.n; cut++) {
        run_pieces(&other, text, m, cut, text.n);
        same(&other, ret_record);
        record_done(&other);
    }
    for (size_t n_piece = 1; n_piece <= 5; n_piece++) {
        run_pieces(&other, text, m, n_piece, n_piece);
        same(&other, ret_record);
        record_done(&other);
    }
}

typedef struct output_case {
    const char *text;
    mode m;
    const char *log;
    bool malformed;
    bool in_reasoning;
} output_case;

static void check_case(const output_case *c)
{
    record r;
    run_all_splits(phx_str_of(c->text), c->m, &r);
    chat_case_equal(c->text, phx_buf_view(&r.log), phx_str_of(c->log));
    assert_int_equal(r.summary.malformed, c->malformed);
    assert_int_equal(r.summary.in_reasoning, c->in_reasoning);
    record_done(&r);
}

static const char two_calls[] =
    "Let me look 🔍.\n\n" OPEN "\n" INVOKE "get_weather\">\n" PARAM
    "city\" string=\"true\">São \"Paulo\"\n2" END_P "\n" PARAM "days\" string=\"false\">3" END_P "\n" END_I
    "\n" INVOKE "now\">\n\n" END_I "\n" CLOSE;

static void test_forms(void **state)
{
    (void)state;
    static const output_case cases[] = {
        {.text = "", .log = ""},
        {.text = "Hello\n\nworld\n\n", .log = "[C]Hello\n\nworld\n\n"},
        {.text = "a < b </think> <｜DSML｜ c\n", .log = "[C]a < b </think> <｜DSML｜ c\n"},
        {.text = "hm</think>yes", .m.in_reasoning = true, .log = "[R]hm[C]yes"},
        {.text = "</think>yes", .m.in_reasoning = true, .log = "[C]yes"},
        {.text = "hm </thin</think></think>", .m.in_reasoning = true, .log = "[R]hm </thin[C]</think>"},
        {.text = "no end </thi", .m.in_reasoning = true, .log = "[R]no end </thi", .in_reasoning = true},
        {.text = "in thought\n\n" OPEN "\n",
         .m.in_reasoning = true,
         .log = "[R]in thought\n\n" OPEN "\n",
         .in_reasoning = true},
        {.text = two_calls,
         .log = "[C]Let me look 🔍."
                "[CALL]get_weather{\"city\": \"São \\\"Paulo\\\"\\n2\", \"days\": 3}[END]"
                "[CALL]now{}[END]"},
        {.text = two_calls, .m.no_calls = true, .log = NULL},
        {.text = "t</think>\n\n" OPEN "\n" INVOKE "f\">\n" END_I "\n" CLOSE,
         .m.in_reasoning = true,
         .log = "[R]t[CALL]f{}[END]"},
        {.text = "x\n\n\n" OPEN INVOKE "f\">" PARAM
                 "a\" string=\"false\"> {\"k\": [1, 2.50]} \n" END_P END_I CLOSE " y",
         .log = "[C]x\n[CALL]f{\"a\": {\"k\": [1, 2.50]}}[END][C] y"},
        {.text = OPEN INVOKE "f\">" END_I CLOSE "\n\n" OPEN INVOKE "g\">" END_I CLOSE,
         .log = "[CALL]f{}[END][CALL]g{}[END]"},
        /* JSON goes on as it is written, also where readers disagree */
        {.text = OPEN INVOKE "f\">" PARAM "a\" string=\"false\">18446744073709551616" END_P PARAM
                             "b\" string=\"false\">[\"\\u0000\", {\"x\":1,\"x\":1e999}]" END_P END_I CLOSE,
         .log = "[CALL]f{\"a\": 18446744073709551616, \"b\": [\"\\u0000\", {\"x\":1,\"x\":1e999}]}[END]"},
        /* not JSON although it should be: a string */
        {.text = OPEN INVOKE
         "f\">" PARAM "a\" string=\"false\">Paris" END_P PARAM "b\" string=\"false\">" END_P PARAM
         "c\" string=\"false\">{\"x\":1,\"x\"}" END_P PARAM "d\" string=\"true\">" END_P END_I CLOSE,
         .log = "[CALL]f{\"a\": \"Paris\", \"b\": \"\", \"c\": \"{\\\"x\\\":1,\\\"x\\\"}\", \"d\": "
                "\"\"}[END]"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        output_case c = cases[i];
        char as_text[1024];
        (void)snprintf(as_text, sizeof(as_text), "[C]%s", c.text);
        if (!c.log)
            c.log = as_text;
        check_case(&c);
    }
}

static void test_malformed(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "\n\n" OPEN CLOSE,
        OPEN "\nhello",
        OPEN INVOKE "\">" END_I CLOSE,
        OPEN INVOKE "a b\">" END_I CLOSE,
        OPEN INVOKE "f\" x=\"1\">" END_I CLOSE,
        OPEN INVOKE "f\">" CLOSE,
        OPEN INVOKE "f\">text" END_I CLOSE,
        OPEN INVOKE "f\">" PARAM "\" string=\"true\">v" END_P END_I CLOSE,
        OPEN INVOKE "f\">" PARAM "k\">v" END_P END_I CLOSE,
        OPEN INVOKE "f\">" PARAM "k\" string=\"yes\">v" END_P END_I CLOSE,
        OPEN INVOKE "f\">" PARAM "k\n\" string=\"true\">v" END_P END_I CLOSE,
        OPEN INVOKE "f\">" PARAM "k\" string=\"true\">v" END_I CLOSE,
        OPEN INVOKE "f\">" PARAM "k\" string=\"true\">1" END_P PARAM
                    "k\" string=\"true\">2" END_P END_I CLOSE,
        OPEN INVOKE "f\">" OPEN INVOKE "g\">" END_I CLOSE,
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        char text[1024], log[1040];
        (void)snprintf(text, sizeof(text), "pre %s post " OPEN INVOKE "z\">" END_I CLOSE, texts[i]);
        (void)snprintf(log, sizeof(log), "[C]%s", text);
        check_case(&(output_case){.text = text, .log = log, .malformed = true});
    }
    check_case(&(output_case){.text = "a" OPEN INVOKE "f\">" END_I "\noops" CLOSE "b",
                              .log = "[C]a[CALL]f{}[END][C]\noops" CLOSE "b",
                              .malformed = true});
}

static size_t offset_after(const char *text, const char *mark, size_t from)
{
    const char *found = strstr(text + from, mark);
    assert_non_null(found);
    return (size_t)(found - text) + strlen(mark);
}

/* Cut off at each byte: complete calls come out, the rest of the raw text is content. */
static void test_truncated(void **state)
{
    (void)state;
    const size_t first = offset_after(two_calls, END_I, 0), second = offset_after(two_calls, END_I, first);
    const size_t open = offset_after(two_calls, OPEN, 0), close = offset_after(two_calls, CLOSE, 0);
    static const char before[] = "[C]Let me look 🔍.";
    static const char calls[2][96] = {
        "[CALL]get_weather{\"city\": \"São \\\"Paulo\\\"\\n2\", \"days\": 3}[END]", "[CALL]now{}[END]"};
    assert_int_equal(close, strlen(two_calls));
    for (size_t n = 1; n < close; n++) {
        record r;
        char log[1024];
        const size_t given = n >= second ? second : n >= first ? first : 0;
        if (given == 0)
            (void)snprintf(log, sizeof(log), "[C]%.*s", (int)n, two_calls);
        else
            (void)snprintf(log, sizeof(log), "%s%s%s%s%.*s", before, calls[0],
                           given == second ? calls[1] : "", n > given ? "[C]" : "", (int)(n - given),
                           two_calls + given);
        run_pieces(&r, (phx_str){two_calls, n}, (mode){0}, 3, 7);
        chat_case_equal("truncated", phx_buf_view(&r.log), phx_str_of(log));
        assert_int_equal(r.summary.malformed, n >= open);
        record_done(&r);
    }
}

/* A value of n_value bytes in a call; the call is given out unless it is too long. */
static void check_long(size_t n_value, size_t n_piece, bool fits)
{
    record r;
    phx_buf text;
    phx_buf_init(&text, 8u << 20);
    (void)phx_buf_str(&text, OPEN INVOKE "f\">" PARAM "k\" string=\"true\">x");
    for (size_t i = 1; i + 4 <= n_value; i += 4)
        (void)phx_buf_str(&text, "🔍");
    (void)phx_buf_str(&text, END_P END_I CLOSE);
    run_pieces(&r, phx_buf_view(&text), (mode){0}, n_piece, n_piece);
    assert_int_equal(r.summary.n_calls, fits);
    assert_int_equal(r.summary.malformed, !fits);
    if (fits)
        assert_int_equal(r.arguments.n, (n_value - 1) / 4 * 4 + 1 + strlen("{\"k\": \"\"}"));
    else
        assert_int_equal(r.log.n, text.n + strlen("[C]"));
    record_done(&r);
    phx_buf_done(&text);
}

static void test_long_values(void **state)
{
    (void)state;
    for (size_t i = 0; i < 4; i++)
        check_long(3u * 65536u + i, 1u << 20, true);
    const size_t frame = strlen(OPEN INVOKE "f\">" PARAM "k\" string=\"true\">" END_P END_I);
    const size_t most = (PHX_OUTPUT_CALL_BYTES_MAX - frame - 1) / 4 * 4 + 1;
    check_long(most, 997, true);
    check_long(most, 4u << 20, true);
    check_long(most + 4, 997, false);
    check_long(most + 4, 4u << 20, false);
}

static void test_many_params(void **state)
{
    (void)state;
    for (unsigned n = PHX_OUTPUT_PARAMS_MAX; n <= PHX_OUTPUT_PARAMS_MAX + 1; n++) {
        record r;
        phx_buf text;
        phx_buf_init(&text, 1u << 20);
        (void)phx_buf_str(&text, OPEN INVOKE "f\">");
        for (unsigned i = 0; i < n; i++)
            (void)phx_buf_printf(&text, PARAM "k%u\" string=\"false\">%u" END_P, i, i);
        (void)phx_buf_str(&text, END_I CLOSE);
        run_pieces(&r, phx_buf_view(&text), (mode){0}, 11, 11);
        assert_int_equal(r.n_calls, n <= PHX_OUTPUT_PARAMS_MAX);
        assert_int_equal(r.summary.malformed, n > PHX_OUTPUT_PARAMS_MAX);
        record_done(&r);
        phx_buf_done(&text);
    }
}

/* ---- round trip: what the renderer writes for an assistant message is read back as the same message
 * ---------- */

static void check_round_trip(const phx_json *message)
{
    record r;
    phx_error err = {0};
    phx_buf request, expected;
    phx_chat_prompt prompt;
    phx_json_writer w;
    phx_str reasoning = {"", 0}, content = {"", 0};
    static const char before[] = "<｜begin▁of▁sentence｜><｜User｜>U<｜Assistant｜><think>",
                      eos[] = "<｜end▁of▁sentence｜>";
    phx_buf_init(&request, 1u << 20);
    phx_buf_init(&expected, 1u << 20);
    (void)phx_buf_str(&request, "{\"messages\":[{\"role\":\"user\",\"content\":\"U\"},");
    phx_json_writer_init(&w, &request);
    phx_json_node(&w, message);
    (void)phx_buf_str(&request, "]}");
    phx_json *root = chat_case_json(phx_buf_view(&request));
    phx_chat_prompt_init(&prompt);
    /* the renderer wants the results of the calls, which are not the point here */
    phx_chat *chat = NULL;
    const phx_chat_request nodes = {.messages = phx_json_get(root, "messages")};
    if (phx_chat_build(&nodes, &chat, &err) != PHX_OK)
        fail_msg("%s", err.text);
    const phx_chat_options options = {.thinking = true, .drop_thinking = true};
    if (phx_chat_render(phx_chat_format_named(phx_str_of("deepseek-v3.2")), chat, &options, &prompt, &err) !=
        PHX_OK)
        fail_msg("%s", err.text);
    (void)phx_json_as_str(phx_json_get(message, "reasoning_content"), &reasoning);
    (void)phx_json_as_str(phx_json_get(message, "content"), &content);
    (void)phx_buf_printf(&expected, "%s%.*s%s%.*s", reasoning.n ? "[R]" : "", (int)reasoning.n, reasoning.ptr,
                         content.n ? "[C]" : "", (int)content.n, content.ptr);
    for (size_t i = 0; i < chat->messages[1].n_calls; i++) {
        const phx_chat_call *call = &chat->messages[1].calls[i];
        (void)phx_buf_printf(&expected, "[CALL]%.*s", PHX_STR_ARG(call->name));
        (void)phx_pyjson_node(&expected, call->parsed);
        (void)phx_buf_str(&expected, "[END]");
    }
    const phx_str text = phx_chat_prompt_view(&prompt);
    assert_true(phx_str_starts(text, phx_str_of(before)) && phx_str_ends(text, phx_str_of(eos)));
    const phx_str answer = {text.ptr + strlen(before), text.n - strlen(before) - strlen(eos)};
    run_all_splits(answer, (mode){.in_reasoning = true}, &r);
    chat_case_equal("round trip", phx_buf_view(&r.log), phx_buf_view(&expected));
    assert_false(r.summary.malformed);
    record_done(&r);
    phx_chat_destroy(chat);
    phx_chat_prompt_done(&prompt);
    phx_json_destroy(root);
    phx_buf_done(&request);
    phx_buf_done(&expected);
}

static size_t round_trip_messages(const phx_json *messages)
{
    size_t n = 0;
    for (size_t i = 0; i < phx_json_count(messages); i++) {
        const phx_json *message = phx_json_at(messages, i);
        phx_str role;
        if (!phx_json_as_str(phx_json_get(message, "role"), &role) || !phx_str_is(role, "assistant"))
            continue;
        if (!phx_json_get(message, "reasoning_content") && !phx_json_get(message, "tool_calls"))
            continue; /* not rendered with thinking on */
        check_round_trip(message);
        n++;
    }
    return n;
}

static void test_round_trip(void **state)
{
    (void)state;
    phx_buf text;
    size_t n = 0;
    static const char *const files[] = {"deepseek-v3.2/test_input.json",
                                        "deepseek-v3.2/test_input_search_wo_date.json"};
    for (size_t i = 0; i < 2; i++) {
        assert_true(chat_case_read(files[i], false, &text));
        phx_json *root = chat_case_json(phx_buf_view(&text));
        n += round_trip_messages(phx_json_get(root, "messages"));
        phx_json_destroy(root);
        phx_buf_done(&text);
    }
    assert_true(chat_case_read("deepseek-v3.2/derived_goldens.json", false, &text));
    phx_json *root = chat_case_json(phx_buf_view(&text));
    const phx_json *conversations = phx_json_get(root, "conversations");
    for (phx_json_member it = phx_json_first(conversations); it.value; it = phx_json_next(conversations, it))
        n += round_trip_messages(it.value);
    assert_true(n > 10);
    phx_json_destroy(root);
    phx_buf_done(&text);
}

/* ---- random texts out of the format's own pieces
 * ------------------------------------------------------------- */

static void random_text(phx_rng *rng, phx_buf *text)
{
    static const char *const parts[] = {"</think>",
                                        "<think>",
                                        "\n",
                                        "\n\n",
                                        OPEN,
                                        CLOSE,
                                        INVOKE,
                                        "f\">",
                                        END_I,
                                        PARAM,
                                        "k\" string=\"true\">",
                                        "j\" string=\"false\">",
                                        "{\"a\": 1}",
                                        "7",
                                        END_P,
                                        " ",
                                        "é🔍",
                                        "<",
                                        "</",
                                        "<｜DSML｜",
                                        "word",
                                        "\"",
                                        "\\",
                                        OPEN INVOKE "g\">" PARAM "k\" string=\"true\">v",
                                        INVOKE "h\">" PARAM "k\" string=\"false\">1.5" END_P END_I,
                                        OPEN "\n" INVOKE "h\">\n" END_I "\n" CLOSE};
    const uint64_t n = 1 + phx_rng_u64(rng) % 14;
    for (uint64_t i = 0; i < n; i++)
        (void)phx_buf_str(text, parts[phx_rng_u64(rng) % (sizeof(parts) / sizeof(parts[0]))]);
    if (phx_rng_u64(rng) % 3 == 0 && text->n)
        text->ptr[phx_rng_u64(rng) % text->n] = (char)(1 + phx_rng_u64(rng) % 255);
    if (phx_rng_u64(rng) % 3 == 0)
        text->n -= phx_rng_u64(rng) % (text->n + 1);
}

static void test_random(void **state)
{
    (void)state;
    phx_rng rng = {.seed = 20251201};
    size_t n_with_calls = 0;
    for (size_t i = 0; i < 1500; i++) {
        record r, other;
        phx_buf text;
        phx_buf_init(&text, 65536);
        random_text(&rng, &text);
        const mode m = {.in_reasoning = i % 2 == 1};
        run_pieces(&r, phx_buf_view(&text), m, text.n + 1, 1);
        for (size_t n_piece = 1; n_piece < 64; n_piece += 1 + n_piece / 4) {
            run_pieces(&other, phx_buf_view(&text), m, n_piece, n_piece);
            same(&other, &r);
            record_done(&other);
        }
        n_with_calls += r.n_calls > 0;
        /* without calls the text comes back whole, but for the mark that ended the reasoning */
        const size_t n_mark = m.in_reasoning && !r.summary.in_reasoning ? strlen("</think>") : 0;
        if (r.n_calls == 0) {
            size_t n_tags = 0;
            if (r.log.n && phx_str_starts(phx_buf_view(&r.log), phx_str_of("[R]")))
                n_tags = 3;
            if (r.last_kind == PHX_OUTPUT_CONTENT)
                n_tags += 3;
            assert_int_equal(r.log.n - n_tags + n_mark, text.n);
        }
        record_done(&r);
        phx_buf_done(&text);
    }
    assert_true(n_with_calls > 50);
}

/* The n-th allocation fails: an error, no crash, no leak. */
static void test_out_of_memory(void **state)
{
    (void)state;
    const phx_alloc_stats before = phx_alloc_count();
    size_t n_failed = 0;
    for (uint64_t n = 1; n < 40; n++) {
        record r;
        phx_error err = {0};
        phx_output_parser *parser = NULL;
        record_init(&r);
        (void)phx_buf_printf(&r.log, "%8192s", "");
        (void)phx_buf_printf(&r.arguments, "%8192s", "");
        const phx_output_options options = {.syntax =
                                                phx_chat_format_named(phx_str_of("deepseek-v3.2"))->syntax,
                                            .parse_calls = true,
                                            .sink = on_event,
                                            .ctx = &r};
        phx_alloc_fail_nth(n);
        phx_code rc = phx_output_parser_create(&options, &parser, &err);
        if (rc == PHX_OK)
            rc = phx_output_parser_feed(parser, phx_str_of(two_calls), &err);
        phx_alloc_fail_nth(0);
        assert_true(rc == PHX_OK ? r.n_calls == 2 : rc == PHX_ERR_NOMEM);
        n_failed += rc != PHX_OK;
        phx_output_parser_destroy(parser);
        record_done(&r);
    }
    assert_true(n_failed >= 4);
    assert_int_equal(phx_alloc_count().n_live, before.n_live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),       cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_truncated),   cmocka_unit_test(test_long_values),
        cmocka_unit_test(test_many_params), cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_random),      cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
