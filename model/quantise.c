/* model/quantise.c - shard by shard: what becomes of each tensor, and the note that a shard is done. */
#include "model/quantise.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/file.h"
#include "model/checkpoint.h"
#include "model/pack.h"
#include "model/quantise_files.h"

#define PATH_BYTES      4096
#define CHUNK_BYTES     ((size_t)4 << 20) /* of bytes that are only copied */
#define VALUES_BYTES    ((size_t)8 << 20) /* of rows as f32, unless 128 rows take more */
#define COLS_MAX        (1 << 18)
#define FP8_BLOCK       128
#define NAMES_BYTES_MAX ((size_t)512 << 20)
#define INDEX_BYTES_MAX ((size_t)64 << 20)
#define NOTE_BYTES_MAX  ((size_t)256 << 20)
#define NOTE            ".quantised"
#define NOTE_HEAD       "phalanx quantize 1"
#define INDEX_FILE      "model.safetensors.index.json"

typedef enum action { ACTION_COPY, ACTION_DROP, ACTION_INT4, ACTION_FP8, ACTION_WIDEN } action;

typedef struct piece { /* what becomes of one stored tensor */
    action action;
    const phx_ck_tensor *matrix; /* unless copied or dropped */
} piece;

typedef struct run {
    const phx_quantise_request *request;
    phx_checkpoint *ck;
    size_t n_files;
    piece **pieces; /* [n_files][tensors of the file] */
    uint64_t total_bytes;
    uint64_t done_bytes;
    char identity[160]; /* of source and format */
    uint8_t *chunk;     /* [CHUNK_BYTES] */
    phx_buf note;       /* of the shard in work */
} run;

typedef struct matrix_work { /* one matrix in work */
    run *run;
    const phx_ck_tensor *t;
    phx_st_writer *writer;
    int64_t n_rows_max; /* of a chunk */
    uint8_t *raw;       /* [n_rows_max][n_cols] as stored */
    float *values;      /* [n_rows_max][n_cols] */
    uint8_t *packed;    /* [n_rows_max][n_cols] as written */
    float *scales_in;   /* fp8: of the whole matrix */
    uint8_t *scales;    /* of the whole matrix, as written */
    phx_pack_error error;
} matrix_work;

static phx_code plan_pieces(run *r, phx_error *err);
static phx_code make_shard(run *r, size_t f, phx_error *err);
static phx_code read_note(run *r, size_t f, bool *ret_done, phx_error *err);
static phx_code write_index(const run *r, phx_error *err);

static const char *base_name(const phx_st_file *file)
{
    const char *slash = strrchr(phx_st_path(file), '/');
    return slash ? slash + 1 : phx_st_path(file);
}

static phx_code out_path(const run *r, const char *name, const char *ending, char *ret_path, phx_error *err)
{
    if ((size_t)snprintf(ret_path, PATH_BYTES, "%s/%s%s", r->request->out_dir, name, ending) >=
        PATH_BYTES - 64)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "the folder's path is longer than %d bytes", PATH_BYTES);
    return PHX_OK;
}

static phx_code go_on(run *r, uint64_t n_bytes, phx_error *err)
{
    const phx_quantise_request *request = r->request;
    r->done_bytes += n_bytes;
    if (request->progress)
        request->progress(request->user, r->done_bytes, r->total_bytes);
    if (request->keep_going && !request->keep_going(request->user))
        return PHX_FAIL(err, PHX_ERR_CANCELLED, "interrupted: the same command goes on from here");
    return PHX_OK;
}

static phx_code make_folder(const run *r, phx_error *err)
{
    char path[PATH_BYTES];
    if (mkdir(r->request->out_dir, 0755) != 0 && errno != EEXIST)
        return PHX_FAIL(err, PHX_ERR_IO, "cannot make folder '%s': %s", r->request->out_dir, strerror(errno));
    const phx_code rc = out_path(r, "config.json", "", path, err);
    if (rc == PHX_OK && phx_file_exists(path))
        return PHX_FAIL(err, PHX_ERR_IO, "'%s' exists: the folder holds a complete model", path);
    return rc == PHX_OK ? phx_quantise_remove(r->request->out_dir, ".tmp", err) : rc;
}

