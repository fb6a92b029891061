/* model/quantisation.h - quantization_config of a config.json: which methods we read, and what we write
 * there. Owns: the text of that one object. Not here: how a tensor is really stored (model/checkpoint.c
 * decides that by what lies beside it, never by the lists of this object). */
#ifndef PHX_MODEL_QUANTISATION_H
#define PHX_MODEL_QUANTISATION_H

#include "base/json.h"
#include "model/dtype.h"

typedef struct phx_quantisation {
    phx_format format;    /* PHX_FORMAT_FP8_BLOCK, PHX_FORMAT_INT4_G32, or PHX_FORMAT_BF16 for none */
    bool fp8_scale_ue8m0; /* scale_fmt is ue8m0 */
} phx_quantisation;

/* object: the value of quantization_config, or NULL. Methods: fp8 with e4m3 in blocks of 128x128; and
 * compressed-tensors pack-quantized, int4, symmetric, in groups of 32 columns. PHX_ERR_UNSUPPORTED names what
 * else it found. */
phx_code phx_quantisation_parse(const phx_json *object, phx_quantisation *ret_quantisation, phx_error *err);

/* The object as makers publish it, as a value after a key. int4-g32: all linear layers but those that the
 * list of exceptions names; what is left are the routed experts. Other formats: null. */
void phx_quantisation_write(const phx_quantisation *quantisation, phx_json_writer *w);

#endif
