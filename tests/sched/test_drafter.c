/* tests/sched/test_drafter.c - the choice of draft lengths against machines whose costs and acceptance are
 * known. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/rng.h"
#include "coordinator/sched/drafter.h"

enum { N_STEPS = 20000, N_LATE = 2000 };

typedef struct machine {
    double us[PHX_DRAFTS_MAX + 1]; /* of a step with that many drafts */
    double holds;                  /* chance of each draft */
    double noise;                  /* of the step times, either way */
    bool is_shared;                /* slow by half for spells of some 40 steps, single steps even more */
} machine;

typedef struct outcome {
    double us;
    double own_us;   /* what it had taken without noise and neighbours */
    double plain_us; /* what its tokens had taken without drafts, at the same moments */
    double worst;    /* largest quotient of the two, at the end of any step from the first on */
    double tokens;
    uint32_t n_steps, n_till_drafts;       /* steps before the first that was fed drafts */
    uint32_t n_chosen[PHX_DRAFTS_MAX + 1]; /* in the last N_LATE steps */
} outcome;

static double unit(phx_rng *rng)
{
    return (double)phx_rng_unit(phx_rng_u64(rng));
}

/* How much slower than by itself the machine runs a step. */
static double slowness(const machine *m, bool *is_slow, phx_rng *rng)
{
    double factor = 1 + m->noise * (2 * unit(rng) - 1);
    if (!m->is_shared)
        return factor;
    if (unit(rng) < 1.0 / 40)
        *is_slow = !*is_slow;
    factor *= *is_slow ? 1.5 : 1;
    return unit(rng) < 0.1 ? factor * (1 + 3 * unit(rng)) : factor;
}

/* As the scheduler does: two steps are in flight, a step feeds what the one before was asked for. A step that
 * only feeds or only asks takes half of what drafts cost. */
static void run_on(phx_drafter *drafter, const machine *m, uint32_t n_rows, uint32_t n_steps, phx_rng *rng,
                   outcome *sum)
{
    uint32_t n_have = 0;
    bool is_slow = false;
    struct {
        uint32_t n, n_fed;
        double us, slow;
    } flight[2] = {0};
    for (uint32_t i = 0; i < n_steps; i++) {
        const uint32_t first = (i + 1) % 2;
        const bool drafting = i && (flight[first].n || flight[first].n_fed);
        const uint32_t n = phx_drafter_choose(drafter, n_rows, drafting), n_fed = n_have;
        n_have = n;
        flight[i % 2].n = n;
        flight[i % 2].n_fed = n_fed;
        flight[i % 2].slow = slowness(m, &is_slow, rng);
        flight[i % 2].us = (m->us[n] + m->us[n_fed]) / 2 * flight[i % 2].slow;
        sum->own_us += (m->us[n] + m->us[n_fed]) / 2;
        if (i + N_LATE >= n_steps)
            sum->n_chosen[n]++;
        if (i == 0)
            continue;
        phx_drafter_step step = {
            .n_rows = n_rows,
            .n_fed = flight[first].n_fed,
            .n_asked = flight[first].n,
            .is_steady = flight[first].n == flight[first].n_fed,
            .us = flight[first].us,
        };
        for (uint32_t r = 0; r < n_rows; r++) {
            uint32_t held = 0;
            while (held < flight[first].n_fed && unit(rng) < m->holds)
                held++;
            if (flight[first].n_fed)
                phx_drafter_note_row(drafter, flight[first].n_fed, held);
            step.n_held += held;
        }
        phx_drafter_note_step(drafter, &step);
        sum->tokens += n_rows + step.n_held;
        sum->us += step.us;
        sum->plain_us += m->us[0] * flight[first].slow * (1 + (double)step.n_held / n_rows);
        sum->worst = sum->us / sum->plain_us > sum->worst ? sum->us / sum->plain_us : sum->worst;
        sum->n_till_drafts += sum->n_till_drafts == sum->n_steps && !n_fed;
        sum->n_steps++;
    }
}

static outcome run(phx_drafter *drafter, const machine *m, uint32_t n_rows, uint32_t n_steps, phx_rng *rng)
{
    outcome sum = {0};
    run_on(drafter, m, n_rows, n_steps, rng, &sum);
    return sum;
}

static void rehearse(phx_drafter *drafter, const machine *m, uint32_t n_rows, phx_rng *rng)
{
    phx_drafter_rehearse(drafter, n_rows);
    while (!phx_drafter_has_rehearsed(drafter))
        (void)run(drafter, m, n_rows, 8, rng);
    phx_drafter_end_rehearsal(drafter, 0);
}

