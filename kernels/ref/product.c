/* kernels/ref/product.c - reference of the two products without leaves. An item is one output column: its
 * weights are decoded once and meet every row. */
#include "kernels/ref/ref.h"

static void product_column(void *user, int64_t item, void *scratch)
{
    const phx_product_args *a = user;
    const int64_t g = item / a->n_out;
    const int64_t n = item % a->n_out;
    double *w = scratch;
    phx_ref_weight_row(a->w, a->first_row + g * a->group_rows + n, w);
    for (int64_t r = 0; r < a->n_rows; r++) {
        const int64_t x_offset = r * a->x.stride + g * a->x_group_stride;
        const double sum = phx_ref_dot(&a->x, x_offset, w, 0, a->w->n_cols);
        a->out[r * a->out_stride + g * a->out_group_stride + n] = (float)sum;
        if (a->out_act.data)
            phx_ref_store(a->out_act.data, a->out_act.dtype,
                          r * a->out_act.stride + g * a->out_group_stride + n, (float)sum);
    }
}

void phx_product_ref(phx_pool *pool, const phx_product_args *args)
{
    phx_product_args a = *args;
    assert(a.w->n_cols <= PHX_REF_DOUBLES);
    if (a.n_rows > 0)
        phx_pool_run(pool, a.n_groups * a.n_out, product_column, &a);
}

static void product_t_column(void *user, int64_t item, void *scratch)
{
    const phx_product_t_args *a = user;
    const int64_t g = item / a->w->n_cols;
    const int64_t c = item % a->w->n_cols;
    double *w = scratch;
    phx_ref_weight_col(a->w, a->first_row + g * a->group_rows, a->n_in, c, w);
    for (int64_t r = 0; r < a->n_rows; r++) {
        const int64_t x_offset = r * a->x.stride + g * a->x_group_stride;
        const double sum = phx_ref_dot(&a->x, x_offset, w, 0, a->n_in);
        a->out[r * a->out_stride + g * a->out_group_stride + c] = (float)sum;
    }
}

void phx_product_t_ref(phx_pool *pool, const phx_product_t_args *args)
{
    phx_product_t_args a = *args;
    assert(a.n_in <= PHX_REF_DOUBLES);
    if (a.n_rows > 0)
        phx_pool_run(pool, a.n_groups * a.w->n_cols, product_t_column, &a);
}
