/* kernels/cuda/lt.cu - products of many rows through cuBLASLt: rows rounded to e4m3 with a scale for each 128
 * columns, times fp8 matrices with 128 x 128 scales, f32 out.
 * Owns: the library's handle, and for each shape (n_out, K) what it wants to know and an algorithm for every
 * span of rows, all settled before the first step (phx_lt_choose); a product only names pointers and the
 * number of rows. No memory of its own on the device: everything lies in the room of the call
 * (phx_rounded_room_of). Not here: the rounding (rounded.cu), the library's interface (lt_api.h), our own
 * products (product.cu).
 *
 * What the library demands (its manual, "128-element 1D and 128x128 2D block scaling"): column major, the
 * first operand turned: W [n_out][K] is A with K rows, codes [rows][K] are B, out [rows][out_stride] is D.
 * Scales of B lie with the rows next to each other, those of A with K next to each other and a multiple of
 * four apart; both from a multiple of 16 bytes on. Rows in multiples of four, n_out and K of 16. Workspace
 * from a multiple of 256 bytes on. */
extern "C" {
#include "base/alloc.h"
#include "kernels/cuda/lt_api.h"
}

#include "kernels/cuda/lt.cuh"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* From so many rows on: a product of M rows reads a byte of W for 2 M operations, so at the bandwidth and fp8
 * rate of an H200 (4.8 TB/s, 1979 TFLOP/s) memory is what it waits for below 206 rows; there codes gain
 * nothing and their making costs a launch. Steps that are recorded have at most 64 rows. The emulator's are
 * smaller. */
#if defined(PHX_EMU)
#define ROWS_LEAST 16
#else
#define ROWS_LEAST 256
#endif

#define SPAN       256 /* rows with one algorithm */
#define SPANS_MAX  64  /* 16384 rows, as many as a step has at most */
#define SHAPES_MAX 32

typedef struct shape {
    int64_t n_out, n_cols, out_stride; /* what it is known by */
    int64_t n_rows_most;
    bool chosen;
    phx_lt_status refusal; /* when not chosen */
    phx_lt_product_desc product;
    phx_lt_matrix w, x, out;
    phx_lt_algo algos[SPANS_MAX];
} shape;

struct phx_lt {
    phx_lt_api api;
    phx_error missing; /* why there is no library; its code PHX_OK: there is */
    phx_lt_handle handle;
    phx_lt_wish wish;
    size_t n_shapes;
    shape shapes[SHAPES_MAX];
};

/* ---- the room of a call ---- */

typedef struct room {
    uint8_t *codes;
    float *scales;
    const float *w_scales; /* of the matrix itself, or the copy that has to be made */
    float *w_copy;         /* NULL: none */
    uint8_t *workspace;
} room;

static bool is_aligned(const void *p, uintptr_t bytes)
{
    return (uintptr_t)p % bytes == 0;
}

static room room_of(const phx_product_args &a)
{
    const phx_rounded_room at = phx_rounded_room_of(a.n_rows, a.n_out, a.w->n_cols);
    const uintptr_t first =
        ((uintptr_t)a.parts + PHX_ROUNDED_ALIGN - 1) & ~(uintptr_t)(PHX_ROUNDED_ALIGN - 1);
    room r = {};
    r.codes = (uint8_t *)first;
    r.scales = (float *)(first + (uintptr_t)at.scales);
    r.workspace = (uint8_t *)(first + (uintptr_t)at.library);
    r.w_scales = a.w->scales + (a.first_row / 128) * a.w->scale_stride;
    if (a.w->scale_stride != phx_rounded_rows(a.w->n_cols / 128) || !is_aligned(r.w_scales, 16))
        r.w_scales = r.w_copy = (float *)(first + (uintptr_t)at.w_scales);
    return r;
}

