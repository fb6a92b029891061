/* client/bench_tests.h - the tests of `bench engine`: their names, and running one against a server.
 * Owns: what is measured between which two events. Not here: the machine's limits, the table (cmd_bench.c).
 */
#ifndef PHX_CLIENT_BENCH_TESTS_H
#define PHX_CLIENT_BENCH_TESTS_H

#include "client/control_client.h"
#include "client/interrupt.h"

#define PHX_BENCH_TESTS_MAX 64u
#define PHX_BENCH_BATCH_MAX 64u

/* "pp512": a prompt of 512 tokens, until its first answer token. "tg64", "tg64@4096", "tg64@4096x16": 64
 * tokens generated behind 4096 of prompt, by 16 requests at once. */
typedef struct phx_bench_test {
    char name[32];
    uint32_t n_prompt; /* 0: a tg test */
    uint32_t n_gen;
    uint32_t depth;
    uint32_t batch;
} phx_bench_test;

/* A list of names with commas between. */
phx_code phx_bench_tests_parse(phx_str list, phx_bench_test *tests, size_t *ret_n, phx_error *err);

/* Longest context that the test needs. */
uint32_t phx_bench_test_context(const phx_bench_test *test);

typedef struct phx_bench_rig {
    phx_client *client;
    phx_interrupt *interrupt;
    uint32_t n_vocab;
    uint64_t
        seed; /* of the prompts; every run draws new ones, so that the prefix cache helps nobody unasked */
    uint64_t n_runs;
} phx_bench_rig;

/* Tokens per second of one run: prompt tokens of pp, generated tokens of all requests of tg. */
phx_code phx_bench_run(phx_bench_rig *rig, const phx_bench_test *test, double *ret_tokens_per_s,
                       phx_error *err);

/* Reads events until n tokens of the call have come in all (0: to its end); *n_seen counts them. */
phx_code phx_bench_await(phx_bench_rig *rig, uint64_t call_id, uint32_t n, uint32_t *n_seen, phx_error *err);

/* Cancels the call and reads what it still says. */
phx_code phx_bench_end(phx_bench_rig *rig, uint64_t call_id, phx_error *err);

#endif
