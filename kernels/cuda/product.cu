/* kernels/cuda/product.cu - product (a warp per output) and product_t (a thread per output). Simple and exact
 * in order; the fast ones come later and must give these bits' limits, not these bits. */
#include "kernels/cuda/number.cuh"

static __global__ void product(const phx_product_args a, const phx_matrix w)
{
    const int64_t i = phx_warp_of_grid();
    if (i >= a.n_rows * a.n_groups * a.n_out)
        return;
    const int64_t n = i % a.n_out;
    const int64_t g = i / a.n_out % a.n_groups;
    const int64_t r = i / a.n_out / a.n_groups;
    const float sum = phx_warp_dot(a.x, r * a.x.stride + g * a.x_group_stride, w,
                                   a.first_row + g * a.group_rows + n, 0, w.n_cols);
    if (phx_lane() == 0)
        a.out[r * a.out_stride + g * a.out_group_stride + n] = sum;
}

cudaError_t phx_product_cuda(cudaStream_t stream, const phx_product_args *args)
{
    const int64_t n = args->n_rows * args->n_groups * args->n_out;
    if (n == 0)
        return cudaSuccess;
    return PHX_LAUNCH(product, phx_grid(n, PHX_BLOCK_WARPS), PHX_BLOCK, 0, stream, *args, *args->w);
}

/* Rows of W in ascending order; fp8: the sum over each scale block of rows, times its scale. */
static __global__ void product_t(const phx_product_t_args a, const phx_matrix w)
{
    const int64_t i = phx_thread_of_grid();
    if (i >= a.n_rows * a.n_groups * w.n_cols)
        return;
    const int64_t col = i % w.n_cols;
    const int64_t g = i / w.n_cols % a.n_groups;
    const int64_t r = i / w.n_cols / a.n_groups;
    const int64_t x_offset = r * a.x.stride + g * a.x_group_stride;
    const int64_t first = a.first_row + g * a.group_rows;
    float sum = 0.0f;
    float part = 0.0f;
    for (int64_t k = 0; k < a.n_in; k++) {
        const int64_t row = first + k;
        part =
            fmaf(phx_load(a.x.data, a.x.dtype, x_offset + k), phx_code_value(w, row * w.n_cols + col), part);
        const bool block_ends = k + 1 == a.n_in || (row + 1 + w.row_shift) % 128 == 0;
        if (w.scales && block_ends) {
            sum = fmaf(part, phx_scale_at(w, row, col), sum);
            part = 0.0f;
        }
    }
    a.out[r * a.out_stride + g * a.out_group_stride + col] = w.scales ? sum : part;
}

cudaError_t phx_product_t_cuda(cudaStream_t stream, const phx_product_t_args *args)
{
    const int64_t n = args->n_rows * args->n_groups * args->w->n_cols;
    if (n == 0)
        return cudaSuccess;
    return PHX_LAUNCH(product_t, phx_grid(n, PHX_BLOCK), PHX_BLOCK, 0, stream, *args, *args->w);
}
