/* kernels/device.h - order on a device, as worker/comm needs it: streams, events, copies between them.
 * Owns: the interface. Implementations: kernels/cuda/queue.cu (CUDA, and the same source on the emulator) and
 * tests/comm/host_device.c (host memory). Not here: the ops (kernels/ops.h). */
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
} phx_device;

#endif
