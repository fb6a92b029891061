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

golden() { # NAME: where that golden case lies, also when it is not there
    local folder=$PHX_SOURCE/tests/data/golden/$1
    [ -e "$folder/golden.safetensors" ] || folder=$PHX_SHARED/golden/$1
    echo "$folder"
}
