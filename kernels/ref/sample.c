/* kernels/ref/sample.c - reference of the ops between one step's logits and the next step's tokens. */
#include "kernels/ref/ref.h"

#include "kernels/choose.h"

void phx_feed_tokens_ref(phx_pool *pool, const phx_feed_tokens_args *args)
{
    (void)pool;
    for (int64_t r = 0; r < args->n_rows; r++) {
        int32_t token = args->ids[r];
        if (token < 0)
            token = args->slots[r] >= 0 ? args->last[args->slots[r]] : -1;
        const bool held = token >= args->first_id && token < args->end_id;
        args->tokens[r] = token;
        args->local[r] = held ? (int32_t)(token - args->first_id) : -1;
    }
}

void phx_put_tokens_ref(phx_pool *pool, const phx_put_tokens_args *args)
{
    (void)pool;
    for (int64_t i = 0; i < args->n; i++)
        if (args->slots[i] >= 0)
            args->last[args->slots[i]] = args->tokens[i];
}

void phx_count_tokens_ref(phx_pool *pool, const phx_count_tokens_args *args)
{
    (void)pool;
    for (int64_t r = 0; r < args->n_rows; r++) {
        const int64_t col = args->tokens[r] - args->first_id;
        if (args->counted[r] < 0 || args->tokens[r] < 0 || col < 0 || col >= args->n_cols)
            continue;
        uint32_t *count = &args->counts[(args->counted[r] >> 1) * args->n_cols + col];
        *count |= PHX_COUNT_SEEN;
        *count += (args->counted[r] & 1) ? PHX_COUNT_OUTPUT : 0;
    }
}

void phx_clear_counts_ref(phx_pool *pool, const phx_clear_counts_args *args)
{
    (void)pool;
    for (int64_t i = 0; i < args->n; i++)
        args->counts[i] = 0;
}

static void penalise_row(void *user, int64_t r, void *scratch)
{
    (void)scratch;
    const phx_penalise_args *a = user;
    const phx_sample_row *row = &a->rows[r];
    float *logits = a->logits + r * a->n_cols;
    for (uint32_t i = 0; row->slot >= 0 && i < row->n_bias; i++) {
        const int64_t col = a->bias_ids[row->slot * a->bias_stride + i] - a->first_id;
        if (col >= 0 && col < a->n_cols)
            logits[col] += a->bias[row->slot * a->bias_stride + i];
    }
    const uint32_t *counts = row->slot >= 0 && row->counting ? a->counts + row->slot * a->n_cols : NULL;
    for (int64_t c = 0; counts && c < a->n_cols; c++) {
        if ((counts[c] & PHX_COUNT_SEEN) && row->repetition_penalty != 1)
            logits[c] =
                logits[c] > 0 ? logits[c] / row->repetition_penalty : logits[c] * row->repetition_penalty;
        if (PHX_COUNT_OF(counts[c]))
            logits[c] -= (float)PHX_COUNT_OF(counts[c]) * row->frequency_penalty + row->presence_penalty;
    }
}

void phx_penalise_ref(phx_pool *pool, const phx_penalise_args *args)
{
    phx_penalise_args a = *args;
    phx_pool_run(pool, a.n_rows, penalise_row, &a);
}

/* ---- choose ---- */

/* All candidates of a row in order, as far as that is known. */
typedef struct ordered {
    phx_candidate all[PHX_OFFERED_MAX];
    int64_t n;
    bool has_more; /* the vocabulary goes on after them */
} ordered;

static phx_order_state candidate_at(void *order, int64_t i, phx_candidate *ret_candidate)
{
    const ordered *o = order;
    if (i >= o->n)
        return o->has_more ? PHX_ORDER_BEYOND : PHX_ORDER_END;
    *ret_candidate = o->all[i];
    return PHX_ORDER_HAS;
}

static phx_offers share_of(const phx_choose_args *a, uint32_t leaf)
{
    const uint32_t *words = a->offers + leaf / a->shape.n_leaves * phx_offers_words(a->shape);
    return phx_offers_in((uint32_t *)(uintptr_t)words, a->shape);
}

static int64_t cell_of(const phx_choose_args *a, int64_t r, uint32_t leaf)
{
    return r * a->shape.n_leaves + leaf % a->shape.n_leaves;
}

