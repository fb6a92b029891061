/* coordinator/api/metrics.c - counters of the api, and all counters of the coordinator as Prometheus text. */
#include <stdio.h>

#include "base/clock.h"
#include "coordinator/api/api_private.h"

#define TEXT_BYTES_MAX (4u << 20)

static const double bounds_s[PHX_API_BUCKETS] = {0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1,
                                                 2.5,  5,     10,   30,  60,   300, 1800};
static const char *const face_names[PHX_API_FACE_COUNT] = {"chat", "completions", "control"};
static const char *const outcome_names[PHX_API_OUTCOME_COUNT] = {
#define X(name, text) text,
    PHX_API_OUTCOMES(X)
#undef X
};

static void write_requests(const phx_api *api, phx_buf *to);
static void write_engine(phx_api *api, phx_buf *to);
static void write_ranks(const Phalanx__StatusReply *status, phx_buf *to);
static void write_http(const phx_http_stats *stats, phx_buf *to);
static void write_histogram(const char *name, const char *help, const phx_api_histogram *histogram,
                            phx_buf *to);

void phx_api_histogram_add(phx_api_histogram *histogram, uint64_t us)
{
    size_t idx = 0;
    while (idx < PHX_API_BUCKETS && (double)us > bounds_s[idx] * 1e6)
        idx++;
    histogram->n[idx]++;
    histogram->sum_us += us;
}

phx_api_outcome phx_api_outcome_of(const phx_api_fault *fault)
{
    switch (fault->cause) {
    case PHX_ERR_BUSY:
        return PHX_API_OUTCOME_BUSY;
    case PHX_ERR_UNAVAILABLE:
        return PHX_API_OUTCOME_UNAVAILABLE;
    case PHX_ERR_CANCELLED:
        return PHX_API_OUTCOME_CANCELLED;
    default:
        return fault->status >= 500 ? PHX_API_OUTCOME_ERROR : PHX_API_OUTCOME_INVALID;
    }
}

phx_api_outcome phx_api_outcome_of_finish(phx_finish finish)
{
    switch (finish) {
    case PHX_FINISH_STOP:
        return PHX_API_OUTCOME_STOP;
    case PHX_FINISH_LENGTH:
        return PHX_API_OUTCOME_LENGTH;
    case PHX_FINISH_TOOL_CALLS:
        return PHX_API_OUTCOME_TOOL_CALLS;
    case PHX_FINISH_CANCELLED:
        return PHX_API_OUTCOME_CANCELLED;
    case PHX_FINISH_ERROR:
        break;
    }
    return PHX_API_OUTCOME_ERROR;
}

void phx_api_metrics(void *user, const phx_http_request *request, phx_http_reply *reply)
{
    phx_api *api = user;
    phx_buf text;
    (void)request;
    phx_buf_init(&text, TEXT_BYTES_MAX);
    write_requests(api, &text);
    write_engine(api, &text);
    if (api->http)
        write_http(phx_http_stats_of(api->http), &text);
    if (text.code == PHX_OK) {
        phx_http_reply_send(reply,
                            &(phx_http_response){.status = 200,
                                                 .content_type = "text/plain; version=0.0.4; charset=utf-8",
                                                 .body = phx_buf_view(&text)});
    } else {
        phx_http_reply_error(reply, &(phx_http_error){.status = 500, .message = "out of memory"});
    }
    phx_buf_done(&text);
}

/* ---------------------------------------------------------------- parts */

