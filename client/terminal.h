/* client/terminal.h - one progress line on stderr while a terminal is there, silence otherwise. */
#ifndef PHX_CLIENT_TERMINAL_H
#define PHX_CLIENT_TERMINAL_H

#include "base/buf.h"

typedef struct phx_progress {
    bool on;          /* stderr is a terminal */
    bool drawn;       /* a line stands there now */
    uint64_t next_us; /* not drawn again before */
} phx_progress;

void phx_progress_init(phx_progress *progress);

/* "label [#####.....]  42%  note", at most ten times a second; total 0 shows no bar. note may be NULL. */
void phx_progress_show(phx_progress *progress, const char *label, uint64_t done, uint64_t total,
                       const char *note);
void phx_progress_end(phx_progress *progress); /* wipes the line */

/* "689.5 GB": three to four figures, decimal units. */
void phx_put_bytes(phx_buf *buf, uint64_t n_bytes);
/* "671.9 B", "41.2 M": parameters. */
void phx_put_count(phx_buf *buf, uint64_t n);

#endif
