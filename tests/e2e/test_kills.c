/* tests/e2e/test_kills.c - a server under load loses a process: every client hears of it, nothing is left
 * behind, and the next start works. Kills as many times as PHX_E2E_KILLS says (default 8), from PHX_E2E_SEED.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rng.h"
#include "tests/e2e/load.h"
#include "tests/e2e/site.h"

enum { HEARD_MS = 2000, CLEAN_MS = 20000, START_MS = 60000, EXIT_GROUP = 5 };

static const char *const layouts[][7] = {
    {"--tp", "2", "--pp", "2", "--relaunch", "off", NULL},
    {"--tp", "1", "--pp", "1", "--relaunch", "off", NULL},
    {"--tp", "2", "--pp", "1", "--relaunch", "off", NULL},
};

typedef enum victim { RANK, MPIRUN, COORDINATOR, N_VICTIMS } victim;

static const char *const names[] = {"phalanx-worker", "mpirun", "phalanx-coordin"};

/* A living process of that kind; 0 when there is none, as mpirun for a single rank. */
static pid_t pick(const site *s, victim v, phx_rng *rng)
{
    pid_t pids[SITE_PIDS_MAX];
    const uint32_t n = site_pids(s, names[v], pids);
    return n ? pids[phx_rng_below(rng, n)] : 0;
}

/* What clients may hear: an error; or a closed connection where the coordinator itself died. */
static bool is_clear(const load_client *c, victim v)
{
    return c->end == LOAD_ERROR || c->end == LOAD_NO_SERVER || (c->end == LOAD_CLOSED && v == COORDINATOR);
}

static void check_clients(const load *l, victim v, uint64_t kill_us, uint64_t *worst_ms)
{
    for (uint32_t i = 0; i < l->n; i++) {
        const load_client *c = &l->clients[i];
        const uint64_t ms = c->end_us > kill_us ? (c->end_us - kill_us) / 1000 : 0;
        if (!is_clear(c, v) || ms > HEARD_MS)
            fail_msg("client %u (%s): %s %llu ms after the kill of %s: %s", i,
                     c->control ? "control" : "http", load_end_name(c->end), (unsigned long long)ms, names[v],
                     c->why);
        *worst_ms = ms > *worst_ms ? ms : *worst_ms;
    }
}

/* One life of a server: start, load, kill at a random moment, look around. */
static void kill_once(site *s, phx_rng *rng, uint32_t i, uint64_t *worst_ms)
{
    load l;
    const uint32_t layout = phx_rng_below(rng, 3);
    victim v = (victim)phx_rng_below(rng, N_VICTIMS);
    const uint32_t delay_us = phx_rng_below(rng, 1200000);
    site_serve(s, layouts[layout]);
    load_start(&l, s->port, s->control, 5, 2);
    (void)usleep(delay_us);
    pid_t pid = pick(s, v, rng);
    if (!pid) {
        v = RANK;
        pid = pick(s, v, rng);
    }
    assert_true(pid > 0);
    const uint64_t kill_us = phx_clock_us();
    assert_int_equal(kill(pid, SIGKILL), 0);
    load_join(&l, false);
    const int code = site_wait(s, CLEAN_MS);
    (void)printf("kill %u: layout %u, %s after %u ms, %u answers before, exit %d\n", i, layout, names[v],
                 delay_us / 1000, load_done(&l), code);
    check_clients(&l, v, kill_us, worst_ms);
    assert_int_equal(code, v == COORDINATOR ? 128 + SIGKILL : EXIT_GROUP);
    site_assert_clean(s, CLEAN_MS);
}

static void test_kills(void **state)
{
    const char *kills = getenv("PHX_E2E_KILLS"), *given = getenv("PHX_E2E_SEED");
    const uint32_t n = kills ? (uint32_t)strtoul(kills, NULL, 10) : 8;
    phx_rng rng = {.seed = given ? strtoull(given, NULL, 10) : phx_clock_us()};
    uint64_t worst_ms = 0;
    site s;
    (void)state;
    (void)printf("PHX_E2E_SEED=%llu\n", (unsigned long long)rng.seed);
    site_open(&s);
    for (uint32_t i = 0; i < n; i++)
        kill_once(&s, &rng, i, &worst_ms);
    site_close(&s);
    (void)printf("%u kills; the last client heard of one after %llu ms\n", n, (unsigned long long)worst_ms);
}

/* Before it is ready: while processes start, load and check themselves. */
static void test_kills_during_start(void **state)
{
    phx_rng rng = {.seed = phx_clock_us()};
    site s;
    (void)state;
    site_open(&s);
    for (uint32_t i = 0; i < 6; i++) {
        const victim v = (victim)(i % N_VICTIMS);
        const uint32_t delay_us = 20000 + phx_rng_below(&rng, 500000);
        pid_t pid = 0;
        site_launch(&s, layouts[0]);
        (void)usleep(delay_us);
        for (uint32_t tries = 0; !pid && tries < START_MS / 2; tries++) {
            pid = pick(&s, v, &rng);
            (void)usleep(pid ? 0 : 2000);
        }
        if (!pid)
            site_print_log(&s);
        assert_true(pid > 0);
        (void)kill(pid, SIGKILL);
        const int code = site_wait(&s, CLEAN_MS);
        (void)printf("start %u: %s after %u ms, exit %d\n", i, names[v], delay_us / 1000, code);
        if (code != (v == COORDINATOR ? 128 + SIGKILL : EXIT_GROUP))
            site_print_log(&s);
        assert_int_equal(code, v == COORDINATOR ? 128 + SIGKILL : EXIT_GROUP);
        site_assert_clean(&s, CLEAN_MS);
    }
    site_serve(&s, layouts[0]);
    assert_int_equal(kill(s.pid, SIGTERM), 0);
    assert_int_equal(site_wait(&s, CLEAN_MS), 0);
    site_assert_clean(&s, CLEAN_MS);
    site_close(&s);
}

typedef enum moment { FIRST_RANK, ALL_RANKS, ANSWERING, N_MOMENTS } moment;

static void await_moment(site *s, moment when)
{
    pid_t pids[SITE_PIDS_MAX];
    const uint32_t n_ranks = when == FIRST_RANK ? 1 : 4;
    bool reached = when == ANSWERING && site_await_log(s, "Long ago", START_MS);
    for (uint32_t tries = 0; when != ANSWERING && !reached && tries < START_MS / 5; tries++) {
        reached = site_pids(s, "phalanx-worker", pids) >= n_ranks;
        (void)usleep(reached ? 0 : 5000);
    }
    if (!reached)
        site_print_log(s);
    assert_true(reached);
}

/* `phalanx run` dies without a word: the lifeline takes the private server and its folder along. Its answer
 * is as long as the context lets it be, and the kill comes at its first words, so it still goes on. */
static void test_run_killed(void **state)
{
    static const char *const args[] = {"run", "--tp", "2", "--pp", "2", "--ignore-eos", "Tell me a story",
                                       NULL};
    site s;
    (void)state;
    site_open(&s);
    for (uint32_t i = 0; i < N_MOMENTS; i++) {
        site_start(&s, "phalanx", args, NULL);
        await_moment(&s, (moment)i);
        assert_int_equal(kill(s.pid, SIGKILL), 0);
        assert_int_equal(site_wait(&s, CLEAN_MS), 128 + SIGKILL);
        site_assert_clean(&s, CLEAN_MS);
    }
    site_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kills),
        cmocka_unit_test(test_kills_during_start),
        cmocka_unit_test(test_run_killed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
