/* kernels/cpu/attend.c - see attend.h. */
#include "kernels/cpu/attend.h"

#include <assert.h>

#include "kernels/cpu/tiles.h"

#define STRIP (PHX_TILE_OUTS * PHX_LANES) /* channels of a register tile */

typedef struct state {
    const phx_attend *job;
    int64_t key_stride;   /* whole vectors */
    int64_t value_stride; /* whole strips, and a little so that columns do not share cache sets */
    float *q;             /* [n_queries][key_stride], padded with zeros */
    float *p;             /* [n_queries][PHX_ATTENTION_SPLIT] scores, then probabilities */
    float *all;           /* [n_queries][value_stride] the splits so far */
    float *next;          /* [n_queries][value_stride] this split */
    float *keys;          /* [PHX_ATTEND_KEYS][key_stride] */
    float *values;        /* [PHX_ATTEND_VALUES][value_stride] */
    int64_t first;        /* of the split */
    int64_t n;            /* entries of the split that some query sees */
    float max_all[PHX_ATTEND_QUERIES];
    float sum_all[PHX_ATTEND_QUERIES];
    float max_next[PHX_ATTEND_QUERIES];
    float sum_next[PHX_ATTEND_QUERIES];
} state;

static void state_init(state *s, const phx_attend *job);
static void score(state *s);
static void soften(state *s);
static void weigh(state *s);
static void merge(state *s);
static void finish(const state *s);

void phx_attend_run(const phx_attend *job)
{
    assert(job->n_queries >= 1);
    assert(job->n_queries <= phx_attend_queries(job->d_key, job->d_value));
    state s;
    state_init(&s, job);
    int64_t n_most = 0;
    for (int64_t m = 0; m < job->n_queries; m++)
        n_most = job->n[m] > n_most ? job->n[m] : n_most;
    for (s.first = 0; s.first < n_most; s.first += PHX_ATTENTION_SPLIT) {
        s.n = phx_i64_min(PHX_ATTENTION_SPLIT, n_most - s.first);
        score(&s);
        soften(&s);
        weigh(&s);
        merge(&s);
    }
    finish(&s);
}

static void state_init(state *s, const phx_attend *job)
{
    s->job = job;
    s->key_stride = phx_i64_up(job->d_key, PHX_LANES);
    s->value_stride = phx_i64_up(job->d_value, STRIP) + 16;
    s->q = job->scratch;
    s->p = s->q + job->n_queries * s->key_stride;
    s->all = s->p + job->n_queries * PHX_ATTENTION_SPLIT;
    s->next = s->all + job->n_queries * s->value_stride;
    s->keys = s->next + job->n_queries * s->value_stride;
    s->values = s->keys + PHX_ATTEND_KEYS * s->key_stride;
    for (int64_t m = 0; m < job->n_queries; m++) {
        float *q = s->q + m * s->key_stride;
        memcpy(q, job->q[m], (size_t)job->d_key * sizeof(float));
        memset(q + job->d_key, 0, (size_t)(s->key_stride - job->d_key) * sizeof(float));
        s->max_all[m] = -INFINITY;
        s->sum_all[m] = 1.0f;
    }
    memset(s->all, 0, (size_t)(job->n_queries * s->value_stride) * sizeof(float));
}

PHX_ALWAYS void score_tile(int n_m, const state *s, int64_t m, int64_t key, float *p)
{
    phx_vf acc[PHX_TILE_ACCS];
    phx_tile_zero(acc, n_m * PHX_TILE_OUTS);
    phx_tile_rows(n_m, s->q + m * s->key_stride, s->key_stride, s->keys + key * s->key_stride, s->key_stride,
                  s->key_stride, acc);
    PHX_UNROLL(6)
    for (int i = 0; i < n_m; i++)
        phx_vf_sum4(&acc[i * PHX_TILE_OUTS], p + i * PHX_ATTENTION_SPLIT);
}

/* p = q . key, for all queries and the split's entries; PHX_ATTENTION_SPLIT has room for whole tiles. */
static void score(state *s)
{
    const phx_attend *job = s->job;
    for (int64_t i = 0; i < s->n; i += PHX_ATTEND_KEYS) {
        const int64_t n = phx_i64_min(PHX_ATTEND_KEYS, s->n - i);
        job->load_keys(job->user, s->first + i, n, s->keys, s->key_stride);
        for (int64_t k = 0; k < n; k++)
            memset(s->keys + k * s->key_stride + job->d_key, 0,
                   (size_t)(s->key_stride - job->d_key) * sizeof(float));
        for (int64_t k = n; k < PHX_ATTEND_KEYS; k++)
            memset(s->keys + k * s->key_stride, 0, (size_t)s->key_stride * sizeof(float));
        for (int64_t m = 0; m < job->n_queries; m += PHX_TILE_ROWS) {
            float *p = s->p + m * PHX_ATTENTION_SPLIT + i;
            for (int64_t k = 0; k < n; k += PHX_TILE_OUTS)
                PHX_TILE_SWITCH(job->n_queries - m, score_tile, s, m, k, p + k);
        }
    }
}

