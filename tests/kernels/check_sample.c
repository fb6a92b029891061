/* tests/kernels/check_sample.c - the ops between one step's logits and the next step's tokens, all exact:
 * feed_tokens, put_tokens, count_tokens, clear_counts, penalise, choose. */
#include "tests/kernels/check.h"

#include <math.h>
#include <string.h>

#include "kernels/choose.h"

static int32_t *random_ids(check *c, int64_t n, int32_t low, uint32_t below)
{
    int32_t *ids = check_mem(c, n, sizeof(*ids));
    for (int64_t i = 0; i < n; i++)
        ids[i] = low + (int32_t)phx_rng_below(&c->rng, below);
    return ids;
}

static void feed_case(check *c, int64_t n_rows)
{
    enum { N_SLOTS = 9 };
    check_case(c, "n_rows %lld", (long long)n_rows);
    phx_feed_tokens_args both[2] = {{.ids = random_ids(c, n_rows, -3, 40),
                                     .slots = random_ids(c, n_rows, -2, N_SLOTS + 2),
                                     .last = random_ids(c, N_SLOTS, 0, 40),
                                     .n_rows = n_rows,
                                     .first_id = 10,
                                     .end_id = 25}};
    both[1] = both[0];
    for (int i = 0; i < 2; i++) {
        both[i].tokens = check_out(c, n_rows, sizeof(int32_t));
        both[i].local = check_out(c, n_rows, sizeof(int32_t));
        (i == 0 ? c->ref : c->ops)->feed_tokens(i == 0 ? c->ref_pool : c->pools[0], &both[i]);
    }
    check_same(c, "tokens", both[0].tokens, both[1].tokens, n_rows, sizeof(int32_t));
    check_same(c, "local rows", both[0].local, both[1].local, n_rows, sizeof(int32_t));
    for (int64_t r = 0; r < n_rows; r++) {
        const int32_t own = both[0].slots[r] >= 0 ? both[0].last[both[0].slots[r]] : -1;
        const int32_t token = both[0].ids[r] >= 0 ? both[0].ids[r] : own;
        if (both[1].tokens[r] != token || both[1].local[r] != (token >= 10 && token < 25 ? token - 10 : -1))
            check_fail(c, "row %lld takes %d", (long long)r, both[1].tokens[r]);
    }
    check_end(c);
}

void check_feed_tokens(check *c)
{
    for (int64_t n = 0; n <= 600; n = n * 3 + 1)
        feed_case(c, n);
}

void check_put_tokens(check *c)
{
    for (int64_t n = 0; n <= 400; n = n * 5 + 1) {
        check_case(c, "n %lld", (long long)n);
        int32_t *slots = check_mem(c, n, sizeof(*slots));
        for (int64_t i = 0; i < n; i++)
            slots[i] = i % 3 == 1 ? -1 : (int32_t)(n - 1 - i);
        phx_put_tokens_args a = {.slots = slots, .tokens = random_ids(c, n, 0, 1000), .n = n};
        int32_t *want = check_out(c, n, sizeof(*want)), *got = check_out(c, n, sizeof(*got));
        for (int64_t i = 0; i < n; i++)
            want[i] = got[i] = -7;
        a.last = want;
        c->ref->put_tokens(c->ref_pool, &a);
        a.last = got;
        c->ops->put_tokens(c->pools[0], &a);
        check_same(c, "last tokens", want, got, n, sizeof(*got));
        for (int64_t i = 0; i < n; i++)
            if (got[n - 1 - i] != (slots[i] < 0 ? -7 : a.tokens[i]))
                check_fail(c, "slot %lld has %d", (long long)(n - 1 - i), got[n - 1 - i]);
        check_end(c);
    }
}

