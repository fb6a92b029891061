/* tests/e2e/test_ends.c - how a server ends, and what its clients see meanwhile: SIGTERM once and twice, at
 * the start and past its limit; a rank that hangs; a group that is relaunched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/e2e/load.h"
#include "tests/e2e/site.h"

/* Limits of waiting: far above what a slow machine needs. */
enum {
    CLEAN_MS = 20000,
    LOG_MS = 20000,
    BEGIN_MS = 60000,
    FINISH_MS = 150000,
    EXIT_GROUP = 5,
    N_STREAMS = 3
};
enum { SILENCE_MS = 20000 }; /* a rank's silence is noticed after 5 s */

static const char *const layout[] = {"--tp", "2", "--pp", "2", NULL};

typedef struct streams {
    int fd[N_STREAMS];
    web_reply reply[N_STREAMS];
} streams;

/* Streams of n_tokens tokens each, of which the first n_begun have begun to speak. */
static void streams_begin(streams *all, const site *s, uint32_t n_tokens, uint32_t n_begun)
{
    char body[300];
    for (uint32_t i = 0; i < N_STREAMS; i++) {
        (void)snprintf(body, sizeof(body),
                       "{\"model\":\"demo\",\"stream\":true,\"max_tokens\":%u,\"ignore_eos\":true,"
                       "\"temperature\":0,\"prompt\":\"The capital of %u\"}",
                       n_tokens, i);
        web_reply_init(&all->reply[i]);
        all->fd[i] = web_send(s->port, "/v1/completions", body);
        assert_true(all->fd[i] >= 0);
    }
    for (uint32_t i = 0; i < n_begun; i++) {
        web_receive(all->fd[i], &all->reply[i], 3, BEGIN_MS);
        assert_int_equal(all->reply[i].end, WEB_OPEN);
        assert_int_equal(all->reply[i].status, 200);
    }
}

static void streams_finish(streams *all, uint32_t limit_ms)
{
    for (uint32_t i = 0; i < N_STREAMS; i++) {
        web_receive(all->fd[i], &all->reply[i], 0, limit_ms);
        (void)close(all->fd[i]);
    }
}

static void streams_done(streams *all)
{
    for (uint32_t i = 0; i < N_STREAMS; i++)
        web_reply_done(&all->reply[i]);
}

static uint32_t streams_answer(streams *all, uint32_t i, phx_buf *text)
{
    web_answer(&all->reply[i], 0, text);
    return (uint32_t)text->n;
}

static int ask_status(const site *s, const char *path, const char *body)
{
    web_reply reply;
    web_reply_init(&reply);
    web_ask(s->port, path, body, FINISH_MS, &reply);
    const int status = reply.status;
    web_reply_done(&reply);
    return status;
}

/* Ends in order and leaves nothing. */
static void assert_ends(site *s, int code, uint32_t limit_ms)
{
    const int ended = site_wait(s, limit_ms);
    if (ended != code)
        site_print_log(s);
    assert_int_equal(ended, code);
    site_assert_clean(s, CLEAN_MS);
    site_close(s);
}

static void test_drain(void **state)
{
    static const char body[] = "{\"model\":\"demo\",\"prompt\":\"hi\",\"max_tokens\":2}";
    /* as long as the streams may take: a busy machine is no fault here */
    static const char *const patient[] = {"--tp", "2", "--pp", "2", "--drain-timeout", "600", NULL};
    pid_t pids[SITE_PIDS_MAX];
    streams all;
    site s;
    phx_buf text;
    (void)state;
    phx_buf_init(&text, 1u << 20);
    site_open(&s);
    site_serve(&s, patient);
    assert_int_equal(ask_status(&s, "/readyz", NULL), 200);
    streams_begin(&all, &s, 600, N_STREAMS);
    assert_int_equal(site_pids(&s, "phalanx-worker", pids), 4);
    assert_int_equal(kill(pids[0], SIGSTOP), 0); /* no machine is so fast that the streams end meanwhile */
    assert_int_equal(kill(s.pid, SIGTERM), 0);
    assert_true(site_await_log(&s, "draining", LOG_MS));
    assert_int_equal(ask_status(&s, "/v1/completions", body), 503);
    assert_int_equal(ask_status(&s, "/readyz", NULL), 503);
    assert_int_equal(ask_status(&s, "/livez", NULL), 200);
    assert_int_equal(kill(pids[0], SIGCONT), 0);
    streams_finish(&all, FINISH_MS);
    for (uint32_t i = 0; i < N_STREAMS; i++) {
        assert_int_equal(all.reply[i].end, WEB_WHOLE);
        assert_false(all.reply[i].error);
        (void)streams_answer(&all, i, &text);
        assert_true(phx_str_ends(phx_buf_view(&text), phx_str_of("|length")));
    }
    streams_done(&all);
    phx_buf_done(&text);
    assert_ends(&s, 0, CLEAN_MS);
}

