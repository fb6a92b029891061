/* tests/fuzz/fuzz_tokenizer.c - tokenizer.json. Input: the file, and behind a line "---"
 * tokenizer_config.json and behind another a text to encode. */
#include "tests/fuzz/demo.h"
#include "tests/fuzz/fuzz.h"

static void check_lookups(const phx_tokenizer *tokenizer)
{
    const uint32_t n = phx_tokenizer_n_vocab(tokenizer);
    FUZZ_CHECK(n <= PHX_TOKENIZER_IDS_MAX);
    for (uint32_t id = 0; id < n + 2 && id < 1000; id++) {
        phx_str piece = {0};
        uint32_t back = id;
        if (!phx_tokenizer_piece(tokenizer, id, &piece))
            continue;
        FUZZ_CHECK(id < n);
        FUZZ_CHECK(piece.n <= PHX_TOKENIZER_PIECE_BYTES_MAX);
        (void)phx_tokenizer_is_special(tokenizer, id);
        if (phx_tokenizer_is_added(tokenizer, id) && phx_tokenizer_id_of(tokenizer, piece, &back))
            FUZZ_CHECK(back < n);
    }
    FUZZ_CHECK(phx_tokenizer_bos(tokenizer) == PHX_TOKEN_NONE || phx_tokenizer_bos(tokenizer) < n);
    FUZZ_CHECK(phx_tokenizer_eos(tokenizer) == PHX_TOKEN_NONE || phx_tokenizer_eos(tokenizer) < n);
}

/* A vocabulary may lack bytes, then encoding refuses; what it accepts must come back. */
static void check_encode(const phx_tokenizer *tokenizer, phx_str text, bool parse_added)
{
    phx_buf joined;
    phx_buf_init(&joined, 1u << 24);
    if (fuzz_encode(tokenizer, text, parse_added, &joined) && !parse_added)
        FUZZ_CHECK(phx_str_eq(phx_buf_view(&joined), text));
    phx_buf_done(&joined);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    fuzz_tape tape = {data, n_bytes};
    phx_tokenizer *tokenizer = NULL;
    phx_error err = {0};
    const phx_bytes json = fuzz_take_part(&tape);
    const phx_bytes config = fuzz_take_part(&tape);
    const phx_str text = fuzz_str(fuzz_rest(&tape));
    const phx_code rc = phx_tokenizer_parse(json, config, &tokenizer, &err);
    if (rc != PHX_OK) {
        fuzz_check_refusal(rc, &err);
        FUZZ_CHECK(tokenizer == NULL);
        return 0;
    }
    check_lookups(tokenizer);
    check_encode(tokenizer, phx_str_of("Hello, w\xC3\xB6rld 123"), false);
    check_encode(tokenizer, text, false);
    check_encode(tokenizer, text, true);
    phx_tokenizer_destroy(tokenizer);
    return 0;
}
