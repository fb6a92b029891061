/* client/cmd_status.c - `phalanx status`: ranks, progress, queue, blocks and speeds of a running server. */
#include "client/server.h"

#include "base/descriptors.h"
#include "base/json.h"
#include "base/paths.h"
#include "client/terminal.h"

#define TEXT_BYTES_MAX (1u << 20)

static void put_rank(phx_buf *buf, const Phalanx__RankStatus *rank)
{
    phx_buf_printf(buf, "%4u  %-16.16s %8u  %-9.9s %-8.8s %10llu  ", rank->rank, rank->host, rank->pid,
                   rank->state, rank->level, (unsigned long long)rank->n_steps);
    phx_put_bytes(buf, rank->loaded_bytes);
    phx_buf_str(buf, " of ");
    phx_put_bytes(buf, rank->total_bytes);
    phx_buf_str(buf, " loaded, ");
    phx_put_bytes(buf, rank->resident_bytes);
    phx_buf_str(buf, " of planned ");
    phx_put_bytes(buf, rank->plan_bytes);
    phx_buf_str(buf, " taken, ");
    phx_put_bytes(buf, rank->exchange_bytes);
    phx_buf_str(buf, " exchanged");
    if (rank->n_replays)
        phx_buf_printf(buf, ", %llu steps replayed", (unsigned long long)rank->n_replays);
    phx_buf_char(buf, '\n');
}

/* Tokens per step: what a sequence got out of each step that continued it. */
static void put_drafts(const Phalanx__StatusReply *s, phx_buf *buf)
{
    if (s->n_drafts_list == 0)
        return;
    const double fed = (double)s->n_drafts_fed, held = (double)s->n_drafts_held, rows = (double)s->n_decoded;
    phx_buf_printf(buf, "drafts    %u a step now; %.1f %% of %llu held, %.3f tokens per step\n", s->n_drafts,
                   fed > 0 ? 100 * held / fed : 0.0, (unsigned long long)s->n_drafts_fed,
                   rows > 0 ? 1 + held / rows : 1.0);
    for (size_t n = 0; n < s->n_drafts_list && s->drafts_list[0]->cost_us > 0; n++)
        phx_buf_printf(buf, "          with %zu: %.3f tokens per step of %.2f ms at batch %u; %llu steps\n",
                       n, s->drafts_list[n]->tokens, s->drafts_list[n]->cost_us * 1e-3, s->n_decoding,
                       (unsigned long long)s->drafts_list[n]->n_steps);
}

static void print_text(const Phalanx__StatusReply *s, phx_buf *buf)
{
    const uint64_t seconds = s->uptime_ms / 1000;
    phx_buf_printf(buf, "model     %s (%s)\n", s->model, s->model_dir);
    phx_buf_printf(buf, "state     %s for %llu:%02llu:%02llu, epoch %llu\n", s->state,
                   (unsigned long long)(seconds / 3600), (unsigned long long)(seconds / 60 % 60),
                   (unsigned long long)(seconds % 60), (unsigned long long)s->epoch);
    phx_buf_printf(buf, "layout    %s, context %u\nnumerics  %s\nhttp      %s\n", s->layout, s->n_context,
                   s->numerics, s->http[0] ? s->http : "off");
    phx_buf_printf(buf, "requests  %u running, %u queued\n", s->n_running, s->n_queued);
    phx_buf_printf(buf, "blocks    %u in use, %u kept for reuse, %u in all\n", s->n_blocks_used,
                   s->n_blocks_cached, s->n_blocks);
    phx_buf_printf(buf, "speed     %.1f prompt tokens/s, %.1f output tokens/s\n", s->prompt_tokens_per_s,
                   s->output_tokens_per_s);
    put_drafts(s, buf);
    phx_buf_char(buf, '\n');
    phx_buf_printf(buf, "%4s  %-16s %8s  %-9s %-8s %10s\n", "rank", "host", "pid", "state", "level", "steps");
    for (size_t r = 0; r < s->n_ranks; r++)
        put_rank(buf, s->ranks[r]);
}

static void text(phx_json_writer *w, const char *key, const char *value)
{
    phx_json_key(w, key);
    phx_json_text(w, value);
}

static void number(phx_json_writer *w, const char *key, uint64_t value)
{
    phx_json_key(w, key);
    phx_json_u64(w, value);
}

static void json_rank(phx_json_writer *w, const Phalanx__RankStatus *rank)
{
    phx_json_begin_object(w);
    number(w, "rank", rank->rank);
    text(w, "host", rank->host);
    number(w, "pid", rank->pid);
    text(w, "state", rank->state);
    text(w, "level", rank->level);
    number(w, "loaded_bytes", rank->loaded_bytes);
    number(w, "total_bytes", rank->total_bytes);
    number(w, "n_steps", rank->n_steps);
    number(w, "n_replays", rank->n_replays);
    number(w, "resident_bytes", rank->resident_bytes);
    number(w, "plan_bytes", rank->plan_bytes);
    number(w, "exchange_bytes", rank->exchange_bytes);
    phx_json_end_object(w);
}

