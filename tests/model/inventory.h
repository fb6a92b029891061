/* tests/model/inventory.h - a full-size preset as sparse files, counted, and the published figures of
 * models.md it is compared with; each comparison prints its section. */
#ifndef PHX_TESTS_MODEL_INVENTORY_H
#define PHX_TESTS_MODEL_INVENTORY_H

#include "model/checkpoint.h"

typedef struct full { /* one preset as a folder */
    char dir[64];
    phx_checkpoint *ck;
    uint64_t n_main, main_parameters, main_bytes;
    uint64_t n_mtp, mtp_parameters, mtp_copies; /* copies of embedding and head: parameters */
    uint64_t n_expert_parameters, n_expert_bytes;
    uint64_t n_indexers; /* layers of the main graph that have one */
} full;

full full_open(const char *preset);
void full_close(full *f); /* removes the files; none may be unexpected */

/* Counts and bytes: exactly. */
void exactly(const char *section, const char *what, uint64_t got, uint64_t published);
/* Figures that were rounded, in 10^9: to the digits that are printed there. */
void rounded(const char *section, const char *what, uint64_t got, const char *published);

typedef struct fit { /* one plan at tp 8 */
    uint64_t weights, replicated;
    uint32_t n_context, n_cache;
    uint64_t latent, index; /* of the cache, bytes per token */
    char refusal[512];
} fit;

#define GIB ((uint64_t)1 << 30) /* of what a card can give: docs/gpu.md */

fit plan_at(const full *f, uint64_t memory, uint32_t n_drafts);
/* The plan is refused, and the text holds the remedy. */
void refused(const full *f, uint64_t memory, const char *remedy);
/* It fits, with context and cache within 1 % of these. */
void fits(const full *f, uint64_t memory, uint32_t n_context, uint32_t n_cache);

#endif
