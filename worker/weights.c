/* worker/weights.c - reads the slices of one rank into memory and files them by layer and role. */
#include "worker/weights.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <sys/mman.h>

#include "base/alloc.h"
#include "model/synth_fill.h"
#include "worker/weight_tables.h"

#define STAGE_BYTES ((size_t)4 << 20) /* of pinned memory per loading thread */

typedef struct loader {
    phx_weights *weights;
    uint64_t *data_offset; /* [n_slices] place of each slice in memory */
    phx_load_progress *progress;
    const phx_synth_request *random; /* and its tables, when nothing is read */
    phx_synth_tables *tables;
    uint8_t *stages; /* [n_stages][STAGE_BYTES] pinned; NULL on the CPU */
    uint32_t n_stages;
    _Atomic bool stage_taken[PHX_THREADS_MAX];
    _Atomic uint64_t file_bytes;
    _Atomic bool failed;
    phx_error *err;
} loader;

static phx_code index_slices(phx_weights *weights, const uint64_t *data_offset, phx_error *err);
static void load_one(void *user, int64_t item, void *scratch);
static phx_code make_layers(phx_weights *weights, phx_error *err);

/* Leaves of a down projection that end within a packed unit: the kernels would have to widen all of it. */
static bool leaves_cut_units(const phx_weights *weights, const phx_plan_slice *slice, int32_t pack)
{
    const phx_role role = slice->tensor->id.rule->role;
    const bool is_cut =
        role == PHX_ROLE_DOWN || role == PHX_ROLE_SHARED_DOWN ||
        (role == PHX_ROLE_EXPERT_DOWN && weights->plan->request.layout.experts == PHX_EXPERTS_TP);
    return is_cut && phx_ff_unit(slice->tensor->n_cols, slice->tensor->format) % pack != 0;
}

/* phx_matrix.pack of a slice: what the CPU's kernels take for fp8, where the shape allows it. */
static int32_t packing_of(const phx_weights *weights, const phx_plan_slice *slice)
{
    const int64_t n_rows = phx_range_n(slice->rows);
    const int64_t n_cols = phx_range_n(slice->cols);
    const int32_t pack = weights->backend->device ? 0 : phx_ops_pack(&weights->backend->ops);
    const bool taken = slice->tensor->format == PHX_FORMAT_FP8_BLOCK &&
                       slice->tensor->id.rule->role != PHX_ROLE_EMBED && !slice->tensor->id.rule->keep_f32;
    return taken && pack > 0 && PHX_PACK_ROWS * n_cols <= (int64_t)PHX_SCRATCH_BYTES &&
                   phx_pack_fits(n_rows, n_cols, pack) && !leaves_cut_units(weights, slice, pack)
               ? pack
               : 0;
}

static uint64_t padded(uint64_t bytes)
{
    return (bytes + 63) & ~(uint64_t)63;
}

/* The CPU's weights are streamed again and again: huge pages mean fewer TLB misses; harmless where refused.
 */
static phx_code take_memory(phx_weights *weights, size_t n_bytes, phx_error *err)
{
    if (n_bytes == 0)
        return PHX_OK;
    if (weights->backend->device) {
        const phx_code rc = phx_device_take(weights->backend, n_bytes, &weights->memory, err);
        if (rc != PHX_OK)
            return rc;
    } else {
        void *memory =
            mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED)
            return PHX_FAIL(err, PHX_ERR_NOMEM, "cannot allocate %zu bytes for weights", n_bytes);
        (void)madvise(memory, n_bytes, MADV_HUGEPAGE);
        weights->memory = memory;
    }
    weights->memory_bytes = n_bytes;
    return PHX_OK;
}

static phx_code take_stages(loader *load, phx_pool *pool, phx_error *err)
{
    const phx_memory *pinned = load->weights->backend->pinned;
    void *memory = NULL;
    if (!load->weights->backend->device)
        return PHX_OK;
    load->n_stages = phx_pool_n_threads(pool);
    const phx_code rc = pinned->take(pinned->user, load->n_stages * STAGE_BYTES, &memory, err);
    load->stages = memory;
    return rc;
}

static void give_stages(loader *load)
{
    if (!load->stages)
        return;
    const phx_memory *pinned = load->weights->backend->pinned;
    pinned->give_back(pinned->user, load->stages, load->n_stages * STAGE_BYTES);
}

