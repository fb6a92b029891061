/* worker/bench.h - the measuring modes of phalanx-worker: what the machine can do, and how near to it each
 * kernel comes. They need no coordinator, no model and no group.
 * Owns: the options of these modes. Not here: the loops at the machine's limits (kernels/cpu/peak.h), the
 * speed of the whole engine (`phalanx bench engine`). */
#ifndef PHX_WORKER_BENCH_H
#define PHX_WORKER_BENCH_H

#include <stdio.h>

#include "base/json.h"
#include "kernels/cpu/peak.h"

typedef struct phx_bench_options {
    const char *backend; /* kernels: "cpu", "cuda", "emu" */
    uint32_t n_threads;
    phx_level level;   /* kernels: not above the machine's */
    phx_format format; /* kernels: of the weights that makers quantise */
    const char *shape; /* kernels: a name of worker/bench_kernels.c */
    uint32_t case_ms;  /* kernels: time for each case, about */
    bool read_only;    /* machine: the bandwidth of all threads alone */
    bool json;
    FILE *out;
} phx_bench_options;

typedef struct phx_bench_machine_info {
    char chip[96]; /* as the system calls it; "unknown" when it does not say */
    char date[16]; /* of the measurement, YYYY-MM-DD UTC */
    uint32_t n_cores;
    uint64_t memory_bytes;
    uint64_t cache_bytes; /* last level, 0 when not known */
} phx_bench_machine_info;

/* A buffer of pages that are touched and as large as the system grants. */
typedef struct phx_bench_buffer {
    uint8_t *data;
    size_t n_bytes;
} phx_bench_buffer;

/* Body of `phalanx-worker --bench MODE ...`: argv[0] is "--bench". Prints to stdout; returns the exit code:
 * 0 measured, 2 wrong usage, 3 could not measure. */
int phx_bench_main(int argc, char **argv);

phx_code phx_bench_machine(const phx_bench_options *options, phx_error *err);
phx_code phx_bench_kernels(const phx_bench_options *options, phx_error *err);

void phx_bench_machine_describe(phx_bench_machine_info *ret_info);

/* Adds the members chip, date, n_cores, memory_bytes, last_cache_bytes and level to the open object. */
void phx_bench_machine_write(phx_json_writer *w, const phx_bench_machine_info *info);

/* Free with phx_bench_buffer_done. */
phx_code phx_bench_buffer_init(phx_bench_buffer *buffer, size_t n_bytes, phx_error *err);
void phx_bench_buffer_done(phx_bench_buffer *buffer); /* accepts a zeroed one */

#endif
