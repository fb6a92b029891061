/* coordinator/api/model_text.c - see model_text.h. */
#include "coordinator/api/model_text.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "coordinator/text/chat_encode.h"
#include "model/family.h"
#include "proto/limits.h"

static phx_code load_tokenizer(phx_model_text *text, phx_error *err);
static phx_code find_chat(phx_model_text *text, const phx_dims *dims, phx_error *err);
static phx_code find_template(const char *model_dir, bool *ret_has, phx_error *err);
static void add_eos(phx_model_text *text, int64_t id);
static phx_code load_defaults(phx_model_text *text, phx_error *err);
static phx_code copy_name(phx_model_text *text, const char *name, phx_error *err);

phx_code phx_model_text_load(const char *model_dir, const char *name, const phx_dims *dims,
                             uint32_t n_context, phx_model_text *ret_text, phx_error *err)
{
    phx_model_text text = {.n_context = n_context,
                           .n_vocab = (uint32_t)dims->n_vocab,
                           .created_s = phx_clock_wall_s(),
                           .temperature = 1,
                           .top_p = 1};
    phx_code rc = PHX_OK;
    if (!phx_str_copy(text.dir, sizeof(text.dir), phx_str_of(model_dir))) {
        rc = PHX_FAIL(err, PHX_ERR_TOO_LONG, "the path of the model has more than %zu bytes",
                      sizeof(text.dir) - 1);
        goto out;
    }
    rc = copy_name(&text, name, err);
    if (rc == PHX_OK)
        rc = load_defaults(&text, err);
    if (rc == PHX_OK)
        rc = load_tokenizer(&text, err);
    if (rc != PHX_OK)
        goto out;
    for (int64_t i = 0; i < dims->n_eos; i++)
        add_eos(&text, dims->eos_ids[i]);
    if (text.tokenizer && phx_tokenizer_eos(text.tokenizer) != PHX_TOKEN_NONE)
        add_eos(&text, phx_tokenizer_eos(text.tokenizer));
    rc = find_chat(&text, dims, err);
    if (rc != PHX_OK)
        goto out;
    *ret_text = text;
    text.tokenizer = NULL;
out:
    phx_tokenizer_destroy(text.tokenizer);
    return rc;
}

void phx_model_text_done(phx_model_text *text)
{
    phx_tokenizer_destroy(text->tokenizer);
    *text = (phx_model_text){0};
}

/* The folder's name, when none is given. */
static phx_code copy_name(phx_model_text *text, const char *name, phx_error *err)
{
    phx_str from = phx_str_of(name && name[0] ? name : text->dir);
    if (!name || !name[0]) {
        while (from.n > 1 && from.ptr[from.n - 1] == '/')
            from.n--;
        for (size_t i = from.n; i > 0; i--) {
            if (from.ptr[i - 1] == '/' && i < from.n) {
                from = (phx_str){from.ptr + i, from.n - i};
                break;
            }
        }
        if (phx_str_is(from, ".") || phx_str_is(from, "..") || phx_str_is(from, "/") || from.n == 0)
            from = phx_str_of("model");
    }
    if (!phx_utf8_valid(from.ptr, from.n))
        return PHX_FAIL(err, PHX_ERR_INVALID,
                        "the model's name is not valid UTF-8: give one with --model-name");
    if (!phx_str_copy(text->name, sizeof(text->name), from))
        return PHX_FAIL(err, PHX_ERR_TOO_LONG,
                        "the model's name has more than %zu bytes: give one with --model-name",
                        sizeof(text->name) - 1);
    return PHX_OK;
}

static phx_code load_tokenizer(phx_model_text *text, phx_error *err)
{
    phx_error why = {0};
    const phx_code rc = phx_tokenizer_load(text->dir, &text->tokenizer, &why);
    if (rc == PHX_ERR_NOT_FOUND || rc == PHX_ERR_UNSUPPORTED) {
        text->tokenizer_error = why;
        return PHX_OK;
    }
    if (rc != PHX_OK && err)
        *err = why;
    return rc;
}

static phx_code find_chat(phx_model_text *text, const phx_dims *dims, phx_error *err)
{
    bool has_template = false;
    if (!text->tokenizer) {
        text->chat_error = text->tokenizer_error;
        return PHX_OK;
    }
    const phx_code rc = find_template(text->dir, &has_template, err);
    if (rc != PHX_OK)
        return rc;
    const phx_family *family = phx_family_find(dims->model_type);
    const phx_chat_probe probe = phx_chat_probe_of(
        text->tokenizer, phx_str_of(family ? family->name : dims->model_type), has_template);
    (void)phx_chat_format_find(&probe, &text->chat, &text->chat_error);
    return PHX_OK;
}

/* A template of the checkpoint's own, in either place where makers put it. A file that cannot be read is
 * the tokenizer's failure, which was reported; only a lack of memory is new. */
static phx_code find_template(const char *model_dir, bool *ret_has, phx_error *err)
{
    char path[4200];
    phx_json *root = NULL;
    phx_error why = {0};
    (void)snprintf(path, sizeof(path), "%s/chat_template.jinja", model_dir);
    if (phx_file_exists(path)) {
        *ret_has = true;
        return PHX_OK;
    }
    (void)snprintf(path, sizeof(path), "%s/tokenizer_config.json", model_dir);
    const phx_code rc = phx_json_parse_file(path, PHX_JSON_LIMITS_FILE, &root, &why);
    if (rc == PHX_ERR_NOMEM)
        return PHX_FAIL(err, rc, "%s", why.text);
    const phx_json *node = phx_json_get(root, "chat_template");
    *ret_has = node && phx_json_kind_of(node) != PHX_JSON_NULL;
    phx_json_destroy(root);
    return PHX_OK;
}

static void add_eos(phx_model_text *text, int64_t id)
{
    const uint32_t n_max = sizeof(text->eos_ids) / sizeof(text->eos_ids[0]);
    if (id < 0 || id >= (int64_t)text->n_vocab || text->n_eos == n_max)
        return;
    for (uint32_t i = 0; i < text->n_eos; i++) {
        if (text->eos_ids[i] == (uint32_t)id)
            return;
    }
    text->eos_ids[text->n_eos++] = (uint32_t)id;
}

/* temperature and top_p that the makers advise. */
static phx_code load_defaults(phx_model_text *text, phx_error *err)
{
    char path[4200];
    double value = 0;
    phx_json *root = NULL;
    phx_code rc = PHX_OK;
    (void)snprintf(path, sizeof(path), "%s/generation_config.json", text->dir);
    if (!phx_file_exists(path))
        goto out;
    rc = phx_json_parse_file(path, PHX_JSON_LIMITS_FILE, &root, err);
    if (rc != PHX_OK)
        goto out;
    if (phx_json_as_f64(phx_json_get(root, "temperature"), &value)) {
        if (!(value >= 0 && value <= (double)PHX_TEMPERATURE_MAX)) {
            rc = PHX_FAIL(err, PHX_ERR_INVALID, "%s: temperature %g is not between 0 and %g", path, value,
                          (double)PHX_TEMPERATURE_MAX);
            goto out;
        }
        text->temperature = (float)value;
    }
    if (phx_json_as_f64(phx_json_get(root, "top_p"), &value)) {
        if (!((float)value > 0 && value <= 1)) {
            rc = PHX_FAIL(err, PHX_ERR_INVALID, "%s: top_p %g is not above 0 and at most 1", path, value);
            goto out;
        }
        text->top_p = (float)value;
    }
out:
    phx_json_destroy(root);
    return rc;
}
