/* tests/emu/test_emu_comm.c - collectives on the emulated device, as `--backend emu` has them: the plugin's
 * streams and events, memory that only kernels and copies may touch, the tree as a kernel, NCCL's stand-in.
 * Each rank is a process with an emulator of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/rng.h"
#include "kernels/backend.h"
#include "worker/comm/comm_nccl.h"
#include "worker/comm/tree.h"

#define N_TREE 1003 /* not a whole number of blocks */

static float tree_part(uint32_t r, size_t i)
{
    return phx_rng_unit(phx_rng_key(9, r, i, 0)) - 0.5f;
}

/* The kernel against worker/comm/tree.c, bit for bit. */
static bool tree_is_right(phx_backend *backend, uint32_t n_parts, phx_error *err)
{
    static float parts[PHX_TREE_PARTS_MAX][N_TREE], sum[N_TREE], expected[N_TREE];
    const float *rows[PHX_TREE_PARTS_MAX] = {0};
    const phx_device *d = backend->order;
    void *memory = NULL, *out = NULL;
    for (uint32_t r = 0; r < n_parts; r++) {
        rows[r] = parts[r];
        for (size_t i = 0; i < N_TREE; i++)
            parts[r][i] = tree_part(r, i);
    }
    phx_tree_add(expected, rows, n_parts, N_TREE);
    if (d->alloc(d->user, sizeof(parts), &memory, err) != PHX_OK ||
        d->alloc(d->user, sizeof(sum), &out, err) != PHX_OK ||
        phx_upload(backend, memory, parts, sizeof(parts), err) != PHX_OK)
        return false;
    const phx_device_tree tree = {
        .sum = out, .parts = memory, .stride = N_TREE, .n = N_TREE, .n_parts = n_parts};
    const bool good = d->tree_add(d->user, backend->stream, &tree, err) == PHX_OK &&
                      phx_download(backend, sum, out, sizeof(sum), err) == PHX_OK &&
                      memcmp(sum, expected, sizeof(sum)) == 0;
    d->release(d->user, memory);
    d->release(d->user, out);
    return good;
}

static bool says(const phx_comm *comm, const char *part, phx_error *err)
{
    phx_buf text;
    phx_buf_init(&text, 10000);
    const bool good = phx_comm_describe(comm, &text) == PHX_OK && strstr(text.ptr, part);
    if (!good)
        (void)PHX_FAIL(err, PHX_ERR_MISMATCH, "no '%s' in: %.300s", part, text.ptr);
    phx_buf_done(&text);
    return good;
}

static bool run_rank(const char *segment, const phx_comm_shape *shape, bool measure)
{
    const phx_device_request request = {.name = "emu", .dir = PHX_TEST_PLUGINS};
    const phx_comm_shape group = phx_comm_nccl_under_shape(shape);
    phx_comm_nccl_options options = {.library = PHX_TEST_NCCL, .measure = measure};
    phx_backend *backend = NULL;
    phx_comm *comm = NULL;
    phx_error err = {0};
    bool good = phx_backend_open(&request, &backend, &err) == PHX_OK;
    for (uint32_t n = 2; good && n <= PHX_TREE_PARTS_MAX; n *= 2)
        good = tree_is_right(backend, n, &err);
    if (good) {
        options.device = backend->order;
        options.stream = backend->stream;
        good = phx_comm_shm_create(segment, &group, &comm, &err) == PHX_OK &&
               phx_comm_nccl_create(comm, shape, &options, &comm, &err) == PHX_OK &&
               phx_comm_nccl_check(comm, &err) == PHX_OK;
        if (good && shape->tp > 1)
            good = says(comm, measure ? "as measured" : "peers' memory in one shot up to", &err);
    }
    phx_comm_destroy(comm);
    phx_backend_destroy(backend);
    if (!good)
        (void)fprintf(stderr, "rank %u of tp %u pp %u: %s\n", shape->rank, shape->tp, shape->pp, err.text);
    return good;
}

static void run_group(uint32_t tp, uint32_t pp, bool measure)
{
    char segment[64];
    phx_comm_shape shape = {
        .tp = tp, .pp = pp, .exchange_bytes = 20000, .stage_bytes = 5001, .timeout_ms = 30000};
    (void)snprintf(segment, sizeof(segment), "phx-test-emu-%d", (int)getpid());
    (void)fflush(NULL);
    for (shape.rank = 0; shape.rank < tp * pp; shape.rank++)
        if (fork() == 0)
            _exit(run_rank(segment, &shape, measure) ? 0 : 1);
    for (uint32_t r = 0; r < tp * pp; r++) {
        int status = 1;
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
}

static void collectives_move_device_memory(void **state)
{
    (void)state;
    run_group(2, 1, false);
    run_group(4, 1, true);
    run_group(1, 2, false);
    run_group(2, 2, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(collectives_move_device_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
