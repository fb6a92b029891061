/* coordinator/http/reply.c - what handlers hold: status lines, streams, errors, exactly one completion. */
#include "coordinator/http/conn.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"

enum { HEAD_BYTES_MAX = 65536, ERROR_BYTES_MAX = 65536 };

static void send_whole(phx_http_reply *reply, const phx_http_response *response);
static void complete(phx_http_reply *reply);
static bool head_is_clean(const phx_http_response *response);

static const char *status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } texts[] = {
        {100, "Continue"},
        {200, "OK"},
        {202, "Accepted"},
        {204, "No Content"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (texts[i].status == status)
            return texts[i].text;
    }
    return "Status";
}

phx_http_reply *phx_http_reply_create(phx_http_conn *conn, uint64_t request_id)
{
    phx_http_reply *reply = phx_alloc(1, sizeof(*reply));
    if (!reply)
        return NULL;
    reply->conn = conn;
    reply->request_id = request_id;
    conn->http->stats.n_replies_open++;
    return reply;
}

/* Everything of a head but the framing and the empty line. */
void phx_http_reply_head(phx_buf *buf, const phx_http_response *response, uint64_t request_id)
{
    assert(response->status >= 200);
    assert(response->status <= 599);
    assert(head_is_clean(response));
    char date[40] = "";
    struct tm utc;
    const time_t now = (time_t)phx_clock_wall_s();
    if (gmtime_r(&now, &utc))
        (void)strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &utc);
    (void)phx_buf_printf(buf, "HTTP/1.1 %d %s\r\nDate: %s\r\nX-Request-Id: %016llx\r\n", response->status,
                         status_text(response->status), date, (unsigned long long)request_id);
    if (response->content_type)
        (void)phx_buf_printf(buf, "Content-Type: %s\r\n", response->content_type);
    (void)phx_buf_str(buf, "X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n");
    for (size_t i = 0; i < response->n_headers; i++)
        (void)phx_buf_printf(buf, "%s: %s\r\n", response->headers[i].name, response->headers[i].value);
}

static bool text_is_clean(const char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            return false;
    }
    return true;
}

static bool head_is_clean(const phx_http_response *response)
{
    for (size_t i = 0; i < response->n_headers; i++) {
        if (!text_is_clean(response->headers[i].name) || !text_is_clean(response->headers[i].value))
            return false;
    }
    return !response->content_type || text_is_clean(response->content_type);
}

/* Sends the head; framing is a complete header line. False: the connection is dead. */
static bool write_head(phx_http_reply *reply, const phx_http_response *response, const char *framing)
{
    phx_http_conn *conn = reply->conn;
    phx_buf head;
    phx_buf_init(&head, HEAD_BYTES_MAX);
    if (conn->http->is_stopping)
        conn->close_after = true;
    phx_http_reply_head(&head, response, reply->request_id);
    (void)phx_buf_printf(&head, "%s%s\r\n", framing, conn->close_after ? "Connection: close\r\n" : "");
    const bool is_whole = head.code == PHX_OK;
    if (!is_whole)
        phx_http_conn_kill(conn, PHX_HTTP_CLOSED_MEMORY);
    const bool ok = is_whole && phx_http_conn_write(conn, head.ptr, head.n);
    phx_buf_done(&head);
    if (ok)
        conn->http->stats.by_status[response->status - 100]++;
    return ok;
}

static bool is_alive(const phx_http_reply *reply)
{
    return reply->conn && reply->conn->phase != PHX_HTTP_PHASE_DEAD;
}

void phx_http_reply_send(phx_http_reply *reply, const phx_http_response *response)
{
    if (is_alive(reply) && response->body.n > reply->conn->http->limits.reply_bytes)
        phx_http_reply_error(reply, &(phx_http_error){.status = 500,
                                                      .code = "reply_too_large",
                                                      .message = "the answer is too large to send"});
    else
        send_whole(reply, response);
}

/* Completes. 204 has no body and no length. */
static void send_whole(phx_http_reply *reply, const phx_http_response *response)
{
    char framing[64] = "";
    assert(!reply->is_stream);
    if (is_alive(reply)) {
        phx_http_conn *conn = reply->conn;
        const size_t n_body = response->status == 204 ? 0 : response->body.n;
        if (response->status != 204)
            (void)snprintf(framing, sizeof(framing), "Content-Length: %zu\r\n", n_body);
        if (write_head(reply, response, framing) &&
            phx_http_conn_write(conn, response->body.ptr, conn->is_head ? 0 : n_body))
            phx_http_conn_finish(conn);
    }
    complete(reply);
}

