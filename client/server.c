/* client/server.c - start, await and stop a private server, or join one that runs. */
#include "client/server.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/descriptors.h"
#include "base/paths.h"
#include "client/terminal.h"

#define STATUS_DEADLINE_MS 5000u
#define POLL_US            50000u
#define STOP_US            15000000u /* a server that loads reads to the end of its present slice first */
#define ARGS_MAX           64u
#define ARGS_BYTES_MAX     (128u << 10)
#define EXIT_USAGE         2 /* of phalanx-coordinator: an option was refused */
#define EXIT_REFUSED       3 /* likewise: the model or the plan */

struct phx_server {
    phx_client *client;
    phx_interrupt *interrupt;
    pid_t pid; /* 0: not ours, or ended */
    int lifeline;
    char dir[PHX_PATH_MAX]; /* of the private socket; empty: none */
    char address[PHX_PATH_MAX];
};

static phx_code start_private(phx_server *server, const phx_server_spec *spec, phx_error *err);
static phx_code spawn(phx_server *server, char *const *argv, int lifeline, phx_error *err);
static phx_code await_connection(phx_server *server, phx_error *err);
static phx_code await_ready(phx_server *server, phx_error *err);
static phx_code check_child(phx_server *server, phx_error *err);
static void remove_dir(phx_server *server);

phx_code phx_server_open(const phx_server_spec *spec, phx_server **ret_server, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_server *server = phx_alloc(1, sizeof(*server));
    if (!server) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "server");
        goto out;
    }
    server->lifeline = -1;
    server->interrupt = spec->interrupt;
    if (spec->key_file && !spec->connect)
        rc = PHX_FAIL(err, PHX_ERR_INVALID, "--key-file goes with --connect: a private server needs none");
    if (rc == PHX_OK)
        rc = phx_descriptors_raise(err);
    if (rc != PHX_OK)
        goto out;
    if (spec->connect) {
        rc = phx_client_connect(spec->connect, spec->key_file, &server->client, err);
    } else {
        rc = start_private(server, spec, err);
        if (rc == PHX_OK)
            rc = await_connection(server, err);
        /* We are in, and nobody else shall come: so even a killed `phalanx` leaves no folder. */
        remove_dir(server);
    }
    if (rc == PHX_OK)
        rc = await_ready(server, err);
    if (rc != PHX_OK)
        goto out;
    *ret_server = server;
    server = NULL;
out:
    phx_server_close(server);
    return rc;
}

phx_client *phx_server_client(const phx_server *server)
{
    return server->client;
}

phx_code phx_server_status(phx_client *client, Phalanx__ServerFrame **ret_frame, phx_error *err)
{
    Phalanx__ClientFrame frame = PHALANX__CLIENT_FRAME__INIT;
    Phalanx__StatusRequest request = PHALANX__STATUS_REQUEST__INIT;
    frame.body_case = PHALANX__CLIENT_FRAME__BODY_STATUS;
    frame.status = &request;
    return phx_client_call(client, &frame, STATUS_DEADLINE_MS, ret_frame, err);
}

/* ---- starting ---- */

static phx_code make_dir(phx_server *server, const phx_env *env, phx_error *err)
{
    const int n = snprintf(server->dir, sizeof(server->dir), "%s/phalanx-run-XXXXXX", env->tmp_dir);
    if (n < 0 || (size_t)n >= sizeof(server->dir) - sizeof("/control")) {
        server->dir[0] = 0;
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "the path of the temporary folder is too long");
    }
    if (!mkdtemp(server->dir)) { /* mode 0700 */
        server->dir[0] = 0;
        return PHX_FAIL(err, PHX_ERR_IO, "cannot make a folder in '%s': %s", env->tmp_dir, strerror(errno));
    }
    const int m = snprintf(server->address, sizeof(server->address), "ipc://%s/control", server->dir);
    if (m < 0 || (size_t)m >= sizeof(server->address))
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "the path of the temporary folder is too long");
    return PHX_OK;
}

