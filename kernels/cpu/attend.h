/* kernels/cpu/attend.h - softmax attention of several queries that look at one list of entries.
 * Owns: its arithmetic. Scores are dots as in dots.h (one chain over the key), times scale. Each split of
 * PHX_ATTENTION_SPLIT entries has its own maximum, sum (one chain per lane) and values (one chain per
 * channel, entries ascending); splits are merged left to right. A query that sees fewer entries than its
 * neighbours gives the others probability zero, which leaves every chain as it was.
 * Not here: where entries lie (attention.c). */
#ifndef PHX_KERNELS_CPU_ATTEND_H
#define PHX_KERNELS_CPU_ATTEND_H

#include "kernels/cpu/level.h"
#include "kernels/cpu/vec.h"

#define PHX_ATTEND_QUERIES 64 /* at most in one run */
#define PHX_ATTEND_KEYS    8  /* widened at a time */
#define PHX_ATTEND_VALUES  32 /* widened at a time */

typedef struct phx_attend {
    int64_t n_queries; /* 1..PHX_ATTEND_QUERIES */
    int64_t d_key;
    int64_t d_value;
    float scale;
    const float *q[PHX_ATTEND_QUERIES]; /* each [d_key] */
    int64_t n[PHX_ATTEND_QUERIES];      /* entries that the query sees, from the first on */

    /* Entries [first, first + n) as f32 rows of the given stride; room for whole vectors, the rest is ours.
     */
    void (*load_keys)(const void *user, int64_t first, int64_t n, float *ret_rows, int64_t stride);
    void (*load_values)(const void *user, int64_t first, int64_t n, float *ret_rows, int64_t stride);
    const void *user;

    phx_dtype out_dtype;
    void *out[PHX_ATTEND_QUERIES];  /* each [d_value] of out_dtype */
    float *lse[PHX_ATTEND_QUERIES]; /* log-sum-exp of the scores, or NULL */
    void *scratch;                  /* PHX_SCRATCH_BYTES, 64-byte aligned */
} phx_attend;

/* How many queries fit the scratch: at most PHX_ATTEND_QUERIES, at least 1 (asserted). */
static inline int64_t phx_attend_queries(int64_t d_key, int64_t d_value)
{
    const int64_t key = phx_i64_up(d_key, 16);
    const int64_t value = phx_i64_up(d_value, 64) + 16;
    const int64_t room =
        (int64_t)(PHX_SCRATCH_BYTES / sizeof(float)) - PHX_ATTEND_KEYS * key - PHX_ATTEND_VALUES * value - 64;
    return phx_i64_min(PHX_ATTEND_QUERIES, room / (key + 2 * value + PHX_ATTENTION_SPLIT));
}

void PHX_CPU(phx_attend_run)(const phx_attend *job);
#define phx_attend_run PHX_CPU(phx_attend_run)

#endif
