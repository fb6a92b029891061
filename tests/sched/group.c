/* tests/sched/group.c - a rank group that computes nothing but believes nothing. */
#include "tests/sched/group.h"

#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"

#define WRONG(err, ...) PHX_FAIL((err), PHX_ERR_INVALID, __VA_ARGS__)

typedef struct entry {
    bool is_filled;
    uint32_t token;
    uint64_t digest;
    uint64_t step; /* that filled it */
} entry;

typedef struct slot {
    bool is_open;
    uint64_t id;
    uint32_t n_tokens, n_reused, n_target, n_blocks;
    bool is_warming;
    bool has_result;
    uint32_t last_token;
    uint32_t drafts[PHX_DRAFTS_MAX], n_drafts;
    uint32_t *blocks; /* [n_table] */
} slot;

typedef struct answer {
    phx_step_result result;
    phx_row_result *rows; /* [n_slots][1 + drafts] */
} answer;

struct group {
    phx_sched_config config;
    const known_requests *requests;
    uint32_t n_table;
    entry *entries;       /* [n_blocks][PHX_BLOCK_TOKENS] */
    uint64_t *named_last; /* [n_blocks] last step that named the block */
    slot *slots;
    uint32_t *tables;
    uint64_t n_accepted, n_applied; /* steps of this epoch */
    answer *answers;                /* [n_in_flight_max] */
    phx_row_result *answer_rows;
    uint32_t *ids; /* [n_context] scratch */
};

static phx_code take_closes(group *g, const phx_step_plan *plan, phx_error *err);
static phx_code take_open(group *g, const phx_step_plan *plan, const phx_slot_open *open, phx_error *err);
static phx_code take_row(group *g, const phx_step_plan *plan, const phx_step_row *row, answer *to,
                         phx_error *err);
static phx_code take_blocks(group *g, const phx_step_plan *plan, const phx_step_row *row, phx_error *err);
static phx_code check_flags(const phx_step_plan *plan, const phx_step_row *row, const slot *s,
                            const known_request *known, phx_error *err);
static phx_code fill_entries(group *g, const phx_step_plan *plan, const phx_step_row *row, phx_error *err);
static void sample(group *g, const phx_step_row *row, answer *to);
static void make_drafts(const group *g, slot *s, const known_request *known, uint32_t n);
static phx_code check_entries(const group *g, const slot *s, const known_request *known, phx_error *err);

group *group_create(const phx_sched_config *config, const known_requests *requests)
{
    group *g = phx_alloc(1, sizeof(*g));
    assert(g);
    const phx_step_limits *limits = &config->limits;
    g->config = *config;
    g->requests = requests;
    g->n_table = (limits->n_context + PHX_BLOCK_TOKENS - 1) / PHX_BLOCK_TOKENS;
    g->entries = phx_alloc((size_t)limits->n_blocks * PHX_BLOCK_TOKENS, sizeof(*g->entries));
    g->named_last = phx_alloc(limits->n_blocks, sizeof(*g->named_last));
    g->slots = phx_alloc(limits->n_slots, sizeof(*g->slots));
    g->tables = phx_alloc((size_t)limits->n_slots * g->n_table, sizeof(*g->tables));
    g->answers = phx_alloc(config->n_in_flight_max, sizeof(*g->answers));
    const size_t n_results = (size_t)limits->n_slots * (1 + limits->n_drafts);
    g->answer_rows = phx_alloc(config->n_in_flight_max * n_results, sizeof(*g->answer_rows));
    g->ids = phx_alloc(limits->n_context, sizeof(*g->ids));
    assert(g->entries && g->named_last && g->slots && g->tables && g->answers && g->answer_rows && g->ids);
    for (uint32_t i = 0; i < limits->n_slots; i++)
        g->slots[i].blocks = g->tables + (size_t)i * g->n_table;
    for (uint32_t i = 0; i < config->n_in_flight_max; i++)
        g->answers[i].rows = g->answer_rows + i * n_results;
    return g;
}

