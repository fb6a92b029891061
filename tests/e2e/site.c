/* tests/e2e/site.c - see site.h. */
#include "tests/e2e/site.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

enum { ENV_MAX = 512, LOG_BYTES_MAX = 8 << 20, READY_MS = 120000 };

extern char **environ;

static void note_run_names(site *s);

void site_open(site *s)
{
    const char *tmp = getenv("TMPDIR");
    *s = (site){0};
    (void)snprintf(s->dir, sizeof(s->dir), "%s/e2eXXXXXX", tmp && strlen(tmp) < 40 ? tmp : "/tmp");
    assert_non_null(mkdtemp(s->dir));
    (void)snprintf(s->marker, sizeof(s->marker), "PHX_E2E_SITE=%s", s->dir);
    (void)snprintf(s->log, sizeof(s->log), "%s/log", s->dir);
    (void)snprintf(s->control, sizeof(s->control), "ipc://%s/phalanx/control", s->dir);
}

void site_open_guest(site *guest, const site *host)
{
    *guest = *host;
    guest->pid = 0;
    (void)snprintf(guest->log, sizeof(guest->log), "%s/log2", host->dir);
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *walk)
{
    (void)info;
    (void)kind;
    (void)walk;
    (void)remove(path);
    return 0;
}

void site_close(site *s)
{
    pid_t pids[SITE_PIDS_MAX];
    const uint32_t n = site_pids(s, "", pids);
    for (uint32_t i = 0; i < n; i++)
        (void)kill(pids[i], SIGKILL);
    (void)site_wait(s, 5000);
    (void)nftw(s->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int site_setup(void **state)
{
    static site s;
    site_open(&s);
    *state = &s;
    return 0;
}

int site_teardown(void **state)
{
    site_close(*state);
    return 0;
}

/* ---- starting ---- */

static bool is_set_by_site(const char *entry)
{
    static const char *const names[] = {"XDG_RUNTIME_DIR=", "XDG_STATE_HOME=", "TMPDIR=", "PHX_E2E_SITE="};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strncmp(entry, names[i], strlen(names[i])) == 0)
            return true;
    }
    return false;
}

/* A name that is given in `mine` wins over the environment. */
static bool is_given(const char *entry, const char *const *mine)
{
    const size_t n = strcspn(entry, "=") + 1;
    for (; mine && *mine; mine++) {
        if (strncmp(entry, *mine, n) == 0)
            return true;
    }
    return false;
}

void site_start(site *s, const char *program, const char *const *args, const char *const *env)
{
    const char *build = getenv("PHX_BUILD");
    char path[4096], runtime[96], state[96], tmp[96];
    char *argv[SITE_ARGS_MAX + 2], *envp[ENV_MAX + 1];
    uint32_t n_args = 0, n_env = 0;
    posix_spawn_file_actions_t actions;
    if (strchr(program, '/'))
        (void)snprintf(path, sizeof(path), "%s", program);
    else
        (void)snprintf(path, sizeof(path), "%s/%s", build ? build : "build", program);
    argv[n_args++] = path;
    for (; args && *args && n_args <= SITE_ARGS_MAX; args++)
        argv[n_args++] = (char *)(uintptr_t)*args;
    argv[n_args] = NULL;
    (void)snprintf(runtime, sizeof(runtime), "XDG_RUNTIME_DIR=%s", s->dir);
    (void)snprintf(state, sizeof(state), "XDG_STATE_HOME=%s/state", s->dir);
    (void)snprintf(tmp, sizeof(tmp), "TMPDIR=%s", s->dir);
    envp[n_env++] = runtime;
    envp[n_env++] = state;
    envp[n_env++] = tmp;
    envp[n_env++] = s->marker;
    for (const char *const *e = env; e && *e; e++)
        envp[n_env++] = (char *)(uintptr_t)*e;
    for (char **e = environ; *e && n_env < ENV_MAX; e++) {
        if (!is_set_by_site(*e) && !is_given(*e, env))
            envp[n_env++] = *e;
    }
    envp[n_env] = NULL;
    assert_int_equal(s->pid, 0);
    (void)unlink(s->log);
    assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
    (void)posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    (void)posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, s->log, O_WRONLY | O_CREAT | O_APPEND,
                                           0600);
    (void)posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
    const int failed = posix_spawn(&s->pid, path, &actions, NULL, argv, envp);
    (void)posix_spawn_file_actions_destroy(&actions);
    if (failed)
        fail_msg("cannot start %s: %s", path, strerror(failed));
}

