/* coordinator/sched/drafter.c - see drafter.h. */
#include "coordinator/sched/drafter.h"

#include <assert.h>
#include <string.h>

/* Before anything is measured: what published models reach with their first drafts, and a guess of what a
 * draft costs. Both give way to measurements within some steps. */
#define HELD_AT_FIRST  0.8
#define TRIED_AT_FIRST 8.0
#define COST_OF_DRAFT  0.2 /* of a step without */

#define FADE         (1.0 - 1.0 / 128)         /* of acceptance, per draft */
#define OLD_MAX      16.0                      /* drafts that what was seen before a trial still weighs */
#define STEP_FADE    (1.0 / 8)                 /* weight of a new step time */
#define GAP_FADE     (1.0 / 64)                /* weight of a new gap */
#define GAP_MOST     4.0                       /* times the ranks' time; what takes longer is a pause */
#define KNOWN_MAX    16u                       /* weight of a new comparison: one of so many */
#define N_BELIEVED   3u                        /* steps whose median is believed */
#define N_ISSUED_MAX (4u * PHX_DRAFTER_WINDOW) /* steps of a trial, when few of them can be noted */
#define N_OF_TRIAL   (PHX_DRAFTER_WINDOW + 2u) /* steps that ask for drafts until a trial's end is seen */
#define N_SURE       4u                        /* comparisons after which a cost is taken for certain */
/* All of time that may be lost in trials at first; less after such that changed nothing, half after some. */
#define TRIAL_FIRST    0.02
#define TRIALS_WEIGH   8.0
#define TRIAL_PAID     0.01   /* at least, where drafts are in use */
#define TRIAL_LEAST    0.0025 /* at least, where none are */
#define TRIAL_HOPELESS 0.001  /* for lengths that would lose even if every draft held, ... */
#define HOPELESS       0.9    /* ... by a tenth */
#define HOPELESS_SCORE 1e6    /* above every other */
#define LOSS_OFFSET    0.05   /* added to the loss of a length when it is decided what to try */
#define GAIN_TO_MOVE   0.02   /* more drafts must promise so much more than the length in use ... */
#define DOUBT          0.1    /* ... and this over the number of comparisons that say so */
#define SURPRISE       2.0    /* a comparison moves a cost by no larger factor, whatever it says */
#define OUTLIER        2.0    /* a step that much slower than known counts no more: it may be a pause */
#define WORST_GUESS    1.5    /* of a step without: what a draft may cost at a size where nothing is known */
#define PRUDENCE       0.2  /* of a step without, over 1 + comparisons: no drafts are believed to cost less */
#define BALANCE_MAX    32.0 /* steps without drafts; gains are not saved for longer */

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

static uint32_t longest_measured(const phx_drafter_size *size, uint32_t n)
{
    while (!is_measured(size, n))
        n--;
    return n;
}

/* Lengths that were never tried lie on the line through the nearest tried one below and that of none, or cost
 * the first guess. */
static double cost_of(const phx_drafter_size *size, uint32_t n)
{
    const uint32_t high = longest_measured(size, n);
    if (high == n)
        return size->cost[n];
    const double slope = high ? (size->cost[high] - size->cost[0]) / high : COST_OF_DRAFT * size->cost[0];
    return size->cost[high] + (slope > 0 ? slope : 0) * (n - high);
}

static double plain_us(const phx_drafter_size *size)
{
    return size->us * cost_of(size, 0) / cost_of(size, size->length);
}

/* Of a step without drafts, what the cost of n drafts may lie above what is known of it. */
static double doubt(const phx_drafter_size *size, uint32_t n)
{
    return n ? PRUDENCE / (size->n_known[longest_measured(size, n)] + 1) : 0;
}

/* Time that a step with n drafts may take more than one without, where that is not well known rather too
 * much: of a length that was never tried twice what the nearest tried one says. */
