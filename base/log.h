/* base/log.h - one line per event on stderr. Programs log; libraries return errors (STYLE 18).
 * Owns: the process's level and name. */
#ifndef PHX_BASE_LOG_H
#define PHX_BASE_LOG_H

#include "base/status.h"

typedef enum phx_log_level { PHX_LOG_ERROR, PHX_LOG_WARN, PHX_LOG_INFO, PHX_LOG_DEBUG } phx_log_level;

/* name: "coordinator", "rank 3", ... copied. */
void phx_log_init(const char *name, phx_log_level level);
void phx_log(phx_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "what: text (code, place)". */
void phx_log_error(const char *what, const phx_error *err);

/* "error" | "warn" | "info" | "debug". */
int phx_log_level_parse(const char *text, phx_log_level *ret_level);

#endif
