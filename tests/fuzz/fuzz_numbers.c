/* tests/fuzz/fuzz_numbers.c - numbers, sizes and UTF-8 in base/str.h, each against a method of its own. */
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define TEXT_BYTES 64

/* One code point at a time, by its value. */
static bool utf8_valid_slowly(const uint8_t *p, size_t n)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    for (size_t at = 0; at < n;) {
        const uint8_t c = p[at];
        const size_t n_char = c < 0x80 ? 1 : c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : 2;
        uint32_t point = n_char == 1 ? c : c & (0xFFu >> (n_char + 1));
        if ((c >= 0x80 && c < 0xC0) || c >= 0xF8 || n - at < n_char)
            return false;
        for (size_t i = 1; i < n_char; i++) {
            if ((p[at + i] & 0xC0) != 0x80)
                return false;
            point = point << 6 | (p[at + i] & 0x3Fu);
        }
        if (point < least[n_char] || point > 0x10FFFF || (point >= 0xD800 && point < 0xE000))
            return false;
        at += n_char;
    }
    return true;
}

static void check_integers(phx_str text, const char *terminated)
{
    uint64_t u = 0;
    int64_t i = 0;
    char *end;
    if (phx_str_to_u64(text, 3, UINT64_MAX - 1, &u)) {
        errno = 0;
        FUZZ_CHECK(strtoull(terminated, &end, 10) == u && errno == 0 && !*end);
        FUZZ_CHECK(u >= 3 && u <= UINT64_MAX - 1);
    }
    if (phx_str_to_i64(text, INT64_MIN, INT64_MAX, &i)) {
        errno = 0;
        FUZZ_CHECK(strtoll(terminated, &end, 10) == i && errno == 0 && !*end);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    const phx_str text = {(const char *)data, n_bytes};
    char terminated[TEXT_BYTES];
    double real = 0;
    uint64_t n_size = 0;
    FUZZ_CHECK(phx_utf8_valid(text.ptr, text.n) == utf8_valid_slowly(data, n_bytes));
    const bool fits = phx_str_copy(terminated, sizeof(terminated), text);
    FUZZ_CHECK(fits == (text.n < sizeof(terminated)));
    if (fits)
        check_integers(text, terminated);
    if (phx_str_to_f64(text, &real) && fits) {
        char *end;
        FUZZ_CHECK(strtod(terminated, &end) == real || isnan(real));
        FUZZ_CHECK(!*end);
    }
    if (phx_str_to_bytes(text, &n_size)) {
        char plain[TEXT_BYTES];
        uint64_t again = 0;
        const int n = snprintf(plain, sizeof(plain), "%llu", (unsigned long long)n_size);
        FUZZ_CHECK(phx_str_to_bytes((phx_str){plain, (size_t)n}, &again) && again == n_size);
    }
    return 0;
}
