/* kernels/cuda/tile.cuh - products of many rows: a block of threads owns PHX_TILE_W rows of W and PHX_TILE_X
 * rows of x, and passes both through shared memory in stages of 64 columns, copied ahead. The arithmetic is
 * that of blockdot.cuh, mma by mma, so the bits are those of stream.cuh. Owns: stages, their layout, the
 * loop. Only bf16 rows of x, bf16, fp8 and int4 weights, whole aligned blocks of columns: phx_tile_fits. Not
 * here: which rows, and what becomes of the sums (product.cu, ffn.cu).
 *
 * Layout: a stage holds rows of x of 128 bytes in eight chunks of 16, and rows of W likewise (bf16) or of 64
 * bytes (fp8) or 32 (int4). Chunks of odd rows are moved by an exclusive or, so that the two rows that eight
 * lanes read together lie in different banks; of int4 rows, those of every other four. */
#ifndef PHX_KERNELS_CUDA_TILE_CUH
#define PHX_KERNELS_CUDA_TILE_CUH

#include "kernels/cuda/blockdot.cuh"

#define PHX_TILE_THREADS 256
#define PHX_TILE_W       128 /* rows of W: four warps of 32 */
#define PHX_TILE_X       128 /* rows of x: two warps of 64 */
#define PHX_STAGE_COLS   64
#define PHX_STAGES       3
#define PHX_WARP_X       (PHX_TILE_X / 2 / PHX_TILE_ROW) /* tiles of rows of x of a warp */

template <int FORMAT> struct phx_tile {
    enum {
        w_row = PHX_STAGE_COLS * phx_weights<FORMAT>::bytes, /* bytes */
        x_row = PHX_STAGE_COLS * 2,
        w_chunks = w_row / 16, /* of a row */
        x_chunks = x_row / 16,
        w_copies = PHX_TILE_W * w_chunks / PHX_TILE_THREADS, /* of a thread */
        x_copies = PHX_TILE_X * x_chunks / PHX_TILE_THREADS,
        w_bytes = PHX_TILE_W * w_row,
        stage_bytes = w_bytes + PHX_TILE_X * x_row,
        shared_bytes = PHX_STAGES * stage_bytes,
        x_chunks_run = 2 * phx_weights<FORMAT>::run / 16, /* of a lane's run */
        w_swap = w_chunks == 8 ? 4 : 0,
        w_swap_rows = 1,
        x_swap = x_chunks_run == 1 ? 4 : 1
    };
};

template <> struct phx_tile<PHX_FORMAT_INT4_G32> {
    enum {
        w_row = PHX_STAGE_COLS / 2,
        x_row = PHX_STAGE_COLS * 2,
        w_chunks = w_row / 16,
        x_chunks = x_row / 16,
        w_copies = PHX_TILE_W * w_chunks / PHX_TILE_THREADS,
        x_copies = PHX_TILE_X * x_chunks / PHX_TILE_THREADS,
        w_bytes = PHX_TILE_W * w_row,
        stage_bytes = w_bytes + PHX_TILE_X * x_row,
        shared_bytes = PHX_STAGES * stage_bytes,
        w_swap = 1,
        w_swap_rows = 4,
        x_swap = 4
    };
};

/* What one thread copies and scales by. */
template <int FORMAT> struct phx_tile_rows {
    const uint8_t *w[phx_tile<FORMAT>::w_copies]; /* my chunk of column 0 of my rows of W */
    const uint8_t *x[phx_tile<FORMAT>::x_copies];
    const float *scales[2][2];    /* fp8: of column 0 of the rows whose sums I own: tile, row half */
    const uint16_t *groups[2][2]; /* int4-g32: likewise */
};

/* The scales of the groups of a stage, read before its weights are there; formats without groups: none. */
template <int FORMAT> struct phx_stage_scales {
    __device__ void load(const phx_tile_rows<FORMAT> &, int64_t)
    {
    }
};

