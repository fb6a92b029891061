/* coordinator/sched/drafter.c - see drafter.h. */
#include "coordinator/sched/drafter.h"

#include <assert.h>

/* Before anything is measured: what published models reach with their first drafts, and a guess of what a
 * draft costs. Both give way to measurements within some steps. */
#define HELD_AT_FIRST  0.8
#define TRIED_AT_FIRST 8.0
#define COST_OF_DRAFT  0.2 /* of a step without */

#define FADE         (1.0 - 1.0 / 256)         /* of acceptance, per draft */
#define STEP_FADE    (1.0 / 8)                 /* weight of a new step time */
#define GAP_FADE     (1.0 / 64)                /* weight of a new gap */
#define GAP_MOST     4.0                       /* times the ranks' time; what takes longer is a pause */
#define KNOWN_MAX    16u                       /* weight of a new comparison: one of so many */
#define N_BELIEVED   3u                        /* steps whose median is believed */
#define N_ISSUED_MAX (4u * PHX_DRAFTER_WINDOW) /* steps of a trial, when few of them can be noted */
#define N_IN_FLIGHT  2u   /* steps issued before the end of a trial is seen, and one to get ready */
#define TRIAL_SHARE  0.01 /* of all time may be lost in trials */
#define LOSS_OFFSET  0.05 /* added to the loss of a length when it is decided what to try */
#define GAIN_TO_MOVE 0.02 /* more drafts must promise so much more than the length in use ... */
#define DOUBT        0.1  /* ... and this over the number of comparisons that say so */
#define SURPRISE     2.0  /* a comparison moves a cost by no larger factor, whatever it says */
#define OUTLIER      2.0  /* a step that much slower than known counts no more than that: it may be a pause */

void phx_drafter_init(phx_drafter *drafter, uint32_t n_max, bool is_adapting)
{
    assert(n_max <= PHX_DRAFTS_MAX);
    *drafter = (phx_drafter){.n_max = n_max, .is_adapting = is_adapting};
    for (uint32_t i = 0; i < PHX_DRAFTS_MAX; i++) {
        drafter->tried[i] = TRIED_AT_FIRST;
        drafter->held[i] = TRIED_AT_FIRST * HELD_AT_FIRST;
    }
    for (uint32_t s = 0; s < PHX_DRAFTER_SIZES; s++) {
        drafter->sizes[s].cost[0] = 1;
        drafter->sizes[s].length = is_adapting ? 0 : n_max;
    }
}

static uint32_t size_of(uint32_t n_rows)
{
    uint32_t size = 0;
    while (size + 1 < PHX_DRAFTER_SIZES && (1u << size) < n_rows)
        size++;
    return size;
}

/* ---- medians ---- */

static void window_add(phx_drafter_window *window, double us)
{
    window->us[window->n++ % PHX_DRAFTER_WINDOW] = us;
}

