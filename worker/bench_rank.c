/* worker/bench_rank.c - `phalanx-worker --bench rank`: decode steps of one rank of a model of full size, by
 * the executor that serves (worker/exec), with random weights and collectives that only take their time.
 *
 * The model is the preset's, or with --layers a model that has only those layers: which number a layer has
 * does not matter to its shapes. Its checkpoint is written sparse, headers without bytes, so that plan and
 * loader are the real ones; the loader then makes the numbers in place. Layers of one kind cost the same, so
 * that runs with no layer, with the dense ones and with the mixtures give the step of the whole model. */
#include "worker/bench_rank.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "model/step_buf.h"
#include "model/synth_fill.h"

#define WARM_STEPS    3u
#define FILL_BYTES    ((size_t)1 << 20)
#define READ_BYTES    ((size_t)2 << 30) /* of weights, to measure the limit of reading */
#define LAYERS_MAX    256
#define DEPTH_DEFAULT 4096u
#define MEMORY_SHARE  0.8 /* of the host's memory that may be planned with */

/* Every kind of layer in no time: for tests. */
static const phx_preset tiny = {"tiny",
                                "for tests",
                                {.model_type = "deepseek_v32",
                                 .architecture = "DeepseekV32ForCausalLM",
                                 .n_layers = 5,
                                 .n_layers_dense = 2,
                                 .n_vocab = 1024,
                                 .n_positions = 4096,
                                 .d_hidden = 256,
                                 .d_ff_dense = 1024,
                                 .d_ff_expert = 1024,
                                 .n_heads = 8,
                                 .d_nope = 64,
                                 .d_rope = 64,
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
                                 .rms_eps = 1e-6,
                                 .index_n_heads = 4,
                                 .index_d = 64,
                                 .index_topk = 64,
                                 .rope = {PHX_ROPE_PLAIN, 10000, 1, 32, 1, 1, 1, 4096},
                                 .bos_id = 0,
                                 .eos_ids = {1},
                                 .n_eos = 1},
                                PHX_SYNTH_FP8,
                                0,
                                NULL};

static phx_code choose_model(phx_rank_bench *bench, phx_error *err);
static phx_code build(phx_rank_bench *bench, phx_error *err);
static phx_code measure_read(phx_rank_bench *bench, phx_error *err);
static phx_code measure(phx_rank_bench *bench, phx_error *err);
static void take_down(phx_rank_bench *bench);

phx_code phx_bench_rank(const phx_bench_options *options, phx_error *err)
{
    phx_rank_bench bench = {.options = options,
                            .delay = {options->rank.latency_ns * 1e-3, options->rank.link_gbs * 1e9}};
    phx_bench_machine_describe(&bench.info);
    phx_code rc = choose_model(&bench, err);
    if (rc == PHX_OK)
        rc = phx_bench_open_backend(options, &bench.pool, &bench.backend, err);
    if (rc == PHX_OK)
        rc = build(&bench, err);
    if (rc == PHX_OK)
        rc = measure_read(&bench, err);
    if (rc == PHX_OK)
        rc = measure(&bench, err);
    if (rc == PHX_OK)
        rc = phx_rank_report(&bench, err);
    take_down(&bench);
    return rc;
}

/* ---- the model ---- */

/* "0,3": ascending numbers below n. Counts those of each kind. */
static phx_code count_layers(phx_rank_bench *bench, phx_str list, phx_error *err)
{
    const phx_dims *d = &bench->preset->dims;
    int64_t before = -1;
    phx_str item;
    while (list.n > 0) {
        size_t n = 0;
        uint64_t layer;
        while (n < list.n && list.ptr[n] != ',')
            n++;
        item = (phx_str){list.ptr, n};
        list = n < list.n ? (phx_str){list.ptr + n + 1, list.n - n - 1} : (phx_str){list.ptr, 0};
        if (!phx_str_to_u64(item, 0, (uint64_t)d->n_layers - 1, &layer) || (int64_t)layer <= before)
            return PHX_FAIL(err, PHX_ERR_INVALID,
                            "--layers takes ascending numbers from 0 to %lld, as in 0,%lld; not '%s'",
                            (long long)d->n_layers - 1, (long long)d->n_layers_dense,
                            bench->options->rank.layers);
        before = (int64_t)layer;
        bench->n_resident[phx_layer_is_moe(d, before) ? PHX_KIND_MOE : PHX_KIND_DENSE]++;
    }
    return before >= 0 ? PHX_OK : PHX_FAIL(err, PHX_ERR_INVALID, "--layers names no layer");
}

