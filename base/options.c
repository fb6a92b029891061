/* base/options.c - the table as data, and checking one value against its row. */
#include "base/options_table.h"

#include <assert.h>
#include <stdio.h>

static const phx_option_row rows[] = {
#define PHX_OPTION(field, key, kind, value, limits, scope, meta, help)                 \
    {key,  PHX_OPTION_KIND_##kind,      PHX_OPTION_SCOPE_##scope, value, limits, meta, \
     help, offsetof(phx_options, field)},
#include "base/options.list"
#undef PHX_OPTION
};

const phx_option_row *phx_option_row_of(phx_option option)
{
    assert((size_t)option < PHX_OPTION_COUNT);
    return &rows[option];
}

const char *phx_option_key(phx_option option)
{
    return phx_option_row_of(option)->key;
}

bool phx_option_find(phx_str key, phx_option *ret_option)
{
    for (size_t i = 0; i < PHX_OPTION_COUNT; i++) {
        if (phx_str_is(key, rows[i].key)) {
            *ret_option = (phx_option)i;
            return true;
        }
    }
    return false;
}

void phx_options_init(phx_options *options)
{
    *options = (phx_options){0};
    for (size_t i = 0; i < PHX_OPTION_COUNT; i++) {
        phx_error err = {0};
        const phx_code rc =
            phx_options_set(options, (phx_option)i, phx_str_of(rows[i].value), PHX_OPTION_DEFAULT, &err);
        assert(rc == PHX_OK); /* a row whose default breaks its own limits is our mistake */
        (void)rc;
    }
}

static phx_code refuse(const phx_option_row *row, phx_str value, const char *allowed, phx_error *err)
{
    return PHX_FAIL(err, PHX_ERR_INVALID, "%s cannot be '%.*s': %s", row->key,
                    (int)(value.n > 80 ? 80 : value.n), value.ptr, allowed);
}

static bool is_choice(const char *choices, phx_str value)
{
    const char *at = choices;
    while (*at) {
        const size_t n = strcspn(at, "|");
        if (phx_str_eq((phx_str){at, n}, value))
            return true;
        at += n + (at[n] == '|');
    }
    return false;
}

static phx_code set_count(const phx_option_row *row, phx_str value, uint32_t *ret_field, phx_error *err)
{
    char allowed[64];
    uint64_t least = 0;
    uint64_t most = UINT32_MAX;
    const char *dots = strstr(row->limits, "..");
    assert(dots);
    const bool least_ok =
        phx_str_to_u64((phx_str){row->limits, (size_t)(dots - row->limits)}, 0, UINT32_MAX, &least);
    const bool most_ok = phx_str_to_u64(phx_str_of(dots + 2), 0, UINT32_MAX, &most);
    assert(least_ok);
    assert(most_ok);
    (void)least_ok;
    (void)most_ok;
    uint64_t number = 0;
    if (!phx_str_to_u64(value, least, most, &number)) {
        (void)snprintf(allowed, sizeof(allowed), "a number from %llu to %llu", (unsigned long long)least,
                       (unsigned long long)most);
        return refuse(row, value, allowed, err);
    }
    *ret_field = (uint32_t)number;
    return PHX_OK;
}

static phx_code set_text(const phx_option_row *row, phx_str value, char *field, phx_error *err)
{
    if (value.n >= PHX_OPTION_TEXT_BYTES)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "%s is %zu bytes long, at most %u are allowed", row->key,
                        value.n, PHX_OPTION_TEXT_BYTES - 1);
    for (size_t i = 0; i < value.n; i++) {
        const unsigned char c = (unsigned char)value.ptr[i];
        if (c < 0x20 || c == 0x7F)
            return PHX_FAIL(err, PHX_ERR_INVALID, "%s holds the control character 0x%02x at byte %zu",
                            row->key, c, i);
    }
    (void)phx_str_copy(field, PHX_OPTION_TEXT_BYTES, value);
    return PHX_OK;
}

static phx_code set_switch(const phx_option_row *row, phx_str value, bool *ret_field, phx_error *err)
{
    const bool on = phx_str_is(value, "on") || phx_str_is(value, "true");
    if (!on && !phx_str_is(value, "off") && !phx_str_is(value, "false"))
        return refuse(row, value, "on or off", err);
    *ret_field = on;
    return PHX_OK;
}

