/* coordinator/text/chat_template.h - prompts by the checkpoint's own template.
 * Owns: what a template is given: messages, tools, switches; the origin of the prompt's bytes; ids of calls
 * where the model expects numbered ones. Not here: Jinja itself (jinja.h), the table of formats (chat.c). */
#ifndef PHX_COORDINATOR_TEXT_CHAT_TEMPLATE_H
#define PHX_COORDINATOR_TEXT_CHAT_TEMPLATE_H

#include "coordinator/text/chat.h"
#include "coordinator/text/jinja.h"

extern const phx_output_syntax phx_glm_syntax;
extern const phx_output_syntax phx_kimi_syntax;
extern const phx_output_syntax phx_plain_syntax;

/* As phx_chat_format.lacks and .render. options->template must be set. */
const char *phx_glm_lacks(const phx_chat_probe *probe);
const char *phx_kimi_lacks(const phx_chat_probe *probe);
const char *phx_template_lacks(const phx_chat_probe *probe);
phx_code phx_kimi_render(const phx_chat *chat, const phx_chat_options *options, phx_chat_prompt *prompt,
                         phx_error *err);
phx_code phx_template_render(const phx_chat *chat, const phx_chat_options *options, phx_chat_prompt *prompt,
                             phx_error *err);

#endif