/* What the library or the rounding could not do, whatever the library says of the shape. */
static bool is_possible(const phx_product_args &a)
{
    const phx_matrix &w = *a.w;
    return a.rounded && a.n_groups == 1 && a.out && a.n_rows >= ROWS_LEAST &&
           w.format == PHX_FORMAT_FP8_BLOCK && w.pack == 0 && w.row_shift == 0 && w.col_shift == 0 &&
           a.first_row % 128 == 0 && w.n_cols % 128 == 0 && w.n_cols > 0 && a.n_out % 16 == 0 &&
           a.out_stride % 4 == 0 && a.out_stride >= a.n_out && a.x.dtype == PHX_BF16 && a.x.stride % 4 == 0 &&
           is_aligned(a.x.data, 8) && is_aligned(a.out, 16) &&
           is_aligned((const uint8_t *)w.data + a.first_row * w.n_cols, 16) && a.parts &&
           a.n_parts * (int64_t)sizeof(float) >= phx_rounded_room_of(a.n_rows, a.n_out, w.n_cols).n_bytes &&
           a.out_rows >= phx_rounded_rows(a.n_rows);
}

static size_t shape_at(const phx_lt *lt, const phx_product_args &a)
{
    size_t i = 0;
    while (i < lt->n_shapes && (lt->shapes[i].n_out != a.n_out || lt->shapes[i].n_cols != a.w->n_cols ||
                                lt->shapes[i].out_stride != a.out_stride))
        i++;
    return i;
}

static const shape *find_shape(const phx_lt *lt, const phx_product_args &a)
{
    const size_t i = shape_at(lt, a);
    return i < lt->n_shapes ? &lt->shapes[i] : NULL;
}

/* ---- a product ---- */

static int64_t span_of(int64_t n_padded)
{
    return (n_padded - 1) / SPAN;
}

/* The fewest rows of a span that the library is given, padded. */
static int64_t first_rows(int64_t span)
{
    return span * SPAN + 4 > ROWS_LEAST ? span * SPAN + 4 : ROWS_LEAST;
}

/* Tells the library how many rows there are. */
static phx_lt_status set_rows(const phx_lt_api *api, const shape *s, int64_t n_padded)
{
    const uint64_t n = (uint64_t)n_padded;
    const phx_lt_status status = api->matrix_set(s->x, PHX_LT_COLS, &n, sizeof(n));
    return status == PHX_LT_SUCCESS ? api->matrix_set(s->out, PHX_LT_COLS, &n, sizeof(n)) : status;
}

static phx_lt_status set_scales(const phx_lt_api *api, const shape *s, const room &r)
{
    const void *w = PHX_PLANT(73) ? r.scales : r.w_scales;
    const void *x = PHX_PLANT(73) ? r.w_scales : r.scales;
    const phx_lt_status status = api->product_set(s->product, PHX_LT_SCALES_A, &w, sizeof(w));
    return status == PHX_LT_SUCCESS ? api->product_set(s->product, PHX_LT_SCALES_B, &x, sizeof(x)) : status;
}

static phx_lt_status multiply(const phx_lt *lt, const shape *s, cudaStream_t stream,
                              const phx_product_args &a)
{
    const float one = 1.0f;
    const float zero = 0.0f;
    const room r = room_of(a);
    const int64_t n_padded = PHX_PLANT(74) ? a.n_rows : phx_rounded_rows(a.n_rows);
    phx_lt_status status = set_rows(&lt->api, s, n_padded);
    if (status == PHX_LT_SUCCESS)
        status = set_scales(&lt->api, s, r);
    if (status != PHX_LT_SUCCESS)
        return status;
    const uint8_t *w = (const uint8_t *)a.w->data + a.first_row * a.w->n_cols;
    return lt->api.multiply(lt->handle, s->product, &one, w, s->w, r.codes, s->x, &zero, a.out, s->out, a.out,
                            s->out, &s->algos[PHX_PLANT(75) ? 0 : span_of(n_padded)],
                            PHX_PLANT(76) ? NULL : r.workspace, (size_t)PHX_ROUNDED_LIBRARY,
                            (phx_lt_stream)stream);
}

