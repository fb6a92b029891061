/* proto/link.c - sockets: options, binding, connecting, messages in and out.
 * Each link has a ZeroMQ context of its own, because ZAP has one handler per context and so the allowed key
 * is the link's. A DEALER watches itself through a monitor socket: ZeroMQ alone never says that a peer is
 * gone. */
#include "proto/link_private.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#include "base/alloc.h"
#include "base/clock.h"

#define HANDSHAKE_MS         5000
#define HEARTBEAT_MS         500
#define HEARTBEAT_TIMEOUT_MS 1500
#define ADDRESS_BYTES        512u
#define BROKEN_EVENTS                                                                   \
    (ZMQ_EVENT_CLOSED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | \
     ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH)

struct phx_link {
    void *context;
    void *socket;
    void *monitor; /* DEALER only: PAIR that delivers BROKEN_EVENTS */
    phx_zap *zap;  /* ROUTER with keys only */
    bool is_router;
    bool is_lost;                /* DEALER: the connection ended; for good */
    int broken_event;            /* which event said so */
    char bound_path[128];        /* of our Unix socket, "" otherwise */
    char address[ADDRESS_BYTES]; /* as bound, with the port that was picked */
};

static phx_code open_link(const char *address, bool is_router, phx_link **ret_link, phx_error *err);
static phx_code set_options(phx_link *link, const char *address, const phx_link_keys *keys, phx_error *err);
static phx_code start_monitor(phx_link *link, phx_error *err);
static phx_code await_peer(phx_link *link, const char *address, const phx_link_keys *keys, phx_error *err);
static void drain_monitor(phx_link *link);

/* ---------------------------------------------------------------- opening and closing */

static bool is_tcp(const char *address)
{
    return strncmp(address, "tcp://", 6) == 0;
}

static phx_code check_address(const char *address, const phx_link_keys *keys, phx_error *err)
{
    if (strlen(address) >= ADDRESS_BYTES)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "control address longer than %u bytes", ADDRESS_BYTES - 1);
    if (!is_tcp(address) && strncmp(address, "ipc:///", 7) != 0)
        return PHX_FAIL(err, PHX_ERR_INVALID,
                        "control address '%s' is neither tcp://host:port nor ipc:///path", address);
    if (is_tcp(address) && !keys)
        return PHX_FAIL(err, PHX_ERR_INVALID, "'%s' needs a key file: control over tcp is never open",
                        address);
    return PHX_OK;
}

phx_code phx_link_bind(const char *address, const phx_link_keys *keys, phx_link **ret_link, phx_error *err)
{
    phx_link *link = NULL;
    phx_code rc = check_address(address, keys, err);
    if (rc == PHX_OK && !is_tcp(address))
        rc = phx_link_path_prepare(address + strlen("ipc://"), err);
    if (rc == PHX_OK)
        rc = open_link(address, true, &link, err);
    if (rc == PHX_OK && keys)
        rc = phx_zap_start(link->context, keys->client_public, &link->zap, err);
    if (rc == PHX_OK)
        rc = set_options(link, address, keys, err);
    if (rc != PHX_OK)
        goto out;
    if (zmq_bind(link->socket, address) != 0) {
        const int failed = zmq_errno();
        rc = PHX_FAIL(err, failed == EADDRINUSE ? PHX_ERR_IN_USE : PHX_ERR_IO,
                      "cannot bind '%s': %s (a numeric address or interface name and a port are needed)",
                      address, zmq_strerror(failed));
        goto out;
    }
    if (!is_tcp(address))
        (void)phx_str_copy(link->bound_path, sizeof(link->bound_path),
                           phx_str_of(address + strlen("ipc://")));
    size_t n = sizeof(link->address);
    if (zmq_getsockopt(link->socket, ZMQ_LAST_ENDPOINT, link->address, &n) != 0) {
        rc = PHX_FAIL(err, PHX_ERR_IO, "bound address: %s", zmq_strerror(zmq_errno()));
        goto out;
    }
    *ret_link = link;
    link = NULL;
out:
    phx_link_close(link);
    return rc;
}

