/* coordinator/text/chat.h - conversations, the prompts made of them, and the table of chat formats.
 * Owns: the neutral conversation (phx_chat) built and validated from an OpenAI request's nodes, the segmented
 * prompt (phx_chat_prompt), and the list of formats that we can render and parse. Not here: one format's text
 * (chat_deepseek_v32.c), parsing what the model writes (output_parser.h), token ids. */
#ifndef PHX_COORDINATOR_TEXT_CHAT_H
#define PHX_COORDINATOR_TEXT_CHAT_H

#include <stdatomic.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/status.h"
#include "base/str.h"

#define PHX_CHAT_ARGUMENTS_DEPTH 64u

/* ---- the conversation
 * -------------------------------------------------------------------------------------- */

typedef enum phx_chat_role {
    PHX_CHAT_SYSTEM,
    PHX_CHAT_DEVELOPER,
    PHX_CHAT_USER,
    PHX_CHAT_ASSISTANT,
    PHX_CHAT_TOOL
} phx_chat_role;

typedef struct phx_chat_tool {
    phx_str name;
    phx_str description;        /* empty when not given */
    const phx_json *parameters; /* JSON schema; NULL when not given */
    const phx_json *function; /* the whole function object with the keys and the order that the client sent */
    const phx_json *whole;    /* the object around it */
} phx_chat_tool;

typedef struct phx_chat_call {
    phx_str id;
    phx_str name;
    phx_str arguments; /* JSON text of an object, as sent */
    /* the same, parsed; owned by the conversation; NULL when the text is empty (no arguments) */
    phx_json *parsed;
} phx_chat_call;

typedef struct phx_chat_message {
    phx_chat_role role;
    phx_str content;       /* text parts joined by a newline; null is empty */
    const phx_json *parts; /* the text parts as sent, when content was an array of them; else NULL */
    phx_str reasoning;     /* assistant only */
    bool has_reasoning;    /* it was given, perhaps empty: templates tell that from absent */
    phx_str name;          /* as sent; empty when absent */
    phx_str tool_call_id;  /* tool only */
    phx_chat_call *calls;  /* assistant only: [n_calls] */
    size_t n_calls;
    phx_chat_tool *tools; /* system and developer only, DeepSeek's own form: [n_tools] */
    size_t n_tools;
    const phx_json *response_format; /* system and developer only: a JSON schema, or NULL */
    size_t call_idx;                 /* tool only: which call of the assistant message it answers */
    size_t n_turn_calls;             /* tool only: how many calls that message made */
    char *joined;                    /* owner of content when it was joined from parts */
} phx_chat_message;

typedef enum phx_chat_tool_choice { PHX_CHAT_TOOLS_NONE, PHX_CHAT_TOOLS_AUTO } phx_chat_tool_choice;

typedef struct phx_chat {
    /* [n_messages]; the results of one assistant turn are in the order of its calls */
    phx_chat_message *messages;
    size_t n_messages;
    phx_chat_tool *tools; /* of the request: [n_tools] */
    size_t n_tools;
    phx_chat_tool_choice tool_choice;
    size_t text_bytes; /* of all texts */
} phx_chat;

/* Nodes of one request; tools and tool_choice may be NULL (absent). */
typedef struct phx_chat_request {
    const phx_json *messages;
    const phx_json *tools;
    const phx_json *tool_choice;
} phx_chat_request;

/* Validates every field. The conversation borrows texts and nodes from the request's JSON, which must outlive
 * it. Errors name the JSON path ("messages[3].content: expected ..."): PHX_ERR_INVALID for a wrong value,
 * PHX_ERR_UNSUPPORTED for images and forced tool calls, PHX_ERR_TOO_LONG past a limit, PHX_ERR_NOMEM.
 * Tool results are matched to calls by id and put in the order of the calls; an answer to no call, or some
 * but not all answers of a turn, is an error. `strict` of a function is rendered but not enforced. */
phx_code phx_chat_build(const phx_chat_request *request, phx_chat **ret_chat, phx_error *err);
void phx_chat_destroy(phx_chat *chat); /* accepts NULL */

/* Names of functions stand inside quotes of the prompt, so they may not hold any mark of it: 1 to
 * PHX_CHAT_NAME_BYTES_MAX letters, digits and _ - . : / only. */
bool phx_chat_name_valid(phx_str name);

/* ---- the prompt
 * -------------------------------------------------------------------------------------------- */

/* Control segments are the format's own text: the tokenizer recognises added tokens in them. All other
 * segments are what people and tools wrote: added tokens in them are encoded as plain text. Segments tile the
 * text in order, kinds alternate; pre-tokenisation runs across their joins. */
typedef struct phx_chat_segment {
    size_t offset; /* bytes into the text */
    size_t n;      /* bytes, never 0 */
    bool is_control;
} phx_chat_segment;

typedef struct phx_chat_prompt {
    phx_buf text;
    phx_chat_segment *segments; /* [n_segments] */
    size_t n_segments;
    size_t cap;
    bool in_reasoning;  /* the answer starts inside a reasoning block */
    uint32_t next_call; /* where a format numbers calls: the number of the answer's first */
    uint64_t n_steps;   /* of a template */
    bool over_bounds; /* after PHX_ERR_TOO_LONG: the template did too much work, not the prompt is too long */
} phx_chat_prompt;

