/* kernels/cuda/sample.cu - the ops between one step's logits and the next step's tokens. choose: a block of
 * threads per row. Each candidate finds its place among all of them, so nothing is sorted; masses and noise
 * are computed side by side, and one thread adds and compares in the order of kernels/choose.c. */
#include "base/rng.h"
#include "kernels/choose.h"
#include "kernels/cuda/number.cuh"

#define THREADS 256

static __global__ void feed_tokens(const phx_feed_tokens_args a)
{
    const int64_t r = phx_thread_of_grid();
    if (r >= a.n_rows)
        return;
    int32_t token = a.ids[r];
    if (token < 0)
        token = a.slots[r] >= 0 ? a.last[a.slots[r]] : -1;
    const bool held = token >= a.first_id && token < a.end_id;
    a.tokens[r] = token;
    a.local[r] = held ? (int32_t)(token - a.first_id) : -1;
}

cudaError_t phx_feed_tokens_cuda(cudaStream_t stream, const phx_feed_tokens_args *args)
{
    if (args->n_rows == 0)
        return cudaSuccess;
    return PHX_LAUNCH(feed_tokens, phx_grid(args->n_rows, THREADS), THREADS, 0, stream, *args);
}

static __global__ void put_tokens(const phx_put_tokens_args a)
{
    const int64_t i = phx_thread_of_grid();
    if (i < a.n && a.slots[i] >= 0)
        a.last[a.slots[i]] = a.tokens[i];
}

cudaError_t phx_put_tokens_cuda(cudaStream_t stream, const phx_put_tokens_args *args)
{
    if (args->n == 0)
        return cudaSuccess;
    return PHX_LAUNCH(put_tokens, phx_grid(args->n, THREADS), THREADS, 0, stream, *args);
}

static __global__ void count_tokens(const phx_count_tokens_args a)
{
    const int64_t r = phx_thread_of_grid();
    if (r >= a.n_rows || a.counted[r] < 0 || a.tokens[r] < 0)
        return;
    const int64_t col = a.tokens[r] - a.first_id;
    if (col < 0 || col >= a.n_cols)
        return;
    uint32_t *count = a.counts + (a.counted[r] >> 1) * a.n_cols + col;
    phx_atomic_or(count, PHX_COUNT_SEEN);
    if ((a.counted[r] & 1) != 0 && !PHX_PLANT(30))
        phx_atomic_add((int32_t *)count, (int32_t)PHX_COUNT_OUTPUT);
}

cudaError_t phx_count_tokens_cuda(cudaStream_t stream, const phx_count_tokens_args *args)
{
    if (args->n_rows == 0)
        return cudaSuccess;
    return PHX_LAUNCH(count_tokens, phx_grid(args->n_rows, THREADS), THREADS, 0, stream, *args);
}

static __global__ void clear_counts(const phx_clear_counts_args a)
{
    const int64_t i = phx_thread_of_grid();
    if (i < a.n)
        a.counts[i] = 0;
}

cudaError_t phx_clear_counts_cuda(cudaStream_t stream, const phx_clear_counts_args *args)
{
    if (args->n == 0)
        return cudaSuccess;
    return PHX_LAUNCH(clear_counts, phx_grid(args->n, THREADS), THREADS, 0, stream, *args);
}

/* A block per row. An id that is named again is added to by the thread of its first entry, in order. */
static __global__ void add_bias(const phx_penalise_args a)
{
    const int64_t r = blockIdx.x;
    const phx_sample_row row = a.rows[r];
    const int64_t n = row.slot >= 0 ? row.n_bias : 0;
    const int32_t *ids = a.bias_ids + row.slot * a.bias_stride;
    const float *bias = a.bias + row.slot * a.bias_stride;
    for (int64_t i = threadIdx.x; i < n; i += THREADS) {
        const int64_t col = ids[i] - a.first_id;
        bool first = col >= 0 && col < a.n_cols;
        for (int64_t before = 0; first && before < i; before++)
            first = ids[before] != ids[i];
        for (int64_t again = i; first && again < n; again++) {
            if (ids[again] == ids[i] && !(PHX_PLANT(33) && again > i))
                a.logits[r * a.n_cols + col] += bias[again];
        }
    }
}

