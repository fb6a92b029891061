/* worker/comm/peer.h - does the process of another rank on this host still live?
 * Owns: the identity of a process that survives the reuse of its number. */
#ifndef PHX_WORKER_COMM_PEER_H
#define PHX_WORKER_COMM_PEER_H

#include <stdbool.h>
#include <stdint.h>

typedef struct phx_peer {
    int32_t pid;         /* in its own pid namespace */
    uint64_t start;      /* start time in clock ticks since boot; 0: could not be read */
    uint64_t name_space; /* inode of its pid namespace; 0: could not be read */
} phx_peer;

phx_peer phx_peer_self(void);

/* False only when it is certain that the process ended (or is a zombie). A process of another pid namespace
 * cannot be seen from here and counts as alive; it is then guarded by the timeout alone. */
bool phx_peer_alive(const phx_peer *self, const phx_peer *peer);

#endif
