/* tests/api/gate.c - see gate.h. */
#include "tests/api/gate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"

static void run_gate(phx_text_job *job)
{
    gate *g = (gate *)job;
    (void)pthread_mutex_lock(&g->lock);
    while (!g->is_open)
        (void)pthread_cond_wait(&g->changed, &g->lock);
    (void)pthread_mutex_unlock(&g->lock);
}

static void done_gate(phx_text_job *job)
{
    ((gate *)job)->is_done = true;
}

static void hold(gate *g, phx_text_thread *thread, size_t n_bytes)
{
    *g = (gate){.job = {.run = run_gate, .done = done_gate, .n_bytes = n_bytes},
                .lock = PTHREAD_MUTEX_INITIALIZER,
                .changed = PTHREAD_COND_INITIALIZER};
    assert_int_equal(phx_text_thread_submit(thread, &g->job, NULL), PHX_OK);
}

void gate_close(gate *g, const api_rig *r, size_t n_bytes)
{
    hold(g, r->api->text_thread, n_bytes);
}

void gate_close_chat(gate *g, const api_rig *r)
{
    hold(g, r->api->chat_thread, 1);
}

void gate_open(gate *g)
{
    (void)pthread_mutex_lock(&g->lock);
    g->is_open = true;
    (void)pthread_cond_signal(&g->changed);
    (void)pthread_mutex_unlock(&g->lock);
}

char *gate_padded(const char *fields)
{
    const size_t n = strlen(fields);
    char *body = phx_alloc(n + GATE_PAD_BYTES + 3, 1);
    assert_non_null(body);
    body[0] = '{';
    memcpy(body + 1, fields, n);
    memset(body + 1 + n, ' ', GATE_PAD_BYTES);
    body[1 + n + GATE_PAD_BYTES] = '}';
    return body;
}
