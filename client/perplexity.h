/* client/perplexity.h - how surprised a model is by a text.
 * Owns: the private server for its time, the cut of the text into windows, the sum. The server makes the ids
 * and runs the windows as captures, by the path that serves requests. */
#ifndef PHX_CLIENT_PERPLEXITY_H
#define PHX_CLIENT_PERPLEXITY_H

#include "client/server.h"

typedef struct phx_perplexity_request {
    const phx_env *env;
    const phx_options *options; /* of the private server, but for those below */
    const char *model_dir;
    phx_interrupt *interrupt;
    phx_str text;
    uint32_t n_window; /* tokens, at least 2; cut to what the model's context holds */
} phx_perplexity_request;

typedef struct phx_perplexity {
    double value;       /* exp of the mean of -log(probability), over the counted tokens */
    uint64_t n_tokens;  /* of the text, with the tokenizer's begin token where it adds one */
    uint64_t n_counted; /* all but the first of each window, which nothing precedes */
    uint32_t n_window;  /* used */
} phx_perplexity;

/* Windows do not overlap. PHX_ERR_INVALID: fewer than two tokens; errors of phx_server_open and of captures.
 */
phx_code phx_perplexity_measure(const phx_perplexity_request *request, phx_perplexity *ret_perplexity,
                                phx_error *err);

/* -log of the probability of ids[1] to ids[n - 1], added up: logits [n][n_vocab], row i from ids[0] to
 * ids[i]. PHX_ERR_CORRUPT: an id is not below n_vocab, or a logit is not finite. */
phx_code phx_perplexity_sum(const float *logits, uint32_t n_vocab, const uint32_t *ids, uint32_t n,
                            double *ret_sum, phx_error *err);

#endif
