/* tests/worker/test_graphs.c - decode steps that are replayed as graphs, on the emulated device: the bits of
 * tokens, logprobs and caches are those of steps that are queued anew, in every layout, for batches that fill
 * a bucket and batches that do not; and steps are really replayed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "tests/emulator.h"
#include "tests/worker/ranks.h"
#include "worker/exec/exec.h"

enum {
    N_SLOTS = 5,
    N_CONTEXT = 256,
    N_REUSED = 60,
    LAYERS_MAX = 8,
    ROWS_MAX = N_SLOTS + 1,
    SLOT_BLOCKS = N_CONTEXT / PHX_BLOCK_TOKENS
};

typedef enum verb {
    NO_MORE,
    OPEN,  /* a slot with a prompt of n tokens, and its first token */
    CHUNK, /* a slot with a prompt that goes on: no token yet */
    FEED,  /* n tokens of the prompt that the host knows, and a token */
    NEXT,  /* from the slot's last token */
    LAST   /* the same, then the slot ends */
} verb;

typedef struct act {
    verb verb;
    uint32_t slot;
    uint32_t n;
} act;

/* The model with an indexer keeps 16 keys: steps with slot 2, which opens on 60 reused tokens and goes on
 * into its second block, use it, the others do not. Slot 1 ends and opens again for somebody else. */
static const act script[][ROWS_MAX] = {
    {{OPEN, 0, 4}, {CHUNK, 1, 3}},
    {{NEXT, 0, 1}, {FEED, 1, 1}, {OPEN, 2, 1}},
    {{NEXT, 2, 1}, {NEXT, 1, 1}},
    {{LAST, 1, 1}, {NEXT, 0, 1}},
    {{NEXT, 2, 1}, {OPEN, 1, 1}, {OPEN, 4, 1}, {NEXT, 0, 1}, {OPEN, 3, 1}},
    {{NEXT, 3, 1}, {OPEN, 1, 2}, {NEXT, 4, 1}},
    {{NEXT, 4, 1}, {NEXT, 3, 1}, {FEED, 2, 1}, {NEXT, 1, 1}, {NEXT, 0, 1}},
    {{NEXT, 0, 1}, {NEXT, 1, 1}, {NEXT, 3, 1}, {NEXT, 2, 1}},
    {{NEXT, 1, 1}},
};
enum { N_STEPS = sizeof(script) / sizeof(script[0]) };

static const uint32_t bias_ids[] = {17, 200, 17};
static const float bias[] = {2.5f, -4, 0.5f};
static const phx_sampling samplings[N_SLOTS] = {
    {.top_p = 1, .repetition_penalty = 1, .logprobs = true, .n_top_logprobs = 3},
    {.temperature = 0.9f,
     .top_p = 0.9f,
     .presence_penalty = 0.5f,
     .frequency_penalty = 0.3f,
     .repetition_penalty = 1.2f,
     .seed = 7,
     .n_bias = 3,
     .bias_ids = bias_ids,
     .bias = bias},
    {.temperature = 1.3f, .top_p = 1, .repetition_penalty = 1.3f, .seed = 11, .logprobs = true},
    {.temperature = 0.7f, .top_p = 1, .min_p = 0.05f, .top_k = 5, .repetition_penalty = 1, .seed = 3},
    {.top_p = 1, .repetition_penalty = 1, .frequency_penalty = 1.5f},
};

typedef struct outcome {
    phx_row_result results[N_STEPS][N_SLOTS];
    uint32_t n_results[N_STEPS];
    phx_hash caches[LAYERS_MAX];
} outcome;

typedef struct length {
    uint32_t n_tokens, n_blocks;
} length;

