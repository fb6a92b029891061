/* worker/comm/nccl_state.h - one rank's state of the NCCL backend. Internal to worker/comm.
 * Owns: what its files share. comm_nccl.c makes and ends it, nccl_verbs.c queues, nccl_choice.c chooses the
 * way of an exchange, nccl_peers.c goes the one beside NCCL, nccl_wait.c waits and fails. */
#ifndef PHX_WORKER_COMM_NCCL_STATE_H
#define PHX_WORKER_COMM_NCCL_STATE_H

#include "worker/comm/comm_nccl.h"
#include "worker/comm/nccl_api.h"
#include "worker/comm/shape.h"
#include "worker/comm/under.h"

/* An edge has a communicator of its own, because NCCL runs what is queued on one communicator in order: a
 * message that waits for its receiver would hold up those that this rank receives. */
typedef enum phx_nccl_link {
    PHX_NCCL_STAGE, /* the tp ranks of the stage */
    PHX_NCCL_OUT,   /* not in the last stage. 0: this rank, 1: the same of the next stage */
    PHX_NCCL_IN,    /* not in the first. 0: the same of the stage before, 1: this rank */
    PHX_NCCL_LINK_COUNT
} phx_nccl_link;

/* How an exchange is done. All add the same numbers in the same tree, so the choice changes no bit. */
typedef enum phx_nccl_way {
    PHX_NCCL_PEERS_ONE_SHOT, /* nccl_peers.c */
    PHX_NCCL_PEERS_TWO_SHOTS,
    PHX_NCCL_ONE_SHOT,
    PHX_NCCL_TWO_SHOTS,
    PHX_NCCL_WAY_COUNT
} phx_nccl_way;

#define PHX_NCCL_TIMES        8u /* sizes that are measured */
#define PHX_NCCL_REASON_BYTES 200u

/* Longer exchanges than this go through NCCL, which then is no slower, and rooms stay small. */
#define PHX_NCCL_PEER_BYTES_MAX ((size_t)8 << 20)

typedef struct phx_nccl_times { /* medians in us, of the slowest rank; UINT32_MAX: cannot go that way */
    size_t n_bytes;
    uint32_t us[PHX_NCCL_WAY_COUNT];
} phx_nccl_times;

typedef struct phx_nccl_limit { /* exchanges up to here go this way */
    size_t n_bytes;
    phx_nccl_way way;
} phx_nccl_limit;

typedef struct phx_nccl_peers {
    bool forbidden, on;
    bool closed; /* nobody has this rank's room open any more */
    size_t slot_bytes;
    void *rooms[PHX_DEVICE_PEERS_MAX]; /* by tp rank */
    uint32_t *alarm;
    char reason[PHX_NCCL_REASON_BYTES]; /* why not on */
} phx_nccl_peers;

typedef struct phx_nccl_ending phx_nccl_ending; /* nccl_wait.c */

typedef struct phx_nccl {
    phx_comm base;
    phx_comm *under;
    phx_nccl_api api;
    const phx_device *device;
    void *stream;
    void *mail_stream;                /* messages to the next stage leave here while the rank goes on */
    void *done;                       /* event: what the verb queued on stream */
    void *ready;                      /* event: the message lies in its mail slot */
    void *left[PHX_COMM_STAGE_DEPTH]; /* events: the slot's message is with its receiver */
    uint64_t n_sent;
    float *parts; /* the vectors, or shares, of all ranks of the stage */
    size_t parts_bytes;
    uint8_t *mail[PHX_COMM_STAGE_DEPTH];           /* [stage_bytes] each */
    void *nothing;                                 /* one byte that an empty message fills */
    phx_nccl_comm links[PHX_NCCL_LINK_COUNT];      /* NULL: not made */
    phx_nccl_ending *endings[PHX_NCCL_LINK_COUNT]; /* of links that are being aborted */
    uint32_t first;                                /* rank of tp_rank 0 of this stage */
    phx_nccl_peers peers;
    phx_nccl_limit limits[PHX_NCCL_TIMES]; /* ascending; longer ones go through NCCL in two shots */
    uint32_t n_limits;
    phx_nccl_times times[PHX_NCCL_TIMES];
    uint32_t n_times;
    bool any_order, queue_only;
    bool gave_up;
    bool stuck; /* NCCL did not come back from ending a communicator */
} phx_nccl;

static inline phx_nccl *phx_nccl_of(phx_comm *comm)
{
    return (phx_nccl *)(void *)comm;
}