static __global__ void penalise(const phx_penalise_args a)
{
    const int64_t i = phx_thread_of_grid();
    if (i >= a.n_rows * a.n_cols)
        return;
    const phx_sample_row &row = a.rows[i / a.n_cols];
    if (row.slot < 0 || row.counting == 0)
        return;
    const uint32_t count = a.counts[row.slot * a.n_cols + i % a.n_cols];
    const uint32_t n_output = PHX_COUNT_OF(count);
    float logit = a.logits[i];
    if ((count & PHX_COUNT_SEEN) != 0 && row.repetition_penalty != 1.0f)
        logit = logit > 0.0f ? logit / row.repetition_penalty : logit * row.repetition_penalty;
    if (n_output != 0)
        logit -= (float)n_output * row.frequency_penalty + row.presence_penalty;
    a.logits[i] = logit;
}

cudaError_t phx_penalise_cuda(cudaStream_t stream, const phx_penalise_args *args)
{
    const int64_t n = args->n_rows * args->n_cols;
    if (n == 0)
        return cudaSuccess;
    const cudaError_t error = PHX_LAUNCH(add_bias, (unsigned)args->n_rows, THREADS, 0, stream, *args);
    if (error != cudaSuccess)
        return error;
    return PHX_LAUNCH(penalise, phx_grid(n, THREADS), THREADS, 0, stream, *args);
}

/* ---- choose ---- */

typedef struct choose_row {
    const phx_choose_args &a;
    int64_t r;
    int64_t n_leaves; /* of all shares */

    __device__ phx_offers share(int64_t leaf) const
    {
        const int64_t words = phx_offers_words(a.shape);
        return phx_offers_in((uint32_t *)a.offers + leaf / a.shape.n_leaves * words, a.shape);
    }
    __device__ int64_t cell(int64_t leaf) const
    {
        return r * a.shape.n_leaves + leaf % a.shape.n_leaves;
    }
    __device__ int64_t n_tokens(int64_t leaf) const
    {
        return (leaf + 1) * a.n_vocab / n_leaves - leaf * a.n_vocab / n_leaves;
    }
} choose_row;

/* Every thread computes it, with the same bits. */
PHX_DEVICE float choose_lse(const choose_row &row, int64_t which)
{
    float max = -INFINITY;
    float sum = 0.0f;
    for (int64_t leaf = 0; leaf < row.n_leaves; leaf++) {
        const float lse = row.share(leaf).lse[row.cell(leaf) * 2 + which];
        max = lse > max ? lse : max;
    }
    for (int64_t leaf = 0; leaf < row.n_leaves; leaf++) {
        const float lse = row.share(leaf).lse[row.cell(leaf) * 2 + which];
        if (lse > -INFINITY)
            sum += phx_expf(lse - max);
    }
    return max + phx_logf(sum);
}

typedef struct choose_shared { /* [PHX_OFFERED_MAX], in the order of tokens */
    phx_shared<int32_t> ids;
    phx_shared<float> logits;
    phx_shared<float> masses;
    phx_shared<float> noisy;
    phx_shared<int32_t> ends; /* [PHX_OFFERING_MAX] places up to which the order is known for each leaf */
} choose_shared;

