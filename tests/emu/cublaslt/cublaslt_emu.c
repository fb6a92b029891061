/* tests/emu/cublaslt/cublaslt_emu.c - the stand-in for cuBLASLt: libcublasLt_emu.so has the names and types
 * of its C interface (kernels/cuda/lt_api.h), for streams of the emulator. Owns: what the manual demands of a
 * block-scaled product on sm_90, each demand checked at the call, and the product in plain C. It is stricter
 * than the library: an algorithm serves the shape and the 256 rows that it was chosen for, needs workspace,
 * and spoils all of it first; nothing but f32 = e4m3 * e4m3 with scales of 128 x 128 and of 128 is known;
 * matrices of fewer than 32 rows are refused, as shapes are for which the library has no kernel, and those of
 * 32 rows not before they shall be multiplied, nor those of 48 rows with 20 columns, which lie between the
 * ends of a span. Not here: anything else of cuBLASLt. */
#include "kernels/cuda/lt_api.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "model/dtype.h"
#include "tests/emu/stream.h"

#define EMU_VERSION     130000u
#define MAGIC           0x4c74456d75u
#define ROWS_LEAST      32u
#define ROWS_BROKEN     32u
#define ROWS_LATE       48u
#define COLS_LATE       20u
#define SPAN            256u
#define WORKSPACE_BYTES ((size_t)64 << 10)

struct cublasLtContext {
    uint64_t magic;
};

struct cublasLtMatmulDescOpaque_t {
    int32_t turn_a, turn_b, mode_a, mode_b;
    const float *scales_a, *scales_b;
};

struct cublasLtMatrixLayoutOpaque_t {
    phx_lt_type type;
    uint64_t n_rows, n_cols;
    int64_t stride;
};

struct cublasLtMatmulPreferenceOpaque_t {
    uint64_t workspace_bytes;
    uint32_t align[4]; /* of a, b, c, d */
};

typedef struct product { /* one that is queued: D [n][d_stride] = B [n][k] times A [m][k], all rows */
    uint64_t m, n, k;
    int64_t a_stride, b_stride, d_stride;
    const uint8_t *a, *b;
    const float *scales_a, *scales_b;
    float *d;
    void *workspace;
    phx_emu_stream *stream;
} product;

#define X(field, name, arguments) phx_lt_status name arguments __attribute__((visibility("default")));
PHX_LT_FUNCTIONS(X)
#undef X
size_t cublasLtGetVersion(void) __attribute__((visibility("default")));

size_t cublasLtGetVersion(void)
{
    return EMU_VERSION;
}

phx_lt_status cublasLtCreate(phx_lt_handle *handle)
{
    phx_lt_handle made = phx_alloc(1, sizeof(*made));
    if (!made)
        return PHX_LT_ALLOC_FAILED;
    made->magic = MAGIC;
    *handle = made;
    return PHX_LT_SUCCESS;
}

phx_lt_status cublasLtDestroy(phx_lt_handle handle)
{
    if (!handle || handle->magic != MAGIC)
        return PHX_LT_NOT_INITIALIZED;
    phx_free(handle);
    return PHX_LT_SUCCESS;
}

/* ---- descriptions ---- */

phx_lt_status cublasLtMatmulDescCreate(phx_lt_product_desc *desc, phx_lt_compute compute, phx_lt_type scale)
{
    if (compute != PHX_LT_COMPUTE_F32 || scale != PHX_LT_F32)
        return PHX_LT_NOT_SUPPORTED;
    phx_lt_product_desc made = phx_alloc(1, sizeof(*made));
    if (!made)
        return PHX_LT_ALLOC_FAILED;
    *desc = made;
    return PHX_LT_SUCCESS;
}

phx_lt_status cublasLtMatmulDescDestroy(phx_lt_product_desc desc)
{
    phx_free(desc);
    return PHX_LT_SUCCESS;
}

