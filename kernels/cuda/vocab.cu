/* kernels/cuda/vocab.cu - vocab_top and noisy_top: a block of threads per leaf of a row. Sums: a warp per
 * run, runs merged by one thread. The largest: select.cuh, then each finds its place among them; no sort. */
#include "base/rng.h"
#include "kernels/cuda/number.cuh"
#include "kernels/cuda/select.cuh"

#define RUNS 64 /* that wait for the merge at a time */

/* log sum exp(logits[i] * factor), i in [0, n), on thread 0: runs of PHX_ATTENTION_SPLIT merged left to
 * right. maxima and sums have RUNS elements. */
PHX_DEVICE float log_sum_exp(const float *logits, int64_t n, float factor, phx_shared<float> maxima,
                             phx_shared<float> sums)
{
    float max = -INFINITY;
    float sum = 0.0f;
    const int64_t n_runs = (n + PHX_ATTENTION_SPLIT - 1) / PHX_ATTENTION_SPLIT;
    for (int64_t begin = 0; begin < n_runs; begin += RUNS) {
        const int64_t count = n_runs - begin < RUNS ? n_runs - begin : RUNS;
        for (int64_t run = phx_warp(); run < count; run += PHX_SELECT_WARPS) {
            const int64_t first = (begin + run) * PHX_ATTENTION_SPLIT;
            const int64_t end = first + PHX_ATTENTION_SPLIT < n ? first + PHX_ATTENTION_SPLIT : n;
            float run_max = -INFINITY;
            for (int64_t i = first + phx_lane(); i < end; i += PHX_WARP)
                run_max = logits[i] * factor > run_max ? logits[i] * factor : run_max;
            run_max = phx_warp_max(run_max);
            float run_sum = 0.0f;
            for (int64_t i = first + phx_lane(); i < end; i += PHX_WARP)
                run_sum += phx_expf(logits[i] * factor - run_max);
            run_sum = phx_warp_sum(run_sum);
            if (phx_lane() == 0) {
                maxima[run] = run_max;
                sums[run] = run_sum;
            }
        }
        __syncthreads();
        for (int64_t run = 0; threadIdx.x == 0 && run < count; run++) {
            const float new_max = max > maxima[run] ? max : maxima[run];
            sum = fmaf(sums[run], phx_expf(maxima[run] - new_max), sum * phx_expf(max - new_max));
            max = new_max;
        }
        __syncthreads();
    }
    return n > 0 ? max + phx_logf(sum) : -INFINITY;
}

/* Dynamic: n_top indices of kept logits. */
static __global__ void __launch_bounds__(PHX_SELECT_THREADS) vocab_top(const phx_vocab_top_args a)
{
    PHX_SHARED_DYNAMIC(int32_t, kept, a.n_top);
    PHX_SHARED(float, maxima, RUNS);
    PHX_SHARED(float, sums, RUNS);
    PHX_SELECT_SHARED(shared);
    const int64_t item = blockIdx.x;
    const int64_t r = item / a.n_leaves;
    const int64_t leaf = item % a.n_leaves;
    const int64_t first = a.bounds[leaf];
    const int64_t n = a.bounds[leaf + 1] - first;
    const float *logits = a.logits + r * a.stride + first;
    const float lse = log_sum_exp(logits, n, 1.0f, maxima, sums);
    const float lse_tempered = log_sum_exp(logits, n, a.inv_temperature[r], maxima, sums);
    if (threadIdx.x == 0) {
        a.lse[item * 2] = lse;
        a.lse[item * 2 + 1] = lse_tempered;
    }
    const int64_t n_keep = n < a.n_top ? n : a.n_top;
    phx_selection selection = {0, n_keep};
    if (n_keep > 0 && n_keep < n)
        selection = phx_select(logits, n, n_keep, shared);
    if (n_keep > 0)
        phx_select_each(logits, n, selection, shared,
                        [&](int64_t place, int64_t i) { kept[place] = (int32_t)i; });
    for (int64_t i = threadIdx.x; i < a.n_top; i += PHX_SELECT_THREADS) {
        int64_t place = i;
        int32_t id = -1;
        float value = -INFINITY;
        if (i < n_keep) {
            const phx_best mine = {logits[kept[i]], kept[i]};
            place = 0;
            for (int64_t other = 0; other < n_keep; other++) {
                const phx_best it = {logits[kept[other]], kept[other]};
                place += phx_is_better(it, mine) && !(PHX_PLANT(27) && other == 0) ? 1 : 0;
            }
            id = a.first_id + (int32_t)first + mine.index;
            value = mine.value;
        }
        a.ids[item * a.n_top + place] = id;
        a.values[item * a.n_top + place] = value;
    }
}

cudaError_t phx_vocab_top_cuda(cudaStream_t stream, const phx_vocab_top_args *args)
{
    const int64_t n = args->n_rows * args->n_leaves;
    if (n == 0)
        return cudaSuccess;
    return PHX_LAUNCH(vocab_top, phx_grid(n, 1), PHX_SELECT_THREADS, (size_t)args->n_top * sizeof(int32_t),
                      stream, *args);
}

static __global__ void __launch_bounds__(PHX_SELECT_THREADS) noisy_top(const phx_noisy_top_args a)
{
    PHX_SHARED(float, values, PHX_SELECT_WARPS);
    PHX_SHARED(int32_t, indices, PHX_SELECT_WARPS);
    const int64_t item = blockIdx.x;
    const int64_t r = item / a.n_leaves;
    const int64_t leaf = item % a.n_leaves;
    const int64_t first = a.bounds[leaf];
    const int64_t n = a.bounds[leaf + 1] - first;
    const float *logits = a.logits + r * a.stride + first;
    const uint64_t *noise = a.noise + r * 4;
    phx_best best = {0.0f, -1};
    for (int64_t i = threadIdx.x; noise[3] != 0 && i < n; i += PHX_SELECT_THREADS) {
        const uint64_t id = (uint64_t)(a.first_id + first + i);
        const float u = phx_rng_unit(phx_rng_key(noise[0], noise[1], noise[2], id));
        const phx_best mine = {logits[i] * a.inv_temperature[r] + -phx_logf(-phx_logf(u)), (int32_t)i};
        if (phx_is_better(mine, best))
            best = mine;
    }
    best = phx_warp_best(best);
    if (phx_lane() == 0) {
        values[phx_warp()] = best.value;
        indices[phx_warp()] = best.index;
    }
    __syncthreads();
    if (threadIdx.x != 0)
        return;
    for (int64_t warp = 1; warp < PHX_SELECT_WARPS; warp++) {
        const phx_best other = {values[warp], indices[warp]};
        if (phx_is_better(other, best))
            best = other;
    }
    a.values[item] = best.index >= 0 ? best.value : -INFINITY;
    a.ids[item] = best.index >= 0 ? a.first_id + (int32_t)first + best.index : -1;
    a.chosen_logits[item] = best.index >= 0 ? logits[best.index] : 0.0f;
}

cudaError_t phx_noisy_top_cuda(cudaStream_t stream, const phx_noisy_top_args *args)
{
    const int64_t n = args->n_rows * args->n_leaves;
    if (n == 0)
        return cudaSuccess;
    return PHX_LAUNCH(noisy_top, phx_grid(n, 1), PHX_SELECT_THREADS, 0, stream, *args);
}