static phx_code choose_model(phx_rank_bench *bench, phx_error *err)
{
    const phx_bench_options *o = bench->options;
    const bool is_tiny = strcmp(o->rank.preset, tiny.name) == 0;
    bench->preset = is_tiny ? &tiny : phx_preset_find(phx_str_of(o->rank.preset));
    if (!bench->preset)
        return PHX_FAIL(err, PHX_ERR_INVALID, "--preset '%s': phalanx synth --help lists them",
                        o->rank.preset);
    if (o->rank.rank >= o->rank.tp)
        return PHX_FAIL(err, PHX_ERR_INVALID, "--rank %u of --tp %u", o->rank.rank, o->rank.tp);
    bench->dims = bench->preset->dims;
    phx_dims *d = &bench->dims;
    d->n_layers_mtp = 0;
    bench->n_all[PHX_KIND_DENSE] = d->n_experts > 0 ? d->n_layers_dense : d->n_layers;
    bench->n_all[PHX_KIND_MOE] = d->n_layers - bench->n_all[PHX_KIND_DENSE];
    memcpy(bench->n_resident, bench->n_all, sizeof(bench->n_all));
    if (o->rank.layers) {
        memset(bench->n_resident, 0, sizeof(bench->n_resident));
        const phx_code rc = count_layers(bench, phx_str_of(o->rank.layers), err);
        if (rc != PHX_OK)
            return rc;
    }
    d->n_layers = bench->n_resident[PHX_KIND_DENSE] + bench->n_resident[PHX_KIND_MOE];
    d->n_layers_dense = bench->n_resident[PHX_KIND_DENSE];
    bench->synth = (phx_synth_request){
        .dims = d, .format = bench->preset->format, .seed = 1, .sparse = true, .out_dir = bench->dir};
    if (o->rank.format && !phx_synth_format_parse(phx_str_of(o->rank.format), &bench->synth.format))
        return PHX_FAIL(err, PHX_ERR_INVALID, "--format '%s': phalanx synth --help lists them",
                        o->rank.format);
    return PHX_OK;
}

/* ---- the rank ---- */

static uint32_t n_steps(const phx_rank_bench *bench)
{
    return bench->is_emu ? 1 : bench->options->rank.n_steps;
}

/* Behind the depth all steps need their positions too. */
static phx_code choose_depth(phx_rank_bench *bench, phx_error *err)
{
    const uint32_t asked = bench->options->rank.depth;
    const int64_t max = bench->dims.n_positions - n_steps(bench) - WARM_STEPS;
    if (max < 1 || (int64_t)asked > max)
        return PHX_FAIL(err, PHX_ERR_INVALID,
                        "--depth %u and %u steps: %s has %lld positions, so the depth can be %lld at most",
                        asked, n_steps(bench) + WARM_STEPS, bench->preset->name,
                        (long long)bench->dims.n_positions, (long long)(max < 0 ? 0 : max));
    bench->depth = asked ? asked : max < DEPTH_DEFAULT ? (uint32_t)max : DEPTH_DEFAULT;
    return PHX_OK;
}

static phx_code make_plan(phx_rank_bench *bench, phx_error *err)
{
    const phx_bench_options *o = bench->options;
    phx_plan_request request;
    phx_plan_request_default(&request);
    const uint32_t n_context = (bench->depth + n_steps(bench) + WARM_STEPS + PHX_BLOCK_TOKENS - 1) /
                               PHX_BLOCK_TOKENS * PHX_BLOCK_TOKENS;
    request.layout.tp = o->rank.tp;
    request.n_threads = o->n_threads;
    request.n_context = n_context;
    request.n_batch = o->rank.n_batch;
    request.n_step_tokens = o->rank.n_batch;
    request.n_cache_tokens = n_context * o->rank.n_batch;
    request.memory_bytes = bench->backend->device
                               ? bench->backend->free_bytes
                               : (uint64_t)((double)bench->info.memory_bytes * MEMORY_SHARE);
    (void)snprintf(request.numerics.level, sizeof(request.numerics.level), "%s", bench->backend->level);
    return phx_plan_build(bench->checkpoint, &request, &bench->plan, err);
}

