/* worker/bench_kernels.c - `phalanx-worker --bench kernels`: memory, timing and the table. */
#include "worker/bench_kernels.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "model/synth.h"

#define MEMORY_BYTES   ((size_t)96 << 20) /* the widest case: 512 rows of queries and latents */
#define TILE_BYTES     ((size_t)1 << 20)  /* of random weights, repeated */
#define SAMPLE_US      200u               /* of one timing, at least */
#define SAMPLES_MAX    200
#define JSON_BYTES_MAX (4u << 20)
#define READ_ROUNDS    3

static const struct {
    const char *name;
    const char *preset; /* NULL: small_dims */
    int64_t tp;
} shapes[] = {{"ds-3b", "ds-3b", 1},
              {"ds32-3b", "ds32-3b", 1},
              {"deepseek-v3.2-tp8", "deepseek-v3.2", 8},
              {"small", NULL, 1}};

/* Every op in little time: for trying out the bench, not for figures. */
static const phx_dims small_dims = {.n_vocab = 1024,
                                    .d_hidden = 256,
                                    .d_ff_dense = 512,
                                    .d_ff_expert = 128,
                                    .n_heads = 2,
                                    .d_nope = 64,
                                    .d_rope = 32,
                                    .d_v = 64,
                                    .q_lora = 128,
                                    .kv_lora = 128,
                                    .n_experts = 8,
                                    .n_experts_used = 2,
                                    .n_experts_shared = 1,
                                    .n_expert_groups = 2,
                                    .n_expert_groups_used = 1,
                                    .norm_topk = true,
                                    .routed_scale = 1,
                                    .index_n_heads = 2,
                                    .index_d = 64,
                                    .index_topk = 128};

static phx_code prepare(phx_kernels_bench *bench, phx_error *err);
static void fill_weights(phx_kernels_bench *bench);
static void print_head(const phx_kernels_bench *bench);
static void json_head(phx_kernels_bench *bench);
static phx_code json_end(phx_kernels_bench *bench, phx_error *err);

phx_code phx_bench_kernels(const phx_bench_options *options, phx_error *err)
{
    phx_kernels_bench bench = {.options = options};
    phx_buf_init(&bench.json, JSON_BYTES_MAX);
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        if (strcmp(options->shape, shapes[i].name) == 0) {
            bench.dims =
                shapes[i].preset ? &phx_preset_find(phx_str_of(shapes[i].preset))->dims : &small_dims;
            bench.tp = shapes[i].tp;
        }
    }
    phx_code rc = PHX_OK;
    if (!bench.dims) {
        rc = PHX_FAIL(err, PHX_ERR_INVALID, "--shape '%s': use ds-3b, ds32-3b, deepseek-v3.2-tp8 or small",
                      options->shape);
        goto out;
    }
    rc = prepare(&bench, err);
    if (rc != PHX_OK)
        goto out;
    if (options->json)
        json_head(&bench);
    else
        print_head(&bench);
    rc = phx_bench_ops(&bench, err);
    if (rc == PHX_OK && options->json)
        rc = json_end(&bench, err);
out:
    phx_pool_destroy(bench.pool);
    phx_bench_buffer_done(&bench.weights);
    phx_bench_buffer_done(&bench.memory);
    phx_buf_done(&bench.json);
    return rc;
}

static phx_code prepare(phx_kernels_bench *bench, phx_error *err)
{
    const phx_bench_options *options = bench->options;
    phx_bench_machine_describe(&bench->info);
    phx_ops_choose(options->level, &bench->ops);
    phx_code rc = phx_pool_create(options->n_threads, NULL, &bench->pool, err);
    if (rc == PHX_OK)
        rc = phx_bench_buffer_init(&bench->weights, phx_peak_read_bytes(), err);
    if (rc == PHX_OK)
        rc = phx_bench_buffer_init(&bench->memory, MEMORY_BYTES, err);
    if (rc != PHX_OK)
        return rc;
    bench->read_limit =
        phx_peak_read(bench->pool, bench->weights.data, bench->weights.n_bytes, READ_ROUNDS).best;
    bench->ops_limit = phx_peak_measure(bench->pool, phx_peak_of_level(options->level));
    fill_weights(bench);
    return PHX_OK;
}

