/* coordinator/sched/drafter.h - how many tokens to draft ahead (multi-token prediction).
 * Owns: what was measured of acceptance and of step times, per batch size, and the choice that follows.
 * Not here: issuing rows and applying results (tick.c, apply.c), making drafts (worker/exec).
 *
 * A step that feeds d drafts per sequence takes cost(d) and brings 1 + a1 + a1 a2 + ... tokens per sequence,
 * where ai is the share of i-th drafts that held when those before them did. The drafter takes the d with the
 * most tokens per time. Batch sizes are told apart by powers of two: small batches read few experts, large
 * ones are bound by arithmetic, and what pays for one costs the other. Lengths that lose are tried again now
 * and then, for a small share of the time. */
#ifndef PHX_COORDINATOR_SCHED_DRAFTER_H
#define PHX_COORDINATOR_SCHED_DRAFTER_H

#include "proto/step_plan.h"

enum { PHX_DRAFTER_SIZES = 11 }; /* batches of 1, 2, 3 to 4, 5 to 8, ... 513 to 1024 */

typedef struct phx_drafter_cost {
    double us;        /* of a step, moving average */
    uint32_t n_steps; /* measured */
} phx_drafter_cost;

typedef struct phx_drafter {
    uint32_t n_max;                                     /* drafts per sequence; 0: none are made */
    bool is_adapting;                                   /* else always n_max */
    double held[PHX_DRAFTS_MAX], tried[PHX_DRAFTS_MAX]; /* by place of the draft, fading */
    phx_drafter_cost cost[PHX_DRAFTER_SIZES][PHX_DRAFTS_MAX + 1];
    struct {
        uint64_t n_steps;
        double us;
    } total[PHX_DRAFTS_MAX + 1]; /* by length, of all steps noted */
    double spent_us;             /* time above the best choice's, in trials */
    double elapsed_us;           /* of all steps noted */
    uint32_t trial;              /* length that is being tried */
    uint32_t n_trial;            /* steps left of the trial */
} phx_drafter;

void phx_drafter_init(phx_drafter *drafter, uint32_t n_max, bool is_adapting);

/* Drafts per sequence for the next step of n_rows sequences, n_rows > 0. */
uint32_t phx_drafter_choose(phx_drafter *drafter, uint32_t n_rows);

/* A sequence was fed n_fed drafts and the first n_held of them held. */
void phx_drafter_note_row(phx_drafter *drafter, uint32_t n_fed, uint32_t n_held);

/* A step of n_rows sequences and nothing else, each fed n_fed drafts and asked for as many, took us. */
void phx_drafter_note_step(phx_drafter *drafter, uint32_t n_rows, uint32_t n_fed, double us);

/* What the choice rests on: tokens per sequence and step with n drafts, and the time of such a step, measured
 * or expected; 0 while that of a step without drafts is not known. */
double phx_drafter_tokens(const phx_drafter *drafter, uint32_t n);
double phx_drafter_cost_us(const phx_drafter *drafter, uint32_t n_rows, uint32_t n);

#endif
