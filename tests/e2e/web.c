/* tests/e2e/web.c - see web.h. */
#include "tests/e2e/web.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

enum { BYTES_MAX = 32 << 20 };

static void understand(web_reply *reply, bool closed);
static uint32_t count_events(const phx_buf *body);

void web_reply_init(web_reply *reply)
{
    *reply = (web_reply){0};
    phx_buf_init(&reply->raw, BYTES_MAX);
    phx_buf_init(&reply->body, BYTES_MAX);
}

void web_reply_done(web_reply *reply)
{
    phx_buf_done(&reply->raw);
    phx_buf_done(&reply->body);
}

int web_send_raw(uint16_t port, phx_str request)
{
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool sent = fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0;
    for (size_t at = 0; sent && at < request.n;) {
        const ssize_t n = send(fd, request.ptr + at, request.n - at, MSG_NOSIGNAL);
        sent = n > 0;
        at += sent ? (size_t)n : 0;
    }
    if (!sent && fd >= 0)
        (void)close(fd);
    return sent ? fd : -1;
}

int web_send(uint16_t port, const char *path, const char *body)
{
    phx_buf request;
    phx_buf_init(&request, BYTES_MAX);
    if (body)
        (void)phx_buf_printf(&request,
                             "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                             "Content-Length: %zu\r\nConnection: close\r\n\r\n",
                             path, strlen(body));
    else
        (void)phx_buf_printf(&request, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                             path);
    (void)phx_buf_str(&request, body ? body : "");
    const int fd = web_send_raw(port, phx_buf_view(&request));
    phx_buf_done(&request);
    return fd;
}

void web_receive(int fd, web_reply *reply, uint32_t n_events, uint32_t limit_ms)
{
    const uint64_t until = phx_clock_us() + (uint64_t)limit_ms * 1000;
    char piece[16384];
    while (reply->end == WEB_OPEN) {
        const uint64_t now = phx_clock_us();
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        if (now >= until || (n_events && count_events(&reply->body) >= n_events))
            return;
        if (poll(&wait, 1, (int)((until - now) / 1000) + 1) <= 0)
            continue;
        const ssize_t n = recv(fd, piece, sizeof(piece), 0);
        if (n > 0)
            (void)phx_buf_append(&reply->raw, piece, (size_t)n);
        understand(reply, n <= 0);
    }
}

void web_ask(uint16_t port, const char *path, const char *body, uint32_t limit_ms, web_reply *ret_reply)
{
    const int fd = web_send(port, path, body);
    phx_buf_clear(&ret_reply->raw);
    phx_buf_clear(&ret_reply->body);
    ret_reply->end = fd < 0 ? WEB_NO_CONNECT : WEB_OPEN;
    ret_reply->status = 0;
    ret_reply->error = false;
    if (fd < 0)
        return;
    web_receive(fd, ret_reply, 0, limit_ms);
    (void)close(fd);
}

static uint32_t count_events(const phx_buf *body)
{
    uint32_t n = 0;
    for (const char *at = body->ptr; at && (at = strstr(at, "data: ")); at++)
        n++;
    return n;
}

/* Takes chunks apart; true when the last one has come. */
static bool unchunk(const char *at, phx_buf *body)
{
    for (;;) {
        char *end = NULL;
        const char *line = strstr(at, "\r\n");
        if (!line)
            return false;
        const size_t n = strtoul(at, &end, 16);
        if (n == 0)
            return end != at;
        if (strlen(line + 2) < n + 2)
            return false;
        (void)phx_buf_append(body, line + 2, n);
        at = line + 2 + n + 2;
    }
}

static void understand(web_reply *reply, bool closed)
{
    const char *raw = reply->raw.ptr ? reply->raw.ptr : "";
    const char *head_end = strstr(raw, "\r\n\r\n");
    bool whole = false, stream = false;
    phx_buf_clear(&reply->body);
    if (head_end) {
        const char *length = strstr(raw, "Content-Length: ");
        const char *chunked = strstr(raw, "Transfer-Encoding: chunked");
        const char *type = strstr(raw, "Content-Type: text/event-stream");
        reply->status = (int)strtol(raw + strcspn(raw, " \r"), NULL, 10);
        stream = type && type < head_end;
        if (chunked && chunked < head_end) {
            whole = unchunk(head_end + 4, &reply->body);
        } else {
            (void)phx_buf_str(&reply->body, head_end + 4);
            whole = length && length < head_end && reply->body.n >= strtoul(length + 16, NULL, 10);
        }
    }
    (void)phx_buf_append(&reply->body, "", 0);
    const char *body = reply->body.ptr ? reply->body.ptr : "";
    reply->error = reply->status >= 400 || (stream && strstr(body, "data: {\"error\""));
    if (stream && whole && !reply->error)
        whole = strstr(body, "data: [DONE]") != NULL;
    if (whole)
        reply->end = WEB_WHOLE;
    else if (closed)
        reply->end = WEB_CLOSED;
}

