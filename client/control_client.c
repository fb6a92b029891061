/* client/control_client.c - calls, streams and their events over one link to a coordinator.
 * All that arrives is sorted into the queues of its calls, whichever call is being waited for. */
#include "client/control_client.h"

#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/hash.h"
#include "proto/limits.h"
#include "proto/link.h"

#define WAIT_PIECE_MS 100

typedef struct queued {
    struct queued *next;
    Phalanx__ServerFrame *frame;
    size_t n_bytes; /* on the wire */
} queued;

typedef struct call {
    uint64_t id;          /* 0: free */
    uint64_t deadline_us; /* by the monotonic clock; UINT64_MAX: none */
    uint64_t deadline_ms; /* as asked, for the message */
    queued *first, *last; /* received, not yet read */
    uint32_t n_queued;
    size_t n_queued_bytes;
    Phalanx__ServerFrame *current; /* the frame that the caller looks at */
    phx_error failed;              /* why no more will come, when not by the server's word */
} call;

struct phx_client {
    phx_link *link; /* NULL once lost, until the next call connects anew */
    char *address;
    bool has_keys;
    phx_link_keys keys;
    uint64_t call_id_last;
    phx_buf wire; /* of one message, in or out */
    call calls[PHX_CLIENT_CALLS_MAX];
};

static phx_code start_call(phx_client *client, Phalanx__ClientFrame *frame, uint32_t deadline_ms,
                           call **ret_call, phx_error *err);
static phx_code send_frame(phx_client *client, const Phalanx__ClientFrame *frame, phx_error *err);
static phx_code await_frame(phx_client *client, call *c, bool (*keep_waiting)(void *user), void *user,
                            Phalanx__ServerFrame **ret_frame, phx_error *err);
static void pump(phx_client *client, int timeout_ms);
static void sort_in(phx_client *client, Phalanx__ServerFrame *frame, size_t n_bytes);
static call *find_call(phx_client *client, uint64_t id);
static void end_call(call *c);
static void lose_connection(phx_client *client, const phx_error *cause);
static phx_code send_cancel(phx_client *client, uint64_t call_id, phx_error *err);
static phx_code grant(phx_client *client, uint64_t call_id, uint32_t n_parts, phx_error *err);
static phx_code code_of_end(const Phalanx__ServerFrame *frame, phx_error *err);

/* ---------------------------------------------------------------- the connection */

phx_code phx_client_connect(const char *address, const char *key_file, phx_client **ret_client,
                            phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_client *client = phx_alloc(1, sizeof(*client));
    if (client) {
        phx_buf_init(&client->wire, PHX_MESSAGE_MAX);
        client->address = phx_strdup_n(address, strlen(address));
    }
    if (!client || !client->address) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "control client");
        goto out;
    }
    if (key_file) {
        phx_error why = {0};
        rc = phx_link_keys_read(key_file, &client->keys, &why);
        client->has_keys = rc == PHX_OK;
        if (rc != PHX_OK) /* denied by us, not by a server */
            rc = PHX_FAIL(err, rc == PHX_ERR_DENIED ? PHX_ERR_IO : rc, "%s", why.text);
    }
    if (rc == PHX_OK)
        rc = phx_link_connect(address, key_file ? &client->keys : NULL, NULL, &client->link, err);
    if (rc != PHX_OK)
        goto out;
    *ret_client = client;
    client = NULL;
out:
    phx_client_close(client);
    return rc;
}

void phx_client_close(phx_client *client)
{
    if (!client)
        return;
    for (uint32_t i = 0; i < PHX_CLIENT_CALLS_MAX; i++)
        end_call(&client->calls[i]);
    phx_link_close(client->link);
    phx_buf_done(&client->wire);
    phx_free(client->address);
    phx_secret_wipe(&client->keys, sizeof(client->keys));
    phx_free(client);
}

/* ---------------------------------------------------------------- calls */