/* The maximum, exp(score - maximum) and the sum of each query's split. */
static void soften(state *s)
{
    const phx_vf scale = phx_vf_set(s->job->scale);
    const int64_t n_padded = phx_i64_up(s->n, PHX_LANES);
    for (int64_t m = 0; m < s->job->n_queries; m++) {
        float *p = s->p + m * PHX_ATTENTION_SPLIT;
        const int64_t seen = s->job->n[m] - s->first;
        const int64_t n = seen < 0 ? 0 : phx_i64_min(seen, s->n);
        phx_vf max = phx_vf_set(-INFINITY);
        for (int64_t i = 0; i < n_padded; i += PHX_LANES) {
            phx_vf_store(p + i, phx_vf_mul(phx_vf_load(p + i), scale));
            for (int64_t k = n > i ? n : i; k < i + PHX_LANES; k++)
                p[k] = -INFINITY;
            max = phx_vf_max(phx_vf_load(p + i), max);
        }
        s->max_next[m] = phx_vf_max_across(max);
        const phx_vf shift = phx_vf_set(n > 0 ? s->max_next[m] : 0.0f);
        phx_vf sum = phx_vf_zero();
        for (int64_t i = 0; i < n_padded; i += PHX_LANES) {
            const phx_vf e = phx_vf_exp(phx_vf_sub(phx_vf_load(p + i), shift));
            phx_vf_store(p + i, e);
            sum = phx_vf_add(sum, e);
        }
        s->sum_next[m] = phx_vf_sum(sum);
    }
}

PHX_ALWAYS void weigh_tile(int n_m, const state *s, int64_t m, int64_t first, int64_t n, int64_t channel)
{
    phx_vf acc[PHX_TILE_ACCS];
    float *out = s->next + m * s->value_stride + channel;
    if (first == 0) {
        phx_tile_zero(acc, n_m * PHX_TILE_OUTS);
    } else {
        PHX_UNROLL(24)
        for (int i = 0; i < n_m * PHX_TILE_OUTS; i++)
            acc[i] = phx_vf_load(out + i / PHX_TILE_OUTS * s->value_stride + i % PHX_TILE_OUTS * PHX_LANES);
    }
    phx_tile_columns(PHX_FORMAT_F32, n_m, PHX_TILE_OUTS, s->p + m * PHX_ATTENTION_SPLIT + first,
                     PHX_ATTENTION_SPLIT, (const uint8_t *)(s->values + channel),
                     s->value_stride * (int64_t)sizeof(float), n, acc);
    PHX_UNROLL(24)
    for (int i = 0; i < n_m * PHX_TILE_OUTS; i++)
        phx_vf_store(out + i / PHX_TILE_OUTS * s->value_stride + i % PHX_TILE_OUTS * PHX_LANES, acc[i]);
}

/* next = sum of p * value over the split. */
static void weigh(state *s)
{
    const phx_attend *job = s->job;
    for (int64_t i = 0; i < s->n; i += PHX_ATTEND_VALUES) {
        const int64_t n = phx_i64_min(PHX_ATTEND_VALUES, s->n - i);
        job->load_values(job->user, s->first + i, n, s->values, s->value_stride);
        for (int64_t channel = 0; channel < job->d_value; channel += STRIP) {
            for (int64_t m = 0; m < job->n_queries; m += PHX_TILE_ROWS)
                PHX_TILE_SWITCH(job->n_queries - m, weigh_tile, s, m, i, n, channel);
        }
    }
}

static void merge(state *s)
{
    for (int64_t m = 0; m < s->job->n_queries; m++) {
        if (s->job->n[m] <= s->first)
            continue;
        float *all = s->all + m * s->value_stride;
        const float *next = s->next + m * s->value_stride;
        if (s->first == 0) {
            memcpy(all, next, (size_t)s->job->d_value * sizeof(float));
            s->max_all[m] = s->max_next[m];
            s->sum_all[m] = s->sum_next[m];
            continue;
        }
        const float max = s->max_all[m] > s->max_next[m] ? s->max_all[m] : s->max_next[m];
        const float keep = phx_expf(s->max_all[m] - max);
        const float take = phx_expf(s->max_next[m] - max);
        s->max_all[m] = max;
        s->sum_all[m] = fmaf(s->sum_next[m], take, s->sum_all[m] * keep);
        for (int64_t c = 0; c < s->job->d_value; c += PHX_LANES) {
            const phx_vf kept = phx_vf_mul(phx_vf_load(all + c), phx_vf_set(keep));
            phx_vf_store(all + c, phx_vf_fma(phx_vf_load(next + c), phx_vf_set(take), kept));
        }
    }
}

static void finish(const state *s)
{
    for (int64_t m = 0; m < s->job->n_queries; m++) {
        float *all = s->all + m * s->value_stride;
        for (int64_t c = 0; c < s->job->d_value; c += PHX_LANES)
            phx_vf_store(all + c, phx_vf_div(phx_vf_load(all + c), phx_vf_set(s->sum_all[m])));
        phx_vf_narrow(all, s->job->d_value, s->job->out_dtype, s->job->out[m]);
        if (s->job->lse[m])
            *s->job->lse[m] = s->max_all[m] + phx_logf(s->sum_all[m]);
    }
}
