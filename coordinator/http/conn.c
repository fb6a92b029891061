/* coordinator/http/conn.c - one connection: bytes to requests, replies to bytes, and its clock.
 * Owns: the phases of conn.h and every reason to close. */
#include "coordinator/http/conn.h"

#include <assert.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/rng.h"

/* Bytes in the kernel's send buffer are out of our sight: keep them few, so that ours mean something. */
enum { SEND_BUFFER_BYTES = 256 * 1024 };

static void conn_on_read(struct bufferevent *bev, void *user);
static void conn_on_write(struct bufferevent *bev, void *user);
static void conn_on_event(struct bufferevent *bev, short what, void *user);
static void conn_pump(phx_http_conn *conn);
static bool conn_take(phx_http_conn *conn);
static void conn_on_head(phx_http_conn *conn);
static void conn_dispatch(phx_http_conn *conn);
static void conn_count_body(phx_http_conn *conn);
static void conn_enter(phx_http_conn *conn, phx_http_phase phase);

static void set_socket_options(int fd)
{
    /* A client that vanished without a word is noticed after a minute, also while nothing is sent. */
    const struct {
        int level;
        int name;
        int value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},    {SOL_SOCKET, SO_SNDBUF, SEND_BUFFER_BYTES},
        {SOL_SOCKET, SO_KEEPALIVE, 1},    {IPPROTO_TCP, TCP_KEEPIDLE, 30},
        {IPPROTO_TCP, TCP_KEEPINTVL, 10}, {IPPROTO_TCP, TCP_KEEPCNT, 3},
    };
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
        (void)setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(options[i].value));
}

phx_code phx_http_conn_open(phx_http *http, int fd, const phx_http_address *address)
{
    phx_code rc = PHX_OK;
    phx_http_conn *conn = phx_alloc(1, sizeof(*conn));
    if (!conn || phx_http_parser_init(&conn->parser, &http->limits) != PHX_OK) {
        rc = PHX_ERR_NOMEM;
        goto out;
    }
    conn->bev = bufferevent_socket_new(phx_loop_base(http->loop), fd, 0);
    if (!conn->bev) {
        rc = PHX_ERR_NOMEM;
        goto out;
    }
    set_socket_options(fd);
    conn->http = http;
    conn->peer = phx_http_peer_of(address);
    phx_http_address_text(address, conn->remote);
    conn_enter(conn, PHX_HTTP_PHASE_HEAD);
    conn->sent_us = conn->phase_us;
    bufferevent_setcb(conn->bev, conn_on_read, conn_on_write, conn_on_event, conn);
    if (bufferevent_enable(conn->bev, EV_READ | EV_WRITE) != 0) {
        rc = PHX_ERR_NOMEM;
        goto out;
    }
    conn->next = http->conns;
    if (conn->next)
        conn->next->prev = conn;
    http->conns = conn;
    http->stats.n_conns++;
    http->stats.n_conns_open++;
    conn = NULL;
out:
    if (conn) {
        if (conn->bev)
            bufferevent_free(conn->bev);
        phx_http_parser_done(&conn->parser);
        phx_free(conn);
    }
    return rc;
}

void phx_http_conn_kill(phx_http_conn *conn, phx_http_closed why)
{
    phx_http *http = conn->http;
    if (conn->phase == PHX_HTTP_PHASE_DEAD)
        return;
    conn->phase = PHX_HTTP_PHASE_DEAD;
    conn->why = why;
    (void)bufferevent_disable(conn->bev, EV_READ | EV_WRITE);
    if (conn->prev)
        conn->prev->next = conn->next;
    else
        http->conns = conn->next;
    if (conn->next)
        conn->next->prev = conn->prev;
    conn->prev = NULL;
    conn->next = http->dead;
    http->dead = conn;
    phx_loop_timer_start(http->reaper, 0);
}

