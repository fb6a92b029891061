/* client/cmd_bench.c - `phalanx bench engine|drafts|machine|kernels|rank`.
 * engine runs here, in llama-bench's manner, and compares with the machine's limits; the others become
 * `phalanx-worker --bench`, because they need kernels. */
#include "client/server.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/paths.h"
#include "client/bench_drafts.h"
#include "client/bench_tests.h"
#include "client/limits.h"
#include "client/model_sums.h"
#include "client/terminal.h"
#include "model/request_options.h"

#define TEXT_BYTES_MAX (1u << 20)
#define REPS_MAX       100u

static const char default_tests[] =
    "pp128,pp512,pp2048,tg64,tg64@4096,tg64x4,tg64@4096x4,tg64x16,tg64@4096x16";

static const char usage[] =
    "Usage: phalanx bench engine [--model DIR] [options] [--tests LIST] [--reps N] [--json]\n"
    "       phalanx bench drafts [--model DIR] [options] [--batches LIST] [--lengths LIST] [--json]\n"
    "       phalanx bench machine [--threads N] [--json]\n"
    "       phalanx bench kernels [...]\n"
    "       phalanx bench rank [...]\n\n"
    "engine   tokens per second through the whole path, and the share of the machine's limits\n"
    "drafts   multi-token prediction: the speed-up promised and the one measured\n"
    "machine  read bandwidth and the peak of each multiply unit\n"
    "kernels  every kernel alone\n"
    "rank     one rank of a full-size model, with random weights and modelled collectives\n\n"
    "phalanx bench MODE --help lists the options of each.\n\nExit codes\n"
    "  0 done\n  1 failed\n  2 wrong usage\n  3 the server failed, or nothing could be measured\n";

typedef struct result {
    const phx_bench_test *test;
    bool skipped;
    double mean;            /* tokens per second */
    double deviation;       /* of a run from the mean */
    double share;           /* of the limit; 0: none applies */
    double sustained_share; /* of the reading that the machine sustained around the test; 0: does not apply */
} result;

typedef struct bench {
    const phx_env *env;
    phx_options *options;
    uint32_t n_reps;
    bool json;
    phx_bench_test tests[PHX_BENCH_TESTS_MAX];
    size_t n_tests;
    result results[PHX_BENCH_TESTS_MAX];
    phx_model_sums sums;
    phx_machine_limits limits;
    uint32_t n_ranks;
    uint32_t n_threads; /* of all ranks */
    int64_t n_vocab;
    int64_t n_positions;
    char dir[PHX_PATH_MAX];
} bench;

typedef void write_part(const bench *b, size_t idx, phx_buf *buf);
static phx_code print(const bench *b, write_part *write, size_t idx, phx_error *err);
static void write_head(const bench *b, size_t idx, phx_buf *buf);
static void write_row(const bench *b, size_t idx, phx_buf *buf);
static void announce(const bench *b);

/* A private server for the largest test, unless the person said otherwise. */
static phx_code fit_options(bench *b, phx_error *err)
{
    char text[16];
    uint32_t n_context = 0;
    uint32_t n_batch = 1;
    phx_code rc = PHX_OK;
    for (size_t i = 0; i < b->n_tests; i++) {
        const uint32_t n = phx_bench_test_context(&b->tests[i]);
        if ((int64_t)n > b->n_positions)
            continue;
        n_context = n > n_context ? n : n_context;
        n_batch = b->tests[i].batch > n_batch ? b->tests[i].batch : n_batch;
    }
    if (n_context == 0)
        return PHX_FAIL(err, PHX_ERR_INVALID, "every test is longer than the model's %lld positions",
                        (long long)b->n_positions);
    (void)snprintf(text, sizeof(text), "%u", n_context);
    if (b->options->source[PHX_OPTION_context] == PHX_OPTION_DEFAULT)
        rc = phx_options_set(b->options, PHX_OPTION_context, phx_str_of(text), PHX_OPTION_ARGS, err);
    (void)snprintf(text, sizeof(text), "%u", n_batch);
    if (rc == PHX_OK && b->options->source[PHX_OPTION_max_batch] == PHX_OPTION_DEFAULT)
        rc = phx_options_set(b->options, PHX_OPTION_max_batch, phx_str_of(text), PHX_OPTION_ARGS, err);
    return rc;
}

