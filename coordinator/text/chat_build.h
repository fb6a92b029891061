/* coordinator/text/chat_build.h - what chat_build.c and chat_link.c share; users include chat.h. */
#ifndef PHX_COORDINATOR_TEXT_CHAT_BUILD_H
#define PHX_COORDINATOR_TEXT_CHAT_BUILD_H

#include "coordinator/text/chat.h"

/* Gives each tool message the call it answers and puts the answers of a turn in the order of its calls. */
phx_code phx_chat_link_results(phx_chat *chat, phx_error *err);

#endif
