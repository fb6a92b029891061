/* kernels/cuda/blockdot.cuh - the one arithmetic of all products with weights (DESIGN 7a): blocks of at most
 * PHX_K_BLOCK columns, each a chain of mma m16n8k16 from zero; weights are operand a, rows of x operand b,
 * for any number of rows. Blocks are added from left to right: sum = fmaf(block, scale, sum), scale 1 without
 * scales. A block ends where a scale block of the whole matrix ends, or every PHX_K_BLOCK columns from the
 * first (int4-g32: from the edge of the first one's group, see int4.cuh); missing columns are zeros. So the
 * bits depend on where a leaf begins, on nothing else. Owns: numbers of every format as bf16 pieces that add
 * up exactly; which column goes where in an mma; loads from global memory. Not here: who adds the blocks
 * (stream.cuh).
 *
 * Columns: a lane owns 16 bytes of a row of W, `run` columns; four lanes, one after the other, a group. Step
 * s of a group takes columns 4 s to 4 s + 3 of each of the four runs. */
#ifndef PHX_KERNELS_CUDA_BLOCKDOT_CUH
#define PHX_KERNELS_CUDA_BLOCKDOT_CUH

#include "kernels/cuda/number.cuh"

#define PHX_K_BLOCK  128
#define PHX_TILE_OUT 16 /* rows of W, and columns of x, of one mma */
#define PHX_TILE_ROW 8

/* x = the sum of its pieces, exactly: bf16 has 8 bits, f16 11, f32 24. */
PHX_DEVICE void phx_cut(float x, int n_pieces, uint16_t *pieces)
{
    for (int i = 0; i < n_pieces; i++) {
        pieces[i] = phx_f32_to_bf16(x);
        x -= phx_bf16_to_f32(pieces[i]);
    }
}

PHX_DEVICE uint32_t phx_pair(uint16_t low, uint16_t high)
{
    return (uint32_t)high << 16 | low;
}

/* Two numbers as pairs of pieces. */
template <int PIECES> PHX_DEVICE void phx_cut_pair(float low, float high, uint32_t *pairs)
{
    uint16_t a[PIECES];
    uint16_t b[PIECES];
    phx_cut(low, PIECES, a);
    phx_cut(high, PIECES, b);
    for (int i = 0; i < PIECES; i++)
        pairs[i] = phx_pair(a[i], b[i]);
}

/* Weights: `pieces`, columns in 16 bytes, and pairs[half][piece] of the four columns of step s. */
template <int FORMAT> struct phx_weights;

template <> struct phx_weights<PHX_FORMAT_BF16> {
    enum { pieces = 1, bytes = 2, run = 8 };
    static __device__ void step(const phx_16 &raw, int s, uint32_t pairs[2][pieces])
    {
        pairs[0][0] = raw.word[2 * s];
        pairs[1][0] = raw.word[2 * s + 1];
    }
};

template <> struct phx_weights<PHX_FORMAT_FP8_BLOCK> {
    enum { pieces = 1, bytes = 1, run = 16 };
    /* Two e4m3 codes in the high bytes of 16-bit halves: fields moved, then times 2^120, which is exact. */
    static __device__ uint32_t widen(uint32_t codes)
    {
        const uint32_t moved = (codes & 0x80008000u) | (codes >> 4 & 0x07F007F0u);
        return phx_mul_bf16x2(moved, 0x7B807B80u);
    }
    static __device__ void step(const phx_16 &raw, int s, uint32_t pairs[2][pieces])
    {
        pairs[0][0] = widen(phx_choose_bytes(raw.word[s], 0, 0x1404));
        pairs[1][0] = widen(phx_choose_bytes(raw.word[s], 0, 0x3424));
    }
};

template <> struct phx_weights<PHX_FORMAT_F16> {
    enum { pieces = 2, bytes = 2, run = 8 };
    static __device__ void step(const phx_16 &raw, int s, uint32_t pairs[2][pieces])
    {
        for (int h = 0; h < 2; h++) {
            const uint32_t two = raw.word[2 * s + h];
            phx_cut_pair<pieces>(phx_f16_value((uint16_t)two), phx_f16_value((uint16_t)(two >> 16)),
                                 pairs[h]);
        }
    }
};

template <> struct phx_weights<PHX_FORMAT_F32> {
    enum { pieces = 3, bytes = 4, run = 4 };
    static __device__ void step(const phx_16 &raw, int, uint32_t pairs[2][pieces])
    {
        for (int h = 0; h < 2; h++)
            phx_cut_pair<pieces>(phx_f32_of_bits(raw.word[2 * h]), phx_f32_of_bits(raw.word[2 * h + 1]),
                                 pairs[h]);
    }
};