/* Sizes of the model, and how many threads the plan gives to all ranks. */
static phx_code look_at_model(bench *b, phx_error *err)
{
    phx_checkpoint *checkpoint = NULL;
    phx_plan *plan = NULL;
    phx_plan_request request;
    phx_code rc = phx_command_model_dir(b->options, b->dir, sizeof(b->dir), err);
    if (rc == PHX_OK)
        rc = phx_checkpoint_open(b->dir, &checkpoint, err);
    if (rc != PHX_OK)
        return rc;
    b->sums = phx_model_sum_up(checkpoint);
    b->n_vocab = phx_checkpoint_dims(checkpoint)->n_vocab;
    b->n_positions = phx_checkpoint_dims(checkpoint)->n_positions;
    rc = fit_options(b, err);
    if (rc == PHX_OK)
        rc = phx_plan_request_from_options(b->options, phx_checkpoint_dims(checkpoint), &request, err);
    if (rc == PHX_OK)
        rc = phx_plan_build(checkpoint, &request, &plan, err);
    if (rc == PHX_OK) {
        b->n_ranks = plan->n_ranks;
        b->n_threads = plan->n_ranks * plan->request.n_threads;
    }
    phx_plan_destroy(plan);
    phx_checkpoint_close(checkpoint);
    return rc;
}

/* Decoding one request reads the active bytes once per token; a prompt multiplies with every linear
 * parameter. Larger batches touch more experts than the model's figure counts: no share for them. */
static double share_of(const bench *b, const phx_bench_test *test, double tokens_per_s)
{
    if (test->n_prompt)
        return b->limits.ops_per_s > 0 ? tokens_per_s * 2.0 * (double)b->sums.n_linear / b->limits.ops_per_s
                                       : 0;
    if (test->batch > 1)
        return 0;
    return tokens_per_s * (double)b->sums.n_active_bytes / b->limits.read_bytes_per_s;
}

static bool fits(const bench *b, const phx_bench_test *test)
{
    return phx_bench_test_context(test) <= b->options->context && test->batch <= b->options->max_batch;
}

static void show_run(const bench *b, phx_progress *progress, size_t idx, uint32_t run)
{
    char note[48] = "warming up";
    const uint64_t n_runs = b->n_reps + 1;
    if (run > 0)
        (void)snprintf(note, sizeof(note), "run %u of %u", run, b->n_reps);
    phx_progress_show(progress, b->tests[idx].name, idx * n_runs + run, b->n_tests * n_runs, note);
}

static phx_code run_test(bench *b, phx_bench_rig *rig, size_t idx, phx_error *err)
{
    result *r = &b->results[idx];
    double rates[REPS_MAX];
    double ignored;
    phx_progress progress;
    if (!fits(b, r->test)) {
        r->skipped = true;
        return PHX_OK;
    }
    const bool reads = r->test->n_prompt == 0 && r->test->batch == 1;
    double before = 0, after = 0;
    phx_progress_init(&progress);
    show_run(b, &progress, idx, 0);
    phx_code rc = reads ? phx_machine_sustained_measure(b->n_threads, &before, err) : PHX_OK;
    if (rc == PHX_OK)
        rc = phx_bench_run(rig, r->test, &ignored, err); /* warms caches and clocks */
    for (uint32_t i = 0; rc == PHX_OK && i < b->n_reps; i++) {
        show_run(b, &progress, idx, i + 1);
        rc = phx_bench_run(rig, r->test, &rates[i], err);
        r->mean += rc == PHX_OK ? rates[i] / b->n_reps : 0;
    }
    for (uint32_t i = 0; rc == PHX_OK && i < b->n_reps; i++)
        r->deviation += (rates[i] - r->mean) * (rates[i] - r->mean) / b->n_reps;
    r->deviation = sqrt(r->deviation);
    r->share = share_of(b, r->test, r->mean);
    if (rc == PHX_OK && reads)
        rc = phx_machine_sustained_measure(b->n_threads, &after, err);
    if (rc == PHX_OK && reads)
        r->sustained_share = r->mean * (double)b->sums.n_active_bytes / ((before + after) / 2);
    phx_progress_end(&progress);
    return rc;
}