static phx_code make_tables(loader *load, phx_error *err)
{
    if (!load->random)
        return PHX_OK;
    load->tables = phx_alloc(1, sizeof(*load->tables));
    if (!load->tables)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "tables of random weights");
    phx_synth_tables_init(load->tables);
    return PHX_OK;
}

phx_code phx_weights_load(const phx_weights_source *from, phx_load_progress *progress,
                          phx_weights **ret_weights, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_error inner = {0};
    loader load = {.progress = progress, .random = from->random, .err = &inner};
    phx_weights *weights = phx_alloc(1, sizeof(*weights));
    if (!weights) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "weights table");
        goto out;
    }
    weights->plan = from->plan;
    weights->rank = &from->plan->ranks[from->rank];
    weights->backend = from->backend;
    const size_t n_slices = weights->rank->n_slices;
    load.weights = weights;
    load.data_offset = phx_alloc(n_slices + 1, sizeof(*load.data_offset));
    if (!load.data_offset) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "slice table of %zu", n_slices);
        goto out;
    }
    uint64_t total = 0, file_total = 0;
    for (size_t i = 0; i < n_slices; i++) {
        const phx_plan_slice *slice = &weights->rank->slices[i];
        load.data_offset[i] = total;
        total += padded(slice->data_bytes) + padded(slice->scale_bytes);
        file_total += slice->file_bytes;
    }
    atomic_store(&progress->total_bytes, file_total);
    rc = make_tables(&load, err);
    if (rc == PHX_OK)
        rc = take_memory(weights, total, err);
    if (rc == PHX_OK)
        rc = take_stages(&load, from->pool, err);
    if (rc != PHX_OK)
        goto out;
    phx_pool_run(from->pool, (int64_t)n_slices, load_one, &load);
    if (atomic_load(&load.failed)) {
        rc = PHX_FAIL(err, inner.code, "%s", inner.text);
        goto out;
    }
    weights->resident_bytes = total;
    weights->file_bytes = atomic_load(&load.file_bytes);
    rc = make_layers(weights, err);
    if (rc == PHX_OK)
        rc = index_slices(weights, load.data_offset, err);
    if (rc != PHX_OK)
        goto out;
    *ret_weights = weights;
    weights = NULL;
out:
    give_stages(&load);
    phx_free(load.tables);
    phx_free(load.data_offset);
    phx_weights_destroy(weights);
    return rc;
}

void phx_weights_destroy(phx_weights *weights)
{
    if (!weights)
        return;
    phx_weight_tables_destroy(weights->tables, weights->backend);
    phx_free(weights->layers);
    if (weights->memory && weights->backend->device)
        phx_device_give(weights->backend, weights->memory, weights->memory_bytes);
    else if (weights->memory)
        (void)munmap(weights->memory, weights->memory_bytes);
    phx_free(weights);
}

/* The first failing slice wins; the others see the flag and stop. */
static void note_failure(loader *load, const phx_error *inner)
{
    bool expected = false;
    if (atomic_compare_exchange_strong(&load->failed, &expected, true))
        *load->err = *inner;
}

/* Bytes of a tensor: from its file, or as synth would have written them. */
typedef struct bytes_of {
    const phx_st_file *file;
    const phx_st_tensor *tensor;
    phx_synth_source random; /* counts when the loader's random is set */
} bytes_of;

static bytes_of bytes_of_tensor(const loader *load, const phx_ck_tensor *tensor, bool is_scale)
{
    bytes_of from = {
        is_scale ? tensor->scale_file : tensor->file, is_scale ? tensor->scales : tensor->data, {0}};
    if (load->random)
        from.random = phx_synth_source_of(load->random, &tensor->id, is_scale);
    return from;
}

static phx_code get_bytes(const loader *load, const bytes_of *from, uint64_t at, void *to, uint64_t n,
                          phx_error *err)
{
    const uint64_t element = phx_dtype_bytes(from->tensor->dtype);
    if (!load->random)
        return phx_st_read(from->file, from->tensor, at, to, n, err);
    phx_synth_fill(load->tables, &from->random, at / element, n / element, to);
    return PHX_OK;
}

typedef struct stripe { /* the same bytes of every row of a stored tensor */
    bytes_of from;
    uint64_t row_bytes;
    uint64_t first_byte;
    uint64_t cut_bytes;
} stripe;

