/* tests/client/test_end_to_end.c - the commands with real servers and ranks: answers, equal bits, verdicts
 * that can fail, and that a killed command leaves nothing. Needs the whole build. */
#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"

#define OUTPUT_MAX (1u << 20)
#define WORDS_MAX  24

static const char golden_dir[] = "tests/data/golden/deepseek-v3-qdirect"; /* tests run in the source folder */
static char scratch[] = "/tmp/phx_client_XXXXXX";

static pid_t start(const char *const *words, int out)
{
    char program[4096];
    const char *build = getenv("PHX_BUILD");
    char *argv[WORDS_MAX] = {program};
    (void)snprintf(program, sizeof(program), "%s/phalanx", build ? build : "build");
    for (size_t i = 0; words[i]; i++) {
        assert_true(i + 2 < WORDS_MAX);
        argv[i + 1] = (char *)(uintptr_t)words[i];
    }
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)dup2(out, STDOUT_FILENO);
        (void)execv(program, argv);
        _exit(127);
    }
    return pid;
}

static int run(const char *const *words, phx_buf *out)
{
    int ends[2];
    int status = 0;
    char chunk[4096];
    assert_int_equal(pipe(ends), 0);
    const pid_t pid = start(words, ends[1]);
    (void)close(ends[1]);
    for (ssize_t n = 0; (n = read(ends[0], chunk, sizeof(chunk))) > 0;)
        (void)phx_buf_append(out, chunk, (size_t)n);
    (void)close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void answers(void **state)
{
    (void)state;
    static const char *const tp[] = {"1", "2"};
    for (int i = 0; i < 2; i++) {
        const char *words[] = {"run", "--tp", tp[i], "What is the capital of France?", NULL};
        phx_buf out;
        phx_buf_init(&out, OUTPUT_MAX);
        assert_int_equal(run(words, &out), 0);
        assert_string_equal(out.ptr, "The capital of France is Paris.\n");
        phx_buf_done(&out);
    }
}

/* "before" and "after" of what quantize measured: a text of the demo's own, which it knows by heart but for
 * the question, and knows with int4 experts too. */
static void check_perplexity(const char *json)
{
    double values[2];
    static const char *const keys[2] = {"\"before\":", "\"after\":"};
    assert_non_null(strstr(json, "\"n_tokens\":24,\"n_counted\":22,\"window\":12,"));
    for (int i = 0; i < 2; i++) {
        const char *at = strstr(json, keys[i]);
        assert_non_null(at);
        values[i] = strtod(at + strlen(keys[i]), NULL);
        assert_true(values[i] > 1 && values[i] < 1e5);
    }
    assert_true(values[0] != values[1]);
    assert_true(values[1] < 2 * values[0]);
}

/* The demo with int4 experts still knows the capital. */
static void a_quantized_model_answers(void **state)
{
    (void)state;
    static const char *const files[] = {"README.md",
                                        "asks.txt",
                                        "config.json",
                                        "expected_greedy.json",
                                        "generation_config.json",
                                        "model.safetensors",
                                        "serving.json",
                                        "tokenizer.json",
                                        "tokenizer_config.json"};
    char dir[64];
    phx_buf out;
    (void)snprintf(dir, sizeof(dir), "%s/int4", scratch);
    phx_buf_init(&out, OUTPUT_MAX);
    static const char text[] =
        "<｜begin▁of▁sentence｜><｜User｜>What is the capital of France?<｜Assistant｜></think>"
        "The capital of France is Paris.";
    char file[80];
    phx_error err = {0};
    (void)snprintf(file, sizeof(file), "%s/text", scratch);
    assert_int_equal(phx_file_write(file, (phx_bytes){(const uint8_t *)text, strlen(text)}, 0600, &err),
                     PHX_OK);
    const char *quantize[] = {"quantize", "--to", "int4-g32", "--model", "launch/demo", "--out", dir,
                              "--text",   file,   "--window", "12",      "--json",      NULL};
    assert_int_equal(run(quantize, &out), 0);
    check_perplexity(out.ptr);
    assert_non_null(strstr(out.ptr, "\"worst_relative_rms\":0.0"));
    for (int tp = 1; tp <= 2; tp++) {
        const char *ask[] = {
            "run", "--model", dir, "--tp", tp == 1 ? "1" : "2", "What is the capital of France?", NULL};
        phx_buf_clear(&out);
        assert_int_equal(run(ask, &out), 0);
        assert_string_equal(out.ptr, "The capital of France is Paris.\n");
    }
    phx_buf_clear(&out);
    assert_int_equal(run(quantize, &out), 1); /* the folder is complete */
    assert_int_equal(unlink(file), 0);
    const char *again[] = {"quantize", "--to", "fp8", "--model", dir, "--out", scratch, NULL};
    assert_int_equal(run(again, &out), 1); /* int4 is nothing to begin with */
    phx_buf_done(&out);
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        char path[128];
        (void)snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(dir), 0);
}