/* One step of the script: rows, and whatever opens. */
static void run_step(ranks *group, uint32_t s, length *lengths, outcome *to)
{
    phx_slot_open opens[ROWS_MAX];
    phx_step_row rows[ROWS_MAX];
    uint32_t tokens[128], blocks[ROWS_MAX * SLOT_BLOCKS];
    phx_step_plan plan = {.step = s + 1, .opens = opens, .rows = rows, .tokens = tokens, .blocks = blocks};
    for (const act *a = script[s]; a->verb != NO_MORE; a++) {
        length *l = &lengths[a->slot];
        if (a->verb == OPEN || a->verb == CHUNK) {
            *l = (length){.n_tokens = a->slot == 2 ? N_REUSED : 0};
            opens[plan.n_opens++] = (phx_slot_open){.slot = a->slot,
                                                    .request_id = 100 * s + a->slot,
                                                    .n_reused = l->n_tokens,
                                                    .n_prompt = l->n_tokens + a->n,
                                                    .sampling = samplings[a->slot]};
        }
        phx_step_row row = {.slot = a->slot,
                            .flags = a->verb == CHUNK ? 0 : PHX_ROW_SAMPLE,
                            .token_first = plan.n_tokens,
                            .n_tokens = a->n,
                            .block_first = plan.n_blocks};
        row.flags |= a->verb == NEXT || a->verb == LAST ? PHX_ROW_FROM_SLOT : 0u;
        row.flags |= a->verb == LAST ? PHX_ROW_CLOSE : 0u;
        for (uint32_t i = 0; i < a->n && !(row.flags & PHX_ROW_FROM_SLOT); i++)
            tokens[plan.n_tokens++] = (a->slot * 31 + (l->n_tokens + i) * 7 + s) % 250;
        l->n_tokens += a->n;
        for (; l->n_blocks * PHX_BLOCK_TOKENS < l->n_tokens; row.n_blocks++)
            blocks[plan.n_blocks++] = a->slot * SLOT_BLOCKS + l->n_blocks++;
        rows[plan.n_rows++] = row;
    }
    phx_error err = {0};
    if (ranks_step(group, &plan, to->results[s], &to->n_results[s], &err) != PHX_OK)
        fail_msg("step %u: %s (%s)", s, err.text, err.place);
}

/* Of the first n_steps: those whose rows bring one token each. */
static uint64_t n_decode_steps(uint32_t n_steps)
{
    uint64_t n = 0;
    for (uint32_t s = 0; s < n_steps; s++) {
        bool fits = true;
        for (const act *a = script[s]; a->verb != NO_MORE; a++)
            fits = fits && a->n == 1;
        n += fits;
    }
    return n;
}

typedef struct run {
    const char *model;
    uint32_t tp;
    const char *pp;
    bool graphs, warm;
    void (*change_ops)(phx_ops *ops);
    uint32_t n_drafts;
    uint32_t n_steps;
    const char *says; /* of the recordings; NULL: whatever */
} run;

static ranks *start(const run *how)
{
    char dir[4096];
    const char *source = getenv("PHX_SOURCE");
    phx_error err = {0};
    phx_buf text;
    ranks *group = NULL;
    (void)snprintf(dir, sizeof(dir), "%s/tests/data/golden/%s", source ? source : ".", how->model);
    const ranks_setup setup = {.model_dir = dir,
                               .tp = how->tp,
                               .pp = how->pp,
                               .numerics = "profile=serving level=emu",
                               .n_threads = 1,
                               .n_context = N_CONTEXT,
                               .n_step_tokens = 32,
                               .n_batch = N_SLOTS,
                               .n_drafts = how->n_drafts,
                               .change_ops = how->change_ops,
                               .graphs = how->graphs,
                               .warm = how->warm};
    if (ranks_start(&setup, &group, &err) != PHX_OK)
        fail_msg("%s (%s)", err.text, err.place);
    phx_buf_init(&text, 1000);
    ranks_describe_graphs(group, 0, &text);
    (void)printf("%s tp %u pp %s: %s\n", how->model, how->tp, how->pp, text.ptr);
    if (how->says && !strstr(text.ptr, how->says))
        fail_msg("does not say '%s'", how->says);
    phx_buf_done(&text);
    return group;
}

/* Caches are the same on every rank that holds the layer. */
static void take_caches(ranks *group, outcome *to)
{
    const phx_plan *plan = ranks_plan(group);
    for (uint32_t r = 0; r < plan->n_ranks; r++) {
        const phx_range layers = plan->ranks[r].layers;
        assert_true(layers.end <= LAYERS_MAX);
        for (int64_t l = layers.first; l < layers.end; l++) {
            const phx_hash hash = ranks_cache_hash(group, r, l - layers.first);
            if (plan->ranks[r].tp_rank == 0)
                to->caches[l] = hash;
            assert_true(phx_hash_eq(&to->caches[l], &hash));
        }
    }
}