static cudaError_t round_rows(cudaStream_t stream, const phx_product_args &a)
{
    const room r = room_of(a);
    phx_rounded_rows_args rows = {};
    rows.x = a.x;
    rows.n_rows = a.n_rows;
    rows.n_padded = phx_rounded_rows(a.n_rows);
    rows.n_cols = a.w->n_cols;
    rows.codes = r.codes;
    rows.scales = r.scales;
    cudaError_t error = phx_round_codes_cuda(stream, &rows);
    if (error != cudaSuccess || !r.w_copy)
        return error;
    phx_matrix w = *a.w;
    w.scales += (a.first_row / 128) * w.scale_stride;
    return phx_copy_scales_cuda(stream, &w, (a.n_out + 127) / 128, r.w_copy);
}

bool phx_lt_takes(const phx_lt *lt, const phx_product_args *args)
{
    const shape *s = lt && is_possible(*args) ? find_shape(lt, *args) : NULL;
    return s && s->chosen && args->n_rows <= s->n_rows_most;
}

/* The results again, in the dtype that the next product wants. */
static cudaError_t round_results(cudaStream_t stream, const phx_product_args &a)
{
    phx_round_args round = {};
    if (!a.out_act.data)
        return cudaSuccess;
    round.x = a.out;
    round.x_stride = a.out_stride;
    round.n_rows = a.n_rows;
    round.n_cols = a.n_out;
    round.out = a.out_act;
    return phx_round_cuda(stream, &round);
}

cudaError_t phx_lt_product(phx_lt *lt, cudaStream_t stream, const phx_product_args *args, bool *ret_refused)
{
    shape *s = &lt->shapes[shape_at(lt, *args)];
    const cudaError_t error = round_rows(stream, *args);
    if (error != cudaSuccess)
        return error;
    s->refusal = multiply(lt, s, stream, *args);
    s->chosen = s->refusal == PHX_LT_SUCCESS;
    *ret_refused = !s->chosen;
    return s->chosen ? round_results(stream, *args) : cudaSuccess;
}

void phx_lt_tell_refusal(const phx_lt *lt, const phx_product_args *args, char *text, size_t n_bytes)
{
    const shape *s = find_shape(lt, *args);
    (void)snprintf(
        text, n_bytes,
        "products of %lld x %lld: our own kernels from now on, cuBLASLt %zu refused %lld rows in a step "
        "(its status %d)",
        (long long)args->n_out, (long long)args->w->n_cols, lt->api.version, (long long)args->n_rows,
        s ? (int)s->refusal : 0);
}

bool phx_lt_product_of(const phx_leaf_sum_args *args, phx_product_args *ret_product)
{
    if (!args->rounded || !args->fixed || args->routed.n_experts > 0)
        return false;
    phx_product_args product = {};
    product.x = args->h_fixed;
    product.w = args->fixed;
    product.n_groups = 1;
    product.n_out = product.out_stride = args->n_out;
    product.n_rows = args->n_tokens;
    product.out = args->out;
    product.rounded = true;
    product.out_rows = args->out_rows;
    product.parts = args->parts;
    product.n_parts = args->n_parts;
    *ret_product = product;
    return true;
}

/* ---- the choice ---- */

static void shape_done(const phx_lt_api *api, shape *s)
{
    if (s->product)
        (void)api->product_destroy(s->product);
    phx_lt_matrix *const matrices[] = {&s->w, &s->x, &s->out};
    for (phx_lt_matrix *matrix : matrices) {
        if (*matrix)
            (void)api->matrix_destroy(*matrix);
        *matrix = NULL;
    }
    s->product = NULL;
}

