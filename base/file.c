/* base/file.c - whole small files. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

phx_code phx_file_read(const char *path, phx_buf *buf, phx_error *err)
{
    phx_code rc = PHX_OK;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        rc = PHX_FAIL(err, errno == ENOENT ? PHX_ERR_NOT_FOUND : PHX_ERR_IO, "cannot open '%s': %s", path,
                      strerror(errno));
        goto out;
    }
    char chunk[16384];
    for (;;) {
        const ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            rc = PHX_FAIL(err, PHX_ERR_IO, "cannot read '%s': %s", path, strerror(errno));
            goto out;
        }
        if (n == 0)
            break;
        rc = phx_buf_append(buf, chunk, (size_t)n);
        if (rc != PHX_OK) {
            rc = PHX_FAIL(err, rc, "'%s' is larger than the limit of %zu bytes", path, buf->n_max);
            goto out;
        }
    }
    rc = phx_buf_append(buf, "", 0);
out:
    if (fd >= 0)
        (void)close(fd);
    return rc;
}

static phx_code write_all(int fd, const char *path, const phx_bytes *parts, size_t n_parts, phx_error *err)
{
    for (size_t i = 0; i < n_parts; i++) {
        for (size_t done = 0; done < parts[i].n;) {
            const ssize_t n = write(fd, parts[i].ptr + done, parts[i].n - done);
            if (n < 0 && errno == EINTR)
                continue;
            if (n < 0)
                return PHX_FAIL(err, PHX_ERR_IO, "cannot write '%s': %s", path, strerror(errno));
            done += (size_t)n;
        }
    }
    return PHX_OK;
}

/* A pipe, a terminal, a device: there is nothing to replace, so the bytes go into it. */
static phx_code write_into(const char *path, const phx_bytes *parts, size_t n_parts, phx_error *err)
{
    const int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return PHX_FAIL(err, PHX_ERR_IO, "cannot open '%s': %s", path, strerror(errno));
    const phx_code rc = write_all(fd, path, parts, n_parts, err);
    if (close(fd) != 0 && rc == PHX_OK)
        return PHX_FAIL(err, PHX_ERR_IO, "cannot finish '%s': %s", path, strerror(errno));
    return rc;
}

phx_code phx_file_write(const char *path, phx_bytes content, unsigned mode, phx_error *err)
{
    return phx_file_write_parts(path, &content, 1, mode, err);
}

/* A temporary beside `target` that takes its place when it is whole. */
static phx_code replace(const char *target, const phx_bytes *parts, size_t n_parts, unsigned mode,
                        phx_error *err)
{
    char temporary[PATH_MAX + 32];
    (void)snprintf(temporary, sizeof(temporary), "%s.%d.tmp", target, (int)getpid());
    const int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0)
        return PHX_FAIL(err, PHX_ERR_IO, "cannot create '%s': %s", temporary, strerror(errno));
    phx_code rc = write_all(fd, temporary, parts, n_parts, err);
    if (rc == PHX_OK && (fsync(fd) != 0 || rename(temporary, target) != 0))
        rc = PHX_FAIL(err, PHX_ERR_IO, "cannot finish '%s': %s", target, strerror(errno));
    (void)close(fd);
    if (rc != PHX_OK)
        (void)unlink(temporary);
    return rc;
}

phx_code phx_file_write_parts(const char *path, const phx_bytes *parts, size_t n_parts, unsigned mode,
                              phx_error *err)
{
    struct stat info;
    char target[PATH_MAX];
    const bool exists = stat(path, &info) == 0;
    if (exists && !S_ISREG(info.st_mode))
        return write_into(path, parts, n_parts, err);
    if (strlen(path) >= sizeof(target))
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "path '%s' is too long", path);
    if (!exists || !realpath(path, target)) /* of a link, what it points to is replaced */
        memcpy(target, path, strlen(path) + 1);
    return replace(target, parts, n_parts, mode, err);
}

bool phx_file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

bool phx_file_writable(const char *path)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (access(path, F_OK) == 0)
        return access(path, W_OK) == 0;
    if (!slash)
        return access(".", W_OK) == 0;
    const size_t n = slash == path ? 1 : (size_t)(slash - path);
    return phx_str_copy(folder, sizeof(folder), (phx_str){path, n}) && access(folder, W_OK) == 0;
}
