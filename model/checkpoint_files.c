/* model/checkpoint_files.c - index, shards and the table of names. */
#include "model/checkpoint_files.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/json.h"

#define PATH_BYTES      4096
#define FILE_NAME_BYTES 256
#define INDEX_BYTES_MAX (64u << 20)
#define INDEX_NODES_MAX 4000000u
#define INDEX_DEPTH_MAX 8u
#define PLACES_MAX      1000000u
#define SINGLE_FILE     "model.safetensors"
#define INDEX_FILE      "model.safetensors.index.json"

static phx_code open_single(phx_ck_files *files, const char *model_dir, phx_error *err);
static phx_code open_sharded(phx_ck_files *files, const char *model_dir, const phx_json *index,
                             phx_error *err);
static phx_code hash_text(phx_hasher *hasher, const char *path, size_t n_max, phx_buf *buf, phx_error *err);

static phx_code join_path(char *to, const char *dir, phx_str name, phx_error *err)
{
    const int n = snprintf(to, PATH_BYTES, "%s/%.*s", dir, PHX_STR_ARG(name));
    if (n < 0 || n >= PATH_BYTES)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "the path of '%.*s' is longer than %d bytes",
                        PHX_STR_ARG(name), PATH_BYTES);
    return PHX_OK;
}

phx_code phx_ck_files_open(phx_ck_files *files, const char *model_dir, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_json *index = NULL;
    phx_buf text;
    phx_error inner = {0};
    phx_hasher hasher;
    char path[PATH_BYTES];
    phx_buf_init(&text, INDEX_BYTES_MAX);
    phx_hasher_init(&hasher);
    rc = join_path(path, model_dir, phx_str_of("config.json"), err);
    if (rc != PHX_OK)
        goto out;
    rc = hash_text(&hasher, path, PHX_CONFIG_BYTES_MAX, &text, err);
    if (rc != PHX_OK)
        goto out;
    phx_buf_clear(&text);
    rc = join_path(path, model_dir, phx_str_of(INDEX_FILE), err);
    if (rc != PHX_OK)
        goto out;
    if (phx_file_exists(path)) {
        rc = hash_text(&hasher, path, INDEX_BYTES_MAX, &text, err);
        if (rc != PHX_OK)
            goto out;
        rc = phx_json_parse(
            (phx_bytes){(const uint8_t *)text.ptr, text.n},
            (phx_json_limits){INDEX_BYTES_MAX, INDEX_DEPTH_MAX, INDEX_NODES_MAX, INDEX_NODES_MAX}, &index,
            &inner);
        if (rc == PHX_OK)
            rc = open_sharded(files, model_dir, index, &inner);
        if (rc != PHX_OK) {
            rc = PHX_FAIL(err, rc, "'%s': %s", path, inner.text);
            goto out;
        }
    } else {
        rc = open_single(files, model_dir, err);
        if (rc != PHX_OK)
            goto out;
    }
    for (size_t i = 0; i < files->n_files; i++) {
        const phx_hash head = phx_st_head_hash(files->files[i].st);
        phx_hasher_add(&hasher, head.bytes, sizeof(head.bytes));
        phx_hasher_add_u64(&hasher, phx_st_file_bytes(files->files[i].st));
    }
    files->hash = phx_hasher_final(&hasher);
out:
    phx_json_destroy(index);
    phx_buf_done(&text);
    return rc;
}

void phx_ck_files_close(phx_ck_files *files)
{
    for (size_t i = 0; i < files->n_files; i++) {
        phx_st_close(files->files[i].st);
        phx_free(files->files[i].is_used);
    }
    phx_free(files->files);
    phx_free(files->places);
    phx_name_map_done(&files->map);
    *files = (phx_ck_files){0};
}

const phx_ck_place *phx_ck_files_find(const phx_ck_files *files, phx_str name)
{
    uint32_t idx;
    return phx_name_map_find(&files->map, name, &idx) ? &files->places[idx] : NULL;
}

