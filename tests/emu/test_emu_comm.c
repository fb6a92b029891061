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

/* Devices with one fault each, for rooms. */
typedef enum fault { NO_FAULT, OFF_BY_OPTION, NO_ACCESS, LOST_VALUE, LOST_RANKS, LOST_IN_CHECK } fault;

static phx_code no_access(void *user, const phx_device_offer *offer, void **ret_room, phx_error *err)
{
    (void)user;
    (void)ret_room;
    return PHX_FAIL(err, PHX_ERR_UNAVAILABLE, "no peer access to GPU %.31s", offer->where);
}

/* The last value of more than a few is not exchanged; the same on every rank. */
static phx_code lose_one(void *user, void *stream, const phx_device_exchange *what, phx_error *err)
{
    phx_device_exchange shorter = *what;
    shorter.n -= what->n > 100;
    return ((const phx_device *)user)->peers->exchange(NULL, stream, &shorter, err);
}

typedef struct setup {
    const char *segment;
    bool measure;
    fault fault;
    phx_backend *backend;
} setup;

/* Only the last rank cannot reach the others: none of the stage may go that way then. */
static void break_device(const setup *how, const phx_comm_shape *shape, phx_device_peers *ret_peers,
                         phx_device *ret_device)
{
    const bool is_last = shape->rank % shape->tp == shape->tp - 1;
    if (how->fault == NO_ACCESS && is_last)
        ret_peers->open = no_access;
    if (how->fault == LOST_VALUE)
        ret_peers->exchange = lose_one;
    ret_device->peers = ret_peers;
}

/* After the first exchange of the check, of the value that rank 1 has in it (nccl_check.c, pattern). */
static bool leaves_in_check(phx_backend *backend, phx_comm *comm, phx_error *err)
{
    static const float its_value = 77;
    void *one = NULL;
    phx_code rc = phx_device_take(backend, sizeof(float), &one, err);
    if (rc == PHX_OK)
        rc = phx_upload(backend, one, &its_value, sizeof(float), err);
    if (rc == PHX_OK)
        rc = phx_exchange(comm, one, 1, err);
    if (rc == PHX_OK)
        rc = phx_comm_wait(comm, err);
    if (rc != PHX_OK)
        (void)fprintf(stderr, "the rank that leaves: %s\n", err->text);
    return rc == PHX_OK;
}

static bool check_comm(const setup *how, phx_comm *comm, phx_error *err)
{
    static const char *const expected[] = {
        [NO_FAULT] = "; exchange by peers' memory in one shot up to ",
        [OFF_BY_OPTION] = "no peers' memory (rank 0: peer access is switched off by NCCL_P2P_DISABLE); "
                          "exchange by NCCL in one shot",
        [NO_ACCESS] = "no peers' memory (rank 1: rank 0: no peer access to GPU emu:",
        [LOST_VALUE] = "; exchange by peers' memory",
        [LOST_RANKS] = "; exchange by peers' memory",
        [LOST_IN_CHECK] = "; exchange by peers' memory"};
    const char *part = how->measure ? "as measured" : expected[how->fault];
    if (comm->shape.tp > 1 && !says(comm, part, err))
        return false;
    if (how->fault == LOST_IN_CHECK && comm->shape.rank == 1)
        _exit(leaves_in_check(how->backend, comm, err) ? 0 : 1);
    const phx_code rc = phx_comm_nccl_check(comm, err);
    if (how->fault == LOST_IN_CHECK)
        return rc == PHX_ERR_PEER_LOST; /* and no wait without an end for what rank 1 does not bring */
    if (how->fault != LOST_VALUE)
        return rc == PHX_OK;
    return rc == PHX_ERR_NUMERIC || rc == PHX_ERR_COMM; /* or another rank has found it first */
}

