/* client/cmd_quantize.c - `phalanx quantize`: a checkpoint in a smaller format. */
#include "client/perplexity.h"

#include <stdio.h>

#include "base/file.h"
#include "base/json.h"
#include "client/terminal.h"
#include "model/quantise.h"

#define TEXT_BYTES_MAX (512u << 20)
#define WINDOW_DEFAULT 512u
#define WINDOW_MAX     65536u

typedef struct quantize_args {
    const char *to;
    const char *out;
    const char *text; /* file, or NULL */
    const char *window;
    bool json;
} quantize_args;

typedef struct surprises { /* by the text, of source and result */
    phx_buf text;
    uint32_t n_window;
    phx_perplexity before;
    phx_perplexity after;
} surprises;

typedef struct quantize {
    phx_progress progress;
    phx_interrupt interrupt;
    phx_buf text; /* the table, or the JSON */
    phx_json_writer json;
    bool is_json;
    uint64_t n_matrices;
    double worst_rms;
    char worst_name[160];
} quantize;

static void show(void *user, uint64_t done_bytes, uint64_t total_bytes)
{
    quantize *q = user;
    phx_progress_show(&q->progress, "quantizing", done_bytes, total_bytes, NULL);
}

static bool keep_going(void *user)
{
    quantize *q = user;
    return phx_interrupt_keep_waiting(&q->interrupt);
}

static void take_row(void *user, const phx_quantise_row *row)
{
    quantize *q = user;
    q->n_matrices++;
    if (row->relative_rms > q->worst_rms) {
        q->worst_rms = row->relative_rms;
        (void)snprintf(q->worst_name, sizeof(q->worst_name), "%s", row->name);
    }
    if (!q->is_json) {
        (void)phx_buf_printf(&q->text, "%-72s %7lld x %-7lld %9.5f %12.6g\n", row->name,
                             (long long)row->n_rows, (long long)row->n_cols, row->relative_rms,
                             row->max_error);
        return;
    }
    phx_json_begin_object(&q->json);
    phx_json_key(&q->json, "name");
    phx_json_text(&q->json, row->name);
    phx_json_key(&q->json, "n_rows");
    phx_json_i64(&q->json, row->n_rows);
    phx_json_key(&q->json, "n_cols");
    phx_json_i64(&q->json, row->n_cols);
    phx_json_key(&q->json, "relative_rms");
    phx_json_f64(&q->json, row->relative_rms);
    phx_json_key(&q->json, "max_error");
    phx_json_f64(&q->json, row->max_error);
    phx_json_end_object(&q->json);
}

static void begin_text(quantize *q)
{
    if (!q->is_json) {
        (void)phx_buf_printf(&q->text, "%-72s %17s %9s %12s\n", "matrix", "rows x columns", "rms", "max");
        return;
    }
    phx_json_writer_init(&q->json, &q->text);
    phx_json_begin_object(&q->json);
    phx_json_key(&q->json, "matrices");
    phx_json_begin_array(&q->json);
}

static void put_perplexity(quantize *q, const char *file, const surprises *s)
{
    if (!q->is_json) {
        (void)phx_buf_printf(&q->text,
                             "perplexity of %s: %llu tokens, %llu counted, windows of %u\n"
                             "  before %.4f, after %.4f (%+.2f %%)\n",
                             file, (unsigned long long)s->before.n_tokens,
                             (unsigned long long)s->before.n_counted, s->before.n_window, s->before.value,
                             s->after.value, 100 * (s->after.value / s->before.value - 1));
        return;
    }
    const struct {
        const char *key;
        double value;
    } numbers[] = {{"n_tokens", (double)s->before.n_tokens},
                   {"n_counted", (double)s->before.n_counted},
                   {"window", s->before.n_window},
                   {"before", s->before.value},
                   {"after", s->after.value}};
    phx_json_key(&q->json, "perplexity");
    phx_json_begin_object(&q->json);
    phx_json_key(&q->json, "text");
    phx_json_text(&q->json, file);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        phx_json_key(&q->json, numbers[i].key);
        phx_json_f64(&q->json, numbers[i].value);
    }
    phx_json_end_object(&q->json);
}

/* surprises NULL: none were measured. */
static void end_text(quantize *q, const char *file, const surprises *s)
{
    if (!q->is_json) {
        (void)phx_buf_printf(&q->text, "%llu matrices, the largest relative rms %.5f: %s\n",
                             (unsigned long long)q->n_matrices, q->worst_rms, q->worst_name);
        if (s)
            put_perplexity(q, file, s);
        return;
    }
    phx_json_end_array(&q->json);
    phx_json_key(&q->json, "worst_relative_rms");
    phx_json_f64(&q->json, q->worst_rms);
    if (s)
        put_perplexity(q, file, s);
    phx_json_end_object(&q->json);
    phx_buf_char(&q->text, '\n');
}

