/* client/capture.c - tensors put together from their parts.
 * A part holds whole rows of one slice of the columns: every rank of the last stage sends its own slice of
 * the logits, all else comes in one slice. Index scores are ragged: row t has t + 1 columns. */
#include "client/capture.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "proto/limits.h"

#define SLICES_MAX 64u
#define COLS_MAX   (1u << 21)

typedef struct slice {
    uint32_t col_first;
    uint32_t n_cols;
    uint32_t *values; /* [n_rows][n_cols], bits of f32 or i32 */
    uint32_t *n_seen; /* [n_rows]: columns that arrived */
} slice;

typedef struct tensor {
    phx_captured done;
    bool ragged;
    uint32_t n_slices;
    slice slices[SLICES_MAX];
} tensor;

struct phx_capture {
    uint32_t n_tokens;
    uint64_t n_bytes;
    size_t n_tensors;
    size_t cap;
    tensor **tensors;
};

phx_code phx_capture_create(uint32_t n_tokens, phx_capture **ret_capture, phx_error *err)
{
    phx_capture *capture = phx_alloc(1, sizeof(*capture));
    if (!capture)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "capture");
    capture->n_tokens = n_tokens;
    *ret_capture = capture;
    return PHX_OK;
}

static void free_slice(slice *s)
{
    phx_free(s->values);
    phx_free(s->n_seen);
    *s = (slice){0};
}

void phx_capture_destroy(phx_capture *capture)
{
    if (!capture)
        return;
    for (size_t i = 0; i < capture->n_tensors; i++) {
        for (uint32_t s = 0; s < capture->tensors[i]->n_slices; s++)
            free_slice(&capture->tensors[i]->slices[s]);
        phx_free(capture->tensors[i]->done.values);
        phx_free(capture->tensors[i]);
    }
    phx_free(capture->tensors);
    phx_free(capture);
}

static phx_code take_bytes(phx_capture *capture, uint64_t n_bytes, phx_error *err)
{
    if (n_bytes > PHX_CAPTURE_BYTES_MAX - capture->n_bytes)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "a capture may hold %llu GB: fewer tokens, or fewer tensors",
                        PHX_CAPTURE_BYTES_MAX >> 30);
    capture->n_bytes += n_bytes;
    return PHX_OK;
}

static phx_code find_tensor(phx_capture *capture, const Phalanx__CapturePart *part, tensor **ret_tensor,
                            phx_error *err)
{
    const bool f32 = strcmp(part->dtype, "F32") == 0;
    for (size_t i = 0; i < capture->n_tensors; i++) {
        if (strcmp(capture->tensors[i]->done.name, part->name) == 0) {
            *ret_tensor = capture->tensors[i];
            return (*ret_tensor)->done.dtype == (f32 ? PHX_F32 : PHX_I32)
                       ? PHX_OK
                       : PHX_FAIL(err, PHX_ERR_CORRUPT, "captured '%.60s' changed its dtype", part->name);
        }
    }
    if (capture->n_tensors == PHX_CAPTURE_TENSORS_MAX)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "more than %u captured tensors", PHX_CAPTURE_TENSORS_MAX);
    if (capture->n_tensors == capture->cap) {
        const size_t cap = capture->cap ? capture->cap * 2 : 64;
        tensor **grown = phx_realloc(capture->tensors, cap, sizeof(*grown));
        if (!grown)
            return PHX_FAIL(err, PHX_ERR_NOMEM, "captured tensors");
        capture->tensors = grown;
        capture->cap = cap;
    }
    tensor *added = phx_alloc(1, sizeof(*added));
    if (!added)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "captured tensor");
    if (!f32 && strcmp(part->dtype, "I32") != 0) {
        phx_free(added);
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "captured '%.60s' has dtype '%.20s'", part->name, part->dtype);
    }
    if (!phx_str_copy(added->done.name, sizeof(added->done.name), phx_str_of(part->name))) {
        phx_free(added);
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "captured name '%.60s...' is too long", part->name);
    }
    added->done.dtype = f32 ? PHX_F32 : PHX_I32;
    /* The draft layer has an entry for each token but the first. */
    added->done.n_rows = capture->n_tokens - (strncmp(part->name, "mtp.", 4) == 0);
    added->ragged = strncmp(part->name, "index_scores.", 13) == 0;
    capture->tensors[capture->n_tensors++] = added;
    *ret_tensor = added;
    return PHX_OK;
}

