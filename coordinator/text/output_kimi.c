/* coordinator/text/output_kimi.c - Kimi's calls: a section of
 * <|tool_call_begin|>ID<|tool_call_argument_begin|>JSON
 * <|tool_call_end|>, where ID is functions.NAME:NUMBER. White space between the parts means nothing. */
#include "coordinator/text/output_impl.h"

#define PREFIX       "functions."
#define ID_BYTES_MAX (PHX_CHAT_NAME_BYTES_MAX + 32u)

/* The name inside an id: without what stands before and behind it, which models sometimes leave out. */
static span name_in(const phx_output_parser *p, span id)
{
    phx_str text = phx_output_text(p, id);
    const phx_str trimmed = phx_output_trimmed(text);
    span name = {id.at + (size_t)(trimmed.ptr - text.ptr), trimmed.n};
    text = trimmed;
    if (phx_str_starts(text, phx_str_of(PREFIX))) {
        name.at += sizeof(PREFIX) - 1;
        name.n -= sizeof(PREFIX) - 1;
    }
    text = phx_output_text(p, name);
    size_t n = text.n;
    while (n > 0 && text.ptr[n - 1] >= '0' && text.ptr[n - 1] <= '9')
        n--;
    if (n < text.n && n > 0 && text.ptr[n - 1] == ':')
        name.n = n - 1;
    return name;
}

/* Between calls: the next one's header, or the end of the section. */
static verdict read_header(phx_output_parser *p)
{
    const phx_output_syntax *syntax = p->options.syntax;
    span id = {0, 0};
    size_t at = 0;
    bool is_closed = false;
    verdict v = phx_output_close_or(p, syntax->invoke_open, &at, &is_closed);
    const size_t first = p->scan;
    if (v != GO_ON)
        return v;
    if (is_closed && (p->n_block_calls == 0 || at > PHX_OUTPUT_CALL_BYTES_MAX))
        return DEVIATES;
    if (is_closed) {
        phx_buf_drop_front(&p->pending, at);
        p->scan = 0;
        p->drops_space = true;
        p->state = IN_CONTENT;
        return GO_ON;
    }
    p->scan = at;
    v = phx_output_until(p, syntax->param_open, ID_BYTES_MAX, &id);
    if (v == NEED_MORE)
        p->scan = first;
    if (v != GO_ON)
        return v;
    p->name = name_in(p, id);
    if (!phx_chat_name_valid(phx_output_text(p, p->name)))
        return DEVIATES;
    p->n_params = 0;
    return phx_output_add_param(p, id, p->scan);
}

/* JSON text as it stands; an empty one means no arguments. */
static verdict read_arguments(phx_output_parser *p)
{
    param *last = &p->params[0];
    phx_json_kind kind = PHX_JSON_NULL;
    size_t end = 0;
    const verdict v = phx_output_close(p, p->options.syntax->invoke_close, &end);
    if (v != GO_ON)
        return v;
    last->value.n = end - last->value.at;
    const phx_str arguments = phx_output_trimmed(phx_output_text(p, last->value));
    if (p->scan > PHX_OUTPUT_CALL_BYTES_MAX)
        return DEVIATES;
    if (arguments.n == 0)
        return phx_output_give_json_call(p, phx_str_of("{}"));
    if (!phx_output_is_json(arguments, &kind) || kind != PHX_JSON_OBJECT)
        return DEVIATES;
    return phx_output_give_json_call(p, arguments);
}

verdict phx_output_kimi_step(phx_output_parser *p)
{
    return p->state == IN_BLOCK ? read_header(p) : read_arguments(p);
}