static void count_sent(phx_http_conn *conn)
{
    const uint64_t n_sent = conn->n_written - phx_http_conn_unsent(conn);
    conn->http->stats.n_sent_bytes += n_sent - conn->n_counted;
    conn->n_counted = n_sent;
}

void phx_http_conn_reap(phx_http_conn *conn)
{
    phx_http *http = conn->http;
    phx_http_reply *reply = conn->reply;
    const phx_http_closed why = conn->why;
    const int fd = bufferevent_getfd(conn->bev);
    count_sent(conn);
    phx_http_parser_reset(&conn->parser);
    conn_count_body(conn);
    if (conn->key_id)
        http->n_key_conns[conn->key_id - 1]--;
    http->stats.n_conns_open--;
    if (why == PHX_HTTP_CLOSED_SLOW) {
        /* What the kernel still holds for a client that does not read is thrown away, not kept for minutes.
         */
        const struct linger now = {.l_onoff = 1, .l_linger = 0};
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    }
    bufferevent_free(conn->bev);
    (void)close(fd);
    phx_http_parser_done(&conn->parser);
    phx_free(conn);
    if (!reply)
        return;
    reply->conn = NULL;
    http->stats.n_replies_open--;
    http->stats.n_cancelled++;
    if (reply->on_closed)
        reply->on_closed(reply->user, why);
}

size_t phx_http_conn_unsent(const phx_http_conn *conn)
{
    return evbuffer_get_length(bufferevent_get_output(conn->bev));
}

bool phx_http_conn_write(phx_http_conn *conn, const void *ptr, size_t n)
{
    if (conn->phase == PHX_HTTP_PHASE_DEAD)
        return false;
    if (n == 0)
        return true;
    if (phx_http_conn_unsent(conn) == 0)
        conn->sent_us = phx_clock_us();
    if (bufferevent_write(conn->bev, ptr, n) != 0) {
        phx_http_conn_kill(conn, PHX_HTTP_CLOSED_MEMORY);
        return false;
    }
    conn->n_written += n;
    return true;
}

void phx_http_conn_finish(phx_http_conn *conn)
{
    conn->has_served = true;
    conn->is_head = false;
    conn->soft_us = 0;
    if (conn->close_after || conn->is_eof || conn->http->is_stopping) {
        conn_enter(conn, PHX_HTTP_PHASE_FLUSH);
        return;
    }
    conn_enter(conn, PHX_HTTP_PHASE_HEAD);
    /* The next request may be here already. Deferred: the handler that called us is still running. */
    bufferevent_trigger(conn->bev, EV_READ, BEV_TRIG_IGNORE_WATERMARKS | BEV_TRIG_DEFER_CALLBACKS);
}

void phx_http_conn_refuse(phx_http_conn *conn, phx_http_fault fault, bool keep)
{
    phx_http *http = conn->http;
    phx_http_error error;
    phx_http_fault_error(fault, &error);
    http->stats.by_fault[fault]++;
    if (error.status == 0) {
        phx_http_conn_kill(conn, PHX_HTTP_CLOSED_REFUSED);
        return;
    }
    phx_buf methods;
    phx_buf_init(&methods, 256);
    phx_http_header header = {NULL, NULL};
    if (fault == PHX_HTTP_FAULT_METHOD)
        header = (phx_http_header){
            "Allow",
            phx_http_allowed_methods(http, phx_http_parser_view(&conn->parser, conn->parser.path), &methods)};
    else if (fault == PHX_HTTP_FAULT_KEY)
        header = (phx_http_header){"WWW-Authenticate", "Bearer"};
    else if (error.retry_after_s)
        header = (phx_http_header){"Retry-After", "1"};

    phx_buf body;
    phx_buf out;
    phx_buf_init(&body, 4096);
    phx_buf_init(&out, 16384);
    phx_http_error_json(&error, &body);
    if (!keep)
        conn->close_after = true;
    phx_http_reply_head(&out,
                        &(phx_http_response){.status = error.status,
                                             .content_type = "application/json",
                                             .headers = &header,
                                             .n_headers = header.name ? 1 : 0},
                        phx_rng_mix(http->id_seed + http->n_ids++));
    (void)phx_buf_printf(&out, "Content-Length: %zu\r\n%s\r\n", body.n,
                         conn->close_after || http->is_stopping ? "Connection: close\r\n" : "");
    if (body.n && !conn->is_head)
        (void)phx_buf_append(&out, body.ptr, body.n);
    if (out.code != PHX_OK || body.code != PHX_OK)
        phx_http_conn_kill(conn, PHX_HTTP_CLOSED_MEMORY);
    phx_http_parser_reset(&conn->parser);
    conn_count_body(conn);
    if (phx_http_conn_write(conn, out.ptr, out.n)) {
        http->stats.by_status[error.status - 100]++;
        phx_http_conn_finish(conn);
    }
    phx_buf_done(&out);
    phx_buf_done(&body);
    phx_buf_done(&methods);
}