void group_destroy(group *g)
{
    if (!g)
        return;
    phx_free(g->entries);
    phx_free(g->named_last);
    phx_free(g->slots);
    phx_free(g->tables);
    phx_free(g->answers);
    phx_free(g->answer_rows);
    phx_free(g->ids);
    phx_free(g);
}

void group_lose(group *g)
{
    const phx_step_limits *limits = &g->config.limits;
    memset(g->entries, 0, (size_t)limits->n_blocks * PHX_BLOCK_TOKENS * sizeof(*g->entries));
    memset(g->named_last, 0, limits->n_blocks * sizeof(*g->named_last));
    for (uint32_t i = 0; i < limits->n_slots; i++)
        g->slots[i].is_open = false;
    g->n_accepted = g->n_applied = 0;
}

phx_code group_accept(group *g, const phx_step_plan *plan, const phx_step_result **ret_result, phx_error *err)
{
    phx_code rc = phx_step_plan_check(plan, &g->config.limits, err);
    if (rc != PHX_OK)
        return rc;
    if (plan->step != g->n_accepted + 1)
        return WRONG(err, "step %llu after %llu", (unsigned long long)plan->step,
                     (unsigned long long)g->n_accepted);
    if (g->n_accepted - g->n_applied >= g->config.n_in_flight_max)
        return WRONG(err, "too many steps in flight");
    if (plan->n_rows == 0)
        return WRONG(err, "a step without rows");
    answer *to = &g->answers[plan->step % g->config.n_in_flight_max];
    to->result = (phx_step_result){.step = plan->step,
                                   .rows = to->rows,
                                   .compute_us = 100 + (uint32_t)(phx_rng_key(plan->step, 0, 0, 3) % 900)};
    g->n_accepted++;
    rc = take_closes(g, plan, err);
    for (uint32_t i = 0; i < plan->n_opens && rc == PHX_OK; i++)
        rc = take_open(g, plan, &plan->opens[i], err);
    for (uint32_t i = 0; i < plan->n_rows && rc == PHX_OK; i++)
        rc = take_row(g, plan, &plan->rows[i], to, err);
    if (rc == PHX_OK)
        *ret_result = &to->result;
    return rc;
}

void group_applied(group *g)
{
    assert(g->n_applied < g->n_accepted);
    g->n_applied++;
}

uint32_t group_n_in_flight(const group *g)
{
    return (uint32_t)(g->n_accepted - g->n_applied);
}

static known_request *find(const group *g, uint64_t id)
{
    return id >= 1 && id <= g->requests->n ? &g->requests->all[id - 1] : NULL;
}

static phx_code take_closes(group *g, const phx_step_plan *plan, phx_error *err)
{
    for (uint32_t i = 0; i < plan->n_closes; i++) {
        slot *s = &g->slots[plan->closes[i]];
        if (!s->is_open)
            return WRONG(err, "close of slot %u, which is not open", plan->closes[i]);
        s->is_open = false;
    }
    return PHX_OK;
}

