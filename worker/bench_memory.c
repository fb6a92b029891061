/* worker/bench_memory.c - memory of `--bench kernels`: weights that no cache holds, activations, and the
 * host's mirror of the latter where a device computes. */
#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "worker/bench_kernels.h"

#define MEMORY_BYTES                                                                                      \
    ((size_t)200 << 20) /* the widest cases: 512 rows of queries and latents and parts of attention; 4096 \
                           rows of o_proj, rounded */
#define MEMORY_BYTES_EMU     ((size_t)56 << 20) /* 40 of them room for rounded rows */
#define DEVICE_WEIGHTS_BYTES ((size_t)4 << 30)  /* many times any second-level cache */
#define EMU_WEIGHTS_BYTES    ((size_t)8 << 20)
#define ALIGN                ((size_t)256)

/* Bytes of which every element type reads finite numbers near 1 of either sign: no code that is slow. */
static uint8_t plain_byte(uint64_t bits)
{
    return (uint8_t)(0x3Cu | (bits & 0x83u));
}

static size_t weight_bytes(const phx_kernels_bench *bench)
{
    const uint64_t half = bench->backend->free_bytes / 2 / PHX_BENCH_TILE_BYTES * PHX_BENCH_TILE_BYTES;
    if (!bench->backend->device)
        return phx_peak_read_bytes();
    if (bench->is_emu)
        return EMU_WEIGHTS_BYTES;
    return half < DEVICE_WEIGHTS_BYTES ? (size_t)half : DEVICE_WEIGHTS_BYTES;
}

static phx_code take_on_device(phx_kernels_bench *bench, phx_error *err)
{
    const phx_memory *pinned = bench->backend->pinned;
    const size_t n_weights = weight_bytes(bench);
    const size_t n_memory = bench->is_emu ? MEMORY_BYTES_EMU : MEMORY_BYTES;
    void *p = NULL;
    phx_code rc = phx_device_take(bench->backend, n_weights, &p, err);
    if (rc != PHX_OK)
        return rc;
    bench->weights = (phx_bench_buffer){p, n_weights};
    rc = phx_device_take(bench->backend, n_memory, &p, err);
    if (rc != PHX_OK)
        return rc;
    bench->memory = (phx_bench_buffer){p, n_memory};
    rc = pinned->take(pinned->user, n_memory, &p, err);
    if (rc == PHX_OK)
        bench->mirror = p;
    return rc;
}

phx_code phx_bench_memory_init(phx_kernels_bench *bench, phx_error *err)
{
    phx_rng rng = {.seed = 1};
    phx_code rc = PHX_OK;
    bench->tile = phx_alloc(PHX_BENCH_TILE_BYTES, 1);
    if (!bench->tile)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "random numbers");
    for (size_t i = 0; i < PHX_BENCH_TILE_BYTES; i++)
        bench->tile[i] = plain_byte(phx_rng_u64(&rng));
    if (bench->backend->device) {
        rc = take_on_device(bench, err);
    } else {
        rc = phx_bench_buffer_init(&bench->weights, weight_bytes(bench), err);
        if (rc == PHX_OK)
            rc = phx_bench_buffer_init(&bench->memory, MEMORY_BYTES, err);
        bench->mirror = bench->memory.data;
    }
    if (rc != PHX_OK)
        return rc;
    const uint8_t *from = bench->tile;
    if (bench->backend->device) /* pinned: copies as fast as the bus */
        from = memcpy(bench->mirror, bench->tile, PHX_BENCH_TILE_BYTES);
    for (size_t at = 0; at < bench->weights.n_bytes && rc == PHX_OK; at += PHX_BENCH_TILE_BYTES) {
        if (bench->backend->device)
            rc = phx_upload(bench->backend, bench->weights.data + at, from, PHX_BENCH_TILE_BYTES, err);
        else
            memcpy(bench->weights.data + at, from, PHX_BENCH_TILE_BYTES);
    }
    return rc == PHX_OK ? phx_sync(bench->backend, err) : rc;
}

void phx_bench_memory_done(phx_kernels_bench *bench)
{
    if (bench->backend && bench->backend->device) {
        const phx_memory *pinned = bench->backend->pinned;
        phx_device_give(bench->backend, bench->weights.data, bench->weights.n_bytes);
        phx_device_give(bench->backend, bench->memory.data, bench->memory.n_bytes);
        if (bench->mirror)
            pinned->give_back(pinned->user, bench->mirror, bench->memory.n_bytes);
    } else {
        phx_bench_buffer_done(&bench->weights);
        phx_bench_buffer_done(&bench->memory);
    }
    phx_free(bench->tile);
}

void *phx_bench_memory(phx_kernels_bench *bench, int64_t n, size_t bytes)
{
    const size_t n_bytes = ((size_t)n * bytes + ALIGN - 1) / ALIGN * ALIGN;
    assert(bench->memory_used + n_bytes <= bench->memory.n_bytes);
    uint8_t *data = bench->memory.data + bench->memory_used;
    uint8_t *mirror = phx_bench_host(bench, data);
    bench->memory_used += n_bytes;
    for (size_t at = 0; at < n_bytes; at += PHX_BENCH_TILE_BYTES)
        memcpy(mirror + at, bench->tile,
               n_bytes - at < PHX_BENCH_TILE_BYTES ? n_bytes - at : PHX_BENCH_TILE_BYTES);
    return data;
}

phx_matrix phx_bench_matrix(phx_kernels_bench *bench, phx_format format, int64_t n_rows, int64_t n_cols)
{
    phx_matrix m = {.data = bench->weights.data, .n_rows = n_rows, .n_cols = n_cols, .format = format};
    const int64_t block = phx_format_block(format);
    const int64_t block_rows = phx_format_block_rows(format);
    if (block > 0) {
        m.scale_stride = (n_cols + block - 1) / block;
        if (format == PHX_FORMAT_INT4_G32) /* a share of the bytes that counts: in the window */
            m.group_scales = (const void *)bench->weights.data;
        else
            m.scales = phx_bench_memory(bench, (n_rows + block_rows - 1) / block_rows * m.scale_stride,
                                        phx_format_scale_bytes(format));
        const int32_t pack = format == PHX_FORMAT_FP8_BLOCK ? phx_ops_pack(&bench->ops) : 0;
        m.pack = pack > 0 && phx_pack_fits(n_rows, n_cols, pack) ? pack : 0;
    }
    phx_bench_window(bench, &m);
    return m;
}

void phx_bench_window(phx_kernels_bench *bench, phx_matrix *matrix)
{
    const size_t n_bytes = ((size_t)phx_bench_matrix_bytes(matrix) + ALIGN - 1) / ALIGN * ALIGN;
    assert(n_bytes <= bench->weights.n_bytes);
    if (bench->weights_at + n_bytes > bench->weights.n_bytes)
        bench->weights_at = 0;
    matrix->data = bench->weights.data + bench->weights_at;
    if (matrix->group_scales)
        matrix->group_scales =
            (const void *)((const uint8_t *)matrix->data +
                           (size_t)matrix->n_rows * phx_format_row_bytes(matrix->format, matrix->n_cols));
    bench->weights_at += n_bytes;
}
