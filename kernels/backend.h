/* kernels/backend.h - what computes: the CPU, or a device behind a plugin (DESIGN 4, 11).
 * Owns: the interface that worker/exec, worker/weights.c and worker/kv see: memory, copies, order, ops.
 * Backends: the CPU (backend_cpu.c), and plugins that backend_plugin.c opens: libphalanx_cuda.so
 * (kernels/cuda/device.cu) and libphalanx_emu.so, the same sources on the emulator. Not here: what is
 * computed.
 *
 * Rules. Everything that an op reads or writes through its arguments is device memory, pointers inside arrays
 * included; the structs that kernels/cuda/launch.cuh names are host memory. Verbs of worker/comm move device
 * memory. Uploads, ops and copies run in the order they were asked for and may still be running when the call
 * returns; download and sync wait for all of it and return the first failure. They cannot be told to stop
 * waiting, so whoever queues verbs that only queue waits with phx_comm_wait before. On the CPU device memory
 * is host memory and nothing is ever pending, so a copy from a place to itself is nothing at all: callers
 * keep one pointer for the host and one for the device, which are equal there. One thread asks, but for
 * upload and sync, which loading threads call too. */
#ifndef PHX_KERNELS_BACKEND_H
#define PHX_KERNELS_BACKEND_H

#include "base/arena.h"
#include "kernels/device.h"
#include "kernels/ops.h"

typedef struct phx_backend phx_backend;

/* Queued work that can be queued again as one: ops, copies and verbs between record and recorded, which then
 * do not run. It keeps arguments and addresses; memory is read when it is replayed. */
typedef struct phx_graph phx_graph;

/* Products whose rows may be rounded, and how they shall be computed. */
typedef struct phx_product_choice {
    const phx_product_args *examples; /* [n] rounded, with real memory, which is overwritten: any that a step
                                         may ask for, n_rows as many as it ever has */
    size_t n;
    bool warm; /* each runs once for every number of rows that makes a difference */
    /* [n] from so many rows on the device's library computes it, 0: never; may be NULL */
    int64_t *rows_least;
    phx_buf *text; /* one line without its end is appended, nothing where the device has no such library */
} phx_product_choice;

typedef struct phx_backend_fns {
    phx_code (*upload)(phx_backend *backend, void *to, const void *from, size_t n_bytes, phx_error *err);
    phx_code (*fetch)(phx_backend *backend, void *to, const void *from, size_t n_bytes, phx_error *err);
    phx_code (*sync)(phx_backend *backend, phx_error *err);
    void (*destroy)(phx_backend *backend);
    /* Graphs; all NULL where nothing can be recorded. While recording nothing may wait, take memory, or copy
     * from or to host memory that is not pinned. recorded always ends it, and says of how many launches and
     * copies the graph is. The graph goes before what it names. */
    phx_code (*record)(phx_backend *backend, phx_error *err);
    phx_code (*recorded)(phx_backend *backend, phx_graph **ret_graph, size_t *ret_n_nodes, phx_error *err);
    phx_code (*replay)(phx_backend *backend, phx_graph *graph, phx_error *err);
    void (*graph_destroy)(phx_backend *backend, phx_graph *graph); /* accepts NULL */
    uint64_t (*free_bytes)(phx_backend *backend);                  /* of device memory, now */
    /* Settles, before the first step, which of those shapes go through the device's library and with which of
     * its algorithms; all others, and these without a choice, are computed by our own kernels, and so is from
     * then on a shape that the library refuses in a step all the same (remark). NULL: no device of this kind
     * has such a library. */
    phx_code (*choose_products)(phx_backend *backend, const phx_product_choice *choice, phx_error *err);
} phx_backend_fns;

/* Loops at the limits of a device, the denominators of `bench kernels`; they queue as ops do. The CPU has
 * kernels/cpu/peak.h. */
typedef struct phx_device_peaks {
    void (*read)(phx_pool *queue, const void *data, size_t n_bytes, uint32_t *sink); /* n_bytes: 16 k */
    void (*multiply)(phx_pool *queue, int64_t n_rounds, float *sink); /* the mma of all products, bf16 */
    double ops_per_round;                                             /* of multiply, on the whole device */
    double stated_bytes_per_s; /* of memory, by its clock and width; 0: not known */
    uint64_t cache_bytes;      /* second level */
} phx_device_peaks;

