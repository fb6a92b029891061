#!/bin/sh
# tests/comm/two_nodes.sh MPIRUN TEST_COMM - the MPI checks over two simulated hosts: two network namespaces
# with their own host name and /dev/shm, joined by a virtual cable. Exit 77 (skipped) where that is not permitted.
set -eu
mpirun=$1
program=$2
a=phx$$a
b=phx$$b
dir=

clean() {
    ip netns del "$a" 2>/dev/null || true
    ip netns del "$b" 2>/dev/null || true
    if [ -n "$dir" ]; then rm -rf "$dir"; fi
}
skip() {
    echo "SKIP: $1"
    exit 77
}
trap clean EXIT
trap 'exit 1' INT TERM

for tool in ip nsenter unshare; do
    command -v $tool >/dev/null || skip "no $tool"
done
[ "$(id -u)" = 0 ] || skip "network namespaces need root"
ip netns add "$a" 2>/dev/null || skip "network namespaces are not permitted here"
ip netns add "$b"
ip link add "v$$a" netns "$a" type veth peer name "v$$b" netns "$b" 2>/dev/null ||
    skip "no virtual cable here"
ip -n "$a" addr add 10.211.7.1/24 dev "v$$a"
ip -n "$b" addr add 10.211.7.2/24 dev "v$$b"
for ns in "$a" "$b"; do ip -n "$ns" link set lo up; done
ip -n "$a" link set "v$$a" up
ip -n "$b" link set "v$$b" up
dir=$(mktemp -d)

# enter HOST COMMAND...: what mpirun takes for ssh. A host name per node keeps the nodes' files apart.
cat >"$dir/enter" <<'AGENT'
#!/bin/sh
host=$1
shift
exec nsenter --net=/run/netns/"$host" unshare -u -m sh -c \
    'hostname "$0" && mount -t tmpfs tmpfs /dev/shm && exec sh -c "$*"' "$host" "$*"
AGENT
chmod +x "$dir/enter"
"$dir/enter" "$a" true 2>/dev/null || skip "cannot enter a namespace here"

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 TMPDIR="$dir"
# on N COMMAND...: N ranks, alternately on the two nodes.
on() {
    n=$1
    shift
    "$dir/enter" "$a" "$mpirun" -n "$n" -H "$a:8,$b:8" --map-by node --bind-to none \
        --mca plm rsh --mca plm_rsh_agent "$dir/enter" --mca mpi_yield_when_idle 1 \
        --mca oob_tcp_if_include 10.211.7.0/24 --mca btl_tcp_if_include 10.211.7.0/24 \
        --mca btl_vader_single_copy_mechanism none "$@"
}

[ "$(on 2 hostname | sort -u | wc -l)" = 2 ] || { echo "the two ranks are not on two nodes"; exit 1; }
for layout in "2 1" "4 1" "1 2" "2 2"; do
    set -- $layout
    echo "two nodes, tp $1 pp $2"
    on $(($1 * $2)) "$program" mpi "$1" "$2"
done
