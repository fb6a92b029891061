/* coordinator/http/parse.h - bytes of a connection into one HTTP/1.1 request, strictly.
 * Owns: the request's bytes while they arrive, framing, and every rule that needs no knowledge of routes.
 * There is one parser and it sees the raw bytes, so no second reader can disagree with it about where a
 * request ends. Not here: sockets, time, keys, routes. */
#ifndef PHX_COORDINATOR_HTTP_PARSE_H
#define PHX_COORDINATOR_HTTP_PARSE_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/str.h"
#include "coordinator/http/fault.h"
#include "coordinator/http/limits.h"

typedef enum phx_http_event {
    PHX_HTTP_MORE,  /* all bytes used, the request is not complete */
    PHX_HTTP_HEAD,  /* head complete, told once; go on feeding (zero bytes are enough when no body follows) */
    PHX_HTTP_DONE,  /* request complete; nothing is used until reset */
    PHX_HTTP_FAILED /* parser->fault says why; nothing is used any more */
} phx_http_event;

typedef enum phx_http_step {
    PHX_HTTP_STEP_LINE,
    PHX_HTTP_STEP_HEADERS,
    PHX_HTTP_STEP_BODY,
    PHX_HTTP_STEP_CHUNK_LINE,
    PHX_HTTP_STEP_CHUNK_DATA,
    PHX_HTTP_STEP_CHUNK_END,
    PHX_HTTP_STEP_LAST_END,
    PHX_HTTP_STEP_DONE,
    PHX_HTTP_STEP_FAILED
} phx_http_step;

/* Places in head, which moves while it grows. */
typedef struct phx_http_span {
    uint32_t at;
    uint32_t n;
} phx_http_span;

typedef struct phx_http_field {
    phx_http_span name;
    phx_http_span value;
} phx_http_field;

/* Read the fields through the functions below; public so that a connection can hold it by value. */
typedef struct phx_http_parser {
    const phx_http_limits *limits;
    phx_buf head;
    phx_buf body;
    phx_http_field *fields; /* [limits->n_headers] */
    size_t n_fields;
    phx_http_span method;
    phx_http_span path;
    phx_http_span query;
    size_t line_at;    /* start of the line being read */
    size_t headers_at; /* start of the first header line */
    uint64_t n_left;   /* of the body or of the chunk */
    uint64_t n_chunks;
    uint32_t n_digits;
    phx_http_step step;
    phx_http_fault fault;
    bool has_body; /* a body of at least one byte is announced */
    bool is_chunked;
    bool wants_continue;
    bool keep_alive;
} phx_http_parser;

/* limits outlive the parser. */
phx_code phx_http_parser_init(phx_http_parser *parser, const phx_http_limits *limits);
void phx_http_parser_done(phx_http_parser *parser);
void phx_http_parser_reset(phx_http_parser *parser); /* for the next request; gives the body's memory back */

/* Uses up to in.n bytes; *ret_n_used says how many. */
phx_http_event phx_http_parser_feed(phx_http_parser *parser, phx_bytes in, size_t *ret_n_used);

/* True when at least one byte of the next request was used. */
bool phx_http_parser_began(const phx_http_parser *parser);

/* Valid from PHX_HTTP_HEAD until reset. */
phx_str phx_http_parser_view(const phx_http_parser *parser, phx_http_span span);
/* Value of the header (lower-case name) or {NULL, 0}. */
phx_str phx_http_parser_header(const phx_http_parser *parser, const char *name);

/* ASCII without case; text is lower case. */
bool phx_http_is_nocase(phx_str value, const char *text);

#endif
