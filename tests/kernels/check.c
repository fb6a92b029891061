/* tests/kernels/check.c - guarded memory, inputs and comparison of the kernel checker. */
#include "tests/kernels/check.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

#define GUARD   256  /* bytes before and after an output */
#define PATTERN 0xA5 /* 0xA5A5A5A5 is -2.9e-16 in f32 and -2.9e-16 in bf16: no result of a case */

void check_case(check *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(c->what, sizeof(c->what), format, args);
    va_end(args);
    uint64_t op = 0;
    for (const char *p = c->op; *p; p++)
        op = op * 31 + (uint64_t)*p;
    c->rng = (phx_rng){phx_rng_key(c->seed, op, c->n_cases, 0), 0};
    c->n_cases++;
}

void check_end(check *c)
{
    for (size_t i = 0; i < c->n_allocs; i++) {
        const uint8_t *p = c->allocs[i];
        const size_t n = c->guard_bytes[i];
        for (size_t k = 0; n > 0 && k < GUARD; k++) {
            if (p[k] != PATTERN || p[n - 1 - k] != PATTERN) {
                check_fail(c, "wrote outside of an output (guard byte %zu)", k);
                break;
            }
        }
        if (!c->device)
            phx_free(c->allocs[i]);
    }
    if (c->device)
        check_device_reset(c->device);
    c->n_allocs = 0;
}

void check_fail(check *c, const char *format, ...)
{
    c->n_failed++;
    if (c->n_failed > 8)
        return;
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    printf("FAILED %s %s (%s): %s\n", c->op, c->variant, c->what, text);
#if defined(PHX_PLANTS)
    exit(1);
#endif
}

static void *keep(check *c, void *ptr, size_t guard_bytes)
{
    if (!ptr || c->n_allocs == CHECK_ALLOCS_MAX) {
        fprintf(stderr, "check_kernels: out of memory, or of its %d pieces\n", CHECK_ALLOCS_MAX);
        exit(1);
    }
    c->allocs[c->n_allocs] = ptr;
    c->guard_bytes[c->n_allocs++] = guard_bytes;
    return ptr;
}

static void *take(check *c, size_t n, size_t bytes)
{
    return c->device ? check_device_memory(c->device, n * bytes) : phx_alloc(n, bytes);
}

void *check_mem(check *c, int64_t n, size_t bytes)
{
    return keep(c, take(c, (size_t)(n > 0 ? n : 1), bytes), 0);
}

void *check_out(check *c, int64_t n, size_t bytes)
{
    const size_t all = (size_t)n * bytes + 2 * GUARD;
    uint8_t *p = keep(c, take(c, all, 1), all);
    memset(p, PATTERN, all);
    return p + GUARD;
}

void *check_copy(check *c, const void *from, int64_t n, size_t bytes)
{
    void *to = check_out(c, n, bytes);
    memcpy(to, from, (size_t)n * bytes);
    return to;
}

static float unit(check *c)
{
    return phx_rng_unit(phx_rng_u64(&c->rng));
}

static float draw(check *c, check_fill fill, int64_t i)
{
    const float x = 2.0f * unit(c) - 1.0f;
    switch (fill) {
    case CHECK_EQUAL:
        return 0.7109375f;
    case CHECK_ALTERNATING:
        return (i & 1) != 0 ? -1.1015625f : 1.1015625f;
    case CHECK_BIG:
        return ldexpf(x, (int)phx_rng_below(&c->rng, 41) - 20);
    case CHECK_ZERO:
        return 0.0f;
    case CHECK_RANDOM:
    case CHECK_FILL_COUNT:
        break;
    }
    return x;
}

float *check_floats(check *c, int64_t n, check_fill fill)
{
    float *x = check_mem(c, n, sizeof(float));
    for (int64_t i = 0; i < n; i++)
        x[i] = draw(c, fill, i);
    return x;
}

static void store(void *data, phx_dtype dtype, int64_t i, float value)
{
    if (dtype == PHX_F32)
        ((float *)data)[i] = value;
    else
        ((uint16_t *)data)[i] = dtype == PHX_BF16 ? phx_f32_to_bf16(value) : phx_f32_to_f16(value);
}

