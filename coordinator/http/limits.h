/* coordinator/http/limits.h - every bound of a connection, as fields that may be configured.
 * Not here: the rows themselves, with defaults and ceilings (base/limits.list). */
#ifndef PHX_COORDINATOR_HTTP_LIMITS_H
#define PHX_COORDINATOR_HTTP_LIMITS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct phx_http_limits {
#define PHX_LIMIT_HTTP(field, value, ceiling, what) uint64_t field;
#include "base/limits.list"
} phx_http_limits;

phx_http_limits phx_http_limits_default(void);

/* Every limit between 1 and its ceiling, soft below hard. PHX_ERR_INVALID names the first that is not. */
phx_code phx_http_limits_check(const phx_http_limits *limits, phx_error *err);

#endif
