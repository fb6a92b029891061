/* proto/link_path.c - where a Unix socket may lie. */
#include "proto/link_private.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static phx_code check_directory(const char *path, phx_error *err)
{
    char directory[sizeof(((struct sockaddr_un *)0)->sun_path)];
    const char *slash = strrchr(path, '/');
    if (!slash)
        return PHX_FAIL(err, PHX_ERR_INVALID, "socket path '%s' must be absolute", path);
    const size_t n = slash == path ? 1 : (size_t)(slash - path);
    memcpy(directory, path, n);
    directory[n] = 0;
    struct stat st;
    if (lstat(directory, &st) != 0)
        return PHX_FAIL(err, errno == ENOENT ? PHX_ERR_NOT_FOUND : PHX_ERR_IO,
                        "directory '%s' of the control socket: %s; make it with mode 0700", directory,
                        strerror(errno));
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077) != 0)
        return PHX_FAIL(
            err, PHX_ERR_DENIED,
            "'%s' must be a directory of this user with mode 0700 (it is %o): others could reach the "
            "control socket",
            directory, (unsigned)st.st_mode & 07777);
    return PHX_OK;
}

phx_code phx_link_path_prepare(const char *path, phx_error *err)
{
    phx_code rc = PHX_OK;
    int fd = -1;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (path[0] != '/' || strlen(path) >= sizeof(address.sun_path)) {
        rc = PHX_FAIL(err, PHX_ERR_INVALID, "socket path '%s' must be absolute and shorter than %zu bytes",
                      path, sizeof(address.sun_path));
        goto out;
    }
    rc = check_directory(path, err);
    if (rc != PHX_OK)
        goto out;
    struct stat st;
    if (lstat(path, &st) != 0)
        goto out; /* nothing there */
    if (!S_ISSOCK(st.st_mode)) {
        rc = PHX_FAIL(err, PHX_ERR_IN_USE, "'%s' exists and is not a socket", path);
        goto out;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        rc = PHX_FAIL(err, PHX_ERR_IO, "socket: %s", strerror(errno));
        goto out;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 || errno == EAGAIN)
        rc = PHX_FAIL(err, PHX_ERR_IN_USE, "another coordinator serves '%s'", path);
    else if (errno != ECONNREFUSED && errno != ENOENT)
        rc = PHX_FAIL(err, PHX_ERR_IO, "cannot tell whether '%s' is in use: %s", path, strerror(errno));
    else if (unlink(path) != 0 && errno != ENOENT)
        rc = PHX_FAIL(err, PHX_ERR_IO, "cannot remove the old socket '%s': %s", path, strerror(errno));
out:
    if (fd >= 0)
        (void)close(fd);
    return rc;
}
