/* coordinator/text/jinja_time.c - strftime_now: the time that a rendering is given, in UTC.
 * Owns: the conversions of strftime that it knows, in English as the C locale has them, with "-" for a number
 * without its leading zeros; any other one is an error. Not here: the clock (whoever renders). */
#include <stdio.h>
#include <time.h>

#include "coordinator/text/jinja_run.h"

#define FORMAT_BYTES_MAX 256u
#define FIELD_BYTES_MAX  32u

static bool put_field(const struct tm *t, char c, bool padded, char to[FIELD_BYTES_MAX]);
static bool put_number(const struct tm *t, char c, bool padded, char to[FIELD_BYTES_MAX]);

phx_jv phx_jtime_now(phx_jrun *x, phx_jargs *args)
{
    struct tm t;
    const phx_jv *format = phx_jarg(args, 0, "format");
    const phx_jv nothing = phx_jv_undefined((phx_str){"", 0});
    const time_t now = (time_t)x->now_s;
    if (!format || format->kind != PHX_JV_STR || format->u.s.n > FORMAT_BYTES_MAX)
        return phx_jrun_fail(x, args->line, PHX_ERR_INVALID,
                             "strftime_now needs a format of at most %u bytes", FORMAT_BYTES_MAX);
    if (!gmtime_r(&now, &t) || t.tm_year < -1900 || t.tm_year > 9999 - 1900)
        return phx_jrun_fail(x, args->line, PHX_ERR_INVALID, "strftime_now outside of the years 0 to 9999");
    const phx_jtext from = format->u.s;
    char *to = phx_jpool_take(x->pool, from.n + 1, FIELD_BYTES_MAX);
    size_t n = 0;
    for (size_t i = 0; to && i < from.n; i++) {
        char field[FIELD_BYTES_MAX] = {from.ptr[i], '\0'};
        if (from.ptr[i] == '%') {
            const bool padded = i + 1 >= from.n || from.ptr[i + 1] != '-';
            i += padded ? 1 : 2;
            if (i >= from.n || !put_field(&t, from.ptr[i], padded, field))
                return phx_jrun_fail(x, args->line, PHX_ERR_UNSUPPORTED,
                                     "strftime_now: the conversion at the end of '%.*s' is not known",
                                     (int)(i < from.n ? i + 1 : from.n), from.ptr);
        }
        const size_t n_field = from.ptr[i] == '\0' ? 1 : strlen(field);
        memcpy(to + n, field, n_field);
        n += n_field;
    }
    return to ? phx_jv_str((phx_str){to, n}, format->is_data || from.mask) : nothing;
}

/* False: not known. */
static bool put_field(const struct tm *t, char c, bool padded, char to[FIELD_BYTES_MAX])
{
    static const char *const days[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                       "Thursday", "Friday", "Saturday"};
    static const char *const months[] = {"January",   "February", "March",    "April",
                                         "May",       "June",     "July",     "August",
                                         "September", "October",  "November", "December"};
    switch (c) {
    case 'a':
    case 'A':
        (void)snprintf(to, FIELD_BYTES_MAX, "%.*s", c == 'a' ? 3 : 9, days[t->tm_wday]);
        return padded;
    case 'b':
    case 'B':
        (void)snprintf(to, FIELD_BYTES_MAX, "%.*s", c == 'b' ? 3 : 9, months[t->tm_mon]);
        return padded;
    case 'p':
        (void)snprintf(to, FIELD_BYTES_MAX, "%s", t->tm_hour < 12 ? "AM" : "PM");
        return padded;
    case 'F':
        (void)snprintf(to, FIELD_BYTES_MAX, "%d-%02d-%02d", t->tm_year + 1900, t->tm_mon + 1, t->tm_mday);
        return padded;
    case 'T':
        (void)snprintf(to, FIELD_BYTES_MAX, "%02d:%02d:%02d", t->tm_hour, t->tm_min, t->tm_sec);
        return padded;
    case '%':
        (void)snprintf(to, FIELD_BYTES_MAX, "%%");
        return padded;
    default:
        return put_number(t, c, padded, to);
    }
}

static bool put_number(const struct tm *t, char c, bool padded, char to[FIELD_BYTES_MAX])
{
    const struct {
        char c;
        int width;
        int value;
    } numbers[] = {
        {'Y', 1, t->tm_year + 1900},
        {'y', 2, (t->tm_year + 1900) % 100},
        {'m', 2, t->tm_mon + 1},
        {'d', 2, t->tm_mday},
        {'j', 3, t->tm_yday + 1},
        {'H', 2, t->tm_hour},
        {'M', 2, t->tm_min},
        {'S', 2, t->tm_sec},
        {'I', 2, (t->tm_hour + 11) % 12 + 1},
    };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (numbers[i].c == c) {
            (void)snprintf(to, FIELD_BYTES_MAX, "%0*d", padded ? numbers[i].width : 1, numbers[i].value);
            return true;
        }
    }
    return false;
}
