/* kernels/device.h - order on a device, as worker/comm needs it: streams, events, copies between them.
 * Owns: the interface. Implementations: kernels/cuda/queue.cu and peers.cu (CUDA, and the same source on the
 * emulator) and tests/comm/host_device.c (host memory). Not here: the ops (kernels/ops.h). */
#ifndef PHX_KERNELS_DEVICE_H
#define PHX_KERNELS_DEVICE_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* sum[i] = ((p0+p1)+(p2+p3))+((p4+p5)+(p6+p7)) of p_r = parts[r * stride + i], each addition rounded to f32;
 * the tree of fewer parts is its left subtree (worker/comm/tree.h). sum does not overlap parts. */
typedef struct phx_device_tree {
    float *sum;
    const float *parts; /* [n_parts][stride] */
    size_t stride;      /* elements */
    size_t n;           /* 1 or more, <= stride */
    uint32_t n_parts;   /* 2, 4 or 8 */
} phx_device_tree;

typedef struct phx_device_copy { /* between any two of host and device memory */
    void *to;
    const void *from;
    size_t n_bytes;
} phx_device_copy;

/* ---- devices that reach each other's memory ---- */

#define PHX_DEVICE_PEERS_MAX       8u
#define PHX_DEVICE_ROOM_HEAD_BYTES ((size_t)8192)
#define PHX_DEVICE_ROOM_UNIT_BYTES ((size_t)2 << 20) /* smaller pieces share pages with other memory */

/* What another process needs to open a room of this device. */
typedef struct phx_device_offer {
    unsigned char handle[64]; /* cudaIpcMemHandle_t */
    char where[32];           /* the device as the driver names it; ends with 0 */
} phx_device_offer;

/* Bytes of a room, which a rank offers to its peers: flags and two slots, a multiple of the unit. */
static inline size_t phx_device_room_bytes(size_t slot_bytes)
{
    return (PHX_DEVICE_ROOM_HEAD_BYTES + 2 * slot_bytes + PHX_DEVICE_ROOM_UNIT_BYTES - 1) /
           PHX_DEVICE_ROOM_UNIT_BYTES * PHX_DEVICE_ROOM_UNIT_BYTES;
}

/* values[i] becomes the sum over the ranks, added in the order of phx_device_tree. All ranks queue the same
 * exchanges on one stream each; nothing of it depends on how often, so a captured one can be replayed. */
typedef struct phx_device_exchange {
    float *values;                     /* [n] */
    size_t n;                          /* at most slot_bytes / 4; 0: no sum, only waits until all are here */
    void *rooms[PHX_DEVICE_PEERS_MAX]; /* by rank, as this device sees them; the own one among them */
    size_t slot_bytes;                 /* a multiple of 16 */
    uint32_t n_ranks, rank;            /* 2, 4 or 8 */
    bool in_two_shots;     /* each rank adds a share, then all read the sums; else everyone adds everything */
    const uint32_t *alarm; /* not 0 ends the waiting of what is queued; values mean nothing then */
} phx_device_exchange;

typedef struct phx_device_peers {
    /* Zeroed memory of this device that others may open; the device's release gives it back, once nobody has
     * it open. */
    phx_code (*offer)(void *user, size_t n_bytes, void **ret_room, phx_device_offer *ret_offer,
                      phx_error *err);
    /* The room behind an offer of another process of this host. Fails where the devices do not reach each
     * other, with the reason. */
    phx_code (*open)(void *user, const phx_device_offer *offer, void **ret_room, phx_error *err);
    void (*close)(void *user, void *room); /* accepts NULL, as the next */
    /* A word of host memory that kernels see too, 0 at first. */
    phx_code (*alarm_create)(void *user, uint32_t **ret_alarm, phx_error *err);
    void (*alarm_destroy)(void *user, uint32_t *alarm);
    phx_code (*exchange)(void *user, void *stream, const phx_device_exchange *what, phx_error *err);
} phx_device_peers;

/* A stream runs in order what is queued on it; an event marks a place in a stream. Streams and events are
 * cudaStream_t and cudaEvent_t, or the emulator's. What queues returns at once. Of one thread. */
typedef struct phx_device {
    void *user;
    phx_code (*alloc)(void *user, size_t n_bytes, void **ret_memory, phx_error *err); /* not zeroed */
    void (*release)(void *user, void *memory); /* accepts NULL, as the other two below */
    phx_code (*stream_create)(void *user, void **ret_stream, phx_error *err);
    void (*stream_destroy)(void *user, void *stream); /* after what is queued on it */
    phx_code (*event_create)(void *user, void **ret_event, phx_error *err);
    void (*event_destroy)(void *user, void *event);
    /* The event is now what has been queued on the stream so far. */
    phx_code (*record)(void *user, void *event, void *stream, phx_error *err);
    /* What is queued on the stream from now on waits for the event as it was recorded last. */
    phx_code (*follow)(void *user, void *stream, void *event, phx_error *err);
    /* Has the event passed? True when it was never recorded. Never waits. */
    phx_code (*is_done)(void *user, void *event, bool *ret_done, phx_error *err);
    phx_code (*copy)(void *user, void *stream, const phx_device_copy *copy, phx_error *err);
    phx_code (*tree_add)(void *user, void *stream, const phx_device_tree *tree, phx_error *err);
    const phx_device_peers *peers; /* NULL: this device shares no memory */
    /* The stream does nothing for so long; the emulator, whose times mean nothing, does not wait. NULL:
     * cannot. */
    phx_code (*pause)(void *user, void *stream, uint64_t ns, phx_error *err);
} phx_device;

#endif
