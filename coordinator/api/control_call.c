/* coordinator/api/control_call.c - Generate on the control service: from a frame to events and a status. */
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "coordinator/api/control.h"
#include "coordinator/api/prompt.h"

#define PENDING_BYTES_MAX  (1u << 20)   /* of each text of an event, see proto/limits.h */
#define EVENT_IDS_MAX      65536u       /* of one event, the same */
#define PENDING_BYTES_SEND (256u << 10) /* sent without waiting for the next round */

/* A call on its way to a generation. */
typedef struct asking {
    phx_api_work work;      /* first */
    phx_control_call *call; /* NULL: over meanwhile */
    Phalanx__ClientFrame *frame;
    phx_api_prompt prompt;
} asking;

static bool check_room(phx_control *control, const phx_peer *peer, const Phalanx__ClientFrame *frame,
                       phx_api_fault *fault);
static bool make_call(phx_control *control, const phx_peer *peer, uint64_t id, phx_control_call **ret_call,
                      phx_api_fault *fault);
static bool make_asking(phx_control_call *call, asking **ret_asking, phx_api_fault *fault);
static size_t n_text_bytes(const Phalanx__GenerateRequest *from);
static bool make_prompt(phx_api_work *work, phx_api_fault *fault);
static void begin_call(phx_api_work *work);
static void refuse(phx_control_call *call, const phx_api_fault *fault);
static void give_ids(phx_control_call *call, const phx_api_prompt *prompt);
static bool start(phx_control_call *call, const Phalanx__ClientFrame *frame, const phx_api_prompt *prompt,
                  phx_api_fault *fault);
static void on_delta(void *user, const phx_delta *delta);
static void take_token(phx_control_call *call, const phx_delta *delta);
static void take_output(phx_control_call *call, uint32_t choice, const phx_output_event *event);
static void take_capture(phx_control_call *call, const Phalanx__CapturePart *part);
static void take_end(phx_control_call *call, const phx_delta *delta);
static bool send_event(phx_control_call *call, Phalanx__GenerateEvent *event);

void phx_control_generate(phx_control *control, const phx_peer *peer, Phalanx__ClientFrame *frame)
{
    phx_api *api = control->api;
    phx_api_fault fault = {0};
    phx_control_call *call = NULL;
    asking *a = NULL;
    if (phx_api_is_ready(api, &fault) && check_room(control, peer, frame, &fault) &&
        make_call(control, peer, frame->call_id, &call, &fault) && make_asking(call, &a, &fault)) {
        a->frame = frame;
        a->work.renders = frame->generate->prompt_case == PHALANX__GENERATE_REQUEST__PROMPT_CHAT_JSON;
        (void)phx_api_work_begin(api, &a->work, n_text_bytes(frame->generate));
        return;
    }
    if (call) {
        refuse(call, &fault);
    } else {
        phx_control_end(control, peer, frame->call_id, fault.cause, fault.message);
        api->tally.n_outcomes[PHX_API_FACE_CONTROL][phx_api_outcome_of(&fault)]++;
    }
    phx_client_frame_free(frame);
}

/* ---------------------------------------------------------------- starting */

static bool check_room(phx_control *control, const phx_peer *peer, const Phalanx__ClientFrame *frame,
                       phx_api_fault *fault)
{
    uint32_t n_peer = 0;
    for (const phx_control_call *call = control->calls; call; call = call->next)
        n_peer += call->peer.n == peer->n && memcmp(call->peer.id, peer->id, peer->n) == 0;
    if (phx_control_find(control, peer, frame->call_id))
        return phx_api_refuse(fault, NULL, "call %llu runs already on this connection",
                              (unsigned long long)frame->call_id);
    if (n_peer < PHX_CONTROL_CALLS_PEER_MAX && control->n_calls < PHX_CONTROL_CALLS_MAX)
        return true;
    (void)phx_api_refuse(fault, NULL, "too many calls run already: %u on this connection, %u in all", n_peer,
                         control->n_calls);
    fault->cause = PHX_ERR_BUSY;
    return false;
}