static phx_code take_open(group *g, const phx_step_plan *plan, const phx_slot_open *open, phx_error *err)
{
    slot *s = &g->slots[open->slot];
    known_request *known = find(g, open->request_id);
    if (s->is_open)
        return WRONG(err, "open of slot %u, which is open", open->slot);
    if (!known || !known->is_alive)
        return WRONG(err, "open for request %llu, which is not alive", (unsigned long long)open->request_id);
    for (uint32_t i = 0; i < g->config.limits.n_slots; i++)
        if (g->slots[i].is_open && g->slots[i].id == open->request_id)
            return WRONG(err, "request %llu has two slots", (unsigned long long)open->request_id);
    const phx_sched_request *request = &known->request;
    const uint32_t n_known = request->n_prompt + known->n_delivered;
    const uint32_t n_reused_max = known->n_warm       ? known->n_warm
                                  : request->no_reuse ? 0
                                                      : (n_known - 1) / PHX_BLOCK_TOKENS * PHX_BLOCK_TOKENS;
    if (open->n_prompt != request->n_prompt)
        return WRONG(err, "slot %u: n_prompt %u of %u", open->slot, open->n_prompt, request->n_prompt);
    if (open->n_reused % PHX_BLOCK_TOKENS != 0 || open->n_reused > n_reused_max)
        return WRONG(err, "slot %u: %u tokens reused, at most %u may be", open->slot, open->n_reused,
                     n_reused_max);
    const phx_sampling *sampling = &request->sampling;
    if (open->sampling.seed != sampling->seed || open->sampling.n_bias != sampling->n_bias ||
        (sampling->n_bias && memcmp(open->sampling.bias_ids, sampling->bias_ids, 4 * sampling->n_bias) != 0))
        return WRONG(err, "slot %u: not the request's sampling", open->slot);
    const bool counts = sampling->repetition_penalty != 1 || sampling->frequency_penalty != 0 ||
                        sampling->presence_penalty != 0;
    if (open->n_reused_ids != (counts ? open->n_reused : 0) ||
        (open->n_reused_ids != 0 && memcmp(plan->tokens + open->reused_first, known->tokens,
                                           open->n_reused_ids * sizeof(uint32_t)) != 0))
        return WRONG(err, "slot %u: not the ids of the reused tokens", open->slot);
    const bool is_warming = known->n_warm != 0 && open->n_reused < known->n_warm;
    /* Reused rows are omitted from a capture that allows reuse. */
    if (!is_warming && open->n_reused > known->n_captured_to)
        known->n_captured_to = open->n_reused;
    *s = (slot){
        .is_open = true,
        .id = open->request_id,
        .n_tokens = open->n_reused,
        .n_reused = open->n_reused,
        .n_target = is_warming ? known->n_warm : n_known,
        .is_warming = is_warming,
        .blocks = s->blocks,
    };
    return PHX_OK;
}

static phx_code take_row(group *g, const phx_step_plan *plan, const phx_step_row *row, answer *to,
                         phx_error *err)
{
    slot *s = &g->slots[row->slot];
    if (!s->is_open)
        return WRONG(err, "row of slot %u, which is not open", row->slot);
    known_request *known = find(g, s->id);
    if (!known->is_alive)
        return WRONG(err, "row of request %llu, which has ended", (unsigned long long)s->id);
    phx_code rc = take_blocks(g, plan, row, err);
    if (rc == PHX_OK)
        rc = check_flags(plan, row, s, known, err);
    if (rc == PHX_OK)
        rc = fill_entries(g, plan, row, err);
    if (rc != PHX_OK)
        return rc;
    if (row->flags & PHX_ROW_SAMPLE)
        sample(g, row, to);
    rc = check_entries(g, s, known, err);
    if (rc != PHX_OK)
        return rc;
    if ((row->flags & PHX_ROW_CAPTURE) && s->n_tokens - row->n_tokens <= known->n_captured_to)
        known->n_captured_to = s->n_tokens > known->n_captured_to ? s->n_tokens : known->n_captured_to;
    make_drafts(g, s, known, row->n_drafts);
    if (row->flags & PHX_ROW_CLOSE)
        s->is_open = false;
    return PHX_OK;
}

/* After the last token, or after each that comes from the slot until a draft does not hold; the length falls
 * back to what holds. */
static void sample(group *g, const phx_step_row *row, answer *to)
{
    slot *s = &g->slots[row->slot];
    const uint32_t n_end = s->n_tokens;
    const uint32_t n_fed = row->flags & PHX_ROW_FROM_SLOT ? row->n_tokens - 1 : 0;
    for (uint32_t i = 0; i < n_end; i++)
        g->ids[i] =
            g->entries[(size_t)s->blocks[i / PHX_BLOCK_TOKENS] * PHX_BLOCK_TOKENS + i % PHX_BLOCK_TOKENS]
                .token;
    for (s->n_tokens = n_end - n_fed;; s->n_tokens++) {
        s->last_token = model_next(g->ids, s->n_tokens, g->config.limits.n_vocab);
        to->rows[to->result.n_rows++] = (phx_row_result){
            .slot = row->slot, .request_id = s->id, .token = s->last_token, .logprob = -(float)s->n_tokens};
        if (s->n_tokens == n_end || g->ids[s->n_tokens] != s->last_token)
            break;
    }
    s->has_result = true;
}

