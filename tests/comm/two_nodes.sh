#!/bin/sh
# tests/comm/two_nodes.sh MPIRUN TEST_COMM - the MPI checks over two simulated hosts: two network namespaces
# with their own host name and /dev/shm, joined by a virtual cable. Exit 77 (skipped) where that is not permitted.
set -eu
mpirun=$1
program=$2
a=phx$$a
b=phx$$b
subnet=10.211.7 dir=

. "$(dirname "$0")/../two_namespaces.sh"
trap leave_hosts EXIT
trap 'exit 1' INT TERM
make_hosts

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 TMPDIR="$dir"
# on N COMMAND...: N ranks, alternately on the two nodes.
on() {
    n=$1
    shift
    "$dir/enter" "$a" "$mpirun" -n "$n" -H "$a:8,$b:8" --map-by node --bind-to none \
        --mca plm rsh --mca plm_rsh_agent "$dir/enter" --mca mpi_yield_when_idle 1 \
        --mca oob_tcp_if_include $subnet.0/24 --mca btl_tcp_if_include $subnet.0/24 \
        --mca btl_vader_single_copy_mechanism none "$@"
}

[ "$(on 2 hostname | sort -u | wc -l)" = 2 ] || { echo "the two ranks are not on two nodes"; exit 1; }
for layout in "2 1" "4 1" "1 2" "2 2"; do
    set -- $layout
    echo "two nodes, tp $1 pp $2"
    on $(($1 * $2)) "$program" mpi "$1" "$2"
done