/* The second signal, or the end of the time to drain: streams end with an error event, and requests that wait
 * for their turn with an error. One token at a time for all of them is more than a second's work anywhere. */
static void check_cut(bool twice)
{
    static const char *const patient[] = {"--tp", "2", "--pp", "2", "--max-batch", "1", NULL};
    static const char *const limited[] = {"--tp", "2", "--pp", "2", "--max-batch", "1", "--drain-timeout",
                                          "1",    NULL};
    streams all;
    site s;
    site_open(&s);
    site_serve(&s, twice ? patient : limited);
    streams_begin(&all, &s, 3900, 1);
    const uint64_t start_us = phx_clock_us();
    assert_int_equal(kill(s.pid, SIGTERM), 0);
    assert_true(site_await_log(&s, "draining", LOG_MS));
    if (twice)
        assert_int_equal(kill(s.pid, SIGINT), 0);
    streams_finish(&all, FINISH_MS);
    const uint64_t took_ms = (phx_clock_us() - start_us) / 1000;
    (void)printf("cut after %llu ms\n", (unsigned long long)took_ms);
    for (uint32_t i = 0; i < N_STREAMS; i++) {
        if (all.reply[i].end != WEB_WHOLE || !all.reply[i].error)
            fail_msg("stream %u: end %d after %llu ms, %.300s", i, (int)all.reply[i].end,
                     (unsigned long long)took_ms,
                     all.reply[i].body.n > 300 ? all.reply[i].body.ptr + all.reply[i].body.n - 300 : "");
    }
    streams_done(&all);
    assert_ends(&s, 0, CLEAN_MS);
}

static void test_second_signal(void **state)
{
    (void)state;
    check_cut(true);
}

static void test_drain_timeout(void **state)
{
    (void)state;
    check_cut(false);
}

static void test_signal_during_start(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 4; i++) {
        site s;
        site_open(&s);
        site_launch(&s, layout);
        assert_true(site_await_log(&s, "control:", LOG_MS));
        (void)usleep(i * 120000);
        assert_int_equal(kill(s.pid, SIGTERM), 0);
        assert_ends(&s, 0, CLEAN_MS);
    }
}

/* A stopped process answers nothing: its silence is noticed, and the others do not wait for it for ever. */
static void test_stopped_rank(void **state)
{
    pid_t pids[SITE_PIDS_MAX];
    load l;
    site s;
    (void)state;
    site_open(&s);
    site_serve(&s, layout);
    load_start(&l, s.port, s.control, 4, 1);
    (void)usleep(300000);
    assert_int_equal(site_pids(&s, "phalanx-worker", pids), 4);
    const uint64_t start_us = phx_clock_us();
    assert_int_equal(kill(pids[1], SIGSTOP), 0);
    load_join(&l, false);
    for (uint32_t i = 0; i < l.n; i++) {
        const uint64_t ms = (l.clients[i].end_us - start_us) / 1000;
        if (l.clients[i].end != LOAD_ERROR || ms > SILENCE_MS)
            fail_msg("client %u: %s after %llu ms: %s", i, load_end_name(l.clients[i].end),
                     (unsigned long long)ms, l.clients[i].why);
    }
    assert_true(site_await_log(&s, "has been silent", LOG_MS));
    assert_ends(&s, EXIT_GROUP, CLEAN_MS);
}