/* Mostly what the model will say; from the first wrong guess on it does not matter what. */
static void make_drafts(const group *g, slot *s, const known_request *known, uint32_t n)
{
    s->n_drafts = n;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t at = s->n_tokens + 1 + i;
        const uint32_t truth = at < known->n_tokens ? known->tokens[at] : 0;
        const bool guessed = phx_rng_key(s->id, at, s->n_tokens, 7) % 4 != 0;
        s->drafts[i] = guessed ? truth : (truth + 1) % g->config.limits.n_vocab;
    }
}

/* Appends to the table. Blocks under reused tokens were filled before, by steps that have ended; no step in
 * flight names the others, nor does another open slot. */
static phx_code take_blocks(group *g, const phx_step_plan *plan, const phx_step_row *row, phx_error *err)
{
    slot *s = &g->slots[row->slot];
    for (uint32_t i = 0; i < row->n_blocks; i++) {
        const uint32_t block = plan->blocks[row->block_first + i];
        if (s->n_blocks == g->n_table)
            return WRONG(err, "slot %u: table of %u blocks is full", row->slot, g->n_table);
        const bool is_reused = s->n_blocks < s->n_reused / PHX_BLOCK_TOKENS;
        for (uint32_t k = 0; k < PHX_BLOCK_TOKENS && is_reused; k++) {
            const entry *e = &g->entries[(size_t)block * PHX_BLOCK_TOKENS + k];
            if (!e->is_filled || e->step > g->n_applied)
                return WRONG(err, "slot %u reuses block %u before it is filled", row->slot, block);
        }
        if (!is_reused && g->named_last[block] > g->n_applied)
            return WRONG(err, "slot %u takes block %u, which step %llu in flight names", row->slot, block,
                         (unsigned long long)g->named_last[block]);
        for (uint32_t k = 0; k < g->config.limits.n_slots && !is_reused; k++)
            for (uint32_t b = 0; g->slots[k].is_open && b < g->slots[k].n_blocks; b++)
                if (g->slots[k].blocks[b] == block)
                    return WRONG(err, "slot %u takes block %u of slot %u", row->slot, block, k);
        s->blocks[s->n_blocks++] = block;
    }
    for (uint32_t i = 0; i < s->n_blocks; i++)
        g->named_last[s->blocks[i]] = plan->step;
    const uint32_t n_max = s->n_blocks * PHX_BLOCK_TOKENS;
    if (row->n_tokens > n_max - s->n_tokens || s->n_tokens + row->n_tokens > g->config.limits.n_context)
        return WRONG(err, "slot %u of %u tokens has no room for %u more", row->slot, s->n_tokens,
                     row->n_tokens);
    return PHX_OK;
}

static phx_code check_flags(const phx_step_plan *plan, const phx_step_row *row, const slot *s,
                            const known_request *known, phx_error *err)
{
    const phx_sched_request *request = &known->request;
    const uint32_t n_end = s->n_tokens + row->n_tokens;
    const bool captures = request->capture != 0 && !s->is_warming;
    if (captures != ((row->flags & PHX_ROW_CAPTURE) != 0) || (captures && plan->capture != request->capture))
        return WRONG(err, "slot %u: capture flag or mask", row->slot);
    const bool samples = n_end >= s->n_target && !s->is_warming && known->n_output_max != 0;
    if (samples != ((row->flags & PHX_ROW_SAMPLE) != 0))
        return WRONG(err, "slot %u: sample flag at %u of %u tokens", row->slot, n_end, s->n_target);
    if (s->n_tokens < s->n_target && n_end > s->n_target)
        return WRONG(err, "slot %u: prompt of %u tokens gets %u", row->slot, s->n_target, n_end);
    if ((s->is_warming || known->n_output_max == 0) && n_end > s->n_target)
        return WRONG(err, "slot %u: %u tokens of %u", row->slot, n_end, s->n_target);
    if (n_end > request->n_prompt && n_end - request->n_prompt >= known->n_output_max)
        return WRONG(err, "slot %u runs ahead of its last output", row->slot);
    if (request->n_chunk != 0 && row->n_tokens > request->n_chunk && !(row->flags & PHX_ROW_FROM_SLOT))
        return WRONG(err, "slot %u: chunk of %u, the request allows %u", row->slot, row->n_tokens,
                     request->n_chunk);
    return PHX_OK;
}

