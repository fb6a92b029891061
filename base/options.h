/* base/options.h - one table of keys behind cluster.yaml and the flags of every program (STYLE 35).
 * Owns: phx_options and its defaults, reading flags and the YAML file (the only include of yaml.h), the help
 * text. Not here: what options mean for a plan (model/request_options.h). */
#ifndef PHX_BASE_OPTIONS_H
#define PHX_BASE_OPTIONS_H

#include "base/buf.h"
#include "base/limits.h"
#include "base/status.h"
#include "base/str.h"

#define PHX_OPTION_TEXT_BYTES    2048u /* terminator included */
#define PHX_OPTION_CHOICE_BYTES  16u
#define PHX_OPTIONS_OPERANDS_MAX 16u

/* Scopes: headings of the help, and the bits of what a command accepts. */
#define PHX_OPTION_SCOPES(X)       \
    X(MODEL, "Model")              \
    X(LAYOUT, "Layout")            \
    X(NUMERICS, "Numbers")         \
    X(MEMORY, "Memory and batch")  \
    X(SERVER, "Serving")           \
    X(GROUP, "Starting the ranks") \
    X(CONTROL, "Control")          \
    X(LOG, "Log")

typedef enum phx_option_scope {
#define X(scope, heading) PHX_OPTION_SCOPE_##scope,
    PHX_OPTION_SCOPES(X)
#undef X
        PHX_OPTION_SCOPE_COUNT
} phx_option_scope;

#define PHX_OPTION_BIT(scope) (1u << PHX_OPTION_SCOPE_##scope)
#define PHX_OPTIONS_PLAN \
    (PHX_OPTION_BIT(MODEL) | PHX_OPTION_BIT(LAYOUT) | PHX_OPTION_BIT(NUMERICS) | PHX_OPTION_BIT(MEMORY))
#define PHX_OPTIONS_ALL ((1u << PHX_OPTION_SCOPE_COUNT) - 1u)

typedef enum phx_option {
#define PHX_OPTION(field, key, kind, value, limits, scope, meta, help) PHX_OPTION_##field,
#include "base/options.list"
#undef PHX_OPTION
    PHX_OPTION_COUNT
} phx_option;

/* Who gave a value; the later in this list wins, whatever the order of reading. */
typedef enum phx_option_source { PHX_OPTION_DEFAULT, PHX_OPTION_FILE, PHX_OPTION_ARGS } phx_option_source;

/* Field types by kind. */
#define PHX_OPTION_FIELD_TEXT(field)   char field[PHX_OPTION_TEXT_BYTES]
#define PHX_OPTION_FIELD_CHOICE(field) char field[PHX_OPTION_CHOICE_BYTES]
#define PHX_OPTION_FIELD_COUNT(field)  uint32_t field
#define PHX_OPTION_FIELD_BYTES(field)  uint64_t field
#define PHX_OPTION_FIELD_SWITCH(field) bool field
#define PHX_OPTION_FIELD_FLAG(field)   bool field

/* Plain data, copied by assignment. Start with phx_options_init. Units are in the list's help texts:
 * drain_timeout in seconds, memory in bytes. */
typedef struct phx_options {
#define PHX_OPTION(field, key, kind, value, limits, scope, meta, help) PHX_OPTION_FIELD_##kind(field);
#include "base/options.list"
#undef PHX_OPTION
    uint8_t source[PHX_OPTION_COUNT]; /* phx_option_source of each */
} phx_options;

void phx_options_init(phx_options *options); /* the defaults */

const char *phx_option_key(phx_option option);
bool phx_option_find(phx_str key, phx_option *ret_option);

/* Checks and sets one value; a value of a stronger source stays. PHX_ERR_INVALID names key, value and what is
 * allowed. */
phx_code phx_options_set(phx_options *options, phx_option option, phx_str value, phx_option_source source,
                         phx_error *err);

/* Appends the value as text that phx_options_set reads back. */
void phx_options_value(const phx_options *options, phx_option option, phx_buf *buf);

/* The nearest known key, or NULL when none is similar. */
const char *phx_option_nearest(phx_str key);

/* Reads a flat mapping of keys of the table. Errors are "path:line:column: reason". Refuses unknown and
 * repeated keys, anchors, aliases, tags, nesting, more than one document, files above PHX_OPTIONS_FILE_MAX.
 * options is changed only on success. */
phx_code phx_options_load_yaml(phx_options *options, const char *path, phx_error *err);
/* The same for text in memory; name stands for the path in errors. */
phx_code phx_options_parse_yaml(phx_options *options, phx_str text, const char *name, phx_error *err);

/* A flag that only one command has. Exactly one of ret_text and ret_on is set; the text points into argv. */
typedef struct phx_flag {
    const char *name; /* without the dashes */
    const char *meta; /* name of the value; NULL for a switch */
    const char *help;
    const char **ret_text;
    bool *ret_on;
} phx_flag;

typedef struct phx_args_spec {
    const char *usage; /* "phalanx plan --model DIR [options]" */
    const char *about; /* a paragraph, may hold line ends */
    uint32_t scopes;   /* PHX_OPTION_BIT of each accepted scope; any also allows --config FILE */
    const phx_flag *flags;
    size_t n_flags;
    size_t n_operands_max;
    const char *exit_codes; /* lines for the help; NULL: the usual two */
} phx_args_spec;

typedef struct phx_args {
    const char *operands[PHX_OPTIONS_OPERANDS_MAX]; /* point into argv */
    size_t n_operands;
    const char *config; /* --config, NULL when not given */
    bool help;          /* --help was there: print phx_options_help, do nothing else */
} phx_args;

/* Reads flags (--key value, --key=value, -h, -- ends them), then the file of --config under them. argv[0] is
 * skipped. A flag given twice: the last wins. options is changed only on success. */
phx_code phx_options_parse_args(phx_options *options, int argc, char *const *argv, const phx_args_spec *spec,
                                phx_args *ret_args, phx_error *err);

/* Appends usage, flags of the command, and the accepted rows of the table with their defaults. */
void phx_options_help(const phx_args_spec *spec, phx_buf *buf);

/* Appends "--key=value" texts, each terminated by a zero byte, for every option of the given scopes that is
 * not at its default: what a child program has to be told. */
void phx_options_write_args(const phx_options *options, uint32_t scopes, phx_buf *buf);

#endif