static double window_median(const phx_drafter_window *window)
{
    double sorted[PHX_DRAFTER_WINDOW];
    uint32_t n = 0;
    for (; n < window->n && n < PHX_DRAFTER_WINDOW; n++) {
        uint32_t at = n;
        for (; at > 0 && sorted[at - 1] > window->us[n]; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = window->us[n];
    }
    return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

/* ---- what is known ---- */

double phx_drafter_tokens(const phx_drafter *drafter, uint32_t n)
{
    double all_hold = 1, tokens = 1;
    for (uint32_t i = 0; i < n; i++) {
        all_hold *= drafter->held[i] / drafter->tried[i];
        tokens += all_hold;
    }
    return tokens;
}

static bool is_measured(const phx_drafter_size *size, uint32_t n)
{
    return n == 0 || size->n_known[n] != 0;
}

/* Lengths that were never tried lie on the line through the nearest tried one below and that of none, or cost
 * the first guess. */
static double cost_of(const phx_drafter_size *size, uint32_t n)
{
    uint32_t high = n;
    while (!is_measured(size, high))
        high--;
    if (high == n)
        return size->cost[n];
    const double slope = high ? (size->cost[high] - size->cost[0]) / high : COST_OF_DRAFT * size->cost[0];
    return size->cost[high] + (slope > 0 ? slope : 0) * (n - high);
}

double phx_drafter_cost_us(const phx_drafter *drafter, uint32_t n_rows, uint32_t n)
{
    const phx_drafter_size *size = &drafter->sizes[size_of(n_rows)];
    return size->us * cost_of(size, n) / cost_of(size, size->length);
}

static double rate(const phx_drafter *drafter, const phx_drafter_size *size, uint32_t n)
{
    return phx_drafter_tokens(drafter, n) / cost_of(size, n);
}

/* Of the time of steps with n drafts, what the length in use would have saved. */
static double loss(const phx_drafter *drafter, const phx_drafter_size *size, uint32_t n)
{
    const double lost = 1 - rate(drafter, size, n) / rate(drafter, size, size->length);
    return lost > 0 ? lost : 0;
}

/* ---- trials ---- */

static void use_length(phx_drafter_size *size, uint32_t n)
{
    if (n == size->length)
        return;
    size->us *= cost_of(size, n) / cost_of(size, size->length);
    size->length = n;
    size->before.n = 0;
    for (uint32_t i = 0; i <= PHX_DRAFTS_MAX; i++)
        size->n_tried[i] = 0;
}

/* Of the lengths that were measured. Fewer drafts need not promise more than what is in use, they are sure.
 */
static void use_best(const phx_drafter *drafter, phx_drafter_size *size)
{
    uint32_t best = size->length;
    for (uint32_t n = 0; n <= drafter->n_max; n++)
        if (is_measured(size, n) && rate(drafter, size, n) > rate(drafter, size, best))
            best = n;
    const double gain = rate(drafter, size, best) / rate(drafter, size, size->length) - 1;
    if (best < size->length || gain > GAIN_TO_MOVE + DOUBT / size->n_known[best])
        use_length(size, best);
}

static uint32_t length_to_try(const phx_drafter *drafter, const phx_drafter_size *size)
{
    uint32_t least = size->length;
    double least_score = 0;
    for (uint32_t n = 0; n <= drafter->n_max; n++) {
        const double score = (size->n_tried[n] + 1) * (LOSS_OFFSET + loss(drafter, size, n));
        if (n == size->length || (least != size->length && score >= least_score))
            continue;
        least = n;
        least_score = score;
    }
    return least;
}

static uint32_t least_of(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* The cost follows from that of the length in use and from the ratio of the medians. */
static void end_trial(phx_drafter *drafter)
{
    phx_drafter_size *size = &drafter->sizes[drafter->trial.size];
    const uint32_t n = drafter->trial.length, base = size->length;
    drafter->trial.is_on = false;
    size->n_tried[n]++;
    if (drafter->trial.window.n < N_BELIEVED)
        return;
    const double us = window_median(&drafter->trial.window), expected = cost_of(size, n);
    double cost = size->cost[base] * us / window_median(&size->before);
    cost = cost > expected * SURPRISE ? expected * SURPRISE : cost;
    cost = cost < expected / SURPRISE ? expected / SURPRISE : cost;
    const uint32_t n_known = least_of(least_of(size->n_known[n], size->n_known[base]), KNOWN_MAX - 1);
    size->cost[n] += (cost - size->cost[n]) / (n_known + 1);
    size->n_known[n]++;
    size->n_known[base]++;
    size->before.n = 0;
    drafter->spent_us += (drafter->trial.n_issued + N_IN_FLIGHT) * us * loss(drafter, size, n);
}

uint32_t phx_drafter_choose(phx_drafter *drafter, uint32_t n_rows)
{
    if (drafter->n_max == 0 || !drafter->is_adapting)
        return drafter->n_max;
    const uint32_t at = size_of(n_rows);
    phx_drafter_size *size = &drafter->sizes[at];
    if (drafter->trial.is_on && drafter->trial.size == at && drafter->trial.n_issued < N_ISSUED_MAX) {
        drafter->trial.n_issued++;
        return drafter->trial.length;
    }
    if (drafter->trial.is_on)
        end_trial(drafter);
    use_best(drafter, size);
    if (size->before.n < PHX_DRAFTER_WINDOW || drafter->spent_us > TRIAL_SHARE * drafter->elapsed_us)
        return size->length;
    drafter->trial.is_on = true;
    drafter->trial.size = at;
    drafter->trial.length = length_to_try(drafter, size);
    drafter->trial.n_issued = 1;
    drafter->trial.window.n = 0;
    return drafter->trial.length;
}

void phx_drafter_note_row(phx_drafter *drafter, uint32_t n_fed, uint32_t n_held)
{
    assert(n_held <= n_fed && n_fed <= PHX_DRAFTS_MAX);
    for (uint32_t i = 0; i < n_fed && i <= n_held; i++) {
        drafter->tried[i] = drafter->tried[i] * FADE + 1;
        drafter->held[i] = drafter->held[i] * FADE + (i < n_held);
    }
}

void phx_drafter_note_gap(phx_drafter *drafter, double us, double ranks_us)
{
    const double counted = us > GAP_MOST * ranks_us ? GAP_MOST * ranks_us : us;
    drafter->gap_us += GAP_FADE * (counted - ranks_us - drafter->gap_us);
}

void phx_drafter_note_step(phx_drafter *drafter, uint32_t n_rows, uint32_t n_fed, double us)
{
    assert(n_fed <= PHX_DRAFTS_MAX);
    const uint32_t at = size_of(n_rows);
    phx_drafter_size *size = &drafter->sizes[at];
    us += drafter->gap_us > 0 ? drafter->gap_us : 0;
    drafter->elapsed_us += us;
    drafter->total[n_fed].n_steps++;
    drafter->total[n_fed].us += us;
    if (drafter->trial.is_on && drafter->trial.size == at && n_fed == drafter->trial.length) {
        window_add(&drafter->trial.window, us);
        if (drafter->trial.window.n == PHX_DRAFTER_WINDOW)
            end_trial(drafter);
        return;
    }
    if (n_fed != size->length)
        return;
    if (!drafter->trial.is_on)
        window_add(&size->before, us);
    if (size->n_steps >= N_BELIEVED && us > OUTLIER * size->us)
        us = OUTLIER * size->us;
    /* The first ones weigh alike, later ones a fixed share. */
    const double weight = size->n_steps < 1 / STEP_FADE ? 1.0 / (size->n_steps + 1) : STEP_FADE;
    size->us += weight * (us - size->us);
    size->n_steps += size->n_steps < UINT32_MAX;
}
