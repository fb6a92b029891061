/* coordinator/http/keys.h - who may ask: API keys from a file, kept as hashes.
 * Owns: the hashes. A key itself is nowhere in memory after loading. */
#ifndef PHX_COORDINATOR_HTTP_KEYS_H
#define PHX_COORDINATOR_HTTP_KEYS_H

#include <stdint.h>

#include "base/hash.h"
#include "base/limits.h"
#include "base/status.h"
#include "base/str.h"

#define PHX_HTTP_KEY_BYTES_MIN 8u

typedef struct phx_http_keys phx_http_keys;

/* One key per line, printable ASCII without spaces; empty lines and lines that start with '#' are skipped.
 * The file must be regular, owned by the user of this process and closed to group and others (PHX_ERR_DENIED
 * otherwise); duplicates, an empty list and malformed lines are PHX_ERR_INVALID and named by line number,
 * never by content. */
phx_code phx_http_keys_load(const char *path, phx_http_keys **ret_keys, phx_error *err);
void phx_http_keys_destroy(phx_http_keys *keys); /* accepts NULL */

size_t phx_http_keys_count(const phx_http_keys *keys);

/* 1-based number of the key among the file's keys, 0 when unknown. Takes the same time for every key. */
uint32_t phx_http_keys_find(const phx_http_keys *keys, phx_str key);
phx_hash phx_http_keys_hash(const phx_http_keys *keys, uint32_t key_id);

#endif
