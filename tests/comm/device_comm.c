/* tests/comm/device_comm.c - verbs on host memory by way of an emulated device. */
#include "tests/comm/device_comm.h"

#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"

typedef struct device_comm {
    phx_comm base;
    phx_comm *inner;
    phx_backend *backend;
    struct dropped *dropped;
} device_comm;

/* Memory goes when the communicator has ended: a device gives none back while something runs on it, and a
 * message that nobody receives runs. */
typedef struct dropped {
    struct dropped *next;
    void *memory;
} dropped;

static device_comm *of(phx_comm *comm)
{
    return (device_comm *)(void *)comm;
}

/* Device memory with what `from` holds; from may be NULL. */
static phx_code put(device_comm *c, const void *from, size_t n_bytes, void **ret_memory, phx_error *err)
{
    const phx_device *d = c->backend->order;
    void *memory = NULL;
    phx_code rc = d->alloc(d->user, n_bytes + 1, &memory, err);
    if (rc == PHX_OK && from)
        rc = phx_upload(c->backend, memory, from, n_bytes, err);
    *ret_memory = memory;
    return rc;
}

static void drop(device_comm *c, void *memory)
{
    dropped *d = memory ? phx_alloc(1, sizeof(*d)) : NULL;
    if (!d) /* without memory for the note it stays */
        return;
    *d = (dropped){c->dropped, memory};
    c->dropped = d;
}

static void release_dropped(device_comm *c)
{
    while (c->dropped) {
        dropped *d = c->dropped;
        c->dropped = d->next;
        c->backend->order->release(c->backend->order->user, d->memory);
        phx_free(d);
    }
}

static phx_code exchange(phx_comm *comm, float *values, size_t n, phx_error *err)
{
    device_comm *c = of(comm);
    void *memory = NULL;
    phx_code rc = put(c, values, n * sizeof(*values), &memory, err);
    if (rc == PHX_OK)
        rc = c->inner->ops->exchange(c->inner, memory, n, err);
    if (rc == PHX_OK)
        rc = phx_download(c->backend, values, memory, n * sizeof(*values), err);
    drop(c, memory);
    return rc;
}

static phx_code gather(phx_comm *comm, const void *mine, size_t n_bytes, void *all, phx_error *err)
{
    device_comm *c = of(comm);
    const size_t all_bytes = comm->shape.tp * n_bytes;
    void *from = NULL, *to = NULL;
    phx_code rc = put(c, mine, n_bytes, &from, err);
    if (rc == PHX_OK)
        rc = put(c, NULL, all_bytes, &to, err);
    if (rc == PHX_OK)
        rc = c->inner->ops->gather(c->inner, from, n_bytes, to, err);
    if (rc == PHX_OK)
        rc = phx_download(c->backend, all, to, all_bytes, err);
    drop(c, from);
    drop(c, to);
    return rc;
}

static phx_code send(phx_comm *comm, uint32_t to_stage, const void *data, size_t n_bytes, phx_error *err)
{
    device_comm *c = of(comm);
    void *memory = NULL;
    phx_code rc = put(c, data, n_bytes, &memory, err);
    if (rc == PHX_OK)
        rc = c->inner->ops->send(c->inner, to_stage, memory, n_bytes, err);
    drop(c, memory);
    return rc;
}

static phx_code recv(phx_comm *comm, uint32_t from_stage, void *data, size_t n_bytes, phx_error *err)
{
    device_comm *c = of(comm);
    void *memory = NULL;
    phx_code rc = put(c, NULL, n_bytes, &memory, err);
    if (rc == PHX_OK)
        rc = c->inner->ops->recv(c->inner, from_stage, memory, n_bytes, err);
    if (rc == PHX_OK)
        rc = phx_download(c->backend, data, memory, n_bytes, err);
    drop(c, memory);
    return rc;
}

/* Notes are the host's. */
static phx_code note_send(phx_comm *comm, const void *data, size_t n_bytes, phx_error *err)
{
    return of(comm)->inner->ops->note_send(of(comm)->inner, data, n_bytes, err);
}

static phx_code note_recv(phx_comm *comm, void *data, size_t n_bytes, phx_error *err)
{
    return of(comm)->inner->ops->note_recv(of(comm)->inner, data, n_bytes, err);
}

static phx_code barrier(phx_comm *comm, phx_error *err)
{
    return of(comm)->inner->ops->barrier(of(comm)->inner, err);
}

static phx_code describe(const phx_comm *comm, phx_buf *buf)
{
    return phx_comm_describe(((const device_comm *)(const void *)comm)->inner, buf);
}

static phx_code verbs(const phx_comm *comm, uint32_t n_last, phx_buf *buf)
{
    return phx_comm_verbs(((const device_comm *)(const void *)comm)->inner, n_last, buf);
}

static void abort_comm(phx_comm *comm)
{
    phx_comm_abort(of(comm)->inner);
}

static void destroy(phx_comm *comm)
{
    device_comm *c = of(comm);
    phx_comm_destroy(c->inner);
    release_dropped(c);
    phx_backend_destroy(c->backend);
    phx_free(c);
}

static const phx_comm_ops device_ops = {
    .name = "nccl",
    .exchange = exchange,
    .gather = gather,
    .send = send,
    .recv = recv,
    .note_send = note_send,
    .note_recv = note_recv,
    .barrier = barrier,
    .describe = describe,
    .verbs = verbs,
    .abort = abort_comm,
    .destroy = destroy,
};

static phx_code open_inner(device_comm *c, phx_comm *under, phx_error *err)
{
    const phx_device_request request = {.name = "emu", .dir = PHX_TEST_PLUGINS};
    phx_comm_nccl_options options = {.library = PHX_TEST_NCCL};
    const phx_code rc = phx_backend_open(&request, &c->backend, err);
    if (rc != PHX_OK)
        return rc;
    options.device = c->backend->order;
    options.stream = c->backend->stream;
    return phx_comm_nccl_create(under, &c->base.shape, &options, &c->inner, err);
}

/* The rooms are what is tested: a stage that fell back to NCCL alone would pass. */
static phx_code check_peers(const phx_comm *inner, phx_error *err)
{
    phx_buf text;
    phx_buf_init(&text, 10000);
    phx_code rc = phx_comm_describe(inner, &text);
    if (rc == PHX_OK && inner->shape.tp > 1 && !strstr(text.ptr, "exchange by peers' memory"))
        rc = PHX_FAIL(err, PHX_ERR_MISMATCH, "no exchange through peers: %.300s", text.ptr);
    phx_buf_done(&text);
    return rc;
}

phx_code phx_device_comm_create(phx_comm *under, const phx_comm_shape *shape, phx_comm **ret_comm,
                                phx_error *err)
{
    device_comm *c = phx_alloc(1, sizeof(*c));
    phx_code rc = c ? PHX_OK : PHX_FAIL(err, PHX_ERR_NOMEM, "communicator");
    if (rc == PHX_OK) {
        c->base.ops = &device_ops;
        c->base.shape = *shape;
        rc = open_inner(c, under, err);
    }
    if (rc == PHX_OK)
        rc = check_peers(c->inner, err);
    if (rc == PHX_OK) {
        *ret_comm = &c->base;
        return PHX_OK;
    }
    phx_comm_destroy(c && c->inner ? c->inner : under);
    phx_backend_destroy(c ? c->backend : NULL);
    phx_free(c);
    return rc;
}
