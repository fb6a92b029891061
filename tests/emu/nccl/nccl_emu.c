/* tests/emu/nccl/nccl_emu.c - the stand-in's communicators and its calls, under NCCL's names.
 * Owns: making without blocking, asynchronous errors, abort, and when a call is queued on its stream. */
#include "tests/emu/nccl/nccl_emu.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/alloc.h"

#define MAGIC       UINT64_C(0x50484c584e43434c) /* "PHLXNCCL" */
#define PIECE_BYTES 65536u
#define VERSION     29900 /* 2.99.0: no NCCL has it */
#define N_ASKED     2u    /* how often the state is in progress after a call */
#define EXPORT      __attribute__((visibility("default")))

static void seg_abort_none(phx_comm *comm)
{
    (void)comm;
}

static const phx_comm_ops seg_ops = {.name = "nccl_emu", .abort = seg_abort_none, .destroy = seg_abort_none};

static phx_comm_shape all_shape(uint32_t n_ranks, uint32_t rank)
{
    return (phx_comm_shape){.rank = rank, .tp = n_ranks, .pp = 1, .exchange_bytes = PIECE_BYTES};
}

static phx_comm_shape pair_shape(uint32_t rank)
{
    return (phx_comm_shape){.rank = rank, .tp = 1, .pp = 2, .stage_bytes = PIECE_BYTES};
}

static size_t all_bytes(uint32_t n_ranks)
{
    const phx_comm_shape shape = all_shape(n_ranks, 0);
    return n_ranks * phx_seg_bytes(&shape);
}

static size_t memory_bytes(uint32_t n_ranks)
{
    const phx_comm_shape pair = pair_shape(0);
    return all_bytes(n_ranks) + (n_ranks == 2 ? 2 * phx_seg_bytes(&pair) : 0);
}

/* ---- the communicators of the process ---- */

typedef struct registry {
    pthread_mutex_t mutex;
    struct ncclComm *first;
} registry;

static registry *all_comms(void)
{
    static registry all = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    return &all;
}

static void enter_comm(struct ncclComm *c)
{
    registry *all = all_comms();
    c->maker = pthread_self();
    (void)pthread_mutex_lock(&all->mutex);
    c->next = all->first;
    all->first = c;
    (void)pthread_mutex_unlock(&all->mutex);
}

static void remove_comm(struct ncclComm *c)
{
    registry *all = all_comms();
    (void)pthread_mutex_lock(&all->mutex);
    for (struct ncclComm **at = &all->first; *at; at = &(*at)->next)
        if (*at == c) {
            *at = c->next;
            break;
        }
    (void)pthread_mutex_unlock(&all->mutex);
}

static bool device_is_busy(const struct ncclComm *c)
{
    registry *all = all_comms();
    bool busy = false;
    (void)pthread_mutex_lock(&all->mutex);
    for (const struct ncclComm *other = all->first; other; other = other->next)
        busy = busy || (pthread_equal(other->maker, c->maker) && atomic_load(&other->n_queued));
    (void)pthread_mutex_unlock(&all->mutex);
    return busy;
}

/* ---- ids ---- */

EXPORT phx_nccl_result ncclGetVersion(int *version);
EXPORT phx_nccl_result ncclGetUniqueId(phx_nccl_id *id);

phx_nccl_result ncclGetVersion(int *version)
{
    *version = VERSION;
    return PHX_NCCL_SUCCESS;
}

/* The memory has no name: nothing is left behind, whoever dies. Pages exist once touched. */
phx_nccl_result ncclGetUniqueId(phx_nccl_id *id)
{
    nccl_emu_id mine = {.magic = MAGIC, .pid = (int32_t)getpid()};
    mine.fd = memfd_create("phx-nccl-emu", MFD_CLOEXEC);
    if (mine.fd < 0)
        return PHX_NCCL_SYSTEM_ERROR;
    if (getrandom(&mine.nonce, sizeof(mine.nonce), 0) != (ssize_t)sizeof(mine.nonce) ||
        ftruncate(mine.fd, (off_t)memory_bytes(PHX_NCCL_EMU_RANKS_MAX)) != 0 ||
        pwrite(mine.fd, &mine.nonce, sizeof(mine.nonce), offsetof(phx_seg_group, fingerprint)) !=
            (ssize_t)sizeof(mine.nonce)) {
        (void)close(mine.fd);
        return PHX_NCCL_SYSTEM_ERROR;
    }
    memset(id, 0, sizeof(*id));
    memcpy(id->bytes, &mine, sizeof(mine));
    return PHX_NCCL_SUCCESS;
}

/* ---- making ---- */

