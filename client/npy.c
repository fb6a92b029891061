/* client/npy.c - NumPy's array file. Format: numpy/lib/format.py, "Format Version 1.0". */
#include "client/npy.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"

#define HEAD_BYTES 128u /* magic, version, length and dictionary: a multiple of 64, as NumPy writes it */

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the values are written as they lie in memory");

static void make_head(char *head, uint64_t n_rows, uint64_t n_cols)
{
    char text[HEAD_BYTES];
    const int n =
        snprintf(text, sizeof(text), "{'descr': '<f4', 'fortran_order': False, 'shape': (%llu, %llu), }",
                 (unsigned long long)n_rows, (unsigned long long)n_cols);
    memset(head, ' ', HEAD_BYTES);
    memcpy(head, "\x93NUMPY\x01\x00", 8);
    head[8] = (char)(HEAD_BYTES - 10);
    head[9] = 0;
    memcpy(head + 10, text, (size_t)n); /* two numbers of at most 20 digits leave room */
    head[HEAD_BYTES - 1] = '\n';
}

phx_code phx_npy_write_f32(const char *path, const float *values, uint64_t n_rows, uint64_t n_cols,
                           phx_error *err)
{
    char head[HEAD_BYTES];
    make_head(head, n_rows, n_cols);
    const phx_bytes parts[2] = {{(const uint8_t *)head, sizeof(head)},
                                {(const uint8_t *)values, n_rows * n_cols * sizeof(*values)}};
    return phx_file_write_parts(path, parts, 2, 0644, err);
}
