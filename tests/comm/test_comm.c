/* tests/comm/test_comm.c - what the verbs compute, to the bit, on every backend.
 * `test_comm`: loop and shm, many layouts; `test_comm nccl`: the stand-in for NCCL over both; `test_comm
 * peers`: emulated devices that exchange through each other's memory. `mpirun -n TP*PP test_comm mpi|nccl TP
 * PP`: the same checks over MPI, or the stand-in over that. Inputs follow from (case, rank, index), so each
 * rank knows what all others put in. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "base/str.h"
#include "tests/comm/crew.h"
#include "tests/comm/host_device.h"
#ifdef PHX_TEST_MPI
#include "tests/comm/mpi_start.h"
#endif

#define GUARD 0x7e57ca5eu

typedef struct view { /* what a check needs of its rank */
    phx_comm *comm;
    uint32_t rank, stage, tp_rank, tp, pp;
    size_t slot;     /* values of one uncut exchange */
    float *values;   /* [n_max + 1], the last is for the guard */
    float *expected; /* [n_max + 1] */
    uint8_t *bytes;  /* [(n_max + 1) * 4] */
    char *report;
} view;

static bool differs(view *v, const char *what, size_t n, const phx_error *err)
{
    (void)snprintf(v->report, PHX_CREW_REPORT_BYTES, "%s, n = %zu: %s", what, n,
                   err ? err->text : "bits differ");
    return false;
}

/* ---- inputs ---- */

typedef enum input { INTEGERS, POWERS, UNEVEN, MINUS_ZERO, ONE_NAN, INPUT_COUNT } input;

static float bits_float(uint32_t bits)
{
    float value = 0;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static float input_value(input kind, uint32_t stage, uint32_t tp_rank, size_t i)
{
    const uint64_t random = phx_rng_key(77 + kind, stage, tp_rank, i);
    switch (kind) {
    case INTEGERS:
        return (float)((int32_t)(random % 2001) - 1000);
    case POWERS:
        return bits_float((uint32_t)(100 + random % 50) << 23);
    case MINUS_ZERO:
        return -0.0f;
    case ONE_NAN:
        return i % 8 == tp_rank ? bits_float(0x7fc00000u + (uint32_t)(i % 4096) + 1) : (float)(i % 5);
    case UNEVEN: /* any order but the tree's gives other bits */
    case INPUT_COUNT:
        break;
    }
    const uint32_t sign = (uint32_t)(random >> 63) << 31, exponent = (uint32_t)(110 + (random >> 32) % 30)
                                                                     << 23;
    return bits_float(sign | exponent | (uint32_t)(random & 0x7fffff));
}

/* The tree by its definition: neighbours, then neighbours of sums. */
static float tree_sum(float *parts, uint32_t n)
{
    for (uint32_t step = 1; step < n; step *= 2)
        for (uint32_t r = 0; r < n; r += 2 * step)
            parts[r] += parts[r + step];
    return parts[0];
}

/* ---- exchange ---- */

static bool check_exchange(view *v, input kind, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float parts[8] = {0};
        for (uint32_t r = 0; r < v->tp; r++)
            parts[r] = input_value(kind, v->stage, r, i);
        v->values[i] = parts[v->tp_rank];
        v->expected[i] = tree_sum(parts, v->tp);
    }
    v->values[n] = v->expected[n] = bits_float(GUARD);
    phx_error err = {0};
    if (phx_exchange(v->comm, v->values, n, &err) != PHX_OK)
        return differs(v, "exchange", n, &err);
    if (memcmp(v->values, v->expected, (n + 1) * sizeof(float)) != 0)
        return differs(v, kind == ONE_NAN ? "exchange with NaN" : "exchange", n, NULL);
    return true;
}

static bool check_exchanges(view *v)
{
    const size_t sizes[] = {0, 1, 7, 64, 1000, v->slot - 1, v->slot, v->slot + 1, 3 * v->slot + 5};
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
        for (input kind = INTEGERS; kind < INPUT_COUNT; kind++)
            if (!check_exchange(v, kind, sizes[s]))
                return false;
    return true;
}