/* A gather and an exchange, recorded once and replayed with other numbers each time. */
static bool replays_are_right(phx_backend *backend, phx_comm *comm, phx_error *err)
{
    enum { N = 300, N_REPLAYS = 3 };
    static float host[N], all[PHX_TREE_PARTS_MAX * N];
    const uint32_t tp = comm->shape.tp, tp_rank = comm->shape.rank % tp;
    const uint32_t first = comm->shape.rank - tp_rank;
    void *mine = NULL, *gathered = NULL;
    phx_graph *graph = NULL;
    size_t n_nodes = 0;
    phx_code rc = phx_device_take(backend, sizeof(host), &mine, err);
    if (rc == PHX_OK)
        rc = phx_device_take(backend, tp * sizeof(host), &gathered, err);
    if (rc == PHX_OK)
        rc = backend->fns->record(backend, err);
    if (rc == PHX_OK)
        rc = phx_gather(comm, mine, sizeof(host), gathered, err);
    if (rc == PHX_OK)
        rc = phx_exchange(comm, mine, N, err);
    if (rc == PHX_OK)
        rc = backend->fns->recorded(backend, &graph, &n_nodes, err);
    for (uint32_t k = 0; k < N_REPLAYS && rc == PHX_OK; k++) {
        for (size_t i = 0; i < N; i++)
            host[i] = (float)(comm->shape.rank * 1000 + k * 10 + i % 7);
        rc = phx_upload(backend, mine, host, sizeof(host), err);
        if (rc == PHX_OK)
            rc = backend->fns->replay(backend, graph, err);
        if (rc == PHX_OK)
            rc = phx_comm_wait(comm, err);
        if (rc == PHX_OK)
            rc = phx_download(backend, all, gathered, tp * sizeof(host), err);
        if (rc == PHX_OK)
            rc = phx_download(backend, host, mine, sizeof(host), err);
        for (size_t i = 0; i < N && rc == PHX_OK; i++) {
            float sum = 0;
            for (uint32_t r = 0; r < tp; r++) {
                const float part = (float)((first + r) * 1000 + k * 10 + i % 7);
                sum += part;
                if (all[r * N + i] != part)
                    rc = PHX_FAIL(err, PHX_ERR_NUMERIC, "replay %u: gathered element %zu", k, i);
            }
            if (rc == PHX_OK && host[i] != sum)
                rc = PHX_FAIL(err, PHX_ERR_NUMERIC, "replay %u: exchanged element %zu", k, i);
        }
    }
    backend->fns->graph_destroy(backend, graph);
    phx_device_give(backend, mine, sizeof(host));
    phx_device_give(backend, gathered, tp * sizeof(host));
    return rc == PHX_OK;
}

/* The ranks of the first stage have gone. Those of the second wait for their message, with a recording that
 * names the link of their stage: NCCL ends that link when the recording has gone, and no link while a kernel
 * of another one spins. All of it ends here, and then memory can be given back, for which the device must be
 * idle. */
static bool loss_ends(phx_backend *backend, phx_comm *comm, phx_error *err)
{
    enum { N = 8 };
    void *mine = NULL, *all = NULL;
    phx_graph *graph = NULL;
    size_t n_nodes = 0;
    phx_code rc = phx_device_take(backend, N, &mine, err);
    if (rc == PHX_OK)
        rc = phx_device_take(backend, comm->shape.tp * N, &all, err);
    if (rc == PHX_OK)
        rc = backend->fns->record(backend, err);
    if (rc == PHX_OK)
        rc = phx_gather(comm, mine, N, all, err);
    if (rc == PHX_OK)
        rc = backend->fns->recorded(backend, &graph, &n_nodes, err);
    bool good = rc == PHX_OK;
    if (good)
        rc = phx_comm_barrier(comm, err); /* all have recorded; who is late sees the loss here already */
    if (!good)
        (void)fprintf(stderr, "recording: %s\n", err->text);
    if (comm->shape.rank < comm->shape.tp)
        _exit(good ? 0 : 1);
    if (rc == PHX_OK)
        rc = phx_stage_recv(comm, 0, mine, N, err);
    if (rc == PHX_OK)
        rc = phx_comm_wait(comm, err);
    good = good && rc != PHX_OK;
    backend->fns->graph_destroy(backend, graph);
    phx_device_give(backend, mine, N);
    phx_device_give(backend, all, comm->shape.tp * N);
    return good;
}