template <> struct phx_weights<PHX_FORMAT_INT4_G32> {
    enum { pieces = 1, run = 32 };
    /* Columns 4 s to 4 s + 3 of a word: each under the exponent of 128, less 136. */
    static __device__ void step(uint32_t word, int s, uint32_t pairs[2][pieces])
    {
        const uint32_t four = word >> 16 * (PHX_PLANT(48) ? 1 - s : s);
        const uint32_t low = (four & 0xFu) | (four & 0xF0u) << 12;
        const uint32_t high = (four >> 8 & 0xFu) | (four & 0xF000u) << 4;
        pairs[0][0] =
            phx_add_bf16x2((PHX_PLANT(46) ? low << 16 | low >> 16 : low) | 0x43004300u, 0xC308C308u);
        pairs[1][0] = phx_add_bf16x2(high | 0x43004300u, 0xC308C308u);
    }
};

/* Bytes of n columns of a row; int4-g32: n is even. */
template <int FORMAT> PHX_DEVICE int64_t phx_columns_bytes(int64_t n)
{
    if constexpr (FORMAT == PHX_FORMAT_INT4_G32)
        return n / 2;
    else
        return n * phx_weights<FORMAT>::bytes;
}

/* Activations: four columns of a row as pairs[half][piece]; n of them are there. */
template <int DTYPE> struct phx_inputs;

template <> struct phx_inputs<PHX_BF16> {
    enum { pieces = 1, bytes = 2, align = 8 };
    static __device__ void whole(const void *p, uint32_t pairs[2][pieces])
    {
        const phx_8 raw = *(const phx_8 *)p;
        pairs[0][0] = raw.word[0];
        pairs[1][0] = raw.word[1];
    }
    static __device__ void part(const void *p, int64_t n, uint32_t pairs[2][pieces])
    {
        const uint16_t *x = (const uint16_t *)p;
        for (int h = 0; h < 2; h++)
            pairs[h][0] = phx_pair(2 * h < n ? x[2 * h] : 0, 2 * h + 1 < n ? x[2 * h + 1] : 0);
    }
};

template <> struct phx_inputs<PHX_F32> {
    enum { pieces = 3, bytes = 4, align = 16 };
    static __device__ void whole(const void *p, uint32_t pairs[2][pieces])
    {
        const phx_16 raw = *(const phx_16 *)p;
        for (int h = 0; h < 2; h++)
            phx_cut_pair<pieces>(phx_f32_of_bits(raw.word[2 * h]), phx_f32_of_bits(raw.word[2 * h + 1]),
                                 pairs[h]);
    }
    static __device__ void part(const void *p, int64_t n, uint32_t pairs[2][pieces])
    {
        const float *x = (const float *)p;
        for (int h = 0; h < 2; h++)
            phx_cut_pair<pieces>(2 * h < n ? x[2 * h] : 0.0f, 2 * h + 1 < n ? x[2 * h + 1] : 0.0f, pairs[h]);
    }
};

/* d += W * x for one step: w by row half, column half and piece, x by half and piece. Small pieces come
 * first, so that what an mma cuts off is small. */
template <int PIECES_W, int PIECES_X>
PHX_DEVICE void phx_mma_pieces(float d[4], const uint32_t w[2][2][PIECES_W], const uint32_t x[2][PIECES_X])
{
    PHX_UNROLL
    for (int i = PIECES_W * PIECES_X - 1; i >= 0; i--) {
        const int iw = i / PIECES_X;
        const int ix = i % PIECES_X;
        const uint32_t a[4] = {w[0][0][iw], w[1][0][iw], w[0][1][iw], w[1][1][iw]};
        const uint32_t b[2] = {x[0][ix], x[1][ix]};
        phx_mma_bf16(d, a, b);
    }
}

/* The first n elements of 16 bytes, then zeros. */
template <int BYTES> PHX_DEVICE phx_16 phx_load16_part(const void *p, int64_t n)
{
    phx_16 x = {{0, 0, 0, 0}};
    for (int i = 0; i < 16 / BYTES; i++) {
        if (i >= n)
            continue;
        const uint32_t element = BYTES == 1   ? ((const uint8_t *)p)[i]
                                 : BYTES == 2 ? ((const uint16_t *)p)[i]
                                              : ((const uint32_t *)p)[i];
        x.word[i * BYTES / 4] |= element << 8 * (i * BYTES % 4);
    }
    return x;
}

/* The blocks of columns [first, end) of w. */
typedef struct phx_blocks {
    int64_t first;
    int64_t end;
    int64_t origin; /* block i covers origin + 128 i to origin + 128 (i + 1), as far as it lies inside */
    int64_t n;
} phx_blocks;

PHX_DEVICE phx_blocks phx_blocks_of(const phx_matrix &w, int64_t first, int64_t end)
{
    const int64_t lead = w.group_scales ? (first + w.col_shift) % PHX_INT4_GROUP : 0;
    const int64_t shift = w.scales ? w.col_shift : lead - first;
    const int64_t skipped = (first + shift) / PHX_K_BLOCK;
    phx_blocks b = {first, end, skipped * PHX_K_BLOCK - shift, 0};
    if (end > first)
        b.n = (end - b.origin + (PHX_PLANT(4) ? 0 : PHX_K_BLOCK - 1)) / PHX_K_BLOCK;
    return b;
}

