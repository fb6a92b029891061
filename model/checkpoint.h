/* model/checkpoint.h - a model folder: dims, family, shards, and where each expected tensor lies.
 * Owns: open shard files, the table of found tensors with the format each is stored in.
 * Not here: who holds what (model/plan.h), filling memory (worker/weights.c). */
#ifndef PHX_MODEL_CHECKPOINT_H
#define PHX_MODEL_CHECKPOINT_H

#include "base/hash.h"
#include "model/family.h"
#include "model/safetensors.h"

typedef struct phx_ck_tensor {
    phx_tensor_id id;
    phx_format format; /* decided by what is stored beside it, never by config lists */
    const phx_st_file *file;
    const phx_st_tensor *data;     /* NULL: optional and absent; int4-g32: I32 [rows][cols/8] */
    const phx_st_file *scale_file; /* may be another shard */
    const phx_st_tensor *scales;   /* NULL for plain formats; fp8: F32 or F8_E8M0 [ceil(rows/128)][
                                      ceil(cols/128)]; int4-g32: BF16 [rows][cols/32] */
    int64_t n_rows;                /* global */
    int64_t n_cols;
} phx_ck_tensor;

typedef struct phx_checkpoint phx_checkpoint;

/* Opens config.json, the index and every shard named there (or the single model.safetensors), then matches
 * them against the family's table: a missing tensor, a wrong shape or dtype is an error naming it; extras are
 * counted. Files without one tensor of the MTP layers that the config promises are a model without MTP: its
 * dims then say n_layers_mtp 0. */
phx_code phx_checkpoint_open(const char *model_dir, phx_checkpoint **ret_checkpoint, phx_error *err);
/* As open, but missing tensors are listed instead of being an error (inspect). */
phx_code phx_checkpoint_open_lenient(const char *model_dir, phx_checkpoint **ret_checkpoint, phx_error *err);
void phx_checkpoint_close(phx_checkpoint *checkpoint); /* accepts NULL */

const phx_dims *phx_checkpoint_dims(const phx_checkpoint *checkpoint);
const phx_family *phx_checkpoint_family(const phx_checkpoint *checkpoint);
const char *phx_checkpoint_dir(const phx_checkpoint *checkpoint);

/* The shards in ascending name order; NULL past the last. */
size_t phx_checkpoint_n_files(const phx_checkpoint *checkpoint);
const phx_st_file *phx_checkpoint_file(const phx_checkpoint *checkpoint, size_t idx);

size_t
phx_checkpoint_count(const phx_checkpoint *checkpoint); /* expected tensors, in phx_family_each order */
const phx_ck_tensor *phx_checkpoint_at(const phx_checkpoint *checkpoint, size_t idx);
const phx_ck_tensor *phx_checkpoint_find(const phx_checkpoint *checkpoint, phx_role role, int32_t layer,
                                         int32_t expert); /* NULL when not expected or absent */

typedef struct phx_checkpoint_totals {
    uint64_t n_shards;
    uint64_t n_tensors;    /* tensors in all files, scales included */
    uint64_t n_weights;    /* without scales */
    uint64_t n_bytes;      /* of tensor data in all files */
    uint64_t n_parameters; /* elements of weights, scales not counted */
    uint64_t n_extra;      /* in the files but not in the family's table */
    uint64_t n_skipped;    /* known and not loaded: vision */
    uint64_t n_skipped_bytes;
    uint64_t n_missing; /* lenient open only */
} phx_checkpoint_totals;
phx_checkpoint_totals phx_checkpoint_count_all(const phx_checkpoint *checkpoint);
phx_str phx_checkpoint_extra(const phx_checkpoint *checkpoint, size_t idx); /* name of an unexpected tensor */
phx_str phx_checkpoint_missing(const phx_checkpoint *checkpoint, size_t idx); /* name of a missing tensor */

/* Config, index (or single header), headers and file sizes: what the canary is filed under. */
phx_hash phx_checkpoint_hash(const phx_checkpoint *checkpoint);

#endif
