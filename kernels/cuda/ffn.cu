/* kernels/cuda/ffn.cu - ffn_in: gate and up of an expert over all its entries; experts with few entries by
 * stream.cuh, those with many by tile.cuh. */
#include "kernels/cuda/stream.cuh"
#include "kernels/cuda/tile.cuh"

#define MANY_ENTRIES 64 /* of an expert; more than that: tiles */
#define ENTRY_TILES  4  /* tiles of entries at a time when there are more than one */

/* Whether tile.cuh computes expert e, which has entries. */
PHX_DEVICE bool has_tiles(const phx_ffn_in_args &a, int64_t e)
{
    const phx_matrix *gate = a.gate[e];
    const phx_matrix *up = a.up[e];
    return a.rows.first[e + 1] - a.rows.first[e] > MANY_ENTRIES && gate->format == up->format &&
           phx_tile_fits(gate, a.x.data, a.x.stride, a.x.dtype) &&
           phx_tile_fits(up, a.x.data, a.x.stride, a.x.dtype);
}

/* First the blocks of gate, then those of up. */
template <int NT> struct ffn_work {
    const phx_matrix *gate;
    const phx_matrix *up;
    phx_blocks gate_blocks;
    phx_blocks up_blocks;
    phx_item<NT> tile; /* without matrix and columns */
    float g[phx_stream<NT>::owned];
    float u[phx_stream<NT>::owned];
    phx_shared<int32_t> is_up; /* by slot */

    __device__ int64_t n_items() const
    {
        return gate_blocks.n + up_blocks.n;
    }
    __device__ phx_item<NT> item(int64_t i, int64_t slot) const
    {
        const bool second = i >= gate_blocks.n;
        phx_item<NT> item = tile;
        item.w = second ? up : gate;
        const phx_blocks &blocks = second ? up_blocks : gate_blocks;
        item.first = phx_block_first(blocks, second ? i - gate_blocks.n : i);
        item.end = phx_block_end(blocks, second ? i - gate_blocks.n : i);
        if (phx_lane() == 0)
            is_up[slot] = second ? 1 : 0;
        return item;
    }
    __device__ void add(int64_t slot, int owned, float part, float scale)
    {
        if ((is_up[slot] != 0) != PHX_PLANT(8))
            u[owned] = fmaf(part, scale, u[owned]);
        else
            g[owned] = fmaf(part, scale, g[owned]);
    }
};

/* Columns [n, n + PHX_TILE_OUT) of entries [first, end) of expert e, at most NT tiles of them. */
template <int DTYPE, int NT>
PHX_DEVICE void ffn_tile(const phx_ffn_in_args &a, int64_t e, int64_t n, int64_t first, int64_t end,
                         const phx_waiting &waiting, phx_shared<int32_t> is_up)
{
    const int64_t n_cols = a.gate[e]->n_cols;
    ffn_work<NT> work = {
        a.gate[e], a.up[e], phx_blocks_of(*a.gate[e], 0, n_cols), phx_blocks_of(*a.up[e], 0, n_cols), {}, {},
        {},        is_up};
    work.tile.row = n;
    work.tile.row_end = a.n_out;
    work.tile.x = a.x.data;
    work.tile.x_stride = a.x.stride;
    for (int t = 0; t < NT; t++) {
        const int64_t entry = first + t * PHX_TILE_ROW + phx_lane() / 4;
        const int64_t there = entry < end ? entry : end - 1;
        work.tile.x_rows[t] = a.rows.token ? a.rows.token[there] : there;
    }
    phx_stream_run<PHX_FORMAT_ANY, DTYPE, NT>(work, waiting);
    for (int o = 0; o < phx_stream<NT>::owned; o++) {
        const int64_t sum = threadIdx.x + o * PHX_STREAM_THREADS;
        const int64_t entry = first + phx_sum_row(sum);
        const int64_t out = n + phx_sum_out(sum);
        if (sum < phx_stream<NT>::sums && entry < end && out < a.n_out)
            phx_store(a.out.data, a.out.dtype, entry * a.out.stride + out, phx_siluf(work.g[o]) * work.u[o]);
    }
}

/* Grid: columns by PHX_TILE_OUT, experts, shares of an expert's entries. The host does not know how many
 * entries there are: blocks without any leave at once. */
template <int DTYPE>
static __global__ void __launch_bounds__(PHX_STREAM_THREADS, 2) ffn_in(const phx_ffn_in_args a)
{
    PHX_SHARED(float, sums, PHX_WAITING_SUMS);
    PHX_SHARED(float, scales, PHX_WAITING_SUMS / PHX_PART_SUMS * PHX_TILE_OUT);
    PHX_SHARED(int32_t, is_up, PHX_WAITING_SUMS / PHX_PART_SUMS);
    const phx_waiting waiting = {sums, scales, PHX_WAITING_SUMS};
    const int64_t n = (int64_t)blockIdx.x * PHX_TILE_OUT;
    const int64_t e = blockIdx.y;
    const int64_t end = a.rows.first[e + 1];
    if (end == a.rows.first[e] || has_tiles(a, e))
        return;
    const int64_t step = ENTRY_TILES * PHX_TILE_ROW;
    for (int64_t first = a.rows.first[e] + blockIdx.z * step; first < end; first += gridDim.z * step) {
        const int64_t last = first + step < end ? first + step : end;
        if (last - first <= PHX_TILE_ROW)
            ffn_tile<DTYPE, 1>(a, e, n, first, last, waiting, is_up);
        else
            ffn_tile<DTYPE, ENTRY_TILES>(a, e, n, first, last, waiting, is_up);
    }
}