static bool make_call(phx_control *control, const phx_peer *peer, uint64_t id, phx_control_call **ret_call,
                      phx_api_fault *fault)
{
    phx_control_call *call = phx_alloc(1, sizeof(*call));
    if (!call) {
        phx_api_fault_of(&(phx_error){.code = PHX_ERR_NOMEM}, fault);
        return false;
    }
    call->control = control;
    call->peer = *peer;
    call->id = id;
    call->start_us = call->sent_us = phx_clock_us();
    phx_buf_init(&call->pending.text, PENDING_BYTES_MAX);
    phx_buf_init(&call->pending.reasoning, PENDING_BYTES_MAX);
    phx_buf_init(&call->pending.calls, PENDING_BYTES_MAX);
    call->next = control->calls;
    if (call->next)
        call->next->prev = call;
    control->calls = call;
    control->n_calls++;
    control->api->tally.n_open[PHX_API_FACE_CONTROL]++;
    *ret_call = call;
    return true;
}

static bool make_asking(phx_control_call *call, asking **ret_asking, phx_api_fault *fault)
{
    asking *a = phx_alloc(1, sizeof(*a));
    if (!a) {
        phx_api_fault_of(&(phx_error){.code = PHX_ERR_NOMEM}, fault);
        return false;
    }
    a->call = call;
    a->work.make = make_prompt;
    a->work.finish = begin_call;
    call->asking = &a->work;
    *ret_asking = a;
    return true;
}

/* What takes time to read; ids are only copied. */
static size_t n_text_bytes(const Phalanx__GenerateRequest *from)
{
    switch (from->prompt_case) {
    case PHALANX__GENERATE_REQUEST__PROMPT_TEXT:
        return strlen(from->text);
    case PHALANX__GENERATE_REQUEST__PROMPT_CHAT_JSON:
        return strlen(from->chat_json);
    default:
        return 0;
    }
}

/* Perhaps on the text thread. */
static bool make_prompt(phx_api_work *work, phx_api_fault *fault)
{
    asking *a = (asking *)work;
    const phx_model_text *text = &work->text;
    const Phalanx__GenerateRequest *from = a->frame->generate;
    phx_api_request request = {0};
    const bool generates = from->capture == 0 && !from->only_ids;
    const uint32_t n_ids_max = generates ? text->n_context : PHX_REQUEST_TOKENS_MAX;
    bool ok = false;
    if (from->only_ids && from->capture != 0)
        return phx_api_refuse(fault, "only_ids", "only_ids runs nothing, so there is no capture");
    switch (from->prompt_case) {
    case PHALANX__GENERATE_REQUEST__PROMPT_TOKEN_IDS:
        ok = phx_api_prompt_ids(text, from->token_ids->ids, from->token_ids->n_ids, &a->prompt, fault);
        break;
    case PHALANX__GENERATE_REQUEST__PROMPT_TEXT:
        ok = phx_api_prompt_text(text, phx_str_of(from->text), true, n_ids_max, &a->prompt, fault);
        break;
    case PHALANX__GENERATE_REQUEST__PROMPT_CHAT_JSON: {
        const phx_bytes body = {(const uint8_t *)from->chat_json, strlen(from->chat_json)};
        ok = phx_api_request_read(body, PHX_API_PROMPT, text, &request, fault);
        request.stop = work->job.stop;
        ok = ok && phx_api_prompt_chat(text, &request, n_ids_max, &a->prompt, fault);
        phx_api_request_done(&request);
        break;
    }
    default:
        ok = phx_api_refuse(fault, NULL, "the request has no prompt");
        break;
    }
    /* A capture generates nothing, so it needs no room for an answer: the engine checks it. */
    return ok && (!generates || phx_api_prompt_fits(text, &a->prompt, fault));
}