template <> struct phx_stage_scales<PHX_FORMAT_INT4_G32> {
    uint32_t pairs[2][2]; /* tile, row half: of both groups of the stage, the first one low */
    __device__ void load(const phx_tile_rows<PHX_FORMAT_INT4_G32> &rows, int64_t stage)
    {
        for (int i = 0; i < 4; i++)
            pairs[i / 2][i % 2] = ((const uint32_t *)rows.groups[i / 2][i % 2])[stage];
    }
    __device__ float of(int group, int tile, int half) const
    {
        const uint32_t pair = pairs[tile][half];
        return phx_f32_of_bits(group == 0 ? pair << 16 : pair & 0xFFFF0000u);
    }
};

/* Row number of a thread's i-th copy inside the tile, and its chunk; W and x alike. */
template <int CHUNKS> PHX_DEVICE int64_t phx_copy_row(int i)
{
    return threadIdx.x / CHUNKS + i * (PHX_TILE_THREADS / CHUNKS);
}

template <int CHUNKS> PHX_DEVICE int64_t phx_copy_chunk(void)
{
    return threadIdx.x % CHUNKS;
}

/* Rows of W and x inside the tile of the sums d[w][x][i] of this thread. */
PHX_DEVICE int64_t phx_tile_w_row(int w, int i)
{
    return phx_warp() / 2 * 32 + w * PHX_TILE_OUT + i / 2 * 8 + phx_lane() / 4;
}

PHX_DEVICE int64_t phx_tile_x_row(int x, int i)
{
    return phx_warp() % 2 * (PHX_TILE_X / 2) + x * PHX_TILE_ROW + phx_lane() % 4 * 2 + i % 2;
}

template <int FORMAT>
PHX_DEVICE void phx_stage_copy(const phx_tile_rows<FORMAT> &rows, int64_t stage, phx_shared<uint8_t> buffer)
{
    typedef phx_tile<FORMAT> tile;
    PHX_UNROLL
    for (int i = 0; i < tile::w_copies; i++) {
        const int64_t row = phx_copy_row<tile::w_chunks>(i);
        const int64_t chunk = phx_copy_chunk<tile::w_chunks>() ^ (row / tile::w_swap_rows % 2 * tile::w_swap);
        phx_copy16_async(buffer, row * tile::w_row + chunk * 16, rows.w[i] + stage * tile::w_row);
    }
    PHX_UNROLL
    for (int i = 0; i < tile::x_copies; i++) {
        const int64_t row = phx_copy_row<tile::x_chunks>(i);
        const int64_t chunk = phx_copy_chunk<tile::x_chunks>() ^ (row % 2 * tile::x_swap);
        phx_copy16_async(buffer, tile::w_bytes + row * tile::x_row + chunk * 16,
                         rows.x[i] + stage * tile::x_row);
    }
}

/* The mma of one stage onto part. */
template <int FORMAT> PHX_DEVICE void phx_stage_mma(phx_shared<uint8_t> buffer, float part[2][PHX_WARP_X][4])
{
    typedef phx_tile<FORMAT> tile;
    typedef phx_weights<FORMAT> weights;
    enum {
        groups = PHX_STAGE_COLS / (4 * weights::run),
        steps_chunk = weights::run / 4 / tile::x_chunks_run
    };
    const int64_t lane_row = phx_lane() / 4;
    PHX_UNROLL
    for (int g = 0; g < groups; g++) {
        phx_16 raw[2][2]; /* tile of W, row half */
        for (int i = 0; i < 4; i++) {
            const int64_t row = phx_tile_w_row(i / 2, i % 2 * 2);
            const int64_t chunk = (g * 4 + phx_lane() % 4) ^ (row % 2 * tile::w_swap);
            raw[i / 2][i % 2] = phx_load16_shared(buffer, row * tile::w_row + chunk * 16);
        }
        PHX_UNROLL
        for (int c = 0; c < tile::x_chunks_run; c++) {
            uint32_t w[2][steps_chunk][2][2][1];
            for (int s = 0; s < steps_chunk; s++) {
                for (int i = 0; i < 4; i++)
                    weights::step(raw[i / 2][i % 2], c * steps_chunk + s, w[i / 2][s][i % 2]);
            }
            PHX_UNROLL
            for (int x = 0; x < PHX_WARP_X; x++) {
                const int64_t row = phx_warp() % 2 * (PHX_TILE_X / 2) + x * PHX_TILE_ROW + lane_row;
                const int64_t mine = (g * 4 + phx_lane() % 4) * tile::x_chunks_run + c;
                const int64_t chunk = mine ^ (PHX_PLANT(17) ? 0 : row % 2 * tile::x_swap);
                const phx_16 four = phx_load16_shared(buffer, tile::w_bytes + row * tile::x_row + chunk * 16);
                PHX_UNROLL
                for (int s = 0; s < steps_chunk; s++) {
                    const uint32_t pairs[2][1] = {{four.word[2 * s]}, {four.word[2 * s + 1]}};
                    phx_mma_pieces<1, 1>(part[0][x], w[0][s], pairs);
                    phx_mma_pieces<1, 1>(part[1][x], w[1][s], pairs);
                }
            }
        }
    }
}

