/* base/paths.h - where our files lie: programs beside each other, the control socket, the demo model.
 * Not here: reading the environment; mains pass what they found there. */
#ifndef PHX_BASE_PATHS_H
#define PHX_BASE_PATHS_H

#include "base/status.h"

#include <stddef.h>

#define PHX_PATH_MAX 4096u

/* "DIR/NAME" of a program that lies beside the running one (/proc/self/exe); not checked for existence. */
phx_code phx_path_beside(const char *name, char *ret_path, size_t n_bytes, phx_error *err);

/* The demo model of this installation: launch/demo above the programs' folder (source tree), or
 * ../share/phalanx/demo (installed). PHX_ERR_NOT_FOUND names both. */
phx_code phx_path_demo(char *ret_path, size_t n_bytes, phx_error *err);

/* Folder of our sockets: RUNTIME_DIR/phalanx, or /tmp/phalanx-UID when runtime_dir is NULL or empty
 * ($XDG_RUNTIME_DIR, read by the caller). */
phx_code phx_path_runtime(const char *runtime_dir, char *ret_path, size_t n_bytes, phx_error *err);

/* Where a server's control socket is when nobody says otherwise: "ipc://" + runtime folder + "/control".
 * Server and clients both ask here. */
phx_code phx_path_control(const char *runtime_dir, char *ret_address, size_t n_bytes, phx_error *err);

/* Makes the folder with mode 0700 if absent; refuses one that is a link, of somebody else, or open to others.
 */
phx_code phx_path_make_private(const char *path, phx_error *err);

#endif
