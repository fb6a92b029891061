/* kernels/cuda/route.cu - the router: a warp per row. Scores lie in shared memory; a choice is the warp's
 * best candidate, ties to the lower index. */
#include "kernels/cuda/number.cuh"

#define TAKEN (-INFINITY) /* biased scores are finite */

/* score[e] for all experts; softmax sums the lanes' parts in butterfly order. */
PHX_DEVICE void scores_of(const phx_route_args &a, const float *logits, phx_shared<float> score)
{
    if (!a.softmax) {
        for (int64_t e = phx_lane(); e < a.n_experts; e += PHX_WARP)
            score[e] = phx_sigmoidf(logits[e]);
        return;
    }
    float max = -INFINITY;
    for (int64_t e = phx_lane(); e < a.n_experts; e += PHX_WARP)
        max = logits[e] > max ? logits[e] : max;
    max = phx_warp_max(max);
    float sum = 0.0f;
    for (int64_t e = phx_lane(); e < a.n_experts; e += PHX_WARP) {
        score[e] = phx_expf(logits[e] - max);
        sum += score[e];
    }
    sum = phx_warp_sum(sum);
    for (int64_t e = phx_lane(); e < a.n_experts; e += PHX_WARP)
        score[e] = score[e] / sum;
}

/* The index of the largest of value[0..n) that is not TAKEN, which it then is. */
PHX_DEVICE int32_t take_best(phx_shared<float> value, int64_t n)
{
    phx_best best = {TAKEN, -1};
    for (int64_t i = phx_lane(); i < n; i += PHX_WARP) {
        const phx_best mine = {value[i], (int32_t)i};
        if (mine.value > TAKEN && phx_is_better(mine, best))
            best = mine;
    }
    best = phx_warp_best(best);
    if (best.index >= 0 && best.index % PHX_WARP == phx_lane())
        value[best.index] = TAKEN;
    phx_warp_sync();
    return best.index;
}

/* The sum of the two best of a group; the best alone when it has one member. */
PHX_DEVICE float group_score(phx_shared<float> biased, int64_t first, int64_t size)
{
    float best = -INFINITY;
    float second = -INFINITY;
    for (int64_t e = first; e < first + size; e++) {
        if (biased[e] > best) {
            second = best;
            best = biased[e];
        } else if (biased[e] > second) {
            second = biased[e];
        }
    }
    return size > 1 && !PHX_PLANT(26) ? best + second : best;
}

/* Takes every expert outside of the n_groups_used best groups; group has n_groups elements. */
PHX_DEVICE void exclude_groups(const phx_route_args &a, phx_shared<float> biased, phx_shared<float> group)
{
    const int64_t size = a.n_experts / a.n_groups;
    for (int64_t g = phx_lane(); g < a.n_groups; g += PHX_WARP)
        group[g] = group_score(biased, g * size, size);
    phx_warp_sync();
    for (int64_t i = 0; i < a.n_groups_used; i++)
        take_best(group, a.n_groups);
    for (int64_t e = phx_lane(); e < a.n_experts; e += PHX_WARP) {
        if (group[e / size] > TAKEN)
            biased[e] = TAKEN;
    }
    phx_warp_sync();
}

static __global__ void route(const phx_route_args a)
{
    PHX_SHARED_DYNAMIC(float, shared, 3 * a.n_experts);
    const phx_shared<float> score = shared;
    const phx_shared<float> biased = shared + a.n_experts;
    const phx_shared<float> group = shared + 2 * a.n_experts;
    const int64_t r = blockIdx.x;
    scores_of(a, a.logits + r * a.n_experts, score);
    for (int64_t e = phx_lane(); e < a.n_experts; e += PHX_WARP)
        biased[e] = score[e] + (a.bias ? a.bias[e] : 0.0f);
    phx_warp_sync();
    if (a.n_groups > 1)
        exclude_groups(a, biased, group);
    /* which were chosen: marks in the groups' place */
    for (int64_t e = phx_lane(); e < a.n_experts; e += PHX_WARP)
        group[e] = 0.0f;
    phx_warp_sync();
    for (int64_t i = 0; i < a.n_used; i++) {
        const int32_t best = take_best(biased, a.n_experts);
        if (best >= 0 && phx_lane() == 0)
            group[best] = 1.0f;
    }
    phx_warp_sync();
    if (phx_lane() != 0)
        return;
    int32_t *ids = a.ids + r * a.n_used;
    float *weights = a.weights + r * a.n_used;
    float sum = 0.0f;
    int64_t n = 0;
    for (int64_t e = 0; e < a.n_experts; e++) {
        if (group[e] == 0.0f)
            continue;
        ids[n] = (int32_t)e;
        weights[n++] = score[e];
        sum += score[e];
    }
    for (int64_t i = 0; i < n; i++)
        weights[i] = (a.norm ? weights[i] / sum : weights[i]) * a.scale;
}

cudaError_t phx_route_cuda(cudaStream_t stream, const phx_route_args *args)
{
    if (args->n_rows == 0)
        return cudaSuccess;
    if (args->n_groups < 1 || args->n_experts % args->n_groups != 0)
        return cudaErrorInvalidValue;
    return PHX_LAUNCH(route, phx_grid(args->n_rows, 1), PHX_WARP, 3 * (size_t)args->n_experts * sizeof(float),
                      stream, *args);
}