static phx_lt_status set(void *field, size_t field_bytes, const void *value, size_t n_bytes)
{
    if (!value || n_bytes != field_bytes)
        return PHX_LT_INVALID_VALUE;
    memcpy(field, value, n_bytes);
    return PHX_LT_SUCCESS;
}

phx_lt_status cublasLtMatmulDescSetAttribute(phx_lt_product_desc desc, phx_lt_product_field field,
                                             const void *value, size_t n_bytes)
{
    if (!desc)
        return PHX_LT_INVALID_VALUE;
    switch (field) {
    case PHX_LT_TURN_A:
        return set(&desc->turn_a, sizeof(desc->turn_a), value, n_bytes);
    case PHX_LT_TURN_B:
        return set(&desc->turn_b, sizeof(desc->turn_b), value, n_bytes);
    case PHX_LT_SCALE_MODE_A:
        return set(&desc->mode_a, sizeof(desc->mode_a), value, n_bytes);
    case PHX_LT_SCALE_MODE_B:
        return set(&desc->mode_b, sizeof(desc->mode_b), value, n_bytes);
    case PHX_LT_SCALES_A:
        return set(&desc->scales_a, sizeof(desc->scales_a), value, n_bytes);
    case PHX_LT_SCALES_B:
        return set(&desc->scales_b, sizeof(desc->scales_b), value, n_bytes);
    }
    return PHX_LT_INVALID_VALUE;
}

phx_lt_status cublasLtMatrixLayoutCreate(phx_lt_matrix *matrix, phx_lt_type type, uint64_t n_rows,
                                         uint64_t n_cols, int64_t stride)
{
    if (n_rows == 0 || n_cols == 0 || stride < 0 || (uint64_t)stride < n_rows)
        return PHX_LT_INVALID_VALUE;
    phx_lt_matrix made = phx_alloc(1, sizeof(*made));
    if (!made)
        return PHX_LT_ALLOC_FAILED;
    *made = (struct cublasLtMatrixLayoutOpaque_t){type, n_rows, n_cols, stride};
    *matrix = made;
    return PHX_LT_SUCCESS;
}

phx_lt_status cublasLtMatrixLayoutSetAttribute(phx_lt_matrix matrix, phx_lt_matrix_field field,
                                               const void *value, size_t n_bytes)
{
    if (!matrix || field != PHX_LT_COLS)
        return PHX_LT_INVALID_VALUE;
    return set(&matrix->n_cols, sizeof(matrix->n_cols), value, n_bytes);
}

phx_lt_status cublasLtMatrixLayoutDestroy(phx_lt_matrix matrix)
{
    phx_free(matrix);
    return PHX_LT_SUCCESS;
}

/* As in the library: nothing said, buffers lie on multiples of 256 bytes. */
phx_lt_status cublasLtMatmulPreferenceCreate(phx_lt_wish *wish)
{
    phx_lt_wish made = phx_alloc(1, sizeof(*made));
    if (!made)
        return PHX_LT_ALLOC_FAILED;
    *made = (struct cublasLtMatmulPreferenceOpaque_t){.align = {256, 256, 256, 256}};
    *wish = made;
    return PHX_LT_SUCCESS;
}

phx_lt_status cublasLtMatmulPreferenceSetAttribute(phx_lt_wish wish, phx_lt_wish_field field,
                                                   const void *value, size_t n_bytes)
{
    if (!wish)
        return PHX_LT_INVALID_VALUE;
    if (field == PHX_LT_WORKSPACE_MOST)
        return set(&wish->workspace_bytes, sizeof(wish->workspace_bytes), value, n_bytes);
    if (field < PHX_LT_ALIGN_A || field > PHX_LT_ALIGN_D)
        return PHX_LT_INVALID_VALUE;
    return set(&wish->align[field - PHX_LT_ALIGN_A], sizeof(wish->align[0]), value, n_bytes);
}

