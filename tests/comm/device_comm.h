/* tests/comm/device_comm.h - a communicator of device memory for tests whose buffers are the host's.
 * Owns: a device of the emulator, the copies to it before a verb and back after. */
#ifndef PHX_TESTS_COMM_DEVICE_COMM_H
#define PHX_TESTS_COMM_DEVICE_COMM_H

#include "worker/comm/comm_nccl.h"

/* The NCCL backend, with the stand-in and exchanges through peers' memory, over the given group, on an
 * emulated device of its own. Owns under on success; a failure destroys it. PHX_ERR_UNAVAILABLE: the build
 * has no emulator. */
phx_code phx_device_comm_create(phx_comm *under, const phx_comm_shape *shape, phx_comm **ret_comm,
                                phx_error *err);

#endif
