/* coordinator/api/control.c - the control service on its link: receiving, sending, unary methods. */
#include "coordinator/api/control.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "proto/limits.h"

#define MESSAGES_PER_ROUND 64u
#define PROBE_US           1000000u

static bool on_readable(void *user);
static void on_flush(void *user);
static void on_probe(void *user);
static void dispatch(phx_control *control, const phx_peer *peer, Phalanx__ClientFrame *frame);
static void answer_cancel(phx_control *control, const phx_peer *peer, const Phalanx__ClientFrame *frame);
static void answer_status(phx_control *control, const phx_peer *peer, uint64_t call_id);
static void answer_plan(phx_control *control, const phx_peer *peer, uint64_t call_id);
static void answer_drain(phx_control *control, const phx_peer *peer, const Phalanx__ClientFrame *frame);
static bool same_peer(const phx_peer *a, const phx_peer *b);

phx_code phx_api_serve_control(phx_api *api, phx_link *link, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_control *control = phx_alloc(1, sizeof(*control));
    if (!control) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "the control service");
        goto out;
    }
    control->api = api;
    phx_buf_init(&control->in, PHX_MESSAGE_MAX);
    phx_buf_init(&control->out, PHX_MESSAGE_MAX);
    rc = phx_loop_timer_create(api->options.loop, (phx_loop_call){on_flush, control}, &control->flusher, err);
    if (rc == PHX_OK)
        rc = phx_loop_timer_create(api->options.loop, (phx_loop_call){on_probe, control}, &control->prober,
                                   err);
    if (rc == PHX_OK)
        rc = phx_loop_watch_create(
            api->options.loop,
            &(phx_loop_watch_spec){.fd = phx_link_fd(link), .fn = on_readable, .user = control},
            &control->watch, err);
    if (rc != PHX_OK)
        goto out;
    control->link = link;
    phx_loop_watch_kick(control->watch); /* what came before the watch raises no edge any more */
    phx_loop_timer_start(control->prober, PROBE_US);
    phx_control_destroy(api->control);
    api->control = control;
    control = NULL;
out:
    phx_control_destroy(control);
    return rc;
}

void phx_control_destroy(phx_control *control)
{
    if (!control)
        return;
    while (control->calls) {
        phx_control_over(control->calls, PHX_API_OUTCOME_CANCELLED);
        phx_control_free(control->calls);
    }
    phx_loop_watch_destroy(control->watch);
    phx_loop_timer_destroy(control->flusher);
    phx_loop_timer_destroy(control->prober);
    phx_link_close(control->link);
    phx_buf_done(&control->in);
    phx_buf_done(&control->out);
    phx_free(control);
}

/* ---------------------------------------------------------------- frames */

static bool on_readable(void *user)
{
    phx_control *control = user;
    for (uint32_t i = 0; i < MESSAGES_PER_ROUND; i++) {
        phx_peer peer;
        phx_error err = {0};
        Phalanx__ClientFrame *frame = NULL;
        const phx_code rc = phx_link_receive(control->link, &peer, &control->in, &err);
        if (rc == PHX_ERR_TOO_LONG)
            continue; /* that message is gone, its sender hears nothing: it broke the protocol */
        if (rc != PHX_OK && rc != PHX_ERR_NOMEM)
            return false;
        const phx_bytes wire = {(const uint8_t *)control->in.ptr, control->in.n};
        if (rc == PHX_ERR_NOMEM || phx_client_frame_decode(wire, &frame, &err) != PHX_OK)
            phx_control_end(control, &peer, 0, err.code, err.text); /* nobody knows which call it was */
        else
            dispatch(control, &peer, frame);
    }
    return true;
}

/* Takes the frame. */
static void dispatch(phx_control *control, const phx_peer *peer, Phalanx__ClientFrame *frame)
{
    phx_control_call *call = NULL;
    switch (frame->body_case) {
    case PHALANX__CLIENT_FRAME__BODY_GENERATE:
        phx_control_generate(control, peer, frame);
        return; /* which keeps it */
    case PHALANX__CLIENT_FRAME__BODY_CANCEL:
        answer_cancel(control, peer, frame);
        break;
    case PHALANX__CLIENT_FRAME__BODY_STATUS:
        answer_status(control, peer, frame->call_id);
        break;
    case PHALANX__CLIENT_FRAME__BODY_PLAN:
        answer_plan(control, peer, frame->call_id);
        break;
    case PHALANX__CLIENT_FRAME__BODY_DRAIN:
        answer_drain(control, peer, frame);
        break;
    case PHALANX__CLIENT_FRAME__BODY_CREDIT: /* for a call that is over: nobody's */
        call = phx_control_find(control, peer, frame->call_id);
        if (call)
            phx_control_grant(call, frame->credit->n_parts);
        break;
    default:
        phx_control_end(control, peer, frame->call_id, PHX_ERR_UNSUPPORTED, "unknown method");
        break;
    }
    phx_client_frame_free(frame);
}

