/* coordinator/fleet/launch.h - starting the processes of a group: one worker directly, several through a
 * launch template. Owns: the command line and environment of the launcher, ending it. Not here: what ranks
 * say (fleet.h). */
#ifndef PHX_COORDINATOR_FLEET_LAUNCH_H
#define PHX_COORDINATOR_FLEET_LAUNCH_H

#include <sys/types.h>

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/* Words that a template may use: {n} ranks, {hosts} as given, {worker} the program with all its arguments. */
#define PHX_LAUNCH_MPIRUN       "mpirun -q -n {n} {worker}"
#define PHX_LAUNCH_MPIRUN_HOSTS "mpirun -q -n {n} --host {hosts} {worker}"

typedef struct phx_launch_spec {
    const char *worker_path;   /* of phalanx-worker */
    const char *address;       /* of the rank link */
    const char *key_file;      /* NULL on a Unix socket */
    const char *template_text; /* NULL: directly for one rank, else PHX_LAUNCH_MPIRUN(_HOSTS) */
    const char *hosts;         /* NULL: this host */
    const char *tmp_dir;       /* TMPDIR of the launcher: its session folder is swept with the run folder */
    const char *backend;       /* --backend of the workers */
    bool allow_unproven;
    uint32_t n_ranks;
    uint64_t epoch;
} phx_launch_spec;

/* Starts the launcher in a process group of its own; it is told to end (SIGTERM) when this process dies. */
phx_code phx_launch_start(const phx_launch_spec *spec, pid_t *ret_pid, phx_error *err);

/* "launcher exited with code 137" or "was killed by signal 9". */
void phx_launch_describe(int wait_status, char *text, unsigned n_bytes);

#endif