void site_launch(site *s, const char *const *args)
{
    const char *all[SITE_ARGS_MAX] = {"serve", "--http", "127.0.0.1:0"};
    uint32_t n = 3;
    for (; args && *args && n + 1 < SITE_ARGS_MAX; args++)
        all[n++] = *args;
    s->port = 0;
    site_start(s, "phalanx", all, NULL);
}

void site_await_ready(site *s)
{
    static const char sign[] = ", http://127.0.0.1:";
    phx_buf log;
    if (!site_await_log(s, sign, READY_MS)) {
        site_print_log(s);
        fail_msg("the server did not become ready");
    }
    phx_buf_init(&log, LOG_BYTES_MAX);
    site_read_log(s, &log);
    const char *at = strstr(log.ptr, sign);
    s->port = (uint16_t)strtoul(at + sizeof(sign) - 1, NULL, 10);
    phx_buf_done(&log);
    note_run_names(s);
}

void site_serve(site *s, const char *const *args)
{
    site_launch(s, args);
    site_await_ready(s);
}

int site_wait(site *s, uint32_t limit_ms)
{
    const uint64_t until = phx_clock_us() + (uint64_t)limit_ms * 1000;
    int status = 0;
    while (s->pid > 0) {
        if (waitpid(s->pid, &status, WNOHANG) == s->pid) {
            s->pid = 0;
            return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
        }
        if (phx_clock_us() > until)
            return -1;
        (void)usleep(5000);
    }
    return -1;
}

/* ---- the log ---- */

void site_read_log(const site *s, phx_buf *text)
{
    char piece[4096];
    const int fd = open(s->log, O_RDONLY | O_CLOEXEC);
    phx_buf_clear(text);
    for (ssize_t n; fd >= 0 && (n = read(fd, piece, sizeof(piece))) > 0;)
        (void)phx_buf_append(text, piece, (size_t)n);
    (void)phx_buf_append(text, "", 0);
    if (fd >= 0)
        (void)close(fd);
}

void site_print_log(const site *s)
{
    phx_buf log;
    phx_buf_init(&log, LOG_BYTES_MAX);
    site_read_log(s, &log);
    (void)printf("---- %s\n%.*s----\n", s->log, (int)(log.n > 16384 ? 16384 : log.n),
                 log.n > 16384 ? log.ptr + log.n - 16384 : (log.ptr ? log.ptr : ""));
    phx_buf_done(&log);
}

/* False also when the process ends without having said it. */
bool site_await_log(site *s, const char *text, uint32_t limit_ms)
{
    const uint64_t until = phx_clock_us() + (uint64_t)limit_ms * 1000;
    phx_buf log;
    bool found = false, gone = false;
    phx_buf_init(&log, LOG_BYTES_MAX);
    while (!found && !gone && phx_clock_us() < until) {
        siginfo_t info = {0};
        gone = s->pid > 0 && waitid(P_PID, (id_t)s->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
               info.si_pid == s->pid;
        site_read_log(s, &log);
        found = log.ptr && strstr(log.ptr, text) != NULL;
        if (!found)
            (void)usleep(10000);
    }
    phx_buf_done(&log);
    return found;
}

/* ---- what is left ---- */

static bool read_small(const char *path, phx_buf *text)
{
    char piece[4096];
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    phx_buf_clear(text);
    if (fd < 0)
        return false;
    for (ssize_t n; (n = read(fd, piece, sizeof(piece))) > 0;)
        (void)phx_buf_append(text, piece, (size_t)n);
    (void)close(fd);
    return text->n > 0;
}

uint32_t site_pids(const site *s, const char *name, pid_t *pids)
{
    uint32_t n = 0;
    char path[300];
    phx_buf text;
    DIR *proc = opendir("/proc");
    phx_buf_init(&text, 1u << 20);
    for (const struct dirent *e; proc && (e = readdir(proc)) && n < SITE_PIDS_MAX;) {
        if (e->d_name[0] < '0' || e->d_name[0] > '9')
            continue;
        (void)snprintf(path, sizeof(path), "/proc/%s/environ", e->d_name);
        if (!read_small(path, &text) || !memmem(text.ptr, text.n, s->marker, strlen(s->marker) + 1))
            continue;
        (void)snprintf(path, sizeof(path), "/proc/%s/comm", e->d_name);
        if (read_small(path, &text) && strncmp(text.ptr, name, strlen(name)) == 0)
            pids[n++] = (pid_t)strtol(e->d_name, NULL, 10);
    }
    if (proc)
        (void)closedir(proc);
    phx_buf_done(&text);
    return n;
}

static void note_run_names(site *s)
{
    char path[96];
    (void)snprintf(path, sizeof(path), "%s/phalanx", s->dir);
    DIR *dir = opendir(path);
    for (const struct dirent *e; dir && (e = readdir(dir));) {
        bool known = strncmp(e->d_name, "phx-", 4) != 0;
        for (uint32_t i = 0; i < s->n_run_names; i++)
            known = known || strcmp(s->run_names[i], e->d_name) == 0;
        if (!known)
            (void)snprintf(s->run_names[s->n_run_names++ % 16], sizeof(s->run_names[0]), "%.31s", e->d_name);
        s->n_run_names = s->n_run_names > 16 ? 16 : s->n_run_names;
    }
    if (dir)
        (void)closedir(dir);
}

static void list_files(const char *path, bool top, phx_buf *text)
{
    DIR *dir = opendir(path);
    for (const struct dirent *e; dir && (e = readdir(dir));) {
        const bool expected =
            top && (strcmp(e->d_name, "phalanx") == 0 || strcmp(e->d_name, "state") == 0 ||
                    strncmp(e->d_name, "log", 3) == 0 || strncmp(e->d_name, "keep", 4) == 0);
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && !expected)
            (void)phx_buf_printf(text, "  file %s/%s\n", path, e->d_name);
    }
    if (dir)
        (void)closedir(dir);
}