static void begin_call(phx_api_work *work)
{
    asking *a = (asking *)work;
    phx_control_call *call = a->call;
    phx_api_fault *fault = &work->fault;
    if (call) {
        call->asking = NULL;
        /* Meanwhile the server may have begun to drain. */
        if (!work->ok || !phx_api_is_ready(work->api, fault))
            refuse(call, fault);
        else if (a->frame->generate->only_ids)
            give_ids(call, &a->prompt);
        else if (!start(call, a->frame, &a->prompt, fault))
            refuse(call, fault);
        else if (call->n_credit > 0)
            phx_generation_grant(call->generation, call->n_credit);
    }
    phx_api_prompt_done(&a->prompt);
    phx_client_frame_free(a->frame);
    phx_api_work_free(work);
}

/* As many events as the ids need, then the end. */
static void give_ids(phx_control_call *call, const phx_api_prompt *prompt)
{
    for (uint32_t first = 0; first < prompt->n; first += EVENT_IDS_MAX) {
        Phalanx__GenerateEvent event = PHALANX__GENERATE_EVENT__INIT;
        event.token_ids = prompt->ids + first;
        event.n_token_ids = prompt->n - first < EVENT_IDS_MAX ? prompt->n - first : EVENT_IDS_MAX;
        event.n_prompt_tokens = prompt->n;
        if (!send_event(call, &event) || call->is_over)
            return;
    }
    phx_control_end(call->control, &call->peer, call->id, PHX_OK, "");
    phx_control_over(call, PHX_API_OUTCOME_STOP);
}

static void refuse(phx_control_call *call, const phx_api_fault *fault)
{
    phx_control_end(call->control, &call->peer, call->id, fault->cause, fault->message);
    phx_control_over(call, phx_api_outcome_of(fault));
}

static void take_sampling(const Phalanx__Sampling *from, uint32_t *bias_ids, float *bias, phx_sampling *to)
{
    *to = (phx_sampling){.temperature = from->temperature,
                         .top_p = from->top_p,
                         .min_p = from->min_p,
                         .top_k = from->top_k,
                         .presence_penalty = from->presence_penalty,
                         .frequency_penalty = from->frequency_penalty,
                         .repetition_penalty = from->repetition_penalty,
                         .seed = from->seed,
                         .logprobs = from->logprobs,
                         .n_top_logprobs = from->n_top_logprobs,
                         .n_bias = (uint32_t)from->n_bias,
                         .bias_ids = bias_ids,
                         .bias = bias};
    for (size_t i = 0; i < from->n_bias; i++) {
        bias_ids[i] = from->bias[i]->id;
        bias[i] = from->bias[i]->bias;
    }
}

static bool check_params(const phx_control_call *call, const Phalanx__GenerateRequest *from,
                         phx_api_fault *fault)
{
    const phx_model_text *text = call->control->api->text;
    if (from->n > PHX_CHOICES_MAX)
        return phx_api_refuse(fault, "n", "%u choices, but at most %u are made", from->n, PHX_CHOICES_MAX);
    if (from->capture != 0 &&
        (from->n > 1 || from->prompt_case == PHALANX__GENERATE_REQUEST__PROMPT_CHAT_JSON))
        return phx_api_refuse(fault, "capture", "a capture takes one choice of a text or of token ids");
    if (from->capture == 0 && (from->warm != 0 || from->chunk != 0))
        return phx_api_refuse(fault, "warm", "warm and chunk belong to captures");
    for (size_t i = 0; i < from->n_stop_ids; i++) {
        if (from->stop_ids[i] >= text->n_vocab)
            return phx_api_refuse(fault, "stop_ids", "stop id %u is not below %u, the size of the vocabulary",
                                  from->stop_ids[i], text->n_vocab);
    }
    for (size_t i = 0; i < from->sampling->n_bias; i++) {
        if (from->sampling->bias[i]->id >= text->n_vocab)
            return phx_api_refuse(fault, "bias", "bias for token %u, which is not below %u",
                                  from->sampling->bias[i]->id, text->n_vocab);
    }
    return true;
}

