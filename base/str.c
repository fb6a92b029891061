/* base/str.c - numbers and UTF-8 out of borrowed text. */
#include "base/str.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/rng.h"

uint32_t phx_str_hash(phx_str text)
{
    uint64_t h = 0xCBF29CE484222325u; /* FNV-1a */
    for (size_t i = 0; i < text.n; i++)
        h = (h ^ (uint8_t)text.ptr[i]) * 0x100000001B3u;
    return (uint32_t)(phx_rng_mix(h) >> 32);
}

bool phx_str_copy(char *to, size_t to_bytes, phx_str from)
{
    if (to_bytes == 0)
        return false;
    const size_t n = from.n < to_bytes - 1 ? from.n : to_bytes - 1;
    if (n)
        memcpy(to, from.ptr, n);
    to[n] = 0;
    return n == from.n;
}

bool phx_str_to_u64(phx_str text, uint64_t min, uint64_t max, uint64_t *ret_value)
{
    uint64_t value = 0;
    if (text.n == 0)
        return false;
    for (size_t i = 0; i < text.n; i++) {
        const unsigned digit = (unsigned)(unsigned char)text.ptr[i] - '0';
        if (digit > 9 || value > (UINT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    if (value < min || value > max)
        return false;
    *ret_value = value;
    return true;
}

bool phx_str_to_i64(phx_str text, int64_t min, int64_t max, int64_t *ret_value)
{
    const bool negative = text.n > 0 && text.ptr[0] == '-';
    const phx_str digits = {text.ptr + negative, text.n - negative};
    uint64_t magnitude;
    if (!phx_str_to_u64(digits, 0, (uint64_t)INT64_MAX, &magnitude))
        return false;
    const int64_t value = negative ? -(int64_t)magnitude : (int64_t)magnitude;
    if (value < min || value > max)
        return false;
    *ret_value = value;
    return true;
}

bool phx_str_to_f64(phx_str text, double *ret_value)
{
    char copy[64];
    char *end = NULL;
    if (text.n == 0 || text.n >= sizeof(copy) || text.ptr[0] == ' ' || text.ptr[0] == '\t')
        return false;
    (void)phx_str_copy(copy, sizeof(copy), text);
    const double value = strtod(copy, &end);
    if (*end != 0 || !isfinite(value))
        return false;
    *ret_value = value;
    return true;
}

bool phx_str_to_bytes(phx_str text, uint64_t *ret_bytes)
{
    static const char units[] = "KMGT";
    double unit = 1.0;
    const bool decimal = text.n > 2 && text.ptr[text.n - 1] == 'B';
    phx_str number = {text.ptr, decimal ? text.n - 1 : text.n};
    if (number.n > 1) {
        const char last = number.ptr[number.n - 1];
        const char *found = strchr(units, last == 'k' ? 'K' : last);
        if (found && last) {
            unit = pow(decimal ? 1000.0 : 1024.0, (double)(found - units + 1));
            number.n--;
        }
    }
    double value;
    if (!phx_str_to_f64(number, &value) || value < 0 || value * unit >= 9.2e18)
        return false;
    *ret_bytes = (uint64_t)(value * unit);
    return true;
}

bool phx_utf8_valid(const char *ptr, size_t n)
{
    const unsigned char *s = (const unsigned char *)ptr;
    for (size_t i = 0; i < n;) {
        const unsigned char c = s[i];
        size_t extra = c < 0x80             ? 0
                       : (c & 0xE0) == 0xC0 ? 1
                       : (c & 0xF0) == 0xE0 ? 2
                       : (c & 0xF8) == 0xF0 ? 3
                                            : 9;
        if (extra == 9 || extra >= n - i)
            return false;
        uint32_t point = extra == 0 ? c : c & (0x3Fu >> extra);
        for (size_t j = 1; j <= extra; j++) {
            if ((s[i + j] & 0xC0) != 0x80)
                return false;
            point = point << 6 | (s[i + j] & 0x3F);
        }
        static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
        if (point < least[extra] || point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF))
            return false;
        i += extra + 1;
    }
    return true;
}
