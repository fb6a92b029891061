/* coordinator/text/bpe.c - merging with a linked list of symbols and a heap of candidate merges.
 * Owns: the pair table (open addressing) and the algorithm: always the lowest rank, leftmost first, as in
 * huggingface/tokenizers models/bpe/word.rs. A heap entry is not removed when its pair changes; it is
 * recognised as stale when popped. */
#include "coordinator/text/bpe.h"
#include "base/alloc.h"
#include "base/rng.h"

#include <assert.h>

#define NONE UINT32_MAX

typedef struct pair_slot {
    uint64_t key; /* left << 32 | right */
    uint32_t rank;
    uint32_t id; /* NONE: free */
} pair_slot;

struct phx_bpe {
    const phx_vocab *vocab;
    bool whole_first;
    bool by_rank; /* no merge list: two neighbours merge when their joined bytes are a token, ranked by its id
                   */
    uint32_t byte_ids[256];
    size_t slot_mask;
    size_t n_room;    /* merges that may still be added */
    size_t n_longest; /* bytes of the longest token that a merge makes */
    pair_slot *slots;
};

typedef struct phx_bpe_symbol {
    uint32_t id; /* NONE: merged into an earlier one */
    uint32_t prev;
    uint32_t next;
} phx_bpe_symbol;

typedef struct phx_bpe_entry {
    uint32_t rank;
    uint32_t at; /* symbol of the pair's left half */
} phx_bpe_entry;

phx_code phx_bpe_create(const phx_vocab *vocab, size_t n_merges, bool whole_first, phx_bpe **ret_bpe,
                        phx_error *err)
{
    phx_code rc = PHX_OK;
    size_t n_slots = 2;
    while (n_slots < n_merges * 2)
        n_slots *= 2;
    phx_bpe *b = phx_alloc(1, sizeof(*b));
    if (!b) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "merge table");
        goto out;
    }
    b->vocab = vocab;
    b->whole_first = whole_first;
    b->slot_mask = n_slots - 1;
    b->n_room = n_merges;
    b->n_longest = 1;
    b->slots = phx_alloc(n_slots, sizeof(*b->slots));
    if (!b->slots) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "table of %zu merges", n_merges);
        goto out;
    }
    for (size_t i = 0; i < n_slots; i++)
        b->slots[i].id = NONE;
    for (unsigned byte = 0; byte < 256; byte++) {
        const char c = (char)byte;
        if (!phx_vocab_find(vocab, (phx_str){&c, 1}, &b->byte_ids[byte])) {
            rc = PHX_FAIL(err, PHX_ERR_CORRUPT, "the vocabulary has no token for byte 0x%02x", byte);
            goto out;
        }
    }
    *ret_bpe = b;
    b = NULL;
out:
    phx_bpe_destroy(b);
    return rc;
}

phx_code phx_bpe_create_ranks(const phx_vocab *vocab, size_t n_longest, phx_bpe **ret_bpe, phx_error *err)
{
    const phx_code rc = phx_bpe_create(vocab, 0, true, ret_bpe, err);
    if (rc == PHX_OK) {
        (*ret_bpe)->by_rank = true;
        (*ret_bpe)->n_longest = n_longest;
    }
    return rc;
}

void phx_bpe_destroy(phx_bpe *bpe)
{
    if (!bpe)
        return;
    phx_free(bpe->slots);
    phx_free(bpe);
}

static pair_slot *slot_of(const phx_bpe *bpe, uint32_t left, uint32_t right)
{
    const uint64_t key = (uint64_t)left << 32 | right;
    size_t slot = (size_t)phx_rng_mix(key) & bpe->slot_mask;
    while (bpe->slots[slot].id != NONE && bpe->slots[slot].key != key)
        slot = (slot + 1) & bpe->slot_mask;
    return &bpe->slots[slot];
}

void phx_bpe_add_merge(phx_bpe *bpe, phx_bpe_merge merge)
{
    assert(merge.id != NONE);
    assert(bpe->n_room > 0);
    bpe->n_room--;
    const size_t n_bytes = phx_vocab_piece(bpe->vocab, merge.id).n;
    if (n_bytes > bpe->n_longest)
        bpe->n_longest = n_bytes;
    *slot_of(bpe, merge.left, merge.right) =
        (pair_slot){(uint64_t)merge.left << 32 | merge.right, merge.rank, merge.id};
}

static phx_code id_list_full(const phx_id_list *list, phx_error *err)
{
    return PHX_FAIL(err, PHX_ERR_TOO_LONG, "the text has more than %zu tokens", list->n_max);
}

phx_code phx_id_list_add(phx_id_list *list, uint32_t id, phx_error *err)
{
    if (list->n == list->n_max)
        return id_list_full(list, err);
    list->ids[list->n++] = id;
    return PHX_OK;
}

static phx_code work_reserve(phx_bpe_work *work, size_t n_bytes, phx_error *err)
{
    if (n_bytes <= work->cap)
        return PHX_OK;
    size_t cap = work->cap ? work->cap : 256;
    while (cap < n_bytes)
        cap *= 2;
    phx_bpe_work_done(work);
    work->symbols = phx_alloc(cap, sizeof(*work->symbols));
    work->heap = phx_alloc(cap, 2 * sizeof(*work->heap));
    if (!work->symbols || !work->heap)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "merging a word of %zu bytes", n_bytes);
    work->cap = cap;
    return PHX_OK;
}

