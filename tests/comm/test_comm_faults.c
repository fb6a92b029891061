/* tests/comm/test_comm_faults.c - how the verbs end when something is wrong: abort, timeout, a dead or
 * departed rank, sizes that do not fit, memory that cannot be had. Over MPI: `mpirun -n 2 test_comm_faults
 * mpi WHAT`. */
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "tests/comm/crew.h"
#ifdef PHX_TEST_MPI
#include "tests/comm/mpi_start.h"
#endif

/* Far above what a failing verb needs (a check of the others every 200 ms), far below the tests' own limit.
 */
#define SOON_US UINT64_C(20000000)

static phx_comm_shape shape_of(uint32_t tp, uint32_t pp, uint32_t timeout_ms)
{
    return (phx_comm_shape){.tp = tp,
                            .pp = pp,
                            .exchange_bytes = 4096,
                            .stage_bytes = 1000,
                            .note_bytes = 100,
                            .timeout_ms = timeout_ms};
}

static bool expect(phx_code code, phx_code expected, const char *text_part, const phx_error *err,
                   char *report)
{
    if (code == expected && err->code == expected && strstr(err->text, text_part))
        return true;
    (void)snprintf(report, PHX_CREW_REPORT_BYTES, "expected %s with '%s', got %s: %s",
                   phx_code_name(expected), text_part, phx_code_name(code), err->text);
    return false;
}

/* ---- abort from another thread during a wait ---- */

typedef struct aborter {
    phx_comm *comm;
    uint64_t abort_us; /* when it did */
} aborter;

static void *abort_soon(void *arg)
{
    aborter *a = arg;
    (void)usleep(150000); /* the verb is asleep by then; if not, the abort comes earlier and must work too */
    a->abort_us = phx_clock_us();
    phx_comm_abort(a->comm);
    phx_comm_abort(a->comm);
    return NULL;
}

typedef phx_code verb(phx_comm *comm, phx_error *err);

static phx_code do_exchange(phx_comm *comm, phx_error *err)
{
    float values[3] = {1, 2, 3};
    return phx_exchange(comm, values, 3, err);
}

static phx_code do_gather(phx_comm *comm, phx_error *err)
{
    char all[8] = "";
    return phx_gather(comm, "x", 1, all, err);
}

static phx_code do_recv(phx_comm *comm, phx_error *err)
{
    char data[1];
    const uint32_t stage = comm->shape.rank / comm->shape.tp;
    return stage > 0 ? phx_stage_recv(comm, stage - 1, data, 1, err) : phx_note_recv(comm, data, 1, err);
}

static phx_code do_sends(phx_comm *comm, phx_error *err)
{
    phx_code rc = PHX_OK;
    for (int i = 0; i < 100 && rc == PHX_OK; i++)
        rc = phx_stage_send(comm, comm->shape.rank / comm->shape.tp + 1, "x", 1, err);
    return rc;
}

/* One rank starts the verb and is aborted; the others do nothing until it has failed. */
static bool aborted_alone(phx_comm *comm, verb *run, char *report)
{
    aborter a = {.comm = comm};
    pthread_t thread;
    phx_error err = {0}, again = {0};
    if (pthread_create(&thread, NULL, abort_soon, &a) != 0)
        return false;
    phx_code rc = run(comm, &err);
    const uint64_t end_us = phx_clock_us();
    (void)pthread_join(thread, NULL);
    if (!expect(rc, PHX_ERR_COMM, "aborted", &err, report))
        return false;
    if (end_us > a.abort_us + SOON_US) {
        (void)snprintf(report, PHX_CREW_REPORT_BYTES, "the verb took %" PRIu64 " us to fail",
                       end_us - a.abort_us);
        return false;
    }
    rc = phx_comm_barrier(comm, &again);
    return expect(rc, PHX_ERR_COMM, "aborted", &again, report);
}

typedef struct abort_case {
    verb *run;
    uint32_t rank; /* that runs it */
} abort_case;

static bool abort_body(phx_comm *comm, const void *arg, char *report)
{
    const abort_case *c = arg;
    if (comm->shape.rank == c->rank)
        return aborted_alone(comm, c->run, report);
    /* The wait of a peer ends too, without a timeout, and so do later verbs. */
    phx_error err = {0}, again = {0};
    const phx_code rc = c->run == phx_comm_barrier ? do_recv(comm, &err) : phx_comm_barrier(comm, &err);
    /* A peer that was told earlier may have left already: then this rank sees its end before it sees the
     * abort. */
    const phx_code seen = rc == PHX_ERR_PEER_LOST ? PHX_ERR_PEER_LOST : PHX_ERR_COMM;
    return expect(rc, seen, "", &err, report) &&
           expect(phx_comm_barrier(comm, &again), PHX_ERR_COMM, "dead", &again, report);
}

