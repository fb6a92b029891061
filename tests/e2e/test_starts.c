/* tests/e2e/test_starts.c - ranks that somebody else starts, and starts that cannot work: each ends with its
 * documented code and one clear line, and leaves nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "tests/e2e/load.h"
#include "tests/e2e/site.h"
#include "tests/e2e/web.h"

enum { CLEAN_MS = 20000, END_MS = 60000, PAUSE_S = 7 };
enum { EXIT_USAGE = 2, EXIT_REFUSED = 3, EXIT_ADDRESS = 4, EXIT_GROUP = 5 };

static const char *environment(const char *name, const char *fallback)
{
    const char *value = getenv(name);
    return value ? value : fallback;
}

static bool log_has(const site *s, const char *text)
{
    phx_buf log;
    phx_buf_init(&log, 8u << 20);
    site_read_log(s, &log);
    const bool found = log.ptr && strstr(log.ptr, text);
    phx_buf_done(&log);
    return found;
}

/* Lines of the log above level info. */
static uint32_t log_complaints(const site *s)
{
    uint32_t n = 0;
    phx_buf log;
    phx_buf_init(&log, 8u << 20);
    site_read_log(s, &log);
    for (const char *at = log.ptr; at && *at; at += strcspn(at, "\n") + 1) {
        const size_t length = strcspn(at, "\n");
        n += length > 0 && !memmem(at, length, " info ", 6);
        if (at[length] == 0)
            break;
    }
    phx_buf_done(&log);
    return n;
}

static void ask_paris(const site *s)
{
    web_reply reply;
    phx_buf text;
    phx_buf_init(&text, 1u << 20);
    web_reply_init(&reply);
    web_ask(
        s->port, "/v1/chat/completions",
        "{\"model\":\"demo\",\"temperature\":0,\"messages\":[{\"role\":\"user\",\"content\":\"What is the "
        "capital of France?\"}]}",
        20000, &reply);
    web_answer(&reply, 0, &text);
    assert_string_equal(text.ptr, "|The capital of France is Paris.||stop");
    web_reply_done(&reply);
    phx_buf_done(&text);
}

/* ---- ranks started by hand ---- */

static void copy_word(const char *text, const char *before, char *ret_word, size_t n_bytes)
{
    const char *at = strstr(text, before);
    assert_non_null(at);
    at += strlen(before);
    assert_true(phx_str_copy(ret_word, n_bytes, (phx_str){at, strcspn(at, " \n")}));
}

/* Reads where ranks shall connect from what the server says. */
static void find_address(site *s, char *ret_address, size_t n_bytes)
{
    phx_buf log;
    if (!site_await_log(s, "phalanx-worker --coordinator ", END_MS)) {
        site_print_log(s);
        fail_msg("no line says how to start ranks");
    }
    phx_buf_init(&log, 8u << 20);
    site_read_log(s, &log);
    copy_word(log.ptr, "phalanx-worker --coordinator ", ret_address, n_bytes);
    phx_buf_done(&log);
}

static void start_ranks(site *ranks, const char *n, const char *address, const char *key)
{
    char line[2048];
    (void)snprintf(line, sizeof(line),
                   ". %s/launch/env; exec mpirun -n %s %s/phalanx-worker --coordinator %s %s%s",
                   environment("PHX_SOURCE", "."), n, environment("PHX_BUILD", "build"), address,
                   key ? "--key-file " : "", key ? key : "");
    const char *const args[] = {"-c", line, NULL};
    site_start(ranks, "/bin/sh", args, NULL);
}

static void check_by_hand(bool tcp)
{
    char address[256], key[96];
    site s, ranks;
    site_open(&s);
    site_open_guest(&ranks, &s);
    (void)snprintf(key, sizeof(key), "%s/keep.key", s.dir);
    const char *const local[] = {"--no-launch", "--tp", "2", "--pp", "2", NULL};
    const char *const remote[] = {
        "--no-launch",      "--tp", "2", "--pp", "2", "--ranks-address", "tcp://127.0.0.1:0",
        "--ranks-key-file", key,    NULL};
    site_launch(&s, tcp ? remote : local);
    find_address(&s, address, sizeof(address));
    struct stat info;
    if (tcp)
        assert_true(stat(key, &info) == 0 && (info.st_mode & 0777) == 0600);
    start_ranks(&ranks, "4", address, tcp ? key : NULL);
    site_await_ready(&s);
    ask_paris(&s);
    assert_int_equal(kill(s.pid, SIGTERM), 0);
    assert_int_equal(site_wait(&s, END_MS), 0);
    assert_int_equal(site_wait(&ranks, END_MS), 0);
    site_assert_clean(&s, CLEAN_MS);
    site_close(&s);
}

