/* proto/link_private.h - the parts of a link that live in files of their own.
 * Private to proto/. */
#ifndef PHX_PROTO_LINK_PRIVATE_H
#define PHX_PROTO_LINK_PRIVATE_H

#include "proto/link.h"

/* The thread that answers ZAP for one ZeroMQ context: libzmq asks it whether a client key may come in. */
typedef struct phx_zap phx_zap;

/* Must run before the socket that it guards is bound. */
phx_code phx_zap_start(void *context, const char *client_public, phx_zap **ret_zap, phx_error *err);
/* After zmq_ctx_shutdown of its context, before zmq_ctx_term; accepts NULL. */
void phx_zap_join(phx_zap *zap);

/* The path of an "ipc://" address may be bound: short enough, in a directory that is ours alone, nobody
 * serves there. Removes the socket of a dead process. */
phx_code phx_link_path_prepare(const char *path, phx_error *err);

#endif
