/* tests/api/gate.h - holds the text thread until the test lets it go, so that nothing depends on how long
 * something takes; and texts that are large enough for that thread. */
#ifndef PHX_TESTS_API_GATE_H
#define PHX_TESTS_API_GATE_H

#include <pthread.h>

#include "coordinator/api/work.h"
#include "tests/api/api_rig.h"

enum { GATE_PAD_BYTES = 2 * PHX_API_BODY_DIRECT_MAX };

/* A job before which the thread stands until the test opens it. */
typedef struct gate {
    phx_text_job job; /* first */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_open;
    bool is_done;
} gate;

void gate_close(gate *g, const api_rig *r, size_t n_bytes); /* n_bytes: that it counts for the bound */
void gate_close_chat(gate *g, const api_rig *r);            /* of the thread for small chats */
void gate_open(gate *g);

/* An object with these fields, large by blanks; the caller frees it by phx_free. */
char *gate_padded(const char *fields);

#endif