double check_load(const void *data, phx_dtype dtype, int64_t i)
{
    if (dtype == PHX_F32)
        return (double)((const float *)data)[i];
    if (dtype == PHX_F16)
        return (double)phx_f16_to_f32(((const uint16_t *)data)[i]);
    return (double)phx_bf16_to_f32(((const uint16_t *)data)[i]);
}

phx_activation check_activation(check *c, int64_t n_rows, int64_t n_cols, phx_dtype dtype, check_fill fill)
{
    /* a step of 8 keeps rows of whole blocks aligned, which has kernels of its own */
    const bool aligned = phx_rng_below(&c->rng, 4) < (n_cols % 64 == 0 ? 3 : 1);
    const int64_t step = aligned ? 8 : 1;
    const int64_t stride = n_cols + step * phx_rng_below(&c->rng, 4);
    void *data = check_mem(c, n_rows * stride, phx_dtype_bytes(dtype));
    for (int64_t r = 0; r < n_rows; r++) {
        for (int64_t i = 0; i < n_cols; i++)
            store(data, dtype, r * stride + i, draw(c, fill, i));
        for (int64_t i = n_cols; i < stride; i++)
            store(data, dtype, r * stride + i, 3e30f); /* spoils every sum that reads it */
    }
    return (phx_activation){data, stride, dtype};
}

static uint8_t draw_fp8(check *c, check_fill fill, int64_t i)
{
    if (fill == CHECK_EQUAL)
        return 0x3B;
    if (fill == CHECK_ALTERNATING)
        return (i & 1) != 0 ? 0xBB : 0x3B;
    const uint8_t code = (uint8_t)phx_rng_below(&c->rng, 256);
    return (code & 0x7F) == 0x7F ? (uint8_t)(code ^ 1) : code; /* not a NaN */
}

static void fill_fp8(check *c, phx_matrix *m, check_fill fill)
{
    /* Every second one has a border of scale blocks among its rows, wherever else it may begin. */
    const uint32_t n_border = m->n_rows < 127 ? (uint32_t)m->n_rows : 127;
    const bool border = m->n_rows > 1 && phx_rng_below(&c->rng, 2) != 0;
    m->row_shift = (int32_t)(border ? 127 - phx_rng_below(&c->rng, n_border) : phx_rng_below(&c->rng, 128));
    if (m->n_rows % 8 == 0 && phx_rng_below(&c->rng, 2) == 0)
        m->row_shift = m->row_shift / 8 * 8;
    const bool aligned = phx_rng_below(&c->rng, 4) < (m->n_cols % 64 == 0 ? 3 : 1);
    m->col_shift = aligned ? 0 : (int32_t)phx_rng_below(&c->rng, 128);
    const int64_t n_scale_rows = (m->n_rows + m->row_shift + 127) / 128;
    m->scale_stride = (m->n_cols + m->col_shift + 127) / 128 + phx_rng_below(&c->rng, 2);
    float *scales = check_mem(c, n_scale_rows * m->scale_stride, sizeof(float));
    for (int64_t i = 0; i < n_scale_rows * m->scale_stride; i++) {
        scales[i] =
            fill == CHECK_BIG ? ldexpf(unit(c), (int)phx_rng_below(&c->rng, 21) - 10) : 0.02f * unit(c);
        if (fill == CHECK_ZERO && phx_rng_below(&c->rng, 2) == 0)
            scales[i] = 0.0f;
    }
    m->scales = scales;
    uint8_t *codes = check_mem(c, m->n_rows * m->n_cols, 1);
    for (int64_t i = 0; i < m->n_rows * m->n_cols; i++)
        codes[i] = draw_fp8(c, fill, i % m->n_cols);
    m->data = codes;
}

