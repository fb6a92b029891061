/* kernels/cuda/lt.cuh - products of many rows of activations, rounded to e4m3, with fp8 matrices through
 * cuBLASLt: what device.cu sees of lt.cu, and lt.cu of rounded.cu. For sm_90, where 128 x 128 scales are
 * known to it; not to other chips. */
#ifndef PHX_KERNELS_CUDA_LT_CUH
#define PHX_KERNELS_CUDA_LT_CUH

extern "C" {
#include "kernels/backend.h"
}

#include "kernels/cuda/launch.cuh"

#define PHX_LT_ARCH 90 /* the only one */

typedef struct phx_lt phx_lt;

extern "C" {
/* lt.cu: phx_backend_fns.choose_products for a device of that architecture; 0: the emulator. *lt is NULL at
 * first and made when it is first needed. What cannot be had is no failure, but told in choice->text. */
phx_code phx_lt_choose(phx_lt **lt, cudaStream_t stream, int arch, const phx_product_choice *choice,
                       phx_error *err);
void phx_lt_destroy(phx_lt *lt); /* accepts NULL */

/* Whether that product goes this way, and its queueing. Where the library refuses in a step what it took
 * before, *ret_refused: the product is still to be computed, and no other of its shape goes this way any
 * more. */
bool phx_lt_takes(const phx_lt *lt, const phx_product_args *args); /* lt may be NULL */
cudaError_t phx_lt_product(phx_lt *lt, cudaStream_t stream, const phx_product_args *args, bool *ret_refused);

/* Of the first such refusal, one line. */
void phx_lt_tell_refusal(const phx_lt *lt, const phx_product_args *args, char *text, size_t n_bytes);

/* A leaf sum that may be rounded, as a product; false when it is none. */
bool phx_lt_product_of(const phx_leaf_sum_args *args, phx_product_args *ret_product);

/* rounded.cu. codes [n_padded][n_cols], scales [n_cols / 128][n_padded]; n_padded >= n_rows. */
typedef struct phx_rounded_rows_args {
    phx_activation x; /* bf16 [n_rows][stride], lines of 8 bytes */
    int64_t n_rows;
    int64_t n_padded;
    int64_t n_cols; /* a multiple of 128 */
    uint8_t *codes;
    float *scales;
} phx_rounded_rows_args;
cudaError_t phx_round_codes_cuda(cudaStream_t stream, const phx_rounded_rows_args *args);

/* to [n_rows][scale columns, as a multiple of four] = the first rows of w's scales. */
cudaError_t phx_copy_scales_cuda(cudaStream_t stream, const phx_matrix *w, int64_t n_rows, float *to);
}

#endif
