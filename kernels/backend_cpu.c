/* kernels/backend_cpu.c - the CPU as a backend: device memory is host memory, nothing is ever pending. Also
 * what all backends share. */
#include "kernels/backend.h"

#include <stdio.h>

#include "base/alloc.h"

static phx_code copy(phx_backend *backend, void *to, const void *from, size_t n_bytes, phx_error *err)
{
    (void)backend;
    (void)err;
    memmove(to, from, n_bytes);
    return PHX_OK;
}

static phx_code nothing_pending(phx_backend *backend, phx_error *err)
{
    (void)backend;
    (void)err;
    return PHX_OK;
}

static void destroy(phx_backend *backend)
{
    phx_free(backend);
}

static const phx_backend_fns fns = {
    .upload = copy, .fetch = copy, .sync = nothing_pending, .destroy = destroy};

phx_code phx_backend_cpu_create(phx_pool *pool, phx_level level, phx_backend **ret_backend, phx_error *err)
{
    phx_backend *backend = phx_alloc(1, sizeof(*backend));
    if (!backend)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "cpu backend");
    backend->fns = &fns;
    backend->name = "cpu";
    backend->queue = pool;
    phx_ops_choose(level, &backend->ops);
    (void)snprintf(backend->level, sizeof(backend->level), "%s", phx_level_name(level));
    (void)snprintf(backend->description, sizeof(backend->description), "cpu, level %s", backend->level);
    *ret_backend = backend;
    return PHX_OK;
}

void phx_backend_destroy(phx_backend *backend)
{
    if (backend)
        backend->fns->destroy(backend);
}

phx_code phx_device_take(phx_backend *backend, size_t n_bytes, void **ret_memory, phx_error *err)
{
    if (backend->device)
        return backend->device->take(backend->device->user, n_bytes, ret_memory, err);
    void *memory = phx_alloc(n_bytes ? n_bytes : 1, 1);
    if (!memory)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "%zu bytes", n_bytes);
    *ret_memory = memory;
    return PHX_OK;
}

void phx_device_give(phx_backend *backend, void *memory, size_t n_bytes)
{
    if (memory && backend->device)
        backend->device->give_back(backend->device->user, memory, n_bytes);
    else
        phx_free(memory);
}
