/* kernels/cuda/stream.cuh - products of few rows: a block of threads owns PHX_TILE_OUT rows of W and NT tiles
 * of rows of x. Its warps take turns at the blocks of columns and read W from memory once, straight into
 * registers; the parts meet in shared memory, where they are added in order.
 * Owns: that loop. Not here: which blocks there are and what becomes of the sums (product.cu, ffn.cu). */
#ifndef PHX_KERNELS_CUDA_STREAM_CUH
#define PHX_KERNELS_CUDA_STREAM_CUH

#include "kernels/cuda/int4.cuh"

#define PHX_STREAM_THREADS 256
#define PHX_STREAM_WARPS   (PHX_STREAM_THREADS / PHX_WARP)

/* Sizes of one instance. A part holds [tile of rows][PHX_TILE_OUT][PHX_TILE_ROW] sums. */
template <int NT> struct phx_stream {
    enum {
        sums = NT * PHX_TILE_OUT * PHX_TILE_ROW,
        owned = (sums + PHX_STREAM_THREADS - 1) / PHX_STREAM_THREADS /* sums per thread */
    };
};

/* Where parts wait for their turn. `sums` has n_sums elements: one part of NT tiles is sums / NT of them. */
typedef struct phx_waiting {
    phx_shared<float> sums;
    phx_shared<float> scales; /* [PHX_TILE_OUT] for every PHX_PART_SUMS of sums */
    int64_t n_sums;
} phx_waiting;

#define PHX_PART_SUMS    (PHX_TILE_OUT * PHX_TILE_ROW) /* of one tile of rows */
#define PHX_WAITING_SUMS 8192                          /* 64 parts of one tile */

/* What one warp computes: a block of columns of 16 rows of one matrix with NT tiles of rows of x. */
template <int NT> struct phx_item {
    const phx_matrix *w;
    int64_t row; /* of W, the first of PHX_TILE_OUT; rows from row_end on are not there */
    int64_t row_end;
    int64_t first; /* columns */
    int64_t end;
    const void *x;      /* column 0 of row 0 */
    int64_t x_rows[NT]; /* this lane's row of each tile, of x */
    int64_t x_stride;   /* elements */
};

/* FORMAT of a kernel that learns it from each matrix, because the host cannot see that (experts). */
#define PHX_FORMAT_ANY PHX_FORMAT_COUNT

/* Four sums of every tile, as the fragments of phx_mma_bf16 lie. */
template <int FORMAT, int DTYPE, int NT>
PHX_DEVICE void phx_item_dot(const phx_item<NT> &item, float d[NT][4])
{
    phx_dot_rows<NT> rows;
    phx_int4_rows more = {{NULL, NULL}, (item.first + item.w->col_shift) % PHX_INT4_GROUP};
    for (int half = 0; half < 2; half++) {
        const int64_t row = item.row + phx_lane() / 4 + 8 * half;
        const int64_t there = row < item.row_end ? row : item.row_end - 1;
        rows.w[half] =
            (const uint8_t *)item.w->data + phx_columns_bytes<FORMAT>(there * item.w->n_cols + item.first);
        if (FORMAT == PHX_FORMAT_INT4_G32)
            more.scales[half] = item.w->group_scales + there * item.w->scale_stride +
                                (item.first + item.w->col_shift) / PHX_INT4_GROUP;
    }
    for (int t = 0; t < NT; t++)
        rows.x[t] = (const uint8_t *)item.x +
                    (item.x_rows[t] * item.x_stride + item.first) * phx_inputs<DTYPE>::bytes;
    if constexpr (FORMAT == PHX_FORMAT_INT4_G32)
        phx_int4_dot<DTYPE, NT>(rows, more, item.end - item.first, d);
    else
        phx_block_dot<FORMAT, DTYPE, NT>(rows, item.end - item.first, d);
}

/* The part of one item, and its scales, to where they wait for their turn. */
template <int FORMAT, int DTYPE, int NT>
PHX_DEVICE void phx_item_part(const phx_item<NT> &item, phx_shared<float> part, phx_shared<float> scales)
{
    const int64_t lane = phx_lane();
    if (lane < PHX_TILE_OUT) {
        const int64_t row = item.row + lane < item.row_end ? item.row + lane : item.row_end - 1;
        scales[lane] =
            item.w->scales ? phx_scale_at(*item.w, row, PHX_PLANT(3) ? item.end : item.first) : 1.0f;
    }
    float d[NT][4];
    if (FORMAT != PHX_FORMAT_ANY)
        phx_item_dot<FORMAT == PHX_FORMAT_ANY ? PHX_FORMAT_BF16 : FORMAT, DTYPE, NT>(item, d);
    else if (item.w->format == PHX_FORMAT_FP8_BLOCK)
        phx_item_dot<PHX_FORMAT_FP8_BLOCK, DTYPE, NT>(item, d);
    else if (item.w->format == PHX_FORMAT_BF16)
        phx_item_dot<PHX_FORMAT_BF16, DTYPE, NT>(item, d);
    else if (item.w->format == PHX_FORMAT_INT4_G32)
        phx_item_dot<PHX_FORMAT_INT4_G32, DTYPE, NT>(item, d);
    else if (item.w->format == PHX_FORMAT_F16)
        phx_item_dot<PHX_FORMAT_F16, DTYPE, NT>(item, d);
    else
        phx_item_dot<PHX_FORMAT_F32, DTYPE, NT>(item, d);
    const int64_t at = lane / 4 * PHX_TILE_ROW + lane % 4 * 2;
    for (int t = 0; t < NT; t++) {
        for (int i = 0; i < 4; i++)
            part[t * PHX_PART_SUMS + i / 2 * 8 * PHX_TILE_ROW + at + i % 2] = d[t][i];
    }
}

/* Runs all items of work, of which there are work.n_items(): work.item(i, slot) on some warp, then
 * work.add(slot, owned, part, scale) for ascending i on the thread that owns sum threadIdx.x + owned *
 * PHX_STREAM_THREADS, unless that is past the end. Slots number what waits between two barriers. */
template <int FORMAT, int DTYPE, int NT, class Work>
PHX_DEVICE void phx_stream_run(Work &work, const phx_waiting &waiting)
{
    typedef phx_stream<NT> sizes;
    const int64_t n_items = work.n_items();
    const int64_t n_slots = waiting.n_sums / sizes::sums;
    for (int64_t first = 0; first < n_items; first += n_slots) {
        const int64_t n = n_items - first < n_slots ? n_items - first : n_slots;
        for (int64_t i = phx_warp(); i < n; i += PHX_STREAM_WARPS)
            phx_item_part<FORMAT, DTYPE, NT>(work.item(first + i, i), waiting.sums + i * sizes::sums,
                                             waiting.scales + i * PHX_TILE_OUT);
        if (!PHX_PLANT(1))
            __syncthreads();
        for (int o = 0; o < sizes::owned; o++) {
            const int64_t sum = threadIdx.x + o * PHX_STREAM_THREADS;
            if (sum >= sizes::sums)
                continue;
            const int64_t out = sum / PHX_TILE_ROW % PHX_TILE_OUT;
            for (int64_t i = 0; i < n; i++)
                work.add(i, o, waiting.sums[i * sizes::sums + sum], waiting.scales[i * PHX_TILE_OUT + out]);
        }
        if (!PHX_PLANT(2))
            __syncthreads();
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

/* The format whose scales change along a row (int4.cuh). */
#define PHX_STREAM_CASES_INT4(X)        \
    X(PHX_FORMAT_INT4_G32, PHX_BF16, 4) \
    X(PHX_FORMAT_INT4_G32, PHX_F32, 4)

#endif
