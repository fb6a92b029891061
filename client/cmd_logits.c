/* client/cmd_logits.c - `phalanx logits`: the logits of every position of a list of token ids, as a NumPy
 * file. */
#include "client/server.h"

#include <math.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/rng.h"
#include "client/capture.h"
#include "client/npy.h"
#include "client/tokens.h"
#include "model/plan.h"
#include "proto/limits.h"

#define NEIGHBOURS_MAX   64u
#define NEIGHBOUR_TOKENS 24u /* prompt of each neighbour; they generate as long as the capture runs */
#define NEIGHBOUR_SEED   20240229u

typedef struct logits_args {
    const char *connect;
    const char *key_file;
    const char *tokens;
    const char *out;
    const char *chunk;
    const char *warm;
    const char *neighbours;
} logits_args;

typedef struct neighbours {
    uint32_t n;
    uint64_t call_ids[NEIGHBOURS_MAX];
} neighbours;

static phx_code read_count(const char *flag, const char *text, uint64_t max, uint32_t *ret, phx_error *err)
{
    uint64_t number = 0;
    if (text && !phx_str_to_u64(phx_str_of(text), 0, max, &number))
        return PHX_FAIL(err, PHX_ERR_INVALID, "--%s cannot be '%.40s': a number up to %llu", flag, text,
                        (unsigned long long)max);
    *ret = (uint32_t)number;
    return PHX_OK;
}

/* The cache gives whole blocks, and the last token always runs: any other number would be rounded down, to
 * none at all when it is small, and whoever compares rows would compare other ones than he asked for. */
static phx_code check_warm(uint32_t warm, uint32_t n_tokens, phx_error *err)
{
    const uint32_t most = n_tokens ? (n_tokens - 1) / PHX_BLOCK_TOKENS * PHX_BLOCK_TOKENS : 0;
    if (warm % PHX_BLOCK_TOKENS == 0 && warm <= most)
        return PHX_OK;
    if (most == 0)
        return PHX_FAIL(
            err, PHX_ERR_INVALID,
            "--warm %u: the prefix cache holds blocks of %u tokens, and of %u tokens none is reused: "
            "give more tokens, or no --warm",
            warm, PHX_BLOCK_TOKENS, n_tokens);
    return PHX_FAIL(err, PHX_ERR_INVALID,
                    "--warm %u: the prefix cache holds blocks of %u tokens: give a multiple of %u up to %u",
                    warm, PHX_BLOCK_TOKENS, PHX_BLOCK_TOKENS, most);
}

/* Random prompts that run beside the capture: ids below the smallest of the given ones' maximum are surely
 * known. */
static phx_code start_neighbours(phx_client *client, const phx_tokens *tokens, uint32_t n, neighbours *ret,
                                 phx_error *err)
{
    phx_rng rng = {.seed = NEIGHBOUR_SEED};
    uint32_t id_max = 1;
    for (uint32_t i = 0; i < tokens->n; i++)
        id_max = tokens->ids[i] > id_max ? tokens->ids[i] : id_max;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t prompt[NEIGHBOUR_TOKENS];
        Phalanx__GenerateRequest request = PHALANX__GENERATE_REQUEST__INIT;
        Phalanx__TokenIds ids = PHALANX__TOKEN_IDS__INIT;
        for (uint32_t t = 0; t < NEIGHBOUR_TOKENS; t++)
            prompt[t] = phx_rng_below(&rng, id_max + 1);
        ids.ids = prompt;
        ids.n_ids = NEIGHBOUR_TOKENS - i % 8;
        request.prompt_case = PHALANX__GENERATE_REQUEST__PROMPT_TOKEN_IDS;
        request.token_ids = &ids;
        request.ignore_eos = 1;
        const phx_code rc = phx_client_generate(client, &request, 0, &ret->call_ids[i], err);
        if (rc != PHX_OK)
            return rc;
        ret->n++;
    }
    return PHX_OK;
}

