/* tests/comm/host_device.h - a device whose memory is the host's, for tests of the NCCL backend.
 * Streams are those of the emulator; the tree is that of worker/comm/tree.c. */
#ifndef PHX_TESTS_COMM_HOST_DEVICE_H
#define PHX_TESTS_COMM_HOST_DEVICE_H

#include "kernels/device.h"

extern const phx_device phx_host_device;

#endif
