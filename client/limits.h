/* client/limits.h - what this machine can do, as `phalanx-worker --bench machine` measures it. */
#ifndef PHX_CLIENT_LIMITS_H
#define PHX_CLIENT_LIMITS_H

#include "base/status.h"

#include <stdint.h>

typedef struct phx_machine_limits {
    double read_bytes_per_s;
    double ops_per_s; /* of the fastest multiply unit that the kernels' level uses; 0: none named */
    char unit[48];
    char chip[96];
} phx_machine_limits;

/* What other programs leave of the read bandwidth at this moment: bytes per second that n_threads sustain.
 * A second or so. */
phx_code phx_machine_sustained_measure(uint32_t n_threads, double *ret_bytes_per_s, phx_error *err);

/* Runs the measurement on n_threads threads; seconds. Not to be run while a server computes. */
phx_code phx_machine_limits_measure(uint32_t n_threads, phx_machine_limits *ret_limits, phx_error *err);

#endif
