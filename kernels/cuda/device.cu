/* kernels/cuda/device.cu - the host side of a CUDA device: the plugin that the worker opens
 * (kernels/backend.h). Owns: the device's memory, its one stream, pinned staging memory, the op table of the
 * launchers, the list of architectures on which they have run. Built by nvcc into libphalanx_cuda.so, and
 * with the emulator into libphalanx_emu.so. Not here: kernels (the other .cu files), collectives
 * (worker/comm). */
extern "C" {
#include "base/alloc.h"
#include "kernels/backend.h"
}

#include "kernels/cuda/lt.cuh"
#include "kernels/cuda/queue.cuh"

#include <stdio.h>

#if defined(PHX_EMU)
#define NAME  "emu"
#define LEVEL PHX_LEVEL_EMU
#else
#define NAME  "cuda"
#define LEVEL PHX_LEVEL_CUDA
#endif

/* Architectures on which launch/gpu-check has passed: 90 for sm_90. Others need --allow-unproven. The list
 * ends with 0, which no device has. */
static const int proven[] = {0};

typedef struct device {
    phx_backend base; /* first: the queue that ops get is this device */
    phx_memory memory;
    phx_memory pinned;
    phx_device_peaks peaks;
    cudaStream_t stream;
    int ordinal;
    int n_multiprocessors;
    int arch;            /* 90: sm_90 */
    phx_lt *lt;          /* NULL: products are all our own */
    cudaError_t failure; /* of the first op that could not be queued */
    const char *failed_op;
} device;

static phx_code code_of(cudaError_t error, const char *what, phx_error *err)
{
    if (phx_told(error) == cudaSuccess)
        return PHX_OK;
    return PHX_FAIL(err, error == cudaErrorMemoryAllocation ? PHX_ERR_NOMEM : PHX_ERR_DEVICE,
                    "device: %s: %s", what, cudaGetErrorString(error));
}

/* ---- ops ---- */

static void note(device *d, const char *op, cudaError_t error)
{
    if (phx_told(error) == cudaSuccess || d->failure != cudaSuccess)
        return;
    d->failure = error;
    d->failed_op = op;
}

