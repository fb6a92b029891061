/* client/bench_drafts.c - `phalanx bench drafts`: what drafts promise against what they bring.
 * Two private servers stand side by side, one without drafts, and take turns, so that what else the machine
 * does meets both; --launches starts them again, because one process may be faster than its twin. Of each
 * pair: the speed-up that tokens per step and the step times of both promise, and the ratio of the tokens per
 * second that arrived here. The medians over the pairs are printed. Not here: how many drafts pay
 * (coordinator/sched/drafter.h). */
#include "client/bench_drafts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/paths.h"
#include "base/rng.h"
#include "client/bench_tests.h"
#include "client/server.h"
#include "client/talk.h"
#include "client/terminal.h"
#include "model/checkpoint.h"

#define ROUNDS_MAX     100u /* of all launches */
#define LIST_MAX       8u
#define TOKENS_MOST    4096u
#define TEXT_BYTES_MAX (1u << 20)
#define ASK_BYTES_MAX  (64u << 10)
#define RANDOM_IDS     8u /* of a prompt, where no questions are given */
#define PROMPT_ROOM    256u
#define OTHERS_EXTRA   64u
#define PLAIN          UINT32_MAX

/* Sums of a server between two moments, and the time here. */
typedef struct sums {
    double n_tokens, n_rows, n_fed, n_held, n_steps, step_us, us;
} sums;

typedef struct pair { /* without drafts, and with */
    sums of[2];
} pair;

typedef struct outcome { /* medians over the pairs; rates in tokens per second */
    uint32_t batch, length;
    double acceptance, tokens_per_step, step_ms, plain_ms;
    double rate, plain_rate;
    double predicted, measured, quotient;
} outcome;

typedef struct bench {
    const phx_env *env;
    phx_options *options;
    phx_interrupt interrupt;
    uint32_t batches[LIST_MAX], lengths[LIST_MAX]; /* length 0: as many as pay */
    size_t n_batches, n_lengths;
    uint32_t n_launches, n_rounds, n_tokens;
    bool json;
    phx_buf asks; /* questions, one a line */
    uint32_t n_asks;
    uint32_t n_vocab;
    pair pairs[LIST_MAX][ROUNDS_MAX]; /* of each batch, one length */
    outcome outcomes[LIST_MAX * LIST_MAX];
    size_t n_outcomes;
} bench;

static phx_code measure_all(bench *b, phx_error *err);
static phx_exit report(const bench *b);

/* ---- arguments ---- */

static bool take_list(const char *text, uint32_t least, uint32_t most, uint32_t *values, size_t *ret_n)
{
    size_t n = 0;
    const phx_str list = phx_str_of(text);
    for (size_t at = 0; at <= list.n;) {
        const char *comma = memchr(list.ptr + at, ',', list.n - at);
        const size_t end = comma ? (size_t)(comma - list.ptr) : list.n;
        uint64_t value = 0;
        if (n == LIST_MAX || !phx_str_to_u64((phx_str){list.ptr + at, end - at}, least, most, &value))
            return false;
        values[n++] = (uint32_t)value;
        at = end + 1;
    }
    *ret_n = n;
    return true;
}

static bool take_count(const char *text, uint32_t most, uint32_t *value)
{
    size_t n = 0;
    return !text || take_list(text, 1, most, value, &n) ? n <= 1 : false;
}

static phx_code read_asks(bench *b, const char *path, phx_error *err)
{
    const phx_code rc = phx_file_read(path, &b->asks, err);
    if (rc != PHX_OK)
        return rc;
    if (memchr(b->asks.ptr, 0, b->asks.n))
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "'%s' is not text: it holds a zero byte", path);
    for (size_t i = 0; i < b->asks.n; i++)
        b->n_asks += b->asks.ptr[i] == '\n';
    return b->n_asks ? PHX_OK : PHX_FAIL(err, PHX_ERR_CORRUPT, "'%s' has no line of text", path);
}

/* Line idx, counted from 0 and around. */
static phx_str ask_at(const bench *b, uint32_t idx)
{
    const char *at = b->asks.ptr;
    for (uint32_t i = 0; i < idx % b->n_asks; i++)
        at = strchr(at, '\n') + 1;
    return (phx_str){at, (size_t)(strchr(at, '\n') - at)};
}

