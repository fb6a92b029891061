/* base/buf.h - growing bytes with a ceiling that is named at init.
 * Owns: the bytes. A failed append keeps what was there and latches the error, so a chain of appends is
 * checked once at the end with phx_buf_code. */
#ifndef PHX_BASE_BUF_H
#define PHX_BASE_BUF_H

#include "base/status.h"
#include "base/str.h"

typedef struct phx_buf {
    char *ptr;     /* always terminated once anything was appended */
    size_t n;      /* bytes used */
    size_t cap;    /* bytes held */
    size_t n_max;  /* ceiling */
    phx_code code; /* first failure: PHX_ERR_TOO_LONG or PHX_ERR_NOMEM */
} phx_buf;

void phx_buf_init(phx_buf *buf, size_t n_max);
void phx_buf_done(phx_buf *buf);
void phx_buf_clear(phx_buf *buf); /* keeps the memory, forgets content and failure */

phx_code phx_buf_append(phx_buf *buf, const void *ptr, size_t n);
phx_code phx_buf_str(phx_buf *buf, const char *text);
phx_code phx_buf_char(phx_buf *buf, char c);
phx_code phx_buf_printf(phx_buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
void phx_buf_drop_front(phx_buf *buf, size_t n);

static inline phx_str phx_buf_view(const phx_buf *buf)
{
    return (phx_str){buf->ptr ? buf->ptr : "", buf->n};
}

#endif