struct phx_backend { /* first member of every backend's own struct */
    const phx_backend_fns *fns;
    const char *name;         /* "cpu", "cuda", "emu" */
    phx_pool *queue;          /* first argument of every op: the threads on the CPU, the device otherwise */
    phx_ops ops;              /* queue work; their failures are returned by the next download or sync */
    const phx_memory *device; /* memory that ops work on; NULL on the CPU: any memory does */
    const phx_memory *pinned; /* host memory that copies fast; NULL on the CPU: any memory does */
    void *stream;             /* the cudaStream_t that everything runs in; NULL on the CPU */
    const phx_device *order;  /* streams and events, for worker/comm; NULL on the CPU */
    const phx_device_peaks *peaks; /* NULL on the CPU */
    char level[16];                /* for the numerics profile: "avx2", "sm90", "emu" */
    char description[96];          /* "NVIDIA H100 80GB HBM3, sm90, driver 580" */
    /* the first time that an op was not done as choose_products had settled: one line; "": never */
    char remark[200];
    uint64_t free_bytes; /* of device memory at opening, less the reserves; 0 on the CPU: ask the host */
};

/* To device memory. `from` may not change before the next sync or download. */
static inline phx_code phx_upload(phx_backend *backend, void *to, const void *from, size_t n_bytes,
                                  phx_error *err)
{
    return to == from || n_bytes == 0 ? PHX_OK : backend->fns->upload(backend, to, from, n_bytes, err);
}

/* From device memory; `to` may be read after the next sync or download. Pinned memory only: a copy to other
 * memory would wait. */
static inline phx_code phx_fetch(phx_backend *backend, void *to, const void *from, size_t n_bytes,
                                 phx_error *err)
{
    return to == from || n_bytes == 0 ? PHX_OK : backend->fns->fetch(backend, to, from, n_bytes, err);
}

static inline phx_code phx_sync(phx_backend *backend, phx_error *err)
{
    return backend->fns->sync(backend, err);
}

/* From device memory, when all that was asked for before is done. Equal places still say what failed. */
static inline phx_code phx_download(phx_backend *backend, void *to, const void *from, size_t n_bytes,
                                    phx_error *err)
{
    const phx_code rc = phx_fetch(backend, to, from, n_bytes, err);
    return rc == PHX_OK ? phx_sync(backend, err) : rc;
}

void phx_backend_destroy(phx_backend *backend); /* accepts NULL */

/* Device memory for things outside of the arenas, zeroed. Give back with the same size; NULL is accepted. */
phx_code phx_device_take(phx_backend *backend, size_t n_bytes, void **ret_memory, phx_error *err);
void phx_device_give(phx_backend *backend, void *memory, size_t n_bytes);

/* The CPU: ops of the highest allowed level on the threads of pool, which stays borrowed. */
phx_code phx_backend_cpu_create(phx_pool *pool, phx_level level, phx_backend **ret_backend, phx_error *err);

/* ---- plugins ---- */

typedef struct phx_device_request {
    const char *name;    /* "cuda" or "emu" */
    const char *dir;     /* where plugins lie; NULL: beside this program */
    uint32_t host_rank;  /* among the ranks of this host: takes the GPU of that number */
    bool allow_unproven; /* also kernels that never ran on a chip of this architecture */
} phx_device_request;

/* Opens libphalanx_<name>.so and its device.
 * PHX_ERR_UNAVAILABLE: no driver, no device, no plugin, or an architecture that is not proven; the text is
 * one line with the reason and the remedy. */
phx_code phx_backend_open(const phx_device_request *request, phx_backend **ret_backend, phx_error *err);

/* What a plugin exports, under the name PHX_PLUGIN_SYMBOL: one function of this type. */
#define PHX_PLUGIN_ABI    5u
#define PHX_PLUGIN_SYMBOL "phx_plugin_get"
typedef struct phx_plugin {
    uint32_t abi;
    uint32_t backend_bytes; /* sizeof(phx_backend): both sides have the same ops */
    phx_code (*open)(const phx_device_request *request, phx_backend **ret_backend, phx_error *err);
} phx_plugin;
typedef const phx_plugin *phx_plugin_fn(void);

#endif