static phx_code measure(const phx_env *env, const phx_options *options, quantize *q, const surprises *s,
                        const char *model_dir, phx_perplexity *ret, phx_error *err)
{
    const phx_perplexity_request request = {.env = env,
                                            .options = options,
                                            .model_dir = model_dir,
                                            .interrupt = &q->interrupt,
                                            .text = phx_buf_view(&s->text),
                                            .n_window = s->n_window};
    return phx_perplexity_measure(&request, ret, err);
}

static phx_code read_text(const char *file, surprises *s, phx_error *err)
{
    const phx_code rc = phx_file_read(file, &s->text, err);
    if (rc != PHX_OK)
        return rc;
    if (s->text.n == 0 || strlen(s->text.ptr) != s->text.n || !phx_utf8_valid(s->text.ptr, s->text.n))
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "'%s' is empty or no UTF-8 text", file);
    return PHX_OK;
}

/* The source is measured first: what cannot run is known before hours of work. */
static phx_exit run(const phx_env *env, const phx_options *options, const quantize_args *given, phx_format to,
                    surprises *s)
{
    phx_error err = {0};
    phx_exit code;
    quantize q = {.interrupt = {.fd = -1}, .is_json = given->json};
    phx_buf_init(&q.text, TEXT_BYTES_MAX);
    phx_progress_init(&q.progress);
    phx_code rc = phx_interrupt_open(&q.interrupt, &err);
    const phx_quantise_request request = {.model_dir = options->model,
                                          .out_dir = given->out,
                                          .to = to,
                                          .progress = show,
                                          .row = take_row,
                                          .keep_going = keep_going,
                                          .user = &q};
    begin_text(&q);
    if (rc == PHX_OK && given->text)
        rc = read_text(given->text, s, &err);
    if (rc == PHX_OK && given->text)
        rc = measure(env, options, &q, s, options->model, &s->before, &err);
    if (rc == PHX_OK)
        rc = phx_quantise(&request, &err);
    phx_progress_end(&q.progress);
    if (rc == PHX_OK) {
        (void)fprintf(stderr, "wrote %s\n", given->out);
        if (given->text)
            rc = measure(env, options, &q, s, given->out, &s->after, &err);
    }
    phx_interrupt_close(&q.interrupt);
    if (rc == PHX_OK) {
        end_text(&q, given->text, given->text ? s : NULL);
        code = phx_command_print(&q.text);
    } else {
        code = phx_command_fail(&err);
    }
    phx_buf_done(&q.text);
    return code;
}

phx_exit phx_command_quantize(const phx_env *env, int argc, char *const *argv)
{
    quantize_args given = {0};
    const phx_flag flags[] = {
        {"to", "FORMAT",
         "int4-g32 (routed experts; the rest stays, or becomes bf16) or fp8 (all linear layers)", &given.to,
         NULL},
        {"out", "DIR", "folder to write; a run that was cut goes on there", &given.out, NULL},
        {"text", "FILE", "also measure the perplexity of this text before and after", &given.text, NULL},
        {"window", "N", "tokens of context for --text [512]", &given.window, NULL},
        {"json", NULL, "the errors as JSON", NULL, &given.json},
    };
    const phx_args_spec spec = {
        .usage = "phalanx quantize --to int4-g32|fp8 --model DIR --out DIR [--text FILE [layout]] [--json]",
        .about =
            "Writes the checkpoint again with smaller weights, shard by shard, in the layout that other\n"
            "programs read: compressed-tensors for int4, DeepSeek's 128x128 blocks for fp8. Prints what\n"
            "each matrix lost: root mean square relative to its own, and the largest difference. With --text "
            "a\n"
            "private server runs source and result, as the other options say.",
        .scopes = PHX_SERVER_SCOPES,
        .flags = flags,
        .n_flags = sizeof(flags) / sizeof(flags[0]),
        .exit_codes = "  0 done\n  1 failed\n  2 wrong usage\n  130 interrupted; the same command goes on\n",
    };
    phx_options options;
    phx_args args;
    phx_exit code = PHX_EXIT_DONE;
    phx_format to = PHX_FORMAT_COUNT;
    uint64_t n_window = WINDOW_DEFAULT;
    if (!phx_command_begin(&spec, argc, argv, &options, &args, &code))
        return code;
    if (!given.to || !given.out || !options.model[0])
        return phx_command_fail_usage("give --to int4-g32|fp8, --model DIR and --out DIR");
    if (!phx_format_parse(phx_str_of(given.to), &to) ||
        (to != PHX_FORMAT_INT4_G32 && to != PHX_FORMAT_FP8_BLOCK))
        return phx_command_fail_usage("--to takes int4-g32 or fp8");
    if (given.window && (!given.text || !phx_str_to_u64(phx_str_of(given.window), 2, WINDOW_MAX, &n_window)))
        return phx_command_fail_usage("--window is a number from 2 to 65536, beside --text");
    surprises s = {.n_window = (uint32_t)n_window};
    phx_buf_init(&s.text, PHX_REQUEST_BYTES_MAX);
    code = run(env, &options, &given, to, &s);
    phx_buf_done(&s.text);
    return code;
}
