#!/bin/bash
# tests/e2e/two_hosts.sh - a server whose ranks lie on two simulated hosts: two network namespaces with their own host
# name and /dev/shm, joined by a virtual cable. The answer and the bits of one host; a rank killed on the other host;
# nothing left. Exit 77 (skipped) where that is not permitted. Environment: PHX_BUILD, PHX_SOURCE.
set -eu
phalanx=$PHX_BUILD/phalanx
a=phxh$$a
b=phxh$$b
subnet=10.211.8 dir=
. "$PHX_SOURCE/tests/two_namespaces.sh"

mine() { # pids of everything that was started here
    local pid
    for pid in /proc/[0-9]*; do
        pid=${pid#/proc/}
        if [ "$pid" != $$ ] && grep -qz "^PHX_E2E_SITE=$dir\$" "/proc/$pid/environ" 2>/dev/null; then echo "$pid"; fi
    done
}
clean() {
    local pid
    if [ -n "$dir" ]; then for pid in $(mine); do kill -9 "$pid" 2>/dev/null || true; done; fi
    leave_hosts
}
fail() {
    echo "FAILED: $1"
    cat "$dir/log" || true
    exit 1
}
trap clean EXIT
trap 'exit 1' INT TERM

command -v mpirun >/dev/null || skip "no mpirun"
make_hosts

export XDG_RUNTIME_DIR=$dir XDG_STATE_HOME=$dir/state
export OMPI_MCA_plm=rsh OMPI_MCA_plm_rsh_agent=$dir/enter OMPI_MCA_btl_vader_single_copy_mechanism=none
export OMPI_MCA_oob_tcp_if_include=$subnet.0/24 OMPI_MCA_btl_tcp_if_include=$subnet.0/24

serve() {
    rm -f "$dir/log"
    PHX_E2E_SITE=$dir "$dir/enter" "$a" "exec '$phalanx' serve --hosts $a:2,$b:2 --tp 2 --pp 2 --threads 1 \
        --memory 512M --ranks-address tcp://$subnet.1:0 --http 127.0.0.1:0 $*" >"$dir/log" 2>&1 &
    server=$!
    for _ in $(seq 600); do
        if grep -q 'ready: ' "$dir/log"; then return; fi
        kill -0 $server 2>/dev/null || fail "the server ended"
        sleep 0.1
    done
    fail "not ready"
}
ends() { # CODE
    local code=0
    wait $server || code=$?
    [ $code = "$1" ] || fail "exit code $code, expected $1"
    for _ in $(seq 200); do
        if [ -z "$(mine)" ] && [ -z "$(ls "$dir/phalanx")" ]; then return; fi
        sleep 0.1
    done
    ps -o pid,args -p "$(mine | tr '\n' ,)0"
    ls -R "$dir/phalanx"
    fail "something is left"
}

serve
hosts=$("$phalanx" status --json | grep -o "\"host\": *\"[^\"]*\"" | sort | uniq -c | awk '{ print $1 }' | tr '\n' ' ')
[ "$hosts" = "2 2 " ] || fail "ranks by host: $hosts"
answer=$("$phalanx" run --connect "ipc://$dir/phalanx/control" "What is the capital of France?" 2>"$dir/said") ||
    fail "no answer: $(cat "$dir/said")"
[ "$answer" = "The capital of France is Paris." ] || fail "answer: $answer"
seq 5 200 >"$dir/tokens"
"$phalanx" logits --connect "ipc://$dir/phalanx/control" --tokens "@$dir/tokens" --out "$dir/two.npy" >/dev/null ||
    fail "no logits"
kill -TERM $server
ends 0
"$phalanx" logits --threads 1 --tokens "@$dir/tokens" --out "$dir/one.npy" >/dev/null || fail "no logits on one host"
cmp "$dir/one.npy" "$dir/two.npy" || fail "other bits on two hosts"

# The rank with the highest number lies on the second host.
serve --relaunch off
victim=$("$phalanx" status --json | grep -o '"pid": *[0-9]*' | tail -n 1 | grep -o '[0-9]*')
kill -9 "$victim"
ends 5
echo "two hosts: answer, equal bits, loss of a rank"
