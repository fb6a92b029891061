/* kernels/ref/route.c - reference of the router and of the expert lists. Source: models.md 2.7
 * (deepseek-ai/DeepSeek-V3.2-Exp: inference/model.py, Gate; huggingface/transformers deepseek_v3 for the
 * two-best group score). */
#include "kernels/ref/ref.h"

/* One row's working set inside the scratch. */
typedef struct route_row {
    float *score;  /* [n_experts] unbiased */
    float *biased; /* [n_experts]; -infinity once excluded */
    bool *used;    /* [n_experts] */
    bool *group;   /* [n_groups] chosen */
} route_row;

static void scores_of(const phx_route_args *a, const float *logits, float *score)
{
    if (!a->softmax) {
        for (int64_t e = 0; e < a->n_experts; e++)
            score[e] = phx_sigmoidf(logits[e]);
        return;
    }
    float max = logits[0];
    for (int64_t e = 1; e < a->n_experts; e++)
        max = logits[e] > max ? logits[e] : max;
    double sum = 0.0;
    for (int64_t e = 0; e < a->n_experts; e++) {
        score[e] = phx_expf(logits[e] - max);
        sum += (double)score[e];
    }
    for (int64_t e = 0; e < a->n_experts; e++)
        score[e] = score[e] / (float)sum;
}

/* The sum of the two best biased scores of group g; the best alone when it has one member. */
static float group_score(const phx_route_args *a, const float *biased, int64_t g)
{
    const int64_t size = a->n_experts / a->n_groups;
    float best = -INFINITY;
    float second = -INFINITY;
    for (int64_t i = 0; i < size; i++) {
        const float b = biased[g * size + i];
        if (b > best) {
            second = best;
            best = b;
        } else if (b > second) {
            second = b;
        }
    }
    return size > 1 ? best + second : best;
}

static void exclude_groups(const phx_route_args *a, const route_row *row)
{
    const int64_t size = a->n_experts / a->n_groups;
    for (int64_t g = 0; g < a->n_groups; g++)
        row->group[g] = false;
    for (int64_t i = 0; i < a->n_groups_used; i++) {
        int64_t best = -1;
        float best_score = 0.0f;
        for (int64_t g = 0; g < a->n_groups; g++) {
            const float score = group_score(a, row->biased, g);
            if (!row->group[g] && (best < 0 || score > best_score)) {
                best = g;
                best_score = score;
            }
        }
        row->group[best] = true;
    }
    for (int64_t e = 0; e < a->n_experts; e++) {
        if (!row->group[e / size])
            row->used[e] = true; /* taken out of the choice */
    }
}

/* Marks the n_used best in chosen order, then lists them ascending. */
static void choose(const phx_route_args *a, const route_row *row, int32_t *ids)
{
    bool *chosen = row->group; /* room for n_experts */
    for (int64_t e = 0; e < a->n_experts; e++)
        chosen[e] = false;
    for (int64_t i = 0; i < a->n_used; i++) {
        int64_t best = -1;
        for (int64_t e = 0; e < a->n_experts; e++) {
            if (!row->used[e] && (best < 0 || row->biased[e] > row->biased[best]))
                best = e;
        }
        assert(best >= 0);
        row->used[best] = true;
        chosen[best] = true;
    }
    int64_t n = 0;
    for (int64_t e = 0; e < a->n_experts; e++) {
        if (chosen[e])
            ids[n++] = (int32_t)e;
    }
}

static void route_one(void *user, int64_t r, void *scratch)
{
    const phx_route_args *a = user;
    route_row row;
    row.score = scratch;
    row.biased = row.score + a->n_experts;
    row.used = (bool *)(row.biased + a->n_experts);
    row.group = row.used + a->n_experts;
    scores_of(a, a->logits + r * a->n_experts, row.score);
    for (int64_t e = 0; e < a->n_experts; e++) {
        row.biased[e] = row.score[e] + (a->bias ? a->bias[e] : 0.0f);
        row.used[e] = false;
    }
    if (a->n_groups > 1)
        exclude_groups(a, &row);
    int32_t *ids = a->ids + r * a->n_used;
    float *weights = a->weights + r * a->n_used;
    choose(a, &row, ids);
    float sum = 0.0f;
    for (int64_t i = 0; i < a->n_used; i++) {
        weights[i] = row.score[ids[i]];
        sum += weights[i];
    }
    for (int64_t i = 0; i < a->n_used; i++)
        weights[i] = (a->norm ? weights[i] / sum : weights[i]) * a->scale;
}

void phx_route_ref(phx_pool *pool, const phx_route_args *args)
{
    phx_route_args a = *args;
    assert(a.n_groups >= 1);
    assert(a.n_experts % a.n_groups == 0);
    assert(a.n_used <= a.n_experts / a.n_groups * (a.n_groups > 1 ? a.n_groups_used : 1));
    assert(a.n_experts <= (int64_t)PHX_SCRATCH_BYTES / 16);
    phx_pool_run(pool, a.n_rows, route_one, &a);
}

/* Two counting passes over tokens in ascending order. */
void phx_list_experts_ref(phx_pool *pool, const phx_list_experts_args *args)
{
    (void)pool;
    const phx_list_experts_args *a = args;
    const int64_t n_live = a->n_listed ? *a->n_listed : a->n_tokens, n_pairs = n_live * a->n_used;
    int64_t *first = a->first;
    memset(first, 0, (size_t)(a->n_experts + 1) * sizeof(*first));
    for (int64_t i = 0; i < n_pairs; i++) {
        if (a->ids[i] >= a->held_first && a->ids[i] < a->held_end)
            first[a->ids[i] + 1]++;
    }
    for (int64_t e = 0; e < a->n_experts; e++)
        first[e + 1] += first[e];
    int64_t n_listed = 0;
    for (int64_t t = 0; t < a->n_tokens; t++) {
        a->token_first[t] = n_listed;
        for (int64_t i = t * a->n_used; t < n_live && i < (t + 1) * a->n_used; i++) {
            const int32_t e = a->ids[i];
            if (e < a->held_first || e >= a->held_end)
                continue;
            const int64_t entry = first[e]++; /* moves the start along; put back below */
            a->token[entry] = (int32_t)t;
            a->weight[entry] = a->weights[i];
            a->token_entries[n_listed++] = (int32_t)entry;
        }
    }
    a->token_first[a->n_tokens] = n_listed;
    memmove(first + 1, first, (size_t)a->n_experts * sizeof(*first));
    first[0] = 0;
}