phx_code phx_client_call(phx_client *client, Phalanx__ClientFrame *frame, uint32_t deadline_ms,
                         Phalanx__ServerFrame **ret_reply, phx_error *err)
{
    assert(frame->body_case != PHALANX__CLIENT_FRAME__BODY_GENERATE);
    assert(frame->body_case != PHALANX__CLIENT_FRAME__BODY_CREDIT);
    call *c = NULL;
    Phalanx__ServerFrame *reply = NULL;
    phx_code rc = start_call(client, frame, deadline_ms, &c, err);
    if (rc == PHX_OK)
        rc = await_frame(client, c, NULL, NULL, &reply, err);
    if (rc != PHX_OK)
        goto out;
    if (reply->end)
        rc = code_of_end(reply, err);
    /* The bodies of a call and of its reply have the same number in control.proto. */
    if (rc == PHX_OK && (!reply->end || (int)reply->body_case != (int)frame->body_case))
        rc = PHX_FAIL(err, PHX_ERR_MISMATCH,
                      "the coordinator answered something else than was asked: is it of "
                      "another version?");
    if (rc != PHX_OK)
        goto out;
    *ret_reply = reply;
    reply = NULL;
out:
    phx_server_frame_free(reply);
    if (c)
        end_call(c);
    return rc;
}

phx_code phx_client_generate(phx_client *client, Phalanx__GenerateRequest *request, uint32_t deadline_ms,
                             uint64_t *ret_call_id, phx_error *err)
{
    Phalanx__Sampling greedy = PHALANX__SAMPLING__INIT;
    greedy.top_p = 1;
    greedy.repetition_penalty = 1;
    Phalanx__GenerateRequest sent = *request;
    if (!sent.sampling)
        sent.sampling = &greedy;
    Phalanx__ClientFrame frame = PHALANX__CLIENT_FRAME__INIT;
    frame.body_case = PHALANX__CLIENT_FRAME__BODY_GENERATE;
    frame.generate = &sent;
    call *c = NULL;
    phx_code rc = start_call(client, &frame, deadline_ms, &c, err);
    if (rc == PHX_OK && request->capture != 0)
        rc = grant(client, c->id, PHX_CLIENT_CREDIT, err);
    if (rc == PHX_OK)
        *ret_call_id = c->id;
    else if (c)
        end_call(c);
    return rc;
}

/* Lets go of the frame that the caller looked at; true when it ended the call, with its code in ret_code. */
static bool release_current(phx_client *client, call *c, phx_code *ret_code, phx_error *err)
{
    Phalanx__ServerFrame *frame = c->current;
    if (!frame)
        return false;
    c->current = NULL;
    const bool was_end = frame->end != 0, was_capture = frame->event->capture != NULL;
    if (was_end)
        *ret_code = code_of_end(frame, err);
    phx_server_frame_free(frame);
    if (!was_end && was_capture)
        (void)grant(client, c->id, 1, NULL); /* a lost connection shows in the next wait */
    return was_end;
}

phx_code phx_client_next(phx_client *client, uint64_t call_id, bool (*keep_waiting)(void *user), void *user,
                         const Phalanx__GenerateEvent **ret_event, phx_error *err)
{
    phx_code rc = PHX_OK;
    const Phalanx__GenerateEvent *event = NULL;
    Phalanx__ServerFrame *frame = NULL;
    call *c = find_call(client, call_id);
    if (!c)
        return PHX_FAIL(err, PHX_ERR_NOT_FOUND, "call %llu is over or was never made",
                        (unsigned long long)call_id);
    if (release_current(client, c, &rc, err))
        goto out;
    rc = await_frame(client, c, keep_waiting, user, &frame, err);
    if (rc != PHX_OK)
        goto out;
    if (frame->body_case == PHALANX__SERVER_FRAME__BODY_EVENT) {
        c->current = frame;
        event = frame->event;
        frame = NULL;
    } else if (frame->end) {
        rc = code_of_end(frame, err);
    } else {
        rc = PHX_FAIL(err, PHX_ERR_MISMATCH,
                      "the coordinator answered something else than an event: is it of another "
                      "version?");
    }
out:
    phx_server_frame_free(frame);
    if (!event)
        end_call(c);
    if (rc == PHX_OK)
        *ret_event = event;
    return rc;
}

phx_code phx_client_cancel(phx_client *client, uint64_t call_id, phx_error *err)
{
    if (!find_call(client, call_id))
        return PHX_FAIL(err, PHX_ERR_NOT_FOUND, "call %llu is over or was never made",
                        (unsigned long long)call_id);
    return send_cancel(client, call_id, err);
}