/* Index, side files and, as the last word, config.json. */
static phx_code finish_folder(const run *r, phx_error *err)
{
    const phx_quantise_request *request = r->request;
    phx_code rc = write_index(r, err);
    if (rc == PHX_OK)
        rc = phx_quantise_side_files(request->model_dir, request->out_dir, err);
    if (rc == PHX_OK)
        rc = phx_quantise_config(request->model_dir, request->out_dir, request->to, err);
    return rc == PHX_OK ? phx_quantise_remove(request->out_dir, NOTE, err) : rc;
}

phx_code phx_quantise(const phx_quantise_request *request, phx_error *err)
{
    char hash[65];
    run r = {.request = request};
    phx_buf_init(&r.note, NOTE_BYTES_MAX);
    phx_code rc = phx_checkpoint_open(request->model_dir, &r.ck, err);
    if (rc != PHX_OK)
        goto out;
    const phx_hash source = phx_checkpoint_hash(r.ck);
    phx_hash_hex(&source, 64, hash);
    (void)snprintf(r.identity, sizeof(r.identity), NOTE_HEAD " %s %s", hash, phx_format_name(request->to));
    r.chunk = phx_alloc(CHUNK_BYTES, 1);
    if (!r.chunk) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "buffer of copies");
        goto out;
    }
    rc = plan_pieces(&r, err);
    if (rc == PHX_OK)
        rc = make_folder(&r, err);
    for (size_t f = 0; rc == PHX_OK && f < r.n_files; f++) {
        bool done = false;
        rc = read_note(&r, f, &done, err);
        if (rc == PHX_OK && !done)
            rc = make_shard(&r, f, err);
    }
    if (rc == PHX_OK)
        rc = finish_folder(&r, err);
out:
    for (size_t f = 0; r.pieces && f < r.n_files; f++)
        phx_free(r.pieces[f]);
    phx_free(r.pieces);
    phx_free(r.chunk);
    phx_buf_done(&r.note);
    phx_checkpoint_close(r.ck);
    return rc;
}

/* ---- what becomes of each tensor ---- */

static bool takes_format(const phx_tensor_rule *rule, phx_format to)
{
    return to == PHX_FORMAT_INT4_G32 ? rule->where == PHX_WHERE_EXPERT : rule->quantised;
}

static phx_code check_matrix(const phx_ck_tensor *t, phx_format to, phx_error *err)
{
    if (t->format == to || t->format == PHX_FORMAT_INT4_G32)
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "'%.*s' is stored as %s: nothing finer to begin with",
                        PHX_STR_ARG(t->data->name), phx_format_name(t->format));
    if (to == PHX_FORMAT_INT4_G32 && t->n_cols % PHX_INT4_GROUP != 0)
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "'%.*s' has %lld columns: int4 needs a multiple of %d",
                        PHX_STR_ARG(t->data->name), (long long)t->n_cols, PHX_INT4_GROUP);
    if (t->n_cols > COLS_MAX)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "'%.*s' has %lld columns, the limit is %d",
                        PHX_STR_ARG(t->data->name), (long long)t->n_cols, COLS_MAX);
    return PHX_OK;
}

static piece *piece_of(const run *r, const phx_st_file *file, const phx_st_tensor *tensor)
{
    size_t f = 0;
    while (phx_checkpoint_file(r->ck, f) != file)
        f++;
    return &r->pieces[f][tensor - phx_st_at(file, 0)];
}

/* int4: other matrices in fp8 become bf16, because quantization_config can name one method alone. */
static phx_code plan_matrix(run *r, const phx_ck_tensor *t, size_t *n_packed, phx_error *err)
{
    const phx_format to = r->request->to;
    const bool packs = takes_format(t->id.rule, to);
    if (!packs && t->format != PHX_FORMAT_FP8_BLOCK)
        return PHX_OK;
    const phx_code rc = check_matrix(t, to, err);
    if (rc != PHX_OK)
        return rc;
    const action how = !packs ? ACTION_WIDEN : to == PHX_FORMAT_INT4_G32 ? ACTION_INT4 : ACTION_FP8;
    *piece_of(r, t->file, t->data) = (piece){how, t};
    if (t->scales)
        *piece_of(r, t->scale_file, t->scales) = (piece){ACTION_DROP, NULL};
    *n_packed += packs;
    return PHX_OK;
}

