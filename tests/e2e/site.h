/* tests/e2e/site.h - a place of its own for a server under test: runtime folder, marker in the environment of
 * every process that is started there, log; and the search for what was left behind.
 * Not here: what is asked of the server (web.h). */
#ifndef PHX_TESTS_E2E_SITE_H
#define PHX_TESTS_E2E_SITE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"

enum { SITE_ARGS_MAX = 48, SITE_PIDS_MAX = 64 };

typedef struct site {
    char dir[64];           /* TMPDIR and parent of the runtime folder */
    char marker[96];        /* NAME=value in the environment */
    char log[80];           /* stderr and stdout of what was started last */
    char control[96];       /* ipc address that a server here has by default */
    char run_names[16][32]; /* run folders seen, which are also prefixes of shared memory */
    uint32_t n_run_names;
    pid_t pid; /* started last; 0: reaped */
    uint16_t port;
} site;

void site_open(site *s);
void site_close(site *s); /* kills what is left, removes the folder */

/* The same around one test of cmocka, which finds its site in *state. */
int site_setup(void **state);
int site_teardown(void **state);

/* The same place with a process and a log of its own, beside the server's; never closed. */
void site_open_guest(site *guest, const site *host);

/* Starts build/PROGRAM with arguments up to NULL, in the site's environment plus `env` (NAME=value list up to
 * NULL, or NULL). */
void site_start(site *s, const char *program, const char *const *args, const char *const *env);

/* `phalanx serve --http 127.0.0.1:0 ARGS`; waits until it is ready. Fails the test with the log if not. */
void site_serve(site *s, const char *const *args);
void site_launch(site *s, const char *const *args); /* the same without waiting */
void site_await_ready(site *s);

/* Waits for the end of what was started: its exit code, 128 + signal, or -1 after limit_ms. */
int site_wait(site *s, uint32_t limit_ms);
bool site_await_log(site *s, const char *text, uint32_t limit_ms);
void site_read_log(const site *s, phx_buf *text); /* caller inits and ends the buffer */
void site_print_log(const site *s);

/* Processes of this site whose name starts with `name` ("" for all), without zombies. */
uint32_t site_pids(const site *s, const char *name, pid_t *pids);

/* Appends a line for each process, file, socket and segment that is left; empty when all is clean. */
void site_traces(site *s, phx_buf *text);
/* Asks until there are none; false after limit_ms with the last answer in text. */
bool site_await_clean(site *s, uint32_t limit_ms, phx_buf *text);
void site_assert_clean(site *s, uint32_t limit_ms);

#endif
