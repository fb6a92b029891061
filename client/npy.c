/* client/npy.c - NumPy's array file. Format: numpy/lib/format.py, "Format Version 1.0". */
#include "client/npy.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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
    phx_code rc = PHX_OK;
    char head[HEAD_BYTES];
    char temporary[4096];
    FILE *file = NULL;
    const uint64_t n = n_rows * n_cols;
    if ((size_t)snprintf(temporary, sizeof(temporary), "%s.%d.tmp", path, (int)getpid()) >=
        sizeof(temporary)) {
        rc = PHX_FAIL(err, PHX_ERR_TOO_LONG, "path '%s' is too long", path);
        goto out;
    }
    file = fopen(temporary, "wbe");
    if (!file) {
        rc = PHX_FAIL(err, PHX_ERR_IO, "cannot create '%s': %s", temporary, strerror(errno));
        goto out;
    }
    make_head(head, n_rows, n_cols);
    bool ok = fwrite(head, 1, sizeof(head), file) == sizeof(head);
    ok = ok && (n == 0 || fwrite(values, sizeof(*values), n, file) == n);
    ok = fclose(file) == 0 && ok;
    file = NULL;
    if (!ok || rename(temporary, path) != 0) {
        rc = PHX_FAIL(err, PHX_ERR_IO, "cannot write '%s': %s", path, strerror(errno));
        (void)unlink(temporary);
    }
out:
    return rc;
}
