/* kernels/cuda/queue.cuh - what queue.cu and peak.cu give to device.cu, and peers.cu to queue.cu. */
#ifndef PHX_KERNELS_CUDA_QUEUE_CUH
#define PHX_KERNELS_CUDA_QUEUE_CUH

#include "kernels/cuda/launch.cuh"

/* The runtime keeps what it has refused until it is asked, and the next launch asks (launch.cuh): an error
 * that is told must not be found there a second time. Faults of the device stay whatever is asked. */
static inline cudaError_t phx_told(cudaError_t error)
{
    if (error != cudaSuccess)
        (void)cudaGetLastError();
    return error;
}

extern "C" {
#include "kernels/device.h"

/* Works on the device that is current in the calling thread. */
const phx_device *phx_device_cuda(void);
extern const phx_device_peers phx_peers_cuda;

/* peak.cu: reads n_bytes once; n_rounds rounds of phx_peak_ops_per_round operations each. sink is device
 * memory of a word, not written in practice. */
cudaError_t phx_peak_read_cuda(cudaStream_t stream, int n_multiprocessors, const void *data, size_t n_bytes,
                               uint32_t *sink);
cudaError_t phx_peak_multiply_cuda(cudaStream_t stream, int n_multiprocessors, int64_t n_rounds, float *sink);
double phx_peak_ops_per_round(int n_multiprocessors);
}

#endif
