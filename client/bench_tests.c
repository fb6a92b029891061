/* client/bench_tests.c - running one test of `bench engine`.
 * Decoding is timed on one request from its first token to its last, while the others of the batch, started
 * before and told to go on for longer, fill the same steps. They share the prompt by the prefix cache, as
 * their own prefill is not what is asked about. */
#include "client/bench_tests.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/rng.h"

#define OTHERS_EXTRA 64u /* tokens by which the others outlast the timed request, at least */
#define TOKENS_MAX   (1u << 20)

/* The digits at *at, which then stands behind them. */
static bool take_number(phx_str *at, uint64_t most, uint32_t *ret)
{
    size_t n = 0;
    uint64_t value = 0;
    while (n < at->n && at->ptr[n] >= '0' && at->ptr[n] <= '9')
        n++;
    if (!phx_str_to_u64((phx_str){at->ptr, n}, 0, most, &value))
        return false;
    *at = (phx_str){at->ptr + n, at->n - n};
    *ret = (uint32_t)value;
    return true;
}

static bool take_char(phx_str *at, char c)
{
    if (at->n == 0 || at->ptr[0] != c)
        return false;
    *at = (phx_str){at->ptr + 1, at->n - 1};
    return true;
}

static bool parse_test(phx_str name, phx_bench_test *ret_test)
{
    phx_bench_test test = {.batch = 1};
    phx_str at = {name.ptr + 2, name.n - 2};
    bool ok = phx_str_copy(test.name, sizeof(test.name), name);
    if (phx_str_starts(name, phx_str_of("pp"))) {
        ok = ok && take_number(&at, TOKENS_MAX, &test.n_prompt) && test.n_prompt > 0;
    } else if (phx_str_starts(name, phx_str_of("tg"))) {
        ok = ok && take_number(&at, TOKENS_MAX, &test.n_gen) && test.n_gen > 0;
        if (take_char(&at, '@'))
            ok = ok && take_number(&at, TOKENS_MAX, &test.depth);
        if (take_char(&at, 'x'))
            ok = ok && take_number(&at, PHX_BENCH_BATCH_MAX, &test.batch) && test.batch > 0;
    } else {
        ok = false;
    }
    if (ok && at.n == 0)
        *ret_test = test;
    return ok && at.n == 0;
}

phx_code phx_bench_tests_parse(phx_str list, phx_bench_test *tests, size_t *ret_n, phx_error *err)
{
    size_t n = 0;
    for (size_t at = 0; at < list.n;) {
        const char *comma = memchr(list.ptr + at, ',', list.n - at);
        const size_t end = comma ? (size_t)(comma - list.ptr) : list.n;
        const phx_str name = {list.ptr + at, end - at};
        if (n == PHX_BENCH_TESTS_MAX)
            return PHX_FAIL(err, PHX_ERR_TOO_LONG, "more than %u tests", PHX_BENCH_TESTS_MAX);
        if (name.n < 3 || !parse_test(name, &tests[n]))
            return PHX_FAIL(err, PHX_ERR_INVALID, "'%.*s' is no test: pp512, tg64, tg64@4096 or tg64@4096x16",
                            (int)(name.n < 40 ? name.n : 40), name.ptr);
        n++;
        at = end + 1;
    }
    if (n == 0)
        return PHX_FAIL(err, PHX_ERR_INVALID, "no tests");
    *ret_n = n;
    return PHX_OK;
}

uint32_t phx_bench_test_context(const phx_bench_test *test)
{
    return test->n_prompt ? test->n_prompt + 1 : test->depth + 2 + 2 * test->n_gen + OTHERS_EXTRA;
}

/* ---- running ---- */

static phx_code start(phx_bench_rig *rig, uint32_t *ids, uint32_t n_ids, uint32_t n_output,
                      uint64_t *ret_call_id, phx_error *err)
{
    Phalanx__GenerateRequest request = PHALANX__GENERATE_REQUEST__INIT;
    Phalanx__TokenIds prompt = PHALANX__TOKEN_IDS__INIT;
    prompt.ids = ids;
    prompt.n_ids = n_ids;
    request.prompt_case = PHALANX__GENERATE_REQUEST__PROMPT_TOKEN_IDS;
    request.token_ids = &prompt;
    request.max_tokens = n_output;
    request.ignore_eos = 1;
    return phx_client_generate(rig->client, &request, 0, ret_call_id, err);
}

