/* model/safetensors.h - one safetensors file: header rules, reading ranges, writing.
 * Owns: the validation of the format (sizes, overlap, gaps, header limits; models.md 3.1,
 * reliability.md 3.4). Not here: several shards and tensor meaning (model/checkpoint.h). */
#ifndef PHX_MODEL_SAFETENSORS_H
#define PHX_MODEL_SAFETENSORS_H

#include "base/hash.h"
#include "base/limits.h"
#include "base/status.h"
#include "model/dtype.h"

typedef struct phx_st_tensor {
    phx_str name; /* inside the file's name table */
    phx_dtype dtype;
    uint32_t n_dims;
    int64_t shape[PHX_TENSOR_DIMS_MAX];
    uint64_t offset; /* bytes from the start of the file */
    uint64_t n_bytes;
} phx_st_tensor;

typedef struct phx_st_file phx_st_file;

/* Opens and validates; no tensor data is read. Unknown dtypes are an error naming tensor and dtype. */
phx_code phx_st_open(const char *path, phx_st_file **ret_file, phx_error *err);

/* Validates a header held in memory (fuzzing and tests): text is the JSON, data_bytes the size of the byte
 * buffer. */
phx_code phx_st_parse_header(phx_bytes text, uint64_t data_bytes, phx_st_file **ret_file, phx_error *err);
void phx_st_close(phx_st_file *file); /* accepts NULL */

size_t phx_st_count(const phx_st_file *file);
const phx_st_tensor *phx_st_at(const phx_st_file *file, size_t idx);
const phx_st_tensor *phx_st_find(const phx_st_file *file, phx_str name); /* hashed; NULL when absent */
phx_str phx_st_metadata(const phx_st_file *file, const char *key);       /* {NULL, 0} when absent */
const char *phx_st_path(const phx_st_file *file);
uint64_t phx_st_file_bytes(const phx_st_file *file); /* prefix, header and data */
phx_hash phx_st_head_hash(const phx_st_file *file);  /* of the header's text */

/* Reads [offset, offset + n) of a tensor's bytes. Short files, truncation while open and I/O errors name file
 * and byte. */
phx_code phx_st_read(const phx_st_file *file, const phx_st_tensor *tensor, uint64_t offset, void *to,
                     size_t n, phx_error *err);

/* Writing: declare all tensors, then append the data of each in order; close finishes the file by rename. */
typedef struct phx_st_writer phx_st_writer;
typedef struct phx_st_decl {
    const char *name;
    phx_dtype dtype;
    uint32_t n_dims;
    int64_t shape[PHX_TENSOR_DIMS_MAX];
} phx_st_decl;
phx_code phx_st_writer_open(const char *path, const phx_st_decl *decls, size_t n_decls,
                            phx_st_writer **ret_writer, phx_error *err);
phx_code phx_st_writer_append(phx_st_writer *writer, const void *data, size_t n, phx_error *err);
phx_code phx_st_writer_skip(phx_st_writer *writer, uint64_t n, phx_error *err); /* a hole (synth --sparse) */
phx_code phx_st_writer_close(phx_st_writer *writer, phx_error *err);            /* frees also on failure */
void phx_st_writer_abort(phx_st_writer *writer); /* removes the temporary; accepts NULL */

#endif
