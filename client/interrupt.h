/* client/interrupt.h - Ctrl-C and SIGTERM as something to ask about, so that what was started is also
 * stopped. Owns: the signal mask of the process (SIGINT, SIGTERM, SIGHUP, SIGPIPE) and one signalfd. */
#ifndef PHX_CLIENT_INTERRUPT_H
#define PHX_CLIENT_INTERRUPT_H

#include "base/status.h"

#include <stdbool.h>

typedef struct phx_interrupt {
    int fd;      /* readable when a signal waits */
    bool asked;  /* Ctrl-C came since phx_interrupt_clear */
    bool ending; /* SIGTERM or SIGHUP came: never cleared */
} phx_interrupt;

phx_code phx_interrupt_open(phx_interrupt *ret_interrupt, phx_error *err);
void phx_interrupt_close(phx_interrupt *interrupt);

bool phx_interrupted(phx_interrupt *interrupt); /* asked or ending */
void phx_interrupt_clear(phx_interrupt *interrupt);

/* The keep_waiting of phx_client_next; user is the phx_interrupt. */
bool phx_interrupt_keep_waiting(void *user);

#endif
