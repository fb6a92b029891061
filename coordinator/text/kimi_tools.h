/* coordinator/text/kimi_tools.h - tool declarations in the TypeScript form that Kimi K2.5 was trained on.
 * Owns: the form, as the checkpoint's own tool_declaration_ts.py writes it. Not here: the compact JSON that
 * stands in for it (the template writes that). */
#ifndef PHX_COORDINATOR_TEXT_KIMI_TOOLS_H
#define PHX_COORDINATOR_TEXT_KIMI_TOOLS_H

#include "coordinator/text/chat.h"

/* Appends the declaration of all tools. False: some schema has no such form, then JSON serves for all of
 * them; what was appended is of no use. Failures of memory and ceiling latch in buf->code. */
bool phx_kimi_tools(const phx_chat_tool *tools, size_t n_tools, phx_buf *buf);

#endif