/* Bytes of which every element type reads finite numbers near 1 of either sign: no code that is slow. */
static uint8_t plain_byte(uint64_t bits)
{
    return (uint8_t)(0x3Cu | (bits & 0x83u));
}

static void fill_weights(phx_kernels_bench *bench)
{
    phx_rng rng = {.seed = 1};
    uint8_t *data = bench->weights.data;
    for (size_t i = 0; i < TILE_BYTES; i++)
        data[i] = plain_byte(phx_rng_u64(&rng));
    for (size_t at = TILE_BYTES; at < bench->weights.n_bytes; at += TILE_BYTES)
        memcpy(data + at, data, TILE_BYTES);
}

void *phx_bench_memory(phx_kernels_bench *bench, int64_t n, size_t bytes)
{
    const size_t n_bytes = ((size_t)n * bytes + 63) / 64 * 64;
    assert(bench->memory_used + n_bytes <= bench->memory.n_bytes);
    uint8_t *data = bench->memory.data + bench->memory_used;
    bench->memory_used += n_bytes;
    for (size_t at = 0; at < n_bytes; at += TILE_BYTES)
        memcpy(data + at, bench->weights.data, n_bytes - at < TILE_BYTES ? n_bytes - at : TILE_BYTES);
    return data;
}

phx_matrix phx_bench_matrix(phx_kernels_bench *bench, phx_format format, int64_t n_rows, int64_t n_cols)
{
    phx_matrix m = {.data = bench->weights.data, .n_rows = n_rows, .n_cols = n_cols, .format = format};
    const int64_t block = phx_format_block(format);
    if (block > 0) {
        m.scale_stride = (n_cols + block - 1) / block;
        m.scales = phx_bench_memory(bench, (n_rows + block - 1) / block * m.scale_stride, sizeof(float));
    }
    phx_bench_window(bench, &m);
    return m;
}

void phx_bench_window(phx_kernels_bench *bench, phx_matrix *matrix)
{
    const size_t n_bytes = ((size_t)phx_bench_matrix_bytes(matrix) + 63) / 64 * 64;
    assert(n_bytes <= bench->weights.n_bytes);
    if (bench->weights_at + n_bytes > bench->weights.n_bytes)
        bench->weights_at = 0;
    matrix->data = bench->weights.data + bench->weights_at;
    bench->weights_at += n_bytes;
}

typedef struct timing {
    double best_us;
    double median_us;
} timing;

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* The number of runs per sample doubles until a sample is long enough for the clock. */
static timing measure(phx_kernels_bench *bench, const phx_kernel_case *item)
{
    double samples[SAMPLES_MAX];
    int n_samples = 0;
    uint64_t n_runs = 1;
    const uint64_t case_us = bench->options->case_ms * UINT64_C(1000);
    const uint64_t first = phx_clock_us();
    while (n_samples < SAMPLES_MAX) {
        const uint64_t start = phx_clock_us();
        for (uint64_t i = 0; i < n_runs; i++)
            item->run(bench, item->user);
        const uint64_t now = phx_clock_us();
        if (now - start < SAMPLE_US) {
            n_runs *= 2;
            continue;
        }
        samples[n_samples++] = (double)(now - start) / (double)n_runs;
        if (now - first > case_us && n_samples >= 3)
            break;
    }
    qsort(samples, (size_t)n_samples, sizeof(samples[0]), compare_doubles);
    return (timing){samples[0], samples[n_samples / 2]};
}

