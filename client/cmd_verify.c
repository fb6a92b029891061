/* client/cmd_verify.c - `phalanx verify`: compares what a server computes with a golden file, and with level
 * ref. */
#include "client/server.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/json.h"
#include "client/judge.h"

#define TEXT_BYTES_MAX (16u << 20)
static const uint32_t levels_mask =
    PHX_CAPTURE_LOGITS | PHX_CAPTURE_TOPK | PHX_CAPTURE_INDEX_SCORES | PHX_CAPTURE_EXPERTS;

typedef struct verify {
    const phx_env *env;
    const phx_options *options;
    const char *connect;
    const char *key_file;
    bool against_ref;
    phx_interrupt interrupt;
    phx_golden golden;
    phx_numerics numerics;
    phx_findings golden_findings;
    phx_findings level_findings;
    char layout[160]; /* as the server says */
    char used[512];   /* its numerics, with the level in use */
} verify;

static phx_code greedy_of(phx_client *client, verify *v, uint32_t *ids, uint32_t *ret_n, phx_error *err)
{
    Phalanx__GenerateRequest request = PHALANX__GENERATE_REQUEST__INIT;
    Phalanx__TokenIds prompt = PHALANX__TOKEN_IDS__INIT;
    const Phalanx__GenerateEvent *event = NULL;
    uint64_t call_id = 0;
    uint32_t n = 0;
    prompt.ids = v->golden.ids;
    prompt.n_ids = v->golden.n_ids;
    request.prompt_case = PHALANX__GENERATE_REQUEST__PROMPT_TOKEN_IDS;
    request.token_ids = &prompt;
    request.max_tokens = v->golden.n_greedy;
    request.ignore_eos = 1;
    phx_code rc = phx_client_generate(client, &request, 0, &call_id, err);
    while (rc == PHX_OK) {
        rc = phx_client_next(client, call_id, phx_interrupt_keep_waiting, &v->interrupt, &event, err);
        if (rc != PHX_OK || !event)
            break;
        for (size_t i = 0; i < event->n_token_ids && n < v->golden.n_greedy; i++)
            ids[n++] = event->token_ids[i];
    }
    *ret_n = n;
    return rc;
}

static phx_code take_status(phx_client *client, verify *v, phx_error *err)
{
    Phalanx__ServerFrame *frame = NULL;
    const phx_code rc = phx_server_status(client, &frame, err);
    if (rc == PHX_OK) {
        (void)phx_str_copy(v->layout, sizeof(v->layout), phx_str_of(frame->status_reply->layout));
        (void)phx_str_copy(v->used, sizeof(v->used), phx_str_of(frame->status_reply->numerics));
    }
    phx_server_frame_free(frame);
    return rc;
}

/* What the server says of its numerics decides the rules, not what we meant to ask for. */
static phx_code judge_run(phx_client *client, verify *v, phx_error *err)
{
    phx_capture *capture = NULL;
    uint32_t *ids = NULL;
    uint32_t n = 0;
    phx_code rc = take_status(client, v, err);
    if (rc == PHX_OK)
        rc = phx_numerics_parse(phx_str_of(v->used), &v->numerics, err);
    if (rc != PHX_OK)
        goto out;
    const phx_capture_request request = {
        .ids = v->golden.ids, .n_ids = v->golden.n_ids, .mask = phx_judge_mask(&v->golden, &v->numerics)};
    rc = phx_capture_run(client, &v->interrupt, &request, &capture, err);
    if (rc == PHX_OK)
        rc = phx_judge_golden(&v->golden, &v->numerics, capture, &v->golden_findings, err);
    if (rc != PHX_OK || v->golden.n_greedy == 0)
        goto out;
    ids = phx_alloc(v->golden.n_greedy, sizeof(*ids));
    if (!ids) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "greedy ids");
        goto out;
    }
    rc = greedy_of(client, v, ids, &n, err);
    if (rc == PHX_OK)
        rc = phx_judge_greedy(&v->golden, &v->numerics, ids, n, &v->golden_findings, err);
out:
    phx_free(ids);
    phx_capture_destroy(capture);
    return rc;
}

static phx_code capture_levels(phx_client *client, verify *v, phx_capture **ret_capture, phx_error *err)
{
    const phx_capture_request request = {.ids = v->golden.ids, .n_ids = v->golden.n_ids, .mask = levels_mask};
    return phx_capture_run(client, &v->interrupt, &request, ret_capture, err);
}

