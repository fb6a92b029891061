/* tests/worker/ranks.h - a group of ranks as threads of one process over the loop backend.
 * Drives the same phx_exec_step as a worker process; collects captured tensors by name. */
#ifndef PHX_TESTS_WORKER_RANKS_H
#define PHX_TESTS_WORKER_RANKS_H

#include "base/buf.h"
#include "base/hash.h"
#include "kernels/ops.h"
#include "model/plan.h"
#include "proto/step_plan.h"

typedef struct ranks ranks;

typedef struct ranks_setup {
    const char *model_dir;
    uint32_t tp;
    const char *pp;       /* as --pp: "2" or "2:0,1" */
    const char *numerics; /* words, e.g. "profile=oracle level=avx2" */
    uint32_t n_threads;
    uint32_t n_context;
    uint32_t n_step_tokens;
    uint32_t n_batch;
    uint32_t n_drafts;                /* of a step and slot; 0: no MTP layer */
    uint64_t memory_bytes;            /* of each rank; 0: 4 GiB */
    void (*change_ops)(phx_ops *ops); /* after the choice by level; may be NULL */
    bool graphs;                      /* record decode steps, where the level can */
    bool warm;                        /* after a walk of each */
} ranks_setup;

phx_code ranks_start(const ranks_setup *setup, ranks **ret_ranks, phx_error *err);
void ranks_stop(ranks *group);

/* Runs one step on every rank and copies the last stage's results. */
phx_code ranks_step(ranks *group, const phx_step_plan *plan, phx_row_result *results, uint32_t *ret_n,
                    phx_error *err);

/* Self-check of the whole group. */
phx_code ranks_self_check(ranks *group, phx_error *err);

/* A captured tensor [n_rows][n_cols] of 4-byte numbers, or NULL. Valid until the next ranks_clear. */
const void *ranks_tensor(ranks *group, const char *name, uint32_t *ret_n_rows, uint32_t *ret_n_cols);
void ranks_clear(ranks *group);
const phx_plan *ranks_plan(const ranks *group);

/* Of one rank: steps that were replayed, what its log would say of recordings, the bits of the caches of a
 * layer that counts from 0 in its stage. */
uint64_t ranks_n_replays(const ranks *group, uint32_t rank);
void ranks_describe_graphs(const ranks *group, uint32_t rank, phx_buf *buf);
phx_hash ranks_cache_hash(ranks *group, uint32_t rank, int64_t layer);

#endif
