/* coordinator/text/output_parser.h - reasoning, content and tool calls out of the text that a model
 * generates. Owns: the state between pieces, the bytes held back because they may start a mark, the counts
 * for the finish reason. Not here: detokenising, stop strings, ids of calls (the API makes them), OpenAI's
 * JSON. */
#ifndef PHX_COORDINATOR_TEXT_OUTPUT_PARSER_H
#define PHX_COORDINATOR_TEXT_OUTPUT_PARSER_H

#include "coordinator/text/chat.h"
#include "coordinator/text/output_types.h"

typedef enum phx_output_kind {
    PHX_OUTPUT_REASONING,  /* text: more reasoning */
    PHX_OUTPUT_CONTENT,    /* text: more of the answer */
    PHX_OUTPUT_CALL_BEGIN, /* call_idx, name */
    PHX_OUTPUT_CALL_DELTA, /* call_idx, text: more of the arguments */
    PHX_OUTPUT_CALL_END    /* call_idx */
} phx_output_kind;

/* Texts live until the sink returns. The arguments of one call, joined, are one JSON object. No event is
 * empty, and none splits a character unless a piece that was fed did. */
typedef struct phx_output_event {
    phx_output_kind kind;
    phx_str text;
    phx_str name;
    uint32_t call_idx; /* 0, 1, ... over the whole answer */
} phx_output_event;

typedef void (*phx_output_sink)(void *ctx, const phx_output_event *event);

typedef struct phx_output_options {
    const phx_output_syntax *syntax; /* of the chat format */
    bool in_reasoning;               /* phx_chat_prompt.in_reasoning */
    const phx_output_types *types; /* of the tools' parameters, where the syntax leaves open what is a string;
                                      NULL: all are. Outlives the parser */
    bool parse_calls; /* phx_chat.tool_choice is auto; otherwise calls are content like any text */
    phx_output_sink sink;
    void *ctx;
} phx_output_options;

typedef struct phx_output_summary {
    uint32_t n_calls; /* complete ones */
    bool malformed; /* a call did not follow the syntax or was cut off: its raw text was given out as content
                     */
    bool in_reasoning; /* the reasoning never ended */
} phx_output_summary;

typedef struct phx_output_parser phx_output_parser;

phx_code phx_output_parser_create(const phx_output_options *options, phx_output_parser **ret_parser,
                                  phx_error *err);
void phx_output_parser_destroy(phx_output_parser *parser); /* accepts NULL */

/* Feeds the next piece of text, however it was cut: the joined events depend on the joined text only. A call
 * is given out when it is complete, so that no client acts on half of one; from the first deviation on
 * everything is content. PHX_ERR_NOMEM is the only failure. */
phx_code phx_output_parser_feed(phx_output_parser *parser, phx_str piece, phx_error *err);

/* Gives out what was held back. Nothing may be fed afterwards. */
phx_output_summary phx_output_parser_finish(phx_output_parser *parser);

#endif
