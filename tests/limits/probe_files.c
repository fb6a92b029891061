/* tests/limits/probe_files.c - what lies in files: checkpoints, tokenizers, cluster.yaml. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/options.h"
#include "coordinator/text/jinja.h"
#include "coordinator/text/tokenizer.h"
#include "model/checkpoint_files.h"
#include "model/dims.h"
#include "tests/limits/maker.h"
#include "tests/limits/probes.h"

/* ---- config.json ---- */

static bool takes_config(phx_buf *text)
{
    char dir[64];
    phx_dims dims;
    make_folder(dir, sizeof(dir));
    make_file(dir, "config.json", text);
    const phx_code rc = phx_dims_load(dir, &dims, NULL);
    make_remove(dir);
    phx_buf_done(text);
    return rc == PHX_OK;
}

bool takes_PHX_CONFIG_BYTES_MAX(size_t n)
{
    phx_buf text;
    make_demo("config.json", &text);
    make_fill(&text, ' ', n - text.n);
    return takes_config(&text);
}

bool takes_PHX_CONFIG_DEPTH_MAX(size_t n)
{
    phx_buf demo, text;
    make_demo("config.json", &demo);
    make_start(&text, "{\"deep\":");
    make_fill(&text, '[', n - 1);
    make_fill(&text, ']', n - 1);
    (void)phx_buf_str(&text, ",");
    assert_int_equal(demo.ptr[0], '{');
    (void)phx_buf_append(&text, demo.ptr + 1, demo.n - 1);
    phx_buf_done(&demo);
    return takes_config(&text);
}

/* ---- safetensors ---- */

/* Not one of the shards is there, which is found out after they were counted. */
bool takes_PHX_SHARDS_MAX(size_t n)
{
    char dir[64];
    phx_buf text;
    phx_ck_files files = {0};
    make_folder(dir, sizeof(dir));
    make_demo("config.json", &text);
    make_file(dir, "config.json", &text);
    phx_buf_done(&text);
    make_start(&text, "{\"weight_map\":{");
    for (size_t i = 0; i < n; i++)
        (void)phx_buf_printf(&text, "%s\"t%zu\":\"m%zu.safetensors\"", i ? "," : "", i, i);
    (void)phx_buf_str(&text, "}}");
    make_file(dir, "model.safetensors.index.json", &text);
    const phx_code rc = phx_ck_files_open(&files, dir, NULL);
    assert_int_not_equal(rc, PHX_OK);
    phx_ck_files_close(&files);
    make_remove(dir);
    phx_buf_done(&text);
    return rc != PHX_ERR_TOO_LONG;
}

static bool takes_header(phx_buf *text)
{
    phx_st_file *file = NULL;
    const phx_code rc = phx_st_parse_header(make_bytes(text), 0, &file, NULL);
    phx_st_close(file);
    phx_buf_done(text);
    return rc == PHX_OK;
}

#define EMPTY "\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}"

bool takes_PHX_SAFETENSORS_HEAD_MAX(size_t n)
{
    phx_buf text;
    make_start(&text, "{\"a" EMPTY "}");
    make_fill(&text, ' ', n - text.n);
    return takes_header(&text);
}

bool takes_PHX_TENSOR_COUNT_MAX(size_t n)
{
    phx_buf text;
    make_start(&text, "{");
    make_list(&text, "\"t", n, EMPTY);
    (void)phx_buf_str(&text, "}");
    return takes_header(&text);
}

bool takes_PHX_TENSOR_DIMS_MAX(size_t n)
{
    phx_buf text;
    make_start(&text, "{\"a\":{\"dtype\":\"F32\",\"shape\":[");
    make_list(&text, "", n, "");
    (void)phx_buf_str(&text, "],\"data_offsets\":[0,0]}}");
    return takes_header(&text);
}

bool takes_PHX_TENSOR_NAME_MAX(size_t n)
{
    phx_buf text;
    make_start(&text, "{\"");
    make_fill(&text, 't', n);
    (void)phx_buf_str(&text, EMPTY "}");
    return takes_header(&text);
}

/* ---- tokenizer.json ---- */

static void put_before(phx_buf *text, const char **from, const char *mark, const phx_buf *more)
{
    const char *at = strstr(*from, mark);
    assert_non_null(at);
    at += strlen(mark);
    (void)phx_buf_append(text, *from, (size_t)(at - *from));
    if (more)
        (void)phx_buf_append(text, more->ptr, more->n);
    *from = at;
}

/* The demo's tokenizer with more at the start of its lists; a comma is behind each item. */
static void make_tokenizer(phx_buf *text, const phx_buf *added, const phx_buf *vocab, const phx_buf *merges)
{
    phx_buf demo;
    make_demo("tokenizer.json", &demo);
    (void)phx_buf_char(&demo, 0);
    const char *from = demo.ptr;
    make_start(text, "");
    put_before(text, &from, "\"added_tokens\": [", added);
    put_before(text, &from, "\"vocab\": {", vocab);
    put_before(text, &from, "\"merges\": [", merges);
    (void)phx_buf_str(text, from);
    phx_buf_done(&demo);
    assert_int_equal(text->code, PHX_OK);
}

static bool fits_tokenizer(phx_buf *text)
{
    phx_tokenizer *tokenizer = NULL;
    const phx_code rc = phx_tokenizer_parse(make_bytes(text), (phx_bytes){NULL, 0}, &tokenizer, NULL);
    phx_tokenizer_destroy(tokenizer);
    phx_buf_done(text);
    return rc == PHX_OK;
}

