/* model/safetensors.c - reading one safetensors file: every rule of the format, checked before any data is
 * touched. Writing is safetensors_write.c. */
#include "model/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/json.h"
#include "model/name_map.h"

#define PREFIX_BYTES 8u /* little-endian length of the header */
/* A tensor needs about 20 nodes; the scan of base/json.c errs on the high side. */
#define HEAD_LIMITS \
    ((phx_json_limits){PHX_SAFETENSORS_HEAD_MAX, 8, 32u * PHX_TENSOR_COUNT_MAX, 2u * PHX_TENSOR_COUNT_MAX})

typedef struct metadata_row {
    phx_str key;
    phx_str value;
} metadata_row;

struct phx_st_file {
    int fd;     /* -1: header only */
    char *path; /* "" for a header in memory */
    uint64_t n_bytes;
    phx_hash head_hash;
    phx_st_tensor *tensors; /* in the order of the header */
    size_t n_tensors;
    metadata_row *metadata;
    size_t n_metadata;
    char *names; /* all names and metadata, one after the other */
    phx_name_map map;
};

static phx_code read_exact(int fd, const char *path, uint64_t offset, void *to, size_t n, phx_error *err);
static phx_code load_head(phx_st_file *file, phx_bytes text, phx_error *err);

phx_code phx_st_open(const char *path, phx_st_file **ret_file, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_error inner = {0};
    uint8_t prefix[PREFIX_BYTES];
    uint8_t *text = NULL;
    struct stat st;
    phx_st_file *file = phx_alloc(1, sizeof(*file));
    if (!file) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "file table of '%s'", path);
        goto out;
    }
    file->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe of that name must not block */
    file->path = phx_strdup_n(path, strlen(path));
    if (file->fd < 0) {
        rc = PHX_FAIL(err, errno == ENOENT ? PHX_ERR_NOT_FOUND : PHX_ERR_IO, "cannot open '%s': %s%s", path,
                      strerror(errno), errno == EMFILE ? " (raise the limit with ulimit -n)" : "");
        goto out;
    }
    if (!file->path) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "path '%s'", path);
        goto out;
    }
    if (fstat(file->fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size < 0) {
        rc = PHX_FAIL(err, PHX_ERR_IO, "'%s' is not a regular file", path);
        goto out;
    }
    file->n_bytes = (uint64_t)st.st_size;
    if (file->n_bytes < PREFIX_BYTES) {
        rc = PHX_FAIL(err, PHX_ERR_CORRUPT, "'%s' has %llu bytes: no safetensors file", path,
                      (unsigned long long)file->n_bytes);
        goto out;
    }
    rc = read_exact(file->fd, path, 0, prefix, sizeof(prefix), err);
    if (rc != PHX_OK)
        goto out;
    uint64_t head_bytes = 0;
    for (unsigned i = 0; i < PREFIX_BYTES; i++)
        head_bytes |= (uint64_t)prefix[i] << (8 * i);
    if (head_bytes > PHX_SAFETENSORS_HEAD_MAX || head_bytes > file->n_bytes - PREFIX_BYTES) {
        rc = PHX_FAIL(err, PHX_ERR_CORRUPT, "'%s': header of %llu bytes in a file of %llu (limit %u)", path,
                      (unsigned long long)head_bytes, (unsigned long long)file->n_bytes,
                      PHX_SAFETENSORS_HEAD_MAX);
        goto out;
    }
    text = phx_alloc((size_t)head_bytes, 1);
    if (!text) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "header of '%s'", path);
        goto out;
    }
    rc = read_exact(file->fd, path, PREFIX_BYTES, text, (size_t)head_bytes, err);
    if (rc != PHX_OK)
        goto out;
    rc = load_head(file, (phx_bytes){text, (size_t)head_bytes}, &inner);
    if (rc != PHX_OK) {
        rc = PHX_FAIL(err, rc, "'%s': %s", path, inner.text);
        goto out;
    }
    *ret_file = file;
    file = NULL;
out:
    phx_free(text);
    phx_st_close(file);
    return rc;
}

