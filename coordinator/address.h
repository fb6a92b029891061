/* coordinator/address.h - host lists and HOST:PORT texts as people write them. */
#ifndef PHX_COORDINATOR_ADDRESS_H
#define PHX_COORDINATOR_ADDRESS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* "127.0.0.1:8000", "localhost:0", "[::1]:8000". */
phx_code phx_address_split(const char *text, char *ret_host, size_t n_host_bytes, uint16_t *ret_port,
                           phx_error *err);

/* "a,b:2" as it is, or the lines of a host file ("a slots=2" or "a:2", # comments) joined by commas; empty
 * stays empty. */
phx_code phx_hosts_list(const char *list_or_file, char *ret_list, size_t n_bytes, phx_error *err);

/* Makes a folder and its parents, 0700. */
phx_code phx_path_make_all(const char *path);

#endif
