/* kernels/cuda/route.cu - the router: a warp per row. Scores lie in shared memory; a choice is the warp's
 * best candidate, ties to the lower index. Then who chose which expert: a block per expert. */
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

/* The experts that `marks` names, ascending, and their weights; the sum in that order. Overwrites chosen. */
PHX_DEVICE void give_chosen(const phx_route_args &a, int64_t r, phx_shared<float> score,
                            phx_shared<float> marks, phx_shared<float> chosen)
{
    int64_t n = 0;
    for (int64_t first = 0; first < a.n_experts; first += PHX_WARP) {
        const int64_t e = first + phx_lane();
        const bool is_chosen = e < a.n_experts && marks[e] != 0.0f;
        const uint32_t mask = phx_ballot(is_chosen);
        const int64_t at = n + phx_votes_below(mask);
        if (is_chosen) {
            a.ids[r * a.n_used + at] = (int32_t)e;
            chosen[at] = score[e];
        }
        n += phx_count_bits(mask);
    }
    phx_warp_sync();
    float sum = 0.0f;
    for (int64_t i = 0; i < n; i++)
        sum += chosen[i];
    for (int64_t i = phx_lane(); i < n; i += PHX_WARP)
        a.weights[r * a.n_used + i] = (a.norm ? chosen[i] / sum : chosen[i]) * a.scale;
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
    give_chosen(a, r, score, group, biased);
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

/* ---- the lists of experts ---- */

#define LIST_THREADS 256
#define LIST_WARPS   (LIST_THREADS / PHX_WARP)
#define LIST_AHEAD   4 /* loads of a warp under way */

/* Of the pairs that this rank holds: all, those of experts below one, and those of that one. */
typedef struct held {
    int64_t all;
    int64_t below;
    int64_t of;
} held;

/* Pair i of the expert, or, of the block for tokens, any pair; n: what stands before it. */
PHX_DEVICE void place(const phx_list_experts_args &a, int32_t expert, uint32_t i, const held &n)
{
    const uint32_t n_used = (uint32_t)a.n_used; /* 64 bits divide slowly, and tokens are counted in 31 */
    if (expert < a.n_experts) {
        const int64_t entry = n.below + n.of;
        a.token[entry] = (int32_t)(i / n_used);
        a.weight[entry] = a.weights[i];
        a.token_entries[n.all] = (int32_t)entry;
    } else if (i % n_used == 0) {
        a.token_first[i / n_used] = n.all;
    }
}

/* Pairs [begin, end), by a warp; n: what stands before them, and how many of experts below stand anywhere.
 * Returns n with these added. PLACES: writes them down as well; a pair's place among all held ones is where
 * its token lists it, for a token's experts ascend. */
template <bool PLACES>
PHX_DEVICE held walk(const phx_list_experts_args &a, int32_t expert, int64_t begin, int64_t end, held n)
{
    for (int64_t first = begin; first < end; first += LIST_AHEAD * PHX_WARP) {
        int32_t id[LIST_AHEAD];
        PHX_UNROLL
        for (int k = 0; k < LIST_AHEAD; k++) {
            const int64_t i = first + k * PHX_WARP + phx_lane();
            id[k] = i < end ? a.ids[i] : -1;
        }
        PHX_UNROLL
        for (int k = 0; k < LIST_AHEAD && first + k * PHX_WARP < end; k++) {
            const int64_t i = first + k * PHX_WARP + phx_lane();
            const bool is_held = id[k] >= a.held_first && id[k] < a.held_end;
            const uint32_t all = phx_ballot(is_held);
            const uint32_t of = phx_ballot(is_held && id[k] == expert);
            const held before = {n.all + phx_votes_below(all), n.below, n.of + phx_votes_below(of)};
            if (PLACES && i < end && (expert == a.n_experts || (is_held && id[k] == expert)))
                place(a, expert, (uint32_t)i, before);
            if (!PLACES)
                n.below += phx_count_bits(phx_ballot(is_held && id[k] < expert));
            n.all += phx_count_bits(all);
            n.of += phx_count_bits(of);
        }
    }
    return n;
}

/* A block per expert, and one more for the tokens. Each counts for itself what stands before its own entries,
 * so none waits for another: a warp counts a run of the pairs, then places what it has found. */
static __global__ void list_experts(const phx_list_experts_args a)
{
    PHX_SHARED(held, runs, LIST_WARPS);
    const int32_t expert = (int32_t)blockIdx.x;
    const int64_t n_listed = a.n_listed && !PHX_PLANT(34) ? *a.n_listed : a.n_tokens;
    const int64_t n_pairs = n_listed * a.n_used;
    const int64_t run = (n_pairs + LIST_THREADS - 1) / LIST_THREADS * PHX_WARP;
    const int64_t begin = phx_warp() * run;
    const int64_t end = begin + run < n_pairs ? begin + run : n_pairs;
    const held mine = walk<false>(a, expert, begin, end, {});
    if (phx_lane() == 0)
        runs[phx_warp()] = mine;
    __syncthreads();
    held before = {};
    int64_t n_all = 0;
    for (int64_t w = 0; w < LIST_WARPS; w++) {
        const held r = runs[w];
        before.all += w < phx_warp() ? r.all : 0;
        before.of += w < phx_warp() && !PHX_PLANT(96) ? r.of : 0;
        before.below += r.below;
        n_all += r.all;
    }
    if (threadIdx.x == 0)
        a.first[expert] = before.below;
    if (expert == a.n_experts) {
        for (int64_t t = n_listed + threadIdx.x; t <= a.n_tokens; t += LIST_THREADS)
            a.token_first[t] = n_all;
    }
    if (expert == a.n_experts || (expert >= a.held_first && expert < a.held_end))
        walk<true>(a, expert, begin, end, before);
}

cudaError_t phx_list_experts_cuda(cudaStream_t stream, const phx_list_experts_args *args)
{
    return PHX_LAUNCH(list_experts, (unsigned)args->n_experts + 1, LIST_THREADS, 0, stream, *args);
}
