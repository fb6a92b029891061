/* worker/bench_kernels.h - what the files of `--bench kernels` share. Not for others: use bench.h.
 * bench_kernels.c owns memory, timing and the table; bench_ops.c and bench_rows.c own which ops run with
 * which shapes. */
#ifndef PHX_WORKER_BENCH_KERNELS_H
#define PHX_WORKER_BENCH_KERNELS_H

#include "model/dims.h"
#include "worker/bench.h"

#define PHX_BENCH_SHAPE_BYTES 48

typedef struct phx_kernels_bench phx_kernels_bench;

/* One op with one shape, ready to run again and again. */
typedef struct phx_kernel_case {
    const char *op;
    const char *shape; /* for people: "768 x 2048" */
    int64_t n_rows;
    double bytes; /* that must be read from memory: weights and cache entries; of ops that live in the cache
                   * of the processor: all that they read and write */
    double ops;   /* multiplications and additions; 0: no product, and no limit of memory either */
    void (*run)(phx_kernels_bench *bench, void *user);
    void *user;
} phx_kernel_case;

struct phx_kernels_bench {
    const phx_bench_options *options;
    const phx_dims *dims;
    int64_t tp;
    phx_pool *pool;
    phx_ops ops;
    phx_bench_buffer weights; /* larger than the last cache: every run of an op takes the next window */
    size_t weights_at;
    phx_bench_buffer memory; /* activations and lists, given back after each case */
    size_t memory_used;
    double read_limit; /* bytes per second of these threads */
    double ops_limit;  /* operations per second of the level's unit */
    phx_bench_machine_info info;
    phx_buf json;
    phx_json_writer writer;
};

/* Runs every op with every shape and number of rows. */
phx_code phx_bench_ops(phx_kernels_bench *bench, phx_error *err);

/* The ops that read the cache: attention, indexer. */
void phx_bench_cache_ops(phx_kernels_bench *bench, int64_t n_rows);

/* The ops on rows alone: norms, rounding, routing, choice of tokens. */
void phx_bench_row_ops(phx_kernels_bench *bench, int64_t n_rows);

/* Times one case and reports it. */
void phx_bench_case(phx_kernels_bench *bench, const phx_kernel_case *item);

/* n numbers of bytes each, 64-byte aligned, filled with values that every element type reads as finite,
 * near 1 and of either sign. Owned by the bench until memory_used is set back. The sizes are fixed by the
 * shapes. */
void *phx_bench_memory(phx_kernels_bench *bench, int64_t n, size_t bytes);

/* A matrix of the bench's format (or of another) whose data is set by phx_bench_window before each run. */
phx_matrix phx_bench_matrix(phx_kernels_bench *bench, phx_format format, int64_t n_rows, int64_t n_cols);

/* Points the matrix at weights that no cache holds. */
void phx_bench_window(phx_kernels_bench *bench, phx_matrix *matrix);

static inline void *phx_bench_rows(phx_kernels_bench *bench, int64_t n_rows, int64_t width, phx_dtype dtype)
{
    return phx_bench_memory(bench, n_rows * width, phx_dtype_bytes(dtype));
}

static inline double phx_bench_matrix_bytes(const phx_matrix *m)
{
    return (double)m->n_rows * (double)phx_format_row_bytes(m->format, m->n_cols);
}

#endif