static phx_code plan_pieces(run *r, phx_error *err)
{
    const phx_format to = r->request->to;
    size_t n_packed = 0;
    if (to != PHX_FORMAT_INT4_G32 && to != PHX_FORMAT_FP8_BLOCK)
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "cannot quantise to %s: int4-g32 or fp8",
                        phx_format_name(to));
    const size_t n_files = phx_checkpoint_n_files(r->ck);
    r->pieces = phx_alloc(n_files, sizeof(*r->pieces));
    if (!r->pieces)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "list of %zu shards", n_files);
    r->n_files = n_files;
    for (size_t f = 0; f < n_files; f++) {
        const phx_st_file *file = phx_checkpoint_file(r->ck, f);
        r->total_bytes += phx_st_file_bytes(file);
        r->pieces[f] = phx_alloc(phx_st_count(file), sizeof(**r->pieces));
        if (!r->pieces[f])
            return PHX_FAIL(err, PHX_ERR_NOMEM, "list of %zu tensors", phx_st_count(file));
    }
    for (size_t i = 0; i < phx_checkpoint_count(r->ck); i++) {
        const phx_ck_tensor *t = phx_checkpoint_at(r->ck, i);
        const phx_code rc = t->data ? plan_matrix(r, t, &n_packed, err) : PHX_OK;
        if (rc != PHX_OK)
            return rc;
    }
    if (n_packed == 0)
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "'%s' has no matrix that %s is meant for",
                        r->request->model_dir, phx_format_name(to));
    return PHX_OK;
}

/* ---- notes ---- */

static void report(const run *r, const phx_quantise_row *row)
{
    if (r->request->row)
        r->request->row(r->request->user, row);
}

/* The note of a whole shard: identity, hash of the header, size; then a line per matrix. */
static phx_code write_note(run *r, const char *name, const phx_st_file *made, phx_error *err)
{
    char path[PATH_BYTES];
    char head[PATH_BYTES];
    char hash[65];
    const phx_hash head_hash = phx_st_head_hash(made);
    phx_hash_hex(&head_hash, 64, hash);
    const int n = snprintf(head, sizeof(head), "%s %s %llu\n", r->identity, hash,
                           (unsigned long long)phx_st_file_bytes(made));
    if (r->note.code != PHX_OK)
        return PHX_FAIL(err, r->note.code, "note of '%s'", name);
    const phx_code rc = out_path(r, name, NOTE, path, err);
    const phx_bytes parts[] = {{(const uint8_t *)head, (size_t)n},
                               {(const uint8_t *)phx_buf_view(&r->note).ptr, r->note.n}};
    return rc == PHX_OK ? phx_file_write_parts(path, parts, 2, 0644, err) : rc;
}

static void report_lines(const run *r, const char *text)
{
    for (const char *line = strchr(text, '\n'); line && line[1]; line = strchr(line + 1, '\n')) {
        char name[PHX_TENSOR_NAME_MAX + 1];
        long long n_rows = 0;
        long long n_cols = 0;
        phx_quantise_row row = {.name = name};
        static_assert(PHX_TENSOR_NAME_MAX == 512, "the width below");
        if (sscanf(line + 1, "%lf %lf %lld %lld %512s", &row.relative_rms, &row.max_error, &n_rows, &n_cols,
                   name) != 5)
            continue;
        row.n_rows = n_rows;
        row.n_cols = n_cols;
        report(r, &row);
    }
}

