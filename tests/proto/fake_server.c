/* tests/proto/fake_server.c - see fake_server.h. Any surprise ends the process with a number of its own. */
#include "tests/proto/fake_server.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/codec.h"

#define N_CALLS 8

typedef struct running {
    uint64_t id; /* 0: free */
    phx_peer peer;
    char kind[16];
    uint32_t n_left, n_sent, n_credit;
} running;

typedef struct server {
    phx_link *link;
    phx_buf in, out;
    running calls[N_CALLS];
} server;

static void expect(bool truth, int exit_code)
{
    if (!truth)
        _exit(exit_code);
}

static void reply(server *s, const phx_peer *peer, const Phalanx__ServerFrame *frame)
{
    phx_buf_clear(&s->out);
    expect(phx_message_encode(&frame->base, &s->out, NULL) == PHX_OK, 10);
    const phx_bytes message = {(const uint8_t *)s->out.ptr, s->out.n};
    /* A client that is slower than we are gets half a second to make room. */
    for (int i = 0; i < 500 && phx_link_send(s->link, peer, message, NULL) != PHX_OK; i++)
        (void)usleep(1000);
}

static void end(server *s, running *r, Phalanx__GrpcStatus status, const char *text)
{
    Phalanx__ServerFrame frame = PHALANX__SERVER_FRAME__INIT;
    frame.call_id = r->id;
    frame.end = 1;
    frame.status = status;
    frame.message = (char *)(uintptr_t)text;
    reply(s, &r->peer, &frame);
    r->id = 0;
}

static void send_event(server *s, running *r, bool is_end)
{
    uint32_t id = ++r->n_sent;
    uint8_t data[4] = {(uint8_t)id};
    Phalanx__CapturePart part = PHALANX__CAPTURE_PART__INIT;
    part.name = (char *)(uintptr_t) "logits";
    part.dtype = (char *)(uintptr_t) "F32";
    part.row_first = id - 1;
    part.n_rows = part.n_cols = 1;
    part.data = (ProtobufCBinaryData){.len = sizeof(data), .data = data};
    Phalanx__GenerateEvent event = PHALANX__GENERATE_EVENT__INIT;
    event.n_token_ids = 1;
    event.token_ids = &id;
    event.text = (char *)(uintptr_t) "x";
    event.capture = strcmp(r->kind, "capture") == 0 ? &part : NULL;
    Phalanx__ServerFrame frame = PHALANX__SERVER_FRAME__INIT;
    frame.call_id = r->id;
    frame.body_case = PHALANX__SERVER_FRAME__BODY_EVENT;
    frame.event = &event;
    frame.end = is_end;
    reply(s, &r->peer, &frame);
    if (is_end)
        r->id = 0;
}

static running *find(server *s, const phx_peer *peer, uint64_t id)
{
    for (int i = 0; i < N_CALLS; i++)
        if (s->calls[i].id == id && (id == 0 || (s->calls[i].peer.n == peer->n &&
                                                 memcmp(s->calls[i].peer.id, peer->id, peer->n) == 0)))
            return &s->calls[i];
    return NULL;
}

static void generate(server *s, const phx_peer *peer, const Phalanx__ClientFrame *frame)
{
    running *r = find(s, peer, 0);
    expect(r != NULL, 11);
    expect(frame->generate->prompt_case == PHALANX__GENERATE_REQUEST__PROMPT_TEXT, 12);
    *r = (running){.id = frame->call_id, .peer = *peer};
    expect(sscanf(frame->generate->text, "%15s %u", r->kind, &r->n_left) >= 1, 13);
    if (strcmp(r->kind, "die") == 0)
        _exit(0);
    if (strcmp(r->kind, "bad") == 0)
        (void)phx_link_send(s->link, peer, (phx_bytes){(const uint8_t *)"\xFF\xFF", 2}, NULL);
    if (strcmp(r->kind, "together") == 0)
        send_event(s, r, true);
    if (strcmp(r->kind, "count") != 0)
        return;
    for (; r->n_left > 0; r->n_left--)
        send_event(s, r, false);
    end(s, r, PHALANX__GRPC_STATUS__GRPC_OK, "");
}

static void cancel(server *s, const phx_peer *peer, const Phalanx__ClientFrame *frame)
{
    Phalanx__CancelReply found = PHALANX__CANCEL_REPLY__INIT;
    running *r = find(s, peer, frame->cancel->call_id);
    found.found = r != NULL;
    if (r)
        end(s, r, PHALANX__GRPC_STATUS__GRPC_CANCELLED, "cancelled as asked");
    Phalanx__ServerFrame out = PHALANX__SERVER_FRAME__INIT;
    out.call_id = frame->call_id;
    out.end = 1;
    out.body_case = PHALANX__SERVER_FRAME__BODY_CANCEL;
    out.cancel = &found;
    reply(s, peer, &out);
}

