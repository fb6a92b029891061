/* client/tokens.c - lists of token ids as people write them. */
#include "client/tokens.h"

#include "base/alloc.h"
#include "base/file.h"
#include "proto/limits.h"

#define FILE_BYTES_MAX (16u << 20)

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static phx_code parse(phx_str text, phx_tokens *ret_tokens, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_tokens tokens = {0};
    size_t n = 0;
    bool after_comma = true; /* and the id that belongs there has not come */
    for (size_t i = 0; i < text.n; i++)
        n += is_digit(text.ptr[i]) && (i == 0 || !is_digit(text.ptr[i - 1]));
    if (n == 0 || n > PHX_REQUEST_TOKENS_MAX) {
        rc = PHX_FAIL(err, PHX_ERR_INVALID, "a list of %zu token ids: from 1 to %u are allowed", n,
                      PHX_REQUEST_TOKENS_MAX);
        goto out;
    }
    tokens.ids = phx_alloc(n, sizeof(*tokens.ids));
    if (!tokens.ids) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "%zu token ids", n);
        goto out;
    }
    for (size_t at = 0; at < text.n;) {
        size_t end = at;
        uint64_t id = 0;
        while (end < text.n && is_digit(text.ptr[end]))
            end++;
        if (end > at && !phx_str_to_u64((phx_str){text.ptr + at, end - at}, 0, INT32_MAX, &id)) {
            rc = PHX_FAIL(err, PHX_ERR_INVALID, "token id '%.*s' is too large",
                          (int)(end - at < 40 ? end - at : 40), text.ptr + at);
            goto out;
        }
        if (text.ptr[at] == ',' && after_comma) {
            rc = PHX_FAIL(err, PHX_ERR_INVALID, "token ids: no id before the comma at byte %zu", at);
            goto out;
        }
        after_comma = text.ptr[at] == ',' || (after_comma && end == at);
        if (end > at)
            tokens.ids[tokens.n++] = (uint32_t)id;
        else if (!memchr(", \t\r\n[]", text.ptr[at], 7)) {
            rc = PHX_FAIL(err, PHX_ERR_INVALID, "token ids: byte %zu is neither digit nor comma nor blank",
                          at);
            goto out;
        }
        at = end > at ? end : at + 1;
    }
    *ret_tokens = tokens;
    tokens.ids = NULL;
out:
    phx_free(tokens.ids);
    return rc;
}

phx_code phx_tokens_read(const char *list, phx_tokens *ret_tokens, phx_error *err)
{
    if (list[0] != '@')
        return parse(phx_str_of(list), ret_tokens, err);
    phx_buf buf;
    phx_buf_init(&buf, FILE_BYTES_MAX);
    phx_code rc = phx_file_read(list + 1, &buf, err);
    if (rc == PHX_OK)
        rc = parse(phx_buf_view(&buf), ret_tokens, err);
    phx_buf_done(&buf);
    return rc;
}

void phx_tokens_done(phx_tokens *tokens)
{
    phx_free(tokens->ids);
    *tokens = (phx_tokens){0};
}