static bool start(phx_control_call *call, const Phalanx__ClientFrame *frame, const phx_api_prompt *prompt,
                  phx_api_fault *fault)
{
    const Phalanx__GenerateRequest *from = frame->generate;
    phx_api *api = call->control->api;
    phx_error err = {0};
    phx_str stops[PHX_STOP_STRINGS_MAX];
    uint32_t bias_ids[PHX_LOGIT_BIAS_MAX];
    float bias[PHX_LOGIT_BIAS_MAX];
    const bool is_chat = from->prompt_case == PHALANX__GENERATE_REQUEST__PROMPT_CHAT_JSON;
    if (!check_params(call, from, fault))
        return false;
    phx_generation_params params = {
        .prompt = prompt->ids,
        .n_prompt = prompt->n,
        .n_choices = from->n ? from->n : 1,
        .n_output_max = from->max_tokens,
        .n_stop_ids = (uint32_t)from->n_stop_ids,
        .stops = stops,
        .n_stops = from->n_stop,
        .ignore_eos = from->ignore_eos,
        .plain = !is_chat,
        .in_reasoning = prompt->in_reasoning,
        .parse_calls = prompt->parse_calls,
        .types = prompt->types,
        .deadline_us = frame->deadline_ms ? call->start_us + frame->deadline_ms * (uint64_t)1000 : 0,
        .capture = from->capture,
        .n_warm = from->warm,
        .n_chunk = from->chunk};
    take_sampling(from->sampling, bias_ids, bias, &params.sampling);
    for (size_t i = 0; i < from->n_stop; i++)
        stops[i] = phx_str_of(from->stop[i]);
    for (size_t i = 0; i < from->n_stop_ids; i++)
        params.stop_ids[i] = from->stop_ids[i];
    call->logprobs = params.sampling.logprobs;
    if (api->text->chat)
        call->numbering =
            (phx_api_call_ids){.numbered = api->text->chat->numbers_calls, .first = prompt->next_call};
    if (phx_generation_start(api->options.engine, api->text, &params, on_delta, call, &call->generation,
                             &err) == PHX_OK)
        return true;
    phx_api_fault_of(&err, fault); /* this face is the operator's: it hears the very text */
    (void)snprintf(fault->message, sizeof(fault->message), "%s", err.text);
    return false;
}

/* ---------------------------------------------------------------- running */

void phx_control_grant(phx_control_call *call, uint32_t n_parts)
{
    if (call->generation)
        phx_generation_grant(call->generation, n_parts);
    else if (call->asking)
        call->n_credit += n_parts <= UINT32_MAX - call->n_credit ? n_parts : UINT32_MAX - call->n_credit;
}

void phx_control_cancel(phx_control_call *call)
{
    static const phx_api_fault cancelled = {.message = "the call was cancelled", .cause = PHX_ERR_CANCELLED};
    if (call->generation)
        phx_generation_cancel(call->generation);
    else if (call->asking)
        refuse(call, &cancelled);
}

static void on_delta(void *user, const phx_delta *delta)
{
    phx_control_call *call = user;
    switch (delta->kind) {
    case PHX_DELTA_TOKEN:
        take_token(call, delta);
        break;
    case PHX_DELTA_OUTPUT:
        take_output(call, delta->choice, delta->output);
        break;
    case PHX_DELTA_CAPTURE:
        take_capture(call, delta->capture);
        break;
    case PHX_DELTA_END:
        if (delta->last)
            call->generation = NULL; /* dead after this call */
        take_end(call, delta);
        break;
    }
}

/* Makes room in pending for something of this choice. */
static bool open_pending(phx_control_call *call, uint32_t choice)
{
    phx_control_pending *p = &call->pending;
    if (p->is_used && (p->choice != choice || p->text.n + p->reasoning.n + p->calls.n > PENDING_BYTES_SEND))
        phx_control_flush(call);
    if (call->is_over)
        return false;
    p->is_used = true;
    p->choice = choice;
    phx_loop_timer_start(call->control->flusher, 0);
    return true;
}