/* ---- reading answers ---- */

typedef struct answer {
    phx_buf reasoning, content, calls;
    char finish[32];
    int64_t call; /* last tool call begun */
} answer;

static void add(phx_buf *to, const phx_json *value)
{
    phx_str text;
    if (phx_json_as_str(value, &text))
        (void)phx_buf_append(to, text.ptr, text.n);
}

static void add_calls(answer *a, const phx_json *calls)
{
    for (size_t i = 0; i < phx_json_count(calls); i++) {
        const phx_json *call = phx_json_at(calls, i), *function = phx_json_get(call, "function");
        int64_t idx = (int64_t)i;
        (void)phx_json_as_i64(phx_json_get(call, "index"), &idx);
        if (phx_json_get(function, "name")) {
            if (a->call >= 0)
                (void)phx_buf_char(&a->calls, ';');
            a->call = idx;
            add(&a->calls, phx_json_get(function, "name"));
            (void)phx_buf_char(&a->calls, ':');
        }
        add(&a->calls, phx_json_get(function, "arguments"));
    }
}

static void add_object(answer *a, const phx_json *object, uint32_t wanted)
{
    const phx_json *choices = phx_json_get(object, "choices");
    for (size_t i = 0; i < phx_json_count(choices); i++) {
        const phx_json *choice = phx_json_at(choices, i), *message = phx_json_get(choice, "delta");
        int64_t idx = -1;
        phx_str finish;
        (void)phx_json_as_i64(phx_json_get(choice, "index"), &idx);
        if (idx != (int64_t)wanted)
            continue;
        message = message ? message : phx_json_get(choice, "message");
        add(&a->content, phx_json_get(choice, "text"));
        add(&a->content, phx_json_get(message, "content"));
        add(&a->reasoning, phx_json_get(message, "reasoning_content"));
        add_calls(a, phx_json_get(message, "tool_calls"));
        if (phx_json_as_str(phx_json_get(choice, "finish_reason"), &finish))
            (void)phx_str_copy(a->finish, sizeof(a->finish), finish);
    }
}

static void add_text(answer *a, const char *text, size_t n, uint32_t wanted)
{
    phx_json *root = NULL;
    phx_error err = {0};
    const phx_bytes bytes = {(const uint8_t *)text, n};
    if (phx_json_parse(bytes, PHX_JSON_LIMITS_REQUEST, &root, &err) == PHX_OK)
        add_object(a, root, wanted);
    phx_json_destroy(root);
}

void web_answer(const web_reply *reply, uint32_t idx, phx_buf *text)
{
    answer a = {.call = -1};
    const char *body = reply->body.ptr ? reply->body.ptr : "";
    phx_buf_init(&a.reasoning, BYTES_MAX);
    phx_buf_init(&a.content, BYTES_MAX);
    phx_buf_init(&a.calls, BYTES_MAX);
    if (body[0] == '{')
        add_text(&a, body, reply->body.n, idx);
    for (const char *at = body; (at = strstr(at, "data: {"));) {
        const size_t n = strcspn(at, "\r\n");
        add_text(&a, at + 6, n - 6, idx);
        at += n;
    }
    phx_buf_clear(text);
    (void)phx_buf_printf(text, "%s|%s|%s|%s", a.reasoning.ptr ? a.reasoning.ptr : "",
                         a.content.ptr ? a.content.ptr : "", a.calls.ptr ? a.calls.ptr : "", a.finish);
    phx_buf_done(&a.reasoning);
    phx_buf_done(&a.content);
    phx_buf_done(&a.calls);
}

double web_metric(uint16_t port, const char *name)
{
    web_reply reply;
    double value = -1;
    char line[128];
    web_reply_init(&reply);
    web_ask(port, "/metrics", NULL, 10000, &reply);
    (void)snprintf(line, sizeof(line), "\n%s ", name);
    const char *at = reply.body.ptr ? strstr(reply.body.ptr, line) : NULL;
    if (at)
        value = strtod(at + strlen(line), NULL);
    web_reply_done(&reply);
    return value;
}

bool web_await_metric(uint16_t port, const char *name, double value, uint32_t limit_ms)
{
    const uint64_t until = phx_clock_us() + (uint64_t)limit_ms * 1000;
    for (;;) {
        const double got = web_metric(port, name);
        if (got >= value && got <= value)
            return true;
        if (phx_clock_us() > until)
            return false;
        (void)usleep(10000);
    }
}
