/* worker/exec/sample.c - the next token from logits that are spread over the tensor-parallel ranks (DESIGN
 * 3).
 *
 * Each vocabulary leaf offers its log-sum-exp, its best token with noise, and its PHX_VOCAB_TOP largest
 * logits. All ranks of the stage gather the offers and walk the same merged list, so they choose the same
 * token. The list is exact down to the first leaf that runs out of offers; a filter that reaches further
 * makes all ranks gather that row's logits. Order everywhere: logit descending, id ascending. */
#include "worker/exec/state.h"

#include <assert.h>
#include <math.h>

#include "base/rng.h"
#include "kernels/math.h"

/* The offers of n rows from one rank, as sections of one array of 4-byte words. */
typedef struct offers {
    float *lse;          /* [n][leaves][2] */
    float *noisy;        /* [n][leaves] logit / T + noise */
    int32_t *noisy_ids;  /* [n][leaves] */
    float *noisy_logits; /* [n][leaves] */
    int32_t *ids;        /* [n][leaves][PHX_VOCAB_TOP] */
    float *values;       /* [n][leaves][PHX_VOCAB_TOP] */
} offers;

/* A walk over tokens in order, from the gathered offers or from a whole row of logits. */
typedef struct walk {
    const phx_exec *exec;
    uint32_t row; /* of the n rows that were offered */
    uint32_t n;
    uint32_t at[PHX_LEAVES]; /* next offer of each leaf */
    const float *whole;      /* [n_vocab], when gathered */
    int32_t *heap;           /* ids, best first */
    int64_t n_heap;
    bool ran_out; /* a leaf has more tokens than offers: the order is not known further */
} walk;

typedef struct candidate {
    int32_t id;
    float logit;
} candidate;

static phx_code make_offers(phx_exec *exec, const uint32_t *plan_rows, uint32_t n, phx_error *err);
static void choose(const phx_exec *exec, walk *w, const phx_slot_state *slot, float lse_1, float lse_t,
                   phx_row_result *result);
static phx_code gather_row(phx_exec *exec, uint32_t row, walk *w, phx_error *err);
static void list_top(walk w, const phx_slot_state *slot, float lse_1, phx_row_result *result);
static bool next(walk *w, candidate *ret_best);

static offers sections(const phx_exec *exec, uint32_t *words, uint32_t n)
{
    const size_t cells = (size_t)n * exec->n_leaves;
    float *numbers = (float *)(void *)words;
    int32_t *ids = (int32_t *)(void *)words;
    return (offers){
        .lse = numbers,
        .noisy = numbers + 2 * cells,
        .noisy_ids = ids + 3 * cells,
        .noisy_logits = numbers + 4 * cells,
        .ids = ids + 5 * cells,
        .values = numbers + (5 + PHX_VOCAB_TOP) * cells,
    };
}

static size_t share_words(const phx_exec *exec, uint32_t n)
{
    return (size_t)n * exec->n_leaves * PHX_OFFER_WORDS;
}

/* log(sum exp) over the leaves of one row, leaf 0 first: the same order in every layout. */
static float merge_lse(const phx_exec *exec, uint32_t row, uint32_t n, uint32_t which)
{
    float max = -INFINITY, sum = 0;
    for (uint32_t pass = 0; pass < 2; pass++) {
        for (uint32_t leaf = 0; leaf < PHX_LEAVES; leaf++) {
            const uint32_t rank = leaf / exec->n_leaves, local = leaf % exec->n_leaves;
            const offers o = sections(exec, exec->host.all_offers + rank * share_words(exec, n), n);
            const float lse = o.lse[((size_t)row * exec->n_leaves + local) * 2 + which];
            if (pass == 0)
                max = lse > max ? lse : max;
            else if (lse > -INFINITY)
                sum += phx_expf(lse - max);
        }
    }
    return max + phx_logf(sum);
}

