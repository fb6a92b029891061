/* kernels/cuda/product_t.cu - the product with the transpose: rows of W are the sum's direction. A block of
 * threads owns COLS columns of a group and NT tiles of rows of x; rows of W pass through shared memory as
 * bf16 pieces, where ldmatrix turns them into operand a. One arithmetic for any number of rows: blocks of at
 * most PHX_K_BLOCK rows of W, each a chain of mma from zero, added in ascending order times their scale. A
 * block ends where a scale block of the whole matrix ends, or every PHX_K_BLOCK rows of the group. */
#include "kernels/cuda/stream.cuh" /* PHX_STREAM_CASES */

#define THREADS 128
#define COLS    64 /* sixteen of each warp: chunks of 8 in shared memory */
#define CHUNKS  (COLS / 8)
#define STAGE   64 /* rows of W in shared memory at a time */

typedef struct t_block { /* rows of W [first, end) of the group: one chain of mma */
    int64_t first;
    int64_t end;
} t_block;

PHX_DEVICE t_block next_block(const phx_matrix &w, int64_t group_first, int64_t first, int64_t n_in)
{
    const int64_t at = w.scales ? group_first + first + (PHX_PLANT(19) ? 0 : w.row_shift) : first;
    const int64_t end = first + PHX_K_BLOCK - at % PHX_K_BLOCK;
    return {first, end < n_in ? end : n_in};
}

/* Byte offset of 8 columns of a row; moved so that eight neighbouring rows lie in different banks. */
PHX_DEVICE int chunk_at(int row, int chunk)
{
    return row * COLS * 2 + (chunk ^ (row % 8)) * 16;
}

/* Eight numbers of a row of W, of which n are there, as pairs of pieces. */
template <int FORMAT>
PHX_DEVICE void load_eight(const phx_matrix &w, int64_t element, int64_t n,
                           uint32_t pairs[phx_weights<FORMAT>::pieces][4])
{
    typedef phx_weights<FORMAT> weights;
    const uint8_t *p = (const uint8_t *)w.data + element * weights::bytes;
    if (weights::pieces == 1 && n >= 8 && (uintptr_t)p % (8 * weights::bytes) == 0) {
        phx_16 raw = {{0, 0, 0, 0}};
        if (weights::bytes == 2) {
            raw = phx_load16_stream(p);
        } else {
            raw.word[0] = ((const phx_8 *)p)->word[0];
            raw.word[1] = ((const phx_8 *)p)->word[1];
        }
        for (int s = 0; s < 2; s++) {
            uint32_t four[2][weights::pieces];
            weights::step(raw, s, four);
            pairs[0][2 * s] = four[0][0];
            pairs[0][2 * s + 1] = four[1][0];
        }
        return;
    }
    for (int i = 0; i < 4; i++) {
        uint32_t two[weights::pieces];
        const float low = 2 * i < n ? phx_code_value(w, element + 2 * i) : 0.0f;
        const float high = 2 * i + 1 < n ? phx_code_value(w, element + 2 * i + 1) : 0.0f;
        phx_cut_pair<weights::pieces>(low, high, two);
        for (int piece = 0; piece < weights::pieces; piece++)
            pairs[piece][i] = two[piece];
    }
}

/* Rows [first, end) of W, at most STAGE of them, columns from col on; what is not there is zero. */
template <int FORMAT>
PHX_DEVICE void put_stage(const phx_matrix &w, int64_t first, int64_t end, int64_t col,
                          phx_shared<uint8_t> stage)
{
    enum { pieces = phx_weights<FORMAT>::pieces };
    PHX_UNROLL
    for (int i = 0; i < STAGE * CHUNKS / THREADS; i++) {
        const int item = (int)threadIdx.x + i * THREADS;
        const int row = item / CHUNKS;
        const int64_t mine = col + item % CHUNKS * 8;
        uint32_t pairs[pieces][4] = {};
        if (first + row < end && mine < w.n_cols)
            load_eight<FORMAT>(w, (first + row) * w.n_cols + mine, w.n_cols - mine, pairs);
        for (int piece = 0; piece < pieces; piece++) {
            const int at = piece * STAGE * COLS * 2 + (PHX_PLANT(44) ? row * COLS * 2 + item % CHUNKS * 16
                                                                     : chunk_at(row, item % CHUNKS));
            for (int word = 0; word < 4; word++)
                *(uint32_t *)&stage[at + word * 4] = pairs[piece][word];
        }
    }
}