void phx_ck_files_mark(phx_ck_files *files, const phx_ck_place *place)
{
    files->files[place->file_idx].is_used[place->tensor_idx] = true;
}

/* Reads a file into buf and adds it to the hash. */
static phx_code hash_text(phx_hasher *hasher, const char *path, size_t n_max, phx_buf *buf, phx_error *err)
{
    const phx_code rc = phx_file_read(path, buf, err);
    if (rc != PHX_OK)
        return rc;
    if (buf->n > n_max)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "'%s' is larger than the limit of %zu bytes", path, n_max);
    phx_hasher_add_u64(hasher, buf->n);
    phx_hasher_add(hasher, buf->ptr, buf->n);
    return PHX_OK;
}

static phx_code open_file(phx_ck_files *files, const char *model_dir, phx_str name, phx_error *err)
{
    char path[PATH_BYTES];
    phx_ck_file *file = &files->files[files->n_files];
    phx_code rc = join_path(path, model_dir, name, err);
    if (rc == PHX_OK)
        rc = phx_st_open(path, &file->st, err);
    if (rc != PHX_OK)
        return rc;
    files->n_files++; /* close frees it from here on */
    file->is_used = phx_alloc(phx_st_count(file->st), sizeof(*file->is_used));
    if (!file->is_used)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "marks of '%s'", path);
    return PHX_OK;
}

static phx_code alloc_places(phx_ck_files *files, size_t n, phx_error *err)
{
    if (n > PLACES_MAX)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "%zu tensors, the limit is %u", n, PLACES_MAX);
    files->places = phx_alloc(n, sizeof(*files->places));
    if (!files->places)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "table of %zu tensors", n);
    return phx_name_map_init(&files->map, n, err);
}

/* The key of the map is the name in the shard's own table, which lives as long as the shard. */
static void add_place(phx_ck_files *files, uint32_t file_idx, const phx_st_tensor *tensor)
{
    const phx_st_file *st = files->files[file_idx].st;
    const uint32_t tensor_idx = (uint32_t)(tensor - phx_st_at(st, 0));
    files->places[files->n_places] = (phx_ck_place){st, tensor, file_idx, tensor_idx};
    const bool added = phx_name_map_add(&files->map, tensor->name, (uint32_t)files->n_places);
    assert(added); /* names are unique inside a file and inside the index */
    files->n_places++;
}

static phx_code open_single(phx_ck_files *files, const char *model_dir, phx_error *err)
{
    files->files = phx_alloc(1, sizeof(*files->files));
    if (!files->files)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "file table");
    phx_code rc = open_file(files, model_dir, phx_str_of(SINGLE_FILE), err);
    if (rc != PHX_OK)
        return rc;
    const phx_st_file *st = files->files[0].st;
    rc = alloc_places(files, phx_st_count(st), err);
    if (rc != PHX_OK)
        return rc;
    for (size_t i = 0; i < phx_st_count(st); i++)
        add_place(files, 0, phx_st_at(st, i));
    return PHX_OK;
}

/* ---- the index ---- */

/* A plain file name inside the folder: anything else could lead out of it. */
static bool is_plain_name(phx_str name)
{
    if (name.n == 0 || name.n >= FILE_NAME_BYTES || name.ptr[0] == '.')
        return false;
    for (size_t i = 0; i < name.n; i++) {
        const unsigned char c = (unsigned char)name.ptr[i];
        if (c == '/' || c == '\\' || c < 0x20)
            return false;
    }
    return phx_str_ends(name, phx_str_of(".safetensors"));
}

static int by_name(const void *a, const void *b)
{
    const phx_str *x = a;
    const phx_str *y = b;
    const size_t n = x->n < y->n ? x->n : y->n;
    const int order = memcmp(x->ptr, y->ptr, n);
    return order != 0 ? order : x->n < y->n ? -1 : x->n > y->n;
}

