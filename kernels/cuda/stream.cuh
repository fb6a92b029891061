/* kernels/cuda/stream.cuh - products of few rows: a block of threads owns PHX_TILE_OUT rows of W and NT tiles
 * of rows of x. Its warps take turns at the blocks of columns and read W from memory once, straight into
 * registers; the parts meet in shared memory, where they are added in order.
 * Owns: that loop. Not here: which blocks there are and what becomes of the sums (product.cu, ffn.cu). */
#ifndef PHX_KERNELS_CUDA_STREAM_CUH
#define PHX_KERNELS_CUDA_STREAM_CUH

#include "kernels/cuda/blockdot.cuh"

#define PHX_STREAM_THREADS 256
#define PHX_STREAM_WARPS   (PHX_STREAM_THREADS / PHX_WARP)

/* Sizes of one instance. A part holds [tile of rows][PHX_TILE_OUT][PHX_TILE_ROW] sums. */
template <int NT> struct phx_stream {
    enum {
        sums = NT * PHX_TILE_OUT * PHX_TILE_ROW,
        parts = 64 / NT,                                             /* between two barriers: 32 KiB */
        owned = (sums + PHX_STREAM_THREADS - 1) / PHX_STREAM_THREADS /* sums per thread */
    };
};

/* What one warp computes: a block of columns of 16 rows of one matrix with NT tiles of rows of x. */
template <int NT> struct phx_item {
    const phx_matrix *w;
    int64_t row; /* of W, the first of 16; rows from row_end on are not there */
    int64_t row_end;
    int64_t first; /* columns */
    int64_t end;
    const void *x;      /* column 0 of row 0 */
    int64_t x_rows[NT]; /* this lane's row of each tile, of x */
    int64_t x_stride;   /* elements */
};

/* The part of one item, and its 16 scales, to where they wait for their turn. */
template <int FORMAT, int DTYPE, int NT>
PHX_DEVICE void phx_item_part(const phx_item<NT> &item, phx_shared<float> part, phx_shared<float> scales)
{
    typedef phx_weights<FORMAT> weights;
    const phx_matrix &w = *item.w;
    const int64_t lane = phx_lane();
    phx_dot_rows<NT> rows;
    for (int half = 0; half < 2; half++) {
        const int64_t row = item.row + lane / 4 + 8 * half;
        const int64_t there = row < item.row_end ? row : item.row_end - 1;
        rows.w[half] = (const uint8_t *)w.data + (there * w.n_cols + item.first) * weights::bytes;
    }
    for (int t = 0; t < NT; t++)
        rows.x[t] = (const uint8_t *)item.x +
                    (item.x_rows[t] * item.x_stride + item.first) * phx_inputs<DTYPE>::bytes;
    if (weights::scaled && lane < PHX_TILE_OUT) {
        const int64_t row = item.row + lane < item.row_end ? item.row + lane : item.row_end - 1;
        scales[lane] = phx_scale_at(w, row, item.first);
    }
    float d[NT][4];
    phx_block_dot<FORMAT, DTYPE, NT>(rows, item.end - item.first, d);
    const int64_t at = lane / 4 * PHX_TILE_ROW + lane % 4 * 2;
    for (int t = 0; t < NT; t++) {
        for (int i = 0; i < 4; i++)
            part[t * PHX_TILE_OUT * PHX_TILE_ROW + i / 2 * 8 * PHX_TILE_ROW + at + i % 2] = d[t][i];
    }
}

/* Runs all items of work, of which there are work.n_items(): work.item(i) on some warp, then work.add(i,
 * owned, part, scale) for ascending i on the thread that owns sum threadIdx.x + owned * PHX_STREAM_THREADS,
 * unless that is past the end. */
template <int FORMAT, int DTYPE, int NT, class Work> PHX_DEVICE void phx_stream_run(Work &work)
{
    typedef phx_stream<NT> sizes;
    PHX_SHARED(float, parts, sizes::parts *sizes::sums);
    PHX_SHARED(float, scales, sizes::parts *PHX_TILE_OUT);
    const int64_t n_items = work.n_items();
    for (int64_t first = 0; first < n_items; first += sizes::parts) {
        const int64_t n = n_items - first < sizes::parts ? n_items - first : (int64_t)sizes::parts;
        if (first > 0)
            __syncthreads();
        for (int64_t i = phx_warp(); i < n; i += PHX_STREAM_WARPS)
            phx_item_part<FORMAT, DTYPE, NT>(work.item(first + i), parts + i * sizes::sums,
                                             scales + i * PHX_TILE_OUT);
        __syncthreads();
        for (int o = 0; o < sizes::owned; o++) {
            const int64_t sum = threadIdx.x + o * PHX_STREAM_THREADS;
            if (sum >= sizes::sums)
                continue;
            const int64_t out = sum / PHX_TILE_ROW % PHX_TILE_OUT;
            for (int64_t i = 0; i < n; i++)
                work.add(first + i, o, parts[i * sizes::sums + sum],
                         phx_weights<FORMAT>::scaled ? scales[i * PHX_TILE_OUT + out] : 1.0f);
        }
    }
}

/* Where sum number `sum` of a block lies: row of W and row of x inside the tiles. */
PHX_DEVICE int64_t phx_sum_out(int64_t sum)
{
    return sum / PHX_TILE_ROW % PHX_TILE_OUT;
}

PHX_DEVICE int64_t phx_sum_row(int64_t sum)
{
    return sum / (PHX_TILE_OUT * PHX_TILE_ROW) * PHX_TILE_ROW + sum % PHX_TILE_ROW;
}

/* Every format of W with every dtype of x, and how many tiles of rows of x a block takes when there are more
 * than one; the rare formats have no instances of their own for that. */
#define PHX_STREAM_CASES(X)              \
    X(PHX_FORMAT_F32, PHX_BF16, 1)       \
    X(PHX_FORMAT_F32, PHX_F32, 1)        \
    X(PHX_FORMAT_BF16, PHX_BF16, 4)      \
    X(PHX_FORMAT_BF16, PHX_F32, 4)       \
    X(PHX_FORMAT_F16, PHX_BF16, 1)       \
    X(PHX_FORMAT_F16, PHX_F32, 1)        \
    X(PHX_FORMAT_FP8_BLOCK, PHX_BF16, 4) \
    X(PHX_FORMAT_FP8_BLOCK, PHX_F32, 4)

#endif
