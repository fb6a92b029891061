/* kernels/cuda/product.cu - product of few rows (stream.cuh) and many (tile.cuh). */
#include "kernels/cuda/stream.cuh"
#include "kernels/cuda/tile.cuh"

#define MANY_ROWS 64 /* more than that: tiles */

template <int NT> struct product_work {
    phx_blocks blocks;
    phx_item<NT> tile; /* without columns */
    float sums[phx_stream<NT>::owned];

    __device__ int64_t n_items() const
    {
        return blocks.n;
    }
    __device__ phx_item<NT> item(int64_t i, int64_t) const
    {
        phx_item<NT> item = tile;
        item.first = phx_block_first(blocks, i);
        item.end = phx_block_end(blocks, i);
        return item;
    }
    __device__ void add(int64_t, int owned, float part, float scale)
    {
        sums[owned] = fmaf(part, scale, sums[owned]);
    }
};

/* Where a row and output of a group go: as f32, and rounded. */
PHX_DEVICE void product_store(const phx_product_args &a, int64_t row, int64_t g, int64_t out, float value)
{
    const int64_t col = g * a.out_group_stride + out;
    a.out[row * a.out_stride + col] = value;
    if (a.out_act.data)
        phx_store(a.out_act.data, a.out_act.dtype, row * a.out_act.stride + (PHX_PLANT(94) ? out : col),
                  value);
}

/* Grid: rows of W by PHX_TILE_OUT, rows of x by NT tiles, groups. */
template <int FORMAT, int DTYPE, int NT>
static __global__ void __launch_bounds__(PHX_STREAM_THREADS)
    product(const phx_product_args a, const phx_matrix w)
{
    PHX_SHARED(float, sums, PHX_WAITING_SUMS);
    PHX_SHARED(float, scales, PHX_WAITING_SUMS / PHX_PART_SUMS * PHX_TILE_OUT);
    const int64_t n = (int64_t)blockIdx.x * PHX_TILE_OUT;
    const int64_t r = (int64_t)blockIdx.y * NT * PHX_TILE_ROW;
    const int64_t g = blockIdx.z;
    const int64_t group_first = a.first_row + g * a.group_rows;
    product_work<NT> work = {phx_blocks_of(w, 0, w.n_cols), {}, {}};
    work.tile.w = &w;
    work.tile.row = group_first + n;
    work.tile.row_end = group_first + a.n_out;
    work.tile.x = (const uint8_t *)a.x.data + g * a.x_group_stride * phx_inputs<DTYPE>::bytes;
    work.tile.x_stride = a.x.stride;
    for (int t = 0; t < NT; t++) {
        const int64_t row = r + t * PHX_TILE_ROW + phx_lane() / 4;
        work.tile.x_rows[t] = row < a.n_rows ? row : a.n_rows - 1;
    }
    phx_stream_run<FORMAT, DTYPE, NT>(work, {sums, scales, PHX_WAITING_SUMS});
    for (int o = 0; o < phx_stream<NT>::owned; o++) {
        const int64_t sum = threadIdx.x + o * PHX_STREAM_THREADS;
        const int64_t row = r + phx_sum_row(sum);
        const int64_t out = n + phx_sum_out(sum);
        if (sum < phx_stream<NT>::sums && row < a.n_rows && out < a.n_out)
            product_store(a, row, g, out, work.sums[o]);
    }
}

template <int FORMAT, int DTYPE, int NT>
static cudaError_t product_launch(cudaStream_t stream, const phx_product_args &args)
{
    const dim3 grid(phx_grid(args.n_out, PHX_TILE_OUT), phx_grid(args.n_rows, NT * PHX_TILE_ROW),
                    (unsigned)args.n_groups);
    return PHX_LAUNCH((product<FORMAT, DTYPE, NT>), grid, PHX_STREAM_THREADS, 0, stream, args, *args.w);
}

