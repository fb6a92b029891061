/* client/limits.c - asks phalanx-worker what this machine can do. */
#include "client/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/json.h"
#include "base/paths.h"

#define OUTPUT_MAX (1u << 20)

/* Starts the worker with its stdout on the pipe's writing end. */
static phx_code spawn(char *const *argv, int out, pid_t *ret_pid, phx_error *err)
{
    posix_spawn_file_actions_t actions;
    if (posix_spawn_file_actions_init(&actions) != 0)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "starting '%s'", argv[0]);
    int failed = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    failed = failed ? failed : posix_spawn(ret_pid, argv[0], &actions, NULL, argv, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    if (failed)
        return PHX_FAIL(err, PHX_ERR_IO, "cannot start '%s': %s", argv[0], strerror(failed));
    return PHX_OK;
}

static phx_code read_all(int fd, phx_buf *buf)
{
    char chunk[4096];
    for (ssize_t n = 0; (n = read(fd, chunk, sizeof(chunk))) != 0;) {
        if (n < 0 && errno != EINTR)
            return PHX_ERR_IO;
        if (n > 0)
            (void)phx_buf_append(buf, chunk, (size_t)n);
    }
    return buf->code;
}

static phx_code run_worker(uint32_t n_threads, bool read_only, phx_buf *output, phx_error *err)
{
    char program[PHX_PATH_MAX];
    char threads[16];
    char words[3][16] = {"--bench", "machine", "--json"};
    char flag[] = "--threads";
    char only[] = "--read-only";
    int ends[2];
    int status = 0;
    pid_t pid = 0;
    phx_code rc = phx_path_beside("phalanx-worker", program, sizeof(program), err);
    if (rc != PHX_OK)
        return rc;
    (void)snprintf(threads, sizeof(threads), "%u", n_threads);
    char *const argv[] = {program, words[0], words[1], words[2], flag, threads, read_only ? only : NULL,
                          NULL};
    if (pipe2(ends, O_CLOEXEC) != 0)
        return PHX_FAIL(err, PHX_ERR_IO, "pipe: %s", strerror(errno));
    rc = spawn(argv, ends[1], &pid, err);
    (void)close(ends[1]);
    if (rc == PHX_OK) {
        rc = read_all(ends[0], output);
        if (rc != PHX_OK)
            rc = PHX_FAIL(err, rc, "cannot read what '%s' measured", program);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
        if (rc == PHX_OK && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
            rc = PHX_FAIL(err, PHX_ERR_IO, "'%s --bench machine' failed", program);
    }
    (void)close(ends[0]);
    return rc;
}

/* The last column: all threads. */
static double last_of(const phx_json *array)
{
    double value = 0;
    const size_t n = phx_json_count(array);
    if (n)
        (void)phx_json_as_f64(phx_json_at(array, n - 1), &value);
    return value;
}

static phx_code read_limits(const phx_json *root, phx_machine_limits *ret_limits, phx_error *err)
{
    phx_machine_limits limits = {.read_bytes_per_s = last_of(phx_json_get(root, "read_bytes_per_s"))};
    const phx_json *peaks = phx_json_get(root, "peaks");
    phx_str text;
    if (phx_json_as_str(phx_json_get(root, "chip"), &text))
        (void)phx_str_copy(limits.chip, sizeof(limits.chip), text);
    for (size_t i = 0; i < phx_json_count(peaks); i++) {
        const phx_json *peak = phx_json_at(peaks, i);
        const double rate = last_of(phx_json_get(peak, "ops_per_s"));
        bool of_level = false;
        (void)phx_json_as_bool(phx_json_get(peak, "of_level"), &of_level);
        if (!of_level || rate <= limits.ops_per_s || !phx_json_as_str(phx_json_get(peak, "unit"), &text))
            continue;
        limits.ops_per_s = rate;
        (void)phx_str_copy(limits.unit, sizeof(limits.unit), text);
    }
    if (!(limits.read_bytes_per_s > 0))
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "phalanx-worker --bench machine gave no read bandwidth");
    *ret_limits = limits;
    return PHX_OK;
}

/* The worker's document; free with phx_json_destroy. */
static phx_code ask_worker(uint32_t n_threads, bool read_only, phx_json **ret_root, phx_error *err)
{
    phx_buf output;
    phx_buf_init(&output, OUTPUT_MAX);
    phx_code rc = run_worker(n_threads, read_only, &output, err);
    if (rc == PHX_OK)
        rc = phx_json_parse((phx_bytes){(const uint8_t *)output.ptr, output.n}, PHX_JSON_LIMITS_REQUEST,
                            ret_root, err);
    phx_buf_done(&output);
    return rc;
}

phx_code phx_machine_sustained_measure(uint32_t n_threads, double *ret_bytes_per_s, phx_error *err)
{
    phx_json *root = NULL;
    phx_code rc = ask_worker(n_threads, true, &root, err);
    if (rc == PHX_OK)
        *ret_bytes_per_s = last_of(phx_json_get(root, "sustained_bytes_per_s"));
    if (rc == PHX_OK && !(*ret_bytes_per_s > 0))
        rc = PHX_FAIL(err, PHX_ERR_CORRUPT, "phalanx-worker --bench machine gave no read bandwidth");
    phx_json_destroy(root);
    return rc;
}

phx_code phx_machine_limits_measure(uint32_t n_threads, phx_machine_limits *ret_limits, phx_error *err)
{
    phx_json *root = NULL;
    phx_code rc = ask_worker(n_threads, false, &root, err);
    if (rc == PHX_OK)
        rc = read_limits(root, ret_limits, err);
    phx_json_destroy(root);
    return rc;
}
