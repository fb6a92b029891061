/* tests/emu/test_lt_api.c - our own words for cuBLASLt's types against cublasLt.h, the door to the library,
 * and what is said without it. Where cublasLt.h is not installed the comparison is left out of the build, and
 * the test says so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cuda/lt_api.h"

#ifdef PHX_TEST_CUBLASLT_H
#include <cublasLt.h>

static void types_are_those_of_the_header(void **state)
{
    (void)state;
    assert_int_equal(sizeof(phx_lt_algo), sizeof(cublasLtMatmulAlgo_t));
    assert_int_equal(sizeof(phx_lt_choice), sizeof(cublasLtMatmulHeuristicResult_t));
    assert_int_equal(offsetof(phx_lt_choice, algo), offsetof(cublasLtMatmulHeuristicResult_t, algo));
    assert_int_equal(offsetof(phx_lt_choice, workspace_bytes),
                     offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize));
    assert_int_equal(offsetof(phx_lt_choice, state), offsetof(cublasLtMatmulHeuristicResult_t, state));
    assert_int_equal(offsetof(phx_lt_choice, waves), offsetof(cublasLtMatmulHeuristicResult_t, wavesCount));
    assert_int_equal(sizeof(phx_lt_status), sizeof(cublasStatus_t));
    assert_int_equal(sizeof(phx_lt_type), sizeof(cudaDataType_t));
    assert_int_equal(sizeof(phx_lt_compute), sizeof(cublasComputeType_t));
    assert_int_equal(sizeof(int32_t), sizeof(cublasOperation_t));
    assert_int_equal(sizeof(int32_t), sizeof(cublasLtMatmulMatrixScale_t));
    assert_int_equal(sizeof(phx_lt_product_field), sizeof(cublasLtMatmulDescAttributes_t));
    assert_int_equal(sizeof(phx_lt_matrix_field), sizeof(cublasLtMatrixLayoutAttribute_t));
    assert_int_equal(sizeof(phx_lt_wish_field), sizeof(cublasLtMatmulPreferenceAttributes_t));
}

static void numbers_are_those_of_the_header(void **state)
{
    (void)state;
    assert_int_equal(PHX_LT_SUCCESS, CUBLAS_STATUS_SUCCESS);
    assert_int_equal(PHX_LT_NOT_INITIALIZED, CUBLAS_STATUS_NOT_INITIALIZED);
    assert_int_equal(PHX_LT_ALLOC_FAILED, CUBLAS_STATUS_ALLOC_FAILED);
    assert_int_equal(PHX_LT_INVALID_VALUE, CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(PHX_LT_EXECUTION_FAILED, CUBLAS_STATUS_EXECUTION_FAILED);
    assert_int_equal(PHX_LT_NOT_SUPPORTED, CUBLAS_STATUS_NOT_SUPPORTED);
    assert_int_equal(PHX_LT_F32, CUDA_R_32F);
    assert_int_equal(PHX_LT_E4M3, CUDA_R_8F_E4M3);
    assert_int_equal(PHX_LT_COMPUTE_F32, CUBLAS_COMPUTE_32F);
    assert_int_equal(PHX_LT_AS_IS, CUBLAS_OP_N);
    assert_int_equal(PHX_LT_TURNED, CUBLAS_OP_T);
    assert_int_equal(PHX_LT_SCALE_ONE, CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F);
    assert_int_equal(PHX_LT_SCALE_VEC128, CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F);
    assert_int_equal(PHX_LT_SCALE_BLK128, CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F);
    assert_int_equal(PHX_LT_TURN_A, CUBLASLT_MATMUL_DESC_TRANSA);
    assert_int_equal(PHX_LT_TURN_B, CUBLASLT_MATMUL_DESC_TRANSB);
    assert_int_equal(PHX_LT_SCALES_A, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER);
    assert_int_equal(PHX_LT_SCALES_B, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER);
    assert_int_equal(PHX_LT_SCALE_MODE_A, CUBLASLT_MATMUL_DESC_A_SCALE_MODE);
    assert_int_equal(PHX_LT_SCALE_MODE_B, CUBLASLT_MATMUL_DESC_B_SCALE_MODE);
    assert_int_equal(PHX_LT_COLS, CUBLASLT_MATRIX_LAYOUT_COLS);
    assert_int_equal(PHX_LT_WORKSPACE_MOST, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
    assert_int_equal(PHX_LT_ALIGN_A, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
    assert_int_equal(PHX_LT_ALIGN_B, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES);
    assert_int_equal(PHX_LT_ALIGN_C, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES);
    assert_int_equal(PHX_LT_ALIGN_D, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
    assert_true(PHX_LT_VERSION_LEAST <= CUBLAS_VERSION);
}

/* A function of another number or kind of arguments does not build. Nothing is called: no library is linked.
 */
