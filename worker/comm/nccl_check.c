/* worker/comm/nccl_check.c - does every link carry what is put into it? Asked once, before ready.
 * Owns: the patterns and the sizes. Small integers sum exactly in any order, so the expected bits are known;
 * an exchange in two shots uses every pair of ranks of the stage, messages down the stages every edge. */
#include "worker/comm/nccl_state.h"

#include <inttypes.h>

#include "base/alloc.h"

#define GATHER_BYTES_MAX ((size_t)1 << 20) /* of one rank */
#define N_SIZES_MAX      24u
#define N_ROUNDS         2u /* of exchanges: peers use two slots in turn, and old bytes must not do */

typedef struct check {
    phx_nccl *c;
    void *device[2]; /* n_bytes each: what the verb reads and writes */
    uint8_t *host;
    size_t n_bytes;
    uint32_t round;
} check;

typedef phx_code check_size(check *k, size_t n, phx_error *err);

static uint32_t pattern(uint32_t rank, size_t i)
{
    return (uint32_t)((i * 31 + rank * 77 + i / 1024) % 1024);
}

/* The host's memory is not pinned: the driver would wait, without an end, for verbs that are only queued. So
 * they are waited for before. */
static phx_code copy(check *k, void *to, const void *from, size_t n_bytes, phx_error *err)
{
    phx_nccl *c = k->c;
    phx_error cause = {0};
    const phx_device_copy what = {to, from, n_bytes};
    phx_code rc = phx_nccl_await_stream(c, err);
    if (rc != PHX_OK)
        return rc;
    rc = c->device->copy(c->device->user, c->stream, &what, &cause);
    return rc == PHX_OK ? phx_nccl_await_stream(c, err) : phx_nccl_fail_as(c, &cause, err);
}

static phx_code wrong(check *k, const char *what, size_t n, size_t at, phx_error *err)
{
    return phx_nccl_fail(k->c, PHX_ERR_NUMERIC, err,
                         "rank %" PRIu32 ", %s of %zu: wrong at %zu; a link between GPUs does not carry what "
                         "is put into it: try NCCL_P2P_DISABLE=1, and see NCCL_DEBUG=INFO",
                         k->c->base.shape.rank, what, n, at);
}

static phx_code check_exchange(check *k, size_t n, phx_error *err)
{
    phx_nccl *c = k->c;
    float *host = (float *)(void *)k->host;
    const uint32_t tp = c->base.shape.tp;
    for (size_t i = 0; i < n; i++)
        host[i] = (float)pattern(c->base.shape.rank, i + k->round);
    phx_code rc = copy(k, k->device[0], host, n * sizeof(*host), err);
    if (rc == PHX_OK)
        rc = phx_exchange(&c->base, k->device[0], n, err);
    if (rc == PHX_OK)
        rc = copy(k, host, k->device[0], n * sizeof(*host), err);
    for (size_t i = 0; i < n && rc == PHX_OK; i++) {
        uint32_t sum = 0;
        for (uint32_t r = 0; r < tp; r++)
            sum += pattern(c->first + r, i + k->round);
        if (host[i] != (float)sum)
            return wrong(k, "exchange", n, i, err);
    }
    return rc;
}

static phx_code check_gather(check *k, size_t n, phx_error *err)
{
    phx_nccl *c = k->c;
    const uint32_t tp = c->base.shape.tp;
    for (size_t i = 0; i < n; i++)
        k->host[i] = (uint8_t)pattern(c->base.shape.rank, i);
    phx_code rc = copy(k, k->device[0], k->host, n, err);
    if (rc == PHX_OK)
        rc = phx_gather(&c->base, k->device[0], n, k->device[1], err);
    if (rc == PHX_OK)
        rc = copy(k, k->host, k->device[1], tp * n, err);
    for (size_t i = 0; i < tp * n && rc == PHX_OK; i++)
        if (k->host[i] != (uint8_t)pattern(c->first + (uint32_t)(i / n), i % n))
            return wrong(k, "gather", n, i, err);
    return rc;
}

