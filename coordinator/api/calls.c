/* coordinator/api/calls.c - see calls.h. */
#include "coordinator/api/calls.h"

#include <stdio.h>

#include "base/hash.h"

void phx_api_call_id(phx_api_call_ids how, const phx_output_event *begin, char ret_id[PHX_API_CALL_ID_BYTES])
{
    uint64_t random[2];
    if (how.numbered) {
        (void)snprintf(ret_id, PHX_API_CALL_ID_BYTES, "functions.%.*s:%u", PHX_STR_ARG(begin->name),
                       how.first + begin->call_idx);
        return;
    }
    phx_random_bytes(random, sizeof(random));
    (void)snprintf(ret_id, PHX_API_CALL_ID_BYTES, "call_%016llx%08llx", (unsigned long long)random[0],
                   (unsigned long long)(random[1] & 0xFFFFFFFFu));
}

static void write_begin(phx_json_writer *w, const char *id, phx_str name, phx_str arguments)
{
    phx_json_key(w, "id");
    phx_json_text(w, id);
    phx_json_key(w, "type");
    phx_json_text(w, "function");
    phx_json_key(w, "function");
    phx_json_begin_object(w);
    phx_json_key(w, "name");
    phx_json_str(w, name);
    phx_json_key(w, "arguments");
    phx_json_str(w, arguments);
    phx_json_end_object(w);
}

void phx_api_write_call(phx_json_writer *w, const char *id, phx_str name, phx_str arguments)
{
    phx_json_begin_object(w);
    write_begin(w, id, name, arguments);
    phx_json_end_object(w);
}

void phx_api_write_call_delta(phx_json_writer *w, const char *id, const phx_output_event *event)
{
    phx_json_begin_object(w);
    phx_json_key(w, "index");
    phx_json_u64(w, event->call_idx);
    if (event->kind == PHX_OUTPUT_CALL_BEGIN) {
        write_begin(w, id, event->name, (phx_str){"", 0});
    } else {
        phx_json_key(w, "function");
        phx_json_begin_object(w);
        phx_json_key(w, "arguments");
        phx_json_str(w, event->text);
        phx_json_end_object(w);
    }
    phx_json_end_object(w);
}