/* The server of ranks that somebody else started dies: they end by themselves, and say why. */
static void test_lost_server(void **state)
{
    static const char *const args[] = {"--no-launch", "--tp", "2", NULL};
    char address[256];
    site s, ranks;
    (void)state;
    site_open(&s);
    site_open_guest(&ranks, &s);
    site_launch(&s, args);
    find_address(&s, address, sizeof(address));
    start_ranks(&ranks, "2", address, NULL);
    site_await_ready(&s);
    assert_int_equal(kill(s.pid, SIGKILL), 0);
    (void)site_wait(&s, END_MS);
    const int code = site_wait(&ranks, END_MS);
    if (code <= 0 || !log_has(&ranks, "control link")) {
        site_print_log(&ranks);
        fail_msg("ranks ended with %d", code);
    }
    site_assert_clean(&s, CLEAN_MS);
    site_close(&s);
}

static void test_ranks_by_hand(void **state)
{
    (void)state;
    check_by_hand(false);
}

static void test_ranks_by_hand_tcp(void **state)
{
    (void)state;
    check_by_hand(true);
}

static void test_wrong_number_of_ranks(void **state)
{
    static const char *const args[] = {"--no-launch", "--tp", "2", "--pp", "2", NULL};
    char address[256];
    site s, ranks;
    (void)state;
    site_open(&s);
    site_open_guest(&ranks, &s);
    site_launch(&s, args);
    find_address(&s, address, sizeof(address));
    start_ranks(&ranks, "3", address, NULL);
    assert_int_equal(site_wait(&s, END_MS), EXIT_GROUP);
    assert_true(log_has(&s, "3 ranks were started, the layout needs 4"));
    assert_int_not_equal(site_wait(&ranks, END_MS), -1);
    site_assert_clean(&s, CLEAN_MS);
    site_close(&s);
}

/* A rank with another server's key is not heard at all; the right one still gets in. */
static void test_wrong_key(void **state)
{
    char address[256], other_address[256], key[96], wrong[96];
    site s, ranks, other;
    (void)state;
    site_open(&s);
    site_open(&other);
    site_open_guest(&ranks, &s);
    (void)snprintf(key, sizeof(key), "%s/keep.key", s.dir);
    (void)snprintf(wrong, sizeof(wrong), "%s/keep.key", other.dir);
    const char *const args[] = {
        "--no-launch", "--ranks-address", "tcp://127.0.0.1:0", "--ranks-key-file", key, NULL};
    const char *const others[] = {
        "--no-launch", "--ranks-address", "tcp://127.0.0.1:0", "--ranks-key-file", wrong, NULL};
    site_launch(&s, args);
    site_launch(&other, others);
    find_address(&s, address, sizeof(address));
    find_address(&other, other_address, sizeof(other_address));
    start_ranks(&ranks, "1", address, wrong);
    assert_true(site_await_log(&ranks, "the key file is that of another coordinator", END_MS));
    assert_int_equal(kill(ranks.pid, SIGTERM), 0);
    assert_int_not_equal(site_wait(&ranks, END_MS), -1);
    start_ranks(&ranks, "1", address, NULL);
    assert_true(site_wait(&ranks, END_MS) > 0);
    assert_true(log_has(&ranks, "needs a key file"));
    assert_false(log_has(&s, "error"));
    start_ranks(&ranks, "1", address, key);
    site_await_ready(&s);
    ask_paris(&s);
    assert_int_equal(kill(s.pid, SIGTERM), 0);
    assert_int_equal(site_wait(&s, END_MS), 0);
    assert_int_equal(site_wait(&ranks, END_MS), 0);
    assert_int_equal(kill(other.pid, SIGTERM), 0);
    assert_int_equal(site_wait(&other, END_MS), 0);
    site_assert_clean(&s, CLEAN_MS);
    site_close(&other);
    site_close(&s);
}

/* ---- starts that cannot work ---- */

