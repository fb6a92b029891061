/* kernels/cuda/indexer.cu - index_scores (a warp per score) and top_positions (a warp per row). */
#include "kernels/cuda/number.cuh"

/* The host does not know the numbers of keys, so the grid is over the stride. */
static __global__ void index_scores(const phx_index_scores_args a, const phx_cache keys)
{
    const int64_t i = phx_warp_of_grid();
    const int64_t r = i / a.scores_stride;
    const int64_t s = i % a.scores_stride;
    if (r >= a.n_rows || s >= a.n_keys[r])
        return;
    const int64_t d = keys.width;
    const int64_t entry = (int64_t)a.blocks[r][s / 64] * 64 + s % 64;
    float score = 0.0f;
    for (int64_t h = 0; h < a.n_heads; h++) {
        const float *q = a.q + (r * a.n_heads + h) * d;
        float dot = 0.0f;
        for (int64_t c = phx_lane(); c < d; c += PHX_WARP)
            dot = fmaf(q[c], phx_load(keys.data, keys.dtype, entry * d + c), dot);
        dot = phx_warp_sum(dot);
        if (dot > 0.0f || PHX_PLANT(24))
            score = fmaf(a.w[r * a.n_heads + h], dot, score);
    }
    if (phx_lane() == 0)
        a.scores[i] = score;
}

cudaError_t phx_index_scores_cuda(cudaStream_t stream, const phx_index_scores_args *args)
{
    const int64_t n = args->n_rows * args->scores_stride;
    if (n == 0)
        return cudaSuccess;
    return PHX_LAUNCH(index_scores, phx_grid(n, PHX_BLOCK_WARPS), PHX_BLOCK, 0, stream, *args, *args->keys);
}

/* An unsigned number in the order of the score; -0 equals +0. */
PHX_DEVICE uint32_t rank_of(float score)
{
    const uint32_t bits = phx_bits_of_f32(score + 0.0f);
    return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

/* The score of rank n_keep: the largest value that at least n_keep scores reach, built bit by bit. */
PHX_DEVICE uint32_t threshold_of(const float *scores, int64_t n, int64_t n_keep)
{
    uint32_t threshold = 0;
    for (uint32_t bit = 0x80000000u; bit != 0; bit >>= 1) {
        int32_t reached = 0;
        for (int64_t s = phx_lane(); s < n; s += PHX_WARP)
            reached += rank_of(scores[s]) >= (threshold | bit) ? 1 : 0;
        for (int mask = PHX_WARP / 2; mask > 0; mask /= 2)
            reached += phx_shfl_xor(reached, mask);
        if (reached >= n_keep)
            threshold |= bit;
    }
    return threshold;
}

PHX_DEVICE int64_t count_below(uint32_t votes)
{
    return phx_count_bits(votes & ((1u << phx_lane()) - 1u));
}

/* Runs of 32 positions, ascending: votes say where each lane's position goes. Scores equal to the threshold
 * take what places the larger ones leave, lower positions first. */
static __global__ void top_positions(const phx_top_positions_args a)
{
    const int64_t r = blockIdx.x;
    const float *scores = a.scores + r * a.scores_stride;
    int32_t *positions = a.positions + r * a.n_keep;
    const int64_t n = a.n_keys[r];
    const int64_t n_keep = n < a.n_keep ? n : a.n_keep;
    const uint32_t threshold = n_keep > 0 ? threshold_of(scores, n, n_keep) : 0;
    int64_t n_larger = 0;
    for (int64_t first = 0; first < n; first += PHX_WARP) {
        const int64_t s = first + phx_lane();
        n_larger += phx_count_bits(phx_ballot(s < n && rank_of(scores[s]) > threshold));
    }
    int64_t n_ties = n_keep - n_larger;
    int64_t n_kept = 0;
    for (int64_t first = 0; first < n; first += PHX_WARP) {
        const int64_t s = first + phx_lane();
        const uint32_t rank = s < n ? rank_of(scores[s]) : 0;
        const uint32_t ties = phx_ballot(s < n && rank == threshold);
        const bool is_tie = s < n && rank == threshold &&
                            (PHX_PLANT(23) ? ~count_below(ties) & 31 : count_below(ties)) < n_ties;
        const bool keeps = is_tie || (s < n && rank > threshold);
        const uint32_t kept = phx_ballot(keeps);
        if (keeps)
            positions[n_kept + count_below(kept)] = (int32_t)s;
        n_kept += phx_count_bits(kept);
        n_ties -= phx_count_bits(ties);
    }
    for (int64_t i = n_keep + phx_lane(); i < a.n_keep; i += PHX_WARP)
        positions[i] = -1;
    if (phx_lane() == 0)
        a.n_positions[r] = (int32_t)n_keep;
}

cudaError_t phx_top_positions_cuda(cudaStream_t stream, const phx_top_positions_args *args)
{
    if (args->n_rows == 0)
        return cudaSuccess;
    return PHX_LAUNCH(top_positions, phx_grid(args->n_rows, 1), PHX_WARP, 0, stream, *args);
}
