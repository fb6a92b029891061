/* model/numerics.h - every choice that can change a bit, as one structure, printed and hashed (DESIGN 7,
 * models.md 8.3). Owns: the knobs, their three presets, their text form. */
#ifndef PHX_MODEL_NUMERICS_H
#define PHX_MODEL_NUMERICS_H

#include "base/buf.h"
#include "base/hash.h"
#include "base/status.h"
#include "model/dtype.h"

typedef enum phx_profile { PHX_PROFILE_SERVING, PHX_PROFILE_OFFICIAL, PHX_PROFILE_ORACLE } phx_profile;
typedef enum phx_latent_eps { PHX_LATENT_EPS_CONFIG, PHX_LATENT_EPS_1E6 } phx_latent_eps;
typedef enum phx_expert_mode { PHX_EXPERTS_TP, PHX_EXPERTS_EP } phx_expert_mode;

typedef struct phx_numerics {
    phx_profile profile;       /* the preset it started from; knobs below decide */
    phx_dtype act;             /* activations between ops: PHX_BF16 or PHX_F32 */
    phx_dtype cache;           /* latent and index-key cache: PHX_BF16 or PHX_F32; PHX_F8_E4M3: latent entries
                                  in the fp8 form of kernels/cache.h, index keys in bf16 */
    phx_latent_eps latent_eps; /* epsilon of the q_a and kv_a norms */
    bool index_wide; /* the indexer reads what is not rounded to act; its keys lie in f16, not bf16 */
    bool index_hadamard;
    bool index_fp8;     /* round index queries and keys to fp8 with one ue8m0 scale per vector */
    bool deterministic; /* false: expanded dense prefill allowed, tied to DESIGN 7e */
    phx_expert_mode experts;
    char level[16]; /* highest kernel level in use, "ref" "avx2" "avx512"; empty ("auto" in texts): the
                       group will agree on it */
} phx_numerics;

void phx_numerics_preset(phx_profile profile, phx_numerics *ret_numerics);
bool phx_profile_parse(phx_str text, phx_profile *ret_profile);
const char *phx_profile_name(phx_profile profile);

/* Overrides one knob: "index_fp8=on", "latent_eps=config", "act=f32", ... Unknown key or value:
 * PHX_ERR_INVALID. */
phx_code phx_numerics_set(phx_numerics *numerics, phx_str assignment, phx_error *err);

/* "profile=serving act=bf16 ...": every knob, fixed order; hashed into plan and canary. */
void phx_numerics_print(const phx_numerics *numerics, phx_buf *buf);
/* Reads back what phx_numerics_print writes: words key=value separated by blanks; starts from the named
 * profile. */
phx_code phx_numerics_parse(phx_str text, phx_numerics *ret_numerics, phx_error *err);
phx_hash phx_numerics_hash(const phx_numerics *numerics);

/* In which the cache holds index keys. */
phx_dtype phx_numerics_index_keys(const phx_numerics *numerics);

/* Whether the level is one of a device ("emu", "sm90") and not of the CPU: then ops, weights and cache live
 * in device memory. */
bool phx_numerics_on_device(const phx_numerics *numerics);

/* Whether products of a step may round their rows to fp8: deterministic off, bf16 activations, and a level
 * that has such products (sm90, and the emulator). */
bool phx_numerics_may_round(const phx_numerics *numerics);

#endif
