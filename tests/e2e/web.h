/* tests/e2e/web.h - an HTTP client on a plain socket, without any code of the server: one request for each
 * connection, whole or streamed, with the way it ended. */
#ifndef PHX_TESTS_E2E_WEB_H
#define PHX_TESTS_E2E_WEB_H

#include "base/buf.h"
#include "base/json.h"

typedef enum web_end {
    WEB_OPEN,      /* not ended: the limit passed */
    WEB_WHOLE,     /* the reply is complete; a stream ended with [DONE] */
    WEB_CLOSED,    /* the connection closed before that */
    WEB_NO_CONNECT /* nobody listens */
} web_end;

typedef struct web_reply {
    web_end end;
    int status;   /* 0: no status line yet */
    bool error;   /* a status of 400 and above, or an error event in the stream */
    phx_buf raw;  /* all bytes received */
    phx_buf body; /* without the framing of chunks */
} web_reply;

void web_reply_init(web_reply *reply);
void web_reply_done(web_reply *reply);

/* -1 when nobody listens. body NULL: GET. */
int web_send(uint16_t port, const char *path, const char *body);
int web_send_raw(uint16_t port, phx_str request); /* bytes as they are */
/* Reads until the end, limit_ms, or n_events lines of data (0: all). */
void web_receive(int fd, web_reply *reply, uint32_t n_events, uint32_t limit_ms);
/* Both, and closes. */
void web_ask(uint16_t port, const char *path, const char *body, uint32_t limit_ms, web_reply *ret_reply);

/* Text of choice `idx` of a completion or chat, streamed or whole: reasoning, content and calls, in the form
 * "reasoning|content|name(arguments)|finish". */
void web_answer(const web_reply *reply, uint32_t idx, phx_buf *text);
/* Value of a metric without labels; -1 when it is missing. */
double web_metric(uint16_t port, const char *name);
/* Asks until the metric has this value; false after limit_ms. */
bool web_await_metric(uint16_t port, const char *name, double value, uint32_t limit_ms);

#endif
