/* worker/comm/comm_shm.c - ranks of one host over a POSIX shared memory segment.
 * Owns: making, checking, mapping and unlinking the segment. What lies in it: segment.h. */
#include "worker/comm/comm.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "worker/comm/segment.h"
#include "worker/comm/shape.h"

#define MAGIC             UINT64_C(0x50484c5853454731) /* "PHLXSEG1" */
#define NAME_BYTES_MAX    200u
#define POLL_US           1000u
#define ATTACH_MS_DEFAULT 120000u /* when the shape names no timeout: attaching must end some time */

typedef struct shm_opening { /* what create holds until the communicator is the caller's */
    const phx_comm_shape *shape;
    char path[NAME_BYTES_MAX + 2]; /* "/name" */
    phx_steady clock;
    uint64_t deadline_us; /* on that clock */
    size_t total_bytes;
    int fd;
    bool owns_name; /* to be unlinked */
    uint8_t *memory;
} shm_opening;

static void shm_abort(phx_comm *comm);
static void shm_destroy(phx_comm *comm);

static const phx_comm_ops shm_ops = {
    .name = "shm",
    .under = &phx_seg_under,
    .exchange = phx_seg_exchange,
    .gather = phx_seg_gather,
    .send = phx_seg_send,
    .recv = phx_seg_recv,
    .note_send = phx_seg_note_send,
    .note_recv = phx_seg_note_recv,
    .barrier = phx_seg_barrier,
    .verbs = phx_seg_verbs,
    .abort = shm_abort,
    .destroy = shm_destroy,
};

static phx_code set_path(shm_opening *open, const char *name, phx_error *err)
{
    const size_t n = strlen(name);
    const size_t n_good = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.");
    if (n == 0 || n > NAME_BYTES_MAX || n_good != n || name[0] == '.')
        return PHX_FAIL(err, PHX_ERR_INVALID,
                        "segment name '%.40s': 1 to %u letters, digits, '-', '_', '.', not starting with '.'",
                        name, NAME_BYTES_MAX);
    (void)snprintf(open->path, sizeof(open->path), "/%s", name);
    return PHX_OK;
}