/* A shard is done when its note speaks of this very run and of the file that is there. */
static phx_code read_note(run *r, size_t f, bool *ret_done, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_buf text;
    phx_st_file *made = NULL;
    phx_error ignored = {0};
    char path[PATH_BYTES];
    char head[PATH_BYTES];
    char hash[65];
    const char *name = base_name(phx_checkpoint_file(r->ck, f));
    phx_buf_init(&text, NOTE_BYTES_MAX);
    *ret_done = false;
    rc = out_path(r, name, NOTE, path, err);
    if (rc != PHX_OK || !phx_file_exists(path))
        goto out;
    rc = phx_file_read(path, &text, err);
    if (rc != PHX_OK)
        goto out;
    if (!phx_str_starts(phx_buf_view(&text), phx_str_of(r->identity))) {
        rc =
            PHX_FAIL(err, PHX_ERR_IO, "'%s' speaks of another source or format: choose another folder", path);
        goto out;
    }
    rc = out_path(r, name, "", path, err);
    if (rc != PHX_OK || phx_st_open(path, &made, &ignored) != PHX_OK)
        goto out; /* gone or damaged since: made again */
    const phx_hash head_hash = phx_st_head_hash(made);
    phx_hash_hex(&head_hash, 64, hash);
    (void)snprintf(head, sizeof(head), "%s %s %llu\n", r->identity, hash,
                   (unsigned long long)phx_st_file_bytes(made));
    *ret_done = phx_str_starts(phx_buf_view(&text), phx_str_of(head));
    if (*ret_done) {
        report_lines(r, text.ptr);
        rc = go_on(r, phx_st_file_bytes(phx_checkpoint_file(r->ck, f)), err);
    }
out:
    phx_st_close(made);
    phx_buf_done(&text);
    return rc;
}

/* ---- one matrix ---- */

static phx_code read_scales(matrix_work *w, phx_error *err)
{
    const phx_ck_tensor *t = w->t;
    if (!t->scales)
        return PHX_OK;
    const size_t n_bytes = (size_t)t->scales->n_bytes;
    const size_t n = n_bytes / phx_dtype_bytes(t->scales->dtype);
    w->scales_in = phx_alloc(n, sizeof(float));
    if (!w->scales_in)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "%zu scales", n);
    uint8_t *raw = (uint8_t *)w->scales_in + (n * sizeof(float) - n_bytes);
    const phx_code rc = phx_st_read(t->scale_file, t->scales, 0, raw, n_bytes, err);
    for (size_t i = 0; rc == PHX_OK && i < n && t->scales->dtype == PHX_F8_E8M0; i++)
        w->scales_in[i] = phx_e8m0_to_f32(raw[i]);
    return rc;
}

/* Rows [first, first + n) into w->values, exactly. */
static phx_code read_rows(matrix_work *w, int64_t first, int64_t n, phx_error *err)
{
    const phx_ck_tensor *t = w->t;
    const size_t row_bytes = phx_format_row_bytes(t->format, t->n_cols);
    const int64_t n_scales = (t->n_cols + FP8_BLOCK - 1) / FP8_BLOCK;
    phx_code rc =
        phx_st_read(t->file, t->data, (uint64_t)first * row_bytes, w->raw, (size_t)n * row_bytes, err);
    for (int64_t r = 0; rc == PHX_OK && r < n; r++) {
        const phx_matrix row = {.data = w->raw + (size_t)r * row_bytes,
                                .scales =
                                    t->scales ? w->scales_in + (first + r) / FP8_BLOCK * n_scales : NULL,
                                .n_rows = 1,
                                .n_cols = t->n_cols,
                                .scale_stride = n_scales,
                                .format = t->format};
        for (int64_t c = 0; c < t->n_cols; c++) {
            const float value = phx_matrix_at(&row, 0, c);
            w->values[r * t->n_cols + c] = value;
            if (!isfinite(value))
                rc = PHX_FAIL(err, PHX_ERR_CORRUPT, "'%.*s' in '%s' holds a number that is not finite",
                              PHX_STR_ARG(t->data->name), phx_st_path(t->file));
        }
    }
    return rc == PHX_OK ? go_on(w->run, (uint64_t)n * row_bytes, err) : rc;
}