phx_exit phx_bench_drafts(const phx_env *env, int argc, char *const *argv)
{
    bench b = {.env = env, .interrupt = {.fd = -1}, .n_launches = 1, .n_rounds = 5, .n_tokens = 256};
    const char *batches = "1,8", *lengths = "1,2,3,0", *rounds = NULL, *n_tokens = NULL, *asks = NULL,
               *launches = NULL;
    const phx_flag flags[] = {
        {"batches", "LIST", "requests at once [1,8]", &batches, NULL},
        {"lengths", "LIST", "drafts in every step; 0: as many as pay [1,2,3,0]", &lengths, NULL},
        {"tokens", "N", "generated in each run by one request [256]", &n_tokens, NULL},
        {"rounds", "N", "pairs of runs, one without drafts and one with [5]", &rounds, NULL},
        {"launches", "N", "so often both servers are started anew, for as many rounds each [1]", &launches,
         NULL},
        {"ask", "FILE", "questions, one a line, in turn; not given: random tokens", &asks, NULL},
        {"json", NULL, "as JSON on one line", NULL, &b.json},
    };
    const phx_args_spec spec = {
        .usage = "phalanx bench drafts [--model DIR] [options]",
        .about = "Multi-token prediction: the speed-up that tokens per step and step times promise, and the\n"
                 "one that arrives. Two private servers, one without drafts, take turns.",
        .scopes = PHX_SERVER_SCOPES,
        .flags = flags,
        .n_flags = sizeof(flags) / sizeof(flags[0]),
        .exit_codes = PHX_EXIT_CODES_SERVER "  130 interrupted\n",
    };
    phx_options options;
    phx_args args;
    phx_exit code = PHX_EXIT_DONE;
    phx_error err = {0};
    if (!phx_command_begin(&spec, argc, argv, &options, &args, &code))
        return code;
    b.options = &options;
    if (!take_list(batches, 1, PHX_BENCH_BATCH_MAX, b.batches, &b.n_batches) ||
        !take_list(lengths, 0, PHX_DRAFTS_MAX, b.lengths, &b.n_lengths) ||
        !take_count(launches, ROUNDS_MAX, &b.n_launches) || !take_count(rounds, ROUNDS_MAX, &b.n_rounds) ||
        !take_count(n_tokens, TOKENS_MOST, &b.n_tokens) || b.n_launches * b.n_rounds > ROUNDS_MAX)
        return phx_command_fail_usage("a list or number is out of range: see phalanx bench drafts --help");
    phx_buf_init(&b.asks, ASK_BYTES_MAX);
    phx_code rc = asks ? read_asks(&b, asks, &err) : PHX_OK;
    if (rc == PHX_OK)
        rc = phx_interrupt_open(&b.interrupt, &err);
    if (rc == PHX_OK)
        rc = measure_all(&b, &err);
    code = rc == PHX_OK ? report(&b) : phx_command_fail(&err);
    phx_interrupt_close(&b.interrupt);
    phx_buf_done(&b.asks);
    return code;
}

/* ---- one run ---- */

static phx_code start_one(const bench *b, phx_bench_rig *rig, uint32_t idx, uint32_t n_output,
                          uint64_t *ret_call_id, phx_error *err)
{
    Phalanx__GenerateRequest request = PHALANX__GENERATE_REQUEST__INIT;
    Phalanx__TokenIds prompt = PHALANX__TOKEN_IDS__INIT;
    uint32_t ids[RANDOM_IDS];
    phx_buf message, chat;
    phx_buf_init(&message, ASK_BYTES_MAX);
    phx_buf_init(&chat, ASK_BYTES_MAX);
    if (b->n_asks) {
        phx_talk_message("user", ask_at(b, idx), &message);
        phx_talk_chat_json(phx_buf_view(&message), false, &chat);
        phx_buf_char(&chat, 0);
        request.prompt_case = PHALANX__GENERATE_REQUEST__PROMPT_CHAT_JSON;
        request.chat_json = chat.ptr;
    } else {
        phx_rng rng = {.seed = phx_rng_key(rig->seed, idx, 0, 0)};
        for (uint32_t i = 0; i < RANDOM_IDS; i++)
            ids[i] = phx_rng_below(&rng, b->n_vocab);
        prompt.ids = ids;
        prompt.n_ids = RANDOM_IDS;
        request.prompt_case = PHALANX__GENERATE_REQUEST__PROMPT_TOKEN_IDS;
        request.token_ids = &prompt;
    }
    request.max_tokens = n_output;
    request.ignore_eos = 1;
    const phx_code rc = message.code != PHX_OK || chat.code != PHX_OK
                            ? PHX_FAIL(err, PHX_ERR_NOMEM, "a question")
                            : phx_client_generate(rig->client, &request, 0, ret_call_id, err);
    phx_buf_done(&message);
    phx_buf_done(&chat);
    return rc;
}

