/* tests/emu/test_emu_peers.c - the kernels of an exchange through peers' memory (kernels/cuda/peers.cu) on
 * the emulator, a process each rank: sums to the bit, in both ways, in bursts; a wait that the alarm ends;
 * rooms that cannot be opened. And the test of the test: faults planted in the kernels are caught. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/rng.h"
#include "kernels/device.h"
#include "tests/emu/planted.h"
#include "worker/comm/tree.h"

#define SLOT_BYTES ((size_t)32768)
#define N_MAX      (SLOT_BYTES / sizeof(float))
#define N_BURST    60u
#define SOON_US    UINT64_C(20000000)
#define RANKS_MAX  PHX_DEVICE_PEERS_MAX

int phx_plant; /* the fault that kernels/cuda/launch.cuh asks for */

const phx_device *phx_device_cuda(void);

typedef struct board { /* shared by all ranks: who offers what */
    pthread_barrier_t barrier;
    uint32_t any_failed;
    phx_device_offer offers[RANKS_MAX];
} board;

typedef struct rank {
    board *board;
    const phx_device *device;
    void *stream, *done;
    phx_device_exchange call;
    float *values; /* of the device: [N_MAX + 1] */
    uint32_t *alarm;
    phx_error err;
} rank;

typedef bool rank_body(rank *r);

/* ---- one rank ---- */

static bool failed(const rank *r, const char *what, size_t n)
{
    (void)fprintf(stderr, "rank %u of %u: %s, n = %zu: %s\n", r->call.rank, r->call.n_ranks, what, n,
                  r->err.code ? r->err.text : "other bits");
    return false;
}

static bool open_rank(rank *r)
{
    const phx_device *d = r->device = phx_device_cuda();
    void *memory = NULL;
    phx_emu_seed(r->call.rank + 1);
    bool good = d->stream_create(d->user, &r->stream, &r->err) == PHX_OK &&
                d->event_create(d->user, &r->done, &r->err) == PHX_OK &&
                d->alloc(d->user, (N_MAX + 1) * sizeof(float), &memory, &r->err) == PHX_OK &&
                d->peers->alarm_create(d->user, &r->alarm, &r->err) == PHX_OK &&
                d->peers->offer(d->user, phx_device_room_bytes(SLOT_BYTES), &r->call.rooms[r->call.rank],
                                &r->board->offers[r->call.rank], &r->err) == PHX_OK;
    (void)pthread_barrier_wait(&r->board->barrier);
    for (uint32_t p = 0; p < r->call.n_ranks && good; p++)
        if (p != r->call.rank)
            good = d->peers->open(d->user, &r->board->offers[p], &r->call.rooms[p], &r->err) == PHX_OK;
    (void)pthread_barrier_wait(&r->board->barrier);
    r->values = memory;
    r->call.alarm = r->alarm;
    r->call.slot_bytes = SLOT_BYTES;
    return good || failed(r, "start", 0);
}

static bool await(rank *r)
{
    const phx_device *d = r->device;
    bool is_done = false;
    const uint64_t end_us = phx_clock_us() + SOON_US;
    if (d->record(d->user, r->done, r->stream, &r->err) != PHX_OK)
        return false;
    while (!is_done && phx_clock_us() < end_us) {
        if (d->is_done(d->user, r->done, &is_done, &r->err) != PHX_OK)
            return false;
        if (__atomic_load_n(&r->board->any_failed, __ATOMIC_RELAXED)) /* the others need not wait for it */
            __atomic_store_n(r->alarm, 1, __ATOMIC_SEQ_CST);
        (void)usleep(50);
    }
    return is_done;
}

static bool copy(rank *r, void *to, const void *from, size_t n_bytes)
{
    const phx_device_copy what = {to, from, n_bytes};
    return r->device->copy(r->device->user, r->stream, &what, &r->err) == PHX_OK && await(r);
}

static float part(uint32_t from, uint64_t round, size_t i)
{
    return phx_rng_unit(phx_rng_key(3, from, round, i)) - 0.5f;
}

