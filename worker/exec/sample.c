/* worker/exec/sample.c - the next token from logits that are spread over the tensor-parallel ranks (DESIGN
 * 3).
 *
 * Each vocabulary leaf offers its log-sum-exp, its best token with noise, and its PHX_VOCAB_TOP largest
 * logits. All ranks of the stage gather the offers and choose from the same merged list, so they choose the
 * same token; the device makes it the slot's last token, so the next step needs nothing of the host. The list
 * is exact down to the first leaf that runs out of offers; when a filter reaches further, all ranks see it
 * when the step has run and gather that row's logits. */
#include "worker/exec/state.h"

#include <assert.h>

#include "kernels/choose.h"

static phx_offers_shape offers_shape(const phx_exec *exec)
{
    return (phx_offers_shape){exec->n_samples, exec->n_leaves, PHX_VOCAB_TOP};
}

static void make_offers(phx_exec *exec, phx_offers_shape shape, uint32_t *words)
{
    const phx_offers mine = phx_offers_in(words, shape);
    const int64_t n_vocab = phx_range_n(exec->rank->vocab);
    exec->parts.ops->penalise(exec->pool, &(phx_penalise_args){
                                              .logits = exec->buf.logits,
                                              .n_rows = shape.n_rows,
                                              .n_cols = n_vocab,
                                              .first_id = exec->rank->vocab.first,
                                              .rows = phx_exec_sample_rows(&exec->buf),
                                              .counts = exec->buf.counts,
                                              .bias_ids = exec->buf.bias_ids,
                                              .bias = exec->buf.bias,
                                              .bias_stride = PHX_LOGIT_BIAS_MAX,
                                          });
    exec->parts.ops->vocab_top(exec->pool, &(phx_vocab_top_args){
                                               .logits = exec->buf.logits,
                                               .stride = n_vocab,
                                               .n_rows = shape.n_rows,
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
                                               .n_rows = shape.n_rows,
                                               .n_leaves = exec->n_leaves,
                                               .bounds = exec->parts.weights->vocab_bounds,
                                               .first_id = (int32_t)exec->rank->vocab.first,
                                               .inv_temperature = exec->buf.inv_temperature,
                                               .noise = exec->buf.noise,
                                               .values = mine.noisy,
                                               .ids = mine.noisy_ids,
                                               .chosen_logits = mine.noisy_logits,
                                           });
}

phx_code phx_exec_queue_samples(phx_exec *exec, phx_error *err)
{
    const phx_offers_shape shape = offers_shape(exec);
    const size_t share = (size_t)phx_offers_words(shape);
    uint32_t *mine = exec->buf.offers + exec->rank->tp_rank * share;
    static_assert(PHX_OFFER_WORDS == 5 + 2 * PHX_VOCAB_TOP, "phx_offers_words");
    static_assert(PHX_LEAVES <= PHX_OFFERING_MAX, "leaves");
    static_assert(PHX_LEAVES * PHX_VOCAB_TOP <= PHX_OFFERED_MAX, "candidates");
    static_assert(PHX_TOP_LOGPROBS_MAX <= PHX_VOCAB_TOP, "offers must hold the top list");
    phx_exec_head(exec, exec->n_samples);
    make_offers(exec, shape, mine);
    const phx_code rc = phx_gather(exec->parts.comm, mine, share * sizeof(uint32_t), exec->buf.offers, err);
    if (rc != PHX_OK)
        return rc;
    exec->parts.ops->choose(exec->pool, &(phx_choose_args){
                                            .offers = exec->buf.offers,
                                            .shape = shape,
                                            .n_shares = exec->parts.plan->request.layout.tp,
                                            .n_vocab = exec->dims->n_vocab,
                                            .rows = phx_exec_sample_rows(&exec->buf),
                                            .inv_temperature = exec->buf.inv_temperature,
                                            .noise = exec->buf.noise,
                                            .choices = phx_exec_choices(&exec->buf),
                                            .last = exec->buf.last_tokens,
                                        });
    return PHX_OK;
}

/* ---- a row whose candidates do not reach ---- */

/* All tokens of a row: a heap of ids, best first; what has left it lies behind it, so the i-th token in order
 * is the i-th from the end. */
typedef struct whole_row {
    const float *logits; /* [n] */
    int32_t *heap;       /* [n] */
    int64_t n;
    int64_t n_heap;
} whole_row;

static phx_candidate whole_candidate(const whole_row *w, int32_t id)
{
    return (phx_candidate){id, w->logits[id]};
}

static bool whole_before(const whole_row *w, int32_t a, int32_t b)
{
    return phx_candidate_before(whole_candidate(w, a), whole_candidate(w, b));
}

