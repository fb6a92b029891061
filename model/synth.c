/* model/synth.c - writing a random checkpoint: list the tensors, cut them into shards, fill, index. */
#include "model/synth.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/rng.h"
#include "model/safetensors.h"
#include "model/synth_fill.h"

#define PATH_BYTES      4096
#define SHARD_BYTES     ((uint64_t)5000000000)
#define CHUNK_ELEMENTS  ((size_t)1 << 20)
#define NAMES_BYTES_MAX ((size_t)512 << 20)
#define INDEX_BYTES_MAX ((size_t)64 << 20)
#define BLOCK           128
#define PACKED          8 /* weights of an int32 */

typedef struct item { /* one tensor of the files */
    phx_synth_source source;
    size_t name_at; /* in names */
    int64_t n_rows;
    int64_t n_cols;
    bool is_vector;
    const phx_synth_extra *extra; /* whose shape it is, where it is none of the family */
    uint64_t n_bytes;
    uint32_t shard;
} item;

typedef struct synth {
    const phx_synth_request *request;
    phx_buf names; /* terminated, one after the other */
    item *items;
    size_t n_items;
    size_t n_items_max;
    uint32_t n_shards;
    uint64_t total_bytes;
    uint64_t done_bytes;
    phx_synth_tables *tables;
    uint8_t *chunk;
} synth;

static phx_code list_tensors(synth *s, phx_error *err);
static void cut_shards(synth *s);
static phx_code write_shard(synth *s, uint32_t shard, phx_error *err);
static phx_code write_index(synth *s, phx_error *err);
static phx_code write_config(const synth *s, phx_error *err);

typedef struct format_row {
    const char *name;
    phx_format format;
} format_row;

static const format_row formats[] = {
#define X(id, name, format) {name, format},
    PHX_SYNTH_FORMATS(X)
#undef X
};

const char *phx_synth_format_name(phx_synth_format format)
{
    assert(format < PHX_SYNTH_FORMAT_COUNT);
    return formats[format].name;
}

bool phx_synth_format_parse(phx_str name, phx_synth_format *ret_format)
{
    for (size_t i = 0; i < PHX_SYNTH_FORMAT_COUNT; i++) {
        if (phx_str_is(name, formats[i].name)) {
            *ret_format = (phx_synth_format)i;
            return true;
        }
    }
    return false;
}

phx_code phx_synth_config(const char *path, phx_dims *ret_dims, phx_error *err)
{
    phx_json *root = NULL;
    phx_error inner = {0};
    phx_code rc = phx_json_parse_file(
        path, (phx_json_limits){PHX_CONFIG_BYTES_MAX, PHX_CONFIG_DEPTH_MAX, 200000, 200000}, &root, err);
    if (rc != PHX_OK)
        return rc;
    rc = phx_dims_parse(root, ret_dims, &inner);
    if (rc != PHX_OK)
        rc = PHX_FAIL(err, rc, "'%s': %s", path, inner.text);
    phx_json_destroy(root);
    return rc;
}

static phx_code out_path(const synth *s, const char *name, char *ret_path, phx_error *err)
{
    if ((size_t)snprintf(ret_path, PATH_BYTES, "%s/%s", s->request->out_dir, name) >= PATH_BYTES)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "the folder's path is longer than %d bytes", PATH_BYTES);
    return PHX_OK;
}

static phx_code make_folder(const synth *s, phx_error *err)
{
    char path[PATH_BYTES];
    const phx_code rc = out_path(s, "config.json", path, err);
    if (rc != PHX_OK)
        return rc;
    if (mkdir(s->request->out_dir, 0755) != 0 && errno != EEXIST)
        return PHX_FAIL(err, PHX_ERR_IO, "cannot make folder '%s': %s", s->request->out_dir, strerror(errno));
    if (phx_file_exists(path))
        return PHX_FAIL(err, PHX_ERR_IO, "'%s' exists: choose an empty folder", path);
    return PHX_OK;
}