/* Everything the child is told, as texts that end with a zero byte, one after the other. */
static phx_code write_args(const phx_server *server, const phx_options *given, int lifeline, phx_buf *args,
                           phx_error *err)
{
    char program[PHX_PATH_MAX];
    char model[PHX_PATH_MAX];
    phx_options options = *given;
    phx_code rc = phx_path_beside("phalanx-coordinator", program, sizeof(program), err);
    if (rc == PHX_OK)
        rc = phx_command_model_dir(given, model, sizeof(model), err);
    if (rc == PHX_OK)
        rc = phx_options_set(&options, PHX_OPTION_model, phx_str_of(model), PHX_OPTION_ARGS, err);
    if (rc == PHX_OK && options.source[PHX_OPTION_log_level] == PHX_OPTION_DEFAULT)
        rc = phx_options_set(&options, PHX_OPTION_log_level, phx_str_of("warn"), PHX_OPTION_ARGS, err);
    if (rc != PHX_OK)
        return rc;
    phx_buf_printf(args, "%s%c--http=off%c--control=%s%c--lifeline-fd=%d%c", program, 0, 0, server->address,
                   0, lifeline, 0);
    phx_options_write_args(&options, PHX_SERVER_SCOPES, args);
    return args->code == PHX_OK ? PHX_OK : PHX_FAIL(err, args->code, "arguments of the private server");
}

static phx_code start_private(phx_server *server, const phx_server_spec *spec, phx_error *err)
{
    int ends[2] = {-1, -1};
    char *argv[ARGS_MAX] = {NULL};
    size_t n_args = 0;
    phx_buf args;
    phx_buf_init(&args, ARGS_BYTES_MAX);
    phx_code rc = make_dir(server, spec->env, err);
    if (rc != PHX_OK)
        goto out;
    if (pipe2(ends, O_CLOEXEC) != 0) {
        rc = PHX_FAIL(err, PHX_ERR_IO, "pipe: %s", strerror(errno));
        goto out;
    }
    rc = write_args(server, spec->options, ends[0], &args, err);
    if (rc != PHX_OK)
        goto out;
    for (size_t at = 0; at < args.n && n_args + 1 < ARGS_MAX; at += strlen(args.ptr + at) + 1)
        argv[n_args++] = args.ptr + at;
    rc = spawn(server, argv, ends[0], err);
    if (rc != PHX_OK)
        goto out;
    server->lifeline = ends[1];
    ends[1] = -1;
out:
    for (int i = 0; i < 2; i++) {
        if (ends[i] >= 0)
            (void)close(ends[i]);
    }
    phx_buf_done(&args);
    return rc;
}

/* The child gets a process group of its own (Ctrl-C is ours to handle), no stdin, our stderr for both
 * outputs, a clean signal mask, and the reading end of the lifeline. */
static phx_code spawn(phx_server *server, char *const *argv, int lifeline, phx_error *err)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    if (posix_spawn_file_actions_init(&actions) != 0)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "starting the private server");
    if (posix_spawnattr_init(&attributes) != 0) {
        (void)posix_spawn_file_actions_destroy(&actions);
        return PHX_FAIL(err, PHX_ERR_NOMEM, "starting the private server");
    }
    (void)sigemptyset(&none);
    int failed = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    failed = failed ? failed : posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
    /* On itself: clears close-on-exec in the child alone. */
    failed = failed ? failed : posix_spawn_file_actions_adddup2(&actions, lifeline, lifeline);
    failed = failed ? failed : posix_spawnattr_setsigmask(&attributes, &none);
    failed = failed ? failed : posix_spawnattr_setpgroup(&attributes, 0);
    failed = failed ? failed
                    : posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
    failed = failed ? failed : posix_spawn(&server->pid, argv[0], &actions, &attributes, argv, environ);
    (void)posix_spawnattr_destroy(&attributes);
    (void)posix_spawn_file_actions_destroy(&actions);
    if (failed) {
        server->pid = 0;
        return PHX_FAIL(err, failed == ENOENT ? PHX_ERR_NOT_FOUND : PHX_ERR_IO, "cannot start '%s': %s",
                        argv[0], strerror(failed));
    }
    return PHX_OK;
}

/* ---- waiting ---- */

/* Nothing to say while the child lives or is not ours. */
static phx_code check_child(phx_server *server, phx_error *err)
{
    int status = 0;
    if (phx_interrupted(server->interrupt))
        return PHX_FAIL(err, PHX_ERR_CANCELLED, "interrupted");
    if (server->pid == 0 || waitpid(server->pid, &status, WNOHANG) == 0)
        return PHX_OK;
    server->pid = 0;
    if (WIFSIGNALED(status))
        return PHX_FAIL(err, PHX_ERR_UNAVAILABLE, "the private server was killed by signal %d",
                        WTERMSIG(status));
    if (WEXITSTATUS(status) == EXIT_USAGE)
        return PHX_FAIL(err, PHX_ERR_INVALID, "the server refused an option, for the reason above");
    if (WEXITSTATUS(status) == EXIT_REFUSED)
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED,
                        "the server refused the model or its layout, for the reason above");
    return PHX_FAIL(err, PHX_ERR_UNAVAILABLE, "the private server ended with code %d before it was ready",
                    WEXITSTATUS(status));
}

