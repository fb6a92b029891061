/* coordinator/text/scanner.c - the known pre-tokenisers.
 * Owns: the table and the scanners. A new family is one row and one function.
 * Not here: character classes (unicode.h). */
#include "coordinator/text/scanner.h"
#include "coordinator/text/unicode.h"

static phx_code scan_deepseek_v3(phx_str segment, const phx_piece_sink *sink, phx_error *err);

/* The patterns are compared as text, so they stand here exactly as in the files, once JSON escapes are
 * undone: CR and LF are the characters themselves. */
static const phx_scanner scanners[] = {
    {"deepseek-v3",
     {"\\p{N}{1,3}", "[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+",
      "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
      "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"},
     scan_deepseek_v3},
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
