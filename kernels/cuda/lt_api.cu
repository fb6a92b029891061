/* kernels/cuda/lt_api.cu - opens cuBLASLt and looks its functions up. */
extern "C" {
#include "kernels/cuda/lt_api.h"
}

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#define REMEDY "install libcublas 13, or name its folder in LD_LIBRARY_PATH"

static phx_code find(void *handle, const char *name, void *ret_function, phx_error *err)
{
    void *symbol = dlsym(handle, name);
    if (!symbol)
        return PHX_FAIL(err, PHX_ERR_UNAVAILABLE,
                        "cuBLASLt has no function %s: it is older than 12.9; " REMEDY, name);
    memcpy(ret_function, &symbol, sizeof(symbol));
    return PHX_OK;
}

static phx_code fill(void *handle, phx_lt_api *ret_api, phx_error *err)
{
    phx_lt_api api = {};
    phx_code rc = find(handle, "cublasLtGetVersion", &api.get_version, err);
#define X(field, name, arguments) \
    if (rc == PHX_OK)             \
        rc = find(handle, #name, &api.field, err);
    PHX_LT_FUNCTIONS(X)
#undef X
    if (rc == PHX_OK)
        api.version = api.get_version();
    if (rc == PHX_OK && api.version < PHX_LT_VERSION_LEAST)
        rc = PHX_FAIL(err, PHX_ERR_UNAVAILABLE, "cuBLASLt %zu is too old: at least %u; " REMEDY, api.version,
                      PHX_LT_VERSION_LEAST);
    if (rc == PHX_OK)
        *ret_api = api;
    return rc;
}

phx_code phx_lt_api_open(const char *library, phx_lt_api *ret_api, phx_error *err)
{
    static const char *const usual[] = {"libcublasLt.so.13", "libcublasLt.so.12"};
    void *handle = NULL;
    char reason[256] = ""; /* of the first name: the newest library, which may be there and broken */
    for (size_t i = 0; i < (library ? 1 : sizeof(usual) / sizeof(usual[0])) && !handle; i++) {
        handle = dlopen(library ? library : usual[i], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
        const char *said = handle ? NULL : dlerror();
        if (i == 0)
            (void)snprintf(reason, sizeof(reason), "%s", said ? said : usual[0]);
    }
    if (!handle)
        return PHX_FAIL(err, PHX_ERR_UNAVAILABLE, "cuBLASLt cannot be opened (%s): " REMEDY, reason);
    const phx_code rc = fill(handle, ret_api, err);
    (void)dlclose(handle); /* not unloaded: NODELETE */
    return rc;
}
