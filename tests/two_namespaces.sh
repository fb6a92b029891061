# tests/two_namespaces.sh - sourced by tests on two simulated hosts: two network namespaces with their own host name and
# /dev/shm, joined by a virtual cable. The caller sets a and b (names of the hosts), subnet (as in 10.211.7: $a is .1,
# $b is .2) and dir (empty); skip ends the test with 77 where this is not permitted.
# Afterwards dir is a folder of its own with `enter HOST COMMAND...`, which mpirun takes for ssh.
skip() {
    echo "SKIP: $1"
    exit 77
}
leave_hosts() {
    ip netns del "$a" 2>/dev/null || true
    ip netns del "$b" 2>/dev/null || true
    if [ -n "$dir" ]; then rm -rf "$dir"; fi
}
make_hosts() {
    for tool in ip nsenter unshare; do
        command -v $tool >/dev/null || skip "no $tool"
    done
    [ "$(id -u)" = 0 ] || skip "network namespaces need root"
    ip netns add "$a" 2>/dev/null || skip "network namespaces are not permitted here"
    ip netns add "$b"
    ip link add "h$$a" netns "$a" type veth peer name "h$$b" netns "$b" 2>/dev/null || skip "no virtual cable here"
    ip -n "$a" addr add "$subnet.1/24" dev "h$$a"
    ip -n "$b" addr add "$subnet.2/24" dev "h$$b"
    for ns in "$a" "$b"; do ip -n "$ns" link set lo up; done
    ip -n "$a" link set "h$$a" up
    ip -n "$b" link set "h$$b" up
    dir=$(mktemp -d)
    cat >"$dir/enter" <<'AGENT'
#!/bin/sh
host=$1
shift
exec nsenter --net=/run/netns/"$host" unshare -u -m sh -c \
    'hostname "$0" && mount -t tmpfs tmpfs /dev/shm && exec sh -c "$*"' "$host" "$*"
AGENT
    chmod +x "$dir/enter"
    "$dir/enter" "$a" true 2>/dev/null || skip "cannot enter a namespace here"
}