static bool run_rank(const setup *how, const phx_comm_shape *shape)
{
    const phx_device_request request = {.name = "emu", .dir = PHX_TEST_PLUGINS};
    const phx_comm_shape group = phx_comm_nccl_under_shape(shape);
    phx_comm_nccl_options options = {.library = PHX_TEST_NCCL, .measure = how->measure};
    phx_device_peers peers;
    phx_device device;
    phx_backend *backend = NULL;
    phx_comm *comm = NULL;
    phx_error err = {0};
    bool good = phx_backend_open(&request, &backend, &err) == PHX_OK;
    for (uint32_t n = 2; good && n <= PHX_TREE_PARTS_MAX; n *= 2)
        good = tree_is_right(backend, n, &err);
    if (good) {
        device = *backend->order;
        peers = *device.peers;
        device.user = (void *)(uintptr_t)backend->order; /* the plugin's own asks for none */
        break_device(how, shape, &peers, &device);
        options.device = &device;
        options.stream = backend->stream;
        options.no_peers = how->fault == OFF_BY_OPTION;
        options.queue_only = true;
        good = phx_comm_shm_create(how->segment, &group, &comm, &err) == PHX_OK &&
               phx_comm_nccl_create(comm, shape, &options, &comm, &err) == PHX_OK &&
               check_comm(&(setup){how->segment, how->measure, how->fault, backend}, comm, &err);
    }
    if (good && how->fault == LOST_RANKS)
        good = loss_ends(backend, comm, &err);
    else if (good && shape->tp > 1 && how->fault != LOST_VALUE && how->fault != LOST_IN_CHECK)
        good = replays_are_right(backend, comm, &err);
    phx_comm_destroy(comm);
    phx_backend_destroy(backend);
    if (!good)
        (void)fprintf(stderr, "rank %u of tp %u pp %u: %s\n", shape->rank, shape->tp, shape->pp, err.text);
    return good;
}

static void run_group(uint32_t tp, uint32_t pp, bool measure, fault what)
{
    char segment[64];
    phx_comm_shape shape = {
        .tp = tp, .pp = pp, .exchange_bytes = 20000, .stage_bytes = 5001, .timeout_ms = 30000};
    const setup how = {.segment = segment, .measure = measure, .fault = what};
    (void)snprintf(segment, sizeof(segment), "phx-test-emu-%d", (int)getpid());
    (void)fflush(NULL);
    for (shape.rank = 0; shape.rank < tp * pp; shape.rank++)
        if (fork() == 0)
            _exit(run_rank(&how, &shape) ? 0 : 1);
    for (uint32_t r = 0; r < tp * pp; r++) {
        int status = 1;
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
}

static void collectives_move_device_memory(void **state)
{
    (void)state;
    run_group(2, 1, false, NO_FAULT);
    run_group(4, 1, true, NO_FAULT);
    run_group(1, 2, false, NO_FAULT);
    run_group(2, 2, false, NO_FAULT);
}

static void without_peers_nccl_does_it(void **state)
{
    (void)state;
    run_group(2, 1, false, OFF_BY_OPTION);
    run_group(2, 1, false, NO_ACCESS);
}

static void wrong_bytes_are_found_before_ready(void **state)
{
    (void)state;
    run_group(2, 1, false, LOST_VALUE);
}

static void lost_ranks_leave_no_kernel_behind(void **state)
{
    (void)state;
    run_group(2, 2, false, LOST_RANKS);
    run_group(2, 1, false, LOST_IN_CHECK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(collectives_move_device_memory),
        cmocka_unit_test(without_peers_nccl_does_it),
        cmocka_unit_test(wrong_bytes_are_found_before_ready),
        cmocka_unit_test(lost_ranks_leave_no_kernel_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
