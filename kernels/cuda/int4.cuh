/* kernels/cuda/int4.cuh - int4-g32 weights in the arithmetic of blockdot.cuh: a block of at most PHX_K_BLOCK
 * columns begins at the edge of the group that holds its first column; within it, group by group from the
 * left, two mma steps from zero over 32 columns, then block = fmaf(group, scale, block) with each row's own
 * scale. Numbers -8..7 are exact bf16. Owns: that block, for stream.cuh. Not here: tiles of many rows
 * (tile.cuh), which do the same mma by mma.
 *
 * Columns: word t of a group's four belongs to lane t of the four that share a row; step s takes columns 4 s
 * to 4 s + 3 of each word. */
#ifndef PHX_KERNELS_CUDA_INT4_CUH
#define PHX_KERNELS_CUDA_INT4_CUH

#include "kernels/cuda/blockdot.cuh"

/* What a lane reads of its two rows of W, beside the weights. */
typedef struct phx_int4_rows {
    const uint16_t *scales[2]; /* of the group that holds the block's first column */
    int64_t lead;              /* columns of that group before the block's first; 0 but where a leaf begins */
} phx_int4_rows;

/* In: word i of group t, t the lane's number among its four. Out: word t of group i. */
PHX_DEVICE void phx_transpose4(uint32_t word[4])
{
    const int64_t t = phx_lane() % 4;
    PHX_UNROLL
    for (int j = 0; j < 4; j += 2) {
        const uint32_t sent = (t & 1) != 0 ? word[j] : word[j + 1];
        const uint32_t got = (uint32_t)phx_shfl_xor((int32_t)sent, 1);
        if ((t & 1) != 0)
            word[j] = got;
        else
            word[j + 1] = got;
    }
    PHX_UNROLL
    for (int j = 0; j < 2; j++) {
        const uint32_t sent = (t & 2) != 0 ? word[j] : word[j + 2];
        const uint32_t got = (uint32_t)phx_shfl_xor((int32_t)sent, 2);
        if ((t & 2) != 0)
            word[j] = got;
        else
            word[j + 2] = got;
    }
}

/* Eight weights from column k of a row on, of which [0, n) are there; the others are zero. */
PHX_DEVICE uint32_t phx_int4_part(const uint8_t *row, int64_t k, int64_t n)
{
    uint32_t word = 0x88888888u;
    for (int j = 0; j < 8; j += 2) {
        if (k + j < 0 || k + j >= n)
            continue;
        word &= ~(0xFFu << 4 * j);
        word |= (uint32_t)row[(k + j) / 2] << 4 * j;
    }
    return word;
}

/* Four columns of a row of x from column k on, of which [0, n) are there; k is even. */
template <int DTYPE>
PHX_DEVICE void phx_input_part(const uint8_t *row, int64_t k, int64_t n,
                               uint32_t x[2][phx_inputs<DTYPE>::pieces])
{
    typedef phx_inputs<DTYPE> inputs;
    uint32_t got[2][inputs::pieces];
    const int64_t from = k < 0 ? 0 : k;
    const int64_t skipped = (from - k) / 2; /* pairs */
    inputs::part(row + from * inputs::bytes, n - from, got);
    for (int h = 0; h < 2; h++) {
        for (int i = 0; i < inputs::pieces; i++)
            x[h][i] = skipped == 0 ? got[h][i] : skipped == 1 && h == 1 ? got[0][i] : 0;
    }
}

/* What a block is made of. */
typedef struct phx_int4_block {
    int64_t n; /* columns */
    int64_t n_groups;
} phx_int4_block;