/* Two NaNs in one sum: which payload wins is the machine's choice, but it is one choice for all ranks. */
static bool check_two_nans(view *v)
{
    const size_t n = 2 * v->slot + 3;
    for (size_t i = 0; i < n; i++)
        v->values[i] = bits_float(0x7fc00001u + v->tp_rank);
    phx_error err = {0};
    if (phx_exchange(v->comm, v->values, n, &err) != PHX_OK)
        return differs(v, "exchange of NaNs", n, &err);
    for (size_t i = 0; i < n; i += v->slot) {
        float all[8] = {0};
        if (phx_gather(v->comm, &v->values[i], sizeof(float), all, &err) != PHX_OK)
            return differs(v, "gather of NaNs", i, &err);
        for (uint32_t r = 1; r < v->tp; r++)
            if (memcmp(&all[r], &all[0], sizeof(float)) != 0)
                return differs(v, "NaNs of two ranks", i, NULL);
    }
    return true;
}

/* Many small ones in a row, ranks out of step by random pauses: buffers must not be reused too early. */
static bool check_burst(view *v)
{
    phx_error err = {0};
    for (uint32_t k = 0; k < 300; k++) {
        if (phx_rng_key(5, v->rank, k, 0) % 16 == 0)
            (void)usleep(200);
        const size_t n = 1 + phx_rng_key(6, k, 0, 0) % 40;
        for (size_t i = 0; i < n; i++)
            v->values[i] = (float)((k + i) * (v->tp_rank + 1));
        if (phx_exchange(v->comm, v->values, n, &err) != PHX_OK)
            return differs(v, "burst", k, &err);
        for (size_t i = 0; i < n; i++)
            if (v->values[i] != (float)((k + i) * (v->tp * (v->tp + 1) / 2)))
                return differs(v, "burst", k, NULL);
        uint64_t all[8] = {0}, mine = k * 100 + v->tp_rank;
        if (phx_gather(v->comm, &mine, sizeof(mine), all, &err) != PHX_OK)
            return differs(v, "burst gather", k, &err);
        for (uint32_t r = 0; r < v->tp; r++)
            if (all[r] != k * 100 + r)
                return differs(v, "burst gather", k, NULL);
    }
    return true;
}

/* ---- gather ---- */

static uint8_t gather_byte(uint32_t stage, uint32_t tp_rank, size_t i)
{
    return (uint8_t)(i * 31 + tp_rank * 101 + stage * 7 + i / 251);
}

static bool check_gather(view *v, size_t n, bool in_place)
{
    uint8_t *all = (uint8_t *)v->values; /* [tp][n], and the guard */
    uint8_t *mine = in_place ? all + v->tp_rank * n : v->bytes;
    memset(all, 0xee, v->tp * n + 1);
    for (size_t i = 0; i < n; i++)
        mine[i] = gather_byte(v->stage, v->tp_rank, i);
    phx_error err = {0};
    if (phx_gather(v->comm, mine, n, all, &err) != PHX_OK)
        return differs(v, "gather", n, &err);
    for (uint32_t r = 0; r < v->tp; r++)
        for (size_t i = 0; i < n; i++)
            if (all[r * n + i] != gather_byte(v->stage, r, i))
                return differs(v, "gather", n, NULL);
    if (all[v->tp * n] != 0xee)
        return differs(v, "gather wrote past its end", n, NULL);
    return true;
}

static bool check_gathers(view *v)
{
    const size_t bytes = v->slot * sizeof(float);
    const size_t sizes[] = {0, 1, 7, 64, 1000, bytes - 1, bytes, bytes + 1, 3 * bytes / 2 + 5};
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
        if (!check_gather(v, sizes[s], false) || !check_gather(v, sizes[s], true))
            return false;
    return true;
}

/* ---- stages ---- */

static bool send_message(view *v, uint32_t k, size_t n)
{
    phx_error err = {0};
    for (size_t i = 0; i < n; i++)
        v->bytes[i] = gather_byte(v->rank, k, i);
    if (phx_stage_send(v->comm, v->stage + 1, v->bytes, n, &err) != PHX_OK)
        return differs(v, "send", n, &err);
    memset(v->bytes, 0, n); /* the payload must have been taken or copied */
    return true;
}