static phx_code run_tests(bench *b, phx_error *err)
{
    phx_interrupt interrupt = {.fd = -1};
    phx_server *server = NULL;
    phx_code rc = look_at_model(b, err);
    if (rc == PHX_OK)
        (void)fprintf(stderr, "phalanx: measuring the limits of this machine first, some seconds\n");
    if (rc == PHX_OK)
        rc = phx_machine_limits_measure(b->n_threads, &b->limits, err);
    if (rc == PHX_OK)
        rc = phx_interrupt_open(&interrupt, err);
    const phx_server_spec spec = {.env = b->env, .options = b->options, .interrupt = &interrupt};
    if (rc == PHX_OK)
        rc = phx_server_open(&spec, &server, err);
    phx_bench_rig rig = {.interrupt = &interrupt, .n_vocab = (uint32_t)b->n_vocab, .seed = 1};
    if (rc == PHX_OK)
        rig.client = phx_server_client(server);
    if (rc == PHX_OK)
        announce(b);
    if (rc == PHX_OK && !b->json)
        rc = print(b, write_head, 0, err);
    for (size_t i = 0; rc == PHX_OK && i < b->n_tests; i++) {
        rc = run_test(b, &rig, i, err);
        if (rc == PHX_OK && !b->json)
            rc = print(b, write_row, i, err);
    }
    phx_server_close(server);
    phx_interrupt_close(&interrupt);
    return rc;
}

/* ---- as text: each line as soon as it is known ---- */

static void write_head(const bench *b, size_t idx, phx_buf *buf)
{
    (void)idx;
    phx_buf_printf(buf, "model    %s\n         ", b->dir);
    phx_put_count(buf, b->sums.n_active);
    phx_buf_str(buf, " active parameters, ");
    phx_put_bytes(buf, b->sums.n_active_bytes);
    phx_buf_printf(buf, " per decoded token\nmachine  %s, %u threads of %u ranks: reads ", b->limits.chip,
                   b->n_threads, b->n_ranks);
    phx_put_bytes(buf, (uint64_t)b->limits.read_bytes_per_s);
    phx_buf_printf(buf, "/s, %s %.1f GFLOP/s\n\n%-18s %12s %10s   %s\n", b->limits.unit,
                   b->limits.ops_per_s * 1e-9, "test", "tokens/s", "+-", "share of limit");
}

static void write_row(const bench *b, size_t idx, phx_buf *buf)
{
    const result *r = &b->results[idx];
    if (r->skipped) {
        phx_buf_printf(buf, "%-18s skipped: needs a context of %u and %u requests at once\n", r->test->name,
                       phx_bench_test_context(r->test), r->test->batch);
        return;
    }
    phx_buf_printf(buf, "%-18s %12.2f %10.2f   ", r->test->name, r->mean, r->deviation);
    if (r->share > 0)
        phx_buf_printf(buf, "%.1f %% of %s", 100 * r->share,
                       r->test->n_prompt ? b->limits.unit : "read bandwidth");
    else
        phx_buf_char(buf, '-');
    if (r->sustained_share > 0)
        phx_buf_printf(buf, ", %.1f %% of what was sustained around it", 100 * r->sustained_share);
    phx_buf_char(buf, '\n');
}

