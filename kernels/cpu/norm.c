/* kernels/cpu/norm.c - the norms, the rotary embedding, and both into the cache. An item is a row. Sums over
 * a row are ACCS interleaved chains of whole vectors, added pairwise at the end: a fixed shape that depends
 * on n_cols alone.
 */
#include "kernels/cpu/entry.h"
#include "kernels/cpu/vec.h"

#include <assert.h>

#define phx_rms_norm     PHX_CPU(phx_rms_norm)
#define phx_layer_norm   PHX_CPU(phx_layer_norm)
#define phx_rope         PHX_CPU(phx_rope)
#define phx_latent_write PHX_CPU(phx_latent_write)

#define ACCS 4

PHX_ALWAYS phx_vf load_some(const float *p, int64_t n)
{
    return n < PHX_LANES ? phx_vf_load_n(p, n) : phx_vf_load(p);
}

PHX_ALWAYS void store_some(float *p, phx_vf v, int64_t n)
{
    if (n < PHX_LANES)
        phx_vf_store_n(p, v, n);
    else
        phx_vf_store(p, v);
}

static float add_accs(const phx_vf acc[ACCS])
{
    return phx_vf_sum(phx_vf_add(phx_vf_add(acc[0], acc[1]), phx_vf_add(acc[2], acc[3])));
}

/* ---- rms_norm ---- */

static float sum_of_squares(const float *x, int64_t n)
{
    phx_vf acc[ACCS] = {phx_vf_zero(), phx_vf_zero(), phx_vf_zero(), phx_vf_zero()};
    int64_t c = 0;
    for (; c + ACCS * PHX_LANES <= n; c += ACCS * PHX_LANES) {
        PHX_UNROLL(4)
        for (int i = 0; i < ACCS; i++) {
            const phx_vf v = phx_vf_load(x + c + i * PHX_LANES);
            acc[i] = phx_vf_fma(v, v, acc[i]);
        }
    }
    for (int i = 0; c < n; c += PHX_LANES, i++) {
        const phx_vf v = load_some(x + c, n - c);
        acc[i] = phx_vf_fma(v, v, acc[i]);
    }
    return add_accs(acc);
}

static const float *add_row(const phx_rms_norm_args *a, int64_t r)
{
    const float *x = a->x + r * a->x_stride;
    const float *add = a->add + r * a->n_cols;
    float *sum = a->sum + r * a->x_stride;
    for (int64_t c = 0; c < a->n_cols; c += PHX_LANES) {
        const int64_t n = phx_i64_min(PHX_LANES, a->n_cols - c);
        store_some(sum + c, phx_vf_add(load_some(x + c, n), load_some(add + c, n)), n);
    }
    return sum;
}

static void rms_norm_row(void *user, int64_t r, void *scratch)
{
    (void)scratch;
    const phx_rms_norm_args *a = user;
    const float *x = a->add ? add_row(a, r) : a->x + r * a->x_stride;
    const float mean = sum_of_squares(x, a->n_cols) / (float)a->n_cols;
    const phx_vf factor = phx_vf_set(1.0f / sqrtf(mean + a->eps));
    float *f32 = a->out_f32 ? a->out_f32 + r * a->out_f32_stride : NULL;
    uint8_t *act = a->out_act.data;
    if (act)
        act += r * a->out_act.stride * (a->out_act.dtype == PHX_BF16 ? 2 : 4);
    for (int64_t c = 0; c < a->n_cols; c += PHX_LANES) {
        const int64_t n = phx_i64_min(PHX_LANES, a->n_cols - c);
        const phx_vf scaled = phx_vf_mul(load_some(x + c, n), factor);
        const phx_vf y = phx_vf_mul(scaled, load_some(a->weight + c, n));
        if (f32)
            store_some(f32 + c, y, n);
        if (act && a->out_act.dtype == PHX_F32)
            store_some((float *)(void *)act + c, y, n);
        else if (act && n == PHX_LANES)
            phx_vf_store_bf16((uint16_t *)(void *)act + c, y);
        else if (act)
            phx_vf_store_bf16_n((uint16_t *)(void *)act + c, y, n);
    }
}

