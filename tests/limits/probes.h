/* tests/limits/probes.h - one function per row of base/limits.list: is something of exactly this size taken?
 * A row without its function does not link. */
#ifndef PHX_TESTS_LIMITS_PROBES_H
#define PHX_TESTS_LIMITS_PROBES_H

#include <stdbool.h>
#include <stddef.h>

#define PHX_LIMIT(name, value, unit, what, past, where) bool takes_##name(size_t n);
#include "base/limits.list"

#endif
