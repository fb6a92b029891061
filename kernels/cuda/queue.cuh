/* kernels/cuda/queue.cuh - what queue.cu gives to device.cu. */
#ifndef PHX_KERNELS_CUDA_QUEUE_CUH
#define PHX_KERNELS_CUDA_QUEUE_CUH

#include "kernels/cuda/launch.cuh"

extern "C" {
#include "kernels/device.h"

/* Works on the device that is current in the calling thread. */
const phx_device *phx_device_cuda(void);
}

#endif