/* A second private server, all options the same but for level ref. */
static phx_code capture_reference(verify *v, phx_capture **ret_capture, phx_error *err)
{
    phx_options options = *v->options;
    phx_server *server = NULL;
    phx_code rc = phx_options_set(&options, PHX_OPTION_level, phx_str_of("ref"), PHX_OPTION_ARGS, err);
    const phx_server_spec spec = {.env = v->env, .options = &options, .interrupt = &v->interrupt};
    if (rc == PHX_OK)
        rc = phx_server_open(&spec, &server, err);
    if (rc == PHX_OK)
        rc = capture_levels(phx_server_client(server), v, ret_capture, err);
    phx_server_close(server);
    return rc;
}

static phx_code check(verify *v, phx_error *err)
{
    phx_server *server = NULL;
    phx_capture *capture = NULL;
    phx_capture *reference = NULL;
    const phx_server_spec spec = {.env = v->env,
                                  .options = v->options,
                                  .connect = v->connect,
                                  .key_file = v->key_file,
                                  .interrupt = &v->interrupt};
    phx_code rc = phx_server_open(&spec, &server, err);
    if (rc == PHX_OK)
        rc = judge_run(phx_server_client(server), v, err);
    if (rc == PHX_OK && v->against_ref)
        rc = capture_levels(phx_server_client(server), v, &capture, err);
    phx_server_close(server); /* before the second server starts: both may not fit */
    if (rc == PHX_OK && v->against_ref)
        rc = capture_reference(v, &reference, err);
    const phx_capture *const runs[2] = {capture, reference};
    if (rc == PHX_OK && v->against_ref)
        rc = phx_judge_levels(&v->golden, &v->numerics, runs, &v->level_findings, err);
    phx_capture_destroy(capture);
    phx_capture_destroy(reference);
    return rc;
}

static bool passed(const verify *v)
{
    return phx_findings_ok(&v->golden_findings) && (!v->against_ref || phx_findings_ok(&v->level_findings));
}

static void print_source(phx_buf *buf, const char *what, const phx_kl_bounds *kl)
{
    phx_buf_printf(buf, "          %s %.3g %.3g %.3g\n", what, kl->kl_mean, kl->kl_median, kl->top1);
}

/* Where the bounds of an fp8 cache and of rounded rows come from. */
static void print_figures(const verify *v, phx_buf *buf)
{
    const bool rounds = phx_numerics_may_round(&v->numerics) && v->golden.has_products_kl;
    const bool cached = v->numerics.cache == PHX_F8_E4M3;
    phx_kl_bounds sum;
    if ((!cached && !rounds) || !phx_judge_figures(&v->golden, &v->numerics, &sum))
        return;
    phx_buf_printf(
        buf, "bounds    1.5 x + 0.005, 2 x + 0.0005, x - 0.06 of KL mean, KL median, top-1 of a reference\n");
    if (v->numerics.act == PHX_BF16)
        print_source(buf, "in bf16, and added to it", phx_judge_bf16_figures(&v->golden, &v->numerics));
    if (cached)
        print_source(buf, "exact but for the cache in fp8", &v->golden.cache_kl);
    if (rounds)
        print_source(buf, "exact but for rows of products in fp8", &v->golden.products_kl);
}

static void print_text(const verify *v, phx_buf *buf)
{
    phx_buf_printf(buf, "case      %s, %u tokens\nlayout    %s\nnumerics  %s\n", v->golden.name,
                   v->golden.n_ids, v->layout, v->used);
    print_figures(v, buf);
    phx_buf_char(buf, '\n');
    phx_findings_print(&v->golden_findings, buf);
    if (v->against_ref) {
        phx_buf_str(buf, "\nagainst level ref, same profile\n");
        phx_findings_print(&v->level_findings, buf);
    }
    phx_buf_printf(buf, "\n%s\n", passed(v) ? "PASS" : "FAIL");
}

static void print_json(const verify *v, phx_buf *buf)
{
    phx_buf list;
    phx_json_writer writer;
    phx_json_writer *w = &writer;
    phx_buf_init(&list, TEXT_BYTES_MAX);
    phx_json_writer_init(w, buf);
    phx_json_begin_object(w);
    phx_json_key(w, "case");
    phx_json_text(w, v->golden.name);
    phx_json_key(w, "layout");
    phx_json_text(w, v->layout);
    phx_json_key(w, "numerics");
    phx_json_text(w, v->used);
    phx_json_key(w, "ok");
    phx_json_bool(w, passed(v));
    phx_json_key(w, "golden");
    phx_findings_json(&v->golden_findings, &list);
    phx_json_raw(w, phx_buf_view(&list));
    if (v->against_ref) {
        phx_buf_clear(&list);
        phx_findings_json(&v->level_findings, &list);
        phx_json_key(w, "levels");
        phx_json_raw(w, phx_buf_view(&list));
    }
    phx_json_end_object(w);
    phx_buf_char(buf, '\n');
    phx_buf_done(&list);
}

