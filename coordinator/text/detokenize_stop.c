/* coordinator/text/detokenize_stop.c - stop strings across the borders of chunks.
 * Owns: one Knuth-Morris-Pratt automaton per stop string. What is held back is the longest beginning of any
 * stop string that the text so far ends with. */
#include "coordinator/text/detokenize.h"
#include "base/alloc.h"

#include <assert.h>

typedef struct stop {
    uint8_t bytes[PHX_STOP_BYTES_MAX];
    uint16_t shorter[PHX_STOP_BYTES_MAX]; /* [i]: longest proper beginning that bytes[0..i] also ends with */
    uint16_t n;
    uint16_t n_matched; /* bytes at the end of the text that begin this stop */
} stop;

struct phx_stop_matcher {
    bool include_stop;
    uint32_t n_stops;
    uint32_t matched; /* or PHX_STOP_NONE */
    size_t n_held;
    uint8_t held[PHX_STOP_BYTES_MAX];
    stop stops[PHX_STOP_STRINGS_MAX];
};

/* n_matched is below s->n: after a whole match no more text is looked at. */
static uint16_t advance(const stop *s, uint16_t n_matched, uint8_t byte)
{
    assert(n_matched < s->n);
    while (n_matched > 0 && s->bytes[n_matched] != byte)
        n_matched = s->shorter[n_matched - 1];
    return s->bytes[n_matched] == byte ? (uint16_t)(n_matched + 1) : 0;
}

static phx_code stop_init(stop *s, phx_str text, phx_error *err)
{
    if (text.n == 0 || !phx_utf8_valid(text.ptr, text.n))
        return PHX_FAIL(err, PHX_ERR_INVALID, "a stop string is empty or not valid UTF-8");
    if (text.n > PHX_STOP_BYTES_MAX)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "a stop string of %zu bytes; the limit is %u", text.n,
                        PHX_STOP_BYTES_MAX);
    memcpy(s->bytes, text.ptr, text.n);
    s->n = (uint16_t)text.n;
    for (size_t i = 1; i < text.n; i++)
        s->shorter[i] = advance(s, s->shorter[i - 1], s->bytes[i]);
    return PHX_OK;
}

phx_code phx_stop_matcher_create(const phx_str *stops, size_t n_stops, bool include_stop,
                                 phx_stop_matcher **ret_matcher, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_stop_matcher *m = NULL;
    if (n_stops > PHX_STOP_STRINGS_MAX) {
        rc = PHX_FAIL(err, PHX_ERR_TOO_LONG, "%zu stop strings; the limit is %u", n_stops,
                      PHX_STOP_STRINGS_MAX);
        goto out;
    }
    m = phx_alloc(1, sizeof(*m));
    if (!m) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "stop strings");
        goto out;
    }
    m->include_stop = include_stop;
    m->matched = PHX_STOP_NONE;
    m->n_stops = (uint32_t)n_stops;
    for (size_t i = 0; i < n_stops; i++) {
        rc = stop_init(&m->stops[i], stops[i], err);
        if (rc != PHX_OK)
            goto out;
    }
    *ret_matcher = m;
    m = NULL;
out:
    phx_stop_matcher_destroy(m);
    return rc;
}

void phx_stop_matcher_destroy(phx_stop_matcher *matcher)
{
    phx_free(matcher);
}

/* Releases all held bytes but the last n_keep. */
static void release(phx_stop_matcher *m, size_t n_keep, phx_buf *out)
{
    const size_t n = m->n_held - n_keep;
    (void)phx_buf_append(out, m->held, n);
    memmove(m->held, m->held + n, n_keep);
    m->n_held = n_keep;
}

/* Moves all automata on by one byte. Returns the longest partial match; sets m->matched on a whole one. */
static size_t step(phx_stop_matcher *m, uint8_t byte)
{
    size_t n_longest = 0;
    size_t n_matched_bytes = 0;
    for (uint32_t i = 0; i < m->n_stops; i++) {
        stop *s = &m->stops[i];
        s->n_matched = advance(s, s->n_matched, byte);
        if (s->n_matched > n_longest)
            n_longest = s->n_matched;
        if (s->n_matched == s->n && s->n > n_matched_bytes) {
            m->matched = i;
            n_matched_bytes = s->n;
        }
    }
    return n_longest;
}

phx_code phx_stop_matcher_feed(phx_stop_matcher *m, phx_str text, phx_buf *out)
{
    if (m->n_stops == 0)
        return phx_buf_append(out, text.ptr, text.n);
    for (size_t i = 0; i < text.n && m->matched == PHX_STOP_NONE; i++) {
        const uint8_t byte = (uint8_t)text.ptr[i];
        const size_t n_keep = step(m, byte);
        /* A partial match grows by one byte at most, so what is kept of the old bytes is n_keep - 1. */
        release(m, n_keep > 0 ? n_keep - 1 : 0, out);
        if (n_keep > 0)
            m->held[m->n_held++] = byte;
        else
            (void)phx_buf_char(out, (char)byte);
    }
    if (m->matched != PHX_STOP_NONE && m->n_held > 0) {
        release(m, m->stops[m->matched].n, out); /* a longer partial match began earlier */
        if (m->include_stop)
            release(m, 0, out);
        m->n_held = 0;
    }
    return out->code;
}

phx_code phx_stop_matcher_flush(phx_stop_matcher *m, phx_buf *out)
{
    if (m->matched == PHX_STOP_NONE)
        release(m, 0, out);
    return out->code;
}

uint32_t phx_stop_matcher_match(const phx_stop_matcher *m)
{
    return m->matched;
}
