/* client/talk.h - one generation as a person sees it: streamed text, reasoning apart, figures at the end.
 * Owns: the words that all generating commands share (--max-tokens, ...). Not here: keeping a conversation
 * (cmd_chat.c). */
#ifndef PHX_CLIENT_TALK_H
#define PHX_CLIENT_TALK_H

#include "client/server.h"

/* The sampling words of run and chat. */
typedef struct phx_talk_flags {
    const char *max_tokens;
    const char *temperature;
    const char *top_p;
    const char *seed;
    bool thinking;
} phx_talk_flags;

#define PHX_TALK_FLAGS(f)                                                                      \
    {"max-tokens", "N", "longest answer [to the end of the context]", &(f)->max_tokens, NULL}, \
        {"temperature", "T", "0: always the likeliest token [0]", &(f)->temperature, NULL},    \
        {"top-p", "P", "keep the likeliest tokens that make up P [1]", &(f)->top_p, NULL},     \
        {"seed", "N", "of the draws [0]", &(f)->seed, NULL},                                   \
    {                                                                                          \
        "thinking", NULL, "let the model reason first", NULL, &(f)->thinking                   \
    }
#define PHX_TALK_FLAGS_N 5u

typedef struct phx_talk_settings {
    Phalanx__Sampling sampling;
    uint32_t max_tokens;
    bool thinking;
} phx_talk_settings;

phx_code phx_talk_read(const phx_talk_flags *flags, phx_talk_settings *ret_settings, phx_error *err);

typedef struct phx_talk_result {
    uint32_t n_prompt;
    uint32_t n_cached;
    uint32_t n_output;
    uint64_t first_us; /* from asking to the first token */
    uint64_t total_us;
    char finish[24];
} phx_talk_result;

/* Streams the answer to stdout; content is appended to answer as well (may be NULL). Reasoning is dimmed on a
 * terminal and goes to stderr otherwise. Control characters are not passed to a terminal. PHX_ERR_CANCELLED
 * when interrupted. */
phx_code phx_talk(phx_client *client, phx_interrupt *interrupt, Phalanx__GenerateRequest *request,
                  phx_buf *answer, phx_talk_result *ret_result, phx_error *err);

void phx_talk_print_result(const phx_talk_result *result); /* one line on stderr */

/* {"messages":[...],"chat_template_kwargs":{"thinking":...}}; messages: JSON objects with commas between. */
void phx_talk_chat_json(phx_str messages, bool thinking, phx_buf *buf);
/* {"role":...,"content":...} */
void phx_talk_message(const char *role, phx_str content, phx_buf *buf);

#endif
