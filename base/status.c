/* base/status.c - result codes and the first cause of a failure. */
#include "base/status.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    const char *text;
    phx_scope scope;
} codes[] = {
#define X(code, scope, text) {#code, text, PHX_SCOPE_##scope},
    PHX_CODES(X)
#undef X
};

phx_code phx_fail(phx_error *err, phx_code code, const char *place, const char *format, ...)
{
    assert(code != PHX_OK);
    if (!err || err->code != PHX_OK)
        return code;
    err->code = code;
    (void)snprintf(err->place, sizeof(err->place), "%s", place);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(err->text, sizeof(err->text), format, args);
    va_end(args);
    return code;
}

const char *phx_code_name(phx_code code)
{
    return (unsigned)code < PHX_CODE_COUNT ? codes[code].name : "PHX_ERR_?";
}

const char *phx_code_text(phx_code code)
{
    return (unsigned)code < PHX_CODE_COUNT ? codes[code].text : "unknown code";
}

phx_scope phx_code_scope(phx_code code)
{
    return (unsigned)code < PHX_CODE_COUNT ? codes[code].scope : PHX_SCOPE_PROCESS;
}
