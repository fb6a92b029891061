/* model/plan_impl.h - what the files of the planner share; nobody else includes it. */
#ifndef PHX_MODEL_PLAN_IMPL_H
#define PHX_MODEL_PLAN_IMPL_H

#include "model/plan.h"

/* plan_slices.c: fills ranks[], ranges and slices of plan->request.layout. */
phx_code phx_plan_make_ranks(phx_plan *plan, phx_error *err);
void phx_plan_free_ranks(phx_plan *plan);

/* plan_account.c: every line of a rank's account for a context and a number of blocks. */
void phx_plan_account(const phx_plan *plan, uint32_t n_context, uint64_t n_blocks, phx_rank_plan *rank);

/* plan_fit.c: fills in memory, context and blocks, and the accounts; refuses what does not fit. */
phx_code phx_plan_fit(phx_plan *plan, phx_error *err);

#endif