static void take_token(phx_control_call *call, const phx_delta *delta)
{
    phx_control_pending *p = &call->pending;
    if (!call->has_first) {
        call->has_first = true;
        phx_api_histogram_add(&call->control->api->tally.first_token, phx_clock_us() - call->start_us);
    }
    if (p->n_ids == PHX_CONTROL_PENDING_TOKENS || (p->n_ids > 0 && call->logprobs))
        phx_control_flush(call); /* an event has room for the logprobs of one token */
    if (!open_pending(call, delta->choice))
        return;
    p->ids[p->n_ids++] = delta->token;
    if (!call->logprobs)
        return;
    p->logprob = delta->logprob;
    p->n_top = delta->n_top;
    for (uint32_t i = 0; i < delta->n_top; i++)
        p->top[i] = delta->top[i];
}

/* Strings of a frame end at a NUL, which a model may write: it becomes U+FFFD. */
static void append_text(phx_buf *to, phx_str text)
{
    while (text.n > 0) {
        const char *nul = memchr(text.ptr, 0, text.n);
        const size_t n = nul ? (size_t)(nul - text.ptr) : text.n;
        (void)phx_buf_append(to, text.ptr, n);
        if (nul)
            (void)phx_buf_str(to, "\xEF\xBF\xBD");
        text.ptr += n + (nul ? 1 : 0);
        text.n -= n + (nul ? 1 : 0);
    }
}

static void take_output(phx_control_call *call, uint32_t choice, const phx_output_event *event)
{
    phx_control_pending *p = &call->pending;
    phx_json_writer w;
    if (!open_pending(call, choice))
        return;
    switch (event->kind) {
    case PHX_OUTPUT_REASONING:
        append_text(&p->reasoning, event->text);
        break;
    case PHX_OUTPUT_CONTENT:
        append_text(&p->text, event->text);
        break;
    case PHX_OUTPUT_CALL_BEGIN:
        phx_api_call_id(call->numbering, event, call->call_ids[choice]);
        /* fall through */
    case PHX_OUTPUT_CALL_DELTA:
        (void)phx_buf_char(&p->calls, p->calls.n > 0 ? ',' : '[');
        phx_json_writer_init(&w, &p->calls);
        phx_api_write_call_delta(&w, call->call_ids[choice], event);
        break;
    case PHX_OUTPUT_CALL_END:
        break;
    }
}

/* Sends what is pending, if anything. */
void phx_control_flush(phx_control_call *call)
{
    phx_control_pending *p = &call->pending;
    Phalanx__GenerateEvent event = PHALANX__GENERATE_EVENT__INIT;
    Phalanx__TopLogprob tops[PHX_TOP_LOGPROBS_MAX];
    Phalanx__TopLogprob *top[PHX_TOP_LOGPROBS_MAX];
    if (!p->is_used || call->is_over)
        return;
    if (p->calls.n > 0)
        (void)phx_buf_char(&p->calls, ']');
    if (p->text.code != PHX_OK || p->reasoning.code != PHX_OK || p->calls.code != PHX_OK) {
        phx_control_end(call->control, &call->peer, call->id, PHX_ERR_TOO_LONG,
                        "a piece of the answer is larger than an event may be");
        phx_control_over(call, PHX_API_OUTCOME_ERROR);
        return;
    }
    event.choice = p->choice;
    event.n_token_ids = p->n_ids;
    event.token_ids = p->ids;
    if (p->text.n > 0)
        event.text = p->text.ptr;
    if (p->reasoning.n > 0)
        event.reasoning = p->reasoning.ptr;
    if (p->calls.n > 0)
        event.tool_calls_json = p->calls.ptr;
    event.logprob = p->n_ids > 0 ? p->logprob : 0;
    event.n_top = p->n_ids > 0 ? p->n_top : 0;
    event.top = top;
    for (uint32_t i = 0; i < event.n_top; i++) {
        tops[i] = (Phalanx__TopLogprob)PHALANX__TOP_LOGPROB__INIT;
        tops[i].id = p->top[i].id;
        tops[i].logprob = p->top[i].logprob;
        top[i] = &tops[i];
    }
    (void)send_event(call, &event);
    p->is_used = false;
    p->n_ids = 0;
    p->n_top = 0;
    phx_buf_clear(&p->text);
    phx_buf_clear(&p->reasoning);
    phx_buf_clear(&p->calls);
}

