/* worker/mailbox.c - a bounded queue of byte messages between two threads. */
#include "worker/mailbox.h"

#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"

struct phx_mailbox {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    phx_buf *messages; /* ring of n_max */
    uint32_t n_max;
    uint32_t first;
    uint32_t n;
    int fd;
    bool closed;
};

phx_code phx_mailbox_create(uint32_t n_messages_max, size_t message_bytes_max, phx_mailbox **ret_mailbox,
                            phx_error *err)
{
    phx_code rc = PHX_OK;
    pthread_condattr_t attributes;
    phx_mailbox *mailbox = phx_alloc(1, sizeof(*mailbox));
    if (!mailbox)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "mailbox");
    (void)pthread_mutex_init(&mailbox->lock, NULL);
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&mailbox->changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    mailbox->n_max = n_messages_max;
    mailbox->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    mailbox->messages = phx_alloc(n_messages_max, sizeof(*mailbox->messages));
    if (mailbox->fd < 0 || !mailbox->messages) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "mailbox of %u messages", n_messages_max);
        goto out;
    }
    for (uint32_t i = 0; i < n_messages_max; i++)
        phx_buf_init(&mailbox->messages[i], message_bytes_max);
    *ret_mailbox = mailbox;
    mailbox = NULL;
out:
    phx_mailbox_destroy(mailbox);
    return rc;
}

void phx_mailbox_destroy(phx_mailbox *mailbox)
{
    if (!mailbox)
        return;
    for (uint32_t i = 0; mailbox->messages && i < mailbox->n_max; i++)
        phx_buf_done(&mailbox->messages[i]);
    phx_free(mailbox->messages);
    if (mailbox->fd >= 0)
        (void)close(mailbox->fd);
    (void)pthread_cond_destroy(&mailbox->changed);
    (void)pthread_mutex_destroy(&mailbox->lock);
    phx_free(mailbox);
}

static phx_code push(phx_mailbox *mailbox, phx_bytes message, bool wait, phx_error *err)
{
    phx_code rc = PHX_OK;
    const uint64_t one = 1;
    (void)pthread_mutex_lock(&mailbox->lock);
    while (wait && mailbox->n == mailbox->n_max && !mailbox->closed)
        (void)pthread_cond_wait(&mailbox->changed, &mailbox->lock);
    if (mailbox->closed) {
        rc = PHX_FAIL(err, PHX_ERR_CANCELLED, "mailbox is closed");
    } else if (mailbox->n == mailbox->n_max) {
        rc = PHX_FAIL(err, PHX_ERR_BUSY, "mailbox of %u messages is full", mailbox->n_max);
    } else {
        phx_buf *slot = &mailbox->messages[(mailbox->first + mailbox->n) % mailbox->n_max];
        phx_buf_clear(slot);
        rc = phx_buf_append(slot, message.ptr, message.n);
        if (rc != PHX_OK)
            rc = PHX_FAIL(err, rc, "message of %zu bytes", message.n);
        else
            mailbox->n++;
    }
    (void)pthread_cond_broadcast(&mailbox->changed);
    (void)pthread_mutex_unlock(&mailbox->lock);
    if (rc == PHX_OK) {
        const ssize_t ignored = write(mailbox->fd, &one, sizeof(one)); /* a full counter is as good as one */
        (void)ignored;
    }
    return rc;
}

phx_code phx_mailbox_push(phx_mailbox *mailbox, phx_bytes message, phx_error *err)
{
    return push(mailbox, message, true, err);
}

phx_code phx_mailbox_try_push(phx_mailbox *mailbox, phx_bytes message, phx_error *err)
{
    return push(mailbox, message, false, err);
}

phx_code phx_mailbox_pop(phx_mailbox *mailbox, int timeout_ms, phx_buf *message, phx_error *err)
{
    phx_code rc = PHX_OK;
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += timeout_ms % 1000 * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    (void)pthread_mutex_lock(&mailbox->lock);
    int waited = 0;
    while (mailbox->n == 0 && !mailbox->closed && timeout_ms != 0 && waited != ETIMEDOUT) {
        if (timeout_ms < 0)
            (void)pthread_cond_wait(&mailbox->changed, &mailbox->lock);
        else
            waited = pthread_cond_timedwait(&mailbox->changed, &mailbox->lock, &until);
    }
    if (mailbox->n == 0) {
        uint64_t count;
        const ssize_t ignored = read(mailbox->fd, &count, sizeof(count));
        (void)ignored;
        rc = mailbox->closed ? PHX_ERR_CANCELLED : PHX_ERR_NOT_FOUND; /* expected outcomes: no error text */
        (void)err;
    } else {
        /* Swap the buffers, so that neither side copies or allocates. */
        phx_buf *slot = &mailbox->messages[mailbox->first];
        const phx_buf taken = *slot;
        phx_buf_clear(message);
        *slot = *message;
        *message = taken;
        mailbox->first = (mailbox->first + 1) % mailbox->n_max;
        mailbox->n--;
        (void)pthread_cond_broadcast(&mailbox->changed);
    }
    (void)pthread_mutex_unlock(&mailbox->lock);
    return rc;
}

int phx_mailbox_fd(const phx_mailbox *mailbox)
{
    return mailbox->fd;
}

void phx_mailbox_close(phx_mailbox *mailbox)
{
    const uint64_t one = 1;
    (void)pthread_mutex_lock(&mailbox->lock);
    mailbox->closed = true;
    (void)pthread_cond_broadcast(&mailbox->changed);
    (void)pthread_mutex_unlock(&mailbox->lock);
    const ssize_t ignored = write(mailbox->fd, &one, sizeof(one));
    (void)ignored;
}