static void count_case(check *c, int64_t n_rows, uint32_t n_ids)
{
    enum { N_SLOTS = 3, N_COLS = 70 };
    check_case(c, "n_rows %lld of %u ids", (long long)n_rows, n_ids);
    phx_count_tokens_args a = {.tokens = random_ids(c, n_rows, -2, n_ids),
                               .counted = random_ids(c, n_rows, -1, 2 * N_SLOTS + 1),
                               .n_rows = n_rows,
                               .first_id = 5,
                               .n_cols = N_COLS};
    const int64_t n = N_SLOTS * N_COLS;
    uint32_t *want = check_out(c, n, sizeof(*want)), *got = check_out(c, n, sizeof(*got));
    const phx_clear_counts_args clear = {got, n};
    memset(want, 0, (size_t)n * sizeof(*want));
    c->ops->clear_counts(c->pools[0], &clear);
    check_same(c, "cleared counts", want, got, n, sizeof(*got));
    a.counts = want;
    c->ref->count_tokens(c->ref_pool, &a);
    a.counts = got;
    c->ops->count_tokens(c->pools[0], &a);
    check_same(c, "counts", want, got, n, sizeof(*got));
    int64_t n_output = 0, n_expected = 0;
    for (int64_t i = 0; i < n; i++)
        n_output += PHX_COUNT_OF(got[i]);
    for (int64_t r = 0; r < n_rows; r++)
        n_expected += a.counted[r] >= 0 && (a.counted[r] & 1) && a.tokens[r] >= 5 && a.tokens[r] < 5 + N_COLS;
    if (n_output != n_expected)
        check_fail(c, "%lld output tokens are counted, expected %lld", (long long)n_output,
                   (long long)n_expected);
    check_end(c);
}

void check_count_tokens(check *c)
{
    for (int64_t n = 0; n <= 700; n = n * 4 + 3)
        count_case(c, n, n % 2 ? 90 : 9);
}

void check_clear_counts(check *c)
{
    for (int64_t n = 0; n <= 600; n = n * 3 + 1) {
        check_case(c, "n %lld", (long long)n);
        uint32_t *got = check_out(c, n, sizeof(*got)), *want = check_mem(c, n, sizeof(*want));
        c->ops->clear_counts(c->pools[0], &(phx_clear_counts_args){got, n});
        check_same(c, "counts", want, got, n, sizeof(*got));
        check_end(c);
    }
}

/* ---- penalise ---- */

static phx_sample_row *rows_of(check *c, int64_t n_rows)
{
    static const float temperatures[] = {0.0f, 1.0f, 0.7f, 2.5f};
    static const float top_ps[] = {1.0f, 0.5f, 0.05f, 0.95f, 1.0f};
    static const uint32_t top_ks[] = {0, 0, 1, 40, 0, 300, 100000};
    phx_sample_row *rows = check_mem(c, n_rows, sizeof(*rows));
    for (int64_t r = 0; r < n_rows; r++)
        rows[r] = (phx_sample_row){
            .slot = r % 6 == 5 ? -1 : (int32_t)(n_rows - 1 - r),
            .place = r % 6 == 5 || r % 7 == 3 ? -1 : (int32_t)(n_rows - 1 - r),
            .temperature = temperatures[phx_rng_below(&c->rng, 4)],
            .top_p = top_ps[phx_rng_below(&c->rng, 5)],
            .min_p = phx_rng_below(&c->rng, 3) ? 0.0f : 0.02f,
            .top_k = top_ks[phx_rng_below(&c->rng, 7)],
            .presence_penalty = phx_rng_unit(phx_rng_u64(&c->rng)) - 0.5f,
            .frequency_penalty = phx_rng_unit(phx_rng_u64(&c->rng)),
            .repetition_penalty = phx_rng_below(&c->rng, 2) ? 1.0f : 1.3f,
            .counting = phx_rng_below(&c->rng, 3) > 0,
            .n_bias = phx_rng_below(&c->rng, 2) ? 0 : phx_rng_below(&c->rng, 20),
            .n_top = phx_rng_below(&c->rng, 5),
        };
    return rows;
}

