#!/bin/bash
# tests/e2e/emu_layouts.sh [--long] - `phalanx logits --backend emu` over layouts: the same bytes whatever the
# number of ranks, through the CUDA kernels, their host code, and peers' memory or the stand-in for NCCL. Without
# --long a covering subset. Environment: PHX_BUILD, PHX_SOURCE, PHX_SHARED.
. "$PHX_SOURCE/tests/script.sh"
needs_emulator
n_compared=0

logits() { # OUT FOLDER FLAG...
    local out=$1 folder=$2
    shift 2
    "$phalanx" logits --model "$folder" --tokens "@$tmp/tokens" --out "$out" --backend emu --threads 1 "$@" \
        >"$tmp/said" 2>&1 && return
    fails "logits $(basename "$folder") $*" "$tmp/said"
    return 1
}

carried= # what the log says of the exchange, in the same below
same() { # FOLDER FLAG...: the bytes of $tmp/base.npy, and NCCL carried them
    n_compared=$((n_compared + 1))
    rm -f "$tmp/other.npy"
    logits "$tmp/other.npy" "$@" || return
    cmp "$tmp/base.npy" "$tmp/other.npy" >"$tmp/cmp" 2>&1 || fails "other bytes: $*" "$tmp/cmp"
    grep -q "collectives: NCCL.*$carried" "$tmp/said" || fails "not over NCCL $carried: $*" "$tmp/said"
}

cases=("$PHX_SOURCE/tests/data/golden/deepseek-v32-fp8")
[ -n "$long" ] && cases+=("$PHX_SOURCE/tests/data/golden/deepseek-v3-qdirect")
for folder in "${cases[@]}"; do
    awk 'BEGIN { for (i = 0; i < 20; i++) printf "%d ", (i * i * 7 + i * 13 + 5) % 90 }' >"$tmp/tokens"
    logits "$tmp/base.npy" "$folder" || continue
    carried="exchange by peers' memory"
    same "$folder" --tp 2
    same "$folder" --tp 4
    carried="exchange by NCCL"
    NCCL_P2P_DISABLE=1 same "$folder" --tp 2
    [ -n "$long" ] && NCCL_P2P_DISABLE=1 same "$folder" --tp 4
    carried=
    same "$folder" --pp 2
    [ -n "$long" ] && same "$folder" --tp 2 --pp 2
    [ -n "$long" ] && same "$folder" --tp 2 --chunk 7
    if [ -n "$long" ] && logits "$tmp/base.npy" "$folder" --experts ep; then
        same "$folder" --ep 2
        same "$folder" --ep 2 --pp 2
    fi
    logits "$tmp/base.npy" "$folder" --cache fp8 && same "$folder" --tp 2 --cache fp8 --chunk 7
    # NCCL's own order of sums: the self-check allows for it. (After rounding to bf16 the bytes may be the same.)
    logits "$tmp/other.npy" "$folder" --tp 4 --deterministic off &&
        { grep -q "sums in NCCL's order" "$tmp/said" || fails "no all-reduce with --deterministic off" "$tmp/said"; }
    # A comparison that cannot fail would prove nothing.
    [ -n "$long" ] && logits "$tmp/other.npy" "$folder" --profile oracle && cmp -s "$tmp/base.npy" "$tmp/other.npy" &&
        fails "profiles oracle and serving gave the same bytes" /dev/null
done
echo "$n_compared comparisons, $n_failed failed"
[ $n_failed = 0 ]
