/* worker/bench_kernels.h - what the files of `--bench kernels` share. Not for others: use bench.h.
 * bench_kernels.c owns the table and the timing, bench_memory.c the memory; bench_ops.c, bench_rows.c and
 * bench_small.c own which ops run with which shapes.
 *
 * Memory. What phx_bench_memory gives is where ops read and write: device memory where there is a device.
 * Cases write into its mirror (phx_bench_host), which is uploaded before a case is timed; on the CPU both are
 * the same place. */
#ifndef PHX_WORKER_BENCH_KERNELS_H
#define PHX_WORKER_BENCH_KERNELS_H

#include "kernels/backend.h"
#include "model/dims.h"
#include "worker/bench.h"

#define PHX_BENCH_SHAPE_BYTES 48
#define PHX_BENCH_TILE_BYTES  ((size_t)1 << 20)
#define PHX_BENCH_WINDOWS_MAX 16 /* sets of tables of a case whose tables lie in device memory */

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
    int64_t depth; /* entries of the cache that a row reads, a multiple of 64 */
    int64_t n_rows_max;
    phx_pool *pool;
    phx_backend *backend;
    phx_pool *queue; /* first argument of every op */
    phx_ops ops;
    bool is_emu; /* times mean nothing: every case runs once */
    phx_code rc; /* of the first case that failed; the others are left out */
    phx_error *err;
    phx_bench_buffer weights; /* larger than the last cache: every run of an op takes the next window */
    size_t weights_at;
    phx_bench_buffer memory; /* activations and lists, given back after each case */
    size_t memory_used;
    uint8_t *mirror;   /* of memory, in host memory; the same on the CPU */
    uint8_t *tile;     /* PHX_BENCH_TILE_BYTES of random numbers, repeated in both */
    double read_limit; /* bytes per second of these threads, or of the device */
    double ops_limit;  /* operations per second of the level's unit, or of mma on the device */
    const char *ops_unit;
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

/* The ops that only move or change small rows; bench_small.c. */
void phx_bench_small_ops(phx_kernels_bench *bench, int64_t n_rows);

/* Takes and fills the memory; backend must be open. */
phx_code phx_bench_memory_init(phx_kernels_bench *bench, phx_error *err);
void phx_bench_memory_done(phx_kernels_bench *bench);

/* Times one case and reports it. */
void phx_bench_case(phx_kernels_bench *bench, const phx_kernel_case *item);

/* n numbers of bytes each, 256-byte aligned, filled with values that every element type reads as finite,
 * near 1 and of either sign. Owned by the bench until memory_used is set back. The sizes are fixed by the
 * shapes. */
void *phx_bench_memory(phx_kernels_bench *bench, int64_t n, size_t bytes);

/* A matrix of the bench's format (or of another) whose data is set by phx_bench_window before each run. */
phx_matrix phx_bench_matrix(phx_kernels_bench *bench, phx_format format, int64_t n_rows, int64_t n_cols);

/* Points the matrix at weights that no cache holds. */
void phx_bench_window(phx_kernels_bench *bench, phx_matrix *matrix);

/* Where the host writes what ops find at p, which phx_bench_memory gave. */
static inline void *phx_bench_host(const phx_kernels_bench *bench, const void *p)
{
    return bench->mirror + ((const uint8_t *)p - bench->memory.data);
}

static inline void *phx_bench_rows(phx_kernels_bench *bench, int64_t n_rows, int64_t width, phx_dtype dtype)
{
    return phx_bench_memory(bench, n_rows * width, phx_dtype_bytes(dtype));
}

static inline double phx_bench_matrix_bytes(const phx_matrix *m)
{
    const double scales = m->group_scales ? (double)m->scale_stride * sizeof(uint16_t) : 0.0;
    return (double)m->n_rows * ((double)phx_format_row_bytes(m->format, m->n_cols) + scales);
}

#endif