static phx_code make_comm(phx_rank_bench *bench, phx_error *err)
{
    const phx_plan_request *request = &bench->plan->request;
    const phx_step_bytes bytes =
        phx_step_buf_bytes(&bench->dims, request, &bench->plan->ranks[bench->options->rank.rank], 0, 0);
    const phx_comm_shape shape = {.rank = bench->options->rank.rank,
                                  .tp = request->layout.tp,
                                  .pp = 1,
                                  .exchange_bytes = bytes.exchange,
                                  .stage_bytes = bytes.stage};
    return phx_comm_model_create(&shape, &(phx_comm_model_options){bench->delay, bench->backend},
                                 &bench->comm, err);
}

/* Entries that differ, so that index scores and softmax have something to choose. */
static phx_code fill_cache(phx_rank_bench *bench, const phx_cache *cache, phx_error *err)
{
    const size_t n_bytes = (size_t)bench->plan->n_blocks * PHX_BLOCK_TOKENS * (size_t)cache->width *
                           phx_dtype_bytes(cache->dtype);
    const phx_synth_source source = {.key = 7, .role = PHX_ROLE_KV_A, .dtype = cache->dtype, .sd = 1.0f};
    const phx_memory *pinned = bench->backend->pinned;
    phx_code rc = PHX_OK;
    void *numbers = NULL;
    phx_synth_tables *tables = phx_alloc(1, sizeof(*tables));
    if (pinned)
        rc = pinned->take(pinned->user, FILL_BYTES, &numbers, err);
    else
        numbers = phx_alloc(FILL_BYTES, 1);
    if (rc == PHX_OK && (!tables || !numbers))
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "random cache entries");
    if (rc != PHX_OK)
        goto out;
    phx_synth_tables_init(tables);
    phx_synth_fill(tables, &source, 0, FILL_BYTES / phx_dtype_bytes(cache->dtype), numbers);
    for (size_t at = 0; at < n_bytes && rc == PHX_OK; at += FILL_BYTES)
        rc = phx_upload(bench->backend, (uint8_t *)cache->data + at, numbers,
                        n_bytes - at < FILL_BYTES ? n_bytes - at : FILL_BYTES, err);
    if (rc == PHX_OK)
        rc = phx_sync(bench->backend, err);
out:
    if (pinned && numbers)
        pinned->give_back(pinned->user, numbers, FILL_BYTES);
    else
        phx_free(numbers);
    phx_free(tables);
    return rc;
}

static phx_code build(phx_rank_bench *bench, phx_error *err)
{
    const uint32_t rank = bench->options->rank.rank;
    phx_load_progress progress = {0};
    bench->is_emu = strcmp(bench->backend->name, "emu") == 0;
    phx_code rc = choose_depth(bench, err);
    if (rc != PHX_OK)
        return rc;
    (void)snprintf(bench->dir, sizeof(bench->dir), "/tmp/phx-bench-XXXXXX");
    if (!mkdtemp(bench->dir)) {
        bench->dir[0] = '\0';
        return PHX_FAIL(err, PHX_ERR_IO, "cannot make a folder in /tmp");
    }
    rc = phx_synth_write(&bench->synth, err);
    if (rc == PHX_OK)
        rc = phx_checkpoint_open(bench->dir, &bench->checkpoint, err);
    if (rc == PHX_OK)
        rc = make_plan(bench, err);
    const uint64_t start = phx_clock_us();
    const phx_weights_source source = {bench->plan, rank, bench->pool, bench->backend, &bench->synth};
    if (rc == PHX_OK)
        rc = phx_weights_load(&source, &progress, &bench->weights, err);
    bench->load_s = (double)(phx_clock_us() - start) * 1e-6;
    if (rc == PHX_OK)
        rc = phx_kv_pool_create(bench->plan, rank, bench->backend->device, &bench->kv, err);
    for (int64_t l = 0; l < bench->dims.n_layers && rc == PHX_OK; l++) {
        rc = fill_cache(bench, phx_kv_pool_latent(bench->kv, l), err);
        if (rc == PHX_OK && bench->dims.index_n_heads)
            rc = fill_cache(bench, phx_kv_pool_index(bench->kv, l), err);
    }
    return rc == PHX_OK ? make_comm(bench, err) : rc;
}

/* Two files or as many as the model has shards; nothing else is there. */
static void remove_folder(const char *dir)
{
    char path[512];
    DIR *folder = opendir(dir);
    if (!folder)
        return;
    for (const struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
        if (entry->d_name[0] != '.' &&
            (size_t)snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name) < sizeof(path))
            (void)unlink(path);
    }
    (void)closedir(folder);
    (void)rmdir(dir);
}

