/* kernels/ref/indexer.c - reference of the indexer: scores of all keys, and the best positions.
 * Source: models.md 2.5 (deepseek-ai/DeepSeek-V3.2-Exp:inference/kernel.py, fp8_index). */
#include "kernels/ref/ref.h"

static void index_scores_row(void *user, int64_t r, void *scratch)
{
    (void)scratch;
    const phx_index_scores_args *a = user;
    const int64_t d = a->keys->width;
    for (int64_t s = 0; s < a->n_keys[r]; s++) {
        const int64_t entry = phx_cache_entry(a->keys, a->blocks[r], s);
        double score = 0.0;
        for (int64_t h = 0; h < a->n_heads; h++) {
            const float *q = a->q + (r * a->n_heads + h) * d;
            double dot = 0.0;
            for (int64_t c = 0; c < d; c++)
                dot += (double)q[c] * (double)phx_ref_load(a->keys->data, a->keys->dtype, entry * d + c);
            if (dot > 0.0)
                score += (double)(a->w[r * a->n_heads + h] * a->w_scale) * dot;
        }
        a->scores[r * a->scores_stride + s] = (float)score;
    }
}

void phx_index_scores_ref(phx_pool *pool, const phx_index_scores_args *args)
{
    phx_index_scores_args a = *args;
    phx_pool_run(pool, a.n_rows, index_scores_row, &a);
}

/* An unsigned number in the order of the score; -0 equals +0, which the comparison of floats says too. */
static uint32_t rank_of(float score)
{
    const uint32_t bits = phx_bits_of_f32(score + 0.0f);
    return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

/* The score of rank n_keep: the largest value that at least n_keep scores reach, built bit by bit. */
static uint32_t threshold_of(const float *scores, int64_t n, int64_t n_keep)
{
    uint32_t threshold = 0;
    for (uint32_t bit = 0x80000000u; bit != 0; bit >>= 1) {
        int64_t reached = 0;
        for (int64_t s = 0; s < n; s++)
            reached += rank_of(scores[s]) >= (threshold | bit) ? 1 : 0;
        if (reached >= n_keep)
            threshold |= bit;
    }
    return threshold;
}

static void top_positions_row(void *user, int64_t r, void *scratch)
{
    (void)scratch;
    const phx_top_positions_args *a = user;
    const float *scores = a->scores + r * a->scores_stride;
    int32_t *positions = a->positions + r * a->n_keep;
    const int64_t n = a->n_keys[r];
    const int64_t n_keep = n < a->n_keep ? n : a->n_keep;
    const uint32_t threshold = n_keep > 0 ? threshold_of(scores, n, n_keep) : 0;
    int64_t n_ties = n_keep; /* places that scores equal to the threshold may take, lower positions first */
    for (int64_t s = 0; s < n; s++)
        n_ties -= rank_of(scores[s]) > threshold ? 1 : 0;
    int64_t n_found = 0;
    for (int64_t s = 0; s < n && n_found < n_keep; s++) {
        const uint32_t rank = rank_of(scores[s]);
        if (rank < threshold || (rank == threshold && n_ties == 0))
            continue;
        n_ties -= rank == threshold ? 1 : 0;
        positions[n_found++] = (int32_t)s;
    }
    a->n_positions[r] = (int32_t)n_found;
    for (int64_t i = n_found; i < a->n_keep; i++)
        positions[i] = -1;
}

void phx_top_positions_ref(phx_pool *pool, const phx_top_positions_args *args)
{
    phx_top_positions_args a = *args;
    phx_pool_run(pool, a.n_rows, top_positions_row, &a);
}
