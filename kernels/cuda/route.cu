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

PHX_DEVICE int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

PHX_DEVICE int64_t is_held(const phx_list_experts_args &a, int32_t expert)
{
    return expert >= a.held_first && expert < a.held_end ? 1 : 0;
}

/* One block. Each thread counts the pairs of its run of tokens, then those of its experts (every
 * PHX_BLOCK-th); one thread adds up between barriers. Then each thread places the entries of its experts,
 * tokens ascending. */
static __global__ void list_experts(const phx_list_experts_args a)
{
    PHX_SHARED(int64_t, runs, PHX_BLOCK);
    const int64_t n_listed = a.n_listed && !PHX_PLANT(34) ? *a.n_listed : a.n_tokens;
    const int64_t run = (a.n_tokens + PHX_BLOCK - 1) / PHX_BLOCK;
    const int64_t begin = least((int64_t)threadIdx.x * run, a.n_tokens);
    const int64_t end = least(begin + run, a.n_tokens);
    int64_t n = 0;
    for (int64_t i = begin * a.n_used; i < least(end, n_listed) * a.n_used; i++)
        n += is_held(a, a.ids[i]);
    runs[threadIdx.x] = n;
    for (int64_t e = threadIdx.x; e < a.n_experts; e += PHX_BLOCK) {
        int64_t of_expert = 0;
        for (int64_t i = 0; i < n_listed * a.n_used; i++)
            of_expert += a.ids[i] == e ? is_held(a, (int32_t)e) : 0;
        a.first[e + 1] = of_expert;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        int64_t listed = 0;
        for (int64_t i = 0; i < PHX_BLOCK; i++) {
            const int64_t here = runs[i];
            runs[i] = listed;
            listed += here;
        }
        a.token_first[a.n_tokens] = listed;
        a.first[0] = 0;
        for (int64_t e = 0; e < a.n_experts; e++)
            a.first[e + 1] += a.first[e];
    }
    __syncthreads();
    int64_t listed = runs[threadIdx.x];
    for (int64_t t = begin; t < end; t++) {
        a.token_first[t] = listed;
        for (int64_t i = t * a.n_used; t < n_listed && i < (t + 1) * a.n_used; i++)
            listed += is_held(a, a.ids[i]);
    }
    __syncthreads();
    for (int64_t e = a.held_first + threadIdx.x; e < a.held_end; e += PHX_BLOCK) {
        int64_t entry = a.first[e];
        for (int64_t t = 0; t < n_listed; t++) {
            int64_t before = 0; /* held pairs of the token so far */
            for (int64_t i = t * a.n_used; i < (t + 1) * a.n_used; i++) {
                if (a.ids[i] == e) {
                    a.token[entry] = (int32_t)t;
                    a.weight[entry] = a.weights[i];
                    a.token_entries[a.token_first[t] + before] = (int32_t)entry++;
                }
                before += is_held(a, a.ids[i]);
            }
        }
    }
}

cudaError_t phx_list_experts_cuda(cudaStream_t stream, const phx_list_experts_args *args)
{
    return PHX_LAUNCH(list_experts, 1, PHX_BLOCK, 0, stream, *args);
}
