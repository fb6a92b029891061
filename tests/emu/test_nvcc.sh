#!/bin/sh
# tests/emu/test_nvcc.sh - every source of kernels/cuda compiles with nvcc for one target; nothing runs.
# Environment: PHX_SOURCE (this tree), NVCC (default: from PATH, else /usr/local/cuda/bin/nvcc), PHX_CUDA_TARGET.
nvcc=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
target=${PHX_CUDA_TARGET:-sm_90a}
if [ ! -x "$nvcc" ]; then
    echo "SKIP: no nvcc in PATH or /usr/local/cuda/bin (set NVCC)"
    exit 77
fi
cd "${PHX_SOURCE:-$(dirname "$0")/../..}" || exit 1
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
n=0
for source in kernels/cuda/*.cu; do
    # -fmad=false: one arithmetic, a product and a sum are two roundings unless fmaf says otherwise
    "$nvcc" -std=c++17 -arch="$target" -fmad=false -Werror all-warnings -I. -c "$source" -o "$tmp/object.o" || exit 1
    n=$((n + 1))
done
echo "$n sources compiled for $target"
[ $n -gt 0 ]