/* Two numbers of a row of x from k on as pieces, of which n are there. */
template <int DTYPE> PHX_DEVICE void load_two(const void *x, int64_t k, int64_t n, uint32_t *pairs)
{
    if (DTYPE == PHX_BF16) {
        const uint16_t *p = (const uint16_t *)x + k;
        pairs[0] = phx_pair(n > 0 ? p[0] : 0, n > 1 ? p[1] : 0);
    } else {
        const float *p = (const float *)x + k;
        phx_cut_pair<phx_inputs<DTYPE>::pieces>(n > 0 ? p[0] : 0.0f, n > 1 ? p[1] : 0.0f, pairs);
    }
}

template <int NT> struct t_rows {
    const uint8_t *x[NT]; /* this lane's row of each tile, at the group */
};

/* d += the stage's rows of W times x: numbers k to end of each row of x. */
template <int FORMAT, int DTYPE, int NT>
PHX_DEVICE void stage_mma(const t_rows<NT> &rows, int64_t k, int64_t end, phx_shared<uint8_t> stage,
                          float d[NT][4])
{
    enum { pieces = phx_weights<FORMAT>::pieces, x_pieces = phx_inputs<DTYPE>::pieces };
    const int lane = (int)phx_lane();
    const int n_steps = end - k < STAGE ? (int)(end - k + 15) / 16 : STAGE / 16;
    for (int step = 0; step < n_steps; step++) {
        uint32_t a[pieces][4];
        const int row = step * 16 + lane / 16 * 8 + lane % 8;
        for (int piece = 0; piece < pieces; piece++)
            phx_load_matrices_trans(
                stage, piece * STAGE * COLS * 2 + chunk_at(row, (int)phx_warp() * 2 + lane / 8 % 2),
                a[piece]);
        PHX_UNROLL
        for (int t = 0; t < NT; t++) {
            uint32_t b[2][x_pieces];
            for (int half = 0; half < 2; half++) {
                const int64_t at = k + step * 16 + half * 8 + lane % 4 * 2;
                load_two<DTYPE>(rows.x[t], at, end - at, b[half]);
            }
            PHX_UNROLL
            for (int i = pieces * x_pieces - 1; i >= 0; i--) {
                const uint32_t two[2] = {b[0][i % x_pieces], b[1][i % x_pieces]};
                phx_mma_bf16(d[t], a[i / x_pieces], two);
            }
        }
    }
}

template <int FORMAT> PHX_HOST_DEVICE constexpr int64_t t_stage_bytes(void)
{
    return (int64_t)phx_weights<FORMAT>::pieces * STAGE * COLS * 2;
}

