/* coordinator/engine.h - the heart of the coordinator: scheduler and rank group behind one door of token ids.
 * Owns: the living generations and their sinks, ticking the scheduler, sending step plans, applying results,
 * credit of captures. Everything runs on the loop's thread. Not here: text (api/generation.h), deciding
 * (sched/), starting and losing ranks (fleet/). */
#ifndef PHX_COORDINATOR_ENGINE_H
#define PHX_COORDINATOR_ENGINE_H

#include "coordinator/loop.h"
#include "coordinator/sched/sched.h"
#include "model/plan.h"
#include "proto/codec.h"

typedef struct phx_engine phx_engine;

/* Where a generation's events go. Called from the loop, never from inside phx_engine_submit or
 * phx_engine_cancel. */
typedef struct phx_engine_sink {
    /* A token (PHX_EVENT_TOKEN), or the end (PHX_EVENT_END), after which the id is dead. why is set (code not
     * PHX_OK) when the end is PHX_END_ERROR. */
    void (*event)(void *user, const phx_sched_event *event, const phx_error *why);
    /* A captured part; NULL for those that do not capture. The part's bytes live until return. Each part uses
     * one credit of phx_engine_grant. */
    void (*capture)(void *user, const Phalanx__CapturePart *part);
    void *user;
} phx_engine_sink;

/* Submits; request->id is chosen here and returned. Failures are those of phx_sched_submit, and
 * PHX_ERR_UNAVAILABLE before ready, while the group is down for good, or while draining. */
phx_code phx_engine_submit(phx_engine *engine, const phx_sched_request *request, const phx_engine_sink *sink,
                           uint64_t *ret_id, phx_error *err);

/* Ends a generation early (client left, stop string found); one END event follows from the loop. Harmless
 * when dead. */
void phx_engine_cancel(phx_engine *engine, uint64_t id, phx_end_reason reason);

/* Forgets the sink of a generation and cancels it: no event follows. For a client that is gone. */
void phx_engine_abandon(phx_engine *engine, uint64_t id);

/* Lets the ranks send n more captured parts for this generation. */
void phx_engine_grant(phx_engine *engine, uint64_t id, uint32_t n_parts);

typedef enum phx_engine_state {
    PHX_ENGINE_STARTING, /* ranks loading and checking */
    PHX_ENGINE_READY,
    PHX_ENGINE_DRAINING,
    PHX_ENGINE_FAILED /* the group is gone and will not be relaunched */
} phx_engine_state;

phx_engine_state phx_engine_state_of(const phx_engine *engine);
const char *phx_engine_state_name(phx_engine_state state); /* "starting", "ready", ... */
const phx_plan *phx_engine_plan(const phx_engine *engine);
phx_sched_stats phx_engine_stats(const phx_engine *engine); /* zeros before ready */

/* Fills the repeated ranks and the numbers of a status reply. Everything in it is borrowed from the engine
 * until its next call. */
void phx_engine_status(phx_engine *engine, Phalanx__StatusReply *ret_status);

/* Refuses new generations; done runs on the loop once none is left. */
void phx_engine_drain(phx_engine *engine, phx_loop_call done);

#endif
