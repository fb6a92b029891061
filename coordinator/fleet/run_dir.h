/* coordinator/fleet/run_dir.h - everything of a running coordinator that outlives a process by accident: its
 * folder of sockets and keys, Open MPI's session folder inside it, shared-memory names. Owns: making and
 * sweeping them, and the janitor that sweeps when the coordinator itself was killed. */
#ifndef PHX_COORDINATOR_FLEET_RUN_DIR_H
#define PHX_COORDINATOR_FLEET_RUN_DIR_H

#include "base/status.h"

typedef struct phx_run_dir {
    char path[256]; /* 0700 */
    char name[24];  /* "phx-<hex>": prefix of shared-memory names */
    int janitor_fd; /* write end; the janitor wakes when it closes */
    int janitor_pid;
} phx_run_dir;

/* Makes the folder under $XDG_RUNTIME_DIR or /tmp (parent argument) and starts the janitor, a small child
 * that waits for this process to end, then removes what is left. Call before threads exist. */
phx_code phx_run_dir_create(const char *parent, phx_run_dir *ret_dir, phx_error *err);

/* The janitor also removes the socket that is now at `path`: that very one, never a successor's. */
phx_code phx_run_dir_keep_socket(phx_run_dir *dir, const char *path, phx_error *err);

/* Removes the folder and segments, and ends the janitor. Sockets are left to who made them. */
void phx_run_dir_destroy(phx_run_dir *dir);

/* Removes shared-memory segments of this coordinator; between groups. */
void phx_run_dir_sweep_segments(const char *name);

#endif