void phx_chat_prompt_init(phx_chat_prompt *prompt);
void phx_chat_prompt_done(phx_chat_prompt *prompt);
phx_str phx_chat_prompt_view(
    const phx_chat_prompt *prompt); /* the whole as one string; lives as long as the prompt */
phx_str phx_chat_prompt_segment(const phx_chat_prompt *prompt, size_t idx);

/* For renderers. Failures latch in prompt->text.code, as in base/buf.h. */
void phx_chat_prompt_control(phx_chat_prompt *prompt, const char *text);
void phx_chat_prompt_data(phx_chat_prompt *prompt, phx_str text);
void phx_chat_prompt_put(phx_chat_prompt *prompt, phx_str text, bool is_control);
void phx_chat_prompt_json(phx_chat_prompt *prompt, const phx_json *node); /* data, as json.dumps */

/* ---- formats
 * ----------------------------------------------------------------------------------------------- */

typedef struct phx_chat_options {
    bool thinking;      /* let the model reason before it answers */
    bool drop_thinking; /* forget what belongs to earlier turns of reasoning; in deepseek-v3.2 this drops the
                           developer messages before the last user message */
    bool developer_as_system;   /* developer messages of a conversation with user messages count as system
                                   messages:    what OpenAI's clients mean by them. Off: the format's own
                                   reading */
    bool add_generation_prompt; /* end where the assistant speaks; refused after a system or assistant message
                                 */
    /* For formats that the checkpoint's template renders; all are borrowed. */
    const struct phx_jinja *template; /* jinja.h */
    const phx_json *template_kwargs;  /* an object of further names, or NULL */
    bool thinking_given;              /* somebody chose `thinking`; else the model's default */
    phx_str reasoning_effort;         /* empty: nobody chose */
    phx_str bos_token;
    phx_str eos_token;
    int64_t now_s;           /* seconds since 1970, for templates that write the date (in UTC) */
    const atomic_bool *stop; /* set by another thread: rendering ends soon, PHX_ERR_CANCELLED; or NULL */
} phx_chat_options;

/* What a checkpoint tells about its chat format. */
typedef struct phx_chat_probe {
    phx_str family;    /* "deepseek_v32", ... */
    bool has_template; /* the checkpoint brings a chat template of its own */
    bool (*has_token)(const void *tokenizer, phx_str token); /* is this text one added token? */
    const void *tokenizer;
} phx_chat_probe;

typedef enum phx_output_dialect {
    PHX_DIALECT_DSML, /* DeepSeek: blocks of invokes with parameters */
    PHX_DIALECT_GLM,  /* one block per call: a name, then pairs of arg_key and arg_value */
    PHX_DIALECT_KIMI  /* a section of calls, each an id and JSON */
} phx_output_dialect;

/* The marks between which a model writes its reasoning and its calls; output_parser.h reads them. */
typedef struct phx_output_syntax {
    phx_output_dialect dialect;
    bool trims;               /* white space around reasoning, content and calls means nothing */
    bool calls_end_reasoning; /* also without think_end */
    const char *think_open;   /* at the start of an answer; NULL: the prompt writes it */
    const char *think_end;
    const char *block_open; /* with or without two newlines in front, which belong to it; NULL: no calls */
    const char *block_close;
    const char *invoke_open; /* up to and including the quote before the name */
    const char *invoke_close;
    const char *param_open; /* up to and including the quote before the key */
    const char *param_close;
} phx_output_syntax;

#define PHX_CHAT_STOPS_MAX 4u

/* One row per way of speaking: what renders the prompt, what reads the answer, which tokens end it. */
typedef struct phx_chat_format {
    const char *name;
    const char *(*lacks)(const phx_chat_probe *probe); /* NULL when the checkpoint speaks it, else why not */
    phx_code (*render)(const phx_chat *chat, const phx_chat_options *options, phx_chat_prompt *prompt,
                       phx_error *err);
    const phx_output_syntax *syntax;
    const char *stops[PHX_CHAT_STOPS_MAX + 1]; /* added tokens, besides those of the checkpoint's files */
    bool uses_template;                        /* the checkpoint's: options.template is needed */
    bool numbers_calls; /* ids of calls are functions.NAME:NUMBER, counted from phx_chat_prompt.next_call */
} phx_chat_format;

/* PHX_ERR_UNSUPPORTED with the reason when no row fits: completions still work with such a checkpoint. */
phx_code phx_chat_format_find(const phx_chat_probe *probe, const phx_chat_format **ret_format,
                              phx_error *err);
const phx_chat_format *phx_chat_format_named(phx_str name); /* NULL when unknown */

/* Renders into an initialised, empty prompt. PHX_ERR_INVALID when the format cannot express the conversation,
 * PHX_ERR_TOO_LONG past PHX_CHAT_PROMPT_MAX bytes, PHX_ERR_NOMEM. */
phx_code phx_chat_render(const phx_chat_format *format, const phx_chat *chat, const phx_chat_options *options,
                         phx_chat_prompt *prompt, phx_error *err);

#endif
