/* client/model_sums.h - tensors, parameters and bytes of a checkpoint, added up: by format, main graph and
 * MTP layers apart, and what one token meets. Counted from headers; the figures are the model's, not an
 * engine's. */
#ifndef PHX_CLIENT_MODEL_SUMS_H
#define PHX_CLIENT_MODEL_SUMS_H

#include "model/checkpoint.h"

typedef struct phx_model_sum {
    uint64_t n_tensors;
    uint64_t n_parameters;
    uint64_t n_bytes; /* scales included */
} phx_model_sum;

typedef struct phx_model_sums {
    phx_model_sum by_format[PHX_FORMAT_COUNT];
    phx_model_sum main; /* the graph without MTP layers */
    phx_model_sum mtp;
    uint64_t n_active;       /* parameters that one token meets, embedding and head included */
    uint64_t n_active_bytes; /* read per decoded token at batch 1, without cache: of the embedding one row */
    uint64_t
        n_linear; /* parameters that a prompt token is multiplied with: n_active without embedding and head */
} phx_model_sums;

phx_model_sums phx_model_sum_up(const phx_checkpoint *checkpoint);

#endif