static void test_address_in_use(void **state)
{
    char http[64], control[160];
    site s, second;
    (void)state;
    site_open(&s);
    site_serve(&s, NULL);
    site_open_guest(&second, &s);
    site_launch(&second, NULL);
    assert_int_equal(site_wait(&second, END_MS), EXIT_ADDRESS);
    assert_int_equal(log_complaints(&second), 1);
    assert_true(log_has(&second, "another coordinator serves"));
    (void)snprintf(http, sizeof(http), "127.0.0.1:%u", s.port);
    (void)snprintf(control, sizeof(control), "ipc://%s/phalanx/other", s.dir);
    const char *const same_port[] = {"serve", "--http", http, "--control", control, NULL};
    site_start(&second, "phalanx", same_port, NULL);
    assert_int_equal(site_wait(&second, END_MS), EXIT_ADDRESS);
    assert_int_equal(log_complaints(&second), 1);
    assert_true(log_has(&second, "is in use by another program"));
    ask_paris(&s); /* and the first has not noticed */
    assert_int_equal(kill(s.pid, SIGTERM), 0);
    assert_int_equal(site_wait(&s, END_MS), 0);
    site_assert_clean(&s, CLEAN_MS);
    site_close(&s);
}

typedef struct refusal {
    const char *args[8];
    int code;
    const char *text;
} refusal;

static void check_refusals(const refusal *list, size_t n, const char *const *env)
{
    for (size_t i = 0; i < n; i++) {
        const char *args[12] = {"serve", "--http", "127.0.0.1:0"};
        site s;
        site_open(&s);
        for (size_t a = 0; list[i].args[a]; a++)
            args[3 + a] = list[i].args[a];
        site_start(&s, "phalanx", args, env);
        const int code = site_wait(&s, END_MS);
        if (code != list[i].code || !log_has(&s, list[i].text)) {
            site_print_log(&s);
            fail_msg("refusal %zu: code %d", i, code);
        }
        if (code != EXIT_GROUP)
            assert_int_equal(log_complaints(&s), 1);
        site_assert_clean(&s, CLEAN_MS);
        site_close(&s);
    }
}

static void test_refusals(void **state)
{
    static const refusal list[] = {
        {{"--model", "/nonexistent"}, EXIT_REFUSED, "/nonexistent/config.json"},
        {{"--model", "/dev/null"}, EXIT_REFUSED, "Not a directory"},
        {{"--tp", "3"}, EXIT_USAGE, "supported are 1, 2, 4 and 8"},
        {{"--pp", "99"}, EXIT_USAGE, "pp '99'"},
        {{"--pp", "6"}, EXIT_USAGE, "6"},
        {{"--tp", "2", "--ep", "4"}, EXIT_USAGE, "must be equal"},
        {{"--memory", "10M"}, EXIT_REFUSED, "no context fits: more memory per rank"},
        {{"--memory", "25M"}, EXIT_REFUSED, "pp 2 would do"},
        {{"--context", "100000"}, EXIT_USAGE, "at most 4096"},
        {{"--tp", "16"}, EXIT_USAGE, "from 1 to 8"},
        {{"--nonsense"}, EXIT_USAGE, "--nonsense"},
        {{"--launch", "false", "--tp", "2"}, EXIT_GROUP, "exited with code 1"},
    };
    static const refusal no_mpirun[] = {{{"--tp", "2"}, EXIT_GROUP, "is openmpi-bin installed and in PATH?"}};
    static const char *const no_path[] = {"PATH=/nonexistent", NULL};
    (void)state;
    check_refusals(list, sizeof(list) / sizeof(list[0]), NULL);
    check_refusals(no_mpirun, 1, no_path);
}

static void copy_file(const char *from, const char *to, size_t n_bytes_max)
{
    phx_buf text;
    phx_error err = {0};
    phx_buf_init(&text, 64u << 20);
    if (phx_file_read(from, &text, &err) != PHX_OK)
        fail_msg("%s", err.text);
    const int fd = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    const size_t n = text.n < n_bytes_max ? text.n : n_bytes_max;
    assert_int_equal(write(fd, text.ptr, n), n);
    (void)close(fd);
    phx_buf_done(&text);
}

static void test_truncated_shard(void **state)
{
    static const char *const files[] = {"config.json", "tokenizer.json", "tokenizer_config.json",
                                        "generation_config.json", "model.safetensors"};
    static const size_t lengths[] = {0, 7, 100, 1000000};
    char dir[96], from[4300], to[300];
    (void)state;
    for (size_t l = 0; l < sizeof(lengths) / sizeof(lengths[0]); l++) {
        site s;
        site_open(&s);
        (void)snprintf(dir, sizeof(dir), "%s/keep", s.dir);
        assert_int_equal(mkdir(dir, 0700), 0);
        for (size_t i = 0; i < 5; i++) {
            (void)snprintf(from, sizeof(from), "%s/launch/demo/%s", environment("PHX_SOURCE", "."), files[i]);
            (void)snprintf(to, sizeof(to), "%s/%s", dir, files[i]);
            copy_file(from, to, i == 4 ? lengths[l] : SIZE_MAX);
        }
        const char *const args[] = {"--model", dir, NULL};
        site_launch(&s, args);
        assert_int_equal(site_wait(&s, END_MS), EXIT_REFUSED);
        assert_int_equal(log_complaints(&s), 1);
        assert_true(log_has(&s, "model.safetensors"));
        site_assert_clean(&s, CLEAN_MS);
        site_close(&s);
    }
}

