/* coordinator/text/output_parser.c - a state machine over the text that is not yet given out.
 * Every state either consumes some of `pending` or waits for more; what is consumed is given out at once,
 * except inside a block of calls, where `pending` keeps the raw text since the last complete call. */
#include "coordinator/text/output_parser.h"

#include <assert.h>

#include "base/alloc.h"
#include "coordinator/text/output_impl.h"
#include "coordinator/text/pyjson.h"

static phx_code feed_slice(phx_output_parser *p, phx_str slice, phx_error *err);
static verdict step(phx_output_parser *p);
static verdict step_start(phx_output_parser *p);
static verdict step_reasoning(phx_output_parser *p);
static verdict step_content(phx_output_parser *p);
static verdict step_block(phx_output_parser *p);
static verdict step_invoke(phx_output_parser *p);
static verdict step_value(phx_output_parser *p);
static void give_text(phx_output_parser *p, phx_output_kind kind, size_t n);
static void give_rest_raw(phx_output_parser *p);
static void give_rest(phx_output_parser *p);
static bool is_over(const phx_output_parser *p);
static bool is_blank(char c);

phx_code phx_output_parser_create(const phx_output_options *options, phx_output_parser **ret_parser,
                                  phx_error *err)
{
    phx_output_parser *p = phx_alloc(1, sizeof(*p));
    if (!p)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "an output parser");
    p->options = *options;
    p->state = options->in_reasoning ? IN_REASONING : options->syntax->think_open ? AT_START : IN_CONTENT;
    p->drops_space = options->syntax->trims;
    phx_buf_init(&p->pending, PHX_OUTPUT_CALL_BYTES_MAX + 2 * SLICE_BYTES);
    phx_buf_init(&p->scratch, 8 * SLICE_BYTES);
    *ret_parser = p;
    return PHX_OK;
}

void phx_output_parser_destroy(phx_output_parser *p)
{
    if (!p)
        return;
    phx_buf_done(&p->pending);
    phx_buf_done(&p->scratch);
    phx_free(p->params);
    phx_free(p);
}

phx_code phx_output_parser_feed(phx_output_parser *p, phx_str piece, phx_error *err)
{
    phx_code rc = PHX_OK;
    for (size_t at = 0; rc == PHX_OK && at < piece.n;) {
        const size_t n = piece.n - at < SLICE_BYTES ? piece.n - at : SLICE_BYTES;
        rc = feed_slice(p, (phx_str){piece.ptr + at, n}, err);
        at += n;
    }
    return rc;
}

phx_output_summary phx_output_parser_finish(phx_output_parser *p)
{
    p->summary.in_reasoning = p->state == IN_REASONING;
    if (p->state == IN_REASONING)
        give_text(p, PHX_OUTPUT_REASONING, p->pending.n);
    else if (p->state == AT_START || p->state == IN_CONTENT)
        give_rest(p);
    else if (p->state != IN_RAW && !is_over(p))
        give_rest_raw(p);
    return p->summary;
}

/* What was held back as content at the end. */
static void give_rest(phx_output_parser *p)
{
    if (p->drops_space && phx_output_trimmed(phx_buf_view(&p->pending)).n == 0)
        return;
    while (p->drops_space && p->pending.n && is_blank(p->pending.ptr[0]))
        phx_buf_drop_front(&p->pending, 1);
    give_text(p, PHX_OUTPUT_CONTENT, p->pending.n);
}

/* Kimi may end behind its last call without closing the section. */
static bool is_over(const phx_output_parser *p)
{
    return p->options.syntax->dialect == PHX_DIALECT_KIMI && p->state == IN_BLOCK && p->n_block_calls > 0 &&
           phx_output_trimmed(phx_buf_view(&p->pending)).n == 0;
}

static phx_code feed_slice(phx_output_parser *p, phx_str slice, phx_error *err)
{
    if (phx_buf_append(&p->pending, slice.ptr, slice.n) != PHX_OK)
        return PHX_FAIL(err, p->pending.code, "output parser: %zu bytes pending", p->pending.n);
    if (!p->params && p->options.parse_calls) {
        p->params = phx_alloc(PHX_OUTPUT_PARAMS_MAX, sizeof(*p->params));
        if (!p->params)
            return PHX_FAIL(err, PHX_ERR_NOMEM, "output parser: parameters of a call");
    }
    verdict v = GO_ON;
    while (v == GO_ON)
        v = step(p);
    if (p->scratch.code != PHX_OK)
        return PHX_FAIL(err, p->scratch.code, "output parser: arguments of a call");
    if (v == DEVIATES)
        give_rest_raw(p);
    return PHX_OK;
}

