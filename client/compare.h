/* client/compare.h - how far values are from what they should be, and where; pure functions.
 * The bounds are those of the golden models: element by element, never a norm over a tensor that hides one
 * bad value. */
#ifndef PHX_CLIENT_COMPARE_H
#define PHX_CLIENT_COMPARE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

typedef enum phx_compare_rule {
    PHX_COMPARE_ABS,        /* |got - expected| <= bound */
    PHX_COMPARE_TENSOR_MAX, /* ... <= bound x the tensor's largest magnitude */
    PHX_COMPARE_ROW_MAX     /* ... <= bound x the row's largest magnitude */
} phx_compare_rule;

typedef struct phx_compare_f32_args {
    const float *got;      /* [n_rows][n_cols] */
    const float *expected; /* the same */
    int64_t n_rows;
    int64_t n_cols;
    phx_compare_rule rule;
    double bound;
} phx_compare_f32_args;

typedef struct phx_verdict {
    bool ok;
    double error; /* of the worst element, in the rule's unit; infinity where got or expected is not finite */
    int64_t row;  /* of the worst element */
    int64_t col;
    double got;
    double expected;
    uint64_t n_bad; /* elements beyond the bound */
} phx_verdict;

phx_verdict phx_compare_f32(const phx_compare_f32_args *args);

typedef struct phx_compare_i32_args {
    const int32_t *got;
    const int32_t *expected;
    int64_t n_rows;
    int64_t n_cols;
} phx_compare_i32_args;

/* Equal, value for value; the verdict names the first that differs, error counts the rows that do. */
phx_verdict phx_compare_i32(const phx_compare_i32_args *args);

typedef struct phx_divergence {
    double kl_mean; /* nats, KL(expected || got) of the softmax of each row */
    double kl_median;
    double kl_p90;
    double kl_worst;
    int64_t worst_row;
    double top1; /* share of rows with the same largest logit */
} phx_divergence;

/* Rows of logits. Values that are not finite give an infinite divergence. PHX_ERR_NOMEM alone. */
phx_code phx_compare_kl(const float *got, const float *expected, int64_t n_rows, int64_t n_cols,
                        phx_divergence *ret_divergence, phx_error *err);

/* What a plain bf16 run strays (serving.json), and whether ours strays no further than the golden README
 * allows. */
typedef struct phx_kl_bounds {
    double kl_mean;
    double kl_median;
    double top1;
} phx_kl_bounds;

/* kl_mean <= 1.5 x + 0.005, kl_median <= 2 x + 0.0005, top1 >= x - 0.06. */
phx_kl_bounds phx_kl_bounds_golden(const phx_kl_bounds *measured);
/* What two causes stray together, measured one by one: divergences and disagreements add up. */
phx_kl_bounds phx_kl_together(const phx_kl_bounds *a, const phx_kl_bounds *b);
/* Against level ref in the same profile: a tenth of the divergences, the same top-1. */
phx_kl_bounds phx_kl_bounds_levels(const phx_kl_bounds *golden);
bool phx_kl_within(const phx_divergence *divergence, const phx_kl_bounds *bounds);

/* Rows of two selections that differ, and of those the ones that are neither near-ties nor follow from one:
 * after a swap the rest of the row is another computation, and so are the scores that its key gets from later
 * rows. strayed [n_rows]: rows that differed in an earlier
 * selection of the same run; those that differ now are added. */
typedef struct phx_selection {
    uint64_t n_rows_differ;
    uint64_t n_rows_wrong;
    uint64_t
        n_rows_unclear; /* experts: nothing in common, as after a near-tie of expert groups; positions: the
                           row attends to one that strayed before. Not counted wrong: a few are expected */
    int64_t first_row;  /* wrong, or merely different when none is wrong; -1: all equal */
    double widest_gap;  /* of a swapped key from the boundary, in standard deviations of the row's scores */
} phx_selection;

typedef struct phx_compare_topk_args {
    const int32_t *got;      /* [n_rows][n_keep], padded with -1 */
    const int32_t *expected; /* the same */
    const float *scores;     /* [n_rows][n_rows], of the expected run; NULL: every difference is wrong */
    int64_t n_rows;
    int64_t n_keep;
    double gap_max; /* a swapped key within so many standard deviations of the boundary is a near-tie */
    bool *strayed;
} phx_compare_topk_args;
phx_selection phx_compare_topk(const phx_compare_topk_args *args);

typedef struct phx_compare_experts_args {
    const int32_t *got; /* [n_rows][n_used], ascending */
    const int32_t *expected;
    const float *got_weights; /* [n_rows][n_used] */
    const float *expected_weights;
    int64_t n_rows;
    int64_t n_used;
    double tolerance; /* relative */
    bool *strayed;
} phx_compare_experts_args;
/* Router scores of experts that were not chosen are unknown. But where the weights of the experts chosen by
 * both runs stand in the same proportion, both routers saw the same scores up to the tolerance, so that a
 * different choice is a near-tie. Rows without a common expert are unclear: a few are expected, many are a
 * fault. */
phx_selection phx_compare_experts(const phx_compare_experts_args *args);

#endif
