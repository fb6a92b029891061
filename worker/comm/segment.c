/* worker/comm/segment.c - ranks that share memory: layout, waiting, failing. */
#include "worker/comm/segment.h"

#include <assert.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rng.h"
#include "worker/comm/shape.h"

#define PAGE_BYTES     4096u
#define LAYOUT_VERSION 2u

/* Measured: with a free core per rank the peer arrives within a few microseconds and a sleep costs more than
 * the wait. The yields between are for ranks that the kernel has put on one core, where each microsecond of
 * spinning is one that the peer does not run; with more ranks than cores that is always so. */
#define N_LOOKS_WITH_CORES 32u /* between two yields */
#define N_LOOKS_CROWDED    1u
#define N_YIELDS           32u

#define SLEEP_US_MAX 100000u
#define CHECK_US     200000u /* between two looks at the processes of the others */

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

static size_t slot_bytes(const phx_comm_shape *shape)
{
    return shape->tp > 1 ? round_up(shape->exchange_bytes, 64) : 0;
}

/* All sections are alike, so the last stage has room for a message to a next one too. */
static size_t mail_bytes(const phx_comm_shape *shape)
{
    return shape->pp > 1 ? round_up(sizeof(phx_seg_message) + shape->stage_bytes, 64) : 0;
}

static size_t note_bytes(const phx_comm_shape *shape)
{
    return phx_comm_n_notes(shape) ? round_up(sizeof(phx_seg_message) + shape->note_bytes, 64) : 0;
}

static size_t words_bytes(void)
{
    return sizeof(phx_seg_group) + sizeof(phx_seg_rank);
}

size_t phx_seg_bytes(const phx_comm_shape *shape)
{
    return round_up(words_bytes() + 2 * slot_bytes(shape) + PHX_COMM_STAGE_DEPTH * mail_bytes(shape) +
                        phx_comm_n_notes(shape) * note_bytes(shape),
                    PAGE_BYTES);
}

uint64_t phx_seg_fingerprint(const phx_comm_shape *shape)
{
    const uint64_t layout =
        phx_rng_key(LAYOUT_VERSION, sizeof(phx_seg_group), sizeof(phx_seg_rank), sizeof(phx_seg_message));
    const uint64_t sizes =
        phx_rng_key(layout, shape->exchange_bytes, shape->stage_bytes, phx_seg_bytes(shape));
    return phx_rng_key(phx_rng_key(sizes, shape->note_bytes, 0, 0), shape->tp, shape->pp,
                       PHX_COMM_STAGE_DEPTH);
}

void phx_seg_init(phx_seg *seg, const phx_comm_ops *ops, const phx_comm_shape *shape, uint8_t *memory)
{
    seg->base.ops = ops;
    seg->base.shape = *shape;
    seg->memory = memory;
    seg->section_bytes = phx_seg_bytes(shape);
    seg->n_ranks = phx_comm_n_ranks(shape);
    const long n_cores = sysconf(_SC_NPROCESSORS_ONLN);
    seg->n_looks = n_cores > 0 && seg->n_ranks <= (uint64_t)n_cores ? N_LOOKS_WITH_CORES : N_LOOKS_CROWDED;
    seg->self = phx_peer_self();
}

static uint8_t *section(const phx_seg *seg, uint32_t rank)
{
    assert(rank < seg->n_ranks);
    return seg->memory + rank * seg->section_bytes;
}

phx_seg_group *phx_seg_group_of(const phx_seg *seg)
{
    return (phx_seg_group *)(void *)section(seg, 0);
}

phx_seg_rank *phx_seg_rank_of(const phx_seg *seg, uint32_t rank)
{
    return (phx_seg_rank *)(void *)(section(seg, rank) + sizeof(phx_seg_group));
}

float *phx_seg_slot(const phx_seg *seg, uint32_t rank, uint64_t use)
{
    return (float *)(void *)(section(seg, rank) + words_bytes() + (use % 2) * slot_bytes(&seg->base.shape));
}

phx_seg_message *phx_seg_mail(const phx_seg *seg, uint32_t rank, uint64_t n_sent)
{
    const phx_comm_shape *shape = &seg->base.shape;
    return (phx_seg_message *)(void *)(section(seg, rank) + words_bytes() + 2 * slot_bytes(shape) +
                                       (n_sent % PHX_COMM_STAGE_DEPTH) * mail_bytes(shape));
}

phx_seg_message *phx_seg_note(const phx_seg *seg, uint32_t rank, uint64_t n_noted)
{
    const phx_comm_shape *shape = &seg->base.shape;
    uint8_t *notes = (uint8_t *)phx_seg_mail(seg, rank, 0) + PHX_COMM_STAGE_DEPTH * mail_bytes(shape);
    return (phx_seg_message *)(void *)(notes + n_noted % phx_comm_n_notes(shape) * note_bytes(shape));
}

/* ---- waking and sleeping ---- */