/* log(sum exp) over the leaves of one row, leaf 0 first: the same order in every layout. */
static float merge_lse(const phx_choose_args *a, int64_t r, uint32_t which)
{
    const uint32_t n_leaves = a->n_shares * a->shape.n_leaves;
    float max = -INFINITY, sum = 0;
    for (uint32_t leaf = 0; leaf < n_leaves; leaf++) {
        const float lse = share_of(a, leaf).lse[cell_of(a, r, leaf) * 2 + which];
        max = lse > max ? lse : max;
    }
    for (uint32_t leaf = 0; leaf < n_leaves; leaf++) {
        const float lse = share_of(a, leaf).lse[cell_of(a, r, leaf) * 2 + which];
        if (lse > -INFINITY)
            sum += phx_expf(lse - max);
    }
    return max + phx_logf(sum);
}

/* Merges the leaves' lists until one of them is used up that has more tokens than it offers. */
static void merge(const phx_choose_args *a, int64_t r, ordered *ret_order)
{
    const uint32_t n_leaves = a->n_shares * a->shape.n_leaves, n_top = a->shape.n_top;
    uint32_t at[PHX_OFFERING_MAX] = {0};
    ret_order->n = 0;
    ret_order->has_more = false;
    for (;;) {
        int64_t best_leaf = -1;
        phx_candidate best = {-1, 0};
        for (uint32_t leaf = 0; leaf < n_leaves; leaf++) {
            const int64_t n_tokens = (leaf + 1) * a->n_vocab / n_leaves - leaf * a->n_vocab / n_leaves;
            if (at[leaf] >= n_tokens)
                continue; /* the leaf is used up, not out of offers */
            if (at[leaf] >= n_top) {
                ret_order->has_more = true;
                return;
            }
            const phx_offers o = share_of(a, leaf);
            const int64_t i = cell_of(a, r, leaf) * n_top + at[leaf];
            const phx_candidate c = {o.ids[i], o.values[i]};
            if (best_leaf < 0 || phx_candidate_before(c, best)) {
                best = c;
                best_leaf = leaf;
            }
        }
        if (best_leaf < 0)
            return;
        at[best_leaf]++;
        ret_order->all[ret_order->n++] = best;
    }
}

static phx_candidate noisy_winner(const phx_choose_args *a, int64_t r)
{
    phx_candidate best = {-1, 0};
    float best_value = -INFINITY;
    for (uint32_t leaf = 0; leaf < a->n_shares * a->shape.n_leaves; leaf++) {
        const phx_offers o = share_of(a, leaf);
        const int64_t cell = cell_of(a, r, leaf);
        if (o.noisy_ids[cell] >= 0 && (best.id < 0 || o.noisy[cell] > best_value)) {
            best = (phx_candidate){o.noisy_ids[cell], o.noisy_logits[cell]};
            best_value = o.noisy[cell];
        }
    }
    return best;
}

static void choose_row(void *user, int64_t r, void *scratch)
{
    (void)scratch;
    const phx_choose_args *a = user;
    const phx_sample_row *row = &a->rows[r];
    phx_choice *choice = &a->choices[r];
    ordered order;
    phx_candidate token = {-1, 0};
    *choice = (phx_choice){.state = PHX_CHOICE_NONE, .id = -1};
    if (row->slot < 0)
        return;
    choice->lse = merge_lse(a, r, 0);
    choice->lse_tempered = merge_lse(a, r, 1);
    choice->state = PHX_CHOICE_BAD;
    if (!isfinite(choice->lse) || !isfinite(choice->lse_tempered))
        return;
    merge(a, r, &order);
    for (; choice->n_top < row->n_top && choice->n_top < order.n; choice->n_top++) {
        const phx_candidate c = order.all[choice->n_top];
        choice->top[choice->n_top] = (phx_choice_top){c.id, c.logit - choice->lse};
    }
    const phx_draw draw = {.row = row,
                           .inv_temperature = a->inv_temperature[r],
                           .noise = a->noise + 4 * r,
                           .lse_tempered = choice->lse_tempered,
                           .noisy = noisy_winner(a, r),
                           .at = candidate_at,
                           .order = &order};
    choice->state = phx_draw_token(&draw, &token);
    if (choice->state != PHX_CHOICE_MADE)
        return;
    choice->id = token.id;
    choice->logprob = token.logit - choice->lse;
    if (row->place >= 0)
        a->last[row->place] = token.id;
}

void phx_choose_ref(phx_pool *pool, const phx_choose_args *args)
{
    phx_choose_args a = *args;
    assert(a.n_shares * a.shape.n_leaves <= PHX_OFFERING_MAX);
    assert(a.n_shares * a.shape.n_leaves * a.shape.n_top <= PHX_OFFERED_MAX);
    phx_pool_run(pool, a.shape.n_rows, choose_row, &a);
}
