/* tests/emu/ops_emu.cpp - the CUDA launchers as ops of the kernel table: phx_<op>_emu. A fault of a kernel
 * ends the process with its text: op types return nothing, and a result after a fault means nothing. */
#include "kernels/cuda/lt.cuh"

#include <stdio.h>
#include <stdlib.h>

static void check(const char *op, cudaError_t err)
{
    if (err == cudaSuccess)
        return;
    fprintf(stderr, "emulator: %s: error %d: %s\n", op, (int)err, phx_emu_fault());
    abort();
}

/* What phx_emu_choose_products has settled; for the process. */
static phx_lt *library;

/* Products go where device.cu would send them. */
#define X(op)                                                  \
    static cudaError_t own_kernel(const phx_##op##_args *args) \
    {                                                          \
        return phx_##op##_cuda(nullptr, args);                 \
    }
PHX_OPS(X)
#undef X

template <class ARGS> static cudaError_t run(const ARGS *args)
{
    return own_kernel(args);
}

/* A refusal in a step is a failure of the check, though a worker would go on. */
static cudaError_t through_library(const phx_product_args *args)
{
    bool refused = false;
    const cudaError_t error = phx_lt_product(library, nullptr, args, &refused);
    return refused ? cudaErrorLaunchFailure : error;
}

static cudaError_t run(const phx_product_args *args)
{
    return phx_lt_takes(library, args) ? through_library(args) : own_kernel(args);
}

static cudaError_t run(const phx_leaf_sum_args *args)
{
    phx_product_args product;
    return phx_lt_product_of(args, &product) && phx_lt_takes(library, &product) ? through_library(&product)
                                                                                : own_kernel(args);
}

/* The pool has no part in it: the emulator is one thread. */
extern "C" {
phx_code phx_emu_choose_products(const phx_product_choice *choice, phx_error *err);
phx_code phx_emu_choose_products(const phx_product_choice *choice, phx_error *err)
{
    return phx_lt_choose(&library, nullptr, 0, choice, err);
}

#define PHX_OP(op, level, fn)                        \
    phx_##op##_fn fn;                                \
    void fn(phx_pool *, const phx_##op##_args *args) \
    {                                                \
        check(#op, run(args));                       \
    }
#include "kernels/ops_emu.list"
#undef PHX_OP
}