static void json_drafts(phx_json_writer *w, const Phalanx__StatusReply *s)
{
    number(w, "n_drafts", s->n_drafts);
    number(w, "n_drafts_fed", s->n_drafts_fed);
    number(w, "n_drafts_held", s->n_drafts_held);
    number(w, "n_decoded", s->n_decoded);
    number(w, "n_decoding", s->n_decoding);
    number(w, "n_output_tokens", s->n_output_tokens);
    number(w, "n_decode_steps", s->n_decode_steps);
    number(w, "decode_us", s->decode_us);
    phx_json_key(w, "drafts");
    phx_json_begin_array(w);
    for (size_t n = 0; n < s->n_drafts_list; n++) {
        phx_json_begin_object(w);
        phx_json_key(w, "tokens");
        phx_json_f64(w, s->drafts_list[n]->tokens);
        phx_json_key(w, "cost_us");
        phx_json_f64(w, s->drafts_list[n]->cost_us);
        number(w, "n_steps", s->drafts_list[n]->n_steps);
        phx_json_key(w, "sum_us");
        phx_json_f64(w, s->drafts_list[n]->sum_us);
        phx_json_end_object(w);
    }
    phx_json_end_array(w);
}

static void print_json(const Phalanx__StatusReply *s, phx_buf *buf)
{
    phx_json_writer writer;
    phx_json_writer *w = &writer;
    phx_json_writer_init(w, buf);
    phx_json_begin_object(w);
    text(w, "model", s->model);
    text(w, "model_dir", s->model_dir);
    text(w, "state", s->state);
    text(w, "layout", s->layout);
    text(w, "numerics", s->numerics);
    text(w, "http", s->http);
    number(w, "epoch", s->epoch);
    number(w, "uptime_ms", s->uptime_ms);
    number(w, "n_context", s->n_context);
    number(w, "n_running", s->n_running);
    number(w, "n_queued", s->n_queued);
    number(w, "n_blocks", s->n_blocks);
    number(w, "n_blocks_used", s->n_blocks_used);
    number(w, "n_blocks_cached", s->n_blocks_cached);
    phx_json_key(w, "prompt_tokens_per_s");
    phx_json_f64(w, s->prompt_tokens_per_s);
    phx_json_key(w, "output_tokens_per_s");
    phx_json_f64(w, s->output_tokens_per_s);
    json_drafts(w, s);
    phx_json_key(w, "ranks");
    phx_json_begin_array(w);
    for (size_t r = 0; r < s->n_ranks; r++)
        json_rank(w, s->ranks[r]);
    phx_json_end_array(w);
    phx_json_end_object(w);
    phx_buf_char(buf, '\n');
}

phx_exit phx_command_status(const phx_env *env, int argc, char *const *argv)
{
    const char *connect = NULL;
    const char *key_file = NULL;
    bool json = false;
    const phx_flag flags[] = {
        {"connect", "ADDRESS", "control socket of the server [ours under the runtime folder]", &connect,
         NULL},
        {"key-file", "FILE", "keys for --connect over tcp", &key_file, NULL},
        {"json", NULL, "as JSON on one line", NULL, &json},
    };
    const phx_args_spec spec = {
        .usage = "phalanx status [--connect ADDRESS] [--json]",
        .about = "Prints what a running server says about its ranks, queue, cache blocks and speed.",
        .flags = flags,
        .n_flags = sizeof(flags) / sizeof(flags[0]),
        .exit_codes = "  0 done\n  2 wrong usage\n  3 no server answers there\n",
    };
    char address[PHX_PATH_MAX];
    phx_options options;
    phx_args args;
    phx_exit code = PHX_EXIT_DONE;
    phx_error err = {0};
    phx_client *client = NULL;
    Phalanx__ServerFrame *frame = NULL;
    if (!phx_command_begin(&spec, argc, argv, &options, &args, &code))
        return code;
    if (key_file && !connect)
        return phx_command_fail_usage("--key-file goes with --connect");
    phx_code rc = phx_descriptors_raise(&err);
    if (rc == PHX_OK && !connect)
        rc = phx_path_control(env->runtime_dir, address, sizeof(address), &err);
    if (rc == PHX_OK)
        rc = phx_client_connect(connect ? connect : address, key_file, &client, &err);
    if (rc == PHX_OK)
        rc = phx_server_status(client, &frame, &err);
    if (rc != PHX_OK) {
        code = phx_command_fail(&err);
    } else {
        phx_buf buf;
        phx_buf_init(&buf, TEXT_BYTES_MAX);
        if (json)
            print_json(frame->status_reply, &buf);
        else
            print_text(frame->status_reply, &buf);
        code = phx_command_print(&buf);
        phx_buf_done(&buf);
    }
    phx_server_frame_free(frame);
    phx_client_close(client);
    return code;
}
