/* model/synth.h - random checkpoints in the layout of the hub: for measuring, for tests, and (sparse) for
 * planning. Owns: the presets, what random weights look like. Deterministic: the same dims, format and seed
 * give the same tensors, however they are cut into shards. */
#ifndef PHX_MODEL_SYNTH_H
#define PHX_MODEL_SYNTH_H

#include "model/dims.h"

/* How the tensors that makers quantise are stored; all others are BF16, the router's bias F32. int4: the
 * routed experts alone, as Kimi publishes. */
#define PHX_SYNTH_FORMATS(X)                                                            \
    X(PHX_SYNTH_F32, "f32", PHX_FORMAT_F32)                                             \
    X(PHX_SYNTH_BF16, "bf16", PHX_FORMAT_BF16)                                          \
    X(PHX_SYNTH_F16, "f16", PHX_FORMAT_F16)                                             \
    X(PHX_SYNTH_FP8, "fp8", PHX_FORMAT_FP8_BLOCK)             /* scales of any value */ \
    X(PHX_SYNTH_FP8_UE8M0, "fp8-ue8m0", PHX_FORMAT_FP8_BLOCK) /* powers of two */       \
    X(PHX_SYNTH_INT4, "int4", PHX_FORMAT_INT4_G32)

typedef enum phx_synth_format {
#define X(id, name, format) id,
    PHX_SYNTH_FORMATS(X)
#undef X
        PHX_SYNTH_FORMAT_COUNT
} phx_synth_format;

const char *phx_synth_format_name(phx_synth_format format);
bool phx_synth_format_parse(phx_str name, phx_synth_format *ret_format);

/* A module beside those of the family's table: the parts that see. In BF16, as published. A list of them ends
 * with a row without a name. */
typedef struct phx_synth_extra {
    const char *name;  /* "vision_tower.encoder.blocks.{b}.wo": its tensors are NAME.weight and NAME.bias */
    uint32_t n_copies; /* {b} is 0 to n_copies - 1 */
    bool has_bias;     /* of shape[0] elements */
    uint32_t n_dims;   /* of the weight */
    int64_t shape[4];
} phx_synth_extra;

typedef struct phx_preset {
    const char *name;    /* "deepseek-v3.2" */
    const char *meaning; /* one line for people */
    phx_dims dims;
    phx_synth_format format;       /* as published; bf16 where nothing is */
    uint32_t n_shards;             /* as published; 0: by size */
    const phx_synth_extra *extras; /* NULL: none */
} phx_preset;

const phx_preset *phx_preset_find(phx_str name); /* NULL when unknown */
const phx_preset *phx_preset_list(size_t *ret_n);

typedef struct phx_synth_request {
    const phx_dims *dims; /* of a preset, or of a config.json (phx_synth_config) */
    phx_synth_format format;
    uint64_t seed;
    uint32_t n_shards;             /* 0: as many as shard_bytes asks for; 1 gives one file without index */
    uint64_t shard_bytes;          /* 0: 5 GB */
    bool sparse;                   /* headers and holes: sizes are right, all numbers read as zero */
    const char *out_dir;           /* made when absent; refused when it holds a config.json */
    const phx_synth_extra *extras; /* written behind the others; NULL: none */
    void (*progress)(void *user, uint64_t done_bytes, uint64_t total_bytes); /* may be NULL */
    void *user;
} phx_synth_request;

/* Writes shards, index and, last of all, config.json. */
phx_code phx_synth_write(const phx_synth_request *request, phx_error *err);

/* Dims of a config.json anywhere. */
phx_code phx_synth_config(const char *path, phx_dims *ret_dims, phx_error *err);

#endif
