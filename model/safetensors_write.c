/* model/safetensors_write.c - writing one safetensors file: header first, then the data in the declared
 * order. */
#include "model/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/json.h"

#define PREFIX_BYTES 8u
#define PATH_BYTES   4096

struct phx_st_writer {
    int fd;
    uint64_t at;  /* next byte of the file */
    uint64_t end; /* size that the declarations ask for */
    bool has_holes;
    char path[PATH_BYTES];
    char temporary[PATH_BYTES + 32];
};

static phx_code write_exact(phx_st_writer *writer, const void *from, size_t n, phx_error *err)
{
    for (size_t done = 0; done < n;) {
        const ssize_t put = pwrite(writer->fd, (const char *)from + done, n - done, (off_t)writer->at);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return PHX_FAIL(err, PHX_ERR_IO, "cannot write '%s': %s", writer->temporary, strerror(errno));
        done += (size_t)put;
        writer->at += (uint64_t)put;
    }
    return PHX_OK;
}

static phx_code decl_bytes(const phx_st_decl *decl, uint64_t *ret_bytes, phx_error *err)
{
    uint64_t n_bytes = phx_dtype_bytes(decl->dtype);
    const size_t n_name = strlen(decl->name);
    if (decl->n_dims > PHX_TENSOR_DIMS_MAX || n_name == 0 || n_name > PHX_TENSOR_NAME_MAX)
        return PHX_FAIL(err, PHX_ERR_INVALID, "tensor '%.80s': name or number of dimensions out of range",
                        decl->name);
    for (uint32_t i = 0; i < decl->n_dims; i++) {
        if (decl->shape[i] < 0 || __builtin_mul_overflow(n_bytes, (uint64_t)decl->shape[i], &n_bytes))
            return PHX_FAIL(err, PHX_ERR_INVALID, "tensor '%s': its shape overflows", decl->name);
    }
    *ret_bytes = n_bytes;
    return PHX_OK;
}

/* The JSON text, padded with spaces so that the data begins at a multiple of 8. */
static phx_code make_head(const phx_st_decl *decls, size_t n_decls, phx_buf *buf, uint64_t *ret_data_bytes,
                          phx_error *err)
{
    phx_json_writer w;
    uint64_t at = 0;
    phx_json_writer_init(&w, buf);
    phx_json_begin_object(&w);
    phx_json_key(&w, "__metadata__");
    phx_json_begin_object(&w);
    phx_json_key(&w, "format"); /* what readers of the hub's files look for */
    phx_json_text(&w, "pt");
    phx_json_end_object(&w);
    for (size_t i = 0; i < n_decls; i++) {
        uint64_t n_bytes = 0;
        const phx_code rc = decl_bytes(&decls[i], &n_bytes, err);
        if (rc != PHX_OK)
            return rc;
        if (n_bytes > (uint64_t)INT64_MAX / 2 - at)
            return PHX_FAIL(err, PHX_ERR_INVALID, "tensor '%s': the file would be too large", decls[i].name);
        phx_json_key(&w, decls[i].name);
        phx_json_begin_object(&w);
        phx_json_key(&w, "dtype");
        phx_json_text(&w, phx_dtype_name(decls[i].dtype));
        phx_json_key(&w, "shape");
        phx_json_begin_array(&w);
        for (uint32_t d = 0; d < decls[i].n_dims; d++)
            phx_json_i64(&w, decls[i].shape[d]);
        phx_json_end_array(&w);
        phx_json_key(&w, "data_offsets");
        phx_json_begin_array(&w);
        phx_json_u64(&w, at);
        at += n_bytes;
        phx_json_u64(&w, at);
        phx_json_end_array(&w);
        phx_json_end_object(&w);
    }
    phx_json_end_object(&w);
    while (buf->code == PHX_OK && buf->n % PREFIX_BYTES != 0)
        phx_buf_char(buf, ' ');
    if (buf->code != PHX_OK)
        return PHX_FAIL(err, buf->code, "header of %zu tensors", n_decls);
    *ret_data_bytes = at;
    return PHX_OK;
}