/* The rows in w->values as they are written, into w->packed; scales to their place. */
static size_t pack_rows(matrix_work *w, action how, int64_t first, int64_t n)
{
    const int64_t n_cols = w->t->n_cols;
    if (how == ACTION_WIDEN) {
        for (int64_t i = 0; i < n * n_cols; i++) {
            const uint16_t code = phx_f32_to_bf16(w->values[i]);
            memcpy(w->packed + i * 2, &code, sizeof(code));
        }
        return (size_t)(n * n_cols) * 2;
    }
    if (how == ACTION_FP8) {
        float *scales =
            (float *)(void *)w->scales + first / FP8_BLOCK * ((n_cols + FP8_BLOCK - 1) / FP8_BLOCK);
        phx_pack_fp8_stripe(w->values, n, n_cols, w->packed, scales, &w->error);
        return (size_t)(n * n_cols);
    }
    for (int64_t r = 0; r < n; r++)
        phx_pack_int4_row(w->values + r * n_cols, n_cols, (uint32_t *)(void *)(w->packed + r * n_cols / 2),
                          (uint16_t *)(void *)w->scales + (first + r) * n_cols / PHX_INT4_GROUP, &w->error);
    return (size_t)(n * n_cols / 2);
}

static size_t scale_bytes(const phx_ck_tensor *t, action how)
{
    if (how == ACTION_INT4)
        return (size_t)(t->n_rows * t->n_cols / PHX_INT4_GROUP) * sizeof(uint16_t);
    if (how == ACTION_FP8)
        return (size_t)((t->n_rows + FP8_BLOCK - 1) / FP8_BLOCK * ((t->n_cols + FP8_BLOCK - 1) / FP8_BLOCK)) *
               sizeof(float);
    return 0;
}

static phx_code take_buffers(matrix_work *w, action how, phx_error *err)
{
    const phx_ck_tensor *t = w->t;
    w->n_rows_max = (int64_t)(VALUES_BYTES / sizeof(float)) / t->n_cols / FP8_BLOCK * FP8_BLOCK;
    w->n_rows_max = how == ACTION_FP8 || w->n_rows_max == 0 ? FP8_BLOCK : w->n_rows_max;
    if (how != ACTION_FP8 && w->n_rows_max > t->n_rows)
        w->n_rows_max = t->n_rows;
    const size_t n = (size_t)(w->n_rows_max * t->n_cols);
    w->raw = phx_alloc(n, sizeof(float));
    w->values = phx_alloc(n, sizeof(float));
    w->packed = phx_alloc(n, sizeof(float));
    w->scales = phx_alloc(scale_bytes(t, how) + 1, 1);
    if (!w->raw || !w->values || !w->packed || !w->scales)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "buffers for '%.*s'", PHX_STR_ARG(t->data->name));
    return read_scales(w, err);
}

/* Weights, then scales, then (int4) the shape. */
static phx_code write_matrix(run *r, const piece *p, phx_st_writer *writer, phx_error *err)
{
    const phx_ck_tensor *t = p->matrix;
    const int32_t shape[2] = {(int32_t)t->n_rows, (int32_t)t->n_cols};
    matrix_work w = {.run = r, .t = t, .writer = writer};
    phx_code rc = take_buffers(&w, p->action, err);
    for (int64_t first = 0; rc == PHX_OK && first < t->n_rows; first += w.n_rows_max) {
        const int64_t n = t->n_rows - first < w.n_rows_max ? t->n_rows - first : w.n_rows_max;
        rc = read_rows(&w, first, n, err);
        if (rc == PHX_OK)
            rc = phx_st_writer_append(writer, w.packed, pack_rows(&w, p->action, first, n), err);
    }
    if (rc == PHX_OK && p->action != ACTION_WIDEN)
        rc = phx_st_writer_append(writer, w.scales, scale_bytes(t, p->action), err);
    if (rc == PHX_OK && p->action == ACTION_INT4)
        rc = phx_st_writer_append(writer, shape, sizeof(shape), err);
    if (rc == PHX_OK && p->action != ACTION_WIDEN) {
        char name[PHX_TENSOR_NAME_MAX + 1];
        (void)snprintf(name, sizeof(name), "%.*s", PHX_STR_ARG(t->data->name));
        const phx_quantise_row row = {name, t->n_rows, t->n_cols, phx_pack_relative_rms(&w.error),
                                      w.error.max_error};
        (void)phx_buf_printf(&r->note, "%.9g %.9g %lld %lld %s\n", row.relative_rms, row.max_error,
                             (long long)row.n_rows, (long long)row.n_cols, name);
        report(r, &row);
    }
    phx_free(w.raw);
    phx_free(w.values);
    phx_free(w.packed);
    phx_free(w.scales);
    phx_free(w.scales_in);
    return rc;
}

