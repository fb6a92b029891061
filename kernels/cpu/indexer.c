/* kernels/cpu/indexer.c - scores of the indexer, and the best positions. An item of the scores is a stretch
 * of keys of one row: they are widened once and meet all heads. A score is one chain over the heads; a
 * product of query and key is a dot as in dots.h. */
#include "kernels/cpu/level.h"
#include "kernels/cpu/tiles.h"

#include <assert.h>

#define phx_index_scores  PHX_CPU(phx_index_scores)
#define phx_top_positions PHX_CPU(phx_top_positions)

#define ITEM_KEYS  512
#define PANEL_KEYS 16 /* widened at a time */

/* ---- index_scores ---- */

typedef struct score_work {
    phx_index_scores_args a;
    int64_t n_items_keys; /* per row */
    int64_t stride;       /* d, whole vectors */
} score_work;

PHX_ALWAYS void score_tile(int n_m, const float *q, const float *keys, int64_t stride, float *dots)
{
    phx_vf acc[PHX_TILE_ACCS];
    phx_tile_zero(acc, n_m * PHX_TILE_OUTS);
    phx_tile_rows(n_m, q, stride, keys, stride, stride, acc);
    PHX_UNROLL(6)
    for (int i = 0; i < n_m; i++)
        phx_vf_sum4(&acc[i * PHX_TILE_OUTS], dots + i * PANEL_KEYS);
}

/* scores of PANEL_KEYS keys from dots [n_heads][PANEL_KEYS] */
static void add_heads(const float *dots, const float *w, float w_scale, int64_t n_heads, float *ret_scores)
{
    for (int64_t i = 0; i < PANEL_KEYS; i += PHX_LANES) {
        phx_vf sum = phx_vf_zero();
        for (int64_t h = 0; h < n_heads; h++) {
            const phx_vf dot = phx_vf_max(phx_vf_load(dots + h * PANEL_KEYS + i), phx_vf_zero());
            sum = phx_vf_fma(phx_vf_set(w[h] * w_scale), dot, sum);
        }
        phx_vf_store(ret_scores + i, sum);
    }
}

static void score_item(void *user, int64_t item, void *scratch)
{
    const score_work *p = user;
    const phx_index_scores_args *a = &p->a;
    const int64_t row = item / p->n_items_keys;
    const int64_t first = item % p->n_items_keys * ITEM_KEYS;
    const int64_t end = phx_i64_min(first + ITEM_KEYS, a->n_keys[row]);
    const int64_t d = a->keys->width;
    const phx_format format =
        a->keys->dtype == PHX_F16 ? PHX_FORMAT_F16 : phx_format_of_activation(a->keys->dtype);
    float *q = scratch; /* [n_heads][stride] */
    float *keys = q + a->n_heads * p->stride;
    float *dots = keys + PANEL_KEYS * p->stride; /* [n_heads][PANEL_KEYS] */
    if (first >= end)
        return;
    memset(q, 0, (size_t)((a->n_heads + PANEL_KEYS) * p->stride) * sizeof(float));
    for (int64_t h = 0; h < a->n_heads; h++)
        memcpy(q + h * p->stride, a->q + (row * a->n_heads + h) * d, (size_t)d * sizeof(float));
    for (int64_t s = first; s < end; s += PANEL_KEYS) {
        const int64_t n = phx_i64_min(PANEL_KEYS, end - s);
        for (int64_t i = 0; i < n; i++) {
            const int64_t entry = phx_cache_entry(a->keys, a->blocks[row], s + i);
            const uint8_t *key = (const uint8_t *)a->keys->data + entry * d * phx_format_bytes(format);
            phx_vf_widen(format, key, d, keys + i * p->stride);
        }
        for (int64_t h = 0; h < a->n_heads; h += PHX_TILE_ROWS) {
            for (int64_t i = 0; i < n; i += PHX_TILE_OUTS)
                PHX_TILE_SWITCH(a->n_heads - h, score_tile, q + h * p->stride, keys + i * p->stride,
                                p->stride, dots + h * PANEL_KEYS + i);
        }
        float scores[PANEL_KEYS];
        add_heads(dots, a->w + row * a->n_heads, a->w_scale, a->n_heads, scores);
        memcpy(a->scores + row * a->scores_stride + s, scores, (size_t)n * sizeof(float));
    }
}

