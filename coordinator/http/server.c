/* coordinator/http/server.c - the listener, who may connect, and the life of the server. */
#include "coordinator/http/http.h"

#include <assert.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>
#include <event2/listener.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/rng.h"
#include "coordinator/http/conn.h"

enum { SWEEP_US = 100 * 1000 };

static phx_code http_init(phx_http *http, const phx_http_options *options, phx_error *err);
static phx_code http_listen(phx_http *http, const phx_http_address *address, phx_error *err);
static void http_on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *from,
                           int n_from, void *user);
static void http_on_accept_error(struct evconnlistener *listener, void *user);
static void http_on_reap(void *user);
static void http_on_sweep(void *user);

phx_code phx_http_create(const phx_http_options *options, phx_http **ret_http, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_http_address address;
    phx_http *http = phx_alloc(1, sizeof(*http));
    if (!http) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "HTTP server");
        goto out;
    }
    rc = phx_http_address_parse(options->host, options->port, &address, err);
    if (rc != PHX_OK)
        goto out;
    if (!phx_http_address_is_loopback(&address) && !options->key_file && !options->insecure_no_auth) {
        rc = PHX_FAIL(err, PHX_ERR_DENIED,
                      "listening on %s lets other machines in: give a file of API keys, or "
                      "--insecure-no-auth to serve everybody",
                      options->host);
        goto out;
    }
    http->checks_host = phx_http_address_is_loopback(&address) || options->n_hosts > 0;
    rc = http_init(http, options, err);
    if (rc == PHX_OK)
        rc = http_listen(http, &address, err);
    if (rc != PHX_OK)
        goto out;
    *ret_http = http;
    http = NULL;
out:
    phx_http_destroy(http);
    return rc;
}

static phx_code http_init(phx_http *http, const phx_http_options *options, phx_error *err)
{
    phx_code rc = PHX_OK;
    struct rlimit fds;
    http->loop = options->loop;
    http->routes = options->routes;
    http->n_routes = options->n_routes;
    http->hosts = options->hosts;
    http->n_hosts = options->n_hosts;
    http->limits = options->limits ? *options->limits : phx_http_limits_default();
    http->n_fds_max = getrlimit(RLIMIT_NOFILE, &fds) == 0 ? (uint64_t)fds.rlim_cur : 1024;
    phx_random_bytes(&http->id_seed, sizeof(http->id_seed));
    rc = phx_http_limits_check(&http->limits, err);
    if (rc == PHX_OK && options->key_file)
        rc = phx_http_keys_load(options->key_file, &http->keys, err);
    if (rc == PHX_OK && http->keys) {
        http->n_key_conns = phx_alloc(phx_http_keys_count(http->keys), sizeof(*http->n_key_conns));
        if (!http->n_key_conns)
            rc = PHX_FAIL(err, PHX_ERR_NOMEM, "HTTP server");
    }
    if (rc == PHX_OK)
        rc = phx_loop_timer_create(http->loop, (phx_loop_call){http_on_reap, http}, &http->reaper, err);
    if (rc == PHX_OK)
        rc = phx_loop_timer_create(http->loop, (phx_loop_call){http_on_sweep, http}, &http->sweeper, err);
    return rc;
}

static phx_code http_listen(phx_http *http, const phx_http_address *address, phx_error *err)
{
    phx_code rc = PHX_OK;
    int fd = -1;
    phx_http_address bound;
    socklen_t n_bound = sizeof(bound);
    rc = phx_http_listen(address, &fd, err);
    if (rc != PHX_OK)
        goto out;
    memset(&bound, 0, sizeof(bound));
    if (getsockname(fd, &bound.any, &n_bound) != 0) {
        rc = PHX_FAIL(err, PHX_ERR_IO, "cannot read the address listened on");
        goto out;
    }
    http->port = ntohs(bound.any.sa_family == AF_INET6 ? bound.v6.sin6_port : bound.v4.sin_port);
    /* Backlog 0: the socket listens already. */
    http->listener = evconnlistener_new(phx_loop_base(http->loop), http_on_accept, http,
                                        LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
    if (!http->listener) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "HTTP listener");
        goto out;
    }
    fd = -1;
    evconnlistener_set_error_cb(http->listener, http_on_accept_error);
out:
    if (fd >= 0)
        (void)close(fd);
    return rc;
}

void phx_http_destroy(phx_http *http)
{
    if (!http)
        return;
    http->stopped = (phx_loop_call){NULL, NULL};
    if (http->listener)
        evconnlistener_free(http->listener);
    http->listener = NULL;
    while (http->conns)
        phx_http_conn_kill(http->conns, PHX_HTTP_CLOSED_SERVER);
    if (http->reaper)
        http_on_reap(http);
    phx_loop_timer_destroy(http->reaper);
    phx_loop_timer_destroy(http->sweeper);
    phx_http_keys_destroy(http->keys);
    phx_free(http->n_key_conns);
    phx_free(http);
}

uint16_t phx_http_port(const phx_http *http)
{
    return http->port;
}

const phx_http_stats *phx_http_stats_of(const phx_http *http)
{
    return &http->stats;
}

