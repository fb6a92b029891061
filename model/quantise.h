/* model/quantise.h - a checkpoint written again with its linear layers in another format (`phalanx
 * quantize`). Owns: the order of work, shards, what lets a cut run go on. Not here: the arithmetic
 * (model/pack.h), the text of quantization_config (model/quantisation.h). */
#ifndef PHX_MODEL_QUANTISE_H
#define PHX_MODEL_QUANTISE_H

#include "model/dtype.h"
#include "base/status.h"

/* What one matrix lost. */
typedef struct phx_quantise_row {
    const char *name; /* of the weight in the source */
    int64_t n_rows;
    int64_t n_cols;
    double relative_rms;
    double max_error;
} phx_quantise_row;

typedef struct phx_quantise_request {
    const char *model_dir;
    const char *out_dir; /* made when absent */
    phx_format to; /* PHX_FORMAT_INT4_G32: routed experts, everything else plain; PHX_FORMAT_FP8_BLOCK: every
                      linear layer that makers store so */
    void (*progress)(void *user, uint64_t done_bytes, uint64_t total_bytes); /* of the source; may be NULL */
    void (*row)(void *user, const phx_quantise_row *row); /* every matrix, once, in file order; may be NULL */
    bool (*keep_going)(void *user);                       /* asked often; may be NULL */
    void *user;
} phx_quantise_request;

/* Reads tensor by tensor and writes one shard for each of the source's, under the same name, with memory for
 * a few rows of the widest matrix. A run that was cut is continued by the next with the same source and
 * format: shards that are whole, as their note beside them (NAME.quantised) says, are not made again. Last
 * come the index, the source's other files and config.json, whose presence says that the folder is complete.
 * PHX_ERR_INVALID: out_dir holds a complete model, or the notes of another run; PHX_ERR_UNSUPPORTED names a
 * matrix that cannot be stored so, or says that there is nothing to do; PHX_ERR_CANCELLED: keep_going said
 * no. Numbers that are not finite are PHX_ERR_CORRUPT. */
phx_code phx_quantise(const phx_quantise_request *request, phx_error *err);

#endif
