/* tests/emu/ops_emu.cpp - the CUDA launchers as ops of the kernel table: phx_<op>_emu. A fault of a kernel
 * ends the process with its text: op types return nothing, and a result after a fault means nothing. */
#include "kernels/cuda/launch.cuh"

#include <stdio.h>
#include <stdlib.h>

static void check(const char *op, cudaError_t err)
{
    if (err == cudaSuccess)
        return;
    fprintf(stderr, "emulator: %s: error %d: %s\n", op, (int)err, phx_emu_fault());
    abort();
}

/* The pool has no part in it: the emulator is one thread. */
extern "C" {
#define PHX_OP(op, level, fn)                        \
    phx_##op##_fn fn;                                \
    void fn(phx_pool *, const phx_##op##_args *args) \
    {                                                \
        check(#op, phx_##op##_cuda(nullptr, args));  \
    }
#include "kernels/ops_emu.list"
#undef PHX_OP
}
