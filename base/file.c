/* base/file.c - whole small files. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
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

phx_code phx_file_write(const char *path, phx_bytes content, unsigned mode, phx_error *err)
{
    phx_code rc = PHX_OK;
    int fd = -1;
    char temporary[4096];
    if ((size_t)snprintf(temporary, sizeof(temporary), "%s.%d.tmp", path, (int)getpid()) >=
        sizeof(temporary)) {
        rc = PHX_FAIL(err, PHX_ERR_TOO_LONG, "path '%s' is too long", path);
        goto out;
    }
    fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0) {
        rc = PHX_FAIL(err, PHX_ERR_IO, "cannot create '%s': %s", temporary, strerror(errno));
        goto out;
    }
    for (size_t done = 0; done < content.n;) {
        const ssize_t n = write(fd, content.ptr + done, content.n - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            rc = PHX_FAIL(err, PHX_ERR_IO, "cannot write '%s': %s", temporary, strerror(errno));
            goto out;
        }
        done += (size_t)n;
    }
    if (fsync(fd) != 0 || rename(temporary, path) != 0)
        rc = PHX_FAIL(err, PHX_ERR_IO, "cannot finish '%s': %s", path, strerror(errno));
out:
    if (fd >= 0)
        (void)close(fd);
    if (rc != PHX_OK && fd >= 0)
        (void)unlink(temporary);
    return rc;
}

bool phx_file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}