phx_code phx_link_connect(const char *address, const phx_link_keys *keys, const char *identity,
                          phx_link **ret_link, phx_error *err)
{
    phx_link *link = NULL;
    phx_code rc = check_address(address, keys, err);
    if (rc == PHX_OK && identity && (!identity[0] || strlen(identity) > PHX_LINK_PEER_MAX))
        rc = PHX_FAIL(err, PHX_ERR_INVALID, "routing id '%s' must have 1 to %u bytes", identity,
                      PHX_LINK_PEER_MAX);
    if (rc == PHX_OK)
        rc = open_link(address, false, &link, err);
    if (rc == PHX_OK)
        rc = set_options(link, address, keys, err);
    /* Without an identity the ROUTER draws one that no other peer has. */
    if (rc == PHX_OK && identity &&
        zmq_setsockopt(link->socket, ZMQ_ROUTING_ID, identity, strlen(identity)) != 0)
        rc = PHX_FAIL(err, PHX_ERR_INVALID, "routing id '%s': %s", identity, zmq_strerror(zmq_errno()));
    if (rc == PHX_OK)
        rc = start_monitor(link, err);
    if (rc == PHX_OK && zmq_connect(link->socket, address) != 0)
        rc = PHX_FAIL(err, PHX_ERR_INVALID, "cannot connect to '%s': %s", address, zmq_strerror(zmq_errno()));
    if (rc == PHX_OK)
        rc = await_peer(link, address, keys, err);
    if (rc != PHX_OK)
        goto out;
    *ret_link = link;
    link = NULL;
out:
    phx_link_close(link);
    return rc;
}

void phx_link_close(phx_link *link)
{
    if (!link)
        return;
    if (link->monitor) {
        (void)zmq_socket_monitor(link->socket, NULL, 0);
        (void)zmq_close(link->monitor);
    }
    if (link->bound_path[0]) /* while we still listen, so that it cannot be a successor's */
        (void)unlink(link->bound_path);
    if (link->socket)
        (void)zmq_close(link->socket);
    if (link->context) {
        (void)zmq_ctx_shutdown(link->context);
        phx_zap_join(link->zap);
        while (zmq_ctx_term(link->context) != 0 && zmq_errno() == EINTR)
            continue;
    }
    phx_free(link);
}

static phx_code open_link(const char *address, bool is_router, phx_link **ret_link, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_link *link = phx_alloc(1, sizeof(*link));
    if (!link) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "control link");
        goto out;
    }
    link->is_router = is_router;
    (void)phx_str_copy(link->address, sizeof(link->address), phx_str_of(address));
    link->context = zmq_ctx_new();
    link->socket = link->context ? zmq_socket(link->context, is_router ? ZMQ_ROUTER : ZMQ_DEALER) : NULL;
    if (!link->socket) {
        rc = PHX_FAIL(err, PHX_ERR_IO, "control socket: %s", zmq_strerror(zmq_errno()));
        goto out;
    }
    *ret_link = link;
    link = NULL;
out:
    phx_link_close(link);
    return rc;
}

