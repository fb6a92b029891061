/* coordinator/fleet/member.c - what the coordinator knows of one rank. */
#include "coordinator/fleet/member.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/log.h"

/* Kernel levels in ascending order: the names of kernels/ops.h, which the coordinator does not include. */
static const char *const levels[] = {"ref", "avx2", "avx512"};

static int level_number(const char *name)
{
    for (int i = 0; i < (int)(sizeof(levels) / sizeof(levels[0])); i++) {
        if (strcmp(levels[i], name) == 0)
            return i;
    }
    return -1;
}

void phx_member_greet(phx_member *member, const phx_peer *peer, const Phalanx__Hello *hello)
{
    member->known = true;
    member->rank = hello->rank;
    member->peer = *peer;
    (void)snprintf(member->host, sizeof(member->host), "%s", hello->host);
    (void)snprintf(member->level, sizeof(member->level), "%s", hello->level);
    (void)snprintf(member->device_level, sizeof(member->device_level), "%s", hello->device_level);
    (void)snprintf(member->device, sizeof(member->device), "%s", hello->device);
    member->device_bytes = hello->device_bytes;
    (void)snprintf(member->state, sizeof(member->state), "starting");
    member->pid = hello->pid;
    member->n_cpus = hello->n_cpus;
    member->n_ranks_on_host = hello->n_ranks_on_host ? hello->n_ranks_on_host : 1;
    member->memory_bytes = hello->memory_bytes;
}

void phx_member_progress(phx_member *member, const Phalanx__Progress *progress)
{
    (void)snprintf(member->state, sizeof(member->state), "%s", progress->phase);
    member->done_bytes = progress->done;
    member->total_bytes = progress->total;
    member->n_steps = progress->n_steps;
    member->n_verbs = progress->n_verbs;
    member->resident_bytes = progress->resident_bytes;
    member->exchange_bytes = progress->exchange_bytes;
    member->n_replays = progress->n_replays;
}

/* Whether the device of a rank is of the kind that is asked for. */
static bool has_device(const phx_member *member, const char *backend)
{
    if (strcmp(backend, "emu") == 0)
        return strcmp(member->device_level, "emu") == 0;
    return strcmp(backend, "cpu") != 0 && strncmp(member->device_level, "sm", 2) == 0;
}

/* Sets the level of the common device, or leaves it empty for the CPU. */
static phx_code agree_device(const phx_member *members, uint32_t n, const char *backend,
                             phx_plan_request *request, phx_error *err)
{
    const bool forced = strcmp(backend, "cuda") == 0 || strcmp(backend, "emu") == 0;
    char *level = request->numerics.level;
    if (phx_numerics_on_device(&request->numerics))
        level[0] = 0; /* what was planned with before the devices were known */
    if (strcmp(backend, "cpu") == 0 || level[0])
        return PHX_OK;
    for (uint32_t i = 0; i < n; i++) {
        if (!has_device(&members[i], backend) && forced)
            return PHX_FAIL(err, PHX_ERR_UNAVAILABLE, "backend %s: rank %u on %s: %s", backend, i,
                            members[i].host, members[i].device);
        if (!has_device(&members[i], backend)) {
            phx_log(PHX_LOG_INFO, "backend cpu, because of rank %u on %s: %s", i, members[i].host,
                    members[i].device);
            return PHX_OK;
        }
        if (strcmp(members[i].device_level, members[0].device_level) != 0)
            return PHX_FAIL(err, PHX_ERR_UNSUPPORTED,
                            "rank 0 on %s has %s and rank %u on %s has %s: one group needs one architecture",
                            members[0].host, members[0].device, i, members[i].host, members[i].device);
    }
    (void)snprintf(level, sizeof(request->numerics.level), "%s", members[0].device_level);
    phx_log(PHX_LOG_INFO, "backend %s", members[0].device);
    return PHX_OK;
}

static phx_code agree_level(const phx_member *members, uint32_t n, phx_plan_request *request, phx_error *err)
{
    const int asked = request->numerics.level[0] ? level_number(request->numerics.level) : -1;
    int common = (int)(sizeof(levels) / sizeof(levels[0])) - 1;
    if (request->numerics.level[0] && asked < 0)
        return PHX_FAIL(err, PHX_ERR_INVALID, "unknown kernel level '%s'; known: ref, avx2, avx512",
                        request->numerics.level);
    for (uint32_t i = 0; i < n; i++) {
        const int level = level_number(members[i].level);
        if (level < asked)
            return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "rank %u on %s has level %s, --level asks for %s", i,
                            members[i].host, members[i].level, request->numerics.level);
        common = level < common ? level : common;
    }
    if (common < 0)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "a rank names a kernel level that is not known");
    (void)snprintf(request->numerics.level, sizeof(request->numerics.level), "%s",
                   levels[asked >= 0 ? asked : common]);
    return PHX_OK;
}