static double extra_us(const phx_drafter_size *size, uint32_t n)
{
    const uint32_t high = longest_measured(size, n);
    const double known = cost_of(size, n) / cost_of(size, 0) - 1;
    const double guess = high == n ? known : high ? 2 * known : n * WORST_GUESS;
    return plain_us(size) * ((guess > 0 ? guess : 0) + doubt(size, n));
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

/* ---- the account ---- */

/* n_steps more that ask for n drafts, and those in flight. */
static bool can_afford(const phx_drafter *drafter, const phx_drafter_size *size, uint32_t n, uint32_t n_steps)
{
    const double needed = n_steps * extra_us(size, n), most = BALANCE_MAX * plain_us(size);
    return n == 0 || (size->n_steps >= N_BELIEVED && drafter->balance_us >= (needed < most ? needed : most));
}

/* us: with its share of the turn-around, 0: unknown. A step that was only fed drafts, or only asked for some,
 * is half of one that was both. */
static void settle(phx_drafter *drafter, const phx_drafter_size *size, const phx_drafter_step *step,
                   double us)
{
    const uint32_t n = step->n_fed > step->n_asked ? step->n_fed : step->n_asked;
    const double halves = ((step->n_fed != 0) + (step->n_asked != 0)) / 2.0;
    const double plain = size->n_steps ? plain_us(size) : us / cost_of(size, n);
    const double worth = plain * (1 + (double)step->n_held / step->n_rows);
    const double expected = size->n_steps ? plain + extra_us(size, n) * halves : us;
    const double most = OUTLIER * (size->is_foreign[n] ? plain * (1 + n) : expected);
    const double counted = us > 0 ? (us < most ? us : most) : expected;
    const double paid = counted + plain * doubt(size, n) * halves;
    const double change = PHX_DRAFTER_SHARE * worth + (n ? worth - paid : 0);
    if (change < 0 || drafter->balance_us < BALANCE_MAX * plain)
        drafter->balance_us += change;
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

/* More drafts that would lose even if every one held. */
static bool is_hopeless(const phx_drafter *drafter, const phx_drafter_size *size, uint32_t n)
{
    return n > size->length && size->n_known[n] >= N_SURE &&
           (n + 1) / cost_of(size, n) < HOPELESS * rate(drafter, size, size->length);
}

/* One more than is known at most; those without hope when there are no others. */
static uint32_t length_to_try(const phx_drafter *drafter, const phx_drafter_size *size)
{
    const uint32_t n_next = longest_measured(size, drafter->n_max) + 1;
    uint32_t least = size->length;
    double least_score = 0;
    for (uint32_t n = 0; n <= drafter->n_max && n <= n_next; n++) {
        const double at_least = is_hopeless(drafter, size, n) ? HOPELESS_SCORE : 0;
        const double score = at_least + (size->n_tried[n] + 1) * (LOSS_OFFSET + loss(drafter, size, n));
        if (n == size->length || (least != size->length && score >= least_score))
            continue;
        least = n;
        least_score = score;
    }
    return least;
}

/* Of all time, that a trial of n drafts may bring the loss of trials to. */
static double share_of_trials(const phx_drafter *drafter, const phx_drafter_size *size, uint32_t n)
{
    uint32_t n_trials = 0;
    for (uint32_t i = 0; i <= drafter->n_max; i++)
        n_trials += size->n_tried[i];
    if (is_hopeless(drafter, size, n))
        return TRIAL_HOPELESS;
    const double share = TRIAL_FIRST / (1 + n_trials / TRIALS_WEIGH);
    const double least = size->length ? TRIAL_PAID : TRIAL_LEAST;
    return share > least ? share : least;
}

/* Where no drafts are in use what is known of acceptance is old: the trial is to say something new. */
static void begin_trial(phx_drafter *drafter, uint32_t at, uint32_t n)
{
    for (uint32_t i = 0; i < PHX_DRAFTS_MAX && drafter->sizes[at].length == 0; i++) {
        const double weight = drafter->tried[i] > OLD_MAX ? OLD_MAX / drafter->tried[i] : 1;
        drafter->tried[i] *= weight;
        drafter->held[i] *= weight;
    }
    drafter->trial.is_on = true;
    drafter->trial.size = at;
    drafter->trial.length = n;
    drafter->trial.n_issued = 1;
    drafter->trial.window.n = 0;
}

static bool may_try(const phx_drafter *drafter, const phx_drafter_size *size, uint32_t n, uint32_t n_drafting)
{
    const double us = plain_us(size) * cost_of(size, n) / cost_of(size, 0);
    const double lost = drafter->spent_us + N_OF_TRIAL * us * loss(drafter, size, n);
    return n != size->length && size->before.n >= PHX_DRAFTER_WINDOW &&
           lost <= share_of_trials(drafter, size, n) * drafter->elapsed_us &&
           can_afford(drafter, size, n, n_drafting + N_OF_TRIAL);
}

static uint32_t least_of(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* One more comparison says that n drafts cost so much. */
static void take_cost(phx_drafter_size *size, uint32_t n, double cost)
{
    const double expected = cost_of(size, n), most = expected * SURPRISE, least = expected / SURPRISE;
    const uint32_t n_known = least_of(least_of(size->n_known[n], size->n_known[size->length]), KNOWN_MAX - 1);
    cost = cost > most ? most : cost < least ? least : cost;
    size->cost[n] += (cost - size->cost[n]) / (n_known + 1);
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
    const double us = window_median(&drafter->trial.window);
    take_cost(size, n, size->cost[base] * us / window_median(&size->before));
    size->n_known[n]++;
    size->n_known[base]++;
    size->is_foreign[n] = false;
    size->before.n = 0;
    drafter->spent_us += (drafter->trial.n_issued + 1) * us * loss(drafter, size, n);
}

/* ---- the choice ---- */

/* What a batch size of which nothing is known begins with: the next smaller one of which something is, or
 * else larger. */
static void inherit(phx_drafter *drafter, uint32_t at)
{
    phx_drafter_size *size = &drafter->sizes[at];
    uint32_t from = at;
    while (from > 0 && drafter->sizes[from].n_known[1] == 0)
        from--;
    while (from < PHX_DRAFTER_SIZES && drafter->sizes[from].n_known[1] == 0)
        from++;
    if (from == at || from == PHX_DRAFTER_SIZES)
        return;
    const phx_drafter_size *other = &drafter->sizes[from];
    for (uint32_t n = 1; n <= drafter->n_max; n++) {
        size->cost[n] = size->cost[0] * other->cost[n] / other->cost[0];
        size->n_known[n] = other->n_known[n] ? 1 : 0;
        size->is_foreign[n] = true;
    }
}

static bool is_worth(const phx_drafter *drafter, const phx_drafter_size *size, uint32_t n,
                     uint32_t n_drafting)
{
    return can_afford(drafter, size, n, n_drafting + 1) && rate(drafter, size, n) > rate(drafter, size, 0);
}

/* Of the length in use, or below it, what pays and can be paid. Costs are proven one after the other, where
 * the shorter ones pay too: the longer the drafts, the more is lost when they cost more than was thought. */
static uint32_t affordable(const phx_drafter *drafter, const phx_drafter_size *size, uint32_t n_drafting)
{
    for (uint32_t n = 1; n < size->length; n++)
        if (size->is_foreign[n] && rate(drafter, size, n) > rate(drafter, size, 0))
            return is_worth(drafter, size, n, n_drafting) ? n : 0;
    uint32_t n = size->length;
    while (n > 0 && !is_worth(drafter, size, n, n_drafting))
        n--;
    return n;
}

uint32_t phx_drafter_choose(phx_drafter *drafter, uint32_t n_rows, uint32_t n_drafting)
{
    if (drafter->n_max == 0 || !drafter->is_adapting)
        return drafter->n_max;
    if (drafter->rehearsal.is_on)
        return phx_drafter_has_rehearsed(drafter) ? 0 : drafter->rehearsal.length;
    const uint32_t at = size_of(n_rows);
    phx_drafter_size *size = &drafter->sizes[at];
    if (drafter->trial.is_on && drafter->trial.size == at && drafter->trial.n_issued < N_ISSUED_MAX &&
        can_afford(drafter, size, drafter->trial.length, n_drafting + 1)) {
        drafter->trial.n_issued++;
        return drafter->trial.length;
    }
    if (drafter->trial.is_on)
        end_trial(drafter);
    inherit(drafter, at);
    use_best(drafter, size);
    const uint32_t n = length_to_try(drafter, size);
    if (!may_try(drafter, size, n, n_drafting))
        return affordable(drafter, size, n_drafting);
    begin_trial(drafter, at, n);
    return n;
}

/* ---- what is noted ---- */

void phx_drafter_note_row(phx_drafter *drafter, uint32_t n_fed, uint32_t n_held)
{
    assert(n_held <= n_fed && n_fed <= PHX_DRAFTS_MAX);
    if (drafter->rehearsal.is_on || drafter->rehearsal.n_left)
        return;
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

/* A steady step of the length in use, or of none: its time says how fast the machine is now. */
static void note_pace(phx_drafter_size *size, uint32_t n, double us)
{
    us *= cost_of(size, size->length) / cost_of(size, n);
    if (size->n_steps >= N_BELIEVED && us > OUTLIER * size->us)
        us = OUTLIER * size->us;
    /* The first ones weigh alike, later ones a fixed share. */
    const double weight = size->n_steps < 1 / STEP_FADE ? 1.0 / (size->n_steps + 1) : STEP_FADE;
    size->us += weight * (us - size->us);
    size->n_steps += size->n_steps < UINT32_MAX;
}

/* Until then the pace is that of steps without drafts: were it taken from steps of an unproven cost, the
 * account would not see what they lose. */
static void prove_cost(phx_drafter_size *size, uint32_t n, double us)
{
    if (size->first_length != n)
        size->first.n = 0;
    size->first_length = n;
    window_add(&size->first, us);
    if (size->first.n < PHX_DRAFTER_WINDOW)
        return;
    const double before = size->cost[n];
    take_cost(size, n, size->cost[0] * window_median(&size->first) / plain_us(size));
    if (n == size->length)
        size->us *= size->cost[n] / before;
    size->is_foreign[n] = false;
    size->n_known[n]++;
}

static void note_rehearsal(phx_drafter *drafter, const phx_drafter_step *step);

void phx_drafter_note_step(phx_drafter *drafter, const phx_drafter_step *step)
{
    assert(step->n_rows > 0 && step->n_fed <= PHX_DRAFTS_MAX && step->n_asked <= PHX_DRAFTS_MAX);
    const uint32_t at = size_of(step->n_rows), n = step->n_asked;
    phx_drafter_size *size = &drafter->sizes[at];
    if (drafter->rehearsal.is_on)
        note_rehearsal(drafter, step);
    if (drafter->rehearsal.is_on || drafter->rehearsal.n_left) {
        drafter->rehearsal.n_left -= drafter->rehearsal.n_left != 0;
        return;
    }
    const double us = step->us > 0 ? step->us + (drafter->gap_us > 0 ? drafter->gap_us : 0) : 0;
    drafter->elapsed_us += us;
    settle(drafter, size, step, us);
    if (!step->is_steady || us <= 0)
        return;
    drafter->total[n].n_steps++;
    drafter->total[n].us += us;
    if (drafter->trial.is_on && drafter->trial.size == at && n == drafter->trial.length) {
        window_add(&drafter->trial.window, us);
        if (drafter->trial.window.n == PHX_DRAFTER_WINDOW)
            end_trial(drafter);
        return;
    }
    if (n == size->length && !drafter->trial.is_on)
        window_add(&size->before, us);
    if (size->is_foreign[n])
        prove_cost(size, n, us);
    else if (n == size->length || n == 0)
        note_pace(size, n, us);
}

/* ---- the rehearsal ---- */

void phx_drafter_rehearse(phx_drafter *drafter, uint32_t n_rows)
{
    assert(drafter->n_max && drafter->is_adapting);
    memset(&drafter->rehearsal, 0, sizeof(drafter->rehearsal));
    drafter->rehearsal.is_on = true;
    drafter->rehearsal.size = size_of(n_rows);
}

bool phx_drafter_has_rehearsed(const phx_drafter *drafter)
{
    return drafter->rehearsal.windows[drafter->n_max].n == PHX_DRAFTER_REHEARSED;
}

/* Lengths take turns, so that all meet what else the machine does. */
static void note_rehearsal(phx_drafter *drafter, const phx_drafter_step *step)
{
    const uint32_t n = drafter->rehearsal.length;
    if (!step->is_steady || step->us <= 0 || step->n_asked != n || phx_drafter_has_rehearsed(drafter) ||
        size_of(step->n_rows) != drafter->rehearsal.size)
        return;
    window_add(&drafter->rehearsal.windows[n], step->us);
    drafter->rehearsal.length = n == drafter->n_max ? 0 : n + 1;
}

/* The median over the turns of a step's time against that of one without drafts in the same turn. Lengths
 * that were not reached stay unknown. */
void phx_drafter_end_rehearsal(phx_drafter *drafter, uint32_t n_flight)
{
    phx_drafter_size *size = &drafter->sizes[drafter->rehearsal.size];
    const phx_drafter_window *windows = drafter->rehearsal.windows;
    const double gap_us = drafter->gap_us > 0 ? drafter->gap_us : 0;
    assert(drafter->rehearsal.is_on);
    drafter->rehearsal.is_on = false;
    drafter->rehearsal.n_left = n_flight;
    if (windows[0].n == 0)
        return;
    size->us = window_median(&windows[0]) + gap_us;
    size->n_steps = 1;
    for (uint32_t n = 1; n <= drafter->n_max && windows[n].n; n++) {
        phx_drafter_window ratios = {.n = 0};
        for (uint32_t i = 0; i < windows[n].n; i++)
            window_add(&ratios, (windows[n].us[i] + gap_us) / (windows[0].us[i] + gap_us));
        size->cost[n] = window_median(&ratios);
        size->n_known[n] = 1;
        size->is_foreign[n] = true;
    }
}
