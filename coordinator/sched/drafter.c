/* coordinator/sched/drafter.c - see drafter.h. */
#include "coordinator/sched/drafter.h"

#include <assert.h>

/* Before anything is measured: what published models reach with their first drafts, and a guess of what a
 * draft costs. Both give way to measurements within some steps. */
#define HELD_AT_FIRST  0.8
#define TRIED_AT_FIRST 8.0
#define COST_OF_DRAFT  0.2 /* of a step without */

#define FADE        (1.0 - 1.0 / 128) /* of acceptance, per draft */
#define COST_FADE   (1.0 / 8)         /* weight of a new step time */
#define N_KNOWN     3u                /* steps after which a cost is believed */
#define N_TRIAL     6u                /* steps of one trial: enough to believe its cost, drafts warm */
#define TRIAL_SHARE 0.015             /* of all time may be lost in trials */
#define OUTLIER     4.0 /* steps that much slower than known are something else: a pause, swapping */

void phx_drafter_init(phx_drafter *drafter, uint32_t n_max, bool is_adapting)
{
    assert(n_max <= PHX_DRAFTS_MAX);
    *drafter = (phx_drafter){.n_max = n_max, .is_adapting = is_adapting};
    for (uint32_t i = 0; i < PHX_DRAFTS_MAX; i++) {
        drafter->tried[i] = TRIED_AT_FIRST;
        drafter->held[i] = TRIED_AT_FIRST * HELD_AT_FIRST;
    }
}

static uint32_t size_of(uint32_t n_rows)
{
    uint32_t size = 0;
    while (size + 1 < PHX_DRAFTER_SIZES && (1u << size) < n_rows)
        size++;
    return size;
}

double phx_drafter_tokens(const phx_drafter *drafter, uint32_t n)
{
    double all_hold = 1, tokens = 1;
    for (uint32_t i = 0; i < n; i++) {
        all_hold *= drafter->held[i] / drafter->tried[i];
        tokens += all_hold;
    }
    return tokens;
}

/* Unmeasured lengths lie on the line through the nearest measured one below and that of none, or cost the
 * first guess. */
double phx_drafter_cost_us(const phx_drafter *drafter, uint32_t n_rows, uint32_t n)
{
    const phx_drafter_cost *cost = drafter->cost[size_of(n_rows)];
    if (cost[n].n_steps >= N_KNOWN)
        return cost[n].us;
    if (cost[0].n_steps < N_KNOWN)
        return 0;
    uint32_t high = n;
    while (high > 0 && cost[high].n_steps < N_KNOWN)
        high--;
    const double slope = high ? (cost[high].us - cost[0].us) / high : COST_OF_DRAFT * cost[0].us;
    return cost[high].us + (slope > 0 ? slope : 0) * (n - high);
}

static double rate(const phx_drafter *drafter, uint32_t n_rows, uint32_t n)
{
    return phx_drafter_tokens(drafter, n) / phx_drafter_cost_us(drafter, n_rows, n);
}

static uint32_t best_length(const phx_drafter *drafter, uint32_t n_rows)
{
    uint32_t best = 0;
    for (uint32_t n = 1; n <= drafter->n_max; n++)
        if (rate(drafter, n_rows, n) > rate(drafter, n_rows, best))
            best = n;
    return best;
}

/* Next to the best: one longer, or one shorter, whichever was measured less; from none to one. */
static uint32_t neighbour(const phx_drafter *drafter, uint32_t n_rows, uint32_t best)
{
    const phx_drafter_cost *cost = drafter->cost[size_of(n_rows)];
    if (best == drafter->n_max)
        return best - 1;
    if (best == 0 || cost[best + 1].n_steps <= cost[best - 1].n_steps)
        return best + 1;
    return best - 1;
}

uint32_t phx_drafter_choose(phx_drafter *drafter, uint32_t n_rows)
{
    if (drafter->n_max == 0 || !drafter->is_adapting)
        return drafter->n_max;
    const phx_drafter_cost *cost = drafter->cost[size_of(n_rows)];
    if (cost[0].n_steps < N_KNOWN)
        return 0; /* what it would cost without is what all else is compared with */
    if (drafter->n_trial) {
        drafter->n_trial--;
        return drafter->trial;
    }
    const uint32_t best = best_length(drafter, n_rows);
    if (drafter->spent_us > TRIAL_SHARE * drafter->elapsed_us)
        return best;
    const uint32_t other = neighbour(drafter, n_rows, best);
    /* What it is expected to lose. */
    drafter->spent_us += N_TRIAL * phx_drafter_cost_us(drafter, n_rows, other) *
                         (1 - rate(drafter, n_rows, other) / rate(drafter, n_rows, best));
    drafter->trial = other;
    drafter->n_trial = N_TRIAL - 1;
    return other;
}

void phx_drafter_note_row(phx_drafter *drafter, uint32_t n_fed, uint32_t n_held)
{
    assert(n_held <= n_fed && n_fed <= PHX_DRAFTS_MAX);
    for (uint32_t i = 0; i < n_fed && i <= n_held; i++) {
        drafter->tried[i] = drafter->tried[i] * FADE + 1;
        drafter->held[i] = drafter->held[i] * FADE + (i < n_held);
    }
}

void phx_drafter_note_step(phx_drafter *drafter, uint32_t n_rows, uint32_t n_fed, double us)
{
    assert(n_fed <= PHX_DRAFTS_MAX);
    phx_drafter_cost *cost = &drafter->cost[size_of(n_rows)][n_fed];
    drafter->elapsed_us += us;
    drafter->total[n_fed].n_steps++;
    drafter->total[n_fed].us += us;
    if (cost->n_steps >= N_KNOWN && us > OUTLIER * cost->us)
        return;
    /* The first ones weigh alike, later ones a fixed share. */
    const double weight = cost->n_steps < 1 / COST_FADE ? 1.0 / (cost->n_steps + 1) : COST_FADE;
    cost->us += weight * (us - cost->us);
    cost->n_steps += cost->n_steps < UINT32_MAX;
}