static bool recv_message(view *v, uint32_t k, size_t n)
{
    phx_error err = {0};
    const uint32_t from_stage = v->stage - 1;
    uint8_t *data = (uint8_t *)v->values;
    memset(data, 0xee, n + 1);
    if (phx_stage_recv(v->comm, from_stage, data, n, &err) != PHX_OK)
        return differs(v, "recv", n, &err);
    for (size_t i = 0; i < n; i++)
        if (data[i] != gather_byte(from_stage * v->tp + v->tp_rank, k, i))
            return differs(v, "recv", n, NULL);
    return data[n] == 0xee || differs(v, "recv wrote past its end", n, NULL);
}

static bool check_stages(view *v)
{
    const size_t limit = v->comm->shape.stage_bytes;
    const size_t sizes[] = {1, 7, 0, 64, limit - 1, 1000, limit, limit, 8};
    const uint32_t n_sizes = sizeof(sizes) / sizeof(sizes[0]);
    const bool sends = v->stage + 1 < v->pp, receives = v->stage > 0;
    /* Everyone sends before anyone receives. */
    for (uint32_t k = 0; k < n_sizes; k++)
        if ((sends && !send_message(v, k, sizes[k])) || (receives && !recv_message(v, k, sizes[k])))
            return false;
    /* The first stage runs ahead as far as the mailboxes let it. */
    for (uint32_t k = 0; k < 20; k++) {
        const size_t n = sizes[k % n_sizes];
        if ((receives && !recv_message(v, k, n)) || (sends && !send_message(v, k, n)))
            return false;
    }
    return true;
}

/* Notes of all steps in flight leave while their receiver does something else. */
static bool check_notes(view *v)
{
    const size_t limit = v->comm->shape.note_bytes;
    const size_t sizes[] = {1, limit, 0, 64, limit - 1};
    const uint32_t n_flight = v->pp + 1;
    uint8_t *data = (uint8_t *)v->values;
    phx_error err = {0};
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t k = 0; k < n_flight && v->stage == v->pp - 1; k++) {
            const size_t n = sizes[(round + k) % 5];
            for (size_t i = 0; i < n; i++)
                v->bytes[i] = gather_byte(v->rank + round, k, i);
            if (phx_note_send(v->comm, v->bytes, n, &err) != PHX_OK)
                return differs(v, "note", n, &err);
            memset(v->bytes, 0, n); /* the note must have been copied */
        }
        if (phx_comm_barrier(v->comm, &err) != PHX_OK)
            return differs(v, "barrier among notes", 0, &err);
        for (uint32_t k = 0; k < n_flight && v->stage == 0; k++) {
            const size_t n = sizes[(round + k) % 5];
            memset(data, 0xee, n + 1);
            if (phx_note_recv(v->comm, data, n, &err) != PHX_OK)
                return differs(v, "note", n, &err);
            for (size_t i = 0; i < n; i++)
                if (data[i] != gather_byte((v->pp - 1) * v->tp + v->tp_rank + round, k, i))
                    return differs(v, "note", n, NULL);
            if (data[n] != 0xee)
                return differs(v, "note wrote past its end", n, NULL);
        }
    }
    const bool first = v->stage == 0, last = v->stage == v->pp - 1;
    if ((!last && phx_note_send(v->comm, v->bytes, 1, NULL) != PHX_ERR_INVALID) ||
        (!first && phx_note_recv(v->comm, data, 1, NULL) != PHX_ERR_INVALID) ||
        (last && phx_note_send(v->comm, v->bytes, limit + 1, NULL) != PHX_ERR_INVALID))
        return differs(v, "wrong end or length of a note was not refused", limit, NULL);
    return true;
}