/* reliability.md 3.3. */
static phx_code set_options(phx_link *link, const char *address, const phx_link_keys *keys, phx_error *err)
{
    const bool router = link->is_router, tcp = is_tcp(address);
    const struct {
        bool wanted;
        int option;
        int value;
        const char *name;
    } numbers[] = {
        {true, ZMQ_LINGER, 0, "LINGER"},
        {true, ZMQ_SNDHWM, PHX_LINK_QUEUE_MAX, "SNDHWM"},
        {true, ZMQ_RCVHWM, PHX_LINK_QUEUE_MAX, "RCVHWM"},
        {true, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS, "HANDSHAKE_IVL"},
        {router, ZMQ_ROUTER_MANDATORY, 1, "ROUTER_MANDATORY"},
        {!router, ZMQ_IMMEDIATE, 1, "IMMEDIATE"},          /* queue to a peer, never to a hope */
        {!router, ZMQ_RECONNECT_IVL, -1, "RECONNECT_IVL"}, /* a link is one connection */
        {tcp, ZMQ_HEARTBEAT_IVL, HEARTBEAT_MS, "HEARTBEAT_IVL"},
        {tcp, ZMQ_HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS, "HEARTBEAT_TIMEOUT"},
        {tcp, ZMQ_HEARTBEAT_TTL, HEARTBEAT_TIMEOUT_MS, "HEARTBEAT_TTL"},
        {tcp && strchr(address, '[') != NULL, ZMQ_IPV6, 1, "IPV6"},
        {router && keys, ZMQ_CURVE_SERVER, 1, "CURVE_SERVER"},
    };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if (numbers[i].wanted &&
            zmq_setsockopt(link->socket, numbers[i].option, &numbers[i].value, sizeof(int)) != 0)
            return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "libzmq refuses %s: %s", numbers[i].name,
                            zmq_strerror(zmq_errno()));
    const int64_t message_max = PHX_MESSAGE_MAX;
    if (zmq_setsockopt(link->socket, ZMQ_MAXMSGSIZE, &message_max, sizeof(message_max)) != 0)
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "libzmq refuses MAXMSGSIZE: %s", zmq_strerror(zmq_errno()));
    if (!keys)
        return PHX_OK;
    const struct {
        bool wanted;
        int option;
        const char *value;
    } texts[] = {
        {router, ZMQ_ZAP_DOMAIN, "phalanx"},
        {router, ZMQ_CURVE_SECRETKEY, keys->server_secret},
        {!router, ZMQ_CURVE_SERVERKEY, keys->server_public},
        {!router, ZMQ_CURVE_PUBLICKEY, keys->client_public},
        {!router, ZMQ_CURVE_SECRETKEY, keys->client_secret},
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        /* Z85 keys are given with their terminator, the domain without. */
        const size_t n = strlen(texts[i].value) + (texts[i].option == ZMQ_ZAP_DOMAIN ? 0 : 1);
        if (texts[i].wanted && zmq_setsockopt(link->socket, texts[i].option, texts[i].value, n) != 0)
            return PHX_FAIL(err, PHX_ERR_INVALID, "a CURVE key is missing or malformed: %s",
                            zmq_strerror(zmq_errno()));
    }
    return PHX_OK;
}

/* ---------------------------------------------------------------- the state of a DEALER's connection */

static phx_code start_monitor(phx_link *link, phx_error *err)
{
    const int linger = 0;
    if (zmq_socket_monitor(link->socket, "inproc://monitor", BROKEN_EVENTS) != 0)
        return PHX_FAIL(err, PHX_ERR_IO, "connection monitor: %s", zmq_strerror(zmq_errno()));
    link->monitor = zmq_socket(link->context, ZMQ_PAIR);
    if (!link->monitor || zmq_setsockopt(link->monitor, ZMQ_LINGER, &linger, sizeof(linger)) != 0 ||
        zmq_connect(link->monitor, "inproc://monitor") != 0)
        return PHX_FAIL(err, PHX_ERR_IO, "connection monitor: %s", zmq_strerror(zmq_errno()));
    return PHX_OK;
}

/* An event is two parts: number and value in 6 bytes, then the endpoint. The first event tells the cause. */
static void drain_monitor(phx_link *link)
{
    for (;;) {
        uint8_t head[8];
        const int n = zmq_recv(link->monitor, head, sizeof(head), ZMQ_DONTWAIT);
        if (n < 0)
            return;
        int more = 0;
        size_t more_bytes = sizeof(more);
        (void)zmq_getsockopt(link->monitor, ZMQ_RCVMORE, &more, &more_bytes);
        if (more) {
            char endpoint[ADDRESS_BYTES];
            (void)zmq_recv(link->monitor, endpoint, sizeof(endpoint), ZMQ_DONTWAIT);
        }
        uint16_t event = 0;
        if (n == 6)
            memcpy(&event, head, sizeof(event));
        if ((event & BROKEN_EVENTS) == 0)
            continue;
        if (!link->is_lost)
            link->broken_event = event;
        link->is_lost = true;
    }
}

