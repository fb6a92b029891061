/* coordinator/text/output_parser.c - a state machine over the text that is not yet given out.
 * Every state either consumes some of `pending` or waits for more; what is consumed is given out at once,
 * except inside a block of calls, where `pending` keeps the raw text since the last complete call. */
#include "coordinator/text/output_parser.h"

#include <assert.h>

#include "base/alloc.h"
#include "coordinator/text/pyjson.h"

#define SLICE_BYTES   65536u /* a piece is worked off in slices, so that pending stays bounded */
#define VALUE_DEPTH   60u    /* leaves room for the levels around it when a client sends the call back */
#define VALUE_NODES   100000u
#define LEAD_NEWLINES 2u /* in front of a block, part of it */

typedef enum state {
    IN_REASONING,
    IN_CONTENT,
    IN_BLOCK,  /* between calls */
    IN_INVOKE, /* between parameters */
    IN_VALUE,
    IN_RAW /* after a deviation */
} state;

typedef enum verdict { GO_ON, NEED_MORE, DEVIATES } verdict;

/* Offsets into pending. */
typedef struct span {
    size_t at;
    size_t n;
} span;

typedef struct param {
    span key;
    span value;
    bool is_str;
} param;

struct phx_output_parser {
    phx_output_options options;
    phx_buf pending;
    phx_buf scratch;
    state state;
    size_t scan; /* bytes of pending that are understood; only inside a block */
    span name;
    param *params; /* [PHX_OUTPUT_PARAMS_MAX] once a call was seen */
    size_t n_params;
    uint32_t n_block_calls;
    phx_output_summary summary;
};

static phx_code feed_slice(phx_output_parser *p, phx_str slice, phx_error *err);
static verdict step(phx_output_parser *p);
static verdict step_reasoning(phx_output_parser *p);
static verdict step_content(phx_output_parser *p);
static verdict step_block(phx_output_parser *p);
static verdict step_invoke(phx_output_parser *p);
static verdict step_value(phx_output_parser *p);
static void give_text(phx_output_parser *p, phx_output_kind kind, size_t n);
static verdict give_call(phx_output_parser *p);
static void give_rest_raw(phx_output_parser *p);

phx_code phx_output_parser_create(const phx_output_options *options, phx_output_parser **ret_parser,
                                  phx_error *err)
{
    phx_output_parser *p = phx_alloc(1, sizeof(*p));
    if (!p)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "an output parser");
    p->options = *options;
    p->state = options->in_reasoning ? IN_REASONING : IN_CONTENT;
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
    else if (p->state == IN_CONTENT)
        give_text(p, PHX_OUTPUT_CONTENT, p->pending.n);
    else if (p->state != IN_RAW)
        give_rest_raw(p);
    return p->summary;
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

static verdict step(phx_output_parser *p)
{
    verdict v = NEED_MORE;
    switch (p->state) {
    case IN_REASONING:
        return step_reasoning(p);
    case IN_CONTENT:
        return step_content(p);
    case IN_RAW:
        give_text(p, PHX_OUTPUT_CONTENT, p->pending.n);
        return NEED_MORE;
    case IN_BLOCK:
        v = step_block(p);
        break;
    case IN_INVOKE:
        v = step_invoke(p);
        break;
    case IN_VALUE:
        v = step_value(p);
        break;
    }
    /* The same texts are too long whether they come in one piece or byte by byte: only consumed bytes count,
     * or all of them when none of them ends anything. */
    const size_t n = v == NEED_MORE ? p->pending.n : p->scan;
    return n > PHX_OUTPUT_CALL_BYTES_MAX ? DEVIATES : v;
}

/* ---- text outside of calls
 * --------------------------------------------------------------------------------- */