phx_code phx_synth_write(const phx_synth_request *request, phx_error *err)
{
    phx_code rc = PHX_OK;
    synth s = {.request = request};
    phx_buf_init(&s.names, NAMES_BYTES_MAX);
    s.tables = phx_alloc(1, sizeof(*s.tables));
    s.chunk = phx_alloc(CHUNK_ELEMENTS, sizeof(float));
    if (!s.tables || !s.chunk) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "buffers for random weights");
        goto out;
    }
    phx_synth_tables_init(s.tables);
    rc = make_folder(&s, err);
    if (rc != PHX_OK)
        goto out;
    rc = list_tensors(&s, err);
    if (rc != PHX_OK)
        goto out;
    if (request->n_shards > s.n_items || request->n_shards > 99999) {
        rc = PHX_FAIL(err, PHX_ERR_INVALID, "%u shards: the model has %zu tensors", request->n_shards,
                      s.n_items);
        goto out;
    }
    cut_shards(&s);
    for (uint32_t shard = 0; shard < s.n_shards; shard++) {
        rc = write_shard(&s, shard, err);
        if (rc != PHX_OK)
            goto out;
    }
    if (s.n_shards > 1) {
        rc = write_index(&s, err);
        if (rc != PHX_OK)
            goto out;
    }
    rc = write_config(&s, err);
out:
    phx_free(s.items);
    phx_free(s.chunk);
    phx_free(s.tables);
    phx_buf_done(&s.names);
    return rc;
}

/* ---- the list ---- */

static uint64_t key_of(uint64_t seed, const char *name)
{
    const phx_hash hash = phx_hash_of(name, strlen(name));
    uint64_t words[2];
    memcpy(words, hash.bytes, sizeof(words));
    return phx_rng_key(seed, words[0], words[1], 0);
}

static phx_code add_item(synth *s, const item *new_item, const char *name, phx_error *err)
{
    if (s->n_items == s->n_items_max) {
        const size_t n = s->n_items_max ? 2 * s->n_items_max : 1024;
        item *grown = phx_realloc(s->items, n, sizeof(*grown));
        if (!grown)
            return PHX_FAIL(err, PHX_ERR_NOMEM, "list of %zu tensors", n);
        s->items = grown;
        s->n_items_max = n;
    }
    item *to = &s->items[s->n_items];
    *to = *new_item;
    to->name_at = s->names.n;
    to->n_bytes = (uint64_t)(to->n_rows * to->n_cols) * phx_dtype_bytes(to->source.dtype);
    const phx_code rc = phx_buf_append(&s->names, name, strlen(name) + 1);
    if (rc != PHX_OK)
        return PHX_FAIL(err, rc, "names of the tensors");
    s->n_items++;
    s->total_bytes += to->n_bytes;
    return PHX_OK;
}

/* Matrices keep the scale of what they multiply; the embedding starts at 1, logits come out about 2 wide. */
static float sd_of(const phx_tensor_rule *rule, int64_t n_cols)
{
    if (rule->is_vector)
        return 0.0f;
    if (rule->role == PHX_ROLE_EMBED || rule->role == PHX_ROLE_MTP_EMBED)
        return 1.0f;
    const double gain = rule->role == PHX_ROLE_HEAD || rule->role == PHX_ROLE_MTP_HEAD ? 2.0 : 1.0;
    return (float)(gain / sqrt((double)n_cols));
}

/* The MTP layer's embedding and head are copies: they share the key of the original. */
static const char *key_name(phx_role role, const char *name)
{
    if (role == PHX_ROLE_MTP_EMBED)
        return "model.embed_tokens.weight";
    return role == PHX_ROLE_MTP_HEAD ? "lm_head.weight" : name;
}