void phx_http_stop(phx_http *http, phx_loop_call call)
{
    http->stopped = call;
    if (http->is_stopping)
        return;
    http->is_stopping = true;
    evconnlistener_free(http->listener);
    http->listener = NULL;
    phx_http_conn *next = NULL;
    for (phx_http_conn *conn = http->conns; conn; conn = next) {
        next = conn->next;
        const bool is_idle = conn->phase == PHX_HTTP_PHASE_HEAD && !phx_http_parser_began(&conn->parser);
        if (is_idle && phx_http_conn_unsent(conn) == 0)
            phx_http_conn_kill(conn, PHX_HTTP_CLOSED_SERVER);
        else if (is_idle)
            phx_http_conn_finish(conn);
    }
    phx_loop_timer_start(http->reaper, 0); /* there may be none left at all */
}

/* Who may connect. */

static phx_http_fault admit(const phx_http *http, int fd, const phx_http_peer *peer)
{
    /* Descriptors are given out lowest first, so a high number means that few are left. */
    if ((uint64_t)fd + http->limits.n_fds_reserved >= http->n_fds_max)
        return PHX_HTTP_FAULT_N_FDS;
    if (http->stats.n_conns_open >= http->limits.n_conns)
        return PHX_HTTP_FAULT_N_CONNS;
    uint64_t n_same = 0;
    for (const phx_http_conn *conn = http->conns; conn; conn = conn->next)
        n_same += memcmp(&conn->peer, peer, sizeof(*peer)) == 0;
    return n_same >= http->limits.n_conns_address ? PHX_HTTP_FAULT_N_CONNS_ADDRESS : PHX_HTTP_FAULT_NONE;
}

/* One answer into the empty send buffer of a new socket, without waiting. */
static void turn_away(phx_http *http, int fd, phx_http_fault fault)
{
    char waste[16384];
    phx_http_error error;
    phx_buf body;
    phx_buf out;
    phx_buf_init(&body, 4096);
    phx_buf_init(&out, 16384);
    phx_http_fault_error(fault, &error);
    phx_http_error_json(&error, &body);
    const phx_http_header retry = {"Retry-After", "1"};
    phx_http_reply_head(&out,
                        &(phx_http_response){.status = error.status,
                                             .content_type = "application/json",
                                             .headers = &retry,
                                             .n_headers = error.retry_after_s ? 1 : 0},
                        phx_rng_mix(http->id_seed + http->n_ids++));
    (void)phx_buf_printf(&out, "Content-Length: %zu\r\nConnection: close\r\n\r\n", body.n);
    if (body.n)
        (void)phx_buf_append(&out, body.ptr, body.n);
    if (out.code == PHX_OK && send(fd, out.ptr, out.n, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)out.n)
        http->stats.by_status[error.status - 100]++;
    http->stats.by_fault[fault]++;
    phx_buf_done(&out);
    phx_buf_done(&body);
    /* A request that is here already would turn the close into a reset, and the answer would be lost. */
    (void)shutdown(fd, SHUT_WR);
    (void)recv(fd, waste, sizeof(waste), MSG_DONTWAIT);
    (void)close(fd);
}

static void http_on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *from,
                           int n_from, void *user)
{
    phx_http *http = user;
    phx_http_address address;
    (void)listener;
    memset(&address, 0, sizeof(address));
    memcpy(&address, from, (size_t)n_from < sizeof(address) ? (size_t)n_from : sizeof(address));
    const phx_http_peer peer = phx_http_peer_of(&address);
    phx_http_fault fault = admit(http, fd, &peer);
    if (fault == PHX_HTTP_FAULT_NONE && phx_http_conn_open(http, fd, &address) != PHX_OK)
        fault = PHX_HTTP_FAULT_NO_MEMORY;
    if (fault != PHX_HTTP_FAULT_NONE)
        turn_away(http, fd, fault);
    else if (!http->conns->next) /* the first: the sweeper sleeps while there is none */
        phx_loop_timer_start(http->sweeper, SWEEP_US);
}

/* Out of descriptors or kernel memory: the connection stays in the backlog and would wake us at once again.
 */
static void http_on_accept_error(struct evconnlistener *listener, void *user)
{
    phx_http *http = user;
    http->stats.by_fault[PHX_HTTP_FAULT_N_FDS]++;
    (void)evconnlistener_disable(listener);
    http->is_paused = true;
    phx_loop_timer_start(http->sweeper, SWEEP_US);
}

static void http_on_reap(void *user)
{
    phx_http *http = user;
    while (http->dead) {
        phx_http_conn *conn = http->dead;
        http->dead = conn->next;
        phx_http_conn_reap(conn);
    }
    if (http->is_stopping && !http->conns && http->stopped.fn) {
        const phx_loop_call call = http->stopped;
        http->stopped = (phx_loop_call){NULL, NULL};
        call.fn(call.user);
    }
}

static void http_on_sweep(void *user)
{
    phx_http *http = user;
    const uint64_t now_us = phx_clock_us();
    if (http->is_paused && http->listener) {
        http->is_paused = false;
        (void)evconnlistener_enable(http->listener);
    }
    phx_http_conn *next = NULL;
    for (phx_http_conn *conn = http->conns; conn; conn = next) {
        next = conn->next;
        phx_http_conn_sweep(conn, now_us);
    }
    if (http->conns)
        phx_loop_timer_start(http->sweeper, SWEEP_US);
}
