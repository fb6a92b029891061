/* proto/keys.c - CURVE keys and the file that carries them to a peer. */
#include "proto/link.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include "base/file.h"
#include "base/hash.h"

#define KEY_CHARS      40u
#define FILE_BYTES_MAX 1024u

phx_code phx_link_keys_make(phx_link_keys *ret_keys, phx_error *err)
{
    phx_link_keys keys = {0};
    if (zmq_curve_keypair(keys.server_public, keys.server_secret) != 0 ||
        zmq_curve_keypair(keys.client_public, keys.client_secret) != 0)
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "libzmq cannot make CURVE keys: %s",
                        zmq_strerror(zmq_errno()));
    *ret_keys = keys;
    phx_secret_wipe(&keys, sizeof(keys));
    return PHX_OK;
}

phx_code phx_link_keys_write(const phx_link_keys *keys, const char *path, phx_error *err)
{
    char text[FILE_BYTES_MAX];
    const int n = snprintf(text, sizeof(text), "server %s\npublic %s\nsecret %s\n", keys->server_public,
                           keys->client_public, keys->client_secret);
    const phx_code rc = phx_file_write(path, (phx_bytes){(const uint8_t *)text, (size_t)n}, 0600, err);
    phx_secret_wipe(text, sizeof(text));
    return rc;
}

/* One line "name value"; true when it names a key that was not there yet. */
static bool take_line(const char *line, size_t n, phx_link_keys *keys)
{
    const struct {
        const char *name;
        char *to;
    } fields[] = {
        {"server ", keys->server_public}, {"public ", keys->client_public}, {"secret ", keys->client_secret}};
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        const size_t n_name = strlen(fields[i].name);
        if (n != n_name + KEY_CHARS || memcmp(line, fields[i].name, n_name) != 0 || fields[i].to[0])
            continue;
        if (memchr(line + n_name, 0, KEY_CHARS)) /* the decoder would take what is before it for the key */
            return false;
        memcpy(fields[i].to, line + n_name, KEY_CHARS);
        fields[i].to[KEY_CHARS] = 0;
        uint8_t raw[32];
        const bool is_z85 = zmq_z85_decode(raw, fields[i].to) != NULL;
        phx_secret_wipe(raw, sizeof(raw));
        return is_z85;
    }
    return false;
}

static phx_code parse(const char *text, size_t n, const char *path, phx_link_keys *ret_keys, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_link_keys keys = {0};
    int n_lines = 0;
    for (size_t at = 0; at < n;) {
        const char *end = memchr(text + at, '\n', n - at);
        const size_t n_line = end ? (size_t)(end - (text + at)) : n - at;
        n_lines++;
        if (!take_line(text + at, n_line, &keys)) {
            rc = PHX_FAIL(err, PHX_ERR_CORRUPT,
                          "key file '%s': line %d is not 'server', 'public' or 'secret' with a "
                          "key of %u characters",
                          path, n_lines, KEY_CHARS);
            goto out;
        }
        at += n_line + 1;
    }
    if (n_lines != 3) {
        rc = PHX_FAIL(err, PHX_ERR_CORRUPT, "key file '%s' has %d of 3 keys", path, n_lines);
        goto out;
    }
    *ret_keys = keys;
out:
    phx_secret_wipe(&keys, sizeof(keys));
    return rc;
}

phx_code phx_link_keys_read(const char *path, phx_link_keys *ret_keys, phx_error *err)
{
    phx_code rc = PHX_OK;
    char text[FILE_BYTES_MAX + 1];
    size_t n = 0;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        rc = PHX_FAIL(err, errno == ENOENT ? PHX_ERR_NOT_FOUND : PHX_ERR_IO, "key file '%s': %s", path,
                      strerror(errno));
        goto out;
    }
    if (!S_ISREG(st.st_mode) || (st.st_mode & 077) != 0 || (st.st_uid != geteuid() && st.st_uid != 0)) {
        rc = PHX_FAIL(err, PHX_ERR_DENIED,
                      "key file '%s' must be a file of this user that nobody else may read: "
                      "chmod 600 it",
                      path);
        goto out;
    }
    while (n < sizeof(text)) {
        const ssize_t got = read(fd, text + n, sizeof(text) - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            rc = PHX_FAIL(err, PHX_ERR_IO, "cannot read key file '%s': %s", path, strerror(errno));
            goto out;
        }
        if (got == 0)
            break;
        n += (size_t)got;
    }
    if (n > FILE_BYTES_MAX) {
        rc = PHX_FAIL(err, PHX_ERR_TOO_LONG, "key file '%s' is larger than %u bytes", path, FILE_BYTES_MAX);
        goto out;
    }
    rc = parse(text, n, path, ret_keys, err);
out:
    if (fd >= 0)
        (void)close(fd);
    phx_secret_wipe(text, sizeof(text));
    return rc;
}