/* What each rank may take: of its device, or its share of the host. */
static uint64_t share_of(const phx_member *member, bool on_device)
{
    if (on_device && member->device_bytes)
        return member->device_bytes;
    /* A tenth stays for the system and for page cache of the checkpoint. */
    return member->memory_bytes / 10 * 9 / member->n_ranks_on_host;
}

phx_code phx_member_agree(const phx_member *members, uint32_t n, const char *backend,
                          phx_plan_request *request, phx_error *err)
{
    uint32_t n_threads = PHX_MEMBER_CPUS_MAX;
    uint64_t memory_bytes = UINT64_MAX;
    phx_code rc = agree_device(members, n, backend, request, err);
    const bool on_device = phx_numerics_on_device(&request->numerics);
    if (rc == PHX_OK && !on_device)
        rc = agree_level(members, n, request, err);
    if (rc != PHX_OK)
        return rc;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t threads = members[i].n_cpus / members[i].n_ranks_on_host;
        const uint64_t bytes = share_of(&members[i], on_device);
        n_threads = threads < n_threads ? threads : n_threads;
        memory_bytes = bytes < memory_bytes ? bytes : memory_bytes;
    }
    if (request->n_threads == 0)
        request->n_threads = n_threads ? n_threads : 1;
    if (request->memory_bytes == 0)
        request->memory_bytes = memory_bytes;
    for (uint32_t i = 0; i < n && on_device; i++) {
        const uint64_t bytes = share_of(&members[i], on_device);
        if (request->memory_bytes > bytes)
            return PHX_FAIL(
                err, PHX_ERR_UNSUPPORTED,
                "--memory asks for %.3f GB a rank, and rank %u on %s has %.3f GB of its device free "
                "beside the reserve: leave --memory out, or give at most %" PRIu64 "M",
                (double)request->memory_bytes / 1e9, i, members[i].host, (double)bytes / 1e9, bytes >> 20);
    }
    return PHX_OK;
}

size_t phx_member_cpus(const phx_member *members, uint32_t rank, uint32_t n_threads, uint32_t *ret_cpus)
{
    const phx_member *m = &members[rank];
    uint32_t before = 0; /* ranks of the same host with a lower number */
    for (uint32_t i = 0; i < rank; i++)
        before += strcmp(members[i].host, m->host) == 0;
    if (n_threads > PHX_MEMBER_CPUS_MAX || (uint64_t)m->n_ranks_on_host * n_threads > m->n_cpus)
        return 0;
    for (uint32_t i = 0; i < n_threads; i++)
        ret_cpus[i] = before * n_threads + i;
    return n_threads;
}

uint32_t phx_member_slowest(const phx_member *members, uint32_t n)
{
    uint32_t slowest = 0;
    for (uint32_t i = 1; i < n; i++) {
        if (members[i].n_verbs < members[slowest].n_verbs)
            slowest = i;
    }
    return slowest;
}

static bool is_local(const phx_member *member)
{
    char host[256] = "";
    (void)gethostname(host, sizeof(host) - 1);
    return member->known && strcmp(host, member->host) == 0;
}

/* Name and state of a process from /proc: guards against a process number that was given to somebody else. */
static bool is_worker(uint32_t pid)
{
    char path[64], line[256] = "";
    (void)snprintf(path, sizeof(path), "/proc/%u/stat", pid);
    FILE *stat = fopen(path, "re");
    if (!stat)
        return false;
    const bool read_line = fgets(line, sizeof(line), stat) != NULL;
    (void)fclose(stat);
    const char *name = strstr(line, "(phalanx-worker)");
    return read_line && name && name[17] != 'Z';
}

bool phx_member_alive(const phx_member *member)
{
    return is_local(member) && is_worker(member->pid);
}

void phx_member_kill(const phx_member *member)
{
    if (phx_member_alive(member))
        (void)kill((pid_t)member->pid, SIGKILL);
}

Phalanx__RankStatus **phx_member_status(phx_member *members, uint32_t n, const phx_plan *plan)
{
    for (uint32_t i = 0; i < n; i++) {
        phx_member *m = &members[i];
        phalanx__rank_status__init(&m->status);
        m->status.rank = i;
        m->status.host = m->host;
        m->status.pid = m->pid;
        m->status.state = m->known ? m->state : (char *)(uintptr_t) "starting";
        m->status.loaded_bytes = m->done_bytes;
        m->status.total_bytes = m->total_bytes;
        m->status.n_steps = m->n_steps;
        m->status.level =
            plan && phx_numerics_on_device(&plan->request.numerics) ? m->device_level : m->level;
        m->status.resident_bytes = m->resident_bytes;
        m->status.exchange_bytes = m->exchange_bytes;
        m->status.n_replays = m->n_replays;
        m->status.plan_bytes = plan ? plan->ranks[i].total_bytes : 0;
        members[0].status_list[i] = &m->status;
    }
    return members[0].status_list;
}