/* With --relaunch on the same kill is a pause: every answer is the one of an undisturbed server. */
static void test_relaunch(void **state)
{
    static const char *const args[] = {"--tp", "2", "--pp", "2", "--relaunch", "on", NULL};
    static const char *const victims[] = {"phalanx-worker", "mpirun"};
    pid_t pids[SITE_PIDS_MAX];
    streams all;
    site s;
    phx_buf expected[N_STREAMS], text;
    (void)state;
    phx_buf_init(&text, 1u << 20);
    site_open(&s);
    site_serve(&s, args);
    for (uint32_t round = 0; round < 3; round++) {
        streams_begin(&all, &s, 900, N_STREAMS);
        if (round) {
            assert_true(site_pids(&s, victims[round - 1], pids) > 0);
            assert_int_equal(kill(pids[0], SIGKILL), 0);
        }
        streams_finish(&all, FINISH_MS);
        for (uint32_t i = 0; i < N_STREAMS; i++) {
            assert_int_equal(all.reply[i].end, WEB_WHOLE);
            assert_false(all.reply[i].error);
            if (round == 0) {
                phx_buf_init(&expected[i], 1u << 20);
                (void)streams_answer(&all, i, &expected[i]);
            } else {
                (void)streams_answer(&all, i, &text);
                assert_string_equal(text.ptr, expected[i].ptr);
            }
        }
        streams_done(&all);
    }
    for (uint32_t i = 0; i < N_STREAMS; i++)
        phx_buf_done(&expected[i]);
    phx_buf_done(&text);
    assert_int_equal(kill(s.pid, SIGTERM), 0);
    assert_ends(&s, 0, CLEAN_MS);
}

/* A group that dies again and again is given up. */
static void test_crash_loop(void **state)
{
    static const char *const args[] = {"--tp", "2", "--relaunch", "on", NULL};
    pid_t pids[SITE_PIDS_MAX];
    site s;
    uint32_t n_kills = 0;
    int code = -1;
    (void)state;
    site_open(&s);
    site_serve(&s, args);
    const uint64_t until_us = phx_clock_us() + FINISH_MS * UINT64_C(1000);
    while (code < 0 && phx_clock_us() < until_us) {
        if (site_pids(&s, "phalanx-worker", pids) > 0) {
            (void)kill(pids[0], SIGKILL);
            n_kills++;
        }
        code = site_wait(&s, 300);
    }
    (void)printf("given up after %u kills\n", n_kills);
    assert_int_equal(code, EXIT_GROUP);
    site_assert_clean(&s, CLEAN_MS);
    site_close(&s);
}

/* Streams whose clients leave give their blocks back. */
static void test_clients_leave(void **state)
{
    streams all;
    site s;
    (void)state;
    site_open(&s);
    site_serve(&s, layout);
    for (uint32_t round = 0; round < 3; round++) {
        streams_begin(&all, &s, 3900, N_STREAMS);
        assert_true(web_metric(s.port, "phalanx_kv_blocks_used") >= N_STREAMS);
        for (uint32_t i = 0; i < N_STREAMS; i++)
            (void)close(all.fd[i]);
        streams_done(&all);
        assert_true(web_await_metric(s.port, "phalanx_kv_blocks_used", 0, LOG_MS));
        assert_true(web_await_metric(s.port, "phalanx_running_requests", 0, LOG_MS));
    }
    assert_int_equal(kill(s.pid, SIGTERM), 0);
    assert_ends(&s, 0, CLEAN_MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_drain),         cmocka_unit_test(test_second_signal),
        cmocka_unit_test(test_drain_timeout), cmocka_unit_test(test_signal_during_start),
        cmocka_unit_test(test_stopped_rank),  cmocka_unit_test(test_relaunch),
        cmocka_unit_test(test_crash_loop),    cmocka_unit_test(test_clients_leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