/* What an interrupted run has left of the same name is written over; a running one keeps its file. */
static phx_code open_temporary(phx_st_writer *writer, phx_error *err)
{
    const int fd = open(writer->temporary, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        return PHX_FAIL(err, PHX_ERR_IO, "cannot create '%s': %s", writer->temporary, strerror(errno));
    struct stat mine, named; /* what another writer has finished meanwhile has another name */
    if (flock(fd, LOCK_EX | LOCK_NB) != 0 || fstat(fd, &mine) != 0 || stat(writer->temporary, &named) != 0 ||
        mine.st_ino != named.st_ino) {
        (void)close(fd);
        return PHX_FAIL(err, PHX_ERR_IN_USE, "another process is writing '%s'", writer->temporary);
    }
    writer->fd = fd;
    if (ftruncate(fd, 0) != 0)
        return PHX_FAIL(err, PHX_ERR_IO, "cannot write '%s': %s", writer->temporary, strerror(errno));
    return PHX_OK;
}

phx_code phx_st_writer_open(const char *path, const phx_st_decl *decls, size_t n_decls,
                            phx_st_writer **ret_writer, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_buf head;
    uint64_t data_bytes = 0;
    uint8_t prefix[PREFIX_BYTES];
    phx_buf_init(&head, PHX_SAFETENSORS_HEAD_MAX);
    phx_st_writer *writer = phx_alloc(1, sizeof(*writer));
    if (!writer) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "writer of '%s'", path);
        goto out;
    }
    writer->fd = -1;
    if (n_decls > PHX_TENSOR_COUNT_MAX) {
        rc = PHX_FAIL(err, PHX_ERR_TOO_LONG, "%zu tensors in one file, the limit is %d", n_decls,
                      PHX_TENSOR_COUNT_MAX);
        goto out;
    }
    if (!phx_str_copy(writer->path, sizeof(writer->path), phx_str_of(path))) {
        rc = PHX_FAIL(err, PHX_ERR_TOO_LONG, "the path is longer than %d bytes", PATH_BYTES);
        goto out;
    }
    rc = make_head(decls, n_decls, &head, &data_bytes, err);
    if (rc != PHX_OK)
        goto out;
    (void)snprintf(writer->temporary, sizeof(writer->temporary), "%s.tmp", path);
    rc = open_temporary(writer, err);
    if (rc != PHX_OK)
        goto out;
    writer->end = PREFIX_BYTES + head.n + data_bytes;
    for (unsigned i = 0; i < PREFIX_BYTES; i++)
        prefix[i] = (uint8_t)((uint64_t)head.n >> (8 * i));
    rc = write_exact(writer, prefix, sizeof(prefix), err);
    if (rc == PHX_OK)
        rc = write_exact(writer, head.ptr, head.n, err);
    if (rc != PHX_OK)
        goto out;
    *ret_writer = writer;
    writer = NULL;
out:
    phx_st_writer_abort(writer);
    phx_buf_done(&head);
    return rc;
}

phx_code phx_st_writer_append(phx_st_writer *writer, const void *data, size_t n, phx_error *err)
{
    if (n > writer->end - writer->at)
        return PHX_FAIL(err, PHX_ERR_INVALID, "'%s': more data than declared", writer->path);
    return write_exact(writer, data, n, err);
}

phx_code phx_st_writer_skip(phx_st_writer *writer, uint64_t n, phx_error *err)
{
    if (n > writer->end - writer->at)
        return PHX_FAIL(err, PHX_ERR_INVALID, "'%s': more data than declared", writer->path);
    writer->at += n;
    writer->has_holes = true;
    return PHX_OK;
}

phx_code phx_st_writer_close(phx_st_writer *writer, phx_error *err)
{
    phx_code rc = PHX_OK;
    if (writer->at != writer->end) {
        rc = PHX_FAIL(err, PHX_ERR_INVALID, "'%s': %llu bytes of data are missing", writer->path,
                      (unsigned long long)(writer->end - writer->at));
        goto out;
    }
    /* A hole at the end needs the size set; a file of holes holds nothing worth waiting for the disk. */
    if (ftruncate(writer->fd, (off_t)writer->end) != 0 || (!writer->has_holes && fsync(writer->fd) != 0) ||
        rename(writer->temporary, writer->path) != 0) {
        rc = PHX_FAIL(err, PHX_ERR_IO, "cannot finish '%s': %s", writer->path, strerror(errno));
        goto out;
    }
    (void)close(writer->fd);
    writer->fd = -1;
out:
    phx_st_writer_abort(writer);
    return rc;
}

void phx_st_writer_abort(phx_st_writer *writer)
{
    if (!writer)
        return;
    if (writer->fd >= 0) {
        (void)close(writer->fd);
        (void)unlink(writer->temporary);
    }
    phx_free(writer);
}