static phx_code make_segment(shm_opening *open, phx_error *err)
{
    open->fd = shm_open(open->path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    if (open->fd < 0 && errno == EEXIST)
        return PHX_FAIL(
            err, PHX_ERR_IN_USE,
            "shared memory '%s' exists: a second rank 0, or left behind by a killed group; remove "
            "/dev/shm%s",
            open->path, open->path);
    if (open->fd < 0)
        return PHX_FAIL(err, PHX_ERR_IO, "cannot create shared memory '%s': %s", open->path, strerror(errno));
    open->owns_name = true;
    if (ftruncate(open->fd, (off_t)open->total_bytes) != 0)
        return PHX_FAIL(err, PHX_ERR_IO, "cannot size shared memory '%s' to %zu bytes: %s", open->path,
                        open->total_bytes, strerror(errno));
    return PHX_OK;
}

static phx_code past_deadline(shm_opening *open, const char *what, phx_error *err)
{
    if (phx_steady_us(&open->clock, phx_clock_us()) < open->deadline_us)
        return PHX_OK;
    return PHX_FAIL(err, PHX_ERR_COMM, "rank %" PRIu32 ": %s '%s' in time", open->shape->rank, what,
                    open->path);
}

/* Waits for rank 0 to make and size it, and refuses one that somebody else made. */
static phx_code find_segment(shm_opening *open, phx_error *err)
{
    phx_code rc = PHX_OK;
    while ((open->fd = shm_open(open->path, O_RDWR | O_CLOEXEC, 0)) < 0) {
        if (errno != ENOENT)
            return PHX_FAIL(err, PHX_ERR_IO, "cannot open shared memory '%s': %s", open->path,
                            strerror(errno));
        rc = past_deadline(open, "rank 0 did not make shared memory", err);
        if (rc != PHX_OK)
            return rc;
        (void)usleep(POLL_US);
    }
    struct stat st = {0};
    while (fstat(open->fd, &st) == 0 && st.st_size == 0) {
        rc = past_deadline(open, "rank 0 did not size shared memory", err);
        if (rc != PHX_OK)
            return rc;
        (void)usleep(POLL_US);
    }
    if (st.st_uid != geteuid() || (st.st_mode & 07777) != 0600)
        return PHX_FAIL(err, PHX_ERR_DENIED,
                        "shared memory '%s' belongs to user %u with mode %o, not to us alone", open->path,
                        (unsigned)st.st_uid, (unsigned)(st.st_mode & 07777));
    if (st.st_size < 0 || (size_t)st.st_size != open->total_bytes)
        return PHX_FAIL(err, PHX_ERR_MISMATCH,
                        "shared memory '%s' has %lld bytes, rank %" PRIu32
                        " expects %zu: builds or plans differ",
                        open->path, (long long)st.st_size, open->shape->rank, open->total_bytes);
    return PHX_OK;
}

/* Takes the memory of the own section now: a full /dev/shm is an error here, not a SIGBUS in a step, and the
 * pages lie near this rank's cores. */
static phx_code map_segment(shm_opening *open, phx_error *err)
{
    const size_t section_bytes = phx_seg_bytes(open->shape);
    const off_t at = (off_t)(open->shape->rank * section_bytes);
    int code = EINTR;
    while (code == EINTR)
        code = posix_fallocate(open->fd, at, (off_t)section_bytes);
    if (code != 0)
        return PHX_FAIL(err, PHX_ERR_NOMEM,
                        "%zu bytes of shared memory for rank %" PRIu32
                        ": %s; enlarge /dev/shm or lower --max-batch",
                        section_bytes, open->shape->rank, strerror(code));
    void *memory = mmap(NULL, open->total_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, open->fd, 0);
    if (memory == MAP_FAILED)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "cannot map %zu bytes of shared memory '%s': %s",
                        open->total_bytes, open->path, strerror(errno));
    open->memory = memory;
    return PHX_OK;
}

/* Rank 0 writes the head, the others check it. */
static phx_code agree(shm_opening *open, phx_seg *seg, phx_error *err)
{
    phx_seg_group *group = phx_seg_group_of(seg);
    const uint64_t fingerprint = phx_seg_fingerprint(open->shape);
    if (open->shape->rank == 0) {
        group->fingerprint = fingerprint;
        atomic_store(&group->magic, MAGIC);
        return PHX_OK;
    }
    while (atomic_load(&group->magic) == 0) {
        const phx_code rc = past_deadline(open, "rank 0 did not fill shared memory", err);
        if (rc != PHX_OK)
            return rc;
        (void)usleep(POLL_US);
    }
    if (atomic_load(&group->magic) != MAGIC || group->fingerprint != fingerprint)
        return PHX_FAIL(err, PHX_ERR_MISMATCH,
                        "shared memory '%s' was laid out by another build or plan than that of rank %" PRIu32,
                        open->path, open->shape->rank);
    const uint32_t state = atomic_load(&phx_seg_rank_of(seg, open->shape->rank)->state);
    if (state != PHX_SEG_ABSENT)
        return PHX_FAIL(err, PHX_ERR_IN_USE, "rank %" PRIu32 " joined shared memory '%s' twice",
                        open->shape->rank, open->path);
    return PHX_OK;
}

static bool all_joined(const phx_seg *seg, uint32_t *ret_absent)
{
    for (uint32_t rank = 0; rank < seg->n_ranks; rank++)
        if (atomic_load(&phx_seg_rank_of(seg, rank)->state) == PHX_SEG_ABSENT) {
            *ret_absent = rank;
            return false;
        }
    return true;
}

/* Until every rank has the segment mapped; then the name goes and the kernel frees the memory with the last
 * process, however that ends. */