/* A vector of n that begins first floats into the memory; queued and waited for, or not. */
static bool queue(rank *r, size_t first, size_t n, bool in_two_shots)
{
    r->call.values = r->values + first;
    r->call.n = n;
    r->call.in_two_shots = in_two_shots;
    return r->device->peers->exchange(r->device->user, r->stream, &r->call, &r->err) == PHX_OK;
}

static bool check_one(rank *r, size_t first, size_t n, bool in_two_shots, uint64_t round)
{
    static float parts[RANKS_MAX][N_MAX], sums[N_MAX + 2], expected[N_MAX];
    const float *rows[RANKS_MAX] = {0};
    for (uint32_t p = 0; p < r->call.n_ranks; p++) {
        rows[p] = parts[p];
        for (size_t i = 0; i < n; i++)
            parts[p][i] = part(p, round, i);
    }
    phx_tree_add(expected, rows, r->call.n_ranks, n);
    memset(sums, 0x55, sizeof(sums)); /* guards before and after */
    const size_t all_bytes = (first + n + (first + n <= N_MAX)) * sizeof(float);
    memcpy(sums + first, parts[r->call.rank], n * sizeof(float));
    if (!copy(r, r->values, sums, all_bytes) || !queue(r, first, n, in_two_shots) || !await(r))
        return failed(r, "exchange", n);
    memset(sums, 0, sizeof(sums));
    if (!copy(r, sums, r->values, all_bytes))
        return failed(r, "copy", n);
    const uint32_t guard = 0x55555555u;
    if (memcmp(sums + first, expected, n * sizeof(float)) != 0 ||
        (first && memcmp(&sums[0], &guard, sizeof(guard)) != 0) ||
        (first + n <= N_MAX && memcmp(&sums[first + n], &guard, sizeof(guard)) != 0))
        return failed(r, in_two_shots ? "two shots" : "one shot", n);
    return true;
}

static bool check_sizes(rank *r)
{
    static const size_t sizes[] = {1, 2, 3, 4, 5, 31, 64, 1000, 1023, 4097, N_MAX - 1, N_MAX};
    uint64_t round = 0;
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
        for (uint32_t two = 0; two < 2; two++) {
            const size_t first = (s + two) % 2 && sizes[s] < N_MAX; /* also off the bounds of 16 bytes */
            if (!check_one(r, first, sizes[s], two == 1, round++))
                return false;
        }
    return true;
}

/* One after the other on the stream, so that a rank that is ahead can spoil what others still read. Each one
 * works on its own part of the vector, which is filled before and looked at after the burst. */
static bool check_burst(rank *r)
{
    static float parts[RANKS_MAX][N_MAX], sums[N_MAX], expected[N_MAX];
    const float *rows[RANKS_MAX] = {0};
    const size_t n = N_MAX / N_BURST / 4 * 4;
    for (uint32_t p = 0; p < r->call.n_ranks; p++) {
        rows[p] = parts[p];
        for (size_t i = 0; i < N_MAX; i++)
            parts[p][i] = part(p, 1000, i);
    }
    phx_tree_add(expected, rows, r->call.n_ranks, n * N_BURST);
    if (!copy(r, r->values, parts[r->call.rank], sizeof(parts[0])))
        return failed(r, "copy", n);
    for (uint32_t k = 0; k < N_BURST; k++)
        if (!queue(r, k * n, n, k % 3 == 2))
            return failed(r, "burst", k);
    if (!await(r) || !copy(r, sums, r->values, sizeof(sums)))
        return failed(r, "burst", n);
    return memcmp(sums, expected, n * N_BURST * sizeof(float)) == 0 || failed(r, "burst", n);
}

static bool check_all(rank *r)
{
    return check_sizes(r) && check_burst(r);
}

/* The last rank never comes. */
static bool alarm_body(rank *r)
{
    if (r->call.rank == r->call.n_ranks - 1)
        (void)raise(SIGKILL);
    if (!queue(r, 0, 100, r->call.rank == 1) || !queue(r, 0, 100, false))
        return failed(r, "queue", 100);
    (void)usleep(100000);
    bool is_done = true;
    if (r->device->record(r->device->user, r->done, r->stream, &r->err) != PHX_OK ||
        r->device->is_done(r->device->user, r->done, &is_done, &r->err) != PHX_OK || is_done)
        return failed(r, "a wait for nobody ended", 100);
    __atomic_store_n(r->alarm, 1, __ATOMIC_SEQ_CST);
    return await(r) || failed(r, "the alarm does not end the wait", 100);
}

