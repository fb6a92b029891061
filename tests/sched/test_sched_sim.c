/* tests/sched/test_sched_sim.c - many seeds, and planted bugs that the simulator must notice.
 * test_sched_sim [--seeds N] [--seed S]; a failing seed S is printed and runs alone
 * with --seed S --seeds 1. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/sched/sim.h"

#define N_SEEDS_DEFAULT 300u

/* What the command line chose; cmocka hands it to the test. */
typedef struct choice {
    uint64_t seed_first, n_seeds;
} choice;

static void test_seeds(void **state)
{
    const choice *chosen = *state;
    sim_report sum = {0};
    for (uint64_t i = 0; i < chosen->n_seeds; i++) {
        const sim_options options = {.seed = chosen->seed_first + i};
        phx_error err = {0};
        if (sim_run(&options, &sum, &err) != PHX_OK)
            fail_msg("seed %llu: %s (%s)", (unsigned long long)options.seed, err.text, err.place);
    }
    printf("seeds %llu..%llu: %llu requests, %llu steps, %llu tokens; preempted %llu, cached %llu, warmed "
           "%llu, captured %llu, refused %llu, cancelled %llu, expired %llu, lost %llu + %llu, mismatches "
           "%llu, discarded %llu, full pools %llu, drafts held %llu of %llu, rehearsals %llu\n",
           (unsigned long long)chosen->seed_first,
           (unsigned long long)(chosen->seed_first + chosen->n_seeds - 1), (unsigned long long)sum.n_requests,
           (unsigned long long)sum.n_steps, (unsigned long long)sum.n_tokens,
           (unsigned long long)sum.n_preempted, (unsigned long long)sum.n_cached,
           (unsigned long long)sum.n_warmed, (unsigned long long)sum.n_captured,
           (unsigned long long)sum.n_refused, (unsigned long long)sum.n_cancelled,
           (unsigned long long)sum.n_expired, (unsigned long long)sum.n_lost_kept,
           (unsigned long long)sum.n_lost_ended, (unsigned long long)sum.n_mismatches,
           (unsigned long long)sum.n_discarded, (unsigned long long)sum.n_full_pools,
           (unsigned long long)sum.n_drafts_held, (unsigned long long)(sum.n_drafts_held + sum.n_drafts_lost),
           (unsigned long long)sum.n_rehearsals);
    if (chosen->n_seeds < N_SEEDS_DEFAULT)
        return;
    assert_true(sum.n_preempted > 0 && sum.n_cached > 0 && sum.n_warmed > 0 && sum.n_captured > 0);
    assert_true(sum.n_refused > 0 && sum.n_cancelled > 0 && sum.n_expired > 0 && sum.n_lost_kept > 0);
    assert_true(sum.n_lost_ended > 0 && sum.n_mismatches > 0 && sum.n_discarded > 0 && sum.n_full_pools > 0);
    assert_true(sum.n_drafts_held > 0 && sum.n_drafts_lost > 0 && sum.n_rehearsals > 0);
}

static bool token_wrong(phx_step_plan *plan, phx_step_row *rows, uint32_t *tokens, uint32_t *blocks,
                        phx_slot_open *opens)
{
    (void)blocks;
    (void)opens;
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        if (rows[i].flags & PHX_ROW_FROM_SLOT)
            continue;
        tokens[rows[i].token_first] ^= 1;
        return true;
    }
    return false;
}

static bool row_shorter(phx_step_plan *plan, phx_step_row *rows, uint32_t *tokens, uint32_t *blocks,
                        phx_slot_open *opens)
{
    (void)tokens;
    (void)blocks;
    (void)opens;
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        if (rows[i].n_tokens < 2 || !(rows[i].flags & PHX_ROW_SAMPLE) || (rows[i].flags & PHX_ROW_FROM_SLOT))
            continue;
        rows[i].n_tokens--;
        return true;
    }
    return false;
}

static bool draft_too_many(phx_step_plan *plan, phx_step_row *rows, uint32_t *tokens, uint32_t *blocks,
                           phx_slot_open *opens)
{
    (void)tokens;
    (void)blocks;
    (void)opens;
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        if (!(rows[i].flags & PHX_ROW_FROM_SLOT))
            continue;
        rows[i].n_drafts = PHX_DRAFTS_MAX + 1;
        return true;
    }
    return false;
}

