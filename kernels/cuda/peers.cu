/* kernels/cuda/peers.cu - ranks whose devices reach each other's memory add their partial sums without a
 * library (kernels/device.h, phx_device_peers). Owns: rooms, what lies in them, the kernel of an exchange.
 * Not here: who meets whom, and when this way is taken (worker/comm/nccl_peers.c).
 *
 * A room is a rank's memory that all ranks of its stage have open: a head with flags, and two slots. Ranks
 * write flags into the rooms of others and numbers into their own only. A flag holds the number of the
 * exchange for which its writer's block has done a phase; numbers count up for ever and live in the room, so
 * a launch has nothing to reset and is the same every time. Block n of a rank waits for blocks n of others
 * alone, hence all ranks launch the same grid, of few enough blocks to run together.
 *
 * Why two slots: who writes its slot for exchange k + 2 has seen, in k + 1, a flag of every other rank, which
 * that rank raised after it had finished k, its reading of this slot included. */
extern "C" {
#include "kernels/device.h"
}

#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/queue.cuh"

/* A kernel's argument that is indexed where it lies, not copied to each thread's local memory first. */
#if defined(PHX_EMU)
#define ARGUMENT const
#else
#define ARGUMENT const __grid_constant__
#endif

#define RANKS_MAX  8
#define BLOCKS_MAX 32
#define THREADS    256
#define N_LOOKS    256 /* at a flag, between two at the alarm, which lies in host memory */

enum phase { PHASE_PARTS, PHASE_SUMS, PHASE_LEAVING, PHASE_COUNT };

typedef struct head {
    uint64_t flags[PHASE_COUNT][BLOCKS_MAX][RANKS_MAX]; /* the last index writes */
    uint64_t number;       /* of the last exchange that is done; of this rank, as what follows */
    int32_t n_blocks_done; /* of the running one */
} head;
static_assert(sizeof(head) <= PHX_DEVICE_ROOM_HEAD_BYTES, "the slots begin after the head");

typedef struct exchange {
    float *values;
    int64_t n;
    char *rooms[RANKS_MAX];
    int64_t slot_bytes;
    const uint32_t *alarm;
    int n_ranks;
    int rank;
} exchange;

typedef struct alignas(16) quad {
    float value[4];
} quad;

static phx_code code_of(cudaError_t error, const char *what, phx_error *err)
{
    if (phx_told(error) == cudaSuccess)
        return PHX_OK;
    return PHX_FAIL(err, error == cudaErrorMemoryAllocation ? PHX_ERR_NOMEM : PHX_ERR_DEVICE,
                    "device: %s: %s", what, cudaGetErrorString(error));
}

/* ---- flags ---- */

PHX_DEVICE head *head_of(const exchange &x, int rank)
{
    return (head *)(void *)x.rooms[rank];
}

PHX_DEVICE quad *slot_of(const exchange &x, int rank, uint64_t number)
{
    const int64_t slot = PHX_PLANT(52) ? 0 : (int64_t)(number % 2);
    return (quad *)(void *)(x.rooms[rank] + PHX_DEVICE_ROOM_HEAD_BYTES + slot * x.slot_bytes);
}

/* All that the block has written is there for the others. */
PHX_DEVICE void publish(const exchange &x, phase what, uint64_t number)
{
    const int to = (int)threadIdx.x;
    if (!PHX_PLANT(51))
        __syncthreads();
    if (to < x.n_ranks && to != x.rank)
        phx_store_release(&head_of(x, to)->flags[what][blockIdx.x][x.rank], number);
}

PHX_DEVICE bool has_come(const exchange &x, const uint64_t *flag, uint64_t number)
{
    for (uint32_t n_looks = 0; phx_load_acquire(flag) < number; n_looks++) {
        if (n_looks % N_LOOKS == N_LOOKS - 1 && phx_load_host(x.alarm) != 0)
            return false;
        phx_pause();
    }
    return true;
}