/* Rows [rows.first, rows.end) of the stripe. */
static phx_code read_stripe(loader *load, const stripe *of, phx_range rows, uint8_t *to, phx_error *err)
{
    const uint64_t row_bytes = of->row_bytes;
    const uint64_t cut_bytes = of->cut_bytes;
    const uint64_t n_rows = (uint64_t)phx_range_n(rows);
    const bool whole_rows = cut_bytes == row_bytes;
    /* Whole rows are one range; a column cut is one short read per row, so that no other byte is touched. */
    const uint64_t chunk = whole_rows ? 16u << 20 : cut_bytes;
    const uint64_t total = n_rows * cut_bytes;
    for (uint64_t done = 0; done < total;) {
        if (atomic_load_explicit(&load->progress->stop, memory_order_relaxed) || atomic_load(&load->failed))
            return PHX_FAIL(err, PHX_ERR_CANCELLED, "loading stopped");
        const uint64_t n = total - done < chunk ? total - done : chunk;
        const uint64_t row = (uint64_t)rows.first + (whole_rows ? 0 : done / cut_bytes);
        const uint64_t at = row * row_bytes + (whole_rows ? done : of->first_byte);
        const phx_code rc = get_bytes(load, &of->from, at, to + done, n, err);
        if (rc != PHX_OK)
            return rc;
        done += n;
        atomic_fetch_add_explicit(&load->progress->done_bytes, n, memory_order_relaxed);
        atomic_fetch_add_explicit(&load->file_bytes, n, memory_order_relaxed);
    }
    return PHX_OK;
}

/* rows: of the whole tensor, a part of the slice's. */
static phx_code read_rows(loader *load, const phx_plan_slice *slice, phx_range rows, uint8_t *to,
                          phx_error *err)
{
    const phx_ck_tensor *tensor = slice->tensor;
    const stripe from = {.from = bytes_of_tensor(load, tensor, false),
                         .row_bytes = phx_format_row_bytes(tensor->format, tensor->n_cols),
                         .first_byte = phx_format_row_bytes(tensor->format, slice->cols.first),
                         .cut_bytes = phx_format_row_bytes(tensor->format, phx_range_n(slice->cols))};
    return read_stripe(load, &from, rows, to, err);
}

/* The scales of int4: kept as they are stored. */
static phx_code read_group_scales(loader *load, const phx_plan_slice *slice, phx_range rows, uint8_t *to,
                                  phx_error *err)
{
    const phx_ck_tensor *tensor = slice->tensor;
    const int64_t first = slice->cols.first / PHX_INT4_GROUP;
    const int64_t end = (slice->cols.end + PHX_INT4_GROUP - 1) / PHX_INT4_GROUP;
    const uint64_t n = (uint64_t)(phx_range_n(rows) * (end - first));
    const stripe from = {.from = bytes_of_tensor(load, tensor, true),
                         .row_bytes = (uint64_t)(tensor->n_cols / PHX_INT4_GROUP) * sizeof(uint16_t),
                         .first_byte = (uint64_t)first * sizeof(uint16_t),
                         .cut_bytes = (uint64_t)(end - first) * sizeof(uint16_t)};
    const phx_code rc = read_stripe(load, &from, rows, to, err);
    for (uint64_t i = 0; rc == PHX_OK && i < n; i++) {
        uint16_t code;
        memcpy(&code, to + i * sizeof(code), sizeof(code));
        if ((code & 0x7F80u) == 0x7F80u)
            return PHX_FAIL(err, PHX_ERR_CORRUPT, "a scale of '%.*s' in '%s' is not finite",
                            PHX_STR_ARG(tensor->data->name), phx_st_path(tensor->scale_file));
    }
    return rc;
}

/* Widens a vector (or small matrix) kept as f32 in place of its stored dtype. from and to do not overlap. */
static void widen(float *to, const void *from, phx_dtype dtype, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        uint16_t half;
        if (dtype == PHX_F32) {
            memcpy(&to[i], (const uint8_t *)from + 4 * i, 4);
        } else {
            memcpy(&half, (const uint8_t *)from + 2 * i, 2);
            to[i] = dtype == PHX_BF16 ? phx_bf16_to_f32(half) : phx_f16_to_f32(half);
        }
    }
}

