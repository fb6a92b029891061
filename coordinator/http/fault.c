/* coordinator/http/fault.c - the list of refusals as a table. */
#include "coordinator/http/fault.h"

#include <assert.h>

static const struct {
    const char *code;
    const char *text;
    int status;
} faults[] = {
#define X(name, status, code, text) {(code), (text), (status)},
    PHX_HTTP_FAULTS(X)
#undef X
};

int phx_http_fault_status(phx_http_fault fault)
{
    assert((unsigned)fault < PHX_HTTP_FAULT_COUNT);
    return faults[fault].status;
}

const char *phx_http_fault_code(phx_http_fault fault)
{
    assert((unsigned)fault < PHX_HTTP_FAULT_COUNT);
    return faults[fault].code;
}

const char *phx_http_fault_text(phx_http_fault fault)
{
    assert((unsigned)fault < PHX_HTTP_FAULT_COUNT);
    return faults[fault].text;
}
