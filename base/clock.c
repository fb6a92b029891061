/* base/clock.c - monotonic time. */
#include "base/clock.h"

#include <time.h>

uint64_t phx_clock_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

int64_t phx_clock_wall_s(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec;
}

uint64_t phx_steady_us(phx_steady *steady, uint64_t now_us)
{
    const uint64_t gap_us = now_us - steady->seen_us;
    if (gap_us > PHX_STEADY_GAP_US)
        steady->stood_us += gap_us - PHX_STEADY_GAP_US;
    steady->seen_us = now_us;
    return now_us - steady->stood_us;
}