#define X(op)                                                            \
    static void queue_##op(phx_pool *queue, const phx_##op##_args *args) \
    {                                                                    \
        device *d = (device *)(void *)queue;                             \
        if (d->failure == cudaSuccess)                                   \
            note(d, #op, phx_##op##_cuda(d->stream, args));              \
    }
PHX_OPS(X)
#undef X

/* False when it is for our own kernels: the library does not take it, or has refused it just now. */
static bool queue_lt(device *d, const char *what, const phx_product_args *args)
{
    bool refused = false;
    if (d->failure != cudaSuccess || !phx_lt_takes(d->lt, args))
        return false;
    note(d, what, phx_lt_product(d->lt, d->stream, args, &refused));
    if (refused && d->base.remark[0] == '\0')
        phx_lt_tell_refusal(d->lt, args, d->base.remark, sizeof(d->base.remark));
    return !refused;
}

/* The same, where the device's library may compute it. */
static void queue_product_or_lt(phx_pool *queue, const phx_product_args *args)
{
    device *d = (device *)(void *)queue;
    if (!queue_lt(d, "product through cuBLASLt", args))
        queue_product(queue, args);
}

static void queue_leaf_sum_or_lt(phx_pool *queue, const phx_leaf_sum_args *args)
{
    device *d = (device *)(void *)queue;
    phx_product_args product;
    if (!phx_lt_product_of(args, &product) || !queue_lt(d, "leaf_sum through cuBLASLt", &product))
        queue_leaf_sum(queue, args);
}

static void fill_ops(phx_ops *ops)
{
#define X(op)             \
    ops->op = queue_##op; \
    ops->op##_level = LEVEL;
    PHX_OPS(X)
#undef X
    ops->product = queue_product_or_lt;
    ops->leaf_sum = queue_leaf_sum_or_lt;
}

static void queue_read(phx_pool *queue, const void *data, size_t n_bytes, uint32_t *sink)
{
    device *d = (device *)(void *)queue;
    note(d, "read", phx_peak_read_cuda(d->stream, d->n_multiprocessors, data, n_bytes, sink));
}

static void queue_multiply(phx_pool *queue, int64_t n_rounds, float *sink)
{
    device *d = (device *)(void *)queue;
    note(d, "multiply", phx_peak_multiply_cuda(d->stream, d->n_multiprocessors, n_rounds, sink));
}

/* ---- memory and copies ---- */

static phx_code take(void *user, size_t n_bytes, void **ret_memory, phx_error *err)
{
    device *d = (device *)user;
    void *memory = NULL;
    cudaError_t error = cudaSetDevice(d->ordinal);
    if (error == cudaSuccess)
        error = cudaMalloc(&memory, n_bytes);
    if (error == cudaSuccess)
        error = cudaMemsetAsync(memory, 0, n_bytes, d->stream);
    if (phx_told(error) != cudaSuccess)
        return PHX_FAIL(err, PHX_ERR_NOMEM,
                        "cannot take %zu bytes of device memory: %s; lower --memory, "
                        "--context or --cache-tokens",
                        n_bytes, cudaGetErrorString(error));
    *ret_memory = memory;
    return PHX_OK;
}

static void give_back(void *user, void *memory, size_t n_bytes)
{
    (void)user;
    (void)n_bytes;
    (void)cudaFree(memory);
}

static phx_code take_pinned(void *user, size_t n_bytes, void **ret_memory, phx_error *err)
{
    device *d = (device *)user;
    void *memory = NULL;
    cudaError_t error = cudaSetDevice(d->ordinal);
    if (error == cudaSuccess)
        error = cudaMallocHost(&memory, n_bytes);
    if (phx_told(error) != cudaSuccess)
        return PHX_FAIL(err, PHX_ERR_NOMEM,
                        "cannot pin %zu bytes of host memory: %s; the host or its cgroup has no more",
                        n_bytes, cudaGetErrorString(error));
    memset(memory, 0, n_bytes);
    *ret_memory = memory;
    return PHX_OK;
}

static void give_back_pinned(void *user, void *memory, size_t n_bytes)
{
    (void)user;
    (void)n_bytes;
    (void)cudaFreeHost(memory);
}

static phx_code upload(phx_backend *backend, void *to, const void *from, size_t n_bytes, phx_error *err)
{
    device *d = (device *)(void *)backend;
    cudaError_t error = cudaSetDevice(d->ordinal); /* loading threads come here for the first time */
    if (error == cudaSuccess)
        error = cudaMemcpyAsync(to, from, n_bytes, cudaMemcpyHostToDevice, d->stream);
    return code_of(error, "copy to the device", err);
}

/* The first failure of an op is told once it can be: launches return nothing, kernels fail later. */
static phx_code sync(phx_backend *backend, phx_error *err)
{
    device *d = (device *)(void *)backend;
    cudaError_t error = cudaSetDevice(d->ordinal);
    if (d->failure != cudaSuccess)
        return code_of(d->failure, d->failed_op, err);
    if (error == cudaSuccess)
        error = cudaStreamSynchronize(d->stream);
    return code_of(error, "waiting for the device", err);
}

static phx_code fetch(phx_backend *backend, void *to, const void *from, size_t n_bytes, phx_error *err)
{
    device *d = (device *)(void *)backend;
    if (d->failure != cudaSuccess) /* an op that failed is the cause, not the copy */
        return code_of(d->failure, d->failed_op, err);
    return code_of(cudaMemcpyAsync(to, from, n_bytes, cudaMemcpyDeviceToHost, d->stream),
                   "copy from the device", err);
}

static void destroy(phx_backend *backend)
{
    device *d = (device *)(void *)backend;
    phx_lt_destroy(d->lt);
    if (d->stream)
        (void)cudaStreamDestroy(d->stream);
    phx_free(d);
}

/* ---- graphs ---- */

/* Of this thread alone: others may load weights meanwhile, and NCCL may launch from a thread of its own. */
static phx_code record(phx_backend *backend, phx_error *err)
{
    device *d = (device *)(void *)backend;
    return code_of(cudaStreamBeginCapture(d->stream, cudaStreamCaptureModeThreadLocal), "recording", err);
}

static phx_code recorded(phx_backend *backend, phx_graph **ret_graph, size_t *ret_n_nodes, phx_error *err)
{
    device *d = (device *)(void *)backend;
    cudaGraph_t graph = NULL;
    cudaGraphExec_t whole = NULL;
    size_t n_nodes = 0;
    cudaError_t error = cudaStreamEndCapture(d->stream, &graph);
    const cudaError_t failure = d->failure; /* of an op that could not be recorded: the stream is as before */
    d->failure = cudaSuccess;
    if (failure != cudaSuccess)
        error = failure;
    if (error == cudaSuccess)
        error = cudaGraphGetNodes(graph, NULL, &n_nodes);
    if (error == cudaSuccess)
        error = cudaGraphInstantiate(&whole, graph, 0);
    if (graph)
        (void)cudaGraphDestroy(graph);
    if (error == cudaSuccess)
        error = cudaGraphUpload(whole, d->stream);
    if (error != cudaSuccess)
        return code_of(error, failure != cudaSuccess ? d->failed_op : "the end of a recording", err);
    *ret_graph = (phx_graph *)(void *)whole;
    *ret_n_nodes = n_nodes;
    return PHX_OK;
}

static phx_code replay(phx_backend *backend, phx_graph *graph, phx_error *err)
{
    device *d = (device *)(void *)backend;
    if (d->failure != cudaSuccess)
        return code_of(d->failure, d->failed_op, err);
    return code_of(cudaGraphLaunch((cudaGraphExec_t)(void *)graph, d->stream), "replay", err);
}

static void graph_destroy(phx_backend *backend, phx_graph *graph)
{
    (void)backend;
    if (graph)
        (void)cudaGraphExecDestroy((cudaGraphExec_t)(void *)graph);
}

static uint64_t free_memory(phx_backend *backend)
{
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    (void)backend;
    return phx_told(cudaMemGetInfo(&free_bytes, &total_bytes)) == cudaSuccess ? free_bytes : 0;
}

static phx_code choose_products(phx_backend *backend, const phx_product_choice *choice, phx_error *err)
{
    device *d = (device *)(void *)backend;
    return phx_lt_choose(&d->lt, d->stream, d->arch, choice, err);
}

static const phx_backend_fns fns = {upload,   fetch,  sync,          destroy,     record,
                                    recorded, replay, graph_destroy, free_memory, choose_products};

/* ---- opening ---- */

static phx_code choose_device(const phx_device_request *request, int *ret_ordinal, phx_error *err)
{
    int n = 0;
    const cudaError_t error = cudaGetDeviceCount(&n);
    if (error != cudaSuccess)
        return PHX_FAIL(err, PHX_ERR_UNAVAILABLE,
                        "no CUDA device: %s; install a driver of the R580 series or newer, "
                        "or choose --backend cpu",
                        cudaGetErrorString(error));
    if (n == 0)
        return PHX_FAIL(err, PHX_ERR_UNAVAILABLE,
                        "no CUDA device: the driver sees none; see CUDA_VISIBLE_DEVICES, "
                        "or choose --backend cpu");
#if defined(PHX_EMU)
    n = 1;
    *ret_ordinal = 0; /* every process emulates a device of its own */
#else
    if (request->host_rank >= (uint32_t)n)
        return PHX_FAIL(err, PHX_ERR_UNAVAILABLE,
                        "rank %u of this host needs a GPU of its own and the driver sees "
                        "%d: start fewer ranks here, or choose --backend cpu",
                        request->host_rank, n);
    *ret_ordinal = (int)request->host_rank;
#endif
    (void)request;
    return PHX_OK;
}

/* Twice a clock, a word of that many bits; 0 where the driver does not say. */
static double stated_bandwidth(int ordinal)
{
#if defined(PHX_EMU)
    (void)ordinal;
    return 0.0;
#else
    int khz = 0;
    int bits = 0;
    if (phx_told(cudaDeviceGetAttribute(&khz, cudaDevAttrMemoryClockRate, ordinal)) != cudaSuccess ||
        phx_told(cudaDeviceGetAttribute(&bits, cudaDevAttrGlobalMemoryBusWidth, ordinal)) != cudaSuccess)
        return 0.0;
    return 2.0 * 1e3 * (double)khz * (double)bits / 8.0;
#endif
}

static phx_code describe(device *d, const phx_device_request *request, phx_error *err)
{
    cudaDeviceProp properties;
    int driver = 0;
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    cudaError_t error = cudaGetDeviceProperties(&properties, d->ordinal);
    if (error == cudaSuccess)
        error = cudaDriverGetVersion(&driver);
    if (error == cudaSuccess)
        error = cudaMemGetInfo(&free_bytes, &total_bytes);
    if (error != cudaSuccess)
        return PHX_FAIL(err, PHX_ERR_UNAVAILABLE, "device %d cannot be used: %s; choose --backend cpu",
                        d->ordinal, cudaGetErrorString(error));
    const int arch = d->arch = properties.major * 10 + properties.minor;
    bool is_proven = false;
    for (size_t i = 0; i < sizeof(proven) / sizeof(proven[0]); i++)
        is_proven = is_proven || proven[i] == arch;
    if (!is_proven && !request->allow_unproven)
        return PHX_FAIL(err, PHX_ERR_UNAVAILABLE,
                        "device %d (%.64s) is sm_%d, where these kernels have never run: add "
                        "--allow-unproven, or choose --backend cpu",
                        d->ordinal, properties.name, arch);
    if (arch == 0)
        (void)snprintf(d->base.level, sizeof(d->base.level), NAME);
    else
        (void)snprintf(d->base.level, sizeof(d->base.level), "sm%d", arch);
    (void)snprintf(d->base.description, sizeof(d->base.description), "%.48s, %s, CUDA %d.%d", properties.name,
                   d->base.level, driver / 1000, driver % 1000 / 10);
    d->base.free_bytes = free_bytes > PHX_DEVICE_RESERVE_BYTES ? free_bytes - PHX_DEVICE_RESERVE_BYTES : 0;
    d->n_multiprocessors = properties.multiProcessorCount;
    d->peaks.read = queue_read;
    d->peaks.multiply = queue_multiply;
    d->peaks.ops_per_round = phx_peak_ops_per_round(d->n_multiprocessors);
    d->peaks.stated_bytes_per_s = stated_bandwidth(d->ordinal);
    d->peaks.cache_bytes = (uint64_t)properties.l2CacheSize;
    return PHX_OK;
}

static phx_code open_device(const phx_device_request *request, phx_backend **ret_backend, phx_error *err)
{
    phx_code rc = PHX_OK;
    device *d = (device *)phx_alloc(1, sizeof(*d));
    if (!d) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "device");
        goto out;
    }
    rc = choose_device(request, &d->ordinal, err);
    if (rc == PHX_OK)
        rc = code_of(cudaSetDevice(d->ordinal), "choosing the device", err);
    if (rc == PHX_OK)
        rc = describe(d, request, err);
    if (rc == PHX_OK)
        rc = code_of(cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking), "stream", err);
    if (rc != PHX_OK)
        goto out;
    d->memory.user = d;
    d->memory.take = take;
    d->memory.give_back = give_back;
    d->pinned.user = d;
    d->pinned.take = take_pinned;
    d->pinned.give_back = give_back_pinned;
    d->base.fns = &fns;
    d->base.name = NAME;
    d->base.queue = (phx_pool *)(void *)d;
    d->base.device = &d->memory;
    d->base.pinned = &d->pinned;
    d->base.stream = d->stream;
    d->base.order = phx_device_cuda();
    d->base.peaks = &d->peaks;
    fill_ops(&d->base.ops);
    *ret_backend = &d->base;
    d = NULL;
out:
    if (d)
        destroy(&d->base);
    return rc;
}

static const phx_plugin plugin = {PHX_PLUGIN_ABI, (uint32_t)sizeof(phx_backend), open_device};

extern "C" __attribute__((visibility("default"))) phx_plugin_fn phx_plugin_get;
const phx_plugin *phx_plugin_get(void)
{
    return &plugin;
}
