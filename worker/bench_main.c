/* worker/bench_main.c - `phalanx-worker --bench` without the worker: machine and kernels, no library besides
 * libc. launch/gpu-check builds it. */
#include "worker/bench.h"

int main(int argc, char **argv)
{
    return phx_bench_main(argc, argv);
}
