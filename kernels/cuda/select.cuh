/* kernels/cuda/select.cuh - the largest of a row of numbers by radix select: a block of PHX_SELECT_THREADS
 * per row, four passes over counts of 8 bits, one that counts, one that writes. Exact; ties to the lower
 * index. */
#ifndef PHX_KERNELS_CUDA_SELECT_CUH
#define PHX_KERNELS_CUDA_SELECT_CUH

#include "kernels/cuda/ptx.cuh"

#define PHX_SELECT_THREADS 256 /* one per count */
#define PHX_SELECT_WARPS   (PHX_SELECT_THREADS / PHX_WARP)

typedef struct phx_select_shared {
    phx_shared<int32_t> counts; /* [PHX_SELECT_THREADS] */
    phx_shared<int32_t> sums;   /* [2][PHX_SELECT_WARPS] */
    phx_shared<int32_t> found;  /* [2]: digit, how many are above it */
} phx_select_shared;

#define PHX_SELECT_SHARED(name)                             \
    PHX_SHARED(int32_t, name##_counts, PHX_SELECT_THREADS); \
    PHX_SHARED(int32_t, name##_sums, 2 * PHX_SELECT_WARPS); \
    PHX_SHARED(int32_t, name##_found, 2);                   \
    const phx_select_shared name = {name##_counts, name##_sums, name##_found}

/* What is kept: all above threshold, and the first n_ties equal to it. */
typedef struct phx_selection {
    uint32_t threshold;
    int64_t n_ties;
} phx_selection;

/* An unsigned number in the order of x; -0 equals +0. */
PHX_DEVICE uint32_t phx_rank_of(float x)
{
    const uint32_t bits = phx_bits_of_f32(x + 0.0f);
    return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

/* The sum over this thread and those with higher numbers. */
PHX_DEVICE int32_t phx_sum_from_here(int32_t mine, const phx_select_shared &s)
{
    int32_t sum = mine;
    for (int step = 1; step < PHX_WARP; step *= 2) {
        const int lane = (int)phx_lane() + step;
        const int32_t other = phx_shfl(sum, lane < PHX_WARP ? lane : (int)phx_lane());
        sum += lane < PHX_WARP ? other : 0;
    }
    if (phx_lane() == 0)
        s.sums[phx_warp()] = sum;
    __syncthreads();
    for (int64_t warp = phx_warp() + 1; warp < PHX_SELECT_WARPS; warp++)
        sum += s.sums[warp];
    return sum;
}

/* The n_keep largest of x[0..n), 0 < n_keep <= n. All threads of the block. */
PHX_DEVICE phx_selection phx_select(const float *x, int64_t n, int64_t n_keep, const phx_select_shared &s)
{
    uint32_t prefix = 0;
    int32_t left = (int32_t)n_keep; /* to be found among those that begin with prefix */
    for (int shift = 24; shift >= 0; shift -= 8) {
        s.counts[threadIdx.x] = 0;
        __syncthreads();
        for (int64_t i = threadIdx.x; i < n; i += PHX_SELECT_THREADS) {
            const uint32_t rank = phx_rank_of(x[i]);
            if (shift == 24 || rank >> (shift + 8) == prefix)
                phx_atomic_add(&s.counts[rank >> shift & 255u], 1);
        }
        __syncthreads();
        const int32_t mine = s.counts[threadIdx.x];
        const int32_t reached = phx_sum_from_here(mine, s);
        if (reached >= left && reached - mine < left) { /* one thread */
            s.found[0] = (int32_t)threadIdx.x;
            s.found[1] = reached - mine;
        }
        __syncthreads();
        prefix = prefix << 8 | (uint32_t)s.found[0];
        left -= s.found[1];
        __syncthreads();
    }
    const phx_selection selection = {prefix, left};
    return selection;
}

/* Calls put(place, i) for every kept i, places ascending with i from 0. Each warp owns a run of x. */
template <class Put>
PHX_DEVICE void phx_select_each(const float *x, int64_t n, const phx_selection &selection,
                                const phx_select_shared &s, const Put &put)
{
    const int64_t runs = (n + PHX_SELECT_THREADS - 1) / PHX_SELECT_THREADS * PHX_WARP;
    const int64_t first = phx_warp() * runs < n ? phx_warp() * runs : n;
    const int64_t end = first + runs < n ? first + runs : n;
    int32_t n_above = 0;
    int32_t n_equal = 0;
    for (int64_t begin = first; begin < end; begin += PHX_WARP) {
        const int64_t i = begin + phx_lane();
        const uint32_t rank = i < end ? phx_rank_of(x[i]) : 0;
        n_above += (int32_t)phx_count_bits(phx_ballot(i < end && rank > selection.threshold));
        n_equal += (int32_t)phx_count_bits(phx_ballot(i < end && rank == selection.threshold));
    }
    if (phx_lane() == 0) {
        s.sums[phx_warp()] = n_above;
        s.sums[PHX_SELECT_WARPS + phx_warp()] = n_equal;
    }
    __syncthreads();
    int64_t place = 0;
    int64_t ties = selection.n_ties; /* that this warp may still keep */
    for (int64_t warp = 0; warp < phx_warp(); warp++) {
        const int64_t equal = s.sums[PHX_SELECT_WARPS + warp];
        place += s.sums[warp] + (equal < ties ? equal : ties);
        ties -= equal < ties ? equal : ties;
    }
    for (int64_t begin = first; begin < end; begin += PHX_WARP) {
        const int64_t i = begin + phx_lane();
        const uint32_t rank = i < end ? phx_rank_of(x[i]) : 0;
        const bool is_equal = i < end && rank == selection.threshold;
        const uint32_t equal = phx_ballot(is_equal);
        const int64_t before = PHX_PLANT(23) ? 31 - phx_votes_below(equal) : phx_votes_below(equal);
        const bool keeps = (is_equal && before < ties) || (i < end && rank > selection.threshold);
        const uint32_t kept = phx_ballot(keeps);
        if (keeps)
            put(place + phx_votes_below(kept), i);
        place += phx_count_bits(kept);
        ties -= phx_count_bits(equal) < ties ? phx_count_bits(equal) : ties;
    }
    __syncthreads();
}

#endif