static void penalise_case(check *c, int64_t n_rows, int64_t n_cols)
{
    enum { STRIDE = 24 };
    check_case(c, "n_rows %lld n_cols %lld", (long long)n_rows, (long long)n_cols);
    const int64_t n = n_rows * n_cols;
    uint32_t *counts = check_mem(c, n, sizeof(*counts));
    for (int64_t i = 0; i < n; i++)
        counts[i] = phx_rng_below(&c->rng, 4) ? 0 : phx_rng_below(&c->rng, 9);
    if (n > 0)
        counts[0] = UINT32_MAX;
    phx_penalise_args a = {.n_rows = n_rows,
                           .n_cols = n_cols,
                           .first_id = 100,
                           .rows = rows_of(c, n_rows),
                           .counts = counts,
                           .bias_ids = random_ids(c, n_rows * STRIDE, 95, (uint32_t)n_cols / 2 + 10),
                           .bias = check_floats(c, n_rows * STRIDE, CHECK_RANDOM),
                           .bias_stride = STRIDE};
    const float *logits = check_floats(c, n, CHECK_RANDOM);
    float *want = check_out(c, n, sizeof(*want)), *got = check_out(c, n, sizeof(*got));
    memcpy(want, logits, (size_t)n * sizeof(*want));
    memcpy(got, logits, (size_t)n * sizeof(*got));
    a.logits = want;
    c->ref->penalise(c->ref_pool, &a);
    a.logits = got;
    c->ops->penalise(c->pools[1], &a);
    check_same(c, "logits", want, got, n, sizeof(*got));
    for (int64_t r = 0; r < n_rows; r++) {
        const bool idle = a.rows[r].slot < 0 || (!a.rows[r].counting && !a.rows[r].n_bias);
        const bool changed =
            memcmp(got + r * n_cols, logits + r * n_cols, (size_t)n_cols * sizeof(*got)) != 0;
        if (idle && changed)
            check_fail(c, "row %lld changes, and asks for nothing", (long long)r);
        if (!idle && a.rows[r].counting && a.rows[r].presence_penalty != 0 && n_cols > 60 && !changed)
            check_fail(c, "row %lld has penalties and does not change", (long long)r);
    }
    check_end(c);
}

void check_penalise(check *c)
{
    for (int64_t n_rows = 0; n_rows <= 13; n_rows = n_rows * 3 + 1)
        penalise_case(c, n_rows, 300);
    for (int64_t n_cols = 1; n_cols <= 260; n_cols += check_step(c, 3))
        penalise_case(c, 6, n_cols);
}

/* ---- choose ---- */

typedef struct choose_setup {
    uint32_t n_shares;
    int64_t n_rows;
    int64_t n_vocab;
    uint32_t n_top;
    uint32_t range; /* of the logits, in steps of 1 / 64: few make many ties */
    float first;    /* added in the first leaf, so that it runs out of offers before the others */
} choose_setup;

/* Offers of every share, made by the reference from whole rows of logits. */
static uint32_t *offers_of(check *c, const choose_setup *s, const float *logits, const phx_choose_args *a)
{
    const int64_t words = phx_offers_words(a->shape);
    uint32_t *offers = check_mem(c, s->n_shares * words, sizeof(*offers));
    const uint32_t n_leaves = a->shape.n_leaves, n_all = s->n_shares * n_leaves;
    for (uint32_t share = 0; share < s->n_shares; share++) {
        const phx_offers o = phx_offers_in(offers + share * words, a->shape);
        const int64_t first = share * n_leaves * s->n_vocab / n_all;
        int64_t *bounds = check_mem(c, n_leaves + 1, sizeof(*bounds));
        for (uint32_t leaf = 0; leaf <= n_leaves; leaf++)
            bounds[leaf] = (share * n_leaves + leaf) * s->n_vocab / n_all - first;
        c->ref->vocab_top(c->ref_pool, &(phx_vocab_top_args){.logits = logits + first,
                                                             .stride = s->n_vocab,
                                                             .n_rows = s->n_rows,
                                                             .n_leaves = n_leaves,
                                                             .bounds = bounds,
                                                             .first_id = (int32_t)first,
                                                             .inv_temperature = a->inv_temperature,
                                                             .n_top = s->n_top,
                                                             .lse = o.lse,
                                                             .ids = o.ids,
                                                             .values = o.values});
        c->ref->noisy_top(c->ref_pool, &(phx_noisy_top_args){.logits = logits + first,
                                                             .stride = s->n_vocab,
                                                             .n_rows = s->n_rows,
                                                             .n_leaves = n_leaves,
                                                             .bounds = bounds,
                                                             .first_id = (int32_t)first,
                                                             .inv_temperature = a->inv_temperature,
                                                             .noise = a->noise,
                                                             .values = o.noisy,
                                                             .ids = o.noisy_ids,
                                                             .chosen_logits = o.noisy_logits});
    }
    return offers;
}

