/* tests/worker/bench_exec.c - where the time of a step goes, op by op, with the ranks as threads of this
 * process: bench_exec --model DIR [--tp N] [--threads N] [--prompt N] [--decode N] [--batch N]
 * [--numerics WORDS] [--ops]. Not a test, and not the product's number: `phalanx bench engine` measures the
 * whole way of a token. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "tests/worker/ranks.h"

enum { TIMES_MAX = 64, BLOCKS_PER_SLOT_MAX = 512, BATCH_MAX = 64 };

typedef struct op_time {
    const char *op;
    int64_t n_out;
    int64_t n_in;
    uint64_t us;
    uint64_t best_us; /* of one call */
    uint64_t n;
} op_time;

/* One rank only: ops run on its compute thread, one at a time. */
static op_time times[TIMES_MAX];
static size_t n_times;
static phx_ops real;

static void note(const char *op, int64_t n_out, int64_t n_in, uint64_t us)
{
    size_t i = 0;
    while (i < n_times && (times[i].op != op || times[i].n_out != n_out || times[i].n_in != n_in))
        i++;
    if (i == n_times && n_times < TIMES_MAX)
        times[n_times++] = (op_time){.op = op, .n_out = n_out, .n_in = n_in};
    if (i < n_times) {
        times[i].best_us = times[i].n == 0 || us < times[i].best_us ? us : times[i].best_us;
        times[i].us += us;
        times[i].n++;
    }
}

#define SHAPE_NONE(op)                                                              \
    static void shape_##op(const phx_##op##_args *a, int64_t *n_out, int64_t *n_in) \
    {                                                                               \
        (void)a;                                                                    \
        *n_out = *n_in = 0;                                                         \
    }
SHAPE_NONE(embed)
SHAPE_NONE(layer_norm)
SHAPE_NONE(rope)
SHAPE_NONE(route)
SHAPE_NONE(index_round)
SHAPE_NONE(cache_write)
SHAPE_NONE(latent_write)
SHAPE_NONE(index_scores)
SHAPE_NONE(top_positions)
SHAPE_NONE(attention)
SHAPE_NONE(attention_expanded)
SHAPE_NONE(round)
SHAPE_NONE(add)
SHAPE_NONE(vocab_top)
SHAPE_NONE(list_experts)
SHAPE_NONE(cache_read)
SHAPE_NONE(pick_rows)
SHAPE_NONE(noisy_top)
SHAPE_NONE(feed_tokens)
SHAPE_NONE(put_tokens)
SHAPE_NONE(count_tokens)
SHAPE_NONE(clear_counts)
SHAPE_NONE(penalise)
SHAPE_NONE(choose)

static void shape_rms_norm(const phx_rms_norm_args *a, int64_t *n_out, int64_t *n_in)
{
    *n_out = 0;
    *n_in = a->n_cols;
}

static void shape_product(const phx_product_args *a, int64_t *n_out, int64_t *n_in)
{
    *n_out = a->n_out * a->n_groups;
    *n_in = a->w->n_cols;
}

static void shape_product_t(const phx_product_t_args *a, int64_t *n_out, int64_t *n_in)
{
    *n_out = a->w->n_cols * a->n_groups;
    *n_in = a->n_in;
}

static void shape_ffn_in(const phx_ffn_in_args *a, int64_t *n_out, int64_t *n_in)
{
    *n_out = a->n_out;
    *n_in = a->rows.n_experts;
}

static void shape_leaf_sum(const phx_leaf_sum_args *a, int64_t *n_out, int64_t *n_in)
{
    *n_out = a->routed.n_experts;
    *n_in = a->fixed ? a->fixed->n_cols : 0;
}