/* Sets the candidates at their places, with what the draw needs of them. */
PHX_DEVICE void choose_places(const choose_row &row, float lse_tempered, const choose_shared &s)
{
    PHX_SHARED(int32_t, ids, PHX_OFFERED_MAX);
    PHX_SHARED(float, logits, PHX_OFFERED_MAX);
    const int64_t n_top = row.a.shape.n_top;
    const int64_t n = row.n_leaves * n_top;
    const uint64_t *noise = row.a.noise + row.r * 4;
    const float inverse = row.a.inv_temperature[row.r];
    for (int64_t i = threadIdx.x; i < n; i += THREADS) {
        const phx_offers o = row.share(i / n_top);
        const int64_t at = row.cell(i / n_top) * n_top + i % n_top;
        ids[i] = i % n_top < row.n_tokens(i / n_top) ? o.ids[at] : -1;
        logits[i] = o.values[at];
    }
    if (threadIdx.x < PHX_OFFERING_MAX)
        s.ends[threadIdx.x] = PHX_OFFERED_MAX;
    __syncthreads();
    for (int64_t i = threadIdx.x; i < n; i += THREADS) {
        const phx_candidate mine = {ids[i], logits[i]};
        int32_t place = 0;
        if (mine.id < 0)
            continue;
        for (int64_t other = 0; other < n; other++) {
            const phx_candidate it = {ids[other], logits[other]};
            const bool same =
                it.id == mine.id && it.logit == mine.logit; /* of ranks that are only modelled */
            place += it.id >= 0 && (same ? other < i : phx_candidate_before(it, mine)) ? 1 : 0;
        }
        const uint64_t bits = phx_rng_key(noise[0], noise[1], noise[2], (uint64_t)mine.id);
        s.ids[place] = mine.id;
        s.logits[place] = mine.logit;
        s.masses[place] = phx_expf(mine.logit * inverse - lse_tempered);
        s.noisy[place] = mine.logit * inverse + -phx_logf(-phx_logf(phx_rng_unit(bits)));
        if (i % n_top == n_top - 1 && row.n_tokens(i / n_top) > n_top && !PHX_PLANT(31))
            s.ends[i / n_top] = place + 1; /* beyond it the leaf has tokens that it did not offer */
    }
    __syncthreads();
}

PHX_DEVICE phx_candidate choose_noisy(const choose_row &row)
{
    phx_candidate best = {-1, 0.0f};
    float best_value = -INFINITY;
    for (int64_t leaf = 0; leaf < row.n_leaves; leaf++) {
        const phx_offers o = row.share(leaf);
        const int64_t cell = row.cell(leaf);
        if (o.noisy_ids[cell] >= 0 && (best.id < 0 || o.noisy[cell] > best_value)) {
            best.id = o.noisy_ids[cell];
            best.logit = o.noisy_logits[cell];
            best_value = o.noisy[cell];
        }
    }
    return best;
}

/* kernels/choose.c, of n known candidates. */
PHX_DEVICE phx_choice_state choose_filtered(const phx_sample_row &row, int64_t n, bool has_more,
                                            const choose_shared &s, phx_candidate &token)
{
    const int64_t limit = row.top_k != 0 ? (int64_t)row.top_k : INT64_MAX;
    float all = 1.0f;
    float mass = 0.0f;
    float best_value = 0.0f;
    if (row.top_k != 0 && row.top_p < 1.0f && !PHX_PLANT(32)) {
        if (limit > n && has_more)
            return PHX_CHOICE_BEYOND;
        all = 0.0f;
        for (int64_t i = 0; i < limit && i < n; i++)
            all += s.masses[i];
    }
    for (int64_t i = 0; i < limit; i++) {
        if (i == n && has_more)
            return PHX_CHOICE_BEYOND;
        if (i == n || (i > 0 && s.masses[i] < row.min_p * s.masses[0]))
            break;
        if (token.id < 0 || s.noisy[i] > best_value) {
            token.id = s.ids[i];
            token.logit = s.logits[i];
            best_value = s.noisy[i];
        }
        mass += s.masses[i];
        if (row.top_p < 1.0f && mass >= row.top_p * all)
            break;
    }
    return PHX_CHOICE_MADE;
}