static phx_lt_status set_product(const phx_lt_api *api, phx_lt_product_desc product)
{
    const struct {
        phx_lt_product_field field;
        int32_t value;
    } settings[] = {{PHX_LT_TURN_A, PHX_LT_TURNED},
                    {PHX_LT_TURN_B, PHX_LT_AS_IS},
                    {PHX_LT_SCALE_MODE_A, PHX_LT_SCALE_BLK128},
                    {PHX_LT_SCALE_MODE_B, PHX_LT_SCALE_VEC128}};
    phx_lt_status status = PHX_LT_SUCCESS;
    for (const auto &setting : settings) {
        if (status == PHX_LT_SUCCESS)
            status = api->product_set(product, setting.field, &setting.value, sizeof(setting.value));
    }
    return status;
}

static phx_lt_status describe(const phx_lt_api *api, shape *s)
{
    const uint64_t k = (uint64_t)s->n_cols;
    const uint64_t most = (uint64_t)phx_rounded_rows(s->n_rows_most);
    phx_lt_status status = api->product_create(&s->product, PHX_LT_COMPUTE_F32, PHX_LT_F32);
    if (status == PHX_LT_SUCCESS)
        status = set_product(api, s->product);
    if (status == PHX_LT_SUCCESS)
        status = api->matrix_create(&s->w, PHX_LT_E4M3, k, (uint64_t)s->n_out, s->n_cols);
    if (status == PHX_LT_SUCCESS)
        status = api->matrix_create(&s->x, PHX_LT_E4M3, k, most, s->n_cols);
    if (status == PHX_LT_SUCCESS)
        status = api->matrix_create(&s->out, PHX_LT_F32, (uint64_t)s->n_out, most, s->out_stride);
    return status;
}

/* One algorithm for all rows of a span: the best for its end, which must do for its beginning too. */
static phx_lt_status choose_algo(const phx_lt *lt, shape *s, int64_t span)
{
    const phx_lt_api *api = &lt->api;
    const int64_t most = phx_rounded_rows(s->n_rows_most);
    const int64_t end = (span + 1) * SPAN < most ? (span + 1) * SPAN : most;
    const int64_t begin = first_rows(span);
    phx_lt_choice choice = {};
    int n = 0;
    phx_lt_status status = set_rows(api, s, end);
    if (status == PHX_LT_SUCCESS)
        status = api->choose(lt->handle, s->product, s->w, s->x, s->out, s->out, lt->wish, 1, &choice, &n);
    if (status == PHX_LT_SUCCESS && (n == 0 || choice.state != PHX_LT_SUCCESS))
        status = n == 0 ? PHX_LT_NOT_SUPPORTED : choice.state;
    if (status != PHX_LT_SUCCESS)
        return status;
    s->algos[span] = choice.algo;
    status = set_rows(api, s, begin);
    if (status == PHX_LT_SUCCESS)
        status = api->check(lt->handle, s->product, s->w, s->x, s->out, s->out, &s->algos[span], &choice);
    if (status == PHX_LT_SUCCESS && choice.workspace_bytes > (size_t)PHX_ROUNDED_LIBRARY)
        return PHX_LT_NOT_SUPPORTED;
    return status;
}

/* A shape that was met before stays as it is. */
static void add_shape(phx_lt *lt, const phx_product_args &example)
{
    if (!is_possible(example) || find_shape(lt, example) || lt->n_shapes == SHAPES_MAX ||
        span_of(phx_rounded_rows(example.n_rows)) >= SPANS_MAX)
        return;
    shape *s = &lt->shapes[lt->n_shapes++];
    s->n_out = example.n_out;
    s->n_cols = example.w->n_cols;
    s->out_stride = example.out_stride;
    s->n_rows_most = example.n_rows;
    phx_lt_status status = describe(&lt->api, s);
    if (status == PHX_LT_SUCCESS)
        status = set_scales(&lt->api, s, room_of(example));
    const int64_t last = span_of(phx_rounded_rows(example.n_rows));
    for (int64_t span = span_of(ROWS_LEAST); span <= last && status == PHX_LT_SUCCESS; span++)
        status = choose_algo(lt, s, span);
    s->chosen = status == PHX_LT_SUCCESS;
    s->refusal = status;
    if (!s->chosen)
        shape_done(&lt->api, s);
}