/* Bytes in. */

static void conn_on_read(struct bufferevent *bev, void *user)
{
    (void)bev;
    conn_pump(user);
}

/* Handles what has arrived: requests one after the other, as long as each is answered within its handler. */
static void conn_pump(phx_http_conn *conn)
{
    struct evbuffer *input = bufferevent_get_input(conn->bev);
    const phx_http_limits *limits = &conn->http->limits;
    bool more = true;
    while (more) {
        const size_t n = evbuffer_get_length(input);
        switch (conn->phase) {
        case PHX_HTTP_PHASE_HEAD:
            /* A client that asks on without reading the answers waits until they have left. */
            more = n > 0 && phx_http_conn_unsent(conn) <= limits->unsent_soft_bytes && conn_take(conn);
            break;
        case PHX_HTTP_PHASE_BODY:
            more = n > 0 && conn_take(conn);
            break;
        case PHX_HTTP_PHASE_OWED:
            more = false;
            break;
        case PHX_HTTP_PHASE_FLUSH:
        case PHX_HTTP_PHASE_LINGER:
            conn->n_linger += n;
            (void)evbuffer_drain(input, n);
            if (conn->n_linger > limits->linger_bytes)
                phx_http_conn_kill(conn, PHX_HTTP_CLOSED_REFUSED);
            more = false;
            break;
        case PHX_HTTP_PHASE_DEAD:
            return;
        }
    }
    const bool waits = conn->phase == PHX_HTTP_PHASE_OWED || conn->phase == PHX_HTTP_PHASE_HEAD;
    if (waits && evbuffer_get_length(input) > limits->pipelined_bytes)
        phx_http_conn_refuse(conn, PHX_HTTP_FAULT_PIPELINED, false);
}

/* Feeds the first run of bytes to the parser; false when more input is needed first. */
static bool conn_take(phx_http_conn *conn)
{
    struct evbuffer *input = bufferevent_get_input(conn->bev);
    struct evbuffer_iovec run = {NULL, 0};
    const bool had_begun = phx_http_parser_began(&conn->parser);
    size_t n_used = 0;
    if (evbuffer_peek(input, -1, NULL, &run, 1) < 1)
        return false;
    const phx_http_event event =
        phx_http_parser_feed(&conn->parser, (phx_bytes){run.iov_base, run.iov_len}, &n_used);
    conn->http->stats.n_received_bytes += n_used;
    (void)evbuffer_drain(input, n_used);
    conn_count_body(conn);
    if (!had_begun && conn->has_served)
        conn->phase_us = phx_clock_us(); /* silence ends, the head's time begins */
    switch (event) {
    case PHX_HTTP_MORE:
        if (conn->http->stats.n_body_bytes > conn->http->limits.body_total_bytes)
            phx_http_conn_refuse(conn, PHX_HTTP_FAULT_BODY_MEMORY, false);
        break;
    case PHX_HTTP_HEAD:
        conn_on_head(conn);
        break;
    case PHX_HTTP_DONE:
        conn_dispatch(conn);
        break;
    case PHX_HTTP_FAILED:
        phx_http_conn_refuse(conn, conn->parser.fault, false);
        break;
    }
    return true;
}