/* Until blocks of this number of all other ranks have published; false when the alarm ends it. The first warp
 * looks, a rank each lane. */
PHX_DEVICE bool await(const exchange &x, phase what, uint64_t number)
{
    PHX_SHARED(int32_t, all_here, 1);
    const int from = (int)threadIdx.x;
    if (from < PHX_WARP) {
        bool is_here = true;
        if (from < x.n_ranks && from != x.rank)
            is_here = has_come(x, &head_of(x, x.rank)->flags[what][blockIdx.x][from], number);
        const bool all = phx_ballot(is_here) == PHX_ALL_LANES;
        if (from == 0)
            all_here[0] = all ? 1 : 0;
    }
    __syncthreads();
    const bool all = all_here[0] != 0;
    __syncthreads(); /* before the next wait writes it */
    return all;
}

/* The last block of the launch counts it as done. */
PHX_DEVICE void finish(const exchange &x, uint64_t number)
{
    head *own = head_of(x, x.rank);
    __syncthreads(); /* all have read the number */
    if (threadIdx.x != 0 || phx_atomic_count(&own->n_blocks_done) != (int32_t)gridDim.x - 1)
        return;
    own->n_blocks_done = 0;
    own->number = number;
}

/* ---- values, four at a time ---- */

PHX_DEVICE bool is_whole(const exchange &x, int64_t i)
{
    return 4 * i + 4 <= x.n && (uintptr_t)x.values % sizeof(quad) == 0;
}

PHX_DEVICE quad load_values(const exchange &x, int64_t i)
{
    quad q = {{0.0f, 0.0f, 0.0f, 0.0f}};
    if (is_whole(x, i))
        return ((const quad *)(const void *)x.values)[i];
    for (int64_t k = 0; k < 4 && 4 * i + k < x.n; k++)
        q.value[k] = x.values[4 * i + k];
    return q;
}

PHX_DEVICE void store_values(const exchange &x, int64_t i, quad q)
{
    if (is_whole(x, i)) {
        ((quad *)(void *)x.values)[i] = q;
        return;
    }
    for (int64_t k = 0; k < 4 && 4 * i + k < x.n; k++)
        x.values[4 * i + k] = q.value[k];
}

/* The tree over ranks: neighbours, then neighbours of sums. */
template <int N_RANKS> PHX_DEVICE quad add_ranks(const exchange &x, int64_t i, uint64_t number)
{
    quad part[N_RANKS];
    PHX_UNROLL
    for (int r = 0; r < N_RANKS; r++)
        part[r] = slot_of(x, r, number)[i];
    PHX_UNROLL
    for (int step = 1; step < N_RANKS; step *= 2) {
        PHX_UNROLL
        for (int r = 0; r + step < N_RANKS; r += 2 * step) {
            PHX_UNROLL
            for (int k = 0; k < 4; k++)
                part[r].value[k] += part[r + step].value[k];
        }
    }
    return part[0];
}

/* ---- the exchange ---- */

typedef struct span {
    int64_t first;
    int64_t last; /* not in it */
} span;

PHX_DEVICE span cut(span whole, int64_t i, int64_t n)
{
    const int64_t length = whole.last - whole.first;
    return {whole.first + length * i / n, whole.first + length * (i + 1) / n};
}

/* What this block moves of what a rank adds. */
PHX_DEVICE span share_of(const exchange &x, int rank)
{
    const span all = {0, (x.n + 3) / 4};
    return cut(cut(all, rank, x.n_ranks), blockIdx.x, gridDim.x);
}

/* Everyone adds everything. */
template <int N_RANKS> static __global__ void one_shot(ARGUMENT exchange x)
{
    const uint64_t number = head_of(x, x.rank)->number + 1;
    const span mine = cut({0, (x.n + 3) / 4}, blockIdx.x, gridDim.x);
    quad *own = slot_of(x, x.rank, number);
    for (int64_t i = mine.first + threadIdx.x; i < mine.last; i += THREADS)
        own[i] = load_values(x, i);
    publish(x, PHASE_PARTS, number);
    if (!PHX_PLANT(50) && !await(x, PHASE_PARTS, number))
        return;
    for (int64_t i = mine.first + threadIdx.x; i < mine.last; i += THREADS)
        store_values(x, i, add_ranks<N_RANKS>(x, i, number));
    finish(x, number);
}

