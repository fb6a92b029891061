/* coordinator/engine_private.h - making and ending the engine, and what its files share. For main.c,
 * engine.c, canary.c, rehearsal.c. */
#ifndef PHX_COORDINATOR_ENGINE_PRIVATE_H
#define PHX_COORDINATOR_ENGINE_PRIVATE_H

#include "coordinator/engine.h"
#include "coordinator/fleet/fleet.h"

#define PHX_OWED_MAX      1024u
#define PHX_CANARY_TOKENS 8u
#define PHX_REHEARSED_MAX 128u /* sequences at once */
#define PHX_RELAUNCH_MAX  5u   /* within PHX_RELAUNCH_US; a group that dies more often stays down */
#define PHX_RELAUNCH_US   60000000u

typedef struct phx_engine_options {
    phx_fleet_options fleet;
    uint32_t n_queue_max;
    uint64_t n_queue_tokens_max;
    bool drafts_fixed;     /* always as many drafts as the plan allows, whether they pay or not */
    bool relaunch;         /* start the group again when it is lost, and continue every unfinished request */
    const char *state_dir; /* canaries are filed here; NULL: no canary */
    void (*on_state)(void *user, const phx_error *cause); /* became ready (cause NULL) or failed */
    void (*on_ended)(void *user);                         /* no process of the group is left */
    void *user;
} phx_engine_options;

phx_code phx_engine_create(const phx_engine_options *options, phx_engine **ret_engine, phx_error *err);
void phx_engine_destroy(phx_engine *engine); /* accepts NULL */

/* Starts the rank group (or begins to wait for it). */
phx_code phx_engine_start(phx_engine *engine, phx_error *err);
const char *phx_engine_ranks_address(const phx_engine *engine);
const char *phx_engine_ranks_key_file(const phx_engine *engine); /* NULL on a Unix socket */

/* Ends the ranks in order; on_ended follows, by force after grace_ms. */
void phx_engine_shutdown(phx_engine *engine, uint32_t grace_ms);

const phx_error *phx_engine_cause(const phx_engine *engine); /* why the group was lost, or NULL */

typedef struct phx_living {
    uint64_t id;
    phx_engine_sink sink;
    bool has_sink;
    uint8_t
        owed[PHX_OWED_MAX]; /* ranks whose captured parts the client has not yet acknowledged, oldest first */
    uint32_t owed_first;
    uint32_t n_owed;
    uint64_t granted_us; /* when the client last took a part, or the first of these came */
} phx_living;

typedef struct phx_canary {
    uint64_t id;
    phx_hasher hasher;
    char path[4096]; /* of the file; empty: none */
    bool is_done;    /* it was consistent, or the first */
} phx_canary;

typedef struct phx_rehearsal {
    uint32_t n_rows; /* sequences in a step, 0 before the first */
    uint32_t n;      /* sequences in all */
    uint32_t n_left; /* of them, that have not ended */
    uint64_t ids[PHX_REHEARSED_MAX];
} phx_rehearsal;

struct phx_engine {
    phx_engine_options options;
    phx_engine_state state;
    phx_fleet *fleet;
    phx_sched *sched;
    const phx_plan *plan;
    phx_loop_timer *pump_timer;
    phx_loop_timer *stall_timer; /* runs while parts are owed */
    phx_living *living;          /* [n_living_max] */
    uint32_t n_living;
    uint32_t n_living_max;
    uint64_t next_id;
    bool group_lost; /* no steps run: the group is ending, gone, or not ready again */
    bool relaunching;
    bool ending;                            /* told to shut down */
    uint64_t relaunch_us[PHX_RELAUNCH_MAX]; /* when the last relaunches were, a ring */
    uint32_t n_relaunched;
    phx_error cause;
    phx_loop_call drained;
    phx_canary canary;
    phx_rehearsal rehearsal;
    uint64_t started_us;
    uint64_t rate_us, rate_prompt, rate_output;
    double prompt_rate, output_rate;
    Phalanx__DraftLength draft_lengths[1 + PHX_DRAFTS_MAX];
    Phalanx__DraftLength *draft_length_ptrs[1 + PHX_DRAFTS_MAX];
    char numerics_text[512];
    char layout_text[64];
};

/* As phx_engine_submit, in any state with a scheduler. */
phx_code phx_engine_submit_now(phx_engine *engine, const phx_sched_request *request,
                               const phx_engine_sink *sink, uint64_t *ret_id, phx_error *err);

/* Runs the canary generation; when it agrees with the recorded one, or is the first, the rehearsal follows.
 * Both are given up when the group is lost or the server is to end. */
phx_code phx_canary_start(phx_engine *engine, phx_error *err);
/* Where draft lengths are chosen: measures steps of the next batch size; the engine becomes ready after the
 * last one, else at once. */
void phx_rehearsal_next(phx_engine *engine);
void phx_engine_now_ready(phx_engine *engine);
/* Whether the start still goes on: neither the group was lost meanwhile nor is the server to end. */
bool phx_engine_is_starting(const phx_engine *engine);

#endif
