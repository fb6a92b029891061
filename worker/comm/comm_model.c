/* worker/comm/comm_model.c - verbs that take their modelled time and move nothing between ranks. */
#include "worker/comm/comm_model.h"

#include <stdatomic.h>
#include <time.h>

#include "base/alloc.h"
#include "worker/comm/shape.h"

typedef struct model {
    phx_comm base;
    phx_comm_model_options options;
    uint64_t n_verbs;
    double us;
    atomic_bool aborted;
} model;

double phx_comm_delay_us(const phx_comm_delay *delay, size_t n_bytes)
{
    return delay->latency_us + (double)n_bytes / delay->bytes_per_s * 1e6;
}

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static phx_code take_time(model *m, size_t n_bytes, phx_error *err)
{
    const phx_backend *backend = m->options.backend;
    const double us = phx_comm_delay_us(&m->options.delay, n_bytes);
    if (atomic_load(&m->aborted))
        return PHX_FAIL(err, PHX_ERR_COMM, "the communicator was aborted");
    m->n_verbs++;
    m->us += us;
    if (backend->device)
        return backend->order->pause(backend->order->user, backend->stream, (uint64_t)(us * 1e3), err);
    const uint64_t end = now_ns() + (uint64_t)(us * 1e3);
    while (now_ns() < end) {
    }
    return PHX_OK;
}

static phx_code model_exchange(phx_comm *comm, float *values, size_t n, phx_error *err)
{
    (void)values;
    return comm->shape.tp > 1 ? take_time((model *)(void *)comm, n * sizeof(float), err) : PHX_OK;
}

static phx_code copy_share(const model *m, void *to, const void *mine, size_t n_bytes, phx_error *err)
{
    const phx_backend *backend = m->options.backend;
    const phx_device_copy copy = {to, mine, n_bytes};
    if (to == mine)
        return PHX_OK;
    if (backend->device)
        return backend->order->copy(backend->order->user, backend->stream, &copy, err);
    memcpy(to, mine, n_bytes);
    return PHX_OK;
}

static phx_code model_gather(phx_comm *comm, const void *mine, size_t n_bytes, void *all, phx_error *err)
{
    model *m = (model *)(void *)comm;
    phx_code rc = comm->shape.tp > 1 ? take_time(m, n_bytes * comm->shape.tp, err) : PHX_OK;
    for (uint32_t r = 0; r < comm->shape.tp && rc == PHX_OK; r++)
        rc = copy_share(m, (uint8_t *)all + r * n_bytes, mine, n_bytes, err);
    return rc;
}

static phx_code no_stage(phx_error *err)
{
    return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "a modelled communicator has one stage");
}

static phx_code model_send(phx_comm *comm, uint32_t to_stage, const void *data, size_t n_bytes,
                           phx_error *err)
{
    (void)comm;
    (void)to_stage;
    (void)data;
    (void)n_bytes;
    return no_stage(err);
}

static phx_code model_recv(phx_comm *comm, uint32_t from_stage, void *data, size_t n_bytes, phx_error *err)
{
    (void)comm;
    (void)from_stage;
    (void)data;
    (void)n_bytes;
    return no_stage(err);
}

static phx_code model_barrier(phx_comm *comm, phx_error *err)
{
    return take_time((model *)(void *)comm, 0, err);
}

static phx_code model_describe(const phx_comm *comm, phx_buf *buf)
{
    const model *m = (const model *)(const void *)comm;
    return phx_buf_printf(buf, "collectives: modelled, %.1f us and %.0f GB/s a verb",
                          m->options.delay.latency_us, m->options.delay.bytes_per_s * 1e-9);
}

static phx_code model_verbs(const phx_comm *comm, uint32_t n_last, phx_buf *buf)
{
    const model *m = (const model *)(const void *)comm;
    (void)n_last; /* it keeps none: there is no peer to wait for */
    return phx_buf_printf(buf, "%llu modelled verbs\n", (unsigned long long)m->n_verbs);
}

static void model_abort(phx_comm *comm)
{
    atomic_store(&((model *)(void *)comm)->aborted, true);
}

static void model_destroy(phx_comm *comm)
{
    phx_free(comm);
}

static const phx_comm_ops model_ops = {
    .name = "model",
    .exchange = model_exchange,
    .gather = model_gather,
    .send = model_send,
    .recv = model_recv,
    .barrier = model_barrier,
    .describe = model_describe,
    .verbs = model_verbs,
    .abort = model_abort,
    .destroy = model_destroy,
};

phx_code phx_comm_model_create(const phx_comm_shape *shape, const phx_comm_model_options *options,
                               phx_comm **ret_comm, phx_error *err)
{
    const phx_code rc = phx_comm_shape_check(shape, err);
    if (rc != PHX_OK)
        return rc;
    if (shape->pp != 1)
        return no_stage(err);
    if (options->backend->device && !options->backend->order->pause)
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "backend %s cannot wait in its stream",
                        options->backend->name);
    model *m = phx_alloc(1, sizeof(*m));
    if (!m)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "modelled communicator");
    m->base.ops = &model_ops;
    m->base.shape = *shape;
    m->options = *options;
    *ret_comm = &m->base;
    return PHX_OK;
}

void phx_comm_model_count(const phx_comm *comm, uint64_t *ret_n_verbs, double *ret_us)
{
    const model *m = (const model *)(const void *)comm;
    *ret_n_verbs = m->n_verbs;
    *ret_us = m->us;
}