phx_code phx_exec_sample(phx_exec *exec, const uint32_t *plan_rows, uint32_t n, uint32_t result_first,
                         phx_error *err)
{
    const size_t share_bytes = share_words(exec, n) * sizeof(uint32_t);
    phx_code rc = make_offers(exec, plan_rows, n, err);
    if (rc == PHX_OK)
        rc = phx_gather(exec->parts.comm, exec->buf.offers, share_bytes, exec->buf.all_offers, err);
    if (rc == PHX_OK)
        rc = phx_exec_download(exec, exec->host.all_offers, exec->buf.all_offers,
                               share_bytes * exec->parts.plan->request.layout.tp, err);
    for (uint32_t i = 0; i < n && rc == PHX_OK; i++) {
        const uint32_t slot_idx = exec->plan->rows[plan_rows[i]].slot;
        const phx_slot_state *slot = phx_slots_at(exec->slots, slot_idx);
        const float lse_1 = merge_lse(exec, i, n, 0), lse_t = merge_lse(exec, i, n, 1);
        phx_row_result *result = &exec->results[result_first + i];
        walk w = {.exec = exec, .row = i, .n = n};
        *result = (phx_row_result){.slot = slot_idx, .request_id = slot->request_id};
        if (!isfinite(lse_1) || !isfinite(lse_t))
            return PHX_FAIL(err, PHX_ERR_NUMERIC, "logits of request %llu at position %u are not finite",
                            (unsigned long long)slot->request_id, slot->n_tokens - 1);
        list_top(w, slot, lse_1, result);
        choose(exec, &w, slot, lse_1, lse_t, result);
        if (!w.ran_out)
            continue;
        /* Every rank sees the same offers, so all of them come here together. */
        rc = gather_row(exec, i, &w, err);
        if (rc == PHX_OK)
            choose(exec, &w, slot, lse_1, lse_t, result);
    }
    return rc;
}

/* Noise of a token: Gumbel, keyed so that it depends on nothing but the request and the position. */
static float noise_of(const phx_slot_state *slot, int32_t id)
{
    const uint64_t bits =
        phx_rng_key(slot->sampling.seed, slot->sampling.choice, slot->n_tokens, (uint64_t)id);
    return -phx_logf(-phx_logf(phx_rng_unit(bits)));
}

static bool unfiltered(const phx_sampling *s)
{
    return s->temperature > 0 && s->top_k == 0 && s->top_p >= 1 && s->min_p <= 0;
}

/* Bias and penalties need the counts of the slot, which the host keeps. */
static phx_code penalise(phx_exec *exec, uint32_t slot_idx, uint32_t row, phx_error *err)
{
    const size_t n = (size_t)phx_range_n(exec->rank->vocab), at = row * n;
    if (!phx_slots_penalises(exec->slots, slot_idx))
        return PHX_OK;
    phx_code rc =
        phx_exec_download(exec, exec->host.logits + at, exec->buf.logits + at, n * sizeof(float), err);
    if (rc != PHX_OK)
        return rc;
    phx_slots_penalise(exec->slots, slot_idx, exec->host.logits + at);
    return phx_upload(exec->parts.backend, exec->buf.logits + at, exec->host.logits + at, n * sizeof(float),
                      err);
}

/* What the device has to know of the rows: temperatures, and which draw with which noise. */
static phx_code describe_rows(phx_exec *exec, const uint32_t *plan_rows, uint32_t n, phx_error *err)
{
    phx_code rc = PHX_OK;
    for (uint32_t i = 0; i < n && rc == PHX_OK; i++) {
        const uint32_t slot_idx = exec->plan->rows[plan_rows[i]].slot;
        const phx_slot_state *slot = phx_slots_at(exec->slots, slot_idx);
        const phx_sampling *s = &slot->sampling;
        uint64_t *noise = exec->host.noise + (size_t)i * PHX_NOISE_WORDS;
        exec->host.inv_temperature[i] = s->temperature > 0 ? 1.0f / s->temperature : 1.0f;
        noise[0] = s->seed;
        noise[1] = s->choice;
        noise[2] = slot->n_tokens;
        noise[3] = unfiltered(s);
        rc = penalise(exec, slot_idx, i, err);
    }
    if (rc == PHX_OK)
        rc = phx_upload(exec->parts.backend, exec->buf.inv_temperature, exec->host.inv_temperature,
                        n * sizeof(float), err);
    if (rc == PHX_OK)
        rc = phx_upload(exec->parts.backend, exec->buf.noise, exec->host.noise,
                        n * PHX_NOISE_WORDS * sizeof(uint64_t), err);
    return rc;
}

