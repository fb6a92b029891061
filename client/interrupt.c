/* client/interrupt.c - signals as something to ask about. */
#include "client/interrupt.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

phx_code phx_interrupt_open(phx_interrupt *ret_interrupt, phx_error *err)
{
    sigset_t mask;
    (void)sigemptyset(&mask);
    (void)sigaddset(&mask, SIGINT);
    (void)sigaddset(&mask, SIGTERM);
    (void)sigaddset(&mask, SIGHUP);
    const int fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    /* A reader of our output that goes away is an error of the write, not the end of the process: what we
     * started has to be stopped first. */
    (void)sigaddset(&mask, SIGPIPE);
    if (fd < 0 || sigprocmask(SIG_BLOCK, &mask, NULL) != 0) {
        const phx_code rc = PHX_FAIL(err, PHX_ERR_IO, "signals: %s", strerror(errno));
        if (fd >= 0)
            (void)close(fd);
        return rc;
    }
    *ret_interrupt = (phx_interrupt){.fd = fd};
    return PHX_OK;
}

void phx_interrupt_close(phx_interrupt *interrupt)
{
    if (interrupt->fd >= 0)
        (void)close(interrupt->fd);
    interrupt->fd = -1;
}

bool phx_interrupted(phx_interrupt *interrupt)
{
    struct signalfd_siginfo info;
    while (read(interrupt->fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGINT)
            interrupt->asked = true;
        else
            interrupt->ending = true;
    }
    return interrupt->asked || interrupt->ending;
}

void phx_interrupt_clear(phx_interrupt *interrupt)
{
    (void)phx_interrupted(interrupt);
    interrupt->asked = false;
}

bool phx_interrupt_keep_waiting(void *user)
{
    return !phx_interrupted(user);
}
