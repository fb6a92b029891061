/* coordinator/http/http.h - the HTTP/1.1 server: routes in, replies out.
 * Owns: listener, connections, limits, API keys, replies in flight. Knows nothing of what a route means.
 * Everything runs on the loop's thread; other threads use phx_loop_post. */
#ifndef PHX_COORDINATOR_HTTP_HTTP_H
#define PHX_COORDINATOR_HTTP_HTTP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/hash.h"
#include "base/str.h"
#include "coordinator/http/fault.h"
#include "coordinator/http/limits.h"
#include "coordinator/loop.h"

typedef struct phx_http phx_http;
typedef struct phx_http_reply phx_http_reply;

/* All views are valid until the handler returns: copy or parse what is needed later. */
typedef struct phx_http_request {
    phx_str method;
    phx_str path;  /* as sent, not percent-decoded */
    phx_str query; /* after '?', as sent; empty when there is none */
    phx_bytes body;
    uint32_t key_id;     /* 1-based number of the caller's API key in the key file, 0 for none */
    phx_hash key_hash;   /* of that key: the salt of what must not be shared between keys; zeros for none */
    phx_str remote;      /* "127.0.0.1", "::1" */
    uint64_t request_id; /* also sent as X-Request-Id, in 16 hexadecimal digits */
    const void *head;    /* for phx_http_request_header */
} phx_http_request;

/* name in lower case; {NULL, 0} when the header is absent. */
phx_str phx_http_request_header(const phx_http_request *request, const char *name);

/* True when the part of a path, with its %XX read as bytes, is the text. A '%' without two digits is none. */
bool phx_http_path_spells(phx_str part, const char *text);

/* The handler owns reply and completes it exactly once, now or later, with one of
 *     phx_http_reply_send, phx_http_reply_error, phx_http_reply_stream_end, phx_http_reply_abort,
 * which consumes the handle. That holds also when the client has left in between: then the completion only
 * frees the handle. Until it is completed a handle may always be used, even after phx_http_destroy. */
typedef void (*phx_http_handler)(void *user, const phx_http_request *request, phx_http_reply *reply);

typedef struct phx_http_route {
    const char *method; /* "GET", "POST" */
    /* compared byte by byte with the request's path; with '/' at its end: begins longer ones */
    const char *path;
    bool needs_key; /* when a key file is given; false for /livez alone */
    phx_http_handler handler;
    void *user;
} phx_http_route;

typedef struct phx_http_options {
    phx_loop *loop;           /* outlives the server */
    const char *host;         /* numeric address or "localhost" */
    uint16_t port;            /* 0: any free one, see phx_http_port */
    const char *key_file;     /* NULL: no keys */
    bool insecure_no_auth;    /* allow a bind beyond loopback without key_file */
    const char *const *hosts; /* more names for the Host header, lower case, without port; copied not */
    size_t n_hosts;
    const phx_http_route *routes; /* outlive the server, like hosts and their texts */
    size_t n_routes;
    const phx_http_limits *limits; /* NULL: the defaults; copied */
} phx_http_options;

/* Binds, listens and starts to accept once the loop runs. PHX_ERR_IN_USE: somebody listens there;
 * PHX_ERR_DENIED: key file missing where one is needed, or not safe, or a privileged port;
 * PHX_ERR_INVALID: address, limits, key file content. The Host header is checked when the address is
 * loopback or hosts are given. */
phx_code phx_http_create(const phx_http_options *options, phx_http **ret_http, phx_error *err);

/* Accepts NULL. Not inside a handler or on_closed. Closes all connections at once; open replies learn of it
 * through on_closed before this returns. */
void phx_http_destroy(phx_http *http);

uint16_t phx_http_port(const phx_http *http);

/* Stops accepting, closes idle connections, lets requests that have begun finish. call (fn may be NULL) runs
 * on the loop once no connection is left. Calling again is harmless. */
void phx_http_stop(phx_http *http, phx_loop_call call);

/* Replies. */

typedef struct phx_http_header {
    const char *name;
    const char *value; /* both printable ASCII without line ends: anything else is our mistake, asserted */
} phx_http_header;