static void take_down(phx_rank_bench *bench)
{
    phx_comm_destroy(bench->comm);
    phx_kv_pool_destroy(bench->kv);
    phx_weights_destroy(bench->weights);
    phx_plan_destroy(bench->plan);
    phx_checkpoint_close(bench->checkpoint);
    phx_backend_destroy(bench->backend);
    phx_pool_destroy(bench->pool);
    if (bench->dir[0])
        remove_folder(bench->dir);
}

/* ---- the limit ---- */

static phx_code measure_read(phx_rank_bench *bench, phx_error *err)
{
    const size_t mib = (size_t)1 << 20;
    const phx_device_peaks *peaks = bench->backend->peaks;
    size_t n_bytes = bench->weights->memory_bytes / mib * mib;
    void *sink = NULL;
    n_bytes = n_bytes < READ_BYTES ? n_bytes : READ_BYTES;
    if (bench->is_emu || n_bytes == 0)
        return PHX_OK;
    if (!peaks) {
        bench->read_limit = phx_peak_read(bench->pool, bench->weights->memory, n_bytes, 3).best;
        return PHX_OK;
    }
    phx_code rc = phx_device_take(bench->backend, sizeof(uint32_t), &sink, err);
    for (int i = 0; i < 10 && rc == PHX_OK; i++) {
        const uint64_t start = phx_clock_us();
        peaks->read(bench->backend->queue, bench->weights->memory, n_bytes, sink);
        rc = phx_sync(bench->backend, err);
        const double rate = (double)n_bytes / (double)(phx_clock_us() - start) * 1e6;
        bench->read_limit = rate > bench->read_limit ? rate : bench->read_limit;
    }
    phx_device_give(bench->backend, sink, sizeof(uint32_t));
    return rc;
}

/* ---- the steps ---- */

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* The first step opens every slot with its cache full up to the depth. */
static phx_code first_step(phx_rank_bench *bench, phx_exec *exec, phx_error *err)
{
    const uint32_t n_batch = bench->options->rank.n_batch;
    const uint32_t n_each = bench->plan->n_blocks / n_batch;
    const phx_range vocab = bench->plan->ranks[bench->options->rank.rank].vocab;
    phx_step_result result;
    phx_code rc = PHX_OK;
    phx_slot_open *opens = phx_alloc(n_batch, sizeof(*opens));
    phx_step_row *rows = phx_alloc(n_batch, sizeof(*rows));
    uint32_t *tokens = phx_alloc(n_batch, sizeof(*tokens));
    uint32_t *blocks = phx_alloc((size_t)n_batch * n_each, sizeof(*blocks));
    if (!opens || !rows || !tokens || !blocks) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "%u sequences", n_batch);
        goto out;
    }
    for (uint32_t i = 0; i < n_batch * n_each; i++)
        blocks[i] = i;
    for (uint32_t i = 0; i < n_batch; i++) {
        opens[i] = (phx_slot_open){.slot = i,
                                   .request_id = i,
                                   .n_reused = bench->depth,
                                   .n_prompt = bench->depth,
                                   .sampling = {.top_p = 1, .repetition_penalty = 1}};
        rows[i] = (phx_step_row){.slot = i,
                                 .flags = PHX_ROW_SAMPLE,
                                 .token_first = i,
                                 .n_tokens = 1,
                                 .block_first = i * n_each,
                                 .n_blocks = n_each};
        tokens[i] =
            (uint32_t)(vocab.first + (int64_t)i * 37 % phx_range_n(vocab)); /* its own embedding rows */
    }
    const phx_step_plan plan = {.step = 1,
                                .n_opens = n_batch,
                                .opens = opens,
                                .n_rows = n_batch,
                                .rows = rows,
                                .n_tokens = n_batch,
                                .tokens = tokens,
                                .n_blocks = n_batch * n_each,
                                .blocks = blocks};
    rc = phx_exec_step(exec, &plan, &result, err);
out:
    phx_free(opens);
    phx_free(rows);
    phx_free(tokens);
    phx_free(blocks);
    return rc;
}

static double median(double *values, uint32_t n)
{
    qsort(values, n, sizeof(values[0]), compare_doubles);
    return values[n / 2];
}