phx_code phx_st_parse_header(phx_bytes text, uint64_t data_bytes, phx_st_file **ret_file, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_st_file *file = phx_alloc(1, sizeof(*file));
    if (!file) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "file table");
        goto out;
    }
    file->fd = -1;
    if (text.n > PHX_SAFETENSORS_HEAD_MAX || data_bytes > INT64_MAX - text.n - PREFIX_BYTES) {
        rc = PHX_FAIL(err, PHX_ERR_CORRUPT, "header of %zu bytes (limit %u)", text.n,
                      PHX_SAFETENSORS_HEAD_MAX);
        goto out;
    }
    file->n_bytes = PREFIX_BYTES + text.n + data_bytes;
    rc = load_head(file, text, err);
    if (rc != PHX_OK)
        goto out;
    *ret_file = file;
    file = NULL;
out:
    phx_st_close(file);
    return rc;
}

void phx_st_close(phx_st_file *file)
{
    if (!file)
        return;
    if (file->fd >= 0)
        (void)close(file->fd);
    phx_name_map_done(&file->map);
    phx_free(file->path);
    phx_free(file->tensors);
    phx_free(file->metadata);
    phx_free(file->names);
    phx_free(file);
}

size_t phx_st_count(const phx_st_file *file)
{
    return file->n_tensors;
}

const phx_st_tensor *phx_st_at(const phx_st_file *file, size_t idx)
{
    return idx < file->n_tensors ? &file->tensors[idx] : NULL;
}

const phx_st_tensor *phx_st_find(const phx_st_file *file, phx_str name)
{
    uint32_t idx;
    return phx_name_map_find(&file->map, name, &idx) ? &file->tensors[idx] : NULL;
}

phx_str phx_st_metadata(const phx_st_file *file, const char *key)
{
    for (size_t i = 0; i < file->n_metadata; i++) {
        if (phx_str_is(file->metadata[i].key, key))
            return file->metadata[i].value;
    }
    return (phx_str){NULL, 0};
}

const char *phx_st_path(const phx_st_file *file)
{
    return file->path ? file->path : "";
}

uint64_t phx_st_file_bytes(const phx_st_file *file)
{
    return file->n_bytes;
}

phx_hash phx_st_head_hash(const phx_st_file *file)
{
    return file->head_hash;
}

phx_code phx_st_read(const phx_st_file *file, const phx_st_tensor *tensor, uint64_t offset, void *to,
                     size_t n, phx_error *err)
{
    if (offset > tensor->n_bytes || n > tensor->n_bytes - offset)
        return PHX_FAIL(err, PHX_ERR_INVALID,
                        "'%s': bytes %llu + %zu are outside tensor '%.*s' of %llu bytes", phx_st_path(file),
                        (unsigned long long)offset, n, PHX_STR_ARG(tensor->name),
                        (unsigned long long)tensor->n_bytes);
    if (file->fd < 0)
        return PHX_FAIL(err, PHX_ERR_INVALID, "tensor '%.*s' has a header but no file",
                        PHX_STR_ARG(tensor->name));
    return read_exact(file->fd, file->path, tensor->offset + offset, to, n, err);
}

static phx_code read_exact(int fd, const char *path, uint64_t offset, void *to, size_t n, phx_error *err)
{
    for (size_t done = 0; done < n;) {
        const ssize_t got = pread(fd, (char *)to + done, n - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return PHX_FAIL(err, PHX_ERR_IO, "cannot read '%s' at byte %llu: %s", path,
                            (unsigned long long)(offset + done), strerror(errno));
        if (got == 0)
            return PHX_FAIL(err, PHX_ERR_CORRUPT, "'%s' ends at byte %llu: it was cut short", path,
                            (unsigned long long)(offset + done));
        done += (size_t)got;
    }
    return PHX_OK;
}

/* ---- the header ---- */

static phx_str keep_text(phx_st_file *file, size_t *at, phx_str text)
{
    char *to = file->names + *at;
    if (text.n)
        memcpy(to, text.ptr, text.n);
    *at += text.n;
    return (phx_str){to, text.n};
}

static phx_code parse_metadata(phx_st_file *file, const phx_json *node, size_t *at, phx_error *err)
{
    const size_t n = phx_json_count(node);
    if (n == 0)
        return PHX_OK;
    file->metadata = phx_alloc(n, sizeof(*file->metadata));
    if (!file->metadata)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "%zu metadata entries", n);
    for (phx_json_member it = phx_json_first(node); it.value; it = phx_json_next(node, it)) {
        phx_str value;
        if (!phx_json_as_str(it.value, &value))
            return PHX_FAIL(err, PHX_ERR_CORRUPT, "metadata '%.*s' is a %s, not a string",
                            PHX_STR_ARG(it.key), phx_json_kind_name(it.value));
        metadata_row *row = &file->metadata[file->n_metadata++];
        row->key = keep_text(file, at, it.key);
        row->value = keep_text(file, at, value);
    }
    return PHX_OK;
}

