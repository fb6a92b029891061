/* coordinator/api/answer.h - one HTTP request to generate, while it lives.
 * Owns: what is gathered for the reply. Life: answer.c. JSON: answer_write.c. */
#ifndef PHX_COORDINATOR_API_ANSWER_H
#define PHX_COORDINATOR_API_ANSWER_H

#include "coordinator/api/api_private.h"
#include "coordinator/api/calls.h"

/* One prompt: its n choices begin at choice_first. */
typedef struct phx_answer_part {
    phx_answer *answer;
    phx_generation *generation; /* NULL once it has ended */
    uint32_t choice_first;
    phx_buf echo; /* the prompt's text; a whole answer has it in each content already */
} phx_answer_part;

#define PHX_ANSWER_BYTES_MAX (64u << 20) /* of one choice that is not streamed, like limits.reply_bytes */

typedef struct phx_answer_choice {
    phx_buf content; /* whole answers only, like reasoning and the calls */
    phx_buf reasoning;
    phx_buf calls; /* items of tool_calls, the last without its end while it grows */
    phx_buf arguments;
    char call_name[PHX_CHAT_NAME_BYTES_MAX + 1];
    char call_id[PHX_API_CALL_ID_BYTES];
    phx_buf logprobs; /* items not yet told: of chat's content, or of completions' tokens */
    phx_buf token_logprobs;
    phx_buf top_logprobs;
    phx_buf text_offset;
    phx_buf token_ids; /* not yet told; empty unless asked for */
    uint64_t n_chars;  /* characters of the text so far, for text_offset */
    uint32_t n_tokens;
    uint32_t n_reasoning; /* tokens before the first of the content */
    bool has_reasoning;
    bool has_content;
    bool has_role;     /* stream: the first chunk is out */
    bool has_logprobs; /* some items wait */
    phx_finish finish;
} phx_answer_choice;

struct phx_answer {
    phx_api *api;
    phx_answer *prev;
    phx_answer *next;
    phx_http_reply *reply; /* NULL once completed */
    phx_api_face face;
    char id[48];
    int64_t created_s;
    uint64_t start_us;
    bool has_first; /* some token has come */
    bool is_stream;
    bool has_begun; /* stream: the head is out */
    bool include_usage;
    bool logprobs;
    bool tells_ids;    /* of tokens: asked for, or there is no tokenizer to tell their text */
    bool in_reasoning; /* at the start */
    phx_api_call_ids call_ids;
    uint32_t n_top;
    uint32_t n_parts;
    uint32_t n_parts_open;
    uint32_t n_choices;   /* of all parts: choice c of prompt p is p * n + c */
    uint32_t n_of_prompt; /* n */
    phx_delta usage;      /* sums over the parts that have ended */
    phx_buf out;
    phx_answer_part *parts;     /* [n_parts] */
    phx_answer_choice *choices; /* [n_choices] */
};

#define PHX_ANSWER_BUFS 9u

static inline void phx_answer_bufs(phx_answer_choice *c, phx_buf *ret_bufs[PHX_ANSWER_BUFS])
{
    phx_buf *const all[PHX_ANSWER_BUFS] = {&c->content,      &c->reasoning,   &c->calls,
                                           &c->arguments,    &c->logprobs,    &c->token_logprobs,
                                           &c->top_logprobs, &c->text_offset, &c->token_ids};
    memcpy(ret_bufs, all, sizeof(all));
}

static inline phx_answer_part *phx_answer_part_of(const phx_answer *answer, uint32_t choice)
{
    return &answer->parts[choice / answer->n_of_prompt];
}

/* All append to answer->out, after clearing it. A chunk is a whole event of the stream. */
void phx_answer_role_chunk(phx_answer *answer, uint32_t choice);
void phx_answer_output_chunk(phx_answer *answer, uint32_t choice, const phx_output_event *event);
void phx_answer_finish_chunk(phx_answer *answer, uint32_t choice);
void phx_answer_usage_chunk(phx_answer *answer, const phx_delta *end);
void phx_answer_error_chunk(phx_answer *answer, const phx_api_fault *fault);
void phx_answer_whole(phx_answer *answer, const phx_delta *end);

/* Keeps a token's logprobs until the next chunk or the end, and counts. */
void phx_answer_keep_token(phx_answer *answer, const phx_delta *delta);
/* Keeps output for a whole answer, or what a stream must remember of it. */
void phx_answer_keep_output(phx_answer *answer, uint32_t choice, const phx_output_event *event);
/* First failure of any buffer. */
phx_code phx_answer_code(const phx_answer *answer);

#endif
