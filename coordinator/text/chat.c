/* coordinator/text/chat.c - prompts in segments, and the table of chat formats. */
#include "coordinator/text/chat.h"

#include <stdio.h>

#include "base/alloc.h"
#include "coordinator/text/chat_deepseek_v32.h"
#include "coordinator/text/chat_template.h"
#include "coordinator/text/pyjson.h"

/* One row per format; the first row that fits a checkpoint is its format. */
static const phx_chat_format formats[] = {
    {"deepseek-v3.2",
     phx_deepseek_v32_lacks,
     phx_deepseek_v32_render,
     &phx_deepseek_v32_syntax,
     {NULL},
     .uses_template = false},
    {"glm",
     phx_glm_lacks,
     phx_template_render,
     &phx_glm_syntax,
     {"<|endoftext|>", "<|user|>", "<|observation|>"},
     .uses_template = true},
    {"kimi",
     phx_kimi_lacks,
     phx_kimi_render,
     &phx_kimi_syntax,
     {"<|im_end|>", "[EOS]"},
     .uses_template = true,
     .numbers_calls = true},
    {"template", phx_template_lacks, phx_template_render, &phx_plain_syntax, {NULL}, .uses_template = true},
};

#define N_FORMATS (sizeof(formats) / sizeof(formats[0]))

static void mark_segment(phx_chat_prompt *prompt, size_t offset, bool is_control);

phx_code phx_chat_format_find(const phx_chat_probe *probe, const phx_chat_format **ret_format, phx_error *err)
{
    char reasons[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < N_FORMATS; i++) {
        const char *reason = formats[i].lacks(probe);
        if (!reason) {
            *ret_format = &formats[i];
            return PHX_OK;
        }
        const int n = snprintf(reasons + used, sizeof(reasons) - used, "%snot %s: %s", i ? "; " : "",
                               formats[i].name, reason);
        if (n > 0 && (size_t)n < sizeof(reasons) - used)
            used += (size_t)n;
    }
    return PHX_FAIL(err, PHX_ERR_UNSUPPORTED,
                    "completions work; chat format of family '%.*s' unknown because %s",
                    PHX_STR_ARG(probe->family), reasons);
}

const phx_chat_format *phx_chat_format_named(phx_str name)
{
    for (size_t i = 0; i < N_FORMATS; i++)
        if (phx_str_is(name, formats[i].name))
            return &formats[i];
    return NULL;
}

phx_code phx_chat_render(const phx_chat_format *format, const phx_chat *chat, const phx_chat_options *options,
                         phx_chat_prompt *prompt, phx_error *err)
{
    phx_code rc = format->render(chat, options, prompt, err);
    if (rc == PHX_OK && prompt->text.code == PHX_ERR_TOO_LONG)
        rc = PHX_FAIL(err, PHX_ERR_TOO_LONG,
                      "messages: the prompt is longer than %u bytes or its JSON too deep",
                      PHX_CHAT_PROMPT_MAX);
    else if (rc == PHX_OK && prompt->text.code != PHX_OK)
        rc = PHX_FAIL(err, prompt->text.code, "prompt of %zu bytes", prompt->text.n);
    return rc;
}

bool phx_chat_name_valid(phx_str name)
{
    bool ok = name.n > 0 && name.n <= PHX_CHAT_NAME_BYTES_MAX;
    for (size_t i = 0; ok && i < name.n; i++) {
        const char c = name.ptr[i];
        ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
             (c && strchr("_-.:/", c));
    }
    return ok;
}

void phx_chat_prompt_init(phx_chat_prompt *prompt)
{
    *prompt = (phx_chat_prompt){0};
    phx_buf_init(&prompt->text, PHX_CHAT_PROMPT_MAX);
}

void phx_chat_prompt_done(phx_chat_prompt *prompt)
{
    phx_buf_done(&prompt->text);
    phx_free(prompt->segments);
    prompt->segments = NULL;
    prompt->n_segments = prompt->cap = 0;
}

phx_str phx_chat_prompt_view(const phx_chat_prompt *prompt)
{
    return phx_buf_view(&prompt->text);
}

phx_str phx_chat_prompt_segment(const phx_chat_prompt *prompt, size_t idx)
{
    const phx_chat_segment *segment = &prompt->segments[idx];
    return (phx_str){prompt->text.ptr + segment->offset, segment->n};
}

void phx_chat_prompt_control(phx_chat_prompt *prompt, const char *text)
{
    const size_t offset = prompt->text.n;
    (void)phx_buf_str(&prompt->text, text);
    mark_segment(prompt, offset, true);
}

void phx_chat_prompt_data(phx_chat_prompt *prompt, phx_str text)
{
    phx_chat_prompt_put(prompt, text, false);
}

void phx_chat_prompt_put(phx_chat_prompt *prompt, phx_str text, bool is_control)
{
    const size_t offset = prompt->text.n;
    (void)phx_buf_append(&prompt->text, text.ptr, text.n);
    mark_segment(prompt, offset, is_control);
}

void phx_chat_prompt_json(phx_chat_prompt *prompt, const phx_json *node)
{
    const size_t offset = prompt->text.n;
    (void)phx_pyjson_node(&prompt->text, node);
    mark_segment(prompt, offset, false);
}

/* Gives the bytes from offset to the end their kind, growing the last segment when it is of the same kind. */
static void mark_segment(phx_chat_prompt *prompt, size_t offset, bool is_control)
{
    const size_t n = prompt->text.n - offset;
    if (n == 0 || prompt->text.code != PHX_OK)
        return;
    if (prompt->n_segments && prompt->segments[prompt->n_segments - 1].is_control == is_control) {
        prompt->segments[prompt->n_segments - 1].n += n;
        return;
    }
    if (prompt->n_segments == prompt->cap) {
        const size_t cap = prompt->cap ? prompt->cap * 2 : 64;
        phx_chat_segment *grown = phx_realloc(prompt->segments, cap, sizeof(*grown));
        if (!grown) {
            prompt->text.code = PHX_ERR_NOMEM;
            return;
        }
        prompt->segments = grown;
        prompt->cap = cap;
    }
    prompt->segments[prompt->n_segments++] = (phx_chat_segment){offset, n, is_control};
}