static void functions_are_those_of_the_header(void **state)
{
    (void)state;
    phx_lt_handle handle = NULL; /* the other handles have no tag in the header */
    cublasLtHandle_t same = handle;
    cublasStatus_t (*choose)(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t,
                             cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                             cublasLtMatmulPreference_t, int, cublasLtMatmulHeuristicResult_t *, int *);
    cublasStatus_t (*check)(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t,
                            cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                            const cublasLtMatmulAlgo_t *, cublasLtMatmulHeuristicResult_t *);
    cublasStatus_t (*multiply)(cublasLtHandle_t, cublasLtMatmulDesc_t, const void *, const void *,
                               cublasLtMatrixLayout_t, const void *, cublasLtMatrixLayout_t, const void *,
                               const void *, cublasLtMatrixLayout_t, void *, cublasLtMatrixLayout_t,
                               const cublasLtMatmulAlgo_t *, void *, size_t, cudaStream_t);
    cublasStatus_t (*layout)(cublasLtMatrixLayout_t *, cudaDataType, uint64_t, uint64_t, int64_t);
    cublasStatus_t (*describe)(cublasLtMatmulDesc_t *, cublasComputeType_t, cudaDataType_t);
    cublasStatus_t (*set)(cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t, const void *, size_t);
    cublasStatus_t (*set_layout)(cublasLtMatrixLayout_t, cublasLtMatrixLayoutAttribute_t, const void *,
                                 size_t);
    cublasStatus_t (*prefer)(cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t, const void *,
                             size_t);
    size_t (*version)(void);
    assert_null(same);
    assert_true(
        sizeof(choose = cublasLtMatmulAlgoGetHeuristic) + sizeof(check = cublasLtMatmulAlgoCheck) +
            sizeof(multiply = cublasLtMatmul) + sizeof(layout = cublasLtMatrixLayoutCreate) +
            sizeof(describe = cublasLtMatmulDescCreate) + sizeof(set = cublasLtMatmulDescSetAttribute) +
            sizeof(set_layout = cublasLtMatrixLayoutSetAttribute) +
            sizeof(prefer = cublasLtMatmulPreferenceSetAttribute) + sizeof(version = cublasLtGetVersion) >
        0);
}
#endif

static void a_missing_library_is_named(void **state)
{
    (void)state;
    phx_lt_api api = {.version = 1};
    phx_error err = {0};
    assert_int_equal(phx_lt_api_open("libcublasLt-not-here.so.13", &api, &err), PHX_ERR_UNAVAILABLE);
    assert_non_null(strstr(err.text, "libcublasLt-not-here.so.13"));
    assert_non_null(strstr(err.text, "install libcublas"));
    assert_null(strchr(err.text, '\n'));
    memset(&err, 0, sizeof(err));
    assert_int_equal(phx_lt_api_open("libc.so.6", &api, &err), PHX_ERR_UNAVAILABLE);
    assert_non_null(strstr(err.text, "cuBLASLt has no function cublasLtGetVersion"));
    assert_int_equal(api.version, 1);
}

/* The real one opens without a driver; nothing that needs one is called. */
static void the_real_library_has_all_functions(void **state)
{
    (void)state;
    phx_lt_api api = {.version = 0};
    phx_error err = {0};
    if (phx_lt_api_open(NULL, &api, &err) != PHX_OK) {
        (void)printf("SKIP: %s\n", err.text);
        skip();
    }
    (void)printf("cuBLASLt %zu\n", api.version);
    assert_true(api.version >= PHX_LT_VERSION_LEAST);
    phx_lt_product_desc desc = NULL; /* descriptions are of the host alone */
    phx_lt_matrix matrix = NULL;
    phx_lt_wish wish = NULL;
    const int32_t mode = PHX_LT_SCALE_BLK128;
    const uint64_t n_cols = 300;
    const uint32_t align = 16;
    assert_int_equal(api.product_create(&desc, PHX_LT_COMPUTE_F32, PHX_LT_F32), PHX_LT_SUCCESS);
    assert_int_equal(api.product_set(desc, PHX_LT_SCALE_MODE_A, &mode, sizeof(mode)), PHX_LT_SUCCESS);
    assert_int_equal(api.product_set(desc, PHX_LT_SCALES_A, &state, sizeof(state)), PHX_LT_SUCCESS);
    assert_int_equal(api.matrix_create(&matrix, PHX_LT_E4M3, 7168, 256, 7168), PHX_LT_SUCCESS);
    assert_int_equal(api.matrix_set(matrix, PHX_LT_COLS, &n_cols, sizeof(n_cols)), PHX_LT_SUCCESS);
    assert_int_equal(api.wish_create(&wish), PHX_LT_SUCCESS);
    assert_int_equal(api.wish_set(wish, PHX_LT_ALIGN_D, &align, sizeof(align)), PHX_LT_SUCCESS);
    assert_int_equal(api.wish_set(wish, PHX_LT_WORKSPACE_MOST, &n_cols, sizeof(n_cols)), PHX_LT_SUCCESS);
    assert_int_equal(api.wish_destroy(wish), PHX_LT_SUCCESS);
    assert_int_equal(api.matrix_destroy(matrix), PHX_LT_SUCCESS);
    assert_int_equal(api.product_destroy(desc), PHX_LT_SUCCESS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#ifdef PHX_TEST_CUBLASLT_H
        cmocka_unit_test(types_are_those_of_the_header),
        cmocka_unit_test(numbers_are_those_of_the_header),
        cmocka_unit_test(functions_are_those_of_the_header),
#endif
        cmocka_unit_test(a_missing_library_is_named),
        cmocka_unit_test(the_real_library_has_all_functions),
    };
#ifndef PHX_TEST_CUBLASLT_H
    (void)printf("cublasLt.h is not installed: types are not compared\n");
#endif
    return cmocka_run_group_tests(tests, NULL, NULL);
}
