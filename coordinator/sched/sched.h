/* coordinator/sched/sched.h - which tokens of which requests run in the next step.
 * Owns: requests' token ids, the queue, slots, lanes, KV blocks (kv_blocks.h) and the prefix cache. A pure
 * function of its state and the clock that the caller passes: no sockets, no time, no threads, so the
 * simulator drives the real code. Not here: text, HTTP, ranks. Tokens go in, step plans come out; results go
 * in, events come out. */
#ifndef PHX_COORDINATOR_SCHED_SCHED_H
#define PHX_COORDINATOR_SCHED_SCHED_H

#include "base/status.h"
#include "proto/step_plan.h"

typedef struct phx_sched phx_sched;

typedef struct phx_sched_config {
    phx_step_limits limits; /* of the group's plan */
    uint32_t
        n_lanes; /* pp: a request belongs to one lane; step k serves lane k mod pp, empty lanes are skipped */
    uint32_t n_in_flight_max;    /* pp + 1 */
    uint32_t n_chunk_tokens;     /* prefill rows of one request in one step */
    uint32_t n_queue_max;        /* requests waiting: more are refused with PHX_ERR_BUSY */
    uint64_t n_queue_tokens_max; /* their prompt tokens */
    uint32_t n_eos;
    uint32_t eos_ids[PHX_STOP_IDS_MAX];
    bool drafts_fixed; /* always limits.n_drafts of them, whether they pay or not */
} phx_sched_config;

typedef struct phx_sched_request {
    uint64_t id;            /* unique among living requests, from the caller */
    const uint32_t *prompt; /* copied */
    uint32_t n_prompt;      /* 1 .. n_context */
    uint32_t
        n_output_max; /* tokens to generate at most; 0 only for captures. Cut to what the context leaves */
    phx_sampling sampling; /* copied with its bias */
    uint32_t n_stop_ids;
    uint32_t stop_ids[PHX_STOP_IDS_MAX];
    bool ignore_eos;
    uint64_t cache_salt; /* prefix blocks are shared only between equal salts (API keys) */
    bool no_reuse;       /* captures: neither read nor fill the prefix cache, unless n_warm */
    uint32_t n_warm;  /* captures: take this many leading tokens (rounded down to blocks) through the prefix
                       * cache,  running them first as a request of their own when they are not there yet */
    uint32_t capture; /* mask; rows get PHX_ROW_CAPTURE */
    uint32_t n_chunk; /* prefill rows per step for this request; 0: the configuration's */
    uint64_t deadline_us; /* absolute on the caller's clock; 0: none */
} phx_sched_request;

phx_code phx_sched_create(const phx_sched_config *config, phx_sched **ret_sched, phx_error *err);
void phx_sched_destroy(phx_sched *sched); /* accepts NULL */

/* PHX_ERR_BUSY: queue full. PHX_ERR_TOO_LONG: prompt and one token do not fit the context or the whole pool.
 * PHX_ERR_UNAVAILABLE: draining. Nothing is kept on failure. */
phx_code phx_sched_submit(phx_sched *sched, const phx_sched_request *request, uint64_t now_us,
                          phx_error *err);

/* Ends a request now: no further event but PHX_EVENT_END with `reason`; its blocks return when the steps in
 * flight that name it have ended. False when the id is not alive. */
typedef enum phx_end_reason {
    PHX_END_STOP, /* end token or stop id (or the caller's stop string, through cancel) */
    PHX_END_LENGTH,
    PHX_END_CANCELLED,
    PHX_END_DEADLINE,
    PHX_END_CAPTURED, /* a capture has run all its rows */
    PHX_END_ERROR     /* the group failed */
} phx_end_reason;
bool phx_sched_cancel(phx_sched *sched, uint64_t id, phx_end_reason reason);

/* What the choice of draft lengths rests on (drafter.h). */
const struct phx_drafter *phx_sched_drafter(const phx_sched *sched);

/* Between the two, steps of n_rows sequences go through all draft lengths to show what they cost; what is
 * submitted for it does not count in the totals. Not with drafts_fixed or without drafts. */
void phx_sched_rehearse(phx_sched *sched, uint32_t n_rows);
bool phx_sched_has_rehearsed(const phx_sched *sched); /* nothing is missing */
void phx_sched_end_rehearsal(phx_sched *sched);

/* The next step, or NULL when nothing can run now (nothing to do, or enough steps in flight). The plan is
 * valid until the next call of any function of this scheduler; epoch is left 0 for the caller. */
const phx_step_plan *phx_sched_tick(phx_sched *sched, uint64_t now_us);

/* The result of the oldest step in flight. A result that does not match (step, rows) is PHX_ERR_MISMATCH:
 * group failure. */
phx_code phx_sched_apply(phx_sched *sched, const phx_step_result *result, uint64_t now_us, phx_error *err);

typedef enum phx_event_kind { PHX_EVENT_TOKEN, PHX_EVENT_END } phx_event_kind;
typedef struct phx_sched_event {
    phx_event_kind kind;
    uint64_t id;
    uint32_t token;    /* TOKEN: also for an end token, which precedes END */
    bool is_end_token; /* TOKEN: an end token or stop id: not part of the text */
    float logprob;
    uint32_t n_top;
    phx_token_logprob top[PHX_TOP_LOGPROBS_MAX];
    phx_end_reason reason; /* END */
    uint32_t n_prompt;     /* END: usage */
    uint32_t n_cached;
} phx_sched_event;

/* Events in order; false when there is none. Every request gets exactly one END. */
bool phx_sched_next_event(phx_sched *sched, phx_sched_event *ret_event);

/* When tick should be called next although nothing arrives: the earliest deadline; UINT64_MAX when none. */
uint64_t phx_sched_next_deadline(const phx_sched *sched);

/* The group is gone: steps in flight are void and the cache is empty. With keep, running requests return to
 * the head of the queue and continue from prompt + delivered tokens once ticks resume; without, all end with
 * PHX_END_ERROR. */
void phx_sched_group_lost(phx_sched *sched, bool keep);

/* No more submits; running and queued requests finish. */
void phx_sched_drain(phx_sched *sched);

typedef struct phx_sched_stats {
    uint32_t n_queued;
    uint64_t n_queued_tokens;
    uint32_t n_running;   /* hold a slot */
    uint32_t n_in_flight; /* steps */
    uint32_t n_blocks;
    uint32_t n_blocks_used;   /* referenced by a request, or named by a step in flight */
    uint32_t n_blocks_cached; /* unreferenced, kept for prefix reuse */
    uint64_t n_prompt_tokens; /* totals since start */
    uint64_t n_cached_tokens;
    uint64_t n_output_tokens;
    uint64_t n_steps;
    uint64_t n_preempted;
    uint64_t n_refused;
    uint64_t n_drafts_fed; /* totals: drafts that ran, and those of them that held */
    uint64_t n_drafts_held;
    uint64_t n_decoded;      /* sequences times steps that continued one */
    uint64_t n_decode_steps; /* totals: steps of nothing but decoding, and their time */
    uint64_t decode_us;
    uint32_t n_drafts;   /* per sequence, as chosen last */
    uint32_t n_decoding; /* sequences of the last step that continued any */
} phx_sched_stats;
phx_sched_stats phx_sched_count(const phx_sched *sched);

/* Walks every invariant (blocks conserved, no block owned twice except shared prefix blocks, slots, queue,
 * plan positions) and fails naming the first that is broken. The simulator calls it after every event. */
phx_code phx_sched_check(const phx_sched *sched, phx_error *err);

#endif
