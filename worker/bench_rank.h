/* worker/bench_rank.h - what the files of `--bench rank` share. Not for others: use bench.h.
 * bench_rank.c owns the rank and its steps, bench_parts.c the time of each part, bench_floor.c what the
 * rank's bytes allow and the table. */
#ifndef PHX_WORKER_BENCH_RANK_H
#define PHX_WORKER_BENCH_RANK_H

#include "model/synth.h"
#include "worker/bench.h"
#include "worker/comm/comm_model.h"
#include "worker/exec/exec.h"

/* Of a step, as reference/performance.md 3.3 adds it up. The shared expert's down projection is in one op
 * with the routed ones, so they are one part. */
#define PHX_RANK_PARTS(X)                         \
    X(PHX_PART_ATTENTION, "attention weights")    \
    X(PHX_PART_CACHE, "cache")                    \
    X(PHX_PART_ROUTER, "router")                  \
    X(PHX_PART_EXPERTS, "routed, shared experts") \
    X(PHX_PART_DENSE, "dense layers' experts")    \
    X(PHX_PART_HEAD, "embedding, head, sampling") \
    X(PHX_PART_ROWS, "norms, rotation, rounding") \
    X(PHX_PART_VERBS, "collectives")

typedef enum phx_rank_part {
#define X(part, name) part,
    PHX_RANK_PARTS(X)
#undef X
        PHX_PART_COUNT
} phx_rank_part;

typedef enum phx_layer_kind { PHX_KIND_DENSE, PHX_KIND_MOE, PHX_KIND_COUNT } phx_layer_kind;

typedef struct phx_rank_times { /* of one step */
    double best_us;
    double median_us;
    double part_us[PHX_PART_COUNT]; /* each op waited for, so their sum is longer than a step on a device */
} phx_rank_times;

typedef struct phx_rank_bench {
    const phx_bench_options *options;
    const phx_preset *preset;
    phx_synth_request synth;            /* of the resident layers */
    phx_dims dims;                      /* of the resident layers */
    int64_t n_all[PHX_KIND_COUNT];      /* layers of the whole model */
    int64_t n_resident[PHX_KIND_COUNT]; /* dense ones come first */
    bool is_emu;
    uint32_t depth; /* entries that each sequence already has */
    phx_bench_machine_info info;
    phx_comm_delay delay;
    phx_pool *pool;
    phx_backend *backend;
    char dir[64]; /* of the sparse checkpoint: headers, no bytes */
    phx_checkpoint *checkpoint;
    phx_plan *plan;
    phx_weights *weights;
    phx_kv_pool *kv;
    phx_comm *comm;
    double read_limit; /* bytes per second; 0: means nothing (emu) */
    double load_s;
    phx_rank_times none;                 /* no layer at all */
    phx_rank_times kind[PHX_KIND_COUNT]; /* only the resident layers of a kind */
    phx_rank_times all;                  /* all resident layers */
} phx_rank_bench;

/* A backend that passes everything on to inner, waits for each op and notes to which part its time belongs.
 * ops of the exec: timer.base.ops. Everything is borrowed. */
typedef struct phx_rank_timer {
    phx_backend base; /* first */
    phx_backend *inner;
    const phx_weights *weights;
    double us[PHX_PART_COUNT];
} phx_rank_timer;
void phx_rank_timer_init(phx_rank_timer *timer, phx_backend *inner, const phx_weights *weights);

/* Prints the table, or JSON. */
phx_code phx_rank_report(const phx_rank_bench *bench, phx_error *err);

#endif