static void abort_ends_a_wait(void **state)
{
    (void)state;
    static const abort_case cases[] = {{do_exchange, 3}, {do_gather, 3}, {phx_comm_barrier, 3},
                                       {do_recv, 3},     {do_recv, 0},   {do_sends, 0}};
    for (phx_crew_backend backend = PHX_CREW_LOOP; backend < PHX_CREW_BACKEND_COUNT; backend++)
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
            const phx_comm_shape shape = shape_of(2, 2, 0);
            assert_true(!phx_crew_has(backend) || phx_crew_run(backend, &shape, abort_body, &cases[i]));
        }
}

/* ---- timeout ---- */

enum { LATE_MS = 1500 }; /* long enough for all to reach the first verb on a busy machine */

static bool timeout_body(phx_comm *comm, const void *arg, char *report)
{
    (void)arg;
    phx_error err = {0}, again = {0};
    if (do_exchange(comm, &err) != PHX_OK)
        return expect(PHX_OK, PHX_ERR_COMM, "first verb", &err, report);
    phx_code rc = PHX_OK;
    if (comm->shape.rank % 2 == 1) {
        /* Late until the others have given up. They had arrived, so one exchange may still succeed. */
        for (int i = 0; i < 10 && rc == PHX_OK; i++) {
            (void)usleep((LATE_MS + 500) * 1000);
            rc = do_exchange(comm, &err);
        }
        return expect(rc, PHX_ERR_COMM, "", &err, report);
    }
    rc = do_exchange(comm, &err);
    if (!strstr(err.text, "failed first") && /* rank 0 or 2 may have been the quicker one */
        !expect(rc, PHX_ERR_COMM, "exchange (verb 2): rank 1, 3 had not arrived after 1500 ms", &err, report))
        return false;
    return expect(rc, PHX_ERR_COMM, "", &err, report) &&
           expect(do_exchange(comm, &again), PHX_ERR_COMM, "the communicator is dead", &again, report);
}

static void timeout_names_who_is_late(void **state)
{
    (void)state;
    const phx_comm_shape shape = shape_of(4, 1, LATE_MS);
    assert_true(phx_crew_run(PHX_CREW_LOOP, &shape, timeout_body, NULL));
    assert_true(phx_crew_run(PHX_CREW_NCCL_THREADS, &shape, timeout_body, NULL));
    assert_true(phx_crew_run(PHX_CREW_NCCL, &shape, timeout_body, NULL));
    assert_true(!phx_crew_has(PHX_CREW_PEERS) || phx_crew_run(PHX_CREW_PEERS, &shape, timeout_body, NULL));
}

/* ---- a pause ---- */

enum { PATIENT_MS = 4000, STOPPED_S = 5 };

/* The whole process stands still for longer than a verb may take while rank 0 waits inside one. */
static bool paused_body(phx_comm *comm, const void *arg, char *report)
{
    (void)arg;
    phx_error err = {0};
    if (do_exchange(comm, &err) != PHX_OK)
        return expect(PHX_OK, PHX_ERR_COMM, "first verb", &err, report);
    if (comm->shape.rank == 1) {
        const pid_t all = getpid(), waker = fork();
        if (waker == 0) {
            (void)usleep(200000); /* rank 0 is asleep by then; if not, its verb begins after the pause */
            (void)kill(all, SIGSTOP);
            (void)sleep(STOPPED_S);
            (void)kill(all, SIGCONT);
            _exit(0);
        }
        (void)waitpid(waker, NULL, 0);
    }
    const phx_code rc = do_exchange(comm, &err);
    if (rc != PHX_OK)
        (void)snprintf(report, PHX_CREW_REPORT_BYTES, "%s", err.text);
    return rc == PHX_OK;
}

static void pause_is_not_lateness(void **state)
{
    (void)state;
    const phx_comm_shape shape = shape_of(2, 1, PATIENT_MS);
    assert_true(phx_crew_run(PHX_CREW_LOOP, &shape, paused_body, NULL));
}

