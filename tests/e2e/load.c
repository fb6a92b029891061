/* tests/e2e/load.c - see load.h. */
#include "tests/e2e/load.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "client/control_client.h"

static const char *const bodies[] = {
    "{\"model\":\"demo\",\"stream\":true,\"max_tokens\":300,\"ignore_eos\":true,\"temperature\":1,\"seed\":7,"
    "\"messages\":[{\"role\":\"user\",\"content\":\"Tell me a story\"}]}",
    "{\"model\":\"demo\",\"stream\":true,\"max_tokens\":20,\"temperature\":0,"
    "\"messages\":[{\"role\":\"user\",\"content\":\"What is the capital of France?\"}]}",
    "{\"model\":\"demo\",\"stream\":false,\"max_tokens\":100,\"ignore_eos\":true,\"temperature\":0,\"n\":2,"
    "\"messages\":[{\"role\":\"user\",\"content\":\"Count from 1 to 20\"}]}",
};

static bool ask_http(load_client *c)
{
    web_reply reply;
    web_reply_init(&reply);
    web_ask(c->port, "/v1/chat/completions", c->body, LOAD_LIMIT_MS, &reply);
    const bool good = reply.end == WEB_WHOLE && !reply.error;
    if (!good) {
        c->end = reply.end == WEB_NO_CONNECT            ? LOAD_NO_SERVER
                 : reply.error && reply.end != WEB_OPEN ? LOAD_ERROR
                 : reply.end == WEB_CLOSED              ? LOAD_CLOSED
                                                        : LOAD_SILENT;
        const char *error = reply.body.ptr ? strstr(reply.body.ptr, "\"error\"") : NULL;
        (void)snprintf(c->why, sizeof(c->why), "status %d, %u bytes, %.160s", reply.status,
                       (unsigned)reply.raw.n, error ? error : "");
    }
    web_reply_done(&reply);
    return good;
}

static bool within_limit(void *user)
{
    return phx_clock_us() < *(const uint64_t *)user;
}

static bool ask_control(load_client *c)
{
    static char prompt[] = "The capital of France";
    Phalanx__GenerateRequest request = PHALANX__GENERATE_REQUEST__INIT;
    const Phalanx__GenerateEvent *event = NULL;
    phx_client *client = NULL;
    phx_error err = {0};
    uint64_t call_id = 0, until = phx_clock_us() + LOAD_LIMIT_MS * 1000ull;
    request.prompt_case = PHALANX__GENERATE_REQUEST__PROMPT_TEXT;
    request.text = prompt;
    request.max_tokens = 200;
    phx_code rc = phx_client_connect(c->control, NULL, &client, &err);
    if (rc == PHX_OK)
        rc = phx_client_generate(client, &request, 0, &call_id, &err);
    while (rc == PHX_OK) {
        rc = phx_client_next(client, call_id, within_limit, &until, &event, &err);
        if (!event)
            break;
    }
    if (rc != PHX_OK) {
        c->end = phx_clock_us() < until ? LOAD_ERROR : LOAD_SILENT;
        (void)snprintf(c->why, sizeof(c->why), "%.60s: %.180s", phx_code_text(rc), err.text);
    }
    phx_client_close(client);
    return rc == PHX_OK;
}

static void *run(void *user)
{
    load_client *c = user;
    bool good = true;
    while (good && !atomic_load(c->stop)) {
        good = c->control ? ask_control(c) : ask_http(c);
        if (good)
            atomic_fetch_add(&c->n_done, 1);
    }
    c->end_us = phx_clock_us();
    return NULL;
}

void load_start(load *l, uint16_t port, const char *control, uint32_t n_http, uint32_t n_control)
{
    memset(l, 0, sizeof(*l));
    l->n = n_http + n_control;
    assert_true(l->n <= LOAD_CLIENTS_MAX);
    for (uint32_t i = 0; i < l->n; i++) {
        load_client *c = &l->clients[i];
        c->control = i < n_http ? NULL : control;
        c->body = bodies[i % (sizeof(bodies) / sizeof(bodies[0]))];
        c->port = port;
        c->stop = &l->stop;
        assert_int_equal(pthread_create(&c->thread, NULL, run, c), 0);
    }
}

void load_join(load *l, bool stop)
{
    if (stop)
        atomic_store(&l->stop, true);
    for (uint32_t i = 0; i < l->n; i++)
        (void)pthread_join(l->clients[i].thread, NULL);
}

uint32_t load_done(const load *l)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < l->n; i++)
        n += atomic_load(&l->clients[i].n_done);
    return n;
}

const char *load_end_name(load_end end)
{
    static const char *const names[] = {"stopped", "error", "closed", "no server", "silent"};
    return names[end];
}