static void status(server *s, const phx_peer *peer, const Phalanx__ClientFrame *frame)
{
    Phalanx__RankStatus rank = PHALANX__RANK_STATUS__INIT, *ranks[1] = {&rank};
    rank.pid = (uint32_t)getpid();
    rank.state = (char *)(uintptr_t) "ready";
    Phalanx__StatusReply body = PHALANX__STATUS_REPLY__INIT;
    body.model = (char *)(uintptr_t) "fake";
    body.state = (char *)(uintptr_t) "ready";
    body.epoch = 7;
    body.n_ranks = 1;
    body.ranks = ranks;
    body.n_context = frame->deadline_ms; /* to see that it arrived */
    for (int i = 0; i < N_CALLS; i++)
        body.n_running += s->calls[i].id != 0;
    Phalanx__ServerFrame out = PHALANX__SERVER_FRAME__INIT;
    out.call_id = frame->call_id;
    out.end = 1;
    out.body_case = PHALANX__SERVER_FRAME__BODY_STATUS_REPLY;
    out.status_reply = &body;
    reply(s, peer, &out);
}

static void obey(server *s, const phx_peer *peer, const Phalanx__ClientFrame *frame)
{
    running *r;
    switch (frame->body_case) {
    case PHALANX__CLIENT_FRAME__BODY_GENERATE:
        generate(s, peer, frame);
        break;
    case PHALANX__CLIENT_FRAME__BODY_CANCEL:
        cancel(s, peer, frame);
        break;
    case PHALANX__CLIENT_FRAME__BODY_STATUS:
        status(s, peer, frame);
        break;
    case PHALANX__CLIENT_FRAME__BODY_PLAN: {
        running refused = {.id = frame->call_id, .peer = *peer};
        end(s, &refused, PHALANX__GRPC_STATUS__GRPC_RESOURCE_EXHAUSTED, "queue of 3 is full");
        break;
    }
    case PHALANX__CLIENT_FRAME__BODY_CREDIT:
        r = find(s, peer, frame->call_id);
        if (r)
            r->n_credit += frame->credit->n_parts;
        break;
    default:
        break; /* Drain: silence */
    }
}

/* One round of what runs by itself; true when there is more to do. */
static bool go_on(server *s)
{
    bool busy = false;
    running *pair = NULL;
    for (int i = 0; i < N_CALLS; i++) {
        running *r = &s->calls[i];
        if (r->id == 0)
            continue;
        if (strcmp(r->kind, "forever") == 0) {
            send_event(s, r, false);
            (void)usleep(1000);
            busy = true;
        }
        for (; strcmp(r->kind, "capture") == 0 && r->n_left > 0 && r->n_credit > 0;
             r->n_left--, r->n_credit--)
            send_event(s, r, false);
        if (strcmp(r->kind, "capture") == 0 && r->n_left == 0)
            end(s, r, PHALANX__GRPC_STATUS__GRPC_OK, "");
        if (strcmp(r->kind, "pair") == 0 && pair) {
            for (int j = 0; j < 3; j++) {
                send_event(s, r, false);
                send_event(s, pair, false);
            }
            end(s, r, PHALANX__GRPC_STATUS__GRPC_OK, "");
            end(s, pair, PHALANX__GRPC_STATUS__GRPC_INVALID_ARGUMENT, "the second of a pair");
        }
        if (r->id != 0 && strcmp(r->kind, "pair") == 0)
            pair = r;
    }
    return busy;
}

static _Noreturn void serve(server *s)
{
    bool busy = false;
    for (;;) {
        phx_peer peer;
        phx_error err = {0};
        Phalanx__ClientFrame *frame = NULL;
        (void)phx_link_wait(s->link, -1, busy ? 0 : 1000);
        while (phx_link_receive(s->link, &peer, &s->in, &err) == PHX_OK) {
            expect(phx_client_frame_decode((phx_bytes){(const uint8_t *)s->in.ptr, s->in.n}, &frame, &err) ==
                       PHX_OK,
                   14);
            obey(s, &peer, frame);
            phx_client_frame_free(frame);
        }
        busy = go_on(s);
    }
}

/* Keys come through stdin (none: nothing), the bound address goes out through stdout. */
int fake_server_main(const char *address)
{
    static server s;
    phx_link_keys keys;
    (void)alarm(60); /* never outlives a failed test for long */
    phx_buf_init(&s.in, PHX_MESSAGE_MAX);
    phx_buf_init(&s.out, PHX_MESSAGE_MAX);
    const ssize_t n = read(0, &keys, sizeof(keys));
    expect(n == 0 || n == (ssize_t)sizeof(keys), 15);
    expect(phx_link_bind(address, n ? &keys : NULL, &s.link, NULL) == PHX_OK, 16);
    char text[256] = {0};
    (void)snprintf(text, sizeof(text), "%s", phx_link_address(s.link));
    expect(write(1, text, sizeof(text)) == (ssize_t)sizeof(text), 17);
    serve(&s);
}

pid_t fake_server_start(const char *address, const phx_link_keys *keys, char ret_address[256])
{
    int in[2], out[2];
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0)
        abort();
    const pid_t child = fork();
    if (child < 0)
        abort();
    if (child == 0) {
        const char *const argv[] = {"/proc/self/exe", "--fake-server", address, NULL};
        (void)dup2(in[0], 0);
        (void)dup2(out[1], 1);
        (void)execv(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    (void)close(in[0]);
    (void)close(out[1]);
    if (keys && write(in[1], keys, sizeof(*keys)) != (ssize_t)sizeof(*keys))
        abort();
    (void)close(in[1]);
    if (read(out[0], ret_address, 256) != 256)
        abort();
    (void)close(out[0]);
    return child;
}

void fake_server_kill(pid_t child)
{
    (void)kill(child, SIGKILL);
    (void)waitpid(child, NULL, 0);
}
