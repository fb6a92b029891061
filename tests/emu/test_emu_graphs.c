/* tests/emu/test_emu_graphs.c - recordings on the emulated device: a replay reads device memory as it is then
 * and arguments as they were; what a chip refuses while it records is refused here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/backend.h"

#define N 700 /* not a whole number of blocks */

typedef struct setup {
    phx_backend *backend;
    float *x, *y, *z; /* device */
    float *pinned;    /* [N] */
} setup;

static int open_device(void **state)
{
    static setup s;
    phx_error err = {0};
    void *memory[4] = {0};
    const phx_device_request request = {.name = "emu", .dir = PHX_TEST_PLUGINS, .allow_unproven = true};
    if (phx_backend_open(&request, &s.backend, &err) != PHX_OK ||
        phx_device_take(s.backend, N * sizeof(float), &memory[0], &err) != PHX_OK ||
        phx_device_take(s.backend, N * sizeof(float), &memory[1], &err) != PHX_OK ||
        phx_device_take(s.backend, N * sizeof(float), &memory[2], &err) != PHX_OK ||
        s.backend->pinned->take(s.backend->pinned->user, N * sizeof(float), &memory[3], &err) != PHX_OK)
        return -1;
    s.x = memory[0];
    s.y = memory[1];
    s.z = memory[2];
    s.pinned = memory[3];
    *state = &s;
    return 0;
}

static int close_device(void **state)
{
    setup *s = *state;
    phx_device_give(s->backend, s->x, N * sizeof(float));
    phx_device_give(s->backend, s->y, N * sizeof(float));
    phx_device_give(s->backend, s->z, N * sizeof(float));
    s->backend->pinned->give_back(s->backend->pinned->user, s->pinned, N * sizeof(float));
    phx_backend_destroy(s->backend);
    return 0;
}

static void put(setup *s, float *to, float value)
{
    phx_error err = {0};
    for (size_t i = 0; i < N; i++)
        s->pinned[i] = value;
    assert_int_equal(phx_upload(s->backend, to, s->pinned, N * sizeof(float), &err), PHX_OK);
    assert_int_equal(phx_sync(s->backend, &err), PHX_OK);
}

static void expect(setup *s, const float *from, float value)
{
    phx_error err = {0};
    assert_int_equal(phx_download(s->backend, s->pinned, from, N * sizeof(float), &err), PHX_OK);
    for (size_t i = 0; i < N; i++)
        assert_true(s->pinned[i] == value);
}

static void replay(setup *s, phx_graph *graph)
{
    phx_error err = {0};
    assert_int_equal(s->backend->fns->replay(s->backend, graph, &err), PHX_OK);
    assert_int_equal(phx_sync(s->backend, &err), PHX_OK);
}

/* y = (y + x) + more; recording runs nothing. */
static phx_graph *record_sum(setup *s, const float *more)
{
    phx_error err = {0};
    phx_graph *graph = NULL;
    size_t n_nodes = 0;
    phx_backend *b = s->backend;
    assert_int_equal(b->fns->record(b, &err), PHX_OK);
    b->ops.add(b->queue, &(phx_add_args){s->y, s->x, N});
    b->ops.add(b->queue, &(phx_add_args){s->y, more, N});
    assert_int_equal(b->fns->recorded(b, &graph, &n_nodes, &err), PHX_OK);
    assert_non_null(graph);
    assert_int_equal(n_nodes, 2);
    return graph;
}

static void replays_read_device_memory(void **state)
{
    setup *s = *state;
    put(s, s->x, 3);
    put(s, s->y, 1);
    phx_graph *graph = record_sum(s, s->x);
    expect(s, s->y, 1);
    replay(s, graph);
    expect(s, s->y, 7);
    put(s, s->x, -5);
    replay(s, graph);
    replay(s, graph);
    expect(s, s->y, -13);
    s->backend->fns->graph_destroy(s->backend, graph);
}

/* What would go wrong: an argument that the host changes keeps its value in a recording, so what is
 * replayed differs from what is queued anew. */