static bool same_peer(const phx_peer *a, const phx_peer *b)
{
    return a->n == b->n && memcmp(a->id, b->id, a->n) == 0;
}

phx_control_call *phx_control_find(phx_control *control, const phx_peer *peer, uint64_t id)
{
    for (phx_control_call *call = control->calls; call; call = call->next) {
        if (call->id == id && !call->is_over && same_peer(&call->peer, peer))
            return call;
    }
    return NULL;
}

bool phx_control_send(phx_control *control, const phx_peer *peer, Phalanx__ServerFrame *frame)
{
    phx_error err = {0};
    phx_buf_clear(&control->out);
    phx_code rc = phx_message_encode(&frame->base, &control->out, &err);
    if (rc != PHX_OK) { /* larger than a message may be */
        Phalanx__ServerFrame sorry = PHALANX__SERVER_FRAME__INIT;
        sorry.call_id = frame->call_id;
        sorry.end = true;
        sorry.status = phx_grpc_of_code(rc);
        sorry.message = err.text;
        phx_buf_clear(&control->out);
        phx_control_call *call = phx_control_find(control, peer, frame->call_id);
        if (call)
            phx_control_over(call, PHX_API_OUTCOME_ERROR);
        if (phx_message_encode(&sorry.base, &control->out, NULL) != PHX_OK)
            return false;
    }
    rc = phx_link_send(control->link, peer, (phx_bytes){(const uint8_t *)control->out.ptr, control->out.n},
                       &err);
    phx_loop_watch_kick(control->watch); /* sending may have swallowed the edge */
    if (rc == PHX_OK)
        return true;
    for (phx_control_call *call = control->calls; call; call = call->next) {
        if (same_peer(&call->peer, peer))
            phx_control_over(call, PHX_API_OUTCOME_CLIENT_LEFT);
    }
    return false;
}

void phx_control_end(phx_control *control, const phx_peer *peer, uint64_t call_id, phx_code code,
                     const char *message)
{
    char text[512];
    Phalanx__ServerFrame frame = PHALANX__SERVER_FRAME__INIT;
    (void)snprintf(text, sizeof(text), "%s", message);
    for (size_t i = 0; !phx_utf8_valid(text, strlen(text)); i++) { /* a text that was cut in a character */
        if ((unsigned char)text[i] >= 0x80)
            text[i] = '?';
    }
    frame.call_id = call_id;
    frame.end = true;
    frame.status = phx_grpc_of_code(code);
    frame.message = text;
    (void)phx_control_send(control, peer, &frame);
}

/* ---------------------------------------------------------------- timers */

static void on_flush(void *user)
{
    phx_control *control = user;
    for (phx_control_call *call = control->calls; call; call = call->next)
        phx_control_flush(call);
    for (phx_control_call *call = control->calls, *next; call; call = next) {
        next = call->next;
        if (call->is_over)
            phx_control_free(call);
    }
}

/* A send is the only way to learn that a client is gone, so a silent call sends an event without content. */
static void on_probe(void *user)
{
    phx_control *control = user;
    const uint64_t now_us = phx_clock_us();
    for (phx_control_call *call = control->calls; call; call = call->next) {
        if (call->is_over || now_us - call->sent_us < PROBE_US)
            continue;
        Phalanx__GenerateEvent event = PHALANX__GENERATE_EVENT__INIT;
        Phalanx__ServerFrame frame = PHALANX__SERVER_FRAME__INIT;
        frame.call_id = call->id;
        frame.body_case = PHALANX__SERVER_FRAME__BODY_EVENT;
        frame.event = &event;
        call->sent_us = now_us;
        (void)phx_control_send(control, &call->peer, &frame);
    }
    phx_loop_timer_start(control->prober, PROBE_US);
}

/* ---------------------------------------------------------------- unary methods */

