/* tests/fuzz/fuzz_detokenize.c - ids to text to stop strings: any cut gives what one piece gives.
 * Input: 1 byte of switches, 1 byte of cuts, one line per stop string (number in the switches), then ids of
 * 2 bytes. */
#include "tests/fuzz/demo.h"
#include "tests/fuzz/fuzz.h"

#include "coordinator/text/detokenize.h"

#define STOPS_MAX 4

typedef struct stops {
    phx_str texts[STOPS_MAX];
    size_t n;
    bool include;
} stops;

/* The match that ends first, of those the longest, searched the slow way. */
static phx_str search(phx_str text, const stops *s, uint32_t *ret_idx)
{
    for (size_t end = 1; end <= text.n; end++) {
        const phx_str head = {text.ptr, end};
        size_t n_best = 0;
        for (size_t i = 0; i < s->n; i++) {
            if (s->texts[i].n > n_best && phx_str_ends(head, s->texts[i])) {
                n_best = s->texts[i].n;
                *ret_idx = (uint32_t)i;
            }
        }
        if (n_best > 0)
            return (phx_str){text.ptr, s->include ? end : end - n_best};
    }
    *ret_idx = PHX_STOP_NONE;
    return text;
}

/* Whole characters only: a cut moves to the next beginning of one. */
static size_t whole_characters(phx_str text, size_t n)
{
    while (n < text.n && ((unsigned char)text.ptr[n] & 0xC0) == 0x80)
        n++;
    return n;
}

static void check_stops(phx_str text, const stops *s, fuzz_cuts cuts)
{
    phx_stop_matcher *matcher = NULL;
    phx_error err = {0};
    phx_buf out;
    uint32_t want_idx = PHX_STOP_NONE;
    const phx_code rc = phx_stop_matcher_create(s->texts, s->n, s->include, &matcher, &err);
    if (rc != PHX_OK) {
        fuzz_check_refusal(rc, &err);
        return;
    }
    phx_buf_init(&out, 1u << 24);
    for (size_t at = 0; at < text.n;) {
        const phx_str rest = {text.ptr + at, text.n - at};
        const size_t n = whole_characters(rest, fuzz_next_cut(&cuts, rest.n));
        const size_t n_before = out.n;
        FUZZ_CHECK(phx_stop_matcher_feed(matcher, (phx_str){rest.ptr, n}, &out) == PHX_OK);
        FUZZ_CHECK(out.n == n_before || phx_utf8_valid(out.ptr + n_before, out.n - n_before));
        at += n;
    }
    FUZZ_CHECK(phx_stop_matcher_flush(matcher, &out) == PHX_OK);
    const phx_str want = search(text, s, &want_idx);
    FUZZ_CHECK(phx_str_eq(phx_buf_view(&out), want));
    const uint32_t got_idx = phx_stop_matcher_match(matcher);
    FUZZ_CHECK((got_idx == PHX_STOP_NONE) == (want_idx == PHX_STOP_NONE));
    if (want_idx != PHX_STOP_NONE) /* equal texts may be given twice */
        FUZZ_CHECK(got_idx < s->n && phx_str_eq(s->texts[got_idx], s->texts[want_idx]));
    phx_buf_done(&out);
    phx_stop_matcher_destroy(matcher);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    const phx_tokenizer *tokenizer = fuzz_demo_tokenizer();
    fuzz_tape tape = {data, n_bytes};
    const uint8_t bits = fuzz_u8(&tape);
    const fuzz_cuts cuts = {fuzz_u8(&tape), 0};
    stops s = {.n = bits & 3, .include = bits & 4};
    phx_detokenizer d;
    phx_buf text;
    phx_buf raw;
    for (size_t i = 0; i < s.n; i++)
        s.texts[i] = fuzz_str(fuzz_line(&tape));
    phx_buf_init(&text, 1u << 24);
    phx_buf_init(&raw, 1u << 24);
    phx_detokenizer_init(&d, tokenizer, bits & 8);
    while (tape.n > 0) {
        const uint32_t low = fuzz_u8(&tape);
        const uint32_t id = (low | (uint32_t)fuzz_u8(&tape) << 8) % (phx_tokenizer_n_vocab(tokenizer) + 8);
        const size_t n_before = text.n;
        phx_str piece = {0};
        FUZZ_CHECK(phx_detokenizer_feed(&d, id, &text) == PHX_OK);
        FUZZ_CHECK(text.n == n_before || phx_utf8_valid(text.ptr + n_before, text.n - n_before));
        if (phx_tokenizer_piece(tokenizer, id, &piece) &&
            !((bits & 8) && phx_tokenizer_is_special(tokenizer, id)))
            (void)phx_buf_append(&raw, piece.ptr, piece.n);
    }
    FUZZ_CHECK(phx_detokenizer_flush(&d, &text) == PHX_OK);
    if (phx_utf8_valid(raw.n ? raw.ptr : "", raw.n))
        FUZZ_CHECK(phx_str_eq(phx_buf_view(&raw), phx_buf_view(&text)));
    check_stops(phx_buf_view(&text), &s, cuts);
    phx_buf_done(&raw);
    phx_buf_done(&text);
    return 0;
}