void phx_rms_norm(phx_pool *pool, const phx_rms_norm_args *args)
{
    phx_rms_norm_args a = *args;
    phx_pool_run(pool, a.n_rows, rms_norm_row, &a);
}

/* ---- layer_norm ---- */

static float sum_of(const float *x, int64_t n)
{
    phx_vf acc[ACCS] = {phx_vf_zero(), phx_vf_zero(), phx_vf_zero(), phx_vf_zero()};
    for (int64_t c = 0; c < n; c += PHX_LANES) {
        const int64_t i = c / PHX_LANES % ACCS;
        acc[i] = phx_vf_add(acc[i], load_some(x + c, n - c));
    }
    return add_accs(acc);
}

static void layer_norm_row(void *user, int64_t r, void *scratch)
{
    const phx_layer_norm_args *a = user;
    float *x = a->x + r * a->n_cols;
    float *centred = scratch;
    const phx_vf mean = phx_vf_set(sum_of(x, a->n_cols) / (float)a->n_cols);
    for (int64_t c = 0; c < a->n_cols; c += PHX_LANES) {
        const int64_t n = phx_i64_min(PHX_LANES, a->n_cols - c);
        store_some(centred + c, phx_vf_sub(load_some(x + c, n), mean), n);
    }
    const float var = sum_of_squares(centred, a->n_cols) / (float)a->n_cols;
    const phx_vf factor = phx_vf_set(1.0f / sqrtf(var + a->eps));
    for (int64_t c = 0; c < a->n_cols; c += PHX_LANES) {
        const int64_t n = phx_i64_min(PHX_LANES, a->n_cols - c);
        const phx_vf scaled = phx_vf_mul(load_some(centred + c, n), factor);
        store_some(x + c, phx_vf_fma(scaled, load_some(a->weight + c, n), load_some(a->bias + c, n)), n);
    }
}

void phx_layer_norm(phx_pool *pool, const phx_layer_norm_args *args)
{
    phx_layer_norm_args a = *args;
    phx_pool_run(pool, a.n_rows, layer_norm_row, &a);
}

/* ---- rope ---- */

static void rope_row(void *user, int64_t r, void *scratch)
{
    (void)scratch;
    const phx_rope_args *a = user;
    const int64_t n_pairs = a->d_rope / 2;
    const float *cos_sin = a->table + (int64_t)a->positions[r] * n_pairs * 2;
    const int64_t step = a->interleaved ? 2 : 1;
    const int64_t apart = a->interleaved ? 1 : n_pairs;
    for (int64_t h = 0; h < a->n_heads; h++) {
        float *x = a->x + r * a->row_stride + h * a->head_stride;
        for (int64_t i = 0; i < n_pairs; i++) {
            const float c = cos_sin[2 * i];
            const float s = cos_sin[2 * i + 1];
            const float first = x[i * step];
            const float second = x[i * step + apart];
            x[i * step] = fmaf(first, c, -(second * s));
            x[i * step + apart] = fmaf(first, s, second * c);
        }
        float *copy = a->copy ? a->copy + r * a->copy_row_stride + h * a->copy_head_stride : NULL;
        for (int64_t i = 0; copy && i < a->d_rope; i++)
            copy[i] = x[i];
    }
}

void phx_rope(phx_pool *pool, const phx_rope_args *args)
{
    phx_rope_args a = *args;
    phx_pool_run(pool, a.n_rows, rope_row, &a);
}

/* ---- latent_write ---- */

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
    phx_put_entry(a->cache, a->entries[r], row);
}

void phx_latent_write(phx_pool *pool, const phx_latent_write_args *args)
{
    phx_latent_write_args a = *args;
    assert(a.cache->width * (int64_t)sizeof(float) <= (int64_t)PHX_SCRATCH_BYTES);
    phx_pool_run(pool, a.n_rows, latent_write_row, &a);
}