static cudaError_t try_rows(phx_lt *lt, shape *s, cudaStream_t stream, const phx_product_args &example,
                            int64_t n_rows)
{
    phx_product_args some = example;
    some.n_rows = n_rows < example.n_rows ? n_rows : example.n_rows;
    const cudaError_t error = round_rows(stream, some);
    if (error == cudaSuccess)
        s->refusal = multiply(lt, s, stream, some);
    s->chosen = s->refusal == PHX_LT_SUCCESS;
    return error == cudaSuccess && s->chosen ? round_results(stream, some) : error;
}

/* Products of that example may be wanted in bf16 too, by a kernel that no other step may have loaded: over
 * its own results, within themselves. */
static cudaError_t warm_rounding(cudaStream_t stream, const phx_product_args &example)
{
    phx_product_args one = example;
    one.n_rows = 1;
    if (one.out_act.data)
        return cudaSuccess; /* try_rows has */
    one.out_act.data = one.parts;
    one.out_act.stride = one.n_out;
    one.out_act.dtype = PHX_BF16;
    return round_results(stream, one);
}

/* A chip loads a kernel when it is first used, which takes memory and time. What the library takes and then
 * cannot run at either end of a span becomes a refusal here, and no failure of a step. */
static phx_code warm_up(phx_lt *lt, cudaStream_t stream, const phx_product_args &example, phx_error *err)
{
    shape *s = &lt->shapes[lt->n_shapes - 1];
    const int64_t last = span_of(phx_rounded_rows(example.n_rows));
    cudaError_t error = cudaSuccess;
    for (int64_t span = span_of(ROWS_LEAST); span <= last && error == cudaSuccess && s->chosen; span++) {
        error = try_rows(lt, s, stream, example, first_rows(span));
        if (error == cudaSuccess && s->chosen)
            error = try_rows(lt, s, stream, example, (span + 1) * SPAN);
    }
    if (!s->chosen)
        shape_done(&lt->api, s);
    else if (error == cudaSuccess)
        error = warm_rounding(stream, example);
    if (error == cudaSuccess)
        error = cudaStreamSynchronize(stream);
    if (error == cudaSuccess)
        return PHX_OK;
    return PHX_FAIL(err, PHX_ERR_DEVICE, "device: cuBLASLt %zu, product %lld x %lld: %s", lt->api.version,
                    (long long)example.n_out, (long long)example.w->n_cols, cudaGetErrorString(error));
}

static phx_code make_wish(phx_lt *lt)
{
    const uint64_t workspace_bytes = PHX_ROUNDED_LIBRARY;
    const uint32_t align = 16;
    const phx_lt_wish_field aligned[] = {PHX_LT_ALIGN_A, PHX_LT_ALIGN_B, PHX_LT_ALIGN_C, PHX_LT_ALIGN_D};
    phx_lt_status status = lt->api.create(&lt->handle);
    if (status == PHX_LT_SUCCESS)
        status = lt->api.wish_create(&lt->wish);
    if (status == PHX_LT_SUCCESS)
        status = lt->api.wish_set(lt->wish, PHX_LT_WORKSPACE_MOST, &workspace_bytes, sizeof(workspace_bytes));
    for (const phx_lt_wish_field field : aligned) {
        if (status == PHX_LT_SUCCESS)
            status = lt->api.wish_set(lt->wish, field, &align, sizeof(align));
    }
    if (status == PHX_LT_SUCCESS)
        return PHX_OK;
    return PHX_FAIL(&lt->missing, PHX_ERR_UNAVAILABLE, "cuBLASLt %zu does not start: its status %d",
                    lt->api.version, (int)status);
}

