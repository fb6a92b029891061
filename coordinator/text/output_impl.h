/* coordinator/text/output_impl.h - the state of an output parser, for the files output_*.c only. */
#ifndef PHX_COORDINATOR_TEXT_OUTPUT_IMPL_H
#define PHX_COORDINATOR_TEXT_OUTPUT_IMPL_H

#include "coordinator/text/output_parser.h"

#define SLICE_BYTES   65536u /* a piece is worked off in slices, so that pending stays bounded */
#define VALUE_DEPTH   60u    /* leaves room for the levels around it when a client sends the call back */
#define VALUE_NODES   100000u
#define LEAD_NEWLINES 2u   /* in front of a block, part of it */
#define LEAD_BYTES    256u /* of white space, where a syntax trims */

typedef enum state {
    AT_START, /* only white space so far, and perhaps the opening of reasoning */
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
    phx_output_form form;
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
    bool drops_space; /* white space at the front of the content is left out */
    phx_output_summary summary;
};

/* ---- shared by the dialects (output_parser.c) ---- */

/* Offset of the mark at or after from, or SIZE_MAX. */
size_t phx_output_find(const phx_output_parser *p, size_t from, const char *mark);

/* Does the mark stand at *at? Moves *at behind it when it does. */
verdict phx_output_expect(const phx_output_parser *p, size_t *at, const char *mark);
void phx_output_skip_space(phx_output_parser *p); /* moves scan */

/* Behind white space: the end of the block (*ret_closed), or this mark? *ret_at is behind whichever it is,
 * scan before it. */
verdict phx_output_close_or(phx_output_parser *p, const char *mark, size_t *ret_at, bool *ret_closed);
phx_str phx_output_text(const phx_output_parser *p, span where);

/* The text from scan up to the mark, at most n_max bytes and not less than one; moves scan behind the mark.
 */
verdict phx_output_until(phx_output_parser *p, const char *mark, size_t n_max, span *ret_text);

/* Moves scan, which stands in an open text, as far as no part of the mark can begin; GO_ON: behind the mark,
 * and *ret_end is where it begins. */
verdict phx_output_close(phx_output_parser *p, const char *mark, size_t *ret_end);
verdict phx_output_add_param(phx_output_parser *p, span key, size_t value_at);
/* As phx_json_parse_loose reads it: what passes goes on as it is written. kind may be NULL. */
bool phx_output_is_json(phx_str text, phx_json_kind *ret_kind);
phx_str phx_output_trimmed(phx_str text);

/* Gives out the call whose name and params were read, up to scan. */
verdict phx_output_give_call(phx_output_parser *p);
/* The same with its arguments as JSON text. */
verdict phx_output_give_json_call(phx_output_parser *p, phx_str arguments);

/* A literal as Python writes it, as JSON text (output_python.c). False, with leavings in the buffer: it is
 * none that has one JSON form, or out of memory. True does not say that it is JSON. At most twice as long. */
bool phx_output_python_json(phx_str text, phx_buf *to);

/* ---- dialects: a step in each state of a block ---- */

verdict phx_output_glm_step(phx_output_parser *p);
verdict phx_output_kimi_step(phx_output_parser *p);

#endif
