/* worker/bench_kernels.c - `phalanx-worker --bench kernels`: what computes, timing and the table. */
#include "worker/bench_kernels.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "model/synth.h"

#define SAMPLE_US        200u  /* of one timing, at least */
#define SAMPLE_DEVICE_US 2000u /* there one waiting for all of a sample's runs is part of it */
#define SAMPLES_MAX      200
#define JSON_BYTES_MAX   (4u << 20)
#define READ_ROUNDS      3
#define PEAK_ROUNDS      10
#define PEAK_MMA_ROUNDS  20000

static const phx_dims small_dims;
static const phx_dims tiny_dims;

static const struct {
    const char *name;
    const char *preset;
    const phx_dims *dims; /* without a preset */
    int64_t tp;
    int64_t depth;
    int64_t n_rows_max;
} shapes[] = {{"ds-3b", "ds-3b", NULL, 1, 4096, 512},
              {"ds32-3b", "ds32-3b", NULL, 1, 4096, 512},
              {"deepseek-v3.2-tp8", "deepseek-v3.2", NULL, 8, 4096, 512},
              {"small", NULL, &small_dims, 1, 4096, 512},
              {"tiny", NULL, &tiny_dims, 1, 192, 20}};

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

/* Every op on the emulator in some seconds. */
static const phx_dims tiny_dims = {.n_vocab = 384,
                                   .d_hidden = 256,
                                   .d_ff_dense = 384,
                                   .d_ff_expert = 128,
                                   .n_heads = 2,
                                   .d_nope = 64,
                                   .d_rope = 64,
                                   .d_v = 64,
                                   .q_lora = 128,
                                   .kv_lora = 128,
                                   .n_experts = 4,
                                   .n_experts_used = 2,
                                   .n_experts_shared = 1,
                                   .n_expert_groups = 2,
                                   .n_expert_groups_used = 1,
                                   .norm_topk = true,
                                   .routed_scale = 1,
                                   .index_n_heads = 2,
                                   .index_d = 64,
                                   .index_topk = 64};

static phx_code prepare(phx_kernels_bench *bench, phx_error *err);
static void measure_limits(phx_kernels_bench *bench);
static void print_head(const phx_kernels_bench *bench);
static void json_head(phx_kernels_bench *bench);
static phx_code json_end(phx_kernels_bench *bench, phx_error *err);

phx_code phx_bench_kernels(const phx_bench_options *options, phx_error *err)
{
    phx_kernels_bench bench = {.options = options, .err = err};
    phx_buf_init(&bench.json, JSON_BYTES_MAX);
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        if (strcmp(options->shape, shapes[i].name) == 0) {
            bench.dims =
                shapes[i].preset ? &phx_preset_find(phx_str_of(shapes[i].preset))->dims : shapes[i].dims;
            bench.tp = shapes[i].tp;
            bench.depth = shapes[i].depth;
            bench.n_rows_max = shapes[i].n_rows_max;
        }
    }
    phx_code rc = PHX_OK;
    if (!bench.dims) {
        rc = PHX_FAIL(err, PHX_ERR_INVALID,
                      "--shape '%s': use ds-3b, ds32-3b, deepseek-v3.2-tp8, small or tiny", options->shape);
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
    phx_bench_memory_done(&bench);
    phx_backend_destroy(bench.backend);
    phx_pool_destroy(bench.pool);
    phx_buf_done(&bench.json);
    return rc;
}

static phx_code prepare(phx_kernels_bench *bench, phx_error *err)
{
    phx_bench_machine_describe(&bench->info);
    phx_code rc = phx_bench_open_backend(bench->options, &bench->pool, &bench->backend, err);
    if (rc != PHX_OK)
        return rc;
    bench->ops = bench->backend->ops;
    bench->queue = bench->backend->queue;
    bench->is_emu = strcmp(bench->backend->name, "emu") == 0;
    rc = phx_bench_memory_init(bench, err);
    if (rc != PHX_OK)
        return rc;
    measure_limits(bench);
    return phx_sync(bench->backend, err);
}