void phx_index_scores(phx_pool *pool, const phx_index_scores_args *args)
{
    score_work p = {.a = *args, .stride = phx_i64_up(args->keys->width, PHX_LANES)};
    assert(((args->n_heads + PANEL_KEYS) * p.stride + args->n_heads * PANEL_KEYS) * 4 <=
           (int64_t)PHX_SCRATCH_BYTES);
    int64_t n_most = 0;
    for (int64_t r = 0; r < args->n_rows; r++)
        n_most = args->n_keys[r] > n_most ? args->n_keys[r] : n_most;
    p.n_items_keys = (n_most + ITEM_KEYS - 1) / ITEM_KEYS;
    phx_pool_run(pool, args->n_rows * p.n_items_keys, score_item, &p);
}

/* ---- top_positions ---- */

/* Digits of the radix selection, from the highest bits of a rank. */
#define DIGIT_BITS 11
#define DIGITS     (1 << DIGIT_BITS)

/* An unsigned number in the order of the score; -0 equals +0, as the comparison of floats says. */
static uint32_t rank_of(float score)
{
    const uint32_t bits = phx_bits_of_f32(score + 0.0f);
    return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

/* The largest rank that at least n_keep (>= 1) scores reach, digit by digit: the scores that share the digits
 * found so far are counted by their next digit. */
static uint32_t threshold_of(const float *scores, int64_t n, int64_t n_keep, int32_t *counts)
{
    uint32_t found = 0;
    uint32_t mask = 0; /* of the digits found */
    for (int shift = 32; shift > 0;) {
        const int bits = shift < DIGIT_BITS ? shift : DIGIT_BITS;
        shift -= bits;
        memset(counts, 0, sizeof(int32_t) * DIGITS);
        for (int64_t s = 0; s < n; s++) {
            const uint32_t rank = rank_of(scores[s]);
            if ((rank & mask) == found)
                counts[rank >> shift & ((1u << bits) - 1u)]++;
        }
        uint32_t digit = (1u << bits) - 1u;
        for (; n_keep > counts[digit]; digit--)
            n_keep -= counts[digit];
        found |= digit << shift;
        mask |= ((1u << bits) - 1u) << shift;
    }
    return found;
}

static void top_positions_row(void *user, int64_t r, void *scratch)
{
    const phx_top_positions_args *a = user;
    const float *scores = a->scores + r * a->scores_stride;
    int32_t *positions = a->positions + r * a->n_keep;
    const int64_t n = a->n_keys[r];
    const int64_t n_keep = phx_i64_min(n, a->n_keep);
    int64_t n_found = 0;
    if (n_keep == n) {
        for (; n_found < n; n_found++)
            positions[n_found] = (int32_t)n_found;
    } else if (n_keep > 0) {
        const uint32_t threshold = threshold_of(scores, n, n_keep, scratch);
        int64_t n_ties = n_keep; /* places for scores equal to the threshold, lower positions first */
        for (int64_t s = 0; s < n; s++)
            n_ties -= rank_of(scores[s]) > threshold ? 1 : 0;
        for (int64_t s = 0; s < n && n_found < n_keep; s++) {
            const uint32_t rank = rank_of(scores[s]);
            if (rank < threshold || (rank == threshold && n_ties == 0))
                continue;
            n_ties -= rank == threshold ? 1 : 0;
            positions[n_found++] = (int32_t)s;
        }
    }
    a->n_positions[r] = (int32_t)n_found;
    for (int64_t i = n_found; i < a->n_keep; i++)
        positions[i] = -1;
}

void phx_top_positions(phx_pool *pool, const phx_top_positions_args *args)
{
    phx_top_positions_args a = *args;
    phx_pool_run(pool, a.n_rows, top_positions_row, &a);
}
