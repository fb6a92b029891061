/* tests/e2e/test_emu_kills.c - a group on the emulated device, joined by the stand-in for NCCL, loses a rank:
 * the group ends, the client hears of it, nothing is left behind. Moments from a seed, PHX_E2E_SEED. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/rng.h"
#include "base/str.h"
#include "tests/e2e/site.h"
#include "tests/emulator.h"

enum { N_KILLS = 4, START_MS = 60000, CLEAN_MS = 20000 };

/* From the connecting of NCCL on: connecting, the check of its links, loading, self-check, the first steps.
 */
static void kill_one(site *s, phx_rng *rng, const char *const *layout, const char *model, const char *tokens)
{
    const char *args[SITE_ARGS_MAX] = {"logits",    "--model",   model, "--tokens",  tokens, "--out",
                                       "/dev/null", "--backend", "emu", "--threads", "1"};
    pid_t pids[SITE_PIDS_MAX];
    for (uint32_t i = 0; layout[i]; i++)
        args[11 + i] = layout[i];
    site_start(s, "phalanx", args, NULL);
    if (!site_await_log(s, "collectives: NCCL", START_MS)) {
        site_print_log(s);
        fail_msg("the group did not start");
    }
    const uint32_t delay_us = phx_rng_below(rng, 1500000);
    (void)usleep(delay_us);
    const uint32_t n = site_pids(s, "phalanx-worker", pids);
    if (n == 0)
        site_print_log(s);
    assert_true(n > 0);
    assert_int_equal(kill(pids[phx_rng_below(rng, n)], SIGKILL), 0);
    const int code = site_wait(s, CLEAN_MS);
    (void)printf("killed one of %u ranks after %u ms: exit %d\n", n, delay_us / 1000, code);
    if (code <= 0 || code >= 128)
        site_print_log(s);
    assert_in_range(code, 1, 127);
    site_assert_clean(s, CLEAN_MS);
}

static void killed_rank_ends_the_group(void **state)
{
    static const char *const layouts[][5] = {{"--tp", "2", NULL}, {"--pp", "2", NULL}};
    char model[512], tokens[4096] = "1";
    site *s = *state;
    const char *source = getenv("PHX_SOURCE"), *seed_text = getenv("PHX_E2E_SEED");
    uint64_t seed = 1;
    if (seed_text && !phx_str_to_u64(phx_str_of(seed_text), 0, UINT64_MAX, &seed))
        fail_msg("PHX_E2E_SEED is not a number");
    (void)snprintf(model, sizeof(model), "%s/tests/data/golden/deepseek-v32-fp8", source ? source : ".");
    for (size_t at = 1; at < 500; at += 2)
        memcpy(tokens + at, ",7", 3);
    phx_rng rng = {seed, 0};
    for (uint32_t i = 0; i < N_KILLS; i++)
        kill_one(s, &rng, layouts[i % 2], model, tokens);
}

int main(void)
{
    if (!phx_has_emulator())
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(killed_rank_ends_the_group, site_setup, site_teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