static verdict step_call(phx_output_parser *p)
{
    if (p->options.syntax->dialect == PHX_DIALECT_GLM)
        return phx_output_glm_step(p);
    if (p->options.syntax->dialect == PHX_DIALECT_KIMI)
        return phx_output_kimi_step(p);
    return p->state == IN_BLOCK ? step_block(p) : p->state == IN_INVOKE ? step_invoke(p) : step_value(p);
}

static verdict step(phx_output_parser *p)
{
    verdict v = NEED_MORE;
    switch (p->state) {
    case AT_START:
        return step_start(p);
    case IN_REASONING:
        return step_reasoning(p);
    case IN_CONTENT:
        return step_content(p);
    case IN_RAW:
        give_text(p, PHX_OUTPUT_CONTENT, p->pending.n);
        return NEED_MORE;
    case IN_BLOCK:
    case IN_INVOKE:
    case IN_VALUE:
        v = step_call(p);
        break;
    }
    /* The same texts are too long whether they come in one piece or byte by byte: only consumed bytes count,
     * or all of them when none of them ends anything. */
    const size_t n = v == NEED_MORE ? p->pending.n : p->scan;
    return n > PHX_OUTPUT_CALL_BYTES_MAX ? DEVIATES : v;
}

/* ---- text outside of calls
 * --------------------------------------------------------------------------------- */

size_t phx_output_find(const phx_output_parser *p, size_t from, const char *mark)
{
    const char *found = memmem(p->pending.ptr + from, p->pending.n - from, mark, strlen(mark));
    return found ? (size_t)(found - p->pending.ptr) : SIZE_MAX;
}

