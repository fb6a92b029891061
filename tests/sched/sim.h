/* tests/sched/sim.h - the scheduler with a fake group under a virtual clock: random requests, cancels,
 * deadlines, wrong results and lost groups, all from one seed. */
#ifndef PHX_TESTS_SCHED_SIM_H
#define PHX_TESTS_SCHED_SIM_H

#include "base/rng.h"
#include "tests/sched/group.h"

/* What a run has exercised; sums over runs show that the workload means something. */
typedef struct sim_report {
    uint64_t n_requests, n_steps, n_tokens;
    uint64_t n_preempted, n_cached, n_warmed, n_captured, n_refused, n_cancelled, n_expired;
    uint64_t n_lost_kept, n_lost_ended, n_mismatches, n_discarded, n_full_pools;
    uint64_t n_drafts_held, n_drafts_lost, n_rehearsals; /* that saw all lengths */
} sim_report;

/* A planted bug: changes a copy of a plan. Returns false where the plan gives no occasion. */
typedef bool sim_mutate_fn(phx_step_plan *plan, phx_step_row *rows, uint32_t *tokens, uint32_t *blocks,
                           phx_slot_open *opens);

typedef struct sim_options {
    uint64_t seed;
    sim_mutate_fn *mutate; /* NULL: the honest scheduler */
} sim_options;

/* One run to quiescence. With mutate the first plan that gives occasion is changed before the group sees it,
 * and the run must end in PHX_ERR_INVALID; PHX_ERR_NOT_FOUND when there was no occasion. */
phx_code sim_run(const sim_options *options, sim_report *report, phx_error *err);

#endif
