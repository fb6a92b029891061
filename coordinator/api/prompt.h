/* coordinator/api/prompt.h - token ids of what a client sent.
 * Owns: the ids; the check that they leave room in the context. HTTP and the control service share it. */
#ifndef PHX_COORDINATOR_API_PROMPT_H
#define PHX_COORDINATOR_API_PROMPT_H

#include "coordinator/api/fields.h"
#include "coordinator/text/output_types.h"

typedef struct phx_api_prompt {
    uint32_t *ids; /* [n] */
    uint32_t n;
    bool in_reasoning; /* for phx_generation_params */
    bool parse_calls;
    phx_output_types *types; /* of the tools' parameters, or NULL */
    uint32_t next_call;      /* number of the answer's first call, where ids are numbered */
} phx_api_prompt;

/* From the messages, tools and switches of a request that was read. n_ids_max: encoding ends as soon as there
 * are more; what is to be generated from gives the context, counting alone PHX_REQUEST_TOKENS_MAX. False: the
 * fault says why, and nothing is held. Free with phx_api_prompt_done. */
bool phx_api_prompt_chat(const phx_model_text *text, const phx_api_request *request, uint32_t n_ids_max,
                         phx_api_prompt *ret_prompt, phx_api_fault *fault);

/* Added tokens in the text are recognised: a raw prompt may hold control tokens. add_special: bos in front
 * when the tokenizer's configuration says so. */
bool phx_api_prompt_text(const phx_model_text *text, phx_str from, bool add_special, uint32_t n_ids_max,
                         phx_api_prompt *ret_prompt, phx_api_fault *fault);

/* Copies n ids after checking them against the vocabulary. */
bool phx_api_prompt_ids(const phx_model_text *text, const uint32_t *ids, size_t n, phx_api_prompt *ret_prompt,
                        phx_api_fault *fault);

/* From the prompt field of a completion or of /detokenize: a list of ids in JSON. param names the field. */
bool phx_api_prompt_node(const phx_model_text *text, const phx_json *list, const char *param,
                         phx_api_prompt *ret_prompt, phx_api_fault *fault);

/* Is there room for the prompt and one token? */
bool phx_api_prompt_fits(const phx_model_text *text, const phx_api_prompt *prompt, phx_api_fault *fault);

void phx_api_prompt_done(phx_api_prompt *prompt); /* accepts zeros */

/* Appends the text of ids; special tokens included or not. PHX_ERR_UNSUPPORTED without tokenizer. */
phx_code phx_api_text_of_ids(const phx_model_text *text, const phx_api_prompt *prompt, bool skip_special,
                             phx_buf *to, phx_error *err);

#endif
