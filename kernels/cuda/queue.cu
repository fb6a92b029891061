/* kernels/cuda/queue.cu - order on a CUDA device, and the tree of the ranks' partial sums (kernels/device.h).
 * Owns: streams and events for worker/comm, which moves data between ranks while ops wait. Not here: the
 * stream of the ops and their memory (device.cu). */
extern "C" {
#include "kernels/device.h"
}

#include "kernels/cuda/queue.cuh"

#include "kernels/cuda/ptx.cuh"

#define TREE_PARTS_MAX 8
#define TREE_BLOCK     256

static phx_code code_of(cudaError_t error, const char *what, phx_error *err)
{
    if (phx_told(error) == cudaSuccess)
        return PHX_OK;
    return PHX_FAIL(err, error == cudaErrorMemoryAllocation ? PHX_ERR_NOMEM : PHX_ERR_DEVICE,
                    "device: %s: %s", what, cudaGetErrorString(error));
}

/* ---- the tree ---- */

/* One thread per element: neighbours, then neighbours of sums. */
static __global__ void tree_kernel(float *sum, const float *parts, size_t stride, size_t n, int n_parts)
{
    const size_t i = (size_t)blockIdx.x * TREE_BLOCK + threadIdx.x;
    float s[TREE_PARTS_MAX];
    if (i >= n)
        return;
    for (int r = 0; r < n_parts; r++)
        s[r] = parts[(size_t)r * stride + i];
    for (int step = 1; step < n_parts; step *= 2)
        for (int r = 0; r + step < n_parts; r += 2 * step)
            s[r] += s[r + step];
    sum[i] = s[0];
}

static phx_code tree_add(void *user, void *stream, const phx_device_tree *tree, phx_error *err)
{
    (void)user;
    if (tree->n_parts > TREE_PARTS_MAX)
        return PHX_FAIL(err, PHX_ERR_INVALID, "tree of %u parts", tree->n_parts);
    const cudaError_t error =
        PHX_LAUNCH(tree_kernel, phx_grid((int64_t)tree->n, TREE_BLOCK), TREE_BLOCK, 0, (cudaStream_t)stream,
                   tree->sum, tree->parts, tree->stride, tree->n, (int)tree->n_parts);
    return code_of(error, "tree of sums", err);
}

/* ---- waiting ---- */

#if !defined(PHX_EMU)
static __global__ void pause_kernel(uint64_t ns)
{
    const uint64_t start = phx_clock_ns();
    while (phx_clock_ns() - start < ns) {
    }
}
#endif

static phx_code pass_time(void *user, void *stream, uint64_t ns, phx_error *err)
{
    (void)user;
#if defined(PHX_EMU)
    (void)stream;
    (void)ns;
    (void)err;
    return PHX_OK;
#else
    return code_of(PHX_LAUNCH(pause_kernel, 1, 1, 0, (cudaStream_t)stream, ns), "pause", err);
#endif
}

/* ---- memory, streams, events ---- */

static phx_code take(void *user, size_t n_bytes, void **ret_memory, phx_error *err)
{
    void *memory = NULL;
    (void)user;
    const cudaError_t error = cudaMalloc(&memory, n_bytes);
    if (error == cudaSuccess)
        *ret_memory = memory;
    return code_of(error, "memory for collectives; lower --max-batch", err);
}

static void release(void *user, void *memory)
{
    (void)user;
    (void)cudaFree(memory);
}

static phx_code stream_create(void *user, void **ret_stream, phx_error *err)
{
    cudaStream_t stream = NULL;
    (void)user;
    const cudaError_t error = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    if (error == cudaSuccess)
        *ret_stream = stream;
    return code_of(error, "stream", err);
}

static void stream_destroy(void *user, void *stream)
{
    (void)user;
    if (stream)
        (void)cudaStreamDestroy((cudaStream_t)stream);
}

static phx_code event_create(void *user, void **ret_event, phx_error *err)
{
    cudaEvent_t event = NULL;
    (void)user;
    const cudaError_t error = cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    if (error == cudaSuccess)
        *ret_event = event;
    return code_of(error, "event", err);
}

static void event_destroy(void *user, void *event)
{
    (void)user;
    if (event)
        (void)cudaEventDestroy((cudaEvent_t)event);
}

static phx_code record(void *user, void *event, void *stream, phx_error *err)
{
    (void)user;
    return code_of(cudaEventRecord((cudaEvent_t)event, (cudaStream_t)stream), "event", err);
}

static phx_code follow(void *user, void *stream, void *event, phx_error *err)
{
    (void)user;
    return code_of(cudaStreamWaitEvent((cudaStream_t)stream, (cudaEvent_t)event, 0), "order of streams", err);
}

static phx_code is_done(void *user, void *event, bool *ret_done, phx_error *err)
{
    (void)user;
    const cudaError_t error = phx_told(cudaEventQuery((cudaEvent_t)event));
    if (error == cudaSuccess || error == cudaErrorNotReady)
        *ret_done = error == cudaSuccess;
    return error == cudaErrorNotReady ? PHX_OK : code_of(error, "an op or a copy before", err);
}

static phx_code copy(void *user, void *stream, const phx_device_copy *what, phx_error *err)
{
    (void)user;
    return code_of(
        cudaMemcpyAsync(what->to, what->from, what->n_bytes, cudaMemcpyDefault, (cudaStream_t)stream), "copy",
        err);
}

const phx_device *phx_device_cuda(void)
{
    static const phx_device cuda = {
        NULL,   take,   release, stream_create, stream_destroy, event_create,    event_destroy,
        record, follow, is_done, copy,          tree_add,       &phx_peers_cuda, pass_time};
    return &cuda;
}
