/* kernels/ref/vocab.c - reference of the last stage's summary: log-sum-exp, best logits and the winner with
 * noise per leaf. */
#include "kernels/ref/ref.h"

#include "base/rng.h"

/* log sum exp(logits[i] * factor), i in [0, n): runs of PHX_ATTENTION_SPLIT merged left to right. */
static float log_sum_exp(const float *logits, int64_t n, float factor)
{
    float max = -INFINITY;
    float sum = 0.0f;
    for (int64_t first = 0; first < n; first += PHX_ATTENTION_SPLIT) {
        const int64_t end = first + PHX_ATTENTION_SPLIT < n ? first + PHX_ATTENTION_SPLIT : n;
        float run_max = -INFINITY;
        for (int64_t i = first; i < end; i++)
            run_max = logits[i] * factor > run_max ? logits[i] * factor : run_max;
        double run_sum = 0.0;
        for (int64_t i = first; i < end; i++)
            run_sum += (double)phx_expf(logits[i] * factor - run_max);
        const float new_max = max > run_max ? max : run_max;
        const float keep = phx_expf(max - new_max);
        const float take = phx_expf(run_max - new_max);
        sum = fmaf((float)run_sum, take, sum * keep);
        max = new_max;
    }
    return n > 0 ? max + phx_logf(sum) : -INFINITY;
}

/* Insertion into a descending list: equal logits keep the lower id, because ids come ascending. */
static void top_logits(const phx_vocab_top_args *a, const float *logits, int64_t first, int64_t end,
                       int32_t *ids, float *values)
{
    int64_t n = 0;
    for (int64_t c = first; c < end && a->n_top > 0; c++) {
        if (n == a->n_top && !(logits[c] > values[n - 1]))
            continue;
        int64_t at = n < a->n_top ? n++ : n - 1;
        for (; at > 0 && logits[c] > values[at - 1]; at--) {
            values[at] = values[at - 1];
            ids[at] = ids[at - 1];
        }
        values[at] = logits[c];
        ids[at] = a->first_id + (int32_t)c;
    }
    for (; n < a->n_top; n++) {
        values[n] = -INFINITY;
        ids[n] = -1;
    }
}

static void vocab_top_leaf(void *user, int64_t item, void *scratch)
{
    (void)scratch;
    const phx_vocab_top_args *a = user;
    const int64_t r = item / a->n_leaves;
    const int64_t leaf = item % a->n_leaves;
    const float *logits = a->logits + r * a->stride;
    const int64_t first = a->bounds[leaf];
    const int64_t end = a->bounds[leaf + 1];
    a->lse[item * 2] = log_sum_exp(logits + first, end - first, 1.0f);
    a->lse[item * 2 + 1] = log_sum_exp(logits + first, end - first, a->inv_temperature[r]);
    top_logits(a, logits, first, end, a->ids + item * a->n_top, a->values + item * a->n_top);
}

void phx_vocab_top_ref(phx_pool *pool, const phx_vocab_top_args *args)
{
    phx_vocab_top_args a = *args;
    phx_pool_run(pool, a.n_rows * a.n_leaves, vocab_top_leaf, &a);
}

static void noisy_top_leaf(void *user, int64_t item, void *scratch)
{
    (void)scratch;
    const phx_noisy_top_args *a = user;
    const int64_t r = item / a->n_leaves;
    const int64_t leaf = item % a->n_leaves;
    const float *logits = a->logits + r * a->stride;
    const uint64_t *noise = a->noise + r * 4;
    float best = -INFINITY, logit = 0.0f;
    int32_t best_id = -1;
    for (int64_t c = a->bounds[leaf]; noise[3] && c < a->bounds[leaf + 1]; c++) {
        const int32_t id = a->first_id + (int32_t)c;
        const uint64_t bits = phx_rng_key(noise[0], noise[1], noise[2], (uint64_t)id);
        const float value = logits[c] * a->inv_temperature[r] + -phx_logf(-phx_logf(phx_rng_unit(bits)));
        if (value > best || best_id < 0) {
            best = value;
            best_id = id;
            logit = logits[c];
        }
    }
    a->values[item] = best;
    a->ids[item] = best_id;
    a->chosen_logits[item] = logit;
}

void phx_noisy_top_ref(phx_pool *pool, const phx_noisy_top_args *args)
{
    phx_noisy_top_args a = *args;
    phx_pool_run(pool, a.n_rows * a.n_leaves, noisy_top_leaf, &a);
}
