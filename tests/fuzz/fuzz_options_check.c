/* tests/fuzz/fuzz_options_check.c - see the header. */
#include "tests/fuzz/fuzz_options_check.h"

#include "model/synth.h"
#include "model/request_options.h"
#include "tests/fuzz/fuzz.h"

#define ARGS_MAX (PHX_OPTION_COUNT + 2)

static void value_of(const phx_options *options, phx_option option, phx_buf *buf)
{
    phx_buf_clear(buf);
    (void)phx_buf_str(buf, "");
    phx_options_value(options, option, buf);
    FUZZ_CHECK(buf->code == PHX_OK);
}

static void check_equal(const phx_options *a, const phx_options *b)
{
    phx_buf x;
    phx_buf y;
    phx_buf_init(&x, PHX_OPTION_TEXT_BYTES);
    phx_buf_init(&y, PHX_OPTION_TEXT_BYTES);
    for (int option = 0; option < PHX_OPTION_COUNT; option++) {
        value_of(a, (phx_option)option, &x);
        value_of(b, (phx_option)option, &y);
        FUZZ_CHECK(phx_str_eq(phx_buf_view(&x), phx_buf_view(&y)));
    }
    phx_buf_done(&x);
    phx_buf_done(&y);
}

static void check_values(const phx_options *options)
{
    phx_options again;
    phx_error err = {0};
    phx_buf text;
    phx_options_init(&again);
    phx_buf_init(&text, PHX_OPTION_TEXT_BYTES);
    for (int option = 0; option < PHX_OPTION_COUNT; option++) {
        value_of(options, (phx_option)option, &text);
        fuzz_must(phx_options_set(&again, (phx_option)option, phx_buf_view(&text), PHX_OPTION_ARGS, &err),
                  &err);
    }
    check_equal(options, &again);
    phx_buf_done(&text);
}

static void check_child(const phx_options *options)
{
    char *argv[ARGS_MAX] = {(char *)(uintptr_t) "child"};
    int argc = 1;
    const phx_args_spec spec = {.usage = "child", .about = "", .scopes = PHX_OPTIONS_ALL};
    phx_args args;
    phx_options again;
    phx_error err = {0};
    phx_buf text;
    phx_options_init(&again);
    phx_buf_init(&text, ARGS_MAX * PHX_OPTION_TEXT_BYTES);
    phx_options_write_args(options, PHX_OPTIONS_ALL, &text);
    FUZZ_CHECK(text.code == PHX_OK);
    for (size_t at = 0; at < text.n; at += strlen(text.ptr + at) + 1) {
        FUZZ_CHECK(argc < (int)ARGS_MAX);
        argv[argc++] = text.ptr + at;
    }
    fuzz_must(phx_options_parse_args(&again, argc, argv, &spec, &args, &err), &err);
    check_equal(options, &again);
    phx_buf_done(&text);
}

static void check_request(const phx_options *options)
{
    const phx_preset *preset = phx_preset_find(phx_str_of("deepseek-v3.2"));
    phx_plan_request request;
    phx_error err = {0};
    FUZZ_CHECK(preset != NULL);
    const phx_code rc = phx_plan_request_from_options(options, &preset->dims, &request, &err);
    if (rc != PHX_OK) {
        fuzz_check_refusal(rc, &err);
        return;
    }
    fuzz_must(phx_layout_check(&request.layout, &preset->dims, &err), &err);
    FUZZ_CHECK(phx_layout_n_ranks(&request.layout) <= PHX_RANKS_MAX);
}

void fuzz_check_options(const phx_options *options)
{
    check_values(options);
    check_child(options);
    check_request(options);
}