static bool drafts_forgotten(phx_step_plan *plan, phx_step_row *rows, uint32_t *tokens, uint32_t *blocks,
                             phx_slot_open *opens)
{
    (void)tokens;
    (void)blocks;
    (void)opens;
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        if (rows[i].n_drafts == 0)
            continue;
        rows[i].n_drafts = 0;
        return true;
    }
    return false;
}

static bool sample_missing(phx_step_plan *plan, phx_step_row *rows, uint32_t *tokens, uint32_t *blocks,
                           phx_slot_open *opens)
{
    (void)tokens;
    (void)blocks;
    (void)opens;
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        if (!(rows[i].flags & PHX_ROW_SAMPLE))
            continue;
        rows[i].flags &= ~(uint32_t)PHX_ROW_SAMPLE;
        return true;
    }
    return false;
}

static bool from_slot_too_early(phx_step_plan *plan, phx_step_row *rows, uint32_t *tokens, uint32_t *blocks,
                                phx_slot_open *opens)
{
    (void)tokens;
    (void)blocks;
    (void)opens;
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        if (rows[i].n_tokens != 1 || (rows[i].flags & PHX_ROW_FROM_SLOT))
            continue;
        rows[i].flags |= PHX_ROW_FROM_SLOT;
        return true;
    }
    return false;
}

static bool token_repeated(phx_step_plan *plan, phx_step_row *rows, uint32_t *tokens, uint32_t *blocks,
                           phx_slot_open *opens)
{
    (void)blocks;
    (void)opens;
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        if (!(rows[i].flags & PHX_ROW_FROM_SLOT))
            continue;
        rows[i].flags &= ~(uint32_t)PHX_ROW_FROM_SLOT; /* an explicit id, but not the sampled one */
        rows[i].token_first = plan->n_tokens;
        tokens[plan->n_tokens++] = 0;
        return true;
    }
    return false;
}

static bool blocks_swapped(phx_step_plan *plan, phx_step_row *rows, uint32_t *tokens, uint32_t *blocks,
                           phx_slot_open *opens)
{
    (void)tokens;
    if (plan->n_opens == 0 || opens[0].n_reused < 2 * PHX_BLOCK_TOKENS)
        return false;
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        if (rows[i].slot != opens[0].slot)
            continue;
        const uint32_t first = blocks[rows[i].block_first];
        blocks[rows[i].block_first] = blocks[rows[i].block_first + 1];
        blocks[rows[i].block_first + 1] = first;
        return true;
    }
    return false;
}

static bool block_missing(phx_step_plan *plan, phx_step_row *rows, uint32_t *tokens, uint32_t *blocks,
                          phx_slot_open *opens)
{
    (void)tokens;
    (void)blocks;
    (void)opens;
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        if (rows[i].n_blocks == 0)
            continue;
        rows[i].n_blocks--;
        return true;
    }
    return false;
}

static bool block_of_another(phx_step_plan *plan, phx_step_row *rows, uint32_t *tokens, uint32_t *blocks,
                             phx_slot_open *opens)
{
    (void)tokens;
    (void)opens;
    uint32_t first = UINT32_MAX;
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        if (rows[i].n_blocks == 0)
            continue;
        if (first != UINT32_MAX) {
            blocks[rows[i].block_first + rows[i].n_blocks - 1] = blocks[first];
            return true;
        }
        first = rows[i].block_first + rows[i].n_blocks - 1;
    }
    return false;
}

static bool reuse_too_long(phx_step_plan *plan, phx_step_row *rows, uint32_t *tokens, uint32_t *blocks,
                           phx_slot_open *opens)
{
    (void)rows;
    (void)tokens;
    (void)blocks;
    if (plan->n_opens == 0 || opens[0].n_reused_ids != 0)
        return false;
    opens[0].n_reused += PHX_BLOCK_TOKENS;
    return true;
}

static bool reused_ids_missing(phx_step_plan *plan, phx_step_row *rows, uint32_t *tokens, uint32_t *blocks,
                               phx_slot_open *opens)
{
    (void)rows;
    (void)tokens;
    (void)blocks;
    if (plan->n_opens == 0 || opens[0].n_reused_ids == 0)
        return false;
    opens[0].n_reused_ids = 0;
    return true;
}