void phx_http_error_json(const phx_http_error *error, phx_buf *buf)
{
    phx_json_writer w;
    const char *type = error->type;
    if (!type)
        type = error->status == 429   ? "rate_limit_error"
               : error->status >= 500 ? "server_error"
                                      : "invalid_request_error";
    phx_json_writer_init(&w, buf);
    phx_json_begin_object(&w);
    phx_json_key(&w, "error");
    phx_json_begin_object(&w);
    phx_json_key(&w, "message");
    phx_json_text(&w, error->message ? error->message : "");
    phx_json_key(&w, "type");
    phx_json_text(&w, type);
    phx_json_key(&w, "param");
    if (error->param)
        phx_json_text(&w, error->param);
    else
        phx_json_null(&w);
    phx_json_key(&w, "code");
    if (error->code)
        phx_json_text(&w, error->code);
    else
        phx_json_null(&w);
    phx_json_end_object(&w);
    phx_json_end_object(&w);
}

void phx_http_reply_error(phx_http_reply *reply, const phx_http_error *error)
{
    if (reply->is_stream || !is_alive(reply)) {
        phx_http_reply_abort(reply);
        return;
    }
    char seconds[16];
    phx_buf body;
    phx_buf_init(&body, ERROR_BYTES_MAX);
    phx_http_error_json(error, &body);
    (void)snprintf(seconds, sizeof(seconds), "%u", error->retry_after_s);
    const phx_http_header retry = {"Retry-After", seconds};
    /* A message beyond the bound leaves no body rather than half of one. */
    send_whole(reply, &(phx_http_response){
                          .status = error->status,
                          .content_type = "application/json",
                          .headers = &retry,
                          .n_headers = error->retry_after_s ? 1 : 0,
                          .body = body.code == PHX_OK ? phx_buf_view(&body) : phx_str_of("{}"),
                      });
    phx_buf_done(&body);
}

phx_code phx_http_reply_stream_begin(phx_http_reply *reply, const phx_http_response *response)
{
    assert(!reply->is_stream);
    reply->is_stream = true;
    if (!is_alive(reply))
        return PHX_ERR_CANCELLED;
    /* nginx would collect events otherwise. */
    if (!write_head(reply, response, "X-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n"))
        return PHX_ERR_NOMEM;
    return PHX_OK;
}

phx_code phx_http_reply_stream_write(phx_http_reply *reply, phx_str data)
{
    char size[24];
    assert(reply->is_stream);
    if (!is_alive(reply))
        return PHX_ERR_CANCELLED;
    if (data.n == 0)
        return PHX_OK; /* a chunk of nothing would end the stream */
    phx_http_conn *conn = reply->conn;
    if (data.n > conn->http->limits.unsent_hard_bytes ||
        phx_http_conn_unsent(conn) + data.n > conn->http->limits.unsent_hard_bytes) {
        conn->http->stats.by_fault[PHX_HTTP_FAULT_SLOW_READER]++;
        phx_http_conn_kill(conn, PHX_HTTP_CLOSED_SLOW);
        return PHX_ERR_TOO_LONG;
    }
    const int n_size = snprintf(size, sizeof(size), "%zx\r\n", data.n);
    const bool ok = phx_http_conn_write(conn, size, (size_t)n_size) &&
                    phx_http_conn_write(conn, data.ptr, data.n) && phx_http_conn_write(conn, "\r\n", 2);
    return ok ? PHX_OK : PHX_ERR_NOMEM;
}

void phx_http_reply_stream_end(phx_http_reply *reply)
{
    assert(reply->is_stream);
    if (is_alive(reply) && phx_http_conn_write(reply->conn, "0\r\n\r\n", 5))
        phx_http_conn_finish(reply->conn);
    complete(reply);
}

void phx_http_reply_abort(phx_http_reply *reply)
{
    if (is_alive(reply))
        phx_http_conn_kill(reply->conn, PHX_HTTP_CLOSED_SERVER);
    complete(reply);
}

/* Unties the handle from its connection, if there still is one, and frees it. */
static void complete(phx_http_reply *reply)
{
    if (reply->conn) {
        assert(reply->conn->reply == reply || reply->conn->reply == NULL);
        reply->conn->reply = NULL;
        reply->conn->http->stats.n_replies_open--;
    }
    phx_free(reply);
}

size_t phx_http_reply_queued_bytes(const phx_http_reply *reply)
{
    return is_alive(reply) ? phx_http_conn_unsent(reply->conn) : 0;
}

bool phx_http_reply_is_open(const phx_http_reply *reply)
{
    return is_alive(reply);
}

uint64_t phx_http_reply_request_id(const phx_http_reply *reply)
{
    return reply->request_id;
}

void phx_http_reply_on_closed(phx_http_reply *reply, void (*fn)(void *user, phx_http_closed why), void *user)
{
    reply->on_closed = fn;
    reply->user = user;
}

void phx_http_fault_error(phx_http_fault fault, phx_http_error *ret_error)
{
    const int status = phx_http_fault_status(fault);
    *ret_error = (phx_http_error){
        .status = status,
        .code = phx_http_fault_code(fault),
        .message = phx_http_fault_text(fault),
        .retry_after_s = status == 429 || status == 503 ? 1 : 0,
    };
}
