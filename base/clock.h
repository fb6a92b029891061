/* base/clock.h - monotonic time. Every timeout uses this; wall time appears only in logs and in `created`. */
#ifndef PHX_BASE_CLOCK_H
#define PHX_BASE_CLOCK_H

#include <stdint.h>

uint64_t phx_clock_us(void);    /* CLOCK_MONOTONIC, microseconds */
int64_t phx_clock_wall_s(void); /* seconds since 1970, for `created` fields */

#endif