/* ---------------------------------------------------------------- starting and waiting */

static call *find_call(phx_client *client, uint64_t id)
{
    for (uint32_t i = 0; id != 0 && i < PHX_CLIENT_CALLS_MAX; i++)
        if (client->calls[i].id == id)
            return &client->calls[i];
    return NULL;
}

static void end_call(call *c)
{
    while (c->first) {
        queued *next = c->first->next;
        phx_server_frame_free(c->first->frame);
        phx_free(c->first);
        c->first = next;
    }
    phx_server_frame_free(c->current);
    *c = (call){0};
}

/* Gives the frame its id and sends it. On failure no call was made. */
static phx_code start_call(phx_client *client, Phalanx__ClientFrame *frame, uint32_t deadline_ms,
                           call **ret_call, phx_error *err)
{
    call *c = NULL;
    for (uint32_t i = 0; !c && i < PHX_CLIENT_CALLS_MAX; i++)
        if (client->calls[i].id == 0)
            c = &client->calls[i];
    if (!c)
        return PHX_FAIL(err, PHX_ERR_BUSY, "%u calls run on this connection already", PHX_CLIENT_CALLS_MAX);
    pump(client, 0); /* a loss that was not looked at yet must not fail this call */
    phx_code rc = PHX_OK;
    if (!client->link)
        rc = phx_link_connect(client->address, client->has_keys ? &client->keys : NULL, NULL, &client->link,
                              err);
    frame->call_id = ++client->call_id_last;
    frame->deadline_ms = deadline_ms;
    if (rc == PHX_OK)
        rc = send_frame(client, frame, err);
    if (rc != PHX_OK)
        return rc;
    *c = (call){.id = frame->call_id,
                .deadline_us = deadline_ms ? phx_clock_us() + deadline_ms * (uint64_t)1000 : UINT64_MAX,
                .deadline_ms = deadline_ms};
    *ret_call = c;
    return PHX_OK;
}

static phx_code send_frame(phx_client *client, const Phalanx__ClientFrame *frame, phx_error *err)
{
    if (!client->link)
        return PHX_FAIL(err, PHX_ERR_UNAVAILABLE, "the connection to '%s' is lost", client->address);
    phx_buf_clear(&client->wire);
    const phx_code rc = phx_message_encode(&frame->base, &client->wire, err);
    if (rc != PHX_OK)
        return rc;
    return phx_link_send(client->link, NULL, (phx_bytes){(const uint8_t *)client->wire.ptr, client->wire.n},
                         err);
}

static phx_code send_cancel(phx_client *client, uint64_t call_id, phx_error *err)
{
    Phalanx__CancelRequest cancel = PHALANX__CANCEL_REQUEST__INIT;
    cancel.call_id = call_id;
    Phalanx__ClientFrame frame = PHALANX__CLIENT_FRAME__INIT;
    frame.call_id = ++client->call_id_last; /* its reply is not waited for */
    frame.body_case = PHALANX__CLIENT_FRAME__BODY_CANCEL;
    frame.cancel = &cancel;
    return send_frame(client, &frame, err);
}

static phx_code grant(phx_client *client, uint64_t call_id, uint32_t n_parts, phx_error *err)
{
    Phalanx__CaptureCredit credit = PHALANX__CAPTURE_CREDIT__INIT;
    credit.n_parts = n_parts;
    Phalanx__ClientFrame frame = PHALANX__CLIENT_FRAME__INIT;
    frame.call_id = call_id;
    frame.body_case = PHALANX__CLIENT_FRAME__BODY_CREDIT;
    frame.credit = &credit;
    return send_frame(client, &frame, err);
}

static Phalanx__ServerFrame *take_first(call *c)
{
    queued *q = c->first;
    if (!q)
        return NULL;
    Phalanx__ServerFrame *frame = q->frame;
    c->first = q->next;
    if (!c->first)
        c->last = NULL;
    c->n_queued--;
    c->n_queued_bytes -= q->n_bytes;
    phx_free(q);
    return frame;
}