PHX_DEVICE void phx_stage_mma_int4(phx_shared<uint8_t> buffer,
                                   const phx_stage_scales<PHX_FORMAT_INT4_G32> &scales,
                                   float part[2][PHX_WARP_X][4])
{
    typedef phx_tile<PHX_FORMAT_INT4_G32> tile;
    PHX_UNROLL
    for (int g = 0; g < PHX_STAGE_COLS / PHX_INT4_GROUP; g++) {
        uint32_t w[2][2][2][2][1]; /* tile, step, row half, column half */
        for (int i = 0; i < 4; i++) {
            const int64_t row = phx_tile_w_row(i / 2, i % 2 * 2);
            const int64_t chunk = g ^ (row / tile::w_swap_rows % 2 * tile::w_swap);
            const uint32_t word =
                phx_load4_shared(buffer, row * tile::w_row + chunk * 16 + phx_lane() % 4 * 4);
            for (int s = 0; s < 2; s++)
                phx_weights<PHX_FORMAT_INT4_G32>::step(word, s, w[i / 2][s][i % 2]);
        }
        PHX_UNROLL
        for (int x = 0; x < PHX_WARP_X; x++) {
            const int64_t row = phx_warp() % 2 * (PHX_TILE_X / 2) + x * PHX_TILE_ROW + phx_lane() / 4;
            const int64_t chunk = (g * 4 + phx_lane() % 4) ^ (row % 2 * tile::x_swap);
            const phx_16 eight = phx_load16_shared(buffer, tile::w_bytes + row * tile::x_row + chunk * 16);
            float group[2][4] = {};
            PHX_UNROLL
            for (int s = 0; s < 2; s++) {
                const uint32_t pairs[2][1] = {{eight.word[2 * s]}, {eight.word[2 * s + 1]}};
                phx_mma_pieces<1, 1>(group[0], w[0][s], pairs);
                phx_mma_pieces<1, 1>(group[1], w[1][s], pairs);
            }
            for (int i = 0; i < 8; i++)
                part[i / 4][x][i % 4] =
                    fmaf(group[i / 4][i % 4], scales.of(PHX_PLANT(49) ? 0 : g, i / 4, i % 4 / 2),
                         part[i / 4][x][i % 4]);
        }
    }
}