phx_lt_status cublasLtMatmulPreferenceDestroy(phx_lt_wish wish)
{
    phx_free(wish);
    return PHX_LT_SUCCESS;
}

/* ---- demands ---- */

static bool lies_on(const void *p, uint64_t bytes)
{
    return p && bytes > 0 && (uintptr_t)p % bytes == 0;
}

/* What can be said without pointers to numbers. */
static phx_lt_status demand_shapes(phx_lt_product_desc desc, phx_lt_matrix a, phx_lt_matrix b,
                                   phx_lt_matrix c, phx_lt_matrix d)
{
    if (!desc || !a || !b || !c || !d)
        return PHX_LT_INVALID_VALUE;
    if (a->type != PHX_LT_E4M3 || b->type != PHX_LT_E4M3 || c->type != PHX_LT_F32 || d->type != PHX_LT_F32 ||
        desc->turn_a != PHX_LT_TURNED || desc->turn_b != PHX_LT_AS_IS)
        return PHX_LT_NOT_SUPPORTED;
    if (desc->mode_a != PHX_LT_SCALE_BLK128 || desc->mode_b != PHX_LT_SCALE_VEC128)
        return PHX_LT_NOT_SUPPORTED;
    if (!lies_on(desc->scales_a, 16) || !lies_on(desc->scales_b, 16))
        return PHX_LT_INVALID_VALUE;
    if (a->n_rows != b->n_rows || a->n_cols != d->n_rows || b->n_cols != d->n_cols ||
        c->n_rows != d->n_rows || c->n_cols != d->n_cols)
        return PHX_LT_INVALID_VALUE;
    if (a->n_rows % 16 != 0 || d->n_rows % 16 != 0 || d->n_cols % 4 != 0 || a->stride % 16 != 0 ||
        b->stride % 16 != 0 || c->stride % 4 != 0 || d->stride % 4 != 0)
        return PHX_LT_NOT_SUPPORTED;
    return d->n_rows < ROWS_LEAST ? PHX_LT_NOT_SUPPORTED : PHX_LT_SUCCESS;
}

static phx_lt_algo algo_of(phx_lt_matrix a, phx_lt_matrix d)
{
    return (phx_lt_algo){{MAGIC, d->n_rows, a->n_rows, (d->n_cols - 1) / SPAN, (uint64_t)d->stride}};
}

static phx_lt_status demand_algo(const phx_lt_algo *algo, phx_lt_matrix a, phx_lt_matrix d)
{
    const phx_lt_algo wanted = algo_of(a, d);
    return algo && memcmp(algo, &wanted, sizeof(wanted)) == 0 ? PHX_LT_SUCCESS : PHX_LT_INVALID_VALUE;
}

phx_lt_status cublasLtMatmulAlgoGetHeuristic(phx_lt_handle handle, phx_lt_product_desc desc, phx_lt_matrix a,
                                             phx_lt_matrix b, phx_lt_matrix c, phx_lt_matrix d,
                                             phx_lt_wish wish, int n_asked, phx_lt_choice *choices,
                                             int *n_choices)
{
    if (!handle || handle->magic != MAGIC)
        return PHX_LT_NOT_INITIALIZED;
    if (!wish || n_asked < 1 || !choices || !n_choices)
        return PHX_LT_INVALID_VALUE;
    const phx_lt_status status = demand_shapes(desc, a, b, c, d);
    *n_choices = 0;
    if (status != PHX_LT_SUCCESS)
        return status;
    for (size_t i = 0; i < 4; i++)
        if (wish->align[i] < 16)
            return PHX_LT_NOT_SUPPORTED;
    if (wish->workspace_bytes < WORKSPACE_BYTES)
        return PHX_LT_NOT_SUPPORTED;
    choices[0] = (phx_lt_choice){.algo = algo_of(a, d), .workspace_bytes = WORKSPACE_BYTES, .waves = 1.0f};
    *n_choices = 1;
    return PHX_LT_SUCCESS;
}

