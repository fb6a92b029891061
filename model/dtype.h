/* model/dtype.h - how single numbers and whole matrices are stored.
 * Owns: the dtype table (safetensors names), scalar conversions, the format table with its reference decoder.
 * Not here: fast decoding (kernels/cpu). */
#ifndef PHX_MODEL_DTYPE_H
#define PHX_MODEL_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/str.h"

/* dtype, safetensors name, bytes per element */
#define PHX_DTYPES(X)            \
    X(PHX_F32, "F32", 4)         \
    X(PHX_BF16, "BF16", 2)       \
    X(PHX_F16, "F16", 2)         \
    X(PHX_F8_E4M3, "F8_E4M3", 1) \
    X(PHX_F8_E8M0, "F8_E8M0", 1) \
    X(PHX_I32, "I32", 4)         \
    X(PHX_I64, "I64", 8)         \
    X(PHX_I8, "I8", 1)           \
    X(PHX_U8, "U8", 1)

typedef enum phx_dtype {
#define X(dtype, name, bytes) dtype,
    PHX_DTYPES(X)
#undef X
        PHX_DTYPE_COUNT
} phx_dtype;

const char *phx_dtype_name(phx_dtype dtype);
size_t phx_dtype_bytes(phx_dtype dtype);
bool phx_dtype_parse(phx_str name, phx_dtype *ret_dtype);

/* How a weight matrix is stored: the dtype that files give it, bits of one weight and, for block formats,
 * what one scale covers and how many bytes it takes in memory. */
#define PHX_FORMATS(X)                                                       \
    /* format, name, stored dtype, bits, block rows, block columns, scale */ \
    X(PHX_FORMAT_F32, "f32", PHX_F32, 32, 0, 0, 0)                           \
    X(PHX_FORMAT_BF16, "bf16", PHX_BF16, 16, 0, 0, 0)                        \
    X(PHX_FORMAT_F16, "f16", PHX_F16, 16, 0, 0, 0)                           \
    X(PHX_FORMAT_FP8_BLOCK, "fp8", PHX_F8_E4M3, 8, 128, 128, 4)              \
    X(PHX_FORMAT_INT4_G32, "int4-g32", PHX_I32, 4, 1, 32, 2) /* 8 in an int32 */

typedef enum phx_format {
#define X(format, name, dtype, bits, block_rows, block_cols, scale) format,
    PHX_FORMATS(X)
#undef X
        PHX_FORMAT_COUNT
} phx_format;

const char *phx_format_name(phx_format format);
phx_dtype phx_format_dtype(phx_format format);
int64_t phx_format_block(phx_format format);      /* columns that one scale covers; 0: no scales */
int64_t phx_format_block_rows(phx_format format); /* rows that one scale covers; 0: no scales */
size_t phx_format_scale_bytes(phx_format format); /* of one scale in memory: f32, int4-g32 bf16 */
size_t phx_format_row_bytes(phx_format format, int64_t n_cols); /* int4-g32: n_cols is even */
bool phx_format_parse(phx_str name, phx_format *ret_format);

/* Functions that CUDA kernels call too. */
#if defined(__CUDACC__)
#define PHX_HOST_DEVICE __host__ __device__
#else
#define PHX_HOST_DEVICE
#endif

PHX_HOST_DEVICE static inline float phx_f32_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