static outcome *play(const run *how)
{
    length lengths[N_SLOTS] = {0};
    outcome *to = phx_alloc(1, sizeof(*to));
    assert_non_null(to);
    ranks *group = start(how);
    for (uint32_t s = 0; s < how->n_steps; s++)
        run_step(group, s, lengths, to);
    for (uint32_t r = 0; r < ranks_plan(group)->n_ranks; r++)
        assert_int_equal(ranks_n_replays(group, r), how->graphs ? n_decode_steps(how->n_steps) : 0);
    take_caches(group, to);
    ranks_stop(group);
    return to;
}

static bool same_result(const phx_row_result *a, const phx_row_result *b)
{
    bool same = a->slot == b->slot && a->request_id == b->request_id && a->token == b->token &&
                a->n_top == b->n_top && memcmp(&a->logprob, &b->logprob, sizeof(a->logprob)) == 0;
    for (uint32_t i = 0; same && i < a->n_top; i++)
        same = memcmp(&a->top[i], &b->top[i], sizeof(a->top[i])) == 0;
    return same;
}

/* The first step that differs, or N_STEPS. */
static uint32_t first_difference(const outcome *a, const outcome *b)
{
    for (uint32_t s = 0; s < N_STEPS; s++) {
        if (a->n_results[s] != b->n_results[s])
            return s;
        for (uint32_t i = 0; i < a->n_results[s]; i++)
            if (!same_result(&a->results[s][i], &b->results[s][i]))
                return s;
    }
    return N_STEPS;
}

/* Steps queued anew by one rank, against replays in the layouts. */
static void same_bits(const run *layouts, uint32_t n_layouts)
{
    const run anew = {.model = layouts[0].model,
                      .tp = 1,
                      .pp = "1",
                      .n_steps = layouts[0].n_steps,
                      .says = "graphs: none, "};
    outcome *expected = play(&anew);
    for (uint32_t i = 0; i < n_layouts; i++) {
        outcome *replayed = play(&layouts[i]);
        assert_int_equal(first_difference(expected, replayed), N_STEPS);
        assert_memory_equal(expected->caches, replayed->caches, sizeof(expected->caches));
        phx_free(replayed);
    }
    phx_free(expected);
}

static void replays_have_the_bits_of_walks(void **state)
{
    static const char says[] = "graphs: 12, of decode steps of up to 1, 2, 4, 5 rows and 16, 128, 256 keys: ";
    const run layouts[] = {
        {.model = "deepseek-v32-fp8", .tp = 2, .pp = "1", .graphs = true, .n_steps = N_STEPS, .says = says},
        {.model = "deepseek-v32-fp8", .tp = 1, .pp = "2", .graphs = true, .n_steps = N_STEPS, .says = says}};
    (void)state;
    same_bits(layouts, 2);
}

/* Nor do walks of padding leave a trace. */
static void without_an_indexer_depth_is_nothing(void **state)
{
    const run only = {.model = "deepseek-v3-qdirect",
                      .tp = 1,
                      .pp = "1",
                      .graphs = true,
                      .warm = true,
                      .n_steps = 5,
                      .says = "graphs: 4, of decode steps of up to 1, 2, 4, 5 rows and 256 keys: "};
    (void)state;
    same_bits(&only, 1);
}

/* ---- drafts ---- */

enum { N_DRAFTS = 2, N_DRAFT_STEPS = 4, N_DRAFTING = 3 };

typedef struct drafted { /* some of a slot's tokens hold, one at least */
    phx_row_result results[N_DRAFT_STEPS][N_DRAFTING * (1 + N_DRAFTS)];
    uint32_t n_results[N_DRAFT_STEPS];
} drafted;

