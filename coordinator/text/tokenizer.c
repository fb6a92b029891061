/* coordinator/text/tokenizer.c - encoding: added tokens, then pieces, then merges; and look-ups by id.
 * Not here: reading the files (tokenizer_parse.c). */
#include "coordinator/text/tokenizer.h"
#include "coordinator/text/tokenizer_impl.h"
#include "coordinator/text/tokenizer_cut.h"
#include "base/alloc.h"

#include <assert.h>

void phx_tokenizer_destroy(phx_tokenizer *tokenizer)
{
    if (!tokenizer)
        return;
    phx_bpe_destroy(tokenizer->bpe);
    phx_vocab_destroy(tokenizer->vocab);
    for (size_t pass = 0; pass < PHX_ADDED_PASSES; pass++)
        phx_added_done(&tokenizer->added[pass]);
    phx_free(tokenizer->added_text);
    phx_free(tokenizer);
}

/* State of one encoding. */
typedef struct encoding {
    const phx_tokenizer *tokenizer;
    const phx_encode_args *args;
    phx_bpe_work work;
    phx_id_list list;
} encoding;

static phx_code put_piece(void *context, phx_str piece, phx_error *err)
{
    encoding *e = context;
    return phx_bpe_encode(e->tokenizer->bpe, piece, &e->work, &e->list, err);
}

static phx_code encode_plain(encoding *e, size_t first, size_t end, phx_error *err)
{
    if (first == end)
        return PHX_OK;
    const phx_piece_sink sink = {put_piece, e};
    return e->tokenizer->scanner->scan((phx_str){e->args->text.ptr + first, end - first}, &sink, err);
}

/* The first data span that ends behind `at`, or one past the last. */
static const phx_text_span *first_data(const phx_encode_args *args, size_t at)
{
    size_t low = 0;
    size_t high = args->n_data_spans;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (args->data_spans[middle].end <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return args->data_spans ? args->data_spans + low : NULL;
}

/* Cuts [first, end) at the added tokens of one pass; what lies between goes to the next pass. The depth is
 * that of the passes, PHX_ADDED_PASSES. */
static phx_code encode_pass(encoding *e, size_t pass, phx_text_span part, phx_error *err)
{
    if (pass == PHX_ADDED_PASSES)
        return encode_plain(e, part.first, part.end, err);
    const phx_added_set *set = &e->tokenizer->added[pass];
    const phx_text_span *data = first_data(e->args, part.first);
    const phx_text_span *data_end = data ? e->args->data_spans + e->args->n_data_spans : NULL;
    phx_code rc = PHX_OK;
    size_t rest = part.first; /* not yet encoded */
    size_t at = part.first;
    while (rc == PHX_OK && set->n > 0 && at < part.end) {
        while (data < data_end && (data->end <= at || data->first == data->end))
            data++;
        if (data < data_end && data->first <= at) {
            at = data->end; /* inside user data nothing matches */
            continue;
        }
        const size_t limit = data < data_end && data->first < part.end ? data->first : part.end;
        const phx_added_token *token = phx_added_match(set, (phx_str){e->args->text.ptr + at, limit - at});
        if (!token) {
            at++;
            continue;
        }
        rc = encode_pass(e, pass + 1, (phx_text_span){rest, at}, err);
        if (rc == PHX_OK)
            rc = phx_id_list_add(&e->list, token->id, err);
        at += token->content.n;
        rest = at;
    }
    return rc == PHX_OK ? encode_pass(e, pass + 1, (phx_text_span){rest, part.end}, err) : rc;
}

static phx_code encode_parts(encoding *e, phx_error *err)
{
    const size_t first_pass = e->args->parse_added ? 0 : PHX_ADDED_PASSES;
    const size_t n = e->args->text.n;
    phx_code rc = PHX_OK;
    if (!e->tokenizer->cuts_parts)
        return encode_pass(e, first_pass, (phx_text_span){0, n}, err);
    for (phx_text_cut cut = {0}; rc == PHX_OK && cut.at < n;) {
        const size_t first = cut.at;
        phx_text_cut_next(e->args->text, &cut);
        rc = encode_pass(e, first_pass, (phx_text_span){first, cut.at}, err);
    }
    return rc;
}

static bool spans_in_order(const phx_encode_args *args)
{
    size_t at = 0;
    for (size_t i = 0; i < args->n_data_spans; i++) {
        if (args->data_spans[i].first < at || args->data_spans[i].end < args->data_spans[i].first)
            return false;
        at = args->data_spans[i].end;
    }
    return at <= args->text.n;
}

phx_code phx_tokenizer_encode(const phx_tokenizer *tokenizer, const phx_encode_args *args, size_t *ret_n_ids,
                              phx_error *err)
{
    phx_code rc = PHX_OK;
    encoding e = {tokenizer, args, {0}, {args->ids, 0, args->n_ids_max}};
    assert(spans_in_order(args));
    if (args->text.n > PHX_TOKENIZER_TEXT_BYTES_MAX) {
        rc = PHX_FAIL(err, PHX_ERR_TOO_LONG, "a text of %zu bytes; the limit is %u", args->text.n,
                      PHX_TOKENIZER_TEXT_BYTES_MAX);
        goto out;
    }
    if (!phx_utf8_valid(args->text.ptr, args->text.n)) {
        rc = PHX_FAIL(err, PHX_ERR_INVALID, "the text is not valid UTF-8");
        goto out;
    }
    if (args->add_bos) {
        if (tokenizer->bos == PHX_TOKEN_NONE) {
            rc = PHX_FAIL(err, PHX_ERR_INVALID, "a begin token was asked for; this tokenizer has none");
            goto out;
        }
        rc = phx_id_list_add(&e.list, tokenizer->bos, err);
    }
    if (rc == PHX_OK) {
        rc = encode_parts(&e, err);
    }
    if (rc == PHX_OK)
        *ret_n_ids = e.list.n;
out:
    phx_bpe_work_done(&e.work);
    return rc;
}

bool phx_tokenizer_piece(const phx_tokenizer *tokenizer, uint32_t id, phx_str *ret_bytes)
{
    if (!phx_vocab_flags(tokenizer->vocab, id))
        return false;
    *ret_bytes = phx_vocab_piece(tokenizer->vocab, id);
    return true;
}

bool phx_tokenizer_is_special(const phx_tokenizer *tokenizer, uint32_t id)
{
    return phx_vocab_flags(tokenizer->vocab, id) & PHX_PIECE_SPECIAL;
}

bool phx_tokenizer_is_added(const phx_tokenizer *tokenizer, uint32_t id)
{
    return phx_vocab_flags(tokenizer->vocab, id) & PHX_PIECE_ADDED;
}

bool phx_tokenizer_id_of(const phx_tokenizer *tokenizer, phx_str added_token, uint32_t *ret_id)
{
    for (size_t pass = 0; pass < PHX_ADDED_PASSES; pass++) {
        const phx_added_token *token = phx_added_match(&tokenizer->added[pass], added_token);
        if (token && token->content.n == added_token.n) {
            *ret_id = token->id;
            return true;
        }
    }
    return false;
}

uint32_t phx_tokenizer_n_vocab(const phx_tokenizer *tokenizer)
{
    return phx_vocab_n_ids(tokenizer->vocab);
}

uint32_t phx_tokenizer_bos(const phx_tokenizer *tokenizer)
{
    return tokenizer->bos;
}

uint32_t phx_tokenizer_eos(const phx_tokenizer *tokenizer)
{
    return tokenizer->eos;
}

bool phx_tokenizer_adds_bos(const phx_tokenizer *tokenizer)
{
    return tokenizer->adds_bos;
}