typedef struct phx_http_response {
    int status;               /* 200 to 599 */
    const char *content_type; /* "application/json", "text/event-stream", ... */
    const phx_http_header *headers;
    size_t n_headers;
    phx_str body; /* ignored by stream_begin */
} phx_http_response;

/* Completes. A body above limits.reply_bytes becomes a 500. */
void phx_http_reply_send(phx_http_reply *reply, const phx_http_response *response);

/* OpenAI's error form: {"error":{"message":...,"type":...,"param":...,"code":...}}. */
typedef struct phx_http_error {
    int status;
    const char *type;       /* NULL: from the status, e.g. "invalid_request_error" */
    const char *param;      /* NULL: null */
    const char *code;       /* NULL: null */
    const char *message;    /* no addresses, paths or library texts */
    uint32_t retry_after_s; /* 0: no Retry-After */
} phx_http_error;

/* Completes. After stream_begin it can only cut the stream short, like phx_http_reply_abort: write an error
 * event and end the stream instead. */
void phx_http_reply_error(phx_http_reply *reply, const phx_http_error *error);

/* Appends the JSON of an error, for events inside a stream. */
void phx_http_error_json(const phx_http_error *error, phx_buf *buf);

/* Streams: begin, any number of writes (each leaves as one chunk, at once), end.
 * PHX_ERR_CANCELLED: the client is gone, stop producing (on_closed tells why).
 * PHX_ERR_TOO_LONG: this write went past limits.unsent_hard_bytes; the connection is being cut.
 * PHX_ERR_NOMEM: likewise cut. After any of them the handle still has to be completed. */
phx_code phx_http_reply_stream_begin(phx_http_reply *reply, const phx_http_response *response);
phx_code phx_http_reply_stream_write(phx_http_reply *reply, phx_str data);
void phx_http_reply_stream_end(phx_http_reply *reply);

/* Completes by closing the connection without a proper end, so that the client sees a failure. */
void phx_http_reply_abort(phx_http_reply *reply);

/* Bytes handed in and not yet taken by the kernel; 0 when the client is gone. A producer pauses above
 * limits.unsent_soft_bytes. */
size_t phx_http_reply_queued_bytes(const phx_http_reply *reply);

bool phx_http_reply_is_open(const phx_http_reply *reply); /* the client is still there */
uint64_t phx_http_reply_request_id(const phx_http_reply *reply);

typedef enum phx_http_closed {
    PHX_HTTP_CLOSED_CLIENT,  /* the client closed, half-closed or reset */
    PHX_HTTP_CLOSED_SLOW,    /* it did not read */
    PHX_HTTP_CLOSED_REFUSED, /* it broke a limit while waiting */
    PHX_HTTP_CLOSED_MEMORY,
    PHX_HTTP_CLOSED_SERVER /* phx_http_destroy */
} phx_http_closed;

/* fn runs at most once, from the loop and never from inside another call of this interface (but for
 * phx_http_destroy), when the connection ends before the reply is completed: at any time, also before the
 * first byte of the reply. It may complete the handle. */
void phx_http_reply_on_closed(phx_http_reply *reply, void (*fn)(void *user, phx_http_closed why), void *user);

/* Counters since the start. */
typedef struct phx_http_stats {
    uint64_t n_conns_open;
    uint64_t n_conns;        /* accepted, refused ones not counted */
    uint64_t n_requests;     /* handed to a route */
    uint64_t n_replies_open; /* handles not yet completed whose client is there */
    uint64_t n_cancelled;    /* replies whose client left before they were completed */
    uint64_t n_received_bytes;
    uint64_t n_sent_bytes;                   /* taken by the kernel */
    uint64_t n_body_bytes;                   /* bodies being received now */
    uint64_t by_status[500];                 /* answers begun, [status - 100] */
    uint64_t by_fault[PHX_HTTP_FAULT_COUNT]; /* refused or cut by the layer itself, see fault.h */
} phx_http_stats;

const phx_http_stats *phx_http_stats_of(const phx_http *http);

#endif