static phx_code look(phx_bench_rig *rig, sums *ret_sums, phx_error *err)
{
    Phalanx__ServerFrame *frame = NULL;
    const phx_code rc = phx_server_status(rig->client, &frame, err);
    if (rc != PHX_OK)
        return rc;
    const Phalanx__StatusReply *s = frame->status_reply;
    *ret_sums = (sums){
        .n_tokens = (double)s->n_output_tokens,
        .n_rows = (double)s->n_decoded,
        .n_fed = (double)s->n_drafts_fed,
        .n_held = (double)s->n_drafts_held,
        .n_steps = (double)s->n_decode_steps,
        .step_us = (double)s->decode_us,
        .us = (double)phx_clock_us(),
    };
    phx_server_frame_free(frame);
    return PHX_OK;
}

/* Times one request from its first token to its last, while the others of the batch, started before, go on
 * for longer than drafts can carry them meanwhile. */
static phx_code run(const bench *b, phx_bench_rig *rig, uint32_t batch, uint32_t round, sums *ret,
                    phx_error *err)
{
    uint64_t calls[PHX_BENCH_BATCH_MAX] = {0};
    uint32_t n_seen[PHX_BENCH_BATCH_MAX] = {0};
    sums at[2];
    const uint32_t last = batch - 1;
    const uint32_t n_others = b->n_tokens * (1 + PHX_DRAFTS_MAX) + OTHERS_EXTRA;
    phx_code rc = PHX_OK;
    for (uint32_t i = 0; i < last && rc == PHX_OK; i++)
        rc = start_one(b, rig, round * batch + i, n_others, &calls[i], err);
    for (uint32_t i = 0; i < last && rc == PHX_OK; i++)
        rc = phx_bench_await(rig, calls[i], 1, &n_seen[i], err);
    if (rc == PHX_OK)
        rc = start_one(b, rig, round * batch + last, b->n_tokens + 1, &calls[last], err);
    for (uint32_t i = 0; i < 2 && rc == PHX_OK; i++) {
        rc = phx_bench_await(rig, calls[last], i == 0 ? 1 : b->n_tokens + 1, &n_seen[last], err);
        if (rc == PHX_OK)
            rc = look(rig, &at[i], err);
    }
    if (rc == PHX_OK)
        rc = phx_bench_await(rig, calls[last], 0, &n_seen[last], err);
    for (uint32_t i = 0; i < last && rc == PHX_OK; i++)
        rc = phx_bench_end(rig, calls[i], err);
    if (rc == PHX_OK)
        *ret = (sums){
            .n_tokens = at[1].n_tokens - at[0].n_tokens,
            .n_rows = at[1].n_rows - at[0].n_rows,
            .n_fed = at[1].n_fed - at[0].n_fed,
            .n_held = at[1].n_held - at[0].n_held,
            .n_steps = at[1].n_steps - at[0].n_steps,
            .step_us = at[1].step_us - at[0].step_us,
            .us = at[1].us - at[0].us,
        };
    return rc;
}

