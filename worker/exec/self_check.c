/* worker/exec/self_check.c - what a rank group proves to itself before it reports ready (DESIGN 1.1).
 * It says *consistent*; only golden data says *correct*. */
#include "worker/exec/state.h"

#include <assert.h>
#include <math.h>

#include "base/alloc.h"
#include "base/rng.h"

static phx_code check_collectives(phx_exec *exec, phx_error *err);
static phx_code check_sharded_product(phx_exec *exec, phx_error *err);
static phx_code check_absorbed(phx_exec *exec, phx_error *err);

phx_code phx_exec_self_check(phx_exec *exec, phx_error *err)
{
    phx_code rc = phx_comm_barrier(exec->parts.comm, err);
    if (rc == PHX_OK)
        rc = check_collectives(exec, err);
    if (rc == PHX_OK)
        rc = check_sharded_product(exec, err);
    if (rc == PHX_OK)
        rc = check_absorbed(exec, err);
    phx_exec_drop_view(exec); /* serving needs none, or a smaller one */
    return rc == PHX_OK ? phx_comm_barrier(exec->parts.comm, err) : rc;
}

/* Small integers sum exactly in any order, so the expected bits are known. */
static phx_code check_collectives(phx_exec *exec, phx_error *err)
{
    const uint32_t tp = exec->parts.plan->request.layout.tp;
    const size_t n_max = (size_t)exec->parts.plan->request.n_step_tokens * (size_t)exec->dims->d_hidden;
    phx_backend *backend = exec->parts.backend;
    float *values = phx_alloc(n_max, sizeof(*values));
    phx_code rc = values ? PHX_OK : PHX_FAIL(err, PHX_ERR_NOMEM, "self-check of %zu values", n_max);
    for (size_t n = 1; n <= n_max && rc == PHX_OK; n = n * 7 + 1) {
        for (size_t i = 0; i < n; i++)
            values[i] = (float)((i * 31 + exec->rank->tp_rank * 5) % 1024);
        const void *view = NULL;
        rc = phx_upload(backend, exec->buf.partial, values, n * sizeof(float), err);
        if (rc == PHX_OK)
            rc = phx_exchange(exec->parts.comm, exec->buf.partial, n, err);
        if (rc == PHX_OK)
            rc = phx_exec_view(exec, exec->buf.partial, n * sizeof(float), &view, err);
        const float *sums = view;
        for (size_t i = 0; i < n && rc == PHX_OK; i++) {
            float expected = 0;
            for (uint32_t r = 0; r < tp; r++)
                expected += (float)((i * 31 + r * 5) % 1024);
            if (sums[i] != expected)
                rc = PHX_FAIL(err, PHX_ERR_NUMERIC, "exchange of %zu values: element %zu is %g, expected %g",
                              n, i, (double)sums[i], (double)expected);
        }
    }
    phx_free(values);
    return rc;
}

/* Device copies of what a check makes on the host. */
typedef struct device_copies {
    phx_backend *backend;
    void *memory[8];
    size_t n_bytes[8];
    unsigned n;
} device_copies;

static phx_code put(device_copies *copies, const void *from, size_t n_bytes, const void **ret_copy,
                    phx_error *err)
{
    assert(copies->n < sizeof(copies->memory) / sizeof(copies->memory[0]));
    void *memory = NULL;
    phx_code rc = phx_device_take(copies->backend, n_bytes, &memory, err);
    if (rc != PHX_OK)
        return rc;
    copies->memory[copies->n] = memory;
    copies->n_bytes[copies->n++] = n_bytes;
    rc = phx_upload(copies->backend, memory, from, n_bytes, err);
    if (rc == PHX_OK)
        rc = phx_sync(copies->backend, err); /* from may go away */
    if (rc == PHX_OK)
        *ret_copy = memory;
    return rc;
}

static void give_all(device_copies *copies)
{
    for (unsigned i = 0; i < copies->n; i++)
        phx_device_give(copies->backend, copies->memory[i], copies->n_bytes[i]);
}

