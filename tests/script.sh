# tests/script.sh - what the scripts share that run whole commands and count failures; sourced. Gives phalanx, long
# (--long or nothing), tmp (removed at the end), n_failed, fails. Environment: PHX_BUILD, PHX_SOURCE, PHX_SHARED.
set -u
long=${1:-}
phalanx=$PHX_BUILD/phalanx
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
export XDG_RUNTIME_DIR=$tmp XDG_STATE_HOME=$tmp/state
n_failed=0

fails() { # WHAT LOG
    n_failed=$((n_failed + 1))
    echo "FAILED: $1"
    cat "$2"
}

needs_emulator() {
    [ -e "$PHX_BUILD/libphalanx_emu.so" ] && return
    echo "SKIP: no libphalanx_emu.so: the build found no C++ compiler or has sanitizers"
    exit 77
}

# The golden cases of the families that load.
golden_names="deepseek-v3-bf16 deepseek-v3-fp8 deepseek-v3-qdirect deepseek-v32-bf16 deepseek-v32-fp8 deepseek-v32-long
    kimi-k2-fp8 kimi-k25-int4 glm5-bf16 glm5-fp8 glm52-bf16 glm4-moe-lite-bf16"

golden() { # NAME: where that golden case lies, also when it is not there
    local folder=$PHX_SOURCE/tests/data/golden/$1
    [ -e "$folder/golden.safetensors" ] || folder=$PHX_SHARED/golden/$1
    echo "$folder"
}
