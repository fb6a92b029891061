#!/bin/sh
# tests/tidy/test_rules.sh - each rule of the tidy test finds a violation made for it, and nothing in clean code.
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
cd "$tmp" && mkdir base coordinator worker || exit 1
n_bad=0

findings() {
    awk -f "$here/lex.awk" "$@" >code
    awk -f "$here/includes.awk" code
    awk -f "$here/sizes.awk" code
    awk -v defined="PHX_MPI" -f "$here/words.awk" code
}
expect() { # FILE "RULE PLACE VALUE" ...: exactly these findings, in any order
    file=$1
    shift
    findings "$file" | cut -f1-3 | tr '\t' ' ' | sort >got
    : >want
    for line in "$@"; do echo "$line" >>want; done
    sort -o want want
    if ! diff want got >difference; then
        echo "$file: findings differ (< expected, > got):"
        cat difference
        n_bad=$((n_bad + 1))
    fi
}
repeat() { # N LINE
    awk -v n="$1" -v line="$2" 'BEGIN { for (i = 0; i < n; i++) print line }'
}

cat >base/clean.c <<'C'
/* strcpy(a, b) in a comment, and */
#include "base/str.h"
#if defined(__AVX2__) || PHX_MPI
#endif
static const char text[] = "free(x); {{{{{{ \" goto";
int f(int x)
{
    int rc = phx_free((point){.x = 1}, x->free(1), text);
    /* {{{{{{ return
     * return */
    if (x) {
        goto out;
    }
out:
    return rc;
}
C
expect base/clean.c

cat >coordinator/includes.c <<'C'
#include "worker/rank.h"
#include "kernels/ops.h"
#include "rank.h"
#include <zmq.h>
#include "proto/codec.h"
C
expect coordinator/includes.c "include coordinator/includes.c:worker/rank.h 1" \
    "include coordinator/includes.c:kernels/ops.h 1" "include coordinator/includes.c:rank.h 1" \
    "home coordinator/includes.c:zmq.h 1"

cat >worker/dtype.c <<'C'
#include "model/plan.h"
#include "coordinator/engine.h"
C
expect worker/dtype.c "include worker/dtype.c:coordinator/engine.h 1"

repeat 9 '#include <stdio.h>' >base/many.h
expect base/many.h "includes base/many.h 9"

{
    echo 'static void long_one(void)'
    echo '{'
    repeat 99 '    f();'
    echo '}'
    repeat 700 ''
} >base/long.c
expect base/long.c "function base/long.c:long_one 101" "file base/long.c 802"

{
    echo 'int deep(void)'
    echo '{'
    for i in 1 2 3 4 5; do echo '    if (x) {'; done
    for i in 1 2 3 4 5; do echo '    }'; done
    echo '    goto fail;'
    echo 'fail:'
    echo 'out:'
    echo '    return 1;'
    echo '    return 2;'
    echo '}'
    printf '/* %0108d */\n' 0
} >base/deep.c
expect base/deep.c "nesting base/deep.c:deep 5" "out base/deep.c:deep 1" "out base/deep.c:deep 2" "columns base/deep.c:19 114"

cat >base/banned.c <<'C'
#ifdef PHX_NOBODY
#endif
    strcpy(a, b);
    p = malloc (4);
    getenv("X");
C
expect base/banned.c "macro base/banned.c:PHX_NOBODY 1" "banned base/banned.c:strcpy 1" \
    "banned base/banned.c:malloc 1" "banned base/banned.c:getenv 1"

printf 'out\tbase/a.c:f\t2\nfile\tbase/b.c\t900\n' >ratchet
printf 'out\tbase/a.c:f\t2\tx\nfile\tbase/b.c\t850\tx\n' >same
printf 'out\tbase/a.c:f\t3\tx\n' >larger
printf 'out\tbase/c.c:f\t1\tx\n' >new
awk -f "$here/ratchet.awk" ratchet same >/dev/null || { echo "the ratchet refuses what it records"; n_bad=$((n_bad + 1)); }
for case in larger new; do
    if awk -f "$here/ratchet.awk" ratchet $case >/dev/null; then
        echo "the ratchet lets pass: $case"
        n_bad=$((n_bad + 1))
    fi
done

echo "$n_bad rules misbehave"
[ $n_bad -eq 0 ]
