/* worker/comm/nccl_api.h - the part of NCCL's C interface that we use, and the door to the library.
 * Owns: its types, told here anew, and the table of its functions, filled by dlopen. nccl.h itself is not
 * needed to build: so the backend exists, and is tested on the stand-in, on every machine, and one
 * installation serves those with NCCL and those without. These types have not changed since 2.14 and are part
 * of NCCL's binary interface; tests/comm/test_nccl_abi.c compares them with nccl.h where it is installed. */
#ifndef PHX_WORKER_COMM_NCCL_API_H
#define PHX_WORKER_COMM_NCCL_API_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

#define PHX_NCCL_ID_BYTES      128
#define PHX_NCCL_VERSION_LEAST 21400 /* communicators that do not block */
#define PHX_NCCL_CONFIG_MAGIC  0xcafebeefu

typedef struct phx_nccl_id { /* ncclUniqueId */
    char bytes[PHX_NCCL_ID_BYTES];
} phx_nccl_id;

/* ncclConfig_t as of 2.14. Later versions are longer; NCCL reads `bytes` of it and takes its own defaults for
 * what came after `version`. */
typedef struct phx_nccl_config {
    size_t bytes;
    unsigned int magic;
    unsigned int version;
    int blocking;
} phx_nccl_config;

typedef enum phx_nccl_result {
    PHX_NCCL_SUCCESS = 0,
    PHX_NCCL_UNHANDLED_CUDA_ERROR = 1,
    PHX_NCCL_SYSTEM_ERROR = 2,
    PHX_NCCL_INTERNAL_ERROR = 3,
    PHX_NCCL_INVALID_ARGUMENT = 4,
    PHX_NCCL_INVALID_USAGE = 5,
    PHX_NCCL_REMOTE_ERROR = 6,
    PHX_NCCL_IN_PROGRESS = 7
} phx_nccl_result;

typedef enum phx_nccl_type { PHX_NCCL_UINT8 = 1, PHX_NCCL_FLOAT32 = 7 } phx_nccl_type;
typedef enum phx_nccl_op { PHX_NCCL_SUM = 0 } phx_nccl_op;

typedef struct ncclComm *phx_nccl_comm; /* NCCL's own tag */
typedef void *phx_nccl_stream;          /* cudaStream_t */

/* X(field, name, arguments): results are phx_nccl_result unless the table says otherwise. */
#define PHX_NCCL_FUNCTIONS(X)                                                                        \
    X(get_version, ncclGetVersion, (int *version))                                                   \
    X(get_unique_id, ncclGetUniqueId, (phx_nccl_id * id))                                            \
    X(comm_init, ncclCommInitRankConfig,                                                             \
      (phx_nccl_comm * comm, int n_ranks, phx_nccl_id id, int rank, phx_nccl_config *config))        \
    X(comm_async_error, ncclCommGetAsyncError, (phx_nccl_comm comm, phx_nccl_result * result))       \
    X(comm_finalize, ncclCommFinalize, (phx_nccl_comm comm))                                         \
    X(comm_destroy, ncclCommDestroy, (phx_nccl_comm comm))                                           \
    X(comm_abort, ncclCommAbort, (phx_nccl_comm comm))                                               \
    X(group_start, ncclGroupStart, (void))                                                           \
    X(group_end, ncclGroupEnd, (void))                                                               \
    X(all_gather, ncclAllGather,                                                                     \
      (const void *from, void *to, size_t n, phx_nccl_type type, phx_nccl_comm comm,                 \
       phx_nccl_stream stream))                                                                      \
    X(all_reduce, ncclAllReduce,                                                                     \
      (const void *from, void *to, size_t n, phx_nccl_type type, phx_nccl_op op, phx_nccl_comm comm, \
       phx_nccl_stream stream))                                                                      \
    X(send, ncclSend,                                                                                \
      (const void *from, size_t n, phx_nccl_type type, int peer, phx_nccl_comm comm,                 \
       phx_nccl_stream stream))                                                                      \
    X(recv, ncclRecv,                                                                                \
      (void *to, size_t n, phx_nccl_type type, int peer, phx_nccl_comm comm, phx_nccl_stream stream))

typedef struct phx_nccl_api {
#define X(field, name, arguments) phx_nccl_result(*field) arguments;
    PHX_NCCL_FUNCTIONS(X)
#undef X
    const char *(*error_string)(phx_nccl_result result); /* ncclGetErrorString */
    const char *(*last_error)(phx_nccl_comm comm);       /* ncclGetLastError */
    int version;                                         /* 22809: 2.28.9 */
} phx_nccl_api;

/* library: a file or name for dlopen; NULL: libnccl.so.2. PHX_ERR_UNAVAILABLE with what is missing and the
 * remedy. The library stays open until the process ends, because NCCL keeps threads of its own. */
phx_code phx_nccl_open(const char *library, phx_nccl_api *ret_api, phx_error *err);

#endif