/* ---- pairs of runs ---- */

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, uint32_t n)
{
    qsort(values, n, sizeof(*values), compare);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

static double ratio(double a, double b)
{
    return b > 0 ? a / b : 0;
}

static outcome judge(const pair *pairs, uint32_t n)
{
    enum { STEP_MS, PLAIN_MS, RATE, PLAIN_RATE, TOKENS, PREDICTED, MEASURED, QUOTIENT, N };
    double all[N][ROUNDS_MAX], mid[N];
    double n_fed = 0, n_held = 0;
    for (uint32_t i = 0; i < n; i++) {
        const sums *plain = &pairs[i].of[0], *draft = &pairs[i].of[1];
        all[PLAIN_MS][i] = ratio(plain->step_us, plain->n_steps) * 1e-3;
        all[STEP_MS][i] = ratio(draft->step_us, draft->n_steps) * 1e-3;
        all[PLAIN_RATE][i] = ratio(plain->n_tokens, plain->us) * 1e6;
        all[RATE][i] = ratio(draft->n_tokens, draft->us) * 1e6;
        all[TOKENS][i] = 1 + ratio(draft->n_held, draft->n_rows);
        all[PREDICTED][i] = all[TOKENS][i] * ratio(all[PLAIN_MS][i], all[STEP_MS][i]);
        all[MEASURED][i] = ratio(all[RATE][i], all[PLAIN_RATE][i]);
        all[QUOTIENT][i] = ratio(all[MEASURED][i], all[PREDICTED][i]);
        n_fed += draft->n_fed;
        n_held += draft->n_held;
    }
    for (size_t k = 0; k < N; k++)
        mid[k] = median(all[k], n);
    return (outcome){
        .acceptance = ratio(n_held, n_fed),
        .tokens_per_step = mid[TOKENS],
        .step_ms = mid[STEP_MS],
        .plain_ms = mid[PLAIN_MS],
        .rate = mid[RATE],
        .plain_rate = mid[PLAIN_RATE],
        .predicted = mid[PREDICTED],
        .measured = mid[MEASURED],
        .quotient = mid[QUOTIENT],
    };
}

static void print_row(const outcome *o)
{
    char length[16] = "by pay";
    if (o->length)
        (void)snprintf(length, sizeof(length), "%u", o->length);
    (void)printf("%5u %7s %7.1f %12.3f %9.3f %9.3f %9.1f %9.1f %10.3f %9.3f %9.3f\n", o->batch, length,
                 100 * o->acceptance, o->tokens_per_step, o->plain_ms, o->step_ms, o->plain_rate, o->rate,
                 o->predicted, o->measured, o->quotient);
    (void)fflush(stdout);
}

/* The first pair warms both servers up; who begins alternates. Appends to the pairs of the batch. */
static phx_code run_pairs(bench *b, phx_bench_rig rigs[2], size_t batch_idx, uint32_t launch, phx_error *err)
{
    pair *pairs = b->pairs[batch_idx] + launch * b->n_rounds, warming;
    phx_progress progress;
    phx_code rc = PHX_OK;
    phx_progress_init(&progress);
    for (uint32_t i = 0; i <= b->n_rounds && rc == PHX_OK; i++) {
        pair *at = i == 0 ? &warming : &pairs[i - 1];
        phx_progress_show(&progress, "drafts", launch * (b->n_rounds + 1) + i,
                          b->n_launches * (b->n_rounds + 1), NULL);
        for (uint32_t k = 0; k < 2 && rc == PHX_OK; k++)
            rc = run(b, &rigs[(i + k) % 2], b->batches[batch_idx], i, &at->of[(i + k) % 2], err);
    }
    phx_progress_end(&progress);
    return rc;
}

static void conclude(bench *b, size_t batch_idx, uint32_t length)
{
    outcome *o = &b->outcomes[b->n_outcomes++];
    *o = judge(b->pairs[batch_idx], b->n_launches * b->n_rounds);
    o->batch = b->batches[batch_idx];
    o->length = length;
    if (!b->json)
        print_row(o);
}

/* ---- servers ---- */

static phx_code open_server(const bench *b, uint32_t length, phx_server **ret_server, phx_error *err)
{
    phx_options options = *b->options;
    char text[16];
    phx_code rc = phx_options_set(&options, PHX_OPTION_mtp, phx_str_of(length == PLAIN ? "off" : "on"),
                                  PHX_OPTION_ARGS, err);
    (void)snprintf(text, sizeof(text), "%u", length == PLAIN ? 0 : length);
    if (rc == PHX_OK)
        rc = phx_options_set(&options, PHX_OPTION_drafts, phx_str_of(text), PHX_OPTION_ARGS, err);
    const phx_server_spec spec = {
        .env = b->env, .options = &options, .interrupt = (phx_interrupt *)&b->interrupt};
    return rc == PHX_OK ? phx_server_open(&spec, ret_server, err) : rc;
}

/* Room for the largest batch, unless the person said otherwise. */
static phx_code fit_options(bench *b, phx_error *err)
{
    char text[16];
    uint32_t batch = 1;
    phx_code rc = PHX_OK;
    for (size_t i = 0; i < b->n_batches; i++)
        batch = b->batches[i] > batch ? b->batches[i] : batch;
    const uint32_t n_others = batch > 1 ? b->n_tokens * (1 + PHX_DRAFTS_MAX) + OTHERS_EXTRA : b->n_tokens + 1;
    (void)snprintf(text, sizeof(text), "%u", PROMPT_ROOM + n_others);
    if (b->options->source[PHX_OPTION_context] == PHX_OPTION_DEFAULT)
        rc = phx_options_set(b->options, PHX_OPTION_context, phx_str_of(text), PHX_OPTION_ARGS, err);
    (void)snprintf(text, sizeof(text), "%u", batch);
    if (rc == PHX_OK && b->options->source[PHX_OPTION_max_batch] == PHX_OPTION_DEFAULT)
        rc = phx_options_set(b->options, PHX_OPTION_max_batch, phx_str_of(text), PHX_OPTION_ARGS, err);
    return rc;
}

static phx_code look_at_model(bench *b, phx_error *err)
{
    char dir[PHX_PATH_MAX];
    phx_checkpoint *checkpoint = NULL;
    phx_code rc = phx_command_model_dir(b->options, dir, sizeof(dir), err);
    if (rc == PHX_OK)
        rc = phx_checkpoint_open(dir, &checkpoint, err);
    if (rc != PHX_OK)
        return rc;
    b->n_vocab = (uint32_t)phx_checkpoint_dims(checkpoint)->n_vocab;
    if (phx_checkpoint_dims(checkpoint)->n_layers_mtp == 0)
        rc = PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "'%s' has no multi-token-prediction layer", dir);
    phx_checkpoint_close(checkpoint);
    return rc == PHX_OK ? fit_options(b, err) : rc;
}

