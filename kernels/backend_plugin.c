/* kernels/backend_plugin.c - opens the plugin of a device.
 * Owns: the search for the file, the checks before it is trusted, the reasons when it cannot be had. A plugin
 * stays loaded until the process ends: its code may still be on a stack. */
#include "kernels/backend.h"

#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>

#include "base/paths.h"

/* "no driver" and "driver too old" give the same error inside CUDA, so the driver is looked for first. */
static phx_code find_driver(phx_error *err)
{
    void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!driver)
        return PHX_FAIL(err, PHX_ERR_UNAVAILABLE,
                        "no NVIDIA driver (libcuda.so.1 is not found): install one of the R580 series or "
                        "newer, or choose --backend cpu");
    (void)dlclose(driver);
    return PHX_OK;
}

static phx_code find_plugin(const phx_device_request *request, char *path, size_t n_bytes, phx_error *err)
{
    char name[64];
    (void)snprintf(name, sizeof(name), "libphalanx_%s.so", request->name);
    if (request->dir) {
        (void)snprintf(path, n_bytes, "%s/%s", request->dir, name);
    } else {
        const phx_code rc = phx_path_beside(name, path, n_bytes, err);
        if (rc != PHX_OK)
            return rc;
    }
    if (access(path, R_OK) == 0)
        return PHX_OK;
    return PHX_FAIL(err, PHX_ERR_UNAVAILABLE,
                    "no backend %s: '%s' was not built, because %s; choose --backend cpu", request->name,
                    path,
                    strcmp(request->name, "emu") == 0
                        ? "the build found no C++ compiler or has sanitizers"
                        : "the build found no CUDA toolkit (nvcc): install it and build again");
}

phx_code phx_backend_open(const phx_device_request *request, phx_backend **ret_backend, phx_error *err)
{
    char path[PHX_PATH_MAX + 64];
    phx_code rc = strcmp(request->name, "cuda") == 0 ? find_driver(err) : PHX_OK;
    if (rc == PHX_OK)
        rc = find_plugin(request, path, sizeof(path), err);
    if (rc != PHX_OK)
        return rc;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return PHX_FAIL(err, PHX_ERR_UNAVAILABLE, "cannot load the backend %s: %s", request->name, dlerror());
    phx_plugin_fn *get;
    *(void **)(void *)&get = dlsym(library, PHX_PLUGIN_SYMBOL);
    const phx_plugin *plugin = get ? get() : NULL;
    if (!plugin || plugin->abi != PHX_PLUGIN_ABI || plugin->backend_bytes != sizeof(phx_backend))
        return PHX_FAIL(err, PHX_ERR_UNAVAILABLE,
                        "'%s' is of another build of phalanx: build and install both "
                        "together",
                        path);
    return plugin->open(request, ret_backend, err);
}
