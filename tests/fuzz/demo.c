/* tests/fuzz/demo.c - see the header. */
#include "tests/fuzz/demo.h"

#include "tests/fuzz/fuzz.h"

const phx_tokenizer *fuzz_demo_tokenizer(void)
{
    static phx_tokenizer *tokenizer;
    phx_error err = {0};
    if (!tokenizer)
        fuzz_must(phx_tokenizer_load(fuzz_source_path("launch/demo"), &tokenizer, &err), &err);
    return tokenizer;
}

void fuzz_join_pieces(const phx_tokenizer *tokenizer, const uint32_t *ids, size_t n_ids, phx_buf *text)
{
    for (size_t i = 0; i < n_ids; i++) {
        phx_str piece = {0};
        FUZZ_CHECK(phx_tokenizer_piece(tokenizer, ids[i], &piece));
        (void)phx_buf_append(text, piece.ptr, piece.n);
    }
    FUZZ_CHECK(text->code == PHX_OK);
}
