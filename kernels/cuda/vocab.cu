/* kernels/cuda/vocab.cu - vocab_top and noisy_top: a warp per leaf of a row. */
#include "base/rng.h"
#include "kernels/cuda/number.cuh"

/* log sum exp(logits[i] * factor), i in [0, n): runs of PHX_ATTENTION_SPLIT merged left to right. */
PHX_DEVICE float log_sum_exp(const float *logits, int64_t n, float factor)
{
    float max = -INFINITY;
    float sum = 0.0f;
    for (int64_t first = 0; first < n; first += PHX_ATTENTION_SPLIT) {
        const int64_t end = first + PHX_ATTENTION_SPLIT < n ? first + PHX_ATTENTION_SPLIT : n;
        float run_max = -INFINITY;
        for (int64_t i = first + phx_lane(); i < end; i += PHX_WARP)
            run_max = logits[i] * factor > run_max ? logits[i] * factor : run_max;
        run_max = phx_warp_max(run_max);
        float run_sum = 0.0f;
        for (int64_t i = first + phx_lane(); i < end; i += PHX_WARP)
            run_sum += phx_expf(logits[i] * factor - run_max);
        run_sum = phx_warp_sum(run_sum);
        const float new_max = max > run_max ? max : run_max;
        sum = fmaf(run_sum, phx_expf(run_max - new_max), sum * phx_expf(max - new_max));
        max = new_max;
    }
    return n > 0 ? max + phx_logf(sum) : -INFINITY;
}

/* The best logit after the one taken before: smaller, or equal with a higher index. */
PHX_DEVICE phx_best next_best(const float *logits, int64_t n, phx_best before)
{
    phx_best best = {0.0f, -1};
    for (int64_t i = phx_lane(); i < n; i += PHX_WARP) {
        const phx_best mine = {logits[i], (int32_t)i};
        if ((before.index < (PHX_PLANT(27) ? 1 : 0) || phx_is_better(before, mine)) &&
            phx_is_better(mine, best))
            best = mine;
    }
    return phx_warp_best(best);
}

static __global__ void vocab_top(const phx_vocab_top_args a)
{
    const int64_t item = blockIdx.x;
    const int64_t r = item / a.n_leaves;
    const int64_t leaf = item % a.n_leaves;
    const int64_t first = a.bounds[leaf];
    const int64_t n = a.bounds[leaf + 1] - first;
    const float *logits = a.logits + r * a.stride + first;
    const float lse = log_sum_exp(logits, n, 1.0f);
    const float lse_tempered = log_sum_exp(logits, n, a.inv_temperature[r]);
    if (phx_lane() == 0) {
        a.lse[item * 2] = lse;
        a.lse[item * 2 + 1] = lse_tempered;
    }
    phx_best best = {0.0f, -1};
    for (int64_t i = 0; i < a.n_top; i++) {
        if (i < n)
            best = next_best(logits, n, best);
        if (phx_lane() != 0)
            continue;
        a.ids[item * a.n_top + i] = i < n ? a.first_id + (int32_t)first + best.index : -1;
        a.values[item * a.n_top + i] = i < n ? best.value : -INFINITY;
    }
}

cudaError_t phx_vocab_top_cuda(cudaStream_t stream, const phx_vocab_top_args *args)
{
    const int64_t n = args->n_rows * args->n_leaves;
    if (n == 0)
        return cudaSuccess;
    return PHX_LAUNCH(vocab_top, phx_grid(n, 1), PHX_WARP, 0, stream, *args);
}

static __global__ void noisy_top(const phx_noisy_top_args a)
{
    const int64_t item = blockIdx.x;
    const int64_t r = item / a.n_leaves;
    const int64_t leaf = item % a.n_leaves;
    const int64_t first = a.bounds[leaf];
    const int64_t n = a.bounds[leaf + 1] - first;
    const float *logits = a.logits + r * a.stride + first;
    const uint64_t *noise = a.noise + r * 4;
    phx_best best = {0.0f, -1};
    for (int64_t i = phx_lane(); noise[3] != 0 && i < n; i += PHX_WARP) {
        const uint64_t id = (uint64_t)(a.first_id + first + i);
        const float u = phx_rng_unit(phx_rng_key(noise[0], noise[1], noise[2], id));
        const phx_best mine = {logits[i] * a.inv_temperature[r] + -phx_logf(-phx_logf(u)), (int32_t)i};
        if (phx_is_better(mine, best))
            best = mine;
    }
    best = phx_warp_best(best);
    if (phx_lane() != 0)
        return;
    a.values[item] = best.index >= 0 ? best.value : -INFINITY;
    a.ids[item] = best.index >= 0 ? a.first_id + (int32_t)first + best.index : -1;
    a.chosen_logits[item] = best.index >= 0 ? logits[best.index] : 0.0f;
}

cudaError_t phx_noisy_top_cuda(cudaStream_t stream, const phx_noisy_top_args *args)
{
    const int64_t n = args->n_rows * args->n_leaves;
    if (n == 0)
        return cudaSuccess;
    return PHX_LAUNCH(noisy_top, phx_grid(n, 1), PHX_WARP, 0, stream, *args);
}