/* The next frame of a call, now the caller's. */
static phx_code await_frame(phx_client *client, call *c, bool (*keep_waiting)(void *user), void *user,
                            Phalanx__ServerFrame **ret_frame, phx_error *err)
{
    for (;;) {
        Phalanx__ServerFrame *frame = take_first(c);
        if (frame) {
            *ret_frame = frame;
            return PHX_OK;
        }
        if (c->failed.code != PHX_OK)
            return PHX_FAIL(err, c->failed.code, "%s", c->failed.text);
        const uint64_t now_us = phx_clock_us();
        if (now_us >= c->deadline_us) {
            (void)send_cancel(client, c->id, NULL);
            return PHX_FAIL(err, PHX_ERR_DEADLINE, "no answer within %llu ms",
                            (unsigned long long)c->deadline_ms);
        }
        if (keep_waiting && !keep_waiting(user)) {
            (void)send_cancel(client, c->id, NULL);
            return PHX_FAIL(err, PHX_ERR_CANCELLED, "cancelled");
        }
        const uint64_t left_us = c->deadline_us - now_us;
        pump(client, left_us / 1000 < WAIT_PIECE_MS ? (int)(left_us / 1000) + 1 : WAIT_PIECE_MS);
    }
}

/* Waits for messages and sorts in all that are there. A loss is noted in the calls. */
static void pump(phx_client *client, int timeout_ms)
{
    if (!client->link)
        return;
    phx_error err = {0};
    phx_code rc = PHX_OK;
    (void)phx_link_wait(client->link, -1, timeout_ms);
    while (rc == PHX_OK) {
        Phalanx__ServerFrame *frame = NULL;
        rc = phx_link_receive(client->link, NULL, &client->wire, &err);
        if (rc != PHX_OK)
            break;
        rc = phx_server_frame_decode((phx_bytes){(const uint8_t *)client->wire.ptr, client->wire.n}, &frame,
                                     &err);
        if (rc == PHX_OK)
            sort_in(client, frame, client->wire.n);
        else
            err.code = PHX_ERR_MISMATCH; /* the server's fault, not the caller's */
    }
    if (rc != PHX_ERR_NOT_FOUND)
        lose_connection(client, &err);
}

/* Takes the frame. One for a call that is over is nobody's. */
static void sort_in(phx_client *client, Phalanx__ServerFrame *frame, size_t n_bytes)
{
    call *c = find_call(client, frame->call_id);
    queued *q = NULL;
    if (!c || c->failed.code != PHX_OK)
        goto out;
    if (c->n_queued >= PHX_CLIENT_EVENTS_MAX || n_bytes > PHX_CLIENT_BYTES_MAX - c->n_queued_bytes) {
        (void)PHX_FAIL(&c->failed, PHX_ERR_TOO_LONG, "%u events of call %llu were not read in time",
                       c->n_queued, (unsigned long long)c->id);
        (void)send_cancel(client, c->id, NULL);
        goto out;
    }
    q = phx_alloc(1, sizeof(*q));
    if (!q) {
        (void)PHX_FAIL(&c->failed, PHX_ERR_NOMEM, "queue of call %llu", (unsigned long long)c->id);
        goto out;
    }
    *q = (queued){.frame = frame, .n_bytes = n_bytes};
    frame = NULL;
    if (c->last)
        c->last->next = q;
    else
        c->first = q;
    c->last = q;
    c->n_queued++;
    c->n_queued_bytes += n_bytes;
out:
    phx_server_frame_free(frame);
}

/* Every call that runs ends with the cause, after what had arrived before. */
static void lose_connection(phx_client *client, const phx_error *cause)
{
    for (uint32_t i = 0; i < PHX_CLIENT_CALLS_MAX; i++)
        if (client->calls[i].id != 0 && client->calls[i].failed.code == PHX_OK)
            client->calls[i].failed = *cause;
    phx_link_close(client->link);
    client->link = NULL;
}

static phx_code code_of_end(const Phalanx__ServerFrame *frame, phx_error *err)
{
    const phx_code rc = phx_code_of_grpc(frame->status);
    if (rc == PHX_OK)
        return PHX_OK;
    return PHX_FAIL(err, rc, "%s", frame->message && frame->message[0] ? frame->message : phx_code_text(rc));
}