static phx_code check_message(check *k, size_t n, phx_error *err)
{
    phx_nccl *c = k->c;
    const phx_comm_shape *shape = &c->base.shape;
    const uint32_t stage = shape->rank / shape->tp;
    for (size_t i = 0; i < n; i++)
        k->host[i] = (uint8_t)pattern(shape->rank, i);
    phx_code rc = copy(k, k->device[0], k->host, n, err);
    if (rc == PHX_OK && phx_nccl_sends(shape))
        rc = phx_stage_send(&c->base, stage + 1, k->device[0], n, err);
    if (rc != PHX_OK || !phx_nccl_receives(shape))
        return rc;
    rc = phx_stage_recv(&c->base, stage - 1, k->device[1], n, err);
    if (rc == PHX_OK)
        rc = copy(k, k->host, k->device[1], n, err);
    for (size_t i = 0; i < n && rc == PHX_OK; i++)
        if (k->host[i] != (uint8_t)pattern(shape->rank - shape->tp, i))
            return wrong(k, "message", n, i, err);
    return rc;
}

/* Each size once that is at most n_max; 0 ends the list. */
static phx_code check_sizes(check *k, check_size *one, const size_t *sizes, size_t n_max, phx_error *err)
{
    phx_code rc = PHX_OK;
    for (uint32_t s = 0; s < N_SIZES_MAX && sizes[s] && rc == PHX_OK; s++)
        if (sizes[s] <= n_max)
            rc = one(k, sizes[s], err);
    return rc;
}

static phx_code take(check *k, phx_error *err)
{
    const phx_comm_shape *shape = &k->c->base.shape;
    const phx_device *d = k->c->device;
    phx_error cause = {0};
    const size_t gather =
        shape->tp * (shape->exchange_bytes < GATHER_BYTES_MAX ? shape->exchange_bytes : GATHER_BYTES_MAX);
    k->n_bytes = shape->exchange_bytes > gather ? shape->exchange_bytes : gather;
    if (shape->stage_bytes > k->n_bytes)
        k->n_bytes = shape->stage_bytes;
    k->host = phx_alloc(1, k->n_bytes + 1);
    phx_code rc = k->host ? PHX_OK : PHX_FAIL(&cause, PHX_ERR_NOMEM, "check of %zu bytes", k->n_bytes);
    for (uint32_t i = 0; i < 2 && rc == PHX_OK; i++)
        rc = d->alloc(d->user, k->n_bytes + 1, &k->device[i], &cause);
    return rc == PHX_OK ? PHX_OK : phx_nccl_fail_as(k->c, &cause, err);
}

/* Where the way changes, and some more. */
static void choose_values(const phx_nccl *c, size_t *ret_sizes)
{
    const size_t n_slot = c->base.shape.exchange_bytes / sizeof(float);
    uint32_t n = 0;
    ret_sizes[n++] = 1;
    ret_sizes[n++] = 7;
    ret_sizes[n++] = 1000;
    for (uint32_t i = 0; i < c->n_limits; i++) {
        ret_sizes[n++] = c->limits[i].n_bytes / sizeof(float);
        ret_sizes[n++] = c->limits[i].n_bytes / sizeof(float) + 1;
    }
    ret_sizes[n++] = n_slot;
    ret_sizes[n] = 0;
}

phx_code phx_comm_nccl_check(phx_comm *comm, phx_error *err)
{
    phx_nccl *c = phx_nccl_of(comm);
    const phx_comm_shape *shape = &comm->shape;
    check k = {.c = c};
    size_t values[N_SIZES_MAX];
    const size_t bytes[N_SIZES_MAX] = {1, 64, 4096, 65536, GATHER_BYTES_MAX};
    const size_t messages[N_SIZES_MAX] = {1, 64, 4096, shape->stage_bytes};
    const phx_comm_traffic before = comm->traffic;
    choose_values(c, values);
    phx_code rc = take(&k, err);
    for (; k.round < N_ROUNDS && rc == PHX_OK && shape->tp > 1; k.round++)
        rc = check_sizes(&k, check_exchange, values, shape->exchange_bytes / sizeof(float), err);
    if (rc == PHX_OK && shape->tp > 1)
        rc = check_sizes(&k, check_gather, bytes, k.n_bytes / shape->tp, err);
    if (rc == PHX_OK && shape->pp > 1)
        rc = check_sizes(&k, check_message, messages, shape->stage_bytes, err);
    if (rc == PHX_OK)
        rc = phx_comm_barrier(comm, err);
    for (uint32_t i = 0; i < 2 && !c->stuck; i++)
        c->device->release(c->device->user, k.device[i]);
    phx_free(k.host);
    if (rc == PHX_OK)
        c->under->ops->under->reset(c->under);
    comm->traffic = before; /* what steps move is compared with the plan */
    return rc;
}
