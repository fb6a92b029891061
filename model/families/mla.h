/* model/families/mla.h - the families with latent attention, listed by model/family.c only. */
#ifndef PHX_MODEL_FAMILIES_MLA_H
#define PHX_MODEL_FAMILIES_MLA_H

#include "model/family.h"

extern const phx_family phx_families_mla[];
extern const size_t phx_n_families_mla;

#endif