/* Each rank adds its share; the sums go where its own part of that share was, which nobody else reads. */
template <int N_RANKS> static __global__ void two_shots(ARGUMENT exchange x)
{
    const uint64_t number = head_of(x, x.rank)->number + 1;
    quad *own = slot_of(x, x.rank, number);
    for (int r = 0; r < N_RANKS; r++) {
        const span share = share_of(x, r);
        for (int64_t i = share.first + threadIdx.x; i < share.last; i += THREADS)
            own[i] = load_values(x, i);
    }
    publish(x, PHASE_PARTS, number);
    if (!await(x, PHASE_PARTS, number))
        return;
    const span mine = share_of(x, x.rank);
    for (int64_t i = mine.first + threadIdx.x; i < mine.last; i += THREADS) {
        own[i] = add_ranks<N_RANKS>(x, i, number);
        store_values(x, i, own[i]);
    }
    publish(x, PHASE_SUMS, number);
    if (!PHX_PLANT(53) && !await(x, PHASE_SUMS, number))
        return;
    for (int step = 1; step < N_RANKS; step++) { /* not all from the same rank at once */
        const int r = (x.rank + step) % N_RANKS;
        const span share = share_of(x, r);
        for (int64_t i = share.first + threadIdx.x; i < share.last; i += THREADS)
            store_values(x, i, slot_of(x, r, number)[i]);
    }
    finish(x, number);
}

/* Nobody touches the room of another after this. */
static __global__ void leave(ARGUMENT exchange x)
{
    const uint64_t number = head_of(x, x.rank)->number + 1;
    publish(x, PHASE_LEAVING, number);
    if (await(x, PHASE_LEAVING, number))
        finish(x, number);
}

template <int N_RANKS>
static cudaError_t launch(cudaStream_t stream, const exchange &x, unsigned grid, bool in_two_shots)
{
    if (in_two_shots)
        return PHX_LAUNCH_WAITING(two_shots<N_RANKS>, grid, THREADS, 0, stream, x);
    return PHX_LAUNCH_WAITING(one_shot<N_RANKS>, grid, THREADS, 0, stream, x);
}

static phx_code queue_exchange(void *user, void *stream, const phx_device_exchange *what, phx_error *err)
{
    (void)user;
    cudaError_t error = cudaErrorInvalidValue;
    exchange x = {};
    if (what->n * sizeof(float) > what->slot_bytes || what->slot_bytes % sizeof(quad) != 0)
        return PHX_FAIL(err, PHX_ERR_INVALID, "exchange of %zu values in slots of %zu bytes", what->n,
                        what->slot_bytes);
    x.values = what->values;
    x.n = (int64_t)what->n;
    x.slot_bytes = (int64_t)what->slot_bytes;
    x.alarm = what->alarm;
    x.n_ranks = (int)what->n_ranks;
    x.rank = (int)what->rank;
    for (uint32_t r = 0; r < what->n_ranks && r < RANKS_MAX; r++)
        x.rooms[r] = (char *)what->rooms[r];
    const int64_t quads = (x.n + 3) / 4, n_each = what->in_two_shots ? what->n_ranks : 1;
    const unsigned wanted = phx_grid(quads, THREADS * n_each);
    const unsigned grid = wanted > BLOCKS_MAX ? BLOCKS_MAX : wanted;
    if (what->n == 0)
        error = PHX_LAUNCH_WAITING(leave, 1, THREADS, 0, (cudaStream_t)stream, x);
    else if (what->n_ranks == 2)
        error = launch<2>((cudaStream_t)stream, x, grid, what->in_two_shots);
    else if (what->n_ranks == 4)
        error = launch<4>((cudaStream_t)stream, x, grid, what->in_two_shots);
    else if (what->n_ranks == 8)
        error = launch<8>((cudaStream_t)stream, x, grid, what->in_two_shots);
    return code_of(error, "exchange between devices", err);
}