/* With IMMEDIATE a DEALER can be written to exactly when the handshake is over. */
static phx_code await_peer(phx_link *link, const char *address, const phx_link_keys *keys, phx_error *err)
{
    const uint64_t end_us = phx_clock_us() + PHX_LINK_CONNECT_MS * 1000u;
    for (;;) {
        zmq_pollitem_t items[] = {{.socket = link->socket, .events = ZMQ_POLLOUT},
                                  {.socket = link->monitor, .events = ZMQ_POLLIN}};
        const uint64_t now_us = phx_clock_us();
        if (now_us >= end_us)
            return PHX_FAIL(err, PHX_ERR_UNAVAILABLE, "no answer from '%s' within %d ms", address,
                            PHX_LINK_CONNECT_MS);
        if (zmq_poll(items, 2, (long)((end_us - now_us) / 1000u) + 1) < 0 && zmq_errno() != EINTR)
            return PHX_FAIL(err, PHX_ERR_IO, "poll of '%s': %s", address, zmq_strerror(zmq_errno()));
        if (items[0].revents & ZMQ_POLLOUT)
            return PHX_OK;
        drain_monitor(link);
        if (!link->is_lost)
            continue;
        if (link->broken_event == ZMQ_EVENT_CLOSED)
            return PHX_FAIL(err, PHX_ERR_UNAVAILABLE, "nobody serves '%s'; is the coordinator running?",
                            address);
        if (link->broken_event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH ||
            link->broken_event == ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL)
            return PHX_FAIL(err, PHX_ERR_DENIED,
                            "'%s' refuses us: wrong key file, or not a Phalanx coordinator", address);
        return PHX_FAIL(err, PHX_ERR_UNAVAILABLE,
                        "'%s' closed the connection during the handshake: it is stopping%s", address,
                        keys ? ", or the key file is that of another coordinator" : "");
    }
}

/* ---------------------------------------------------------------- messages */

const char *phx_link_address(const phx_link *link)
{
    return link->address;
}

int phx_link_fd(const phx_link *link)
{
    int fd = -1;
    size_t n = sizeof(fd);
    (void)zmq_getsockopt(link->socket, ZMQ_FD, &fd, &n);
    return fd;
}

/* One whole message of at most two parts; more_parts tells whether there were others, which are dropped.
 * PHX_ERR_NOT_FOUND without a text. */
static phx_code receive_parts(phx_link *link, zmq_msg_t parts[2], int *ret_n_parts, phx_error *err)
{
    int n_parts = 0;
    for (int more = 1; more;) {
        zmq_msg_t surplus;
        zmq_msg_t *part = n_parts < 2 ? &parts[n_parts] : &surplus;
        if (part == &surplus)
            (void)zmq_msg_init(&surplus);
        int n;
        do
            n = zmq_msg_recv(part, link->socket, ZMQ_DONTWAIT);
        while (n < 0 && zmq_errno() == EINTR);
        const int failed = n < 0 ? zmq_errno() : 0;
        more = n >= 0 && zmq_msg_more(part);
        if (part == &surplus)
            (void)zmq_msg_close(&surplus);
        if (failed == EAGAIN && n_parts == 0)
            return PHX_ERR_NOT_FOUND;
        if (failed)
            return PHX_FAIL(err, PHX_ERR_IO, "receive on '%s': %s", link->address, zmq_strerror(failed));
        n_parts++;
    }
    *ret_n_parts = n_parts;
    return PHX_OK;
}