static void futex_wait_us(_Atomic uint32_t *word, uint32_t seen, uint64_t timeout_us)
{
    const struct timespec timeout = {.tv_sec = (time_t)(timeout_us / 1000000),
                                     .tv_nsec = (long)(timeout_us % 1000000) * 1000};
    /* Any return, also an early one, makes the caller look again. */
    (void)syscall(SYS_futex, (uint32_t *)(void *)word, FUTEX_WAIT, seen, &timeout, NULL, 0);
}

static void wake(phx_seg_rank *rank)
{
    atomic_fetch_add(&rank->bell, 1);
    (void)syscall(SYS_futex, (uint32_t *)(void *)&rank->bell, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void phx_seg_ring(phx_seg *seg, uint32_t rank)
{
    phx_seg_rank *to = phx_seg_rank_of(seg, rank);
    /* Sequentially consistent with publish before and with the sleeper's store and look: either we see that
     * it sleeps, or it sees our count. The exchange spares a second waker the system call. */
    if (atomic_load(&to->sleeping) && atomic_exchange(&to->sleeping, 0))
        wake(to);
}

void phx_seg_publish(phx_seg *seg, phx_seg_counter counter, uint64_t value)
{
    atomic_store(&phx_seg_rank_of(seg, seg->base.shape.rank)->counters[counter], value);
}

static bool missing(const phx_seg *seg, const phx_seg_wait *wait, uint32_t rank)
{
    return rank >= wait->first && rank - wait->first < wait->n &&
           atomic_load(&phx_seg_rank_of(seg, rank)->counters[wait->counter]) < wait->target;
}

bool phx_seg_reached(const phx_seg *seg, const phx_seg_wait *wait)
{
    for (uint32_t i = 0; i < wait->n; i++)
        if (missing(seg, wait, wait->first + i))
            return false;
    return true;
}

static void pause_cpu(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* "1, 3" */
static void list_missing(const phx_seg *seg, const phx_seg_wait *wait, char *text, size_t text_bytes)
{
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t rank = wait->first; rank - wait->first < wait->n && used + 16 < text_bytes; rank++) {
        if (!missing(seg, wait, rank))
            continue;
        const int n = snprintf(text + used, text_bytes - used, "%s%" PRIu32, used ? ", " : "", rank);
        used += n > 0 ? (size_t)n : 0;
    }
}

static phx_code fail_timeout(phx_seg *seg, const phx_seg_wait *wait, phx_error *err)
{
    const phx_verb_ring *verbs = &phx_seg_rank_of(seg, seg->base.shape.rank)->verbs;
    char ranks[160];
    list_missing(seg, wait, ranks, sizeof(ranks));
    return phx_seg_fail(seg, PHX_ERR_COMM, wait->first, err,
                        "rank %" PRIu32 ", %s (verb %" PRIu64 "): rank %s had not arrived after %" PRIu32
                        " ms",
                        seg->base.shape.rank, phx_verb_name(phx_verb_last_kind(verbs)),
                        phx_verb_last_sequence(verbs), ranks[0] ? ranks : "?", seg->base.shape.timeout_ms);
}

/* One look and one sleep of at most SLEEP_US_MAX; reached when *ret_reached. */
static phx_code sleep_once(phx_seg *seg, const phx_seg_wait *wait, bool *ret_reached, phx_error *err)
{
    phx_seg_rank *own = phx_seg_rank_of(seg, seg->base.shape.rank);
    atomic_store(&own->sleeping, 1);
    const uint32_t bell = atomic_load(&own->bell);
    if (phx_seg_reached(seg, wait)) {
        *ret_reached = true;
        return PHX_OK;
    }
    if (atomic_load(&seg->aborted))
        return phx_seg_fail(seg, PHX_ERR_COMM, seg->base.shape.rank, err, "rank %" PRIu32 " was aborted",
                            seg->base.shape.rank);
    const uint64_t now_us = phx_steady_us(&seg->clock, phx_clock_us());
    const bool check_processes = now_us >= seg->next_check_us;
    if (check_processes)
        seg->next_check_us = now_us + CHECK_US;
    const phx_code rc = phx_seg_check_group(seg, wait, check_processes, err);
    if (rc != PHX_OK)
        return rc;
    if (seg->deadline_us && now_us >= seg->deadline_us)
        return fail_timeout(seg, wait, err);
    uint64_t sleep_us = SLEEP_US_MAX;
    if (seg->deadline_us && seg->deadline_us - now_us < sleep_us)
        sleep_us = seg->deadline_us - now_us;
    futex_wait_us(&own->bell, bell, sleep_us);
    return PHX_OK;
}

phx_code phx_seg_await(phx_seg *seg, const phx_seg_wait *wait, phx_error *err)
{
    for (uint32_t i = 0; i < N_YIELDS; i++) {
        for (uint32_t look = 0; look < seg->n_looks; look++) {
            if (phx_seg_reached(seg, wait))
                return PHX_OK;
            pause_cpu();
        }
        (void)sched_yield();
    }
    phx_seg_rank *own = phx_seg_rank_of(seg, seg->base.shape.rank);
    bool reached = false;
    phx_code rc = PHX_OK;
    while (rc == PHX_OK && !reached)
        rc = sleep_once(seg, wait, &reached, err);
    atomic_store(&own->sleeping, 0);
    return rc;
}

/* ---- joining, leaving, failing ---- */

/* Changes the own state when it is still `from` and lets everyone look, the own thread too. */
static void change_state(phx_seg *seg, uint32_t from, phx_seg_state to)
{
    _Atomic uint32_t *state = &phx_seg_rank_of(seg, seg->base.shape.rank)->state;
    if (!atomic_compare_exchange_strong(state, &from, (uint32_t)to))
        return;
    for (uint32_t rank = 0; rank < seg->n_ranks; rank++)
        phx_seg_ring(seg, rank);
}

void phx_seg_join(phx_seg *seg)
{
    phx_seg_rank_of(seg, seg->base.shape.rank)->process = seg->self;
    change_state(seg, PHX_SEG_ABSENT, PHX_SEG_ALIVE);
}

void phx_seg_leave(phx_seg *seg)
{
    change_state(seg, PHX_SEG_ALIVE, PHX_SEG_LEFT);
}

void phx_seg_abort(phx_seg *seg)
{
    atomic_store(&seg->aborted, 1);
    change_state(seg, PHX_SEG_ALIVE, PHX_SEG_ABORTED);
}

phx_code phx_seg_fail(phx_seg *seg, phx_code code, uint32_t culprit, phx_error *err, const char *format, ...)
{
    char text[sizeof(seg->dead.text)];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (seg->dead.code == PHX_OK)
        (void)PHX_FAIL(&seg->dead, code, "%s", text);
    uint64_t none = 0;
    (void)atomic_compare_exchange_strong(&phx_seg_group_of(seg)->cause, &none,
                                         (uint64_t)code << 32 | (culprit + 1));
    change_state(seg, PHX_SEG_ALIVE, PHX_SEG_FAILED);
    return PHX_FAIL(err, code, "%s", text);
}

/* Another rank failed: its cause becomes ours, so that all survivors name the rank that was lost. */
static phx_code fail_after(phx_seg *seg, uint32_t rank, phx_error *err)
{
    const uint64_t cause = atomic_load(&phx_seg_group_of(seg)->cause);
    const uint32_t culprit = (uint32_t)cause - 1;
    if (cause >> 32 == PHX_ERR_PEER_LOST && culprit < seg->n_ranks)
        return phx_seg_fail(seg, PHX_ERR_PEER_LOST, culprit, err,
                            "rank %" PRIu32 " is gone, as rank %" PRIu32 " found", culprit, rank);
    return phx_seg_fail(seg, PHX_ERR_COMM, rank, err,
                        "rank %" PRIu32 " failed first; its report has the cause", rank);
}

phx_code phx_seg_check_group(phx_seg *seg, const phx_seg_wait *wait, bool check_processes, phx_error *err)
{
    for (uint32_t rank = 0; rank < seg->n_ranks; rank++) {
        if (rank == seg->base.shape.rank)
            continue;
        const phx_seg_rank *other = phx_seg_rank_of(seg, rank);
        const uint32_t state = atomic_load(&other->state);
        if (state == PHX_SEG_FAILED)
            return fail_after(seg, rank, err);
        if (state == PHX_SEG_ABORTED)
            return phx_seg_fail(seg, PHX_ERR_COMM, rank, err, "rank %" PRIu32 " was aborted", rank);
        if (state == PHX_SEG_LEFT && wait && missing(seg, wait, rank))
            return phx_seg_fail(seg, PHX_ERR_COMM, rank, err,
                                "rank %" PRIu32 " has left the group while rank %" PRIu32 " waits for it",
                                rank, seg->base.shape.rank);
        if (state == PHX_SEG_ALIVE && check_processes && !phx_peer_alive(&seg->self, &other->process))
            return phx_seg_fail(seg, PHX_ERR_PEER_LOST, rank, err,
                                "rank %" PRIu32 " (process %" PRId32 ") is gone", rank, other->process.pid);
    }
    return PHX_OK;
}

phx_code phx_seg_begin(phx_seg *seg, phx_verb_kind kind, size_t payload_bytes, phx_error *err)
{
    if (seg->dead.code != PHX_OK)
        return PHX_FAIL(err, seg->dead.code, "the communicator is dead: %s", seg->dead.text);
    if (atomic_load(&seg->aborted))
        return phx_seg_fail(seg, PHX_ERR_COMM, seg->base.shape.rank, err, "rank %" PRIu32 " was aborted",
                            seg->base.shape.rank);
    const uint32_t timeout_ms = seg->base.shape.timeout_ms;
    phx_verb_begin(&phx_seg_rank_of(seg, seg->base.shape.rank)->verbs, kind, payload_bytes);
    if (timeout_ms)
        seg->deadline_us = phx_steady_us(&seg->clock, phx_clock_us()) + timeout_ms * UINT64_C(1000);
    return PHX_OK;
}
