/* coordinator/api/generation.c - see generation.h.
 * Each choice is a request of its own to the engine; its tokens go detokeniser -> stop strings -> output
 * parser. A sink may cancel or abandon from inside its call, so a generation is freed only when no call of
 * it is on the stack. */
#include "coordinator/api/generation.h"

#include <assert.h>
#include <stdio.h>

#include "base/alloc.h"
#include "coordinator/text/detokenize.h"
#include "proto/limits.h"

#define PIECE_BYTES_MAX (4u << 20) /* text of one token, with what a stop string held back */

typedef struct choice {
    phx_generation *generation;
    uint32_t idx;
    uint64_t id; /* of the engine */
    bool is_alive;
    bool is_stopped;   /* a stop string matched: tokens that still arrive are not part of the answer */
    uint32_t n_tokens; /* of the answer, end token included; drafts that held may go on behind it */
    phx_error failed;  /* our own failure, which then is the reason of the end */
    phx_detokenizer detokenizer;
    phx_stop_matcher *matcher;
    phx_output_parser *parser; /* NULL: plain */
    phx_buf piece;             /* out of the detokeniser */
    phx_buf passed;            /* out of the stop matcher */
} choice;

struct phx_generation {
    phx_engine *engine;
    const phx_model_text *text;
    phx_generation_sink *sink;
    void *user;
    phx_output_types *types;
    uint32_t n_choices;
    uint32_t n_alive;
    uint32_t n_prompt;
    uint32_t n_cached;
    uint32_t n_output;
    uint32_t depth; /* calls of on_event and on_capture on the stack */
    bool is_abandoned;
    choice choices[PHX_CHOICES_MAX];
};

static phx_code init_choice(phx_generation *g, uint32_t idx, const phx_generation_params *params,
                            phx_error *err);
static phx_code submit_choice(choice *c, const phx_generation_params *params, phx_error *err);
static void free_generation(phx_generation *g);
static void on_event(void *user, const phx_sched_event *event, const phx_error *why);
static void on_capture(void *user, const Phalanx__CapturePart *part);
static void on_output(void *ctx, const phx_output_event *event);
static void take_token(choice *c, const phx_sched_event *event);
static void take_end(choice *c, const phx_sched_event *event, const phx_error *why);
static void pass_text(choice *c);
static void give(phx_generation *g, const phx_delta *delta);
static void leave(phx_generation *g);

const char *phx_finish_name(phx_finish finish)
{
    static const char *const names[] = {"stop", "length", "tool_calls", "cancelled", "error"};
    assert(finish <= PHX_FINISH_ERROR);
    return names[finish];
}

phx_code phx_generation_start(phx_engine *engine, const phx_model_text *text,
                              const phx_generation_params *params, phx_generation_sink *sink, void *user,
                              phx_generation **ret_generation, phx_error *err)
{
    phx_code rc = PHX_OK;
    assert(params->n_choices >= 1 && params->n_choices <= PHX_CHOICES_MAX);
    assert(params->capture == 0 || (params->n_choices == 1 && params->plain));
    phx_generation *g = phx_alloc(1, sizeof(*g));
    if (!g) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "a generation");
        goto out;
    }
    g->engine = engine;
    g->text = text;
    g->sink = sink;
    g->user = user;
    g->n_choices = params->n_choices;
    rc = phx_output_types_copy(params->types, &g->types, err);
    for (uint32_t i = 0; rc == PHX_OK && i < g->n_choices; i++)
        rc = init_choice(g, i, params, err);
    for (uint32_t i = 0; rc == PHX_OK && i < g->n_choices; i++)
        rc = submit_choice(&g->choices[i], params, err);
    if (rc != PHX_OK)
        goto out;
    *ret_generation = g;
    g = NULL;
out:
    phx_generation_abandon(g);
    return rc;
}

void phx_generation_cancel(phx_generation *generation)
{
    for (uint32_t i = 0; i < generation->n_choices; i++) {
        if (generation->choices[i].is_alive)
            phx_engine_cancel(generation->engine, generation->choices[i].id, PHX_END_CANCELLED);
    }
}

void phx_generation_abandon(phx_generation *generation)
{
    if (!generation || generation->is_abandoned)
        return;
    generation->is_abandoned = true;
    for (uint32_t i = 0; i < generation->n_choices; i++) {
        choice *c = &generation->choices[i];
        if (c->is_alive)
            phx_engine_abandon(generation->engine, c->id);
        c->is_alive = false;
    }
    if (generation->depth == 0)
        free_generation(generation);
}

void phx_generation_grant(phx_generation *generation, uint32_t n_parts)
{
    if (generation->choices[0].is_alive)
        phx_engine_grant(generation->engine, generation->choices[0].id, n_parts);
}

/* ---------------------------------------------------------------- starting */

