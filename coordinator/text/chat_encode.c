/* coordinator/text/chat_encode.c - see chat_encode.h. */
#include "coordinator/text/chat_encode.h"

#include "base/alloc.h"

phx_code phx_chat_encode(const phx_tokenizer *tokenizer, const phx_chat_prompt *prompt, uint32_t *ids,
                         size_t n_ids_max, size_t *ret_n_ids, phx_error *err)
{
    phx_code rc = PHX_OK;
    size_t n_spans = 0;
    phx_text_span *spans = phx_alloc(prompt->n_segments + 1, sizeof(*spans));
    if (!spans) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "%zu prompt segments", prompt->n_segments);
        goto out;
    }
    for (size_t i = 0; i < prompt->n_segments; i++) {
        const phx_chat_segment *segment = &prompt->segments[i];
        if (!segment->is_control)
            spans[n_spans++] = (phx_text_span){segment->offset, segment->offset + segment->n};
    }
    const phx_encode_args args = {
        .text = phx_chat_prompt_view(prompt),
        .parse_added = true,
        .ids = ids,
        .n_ids_max = n_ids_max,
        .data_spans = spans,
        .n_data_spans = n_spans,
    };
    rc = phx_tokenizer_encode(tokenizer, &args, ret_n_ids, err);
out:
    phx_free(spans);
    return rc;
}

static bool has_token(const void *tokenizer, phx_str token)
{
    uint32_t id;
    return phx_tokenizer_id_of(tokenizer, token, &id);
}

phx_chat_probe phx_chat_probe_of(const phx_tokenizer *tokenizer, phx_str family, bool has_template)
{
    return (phx_chat_probe){
        .family = family, .has_template = has_template, .has_token = has_token, .tokenizer = tokenizer};
}
