/* tests/model/test_dtype.c - conversions against the golden vectors, bit for bit. */
#include "tests/model/testing.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/rng.h"
#include "model/dtype.h"
#include "model/safetensors.h"

static void *load(const phx_st_file *file, const char *name, phx_dtype dtype, size_t *ret_n)
{
    phx_error err = {0};
    const phx_st_tensor *tensor = phx_st_find(file, phx_str_of(name));
    assert_non_null(tensor);
    assert_int_equal(tensor->dtype, dtype);
    void *data = phx_alloc((size_t)tensor->n_bytes, 1);
    assert_non_null(data);
    must(phx_st_read(file, tensor, 0, data, (size_t)tensor->n_bytes, &err), &err);
    *ret_n = (size_t)tensor->n_bytes / phx_dtype_bytes(dtype);
    return data;
}

static phx_st_file *open_vectors(const char *name)
{
    phx_error err = {0};
    phx_st_file *file = NULL;
    char path[256];
    (void)snprintf(path, sizeof(path), "golden/formats/%s.safetensors", name);
    must(phx_st_open(shared_path(path), &file, &err), &err);
    return file;
}

static void same_bits(float got, float expected, size_t i)
{
    if (isnan(expected) ? !isnan(got) : phx_bits_of_f32(got) != phx_bits_of_f32(expected))
        fail_msg("element %zu: %a, expected %a", i, (double)got, (double)expected);
}

static void bytes_decode(const char *file_name, float (*decode)(uint8_t))
{
    size_t n = 0;
    phx_st_file *file = open_vectors(file_name);
    uint8_t *codes = load(file, "codes", PHX_U8, &n);
    float *values = load(file, "values", PHX_F32, &n);
    assert_int_equal(n, 256);
    for (size_t i = 0; i < n; i++)
        same_bits(decode(codes[i]), values[i], i);
    phx_free(codes);
    phx_free(values);
    phx_st_close(file);
}

static void test_e4m3_decode(void **state)
{
    (void)state;
    bytes_decode("fp8_e4m3", phx_e4m3_to_f32);
}

static void test_e8m0_decode(void **state)
{
    (void)state;
    bytes_decode("ue8m0", phx_e8m0_to_f32);
}

static void test_e4m3_round(void **state)
{
    (void)state;
    size_t n = 0;
    phx_st_file *file = open_vectors("fp8_round");
    float *values = load(file, "values", PHX_F32, &n);
    uint8_t *codes = load(file, "codes", PHX_U8, &n);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(phx_f32_to_e4m3(values[i]), codes[i]);
    phx_free(codes);
    phx_free(values);
    phx_st_close(file);
}

static void test_bf16(void **state)
{
    (void)state;
    size_t n = 0;
    phx_st_file *file = open_vectors("bf16");
    uint16_t *codes = load(file, "codes", PHX_BF16, &n);
    float *values = load(file, "values", PHX_F32, &n);
    for (size_t i = 0; i < n; i++)
        same_bits(phx_bf16_to_f32(codes[i]), values[i], i);
    phx_free(codes);
    phx_free(values);
    phx_st_close(file);

    file = open_vectors("bf16_round");
    values = load(file, "values", PHX_F32, &n);
    codes = load(file, "codes", PHX_BF16, &n);
    for (size_t i = 0; i < n; i++) {
        if (isnan(values[i]))
            assert_true(isnan(phx_bf16_to_f32(phx_f32_to_bf16(values[i]))));
        else
            assert_int_equal(phx_f32_to_bf16(values[i]), codes[i]);
    }
    phx_free(codes);
    phx_free(values);
    phx_st_close(file);
}