static phx_code print(const bench *b, write_part *write, size_t idx, phx_error *err)
{
    phx_buf buf;
    phx_buf_init(&buf, TEXT_BYTES_MAX);
    write(b, idx, &buf);
    const bool done = buf.code == PHX_OK && fwrite(buf.ptr, 1, buf.n, stdout) == buf.n && fflush(stdout) == 0;
    phx_buf_done(&buf);
    return done ? PHX_OK : PHX_FAIL(err, PHX_ERR_IO, "cannot write the table");
}

/* What all runs would take at the machine's limits: a prompt is all products, a token all active bytes, a
 * token of a batch somewhere between one reading for all and one for each. */
static double least_seconds(const bench *b)
{
    double seconds = 0;
    for (size_t i = 0; i < b->n_tests; i++) {
        const phx_bench_test *t = &b->tests[i];
        if (!fits(b, t))
            continue;
        const double token_s = (double)b->sums.n_active_bytes / b->limits.read_bytes_per_s;
        const double prompt_s =
            b->limits.ops_per_s > 0 ? 2.0 * (double)b->sums.n_linear / b->limits.ops_per_s : token_s;
        const double step_s = token_s * (1 + (t->batch - 1) * 0.5);
        seconds += (b->n_reps + 1) * (prompt_s * (t->n_prompt + t->depth) + step_s * t->n_gen);
    }
    return seconds;
}

static void announce(const bench *b)
{
    const double seconds = least_seconds(b);
    (void)fprintf(stderr, "phalanx: %zu tests, each once to warm up and %u times timed:", b->n_tests,
                  b->n_reps);
    for (size_t i = 0; i < b->n_tests; i++)
        (void)fprintf(stderr, " %s", b->tests[i].name);
    (void)fprintf(
        stderr, "\nphalanx: at the limits of this machine it takes %.0f s; reckon with several times that\n",
        seconds < 1 ? 1 : seconds);
}

static void number(phx_json_writer *w, const char *key, double value)
{
    phx_json_key(w, key);
    phx_json_f64(w, value);
}

static void print_json(const bench *b, phx_buf *buf)
{
    phx_json_writer writer;
    phx_json_writer *w = &writer;
    phx_json_writer_init(w, buf);
    phx_json_begin_object(w);
    phx_json_key(w, "model");
    phx_json_text(w, b->dir);
    phx_json_key(w, "chip");
    phx_json_text(w, b->limits.chip);
    phx_json_key(w, "unit");
    phx_json_text(w, b->limits.unit);
    number(w, "n_ranks", b->n_ranks);
    number(w, "n_threads", b->n_threads);
    number(w, "active_parameters", (double)b->sums.n_active);
    number(w, "active_bytes", (double)b->sums.n_active_bytes);
    number(w, "linear_parameters", (double)b->sums.n_linear);
    number(w, "read_bytes_per_s", b->limits.read_bytes_per_s);
    number(w, "ops_per_s", b->limits.ops_per_s);
    phx_json_key(w, "tests");
    phx_json_begin_array(w);
    for (size_t i = 0; i < b->n_tests; i++) {
        const result *r = &b->results[i];
        phx_json_begin_object(w);
        phx_json_key(w, "test");
        phx_json_text(w, r->test->name);
        phx_json_key(w, "skipped");
        phx_json_bool(w, r->skipped);
        number(w, "tokens_per_s", r->mean);
        number(w, "deviation", r->deviation);
        number(w, "share_of_limit", r->share);
        number(w, "share_of_sustained", r->sustained_share);
        phx_json_end_object(w);
    }
    phx_json_end_array(w);
    phx_json_end_object(w);
    phx_buf_char(buf, '\n');
}

