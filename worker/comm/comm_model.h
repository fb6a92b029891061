/* worker/comm/comm_model.h - a communicator without peers: each verb of tensor parallelism waits as long as
 * a model says that it would take. For measuring one rank of many (`phalanx bench rank`), never for serving:
 * an exchange leaves the rank's own partial sums, a gather repeats the rank's own share.
 * Owns: the model and its default. Not here: moving bytes. */
#ifndef PHX_WORKER_COMM_MODEL_H
#define PHX_WORKER_COMM_MODEL_H

#include "worker/comm/comm.h"

/* A verb takes latency_us + payload bytes / bytes_per_s; the payload is the f32 numbers of an exchange, or
 * what all ranks bring to a gather. */
typedef struct phx_comm_delay {
    double latency_us;
    double bytes_per_s;
} phx_comm_delay;

/* NVLink of eight GPUs. Fitted to the 4 us of one row of 7168 numbers and the 45 us of 256 rows that the
 * decode floor reckons with (reference/performance.md 3.3); between them it is up to a third lower. */
#define PHX_COMM_DELAY_DEFAULT ((phx_comm_delay){3.9, 180e9})

double phx_comm_delay_us(const phx_comm_delay *delay, size_t n_bytes);

typedef struct phx_comm_model_options {
    phx_comm_delay delay;
    phx_backend *backend; /* waits in the stream of its device, or by the clock on the CPU */
} phx_comm_model_options;

/* One stage only (pp 1). On the emulator nothing waits: its times mean nothing. */
phx_code phx_comm_model_create(const phx_comm_shape *shape, const phx_comm_model_options *options,
                               phx_comm **ret_comm, phx_error *err);

/* Verbs so far, and what they were modelled to take. */
void phx_comm_model_count(const phx_comm *comm, uint64_t *ret_n_verbs, double *ret_us);

#endif
