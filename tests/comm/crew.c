/* tests/comm/crew.c - runs one body as all ranks of a group. */
#include "tests/comm/crew.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "tests/comm/device_comm.h"
#include "tests/comm/host_device.h"

#define RANKS_MAX 16u

typedef struct member {
    phx_crew_backend backend;
    phx_comm_shape shape;
    const phx_comm_nccl_options *options;
    phx_crew_body *body;
    const void *arg;
    phx_comm_hub *hub;   /* loop */
    const char *segment; /* shm */
    bool good;
    char report[PHX_CREW_REPORT_BYTES];
} member;

phx_code phx_crew_nccl_create(phx_comm *under, const phx_comm_shape *shape,
                              const phx_comm_nccl_options *options, phx_comm **ret_comm, void **ret_stream,
                              phx_error *err)
{
    void *stream = NULL;
    phx_comm_nccl_options all = options ? *options : (phx_comm_nccl_options){.measure = false};
    phx_code rc = phx_host_device.stream_create(NULL, &stream, err);
    all.library = PHX_TEST_NCCL;
    all.device = all.device ? all.device : &phx_host_device;
    all.stream = stream;
    *ret_comm = NULL;
    if (rc == PHX_OK)
        rc = phx_comm_nccl_create(under, shape, &all, ret_comm, err);
    if (rc == PHX_OK) {
        *ret_stream = stream;
        return PHX_OK;
    }
    phx_host_device.stream_destroy(NULL, stream);
    phx_comm_destroy(under);
    return rc;
}

static void run_member(member *m)
{
    phx_error err = {0};
    phx_comm *comm = NULL;
    void *stream = NULL;
    const bool is_nccl = phx_crew_is_nccl(m->backend), is_peers = m->backend == PHX_CREW_PEERS;
    const phx_comm_shape shape = is_nccl || is_peers ? phx_comm_nccl_under_shape(&m->shape) : m->shape;
    phx_code rc = m->hub ? phx_comm_loop_create(m->hub, &shape, &comm, &err)
                         : phx_comm_shm_create(m->segment, &shape, &comm, &err);
    if (rc == PHX_OK && is_nccl)
        rc = phx_crew_nccl_create(comm, &m->shape, m->options, &comm, &stream, &err);
    if (rc == PHX_OK && is_peers) {
        phx_comm *under = comm;
        comm = NULL;
        rc = phx_device_comm_create(under, &m->shape, &comm, &err);
    }
    if (rc == PHX_OK)
        m->good = m->body(comm, m->arg, m->report);
    else
        (void)snprintf(m->report, sizeof(m->report), "create: %.400s", err.text);
    phx_comm_destroy(comm);
    phx_host_device.stream_destroy(NULL, stream);
    if (!m->good)
        (void)fprintf(stderr, "rank %u of tp %u pp %u: %s\n", m->shape.rank, m->shape.tp, m->shape.pp,
                      m->report);
}

static void *thread_main(void *arg)
{
    run_member(arg);
    return NULL;
}

static bool run_threads(member *members, uint32_t n)
{
    phx_error err = {0};
    phx_comm_hub *hub = NULL;
    pthread_t threads[RANKS_MAX];
    bool good = phx_comm_hub_create(n, &hub, &err) == PHX_OK;
    uint32_t n_started = 0;
    for (; good && n_started < n; n_started++) {
        members[n_started].hub = hub;
        if (pthread_create(&threads[n_started], NULL, thread_main, &members[n_started]) != 0)
            good = false;
    }
    for (uint32_t r = 0; r < n_started; r++) {
        (void)pthread_join(threads[r], NULL);
        good = good && members[r].good;
    }
    phx_comm_hub_destroy(hub);
    return good;
}

static bool run_processes(member *members, uint32_t n)
{
    char segment[64];
    (void)snprintf(segment, sizeof(segment), "phx-test-%d", (int)getpid());
    pid_t pids[RANKS_MAX] = {0};
    bool good = true;
    (void)fflush(NULL);
    for (uint32_t r = 0; r < n; r++) {
        members[r].segment = segment;
        pids[r] = fork();
        if (pids[r] == 0) {
            const uint64_t n_live = phx_alloc_count().n_live;
            run_member(&members[r]);
            if (phx_alloc_count().n_live != n_live)
                (void)fprintf(stderr, "rank %u leaked\n", r);
            _exit(members[r].good && phx_alloc_count().n_live == n_live ? 0 : 1);
        }
        good = good && pids[r] > 0;
    }
    for (uint32_t r = 0; r < n; r++) {
        int status = 1;
        if (pids[r] <= 0 || waitpid(pids[r], &status, 0) != pids[r])
            good = false;
        else if (!(WIFEXITED(status) && WEXITSTATUS(status) == 0) &&
                 !(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL))
            good = false;
    }
    if (phx_crew_leftover(segment)) {
        (void)fprintf(stderr, "%s is left in /dev/shm\n", segment);
        good = false;
    }
    return good;
}

bool phx_crew_has(phx_crew_backend backend)
{
    return backend != PHX_CREW_PEERS || access(PHX_TEST_PLUGINS "/libphalanx_emu.so", R_OK) == 0;
}

bool phx_crew_run(phx_crew_backend backend, const phx_comm_shape *shape, phx_crew_body *body, const void *arg)
{
    return phx_crew_run_nccl(backend, shape, NULL, body, arg);
}

bool phx_crew_run_nccl(phx_crew_backend backend, const phx_comm_shape *shape,
                       const phx_comm_nccl_options *options, phx_crew_body *body, const void *arg)
{
    const uint32_t n = shape->tp * shape->pp;
    member *members = n <= RANKS_MAX ? phx_alloc(n, sizeof(*members)) : NULL;
    if (!members)
        return false;
    for (uint32_t r = 0; r < n; r++) {
        members[r] =
            (member){.backend = backend, .shape = *shape, .options = options, .body = body, .arg = arg};
        members[r].shape.rank = r;
    }
    const bool threads = backend == PHX_CREW_LOOP || backend == PHX_CREW_NCCL_THREADS;
    const bool good = threads ? run_threads(members, n) : run_processes(members, n);
    phx_free(members);
    return good;
}

bool phx_crew_leftover(const char *prefix)
{
    DIR *dir = opendir("/dev/shm");
    bool found = false;
    for (const struct dirent *entry = NULL; dir && !found && (entry = readdir(dir));)
        found = strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
    if (dir)
        (void)closedir(dir);
    return found;
}