/* sums[w][x] = the dots over n_cols columns, a multiple of PHX_K_BLOCK. All threads of the block. */
template <int FORMAT>
PHX_DEVICE void phx_tile_run(const phx_tile_rows<FORMAT> &rows, int64_t n_cols, phx_shared<uint8_t> shared,
                             float sums[2][PHX_WARP_X][4])
{
    typedef phx_tile<FORMAT> tile;
    const int64_t n_stages = n_cols / PHX_STAGE_COLS;
    float part[2][PHX_WARP_X][4] = {};
    phx_stage_scales<FORMAT> scales;
    phx_stage_scales<FORMAT> next_scales;
    next_scales.load(rows, 0);
    for (int i = 0; i < 2 * PHX_WARP_X * 4; i++)
        sums[i / 4 / PHX_WARP_X][i / 4 % PHX_WARP_X][i % 4] = 0.0f;
    __syncthreads(); /* the buffers may still be read for a tile before this one */
    for (int64_t ahead = 0; ahead < PHX_STAGES - 1; ahead++) {
        if (ahead < n_stages)
            phx_stage_copy<FORMAT>(rows, ahead, shared + ahead * tile::stage_bytes);
        phx_copy_commit();
    }
    for (int64_t stage = 0; stage < n_stages; stage++) {
        if (PHX_PLANT(14))
            phx_copy_wait<PHX_STAGES - 1>();
        else
            phx_copy_wait<PHX_STAGES - 2>();
        if (!PHX_PLANT(15) && !PHX_PLANT(86))
            __syncthreads(); /* this stage is there for all, and the one before it is read */
        const int64_t next = stage + PHX_STAGES - 1;
        if (next < n_stages)
            phx_stage_copy<FORMAT>(rows, next, shared + next % PHX_STAGES * tile::stage_bytes);
        if (PHX_PLANT(86))
            __syncthreads();
        phx_copy_commit();
        scales = next_scales;
        if (stage + 1 < n_stages)
            next_scales.load(rows, stage + 1);
        if constexpr (FORMAT == PHX_FORMAT_INT4_G32)
            phx_stage_mma_int4(shared + stage % PHX_STAGES * tile::stage_bytes, scales, part);
        else
            phx_stage_mma<FORMAT>(shared + stage % PHX_STAGES * tile::stage_bytes, part);
        if (stage % 2 == 0)
            continue;
        for (int w = 0; w < 2; w++) { /* a block of columns is complete */
            const int64_t block = PHX_PLANT(16) ? 0 : stage / 2;
            const bool scaled = FORMAT == PHX_FORMAT_FP8_BLOCK; /* others keep no pointers for it */
            const float low = scaled ? rows.scales[w][0][block] : 1.0f;
            const float high = scaled ? rows.scales[w][1][block] : 1.0f;
            PHX_UNROLL
            for (int x = 0; x < PHX_WARP_X; x++) {
                for (int i = 0; i < 4; i++) {
                    sums[w][x][i] = fmaf(part[w][x][i], i < 2 ? low : high, sums[w][x][i]);
                    part[w][x][i] = 0.0f;
                }
            }
        }
    }
}

/* A row of W for a thread's copies. */
template <int FORMAT> PHX_DEVICE const uint8_t *phx_tile_w_chunk(const phx_matrix &w, int64_t row)
{
    return (const uint8_t *)w.data + phx_columns_bytes<FORMAT>(row * w.n_cols) +
           phx_copy_chunk<phx_tile<FORMAT>::w_chunks>() * 16;
}

template <int FORMAT> PHX_DEVICE const uint8_t *phx_tile_x_chunk(const void *x, int64_t x_stride, int64_t row)
{
    return (const uint8_t *)x + row * x_stride * 2 + phx_copy_chunk<phx_tile<FORMAT>::x_chunks>() * 16;
}

/* The scales of number i of a thread's four rows, from a column on that begins a block. */
template <int FORMAT>
PHX_DEVICE void phx_tile_set_scales(phx_tile_rows<FORMAT> &rows, int i, const phx_matrix &w, int64_t row,
                                    int64_t col = 0)
{
    rows.scales[i / 2][i % 2] =
        w.scales ? w.scales + (row + w.row_shift) / 128 * w.scale_stride + col / 128 : (const float *)0;
    rows.groups[i / 2][i % 2] =
        w.group_scales ? w.group_scales + row * w.scale_stride + col / PHX_INT4_GROUP : (const uint16_t *)0;
}

/* Whether W and the rows of x have the form that this header needs. */
PHX_HOST_DEVICE static inline bool phx_tile_fits(const phx_matrix *w, const void *x, int64_t x_stride,
                                                 phx_dtype x_dtype)
{
    const uintptr_t low_bits = (uintptr_t)w->data | (uintptr_t)x | (uintptr_t)(x_stride * 2) |
                               (uintptr_t)w->group_scales << 2 | /* read in pairs */
                               (uintptr_t)(w->group_scales ? w->scale_stride : 0) << 3;
    const bool has_tiles =
        w->format == PHX_FORMAT_BF16 || w->format == PHX_FORMAT_FP8_BLOCK || w->format == PHX_FORMAT_INT4_G32;
    return x_dtype == PHX_BF16 && has_tiles && w->n_cols % PHX_K_BLOCK == 0 && w->col_shift == 0 &&
           low_bits % 16 == 0;
}

#endif
