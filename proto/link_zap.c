/* proto/link_zap.c - who may come in: the ZAP handler (ZeroMQ RFC 27) with one allowed client key.
 * A thread, because libzmq asks during handshakes, at any time, and a peer hangs silently while nobody
 * answers. It holds no state but the key and ends when its context is shut down. */
#include "proto/link_private.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <zmq.h>

#include "base/alloc.h"

#define KEY_BYTES   32u
#define N_PARTS_MAX 16

struct phx_zap {
    void *socket; /* REP; belongs to the thread once it runs */
    uint8_t client_public[KEY_BYTES];
    pthread_t thread;
};

/* What we need of a request; its parts in order: version, request id, domain, address, identity, mechanism,
 * key. */
typedef struct request {
    char version[8];
    uint8_t id[64];
    size_t n_id;
    char mechanism[16];
    uint8_t key[KEY_BYTES];
    size_t n_key;
    int n_parts;
} request;

static void *zap_run(void *user);
static bool receive_request(void *socket, request *ret_request);
static bool reply(void *socket, const request *r, bool allowed);

phx_code phx_zap_start(void *context, const char *client_public, phx_zap **ret_zap, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_zap *zap = phx_alloc(1, sizeof(*zap));
    if (!zap) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "key check");
        goto out;
    }
    if (!zmq_z85_decode(zap->client_public, client_public)) {
        rc = PHX_FAIL(err, PHX_ERR_INVALID, "the client's public key is not Z85");
        goto out;
    }
    zap->socket = zmq_socket(context, ZMQ_REP);
    const int linger = 0;
    if (!zap->socket || zmq_setsockopt(zap->socket, ZMQ_LINGER, &linger, sizeof(linger)) != 0 ||
        zmq_bind(zap->socket, "inproc://zeromq.zap.01") != 0) {
        rc = PHX_FAIL(err, PHX_ERR_IO, "key check: %s", zmq_strerror(zmq_errno()));
        goto out;
    }
    const int failed = pthread_create(&zap->thread, NULL, zap_run, zap);
    if (failed) {
        rc = PHX_FAIL(err, PHX_ERR_IO, "thread of the key check: %s", strerror(failed));
        goto out;
    }
    *ret_zap = zap;
    zap = NULL;
out:
    if (zap && zap->socket)
        (void)zmq_close(zap->socket);
    phx_free(zap);
    return rc;
}

void phx_zap_join(phx_zap *zap)
{
    if (!zap)
        return;
    (void)pthread_join(zap->thread, NULL);
    phx_free(zap);
}

static void *zap_run(void *user)
{
    phx_zap *zap = user;
    request r;
    while (receive_request(zap->socket, &r)) {
        const bool allowed = r.n_parts == 7 && strcmp(r.version, "1.0") == 0 &&
                             strcmp(r.mechanism, "CURVE") == 0 && r.n_key == KEY_BYTES &&
                             memcmp(r.key, zap->client_public, KEY_BYTES) == 0;
        if (!reply(zap->socket, &r, allowed))
            break;
    }
    (void)zmq_close(zap->socket);
    return NULL;
}

/* Keeps the part when it is one of ours and fits. */
static void keep_part(request *r, int i, const uint8_t *ptr, size_t n)
{
    if (i == 0 && n < sizeof(r->version))
        memcpy(r->version, ptr, n);
    if (i == 1 && n <= sizeof(r->id)) {
        memcpy(r->id, ptr, n);
        r->n_id = n;
    }
    if (i == 5 && n < sizeof(r->mechanism))
        memcpy(r->mechanism, ptr, n);
    if (i == 6 && n == KEY_BYTES) {
        memcpy(r->key, ptr, n);
        r->n_key = n;
    }
}

/* False when the context ends. */
static bool receive_request(void *socket, request *ret_request)
{
    request r = {0};
    for (int more = 1; more && r.n_parts < N_PARTS_MAX; r.n_parts++) {
        uint8_t part[256];
        int n;
        do
            n = zmq_recv(socket, part, sizeof(part), 0);
        while (n < 0 && zmq_errno() == EINTR);
        if (n < 0)
            return false;
        if ((size_t)n <= sizeof(part)) /* zmq_recv cuts, and tells the true length */
            keep_part(&r, r.n_parts, part, (size_t)n);
        size_t more_bytes = sizeof(more);
        if (zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &more_bytes) != 0)
            return false;
    }
    *ret_request = r;
    return true;
}

static bool reply(void *socket, const request *r, bool allowed)
{
    const struct {
        const void *ptr;
        size_t n;
    } parts[] = {{"1.0", 3},
                 {r->id, r->n_id},
                 {allowed ? "200" : "400", 3},
                 {allowed ? "OK" : "key not known", allowed ? 2 : 13},
                 {"", 0},
                 {"", 0}};
    const int n_parts = (int)(sizeof(parts) / sizeof(parts[0]));
    for (int i = 0; i < n_parts; i++) {
        int n;
        do
            n = zmq_send(socket, parts[i].ptr, parts[i].n, i + 1 < n_parts ? ZMQ_SNDMORE : 0);
        while (n < 0 && zmq_errno() == EINTR);
        if (n < 0)
            return false;
    }
    return true;
}
