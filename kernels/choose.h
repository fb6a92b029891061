/* kernels/choose.h - which token a row takes, given its tokens in order: logit descending, id ascending.
 * Owns: the rules of top_k, top_p, min_p and of keyed noise, in plain C, for the op `choose` and for a row
 * whose candidates did not reach. top_k counts first, top_p within what top_k keeps, then min_p; the winner
 * among what is kept is the largest logit / T + noise. */
#ifndef PHX_KERNELS_CHOOSE_H
#define PHX_KERNELS_CHOOSE_H

#include <stdbool.h>

#include "kernels/math.h"
#include "kernels/ops_sample.h"

typedef struct phx_candidate {
    int32_t id;
    float logit;
} phx_candidate;

typedef enum phx_order_state {
    PHX_ORDER_HAS,   /* there is such a token */
    PHX_ORDER_END,   /* the vocabulary has no more */
    PHX_ORDER_BEYOND /* it has, and the order is not known so far */
} phx_order_state;

/* The i-th token of the row in order; i is at most one above the largest i so far. */
typedef phx_order_state phx_candidate_fn(void *order, int64_t i, phx_candidate *ret_candidate);

typedef struct phx_draw {
    const phx_sample_row *row;
    float inv_temperature;
    const uint64_t *noise; /* [4] */
    float lse_tempered;
    phx_candidate noisy; /* the winner with noise of the whole row, used when no filter is on */
    phx_candidate_fn *at;
    void *order;
} phx_draw;

PHX_HOST_DEVICE static inline bool phx_candidate_before(phx_candidate a, phx_candidate b)
{
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

/* No filter: every token may win. */
PHX_HOST_DEVICE static inline bool phx_is_unfiltered(const phx_sample_row *row)
{
    return row->temperature > 0 && row->top_k == 0 && row->top_p >= 1 && row->min_p <= 0;
}

/* PHX_CHOICE_MADE with the token, or PHX_CHOICE_BEYOND. */
phx_choice_state phx_draw_token(const phx_draw *draw, phx_candidate *ret_token);

#endif
