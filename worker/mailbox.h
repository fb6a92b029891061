/* worker/mailbox.h - a bounded queue of byte messages between the two threads of a rank.
 * Owns: the messages in flight; buffers are kept, so a warm queue allocates nothing. One side may wait on an
 * eventfd. */
#ifndef PHX_WORKER_MAILBOX_H
#define PHX_WORKER_MAILBOX_H

#include "base/buf.h"
#include "base/status.h"

typedef struct phx_mailbox phx_mailbox;

phx_code phx_mailbox_create(uint32_t n_messages_max, size_t message_bytes_max, phx_mailbox **ret_mailbox,
                            phx_error *err);
void phx_mailbox_destroy(phx_mailbox *mailbox); /* accepts NULL */

/* Copies the message in; waits while the queue is full. PHX_ERR_CANCELLED once closed. */
phx_code phx_mailbox_push(phx_mailbox *mailbox, phx_bytes message, phx_error *err);

/* As push, but PHX_ERR_BUSY instead of waiting. */
phx_code phx_mailbox_try_push(phx_mailbox *mailbox, phx_bytes message, phx_error *err);

/* Moves the oldest message into message (cleared first). Waits up to timeout_ms (-1: for ever);
 * PHX_ERR_NOT_FOUND on time-out, PHX_ERR_CANCELLED when closed and empty. */
phx_code phx_mailbox_pop(phx_mailbox *mailbox, int timeout_ms, phx_buf *message, phx_error *err);

/* Readable while messages may wait; phx_mailbox_pop with timeout 0 clears it when the queue is empty. */
int phx_mailbox_fd(const phx_mailbox *mailbox);

void phx_mailbox_close(phx_mailbox *mailbox);

#endif
