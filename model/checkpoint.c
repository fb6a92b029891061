/* model/checkpoint.c - opening a model folder: files first, then every tensor that the family expects.
 * The files' side (index, shards, name table) is checkpoint_files.c. */
#include "model/checkpoint.h"

#include <assert.h>
#include <stdio.h>

#include "base/alloc.h"
#include "model/checkpoint_files.h"

#define NAME_BYTES    (PHX_TENSOR_NAME_MAX + 32)
#define MISSING_BYTES (256u << 20)
#define NOT_EXPECTED  UINT32_MAX
#define FP8_BLOCK     128
#define PACKED        8 /* weights of an int32 */

struct phx_checkpoint {
    char *dir;
    phx_dims dims;
    const phx_family *family;
    phx_ck_files files;
    phx_ck_tensor *tensors; /* [n_tensors] in phx_family_each order */
    size_t n_tensors;
    /* [PHX_ROLE_COUNT][n_layers_all + 1]: first tensor of a role at layer - 1, or NOT_EXPECTED */
    uint32_t *first;
    bool lenient;
    phx_buf missing_names; /* terminated names, one after the other */
    uint32_t *missing_at;  /* [n_missing] byte offsets into missing_names */
    size_t n_missing;
    uint64_t n_scales; /* scale tensors in use */
    uint64_t n_scale_elements;
    uint64_t n_packed_elements; /* weights that share a stored element with the one before them */
    phx_str *extras;
    size_t n_extra;
};

typedef struct companion { /* what has to lie beside a packed matrix */
    const char *name;
    phx_dtype dtype;
    phx_dtype other; /* as good */
    int64_t n_rows;  /* 0: a vector */
    int64_t n_cols;
} companion;

static phx_code match_tensor(void *user, const phx_tensor_id *id, phx_error *err);
static bool is_skipped(const phx_family *family, phx_str name)
{
    for (const char *const *prefix = family->skipped; prefix && *prefix; prefix++) {
        if (phx_str_starts(name, phx_str_of(*prefix)))
            return true;
    }
    return false;
}

static phx_code list_extras(phx_checkpoint *ck, phx_error *err);
static void drop_absent_mtp(phx_checkpoint *ck);

static phx_code count_tensor(void *user, const phx_tensor_id *id, phx_error *err)
{
    (void)id;
    (void)err;
    (*(size_t *)user)++;
    return PHX_OK;
}

static size_t n_layer_slots(const phx_dims *dims)
{
    return (size_t)(dims->n_layers + dims->n_layers_mtp) + 1;
}

static phx_code alloc_tables(phx_checkpoint *ck, phx_error *err)
{
    size_t n = 0;
    const phx_code rc = phx_family_each(ck->family, &ck->dims, count_tensor, &n, err);
    if (rc != PHX_OK)
        return rc;
    const size_t n_first = PHX_ROLE_COUNT * n_layer_slots(&ck->dims);
    ck->tensors = phx_alloc(n, sizeof(*ck->tensors));
    ck->first = phx_alloc(n_first, sizeof(*ck->first));
    ck->missing_at = phx_alloc(ck->lenient ? n : 0, sizeof(*ck->missing_at));
    if (!ck->tensors || !ck->first || !ck->missing_at)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "table of %zu expected tensors", n);
    for (size_t i = 0; i < n_first; i++)
        ck->first[i] = NOT_EXPECTED;
    return PHX_OK;
}

static phx_code open_checkpoint(const char *model_dir, bool lenient, phx_checkpoint **ret_checkpoint,
                                phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_checkpoint *ck = phx_alloc(1, sizeof(*ck));
    if (!ck) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "checkpoint of '%s'", model_dir);
        goto out;
    }
    phx_buf_init(&ck->missing_names, MISSING_BYTES);
    ck->lenient = lenient;
    ck->dir = phx_strdup_n(model_dir, strlen(model_dir));
    if (!ck->dir) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "path '%s'", model_dir);
        goto out;
    }
    rc = phx_dims_load(model_dir, &ck->dims, err);
    if (rc != PHX_OK)
        goto out;
    ck->family = phx_family_find(ck->dims.model_type);
    assert(ck->family); /* phx_dims_load refuses others */
    rc = phx_ck_files_open(&ck->files, model_dir, err);
    if (rc != PHX_OK)
        goto out;
    drop_absent_mtp(ck);
    rc = alloc_tables(ck, err);
    if (rc != PHX_OK)
        goto out;
    rc = phx_family_each(ck->family, &ck->dims, match_tensor, ck, err);
    if (rc != PHX_OK)
        goto out;
    rc = list_extras(ck, err);
    if (rc != PHX_OK)
        goto out;
    *ret_checkpoint = ck;
    ck = NULL;