/* The distinct file names of the index, ascending. */
static phx_code list_shards(const phx_json *weights, phx_str *ret_names, size_t *ret_n, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_name_map seen = {0};
    size_t n = 0;
    rc = phx_name_map_init(&seen, PHX_SHARDS_MAX, err);
    if (rc != PHX_OK)
        goto out;
    for (phx_json_member it = phx_json_first(weights); it.value; it = phx_json_next(weights, it)) {
        phx_str name = {"", 0};
        if (!phx_json_as_str(it.value, &name) || !is_plain_name(name)) {
            rc =
                PHX_FAIL(err, PHX_ERR_CORRUPT,
                         "tensor '%.*s' is said to be in '%.*s', which is no safetensors file of this folder",
                         (int)(it.key.n < 120 ? it.key.n : 120), it.key.ptr,
                         (int)(name.n < 120 ? name.n : 120), name.ptr);
            goto out;
        }
        uint32_t known;
        if (phx_name_map_find(&seen, name, &known))
            continue;
        if (n == PHX_SHARDS_MAX) {
            rc = PHX_FAIL(err, PHX_ERR_TOO_LONG, "more than %d shards", PHX_SHARDS_MAX);
            goto out;
        }
        (void)phx_name_map_add(&seen, name, 0);
        ret_names[n++] = name;
    }
    if (n == 0) {
        rc = PHX_FAIL(err, PHX_ERR_CORRUPT, "it names no tensor of any shard");
        goto out;
    }
    qsort(ret_names, n, sizeof(*ret_names), by_name);
    *ret_n = n;
out:
    phx_name_map_done(&seen);
    return rc;
}

static phx_code place_tensors(phx_ck_files *files, const phx_json *weights, const phx_name_map *shard_map,
                              phx_error *err)
{
    for (phx_json_member it = phx_json_first(weights); it.value; it = phx_json_next(weights, it)) {
        phx_str name = {"", 0};
        uint32_t file_idx = 0;
        bool known = phx_json_as_str(it.value, &name);
        known = known && phx_name_map_find(shard_map, name, &file_idx);
        assert(known); /* list_shards has seen every one */
        const phx_st_tensor *tensor = phx_st_find(files->files[file_idx].st, it.key);
        if (!tensor)
            return PHX_FAIL(err, PHX_ERR_CORRUPT, "tensor '%.*s' is not in shard '%.*s'",
                            (int)(it.key.n < 200 ? it.key.n : 200), it.key.ptr, PHX_STR_ARG(name));
        add_place(files, file_idx, tensor);
    }
    return PHX_OK;
}

static phx_code open_sharded(phx_ck_files *files, const char *model_dir, const phx_json *index,
                             phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_name_map shard_map = {0};
    size_t n = 0;
    const phx_json *weights = phx_json_get(index, "weight_map");
    phx_str *names = phx_alloc(PHX_SHARDS_MAX, sizeof(*names));
    if (!names) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "shard names");
        goto out;
    }
    if (!weights || phx_json_kind_of(weights) != PHX_JSON_OBJECT) {
        rc = PHX_FAIL(err, PHX_ERR_CORRUPT, "weight_map is a %s, not an object", phx_json_kind_name(weights));
        goto out;
    }
    rc = list_shards(weights, names, &n, err);
    if (rc != PHX_OK)
        goto out;
    rc = phx_name_map_init(&shard_map, n, err);
    if (rc != PHX_OK)
        goto out;
    files->files = phx_alloc(n, sizeof(*files->files));
    if (!files->files) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "table of %zu shards", n);
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        rc = open_file(files, model_dir, names[i], err);
        if (rc != PHX_OK)
            goto out;
        (void)phx_name_map_add(&shard_map, names[i], (uint32_t)i);
    }
    rc = alloc_places(files, phx_json_count(weights), err);
    if (rc != PHX_OK)
        goto out;
    rc = place_tensors(files, weights, &shard_map, err);
out:
    phx_name_map_done(&shard_map);
    phx_free(names);
    return rc;
}