static void whole_pop(whole_row *w)
{
    int32_t *heap = w->heap;
    const int32_t best = heap[0], moved = heap[--w->n_heap];
    int64_t hole = 0;
    for (int64_t child = 1; child < w->n_heap; child = 2 * hole + 1) {
        if (child + 1 < w->n_heap && whole_before(w, heap[child + 1], heap[child]))
            child++;
        if (!whole_before(w, heap[child], moved))
            break;
        heap[hole] = heap[child];
        hole = child;
    }
    heap[hole] = moved;
    heap[w->n_heap] = best;
}

static phx_order_state whole_at(void *order, int64_t i, phx_candidate *ret_candidate)
{
    whole_row *w = order;
    if (i >= w->n)
        return PHX_ORDER_END;
    while (w->n - w->n_heap <= i)
        whole_pop(w);
    *ret_candidate = whole_candidate(w, w->heap[w->n - 1 - i]);
    return PHX_ORDER_HAS;
}

static void whole_build(whole_row *w)
{
    for (int64_t i = 0; i < w->n; i++) {
        int64_t hole = i;
        while (hole > 0 && whole_before(w, (int32_t)i, w->heap[(hole - 1) / 2])) {
            w->heap[hole] = w->heap[(hole - 1) / 2];
            hole = (hole - 1) / 2;
        }
        w->heap[hole] = (int32_t)i;
    }
    w->n_heap = w->n;
}

/* All ranks bring their slice of the row, padded to equal shares; every rank gets all of them. */
static phx_code gather_row(phx_exec *exec, uint32_t i, phx_error *err)
{
    const uint32_t tp = exec->parts.plan->request.layout.tp;
    const int64_t n_local = phx_range_n(exec->rank->vocab), n_vocab = exec->dims->n_vocab;
    const size_t share = (size_t)((n_vocab + PHX_LEAVES - 1) / PHX_LEAVES * exec->n_leaves) + exec->n_leaves;
    float *mine = exec->buf.full_logits, *all = exec->host.full_logits;
    assert((size_t)n_local <= share);
    exec->parts.ops->round(exec->pool, &(phx_round_args){/* f32 to f32: a copy */
                                                         .x = exec->buf.logits + (int64_t)i * n_local,
                                                         .x_stride = n_local,
                                                         .n_rows = 1,
                                                         .n_cols = n_local,
                                                         .out = {mine, n_local, PHX_F32}});
    phx_code rc = phx_gather(exec->parts.comm, mine, share * sizeof(float), mine + share, err);
    if (rc == PHX_OK)
        rc = phx_exec_download(exec, all + share, mine + share, share * tp * sizeof(float), err);
    if (rc != PHX_OK)
        return rc;
    int64_t n = 0;
    for (uint32_t r = 0; r < tp; r++) { /* without the padding, from the front */
        const phx_range held = phx_tp_range(n_vocab, tp, r);
        memmove(all + n, all + (r + 1) * share, (size_t)phx_range_n(held) * sizeof(float));
        n += phx_range_n(held);
    }
    assert(n == n_vocab);
    return PHX_OK;
}

/* Every rank sees the same choices, so all of them come here together. */
static phx_code choose_from_all(phx_exec *exec, uint32_t i, phx_error *err)
{
    phx_choice *choice = phx_exec_choices(&exec->host) + i;
    const phx_sample_row *row = phx_exec_sample_rows(&exec->host) + i;
    phx_candidate token = {-1, 0};
    whole_row w = {.logits = exec->host.full_logits, .heap = exec->host.order, .n = exec->dims->n_vocab};
    const phx_code rc = gather_row(exec, i, err);
    if (rc != PHX_OK)
        return rc;
    whole_build(&w);
    const phx_draw draw = {.row = row,
                           .inv_temperature = exec->host.inv_temperature[i],
                           .noise = exec->host.noise + (size_t)i * PHX_NOISE_WORDS,
                           .lse_tempered = choice->lse_tempered,
                           .at = whole_at,
                           .order = &w};
    const phx_choice_state state = phx_draw_token(&draw, &token);
    assert(state == PHX_CHOICE_MADE);
    choice->state = (int32_t)state;
    choice->id = token.id;
    choice->logprob = token.logit - choice->lse;
    return row->place < 0 ? PHX_OK
                          : phx_upload(exec->parts.backend, exec->buf.last_tokens + row->place, &choice->id,
                                       sizeof(choice->id), err);
}

/* ---- results ---- */