/* A pseudo-random activation row of the given width, the same on every rank. */
static void fill_row(const phx_exec *exec, void *row, int64_t width, uint64_t seed)
{
    for (int64_t c = 0; c < width; c++) {
        const float value = phx_rng_unit(phx_rng_key(seed, (uint64_t)c, 0, 0)) - 0.5f;
        if (exec->numerics.act == PHX_BF16)
            ((uint16_t *)row)[c] = phx_f32_to_bf16(value);
        else
            ((float *)row)[c] = value;
    }
}

/* Loads the whole of a plain or block matrix of the checkpoint into device memory. */
static phx_code load_whole(const phx_ck_tensor *tensor, device_copies *copies, phx_matrix *ret_matrix,
                           phx_error *err)
{
    phx_code rc = PHX_OK;
    const size_t data_bytes = (size_t)tensor->data->n_bytes;
    const size_t scale_at = (data_bytes + 63) & ~(size_t)63;
    const size_t scale_bytes = tensor->scales ? (size_t)tensor->scales->n_bytes : 0;
    const size_t n_scales = tensor->scales ? scale_bytes / phx_dtype_bytes(tensor->scales->dtype) : 0;
    const bool is_int4 = tensor->format == PHX_FORMAT_INT4_G32;
    const size_t kept_bytes = scale_at + n_scales * phx_format_scale_bytes(tensor->format);
    uint8_t *memory = phx_alloc(kept_bytes + scale_bytes, 1);
    if (!memory) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "self-check of %zu bytes", data_bytes);
        goto out;
    }
    float *scales = (float *)(void *)(memory + scale_at);
    rc = phx_st_read(tensor->file, tensor->data, 0, memory, data_bytes, err);
    if (rc == PHX_OK && n_scales) {
        uint8_t *raw = memory + kept_bytes;
        rc = phx_st_read(tensor->scale_file, tensor->scales, 0, raw, scale_bytes, err);
        for (size_t i = 0; i < n_scales && rc == PHX_OK && !is_int4; i++) {
            if (tensor->scales->dtype == PHX_F8_E8M0)
                scales[i] = phx_e8m0_to_f32(raw[i]);
            else
                memcpy(&scales[i], raw + i * sizeof(float), sizeof(float));
        }
    }
    if (is_int4) /* kept as stored */
        memmove(scales, memory + kept_bytes, scale_bytes);
    const void *copy = NULL;
    if (rc == PHX_OK)
        rc = put(copies, memory, kept_bytes, &copy, err);
    if (rc != PHX_OK)
        goto out;
    const int64_t block = phx_format_block(tensor->format);
    const void *scales_there = n_scales ? (const uint8_t *)copy + scale_at : NULL;
    *ret_matrix = (phx_matrix){
        .data = copy,
        .scales = is_int4 ? NULL : scales_there,
        .group_scales = is_int4 ? scales_there : NULL,
        .n_rows = tensor->n_rows,
        .n_cols = tensor->n_cols,
        .scale_stride = block ? (tensor->n_cols + block - 1) / block : 0,
        .format = tensor->format,
    };
out:
    phx_free(memory);
    return rc;
}

/* The same product with all eight leaves of the whole matrix on one rank, into buf.partial. */
static phx_code whole_product(phx_exec *exec, const void *x, device_copies *copies, phx_error *err)
{
    const phx_dims *d = exec->dims;
    const int64_t width = d->n_heads * d->d_v;
    phx_matrix whole;
    int64_t bounds[PHX_LEAVES + 1] = {0};
    const void *device_bounds = NULL;
    const phx_ck_tensor *tensor =
        phx_checkpoint_find(exec->parts.plan->checkpoint, PHX_ROLE_O, (int32_t)exec->rank->layers.first, -1);
    phx_code rc = load_whole(tensor, copies, &whole, err);
    for (uint32_t leaf = 0; leaf < PHX_LEAVES; leaf++)
        bounds[leaf + 1] = phx_leaf_bounds(d->n_heads, leaf).end * d->d_v;
    if (rc == PHX_OK)
        rc = put(copies, bounds, sizeof(bounds), &device_bounds, err);
    if (rc != PHX_OK)
        return rc;
    exec->parts.ops->leaf_sum(exec->pool, &(phx_leaf_sum_args){
                                              .n_tokens = 1,
                                              .n_out = d->d_hidden,
                                              .n_leaves = PHX_LEAVES,
                                              .fixed = &whole,
                                              .h_fixed = phx_exec_act(exec, x, width),
                                              .fixed_bounds = device_bounds,
                                              .out = exec->buf.partial,
                                          });
    return PHX_OK;
}