/* Refused before anything moves, so one rank alone may ask. The stages are no ring. */
static bool check_stage_arguments(view *v)
{
    const size_t too_long = v->comm->shape.stage_bytes + 1;
    phx_error err = {0};
    if ((v->stage == v->pp - 1 && phx_stage_send(v->comm, 0, v->bytes, 1, NULL) != PHX_ERR_INVALID) ||
        (v->stage == 0 && phx_stage_recv(v->comm, v->pp - 1, v->bytes, 1, NULL) != PHX_ERR_INVALID) ||
        phx_stage_send(v->comm, v->stage, v->bytes, 1, NULL) != PHX_ERR_INVALID ||
        phx_stage_send(v->comm, v->pp, v->bytes, 1, NULL) != PHX_ERR_INVALID ||
        phx_stage_recv(v->comm, v->stage, v->bytes, 1, NULL) != PHX_ERR_INVALID ||
        phx_stage_recv(v->comm, UINT32_MAX, v->bytes, 1, NULL) != PHX_ERR_INVALID ||
        phx_stage_send(v->comm, v->stage + 1, v->bytes, too_long, &err) != PHX_ERR_INVALID ||
        phx_stage_recv(v->comm, v->stage - 1, v->bytes, too_long, NULL) != PHX_ERR_INVALID)
        return differs(v, "wrong stage or length was not refused", too_long, NULL);
    return true;
}

/* ---- counters ---- */

static bool check_traffic(view *v)
{
    /* 7 values cut for tp 2: 3 + 4; tp 4: 1 + 2 + 2 + 2; tp 8: 0 + 1 + ... + 1. Sent: the shares of the
     * others once, the own sum to each of them. The sums over ranks are 2 * 4 * 7 * (tp - 1). */
    const uint64_t first = v->tp == 8 ? 28 : v->tp == 4 ? 36 : v->tp == 2 ? 28 : 0;
    const uint64_t others = v->tp == 8 ? 52 : v->tp == 4 ? 44 : v->tp == 2 ? 28 : 0;
    const phx_comm_traffic before = v->comm->traffic;
    phx_error err = {0};
    for (uint32_t i = 0; i < 7; i++)
        v->values[i] = 1;
    if (phx_exchange(v->comm, v->values, 7, &err) != PHX_OK ||
        phx_gather(v->comm, v->bytes, 5, v->values, &err) != PHX_OK ||
        phx_comm_barrier(v->comm, &err) != PHX_OK)
        return differs(v, "traffic", 7, &err);
    const phx_comm_traffic *after = &v->comm->traffic;
    if (after->exchange_bytes - before.exchange_bytes != (v->tp_rank == 0 ? first : others) ||
        after->gather_bytes - before.gather_bytes != 5 * (v->tp - 1) || after->n_verbs - before.n_verbs != 3)
        return differs(v, "traffic count", 7, NULL);
    const bool sends = v->stage + 1 < v->pp;
    if ((sends && !send_message(v, 0, 9)) || (v->stage > 0 && !recv_message(v, 0, 9)))
        return false;
    if (after->stage_bytes - before.stage_bytes != (sends ? 9 : 0))
        return differs(v, "traffic of stages", 9, NULL);
    return true;
}

/* ---- one rank runs all ---- */

static bool suite(phx_comm *comm, const void *arg, char *report)
{
    (void)arg;
    const phx_comm_shape *shape = &comm->shape;
    const size_t slot = shape->exchange_bytes / sizeof(float);
    const size_t n_max = 16 * slot + 1024;
    view v = {.comm = comm,
              .rank = shape->rank,
              .stage = shape->rank / shape->tp,
              .tp = shape->tp,
              .pp = shape->pp,
              .tp_rank = shape->rank % shape->tp,
              .slot = slot,
              .report = report};
    v.values = phx_alloc(n_max, sizeof(float));
    v.expected = phx_alloc(n_max, sizeof(float));
    v.bytes = phx_alloc(n_max, sizeof(float));
    phx_error err = {0};
    bool good = v.values && v.expected && v.bytes;
    good = good && check_exchanges(&v) && check_two_nans(&v) && check_burst(&v) && check_gathers(&v);
    if (v.pp > 1)
        good = good && check_stages(&v) && check_stage_arguments(&v) && check_notes(&v);
    good = good && check_traffic(&v);
    if (good && phx_comm_barrier(comm, &err) != PHX_OK)
        good = differs(&v, "last barrier", 0, &err);
    phx_free(v.values);
    phx_free(v.expected);
    phx_free(v.bytes);
    return good;
}