static bool map_memory(struct ncclComm *c)
{
    char path[64];
    const bool owner = c->rank == 0; /* who made the id, and closes its file when all are there */
    (void)snprintf(path, sizeof(path), "/proc/%" PRId32 "/fd/%" PRId32, c->id.pid, c->id.fd);
    const int fd = owner ? c->id.fd : open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        (void)snprintf(c->text, sizeof(c->text), "cannot open %s: %s", path, strerror(errno));
        return false;
    }
    void *memory = mmap(NULL, c->memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (!owner)
        (void)close(fd);
    if (memory == MAP_FAILED) {
        (void)snprintf(c->text, sizeof(c->text), "cannot map %s: %s", path, strerror(errno));
        return false;
    }
    c->memory = memory;
    if (((const phx_seg_group *)memory)->fingerprint == c->id.nonce)
        return true;
    (void)snprintf(c->text, sizeof(c->text), "%s is another communicator by now", path);
    return false;
}

static bool all_joined(const phx_seg *seg)
{
    for (uint32_t r = 0; r < seg->n_ranks; r++)
        if (atomic_load(&phx_seg_rank_of(seg, r)->state) == PHX_SEG_ABSENT)
            return false;
    return true;
}

static phx_nccl_result join_all(struct ncclComm *c)
{
    phx_error err = {0};
    const phx_comm_shape all = all_shape(c->n_ranks, c->rank), pair = pair_shape(c->rank);
    if (!map_memory(c))
        return PHX_NCCL_SYSTEM_ERROR;
    if (c->n_ranks == 2) {
        phx_seg_init(&c->pair, &seg_ops, &pair, c->memory + all_bytes(c->n_ranks));
        phx_seg_join(&c->pair);
    }
    phx_seg_init(&c->all, &seg_ops, &all, c->memory);
    phx_seg_join(&c->all);
    while (!all_joined(&c->all)) {
        const phx_code rc = phx_seg_check_group(&c->all, NULL, true, &err);
        if (rc != PHX_OK)
            (void)snprintf(c->text, sizeof(c->text), "%s", err.text);
        if (rc != PHX_OK || atomic_load(&c->aborted))
            return rc == PHX_ERR_PEER_LOST ? PHX_NCCL_REMOTE_ERROR : PHX_NCCL_SYSTEM_ERROR;
        (void)usleep(1000);
    }
    return PHX_NCCL_SUCCESS;
}

static void *start(void *arg)
{
    struct ncclComm *c = arg;
    const phx_nccl_result result = join_all(c);
    if (c->rank == 0)
        (void)close(c->id.fd);
    atomic_store(&c->result, result);
    return NULL;
}

EXPORT phx_nccl_result ncclCommInitRankConfig(phx_nccl_comm *comm, int n_ranks, phx_nccl_id id, int rank,
                                              phx_nccl_config *config);

phx_nccl_result ncclCommInitRankConfig(phx_nccl_comm *comm, int n_ranks, phx_nccl_id id, int rank,
                                       phx_nccl_config *config)
{
    if (!config || config->bytes < sizeof(*config) || config->magic != PHX_NCCL_CONFIG_MAGIC ||
        config->blocking != 0 || rank < 0 || rank >= n_ranks ||
        (n_ranks != 2 && n_ranks != 4 && n_ranks != 8))
        return PHX_NCCL_INVALID_ARGUMENT;
    struct ncclComm *c = phx_alloc(1, sizeof(*c));
    if (!c)
        return PHX_NCCL_SYSTEM_ERROR;
    memcpy(&c->id, id.bytes, sizeof(c->id));
    c->n_ranks = (uint32_t)n_ranks;
    c->rank = (uint32_t)rank;
    c->memory_bytes = memory_bytes(c->n_ranks);
    atomic_store(&c->n_users, 1);
    atomic_store(&c->result, PHX_NCCL_IN_PROGRESS);
    const bool good = c->id.magic == MAGIC && (rank != 0 || c->id.pid == (int32_t)getpid());
    if (!good || pthread_create(&c->starter, NULL, start, c) != 0) {
        phx_free(c);
        return good ? PHX_NCCL_SYSTEM_ERROR : PHX_NCCL_INVALID_ARGUMENT;
    }
    c->starter_runs = true;
    enter_comm(c);
    *comm = c;
    return PHX_NCCL_IN_PROGRESS;
}

/* ---- ending ---- */

void phx_nccl_emu_release(struct ncclComm *c)
{
    if (atomic_fetch_sub(&c->n_users, 1) != 1)
        return;
    if (c->memory)
        (void)munmap(c->memory, c->memory_bytes);
    phx_free(c);
}

static void drop_waiting(struct ncclComm *c)
{
    while (c->waiting) {
        nccl_emu_op *op = c->waiting;
        c->waiting = op->next;
        phx_free(op);
    }
}

