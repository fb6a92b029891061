/* tests/text/chat_cases.h - what the chat tests share: files of goldens, rendering from JSON text. */
#ifndef PHX_TESTS_TEXT_CHAT_CASES_H
#define PHX_TESTS_TEXT_CHAT_CASES_H

#include "coordinator/text/chat.h"

/* A file of tests/data/chat, or of the shared data when from_shared; false when it is not there. Free with
 * phx_buf_done. */
bool chat_case_read(const char *name, bool from_shared, phx_buf *ret_text);

phx_json *chat_case_json(phx_str text); /* fails the test when it is no JSON */

/* Builds and renders a request object {"messages":, "tools":, "tool_choice":} with the only format of this
 * test. */
phx_code chat_case_render(const phx_json *request, const phx_chat_options *options, phx_chat_prompt *prompt,
                          phx_error *err);

/* Fails the test, showing where they part, unless both texts are equal. */
void chat_case_equal(const char *what, phx_str got, phx_str expected);

/* Segments tile the text, alternate and are not empty. */
void chat_case_check_segments(const phx_chat_prompt *prompt);

#endif
