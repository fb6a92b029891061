/* coordinator/api/work.h - what a request needs done to its texts before it can be answered: at once on the
 * loop for a small one, on a thread for a large one, on another for a small one that the checkpoint's own
 * template reads: only what goes the same way waits for it.
 * Owns: where it runs, the copy of a body that the thread needs, clients that leave meanwhile.
 * Not here: what is done (answer.c, tokens.c, control_call.c). The order of a connection's answers is
 * http/'s: it reads no further request while a reply is owed. */
#ifndef PHX_COORDINATOR_API_WORK_H
#define PHX_COORDINATOR_API_WORK_H

#include "coordinator/api/api_private.h"
#include "coordinator/text_thread.h"

/* Past this a text goes to the text thread. The worst text of this size takes a few milliseconds. */
#define PHX_API_BODY_DIRECT_MAX 16384u

typedef struct phx_api_work phx_api_work;

/* First member of what a route allocates. */
struct phx_api_work {
    phx_text_job job;        /* first */
    phx_api *api;            /* not for make */
    bool renders;            /* set by the caller: make may render a chat */
    phx_text_thread *thread; /* NULL: it ran on the loop */
    phx_http_reply *reply;   /* NULL: not of an HTTP request, or its client has left */
    phx_http_closed why;     /* then */
    phx_model_text text;     /* a copy: the loop's own may change with a new group */
    phx_bytes body;          /* of an HTTP request */
    void *body_copy;         /* NULL: the body is the request's */
    bool ok;                 /* made; else fault says why not */
    phx_api_fault fault;
    bool (*make)(phx_api_work *work,
                 phx_api_fault *fault); /* perhaps on the thread; false: fault filled in */
    void (*finish)(phx_api_work *work); /* on the loop, once: answers whoever is left, and frees */
};

/* make and finish are set by the caller; n_bytes of text are to be read, which live until finish. False: the
 * work is gone; true: it runs on. */
bool phx_api_work_begin(phx_api *api, phx_api_work *work, size_t n_bytes);

/* The same for the body of an HTTP request, which is copied where it has to live longer. */
void phx_api_work_begin_http(phx_api *api, phx_api_work *work, const phx_http_request *request,
                             phx_http_reply *reply);

/* Nobody waits any more for work that ran on: what has not begun finishes now, what runs already runs on. */
void phx_api_work_leave(phx_api_work *work);

/* Frees what this file allocated, and the work. */
void phx_api_work_free(phx_api_work *work);

#endif
