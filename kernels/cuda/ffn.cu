/* kernels/cuda/ffn.cu - ffn_in: a block of threads per 16 columns of an expert, over all its entries. */
#include "kernels/cuda/stream.cuh"

#define ENTRY_TILES 4 /* tiles of entries at a time when there are more than one */

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
        if (is_up[slot] != 0)
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
    const int64_t step = ENTRY_TILES * PHX_TILE_ROW;
    for (int64_t first = a.rows.first[e] + blockIdx.z * step; first < end; first += gridDim.z * step) {
        const int64_t last = first + step < end ? first + step : end;
        if (last - first <= PHX_TILE_ROW)
            ffn_tile<DTYPE, 1>(a, e, n, first, last, waiting, is_up);
        else
            ffn_tile<DTYPE, ENTRY_TILES>(a, e, n, first, last, waiting, is_up);
    }
}

cudaError_t phx_ffn_in_cuda(cudaStream_t stream, const phx_ffn_in_args *args)
{
    if (args->rows.n_experts * args->n_out == 0)
        return cudaSuccess;
    const unsigned shares = args->rows.n_experts == 1 ? 16 : 1;
    const dim3 grid(phx_grid(args->n_out, PHX_TILE_OUT), (unsigned)args->rows.n_experts, shares);
    if (args->x.dtype == PHX_BF16)
        return PHX_LAUNCH((ffn_in<PHX_BF16>), grid, PHX_STREAM_THREADS, 0, stream, *args);
    return PHX_LAUNCH((ffn_in<PHX_F32>), grid, PHX_STREAM_THREADS, 0, stream, *args);
}