/* A room of the own process and one of a process that has gone. */
static bool refused_body(rank *r)
{
    const phx_device *d = r->device;
    const phx_device_offer *own = &r->board->offers[r->call.rank];
    phx_device_offer other = r->board->offers[1 - r->call.rank];
    void *room = NULL;
    phx_error err = {0};
    if (d->peers->open(d->user, own, &room, &err) != PHX_ERR_UNAVAILABLE || room)
        return failed(r, "the own room was opened", 0);
    /* The process, by its number's highest byte: the lowest could name a thread of the same one. */
    other.handle[3] ^= 0x40;
    if (d->peers->open(d->user, &other, &room, &err) != PHX_ERR_UNAVAILABLE || room)
        return failed(r, "a room of nobody was opened", 0);
    (void)snprintf(other.where, sizeof(other.where), "nowhere");
    err = (phx_error){0};
    return (d->peers->open(d->user, &other, &room, &err) == PHX_ERR_UNAVAILABLE &&
            strstr(err.text, "not visible")) ||
           failed(r, "a device of nowhere", 0);
}

/* ---- all ranks ---- */

/* How many ranks ended badly; one that died by SIGKILL did not. */
static uint32_t run_ranks(uint32_t n_ranks, rank_body *body)
{
    board *b = mmap(NULL, sizeof(*b), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_barrierattr_t shared;
    uint32_t n_bad = 0;
    assert_true(b != MAP_FAILED);
    (void)pthread_barrierattr_init(&shared);
    (void)pthread_barrierattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
    (void)pthread_barrier_init(&b->barrier, &shared, n_ranks);
    (void)fflush(NULL);
    for (uint32_t p = 0; p < n_ranks; p++)
        if (fork() == 0) {
            rank r = {.board = b, .call = {.rank = p, .n_ranks = n_ranks}};
            const bool good = open_rank(&r) && body(&r);
            if (!good)
                __atomic_store_n(&b->any_failed, 1, __ATOMIC_RELAXED);
            _exit(good ? 0 : 1);
        }
    for (uint32_t p = 0; p < n_ranks; p++) {
        int status = 1;
        assert_true(wait(&status) > 0);
        n_bad += status != 0 && !(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
    (void)munmap(b, sizeof(*b));
    return n_bad;
}

static void sums_are_the_trees(void **state)
{
    (void)state;
    for (uint32_t n = 2; n <= RANKS_MAX; n *= 2)
        assert_int_equal(run_ranks(n, check_all), 0);
}

static void alarm_ends_a_wait(void **state)
{
    (void)state;
    assert_int_equal(run_ranks(4, alarm_body), 0);
}

static void foreign_rooms_are_refused(void **state)
{
    (void)state;
    assert_int_equal(run_ranks(2, refused_body), 0);
}

/* 50: no wait for the parts; 51: no barrier before a flag; 52: one slot; 53: no wait for the sums. Four
 * ranks, because a rank that is ahead is then ahead of somebody; some tries, because the last two are caught
 * by what they spoil. */
static void planted_faults_are_caught(void **state)
{
    (void)state;
    enum { N_TRIES = 5 };
    for (phx_plant = 50; phx_plant <= 53; phx_plant++) {
        uint32_t n_bad = 0;
        for (uint32_t i = 0; i < N_TRIES && n_bad == 0; i++)
            n_bad = run_ranks(4, check_all);
        if (n_bad == 0)
            (void)fprintf(stderr, "fault %d was not caught\n", phx_plant);
        assert_true(n_bad > 0);
    }
    phx_plant = 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_the_trees),
        cmocka_unit_test(alarm_ends_a_wait),
        cmocka_unit_test(foreign_rooms_are_refused),
        cmocka_unit_test(planted_faults_are_caught),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
