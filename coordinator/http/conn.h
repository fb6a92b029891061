/* coordinator/http/conn.h - what the files of this folder share: server, connection and reply.
 * A connection is never freed inside a call: conn_kill marks it, the server's reaper frees it in the next
 * round of the loop and only then tells the owner of its reply. So no function finds its connection gone
 * after calling another. */
#ifndef PHX_COORDINATOR_HTTP_CONN_H
#define PHX_COORDINATOR_HTTP_CONN_H

#include "coordinator/http/guard.h"
#include "coordinator/http/http.h"
#include "coordinator/http/keys.h"
#include "coordinator/http/parse.h"

struct bufferevent;
struct evconnlistener;

typedef enum phx_http_phase {
    PHX_HTTP_PHASE_HEAD,   /* waiting for, or reading, a head */
    PHX_HTTP_PHASE_BODY,   /* head judged, body arriving */
    PHX_HTTP_PHASE_OWED,   /* a route holds the reply */
    PHX_HTTP_PHASE_FLUSH,  /* last reply complete, bytes leaving */
    PHX_HTTP_PHASE_LINGER, /* our side closed, waiting for the client's close */
    PHX_HTTP_PHASE_DEAD    /* on the reaper's list */
} phx_http_phase;

typedef struct phx_http_conn phx_http_conn;
struct phx_http_conn {
    phx_http *http;
    phx_http_conn *prev;
    phx_http_conn *next;
    struct bufferevent *bev;
    phx_http_parser parser;
    phx_http_reply *reply; /* owed; owned by the route */
    const phx_http_route *route;
    phx_http_peer peer;
    char remote[PHX_HTTP_ADDRESS_TEXT];
    uint32_t key_id; /* of the last request, counted in http->n_key_conns */
    phx_http_phase phase;
    phx_http_closed why; /* DEAD */
    uint64_t phase_us;   /* start of the phase */
    uint64_t soft_us;    /* stream: above the soft bound since, 0 when below */
    uint64_t sent_us;    /* last time that unsent bytes became fewer */
    size_t n_unsent;     /* as of the last look */
    uint64_t n_written;  /* handed to the bufferevent, all requests */
    uint64_t n_counted;  /* of those counted as sent */
    uint64_t n_body;     /* counted in stats.n_body_bytes */
    uint64_t n_linger;
    bool has_served; /* a request was answered before: the idle bound counts, not the head's */
    bool close_after;
    bool is_head; /* the reply that is owed has a length but no body */
    bool is_eof;  /* the client closed its side */
};

struct phx_http_reply {
    phx_http_conn *conn; /* NULL once the client is gone */
    void (*on_closed)(void *user, phx_http_closed why);
    void *user;
    uint64_t request_id;
    bool is_stream;
};

struct phx_http {
    phx_loop *loop;
    struct evconnlistener *listener;
    phx_loop_timer *reaper;
    phx_loop_timer *sweeper;
    phx_http_keys *keys; /* NULL: none */
    phx_http_limits limits;
    const phx_http_route *routes;
    size_t n_routes;
    const char *const *hosts;
    size_t n_hosts;
    phx_http_conn *conns; /* alive */
    phx_http_conn *dead;
    uint32_t *n_key_conns; /* [n_keys] */
    phx_loop_call stopped;
    uint64_t n_ids; /* mixed into request ids */
    uint64_t id_seed;
    uint64_t n_fds_max;
    uint16_t port;
    bool checks_host;
    bool is_paused; /* accept failed; the sweeper tries again */
    bool is_stopping;
    phx_http_stats stats;
};

/* conn.c */
phx_code phx_http_conn_open(phx_http *http, int fd, const phx_http_address *address);
void phx_http_conn_kill(phx_http_conn *conn, phx_http_closed why);
void phx_http_conn_reap(phx_http_conn *conn); /* frees; tells the reply's owner */
void phx_http_conn_sweep(phx_http_conn *conn, uint64_t now_us);
/* The reply is complete: next request, or close. */
void phx_http_conn_finish(phx_http_conn *conn);
/* Counts and answers; the connection closes after it unless keep is true and no bytes are in the way. */
void phx_http_conn_refuse(phx_http_conn *conn, phx_http_fault fault, bool keep);
size_t phx_http_conn_unsent(const phx_http_conn *conn);
/* False: out of memory, the connection is dead. */
bool phx_http_conn_write(phx_http_conn *conn, const void *ptr, size_t n);

/* judge.c: everything that is decided between head and body. Sets conn->route and conn->key_id. */
phx_http_fault phx_http_judge(phx_http_conn *conn);
const char *phx_http_allowed_methods(const phx_http *http, phx_str path, phx_buf *buf);

/* reply.c */
phx_http_reply *phx_http_reply_create(phx_http_conn *conn, uint64_t request_id);
void phx_http_reply_head(phx_buf *buf, const phx_http_response *response, uint64_t request_id);
void phx_http_fault_error(phx_http_fault fault, phx_http_error *ret_error);

#endif