/* ---- one shard ---- */

typedef struct shard_decls {
    phx_buf names;   /* terminated, one after the other */
    size_t *name_at; /* [n] */
    phx_st_decl *decls;
    size_t n;
} shard_decls;

static void declare(shard_decls *d, phx_str name, const char *ending, phx_st_decl decl)
{
    d->name_at[d->n] = d->names.n;
    (void)phx_buf_append(&d->names, name.ptr, name.n);
    (void)phx_buf_append(&d->names, ending, strlen(ending) + 1);
    d->decls[d->n++] = decl;
}

static void declare_piece(shard_decls *d, const piece *p, const phx_st_tensor *stored)
{
    phx_st_decl decl = {.dtype = stored->dtype, .n_dims = stored->n_dims};
    memcpy(decl.shape, stored->shape, sizeof(decl.shape));
    if (p->action == ACTION_DROP)
        return;
    if (p->action == ACTION_COPY) {
        declare(d, stored->name, "", decl);
        return;
    }
    const int64_t n_rows = p->matrix->n_rows;
    const int64_t n_cols = p->matrix->n_cols;
    if (p->action == ACTION_WIDEN) {
        decl.dtype = PHX_BF16;
        declare(d, stored->name, "", decl);
    } else if (p->action == ACTION_FP8) {
        decl.dtype = PHX_F8_E4M3;
        declare(d, stored->name, "", decl);
        declare(d, stored->name, "_scale_inv",
                (phx_st_decl){
                    .dtype = PHX_F32,
                    .n_dims = 2,
                    .shape = {(n_rows + FP8_BLOCK - 1) / FP8_BLOCK, (n_cols + FP8_BLOCK - 1) / FP8_BLOCK}});
    } else {
        declare(d, stored->name, "_packed",
                (phx_st_decl){.dtype = PHX_I32, .n_dims = 2, .shape = {n_rows, n_cols / 8}});
        declare(d, stored->name, "_scale",
                (phx_st_decl){.dtype = PHX_BF16, .n_dims = 2, .shape = {n_rows, n_cols / PHX_INT4_GROUP}});
        declare(d, stored->name, "_shape", (phx_st_decl){.dtype = PHX_I32, .n_dims = 1, .shape = {2}});
    }
}

static phx_code copy_tensor(run *r, const phx_st_file *file, const phx_st_tensor *stored,
                            phx_st_writer *writer, phx_error *err)
{
    for (uint64_t at = 0; at < stored->n_bytes;) {
        const uint64_t left = stored->n_bytes - at;
        const size_t n = left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES;
        phx_code rc = phx_st_read(file, stored, at, r->chunk, n, err);
        if (rc == PHX_OK)
            rc = phx_st_writer_append(writer, r->chunk, n, err);
        if (rc == PHX_OK)
            rc = go_on(r, n, err);
        if (rc != PHX_OK)
            return rc;
        at += n;
    }
    return PHX_OK;
}

static phx_code write_tensors(run *r, size_t f, phx_st_writer *writer, phx_error *err)
{
    const phx_st_file *file = phx_checkpoint_file(r->ck, f);
    for (size_t i = 0; i < phx_st_count(file); i++) {
        const piece *p = &r->pieces[f][i];
        phx_code rc = PHX_OK;
        if (p->action == ACTION_COPY)
            rc = copy_tensor(r, file, phx_st_at(file, i), writer, err);
        else if (p->action != ACTION_DROP)
            rc = write_matrix(r, p, writer, err);
        if (rc != PHX_OK)
            return rc;
    }
    return PHX_OK;
}