static phx_code init_choice(phx_generation *g, uint32_t idx, const phx_generation_params *params,
                            phx_error *err)
{
    choice *c = &g->choices[idx];
    c->generation = g;
    c->idx = idx;
    phx_buf_init(&c->piece, PIECE_BYTES_MAX);
    phx_buf_init(&c->passed, PIECE_BYTES_MAX);
    phx_detokenizer_init(&c->detokenizer, g->text->tokenizer, true);
    phx_code rc = phx_stop_matcher_create(params->stops, params->n_stops, false, &c->matcher, err);
    if (rc != PHX_OK || params->plain || !g->text->chat)
        return rc;
    return phx_output_parser_create(&(phx_output_options){.syntax = g->text->chat->syntax,
                                                          .in_reasoning = params->in_reasoning,
                                                          .parse_calls = params->parse_calls,
                                                          .types = g->types,
                                                          .sink = on_output,
                                                          .ctx = c},
                                    &c->parser, err);
}

static phx_code submit_choice(choice *c, const phx_generation_params *params, phx_error *err)
{
    const uint32_t n_context = c->generation->text->n_context;
    const uint32_t n_left = params->n_prompt < n_context ? n_context - params->n_prompt : 1;
    phx_sched_request request = {
        .prompt = params->prompt,
        .n_prompt = params->n_prompt,
        .n_output_max = params->capture        ? 0
                        : params->n_output_max ? params->n_output_max
                                               : n_left,
        .sampling = params->sampling,
        .n_stop_ids = params->n_stop_ids,
        .ignore_eos = params->ignore_eos,
        .cache_salt = params->cache_salt,
        .no_reuse = params->capture != 0 && params->n_warm == 0,
        .n_warm = params->n_warm,
        .capture = params->capture,
        .n_chunk = params->n_chunk,
        .deadline_us = params->deadline_us,
    };
    assert(params->n_stop_ids <= PHX_STOP_IDS_MAX);
    for (uint32_t i = 0; i < params->n_stop_ids; i++)
        request.stop_ids[i] = params->stop_ids[i];
    request.sampling.choice = c->idx;
    const phx_engine_sink sink = {
        .event = on_event, .capture = params->capture ? on_capture : NULL, .user = c};
    const phx_code rc = phx_engine_submit(c->generation->engine, &request, &sink, &c->id, err);
    if (rc != PHX_OK)
        return rc;
    c->is_alive = true;
    c->generation->n_alive++;
    return PHX_OK;
}

static void free_generation(phx_generation *g)
{
    for (uint32_t i = 0; i < g->n_choices; i++) {
        phx_stop_matcher_destroy(g->choices[i].matcher);
        phx_output_parser_destroy(g->choices[i].parser);
        phx_buf_done(&g->choices[i].piece);
        phx_buf_done(&g->choices[i].passed);
    }
    phx_output_types_destroy(g->types);
    phx_free(g);
}

/* ---------------------------------------------------------------- events of the engine */

static void on_event(void *user, const phx_sched_event *event, const phx_error *why)
{
    choice *c = user;
    phx_generation *g = c->generation;
    g->depth++;
    if (event->kind == PHX_EVENT_TOKEN)
        take_token(c, event);
    else
        take_end(c, event, why);
    leave(g);
}

static void on_capture(void *user, const Phalanx__CapturePart *part)
{
    const choice *c = user;
    phx_generation *g = c->generation;
    g->depth++;
    give(g, &(phx_delta){.kind = PHX_DELTA_CAPTURE, .choice = c->idx, .capture = part});
    leave(g);
}

static void leave(phx_generation *g)
{
    g->depth--;
    if (g->depth == 0 && (g->is_abandoned || g->n_alive == 0))
        free_generation(g);
}

static void give(phx_generation *g, const phx_delta *delta)
{
    if (!g->is_abandoned)
        g->sink(g->user, delta);
}

static void take_token(choice *c, const phx_sched_event *event)
{
    if (c->is_stopped || c->failed.code != PHX_OK)
        return;
    c->n_tokens++;
    if (event->is_end_token)
        return;
    phx_str bytes = {"", 0};
    if (c->generation->text->tokenizer)
        (void)phx_tokenizer_piece(c->generation->text->tokenizer, event->token, &bytes);
    give(c->generation, &(phx_delta){.kind = PHX_DELTA_TOKEN,
                                     .choice = c->idx,
                                     .token = event->token,
                                     .token_bytes = bytes,
                                     .logprob = event->logprob,
                                     .n_top = event->n_top,
                                     .top = event->top});
    if (!c->generation->text->tokenizer)
        return;
    phx_buf_clear(&c->piece);
    if (phx_detokenizer_feed(&c->detokenizer, event->token, &c->piece) != PHX_OK)
        (void)PHX_FAIL(&c->failed, c->piece.code, "text of a token");
    pass_text(c);
    if (c->is_alive && (c->is_stopped || c->failed.code != PHX_OK))
        phx_engine_cancel(c->generation->engine, c->id, PHX_END_STOP);
}

