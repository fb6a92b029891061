/* base/log.c - one line per event on stderr. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char log_name[32] = "phalanx";
static phx_log_level log_level = PHX_LOG_INFO;
static const char *const level_names[] = {"error", "warn", "info", "debug"};

void phx_log_init(const char *name, phx_log_level level)
{
    (void)snprintf(log_name, sizeof(log_name), "%s", name);
    log_level = level;
}

void phx_log(phx_log_level level, const char *format, ...)
{
    if (level > log_level)
        return;
    char line[1024];
    struct timespec now;
    struct tm utc;
    (void)clock_gettime(CLOCK_REALTIME, &now); /* wall clock: for people only, never for timeouts */
    (void)gmtime_r(&now.tv_sec, &utc);
    int n = snprintf(line, sizeof(line), "%02d:%02d:%02d.%03ld %-5s %s: ", utc.tm_hour, utc.tm_min,
                     utc.tm_sec, now.tv_nsec / 1000000, level_names[level], log_name);
    va_list args;
    va_start(args, format);
    const int room = (int)sizeof(line) - 1 - n;
    const int wrote = vsnprintf(line + n, (size_t)room, format, args);
    va_end(args);
    n += wrote < room ? wrote : room - 1;
    line[n++] = '\n';
    /* One write per line keeps lines of several processes apart. A full pipe loses the line, not the program.
     */
    const ssize_t ignored = write(STDERR_FILENO, line, (size_t)n);
    (void)ignored;
}

void phx_log_error(const char *what, const phx_error *err)
{
    phx_log(PHX_LOG_ERROR, "%s: %s (%s, %s)", what, err->text, phx_code_text(err->code), err->place);
}

int phx_log_level_parse(const char *text, phx_log_level *ret_level)
{
    for (unsigned i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++) {
        if (strcmp(text, level_names[i]) == 0) {
            *ret_level = (phx_log_level)i;
            return 0;
        }
    }
    return -1;
}
