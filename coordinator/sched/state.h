/* coordinator/sched/state.h - the scheduler's state, shared by the files of this folder and nobody else.
 * Owns: the structs, and the functions that more than one file needs. */
#ifndef PHX_COORDINATOR_SCHED_STATE_H
#define PHX_COORDINATOR_SCHED_STATE_H

#include "coordinator/sched/drafter.h"
#include "coordinator/sched/kv_blocks.h"
#include "coordinator/sched/sched.h"
#include "model/plan.h" /* PHX_BLOCK_TOKENS */

#define PHX_SCHED_NONE UINT32_MAX

typedef enum phx_sched_life { PHX_SCHED_ABSENT, PHX_SCHED_QUEUED, PHX_SCHED_RUNNING } phx_sched_life;

/* A living request. Its token ids outlive slots and groups: it can start again from them at any time. */
typedef struct phx_sched_req {
    phx_sched_life life;
    uint32_t prev, next; /* in the queue */
    uint32_t slot;       /* when running */
    uint64_t id;
    void *memory;      /* one allocation that holds the arrays below */
    uint32_t *tokens;  /* [n_prompt + n_output_max] prompt, then outputs */
    phx_hash *keys;    /* [full blocks of the same] chain of the prefix cache */
    uint32_t n_prompt; /* of tokens, the rest are outputs */
    uint32_t n_known;  /* of tokens */
    uint32_t n_keys;   /* of keys */
    uint32_t n_output_max;
    uint32_t n_warm; /* whole blocks; 0: none */
    uint32_t n_chunk;
    uint32_t capture;
    bool no_reuse;
    bool ignore_eos;
    bool was_admitted; /* counted in the totals */
    uint32_t n_cached; /* tokens reused at the first admission */
    uint64_t cache_salt;
    uint64_t deadline_us;
    phx_sampling sampling;
    uint32_t n_stop_ids;
    uint32_t stop_ids[PHX_STOP_IDS_MAX];
} phx_sched_req;

typedef enum phx_sched_use {
    PHX_SCHED_FREE,
    PHX_SCHED_HELD, /* by a running request */
    PHX_SCHED_DYING /* its request has left; steps in flight still name it and its blocks */
} phx_sched_use;

/* A slot of the ranks. Positions count tokens from the start of the sequence:
 * n_reused <= n_applied <= n_issued; the first n_issued tokens have their entries once the steps in flight
 * have ended. In prefill n_issued < n_target; then every step feeds the token sampled by the one before, and
 * n_known + n_pending == n_issued + 1. Drafts in flight count in n_maybe until it is known which held. */
typedef struct phx_sched_slot {
    phx_sched_use use;
    bool needs_close;   /* the ranks hold a sequence that is over */
    bool is_open;       /* the ranks hold this sequence */
    bool is_preempting; /* no more rows; back to the queue when its steps have ended */
    bool wants_block;   /* could not go on for lack of a block: nobody is admitted meanwhile */
    bool is_warming;    /* first pass of a request with n_warm */
    uint32_t request;
    uint32_t lane;
    uint32_t n_in_flight; /* steps that name it */
    uint64_t order;       /* of admission */
    uint32_t n_reused;
    uint32_t n_target; /* tokens known at admission: where prefill ends */
    uint32_t n_issued;
    uint32_t n_applied;
    uint32_t n_pending; /* rows in flight that sample */
    uint32_t n_maybe;   /* drafts in flight: as many more tokens at most */
    uint32_t n_drafts;  /* that the ranks keep with the slot after the last row issued */
    uint32_t n_blocks;
    uint32_t n_blocks_sent; /* of them, in the ranks' table */
    uint32_t *blocks;       /* [blocks of a context] */
} phx_sched_slot;

typedef struct phx_sched_row {
    uint32_t slot;
    uint32_t n_tokens;
    uint32_t n_fed; /* of them, drafts */
    uint64_t request_id;
    bool samples;
    bool is_decode; /* continues from the slot's last result */
} phx_sched_row;

typedef struct phx_sched_step {
    uint64_t step;
    uint32_t lane;
    uint32_t n_rows;
    uint32_t n_samples;     /* rows that sample */
    uint32_t n_results_max; /* tokens that they may bring */
    bool is_decode;         /* nothing but decoding */
    bool is_steady;         /* and every row fed and asked for n_drafts */
    uint32_t n_drafts;
    uint32_t n_fed; /* drafts of the row with the most */
    uint64_t issued_us;
    phx_sched_row *rows; /* [n_slots] */
} phx_sched_step;