/* exchange_bytes: small ones are cut and take one barrier per cut; in large ones each rank sums a share. */
static phx_comm_shape shape_of(uint32_t tp, uint32_t pp, bool large)
{
    return (phx_comm_shape){.tp = tp,
                            .pp = pp,
                            .exchange_bytes = large ? 140000 : 4096,
                            .stage_bytes = large ? 200001 : 3001,
                            .note_bytes = large ? 70001 : 301,
                            .timeout_ms = 60000};
}

static void run_layouts(phx_crew_backend backend)
{
    static const uint32_t layouts[][2] = {{1, 1}, {2, 1}, {4, 1}, {8, 1}, {1, 2},
                                          {1, 3}, {2, 2}, {2, 3}, {4, 2}};
    for (size_t l = 0; l < sizeof(layouts) / sizeof(layouts[0]); l++) {
        const phx_comm_shape shape = shape_of(layouts[l][0], layouts[l][1], false);
        assert_true(phx_crew_run(backend, &shape, suite, NULL));
    }
    static const uint32_t large[][2] = {{2, 1}, {4, 1}, {8, 1}, {2, 2}};
    for (size_t l = 0; l < sizeof(large) / sizeof(large[0]); l++) {
        const phx_comm_shape shape = shape_of(large[l][0], large[l][1], true);
        assert_true(phx_crew_run(backend, &shape, suite, NULL));
    }
}

static void loop_has_exact_results(void **state)
{
    (void)state;
    run_layouts(PHX_CREW_LOOP);
}

static void shm_has_exact_results(void **state)
{
    (void)state;
    run_layouts(PHX_CREW_SHM);
}

static void nccl_threads_have_exact_results(void **state)
{
    (void)state;
    run_layouts(PHX_CREW_NCCL_THREADS);
}

static void nccl_has_exact_results(void **state)
{
    (void)state;
    run_layouts(PHX_CREW_NCCL);
}

/* In rooms both ways have their turn: one shot up to 128 KiB, two above; the kernels are emulated, hence few
 * layouts. */
static void peers_have_exact_results(void **state)
{
    (void)state;
    static const uint32_t layouts[][2] = {{2, 1}, {4, 1}, {2, 2}};
    for (size_t l = 0; l < sizeof(layouts) / sizeof(layouts[0]); l++) {
        const phx_comm_shape shape = shape_of(layouts[l][0], layouts[l][1], false);
        assert_true(phx_crew_run(PHX_CREW_PEERS, &shape, suite, NULL));
    }
    const phx_comm_shape large = shape_of(2, 1, true);
    assert_true(phx_crew_run(PHX_CREW_PEERS, &large, suite, NULL));
}

/* Sums in the library's order: exact where the order does not matter, and not the tree where it does. */
static bool any_order_body(phx_comm *comm, const void *arg, char *report)
{
    (void)arg;
    enum { N = 1000 };
    float values[N], trees[N];
    phx_error err = {0};
    const uint32_t tp = comm->shape.tp, tp_rank = comm->shape.rank % tp;
    for (input kind = INTEGERS; kind <= UNEVEN; kind++) {
        for (size_t i = 0; i < N; i++) {
            float parts[8] = {0};
            for (uint32_t r = 0; r < tp; r++)
                parts[r] = input_value(kind, 0, r, i);
            values[i] = parts[tp_rank];
            trees[i] = tree_sum(parts, tp);
        }
        view v = {.report = report};
        if (phx_exchange(comm, values, N, &err) != PHX_OK)
            return differs(&v, "exchange in any order", N, &err);
        const bool same = memcmp(values, trees, sizeof(values)) == 0;
        if (kind == INTEGERS ? !same : kind == UNEVEN && tp > 2 && same)
            return differs(&v, kind == UNEVEN ? "the order is the tree's" : "exchange in any order", N, NULL);
    }
    return true;
}