out:
    phx_checkpoint_close(ck);
    return rc;
}

phx_code phx_checkpoint_open(const char *model_dir, phx_checkpoint **ret_checkpoint, phx_error *err)
{
    return open_checkpoint(model_dir, false, ret_checkpoint, err);
}

phx_code phx_checkpoint_open_lenient(const char *model_dir, phx_checkpoint **ret_checkpoint, phx_error *err)
{
    return open_checkpoint(model_dir, true, ret_checkpoint, err);
}

void phx_checkpoint_close(phx_checkpoint *checkpoint)
{
    if (!checkpoint)
        return;
    phx_ck_files_close(&checkpoint->files);
    phx_buf_done(&checkpoint->missing_names);
    phx_free(checkpoint->missing_at);
    phx_free(checkpoint->extras);
    phx_free(checkpoint->first);
    phx_free(checkpoint->tensors);
    phx_free(checkpoint->dir);
    phx_free(checkpoint);
}

const phx_dims *phx_checkpoint_dims(const phx_checkpoint *checkpoint)
{
    return &checkpoint->dims;
}

const phx_family *phx_checkpoint_family(const phx_checkpoint *checkpoint)
{
    return checkpoint->family;
}

const char *phx_checkpoint_dir(const phx_checkpoint *checkpoint)
{
    return checkpoint->dir;
}

size_t phx_checkpoint_n_files(const phx_checkpoint *checkpoint)
{
    return checkpoint->files.n_files;
}

const phx_st_file *phx_checkpoint_file(const phx_checkpoint *checkpoint, size_t idx)
{
    return idx < checkpoint->files.n_files ? checkpoint->files.files[idx].st : NULL;
}

size_t phx_checkpoint_count(const phx_checkpoint *checkpoint)
{
    return checkpoint->n_tensors;
}

const phx_ck_tensor *phx_checkpoint_at(const phx_checkpoint *checkpoint, size_t idx)
{
    return idx < checkpoint->n_tensors ? &checkpoint->tensors[idx] : NULL;
}

static uint32_t *first_of(const phx_checkpoint *ck, phx_role role, int32_t layer)
{
    return &ck->first[(size_t)role * n_layer_slots(&ck->dims) + (size_t)(layer + 1)];
}

const phx_ck_tensor *phx_checkpoint_find(const phx_checkpoint *checkpoint, phx_role role, int32_t layer,
                                         int32_t expert)
{
    if (role >= PHX_ROLE_COUNT || layer < -1 || layer + 1 >= (int32_t)n_layer_slots(&checkpoint->dims))
        return NULL;
    const uint32_t first = *first_of(checkpoint, role, layer);
    if (first == NOT_EXPECTED || expert < -1 || expert >= checkpoint->dims.n_experts)
        return NULL;
    /* The experts of a role follow each other, in order. */
    const phx_ck_tensor *tensor = &checkpoint->tensors[first + (expert > 0 ? (uint32_t)expert : 0u)];
    if (tensor->id.rule->role != role || tensor->id.expert != expert || !tensor->data)
        return NULL;
    return tensor;
}

phx_checkpoint_totals phx_checkpoint_count_all(const phx_checkpoint *checkpoint)
{
    phx_checkpoint_totals totals = {
        .n_shards = checkpoint->files.n_files,
        .n_extra = checkpoint->n_extra,
        .n_missing = checkpoint->n_missing,
    };
    uint64_t n_elements = 0;
    for (size_t f = 0; f < checkpoint->files.n_files; f++) {
        const phx_st_file *file = checkpoint->files.files[f].st;
        totals.n_tensors += phx_st_count(file);
        for (size_t i = 0; i < phx_st_count(file); i++) {
            const phx_st_tensor *tensor = phx_st_at(file, i);
            totals.n_bytes += tensor->n_bytes;
            n_elements += tensor->n_bytes / phx_dtype_bytes(tensor->dtype);
            if (is_skipped(checkpoint->family, tensor->name)) {
                totals.n_skipped++;
                totals.n_skipped_bytes += tensor->n_bytes;
            }
        }
    }
    totals.n_weights = totals.n_tensors - checkpoint->n_scales;
    totals.n_parameters = n_elements - checkpoint->n_scale_elements + checkpoint->n_packed_elements;
    return totals;
}