/* Waits for the first token of each, so that the capture truly shares its steps with them. */
static phx_code await_neighbours(phx_client *client, phx_interrupt *interrupt, const neighbours *all,
                                 phx_error *err)
{
    for (uint32_t i = 0; i < all->n; i++) {
        const Phalanx__GenerateEvent *event = NULL;
        const phx_code rc =
            phx_client_next(client, all->call_ids[i], phx_interrupt_keep_waiting, interrupt, &event, err);
        if (rc != PHX_OK)
            return rc;
        if (!event || event->finish_reason[0])
            return PHX_FAIL(err, PHX_ERR_UNAVAILABLE, "neighbour %u ended before the capture began", i);
    }
    return PHX_OK;
}

/* A neighbour that failed, rather than ran or ended well, makes the comparison worthless. */
static phx_code stop_neighbours(phx_client *client, phx_interrupt *interrupt, const neighbours *all,
                                phx_error *err)
{
    for (uint32_t i = 0; i < all->n; i++) {
        phx_code rc = phx_client_cancel(client, all->call_ids[i], err);
        const Phalanx__GenerateEvent *event = NULL;
        phx_error why = {0};
        do {
            if (rc == PHX_OK)
                rc = phx_client_next(client, all->call_ids[i], phx_interrupt_keep_waiting, interrupt, &event,
                                     &why);
        } while (rc == PHX_OK && event);
        if (rc != PHX_OK && rc != PHX_ERR_CANCELLED && rc != PHX_ERR_NOT_FOUND)
            return PHX_FAIL(err, rc, "neighbour %u: %s", i, why.text);
    }
    return PHX_OK;
}

/* Rows that came from the prefix cache were not computed: NaN, so that nobody takes them for results. */
static void blank_reused(phx_captured logits)
{
    float *values = logits.values;
    for (size_t i = 0; i < (size_t)logits.row_first * logits.n_cols; i++)
        values[i] = NAN;
}

static phx_code capture_and_write(phx_server *server, const phx_server_spec *spec, const logits_args *given,
                                  const phx_capture_request *request, uint32_t n_neighbours, phx_error *err)
{
    const phx_tokens tokens = {(uint32_t *)(uintptr_t)request->ids, request->n_ids};
    phx_client *client = phx_server_client(server);
    phx_capture *capture = NULL;
    neighbours beside = {0};
    phx_code rc = start_neighbours(client, &tokens, n_neighbours, &beside, err);
    if (rc == PHX_OK)
        rc = await_neighbours(client, spec->interrupt, &beside, err);
    if (rc == PHX_OK)
        rc = phx_capture_run(client, spec->interrupt, request, &capture, err);
    if (rc == PHX_OK)
        rc = stop_neighbours(client, spec->interrupt, &beside, err);
    if (rc != PHX_OK)
        goto out;
    const phx_captured *logits = phx_capture_find(capture, "logits");
    if (!logits) {
        rc = PHX_FAIL(err, PHX_ERR_CORRUPT, "the server sent no logits");
        goto out;
    }
    blank_reused(*logits);
    rc = phx_npy_write_f32(given->out, logits->values, logits->n_rows, logits->n_cols, err);
    if (rc == PHX_OK)
        (void)fprintf(stderr, "wrote %s: float32 [%u][%u]%s\n", given->out, logits->n_rows, logits->n_cols,
                      logits->row_first ? ", rows from the prefix cache are NaN" : "");
    if (rc == PHX_OK && logits->row_first)
        (void)fprintf(stderr, "%u rows came from the prefix cache\n", logits->row_first);
out:
    phx_capture_destroy(capture);
    return rc;
}

/* A private server for one request needs no more cache than it: the rest of the memory stays free. */
static phx_code shrink(phx_options *options, const phx_tokens *tokens, uint32_t n_neighbours, phx_error *err)
{
    char text[16];
    phx_code rc = PHX_OK;
    if (options->source[PHX_OPTION_max_batch] == PHX_OPTION_DEFAULT) {
        (void)snprintf(text, sizeof(text), "%u", n_neighbours + 2);
        rc = phx_options_set(options, PHX_OPTION_max_batch, phx_str_of(text), PHX_OPTION_ARGS, err);
    }
    /* Neighbours generate to the end of the context, which must outlast the capture. */
    if (rc == PHX_OK && options->source[PHX_OPTION_context] == PHX_OPTION_DEFAULT && n_neighbours == 0) {
        (void)snprintf(text, sizeof(text), "%u", tokens->n + 1);
        rc = phx_options_set(options, PHX_OPTION_context, phx_str_of(text), PHX_OPTION_ARGS, err);
    }
    return rc;
}

