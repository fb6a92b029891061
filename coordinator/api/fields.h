/* coordinator/api/fields.h - every field of a request of OpenAI's schema, and what becomes of it.
 * Owns: the one table that says honoured, harmless or refused; reading a body by it. docs and tests come
 * from the same table. Not here: rendering and tokenising (prompt.h), answers (answer.c). */
#ifndef PHX_COORDINATOR_API_FIELDS_H
#define PHX_COORDINATOR_API_FIELDS_H

#include "coordinator/api/fault.h"
#include "coordinator/api/model_text.h"
#include "proto/limits.h"

enum {                          /* where a field may stand */
       PHX_API_CHAT = 1,        /* /v1/chat/completions */
       PHX_API_COMPLETIONS = 2, /* /v1/completions */
       PHX_API_PROMPT = 4       /* what only makes a prompt: chat_json of Generate, /tokenize */
};

#define PHX_API_PENALTY_ABS_MAX 2.0 /* OpenAI's ranges, where they are narrower than the engine's */
#define PHX_API_TEMPERATURE_MAX 2.0
#define PHX_API_BIAS_ABS_MAX    100.0

/* A request after reading. Texts and nodes are borrowed from root. Never copied. */
typedef struct phx_api_request {
    phx_json *root;
    const atomic_bool *stop;  /* set by who prepares it on a thread; for phx_chat_options */
    uint32_t where;           /* one of PHX_API_... */
    const phx_json *messages; /* chat */
    const phx_json *tools;    /* NULL: none */
    const phx_json *tool_choice;
    bool thinking;
    bool has_thinking;               /* some field said so */
    phx_str reasoning_effort;        /* empty: not given */
    const phx_json *template_kwargs; /* chat_template_kwargs as it stands, or NULL */
    const phx_json *prompt;          /* completions: the first: a text, or a list of token ids */
    const phx_json *prompts;         /* the array of all when there are several; else NULL */
    uint32_t n_prompts;              /* 1 for chat */
    bool add_special_tokens;
    bool echo;
    phx_sampling sampling; /* bias points into the arrays below: a request is not copied */
    uint32_t bias_ids[PHX_LOGIT_BIAS_MAX];
    float bias[PHX_LOGIT_BIAS_MAX];
    bool has_seed;
    uint32_t n;
    bool has_max_tokens;
    uint32_t max_tokens;
    bool has_max_completion_tokens;
    uint32_t max_completion_tokens;
    uint32_t n_stops;
    phx_str stops[PHX_STOP_STRINGS_MAX];
    uint32_t n_stop_ids;
    uint32_t stop_ids[PHX_STOP_IDS_MAX];
    bool ignore_eos;
    bool stream;
    bool has_stream_options;
    bool include_usage;
    bool has_top_logprobs;
    bool return_token_ids;
} phx_api_request;

typedef enum phx_api_use {
    PHX_API_HONOURED,
    PHX_API_HARMLESS, /* asks for nothing that changes an answer: accepted with any value */
    PHX_API_REFUSED   /* but for its neutral values */
} phx_api_use;

/* Reads one field; false with the fault filled in. value is never JSON null. */
typedef bool phx_api_reader(const phx_json *value, const phx_model_text *text, phx_api_request *request,
                            phx_api_fault *fault);

typedef struct phx_api_field {
    const char *name;
    uint32_t where;
    phx_api_use use;
    phx_api_reader *read; /* honoured */
    const char *neutral;  /* refused: JSON values that ask for nothing, separated by blanks; null always is */
    const char *why;      /* refused: what to do instead; may be NULL */
} phx_api_field;

const phx_api_field *phx_api_fields(size_t *ret_n);

/* Reads a whole body. False: the fault says why, and nothing is held. Free with phx_api_request_done. */
bool phx_api_request_read(phx_bytes body, uint32_t where, const phx_model_text *text,
                          phx_api_request *ret_request, phx_api_fault *fault);
void phx_api_request_done(phx_api_request *request);

/* A 404 for a name that is not the served model's; returns false. */
bool phx_api_refuse_model(phx_str name, const phx_model_text *text, phx_api_fault *fault);

/* Prompt i of n_prompts: a text, or else what must be a list of token ids. */
const phx_json *phx_api_request_prompt(const phx_api_request *request, uint32_t i);

/* Readers of fields_read.c, for the table. */
#define PHX_API_READERS(X)   \
    X(model)                 \
    X(messages)              \
    X(tools)                 \
    X(tool_choice)           \
    X(prompt)                \
    X(temperature)           \
    X(top_p)                 \
    X(min_p)                 \
    X(top_k)                 \
    X(presence_penalty)      \
    X(frequency_penalty)     \
    X(repetition_penalty)    \
    X(seed)                  \
    X(n)                     \
    X(logit_bias)            \
    X(logprobs)              \
    X(top_logprobs)          \
    X(stop)                  \
    X(stop_token_ids)        \
    X(ignore_eos)            \
    X(return_token_ids)      \
    X(max_tokens)            \
    X(max_completion_tokens) \
    X(stream)                \
    X(stream_options) X(echo) X(add_special_tokens) X(chat_template_kwargs) X(thinking) X(reasoning_effort)
#define X(name) phx_api_reader phx_api_read_##name;
PHX_API_READERS(X)
#undef X

#endif