PHX_DEVICE int64_t phx_block_first(const phx_blocks &b, int64_t i)
{
    const int64_t first = b.origin + i * PHX_K_BLOCK;
    return first > b.first ? first : b.first;
}

PHX_DEVICE int64_t phx_block_end(const phx_blocks &b, int64_t i)
{
    const int64_t end = b.origin + (i + 1) * PHX_K_BLOCK;
    return end < b.end ? end : b.end;
}

/* What a lane reads for one block: its two rows of W, its row of x in each of NT tiles, at the block's first
 * column. Rows that are not there point at some that are. */
template <int NT> struct phx_dot_rows {
    const uint8_t *w[2];
    const uint8_t *x[NT];
};

/* Adds one group's dots: raw is what the lane has of it, from column k of the block on. WHOLE: rows of x are
 * aligned and go on to the block's end. */
template <int FORMAT, int DTYPE, int NT, bool WHOLE>
PHX_DEVICE void phx_group_dot(const phx_16 raw[2], const phx_dot_rows<NT> &rows, int64_t k, int64_t n,
                              float d[NT][4])
{
    typedef phx_weights<FORMAT> weights;
    typedef phx_inputs<DTYPE> inputs;
    enum { steps = weights::run / 4 };
    PHX_UNROLL
    for (int s = 0; s < steps; s++) {
        uint32_t w[2][2][weights::pieces]; /* row half, column half, piece */
        weights::step(raw[0], s, w[0]);
        weights::step(raw[1], s, w[1]);
        PHX_UNROLL
        for (int t = 0; t < NT; t++) {
            uint32_t x[2][inputs::pieces];
            const int64_t mine = k + 4 * (PHX_PLANT(6) && WHOLE ? s ^ 1 : s);
            const uint8_t *p = rows.x[t] + mine * inputs::bytes;
            if (WHOLE)
                inputs::whole(p, x);
            else
                inputs::part(p, n - mine, x);
            phx_mma_pieces<weights::pieces, inputs::pieces>(d[t], w, x);
        }
    }
}

/* A block of PHX_K_BLOCK columns, all loads whole and aligned; the loads of W come before the first mma. */
template <int FORMAT, int DTYPE, int NT>
PHX_DEVICE void phx_block_dot_whole(const phx_dot_rows<NT> &rows, float d[NT][4])
{
    typedef phx_weights<FORMAT> weights;
    enum { group = 4 * weights::run, groups = PHX_K_BLOCK / group };
    const int64_t at = phx_lane() % 4 * weights::run; /* my columns of each group */
    phx_16 raw[groups][2];
    PHX_UNROLL
    for (int g = 0; g < groups; g++) {
        raw[g][0] = phx_load16_stream(rows.w[0] + (g * group + at) * weights::bytes);
        raw[g][1] =
            PHX_PLANT(5) ? raw[g][0] : phx_load16_stream(rows.w[1] + (g * group + at) * weights::bytes);
    }
    PHX_UNROLL
    for (int g = 0; g < groups; g++)
        phx_group_dot<FORMAT, DTYPE, NT, true>(raw[g], rows, g * group + at, PHX_K_BLOCK, d);
}

/* Each number for itself, a group at a time: rare, and so as little code as may be. */
template <int FORMAT, int DTYPE, int NT>
PHX_DEVICE void phx_block_dot_part(const phx_dot_rows<NT> &rows, int64_t n, float d[NT][4])
{
    typedef phx_weights<FORMAT> weights;
    const int64_t at = phx_lane() % 4 * weights::run;
    PHX_NO_UNROLL
    for (int64_t first = 0; first < n; first += 4 * weights::run) {
        const int64_t k = first + at;
        phx_16 raw[2];
        for (int half = 0; half < 2; half++)
            raw[half] = phx_load16_part<weights::bytes>(rows.w[half] + k * weights::bytes,
                                                        n - k - (PHX_PLANT(7) ? 1 : 0));
        phx_group_dot<FORMAT, DTYPE, NT, false>(raw, rows, k, n, d);
    }
}

/* d[t] = the dots of PHX_TILE_OUT rows of W with NT tiles of rows of x over n <= PHX_K_BLOCK columns, where
 * the fragments of phx_mma_bf16 lie. */
template <int FORMAT, int DTYPE, int NT>
PHX_DEVICE void phx_block_dot(const phx_dot_rows<NT> &rows, int64_t n, float d[NT][4])
{
    uintptr_t low_bits = ((uintptr_t)rows.w[0] | (uintptr_t)rows.w[1]) & 15u;
    for (int t = 0; t < NT; t++) {
        low_bits |= (uintptr_t)rows.x[t] & (phx_inputs<DTYPE>::align - 1u);
        for (int i = 0; i < 4; i++)
            d[t][i] = 0.0f;
    }
    if (phx_ballot(n == PHX_K_BLOCK && low_bits == 0) == PHX_ALL_LANES)
        phx_block_dot_whole<FORMAT, DTYPE, NT>(rows, d);
    else
        phx_block_dot_part<FORMAT, DTYPE, NT>(rows, n, d);
}

#endif