/* What each decode step took. us [PHX_PART_COUNT + 1][n_steps]: parts, then the whole. */
static phx_code decode_steps(phx_rank_bench *bench, phx_exec *exec, phx_rank_timer *timer, double *us,
                             phx_error *err)
{
    phx_step_row rows[PHX_BENCH_BATCH_MAX];
    const uint32_t n_batch = bench->options->rank.n_batch;
    const uint32_t n = n_steps(bench), n_warm = bench->is_emu ? 0 : WARM_STEPS - 1;
    uint64_t n_verbs;
    double verbs_before = 0, verbs_after = 0;
    phx_step_result result;
    for (uint32_t i = 0; i < n_batch; i++)
        rows[i] = (phx_step_row){.slot = i, .flags = PHX_ROW_SAMPLE | PHX_ROW_FROM_SLOT, .n_tokens = 1};
    phx_code rc = first_step(bench, exec, err);
    for (uint32_t i = 0; i < n_warm + n && rc == PHX_OK; i++) {
        const phx_step_plan plan = {.step = i + 2, .n_rows = n_batch, .rows = rows};
        memset(timer->us, 0, sizeof(timer->us));
        phx_comm_model_count(bench->comm, &n_verbs, &verbs_before);
        const uint64_t start = phx_clock_us();
        rc = phx_exec_step(exec, &plan, &result, err);
        if (rc == PHX_OK)
            rc = phx_sync(bench->backend, err);
        if (rc != PHX_OK || i < n_warm)
            continue;
        us[PHX_PART_COUNT * n + i - n_warm] = (double)(phx_clock_us() - start);
        phx_comm_model_count(bench->comm, &n_verbs, &verbs_after);
        timer->us[PHX_PART_VERBS] = verbs_after - verbs_before;
        for (uint32_t p = 0; p < PHX_PART_COUNT; p++)
            us[p * n + i - n_warm] = timer->us[p];
    }
    return rc;
}

static phx_code decode(phx_rank_bench *bench, phx_exec *exec, phx_rank_timer *timer, phx_rank_times *times,
                       phx_error *err)
{
    const uint32_t n = n_steps(bench);
    double *us = phx_alloc((size_t)n * (PHX_PART_COUNT + 1), sizeof(*us));
    if (!us)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "times of %u steps", n);
    const phx_code rc = decode_steps(bench, exec, timer, us, err);
    for (uint32_t p = 0; p < PHX_PART_COUNT && rc == PHX_OK; p++)
        times->part_us[p] = median(us + p * n, n);
    times->median_us = median(us + PHX_PART_COUNT * n, n);
    times->best_us = us[PHX_PART_COUNT * n];
    phx_free(us);
    return rc;
}

/* Steps through the resident layers [first, first + n): as they are, then each op waited for. */
static phx_code run(phx_rank_bench *bench, int64_t first, int64_t n, phx_rank_times *ret_times,
                    phx_error *err)
{
    phx_weights some = *bench->weights;
    phx_rank_timer timer;
    phx_rank_times plain = {0}, timed = {0};
    some.layers += first;
    some.n_layers = n;
    phx_code rc = PHX_OK;
    phx_rank_timer_init(&timer, bench->backend, &some);
    for (int pass = 0; pass < 2 && rc == PHX_OK; pass++) {
        phx_backend *backend = pass == 0 ? bench->backend : &timer.base;
        const phx_exec_parts parts = {.plan = bench->plan,
                                      .rank = bench->options->rank.rank,
                                      .weights = &some,
                                      .kv = bench->kv,
                                      .comm = bench->comm,
                                      .backend = backend,
                                      .ops = &backend->ops};
        phx_exec *exec = NULL;
        rc = phx_exec_create(&parts, &exec, err);
        if (rc == PHX_OK) /* as they are means replayed, where there is a device; the timer records nothing */
            rc = phx_exec_record(exec, !bench->is_emu, err);
        if (rc == PHX_OK)
            rc = decode(bench, exec, &timer, pass == 0 ? &plain : &timed, err);
        phx_exec_destroy(exec);
    }
    *ret_times = plain;
    memcpy(ret_times->part_us, timed.part_us, sizeof(timed.part_us));
    return rc;
}

static phx_code measure(phx_rank_bench *bench, phx_error *err)
{
    const int64_t n_dense = bench->n_resident[PHX_KIND_DENSE], n_moe = bench->n_resident[PHX_KIND_MOE];
    phx_code rc = run(bench, 0, 0, &bench->none, err);
    if (rc == PHX_OK && n_dense > 0)
        rc = run(bench, 0, n_dense, &bench->kind[PHX_KIND_DENSE], err);
    if (rc == PHX_OK && n_moe > 0)
        rc = run(bench, n_dense, n_moe, &bench->kind[PHX_KIND_MOE], err);
    return rc == PHX_OK ? run(bench, 0, n_dense + n_moe, &bench->all, err) : rc;
}
