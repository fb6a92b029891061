#!/bin/bash
# tests/emu/verify.sh [--long] - whole ranks with `--backend emu`: golden tensors within their bounds, and
# what --backend says when it cannot be had. Without --long a covering subset. Equal bytes: tests/e2e/emu_layouts.sh.
# Environment: PHX_BUILD, PHX_SOURCE, PHX_SHARED.
set -u
long=${1:-}
phalanx=$PHX_BUILD/phalanx
[ -e "$PHX_BUILD/libphalanx_emu.so" ] || { echo "SKIP: no libphalanx_emu.so (a C++ compiler and no sanitizer)"; exit 77; }
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
export XDG_RUNTIME_DIR=$tmp XDG_STATE_HOME=$tmp/state
n=0 n_failed=0

fails() { # WHAT LOG
    n_failed=$((n_failed + 1))
    echo "FAILED: $1"
    cat "$2"
}

folder_of() { # NAME
    local folder=$PHX_SOURCE/tests/data/golden/$1
    [ -e "$folder" ] || folder=$PHX_SHARED/golden/$1
    echo "$folder"
}

verify() { # NAME FLAG...
    local folder
    folder=$(folder_of "$1")
    shift
    [ -e "$folder/golden.safetensors" ] || { echo "SKIP: no $folder"; return; }
    n=$((n + 1))
    "$phalanx" verify --model "$folder" "$folder/golden.safetensors" --backend emu --threads 1 "$@" >"$tmp/log" 2>&1 ||
        fails "verify $(basename "$folder") $*" "$tmp/log"
}

refuses() { # CODE TEXT FLAG...
    local code=$1 text=$2 folder
    shift 2
    folder=$(folder_of deepseek-v32-fp8)
    n=$((n + 1))
    "$phalanx" verify --model "$folder" "$folder/golden.safetensors" "$@" >"$tmp/log" 2>&1
    [ $? -eq "$code" ] || fails "verify $* does not exit with $code" "$tmp/log"
    grep -q -e "$text" "$tmp/log" || fails "verify $* does not say '$text'" "$tmp/log"
}

refuses 3 "level of the CPU" --backend emu --level ref
if ldconfig -p 2>/dev/null | grep -q libcuda.so.1; then
    echo "SKIP: a driver is here, so the refusal without one is not tried"
else
    refuses 3 "no NVIDIA driver .* --backend cpu" --backend cuda
    n=$((n + 1))
    "$phalanx" verify --model "$(folder_of deepseek-v32-fp8)" "$(folder_of deepseek-v32-fp8)/golden.safetensors" \
        --backend auto --profile oracle >"$tmp/log" 2>&1 || fails "backend auto without a driver" "$tmp/log"
fi

verify deepseek-v32-fp8 --profile oracle
verify deepseek-v3-qdirect --profile serving --tp 2
if [ -n "$long" ]; then
    for name in deepseek-v3-bf16 deepseek-v3-fp8 deepseek-v3-qdirect deepseek-v32-bf16 deepseek-v32-fp8 deepseek-v32-long; do
        for layout in "--tp 1" "--tp 2" "--tp 4" "--pp 2" "--tp 2 --pp 2" "--ep 2"; do
            verify $name --profile oracle $layout
            verify $name --profile serving $layout
        done
    done
fi
echo "$n runs, $n_failed failed"
[ $n_failed -eq 0 ]
