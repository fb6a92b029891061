/* client/golden.h - golden.safetensors: what a correct engine computes for one prompt.
 * Owns: the open file and its metadata. The meaning of every tensor is in the README of the golden models. */
#ifndef PHX_CLIENT_GOLDEN_H
#define PHX_CLIENT_GOLDEN_H

#include "client/compare.h"
#include "model/safetensors.h"

#define PHX_GOLDEN_TOKENS_MAX (1u << 20)
#define PHX_GOLDEN_BYTES_MAX  (4ull << 30) /* of one tensor */

typedef struct phx_golden {
    phx_st_file *file;
    char name[128];    /* metadata "case", or the file's path */
    double logit_atol; /* metadata, or 1e-4 */
    uint32_t *ids;     /* [n_ids] input_ids */
    uint32_t n_ids;
    uint32_t *greedy; /* [n_greedy], NULL: none */
    uint32_t n_greedy;
    bool has_kl;       /* serving.json beside or above knows the case */
    phx_kl_bounds kl;  /* as measured there, not yet widened */
    bool has_cache_kl; /* likewise cache_fp8.json: exact arithmetic over a cache in fp8 */
    phx_kl_bounds cache_kl;
    bool has_official_kl; /* likewise official.json: bf16 activations and the FP8 indexer, against its logits
                           */
    phx_kl_bounds official_kl;
    bool has_products_kl; /* likewise products_fp8.json: exact but for rows of products rounded to fp8 */
    phx_kl_bounds products_kl;
} phx_golden;

/* Opens and reads ids, metadata and the serving figures. Close with phx_golden_close. */
phx_code phx_golden_open(const char *path, phx_golden *ret_golden, phx_error *err);
void phx_golden_close(phx_golden *golden); /* accepts zeros */

/* Values of an F32 or I32 tensor with two dimensions; free with phx_free. */
phx_code phx_golden_read(const phx_golden *golden, const phx_st_tensor *tensor, void **ret_values,
                         phx_error *err);

#endif