/* dtype and shape; ret_bytes is their product. */
static phx_code parse_shape(const phx_json *node, phx_st_tensor *tensor, uint64_t *ret_bytes, phx_error *err)
{
    const phx_json *shape = phx_json_get(node, "shape");
    phx_str dtype;
    if (!phx_json_as_str(phx_json_get(node, "dtype"), &dtype))
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "tensor '%.*s' has no dtype", PHX_STR_ARG(tensor->name));
    if (!phx_dtype_parse(dtype, &tensor->dtype))
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "tensor '%.*s' is stored as '%.*s', which is not supported",
                        PHX_STR_ARG(tensor->name), (int)(dtype.n < 40 ? dtype.n : 40), dtype.ptr);
    if (!shape || phx_json_kind_of(shape) != PHX_JSON_ARRAY || phx_json_count(shape) > PHX_TENSOR_DIMS_MAX)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "tensor '%.*s' has no shape of at most %d dimensions",
                        PHX_STR_ARG(tensor->name), PHX_TENSOR_DIMS_MAX);
    tensor->n_dims = (uint32_t)phx_json_count(shape);
    uint64_t n_bytes = phx_dtype_bytes(tensor->dtype);
    for (uint32_t i = 0; i < tensor->n_dims; i++) {
        int64_t n;
        if (!phx_json_as_i64(phx_json_at(shape, i), &n) || n < 0)
            return PHX_FAIL(err, PHX_ERR_CORRUPT, "tensor '%.*s': dimension %u is no count",
                            PHX_STR_ARG(tensor->name), i);
        if (__builtin_mul_overflow(n_bytes, (uint64_t)n, &n_bytes) || n_bytes > INT64_MAX)
            return PHX_FAIL(err, PHX_ERR_CORRUPT, "tensor '%.*s': its shape overflows",
                            PHX_STR_ARG(tensor->name));
        tensor->shape[i] = n;
    }
    *ret_bytes = n_bytes;
    return PHX_OK;
}

static phx_code parse_tensor(const phx_json *node, uint64_t data_first, uint64_t data_bytes,
                             phx_st_tensor *tensor, phx_error *err)
{
    const phx_json *offsets = phx_json_get(node, "data_offsets");
    uint64_t n_bytes = 0;
    int64_t begin;
    int64_t end;
    const phx_code rc = parse_shape(node, tensor, &n_bytes, err);
    if (rc != PHX_OK)
        return rc;
    if (phx_json_count(offsets) != 2 || !phx_json_as_i64(phx_json_at(offsets, 0), &begin) ||
        !phx_json_as_i64(phx_json_at(offsets, 1), &end) || begin < 0 || end < begin ||
        (uint64_t)end > data_bytes)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "tensor '%.*s': its data_offsets are not inside the %llu bytes",
                        PHX_STR_ARG(tensor->name), (unsigned long long)data_bytes);
    if ((uint64_t)(end - begin) != n_bytes)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "tensor '%.*s': shape and dtype need %llu bytes, it has %llu",
                        PHX_STR_ARG(tensor->name), (unsigned long long)n_bytes,
                        (unsigned long long)(end - begin));
    tensor->offset = data_first + (uint64_t)begin;
    tensor->n_bytes = n_bytes;
    return PHX_OK;
}

static int by_offset(const void *a, const void *b)
{
    const phx_st_tensor *const *x = a;
    const phx_st_tensor *const *y = b;
    if ((*x)->offset != (*y)->offset)
        return (*x)->offset < (*y)->offset ? -1 : 1;
    return (*x)->n_bytes < (*y)->n_bytes ? -1 : (*x)->n_bytes > (*y)->n_bytes;
}