phx_str phx_checkpoint_extra(const phx_checkpoint *checkpoint, size_t idx)
{
    return idx < checkpoint->n_extra ? checkpoint->extras[idx] : (phx_str){NULL, 0};
}

phx_str phx_checkpoint_missing(const phx_checkpoint *checkpoint, size_t idx)
{
    if (idx >= checkpoint->n_missing)
        return (phx_str){NULL, 0};
    return phx_str_of(checkpoint->missing_names.ptr + checkpoint->missing_at[idx]);
}

phx_hash phx_checkpoint_hash(const phx_checkpoint *checkpoint)
{
    return checkpoint->files.hash;
}

/* ---- matching ---- */

/* Some redistributed checkpoints keep the config's MTP count but not its tensors. That is a whole model
 * without MTP, not a broken one: the count becomes zero when not one tensor of those layers is there. */
static void drop_absent_mtp(phx_checkpoint *ck)
{
    if (ck->dims.n_layers_mtp == 0)
        return;
    for (size_t f = 0; f < ck->files.n_files; f++) {
        const phx_st_file *file = ck->files.files[f].st;
        for (int64_t l = ck->dims.n_layers; l < ck->dims.n_layers + ck->dims.n_layers_mtp; l++) {
            char prefix[48];
            (void)snprintf(prefix, sizeof(prefix), "model.layers.%lld.", (long long)l);
            for (size_t i = 0; i < phx_st_count(file); i++) {
                if (phx_str_starts(phx_st_at(file, i)->name, phx_str_of(prefix)))
                    return;
            }
        }
    }
    ck->dims.n_layers_mtp = 0;
}

static phx_code note_missing(phx_checkpoint *ck, const phx_ck_tensor *tensor, const char *name,
                             phx_error *err)
{
    if (tensor->id.rule->optional)
        return PHX_OK;
    if (!ck->lenient)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "'%s': tensor '%s' is missing: is the download complete?",
                        ck->dir, name);
    ck->missing_at[ck->n_missing] = (uint32_t)ck->missing_names.n;
    const phx_code rc = phx_buf_append(&ck->missing_names, name, strlen(name) + 1);
    if (rc != PHX_OK)
        return PHX_FAIL(err, rc, "list of missing tensors");
    ck->n_missing++;
    return PHX_OK;
}

static bool has_shape(const phx_st_tensor *tensor, bool is_vector, int64_t n_rows, int64_t n_cols)
{
    if (is_vector)
        return tensor->n_dims == 1 && tensor->shape[0] == n_cols;
    return tensor->n_dims == 2 && tensor->shape[0] == n_rows && tensor->shape[1] == n_cols;
}

static phx_code wrong_shape(const phx_ck_tensor *tensor, const phx_st_tensor *stored, int64_t n_rows,
                            int64_t n_cols, phx_error *err)
{
    char shape[160] = "";
    size_t at = 0;
    for (uint32_t i = 0; i < stored->n_dims && at < sizeof(shape); i++)
        at += (size_t)snprintf(shape + at, sizeof(shape) - at, "%s%lld", i ? "," : "",
                               (long long)stored->shape[i]);
    char expected[64];
    if (tensor->id.rule->is_vector)
        (void)snprintf(expected, sizeof(expected), "%lld", (long long)n_cols);
    else
        (void)snprintf(expected, sizeof(expected), "%lld,%lld", (long long)n_rows, (long long)n_cols);
    return PHX_FAIL(err, PHX_ERR_CORRUPT, "'%s': tensor '%.*s' has shape [%s], config.json asks for [%s]",
                    phx_st_path(tensor->file), PHX_STR_ARG(stored->name), shape, expected);
}

/* The scales beside an fp8 matrix, in whichever shard. */
static phx_code match_scales(phx_checkpoint *ck, phx_ck_tensor *tensor, char *name, phx_error *err)
{
    const size_t n = strlen(name);
    const phx_ck_place *place = NULL;
    const int64_t n_rows = (tensor->n_rows + FP8_BLOCK - 1) / FP8_BLOCK;
    const int64_t n_cols = (tensor->n_cols + FP8_BLOCK - 1) / FP8_BLOCK;
    (void)snprintf(name + n, NAME_BYTES - n, "_scale_inv");
    place = phx_ck_files_find(&ck->files, phx_str_of(name));
    if (!place)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "'%s': tensor '%.*s' is fp8 but '%s' is missing",
                        phx_st_path(tensor->file), (int)n, name, name);
    if (place->tensor->dtype != PHX_F32 && place->tensor->dtype != PHX_F8_E8M0)
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED,
                        "'%s': scales '%s' are stored as %s; supported: F32, F8_E8M0",
                        phx_st_path(place->file), name, phx_dtype_name(place->tensor->dtype));
    tensor->scale_file = place->file;
    tensor->scales = place->tensor;
    if (!has_shape(place->tensor, false, n_rows, n_cols))
        return wrong_shape(tensor, place->tensor, n_rows, n_cols, err);
    phx_ck_files_mark(&ck->files, place);
    ck->n_scales++;
    ck->n_scale_elements += (uint64_t)(n_rows * n_cols);
    return PHX_OK;
}