static phx_code take_result(phx_exec *exec, uint32_t i, const phx_sampled *sampled,
                            phx_row_result *ret_result, phx_error *err)
{
    phx_choice *choice = phx_exec_choices(&exec->host) + i;
    const uint32_t slot_idx = exec->plan->rows[sampled->plan_row].slot;
    const phx_slot_state *slot = phx_slots_at(exec->slots, slot_idx);
    phx_code rc = PHX_OK;
    if (choice->state == PHX_CHOICE_BAD)
        return PHX_FAIL(err, PHX_ERR_NUMERIC, "logits of request %llu at position %u are not finite",
                        (unsigned long long)slot->request_id, sampled->position - 1);
    if (choice->state == PHX_CHOICE_BEYOND)
        rc = choose_from_all(exec, i, err);
    if (rc != PHX_OK)
        return rc;
    assert(choice->state == PHX_CHOICE_MADE);
    *ret_result = (phx_row_result){.slot = slot_idx,
                                   .request_id = slot->request_id,
                                   .token = (uint32_t)choice->id,
                                   .logprob = choice->logprob,
                                   .n_top = choice->n_top};
    for (uint32_t k = 0; k < choice->n_top; k++)
        ret_result->top[k] = (phx_token_logprob){(uint32_t)choice->top[k].id, choice->top[k].logprob};
    return PHX_OK;
}

/* A token fed behind the slot's last one holds when it is what was chosen before it. */
static bool next_holds(const phx_exec *exec, const phx_sampled *sampled, uint32_t token)
{
    return exec->host.tokens[sampled->row + 1] == (int32_t)token;
}

/* Takes the i-th choice of a piece whose first is `first`, unless a draft before it did not hold. */
static phx_code take_sample(phx_exec *exec, uint32_t first, uint32_t i, phx_error *err)
{
    const phx_sampled *sampled = &exec->sampling[first + i];
    const phx_step_row *row = &exec->plan->rows[sampled->plan_row];
    const uint32_t n_fed = phx_exec_n_fed(row);
    const uint32_t nth = (uint32_t)(sampled->row - phx_exec_row_start(exec, sampled->plan_row));
    if (n_fed && nth >= exec->n_taken[sampled->plan_row])
        return PHX_OK;
    phx_row_result *result = &exec->results[exec->n_results++];
    const phx_code rc = take_result(exec, i, sampled, result, err);
    if (rc == PHX_OK && nth < n_fed && next_holds(exec, sampled, result->token))
        exec->n_taken[sampled->plan_row]++;
    return rc;
}

static bool feeds_drafts(const phx_exec *exec)
{
    bool feeds = false;
    for (uint32_t i = 0; exec->draft && i < exec->plan->n_rows; i++)
        feeds = feeds || phx_exec_n_fed(&exec->plan->rows[i]) != 0;
    return feeds;
}

/* The length of a slot that was fed drafts, and its last token. */
static phx_code settle_drafts(phx_exec *exec, phx_error *err)
{
    phx_code rc = PHX_OK;
    for (uint32_t i = 0; i < exec->n_results && rc == PHX_OK; i++) {
        const int32_t place = phx_exec_place(exec, exec->results[i].slot, 0);
        exec->host.last_tokens[place] = (int32_t)exec->results[i].token;
    }
    for (uint32_t i = 0; i < exec->plan->n_rows && rc == PHX_OK; i++) {
        const phx_step_row *row = &exec->plan->rows[i];
        const int32_t place = phx_exec_place(exec, row->slot, 0);
        if (!phx_exec_n_fed(row))
            continue;
        phx_slots_at(exec->slots, row->slot)->n_tokens -= row->n_tokens - exec->n_taken[i];
        rc = phx_upload(exec->parts.backend, exec->buf.last_tokens + place, exec->host.last_tokens + place,
                        sizeof(int32_t), err);
    }
    return rc;
}

phx_code phx_exec_finish_samples(phx_exec *exec, phx_error *err)
{
    static_assert(PHX_CHOICE_WORDS * sizeof(uint32_t) == sizeof(phx_choice), "words of a choice");
    phx_code rc = PHX_OK;
    const bool feeds = feeds_drafts(exec);
    exec->n_results = 0;
    if (feeds) /* which ones */
        rc = phx_fetch(exec->parts.backend, exec->host.tokens, exec->buf.tokens,
                       (size_t)exec->n_own * sizeof(int32_t), err);
    for (uint32_t first = 0; first < exec->n_sampling && rc == PHX_OK; first += PHX_LOGIT_ROWS) {
        const uint32_t left = exec->n_sampling - first, n = left < PHX_LOGIT_ROWS ? left : PHX_LOGIT_ROWS;
        if (first > 0) { /* the first rows are part of the walk */
            exec->n_samples = n;
            rc = phx_exec_tell_samples(exec, exec->sampling + first, n, err);
            if (rc == PHX_OK)
                rc = phx_exec_queue_samples(exec, err);
        }
        if (rc == PHX_OK)
            rc = phx_exec_download(exec, exec->host.choices, exec->buf.choices, n * sizeof(phx_choice), err);
        for (uint32_t i = 0; i < n && rc == PHX_OK; i++)
            rc = take_sample(exec, first, i, err);
    }
    return rc == PHX_OK && feeds ? settle_drafts(exec, err) : rc;
}