/* One thread: the choice of a row whose candidates lie in s. */
PHX_DEVICE void choose_one(const choose_row &from, const choose_shared &s, phx_choice *choice)
{
    const phx_sample_row &row = from.a.rows[from.r];
    phx_candidate token = {-1, 0.0f};
    int64_t n = 0;
    bool has_more = false;
    for (int64_t leaf = 0; leaf < from.n_leaves; leaf++) {
        const int64_t n_tokens = from.n_tokens(leaf);
        n += n_tokens < from.a.shape.n_top ? n_tokens : from.a.shape.n_top;
        has_more = has_more || n_tokens > from.a.shape.n_top;
    }
    for (int64_t leaf = 0; leaf < from.n_leaves; leaf++)
        n = s.ends[leaf] < n ? s.ends[leaf] : n;
    choice->n_top = row.n_top < n ? row.n_top : (uint32_t)n;
    for (uint32_t i = 0; i < choice->n_top; i++) {
        choice->top[i].id = s.ids[i];
        choice->top[i].logprob = s.logits[i] - choice->lse;
    }
    phx_choice_state state = PHX_CHOICE_MADE;
    if (phx_is_unfiltered(&row)) {
        token = choose_noisy(from);
    } else if (row.temperature > 0.0f) {
        state = choose_filtered(row, n, has_more, s, token);
    } else {
        token.id = s.ids[0];
        token.logit = s.logits[0];
    }
    choice->state = state;
    if (state != PHX_CHOICE_MADE)
        return;
    choice->id = token.id;
    choice->logprob = token.logit - choice->lse;
    if (row.place >= 0)
        from.a.last[row.place] = token.id;
}

static __global__ void __launch_bounds__(THREADS) choose(const phx_choose_args a)
{
    PHX_SHARED(int32_t, ids, PHX_OFFERED_MAX);
    PHX_SHARED(float, logits, PHX_OFFERED_MAX);
    PHX_SHARED(float, masses, PHX_OFFERED_MAX);
    PHX_SHARED(float, noisy, PHX_OFFERED_MAX);
    PHX_SHARED(int32_t, ends, PHX_OFFERING_MAX);
    const choose_shared s = {ids, logits, masses, noisy, ends};
    const choose_row from = {a, blockIdx.x, (int64_t)a.n_shares * a.shape.n_leaves};
    phx_choice *choice = a.choices + from.r;
    uint32_t *words = (uint32_t *)(void *)choice;
    const bool has_slot = a.rows[from.r].slot >= 0;
    for (int64_t i = threadIdx.x; i < (int64_t)(sizeof(*choice) / sizeof(*words)); i += THREADS)
        words[i] = 0; /* also what is not used: choices are compared as memory */
    __syncthreads();
    if (threadIdx.x == 0)
        choice->id = -1;
    if (!has_slot)
        return;
    const float lse = choose_lse(from, 0);
    const float lse_tempered = choose_lse(from, 1);
    const bool is_good = isfinite(lse) && isfinite(lse_tempered);
    if (threadIdx.x == 0) {
        choice->state = PHX_CHOICE_BAD;
        choice->lse = lse;
        choice->lse_tempered = lse_tempered;
    }
    if (!is_good)
        return;
    choose_places(from, lse_tempered, s);
    if (threadIdx.x == 0)
        choose_one(from, s, choice);
}

cudaError_t phx_choose_cuda(cudaStream_t stream, const phx_choose_args *args)
{
    const int64_t n_leaves = (int64_t)args->n_shares * args->shape.n_leaves;
    if (args->shape.n_rows == 0)
        return cudaSuccess;
    if (n_leaves > PHX_OFFERING_MAX || n_leaves * args->shape.n_top > PHX_OFFERED_MAX)
        return cudaErrorInvalidValue;
    return PHX_LAUNCH(choose, phx_grid(args->shape.n_rows, 1), THREADS, 0, stream, *args);
}
