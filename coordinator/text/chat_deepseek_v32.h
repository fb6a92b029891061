/* coordinator/text/chat_deepseek_v32.h - the chat format of DeepSeek V3.2: DSML tool calls, thinking on and
 * off. Owns: how a checkpoint of it is recognised, its prompt text, its output marks. Used through the format
 * table. */
#ifndef PHX_COORDINATOR_TEXT_CHAT_DEEPSEEK_V32_H
#define PHX_COORDINATOR_TEXT_CHAT_DEEPSEEK_V32_H

#include "coordinator/text/chat.h"

const char *phx_deepseek_v32_lacks(const phx_chat_probe *probe);
phx_code phx_deepseek_v32_render(const phx_chat *chat, const phx_chat_options *options,
                                 phx_chat_prompt *prompt, phx_error *err);
extern const phx_output_syntax phx_deepseek_v32_syntax;

#endif