static phx_code make_shard(run *r, size_t f, phx_error *err)
{
    phx_code rc = PHX_OK;
    const phx_st_file *file = phx_checkpoint_file(r->ck, f);
    const size_t n = phx_st_count(file);
    shard_decls d = {0};
    phx_st_writer *writer = NULL;
    phx_st_file *made = NULL;
    char path[PATH_BYTES];
    phx_buf_init(&d.names, NAMES_BYTES_MAX);
    phx_buf_clear(&r->note);
    d.name_at = phx_alloc(3 * n, sizeof(*d.name_at));
    d.decls = phx_alloc(3 * n, sizeof(*d.decls));
    if (!d.name_at || !d.decls) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "%zu declarations", 3 * n);
        goto out;
    }
    for (size_t i = 0; i < n; i++)
        declare_piece(&d, &r->pieces[f][i], phx_st_at(file, i));
    if (d.names.code != PHX_OK) {
        rc = PHX_FAIL(err, d.names.code, "names of '%s'", phx_st_path(file));
        goto out;
    }
    for (size_t i = 0; i < d.n; i++)
        d.decls[i].name = d.names.ptr + d.name_at[i];
    rc = out_path(r, base_name(file), "", path, err);
    if (rc == PHX_OK)
        rc = phx_st_writer_open(path, d.decls, d.n, &writer, err);
    if (rc == PHX_OK)
        rc = write_tensors(r, f, writer, err);
    if (rc != PHX_OK)
        goto out;
    rc = phx_st_writer_close(writer, err);
    writer = NULL;
    if (rc == PHX_OK)
        rc = phx_st_open(path, &made, err);
    if (rc == PHX_OK)
        rc = write_note(r, base_name(file), made, err);
out:
    phx_st_close(made);
    phx_st_writer_abort(writer);
    phx_buf_done(&d.names);
    phx_free(d.name_at);
    phx_free(d.decls);
    return rc;
}

/* ---- the index ---- */

static phx_code list_shard(const run *r, size_t f, phx_json_writer *w, uint64_t *total_bytes, phx_error *err)
{
    char path[PATH_BYTES];
    phx_st_file *made = NULL;
    const char *name = base_name(phx_checkpoint_file(r->ck, f));
    phx_code rc = out_path(r, name, "", path, err);
    if (rc == PHX_OK)
        rc = phx_st_open(path, &made, err);
    for (size_t i = 0; rc == PHX_OK && i < phx_st_count(made); i++) {
        phx_json_key_str(w, phx_st_at(made, i)->name);
        phx_json_text(w, name);
        *total_bytes += phx_st_at(made, i)->n_bytes;
    }
    phx_st_close(made);
    return rc;
}

/* None where the source has none. */
static phx_code write_index(const run *r, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_buf buf;
    phx_json_writer w;
    uint64_t total_bytes = 0;
    char path[PATH_BYTES];
    phx_buf_init(&buf, INDEX_BYTES_MAX);
    if ((size_t)snprintf(path, sizeof(path), "%s/" INDEX_FILE, r->request->model_dir) >= sizeof(path) ||
        !phx_file_exists(path))
        goto out;
    phx_json_writer_init(&w, &buf);
    phx_json_begin_object(&w);
    phx_json_key(&w, "weight_map");
    phx_json_begin_object(&w);
    for (size_t f = 0; rc == PHX_OK && f < r->n_files; f++)
        rc = list_shard(r, f, &w, &total_bytes, err);
    phx_json_end_object(&w);
    phx_json_key(&w, "metadata");
    phx_json_begin_object(&w);
    phx_json_key(&w, "total_size");
    phx_json_u64(&w, total_bytes);
    phx_json_end_object(&w);
    phx_json_end_object(&w);
    if (rc == PHX_OK && buf.code != PHX_OK)
        rc = PHX_FAIL(err, buf.code, "index of %zu shards", r->n_files);
    if (rc == PHX_OK)
        rc = out_path(r, INDEX_FILE, "", path, err);
    if (rc == PHX_OK)
        rc = phx_file_write(path, (phx_bytes){(const uint8_t *)buf.ptr, buf.n}, 0644, err);
out:
    phx_buf_done(&buf);
    return rc;
}
