/* tests/comm/host_device.c - a device whose memory is the host's. */
#include "tests/comm/host_device.h"

#include <string.h>

#include "base/alloc.h"
#include "tests/emu/stream.h"
#include "worker/comm/tree.h"

static phx_code take(void *user, size_t n_bytes, void **ret_memory, phx_error *err)
{
    (void)user;
    void *memory = phx_alloc(1, n_bytes);
    if (!memory)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "%zu bytes", n_bytes);
    memset(memory, 0xee, n_bytes); /* a device's memory is not zeroed */
    *ret_memory = memory;
    return PHX_OK;
}

static void release(void *user, void *memory)
{
    (void)user;
    phx_free(memory);
}

static phx_code stream_create(void *user, void **ret_stream, phx_error *err)
{
    (void)user;
    phx_emu_stream *stream = phx_emu_stream_create(NULL);
    if (!stream)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "stream");
    *ret_stream = stream;
    return PHX_OK;
}

static void stream_destroy(void *user, void *stream)
{
    (void)user;
    phx_emu_stream_destroy(stream);
}

static phx_code event_create(void *user, void **ret_event, phx_error *err)
{
    (void)user;
    phx_emu_event *event = phx_emu_event_create();
    if (!event)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "event");
    *ret_event = event;
    return PHX_OK;
}

static void event_destroy(void *user, void *event)
{
    (void)user;
    phx_emu_event_destroy(event);
}

static phx_code queued(bool good, phx_error *err)
{
    return good ? PHX_OK : PHX_FAIL(err, PHX_ERR_NOMEM, "item of a stream");
}

static phx_code record(void *user, void *event, void *stream, phx_error *err)
{
    (void)user;
    return queued(phx_emu_event_record(event, stream), err);
}

static phx_code follow(void *user, void *stream, void *event, phx_error *err)
{
    (void)user;
    return queued(phx_emu_event_follow(stream, event), err);
}

static phx_code is_done(void *user, void *event, bool *ret_done, phx_error *err)
{
    (void)user;
    (void)err;
    *ret_done = phx_emu_event_is_done(event);
    return PHX_OK;
}

static void run_copy(void *arg)
{
    const phx_device_copy *copy = arg;
    memmove(copy->to, copy->from, copy->n_bytes);
}

static phx_code copy(void *user, void *stream, const phx_device_copy *what, phx_error *err)
{
    (void)user;
    return queued(phx_emu_stream_queue(stream, run_copy, what, sizeof(*what)), err);
}

static void run_tree(void *arg)
{
    const phx_device_tree *tree = arg;
    const float *parts[PHX_TREE_PARTS_MAX] = {0};
    for (uint32_t r = 0; r < tree->n_parts; r++)
        parts[r] = tree->parts + r * tree->stride;
    phx_tree_add(tree->sum, parts, tree->n_parts, tree->n);
}

static phx_code tree_add(void *user, void *stream, const phx_device_tree *tree, phx_error *err)
{
    (void)user;
    return queued(phx_emu_stream_queue(stream, run_tree, tree, sizeof(*tree)), err);
}

const phx_device phx_host_device = {
    .alloc = take,
    .release = release,
    .stream_create = stream_create,
    .stream_destroy = stream_destroy,
    .event_create = event_create,
    .event_destroy = event_destroy,
    .record = record,
    .follow = follow,
    .is_done = is_done,
    .copy = copy,
    .tree_add = tree_add,
};