static phx_code fill_entries(group *g, const phx_step_plan *plan, const phx_step_row *row, phx_error *err)
{
    slot *s = &g->slots[row->slot];
    const known_request *known = find(g, s->id);
    if ((row->flags & PHX_ROW_FROM_SLOT) && !s->has_result)
        return WRONG(err, "slot %u has no result to continue from", row->slot);
    if ((row->flags & PHX_ROW_FROM_SLOT) && row->n_tokens > 1 + s->n_drafts)
        return WRONG(err, "slot %u keeps %u drafts, not %u", row->slot, s->n_drafts, row->n_tokens - 1);
    if (row->n_drafts != 0 && known->request.capture != 0)
        return WRONG(err, "slot %u captures and drafts", row->slot);
    for (uint32_t i = 0; i < row->n_tokens; i++) {
        const uint32_t at = s->n_tokens;
        const uint32_t token = !(row->flags & PHX_ROW_FROM_SLOT) ? plan->tokens[row->token_first + i]
                               : i == 0                          ? s->last_token
                                                                 : s->drafts[i - 1];
        const uint32_t block = s->blocks[at / PHX_BLOCK_TOKENS];
        const entry *before =
            at == 0 ? NULL
                    : &g->entries[(size_t)s->blocks[(at - 1) / PHX_BLOCK_TOKENS] * PHX_BLOCK_TOKENS +
                                  (at - 1) % PHX_BLOCK_TOKENS];
        g->entries[(size_t)block * PHX_BLOCK_TOKENS + at % PHX_BLOCK_TOKENS] = (entry){
            .is_filled = true,
            .token = token,
            .digest = entry_digest(known, at, before ? before->digest : 0, token),
            .step = plan->step,
        };
        s->n_tokens++;
    }
    return PHX_OK;
}

/* What the row attends to is the request, the whole request, and nothing but the request. */
static phx_code check_entries(const group *g, const slot *s, const known_request *known, phx_error *err)
{
    if (s->n_tokens > known->n_tokens)
        return WRONG(err, "request %llu has %u tokens, its slot %u", (unsigned long long)s->id,
                     known->n_tokens, s->n_tokens);
    for (uint32_t i = 0; i < s->n_tokens; i++) {
        const uint32_t block = s->blocks[i / PHX_BLOCK_TOKENS];
        const entry *e = &g->entries[(size_t)block * PHX_BLOCK_TOKENS + i % PHX_BLOCK_TOKENS];
        if (!e->is_filled || e->token != known->tokens[i] || e->digest != known->digests[i])
            return WRONG(err, "request %llu: entry %u in block %u is not its own", (unsigned long long)s->id,
                         i, block);
    }
    return PHX_OK;
}

uint32_t model_next(const uint32_t *ids, uint32_t n_ids, uint32_t n_vocab)
{
    uint64_t hash = n_ids;
    for (uint32_t i = 0; i < n_ids; i++)
        hash = phx_rng_mix(hash ^ ids[i]);
    return (uint32_t)(hash % n_vocab);
}

uint64_t entry_digest(const known_request *known, uint32_t position, uint64_t before, uint32_t token)
{
    const phx_sched_request *request = &known->request;
    uint64_t hash = position == 0 ? request->cache_salt : before;
    /* Entries that must not be shared differ from those of any other request. */
    const bool is_private = known->n_warm ? position == known->n_warm : position == 0 && request->no_reuse;
    if (is_private)
        hash = phx_rng_mix(hash ^ phx_rng_mix(request->id));
    return phx_rng_key(hash, position, token, 0);
}