/* The three tensors of a packed int4 matrix; name has room for their endings. */
static phx_code add_packed(synth *s, const item *matrix, char *name, phx_error *err)
{
    const size_t n = strlen(name);
    item it = *matrix;
    if (it.n_cols % PHX_INT4_GROUP != 0)
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "'%s' has %lld columns: int4 needs a multiple of %d", name,
                        (long long)it.n_cols, PHX_INT4_GROUP);
    (void)snprintf(name + n, 16, "_packed");
    it.n_cols = matrix->n_cols / PACKED;
    it.source.dtype = PHX_I32;
    phx_code rc = add_item(s, &it, name, err);
    (void)snprintf(name + n, 16, "_scale");
    it.n_cols = matrix->n_cols / PHX_INT4_GROUP;
    it.source.dtype = PHX_BF16;
    it.source.is_scale = true;
    it.source.key = key_of(s->request->seed, name);
    if (rc == PHX_OK)
        rc = add_item(s, &it, name, err);
    (void)snprintf(name + n, 16, "_shape");
    it = (item){.n_rows = 1, .n_cols = 2, .is_vector = true, .source = {.dtype = PHX_I32, .is_shape = true}};
    it.source.shape[0] = (int32_t)matrix->n_rows;
    it.source.shape[1] = (int32_t)matrix->n_cols;
    return rc == PHX_OK ? add_item(s, &it, name, err) : rc;
}

phx_synth_source phx_synth_source_of(const phx_synth_request *request, const phx_tensor_id *id, bool is_scale)
{
    char name[PHX_TENSOR_NAME_MAX];
    const bool fits = phx_tensor_name(id, name, sizeof(name) - 16);
    assert(fits);
    const phx_format format = formats[request->format].format;
    phx_synth_source source = {.role = id->rule->role};
    source.sd = sd_of(id->rule, id->rule->n_cols(request->dims));
    const bool packed = format == PHX_FORMAT_INT4_G32 && id->rule->where == PHX_WHERE_EXPERT;
    if (is_scale) {
        (void)snprintf(name + strlen(name), 16, packed ? "_scale" : "_scale_inv");
        source.key = key_of(request->seed, name);
        source.dtype = packed ? PHX_BF16 : PHX_F32;
        source.is_scale = true;
        source.powers_of_two = request->format == PHX_SYNTH_FP8_UE8M0;
        return source;
    }
    source.key = key_of(request->seed, key_name(id->rule->role, name));
    const bool plain = !id->rule->quantised || (format == PHX_FORMAT_INT4_G32 && !packed);
    source.dtype = !plain                                   ? phx_format_dtype(format)
                   : id->rule->role == PHX_ROLE_ROUTER_BIAS ? PHX_F32
                                                            : PHX_BF16;
    return source;
}

static phx_code add_tensor(void *user, const phx_tensor_id *id, phx_error *err)
{
    synth *s = user;
    char name[PHX_TENSOR_NAME_MAX];
    if (id->rule->optional && !id->family->mtp_copies)
        return PHX_OK;
    const bool fits = phx_tensor_name(id, name, sizeof(name) - 16);
    assert(fits);
    item it = {
        .n_rows = id->rule->n_rows(s->request->dims),
        .n_cols = id->rule->n_cols(s->request->dims),
        .is_vector = id->rule->is_vector,
        .source = phx_synth_source_of(s->request, id, false),
    };
    if (formats[s->request->format].format == PHX_FORMAT_INT4_G32 && id->rule->where == PHX_WHERE_EXPERT)
        return add_packed(s, &it, name, err);
    const phx_code rc = add_item(s, &it, name, err);
    if (rc != PHX_OK || it.source.dtype != PHX_F8_E4M3)
        return rc;
    (void)snprintf(name + strlen(name), 16, "_scale_inv");
    it.n_rows = (it.n_rows + BLOCK - 1) / BLOCK;
    it.n_cols = (it.n_cols + BLOCK - 1) / BLOCK;
    it.source = phx_synth_source_of(s->request, id, true);
    return add_item(s, &it, name, err);
}

