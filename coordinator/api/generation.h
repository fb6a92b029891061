/* coordinator/api/generation.h - one generation as text: the n choices of one prompt, from token ids to
 * deltas. Owns: detokenising, stop strings, splitting reasoning and tool calls, usage, cancelling. HTTP and
 * the control service both stand on it, so both give the same text. Not here: JSON of either side. */
#ifndef PHX_COORDINATOR_API_GENERATION_H
#define PHX_COORDINATOR_API_GENERATION_H

#include "coordinator/api/model_text.h"
#include "coordinator/engine.h"
#include "coordinator/text/output_parser.h"

typedef struct phx_generation phx_generation;

typedef struct phx_generation_params {
    const uint32_t *prompt; /* token ids, copied */
    uint32_t n_prompt;
    uint32_t n_choices;    /* 1 .. 8 */
    uint32_t n_output_max; /* 0: to the end of the context */
    phx_sampling sampling; /* choice is set per choice */
    uint32_t n_stop_ids;
    uint32_t stop_ids[PHX_STOP_IDS_MAX];
    const phx_str *stops; /* stop strings */
    size_t n_stops;
    bool ignore_eos;
    bool plain;        /* completions: no reasoning, no tool calls */
    bool in_reasoning; /* the prompt ended inside a reasoning block */
    bool parse_calls;
    const phx_output_types *types; /* of the tools' parameters, copied; or NULL */
    uint64_t cache_salt;
    uint64_t deadline_us; /* absolute; 0: none */
    uint32_t capture;     /* then one choice, plain */
    uint32_t n_warm;
    uint32_t n_chunk;
} phx_generation_params;

typedef enum phx_delta_kind {
    PHX_DELTA_TOKEN,  /* one per sampled token that is part of the answer, before the text it completes */
    PHX_DELTA_OUTPUT, /* reasoning, content or a piece of a tool call */
    PHX_DELTA_CAPTURE,
    PHX_DELTA_END /* the choice is finished; all ends: the generation is dead after this call returns */
} phx_delta_kind;

typedef enum phx_finish {
    PHX_FINISH_STOP,
    PHX_FINISH_LENGTH,
    PHX_FINISH_TOOL_CALLS,
    PHX_FINISH_CANCELLED,
    PHX_FINISH_ERROR
} phx_finish;
const char *phx_finish_name(phx_finish finish); /* "stop", "length", "tool_calls", "cancelled", "error" */

typedef struct phx_delta {
    phx_delta_kind kind;
    uint32_t choice;
    /* TOKEN */
    uint32_t token;
    phx_str token_bytes; /* raw bytes of the token, for logprobs */
    float logprob;
    uint32_t n_top;
    const phx_token_logprob *top;
    /* OUTPUT */
    const phx_output_event *output;
    /* CAPTURE */
    const Phalanx__CapturePart *capture;
    /* END of this choice */
    phx_finish finish;
    bool malformed_calls; /* raw text of a broken call was given out as content */
    const phx_error *why; /* FINISH_ERROR, and deadline */
    bool last;            /* all choices have ended; usage below is complete */
    uint32_t n_prompt;
    uint32_t n_cached;
    uint32_t n_output; /* sum over choices */
} phx_delta;

typedef void phx_generation_sink(void *user, const phx_delta *delta);

/* Starts. Nothing is called before the return. On success the generation lives until the last END has been
 * delivered, or phx_generation_abandon. */
phx_code phx_generation_start(phx_engine *engine, const phx_model_text *text,
                              const phx_generation_params *params, phx_generation_sink *sink, void *user,
                              phx_generation **ret_generation, phx_error *err);

void phx_generation_cancel(phx_generation *generation);  /* END events follow */
void phx_generation_abandon(phx_generation *generation); /* frees; nothing is called any more. Accepts NULL */
void phx_generation_grant(phx_generation *generation, uint32_t n_parts);

#endif