bool takes_PHX_TOKENIZER_FILE_BYTES_MAX(size_t n)
{
    phx_buf text;
    make_tokenizer(&text, NULL, NULL, NULL);
    make_fill(&text, ' ', n - text.n);
    return fits_tokenizer(&text);
}

bool takes_PHX_TOKENIZER_IDS_MAX(size_t n)
{
    phx_buf text, vocab;
    make_start(&vocab, "");
    (void)phx_buf_printf(&vocab, "\"last\":%zu,", n - 1);
    make_tokenizer(&text, NULL, &vocab, NULL);
    phx_buf_done(&vocab);
    return fits_tokenizer(&text);
}

/* They are counted before they are read: the first is no pair. */
bool takes_PHX_TOKENIZER_MERGES_MAX(size_t n)
{
    phx_buf demo, text, merges;
    phx_json *root = NULL;
    phx_tokenizer *tokenizer = NULL;
    make_demo("tokenizer.json", &demo);
    assert_int_equal(phx_json_parse(make_bytes(&demo), PHX_JSON_LIMITS_FILE, &root, NULL), PHX_OK);
    const size_t n_demo = phx_json_count(phx_json_get(phx_json_get(root, "model"), "merges"));
    phx_json_destroy(root);
    phx_buf_done(&demo);
    make_start(&merges, "");
    for (size_t i = n_demo; i < n; i++)
        (void)phx_buf_str(&merges, "0,");
    make_tokenizer(&text, NULL, NULL, &merges);
    phx_buf_done(&merges);
    const phx_code rc = phx_tokenizer_parse(make_bytes(&text), (phx_bytes){NULL, 0}, &tokenizer, NULL);
    phx_buf_done(&text);
    assert_int_not_equal(rc, PHX_OK);
    return rc != PHX_ERR_TOO_LONG;
}

bool takes_PHX_TOKENIZER_PIECE_BYTES_MAX(size_t n)
{
    phx_buf text, vocab;
    make_start(&vocab, "\"");
    make_fill(&vocab, 'x', n);
    (void)phx_buf_str(&vocab, "\":10000,");
    make_tokenizer(&text, NULL, &vocab, NULL);
    phx_buf_done(&vocab);
    return fits_tokenizer(&text);
}

bool takes_PHX_TOKENIZER_ADDED_MAX(size_t n)
{
    phx_buf text, added;
    const size_t n_demo = 23; /* added tokens of the demo */
    make_start(&added, "");
    for (size_t i = n_demo; i < n; i++)
        (void)phx_buf_printf(&added, "{\"id\":%zu,\"content\":\"<%zu>\"},", 10000 + i, i);
    make_tokenizer(&text, &added, NULL, NULL);
    phx_buf_done(&added);
    return fits_tokenizer(&text);
}

bool takes_PHX_TOKENIZER_ADDED_BYTES_MAX(size_t n)
{
    phx_buf text, added;
    make_start(&added, "{\"id\":10000,\"content\":\"");
    make_fill(&added, 'x', n);
    (void)phx_buf_str(&added, "\"},");
    make_tokenizer(&text, &added, NULL, NULL);
    phx_buf_done(&added);
    return fits_tokenizer(&text);
}

/* Room for four ids only, which is found out after the text was taken. */
bool takes_PHX_TOKENIZER_TEXT_BYTES_MAX(size_t n)
{
    phx_buf json, config, text;
    uint32_t ids[4];
    size_t n_ids = 0;
    phx_tokenizer *tokenizer = NULL;
    phx_error err = {0};
    make_demo("tokenizer.json", &json);
    make_demo("tokenizer_config.json", &config);
    assert_int_equal(phx_tokenizer_parse(make_bytes(&json), make_bytes(&config), &tokenizer, NULL), PHX_OK);
    make_start(&text, "");
    for (size_t i = 0; i < n; i++)
        (void)phx_buf_char(&text, i % 2 ? 'a' : ' ');
    const phx_encode_args args = {.text = phx_buf_view(&text), .ids = ids, .n_ids_max = 4};
    assert_int_equal(phx_tokenizer_encode(tokenizer, &args, &n_ids, &err), PHX_ERR_TOO_LONG);
    phx_tokenizer_destroy(tokenizer);
    phx_buf_done(&json);
    phx_buf_done(&config);
    phx_buf_done(&text);
    return strstr(err.text, "bytes") == NULL;
}

/* ---- chat template ---- */

static bool fits_template(phx_buf *text)
{
    phx_jinja *template = NULL;
    const phx_code rc = phx_jinja_parse(phx_buf_view(text), &template, NULL);
    phx_jinja_destroy(template);
    phx_buf_done(text);
    return rc == PHX_OK;
}

bool takes_PHX_JINJA_TEMPLATE_BYTES_MAX(size_t n)
{
    phx_buf text;
    make_start(&text, "");
    make_fill(&text, 'x', n);
    return fits_template(&text);
}

/* The template itself is a level, and so is each block. */
bool takes_PHX_JINJA_DEPTH_MAX(size_t n)
{
    phx_buf text;
    make_start(&text, "");
    for (size_t i = 1; i < n; i++)
        (void)phx_buf_str(&text, "{% set x %}");
    for (size_t i = 1; i < n; i++)
        (void)phx_buf_str(&text, "{% endset %}");
    return fits_template(&text);
}

/* ---- cluster.yaml ---- */

bool takes_PHX_OPTIONS_FILE_MAX(size_t n)
{
    phx_buf text;
    phx_options options;
    make_start(&text, "#");
    make_fill(&text, '#', n - 1);
    phx_options_init(&options);
    const phx_code rc = phx_options_parse_yaml(&options, phx_buf_view(&text), "test", NULL);
    phx_buf_done(&text);
    return rc == PHX_OK;
}