/* Bit for bit; or, where ranks' sums are added in any order, to the rounding of eight f32 partial sums, which
 * may be larger than their sum. */
static phx_code compare_products(const phx_exec *exec, const float *sharded, const float *whole, size_t n,
                                 phx_error *err)
{
    float largest = 0;
    for (size_t i = 0; i < n; i++)
        largest = fmaxf(largest, fabsf(whole[i]));
    const float limit = exec->numerics.deterministic ? 0 : 1e-5f * largest;
    for (size_t i = 0; i < n; i++) {
        if (phx_bits_of_f32(whole[i]) != phx_bits_of_f32(sharded[i]) &&
            !(limit > 0 && fabsf(whole[i] - sharded[i]) <= limit))
            return PHX_FAIL(err, PHX_ERR_NUMERIC,
                            "layer %lld o_proj: output %zu is %.9g sharded and %.9g on one rank",
                            (long long)exec->rank->layers.first, i, (double)sharded[i], (double)whole[i]);
    }
    return PHX_OK;
}

/* The stage's first o_proj: this rank's leaves plus the exchange against all eight leaves on tp rank 0. */
static phx_code check_sharded_product(phx_exec *exec, phx_error *err)
{
    phx_code rc = PHX_OK;
    const phx_dims *d = exec->dims;
    const phx_layer_weights *w = &exec->parts.weights->layers[0];
    const int64_t width = d->n_heads * d->d_v;
    const size_t n = (size_t)d->d_hidden;
    const void *x = NULL, *view = NULL;
    device_copies copies = {.backend = exec->parts.backend};
    float *sharded = phx_alloc(n, sizeof(float));
    uint8_t *row = phx_alloc((size_t)width, exec->act_bytes);
    if (!row || !sharded) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "self-check row");
        goto out;
    }
    fill_row(exec, row, width, 20260101);
    rc = put(&copies, row, (size_t)width * exec->act_bytes, &x, err);
    if (rc != PHX_OK)
        goto out;
    const uint8_t *mine = (const uint8_t *)x + (size_t)(exec->rank->heads.first * d->d_v) * exec->act_bytes;
    exec->parts.ops->leaf_sum(exec->pool, &(phx_leaf_sum_args){
                                              .n_tokens = 1,
                                              .n_out = d->d_hidden,
                                              .n_leaves = exec->n_leaves,
                                              .fixed = &w->o,
                                              .h_fixed = phx_exec_act(exec, mine, width),
                                              .fixed_bounds = w->o_bounds,
                                              .out = exec->buf.partial,
                                          });
    rc = phx_exchange(exec->parts.comm, exec->buf.partial, n, err);
    if (rc == PHX_OK)
        rc = phx_exec_view(exec, exec->buf.partial, n * sizeof(float), &view, err);
    if (rc != PHX_OK || exec->rank->tp_rank != 0)
        goto out;
    memcpy(sharded, view, n * sizeof(float));
    rc = whole_product(exec, x, &copies, err);
    if (rc == PHX_OK)
        rc = phx_exec_view(exec, exec->buf.partial, n * sizeof(float), &view, err);
    if (rc == PHX_OK)
        rc = compare_products(exec, sharded, view, n, err);