static phx_exit bench_engine(const phx_env *env, int argc, char *const *argv)
{
    bench b = {.env = env, .n_reps = 3};
    const char *tests = default_tests;
    const char *reps = NULL;
    const phx_flag flags[] = {
        {"tests", "LIST", "pp512: prompt; tg64@4096x16: decode 64 behind 4096, 16 at once [all]", &tests,
         NULL},
        {"reps", "N", "timed runs of each test [3]", &reps, NULL},
        {"json", NULL, "as JSON on one line", NULL, &b.json},
    };
    const phx_args_spec spec = {
        .usage = "phalanx bench engine [--model DIR] [options] [--tests LIST] [--reps N] [--json]",
        .about = "Measures the path that serves requests. Shares of limits count the model's active bytes "
                 "per token\n"
                 "(decoding, batch 1) and two operations per linear parameter (prompts), against what\n"
                 "`phalanx bench machine` measures on the same number of threads.",
        .scopes = PHX_SERVER_SCOPES,
        .flags = flags,
        .n_flags = sizeof(flags) / sizeof(flags[0]),
        .exit_codes = PHX_EXIT_CODES_SERVER "  130 interrupted\n",
    };
    phx_options options;
    phx_args args;
    phx_exit code = PHX_EXIT_DONE;
    phx_error err = {0};
    uint64_t n = 0;
    phx_buf buf;
    if (!phx_command_begin(&spec, argc, argv, &options, &args, &code))
        return code;
    b.options = &options;
    if (reps && !phx_str_to_u64(phx_str_of(reps), 1, REPS_MAX, &n))
        return phx_command_fail_usage("--reps is a number from 1 to 100");
    b.n_reps = reps ? (uint32_t)n : b.n_reps;
    for (size_t i = 0; i < PHX_BENCH_TESTS_MAX; i++)
        b.results[i].test = &b.tests[i];
    if (phx_bench_tests_parse(phx_str_of(tests), b.tests, &b.n_tests, &err) != PHX_OK)
        return phx_command_fail_usage(err.text);
    if (run_tests(&b, &err) != PHX_OK)
        return phx_command_fail(&err);
    if (!b.json)
        return PHX_EXIT_DONE;
    phx_buf_init(&buf, TEXT_BYTES_MAX);
    print_json(&b, &buf);
    code = phx_command_print(&buf);
    phx_buf_done(&buf);
    return code;
}

/* "phalanx bench MODE ..." becomes "phalanx-worker --bench MODE ...". */
static phx_exit become_worker(int argc, char *const *argv)
{
    char program[PHX_PATH_MAX];
    char flag[] = "--bench";
    phx_error err = {0};
    if (phx_path_beside("phalanx-worker", program, sizeof(program), &err) != PHX_OK)
        return phx_command_fail(&err);
    char **words = phx_alloc((size_t)argc + 2, sizeof(*words));
    if (!words)
        return phx_command_fail(&(phx_error){.code = PHX_ERR_NOMEM, .text = "arguments"});
    words[0] = program;
    words[1] = flag;
    for (int i = 1; i < argc; i++)
        words[i + 1] = argv[i];
    (void)execv(program, words);
    (void)PHX_FAIL(&err, PHX_ERR_IO, "cannot start '%s': %s", program, strerror(errno));
    phx_free(words);
    return phx_command_fail(&err);
}

phx_exit phx_command_bench(const phx_env *env, int argc, char *const *argv)
{
    if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        (void)fputs(usage, stdout);
        return PHX_EXIT_DONE;
    }
    if (argc >= 2 && strcmp(argv[1], "engine") == 0)
        return bench_engine(env, argc - 1, argv + 1);
    if (argc >= 2 && strcmp(argv[1], "drafts") == 0)
        return phx_bench_drafts(env, argc - 1, argv + 1);
    if (argc >= 2 &&
        (strcmp(argv[1], "machine") == 0 || strcmp(argv[1], "kernels") == 0 || strcmp(argv[1], "rank") == 0))
        return become_worker(argc, argv);
    return phx_command_fail_usage(
        "bench what? engine, drafts, machine, kernels or rank: see phalanx bench --help");
}
