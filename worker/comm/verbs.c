/* worker/comm/verbs.c - the last verbs of one rank. */
#include "worker/comm/verbs.h"

#include <assert.h>
#include <inttypes.h>

#include "base/clock.h"

static const char *const names[PHX_VERB_KIND_COUNT] = {
    [PHX_VERB_EXCHANGE] = "exchange", [PHX_VERB_GATHER] = "gather",       [PHX_VERB_SEND] = "send",
    [PHX_VERB_RECV] = "recv",         [PHX_VERB_NOTE_SEND] = "note send", [PHX_VERB_NOTE_RECV] = "note recv",
    [PHX_VERB_BARRIER] = "barrier",   [PHX_VERB_WAIT] = "wait",
};

static uint64_t get(const _Atomic uint64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

static void set(_Atomic uint64_t *value, uint64_t to)
{
    atomic_store_explicit(value, to, memory_order_relaxed);
}

static const phx_verb_record *last(const phx_verb_ring *ring)
{
    const uint64_t n = get(&ring->n_verbs);
    assert(n > 0);
    return &ring->records[(n - 1) % PHX_VERB_RING];
}

void phx_verb_begin(phx_verb_ring *ring, phx_verb_kind kind, uint64_t payload_bytes)
{
    const uint64_t n = get(&ring->n_verbs) + 1;
    phx_verb_record *record = &ring->records[(n - 1) % PHX_VERB_RING];
    set(&record->sequence, n);
    set(&record->kind, kind);
    set(&record->payload_bytes, payload_bytes);
    set(&record->end_us, 0);
    set(&record->start_us, phx_clock_us());
    set(&ring->n_verbs, n);
}

void phx_verb_end(phx_verb_ring *ring)
{
    const uint64_t n = get(&ring->n_verbs);
    assert(n > 0);
    set(&ring->records[(n - 1) % PHX_VERB_RING].end_us, phx_clock_us());
}

void phx_verb_reset(phx_verb_ring *ring)
{
    set(&ring->n_verbs, 0);
    for (uint32_t i = 0; i < PHX_VERB_RING; i++)
        set(&ring->records[i].sequence, 0);
}

const char *phx_verb_name(phx_verb_kind kind)
{
    return (unsigned)kind < PHX_VERB_KIND_COUNT ? names[kind] : "?";
}

phx_verb_kind phx_verb_last_kind(const phx_verb_ring *ring)
{
    return (phx_verb_kind)get(&last(ring)->kind);
}

uint64_t phx_verb_last_sequence(const phx_verb_ring *ring)
{
    return get(&ring->n_verbs);
}

phx_code phx_verb_print(const phx_verb_ring *ring, uint32_t rank, uint32_t n_last, phx_buf *buf)
{
    const uint64_t n = get(&ring->n_verbs);
    const uint64_t n_shown = n < PHX_VERB_RING ? n : PHX_VERB_RING;
    const uint64_t n_lines = n_shown < n_last ? n_shown : n_last;
    for (uint64_t sequence = n - n_lines + 1; sequence <= n; sequence++) {
        const phx_verb_record *record = &ring->records[(sequence - 1) % PHX_VERB_RING];
        if (get(&record->sequence) != sequence)
            continue;
        const uint64_t start_us = get(&record->start_us);
        const uint64_t end_us = get(&record->end_us);
        (void)phx_buf_printf(buf, "rank %" PRIu32 "  verb %" PRIu64 "  %s  %" PRIu64 " bytes  start %.6f s  ",
                             rank, sequence, phx_verb_name((phx_verb_kind)get(&record->kind)),
                             get(&record->payload_bytes), (double)start_us * 1e-6);
        if (end_us >= start_us)
            (void)phx_buf_printf(buf, "took %.6f s\n", (double)(end_us - start_us) * 1e-6);
        else
            (void)phx_buf_str(buf, "running\n");
    }
    return buf->code;
}