static void stale_arguments_show(void **state)
{
    setup *s = *state;
    phx_error err = {0};
    const float *more = s->x;
    put(s, s->x, 1);
    put(s, s->y, 1);
    put(s, s->z, 10);
    phx_graph *graph = record_sum(s, more);
    more = s->z;
    replay(s, graph);
    expect(s, s->y, 3); /* and not 12, as walked: */
    put(s, s->y, 1);
    s->backend->ops.add(s->backend->queue, &(phx_add_args){s->y, s->x, N});
    s->backend->ops.add(s->backend->queue, &(phx_add_args){s->y, more, N});
    assert_int_equal(phx_sync(s->backend, &err), PHX_OK);
    expect(s, s->y, 12);
    s->backend->fns->graph_destroy(s->backend, graph);
}

/* Copies from pinned memory are recorded with its address, and read it when they are replayed. */
static void copies_read_pinned_memory_late(void **state)
{
    setup *s = *state;
    phx_error err = {0};
    phx_graph *graph = NULL;
    size_t n_nodes = 0;
    phx_backend *b = s->backend;
    put(s, s->x, 3);
    assert_int_equal(b->fns->record(b, &err), PHX_OK);
    assert_int_equal(phx_upload(b, s->x, s->pinned, N * sizeof(float), &err), PHX_OK);
    assert_int_equal(b->fns->recorded(b, &graph, &n_nodes, &err), PHX_OK);
    for (size_t i = 0; i < N; i++)
        s->pinned[i] = 9;
    replay(s, graph);
    memset(s->pinned, 0, N * sizeof(float));
    expect(s, s->x, 9);
    b->fns->graph_destroy(b, graph);
}

typedef phx_code forbidden(setup *s, phx_error *err);

static phx_code plain_copy(setup *s, phx_error *err)
{
    static float plain[N]; /* a pointer to host memory that may change or go away */
    return phx_upload(s->backend, s->x, plain, sizeof(plain), err);
}

static phx_code wait_here(setup *s, phx_error *err)
{
    return phx_sync(s->backend, err);
}

static phx_code take_memory(setup *s, phx_error *err)
{
    void *memory = NULL;
    return phx_device_take(s->backend, 64, &memory, err);
}

static void what_a_chip_refuses_is_refused(void **state)
{
    static forbidden *const all[] = {plain_copy, wait_here, take_memory};
    setup *s = *state;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        phx_error err = {0}, again = {0};
        phx_graph *graph = NULL;
        size_t n_nodes = 0;
        assert_int_equal(s->backend->fns->record(s->backend, &err), PHX_OK);
        assert_int_not_equal(all[i](s, &err), PHX_OK);
        assert_int_not_equal(s->backend->fns->recorded(s->backend, &graph, &n_nodes, &again), PHX_OK);
        assert_null(graph);
        put(s, s->x, 1); /* and the device goes on */
        put(s, s->y, 2);
        s->backend->ops.add(s->backend->queue, &(phx_add_args){s->y, s->x, N});
        expect(s, s->y, 3);
    }
}

/* The runtime keeps an error until it is asked, and every launch asks. */
static void a_refusal_is_told_once(void **state)
{
    setup *s = *state;
    phx_error err = {0};
    void *memory = NULL;
    const phx_device *d = s->backend->order;
    put(s, s->x, 1);
    put(s, s->y, 2);
    assert_int_equal(phx_device_take(s->backend, (size_t)1 << 50, &memory, &err), PHX_ERR_NOMEM);
    s->backend->ops.add(s->backend->queue, &(phx_add_args){s->y, s->x, N});
    expect(s, s->y, 3);
    assert_int_equal(d->alloc(d->user, (size_t)1 << 50, &memory, &err), PHX_ERR_NOMEM);
    s->backend->ops.add(s->backend->queue, &(phx_add_args){s->y, s->x, N});
    expect(s, s->y, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replays_read_device_memory),     cmocka_unit_test(stale_arguments_show),
        cmocka_unit_test(copies_read_pinned_memory_late), cmocka_unit_test(what_a_chip_refuses_is_refused),
        cmocka_unit_test(a_refusal_is_told_once),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