phx_lt_status cublasLtMatmulAlgoCheck(phx_lt_handle handle, phx_lt_product_desc desc, phx_lt_matrix a,
                                      phx_lt_matrix b, phx_lt_matrix c, phx_lt_matrix d,
                                      const phx_lt_algo *algo, phx_lt_choice *result)
{
    if (!handle || handle->magic != MAGIC)
        return PHX_LT_NOT_INITIALIZED;
    phx_lt_status status = demand_shapes(desc, a, b, c, d);
    if (status == PHX_LT_SUCCESS)
        status = demand_algo(algo, a, d);
    if (status == PHX_LT_SUCCESS)
        *result = (phx_lt_choice){.algo = *algo, .workspace_bytes = WORKSPACE_BYTES, .waves = 1.0f};
    return status;
}

/* ---- the product ---- */

static void copy(const product *p, void *to, const void *from, size_t n_bytes)
{
    if (p->stream)
        p->stream->fns->copy(p->stream, to, from, n_bytes);
    else
        memcpy(to, from, n_bytes);
}

/* One element: partial sums of 128 columns, times both scales, added from left to right. */
static float element(const product *p, const float *a, const float *b, const float *scales_a,
                     const float *scales_b)
{
    const uint64_t n_blocks = (p->k + 127) / 128;
    float sum = 0.0f;
    for (uint64_t block = 0; block < n_blocks; block++) {
        const uint64_t end = (block + 1) * 128 < p->k ? (block + 1) * 128 : p->k;
        float part = 0.0f;
        for (uint64_t i = block * 128; i < end; i++)
            part += a[i] * b[i];
        sum += part * scales_a[block] * scales_b[block * p->n];
    }
    return sum;
}

/* From the first column's first row to the last one's last. */
static size_t span_of(uint64_t n_rows, uint64_t n_cols, int64_t stride)
{
    return (n_cols - 1) * (uint64_t)stride + n_rows;
}

/* [n][k] of codes as floats; room: as many bytes. One copy: each opens and closes the device's memory. */
static void widen(const product *p, const uint8_t *codes, int64_t stride, uint64_t n, float *to,
                  uint8_t *room)
{
    copy(p, room, codes, span_of(p->k, n, stride));
    for (uint64_t r = 0; r < n; r++)
        for (uint64_t i = 0; i < p->k; i++)
            to[r * p->k + i] = phx_e4m3_to_f32(room[r * (uint64_t)stride + i]);
}

static void multiply(const product *p)
{
    const uint64_t n_blocks = (p->k + 127) / 128, columns = (n_blocks + 3) / 4 * 4;
    const uint64_t n_scales_a = columns * ((p->m + 127) / 128), n_scales_b = n_blocks * p->n;
    const size_t a_bytes = span_of(p->k, p->m, p->a_stride), b_bytes = span_of(p->k, p->n, p->b_stride);
    const size_t d_bytes = span_of(p->m, p->n, p->d_stride) * sizeof(float);
    float *a = phx_alloc(p->m * p->k, sizeof(*a)), *b = phx_alloc(p->n * p->k, sizeof(*b));
    float *scales_a = phx_alloc(n_scales_a, sizeof(*a)), *scales_b = phx_alloc(n_scales_b, sizeof(*b));
    float *out = phx_alloc(d_bytes, 1);
    uint8_t *room = phx_alloc(WORKSPACE_BYTES + a_bytes + b_bytes, 1);
    if (a && b && scales_a && scales_b && out && room) {
        memset(room, 0xFF, WORKSPACE_BYTES); /* NaN, whatever it was taken for */
        copy(p, p->workspace, room, WORKSPACE_BYTES);
        widen(p, p->a, p->a_stride, p->m, a, room);
        widen(p, p->b, p->b_stride, p->n, b, room);
        copy(p, scales_a, p->scales_a, n_scales_a * sizeof(*a));
        copy(p, scales_b, p->scales_b, n_scales_b * sizeof(*b));
        copy(p, out, p->d, d_bytes); /* what lies between columns stays */
        for (uint64_t r = 0; r < p->n; r++)
            for (uint64_t i = 0; i < p->m; i++)
                out[r * (uint64_t)p->d_stride + i] =
                    element(p, a + i * p->k, b + r * p->k, scales_a + i / 128 * columns, scales_b + r);
        copy(p, p->d, out, d_bytes);
    }
    phx_free(a);
    phx_free(b);
    phx_free(scales_a);
    phx_free(scales_b);
    phx_free(out);
    phx_free(room);
}