static void head(phx_buf *to, const char *name, const char *type, const char *help)
{
    (void)phx_buf_printf(to, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void one(phx_buf *to, const char *name, const char *type, const char *help, double value)
{
    head(to, name, type, help);
    (void)phx_buf_printf(to, "%s %.17g\n", name, value);
}

static void write_requests(const phx_api *api, phx_buf *to)
{
    const phx_api_tally *tally = &api->tally;
    head(to, "phalanx_requests_total", "counter", "Requests to generate, by face and outcome.");
    for (size_t f = 0; f < PHX_API_FACE_COUNT; f++) {
        for (size_t o = 0; o < PHX_API_OUTCOME_COUNT; o++)
            (void)phx_buf_printf(to, "phalanx_requests_total{face=\"%s\",outcome=\"%s\"} %llu\n",
                                 face_names[f], outcome_names[o],
                                 (unsigned long long)tally->n_outcomes[f][o]);
    }
    head(to, "phalanx_requests_open", "gauge", "Requests to generate that are not answered yet.");
    for (size_t f = 0; f < PHX_API_FACE_COUNT; f++)
        (void)phx_buf_printf(to, "phalanx_requests_open{face=\"%s\"} %llu\n", face_names[f],
                             (unsigned long long)tally->n_open[f]);
    one(to, "phalanx_malformed_tool_calls_total", "counter",
        "Answers with a tool call that did not follow its syntax.", (double)tally->n_malformed_calls);
    write_histogram("phalanx_time_to_first_token_seconds", "From the request to its first token.",
                    &tally->first_token, to);
    write_histogram("phalanx_request_seconds", "From the request to its end.", &tally->whole, to);
}

static void write_histogram(const char *name, const char *help, const phx_api_histogram *histogram,
                            phx_buf *to)
{
    uint64_t n = 0;
    head(to, name, "histogram", help);
    for (size_t i = 0; i < PHX_API_BUCKETS; i++) {
        n += histogram->n[i];
        (void)phx_buf_printf(to, "%s_bucket{le=\"%g\"} %llu\n", name, bounds_s[i], (unsigned long long)n);
    }
    n += histogram->n[PHX_API_BUCKETS];
    (void)phx_buf_printf(to, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.6f\n%s_count %llu\n", name,
                         (unsigned long long)n, name, (double)histogram->sum_us * 1e-6, name,
                         (unsigned long long)n);
}

static void write_drafts(const Phalanx__StatusReply *status, phx_buf *to)
{
    static const char *const names[] = {"phalanx_draft_tokens_per_step", "phalanx_draft_step_seconds"};
    static const char *const helps[] = {"Tokens per sequence and step with so many drafts.",
                                        "Time of a step with so many drafts at the present batch."};
    for (size_t m = 0; m < 2 && status->n_drafts_list; m++) {
        head(to, names[m], "gauge", helps[m]);
        for (size_t n = 0; n < status->n_drafts_list; n++)
            (void)phx_buf_printf(to, "%s{drafts=\"%zu\"} %.6f\n", names[m], n,
                                 m == 0 ? status->drafts_list[n]->tokens
                                        : status->drafts_list[n]->cost_us * 1e-6);
    }
}

static void write_engine(phx_api *api, phx_buf *to)
{
    phx_engine *engine = api->options.engine;
    const phx_sched_stats s = phx_engine_stats(engine);
    const phx_engine_state now = phx_engine_state_of(engine);
    head(to, "phalanx_state", "gauge", "1 for the state that the server is in.");
    for (int i = PHX_ENGINE_STARTING; i <= PHX_ENGINE_FAILED; i++)
        (void)phx_buf_printf(to, "phalanx_state{state=\"%s\"} %d\n",
                             phx_engine_state_name((phx_engine_state)i), (int)now == i);
    one(to, "phalanx_uptime_seconds", "gauge", "Since the start.",
        (double)(phx_clock_us() - api->start_us) * 1e-6);
    one(to, "phalanx_queued_requests", "gauge", "Waiting for a slot.", s.n_queued);
    one(to, "phalanx_queued_tokens", "gauge", "Prompt tokens of those.", (double)s.n_queued_tokens);
    one(to, "phalanx_running_requests", "gauge", "Holding a slot.", s.n_running);
    one(to, "phalanx_steps_in_flight", "gauge", "Steps that the ranks work on.", s.n_in_flight);
    one(to, "phalanx_kv_blocks", "gauge", "Blocks of the KV cache.", s.n_blocks);
    one(to, "phalanx_kv_blocks_used", "gauge", "Blocks that a request or a step in flight refers to.",
        s.n_blocks_used);
    one(to, "phalanx_kv_blocks_cached", "gauge", "Blocks kept only for prefix reuse.", s.n_blocks_cached);
    one(to, "phalanx_prompt_tokens_total", "counter", "Prompt tokens of all requests.",
        (double)s.n_prompt_tokens);
    one(to, "phalanx_cached_tokens_total", "counter", "Prompt tokens found in the prefix cache.",
        (double)s.n_cached_tokens);
    one(to, "phalanx_output_tokens_total", "counter", "Tokens generated.", (double)s.n_output_tokens);
    one(to, "phalanx_steps_total", "counter", "Steps finished.", (double)s.n_steps);
    one(to, "phalanx_preempted_total", "counter", "Requests put back into the queue.", (double)s.n_preempted);
    one(to, "phalanx_drafts_fed_total", "counter", "Drafted tokens that were tried (multi-token prediction).",
        (double)s.n_drafts_fed);
    one(to, "phalanx_drafts_held_total", "counter", "Of them, those that were what the model chose.",
        (double)s.n_drafts_held);
    one(to, "phalanx_decoded_rows_total", "counter", "Sequences continued, summed over steps.",
        (double)s.n_decoded);
    one(to, "phalanx_decode_steps_total", "counter", "Steps of nothing but decoding.",
        (double)s.n_decode_steps);
    one(to, "phalanx_decode_seconds_total", "counter", "Time of those steps.", (double)s.decode_us * 1e-6);
    one(to, "phalanx_draft_length", "gauge", "Tokens drafted ahead of each sequence now.", s.n_drafts);
    one(to, "phalanx_refused_total", "counter", "Requests refused because the queue was full.",
        (double)s.n_refused);
    Phalanx__StatusReply status = PHALANX__STATUS_REPLY__INIT;
    phx_engine_status(engine, &status);
    one(to, "phalanx_prompt_tokens_per_second", "gauge", "Prompt tokens computed lately.",
        status.prompt_tokens_per_s);
    one(to, "phalanx_output_tokens_per_second", "gauge", "Tokens generated lately.",
        status.output_tokens_per_s);
    one(to, "phalanx_epoch", "gauge", "How often a rank group was started.", (double)status.epoch);
    write_drafts(&status, to);
    write_ranks(&status, to);
}

static void write_ranks(const Phalanx__StatusReply *status, phx_buf *to)
{
    static const char *const names[] = {"phalanx_rank_resident_bytes", "phalanx_rank_plan_bytes",
                                        "phalanx_rank_exchange_bytes_total", "phalanx_rank_steps_total",
                                        "phalanx_rank_replays_total"};
    static const char *const types[] = {"gauge", "gauge", "counter", "counter", "counter"};
    static const char *const helps[] = {"Taken by the rank, by its own account.",
                                        "What the plan announced for it.",
                                        "Moved by its tensor-parallel exchanges.", "Steps it finished.",
                                        "Of these, steps replayed as graphs."};
    for (size_t m = 0; m < sizeof(names) / sizeof(names[0]); m++) {
        head(to, names[m], types[m], helps[m]);
        for (size_t r = 0; r < status->n_ranks; r++) {
            const Phalanx__RankStatus *rank = status->ranks[r];
            const uint64_t values[] = {rank->resident_bytes, rank->plan_bytes, rank->exchange_bytes,
                                       rank->n_steps, rank->n_replays};
            (void)phx_buf_printf(to, "%s{rank=\"%u\"} %llu\n", names[m], rank->rank,
                                 (unsigned long long)values[m]);
        }
    }
}

static void write_http(const phx_http_stats *s, phx_buf *to)
{
    one(to, "phalanx_http_connections_open", "gauge", "Open connections.", (double)s->n_conns_open);
    one(to, "phalanx_http_connections_total", "counter", "Connections accepted.", (double)s->n_conns);
    one(to, "phalanx_http_requests_total", "counter", "Requests handed to a route.", (double)s->n_requests);
    one(to, "phalanx_http_replies_open", "gauge", "Replies owed to a client that is there.",
        (double)s->n_replies_open);
    one(to, "phalanx_http_cancelled_total", "counter", "Replies whose client left before their end.",
        (double)s->n_cancelled);
    one(to, "phalanx_http_received_bytes_total", "counter", "Bytes received.", (double)s->n_received_bytes);
    one(to, "phalanx_http_sent_bytes_total", "counter", "Bytes sent.", (double)s->n_sent_bytes);
    head(to, "phalanx_http_replies_total", "counter", "Replies begun, by status.");
    for (unsigned i = 0; i < sizeof(s->by_status) / sizeof(s->by_status[0]); i++) {
        if (s->by_status[i])
            (void)phx_buf_printf(to, "phalanx_http_replies_total{status=\"%u\"} %llu\n", i + 100,
                                 (unsigned long long)s->by_status[i]);
    }
    head(to, "phalanx_http_faults_total", "counter", "Requests or connections ended by the HTTP layer.");
    for (int i = PHX_HTTP_FAULT_NONE + 1; i < PHX_HTTP_FAULT_COUNT; i++) {
        /* Several faults share a code, so the number tells them apart. */
        if (s->by_fault[i])
            (void)phx_buf_printf(to, "phalanx_http_faults_total{fault=\"%d\",code=\"%s\"} %llu\n", i,
                                 phx_http_fault_code((phx_http_fault)i), (unsigned long long)s->by_fault[i]);
    }
}