/* rows: scale rows of the whole tensor, a part of those of the slice. */
static phx_code read_scales(loader *load, const phx_plan_slice *slice, phx_range rows, float *to,
                            phx_error *err)
{
    const phx_ck_tensor *tensor = slice->tensor;
    const int64_t block = phx_format_block(tensor->format);
    const uint64_t element = phx_dtype_bytes(tensor->scales->dtype);
    const int64_t n_cols = (tensor->n_cols + block - 1) / block;
    const int64_t col_first = slice->cols.first / block, col_end = (slice->cols.end + block - 1) / block;
    const uint64_t n = (uint64_t)(col_end - col_first);
    const bytes_of from = bytes_of_tensor(load, tensor, true);
    for (int64_t r = rows.first; r < rows.end; r++) {
        float *row = to + (uint64_t)(r - rows.first) * n;
        uint8_t *raw = (uint8_t *)row + n * (4 - element); /* read into the tail, widen from the front */
        const uint64_t at = (uint64_t)(r * n_cols + col_first) * element;
        const phx_code rc = get_bytes(load, &from, at, raw, n * element, err);
        if (rc != PHX_OK)
            return rc;
        atomic_fetch_add_explicit(&load->progress->done_bytes, n * element, memory_order_relaxed);
        atomic_fetch_add_explicit(&load->file_bytes, n * element, memory_order_relaxed);
        for (uint64_t c = 0; c < n; c++) {
            if (element == 1)
                row[c] = phx_e8m0_to_f32(raw[c]);
            if (!isfinite(row[c]))
                return PHX_FAIL(err, PHX_ERR_CORRUPT, "scale [%lld][%llu] of '%.*s' in '%s' is not finite",
                                (long long)r, (unsigned long long)(c + (uint64_t)col_first),
                                PHX_STR_ARG(tensor->data->name), phx_st_path(tensor->scale_file));
        }
    }
    return PHX_OK;
}

static phx_code check_fp8(const phx_plan_slice *slice, const uint8_t *data, uint64_t n, phx_error *err)
{
    for (uint64_t i = 0; i < n; i++) {
        if ((data[i] & 0x7F) == 0x7F)
            return PHX_FAIL(err, PHX_ERR_CORRUPT, "'%.*s' in '%s' holds an fp8 code that is not a number",
                            PHX_STR_ARG(slice->tensor->data->name), phx_st_path(slice->tensor->file));
    }
    return PHX_OK;
}

/* Rows of the slice as they are kept in memory. */
static phx_code load_rows(loader *load, const phx_plan_slice *slice, phx_range rows, uint8_t *to,
                          phx_error *err)
{
    const uint64_t n = (uint64_t)phx_range_n(rows) * (uint64_t)phx_range_n(slice->cols);
    const phx_dtype dtype = slice->tensor->data->dtype;
    if (slice->tensor->id.rule->keep_f32) {
        /* Stored narrower: read into the tail of the f32 array, then widen from the front. */
        uint8_t *raw = to + n * (4 - phx_dtype_bytes(dtype));
        const phx_code rc = read_rows(load, slice, rows, raw, err);
        if (rc == PHX_OK && dtype != PHX_F32)
            widen((float *)(void *)to, raw, dtype, n);
        return rc;
    }
    const phx_code rc = read_rows(load, slice, rows, to, err);
    return rc == PHX_OK && dtype == PHX_F8_E4M3 ? check_fp8(slice, to, n, err) : rc;
}

/* The scale rows that the slice touches. */
static phx_range scale_rows(const phx_plan_slice *slice)
{
    const int64_t block = phx_format_block_rows(slice->tensor->format);
    return (phx_range){slice->rows.first / block, (slice->rows.end + block - 1) / block};
}

typedef phx_code load_fn(loader *load, const phx_plan_slice *slice, phx_range rows, uint8_t *to,
                         phx_error *err);

static phx_code load_scales(loader *load, const phx_plan_slice *slice, phx_range rows, uint8_t *to,
                            phx_error *err)
{
    if (slice->tensor->format == PHX_FORMAT_INT4_G32)
        return read_group_scales(load, slice, rows, to, err);
    return read_scales(load, slice, rows, (float *)(void *)to, err);
}

