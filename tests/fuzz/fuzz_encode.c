/* tests/fuzz/fuzz_encode.c - any bytes through the demo vocabulary and back.
 * Input: 1 byte of switches, 2 bytes a span of user data, the rest the text. */
#include "tests/fuzz/demo.h"
#include "tests/fuzz/fuzz.h"

#include "base/alloc.h"

static size_t count_added(const phx_tokenizer *tokenizer, const uint32_t *ids, size_t n_ids)
{
    size_t n = 0;
    for (size_t i = 0; i < n_ids; i++)
        n += phx_tokenizer_is_added(tokenizer, ids[i]);
    return n;
}

static void check_ids(const phx_tokenizer *tokenizer, const phx_encode_args *args, size_t n_ids)
{
    phx_buf joined;
    const size_t n_bos = args->add_bos ? 1 : 0;
    FUZZ_CHECK(n_ids <= args->text.n + n_bos);
    if (n_bos)
        FUZZ_CHECK(args->ids[0] == phx_tokenizer_bos(tokenizer));
    phx_buf_init(&joined, 1u << 24);
    fuzz_join_pieces(tokenizer, args->ids + n_bos, n_ids - n_bos, &joined);
    FUZZ_CHECK(phx_str_eq(phx_buf_view(&joined), args->text));
    phx_buf_done(&joined);
    const size_t n_added = count_added(tokenizer, args->ids + n_bos, n_ids - n_bos);
    if (!args->parse_added)
        FUZZ_CHECK(n_added == 0);
    if (args->n_data_spans == 1 && args->data_spans[0].end - args->data_spans[0].first == args->text.n)
        FUZZ_CHECK(n_added == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    const phx_tokenizer *tokenizer = fuzz_demo_tokenizer();
    fuzz_tape tape = {data, n_bytes};
    const uint8_t bits = fuzz_u8(&tape);
    const size_t a = fuzz_u8(&tape);
    const size_t b = fuzz_u8(&tape);
    const phx_str text = fuzz_str(fuzz_rest(&tape));
    const size_t n_max = bits & 8 ? text.n / 4 : text.n + 1;
    phx_text_span span = {a < text.n ? a : text.n, text.n};
    if (bits & 4 && span.first + b < text.n)
        span.end = span.first + b;
    uint32_t *ids = phx_alloc(n_max + 1, sizeof(*ids));
    size_t n_ids = 0;
    phx_error err = {0};
    FUZZ_CHECK(ids != NULL);
    const phx_encode_args args = {.text = text,
                                  .parse_added = bits & 1,
                                  .add_bos = bits & 2,
                                  .ids = ids,
                                  .n_ids_max = n_max,
                                  .data_spans = &span,
                                  .n_data_spans = bits & 1 ? bits >> 4 & 1 : 0};
    const phx_code rc = phx_tokenizer_encode(tokenizer, &args, &n_ids, &err);
    if (rc == PHX_OK) {
        FUZZ_CHECK(n_ids <= n_max);
        check_ids(tokenizer, &args, n_ids);
    } else {
        fuzz_check_refusal(rc, &err);
        FUZZ_CHECK(n_ids == 0);
        if (phx_utf8_valid(text.ptr, text.n))
            FUZZ_CHECK(rc == PHX_ERR_TOO_LONG && (bits & 8));
    }
    phx_free(ids);
    return 0;
}
