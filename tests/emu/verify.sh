#!/bin/bash
# tests/emu/verify.sh [--long] - whole ranks with `--backend emu`: golden tensors within their bounds, and
# what --backend says when it cannot be had. Without --long a covering subset. Equal bytes: tests/e2e/emu_layouts.sh.
# Environment: PHX_BUILD, PHX_SOURCE, PHX_SHARED.
. "$PHX_SOURCE/tests/script.sh"
needs_emulator
n=0

verify() { # NAME FLAG...
    local folder
    folder=$(golden "$1")
    shift
    [ -e "$folder/golden.safetensors" ] || { echo "SKIP: no $folder"; return; }
    n=$((n + 1))
    "$phalanx" verify --model "$folder" "$folder/golden.safetensors" --backend emu --threads 1 "$@" >"$tmp/log" 2>&1 ||
        fails "verify $(basename "$folder") $*" "$tmp/log"
}

# Products of rounded rows through the stand-in for cuBLASLt; their figures do not lie beside the shared cases.
rounded() { # NAME FLAG...
    local to=$tmp/golden/$1 from
    from=$(golden "$1")
    shift
    [ -e "$from/golden.safetensors" ] || { echo "SKIP: no $from"; return; }
    n=$((n + 1))
    mkdir -p "$to"
    ln -sf "$from"/* "$to"
    ln -sf "$(dirname "$from")/serving.json" "$PHX_SOURCE/tests/data/golden/products_fp8.json" "$tmp/golden"
    "$phalanx" verify --model "$to" "$to/golden.safetensors" --backend emu --threads 1 --profile serving \
        --deterministic off "$@" >"$tmp/log" 2>&1 || fails "verify $(basename "$to") --deterministic off $*" "$tmp/log"
    grep -q "cuBLASLt 13.0.0 for \([0-9]*\) of \1 shapes" "$tmp/log" || fails "not through cuBLASLt: $to $*" "$tmp/log"
    grep -q "exact but for rows of products in fp8" "$tmp/log" || fails "no bound of its own: $to $*" "$tmp/log"
}

refuses() { # CODE TEXT FLAG...
    local code=$1 text=$2 folder
    shift 2
    folder=$(golden deepseek-v32-fp8)
    n=$((n + 1))
    "$phalanx" verify --model "$folder" "$folder/golden.safetensors" "$@" >"$tmp/log" 2>&1
    [ $? -eq "$code" ] || fails "verify $* does not exit with $code" "$tmp/log"
    grep -q -e "$text" "$tmp/log" || fails "verify $* does not say '$text'" "$tmp/log"
}

refuses 2 "level of the CPU" --backend emu --level ref
refuses 3 "leave --memory out, or give at most [0-9]*M" --backend emu --memory 900G
if ldconfig -p 2>/dev/null | grep -q libcuda.so.1; then
    echo "SKIP: a driver is here, so the refusal without one is not tried"
else
    refuses 3 "no NVIDIA driver .* --backend cpu" --backend cuda
    n=$((n + 1))
    "$phalanx" verify --model "$(golden deepseek-v32-fp8)" "$(golden deepseek-v32-fp8)/golden.safetensors" \
        --backend auto --profile oracle >"$tmp/log" 2>&1 || fails "backend auto without a driver" "$tmp/log"
fi

verify deepseek-v32-fp8 --profile oracle
verify deepseek-v3-qdirect --profile serving --tp 2
verify deepseek-v3-qdirect --profile serving --deterministic off # expanded prefill, rounded
rounded deepseek-v32-fp8
rounded deepseek-v32-fp8 --tp 2
if [ -n "$long" ]; then
    for name in deepseek-v3-fp8 kimi-k2-fp8 glm5-fp8; do
        rounded $name
        rounded $name --tp 2 --pp 2
    done
    for name in $golden_names; do
        chunk= # a step of the long prompt's 700 tokens would take longer than a server waits for one
        [ $name = deepseek-v32-long ] && chunk="--step-tokens 16"
        for layout in "--tp 1" "--tp 2" "--tp 4" "--pp 2" "--tp 2 --pp 2" "--ep 2"; do
            verify $name --profile oracle $layout $chunk
            verify $name --profile serving $layout $chunk
        done
    done
fi
echo "$n runs, $n_failed failed"
[ $n_failed -eq 0 ]