static phx_code add_extra(synth *s, const phx_synth_extra *extra, phx_error *err)
{
    const char *copy = strstr(extra->name, "{b}");
    const int n_before = copy ? (int)(copy - extra->name) : (int)strlen(extra->name);
    item weight = {.n_rows = 1, .extra = extra, .source = {.dtype = PHX_BF16}};
    item bias = {.n_rows = 1, .n_cols = extra->shape[0], .is_vector = true, .source = {.dtype = PHX_BF16}};
    assert(extra->n_dims > 0 && extra->n_dims <= sizeof(extra->shape) / sizeof(extra->shape[0]));
    for (uint32_t d = 0; d + 1 < extra->n_dims; d++)
        weight.n_rows *= extra->shape[d];
    weight.n_cols = extra->shape[extra->n_dims - 1];
    weight.source.sd = (float)(1.0 / sqrt((double)weight.n_cols));
    bias.source.sd = weight.source.sd;
    for (uint32_t b = 0; b < extra->n_copies; b++) {
        for (int is_bias = 0; is_bias <= (int)extra->has_bias; is_bias++) {
            item *it = is_bias ? &bias : &weight;
            char name[PHX_TENSOR_NAME_MAX];
            int n = snprintf(name, sizeof(name), "%.*s", n_before, extra->name);
            if (copy)
                n += snprintf(name + n, sizeof(name) - (size_t)n, "%u%s", b, copy + 3);
            (void)snprintf(name + n, sizeof(name) - (size_t)n, is_bias ? ".bias" : ".weight");
            it->source.key = key_of(s->request->seed, name);
            const phx_code rc = add_item(s, it, name, err);
            if (rc != PHX_OK)
                return rc;
        }
    }
    return PHX_OK;
}

static phx_code list_tensors(synth *s, phx_error *err)
{
    const phx_family *family = phx_family_find(s->request->dims->model_type);
    if (!family)
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "model_type '%s' is not supported",
                        s->request->dims->model_type);
    phx_code rc = phx_family_each(family, s->request->dims, add_tensor, s, err);
    for (const phx_synth_extra *extra = s->request->extras; rc == PHX_OK && extra && extra->name; extra++)
        rc = add_extra(s, extra, err);
    return rc;
}

/* By size: a new shard when the next tensor would pass the limit. By count: equal shares of the bytes, at
 * least one tensor each. */
static void cut_shards(synth *s)
{
    const uint64_t limit = s->request->shard_bytes ? s->request->shard_bytes : SHARD_BYTES;
    const uint32_t n = s->request->n_shards;
    uint64_t before = 0;
    uint64_t in_shard = 0;
    uint32_t shard = 0;
    for (size_t i = 0; i < s->n_items; i++) {
        item *it = &s->items[i];
        bool next = in_shard > 0 && in_shard + it->n_bytes > limit;
        if (n > 0) {
            const uint64_t share = (uint64_t)((double)s->total_bytes / n * (shard + 1));
            next = shard + 1 < n && i > 0 && s->items[i - 1].shard == shard &&
                   (before >= share || s->n_items - i == n - shard - 1);
        }
        if (next) {
            shard++;
            in_shard = 0;
        }
        it->shard = shard;
        in_shard += it->n_bytes;
        before += it->n_bytes;
    }
    s->n_shards = shard + 1;
}

/* ---- the files ---- */

static void shard_name(const synth *s, uint32_t shard, char *ret_name, size_t n_bytes)
{
    if (s->n_shards == 1)
        (void)snprintf(ret_name, n_bytes, "model.safetensors");
    else
        (void)snprintf(ret_name, n_bytes, "model-%05u-of-%05u.safetensors", shard + 1, s->n_shards);
}

static phx_code write_data(synth *s, phx_st_writer *writer, const item *it, phx_error *err)
{
    const uint64_t n_elements = (uint64_t)(it->n_rows * it->n_cols);
    if (s->request->sparse)
        return phx_st_writer_skip(writer, it->n_bytes, err);
    for (uint64_t first = 0; first < n_elements; first += CHUNK_ELEMENTS) {
        const uint64_t left = n_elements - first;
        const size_t n = left < CHUNK_ELEMENTS ? (size_t)left : CHUNK_ELEMENTS;
        phx_synth_fill(s->tables, &it->source, first, n, s->chunk);
        const phx_code rc =
            phx_st_writer_append(writer, s->chunk, n * phx_dtype_bytes(it->source.dtype), err);
        if (rc != PHX_OK)
            return rc;
    }
    return PHX_OK;
}

