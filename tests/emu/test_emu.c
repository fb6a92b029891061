/* tests/emu/test_emu.c - the emulator runs sound kernels at every seed, and catches each planted fault at
 * every seed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "tests/emu/planted.h"

#define SEEDS 20
#define N     PHX_PLANTED_THREADS

typedef struct planted {
    phx_planted_kernel kernel;
    phx_fault fault;
    const char *text; /* part of the report */
} planted;

static const planted faults[] = {
    {PHX_PLANTED_REVERSE, PHX_FAULT_NO_BARRIER, "race in shared memory"},
    {PHX_PLANTED_REVERSE, PHX_FAULT_EARLY_EXIT, "divergent barrier: 1 of 128 threads have exited"},
    {PHX_PLANTED_REVERSE, PHX_FAULT_TWO_BARRIERS, "divergent barrier: some threads wait at line"},
    {PHX_PLANTED_REVERSE, PHX_FAULT_OFF_BY_ONE, "index 128 of shared array x of 128"},
    {PHX_PLANTED_REVERSE, PHX_FAULT_WRITE_AFTER_READ, "race in shared memory"},
    {PHX_PLANTED_REVERSE, PHX_FAULT_SAME_OUTPUT, "race in global memory"},
    {PHX_PLANTED_WARP_SUMS, PHX_FAULT_LANE_MISSING, "for lanes that never come"},
    {PHX_PLANTED_WARP_SUMS, PHX_FAULT_MASK, "which leaves it out"},
    {PHX_PLANTED_WARP_SUMS, PHX_FAULT_WRONG_LANE, "reads lane 32"},
    {PHX_PLANTED_NEIGHBOURS, PHX_FAULT_DYNAMIC,
     "dynamic shared array x needs 516 bytes, the launch gave 512"},
    {PHX_PLANTED_NEIGHBOURS, PHX_FAULT_NO_WARP_SYNC, "race in shared memory"},
    {PHX_PLANTED_NEIGHBOURS, PHX_FAULT_OTHER_WARP, "race in shared memory"},
    {PHX_PLANTED_SAME_NUMBER, PHX_FAULT_BLOCKS, "race in global memory"},
    {PHX_PLANTED_WIDE, PHX_FAULT_UNALIGNED_LOAD, "is not aligned to 16 bytes"},
    {PHX_PLANTED_WIDE, PHX_FAULT_UNALIGNED_COPY, "is not aligned to 16 bytes, a copy to shared memory"},
    {PHX_PLANTED_WIDE, PHX_FAULT_UNALIGNED_STORE, "is not aligned to 16 bytes"},
    {PHX_PLANTED_WIDE, PHX_FAULT_NOT_ALLOWED, "PHX_ALLOW_SHARED must allow"},
    {PHX_PLANTED_WIDE, PHX_FAULT_TOO_MUCH_SHARED, "a block has at most 48 KiB fixed and 99 KiB"},
    {PHX_PLANTED_WIDE, PHX_FAULT_NO_BLOCKS, "a grid of 0 x 1 x 1 blocks"},
    {PHX_PLANTED_WIDE, PHX_FAULT_TALL_GRID, "a grid of 1 x 65536 x 1 blocks"},
};

static _Alignas(16) float in[N];
static _Alignas(16) float out[N];

static void fill(void)
{
    for (int i = 0; i < N; i++) {
        in[i] = (float)(i * i % 37);
        out[i] = -1.0f;
    }
}

static void test_planted_faults(void **state)
{
    (void)state;
    for (size_t f = 0; f < sizeof(faults) / sizeof(faults[0]); f++) {
        for (uint64_t seed = 1; seed <= SEEDS; seed++) {
            fill();
            phx_emu_seed(seed);
            const int err = phx_planted(faults[f].kernel, faults[f].fault, in, out);
            if (err == 0 || !strstr(phx_emu_fault(), faults[f].text))
                fail_msg("fault %d, seed %d: error %d, \"%s\" lacks \"%s\"", (int)faults[f].fault, (int)seed,
                         err, phx_emu_fault(), faults[f].text);
        }
    }
}

static void test_sound_kernels(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        phx_emu_seed(seed);
        for (int k = PHX_PLANTED_REVERSE; k <= PHX_PLANTED_WIDE; k++) {
            fill();
            assert_int_equal(phx_planted((phx_planted_kernel)k, PHX_FAULT_NONE, in, out), 0);
            assert_string_equal(phx_emu_fault(), "");
            for (int i = 0; i < N; i++) {
                float sum = 0.0f;
                for (int lane = 0; lane < 32; lane++)
                    sum += in[i / 32 * 32 + lane];
                const float want[] = {in[N - 1 - i], sum, in[i ^ 1], (float)i, in[i]};
                assert_true(out[i] == want[k]);
            }
        }
    }
}

/* The threads really take turns: 128 fibres, two stays in each, and back. */
static void test_threads_interleave(void **state)
{
    (void)state;
    fill();
    const uint64_t before = phx_emu_switches();
    assert_int_equal(phx_planted(PHX_PLANTED_REVERSE, PHX_FAULT_NONE, in, out), 0);
    assert_int_equal(phx_emu_switches() - before, 4 * N);
}

/* A fault leaves nothing behind: the next launch is sound. */
static void test_after_a_fault(void **state)
{
    (void)state;
    fill();
    assert_int_not_equal(phx_planted(PHX_PLANTED_REVERSE, PHX_FAULT_EARLY_EXIT, in, out), 0);
    assert_int_equal(phx_planted(PHX_PLANTED_REVERSE, PHX_FAULT_NONE, in, out), 0);
    assert_string_equal(phx_emu_fault(), "");
    assert_true(out[0] == in[N - 1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_planted_faults),
        cmocka_unit_test(test_sound_kernels),
        cmocka_unit_test(test_threads_interleave),
        cmocka_unit_test(test_after_a_fault),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
