/* coordinator/api/model_text.h - what turns text into token ids for the served model, and back.
 * Owns: tokenizer, chat format (or why there is none), the list of end tokens, the model's public name.
 * Immutable. */
#ifndef PHX_COORDINATOR_API_MODEL_TEXT_H
#define PHX_COORDINATOR_API_MODEL_TEXT_H

#include "coordinator/text/chat.h"
#include "coordinator/text/jinja.h"
#include "coordinator/text/tokenizer.h"
#include "model/dims.h"

typedef struct phx_model_text {
    char name[128]; /* --model-name, default the folder's name */
    char dir[4096];
    phx_tokenizer *tokenizer; /* NULL: only token ids work; why is in tokenizer_error */
    phx_error tokenizer_error;
    phx_jinja *template;         /* the checkpoint's chat template, when the format uses it */
    const phx_chat_format *chat; /* NULL: completions work, chat is refused with chat_error */
    phx_error chat_error;
    uint32_t n_eos; /* config.json, generation_config.json and tokenizer, without doubles */
    uint32_t eos_ids[16];
    uint32_t n_context; /* of the group's plan */
    uint32_t n_vocab;   /* of the model */
    int64_t created_s;  /* wall time of the start, for `created` of /v1/models */
    float temperature;  /* of generation_config.json, else 1: what HTTP requests without one get */
    float top_p;        /* likewise */
} phx_model_text;

typedef struct phx_model_text_from {
    const char *model_dir;
    const char *name;        /* NULL or empty: the folder's name */
    const char *chat_format; /* of the table in chat.c; NULL, empty or "auto": what the checkpoint speaks */
    const phx_dims *dims;
    uint32_t n_context;
} phx_model_text_from;

/* A checkpoint without tokenizer is not a failure (see the fields); a damaged tokenizer is, and so is a
 * chat_format that is unknown or that this checkpoint has no template for. */
phx_code phx_model_text_load(const phx_model_text_from *from, phx_model_text *ret_text, phx_error *err);
void phx_model_text_done(phx_model_text *text);

#endif