/* ---- a rank that dies or leaves ---- */

static bool killed_body(phx_comm *comm, const void *arg, char *report)
{
    (void)arg;
    phx_error err = {0};
    if (phx_comm_barrier(comm, &err) != PHX_OK)
        return expect(PHX_OK, PHX_ERR_PEER_LOST, "barrier", &err, report);
    if (comm->shape.rank == 2)
        (void)raise(SIGKILL);
    const uint64_t start_us = phx_clock_us();
    phx_code rc = PHX_OK; /* the stage without the dead rank may finish an exchange first */
    for (int i = 0; i < 100000 && rc == PHX_OK; i++) {
        rc = do_exchange(comm, &err);
        if (rc == PHX_OK)
            rc = phx_comm_barrier(comm, &err);
    }
    if (phx_clock_us() - start_us > SOON_US)
        return expect(PHX_OK, PHX_ERR_PEER_LOST, "in time", &err, report);
    phx_buf verbs;
    phx_buf_init(&verbs, 100000);
    const bool printed =
        phx_comm_verbs(comm, 3, &verbs) == PHX_OK && strstr(verbs.ptr, "rank 2  verb 1  barrier");
    phx_buf_done(&verbs);
    if (!printed)
        (void)snprintf(report, PHX_CREW_REPORT_BYTES, "the dead rank's verbs are not shown");
    return printed && expect(rc, PHX_ERR_PEER_LOST, "rank 2", &err, report);
}

static void killed_rank_is_named(void **state)
{
    (void)state;
    const phx_comm_shape shape = shape_of(2, 2, 0);
    assert_true(phx_crew_run(PHX_CREW_SHM, &shape, killed_body, NULL));
    const phx_comm_shape wide = shape_of(4, 1, 0);
    assert_true(phx_crew_run(PHX_CREW_SHM, &wide, killed_body, NULL));
    assert_true(phx_crew_run(PHX_CREW_NCCL, &shape, killed_body, NULL));
    assert_true(phx_crew_run(PHX_CREW_NCCL, &wide, killed_body, NULL));
    assert_true(!phx_crew_has(PHX_CREW_PEERS) || phx_crew_run(PHX_CREW_PEERS, &shape, killed_body, NULL));
    assert_true(!phx_crew_has(PHX_CREW_PEERS) || phx_crew_run(PHX_CREW_PEERS, &wide, killed_body, NULL));
}

static bool leaving_body(phx_comm *comm, const void *arg, char *report)
{
    (void)arg;
    phx_error err = {0};
    phx_code rc = do_exchange(comm, &err);
    if (comm->shape.rank == 1)
        return rc == PHX_OK;
    if (rc == PHX_OK)
        rc = do_exchange(comm, &err);
    return expect(rc, PHX_ERR_COMM, "rank 1 has left", &err, report);
}

static void departed_rank_is_named(void **state)
{
    (void)state;
    const phx_comm_shape shape = shape_of(2, 1, 0);
    assert_true(phx_crew_run(PHX_CREW_LOOP, &shape, leaving_body, NULL));
    assert_true(phx_crew_run(PHX_CREW_SHM, &shape, leaving_body, NULL));
    assert_true(phx_crew_run(PHX_CREW_NCCL_THREADS, &shape, leaving_body, NULL));
    assert_true(phx_crew_run(PHX_CREW_NCCL, &shape, leaving_body, NULL));
    assert_true(!phx_crew_has(PHX_CREW_PEERS) || phx_crew_run(PHX_CREW_PEERS, &shape, leaving_body, NULL));
}

static bool unequal_body(phx_comm *comm, const void *arg, char *report)
{
    (void)arg;
    phx_error err = {0};
    char data[8] = "";
    if (comm->shape.rank == 0)
        return phx_stage_send(comm, 1, data, 5, &err) == PHX_OK;
    const char *expected = strcmp(comm->ops->name, "nccl") == 0
                               ? "a message of another size than is received"
                               : "rank 0 sent 5 bytes where rank 1 expects 4";
    return expect(phx_stage_recv(comm, 0, data, 4, &err), PHX_ERR_COMM, expected, &err, report);
}