static void conn_on_head(phx_http_conn *conn)
{
    size_t n_used = 0;
    conn->close_after = !conn->parser.keep_alive;
    const phx_http_fault fault = phx_http_judge(conn);
    if (fault != PHX_HTTP_FAULT_NONE) {
        /* A body that nobody wants is not read to its end: the connection goes. So does one too many. */
        const bool keep = !conn->parser.has_body && !conn->close_after && fault != PHX_HTTP_FAULT_N_CONNS_KEY;
        phx_http_conn_refuse(conn, fault, keep);
        return;
    }
    if (!conn->parser.has_body) {
        const phx_http_event event = phx_http_parser_feed(&conn->parser, (phx_bytes){NULL, 0}, &n_used);
        assert(event == PHX_HTTP_DONE);
        (void)event;
        conn_dispatch(conn);
        return;
    }
    conn_enter(conn, PHX_HTTP_PHASE_BODY);
    if (conn->parser.wants_continue && evbuffer_get_length(bufferevent_get_input(conn->bev)) == 0)
        (void)phx_http_conn_write(conn, "HTTP/1.1 100 Continue\r\n\r\n", 25);
}

static void conn_dispatch(phx_http_conn *conn)
{
    phx_http *http = conn->http;
    const phx_http_parser *parser = &conn->parser;
    const uint64_t request_id = phx_rng_mix(http->id_seed + http->n_ids++);
    conn_enter(conn, PHX_HTTP_PHASE_OWED);
    conn->reply = phx_http_reply_create(conn, request_id);
    if (!conn->reply) {
        phx_http_conn_refuse(conn, PHX_HTTP_FAULT_NO_MEMORY, false);
        return;
    }
    phx_http_request request = {
        .method = phx_http_parser_view(parser, parser->method),
        .path = phx_http_parser_view(parser, parser->path),
        .query = phx_http_parser_view(parser, parser->query),
        .body = {(const uint8_t *)(parser->body.ptr ? parser->body.ptr : ""), parser->body.n},
        .key_id = conn->key_id,
        .remote = phx_str_of(conn->remote),
        .request_id = request_id,
        .head = parser,
    };
    if (conn->key_id)
        request.key_hash = phx_http_keys_hash(http->keys, conn->key_id);
    http->stats.n_requests++;
    conn->route->handler(conn->route->user, &request, conn->reply);
    phx_http_parser_reset(&conn->parser);
    conn_count_body(conn);
}

phx_str phx_http_request_header(const phx_http_request *request, const char *name)
{
    return phx_http_parser_header(request->head, name);
}

/* Brings the server's sum of body bytes up to date with this connection. */
static void conn_count_body(phx_http_conn *conn)
{
    conn->http->stats.n_body_bytes += conn->parser.body.n - conn->n_body;
    conn->n_body = conn->parser.body.n;
}

static void conn_enter(phx_http_conn *conn, phx_http_phase phase)
{
    if (conn->phase == PHX_HTTP_PHASE_DEAD)
        return;
    conn->phase = phase;
    conn->phase_us = phx_clock_us();
}

/* Bytes out. */

/* Runs when the last unsent byte has gone to the kernel. */
static void conn_on_write(struct bufferevent *bev, void *user)
{
    phx_http_conn *conn = user;
    count_sent(conn);
    if (conn->phase == PHX_HTTP_PHASE_HEAD) {
        conn_pump(conn);
        return;
    }
    if (conn->phase != PHX_HTTP_PHASE_FLUSH)
        return;
    if (conn->is_eof) {
        phx_http_conn_kill(conn, PHX_HTTP_CLOSED_CLIENT);
        return;
    }
    /* Closing with unread bytes in the kernel would reset the connection and take our answer with it. */
    (void)shutdown(bufferevent_getfd(bev), SHUT_WR);
    conn_enter(conn, PHX_HTTP_PHASE_LINGER);
}