/* ret_taken is false for a message that no link of ours sends. */
static phx_code receive_one(phx_link *link, phx_peer *ret_peer, phx_buf *message, bool *ret_taken,
                            phx_error *err)
{
    zmq_msg_t parts[2];
    (void)zmq_msg_init(&parts[0]);
    (void)zmq_msg_init(&parts[1]);
    int n_parts = 0;
    bool taken = false;
    phx_code rc = receive_parts(link, parts, &n_parts, err);
    if (rc != PHX_OK)
        goto out;
    zmq_msg_t *body = link->is_router ? &parts[1] : &parts[0];
    const size_t n_id = link->is_router ? zmq_msg_size(&parts[0]) : 0;
    taken = n_parts == (link->is_router ? 2 : 1) && n_id <= PHX_LINK_PEER_MAX;
    if (!taken)
        goto out;
    if (link->is_router) {
        ret_peer->n = (uint32_t)n_id;
        memcpy(ret_peer->id, zmq_msg_data(&parts[0]), n_id);
    }
    phx_buf_clear(message);
    rc = phx_buf_append(message, zmq_msg_data(body), zmq_msg_size(body));
    if (rc != PHX_OK)
        rc = PHX_FAIL(err, rc, "a message of %zu bytes does not fit a buffer of %zu", zmq_msg_size(body),
                      message->n_max);
out:
    (void)zmq_msg_close(&parts[0]);
    (void)zmq_msg_close(&parts[1]);
    if (rc == PHX_OK)
        *ret_taken = taken;
    return rc;
}

phx_code phx_link_receive(phx_link *link, phx_peer *ret_peer, phx_buf *message, phx_error *err)
{
    assert(!link->is_router || ret_peer);
    bool was_lost = false;
    for (;;) {
        bool taken = false;
        const phx_code rc = receive_one(link, ret_peer, message, &taken, err);
        if (rc == PHX_OK && !taken)
            continue;
        if (rc != PHX_ERR_NOT_FOUND || !link->monitor)
            return rc;
        drain_monitor(link);
        if (!link->is_lost)
            return rc;
        if (was_lost) /* the queue was empty after the loss was known */
            return PHX_FAIL(err, PHX_ERR_UNAVAILABLE, "the connection to '%s' is lost", link->address);
        was_lost = true;
    }
}

bool phx_link_wait(phx_link *link, int extra_fd, int timeout_ms)
{
    if (link->is_lost)
        return true;
    zmq_pollitem_t items[3] = {{.socket = link->socket, .events = ZMQ_POLLIN}};
    int n_items = 1;
    if (extra_fd >= 0)
        items[n_items++] = (zmq_pollitem_t){.fd = extra_fd, .events = ZMQ_POLLIN};
    if (link->monitor)
        items[n_items++] = (zmq_pollitem_t){.socket = link->monitor, .events = ZMQ_POLLIN};
    return zmq_poll(items, n_items, timeout_ms) > 0;
}

phx_code phx_link_send(phx_link *link, const phx_peer *peer, phx_bytes message, phx_error *err)
{
    assert(link->is_router == (peer != NULL));
    if (message.n > PHX_MESSAGE_MAX)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "message of %zu bytes, the limit is %u", message.n,
                        PHX_MESSAGE_MAX);
    /* Makes libzmq look at what its I/O thread has told it: otherwise a peer that is gone is still believed
     * in. */
    int events = 0;
    size_t n_events = sizeof(events);
    (void)zmq_getsockopt(link->socket, ZMQ_EVENTS, &events, &n_events);
    if (link->monitor)
        drain_monitor(link);
    if (link->is_lost)
        return PHX_FAIL(err, PHX_ERR_UNAVAILABLE, "the connection to '%s' is lost", link->address);
    int n = 0;
    if (peer)
        n = zmq_send(link->socket, peer->id, peer->n, ZMQ_DONTWAIT | ZMQ_SNDMORE);
    if (n >= 0)
        n = zmq_send(link->socket, message.n ? (const void *)message.ptr : "", message.n, ZMQ_DONTWAIT);
    if (n >= 0)
        return PHX_OK;
    const int failed = zmq_errno();
    if (failed == EHOSTUNREACH)
        return PHX_FAIL(err, PHX_ERR_UNAVAILABLE, "the peer is not connected to '%s' any more",
                        link->address);
    if (failed == EAGAIN)
        return PHX_FAIL(err, PHX_ERR_UNAVAILABLE, "%d messages to a peer of '%s' are waiting already",
                        PHX_LINK_QUEUE_MAX, link->address);
    return PHX_FAIL(err, PHX_ERR_IO, "send on '%s': %s", link->address, zmq_strerror(failed));
}
