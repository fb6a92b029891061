/* tests/emu/runtime.hpp - what kernels/cuda/device.cu needs of the CUDA runtime: one device, its memory,
 * streams. Device memory is a range of host pages that only kernels and copies may touch: outside of them it
 * is closed, so host code that follows a device pointer dies with SIGSEGV where it does. Once device memory
 * has been taken, a kernel that touches plain host memory is a fault too (emu.cpp, touch); pinned memory is
 * open to both. Streams run in order (stream.h). Copies and launches are done when they return, unless
 * something is still queued on their stream, which only collectives do: then they follow it on the stream's
 * thread, and what goes wrong there is told by the next cudaStreamSynchronize. As on a chip, an error stays
 * until cudaGetLastError or a launch asks for it, copies of memory that is not pinned wait for their stream,
 * and memory goes when all streams are idle. Memory for other processes becomes a mapping that they open too;
 * a process sees its own device as number 0 and those of all others as number 1. */
#ifndef PHX_TESTS_EMU_RUNTIME_HPP
#define PHX_TESTS_EMU_RUNTIME_HPP

#include "emu.hpp"
#include "tests/emu/record.hpp"
#include "tests/emu/stream.h"

enum cudaMemcpyKind {
    cudaMemcpyHostToDevice = 1,
    cudaMemcpyDeviceToHost = 2,
    cudaMemcpyDeviceToDevice = 3,
    cudaMemcpyDefault = 4
};
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };
typedef phx_emu_event *cudaEvent_t;

enum { cudaIpcMemLazyEnablePeerAccess = 1 };
struct cudaIpcMemHandle_t {
    char reserved[64];
};

struct cudaDeviceProp {
    char name[256];
    int major;
    int minor;
    int multiProcessorCount;
    int l2CacheSize;
};

extern "C" {
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaDeviceSynchronize(void);
cudaError_t cudaDeviceGetPCIBusId(char *text, int n, int device);
cudaError_t cudaDeviceGetByPCIBusId(int *device, const char *text);
cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer);
cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t *handle, void *p);
cudaError_t cudaIpcOpenMemHandle(void **ret, cudaIpcMemHandle_t handle, unsigned flags);
cudaError_t cudaIpcCloseMemHandle(void *p);
cudaError_t cudaMemset(void *p, int value, size_t bytes);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device);
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes);
cudaError_t cudaMalloc(void **ret, size_t bytes);
cudaError_t cudaFree(void *p);
cudaError_t cudaMallocHost(void **ret, size_t bytes);
cudaError_t cudaFreeHost(void *p);
cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *ret, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *ret, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaGetLastError(void);
const char *cudaGetErrorString(cudaError_t error);
}

namespace emu
{

void device_lock();
void device_unlock();

/* Every kernel and copy runs inside one of these: the one emulator of the process is locked, and device
 * memory is open. */
class device_open
{
  public:
    device_open()
    {
        device_lock();
    }
    ~device_open()
    {
        device_unlock();
    }
    device_open(const device_open &) = delete;
    device_open &operator=(const device_open &) = delete;
};

/* Memory that kernels may touch. */
struct device_piece {
    const char *first;
    size_t bytes;
    bool is_elsewhere; /* on another process's device */
};
/* The piece where p lies, if there is one; all addresses are one while no device memory has been taken. */
bool find_device_piece(const char *p, device_piece *ret);

/* Lets other threads at the device's memory for a while, from inside of one device_open alone. */
void device_rest(unsigned us);

} // namespace emu

#endif
