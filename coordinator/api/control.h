/* coordinator/api/control.h - what the two files of the control service share.
 * Owns: a call while it lives. Sending, receiving and unary methods: control.c. Generate: control_call.c. */
#ifndef PHX_COORDINATOR_API_CONTROL_H
#define PHX_COORDINATOR_API_CONTROL_H

#include "coordinator/api/api_private.h"
#include "coordinator/api/calls.h"
#include "coordinator/api/work.h"
#include "proto/codec.h"

#define PHX_CONTROL_CALLS_MAX      1024u /* of all clients */
#define PHX_CONTROL_CALLS_PEER_MAX 256u  /* of one, as in client/control_client.h */
#define PHX_CONTROL_PENDING_TOKENS 64u

typedef struct phx_control_call phx_control_call;

/* What a call has to tell and has not sent. It leaves in the next round of the loop, so that a token and the
 * text that it completed travel together. */
typedef struct phx_control_pending {
    bool is_used;
    uint32_t choice;
    uint32_t n_ids;
    uint32_t ids[PHX_CONTROL_PENDING_TOKENS];
    float logprob;
    uint32_t n_top;
    phx_token_logprob top[PHX_TOP_LOGPROBS_MAX];
    phx_buf text;
    phx_buf reasoning;
    phx_buf calls; /* items of a JSON array */
} phx_control_pending;

struct phx_control_call {
    phx_control *control;
    phx_control_call *prev;
    phx_control_call *next;
    phx_peer peer;
    uint64_t id;
    phx_api_work *asking;       /* until its prompt is read; then */
    phx_generation *generation; /* until the last token */
    uint32_t n_credit;          /* that came before the generation */
    bool is_over;               /* nothing more is sent; the next round frees it */
    bool logprobs;
    uint64_t start_us;
    uint64_t sent_us; /* of the last frame */
    bool has_first;
    phx_error failed; /* of the first choice that failed */
    phx_finish finish;
    phx_api_call_ids numbering;
    char call_ids[PHX_CHOICES_MAX][PHX_API_CALL_ID_BYTES];
    phx_control_pending pending;
};

struct phx_control {
    phx_api *api;
    phx_link *link;
    phx_loop_watch *watch;
    phx_loop_timer *flusher; /* sends what is pending, frees what is over */
    phx_loop_timer *prober;  /* an empty event to calls that were silent: a client that left shows */
    phx_control_call *calls;
    uint32_t n_calls;
    phx_buf in;
    phx_buf out;
};

/* control.c */
/* False: the client is gone, or does not read; all its calls are over. */
bool phx_control_send(phx_control *control, const phx_peer *peer, Phalanx__ServerFrame *frame);
/* The last frame of a call that has nothing but a status to tell. */
void phx_control_end(phx_control *control, const phx_peer *peer, uint64_t call_id, phx_code code,
                     const char *message);

/* control_call.c */
/* Takes the frame. */
void phx_control_generate(phx_control *control, const phx_peer *peer, Phalanx__ClientFrame *frame);
phx_control_call *phx_control_find(phx_control *control, const phx_peer *peer, uint64_t id);
void phx_control_grant(phx_control_call *call, uint32_t n_parts);
void phx_control_cancel(phx_control_call *call);
void phx_control_flush(phx_control_call *call);
void phx_control_over(phx_control_call *call, phx_api_outcome outcome); /* abandons; freed by the flusher */
void phx_control_free(phx_control_call *call);

#endif