static phx_code match_format(phx_checkpoint *ck, phx_ck_tensor *tensor, char *name, phx_error *err)
{
    const size_t n = strlen(name);
    const phx_dtype dtype = tensor->data->dtype;
    if (dtype == PHX_F8_E4M3 && tensor->id.rule->quantised) {
        tensor->format = PHX_FORMAT_FP8_BLOCK;
        return match_scales(ck, tensor, name, err);
    }
    switch (dtype) {
    case PHX_F32:
        tensor->format = PHX_FORMAT_F32;
        break;
    case PHX_BF16:
        tensor->format = PHX_FORMAT_BF16;
        break;
    case PHX_F16:
        tensor->format = PHX_FORMAT_F16;
        break;
    default:
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED,
                        "'%s': tensor '%s' is stored as %s, which does not fit its use",
                        phx_st_path(tensor->file), name, phx_dtype_name(dtype));
    }
    (void)snprintf(name + n, NAME_BYTES - n, "_scale_inv");
    const bool has_scales = phx_ck_files_find(&ck->files, phx_str_of(name)) != NULL;
    name[n] = 0;
    if (has_scales)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "'%s': tensor '%s' is stored as %s and yet has scales",
                        phx_st_path(tensor->file), name, phx_dtype_name(dtype));
    return PHX_OK;
}

/* One companion of a packed matrix: of dtype (or other), shaped as said. */
static phx_code match_companion(phx_checkpoint *ck, const phx_ck_tensor *tensor, const companion *expected,
                                const phx_ck_place **ret_place, phx_error *err)
{
    const phx_ck_place *place = phx_ck_files_find(&ck->files, phx_str_of(expected->name));
    if (!place)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "'%s': tensor '%.*s' is int4 but '%s' is missing",
                        phx_st_path(tensor->file), PHX_STR_ARG(tensor->data->name), expected->name);
    const phx_dtype dtype = place->tensor->dtype;
    if (dtype != expected->dtype && dtype != expected->other)
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "'%s': '%s' is stored as %s; supported: %s",
                        phx_st_path(place->file), expected->name, phx_dtype_name(dtype),
                        phx_dtype_name(expected->dtype));
    if (!has_shape(place->tensor, expected->n_rows == 0, expected->n_rows, expected->n_cols))
        return PHX_FAIL(err, PHX_ERR_CORRUPT,
                        "'%s': the shape of '%s' is not the one of int4 in groups of %d",
                        phx_st_path(place->file), expected->name, PHX_INT4_GROUP);
    phx_ck_files_mark(&ck->files, place);
    ck->n_scales++;
    ck->n_scale_elements += place->tensor->n_bytes / phx_dtype_bytes(dtype);
    *ret_place = place;
    return PHX_OK;
}

/* compressed-tensors: <name>_packed holds eight columns in each int32, <name>_scale one bf16 for 32 columns,
 * <name>_shape repeats what the shape of the packed tensor says. */
