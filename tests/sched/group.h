/* tests/sched/group.h - a rank group that computes nothing but believes nothing.
 * It keeps slots and KV entries as ranks do and checks every plan against what it knows of the requests:
 * a row's entries hold exactly the request's tokens, under its salt; nobody writes a block that another slot
 * or a step in flight still names; reused blocks were filled by steps that have ended. */
#ifndef PHX_TESTS_SCHED_GROUP_H
#define PHX_TESTS_SCHED_GROUP_H

#include "coordinator/sched/sched.h"
#include "model/plan.h"

/* What the test knows of a request. tokens go on past the end: what the model would say. */
typedef struct known_request {
    phx_sched_request request;
    uint32_t *tokens;  /* [n_tokens] prompt, then the model's outputs */
    uint64_t *digests; /* [n_tokens] of an entry: salt and all tokens up to it */
    uint32_t n_tokens;
    uint32_t n_output_max; /* cut to what fits */
    uint32_t n_warm;       /* in whole blocks */
    bool is_alive;         /* accepted, END not seen */
    uint32_t n_delivered;
    uint32_t n_captured_to; /* positions before it have been captured, from n_warm on without a gap */
} known_request;

typedef struct known_requests {
    known_request *all; /* by id - 1 */
    uint32_t n;
} known_requests;

typedef struct group group;

group *group_create(const phx_sched_config *config, const known_requests *requests);
void group_destroy(group *g);
void group_lose(group *g); /* entries, slots and steps are gone */

/* Checks and runs a plan. The result is ready at once and valid until as many later plans as can be in flight
 * have been accepted. PHX_ERR_INVALID names what a rank would have stumbled over. */
phx_code group_accept(group *g, const phx_step_plan *plan, const phx_step_result **ret_result,
                      phx_error *err);
void group_applied(group *g); /* the coordinator has applied the oldest result */
uint32_t group_n_in_flight(const group *g);

/* The model: next token of a sequence, a pure function of its ids. */
uint32_t model_next(const uint32_t *ids, uint32_t n_ids, uint32_t n_vocab);
/* The digest of the entry at a position, from that of the one before (anything for position 0). */
uint64_t entry_digest(const known_request *known, uint32_t position, uint64_t before, uint32_t token);

#endif