/* Seconds of the best of some runs of a loop on the device. */
static double best_seconds(phx_kernels_bench *bench, void (*run)(phx_kernels_bench *bench))
{
    double best = INFINITY;
    for (int i = 0; i < (bench->is_emu ? 1 : PEAK_ROUNDS) && bench->rc == PHX_OK; i++) {
        const uint64_t start = phx_clock_us();
        run(bench);
        bench->rc = phx_sync(bench->backend, bench->err);
        const double seconds = (double)(phx_clock_us() - start) * 1e-6;
        best = seconds < best ? seconds : best;
    }
    return best;
}

static void read_all(phx_kernels_bench *bench)
{
    bench->backend->peaks->read(bench->queue, bench->weights.data, bench->weights.n_bytes,
                                (uint32_t *)(void *)bench->memory.data);
}

static void multiply(phx_kernels_bench *bench)
{
    bench->backend->peaks->multiply(bench->queue, bench->is_emu ? 2 : PEAK_MMA_ROUNDS,
                                    (float *)(void *)bench->memory.data);
}

static void measure_limits(phx_kernels_bench *bench)
{
    const phx_bench_options *options = bench->options;
    const phx_device_peaks *peaks = bench->backend->peaks;
    if (peaks) {
        bench->ops_unit = "mma bf16";
        bench->read_limit = (double)bench->weights.n_bytes / best_seconds(bench, read_all);
        bench->ops_limit =
            peaks->ops_per_round * (bench->is_emu ? 2 : PEAK_MMA_ROUNDS) / best_seconds(bench, multiply);
        return;
    }
    bench->ops_unit = phx_peak_name(phx_peak_of_level(options->level));
    bench->read_limit =
        phx_peak_read(bench->pool, bench->weights.data, bench->weights.n_bytes, READ_ROUNDS).best;
    bench->ops_limit = phx_peak_measure(bench->pool, phx_peak_of_level(options->level));
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

static void run_and_wait(phx_kernels_bench *bench, const phx_kernel_case *item, uint64_t n_runs)
{
    for (uint64_t i = 0; i < n_runs; i++)
        item->run(bench, item->user);
    if (bench->backend->device)
        bench->rc = phx_sync(bench->backend, bench->err);
}

/* The number of runs per sample doubles until a sample is long enough for the clock. A device works off a
 * queue of them, so that the way to it is paid once a sample. */
static timing measure(phx_kernels_bench *bench, const phx_kernel_case *item)
{
    double samples[SAMPLES_MAX];
    int n_samples = 0;
    uint64_t n_runs = 1;
    const uint64_t case_us = bench->options->case_ms * UINT64_C(1000);
    const uint64_t sample_us = bench->is_emu ? 0 : bench->backend->device ? SAMPLE_DEVICE_US : SAMPLE_US;
    if (bench->backend->device && !bench->is_emu)
        run_and_wait(bench, item, 1); /* the first launch of a kernel loads its code */
    const uint64_t first = phx_clock_us();
    while (n_samples < SAMPLES_MAX && bench->rc == PHX_OK) {
        const uint64_t start = phx_clock_us();
        run_and_wait(bench, item, n_runs);
        const uint64_t now = phx_clock_us();
        if (now - start < sample_us) {
            n_runs *= 2;
            continue;
        }
        samples[n_samples++] = (double)(now - start) / (double)n_runs;
        if (bench->is_emu || (now - first > case_us && n_samples >= 3))
            break;
    }
    if (n_samples == 0)
        return (timing){0.0, 0.0};
    qsort(samples, (size_t)n_samples, sizeof(samples[0]), compare_doubles);
    return (timing){samples[0], samples[n_samples / 2]};
}

/* The case that failed is named; later ones would say nothing. */
static phx_code name_failure(phx_kernels_bench *bench, const phx_kernel_case *item)
{
    const phx_error inner = *bench->err;
    *bench->err = (phx_error){0}; /* told again, with the case */
    return PHX_FAIL(bench->err, inner.code, "%s %s, %lld rows: %.200s", item->op, item->shape,
                    (long long)item->n_rows, inner.text);
}

void phx_bench_case(phx_kernels_bench *bench, const phx_kernel_case *item)
{
    if (bench->rc == PHX_OK)
        bench->rc =
            phx_upload(bench->backend, bench->memory.data, bench->mirror, bench->memory_used, bench->err);
    if (bench->rc != PHX_OK)
        return;
    const timing t = measure(bench, item);
    if (bench->rc != PHX_OK) {
        bench->rc = name_failure(bench, item);
        return;
    }
    const double read_us = item->bytes / bench->read_limit * 1e6;
    const double ops_us = item->ops / bench->ops_limit * 1e6;
    const double fraction = fmax(read_us, ops_us) / t.best_us;
    const bool limited = item->ops > 0.0 && !bench->is_emu;
    const char *limit = !limited ? "none" : read_us >= ops_us ? "read" : "multiply";
    if (!bench->options->json) {
        char of_limit[32] = "-";
        if (limited)
            (void)snprintf(of_limit, sizeof(of_limit), "%.1f %% of %s", 100.0 * fraction, limit);
        (void)fprintf(bench->options->out, "%-18s %-30s %5lld %11.1f %11.1f %9.2f %9.1f   %s\n", item->op,
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

static void print_columns(const phx_bench_options *options)
{
    (void)fprintf(options->out, "%-18s %-30s %5s %11s %11s %9s %9s\n", "op", "shape", "rows", "best us",
                  "median us", "GB/s", "GFLOP/s");
}

static void print_device_head(const phx_kernels_bench *bench)
{
    const phx_bench_options *options = bench->options;
    const double stated = bench->backend->peaks->stated_bytes_per_s;
    (void)fprintf(options->out, "%s, %s; shapes of %s in %s\n", bench->backend->description, bench->info.date,
                  options->shape, phx_format_name(options->format));
    if (bench->is_emu) {
        (void)fprintf(options->out, "the emulator: every row ran once, its times mean nothing\n\n");
        return;
    }
    (void)fprintf(options->out, "limits, as measured here: read %.1f GB/s, %s %.1f TFLOP/s",
                  bench->read_limit * 1e-9, bench->ops_unit, bench->ops_limit * 1e-12);
    if (stated > 0.0)
        (void)fprintf(options->out, "; memory by its clock and width: %.1f GB/s", stated * 1e-9);
    (void)fprintf(options->out,
                  "\nweights come from %.1f GB of device memory in turn, not from a cache of %.0f MB; runs "
                  "are queued, so the host's way to the device counts where it is longer than the kernel\n\n",
                  (double)bench->weights.n_bytes * 1e-9, (double)bench->backend->peaks->cache_bytes * 1e-6);
}

static void print_head(const phx_kernels_bench *bench)
{
    const phx_bench_options *options = bench->options;
    if (bench->backend->peaks)
        print_device_head(bench);
    else
        (void)fprintf(options->out,
                      "%s, %u threads, level %s, %s; shapes of %s in %s\n"
                      "limits: read %.1f GB/s, %s %.1f GFLOP/s; weights come from memory, not from a "
                      "cache\n\n",
                      bench->info.chip, options->n_threads, phx_level_name(options->level), bench->info.date,
                      options->shape, phx_format_name(options->format), bench->read_limit * 1e-9,
                      bench->ops_unit, bench->ops_limit * 1e-9);
    print_columns(options);
}

static void json_limit(phx_json_writer *w, const char *key, double value, bool is_known)
{
    phx_json_key(w, key);
    if (is_known)
        phx_json_f64(w, value);
    else
        phx_json_null(w);
}

static void json_head(phx_kernels_bench *bench)
{
    const phx_bench_options *options = bench->options;
    phx_json_writer *w = &bench->writer;
    phx_json_writer_init(w, &bench->json);
    phx_json_begin_object(w);
    phx_bench_machine_write(w, &bench->info);
    phx_json_key(w, "backend");
    phx_json_text(w, bench->backend->name);
    phx_json_key(w, "device");
    phx_json_text(w, bench->backend->description);
    phx_json_key(w, "threads");
    phx_json_u64(w, options->n_threads);
    phx_json_key(w, "bench_level");
    phx_json_text(w, bench->backend->level);
    phx_json_key(w, "shapes");
    phx_json_text(w, options->shape);
    phx_json_key(w, "format");
    phx_json_text(w, phx_format_name(options->format));
    json_limit(w, "read_bytes_per_s", bench->read_limit, !bench->is_emu);
    json_limit(w, "ops_per_s", bench->ops_limit, !bench->is_emu);
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
