/* kernels/cpu/vocab.c - the last stage's summary: log-sum-exp and best logits per leaf. An item is a leaf of
 * a row. A run of PHX_ATTENTION_SPLIT logits is one chain per lane; runs merge left to right. */
#include "kernels/cpu/level.h"
#include "kernels/cpu/vec.h"

#define phx_vocab_top PHX_CPU(phx_vocab_top)

/* The maximum of x[i] * factor and the sum of exp(x[i] * factor - maximum), 1 <= n <= PHX_ATTENTION_SPLIT. */
static void run_of(const float *logits, int64_t n, float factor, float *ret_max, float *ret_sum)
{
    float x[PHX_ATTENTION_SPLIT];
    const int64_t n_padded = phx_i64_up(n, PHX_LANES);
    memcpy(x, logits, (size_t)n * sizeof(float));
    phx_vf max = phx_vf_set(-INFINITY);
    for (int64_t i = 0; i < n_padded; i += PHX_LANES) {
        for (int64_t k = n > i ? n : i; k < i + PHX_LANES; k++)
            x[k] = -INFINITY;
        const phx_vf v = phx_vf_mul(phx_vf_load(x + i), phx_vf_set(factor));
        phx_vf_store(x + i, v);
        max = phx_vf_max(v, max);
    }
    *ret_max = phx_vf_max_across(max);
    phx_vf sum = phx_vf_zero();
    for (int64_t i = 0; i < n_padded; i += PHX_LANES)
        sum = phx_vf_add(sum, phx_vf_exp(phx_vf_sub(phx_vf_load(x + i), phx_vf_set(*ret_max))));
    *ret_sum = phx_vf_sum(sum);
}

static float log_sum_exp(const float *logits, int64_t n, float factor)
{
    float max = -INFINITY;
    float sum = 0.0f;
    for (int64_t first = 0; first < n; first += PHX_ATTENTION_SPLIT) {
        float run_max;
        float run_sum;
        run_of(logits + first, phx_i64_min(PHX_ATTENTION_SPLIT, n - first), factor, &run_max, &run_sum);
        const float new_max = max > run_max ? max : run_max;
        const float keep = phx_expf(max - new_max);
        const float take = phx_expf(run_max - new_max);
        sum = fmaf(run_sum, take, sum * keep);
        max = new_max;
    }
    return n > 0 ? max + phx_logf(sum) : -INFINITY;
}

/* One logit into a descending list of n of at most n_top; equal ones keep the lower id, which came first. */
static int64_t insert(float *values, int32_t *ids, int64_t n, int64_t n_top, float value, int32_t id)
{
    if (n == n_top && !(value > values[n - 1]))
        return n;
    int64_t at = n < n_top ? n : n - 1;
    const int64_t n_new = n < n_top ? n + 1 : n;
    for (; at > 0 && value > values[at - 1]; at--) {
        values[at] = values[at - 1];
        ids[at] = ids[at - 1];
    }
    values[at] = value;
    ids[at] = id;
    return n_new;
}

/* Once the list is full, whole vectors below its last value are passed over. */
static void top_logits(const phx_vocab_top_args *a, const float *logits, int64_t first, int64_t end,
                       int32_t *ids, float *values)
{
    int64_t n = 0;
    for (int64_t c = first; c < end && a->n_top > 0;) {
        const int64_t stop = phx_i64_min(c + PHX_LANES, end);
        if (n == a->n_top && stop - c == PHX_LANES &&
            !phx_vf_any_greater(phx_vf_load(logits + c), phx_vf_set(values[n - 1]))) {
            c = stop;
            continue;
        }
        for (; c < stop; c++)
            n = insert(values, ids, n, a->n_top, logits[c], a->first_id + (int32_t)c);
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

void phx_vocab_top(phx_pool *pool, const phx_vocab_top_args *args)
{
    phx_vocab_top_args a = *args;
    phx_pool_run(pool, a.n_rows * a.n_leaves, vocab_top_leaf, &a);
}
