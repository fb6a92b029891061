/* tests/fuzz/fuzz_tiktoken.c - tiktoken.model. Input: lines "BASE64 RANK", behind a line "---"
 * tokenizer_config.json and behind another a text to encode. */
#include "tests/fuzz/demo.h"
#include "tests/fuzz/fuzz.h"

#define N_ADDED 256u

static void check_lookups(const phx_tokenizer *tokenizer)
{
    const uint32_t n = phx_tokenizer_n_vocab(tokenizer);
    FUZZ_CHECK(n > N_ADDED && n <= PHX_TOKENIZER_IDS_MAX);
    for (uint32_t id = 0; id < n; id++) {
        phx_str piece = {0};
        uint32_t back = 0;
        FUZZ_CHECK(phx_tokenizer_piece(tokenizer, id, &piece));
        FUZZ_CHECK(piece.n > 0 && piece.n <= PHX_TOKENIZER_PIECE_BYTES_MAX);
        FUZZ_CHECK(phx_tokenizer_is_added(tokenizer, id) == (id >= n - N_ADDED));
        if (id >= n - N_ADDED)
            FUZZ_CHECK(phx_tokenizer_id_of(tokenizer, piece, &back) && back == id);
    }
    FUZZ_CHECK(phx_tokenizer_bos(tokenizer) == PHX_TOKEN_NONE || phx_tokenizer_bos(tokenizer) >= n - N_ADDED);
    FUZZ_CHECK(phx_tokenizer_eos(tokenizer) == PHX_TOKEN_NONE || phx_tokenizer_eos(tokenizer) >= n - N_ADDED);
}

/* All single bytes are there, so what is encoded comes back, whether control tokens are seen or not. */
static void check_encode(const phx_tokenizer *tokenizer, phx_str text, bool parse_added)
{
    phx_buf joined;
    phx_buf_init(&joined, 1u << 24);
    if (fuzz_encode(tokenizer, text, parse_added, &joined))
        FUZZ_CHECK(phx_str_eq(phx_buf_view(&joined), text));
    else
        FUZZ_CHECK(!phx_utf8_valid(text.ptr, text.n));
    phx_buf_done(&joined);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    fuzz_tape tape = {data, n_bytes};
    phx_tokenizer *tokenizer = NULL;
    phx_error err = {0};
    const phx_bytes ranks = fuzz_take_part(&tape);
    const phx_bytes config = fuzz_take_part(&tape);
    const phx_str text = fuzz_str(fuzz_rest(&tape));
    const phx_code rc = phx_tokenizer_parse_tiktoken(ranks, config, &tokenizer, &err);
    if (rc != PHX_OK) {
        fuzz_check_refusal(rc, &err);
        FUZZ_CHECK(tokenizer == NULL);
        return 0;
    }
    check_lookups(tokenizer);
    check_encode(tokenizer, phx_str_of("Hello, w\xC3\xB6rld 123 \xE4\xB8\xAD"), false);
    check_encode(tokenizer, text, false);
    check_encode(tokenizer, text, true);
    phx_tokenizer_destroy(tokenizer);
    return 0;
}
