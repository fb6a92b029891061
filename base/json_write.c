/* base/json_write.c - JSON writing: commas, escapes and numbers. */
#include "base/json.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define PHX_JSON_WRITE_DEPTH_MAX 128u

void phx_json_writer_init(phx_json_writer *w, phx_buf *buf)
{
    *w = (phx_json_writer){.buf = buf};
}

static void before_value(phx_json_writer *w)
{
    const uint64_t bit = (uint64_t)1 << (w->depth & 63);
    uint64_t *word = &w->has_item[w->depth / 64];
    if (!w->after_key && (*word & bit))
        (void)phx_buf_char(w->buf, ',');
    *word |= bit;
    w->after_key = false;
}

static void open_level(phx_json_writer *w, char bracket)
{
    before_value(w);
    (void)phx_buf_char(w->buf, bracket);
    w->depth++;
    assert(w->depth < PHX_JSON_WRITE_DEPTH_MAX);
    w->has_item[w->depth / 64] &= ~((uint64_t)1 << (w->depth & 63));
}

static void close_level(phx_json_writer *w, char bracket)
{
    assert(w->depth > 0);
    w->depth--;
    (void)phx_buf_char(w->buf, bracket);
}

void phx_json_begin_object(phx_json_writer *w)
{
    open_level(w, '{');
}

void phx_json_end_object(phx_json_writer *w)
{
    close_level(w, '}');
}

void phx_json_begin_array(phx_json_writer *w)
{
    open_level(w, '[');
}

void phx_json_end_array(phx_json_writer *w)
{
    close_level(w, ']');
}

static void write_string(phx_buf *buf, phx_str value)
{
    (void)phx_buf_char(buf, '"');
    for (size_t i = 0; i < value.n;) {
        const unsigned char c = (unsigned char)value.ptr[i];
        const size_t n_char = c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
        if (c == '"' || c == '\\') {
            (void)phx_buf_printf(buf, "\\%c", c);
        } else if (c == '\n') {
            (void)phx_buf_str(buf, "\\n");
        } else if (c == '\r') {
            (void)phx_buf_str(buf, "\\r");
        } else if (c == '\t') {
            (void)phx_buf_str(buf, "\\t");
        } else if (c < 0x20) {
            (void)phx_buf_printf(buf, "\\u%04x", c);
        } else if (n_char > value.n - i || !phx_utf8_valid(value.ptr + i, n_char)) {
            (void)phx_buf_str(buf, "\xEF\xBF\xBD");
            i++;
            continue;
        } else {
            (void)phx_buf_append(buf, value.ptr + i, n_char);
        }
        i += n_char;
    }
    (void)phx_buf_char(buf, '"');
}

void phx_json_key_str(phx_json_writer *w, phx_str key)
{
    before_value(w);
    write_string(w->buf, key);
    (void)phx_buf_char(w->buf, ':');
    w->after_key = true;
}

void phx_json_key(phx_json_writer *w, const char *key)
{
    phx_json_key_str(w, phx_str_of(key));
}

void phx_json_str(phx_json_writer *w, phx_str value)
{
    before_value(w);
    write_string(w->buf, value);
}

void phx_json_text(phx_json_writer *w, const char *value)
{
    phx_json_str(w, phx_str_of(value));
}

void phx_json_i64(phx_json_writer *w, int64_t value)
{
    before_value(w);
    (void)phx_buf_printf(w->buf, "%lld", (long long)value);
}

void phx_json_u64(phx_json_writer *w, uint64_t value)
{
    before_value(w);
    (void)phx_buf_printf(w->buf, "%llu", (unsigned long long)value);
}

void phx_json_f64(phx_json_writer *w, double value)
{
    if (!isfinite(value)) {
        phx_json_null(w);
        return;
    }
    before_value(w);
    char text[40];
    for (int digits = 6; digits <= 17; digits++) {
        (void)snprintf(text, sizeof(text), "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    (void)phx_buf_str(w->buf, text);
    if (strcmp(text, "-0") == 0) /* a reader would take it for the whole number 0, without sign */
        (void)phx_buf_str(w->buf, ".0");
}

void phx_json_bool(phx_json_writer *w, bool value)
{
    before_value(w);
    (void)phx_buf_str(w->buf, value ? "true" : "false");
}

void phx_json_null(phx_json_writer *w)
{
    before_value(w);
    (void)phx_buf_str(w->buf, "null");
}

void phx_json_raw(phx_json_writer *w, phx_str json)
{
    before_value(w);
    (void)phx_buf_append(w->buf, json.ptr, json.n);
}

/* Recursion is bounded by the depth limit that the node was parsed under. */
void phx_json_node(phx_json_writer *w, const phx_json *node)
{
    phx_str text;
    int64_t integer;
    double real;
    bool flag;
    if (phx_json_as_str(node, &text)) {
        phx_json_str(w, text);
    } else if (phx_json_as_literal(node, &text)) {
        phx_json_raw(w, text);
    } else if (phx_json_as_i64(node, &integer)) {
        phx_json_i64(w, integer);
    } else if (phx_json_as_f64(node, &real)) {
        phx_json_f64(w, real);
    } else if (phx_json_as_bool(node, &flag)) {
        phx_json_bool(w, flag);
    } else if (phx_json_kind_of(node) == PHX_JSON_ARRAY) {
        phx_json_begin_array(w);
        for (size_t i = 0; i < phx_json_count(node); i++)
            phx_json_node(w, phx_json_at(node, i));
        phx_json_end_array(w);
    } else if (phx_json_kind_of(node) == PHX_JSON_OBJECT) {
        phx_json_begin_object(w);
        for (phx_json_member it = phx_json_first(node); it.value; it = phx_json_next(node, it)) {
            phx_json_key_str(w, it.key);
            phx_json_node(w, it.value);
        }
        phx_json_end_object(w);
    } else {
        phx_json_null(w);
    }
}