/* Rows by way of pinned memory, as many at a time as fit. One thread has one stage. */
static phx_code load_staged(loader *load, const phx_plan_slice *slice, phx_range rows, uint64_t row_bytes,
                            load_fn *part, uint8_t *to, phx_error *err)
{
    uint32_t stage = 0;
    while (atomic_exchange(&load->stage_taken[stage], true))
        stage = (stage + 1) % load->n_stages;
    uint8_t *staged = load->stages + stage * STAGE_BYTES;
    const int64_t n_max = row_bytes <= STAGE_BYTES ? (int64_t)(STAGE_BYTES / row_bytes) : 0;
    phx_code rc =
        n_max ? PHX_OK
              : PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "a row of '%.*s' has %llu bytes: at most %zu",
                         PHX_STR_ARG(slice->tensor->data->name), (unsigned long long)row_bytes, STAGE_BYTES);
    for (int64_t r = rows.first; r < rows.end && rc == PHX_OK; r += n_max) {
        const phx_range here = {r, r + n_max < rows.end ? r + n_max : rows.end};
        rc = part(load, slice, here, staged, err);
        if (rc == PHX_OK)
            rc = phx_upload(load->weights->backend, to + (uint64_t)(r - rows.first) * row_bytes, staged,
                            (uint64_t)phx_range_n(here) * row_bytes, err);
        if (rc == PHX_OK)
            rc = phx_sync(load->weights->backend, err); /* before the stage is written again */
    }
    atomic_store(&load->stage_taken[stage], false);
    return rc;
}

static phx_code load_slice(loader *load, size_t idx, uint8_t *scratch, phx_error *err)
{
    const phx_plan_slice *slice = &load->weights->rank->slices[idx];
    uint8_t *to = (uint8_t *)load->weights->memory + load->data_offset[idx];
    uint8_t *scales_to = to + padded(slice->data_bytes);
    const bool has_scales = slice->tensor->scales && !slice->tensor->id.rule->keep_f32;
    if (phx_range_n(slice->rows) == 0 || phx_range_n(slice->cols) == 0)
        return PHX_OK;
    if (!load->stages) {
        const phx_code rc = load_rows(load, slice, slice->rows, to, err);
        const int32_t pack = packing_of(load->weights, slice);
        if (rc == PHX_OK && pack > 0)
            phx_pack_rows(to, phx_range_n(slice->rows), phx_range_n(slice->cols), pack, scratch);
        return rc == PHX_OK && has_scales ? load_scales(load, slice, scale_rows(slice), scales_to, err) : rc;
    }
    const phx_format kept = slice->tensor->id.rule->keep_f32 ? PHX_FORMAT_F32 : slice->tensor->format;
    const phx_code rc = load_staged(load, slice, slice->rows,
                                    phx_format_row_bytes(kept, phx_range_n(slice->cols)), load_rows, to, err);
    if (rc != PHX_OK || !has_scales)
        return rc;
    const int64_t block = phx_format_block(slice->tensor->format);
    const int64_t n_cols = (slice->cols.end + block - 1) / block - slice->cols.first / block;
    return load_staged(load, slice, scale_rows(slice),
                       (uint64_t)n_cols * phx_format_scale_bytes(slice->tensor->format), load_scales,
                       scales_to, err);
}

static void load_one(void *user, int64_t item, void *scratch)
{
    loader *load = user;
    phx_error inner = {0};
    if (atomic_load(&load->failed))
        return;
    if (load_slice(load, (size_t)item, scratch, &inner) != PHX_OK)
        note_failure(load, &inner);
}

static phx_code make_layers(phx_weights *weights, phx_error *err)
{
    const phx_dims *dims = phx_checkpoint_dims(weights->plan->checkpoint);
    const bool ep = weights->plan->request.layout.experts == PHX_EXPERTS_EP && dims->n_experts > 0;
    const int64_t n_drafting =
        weights->rank->layers.end - phx_checkpoint_dims(weights->plan->checkpoint)->n_layers;
    weights->n_layers = phx_range_n(weights->rank->layers);
    weights->n_draft_layers = n_drafting > 0 ? n_drafting : 0;
    weights->layers = phx_alloc((size_t)weights->n_layers, sizeof(*weights->layers));
    if (!weights->layers)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "layer table");
    for (int64_t l = 0; l < weights->n_layers; l++)
        weights->layers[l].moe = phx_layer_is_moe(dims, weights->rank->layers.first + l);
    const phx_code rc = phx_weight_tables_create(weights, (size_t)dims->n_experts, ep, &weights->tables, err);
    const uint32_t n_leaves = PHX_LEAVES / weights->plan->request.layout.tp;
    for (uint32_t leaf = 0; leaf < n_leaves && rc == PHX_OK && ep; leaf++) {
        const phx_range held = phx_leaf_bounds(dims->n_experts, weights->rank->tp_rank * n_leaves + leaf);
        for (int64_t e = held.first; e < held.end; e++)
            weights->tables->expert_leaf[e] = (int32_t)leaf;
    }
    return rc;
}

