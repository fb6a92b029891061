/* coordinator/fleet/run_dir.c - the folder of a running coordinator, and its janitor. */
#include "coordinator/fleet/run_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/str.h"

/* of 100 ms: ranks and mpirun need about a second to notice that they are orphans */
#define JANITOR_TRIES 30u

/* What the janitor is told through its pipe; a single byte means that everything was removed in order. */
typedef struct janitor_socket {
    char path[112];
    dev_t device;
    ino_t inode;
    struct timespec changed; /* inode numbers are given out again */
} janitor_socket;

static void run_janitor(const phx_run_dir *dir, int fd) __attribute__((noreturn));

phx_code phx_run_dir_create(const char *parent, phx_run_dir *ret_dir, phx_error *err)
{
    phx_run_dir dir = {.janitor_fd = -1};
    uint8_t random[4];
    int ends[2];
    phx_random_bytes(random, sizeof(random));
    (void)snprintf(dir.name, sizeof(dir.name), "phx-%02x%02x%02x%02x", random[0], random[1], random[2],
                   random[3]);
    if ((size_t)snprintf(dir.path, sizeof(dir.path), "%s/%s", parent, dir.name) >= sizeof(dir.path))
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "path '%s' is too long for a run folder", parent);
    if (mkdir(dir.path, 0700) != 0)
        return PHX_FAIL(err, PHX_ERR_IO, "cannot create '%s': %s", dir.path, strerror(errno));
    if (pipe2(ends, O_CLOEXEC) != 0) {
        (void)rmdir(dir.path);
        return PHX_FAIL(err, PHX_ERR_IO, "cannot make a pipe: %s", strerror(errno));
    }
    const pid_t pid = fork();
    if (pid == 0) {
        (void)close(ends[1]);
        run_janitor(&dir, ends[0]);
    }
    (void)close(ends[0]);
    if (pid < 0) {
        (void)close(ends[1]);
        (void)rmdir(dir.path);
        return PHX_FAIL(err, PHX_ERR_IO, "cannot start the janitor: %s", strerror(errno));
    }
    dir.janitor_fd = ends[1];
    dir.janitor_pid = pid;
    *ret_dir = dir;
    return PHX_OK;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *walk)
{
    (void)info;
    (void)kind;
    (void)walk;
    (void)remove(path);
    return 0;
}

static void remove_tree(const char *path)
{
    (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

void phx_run_dir_sweep_segments(const char *name)
{
    char segment[300];
    DIR *shm = opendir("/dev/shm");
    if (!shm)
        return;
    for (const struct dirent *entry; (entry = readdir(shm));) {
        if (strncmp(entry->d_name, name, strlen(name)) != 0)
            continue;
        (void)snprintf(segment, sizeof(segment), "/%s", entry->d_name);
        (void)shm_unlink(segment);
    }
    (void)closedir(shm);
}

static bool describe(const char *path, janitor_socket *ret_socket)
{
    struct stat info;
    if (!phx_str_copy(ret_socket->path, sizeof(ret_socket->path), phx_str_of(path)) ||
        lstat(path, &info) != 0 || !S_ISSOCK(info.st_mode))
        return false;
    ret_socket->device = info.st_dev;
    ret_socket->inode = info.st_ino;
    ret_socket->changed = info.st_ctim;
    return true;
}

static bool is_same(const janitor_socket *socket)
{
    janitor_socket now = {0};
    return socket->path[0] && describe(socket->path, &now) && now.device == socket->device &&
           now.inode == socket->inode && now.changed.tv_sec == socket->changed.tv_sec &&
           now.changed.tv_nsec == socket->changed.tv_nsec;
}

phx_code phx_run_dir_keep_socket(phx_run_dir *dir, const char *path, phx_error *err)
{
    janitor_socket socket = {0};
    /* A client that started us may have connected and removed the path already: then there is no more to do.
     */
    if (describe(path, &socket) &&
        write(dir->janitor_fd, &socket, sizeof(socket)) != (ssize_t)sizeof(socket)) /* below PIPE_BUF */
        return PHX_FAIL(err, PHX_ERR_IO, "cannot tell the janitor: %s", strerror(errno));
    return PHX_OK;
}

/* Lives in a session of its own, so that a signal to the terminal's group does not end it before its work is
 * done. */
static void run_janitor(const phx_run_dir *dir, int fd)
{
    janitor_socket control = {0}, told;
    (void)setsid();
    (void)prctl(PR_SET_NAME, "phalanx-janitor");
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGTERM, SIG_IGN);
    const int null = open("/dev/null", O_RDWR);
    for (int i = 0; i <= 2 && null >= 0; i++)
        (void)dup2(null, i);
    const long n_fds = sysconf(_SC_OPEN_MAX);
    for (int i = 3; i < (n_fds < 4096 ? n_fds : 4096); i++) {
        if (i != fd)
            (void)close(i);
    }
    ssize_t n;
    while ((n = read(fd, &told, sizeof(told))) == (ssize_t)sizeof(told))
        control = told;
    if (n == 1)
        _exit(0);
    if (is_same(&control))
        (void)unlink(control.path);
    for (unsigned i = 0; i < JANITOR_TRIES; i++) {
        remove_tree(dir->path);
        phx_run_dir_sweep_segments(dir->name);
        if (access(dir->path, F_OK) != 0 && i > 2)
            break; /* once more after a moment: an orphan may have written in between */
        (void)usleep(100000);
    }
    _exit(0);
}

void phx_run_dir_destroy(phx_run_dir *dir)
{
    if (dir->janitor_fd < 0)
        return;
    remove_tree(dir->path);
    phx_run_dir_sweep_segments(dir->name);
    const ssize_t ignored = write(dir->janitor_fd, "x", 1);
    (void)ignored;
    (void)close(dir->janitor_fd);
    (void)waitpid(dir->janitor_pid, NULL, 0);
    dir->janitor_fd = -1;
}
