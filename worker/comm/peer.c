/* worker/comm/peer.c - does the process of another rank on this host still live? */
#include "worker/comm/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"

/* State letter and start time (fields 3 and 22) of /proc/PID/stat; false when they cannot be read. */
static bool read_stat(int32_t pid, char *ret_state, uint64_t *ret_start);

phx_peer phx_peer_self(void)
{
    phx_peer self = {.pid = (int32_t)getpid()};
    struct stat st;
    if (stat("/proc/self/ns/pid", &st) == 0)
        self.name_space = (uint64_t)st.st_ino;
    char state = 0;
    uint64_t start = 0;
    if (read_stat(self.pid, &state, &start))
        self.start = start;
    return self;
}

bool phx_peer_alive(const phx_peer *self, const phx_peer *peer)
{
    if (peer->name_space != self->name_space || peer->pid <= 0)
        return true;
    if (peer->pid == self->pid)
        return true;
    if (kill((pid_t)peer->pid, 0) != 0 && errno == ESRCH)
        return false;
    char state = 0;
    uint64_t start = 0;
    if (!read_stat(peer->pid, &state, &start))
        return true;
    /* A dead rank stays a zombie until its parent reaps it, which may take seconds. */
    if (state == 'Z' || state == 'X')
        return false;
    return peer->start == 0 || start == peer->start;
}

static bool read_stat(int32_t pid, char *ret_state, uint64_t *ret_start)
{
    char path[48];
    (void)snprintf(path, sizeof(path), "/proc/%" PRId32 "/stat", pid);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    char text[1024];
    const ssize_t n = read(fd, text, sizeof(text) - 1);
    (void)close(fd);
    if (n <= 0)
        return false;
    text[n] = '\0';
    /* The command name is in parentheses and may itself hold spaces and parentheses: start after the last. */
    const char *at = strrchr(text, ')');
    if (!at || at[1] != ' ' || at[2] == '\0')
        return false;
    const char state = at[2];
    at += 2;
    for (uint32_t field = 3; field < 22; field++) {
        at = strchr(at, ' ');
        if (!at)
            return false;
        at++;
    }
    uint64_t start = 0;
    if (!phx_str_to_u64((phx_str){at, strcspn(at, " ")}, 0, UINT64_MAX, &start))
        return false;
    *ret_state = state;
    *ret_start = start;
    return true;
}