static void conn_on_event(struct bufferevent *bev, short what, void *user)
{
    phx_http_conn *conn = user;
    (void)bev;
    const bool is_eof = (what & BEV_EVENT_EOF) != 0;
    conn->is_eof = true;
    if (is_eof && conn->phase == PHX_HTTP_PHASE_FLUSH)
        return; /* it has asked its last and may still read */
    const bool is_between = conn->phase == PHX_HTTP_PHASE_HEAD && !phx_http_parser_began(&conn->parser);
    if (is_eof && is_between && phx_http_conn_unsent(conn) > 0) {
        conn_enter(conn, PHX_HTTP_PHASE_FLUSH);
        return;
    }
    phx_http_conn_kill(conn, PHX_HTTP_CLOSED_CLIENT);
}

/* Time. */

static bool is_past(uint64_t since_us, uint64_t now_us, uint64_t limit_ms)
{
    return now_us > since_us && now_us - since_us > limit_ms * 1000;
}

static bool reads_too_slowly(phx_http_conn *conn, uint64_t now_us)
{
    const phx_http_limits *limits = &conn->http->limits;
    const size_t n_unsent = phx_http_conn_unsent(conn);
    if (n_unsent == 0 || conn->n_written - n_unsent > conn->n_counted)
        conn->sent_us = now_us;
    count_sent(conn);
    const bool is_stream = conn->phase == PHX_HTTP_PHASE_OWED && conn->reply && conn->reply->is_stream;
    if (!is_stream || n_unsent <= limits->unsent_soft_bytes)
        conn->soft_us = 0;
    else if (conn->soft_us == 0)
        conn->soft_us = now_us;
    return (n_unsent > 0 && is_past(conn->sent_us, now_us, limits->unsent_soft_ms)) ||
           (conn->soft_us > 0 && is_past(conn->soft_us, now_us, limits->unsent_soft_ms));
}

static bool body_is_too_slow(const phx_http_conn *conn, uint64_t now_us)
{
    const phx_http_limits *limits = &conn->http->limits;
    return is_past(conn->phase_us, now_us, limits->body_grace_ms) &&
           conn->parser.body.n < (now_us - conn->phase_us) / 1000 * limits->body_rate_bytes_s / 1000;
}

void phx_http_conn_sweep(phx_http_conn *conn, uint64_t now_us)
{
    const phx_http_limits *limits = &conn->http->limits;
    const bool has_begun = phx_http_parser_began(&conn->parser);
    if (reads_too_slowly(conn, now_us)) {
        conn->http->stats.by_fault[PHX_HTTP_FAULT_SLOW_READER]++;
        phx_http_conn_kill(conn, PHX_HTTP_CLOSED_SLOW);
        return;
    }
    switch (conn->phase) {
    case PHX_HTTP_PHASE_HEAD:
        if (has_begun && is_past(conn->phase_us, now_us, limits->header_ms))
            phx_http_conn_refuse(conn, PHX_HTTP_FAULT_HEADER_TIMEOUT, false);
        else if (!has_begun &&
                 is_past(conn->phase_us, now_us, conn->has_served ? limits->idle_ms : limits->header_ms))
            phx_http_conn_refuse(conn, PHX_HTTP_FAULT_IDLE, false);
        break;
    case PHX_HTTP_PHASE_BODY:
        if (body_is_too_slow(conn, now_us))
            phx_http_conn_refuse(conn, PHX_HTTP_FAULT_BODY_TIMEOUT, false);
        break;
    case PHX_HTTP_PHASE_LINGER:
        if (is_past(conn->phase_us, now_us, limits->linger_ms))
            phx_http_conn_kill(conn, PHX_HTTP_CLOSED_REFUSED);
        break;
    case PHX_HTTP_PHASE_OWED:
    case PHX_HTTP_PHASE_FLUSH:
    case PHX_HTTP_PHASE_DEAD:
        break;
    }
}
