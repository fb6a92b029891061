/* kernels/ref/norm.c - reference of the norms, of the rotary embedding, of both into the cache, and of the
 * Hadamard/fp8 rounding. */
#include "kernels/ref/ref.h"

static void rms_norm_row(void *user, int64_t r, void *scratch)
{
    (void)scratch;
    const phx_rms_norm_args *a = user;
    const float *x = a->x + r * a->x_stride;
    double sum = 0.0;
    if (a->add) {
        float *to = a->sum + r * a->x_stride;
        for (int64_t c = 0; c < a->n_cols; c++)
            to[c] = x[c] + a->add[r * a->n_cols + c];
        x = to;
    }
    for (int64_t c = 0; c < a->n_cols; c++)
        sum += (double)x[c] * (double)x[c];
    const double root = sqrt(sum / (double)a->n_cols + (double)a->eps);
    for (int64_t c = 0; c < a->n_cols; c++) {
        const float y = (float)((double)x[c] * (double)a->weight[c] / root);
        if (a->out_f32)
            a->out_f32[r * a->out_f32_stride + c] = y;
        if (a->out_act.data)
            phx_ref_store(a->out_act.data, a->out_act.dtype, r * a->out_act.stride + c, y);
    }
}

void phx_rms_norm_ref(phx_pool *pool, const phx_rms_norm_args *args)
{
    phx_rms_norm_args a = *args;
    phx_pool_run(pool, a.n_rows, rms_norm_row, &a);
}

static void layer_norm_row(void *user, int64_t r, void *scratch)
{
    (void)scratch;
    const phx_layer_norm_args *a = user;
    float *x = a->x + r * a->n_cols;
    double sum = 0.0;
    for (int64_t c = 0; c < a->n_cols; c++)
        sum += (double)x[c];
    const double mean = sum / (double)a->n_cols;
    double squares = 0.0;
    for (int64_t c = 0; c < a->n_cols; c++)
        squares += ((double)x[c] - mean) * ((double)x[c] - mean);
    const double root = sqrt(squares / (double)a->n_cols + (double)a->eps);
    for (int64_t c = 0; c < a->n_cols; c++)
        x[c] = (float)(((double)x[c] - mean) / root * (double)a->weight[c] + (double)a->bias[c]);
}

void phx_layer_norm_ref(phx_pool *pool, const phx_layer_norm_args *args)
{
    phx_layer_norm_args a = *args;
    phx_pool_run(pool, a.n_rows, layer_norm_row, &a);
}

static void rope_row(void *user, int64_t r, void *scratch)
{
    (void)scratch;
    const phx_rope_args *a = user;
    const int64_t n_pairs = a->d_rope / 2;
    const float *cos_sin = a->table + (int64_t)a->positions[r] * n_pairs * 2;
    for (int64_t h = 0; h < a->n_heads; h++) {
        float *x = a->x + r * a->row_stride + h * a->head_stride;
        for (int64_t i = 0; i < n_pairs; i++) {
            float *first = a->interleaved ? x + 2 * i : x + i;
            float *second = a->interleaved ? x + 2 * i + 1 : x + i + n_pairs;
            const double c = (double)cos_sin[2 * i];
            const double s = (double)cos_sin[2 * i + 1];
            const double x1 = (double)*first;
            const double x2 = (double)*second;
            *first = (float)(x1 * c - x2 * s);
            *second = (float)(x1 * s + x2 * c);
        }
        float *copy = a->copy ? a->copy + r * a->copy_row_stride + h * a->copy_head_stride : NULL;
        for (int64_t i = 0; copy && i < a->d_rope; i++)
            copy[i] = x[i];
    }
}

void phx_rope_ref(phx_pool *pool, const phx_rope_args *args)
{
    phx_rope_args a = *args;
    phx_pool_run(pool, a.n_rows, rope_row, &a);
}

static void latent_write_row(void *user, int64_t r, void *scratch)
{
    const phx_latent_write_args *a = user;
    const float *x = a->x + r * a->x_stride;
    float *row = scratch;
    if (a->entries[r] < 0)
        return;
    memcpy(row, x, (size_t)a->cache->width * sizeof(float));
    phx_rms_norm_args norm = {
        .x = row, .weight = a->weight, .eps = a->eps, .n_cols = a->d_latent, .out_f32 = row};
    rms_norm_row(&norm, 0, NULL);
    phx_rope_args rope = {.x = row + a->d_latent,
                          .n_heads = 1,
                          .d_rope = a->cache->width - a->d_latent,
                          .interleaved = true,
                          .positions = a->positions + r,
                          .table = a->table};
    rope_row(&rope, 0, NULL);
    phx_ref_put_entry(a->cache, a->entries[r], row);
}

void phx_latent_write_ref(phx_pool *pool, const phx_latent_write_args *args)
{
    phx_latent_write_args a = *args;
    assert(a.cache->width * (int64_t)sizeof(float) <= (int64_t)PHX_SCRATCH_BYTES);
    phx_pool_run(pool, a.n_rows, latent_write_row, &a);
}

/* Source of the fp8 step: models.md 2.5 (deepseek-ai/DeepSeek-V3.2-Exp:inference/kernel.py, act_quant). */
static void round_fp8(float *x, int64_t d)
{
    float amax = 1e-4f;
    for (int64_t i = 0; i < d; i++)
        amax = fabsf(x[i]) > amax ? fabsf(x[i]) : amax;
    const uint32_t bits = phx_bits_of_f32(amax / 448.0f);
    const int32_t exponent = (int32_t)(bits >> 23) - 127 + ((bits & 0x7FFFFFu) != 0 ? 1 : 0);
    const float scale = phx_f32_of_bits((uint32_t)(exponent + 127) << 23);
    for (int64_t i = 0; i < d; i++)
        x[i] = phx_e4m3_to_f32(phx_f32_to_e4m3(x[i] / scale)) * scale;
}

static void index_round_vector(void *user, int64_t v, void *scratch)
{
    (void)scratch;
    const phx_index_round_args *a = user;
    float *x = a->x + v * a->d;
    if (a->hadamard) {
        for (int64_t h = 1; h < a->d; h *= 2) {
            for (int64_t i = 0; i < a->d; i++) {
                if ((i & h) != 0)
                    continue;
                const float p = x[i];
                const float q = x[i + h];
                x[i] = p + q;
                x[i + h] = p - q;
            }
        }
        for (int64_t i = 0; i < a->d; i++)
            x[i] *= phx_hadamard_scale(a->d);
    }
    if (a->fp8)
        round_fp8(x, a->d);
}

void phx_index_round_ref(phx_pool *pool, const phx_index_round_args *args)
{
    phx_index_round_args a = *args;
    phx_pool_run(pool, a.n_vectors, index_round_vector, &a);
}
