/* tests/text/chat_cases.c - see chat_cases.h. */
#include "tests/text/chat_cases.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/file.h"

bool chat_case_read(const char *name, bool from_shared, phx_buf *ret_text)
{
    char path[512];
    const char *root = getenv(from_shared ? "PHX_SHARED" : "PHX_SOURCE");
    if (from_shared)
        (void)snprintf(path, sizeof(path), "%s/%s", root ? root : "../shared", name);
    else
        (void)snprintf(path, sizeof(path), "%s/tests/data/chat/%s", root ? root : ".", name);
    phx_buf_init(ret_text, 64u << 20);
    if (phx_file_read(path, ret_text, NULL) == PHX_OK)
        return true;
    phx_buf_done(ret_text);
    return false;
}

phx_json *chat_case_json(phx_str text)
{
    phx_json *root = NULL;
    phx_error err = {0};
    const phx_bytes bytes = {(const uint8_t *)text.ptr, text.n};
    if (phx_json_parse(bytes, PHX_JSON_LIMITS_REQUEST, &root, &err) != PHX_OK)
        fail_msg("%s", err.text);
    return root;
}

phx_code chat_case_render(const phx_json *request, const phx_chat_options *options, phx_chat_prompt *prompt,
                          phx_error *err)
{
    phx_chat *chat = NULL;
    const phx_chat_request nodes = {
        .messages = phx_json_get(request, "messages"),
        .tools = phx_json_get(request, "tools"),
        .tool_choice = phx_json_get(request, "tool_choice"),
    };
    phx_code rc = phx_chat_build(&nodes, &chat, err);
    if (rc == PHX_OK)
        rc = phx_chat_render(phx_chat_format_named(phx_str_of("deepseek-v3.2")), chat, options, prompt, err);
    phx_chat_destroy(chat);
    return rc;
}

void chat_case_equal(const char *what, phx_str got, phx_str expected)
{
    size_t at = 0;
    if (phx_str_eq(got, expected))
        return;
    while (at < got.n && at < expected.n && got.ptr[at] == expected.ptr[at])
        at++;
    const size_t from = at > 60 ? at - 60 : 0;
    fail_msg("%s: %zu bytes, expected %zu, differ at %zu: got '%.*s', expected '%.*s'", what, got.n,
             expected.n, at, (int)(got.n - from > 160 ? 160 : got.n - from), got.ptr + from,
             (int)(expected.n - from > 160 ? 160 : expected.n - from), expected.ptr + from);
}

void chat_case_check_segments(const phx_chat_prompt *prompt)
{
    size_t end = 0;
    for (size_t i = 0; i < prompt->n_segments; i++) {
        assert_int_equal(prompt->segments[i].offset, end);
        assert_true(prompt->segments[i].n > 0);
        if (i)
            assert_true(prompt->segments[i].is_control != prompt->segments[i - 1].is_control);
        end += prompt->segments[i].n;
    }
    assert_int_equal(end, prompt->text.n);
}
