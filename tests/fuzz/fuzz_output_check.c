/* tests/fuzz/fuzz_output_check.c - see fuzz_output_check.h. */
#include "tests/fuzz/fuzz_output_check.h"

#define LOG_BYTES_MAX (64u << 20)

/* Everything that came out, runs of one kind joined. */
typedef struct record {
    phx_buf log;
    phx_buf arguments; /* of the call that is open */
    size_t n_text;     /* bytes of reasoning and content */
    int last_kind;
    uint32_t n_calls;
    bool is_open;
    phx_output_summary summary;
} record;

static void on_event(void *ctx, const phx_output_event *event)
{
    static const char *const marks[] = {"[R]", "[C]", "[CALL]", "", "[END]"};
    record *r = ctx;
    const bool is_text = event->kind == PHX_OUTPUT_REASONING || event->kind == PHX_OUTPUT_CONTENT;
    FUZZ_CHECK(r->is_open == (event->kind == PHX_OUTPUT_CALL_DELTA || event->kind == PHX_OUTPUT_CALL_END));
    FUZZ_CHECK(event->kind != PHX_OUTPUT_REASONING || r->last_kind == -1 ||
               r->last_kind == PHX_OUTPUT_REASONING);
    FUZZ_CHECK(is_text || event->call_idx == r->n_calls);
    if ((int)event->kind != r->last_kind || !is_text)
        (void)phx_buf_str(&r->log, marks[event->kind]);
    r->last_kind = (int)event->kind;
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
        FUZZ_CHECK(event->text.n > 0); /* no event is empty */
        (void)phx_buf_append(&r->log, event->text.ptr, event->text.n);
        if (is_text)
            r->n_text += event->text.n;
        else
            (void)phx_buf_append(&r->arguments, event->text.ptr, event->text.n);
    }
}

static void run(phx_output_options options, phx_str text, fuzz_cuts *cuts, record *r)
{
    phx_output_parser *parser = NULL;
    phx_error err = {0};
    options.sink = on_event;
    options.ctx = r;
    *r = (record){.last_kind = -1};
    phx_buf_init(&r->log, LOG_BYTES_MAX);
    phx_buf_init(&r->arguments, LOG_BYTES_MAX);
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

void fuzz_check_output(const char *format, const phx_output_types *types, uint8_t bits, fuzz_tape *tape)
{
    const phx_output_options options = {.syntax = phx_chat_format_named(phx_str_of(format))->syntax,
                                        .in_reasoning = bits & 1,
                                        .parse_calls = bits & 2,
                                        .types = types};
    fuzz_cuts cuts = {fuzz_u8(tape), 0};
    const phx_str text = fuzz_str(fuzz_rest(tape));
    record whole;
    record parts;
    if (!phx_utf8_valid(text.ptr, text.n))
        return; /* the detokenizer gives valid text only */
    run(options, text, NULL, &whole);
    run(options, text, &cuts, &parts);
    FUZZ_CHECK(phx_str_eq(phx_buf_view(&whole.log), phx_buf_view(&parts.log)));
    FUZZ_CHECK(whole.summary.malformed == parts.summary.malformed);
    FUZZ_CHECK(whole.summary.in_reasoning == parts.summary.in_reasoning);
    if (!types && !(bits & 3)) /* plain: nothing is taken away */
        FUZZ_CHECK(text.n == 0 ||
                   (whole.log.n == text.n + 3 && memcmp(whole.log.ptr + 3, text.ptr, text.n) == 0));
    done(&whole);
    done(&parts);
}
