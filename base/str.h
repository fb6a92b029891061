/* base/str.h - borrowed views of text and bytes.
 * Owns: nothing; a view never frees. Growing text is base/buf.h. */
#ifndef PHX_BASE_STR_H
#define PHX_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct phx_str {
    const char *ptr; /* not terminated */
    size_t n;        /* bytes */
} phx_str;

typedef struct phx_bytes {
    const uint8_t *ptr;
    size_t n;
} phx_bytes;

/* For printf("%.*s", PHX_STR_ARG(s)). */
#define PHX_STR_ARG(s) ((int)((s).n > 4096 ? 4096 : (s).n)), (s).ptr

static inline phx_str phx_str_of(const char *text)
{
    return (phx_str){text, text ? strlen(text) : 0};
}

static inline bool phx_str_eq(phx_str a, phx_str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.ptr, b.ptr, a.n) == 0);
}

static inline bool phx_str_is(phx_str a, const char *text)
{
    return phx_str_eq(a, phx_str_of(text));
}

static inline bool phx_str_starts(phx_str a, phx_str prefix)
{
    return a.n >= prefix.n && (prefix.n == 0 || memcmp(a.ptr, prefix.ptr, prefix.n) == 0);
}

static inline bool phx_str_ends(phx_str a, phx_str suffix)
{
    return a.n >= suffix.n && (suffix.n == 0 || memcmp(a.ptr + a.n - suffix.n, suffix.ptr, suffix.n) == 0);
}

/* For tables of ours: anyone can make two texts that meet. */
uint32_t phx_str_hash(phx_str text);

/* Copies into a caller's array, always terminated; false when it did not fit (then cut). */
bool phx_str_copy(char *to, size_t to_bytes, phx_str from);

/* Whole text must be a number in [min, max]; ret_value untouched otherwise. */
bool phx_str_to_u64(phx_str text, uint64_t min, uint64_t max, uint64_t *ret_value);
bool phx_str_to_i64(phx_str text, int64_t min, int64_t max, int64_t *ret_value);
bool phx_str_to_f64(phx_str text, double *ret_value);

/* "64M", "1.5G", "4096": bytes with optional K M G T (1024) or kB MB GB TB (1000) suffix. */
bool phx_str_to_bytes(phx_str text, uint64_t *ret_bytes);

/* True when the bytes are well-formed UTF-8 (no surrogates, no overlong forms). */
bool phx_utf8_valid(const char *ptr, size_t n);

#endif
