/* coordinator/text/pyjson.c - JSON text as Python prints it. */
#include "coordinator/text/pyjson.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define DIGITS_MAX 17

static phx_code write_node(phx_buf *buf, const phx_json *node, uint32_t depth);
static phx_code write_array(phx_buf *buf, const phx_json *node, uint32_t depth);
static phx_code write_object(phx_buf *buf, const phx_json *node, uint32_t depth);
static void write_escape(phx_buf *buf, unsigned char c);
static bool shortest_digits(double magnitude, char digits[DIGITS_MAX + 1], int *ret_exponent);

phx_code phx_pyjson_node(phx_buf *buf, const phx_json *node)
{
    return write_node(buf, node, 0);
}

phx_code phx_pyjson_str(phx_buf *buf, phx_str value)
{
    (void)phx_buf_char(buf, '"');
    (void)phx_pyjson_str_body(buf, value);
    return phx_buf_char(buf, '"');
}

phx_code phx_pyjson_str_body(phx_buf *buf, phx_str value)
{
    size_t run = 0; /* start of the bytes that need no change */
    for (size_t i = 0; i < value.n;) {
        const unsigned char c = (unsigned char)value.ptr[i];
        const bool plain = c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
        const size_t n_char = c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
        if (plain || (c >= 0x80 && n_char <= value.n - i && phx_utf8_valid(value.ptr + i, n_char))) {
            i += n_char;
            continue;
        }
        (void)phx_buf_append(buf, value.ptr + run, i - run);
        if (c < 0x80)
            write_escape(buf, c);
        else
            (void)phx_buf_str(buf, "\xEF\xBF\xBD");
        run = ++i;
    }
    (void)phx_buf_append(buf, value.ptr + run, value.n - run);
    return buf->code;
}

phx_code phx_pyjson_f64(phx_buf *buf, double value)
{
    if (!isfinite(value))
        return phx_buf_str(buf, isnan(value) ? "NaN" : value < 0 ? "-Infinity" : "Infinity");
    if (signbit(value))
        (void)phx_buf_char(buf, '-');
    if (value == 0)
        return phx_buf_str(buf, "0.0");
    char digits[DIGITS_MAX + 1];
    int exponent; /* of the first digit */
    if (!shortest_digits(fabs(value), digits, &exponent))
        return phx_buf_printf(buf, "%.17g", fabs(value));
    const int n = (int)strlen(digits);
    if (exponent < -4 || exponent >= 16) {
        const char *point = n > 1 ? "." : "";
        return phx_buf_printf(buf, "%c%s%se%c%02d", digits[0], point, digits + 1, exponent < 0 ? '-' : '+',
                              abs(exponent));
    }
    if (exponent < 0)
        return phx_buf_printf(buf, "0.%.*s%s", -exponent - 1, "000", digits);
    if (n > exponent + 1)
        return phx_buf_printf(buf, "%.*s.%s", exponent + 1, digits, digits + exponent + 1);
    return phx_buf_printf(buf, "%s%.*s.0", digits, exponent + 1 - n, "000000000000000");
}

static phx_code write_node(phx_buf *buf, const phx_json *node, uint32_t depth)
{
    phx_str text;
    int64_t integer;
    double real;
    bool flag;
    if (depth > PHX_PYJSON_DEPTH_MAX && buf->code == PHX_OK)
        buf->code = PHX_ERR_TOO_LONG;
    if (buf->code != PHX_OK)
        return buf->code;
    if (phx_json_as_str(node, &text))
        return phx_pyjson_str(buf, text);
    if (phx_json_kind_of(node) == PHX_JSON_INT && phx_json_as_literal(node, &text))
        return phx_buf_append(buf, text.ptr, text.n);
    if (phx_json_as_i64(node, &integer))
        return phx_buf_printf(buf, "%lld", (long long)integer);
    if (phx_json_as_f64(node, &real))
        return phx_pyjson_f64(buf, real);
    if (phx_json_as_bool(node, &flag))
        return phx_buf_str(buf, flag ? "true" : "false");
    if (phx_json_kind_of(node) == PHX_JSON_ARRAY)
        return write_array(buf, node, depth);
    if (phx_json_kind_of(node) == PHX_JSON_OBJECT)
        return write_object(buf, node, depth);
    return phx_buf_str(buf, "null");
}

static phx_code write_array(phx_buf *buf, const phx_json *node, uint32_t depth)
{
    (void)phx_buf_char(buf, '[');
    for (size_t i = 0; i < phx_json_count(node); i++) {
        if (i)
            (void)phx_buf_str(buf, ", ");
        (void)write_node(buf, phx_json_at(node, i), depth + 1);
    }
    return phx_buf_char(buf, ']');
}

static phx_code write_object(phx_buf *buf, const phx_json *node, uint32_t depth)
{
    bool first = true;
    (void)phx_buf_char(buf, '{');
    for (phx_json_member it = phx_json_first(node); it.value; it = phx_json_next(node, it)) {
        if (!first)
            (void)phx_buf_str(buf, ", ");
        first = false;
        (void)phx_pyjson_str(buf, it.key);
        (void)phx_buf_str(buf, ": ");
        (void)write_node(buf, it.value, depth + 1);
    }
    return phx_buf_char(buf, '}');
}

static void write_escape(phx_buf *buf, unsigned char c)
{
    static const char from[] = "\"\\\n\r\t\b\f";
    static const char to[] = "\"\\nrtbf";
    const char *found = c ? strchr(from, c) : NULL;
    if (found)
        (void)phx_buf_printf(buf, "\\%c", to[found - from]);
    else
        (void)phx_buf_printf(buf, "\\u%04x", c);
}

/* Adds one to the last of the decimal digits; false when that would need another digit. */
static bool round_up(char *digits)
{
    for (size_t i = strlen(digits); i-- > 0;) {
        if (digits[i] != '9') {
            digits[i]++;
            return true;
        }
        digits[i] = '0';
    }
    return false;
}

static bool reads_back(const char *digits, int exponent, double value)
{
    char text[40];
    (void)snprintf(text, sizeof(text), "%c.%se%d", digits[0], digits + 1, exponent);
    return strtod(text, NULL) == value;
}

/* Below a power of two the neighbour is nearer than above it, so the best shortest digits may be the ones
 * rounded up although rounding to nearest gives the others: both are tried at every length. */
static bool shortest_digits(double magnitude, char digits[DIGITS_MAX + 1], int *ret_exponent)
{
    for (int n = 1; n <= DIGITS_MAX; n++) {
        char text[40];
        (void)snprintf(text, sizeof(text), "%.*e", n - 1, magnitude);
        const char *mark = strchr(text, 'e');
        const int exponent = (int)strtol(mark + 1, NULL, 10);
        size_t used = 0;
        for (const char *at = text; at < mark; at++)
            if (*at != '.')
                digits[used++] = *at;
        digits[used] = 0;
        if (reads_back(digits, exponent, magnitude) ||
            (round_up(digits) && reads_back(digits, exponent, magnitude))) {
            *ret_exponent = exponent;
            return true;
        }
    }
    return false;
}