static void message_of_another_size_is_refused(void **state)
{
    (void)state;
    const phx_comm_shape shape = shape_of(1, 2, 0);
    assert_true(phx_crew_run(PHX_CREW_LOOP, &shape, unequal_body, NULL));
    assert_true(phx_crew_run(PHX_CREW_SHM, &shape, unequal_body, NULL));
    assert_true(phx_crew_run(PHX_CREW_NCCL, &shape, unequal_body, NULL)); /* NCCL itself would not notice */
}

/* ---- making one ---- */

static void bad_shapes_are_refused(void **state)
{
    (void)state;
    const phx_comm_shape bad[] = {
        {.tp = 3, .pp = 1, .exchange_bytes = 64},
        {.tp = 16, .pp = 1, .exchange_bytes = 64},
        {.tp = 0, .pp = 1},
        {.tp = 1, .pp = 0},
        {.tp = 2, .pp = UINT32_MAX},
        {.rank = 2, .tp = 2, .pp = 1, .exchange_bytes = 64},
        {.tp = 2, .pp = 1, .exchange_bytes = 3},
        {.tp = 2, .pp = 1, .exchange_bytes = SIZE_MAX},
        {.tp = 1, .pp = 2, .stage_bytes = SIZE_MAX},
    };
    phx_comm_hub *hub = NULL;
    assert_int_equal(phx_comm_hub_create(2, &hub, NULL), PHX_OK);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        phx_comm *comm = NULL;
        assert_int_equal(phx_comm_loop_create(hub, &bad[i], &comm, NULL), PHX_ERR_INVALID);
        assert_int_equal(phx_comm_shm_create("phx-test-bad", &bad[i], &comm, NULL), PHX_ERR_INVALID);
        assert_null(comm);
    }
    phx_comm_hub_destroy(hub);
    assert_int_equal(phx_comm_hub_create(0, &hub, NULL), PHX_ERR_INVALID);
    assert_int_equal(phx_comm_hub_create(100000, &hub, NULL), PHX_ERR_INVALID);
}

static void hub_refuses_what_does_not_fit(void **state)
{
    (void)state;
    phx_comm_hub *hub = NULL;
    phx_comm *first = NULL, *comm = NULL;
    phx_comm_shape shape = shape_of(2, 1, 0);
    assert_int_equal(phx_comm_hub_create(2, &hub, NULL), PHX_OK);
    assert_int_equal(phx_comm_loop_create(hub, &shape, &first, NULL), PHX_OK);
    assert_int_equal(phx_comm_loop_create(hub, &shape, &comm, NULL), PHX_ERR_IN_USE);
    shape.rank = 1;
    shape.exchange_bytes = 8192;
    assert_int_equal(phx_comm_loop_create(hub, &shape, &comm, NULL), PHX_ERR_MISMATCH);
    const phx_comm_shape other = shape_of(4, 1, 0);
    assert_int_equal(phx_comm_loop_create(hub, &other, &comm, NULL), PHX_ERR_MISMATCH);
    assert_null(comm);
    phx_comm_destroy(first);
    phx_comm_destroy(NULL);
    phx_comm_hub_destroy(hub);
    phx_comm_hub_destroy(NULL);
}

static void shm_refuses_bad_names(void **state)
{
    (void)state;
    char long_name[300];
    memset(long_name, 'a', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    const char *const names[] = {"", ".", "../x", "a/b", "a b", "a\nb", long_name};
    const phx_comm_shape shape = shape_of(1, 1, 100);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        phx_comm *comm = NULL;
        assert_int_equal(phx_comm_shm_create(names[i], &shape, &comm, NULL), PHX_ERR_INVALID);
    }
}

static void plant(const char *path, mode_t mode, off_t n_bytes)
{
    const int fd = shm_open(path, O_CREAT | O_EXCL | O_RDWR, 0600);
    assert_true(fd >= 0);
    assert_int_equal(fchmod(fd, mode), 0);
    assert_int_equal(ftruncate(fd, n_bytes), 0);
    assert_int_equal(close(fd), 0);
}