/* Prompts, then steps that feed the drafts of the step before: greedy, drawn, filtered. */
static void draft(bool graphs, drafted *to)
{
    static const uint32_t n_prompt[N_DRAFTING] = {5, 9, 14}, chosen_as[N_DRAFTING] = {0, 2, 3};
    static const char says[] =
        "graphs: 15, of decode steps of up to 1, 2, 4, 8, 15 rows and 16, 128, 256 keys: ";
    const run how = {.model = "deepseek-v32-fp8",
                     .tp = 1,
                     .pp = "1",
                     .graphs = graphs,
                     .n_drafts = N_DRAFTS,
                     .says = graphs ? says : "graphs: none, "};
    phx_slot_open opens[N_DRAFTING];
    phx_step_row rows[N_DRAFTING];
    uint32_t tokens[32], blocks[N_DRAFTING];
    ranks *group = start(&how);
    for (uint32_t s = 0; s < N_DRAFT_STEPS; s++) {
        phx_step_plan plan = {
            .step = s + 1, .opens = opens, .rows = rows, .tokens = tokens, .blocks = blocks};
        phx_error err = {0};
        for (uint32_t i = 0; i < N_DRAFTING; i++) {
            rows[i] = (phx_step_row){.slot = i,
                                     .flags = PHX_ROW_SAMPLE | (s ? PHX_ROW_FROM_SLOT : 0u),
                                     .token_first = plan.n_tokens,
                                     .n_tokens = s ? 1 + N_DRAFTS : n_prompt[i],
                                     .n_drafts = N_DRAFTS,
                                     .block_first = i,
                                     .n_blocks = s ? 0 : 1};
            if (s)
                continue;
            opens[plan.n_opens++] = (phx_slot_open){
                .slot = i, .request_id = i + 1, .n_prompt = n_prompt[i], .sampling = samplings[chosen_as[i]]};
            opens[i].sampling.repetition_penalty = 1;
            blocks[plan.n_blocks++] = i;
            for (uint32_t t = 0; t < n_prompt[i]; t++)
                tokens[plan.n_tokens++] = (i * 31 + t * 7) % 250;
        }
        plan.n_rows = N_DRAFTING;
        if (ranks_step(group, &plan, to->results[s], &to->n_results[s], &err) != PHX_OK)
            fail_msg("step %u: %s (%s)", s, err.text, err.place);
    }
    assert_int_equal(ranks_n_replays(group, 0), graphs ? N_DRAFT_STEPS - 1 : 0);
    ranks_stop(group);
}

static void steps_that_feed_drafts_are_replayed(void **state)
{
    drafted *all = phx_alloc(2, sizeof(*all));
    (void)state;
    assert_non_null(all);
    draft(false, &all[0]);
    draft(true, &all[1]);
    assert_memory_equal(all[0].n_results, all[1].n_results, sizeof(all[0].n_results));
    for (uint32_t s = 0; s < N_DRAFT_STEPS; s++) {
        assert_true(all[0].n_results[s] >= N_DRAFTING);
        for (uint32_t i = 0; i < all[0].n_results[s]; i++)
            assert_true(same_result(&all[0].results[s][i], &all[1].results[s][i]));
    }
    phx_free(all);
}

/* An op with an argument that the host changes as it goes: what would go wrong, and is seen. */
static phx_rms_norm_fn *real_norm;

static void norm_with_the_hour(phx_pool *pool, const phx_rms_norm_args *args)
{
    static int hour;
    phx_rms_norm_args now = *args;
    now.eps += (float)hour++;
    real_norm(pool, &now);
}

static void change_norm(phx_ops *ops)
{
    real_norm = ops->rms_norm;
    ops->rms_norm = norm_with_the_hour;
}

static void a_stale_argument_is_seen(void **state)
{
    run how = {.model = "deepseek-v3-qdirect", .tp = 1, .pp = "1", .change_ops = change_norm, .n_steps = 3};
    (void)state;
    outcome *anew = play(&how);
    how.graphs = true;
    outcome *replayed = play(&how);
    assert_true(first_difference(anew, replayed) < N_STEPS);
    phx_free(anew);
    phx_free(replayed);
}

/* An eighth of the reserve, 96 MiB. */
static void short_memory_is_said_with_its_remedies(void **state)
{
    phx_buf text;
    (void)state;
    phx_buf_init(&text, 1000);
    assert_false(phx_exec_memory_is_short(700u << 20, 96u << 20, &text));
    assert_int_equal(text.n, 0);
    assert_true(phx_exec_memory_is_short(700u << 20, (96u << 20) - 1, &text));
    assert_non_null(
        strstr(text.ptr, "100.7 MB are left of the 805 MB beside the plan, graphs took 734.0 MB"));
    assert_non_null(strstr(text.ptr, "--graphs off"));
    phx_buf_done(&text);
}

int main(void)
{
    if (!phx_has_emulator())
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replays_have_the_bits_of_walks),
        cmocka_unit_test(without_an_indexer_depth_is_nothing),
        cmocka_unit_test(steps_that_feed_drafts_are_replayed),
        cmocka_unit_test(a_stale_argument_is_seen),
        cmocka_unit_test(short_memory_is_said_with_its_remedies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
