/* tests/fuzz/demo.c - see the header. */
#include "tests/fuzz/demo.h"

#include "base/alloc.h"
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

bool fuzz_encode(const phx_tokenizer *tokenizer, phx_str text, bool parse_added, phx_buf *joined)
{
    phx_error err = {0};
    size_t n_ids = 0;
    uint32_t *ids = phx_alloc(text.n + 2, sizeof(*ids));
    FUZZ_CHECK(ids != NULL);
    const phx_encode_args args = {
        .text = text, .parse_added = parse_added, .ids = ids, .n_ids_max = text.n + 1};
    const phx_code rc = phx_tokenizer_encode(tokenizer, &args, &n_ids, &err);
    if (rc == PHX_OK)
        fuzz_join_pieces(tokenizer, ids, n_ids, joined);
    else
        fuzz_check_refusal(rc, &err);
    phx_free(ids);
    return rc == PHX_OK;
}
