/* tests/fuzz/mutate.c - bit flips, cuts, repeats, splices, numbers and words of a dictionary. */
#include "tests/fuzz/mutate.h"

#include <ctype.h>

#include "base/alloc.h"
#include "base/rng.h"

#define MUTATIONS_MAX 8u

phx_code fuzz_set_add(fuzz_set *set, phx_bytes bytes)
{
    if (set->n_items == set->cap) {
        const size_t cap = set->cap ? 2 * set->cap : 64;
        fuzz_item *items = phx_realloc(set->items, cap, sizeof(*items));
        if (!items)
            return PHX_ERR_NOMEM;
        set->items = items;
        set->cap = cap;
    }
    uint8_t *copy = phx_alloc(bytes.n + 1, 1);
    if (!copy)
        return PHX_ERR_NOMEM;
    if (bytes.n)
        memcpy(copy, bytes.ptr, bytes.n);
    set->items[set->n_items++] = (fuzz_item){copy, bytes.n};
    return PHX_OK;
}

void fuzz_set_done(fuzz_set *set)
{
    for (size_t i = 0; i < set->n_items; i++)
        phx_free(set->items[i].ptr);
    phx_free(set->items);
    *set = (fuzz_set){0};
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Text between the quotes; false when an escape is wrong. */
static bool unescape(phx_str text, phx_buf *out)
{
    for (size_t i = 0; i < text.n; i++) {
        char c = text.ptr[i];
        if (c == '\\') {
            if (++i == text.n)
                return false;
            c = text.ptr[i];
            if (c == 'x') {
                const int high = i + 2 < text.n ? hex_digit(text.ptr[i + 1]) : -1;
                const int low = i + 2 < text.n ? hex_digit(text.ptr[i + 2]) : -1;
                if (high < 0 || low < 0)
                    return false;
                c = (char)(high * 16 + low);
                i += 2;
            } else if (c != '\\' && c != '"') {
                return false;
            }
        }
        (void)phx_buf_char(out, c);
    }
    return out->code == PHX_OK;
}

phx_code fuzz_read_dictionary(fuzz_set *words, phx_str text, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_buf word;
    phx_buf_init(&word, 4096);
    for (size_t at = 0, line_no = 1; at < text.n && rc == PHX_OK; line_no++) {
        const char *line = text.ptr + at;
        const char *end = memchr(line, '\n', text.n - at);
        const size_t n = end ? (size_t)(end - line) : text.n - at;
        const char *first = memchr(line, '"', n);
        const char *last = memrchr(line, '"', n);
        at += n + 1;
        if (n == 0 || line[0] == '#')
            continue;
        phx_buf_clear(&word);
        if (!first || first == last || !unescape((phx_str){first + 1, (size_t)(last - first) - 1}, &word))
            rc = PHX_FAIL(err, PHX_ERR_INVALID, "line %zu is not [name=]\"text\"", line_no);
        else
            rc = fuzz_set_add(words, (phx_bytes){(const uint8_t *)word.ptr, word.n});
    }
    phx_buf_done(&word);
    return rc;
}

/* ---- one mutation each; `data` always holds out->n bytes ---- */

/* Replaces n_old bytes at `at` by new ones; nothing happens when that would be too long. */
static void replace(phx_buf *out, size_t at, size_t n_old, phx_bytes bytes)
{
    const size_t n_tail = out->n - at - n_old;
    const size_t n_before = out->n;
    if (bytes.n > n_old) {
        const size_t n_more = bytes.n - n_old;
        if (n_before + n_more > out->n_max)
            return;
        for (size_t i = 0; i < n_more; i++)
            (void)phx_buf_char(out, 0);
        if (out->code != PHX_OK)
            return;
    }
    memmove(out->ptr + at + bytes.n, out->ptr + at + n_old, n_tail);
    if (bytes.n)
        memcpy(out->ptr + at, bytes.ptr, bytes.n);
    out->n = n_before - n_old + bytes.n;
}

static size_t place_in(phx_rng *rng, const phx_buf *out)
{
    return phx_rng_below(rng, (uint32_t)out->n + 1);
}

static size_t range_at(phx_rng *rng, const phx_buf *out, size_t at)
{
    const uint32_t n_left = (uint32_t)(out->n - at);
    const uint32_t n_max = phx_rng_below(rng, 4) == 0 ? n_left : n_left < 16 ? n_left : 16;
    return phx_rng_below(rng, n_max + 1);
}

static void put_number(phx_rng *rng, phx_buf *out)
{
    static const char *const texts[] = {"0",
                                        "-1",
                                        "1",
                                        "2",
                                        "7",
                                        "64",
                                        "255",
                                        "256",
                                        "65536",
                                        "2147483647",
                                        "2147483648",
                                        "4294967295",
                                        "4294967296",
                                        "9007199254740993",
                                        "9223372036854775807",
                                        "-9223372036854775808",
                                        "18446744073709551615",
                                        "18446744073709551616",
                                        "1e308",
                                        "1e999",
                                        "-0.0",
                                        "0.5",
                                        "1e-400",
                                        "99999999999999999999999999"};
    const size_t from = place_in(rng, out);
    for (size_t i = 0; i < out->n; i++) {
        const size_t at = (from + i) % out->n;
        size_t n = 0;
        while (at + n < out->n && isdigit((unsigned char)out->ptr[at + n]))
            n++;
        if (n == 0)
            continue;
        const char *text = texts[phx_rng_below(rng, sizeof(texts) / sizeof(texts[0]))];
        replace(out, at, n, (phx_bytes){(const uint8_t *)text, strlen(text)});
        return;
    }
}

static void put_word(const fuzz_source *source, phx_rng *rng, phx_buf *out)
{
    if (source->words.n_items == 0)
        return;
    const fuzz_item *word = &source->words.items[phx_rng_below(rng, (uint32_t)source->words.n_items)];
    const size_t at = place_in(rng, out);
    const size_t n_old = phx_rng_below(rng, 2) ? 0 : word->n < out->n - at ? word->n : out->n - at;
    replace(out, at, n_old, (phx_bytes){word->ptr, word->n});
}

/* A part of another seed put over a part of this one. */
static void splice(const fuzz_source *source, phx_rng *rng, phx_buf *out)
{
    const fuzz_item *other = &source->seeds.items[phx_rng_below(rng, (uint32_t)source->seeds.n_items)];
    const size_t from = phx_rng_below(rng, (uint32_t)other->n + 1);
    const size_t n = phx_rng_below(rng, (uint32_t)(other->n - from) + 1);
    const size_t at = place_in(rng, out);
    replace(out, at, range_at(rng, out, at), (phx_bytes){other->ptr + from, n});
}

static void repeat(phx_rng *rng, phx_buf *out)
{
    const size_t at = place_in(rng, out);
    const size_t n = range_at(rng, out, at);
    uint8_t part[256];
    const size_t n_part = n < sizeof(part) ? n : sizeof(part);
    if (n_part == 0)
        return;
    memcpy(part, out->ptr + at, n_part);
    for (uint32_t i = 1 + phx_rng_below(rng, phx_rng_below(rng, 8) == 0 ? 100 : 3); i > 0; i--)
        replace(out, at, 0, (phx_bytes){part, n_part});
}

static void mutate_bytes(phx_rng *rng, phx_buf *out)
{
    static const uint8_t bytes[] = {0,    1,   0x7F, 0x80, 0xFF, '"', '\\', '\n',
                                    '\r', '{', '[',  ' ',  ':',  '-', 0xEF, 0xC0};
    const size_t at = phx_rng_below(rng, (uint32_t)out->n);
    const uint32_t bits = (uint32_t)phx_rng_u64(rng);
    switch (bits & 3) {
    case 0:
        out->ptr[at] = (char)(out->ptr[at] ^ (1 << (bits >> 8 & 7)));
        break;
    case 1:
        out->ptr[at] = (char)(bits >> 8);
        break;
    case 2:
        out->ptr[at] = (char)bytes[(bits >> 8) % sizeof(bytes)];
        break;
    default:
        out->ptr[at] = (char)(out->ptr[at] + (bits & 0x100 ? 1 : -1));
        break;
    }
}

static void mutate_once(const fuzz_source *source, phx_rng *rng, phx_buf *out)
{
    const uint32_t kind = phx_rng_below(rng, 12);
    const size_t at = place_in(rng, out);
    if (out->n == 0 || kind == 0) {
        const uint8_t byte = (uint8_t)phx_rng_u64(rng);
        replace(out, at, 0, (phx_bytes){&byte, 1});
    } else if (kind <= 4) {
        mutate_bytes(rng, out);
    } else if (kind == 5) {
        replace(out, at, range_at(rng, out, at), (phx_bytes){NULL, 0});
    } else if (kind == 6) {
        repeat(rng, out);
    } else if (kind == 7) {
        splice(source, rng, out);
    } else if (kind == 8) {
        put_number(rng, out);
    } else if (kind == 9 && phx_rng_below(rng, 4) == 0) {
        out->n = at; /* truncation */
    } else {
        put_word(source, rng, out);
    }
}

void fuzz_mutate(const fuzz_source *source, uint64_t idx, phx_buf *out)
{
    phx_rng rng = {phx_rng_key(source->seed, idx, 0, 0), 0};
    phx_buf_clear(out);
    (void)phx_buf_str(out, "");
    if (source->seeds.n_items > 0) {
        const fuzz_item *seed = &source->seeds.items[phx_rng_below(&rng, (uint32_t)source->seeds.n_items)];
        const size_t n = seed->n < source->n_bytes_max ? seed->n : source->n_bytes_max;
        (void)phx_buf_append(out, seed->ptr, n);
    }
    const uint32_t n_mutations = 1 + phx_rng_below(&rng, MUTATIONS_MAX);
    for (uint32_t i = 0; i < n_mutations && source->seeds.n_items > 0; i++)
        mutate_once(source, &rng, out);
}