/* Grid: columns by COLS, rows of x by NT tiles, groups. Dynamic: a stage. */
template <int FORMAT, int DTYPE, int NT>
static __global__ void __launch_bounds__(THREADS) product_t(const phx_product_t_args a, const phx_matrix w)
{
    PHX_SHARED_DYNAMIC(uint8_t, stage, t_stage_bytes<FORMAT>());
    const int64_t col = (int64_t)blockIdx.x * COLS;
    const int64_t r = (int64_t)blockIdx.y * NT * PHX_TILE_ROW;
    const int64_t g = blockIdx.z;
    const int64_t first_row = a.first_row + g * a.group_rows;
    const int64_t mine = col + phx_warp() * 16 + phx_lane() / 4; /* my columns: this and 8 more */
    t_rows<NT> rows;
    float sums[NT][4] = {};
    for (int t = 0; t < NT; t++) {
        const int64_t row = r + t * PHX_TILE_ROW + phx_lane() / 4;
        const int64_t there = row < a.n_rows ? row : a.n_rows - 1;
        rows.x[t] = (const uint8_t *)a.x.data +
                    (there * a.x.stride + g * a.x_group_stride) * phx_inputs<DTYPE>::bytes;
    }
    for (t_block block = next_block(w, first_row, 0, a.n_in); block.first < a.n_in;
         block = next_block(w, first_row, block.end, a.n_in)) {
        float d[NT][4] = {};
        for (int64_t k = block.first; k < block.end; k += STAGE) {
            put_stage<FORMAT>(w, first_row + k, first_row + block.end, col, stage);
            __syncthreads();
            stage_mma<FORMAT, DTYPE, NT>(rows, k, block.end, stage, d);
            if (!PHX_PLANT(45))
                __syncthreads();
        }
        for (int i = 0; i < NT * 4; i++) {
            const int64_t there = mine + i % 4 / 2 * 8 < w.n_cols ? mine + i % 4 / 2 * 8 : w.n_cols - 1;
            const float scale = w.scales ? phx_scale_at(w, first_row + block.first, there) : 1.0f;
            sums[i / 4][i % 4] = fmaf(d[i / 4][i % 4], scale, sums[i / 4][i % 4]);
        }
    }
    for (int i = 0; i < NT * 4; i++) {
        const int64_t row = r + i / 4 * PHX_TILE_ROW + phx_lane() % 4 * 2 + i % 2;
        const int64_t c = mine + i % 4 / 2 * 8;
        if (row < a.n_rows && c < w.n_cols)
            a.out[row * a.out_stride + g * a.out_group_stride + c] = sums[i / 4][i % 4];
    }
}

template <int FORMAT, int DTYPE, int NT>
static cudaError_t product_t_launch(cudaStream_t stream, const phx_product_t_args &args)
{
    const dim3 grid(phx_grid(args.w->n_cols, COLS), phx_grid(args.n_rows, NT * PHX_TILE_ROW),
                    (unsigned)args.n_groups);
    return PHX_LAUNCH((product_t<FORMAT, DTYPE, NT>), grid, THREADS, (size_t)t_stage_bytes<FORMAT>(), stream,
                      args, *args.w);
}

/* int4-g32, which no family stores such matrices in: a thread per output; weights times their scale, which is
 * exact, in ascending order. */
static __global__ void product_t_int4(const phx_product_t_args a, const phx_matrix w)
{
    const int64_t i = phx_thread_of_grid();
    if (i >= a.n_rows * a.n_groups * w.n_cols)
        return;
    const int64_t col = i % w.n_cols;
    const int64_t g = i / w.n_cols % a.n_groups;
    const int64_t r = i / w.n_cols / a.n_groups;
    const int64_t x_offset = r * a.x.stride + g * a.x_group_stride;
    float sum = 0.0f;
    for (int64_t k = 0; k < a.n_in; k++) {
        const int64_t row = a.first_row + g * a.group_rows + k;
        const float weight = phx_code_value(w, row * w.n_cols + col) * phx_group_scale_at(w, row, col);
        sum = fmaf(phx_load(a.x.data, a.x.dtype, x_offset + k), weight, sum);
    }
    a.out[r * a.out_stride + g * a.out_group_stride + col] = sum;
}

cudaError_t phx_product_t_cuda(cudaStream_t stream, const phx_product_t_args *args)
{
    const int64_t n = args->n_rows * args->n_groups * args->w->n_cols;
    if (n == 0)
        return cudaSuccess;
    if (args->w->format == PHX_FORMAT_INT4_G32)
        return PHX_LAUNCH(product_t_int4, phx_grid(n, PHX_BLOCK), PHX_BLOCK, 0, stream, *args, *args->w);
#define X(w_format, x_dtype, tiles)                                                                 \
    if (args->w->format == w_format && args->x.dtype == x_dtype)                                    \
        return args->n_rows <= PHX_TILE_ROW ? product_t_launch<w_format, x_dtype, 1>(stream, *args) \
                                            : product_t_launch<w_format, x_dtype, tiles>(stream, *args);
    PHX_STREAM_CASES(X)
#undef X
    return cudaErrorInvalidValue;
}