static phx_exit run(const phx_env *env, phx_options *options, const logits_args *given)
{
    phx_error err = {0};
    phx_tokens tokens = {0};
    phx_capture_request request = {.mask = PHX_CAPTURE_LOGITS};
    uint32_t n_neighbours = 0;
    phx_interrupt interrupt = {.fd = -1};
    phx_server *server = NULL;
    if (read_count("chunk", given->chunk, 1u << 20, &request.chunk, &err) != PHX_OK ||
        read_count("warm", given->warm, PHX_REQUEST_TOKENS_MAX, &request.warm, &err) != PHX_OK ||
        read_count("neighbours", given->neighbours, NEIGHBOURS_MAX, &n_neighbours, &err) != PHX_OK)
        return phx_command_fail_usage(err.text);
    phx_code rc = phx_tokens_read(given->tokens, &tokens, &err);
    if (rc == PHX_OK && check_warm(request.warm, tokens.n, &err) != PHX_OK) {
        phx_tokens_done(&tokens);
        return phx_command_fail_usage(err.text);
    }
    if (rc == PHX_OK)
        rc = shrink(options, &tokens, n_neighbours, &err);
    if (rc == PHX_OK)
        rc = phx_interrupt_open(&interrupt, &err);
    request.ids = tokens.ids;
    request.n_ids = tokens.n;
    const phx_server_spec spec = {.env = env,
                                  .options = options,
                                  .connect = given->connect,
                                  .key_file = given->key_file,
                                  .interrupt = &interrupt};
    if (rc == PHX_OK)
        rc = phx_server_open(&spec, &server, &err);
    if (rc == PHX_OK)
        rc = capture_and_write(server, &spec, given, &request, n_neighbours, &err);
    phx_server_close(server);
    phx_interrupt_close(&interrupt);
    phx_tokens_done(&tokens);
    return rc == PHX_OK ? PHX_EXIT_DONE : phx_command_fail(&err);
}

phx_exit phx_command_logits(const phx_env *env, int argc, char *const *argv)
{
    logits_args given = {0};
    const phx_flag flags[] = {
        {"tokens", "LIST|@FILE", "token ids with commas or blanks between", &given.tokens, NULL},
        {"out", "FILE.npy", "float32 [n_tokens][n_vocab]", &given.out, NULL},
        {"chunk", "N", "largest prefill chunk [as the server likes]", &given.chunk, NULL},
        {"warm", "N",
         "take so many leading tokens, a multiple of 64, from the prefix cache; their rows are NaN",
         &given.warm, NULL},
        {"neighbours", "M", "random generations that share the batch meanwhile [0]", &given.neighbours, NULL},
        {"connect", "ADDRESS", "use this running server instead of starting one", &given.connect, NULL},
        {"key-file", "FILE", "keys for --connect over tcp", &given.key_file, NULL},
    };
    const phx_args_spec spec = {
        .usage = "phalanx logits --model DIR [options] --tokens LIST|@FILE --out FILE.npy",
        .about = "Computes the logits of every position by the path that serves requests, and writes them.",
        .scopes = PHX_SERVER_SCOPES,
        .flags = flags,
        .n_flags = sizeof(flags) / sizeof(flags[0]),
        .exit_codes = PHX_EXIT_CODES_SERVER,
    };
    phx_options options;
    phx_args args;
    phx_exit code = PHX_EXIT_DONE;
    if (!phx_command_begin(&spec, argc, argv, &options, &args, &code))
        return code;
    if (!given.tokens || !given.out)
        return phx_command_fail_usage("give --tokens LIST|@FILE and --out FILE.npy");
    if (!phx_file_writable(given.out)) { /* before a model is loaded for it */
        phx_error err = {0};
        (void)PHX_FAIL(&err, PHX_ERR_IO, "--out '%s': there is no folder for it, or it may not be written",
                       given.out);
        return phx_command_fail(&err);
    }
    return run(env, &options, &given);
}