static bool prompt_too_long(phx_step_plan *plan, phx_step_row *rows, uint32_t *tokens, uint32_t *blocks,
                            phx_slot_open *opens)
{
    (void)rows;
    (void)tokens;
    (void)blocks;
    if (plan->n_opens == 0)
        return false;
    opens[0].n_prompt++;
    return true;
}

static bool open_missing(phx_step_plan *plan, phx_step_row *rows, uint32_t *tokens, uint32_t *blocks,
                         phx_slot_open *opens)
{
    (void)rows;
    (void)tokens;
    (void)blocks;
    (void)opens;
    return plan->n_opens != 0 && plan->n_opens-- != 0;
}

static bool close_missing(phx_step_plan *plan, phx_step_row *rows, uint32_t *tokens, uint32_t *blocks,
                          phx_slot_open *opens)
{
    (void)rows;
    (void)tokens;
    (void)blocks;
    for (uint32_t i = 0; i < plan->n_opens && plan->n_closes != 0; i++) {
        if (opens[i].slot != plan->closes[plan->n_closes - 1])
            continue;
        plan->n_closes--;
        return true;
    }
    return false;
}

static bool capture_missing(phx_step_plan *plan, phx_step_row *rows, uint32_t *tokens, uint32_t *blocks,
                            phx_slot_open *opens)
{
    (void)tokens;
    (void)blocks;
    (void)opens;
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        if (!(rows[i].flags & PHX_ROW_CAPTURE))
            continue;
        rows[i].flags &= ~(uint32_t)PHX_ROW_CAPTURE;
        return true;
    }
    return false;
}

static bool step_skipped(phx_step_plan *plan, phx_step_row *rows, uint32_t *tokens, uint32_t *blocks,
                         phx_slot_open *opens)
{
    (void)rows;
    (void)tokens;
    (void)blocks;
    (void)opens;
    plan->step++;
    return true;
}

static void test_planted_bugs(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        sim_mutate_fn *mutate;
    } bugs[] = {
        {"token_wrong", token_wrong},           {"row_shorter", row_shorter},
        {"sample_missing", sample_missing},     {"from_slot_too_early", from_slot_too_early},
        {"token_repeated", token_repeated},     {"blocks_swapped", blocks_swapped},
        {"block_missing", block_missing},       {"block_of_another", block_of_another},
        {"reuse_too_long", reuse_too_long},     {"reused_ids_missing", reused_ids_missing},
        {"prompt_too_long", prompt_too_long},   {"open_missing", open_missing},
        {"close_missing", close_missing},       {"capture_missing", capture_missing},
        {"step_skipped", step_skipped},         {"draft_too_many", draft_too_many},
        {"drafts_forgotten", drafts_forgotten},
    };
    for (size_t i = 0; i < sizeof(bugs) / sizeof(bugs[0]); i++) {
        uint32_t n_caught = 0, n_missed = 0;
        for (uint64_t seed = 1; seed <= 20; seed++) {
            sim_report report = {0};
            const sim_options options = {.seed = seed, .mutate = bugs[i].mutate};
            const phx_code rc = sim_run(&options, &report, &(phx_error){0});
            n_caught += rc == PHX_ERR_INVALID;
            n_missed += rc != PHX_ERR_INVALID && rc != PHX_ERR_NOT_FOUND;
        }
        /* An id that happens to be the sampled one is no bug, nor are drafts missing that nobody feeds. */
        const bool may_miss = bugs[i].mutate == token_repeated || bugs[i].mutate == drafts_forgotten;
        if (n_caught < 3 || (n_missed != 0 && !may_miss))
            fail_msg("%s: caught in %u runs, missed in %u of 20", bugs[i].name, n_caught, n_missed);
    }
}

int main(int argc, char **argv)
{
    choice chosen = {1, N_SEEDS_DEFAULT};
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seeds") == 0)
            chosen.n_seeds = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--seed") == 0)
            chosen.seed_first = strtoull(argv[i + 1], NULL, 10);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_seeds, &chosen),
        cmocka_unit_test(test_planted_bugs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
