/* model/checkpoint_files.h - the files of a model folder as one table of names; used by model/checkpoint.c
 * only. Owns: the open shards, the map from tensor name to place. */
#ifndef PHX_MODEL_CHECKPOINT_FILES_H
#define PHX_MODEL_CHECKPOINT_FILES_H

#include "base/hash.h"
#include "model/name_map.h"
#include "model/safetensors.h"

typedef struct phx_ck_file {
    phx_st_file *st;
    bool *is_used; /* [phx_st_count(st)]: matched with something that the family expects */
} phx_ck_file;

typedef struct phx_ck_place {
    const phx_st_file *file;
    const phx_st_tensor *tensor;
    uint32_t file_idx;
    uint32_t tensor_idx;
} phx_ck_place;

typedef struct phx_ck_files {
    phx_ck_file *files; /* [n_files] in ascending name order */
    size_t n_files;
    phx_ck_place *places; /* [n_places] */
    size_t n_places;
    phx_name_map map; /* name -> place */
    phx_hash hash;    /* config, index, headers, file sizes */
} phx_ck_files;

/* Opens model.safetensors.index.json and its shards, or the single model.safetensors. files starts zeroed;
 * call close also after a failure. */
phx_code phx_ck_files_open(phx_ck_files *files, const char *model_dir, phx_error *err);
void phx_ck_files_close(phx_ck_files *files);

const phx_ck_place *phx_ck_files_find(const phx_ck_files *files, phx_str name); /* NULL when absent */
void phx_ck_files_mark(phx_ck_files *files, const phx_ck_place *place);

#endif
