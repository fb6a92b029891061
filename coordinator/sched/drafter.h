/* coordinator/sched/drafter.h - how many tokens to draft ahead (multi-token prediction).
 * Owns: what was measured of acceptance and of step times, per batch size, the account that bounds what
 * drafts may cost, and the choice that follows. Not here: issuing rows and applying results (tick.c,
 * apply.c), the requests of a rehearsal (coordinator/rehearsal.c), making drafts (worker/exec).
 *
 * A step that feeds d drafts per sequence takes cost(d) and brings 1 + a1 + a1 a2 + ... tokens per sequence,
 * where ai is the share of i-th drafts that held when those before them did. The drafter takes the d with the
 * most tokens per time. Batch sizes are told apart by powers of two: small batches read few experts, large
 * ones are bound by arithmetic, and what pays for one costs the other.
 *
 * The account. Whatever was measured or guessed, drafts never cost more than they have been given: each step
 * earns PHX_DRAFTER_SHARE of the time that decoding without drafts would take for its tokens; a step with
 * drafts pays the time it took and is paid that time for the tokens it brought. Drafts are asked for only
 * when the account holds what they, and those in flight, cost if none of them holds. So from the first token
 * on decoding takes at most 1 + PHX_DRAFTER_SHARE times what it takes without, as far as the time of a step
 * without drafts is known; a server begins with an empty account, and drafts that hold pay for more.
 *
 * A machine that is shared is now fast and now slow, by more than lengths differ. So costs are compared and
 * never taken from different times: a trial runs a few steps of another length, and the ratio of its median
 * step to that of the steps just before is what is kept. Costs are first measured in a rehearsal, before the
 * server is ready, and other batch sizes begin with those of the nearest: drafts that then promise much are
 * used without a trial, as soon as the account allows. Lengths that lose little are tried often, those that
 * lose much seldom, and the more seldom the more trials have changed nothing. */
#ifndef PHX_COORDINATOR_SCHED_DRAFTER_H
#define PHX_COORDINATOR_SCHED_DRAFTER_H

#include "proto/step_plan.h"

enum {
    PHX_DRAFTER_SIZES = 11,   /* batches of 1, 2, 3 to 4, 5 to 8, ... 513 to 1024 */
    PHX_DRAFTER_WINDOW = 5,   /* steps of a trial, and those before it that it is compared with */
    PHX_DRAFTER_REHEARSED = 3 /* steady steps of each length */
};

#define PHX_DRAFTER_SHARE 0.015 /* of the time without drafts that drafts may cost */

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
    bool is_foreign[PHX_DRAFTS_MAX + 1];  /* rehearsed, or of another size: first steps correct it */
    phx_drafter_window first;             /* of first_length */
    uint32_t first_length;
    phx_drafter_window before; /* steps of the length in use */
} phx_drafter_size;

typedef struct phx_drafter {
    uint32_t n_max;                                     /* drafts per sequence; 0: none are made */
    bool is_adapting;                                   /* else always n_max */
    double held[PHX_DRAFTS_MAX], tried[PHX_DRAFTS_MAX]; /* by place of the draft, fading */
    phx_drafter_size sizes[PHX_DRAFTER_SIZES];
    struct {
        uint64_t n_steps;
        double us;
    } total[PHX_DRAFTS_MAX + 1]; /* by length, of all steady steps noted */
    double gap_us;               /* of a decoding step, outside the ranks: moving average */
    double balance_us;           /* of the account */
    double spent_us;             /* lost in trials */
    double elapsed_us;           /* of all decoding noted */
    struct {
        bool is_on;
        uint32_t size, length;
        uint32_t n_issued;
        phx_drafter_window window;
    } trial;
    struct {
        bool is_on;
        uint32_t size, length;
        phx_drafter_window windows[PHX_DRAFTS_MAX + 1]; /* steady steps by length, in turn */
        uint32_t n_left;                                /* steps of it that are still in flight */
    } rehearsal;
} phx_drafter;

/* A step in which sequences decoded. */
typedef struct phx_drafter_step {
    uint32_t n_rows;  /* that decoded */
    uint32_t n_fed;   /* drafts of the row with the most */
    uint32_t n_asked; /* that it leaves with each sequence: what was chosen for the step */
    uint32_t n_held;  /* of all rows together */
    bool is_steady;   /* nothing but decoding, and every row was fed and asked for n_asked */
    double us;        /* that the ranks took; 0: prompts had their part in it */
} phx_drafter_step;

void phx_drafter_init(phx_drafter *drafter, uint32_t n_max, bool is_adapting);

/* Drafts per sequence that the next step of n_rows sequences is to leave, n_rows > 0; what the step before
 * has left is fed in any case. n_drafting: steps in flight that were fed or asked for drafts. */
uint32_t phx_drafter_choose(phx_drafter *drafter, uint32_t n_rows, uint32_t n_drafting);

/* A sequence was fed n_fed drafts and the first n_held of them held. */
void phx_drafter_note_row(phx_drafter *drafter, uint32_t n_fed, uint32_t n_held);

/* After the rows of the step. Every step in which sequences decoded. */
void phx_drafter_note_step(phx_drafter *drafter, const phx_drafter_step *step);

/* A decoding step took us, of which the ranks worked ranks_us: the rest is turn-around, whatever the length.
 * Single ones may be negative, as results arrive together or apart; only their average is used. */
void phx_drafter_note_gap(phx_drafter *drafter, double us, double ranks_us);

/* From now on choose runs through all lengths, and the steady steps of n_rows sequences give the costs of
 * that batch size. Meanwhile nothing is earned, paid or learnt of acceptance. n_flight: steps still in flight
 * when it ends, which are not noted either. Only where drafts are adapted. */
void phx_drafter_rehearse(phx_drafter *drafter, uint32_t n_rows);
bool phx_drafter_has_rehearsed(const phx_drafter *drafter); /* nothing is missing */
void phx_drafter_end_rehearsal(phx_drafter *drafter, uint32_t n_flight);

/* What the choice rests on: tokens per sequence and step with n drafts, and the time of such a step, measured
 * or expected; 0 while nothing has been measured at this batch size. */
double phx_drafter_tokens(const phx_drafter *drafter, uint32_t n);
double phx_drafter_cost_us(const phx_drafter *drafter, uint32_t n_rows, uint32_t n);

#endif
