/* coordinator/text/chat_link.c - which call each tool result answers.
 * A format shows results by position, a client names them by id: the ids decide, the position is made to
 * follow. */
#include "coordinator/text/chat_build.h"

static phx_code link_turn(phx_chat *chat, size_t assistant_idx, size_t n_results, phx_error *err);
static void sort_turn(phx_chat_message *results, size_t n_results);

phx_code phx_chat_link_results(phx_chat *chat, phx_error *err)
{
    for (size_t i = 0; i < chat->n_messages;) {
        if (chat->messages[i].role != PHX_CHAT_TOOL) {
            i++;
            continue;
        }
        size_t n_results = 0;
        while (i + n_results < chat->n_messages && chat->messages[i + n_results].role == PHX_CHAT_TOOL)
            n_results++;
        if (i == 0 || chat->messages[i - 1].role != PHX_CHAT_ASSISTANT || chat->messages[i - 1].n_calls == 0)
            return PHX_FAIL(
                err, PHX_ERR_INVALID,
                "messages[%zu]: a message of role tool must follow an assistant message with tool_calls", i);
        const phx_code rc = link_turn(chat, i - 1, n_results, err);
        if (rc != PHX_OK)
            return rc;
        sort_turn(&chat->messages[i], n_results);
        i += n_results;
    }
    return PHX_OK;
}

/* Equal ids are matched in order: some clients number every call alike. */
static phx_code link_turn(phx_chat *chat, size_t assistant_idx, size_t n_results, phx_error *err)
{
    const phx_chat_message *assistant = &chat->messages[assistant_idx];
    bool answered[PHX_CHAT_CALLS_MAX] = {false};
    for (size_t i = 0; i < n_results; i++) {
        phx_chat_message *result = &chat->messages[assistant_idx + 1 + i];
        size_t call = 0;
        while (call < assistant->n_calls &&
               (answered[call] || !phx_str_eq(assistant->calls[call].id, result->tool_call_id)))
            call++;
        if (call == assistant->n_calls)
            return PHX_FAIL(err, PHX_ERR_INVALID,
                            "messages[%zu].tool_call_id: '%.*s' is no unanswered call of messages[%zu]",
                            assistant_idx + 1 + i,
                            (int)(result->tool_call_id.n > 64 ? 64 : result->tool_call_id.n),
                            result->tool_call_id.ptr, assistant_idx);
        answered[call] = true;
        result->call_idx = call;
        result->n_turn_calls = assistant->n_calls;
    }
    if (n_results < assistant->n_calls)
        return PHX_FAIL(err, PHX_ERR_INVALID,
                        "messages[%zu].tool_calls: %zu calls, but %zu results of role tool follow",
                        assistant_idx, assistant->n_calls, n_results);
    return PHX_OK;
}

/* Every call is answered once here, so each swap puts one result where it belongs. */
static void sort_turn(phx_chat_message *results, size_t n_results)
{
    for (size_t i = 0; i < n_results; i++) {
        while (results[i].call_idx != i) {
            const size_t home = results[i].call_idx;
            const phx_chat_message moved = results[home];
            results[home] = results[i];
            results[i] = moved;
        }
    }
}