/* What lies under the name already is never used: another mode, size or content, or an older group's. */
static void shm_refuses_planted_segments(void **state)
{
    (void)state;
    char path[64];
    (void)snprintf(path, sizeof(path), "/phx-test-%d-planted", (int)getpid());
    phx_comm_shape shape = shape_of(2, 1, 100);
    const off_t total = (off_t)(2 * phx_comm_shm_bytes(&shape));
    phx_comm *comm = NULL;
    phx_error err = {0};
    plant(path, 0600, total);
    assert_int_equal(phx_comm_shm_create(path + 1, &shape, &comm, &err), PHX_ERR_IN_USE);
    assert_true(phx_crew_leftover(path + 1)); /* not ours, so it stays */
    shape.rank = 1;
    assert_int_equal(phx_comm_shm_create(path + 1, &shape, &comm, NULL), PHX_ERR_COMM); /* never filled */
    const int fd = shm_open(path, O_RDWR, 0);
    assert_int_equal(pwrite(fd, "garbage!", 8, 0), 8);
    assert_int_equal(close(fd), 0);
    assert_int_equal(phx_comm_shm_create(path + 1, &shape, &comm, NULL), PHX_ERR_MISMATCH);
    assert_int_equal(shm_unlink(path), 0);
    plant(path, 0600, total + 4096);
    assert_int_equal(phx_comm_shm_create(path + 1, &shape, &comm, NULL), PHX_ERR_MISMATCH);
    assert_int_equal(shm_unlink(path), 0);
    plant(path, 0666, total);
    assert_int_equal(phx_comm_shm_create(path + 1, &shape, &comm, NULL), PHX_ERR_DENIED);
    assert_int_equal(shm_unlink(path), 0);
    assert_null(comm);
}

static void shm_waits_in_vain_and_cleans_up(void **state)
{
    (void)state;
    char name[64];
    (void)snprintf(name, sizeof(name), "phx-test-%d-alone", (int)getpid());
    phx_comm_shape shape = shape_of(2, 1, 150);
    phx_comm *comm = NULL;
    phx_error err = {0};
    assert_int_equal(phx_comm_shm_create(name, &shape, &comm, &err), PHX_ERR_COMM);
    assert_non_null(strstr(err.text, "rank 1 did not join"));
    assert_false(phx_crew_leftover(name));
    memset(&err, 0, sizeof(err));
    shape.rank = 1;
    assert_int_equal(phx_comm_shm_create(name, &shape, &comm, &err), PHX_ERR_COMM);
    assert_non_null(strstr(err.text, "rank 0 did not make"));
    assert_null(comm);
}

static bool has_mapped(pid_t pid, const char *name)
{
    char path[64], line[512];
    bool found = false;
    (void)snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
    FILE *maps = fopen(path, "re");
    while (maps && !found && fgets(line, sizeof(line), maps))
        found = strstr(line, name) != NULL;
    if (maps)
        (void)fclose(maps);
    return found;
}

/* Rank 1 dies between joining and the start: rank 0 says so and removes the name. */
static void shm_names_a_rank_that_dies_at_start(void **state)
{
    (void)state;
    char name[64];
    (void)snprintf(name, sizeof(name), "phx-test-%d-early", (int)getpid());
    phx_comm_shape shape = shape_of(4, 1, 30000);
    const pid_t pid = fork();
    if (pid == 0) { /* joins, then waits for ranks that never come, until it is killed */
        shape.rank = 1;
        phx_comm *comm = NULL;
        (void)phx_comm_shm_create(name, &shape, &comm, NULL);
        _exit(0);
    }
    const pid_t killer = fork();
    if (killer == 0) {
        for (int i = 0; i < 10000 && !has_mapped(pid, name); i++)
            (void)usleep(1000);
        (void)usleep(100000); /* it joins as soon as it has mapped */
        (void)kill(pid, SIGKILL);
        _exit(0);
    }
    phx_comm *comm = NULL;
    phx_error err = {0};
    assert_int_equal(phx_comm_shm_create(name, &shape, &comm, &err), PHX_ERR_PEER_LOST);
    assert_non_null(strstr(err.text, "rank 1"));
    assert_false(phx_crew_leftover(name));
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(waitpid(killer, &status, 0), killer);
}

static void out_of_memory_leaks_nothing(void **state)
{
    (void)state;
    const uint64_t n_live = phx_alloc_count().n_live;
    const phx_comm_shape shape = shape_of(1, 1, 100);
    bool good = false;
    for (uint64_t nth = 1; !good && nth < 20; nth++) {
        phx_comm_hub *hub = NULL;
        phx_comm *loop = NULL, *shm = NULL;
        phx_alloc_fail_nth(nth);
        good = phx_comm_hub_create(1, &hub, NULL) == PHX_OK &&
               phx_comm_loop_create(hub, &shape, &loop, NULL) == PHX_OK &&
               phx_comm_shm_create("phx-test-nomem", &shape, &shm, NULL) == PHX_OK;
        phx_alloc_fail_nth(0);
        phx_comm_destroy(loop);
        phx_comm_destroy(shm);
        phx_comm_hub_destroy(hub);
        assert_true(good || nth < 5);
        assert_int_equal(phx_alloc_count().n_live, n_live);
        assert_false(phx_crew_leftover("phx-test-nomem"));
    }
    assert_true(good);
}

