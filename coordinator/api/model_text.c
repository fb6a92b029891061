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
static phx_code find_chat(phx_model_text *text, const phx_model_text_from *from, phx_error *err);
static phx_code read_template(const char *model_dir, phx_buf *to, phx_error *err);
static void add_eos(phx_model_text *text, int64_t id);
static phx_code load_defaults(phx_model_text *text, phx_error *err);
static phx_code copy_name(phx_model_text *text, const char *name, phx_error *err);

phx_code phx_model_text_load(const phx_model_text_from *from, phx_model_text *ret_text, phx_error *err)
{
    const phx_dims *dims = from->dims;
    phx_model_text text = {.n_context = from->n_context,
                           .n_vocab = (uint32_t)dims->n_vocab,
                           .created_s = phx_clock_wall_s(),
                           .temperature = 1,
                           .top_p = 1};
    phx_code rc = PHX_OK;
    if (!phx_str_copy(text.dir, sizeof(text.dir), phx_str_of(from->model_dir))) {
        rc = PHX_FAIL(err, PHX_ERR_TOO_LONG, "the path of the model has more than %zu bytes",
                      sizeof(text.dir) - 1);
        goto out;
    }
    rc = copy_name(&text, from->name, err);
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
    rc = find_chat(&text, from, err);
    if (rc != PHX_OK)
        goto out;
    *ret_text = text;
    text.tokenizer = NULL;
    text.template = NULL;
out:
    phx_jinja_destroy(text.template);
    phx_tokenizer_destroy(text.tokenizer);
    return rc;
}

void phx_model_text_done(phx_model_text *text)
{
    phx_jinja_destroy(text->template);
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

/* The format that was asked for; PHX_OK and NULL: none was. */
static phx_code named_format(const phx_model_text_from *from, bool has_template,
                             const phx_chat_format **ret_format, phx_error *err)
{
    const char *name = from->chat_format;
    *ret_format = NULL;
    if (!name || !name[0] || strcmp(name, "auto") == 0)
        return PHX_OK;
    *ret_format = phx_chat_format_named(phx_str_of(name));
    if (!*ret_format)
        return PHX_FAIL(err, PHX_ERR_INVALID, "--chat-format: there is no format '%s'", name);
    if ((*ret_format)->uses_template && !has_template)
        return PHX_FAIL(
            err, PHX_ERR_INVALID,
            "--chat-format %s: '%s' has no chat template (chat_template.jinja or chat_template in "
            "tokenizer_config.json)",
            name, from->model_dir);
    return PHX_OK;
}

/* What the format needs of the checkpoint: its template, its end tokens. */
static void take_format(phx_model_text *text, phx_str template, const phx_error *unread)
{
    phx_error why = *unread;
    if (text->chat->uses_template && why.code == PHX_OK)
        (void)phx_jinja_parse(template, &text->template, &why);
    if (text->chat->uses_template && why.code != PHX_OK) {
        text->chat = NULL;
        (void)PHX_FAIL(&text->chat_error, why.code, "%s", why.text);
        return;
    }
    for (const char *const *stop = text->chat->stops; *stop; stop++) {
        uint32_t id = 0;
        if (phx_tokenizer_id_of(text->tokenizer, phx_str_of(*stop), &id))
            add_eos(text, id);
    }
}

static phx_code find_chat(phx_model_text *text, const phx_model_text_from *from, phx_error *err)
{
    phx_buf template;
    phx_error unread = {0}; /* of a template that is there and cannot be used: only chat is lost */
    if (!text->tokenizer) {
        text->chat_error = text->tokenizer_error;
        return PHX_OK;
    }
    phx_buf_init(&template, PHX_JINJA_TEMPLATE_BYTES_MAX);
    const phx_family *family = phx_family_find(from->dims->model_type);
    phx_code rc = read_template(text->dir, &template, &unread);
    if (rc == PHX_ERR_TOO_LONG || rc == PHX_ERR_INVALID)
        rc = PHX_OK;
    else if (rc != PHX_OK)
        (void)PHX_FAIL(err, rc, "%s", unread.text);
    const bool has_template = template.n > 0 || unread.code != PHX_OK;
    if (rc == PHX_OK)
        rc = named_format(from, has_template, &text->chat, err);
    const phx_chat_probe probe = phx_chat_probe_of(
        text->tokenizer, phx_str_of(family ? family->name : from->dims->model_type), has_template);
    if (rc == PHX_OK && !text->chat)
        (void)phx_chat_format_find(&probe, &text->chat, &text->chat_error);
    if (rc == PHX_OK && text->chat)
        take_format(text, phx_buf_view(&template), &unread);
    phx_buf_done(&template);
    return rc;
}

/* A text, or a list of named ones of which "default" is meant. */
static phx_str template_of(const phx_json *node)
{
    phx_str text = {"", 0};
    if (!node || phx_json_kind_of(node) != PHX_JSON_ARRAY) {
        (void)phx_json_as_str(node, &text);
        return text;
    }
    for (size_t i = 0; i < phx_json_count(node); i++) {
        phx_str name = {"", 0};
        const phx_json *one = phx_json_at(node, i);
        (void)phx_json_as_str(phx_json_get(one, "name"), &name);
        if (phx_str_is(name, "default"))
            (void)phx_json_as_str(phx_json_get(one, "template"), &text);
    }
    return text;
}

/* The checkpoint's own, in either place where makers put it; empty: there is none. PHX_ERR_TOO_LONG and
 * PHX_ERR_INVALID: it cannot be used. A tokenizer_config.json
 * that cannot be read is the tokenizer's failure, which was reported. */
static phx_code read_template(const char *model_dir, phx_buf *to, phx_error *err)
{
    char path[4200];
    phx_json *root = NULL;
    phx_buf file;
    phx_code rc = PHX_OK;
    phx_buf_init(&file, PHX_TOKENIZER_FILE_BYTES_MAX);
    (void)snprintf(path, sizeof(path), "%s/chat_template.jinja", model_dir);
    if (phx_file_exists(path)) {
        rc = phx_file_read(path, to, err);
        if (rc == PHX_OK && to->n == 0)
            rc = PHX_FAIL(err, PHX_ERR_INVALID, "the chat template '%s' is empty", path);
        goto out;
    }
    (void)snprintf(path, sizeof(path), "%s/tokenizer_config.json", model_dir);
    rc = phx_file_read(path, &file, err);
    if (rc != PHX_OK) {
        rc = rc == PHX_ERR_NOMEM ? rc : PHX_OK;
        goto out;
    }
    const phx_bytes json = {(const uint8_t *)file.ptr, file.n};
    rc = phx_json_parse(json, PHX_JSON_LIMITS_FILE, &root, NULL);
    if (rc != PHX_OK && rc != PHX_ERR_NOMEM)
        rc = PHX_OK;
    const phx_str template = template_of(phx_json_get(root, "chat_template"));
    if (rc == PHX_OK)
        rc = phx_buf_append(to, template.ptr, template.n);
    if (rc != PHX_OK)
        rc = PHX_FAIL(err, rc, "'%s': its chat_template of %zu bytes, the limit is %u", path, template.n,
                      PHX_JINJA_TEMPLATE_BYTES_MAX);
out:
    phx_json_destroy(root);
    phx_buf_done(&file);
    return rc;
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
