/* base/options_table.h - the rows of base/options.list as data, for the files options*.c alone. */
#ifndef PHX_BASE_OPTIONS_TABLE_H
#define PHX_BASE_OPTIONS_TABLE_H

#include "base/options.h"

typedef enum phx_option_kind {
    PHX_OPTION_KIND_TEXT,
    PHX_OPTION_KIND_CHOICE,
    PHX_OPTION_KIND_COUNT,
    PHX_OPTION_KIND_BYTES,
    PHX_OPTION_KIND_SWITCH,
    PHX_OPTION_KIND_FLAG
} phx_option_kind;

typedef struct phx_option_row {
    const char *key;
    phx_option_kind kind;
    phx_option_scope scope;
    const char *value; /* default */
    const char *limits;
    const char *meta;
    const char *help;
    size_t offset; /* of the field in phx_options */
} phx_option_row;

const phx_option_row *phx_option_row_of(phx_option option);

#endif