typedef struct phx_sched_lane {
    uint32_t n_running;
    uint32_t n_in_flight;   /* steps */
    uint32_t decode_cursor; /* slot with which the next step begins, when one step cannot hold all */
} phx_sched_lane;

struct phx_sched {
    phx_sched_config config;
    uint32_t n_table;    /* blocks of a context */
    uint32_t n_fit;      /* tokens of the longest sequence that context and pool allow */
    uint32_t n_requests; /* places: queue + slots */
    bool is_draining;
    phx_kv_blocks *kv;
    phx_sched_req *requests; /* [n_requests] */
    uint32_t n_living;
    uint32_t queue_first, queue_last, n_queued;
    uint64_t n_queued_tokens;
    phx_sched_slot *slots; /* [n_slots] */
    uint32_t *tables;      /* [n_slots][n_table] */
    uint32_t *running;     /* [n_slots] slots of running requests, in order of admission */
    uint32_t n_running;
    uint32_t n_wanting; /* slots with wants_block */
    uint64_t n_admissions;
    phx_sched_lane *lanes; /* [n_lanes] */
    uint32_t lane_next;
    phx_sched_step *flight; /* [n_in_flight_max] ring, oldest at flight_first */
    phx_sched_row *flight_rows;
    uint32_t flight_first, n_flight;
    uint64_t step;           /* last one issued in this epoch */
    phx_sched_event *events; /* [n_events_max] ring */
    uint32_t n_events_max;   /* room for what every living request and sample in flight can still say */
    uint32_t event_first, n_events;
    uint32_t n_results_flight; /* tokens that steps in flight may bring */
    phx_drafter drafter;
    uint64_t applied_us; /* when the last result came */
    /* The plan that tick returns, and room for its arrays. */
    phx_step_plan plan;
    phx_slot_open *opens;
    uint32_t *closes;
    phx_step_row *rows;
    uint32_t *plan_tokens;
    uint32_t n_plan_tokens_max;
    uint32_t *plan_blocks;
    uint32_t n_plan_blocks_max;
    uint32_t *refs; /* [n_blocks] scratch of phx_sched_check */
    phx_sched_stats totals;
    phx_sched_stats totals_before; /* a rehearsal */
};

/* requests.c: the queue, events, ends. */
void phx_sched_queue_append(phx_sched *sched, uint32_t request);
void phx_sched_queue_prepend(phx_sched *sched, uint32_t request);
void phx_sched_queue_remove(phx_sched *sched, uint32_t request);
phx_sched_event *phx_sched_event_push(phx_sched *sched);
/* Emits END, frees the request; its slot dies. */
void phx_sched_req_end(phx_sched *sched, uint32_t request, phx_end_reason reason);
/* Ends every request whose deadline has passed. */
void phx_sched_expire(phx_sched *sched, uint64_t now_us);
/* Extends the chain of keys to n full blocks of known tokens. */
void phx_sched_req_keys(phx_sched_req *req, uint32_t n);

/* slots.c: slots and their blocks. */
/* Moves requests from the head of the queue into slots while blocks and slots are free. */
void phx_sched_admit(phx_sched *sched);
/* Makes the slot's table hold n blocks, preempting when there is no other way. False: not now. */
bool phx_sched_slot_grow(phx_sched *sched, uint32_t slot, uint32_t n_blocks);
/* The request leaves its slot. Blocks return now, or when the steps in flight that name them have ended. */
void phx_sched_slot_leave(phx_sched *sched, uint32_t slot);
/* The request leaves its slot for the head of the queue. No steps in flight may name it. */
void phx_sched_slot_requeue(phx_sched *sched, uint32_t slot);
/* After a step that names it has ended. */
void phx_sched_slot_settle(phx_sched *sched, uint32_t slot);
/* A capture without outputs holds all blocks that it will ever need and is not preempted: its tensors have
 * been sent already. */
bool phx_sched_is_prefill_only(const phx_sched *sched, const phx_sched_slot *slot);
/* Does this request put its full blocks into the prefix cache? */
bool phx_sched_may_publish(const phx_sched *sched, const phx_sched_slot *slot);

static inline uint32_t phx_sched_blocks_of(uint32_t n_tokens)
{
    return n_tokens / PHX_BLOCK_TOKENS + (n_tokens % PHX_BLOCK_TOKENS != 0);
}

#endif
