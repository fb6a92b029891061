/* worker/comm/nccl_api.c - opens NCCL and looks its functions up. */
#include "worker/comm/nccl_api.h"

#include <dlfcn.h>
#include <string.h>

#define LIBRARY "libnccl.so.2"

static phx_code find(void *handle, const char *name, void *ret_function, phx_error *err)
{
    void *symbol = dlsym(handle, name);
    if (!symbol)
        return PHX_FAIL(err, PHX_ERR_UNAVAILABLE,
                        "NCCL has no function %s: it is older than 2.14; install a newer libnccl2", name);
    memcpy(ret_function, &symbol, sizeof(symbol)); /* ISO C has no cast from object to function pointer */
    return PHX_OK;
}

phx_code phx_nccl_open(const char *library, phx_nccl_api *ret_api, phx_error *err)
{
    phx_nccl_api api = {.version = 0};
    phx_code rc = PHX_OK;
    /* NODELETE: also the last dlclose of another user leaves its threads their code. */
    void *handle = dlopen(library ? library : LIBRARY, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!handle) {
        const char *reason = dlerror();
        return PHX_FAIL(
            err, PHX_ERR_UNAVAILABLE,
            "NCCL cannot be opened (%s): install libnccl2, or name its folder in LD_LIBRARY_PATH; "
            "a group of one rank needs none",
            reason ? reason : (library ? library : LIBRARY));
    }
#define X(field, name, arguments) \
    if (rc == PHX_OK)             \
        rc = find(handle, #name, &api.field, err);
    PHX_NCCL_FUNCTIONS(X)
#undef X
    if (rc == PHX_OK)
        rc = find(handle, "ncclGetErrorString", &api.error_string, err);
    if (rc == PHX_OK)
        rc = find(handle, "ncclGetLastError", &api.last_error, err);
    if (rc == PHX_OK && api.get_version(&api.version) != PHX_NCCL_SUCCESS)
        rc = PHX_FAIL(err, PHX_ERR_UNAVAILABLE, "NCCL does not tell its version");
    if (rc == PHX_OK && api.version < PHX_NCCL_VERSION_LEAST)
        rc = PHX_FAIL(err, PHX_ERR_UNAVAILABLE, "NCCL %d is too old: at least %d; install a newer libnccl2",
                      api.version, PHX_NCCL_VERSION_LEAST);
    if (rc == PHX_OK)
        *ret_api = api;
    (void)dlclose(handle);
    return rc;
}