/* Offset of the mark at or after from, or SIZE_MAX. */
static size_t find_mark(const phx_buf *pending, size_t from, const char *mark)
{
    const char *found = memmem(pending->ptr + from, pending->n - from, mark, strlen(mark));
    return found ? (size_t)(found - pending->ptr) : SIZE_MAX;
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

static size_t lead_newlines(const phx_buf *pending, size_t end)
{
    size_t n = 0;
    while (n < LEAD_NEWLINES && n < end && pending->ptr[end - 1 - n] == '\n')
        n++;
    return n;
}

static verdict step_reasoning(phx_output_parser *p)
{
    const char *mark = p->options.syntax->think_end;
    if (p->pending.n == 0)
        return NEED_MORE;
    const size_t at = find_mark(&p->pending, 0, mark);
    if (at == SIZE_MAX) {
        give_text(p, PHX_OUTPUT_REASONING, p->pending.n - partial_mark(&p->pending, mark));
        return NEED_MORE;
    }
    give_text(p, PHX_OUTPUT_REASONING, at);
    phx_buf_drop_front(&p->pending, strlen(mark));
    p->state = IN_CONTENT;
    return GO_ON;
}

static verdict step_content(phx_output_parser *p)
{
    const char *mark = p->options.syntax->block_open;
    if (p->pending.n == 0)
        return NEED_MORE;
    if (!p->options.parse_calls) {
        give_text(p, PHX_OUTPUT_CONTENT, p->pending.n);
        return NEED_MORE;
    }
    const size_t at = find_mark(&p->pending, 0, mark);
    if (at == SIZE_MAX) {
        const size_t end = p->pending.n - partial_mark(&p->pending, mark);
        give_text(p, PHX_OUTPUT_CONTENT, end - lead_newlines(&p->pending, end));
        return NEED_MORE;
    }
    const size_t n_lead = lead_newlines(&p->pending, at);
    give_text(p, PHX_OUTPUT_CONTENT, at - n_lead);
    p->scan = n_lead + strlen(mark);
    p->n_block_calls = 0;
    p->state = IN_BLOCK;
    return GO_ON;
}

/* ---- inside a block
 * ---------------------------------------------------------------------------------------- */

/* Does the mark stand at *at? Moves *at behind it when it does. */
static verdict expect(const phx_output_parser *p, size_t *at, const char *mark)
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

static void skip_space(phx_output_parser *p)
{
    while (p->scan < p->pending.n && strchr(" \t\r\n", p->pending.ptr[p->scan]) && p->pending.ptr[p->scan])
        p->scan++;
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

static phx_str text_of(const phx_output_parser *p, span where)
{
    return (phx_str){p->pending.ptr + where.at, where.n};
}

static verdict step_block(phx_output_parser *p)
{
    const phx_output_syntax *syntax = p->options.syntax;
    skip_space(p);
    size_t at = p->scan;
    verdict v = expect(p, &at, syntax->block_close);
    if (v == GO_ON && (p->n_block_calls == 0 || at > PHX_OUTPUT_CALL_BYTES_MAX))
        return DEVIATES;
    if (v == GO_ON) {
        phx_buf_drop_front(&p->pending, at);
        p->scan = 0;
        p->state = IN_CONTENT;
        return GO_ON;
    }
    const verdict open = expect(p, &at, syntax->invoke_open);
    if (open != GO_ON)
        return v == NEED_MORE ? v : open;
    span name;
    v = read_quoted(p, &at, PHX_CHAT_NAME_BYTES_MAX, &name);
    if (v == GO_ON)
        v = expect(p, &at, "\">");
    if (v != GO_ON)
        return v;
    if (!phx_chat_name_valid(text_of(p, name)))
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
        v = expect(p, &at, "\" string=\"");
    if (v != GO_ON)
        return v;
    size_t end = at;
    bool is_str = true;
    v = expect(p, &end, "true\">");
    if (v == DEVIATES) {
        is_str = false;
        v = expect(p, &end, "false\">");
    }
    if (v != GO_ON)
        return v;
    if (p->n_params == PHX_OUTPUT_PARAMS_MAX)
        return DEVIATES;
    p->params[p->n_params++] = (param){.key = key, .value = {end, 0}, .is_str = is_str};
    p->scan = end;
    p->state = IN_VALUE;
    return GO_ON;
}

static verdict step_invoke(phx_output_parser *p)
{
    const phx_output_syntax *syntax = p->options.syntax;
    skip_space(p);
    size_t at = p->scan;
    verdict v = expect(p, &at, syntax->invoke_close);
    if (v == GO_ON) {
        p->scan = at;
        return at > PHX_OUTPUT_CALL_BYTES_MAX ? DEVIATES : give_call(p);
    }
    const verdict open = expect(p, &at, syntax->param_open);
    if (open == GO_ON)
        return read_param(p, at);
    return v == NEED_MORE ? v : open;
}

static verdict step_value(phx_output_parser *p)
{
    const char *mark = p->options.syntax->param_close;
    param *last = &p->params[p->n_params - 1];
    const size_t at = find_mark(&p->pending, p->scan, mark);
    if (at == SIZE_MAX) {
        const size_t n_keep = partial_mark(&p->pending, mark);
        if (p->pending.n - n_keep > p->scan)
            p->scan = p->pending.n - n_keep;
        return NEED_MORE;
    }
    last->value.n = at - last->value.at;
    p->scan = at + strlen(mark);
    p->state = IN_INVOKE;
    return GO_ON;
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
            if (phx_str_eq(text_of(p, p->params[i].key), text_of(p, p->params[j].key)))
                return true;
    return false;
}

static phx_str trimmed(phx_str text)
{
    while (text.n && strchr(" \t\r\n", text.ptr[0]) && text.ptr[0])
        text = (phx_str){text.ptr + 1, text.n - 1};
    while (text.n && strchr(" \t\r\n", text.ptr[text.n - 1]) && text.ptr[text.n - 1])
        text.n--;
    return text;
}

static bool is_json(phx_str text)
{
    phx_json *root = NULL;
    const phx_json_limits limits = {PHX_OUTPUT_CALL_BYTES_MAX, VALUE_DEPTH, VALUE_NODES, VALUE_NODES};
    const phx_code rc = phx_json_parse((phx_bytes){(const uint8_t *)text.ptr, text.n}, limits, &root, NULL);
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

/* A value that should be JSON but is not becomes a string: the model's words reach the tool in any case. */
static void give_value(phx_output_parser *p, const param *value)
{
    const phx_str text = text_of(p, value->value);
    const phx_str json = trimmed(text);
    if (value->is_str || !is_json(json)) {
        give_string(p, text);
        return;
    }
    give_delta(p);
    give(p, (phx_output_event){.kind = PHX_OUTPUT_CALL_DELTA, .text = json, .call_idx = p->summary.n_calls});
}

static verdict give_call(phx_output_parser *p)
{
    const uint32_t call_idx = p->summary.n_calls;
    if (has_twins(p))
        return DEVIATES;
    give(p, (phx_output_event){
                .kind = PHX_OUTPUT_CALL_BEGIN, .name = text_of(p, p->name), .call_idx = call_idx});
    (void)phx_buf_char(&p->scratch, '{');
    for (size_t i = 0; i < p->n_params; i++) {
        if (i)
            (void)phx_buf_str(&p->scratch, ", ");
        (void)phx_pyjson_str(&p->scratch, text_of(p, p->params[i].key));
        (void)phx_buf_str(&p->scratch, ": ");
        give_value(p, &p->params[i]);
        give_delta(p);
    }
    (void)phx_buf_char(&p->scratch, '}');
    give_delta(p);
    if (p->scratch.code != PHX_OK)
        return NEED_MORE; /* the feed fails; no call may look complete */
    give(p, (phx_output_event){.kind = PHX_OUTPUT_CALL_END, .call_idx = call_idx});
    p->summary.n_calls++;
    p->n_block_calls++;
    phx_buf_drop_front(&p->pending, p->scan);
    p->scan = 0;
    p->state = IN_BLOCK;
    return GO_ON;
}
