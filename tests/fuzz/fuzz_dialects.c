/* tests/fuzz/fuzz_dialects.c - what GLM and Kimi write, cut anywhere: reasoning, content and calls depend on
 * the text only, arguments are one JSON object, no mark of a call that was understood comes out as content.
 * Input: 1 byte of switches, 1 byte of cuts, the rest the text. */
#include "tests/fuzz/fuzz.h"

#include "coordinator/text/output_parser.h"

typedef struct record {
    phx_buf log; /* runs of one kind joined */
    phx_buf arguments;
    size_t n_text; /* bytes of reasoning and content */
    int last_kind;
    uint32_t n_calls;
    bool is_open;
    phx_output_summary summary;
} record;

static const char tools_json[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":{\"s\":{\"type\":"
    "\"string\"},"
    "\"i\":{\"type\":\"integer\"},\"x\":{\"type\":[\"number\",\"null\"]},\"o\":{\"type\":\"object\"},"
    "\"a\":{\"anyOf\":[{\"type\":\"array\"},{\"type\":\"boolean\"}]}}}}}]";

static phx_output_types *make_types(void)
{
    static const char messages_json[] = "[{\"role\":\"user\",\"content\":\"x\"}]";
    phx_json *messages = NULL;
    phx_json *tools = NULL;
    phx_chat *chat = NULL;
    phx_output_types *types = NULL;
    phx_error err = {0};
    const phx_bytes texts[2] = {{(const uint8_t *)messages_json, sizeof(messages_json) - 1},
                                {(const uint8_t *)tools_json, sizeof(tools_json) - 1}};
    fuzz_must(phx_json_parse(texts[0], PHX_JSON_LIMITS_REQUEST, &messages, &err), &err);
    fuzz_must(phx_json_parse(texts[1], PHX_JSON_LIMITS_REQUEST, &tools, &err), &err);
    const phx_chat_request request = {.messages = messages, .tools = tools};
    fuzz_must(phx_chat_build(&request, &chat, &err), &err);
    fuzz_must(phx_output_types_create(chat, &types, &err), &err);
    phx_chat_destroy(chat);
    phx_json_destroy(messages);
    phx_json_destroy(tools);
    return types;
}

static void on_event(void *ctx, const phx_output_event *event)
{
    static const char *const marks[] = {"[R]", "[C]", "[CALL]", "", "[END]"};
    record *r = ctx;
    const bool is_text = event->kind == PHX_OUTPUT_REASONING || event->kind == PHX_OUTPUT_CONTENT;
    FUZZ_CHECK(r->is_open == (event->kind == PHX_OUTPUT_CALL_DELTA || event->kind == PHX_OUTPUT_CALL_END));
    FUZZ_CHECK(event->kind != PHX_OUTPUT_REASONING || r->last_kind == -1 ||
               r->last_kind == PHX_OUTPUT_REASONING);
    if ((int)event->kind != r->last_kind || !is_text)
        (void)phx_buf_str(&r->log, marks[event->kind]);
    r->last_kind = (int)event->kind;
    if (!is_text)
        FUZZ_CHECK(event->call_idx == r->n_calls);
    if (event->kind == PHX_OUTPUT_CALL_BEGIN) {
        FUZZ_CHECK(phx_chat_name_valid(event->name));
        (void)phx_buf_append(&r->log, event->name.ptr, event->name.n);
        phx_buf_clear(&r->arguments);
        r->is_open = true;
    } else if (event->kind == PHX_OUTPUT_CALL_END) {
        fuzz_check_object(phx_buf_view(&r->arguments));
        r->is_open = false;
        r->n_calls++;
    } else {
        FUZZ_CHECK(event->text.n > 0);
        (void)phx_buf_append(&r->log, event->text.ptr, event->text.n);
        if (is_text)
            r->n_text += event->text.n;
        else
            (void)phx_buf_append(&r->arguments, event->text.ptr, event->text.n);
    }
}

static void run(phx_str text, uint8_t bits, const phx_output_types *types, fuzz_cuts *cuts, record *r)
{
    static const char *const formats[] = {"glm", "kimi", "template", "glm"};
    phx_output_parser *parser = NULL;
    phx_error err = {0};
    const phx_output_options options = {
        .syntax = phx_chat_format_named(phx_str_of(formats[bits >> 2 & 3]))->syntax,
        .in_reasoning = bits & 1,
        .parse_calls = bits & 2,
        .types = types,
        .sink = on_event,
        .ctx = r,
    };
    *r = (record){.last_kind = -1};
    phx_buf_init(&r->log, 64u << 20);
    phx_buf_init(&r->arguments, 64u << 20);
    fuzz_must(phx_output_parser_create(&options, &parser, &err), &err);
    for (size_t at = 0; at < text.n;) {
        const size_t n = cuts ? fuzz_next_cut(cuts, text.n - at) : text.n;
        fuzz_must(phx_output_parser_feed(parser, (phx_str){text.ptr + at, n}, &err), &err);
        at += n;
    }
    r->summary = phx_output_parser_finish(parser);
    phx_output_parser_destroy(parser);
    FUZZ_CHECK(!r->is_open);
    FUZZ_CHECK(r->summary.n_calls == r->n_calls);
    FUZZ_CHECK(r->n_text <= text.n);
    FUZZ_CHECK(r->log.code == PHX_OK);
}

static void done(record *r)
{
    phx_buf_done(&r->log);
    phx_buf_done(&r->arguments);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    fuzz_tape tape = {data, n_bytes};
    const uint8_t bits = fuzz_u8(&tape);
    fuzz_cuts cuts = {fuzz_u8(&tape), 0};
    const phx_str text = fuzz_str(fuzz_rest(&tape));
    record whole;
    record parts;
    if (!phx_utf8_valid(text.ptr, text.n))
        return 0; /* the detokenizer gives valid text only */
    phx_output_types *types = make_types();
    run(text, bits, types, NULL, &whole);
    run(text, bits, types, &cuts, &parts);
    FUZZ_CHECK(phx_str_eq(phx_buf_view(&whole.log), phx_buf_view(&parts.log)));
    FUZZ_CHECK(whole.summary.malformed == parts.summary.malformed);
    FUZZ_CHECK(whole.summary.in_reasoning == parts.summary.in_reasoning);
    done(&whole);
    done(&parts);
    phx_output_types_destroy(types);
    return 0;
}
