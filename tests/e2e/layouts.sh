#!/bin/bash
# tests/e2e/layouts.sh [--long] - `phalanx verify` and `phalanx logits` over layouts: golden tensors within their
# bounds in both profiles at every level, and logits that are the same bytes whatever the layout, threads, chunks,
# neighbours and prefix cache. Without --long a covering subset. Environment: PHX_BUILD, PHX_SOURCE, PHX_SHARED.
. "$PHX_SOURCE/tests/script.sh"
n_verified=0 n_compared=0

levels=ref
grep -q ' avx2 ' /proc/cpuinfo && levels="$levels avx2"
grep -q ' avx512bw ' /proc/cpuinfo && levels="$levels avx512"

# the bundled ones, and the large data where it is
cases=()
for name in $golden_names; do
    folder=$(golden $name)
    if [ -e "$folder/golden.safetensors" ]; then
        cases+=("$folder")
    else
        echo "SKIP: no golden case $name"
    fi
done
cases+=("$PHX_SOURCE/launch/demo")

number() { # FOLDER KEY
    sed -n "s/.*\"$2\": *\([0-9]*\).*/\1/p" "$1/config.json" | head -n 1
}

# --mtp on where the checkpoint has the layers and the golden file their tensors.
mtp_of() { # FOLDER
    grep -aq '"mtp.logits"' "$1/golden.safetensors" && grep -aq 'enorm.weight' "$1/model.safetensors" && echo "--mtp on"
}

# The layouts that a model's heads, layers and experts reach, one a line.
layouts_of() { # FOLDER
    local heads layers
    heads=$(number "$1" num_attention_heads)
    layers=$(number "$1" num_hidden_layers)
    echo "--tp 1"
    echo "--tp 2"
    echo "--tp 4"
    [ "$heads" -ge 8 ] && echo "--tp 8"
    echo "--pp 2"
    [ "$layers" -ge 3 ] && echo "--pp 3"
    echo "--tp 2 --pp 2"
    echo "--ep 2"
    echo "--ep 4"
    echo "--ep 2 --pp 2"
}

verify() { # FOLDER FLAG...
    local folder=$1 mtp
    shift
    mtp=$(mtp_of "$folder")
    n_verified=$((n_verified + 1))
    "$phalanx" verify --model "$folder" "$folder/golden.safetensors" $mtp "$@" >"$tmp/verify" 2>&1 ||
        fails "verify $(basename "$folder") $*" "$tmp/verify"
}

