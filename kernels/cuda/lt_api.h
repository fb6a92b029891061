/* kernels/cuda/lt_api.h - the part of cuBLASLt's C interface that we use, and the door to the library.
 * Owns: its types, told here anew, and the table of its functions, filled by dlopen. cublasLt.h itself is not
 * needed to build: so the way through it exists, and is tested on the stand-in (tests/emu/cublaslt), on every
 * machine, and one installation serves those with the library and those without.
 * tests/emu/test_lt_api.c compares them with cublasLt.h where it is installed. */
#ifndef PHX_KERNELS_CUDA_LT_API_H
#define PHX_KERNELS_CUDA_LT_API_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

#define PHX_LT_VERSION_LEAST 120900u /* scales of 128 numbers and of 128 x 128 */

typedef enum phx_lt_status { /* cublasStatus_t */
                             PHX_LT_SUCCESS = 0,
                             PHX_LT_NOT_INITIALIZED = 1,
                             PHX_LT_ALLOC_FAILED = 3,
                             PHX_LT_INVALID_VALUE = 7,
                             PHX_LT_EXECUTION_FAILED = 13,
                             PHX_LT_NOT_SUPPORTED = 15
} phx_lt_status;

typedef enum phx_lt_type { PHX_LT_F32 = 0, PHX_LT_E4M3 = 28 } phx_lt_type; /* cudaDataType */
typedef enum phx_lt_compute { PHX_LT_COMPUTE_F32 = 68 } phx_lt_compute;    /* cublasComputeType_t */
typedef enum phx_lt_turn { PHX_LT_AS_IS = 0, PHX_LT_TURNED = 1 } phx_lt_turn;

typedef enum phx_lt_scale { /* cublasLtMatmulMatrixScale_t */
                            PHX_LT_SCALE_ONE = 0,
                            PHX_LT_SCALE_VEC128 = 4,
                            PHX_LT_SCALE_BLK128 = 5
} phx_lt_scale;

typedef enum phx_lt_product_field { /* cublasLtMatmulDescAttributes_t */
                                    PHX_LT_TURN_A = 3,
                                    PHX_LT_TURN_B = 4,
                                    PHX_LT_SCALES_A = 17,
                                    PHX_LT_SCALES_B = 18,
                                    PHX_LT_SCALE_MODE_A = 31,
                                    PHX_LT_SCALE_MODE_B = 32
} phx_lt_product_field;

typedef enum phx_lt_matrix_field {
    PHX_LT_COLS = 3
} phx_lt_matrix_field; /* cublasLtMatrixLayoutAttribute_t */

typedef enum phx_lt_wish_field { /* cublasLtMatmulPreferenceAttributes_t */
                                 PHX_LT_WORKSPACE_MOST = 1,
                                 PHX_LT_ALIGN_A = 5,
                                 PHX_LT_ALIGN_B = 6,
                                 PHX_LT_ALIGN_C = 7,
                                 PHX_LT_ALIGN_D = 8
} phx_lt_wish_field;

typedef struct phx_lt_algo { /* cublasLtMatmulAlgo_t */
    uint64_t data[8];
} phx_lt_algo;

typedef struct phx_lt_choice { /* cublasLtMatmulHeuristicResult_t */
    phx_lt_algo algo;
    size_t workspace_bytes;
    phx_lt_status state;
    float waves;
    int reserved[4];
} phx_lt_choice;

/* Pointers to what is the library's own. Matrices are column major. */
typedef struct cublasLtContext *phx_lt_handle;
typedef struct cublasLtMatmulDescOpaque_t *phx_lt_product_desc;
typedef struct cublasLtMatrixLayoutOpaque_t *phx_lt_matrix;
typedef struct cublasLtMatmulPreferenceOpaque_t *phx_lt_wish;
typedef void *phx_lt_stream; /* cudaStream_t */

/* X(field, name, arguments): results are phx_lt_status. */
#define PHX_LT_FUNCTIONS(X)                                                                               \
    X(create, cublasLtCreate, (phx_lt_handle * handle))                                                   \
    X(destroy, cublasLtDestroy, (phx_lt_handle handle))                                                   \
    X(product_create, cublasLtMatmulDescCreate,                                                           \
      (phx_lt_product_desc * desc, phx_lt_compute compute, phx_lt_type scale))                            \
    X(product_set, cublasLtMatmulDescSetAttribute,                                                        \
      (phx_lt_product_desc desc, phx_lt_product_field field, const void *value, size_t n_bytes))          \
    X(product_destroy, cublasLtMatmulDescDestroy, (phx_lt_product_desc desc))                             \
    X(matrix_create, cublasLtMatrixLayoutCreate,                                                          \
      (phx_lt_matrix * matrix, phx_lt_type type, uint64_t n_rows, uint64_t n_cols, int64_t stride))       \
    X(matrix_set, cublasLtMatrixLayoutSetAttribute,                                                       \
      (phx_lt_matrix matrix, phx_lt_matrix_field field, const void *value, size_t n_bytes))               \
    X(matrix_destroy, cublasLtMatrixLayoutDestroy, (phx_lt_matrix matrix))                                \
    X(wish_create, cublasLtMatmulPreferenceCreate, (phx_lt_wish * wish))                                  \
    X(wish_set, cublasLtMatmulPreferenceSetAttribute,                                                     \
      (phx_lt_wish wish, phx_lt_wish_field field, const void *value, size_t n_bytes))                     \
    X(wish_destroy, cublasLtMatmulPreferenceDestroy, (phx_lt_wish wish))                                  \
    X(choose, cublasLtMatmulAlgoGetHeuristic,                                                             \
      (phx_lt_handle handle, phx_lt_product_desc desc, phx_lt_matrix a, phx_lt_matrix b, phx_lt_matrix c, \
       phx_lt_matrix d, phx_lt_wish wish, int n_asked, phx_lt_choice *choices, int *n_choices))           \
    X(check, cublasLtMatmulAlgoCheck,                                                                     \
      (phx_lt_handle handle, phx_lt_product_desc desc, phx_lt_matrix a, phx_lt_matrix b, phx_lt_matrix c, \
       phx_lt_matrix d, const phx_lt_algo *algo, phx_lt_choice *result))                                  \
    X(multiply, cublasLtMatmul,                                                                           \
      (phx_lt_handle handle, phx_lt_product_desc desc, const void *alpha, const void *a,                  \
       phx_lt_matrix a_matrix, const void *b, phx_lt_matrix b_matrix, const void *beta, const void *c,    \
       phx_lt_matrix c_matrix, void *d, phx_lt_matrix d_matrix, const phx_lt_algo *algo, void *workspace, \
       size_t workspace_bytes, phx_lt_stream stream))

typedef struct phx_lt_api {
#define X(field, name, arguments) phx_lt_status(*field) arguments;
    PHX_LT_FUNCTIONS(X)
#undef X
    size_t (*get_version)(void); /* cublasLtGetVersion */
    size_t version;              /* 130000: 13.0.0 */
} phx_lt_api;

#if defined(__cplusplus)
extern "C" {
#endif

/* library: a file or name for dlopen; NULL: libcublasLt.so.13, then .12. PHX_ERR_UNAVAILABLE with what is
 * missing and the remedy. The library stays open until the process ends. */
phx_code phx_lt_api_open(const char *library, phx_lt_api *ret_api, phx_error *err);

#if defined(__cplusplus)
}
#endif

#endif