static phx_code set_field(const phx_option_row *row, phx_str value, void *field, phx_error *err)
{
    char allowed[96];
    switch (row->kind) {
    case PHX_OPTION_KIND_TEXT:
        return set_text(row, value, field, err);
    case PHX_OPTION_KIND_CHOICE:
        if (!is_choice(row->limits, value)) {
            (void)snprintf(allowed, sizeof(allowed), "one of %s", row->limits);
            return refuse(row, value, allowed, err);
        }
        (void)phx_str_copy(field, PHX_OPTION_CHOICE_BYTES, value);
        return PHX_OK;
    case PHX_OPTION_KIND_COUNT:
        return set_count(row, value, field, err);
    case PHX_OPTION_KIND_BYTES:
        if (!phx_str_to_bytes(value, field))
            return refuse(row, value, "a size such as 900M, 24G or 24GB", err);
        return PHX_OK;
    case PHX_OPTION_KIND_SWITCH:
    case PHX_OPTION_KIND_FLAG:
        return set_switch(row, value, field, err);
    }
    return PHX_FAIL(err, PHX_ERR_INTERNAL, "%s has no kind", row->key);
}

phx_code phx_options_set(phx_options *options, phx_option option, phx_str value, phx_option_source source,
                         phx_error *err)
{
    const phx_option_row *row = phx_option_row_of(option);
    /* Checked even when a stronger source wins: a wrong line of a file is an error in any case. */
    phx_options unused;
    const bool wins = source >= (phx_option_source)options->source[option];
    void *field = (char *)(wins ? options : &unused) + row->offset;
    const phx_code rc = set_field(row, value, field, err);
    if (rc == PHX_OK && wins)
        options->source[option] = (uint8_t)source;
    return rc;
}

void phx_options_value(const phx_options *options, phx_option option, phx_buf *buf)
{
    const phx_option_row *row = phx_option_row_of(option);
    const void *field = (const char *)options + row->offset;
    switch (row->kind) {
    case PHX_OPTION_KIND_TEXT:
    case PHX_OPTION_KIND_CHOICE:
        phx_buf_str(buf, field);
        break;
    case PHX_OPTION_KIND_COUNT:
        phx_buf_printf(buf, "%u", *(const uint32_t *)field);
        break;
    case PHX_OPTION_KIND_BYTES:
        phx_buf_printf(buf, "%llu", (unsigned long long)*(const uint64_t *)field);
        break;
    case PHX_OPTION_KIND_SWITCH:
    case PHX_OPTION_KIND_FLAG:
        phx_buf_str(buf, *(const bool *)field ? "on" : "off");
        break;
    }
}

#define KEY_CHARS_MAX 32u

/* Levenshtein's distance over one row of the table; texts above KEY_CHARS_MAX are never near. */
static size_t distance(phx_str a, phx_str b)
{
    size_t best[KEY_CHARS_MAX + 1];
    if (a.n > KEY_CHARS_MAX || b.n > KEY_CHARS_MAX)
        return SIZE_MAX;
    for (size_t j = 0; j <= b.n; j++)
        best[j] = j;
    for (size_t i = 1; i <= a.n; i++) {
        size_t diagonal = best[0];
        best[0] = i;
        for (size_t j = 1; j <= b.n; j++) {
            const size_t replaced = diagonal + (a.ptr[i - 1] != b.ptr[j - 1]);
            const size_t dropped = (best[j] < best[j - 1] ? best[j] : best[j - 1]) + 1;
            diagonal = best[j];
            best[j] = replaced < dropped ? replaced : dropped;
        }
    }
    return best[b.n];
}

const char *phx_option_nearest(phx_str key)
{
    const char *nearest = NULL;
    size_t least = key.n < 4 ? 2 : 1 + key.n / 3; /* a distance this large or larger helps nobody */
    for (size_t i = 0; i < PHX_OPTION_COUNT; i++) {
        const size_t d = distance(key, phx_str_of(rows[i].key));
        if (d < least) {
            least = d;
            nearest = rows[i].key;
        }
    }
    return nearest;
}