/* Messages go from stage to stage; what the last one tells the first are notes. */
static inline bool phx_nccl_sends(const phx_comm_shape *shape)
{
    return shape->rank / shape->tp + 1 < shape->pp;
}

static inline bool phx_nccl_receives(const phx_comm_shape *shape)
{
    return shape->rank / shape->tp > 0;
}

/* ---- nccl_wait.c ---- */

/* Dead from now on: tells the group, aborts NCCL, returns code. */
phx_code phx_nccl_fail(phx_nccl *c, phx_code code, phx_error *err, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
phx_code phx_nccl_fail_as(phx_nccl *c, const phx_error *cause, phx_error *err);

/* Begins to abort NCCL and waits a little for the stream, so that the verbs' buffers are the caller's again.
 */
void phx_nccl_give_up(phx_nccl *c);

/* Until the call of NCCL that returned `result` has been queued: calls do not block, but may take their
 * time. */
phx_code phx_nccl_settle(phx_nccl *c, phx_nccl_link link, phx_nccl_result result, const char *what,
                         phx_error *err);

/* Until the event has passed. */
phx_code phx_nccl_await(phx_nccl *c, phx_nccl_link link, void *event, phx_error *err);

/* Waits a little for the own messages to leave; false when they have not. */
bool phx_nccl_linger(phx_nccl *c);

/* Waits a little for the streams, after the links have ended; false and stuck when one goes on. */
bool phx_nccl_drain(phx_nccl *c);

/* Until all links are connected, at most for limit_us. */
phx_code phx_nccl_await_links(phx_nccl *c, uint64_t limit_us, phx_error *err);

/* Gives the links back, in good order or by abort, and waits for those that are being aborted, in bounded
 * time: sets stuck when NCCL stays inside. Graphs that name them go before. */
void phx_nccl_end_links(phx_nccl *c, bool in_order);

/* ---- nccl_verbs.c ---- */

phx_code phx_nccl_exchange(phx_comm *comm, float *values, size_t n, phx_error *err);
phx_code phx_nccl_gather(phx_comm *comm, const void *mine, size_t n_bytes, void *all, phx_error *err);
phx_code phx_nccl_send(phx_comm *comm, uint32_t to_stage, const void *data, size_t n_bytes, phx_error *err);
phx_code phx_nccl_recv(phx_comm *comm, uint32_t from_stage, void *data, size_t n_bytes, phx_error *err);
phx_code phx_nccl_note_send(phx_comm *comm, const void *data, size_t n_bytes, phx_error *err);
phx_code phx_nccl_note_recv(phx_comm *comm, void *data, size_t n_bytes, phx_error *err);
phx_code phx_nccl_barrier(phx_comm *comm, phx_error *err);
phx_code phx_nccl_wait(phx_comm *comm, phx_error *err);

/* Until the device has done all that was queued on the rank's stream; a verb of its own. */
phx_code phx_nccl_await_stream(phx_nccl *c, phx_error *err);

/* One exchange in the given way, timed; all ranks of the stage. */
phx_code phx_nccl_time(phx_nccl *c, phx_nccl_way way, float *values, size_t n, uint32_t *ret_us,
                       phx_error *err);

/* ---- nccl_choice.c ---- */

phx_nccl_way phx_nccl_way_of(const phx_nccl *c, size_t n_bytes);
void phx_nccl_choose_default(phx_nccl *c);

/* Times all ways and chooses, alike on all ranks of the stage. */
phx_code phx_nccl_measure(phx_nccl *c, phx_error *err);
phx_code phx_nccl_describe_choice(const phx_nccl *c, phx_buf *buf);

/* ---- nccl_peers.c ---- */

/* Bytes of one slot of a room; 0 for a stage of one rank. */
size_t phx_nccl_slot_bytes(const phx_comm_shape *shape);

/* Sets peers.on, alike on all ranks of the stage, or peers.reason. */
phx_code phx_nccl_meet_peers(phx_nccl *c, phx_error *err);

/* Queues an exchange; n 0: nobody touches the rooms of others after it. */
phx_code phx_nccl_peers_exchange(phx_nccl *c, float *values, size_t n, bool in_two_shots, phx_error *err);

/* What waits on the device for peers ends, now and later. From any thread. */
void phx_nccl_alarm(phx_nccl *c);

/* The end: waits a little for the others to be here too, and closes their rooms. */
void phx_nccl_leave_peers(phx_nccl *c);
void phx_nccl_release_peers(phx_nccl *c); /* the own room, when it is closed */

#endif
