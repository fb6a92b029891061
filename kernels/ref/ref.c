/* kernels/ref/ref.c - exact decoding into double, and the plain dot of the reference kernels. */
#include "kernels/ref/ref.h"

static double weight_at(const phx_matrix *w, int64_t row, int64_t col)
{
    const int64_t i = phx_matrix_place(w, row, col);
    switch (w->format) {
    case PHX_FORMAT_F32:
        return (double)((const float *)w->data)[i];
    case PHX_FORMAT_BF16:
        return (double)phx_bf16_to_f32(((const uint16_t *)w->data)[i]);
    case PHX_FORMAT_F16:
        return (double)phx_f16_to_f32(((const uint16_t *)w->data)[i]);
    case PHX_FORMAT_FP8_BLOCK: {
        const float *scales = w->scales + (row + w->row_shift) / 128 * w->scale_stride;
        const float scale = scales[(col + w->col_shift) / 128];
        return (double)phx_e4m3_to_f32(((const uint8_t *)w->data)[i]) * (double)scale;
    }
    case PHX_FORMAT_INT4_G32: /* a number of 4 bits by one of 8: exact in f32 */
        return (double)phx_matrix_at(w, row, col);
    case PHX_FORMAT_COUNT:
        break;
    }
    assert(!"a format without a reference");
    return 0.0;
}

void phx_ref_weight_row(const phx_matrix *w, int64_t row, double *ret_values)
{
    assert(row < w->n_rows);
    for (int64_t col = 0; col < w->n_cols; col++)
        ret_values[col] = weight_at(w, row, col);
}

void phx_ref_weight_col(const phx_matrix *w, int64_t first_row, int64_t n_rows, int64_t col,
                        double *ret_values)
{
    assert(first_row + n_rows <= w->n_rows);
    for (int64_t i = 0; i < n_rows; i++)
        ret_values[i] = weight_at(w, first_row + i, col);
}

double phx_ref_dot(const phx_activation *x, int64_t x_offset, const double *w, int64_t first, int64_t end)
{
    double sum = 0.0;
    for (int64_t k = first; k < end; k++)
        sum += (double)phx_ref_load(x->data, x->dtype, x_offset + k) * w[k];
    return sum;
}