/* Grid: rows of W by PHX_TILE_W, rows of x by PHX_TILE_X, groups. */
template <int FORMAT>
static __global__ void __launch_bounds__(PHX_TILE_THREADS)
    product_tile(const phx_product_args a, const phx_matrix w)
{
    typedef phx_tile<FORMAT> tile;
    PHX_SHARED_DYNAMIC(uint8_t, shared, tile::shared_bytes);
    const int64_t n = (int64_t)blockIdx.x * PHX_TILE_W;
    const int64_t r = (int64_t)blockIdx.y * PHX_TILE_X;
    const int64_t g = blockIdx.z;
    const int64_t first = a.first_row + g * a.group_rows + n;
    const uint8_t *x = (const uint8_t *)a.x.data + g * a.x_group_stride * 2;
    const int64_t last_out = a.n_out - n - 1; /* of this tile that is there */
    const int64_t last_row = a.n_rows - r - 1;
    phx_tile_rows<FORMAT> rows;
    for (int i = 0; i < tile::w_copies; i++) {
        const int64_t row = phx_copy_row<tile::w_chunks>(i);
        rows.w[i] = phx_tile_w_chunk<FORMAT>(w, first + (row < last_out ? row : last_out));
    }
    for (int i = 0; i < tile::x_copies; i++) {
        const int64_t row = phx_copy_row<tile::x_chunks>(i);
        rows.x[i] = phx_tile_x_chunk<FORMAT>(x, a.x.stride, r + (row < last_row ? row : last_row));
    }
    for (int i = 0; i < 4; i++) {
        const int64_t row = phx_tile_w_row(i / 2, i % 2 * 2);
        phx_tile_set_scales<FORMAT>(rows, i, w, first + (row < last_out ? row : last_out));
    }
    float sums[2][PHX_WARP_X][4];
    phx_tile_run<FORMAT>(rows, w.n_cols, shared, sums);
    PHX_UNROLL
    for (int i = 0; i < 2 * PHX_WARP_X * 4; i++) {
        const int64_t out = phx_tile_w_row(i / 4 / PHX_WARP_X, i % 4);
        const int64_t row = phx_tile_x_row(i / 4 % PHX_WARP_X, i % 4);
        if (out <= last_out + (PHX_PLANT(18) ? 1 : 0) && row <= last_row)
            product_store(a, r + row, g, n + out, sums[i / 4 / PHX_WARP_X][i / 4 % PHX_WARP_X][i % 4]);
    }
}

template <int FORMAT>
static cudaError_t product_tile_launch(cudaStream_t stream, const phx_product_args &args)
{
    const dim3 grid(phx_grid(args.n_out, PHX_TILE_W), phx_grid(args.n_rows, PHX_TILE_X),
                    (unsigned)args.n_groups);
    const size_t bytes = phx_tile<FORMAT>::shared_bytes;
    const cudaError_t err = PHX_ALLOW_SHARED(product_tile<FORMAT>, bytes);
    if (err != cudaSuccess)
        return err;
    return PHX_LAUNCH(product_tile<FORMAT>, grid, PHX_TILE_THREADS, bytes, stream, args, *args.w);
}

cudaError_t phx_product_cuda(cudaStream_t stream, const phx_product_args *args)
{
    if (args->n_rows * args->n_groups * args->n_out == 0)
        return cudaSuccess;
    if (args->w->n_cols == 0)
        return cudaErrorInvalidValue;
    if (args->n_rows > MANY_ROWS && phx_tile_fits(args->w, args->x.data, args->x.stride, args->x.dtype) &&
        args->x_group_stride % 8 == 0)
        return args->w->format == PHX_FORMAT_BF16 ? product_tile_launch<PHX_FORMAT_BF16>(stream, *args)
               : args->w->format == PHX_FORMAT_INT4_G32
                   ? product_tile_launch<PHX_FORMAT_INT4_G32>(stream, *args)
                   : product_tile_launch<PHX_FORMAT_FP8_BLOCK>(stream, *args);
#define X(w_format, x_dtype, tiles)                                                               \
    if (args->w->format == w_format && args->x.dtype == x_dtype)                                  \
        return args->n_rows <= PHX_TILE_ROW ? product_launch<w_format, x_dtype, 1>(stream, *args) \
                                            : product_launch<w_format, x_dtype, tiles>(stream, *args);
    PHX_STREAM_CASES(X)
    PHX_STREAM_CASES_INT4(X)
#undef X
    return cudaErrorInvalidValue;
}