/* Verbs that only queue: nothing is looked at before phx_comm_wait. */
static bool queued_body(phx_comm *comm, const void *arg, char *report)
{
    (void)arg;
    enum { N = 700, N_ROUNDS = 5 };
    static _Thread_local float values[N_ROUNDS][N], all[N_ROUNDS][8 * N];
    static _Thread_local char mail[N_ROUNDS], got[N_ROUNDS];
    view v = {.report = report};
    phx_error err = {0};
    phx_code rc = PHX_OK;
    const phx_comm_shape *shape = &comm->shape;
    const uint32_t tp = shape->tp, stage = shape->rank / tp;
    for (uint32_t k = 0; k < N_ROUNDS && rc == PHX_OK; k++) {
        for (size_t i = 0; i < N; i++)
            values[k][i] = (float)((k + i) * (shape->rank % tp + 1));
        mail[k] = (char)(shape->rank + k);
        rc = phx_exchange(comm, values[k], N, &err);
        if (rc == PHX_OK) /* of what the exchange will have made */
            rc = phx_gather(comm, values[k], sizeof(values[k]), all[k], &err);
        if (rc == PHX_OK && stage + 1 < shape->pp)
            rc = phx_stage_send(comm, stage + 1, &mail[k], 1, &err);
        if (rc == PHX_OK && stage > 0)
            rc = phx_stage_recv(comm, stage - 1, &got[k], 1, &err);
    }
    if (rc == PHX_OK)
        rc = phx_comm_wait(comm, &err);
    if (rc != PHX_OK)
        return differs(&v, "queued verbs", 0, &err);
    for (uint32_t k = 0; k < N_ROUNDS; k++) {
        for (size_t i = 0; i < tp * N; i++)
            if (all[k][i] != (float)((k + i % N) * (tp * (tp + 1) / 2)))
                return differs(&v, "queued exchange", k, NULL);
        if (stage > 0 && got[k] != (char)(shape->rank - tp + k))
            return differs(&v, "queued message", k, NULL);
    }
    return phx_comm_barrier(comm, &err) == PHX_OK || differs(&v, "barrier", 0, &err);
}

static bool measured_body(phx_comm *comm, const void *arg, char *report)
{
    phx_buf text;
    phx_buf_init(&text, 10000);
    const bool good = phx_comm_describe(comm, &text) == PHX_OK && strstr(text.ptr, "as measured");
    if (!good)
        (void)snprintf(report, PHX_CREW_REPORT_BYTES, "the measurement is not told");
    phx_buf_done(&text);
    return good && suite(comm, arg, report);
}

/* A device that loses one number of each sum of more than a few; the same on every rank. */
static phx_code faulty_tree(void *user, void *stream, const phx_device_tree *tree, phx_error *err)
{
    phx_device_tree shorter = *tree;
    shorter.n -= tree->n > 100;
    return phx_host_device.tree_add(user, stream, &shorter, err);
}

static bool checked_body(phx_comm *comm, const void *arg, char *report)
{
    const phx_code *expected = arg;
    phx_error err = {0}, again = {0};
    const phx_code rc = phx_comm_nccl_check(comm, &err);
    if (rc == *expected && rc == PHX_OK)
        return suite(comm, NULL, report);
    if (rc == *expected || rc == PHX_ERR_COMM) /* or another rank has found it first */
        return phx_comm_barrier(comm, &again) != PHX_OK;
    (void)snprintf(report, PHX_CREW_REPORT_BYTES, "check: %s: %.300s", phx_code_name(rc), err.text);
    return false;
}

static void nccl_check_finds_a_fault(void **state)
{
    (void)state;
    const phx_code good = PHX_OK, bad = PHX_ERR_NUMERIC;
    phx_device faulty = phx_host_device;
    faulty.tree_add = faulty_tree;
    const phx_comm_nccl_options options = {.device = &faulty};
    const phx_comm_shape wide = shape_of(4, 1, true), square = shape_of(2, 2, false);
    assert_true(phx_crew_run(PHX_CREW_NCCL, &square, checked_body, &good));
    assert_true(phx_crew_run(PHX_CREW_NCCL_THREADS, &wide, checked_body, &good));
    assert_true(phx_crew_run_nccl(PHX_CREW_NCCL, &wide, &options, checked_body, &bad));
}

