/* coordinator/text/output_types.h - which JSON types the parameters of a request's tools may have.
 * Owns: reading them out of JSON schemas, and what a written value is by them. For syntaxes that write
 * strings without quotes: "12" is a text or a number as the schema has it. Not here: validating arguments. */
#ifndef PHX_COORDINATOR_TEXT_OUTPUT_TYPES_H
#define PHX_COORDINATOR_TEXT_OUTPUT_TYPES_H

#include "coordinator/text/chat.h"

/* One block of memory: the names, each with the types in the order of the schema. */
typedef struct phx_output_types phx_output_types;

/* NULL in *ret_types when the conversation has no tools. Free with phx_output_types_destroy. */
phx_code phx_output_types_create(const phx_chat *chat, phx_output_types **ret_types, phx_error *err);
phx_code phx_output_types_copy(const phx_output_types *types, phx_output_types **ret_copy, phx_error *err);
void phx_output_types_destroy(phx_output_types *types); /* accepts NULL */

typedef enum phx_output_form {
    PHX_OUTPUT_STRING,
    PHX_OUTPUT_JSON,  /* a JSON value that is no string */
    PHX_OUTPUT_PYTHON /* the same in Python's spelling: True, None, ['x'] */
} phx_output_form;

/* What this text is by the types of tool's parameter. The first type that fits decides; none or an unknown
 * parameter: a string. types may be NULL. */
phx_output_form phx_output_types_form(const phx_output_types *types, phx_str tool, phx_str parameter,
                                      phx_str text);

#endif