static void verb_ring_keeps_the_last(void **state)
{
    (void)state;
    const phx_comm_shape shape = shape_of(1, 1, 0);
    phx_comm_hub *hub = NULL;
    phx_comm *comm = NULL;
    assert_int_equal(phx_comm_hub_create(1, &hub, NULL), PHX_OK);
    assert_int_equal(phx_comm_loop_create(hub, &shape, &comm, NULL), PHX_OK);
    for (int i = 0; i < 300; i++)
        assert_int_equal(do_exchange(comm, NULL), PHX_OK);
    phx_buf buf;
    phx_buf_init(&buf, 1000000);
    assert_int_equal(phx_comm_verbs(comm, 1000, &buf), PHX_OK);
    size_t n_lines = 0;
    for (size_t i = 0; i < buf.n; i++)
        n_lines += buf.ptr[i] == '\n';
    assert_int_equal(n_lines, 256);
    assert_int_equal(strncmp(buf.ptr, "rank 0  verb 45  exchange  12 bytes  start ", 43), 0);
    assert_non_null(strstr(buf.ptr, "rank 0  verb 300  exchange"));
    phx_buf_clear(&buf);
    assert_int_equal(phx_comm_verbs(comm, 0, &buf), PHX_OK);
    assert_int_equal(buf.n, 0);
    phx_buf_done(&buf);
    phx_comm_destroy(comm);
    phx_comm_hub_destroy(hub);
}

/* ---- MPI: no rank may finish early, or mpirun would end the job as failed ---- */

#ifdef PHX_TEST_MPI
static int run_mpi(const char *what)
{
    uint32_t rank = 0;
    if (!phx_mpi_start(&rank))
        return 1;
    phx_comm_shape shape = shape_of(2, 1, strcmp(what, "timeout") == 0 ? LATE_MS : 0);
    shape.rank = rank;
    phx_comm *comm = NULL;
    phx_error err = {0}, again = {0};
    char report[PHX_CREW_REPORT_BYTES] = "";
    bool good = phx_comm_mpi_create(&shape, &comm, &err) == PHX_OK;
    if (good && rank == 1 && strcmp(what, "abort") == 0)
        good = aborted_alone(comm, do_exchange, report);
    else if (good && rank == 1)
        good = expect(do_exchange(comm, &err), PHX_ERR_COMM,
                      "exchange (verb 1): rank 0 had not arrived after 1500 ms", &err, report) &&
               expect(do_exchange(comm, &again), PHX_ERR_COMM, "the communicator is dead", &again, report);
    if (!good)
        (void)fprintf(stderr, "rank %" PRIu32 ": %s %s\n", rank, err.text, report);
    if (!good)
        _exit(1);
    phx_comm_destroy(comm);
    phx_mpi_end();
    return 0;
}
#endif

int main(int argc, char **argv)
{
#ifdef PHX_TEST_MPI
    if (argc == 3 && strcmp(argv[1], "mpi") == 0)
        return run_mpi(argv[2]);
#endif
    if (argc != 1) {
        (void)fprintf(stderr, "usage: %s [mpi abort|timeout]\n", argv[0]);
        return 2;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(abort_ends_a_wait),
        cmocka_unit_test(timeout_names_who_is_late),
        cmocka_unit_test(pause_is_not_lateness),
        cmocka_unit_test(killed_rank_is_named),
        cmocka_unit_test(departed_rank_is_named),
        cmocka_unit_test(message_of_another_size_is_refused),
        cmocka_unit_test(bad_shapes_are_refused),
        cmocka_unit_test(hub_refuses_what_does_not_fit),
        cmocka_unit_test(shm_refuses_bad_names),
        cmocka_unit_test(shm_refuses_planted_segments),
        cmocka_unit_test(shm_waits_in_vain_and_cleans_up),
        cmocka_unit_test(shm_names_a_rank_that_dies_at_start),
        cmocka_unit_test(out_of_memory_leaks_nothing),
        cmocka_unit_test(verb_ring_keeps_the_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
