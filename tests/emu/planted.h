/* tests/emu/planted.h - kernels with planted faults (planted.cu), as test_emu.c calls them. */
#ifndef PHX_TESTS_EMU_PLANTED_H
#define PHX_TESTS_EMU_PLANTED_H

#include <stdint.h>

#define PHX_PLANTED_THREADS 128

typedef enum phx_planted_kernel {
    PHX_PLANTED_REVERSE,
    PHX_PLANTED_WARP_SUMS,
    PHX_PLANTED_NEIGHBOURS,
    PHX_PLANTED_SAME_NUMBER,
    PHX_PLANTED_WIDE,
} phx_planted_kernel;

typedef enum phx_fault {
    PHX_FAULT_NONE,
    PHX_FAULT_NO_BARRIER,
    PHX_FAULT_EARLY_EXIT,
    PHX_FAULT_TWO_BARRIERS,
    PHX_FAULT_OFF_BY_ONE,
    PHX_FAULT_WRITE_AFTER_READ,
    PHX_FAULT_SAME_OUTPUT,
    PHX_FAULT_LANE_MISSING,
    PHX_FAULT_MASK,
    PHX_FAULT_WRONG_LANE,
    PHX_FAULT_DYNAMIC,
    PHX_FAULT_NO_WARP_SYNC,
    PHX_FAULT_OTHER_WARP,
    PHX_FAULT_BLOCKS,
    PHX_FAULT_UNALIGNED_LOAD,
    PHX_FAULT_UNALIGNED_COPY,
    PHX_FAULT_UNALIGNED_STORE,
    PHX_FAULT_NOT_ALLOWED,
    PHX_FAULT_TOO_MUCH_SHARED,
    PHX_FAULT_NO_BLOCKS,
    PHX_FAULT_TALL_GRID,
} phx_fault;

#if defined(__cplusplus)
extern "C" {
#endif

/* Runs one kernel over PHX_PLANTED_THREADS numbers; returns the error of the launch, 0 for none. */
int phx_planted(phx_planted_kernel kernel, phx_fault fault, const float *in, float *out);

/* The emulator's (tests/emu/emu.hpp). */
void phx_emu_seed(uint64_t seed);
const char *phx_emu_fault(void);
uint64_t phx_emu_switches(void);

#if defined(__cplusplus)
}
#endif

#endif