typedef struct whole { /* a row's tokens, sorted by brute force */
    phx_candidate *all;
    int64_t n;
} whole;

static phx_order_state whole_at(void *order, int64_t i, phx_candidate *ret_candidate)
{
    const whole *w = order;
    if (i >= w->n)
        return PHX_ORDER_END;
    *ret_candidate = w->all[i];
    return PHX_ORDER_HAS;
}

/* What is chosen from all logits of the row, by sorting them: the same, or the candidates do not reach. */
static void check_choice(check *c, const choose_setup *s, const phx_choose_args *a, const float *logits,
                         int64_t r)
{
    const phx_sample_row *row = &a->rows[r];
    const phx_choice *choice = &a->choices[r];
    whole w = {check_mem(c, s->n_vocab, sizeof(phx_candidate)), s->n_vocab};
    phx_candidate token = {-1, 0}, noisy = {-1, 0};
    float noisy_value = 0;
    for (int64_t i = 0; i < s->n_vocab; i++) {
        const phx_candidate mine = {(int32_t)i, logits[i]};
        const uint64_t *noise = a->noise + 4 * r;
        const uint64_t bits = phx_rng_key(noise[0], noise[1], noise[2], (uint64_t)i);
        const float value = mine.logit * a->inv_temperature[r] + -phx_logf(-phx_logf(phx_rng_unit(bits)));
        int64_t at = i;
        for (; at > 0 && phx_candidate_before(mine, w.all[at - 1]); at--)
            w.all[at] = w.all[at - 1];
        w.all[at] = mine;
        noisy = noisy.id < 0 || value > noisy_value ? mine : noisy;
        noisy_value = noisy.id == mine.id ? value : noisy_value;
    }
    const phx_draw draw = {.row = row,
                           .inv_temperature = a->inv_temperature[r],
                           .noise = a->noise + 4 * r,
                           .lse_tempered = choice->lse_tempered,
                           .noisy = noisy,
                           .at = whole_at,
                           .order = &w};
    (void)phx_draw_token(&draw, &token);
    for (uint32_t i = 0; i < choice->n_top; i++)
        if (choice->top[i].id != w.all[i].id || choice->top[i].logprob != w.all[i].logit - choice->lse)
            check_fail(c, "row %lld: place %u of the largest is %d, expected %d", (long long)r, i,
                       choice->top[i].id, w.all[i].id);
    if (choice->n_top != (row->n_top < s->n_vocab ? row->n_top : (uint32_t)s->n_vocab))
        check_fail(c, "row %lld tells %u of the largest", (long long)r, choice->n_top);
    if (choice->state == PHX_CHOICE_BEYOND && !phx_is_unfiltered(row) && s->n_vocab > s->n_top)
        return;
    if (choice->state != PHX_CHOICE_MADE || choice->id != token.id ||
        (row->place >= 0 && a->last[row->place] != token.id) || choice->logprob != token.logit - choice->lse)
        check_fail(c, "row %lld: state %d, token %d, expected %d", (long long)r, choice->state, choice->id,
                   token.id);
}