static phx_code make_offers(phx_exec *exec, const uint32_t *plan_rows, uint32_t n, phx_error *err)
{
    const int64_t n_vocab = phx_range_n(exec->rank->vocab);
    const offers mine = sections(exec, exec->buf.offers, n);
    const phx_code rc = describe_rows(exec, plan_rows, n, err);
    if (rc != PHX_OK)
        return rc;
    exec->parts.ops->vocab_top(exec->pool, &(phx_vocab_top_args){
                                               .logits = exec->buf.logits,
                                               .stride = n_vocab,
                                               .n_rows = n,
                                               .n_leaves = exec->n_leaves,
                                               .bounds = exec->parts.weights->vocab_bounds,
                                               .first_id = (int32_t)exec->rank->vocab.first,
                                               .inv_temperature = exec->buf.inv_temperature,
                                               .n_top = PHX_VOCAB_TOP,
                                               .lse = mine.lse,
                                               .ids = mine.ids,
                                               .values = mine.values,
                                           });
    exec->parts.ops->noisy_top(exec->pool, &(phx_noisy_top_args){
                                               .logits = exec->buf.logits,
                                               .stride = n_vocab,
                                               .n_rows = n,
                                               .n_leaves = exec->n_leaves,
                                               .bounds = exec->parts.weights->vocab_bounds,
                                               .first_id = (int32_t)exec->rank->vocab.first,
                                               .inv_temperature = exec->buf.inv_temperature,
                                               .noise = exec->buf.noise,
                                               .values = mine.noisy,
                                               .ids = mine.noisy_ids,
                                               .chosen_logits = mine.noisy_logits,
                                           });
    return PHX_OK;
}

/* The largest logits, for the client: never more than one leaf offers, so the walk cannot run out. */
static void list_top(walk w, const phx_slot_state *slot, float lse_1, phx_row_result *result)
{
    static_assert(PHX_TOP_LOGPROBS_MAX <= PHX_VOCAB_TOP, "offers must hold the top list");
    candidate c;
    while (slot->sampling.logprobs && result->n_top < slot->sampling.n_top_logprobs && next(&w, &c))
        result->top[result->n_top++] = (phx_token_logprob){(uint32_t)c.id, c.logit - lse_1};
}

