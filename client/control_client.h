/* client/control_client.h - the control service as a small C library: calls with deadlines, streams with events.
 * Owns: one connection to a coordinator, call ids, the mapping of status codes. Used by every `phalanx` command. */
#ifndef PHX_CLIENT_CONTROL_CLIENT_H
#define PHX_CLIENT_CONTROL_CLIENT_H

#include "proto/codec.h"

typedef struct phx_client phx_client;

/* address as phx_link_connect; key_file NULL for a Unix socket. */
phx_code phx_client_connect(const char *address, const char *key_file, phx_client **ret_client, phx_error *err);
void phx_client_close(phx_client *client); /* accepts NULL */

/* Sends a unary call and waits for its reply. The reply is freed with phx_server_frame_free. A status other than OK
 * becomes the matching phx_code with the server's message. */
phx_code phx_client_call(phx_client *client, Phalanx__ClientFrame *frame, uint32_t deadline_ms,
                         Phalanx__ServerFrame **ret_reply, phx_error *err);

/* Starts Generate; then phx_client_next until *ret_event is NULL (the stream ended well) or a code is returned. */
phx_code phx_client_generate(phx_client *client, Phalanx__GenerateRequest *request, uint32_t deadline_ms,
                             uint64_t *ret_call_id, phx_error *err);

/* Next event of the call: frees nothing but its own frame, released by the next call of phx_client_next or close.
 * Waits in pieces of at most 100 ms and asks keep_waiting (may be NULL) in between: when it answers false, the call is
 * cancelled and PHX_ERR_CANCELLED returned. Grants capture credit by itself. Notices a coordinator that is gone
 * (PHX_ERR_UNAVAILABLE) within 2 s. */
phx_code phx_client_next(phx_client *client, uint64_t call_id, bool (*keep_waiting)(void *user), void *user,
                         const Phalanx__GenerateEvent **ret_event, phx_error *err);

phx_code phx_client_cancel(phx_client *client, uint64_t call_id, phx_error *err);

#endif