phx_code phx_bench_await(phx_bench_rig *rig, uint64_t call_id, uint32_t n, uint32_t *n_seen, phx_error *err)
{
    const Phalanx__GenerateEvent *event = NULL;
    while (n == 0 || *n_seen < n) {
        const phx_code rc =
            phx_client_next(rig->client, call_id, phx_interrupt_keep_waiting, rig->interrupt, &event, err);
        if (rc != PHX_OK)
            return rc;
        if (!event)
            return n == 0 ? PHX_OK
                          : PHX_FAIL(err, PHX_ERR_INTERNAL, "the answer ended after %u of %u tokens", *n_seen,
                                     n);
        *n_seen += (uint32_t)event->n_token_ids;
    }
    return PHX_OK;
}

phx_code phx_bench_end(phx_bench_rig *rig, uint64_t call_id, phx_error *err)
{
    uint32_t n_seen = 0;
    phx_error why = {0};
    phx_code rc = phx_client_cancel(rig->client, call_id, err);
    if (rc == PHX_OK)
        rc = phx_bench_await(rig, call_id, 0, &n_seen, &why);
    if (rc == PHX_ERR_CANCELLED && !phx_interrupted(rig->interrupt))
        return PHX_OK;
    return rc == PHX_OK ? rc : PHX_FAIL(err, rc, "%s", why.text);
}

static phx_code run_prompt(phx_bench_rig *rig, const phx_bench_test *test, uint32_t *ids, double *ret,
                           phx_error *err)
{
    uint64_t call_id = 0;
    uint32_t n_seen = 0;
    const uint64_t begin = phx_clock_us();
    phx_code rc = start(rig, ids, test->n_prompt, 1, &call_id, err);
    if (rc == PHX_OK)
        rc = phx_bench_await(rig, call_id, 1, &n_seen, err);
    const uint64_t end = phx_clock_us();
    if (rc == PHX_OK)
        rc = phx_bench_await(rig, call_id, 0, &n_seen, err);
    if (rc == PHX_OK)
        *ret = (double)test->n_prompt * 1e6 / (double)(end - begin + (end == begin));
    return rc;
}

static phx_code run_decode(phx_bench_rig *rig, const phx_bench_test *test, uint32_t *ids, double *ret,
                           phx_error *err)
{
    uint64_t calls[PHX_BENCH_BATCH_MAX] = {0};
    uint32_t n_seen[PHX_BENCH_BATCH_MAX] = {0};
    const uint32_t n_others = test->batch - 1;
    uint64_t times[2] = {0};
    phx_code rc = PHX_OK;
    if (test->depth) { /* fills the prefix cache */
        uint32_t n = 0;
        rc = start(rig, ids, test->depth, 1, &calls[0], err);
        if (rc == PHX_OK)
            rc = phx_bench_await(rig, calls[0], 0, &n, err);
    }
    for (uint32_t i = 0; i < n_others && rc == PHX_OK; i++) {
        ids[test->depth] = i % rig->n_vocab; /* each goes its own way */
        rc = start(rig, ids, test->depth + 1, 2 * test->n_gen + OTHERS_EXTRA, &calls[i], err);
    }
    for (uint32_t i = 0; i < n_others && rc == PHX_OK; i++)
        rc = phx_bench_await(rig, calls[i], 1, &n_seen[i], err);
    ids[test->depth] = n_others % rig->n_vocab;
    if (rc == PHX_OK)
        rc = start(rig, ids, test->depth + 1, test->n_gen + 1, &calls[n_others], err);
    for (uint32_t i = 0; i < 2 && rc == PHX_OK; i++) {
        rc = phx_bench_await(rig, calls[n_others], i == 0 ? 1 : test->n_gen + 1, &n_seen[n_others], err);
        times[i] = phx_clock_us();
    }
    if (rc == PHX_OK)
        rc = phx_bench_await(rig, calls[n_others], 0, &n_seen[n_others], err);
    for (uint32_t i = 0; i < n_others && rc == PHX_OK; i++)
        rc = phx_bench_end(rig, calls[i], err);
    if (rc == PHX_OK)
        *ret =
            (double)test->batch * test->n_gen * 1e6 / (double)(times[1] - times[0] + (times[1] == times[0]));
    return rc;
}

phx_code phx_bench_run(phx_bench_rig *rig, const phx_bench_test *test, double *ret_tokens_per_s,
                       phx_error *err)
{
    const uint32_t n = test->n_prompt ? test->n_prompt : test->depth + 1;
    uint32_t *ids = phx_alloc(n, sizeof(*ids));
    if (!ids)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "%u token ids", n);
    phx_rng rng = {.seed = phx_rng_key(rig->seed, rig->n_runs++, 0, 0)};
    for (uint32_t i = 0; i < n; i++)
        ids[i] = phx_rng_below(&rng, rig->n_vocab);
    const phx_code rc = test->n_prompt ? run_prompt(rig, test, ids, ret_tokens_per_s, err)
                                       : run_decode(rig, test, ids, ret_tokens_per_s, err);
    phx_free(ids);
    return rc;
}