static void nccl_in_other_modes_has_exact_results(void **state)
{
    (void)state;
    const phx_comm_nccl_options any_order = {.any_order = true};
    const phx_comm_nccl_options queue_only = {.queue_only = true};
    const phx_comm_nccl_options measure = {.measure = true};
    const phx_comm_shape wide = shape_of(4, 1, true), square = shape_of(2, 2, false);
    assert_true(phx_crew_run_nccl(PHX_CREW_NCCL_THREADS, &wide, &any_order, any_order_body, NULL));
    assert_true(phx_crew_run_nccl(PHX_CREW_NCCL_THREADS, &wide, &queue_only, queued_body, NULL));
    assert_true(phx_crew_run_nccl(PHX_CREW_NCCL, &square, &queue_only, queued_body, NULL));
    assert_true(phx_crew_run_nccl(PHX_CREW_NCCL, &wide, &measure, measured_body, NULL));
}

#ifdef PHX_TEST_MPI
static phx_code make_one(bool is_nccl, const phx_comm_shape *shape, phx_comm **ret_comm, void **ret_stream,
                         phx_error *err)
{
    const phx_comm_nccl_options options = {.measure = true};
    const phx_comm_shape under_shape = phx_comm_nccl_under_shape(shape);
    phx_comm *under = NULL;
    const phx_code rc = phx_comm_mpi_create(is_nccl ? &under_shape : shape, &under, err);
    *ret_comm = under;
    return rc == PHX_OK && is_nccl ? phx_crew_nccl_create(under, shape, &options, ret_comm, ret_stream, err)
                                   : rc;
}

static int run_mpi(bool is_nccl, uint32_t tp, uint32_t pp)
{
    uint32_t rank = 0;
    if (!phx_mpi_start(&rank))
        return 1;
    bool good = true;
    for (uint32_t large = 0; large < 2 && good; large++) {
        phx_comm_shape shape = shape_of(tp, pp, large == 1);
        shape.rank = rank;
        phx_comm *comm = NULL;
        void *stream = NULL;
        phx_error err = {0};
        char report[PHX_CREW_REPORT_BYTES] = "";
        good = make_one(is_nccl, &shape, &comm, &stream, &err) == PHX_OK && suite(comm, NULL, report);
        if (!good)
            (void)fprintf(stderr, "rank %" PRIu32 ": %s%s\n", rank, err.text, report);
        phx_comm_destroy(comm);
        phx_host_device.stream_destroy(NULL, stream);
    }
    if (!good)
        _exit(1); /* the others may wait for us: mpirun ends them */
    phx_mpi_end();
    return 0;
}
#endif

int main(int argc, char **argv)
{
#ifdef PHX_TEST_MPI
    uint64_t tp = 0, pp = 0;
    const bool is_mpi = argc == 4 && (strcmp(argv[1], "mpi") == 0 || strcmp(argv[1], "nccl") == 0);
    if (is_mpi && phx_str_to_u64(phx_str_of(argv[2]), 1, 8, &tp) &&
        phx_str_to_u64(phx_str_of(argv[3]), 1, 8, &pp))
        return run_mpi(strcmp(argv[1], "nccl") == 0, (uint32_t)tp, (uint32_t)pp);
#endif
    const bool is_nccl = argc == 2 && strcmp(argv[1], "nccl") == 0;
    const bool is_peers = argc == 2 && strcmp(argv[1], "peers") == 0;
    if (argc != 1 && !is_nccl && !is_peers) {
        (void)fprintf(stderr, "usage: %s [nccl | peers | mpi TP PP | nccl TP PP]\n", argv[0]);
        return 2;
    }
    const struct CMUnitTest nccl_tests[] = {
        cmocka_unit_test(nccl_threads_have_exact_results),
        cmocka_unit_test(nccl_has_exact_results),
        cmocka_unit_test(nccl_in_other_modes_has_exact_results),
        cmocka_unit_test(nccl_check_finds_a_fault),
    };
    const struct CMUnitTest peers_tests[] = {cmocka_unit_test(peers_have_exact_results)};
    if (is_peers && !phx_crew_has(PHX_CREW_PEERS)) {
        (void)printf("SKIP: the build has no emulator: no C++ compiler, or sanitizers\n");
        return 77;
    }
    if (is_peers)
        return cmocka_run_group_tests(peers_tests, NULL, NULL);
    if (is_nccl)
        return cmocka_run_group_tests(nccl_tests, NULL, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loop_has_exact_results),
        cmocka_unit_test(shm_has_exact_results),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