static phx_code find_slice(phx_capture *capture, tensor *t, const Phalanx__CapturePart *part,
                           slice **ret_slice, phx_error *err)
{
    const uint32_t n_cols = t->ragged ? capture->n_tokens : part->n_cols;
    for (uint32_t i = 0; i < t->n_slices; i++) {
        if (t->slices[i].col_first == part->col_first && t->slices[i].n_cols == n_cols) {
            *ret_slice = &t->slices[i];
            return PHX_OK;
        }
    }
    if (t->n_slices == SLICES_MAX || n_cols > COLS_MAX || part->col_first > COLS_MAX - n_cols)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "captured '%s': slice of %u columns at %u", t->done.name,
                        n_cols, part->col_first);
    const phx_code rc = take_bytes(capture, (uint64_t)capture->n_tokens * n_cols * 4, err);
    if (rc != PHX_OK)
        return rc;
    slice *s = &t->slices[t->n_slices];
    *s = (slice){.col_first = part->col_first, .n_cols = n_cols};
    s->values = phx_alloc((size_t)capture->n_tokens * n_cols, sizeof(*s->values));
    s->n_seen = phx_alloc(capture->n_tokens, sizeof(*s->n_seen));
    if (!s->values || !s->n_seen) {
        free_slice(s);
        return PHX_FAIL(err, PHX_ERR_NOMEM, "captured '%s'", t->done.name);
    }
    t->n_slices++;
    *ret_slice = s;
    return PHX_OK;
}

phx_code phx_capture_add(phx_capture *capture, const Phalanx__CapturePart *part, phx_error *err)
{
    tensor *t = NULL;
    slice *s = NULL;
    if (part->n_rows == 0 || part->n_cols == 0 || part->row_first >= capture->n_tokens ||
        part->n_rows > capture->n_tokens - part->row_first ||
        part->data.len != (uint64_t)part->n_rows * part->n_cols * 4)
        return PHX_FAIL(err, PHX_ERR_CORRUPT,
                        "captured '%.60s': %u rows at %u, %u columns, %zu bytes of %u tokens", part->name,
                        part->n_rows, part->row_first, part->n_cols, part->data.len, capture->n_tokens);
    phx_code rc = find_tensor(capture, part, &t, err);
    if (rc == PHX_OK)
        rc = find_slice(capture, t, part, &s, err);
    if (rc != PHX_OK)
        return rc;
    if (part->n_cols > s->n_cols || part->row_first + part->n_rows > t->done.n_rows)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "captured '%s': %u columns at rows %u to %u of %u",
                        t->done.name, part->n_cols, part->row_first, part->row_first + part->n_rows,
                        t->done.n_rows);
    for (uint32_t r = 0; r < part->n_rows; r++) {
        const size_t row = part->row_first + r;
        if (s->n_seen[row])
            return PHX_FAIL(err, PHX_ERR_CORRUPT, "captured '%s': row %zu arrived twice", t->done.name, row);
        s->n_seen[row] = part->n_cols;
        memcpy(s->values + row * s->n_cols, part->data.data + (size_t)r * part->n_cols * 4,
               (size_t)part->n_cols * 4);
    }
    return PHX_OK;
}

/* Every row from the first that came is there in every slice, in full. */
static phx_code check_rows(tensor *t, uint32_t n_warm_max, phx_error *err)
{
    uint32_t first = 0;
    while (first < t->done.n_rows && t->slices[0].n_seen[first] == 0)
        first++;
    t->done.row_first = first;
    if (first > n_warm_max)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "captured '%s': rows up to %u are missing", t->done.name,
                        first);
    for (uint32_t i = 0; i < t->n_slices; i++) {
        const slice *s = &t->slices[i];
        for (uint32_t r = 0; r < t->done.n_rows; r++) {
            const uint32_t expected = r < first ? 0 : t->ragged ? r + 1 : s->n_cols;
            if (s->n_seen[r] != expected)
                return PHX_FAIL(err, PHX_ERR_CORRUPT,
                                "captured '%s': row %u has %u of %u columns at column %u", t->done.name, r,
                                s->n_seen[r], expected, s->col_first);
        }
    }
    return PHX_OK;
}

