/* client/server.h - the server that a command talks to: one that runs, or a private one for the command's own
 * time. Owns: the connection, the child process, its socket's folder. A private server ends when our end of
 * its lifeline pipe closes, so a killed `phalanx` leaves no server behind. */
#ifndef PHX_CLIENT_SERVER_H
#define PHX_CLIENT_SERVER_H

#include "client/command.h"
#include "client/control_client.h"
#include "client/interrupt.h"

/* What a private server is told: the options of these scopes. */
#define PHX_SERVER_SCOPES (PHX_OPTIONS_PLAN | PHX_OPTION_BIT(GROUP) | PHX_OPTION_BIT(LOG))

typedef struct phx_server phx_server;

typedef struct phx_server_spec {
    const phx_env *env;
    const phx_options *options; /* for a private server */
    const char *connect;        /* address of a running server; NULL: start a private one */
    const char *key_file;       /* for connect over tcp, may be NULL */
    phx_interrupt *interrupt;   /* outlives the server */
} phx_server_spec;

/* Connects or starts, then waits until the server is ready, with a progress line on a terminal.
 * PHX_ERR_UNAVAILABLE: nobody there, or the group failed; PHX_ERR_INVALID: the private server refused model
 * or plan (it has said why on stderr); PHX_ERR_CANCELLED: interrupted. */
phx_code phx_server_open(const phx_server_spec *spec, phx_server **ret_server, phx_error *err);

/* Ends a private server and waits for it; removes its folder. Accepts NULL. */
void phx_server_close(phx_server *server);

phx_client *phx_server_client(const phx_server *server);

/* Asks for the status; free with phx_server_frame_free; the status is in (*ret_frame)->status_reply. */
phx_code phx_server_status(phx_client *client, Phalanx__ServerFrame **ret_frame, phx_error *err);

#endif