# Our figures for an fp8 cache do not lie beside the shared cases, so those are judged through links.
verify_fp8() { # FOLDER FLAG...
    local to
    to=$tmp/golden/$(basename "$1")
    mkdir -p "$to"
    ln -sf "$1"/* "$to"
    ln -sf "$(dirname "$1")/serving.json" "$PHX_SOURCE/tests/data/golden/cache_fp8.json" "$tmp/golden"
    shift
    n_verified=$((n_verified + 1))
    "$phalanx" verify --model "$to" "$to/golden.safetensors" --cache fp8 "$@" >"$tmp/verify" 2>&1 ||
        fails "verify $(basename "$to") --cache fp8 $*" "$tmp/verify"
}

verify_all() {
    local folder layout level i=0
    for folder in "${cases[@]}"; do
        while read -r layout; do
            i=$((i + 1))
            if [ -z "$long" ]; then # each layout and each case in turn meets a profile
                [ $((i % 3)) = 0 ] && verify "$folder" $layout --profile oracle --threads 1
                [ $((i % 7)) = 1 ] && [ "$folder" != "$PHX_SOURCE/launch/demo" ] && verify_fp8 "$folder" $layout --threads 1
                [ $((i % 5)) = 0 ] && verify "$folder" $layout --profile serving --threads 2 --against-ref
                continue
            fi
            for level in $levels; do
                [ "$folder" = "$PHX_SOURCE/launch/demo" ] ||
                    verify_fp8 "$folder" $layout --threads 1 --level "$level" --against-ref
                verify "$folder" $layout --profile oracle --threads 1 --level "$level"
                verify "$folder" $layout --profile serving --threads 1 --level "$level" --against-ref
            done
            verify "$folder" $layout --profile oracle --threads 2
            verify "$folder" $layout --profile serving --threads 2
        done < <(layouts_of "$folder")
    done
}

logits() { # OUT FOLDER FLAG...
    local out=$1 folder=$2
    shift 2
    "$phalanx" logits --model "$folder" --tokens "@$tmp/tokens" --out "$out" "$@" >"$tmp/said" 2>&1 && return
    fails "logits $(basename "$folder") $*" "$tmp/said"
    return 1
}

same() { # FOLDER FLAG...: the bytes of $tmp/base.npy
    n_compared=$((n_compared + 1))
    rm -f "$tmp/other.npy"
    logits "$tmp/other.npy" "$@" || return
    cmp "$tmp/base.npy" "$tmp/other.npy" >"$tmp/said" 2>&1 || fails "other bytes: $*" "$tmp/said"
}

# Rows behind the reused ones; those themselves are NaN.
same_warm() { # FOLDER N_WARM FLAG...
    local folder=$1 n_warm=$2 bytes
    shift 2
    n_compared=$((n_compared + 1))
    bytes=$(((n_tokens - n_warm) * $(number "$folder" vocab_size) * 4))
    rm -f "$tmp/other.npy"
    logits "$tmp/other.npy" "$folder" --warm "$n_warm" "$@" || return
    tail -c $bytes "$tmp/base.npy" >"$tmp/base.rows"
    tail -c $bytes "$tmp/other.npy" | cmp "$tmp/base.rows" - >"$tmp/said" 2>&1 ||
        fails "other bytes: $(basename "$folder") --warm $n_warm $*" "$tmp/said"
}

# What must not change a bit in an expert mode, one a line: the function that compares, and its flags.
comparisons_of() { # FOLDER MODE
    local layout chunk
    while read -r layout; do
        case "$layout" in *--ep*) [ "$2" = ep ] || continue ;; esac
        case "$layout" in *--tp*) [ "$2" = tp ] || continue ;; esac
        echo "same $layout --threads 1"
    done < <(layouts_of "$1")
    for chunk in 1 7 64 $n_tokens; do
        echo "same --chunk $chunk --threads 2"
    done
    echo "same --neighbours 3 --chunk 7 --threads 1 --pp 2"
    echo "same_warm 64 --threads 1"
    echo "same_warm 128 --threads 2 --pp 2 --neighbours 2"
}

n_tokens=150
# Without --long every case meets one mode and profile and every other comparison; from case to case both move on.
compare_all() {
    local folder mode profile compare flags i=0 n_case=0 turn=0
    for folder in "${cases[@]}"; do
        awk -v n=$n_tokens 'BEGIN { for (i = 0; i < n; i++) printf "%d ", (i * i * 7 + i * 13 + 5) % 90 }' >"$tmp/tokens"
        n_case=$((n_case + 1))
        for mode in tp ep; do
            for profile in serving oracle official "serving --cache fp8"; do
                i=$((i + 1))
                [ -z "$long" ] && [ $(((i + n_case) % 8)) != 0 ] && continue
                logits "$tmp/base.npy" "$folder" --threads 1 --experts $mode --profile $profile || continue
                while read -r compare flags; do
                    turn=$((turn + 1))
                    [ -z "$long" ] && [ $((turn % 2)) != 0 ] && continue
                    case $compare in # flags are words
                    same) same "$folder" $flags --experts $mode --profile $profile ;;
                    same_warm) same_warm "$folder" $flags --experts $mode --profile $profile ;;
                    esac
                done < <(comparisons_of "$folder" $mode)
            done
        done
    done
}

# A comparison that cannot fail would prove nothing: other numerics are other bytes.
control() {
    local folder=${cases[0]}
    logits "$tmp/base.npy" "$folder" --profile oracle && logits "$tmp/other.npy" "$folder" --profile serving &&
        cmp -s "$tmp/base.npy" "$tmp/other.npy" && fails "profiles oracle and serving gave the same bytes" /dev/null
}

# Drafts over an fp8 cache write the text that plain decoding writes.
drafts_fp8() {
    local prompt="What is 345 + 278?" flags
    "$phalanx" run --cache fp8 --ignore-eos --max-tokens 100 "$prompt" >"$tmp/base.text" 2>"$tmp/said" || fails "run --cache fp8" "$tmp/said"
    for flags in "--drafts 3" "--drafts 2 --tp 2 --pp 2"; do
        n_compared=$((n_compared + 1))
        "$phalanx" run --cache fp8 --mtp on $flags --ignore-eos --max-tokens 100 "$prompt" >"$tmp/other.text" 2>"$tmp/said" ||
            fails "run --cache fp8 --mtp on $flags" "$tmp/said"
        cmp "$tmp/base.text" "$tmp/other.text" >"$tmp/said" 2>&1 || fails "other text: --cache fp8 --mtp on $flags" "$tmp/said"
    done
    [ -s "$tmp/base.text" ] || fails "run --cache fp8 wrote nothing" /dev/null
}

verify_all
compare_all
drafts_fp8
control
echo "$n_verified verdicts, $n_compared comparisons, $n_failed failed"
[ $n_failed = 0 ]
