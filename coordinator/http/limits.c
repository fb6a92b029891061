/* coordinator/http/limits.c - defaults and checks of the bounds. */
#include "coordinator/http/limits.h"

phx_http_limits phx_http_limits_default(void)
{
    return (phx_http_limits){
#define PHX_LIMIT_HTTP(field, value, ceiling, what) .field = (value),
#include "base/limits.list"
    };
}

phx_code phx_http_limits_check(const phx_http_limits *limits, phx_error *err)
{
    const struct {
        const char *name;
        uint64_t value;
        uint64_t ceiling;
    } rows[] = {
#define PHX_LIMIT_HTTP(field, value, ceiling, what) {#field, limits->field, (ceiling)},
#include "base/limits.list"
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].value < 1 || rows[i].value > rows[i].ceiling)
            return PHX_FAIL(err, PHX_ERR_INVALID, "HTTP limit %s is %llu; it must be between 1 and %llu",
                            rows[i].name, (unsigned long long)rows[i].value,
                            (unsigned long long)rows[i].ceiling);
    }
    if (limits->unsent_soft_bytes > limits->unsent_hard_bytes)
        return PHX_FAIL(err, PHX_ERR_INVALID, "HTTP limit unsent_soft_bytes is above unsent_hard_bytes");
    return PHX_OK;
}