static double best_rate(const machine *m, uint32_t n_max)
{
    double best = 0, all_hold = 1, tokens = 0;
    for (uint32_t n = 0; n <= n_max; n++, all_hold *= m->holds) {
        tokens += all_hold;
        best = tokens / m->us[n] > best ? tokens / m->us[n] : best;
    }
    return best;
}

static uint32_t most_chosen(const outcome *o)
{
    uint32_t best = 0;
    for (uint32_t n = 1; n <= PHX_DRAFTS_MAX; n++)
        best = o->n_chosen[n] > o->n_chosen[best] ? n : best;
    return best;
}

/* Drafts that seldom hold and cost much: almost all steps go without, and the loss stays below 3 %. */
static void test_never_pays(void **state)
{
    (void)state;
    phx_drafter drafter;
    phx_rng rng = {.seed = 17};
    const machine m = {.us = {1000, 1600, 2200, 2800}, .holds = 0.2, .noise = 0.1};
    phx_drafter_init(&drafter, 3, true);
    const outcome o = run(&drafter, &m, 1, N_STEPS, &rng);
    assert_int_equal(most_chosen(&o), 0);
    assert_true(o.us / o.tokens < 1.03 * 1000);
}

/* The length with the most tokens per time is found, whichever it is. */
static void test_finds_best(void **state)
{
    (void)state;
    static const struct {
        machine m;
        uint32_t best;
    } cases[] = {
        {{.us = {1000, 1100, 1200, 1300, 1400, 1500}, .holds = 0.9, .noise = 0.1}, 5},
        {{.us = {1000, 1050, 1600, 2200, 2800, 3400}, .holds = 0.8, .noise = 0.1}, 1},
        {{.us = {1000, 1150, 1300, 2000, 2700, 3400}, .holds = 0.85, .noise = 0.1}, 2},
        {{.us = {1000, 2000, 3000, 4000, 5000, 6000}, .holds = 0.95, .noise = 0.1}, 0},
    };
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        phx_drafter drafter;
        phx_rng rng = {.seed = 17};
        phx_drafter_init(&drafter, 5, true);
        const outcome o = run(&drafter, &cases[c].m, 1, N_STEPS, &rng);
        if (most_chosen(&o) != cases[c].best)
            fail_msg("case %zu: %u drafts, best are %u", c, most_chosen(&o), cases[c].best);
    }
}

/* A machine that others use too, whose steps now and then take half as long again, for longer than a trial
 * lasts: what is chosen brings at most 2.5 % less than the best length, also where lengths
 * differ by little or none pays. */
static void test_shared_machine(void **state)
{
    (void)state;
    static const machine cases[] = {
        {.us = {1000, 1500, 2000, 2500}, .holds = 0.75, .noise = 0.1, .is_shared = true},
        {.us = {1000, 1900, 2500, 3400}, .holds = 0.75, .noise = 0.1, .is_shared = true},
        {.us = {1000, 1700, 2100, 2800}, .holds = 0.8, .noise = 0.1, .is_shared = true},
        {.us = {1000, 1200, 1400, 1600}, .holds = 0.8, .noise = 0.1, .is_shared = true},
        {.us = {1000, 1250, 1700, 2200}, .holds = 0.8, .noise = 0.1, .is_shared = true},
        {.us = {1000, 2000, 2500, 3000}, .holds = 0.02, .noise = 0.1, .is_shared = true},
    };
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        for (uint32_t seed = 1; seed <= 8; seed++) {
            phx_drafter drafter;
            phx_rng rng = {.seed = seed};
            phx_drafter_init(&drafter, 3, true);
            rehearse(&drafter, &cases[c], 1, &rng);
            (void)run(&drafter, &cases[c], 1, 500, &rng);
            const outcome o = run(&drafter, &cases[c], 1, N_STEPS, &rng);
            const double share = o.tokens / o.own_us / best_rate(&cases[c], 3);
            if (share < 0.975)
                fail_msg("case %zu, seed %u: %.3f of the best length", c, seed, share);
        }
    }
}

/* Each batch size has its own choice. */
static void test_batch_sizes(void **state)
{
    (void)state;
    phx_drafter drafter;
    phx_rng rng = {.seed = 17};
    const machine one = {.us = {1000, 1100, 1200, 1300}, .holds = 0.8, .noise = 0.05};
    const machine many = {.us = {8000, 15000, 22000, 29000}, .holds = 0.8, .noise = 0.05};
    phx_drafter_init(&drafter, 3, true);
    outcome o_one = {0}, o_many = {0};
    for (uint32_t i = 0; i < 4; i++) {
        o_one = run(&drafter, &one, 1, N_STEPS / 4, &rng);
        o_many = run(&drafter, &many, 16, N_STEPS / 4, &rng);
    }
    assert_int_equal(most_chosen(&o_one), 3);
    assert_int_equal(most_chosen(&o_many), 0);
}