void phx_bpe_work_done(phx_bpe_work *work)
{
    phx_free(work->symbols);
    phx_free(work->heap);
    work->symbols = NULL;
    work->heap = NULL;
    work->cap = 0;
}

static bool before(phx_bpe_entry a, phx_bpe_entry b)
{
    return a.rank != b.rank ? a.rank < b.rank : a.at < b.at;
}

static void heap_push(phx_bpe_work *work, phx_bpe_entry entry)
{
    size_t at = work->n_heap++;
    assert(work->n_heap <= 2 * work->cap);
    while (at > 0 && before(entry, work->heap[(at - 1) / 2])) {
        work->heap[at] = work->heap[(at - 1) / 2];
        at = (at - 1) / 2;
        work->n_ops++;
    }
    work->heap[at] = entry;
}

static phx_bpe_entry heap_pop(phx_bpe_work *work)
{
    const phx_bpe_entry top = work->heap[0];
    const phx_bpe_entry last = work->heap[--work->n_heap];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= work->n_heap)
            break;
        if (child + 1 < work->n_heap && before(work->heap[child + 1], work->heap[child]))
            child++;
        if (!before(work->heap[child], last))
            break;
        work->heap[at] = work->heap[child];
        at = child;
        work->n_ops++;
    }
    work->heap[at] = last;
    return top;
}

/* The merge of the symbol at `at` with its successor; false: there is none. Symbols lie in `symbols` at their
 * first byte in the piece. */
static bool pair_at(const phx_bpe *bpe, phx_str piece, phx_bpe_work *work, uint32_t at, pair_slot *ret_pair)
{
    const phx_bpe_symbol *left = &work->symbols[at];
    if (left->id == NONE || left->next == NONE)
        return false;
    const phx_bpe_symbol *right = &work->symbols[left->next];
    work->n_ops++;
    if (!bpe->by_rank) {
        *ret_pair = *slot_of(bpe, left->id, right->id);
        return ret_pair->id != NONE;
    }
    const size_t end = right->next == NONE ? piece.n : right->next;
    uint32_t id = 0;
    if (end - at > bpe->n_longest || !phx_vocab_find(bpe->vocab, (phx_str){piece.ptr + at, end - at}, &id))
        return false;
    *ret_pair = (pair_slot){.rank = id, .id = id};
    return true;
}

static void push_pair(const phx_bpe *bpe, phx_str piece, phx_bpe_work *work, uint32_t at)
{
    pair_slot pair;
    if (pair_at(bpe, piece, work, at, &pair))
        heap_push(work, (phx_bpe_entry){pair.rank, at});
}

static void merge_all(const phx_bpe *bpe, phx_str piece, phx_bpe_work *work)
{
    phx_bpe_symbol *symbols = work->symbols;
    while (work->n_heap > 0) {
        const phx_bpe_entry top = heap_pop(work);
        pair_slot pair;
        if (!pair_at(bpe, piece, work, top.at, &pair) || pair.rank != top.rank)
            continue; /* stale */
        phx_bpe_symbol *left = &symbols[top.at];
        phx_bpe_symbol *right = &symbols[left->next];
        left->id = pair.id;
        left->next = right->next;
        right->id = NONE;
        if (left->next != NONE)
            symbols[left->next].prev = top.at;
        if (left->prev != NONE)
            push_pair(bpe, piece, work, left->prev);
        push_pair(bpe, piece, work, top.at);
    }
}

phx_code phx_bpe_encode(const phx_bpe *bpe, phx_str piece, phx_bpe_work *work, phx_id_list *list,
                        phx_error *err)
{
    uint32_t id = 0;
    if (piece.n == 0)
        return PHX_OK;
    if (piece.n == 1)
        return phx_id_list_add(list, bpe->byte_ids[(uint8_t)piece.ptr[0]], err);
    if (bpe->whole_first && phx_vocab_find(bpe->vocab, piece, &id))
        return phx_id_list_add(list, id, err);
    assert(piece.n < NONE / 2);
    /* Merging megabytes only to find no room for the ids would be a gift to whoever sends them. */
    if (piece.n / bpe->n_longest > list->n_max - list->n)
        return id_list_full(list, err);
    phx_code rc = work_reserve(work, piece.n, err);
    if (rc != PHX_OK)
        return rc;
    const uint32_t n = (uint32_t)piece.n;
    for (uint32_t i = 0; i < n; i++) {
        work->symbols[i] = (phx_bpe_symbol){bpe->byte_ids[(uint8_t)piece.ptr[i]], i ? i - 1 : NONE,
                                            i + 1 < n ? i + 1 : NONE};
    }
    work->n_heap = 0;
    for (uint32_t i = 0; i + 1 < n; i++)
        push_pair(bpe, piece, work, i);
    merge_all(bpe, piece, work);
    for (uint32_t i = 0; i != NONE && rc == PHX_OK; i = work->symbols[i].next)
        rc = phx_id_list_add(list, work->symbols[i].id, err);
    return rc;
}