/* How many bytes at the end may be the start of the mark. */
static size_t partial_mark(const phx_buf *pending, const char *mark)
{
    const size_t n_mark = strlen(mark);
    size_t n = pending->n < n_mark - 1 ? pending->n : n_mark - 1;
    while (n > 0 && memcmp(pending->ptr + pending->n - n, mark, n) != 0)
        n--;
    return n;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* White space in front of a block that belongs to it. */
static size_t lead_space(const phx_output_parser *p, size_t end)
{
    const bool trims = p->options.syntax->trims;
    const size_t n_max = trims ? LEAD_BYTES : LEAD_NEWLINES;
    size_t n = 0;
    while (n < n_max && n < end &&
           (trims ? is_blank(p->pending.ptr[end - 1 - n]) : p->pending.ptr[end - 1 - n] == '\n'))
        n++;
    return n;
}

static size_t max_of(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* White space, then perhaps the mark that opens reasoning. */
static verdict step_start(phx_output_parser *p)
{
    size_t at = 0;
    while (at < p->pending.n && is_blank(p->pending.ptr[at]) && at < LEAD_BYTES)
        at++;
    const verdict v = phx_output_expect(p, &at, p->options.syntax->think_open);
    if (v == NEED_MORE)
        return NEED_MORE;
    if (v == GO_ON)
        phx_buf_drop_front(&p->pending, at);
    p->state = v == GO_ON ? IN_REASONING : IN_CONTENT;
    return GO_ON;
}

static verdict step_reasoning(phx_output_parser *p)
{
    const phx_output_syntax *syntax = p->options.syntax;
    const char *mark = syntax->think_end;
    if (p->pending.n == 0)
        return NEED_MORE;
    const bool calls_end = syntax->calls_end_reasoning && p->options.parse_calls;
    const size_t at = phx_output_find(p, 0, mark);
    const size_t call = calls_end ? phx_output_find(p, 0, syntax->block_open) : SIZE_MAX;
    if (at == SIZE_MAX && call == SIZE_MAX) {
        const size_t n_held = max_of(partial_mark(&p->pending, mark),
                                     calls_end ? partial_mark(&p->pending, syntax->block_open) : 0);
        give_text(p, PHX_OUTPUT_REASONING, p->pending.n - n_held);
        return NEED_MORE;
    }
    give_text(p, PHX_OUTPUT_REASONING, at < call ? at : call);
    if (at < call)
        phx_buf_drop_front(&p->pending, strlen(mark));
    p->drops_space = syntax->trims;
    p->state = IN_CONTENT;
    return GO_ON;
}

static verdict step_content(phx_output_parser *p)
{
    const char *mark = p->options.syntax->block_open;
    size_t n_blank = 0;
    while (p->drops_space && n_blank < p->pending.n && is_blank(p->pending.ptr[n_blank]))
        n_blank++;
    if (n_blank)
        phx_buf_drop_front(&p->pending, n_blank);
    if (p->pending.n == 0)
        return NEED_MORE;
    p->drops_space = false;
    if (!p->options.parse_calls || !mark) {
        give_text(p, PHX_OUTPUT_CONTENT, p->pending.n);
        return NEED_MORE;
    }
    const size_t at = phx_output_find(p, 0, mark);
    if (at == SIZE_MAX) {
        const size_t end = p->pending.n - partial_mark(&p->pending, mark);
        give_text(p, PHX_OUTPUT_CONTENT, end - lead_space(p, end));
        return NEED_MORE;
    }
    const size_t n_lead = lead_space(p, at);
    give_text(p, PHX_OUTPUT_CONTENT, at - n_lead);
    p->scan = n_lead + strlen(mark);
    p->n_block_calls = 0;
    p->state = IN_BLOCK;
    return GO_ON;
}

/* ---- inside a block
 * ---------------------------------------------------------------------------------------- */

verdict phx_output_expect(const phx_output_parser *p, size_t *at, const char *mark)
{
    const size_t n_mark = strlen(mark), n_have = p->pending.n - *at;
    const size_t n = n_have < n_mark ? n_have : n_mark;
    if (memcmp(p->pending.ptr + *at, mark, n) != 0)
        return DEVIATES;
    if (n < n_mark)
        return NEED_MORE;
    *at += n_mark;
    return GO_ON;
}

void phx_output_skip_space(phx_output_parser *p)
{
    while (p->scan < p->pending.n && strchr(" \t\r\n", p->pending.ptr[p->scan]) && p->pending.ptr[p->scan])
        p->scan++;
}

verdict phx_output_close_or(phx_output_parser *p, const char *mark, size_t *ret_at, bool *ret_closed)
{
    phx_output_skip_space(p);
    *ret_at = p->scan;
    const verdict close = phx_output_expect(p, ret_at, p->options.syntax->block_close);
    *ret_closed = close == GO_ON;
    if (*ret_closed)
        return GO_ON;
    const verdict open = phx_output_expect(p, ret_at, mark);
    return open != GO_ON && close == NEED_MORE ? NEED_MORE : open;
}

/* The text up to the next quote, at most n_max bytes on one line and not empty. */
static verdict read_quoted(const phx_output_parser *p, size_t *at, size_t n_max, span *text)
{
    size_t end = *at;
    while (end < p->pending.n && p->pending.ptr[end] != '"') {
        if (p->pending.ptr[end] == '\n' || end - *at >= n_max)
            return DEVIATES;
        end++;
    }
    if (end == p->pending.n)
        return NEED_MORE;
    if (end == *at)
        return DEVIATES;
    *text = (span){*at, end - *at};
    *at = end;
    return GO_ON;
}

phx_str phx_output_text(const phx_output_parser *p, span where)
{
    return (phx_str){p->pending.ptr + where.at, where.n};
}

static verdict step_block(phx_output_parser *p)
{
    const phx_output_syntax *syntax = p->options.syntax;
    phx_output_skip_space(p);
    size_t at = p->scan;
    verdict v = phx_output_expect(p, &at, syntax->block_close);
    if (v == GO_ON && (p->n_block_calls == 0 || at > PHX_OUTPUT_CALL_BYTES_MAX))
        return DEVIATES;
    if (v == GO_ON) {
        phx_buf_drop_front(&p->pending, at);
        p->scan = 0;
        p->state = IN_CONTENT;
        return GO_ON;
    }
    const verdict open = phx_output_expect(p, &at, syntax->invoke_open);
    if (open != GO_ON)
        return v == NEED_MORE ? v : open;
    span name;
    v = read_quoted(p, &at, PHX_CHAT_NAME_BYTES_MAX, &name);
    if (v == GO_ON)
        v = phx_output_expect(p, &at, "\">");
    if (v != GO_ON)
        return v;
    if (!phx_chat_name_valid(phx_output_text(p, name)))
        return DEVIATES;
    p->name = name;
    p->n_params = 0;
    p->scan = at;
    p->state = IN_INVOKE;
    return GO_ON;
}

static verdict read_param(phx_output_parser *p, size_t at)
{
    span key;
    verdict v = read_quoted(p, &at, PHX_OUTPUT_KEY_BYTES_MAX, &key);
    if (v == GO_ON)
        v = phx_output_expect(p, &at, "\" string=\"");
    if (v != GO_ON)
        return v;
    size_t end = at;
    bool is_str = true;
    v = phx_output_expect(p, &end, "true\">");
    if (v == DEVIATES) {
        is_str = false;
        v = phx_output_expect(p, &end, "false\">");
    }
    if (v != GO_ON)
        return v;
    v = phx_output_add_param(p, key, end);
    if (v == GO_ON)
        p->params[p->n_params - 1].form = is_str ? PHX_OUTPUT_STRING : PHX_OUTPUT_JSON;
    return v;
}

static verdict step_invoke(phx_output_parser *p)
{
    const phx_output_syntax *syntax = p->options.syntax;
    phx_output_skip_space(p);
    size_t at = p->scan;
    verdict v = phx_output_expect(p, &at, syntax->invoke_close);
    if (v == GO_ON) {
        p->scan = at;
        return at > PHX_OUTPUT_CALL_BYTES_MAX ? DEVIATES : phx_output_give_call(p);
    }
    const verdict open = phx_output_expect(p, &at, syntax->param_open);
    if (open == GO_ON)
        return read_param(p, at);
    return v == NEED_MORE ? v : open;
}

verdict phx_output_close(phx_output_parser *p, const char *mark, size_t *ret_end)
{
    const size_t at = phx_output_find(p, p->scan, mark);
    if (at == SIZE_MAX) {
        const size_t n_keep = partial_mark(&p->pending, mark);
        if (p->pending.n - n_keep > p->scan)
            p->scan = p->pending.n - n_keep;
        return NEED_MORE;
    }
    *ret_end = at;
    p->scan = at + strlen(mark);
    return GO_ON;
}

verdict phx_output_until(phx_output_parser *p, const char *mark, size_t n_max, span *ret_text)
{
    const size_t at = phx_output_find(p, p->scan, mark);
    if (at == SIZE_MAX)
        return p->pending.n - partial_mark(&p->pending, mark) > p->scan + n_max ? DEVIATES : NEED_MORE;
    if (at == p->scan || at - p->scan > n_max)
        return DEVIATES;
    *ret_text = (span){p->scan, at - p->scan};
    p->scan = at + strlen(mark);
    return GO_ON;
}

verdict phx_output_add_param(phx_output_parser *p, span key, size_t value_at)
{
    if (p->n_params == PHX_OUTPUT_PARAMS_MAX)
        return DEVIATES;
    p->params[p->n_params++] = (param){.key = key, .value = {value_at, 0}};
    p->scan = value_at;
    p->state = IN_VALUE;
    return GO_ON;
}

static verdict step_value(phx_output_parser *p)
{
    param *last = &p->params[p->n_params - 1];
    size_t end = 0;
    const verdict v = phx_output_close(p, p->options.syntax->param_close, &end);
    if (v == GO_ON) {
        last->value.n = end - last->value.at;
        p->state = IN_INVOKE;
    }
    return v;
}

/* ---- giving out
 * -------------------------------------------------------------------------------------------- */

static void give(phx_output_parser *p, phx_output_event event)
{
    p->options.sink(p->options.ctx, &event);
}

static void give_text(phx_output_parser *p, phx_output_kind kind, size_t n)
{
    if (n == 0)
        return;
    give(p, (phx_output_event){.kind = kind, .text = {p->pending.ptr, n}});
    phx_buf_drop_front(&p->pending, n);
}

static void give_rest_raw(phx_output_parser *p)
{
    give_text(p, PHX_OUTPUT_CONTENT, p->pending.n);
    p->summary.malformed = true;
    p->state = IN_RAW;
    p->scan = 0;
}

static bool has_twins(const phx_output_parser *p)
{
    for (size_t i = 1; i < p->n_params; i++)
        for (size_t j = 0; j < i; j++)
            if (phx_str_eq(phx_output_text(p, p->params[i].key), phx_output_text(p, p->params[j].key)))
                return true;
    return false;
}

phx_str phx_output_trimmed(phx_str text)
{
    while (text.n && strchr(" \t\r\n", text.ptr[0]) && text.ptr[0])
        text = (phx_str){text.ptr + 1, text.n - 1};
    while (text.n && strchr(" \t\r\n", text.ptr[text.n - 1]) && text.ptr[text.n - 1])
        text.n--;
    return text;
}

bool phx_output_is_json(phx_str text, phx_json_kind *ret_kind)
{
    phx_json *root = NULL;
    const phx_json_limits limits = {PHX_OUTPUT_CALL_BYTES_MAX, VALUE_DEPTH, VALUE_NODES, VALUE_NODES};
    const phx_bytes bytes = {(const uint8_t *)text.ptr, text.n};
    const phx_code rc = phx_json_parse_loose(bytes, limits, &root, NULL);
    if (rc == PHX_OK && ret_kind)
        *ret_kind = phx_json_kind_of(root);
    phx_json_destroy(root);
    return rc == PHX_OK;
}

static void give_delta(phx_output_parser *p)
{
    if (p->scratch.n && p->scratch.code == PHX_OK)
        give(p, (phx_output_event){.kind = PHX_OUTPUT_CALL_DELTA,
                                   .text = phx_buf_view(&p->scratch),
                                   .call_idx = p->summary.n_calls});
    if (p->scratch.code == PHX_OK)
        phx_buf_clear(&p->scratch);
}

/* A string in slices that end between characters, so that escaping a long one needs little memory. */
static void give_string(phx_output_parser *p, phx_str value)
{
    (void)phx_buf_char(&p->scratch, '"');
    while (value.n) {
        size_t n = value.n < SLICE_BYTES ? value.n : SLICE_BYTES;
        while (n < value.n && n > SLICE_BYTES - 4 && ((unsigned char)value.ptr[n] & 0xC0) == 0x80)
            n--;
        (void)phx_pyjson_str_body(&p->scratch, (phx_str){value.ptr, n});
        value = (phx_str){value.ptr + n, value.n - n};
        if (value.n)
            give_delta(p);
    }
    (void)phx_buf_char(&p->scratch, '"');
}

static void give_json(phx_output_parser *p, phx_str json)
{
    give(p, (phx_output_event){.kind = PHX_OUTPUT_CALL_DELTA, .text = json, .call_idx = p->summary.n_calls});
}

/* Known to be one (output_types.c): only memory can fail. */
static void give_python(phx_output_parser *p, phx_str literal)
{
    phx_buf json;
    phx_buf_init(&json, 2 * literal.n + 1);
    if (phx_output_python_json(literal, &json)) {
        give_delta(p);
        give_json(p, phx_buf_view(&json));
    } else {
        p->scratch.code = json.code;
    }
    phx_buf_done(&json);
}

/* A value that should be JSON but is not becomes a string: the model's words reach the tool in any case. */
static void give_value(phx_output_parser *p, const param *value)
{
    const phx_str text = phx_output_text(p, value->value);
    const phx_str json = phx_output_trimmed(text);
    if (value->form == PHX_OUTPUT_PYTHON) {
        give_python(p, json);
    } else if (value->form == PHX_OUTPUT_STRING || !phx_output_is_json(json, NULL)) {
        give_string(p, text);
    } else {
        give_delta(p);
        give_json(p, json);
    }
}

static void begin_call(phx_output_parser *p)
{
    give(p, (phx_output_event){.kind = PHX_OUTPUT_CALL_BEGIN,
                               .name = phx_output_text(p, p->name),
                               .call_idx = p->summary.n_calls});
}

static verdict end_call(phx_output_parser *p)
{
    if (p->scratch.code != PHX_OK)
        return NEED_MORE; /* the feed fails; no call may look complete */
    give(p, (phx_output_event){.kind = PHX_OUTPUT_CALL_END, .call_idx = p->summary.n_calls});
    p->summary.n_calls++;
    p->n_block_calls++;
    phx_buf_drop_front(&p->pending, p->scan);
    p->scan = 0;
    p->state = IN_BLOCK;
    return GO_ON;
}

verdict phx_output_give_call(phx_output_parser *p)
{
    if (has_twins(p))
        return DEVIATES;
    begin_call(p);
    (void)phx_buf_char(&p->scratch, '{');
    for (size_t i = 0; i < p->n_params; i++) {
        if (i)
            (void)phx_buf_str(&p->scratch, ", ");
        (void)phx_pyjson_str(&p->scratch, phx_output_text(p, p->params[i].key));
        (void)phx_buf_str(&p->scratch, ": ");
        give_value(p, &p->params[i]);
        give_delta(p);
    }
    (void)phx_buf_char(&p->scratch, '}');
    give_delta(p);
    return end_call(p);
}

verdict phx_output_give_json_call(phx_output_parser *p, phx_str arguments)
{
    begin_call(p);
    give_json(p, arguments);
    return end_call(p);
}