/* What changes is followed: text that is easy to guess after text that is not, and back. */
static void test_follows(void **state)
{
    (void)state;
    phx_drafter drafter;
    phx_rng rng = {.seed = 17};
    machine m = {.us = {1000, 1300, 1600, 1900}, .holds = 0.05, .noise = 0.05};
    phx_drafter_init(&drafter, 3, true);
    outcome o = run(&drafter, &m, 1, N_STEPS, &rng);
    assert_int_equal(most_chosen(&o), 0);
    m.holds = 0.95;
    o = run(&drafter, &m, 1, N_STEPS, &rng);
    assert_int_equal(most_chosen(&o), 3);
    m.holds = 0.05;
    o = run(&drafter, &m, 1, N_STEPS, &rng);
    assert_int_equal(most_chosen(&o), 0);
}

/* First steps that were far too short, whatever the reason: what follows is believed all the same. */
static void test_short_steps_at_first(void **state)
{
    (void)state;
    phx_drafter drafter;
    phx_rng rng = {.seed = 17};
    const machine m = {.us = {1000, 1100}, .holds = 0.8, .noise = 0.05};
    phx_drafter_init(&drafter, 1, true);
    for (uint32_t i = 0; i < 5; i++)
        phx_drafter_note_step(&drafter, &(phx_drafter_step){.n_rows = 1, .is_steady = true, .us = 10});
    (void)run(&drafter, &m, 1, 1000, &rng);
    assert_int_equal(drafter.sizes[0].length, 1);
    assert_true(phx_drafter_cost_us(&drafter, 1, 0) > 800 && phx_drafter_cost_us(&drafter, 1, 0) < 1200);
    assert_true(phx_drafter_cost_us(&drafter, 1, 1) > 1000 && phx_drafter_cost_us(&drafter, 1, 1) < 1200);
}

/* Time outside the ranks counts for every length alike, so drafts pay that would not pay without it. */
static void test_gaps(void **state)
{
    (void)state;
    const machine m = {.us = {1000, 2000}, .holds = 0.8, .noise = 0.05};
    for (uint32_t gap_us = 0; gap_us <= 1000; gap_us += 1000) {
        phx_drafter drafter;
        phx_rng rng = {.seed = 17};
        phx_drafter_init(&drafter, 1, true);
        for (uint32_t i = 0; i < 1000; i++) /* every other result waits for the next one */
            phx_drafter_note_gap(&drafter, i % 2 ? 2.0 * (1000 + gap_us) : 0, 1000);
        phx_drafter_note_gap(&drafter, 1e7, 1000);
        const outcome o = run(&drafter, &m, 1, 4000, &rng);
        assert_int_equal(most_chosen(&o), gap_us ? 1 : 0);
    }
}

/* A pause of the machine is not a cost. */
static void test_outlier(void **state)
{
    (void)state;
    phx_drafter drafter;
    phx_rng rng = {.seed = 17};
    const machine m = {.us = {1000, 1100}, .holds = 0.8, .noise = 0.05};
    phx_drafter_init(&drafter, 1, true);
    (void)run(&drafter, &m, 1, 1000, &rng);
    phx_drafter_note_step(
        &drafter, &(phx_drafter_step){.n_rows = 1, .n_fed = 1, .n_asked = 1, .is_steady = true, .us = 5e6});
    assert_true(phx_drafter_cost_us(&drafter, 1, 1) < 1300);
}

/* At no moment from the first token on has decoding taken more than 3 % longer than without drafts: whether
 * they cost much or little, hold or not, were rehearsed or not, and when all that changes. */