/* ---- rooms ---- */

static phx_code offer(void *user, size_t n_bytes, void **ret_room, phx_device_offer *ret_offer,
                      phx_error *err)
{
    cudaIpcMemHandle_t handle;
    phx_device_offer mine = {};
    void *room = NULL;
    int ordinal = 0;
    (void)user;
    static_assert(sizeof(handle) <= sizeof(mine.handle), "an offer holds the handle");
    cudaError_t error = cudaMalloc(&room, n_bytes);
    if (error == cudaSuccess)
        error = cudaMemset(room, 0, n_bytes);
    if (error == cudaSuccess)
        error = cudaDeviceSynchronize(); /* the flags of others may come at once */
    if (error == cudaSuccess)
        error = cudaIpcGetMemHandle(&handle, room);
    if (error == cudaSuccess)
        error = cudaGetDevice(&ordinal);
    if (error == cudaSuccess)
        error = cudaDeviceGetPCIBusId(mine.where, (int)sizeof(mine.where), ordinal);
    if (error != cudaSuccess) {
        (void)cudaFree(room);
        return code_of(error, "memory for other processes", err);
    }
    memcpy(mine.handle, &handle, sizeof(handle));
    *ret_offer = mine;
    *ret_room = room;
    return PHX_OK;
}

static phx_code open_room(void *user, const phx_device_offer *from, void **ret_room, phx_error *err)
{
    cudaIpcMemHandle_t handle;
    void *room = NULL;
    int own = 0, other = 0, reaches = 0;
    (void)user;
    cudaError_t error = cudaGetDevice(&own);
    if (error == cudaSuccess)
        error = cudaDeviceGetByPCIBusId(&other, from->where);
    if (phx_told(error) != cudaSuccess)
        return PHX_FAIL(err, PHX_ERR_UNAVAILABLE,
                        "GPU %.31s is not visible here: %s; see "
                        "CUDA_VISIBLE_DEVICES",
                        from->where, cudaGetErrorString(error));
    if (other != own)
        error = cudaDeviceCanAccessPeer(&reaches, own, other);
    if (error == cudaSuccess && other != own && !reaches)
        return PHX_FAIL(err, PHX_ERR_UNAVAILABLE, "no peer access to GPU %.31s", from->where);
    memcpy(&handle, from->handle, sizeof(handle));
    if (error == cudaSuccess)
        error = cudaIpcOpenMemHandle(&room, handle, cudaIpcMemLazyEnablePeerAccess);
    if (phx_told(error) != cudaSuccess)
        return PHX_FAIL(err, PHX_ERR_UNAVAILABLE, "memory of GPU %.31s cannot be opened: %s", from->where,
                        cudaGetErrorString(error));
    *ret_room = room;
    return PHX_OK;
}

static void close_room(void *user, void *room)
{
    (void)user;
    if (room)
        (void)cudaIpcCloseMemHandle(room);
}

static phx_code alarm_create(void *user, uint32_t **ret_alarm, phx_error *err)
{
    void *word = NULL;
    (void)user;
    const cudaError_t error = cudaMallocHost(&word, sizeof(uint32_t));
    if (error == cudaSuccess)
        memset(word, 0, sizeof(uint32_t));
    if (error == cudaSuccess)
        *ret_alarm = (uint32_t *)word;
    return code_of(error, "a word of host memory", err);
}

static void alarm_destroy(void *user, uint32_t *alarm)
{
    (void)user;
    if (alarm)
        (void)cudaFreeHost(alarm);
}

extern "C" const phx_device_peers phx_peers_cuda = {offer,        open_room,     close_room,
                                                    alarm_create, alarm_destroy, queue_exchange};