static void leave(struct ncclComm *c, void (*how)(phx_seg *seg))
{
    if (c->starter_runs)
        (void)pthread_join(c->starter, NULL);
    c->starter_runs = false;
    if (c->pair.memory)
        how(&c->pair);
    if (c->all.memory)
        how(&c->all);
    while (atomic_load(&c->n_recorded) || device_is_busy(c))
        (void)usleep(1000);
    remove_comm(c);
    drop_waiting(c);
    phx_nccl_emu_release(c);
}

EXPORT phx_nccl_result ncclCommFinalize(phx_nccl_comm comm);
EXPORT phx_nccl_result ncclCommDestroy(phx_nccl_comm comm);
EXPORT phx_nccl_result ncclCommAbort(phx_nccl_comm comm);

phx_nccl_result ncclCommFinalize(phx_nccl_comm comm)
{
    comm->finalizing = true;
    return PHX_NCCL_IN_PROGRESS;
}

phx_nccl_result ncclCommDestroy(phx_nccl_comm comm)
{
    leave(comm, phx_seg_leave);
    return PHX_NCCL_SUCCESS;
}

phx_nccl_result ncclCommAbort(phx_nccl_comm comm)
{
    atomic_store(&comm->aborted, 1);
    leave(comm, phx_seg_abort);
    return PHX_NCCL_SUCCESS;
}

/* ---- state ---- */

static bool queue_waiting(struct ncclComm *c)
{
    nccl_emu_op *op = c->waiting;
    if (!op)
        return true;
    c->waiting = op->next;
    (void)atomic_fetch_add(&c->n_users, 1);
    if (op->stream->fns->is_recording(op->stream)) {
        (void)atomic_fetch_add(&c->n_recorded, 1);
        return op->stream->fns->keep(op->stream, phx_nccl_emu_run_again, phx_nccl_emu_drop, &op,
                                     sizeof(op)) &&
               queue_waiting(c);
    }
    (void)atomic_fetch_add(&c->n_queued, 1);
    return op->stream->fns->queue(op->stream, phx_nccl_emu_run, &op, sizeof(op)) && queue_waiting(c);
}

EXPORT phx_nccl_result ncclCommGetAsyncError(phx_nccl_comm comm, phx_nccl_result *result);
EXPORT const char *ncclGetErrorString(phx_nccl_result result);
EXPORT const char *ncclGetLastError(phx_nccl_comm comm);

phx_nccl_result ncclCommGetAsyncError(phx_nccl_comm comm, phx_nccl_result *result)
{
    *result = (phx_nccl_result)atomic_load(&comm->result);
    if (*result == PHX_NCCL_SUCCESS && comm->finalizing && atomic_load(&comm->n_queued))
        *result = PHX_NCCL_IN_PROGRESS;
    if (*result != PHX_NCCL_SUCCESS || !comm->waiting)
        return PHX_NCCL_SUCCESS;
    *result = PHX_NCCL_IN_PROGRESS;
    if (++comm->n_asked <= N_ASKED)
        return PHX_NCCL_SUCCESS;
    comm->n_asked = 0;
    *result = queue_waiting(comm) ? PHX_NCCL_SUCCESS : PHX_NCCL_SYSTEM_ERROR;
    return PHX_NCCL_SUCCESS;
}

const char *ncclGetErrorString(phx_nccl_result result)
{
    static const char *const texts[] = {"no error",
                                        "unhandled cuda error",
                                        "unhandled system error",
                                        "internal error",
                                        "invalid argument",
                                        "invalid usage",
                                        "remote process exited or there was a network error",
                                        "NCCL operation in progress"};
    return (unsigned)result < sizeof(texts) / sizeof(texts[0]) ? texts[result] : "unknown result";
}

const char *ncclGetLastError(phx_nccl_comm comm)
{
    return comm ? comm->text : "";
}

/* ---- calls ---- */

typedef struct group { /* of one thread, as in NCCL */
    uint32_t depth;
    nccl_emu_op *op; /* all sends and receives of it */
    phx_nccl_result result;
} group;

static group *own_group(void)
{
    static _Thread_local group g;
    return &g;
}

static size_t element_bytes(phx_nccl_type type)
{
    return type == PHX_NCCL_FLOAT32 ? sizeof(float) : 1;
}

static phx_nccl_result call(const nccl_emu_op *what)
{
    if (!what->stream || atomic_load(&what->comm->result) != PHX_NCCL_SUCCESS)
        return what->stream ? PHX_NCCL_INVALID_USAGE : PHX_NCCL_INVALID_ARGUMENT;
    nccl_emu_op *op = phx_alloc(1, sizeof(*op)), **last = &what->comm->waiting;
    if (!op)
        return PHX_NCCL_SYSTEM_ERROR;
    *op = *what;
    while (*last)
        last = &(*last)->next;
    *last = op;
    what->comm->n_asked = 0;
    return PHX_NCCL_IN_PROGRESS;
}