PHX_HOST_DEVICE static inline uint32_t phx_bits_of_f32(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

PHX_HOST_DEVICE static inline float phx_bf16_to_f32(uint16_t code)
{
    return phx_f32_of_bits((uint32_t)code << 16);
}

/* Nearest, ties to even; NaN stays NaN (quiet). */
PHX_HOST_DEVICE static inline uint16_t phx_f32_to_bf16(float value)
{
    const uint32_t bits = phx_bits_of_f32(value);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u)
        return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

float phx_f16_to_f32(uint16_t code);
uint16_t phx_f32_to_f16(float value); /* nearest even */
float phx_e4m3_to_f32(uint8_t code);  /* bias 7, no infinity, 0x7F and 0xFF are NaN */
uint8_t phx_f32_to_e4m3(float value); /* nearest even, saturating at 448; NaN to 0x7F */
float phx_e8m0_to_f32(uint8_t code);  /* 2^(code-127), 255 is NaN */

#define PHX_INT4_GROUP 32 /* columns of an int4-g32 row that share a scale */

/* A packed matrix: bands of so many rows, in which units of `pack` columns of each row follow one another, so
 * that a kernel which takes the rows of a band together reads one line of memory after the other. A
 * permutation without padding: it needs n_rows % PHX_PACK_ROWS == 0 and n_cols % pack == 0. */
#define PHX_PACK_ROWS 8

/* A weight matrix or the slice of one that a rank holds: borrowed memory in the stored format, row major or
 * (fp8) packed as the kernels of the level like it (phx_ops_pack).
 * fp8: the value of local element (r, c) is element * scales[((r + row_shift) / 128) * scale_stride +
 * (c + col_shift) / 128]: shifts are the slice's offset inside its first scale block, so cuts need no
 * alignment.
 * int4-g32: byte c / 2 of a row holds columns c (even: low four bits) and c + 1 as numbers 0..15; the value
 * is (number - 8) * group_scales[r * scale_stride + (c + col_shift) / 32], exact in f32. n_cols is even, and
 * so is every column at which a slice or a leaf is cut. */
typedef struct phx_matrix {
    const void *data;    /* [n_rows][n_cols] elements without gaps, any alignment of the element size */
    const float *scales; /* fp8: [scale rows][scale_stride]; NULL for the others */
    const uint16_t *group_scales; /* int4-g32: bf16 [n_rows][scale_stride]; NULL for the others */
    int64_t n_rows;               /* outputs, local to this rank */
    int64_t n_cols;               /* inputs, local to this rank */
    int64_t scale_stride;         /* scales between scale rows */
    int32_t row_shift;            /* 0..127; int4-g32: 0 */
    int32_t col_shift;            /* 0..127; int4-g32: 0..31 */
    int32_t pack; /* 0: row major; else columns of a unit, and data is [band][unit][row][column] */
    phx_format format;
} phx_matrix;

/* Where element (row, col) lies, in elements. */
PHX_HOST_DEVICE static inline int64_t phx_matrix_place(const phx_matrix *matrix, int64_t row, int64_t col)
{
    const int64_t pack = matrix->pack;
    if (pack == 0)
        return row * matrix->n_cols + col;
    const int64_t band = row / PHX_PACK_ROWS * PHX_PACK_ROWS * matrix->n_cols;
    return band + col / pack * PHX_PACK_ROWS * pack + row % PHX_PACK_ROWS * pack + col % pack;
}

/* Whether a matrix of so many rows and columns of one byte can be packed in units of `pack` columns (> 0). */
static inline bool phx_pack_fits(int64_t n_rows, int64_t n_cols, int32_t pack)
{
    return n_rows % PHX_PACK_ROWS == 0 && n_cols % pack == 0;
}

/* What stays free of a device's memory beside what the plan counts: local memory of kernels, graphs, what
 * NCCL and cuBLASLt keep for themselves, fragmentation (docs/gpu.md). */
#define PHX_DEVICE_RESERVE_BYTES ((uint64_t)768 << 20)

/* Room in which a device rounds n_rows rows of n_cols columns (a multiple of 128) to e4m3 for a product with
 * an fp8 matrix of n_out rows (kernels/ops.h, rounded): rows come by fours; codes, a scale for each 128 of
 * them, a copy of the matrix's scales in rows of a multiple of four, each from a multiple of 256 bytes on;
 * and what the device's library asks for. */
#define PHX_ROUNDED_ALIGN   256
#define PHX_ROUNDED_LIBRARY ((int64_t)32 << 20)

static inline int64_t phx_rounded_rows(int64_t n_rows)
{
    return (n_rows + 3) / 4 * 4;
}

typedef struct phx_rounded_room { /* offsets in bytes */
    int64_t scales;               /* codes are at 0 */
    int64_t w_scales;
    int64_t library;
    int64_t n_bytes; /* with what aligns the room itself */
} phx_rounded_room;

static inline phx_rounded_room phx_rounded_room_of(int64_t n_rows, int64_t n_out, int64_t n_cols)
{
    const int64_t rows = phx_rounded_rows(n_rows), blocks = (n_cols + 127) / 128;
    phx_rounded_room room;
    room.scales = (rows * n_cols + PHX_ROUNDED_ALIGN - 1) / PHX_ROUNDED_ALIGN * PHX_ROUNDED_ALIGN;
    room.w_scales =
        room.scales + (rows * blocks * 4 + PHX_ROUNDED_ALIGN - 1) / PHX_ROUNDED_ALIGN * PHX_ROUNDED_ALIGN;
    const int64_t w_bytes = (n_out + 127) / 128 * phx_rounded_rows(blocks) * 4;
    room.library = room.w_scales + (w_bytes + PHX_ROUNDED_ALIGN - 1) / PHX_ROUNDED_ALIGN * PHX_ROUNDED_ALIGN;
    room.n_bytes = room.library + PHX_ROUNDED_LIBRARY + PHX_ROUNDED_ALIGN;
    return room;
}

/* Packs a row major matrix of one-byte elements in place. room: PHX_PACK_ROWS * n_cols bytes. */
void phx_pack_rows(uint8_t *data, int64_t n_rows, int64_t n_cols, int32_t pack, uint8_t *room);

/* Reference decoder: the exact f32 value (code * scale rounded once to f32) of one element. */
float phx_matrix_at(const phx_matrix *matrix, int64_t row, int64_t col);

#endif
