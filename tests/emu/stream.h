/* tests/emu/stream.h - streams and events of the emulator: a thread that runs in order what is queued.
 * Owns: order and completion. A stream is what the emulator calls a cudaStream_t; the stand-in for NCCL,
 * which is another shared library, queues through the functions in the stream itself. */
#ifndef PHX_TESTS_EMU_STREAM_H
#define PHX_TESTS_EMU_STREAM_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct phx_emu_stream phx_emu_stream;
typedef struct phx_emu_event phx_emu_event;
typedef struct phx_emu_recording phx_emu_recording; /* what a stream was asked while it recorded */
typedef void phx_emu_work(void *arg);

typedef struct phx_emu_stream_fns {
    /* Copies n_bytes (at most PHX_EMU_ARG_BYTES) of arg; false when out of memory. */
    bool (*queue)(phx_emu_stream *stream, phx_emu_work *work, const void *arg, size_t n_bytes);
    /* Copies now, on the caller's thread, between memory of the device and of the host: only kernels and
     * copies may touch the emulator's device memory. */
    void (*copy)(phx_emu_stream *stream, void *to, const void *from, size_t n_bytes);
    bool (*is_recording)(phx_emu_stream *stream);
    /* While recording: as queue, for work that can run any number of times. drop (may be NULL) gets the
     * argument when the recording goes. */
    bool (*keep)(phx_emu_stream *stream, phx_emu_work *work, phx_emu_work *drop, const void *arg,
                 size_t n_bytes);
} phx_emu_stream_fns;

struct phx_emu_stream { /* the head of every stream */
    const phx_emu_stream_fns *fns;
};

#define PHX_EMU_ARG_BYTES 128u

/* copy: as in the table above; NULL: all memory is the host's. */
phx_emu_stream *phx_emu_stream_create(void (*copy)(phx_emu_stream *stream, void *to, const void *from,
                                                   size_t n_bytes)); /* NULL: out of memory or threads */
void phx_emu_stream_destroy(phx_emu_stream *stream);                 /* when all is done; accepts NULL */
bool phx_emu_stream_queue(phx_emu_stream *stream, phx_emu_work *work, const void *arg, size_t n_bytes);
void phx_emu_stream_sync(phx_emu_stream *stream);    /* waits until all is done */
bool phx_emu_stream_is_idle(phx_emu_stream *stream); /* all is done; also true on the stream's own thread */

/* From record on nothing may be queued, only kept. recorded ends it and gives what was kept, to be destroyed:
 * NULL when something has spoilt it, as queueing does. */
void phx_emu_stream_record(phx_emu_stream *stream);
phx_emu_recording *phx_emu_stream_recorded(phx_emu_stream *stream);
bool phx_emu_stream_is_recording(phx_emu_stream *stream);
void phx_emu_stream_spoil(phx_emu_stream *stream);
bool phx_emu_stream_keep(phx_emu_stream *stream, phx_emu_work *work, phx_emu_work *drop, const void *arg,
                         size_t n_bytes);
bool phx_emu_stream_replay(phx_emu_stream *stream, const phx_emu_recording *recording);
size_t phx_emu_recording_length(const phx_emu_recording *recording); /* launches, copies, collectives */
void phx_emu_recording_destroy(phx_emu_recording *recording);        /* accepts NULL */

phx_emu_event *phx_emu_event_create(void);
void phx_emu_event_destroy(phx_emu_event *event); /* accepts NULL; what follows it still may */
bool phx_emu_event_record(phx_emu_event *event, phx_emu_stream *stream);
bool phx_emu_event_follow(phx_emu_stream *stream, phx_emu_event *event);
bool phx_emu_event_is_done(const phx_emu_event *event);

#ifdef __cplusplus
}
#endif

#endif