static phx_code await_connection(phx_server *server, phx_error *err)
{
    for (;;) {
        phx_error why = {0};
        phx_code rc = phx_client_connect(server->address, NULL, &server->client, &why);
        if (rc == PHX_OK)
            return PHX_OK;
        if (rc != PHX_ERR_UNAVAILABLE)
            return PHX_FAIL(err, rc, "%s", why.text);
        rc = check_child(server, err);
        if (rc != PHX_OK)
            return rc;
        (void)usleep(POLL_US);
    }
}

static void show_loading(const Phalanx__StatusReply *status, phx_progress *progress)
{
    uint64_t done = 0;
    uint64_t total = 0;
    size_t n_ready = 0;
    char note[160];
    const char *state = "starting";
    phx_buf bytes;
    phx_buf_init(&bytes, 64);
    for (size_t r = 0; r < status->n_ranks; r++) {
        done += status->ranks[r]->loaded_bytes;
        total += status->ranks[r]->total_bytes;
        n_ready += strcmp(status->ranks[r]->state, "ready") == 0;
        if (strcmp(status->ranks[r]->state, "ready") != 0)
            state = status->ranks[r]->state;
    }
    phx_put_bytes(&bytes, done);
    (void)snprintf(note, sizeof(note), "%s, %zu of %zu ranks ready: %.20s", bytes.ptr ? bytes.ptr : "",
                   n_ready, status->n_ranks, state);
    phx_progress_show(progress, "loading", done, total, note);
    phx_buf_done(&bytes);
}

/* What the state means for waiting: ready, not yet, or never. */
static phx_code judge_state(const Phalanx__StatusReply *status, bool *ret_ready, phx_error *err)
{
    *ret_ready = strcmp(status->state, "ready") == 0;
    if (strcmp(status->state, "failed") == 0)
        return PHX_FAIL(err, PHX_ERR_UNAVAILABLE, "the rank group failed: see the server's log");
    if (strcmp(status->state, "draining") == 0)
        return PHX_FAIL(err, PHX_ERR_UNAVAILABLE, "the server is draining");
    return PHX_OK;
}

static phx_code await_ready(phx_server *server, phx_error *err)
{
    phx_progress progress;
    bool ready = false;
    phx_code rc = PHX_OK;
    phx_progress_init(&progress);
    while (rc == PHX_OK && !ready) {
        Phalanx__ServerFrame *frame = NULL;
        phx_error why = {0};
        rc = phx_server_status(server->client, &frame, &why);
        if (rc == PHX_OK) {
            show_loading(frame->status_reply, &progress);
            rc = judge_state(frame->status_reply, &ready, err);
            phx_server_frame_free(frame);
        } else if (server->pid && (rc == PHX_ERR_UNAVAILABLE || rc == PHX_ERR_DEADLINE)) {
            rc = PHX_OK; /* its end is noticed below, with a better reason */
        } else {
            rc = PHX_FAIL(err, rc, "%s", why.text);
        }
        if (rc == PHX_OK && !ready) {
            rc = check_child(server, err);
            (void)usleep(POLL_US);
        }
    }
    phx_progress_end(&progress);
    return rc;
}

/* ---- stopping ---- */

static bool await_end(phx_server *server, uint64_t limit_us)
{
    const uint64_t until = phx_clock_us() + limit_us;
    while (server->pid && phx_clock_us() < until) {
        if (waitpid(server->pid, NULL, WNOHANG) != 0)
            server->pid = 0;
        else
            (void)usleep(5000);
    }
    return server->pid == 0;
}

static void remove_dir(phx_server *server)
{
    if (!server->dir[0])
        return;
    (void)unlink(server->address + strlen("ipc://"));
    (void)rmdir(server->dir);
    server->dir[0] = 0;
}

void phx_server_close(phx_server *server)
{
    if (!server)
        return;
    phx_client_close(server->client);
    if (server->lifeline >= 0)
        (void)close(server->lifeline);
    if (server->pid && !await_end(server, STOP_US)) {
        (void)kill(server->pid, SIGTERM);
        if (!await_end(server, STOP_US)) {
            (void)kill(server->pid, SIGKILL);
            (void)await_end(server, STOP_US);
        }
    }
    remove_dir(server);
    phx_free(server);
}
