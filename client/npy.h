/* client/npy.h - NumPy's array file, version 1.0: written only, little endian, C order. */
#ifndef PHX_CLIENT_NPY_H
#define PHX_CLIENT_NPY_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

/* Writes float32 [n_rows][n_cols] to path, by a temporary and rename. */
phx_code phx_npy_write_f32(const char *path, const float *values, uint64_t n_rows, uint64_t n_cols,
                           phx_error *err);

#endif