/* A private server needs room for this prompt and its continuation alone. */
static phx_code shrink(phx_options *options, const phx_golden *golden, phx_error *err)
{
    char text[16];
    phx_code rc = PHX_OK;
    (void)snprintf(text, sizeof(text), "%u", golden->n_ids + golden->n_greedy + 1);
    if (options->source[PHX_OPTION_context] == PHX_OPTION_DEFAULT)
        rc = phx_options_set(options, PHX_OPTION_context, phx_str_of(text), PHX_OPTION_ARGS, err);
    if (rc == PHX_OK && options->source[PHX_OPTION_max_batch] == PHX_OPTION_DEFAULT)
        rc = phx_options_set(options, PHX_OPTION_max_batch, phx_str_of("4"), PHX_OPTION_ARGS, err);
    return rc;
}

/* Everything but 0 and 1 means that nothing was judged. */
static phx_exit run(verify *v, phx_options *options, const char *path, bool json)
{
    phx_error err = {0};
    phx_exit code = PHX_EXIT_FAILED;
    phx_code rc = phx_golden_open(path, &v->golden, &err);
    if (rc == PHX_OK)
        rc = shrink(options, &v->golden, &err);
    if (rc == PHX_OK)
        rc = phx_interrupt_open(&v->interrupt, &err);
    if (rc == PHX_OK)
        rc = check(v, &err);
    if (rc != PHX_OK) {
        code = phx_command_fail(&err);
        code = code == PHX_EXIT_FAILED ? PHX_EXIT_NO_SERVER : code;
    } else {
        phx_buf buf;
        phx_buf_init(&buf, TEXT_BYTES_MAX);
        if (json)
            print_json(v, &buf);
        else
            print_text(v, &buf);
        code = phx_command_print(&buf);
        if (code == PHX_EXIT_DONE && !passed(v))
            code = PHX_EXIT_FAILED;
        phx_buf_done(&buf);
    }
    phx_findings_done(&v->golden_findings);
    phx_findings_done(&v->level_findings);
    phx_golden_close(&v->golden);
    phx_interrupt_close(&v->interrupt);
    return code;
}

phx_exit phx_command_verify(const phx_env *env, int argc, char *const *argv)
{
    bool json = false;
    verify v = {.env = env, .interrupt = {.fd = -1}};
    const phx_flag flags[] = {
        {"against-ref", NULL, "also compare with level ref in the same profile", NULL, &v.against_ref},
        {"json", NULL, "as JSON on one line", NULL, &json},
        {"connect", "ADDRESS", "use this running server instead of starting one", &v.connect, NULL},
        {"key-file", "FILE", "keys for --connect over tcp", &v.key_file, NULL},
    };
    const phx_args_spec spec = {
        .usage = "phalanx verify --model DIR [options] GOLDEN.safetensors",
        .about =
            "Runs the golden prompt through the path that serves requests and compares every tensor of "
            "the file.\n"
            "Profile oracle: element by element, selections exact. Profiles serving and official: "
            "divergence and\n"
            "top-1 of the logits within the bounds of serving.json (official: official.json), with --cache "
            "fp8 also\n"
            "cache_fp8.json, with --deterministic off, where that rounds rows of products, also\n"
            "products_fp8.json. The numerics knobs choose among the variants that a golden file holds.",
        .scopes = PHX_SERVER_SCOPES,
        .flags = flags,
        .n_flags = sizeof(flags) / sizeof(flags[0]),
        .n_operands_max = 1,
        .exit_codes = "  0 everything judged is within its bound\n  1 something is outside\n  2 wrong usage\n"
                      "  3 nothing could be judged: golden file, model, server\n  130 interrupted\n",
    };
    phx_options options;
    phx_args args;
    phx_exit code = PHX_EXIT_DONE;
    if (!phx_command_begin(&spec, argc, argv, &options, &args, &code))
        return code;
    if (args.n_operands != 1)
        return phx_command_fail_usage("give one golden file: phalanx verify --model DIR GOLDEN.safetensors");
    if (v.against_ref && v.connect)
        return phx_command_fail_usage(
            "--against-ref starts servers of its own: it does not go with --connect");
    v.options = &options;
    return run(&v, &options, args.operands[0], json);
}
