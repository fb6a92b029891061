/* coordinator/http/keys.c - API keys from a file, kept as hashes. */
#include "coordinator/http/keys.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"

struct phx_http_keys {
    size_t n_keys;
    phx_hash hashes[PHX_HTTP_KEYS_MAX];
};

enum { KEY_FILE_BYTES_MAX = 2 * 1024 * 1024 };

static phx_code keys_read(const char *path, phx_buf *buf, phx_error *err);
static phx_code keys_add(phx_http_keys *keys, phx_str line, size_t line_idx, phx_error *err);

phx_code phx_http_keys_load(const char *path, phx_http_keys **ret_keys, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_error why = {0};
    phx_buf buf;
    phx_buf_init(&buf, KEY_FILE_BYTES_MAX);
    phx_http_keys *keys = phx_alloc(1, sizeof(*keys));
    if (!keys) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "API keys");
        goto out;
    }
    rc = keys_read(path, &buf, err);
    if (rc != PHX_OK)
        goto out;
    size_t line_idx = 0;
    for (size_t at = 0; at < buf.n && rc == PHX_OK; line_idx++) {
        const char *end = memchr(buf.ptr + at, '\n', buf.n - at);
        const size_t n = end ? (size_t)(end - (buf.ptr + at)) : buf.n - at;
        rc = keys_add(keys, (phx_str){buf.ptr + at, n}, line_idx, &why);
        at += n + 1;
    }
    if (rc == PHX_OK && keys->n_keys == 0)
        rc = PHX_FAIL(&why, PHX_ERR_INVALID, "it holds no key; write one key per line");
    if (rc != PHX_OK) {
        rc = PHX_FAIL(err, rc, "key file '%s': %s", path, why.text);
        goto out;
    }
    *ret_keys = keys;
    keys = NULL;
out:
    if (buf.ptr)
        phx_secret_wipe(buf.ptr, buf.cap);
    phx_buf_done(&buf);
    phx_http_keys_destroy(keys);
    return rc;
}

void phx_http_keys_destroy(phx_http_keys *keys)
{
    phx_free(keys);
}

/* Owner and mode are those of the opened file, so that no rename can slip in between. */
static phx_code keys_read(const char *path, phx_buf *buf, phx_error *err)
{
    phx_code rc = PHX_OK;
    struct stat st;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0) {
        rc = PHX_FAIL(err, PHX_ERR_DENIED, "cannot open key file '%s': %s", path, strerror(errno));
        goto out;
    }
    if (!S_ISREG(st.st_mode)) {
        rc = PHX_FAIL(err, PHX_ERR_DENIED, "key file '%s' is not a regular file", path);
        goto out;
    }
    if (st.st_uid != geteuid()) {
        rc = PHX_FAIL(err, PHX_ERR_DENIED, "key file '%s' belongs to user %u, this process to user %u", path,
                      (unsigned)st.st_uid, (unsigned)geteuid());
        goto out;
    }
    if ((st.st_mode & 077) != 0) {
        rc = PHX_FAIL(err, PHX_ERR_DENIED, "key file '%s' is open to others (mode %03o): chmod 600 it", path,
                      (unsigned)(st.st_mode & 0777));
        goto out;
    }
    /* Room for everything at once: a growing buffer would leave copies of the keys behind. */
    const size_t n_all = (size_t)st.st_size;
    if (n_all > KEY_FILE_BYTES_MAX) {
        rc = PHX_FAIL(err, PHX_ERR_TOO_LONG, "key file '%s' is larger than 2 MiB", path);
        goto out;
    }
    buf->ptr = phx_alloc(n_all + 1, 1);
    if (!buf->ptr) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "API keys");
        goto out;
    }
    buf->cap = n_all + 1;
    while (buf->n < n_all) {
        const ssize_t n = read(fd, buf->ptr + buf->n, n_all - buf->n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break; /* shorter than announced: what is there counts */
        buf->n += (size_t)n;
    }
out:
    if (fd >= 0)
        (void)close(fd);
    return rc;
}

static phx_code keys_add(phx_http_keys *keys, phx_str line, size_t line_idx, phx_error *err)
{
    if (line.n > 0 && line.ptr[line.n - 1] == '\r')
        line.n--;
    if (line.n == 0 || line.ptr[0] == '#')
        return PHX_OK;
    if (line.n < PHX_HTTP_KEY_BYTES_MIN || line.n > PHX_HTTP_KEY_BYTES_MAX)
        return PHX_FAIL(err, PHX_ERR_INVALID, "the key in line %zu has %zu bytes; %u to %u are accepted",
                        line_idx + 1, line.n, PHX_HTTP_KEY_BYTES_MIN, PHX_HTTP_KEY_BYTES_MAX);
    for (size_t i = 0; i < line.n; i++) {
        if (line.ptr[i] <= ' ' || line.ptr[i] >= 0x7f)
            return PHX_FAIL(err, PHX_ERR_INVALID,
                            "the key in line %zu holds a space or a byte that is not "
                            "printable ASCII",
                            line_idx + 1);
    }
    if (keys->n_keys == PHX_HTTP_KEYS_MAX)
        return PHX_FAIL(err, PHX_ERR_INVALID, "more than %u keys", PHX_HTTP_KEYS_MAX);
    if (phx_http_keys_find(keys, line) != 0)
        return PHX_FAIL(err, PHX_ERR_INVALID, "the key in line %zu appears twice", line_idx + 1);
    keys->hashes[keys->n_keys++] = phx_hash_of(line.ptr, line.n);
    return PHX_OK;
}

size_t phx_http_keys_count(const phx_http_keys *keys)
{
    return keys->n_keys;
}

uint32_t phx_http_keys_find(const phx_http_keys *keys, phx_str key)
{
    const phx_hash hash = phx_hash_of(key.ptr, key.n);
    uint32_t key_id = 0;
    for (size_t i = 0; i < keys->n_keys; i++) /* never left early */
        key_id |= (uint32_t)(i + 1) * (uint32_t)phx_hash_eq(&hash, &keys->hashes[i]);
    return key_id;
}

phx_hash phx_http_keys_hash(const phx_http_keys *keys, uint32_t key_id)
{
    assert(key_id >= 1 && key_id <= keys->n_keys);
    return keys->hashes[key_id - 1];
}