/* What lies in piece goes through the stop strings and on. */
static void pass_text(choice *c)
{
    if (c->failed.code != PHX_OK || c->generation->is_abandoned)
        return;
    phx_buf_clear(&c->passed);
    if (phx_stop_matcher_feed(c->matcher, phx_buf_view(&c->piece), &c->passed) != PHX_OK)
        (void)PHX_FAIL(&c->failed, c->passed.code, "text held back for a stop string");
    c->is_stopped = phx_stop_matcher_match(c->matcher) != PHX_STOP_NONE;
    if (c->passed.n == 0)
        return;
    if (c->parser)
        (void)phx_output_parser_feed(c->parser, phx_buf_view(&c->passed), &c->failed);
    else
        on_output(c, &(phx_output_event){.kind = PHX_OUTPUT_CONTENT, .text = phx_buf_view(&c->passed)});
}

static void on_output(void *ctx, const phx_output_event *event)
{
    const choice *c = ctx;
    give(c->generation, &(phx_delta){.kind = PHX_DELTA_OUTPUT, .choice = c->idx, .output = event});
}

/* Gives out what was held back at every station. */
static phx_output_summary flush_choice(choice *c)
{
    if (c->generation->text->tokenizer && !c->is_stopped && c->failed.code == PHX_OK) {
        phx_buf_clear(&c->piece);
        if (phx_detokenizer_flush(&c->detokenizer, &c->piece) != PHX_OK)
            (void)PHX_FAIL(&c->failed, c->piece.code, "text of a token");
        pass_text(c);
        phx_buf_clear(&c->piece);
        if (c->failed.code == PHX_OK && phx_stop_matcher_flush(c->matcher, &c->piece) != PHX_OK)
            (void)PHX_FAIL(&c->failed, c->piece.code, "text held back for a stop string");
        if (c->failed.code == PHX_OK && c->piece.n > 0 && c->parser)
            (void)phx_output_parser_feed(c->parser, phx_buf_view(&c->piece), &c->failed);
        else if (c->failed.code == PHX_OK && c->piece.n > 0)
            on_output(c, &(phx_output_event){.kind = PHX_OUTPUT_CONTENT, .text = phx_buf_view(&c->piece)});
    }
    return c->parser ? phx_output_parser_finish(c->parser) : (phx_output_summary){0};
}

/* A length or cancelled end stays what it is although calls came before it: the answer is cut. */
static phx_finish finish_of(const choice *c, phx_end_reason reason, const phx_output_summary *summary)
{
    if (c->failed.code != PHX_OK)
        return PHX_FINISH_ERROR;
    switch (reason) {
    case PHX_END_LENGTH:
        if (!c->is_stopped)
            return PHX_FINISH_LENGTH;
        break;
    case PHX_END_CANCELLED:
        return PHX_FINISH_CANCELLED;
    case PHX_END_DEADLINE:
    case PHX_END_ERROR:
        return PHX_FINISH_ERROR;
    case PHX_END_STOP:
    case PHX_END_CAPTURED:
        break;
    }
    return summary->n_calls > 0 ? PHX_FINISH_TOOL_CALLS : PHX_FINISH_STOP;
}

static void take_end(choice *c, const phx_sched_event *event, const phx_error *why)
{
    phx_generation *g = c->generation;
    assert(c->is_alive);
    c->is_alive = false;
    const phx_output_summary summary = flush_choice(c);
    g->n_alive--;
    g->n_prompt = event->n_prompt;
    if (c->idx == 0) /* the later choices of one prompt reuse the first's blocks */
        g->n_cached = event->n_cached;
    g->n_output += c->n_tokens;
    const phx_finish finish = finish_of(c, event->reason, &summary);
    phx_error cause = c->failed;
    if (finish == PHX_FINISH_ERROR && cause.code == PHX_OK) {
        if (event->reason == PHX_END_DEADLINE)
            (void)PHX_FAIL(&cause, PHX_ERR_DEADLINE, "the deadline of the request has passed");
        else if (why && why->code != PHX_OK)
            cause = *why;
        else
            (void)PHX_FAIL(&cause, PHX_ERR_INTERNAL, "the rank group failed");
    }
    give(g, &(phx_delta){.kind = PHX_DELTA_END,
                         .choice = c->idx,
                         .finish = finish,
                         .malformed_calls = summary.malformed,
                         .why = finish == PHX_FINISH_ERROR ? &cause : NULL,
                         .last = g->n_alive == 0,
                         .n_prompt = g->n_prompt,
                         .n_cached = g->n_cached,
                         .n_output = g->n_output});
}
