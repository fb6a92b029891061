/* proto/link.h - ZeroMQ sockets as the project uses them: one ROUTER per service, one DEALER per peer.
 * Owns: the only include of zmq.h, CURVE keys, socket options (limits, handshake, heartbeats;
 * reliability.md 3.3). Not here: what messages mean (proto/codec.h). Not thread safe: a link belongs to the
 * thread that made it. */
#ifndef PHX_PROTO_LINK_H
#define PHX_PROTO_LINK_H

#include "base/buf.h"
#include "base/limits.h"
#include "base/status.h"

#define PHX_LINK_PEER_MAX   64u
#define PHX_LINK_CONNECT_MS 5000
#define PHX_LINK_QUEUE_MAX  8192 /* messages waiting per peer and direction */

typedef struct phx_link phx_link;

/* Who sent a message or whom to send to, on a ROUTER. Opaque bytes of ZeroMQ's routing id. */
typedef struct phx_peer {
    uint8_t id[PHX_LINK_PEER_MAX];
    uint32_t n;
} phx_peer;

/* Key file (0600): server public key, client public and secret key, in Z85 lines "server ...", "public ...",
 * "secret ...". The server's own secret never leaves the process. */
typedef struct phx_link_keys {
    char server_public[41];
    char server_secret[41];
    char client_public[41];
    char client_secret[41];
} phx_link_keys;

phx_code phx_link_keys_make(phx_link_keys *ret_keys, phx_error *err);
phx_code phx_link_keys_write(const phx_link_keys *keys, const char *path,
                             phx_error *err); /* without server_secret */
phx_code phx_link_keys_read(const char *path, phx_link_keys *ret_keys,
                            phx_error *err); /* refuses group/world-readable */

/* ROUTER. address: "ipc:///path" (Unix socket in a directory of ours with mode 0700, which the caller makes;
 * a socket left by a dead process is replaced, one in use is PHX_ERR_IN_USE) or "tcp://host:port" (numeric
 * address or interface name; port 0 or * picks one). keys are required for tcp: CURVE, and of all client keys
 * only client_public is let in; NULL for ipc. */
phx_code phx_link_bind(const char *address, const phx_link_keys *keys, phx_link **ret_link, phx_error *err);
/* DEALER. identity: routing id, unique per epoch and rank ("e3r1"; 1 to 64 bytes), or NULL for one drawn at
 * random. Waits for the handshake, at most PHX_LINK_CONNECT_MS, so that the first send finds its peer.
 * PHX_ERR_UNAVAILABLE at once when nobody listens there (a program that may start before its coordinator
 * tries again), PHX_ERR_DENIED when the other side refuses our key. A link is one connection: when it breaks
 * (the peer died, or answered no heartbeat for 1.5 s on tcp), the link is lost for good; connect a new one.
 */
phx_code phx_link_connect(const char *address, const phx_link_keys *keys, const char *identity,
                          phx_link **ret_link, phx_error *err);
/* Accepts NULL; never lingers: what was sent just before may be lost, so the side that has nothing more to
 * read closes. */
void phx_link_close(phx_link *link);

const char *phx_link_address(const phx_link *link); /* with the port that was picked */

/* A file descriptor for poll or an event loop. Edge triggered, and it does not tell what happened: after it
 * fires, and after each send (which may swallow an edge), receive until PHX_ERR_NOT_FOUND. It fires when a
 * DEALER's peer is gone, too. */
int phx_link_fd(const phx_link *link);

/* Next message without waiting, appended to message (cleared first); PHX_ERR_NOT_FOUND when there is none,
 * without a text in err. ret_peer may be NULL on a DEALER. PHX_ERR_TOO_LONG: the message was larger than the
 * buffer's ceiling and is gone; PHX_ERR_NOMEM: it is gone, too, and ret_peer is whose it was.
 * PHX_ERR_UNAVAILABLE (DEALER): the link is lost and all that had arrived was received. Messages that no link
 * of ours sends (more parts than one) are skipped. */
phx_code phx_link_receive(phx_link *link, phx_peer *ret_peer, phx_buf *message, phx_error *err);

/* Waits up to timeout_ms (-1: for ever) for a message or for extra_fd (or -1) to become readable. True as
 * well when the link is lost, so that the next receive says so; false after the time, and early when a signal
 * arrived. */
bool phx_link_wait(phx_link *link, int extra_fd, int timeout_ms);

/* Never blocks: a full queue, a peer that is unknown or gone, or a lost link is PHX_ERR_UNAVAILABLE, and the
 * message was not sent. PHX_OK means queued: it is lost when the peer dies before reading it. peer NULL on a
 * DEALER. */
phx_code phx_link_send(phx_link *link, const phx_peer *peer, phx_bytes message, phx_error *err);

#endif