static bool better(candidate a, candidate b)
{
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

/* Best of the whole row: pops the heap. */
static bool next_whole(walk *w, candidate *ret_best)
{
    if (w->n_heap == 0)
        return false;
    int32_t *heap = w->heap;
    *ret_best = (candidate){heap[0], w->whole[heap[0]]};
    const int32_t moved = heap[--w->n_heap];
    int64_t hole = 0;
    for (;;) {
        int64_t child = 2 * hole + 1;
        if (child >= w->n_heap)
            break;
        if (child + 1 < w->n_heap && better((candidate){heap[child + 1], w->whole[heap[child + 1]]},
                                            (candidate){heap[child], w->whole[heap[child]]}))
            child++;
        if (!better((candidate){heap[child], w->whole[heap[child]]}, (candidate){moved, w->whole[moved]}))
            break;
        heap[hole] = heap[child];
        hole = child;
    }
    if (w->n_heap)
        heap[hole] = moved;
    return true;
}

static bool next(walk *w, candidate *ret_best)
{
    if (w->whole)
        return next_whole(w, ret_best);
    const phx_exec *exec = w->exec;
    const uint32_t row = w->row, n = w->n;
    int32_t best_leaf = -1;
    candidate best = {-1, -INFINITY};
    for (uint32_t leaf = 0; leaf < PHX_LEAVES; leaf++) {
        const uint32_t rank = leaf / exec->n_leaves, local = leaf % exec->n_leaves;
        const offers o = sections(exec, exec->host.all_offers + rank * share_words(exec, n), n);
        const phx_range held = phx_leaf_bounds(exec->dims->n_vocab, leaf);
        if (w->at[leaf] >= phx_range_n(held))
            continue; /* the leaf is used up, not out of offers */
        if (w->at[leaf] >= PHX_VOCAB_TOP) {
            w->ran_out = true;
            return false;
        }
        const size_t cell = ((size_t)row * exec->n_leaves + local) * PHX_VOCAB_TOP + w->at[leaf];
        const candidate c = {o.ids[cell], o.values[cell]};
        if (best_leaf < 0 || better(c, best)) {
            best = c;
            best_leaf = (int32_t)leaf;
        }
    }
    if (best_leaf < 0)
        return false;
    w->at[best_leaf]++;
    *ret_best = best;
    return true;
}

static candidate noisy_winner(const phx_exec *exec, uint32_t row, uint32_t n)
{
    candidate best = {-1, 0};
    float best_value = -INFINITY;
    for (uint32_t leaf = 0; leaf < PHX_LEAVES; leaf++) {
        const uint32_t rank = leaf / exec->n_leaves, local = leaf % exec->n_leaves;
        const offers o = sections(exec, exec->host.all_offers + rank * share_words(exec, n), n);
        const size_t cell = (size_t)row * exec->n_leaves + local;
        if (o.noisy_ids[cell] >= 0 && (best.id < 0 || o.noisy[cell] > best_value)) {
            best = (candidate){o.noisy_ids[cell], o.noisy_logits[cell]};
            best_value = o.noisy[cell];
        }
    }
    return best;
}

/* Walks the kept set (top_k, then top_p of what top_k kept, then min_p) and returns its winner with noise. */
static candidate filtered_winner(walk *w, const phx_slot_state *slot, float lse_t)
{
    const phx_sampling *s = &slot->sampling;
    const float inverse = 1.0f / s->temperature;
    float kept_mass = 1;
    candidate c, best = {-1, 0};
    if (s->top_k && s->top_p < 1) { /* top_p counts within what top_k keeps */
        walk ahead = *w;
        kept_mass = 0;
        for (uint32_t i = 0; i < s->top_k && next(&ahead, &c); i++)
            kept_mass += phx_expf(c.logit * inverse - lse_t);
        w->ran_out = ahead.ran_out;
        if (w->ran_out)
            return best;
    }
    float mass = 0, best_value = -INFINITY, p_max = 0;
    for (uint32_t i = 0; (s->top_k == 0 || i < s->top_k) && next(w, &c); i++) {
        const float p = phx_expf(c.logit * inverse - lse_t);
        p_max = i == 0 ? p : p_max;
        if (i > 0 && p < s->min_p * p_max)
            break;
        const float value = c.logit * inverse + noise_of(slot, c.id);
        if (best.id < 0 || value > best_value) {
            best = c;
            best_value = value;
        }
        mass += p;
        if (s->top_p < 1 && mass >= s->top_p * kept_mass)
            break;
    }
    return best;
}

static void choose(const phx_exec *exec, walk *w, const phx_slot_state *slot, float lse_1, float lse_t,
                   phx_row_result *result)
{
    const phx_sampling *s = &slot->sampling;
    candidate chosen = {-1, 0};
    if (s->temperature <= 0)
        (void)next(w, &chosen);
    else if (unfiltered(s))
        chosen = noisy_winner(exec, w->row, w->n);
    else
        chosen = filtered_winner(w, slot, lse_t);
    if (w->ran_out)
        return;
    assert(chosen.id >= 0);
    result->token = (uint32_t)chosen.id;
    result->logprob = chosen.logit - lse_1;
}

/* All ranks bring their slice of the row, padded to equal shares; then a heap of all ids. */
static phx_code gather_row(phx_exec *exec, uint32_t row, walk *w, phx_error *err)
{
    const uint32_t tp = exec->parts.plan->request.layout.tp;
    const int64_t n_local = phx_range_n(exec->rank->vocab), n_vocab = exec->dims->n_vocab;
    const size_t share = (size_t)((n_vocab + PHX_LEAVES - 1) / PHX_LEAVES * exec->n_leaves) + exec->n_leaves;
    float *mine = exec->buf.full_logits, *all = exec->host.full_logits + share;
    assert((size_t)n_local <= share);
    exec->parts.ops->round(exec->pool, &(phx_round_args){/* f32 to f32: a copy */
                                                         .x = exec->buf.logits + (int64_t)row * n_local,
                                                         .x_stride = n_local,
                                                         .n_rows = 1,
                                                         .n_cols = n_local,
                                                         .out = {mine, n_local, PHX_F32}});
    phx_code rc = phx_gather(exec->parts.comm, mine, share * sizeof(float), mine + share, err);
    if (rc == PHX_OK)
        rc = phx_exec_download(exec, all, mine + share, share * tp * sizeof(float), err);
    if (rc != PHX_OK)
        return rc;
    int64_t n = 0;
    for (uint32_t r = 0; r < tp; r++) {
        const phx_range held = phx_tp_range(n_vocab, tp, r);
        memmove(all + n, all + r * share, (size_t)phx_range_n(held) * sizeof(float));
        n += phx_range_n(held);
    }
    assert(n == n_vocab);
    /* Build the heap by repeated sift-down: next_whole's own loop, applied to a growing front would cost n
     * log n anyway. */
    *w = (walk){.exec = exec, .row = row, .n = w->n, .whole = all, .heap = exec->host.order};
    for (int64_t i = 0; i < n_vocab; i++) {
        int64_t hole = i;
        const candidate c = {(int32_t)i, all[i]};
        while (hole > 0) {
            const int32_t parent = w->heap[(hole - 1) / 2];
            if (!better(c, (candidate){parent, all[parent]}))
                break;
            w->heap[hole] = parent;
            hole = (hole - 1) / 2;
        }
        w->heap[hole] = (int32_t)i;
    }
    w->n_heap = n_vocab;
    return PHX_OK;
}
