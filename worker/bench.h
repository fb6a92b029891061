/* worker/bench.h - the measuring modes of phalanx-worker: what the machine can do, how near to it each kernel
 * comes, and one rank of many. They need no coordinator, no checkpoint and no group.
 * Owns: the options of these modes. Not here: the loops at the machine's limits (kernels/cpu/peak.h), the
 * speed of the whole engine (`phalanx bench engine`). */
#ifndef PHX_WORKER_BENCH_H
#define PHX_WORKER_BENCH_H

#include <stdio.h>

#include "base/json.h"
#include "kernels/backend.h"
#include "kernels/cpu/peak.h"

#define PHX_BENCH_BATCH_MAX 256u
#define PHX_BENCH_STEPS_MAX 1000u

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
    struct {                /* rank */
        const char *preset; /* of model/presets.c, or "tiny" */
        const char *format; /* as synth names it; NULL: the preset's */
        const char *layers; /* "0,3": only these are resident; NULL: all */
        uint32_t tp;
        uint32_t rank;
        uint32_t n_batch;
        /* entries that each sequence already has in the cache; 0: 4096, or what the model has */
        uint32_t depth;
        uint32_t n_steps;
        uint32_t latency_ns; /* of a modelled verb */
        uint32_t link_gbs;   /* bytes of a modelled verb, in 10^9 per second */
    } rank;
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
 * 0 measured, 1 could not measure, 2 wrong usage. */
int phx_bench_main(int argc, char **argv);

phx_code phx_bench_machine(const phx_bench_options *options, phx_error *err);
phx_code phx_bench_kernels(const phx_bench_options *options, phx_error *err);
phx_code phx_bench_rank(const phx_bench_options *options, phx_error *err);

/* The threads of options and, over them, the CPU or the device that options.backend names. */
phx_code phx_bench_open_backend(const phx_bench_options *options, phx_pool **ret_pool,
                                phx_backend **ret_backend, phx_error *err);

void phx_bench_machine_describe(phx_bench_machine_info *ret_info);

/* Adds the members chip, date, n_cores, memory_bytes, last_cache_bytes and level to the open object. */
void phx_bench_machine_write(phx_json_writer *w, const phx_bench_machine_info *info);

/* Free with phx_bench_buffer_done. */
phx_code phx_bench_buffer_init(phx_bench_buffer *buffer, size_t n_bytes, phx_error *err);
void phx_bench_buffer_done(phx_bench_buffer *buffer); /* accepts a zeroed one */

#endif
