/* tests/e2e/load.h - clients that ask without pause until they are told to stop or the server fails them:
 * streams over HTTP and calls of the control service, each in a thread of its own. */
#ifndef PHX_TESTS_E2E_LOAD_H
#define PHX_TESTS_E2E_LOAD_H

#include <pthread.h>
#include <stdatomic.h>

#include "tests/e2e/web.h"

enum { LOAD_CLIENTS_MAX = 16, LOAD_LIMIT_MS = 120000 };

typedef enum load_end {
    LOAD_STOPPED,   /* was told to, between two requests */
    LOAD_ERROR,     /* an error event, a status of 5xx, or an error of the control service */
    LOAD_CLOSED,    /* the connection closed in the middle of an answer */
    LOAD_NO_SERVER, /* nobody listens any more */
    LOAD_SILENT     /* no end within LOAD_LIMIT_MS */
} load_end;

typedef struct load_client {
    const char *control; /* NULL: HTTP */
    const char *body;
    uint16_t port;
    atomic_bool *stop;
    atomic_uint n_done; /* answers that ended well */
    /* once joined */
    load_end end;
    uint64_t end_us;
    char why[256];
    pthread_t thread;
} load_client;

typedef struct load {
    load_client clients[LOAD_CLIENTS_MAX];
    uint32_t n;
    atomic_bool stop;
} load;

/* n_http streams of chats and n_control calls. */
void load_start(load *l, uint16_t port, const char *control, uint32_t n_http, uint32_t n_control);
/* Waits until every client has ended; with `stop` they end after the request in work. */
void load_join(load *l, bool stop);
uint32_t load_done(const load *l);
const char *load_end_name(load_end end);

#endif
