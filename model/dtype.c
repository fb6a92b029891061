/* model/dtype.c - dtype and format tables, scalar conversions, the reference decoder.
 * Every conversion is exact integer work on the bits, so that all machines agree. */
#include "model/dtype.h"

#include <assert.h>

typedef struct dtype_row {
    const char *name;
    size_t n_bytes;
} dtype_row;

static const dtype_row dtypes[] = {
#define X(dtype, name, bytes) {name, bytes},
    PHX_DTYPES(X)
#undef X
};

typedef struct format_row {
    const char *name;
    phx_dtype dtype;
    size_t n_bits;
    int64_t block_rows;
    int64_t block_cols;
    size_t scale_bytes;
} format_row;

static const format_row formats[] = {
#define X(format, name, dtype, bits, block_rows, block_cols, scale) \
    {name, dtype, bits, block_rows, block_cols, scale},
    PHX_FORMATS(X)
#undef X
};

const char *phx_dtype_name(phx_dtype dtype)
{
    assert(dtype < PHX_DTYPE_COUNT);
    return dtypes[dtype].name;
}

size_t phx_dtype_bytes(phx_dtype dtype)
{
    assert(dtype < PHX_DTYPE_COUNT);
    return dtypes[dtype].n_bytes;
}

bool phx_dtype_parse(phx_str name, phx_dtype *ret_dtype)
{
    for (size_t i = 0; i < PHX_DTYPE_COUNT; i++) {
        if (phx_str_is(name, dtypes[i].name)) {
            *ret_dtype = (phx_dtype)i;
            return true;
        }
    }
    return false;
}

const char *phx_format_name(phx_format format)
{
    assert(format < PHX_FORMAT_COUNT);
    return formats[format].name;
}

phx_dtype phx_format_dtype(phx_format format)
{
    assert(format < PHX_FORMAT_COUNT);
    return formats[format].dtype;
}

int64_t phx_format_block(phx_format format)
{
    assert(format < PHX_FORMAT_COUNT);
    return formats[format].block_cols;
}

int64_t phx_format_block_rows(phx_format format)
{
    assert(format < PHX_FORMAT_COUNT);
    return formats[format].block_rows;
}

size_t phx_format_scale_bytes(phx_format format)
{
    assert(format < PHX_FORMAT_COUNT);
    return formats[format].scale_bytes;
}

size_t phx_format_row_bytes(phx_format format, int64_t n_cols)
{
    assert(format < PHX_FORMAT_COUNT);
    assert(n_cols >= 0);
    const size_t n_bits = (size_t)n_cols * formats[format].n_bits;
    assert(n_bits % 8 == 0);
    return n_bits / 8;
}

bool phx_format_parse(phx_str name, phx_format *ret_format)
{
    for (size_t i = 0; i < PHX_FORMAT_COUNT; i++) {
        if (phx_str_is(name, formats[i].name)) {
            *ret_format = (phx_format)i;
            return true;
        }
    }
    return false;
}

float phx_f16_to_f32(uint16_t code)
{
    const uint32_t sign = (uint32_t)(code & 0x8000u) << 16;
    const uint32_t exponent = code >> 10 & 0x1Fu;
    const uint32_t mantissa = code & 0x3FFu;
    if (exponent == 0x1F)
        return phx_f32_of_bits(sign | 0x7F800000u | mantissa << 13);
    if (exponent != 0)
        return phx_f32_of_bits(sign | (exponent + 112) << 23 | mantissa << 13);
    const float magnitude = (float)mantissa * 0x1p-24f; /* zero or subnormal: exact */
    return phx_f32_of_bits(sign | phx_bits_of_f32(magnitude));
}

/* value >> n_bits, nearest, ties to even. */
static uint32_t shift_nearest_even(uint32_t value, uint32_t n_bits)
{
    if (n_bits > 25)
        return 0;
    const uint32_t half = 1u << (n_bits - 1);
    const uint32_t rest = value & ((1u << n_bits) - 1);
    const uint32_t whole = value >> n_bits;
    return whole + (rest > half || (rest == half && (whole & 1u)));
}

uint16_t phx_f32_to_f16(float value)
{
    const uint32_t bits = phx_bits_of_f32(value);
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    const uint32_t magnitude = bits & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u)
        return (uint16_t)(sign | 0x7E00u | (magnitude >> 13 & 0x3FFu));
    if (magnitude >= 0x477FF000u) /* 65520 and above, infinity included */
        return (uint16_t)(sign | 0x7C00u);
    const uint32_t exponent = magnitude >> 23;
    if (exponent >= 113) /* normal: a carry out of the mantissa lands in the exponent, as it should */
        return (uint16_t)(sign | shift_nearest_even(magnitude - (112u << 23), 13));
    if (exponent < 102)
        return sign;
    const uint32_t mantissa = (magnitude & 0x7FFFFFu) | 0x800000u;
    return (uint16_t)(sign | shift_nearest_even(mantissa, 126 - exponent));
}