#define X(op)                                                           \
    static void timed_##op(phx_pool *pool, const phx_##op##_args *args) \
    {                                                                   \
        int64_t n_out;                                                  \
        int64_t n_in;                                                   \
        shape_##op(args, &n_out, &n_in);                                \
        const uint64_t start = phx_clock_us();                          \
        real.op(pool, args);                                            \
        note(#op, n_out, n_in, phx_clock_us() - start);                 \
    }
PHX_OPS(X)
#undef X

static void time_ops(phx_ops *ops)
{
    real = *ops;
#define X(op) ops->op = timed_##op;
    PHX_OPS(X)
#undef X
}

static int by_best(const void *a, const void *b)
{
    const op_time *x = a;
    const op_time *y = b;
    const uint64_t x_us = x->best_us * x->n;
    const uint64_t y_us = y->best_us * y->n;
    return x_us < y_us ? 1 : x_us > y_us ? -1 : 0;
}

/* The best call of each op stands for all of them: on a machine shared with others that is the op's own time.
 */
static void print_times(uint64_t total_us, uint32_t n_steps)
{
    uint64_t sum = 0;
    uint64_t best_sum = 0;
    qsort(times, n_times, sizeof(times[0]), by_best);
    for (size_t i = 0; i < n_times; i++) {
        sum += times[i].us;
        best_sum += times[i].best_us * times[i].n;
    }
    for (size_t i = 0; i < n_times; i++) {
        const op_time *t = &times[i];
        (void)printf("  %-18s %6lld x %-6lld %6.1f calls  best %9lld us  a step: best %9.1f us %5.1f %%  "
                     "mean %9.1f us\n",
                     t->op, (long long)t->n_out, (long long)t->n_in, (double)t->n / n_steps,
                     (long long)t->best_us, (double)(t->best_us * t->n) / n_steps,
                     100.0 * (double)(t->best_us * t->n) / (double)best_sum, (double)t->us / n_steps);
    }
    (void)printf("  all ops at their best: %.1f us per step; outside ops: %.1f us per step\n",
                 (double)best_sum / n_steps, (double)(total_us - sum) / n_steps);
}

typedef struct bench_args {
    ranks_setup setup;
    uint32_t n_prompt;
    uint32_t n_decode;
} bench_args;

static int compare_u64(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a;
    const uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static uint64_t step(ranks *group, const phx_step_plan *plan)
{
    phx_error err = {0};
    phx_row_result results[BATCH_MAX];
    uint32_t n_results;
    const uint64_t start = phx_clock_us();
    if (ranks_step(group, plan, results, &n_results, &err) != PHX_OK) {
        (void)fprintf(stderr, "bench_exec: %s (%s)\n", err.text, err.place);
        exit(1);
    }
    return phx_clock_us() - start;
}

static uint64_t prefill(ranks *group, const bench_args *args, uint32_t slot, uint32_t n, uint64_t *n_step)
{
    const uint32_t per_slot = (args->setup.n_context + 63) / 64;
    uint32_t *ids = phx_alloc(n, sizeof(*ids));
    uint32_t blocks[BLOCKS_PER_SLOT_MAX];
    for (uint32_t i = 0; i < n; i++)
        ids[i] = 3 + (i * 7919u + slot * 104729u) % 32000u;
    for (uint32_t i = 0; i < per_slot; i++)
        blocks[i] = slot * per_slot + i;
    const phx_slot_open open = {
        .slot = slot, .request_id = slot, .n_prompt = n, .sampling = {.top_p = 1, .repetition_penalty = 1}};
    const phx_step_row row = {.slot = slot, .flags = PHX_ROW_SAMPLE, .n_tokens = n, .n_blocks = per_slot};
    const phx_step_plan plan = {.step = ++*n_step,
                                .n_opens = 1,
                                .opens = &open,
                                .n_rows = 1,
                                .rows = &row,
                                .n_tokens = n,
                                .tokens = ids,
                                .n_blocks = per_slot,
                                .blocks = blocks};
    const uint64_t us = step(group, &plan);
    phx_free(ids);
    return us;
}

static void report(const char *what, uint64_t total_us, uint64_t median_us, uint32_t n_steps,
                   uint32_t n_tokens)
{
    (void)printf("%s: median %.1f ms, mean %.1f ms per step, %.2f tokens/s at the median\n", what,
                 (double)median_us * 1e-3, (double)total_us * 1e-3 / n_steps,
                 (double)n_tokens * 1e6 / (double)median_us);
    if (n_times)
        print_times(total_us, n_steps);
    n_times = 0;
}

static void run(ranks *group, const bench_args *args)
{
    uint64_t n_step = 0;
    const uint32_t n_batch = args->setup.n_batch;
    (void)prefill(group, args, 0, args->n_prompt < 16 ? args->n_prompt : 16,
                  &n_step); /* touches the weights */
    n_times = 0;
    uint64_t total = 0;
    for (uint32_t i = 0; i < n_batch; i++)
        total += prefill(group, args, i, args->n_prompt, &n_step);
    report("prefill", total, total / n_batch, n_batch, args->n_prompt);
    phx_step_row rows[BATCH_MAX];
    for (uint32_t i = 0; i < n_batch; i++)
        rows[i] = (phx_step_row){.slot = i, .flags = PHX_ROW_SAMPLE | PHX_ROW_FROM_SLOT, .n_tokens = 1};
    uint64_t *us = phx_alloc(args->n_decode, sizeof(*us));
    total = 0;
    for (uint32_t i = 0; i < args->n_decode; i++) {
        const phx_step_plan plan = {.step = ++n_step, .n_rows = n_batch, .rows = rows};
        total += us[i] = step(group, &plan);
    }
    qsort(us, args->n_decode, sizeof(*us), compare_u64);
    (void)printf("decode: best %.2f ms\n", (double)us[0] * 1e-3);
    report("decode", total, us[args->n_decode / 2], args->n_decode, n_batch);
    phx_free(us);
}

static uint32_t number(const char *text, uint64_t max)
{
    uint64_t value = 0;
    if (!phx_str_to_u64(phx_str_of(text), 1, max, &value)) {
        (void)fprintf(stderr, "bench_exec: '%s' is no number from 1 to %llu\n", text,
                      (unsigned long long)max);
        exit(2);
    }
    return (uint32_t)value;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"model", required_argument, NULL, 'm'},
                                            {"tp", required_argument, NULL, 't'},
                                            {"threads", required_argument, NULL, 'n'},
                                            {"prompt", required_argument, NULL, 'p'},
                                            {"decode", required_argument, NULL, 'd'},
                                            {"batch", required_argument, NULL, 'b'},
                                            {"numerics", required_argument, NULL, 'l'},
                                            {"ops", no_argument, NULL, 'o'},
                                            {NULL, 0, NULL, 0}};
    bench_args args = {
        .setup = {.tp = 1, .pp = "1", .numerics = "profile=serving level=avx2", .n_threads = 2, .n_batch = 1},
        .n_prompt = 512,
        .n_decode = 32};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'm':
            args.setup.model_dir = optarg;
            break;
        case 't':
            args.setup.tp = number(optarg, 8);
            break;
        case 'n':
            args.setup.n_threads = number(optarg, PHX_THREADS_MAX);
            break;
        case 'p':
            args.n_prompt = number(optarg, 8192);
            break;
        case 'd':
            args.n_decode = number(optarg, 10000);
            break;
        case 'b':
            args.setup.n_batch = number(optarg, BATCH_MAX);
            break;
        case 'l':
            args.setup.numerics = optarg;
            break;
        case 'o':
            args.setup.change_ops = time_ops;
            break;
        default:
            return 2;
        }
    }
    args.setup.n_step_tokens = args.n_prompt;
    args.setup.n_context = args.n_prompt + args.n_decode + 1;
    args.setup.memory_bytes = (uint64_t)12 << 30;
    phx_error err = {0};
    ranks *group = NULL;
    if (!args.setup.model_dir || (args.setup.change_ops && args.setup.tp > 1) ||
        ranks_start(&args.setup, &group, &err) != PHX_OK) {
        (void)fprintf(stderr, "bench_exec: %s\n", err.text[0] ? err.text : "--model DIR; --ops wants --tp 1");
        return 2;
    }
    run(group, &args);
    ranks_stop(group);
    return 0;
}
