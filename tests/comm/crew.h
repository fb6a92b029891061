/* tests/comm/crew.h - runs one body as all ranks of a group, on the backend asked for.
 * Owns: starting and joining the ranks, making and destroying their communicators. */
#ifndef PHX_TESTS_COMM_CREW_H
#define PHX_TESTS_COMM_CREW_H

#include <stdbool.h>

#include "worker/comm/comm_nccl.h"

#define PHX_CREW_REPORT_BYTES 512u

/* The last three: NCCL's stand-in, over a group of threads or of processes; and processes with emulated
 * devices that exchange through each other's memory. */
typedef enum phx_crew_backend {
    PHX_CREW_LOOP,
    PHX_CREW_SHM,
    PHX_CREW_NCCL_THREADS,
    PHX_CREW_NCCL,
    PHX_CREW_PEERS,
    PHX_CREW_BACKEND_COUNT
} phx_crew_backend;

static inline bool phx_crew_is_nccl(phx_crew_backend backend)
{
    return backend == PHX_CREW_NCCL_THREADS || backend == PHX_CREW_NCCL;
}

/* False where the build has no emulator. */
bool phx_crew_has(phx_crew_backend backend);

/* One rank; comm is destroyed after it. False with a report says what went wrong. */
typedef bool phx_crew_body(phx_comm *comm, const void *arg, char *report);

/* A rank that dies by SIGKILL counts as good (tests kill on purpose). Each failing rank's report goes to
 * stderr; true when all were good and nothing was left in /dev/shm. shape->rank is filled in. */
bool phx_crew_run(phx_crew_backend backend, const phx_comm_shape *shape, phx_crew_body *body,
                  const void *arg);

/* The same on the stand-in for NCCL, made with these options but its library, stream and, when NULL, device.
 */
bool phx_crew_run_nccl(phx_crew_backend backend, const phx_comm_shape *shape,
                       const phx_comm_nccl_options *options, phx_crew_body *body, const void *arg);

/* The same by hand, for ranks that mpirun started: the stand-in over the given group, which is destroyed with
 * it or on failure. *ret_stream outlives it; NULL options: as phx_crew_run has them. */
phx_code phx_crew_nccl_create(phx_comm *under, const phx_comm_shape *shape,
                              const phx_comm_nccl_options *options, phx_comm **ret_comm, void **ret_stream,
                              phx_error *err);

/* True when /dev/shm holds a name starting with prefix. */
bool phx_crew_leftover(const char *prefix);

#endif
