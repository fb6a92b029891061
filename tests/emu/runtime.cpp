/* tests/emu/runtime.cpp - the emulated device: its memory and what is asked of it. */
#include "tests/emu/runtime.hpp"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <mutex>
#include <set>

/* The plugin's own constants, which kernels may read. */
extern "C" const char __ehdr_start __attribute__((visibility("hidden")));
extern "C" const char _end __attribute__((visibility("hidden")));

namespace
{

constexpr size_t PAGE = 4096;
constexpr size_t HEAP = (size_t)1 << 40; /* addresses, not memory */

struct device {
    std::recursive_mutex lock;
    char *heap = nullptr;
    size_t used = 0;                      /* from the heap's start, never given out twice */
    int n_open = 0;                       /* nested device_open */
    std::map<const char *, size_t> taken; /* device memory */
    std::map<const char *, size_t> pinned;
    std::map<const char *, size_t> elsewhere; /* of other processes; in taken too */
    std::map<const char *, int> offered;      /* to other processes: the file behind */
};

struct offer { /* what a handle says */
    int pid;
    int fd;
    uint64_t bytes;
    uint64_t inode; /* the number of a file may have been given again */
};

device &the()
{
    static device d;
    return d;
}

bool inside(const std::map<const char *, size_t> &pieces, const char *p)
{
    auto after = pieces.upper_bound(p);
    if (after == pieces.begin())
        return false;
    --after;
    return p < after->first + after->second;
}

size_t round_up(size_t bytes)
{
    return (bytes + PAGE - 1) / PAGE * PAGE;
}

void protect(device &d, int protection)
{
    for (const auto &piece : d.taken)
        mprotect(const_cast<char *>(piece.first), round_up(piece.second), protection);
}

struct stream_list {
    std::mutex lock;
    std::set<phx_emu_stream *> all;
};

stream_list &streams()
{
    static stream_list list;
    return list;
}

/* As the driver does before memory goes. Nobody else makes or ends streams meanwhile: there is one thread
 * that asks, as on a chip (kernels/backend.h). */
void wait_for_device()
{
    std::set<phx_emu_stream *> all;
    {
        const std::lock_guard<std::mutex> guard(streams().lock);
        all = streams().all;
    }
    for (phx_emu_stream *stream : all)
        phx_emu_stream_sync(stream);
}

/* Where the next piece of the heap goes; a closed page follows every piece. */
char *next_piece(device &d, size_t pages)
{
    if (!d.heap) {
        void *heap = mmap(nullptr, HEAP, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (heap == MAP_FAILED)
            return nullptr;
        d.heap = static_cast<char *>(heap);
    }
    return pages < HEAP - d.used - PAGE ? d.heap + d.used : nullptr;
}

/* Its addresses are never given out again. */
void close_piece(void *p, size_t bytes)
{
    mmap(p, round_up(bytes == 0 ? 1 : bytes), PROT_NONE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

bool is_memory_of_device(const void *p, size_t bytes)
{
    const device &d = the();
    const char *first = static_cast<const char *>(p);
    return bytes == 0 || (inside(d.taken, first) && inside(d.taken, first + bytes - 1));
}

/* The first failure of what was queued: like a real one it stays. */
std::atomic<int> &late_failure()
{
    static std::atomic<int> failure{cudaSuccess};
    return failure;
}

/* What the calling thread has been refused last, until it asks. */
cudaError_t &last_error()
{
    static thread_local cudaError_t error = cudaSuccess;
    return error;
}

cudaError_t refused(cudaError_t error)
{
    if (error != cudaSuccess && error != cudaErrorNotReady)
        last_error() = error;
    return error;
}

cudaError_t queued(bool good)
{
    return good ? cudaSuccess : refused(cudaErrorMemoryAllocation);
}

void copy_open(phx_emu_stream *, void *to, const void *from, size_t bytes)
{
    const emu::device_open open;
    memmove(to, from, bytes);
}

struct late_copy {
    phx_emu_stream *stream;
    void *to;
    const void *from;
    size_t bytes;
};

void copy_late(void *arg)
{
    const late_copy *what = static_cast<const late_copy *>(arg);
    copy_open(what->stream, what->to, what->from, what->bytes);
}

struct late_launch {
    emu::kernel_call call;
    char *user; /* a copy of the arguments */
};

void launch_late(void *arg)
{
    late_launch *what = static_cast<late_launch *>(arg);
    what->call.user = what->user;
    int none = cudaSuccess;
    const int error = emu::run(what->call);
    if (error != cudaSuccess)
        late_failure().compare_exchange_strong(none, error);
    delete[] what->user;
}

void launch_again(void *arg)
{
    late_launch *what = static_cast<late_launch *>(arg);
    what->call.user = what->user;
    int none = cudaSuccess;
    const int error = emu::run(what->call);
    if (error != cudaSuccess)
        late_failure().compare_exchange_strong(none, error);
}

void launch_dropped(void *arg)
{
    delete[] static_cast<late_launch *>(arg)->user;
}

/* The stream that the calling thread records, for calls that name none. */
cudaStream_t &recording()
{
    static thread_local cudaStream_t stream = nullptr;
    return stream;
}

cudaError_t unsupported()
{
    phx_emu_stream_spoil(recording());
    return refused(cudaErrorStreamCaptureUnsupported);
}

bool is_fixed(const void *p, size_t bytes) /* memory that a recording may name */
{
    const char *first = static_cast<const char *>(p);
    return is_memory_of_device(p, bytes) ||
           (inside(the().pinned, first) && inside(the().pinned, first + bytes - 1));
}

bool are_fixed(const void *a, const void *b, size_t bytes)
{
    const emu::device_open open;
    return is_fixed(a, bytes) && is_fixed(b, bytes);
}

} // namespace

namespace emu
{

static cudaError_t queue_on(cudaStream_t stream, const kernel_call &call)
{
    if (stream && phx_emu_stream_is_recording(stream)) {
        late_launch kept = {call, new char[call.user_bytes]};
        memcpy(kept.user, call.user, call.user_bytes);
        return queued(phx_emu_stream_keep(stream, launch_again, launch_dropped, &kept, sizeof(kept)));
    }
    if (!call.waits && (!stream || phx_emu_stream_is_idle(stream)))
        return run(call);
    if (!stream)
        return refused(cudaErrorInvalidValue); /* it would wait for ever, and nobody could end it */
    late_launch what = {call, new char[call.user_bytes]};
    memcpy(what.user, call.user, call.user_bytes);
    if (phx_emu_stream_queue(stream, launch_late, &what, sizeof(what)))
        return cudaSuccess;
    delete[] what.user;
    return refused(cudaErrorMemoryAllocation);
}

/* As PHX_LAUNCH of a chip, which asks for the last error: that of an earlier call counts too. */
cudaError_t run_on(cudaStream_t stream, const kernel_call &call)
{
    const cudaError_t error = queue_on(stream, call), earlier = cudaGetLastError();
    return error == cudaSuccess ? earlier : error;
}

void device_lock()
{
    device &d = the();
    d.lock.lock();
    if (d.n_open++ == 0)
        protect(d, PROT_READ | PROT_WRITE);
}

void device_unlock()
{
    device &d = the();
    if (--d.n_open == 0)
        protect(d, PROT_NONE);
    d.lock.unlock();
}

bool find_device_piece(const char *p, device_piece *ret)
{
    const device &d = the();
    if (d.taken.empty()) {
        *ret = {nullptr, SIZE_MAX, false};
        return true;
    }
    for (const auto *pieces : {&d.taken, &d.pinned}) {
        auto after = pieces->upper_bound(p);
        if (after == pieces->begin() || p >= std::prev(after)->first + std::prev(after)->second)
            continue;
        --after;
        *ret = {after->first, after->second, d.elsewhere.count(after->first) != 0};
        return true;
    }
    if (p < &__ehdr_start || p >= &_end)
        return false;
    *ret = {&__ehdr_start, static_cast<size_t>(&_end - &__ehdr_start), false};
    return true;
}

/* The pages stay open: n_open counts this user still. */
void device_rest(unsigned us)
{
    the().lock.unlock();
    if (us == 0)
        sched_yield();
    else
        usleep(us);
    the().lock.lock();
}

} // namespace emu

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    return refused(device == 0 ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int)
{
    snprintf(properties->name, sizeof(properties->name), "CUDA emulator");
    properties->major = 0;
    properties->minor = 0;
    properties->multiProcessorCount = 1;
    properties->l2CacheSize = 0;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = 0;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    *free_bytes = (size_t)sysconf(_SC_AVPHYS_PAGES) * page;
    *total_bytes = (size_t)sysconf(_SC_PHYS_PAGES) * page;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **ret, size_t bytes)
{
    if (recording())
        return unsupported();
    const emu::device_open open;
    device &d = the();
    const size_t pages = round_up(bytes == 0 ? 1 : bytes);
    char *p = next_piece(d, pages);
    if (!p || mprotect(p, pages, PROT_READ | PROT_WRITE) != 0)
        return refused(cudaErrorMemoryAllocation);
    d.used += pages + PAGE;
    d.taken[p] = bytes;
    *ret = p;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    if (recording())
        return unsupported();
    if (p)
        wait_for_device();
    const emu::device_open open;
    device &d = the();
    const auto piece = d.taken.find(static_cast<const char *>(p));
    if (!p || piece == d.taken.end())
        return refused(p ? cudaErrorInvalidValue : cudaSuccess);
    if (d.elsewhere.count(piece->first) != 0)
        return refused(cudaErrorInvalidValue);
    const auto offered = d.offered.find(piece->first);
    if (offered != d.offered.end()) {
        close(offered->second);
        d.offered.erase(offered);
    }
    close_piece(p, piece->second);
    d.taken.erase(piece);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **ret, size_t bytes)
{
    if (recording())
        return unsupported();
    const emu::device_open open;
    void *p = mmap(nullptr, round_up(bytes == 0 ? 1 : bytes), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return refused(cudaErrorMemoryAllocation);
    the().pinned[static_cast<char *>(p)] = bytes;
    *ret = p;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *p)
{
    if (recording())
        return unsupported();
    if (p)
        wait_for_device();
    const emu::device_open open;
    const auto piece = the().pinned.find(static_cast<const char *>(p));
    if (!p || piece == the().pinned.end())
        return refused(p ? cudaErrorInvalidValue : cudaSuccess);
    munmap(p, round_up(piece->second == 0 ? 1 : piece->second));
    the().pinned.erase(piece);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream)
{
    if (recording())
        return unsupported();
    if (stream)
        phx_emu_stream_sync(stream);
    const emu::device_open open;
    if (!is_memory_of_device(p, bytes))
        return refused(cudaErrorInvalidValue);
    memset(p, value, bytes);
    return cudaSuccess;
}

/* The kind must be true: a chip would read another memory than was meant. Memory that is neither the device's
 * nor pinned goes through a buffer of the driver, which waits for the stream. */
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    if (stream && !phx_emu_stream_is_recording(stream) && !are_fixed(to, from, bytes))
        phx_emu_stream_sync(stream);
    const emu::device_open open;
    const bool to_device = is_memory_of_device(to, bytes);
    const bool from_device = is_memory_of_device(from, bytes);
    if (bytes != 0 && kind != cudaMemcpyDefault &&
        (to_device != (kind != cudaMemcpyDeviceToHost) || from_device != (kind != cudaMemcpyHostToDevice)))
        return refused(cudaErrorInvalidValue);
    if (stream && phx_emu_stream_is_recording(stream)) {
        const late_copy kept = {stream, to, from, bytes};
        if (!is_fixed(to, bytes) || !is_fixed(from, bytes))
            return unsupported();
        return queued(phx_emu_stream_keep(stream, copy_late, nullptr, &kept, sizeof(kept)));
    }
    if (!stream || phx_emu_stream_is_idle(stream)) {
        memmove(to, from, bytes);
        return cudaSuccess;
    }
    const late_copy what = {stream, to, from, bytes};
    return queued(phx_emu_stream_queue(stream, copy_late, &what, sizeof(what)));
}

cudaError_t cudaMemset(void *p, int value, size_t bytes)
{
    return cudaMemsetAsync(p, value, bytes, nullptr);
}

/* ---- memory of other processes ---- */

cudaError_t cudaGetDevice(int *device)
{
    *device = 0;
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void)
{
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *text, int n, int)
{
    snprintf(text, (size_t)n, "emu:%d", (int)getpid());
    return cudaSuccess;
}

cudaError_t cudaDeviceGetByPCIBusId(int *device, const char *text)
{
    int pid = 0;
    if (sscanf(text, "emu:%d", &pid) != 1)
        return refused(cudaErrorInvalidDevice);
    *device = pid == (int)getpid() ? 0 : 1;
    return cudaSuccess;
}

cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer)
{
    *can = device != peer;
    return cudaSuccess;
}

/* The piece keeps its address and what is in it, but lies in a file without a name from now on. */
cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t *handle, void *p)
{
    const emu::device_open open;
    device &d = the();
    const auto piece = d.taken.find(static_cast<const char *>(p));
    if (piece == d.taken.end() || d.elsewhere.count(piece->first) != 0)
        return refused(cudaErrorInvalidValue);
    const size_t bytes = round_up(piece->second);
    struct stat st;
    if (d.offered.count(piece->first) == 0) {
        const int fd = memfd_create("phx-emu-room", MFD_CLOEXEC);
        if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0 || pwrite(fd, p, bytes, 0) != (ssize_t)bytes ||
            mmap(p, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
            if (fd >= 0)
                close(fd);
            return refused(cudaErrorMemoryAllocation);
        }
        d.offered[piece->first] = fd;
    }
    const int fd = d.offered[piece->first];
    if (fstat(fd, &st) != 0)
        return refused(cudaErrorInvalidValue);
    const offer mine = {(int)getpid(), fd, piece->second, (uint64_t)st.st_ino};
    memset(handle, 0, sizeof(*handle));
    memcpy(handle->reserved, &mine, sizeof(mine));
    return cudaSuccess;
}

/* As on a GPU, a process cannot open what it has offered itself. */
cudaError_t cudaIpcOpenMemHandle(void **ret, cudaIpcMemHandle_t handle, unsigned)
{
    const emu::device_open open;
    device &d = the();
    char path[64];
    offer from;
    struct stat st;
    memcpy(&from, handle.reserved, sizeof(from));
    if (from.pid == (int)getpid())
        return refused(cudaErrorDeviceUninitialized);
    snprintf(path, sizeof(path), "/proc/%d/fd/%d", from.pid, from.fd);
    const int fd = ::open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return refused(cudaErrorInvalidResourceHandle);
    const size_t pages = round_up(from.bytes);
    char *p = next_piece(d, pages);
    const bool good = p && fstat(fd, &st) == 0 && (uint64_t)st.st_ino == from.inode &&
                      (uint64_t)st.st_size == pages &&
                      mmap(p, pages, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED;
    close(fd);
    if (!good)
        return refused(cudaErrorInvalidResourceHandle);
    d.used += pages + PAGE;
    d.taken[p] = from.bytes;
    d.elsewhere[p] = from.bytes;
    *ret = p;
    return cudaSuccess;
}

cudaError_t cudaIpcCloseMemHandle(void *p)
{
    const emu::device_open open;
    device &d = the();
    const auto piece = d.elsewhere.find(static_cast<const char *>(p));
    if (piece == d.elsewhere.end())
        return refused(cudaErrorInvalidValue);
    close_piece(p, piece->second);
    d.taken.erase(piece->first);
    d.elsewhere.erase(piece);
    return cudaSuccess;
}

/* ---- streams and events ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *ret, unsigned)
{
    phx_emu_stream *stream = phx_emu_stream_create(copy_open);
    if (!stream)
        return refused(cudaErrorMemoryAllocation);
    const std::lock_guard<std::mutex> guard(streams().lock);
    streams().all.insert(stream);
    *ret = stream;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    {
        const std::lock_guard<std::mutex> guard(streams().lock);
        streams().all.erase(stream);
    }
    phx_emu_stream_destroy(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    if (recording())
        return unsupported();
    if (stream)
        phx_emu_stream_sync(stream);
    return refused((cudaError_t)late_failure().load());
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode)
{
    if (recording() || !stream)
        return unsupported();
    phx_emu_stream_record(stream);
    recording() = stream;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *ret)
{
    if (!stream || recording() != stream)
        return refused(cudaErrorInvalidValue);
    recording() = nullptr;
    *ret = phx_emu_stream_recorded(stream);
    return refused(*ret ? cudaSuccess : cudaErrorStreamCaptureInvalidated);
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *ret_n)
{
    if (nodes)
        return refused(cudaErrorInvalidValue);
    *ret_n = phx_emu_recording_length(graph);
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *ret, cudaGraph_t graph, unsigned long long)
{
    *ret = graph;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t)
{
    return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t)
{
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream)
{
    return queued(phx_emu_stream_replay(stream, graph));
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph)
{
    phx_emu_recording_destroy(graph);
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    return queued(phx_emu_event_follow(stream, event));
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *ret, unsigned)
{
    phx_emu_event *event = phx_emu_event_create();
    if (!event)
        return refused(cudaErrorMemoryAllocation);
    *ret = event;
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    phx_emu_event_destroy(event);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    return queued(phx_emu_event_record(event, stream));
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    if (recording())
        return unsupported();
    const int failure = late_failure().load();
    if (failure != cudaSuccess)
        return refused((cudaError_t)failure);
    return phx_emu_event_is_done(event) ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaGetLastError(void)
{
    const cudaError_t error = last_error();
    last_error() = cudaSuccess;
    return error;
}

const char *cudaGetErrorString(cudaError_t error)
{
    if (error == cudaErrorStreamCaptureUnsupported)
        return "operation not permitted when stream is capturing";
    if (error == cudaErrorStreamCaptureInvalidated)
        return "operation failed due to a previous error during capture";
    switch (error) {
    case cudaSuccess:
        return "no error";
    case cudaErrorInvalidValue:
        return "invalid argument";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorInvalidConfiguration:
        return "invalid configuration argument";
    case cudaErrorInvalidDevice:
        return "invalid device ordinal";
    case cudaErrorDeviceUninitialized:
        return "invalid device context";
    case cudaErrorInvalidResourceHandle:
        return "invalid resource handle";
    case cudaErrorNotReady:
        return "not ready";
    case cudaErrorLaunchFailure:
        return phx_emu_fault();
    }
    return "unknown error";
}
