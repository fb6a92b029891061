/* model/pack.h - f32 numbers to int4-g32 and fp8, and what that costs them. Pure arithmetic, the same on
 * every machine. Not here: files (model/quantise.h), the other way round (model/dtype.h). */
#ifndef PHX_MODEL_PACK_H
#define PHX_MODEL_PACK_H

#include "model/dtype.h"

/* Of one matrix, added up over its rows. */
typedef struct phx_pack_error {
    double square_error;
    double square_sum; /* of the numbers themselves */
    double max_error;
} phx_pack_error;

/* Root of the mean squared error over the root of the mean square; 0 for zeros. */
double phx_pack_relative_rms(const phx_pack_error *error);

/* One row of n columns, a multiple of 32: eight to a word, lowest bits first, plus 8, and a bf16 scale
 * for 32. The scale is the one among largest / 7, / 7.5 and / 8 with the least squared error. values are
 * finite. */
void phx_pack_int4_row(const float *values, int64_t n, uint32_t *ret_words, uint16_t *ret_scales,
                       phx_pack_error *error);

/* A stripe of n_rows (at most 128) rows of n_cols columns: codes and the scales of its blocks of 128 columns,
 * largest / 448. */
void phx_pack_fp8_stripe(const float *values, int64_t n_rows, int64_t n_cols, uint8_t *ret_codes,
                         float *ret_scales, phx_pack_error *error);

#endif
