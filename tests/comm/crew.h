/* tests/comm/crew.h - runs one body as all ranks of a group, on the backend asked for.
 * Owns: starting and joining the ranks, making and destroying their communicators. */
#ifndef PHX_TESTS_COMM_CREW_H
#define PHX_TESTS_COMM_CREW_H

#include <stdbool.h>

#include "worker/comm/comm.h"

#define PHX_CREW_REPORT_BYTES 512u

typedef enum phx_crew_backend { PHX_CREW_LOOP, PHX_CREW_SHM } phx_crew_backend;

/* One rank; comm is destroyed after it. False with a report says what went wrong. */
typedef bool phx_crew_body(phx_comm *comm, const void *arg, char *report);

/* A rank that dies by SIGKILL counts as good (tests kill on purpose). Each failing rank's report goes to
 * stderr; true when all were good and nothing was left in /dev/shm. shape->rank is filled in. */
bool phx_crew_run(phx_crew_backend backend, const phx_comm_shape *shape, phx_crew_body *body,
                  const void *arg);

/* True when /dev/shm holds a name starting with prefix. */
bool phx_crew_leftover(const char *prefix);

#endif