/* Leaves of a row-parallel matrix as local columns: units of `unit` global columns. */
static void local_bounds(const phx_weights *weights, int64_t n_units, int64_t unit, int64_t n_cols_global,
                         int64_t *bounds)
{
    const uint32_t n_leaves = PHX_LEAVES / weights->plan->request.layout.tp;
    const uint32_t first_leaf = weights->rank->tp_rank * n_leaves;
    const int64_t origin = phx_leaf_bounds(n_units, first_leaf).first * unit;
    for (uint32_t leaf = 0; leaf < n_leaves; leaf++) {
        const int64_t end = phx_leaf_bounds(n_units, first_leaf + leaf).end * unit;
        bounds[leaf + 1] = (end < n_cols_global ? end : n_cols_global) - origin;
    }
    bounds[0] = 0;
}

static void ff_bounds(const phx_weights *weights, const phx_ck_tensor *down, int64_t *bounds)
{
    const int64_t unit = phx_ff_unit(down->n_cols, down->format);
    local_bounds(weights, (down->n_cols + unit - 1) / unit, unit, down->n_cols, bounds);
}

static phx_matrix matrix_of(const phx_weights *weights, const phx_plan_slice *slice, uint64_t offset)
{
    const uint8_t *data = (const uint8_t *)weights->memory + offset;
    const int64_t block = phx_format_block(slice->tensor->format);
    phx_matrix matrix = {
        .data = data,
        .n_rows = phx_range_n(slice->rows),
        .n_cols = phx_range_n(slice->cols),
        .pack = packing_of(weights, slice),
        .format = slice->tensor->format,
    };
    if (block) {
        const void *scales = data + padded(slice->data_bytes);
        if (slice->tensor->format == PHX_FORMAT_INT4_G32)
            matrix.group_scales = scales;
        else
            matrix.scales = scales;
        matrix.scale_stride = (slice->cols.end + block - 1) / block - slice->cols.first / block;
        matrix.row_shift = (int32_t)(slice->rows.first % phx_format_block_rows(slice->tensor->format));
        matrix.col_shift = (int32_t)(slice->cols.first % block);
    }
    return matrix;
}

static void file_expert(phx_weights *weights, int64_t l, const phx_plan_slice *slice, phx_matrix matrix)
{
    phx_layer_weights *layer = &weights->layers[l];
    const phx_role role = slice->tensor->id.rule->role;
    const size_t part = role == PHX_ROLE_EXPERT_GATE ? PHX_TABLE_GATE
                        : role == PHX_ROLE_EXPERT_UP ? PHX_TABLE_UP
                                                     : PHX_TABLE_DOWN;
    *phx_weight_tables_expert(weights->tables, (size_t)l, (size_t)slice->tensor->id.expert, part) = matrix;
    if (part != PHX_TABLE_DOWN)
        return;
    ff_bounds(weights, slice->tensor, weights->tables->layers[l].routed_bounds);
    layer->routed_width = matrix.n_cols;
    if (matrix.n_cols > weights->routed_width_max)
        weights->routed_width_max = matrix.n_cols;
}

static void file_down(phx_weights *weights, int64_t l, const phx_plan_slice *slice, phx_matrix matrix)
{
    weights->layers[l].down = matrix;
    ff_bounds(weights, slice->tensor, weights->tables->layers[l].fixed_bounds);
    if (matrix.n_cols > weights->fixed_width_max)
        weights->fixed_width_max = matrix.n_cols;
}

