/* model/pack.c - numbers to groups of int4 and blocks of fp8. */
#include "model/pack.h"

#include <math.h>

#define FP8_BLOCK 128
#define FP8_MAX   448.0f

double phx_pack_relative_rms(const phx_pack_error *error)
{
    return error->square_sum > 0 ? sqrt(error->square_error / error->square_sum) : 0;
}

static void add_error(phx_pack_error *error, float value, float back)
{
    const double difference = (double)back - (double)value;
    error->square_error += difference * difference;
    error->square_sum += (double)value * (double)value;
    if (fabs(difference) > error->max_error)
        error->max_error = fabs(difference);
}

/* value / scale to the nearest of -8..7, ties to even. */
static int int4_of(float value, float scale)
{
    const float number = rintf(value / scale);
    return number < -8.0f ? -8 : number > 7.0f ? 7 : (int)number;
}

static double group_error(const float *values, float scale)
{
    double sum = 0;
    for (int i = 0; i < PHX_INT4_GROUP; i++) {
        const double difference = (double)((float)int4_of(values[i], scale) * scale) - (double)values[i];
        sum += difference * difference;
    }
    return sum;
}

/* A group of zeros, or of numbers too small for a bf16 scale: 1, which makes all of them 0. */
static uint16_t choose_scale(const float *values)
{
    static const float divisors[] = {7.0f, 7.5f, 8.0f};
    float largest = 0.0f;
    for (int i = 0; i < PHX_INT4_GROUP; i++)
        largest = fabsf(values[i]) > largest ? fabsf(values[i]) : largest;
    uint16_t best = 0x3F80;
    double least = INFINITY;
    for (size_t i = 0; i < sizeof(divisors) / sizeof(divisors[0]); i++) {
        const uint16_t code = phx_f32_to_bf16(largest / divisors[i]);
        const float scale = phx_bf16_to_f32(code);
        if (!isnormal(scale))
            continue;
        const double error = group_error(values, scale);
        if (error < least) {
            least = error;
            best = code;
        }
    }
    return best;
}

void phx_pack_int4_row(const float *values, int64_t n, uint32_t *ret_words, uint16_t *ret_scales,
                       phx_pack_error *error)
{
    for (int64_t first = 0; first < n; first += PHX_INT4_GROUP) {
        const uint16_t code = choose_scale(values + first);
        const float scale = phx_bf16_to_f32(code);
        ret_scales[first / PHX_INT4_GROUP] = code;
        for (int64_t i = first; i < first + PHX_INT4_GROUP; i++) {
            const int number = int4_of(values[i], scale);
            if (i % 8 == 0)
                ret_words[i / 8] = 0;
            ret_words[i / 8] |= (uint32_t)(number + 8) << 4 * (i % 8);
            add_error(error, values[i], (float)number * scale);
        }
    }
}

void phx_pack_fp8_stripe(const float *values, int64_t n_rows, int64_t n_cols, uint8_t *ret_codes,
                         float *ret_scales, phx_pack_error *error)
{
    for (int64_t first = 0; first < n_cols; first += FP8_BLOCK) {
        const int64_t end = first + FP8_BLOCK < n_cols ? first + FP8_BLOCK : n_cols;
        float largest = 0.0f;
        for (int64_t i = 0; i < n_rows * (end - first); i++) {
            const float size = fabsf(values[i / (end - first) * n_cols + first + i % (end - first)]);
            largest = size > largest ? size : largest;
        }
        const float scale = isnormal(largest / FP8_MAX) ? largest / FP8_MAX : 1.0f;
        ret_scales[first / FP8_BLOCK] = scale;
        for (int64_t r = 0; r < n_rows; r++) {
            for (int64_t c = first; c < end; c++) {
                const uint8_t code = phx_f32_to_e4m3(values[r * n_cols + c] / scale);
                ret_codes[r * n_cols + c] = code;
                add_error(error, values[r * n_cols + c], phx_e4m3_to_f32(code) * scale);
            }
        }
    }
}
