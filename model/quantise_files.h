/* model/quantise_files.h - what a quantised folder holds beside its shards; used by model/quantise.c only. */
#ifndef PHX_MODEL_QUANTISE_FILES_H
#define PHX_MODEL_QUANTISE_FILES_H

#include "base/status.h"
#include "model/dtype.h"

/* config.json of the source with another quantization_config, where the source keeps it (or text_config). */
phx_code phx_quantise_config(const char *model_dir, const char *out_dir, phx_format to, phx_error *err);

/* The source's other files: not config.json, index, weights of any kind, hidden files or folders. */
phx_code phx_quantise_side_files(const char *model_dir, const char *out_dir, phx_error *err);

/* Removes files of dir whose names end so; PHX_OK when there are none. */
phx_code phx_quantise_remove(const char *dir, const char *suffix, phx_error *err);

#endif