/* Numbers -1, or 1 and -1 by turns, or any; scales as those of fp8. */
static void fill_int4(check *c, phx_matrix *m, check_fill fill)
{
    const bool aligned = phx_rng_below(&c->rng, 4) < (m->n_cols % 32 == 0 ? 3 : 1);
    m->col_shift = aligned ? 0 : 2 * (int32_t)phx_rng_below(&c->rng, 16);
    /* Mostly even: tiles read scales in pairs. */
    const int64_t n_spare = phx_rng_below(&c->rng, 4) ? 2 * phx_rng_below(&c->rng, 2) : 1;
    m->scale_stride = (m->n_cols + m->col_shift + 31) / 32 + n_spare;
    uint16_t *scales = check_mem(c, m->n_rows * m->scale_stride, sizeof(*scales));
    for (int64_t i = 0; i < m->n_rows * m->scale_stride; i++) {
        const float scale =
            fill == CHECK_BIG ? ldexpf(unit(c), (int)phx_rng_below(&c->rng, 21) - 10) : 0.02f * unit(c);
        scales[i] = phx_f32_to_bf16(fill == CHECK_ZERO && phx_rng_below(&c->rng, 2) == 0 ? 0.0f : scale);
    }
    m->group_scales = scales;
    uint8_t *pairs = check_mem(c, m->n_rows * m->n_cols / 2, 1);
    for (int64_t i = 0; i < m->n_rows * m->n_cols / 2; i++)
        pairs[i] = fill == CHECK_EQUAL         ? 0x77
                   : fill == CHECK_ALTERNATING ? 0x79
                                               : (uint8_t)phx_rng_below(&c->rng, 256);
    m->data = pairs;
}

phx_matrix *check_matrix(check *c, phx_format format, int64_t n_rows, int64_t n_cols, check_fill fill)
{
    phx_matrix *m = check_mem(c, 1, sizeof(*m));
    m->format = format;
    m->n_rows = n_rows;
    m->n_cols = n_cols;
    if (format == PHX_FORMAT_FP8_BLOCK) {
        fill_fp8(c, m, fill);
        return m;
    }
    if (format == PHX_FORMAT_INT4_G32) {
        assert(n_cols % 2 == 0);
        fill_int4(c, m, fill);
        return m;
    }
    /* f16 has no room for the big exponents */
    const check_fill used = format == PHX_FORMAT_F16 && fill == CHECK_BIG ? CHECK_RANDOM : fill;
    const phx_dtype dtype = phx_format_dtype(format);
    void *data = check_mem(c, n_rows * n_cols, phx_dtype_bytes(dtype));
    for (int64_t i = 0; i < n_rows * n_cols; i++)
        store(data, dtype, i, draw(c, used, i % n_cols));
    m->data = data;
    return m;
}

phx_matrix *check_packed(check *c, phx_matrix *m)
{
    const int32_t any = phx_rng_below(&c->rng, 2) == 0 ? 32 : 64;
    const int32_t pack = c->is_ref ? any : phx_ops_pack(c->ops);
    if (m->format != PHX_FORMAT_FP8_BLOCK || pack == 0 || !phx_pack_fits(m->n_rows, m->n_cols, pack) ||
        phx_rng_below(&c->rng, 4) == 0)
        return m;
    uint8_t *data = check_copy(c, m->data, m->n_rows * m->n_cols, 1);
    phx_pack_rows(data, m->n_rows, m->n_cols, pack, check_mem(c, PHX_PACK_ROWS * m->n_cols, 1));
    m->data = data;
    m->pack = pack;
    return m;
}

/* The numbers and scales of a part of m, which has its rows and columns already. */
static void slice_int4(check *c, const phx_matrix *m, int64_t first_row, int64_t first_col, phx_matrix *part)
{
    const int64_t group = (m->col_shift + first_col) / PHX_INT4_GROUP;
    const size_t row_bytes = phx_format_row_bytes(m->format, part->n_cols);
    uint8_t *data = check_mem(c, part->n_rows, row_bytes);
    for (int64_t r = 0; r < part->n_rows; r++)
        memcpy(data + (size_t)r * row_bytes,
               (const uint8_t *)m->data + ((first_row + r) * m->n_cols + first_col) / 2, row_bytes);
    part->data = data;
    part->group_scales = m->group_scales + first_row * m->scale_stride + group;
    part->col_shift = (int32_t)((m->col_shift + first_col) % PHX_INT4_GROUP);
}

