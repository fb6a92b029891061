/* tests/api/template_rig.h - the api's rig with a checkpoint that brings a chat template: small ones of GLM's
 * and Kimi's make, in their formats, with the demo model's vocabulary. */
#ifndef PHX_TESTS_API_TEMPLATE_RIG_H
#define PHX_TESTS_API_TEMPLATE_RIG_H

#include "tests/api/api_rig.h"

extern const char template_rig_glm[];  /* tools, roles, calls, and reasoning that the prompt opens */
extern const char template_rig_kimi[]; /* roles, calls by id, the tools as declarations */

/* As api_rig_open, then with this template (NULL: none) in this format. */
void template_rig_open(api_rig *r, const char *template, const char *format);

/* The texts of such a folder alone. */
phx_code template_rig_load(const char *template, const char *format, const phx_dims *dims,
                           phx_model_text *text, phx_error *err);

/* The prompt that the engine was given, as text. */
void template_rig_prompt(const api_rig *r, phx_buf *text);

#endif
