/* coordinator/text/output_glm.c - GLM's calls: <tool_call>NAME, then
 * <arg_key>K</arg_key><arg_value>V</arg_value> pairs, then </tool_call>; white space between the parts means
 * nothing, inside a value it is kept. A value is a string unless the tool's schema says otherwise
 * (output_types.h). */
#include "coordinator/text/output_impl.h"

static bool is_name_end(char c)
{
    return c == '<' || c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static verdict read_name(phx_output_parser *p)
{
    phx_output_skip_space(p);
    size_t end = p->scan;
    while (end < p->pending.n && !is_name_end(p->pending.ptr[end]))
        end++;
    if (end - p->scan > PHX_CHAT_NAME_BYTES_MAX)
        return DEVIATES;
    if (end == p->pending.n)
        return NEED_MORE;
    p->name = (span){p->scan, end - p->scan};
    if (!phx_chat_name_valid(phx_output_text(p, p->name)))
        return DEVIATES;
    p->n_params = 0;
    p->scan = end;
    p->state = IN_INVOKE;
    return GO_ON;
}

/* The next pair up to its value, or the end of the call. */
static verdict read_pair(phx_output_parser *p)
{
    const phx_output_syntax *syntax = p->options.syntax;
    span key = {0, 0};
    size_t at = 0;
    bool is_closed = false;
    verdict v = phx_output_close_or(p, syntax->param_open, &at, &is_closed);
    const size_t first = p->scan;
    if (v != GO_ON)
        return v;
    p->scan = at;
    if (is_closed) {
        v = at > PHX_OUTPUT_CALL_BYTES_MAX ? DEVIATES : phx_output_give_call(p);
        if (v == GO_ON) { /* each call is a block of its own */
            p->state = IN_CONTENT;
            p->drops_space = true;
        }
        return v;
    }
    v = phx_output_until(p, "</arg_key>", PHX_OUTPUT_KEY_BYTES_MAX, &key);
    if (v == GO_ON) {
        phx_output_skip_space(p);
        at = p->scan;
        v = phx_output_expect(p, &at, "<arg_value>");
    }
    if (v == GO_ON)
        return phx_output_add_param(p, key, at);
    if (v == NEED_MORE)
        p->scan = first; /* read again from the pair's start when there is more */
    return v;
}

static verdict read_value(phx_output_parser *p)
{
    param *last = &p->params[p->n_params - 1];
    size_t end = 0;
    const verdict v = phx_output_close(p, p->options.syntax->param_close, &end);
    if (v != GO_ON)
        return v;
    last->value.n = end - last->value.at;
    last->form = phx_output_types_form(p->options.types, phx_output_text(p, p->name),
                                       phx_output_text(p, last->key), phx_output_text(p, last->value));
    p->state = IN_INVOKE;
    return GO_ON;
}

verdict phx_output_glm_step(phx_output_parser *p)
{
    return p->state == IN_BLOCK ? read_name(p) : p->state == IN_INVOKE ? read_pair(p) : read_value(p);
}