/* The tensors must tile the byte buffer: no overlap, no hole, nothing after the last. */
static phx_code check_tiling(const phx_st_file *file, uint64_t data_first, phx_error *err)
{
    phx_code rc = PHX_OK;
    uint64_t at = data_first;
    const phx_st_tensor **order = phx_alloc(file->n_tensors, sizeof(*order));
    if (!order) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "order of %zu tensors", file->n_tensors);
        goto out;
    }
    for (size_t i = 0; i < file->n_tensors; i++)
        order[i] = &file->tensors[i];
    qsort(order, file->n_tensors, sizeof(*order), by_offset);
    for (size_t i = 0; i < file->n_tensors; i++) {
        if (order[i]->offset != at) {
            rc = PHX_FAIL(err, PHX_ERR_CORRUPT, "tensor '%.*s' %s", PHX_STR_ARG(order[i]->name),
                          order[i]->offset < at ? "overlaps another one" : "comes after a hole");
            goto out;
        }
        at += order[i]->n_bytes;
    }
    if (at != file->n_bytes)
        rc = PHX_FAIL(err, PHX_ERR_CORRUPT, "%llu bytes follow the last tensor",
                      (unsigned long long)(file->n_bytes - at));
out:
    phx_free(order);
    return rc;
}

static phx_code parse_members(phx_st_file *file, const phx_json *root, uint64_t data_first, phx_error *err)
{
    size_t at = 0;
    for (phx_json_member it = phx_json_first(root); it.value; it = phx_json_next(root, it)) {
        phx_code rc = PHX_OK;
        if (phx_json_kind_of(it.value) != PHX_JSON_OBJECT)
            return PHX_FAIL(err, PHX_ERR_CORRUPT, "entry '%.*s' is a %s, not an object",
                            (int)(it.key.n < 200 ? it.key.n : 200), it.key.ptr, phx_json_kind_name(it.value));
        if (phx_str_is(it.key, "__metadata__")) {
            rc = parse_metadata(file, it.value, &at, err);
            if (rc != PHX_OK)
                return rc;
            continue;
        }
        if (it.key.n == 0 || it.key.n > PHX_TENSOR_NAME_MAX)
            return PHX_FAIL(err, PHX_ERR_CORRUPT, "a tensor name has %zu bytes, the limit is %d", it.key.n,
                            PHX_TENSOR_NAME_MAX);
        phx_st_tensor *tensor = &file->tensors[file->n_tensors];
        tensor->name = keep_text(file, &at, it.key);
        rc = parse_tensor(it.value, data_first, file->n_bytes - data_first, tensor, err);
        if (rc != PHX_OK)
            return rc;
        if (!phx_name_map_add(&file->map, tensor->name, (uint32_t)file->n_tensors))
            return PHX_FAIL(err, PHX_ERR_CORRUPT, "tensor '%.*s' appears twice", PHX_STR_ARG(tensor->name));
        file->n_tensors++;
    }
    return PHX_OK;
}

/* file->n_bytes is known: the data is what follows prefix and text. */
static phx_code load_head(phx_st_file *file, phx_bytes text, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_json *root = NULL;
    if (text.n == 0 || text.ptr[0] != '{') {
        rc = PHX_FAIL(err, PHX_ERR_CORRUPT, "the header does not start with '{': no safetensors file");
        goto out;
    }
    rc = phx_json_parse(text, HEAD_LIMITS, &root, err);
    if (rc != PHX_OK)
        goto out;
    const size_t n_max = phx_json_count(root);
    const size_t n_tensors = n_max - (phx_json_get(root, "__metadata__") ? 1 : 0);
    if (n_tensors > PHX_TENSOR_COUNT_MAX) {
        rc = PHX_FAIL(err, PHX_ERR_TOO_LONG, "%zu tensors in one file, the limit is %d", n_tensors,
                      PHX_TENSOR_COUNT_MAX);
        goto out;
    }
    file->head_hash = phx_hash_of(text.ptr, text.n);
    file->tensors = phx_alloc(n_max, sizeof(*file->tensors));
    file->names = phx_alloc(text.n, 1); /* names are parts of the text, escapes only shrink */
    if (!file->tensors || !file->names) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "table of %zu tensors", n_max);
        goto out;
    }
    rc = phx_name_map_init(&file->map, n_max, err);
    if (rc != PHX_OK)
        goto out;
    const uint64_t data_first = PREFIX_BYTES + text.n;
    rc = parse_members(file, root, data_first, err);
    if (rc != PHX_OK)
        goto out;
    rc = check_tiling(file, data_first, err);
out:
    phx_json_destroy(root);
    return rc;
}
