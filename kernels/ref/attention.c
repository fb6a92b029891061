/* kernels/ref/attention.c - reference of absorbed and of expanded attention: one softmax over splits of fixed
 * size, merged left to right (DESIGN 7e). An item is one head of one row. */
#include "kernels/ref/ref.h"

/* The running result of the splits so far, or of one split. */
typedef struct part {
    float max;
    float sum;
    float *out; /* [d] not yet divided by sum */
} part;

typedef struct attention_work { /* one head of one row */
    const float *q;             /* [d_key] */
    int64_t n;                  /* positions */
    int64_t d_key;
    int64_t value_at; /* where the value starts in a loaded entry */
    int64_t d;        /* of the value */
    float scale;
    void (*load)(const struct attention_work *w, int64_t i, float *ret_entry); /* the i-th position's */
    const void *args;
    int64_t r;
    int64_t h;
    float *entry; /* the loaded one */
    double *sums; /* [d] */
} attention_work;

static void split(const attention_work *w, int64_t first, int64_t end, part *ret_part)
{
    float p[PHX_ATTENTION_SPLIT];
    float max = -INFINITY;
    for (int64_t i = first; i < end; i++) {
        w->load(w, i, w->entry);
        double dot = 0.0;
        for (int64_t c = 0; c < w->d_key; c++)
            dot += (double)w->q[c] * (double)w->entry[c];
        p[i - first] = (float)dot * w->scale;
        max = p[i - first] > max ? p[i - first] : max;
    }
    double sum = 0.0;
    for (int64_t c = 0; c < w->d; c++)
        w->sums[c] = 0.0;
    for (int64_t i = first; i < end; i++) {
        w->load(w, i, w->entry);
        const float weight = phx_expf(p[i - first] - max);
        sum += (double)weight;
        for (int64_t c = 0; c < w->d; c++)
            w->sums[c] += (double)weight * (double)w->entry[w->value_at + c];
    }
    for (int64_t c = 0; c < w->d; c++)
        ret_part->out[c] = (float)w->sums[c];
    ret_part->max = max;
    ret_part->sum = (float)sum;
}

static void merge(part *left, const part *right, int64_t d)
{
    const float max = left->max > right->max ? left->max : right->max;
    const float keep = phx_expf(left->max - max);
    const float take = phx_expf(right->max - max);
    left->sum = fmaf(right->sum, take, left->sum * keep);
    for (int64_t c = 0; c < d; c++)
        left->out[c] = fmaf(right->out[c], take, left->out[c] * keep);
    left->max = max;
}

/* No position at all: zeros, and a log-sum-exp of -inf. */
static float attend(attention_work *w, const phx_activation_out *out, int64_t out_offset, void *scratch)
{
    w->sums = scratch;
    part all = {-INFINITY, 1.0f, (float *)(w->sums + w->d)};
    part next = {-INFINITY, 0.0f, all.out + w->d};
    w->entry = next.out + w->d;
    for (int64_t c = 0; c < w->d; c++)
        all.out[c] = 0.0f;
    for (int64_t first = 0; first < w->n; first += PHX_ATTENTION_SPLIT) {
        const int64_t end = first + PHX_ATTENTION_SPLIT < w->n ? first + PHX_ATTENTION_SPLIT : w->n;
        split(w, first, end, first == 0 ? &all : &next);
        if (first > 0)
            merge(&all, &next, w->d);
    }
    for (int64_t c = 0; c < w->d; c++)
        phx_ref_store(out->data, out->dtype, out_offset + c, all.out[c] / all.sum);
    return all.max + phx_logf(all.sum);
}

static void load_absorbed(const attention_work *w, int64_t i, float *ret_entry)
{
    const phx_attention_args *a = w->args;
    const phx_cache *cache = a->cache;
    const int64_t position = a->positions ? a->positions[w->r * a->positions_stride + i] : i;
    const int64_t entry = phx_cache_entry(cache, a->blocks[w->r], position);
    for (int64_t c = 0; c < cache->width; c++)
        ret_entry[c] = phx_ref_cache_load(cache, entry, c);
}

static void attention_item(void *user, int64_t item, void *scratch)
{
    const phx_attention_args *a = user;
    const int64_t r = item / a->n_heads;
    const int64_t h = item % a->n_heads;
    attention_work w = {.q = a->q + item * a->cache->width,
                        .n = a->n_positions[r],
                        .d_key = a->cache->width,
                        .value_at = 0,
                        .d = a->d_latent,
                        .scale = a->scale,
                        .load = load_absorbed,
                        .args = a,
                        .r = r,
                        .h = h};
    const float lse = attend(&w, &a->out, r * a->out.stride + h * a->d_latent, scratch);
    if (a->lse)
        a->lse[item] = lse;
}

void phx_attention_ref(phx_pool *pool, const phx_attention_args *args)
{
    phx_attention_args a = *args;
    assert(4 * a.cache->width <= PHX_REF_DOUBLES);
    phx_pool_run(pool, a.n_rows * a.n_heads, attention_item, &a);
}

static void load_expanded(const attention_work *w, int64_t i, float *ret_entry)
{
    const phx_attention_expanded_args *a = w->args;
    const float *kv = a->kv + (i * a->n_heads + w->h) * (a->d_nope + a->d_v);
    for (int64_t c = 0; c < a->d_nope; c++)
        ret_entry[c] = kv[c];
    for (int64_t c = 0; c < a->d_rope; c++)
        ret_entry[a->d_nope + c] = a->k_rope[i * a->d_rope + c];
    for (int64_t c = 0; c < a->d_v; c++)
        ret_entry[a->d_nope + a->d_rope + c] = kv[a->d_nope + c];
}

static void attention_expanded_item(void *user, int64_t item, void *scratch)
{
    const phx_attention_expanded_args *a = user;
    const int64_t r = item / a->n_heads;
    const int64_t h = item % a->n_heads;
    attention_work w = {.q = a->q + item * (a->d_nope + a->d_rope),
                        .n = a->n_keys[r],
                        .d_key = a->d_nope + a->d_rope,
                        .value_at = a->d_nope + a->d_rope,
                        .d = a->d_v,
                        .scale = a->scale,
                        .load = load_expanded,
                        .args = a,
                        .r = r,
                        .h = h};
    (void)attend(&w, &a->out, r * a->out.stride + h * a->d_v, scratch);
}

void phx_attention_expanded_ref(phx_pool *pool, const phx_attention_expanded_args *args)
{
    phx_attention_expanded_args a = *args;
    assert(4 * (a.d_nope + a.d_rope + a.d_v) <= PHX_REF_DOUBLES);
    phx_pool_run(pool, a.n_rows * a.n_heads, attention_expanded_item, &a);
}
