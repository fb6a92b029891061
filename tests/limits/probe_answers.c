/* tests/limits/probe_answers.c - what a model writes: its tool calls. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "coordinator/text/output_parser.h"
#include "tests/limits/maker.h"
#include "tests/limits/probes.h"

#define OPEN   "<｜DSML｜function_calls>"
#define CLOSE  "</｜DSML｜function_calls>"
#define INVOKE "<｜DSML｜invoke name=\""
#define PARAM  "<｜DSML｜parameter name=\""
#define END_P  "</｜DSML｜parameter>"
#define END_I  "</｜DSML｜invoke>"

static void on_event(void *ctx, const phx_output_event *event)
{
    (void)ctx;
    (void)event;
}

static bool takes_call(phx_buf *text)
{
    const phx_chat_format *format = phx_chat_format_named(phx_str_of("deepseek-v3.2"));
    assert_non_null(format);
    const phx_output_options options = {.syntax = format->syntax, .parse_calls = true, .sink = on_event};
    phx_output_parser *parser = NULL;
    assert_int_equal(phx_output_parser_create(&options, &parser, NULL), PHX_OK);
    assert_int_equal(phx_output_parser_feed(parser, phx_buf_view(text), NULL), PHX_OK);
    const phx_output_summary summary = phx_output_parser_finish(parser);
    phx_output_parser_destroy(parser);
    phx_buf_done(text);
    assert_int_equal(summary.malformed, summary.n_calls == 0);
    return summary.n_calls == 1;
}

/* The call with what precedes it in its block. */
bool takes_PHX_OUTPUT_CALL_BYTES_MAX(size_t n)
{
    phx_buf text;
    make_start(&text, OPEN INVOKE "f\">" PARAM "k\" string=\"true\">");
    make_fill(&text, 'x', n - text.n - sizeof(END_P END_I) + 1);
    (void)phx_buf_str(&text, END_P END_I CLOSE);
    return takes_call(&text);
}

bool takes_PHX_OUTPUT_PARAMS_MAX(size_t n)
{
    phx_buf text;
    make_start(&text, OPEN INVOKE "f\">");
    for (size_t i = 0; i < n; i++)
        (void)phx_buf_printf(&text, PARAM "k%zu\" string=\"false\">%zu" END_P, i, i);
    (void)phx_buf_str(&text, END_I CLOSE);
    return takes_call(&text);
}

bool takes_PHX_OUTPUT_KEY_BYTES_MAX(size_t n)
{
    phx_buf text;
    make_start(&text, OPEN INVOKE "f\">" PARAM);
    make_fill(&text, 'k', n);
    (void)phx_buf_str(&text, "\" string=\"true\">x" END_P END_I CLOSE);
    return takes_call(&text);
}