/* Whole matrix, and the same matrix as a slice that starts inside a scale block. */
static void blocks_decode(const char *file_name)
{
    size_t n = 0;
    phx_st_file *file = open_vectors(file_name);
    uint8_t *weight = load(file, "weight", PHX_F8_E4M3, &n);
    float *scales = load(file, "weight_scale_inv", PHX_F32, &n);
    float *values = load(file, "values", PHX_F32, &n);
    const int64_t rows = 136;
    const int64_t cols = 160;
    assert_int_equal(n, rows * cols);
    const phx_matrix whole = {.data = weight,
                              .scales = scales,
                              .n_rows = rows,
                              .n_cols = cols,
                              .scale_stride = 2,
                              .format = PHX_FORMAT_FP8_BLOCK};
    for (int64_t i = 0; i < rows * cols; i++)
        same_bits(phx_matrix_at(&whole, i / cols, i % cols), values[i], (size_t)i);

    const int64_t first_row = 100;
    const int64_t first_col = 37;
    const phx_matrix part = {.n_rows = rows - first_row,
                             .n_cols = cols - first_col,
                             .scales = scales,
                             .scale_stride = 2,
                             .row_shift = 100,
                             .col_shift = 37,
                             .format = PHX_FORMAT_FP8_BLOCK};
    uint8_t *copy = phx_alloc((size_t)(part.n_rows * part.n_cols), 1);
    for (int64_t r = 0; r < part.n_rows; r++)
        memcpy(copy + r * part.n_cols, weight + (r + first_row) * cols + first_col, (size_t)part.n_cols);
    phx_matrix slice = part;
    slice.data = copy;
    for (int64_t r = 0; r < slice.n_rows; r++)
        for (int64_t c = 0; c < slice.n_cols; c++)
            same_bits(phx_matrix_at(&slice, r, c), values[(r + first_row) * cols + c + first_col], (size_t)c);
    phx_free(copy);
    phx_free(weight);
    phx_free(scales);
    phx_free(values);
    phx_st_close(file);
}

static void test_fp8_block(void **state)
{
    (void)state;
    blocks_decode("fp8_block");
    blocks_decode("fp8_block_ue8m0");
}

/* Every half-precision code goes to f32 and back; every f32 rounds to the nearer neighbour, ties to even. */
static void test_f16(void **state)
{
    (void)state;
    for (uint32_t code = 0; code < 65536; code++) {
        const float value = phx_f16_to_f32((uint16_t)code);
        if (isnan(value))
            assert_true(isnan(phx_f16_to_f32(phx_f32_to_f16(value))));
        else
            assert_int_equal(phx_f32_to_f16(value), code);
    }
    phx_rng rng = {7, 0};
    for (int i = 0; i < 200000; i++) {
        const float value = ldexpf(phx_rng_unit(phx_rng_u64(&rng)), (int)phx_rng_below(&rng, 46) - 28);
        const uint16_t code = phx_f32_to_f16(value);
        const float got = phx_f16_to_f32(code);
        const float up = phx_f16_to_f32((uint16_t)(code + 1));
        const float down = code ? phx_f16_to_f32((uint16_t)(code - 1)) : -1.0f;
        const double error = fabs((double)got - (double)value);
        if (isinf(got)) {
            assert_true(value >= 65520.0f);
            continue;
        }
        assert_true(error <= fabs((double)down - (double)value));
        assert_true(isinf(up) || error <= fabs((double)up - (double)value));
        if (error == fabs((double)down - (double)value) || error == fabs((double)up - (double)value))
            assert_true((code & 1) == 0);
    }
}

static void test_e4m3_edges(void **state)
{
    (void)state;
    for (uint32_t code = 0; code < 256; code++) {
        const float value = phx_e4m3_to_f32((uint8_t)code);
        if (!isnan(value))
            assert_int_equal(phx_f32_to_e4m3(value), code);
    }
    assert_int_equal(phx_f32_to_e4m3(INFINITY), 0x7E);
    assert_int_equal(phx_f32_to_e4m3(-1e30f), 0xFE);
    assert_int_equal(phx_f32_to_e4m3(NAN), 0x7F);
    assert_int_equal(phx_f32_to_e4m3(0x1p-10f), 0x00); /* tie to even */
    assert_int_equal(phx_f32_to_e4m3(0x1.8p-10f), 0x01);
    assert_int_equal(phx_f32_to_e4m3(0x1.8p-9f), 0x02); /* tie to even */
}