out:
    give_all(&copies);
    phx_free(row);
    phx_free(sharded);
    return rc;
}

/* A few random tokens of an invented step in cache block 0. */
static phx_code make_tokens(phx_exec *exec, phx_error *err)
{
    const size_t row_bytes = (size_t)exec->dims->d_hidden * exec->act_bytes;
    uint8_t *rows = phx_alloc((size_t)exec->n_tokens, row_bytes);
    if (!rows)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "self-check rows");
    for (int64_t t = 0; t < exec->n_tokens; t++) {
        exec->host.positions[t] = (int32_t)t;
        exec->host.n_keys[t] = (int32_t)t + 1;
        exec->host.entries[t] = t;
        exec->host.blocks[t] = exec->buf.block_tables; /* all zero before the first slot opens */
        fill_row(exec, rows + (size_t)t * row_bytes, exec->dims->d_hidden, (uint64_t)t + 1);
    }
    phx_code rc = phx_exec_upload_rows(exec, err);
    if (rc == PHX_OK)
        rc = phx_upload(exec->parts.backend, exec->buf.norm_act, rows, (size_t)exec->n_tokens * row_bytes,
                        err);
    if (rc == PHX_OK)
        rc = phx_exec_wait(exec, err);
    phx_free(rows);
    return rc;
}

/* Absorbed attention of the stage's first layer against the expanded form, on a few random tokens: two roads
 * to the same numbers, so they agree to rounding. Uses cache block 0, which nothing holds before ready. */
static phx_code check_absorbed(phx_exec *exec, phx_error *err)
{
    enum { N = 16 };
    phx_code rc = PHX_OK;
    const int64_t width = phx_range_n(exec->rank->heads) * exec->dims->d_v;
    const phx_step_row row = {0};
    const phx_step_plan plan = {.n_rows = 1, .rows = &row};
    const void *view = NULL;
    float *absorbed = phx_alloc((size_t)(N * width) + 1, sizeof(float));
    if (!absorbed)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "self-check heads");
    exec->plan = &plan;
    exec->n_tokens =
        N < exec->parts.plan->request.n_step_tokens ? N : exec->parts.plan->request.n_step_tokens;
    if (exec->n_tokens > exec->parts.plan->n_context) /* the rotary table ends there */
        exec->n_tokens = exec->parts.plan->n_context;
    exec->n_own = exec->n_keys_max = exec->n_tokens;
    rc = make_tokens(exec, err);
    if (rc == PHX_OK)
        rc = phx_exec_attend_both(exec, absorbed, err);
    if (rc == PHX_OK)
        rc = phx_exec_view(exec, exec->buf.heads_act, (size_t)(exec->n_tokens * width) * exec->act_bytes,
                           &view, err);
    if (rc != PHX_OK) {
        phx_free(absorbed);
        return rc;
    }
    double worst = 0, largest = 0;
    for (int64_t i = 0; i < exec->n_tokens * width; i++) {
        const uint8_t *at = (const uint8_t *)view + (size_t)i * exec->act_bytes;
        float expanded;
        if (exec->numerics.act == PHX_BF16)
            expanded = phx_bf16_to_f32(*(const uint16_t *)(const void *)at);
        else
            memcpy(&expanded, at, sizeof(expanded));
        worst = fmax(worst, fabs((double)expanded - (double)absorbed[i]));
        largest = fmax(largest, fabs((double)absorbed[i]));
    }
    /* bf16 keeps 8 bits at four places of the absorbed path (query, latent twice, output); f32 keeps 24. */
    const double limit = (exec->numerics.act == PHX_BF16 ? 0.05 : 1e-4) * largest + 1e-6;
    if (!(worst <= limit))
        rc = PHX_FAIL(err, PHX_ERR_NUMERIC,
                      "layer %lld: absorbed and expanded attention differ by %g (largest %g)",
                      (long long)exec->rank->layers.first, worst, largest);
    phx_free(absorbed);
    return rc;
}
