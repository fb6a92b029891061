/* coordinator/text/chat_encode.h - where chat prompts meet a tokenizer.
 * Owns: the ids of a segmented prompt, and what a tokenizer tells about a checkpoint's chat format. */
#ifndef PHX_COORDINATOR_TEXT_CHAT_ENCODE_H
#define PHX_COORDINATOR_TEXT_CHAT_ENCODE_H

#include "coordinator/text/chat.h"
#include "coordinator/text/tokenizer.h"

/* Ids of the whole prompt, without another BOS: the prompt holds its own. Added tokens are recognised in
 * control segments only; text of no danger gets the same ids as if it had been encoded as one string. ids has
 * room for n_ids_max; more is PHX_ERR_TOO_LONG. Errors otherwise as in phx_tokenizer_encode. */
phx_code phx_chat_encode(const phx_tokenizer *tokenizer, const phx_chat_prompt *prompt, uint32_t *ids,
                         size_t n_ids_max, size_t *ret_n_ids, phx_error *err);

/* family is borrowed; pass the result to phx_chat_format_find. */
phx_chat_probe phx_chat_probe_of(const phx_tokenizer *tokenizer, phx_str family, bool has_template);

#endif