/* Roles of a layer that are one matrix or one vector, and where they go. */
static void file_layer_tensor(phx_layer_weights *layer, phx_role role, phx_matrix matrix)
{
    const struct {
        phx_role role;
        phx_matrix *matrix;
        const float **vector;
    } places[] = {
        {PHX_ROLE_ATTN_NORM, NULL, &layer->attn_norm},
        {PHX_ROLE_Q, &layer->q, NULL},
        {PHX_ROLE_Q_A, &layer->q_a, NULL},
        {PHX_ROLE_Q_A_NORM, NULL, &layer->q_a_norm},
        {PHX_ROLE_Q_B, &layer->q_b, NULL},
        {PHX_ROLE_KV_A, &layer->kv_a, NULL},
        {PHX_ROLE_KV_A_NORM, NULL, &layer->kv_a_norm},
        {PHX_ROLE_KV_B, &layer->kv_b, NULL},
        {PHX_ROLE_O, &layer->o, NULL},
        {PHX_ROLE_INDEX_Q_B, &layer->index_q_b, NULL},
        {PHX_ROLE_INDEX_K, &layer->index_k, NULL},
        {PHX_ROLE_INDEX_K_NORM, NULL, &layer->index_k_norm},
        {PHX_ROLE_INDEX_K_NORM_BIAS, NULL, &layer->index_k_norm_bias},
        {PHX_ROLE_INDEX_WEIGHTS, &layer->index_weights, NULL},
        {PHX_ROLE_MTP_EMBED_NORM, NULL, &layer->draft_embed_norm},
        {PHX_ROLE_MTP_HIDDEN_NORM, NULL, &layer->draft_hidden_norm},
        {PHX_ROLE_MTP_PROJ, &layer->draft_proj, NULL},
        {PHX_ROLE_MTP_HEAD_NORM, NULL, &layer->draft_head_norm},
        {PHX_ROLE_FFN_NORM, NULL, &layer->ffn_norm},
        {PHX_ROLE_GATE, &layer->gate, NULL},
        {PHX_ROLE_UP, &layer->up, NULL},
        {PHX_ROLE_SHARED_GATE, &layer->gate, NULL},
        {PHX_ROLE_SHARED_UP, &layer->up, NULL},
        {PHX_ROLE_ROUTER, &layer->router, NULL},
        {PHX_ROLE_ROUTER_BIAS, NULL, &layer->router_bias},
    };
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        if (places[i].role != role)
            continue;
        if (places[i].matrix)
            *places[i].matrix = matrix;
        else
            *places[i].vector = matrix.data;
    }
}

static phx_code index_slices(phx_weights *weights, const uint64_t *data_offset, phx_error *err)
{
    const phx_dims *dims = phx_checkpoint_dims(weights->plan->checkpoint);
    for (size_t i = 0; i < weights->rank->n_slices; i++) {
        const phx_plan_slice *slice = &weights->rank->slices[i];
        const phx_role role = slice->tensor->id.rule->role;
        const phx_matrix matrix = matrix_of(weights, slice, data_offset[i]);
        const int64_t l = slice->tensor->id.layer - weights->rank->layers.first;
        if (role == PHX_ROLE_EMBED) {
            weights->embed = matrix;
            if (dims->tie_embeddings)
                weights->head = matrix;
        } else if (role == PHX_ROLE_HEAD) {
            weights->head = matrix;
        } else if (role == PHX_ROLE_FINAL_NORM) {
            weights->final_norm = matrix.data;
        } else if (l < 0 || l >= weights->n_layers) {
            return PHX_FAIL(err, PHX_ERR_INTERNAL, "slice of layer %d on a stage without it",
                            slice->tensor->id.layer);
        } else if (slice->tensor->id.expert >= 0) {
            file_expert(weights, l, slice, matrix);
        } else if (role == PHX_ROLE_DOWN || role == PHX_ROLE_SHARED_DOWN) {
            file_down(weights, l, slice, matrix);
        } else {
            file_layer_tensor(&weights->layers[l], role, matrix);
        }
        if (role == PHX_ROLE_O)
            local_bounds(weights, dims->n_heads, dims->d_v, slice->tensor->n_cols,
                         weights->tables->layers[l].o_bounds);
    }
    local_bounds(weights, dims->n_vocab, 1, dims->n_vocab, weights->tables->vocab_bounds);
    return phx_weight_tables_publish(weights->tables, weights, err);
}
