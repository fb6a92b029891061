/* client/control_client.h - the control service as a small C library: calls with deadlines, streams with
 * events. Owns: one connection to a coordinator, call ids, the mapping of status codes. Used by every
 * `phalanx` command. */
#ifndef PHX_CLIENT_CONTROL_CLIENT_H
#define PHX_CLIENT_CONTROL_CLIENT_H

#include "proto/codec.h"

#define PHX_CLIENT_CALLS_MAX  256u        /* calls that run together on one connection */
#define PHX_CLIENT_EVENTS_MAX 16384u      /* of one call, received but not yet read */
#define PHX_CLIENT_BYTES_MAX  (64u << 20) /* the same, in bytes; past either: PHX_ERR_TOO_LONG */
#define PHX_CLIENT_CREDIT     8u          /* capture parts that may be under way */

/* Belongs to one thread. */
typedef struct phx_client phx_client;

/* address as phx_link_connect; key_file NULL for a Unix socket. Errors of phx_link_connect and
 * phx_link_keys_read. */
phx_code phx_client_connect(const char *address, const char *key_file, phx_client **ret_client,
                            phx_error *err);
void phx_client_close(phx_client *client); /* accepts NULL */

/* Sends a unary call and waits for its reply, at most deadline_ms (0: no limit; PHX_ERR_DEADLINE). frame: its
 * body is cancel, status, plan or drain; call_id and deadline_ms are filled in here. The reply has the same
 * body and is freed with phx_server_frame_free. A status other than OK becomes the matching phx_code with the
 * server's message. When the connection was lost before, this call and phx_client_generate connect anew. */
phx_code phx_client_call(phx_client *client, Phalanx__ClientFrame *frame, uint32_t deadline_ms,
                         Phalanx__ServerFrame **ret_reply, phx_error *err);

/* Starts Generate; then phx_client_next until *ret_event is NULL (the stream ended well) or a code is
 * returned. Several calls may run together; events of the others are kept meanwhile. request->sampling may be
 * NULL: greedy, all else off. A request that captures is granted PHX_CLIENT_CREDIT parts at once and one more
 * for each part that was read. PHX_ERR_BUSY: PHX_CLIENT_CALLS_MAX calls run already. */
phx_code phx_client_generate(phx_client *client, Phalanx__GenerateRequest *request, uint32_t deadline_ms,
                             uint64_t *ret_call_id, phx_error *err);

/* Next event of the call: frees nothing but its own frame, released by the next phx_client_next of this call
 * or close. Once NULL or a code was given the call is over and its id unknown (PHX_ERR_NOT_FOUND). Waits in
 * pieces of at most 100 ms and asks keep_waiting (may be NULL) in between: when it answers false, the call is
 * cancelled and PHX_ERR_CANCELLED returned. Grants capture credit by itself. Notices a coordinator that is
 * gone (PHX_ERR_UNAVAILABLE) within 2 s. */
phx_code phx_client_next(phx_client *client, uint64_t call_id, bool (*keep_waiting)(void *user), void *user,
                         const Phalanx__GenerateEvent **ret_event, phx_error *err);

/* Asks the server to end a Generate call, whose events go on until it has: phx_client_next then gives
 * PHX_ERR_CANCELLED. */
phx_code phx_client_cancel(phx_client *client, uint64_t call_id, phx_error *err);

#endif
