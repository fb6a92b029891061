/* base/buf.c - growing bytes with a ceiling. */
#include "base/buf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/alloc.h"

void phx_buf_init(phx_buf *buf, size_t n_max)
{
    *buf = (phx_buf){.n_max = n_max};
}

void phx_buf_done(phx_buf *buf)
{
    phx_free(buf->ptr);
    *buf = (phx_buf){.n_max = buf->n_max};
}

void phx_buf_clear(phx_buf *buf)
{
    buf->n = 0;
    buf->code = PHX_OK;
    if (buf->ptr)
        buf->ptr[0] = 0;
}

static phx_code make_room(phx_buf *buf, size_t n)
{
    if (buf->code != PHX_OK)
        return buf->code;
    if (n > buf->n_max - buf->n)
        return buf->code = PHX_ERR_TOO_LONG;
    if (buf->n + n + 1 <= buf->cap)
        return PHX_OK;
    size_t cap = buf->cap ? buf->cap * 2 : 256;
    while (cap < buf->n + n + 1)
        cap *= 2;
    char *grown = phx_realloc(buf->ptr, cap, 1);
    if (!grown)
        return buf->code = PHX_ERR_NOMEM;
    buf->ptr = grown;
    buf->cap = cap;
    return PHX_OK;
}

phx_code phx_buf_append(phx_buf *buf, const void *ptr, size_t n)
{
    const phx_code rc = make_room(buf, n);
    if (rc != PHX_OK)
        return rc;
    if (n)
        memcpy(buf->ptr + buf->n, ptr, n);
    buf->n += n;
    buf->ptr[buf->n] = 0;
    return PHX_OK;
}

phx_code phx_buf_str(phx_buf *buf, const char *text)
{
    return phx_buf_append(buf, text, strlen(text));
}

phx_code phx_buf_char(phx_buf *buf, char c)
{
    return phx_buf_append(buf, &c, 1);
}

phx_code phx_buf_printf(phx_buf *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    assert(n >= 0);
    const phx_code rc = make_room(buf, (size_t)n);
    if (rc != PHX_OK)
        return rc;
    va_start(args, format);
    (void)vsnprintf(buf->ptr + buf->n, (size_t)n + 1, format, args);
    va_end(args);
    buf->n += (size_t)n;
    return PHX_OK;
}

void phx_buf_drop_front(phx_buf *buf, size_t n)
{
    assert(n <= buf->n);
    if (n == 0)
        return;
    memmove(buf->ptr, buf->ptr + n, buf->n - n + 1);
    buf->n -= n;
}