/* Open MPI's segments may belong to somebody else's job: only one that no process has open is left over. */
static bool is_mapped(const char *name)
{
    char path[300];
    phx_buf text;
    bool mapped = false;
    DIR *proc = opendir("/proc");
    phx_buf_init(&text, 8u << 20);
    for (const struct dirent *e; proc && !mapped && (e = readdir(proc));) {
        (void)snprintf(path, sizeof(path), "/proc/%s/maps", e->d_name);
        if (e->d_name[0] >= '0' && e->d_name[0] <= '9' && read_small(path, &text))
            mapped = strstr(text.ptr, name) != NULL;
    }
    if (proc)
        (void)closedir(proc);
    phx_buf_done(&text);
    return mapped;
}

static void list_segments(const site *s, phx_buf *text)
{
    DIR *shm = opendir("/dev/shm");
    for (const struct dirent *e; shm && (e = readdir(shm));) {
        bool ours = false;
        for (uint32_t i = 0; i < s->n_run_names; i++)
            ours = ours || strncmp(e->d_name, s->run_names[i], strlen(s->run_names[i])) == 0;
        const bool mpi = strncmp(e->d_name, "vader_", 6) == 0 || strncmp(e->d_name, "sm_", 3) == 0 ||
                         strncmp(e->d_name, "ompi", 4) == 0 || strncmp(e->d_name, "open_mpi", 8) == 0;
        if (ours || (mpi && !is_mapped(e->d_name)))
            (void)phx_buf_printf(text, "  segment /dev/shm/%s\n", e->d_name);
    }
    if (shm)
        (void)closedir(shm);
}

static void list_port(const site *s, phx_buf *text)
{
    const int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(s->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (fd < 0)
        return;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (s->port && bind(fd, (const struct sockaddr *)&address, sizeof(address)) != 0)
        (void)phx_buf_printf(text, "  port %u: %s\n", s->port, strerror(errno));
    (void)close(fd);
}

void site_traces(site *s, phx_buf *text)
{
    char path[300];
    pid_t pids[SITE_PIDS_MAX];
    phx_buf comm;
    phx_buf_clear(text);
    phx_buf_init(&comm, 1u << 16);
    const uint32_t n = site_pids(s, "", pids);
    for (uint32_t i = 0; i < n; i++) {
        (void)snprintf(path, sizeof(path), "/proc/%d/comm", (int)pids[i]);
        if (read_small(path, &comm))
            (void)phx_buf_printf(text, "  process %d %s", (int)pids[i], comm.ptr);
    }
    phx_buf_done(&comm);
    list_files(s->dir, true, text);
    (void)snprintf(path, sizeof(path), "%s/phalanx", s->dir);
    list_files(path, false, text);
    list_segments(s, text);
    list_port(s, text);
}

bool site_await_clean(site *s, uint32_t limit_ms, phx_buf *text)
{
    const uint64_t until = phx_clock_us() + (uint64_t)limit_ms * 1000;
    do {
        site_traces(s, text);
        if (text->n == 0)
            return true;
        (void)usleep(50000);
    } while (phx_clock_us() < until);
    return false;
}

void site_assert_clean(site *s, uint32_t limit_ms)
{
    phx_buf text;
    phx_buf_init(&text, 1u << 16);
    if (!site_await_clean(s, limit_ms, &text)) {
        site_print_log(s);
        fail_msg("left behind after %u ms:\n%s", limit_ms, text.ptr);
    }
    phx_buf_done(&text);
}