static phx_code meet(shm_opening *open, phx_seg *seg, phx_error *err)
{
    phx_seg_group *group = phx_seg_group_of(seg);
    uint64_t check_us = 0;
    uint32_t absent = 0;
    while (!atomic_load(&group->complete)) {
        const uint64_t now_us = phx_steady_us(&open->clock, phx_clock_us());
        if (open->shape->rank == 0 && all_joined(seg, &absent)) {
            (void)shm_unlink(open->path);
            open->owns_name = false;
            atomic_store(&group->complete, 1);
            break;
        }
        const bool check_processes = now_us >= check_us;
        if (check_processes)
            check_us = now_us + 200000;
        const phx_code rc = phx_seg_check_group(seg, NULL, check_processes, err);
        if (rc != PHX_OK)
            return rc;
        if (now_us >= open->deadline_us && !all_joined(seg, &absent))
            return phx_seg_fail(seg, PHX_ERR_COMM, absent, err,
                                "rank %" PRIu32 " did not join shared memory '%s' in time", absent,
                                open->path);
        if (now_us >= open->deadline_us)
            return phx_seg_fail(seg, PHX_ERR_COMM, 0, err,
                                "rank 0 did not complete shared memory '%s' in time", open->path);
        (void)usleep(POLL_US);
    }
    return PHX_OK;
}

static phx_code open_segment(shm_opening *open, const char *name, phx_error *err)
{
    phx_code rc = phx_comm_shape_check(open->shape, err);
    if (rc == PHX_OK)
        rc = set_path(open, name, err);
    if (rc != PHX_OK)
        return rc;
    const uint32_t timeout_ms = open->shape->timeout_ms ? open->shape->timeout_ms : ATTACH_MS_DEFAULT;
    open->deadline_us = phx_steady_us(&open->clock, phx_clock_us()) + timeout_ms * UINT64_C(1000);
    open->total_bytes = phx_comm_n_ranks(open->shape) * phx_seg_bytes(open->shape);
    rc = open->shape->rank == 0 ? make_segment(open, err) : find_segment(open, err);
    return rc == PHX_OK ? map_segment(open, err) : rc;
}

phx_code phx_comm_shm_create(const char *segment_name, const phx_comm_shape *shape, phx_comm **ret_comm,
                             phx_error *err)
{
    shm_opening open = {.shape = shape, .fd = -1};
    phx_seg *seg = phx_alloc(1, sizeof(*seg));
    phx_code rc = seg ? PHX_OK : PHX_FAIL(err, PHX_ERR_NOMEM, "communicator of rank %" PRIu32, shape->rank);
    if (rc == PHX_OK)
        rc = open_segment(&open, segment_name, err);
    if (rc != PHX_OK)
        goto out;
    phx_seg_init(seg, &shm_ops, shape, open.memory);
    rc = agree(&open, seg, err);
    if (rc != PHX_OK)
        goto out;
    phx_seg_join(seg);
    rc = meet(&open, seg, err);
    if (rc != PHX_OK)
        goto out;
    *ret_comm = &seg->base;
    seg = NULL;
    open.memory = NULL;
out:
    if (open.fd >= 0)
        (void)close(open.fd);
    if (open.owns_name)
        (void)shm_unlink(open.path);
    if (open.memory)
        (void)munmap(open.memory, open.total_bytes);
    phx_free(seg);
    return rc;
}

size_t phx_comm_shm_bytes(const phx_comm_shape *shape)
{
    return phx_seg_bytes(shape);
}

static void shm_abort(phx_comm *comm)
{
    phx_seg_abort((phx_seg *)(void *)comm);
}

static void shm_destroy(phx_comm *comm)
{
    phx_seg *seg = (phx_seg *)(void *)comm;
    phx_seg_leave(seg);
    (void)munmap(seg->memory, seg->n_ranks * seg->section_bytes);
    phx_free(comm);
}
