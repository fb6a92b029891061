/* coordinator/api/fault.h - why a request is refused, in the words of OpenAI's errors.
 * Owns: phx_api_fault and the mapping from phx_code to HTTP statuses. */
#ifndef PHX_COORDINATOR_API_FAULT_H
#define PHX_COORDINATOR_API_FAULT_H

#include "coordinator/http/http.h"

typedef struct phx_api_fault {
    int status;
    const char *code; /* NULL: none */
    char param[96];   /* "": none */
    char message[480];
    uint32_t retry_after_s; /* 0: none */
    phx_code cause;
} phx_api_fault;

/* Fills a 400 about one field and returns false. */
bool phx_api_refuse(phx_api_fault *fault, const char *param, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* From an error of another part: queue full is 429, not ready 503, limits of the context 400 with
 * context_length_exceeded, out of memory 500. Texts of failures that are not the request's own are replaced,
 * because they name paths and hosts. */
void phx_api_fault_of(const phx_error *err, phx_api_fault *ret_fault);

/* The form that http/ sends; borrows from fault. */
phx_http_error phx_api_http_error(const phx_api_fault *fault);

#endif