static void choose_case(check *c, const choose_setup *s)
{
    check_case(c, "shares %u n_rows %lld n_vocab %lld n_top %u range %u first %g", s->n_shares,
               (long long)s->n_rows, (long long)s->n_vocab, s->n_top, s->range, (double)s->first);
    float *logits = check_mem(c, s->n_rows * s->n_vocab, sizeof(*logits));
    for (int64_t i = 0; i < s->n_rows * s->n_vocab; i++)
        logits[i] = ((float)phx_rng_below(&c->rng, s->range) - (float)(s->range / 2)) / 64.0f;
    for (int64_t i = 0; i < s->n_rows * s->n_vocab; i++)
        logits[i] += i % s->n_vocab < s->n_vocab / PHX_OFFERING_MAX ? s->first : 0.0f;
    float *inverse = check_mem(c, s->n_rows, sizeof(*inverse));
    uint64_t *noise = check_mem(c, 4 * s->n_rows, sizeof(*noise));
    phx_choose_args a = {.shape = {s->n_rows, PHX_OFFERING_MAX / s->n_shares, s->n_top},
                         .n_shares = s->n_shares,
                         .n_vocab = s->n_vocab,
                         .rows = rows_of(c, s->n_rows),
                         .inv_temperature = inverse,
                         .noise = noise};
    for (int64_t r = 0; r < s->n_rows; r++) {
        inverse[r] = a.rows[r].temperature > 0 ? 1.0f / a.rows[r].temperature : 1.0f;
        for (int i = 0; i < 3; i++)
            noise[4 * r + i] = phx_rng_u64(&c->rng) >> (i * 20);
        noise[4 * r + 3] = phx_is_unfiltered(&a.rows[r]);
    }
    a.offers = offers_of(c, s, logits, &a);
    phx_choose_args both[2] = {a, a};
    for (int i = 0; i < 2; i++) {
        both[i].choices = check_out(c, s->n_rows, sizeof(phx_choice));
        both[i].last = check_out(c, s->n_rows, sizeof(int32_t));
        memset(both[i].last, 0xff, (size_t)s->n_rows * sizeof(int32_t));
        (i == 0 ? c->ref : c->ops)->choose(i == 0 ? c->ref_pool : c->pools[1], &both[i]);
    }
    check_same(c, "choices", both[0].choices, both[1].choices, s->n_rows, sizeof(phx_choice));
    check_same(c, "last tokens", both[0].last, both[1].last, s->n_rows, sizeof(int32_t));
    for (int64_t r = 0; r < s->n_rows; r++) {
        if (a.rows[r].slot >= 0)
            check_choice(c, s, &both[1], logits + r * s->n_vocab, r);
        else if (both[1].choices[r].state != PHX_CHOICE_NONE || both[1].choices[r].id != -1)
            check_fail(c, "row %lld has no slot and a choice", (long long)r);
    }
    check_end(c);
}

/* A log-sum-exp that is no number is told, and no token is chosen. */
static void bad_choice(check *c)
{
    check_case(c, "a row that is not finite");
    phx_offers_shape shape = {1, PHX_OFFERING_MAX, 4};
    const int64_t words = phx_offers_words(shape);
    uint32_t *offers = check_mem(c, words, sizeof(*offers));
    phx_offers_in(offers, shape).lse[3] = INFINITY;
    float *inverse = check_mem(c, 1, sizeof(*inverse));
    phx_choice *choice = check_out(c, 1, sizeof(*choice));
    int32_t *last = check_out(c, 1, sizeof(*last));
    phx_sample_row *rows = rows_of(c, 1);
    *last = 5;
    *inverse = 1;
    c->ops->choose(c->pools[0], &(phx_choose_args){.offers = offers,
                                                   .shape = shape,
                                                   .n_shares = 1,
                                                   .n_vocab = 100,
                                                   .rows = rows,
                                                   .inv_temperature = inverse,
                                                   .noise = check_mem(c, 4, sizeof(uint64_t)),
                                                   .choices = choice,
                                                   .last = last});
    if (choice->state != PHX_CHOICE_BAD || choice->id != -1 || *last != 5)
        check_fail(c, "state %d, token %d", choice->state, choice->id);
    check_end(c);
}

void check_choose(check *c)
{
    for (uint32_t n_shares = 1; n_shares <= 8; n_shares *= 2) {
        choose_case(c, &(choose_setup){n_shares, check_rows(c, 24), 1200, 64, 2000, 0});
        choose_case(c, &(choose_setup){n_shares, 7, 90, 4, 12, 0});
    }
    for (int64_t n_vocab = 1; n_vocab <= 600; n_vocab = n_vocab * 2 + 3)
        choose_case(c, &(choose_setup){2, 12, n_vocab, 64, 300, 0});
    choose_case(c, &(choose_setup){1, check_rows(c, 40), 4000, 64, 100, 0});
    choose_case(c, &(choose_setup){4, 30, 2000, 64, 100, 4});
    choose_case(c, &(choose_setup){1, 0, 50, 4, 10, 0});
    bad_choice(c);
}