static phx_code match_packed(phx_checkpoint *ck, phx_ck_tensor *tensor, char *name, phx_error *err)
{
    const size_t n = strlen(name);
    const phx_ck_place *place = NULL;
    const phx_tensor_rule *rule = tensor->id.rule;
    const bool odd_cut = rule->split == PHX_SPLIT_COLS_HEADS && ck->dims.d_v % 2 != 0;
    if (!rule->quantised || rule->role == PHX_ROLE_KV_B || odd_cut)
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED,
                        "'%s': tensor '%s' is packed int4, which does not fit its use",
                        phx_st_path(tensor->file), name);
    if (tensor->n_cols % PHX_INT4_GROUP != 0)
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED,
                        "'%s': tensor '%s' is packed int4 with %lld columns, no multiple of %d",
                        phx_st_path(tensor->file), name, (long long)tensor->n_cols, PHX_INT4_GROUP);
    tensor->format = PHX_FORMAT_INT4_G32;
    if (tensor->data->dtype != PHX_I32)
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "'%s': tensor '%.*s' is stored as %s; supported: I32",
                        phx_st_path(tensor->file), PHX_STR_ARG(tensor->data->name),
                        phx_dtype_name(tensor->data->dtype));
    (void)snprintf(name + n, NAME_BYTES - n, "_shape");
    phx_code rc = match_companion(ck, tensor, &(companion){name, PHX_I32, PHX_I64, 0, 2}, &place, err);
    (void)snprintf(name + n, NAME_BYTES - n, "_scale");
    if (rc == PHX_OK)
        rc = match_companion(
            ck, tensor,
            &(companion){name, PHX_BF16, PHX_BF16, tensor->n_rows, tensor->n_cols / PHX_INT4_GROUP}, &place,
            err);
    name[n] = 0;
    if (rc != PHX_OK)
        return rc;
    tensor->scale_file = place->file;
    tensor->scales = place->tensor;
    ck->n_packed_elements += (uint64_t)(tensor->n_rows * tensor->n_cols) / PACKED * (PACKED - 1);
    return PHX_OK;
}

/* Where the weights lie: under the name itself or, packed, under <name>_packed. */
static const phx_ck_place *find_data(const phx_checkpoint *ck, char *name, bool *ret_packed)
{
    const size_t n = strlen(name);
    const phx_ck_place *place = phx_ck_files_find(&ck->files, phx_str_of(name));
    *ret_packed = false;
    if (place)
        return place;
    (void)snprintf(name + n, NAME_BYTES - n, "_packed");
    place = phx_ck_files_find(&ck->files, phx_str_of(name));
    name[n] = 0;
    *ret_packed = place != NULL;
    return place;
}

static phx_code match_tensor(void *user, const phx_tensor_id *id, phx_error *err)
{
    phx_checkpoint *ck = user;
    char name[NAME_BYTES];
    bool packed = false;
    const bool fits = phx_tensor_name(id, name, PHX_TENSOR_NAME_MAX);
    assert(fits);
    uint32_t *first = first_of(ck, id->rule->role, id->layer);
    if (*first == NOT_EXPECTED)
        *first = (uint32_t)ck->n_tensors;
    phx_ck_tensor *tensor = &ck->tensors[ck->n_tensors++];
    *tensor = (phx_ck_tensor){
        .id = *id, .n_rows = id->rule->n_rows(&ck->dims), .n_cols = id->rule->n_cols(&ck->dims)};
    const phx_ck_place *place = find_data(ck, name, &packed);
    if (!place)
        return note_missing(ck, tensor, name, err);
    tensor->file = place->file;
    const int64_t n_stored = packed ? (tensor->n_cols + PACKED - 1) / PACKED : tensor->n_cols;
    if (!has_shape(place->tensor, id->rule->is_vector, tensor->n_rows, n_stored))
        return wrong_shape(tensor, place->tensor, tensor->n_rows, n_stored, err);
    tensor->data = place->tensor;
    phx_ck_files_mark(&ck->files, place);
    return packed ? match_packed(ck, tensor, name, err) : match_format(ck, tensor, name, err);
}

static bool is_ignored(const phx_family *family, phx_str name)
{
    for (const char *const *suffix = family->ignored; *suffix; suffix++) {
        if (phx_str_ends(name, phx_str_of(*suffix)))
            return true;
    }
    return false;
}

static phx_code list_extras(phx_checkpoint *ck, phx_error *err)
{
    for (int pass = 0; pass < 2; pass++) {
        size_t n = 0;
        for (size_t f = 0; f < ck->files.n_files; f++) {
            const phx_ck_file *file = &ck->files.files[f];
            for (size_t i = 0; i < phx_st_count(file->st); i++) {
                const phx_st_tensor *tensor = phx_st_at(file->st, i);
                if (file->is_used[i] || is_ignored(ck->family, tensor->name) ||
                    is_skipped(ck->family, tensor->name))
                    continue;
                if (pass == 1)
                    ck->extras[n] = tensor->name;
                n++;
            }
        }
        if (pass == 0) {
            ck->extras = phx_alloc(n, sizeof(*ck->extras));
            if (!ck->extras)
                return PHX_FAIL(err, PHX_ERR_NOMEM, "list of %zu unexpected tensors", n);
            ck->n_extra = n;
        }
    }
    return PHX_OK;
}