/* The stand-in lies beside the plugin or program that this is in. */
static const char *library_name(char *path, size_t n_bytes)
{
#if defined(PHX_EMU)
    Dl_info here;
    path[0] = '\0';
    if (dladdr((const void *)&phx_lt_takes, &here) == 0 || !here.dli_fname)
        return path;
    const char *slash = strrchr(here.dli_fname, '/');
    const int n = slash ? (int)(slash - here.dli_fname) + 1 : 0;
    (void)snprintf(path, n_bytes, "%.*slibcublasLt_emu.so", n, here.dli_fname);
    return path;
#else
    (void)path;
    (void)n_bytes;
    return NULL;
#endif
}

static phx_lt *lt_open(phx_error *err)
{
    char path[4096];
    phx_lt *lt = (phx_lt *)phx_alloc(1, sizeof(*lt));
    if (!lt) {
        (void)PHX_FAIL(err, PHX_ERR_NOMEM, "products through cuBLASLt");
        return NULL;
    }
    if (phx_lt_api_open(library_name(path, sizeof(path)), &lt->api, &lt->missing) == PHX_OK)
        (void)make_wish(lt);
    return lt;
}

static void tell(const phx_lt *lt, phx_buf *text)
{
    if (lt->missing.code != PHX_OK) {
        (void)phx_buf_printf(text, "products of many rows: our own kernels: %s", lt->missing.text);
        return;
    }
    size_t n_chosen = 0;
    for (size_t i = 0; i < lt->n_shapes; i++)
        n_chosen += lt->shapes[i].chosen ? 1 : 0;
    (void)phx_buf_printf(
        text, "products of %d rows or more: cuBLASLt %zu.%zu.%zu for %zu of %zu shapes in fp8", ROWS_LEAST,
        lt->api.version / 10000, lt->api.version / 100 % 100, lt->api.version % 100, n_chosen, lt->n_shapes);
    for (size_t i = 0; i < lt->n_shapes; i++) {
        const shape *s = &lt->shapes[i];
        (void)phx_buf_printf(text, "%s %lld x %lld", i == 0 ? ":" : ",", (long long)s->n_out,
                             (long long)s->n_cols);
        if (!s->chosen)
            (void)phx_buf_printf(text, " refused (its status %d)", (int)s->refusal);
    }
}

phx_code phx_lt_choose(phx_lt **lt, cudaStream_t stream, int arch, const phx_product_choice *choice,
                       phx_error *err)
{
    phx_code rc = PHX_OK;
#if !defined(PHX_EMU)
    if (arch != PHX_LT_ARCH)
        return PHX_OK;
#endif
    (void)arch;
    if (!*lt)
        *lt = lt_open(err);
    if (!*lt)
        return PHX_ERR_NOMEM;
    for (size_t i = 0; i < choice->n && rc == PHX_OK; i++) {
        const phx_product_args &example = choice->examples[i];
        const size_t n_before = (*lt)->n_shapes;
        if ((*lt)->missing.code == PHX_OK)
            add_shape(*lt, example);
        if (choice->warm && (*lt)->n_shapes > n_before && phx_lt_takes(*lt, &example))
            rc = warm_up(*lt, stream, example, err);
        if (choice->rows_least)
            choice->rows_least[i] = phx_lt_takes(*lt, &example) ? ROWS_LEAST : 0;
    }
    if (rc == PHX_OK && choice->text)
        tell(*lt, choice->text);
    return rc;
}

void phx_lt_destroy(phx_lt *lt)
{
    if (!lt)
        return;
    for (size_t i = 0; i < lt->n_shapes; i++)
        shape_done(&lt->api, &lt->shapes[i]);
    if (lt->wish)
        (void)lt->api.wish_destroy(lt->wish);
    if (lt->handle)
        (void)lt->api.destroy(lt->handle);
    phx_free(lt);
}
