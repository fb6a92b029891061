/* coordinator/api/fault.c - see fault.h. */
#include "coordinator/api/fault.h"

#include <stdarg.h>
#include <stdio.h>

#define RETRY_BUSY_S        1u
#define RETRY_UNAVAILABLE_S 5u

bool phx_api_refuse(phx_api_fault *fault, const char *param, const char *format, ...)
{
    va_list args;
    *fault = (phx_api_fault){.status = 400, .cause = PHX_ERR_INVALID};
    (void)snprintf(fault->param, sizeof(fault->param), "%s", param ? param : "");
    va_start(args, format);
    (void)vsnprintf(fault->message, sizeof(fault->message), format, args);
    va_end(args);
    return false;
}

void phx_api_fault_of(const phx_error *err, phx_api_fault *ret_fault)
{
    phx_api_fault fault = {.status = 400, .cause = err->code};
    const char *text = err->text[0] ? err->text : phx_code_text(err->code);
    switch (err->code) {
    case PHX_ERR_BUSY:
        fault.status = 429;
        fault.code = "queue_full";
        fault.retry_after_s = RETRY_BUSY_S;
        break;
    case PHX_ERR_UNAVAILABLE:
        fault.status = 503;
        fault.code = "not_ready";
        fault.retry_after_s = RETRY_UNAVAILABLE_S;
        break;
    case PHX_ERR_CANCELLED:
        fault.status = 503;
        fault.code = "cancelled";
        fault.retry_after_s = RETRY_UNAVAILABLE_S;
        text = "the server ended this request early, probably to shut down; send it again later";
        break;
    case PHX_ERR_DEADLINE:
        fault.status = 504;
        fault.code = "deadline_exceeded";
        break;
    case PHX_ERR_TOO_LONG:
        fault.code = "context_length_exceeded";
        break;
    case PHX_ERR_INVALID:
    case PHX_ERR_UNSUPPORTED:
    case PHX_ERR_NOT_FOUND:
    case PHX_ERR_DENIED:
        break;
    case PHX_ERR_NOMEM:
        fault.status = 500;
        fault.code = "out_of_memory";
        text = "out of memory";
        break;
    default: /* the group, the process */
        fault.status = 503;
        fault.code = "group_failed";
        fault.retry_after_s = RETRY_UNAVAILABLE_S;
        text = "the ranks that serve the model failed; see the server's log, and send the request again";
        break;
    }
    (void)snprintf(fault.message, sizeof(fault.message), "%s", text);
    *ret_fault = fault;
}

phx_http_error phx_api_http_error(const phx_api_fault *fault)
{
    return (phx_http_error){.status = fault->status,
                            .param = fault->param[0] ? fault->param : NULL,
                            .code = fault->code,
                            .message = fault->message,
                            .retry_after_s = fault->retry_after_s};
}
