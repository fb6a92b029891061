/* base/limits.h - the rows of base/limits.list as constants. Each is small enough for an int, so that it
 * compares and multiplies with every integer type without a cast.
 * Not here: limits of a connection, which may be configured (coordinator/http/limits.h); what each field of a
 * control message may carry (proto/limits.h). */
#ifndef PHX_BASE_LIMITS_H
#define PHX_BASE_LIMITS_H

enum {
#define PHX_LIMIT(name, value, unit, what, past, where) name = (value),
#include "base/limits.list"
};

#endif