/* Slices lie side by side without gap or overlap; sorted by their first column on the way. */
static phx_code join_slices(phx_capture *capture, tensor *t, phx_error *err)
{
    uint32_t n_cols = 0;
    for (uint32_t i = 0; i < t->n_slices; i++) {
        uint32_t next = i;
        for (uint32_t j = i + 1; j < t->n_slices; j++)
            next = t->slices[j].col_first < t->slices[next].col_first ? j : next;
        const slice moved = t->slices[next];
        t->slices[next] = t->slices[i];
        t->slices[i] = moved;
        if (moved.col_first != n_cols)
            return PHX_FAIL(err, PHX_ERR_CORRUPT, "captured '%s': a slice starts at column %u, expected %u",
                            t->done.name, moved.col_first, n_cols);
        n_cols += moved.n_cols;
    }
    t->done.n_cols = n_cols;
    if (t->n_slices == 1) {
        t->done.values = t->slices[0].values;
        t->slices[0].values = NULL;
        return PHX_OK;
    }
    const phx_code rc = take_bytes(capture, (uint64_t)t->done.n_rows * n_cols * 4, err);
    if (rc != PHX_OK)
        return rc;
    uint32_t *joined = phx_alloc((size_t)t->done.n_rows * n_cols, sizeof(*joined));
    if (!joined)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "captured '%s'", t->done.name);
    for (uint32_t i = 0; i < t->n_slices; i++) {
        const slice *s = &t->slices[i];
        for (size_t r = 0; r < t->done.n_rows; r++)
            memcpy(joined + r * n_cols + s->col_first, s->values + r * s->n_cols, (size_t)s->n_cols * 4);
    }
    t->done.values = joined;
    return PHX_OK;
}

phx_code phx_capture_finish(phx_capture *capture, uint32_t n_warm_max, phx_error *err)
{
    for (size_t i = 0; i < capture->n_tensors; i++) {
        tensor *t = capture->tensors[i];
        phx_code rc = check_rows(t, n_warm_max, err);
        if (rc == PHX_OK)
            rc = join_slices(capture, t, err);
        if (rc != PHX_OK)
            return rc;
        for (uint32_t s = 0; s < t->n_slices; s++)
            free_slice(&t->slices[s]);
        t->n_slices = 0;
    }
    return PHX_OK;
}

const phx_captured *phx_capture_find(const phx_capture *capture, const char *name)
{
    for (size_t i = 0; i < capture->n_tensors; i++) {
        if (strcmp(capture->tensors[i]->done.name, name) == 0)
            return &capture->tensors[i]->done;
    }
    return NULL;
}

size_t phx_capture_count(const phx_capture *capture)
{
    return capture->n_tensors;
}

const phx_captured *phx_capture_at(const phx_capture *capture, size_t idx)
{
    return &capture->tensors[idx]->done;
}

phx_code phx_capture_run(phx_client *client, phx_interrupt *interrupt, const phx_capture_request *request,
                         phx_capture **ret_capture, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_capture *capture = NULL;
    uint64_t call_id = 0;
    const Phalanx__GenerateEvent *event = NULL;
    Phalanx__GenerateRequest message = PHALANX__GENERATE_REQUEST__INIT;
    Phalanx__TokenIds ids = PHALANX__TOKEN_IDS__INIT;
    ids.ids = (uint32_t *)(uintptr_t)request->ids; /* only read */
    ids.n_ids = request->n_ids;
    message.prompt_case = PHALANX__GENERATE_REQUEST__PROMPT_TOKEN_IDS;
    message.token_ids = &ids;
    message.capture = request->mask;
    message.chunk = request->chunk;
    message.warm = request->warm;
    rc = phx_capture_create(request->n_ids, &capture, err);
    if (rc == PHX_OK)
        rc = phx_client_generate(client, &message, 0, &call_id, err);
    while (rc == PHX_OK) {
        rc = phx_client_next(client, call_id, phx_interrupt_keep_waiting, interrupt, &event, err);
        if (rc != PHX_OK || !event)
            break;
        if (event->capture)
            rc = phx_capture_add(capture, event->capture, err);
        if (rc != PHX_OK)
            (void)phx_client_cancel(client, call_id, NULL);
    }
    if (rc == PHX_OK)
        rc = phx_capture_finish(capture, request->warm, err);
    if (rc == PHX_OK && phx_capture_count(capture) == 0)
        rc = PHX_FAIL(err, PHX_ERR_CORRUPT, "the server sent no tensor");
    if (rc != PHX_OK)
        goto out;
    *ret_capture = capture;
    capture = NULL;
out:
    phx_capture_destroy(capture);
    return rc;
}
