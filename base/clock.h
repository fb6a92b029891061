/* base/clock.h - monotonic time. Every timeout uses this; wall time appears only in logs, in `created`
 * and where a chat template asks for the date.
 * Owns: the rule of what a pause of this process counts, for how long others may take. */
#ifndef PHX_BASE_CLOCK_H
#define PHX_BASE_CLOCK_H

#include <stdint.h>

uint64_t phx_clock_us(void);    /* CLOCK_MONOTONIC, microseconds */
int64_t phx_clock_wall_s(void); /* seconds since 1970 */

/* Monotonic time in which a pause of this process counts little: a stopped container or machine, or a
 * debugger, stops the others, too, and is nobody's silence. How long another process may take is measured on
 * such a clock, which is looked at all the while; what a client has set as its deadline is not. All zeros
 * before the first look. */
typedef struct phx_steady {
    uint64_t seen_us;  /* the last look */
    uint64_t stood_us; /* pauses left out so far */
} phx_steady;

/* so late can no busy loop look; what is longer between two looks counts as this */
#define PHX_STEADY_GAP_US 1500000u

/* now_us: phx_clock_us(), never less than before. Never goes back either. */
uint64_t phx_steady_us(phx_steady *steady, uint64_t now_us);

#endif