float phx_e4m3_to_f32(uint8_t code)
{
    const uint32_t sign = (uint32_t)(code & 0x80u) << 24;
    const uint32_t exponent = code >> 3 & 0xFu;
    const uint32_t mantissa = code & 7u;
    if ((code & 0x7Fu) == 0x7F)
        return phx_f32_of_bits(sign | 0x7FC00000u);
    if (exponent != 0)
        return phx_f32_of_bits(sign | (exponent + 120) << 23 | mantissa << 20);
    const float magnitude = (float)mantissa * 0x1p-9f;
    return phx_f32_of_bits(sign | phx_bits_of_f32(magnitude));
}

uint8_t phx_f32_to_e4m3(float value)
{
    const uint32_t bits = phx_bits_of_f32(value);
    const uint8_t sign = (uint8_t)(bits >> 24 & 0x80u);
    const uint32_t magnitude = bits & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u)
        return 0x7F;
    if (magnitude >= 0x43E00000u) /* 448 and above */
        return (uint8_t)(sign | 0x7Eu);
    const uint32_t exponent = magnitude >> 23;
    if (exponent >= 121)
        return (uint8_t)(sign | shift_nearest_even(magnitude - (120u << 23), 20));
    if (exponent < 117)
        return sign;
    const uint32_t mantissa = (magnitude & 0x7FFFFFu) | 0x800000u;
    return (uint8_t)(sign | shift_nearest_even(mantissa, 141 - exponent));
}

float phx_e8m0_to_f32(uint8_t code)
{
    if (code == 255)
        return phx_f32_of_bits(0x7FC00000u);
    if (code == 0)
        return 0x1p-127f;
    return phx_f32_of_bits((uint32_t)code << 23);
}

static float element_at(phx_dtype dtype, const uint8_t *data, size_t idx)
{
    uint16_t code;
    float value;
    switch (dtype) {
    case PHX_F32:
        memcpy(&value, data + idx * sizeof(value), sizeof(value));
        return value;
    case PHX_BF16:
        memcpy(&code, data + idx * sizeof(code), sizeof(code));
        return phx_bf16_to_f32(code);
    case PHX_F16:
        memcpy(&code, data + idx * sizeof(code), sizeof(code));
        return phx_f16_to_f32(code);
    case PHX_F8_E4M3:
        return phx_e4m3_to_f32(data[idx]);
    default:
        assert(!"no format stores this dtype");
        return 0.0f;
    }
}

float phx_matrix_at(const phx_matrix *matrix, int64_t row, int64_t col)
{
    assert(row >= 0 && row < matrix->n_rows);
    assert(col >= 0 && col < matrix->n_cols);
    const size_t idx = (size_t)phx_matrix_place(matrix, row, col);
    if (matrix->format == PHX_FORMAT_INT4_G32) {
        const uint8_t two =
            ((const uint8_t *)matrix->data)[idx / 2]; /* rows have an even number of columns */
        const int32_t number = (col % 2 != 0 ? two >> 4 : two & 0xF) - 8;
        const int64_t group = (col + matrix->col_shift) / PHX_INT4_GROUP;
        return (float)number * phx_bf16_to_f32(matrix->group_scales[row * matrix->scale_stride + group]);
    }
    const float element = element_at(phx_format_dtype(matrix->format), matrix->data, idx);
    const int64_t block = phx_format_block(matrix->format);
    if (block == 0)
        return element;
    const int64_t scale_row = (row + matrix->row_shift) / block;
    const int64_t scale_col = (col + matrix->col_shift) / block;
    return element * matrix->scales[scale_row * matrix->scale_stride + scale_col];
}

void phx_pack_rows(uint8_t *data, int64_t n_rows, int64_t n_cols, int32_t pack, uint8_t *room)
{
    assert(phx_pack_fits(n_rows, n_cols, pack));
    const int64_t band_bytes = PHX_PACK_ROWS * n_cols;
    for (uint8_t *band = data; band < data + n_rows * n_cols; band += band_bytes) {
        uint8_t *to = band;
        memcpy(room, band, (size_t)band_bytes);
        for (int64_t col = 0; col < n_cols; col += pack) {
            for (int64_t row = 0; row < PHX_PACK_ROWS; row++, to += pack)
                memcpy(to, room + row * n_cols + col, (size_t)pack);
        }
    }
}
