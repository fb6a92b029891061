/* model/dims_layers.h - what config.json says layer by layer; used by model/dims.c only. */
#ifndef PHX_MODEL_DIMS_LAYERS_H
#define PHX_MODEL_DIMS_LAYERS_H

#include "model/family.h"

/* Fills dims->index_shared; all other counts are parsed already. Lists and patterns that contradict them or
 * that nothing computes are refused, naming key and layer. */
phx_code phx_dims_parse_layers(const phx_json *config, const phx_family *family, phx_dims *dims,
                               phx_error *err);

#endif
