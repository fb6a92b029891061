/* coordinator/api/calls.h - tool calls in OpenAI's JSON, for HTTP and the control service alike. */
#ifndef PHX_COORDINATOR_API_CALLS_H
#define PHX_COORDINATOR_API_CALLS_H

#include "base/json.h"
#include "coordinator/text/output_parser.h"

#define PHX_API_CALL_ID_BYTES (PHX_CHAT_NAME_BYTES_MAX + 32u)

/* How the ids of an answer's calls are made. */
typedef struct phx_api_call_ids {
    bool numbered; /* functions.NAME:NUMBER, as phx_chat_format.numbers_calls says; else "call_" and 24 digits
                    */
    uint32_t first;
} phx_api_call_ids;

/* begin: of kind PHX_OUTPUT_CALL_BEGIN. */
void phx_api_call_id(phx_api_call_ids how, const phx_output_event *begin, char ret_id[PHX_API_CALL_ID_BYTES]);

/* A whole call, as one object. */
void phx_api_write_call(phx_json_writer *w, const char *id, phx_str name, phx_str arguments);

/* What one CALL_BEGIN or CALL_DELTA adds, as an item of a delta's tool_calls. */
void phx_api_write_call_delta(phx_json_writer *w, const char *id, const phx_output_event *event);

#endif
