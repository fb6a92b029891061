/* client/tokens.h - lists of token ids as people write them. */
#ifndef PHX_CLIENT_TOKENS_H
#define PHX_CLIENT_TOKENS_H

#include "base/status.h"

#include <stdint.h>

typedef struct phx_tokens {
    uint32_t *ids;
    uint32_t n;
} phx_tokens;

/* "1,2 3" or "@FILE" with the same inside (brackets of a JSON array are allowed). At least one id, at most
 * PHX_REQUEST_TOKENS_MAX. Free with phx_tokens_done. */
phx_code phx_tokens_read(const char *list, phx_tokens *ret_tokens, phx_error *err);
void phx_tokens_done(phx_tokens *tokens);

#endif