static void answer_cancel(phx_control *control, const phx_peer *peer, const Phalanx__ClientFrame *frame)
{
    Phalanx__CancelReply reply = PHALANX__CANCEL_REPLY__INIT;
    Phalanx__ServerFrame out = PHALANX__SERVER_FRAME__INIT;
    phx_control_call *call = phx_control_find(control, peer, frame->cancel->call_id);
    if (call)
        phx_control_cancel(call);
    reply.found = call != NULL;
    out.call_id = frame->call_id;
    out.end = true;
    out.body_case = PHALANX__SERVER_FRAME__BODY_CANCEL;
    out.cancel = &reply;
    (void)phx_control_send(control, peer, &out);
}

static void answer_status(phx_control *control, const phx_peer *peer, uint64_t call_id)
{
    phx_api *api = control->api;
    phx_buf numerics;
    char layout[128];
    Phalanx__StatusReply reply = PHALANX__STATUS_REPLY__INIT;
    Phalanx__ServerFrame out = PHALANX__SERVER_FRAME__INIT;
    const phx_plan *plan = phx_engine_plan(api->options.engine);
    phx_buf_init(&numerics, 4000);
    phx_engine_status(api->options.engine, &reply);
    /* protobuf-c's strings are not const, but encoding only reads them */
    reply.state = (char *)(uintptr_t)phx_engine_state_name(phx_engine_state_of(api->options.engine));
    if (api->text) {
        reply.model = (char *)(uintptr_t)api->text->name;
        reply.model_dir = (char *)(uintptr_t)api->text->dir;
    }
    if (api->options.http_address)
        reply.http = (char *)(uintptr_t)api->options.http_address;
    if (plan) {
        const phx_layout *l = &plan->request.layout;
        phx_numerics_print(&plan->request.numerics, &numerics);
        (void)snprintf(layout, sizeof(layout), "tp %u pp %u experts %s", (unsigned)l->tp, (unsigned)l->pp,
                       plan->request.numerics.experts == PHX_EXPERTS_EP ? "ep" : "tp");
        reply.n_context = plan->n_context;
        reply.layout = layout;
        if (numerics.n > 0)
            reply.numerics = numerics.ptr;
    }
    reply.uptime_ms = (phx_clock_us() - api->start_us) / 1000;
    out.call_id = call_id;
    out.end = true;
    out.body_case = PHALANX__SERVER_FRAME__BODY_STATUS_REPLY;
    out.status_reply = &reply;
    (void)phx_control_send(control, peer, &out);
    phx_buf_done(&numerics);
}

static void answer_plan(phx_control *control, const phx_peer *peer, uint64_t call_id)
{
    phx_buf text;
    phx_buf json;
    Phalanx__PlanReply reply = PHALANX__PLAN_REPLY__INIT;
    Phalanx__ServerFrame out = PHALANX__SERVER_FRAME__INIT;
    const phx_plan *plan = phx_engine_plan(control->api->options.engine);
    if (!plan) {
        phx_control_end(control, peer, call_id, PHX_ERR_UNAVAILABLE, "there is no plan yet");
        return;
    }
    phx_buf_init(&text, 1u << 20);
    phx_buf_init(&json, 4u << 20);
    phx_plan_print(plan, &text);
    phx_plan_json(plan, &json);
    if (text.code != PHX_OK || json.code != PHX_OK || text.n == 0 || json.n == 0) {
        phx_control_end(control, peer, call_id, PHX_ERR_TOO_LONG, "the plan is larger than a message");
    } else {
        reply.text = text.ptr;
        reply.json = json.ptr;
        out.call_id = call_id;
        out.end = true;
        out.body_case = PHALANX__SERVER_FRAME__BODY_PLAN;
        out.plan = &reply;
        (void)phx_control_send(control, peer, &out);
    }
    phx_buf_done(&text);
    phx_buf_done(&json);
}

/* Answers at once with what is unfinished now; the process ends when it is drained. */
static void answer_drain(phx_control *control, const phx_peer *peer, const Phalanx__ClientFrame *frame)
{
    const phx_api_options *options = &control->api->options;
    Phalanx__DrainReply reply = PHALANX__DRAIN_REPLY__INIT;
    Phalanx__ServerFrame out = PHALANX__SERVER_FRAME__INIT;
    if (!options->drain) {
        phx_control_end(control, peer, frame->call_id, PHX_ERR_UNSUPPORTED, "this server cannot be drained");
        return;
    }
    const phx_sched_stats stats = phx_engine_stats(options->engine);
    reply.n_unfinished = stats.n_queued + stats.n_running;
    out.call_id = frame->call_id;
    out.end = true;
    out.body_case = PHALANX__SERVER_FRAME__BODY_DRAIN;
    out.drain = &reply;
    (void)phx_control_send(control, peer, &out);
    options->drain(options->drain_user, frame->drain->timeout_ms);
}
