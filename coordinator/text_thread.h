/* coordinator/text_thread.h - one thread beside the loop, for work on texts that would hold it for long.
 * Owns: the thread, the queue before it and the way back to the loop. Jobs run one at a time, in the order of
 * their coming. Not here: what a job does (api/work.h). All functions are for the loop's thread. */
#ifndef PHX_COORDINATOR_TEXT_THREAD_H
#define PHX_COORDINATOR_TEXT_THREAD_H

#include <stdatomic.h>
#include <stddef.h>

#include "base/limits.h"
#include "coordinator/loop.h"

typedef struct phx_text_thread phx_text_thread;

/* Memory of whoever submits it; between submit and done it belongs to the thread. */
typedef struct phx_text_job phx_text_job;
struct phx_text_job {
    void (*run)(phx_text_job *job);  /* on the thread: touches the job and what never changes */
    void (*done)(phx_text_job *job); /* on the loop, once: the job may be freed */
    size_t n_bytes;                  /* kept alive by it, for the bound */
    const atomic_bool *stop;         /* from submit on; true: run is to end soon */
    phx_text_job *next;              /* the thread's own */
};

phx_code phx_text_thread_create(phx_loop *loop, phx_text_thread **ret_thread, phx_error *err);

/* Sets stop and waits for the job that runs. done is called for every job that is left, also if it never ran.
 * Accepts NULL; before phx_loop_destroy. */
void phx_text_thread_destroy(phx_text_thread *thread);

/* Sets stop for all jobs, which still run and are told: nobody needs what they make any more. */
void phx_text_thread_hurry(phx_text_thread *thread);

/* PHX_ERR_BUSY: the jobs that are not done would keep more than PHX_TEXT_WAITING_BYTES_MAX together; the job
 * stays the caller's. */
phx_code phx_text_thread_submit(phx_text_thread *thread, phx_text_job *job, phx_error *err);

/* Takes a job back that has not begun: true, and nothing of it is called any more. */
bool phx_text_thread_cancel(phx_text_thread *thread, phx_text_job *job);

#endif