static void test_bound(void **state)
{
    (void)state;
    static const machine cases[][3] = {
        {{.us = {1000, 1900, 2700, 3500}, .holds = 0.75}},
        {{.us = {1000, 2500, 4000, 5500}, .holds = 0.9}},
        {{.us = {1000, 1050, 1100, 1150}, .holds = 0}},
        {{.us = {1000, 1450, 1900, 2300}, .holds = 0}},
        {{.us = {1000, 900, 1000, 1100}, .holds = 0}},
        {{.us = {1000, 1100, 1200, 1300}, .holds = 0.9}, {.us = {1000, 1100, 1200, 1300}, .holds = 0}},
        {{.us = {1000, 1450, 1900, 2300}, .holds = 0},
         {.us = {1000, 1450, 1900, 2300}, .holds = 0.95},
         {.us = {1000, 1450, 1900, 2300}, .holds = 0}},
        {{.us = {1000, 1300, 1600, 1900}, .holds = 0.6},
         {.us = {1000, 2000, 3000, 4000}, .holds = 0.6},
         {.us = {3000, 6000, 9000, 12000}, .holds = 0.6}},
    };
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        for (uint32_t seed = 0; seed < 24; seed++) {
            phx_drafter drafter;
            phx_rng rng = {.seed = seed};
            outcome sum = {0};
            const uint32_t n_rows = seed % 3 ? 1 : 8;
            phx_drafter_init(&drafter, 3, true);
            if (seed % 2)
                rehearse(&drafter, &cases[c][0], n_rows, &rng);
            for (size_t k = 0; k < 3 && cases[c][k].us[0] > 0; k++) {
                machine m = cases[c][k];
                m.noise = seed % 4 < 2 ? 0 : 0.1;
                run_on(&drafter, &m, n_rows, 4000, &rng, &sum);
            }
            if (sum.worst > 1.03)
                fail_msg("case %zu, seed %u: %.4f of the time without drafts", c, seed, sum.worst);
        }
    }
}

/* Nor when drafts take twice the time that the rehearsal said, or half; then they still come. */
static void test_wrong_rehearsal(void **state)
{
    (void)state;
    const machine cheap = {.us = {1000, 1450, 1900, 2350}, .noise = 0.1};
    const machine dear = {.us = {1000, 1900, 2800, 3700}, .noise = 0.1};
    for (uint32_t seed = 0; seed < 24; seed++) {
        machine m = seed % 2 ? dear : cheap;
        phx_drafter drafter;
        phx_rng rng = {.seed = seed};
        phx_drafter_init(&drafter, 3, true);
        rehearse(&drafter, seed % 2 ? &cheap : &dear, 1, &rng);
        m.holds = seed % 2 ? 0.75 : 0.95;
        const outcome o = run(&drafter, &m, 1, N_STEPS, &rng);
        if (o.worst > 1.03)
            fail_msg("seed %u: %.4f of the time without drafts", seed, o.worst);
        assert_int_equal(most_chosen(&o), seed % 2 ? 0 : 3);
    }
}

/* Drafts that pay well come into use with the first tokens, once their costs have been rehearsed. */
static void test_soon(void **state)
{
    (void)state;
    static const struct {
        machine m;
        uint32_t n_most;    /* steps before the first drafts are fed */
        double after_first; /* tokens per time of the best length, that the first 256 steps reach */
    } cases[] = {
        {{.us = {1000, 900, 1000, 1100}, .holds = 0.8}, 10, 0.9},
        {{.us = {1000, 1100, 1200, 1300}, .holds = 0.8}, 16, 0.9},
        {{.us = {1000, 1450, 1800, 2200}, .holds = 0.85}, 40, 0.8},
    };
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        phx_drafter drafter;
        phx_rng rng = {.seed = 17};
        phx_drafter_init(&drafter, 3, true);
        rehearse(&drafter, &cases[c].m, 1, &rng);
        const outcome o = run(&drafter, &cases[c].m, 1, 256, &rng);
        const double share = o.tokens / o.us / best_rate(&cases[c].m, 3);
        if (o.n_till_drafts > cases[c].n_most || share < cases[c].after_first)
            fail_msg("case %zu: %u steps without drafts, then %.3f of the best length", c, o.n_till_drafts,
                     share);
    }
}

static void test_fixed(void **state)
{
    (void)state;
    phx_drafter drafter;
    phx_drafter_init(&drafter, 4, false);
    for (uint32_t i = 0; i < 100; i++) {
        assert_int_equal(phx_drafter_choose(&drafter, 1 + i, 2), 4);
        phx_drafter_note_step(
            &drafter,
            &(phx_drafter_step){.n_rows = 1 + i, .n_fed = 4, .n_asked = 4, .is_steady = true, .us = 1e6});
        phx_drafter_note_row(&drafter, 4, 0);
    }
    phx_drafter_init(&drafter, 0, true);
    assert_int_equal(phx_drafter_choose(&drafter, 3, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_never_pays),     cmocka_unit_test(test_finds_best),
        cmocka_unit_test(test_shared_machine), cmocka_unit_test(test_batch_sizes),
        cmocka_unit_test(test_follows),        cmocka_unit_test(test_gaps),
        cmocka_unit_test(test_outlier),        cmocka_unit_test(test_short_steps_at_first),
        cmocka_unit_test(test_bound),          cmocka_unit_test(test_soon),
        cmocka_unit_test(test_fixed),          cmocka_unit_test(test_wrong_rehearsal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