/* Rows and columns of m, row major. */
static phx_matrix *slice(check *c, const phx_matrix *m, int64_t first_row, int64_t n_rows, int64_t first_col,
                         int64_t n_cols)
{
    phx_matrix *part = check_mem(c, 1, sizeof(*part));
    *part = *m;
    part->n_rows = n_rows;
    part->n_cols = n_cols;
    part->pack = 0;
    if (m->group_scales) {
        slice_int4(c, m, first_row, first_col, part);
        return part;
    }
    const size_t bytes = phx_dtype_bytes(phx_format_dtype(m->format));
    uint8_t *data = check_mem(c, n_rows * n_cols, bytes);
    for (int64_t i = 0; i < n_rows * n_cols; i++) {
        const int64_t at = phx_matrix_place(m, first_row + i / n_cols, first_col + i % n_cols);
        memcpy(data + (size_t)i * bytes, (const uint8_t *)m->data + (size_t)at * bytes, bytes);
    }
    part->data = data;
    if (m->scales) {
        part->scales =
            m->scales + (m->row_shift + first_row) / 128 * m->scale_stride + (m->col_shift + first_col) / 128;
        part->row_shift = (int32_t)((m->row_shift + first_row) % 128);
        part->col_shift = (int32_t)((m->col_shift + first_col) % 128);
    }
    return part;
}

phx_matrix *check_slice_cols(check *c, const phx_matrix *m, int64_t first, int64_t end)
{
    return slice(c, m, 0, m->n_rows, first, end - first);
}

phx_matrix *check_slice_rows(check *c, const phx_matrix *m, int64_t first, int64_t end)
{
    return slice(c, m, first, end - first, 0, m->n_cols);
}

void check_value(check *c, double want, double got, double limit, int64_t row, int64_t col)
{
    const double error = fabs(got - want);
    double share = 0.0;
    if (error > 0.0 || isnan(got) || isnan(want))
        share = limit > 0.0 && !isnan(error) ? error / limit : INFINITY;
    if (share > c->worst) {
        c->worst = share;
        snprintf(c->worst_at, sizeof(c->worst_at), "%s row %lld col %lld", c->what, (long long)row,
                 (long long)col);
    }
    if (share > 1.0)
        check_fail(c, "row %lld col %lld: %.9g, expected %.9g, limit %.3g", (long long)row, (long long)col,
                   got, want, limit);
}

static bool is_pattern(const void *data, int64_t i, size_t bytes)
{
    const uint8_t *p = (const uint8_t *)data + (size_t)i * bytes;
    for (size_t k = 0; k < bytes; k++) {
        if (p[k] != PATTERN)
            return false;
    }
    return true;
}

void check_compare(check *c, const check_result *result)
{
    const size_t bytes = phx_dtype_bytes(result->dtype);
    for (int64_t r = 0; r < result->n_rows; r++) {
        for (int64_t i = 0; i < result->n_cols; i++) {
            const int64_t at = r * result->stride + i;
            const double want = check_load(result->want, result->dtype, at);
            const double got = check_load(result->got, result->dtype, at);
            if (result->limit) {
                const double rounding = result->dtype == PHX_BF16 ? 0x1p-7 * fabs(want) : 0.0;
                check_value(c, want, got, result->limit[r * result->n_cols + i] + rounding, r, i);
            } else if (memcmp((const uint8_t *)result->want + (size_t)at * bytes,
                              (const uint8_t *)result->got + (size_t)at * bytes, bytes) != 0) {
                check_fail(c, "row %lld col %lld: %.9g, expected exactly %.9g", (long long)r, (long long)i,
                           got, want);
            }
        }
        /* the last row has no gap after it in a tight buffer */
        for (int64_t i = result->n_cols; i < result->stride && r + 1 < result->n_rows; i++) {
            if (!is_pattern(result->got, r * result->stride + i, bytes))
                check_fail(c, "row %lld: wrote between rows", (long long)r);
        }
    }
}

void check_same(check *c, const char *why, const void *a, const void *b, int64_t n, size_t bytes)
{
    const uint8_t *x = a;
    const uint8_t *y = b;
    for (int64_t i = 0; i < n; i++) {
        if (memcmp(x + (size_t)i * bytes, y + (size_t)i * bytes, bytes) != 0) {
            check_fail(c, "bits depend on %s (element %lld)", why, (long long)i);
            return;
        }
    }
}