void phx_bench_case(phx_kernels_bench *bench, const phx_kernel_case *item)
{
    const timing t = measure(bench, item);
    const double read_us = item->bytes / bench->read_limit * 1e6;
    const double ops_us = item->ops / bench->ops_limit * 1e6;
    const double fraction = fmax(read_us, ops_us) / t.best_us;
    const bool limited = item->ops > 0.0;
    const char *limit = !limited ? "none" : read_us >= ops_us ? "read" : "multiply";
    if (!bench->options->json) {
        char of_limit[32] = "-";
        if (limited)
            (void)snprintf(of_limit, sizeof(of_limit), "%.1f %% of %s", 100.0 * fraction, limit);
        (void)fprintf(bench->options->out, "%-14s %-30s %5lld %11.1f %11.1f %9.2f %9.1f   %s\n", item->op,
                      item->shape, (long long)item->n_rows, t.best_us, t.median_us,
                      item->bytes / t.best_us * 1e-3, item->ops / t.best_us * 1e-3, of_limit);
        (void)fflush(bench->options->out);
        return;
    }
    phx_json_writer *w = &bench->writer;
    phx_json_begin_object(w);
    phx_json_key(w, "op");
    phx_json_text(w, item->op);
    phx_json_key(w, "shape");
    phx_json_text(w, item->shape);
    phx_json_key(w, "rows");
    phx_json_i64(w, item->n_rows);
    phx_json_key(w, "best_us");
    phx_json_f64(w, t.best_us);
    phx_json_key(w, "median_us");
    phx_json_f64(w, t.median_us);
    phx_json_key(w, "bytes");
    phx_json_f64(w, item->bytes);
    phx_json_key(w, "ops");
    phx_json_f64(w, item->ops);
    phx_json_key(w, "fraction");
    if (limited)
        phx_json_f64(w, fraction);
    else
        phx_json_null(w);
    phx_json_key(w, "limit");
    phx_json_text(w, limit);
    phx_json_end_object(w);
}

static void print_head(const phx_kernels_bench *bench)
{
    const phx_bench_options *options = bench->options;
    (void)fprintf(options->out,
                  "%s, %u threads, level %s, %s; shapes of %s in %s\n"
                  "limits: read %.1f GB/s, %s %.1f GFLOP/s; weights come from memory, not from a cache\n\n"
                  "%-14s %-30s %5s %11s %11s %9s %9s\n",
                  bench->info.chip, options->n_threads, phx_level_name(options->level), bench->info.date,
                  options->shape, phx_format_name(options->format), bench->read_limit * 1e-9,
                  phx_peak_name(phx_peak_of_level(options->level)), bench->ops_limit * 1e-9, "op", "shape",
                  "rows", "best us", "median us", "GB/s", "GFLOP/s");
}

static void json_head(phx_kernels_bench *bench)
{
    const phx_bench_options *options = bench->options;
    phx_json_writer *w = &bench->writer;
    phx_json_writer_init(w, &bench->json);
    phx_json_begin_object(w);
    phx_bench_machine_write(w, &bench->info);
    phx_json_key(w, "threads");
    phx_json_u64(w, options->n_threads);
    phx_json_key(w, "bench_level");
    phx_json_text(w, phx_level_name(options->level));
    phx_json_key(w, "shapes");
    phx_json_text(w, options->shape);
    phx_json_key(w, "format");
    phx_json_text(w, phx_format_name(options->format));
    phx_json_key(w, "read_bytes_per_s");
    phx_json_f64(w, bench->read_limit);
    phx_json_key(w, "ops_per_s");
    phx_json_f64(w, bench->ops_limit);
    phx_json_key(w, "rows");
    phx_json_begin_array(w);
}

static phx_code json_end(phx_kernels_bench *bench, phx_error *err)
{
    phx_json_end_array(&bench->writer);
    phx_json_end_object(&bench->writer);
    if (bench->json.code != PHX_OK)
        return PHX_FAIL(err, bench->json.code, "the table as JSON");
    (void)fprintf(bench->options->out, "%s\n", bench->json.ptr);
    return PHX_OK;
}