static phx_nccl_result add_to_group(group *g, const nccl_emu_op *what, int peer)
{
    if (!g->op) {
        g->op = phx_alloc(1, sizeof(*g->op));
        if (!g->op)
            return g->result = PHX_NCCL_SYSTEM_ERROR;
        *g->op = (nccl_emu_op){.comm = what->comm, .stream = what->stream, .kind = EACH_TO_EACH};
    }
    nccl_emu_part *part = what->kind == SEND ? &g->op->sends[peer] : &g->op->recvs[peer];
    if (g->op->comm != what->comm || g->op->stream != what->stream || part->n_bytes || !what->n_bytes)
        return g->result = PHX_NCCL_INVALID_USAGE;
    *part = (nccl_emu_part){what->from, what->to, what->n_bytes};
    return PHX_NCCL_SUCCESS;
}

static phx_nccl_result message(const nccl_emu_op *what, int peer)
{
    group *g = own_group();
    if (peer < 0 || (uint32_t)peer >= what->comm->n_ranks)
        return PHX_NCCL_INVALID_ARGUMENT;
    if (g->depth)
        return add_to_group(g, what, peer);
    if (what->comm->n_ranks != 2 || (uint32_t)peer == what->comm->rank)
        return PHX_NCCL_INVALID_USAGE;
    return call(what);
}

EXPORT phx_nccl_result ncclGroupStart(void);
EXPORT phx_nccl_result ncclGroupEnd(void);
EXPORT phx_nccl_result ncclAllGather(const void *from, void *to, size_t n, phx_nccl_type type,
                                     phx_nccl_comm comm, phx_nccl_stream stream);
EXPORT phx_nccl_result ncclAllReduce(const void *from, void *to, size_t n, phx_nccl_type type, phx_nccl_op op,
                                     phx_nccl_comm comm, phx_nccl_stream stream);
EXPORT phx_nccl_result ncclSend(const void *from, size_t n, phx_nccl_type type, int peer, phx_nccl_comm comm,
                                phx_nccl_stream stream);
EXPORT phx_nccl_result ncclRecv(void *to, size_t n, phx_nccl_type type, int peer, phx_nccl_comm comm,
                                phx_nccl_stream stream);

phx_nccl_result ncclGroupStart(void)
{
    group *g = own_group();
    if (g->depth++ == 0)
        *g = (group){.depth = 1, .result = PHX_NCCL_SUCCESS};
    return PHX_NCCL_SUCCESS;
}

phx_nccl_result ncclGroupEnd(void)
{
    group *g = own_group();
    if (g->depth == 0)
        return PHX_NCCL_INVALID_USAGE;
    if (--g->depth > 0)
        return PHX_NCCL_SUCCESS;
    const phx_nccl_result result = g->result != PHX_NCCL_SUCCESS || !g->op ? g->result : call(g->op);
    phx_free(g->op);
    g->op = NULL;
    return result;
}

phx_nccl_result ncclAllGather(const void *from, void *to, size_t n, phx_nccl_type type, phx_nccl_comm comm,
                              phx_nccl_stream stream)
{
    const nccl_emu_op op = {.comm = comm,
                            .stream = stream,
                            .kind = ALL_GATHER,
                            .from = from,
                            .to = to,
                            .n_bytes = n * element_bytes(type)};
    return own_group()->depth ? PHX_NCCL_INVALID_USAGE : call(&op);
}

phx_nccl_result ncclAllReduce(const void *from, void *to, size_t n, phx_nccl_type type, phx_nccl_op op_kind,
                              phx_nccl_comm comm, phx_nccl_stream stream)
{
    const nccl_emu_op op = {.comm = comm,
                            .stream = stream,
                            .kind = ALL_REDUCE,
                            .from = from,
                            .to = to,
                            .n_bytes = n * element_bytes(type)};
    if (type != PHX_NCCL_FLOAT32 || op_kind != PHX_NCCL_SUM || own_group()->depth)
        return PHX_NCCL_INVALID_USAGE;
    return call(&op);
}

phx_nccl_result ncclSend(const void *from, size_t n, phx_nccl_type type, int peer, phx_nccl_comm comm,
                         phx_nccl_stream stream)
{
    const nccl_emu_op op = {
        .comm = comm, .stream = stream, .kind = SEND, .from = from, .n_bytes = n * element_bytes(type)};
    return message(&op, peer);
}

phx_nccl_result ncclRecv(void *to, size_t n, phx_nccl_type type, int peer, phx_nccl_comm comm,
                         phx_nccl_stream stream)
{
    const nccl_emu_op op = {
        .comm = comm, .stream = stream, .kind = RECV, .to = to, .n_bytes = n * element_bytes(type)};
    return message(&op, peer);
}