static void test_names(void **state)
{
    (void)state;
    phx_dtype dtype;
    phx_format format;
    assert_true(phx_dtype_parse(phx_str_of("BF16"), &dtype));
    assert_int_equal(dtype, PHX_BF16);
    assert_false(phx_dtype_parse(phx_str_of("F8_E5M2"), &dtype));
    assert_true(phx_format_parse(phx_str_of("fp8"), &format));
    assert_int_equal(format, PHX_FORMAT_FP8_BLOCK);
    assert_int_equal(phx_format_row_bytes(PHX_FORMAT_BF16, 7), 14);
    assert_int_equal(phx_format_block(PHX_FORMAT_FP8_BLOCK), 128);
}

/* The lowest nibble comes first; a slice may begin inside a group. */
static void test_int4(void **state)
{
    (void)state;
    uint32_t words[2][8];                                               /* 64 columns */
    const uint16_t scales[2][2] = {{0x3F80, 0x4000}, {0x3F00, 0xBF80}}; /* 1, 2; 0.5, -1 */
    for (int i = 0; i < 16; i++)
        words[i / 8][i % 8] = i % 2 == 0 ? 0x76543210u : 0xFEDCBA98u;
    const phx_matrix whole = {.data = words,
                              .group_scales = scales[0],
                              .n_rows = 2,
                              .n_cols = 64,
                              .scale_stride = 2,
                              .format = PHX_FORMAT_INT4_G32};
    const float expected[2][2] = {{1.0f, 2.0f}, {0.5f, -1.0f}};
    for (int r = 0; r < 2; r++) {
        for (int c = 0; c < 64; c++)
            assert_true(phx_matrix_at(&whole, r, c) == (float)(c % 16 - 8) * expected[r][c / 32]);
    }
    uint8_t cut[2][20]; /* columns 24 to 63 */
    for (int r = 0; r < 2; r++)
        memcpy(cut[r], (const uint8_t *)words[r] + 12, 20);
    const phx_matrix slice = {.data = cut,
                              .group_scales = scales[0],
                              .n_rows = 2,
                              .n_cols = 40,
                              .scale_stride = 2,
                              .col_shift = 24,
                              .format = PHX_FORMAT_INT4_G32};
    for (int r = 0; r < 2; r++) {
        for (int c = 0; c < 40; c++)
            assert_true(phx_matrix_at(&slice, r, c) == phx_matrix_at(&whole, r, c + 24));
    }
    phx_format format;
    assert_true(phx_format_parse(phx_str_of("int4-g32"), &format));
    assert_int_equal(phx_format_row_bytes(format, 64), 32);
    assert_int_equal(phx_format_block(format), 32);
    assert_int_equal(phx_format_block_rows(format), 1);
    assert_int_equal(phx_format_scale_bytes(format), 2);
}

int main(void)
{
    const struct CMUnitTest always[] = {cmocka_unit_test(test_int4), cmocka_unit_test(test_f16),
                                        cmocka_unit_test(test_e4m3_edges), cmocka_unit_test(test_names)};
    const struct CMUnitTest golden[] = {cmocka_unit_test(test_e4m3_decode),
                                        cmocka_unit_test(test_e8m0_decode), cmocka_unit_test(test_e4m3_round),
                                        cmocka_unit_test(test_bf16), cmocka_unit_test(test_fp8_block)};
    const int n_failed = cmocka_run_group_tests(always, NULL, NULL);
    if (!phx_file_exists(shared_path("golden/formats"))) {
        puts("SKIP: no golden vectors (PHX_SHARED)");
        return n_failed ? n_failed : 77;
    }
    return n_failed + cmocka_run_group_tests(golden, NULL, NULL);
}