/* One tile: PHX_TILE_W / 2 columns from n, gate and up taking turns every PHX_TILE_OUT rows, with entries
 * [first, end), at most PHX_TILE_X. */
template <int FORMAT>
PHX_DEVICE void ffn_big_tile(const phx_ffn_in_args &a, int64_t e, int64_t n, int64_t first, int64_t end,
                             phx_shared<uint8_t> shared)
{
    typedef phx_tile<FORMAT> tile;
    const phx_matrix *const sides[2] = {a.gate[e], a.up[e]};
    phx_tile_rows<FORMAT> rows;
    for (int i = 0; i < tile::w_copies; i++) {
        const int64_t row = phx_copy_row<tile::w_chunks>(i);
        const int64_t out = n + row / 32 * PHX_TILE_OUT + row % PHX_TILE_OUT;
        rows.w[i] =
            phx_tile_w_chunk<FORMAT>(*sides[row / PHX_TILE_OUT % 2], out < a.n_out ? out : a.n_out - 1);
    }
    for (int i = 0; i < tile::x_copies; i++) {
        const int64_t entry = first + phx_copy_row<tile::x_chunks>(i);
        const int64_t there = entry < end ? entry : end - 1;
        rows.x[i] =
            phx_tile_x_chunk<FORMAT>(a.x.data, a.x.stride, a.rows.token ? a.rows.token[there] : there);
    }
    for (int i = 0; i < 4; i++) {
        const int64_t out = PHX_PLANT(9)
                                ? n
                                : n + phx_tile_w_row(0, i % 2 * 2) / 2 / PHX_TILE_OUT * PHX_TILE_OUT +
                                      phx_tile_w_row(0, i % 2 * 2) % PHX_TILE_OUT;
        phx_tile_set_scales<FORMAT>(rows, i, *sides[i / 2], out < a.n_out ? out : a.n_out - 1);
    }
    float sums[2][PHX_WARP_X][4];
    phx_tile_run<FORMAT>(rows, sides[0]->n_cols, shared, sums);
    PHX_UNROLL
    for (int i = 0; i < PHX_WARP_X * 4; i++) {
        const int64_t row = phx_tile_w_row(0, i % 4);
        const int64_t out = n + row / 32 * PHX_TILE_OUT + row % PHX_TILE_OUT;
        const int64_t entry = first + phx_tile_x_row(i / 4, i % 4);
        if (out < a.n_out && entry < end)
            phx_store(a.out.data, a.out.dtype, entry * a.out.stride + out,
                      phx_siluf(sums[0][i / 4][i % 4]) * sums[1][i / 4][i % 4]);
    }
}

/* Grid: columns by PHX_TILE_W / 2, experts, shares of an expert's entries. */
static __global__ void __launch_bounds__(PHX_TILE_THREADS) ffn_in_tile(const phx_ffn_in_args a)
{
    PHX_SHARED_DYNAMIC(uint8_t, shared, phx_tile<PHX_FORMAT_BF16>::shared_bytes);
    const int64_t n = (int64_t)blockIdx.x * (PHX_TILE_W / 2);
    const int64_t e = blockIdx.y;
    const int64_t end = a.rows.first[e + 1];
    if (end == a.rows.first[e] || !has_tiles(a, e))
        return;
    for (int64_t first = a.rows.first[e] + (int64_t)blockIdx.z * PHX_TILE_X; first < end;
         first += (int64_t)gridDim.z * PHX_TILE_X) {
        const int64_t last = first + PHX_TILE_X < end ? first + PHX_TILE_X : end;
        if (a.gate[e]->format == PHX_FORMAT_BF16)
            ffn_big_tile<PHX_FORMAT_BF16>(a, e, n, first, last, shared);
        else if (a.gate[e]->format == PHX_FORMAT_INT4_G32)
            ffn_big_tile<PHX_FORMAT_INT4_G32>(a, e, n, first, last, shared);
        else
            ffn_big_tile<PHX_FORMAT_FP8_BLOCK>(a, e, n, first, last, shared);
    }
}

static cudaError_t ffn_tile_launch(cudaStream_t stream, const phx_ffn_in_args &args, unsigned shares)
{
    const dim3 grid(phx_grid(args.n_out, PHX_TILE_W / 2), (unsigned)args.rows.n_experts, shares);
    const size_t bytes = phx_tile<PHX_FORMAT_BF16>::shared_bytes;
    const cudaError_t err = PHX_ALLOW_SHARED(ffn_in_tile, bytes);
    if (err != cudaSuccess)
        return err;
    return PHX_LAUNCH(ffn_in_tile, grid, PHX_TILE_THREADS, bytes, stream, args);
}

/* An expert has at most n_tokens entries, and tiles are for bf16 rows. */
cudaError_t phx_ffn_in_cuda(cudaStream_t stream, const phx_ffn_in_args *args)
{
    if (args->rows.n_experts * args->n_out == 0)
        return cudaSuccess;
    const unsigned shares = args->rows.n_experts == 1 ? 16 : 1;
    if (args->x.dtype == PHX_BF16 && (args->n_tokens == 0 || args->n_tokens > MANY_ENTRIES)) {
        const cudaError_t err = ffn_tile_launch(stream, *args, shares);
        if (err != cudaSuccess)
            return err;
    }
    const dim3 grid(phx_grid(args->n_out, PHX_TILE_OUT), (unsigned)args->rows.n_experts, shares);
    if (args->x.dtype == PHX_BF16)
        return PHX_LAUNCH((ffn_in<PHX_BF16>), grid, PHX_STREAM_THREADS, 0, stream, *args);
    return PHX_LAUNCH((ffn_in<PHX_F32>), grid, PHX_STREAM_THREADS, 0, stream, *args);
}
