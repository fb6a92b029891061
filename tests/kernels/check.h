/* tests/kernels/check.h - what the checks of all ops share: implementations under test, guarded memory,
 * inputs, comparison against a stated limit. Not here: the checks (check_<group>.c), the program
 * (check_kernels.c). */
#ifndef PHX_TESTS_KERNELS_CHECK_H
#define PHX_TESTS_KERNELS_CHECK_H

#include <float.h>
#include <stdio.h>

#include "base/rng.h"
#include "kernels/backend.h"

#define CHECK_ALLOCS_MAX 1024
#define CHECK_POOLS      3 /* 1, 2 and 3 threads; the first is the one for ordinary runs */

/* One implementation of every op: a level of the machine, or the C form of one that the machine lacks. Ops
 * that the level does not implement itself are not checked again. */
typedef struct check_variant {
    const char *name;
    phx_ops ops;
    phx_pool *queue; /* of a device; NULL: the ops run on pools */
    /* As phx_backend_fns.choose_products; NULL: products are never rounded. */
    phx_code (*choose)(phx_pool *queue, const phx_product_choice *choice, phx_error *err);
    bool brief;
#define X(op) bool has_##op;
    PHX_OPS(X)
#undef X
} check_variant;

#define CHECK_VARIANTS_MAX 8

/* A backend plugin under test (check_device.c). */
typedef struct check_device check_device;

typedef enum check_fill { /* how input numbers look */
                          CHECK_RANDOM,
                          CHECK_EQUAL,
                          CHECK_ALTERNATING, /* one magnitude, sign changes: sums cancel */
                          CHECK_BIG,         /* exponents from -20 to 20 in one row */
                          CHECK_ZERO,        /* zero inputs, and zero scales of fp8 */
                          CHECK_FILL_COUNT
} check_fill;

typedef struct check {
    uint64_t seed;
    phx_rng rng;
    phx_pool *pools[CHECK_POOLS]; /* of ops; all are the queue where a device is under test */
    const phx_ops *ref;
    phx_pool *ref_pool;
    check_device *device;    /* memory of cases is its memory; NULL: of the heap */
    const phx_ops *ops;      /* under test */
    const check_variant *of; /* whose they are */
    const char *op;
    const char *variant;
    bool brief;     /* a slow variant: fewer rows, every thirteenth remainder */
    bool is_ref;    /* the reference itself is under test: then it meets a formula written a second time */
    char what[160]; /* the case in words */
    uint64_t n_cases;
    uint64_t n_failed;
    double worst; /* share of the limit */
    char worst_at[256];
    void *allocs[CHECK_ALLOCS_MAX];       /* of the running case */
    size_t guard_bytes[CHECK_ALLOCS_MAX]; /* 0: plain memory */
    size_t n_allocs;
} check;

typedef struct check_device_options {
    const char *backend; /* "cuda" or "emu" */
    const char *dir;     /* of the plugin; NULL: beside this program */
    bool separate;       /* every piece of memory is an allocation of its own: for compute-sanitizer */
} check_device_options;

/* Every op of the plugin as a variant that waits for the device after each call. Memory that both sides can
 * reach is taken from the plugin. Destroy with check_device_destroy, which accepts NULL. */
phx_code check_device_create(const check_device_options *options, check_variant *variant,
                             check_device **ret_device, phx_error *err);
void check_device_destroy(check_device *device);

/* Zeroed memory of the running case, NULL when there is no more; given back by check_device_reset. */
void *check_device_memory(check_device *device, size_t n_bytes);
void check_device_reset(check_device *device);

/* Begins a case: resets the random numbers to a key of (seed, op, case number), and names it. */
void check_case(check *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* What a brief check makes of a count of rows or of the step of a loop over remainders. */
static inline int64_t check_rows(const check *c, int64_t n_rows)
{
    return c->brief && n_rows > 5 ? 5 : n_rows;
}

static inline int64_t check_step(const check *c, int64_t step)
{
    return c->brief ? step * 13 : step;
}

/* Steps of 13 up to 196 meet every remainder of 16, the columns of an mma. */
static inline int64_t check_most(const check *c, int64_t n)
{
    return c->brief ? 1 + 13 * 15 : n;
}

/* Ends a case: tests all guard words, frees all memory of the case. */
void check_end(check *c);

void check_fail(check *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Memory of the running case. check_out: between guard words and filled with a pattern that no kernel writes.
 */
void *check_mem(check *c, int64_t n, size_t bytes);
void *check_out(check *c, int64_t n, size_t bytes);
void *check_copy(check *c, const void *from, int64_t n, size_t bytes);

/* [n] f32, or [n_rows][stride] activations of dtype. */
float *check_floats(check *c, int64_t n, check_fill fill);
phx_activation check_activation(check *c, int64_t n_rows, int64_t n_cols, phx_dtype dtype, check_fill fill);
double check_load(const void *data, phx_dtype dtype, int64_t i);

/* The number of columns nearest to n that the format can have, and a column nearest to n at which it can be
 * cut: int4-g32 goes by pairs. */
static inline int64_t check_cols(phx_format format, int64_t n)
{
    return format == PHX_FORMAT_INT4_G32 ? n + (n & 1) : n;
}

/* A matrix with random shifts inside its scale blocks. */
phx_matrix *check_matrix(check *c, phx_format format, int64_t n_rows, int64_t n_cols, check_fill fill);
phx_matrix *check_slice_cols(check *c, const phx_matrix *m, int64_t first, int64_t end); /* row major copy */
phx_matrix *check_slice_rows(check *c, const phx_matrix *m, int64_t first, int64_t end); /* the same */

/* m; or, in three of four cases where its shape allows it, its packed form (for the reference: of any level).
 */
phx_matrix *check_packed(check *c, phx_matrix *m);

/* A matrix of results. want and got may have a stride; what lies between rows must be the pattern. limit:
 * [n_rows][n_cols], the largest |got - want|; NULL: equal values (+0 and -0 differ). The rounding of a
 * bf16 result is allowed on top. */
typedef struct check_result {
    const void *want;
    const void *got;
    phx_dtype dtype;
    int64_t n_rows;
    int64_t n_cols;
    int64_t stride;
    const double *limit;
} check_result;
void check_compare(check *c, const check_result *result);

/* Bits must be equal; why names the promise. */
void check_same(check *c, const char *why, const void *a, const void *b, int64_t n, size_t bytes);

/* |a - b| within limit counts towards the worst share. */
void check_value(check *c, double want, double got, double limit, int64_t row, int64_t col);

/* One function per op: runs all cases of c->ops against c->ref. */
#define X(op) void check_##op(check *c);
PHX_OPS(X)
#undef X

/* Products whose rows may be rounded, and leaf sums that are such products; part of check_product and
 * check_leaf_sum. */
void check_rounded_product(check *c);
void check_rounded_leaf_sum(check *c);

/* Speed of every op of the variants, one line each. */
void check_bench(const check_variant *variants, int n_variants, phx_pool *pool, uint64_t seed);

#endif
