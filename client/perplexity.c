/* client/perplexity.c - see perplexity.h. */
#include "client/perplexity.h"

#include <math.h>
#include <stdio.h>

#include "base/alloc.h"
#include "client/capture.h"
#include "client/terminal.h"
#include "client/tokens.h"
#include "model/synth.h"
#include "proto/limits.h"

typedef struct measurement {
    const phx_perplexity_request *request;
    phx_server *server;
    phx_tokens tokens;
    uint32_t n_window;
    double sum;
    uint64_t n_counted;
} measurement;

static phx_code read_ids(measurement *m, phx_error *err);
static phx_code add_window(measurement *m, uint32_t first, uint32_t n, phx_error *err);

/* A private server for one request at a time needs no more cache than a window. */
static phx_code set_options(measurement *m, phx_options *options, phx_error *err)
{
    char path[4096];
    char context[16];
    phx_dims dims;
    const char *dir = m->request->model_dir;
    if ((size_t)snprintf(path, sizeof(path), "%s/config.json", dir) >= sizeof(path))
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "the folder's path is too long");
    phx_code rc = phx_synth_config(path, &dims, err);
    if (rc != PHX_OK)
        return rc;
    if (options->source[PHX_OPTION_context] != PHX_OPTION_DEFAULT)
        dims.n_positions =
            dims.n_positions < (int64_t)options->context ? dims.n_positions : (int64_t)options->context;
    m->n_window = m->request->n_window;
    if (dims.n_positions <= (int64_t)m->n_window)
        m->n_window = (uint32_t)dims.n_positions - 1;
    (void)snprintf(context, sizeof(context), "%u", m->n_window + 1);
    rc = phx_options_set(options, PHX_OPTION_model, phx_str_of(dir), PHX_OPTION_ARGS, err);
    if (rc == PHX_OK && options->source[PHX_OPTION_context] == PHX_OPTION_DEFAULT)
        rc = phx_options_set(options, PHX_OPTION_context, phx_str_of(context), PHX_OPTION_ARGS, err);
    if (rc == PHX_OK && options->source[PHX_OPTION_max_batch] == PHX_OPTION_DEFAULT)
        rc = phx_options_set(options, PHX_OPTION_max_batch, phx_str_of("2"), PHX_OPTION_ARGS, err);
    return rc;
}

phx_code phx_perplexity_measure(const phx_perplexity_request *request, phx_perplexity *ret_perplexity,
                                phx_error *err)
{
    measurement m = {.request = request};
    phx_options options = *request->options;
    phx_progress progress;
    const phx_server_spec spec = {.env = request->env, .options = &options, .interrupt = request->interrupt};
    phx_progress_init(&progress);
    phx_code rc = set_options(&m, &options, err);
    if (rc == PHX_OK)
        rc = phx_server_open(&spec, &m.server, err);
    if (rc == PHX_OK)
        rc = read_ids(&m, err);
    if (rc == PHX_OK && m.tokens.n < 2)
        rc = PHX_FAIL(err, PHX_ERR_CORRUPT, "the text has %u tokens: at least two are needed", m.tokens.n);
    for (uint32_t first = 0; rc == PHX_OK && first + 1 < m.tokens.n; first += m.n_window) {
        const uint32_t left = m.tokens.n - first;
        phx_progress_show(&progress, "perplexity", first, m.tokens.n, request->model_dir);
        rc = add_window(&m, first, left < m.n_window ? left : m.n_window, err);
    }
    phx_progress_end(&progress);
    if (rc == PHX_OK)
        *ret_perplexity = (phx_perplexity){.value = exp(m.sum / (double)m.n_counted),
                                           .n_tokens = m.tokens.n,
                                           .n_counted = m.n_counted,
                                           .n_window = m.n_window};
    phx_server_close(m.server);
    phx_tokens_done(&m.tokens);
    return rc;
}

/* The ids come in several events when there are many. */
static phx_code take_ids(phx_tokens *tokens, const Phalanx__GenerateEvent *event, phx_error *err)
{
    if (event->n_token_ids > PHX_REQUEST_TOKENS_MAX - tokens->n)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "the server sent more than %u ids", PHX_REQUEST_TOKENS_MAX);
    memcpy(tokens->ids + tokens->n, event->token_ids, event->n_token_ids * sizeof(*tokens->ids));
    tokens->n += (uint32_t)event->n_token_ids;
    return PHX_OK;
}

static phx_code read_ids(measurement *m, phx_error *err)
{
    phx_client *client = phx_server_client(m->server);
    phx_interrupt *interrupt = m->request->interrupt;
    const Phalanx__GenerateEvent *event = NULL;
    Phalanx__GenerateRequest message = PHALANX__GENERATE_REQUEST__INIT;
    uint64_t call_id = 0;
    message.prompt_case = PHALANX__GENERATE_REQUEST__PROMPT_TEXT;
    message.text = (char *)(uintptr_t)m->request->text.ptr; /* only read */
    message.only_ids = 1;
    m->tokens.ids = phx_alloc(PHX_REQUEST_TOKENS_MAX, sizeof(*m->tokens.ids));
    if (!m->tokens.ids)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "%u token ids", PHX_REQUEST_TOKENS_MAX);
    phx_code rc = phx_client_generate(client, &message, 0, &call_id, err);
    while (rc == PHX_OK) {
        rc = phx_client_next(client, call_id, phx_interrupt_keep_waiting, interrupt, &event, err);
        if (rc != PHX_OK || !event)
            break;
        rc = take_ids(&m->tokens, event, err);
        if (rc != PHX_OK)
            (void)phx_client_cancel(client, call_id, NULL);
    }
    return rc;
}

static phx_code add_window(measurement *m, uint32_t first, uint32_t n, phx_error *err)
{
    phx_capture *capture = NULL;
    double sum = 0;
    const phx_capture_request request = {
        .ids = m->tokens.ids + first, .n_ids = n, .mask = PHX_CAPTURE_LOGITS};
    if (n < 2)
        return PHX_OK;
    phx_code rc =
        phx_capture_run(phx_server_client(m->server), m->request->interrupt, &request, &capture, err);
    const phx_captured *logits = rc == PHX_OK ? phx_capture_find(capture, "logits") : NULL;
    if (rc == PHX_OK && (!logits || logits->n_rows != n))
        rc = PHX_FAIL(err, PHX_ERR_CORRUPT, "the server sent no logits for %u tokens", n);
    if (rc == PHX_OK)
        rc = phx_perplexity_sum(logits->values, logits->n_cols, request.ids, n, &sum, err);
    if (rc == PHX_OK) {
        m->sum += sum;
        m->n_counted += n - 1;
    }
    phx_capture_destroy(capture);
    return rc;
}