static phx_code write_shard(synth *s, uint32_t shard, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_st_writer *writer = NULL;
    char name[64];
    char path[PATH_BYTES];
    size_t first = 0;
    while (s->items[first].shard != shard)
        first++;
    size_t n = 0;
    while (first + n < s->n_items && s->items[first + n].shard == shard)
        n++;
    phx_st_decl *decls = phx_alloc(n, sizeof(*decls));
    if (!decls) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "%zu declarations", n);
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        const item *it = &s->items[first + i];
        decls[i] = (phx_st_decl){.name = s->names.ptr + it->name_at, .dtype = it->source.dtype};
        decls[i].n_dims = it->extra ? it->extra->n_dims : it->is_vector ? 1 : 2;
        decls[i].shape[0] = it->is_vector ? it->n_cols : it->n_rows;
        decls[i].shape[1] = it->is_vector ? 0 : it->n_cols;
        for (uint32_t d = 0; it->extra && d < it->extra->n_dims; d++)
            decls[i].shape[d] = it->extra->shape[d];
    }
    shard_name(s, shard, name, sizeof(name));
    rc = out_path(s, name, path, err);
    if (rc != PHX_OK)
        goto out;
    rc = phx_st_writer_open(path, decls, n, &writer, err);
    for (size_t i = 0; rc == PHX_OK && i < n; i++) {
        rc = write_data(s, writer, &s->items[first + i], err);
        s->done_bytes += s->items[first + i].n_bytes;
        if (rc == PHX_OK && s->request->progress)
            s->request->progress(s->request->user, s->done_bytes, s->total_bytes);
    }
    if (rc != PHX_OK)
        goto out;
    rc = phx_st_writer_close(writer, err);
    writer = NULL;
out:
    phx_st_writer_abort(writer);
    phx_free(decls);
    return rc;
}

static phx_code write_index(synth *s, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_buf buf;
    phx_json_writer w;
    char path[PATH_BYTES];
    phx_buf_init(&buf, INDEX_BYTES_MAX);
    phx_json_writer_init(&w, &buf);
    phx_json_begin_object(&w);
    phx_json_key(&w, "metadata");
    phx_json_begin_object(&w);
    phx_json_key(&w, "total_size");
    phx_json_u64(&w, s->total_bytes);
    phx_json_end_object(&w);
    phx_json_key(&w, "weight_map");
    phx_json_begin_object(&w);
    for (size_t i = 0; i < s->n_items; i++) {
        char name[64];
        shard_name(s, s->items[i].shard, name, sizeof(name));
        phx_json_key(&w, s->names.ptr + s->items[i].name_at);
        phx_json_text(&w, name);
    }
    phx_json_end_object(&w);
    phx_json_end_object(&w);
    if (buf.code != PHX_OK) {
        rc = PHX_FAIL(err, buf.code, "index of %zu tensors", s->n_items);
        goto out;
    }
    rc = out_path(s, "model.safetensors.index.json", path, err);
    if (rc == PHX_OK)
        rc = phx_file_write(path, (phx_bytes){(const uint8_t *)buf.ptr, buf.n}, 0644, err);
out:
    phx_buf_done(&buf);
    return rc;
}

static phx_code write_config(const synth *s, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_buf buf;
    char path[PATH_BYTES];
    phx_dims dims = *s->request->dims;
    dims.fp8_scale_ue8m0 = s->request->format == PHX_SYNTH_FP8_UE8M0;
    phx_buf_init(&buf, 1u << 16);
    phx_dims_write_json(&dims, formats[s->request->format].format, &buf);
    if (buf.code != PHX_OK) {
        rc = PHX_FAIL(err, buf.code, "config.json");
        goto out;
    }
    rc = out_path(s, "config.json", path, err);
    if (rc == PHX_OK)
        rc = phx_file_write(path, (phx_bytes){(const uint8_t *)buf.ptr, buf.n}, 0644, err);
out:
    phx_buf_done(&buf);
    return rc;
}