static bool send_event(phx_control_call *call, Phalanx__GenerateEvent *event)
{
    Phalanx__ServerFrame frame = PHALANX__SERVER_FRAME__INIT;
    frame.call_id = call->id;
    frame.body_case = PHALANX__SERVER_FRAME__BODY_EVENT;
    frame.event = event;
    call->sent_us = phx_clock_us();
    return phx_control_send(call->control, &call->peer, &frame);
}

/* Parts are not kept: they leave at once, each paid for with credit of the client. */
static void take_capture(phx_control_call *call, const Phalanx__CapturePart *part)
{
    Phalanx__GenerateEvent event = PHALANX__GENERATE_EVENT__INIT;
    Phalanx__CapturePart copy = *part;
    if (call->is_over)
        return;
    copy.request_id = 0; /* a number between ranks and coordinator */
    event.capture = &copy;
    (void)send_event(call, &event);
}

static void take_end(phx_control_call *call, const phx_delta *delta)
{
    Phalanx__GenerateEvent event = PHALANX__GENERATE_EVENT__INIT;
    phx_control_flush(call);
    if (delta->malformed_calls)
        call->control->api->tally.n_malformed_calls++;
    if (delta->finish == PHX_FINISH_ERROR && call->failed.code == PHX_OK)
        call->failed = *delta->why;
    if (delta->finish == PHX_FINISH_CANCELLED)
        (void)PHX_FAIL(&call->failed, PHX_ERR_CANCELLED, "the call was cancelled");
    if (delta->choice == 0)
        call->finish = delta->finish;
    if (call->is_over)
        return;
    event.choice = delta->choice;
    event.finish_reason = (char *)(uintptr_t)phx_finish_name(delta->finish); /* only read */
    event.n_prompt_tokens = delta->n_prompt;
    event.n_cached_tokens = delta->n_cached;
    event.n_completion_tokens = delta->n_output;
    if (!send_event(call, &event) || !delta->last || call->is_over)
        return;
    phx_control_end(call->control, &call->peer, call->id, call->failed.code, call->failed.text);
    phx_control_over(call, phx_api_outcome_of_finish(call->finish));
}

/* ---------------------------------------------------------------- ending */

void phx_control_over(phx_control_call *call, phx_api_outcome outcome)
{
    phx_api_tally *tally = &call->control->api->tally;
    if (call->is_over)
        return;
    call->is_over = true;
    if (call->asking) {
        phx_api_work *work = call->asking;
        call->asking = NULL;
        ((asking *)work)->call = NULL;
        phx_api_work_leave(work);
    }
    phx_generation_abandon(call->generation);
    call->generation = NULL;
    tally->n_outcomes[PHX_API_FACE_CONTROL][outcome]++;
    tally->n_open[PHX_API_FACE_CONTROL]--;
    phx_api_histogram_add(&tally->whole, phx_clock_us() - call->start_us);
    phx_loop_timer_start(call->control->flusher, 0);
}

void phx_control_free(phx_control_call *call)
{
    phx_control *control = call->control;
    if (call->prev)
        call->prev->next = call->next;
    else
        control->calls = call->next;
    if (call->next)
        call->next->prev = call->prev;
    control->n_calls--;
    phx_buf_done(&call->pending.text);
    phx_buf_done(&call->pending.reasoning);
    phx_buf_done(&call->pending.calls);
    phx_free(call);
}
