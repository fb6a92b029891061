/* coordinator/fleet/fleet.h - the rank group: starting it, agreeing on the plan, watching it, ending it.
 * Owns: the epoch, the rank link, the state of every rank, the final plan. Fail-stop: the first failure of
 * any rank ends the group (DESIGN 9). Not here: processes (launch.h), what runs (sched/). Runs on the loop's
 * thread. */
#ifndef PHX_COORDINATOR_FLEET_FLEET_H
#define PHX_COORDINATOR_FLEET_FLEET_H

#include "coordinator/fleet/run_dir.h"
#include "coordinator/loop.h"
#include "model/plan.h"
#include "proto/codec.h"

typedef struct phx_fleet phx_fleet;

typedef struct phx_fleet_sink {
    void (*ready)(void *user, const phx_plan *plan); /* all ranks loaded and checked */
    void (*result)(void *user, const phx_step_result *result);
    void (*capture)(void *user, uint32_t rank, const Phalanx__CapturePart *part);
    void (*lost)(void *user, const phx_error *cause); /* once; the group is being ended */
    void (*ended)(void *user);                        /* no process of the group is left */
    void *user;
} phx_fleet_sink;

typedef struct phx_fleet_options {
    phx_loop *loop;
    const phx_run_dir *run_dir;
    const phx_checkpoint *checkpoint;
    phx_plan_request
        request; /* level: the highest allowed, or empty; zeros are filled from what ranks report */
    const char *worker_path;
    const char *backend;         /* "auto", "cpu", "cuda", "emu" */
    bool no_graphs;              /* decode steps are queued anew, not replayed */
    bool allow_unproven;         /* kernels on architectures where they have never run */
    const char *launch_template; /* NULL: the built-in ones */
    const char *hosts;           /* NULL: this host */
    const char *address;         /* of the rank link: NULL picks a Unix socket, or tcp with hosts */
    const char *key_file;        /* written for tcp links; NULL: inside the run folder */
    bool no_launch;              /* wait for ranks that somebody else starts */
    bool self_check;
    uint64_t epoch;           /* of this group: from 1, one more at each relaunch */
    uint32_t step_timeout_ms; /* a step that takes longer has hung */
} phx_fleet_options;

phx_code phx_fleet_create(const phx_fleet_options *options, const phx_fleet_sink *sink, phx_fleet **ret_fleet,
                          phx_error *err);
void phx_fleet_destroy(phx_fleet *fleet); /* accepts NULL; kills what is left */

/* Sends a step to every rank; epoch is filled in. */
phx_code phx_fleet_send_step(phx_fleet *fleet, const phx_step_plan *plan, phx_error *err);
void phx_fleet_grant(phx_fleet *fleet, uint32_t rank, uint32_t n_parts);

/* Asks all ranks to end; sink.ended follows, by force after grace_ms. */
void phx_fleet_shutdown(phx_fleet *fleet, uint32_t grace_ms);

/* Treats the group as failed for a cause found elsewhere (a result that does not fit). */
void phx_fleet_fail(phx_fleet *fleet, const phx_error *cause);

const char *phx_fleet_address(const phx_fleet *fleet);
const char *phx_fleet_key_file(const phx_fleet *fleet); /* NULL on a Unix socket */
uint64_t phx_fleet_epoch(const phx_fleet *fleet);

/* One status line per rank, borrowed until the next call: [phx_fleet_n_ranks]. */
Phalanx__RankStatus **phx_fleet_status(phx_fleet *fleet, size_t *ret_n);

#endif
