/* coordinator/sched/drafter.h - how many tokens to draft ahead (multi-token prediction).
 * Owns: what was measured of acceptance and of step times, per batch size, and the choice that follows.
 * Not here: issuing rows and applying results (tick.c, apply.c), making drafts (worker/exec).
 *
 * A step that feeds d drafts per sequence takes cost(d) and brings 1 + a1 + a1 a2 + ... tokens per sequence,
 * where ai is the share of i-th drafts that held when those before them did. The drafter takes the d with the
 * most tokens per time. Batch sizes are told apart by powers of two: small batches read few experts, large
 * ones are bound by arithmetic, and what pays for one costs the other.
 *
 * A machine that is shared is now fast and now slow, by more than lengths differ. So costs are compared and
 * never taken from different times: a trial runs a few steps of another length, and the ratio of its median
 * step to that of the steps just before is what is kept. Trials cost a small share of the time; lengths that
 * lose little are tried often, those that lose much seldom. */
#ifndef PHX_COORDINATOR_SCHED_DRAFTER_H
#define PHX_COORDINATOR_SCHED_DRAFTER_H

#include "proto/step_plan.h"

enum {
    PHX_DRAFTER_SIZES = 11, /* batches of 1, 2, 3 to 4, 5 to 8, ... 513 to 1024 */
    PHX_DRAFTER_WINDOW = 5  /* steps of a trial, and those before it that it is compared with */
};

/* The last steps of one length, oldest overwritten. */
typedef struct phx_drafter_window {
    double us[PHX_DRAFTER_WINDOW];
    uint32_t n; /* noted, may be more than are kept */
} phx_drafter_window;

typedef struct phx_drafter_size {
    double us;                            /* of a step of the length in use, moving average */
    uint32_t n_steps;                     /* that went into it */
    uint32_t length;                      /* in use, trials apart */
    double cost[PHX_DRAFTS_MAX + 1];      /* relative to each other */
    uint32_t n_known[PHX_DRAFTS_MAX + 1]; /* comparisons that a cost rests on */
    uint32_t n_tried[PHX_DRAFTS_MAX + 1]; /* trials since the length in use was taken */
    phx_drafter_window before;            /* steps of the length in use */
} phx_drafter_size;

typedef struct phx_drafter {
    uint32_t n_max;                                     /* drafts per sequence; 0: none are made */
    bool is_adapting;                                   /* else always n_max */
    double held[PHX_DRAFTS_MAX], tried[PHX_DRAFTS_MAX]; /* by place of the draft, fading */
    phx_drafter_size sizes[PHX_DRAFTER_SIZES];
    struct {
        uint64_t n_steps;
        double us;
    } total[PHX_DRAFTS_MAX + 1]; /* by length, of all steps noted */
    double gap_us;               /* of a decoding step, outside the ranks: moving average */
    double spent_us;             /* lost in trials */
    double elapsed_us;           /* of all steps noted */
    struct {
        bool is_on;
        uint32_t size, length;
        uint32_t n_issued;
        phx_drafter_window window;
    } trial;
} phx_drafter;

void phx_drafter_init(phx_drafter *drafter, uint32_t n_max, bool is_adapting);

/* Drafts per sequence for the next step of n_rows sequences, n_rows > 0. */
uint32_t phx_drafter_choose(phx_drafter *drafter, uint32_t n_rows);

/* A sequence was fed n_fed drafts and the first n_held of them held. */
void phx_drafter_note_row(phx_drafter *drafter, uint32_t n_fed, uint32_t n_held);

/* A step of n_rows sequences and nothing else, each fed n_fed drafts and asked for as many, took the ranks
 * us.
 */
void phx_drafter_note_step(phx_drafter *drafter, uint32_t n_rows, uint32_t n_fed, double us);

/* A decoding step took us, of which the ranks worked ranks_us: the rest is turn-around, whatever the length.
 * Single ones may be negative, as results arrive together or apart; only their average is used. */
void phx_drafter_note_gap(phx_drafter *drafter, double us, double ranks_us);

/* What the choice rests on: tokens per sequence and step with n drafts, and the time of such a step, measured
 * or expected; 0 while nothing has been measured at this batch size. */
double phx_drafter_tokens(const phx_drafter *drafter, uint32_t n);
double phx_drafter_cost_us(const phx_drafter *drafter, uint32_t n_rows, uint32_t n);

#endif
