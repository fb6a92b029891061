/* proto/link.h - ZeroMQ sockets as the project uses them: one ROUTER per service, one DEALER per peer.
 * Owns: the only include of zmq.h, CURVE keys, socket options (limits, handshake, heartbeats; reliability.md 3.3).
 * Not here: what messages mean (proto/codec.h). Not thread safe: a link belongs to the thread that made it. */
#ifndef PHX_PROTO_LINK_H
#define PHX_PROTO_LINK_H

#include "base/buf.h"
#include "base/status.h"

#define PHX_LINK_MESSAGE_MAX (16u << 20)
#define PHX_LINK_PEER_MAX    64u

typedef struct phx_link phx_link;

/* Who sent a message or whom to send to, on a ROUTER. Opaque bytes of ZeroMQ's routing id. */
typedef struct phx_peer {
    uint8_t id[PHX_LINK_PEER_MAX];
    uint32_t n;
} phx_peer;

/* Key file (0600): server public key, client public and secret key, in Z85 lines "server ...", "public ...", "secret ...".
 * The server's own secret never leaves the process. */
typedef struct phx_link_keys {
    char server_public[41];
    char server_secret[41];
    char client_public[41];
    char client_secret[41];
} phx_link_keys;

phx_code phx_link_keys_make(phx_link_keys *ret_keys, phx_error *err);
phx_code phx_link_keys_write(const phx_link_keys *keys, const char *path, phx_error *err); /* without server_secret */
phx_code phx_link_keys_read(const char *path, phx_link_keys *ret_keys, phx_error *err);    /* refuses group/world-readable */

/* ROUTER. address: "ipc:///path" (Unix socket in a 0700 directory) or "tcp://host:port" (port 0 or * picks one). keys are
 * required for tcp beyond ipc: CURVE with the client key allowed through ZAP; NULL for ipc. */
phx_code phx_link_bind(const char *address, const phx_link_keys *keys, phx_link **ret_link, phx_error *err);
/* DEALER. identity: routing id, unique per epoch and rank ("e3r1"), or NULL for one drawn at random. */
phx_code phx_link_connect(const char *address, const phx_link_keys *keys, const char *identity, phx_link **ret_link,
                          phx_error *err);
void phx_link_close(phx_link *link); /* accepts NULL; never lingers */

const char *phx_link_address(const phx_link *link); /* with the port that was picked */

/* A file descriptor for poll. Edge triggered (stack.md 9): after it fires, and after each send, receive until
 * PHX_ERR_NOT_FOUND. */
int phx_link_fd(const phx_link *link);

/* Next message without waiting, appended to message (cleared first); PHX_ERR_NOT_FOUND when there is none. peer may be NULL
 * on a DEALER. */
phx_code phx_link_receive(phx_link *link, phx_peer *ret_peer, phx_buf *message, phx_error *err);

/* Waits up to timeout_ms (-1: for ever) for a message or for extra_fd (or -1) to become readable. */
bool phx_link_wait(phx_link *link, int extra_fd, int timeout_ms);

/* Never blocks: a full queue or an unknown peer is PHX_ERR_UNAVAILABLE, nothing is dropped silently. peer NULL on a DEALER. */
phx_code phx_link_send(phx_link *link, const phx_peer *peer, phx_bytes message, phx_error *err);

#endif
