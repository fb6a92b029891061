/* client/terminal.c - one progress line on stderr. */
#include "client/terminal.h"

#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"

#define BAR_CHARS 30
#define REDRAW_US 100000u

void phx_progress_init(phx_progress *progress)
{
    *progress = (phx_progress){.on = isatty(STDERR_FILENO) == 1};
}

void phx_progress_show(phx_progress *progress, const char *label, uint64_t done, uint64_t total,
                       const char *note)
{
    const uint64_t now = phx_clock_us();
    if (!progress->on || now < progress->next_us)
        return;
    progress->next_us = now + REDRAW_US;
    progress->drawn = true;
    if (total == 0) {
        (void)fprintf(stderr, "\r\033[K%s%s%s", label, note ? "  " : "", note ? note : "");
        return;
    }
    char bar[BAR_CHARS + 1];
    const double share = done >= total ? 1.0 : (double)done / (double)total;
    const int n_full = (int)(share * BAR_CHARS);
    for (int i = 0; i < BAR_CHARS; i++)
        bar[i] = i < n_full ? '#' : '.';
    bar[BAR_CHARS] = 0;
    (void)fprintf(stderr, "\r\033[K%s [%s] %3d%%%s%s", label, bar, (int)(share * 100), note ? "  " : "",
                  note ? note : "");
}

void phx_progress_end(phx_progress *progress)
{
    if (progress->drawn)
        (void)fprintf(stderr, "\r\033[K");
    progress->drawn = false;
    progress->next_us = 0;
}

static void put_scaled(phx_buf *buf, uint64_t n, const char *const *units, size_t n_units)
{
    double value = (double)n;
    size_t unit = 0;
    while (value >= 1000.0 && unit + 1 < n_units) {
        value /= 1000.0;
        unit++;
    }
    phx_buf_printf(buf,
                   unit == 0      ? "%.0f%s%s"
                   : value >= 100 ? "%.1f%s%s"
                                  : "%.2f%s%s",
                   value, *units[unit] ? " " : "", units[unit]);
}

void phx_put_bytes(phx_buf *buf, uint64_t n_bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    put_scaled(buf, n_bytes, units, sizeof(units) / sizeof(units[0]));
}

void phx_put_count(phx_buf *buf, uint64_t n)
{
    static const char *const units[] = {"", "k", "M", "B", "T"};
    put_scaled(buf, n, units, sizeof(units) / sizeof(units[0]));
}
