/* client/golden.c - golden.safetensors and the figures that belong to it: serving.json, official.json,
 * cache_fp8.json, products_fp8.json. */
#include "client/golden.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/json.h"

/* An I64 list of token ids. */
static phx_code read_ids(const phx_st_file *file, const char *name, uint32_t **ret_ids, uint32_t *ret_n,
                         phx_error *err)
{
    phx_code rc = PHX_OK;
    int64_t *wide = NULL;
    uint32_t *ids = NULL;
    const phx_st_tensor *tensor = phx_st_find(file, phx_str_of(name));
    if (!tensor || tensor->dtype != PHX_I64 || tensor->n_dims != 1 || tensor->shape[0] < 1 ||
        tensor->shape[0] > PHX_GOLDEN_TOKENS_MAX) {
        rc =
            PHX_FAIL(err, PHX_ERR_CORRUPT, "'%s' has no list of I64 token ids '%s'", phx_st_path(file), name);
        goto out;
    }
    const size_t n = (size_t)tensor->shape[0];
    wide = phx_alloc(n, sizeof(*wide));
    ids = phx_alloc(n, sizeof(*ids));
    if (!wide || !ids) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "'%s' of '%s'", name, phx_st_path(file));
        goto out;
    }
    rc = phx_st_read(file, tensor, 0, wide, n * sizeof(*wide), err);
    for (size_t i = 0; rc == PHX_OK && i < n; i++) {
        if (wide[i] < 0 || wide[i] > INT32_MAX)
            rc = PHX_FAIL(err, PHX_ERR_CORRUPT, "'%s' of '%s': id %lld at %zu", name, phx_st_path(file),
                          (long long)wide[i], i);
        ids[i] = (uint32_t)wide[i];
    }
    if (rc != PHX_OK)
        goto out;
    *ret_ids = ids;
    *ret_n = (uint32_t)n;
    ids = NULL;
out:
    phx_free(wide);
    phx_free(ids);
    return rc;
}

static bool take_figures(const phx_json *root, const char *name, phx_kl_bounds *ret)
{
    const phx_json *figures = phx_json_get(root, name);
    phx_kl_bounds kl;
    if (!phx_json_as_f64(phx_json_get(figures, "kl_mean"), &kl.kl_mean) ||
        !phx_json_as_f64(phx_json_get(figures, "kl_median"), &kl.kl_median) ||
        !phx_json_as_f64(phx_json_get(figures, "top1"), &kl.top1))
        return false;
    *ret = kl;
    return true;
}

/* The file in the golden file's folder, or in the one above it. A damaged one counts as absent: the verdict
 * then says that no bound is known. */
static bool find_figures(const char *path, const char *file_name, const char *name, phx_kl_bounds *ret)
{
    static const char *const places[] = {"", "../"};
    const char *slash = strrchr(path, '/');
    const int n_dir = slash ? (int)(slash - path) : 1;
    bool found = false;
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]) && !found; i++) {
        char file[4096];
        phx_json *root = NULL;
        const int n =
            snprintf(file, sizeof(file), "%.*s/%s%s", n_dir, slash ? path : ".", places[i], file_name);
        if (n < 0 || (size_t)n >= sizeof(file))
            return false;
        if (phx_json_parse_file(file, PHX_JSON_LIMITS_REQUEST, &root, NULL) == PHX_OK)
            found = take_figures(root, name, ret);
        phx_json_destroy(root);
    }
    return found;
}

phx_code phx_golden_open(const char *path, phx_golden *ret_golden, phx_error *err)
{
    phx_golden golden = {.logit_atol = 1e-4};
    phx_code rc = phx_st_open(path, &golden.file, err);
    if (rc != PHX_OK)
        goto out;
    const phx_str name = phx_st_metadata(golden.file, "case");
    (void)phx_str_copy(golden.name, sizeof(golden.name), name.ptr ? name : phx_str_of(path));
    const phx_str atol = phx_st_metadata(golden.file, "logit_atol");
    if (atol.ptr && (!phx_str_to_f64(atol, &golden.logit_atol) || golden.logit_atol <= 0)) {
        rc =
            PHX_FAIL(err, PHX_ERR_CORRUPT, "'%s': logit_atol '%.*s' is not a bound", path, PHX_STR_ARG(atol));
        goto out;
    }
    rc = read_ids(golden.file, "input_ids", &golden.ids, &golden.n_ids, err);
    if (rc == PHX_OK && phx_st_find(golden.file, phx_str_of("greedy")))
        rc = read_ids(golden.file, "greedy", &golden.greedy, &golden.n_greedy, err);
    if (rc != PHX_OK)
        goto out;
    golden.has_kl = find_figures(path, "serving.json", golden.name, &golden.kl);
    golden.has_cache_kl = find_figures(path, "cache_fp8.json", golden.name, &golden.cache_kl);
    golden.has_official_kl = find_figures(path, "official.json", golden.name, &golden.official_kl);
    golden.has_products_kl = find_figures(path, "products_fp8.json", golden.name, &golden.products_kl);
    *ret_golden = golden;
    golden = (phx_golden){0};
out:
    phx_golden_close(&golden);
    return rc;
}

void phx_golden_close(phx_golden *golden)
{
    phx_st_close(golden->file);
    phx_free(golden->ids);
    phx_free(golden->greedy);
    *golden = (phx_golden){0};
}

phx_code phx_golden_read(const phx_golden *golden, const phx_st_tensor *tensor, void **ret_values,
                         phx_error *err)
{
    phx_code rc = PHX_OK;
    void *values = NULL;
    if (tensor->n_bytes > PHX_GOLDEN_BYTES_MAX) {
        rc = PHX_FAIL(err, PHX_ERR_TOO_LONG, "'%.*s' of '%s' has %llu bytes", PHX_STR_ARG(tensor->name),
                      phx_st_path(golden->file), (unsigned long long)tensor->n_bytes);
        goto out;
    }
    values = phx_alloc((size_t)tensor->n_bytes + 1, 1);
    if (!values) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "'%.*s'", PHX_STR_ARG(tensor->name));
        goto out;
    }
    rc = phx_st_read(golden->file, tensor, 0, values, (size_t)tensor->n_bytes, err);
    if (rc != PHX_OK)
        goto out;
    *ret_values = values;
    values = NULL;
out:
    phx_free(values);
    return rc;
}