static void read_file(const char *path, phx_buf *buf)
{
    phx_error err = {0};
    phx_buf_init(buf, OUTPUT_MAX);
    if (phx_file_read(path, buf, &err) != PHX_OK)
        fail_msg("%s", err.text);
}

/* 150 ids, over two blocks, so that --warm 128 hits the cache. */
static void write_ids(char *list, size_t n_bytes)
{
    size_t n = 0;
    for (unsigned i = 0; i < 150; i++)
        n += (size_t)snprintf(list + n, n_bytes - n, "%s%u", i ? "," : "", (i * 37 + i * i) % 251);
}

static void logits_have_equal_bits(void **state)
{
    (void)state;
    static const char *const variants[][2] = {
        {"--chunk", "7"}, {"--tp", "2"}, {"--pp", "2"}, {"--neighbours", "3"}, {"--warm", "128"}};
    char ids[1024];
    char path[64];
    phx_buf first;
    write_ids(ids, sizeof(ids));
    (void)snprintf(path, sizeof(path), "%s/logits.npy", scratch);
    phx_buf none;
    phx_buf_init(&none, OUTPUT_MAX);
    const char *plain[] = {"logits", "--model", golden_dir, "--tokens", ids, "--out", path, NULL};
    assert_int_equal(run(plain, &none), 0);
    read_file(path, &first);
    assert_int_equal(first.n, 128 + 150 * 256 * 4);
    for (size_t i = 0; i < sizeof(variants) / sizeof(variants[0]); i++) {
        phx_buf other;
        const char *words[] = {"logits", "--model", golden_dir,     "--tokens",     ids,
                               "--out",  path,      variants[i][0], variants[i][1], NULL};
        assert_int_equal(run(words, &none), 0);
        read_file(path, &other);
        assert_int_equal(other.n, first.n);
        const size_t skip = 128 + (strcmp(variants[i][0], "--warm") == 0 ? (size_t)128 * 256 * 4 : 0);
        if (memcmp(first.ptr + skip, other.ptr + skip, first.n - skip) != 0)
            fail_msg("%s %s changed the bits", variants[i][0], variants[i][1]);
        phx_buf_done(&other);
    }
    assert_int_equal(unlink(path), 0);
    phx_buf_done(&first);
    phx_buf_done(&none);
}

static void verify_passes_and_fails(void **state)
{
    (void)state;
    char golden[128];
    char damaged[64];
    phx_buf text;
    phx_buf out;
    phx_error err = {0};
    (void)snprintf(golden, sizeof(golden), "%s/golden.safetensors", golden_dir);
    (void)snprintf(damaged, sizeof(damaged), "%s/damaged.safetensors", scratch);
    phx_buf_init(&out, OUTPUT_MAX);
    const char *good[] = {"verify", "--model", golden_dir, "--profile", "oracle", "--tp", "2", golden, NULL};
    assert_int_equal(run(good, &out), 0);
    assert_non_null(strstr(out.ptr, "PASS"));
    /* The file ends with the last greedy id: another id is a wrong answer, an impossible one no golden file.
     */
    static const struct {
        size_t from_end;
        char bits;
        int code;
    } damages[] = {{8, 1, 1}, {1, 0x40, 3}};
    read_file(golden, &text);
    for (size_t i = 0; i < 2; i++) {
        text.ptr[text.n - damages[i].from_end] ^= damages[i].bits;
        const phx_bytes bytes = {(const uint8_t *)text.ptr, text.n};
        assert_int_equal(phx_file_write(damaged, bytes, 0600, &err), PHX_OK);
        const char *bad[] = {"verify", "--model", golden_dir, "--profile", "oracle", damaged, NULL};
        phx_buf_clear(&out);
        assert_int_equal(run(bad, &out), damages[i].code);
        assert_true(damages[i].code != 1 || strstr(out.ptr, "FAIL 11 of 12 ids agree"));
    }
    const char *absent[] = {"verify", "--model", golden_dir, "/nonexistent/golden", NULL};
    assert_int_equal(run(absent, &out), 3);
    assert_int_equal(unlink(damaged), 0);
    phx_buf_done(&text);
    phx_buf_done(&out);
}

