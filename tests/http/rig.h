/* tests/http/rig.h - a server with a few routes and raw clients, all in one thread: the loop is stepped while
 * a client waits. Nothing here asserts how long something takes, only that it happens. */
#ifndef PHX_TESTS_HTTP_RIG_H
#define PHX_TESTS_HTTP_RIG_H

#include "coordinator/http/http.h"

#define RIG_HELD_MAX 64

/* Routes: GET /livez (no key), GET /hello, POST /echo (answers the body), GET /hold and POST /hold (kept in
 * held), GET /stream (stream begun, kept in held). */
typedef struct rig {
    phx_loop *loop;
    phx_http *http;
    phx_http_route routes[8];
    phx_http_reply *held[RIG_HELD_MAX]; /* NULL once completed by the test */
    size_t n_held;
    size_t n_requests;
    size_t n_closed;
    phx_http_closed why;
    uint32_t key_id;
    phx_hash key_hash;
    char remote[64];
    char query[64];
    bool is_stopped;
    size_t n_fds_before;
    uint64_t n_live_before;
} rig;

typedef struct client {
    rig *owner;
    int fd;
    char *in; /* everything received, terminated */
    size_t n_in;
    bool is_closed; /* end of file or reset seen */
} client;

void rig_open(rig *r, const phx_http_options *options); /* loop, routes and host are filled in */
void rig_close(rig *r); /* checks that no connection, handle or descriptor is left */
void rig_spin(rig *r);  /* a few rounds without waiting */

client *client_open(rig *r);
client *client_open_small(rig *r); /* tiny receive buffer */
void client_close(client *c);      /* accepts NULL */
void client_send(client *c, const char *text);
void client_send_n(client *c, const void *ptr, size_t n);
void client_wait(client *c, const char *text); /* until text has been received; fails after 10 s */
void client_wait_closed(client *c);
void client_forget(client *c); /* what was received so far */
/* Sends, waits for a whole answer with Content-Length, forgets it; returns its status. */
int client_ask(client *c, const char *text);
/* The same on a fresh connection. */
int ask(rig *r, const char *text);
int ask_n(rig *r, const void *ptr, size_t n);
/* Refused by exactly this fault with its status, and the connection closed. */
void check_refused(rig *r, const char *text, size_t n, phx_http_fault fault);

/* Rounds until *value reaches target; fails after 10 s. */
void rig_until(rig *r, const size_t *value, size_t target);

#endif