static void run(void *arg)
{
    product *p = NULL;
    memcpy(&p, arg, sizeof(p));
    multiply(p);
}

static void drop(void *arg)
{
    product *p = NULL;
    memcpy(&p, arg, sizeof(p));
    phx_free(p);
}

static void run_and_drop(void *arg)
{
    run(arg);
    drop(arg);
}

static phx_lt_status queue(const product *what)
{
    product *p = phx_alloc(1, sizeof(*p));
    if (!p)
        return PHX_LT_ALLOC_FAILED;
    *p = *what;
    const phx_emu_stream_fns *fns = p->stream->fns;
    const bool good = fns->is_recording(p->stream) ? fns->keep(p->stream, run, drop, &p, sizeof(p))
                                                   : fns->queue(p->stream, run_and_drop, &p, sizeof(p));
    if (good)
        return PHX_LT_SUCCESS;
    phx_free(p);
    return PHX_LT_EXECUTION_FAILED;
}

phx_lt_status cublasLtMatmul(phx_lt_handle handle, phx_lt_product_desc desc, const void *alpha, const void *a,
                             phx_lt_matrix a_matrix, const void *b, phx_lt_matrix b_matrix, const void *beta,
                             const void *c, phx_lt_matrix c_matrix, void *d, phx_lt_matrix d_matrix,
                             const phx_lt_algo *algo, void *workspace, size_t workspace_bytes,
                             phx_lt_stream stream)
{
    float one, zero;
    if (!handle || handle->magic != MAGIC)
        return PHX_LT_NOT_INITIALIZED;
    phx_lt_status status = demand_shapes(desc, a_matrix, b_matrix, c_matrix, d_matrix);
    if (status == PHX_LT_SUCCESS)
        status = demand_algo(algo, a_matrix, d_matrix);
    if (status == PHX_LT_SUCCESS &&
        (d_matrix->n_rows == ROWS_BROKEN || (d_matrix->n_rows == ROWS_LATE && d_matrix->n_cols == COLS_LATE)))
        status = PHX_LT_EXECUTION_FAILED;
    if (status != PHX_LT_SUCCESS)
        return status;
    if (!alpha || !beta || !lies_on(a, 16) || !lies_on(b, 16) || !lies_on(d, 16) || c != d ||
        c_matrix->stride != d_matrix->stride || !lies_on(workspace, 256) || workspace_bytes < WORKSPACE_BYTES)
        return PHX_LT_INVALID_VALUE;
    memcpy(&one, alpha, sizeof(one));
    memcpy(&zero, beta, sizeof(zero));
    if (fabsf(one - 1.0f) > 0.0f || fabsf(zero) > 0.0f)
        return PHX_LT_NOT_SUPPORTED;
    const product p = {.m = d_matrix->n_rows,
                       .n = d_matrix->n_cols,
                       .k = a_matrix->n_rows,
                       .a_stride = a_matrix->stride,
                       .b_stride = b_matrix->stride,
                       .d_stride = d_matrix->stride,
                       .a = a,
                       .b = b,
                       .scales_a = desc->scales_a,
                       .scales_b = desc->scales_b,
                       .d = d,
                       .workspace = workspace,
                       .stream = stream};
    if (p.stream)
        return queue(&p);
    multiply(&p);
    return PHX_LT_SUCCESS;
}