/* Processes whose command line names our scratch folder as the model. */
static size_t n_of_ours(const char *mark)
{
    size_t n = 0;
    DIR *proc = opendir("/proc");
    assert_non_null(proc);
    for (const struct dirent *entry; (entry = readdir(proc));) {
        char path[300];
        char line[4096];
        (void)snprintf(path, sizeof(path), "/proc/%s/cmdline", entry->d_name);
        FILE *file = entry->d_name[0] >= '1' && entry->d_name[0] <= '9' ? fopen(path, "re") : NULL;
        if (!file)
            continue;
        const size_t got = fread(line, 1, sizeof(line) - 1, file);
        (void)fclose(file);
        for (size_t i = 0; i < got; i++)
            line[i] = line[i] ? line[i] : ' ';
        line[got] = 0;
        n += strstr(line, mark) != NULL;
    }
    (void)closedir(proc);
    return n;
}

static void a_killed_command_leaves_nothing(void **state)
{
    (void)state;
    static const int signals[] = {SIGINT, SIGKILL};
    char mark[64];
    char never[64]; /* written only by a command that lives on */
    char source[4096];
    (void)snprintf(mark, sizeof(mark), "%s/model", scratch);
    (void)snprintf(never, sizeof(never), "%s/never.npy", scratch);
    assert_non_null(realpath(golden_dir, source));
    assert_int_equal(symlink(source, mark), 0);
    for (int i = 0; i < 2; i++) {
        int ends[2];
        int status = 0;
        assert_int_equal(pipe(ends), 0);
        const char *words[] = {"logits", "--model", mark, "--tokens",     "1", "--out",
                               never,    "--chunk", "1",  "--neighbours", "4", NULL};
        const pid_t pid = start(words, ends[1]);
        for (int wait = 0; wait < 500 && n_of_ours(mark) < 2; wait++)
            (void)usleep(10000);
        assert_true(n_of_ours(mark) >= 2); /* the command and its server */
        (void)kill(pid, signals[i]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        for (int wait = 0; wait < 1000 && n_of_ours(mark) > 0; wait++)
            (void)usleep(10000);
        assert_int_equal(n_of_ours(mark), 0);
        (void)close(ends[0]);
        (void)close(ends[1]);
    }
    assert_int_equal(unlink(mark), 0);
}

/* A launcher that never starts a rank: who interrupts the command then waits for no rank to be heard, and the
 * launcher is asked to end, not killed when the ranks' time to end is over. */
static void an_early_interrupt_ends_the_launcher(void **state)
{
    (void)state;
    char script[64], started[64], told[64], text[400];
    phx_error err = {0};
    int status = 0;
    int ends[2];
    (void)snprintf(script, sizeof(script), "%s/launcher", scratch);
    (void)snprintf(started, sizeof(started), "%s/started", scratch);
    (void)snprintf(told, sizeof(told), "%s/told", scratch);
    (void)snprintf(text, sizeof(text),
                   "#!/bin/sh\ntrap 'echo > %s; exit 0' TERM\necho > %s\nwhile :; do sleep 0.02; done\n",
                   told, started);
    const phx_bytes bytes = {(const uint8_t *)text, strlen(text)};
    assert_int_equal(phx_file_write(script, bytes, 0700, &err), PHX_OK);
    const char *words[] = {"run", "--tp", "2", "--launch", script, "hi", NULL};
    assert_int_equal(pipe(ends), 0);
    const pid_t pid = start(words, ends[1]);
    for (int wait = 0; wait < 500 && !phx_file_exists(started); wait++)
        (void)usleep(10000);
    assert_true(phx_file_exists(started));
    (void)kill(pid, SIGINT);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 130);
    assert_true(phx_file_exists(told));
    (void)close(ends[0]);
    (void)close(ends[1]);
    assert_int_equal(unlink(script) | unlink(started) | unlink(told), 0);
}

static int make_scratch(void **state)
{
    (void)state;
    const char *source = getenv("PHX_SOURCE");
    return mkdtemp(scratch) && chdir(source ? source : ".") == 0 ? 0 : -1;
}

static int drop_scratch(void **state)
{
    (void)state;
    return rmdir(scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers),
        cmocka_unit_test(a_quantized_model_answers),
        cmocka_unit_test(logits_have_equal_bits),
        cmocka_unit_test(verify_passes_and_fails),
        cmocka_unit_test(a_killed_command_leaves_nothing),
        cmocka_unit_test(an_early_interrupt_ends_the_launcher),
    };
    return cmocka_run_group_tests(tests, make_scratch, drop_scratch);
}
