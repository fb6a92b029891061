#!/bin/sh
# tests/emu/test_nvcc.sh - the plugin that nvcc compiled is there and has its entry; nothing of it runs. That it
# compiles is shown by the build. Environment: PHX_BUILD (the build folder).
plugin=${PHX_BUILD:-build}/libphalanx_cuda.so
if [ ! -e "$plugin" ]; then
    echo "SKIP: no libphalanx_cuda.so: nvcc was not found, or the build was made without -DPHX_CUDA=ON"
    exit 77
fi
nm -D --defined-only "$plugin" | grep -q "phx_plugin_get" || { echo "$plugin has no phx_plugin_get"; exit 1; }
echo "$plugin: $(stat -c %s "$plugin") bytes"
