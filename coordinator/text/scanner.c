/* coordinator/text/scanner.c - the known pre-tokenisers.
 * Owns: the table and the scanners. A new family is one row and one function.
 * Not here: character classes (unicode.h). */
#include "coordinator/text/scanner.h"
#include "coordinator/text/unicode.h"

static phx_scan_fn scan_deepseek_v3;
static phx_scan_fn scan_glm;
static phx_scan_fn scan_kimi;

/* The patterns are compared as text, so they stand here exactly as in the files, once JSON escapes are
 * undone: CR and LF are the characters themselves. */
static const phx_scanner scanners[] = {
    {"deepseek-v3",
     {"\\p{N}{1,3}", "[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+",
      "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
      "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"},
     scan_deepseek_v3},
    {"glm",
     {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
      "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
     scan_glm},
    {"kimi",
     {"[\\p{Han}]+|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]*"
      "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?"
      "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]*"
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| "
      "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
     scan_kimi},
};

#define N_SCANNERS (sizeof(scanners) / sizeof(scanners[0]))

const phx_scanner *phx_scanner_find(const phx_str *patterns, size_t n_patterns)
{
    for (size_t i = 0; i < N_SCANNERS; i++) {
        const char *const *known = scanners[i].patterns;
        size_t n = 0;
        while (n < n_patterns && known[n] && phx_str_is(patterns[n], known[n]))
            n++;
        if (n == n_patterns && !known[n])
            return &scanners[i];
    }
    return NULL;
}

const phx_scanner *phx_scanner_named(const char *name)
{
    for (size_t i = 0; i < N_SCANNERS; i++) {
        if (strcmp(name, scanners[i].name) == 0)
            return &scanners[i];
    }
    return NULL;
}

bool phx_scanner_knows(phx_str pattern)
{
    for (size_t i = 0; i < N_SCANNERS; i++) {
        for (size_t n = 0; scanners[i].patterns[n]; n++) {
            if (phx_str_is(pattern, scanners[i].patterns[n]))
                return true;
        }
    }
    return false;
}

/* One decoded character of a segment. n == 0: there is none, the segment ended. */
typedef struct character {
    uint32_t code_point;
    uint32_t flags;
    size_t n; /* bytes */
} character;

static character char_at(phx_str s, size_t at)
{
    character c = {0, 0, 0};
    if (at < s.n) {
        c.n = phx_utf8_decode(s.ptr + at, s.n - at, &c.code_point);
        c.flags = phx_char_flags(c.code_point);
    }
    return c;
}

static bool is_newline(character c)
{
    return c.n == 1 && (c.code_point == '\r' || c.code_point == '\n');
}

/* End of the run of characters with any of flags that starts at `at`. */
static size_t run_end(phx_str s, size_t at, uint32_t flags)
{
    for (;;) {
        const character c = char_at(s, at);
        if (!(c.flags & flags))
            return at;
        at += c.n;
    }
}

static size_t newlines_end(phx_str s, size_t at)
{
    while (at < s.n && (s.ptr[at] == '\r' || s.ptr[at] == '\n'))
        at++;
    return at;
}

/* \s*[\r\n]+|\s+(?!\S)|\s+ at a white space character. Greedy with back-tracking means: through the last line
 * break of the run if it has one; else all but the last character when something follows the run, so that one
 * space stays for the next word; else the run. */
static size_t spaces_end(phx_str s, size_t at)
{
    size_t last_start = at; /* of the run's last character */
    size_t break_end = at;  /* behind its last line break */
    size_t end = at;
    for (;;) {
        const character c = char_at(s, end);
        if (!(c.flags & PHX_CHAR_SPACE))
            break;
        last_start = end;
        end += c.n;
        if (is_newline(c))
            break_end = end;
    }
    if (break_end > at)
        return break_end;
    if (end < s.n && last_start > at)
        return last_start;
    return end;
}

static bool is_ascii_letter(character c)
{
    return c.n == 1 && (c.flags & PHX_CHAR_LETTER);
}

static bool is_ascii_sign(character c)
{
    return c.n == 1 && (c.flags & (PHX_CHAR_PUNCTUATION | PHX_CHAR_SYMBOL));
}

/* End of DeepSeek's third pattern at `at`, or `at` when it does not match there. */
static size_t deepseek_match(phx_str s, size_t at)
{
    const uint32_t word = PHX_CHAR_LETTER | PHX_CHAR_MARK;
    const uint32_t sign = PHX_CHAR_PUNCTUATION | PHX_CHAR_SYMBOL;
    const character c = char_at(s, at);
    const character next = char_at(s, at + c.n);

    if (is_ascii_sign(c) && is_ascii_letter(next)) {
        size_t end = at + c.n;
        while (is_ascii_letter(char_at(s, end)))
            end++;
        return end;
    }
    if (c.flags & word)
        return run_end(s, at, word);
    if ((next.flags & word) && !(c.flags & sign) && !is_newline(c))
        return run_end(s, at + c.n, word);
    if (c.flags & sign)
        return newlines_end(s, run_end(s, at, sign));
    if (c.code_point == ' ' && (next.flags & sign))
        return newlines_end(s, run_end(s, at + 1, sign));
    if (c.flags & PHX_CHAR_SPACE)
        return spaces_end(s, at);
    return at;
}

static phx_code put_range(phx_str s, size_t from, size_t to, const phx_piece_sink *sink, phx_error *err)
{
    if (from == to)
        return PHX_OK;
    return sink->put(sink->context, (phx_str){s.ptr + from, to - from}, err);
}

/* Third Split: what no branch matches stays together as a piece of its own. */
static phx_code deepseek_words(phx_str s, const phx_piece_sink *sink, phx_error *err)
{
    phx_code rc = PHX_OK;
    size_t gap = 0;
    size_t at = 0;
    while (rc == PHX_OK && at < s.n) {
        const size_t end = deepseek_match(s, at);
        if (end == at) {
            at += char_at(s, at).n;
            continue;
        }
        rc = put_range(s, gap, at, sink, err);
        if (rc == PHX_OK)
            rc = put_range(s, at, end, sink, err);
        at = end;
        gap = end;
    }
    return rc == PHX_OK ? put_range(s, gap, at, sink, err) : rc;
}

enum segment_kind { KIND_TEXT, KIND_NUMBER, KIND_CJK };

static enum segment_kind deepseek_kind(character c)
{
    if (c.flags & PHX_CHAR_NUMBER)
        return KIND_NUMBER;
    if ((c.code_point >= 0x4E00 && c.code_point <= 0x9FA5) ||
        (c.code_point >= 0x3040 && c.code_point <= 0x30FF))
        return KIND_CJK;
    return KIND_TEXT;
}

/* First and second Split in one walk: no character is both a number and in the CJK ranges. A run of numbers
 * is cut from the left in threes, and the third pattern leaves such a piece whole. */
static phx_code scan_deepseek_v3(phx_str s, const phx_piece_sink *sink, phx_error *err)
{
    phx_code rc = PHX_OK;
    size_t at = 0;
    while (rc == PHX_OK && at < s.n) {
        const enum segment_kind kind = deepseek_kind(char_at(s, at));
        size_t end = at;
        size_t n_chars = 0;
        while (end < s.n && !(kind == KIND_NUMBER && n_chars == 3)) {
            const character c = char_at(s, end);
            if (deepseek_kind(c) != kind)
                break;
            end += c.n;
            n_chars++;
        }
        if (kind == KIND_NUMBER)
            rc = put_range(s, at, end, sink, err);
        else
            rc = deepseek_words((phx_str){s.ptr + at, end - at}, sink, err);
        at = end;
    }
    return rc;
}

/* ---- GLM and Kimi: one pattern, in which every character belongs to some branch ---- */

static uint32_t ascii_lower(uint32_t c)
{
    return c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
}

/* End of (?i:'s|'t|'re|'ve|'m|'ll|'d) at `at`, or `at`. U+017F folds to s. */
static size_t contraction_end(phx_str s, size_t at)
{
    if (at >= s.n || s.ptr[at] != '\'')
        return at;
    const character first = char_at(s, at + 1);
    const character second = char_at(s, at + 1 + first.n);
    const uint32_t a = first.code_point == 0x17F ? 's' : ascii_lower(first.code_point);
    const uint32_t b = ascii_lower(second.code_point);
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return at + 1 + first.n;
    if (((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l'))
        return at + 1 + first.n + second.n;
    return at;
}

/* [^\r\n\p{L}\p{N}] */
static bool may_lead(character c)
{
    return c.n > 0 && !(c.flags & (PHX_CHAR_LETTER | PHX_CHAR_NUMBER)) && !is_newline(c);
}

/* [^\s\p{L}\p{N}] */
static bool is_other(character c)
{
    return c.n > 0 && !(c.flags & (PHX_CHAR_LETTER | PHX_CHAR_NUMBER | PHX_CHAR_SPACE));
}

/* The branches that both patterns end with, from \p{N}{1,3} on, at a character that no earlier one took. */
static size_t tail_end(phx_str s, size_t at)
{
    character c = char_at(s, at);
    if (c.flags & PHX_CHAR_NUMBER) {
        for (unsigned n = 0; n < 3 && (c.flags & PHX_CHAR_NUMBER); n++) {
            at += c.n;
            c = char_at(s, at);
        }
        return at;
    }
    const size_t first = c.code_point == ' ' ? at + 1 : at;
    size_t end = first;
    for (character o = char_at(s, end); is_other(o); o = char_at(s, end))
        end += o.n;
    return end > first ? newlines_end(s, end) : spaces_end(s, at);
}

static size_t glm_end(phx_str s, size_t at)
{
    const size_t contraction = contraction_end(s, at);
    if (contraction > at)
        return contraction;
    const character c = char_at(s, at);
    if (c.flags & PHX_CHAR_LETTER)
        return run_end(s, at, PHX_CHAR_LETTER);
    if (may_lead(c) && (char_at(s, at + c.n).flags & PHX_CHAR_LETTER))
        return run_end(s, at + c.n, PHX_CHAR_LETTER);
    return tail_end(s, at);
}

#define KIMI_UPPER (PHX_CHAR_UPPER | PHX_CHAR_OTHER_LETTER | PHX_CHAR_MARK)
#define KIMI_LOWER (PHX_CHAR_LOWER | PHX_CHAR_OTHER_LETTER | PHX_CHAR_MARK)

static bool is_class(character c, uint32_t flags)
{
    return (c.flags & flags) && !(c.flags & PHX_CHAR_HAN);
}

static size_t class_end(phx_str s, size_t at, uint32_t flags)
{
    for (character c = char_at(s, at); is_class(c, flags); c = char_at(s, at))
        at += c.n;
    return at;
}

/* UPPER*LOWER+ at `at`, or `at`. Letters without case are in both classes: when no small letter follows the
 * first run, it gives back what is behind its last letter that may also be the second run. */
static size_t small_word_end(phx_str s, size_t at)
{
    size_t end = at;
    size_t both_end = at;
    for (character c = char_at(s, end); is_class(c, KIMI_UPPER); c = char_at(s, end)) {
        end += c.n;
        if (is_class(c, KIMI_LOWER))
            both_end = end;
    }
    const size_t small_end = class_end(s, end, KIMI_LOWER);
    return small_end > end ? small_end : both_end;
}

/* UPPER+LOWER* at `at`, or `at`. */
static size_t large_word_end(phx_str s, size_t at)
{
    const size_t end = class_end(s, at, KIMI_UPPER);
    return end > at ? class_end(s, end, KIMI_LOWER) : at;
}

/* Second and third branch: with the leading character where that matches, else without. */
static size_t kimi_word_end(phx_str s, size_t at)
{
    const character c = char_at(s, at);
    const size_t starts[2] = {may_lead(c) ? at + c.n : at, at};
    for (unsigned i = 0; i < 2; i++) {
        const size_t end = small_word_end(s, starts[i]);
        if (end > starts[i])
            return contraction_end(s, end);
    }
    for (unsigned i = 0; i < 2; i++) {
        const size_t end = large_word_end(s, starts[i]);
        if (end > starts[i])
            return contraction_end(s, end);
    }
    return at;
}

static size_t kimi_end(phx_str s, size_t at)
{
    if (char_at(s, at).flags & PHX_CHAR_HAN)
        return run_end(s, at, PHX_CHAR_HAN);
    const size_t end = kimi_word_end(s, at);
    return end > at ? end : tail_end(s, at);
}

static phx_code scan_by(phx_str s, size_t (*end_at)(phx_str s, size_t at), const phx_piece_sink *sink,
                        phx_error *err)
{
    phx_code rc = PHX_OK;
    for (size_t at = 0; rc == PHX_OK && at < s.n;) {
        const size_t end = end_at(s, at);
        rc = put_range(s, at, end, sink, err);
        at = end;
    }
    return rc;
}

static phx_code scan_glm(phx_str s, const phx_piece_sink *sink, phx_error *err)
{
    return scan_by(s, glm_end, sink, err);
}

static phx_code scan_kimi(phx_str s, const phx_piece_sink *sink, phx_error *err)
{
    return scan_by(s, kimi_end, sink, err);
}