static phx_code measure_launch(bench *b, uint32_t length, uint32_t launch, phx_error *err)
{
    phx_server *servers[2] = {NULL, NULL};
    phx_bench_rig rigs[2];
    phx_code rc = open_server(b, PLAIN, &servers[0], err);
    if (rc == PHX_OK)
        rc = open_server(b, length, &servers[1], err);
    for (size_t i = 0; i < 2 && rc == PHX_OK; i++)
        rigs[i] = (phx_bench_rig){.client = phx_server_client(servers[i]),
                                  .interrupt = &b->interrupt,
                                  .n_vocab = b->n_vocab,
                                  .seed = 1};
    for (size_t i = 0; i < b->n_batches && rc == PHX_OK; i++)
        rc = run_pairs(b, rigs, i, launch, err);
    phx_server_close(servers[1]);
    phx_server_close(servers[0]);
    return rc;
}

static phx_code measure_all(bench *b, phx_error *err)
{
    phx_code rc = look_at_model(b, err);
    if (rc == PHX_OK && !b->json)
        (void)printf("%5s %7s %7s %12s %9s %9s %9s %9s %10s %9s %9s\n", "batch", "drafts", "held %",
                     "tokens/step", "plain ms", "step ms", "plain t/s", "t/s", "promised", "measured",
                     "quotient");
    for (size_t i = 0; i < b->n_lengths && rc == PHX_OK; i++) {
        for (uint32_t launch = 0; launch < b->n_launches && rc == PHX_OK; launch++)
            rc = measure_launch(b, b->lengths[i], launch, err);
        for (size_t k = 0; k < b->n_batches && rc == PHX_OK; k++)
            conclude(b, k, b->lengths[i]);
    }
    return rc;
}

/* ---- report ---- */

static void number(phx_json_writer *w, const char *key, double value)
{
    phx_json_key(w, key);
    phx_json_f64(w, value);
}

static phx_exit report(const bench *b)
{
    phx_json_writer writer;
    phx_json_writer *w = &writer;
    phx_buf buf;
    if (!b->json)
        return PHX_EXIT_DONE;
    phx_buf_init(&buf, TEXT_BYTES_MAX);
    phx_json_writer_init(w, &buf);
    phx_json_begin_array(w);
    for (size_t i = 0; i < b->n_outcomes; i++) {
        const outcome *o = &b->outcomes[i];
        phx_json_begin_object(w);
        number(w, "batch", o->batch);
        number(w, "drafts", o->length);
        number(w, "acceptance", o->acceptance);
        number(w, "tokens_per_step", o->tokens_per_step);
        number(w, "plain_step_ms", o->plain_ms);
        number(w, "step_ms", o->step_ms);
        number(w, "plain_tokens_per_s", o->plain_rate);
        number(w, "tokens_per_s", o->rate);
        number(w, "promised", o->predicted);
        number(w, "measured", o->measured);
        number(w, "quotient", o->quotient);
        phx_json_end_object(w);
    }
    phx_json_end_array(w);
    phx_buf_char(&buf, '\n');
    const phx_exit code = phx_command_print(&buf);
    phx_buf_done(&buf);
    return code;
}