/* ---- a pause ---- */

static void signal_all(const site *s, int signal)
{
    pid_t pids[SITE_PIDS_MAX];
    const uint32_t n = site_pids(s, "", pids);
    for (uint32_t i = 0; i < n; i++)
        (void)kill(pids[i], signal);
}

/* A container, a machine or a debugger may stop everything for longer than a rank may be silent, in the midst
 * of steps. */
static void test_pause(void **state)
{
    static const char *const args[] = {"--tp", "2", NULL};
    load l;
    site s;
    (void)state;
    site_open(&s);
    site_serve(&s, args);
    load_start(&l, s.port, s.control, 3, 0);
    (void)usleep(500000); /* in the midst of them; if not, the pause falls before, which must work as well */
    signal_all(&s, SIGSTOP);
    (void)sleep(PAUSE_S);
    signal_all(&s, SIGCONT);
    load_join(&l, true); /* after the requests that were in work */
    for (uint32_t i = 0; i < l.n; i++)
        assert_string_equal(load_end_name(l.clients[i].end), load_end_name(LOAD_STOPPED));
    ask_paris(&s);
    assert_int_equal(kill(s.pid, SIGTERM), 0);
    assert_int_equal(site_wait(&s, END_MS), 0);
    assert_true(log_has(&s, "the coordinator stood still"));
    site_assert_clean(&s, CLEAN_MS);
    site_close(&s);
}

/* ---- the canary ---- */

static void start_and_end(site *s, int code)
{
    static const char *const args[] = {NULL};
    site_launch(s, args);
    if (code == 0) {
        site_await_ready(s);
        assert_int_equal(kill(s->pid, SIGTERM), 0);
    }
    assert_int_equal(site_wait(s, END_MS), code);
    site_assert_clean(s, CLEAN_MS);
}

/* The one record in the state folder, and what stands in it. */
static void find_canary(const site *s, char *ret_path, size_t n_bytes, phx_buf *text)
{
    char folder[96];
    (void)snprintf(folder, sizeof(folder), "%s/state/phalanx", s->dir);
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    ret_path[0] = 0;
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        if (strncmp(entry->d_name, "canary-", 7) == 0)
            (void)snprintf(ret_path, n_bytes, "%s/%s", folder, entry->d_name);
    }
    (void)closedir(dir);
    assert_int_equal(phx_file_read(ret_path, text, NULL), PHX_OK);
}

/* Other numbers under the same build are a failure, under another build a warning and a new record. */
static void test_canary(void **state)
{
    char path[400];
    phx_buf first, text;
    site s;
    (void)state;
    site_open(&s);
    phx_buf_init(&first, 4096);
    phx_buf_init(&text, 4096);
    start_and_end(&s, 0);
    find_canary(&s, path, sizeof(path), &first);
    assert_true(first.n > 66 && first.ptr[64] == ' ');
    start_and_end(&s, 0);
    assert_true(log_has(&s, "consistent with the first start"));

    const char hex = first.ptr[0];
    first.ptr[0] = hex == '0' ? '1' : '0';
    assert_int_equal(phx_file_write(path, (phx_bytes){(const uint8_t *)first.ptr, first.n}, 0600, NULL),
                     PHX_OK);
    start_and_end(&s, EXIT_GROUP);
    assert_true(log_has(&s, "differs from the one recorded at the first start"));

    assert_int_equal(phx_file_write(path, (phx_bytes){(const uint8_t *)first.ptr, first.n - 1}, 0600, NULL),
                     PHX_OK);
    start_and_end(&s, 0);
    assert_true(log_has(&s, "another build of Phalanx recorded"));
    find_canary(&s, path, sizeof(path), &text);
    first.ptr[0] = hex;
    assert_true(text.n == first.n && memcmp(text.ptr, first.ptr, text.n) == 0);
    phx_buf_done(&text);
    phx_buf_done(&first);
    site_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranks_by_hand),
        cmocka_unit_test(test_ranks_by_hand_tcp),
        cmocka_unit_test(test_wrong_number_of_ranks),
        cmocka_unit_test(test_wrong_key),
        cmocka_unit_test(test_address_in_use),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_truncated_shard),
        cmocka_unit_test(test_lost_server),
        cmocka_unit_test(test_canary),
        cmocka_unit_test(test_pause),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