/* Adds the dots of group g, of whose words the lane has one of each row. WHOLE: as phx_group_dot. */
template <int DTYPE, int NT, bool WHOLE>
PHX_DEVICE void phx_int4_group_dot(const uint32_t word[2], const phx_dot_rows<NT> &rows,
                                   const phx_int4_rows &more, const phx_int4_block &block, int64_t g,
                                   float d[NT][4])
{
    typedef phx_weights<PHX_FORMAT_INT4_G32> weights;
    typedef phx_inputs<DTYPE> inputs;
    const int64_t scale = PHX_PLANT(47) ? block.n_groups - 1 - g : g;
    const float low = phx_bf16_to_f32(more.scales[0][scale]);
    const float high = phx_bf16_to_f32(more.scales[1][scale]);
    float part[NT][4] = {};
    PHX_UNROLL
    for (int s = 0; s < 2; s++) {
        uint32_t w[2][2][1]; /* row half, column half */
        weights::step(word[0], s, w[0]);
        weights::step(word[1], s, w[1]);
        PHX_UNROLL
        for (int t = 0; t < NT; t++) {
            uint32_t x[2][inputs::pieces];
            const int64_t k = g * PHX_INT4_GROUP + phx_lane() % 4 * 8 + 4 * s;
            if (WHOLE)
                inputs::whole(rows.x[t] + k * inputs::bytes, x);
            else
                phx_input_part<DTYPE>(rows.x[t], k - more.lead, block.n, x);
            phx_mma_pieces<1, inputs::pieces>(part[t], w, x);
        }
    }
    PHX_UNROLL
    for (int t = 0; t < NT; t++) {
        for (int i = 0; i < 4; i++)
            d[t][i] = fmaf(part[t][i], i < 2 ? low : high, d[t][i]);
    }
}

/* phx_block_dot_whole and phx_block_dot_part for int4-g32; rows.w and rows.x point at the block's first
 * column. */
template <int DTYPE, int NT>
PHX_DEVICE void phx_int4_dot_whole(const phx_dot_rows<NT> &rows, const phx_int4_rows &more, float d[NT][4])
{
    enum { groups = PHX_K_BLOCK / PHX_INT4_GROUP };
    phx_16 words[2]; /* of a row, group by group */
    for (int half = 0; half < 2; half++) {
        words[half] = phx_load16_stream(rows.w[half] + phx_lane() % 4 * 16);
        phx_transpose4(words[half].word);
    }
    PHX_UNROLL
    for (int g = 0; g < groups; g++) {
        const uint32_t word[2] = {words[0].word[g], words[1].word[g]};
        phx_int4_group_dot<DTYPE, NT, true>(word, rows, more, {PHX_K_BLOCK, groups}, g, d);
    }
}

template <int DTYPE, int NT>
PHX_DEVICE void phx_int4_dot_part(const phx_dot_rows<NT> &rows, const phx_int4_rows &more, int64_t n,
                                  float d[NT][4])
{
    const phx_int4_block block = {n, (n + more.lead + PHX_INT4_GROUP - 1) / PHX_INT4_GROUP};
    PHX_NO_UNROLL
    for (int64_t g = 0; g < block.n_groups; g++) {
        const int64_t k = g * PHX_INT4_GROUP + phx_lane() % 4 * 8 - more.lead;
        const uint32_t word[2] = {phx_int4_part(rows.w[0], k, n), phx_int4_part(rows.w[1], k, n)};
        phx_int4_group_dot<DTYPE, NT, false>(word, rows, more, block, g, d);
    }
}

template <int DTYPE, int NT>
PHX_DEVICE void phx_int4_dot(const phx_dot_rows<NT> &rows, const phx_int4_rows &more, int64_t n,
                             float d[NT][4])
{
    uintptr_t low_bits = ((uintptr_t)rows.w[0] | (uintptr_t)rows.w[1]) & 15u;
    for (int t = 0; t < NT; t++) {
        low_bits |= (uintptr_t)rows.x[t] & (phx_inputs<DTYPE>::align - 1u);
        for (int i = 0; i < 4; i++)
            d[t][i] = 0.0f;
    }
    if (phx_ballot(n == PHX_K_BLOCK && low_bits == 0) == PHX_ALL_LANES)
        phx_int4_dot_whole<DTYPE, NT>(rows, more, d);
    else
        phx_int4_dot_part<DTYPE, NT>(rows, more, n, d);
}

#endif
